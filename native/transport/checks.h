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

// Whether [first_chunk, + bytes) can be injected of a message of `message_bytes`: not empty, within
// the message, and ending with a chunk or with the message, because packets go whole.
bool is_sendable(const sdr_geometry& geometry, uint64_t message_bytes, uint32_t first_chunk,
                 uint64_t bytes);

}  // namespace sdr
