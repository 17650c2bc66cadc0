// Parity chunks in the packet engine, one thread: where they are numbered and placed, bounds, what they do not count
// for; sealing and filling chunks; and all of it at random against a model.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include "check.h"
#include "sdr/engine.h"

namespace {

constexpr uint32_t kPacketBytes = 64;
constexpr uint32_t kModelRounds = 400;

sdr_geometry geometry_of(uint32_t packets_per_chunk, uint32_t channels = 1) {
  sdr_geometry geometry{};
  geometry.packet_bytes = kPacketBytes;
  geometry.packets_per_chunk = packets_per_chunk;
  geometry.slots = 2;
  geometry.generations = 4;
  geometry.channels = channels;
  geometry.max_message_bytes = uint64_t{kPacketBytes} * packets_per_chunk * 100;
  geometry.split = {10, 18, 4};
  return geometry;
}

// A receive side and the sender that matches it.
class Side {
 public:
  explicit Side(const sdr_geometry& of) : geometry(of) { CHECK_EQ(sdr_rx_create(&of, &rx), SDR_OK); }
  ~Side() { sdr_rx_destroy(rx); }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  // Cut by `bytes`; UINT64_MAX: full, as parity is.
  sdr_completion completion(uint32_t message, uint64_t bytes, uint32_t packet, uint32_t user = 0) const {
    const sdr_tx_packet made = sdr_tx_make(&geometry, message, bytes, packet, user);
    return {made.queue, made.immediate, made.bytes};
  }
  void* place(uint32_t message, uint64_t bytes, uint32_t packet, sdr_step* why) {
    const sdr_completion one = completion(message, bytes, packet);
    return sdr_rx_place(rx, &one, why);
  }
  sdr_step step(const sdr_completion& one) {
    return sdr_rx_step(rx, one.queue % geometry.channels, &one, nullptr);
  }
  sdr_step step(uint32_t message, uint64_t bytes, uint32_t packet, uint32_t user = 0) {
    return step(completion(message, bytes, packet, user));
  }
  sdr_step parity_step(uint32_t message, uint32_t packet) { return step(message, UINT64_MAX, packet); }
  bool set_length(uint32_t message, uint64_t bytes) {
    bool complete = false;
    CHECK_EQ(sdr_rx_set_length(rx, message, bytes, &complete), SDR_OK);
    return complete;
  }
  bool bit(uint32_t message, uint32_t index) const {
    const sdr_bitmap_slab slab = sdr_rx_bitmaps(rx);
    const auto* words = reinterpret_cast<const uint32_t*>(slab.base + message % geometry.slots * slab.stride);
    return (words[index >> 5] >> (index & 31) & 1) != 0;
  }
  uint32_t done(uint32_t message) const {
    sdr_rx_progress progress{};
    CHECK_EQ(sdr_rx_progress_get(rx, message, &progress), SDR_OK);
    return progress.chunks_done;
  }
  bool complete(uint32_t message) const {
    sdr_rx_progress progress{};
    CHECK_EQ(sdr_rx_progress_get(rx, message, &progress), SDR_OK);
    return progress.complete;
  }
  uint32_t chunks(uint64_t bytes) const { return sdr_rx_parity_first(&geometry, bytes); }

  const sdr_geometry geometry;
  sdr_rx* rx = nullptr;
};

bool seal_one(Side& side, uint32_t message, uint32_t chunk) {
  uint8_t flag = 1;
  CHECK_EQ(sdr_rx_seal(side.rx, message, chunk, 1, &flag), SDR_OK);
  return flag != 0;
}

bool fill_one(Side& side, uint32_t message, uint32_t chunk) {
  const uint8_t flag = 1;
  bool complete = false;
  CHECK_EQ(sdr_rx_fill(side.rx, message, chunk, 1, &flag, &complete), SDR_OK);
  return complete;
}

}  // namespace

