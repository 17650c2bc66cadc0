// The kinds of code.
#pragma once

#include <memory>

#include "sdr/codec.h"

namespace sdr::codec {

// Precondition: is_valid(shape).
std::shared_ptr<const Code> make_mds(const Shape& shape);
std::shared_ptr<const Code> make_xor(const Shape& shape);

}  // namespace sdr::codec
