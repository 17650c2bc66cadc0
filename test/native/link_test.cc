// The link model packet by packet: departures, limits, rules and order, each against its
// definition.
#include "sdr/link.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "check.h"

using namespace sdr;

namespace {

constexpr PacketKind kData = PacketKind::data;

int64_t exact_departure(int64_t start_ns, uint64_t cumulative_bytes, uint64_t rate_bps) {
  __extension__ using Wide = unsigned __int128;
  const Wide scaled = Wide{cumulative_bytes} * 8 * 1'000'000'000;
  return start_ns + static_cast<int64_t>((scaled + rate_bps - 1) / rate_bps);
}

std::vector<Fate> offer_many(Link& link, int count, int64_t gap_ns = 10) {
  std::vector<Fate> fates;
  for (int i = 0; i < count; i++) fates.push_back(link.offer(i * gap_ns, 1000, 1000, kData));
  return fates;
}

bool same(const Fate& a, const Fate& b) {
  return a.depart_ns == b.depart_ns && a.copies == b.copies && a.arrive_ns[0] == b.arrive_ns[0] &&
         a.arrive_ns[1] == b.arrive_ns[1] && a.corrupt[0] == b.corrupt[0] &&
         a.corrupt[1] == b.corrupt[1];
}

LinkConfig everything() {
  LinkConfig config;
  config.rate_bps = 10e9;
  config.delay_ns = 1'000'000;
  config.jitter_ns = 50'000;
  config.distribution = Distribution::normal;
  config.delay_correlation = 0.25;
  config.loss = LossModel::bernoulli;
  config.loss_probability = 0.1;
  config.duplicate_probability = 0.1;
  config.corrupt_probability = 0.1;
  config.reorder_probability = 0.2;
  return config;
}

}  // namespace

TEST(a_clear_link_passes_packets_unchanged_at_once) {
  CHECK(LinkConfig{}.is_clear());
  CHECK(!everything().is_clear());
  Link link({}, 1, 0);
  for (int64_t now : {0, 0, 5, 1000}) {
    const Fate fate = link.offer(now, 4096, 4096, kData);
    CHECK_EQ(fate.copies, 1u);
    CHECK_EQ(fate.depart_ns, now);
    CHECK_EQ(fate.arrive_ns[0], now);
    CHECK(!fate.corrupt[0]);
  }
  CHECK_EQ(link.counters().offered, 4u);
  CHECK_EQ(link.counters().offered_bytes, 4u * 4096);
  CHECK_EQ(link.counters().reordered, 0u);
}

TEST(departures_are_exact_for_any_rate_and_sizes_queued_or_back_pressured) {
  std::mt19937_64 random(7);
  for (const uint64_t rate : {400'000'000'000ul, 333'333'333'333ul, 1'000'000'007ul, 9'600ul}) {
    for (const bool back_pressured : {false, true}) {
      LinkConfig config;
      config.rate_bps = static_cast<double>(rate);
      config.packet_overhead_bytes = 24;
      Link link(config, 1, 0);
      const int64_t start = 12'345;
      uint64_t bytes = 0;
      for (int i = 0; i < 20'000; i++) {
        const uint32_t size = i % 3 == 0 ? 4096 : static_cast<uint32_t>(random() % 65'000);
        bytes += size + 24;
        const int64_t now = back_pressured && i > 0 ? link.free_at_ns() : start;
        CHECK_EQ(link.offer(now, size, size, kData).depart_ns, exact_departure(start, bytes, rate));
        CHECK_EQ(link.free_at_ns(), exact_departure(start, bytes, rate));
      }
    }
  }
}

TEST(departures_stay_exact_over_months_of_one_busy_period) {
  LinkConfig config;
  config.rate_bps = 1000;
  Link link(config, 1, 0);
  uint64_t bytes = 0;
  for (int i = 0; i < 50'000; i++) {
    bytes += 65'000 - i % 7;
    CHECK_EQ(link.offer(0, 65'000 - i % 7, 65'000, kData).depart_ns,
             exact_departure(0, bytes, 1000));
  }
  CHECK(link.free_at_ns() > int64_t{300} * 86'400 * 1'000'000'000);
}

TEST(four_hundred_gigabit_per_second_does_not_drift_over_millions_of_packets) {
  LinkConfig config;
  config.rate_bps = 400e9;
  Link link(config, 1, 0);
  for (uint64_t i = 1; i <= 3'000'000; i++) {
    const int64_t depart = link.offer(i == 1 ? 0 : link.free_at_ns(), 4096, 4096, kData).depart_ns;
    if (i % 99'991 == 0) CHECK_EQ(depart, exact_departure(0, i * 4096, 400'000'000'000));
  }
}

