// NEON: a product by a constant is two table look-ups of sixteen entries, one for each half of the byte.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstring>

#include "codec/gf256.h"
#include "codec/kernels.h"

namespace sdr::codec {
namespace {

constexpr size_t kVector = 16;

struct Step {
  const uint8_t* coefficients;
  size_t stride;
  uint32_t columns;
  const uint8_t* const* sources;
  uint8_t* const* targets;
  size_t at;
  const uint8_t* const* summands;
};

template <int kRows, int kVectors, bool kOnes>
inline __attribute__((always_inline)) void run_step(const Step& step, const FieldTables& tables) {
  const uint8x16_t low_half = vdupq_n_u8(15);
  uint8x16_t sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++)
      sum[r][v] = step.summands != nullptr ? vld1q_u8(step.summands[r] + step.at + v * kVector) : vdupq_n_u8(0);
  }
  for (uint32_t c = 0; c < step.columns; c++) {
    uint8x16_t whole[kVectors], low[kVectors], high[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) {
      whole[v] = vld1q_u8(step.sources[c] + step.at + v * kVector);
      low[v] = vandq_u8(whole[v], low_half);
      high[v] = vshrq_n_u8(whole[v], 4);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
      if (kOnes && r == 0) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; v++) sum[r][v] = veorq_u8(sum[r][v], whole[v]);
        continue;
      }
      const uint8_t* nibbles = tables.nibbles[step.coefficients[static_cast<size_t>(r) * step.stride + c]];
      const uint8x16_t of_low = vld1q_u8(nibbles), of_high = vld1q_u8(nibbles + 16);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; v++) {
        const uint8x16_t product = veorq_u8(vqtbl1q_u8(of_low, low[v]), vqtbl1q_u8(of_high, high[v]));
        sum[r][v] = veorq_u8(sum[r][v], product);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) vst1q_u8(step.targets[r] + step.at + v * kVector, sum[r][v]);
  }
}

// The last bytes, fewer than a vector: through copies, so that nothing is touched beyond the ends.
template <int kRows, bool kOnes>
void run_tail(const Step& step, const FieldTables& tables, size_t bytes) {
  uint8_t from[256][kVector];
  uint8_t to[kRows][kVector] = {};
  const uint8_t* sources[256];
  uint8_t* targets[kRows];
  for (uint32_t c = 0; c < step.columns; c++) {
    std::memset(from[c], 0, kVector);
    std::memcpy(from[c], step.sources[c] + step.at, bytes);
    sources[c] = from[c];
  }
  for (int r = 0; r < kRows; r++) {
    if (step.summands != nullptr) std::memcpy(to[r], step.summands[r] + step.at, bytes);
    targets[r] = to[r];
  }
  run_step<kRows, 1, kOnes>(Step{step.coefficients, step.stride, step.columns, sources, targets, 0,
                               step.summands != nullptr ? targets : nullptr}, tables);
  for (int r = 0; r < kRows; r++) std::memcpy(step.targets[r] + step.at, to[r], bytes);
}

template <int kRows, bool kOnes>
void run_rows(const Pass& pass) {
  constexpr int kVectors = 4;  // 16 sums, 12 of sources, 2 tables, a mask: of 32 registers
  constexpr size_t kStep = kVectors * kVector;
  const FieldTables& tables = field();
  Step step{pass.coefficients, pass.stride, pass.columns, pass.sources, pass.targets, pass.offset, pass.summands};
  const size_t end = pass.offset + pass.bytes;
  for (; end - step.at >= kStep; step.at += kStep) run_step<kRows, kVectors, kOnes>(step, tables);
  for (; end - step.at >= kVector; step.at += kVector) run_step<kRows, 1, kOnes>(step, tables);
  if (step.at < end) run_tail<kRows, kOnes>(step, tables, end - step.at);
}

template <bool kOnes>
void run_any(const Pass& pass) {
  switch (pass.rows) {
    case 1: return run_rows<1, kOnes>(pass);
    case 2: return run_rows<2, kOnes>(pass);
    case 3: return run_rows<3, kOnes>(pass);
    default: return run_rows<4, kOnes>(pass);
  }
}

}  // namespace

void run_neon(const Pass& pass) {
  if (pass.first_row_ones) run_any<true>(pass);
  else run_any<false>(pass);
}

}  // namespace sdr::codec
#endif
