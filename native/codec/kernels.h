// What the processor does for the codec, one implementation for each instruction set. A kernel knows matrices and
// bytes; shapes, lost chunks and lengths that differ are combine.h's and the codes' business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sdr::codec {

inline constexpr uint32_t kCoefficientsMax = 128 * 128;  // of a matrix: rows + columns <= 256

// targets[r] = sum over c of coefficient[r][c] * sources[c], over `bytes` bytes from `offset` on; with `add`, what the
// targets hold is a summand too. No target overlaps another buffer. Sources and targets have any alignment.
struct Pass {
  const uint8_t* coefficients;  // rows by columns, `stride` from one row to the next
  size_t stride;
  uint32_t rows;                // 1 .. the kernel's rows_max
  uint32_t columns;             // 1 .. 256
  bool first_row_ones;          // the coefficients of row 0 are all 1: a plain sum
  const uint8_t* const* sources;
  uint8_t* const* targets;
  size_t offset, bytes;
  bool add;
};

struct Kernel {
  const char* name;
  bool supported;     // by this processor
  uint32_t rows_max;  // of a pass: what the registers hold
  void (*run)(const Pass& pass);
};

// Those compiled in, the fastest first; the last is the scalar one, which every processor has.
const std::vector<Kernel>& kernels();
// The one in use: see kernel_name() in sdr/codec.h.
const Kernel& kernel();

inline constexpr uint32_t kRowsMaxScalar = 256;
void run_scalar(const Pass& pass);
#if defined(__x86_64__)
inline constexpr uint32_t kRowsMaxAvx2 = 4;
void run_avx2(const Pass& pass);
inline constexpr uint32_t kRowsMaxGfni = 8;
void run_gfni(const Pass& pass);
#elif defined(__aarch64__)
inline constexpr uint32_t kRowsMaxNeon = 4;
void run_neon(const Pass& pass);
#endif

}  // namespace sdr::codec
