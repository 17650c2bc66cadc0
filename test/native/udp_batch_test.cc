// Batches of datagrams against real sockets on loopback: segmentation refused, sockets without room, datagrams that
// can never pass, forgotten lanes.
#include "transport/udp_batch.h"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>

#include "check.h"
#include "transport/udp_lane.h"

#if defined(__linux__)

using namespace sdr;
using namespace sdr::udp;

namespace {

constexpr int kWaitMs = 60'000;

struct Ends {
  Descriptor sender, receiver;
  SocketAddress to;
  udp::Environment environment;
  Shared shared{environment, 0, QpConfig{}, nullptr, 0};
  Lane lane{shared, 0}, other{shared, 0};

  Ends() {
    UdpOptions options;
    UdpCapabilities capabilities;
    UdpError error;
    SocketAddress local;
    CHECK(parse_address("127.0.0.1", 0, &local));
    sender = open_socket(local, options, &capabilities, &error);
    options.allow_gro = false;
    receiver = open_socket(local, options, &capabilities, &error);
    CHECK(sender.get() >= 0 && receiver.get() >= 0);
    to = local_address(receiver.get());
    environment.wake = [] {};
  }
  // The first payload byte of each datagram, in order of arrival: of as many as are expected, and of what came besides.
  std::vector<uint8_t> arrived(size_t expected) const {
    ReceiveBatch batch(false);
    std::vector<uint8_t> marks;
    for (;;) {
      if (marks.size() < expected) wait();
      const size_t count = batch.receive(receiver.get());
      if (count == 0) return marks;
      for (size_t i = 0; i < count; i++) {
        CHECK(batch.at(i).bytes > kUdpHeaderBytes);
        marks.push_back(batch.at(i).data[kUdpHeaderBytes]);
      }
    }
  }
  // Until a datagram is there: loopback may deliver it after the send has returned.
  void wait() const {
    pollfd watched{receiver.get(), POLLIN, 0};
    CHECK_EQ(poll(&watched, 1, kWaitMs), 1);
  }
};

void add(SendBatch& batch, Lane* lane, const SocketAddress& to, const std::vector<uint8_t>& payload) {
  std::memset(batch.add(lane, to, payload.data(), payload.size()), 0, kUdpHeaderBytes);
}

}  // namespace

TEST(datagrams_of_mixed_sizes_keep_their_order_and_bounds) {
  for (const bool gso : {false, true}) {
    Ends ends;
    SendBatch batch(gso);
    std::vector<std::vector<uint8_t>> payloads;
    std::vector<uint8_t> expected;
    for (uint8_t i = 0; i < 60; i++) {  // which any socket buffer holds
      payloads.emplace_back(i % 7 == 3 ? 40 : 1000 + i % 2, i);
      expected.push_back(i);
    }
    for (const auto& payload : payloads) add(batch, &ends.lane, ends.to, payload);
    CHECK(batch.flush(ends.sender.get()));
    CHECK(batch.empty());
    CHECK(ends.arrived(expected.size()) == expected);
  }
}

TEST(a_batch_ends_with_a_whole_send) {
  Ends ends;
  for (const size_t bytes : {size_t{1400}, size_t{8900}}) {
    const std::vector<uint8_t> payload(bytes, 1);
    const size_t whole = SendBatch::packets_of(bytes + kUdpHeaderBytes);
    CHECK_EQ(whole, bytes == 1400 ? size_t{45} : size_t{7});
    SendBatch batch(true);
    for (size_t first : {size_t{0}, size_t{1}}) {  // one of another lane before them, which none can join
      for (size_t i = 0; i < first; i++) add(batch, &ends.other, ends.to, payload);
      size_t packets = 0;
      while (!batch.full()) {
        add(batch, &ends.lane, ends.to, payload);
        packets++;
      }
      CHECK(packets >= 5 * whole);
      CHECK_EQ(packets % whole, size_t{0});
      batch.remove(&ends.lane);
      batch.remove(&ends.other);
    }
  }
}

TEST(a_refused_segmented_send_goes_as_plain_datagrams_and_none_is_lost) {
  Ends ends;
  const int on = 1;  // the kernel does not segment without checksums
  CHECK_EQ(setsockopt(ends.sender.get(), SOL_SOCKET, SO_NO_CHECK, &on, sizeof on), 0);
  SendBatch batch(true);
  const std::vector<uint8_t> payload(500, 9);
  for (int i = 0; i < 60; i++) add(batch, &ends.lane, ends.to, payload);
  CHECK(batch.flush(ends.sender.get()));
  CHECK(!batch.gso());
  CHECK_EQ(ends.arrived(60).size(), size_t{60});
  CHECK_EQ(ends.lane.counters.send_errors.get(), uint64_t{0});
  add(batch, &ends.lane, ends.to, payload);
  CHECK(batch.flush(ends.sender.get()));
  CHECK_EQ(ends.arrived(1).size(), size_t{1});
}

