#include "lib/writer.h"

namespace sdr::lib {

bool FrameWriter::write(Frame frame) {
  frame.sequence = sequence_;
  size_t size = encode_frame(frame, datagram_.data() + used_, datagram_.size() - used_);
  if (size == 0 && used_ > 0) {
    flush();
    size = encode_frame(frame, datagram_.data(), datagram_.size());
  }
  if (size == 0) return false;
  if (used_ == 0)
    kind_ = frame.kind < static_cast<uint8_t>(PacketKind::other)
                ? static_cast<PacketKind>(frame.kind)
                : PacketKind::other;
  sequence_++;
  used_ += size;
  return true;
}

sdr_status FrameWriter::flush() {
  if (used_ == 0) return SDR_OK;
  const sdr_status status = native_.send_control(kind_, datagram_.data(), used_);
  used_ = 0;
  return status;
}

}  // namespace sdr::lib
