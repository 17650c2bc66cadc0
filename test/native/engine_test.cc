// The packet engine, one thread: splits, geometry, boundaries, every kind of step, lengths,
// recycling.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"
#include "engine/rx.h"
#include "sdr/engine.h"

namespace {

sdr_geometry geometry_of(uint32_t packets_per_chunk, uint32_t slots = 4, uint32_t generations = 4,
                         uint32_t channels = 1) {
  sdr_geometry geometry{};
  geometry.packet_bytes = 64;
  geometry.packets_per_chunk = packets_per_chunk;
  geometry.slots = slots;
  geometry.generations = generations;
  geometry.channels = channels;
  geometry.max_message_bytes = 64 * 1000;
  geometry.split = {10, 18, 4};
  return geometry;
}

sdr_status check_with(sdr_geometry geometry, void (*change)(sdr_geometry&)) {
  change(geometry);
  return sdr_geometry_check(&geometry);
}

// A receive side and the sender that matches it.
class Pair {
 public:
  explicit Pair(const sdr_geometry& geometry) : geometry_(geometry) {
    CHECK_EQ(sdr_rx_create(&geometry_, &rx_), SDR_OK);
  }
  ~Pair() { sdr_rx_destroy(rx_); }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  sdr_rx* rx() { return rx_; }
  const sdr_geometry& geometry() const { return geometry_; }
  uint32_t packets(uint64_t bytes) const {
    return uint32_t((bytes + geometry_.packet_bytes - 1) / geometry_.packet_bytes);
  }
  sdr_completion completion(uint32_t message, uint64_t bytes, uint32_t packet, uint32_t user = 0) {
    const sdr_tx_packet made = sdr_tx_make(&geometry_, message, bytes, packet, user);
    return {made.queue, made.immediate, made.bytes};
  }
  sdr_step step(const sdr_completion& completion) {
    uint32_t message = UINT32_MAX;
    const sdr_step kind =
        sdr_rx_step(rx_, completion.queue % geometry_.channels, &completion, &message);
    if (kind <= SDR_STEP_MESSAGE) last_message_ = message;
    return kind;
  }
  sdr_step step(uint32_t message, uint64_t bytes, uint32_t packet, uint32_t user = 0) {
    return step(completion(message, bytes, packet, user));
  }
  uint32_t last_message() const { return last_message_; }
  void post(uint32_t message, uint64_t bytes, void* buffer = nullptr) {
    CHECK_EQ(sdr_rx_post(rx_, message, buffer, bytes), SDR_OK);
  }
  bool set_length(uint32_t message, uint64_t bytes) {
    bool complete = false;
    CHECK_EQ(sdr_rx_set_length(rx_, message, bytes, &complete), SDR_OK);
    return complete;
  }
  sdr_rx_progress progress(uint32_t message) {
    sdr_rx_progress out;
    CHECK_EQ(sdr_rx_progress_get(rx_, message, &out), SDR_OK);
    return out;
  }
  uint64_t counter(sdr_step kind) {
    uint64_t counts[SDR_STEP_KINDS];
    sdr_rx_counters(rx_, counts);
    return counts[kind];
  }
  // As JavaScript reads it: plain 32-bit words of the slab.
  bool chunk_bit(uint32_t message, uint32_t chunk) {
    const sdr_bitmap_slab slab = sdr_rx_bitmaps(rx_);
    const auto* words =
        reinterpret_cast<const uint32_t*>(slab.base + message % geometry_.slots * slab.stride);
    return (words[chunk >> 5] >> (chunk & 31) & 1) != 0;
  }
  std::vector<uint8_t> slot_bits(uint32_t message) {
    const sdr_bitmap_slab slab = sdr_rx_bitmaps(rx_);
    const uint8_t* begin = slab.base + message % geometry_.slots * slab.stride;
    return {begin, begin + slab.stride};
  }

