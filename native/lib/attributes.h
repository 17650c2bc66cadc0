// What a program's attributes come to: the engine's geometry, and the settings that the environment
// adds.
#pragma once

#include <cstdint>
#include <cstring>

#include "lib/domain.h"
#include "sdr.h"

namespace sdr::lib {

// What a program wrote where an enumerator belongs; it may be none of them, so it is read as bytes.
template <class Enumeration>
uint32_t number_in(const Enumeration& written) {
  static_assert(sizeof written == sizeof(uint32_t));
  uint32_t number = 0;
  std::memcpy(&number, &written, sizeof number);
  return number;
}

struct Attributes {
  sdr_geometry geometry{};
  double rate_bps = 0;  // 0: none
  bool send_enabled = false, recv_enabled = false;

  uint32_t packet_bytes() const { return geometry.packet_bytes; }
  uint64_t chunk_bytes() const {
    return uint64_t{geometry.packet_bytes} * geometry.packets_per_chunk;
  }
};

// Throws Failure INVALID_ARGUMENT or TOO_LARGE naming the attribute.
Attributes resolve_attributes(const sdr_qp_attr& given, const DeviceLimits& limits,
                              uint32_t channels);

// A whole number of the environment; `otherwise` where the variable is not set or empty. Throws
// INVALID_ARGUMENT.
uint64_t environment_number(const char* name, uint64_t least, uint64_t most, uint64_t otherwise);

}  // namespace sdr::lib
