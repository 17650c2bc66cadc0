// A channel's thread, the same for every transport that has threads: starting and joining it,
// having it do something at a known point of its loop, waking it, and telling JavaScript of what
// happened in batches. What it does in a round is the transport's.
#pragma once

#include <poll.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "transport/send_lane.h"

namespace sdr {

// Owns a file descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { reset(); }
  int get() const { return fd_; }
  void reset();

 private:
  int fd_ = -1;
};

// Wakes a thread that sleeps in poll().
class Waker {
 public:
  int open();     // 0, or an errno
  void signal();  // from any thread
  void clear();
  int readable() const { return read_.get(); }

 private:
  Descriptor read_, write_;  // write_ unused where one descriptor does both
};

// poll() with a limit in nanoseconds; negative: none.
int wait_any(pollfd* watched, size_t count, int64_t timeout_ns);

class Worker {
 public:
  // `name` is the thread's, at most 11 characters and the channel's number.
  Worker(const char* name, uint32_t index, Environment& environment)
      : index_(index), name_(name), environment_(environment) {}
  virtual ~Worker() =
      default;  // stopped by then: a thread may not run on in a half destroyed object
  Worker(const Worker&) = delete;

  int start();  // 0, or an errno
  void stop();  // joins; idempotent
  // There is mail for it.
  void poke();
  // Processor time that its thread has used so far; 0 where that cannot be told. While the thread
  // runs.
  int64_t cpu_ns() const;

 protected:
  static constexpr int64_t kNever = INT64_MAX;

  // One round: receive, send, tell(), sleep. Called again until stop().
  virtual void round() = 0;
  // From any thread but its own: `action` runs between two rounds, complete on return; at once when
  // no thread runs.
  void change(std::function<void()> action);
  bool is_called() const { return stopping_.load() || commanded_.load(); }
  // Tells what is due; when to come again for what is left. Outside the engine: a push may wait for
  // the queue's lock, and a worker inside may not.
  int64_t tell(Report& report, int64_t now_ns);
  // Something was received or sent: more may follow at once, and JavaScript is told together.
  void note_activity(int64_t now_ns) { active_ns_ = now_ns; }
  // Whoever pokes after this signals; what was posted before is seen by the check that follows it.
  void begin_sleep() { sleeping_.store(true); }
  void end_sleep() { sleeping_.store(false); }

  const uint32_t index_;
  Waker waker_;

 private:
  void run();
  void obey();

  const char* const name_;
  Environment& environment_;
  std::thread thread_;
  std::atomic<bool> stopping_{false}, sleeping_{false}, commanded_{false};
  std::mutex command_mutex_;
  std::condition_variable obeyed_;
  std::vector<std::function<void()>> commands_;
  uint64_t commands_given_ = 0, commands_done_ = 0;
  int64_t tell_by_ns_ = kNever;  // what waits in the report, at the latest
  int64_t active_ns_ = 0;        // when anything was received or sent last
};

}  // namespace sdr