 private:
  sdr_geometry geometry_;
  sdr_rx* rx_ = nullptr;
  uint32_t last_message_ = UINT32_MAX;
};

// Posts, announces and steps a whole message in the given order; checks every result and every bit.
void carry(Pair& pair, uint32_t message, uint64_t bytes, const std::vector<uint32_t>& order) {
  const uint32_t per_chunk = pair.geometry().packets_per_chunk;
  const uint32_t packets = pair.packets(bytes);
  const uint32_t chunks = (packets + per_chunk - 1) / per_chunk;
  CHECK_EQ(order.size(), size_t{packets});
  pair.post(message, bytes);
  CHECK_EQ(pair.set_length(message, bytes), packets == 0);
  std::vector<uint32_t> left(chunks, per_chunk);
  if (chunks > 0) left[chunks - 1] = packets - (chunks - 1) * per_chunk;
  uint32_t done = 0;
  for (const uint32_t packet : order) {
    const uint32_t chunk = packet / per_chunk;
    CHECK(!pair.chunk_bit(message, chunk));
    const sdr_step step = pair.step(message, bytes, packet);
    CHECK_EQ(pair.last_message(), message);
    if (--left[chunk] > 0) {
      CHECK_EQ(step, SDR_STEP_PACKET);
      continue;
    }
    done++;
    CHECK_EQ(step, done == chunks ? SDR_STEP_MESSAGE : SDR_STEP_CHUNK);
    CHECK(pair.chunk_bit(message, chunk));
    CHECK_EQ(pair.progress(message).chunks_done, done);
  }
  const sdr_rx_progress progress = pair.progress(message);
  CHECK(progress.complete && progress.length_known);
  CHECK_EQ(progress.chunks_total, chunks);
  CHECK_EQ(progress.chunks_done, chunks);
}

std::vector<uint32_t> in_order(uint32_t count) {
  std::vector<uint32_t> order(count);
  for (uint32_t index = 0; index < count; index++) order[index] = index;
  return order;
}

}  // namespace

TEST(every_split_that_adds_to_32_packs_and_unpacks) {
  uint32_t valid = 0;
  for (uint32_t message_bits = 0; message_bits <= 32; message_bits++) {
    for (uint32_t user_bits = 0; user_bits <= 20 && message_bits + user_bits <= 32; user_bits++) {
      const uint32_t packet_bits = 32 - message_bits - user_bits;
      const sdr_split split = {uint8_t(message_bits), uint8_t(packet_bits), uint8_t(user_bits)};
      const bool good = message_bits >= 1 && packet_bits >= 1 && user_bits <= 16;
      CHECK_EQ(sdr_split_is_valid(split), good);
      if (!good) continue;
      valid++;
      CHECK_EQ(sdr_split_fragments(split), user_bits == 0 ? 0 : (32 + user_bits - 1) / user_bits);
      sdr_geometry geometry = geometry_of(3);
      geometry.split = split;
      geometry.slots = std::min<uint32_t>(SDR_SLOTS_MAX, 1u << std::min(message_bits, 30u));
      geometry.max_message_bytes = uint64_t{64} << packet_bits;
      const uint32_t last_packet = uint32_t((uint64_t{1} << packet_bits) - 1);
      const uint32_t last_slot = geometry.slots - 1;
      const sdr_tx_packet made =
          sdr_tx_make(&geometry, last_slot, geometry.max_message_bytes, last_packet, 0xffffffff);
      CHECK_EQ(uint64_t{made.immediate} >> (packet_bits + user_bits), uint64_t{last_slot});
      CHECK_EQ(made.immediate >> user_bits & last_packet, last_packet);
      CHECK_EQ(made.bytes, 64u);
    }
  }
  // message_bits 1..31 and user_bits 0..16 with at least one packet bit left.
  CHECK_EQ(valid, 15u * 17 + 16 * 17 / 2);
  CHECK(!sdr_split_is_valid({10, 18, 5}));
  CHECK(!sdr_split_is_valid({255, 1, 32}));
}

TEST(messages_travel_under_common_and_extreme_splits) {
  const sdr_split splits[] = {{10, 18, 4}, {8, 22, 2},  {1, 31, 0},  {10, 17, 5}, {9, 20, 3},
                              {16, 8, 8},  {2, 14, 16}, {22, 10, 0}, {31, 1, 0},  {10, 11, 11}};
  for (const sdr_split split : splits) {
    sdr_geometry geometry = geometry_of(3);
    geometry.split = split;
    geometry.slots = std::min<uint32_t>(4, 1u << std::min<uint32_t>(split.message_bits, 2));
    const uint32_t packets = uint32_t(std::min<uint64_t>(100, uint64_t{1} << split.packet_bits));
    geometry.max_message_bytes = 64 * packets;
    Pair pair(geometry);
    for (uint32_t message = 0; message < 3 * geometry.slots * geometry.generations; message++) {
      carry(pair, message, 64 * packets - 1, in_order(packets));
      CHECK_EQ(sdr_rx_complete(pair.rx(), message), SDR_OK);
    }
  }
}

