// Both codes against their definitions: parity byte by byte, every erasure pattern of the small shapes, random ones of
// the large, short and absent chunks, incremental encoding, and what is refused.
#include "codec_fixture.h"

#include <algorithm>

#include "codec/kernels.h"

using namespace sdr::codec;
using namespace sdr::codec::test;

namespace {

const std::vector<Shape> kLargeShapes = {{Kind::mds, 32, 8},    {Kind::mds, 200, 50},  {Kind::mds, 255, 1},
                                         {Kind::mds, 1, 255},   {Kind::mds, 128, 128}, {Kind::mds, 17, 33},
                                         {Kind::xor_groups, 32, 8}, {Kind::xor_groups, 200, 50},
                                         {Kind::xor_groups, 255, 1}, {Kind::xor_groups, 128, 128}};

// With every kernel that the processor has; the best one is in use again afterwards.
template <class Body>
void each_kernel_in_use(Body body) {
  const Kernel& before = kernel();
  for (const Kernel& one : kernels()) {
    if (!one.supported) continue;
    use_kernel(one);
    CHECK_EQ(kernel_name(), std::string(one.name));
    body();
  }
  use_kernel(before);
}

void each_small_shape(uint32_t chunks_max, void (*body)(const Shape& shape)) {
  for (uint32_t k = 1; k < chunks_max; k++) {
    for (uint32_t m = 1; k + m <= chunks_max; m++) {
      body({Kind::mds, k, m});
      if (m <= k) body({Kind::xor_groups, k, m});
    }
  }
}

}  // namespace

TEST(shapes_outside_the_limits_are_refused) {
  const Shape bad[] = {{Kind::mds, 0, 1},        {Kind::mds, 1, 0},          {Kind::mds, 255, 2},
                       {Kind::mds, 256, 0},      {Kind::mds, UINT32_MAX, 2}, {Kind::mds, 2, UINT32_MAX},
                       {Kind::xor_groups, 4, 5}, {Kind::xor_groups, 0, 0},   {static_cast<Kind>(2), 4, 2}};
  for (const Shape& shape : bad) {
    CHECK(!is_valid(shape));
    CHECK(Code::of(shape) == nullptr);
  }
  for (const Shape& shape : {Shape{Kind::mds, 255, 1}, Shape{Kind::mds, 1, 255}, Shape{Kind::xor_groups, 128, 128}}) {
    CHECK(is_valid(shape));
    CHECK(Code::of(shape) != nullptr);
    CHECK(Code::of(shape) == Code::of(shape));
  }
}

TEST(parity_is_what_the_definition_says) {
  each_kernel_in_use([] {
    std::printf("  seed 1\n");
    std::mt19937 random(1);
    std::vector<Shape> shapes = kLargeShapes;
    for (uint32_t n = 0; n < 60; n++) {
      const auto k = static_cast<uint32_t>(1 + random() % 40), m = static_cast<uint32_t>(1 + random() % 20);
      shapes.push_back({Kind::mds, k, m});
      shapes.push_back({Kind::xor_groups, k, 1 + static_cast<uint32_t>(random() % k)});
    }
    for (const Shape& shape : shapes) {
      for (const bool ragged : {false, true}) {
        const Block block(shape, random() % 700, ragged, random);
        for (uint32_t i = 0; i < shape.m; i++) CHECK(block.parity[i] == block.plain_parity(i));
      }
    }
  });
}

TEST(every_erasure_pattern_of_every_shape_up_to_twelve_chunks_decodes_or_is_refused) {
  each_small_shape(12, [](const Shape& shape) {
    std::mt19937 random(shape.k * 16 + shape.m);
    const uint32_t chunks = shape.k + shape.m;
    const Block even(shape, 1 + random() % 80, false, random), ragged(shape, 1 + random() % 80, true, random);
    for (uint32_t bits = 0; bits < 1u << chunks; bits++) {
      Bytes present(chunks);
      for (uint32_t i = 0; i < chunks; i++) present[i] = bits >> i & 1;
      even.check_decode(present);
      if (bits % 3 == 0) ragged.check_decode(present);
    }
  });
}

