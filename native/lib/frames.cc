#include "lib/frames.h"

#include <algorithm>
#include <cstring>

namespace sdr::lib {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kFrameBytesMax = 0xffff, kNameBytesMax = 64;
constexpr size_t kCtsNameAt = 20, kStartNameAt = 25, kAckFixedBytes = 32, kCloseBytes = 16;
constexpr uint64_t kWholeMax = (uint64_t{1} << 53) - 1;

uint32_t get(const uint8_t* at, int bytes) {
  uint32_t value = 0;
  for (int i = 0; i < bytes; i++) value = value << 8 | at[i];
  return value;
}
uint64_t get64(const uint8_t* at) { return uint64_t{get(at, 4)} << 32 | get(at + 4, 4); }
void put(uint8_t* at, int bytes, uint64_t value) {
  for (int i = bytes - 1; i >= 0; i--, value >>= 8) at[i] = static_cast<uint8_t>(value);
}
size_t name_end(size_t at, size_t length) { return (at + 1 + length + 3) & ~size_t{3}; }
bool is_zero(const uint8_t* from, const uint8_t* to) {
  return std::all_of(from, to, [](uint8_t byte) { return byte == 0; });
}

FrameKind kind_of(const Frame& frame) {
  return frame.kind >= kPolicyKindMin ? FrameKind::policy : static_cast<FrameKind>(frame.kind);
}

size_t frame_bytes(const Frame& frame) {
  switch (kind_of(frame)) {
    case FrameKind::cts:
      return name_end(kCtsNameAt, frame.policy.size()) + frame.body.size();
    case FrameKind::start:
      return name_end(kStartNameAt, frame.policy.size());
    case FrameKind::ack:
    case FrameKind::nack:
    case FrameKind::policy:
      return kFrameHeaderBytes + frame.body.size();
    case FrameKind::done:
      return kFrameHeaderBytes;
    case FrameKind::ping:
    case FrameKind::pong:
      return kPingFixedBytes + frame.padding;
    case FrameKind::close:
      return kCloseBytes;
  }
  return 0;
}

void put_name(uint8_t* at, const std::string& name) {
  *at = static_cast<uint8_t>(name.size());
  std::copy(name.begin(), name.end(), at + 1);
}

// The name whose length byte is at `at`; where its padding ends, or 0 when it is none.
size_t get_name(const uint8_t* frame, size_t size, size_t at, std::string& name) {
  const size_t length = frame[at];
  const size_t end = name_end(at, length);
  if (length > kNameBytesMax || end > size) return 0;
  for (size_t i = 0; i < length; i++) {
    const uint8_t c = frame[at + 1 + i];
    if (c < 0x20 || c > 0x7e) return 0;
    name += static_cast<char>(c);
  }
  return is_zero(frame + at + 1 + length, frame + end) ? end : 0;
}

bool decode_cts(const uint8_t* at, size_t size, Frame& frame) {
  if (size < kCtsNameAt + 1) return false;
  frame.value = get64(at + 12);
  const size_t end = get_name(at, size, kCtsNameAt, frame.policy);
  if (end == 0 || size - end > kGrantBytesMax || (size - end) % 4 != 0) return false;
  frame.body.assign(at + end, at + size);
  return frame.value <= kWholeMax;
}

bool decode_start(const uint8_t* at, size_t size, Frame& frame) {
  if (size < kStartNameAt + 1) return false;
  frame.value = get64(at + 12);
  frame.immediate = get(at + 20, 4);
  if (at[24] > 1 || (at[24] == 0 && frame.immediate != 0)) return false;
  frame.has_immediate = at[24] == 1;
  return frame.value <= kWholeMax && get_name(at, size, kStartNameAt, frame.policy) == size;
}

bool check_ack(const uint8_t* at, size_t size) {
  if (size < kAckFixedBytes || size % 4 != 0 || get64(at + 24) > kWholeMax) return false;
  return get(at + 20, 4) + 8 * uint64_t{size - kAckFixedBytes} <= uint64_t{1} << 32;
}

bool check_nack(const uint8_t* at, size_t size) {
  if (size == kFrameHeaderBytes || (size - kFrameHeaderBytes) % 8 != 0) return false;
  uint64_t end = 0;
  for (size_t i = kFrameHeaderBytes; i < size; i += 8) {
    const uint64_t first = get(at + i, 4), count = get(at + i + 4, 4);
    if (count == 0 || first < end || first + count > uint64_t{1} << 32) return false;
    end = first + count;
  }
  return true;
}

bool decode_ping(const uint8_t* at, size_t size, Frame& frame) {
  if (size < kPingFixedBytes || frame.message != 0) return false;
  frame.value = get64(at + 12);
  frame.padding = static_cast<uint32_t>(size - kPingFixedBytes);
  return frame.value <= kWholeMax && is_zero(at + kPingFixedBytes, at + size);
}

bool decode_close(const uint8_t* at, size_t size, Frame& frame) {
  if (size != kCloseBytes || at[12] > 2 || at[13] != 0) return false;
  frame.scope = static_cast<Scope>(at[12]);
  frame.reason = static_cast<uint16_t>(get(at + 14, 2));
  return frame.scope != Scope::connection || frame.message == 0;
}

bool decode_body(const uint8_t* at, size_t size, Frame& frame) {
  const auto keep_body = [&] {
    frame.body.assign(at + kFrameHeaderBytes, at + size);
    return true;
  };
  switch (kind_of(frame)) {
    case FrameKind::cts:
      return decode_cts(at, size, frame);
    case FrameKind::start:
      return decode_start(at, size, frame);
    case FrameKind::ack:
      return check_ack(at, size) && keep_body();
    case FrameKind::nack:
      return check_nack(at, size) && keep_body();
    case FrameKind::done:
      return size == kFrameHeaderBytes;
    case FrameKind::ping:
    case FrameKind::pong:
      return decode_ping(at, size, frame);
    case FrameKind::close:
      return decode_close(at, size, frame);
    case FrameKind::policy:
      return keep_body();
  }
  return false;
}

}  // namespace

