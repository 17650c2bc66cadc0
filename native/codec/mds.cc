// Cauchy Reed-Solomon: any k of the k + m chunks suffice.
#include <array>
#include <cassert>
#include <vector>

#include "codec/checks.h"
#include "codec/codes.h"
#include "codec/combine.h"
#include "codec/lru.h"
#include "codec/matrix.h"

namespace sdr::codec {
namespace {

constexpr size_t kPatternBytesMax = 1 << 20;   // of matrices kept for a shape
constexpr size_t kPatternExtraBytes = 256;     // about what one takes beside its coefficients

// One bit for each chunk that decides the matrix: data chunks missing, parity chunks used.
using Pattern = std::array<uint64_t, kChunksMax / 64>;

struct PatternHash {
  size_t operator()(const Pattern& pattern) const {
    uint64_t hash = 0;
    for (const uint64_t word : pattern) {
      hash = (hash ^ word) * 0x9e3779b97f4a7c15;
      hash ^= hash >> 29;
    }
    return static_cast<size_t>(hash);
  }
};

// What is lost and what makes it again.
struct Losses {
  std::vector<uint32_t> missing, used;
  Pattern pattern{};
  bool recoverable = false;
};

class MdsCode final : public Code {
 public:
  explicit MdsCode(const Shape& shape) : Code(shape), generator_(generator(shape.m, shape.k)) {}

  Result encode(const Source* data, uint8_t* const* parity, size_t chunk_bytes) const override {
    const Result checked = check_encode(shape(), data, parity, chunk_bytes);
    if (checked != Result::ok) return checked;
    Target targets[kChunksMax];
    const uint8_t* rows[kChunksMax];
    uint32_t wanted = 0;
    bool adjoin = true;
    for (uint32_t i = 0; i < shape().m; i++) {
      if (parity[i] == nullptr) continue;
      rows[wanted] = generator_.data() + size_t{i} * shape().k;
      adjoin = adjoin && rows[wanted] == rows[0] + size_t{wanted} * shape().k;
      targets[wanted++] = {parity[i], chunk_bytes};
    }
    if (wanted == 0) return Result::ok;
    std::vector<uint8_t> gathered;
    if (!adjoin) {
      for (uint32_t i = 0; i < wanted; i++) gathered.insert(gathered.end(), rows[i], rows[i] + shape().k);
    }
    combine({adjoin ? rows[0] : gathered.data(), wanted, shape().k, data, targets, false}, kernel());
    return Result::ok;
  }

  Result update(uint32_t index, Source data, uint8_t* const* parity, size_t chunk_bytes) const override {
    const Result checked = check_update(shape(), index, data, parity, chunk_bytes);
    if (checked != Result::ok) return checked;
    Target targets[kChunksMax];
    uint8_t column[kChunksMax];
    for (uint32_t i = 0; i < shape().m; i++) {
      targets[i] = {parity[i], chunk_bytes};
      column[i] = generator_[size_t{i} * shape().k + index];
    }
    combine({column, shape().m, 1, &data, targets, true}, kernel());
    return Result::ok;
  }

  bool is_recoverable(const uint8_t* present) const override { return losses_of(present).recoverable; }

  Result decode(const Target* data, const uint8_t* const* parity, const uint8_t* present, size_t chunk_bytes,
                uint32_t* parity_used) const override {
    const Result checked = check_decode(shape(), data, parity, present, chunk_bytes);
    if (checked != Result::ok) return checked;
    const Losses losses = losses_of(present);
    if (!losses.recoverable) return Result::too_few;
    *parity_used = static_cast<uint32_t>(losses.used.size());
    if (losses.missing.empty()) return Result::ok;
    const std::shared_ptr<const std::vector<uint8_t>> matrix = matrix_of(losses);
    Source sources[kChunksMax];
    Target targets[kChunksMax];
    uint32_t columns = 0, rows = 0;
    for (uint32_t j = 0; j < shape().k; j++) {
      if (present[j] != 0) sources[columns++] = {data[j].data, data[j].bytes};
      else targets[rows++] = data[j];
    }
    for (const uint32_t i : losses.used) sources[columns++] = {parity[i], chunk_bytes};
    combine({matrix->data(), rows, columns, sources, targets, false}, kernel());
    return Result::ok;
  }

 private:
  Losses losses_of(const uint8_t* present) const {
    Losses losses;
    const auto mark = [&](uint32_t chunk) { losses.pattern[chunk / 64] |= uint64_t{1} << (chunk % 64); };
    for (uint32_t j = 0; j < shape().k; j++) {
      if (present[j] != 0) continue;
      losses.missing.push_back(j);
      mark(j);
    }
    for (uint32_t i = 0; i < shape().m && losses.used.size() < losses.missing.size(); i++) {
      if (present[shape().k + i] == 0) continue;
      losses.used.push_back(i);
      mark(shape().k + i);
    }
    losses.recoverable = losses.used.size() == losses.missing.size();
    return losses;
  }

  std::shared_ptr<const std::vector<uint8_t>> matrix_of(const Losses& losses) const {
    if (auto known = matrices_.find(losses.pattern)) return known;
    // Not under the table's lock: two threads may make the same one, and one of the two is kept.
    auto made =
        std::make_shared<const std::vector<uint8_t>>(recovery(generator_, shape().k, losses.missing, losses.used));
    const size_t cost = made->size() + kPatternExtraBytes;
    return matrices_.put(losses.pattern, std::move(made), cost);
  }

  const std::vector<uint8_t> generator_;
  mutable Lru<Pattern, std::vector<uint8_t>, PatternHash> matrices_{kPatternBytesMax};
};

}  // namespace

std::shared_ptr<const Code> make_mds(const Shape& shape) {
  assert(is_valid(shape));
  return std::make_shared<const MdsCode>(shape);
}

}  // namespace sdr::codec
