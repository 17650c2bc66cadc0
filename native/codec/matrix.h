// The matrices of the MDS code: which multiples of the data chunks a parity chunk is the sum of, and which multiples of
// the survivors a lost data chunk is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sdr::codec {

// Coefficient of data chunk `column` in parity chunk `row`: the Cauchy matrix 1 / (x + y) with x = row, y = 255 -
// column (distinct while row + column < 255), its columns scaled so that row 0 is all ones and then its rows so that
// column 0 is: every square submatrix of a Cauchy matrix can be inverted, and scaling keeps that. It does not depend on
// the shape: a code with fewer chunks of either kind has the upper left part of the same matrix.
uint8_t coefficient(uint32_t row, uint32_t column);
// The first `rows` by `columns` of them, row after row.
std::vector<uint8_t> generator(uint32_t rows, uint32_t columns);

// How to make `missing` data chunks (ascending) of k from the others and as many parity chunks (`used`, by row): rows
// by k coefficients; in a row first those of the data chunks present, ascending, then those of the parity chunks.
// `generator`: at least max(used) + 1 rows of k.
std::vector<uint8_t> recovery(const std::vector<uint8_t>& generator, uint32_t k, const std::vector<uint32_t>& missing,
                              const std::vector<uint32_t>& used);

}  // namespace sdr::codec
