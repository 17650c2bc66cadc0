// A byte at a time from the product table: what the other kernels are compared with.
#include <cstring>

#include "codec/gf256.h"
#include "codec/kernels.h"

namespace sdr::codec {

void run_scalar(const Pass& pass) {
  for (uint32_t r = 0; r < pass.rows; r++) {
    uint8_t* target = pass.targets[r] + pass.offset;
    if (pass.summands == nullptr) std::memset(target, 0, pass.bytes);
    else std::memmove(target, pass.summands[r] + pass.offset, pass.bytes);
    for (uint32_t c = 0; c < pass.columns; c++) {
      const uint8_t* source = pass.sources[c] + pass.offset;
      const uint8_t* product = field().product[pass.coefficients[r * pass.stride + c]];
      for (size_t i = 0; i < pass.bytes; i++) target[i] ^= product[source[i]];
    }
  }
}

}  // namespace sdr::codec
