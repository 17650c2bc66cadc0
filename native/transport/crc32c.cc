// Three kernels: slicing by eight with tables anywhere; three interleaved crc32 instructions (SSE4.2), which hide
// the instruction's latency of three cycles; folding of 256 bytes at a time with VPCLMULQDQ (AVX-512).
//
// Bits are reflected: bit 31-i of a 32-bit word stands for x^i. Two consequences are used below, with P the polynomial:
//   crc32 instruction of a 64-bit word w on state 0:      w(x) * x^32 mod P
//   carry-less product of reflected 32- or 64-bit a, b, read as a reflected word of twice the size: a(x) * b(x) * x
#include "transport/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sdr {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected 0x1edc6f41

constexpr std::array<std::array<uint32_t, 256>, 8> make_tables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    tables[0][i] = crc;
  }
  for (uint32_t i = 0; i < 256; i++) {
    for (size_t t = 1; t < 8; t++) {
      const uint32_t before = tables[t - 1][i];
      tables[t][i] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}
constexpr auto kTables = make_tables();

uint32_t little32(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

uint32_t run_table(const uint8_t* data, size_t bytes, uint32_t crc) {
  crc = ~crc;
  for (; bytes >= 8; data += 8, bytes -= 8) {
    const uint32_t low = crc ^ little32(data);
    const uint32_t high = little32(data + 4);
    crc = kTables[7][low & 0xff] ^ kTables[6][(low >> 8) & 0xff] ^ kTables[5][(low >> 16) & 0xff] ^
          kTables[4][low >> 24] ^ kTables[3][high & 0xff] ^ kTables[2][(high >> 8) & 0xff] ^
          kTables[1][(high >> 16) & 0xff] ^ kTables[0][high >> 24];
  }
  for (; bytes > 0; data++, bytes--) crc = (crc >> 8) ^ kTables[0][(crc ^ *data) & 0xff];
  return ~crc;
}

#if defined(__x86_64__)

// x^n mod P, reflected.
constexpr uint32_t power_of_x(uint32_t n) {
  uint32_t value = 0x80000000;
  for (uint32_t i = 0; i < n; i++) value = (value >> 1) ^ ((value & 1) ? kPolynomial : 0);
  return value;
}

uint64_t load64(const uint8_t* p) {
  uint64_t value;
  std::memcpy(&value, p, 8);
  return value;
}

// The state after `bytes` more bytes, one instruction after the other.
__attribute__((target("sse4.2"))) uint32_t serial(const uint8_t* data, size_t bytes,
                                                  uint32_t state) {
  uint64_t wide = state;
  for (; bytes >= 8; data += 8, bytes -= 8) wide = _mm_crc32_u64(wide, load64(data));
  state = static_cast<uint32_t>(wide);
  if (bytes >= 4) {
    uint32_t word;
    std::memcpy(&word, data, 4);
    state = _mm_crc32_u32(state, word);
    data += 4, bytes -= 4;
  }
  for (; bytes > 0; data++, bytes--) state = _mm_crc32_u8(state, *data);
  return state;
}

// state * x^n mod P where factor = x^(n-33) mod P: the product adds x, the instruction x^32.
__attribute__((target("sse4.2,pclmul"))) uint32_t advance(uint32_t state, uint32_t factor) {
  const __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128(static_cast<int>(state)),
                                               _mm_cvtsi32_si128(static_cast<int>(factor)), 0);
  return static_cast<uint32_t>(
      _mm_crc32_u64(0, static_cast<uint64_t>(_mm_cvtsi128_si64(product))));
}

template <size_t kStripe>
__attribute__((target("sse4.2,pclmul"))) void three_stripes(const uint8_t*& data, size_t& bytes,
                                                            uint32_t& state) {
  constexpr uint32_t kOne = power_of_x(8 * kStripe - 33);
  constexpr uint32_t kTwo = power_of_x(16 * kStripe - 33);
  while (bytes >= 3 * kStripe) {
    uint64_t a = state, b = 0, c = 0;
    for (size_t i = 0; i < kStripe; i += 8) {
      a = _mm_crc32_u64(a, load64(data + i));
      b = _mm_crc32_u64(b, load64(data + kStripe + i));
      c = _mm_crc32_u64(c, load64(data + 2 * kStripe + i));
    }
    state = advance(static_cast<uint32_t>(a), kTwo) ^ advance(static_cast<uint32_t>(b), kOne) ^
            static_cast<uint32_t>(c);
    data += 3 * kStripe, bytes -= 3 * kStripe;
  }
}

__attribute__((target("sse4.2,pclmul"))) uint32_t run_sse42(const uint8_t* data, size_t bytes,
                                                            uint32_t crc) {
  uint32_t state = ~crc;
  three_stripes<1024>(data, bytes, state);
  three_stripes<128>(data, bytes, state);
  return ~serial(data, bytes, state);
}

// A lane's 128 bits carried over `distance` bits: low half * x^(distance+64), high half * x^distance; each product
// brings one x itself. Constants are reflected 64-bit words, so the 32-bit remainder stands in the upper half.
template <uint32_t kDistance>
__attribute__((target("avx512f"))) __m512i fold_factor() {
  constexpr auto low = static_cast<long long>(uint64_t{power_of_x(kDistance + 63)} << 32);
  constexpr auto high = static_cast<long long>(uint64_t{power_of_x(kDistance - 1)} << 32);
  return _mm512_set_epi64(high, low, high, low, high, low, high, low);
}

__attribute__((target("avx512f,vpclmulqdq"))) __m512i fold(__m512i lanes, __m512i factor,
                                                           __m512i next) {
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(lanes, factor, 0x00),
                                   _mm512_clmulepi64_epi128(lanes, factor, 0x11), next, 0x96);
}

