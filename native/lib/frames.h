// Control frames: fields, bytes and back. The layout is described in src/reliability/frames.ts,
// whose golden vectors (test/vectors/frames.json) this codec is tested with. Decoding trusts
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "sdr/transport.h"  // kGrantBytesMax

namespace sdr::lib {

enum class FrameKind : uint8_t {
  cts = 1,
  start = 2,
  ack = 3,
  nack = 4,
  done = 5,
  ping = 6,
  pong = 7,
  close = 8,
  policy = 64,  // and above: a program's own
};
enum class Scope : uint8_t { connection = 0, send = 1, receive = 2 };

inline constexpr size_t kFrameHeaderBytes = 12;
inline constexpr size_t kPingFixedBytes = 20;
inline constexpr uint8_t kPolicyKindMin = static_cast<uint8_t>(FrameKind::policy);

struct Frame {
  uint8_t kind = 0;  // a FrameKind, or above policy
  uint32_t sequence = 0, message = 0;
  uint64_t value = 0;  // cts: most bytes; start: bytes; ping, pong: time in ns
  bool has_immediate = false;
  uint32_t immediate = 0;
  std::string policy;    // of cts and start
  uint32_t padding = 0;  // of ping and pong
  Scope scope = Scope::connection;
  uint16_t reason = 0;  // of close
  std::vector<uint8_t>
      body;  // cts: the grant; ack, nack: all behind the header; policy frames: the payload
};

// Bytes written to `out`; 0 when they do not fit `capacity`.
size_t encode_frame(const Frame& frame, uint8_t* out, size_t capacity);

// The frames of one datagram before its first fault; *malformed tells whether there was one.
std::vector<Frame> decode_frames(const uint8_t* bytes, size_t size, bool* malformed);

}  // namespace sdr::lib
