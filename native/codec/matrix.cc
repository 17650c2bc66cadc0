#include "codec/matrix.h"

#include <cassert>

#include "codec/gf256.h"
#include "codec/kernels.h"

namespace sdr::codec {

uint8_t coefficient(uint32_t row, uint32_t column) {
  assert(row + column < 255);
  const auto cauchy = [](uint32_t i, uint32_t j) { return invert(static_cast<uint8_t>(i ^ (255 - j))); };
  const auto scaled = [&](uint32_t i, uint32_t j) { return multiply(cauchy(i, j), invert(cauchy(0, j))); };
  return multiply(scaled(row, column), invert(scaled(row, 0)));
}

std::vector<uint8_t> generator(uint32_t rows, uint32_t columns) {
  std::vector<uint8_t> matrix(size_t{rows} * columns);
  for (uint32_t r = 0; r < rows; r++) {
    for (uint32_t c = 0; c < columns; c++) matrix[size_t{r} * columns + c] = coefficient(r, c);
  }
  return matrix;
}

// Row u of the generator says: parity u is the sum of the data chunks present and of those missing. Written with the
// missing ones' columns on the left and all that is known on the right, Gauss-Jordan elimination turns the left side
// into the identity; the right side then is the answer. Only rows and columns of missing chunks are pivots.
std::vector<uint8_t> recovery(const std::vector<uint8_t>& generator, uint32_t k, const std::vector<uint32_t>& missing,
                              const std::vector<uint32_t>& used) {
  const size_t lost = missing.size(), width = lost + k;
  assert(used.size() == lost && lost >= 1 && lost <= k);
  std::vector<uint8_t> work(lost * width, 0);
  for (size_t r = 0; r < lost; r++) {
    const uint8_t* from = &generator[size_t{used[r]} * k];
    uint8_t* to = &work[r * width];
    size_t left = 0, right = lost;
    for (uint32_t c = 0; c < k; c++) {
      if (left < lost && missing[left] == c) to[left++] = from[c];
      else to[right++] = from[c];
    }
    to[right + r] = 1;
  }
  std::vector<uint8_t> factors(lost);
  std::vector<uint8_t*> targets(lost);
  for (size_t pivot = 0; pivot < lost; pivot++) {
    uint8_t* row = &work[pivot * width];
    assert(row[pivot] != 0);  // every leading square of the left side can be inverted: no rows need to change places
    const uint8_t* scale = field().product[invert(row[pivot])];
    for (size_t i = 0; i < width; i++) row[i] = scale[row[i]];
    uint32_t others = 0;
    for (size_t r = 0; r < lost; r++) {
      if (r == pivot) continue;
      factors[others] = work[r * width + pivot];
      targets[others++] = &work[r * width];
    }
    const uint8_t* const sources[1] = {row};
    const Kernel& by = kernel();
    for (uint32_t r = 0; r < others; r += by.rows_max) {
      const uint32_t rows = others - r < by.rows_max ? others - r : by.rows_max;
      by.run({&factors[r], 1, rows, 1, factors[r] == 1, sources, &targets[r], &targets[r], 0, width,
              false, {}});
    }
  }
  std::vector<uint8_t> matrix(lost * k);
  for (size_t r = 0; r < lost; r++) {
    for (size_t c = 0; c < k; c++) matrix[r * k + c] = work[r * width + lost + c];
  }
  return matrix;
}

}  // namespace sdr::codec