TEST(departures_beyond_all_reason_saturate) {
  LinkConfig config;
  config.rate_bps = kLinkRateMinBps;
  config.packet_overhead_bytes = INT32_MAX;
  config.delay_ns = config.jitter_ns = kLinkDelayMaxNs;
  config.distribution = Distribution::pareto;
  CHECK(config.is_valid());
  Link link(config, 1, 1);
  int64_t last = 0;
  for (int i = 0; i < 1000; i++) {
    const Fate fate = link.offer(0, 65'000, 65'000, PacketKind::data);
    CHECK(fate.depart_ns >= last && fate.arrive_ns[0] >= fate.depart_ns);
    last = fate.depart_ns;
  }
}

TEST(an_idle_serialiser_starts_a_new_busy_period) {
  LinkConfig config;
  config.rate_bps = 3e9;
  config.delay_ns = 100;
  Link link(config, 1, 0);
  CHECK_EQ(link.offer(0, 1000, 1000, kData).depart_ns, 2667);
  CHECK_EQ(link.offer(5000, 1000, 1000, kData).depart_ns, 7667);
  const Fate fate = link.offer(7000, 1000, 1000, kData);
  CHECK_EQ(fate.depart_ns, 5000 + 5334);
  CHECK_EQ(fate.arrive_ns[0], 5000 + 5334 + 100);
}

TEST(overhead_may_be_negative_but_a_packet_never_gets_shorter_than_nothing) {
  LinkConfig config;
  config.rate_bps = 8e9;
  config.packet_overhead_bytes = -100;
  Link link(config, 1, 0);
  CHECK_EQ(link.offer(0, 300, 300, kData).depart_ns, 200);
  CHECK_EQ(link.offer(1000, 60, 60, kData).depart_ns, 1000);
}

TEST(the_limit_counts_packets_queued_or_in_serialisation_and_drops_at_the_tail) {
  LinkConfig config;
  config.rate_bps = 8e9;  // 1000 bytes take 1000 ns
  config.limit_packets = 3;
  Link link(config, 1, 0);
  for (int i = 0; i < 3; i++) CHECK_EQ(link.offer(0, 1000, 1000, kData).depart_ns, (i + 1) * 1000);
  Fate fate = link.offer(0, 1000, 1000, kData);
  CHECK_EQ(fate.copies, 0u);
  CHECK_EQ(fate.depart_ns, 0);
  CHECK_EQ(link.free_at_ns(), 3000);  // a tail-dropped packet does not use the wire
  CHECK_EQ(link.offer(999, 1000, 1000, kData).copies, 0u);
  CHECK_EQ(link.offer(1000, 1000, 1000, kData).depart_ns, 4000);
  CHECK_EQ(link.offer(1000, 1000, 1000, kData).copies, 0u);
  CHECK_EQ(link.counters().queue_dropped, 3u);
  CHECK_EQ(link.counters().dropped, 0u);
  CHECK_EQ(link.counters().offered, 7u);
}

TEST(a_lost_packet_has_used_the_wire) {
  LinkConfig config;
  config.rate_bps = 8e9;
  config.loss = LossModel::bernoulli;
  config.loss_probability = 1;
  Link link(config, 1, 0);
  CHECK_EQ(link.offer(0, 1000, 1000, kData).copies, 0u);
  const Fate fate = link.offer(0, 1000, 1000, kData);
  CHECK_EQ(fate.copies, 0u);
  CHECK_EQ(fate.depart_ns, 2000);
  CHECK_EQ(link.counters().dropped, 2u);
  CHECK_EQ(link.counters().dropped_by_kind[0], 2u);
}

TEST(drop_rules_count_packets_of_their_kind_from_one) {
  LinkConfig config;
  config.duplicate_probability = 1;  // a rule takes both copies
  config.drops = {{PacketKind::ack, 2, 3}, {kData, 1, 1}, {kData, 4, 4}};
  Link link(config, 1, 0);
  std::string data, acks;
  for (int i = 0; i < 5; i++) {
    data += link.offer(i, 100, 100, kData).copies == 2 ? '.' : 'x';
    acks += link.offer(i, 100, 100, PacketKind::ack).copies == 2 ? '.' : 'x';
  }
  CHECK_EQ(data, "x..x.");
  CHECK_EQ(acks, ".xx..");
  CHECK_EQ(link.counters().dropped_by_kind[static_cast<size_t>(PacketKind::ack)], 2u);
  CHECK_EQ(link.counters().dropped, 4u);
  CHECK_EQ(link.counters().duplicated, 6u);
}