TEST(parity_is_numbered_behind_the_posted_chunks_and_has_words_of_its_own) {
  const sdr_geometry geometry = geometry_of(4);  // 256-byte chunks
  const uint64_t chunk = 256;
  CHECK_EQ(sdr_rx_parity_first(&geometry, 0), 0u);
  CHECK_EQ(sdr_rx_parity_bits(&geometry, 0), 0u);
  CHECK_EQ(sdr_rx_parity_first(&geometry, 1), 1u);
  CHECK_EQ(sdr_rx_parity_bits(&geometry, 1), 32u);
  CHECK_EQ(sdr_rx_parity_first(&geometry, 32 * chunk), 32u);
  CHECK_EQ(sdr_rx_parity_bits(&geometry, 32 * chunk), 32u);
  CHECK_EQ(sdr_rx_parity_first(&geometry, 32 * chunk + 1), 33u);
  CHECK_EQ(sdr_rx_parity_bits(&geometry, 32 * chunk + 1), 64u);
}

TEST(parity_packets_are_placed_and_counted_for_nothing) {
  for (const uint32_t per_chunk : {1u, 3u, 16u, 64u, 70u, 130u}) {
    for (const uint32_t channels : {1u, 3u}) {
      for (const bool known : {false, true}) {
        Side side(geometry_of(per_chunk, channels));
        const uint64_t chunk = uint64_t{kPacketBytes} * per_chunk;
        const uint64_t bytes = 33 * chunk + 1;  // 34 chunks, the last one of one short packet
        const uint32_t parity_chunks = 35;
        std::vector<uint8_t> buffer(bytes), parity(parity_chunks * chunk);
        CHECK_EQ(sdr_rx_post_parity(side.rx, 0, buffer.data(), bytes, parity.data(), parity_chunks), SDR_OK);
        if (known) CHECK(!side.set_length(0, bytes));
        const uint32_t first = side.chunks(bytes) * per_chunk, bits = sdr_rx_parity_bits(&side.geometry, bytes);
        for (uint32_t packet = 0; packet < parity_chunks * per_chunk; packet++) {
          sdr_step why = SDR_STEP_LATE;
          CHECK(!side.bit(0, bits + packet / per_chunk));
          CHECK_EQ(side.place(0, UINT64_MAX, first + packet, &why),
                   (void*)(parity.data() + size_t{packet} * kPacketBytes));
          CHECK_EQ(why, SDR_STEP_PACKET);
          const bool last = (packet + 1) % per_chunk == 0;
          CHECK_EQ(side.parity_step(0, first + packet), last ? SDR_STEP_CHUNK : SDR_STEP_PACKET);
          CHECK_EQ(side.parity_step(0, first + packet), SDR_STEP_DUPLICATE);
          CHECK(side.place(0, UINT64_MAX, first + packet, &why) == nullptr);
          CHECK_EQ(why, SDR_STEP_DUPLICATE);
          CHECK_EQ(side.bit(0, bits + packet / per_chunk), last);
        }
        CHECK_EQ(side.done(0), 0u);
        for (uint32_t index = 0; index < bits; index++) CHECK(!side.bit(0, index));
        if (!known) CHECK(!side.set_length(0, bytes));
        // The message's own chunks are as they are without parity.
        uint32_t messages = 0;
        for (uint32_t packet = 0; packet < 33 * per_chunk + 1; packet++) {
          sdr_step why = SDR_STEP_LATE;
          CHECK_EQ(side.place(0, bytes, packet, &why), (void*)(buffer.data() + size_t{packet} * kPacketBytes));
          messages += side.step(0, bytes, packet) == SDR_STEP_MESSAGE;
        }
        CHECK_EQ(messages, 1u);
        CHECK_EQ(side.done(0), 34u);
      }
    }
  }
}

