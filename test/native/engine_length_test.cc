// The packet engine, one thread: lengths that become known late, expanded chunks, user immediates,
// views.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"
#include "sdr/engine.h"

namespace {

// One message at a time on a fresh receive side.
class Message {
 public:
  Message(uint32_t packets_per_chunk, uint64_t posted, uint32_t channels = 1,
          sdr_split split = {10, 18, 4}) {
    geometry_.packet_bytes = 64;
    geometry_.packets_per_chunk = packets_per_chunk;
    geometry_.slots = 2;
    geometry_.generations = 2;
    geometry_.channels = channels;
    geometry_.max_message_bytes = 64 * 2000;
    geometry_.split = split;
    CHECK_EQ(sdr_rx_create(&geometry_, &rx_), SDR_OK);
    CHECK_EQ(sdr_rx_post(rx_, 0, nullptr, posted), SDR_OK);
  }
  ~Message() { sdr_rx_destroy(rx_); }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  sdr_rx* rx() { return rx_; }
  sdr_step step(uint64_t bytes, uint32_t packet, uint32_t user = 0) {
    const sdr_tx_packet made = sdr_tx_make(&geometry_, 0, bytes, packet, user);
    return raw({made.queue, made.immediate, made.bytes});
  }
  sdr_step raw(const sdr_completion& completion) {
    return sdr_rx_step(rx_, completion.queue % geometry_.channels, &completion, nullptr);
  }
  bool set_length(uint64_t bytes) {
    bool complete = false;
    CHECK_EQ(sdr_rx_set_length(rx_, 0, bytes, &complete), SDR_OK);
    return complete;
  }
  sdr_rx_progress progress() {
    sdr_rx_progress out;
    CHECK_EQ(sdr_rx_progress_get(rx_, 0, &out), SDR_OK);
    return out;
  }
  bool user(uint32_t* value) { return sdr_rx_user_immediate(rx_, 0, value); }
  const sdr_geometry& geometry() const { return geometry_; }

 private:
  sdr_geometry geometry_{};
  sdr_rx* rx_ = nullptr;
};

uint32_t packets_of(uint64_t bytes) { return uint32_t((bytes + 63) / 64); }

}  // namespace

TEST(the_length_may_come_before_between_or_after_the_packets) {
  std::mt19937_64 random(3);
  for (const uint32_t per_chunk : {1u, 3u, 16u, 64u, 65u, 129u}) {
    for (const uint64_t bytes : {uint64_t{1}, uint64_t{64}, uint64_t{64 * 65},
                                 uint64_t{64 * 130 - 1}, uint64_t{64 * 200 + 1}}) {
      for (const uint64_t posted : {bytes, bytes + 1, bytes + 64, uint64_t{64 * 2000}}) {
        const uint32_t packets = packets_of(bytes);
        std::vector<uint32_t> order(packets);
        for (uint32_t index = 0; index < packets; index++) order[index] = index;
        std::shuffle(order.begin(), order.end(), random);
        const uint32_t chunks = (packets + per_chunk - 1) / per_chunk;
        for (const uint32_t when : {0u, 1u, packets / 2, packets - 1, packets}) {
          Message message(per_chunk, posted, 1 + when % 2);
          uint32_t reported = 0;
          for (uint32_t count = 0; count <= packets; count++) {
            if (count == std::min(when, packets)) reported += message.set_length(bytes);
            CHECK_EQ(message.progress().length_known, count >= when);
            if (count == packets) break;
            const sdr_step step = message.step(bytes, order[count]);
            CHECK(step <= SDR_STEP_MESSAGE);
            reported += step == SDR_STEP_MESSAGE;
            CHECK(step != SDR_STEP_MESSAGE || count == packets - 1);
          }
          CHECK_EQ(reported, 1u);
          CHECK(message.progress().complete);
          CHECK_EQ(message.progress().chunks_done, chunks);
          CHECK_EQ(message.progress().chunks_total, chunks);
        }
      }
    }
  }
}

