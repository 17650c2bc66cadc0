// Packs control frames back to back into datagrams and hands them to the transport.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/frames.h"
#include "sdr/transport.h"

namespace sdr::lib {

class FrameWriter {
 public:
  FrameWriter(QueuePair& native, uint32_t datagram_bytes_max)
      : native_(native), datagram_(datagram_bytes_max) {}

  // False: too large for a datagram, and not sent.
  bool write(Frame frame);
  // SDR_BUSY and others: the transport had no room, or no peer yet. Losing frames costs time only.
  sdr_status flush();

 private:
  QueuePair& native_;
  std::vector<uint8_t> datagram_;
  size_t used_ = 0;
  PacketKind kind_ = PacketKind::other;
  uint32_t sequence_ = 0;
};

// Frames that have few fields.
inline Frame done_frame(uint32_t message) {
  Frame frame;
  frame.kind = static_cast<uint8_t>(FrameKind::done);
  frame.message = message;
  return frame;
}
inline Frame close_frame(Scope scope, uint32_t message, unsigned reason) {
  Frame frame;
  frame.kind = static_cast<uint8_t>(FrameKind::close);
  frame.scope = scope;
  frame.message = message;
  frame.reason = static_cast<uint16_t>(reason);
  return frame;
}
inline Frame ping_frame(FrameKind kind, uint64_t time_ns, uint32_t padding) {
  Frame frame;
  frame.kind = static_cast<uint8_t>(kind);
  frame.value = time_ns;
  frame.padding = padding;
  return frame;
}

}  // namespace sdr::lib
