// The emulated world: exact times, order, fairness, limits and the queue pair's calls.
#include <sys/resource.h>

#include "emulated_fixture.h"

using namespace sdr;
using namespace fixture;

namespace {

int64_t exact_ns(uint64_t bytes, uint64_t rate_bps) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<int64_t>((Wide{bytes} * 8'000'000'000 + rate_bps - 1) / rate_bps);
}

int64_t time_of(const Event& event) { return static_cast<int64_t>(event.time_ns); }

}  // namespace

TEST(a_lossless_transfer_has_the_times_of_the_closed_form) {
  Settings s;
  s.ab = link(3e9, 777'777);
  Pair pair(s);
  const uint64_t bytes = 10 * 4000 + 2345, chunks = 11;
  bool complete = false;
  CHECK_EQ(pair.b->post_receive(0, nullptr, 0, bytes), SDR_OK);
  CHECK_EQ(pair.b->set_length(0, bytes, &complete), SDR_OK);
  CHECK_EQ(pair.world.advance(5'000), 0u);  // sends from a time that is not zero
  CHECK_EQ(pair.world.now_ns(), 5'000);
  CHECK_EQ(pair.a->open_send(0, bytes, 0), SDR_OK);
  for (uint32_t chunk = 0; chunk < chunks; chunk++) {
    const uint64_t size = chunk == 10 ? 2345 : 4000;
    CHECK_EQ(pair.a->post_send(0, 100 + chunk, nullptr, 0, chunk, size), SDR_OK);
  }
  pair.run();
  const auto injected = pair.of(kInjected), progress = pair.of(kProgress);
  CHECK_EQ(injected.size(), chunks);
  CHECK_EQ(progress.size(), chunks);
  for (uint32_t chunk = 0; chunk < chunks; chunk++) {
    const int64_t departed =
        5'000 + exact_ns(std::min<uint64_t>(bytes, (chunk + 1) * 4000), 3'000'000'000);
    CHECK_EQ(injected[chunk].value, 100 + chunk);
    CHECK_EQ(injected[chunk].qp, pair.a->id());
    CHECK_EQ(time_of(injected[chunk]), departed);
    CHECK_EQ(time_of(progress[chunk]), departed + 777'777);
    CHECK_EQ(progress[chunk].value, chunk + 1 == chunks ? 1u : 0u);
    CHECK_EQ(progress[chunk].qp, pair.b->id());
  }
  CHECK_EQ(pair.b->last_heard_ns(), time_of(progress.back()));
  const QpCounters sent = pair.a->counters(), received = pair.b->counters();
  CHECK_EQ(sent.packets_sent, 43u);
  CHECK_EQ(sent.bytes_sent, bytes);
  CHECK_EQ(sent.wire_bytes_sent, bytes);
  CHECK_EQ(received.steps[SDR_STEP_MESSAGE], 1u);
  CHECK_EQ(received.steps[SDR_STEP_CHUNK], 10u);
  CHECK_EQ(received.steps[SDR_STEP_PACKET], 32u);
  CHECK_EQ(pair.a->link_counters().offered, 43u);
}

TEST(bytes_land_at_their_offsets) {
  Pair pair{Settings{}};
  const RegionRef from = memory(50'000, 1), to = memory(60'000);
  const uint64_t bytes = 41'234;
  bool complete = false;
  CHECK_EQ(pair.b->post_receive(0, to, 5'000, bytes), SDR_OK);
  CHECK_EQ(pair.b->set_length(0, bytes, &complete), SDR_OK);
  CHECK_EQ(pair.a->open_send(0, bytes, 0), SDR_OK);
  CHECK_EQ(pair.a->post_send(0, 1, from, 777 + 20'000, 5, bytes - 20'000), SDR_OK);
  CHECK_EQ(pair.a->post_send(0, 0, from, 777, 0, 20'000), SDR_OK);
  pair.run();
  CHECK(pair.is_complete(0));
  CHECK(std::memcmp(to->base + 5'000, from->base + 777, bytes) == 0);
  for (uint64_t i = 0; i < 5'000; i++) CHECK_EQ(to->base[i], 0);
  for (uint64_t i = 5'000 + bytes; i < to->bytes; i++) CHECK_EQ(to->base[i], 0);
}

TEST(progress_is_coalesced_from_the_first_chunk_and_told_at_once_when_complete) {
  Settings s;
  s.progress_interval_ns = 10'000;  // 2.5 chunk times
  Pair pair(s);
  pair.send(0, 8 * 4000);
  pair.run();
  const auto progress = pair.of(kProgress);
  // Chunks land at 1 ms + 4, 8, 12 ... 32 us: reports 10 us after 4 and after 16, then the end.
  CHECK_EQ(progress.size(), 3u);
  CHECK_EQ(time_of(progress[0]), 1'014'000);
  CHECK_EQ(time_of(progress[1]), 1'026'000);
  CHECK_EQ(time_of(progress[2]), 1'032'000);
  CHECK_EQ(progress[1].value, 0u);
  CHECK_EQ(progress[2].value, 1u);
}

TEST(a_length_that_completes_a_message_makes_no_event) {
  Settings s;
  s.progress_interval_ns = 1'000'000;
  Pair pair(s);
  bool complete = false;
  CHECK_EQ(pair.b->post_receive(0, nullptr, 0, 100'000), SDR_OK);
  CHECK_EQ(pair.a->open_send(0, 4000, 0), SDR_OK);
  CHECK_EQ(pair.a->post_send(0, 0, nullptr, 0, 0, 4000), SDR_OK);
  while (pair.world.now_ns() < 1'500'000) pair.step(1'500'000);
  CHECK_EQ(pair.b->set_length(0, 4000, &complete), SDR_OK);
  CHECK(complete);
  pair.run();
  CHECK_EQ(pair.of(kProgress).size(), 0u);
}

TEST(zero_length_messages_complete_and_have_nothing_to_send) {
  Pair pair{Settings{}};
  pair.send(0, 0);
  CHECK(pair.is_complete(0));
  CHECK_EQ(pair.a->post_send(0, 0, nullptr, 0, 0, 0), SDR_INVALID);
  CHECK(pair.world.idle());
  CHECK_EQ(pair.b->complete(0), SDR_OK);
  pair.send(1, 1);
  pair.run();
  CHECK(pair.is_complete(1));
}

TEST(advance_stops_at_the_limit_and_with_nothing_left_leaves_the_time_alone) {
  Pair pair{Settings{}};
  CHECK_EQ(pair.world.advance(INT64_MAX), 0u);
  CHECK_EQ(pair.world.now_ns(), 0);
  pair.send(0, 4000);
  CHECK_EQ(pair.world.advance(3'999), 0u);
  CHECK_EQ(pair.world.now_ns(), 3'999);
  CHECK_EQ(pair.world.advance(10), 0u);  // a limit in the past does nothing
  CHECK_EQ(pair.world.now_ns(), 3'999);
  CHECK_EQ(pair.world.advance(4'000), 1u);      // injected
  CHECK_EQ(pair.world.advance(INT64_MAX), 1u);  // undrained: the world waits
  CHECK_EQ(pair.world.now_ns(), 4'000);
  pair.run();
  CHECK_EQ(pair.world.now_ns(), 1'004'000);
}

TEST(an_instant_is_finished_before_advance_returns) {
  Settings s;
  s.ab = s.ba = LinkConfig{};  // no rate, no delay: all of it happens now
  Pair pair(s);
  pair.send(0, 40'000);
  CHECK_EQ(pair.a->send_control(PacketKind::ping, reinterpret_cast<const uint8_t*>("x"), 1),
           SDR_OK);
  CHECK_EQ(pair.step(INT64_MAX).size(), 3u);  // injected, progress (merged), control
  CHECK(pair.world.idle());
  CHECK_EQ(pair.world.now_ns(), 0);
  CHECK(pair.is_complete(0));
}

TEST(control_goes_before_queued_data_through_the_same_link) {
  Pair pair{Settings{}};
  pair.send(0, 40'000);
  CHECK_EQ(pair.world.advance(2'500), 0u);  // the third packet is in the serialiser until 3000
  const std::vector<uint8_t> frame(100, 0xab);
  CHECK_EQ(pair.a->send_control(PacketKind::ack, frame.data(), frame.size()), SDR_OK);
  pair.run();
  const auto control = pair.of(kControl);
  CHECK_EQ(control.size(), 1u);
  CHECK_EQ(control[0].qp, pair.b->id());
  CHECK_EQ(time_of(control[0]), 3'000 + 100 + 1'000'000);
  CHECK(pair.bodies[0] == frame);
  CHECK_EQ(time_of(pair.of(kInjected)[0]), 40'100);
  CHECK_EQ(pair.a->counters().control_sent, 1u);
  CHECK_EQ(pair.a->counters().wire_bytes_sent, 40'100u);
  CHECK_EQ(pair.b->counters().control_received, 1u);
}

TEST(waiting_control_datagrams_are_limited) {
  Pair pair{Settings{}};
  const std::vector<uint8_t> frame(1000);
  uint32_t accepted = 0;
  while (pair.a->send_control(PacketKind::ping, frame.data(), frame.size()) == SDR_OK) accepted++;
  CHECK_EQ(accepted, 1024u);
  CHECK_EQ(pair.a->send_control(PacketKind::ping, frame.data(), frame.size()), SDR_BUSY);
  pair.run();
  CHECK_EQ(pair.bodies.size(), accepted);
  CHECK_EQ(pair.a->send_control(PacketKind::ping, frame.data(), frame.size()), SDR_OK);
}

TEST(two_queue_pairs_share_a_link_packet_by_packet) {
  Pair pair{Settings{}};
  sdr_status status = SDR_INVALID;
  const QpConfig config{geometry(), 0, 256};
  QueuePair* const c = pair.world.create_qp(config, &status);
  QueuePair* const d = pair.world.create_qp(config, &status);
  CHECK_EQ(pair.world.connect(c->id(), d->id(), 0, 1), SDR_OK);
  bool complete = false;
  CHECK_EQ(d->post_receive(0, nullptr, 0, 100'000), SDR_OK);
  CHECK_EQ(d->set_length(0, 100'000, &complete), SDR_OK);
  CHECK_EQ(c->open_send(0, 100'000, 0), SDR_OK);
  pair.send(0, 100'000);
  for (uint32_t chunk = 0; chunk < 25; chunk++) {
    CHECK_EQ(c->post_send(0, chunk, nullptr, 0, chunk, 4000), SDR_OK);
  }
  pair.run();
  std::vector<int64_t> ends;
  for (const Event& event : pair.of(kInjected)) {
    if (event.qp == c->id()) ends.push_back(time_of(event));
  }
  // Each gets every second packet: the n-th chunk of c ends with its 4 n-th packet, 8 n packets
  // into the period.
  CHECK_EQ(ends.size(), 25u);
  for (size_t i = 0; i < ends.size(); i++) CHECK_EQ(ends[i], static_cast<int64_t>(i + 1) * 8'000);
  CHECK_EQ(time_of(pair.of(kInjected).back()), 200'000);
}

TEST(a_paced_sender_keeps_its_pace_exactly) {
  Settings s;
  s.rate_bps = 3e9;
  s.ab = link(100e9, 0);
  Pair pair(s);
  pair.send(0, 400'000);
  pair.run();
  const auto progress = pair.of(kProgress);
  for (size_t chunk = 0; chunk < progress.size(); chunk++) {
    // The chunk's last packet leaves when the packets before it are paced out, and takes 80 ns on
    // the wire.
    CHECK_EQ(time_of(progress[chunk]), exact_ns(chunk * 4000 + 3000, 3'000'000'000) + 80);
  }
  CHECK_EQ(progress.size(), 100u);
}

TEST(a_sender_paced_above_the_link_overflows_its_queue) {
  Settings s;
  s.rate_bps = 16e9;  // twice the link's
  s.ab.limit_packets = 10;
  Pair pair(s);
  pair.send(0, 1'000'000);
  pair.run();
  const LinkCounters counters = pair.a->link_counters();
  CHECK_EQ(counters.offered, 1000u);
  // 10 fill the queue while 10 more leave; from then on every second one finds it full.
  CHECK(counters.queue_dropped >= 485 && counters.queue_dropped <= 500);
  CHECK_EQ(pair.b->counters().steps[SDR_STEP_PACKET] + pair.b->counters().steps[SDR_STEP_CHUNK],
           1000 - counters.queue_dropped);
  CHECK(!pair.is_complete(0));
}

TEST(an_unpaced_sender_never_fills_the_links_queue) {
  Settings s;
  s.ab.limit_packets = 1;
  Pair pair(s);
  pair.send(0, 1'000'000);
  pair.run();
  CHECK_EQ(pair.a->link_counters().queue_dropped, 0u);
  CHECK(pair.is_complete(0));
}

TEST(work_requests_are_limited_until_they_are_injected) {
  Settings s;
  s.work_requests_max = 2;
  Pair pair(s);
  pair.send(0, 12'000);
  CHECK_EQ(pair.a->post_send(0, 1, nullptr, 0, 0, 4000), SDR_OK);
  CHECK_EQ(pair.a->post_send(0, 2, nullptr, 0, 0, 4000), SDR_BUSY);
  CHECK_EQ(pair.step(INT64_MAX).size(), 1u);
  CHECK_EQ(pair.a->post_send(0, 2, nullptr, 0, 0, 4000), SDR_OK);
  CHECK_EQ(pair.a->post_send(0, 3, nullptr, 0, 0, 4000), SDR_BUSY);
  pair.run();
  CHECK_EQ(pair.of(kInjected).size(), 3u);
}

TEST(closing_a_send_drops_what_is_queued_and_lets_the_region_go) {
  Pair pair{Settings{}};
  const RegionRef from = memory(40'000, 1), to = memory(40'000);
  pair.send(0, 40'000, from, to);
  CHECK_EQ(pair.a->post_send(0, 1, from, 0, 0, 40'000), SDR_OK);
  CHECK_EQ(pair.world.advance(10'500),
           0u);  // ten packets departed, the eleventh is in the serialiser
  CHECK_EQ(pair.a->close_send(0), SDR_OK);
  CHECK_EQ(from.use_count(), 2);  // one work request with packets in flight
  CHECK_EQ(pair.a->post_send(0, 2, from, 0, 0, 4000), SDR_CLOSED);
  CHECK_EQ(pair.a->close_send(0), SDR_CLOSED);
  pair.run();
  CHECK_EQ(from.use_count(), 1);
  CHECK_EQ(pair.of(kInjected).size(), 0u);
  CHECK_EQ(pair.a->counters().packets_sent, 11u);
  CHECK(std::memcmp(from->base, to->base, 11'000) == 0);
  CHECK_EQ(to->base[11'000] | to->base[11'001] | to->base[11'002], 0);
  CHECK_EQ(to.use_count(), 2);
  CHECK_EQ(pair.b->complete(0), SDR_OK);
  CHECK_EQ(to.use_count(), 1);
}

TEST(a_closed_queue_pair_touches_no_memory_and_answers_closed) {
  Pair pair{Settings{}};
  const RegionRef from = memory(40'000, 1), to = memory(40'000);
  pair.send(0, 40'000, from, to);
  CHECK_EQ(pair.world.advance(10'500), 0u);
  pair.a->close();
  CHECK_EQ(from.use_count(), 1);
  pair.run();
  CHECK_EQ(pair.b->counters().steps[SDR_STEP_PACKET], 0u);
  CHECK_EQ(hash(to), hash(memory(40'000)));
  CHECK_EQ(pair.log.size(), 0u);
  bool complete = false;
  CHECK_EQ(pair.a->open_send(1, 1, 0), SDR_CLOSED);
  CHECK_EQ(pair.a->post_send(0, 1, nullptr, 0, 0, 1), SDR_CLOSED);
  CHECK_EQ(pair.a->send_control(PacketKind::ping, nullptr, 0), SDR_CLOSED);
  CHECK_EQ(pair.a->post_receive(0, nullptr, 0, 1), SDR_CLOSED);
  CHECK_EQ(pair.a->set_length(0, 1, &complete), SDR_CLOSED);
  pair.a->close();

  // The receiver closing: packets in flight to it go nowhere.
  Pair other{Settings{}};
  const RegionRef target = memory(40'000);
  other.send(0, 40'000, from, target);
  CHECK_EQ(other.world.advance(10'500), 0u);
  other.b->close();
  CHECK_EQ(target.use_count(), 1);
  other.run();
  CHECK_EQ(hash(target), hash(memory(40'000)));
  CHECK_EQ(other.of(kInjected).size(), 1u);
  CHECK_EQ(from.use_count(), 1);
}

TEST(bad_arguments_are_refused) {
  Pair pair{Settings{}};
  sdr_status status = SDR_OK;
  QpConfig config{geometry(), 0, 0};
  CHECK(pair.world.create_qp(config, &status) == nullptr);
  CHECK_EQ(status, SDR_INVALID);
  for (const double rate : {-1.0, 0.5, 1e16}) {
    config = {geometry(), rate, 1};
    CHECK(pair.world.create_qp(config, &status) == nullptr);
    CHECK_EQ(status, SDR_INVALID);
  }
  config = {geometry(512), 0, 1};
  QueuePair* const c = pair.world.create_qp(config, &status);
  config.geometry.slots = 4;
  QueuePair* const d = pair.world.create_qp(config, &status);
  CHECK_EQ(pair.world.connect(c->id(), d->id(), 0, 1), SDR_INVALID);  // geometries differ
  CHECK_EQ(pair.world.connect(c->id(), c->id(), 0, 1), SDR_INVALID);
  CHECK_EQ(pair.world.connect(c->id(), 99, 0, 1), SDR_INVALID);
  CHECK_EQ(pair.world.connect(0, 1, 0, 1), SDR_INVALID);  // already connected
  const uint8_t byte = 0;
  CHECK_EQ(c->send_control(PacketKind::ping, &byte, 1), SDR_INVALID);  // not connected
  CHECK_EQ(c->open_send(0, 1, 0), SDR_INVALID);
  CHECK_EQ(c->set_link(LinkConfig{}), SDR_INVALID);
  LinkConfig bad;
  bad.loss_probability = 2;
  CHECK_EQ(pair.world.add_link(bad), UINT32_MAX);
  CHECK_EQ(pair.world.set_link(0, bad), SDR_INVALID);
  CHECK_EQ(pair.world.set_link(7, LinkConfig{}), SDR_INVALID);

  QueuePair& a = *pair.a;
  const std::vector<uint8_t> frame(1001);
  CHECK_EQ(a.send_control(PacketKind::ping, frame.data(), 1001), SDR_TOO_LARGE);
  CHECK_EQ(a.send_control(PacketKind::data, frame.data(), 10), SDR_INVALID);
  CHECK_EQ(a.open_send(0, (1 << 20) + 1, 0), SDR_TOO_LARGE);
  CHECK_EQ(a.post_send(0, 0, nullptr, 0, 0, 1), SDR_CLOSED);
  CHECK_EQ(a.open_send(0, 10'500, 0), SDR_OK);
  CHECK_EQ(a.open_send(0, 10'500, 0), SDR_BUSY);
  CHECK_EQ(a.open_send(8, 10'500, 0), SDR_BUSY);  // the same slot
  CHECK_EQ(a.post_send(0, 0, nullptr, 0, 0, 10'501), SDR_INVALID);
  CHECK_EQ(a.post_send(0, 0, nullptr, 0, 3, 1), SDR_INVALID);
  CHECK_EQ(a.post_send(0, 0, nullptr, 0, UINT32_MAX, 1000), SDR_INVALID);
  CHECK_EQ(a.post_send(0, 0, nullptr, 0, 0, 1500), SDR_INVALID);  // a short packet in the middle
  CHECK_EQ(a.post_send(0, 0, nullptr, 0, 0, 3000), SDR_INVALID);  // a short chunk in the middle
  CHECK_EQ(a.post_send(0, 0, nullptr, 0, 0, UINT64_MAX), SDR_INVALID);
  const RegionRef small = memory(3000);
  CHECK_EQ(a.post_send(0, 0, small, 0, 0, 4000), SDR_INVALID);
  CHECK_EQ(a.post_send(0, 0, small, UINT64_MAX, 0, 1000), SDR_INVALID);
  CHECK_EQ(a.post_receive(0, small, 1, 3000), SDR_INVALID);
  CHECK_EQ(a.post_receive(0, small, UINT64_MAX, 3000), SDR_INVALID);
  CHECK_EQ(a.post_receive(1, small, 0, 3000), SDR_OUT_OF_ORDER);
  CHECK_EQ(a.post_send(0, 0, nullptr, 0, 2, 2500), SDR_OK);
  CHECK_EQ(a.close_send(0), SDR_OK);
  CHECK_EQ(a.open_send(0, 10'500, 0), SDR_OUT_OF_ORDER);  // a number serves once
  CHECK_EQ(a.open_send(UINT32_MAX, 1, 0), SDR_INVALID);
  CHECK_EQ(a.send_control(PacketKind::ping, frame.data(), 0), SDR_INVALID);
}

TEST(eight_gibibytes_phantom_need_little_memory) {
  Settings s;
  s.ab = s.ba = link(400e9, 12'500'000);
  s.geometry = geometry(4096, 16);
  s.geometry.split = {8, 22, 2};
  s.geometry.max_message_bytes = uint64_t{8} << 30;
  s.progress_interval_ns = 100'000;
  Pair pair(s);
  pair.send(0, s.geometry.max_message_bytes);
  pair.run();
  CHECK(pair.is_complete(0));
  CHECK_EQ(pair.world.now_ns(), exact_ns(uint64_t{8} << 30, 400'000'000'000) + 12'500'000);
#ifndef __SANITIZE_ADDRESS__
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  CHECK(usage.ru_maxrss < 300 * 1024);  // KiB
#endif
}