TEST(a_length_is_told_once_and_fits_what_was_posted) {
  Message message(4, 600);
  bool complete = true;
  CHECK_EQ(sdr_rx_set_length(message.rx(), 0, 601, &complete), SDR_TOO_LARGE);
  CHECK(!complete);
  CHECK(!message.progress().length_known);
  CHECK_EQ(message.progress().chunks_total, 3u);
  CHECK(!message.set_length(200));
  CHECK_EQ(message.progress().chunks_total, 1u);
  CHECK(!message.set_length(200));
  CHECK_EQ(sdr_rx_set_length(message.rx(), 0, 201, &complete), SDR_INVALID);
  CHECK_EQ(sdr_rx_set_length(message.rx(), 0, 0, &complete), SDR_INVALID);
  for (uint32_t packet = 0; packet < 3; packet++)
    CHECK_EQ(message.step(200, packet), SDR_STEP_PACKET);
  CHECK_EQ(message.step(200, 3), SDR_STEP_MESSAGE);
  CHECK(message.set_length(200));
}

TEST(a_message_of_no_bytes_completes_once_its_length_is_known) {
  for (const uint64_t posted : {0, 1, 1000}) {
    Message message(4, posted);
    CHECK(!message.progress().complete);
    CHECK(message.set_length(0));
    CHECK(message.progress().complete);
    CHECK_EQ(message.progress().chunks_total, 0u);
    CHECK_EQ(message.raw({0, 0, 1}), SDR_STEP_BAD_PACKET);
    CHECK_EQ(message.raw({0, 0, 0}), SDR_STEP_BAD_PACKET);
  }
}

TEST(packets_beyond_the_announced_length_never_count) {
  for (const uint32_t per_chunk : {1u, 4u, 64u, 100u}) {
    for (const uint32_t channels : {1u, 2u}) {
      const uint64_t chunk = 64 * per_chunk, posted = 4 * chunk;
      // The whole posted size arrives, but for one packet of the first chunk; then half of it is
      // announced.
      Message message(per_chunk, posted, channels);
      const uint32_t packets = 4 * per_chunk;
      for (uint32_t packet = 1; packet < packets; packet++)
        CHECK(message.step(posted, packet) <= SDR_STEP_CHUNK);
      CHECK_EQ(message.progress().chunks_done, 3u);
      const uint64_t bytes = 2 * chunk - 64 + (per_chunk == 1 ? 64 : 0);
      CHECK(!message.set_length(bytes));
      CHECK_EQ(message.progress().chunks_total, 2u);
      CHECK_EQ(message.progress().chunks_done, 1u);
      CHECK_EQ(message.step(posted, packets - 1), SDR_STEP_BAD_PACKET);
      CHECK_EQ(message.step(posted, packets_of(bytes)), SDR_STEP_BAD_PACKET);
      CHECK(!message.progress().complete);
      CHECK_EQ(message.step(bytes, 0), SDR_STEP_MESSAGE);
      CHECK_EQ(message.progress().chunks_done, 2u);
      CHECK_EQ(message.step(bytes, 0), SDR_STEP_DUPLICATE);
    }
  }
}

TEST(a_short_packet_is_taken_anywhere_until_the_length_is_known) {
  Message message(4, 600);
  CHECK_EQ(message.raw({0, 4u << 4, 1}), SDR_STEP_PACKET);
  CHECK_EQ(message.raw({0, 9u << 4, 25}), SDR_STEP_BAD_LENGTH);  // beyond the posted bytes
  CHECK_EQ(message.raw({0, 9u << 4, 24}), SDR_STEP_PACKET);
  CHECK(!message.set_length(4 * 64 + 1));
  CHECK_EQ(message.progress().chunks_done, 1u);
  CHECK_EQ(message.raw({0, 3u << 4, 63}), SDR_STEP_BAD_LENGTH);
  for (uint32_t packet = 0; packet < 3; packet++)
    CHECK_EQ(message.step(257, packet), SDR_STEP_PACKET);
  CHECK_EQ(message.step(257, 3), SDR_STEP_MESSAGE);
}

