// Sums of multiples over chunks of whatever lengths: the one way from the codes to the kernels. Cuts the work into
// stretches over which the same chunks have bytes, and those into pieces that a kernel's registers and the caches hold.
#pragma once

#include "codec/kernels.h"
#include "sdr/codec.h"

namespace sdr::codec {

// targets[r] = sum over c of coefficients[r * columns + c] * sources[c], over each target's bytes, where a source that
// is null or ends before counts as zeros; with `add`, what the targets hold is a summand too.
// 1 <= rows, columns <= kChunksMax; no target overlaps another buffer.
struct Combination {
  const uint8_t* coefficients;
  uint32_t rows, columns;
  const Source* sources;
  const Target* targets;
  bool add;
};
void combine(const Combination& combination, const Kernel& kernel);

}  // namespace sdr::codec