TEST(a_datagram_too_large_for_the_path_fails_its_queue_pair_once_and_spares_the_rest) {
  Ends ends;
  SendBatch batch(true);
  const std::vector<uint8_t> too_large(65'507, 1), small(100, 2);
  for (int i = 0; i < 3; i++) add(batch, &ends.lane, ends.to, too_large);
  add(batch, &ends.lane, ends.to, small);
  CHECK(batch.flush(ends.sender.get()));
  CHECK_EQ(ends.lane.counters.send_errors.get(), uint64_t{3});
  CHECK_EQ(ends.arrived(1).size(), size_t{1});
  CHECK(batch.gso());
  Event events[4];
  std::vector<uint8_t> control(EventQueue::kControlBytesMax);
  CHECK_EQ(ends.environment.events.drain(events, 4, control.data()), size_t{1});
  CHECK_EQ(events[0].type, static_cast<uint32_t>(EventType::error));
  CHECK_EQ(events[0].value, uint32_t{EMSGSIZE});
}

TEST(a_corrupted_datagram_differs_by_one_bit_and_the_source_is_untouched) {
  Ends ends;
  const std::vector<uint8_t> payload(100, 0x40);
  for (uint64_t bit = 0; bit < (kUdpHeaderBytes + 100) * 8; bit += 5) {
    SendBatch batch(true);
    add(batch, &ends.lane, ends.to, payload);
    batch.corrupt_last(bit);
    CHECK(batch.flush(ends.sender.get()));
    ReceiveBatch received(false);
    ends.wait();
    CHECK_EQ(received.receive(ends.receiver.get()), size_t{1});
    int flipped = 0;
    for (size_t i = 0; i < received.at(0).bytes; i++)
      flipped += __builtin_popcount(received.at(0).data[i] ^ (i < kUdpHeaderBytes ? 0 : 0x40));
    CHECK_EQ(flipped, 1);
    CHECK(payload == std::vector<uint8_t>(100, 0x40));
  }
}

TEST(a_full_socket_keeps_the_batch_until_there_is_room) {
  // A stream of datagrams into a peer that does not read: unlike UDP on loopback this socket does fill.
  int pair[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
  const Descriptor near(pair[0]), far(pair[1]);
  fcntl(near.get(), F_SETFL, O_NONBLOCK);
  Ends ends;
  const SocketAddress connected{};  // no address: the pair is connected
  SendBatch batch(false);
  const std::vector<uint8_t> payload(4000, 3);
  size_t posted = 0;
  bool blocked = false;
  while (!blocked && posted < 100'000) {
    add(batch, &ends.lane, connected, payload);
    posted++;
    blocked = !batch.flush(near.get());
  }
  CHECK(blocked);
  CHECK(!batch.empty());
  std::vector<uint8_t> sink(8000);
  size_t taken = 0;
  while (recv(far.get(), sink.data(), sink.size(), MSG_DONTWAIT) > 0) taken++;
  CHECK_EQ(taken, posted - 1);
  CHECK(batch.flush(near.get()));
  CHECK(recv(far.get(), sink.data(), sink.size(), MSG_DONTWAIT) > 0);
}

TEST(a_destination_that_refuses_every_datagram_leaves_segmentation_on_for_others) {
  Ends ends;
  SocketAddress nowhere;
  CHECK(parse_address("127.0.0.1", 0, &nowhere));  // EINVAL: no datagram goes to port 0
  SendBatch batch(true);
  const std::vector<uint8_t> payload(500, 7);
  for (int i = 0; i < 3; i++) add(batch, &ends.lane, nowhere, payload);
  for (int i = 0; i < 3; i++) add(batch, &ends.other, ends.to, payload);
  CHECK(batch.flush(ends.sender.get()));
  CHECK_EQ(ends.lane.counters.send_errors.get(), uint64_t{3});
  CHECK_EQ(ends.other.counters.send_errors.get(), uint64_t{0});
  CHECK_EQ(ends.arrived(3).size(), size_t{3});
  CHECK(batch.gso());
}

TEST(nothing_joins_a_send_across_the_gap_that_a_removed_lane_leaves) {
  Ends ends;
  SendBatch batch(true);
  const std::vector<uint8_t> mine(100, 1), others(100, 2), later(100, 3);
  add(batch, &ends.other, ends.to, others);
  add(batch, &ends.lane, ends.to, mine);
  batch.remove(&ends.lane);
  add(batch, &ends.other, ends.to, later);
  CHECK(batch.flush(ends.sender.get()));
  CHECK((ends.arrived(2) == std::vector<uint8_t>{2, 3}));
}

TEST(a_removed_lanes_datagrams_are_not_sent) {
  Ends ends;
  SendBatch batch(true);
  const std::vector<uint8_t> mine(100, 1), others(100, 2);
  for (int i = 0; i < 10; i++) {
    add(batch, &ends.lane, ends.to, mine);
    add(batch, &ends.other, ends.to, others);
  }
  batch.remove(&ends.lane);
  CHECK(batch.flush(ends.sender.get()));
  CHECK(ends.arrived(10) == std::vector<uint8_t>(10, 2));
  add(batch, &ends.other, ends.to, others);
  batch.remove(&ends.other);
  CHECK(batch.empty());
}

#else

TEST(batches) { std::printf("  skipped: needs Linux's segmented sends\n"); }

#endif