TEST(a_chunk_expands_to_its_packets) {
  for (const uint32_t per_chunk : {1u, 3u, 16u, 33u, 64u, 65u, 128u, 190u}) {
    std::mt19937_64 random(per_chunk);
    const uint32_t packets = per_chunk * 4 + per_chunk / 2 + 1;
    const uint64_t bytes = 64 * uint64_t{packets};
    Message message(per_chunk, bytes, 2);
    std::vector<bool> in(packets);
    for (uint32_t count = 0; count < packets; count++) {
      const uint32_t packet = uint32_t(random() % packets);
      CHECK_EQ(message.step(bytes, packet) == SDR_STEP_DUPLICATE, bool(in[packet]));
      in[packet] = true;
      if (count == packets / 2) CHECK(!message.set_length(bytes));
    }
    const size_t words = (per_chunk + 63) / 64;
    std::vector<uint64_t> bits(words + 1, 0x5555);
    const uint32_t chunks = (packets + per_chunk - 1) / per_chunk;
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
      CHECK_EQ(sdr_rx_chunk_expand(message.rx(), 0, chunk, bits.data(), words), SDR_OK);
      CHECK_EQ(bits[words], uint64_t{0x5555});
      for (uint32_t index = 0; index < words * 64; index++) {
        const uint32_t packet = chunk * per_chunk + index;
        const bool expected = index < per_chunk && packet < packets && in[packet];
        CHECK_EQ((bits[index / 64] >> (index % 64) & 1) != 0, expected);
      }
    }
    CHECK_EQ(sdr_rx_chunk_expand(message.rx(), 0, chunks, bits.data(), words), SDR_INVALID);
    CHECK_EQ(sdr_rx_chunk_expand(message.rx(), 0, 0, bits.data(), words - 1), SDR_INVALID);
  }
}

TEST(the_user_immediate_is_rebuilt_once_every_fragment_is_in) {
  std::mt19937_64 random(9);
  for (uint32_t user_bits = 1; user_bits <= 16; user_bits++) {
    const sdr_split split = {4, uint8_t(28 - user_bits), uint8_t(user_bits)};
    const uint32_t fragments = sdr_split_fragments(split);
    for (const uint32_t value : {0u, 1u, 0x80000000u, 0xffffffffu, uint32_t(random())}) {
      const uint64_t bytes = 64 * uint64_t{fragments} * 3;
      Message message(4, bytes, 1 + value % 2, split);
      std::vector<uint32_t> order(fragments * 3);
      for (uint32_t index = 0; index < order.size(); index++) order[index] = index;
      std::shuffle(order.begin(), order.end(), random);
      uint32_t mask = 0;
      for (const uint32_t packet : order) {
        uint32_t got = 0;
        CHECK(message.step(bytes, packet, value) <= SDR_STEP_CHUNK);
        mask |= 1u << (packet % fragments);
        const bool all = mask == (fragments == 32 ? UINT32_MAX : (1u << fragments) - 1);
        CHECK_EQ(message.user(&got), all);
        if (all) CHECK_EQ(got, value);
      }
    }
  }
}

TEST(there_is_no_user_immediate_without_bits_or_with_too_few_packets) {
  uint32_t value = 0;
  Message without(4, 6400, 1, {10, 22, 0});
  for (uint32_t packet = 0; packet < 100; packet++)
    CHECK(without.step(6400, packet, 77) <= SDR_STEP_CHUNK);
  CHECK(!without.user(&value));
  Message few(4, 64 * 7);  // eight fragments of four bits
  for (uint32_t packet = 0; packet < 7; packet++)
    CHECK(few.step(64 * 7, packet, 77) <= SDR_STEP_CHUNK);
  CHECK(few.set_length(64 * 7));
  CHECK(!few.user(&value));
}

TEST(fragment_bits_beyond_the_32nd_are_ignored) {
  const sdr_split split = {4, 17, 11};  // 3 fragments carry 33 bits
  Message message(4, 64 * 3, 1, split);
  for (uint32_t packet = 0; packet < 3; packet++) {
    CHECK(message.raw({0, packet << 11 | 0x7ff, 64}) <= SDR_STEP_CHUNK);
  }
  uint32_t value = 0;
  CHECK(message.user(&value));
  CHECK_EQ(value, UINT32_MAX);
}

TEST(the_slab_holds_every_slots_chunk_bits_on_lines_of_its_own) {
  Message message(3, 64 * 2000);
  const sdr_bitmap_slab slab = sdr_rx_bitmaps(message.rx());
  CHECK_EQ(reinterpret_cast<uintptr_t>(slab.base) % 64, uintptr_t{0});
  CHECK_EQ(slab.stride % 64, size_t{0});
  CHECK(slab.stride * 8 >= 667);
  CHECK_EQ(slab.bytes, slab.stride * message.geometry().slots);
}
