// A batch of datagrams on their way to the kernel: neighbours of one destination and size are joined into one
// segmented send (UDP_SEGMENT); several such sends are handed over by one call. Payload is never copied here except
// for a datagram that a link corrupts. Belongs to one thread.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "transport/udp_socket.h"

namespace sdr::udp {

class Lane;

class SendBatch {
 public:
  static constexpr size_t kPacketsMax = 512;
  static constexpr size_t kBytesFrom = 320 * 1024;     // with so much, a batch ends with the send it is at: 100 us
  static constexpr size_t kSegmentsMax = 64;            // of one send; older kernels take no more
  static constexpr size_t kSendBytesMax = 65535 - 48;   // of one send, IPv6 and UDP headers taken off

  explicit SendBatch(bool gso);
  ~SendBatch();

  // A send of few segments costs nearly what one of many does, so a batch ends with a whole one.
  bool full() const {
    return packets_ >= kPacketsMax ||
           (bytes_ >= kBytesFrom && !has_room(sends_.back(), sends_.back().segment_bytes));
  }
  // Packets of one send, of `bytes` bytes each with header.
  static size_t packets_of(size_t bytes) { return std::clamp<size_t>(kSendBytesMax / bytes, 1, kSegmentsMax); }
  bool empty() const { return packets_ == 0; }
  // Adds a datagram whose header the caller writes to the returned place; `payload` stays valid until it is flushed.
  // Precondition: !full().
  uint8_t* add(Lane* lane, const SocketAddress& to, const uint8_t* payload, size_t bytes);
  // Flips bit `bit` of the datagram added last, after its header was written.
  void corrupt_last(uint64_t bit);
  // Hands over what it can. True when the batch is empty again; false when the socket has no room now.
  bool flush(int fd);
  // Forgets a lane's datagrams.
  void remove(const Lane* lane);
  bool gso() const { return gso_; }
  // After flush() gave false: whether the socket becomes writable when there is room. Otherwise only trying tells.
  bool room_is_announced() const { return room_is_announced_; }

 private:
  struct Send {
    Lane* lane;
    const SocketAddress* to;
    uint32_t first_packet, packets;
    uint32_t segment_bytes, bytes;
    bool closed;  // ends with a short datagram, so nothing may follow
  };
  struct Native;

  // Whether another segment of `bytes` bytes can join.
  bool has_room(const Send& send, size_t bytes) const {
    return gso_ && !send.closed && send.packets < kSegmentsMax && send.bytes + bytes <= kSendBytesMax;
  }
  int hand_over(int fd, size_t first, size_t count);
  bool drop_or_split(int error);
  void split_sends();
  void clear();

  bool gso_, gso_wanted_, room_is_announced_ = true;
  size_t packets_ = 0, bytes_ = 0, next_send_ = 0;
  std::vector<Send> sends_;
  std::unique_ptr<Native> native_;
  std::vector<std::unique_ptr<uint8_t[]>> copies_;  // of corrupted payloads
};

}  // namespace sdr::udp
