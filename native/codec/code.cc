// Codes by their shape, one object each for all threads.
#include "codec/codes.h"
#include "codec/lru.h"

namespace sdr::codec {
namespace {

constexpr size_t kCodesKept = 64;

struct Identity {
  size_t operator()(uint64_t key) const { return static_cast<size_t>(key); }
};

}  // namespace

bool is_valid(const Shape& shape) {
  const bool known = shape.kind == Kind::mds || shape.kind == Kind::xor_groups;
  return known && shape.k >= 1 && shape.m >= 1 && shape.k <= kChunksMax && shape.m <= kChunksMax &&
         shape.k + shape.m <= kChunksMax && (shape.kind == Kind::mds || shape.m <= shape.k);
}

std::shared_ptr<const Code> Code::of(const Shape& shape) {
  if (!is_valid(shape)) return nullptr;
  // Never destroyed: threads may still be at work when the process ends.
  static auto& codes = *new Lru<uint64_t, Code, Identity>(kCodesKept);
  const uint64_t key = uint64_t{static_cast<uint8_t>(shape.kind)} << 32 | uint64_t{shape.k} << 16 | shape.m;
  if (std::shared_ptr<const Code> known = codes.find(key)) return known;
  return codes.put(key, shape.kind == Kind::mds ? make_mds(shape) : make_xor(shape), 1);
}

}  // namespace sdr::codec