TEST(packets_between_behind_and_of_a_wrong_length_are_refused) {
  for (const bool known : {false, true}) {
    Side side(geometry_of(4));
    const uint64_t bytes = 2 * 256 + 65;  // the third chunk has two packets of four
    std::vector<uint8_t> buffer(bytes), parity(3 * 256);
    CHECK_EQ(sdr_rx_post_parity(side.rx, 0, buffer.data(), bytes, parity.data(), 3), SDR_OK);
    if (known) side.set_length(0, bytes);
    for (const uint32_t packet : {10u, 11u, 24u, 25u, (1u << 18) - 1}) {  // parity: 12 to 23
      sdr_step why = SDR_STEP_PACKET;
      CHECK(side.place(0, UINT64_MAX, packet, &why) == nullptr);
      CHECK_EQ(why, SDR_STEP_BAD_PACKET);
      CHECK_EQ(side.parity_step(0, packet), SDR_STEP_BAD_PACKET);
    }
    for (const uint32_t packet : {12u, 23u}) {
      for (const uint32_t length : {0u, 1u, 63u, 65u}) {
        sdr_completion one = side.completion(0, UINT64_MAX, packet);
        one.bytes = length;
        sdr_step why = SDR_STEP_PACKET;
        CHECK(sdr_rx_place(side.rx, &one, &why) == nullptr);
        CHECK_EQ(why, SDR_STEP_BAD_LENGTH);
        CHECK_EQ(side.step(one), SDR_STEP_BAD_LENGTH);
      }
      CHECK_EQ(side.parity_step(0, packet), SDR_STEP_PACKET);
    }
  }
  // Without parity nothing lies behind the message.
  Side plain(geometry_of(4));
  CHECK_EQ(sdr_rx_post(plain.rx, 0, nullptr, 256), SDR_OK);
  CHECK_EQ(plain.parity_step(0, 4), SDR_STEP_BAD_PACKET);
}

TEST(a_shorter_true_length_leaves_parity_where_it_was_posted) {
  Side side(geometry_of(4));
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, 40 * 256, nullptr, 2), SDR_OK);
  CHECK_EQ(side.parity_step(0, 160), SDR_STEP_PACKET);
  const uint64_t bytes = 256 + 10;
  CHECK(!side.set_length(0, bytes));
  for (const uint32_t packet : {5u, 8u, 159u}) CHECK_EQ(side.parity_step(0, packet), SDR_STEP_BAD_PACKET);
  for (uint32_t packet = 161; packet < 168; packet++)
    CHECK_EQ(side.parity_step(0, packet), packet % 4 == 3 ? SDR_STEP_CHUNK : SDR_STEP_PACKET);
  CHECK(side.bit(0, 64) && side.bit(0, 65));  // 40 chunks take two words
  CHECK_EQ(side.done(0), 0u);
  for (uint32_t packet = 0; packet < 4; packet++) side.step(0, bytes, packet);
  CHECK_EQ(side.step(0, bytes, 4), SDR_STEP_MESSAGE);
}

TEST(more_chunks_than_the_largest_message_has_are_refused) {
  Side side(geometry_of(4));  // 100 chunks
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, 98 * 256 + 1, nullptr, 2), SDR_TOO_LARGE);
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, 0, nullptr, 101), SDR_TOO_LARGE);
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, 256, nullptr, UINT32_MAX), SDR_TOO_LARGE);
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, 98 * 256, nullptr, 2), SDR_OK);
  CHECK_EQ(side.parity_step(0, 399), SDR_STEP_PACKET);
  CHECK_EQ(sdr_rx_post_parity(side.rx, 1, nullptr, 0, nullptr, 100), SDR_OK);
  CHECK_EQ(side.parity_step(1, 399), SDR_STEP_PACKET);

  // The largest message's last chunk is short: as parity it would have packets that no immediate can number.
  sdr_geometry narrow = geometry_of(5);
  narrow.max_message_bytes = 16 * kPacketBytes;
  narrow.split = {12, 4, 16};
  Side edge(narrow);
  CHECK_EQ(sdr_rx_post_parity(edge.rx, 0, nullptr, 10 * kPacketBytes, nullptr, 2), SDR_TOO_LARGE);
  CHECK_EQ(sdr_rx_post_parity(edge.rx, 0, nullptr, 10 * kPacketBytes, nullptr, 1), SDR_OK);
  CHECK_EQ(edge.parity_step(0, 14), SDR_STEP_PACKET);
  CHECK_EQ(edge.parity_step(0, 15), SDR_STEP_BAD_PACKET);
}