size_t encode_frame(const Frame& frame, uint8_t* out, size_t capacity) {
  const size_t size = frame_bytes(frame);
  if (size == 0 || size > std::min(capacity, kFrameBytesMax) || frame.policy.size() > kNameBytesMax)
    return 0;
  std::memset(out, 0, size);
  const FrameKind kind = kind_of(frame);
  out[0] = kVersion;
  out[1] = frame.kind;
  put(out + 2, 2, size);
  put(out + 4, 4, frame.sequence);
  put(out + 8, 4, frame.message);
  if (kind == FrameKind::close) {
    out[12] = static_cast<uint8_t>(frame.scope);
    put(out + 14, 2, frame.reason);
  } else if (kind == FrameKind::cts || kind == FrameKind::start || kind == FrameKind::ping ||
             kind == FrameKind::pong) {
    put(out + 12, 8, frame.value);
  }
  if (kind == FrameKind::start) {
    put(out + 20, 4, frame.has_immediate ? frame.immediate : 0);
    out[24] = frame.has_immediate ? 1 : 0;
    put_name(out + kStartNameAt, frame.policy);
  } else if (kind == FrameKind::cts) {
    put_name(out + kCtsNameAt, frame.policy);
  }
  std::copy(frame.body.begin(), frame.body.end(), out + size - frame.body.size());
  return size;
}

std::vector<Frame> decode_frames(const uint8_t* bytes, size_t size, bool* malformed) {
  std::vector<Frame> frames;
  size_t at = 0;
  while (size - at >= kFrameHeaderBytes) {
    const uint8_t* const from = bytes + at;
    const size_t length = get(from + 2, 2);
    if (from[0] != kVersion || length < kFrameHeaderBytes || length > size - at) break;
    Frame frame;
    frame.kind = from[1];
    frame.sequence = get(from + 4, 4);
    frame.message = get(from + 8, 4);
    if (!decode_body(from, length, frame)) break;
    frames.push_back(std::move(frame));
    at += length;
  }
  *malformed = at != size;
  return frames;
}

}  // namespace sdr::lib