TEST(geometry_out_of_range_or_too_large_is_refused) {
  const sdr_geometry good = geometry_of(16);
  CHECK_EQ(sdr_geometry_check(&good), SDR_OK);
  CHECK_EQ(sdr_geometry_check(nullptr), SDR_INVALID);
  using G = sdr_geometry;
  void (*const invalid[])(G&) = {
      [](G& g) { g.packet_bytes = 63; },
      [](G& g) { g.packet_bytes = 65001; },
      [](G& g) { g.packets_per_chunk = 0; },
      [](G& g) { g.packets_per_chunk = 65537; },
      [](G& g) { g.slots = 0; },
      [](G& g) { g.slots = 1025; },
      [](G& g) { g.generations = 0; },
      [](G& g) { g.generations = 65; },
      [](G& g) { g.channels = 0; },
      [](G& g) { g.channels = 65; },
      [](G& g) { g.split = {10, 18, 5}; },
      [](G& g) { g.split = {0, 28, 4}; },
      [](G& g) { g.split = {28, 0, 4}; },
      [](G& g) { g.split = {5, 10, 17}; },
      [](G& g) { g.split = {1, 27, 4}; },  // one message bit, four slots
  };
  for (const auto change : invalid) CHECK_EQ(check_with(good, change), SDR_INVALID);

  // 2^18 packets fit the default split, one byte more does not: 1 GiB at 4 KiB.
  CHECK_EQ(check_with(good, [](G& g) { g.packet_bytes = 4096, g.max_message_bytes = 1 << 30; }),
           SDR_OK);
  CHECK_EQ(
      check_with(good, [](G& g) { g.packet_bytes = 4096, g.max_message_bytes = (1 << 30) + 1; }),
      SDR_TOO_LARGE);
  CHECK_EQ(check_with(good, [](G& g) { g.max_message_bytes = UINT64_MAX; }), SDR_TOO_LARGE);
  // 8 GiB needs 8+22+2.
  void (*const large)(G&) = [](G& g) {
    g.packet_bytes = 4096, g.split = {8, 22, 2}, g.max_message_bytes = uint64_t{8} << 30,
    g.slots = 256;
  };
  CHECK_EQ(check_with(good, large), SDR_OK);
  // The widest bitmaps: two slots of 2^31 packets, every other packet bit padding.
  void (*const widest)(G&) = [](G& g) {
    g.split = {1, 31, 0}, g.slots = 2, g.packets_per_chunk = 65,
    g.max_message_bytes = uint64_t{64} << 31;
  };
  CHECK_EQ(check_with(good, widest), SDR_TOO_LARGE);
  CHECK_EQ(check_with(good,
                      [](G& g) {
                        g.split = {1, 31, 0}, g.slots = 2, g.packets_per_chunk = 64,
                        g.max_message_bytes = uint64_t{64} << 31;
                      }),
           SDR_OK);
  sdr_rx* rx = reinterpret_cast<sdr_rx*>(1);
  sdr_geometry bad = good;
  bad.max_message_bytes = UINT64_MAX;
  CHECK_EQ(sdr_rx_create(&bad, &rx), SDR_TOO_LARGE);
  CHECK(rx == nullptr);
}

TEST(packet_numbers_map_to_chunks_exactly_up_to_the_largest) {
  std::mt19937_64 random(11);
  for (const uint32_t count :
       {1u, 2u, 3u, 7u, 16u, 33u, 63u, 64u, 65u, 100u, 1000u, 4095u, 65521u, 65535u, 65536u}) {
    sdr_geometry geometry = geometry_of(count);
    geometry.split = {1, 31, 0};
    geometry.slots = 1;
    Pair pair(geometry);
    const auto matches = [&](uint64_t packet) {
      if (packet >= uint64_t{1} << 31) return;
      CHECK_EQ(sdr_rx_chunk_of(pair.rx(), uint32_t(packet)), uint32_t(packet) / count);
    };
    for (int index = 0; index < 20000; index++) {
      const uint64_t chunk = random() % ((uint64_t{1} << 31) / count + 1);
      for (uint64_t near = 0; near < 3; near++) matches(chunk * count + near - (chunk > 0));
    }
    matches((uint64_t{1} << 31) - 1);
  }
}

