// Copies past the caches against memcpy, for every alignment and all lengths around whole lines.
#include "transport/stream_copy.h"

#include <cstring>
#include <vector>

#include "check.h"

using namespace sdr;

TEST(every_alignment_and_length_copies_just_its_bytes) {
  constexpr size_t kRoom = 1024, kGuard = 128;
  std::vector<uint8_t> from(kRoom), to(kRoom), expected(kRoom);
  for (size_t i = 0; i < kRoom; i++) from[i] = static_cast<uint8_t>(i * 131 + 7);
  for (size_t target = 0; target < 64; target++) {
    for (const size_t source : {size_t{0}, size_t{24}, target, size_t{63}}) {
      for (size_t bytes = 0; bytes <= 400; bytes++) {
        std::fill(to.begin(), to.end(), uint8_t{0xee});
        expected = to;
        std::memcpy(expected.data() + kGuard + target, from.data() + source, bytes);
        stream_copy(to.data() + kGuard + target, from.data() + source, bytes);
        stream_fence();
        CHECK(to == expected);
      }
    }
  }
}
