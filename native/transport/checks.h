// What every transport asks of the arguments it is given, so that all refuse the same things. Pure
// functions.
#pragma once

#include "sdr/transport.h"

namespace sdr {

// SDR_OK, or why no queue pair can be made so: the geometry's own reason, SDR_INVALID for the rest.
sdr_status check_config(const QpConfig& config);

// Whether `bytes` bytes at `offset` lie within the region.
inline bool region_holds(const Region& region, uint64_t offset, uint64_t bytes) {
  return offset <= region.bytes && bytes <= region.bytes - offset;
}

inline uint64_t chunk_bytes(const sdr_geometry& geometry) {
  return uint64_t{geometry.packet_bytes} * geometry.packets_per_chunk;
}

// Whether a receive of `bytes` at `offset` may be posted with that parity: everything within its region, and no byte of
// parity among the message's own.
bool is_receivable(const sdr_geometry& geometry, const Region* region, uint64_t offset,
                   uint64_t bytes, const Parity& parity);

// Whether a processor may touch its bytes.
inline bool is_host_memory(const Region* region) { return region == nullptr || region->dmabuf_fd < 0; }

// Where the bytes are; null without memory.
inline uint8_t* memory_at(const Region* region, uint64_t offset) {
  return region != nullptr && region->base != nullptr ? region->base + offset : nullptr;
}

// Whether a range that begins with this chunk is of parity chunks, not of the message's own.
inline bool is_parity(const sdr_geometry& geometry, uint64_t message_bytes, uint32_t first_chunk) {
  return first_chunk >= sdr_rx_parity_first(&geometry, message_bytes);
}

// Whether [first_chunk, + bytes) can be injected of a message of `message_bytes`: not empty, within
// the message, and ending with a chunk or with the message, because packets go whole. Parity goes in
// whole chunks, as far as packets can be numbered.
bool is_sendable(const sdr_geometry& geometry, uint64_t message_bytes, uint32_t first_chunk,
                 uint64_t bytes);

// By which length the range's packets are cut (sdr_tx_make): parity has no short one.
inline uint64_t cut_bytes(const sdr_geometry& geometry, uint64_t message_bytes,
                          uint32_t first_chunk) {
  return is_parity(geometry, message_bytes, first_chunk) ? UINT64_MAX : message_bytes;
}

}  // namespace sdr