TEST(a_trace_is_followed_by_data_packets_and_repeats) {
  LinkConfig config;
  config.loss = LossModel::trace;
  config.loss_trace =
      std::make_shared<const std::vector<uint8_t>>(std::vector<uint8_t>{0, 1, 1, 0, 7});
  Link link(config, 1, 0);
  std::string seen;
  for (int i = 0; i < 11; i++) {
    seen += link.offer(i, 100, 100, kData).copies ? '.' : 'x';
    CHECK_EQ(link.offer(i, 100, 100, PacketKind::cts).copies, 1u);
  }
  CHECK_EQ(seen, ".xx.x.xx.x.");
}

TEST(gilbert_elliott_loses_by_the_state_before_the_step_and_starts_good) {
  LinkConfig config;
  config.loss = LossModel::gilbert_elliott;
  config.ge_p = config.ge_r = 1;
  Link link(config, 1, 0);
  std::string seen;
  for (const Fate& fate : offer_many(link, 6)) seen += fate.copies ? '.' : 'x';
  CHECK_EQ(seen, ".x.x.x");
}

TEST(loss_by_size_is_clamped_at_the_ends_and_zero_ends_are_linear) {
  LinkConfig config;
  config.loss = LossModel::by_size;
  config.loss_by_size = {{1000, 0.0}, {2000, 1.0}};
  Link link(config, 1, 0);
  for (int i = 0; i < 100; i++) {
    CHECK_EQ(link.offer(i, 500, 500, kData).copies, 1u);
    CHECK_EQ(link.offer(i, 1000, 1000, kData).copies, 1u);
    CHECK_EQ(link.offer(i, 2000, 2000, kData).copies, 0u);
    CHECK_EQ(link.offer(i, 9000, 9000, kData).copies, 0u);
  }
}

TEST(a_reordered_packet_skips_the_delay_and_the_gap_is_kept) {
  LinkConfig config;
  config.delay_ns = 1000;
  config.reorder_probability = 1;
  config.reorder_gap = 5;
  Link link(config, 1, 0);
  const std::vector<Fate> fates = offer_many(link, 15);
  for (size_t i = 0; i < fates.size(); i++) {
    const bool ahead = i % 5 == 4;  // four delayed ones between
    CHECK_EQ(fates[i].arrive_ns[0] - fates[i].depart_ns, ahead ? 0 : 1000);
  }
  CHECK_EQ(link.counters().reordered, 3u);
}