TEST(sizes_around_every_boundary_complete_in_any_order) {
  std::mt19937_64 random(5);
  for (const uint32_t per_chunk :
       {1u, 2u, 3u, 5u, 16u, 31u, 32u, 33u, 63u, 64u, 65u, 127u, 128u, 130u, 200u}) {
    const uint64_t packet = 64, chunk = packet * per_chunk;
    std::vector<uint64_t> sizes = {0, 1, packet - 1, packet, packet + 1, 2 * packet};
    for (const uint64_t many : {chunk, 2 * chunk, 3 * chunk}) {
      for (const uint64_t size :
           {many - packet - 1, many - packet, many - 1, many, many + 1, many + packet}) {
        if (size <= geometry_of(1).max_message_bytes) sizes.push_back(size);
      }
    }
    for (const uint32_t channels : {1u, 3u}) {
      Pair pair(geometry_of(per_chunk, 4, 4, channels));
      uint32_t message = 0;
      for (const uint64_t bytes : sizes) {
        std::vector<uint32_t> order = in_order(pair.packets(bytes));
        for (int arrangement = 0; arrangement < 3; arrangement++) {
          if (arrangement == 1) std::reverse(order.begin(), order.end());
          if (arrangement == 2) std::shuffle(order.begin(), order.end(), random);
          carry(pair, message, bytes, order);
          for (const uint32_t one : order)
            CHECK_EQ(pair.step(message, bytes, one), SDR_STEP_DUPLICATE);
          CHECK_EQ(sdr_rx_complete(pair.rx(), message++), SDR_OK);
        }
      }
    }
  }
}

TEST(posting_follows_the_order_and_needs_a_free_slot) {
  Pair pair(geometry_of(4, 2, 2));
  CHECK_EQ(sdr_rx_post(pair.rx(), 1, nullptr, 10), SDR_OUT_OF_ORDER);
  CHECK_EQ(sdr_rx_post(pair.rx(), 0, nullptr, 64 * 1000 + 1), SDR_TOO_LARGE);
  pair.post(0, 10);
  CHECK_EQ(sdr_rx_post(pair.rx(), 0, nullptr, 10), SDR_OUT_OF_ORDER);
  pair.post(1, 10);
  CHECK_EQ(sdr_rx_post(pair.rx(), 2, nullptr, 10), SDR_BUSY);
  CHECK_EQ(sdr_rx_complete(pair.rx(), 1), SDR_OK);
  CHECK_EQ(sdr_rx_post(pair.rx(), 2, nullptr, 10), SDR_BUSY);
  CHECK_EQ(sdr_rx_post(pair.rx(), 3, nullptr, 10), SDR_OUT_OF_ORDER);
  CHECK_EQ(sdr_rx_complete(pair.rx(), 0), SDR_OK);
  CHECK_EQ(sdr_rx_complete(pair.rx(), 0), SDR_CLOSED);
  CHECK_EQ(sdr_rx_complete(pair.rx(), 2), SDR_CLOSED);
  CHECK_EQ(sdr_rx_slot_message(pair.rx(), 0), UINT32_MAX);
  pair.post(2, 10);
  CHECK_EQ(sdr_rx_slot_message(pair.rx(), 0), 2u);
  CHECK_EQ(sdr_rx_slot_message(pair.rx(), 1), UINT32_MAX);
  CHECK_EQ(sdr_rx_slot_message(pair.rx(), 2), UINT32_MAX);
  CHECK_EQ(sdr_rx_complete(pair.rx(), 0), SDR_CLOSED);
  bool complete = true;
  sdr_rx_progress progress;
  uint64_t bits[1];
  uint32_t user;
  CHECK_EQ(sdr_rx_set_length(pair.rx(), 0, 1, &complete), SDR_CLOSED);
  CHECK(!complete);
  CHECK_EQ(sdr_rx_progress_get(pair.rx(), 7, &progress), SDR_CLOSED);
  CHECK_EQ(sdr_rx_chunk_expand(pair.rx(), 0, 0, bits, 1), SDR_CLOSED);
  CHECK(!sdr_rx_user_immediate(pair.rx(), 0, &user));
}

TEST(message_numbers_end_without_wrapping) {
  Pair pair(geometry_of(4, 3, 3));
  pair.rx()->next_message = UINT32_MAX - 1;
  carry(pair, UINT32_MAX - 1, 1000, in_order(16));
  CHECK_EQ(sdr_rx_complete(pair.rx(), UINT32_MAX - 1), SDR_OK);
  CHECK_EQ(sdr_rx_post(pair.rx(), UINT32_MAX, nullptr, 10), SDR_CLOSED);
}