TEST(parity_after_the_message_is_complete_is_taken_and_after_the_slot_is_inert_is_late) {
  Side side(geometry_of(1));
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, kPacketBytes, nullptr, 2), SDR_OK);
  side.set_length(0, kPacketBytes);
  CHECK_EQ(side.step(0, kPacketBytes, 0), SDR_STEP_MESSAGE);
  CHECK_EQ(side.parity_step(0, 1), SDR_STEP_CHUNK);
  CHECK_EQ(sdr_rx_complete(side.rx, 0), SDR_OK);
  CHECK_EQ(side.parity_step(0, 2), SDR_STEP_LATE);
  sdr_step why = SDR_STEP_PACKET;
  CHECK(side.place(0, UINT64_MAX, 2, &why) == nullptr);
  CHECK_EQ(why, SDR_STEP_LATE);
  CHECK(!side.bit(0, 33));
}

TEST(posting_a_slot_again_clears_parity_and_seals) {
  Side side(geometry_of(2));
  const uint64_t chunk = 2 * kPacketBytes;
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, 3 * chunk, nullptr, 40), SDR_OK);
  side.set_length(0, 3 * chunk);
  for (uint32_t packet = 6; packet < 86; packet++) side.parity_step(0, packet);
  for (uint32_t chunk_index = 0; chunk_index < 3; chunk_index++) CHECK(seal_one(side, 0, chunk_index));
  CHECK_EQ(sdr_rx_complete(side.rx, 0), SDR_OK);
  CHECK_EQ(sdr_rx_post(side.rx, 1, nullptr, 1), SDR_OK);
  // The same slot, otherwise divided: what was parity is data now, and the other way round.
  CHECK_EQ(sdr_rx_post_parity(side.rx, 2, nullptr, 20 * chunk, nullptr, 3), SDR_OK);
  side.set_length(2, 20 * chunk);
  for (uint32_t index = 0; index < 64; index++) CHECK(!side.bit(2, index));
  for (uint32_t packet = 0; packet < 40; packet++) {
    const sdr_step expected = packet == 39 ? SDR_STEP_MESSAGE : packet % 2 == 1 ? SDR_STEP_CHUNK : SDR_STEP_PACKET;
    CHECK_EQ(side.step(2, 20 * chunk, packet), expected);
  }
  for (uint32_t packet = 40; packet < 46; packet++)
    CHECK_EQ(side.parity_step(2, packet), packet % 2 == 1 ? SDR_STEP_CHUNK : SDR_STEP_PACKET);
  CHECK_EQ(side.parity_step(2, 46), SDR_STEP_BAD_PACKET);
}

TEST(packet_bits_are_shown_of_the_messages_own_chunks_only) {
  Side side(geometry_of(4));
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, 2 * 256, nullptr, 2), SDR_OK);
  side.set_length(0, 2 * 256);
  side.step(0, 512, 5);
  side.parity_step(0, 8);
  uint64_t bits = 0;
  CHECK_EQ(sdr_rx_chunk_expand(side.rx, 0, 1, &bits, 1), SDR_OK);
  CHECK_EQ(bits, uint64_t{2});
  CHECK_EQ(sdr_rx_chunk_expand(side.rx, 0, 2, &bits, 1), SDR_INVALID);
}

