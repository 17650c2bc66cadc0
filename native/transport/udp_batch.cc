#include "transport/udp_batch.h"

#include <cerrno>
#include <cstring>

#include "transport/udp_lane.h"

#if defined(__linux__)
#include <netinet/udp.h>
#endif

namespace sdr::udp {

struct SendBatch::Native {
  struct Control {
    alignas(cmsghdr) uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
  };
  uint8_t headers[kPacketsMax][kUdpHeaderBytes];
  iovec iovs[2 * kPacketsMax];  // header, payload of each datagram
  Control controls[kPacketsMax];
#if defined(__linux__)
  mmsghdr messages[kPacketsMax];
#endif
};

SendBatch::SendBatch(bool gso) : gso_(gso), gso_wanted_(gso), native_(new Native) { sends_.reserve(kPacketsMax); }
SendBatch::~SendBatch() = default;

uint8_t* SendBatch::add(Lane* lane, const SocketAddress& to, const uint8_t* payload, size_t bytes) {
  const auto datagram = static_cast<uint32_t>(kUdpHeaderBytes + bytes);
  Send* last = sends_.size() > next_send_ ? &sends_.back() : nullptr;
  if (last != nullptr && last->lane == lane && last->to == &to &&
      datagram <= last->segment_bytes && has_room(*last, datagram)) {
    last->packets++;
    last->bytes += datagram;
    last->closed = datagram < last->segment_bytes;
  } else {
    sends_.push_back(
        {lane, &to, static_cast<uint32_t>(packets_), 1, datagram, datagram, false});
  }
  uint8_t* header = native_->headers[packets_];
  native_->iovs[2 * packets_] = {header, kUdpHeaderBytes};
  native_->iovs[2 * packets_ + 1] = {const_cast<uint8_t*>(payload), bytes};
  packets_++;
  bytes_ += datagram;
  return header;
}

void SendBatch::corrupt_last(uint64_t bit) {
  iovec& payload = native_->iovs[2 * packets_ - 1];
  size_t at = (bit / 8) % (kUdpHeaderBytes + payload.iov_len);
  const auto mask = static_cast<uint8_t>(1u << (bit % 8));
  if (at < kUdpHeaderBytes) {
    native_->headers[packets_ - 1][at] ^= mask;
    return;
  }
  at -= kUdpHeaderBytes;
  copies_.emplace_back(new uint8_t[payload.iov_len]);
  std::memcpy(copies_.back().get(), payload.iov_base, payload.iov_len);
  copies_.back()[at] ^= mask;
  payload.iov_base = copies_.back().get();
}

#if defined(__linux__)

int SendBatch::hand_over(int fd, size_t first, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const Send& send = sends_[first + i];
    msghdr& header = native_->messages[i].msg_hdr;
    header = {};
    header.msg_name = const_cast<sockaddr_storage*>(&send.to->storage);
    header.msg_namelen = send.to->bytes;
    header.msg_iov = &native_->iovs[2 * send.first_packet];
    header.msg_iovlen = 2 * send.packets;
    if (send.packets == 1) continue;
    header.msg_control = native_->controls[i].bytes;
    header.msg_controllen = sizeof native_->controls[i].bytes;
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = IPPROTO_UDP;
    part->cmsg_type = UDP_SEGMENT;
    part->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const auto segment = static_cast<uint16_t>(send.segment_bytes);
    std::memcpy(CMSG_DATA(part), &segment, sizeof segment);
  }
  return sendmmsg(fd, native_->messages, static_cast<unsigned>(count), MSG_DONTWAIT | MSG_NOSIGNAL);
}

#else

int SendBatch::hand_over(int fd, size_t first, size_t count) {
  size_t done = 0;
  for (; done < count; done++) {
    const Send& send = sends_[first + done];
    msghdr header{};
    header.msg_name = const_cast<sockaddr_storage*>(&send.to->storage);
    header.msg_namelen = send.to->bytes;
    header.msg_iov = &native_->iovs[2 * send.first_packet];
    header.msg_iovlen = static_cast<int>(2 * send.packets);
    if (sendmsg(fd, &header, MSG_DONTWAIT) < 0) break;
  }
  return done > 0 ? static_cast<int>(done) : -1;
}

#endif

bool SendBatch::flush(int fd) {
  // Each pass hands over or drops at least one send, or splits once, so this ends.
  while (next_send_ < sends_.size()) {
    const int done = hand_over(fd, next_send_, sends_.size() - next_send_);
    if (done > 0) {
      next_send_ += static_cast<size_t>(done);
    } else if (!drop_or_split(errno)) {
      return false;
    }
  }
  clear();
  return true;
}

// Deals with the refused first send; false: no room now, keep everything.
bool SendBatch::drop_or_split(int error) {
  if (error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS) {
    room_is_announced_ = error != ENOBUFS;
    return false;
  }
  if (error == EINTR) return true;
  Send& refused = sends_[next_send_];
  const bool about_gso = error == EIO || error == EINVAL || error == EOPNOTSUPP || error == EMSGSIZE;
  if (refused.packets > 1 && about_gso) {
    gso_ = false;  // this path does not segment: plain datagrams from now on
    split_sends();
    return true;
  }
  // ECONNREFUSED and its like report what befell an earlier datagram; anything else is this datagram's loss. A
  // vanished peer is noticed by its silence, not here.
  // What befalls a plain datagram too says nothing about segmentation: if switched off on its account, it returns.
  if (about_gso) gso_ = gso_wanted_;
  refused.lane->refused(refused.packets, error);
  next_send_++;
  return true;
}

void SendBatch::split_sends() {
  std::vector<Send> single;
  single.reserve(kPacketsMax);
  for (size_t s = next_send_; s < sends_.size(); s++) {
    const Send& send = sends_[s];
    for (uint32_t i = 0; i < send.packets; i++) {
      const uint32_t packet = send.first_packet + i;
      const auto bytes = static_cast<uint32_t>(kUdpHeaderBytes + native_->iovs[2 * packet + 1].iov_len);
      single.push_back({send.lane, send.to, packet, 1, bytes, bytes, true});
    }
  }
  sends_ = std::move(single);
  next_send_ = 0;
}

void SendBatch::remove(const Lane* lane) {
  std::vector<Send> kept;
  kept.reserve(kPacketsMax);
  for (size_t s = next_send_; s < sends_.size(); s++)
    if (sends_[s].lane != lane) kept.push_back(sends_[s]);
  // Nothing may join what is kept: the removed lane's datagrams lie in between.
  for (Send& send : kept) send.closed = true;
  sends_ = std::move(kept);
  next_send_ = 0;
  if (sends_.empty()) clear();
}

void SendBatch::clear() {
  sends_.clear();
  copies_.clear();
  packets_ = bytes_ = next_send_ = 0;
}

}  // namespace sdr::udp
