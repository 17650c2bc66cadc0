// The UDP transport between two contexts of one process, on loopback. Waits are bounded and on conditions; nothing
// here depends on how long something takes.
#include "udp_pair.h"

#include <cmath>

using namespace sdr;
using namespace sdr::test;

TEST(whole_buffers_arrive_for_every_packet_size_and_channel_count) {
  for (const uint32_t channels : {1u, 3u}) {
    for (const uint32_t packet_bytes : {512u, 1400u, 8900u, 65000u}) {
      Setup setup;
      setup.channels = channels;
      setup.packet_bytes = packet_bytes;
      setup.packets_per_chunk = 5;
      std::printf("  %u channels, %u-byte packets\n", channels, packet_bytes);
      for (const size_t bytes : {size_t{1}, size_t{packet_bytes}, size_t{packet_bytes} + 1, size_t{3'000'017}})
        deliver_and_compare(setup, bytes, 2);
    }
  }
}

// From 4 MiB on, payload goes past the caches.
TEST(large_messages_arrive_whole_through_loss_and_duplicates) {
  for (const uint32_t packet_bytes : {1400u, 8900u}) {
    Setup setup;
    setup.channels = packet_bytes == 1400 ? 2 : 1;
    setup.packet_bytes = packet_bytes;
    setup.link.loss = LossModel::bernoulli;
    setup.link.loss_probability = 0.02;
    setup.link.duplicate_probability = 0.02;
    deliver_and_compare(setup, 6'000'017, 2);
  }
}

TEST(progress_and_injection_are_told_although_the_message_goes_no_further) {
  Pair pair(Setup{});
  const uint64_t chunk = pair.chunk_bytes();
  Memory from(40 * chunk, 3), to(from.size);
  begin(pair, 0, from, to);
  for (uint32_t i = 0; i < 10; i++) {
    CHECK_EQ(pair.a.qp->post_send(0, i, from.region, i * chunk, i, chunk), SDR_OK);
    pair.wait("its injection", [&] { return pair.a.count(EventType::injected, 0) == i + 1; });
    pair.wait("its arrival", [&] { return chunk_done(pair.b.qp, 0, i); });
    pair.wait("the news of it", [&] { return pair.b.count(EventType::progress, 0) == i + 1; });
  }
  CHECK(!pair.b.is_complete(0));
}

TEST(fallback_without_segmentation_delivers_too) {
  for (const bool gso : {false, true}) {
    Setup setup;
    setup.gso = gso;
    setup.gro = !gso;
    Pair pair(setup);
    std::printf("  gso %d gro %d\n", pair.a.context->capabilities().gso, pair.a.context->capabilities().gro);
    if (!gso) CHECK(!pair.a.context->capabilities().gso);
    if (gso) CHECK(!pair.a.context->capabilities().gro);
    deliver_and_compare(setup, 4'000'003);
  }
  Setup neither;
  neither.gso = neither.gro = false;
  deliver_and_compare(neither, 4'000'003);
}

TEST(ipv6_delivers) {
  if (!has_ipv6()) {
    std::printf("  skipped: this machine has no ::1\n");
    return;
  }
  Setup setup;
  setup.address = "::1";
  setup.channels = 3;
  deliver_and_compare(setup, 2'000'001);
  Pair pair(setup);
  CHECK(pair.a.context->capabilities().ipv6);
  CHECK_EQ(pair.a.context->addresses().at(0).address, std::string("::1"));
}

TEST(pacing_delivers_everything) {
  Setup setup;
  setup.rate_bps = 2e9;
  setup.channels = 2;
  deliver_and_compare(setup, 4'000'003, 2);
}

TEST(a_rated_and_delayed_link_delivers_and_loses_nothing_itself) {
  Setup setup;
  setup.link.rate_bps = 1e9;
  setup.link.delay_ns = 3'000'000;
  Pair pair(setup);
  Memory from(3'000'000, 5), to(3'000'000);
  deliver(pair, 0, from, to);
  CHECK_EQ(to.hash(), from.hash());
  const LinkCounters link = pair.a.qp->link_counters();
  CHECK(link.offered >= pair.packets(from.size));
  CHECK_EQ(link.offered, pair.a.qp->counters().packets_sent);
  CHECK_EQ(link.dropped + link.queue_dropped, uint64_t{0});
}