TEST(parity_packets_bring_their_parts_of_the_user_immediate) {
  Side side(geometry_of(1));
  const uint32_t user = 0x89abcdef;  // eight parts of four bits
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, 4 * kPacketBytes, nullptr, 4), SDR_OK);
  side.set_length(0, 4 * kPacketBytes);
  uint32_t value = 0;
  for (uint32_t packet = 0; packet < 8; packet++) {
    CHECK(!sdr_rx_user_immediate(side.rx, 0, &value));
    side.step(0, packet < 4 ? 4 * kPacketBytes : UINT64_MAX, packet, user);
  }
  CHECK(sdr_rx_user_immediate(side.rx, 0, &value));
  CHECK_EQ(value, user);
}

TEST(only_chunks_of_a_known_message_with_parity_can_be_sealed) {
  Side side(geometry_of(4));
  uint8_t flags[4] = {1, 1, 1, 1};
  bool complete = false;
  CHECK_EQ(sdr_rx_seal(side.rx, 0, 0, 1, flags), SDR_CLOSED);
  CHECK_EQ(sdr_rx_fill(side.rx, 0, 0, 1, flags, &complete), SDR_CLOSED);
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, 4 * 256, nullptr, 1), SDR_OK);
  CHECK_EQ(sdr_rx_seal(side.rx, 0, 0, 1, flags), SDR_INVALID);
  side.set_length(0, 2 * 256 + 1);
  CHECK_EQ(sdr_rx_seal(side.rx, 0, 0, 5, flags), SDR_INVALID);
  CHECK_EQ(sdr_rx_seal(side.rx, 0, 5, 0, flags), SDR_INVALID);
  CHECK_EQ(sdr_rx_seal(side.rx, 0, 1, UINT32_MAX, flags), SDR_INVALID);
  CHECK_EQ(sdr_rx_fill(side.rx, 0, 0, 5, flags, &complete), SDR_INVALID);
  CHECK_EQ(sdr_rx_fill(side.rx, 0, 0, 4, flags, &complete), SDR_INVALID);  // not sealed
  CHECK_EQ(side.done(0), 0u);
  for (uint32_t packet = 0; packet < 4; packet++) side.step(0, 2 * 256 + 1, packet);
  flags[1] = 0;
  CHECK_EQ(sdr_rx_seal(side.rx, 0, 0, 4, flags), SDR_OK);
  // The first is complete, the second was not asked for, the last is beyond the message.
  CHECK_EQ(int{flags[0]}, 0);
  CHECK_EQ(int{flags[1]}, 0);
  CHECK_EQ(int{flags[2]}, 1);
  CHECK_EQ(int{flags[3]}, 0);
  flags[1] = 1;
  CHECK_EQ(sdr_rx_fill(side.rx, 0, 0, 4, flags, &complete), SDR_INVALID);  // one of them is not sealed
  CHECK_EQ(side.done(0), 1u);

  CHECK_EQ(sdr_rx_post(side.rx, 1, nullptr, 256), SDR_OK);
  side.set_length(1, 256);
  CHECK_EQ(sdr_rx_seal(side.rx, 1, 0, 1, flags), SDR_INVALID);
}

