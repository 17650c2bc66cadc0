// The MDS code's matrices: that any square part of the generator can be inverted, and that recovery undoes losses.
#include "codec/matrix.h"

#include "codec_fixture.h"

#include <algorithm>
#include <numeric>

using namespace sdr::codec;
using namespace sdr::codec::test;

namespace {

// Gauss elimination with row exchanges, over the oracle's field.
bool can_be_inverted(std::vector<Bytes> rows) {
  const size_t n = rows.size();
  for (size_t pivot = 0; pivot < n; pivot++) {
    size_t found = pivot;
    while (found < n && rows[found][pivot] == 0) found++;
    if (found == n) return false;
    std::swap(rows[pivot], rows[found]);
    for (size_t r = pivot + 1; r < n; r++) {
      const uint8_t factor = product(rows[r][pivot], plain_invert(rows[pivot][pivot]));
      for (size_t c = pivot; factor != 0 && c < n; c++) rows[r][c] ^= product(factor, rows[pivot][c]);
    }
  }
  return true;
}

std::vector<uint32_t> draw(uint32_t count, uint32_t of, std::mt19937& random) {
  std::vector<uint32_t> all(of);
  std::iota(all.begin(), all.end(), 0);
  std::shuffle(all.begin(), all.end(), random);
  all.resize(count);
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

TEST(coefficients_are_the_scaled_cauchy_matrix) {
  for (uint32_t row = 0; row < 255; row++) {
    for (uint32_t column = 0; row + column < 255; column++) {
      CHECK(coefficient(row, column) != 0);
      if (row == 0 || column == 0) CHECK_EQ(coefficient(row, column), 1);
    }
  }
  for (const uint32_t k : {1u, 7u, 32u, 200u}) {
    const std::vector<uint8_t> matrix = generator(256 - k, k);
    for (uint32_t n = 0; n < 256 - k; n++) {
      const uint32_t row = n, column = n * 31 % k;
      CHECK_EQ(matrix[row * k + column], plain_coefficient({Kind::mds, k, 256 - k}, row, column));
    }
  }
}

// All shapes have parts of one matrix, so a sample of each shape samples those of all larger ones too.
TEST(sampled_square_parts_of_every_shape_up_to_64_and_16_can_be_inverted) {
  std::printf("  seed 1\n");
  std::mt19937 random(1);
  for (uint32_t k = 1; k <= 64; k++) {
    for (uint32_t m = 1; m <= 16; m++) {
      const std::vector<uint8_t> matrix = generator(m, k);
      const uint32_t most = std::min(k, m);
      for (uint32_t n = 0; n < 6; n++) {
        const uint32_t size = n == 0 ? most : static_cast<uint32_t>(1 + random() % most);
        const std::vector<uint32_t> rows = draw(size, m, random), columns = draw(size, k, random);
        std::vector<Bytes> part;
        for (const uint32_t row : rows) {
          part.emplace_back();
          for (const uint32_t column : columns) part.back().push_back(matrix[row * k + column]);
        }
        CHECK(can_be_inverted(part));
      }
    }
  }
}

TEST(every_2_by_2_part_of_the_largest_shapes_can_be_inverted) {
  for (const uint32_t k : {8u, 128u, 248u}) {
    const std::vector<uint8_t> matrix = generator(8, k);
    for (uint32_t a = 0; a < k; a++) {
      for (uint32_t b = a + 1; b < k; b++) {
        for (uint32_t r = 1; r < 8; r++)  // row 0 is all ones: the determinant is the difference of the others
          CHECK(matrix[r * k + a] != matrix[r * k + b]);
      }
    }
  }
}

TEST(recovery_makes_the_missing_from_the_rest) {
  std::printf("  seed 2\n");
  std::mt19937 random(2);
  for (uint32_t n = 0; n < 200; n++) {
    const auto k = static_cast<uint32_t>(1 + random() % 60), m = static_cast<uint32_t>(1 + random() % 20);
    const auto lost = static_cast<uint32_t>(1 + random() % std::min(k, m));
    const std::vector<uint8_t> matrix = generator(m, k);
    const std::vector<uint32_t> missing = draw(lost, k, random), used = draw(lost, m, random);
    const std::vector<uint8_t> answer = recovery(matrix, k, missing, used);
    Bytes data(k), known;
    fill(&data, random);
    for (uint32_t j = 0; j < k; j++) {
      if (!std::binary_search(missing.begin(), missing.end(), j)) known.push_back(data[j]);
    }
    for (const uint32_t i : used) {
      uint8_t sum = 0;
      for (uint32_t j = 0; j < k; j++) sum ^= product(matrix[i * k + j], data[j]);
      known.push_back(sum);
    }
    for (uint32_t r = 0; r < lost; r++) {
      uint8_t sum = 0;
      for (uint32_t c = 0; c < k; c++) sum ^= product(answer[r * k + c], known[c]);
      CHECK_EQ(sum, data[missing[r]]);
    }
  }
}
