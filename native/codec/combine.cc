#include "codec/combine.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <memory>
#include <new>
#include <optional>

namespace sdr::codec {
namespace {

// Sources come from memory in pieces: so many bytes of a group of them. While one piece is worked on, the second-level
// cache is asked for the next; rows that take several passes find the piece there. Groups are small because chunks lie
// powers of two apart: a line of each of them falls into the same few sets of a cache, which hold no more. Their sums
// wait in a cache from group to group; the last one writes the targets.
constexpr uint32_t kGroupColumns = 8;
constexpr uint32_t kOneGroupColumnsMax = 12;  // not worth cutting
constexpr size_t kPieceBytesMin = 512, kPieceBytesMax = 4096;  // of each source
constexpr size_t kSumsBytes = 128 * 1024;  // of all rows, where they are many
// Longer targets are written past the caches, which spares reading what is overwritten anyway. Half of the speed for
// parity that is not read at once; next to nothing where it is.
constexpr size_t kPastCachesBytesMin = 2048;

size_t piece_bytes(uint32_t rows) {
  return std::clamp(kSumsBytes / rows / kPieceBytesMin * kPieceBytesMin, kPieceBytesMin, kPieceBytesMax);
}

// A matrix with the chunks it belongs to, all of which have the bytes that are worked on.
struct Block {
  const uint8_t* coefficients;
  size_t stride;
  uint32_t rows, columns;
  const uint8_t* const* sources;
  uint8_t* const* targets;
  bool add;
};

bool is_ones(const uint8_t* row, uint32_t columns) {
  return std::all_of(row, row + columns, [](uint8_t coefficient) { return coefficient == 1; });
}

// The sums of all rows over one piece, as targets and summands of a pass at the piece's offset.
class Sums {
 public:
  Sums(uint32_t rows, size_t bytes)
      : stride_(bytes + kCacheLine), memory_(new (std::align_val_t{kCacheLine}) uint8_t[rows * stride_]) {}
  // Row r's sums are at rows()[r] + `offset`.
  void move_to(uint32_t rows, size_t offset) {
    for (uint32_t r = 0; r < rows; r++)
      rows_[r] = reinterpret_cast<uint8_t*>(reinterpret_cast<uintptr_t>(memory_.get() + r * stride_) - offset);
  }
  uint8_t* const* rows() const { return rows_; }

