// Modulo groups: parity i is the sum of the data chunks j with j mod m = i, and makes up for one of them.
#include <cassert>
#include <cstring>

#include "codec/checks.h"
#include "codec/codes.h"
#include "codec/combine.h"

namespace sdr::codec {
namespace {

class XorCode final : public Code {
 public:
  explicit XorCode(const Shape& shape) : Code(shape) { std::memset(ones_, 1, sizeof ones_); }

  Result encode(const Source* data, uint8_t* const* parity, size_t chunk_bytes) const override {
    const Result checked = check_encode(shape(), data, parity, chunk_bytes);
    if (checked != Result::ok) return checked;
    for (uint32_t i = 0; i < shape().m; i++) {
      if (parity[i] == nullptr) continue;
      Source sources[kChunksMax];
      uint32_t count = 0;
      for (uint32_t j = i; j < shape().k; j += shape().m) sources[count++] = data[j];
      sum(sources, count, {parity[i], chunk_bytes}, false);
    }
    return Result::ok;
  }

  Result update(uint32_t index, Source data, uint8_t* const* parity, size_t chunk_bytes) const override {
    const Result checked = check_update(shape(), index, data, parity, chunk_bytes);
    if (checked == Result::ok) sum(&data, 1, {parity[index % shape().m], chunk_bytes}, true);
    return checked;
  }

  bool is_recoverable(const uint8_t* present) const override {
    for (uint32_t i = 0; i < shape().m; i++) {
      uint32_t missing = 0;
      for (uint32_t j = i; j < shape().k; j += shape().m) missing += present[j] == 0 ? 1 : 0;
      if (missing > (present[shape().k + i] != 0 ? 1 : 0)) return false;
    }
    return true;
  }

  Result decode(const Target* data, const uint8_t* const* parity, const uint8_t* present, size_t chunk_bytes,
                uint32_t* parity_used) const override {
    const Result checked = check_decode(shape(), data, parity, present, chunk_bytes);
    if (checked != Result::ok) return checked;
    if (!is_recoverable(present)) return Result::too_few;
    *parity_used = 0;
    for (uint32_t lost = 0; lost < shape().k; lost++) {
      if (present[lost] != 0) continue;
      const uint32_t group = lost % shape().m;
      Source sources[kChunksMax];
      uint32_t count = 0;
      for (uint32_t j = group; j < shape().k; j += shape().m) {
        if (j != lost) sources[count++] = {data[j].data, data[j].bytes};
      }
      sources[count++] = {parity[group], chunk_bytes};
      sum(sources, count, data[lost], false);
      (*parity_used)++;
    }
    return Result::ok;
  }

 private:
  void sum(const Source* sources, uint32_t count, Target target, bool add) const {
    combine({ones_, 1, count, sources, &target, add}, kernel());
  }

  uint8_t ones_[kChunksMax];
};

}  // namespace

std::shared_ptr<const Code> make_xor(const Shape& shape) {
  assert(is_valid(shape));
  return std::make_shared<const XorCode>(shape);
}

}  // namespace sdr::codec
