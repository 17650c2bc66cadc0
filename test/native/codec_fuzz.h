// Derives a code and everything that a caller hands to it from arbitrary bytes: shapes in and out of range, lengths
// that do not fit, flags that are none, null pointers, and buffers that overlap. Whatever comes, a call must answer
// with one of its results, write only where it may, and where it says ok have written the right bytes: those are
// compared with sums of products by the definition. Ends the process through CHECK otherwise.
#pragma once

#include "codec_fixture.h"

#include <algorithm>
#include <optional>

namespace sdr::codec::test {

class FuzzCase {
 public:
  FuzzCase(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // What the call gave; nothing for a shape that was refused.
  std::optional<Result> run() {
    const uint8_t bits = byte();
    shape_ = {static_cast<Kind>(bits % 32 == 0 ? byte() : bits & 1), count(bits & 2), count(bits & 4)};
    code_ = Code::of(shape_);
    CHECK_EQ(code_ != nullptr, is_valid(shape_));
    if (code_ == nullptr) return std::nullopt;
    chunk_bytes_ = bits % 64 == 8 ? SIZE_MAX - byte() : byte() * (bits & 8 ? 5u : 1u);
    std::mt19937 random(byte());
    arena_.resize(kArenaBytes);
    fill(&arena_, random);
    disjoint_ = (bits & 48) != 0;
    for (uint32_t i = 0; i < shape_.k + shape_.m; i++) buffers_.push_back(buffer());
    switch (byte() % 3) {
      case 0: return encode();
      case 1: return update();
      default: return decode();
    }
  }

 private:
  static constexpr size_t kArenaBytes = 8192;

  struct Buffer {
    size_t at = 0, bytes = 0;
    bool null = false;
  };

  // Zeros after the end.
  uint8_t byte() { return next_ < size_ ? data_[next_++] : 0; }
  uint32_t count(bool wild) {
    if (!wild) return 1 + byte() % 12;
    const uint32_t low = byte();
    return low > 250 ? UINT32_MAX - byte() : low;
  }

  // Data chunks are at most as long as parity ones, mostly; one after the other, mostly.
  Buffer buffer() {
    const uint8_t bits = byte();
    const bool parity = buffers_.size() >= shape_.k;
    size_t bytes = std::min<size_t>(chunk_bytes_, 2000);
    if (!parity && bits % 4 == 1) bytes = bits * bytes / 256;
    if (!parity && bits % 128 == 2) bytes += bits;
    if (disjoint_ && bits < 250 && used_ + bytes <= kArenaBytes) {
      used_ += bytes;
      return {used_ - bytes, bytes, bits % 128 == 3};
    }
    bytes = std::min(bytes, kArenaBytes);
    return {(size_t{byte()} << 8 | byte()) % (kArenaBytes - bytes + 1), bytes, bits % 128 == 3};
  }

  Source source(const Buffer& buffer) { return {buffer.null ? nullptr : &arena_[buffer.at], buffer.bytes}; }
  uint8_t* pointer(const Buffer& buffer) { return buffer.null ? nullptr : &arena_[buffer.at]; }
  std::vector<uint8_t*> parity() {
    std::vector<uint8_t*> all;
    for (uint32_t i = 0; i < shape_.m; i++) all.push_back(pointer(buffers_[shape_.k + i]));
    return all;
  }
  static bool overlap(const Buffer& a, const Buffer& b) {
    return a.bytes > 0 && b.bytes > 0 && a.at < b.at + b.bytes && b.at < a.at + a.bytes;
  }
  // Whether one of `written` overlaps another of them, or one of `read`.
  static bool any_overlap(const std::vector<Buffer>& written, const std::vector<Buffer>& read) {
    for (size_t i = 0; i < written.size(); i++) {
      for (size_t j = i + 1; j < written.size(); j++) {
        if (overlap(written[i], written[j])) return true;
      }
      for (const Buffer& other : read) {
        if (overlap(written[i], other)) return true;
      }
    }
    return false;
  }
  Result expected(bool invalid, const std::vector<Buffer>& written, const std::vector<Buffer>& read) const {
    if (invalid) return Result::invalid;
    return any_overlap(written, read) ? Result::overlap : Result::ok;
  }
  std::vector<Buffer> parity_buffers() const { return {buffers_.begin() + shape_.k, buffers_.end()}; }
  bool is_parity_invalid(uint32_t i) const {
    const Buffer& one = buffers_[shape_.k + i];
    return chunk_bytes_ > 2000 || (one.null && chunk_bytes_ > 0);
  }

  // Adds `factor` times a data chunk, of the arena as it was, to the parity chunk in `to`.
  static void add(Bytes* to, size_t at, const Bytes& from, const Buffer& chunk, uint8_t factor) {
    for (size_t i = 0; i < chunk.bytes; i++) (*to)[at + i] ^= product(factor, from[chunk.at + i]);
  }

  Result encode() {
    std::vector<Source> sources;
    std::vector<Buffer> read;
    bool invalid = false;
    for (uint32_t j = 0; j < shape_.k; j++) {
      sources.push_back(source(buffers_[j]));
      if (buffers_[j].null) continue;
      invalid |= buffers_[j].bytes > chunk_bytes_;
      read.push_back(buffers_[j]);
    }
    std::vector<Buffer> written;  // those that are null are not wanted
    for (uint32_t i = 0; i < shape_.m; i++) {
      if (buffers_[shape_.k + i].null) continue;
      invalid |= is_parity_invalid(i);
      written.push_back(buffers_[shape_.k + i]);
    }
    Bytes after = arena_;
    const Result wanted = expected(invalid, written, read);
    for (uint32_t i = 0; i < shape_.m && wanted == Result::ok; i++) {
      const Buffer& to = buffers_[shape_.k + i];
      if (to.null) continue;
      std::fill_n(after.begin() + static_cast<ptrdiff_t>(to.at), to.bytes, 0);
      for (uint32_t j = 0; j < shape_.k; j++) {
        if (!buffers_[j].null) add(&after, to.at, arena_, buffers_[j], plain_coefficient(shape_, i, j));
      }
    }
    CHECK_EQ(code_->encode(sources.data(), parity().data(), chunk_bytes_), wanted);
    CHECK(arena_ == after);
    return wanted;
  }

  Result update() {
    const uint32_t index = byte() % (shape_.k + 1);
    const Buffer from = buffers_[index == shape_.k ? 0 : index];
    bool invalid = index == shape_.k || (!from.null && from.bytes > chunk_bytes_);
    for (uint32_t i = 0; i < shape_.m; i++) invalid |= is_parity_invalid(i);
    Bytes after = arena_;
    const Result wanted =
        expected(invalid, parity_buffers(), from.null ? std::vector<Buffer>{} : std::vector<Buffer>{from});
    for (uint32_t i = 0; i < shape_.m && wanted == Result::ok && !from.null; i++)
      add(&after, buffers_[shape_.k + i].at, arena_, from, plain_coefficient(shape_, i, index));
    CHECK_EQ(code_->update(index, source(from), parity().data(), chunk_bytes_), wanted);
    CHECK(arena_ == after);
    return wanted;
  }

  Result decode() {
    std::vector<Target> targets;
    std::vector<const uint8_t*> spare;
    const uint32_t sparsity = 2 + byte() % 8;  // of losses
    Bytes present;
    std::vector<Buffer> read, written;
    bool invalid = false;
    uint32_t missing = 0;
    for (uint32_t i = 0; i < shape_.k + shape_.m; i++) {
      const uint8_t bits = byte();
      const Buffer& one = buffers_[i];
      present.push_back(bits == 255 ? 2 : bits % sparsity == 0 ? 0 : 1);
      invalid |= present[i] > 1;
      if (i >= shape_.k) {
        spare.push_back(pointer(one));
        if (present[i] == 0) continue;
        invalid |= is_parity_invalid(i - shape_.k);
        read.push_back(one);
      } else {
        targets.push_back({pointer(one), one.bytes});
        invalid |= one.bytes > chunk_bytes_ || (one.null && one.bytes > 0);
        if (present[i] == 0) missing++;
        (present[i] == 0 ? written : read).push_back(one);
      }
    }
    uint32_t used = UINT32_MAX;
    const Bytes before = arena_;
    const bool recoverable = code_->is_recoverable(present.data());
    const Result result = code_->decode(targets.data(), spare.data(), present.data(), chunk_bytes_, &used);
    const Result wanted = expected(invalid, written, read);
    CHECK_EQ(result, wanted == Result::ok && !recoverable ? Result::too_few : wanted);
    if (result != Result::ok) {
      CHECK(arena_ == before);
      CHECK_EQ(used, UINT32_MAX);
      return result;
    }
    CHECK_EQ(used, missing);
    check_untouched(before, written);
    check_sums(present, missing);
    return result;
  }

  void check_untouched(const Bytes& before, const std::vector<Buffer>& written) const {
    Bytes masked = arena_;
    for (const Buffer& one : written) {
      for (size_t i = one.at; i < one.at + one.bytes; i++) masked[i] = before[i];
    }
    CHECK(masked == before);
  }

  // The parity chunks that were used are now the sums of all data chunks, up to where the shortest missing one ends.
  void check_sums(const Bytes& present, uint32_t missing) const {
    size_t bytes = chunk_bytes_;
    for (uint32_t j = 0; j < shape_.k; j++) {
      if (present[j] == 0) bytes = std::min(bytes, buffers_[j].bytes);
    }
    for (uint32_t i = 0, used = 0; i < shape_.m && used < missing; i++) {
      if (present[shape_.k + i] == 0) continue;
      bool group_lost = shape_.kind == Kind::mds;
      for (uint32_t j = i; j < shape_.k; j += shape_.m) group_lost |= present[j] == 0;
      if (!group_lost) continue;
      used++;
      Bytes sum(chunk_bytes_, 0);
      for (uint32_t j = 0; j < shape_.k; j++) add(&sum, 0, arena_, buffers_[j], plain_coefficient(shape_, i, j));
      const uint8_t* chunk = arena_.data() + buffers_[shape_.k + i].at;
      CHECK(std::equal(sum.begin(), sum.begin() + static_cast<ptrdiff_t>(bytes), chunk));
    }
  }

  const uint8_t* const data_;
  const size_t size_;
  size_t next_ = 0;
  Shape shape_;
  std::shared_ptr<const Code> code_;
  size_t chunk_bytes_ = 0, used_ = 0;
  bool disjoint_ = false;
  Bytes arena_;
  std::vector<Buffer> buffers_;
};

inline std::optional<Result> codec_fuzz_one(const uint8_t* data, size_t size) { return FuzzCase(data, size).run(); }

}  // namespace sdr::codec::test
