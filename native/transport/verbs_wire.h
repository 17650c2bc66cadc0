// Big-endian integers of what verbs ends tell each other: grants and infos.
#pragma once

#include <cstdint>

namespace sdr::verbs {

template <typename Integer>
inline void put(uint8_t* at, Integer value) {
  for (unsigned i = 0; i < sizeof value; i++)
    at[i] = static_cast<uint8_t>(value >> (8 * (sizeof value - 1 - i)));
}

template <typename Integer>
inline Integer get(const uint8_t* at) {
  Integer value = 0;
  for (unsigned i = 0; i < sizeof value; i++)
    value = static_cast<Integer>(uint64_t{value} << 8 | at[i]);
  return value;
}

}  // namespace sdr::verbs
