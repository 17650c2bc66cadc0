#include "codec/combine.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace sdr::codec {
namespace {

// Sources come from memory a tile at a time: while one is worked on, the second-level cache is asked for the next. Rows
// that take several passes find the tile there. A tile is this many bytes of all sources together: many for long runs,
// few where the whole is short, as nothing was asked for before the first.
constexpr size_t kTileBytesMin = 16 * 1024, kTileBytesMax = 64 * 1024;
constexpr size_t kTilesWanted = 8;
constexpr size_t kTileStepBytes = 512;  // of each source, a tile is a multiple of it, and at least that
// Longer targets are written past the caches, which spares reading what is overwritten anyway. Half of the speed for
// parity that is not read at once; next to nothing where it is.
constexpr size_t kPastCachesBytesMin = 2048;

// Of each source.
size_t tile_bytes(uint32_t columns, size_t bytes) {
  const size_t wanted = std::clamp(bytes / kTilesWanted, kTileBytesMin / columns, kTileBytesMax / columns);
  return std::max(wanted / kTileStepBytes, size_t{1}) * kTileStepBytes;
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

// The part of a tile that pass `p` of `passes` asks for: each its share of the columns.
Ahead share(const Block& block, size_t begin, size_t bytes, uint32_t p, uint32_t passes) {
  const uint32_t from = block.columns * p / passes, to = block.columns * (p + 1) / passes;
  return {block.sources + from, bytes == 0 ? 0 : to - from, begin, bytes};
}

void run_tiles(const Block& block, size_t begin, size_t end, const Kernel& kernel) {
  const size_t tile = tile_bytes(block.columns, end - begin);
  const uint32_t passes = (block.rows + kernel.rows_max - 1) / kernel.rows_max;
  const bool past_caches = end - begin >= kPastCachesBytesMin;
  for (size_t at = begin; at < end;) {
    const size_t bytes = std::min(tile, end - at), next = at + bytes;
    uint32_t row = 0;
    for (uint32_t p = 0; p < passes; p++) {
      const uint32_t rows = (block.rows - row + passes - p - 1) / (passes - p);  // as even as can be
      const uint8_t* coefficients = block.coefficients + row * block.stride;
      kernel.run({coefficients, block.stride, rows, block.columns, is_ones(coefficients, block.columns), block.sources,
                  block.targets + row, at, bytes, block.add, past_caches,
                  share(block, next, std::min(tile, end - next), p, passes)});
      row += rows;
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
    run_tiles({all.coefficients, all.columns, all.rows, all.columns, sources, targets, all.add}, begin, end, kernel);
    return;
  }
  uint8_t coefficients[kCoefficientsMax];
  assert(row_count * column_count <= kCoefficientsMax);
  for (uint32_t r = 0; r < row_count; r++) {
    const uint8_t* from = all.coefficients + size_t{rows[r]} * all.columns;
    for (uint32_t c = 0; c < column_count; c++) coefficients[r * column_count + c] = from[columns[c]];
  }
  run_tiles({coefficients, column_count, row_count, column_count, sources, targets, all.add}, begin, end, kernel);
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
