// What the codec's tests share: an oracle of the field and of both codes that knows nothing of the library, and blocks
// of chunks with every chunk in an allocation of its own size.
#pragma once

#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "sdr/codec.h"

namespace sdr::codec::test {

using Bytes = std::vector<uint8_t>;

// Shift and add, by the definition of polynomial 0x11d.
inline uint8_t plain_multiply(uint8_t a, uint8_t b) {
  uint32_t sum = 0;
  for (uint32_t bit = 0; bit < 8; bit++) sum ^= (b >> bit & 1) != 0 ? uint32_t{a} << bit : 0;
  for (uint32_t bit = 14; bit >= 8; bit--) sum ^= (sum >> bit & 1) != 0 ? 0x11du << (bit - 8) : 0;
  return static_cast<uint8_t>(sum);
}
// The same, looked up.
inline uint8_t product(uint8_t a, uint8_t b) {
  static const Bytes all = [] {
    Bytes table(65536);
    for (uint32_t i = 0; i < 65536; i++)
      table[i] = plain_multiply(static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i & 255));
    return table;
  }();
  return all[size_t{a} << 8 | b];
}
inline uint8_t plain_invert(uint8_t a) {
  static const Bytes all = [] {
    Bytes table(256, 0);
    for (uint32_t i = 0; i < 65536; i++) {
      if (product(static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i & 255)) == 1)
        table[i >> 8] = static_cast<uint8_t>(i & 255);
    }
    return table;
  }();
  return all[a];
}
// Coefficient of data chunk j in parity chunk i, as native/codec/matrix.h says: (x0 + yj)(xi + y0) over
// (xi + yj)(x0 + y0).
inline uint8_t plain_coefficient(const Shape& shape, uint32_t i, uint32_t j) {
  if (shape.kind == Kind::xor_groups) return j % shape.m == i ? 1 : 0;
  const auto sum = [](uint32_t x, uint32_t column) { return static_cast<uint8_t>(x ^ (255 - column)); };
  return product(product(sum(0, j), sum(i, 0)), plain_invert(product(sum(i, j), sum(0, 0))));
}

inline void fill(Bytes* bytes, std::mt19937& random) {
  for (uint8_t& byte : *bytes) byte = static_cast<uint8_t>(random());
}

// A block: data chunks (some short or absent), and the parity that encode() makes.
struct Block {
  Shape shape;
  size_t chunk_bytes;
  std::shared_ptr<const Code> code;
  std::vector<Bytes> data, parity;

  Block(const Shape& of, size_t bytes, bool ragged, std::mt19937& random)
      : shape(of), chunk_bytes(bytes), code(Code::of(of)), data(of.k), parity(of.m) {
    CHECK(code != nullptr);
    for (Bytes& chunk : data) {
      const uint32_t kind = ragged ? random() % 4 : 0;
      chunk.resize(kind == 1 ? 0 : kind == 2 ? random() % (bytes + 1) : bytes);
      fill(&chunk, random);
    }
    for (Bytes& chunk : parity) {
      chunk.resize(bytes);
      fill(&chunk, random);  // encode() does not count on zeros
    }
    CHECK_EQ(code->encode(sources().data(), parity_pointers().data(), chunk_bytes), Result::ok);
  }

  std::vector<Source> sources() const {
    std::vector<Source> all;
    for (const Bytes& chunk : data) all.push_back({chunk.empty() ? nullptr : chunk.data(), chunk.size()});
    return all;
  }
  std::vector<uint8_t*> parity_pointers() {
    std::vector<uint8_t*> all;
    for (Bytes& chunk : parity) all.push_back(chunk.data());
    return all;
  }
  // Parity by the definition.
  Bytes plain_parity(uint32_t i) const {
    Bytes sum(chunk_bytes, 0);
    for (uint32_t j = 0; j < shape.k; j++) {
      const uint8_t factor = plain_coefficient(shape, i, j);
      for (size_t at = 0; at < data[j].size(); at++) sum[at] ^= product(factor, data[j][at]);
    }
    return sum;
  }
  // Whether the definition of the code says that the missing data chunks can be made.
  bool plain_recoverable(const Bytes& present) const {
    for (uint32_t group = 0; group < (shape.kind == Kind::mds ? 1 : shape.m); group++) {
      const uint32_t step = shape.kind == Kind::mds ? 1 : shape.m;
      uint32_t missing = 0, spare = 0;
      for (uint32_t j = group; j < shape.k; j += step) missing += present[j] == 0 ? 1 : 0;
      for (uint32_t i = group; i < (shape.kind == Kind::mds ? shape.m : group + 1); i++) spare += present[shape.k + i];
      if (missing > spare) return false;
    }
    return true;
  }

  // Decodes copies of which the missing chunks hold other bytes, and checks everything that decode() promises.
  void check_decode(const Bytes& present) const {
    std::vector<Bytes> chunks = data, spare = parity;
    uint32_t missing = 0;
    for (uint32_t j = 0; j < shape.k; j++) {
      if (present[j] == 0) missing++, spoil(&chunks[j]);
    }
    for (uint32_t i = 0; i < shape.m; i++) {
      if (present[shape.k + i] == 0) spoil(&spare[i]);
    }
    const std::vector<Bytes> before = chunks, spare_before = spare;
    std::vector<Target> targets;
    std::vector<const uint8_t*> pointers;
    for (Bytes& chunk : chunks) targets.push_back({chunk.empty() ? nullptr : chunk.data(), chunk.size()});
    for (const Bytes& chunk : spare) pointers.push_back(chunk.data());
    const bool recoverable = plain_recoverable(present);
    uint32_t used = UINT32_MAX;
    CHECK_EQ(code->is_recoverable(present.data()), recoverable);
    const Result result = code->decode(targets.data(), pointers.data(), present.data(), chunk_bytes, &used);
    CHECK_EQ(result, recoverable ? Result::ok : Result::too_few);
    CHECK(chunks == (recoverable ? data : before));
    CHECK(spare == spare_before);
    if (recoverable) CHECK_EQ(used, missing);
  }

 private:
  static void spoil(Bytes* bytes) {
    for (uint8_t& byte : *bytes) byte = static_cast<uint8_t>(~byte);
  }
};

// Present flags with `lost` of the k + m chunks missing, drawn at random.
inline Bytes random_pattern(const Shape& shape, uint32_t lost, std::mt19937& random) {
  Bytes present(shape.k + shape.m, 1);
  for (uint32_t n = 0; n < lost;) {
    uint8_t& flag = present[random() % present.size()];
    if (flag == 1) flag = 0, n++;
  }
  return present;
}

}  // namespace sdr::codec::test
