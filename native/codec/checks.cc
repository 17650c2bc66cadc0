#include "codec/checks.h"

#include <algorithm>
#include <cassert>

namespace sdr::codec {
namespace {

// Whether any of the buffers written overlaps any other buffer. Empty ones overlap nothing.
class Overlaps {
 public:
  void read(const uint8_t* data, size_t bytes) { add(data, bytes, false); }
  void write(const uint8_t* data, size_t bytes) { add(data, bytes, true); }

  bool any() {
    const auto before = [](const Range& a, const Range& b) { return a.begin < b.begin; };
    // Mostly chunks come in the order of their addresses.
    if (!std::is_sorted(ranges_, ranges_ + count_, before)) std::sort(ranges_, ranges_ + count_, before);
    uintptr_t end = 0, written_end = 0;
    for (uint32_t i = 0; i < count_; i++) {
      const Range& range = ranges_[i];
      if (range.begin < (range.written ? end : written_end)) return true;
      end = std::max(end, range.end);
      if (range.written) written_end = std::max(written_end, range.end);
    }
    return false;
  }

 private:
  struct Range {
    uintptr_t begin, end;
    bool written;
  };

  void add(const uint8_t* data, size_t bytes, bool written) {
    if (bytes == 0) return;
    assert(count_ < kChunksMax);
    const auto begin = reinterpret_cast<uintptr_t>(data);
    ranges_[count_++] = {begin, begin + bytes, written};
  }

  Range ranges_[kChunksMax];
  uint32_t count_ = 0;
};

// A buffer of `bytes` can be there: not null unless empty, and not past the end of the address space.
bool fits(const uint8_t* data, size_t bytes) {
  return bytes == 0 || (data != nullptr && bytes <= UINTPTR_MAX - reinterpret_cast<uintptr_t>(data));
}
bool is_valid_source(Source source, size_t chunk_bytes) {
  return source.data == nullptr || (source.bytes <= chunk_bytes && fits(source.data, source.bytes));
}

}  // namespace

Result check_encode(const Shape& shape, const Source* data, uint8_t* const* parity, size_t chunk_bytes) {
  Overlaps overlaps;
  for (uint32_t j = 0; j < shape.k; j++) {
    if (!is_valid_source(data[j], chunk_bytes)) return Result::invalid;
    if (data[j].data != nullptr) overlaps.read(data[j].data, data[j].bytes);
  }
  for (uint32_t i = 0; i < shape.m; i++) {
    if (parity[i] == nullptr) continue;  // not wanted
    if (!fits(parity[i], chunk_bytes)) return Result::invalid;
    overlaps.write(parity[i], chunk_bytes);
  }
  return overlaps.any() ? Result::overlap : Result::ok;
}

Result check_update(const Shape& shape, uint32_t index, Source data, uint8_t* const* parity, size_t chunk_bytes) {
  if (index >= shape.k || !is_valid_source(data, chunk_bytes)) return Result::invalid;
  Overlaps overlaps;
  if (data.data != nullptr) overlaps.read(data.data, data.bytes);
  for (uint32_t i = 0; i < shape.m; i++) {
    if (!fits(parity[i], chunk_bytes)) return Result::invalid;
    overlaps.write(parity[i], chunk_bytes);
  }
  return overlaps.any() ? Result::overlap : Result::ok;
}

Result check_decode(const Shape& shape, const Target* data, const uint8_t* const* parity, const uint8_t* present,
                    size_t chunk_bytes) {
  Overlaps overlaps;
  for (uint32_t j = 0; j < shape.k; j++) {
    if (present[j] > 1 || data[j].bytes > chunk_bytes || !fits(data[j].data, data[j].bytes)) return Result::invalid;
    if (present[j] != 0) overlaps.read(data[j].data, data[j].bytes);
    else overlaps.write(data[j].data, data[j].bytes);
  }
  for (uint32_t i = 0; i < shape.m; i++) {
    if (present[shape.k + i] > 1) return Result::invalid;
    if (present[shape.k + i] == 0) continue;
    if (!fits(parity[i], chunk_bytes)) return Result::invalid;
    overlaps.read(parity[i], chunk_bytes);
  }
  return overlaps.any() ? Result::overlap : Result::ok;
}

}  // namespace sdr::codec
