// What callers hand to a code, checked before anything is written. The same for every kind of code.
#pragma once

#include "sdr/codec.h"

namespace sdr::codec {

Result check_encode(const Shape& shape, const Source* data, uint8_t* const* parity, size_t chunk_bytes);
Result check_update(const Shape& shape, uint32_t index, Source data, uint8_t* const* parity, size_t chunk_bytes);
// Does not say too_few: which survivors suffice is the code's knowledge.
Result check_decode(const Shape& shape, const Target* data, const uint8_t* const* parity, const uint8_t* present,
                    size_t chunk_bytes);

}  // namespace sdr::codec