TEST(random_erasures_of_large_shapes_decode) {
  each_kernel_in_use([] {
    std::printf("  seed 2\n");
    std::mt19937 random(2);
    for (const Shape& shape : kLargeShapes) {
      for (const bool ragged : {false, true}) {
        const Block block(shape, 1 + random() % 600, ragged, random);
        block.check_decode(Bytes(shape.k + shape.m, 1));
        block.check_decode(Bytes(shape.k + shape.m, 0));
        Bytes burst(shape.k + shape.m, 1);  // as much as MDS can bear: from the first chunk on
        for (uint32_t i = 0; i < shape.m; i++) burst[i] = 0;
        block.check_decode(burst);
        for (uint32_t n = 0; n < 12; n++) block.check_decode(random_pattern(shape, random() % (shape.m + 1), random));
        block.check_decode(random_pattern(shape, std::min(shape.m + 1, shape.k + shape.m), random));
      }
    }
  });
}

TEST(chunks_added_one_at_a_time_give_what_encode_gives) {
  each_kernel_in_use([] {
    std::printf("  seed 3\n");
    std::mt19937 random(3);
    std::vector<Shape> shapes = kLargeShapes;
    for (uint32_t n = 0; n < 30; n++) shapes.push_back({Kind::mds, 1 + static_cast<uint32_t>(random() % 40), 9});
    for (const Shape& shape : shapes) {
      Block block(shape, random() % 700, true, random);
      std::vector<Bytes> parity(shape.m, Bytes(block.chunk_bytes, 0));
      std::vector<uint8_t*> pointers;
      for (Bytes& chunk : parity) pointers.push_back(chunk.data());
      std::vector<uint32_t> order(shape.k);
      for (uint32_t j = 0; j < shape.k; j++) order[j] = j;
      std::shuffle(order.begin(), order.end(), random);
      const std::vector<Source> sources = block.sources();
      for (const uint32_t j : order)
        CHECK_EQ(block.code->update(j, sources[j], pointers.data(), block.chunk_bytes), Result::ok);
      CHECK(parity == block.parity);
    }
  });
}

TEST(a_code_with_fewer_chunks_has_part_of_the_same_matrix) {
  std::mt19937 random(4);
  const Block large({Kind::mds, 40, 12}, 300, false, random);
  Block small({Kind::mds, 25, 5}, 300, false, random);
  small.data.assign(large.data.begin(), large.data.begin() + 25);
  std::vector<Source> padded = small.sources();
  padded.resize(40);  // absent
  std::vector<Bytes> parity(12, Bytes(300));
  std::vector<uint8_t*> pointers;
  for (Bytes& chunk : parity) pointers.push_back(chunk.data());
  CHECK_EQ(small.code->encode(small.sources().data(), small.parity_pointers().data(), 300), Result::ok);
  CHECK_EQ(large.code->encode(padded.data(), pointers.data(), 300), Result::ok);
  for (uint32_t i = 0; i < 5; i++) CHECK(small.parity[i] == parity[i]);
}

TEST(any_of_the_parity_chunks_can_be_made_alone) {
  std::mt19937 random(11);
  for (const Kind kind : {Kind::mds, Kind::xor_groups}) {
    Block block({kind, 40, 7}, 333, false, random);
    CHECK_EQ(block.code->encode(block.sources().data(), block.parity_pointers().data(), 333), Result::ok);
    const std::vector<Bytes> all = block.parity;
    for (uint32_t wanted = 0; wanted < 1u << 7; wanted++) {
      for (Bytes& chunk : block.parity) std::fill(chunk.begin(), chunk.end(), uint8_t{0xa5});
      std::vector<uint8_t*> pointers = block.parity_pointers();
      for (uint32_t i = 0; i < 7; i++) {
        if ((wanted >> i & 1) == 0) pointers[i] = nullptr;
      }
      CHECK_EQ(block.code->encode(block.sources().data(), pointers.data(), 333), Result::ok);
      for (uint32_t i = 0; i < 7; i++)
        CHECK(block.parity[i] == ((wanted >> i & 1) != 0 ? all[i] : Bytes(333, 0xa5)));
    }
  }
}