TEST(missing_packets_are_exactly_those_the_link_dropped) {
  for (const uint32_t channels : {1u, 3u}) {
    Setup setup;
    setup.channels = channels;
    setup.packets_per_chunk = 1;
    setup.link.rate_bps = 1e9;
    setup.link.delay_ns = 1'000'000;
    setup.link.loss = LossModel::bernoulli;
    setup.link.loss_probability = 0.1;
    Pair pair(setup);
    Memory from(1'400'000, 9), to(1'400'000);
    const uint64_t packets = pair.packets(from.size);
    CHECK_EQ(pair.b.qp->post_receive(0, to.region, 0, to.size), SDR_OK);
    CHECK_EQ(pair.a.qp->open_send(0, from.size, 0), SDR_OK);
    const auto done = [&] {
      sdr_rx_progress progress{};
      CHECK_EQ(pair.b.qp->engine().progress(0, &progress), SDR_OK);
      return uint64_t{progress.chunks_done};
    };
    uint64_t offered = 0, dropped = 0;
    while (offered < packets) {
      const uint64_t next = std::min(packets - offered, kDatagramsSafe), bytes = next * setup.packet_bytes;
      const uint64_t start = offered * setup.packet_bytes;
      CHECK_EQ(pair.a.qp->post_send(0, 7, from.region, start, static_cast<uint32_t>(offered), bytes), SDR_OK);
      offered += next;
      pair.wait("injection", [&] { return pair.a.qp->link_counters().offered == offered; });
      dropped = pair.a.qp->link_counters().dropped;
      pair.wait("all that was not dropped", [&] { return done() == offered - dropped; });
    }
    CHECK(dropped > 0);
    const QpCounters counters = pair.b.qp->counters();
    CHECK_EQ(counters.steps[SDR_STEP_PACKET] + counters.steps[SDR_STEP_CHUNK], packets - dropped);
  }
}

TEST(duplicates_corruption_and_reordering_are_counted_and_repaired) {
  Setup setup;
  setup.channels = 2;
  setup.link.rate_bps = 400e6;
  setup.link.delay_ns = 2'000'000;
  setup.link.jitter_ns = 500'000;
  setup.link.loss = LossModel::bernoulli;
  setup.link.loss_probability = 0.05;
  setup.link.duplicate_probability = 0.1;
  setup.link.corrupt_probability = 0.05;
  setup.link.reorder_probability = 0.2;
  Pair pair(setup);
  for (uint32_t message = 0; message < 3; message++) {
    Memory from(1'000'003, 20 + message), to(1'000'003);
    deliver(pair, message, from, to);
    CHECK_EQ(to.hash(), from.hash());
  }
  const LinkCounters link = pair.a.qp->link_counters();
  CHECK(link.duplicated > 0 && link.corrupted > 0 && link.reordered > 0 && link.dropped > 0);
  // A flipped bit of the key makes the datagram nobody's; any other one fails the checksum. A few may still be on the
  // link, or have found the socket full.
  const auto refused = [&] {
    return pair.b.qp->counters().bad_checksum + pair.b.context->unknown_datagrams();
  };
  pair.wait("the corrupted datagrams", [&] { return refused() > link.corrupted / 2; });
  CHECK(refused() <= link.corrupted);
  const QpCounters counters = pair.b.qp->counters();
  CHECK(counters.steps[SDR_STEP_DUPLICATE] + counters.steps[SDR_STEP_LATE] > 0);
}

TEST(control_datagrams_arrive_whole_and_unchanged) {
  Setup setup;
  setup.channels = 3;
  Pair pair(setup);
  std::vector<std::vector<uint8_t>> sent;
  for (size_t i = 0; i < 50; i++) {
    sent.emplace_back(1 + i * 28, static_cast<uint8_t>(i));
    CHECK_EQ(pair.a.qp->send_control(PacketKind::ack, sent.back().data(), sent.back().size()), SDR_OK);
  }
  pair.wait("control", [&] { return pair.b.controls.size() == sent.size(); });
  CHECK(pair.b.controls == sent);
  CHECK_EQ(pair.b.qp->counters().control_received, uint64_t{50});
  CHECK_EQ(pair.a.qp->counters().control_sent, uint64_t{50});
  CHECK_EQ(pair.a.qp->link_counters().offered_by_kind[static_cast<size_t>(PacketKind::ack)], uint64_t{50});
  CHECK(pair.b.qp->last_heard_ns() > 0);
  CHECK_EQ(pair.a.qp->last_heard_ns(), int64_t{0});
}

