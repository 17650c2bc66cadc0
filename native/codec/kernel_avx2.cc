// AVX2: a product by a constant is two look-ups of sixteen entries, one for each half of the byte.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "codec/gf256.h"
#include "codec/kernels.h"

#define SDR_TARGET __attribute__((target("avx2")))
#define SDR_INLINE __attribute__((target("avx2"), always_inline)) inline

namespace sdr::codec {
namespace {

constexpr size_t kVector = 32;

struct Step {
  AheadCursor ahead;
  const uint8_t* coefficients;
  size_t stride;
  uint32_t columns;
  const uint8_t* const* sources;
  uint8_t* const* targets;
  size_t at;
  const uint8_t* const* summands;
};

SDR_INLINE __m256i load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
SDR_INLINE void store(uint8_t* to, __m256i value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
SDR_INLINE __m256i table(const uint8_t* from) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

template <int kRows, int kVectors, bool kOnes>
SDR_INLINE void run_step(Step& step, const FieldTables& tables) {
  const __m256i low_half = _mm256_set1_epi8(15);
  __m256i sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++)
      sum[r][v] = step.summands != nullptr ? load(step.summands[r] + step.at + v * kVector) : _mm256_setzero_si256();
  }
  for (uint32_t c = 0; c < step.columns; c++) {
    const uint8_t* source = step.sources[c];
    __m256i whole[kVectors], low[kVectors], high[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) {
      whole[v] = load(source + step.at + v * kVector);
      low[v] = _mm256_and_si256(whole[v], low_half);
      high[v] = _mm256_and_si256(_mm256_srli_epi64(whole[v], 4), low_half);
    }
    if constexpr (kVectors * kVector >= kCacheLine) step.ahead.ask<kVectors * kVector / kCacheLine>();
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
      if (kOnes && r == 0) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; v++) sum[r][v] = _mm256_xor_si256(sum[r][v], whole[v]);
        continue;
      }
      const uint8_t* nibbles = tables.nibbles[step.coefficients[static_cast<size_t>(r) * step.stride + c]];
      const __m256i of_low = table(nibbles), of_high = table(nibbles + 16);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; v++) {
        const __m256i product =
            _mm256_xor_si256(_mm256_shuffle_epi8(of_low, low[v]), _mm256_shuffle_epi8(of_high, high[v]));
        sum[r][v] = _mm256_xor_si256(sum[r][v], product);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) store(step.targets[r] + step.at + v * kVector, sum[r][v]);
  }
}

// The last bytes, fewer than a vector: through copies, so that nothing is touched beyond the ends.
template <int kRows, bool kOnes>
SDR_INLINE void run_tail(const Step& step, const FieldTables& tables, size_t bytes) {
  alignas(32) uint8_t from[256][kVector];
  alignas(32) uint8_t to[kRows][kVector] = {};
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
  Step copies{step.ahead, step.coefficients, step.stride, step.columns, sources, targets, 0,
              step.summands != nullptr ? targets : nullptr};
  run_step<kRows, 1, kOnes>(copies, tables);
  for (int r = 0; r < kRows; r++) std::memcpy(step.targets[r] + step.at, to[r], bytes);
}

template <int kRows, bool kOnes>
SDR_TARGET void run_rows(const Pass& pass) {
  constexpr int kVectors = kRows <= 2 ? 4 : 2;
  constexpr size_t kStep = kVectors * kVector;
  const FieldTables& tables = field();
  Step step{AheadCursor(pass.ahead), pass.coefficients, pass.stride, pass.columns, pass.sources, pass.targets,
            pass.offset, pass.summands};
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

void run_avx2(const Pass& pass) {
  if (pass.first_row_ones) run_any<true>(pass);
  else run_any<false>(pass);
}

}  // namespace sdr::codec
#endif
