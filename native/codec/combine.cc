#include "codec/combine.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace sdr::codec {
namespace {

// Where rows take several passes, each pass but the first finds the sources' bytes in the second-level cache.
constexpr size_t kTileBytesMax = 256 * 1024;  // of all sources together
constexpr size_t kTileStepBytes = 512;        // a tile is a multiple of it

size_t tile_bytes(uint32_t columns) {
  return std::max(kTileBytesMax / columns / kTileStepBytes, size_t{1}) * kTileStepBytes;
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

void run_tiles(const Block& block, size_t begin, size_t end, const Kernel& kernel) {
  const size_t tile = block.rows <= kernel.rows_max ? end - begin : tile_bytes(block.columns);
  const uint32_t passes = (block.rows + kernel.rows_max - 1) / kernel.rows_max;
  for (size_t at = begin; at < end; at += std::min(tile, end - at)) {
    uint32_t row = 0;
    for (uint32_t p = 0; p < passes; p++) {
      const uint32_t rows = (block.rows - row + passes - p - 1) / (passes - p);  // as even as can be
      const uint8_t* coefficients = block.coefficients + row * block.stride;
      kernel.run({coefficients, block.stride, rows, block.columns, is_ones(coefficients, block.columns), block.sources,
                  block.targets + row, at, std::min(tile, end - at), block.add});
      row += rows;
    }
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
