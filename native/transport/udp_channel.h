// A channel: one socket and the thread that serves it, receiving and sending for the lanes of every queue pair.
#pragma once

#include <unordered_map>

#include "transport/udp_lane.h"
#include "transport/worker.h"

namespace sdr::udp {

class Channel final : public Worker {
 public:
  Channel(uint32_t index, Descriptor socket, const UdpCapabilities& capabilities,
          Environment& environment);
  ~Channel() override;
  void stop();  // joins the thread and closes the socket; idempotent

  const SocketAddress& address() const { return address_; }
  // False once the kernel refused a segmented send.
  bool gso() const { return gso_.load(std::memory_order_relaxed); }

  // From any one thread, and complete on return: after remove() this channel neither sends nor receives for the lane.
  void add(Lane* lane);
  void remove(Lane* lane);

 private:
  void round() override;
  size_t receive(int64_t now_ns);
  void take(const uint8_t* datagram, size_t bytes, int64_t now_ns);
  void leave(int64_t now_ns);
  int64_t send(int64_t now_ns);
  void sleep(int64_t now_ns, int64_t until_ns);
  bool has_mail() const;

  Environment& environment_;
  Descriptor socket_;
  const SocketAddress address_;
  std::atomic<bool> gso_;

  // the thread's own
  std::unordered_map<uint64_t, Lane*> by_key_;
  std::vector<Lane*> lanes_;
  size_t turn_ = 0;  // the lane that is served first next
  SendBatch batch_;
  ReceiveBatch incoming_;
  Report report_;
  int64_t linger_until_ns_ = 0;  // no sleep before
  Lane* entered_ = nullptr;      // whose engine this thread is inside
};

}  // namespace sdr::udp
