// AVX-512 with GFNI. Multiplication by a constant is one GF2P8AFFINEQB, for any polynomial (GF2P8MULB knows only
// 0x11b). All rows of a pass stay in registers while every source streams by once: a target is written once, with its
// final value. Sources go in pairs, so that one ternary-logic instruction adds two products.
#if defined(__x86_64__)
#include <immintrin.h>

#include "codec/gf256.h"
#include "codec/kernels.h"

#define SDR_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,gfni")))
#define SDR_INLINE __attribute__((target("avx512f,avx512bw,avx512vl,gfni"), always_inline)) inline

namespace sdr::codec {
namespace {

constexpr size_t kVector = 64;
constexpr int kThreeWayXor = 0x96;

// The affine matrices of a pass, column after column, so that the inner loop reads them in order.
struct Matrices {
  alignas(64) uint64_t at[256 * kRowsMaxGfni];
};

// What one step works on. `mask`: the bytes of the last vector that exist.
struct Step {
  AheadCursor ahead;
  const uint64_t* matrices;
  const uint8_t* const* sources;
  uint8_t* const* targets;
  uint32_t columns;
  size_t at;
  __mmask64 mask;
  const uint8_t* const* summands;
};

template <bool kMasked>
SDR_INLINE __m512i load(const uint8_t* from, __mmask64 mask) {
  if constexpr (kMasked) return _mm512_maskz_loadu_epi8(mask, from);
  return _mm512_loadu_si512(from);
}

// How a target is written: the whole vector, what the mask says, or past the caches.
enum class Write { whole, masked, past };

template <Write kWrite>
SDR_INLINE void store(uint8_t* to, __m512i value, __mmask64 mask) {
  if constexpr (kWrite == Write::masked) _mm512_mask_storeu_epi8(to, mask, value);
  else if constexpr (kWrite == Write::past) _mm512_stream_si512(reinterpret_cast<__m512i*>(to), value);
  else _mm512_storeu_si512(to, value);
}

// Rows by vectors bytes of the targets from all sources.
template <int kRows, int kVectors, bool kOnes, Write kWrite>
SDR_INLINE void run_step(Step& step) {
  constexpr bool kMasked = kWrite == Write::masked;
  __m512i sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++)
      sum[r][v] = step.summands != nullptr ? load<kMasked>(step.summands[r] + step.at + v * kVector, step.mask)
                                           : _mm512_setzero_si512();
  }
  const uint64_t* matrix = step.matrices;
  uint32_t c = 0;
  for (; c + 2 <= step.columns; c += 2, matrix += 2 * kRows) {
    const uint8_t* one = step.sources[c];
    const uint8_t* two = step.sources[c + 1];
    __m512i a[kVectors], b[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) {
      a[v] = load<kMasked>(one + step.at + v * kVector, step.mask);
      b[v] = load<kMasked>(two + step.at + v * kVector, step.mask);
    }
    step.ahead.ask<2 * kVectors>();
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
      if (kOnes && r == 0) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; v++)
          sum[r][v] = _mm512_ternarylogic_epi64(sum[r][v], a[v], b[v], kThreeWayXor);
        continue;
      }
      const __m512i by_a = _mm512_set1_epi64(static_cast<long long>(matrix[r]));
      const __m512i by_b = _mm512_set1_epi64(static_cast<long long>(matrix[kRows + r]));
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; v++) {
        sum[r][v] = _mm512_ternarylogic_epi64(sum[r][v], _mm512_gf2p8affine_epi64_epi8(a[v], by_a, 0),
                                              _mm512_gf2p8affine_epi64_epi8(b[v], by_b, 0), kThreeWayXor);
      }
    }
  }
  if (c < step.columns) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) {
      const __m512i a = load<kMasked>(step.sources[c] + step.at + v * kVector, step.mask);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) {
        const __m512i by = _mm512_set1_epi64(static_cast<long long>(matrix[r]));
        sum[r][v] = _mm512_xor_si512(sum[r][v], kOnes && r == 0 ? a : _mm512_gf2p8affine_epi64_epi8(a, by, 0));
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) store<kWrite>(step.targets[r] + step.at + v * kVector, sum[r][v], step.mask);
  }
}

// As many vectors a step as the registers hold beside the rows.
constexpr int vectors_of(int rows) { return rows <= 4 ? 4 : 2; }

// Such stores want whole cache lines.
bool may_write_past(const Pass& pass, int rows) {
  uintptr_t together = 0;
  for (int r = 0; r < rows; r++) together |= reinterpret_cast<uintptr_t>(pass.targets[r] + pass.offset);
  return pass.past_caches && together % kCacheLine == 0;
}

template <int kRows, bool kOnes>
SDR_TARGET void run_rows(const Pass& pass) {
  constexpr int kVectors = vectors_of(kRows);
  constexpr size_t kStep = kVectors * kVector;
  Matrices matrices;
  const FieldTables& tables = field();
  for (uint32_t c = 0; c < pass.columns; c++) {
    for (int r = 0; r < kRows; r++)
      matrices.at[c * kRows + static_cast<uint32_t>(r)] =
          tables.affine[pass.coefficients[static_cast<size_t>(r) * pass.stride + c]];
  }
  Step step{AheadCursor(pass.ahead), matrices.at, pass.sources, pass.targets, pass.columns, pass.offset, ~__mmask64{0},
            pass.summands};
  const size_t end = pass.offset + pass.bytes;
  if (may_write_past(pass, kRows)) {
    for (; end - step.at >= kStep; step.at += kStep) run_step<kRows, kVectors, kOnes, Write::past>(step);
    _mm_sfence();  // what others do next comes after these stores, as after all others
  } else {
    for (; end - step.at >= kStep; step.at += kStep) run_step<kRows, kVectors, kOnes, Write::whole>(step);
  }
  for (; step.at < end; step.at += kVector) {
    const size_t left = end - step.at;
    step.mask = left >= kVector ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    run_step<kRows, 1, kOnes, Write::masked>(step);
  }
}

template <bool kOnes>
void run_any(const Pass& pass) {
  switch (pass.rows) {
    case 1: return run_rows<1, kOnes>(pass);
    case 2: return run_rows<2, kOnes>(pass);
    case 3: return run_rows<3, kOnes>(pass);
    case 4: return run_rows<4, kOnes>(pass);
    case 5: return run_rows<5, kOnes>(pass);
    case 6: return run_rows<6, kOnes>(pass);
    case 7: return run_rows<7, kOnes>(pass);
    default: return run_rows<8, kOnes>(pass);
  }
}

}  // namespace

void run_gfni(const Pass& pass) {
  if (pass.first_row_ones) run_any<true>(pass);
  else run_any<false>(pass);
}

}  // namespace sdr::codec
#endif
