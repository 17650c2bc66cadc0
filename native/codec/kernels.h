// What the processor does for the codec, one implementation for each instruction set. A kernel knows matrices and
// bytes; shapes, lost chunks and lengths that differ are combine.h's and the codes' business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sdr::codec {

inline constexpr uint32_t kCoefficientsMax = 128 * 128;  // of a matrix: rows + columns <= 256

// What will be read next: `bytes` bytes from `offset` on of each source. A kernel asks for a line or two of it each
// time that it has worked on as much, so that memory is busy while it computes.
struct Ahead {
  const uint8_t* const* sources;
  uint32_t count;  // 0: nothing
  size_t offset, bytes;
};

// targets[r] = sum over c of coefficient[r][c] * sources[c], over `bytes` bytes from `offset` on; where `summands` are
// given, they are added too. A summand may be the target itself; else no target overlaps another buffer. Any alignment.
struct Pass {
  const uint8_t* coefficients;  // rows by columns, `stride` from one row to the next
  size_t stride;
  uint32_t rows;                // 1 .. the kernel's rows_max
  uint32_t columns;             // 1 .. 256
  bool first_row_ones;          // the coefficients of row 0 are all 1: a plain sum
  const uint8_t* const* sources;
  uint8_t* const* targets;
  const uint8_t* const* summands;  // null: none
  size_t offset, bytes;
  bool past_caches;             // a hint: what is written need not be kept in the caches
  Ahead ahead;
};

struct Kernel {
  const char* name;
  bool supported;     // by this processor
  uint32_t rows_max;  // of a pass: what the registers hold
  void (*run)(const Pass& pass);
};

inline constexpr size_t kCacheLine = 64;

// Goes through an Ahead, line by line and source by source, and asks the second-level cache for it: the first-level one
// has no room beside what is being worked on.
class AheadCursor {
 public:
  explicit AheadCursor(const Ahead& ahead) : left_(ahead.sources), end_(left_ + ahead.count), ahead_(ahead) { enter(); }

  template <int kLines>
  __attribute__((always_inline)) void ask() {
    if (at_ == nullptr) return;
#pragma GCC unroll 8
    for (size_t line = 0; line < kLines; line++) __builtin_prefetch(at_ + line * kCacheLine, 0, 2);
    bytes_ -= kLines * kCacheLine;
    if (bytes_ > 0) at_ += kLines * kCacheLine;
    else enter();
  }

 private:
  __attribute__((always_inline)) void enter() {
    at_ = left_ == end_ ? nullptr : *left_++ + ahead_.offset;
    bytes_ = static_cast<ptrdiff_t>(ahead_.bytes);
  }

  const uint8_t* const* left_;
  const uint8_t* const* end_;
  const Ahead& ahead_;
  const uint8_t* at_ = nullptr;
  ptrdiff_t bytes_ = 0;
};

// Those compiled in, the fastest first; the last is the scalar one, which every processor has.
const std::vector<Kernel>& kernels();
// The one in use: see kernel_name() in sdr/codec.h.
const Kernel& kernel();
// Puts another in its place, for the whole process: for tests and benches, which go through all of them.
void use_kernel(const Kernel& kernel);

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
