// CRC-32C (Castagnoli, RFC 3720 appendix B.4): the checksum of UDP datagrams. Pure functions; the fastest kernel
// that the CPU has is chosen once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sdr {

// The CRC of `bytes` bytes at `data`. To go on over several pieces, pass the result of the piece before as `crc`.
uint32_t crc32c(const void* data, size_t bytes, uint32_t crc = 0);

// One implementation; `supported` tells whether this CPU can run it. All give the same result.
struct Crc32cKernel {
  const char* name;
  bool supported;
  uint32_t (*run)(const uint8_t* data, size_t bytes, uint32_t crc);
};
// Slowest first; crc32c() uses the last supported one. For tests and benchmarks.
std::span<const Crc32cKernel> crc32c_kernels();

}  // namespace sdr