TEST(each_bad_completion_is_counted_by_its_reason_and_changes_nothing) {
  for (const uint32_t channels : {1u, 2u}) {
    Pair pair(geometry_of(4, 3, 2, channels));
    std::vector<uint8_t> buffer(640, 0xaa);
    pair.post(0, 600, buffer.data());  // ten packets, the last has 24 bytes
    for (const bool known : {false, true}) {
      if (known) CHECK(!pair.set_length(0, 600));
      struct {
        sdr_completion completion;
        sdr_step step;
      } cases[] = {
          {{2 * channels, 0, 64}, SDR_STEP_BAD_QUEUE},
          {{UINT32_MAX, 0, 64}, SDR_STEP_BAD_QUEUE},
          {{0, 3u << 22, 64}, SDR_STEP_BAD_SLOT},
          {{0, 1023u << 22, 64}, SDR_STEP_BAD_SLOT},
          {{0, 10u << 4, 64}, SDR_STEP_BAD_PACKET},
          {{0, 10u << 4, 0}, SDR_STEP_BAD_PACKET},
          {{0, 0x3ffffu << 4, 64}, SDR_STEP_BAD_PACKET},
          {{0, 0, 65}, SDR_STEP_BAD_LENGTH},
          {{0, 0, 0}, SDR_STEP_BAD_LENGTH},
          {{0, 0, UINT32_MAX}, SDR_STEP_BAD_LENGTH},
          {{0, 9u << 4, 25}, SDR_STEP_BAD_LENGTH},
          {{0, 9u << 4, 64}, SDR_STEP_BAD_LENGTH},
          {{0, known ? 9u << 4 : 0, known ? 23u : 0u}, SDR_STEP_BAD_LENGTH},
          {{0, 0, known ? 63u : 65u}, SDR_STEP_BAD_LENGTH},
          {{channels, 0, 64}, SDR_STEP_LATE},  // the other generation
          {{0, 1u << 22, 64}, SDR_STEP_LATE},  // a slot never posted
      };
      for (const auto& one : cases) {
        const uint64_t before = pair.counter(one.step);
        sdr_step why = SDR_STEP_KINDS;
        CHECK(sdr_rx_place(pair.rx(), &one.completion, &why) == nullptr);
        CHECK_EQ(why, one.step);
        CHECK_EQ(pair.counter(one.step), before);
        CHECK_EQ(pair.step(one.completion), one.step);
        CHECK_EQ(pair.counter(one.step), before + 1);
        uint64_t bits = 1;
        for (uint32_t chunk = 0; chunk < 3; chunk++) {
          CHECK_EQ(sdr_rx_chunk_expand(pair.rx(), 0, chunk, &bits, 1), SDR_OK);
          CHECK_EQ(bits, uint64_t{0});
        }
      }
    }
    CHECK_EQ(pair.progress(0).chunks_done, 0u);
  }
}

TEST(placing_gives_the_packets_place_until_it_is_in) {
  Pair pair(geometry_of(4));
  std::vector<uint8_t> buffer(600);
  pair.post(0, 600, buffer.data());
  pair.post(1, 600);
  for (uint32_t packet = 0; packet < 10; packet++) {
    const sdr_completion completion = pair.completion(0, 600, packet);
    sdr_step why = SDR_STEP_KINDS;
    CHECK(sdr_rx_place(pair.rx(), &completion, &why) == buffer.data() + 64 * packet);
    CHECK_EQ(why, SDR_STEP_PACKET);
    CHECK(pair.step(completion) <= SDR_STEP_CHUNK);
    CHECK(sdr_rx_place(pair.rx(), &completion, &why) == nullptr);
    CHECK_EQ(why, SDR_STEP_DUPLICATE);
  }
  sdr_step why = SDR_STEP_KINDS;
  const sdr_completion phantom = pair.completion(1, 600, 0);
  CHECK(sdr_rx_place(pair.rx(), &phantom, &why) == nullptr);
  CHECK_EQ(why, SDR_STEP_PACKET);
  CHECK_EQ(sdr_rx_complete(pair.rx(), 0), SDR_OK);
  const sdr_completion late = pair.completion(0, 600, 0);
  CHECK(sdr_rx_place(pair.rx(), &late, &why) == nullptr);
  CHECK_EQ(why, SDR_STEP_LATE);
}

