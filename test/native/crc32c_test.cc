// CRC-32C: every kernel against the published vectors, against a bit-by-bit oracle, and at the edge of an allocation.
#include "transport/crc32c.h"

#include "check.h"

#include <chrono>
#include <memory>
#include <random>

namespace {

uint32_t oracle(const uint8_t* data, size_t bytes, uint32_t crc) {
  crc = ~crc;
  for (size_t i = 0; i < bytes; i++) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0u);
  }
  return ~crc;
}

template <class Body>
void each_kernel(Body body) {
  for (const sdr::Crc32cKernel& kernel : sdr::crc32c_kernels()) {
    if (!kernel.supported) {
      std::printf("  skipped %s: this CPU lacks it\n", kernel.name);
      continue;
    }
    body(kernel);
  }
}

}  // namespace

TEST(every_kernel_gives_the_vectors_of_rfc3720) {
  uint8_t zeros[32] = {}, ones[32], up[32], down[32];
  const uint8_t scsi_read[48] = {0x01, 0xc0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0, 0,    0, 0,    0,
                                 0x14, 0,    0, 0, 0, 0, 4, 0,    0, 0, 0, 0x14, 0, 0, 0, 0x18,
                                 0x28, 0,    0, 0, 0, 0, 0, 0,    2, 0, 0, 0, 0,    0, 0,    0};
  for (int i = 0; i < 32; i++) {
    ones[i] = 0xff, up[i] = static_cast<uint8_t>(i), down[i] = static_cast<uint8_t>(31 - i);
  }
  each_kernel([&](const sdr::Crc32cKernel& kernel) {
    CHECK_EQ(kernel.run(zeros, 32, 0), 0x8a9136aau);
    CHECK_EQ(kernel.run(ones, 32, 0), 0x62a8ab43u);
    CHECK_EQ(kernel.run(up, 32, 0), 0x46dd794eu);
    CHECK_EQ(kernel.run(down, 32, 0), 0x113fdb5cu);
    CHECK_EQ(kernel.run(scsi_read, 48, 0), 0xd9963a56u);
    CHECK_EQ(kernel.run(reinterpret_cast<const uint8_t*>("123456789"), 9, 0), 0xe3069283u);
    CHECK_EQ(kernel.run(zeros, 0, 0), 0u);
  });
}

TEST(every_kernel_equals_the_oracle_at_every_length_and_alignment) {
  constexpr size_t kMax = 3200;
  std::mt19937 random(7);
  std::printf("  seed 7\n");
  each_kernel([&](const sdr::Crc32cKernel& kernel) {
    for (size_t bytes = 0; bytes < kMax; bytes += 1 + bytes / 64) {
      // Ends exactly where the allocation ends, so that a read beyond shows under AddressSanitizer.
      const size_t shift = random() % 64;
      std::unique_ptr<uint8_t[]> buffer(new uint8_t[shift + bytes]);
      for (size_t i = 0; i < shift + bytes; i++) buffer[i] = static_cast<uint8_t>(random());
      const auto start = static_cast<uint32_t>(random());
      CHECK_EQ(kernel.run(buffer.get() + shift, bytes, start),
               oracle(buffer.get() + shift, bytes, start));
    }
    std::vector<uint8_t> large(65507);
    for (uint8_t& byte : large) byte = static_cast<uint8_t>(random());
    CHECK_EQ(kernel.run(large.data(), large.size(), 0), oracle(large.data(), large.size(), 0));
  });
}

TEST(pieces_chain_to_the_whole) {
  std::mt19937 random(11);
  std::vector<uint8_t> data(9000);
  for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
  const uint32_t whole = sdr::crc32c(data.data(), data.size());
  for (size_t cut = 0; cut <= data.size(); cut += 37)
    CHECK_EQ(sdr::crc32c(data.data() + cut, data.size() - cut, sdr::crc32c(data.data(), cut)),
             whole);
}

TEST(one_flipped_bit_always_changes_the_sum) {
  std::vector<uint8_t> data(1412, 0x5a);
  const uint32_t before = sdr::crc32c(data.data(), data.size());
  for (size_t bit = 0; bit < data.size() * 8; bit++) {
    data[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    CHECK(sdr::crc32c(data.data(), data.size()) != before);
    data[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
  }
}

TEST(kernels_report_their_speed) {
  std::vector<uint8_t> data(1412, 1);
  each_kernel([&](const sdr::Crc32cKernel& kernel) {
    uint32_t crc = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 20000; i++) crc = kernel.run(data.data(), data.size(), crc);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    std::printf("  %s: %.1f GB/s at %zu bytes (%08x)\n", kernel.name,
                20000.0 * static_cast<double>(data.size()) / took.count() / 1e9, data.size(), crc);
  });
}