__attribute__((target("avx512f,vpclmulqdq,sse4.2,pclmul"))) uint32_t run_vpclmul(
    const uint8_t* data, size_t bytes, uint32_t crc) {
  uint32_t state = ~crc;
  if (bytes < 256) {
    three_stripes<32>(data, bytes, state);
    return ~serial(data, bytes, state);
  }
  const __m512i by_64 = fold_factor<512>();
  const __m512i by_256 = fold_factor<2048>();
  __m512i a = _mm512_loadu_si512(data);
  __m512i b = _mm512_loadu_si512(data + 64);
  __m512i c = _mm512_loadu_si512(data + 128);
  __m512i d = _mm512_loadu_si512(data + 192);
  a = _mm512_xor_si512(a, _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
  data += 256, bytes -= 256;
  for (; bytes >= 256; data += 256, bytes -= 256) {
    a = fold(a, by_256, _mm512_loadu_si512(data));
    b = fold(b, by_256, _mm512_loadu_si512(data + 64));
    c = fold(c, by_256, _mm512_loadu_si512(data + 128));
    d = fold(d, by_256, _mm512_loadu_si512(data + 192));
  }
  a = fold(fold(fold(a, by_64, b), by_64, c), by_64, d);
  for (; bytes >= 64; data += 64, bytes -= 64) a = fold(a, by_64, _mm512_loadu_si512(data));
  alignas(64) uint8_t rest[64];
  _mm512_store_si512(rest, a);
  return ~serial(data, bytes, serial(rest, sizeof rest, 0));
}

bool has_sse42() { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"); }
bool has_vpclmul() {
  return has_sse42() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
}

#endif

}  // namespace

std::span<const Crc32cKernel> crc32c_kernels() {
#if defined(__x86_64__)
  static const Crc32cKernel kernels[] = {{"table", true, run_table},
                                         {"sse4.2", has_sse42(), run_sse42},
                                         {"vpclmulqdq", has_vpclmul(), run_vpclmul}};
#else
  static const Crc32cKernel kernels[] = {{"table", true, run_table}};
#endif
  return kernels;
}

uint32_t crc32c(const void* data, size_t bytes, uint32_t crc) {
  static const auto best = [] {
    auto run = run_table;
    for (const Crc32cKernel& kernel : crc32c_kernels())
      if (kernel.supported) run = kernel.run;
    return run;
  }();
  return best(static_cast<const uint8_t*>(data), bytes, crc);
}

}  // namespace sdr