TEST(slots_and_generations_are_recycled) {
  Setup setup;
  setup.slots = 2;
  setup.generations = 2;
  deliver_and_compare(setup, 100'000, 13);
}

TEST(garbage_truncated_and_foreign_datagrams_are_counted_and_ignored) {
  Pair pair(Setup{});
  Memory to(100'000);
  const uint64_t before = to.hash();
  CHECK_EQ(pair.b.qp->post_receive(0, to.region, 0, to.size), SDR_OK);
  const Raw raw(pair.b.context->addresses().at(0));
  std::mt19937 random(3);
  for (size_t size = 0; size < 200; size++) {
    std::vector<uint8_t> noise(size * 7);
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
    raw.send(noise.data(), noise.size());
    if (size % kDatagramsSafe == 0 || size == 199)
      pair.wait("noise", [&] { return pair.b.context->unknown_datagrams() == size + 1; });
  }

  std::vector<uint8_t> good = data_packet(pair, 0, to.size, 0, 0x77);
  for (size_t size = 8; size < kUdpHeaderBytes; size++) raw.send(good.data(), size);
  pair.wait("truncated", [&] { return pair.b.qp->counters().truncated == kUdpHeaderBytes - 8; });
  for (size_t size = kUdpHeaderBytes; size < good.size(); size += 50) raw.send(good.data(), size);
  for (size_t at = 8; at < good.size(); at += 50) {
    std::vector<uint8_t> bad = good;
    bad[at] ^= 1;
    raw.send(bad.data(), bad.size());
  }
  const uint64_t wrong = (good.size() - kUdpHeaderBytes + 49) / 50 + (good.size() - 8 + 49) / 50;
  pair.wait("bad checksums", [&] { return pair.b.qp->counters().bad_checksum == wrong; });
  CHECK_EQ(pair.b.qp->last_heard_ns(), int64_t{0});

  std::vector<uint8_t> too_long = datagram(kKeyB, {}, std::vector<uint8_t>(1401, 1));
  raw.send(too_long.data(), too_long.size());
  std::vector<uint8_t> control_with_message = datagram(kKeyB, {PacketKind::ack, 0, 0, 5}, {1, 2, 3});
  raw.send(control_with_message.data(), control_with_message.size());
  std::vector<uint8_t> unknown_kind = datagram(kKeyB, {static_cast<PacketKind>(200), 0, 0, 0}, {1});
  raw.send(unknown_kind.data(), unknown_kind.size());
  pair.wait("malformed", [&] { return pair.b.qp->counters().malformed == 3; });
  CHECK(pair.b.controls.empty());
  CHECK_EQ(to.hash(), before);
}

TEST(forged_and_replayed_data_never_reaches_memory) {
  Setup setup;
  setup.slots = 2;
  setup.generations = 2;
  Pair pair(setup);
  const Raw raw(pair.b.context->addresses().at(0));
  const size_t bytes = 50'000;
  std::vector<uint8_t> old = data_packet(pair, 0, bytes, 3, 0x77);
  // Messages 0..3 come and go, so that message 4 has both the slot and the generation of message 0.
  for (uint32_t message = 0; message < 4; message++) {
    Memory from(bytes, 60 + message), to(bytes);
    deliver_once(pair, message, from, to);
    CHECK_EQ(to.hash(), from.hash());
  }
  Memory to(bytes);
  const uint64_t before = to.hash();
  CHECK_EQ(pair.b.qp->post_receive(4, to.region, 0, bytes), SDR_OK);
  bool complete = false;
  CHECK_EQ(pair.b.qp->set_length(4, bytes, &complete), SDR_OK);
  raw.send(old.data(), old.size());
  pair.wait("the replay", [&] { return pair.b.qp->counters().replayed == 1; });
  const uint64_t late_before = pair.b.qp->counters().steps[SDR_STEP_LATE];
  std::vector<uint8_t> other_generation = data_packet(pair, 2, bytes, 3, 0x77);
  raw.send(other_generation.data(), other_generation.size());
  std::vector<uint8_t> inert = data_packet(pair, 3, bytes, 3, 0x77);
  raw.send(inert.data(), inert.size());
  pair.wait("the late ones", [&] { return pair.b.qp->counters().steps[SDR_STEP_LATE] == late_before + 2; });

  const sdr_tx_packet tx = sdr_tx_make(&pair.a.qp->geometry(), 4, bytes, 0, 0);
  const auto forge = [&](uint32_t queue, uint32_t immediate, size_t size) {
    std::vector<uint8_t> forged = datagram(kKeyB, {PacketKind::data, static_cast<uint16_t>(queue), immediate, 4},
                                           std::vector<uint8_t>(size, 0x66));
    raw.send(forged.data(), forged.size());
  };
  const auto steps = [&](sdr_step step) { return pair.b.qp->counters().steps[step]; };
  forge(60'000, tx.immediate, 1400);
  pair.wait("bad queue", [&] { return steps(SDR_STEP_BAD_QUEUE) == 1; });
  forge(tx.queue, tx.immediate | 0xffc00000u, 1400);
  pair.wait("bad slot", [&] { return steps(SDR_STEP_BAD_SLOT) == 1; });
  forge(tx.queue, tx.immediate | (1000u << 4), 1400);
  pair.wait("bad packet", [&] { return steps(SDR_STEP_BAD_PACKET) == 1; });
  forge(tx.queue, tx.immediate, 1399);
  pair.wait("bad length", [&] { return steps(SDR_STEP_BAD_LENGTH) == 1; });
  CHECK_EQ(to.hash(), before);
}

TEST(late_packets_leave_a_completed_buffer_unchanged) {
  Pair pair(Setup{});
  const size_t bytes = kDatagramsSafe * 1400 - 5;
  Memory from(bytes, 31), to(bytes);
  deliver_once(pair, 0, from, to);
  const uint64_t before = to.hash();
  const Raw raw(pair.b.context->addresses().at(0));
  const auto packets = static_cast<uint32_t>(pair.packets(bytes));
  const uint64_t late = pair.b.qp->counters().steps[SDR_STEP_LATE];
  for (uint32_t packet = 0; packet < packets; packet++) {
    std::vector<uint8_t> again = data_packet(pair, 0, bytes, packet, 0x55);
    raw.send(again.data(), again.size());
  }
  pair.wait("late packets", [&] { return pair.b.qp->counters().steps[SDR_STEP_LATE] == late + packets; });
  CHECK_EQ(to.hash(), before);
}

TEST(closing_a_send_drops_the_queue_and_frees_the_memory) {
  Setup setup;
  setup.link.rate_bps = 10e6;  // the whole would take seconds
  setup.channels = 2;
  Pair pair(setup);
  Memory from(4'000'000, 41);
  CHECK_EQ(pair.a.qp->open_send(0, from.size, 0), SDR_OK);
  CHECK_EQ(pair.a.qp->post_send(0, 1, from.region, 0, 0, from.size), SDR_OK);
  from.region.reset();
  CHECK(!from.released->load());
  CHECK_EQ(pair.a.qp->close_send(0), SDR_OK);
  pair.wait("release", [&] { return from.released->load(); });
  CHECK_EQ(pair.a.count(EventType::injected, 0), size_t{0});
  CHECK(pair.a.qp->counters().packets_sent < pair.packets(from.size));
  CHECK_EQ(pair.a.qp->close_send(0), SDR_CLOSED);
  CHECK_EQ(pair.a.qp->open_send(0, 10, 0), SDR_OUT_OF_ORDER);
}

TEST(packets_on_the_link_outlive_their_send_but_not_the_queue_pair) {
  Setup setup;
  setup.link.delay_ns = 30'000'000;
  Pair pair(setup);
  Memory from(kDatagramsSafe * setup.packet_bytes, 43), to(from.size);
  CHECK_EQ(pair.b.qp->post_receive(0, to.region, 0, to.size), SDR_OK);
  bool complete = false;
  CHECK_EQ(pair.b.qp->set_length(0, from.size, &complete), SDR_OK);
  CHECK_EQ(pair.a.qp->open_send(0, from.size, 0), SDR_OK);
  CHECK_EQ(pair.a.qp->post_send(0, 1, from.region, 0, 0, from.size), SDR_OK);
  pair.wait("injection", [&] { return pair.a.count(EventType::injected, 0) == 1; });
  CHECK_EQ(pair.a.qp->close_send(0), SDR_OK);
  pair.wait("arrival", [&] { return pair.b.is_complete(0); });
  CHECK_EQ(to.hash(), from.hash());

  LinkConfig far = setup.link;
  far.delay_ns = 3'600'000'000'000;  // an hour: these packets are on the link when it closes
  CHECK_EQ(pair.a.qp->set_link(far), SDR_OK);
  CHECK_EQ(pair.a.qp->open_send(1, from.size, 0), SDR_OK);
  CHECK_EQ(pair.a.qp->post_send(1, 2, from.region, 0, 0, from.size), SDR_OK);
  pair.wait("injection", [&] { return pair.a.count(EventType::injected, 1) == 1; });
  from.region.reset();
  CHECK(!from.released->load());
  pair.a.qp->close();
  CHECK(from.released->load());
  to.region.reset();
  CHECK(!to.released->load());
  pair.b.qp->close();
  CHECK(to.released->load());
  CHECK_EQ(pair.a.qp->open_send(2, 10, 0), SDR_CLOSED);
  CHECK_EQ(pair.b.qp->post_receive(1, nullptr, 0, 10), SDR_CLOSED);
  const uint8_t byte = 0;
  CHECK_EQ(pair.a.qp->send_control(PacketKind::ping, &byte, 1), SDR_CLOSED);
}

TEST(a_healed_link_is_passed_at_once) {
  Setup setup;
  setup.link.loss = LossModel::bernoulli;
  setup.link.loss_probability = 1;
  Pair pair(setup);
  const uint8_t body[3] = {1, 2, 3};
  CHECK_EQ(pair.a.qp->send_control(PacketKind::ping, body, 3), SDR_OK);
  pair.wait("the loss", [&] { return pair.a.qp->link_counters().dropped == 1; });
  CHECK_EQ(pair.a.qp->set_link(LinkConfig{}), SDR_OK);
  CHECK_EQ(pair.a.qp->send_control(PacketKind::ping, body, 3), SDR_OK);
  pair.wait("the second", [&] { return pair.b.controls.size() == 1; });
}

TEST(wrong_arguments_are_refused) {
  Setup setup;
  setup.work_requests_max = 2;
  setup.link.rate_bps = 1e6;
  Pair pair(setup);
  QueuePair* qp = pair.a.qp;
  const uint64_t chunk = pair.chunk_bytes();
  Memory memory(4 * chunk, 50);
  CHECK_EQ(qp->post_receive(0, memory.region, 1, memory.size), SDR_INVALID);
  CHECK_EQ(qp->post_receive(0, memory.region, UINT64_MAX, 2), SDR_INVALID);
  CHECK_EQ(qp->post_receive(5, memory.region, 0, 10), SDR_OUT_OF_ORDER);
  CHECK_EQ(qp->post_send(0, 0, memory.region, 0, 0, chunk), SDR_CLOSED);
  CHECK_EQ(qp->open_send(0, uint64_t{1} << 40, 0), SDR_TOO_LARGE);
  CHECK_EQ(qp->open_send(0, 3 * chunk + 5, 0), SDR_OK);
  CHECK_EQ(qp->open_send(8, 10, 0), SDR_BUSY);
  CHECK_EQ(qp->post_send(0, 0, nullptr, 0, 0, chunk), SDR_INVALID);
  CHECK_EQ(qp->post_send(0, 0, memory.region, 0, 0, 0), SDR_INVALID);
  CHECK_EQ(qp->post_send(0, 0, memory.region, 0, 4, chunk - 1), SDR_INVALID);  // parity goes in whole chunks
  CHECK_EQ(qp->post_send(0, 0, memory.region, 0, 3, 6), SDR_INVALID);
  CHECK_EQ(qp->post_send(0, 0, memory.region, 0, 0, chunk - 1), SDR_INVALID);
  CHECK_EQ(qp->post_send(0, 0, memory.region, 3 * chunk + 1, 0, chunk), SDR_INVALID);
  CHECK_EQ(qp->post_send(0, 0, memory.region, UINT64_MAX - 1, 0, chunk), SDR_INVALID);
  CHECK_EQ(qp->post_send(0, 0, memory.region, 0, UINT32_MAX, chunk), SDR_INVALID);
  CHECK_EQ(qp->post_send(0, 0, memory.region, 0, 0, chunk), SDR_OK);
  CHECK_EQ(qp->post_send(0, 1, memory.region, 0, 3, 5), SDR_OK);
  CHECK_EQ(qp->post_send(0, 2, memory.region, 0, 0, chunk), SDR_BUSY);
  const std::vector<uint8_t> body(1500);
  CHECK_EQ(qp->send_control(PacketKind::data, body.data(), 10), SDR_INVALID);
  CHECK_EQ(qp->send_control(PacketKind::ack, body.data(), 1401), SDR_TOO_LARGE);
  CHECK_EQ(qp->send_control(PacketKind::ack, body.data(), 0), SDR_INVALID);
  LinkConfig bad;
  bad.delay_ns = kLinkDelayMaxNs + 1;
  CHECK_EQ(qp->set_link(bad), SDR_INVALID);
  UdpContext& context = *pair.a.context;
  CHECK_EQ(context.connect(99, pair.b.context->addresses(), 1, {}, 0), SDR_CLOSED);
  CHECK_EQ(context.connect(qp->id(), {}, 1, {}, 0), SDR_INVALID);
  sdr_status status = SDR_OK;
  QpConfig config;
  config.geometry = qp->geometry();
  CHECK(context.create_qp(config, kKeyA, &status) == nullptr);  // the key is taken
  CHECK_EQ(status, SDR_INVALID);
  config.geometry.channels = 2;
  CHECK(context.create_qp(config, 5, &status) == nullptr);
  CHECK_EQ(status, SDR_INVALID);
  config.geometry.channels = 1;
  for (const double rate : {-1.0, 1e-300, 1e300, std::nan("")}) {
    config.rate_bps = rate;
    CHECK(context.create_qp(config, 5, &status) == nullptr);
    CHECK_EQ(status, SDR_INVALID);
  }
  config.rate_bps = 0;
  for (const uint32_t most : {uint32_t{0}, kWorkRequestsMax + 1}) {
    config.work_requests_max = most;
    CHECK(context.create_qp(config, 5, &status) == nullptr);
    CHECK_EQ(status, SDR_INVALID);
  }
  config.work_requests_max = 8;
  QueuePair* other = context.create_qp(config, 5, &status);
  CHECK(other != nullptr);
  CHECK_EQ(context.connect(other->id(), {{"::1", 9}}, 1, {}, 0), SDR_INVALID);
  CHECK_EQ(context.connect(other->id(), {{"nowhere", 9}}, 1, {}, 0), SDR_INVALID);
  CHECK_EQ(context.connect(other->id(), {{"127.0.0.1", 0}}, 1, {}, 0), SDR_INVALID);
  CHECK_EQ(context.connect(other->id(), pair.b.context->addresses(), 1, bad, 0), SDR_INVALID);
  CHECK_EQ(other->set_link(LinkConfig{}), SDR_INVALID);  // not connected
  CHECK_EQ(other->open_send(0, 10, 0), SDR_INVALID);  // not connected
  context.destroy_qp(other->id());
  CHECK(context.create_qp(config, 5, &status) != nullptr);
}

TEST(a_context_says_why_it_cannot_open) {
  UdpError error;
  UdpOptions options;
  options.address = "not an address";
  CHECK(UdpContext::create(options, {}, &error) == nullptr);
  CHECK_EQ(error.call, std::string("address"));
  options.address = "203.0.113.7";
  CHECK(UdpContext::create(options, {}, &error) == nullptr);
  CHECK_EQ(error.call, std::string("bind"));
  CHECK_EQ(error.number, EADDRNOTAVAIL);
  options = {};
  options.channels = 0;
  CHECK(UdpContext::create(options, {}, &error) == nullptr);
  options = {};
  const auto first = UdpContext::create(options, {}, &error);
  CHECK(first != nullptr);
  options.port = first->addresses().at(0).port;
  CHECK(UdpContext::create(options, {}, &error) == nullptr);
  CHECK_EQ(error.number, EADDRINUSE);
  CHECK_EQ(error.call, std::string("bind"));
  CHECK_EQ(first->capabilities().payload_bytes_max, uint32_t{SDR_PACKET_BYTES_MAX});
}

TEST(several_queue_pairs_share_a_channel) {
  Pair pair(Setup{});
  constexpr uint32_t kMore = 5;
  constexpr size_t kBytes = kDatagramsSafe / kMore * 1400 - 3;
  std::vector<QueuePair*> senders, receivers;
  std::vector<std::unique_ptr<Memory>> from, to;
  QpConfig config;
  config.geometry = pair.a.qp->geometry();
  sdr_status status = SDR_OK;
  for (uint32_t i = 0; i < kMore; i++) {
    senders.push_back(pair.a.context->create_qp(config, 1000 + i, &status));
    receivers.push_back(pair.b.context->create_qp(config, 2000 + i, &status));
    CHECK(senders[i] != nullptr && receivers[i] != nullptr);
    CHECK_EQ(pair.a.context->connect(senders[i]->id(), pair.b.context->addresses(), 2000 + i, {}, i), SDR_OK);
    from.push_back(std::make_unique<Memory>(kBytes, 70 + i));
    to.push_back(std::make_unique<Memory>(kBytes));
    CHECK_EQ(receivers[i]->post_receive(0, to[i]->region, 0, kBytes), SDR_OK);
    bool complete = false;
    CHECK_EQ(receivers[i]->set_length(0, kBytes, &complete), SDR_OK);
    CHECK_EQ(senders[i]->open_send(0, kBytes, 0), SDR_OK);
  }
  for (uint32_t i = 0; i < kMore; i++)
    CHECK_EQ(senders[i]->post_send(0, i, from[i]->region, 0, 0, kBytes), SDR_OK);
  const auto complete = [&](QueuePair* qp) {
    return std::any_of(pair.b.events.begin(), pair.b.events.end(), [&](const Event& e) {
      return e.type == static_cast<uint32_t>(EventType::progress) && e.qp == qp->id() && e.value == 1;
    });
  };
  pair.wait("all", [&] { return std::all_of(receivers.begin(), receivers.end(), complete); });
  for (uint32_t i = 0; i < kMore; i++) CHECK_EQ(to[i]->hash(), from[i]->hash());
}

TEST(a_queue_pair_that_fills_every_batch_leaves_others_their_turn) {
  for (const bool busy_first : {false, true}) {
    Setup setup;
    setup.packet_bytes = 65000;  // a few of these fill a batch
    Pair pair(setup);
    QpConfig config;
    config.geometry = pair.a.qp->geometry();
    sdr_status status = SDR_OK;
    QueuePair* other = pair.a.context->create_qp(config, 5, &status);
    CHECK(other != nullptr);
    CHECK_EQ(pair.a.context->connect(other->id(), pair.b.context->addresses(), 6, {}, 1), SDR_OK);
    QueuePair* busy = busy_first ? pair.a.qp : other;
    QueuePair* modest = busy_first ? other : pair.a.qp;
    Memory memory(40 * size_t{pair.chunk_bytes()}, 90);
    for (QueuePair* qp : {busy, modest}) CHECK_EQ(qp->open_send(0, memory.size, 0), SDR_OK);
    constexpr uint32_t kBusyMax = 50'000;  // of 40 MB: the modest one must come long before
    uint32_t posted = 0;
    const auto keep_busy = [&] {
      while (posted < kBusyMax && busy->post_send(0, posted, memory.region, 0, 0, memory.size) == SDR_OK) posted++;
    };
    keep_busy();
    CHECK_EQ(modest->post_send(0, 0, memory.region, 0, 0, memory.size), SDR_OK);
    pair.wait("the modest one's turn", [&] {
      keep_busy();
      return std::any_of(pair.a.events.begin(), pair.a.events.end(), [&](const Event& e) {
        return e.type == static_cast<uint32_t>(EventType::injected) && e.qp == modest->id();
      });
    });
    CHECK(posted < kBusyMax);
  }
}

TEST(contexts_close_under_load) {
  for (int round = 0; round < 20; round++) {
    Setup setup;
    setup.channels = 2;
    if (round % 2 == 1) setup.link.delay_ns = 200'000;
    Pair pair(setup);
    Memory from(2'000'000, 80), to(2'000'000);
    CHECK_EQ(pair.b.qp->post_receive(0, to.region, 0, to.size), SDR_OK);
    CHECK_EQ(pair.a.qp->open_send(0, from.size, 0), SDR_OK);
    CHECK_EQ(pair.a.qp->post_send(0, 0, from.region, 0, 0, from.size), SDR_OK);
    pair.wait("the first packets", [&] { return pair.b.qp->last_heard_ns() > 0; });
    if (round % 3 == 0) pair.b.context->destroy_qp(pair.b.qp->id());
    if (round % 3 == 1) pair.a.context->shutdown();
    pair.a.context.reset();
    pair.b.context.reset();
    from.region.reset();
    CHECK(from.released->load());
  }
}
