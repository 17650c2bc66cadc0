// The emulated world under loss, duplication, reordering and corruption: safety, determinism,
// recovery.
#include <algorithm>
#include <map>

#include "emulated_fixture.h"

using namespace sdr;
using namespace fixture;

namespace {

LinkConfig rough(double severity = 1) {
  LinkConfig config = link(8e9, 200'000);
  config.jitter_ns = 60'000;
  config.distribution = Distribution::paretonormal;
  config.loss = LossModel::bernoulli;
  config.loss_probability = 0.3 * severity;
  config.duplicate_probability = 0.1 * severity;
  config.corrupt_probability = 0.01 * severity;
  config.reorder_probability = 0.2 * severity;
  return config;
}

// The simplest reliable write: the receiver sends its chunk bitmap as a control datagram now and
// then, the sender sends again what the newest one lacks. Real bytes, both directions impaired.
// Every decision is made between calls of advance(), at times that do not depend on how far each
// call may go.
struct Repeater {
  Repeater(Pair& p, uint32_t chunk_count, uint64_t size)
      : pair(p), chunks(chunk_count), bytes(size) {}

  void post(uint32_t message, const RegionRef& source, const RegionRef& destination) {
    from = source;
    current = message;
    missing.assign(chunks, true);
    bool complete = false;
    CHECK_EQ(pair.b->post_receive(message, destination, 0, bytes), SDR_OK);
    CHECK_EQ(pair.b->set_length(message, bytes, &complete), SDR_OK);
    CHECK_EQ(pair.a->open_send(message, bytes, 0), SDR_OK);
  }
  void send_missing() {
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
      if (!missing[chunk]) continue;
      const uint64_t offset = chunk * 4000ull, size = std::min<uint64_t>(4000, bytes - offset);
      CHECK_EQ(pair.a->post_send(current, chunk, from, offset, chunk, size), SDR_OK);
    }
  }
  void send_bitmap() {
    const sdr_bitmap_slab slab = pair.b->engine().bitmaps();
    const uint8_t* const bits = slab.base + (current % 8) * slab.stride;
    CHECK_EQ(pair.b->send_control(PacketKind::ack, bits, (chunks + 31) / 32 * 4), SDR_OK);
  }
  void read_bitmaps() {
    for (const auto& body : pair.bodies) {
      for (uint32_t chunk = 0; chunk < chunks; chunk++) {
        if (body[chunk / 8] >> (chunk % 8) & 1) missing[chunk] = false;
      }
    }
    pair.bodies.clear();
  }
  // One round: send, let everything land, answer. `step_ns` bounds each advance.
  void round(int64_t round_ns, int64_t step_ns) {
    send_missing();
    const int64_t end = pair.world.now_ns() + round_ns;
    run_until(end, step_ns);
    send_bitmap();
    run_until(end + round_ns, step_ns);
    read_bitmaps();
  }
  void run_until(int64_t end, int64_t step_ns) {
    while (pair.world.now_ns() < end || !pair.world.events().empty()) {
      pair.step(step_ns == 0 ? end : std::min(end, pair.world.now_ns() + step_ns));
    }
  }

  Pair& pair;
  const uint32_t chunks;
  const uint64_t bytes;
  RegionRef from;
  uint32_t current = 0;
  std::vector<bool> missing;
};

std::string transfer(uint64_t seed, int64_t step_ns, uint64_t* delivered_hash) {
  Settings s;
  s.ab = s.ba = rough();
  s.seed = seed;
  s.progress_interval_ns = 5'000;
  Pair pair(s);
  const uint64_t bytes = 40 * 4000 + 1;
  const RegionRef from = memory(bytes, 7), to = memory(bytes);
  Repeater repeater(pair, 41, bytes);
  repeater.post(0, from, to);
  int rounds = 0;
  while (std::count(repeater.missing.begin(), repeater.missing.end(), true) > 0) {
    repeater.round(3'000'000, step_ns);
    CHECK(++rounds < 200);
  }
  CHECK(pair.is_complete(0));
  CHECK_EQ(hash(to), hash(from));
  *delivered_hash = hash(to);
  return text(pair.log);
}

}  // namespace

