// The 24 bytes before every payload (layout in sdr/udp.h): writing, and checking what came from the network.
// Knows no socket and no queue pair.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sdr/link.h"
#include "sdr/udp.h"

namespace sdr::udp {

struct Header {
  PacketKind kind = PacketKind::data;
  uint16_t queue = 0;
  uint32_t immediate = 0;
  uint32_t message = 0;
};

// Writes the header of a datagram whose payload is the `bytes` bytes at `payload`, checksum included.
void write_header(uint8_t out[kUdpHeaderBytes], uint64_t key, const Header& header,
                  const uint8_t* payload, size_t bytes);

// The key of a datagram of at least 8 bytes.
uint64_t read_key(const uint8_t* datagram);

enum class Verdict : uint8_t { valid, truncated, bad_checksum, malformed };
// Checks everything after the key; `out` is set when valid. A datagram is malformed when its checksum holds and yet
// no sender of this version could have made it.
Verdict read_header(const uint8_t* datagram, size_t bytes, Header* out);

}  // namespace sdr::udp