TEST(packets_of_a_sealed_chunk_are_duplicates_and_leave_no_trace) {
  for (const uint32_t per_chunk : {1u, 4u, 70u}) {
    Side side(geometry_of(per_chunk));
    const uint64_t chunk = uint64_t{kPacketBytes} * per_chunk, bytes = 2 * chunk;
    std::vector<uint8_t> buffer(bytes), parity(chunk);
    CHECK_EQ(sdr_rx_post_parity(side.rx, 0, buffer.data(), bytes, parity.data(), 1), SDR_OK);
    side.set_length(0, bytes);
    if (per_chunk > 1) CHECK_EQ(side.step(0, bytes, 0), SDR_STEP_PACKET);
    CHECK(seal_one(side, 0, 0));
    for (uint32_t packet = 0; packet < per_chunk; packet++) {
      sdr_step why = SDR_STEP_PACKET;
      CHECK(side.place(0, bytes, packet, &why) == nullptr);
      CHECK_EQ(why, SDR_STEP_DUPLICATE);
      CHECK_EQ(side.step(0, bytes, packet), SDR_STEP_DUPLICATE);
    }
    std::vector<uint64_t> bits((per_chunk + 63) / 64);
    CHECK_EQ(sdr_rx_chunk_expand(side.rx, 0, 0, bits.data(), bits.size()), SDR_OK);
    CHECK_EQ(bits[0], uint64_t{per_chunk > 1 ? 1u : 0u});
    CHECK(!side.bit(0, 0));
    CHECK(!fill_one(side, 0, 0));
    CHECK(side.bit(0, 0));
    CHECK_EQ(side.done(0), 1u);
    CHECK(!fill_one(side, 0, 0));  // again: counted once
    CHECK_EQ(side.done(0), 1u);
    // The other chunk goes on as before, and its last packet completes the message.
    for (uint32_t packet = per_chunk; packet + 1 < 2 * per_chunk; packet++)
      CHECK_EQ(side.step(0, bytes, packet), SDR_STEP_PACKET);
    CHECK_EQ(side.step(0, bytes, 2 * per_chunk - 1), SDR_STEP_MESSAGE);
    CHECK(!seal_one(side, 0, 1));
  }
}

TEST(the_call_that_fills_the_last_missing_chunk_completes_the_message) {
  Side side(geometry_of(4));
  const uint64_t bytes = 3 * 256 + 5;
  CHECK_EQ(sdr_rx_post_parity(side.rx, 0, nullptr, 50 * 256, nullptr, 1), SDR_OK);
  side.set_length(0, bytes);
  for (uint32_t packet = 4; packet < 8; packet++) side.step(0, bytes, packet);
  uint8_t flags[4] = {1, 1, 1, 1};
  CHECK_EQ(sdr_rx_seal(side.rx, 0, 0, 4, flags), SDR_OK);
  CHECK_EQ(int{flags[1]}, 0);
  bool complete = true;
  uint8_t two[4] = {1, 0, 1, 0};
  CHECK_EQ(sdr_rx_fill(side.rx, 0, 0, 4, two, &complete), SDR_OK);
  CHECK(!complete && !side.complete(0));
  CHECK_EQ(sdr_rx_fill(side.rx, 0, 0, 4, flags, &complete), SDR_OK);
  CHECK(complete && side.complete(0));
  CHECK_EQ(sdr_rx_fill(side.rx, 0, 0, 4, flags, &complete), SDR_OK);
  CHECK(!complete);  // told once
  CHECK_EQ(side.done(0), 4u);
  bool again = false;
  CHECK_EQ(sdr_rx_set_length(side.rx, 0, bytes, &again), SDR_OK);
  CHECK(again);
}

namespace {

// What the engine must say of a message with parity, kept in plain vectors.
struct Model {
  Model(uint32_t per_chunk_is, uint32_t posted_chunks, uint32_t parity_chunks, uint64_t length)
      : per_chunk(per_chunk_is),
        posted(posted_chunks),
        packets(uint32_t((length + kPacketBytes - 1) / kPacketBytes)),
        chunks((packets + per_chunk - 1) / per_chunk),
        in((posted + parity_chunks) * per_chunk),
        sealed(chunks),
        full(posted + parity_chunks) {}

  sdr_step step(uint32_t packet) {
    const uint32_t chunk = packet / per_chunk;
    if (packet >= in.size() || (packet >= packets && chunk < posted)) return SDR_STEP_BAD_PACKET;
    if (in[packet] || (chunk < posted && sealed[chunk])) return SDR_STEP_DUPLICATE;
    in[packet] = true;
    const uint32_t end = chunk < posted ? std::min(packets, (chunk + 1) * per_chunk) : (chunk + 1) * per_chunk;
    if (!std::all_of(in.begin() + chunk * per_chunk, in.begin() + end, [](bool is) { return is; }))
      return SDR_STEP_PACKET;
    full[chunk] = true;
    return chunk < posted && ++done == chunks ? SDR_STEP_MESSAGE : SDR_STEP_CHUNK;
  }