TEST(every_byte_arrives_through_rough_links_in_both_directions) {
  uint64_t delivered = 0;
  for (uint64_t seed = 1; seed <= 20; seed++) transfer(seed, 0, &delivered);
}

TEST(equal_seeds_give_equal_runs_and_the_size_of_steps_changes_nothing) {
  uint64_t delivered = 0;
  const std::string once = transfer(5, 0, &delivered);
  CHECK(once == transfer(5, 0, &delivered));
  for (const int64_t step_ns : {1, 777, 100'000}) CHECK(once == transfer(5, step_ns, &delivered));
  CHECK(once != transfer(6, 0, &delivered));
}

TEST(duplicates_and_reordering_are_counted_and_harmless) {
  Settings s;
  s.ab.duplicate_probability = 0.3;
  s.ab.reorder_probability = 0.3;
  s.ab.jitter_ns = 50'000;
  Pair pair(s);
  const RegionRef from = memory(400'000, 3), to = memory(400'000);
  pair.send(0, 400'000, from, to);
  pair.run();
  CHECK(pair.is_complete(0));
  CHECK_EQ(hash(to), hash(from));
  const LinkCounters link = pair.a->link_counters();
  const QpCounters counters = pair.b->counters();
  CHECK(link.duplicated > 50 && link.reordered > 50);
  CHECK_EQ(counters.steps[SDR_STEP_DUPLICATE], link.duplicated);
  CHECK_EQ(counters.steps[SDR_STEP_PACKET] + counters.steps[SDR_STEP_CHUNK] +
               counters.steps[SDR_STEP_MESSAGE],
           400u);
  for (size_t i = 1; i < pair.log.size(); i++)
    CHECK(pair.log[i].time_ns >= pair.log[i - 1].time_ns);
}

TEST(corrupted_packets_are_counted_and_ignored) {
  Settings s;
  s.ab.corrupt_probability = 1;
  Pair pair(s);
  const RegionRef from = memory(40'000, 3), to = memory(40'000);
  pair.send(0, 40'000, from, to);
  CHECK_EQ(pair.a->send_control(PacketKind::ping, from->base, 10), SDR_OK);
  pair.run();
  CHECK_EQ(pair.b->counters().bad_checksum, 41u);
  CHECK_EQ(pair.b->last_heard_ns(), 0);
  CHECK_EQ(pair.of(kControl).size(), 0u);
  CHECK_EQ(hash(to), hash(memory(40'000)));
  CHECK_EQ(from.use_count(), 1);
  CHECK_EQ(pair.a->set_link(link(8e9, 0)), SDR_OK);
  CHECK_EQ(pair.a->post_send(0, 1, from, 0, 0, 40'000), SDR_OK);
  pair.run();
  CHECK_EQ(hash(to), hash(from));
}

TEST(late_packets_never_change_a_completed_buffer) {
  Pair pair{Settings{}};
  const RegionRef from = memory(40'000, 3), other = memory(40'000, 4), to = memory(40'000);
  pair.send(0, 40'000, from, to);
  CHECK_EQ(pair.a->post_send(0, 1, other, 0, 0, 40'000), SDR_OK);
  while (!pair.is_complete(0)) pair.step(INT64_MAX);
  CHECK_EQ(pair.b->complete(0), SDR_OK);
  const uint64_t before = hash(to);
  CHECK_EQ(before, hash(from));
  pair.run();
  CHECK_EQ(hash(to), before);
  CHECK_EQ(pair.b->counters().steps[SDR_STEP_LATE], 40u);
  CHECK_EQ(to.use_count(), 1);
}

TEST(late_packets_of_older_generations_never_touch_the_slots_next_message) {
  Settings s;
  s.geometry.slots = 1;
  s.ab.duplicate_probability = 1;
  s.ab.jitter_ns = 900'000;  // the copies come up to 1.8 ms apart
  Pair late(s);
  const RegionRef first = memory(40'000, 3), second = memory(40'000, 4);
  const RegionRef target = memory(40'000), next = memory(40'000);
  late.send(0, 40'000, first, target);
  while (!late.is_complete(0)) late.step(INT64_MAX);
  CHECK_EQ(late.b->complete(0), SDR_OK);
  CHECK_EQ(late.a->close_send(0), SDR_OK);
  const uint64_t before = hash(target);
  CHECK_EQ(before, hash(first));
  late.send(1, 40'000, second, next);
  late.run();
  CHECK(late.b->counters().steps[SDR_STEP_LATE] > 0);
  CHECK_EQ(hash(target), before);
  CHECK_EQ(hash(next), hash(second));
}

TEST(thousands_of_messages_pass_through_the_generations) {
  Settings s;
  s.geometry.slots = 4;
  s.ab = s.ba = link(8e9, 20'000);
  s.ab.duplicate_probability = 0.2;
  s.ab.jitter_ns = 15'000;
  Pair pair(s);
  const uint32_t count = 5000, in_flight = 4;
  std::map<uint32_t, std::pair<RegionRef, RegionRef>> buffers;
  uint32_t sent = 0, done = 0;
  const auto send_next = [&] {
    const uint64_t bytes = 1 + sent * 37 % 9000;
    const auto& [from, to] = buffers[sent] = {memory(bytes, sent + 1), memory(bytes)};
    pair.send(sent++, bytes, from, to);
  };
  while (sent < in_flight) send_next();
  while (done < count) {
    CHECK(!pair.world.idle());
    for (const Event& event : pair.step(INT64_MAX)) {
      if (event.type != kProgress || event.value != 1) continue;
      // Completed in any order; the slot of the next message is free when message sent - slots is
      // done.
      const auto& [from, to] = buffers[event.message];
      CHECK_EQ(hash(to), hash(from));
      CHECK_EQ(pair.b->complete(event.message), SDR_OK);
      CHECK_EQ(pair.a->close_send(event.message), SDR_OK);
      buffers.erase(event.message);
      done++;
    }
    while (sent < count && !buffers.contains(sent - in_flight)) send_next();
  }
  pair.run();
  const QpCounters counters = pair.b->counters();
  CHECK_EQ(counters.steps[SDR_STEP_MESSAGE], count);
  CHECK(counters.steps[SDR_STEP_LATE] > 100);
  CHECK_EQ(counters.steps[SDR_STEP_BAD_LENGTH] + counters.steps[SDR_STEP_BAD_PACKET], 0u);
}

TEST(a_link_heals_in_the_middle_of_a_message) {
  Settings s;
  s.ab.loss = LossModel::bernoulli;
  s.ab.loss_probability = 1;
  Pair pair(s);
  pair.send(0, 80'000);
  CHECK_EQ(pair.world.advance(40'500), 0u);
  CHECK_EQ(pair.world.set_link(0, link(16e9, 1'000)), SDR_OK);
  pair.run();
  CHECK_EQ(pair.world.link_counters(0).dropped, 41u);
  CHECK_EQ(pair.b->counters().steps[SDR_STEP_PACKET] + pair.b->counters().steps[SDR_STEP_CHUNK],
           39u);
  // 41 packets at the old rate, then 39 at twice that.
  CHECK_EQ(static_cast<int64_t>(pair.of(kInjected)[0].time_ns), 41'000 + 39 * 500);
}

TEST(control_datagrams_are_lost_duplicated_and_delayed_like_data) {
  Settings s;
  s.ba = rough();
  s.ba.corrupt_probability = 0;
  Pair pair(s);
  const uint32_t count = 500;
  for (uint32_t i = 0; i < count; i++) {
    const uint8_t body[2] = {static_cast<uint8_t>(i), static_cast<uint8_t>(i >> 8)};
    CHECK_EQ(pair.b->send_control(PacketKind::nack, body, 2), SDR_OK);
  }
  pair.run();
  const LinkCounters counters = pair.world.link_counters(1);
  const size_t nack = static_cast<size_t>(PacketKind::nack);
  CHECK_EQ(counters.offered_by_kind[nack], count);
  CHECK(counters.dropped_by_kind[nack] > 100);
  CHECK(counters.duplicated > 25);
  CHECK_EQ(pair.bodies.size(), count + counters.duplicated - counters.dropped);
  CHECK_EQ(pair.a->counters().control_received, pair.bodies.size());
  std::map<int, int> seen;
  for (const auto& body : pair.bodies) seen[body[0] | body[1] << 8]++;
  for (const auto& [number, times] : seen) CHECK(number < 500 && times <= 2);
}