TEST(late_packets_of_every_generation_change_only_the_late_counter) {
  constexpr uint32_t kSlots = 2, kGenerations = 4;
  constexpr uint64_t kBytes = 64 * 20;
  Pair pair(geometry_of(3, kSlots, kGenerations));
  uint64_t late = 0;
  for (uint32_t message = 0; message < 6 * kSlots * kGenerations; message++) {
    pair.post(message, kBytes);
    if (message % 2 == 0) pair.set_length(message, kBytes);
    for (uint32_t packet = 0; packet < 11; packet++) pair.step(message, kBytes, packet);
    const std::vector<uint8_t> bits = pair.slot_bits(message);
    // While it is live, packets of the slot's other lives: all other generations.
    for (uint32_t life = 1; life < kGenerations && life * kSlots <= message; life++) {
      for (uint32_t packet = 0; packet < 20; packet++) {
        CHECK_EQ(pair.step(message - life * kSlots, kBytes, packet), SDR_STEP_LATE);
        late++;
      }
    }
    CHECK_EQ(pair.progress(message).chunks_done, 3u);
    CHECK(pair.slot_bits(message) == bits);
    // Completed early: its own packets are late, also those that had not come yet.
    CHECK_EQ(sdr_rx_complete(pair.rx(), message), SDR_OK);
    for (uint32_t packet = 0; packet < 20; packet++) {
      CHECK_EQ(pair.step(message, kBytes, packet), SDR_STEP_LATE);
      late++;
    }
    CHECK(pair.slot_bits(message) == bits);
    CHECK_EQ(pair.counter(SDR_STEP_LATE), late);
    CHECK_EQ(pair.counter(SDR_STEP_CHUNK) + pair.counter(SDR_STEP_PACKET), 11u * (message + 1));
  }
}

TEST(slots_are_recycled_over_thousands_of_messages_in_flight_together) {
  std::mt19937_64 random(7);
  constexpr uint32_t kSlots = 5, kGenerations = 3, kMessages = 6000;
  Pair pair(geometry_of(3, kSlots, kGenerations, 2));
  std::vector<uint64_t> bytes(kMessages);
  uint64_t late = 0;
  for (uint32_t first = 0; first < kMessages; first += kSlots) {
    std::vector<std::pair<uint32_t, uint32_t>> packets;
    for (uint32_t message = first; message < first + kSlots; message++) {
      bytes[message] = random() % 1000;
      pair.post(message, bytes[message]);
      CHECK_EQ(pair.set_length(message, bytes[message]), bytes[message] == 0);
      for (uint32_t packet = 0; packet < pair.packets(bytes[message]); packet++) {
        packets.emplace_back(message, packet);
      }
    }
    std::shuffle(packets.begin(), packets.end(), random);
    for (const auto& [message, packet] : packets) {
      CHECK(pair.step(message, bytes[message], packet) <= SDR_STEP_MESSAGE);
      CHECK_EQ(pair.last_message(), message);
      if (message < kSlots) continue;
      CHECK_EQ(pair.step(message - kSlots, 1000, 0), SDR_STEP_LATE);
      late++;
    }
    for (uint32_t message = first; message < first + kSlots; message++) {
      CHECK(pair.progress(message).complete);
      CHECK_EQ(sdr_rx_complete(pair.rx(), message), SDR_OK);
    }
  }
  CHECK_EQ(pair.counter(SDR_STEP_LATE), late);
  uint64_t with_bytes = 0;
  for (const uint64_t one : bytes) with_bytes += one > 0;
  CHECK_EQ(pair.counter(SDR_STEP_MESSAGE), with_bytes);
}

TEST(a_slot_posted_again_starts_with_clear_bits) {
  Pair pair(geometry_of(65, 1, 2));
  carry(pair, 0, 64 * 1000, in_order(1000));
  CHECK_EQ(sdr_rx_complete(pair.rx(), 0), SDR_OK);
  CHECK(pair.chunk_bit(0, 15));  // still readable
  pair.post(1, 64 * 700);
  for (uint32_t chunk = 0; chunk < 11; chunk++) {
    CHECK(!pair.chunk_bit(1, chunk));
    uint64_t bits[2] = {1, 1};
    CHECK_EQ(sdr_rx_chunk_expand(pair.rx(), 1, chunk, bits, 2), SDR_OK);
    CHECK(bits[0] == 0 && bits[1] == 0);
  }
  CHECK_EQ(sdr_rx_complete(pair.rx(), 1), SDR_OK);
  carry(pair, 2, 64 * 1000, in_order(1000));
}
