// Several threads at once with the same codes: few patterns, so that they meet in the tables of matrices, and many, so
// that matrices are forgotten while others use them.
#include "codec_fixture.h"

#include <atomic>
#include <thread>

#include "codec/lru.h"

using namespace sdr::codec;
using namespace sdr::codec::test;

namespace {

constexpr uint32_t kThreads = 4;

template <class Body>
void on_threads(Body body) {
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; t++) threads.emplace_back([&body, t] { body(t); });
  for (std::thread& thread : threads) thread.join();
}

struct IdentityHash {
  size_t operator()(uint64_t key) const { return static_cast<size_t>(key); }
};

}  // namespace

TEST(threads_decode_with_shared_matrices) {
  std::printf("  seeds 1 to 4, patterns 7\n");
  for (const Shape& shape : {Shape{Kind::mds, 32, 8}, Shape{Kind::xor_groups, 32, 8}, Shape{Kind::mds, 100, 60}}) {
    std::mt19937 of_patterns(7);
    std::vector<Bytes> few;
    for (uint32_t n = 0; n < 6; n++) few.push_back(random_pattern(shape, shape.m / 2, of_patterns));
    on_threads([&](uint32_t thread) {
      std::mt19937 random(1 + thread);
      const Block block(shape, 200, true, random);
      for (uint32_t n = 0; n < 60; n++) {
        block.check_decode(few[random() % few.size()]);
        // Of (100, 60) about a hundred matrices are kept.
        block.check_decode(random_pattern(shape, random() % (shape.m + 1), random));
      }
    });
  }
}

TEST(threads_share_one_object_for_a_shape) {
  on_threads([](uint32_t) {
    for (uint32_t k = 1; k <= 200; k++) {  // more shapes than are kept
      const std::shared_ptr<const Code> code = Code::of({Kind::mds, k, 3});
      CHECK(code != nullptr && code->shape().k == k);
    }
    const std::shared_ptr<const Code> one = Code::of({Kind::mds, 9, 3}), other = Code::of({Kind::mds, 9, 3});
    CHECK(one->shape().k == 9 && other->shape().k == 9);
  });
  CHECK(Code::of({Kind::mds, 9, 3}) == Code::of({Kind::mds, 9, 3}));
}

TEST(the_table_forgets_what_was_not_asked_for_the_longest) {
  Lru<uint64_t, uint64_t, IdentityHash> table(10);
  const auto put = [&](uint64_t key, size_t cost) { return table.put(key, std::make_shared<uint64_t>(key), cost); };
  for (uint64_t key = 0; key < 5; key++) CHECK_EQ(*put(key, 2), key);
  CHECK(table.find(0) != nullptr);  // asked for again: 1 is the oldest now
  put(5, 2);
  CHECK(table.find(1) == nullptr);
  CHECK(table.find(0) != nullptr && table.find(5) != nullptr);
  const auto first = table.find(2);
  CHECK(put(2, 2) == first);  // what is there stays
  put(6, 100);                // more than all of it: kept, alone
  CHECK_EQ(table.size(), 1u);
  CHECK_EQ(*table.find(6), 6u);
  CHECK_EQ(*first, 2u);  // the owner's reference outlives the table's
}