TEST(arrivals_are_never_before_departures) {
  LinkConfig config = everything();
  config.delay_ns = 1000;
  config.jitter_ns = 100'000;
  for (const Distribution distribution : {Distribution::uniform, Distribution::normal,
                                          Distribution::pareto, Distribution::paretonormal}) {
    config.distribution = distribution;
    Link link(config, 3, 0);
    int at_once = 0;
    for (const Fate& fate : offer_many(link, 10'000)) {
      for (uint32_t i = 0; i < fate.copies; i++) {
        CHECK(fate.arrive_ns[i] >= fate.depart_ns);
        at_once += fate.arrive_ns[i] == fate.depart_ns;
      }
    }
    CHECK(at_once > 100);
  }
}

TEST(equal_seed_and_stream_give_equal_fates_others_do_not) {
  Link a(everything(), 42, 3), b(everything(), 42, 3), stream(everything(), 42, 4),
      seed(everything(), 43, 3);
  const auto fates = offer_many(a, 2000);
  const auto again = offer_many(b, 2000);
  const auto differing = [&](Link& other) {
    const auto others = offer_many(other, 2000);
    int count = 0;
    for (size_t i = 0; i < fates.size(); i++) count += !same(fates[i], others[i]);
    return count;
  };
  for (size_t i = 0; i < fates.size(); i++) CHECK(same(fates[i], again[i]));
  CHECK(differing(stream) > 1000);
  CHECK(differing(seed) > 1000);
  CHECK_EQ(a.corruption_bits(), b.corruption_bits());
}

TEST(switching_one_impairment_off_shifts_none_of_the_others) {
  const int count = 5000;
  Link full(everything(), 9, 0);
  const auto reference = offer_many(full, count);
  LinkConfig config = everything();
  config.loss = LossModel::none;
  Link lossless(config, 9, 0);
  const auto without_loss = offer_many(lossless, count);
  config = everything();
  config.duplicate_probability = 0;
  Link undoubled(config, 9, 0);
  const auto without_copies = offer_many(undoubled, count);
  config = everything();
  config.jitter_ns = 0;
  config.corrupt_probability = 0;
  Link steady(config, 9, 0);
  const auto without_jitter = offer_many(steady, count);
  for (int i = 0; i < count; i++) {
    if (reference[i].copies > 0) {
      CHECK_EQ(reference[i].arrive_ns[0], without_loss[i].arrive_ns[0]);
      CHECK_EQ(reference[i].corrupt[0], without_loss[i].corrupt[0]);
    }
    CHECK_EQ(reference[i].copies, without_jitter[i].copies);
    const bool ahead =
        reference[i].copies > 0 && reference[i].arrive_ns[0] == reference[i].depart_ns;
    if (ahead) CHECK_EQ(without_jitter[i].arrive_ns[0], without_jitter[i].depart_ns);
    if (without_copies[i].copies > 0) {
      CHECK(reference[i].copies > 0);
      CHECK_EQ(reference[i].arrive_ns[0], without_copies[i].arrive_ns[0]);
    }
  }
}

TEST(reconfiguring_keeps_the_busy_period_the_streams_and_the_counters) {
  LinkConfig config;
  config.rate_bps = 8e9;
  Link link(config, 1, 0);
  for (int i = 0; i < 10; i++) link.offer(0, 1000, 1000, kData);
  config.rate_bps = 16e9;
  config.delay_ns = 77;
  link.reconfigure(config);
  CHECK_EQ(link.free_at_ns(), 10'000);
  CHECK_EQ(link.offer(0, 1000, 1000, kData).arrive_ns[0], 10'500 + 77);
  CHECK_EQ(link.counters().offered, 11u);
  config.rate_bps = 0;
  link.reconfigure(config);
  CHECK_EQ(link.offer(0, 1000, 1000, kData).depart_ns, 10'500);  // still behind those that queue
  CHECK_EQ(link.offer(20'000, 1000, 1000, kData).depart_ns, 20'000);

  // The loss stream goes on where it was: interrupting it with other settings changes nothing
  // after.
  Link plain(everything(), 5, 0), healed(everything(), 5, 0);
  auto expected = offer_many(plain, 2000);
  offer_many(healed, 1000);
  LinkConfig other = everything();
  other.delay_ns = 5;
  healed.reconfigure(other);
  healed.reconfigure(everything());
  for (int i = 1000; i < 2000; i++)
    CHECK(same(expected[i], healed.offer(i * 10, 1000, 1000, kData)));
}

TEST(a_healed_link_loses_nothing) {
  LinkConfig config;
  config.loss = LossModel::gilbert_elliott;
  config.ge_p = 0.5;
  config.ge_r = 0.1;
  Link link(config, 1, 0);
  offer_many(link, 1000);
  CHECK(link.counters().dropped > 500);
  link.reconfigure({});
  const uint64_t before = link.counters().dropped;
  for (int i = 0; i < 1000; i++) CHECK_EQ(link.offer(10'000 + i, 1000, 1000, kData).copies, 1u);
  CHECK_EQ(link.counters().dropped, before);
}

TEST(counters_add_up) {
  Link link(everything(), 11, 0);
  uint64_t arrived = 0, corrupt = 0;
  for (const Fate& fate : offer_many(link, 20'000)) {
    arrived += fate.copies;
    for (uint32_t i = 0; i < fate.copies; i++) corrupt += fate.corrupt[i];
  }
  const LinkCounters& c = link.counters();
  CHECK_EQ(arrived, c.offered + c.duplicated - c.dropped - c.queue_dropped);
  CHECK_EQ(corrupt, c.corrupted);
  CHECK(c.reordered > 1000);
}

TEST(invalid_settings_are_told_from_valid_ones) {
  CHECK(LinkConfig{}.is_valid());
  CHECK(everything().is_valid());
  const auto refused = [](auto change) {
    LinkConfig config;
    change(config);
    return !config.is_valid();
  };
  CHECK(refused([](LinkConfig& c) { c.loss_probability = 1.01; }));
  CHECK(refused([](LinkConfig& c) { c.ge_r = -0.1; }));
  CHECK(refused([](LinkConfig& c) { c.duplicate_probability = std::nan(""); }));
  CHECK(refused([](LinkConfig& c) { c.rate_bps = -1; }));
  CHECK(refused([](LinkConfig& c) { c.rate_bps = 0.5; }));
  CHECK(refused([](LinkConfig& c) { c.rate_bps = INFINITY; }));
  CHECK(refused([](LinkConfig& c) { c.delay_ns = -1; }));
  CHECK(refused([](LinkConfig& c) { c.jitter_ns = kLinkDelayMaxNs + 1; }));
  CHECK(refused([](LinkConfig& c) { c.loss = LossModel::trace; }));
  CHECK(refused([](LinkConfig& c) { c.loss = LossModel::by_size; }));
  CHECK(refused([](LinkConfig& c) {
    c.loss = LossModel::by_size;
    c.loss_by_size = {{100, 0.1}, {100, 0.2}};
  }));
  CHECK(refused([](LinkConfig& c) { c.drops = {{kData, 0, 1}}; }));
  CHECK(refused([](LinkConfig& c) { c.drops = {{kData, 5, 4}}; }));
  CHECK(refused([](LinkConfig& c) { c.drops = {{static_cast<PacketKind>(200), 1, 1}}; }));
}
