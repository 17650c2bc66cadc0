// A channel: one socket and the thread that serves it, receiving and sending for the lanes of every queue pair.
#pragma once

#include <condition_variable>
#include <thread>
#include <unordered_map>

#include "transport/udp_lane.h"

namespace sdr::udp {

class Channel {
 public:
  Channel(uint32_t index, Descriptor socket, const UdpCapabilities& capabilities,
          Environment& environment);
  ~Channel();  // stop()
  bool start(UdpError* error);
  void stop();  // joins the thread and closes the socket; idempotent

  const SocketAddress& address() const { return address_; }
  // False once the kernel refused a segmented send.
  bool gso() const { return gso_.load(std::memory_order_relaxed); }

  // From any one thread, and complete on return: after remove() this channel neither sends nor receives for the lane.
  void add(Lane* lane);
  void remove(Lane* lane);
  // There is mail in a lane's inbox.
  void poke();

 private:
  static constexpr int64_t kNever = INT64_MAX;

  struct Command {
    Lane* lane;
    bool add;
  };
  void run();
  void change(Command command);
  void obey();
  void apply(const Command& command);
  size_t receive(int64_t now_ns);
  void take(const uint8_t* datagram, size_t bytes, int64_t now_ns);
  void leave(int64_t now_ns);
  int64_t tell(int64_t now_ns);
  int64_t send(int64_t now_ns);
  void sleep(int64_t now_ns, int64_t until_ns);
  bool is_called() const;

  const uint32_t index_;
  Environment& environment_;
  Descriptor socket_;
  const SocketAddress address_;
  Waker waker_;
  std::thread thread_;
  std::atomic<bool> stopping_{false}, sleeping_{false}, commanded_{false}, gso_;

  std::mutex command_mutex_;
  std::condition_variable obeyed_;
  std::vector<Command> commands_;
  uint64_t commands_given_ = 0, commands_done_ = 0;

  // the thread's own
  std::unordered_map<uint64_t, Lane*> by_key_;
  std::vector<Lane*> lanes_;
  size_t turn_ = 0;  // the lane that is served first next
  SendBatch batch_;
  ReceiveBatch incoming_;
  Report report_;
  int64_t tell_by_ns_ = kNever;    // what waits in it, at the latest
  int64_t active_ns_ = 0;          // when anything was received or sent last
  int64_t linger_until_ns_ = 0;    // no sleep before
  Lane* entered_ = nullptr;  // whose engine this thread is inside
};

}  // namespace sdr::udp