TEST(nonsense_is_invalid_and_writes_nothing) {
  std::mt19937 random(5);
  for (const Kind kind : {Kind::mds, Kind::xor_groups}) {
    Block block({kind, 6, 3}, 100, false, random);
    const std::vector<Bytes> parity = block.parity, data = block.data;
    std::vector<Source> sources = block.sources();
    const std::vector<uint8_t*> pointers = block.parity_pointers();
    const auto encode = [&](const std::vector<Source>& from, const std::vector<uint8_t*>& to, size_t bytes) {
      return block.code->encode(from.data(), to.data(), bytes);
    };
    sources[5].bytes = 101;
    CHECK_EQ(encode(sources, pointers, 100), Result::invalid);
    sources[5].bytes = 100;
    CHECK_EQ(encode(sources, pointers, SIZE_MAX), Result::invalid);
    CHECK_EQ(encode(sources, {nullptr, nullptr, nullptr}, 0), Result::invalid);  // the data is longer than 0
    CHECK_EQ(encode(sources, {nullptr, nullptr, nullptr}, 100), Result::ok);  // nothing is wanted
    CHECK_EQ(encode(std::vector<Source>(6), {nullptr, nullptr, nullptr}, 0), Result::ok);
    CHECK_EQ(block.code->update(6, sources[0], pointers.data(), 100), Result::invalid);
    CHECK_EQ(block.code->update(UINT32_MAX, sources[0], pointers.data(), 100), Result::invalid);
    CHECK_EQ(block.code->update(0, sources[0], pointers.data(), 99), Result::invalid);

    std::vector<Target> targets;
    for (Bytes& chunk : block.data) targets.push_back({chunk.data(), 100});
    const auto decode = [&](const std::vector<Target>& to, const std::vector<const uint8_t*>& from, Bytes present,
                            size_t bytes) {
      uint32_t used;
      return block.code->decode(to.data(), from.data(), present.data(), bytes, &used);
    };
    const std::vector<const uint8_t*> from(pointers.begin(), pointers.end());
    CHECK_EQ(decode(targets, from, {1, 1, 1, 1, 1, 2, 1, 1, 1}, 100), Result::invalid);
    CHECK_EQ(decode(targets, from, {1, 1, 1, 1, 1, 1, 1, 1, 255}, 100), Result::invalid);
    CHECK_EQ(decode(targets, from, {0, 1, 1, 1, 1, 1, 1, 1, 1}, 99), Result::invalid);
    CHECK_EQ(decode(targets, from, {0, 1, 1, 1, 1, 1, 1, 1, 1}, SIZE_MAX), Result::invalid);
    CHECK_EQ(decode(targets, {nullptr, from[1], from[2]}, {0, 1, 1, 1, 1, 1, 1, 1, 1}, 100), Result::invalid);
    CHECK_EQ(decode(targets, {nullptr, from[1], from[2]}, {1, 0, 1, 1, 1, 1, 0, 1, 1}, 100), Result::ok);
    targets[3].data = nullptr;
    CHECK_EQ(decode(targets, from, {0, 1, 1, 1, 1, 1, 1, 1, 1}, 100), Result::invalid);
    CHECK(block.parity == parity && block.data == data);
  }
}

TEST(a_buffer_that_is_written_overlaps_no_other) {
  std::mt19937 random(6);
  for (const Kind kind : {Kind::mds, Kind::xor_groups}) {
    const std::shared_ptr<const Code> code = Code::of({kind, 4, 2});
    constexpr size_t kBytes = 64;
    Bytes arena(8 * kBytes);
    fill(&arena, random);
    const Bytes before = arena;
    const auto at = [&](size_t chunk) { return arena.data() + chunk * kBytes; };
    Source data[4] = {{at(0), kBytes}, {at(1), kBytes}, {at(2), kBytes}, {at(3), kBytes}};
    const auto encode = [&](uint8_t* p0, uint8_t* p1) {
      uint8_t* const parity[] = {p0, p1};
      return code->encode(data, parity, kBytes);
    };
    CHECK_EQ(encode(at(3) + 1, at(5)), Result::overlap);
    CHECK_EQ(encode(at(4), at(5) - 1), Result::overlap);
    CHECK_EQ(encode(at(4), at(4)), Result::overlap);
    CHECK_EQ(encode(at(4), at(0)), Result::overlap);
    uint8_t* const parity[] = {at(4), at(5)};
    CHECK_EQ(code->update(0, {at(4) - 1, 2}, parity, kBytes), Result::overlap);
    CHECK_EQ(code->update(1, {at(5) + kBytes - 1, 1}, parity, kBytes), Result::overlap);
    const uint8_t* const from[] = {at(4), at(5)};
    const uint8_t present[] = {0, 1, 1, 1, 1, 1};
    uint32_t used;
    for (uint8_t* target : {at(1) - 1, at(4) + 3, at(3)}) {
      const Target targets[] = {{target, kBytes}, {at(1), kBytes}, {at(2), kBytes}, {at(3), kBytes}};
      CHECK_EQ(code->decode(targets, from, present, kBytes, &used), Result::overlap);
    }
    CHECK(arena == before);
    data[1] = data[0];  // read twice: no harm
    CHECK_EQ(encode(at(4), at(5)), Result::ok);
  }
}
