// Erasure codes over chunks of equal size: from k data chunks m parity chunks are made, and lost data chunks are made
// again from what is left. Systematic: data chunks go as they are.
//   mds         Cauchy Reed-Solomon over GF(2^8), polynomial 0x11d: any k of the k + m chunks suffice.
//   xor_groups  parity i is the sum of the data chunks j with j mod m = i (SDR-RDMA, arXiv 2505.05366, section 4.1):
//               one loss in each group is recovered.
// Knows no thread, transport or clock: bytes in, bytes out. Any length and alignment; no byte beyond a chunk's length
// is read or written. A data chunk may be absent (null) or shorter than the chunk size: what is missing counts as
// zeros, so that the last block of a message needs no padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace sdr::codec {

inline constexpr uint32_t kChunksMax = 256;  // k + m

enum class Kind : uint8_t { mds = 0, xor_groups = 1 };

struct Shape {
  Kind kind = Kind::mds;
  uint32_t k = 0, m = 0;
};
// k >= 1, m >= 1, k + m <= kChunksMax; xor_groups: m <= k.
bool is_valid(const Shape& shape);

// A chunk that is read. Null: absent, all zeros.
struct Source {
  const uint8_t* data = nullptr;
  size_t bytes = 0;
};
// A chunk that may be written.
struct Target {
  uint8_t* data = nullptr;
  size_t bytes = 0;
};

enum class Result : uint8_t {
  ok = 0,
  invalid = 1,      // an index, a flag or a length is out of range, or a buffer is null that must not be
  overlap = 2,      // a buffer that is written overlaps another one
  too_few = 3,      // not recoverable from what is present; nothing was written
};

class Code {
 public:
  // One object a shape for the whole process, shared between threads: the shapes asked for last are kept. Null for an
  // invalid shape.
  static std::shared_ptr<const Code> of(const Shape& shape);
  virtual ~Code() = default;

  const Shape& shape() const { return shape_; }

  // Writes the m parity chunks, each `chunk_bytes` long, from `data` (k of them, each of at most chunk_bytes). Those
  // that are null are not wanted.
  virtual Result encode(const Source* data, uint8_t* const* parity, size_t chunk_bytes) const = 0;
  // Adds data chunk `index` to parity chunks that begin as zeros: after each of the k has been added once, in any
  // order, they hold what encode() writes. An absent chunk adds nothing.
  virtual Result update(uint32_t index, Source data, uint8_t* const* parity, size_t chunk_bytes) const = 0;

  // Whether the missing data chunks can be made from what is present. `present`: k + m flags, data first, 0 or 1.
  virtual bool is_recoverable(const uint8_t* present) const = 0;
  // Writes the missing data chunks. `data`: k targets, with their lengths (at most chunk_bytes; 0 with null for chunks
  // that a short block does not have: these are to be flagged present); those present are only read. `parity`: m
  // sources of chunk_bytes each, where present; others may be null. Which survivors are used when there are more than
  // needed is deterministic: lowest parity first; *parity_used, written when ok, tells how many. Until it
  // returns, targets may hold other bytes. Matrices are cached by pattern.
  virtual Result decode(const Target* data, const uint8_t* const* parity, const uint8_t* present, size_t chunk_bytes,
                        uint32_t* parity_used) const = 0;

 protected:
  explicit Code(const Shape& shape) : shape_(shape) {}

 private:
  const Shape shape_;
};

// The instructions in use, chosen once: the best the processor has, or what the environment variable
// SDR_CODEC_KERNEL names (scalar, avx2, gfni, neon; one that the processor lacks is an error at the first use: the
// process is told on stderr and the best is taken).
const char* kernel_name();

}  // namespace sdr::codec