 private:
  struct Delete {
    void operator()(uint8_t* memory) const { ::operator delete[](memory, std::align_val_t{kCacheLine}); }
  };
  size_t stride_;  // not a power of two
  std::unique_ptr<uint8_t[], Delete> memory_;
  uint8_t* rows_[kChunksMax];
};

// One group's columns [from, to) over the bytes at `at`, all rows; `ahead` is the next piece.
struct Piece {
  uint32_t from, to;
  size_t at, bytes;
  uint8_t* const* targets;
  const uint8_t* const* summands;
  Ahead ahead;
};

void run_piece(const Block& block, const Piece& piece, bool past_caches, const Kernel& kernel) {
  const uint32_t passes = (block.rows + kernel.rows_max - 1) / kernel.rows_max;
  uint32_t row = 0;
  for (uint32_t p = 0; p < passes; p++) {
    const uint32_t rows = (block.rows - row + passes - p - 1) / (passes - p);  // as even as can be
    const uint8_t* coefficients = block.coefficients + row * block.stride + piece.from;
    const uint32_t columns = piece.to - piece.from;
    // Each pass asks for its share of the next piece.
    const uint32_t first = piece.ahead.count * p / passes, last = piece.ahead.count * (p + 1) / passes;
    const Ahead ahead{piece.ahead.sources + first, last - first, piece.ahead.offset, piece.ahead.bytes};
    kernel.run({coefficients, block.stride, rows, columns, is_ones(coefficients, columns), block.sources + piece.from,
                piece.targets + row, piece.summands == nullptr ? nullptr : piece.summands + row, piece.at, piece.bytes,
                past_caches, ahead});
    row += rows;
  }
}

void run_pieces(const Block& block, size_t begin, size_t end, const Kernel& kernel) {
  const uint32_t groups =
      block.columns <= kOneGroupColumnsMax ? 1 : (block.columns + kGroupColumns - 1) / kGroupColumns;
  const size_t most = std::min(piece_bytes(block.rows), end - begin);
  std::optional<Sums> sums;
  if (groups > 1) sums.emplace(block.rows, most);
  const bool past_caches = end - begin >= kPastCachesBytesMin;
  const auto edge = [&](uint32_t group) { return block.columns * group / groups; };
  for (size_t at = begin; at < end;) {
    const size_t bytes = std::min(most, end - at), next = at + bytes;
    if (sums) sums->move_to(block.rows, at);
    for (uint32_t g = 0; g < groups; g++) {
      const bool is_last = g + 1 == groups;
      Ahead ahead{block.sources + edge(g + 1), edge(g + 2) - edge(g + 1), at, bytes};
      if (is_last) ahead = {block.sources, next == end ? 0 : edge(1), next, std::min(most, end - next)};
      const uint8_t* const* summands = g > 0 ? sums->rows() : block.add ? block.targets : nullptr;
      run_piece(block, {edge(g), edge(g + 1), at, bytes, is_last ? block.targets : sums->rows(), summands, ahead},
                past_caches && is_last, kernel);
    }
    at = next;
  }
}

// The chunks that have bytes from `begin` to `end`, and their part of the matrix.
void run_stretch(const Combination& all, size_t begin, size_t end, const Kernel& kernel) {
  const uint8_t* sources[kChunksMax];
  uint8_t* targets[kChunksMax];
  uint32_t columns[kChunksMax], rows[kChunksMax];
  uint32_t column_count = 0, row_count = 0;
  for (uint32_t c = 0; c < all.columns; c++) {
    if (all.sources[c].data == nullptr || all.sources[c].bytes < end) continue;
    sources[column_count] = all.sources[c].data;
    columns[column_count++] = c;
  }
  for (uint32_t r = 0; r < all.rows; r++) {
    if (all.targets[r].bytes < end) continue;
    targets[row_count] = all.targets[r].data;
    rows[row_count++] = r;
  }
  if (column_count == 0) {
    for (uint32_t r = 0; r < row_count && !all.add; r++) std::memset(targets[r] + begin, 0, end - begin);
    return;
  }
  if (row_count == 0) return;
  if (column_count == all.columns && row_count == all.rows) {
    run_pieces({all.coefficients, all.columns, all.rows, all.columns, sources, targets, all.add}, begin, end, kernel);
    return;
  }
  uint8_t coefficients[kCoefficientsMax];
  assert(row_count * column_count <= kCoefficientsMax);
  for (uint32_t r = 0; r < row_count; r++) {
    const uint8_t* from = all.coefficients + size_t{rows[r]} * all.columns;
    for (uint32_t c = 0; c < column_count; c++) coefficients[r * column_count + c] = from[columns[c]];
  }
  run_pieces({coefficients, column_count, row_count, column_count, sources, targets, all.add}, begin, end, kernel);
}

}  // namespace

void combine(const Combination& all, const Kernel& kernel) {
  assert(all.rows >= 1 && all.columns >= 1 && all.rows * all.columns <= kCoefficientsMax);
  size_t end = 0;
  for (uint32_t r = 0; r < all.rows; r++) end = std::max(end, all.targets[r].bytes);
  for (size_t begin = 0; begin < end;) {
    size_t next = end;  // where the first of the chunks that have more than `begin` bytes ends
    for (uint32_t c = 0; c < all.columns; c++) {
      const Source& source = all.sources[c];
      if (source.data != nullptr && source.bytes > begin) next = std::min(next, source.bytes);
    }
    for (uint32_t r = 0; r < all.rows; r++) {
      if (all.targets[r].bytes > begin) next = std::min(next, all.targets[r].bytes);
    }
    run_stretch(all, begin, next, kernel);
    begin = next;
  }
}

}  // namespace sdr::codec
