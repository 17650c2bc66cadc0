// What queue pairs share that share a clock: one transport, one lock, and the turns in which its
// events and their timers reach them. A device has a domain of its own; emulated devices of one
// name have one together.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lib/error.h"
#include "lib/json.h"
#include "sdr/transport.h"

namespace sdr::lib {

class End;

inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct DeviceLimits {
  const char* name = "";
  bool is_virtual = false;
  uint32_t packet_bytes_min = SDR_PACKET_BYTES_MIN, packet_bytes_max = SDR_PACKET_BYTES_MAX;
  uint64_t receive_buffer_bytes = 0;  // unread at most before packets are lost; 0: no limit
};

struct DeviceOptions {
  std::string name;
  uint32_t channels = 1;
  uint64_t seed = 0;
};

class Domain {
 public:
  virtual ~Domain() = default;

  // Guards the domain and all queue pairs on it; held by callers of everything below but `limits`.
  std::mutex mutex;
  const DeviceLimits& limits() const { return limits_; }

  virtual int64_t now_ns() = 0;
  // These throw Failure. `info` is the transport's part of a queue pair's info, as JSON; `peer` is
  // the other end's.
  virtual QueuePair* create_qp(const QpConfig& config) = 0;
  virtual std::string info(const QueuePair& qp) = 0;
  virtual void connect(QueuePair& qp, const Json& peer, const LinkConfig& link, uint64_t seed) = 0;
  virtual void destroy_qp(QueuePair& qp) = 0;
  // False: nothing can come from the peer yet, so that its silence means nothing. Where time is
  // virtual it would fly while the peer's thread has not come to run.
  virtual bool has_peer(const QueuePair&) const { return true; }

  // Why the transport failed a queue pair, where it knows more than the error's number.
  virtual std::string failure(const QueuePair&) const { return {}; }
  // Why a post last gave SDR_NO_MEMORY.
  virtual Error refusal(const QueuePair&) const {
    return make_error(SDR_EXT_ENVIRONMENT, "there is no memory for it", "end other programs");
  }

  // A timer may be due earlier than it was.
  virtual void rearm() = 0;
  // A caller waits for something: where time is virtual, what comes next happens, until limit_ns at
  // most. False: nothing is left to happen.
  virtual bool step(int64_t limit_ns) = 0;
  // Until something has changed since the last call, or the time has passed; `lock` holds the
  // mutex. See sdr_ext_wait.
  virtual bool wait(std::unique_lock<std::mutex>& lock, int64_t timeout_ns) = 0;
  virtual int event_fd() = 0;

  void add(End& end);
  void remove(End& end);

 protected:
  virtual EventQueue& events() = 0;
  // Delivers what is queued and what is due. True: something reached a queue pair.
  bool turn();
  int64_t next_timeout_ns() const;

  DeviceLimits limits_;

 private:
  bool deliver(const Event& event, int64_t now_ns);
  std::map<uint32_t, End*> ends_;
  std::vector<uint8_t> control_ = std::vector<uint8_t>(EventQueue::kControlBytesMax);
};

// In real time: a thread takes the turns, woken by the transport and by the earliest timer.
class RealDomain : public Domain {
 public:
  ~RealDomain() override;
  void rearm() override;
  bool step(int64_t) override { return true; }
  bool wait(std::unique_lock<std::mutex>& lock, int64_t timeout_ns) override;
  int event_fd() override;

 protected:
  // The thread runs from start to stop; a subclass stops it before its transport goes.
  void start();
  void stop();
  void wake();

 private:
  void run();
  void announce();

  std::thread thread_;
  std::mutex wake_mutex_;  // innermost: of woken_ and stopping_
  std::condition_variable wake_condition_;
  bool woken_ = false, stopping_ = false;
  int64_t armed_ns_ = kNever;  // when the thread wakes by itself
  std::condition_variable changed_condition_;
  bool changed_ = false;
  int pipe_[2] = {-1, -1};
};

// The device that a name means. Throws Failure.
std::shared_ptr<Domain> open_domain(const DeviceOptions& options);

// One function a kind of device; `rest` is what follows its prefix.
std::shared_ptr<Domain> open_udp(const std::string& rest, const DeviceOptions& options);
std::shared_ptr<Domain> open_emulated(const std::string& rest, const DeviceOptions& options);
std::shared_ptr<Domain> open_verbs(const DeviceOptions& options);

}  // namespace sdr::lib