  const uint32_t per_chunk, posted, packets, chunks;
  std::vector<bool> in, sealed, full;
  uint32_t done = 0;
};

void compare(const Side& side, uint32_t message, const Model& model, uint64_t posted_bytes) {
  CHECK_EQ(side.done(message), model.done);
  CHECK_EQ(side.complete(message), model.done == model.chunks);
  const uint32_t bits = sdr_rx_parity_bits(&side.geometry, posted_bytes);
  for (uint32_t chunk = 0; chunk < model.full.size(); chunk++)
    CHECK_EQ(side.bit(message, chunk < model.posted ? chunk : bits + chunk - model.posted), bool{model.full[chunk]});
}

void run_model(uint64_t seed) {
  std::mt19937_64 random(seed);
  const uint32_t per_chunk = std::vector<uint32_t>{1, 2, 5, 16, 64, 67}[random() % 6];
  Side side(geometry_of(per_chunk, uint32_t(1 + random() % 3)));
  for (uint32_t message = 0; message < 4; message++) {
    const uint32_t posted = uint32_t(1 + random() % 40), parity = uint32_t(1 + random() % 40);
    const uint64_t posted_bytes = posted * uint64_t{per_chunk} * kPacketBytes - random() % kPacketBytes;
    const uint64_t length = 1 + random() % posted_bytes;
    CHECK_EQ(sdr_rx_post_parity(side.rx, message, nullptr, posted_bytes, nullptr, parity), SDR_OK);
    side.set_length(message, length);
    Model model(per_chunk, posted, parity, length);
    for (uint32_t turn = 0; turn < 8 * model.in.size() && model.done < model.chunks; turn++) {
      const auto packet = uint32_t(random() % (model.in.size() + 3));
      const uint64_t cut = packet < model.packets ? length : UINT64_MAX;
      CHECK_EQ(side.step(message, cut, packet), model.step(packet));
      if (random() % 16 != 0) continue;
      const auto first = uint32_t(random() % model.chunks);
      const auto count = uint32_t(1 + random() % std::min(4u, posted - first));
      uint8_t flags[4], asked[4];
      for (uint32_t i = 0; i < count; i++) flags[i] = asked[i] = random() % 2;
      CHECK_EQ(sdr_rx_seal(side.rx, message, first, count, flags), SDR_OK);
      bool complete = false, expected = false;
      for (uint32_t i = 0; i < count; i++) {
        const bool taken = asked[i] != 0 && first + i < model.chunks && !model.full[first + i];
        CHECK_EQ(flags[i] != 0, taken);
        if (taken) model.sealed[first + i] = true;
      }
      if (random() % 2 == 0) continue;  // sealed for good, filled by a later turn
      CHECK_EQ(sdr_rx_fill(side.rx, message, first, count, flags, &complete), SDR_OK);
      for (uint32_t i = 0; i < count; i++) {
        if (flags[i] == 0) continue;
        model.full[first + i] = true;
        expected = ++model.done == model.chunks;
      }
      CHECK_EQ(complete, expected);
    }
    compare(side, message, model, posted_bytes);
    CHECK_EQ(sdr_rx_complete(side.rx, message), SDR_OK);
  }
}

}  // namespace

TEST(steps_seals_and_fills_at_random_are_as_the_model_says) {
  const char* text = std::getenv("SDR_SEED");
  const uint64_t seed = text ? std::strtoull(text, nullptr, 10) : 1;
  std::printf("  SDR_SEED=%llu, %u rounds\n", (unsigned long long)seed, kModelRounds);
  for (uint32_t round = 0; round < kModelRounds; round++) run_model(seed + round);
}
