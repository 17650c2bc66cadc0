#include "transport/udp_channel.h"

#include <algorithm>

namespace sdr::udp {
namespace {

constexpr size_t kQuantumSends = 2;     // whole ones of a queue pair in its turn, where there are several
constexpr int64_t kSpinNs = 5'000;      // a shorter wait is not worth a sleep
// After this much at once more is likely: going to sleep, and being woken by the sender, would take longer.
constexpr size_t kBulkBytes = 32 * 1024;
constexpr int64_t kLingerNs = 20'000;
constexpr int64_t kBlockedNs = 1'000'000;  // when to try a full socket again at the latest

}  // namespace

Channel::Channel(uint32_t index, Descriptor socket, const UdpCapabilities& capabilities,
                 Environment& environment)
    : Worker("sdr-udp-", index, environment),
      environment_(environment),
      socket_(std::move(socket)),
      address_(local_address(socket_.get())),
      gso_(capabilities.gso),
      batch_(capabilities.gso),
      incoming_(capabilities.gro) {}

Channel::~Channel() { stop(); }

void Channel::stop() {
  Worker::stop();
  socket_.reset();
}

void Channel::add(Lane* lane) {
  change([this, lane] {
    by_key_.emplace(lane->shared.receive_key, lane);
    lanes_.push_back(lane);
  });
}

void Channel::remove(Lane* lane) {
  change([this, lane] {
    batch_.remove(lane);
    by_key_.erase(lane->shared.receive_key);
    std::erase(lanes_, lane);
  });
}

void Channel::round() {
  const int64_t now_ns = environment_.now_ns();
  const size_t received = receive(now_ns);
  const int64_t send_ns = send(now_ns);
  const int64_t again_ns = std::min(send_ns, tell(report_, now_ns));
  if (received == 0 && again_ns > now_ns) sleep(now_ns, again_ns);
}

// ---- receiving ----

size_t Channel::receive(int64_t now_ns) {
  const size_t count = incoming_.receive(socket_.get());
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++) {
    const Received& one = incoming_.at(i);
    bytes += one.bytes;
    if (one.bytes == 0) take(one.data, 0, now_ns);
    for (size_t at = 0; at < one.bytes; at += one.segment)
      take(one.data + at, std::min(one.segment, one.bytes - at), now_ns);
    if (entered_ != nullptr) entered_->settle(now_ns, report_);
  }
  leave(now_ns);
  if (count > 0) note_activity(now_ns);
  if (bytes >= kBulkBytes) linger_until_ns_ = now_ns + kLingerNs;
  return count;
}

void Channel::take(const uint8_t* datagram, size_t bytes, int64_t now_ns) {
  const auto found = bytes < sizeof(uint64_t) ? by_key_.end() : by_key_.find(read_key(datagram));
  if (found == by_key_.end()) {
    environment_.unknown_datagrams.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  Lane* lane = found->second;
  if (lane != entered_) {
    leave(now_ns);
    sdr_rx_enter(lane->shared.rx, index_);
    entered_ = lane;
  }
  lane->received(datagram, bytes, now_ns, report_);
}

void Channel::leave(int64_t now_ns) {
  if (entered_ == nullptr) return;
  entered_->settle(now_ns, report_);
  sdr_rx_leave(entered_->shared.rx, index_);
  entered_ = nullptr;
}

// ---- sending ----

// Fills one batch, lane after lane, and hands it over. When to come again; <= now_ns: at once.
int64_t Channel::send(int64_t now_ns) {
  if (!batch_.empty() && !batch_.flush(socket_.get())) return now_ns + kBlockedNs;
  int64_t again_ns = INT64_MAX;
  const size_t count = lanes_.size();
  size_t served = 0;
  for (; served < count && !batch_.full(); served++) {
    Lane* lane = lanes_[(turn_ + served) % count];
    if (lane->idle()) continue;
    const size_t datagram = lane->shared.geometry.packet_bytes + kUdpHeaderBytes;
    const size_t quantum =
        count == 1 ? SendBatch::kPacketsMax : kQuantumSends * SendBatch::packets_of(datagram);
    again_ns = std::min(again_ns, lane->pump(now_ns, batch_, quantum));
  }
  if (served < count) again_ns = now_ns;
  // The next turn begins with the lane that the batch had no room for; when all were served, with the second one.
  if (count > 0) turn_ = (turn_ + (served < count ? served : 1)) % count;
  if (!batch_.empty()) note_activity(now_ns);
  const bool handed_over = batch_.flush(socket_.get());
  if (gso_.load(std::memory_order_relaxed) != batch_.gso())
    gso_.store(batch_.gso(), std::memory_order_relaxed);
  if (!handed_over) return now_ns + kBlockedNs;
  for (Lane* lane : lanes_) lane->flushed(report_);
  return again_ns;
}

// Mail is for when the batch has gone: while the socket has no room, nobody would open it.
bool Channel::has_mail() const {
  return batch_.empty() && std::any_of(lanes_.begin(), lanes_.end(),
                                       [](const Lane* lane) { return lane->has_mail(); });
}

void Channel::sleep(int64_t now_ns, int64_t until_ns) {
  const int64_t left = until_ns - now_ns;
  if (left < kSpinNs) return;
  if (now_ns < linger_until_ns_) return std::this_thread::yield();
  begin_sleep();
  if (!is_called() && !has_mail()) {
    const bool for_room = !batch_.empty() && batch_.room_is_announced();
    wait_for(socket_.get(), for_room, waker_, until_ns == INT64_MAX ? -1 : left);
  }
  end_sleep();
}

}  // namespace sdr::udp
