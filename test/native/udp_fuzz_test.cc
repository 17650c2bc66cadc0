// Mutated, truncated, extended, re-keyed, forged and replayed datagrams shot from a plain socket at a queue pair while
// it receives. Nothing crashes, memory ends up right, and every datagram is counted once, under the reason that an
// oracle of this file names. SDR_FUZZ_ROUNDS (default 6) says how much of it, SDR_SEED (default 1) where it begins.
#include "udp_pair.h"

using namespace sdr;
using namespace sdr::test;

namespace {

constexpr uint32_t kShotsPerStep = 40;  // with what else is under way, less than any socket buffer
constexpr uint32_t kStepsMax = 400;     // of one message, whose chunks come at random
constexpr uint32_t kMessages = 5;

using Bytes = std::vector<uint8_t>;

// Bit by bit, by the definition.
uint32_t plain_crc32c(const uint8_t* data, size_t bytes) {
  uint32_t crc = UINT32_MAX;
  for (size_t i = 0; i < bytes; i++) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

uint64_t big_endian(const uint8_t* at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; i++) value = value << 8 | at[i];
  return value;
}

// What a receiver makes of datagrams. `engine`: those that the message table judges, with one reason or another.
struct Tally {
  uint64_t unknown = 0, truncated = 0, bad_checksum = 0, malformed = 0, control = 0, engine = 0;
  uint64_t total() const { return unknown + truncated + bad_checksum + malformed + control + engine; }
};

// The oracle: sdr/udp.h's layout and split 10 + 18 + 4, read anew.
void expect_datagram(Tally* tally, const Bytes& datagram, uint64_t key, const Setup& setup, uint32_t channel) {
  const uint8_t* d = datagram.data();
  if (datagram.size() < 8 || big_endian(d, 8) != key) {
    tally->unknown++;
  } else if (datagram.size() < kUdpHeaderBytes) {
    tally->truncated++;
  } else if (plain_crc32c(d + 12, datagram.size() - 12) != big_endian(d + 8, 4)) {
    tally->bad_checksum++;
  } else if (d[12] != 1 || d[13] >= kPacketKinds || datagram.size() - kUdpHeaderBytes > setup.packet_bytes ||
             (d[13] != 0 && (big_endian(d + 14, 8) | big_endian(d + 22, 2)) != 0) ||
             (d[13] != 0 && datagram.size() == kUdpHeaderBytes)) {
    tally->malformed++;
  } else if (d[13] != 0) {
    tally->control++;
  } else {
    const uint64_t queue = big_endian(d + 14, 2), packet = (big_endian(d + 16, 4) >> 4) & 0x3ffff;
    const bool its_channel = queue % setup.channels == channel && packet % setup.channels == channel;
    (its_channel ? tally->engine : tally->malformed)++;
  }
}

Tally counted(const Pair& pair) {
  const QpCounters c = pair.b.qp->counters();
  Tally tally;
  tally.unknown = pair.b.context->unknown_datagrams();
  tally.truncated = c.truncated;
  tally.bad_checksum = c.bad_checksum;
  tally.malformed = c.malformed;
  tally.control = c.control_received;
  tally.engine = c.replayed;
  for (const uint64_t step : c.steps) tally.engine += step;
  return tally;
}

class Fuzz {
 public:
  Fuzz(const Setup& setup, uint64_t seed) : random_(seed), pair_(setup), bytes_(pair_.chunk_bytes() * 7 + 123) {
    for (const UdpAddress& address : pair_.b.context->addresses()) guns_.push_back(std::make_unique<Raw>(address));
  }

  void run() {
    for (uint32_t message = 0; message < kMessages; message++) {
      Memory from(bytes_, static_cast<uint32_t>(random_()) | 1), to(bytes_);
      record(from, message);
      bool complete = false;
      CHECK_EQ(pair_.b.qp->post_receive(message, to.region, 0, to.size), SDR_OK);
      if (pick(2) == 0) CHECK_EQ(pair_.b.qp->set_length(message, from.size, &complete), SDR_OK);
      CHECK_EQ(pair_.a.qp->open_send(message, from.size, 7), SDR_OK);
      for (uint32_t step = 0; step < kStepsMax; step++) {
        if (step == 10) CHECK_EQ(pair_.b.qp->set_length(message, from.size, &complete), SDR_OK);
        if (step > 10 && is_complete(message)) break;
        send_some(message, from);
        shoot();
        settle();
      }
      CHECK(is_complete(message));
      CHECK_EQ(to.hash(), from.hash());
      CHECK_EQ(pair_.a.qp->close_send(message), SDR_OK);
      CHECK_EQ(pair_.b.qp->complete(message), SDR_OK);
      shoot();
      settle();
      CHECK_EQ(to.hash(), from.hash());
    }
  }

 private:
  uint64_t pick(uint64_t below) { return random_() % below; }
  bool is_complete(uint32_t message) const {
    sdr_rx_progress progress{};
    return pair_.b.qp->engine().progress(message, &progress) == SDR_OK && progress.complete;
  }

  // Keeps all datagrams of a message as its sender makes them, and some control.
  void record(const Memory& from, uint32_t message) {
    const sdr_geometry& geometry = pair_.a.qp->geometry();
    for (uint32_t packet = 0; packet < pair_.packets(from.size); packet++) {
      const sdr_tx_packet tx = sdr_tx_make(&geometry, message, from.size, packet, 7);
      const uint8_t* payload = from.region->base + uint64_t{packet} * geometry.packet_bytes;
      recorded_.push_back(datagram(kKeyB, {PacketKind::data, static_cast<uint16_t>(tx.queue), tx.immediate, message},
                                   Bytes(payload, payload + tx.bytes)));
    }
    bodies_.emplace_back(1 + pick(geometry.packet_bytes), static_cast<uint8_t>(random_()));
    recorded_.push_back(datagram(kKeyB, {PacketKind::ack, 0, 0, 0}, bodies_.back()));
  }

  // The sender's own traffic of one step: a chunk and now and then control.
  void send_some(uint32_t message, const Memory& from) {
    const uint64_t chunk_bytes = pair_.chunk_bytes(), chunks = (from.size + chunk_bytes - 1) / chunk_bytes;
    const uint64_t chunk = pick(chunks), start = chunk * chunk_bytes;
    const uint64_t bytes = std::min(chunk_bytes, from.size - start);
    CHECK_EQ(pair_.a.qp->post_send(message, 0, from.region, start, static_cast<uint32_t>(chunk), bytes), SDR_OK);
    expected_.engine += pair_.packets(bytes);
    if (pick(4) != 0) return;
    const Bytes& body = bodies_[pick(bodies_.size())];
    CHECK_EQ(pair_.a.qp->send_control(PacketKind::ack, body.data(), body.size()), SDR_OK);
    expected_.control++;
  }

  void shoot() {
    for (uint32_t shot = 0; shot < kShotsPerStep; shot++) {
      const Bytes bytes = mutate(recorded_[pick(recorded_.size())]);
      const auto channel = static_cast<uint32_t>(pick(guns_.size()));
      expect_datagram(&expected_, bytes, kKeyB, pair_.setup, channel);
      guns_[channel]->send(bytes.data(), bytes.size());
    }
  }

  Bytes mutate(Bytes bytes) {
    switch (pick(9)) {
      case 0:  // a replay
        break;
      case 1:
        for (uint64_t flips = 1 + pick(8); flips > 0; flips--)
          bytes[pick(bytes.size())] ^= static_cast<uint8_t>(1u << pick(8));
        break;
      case 2:
        bytes.resize(pick(bytes.size()));
        break;
      case 3:
        for (uint64_t more = 1 + pick(100); more > 0; more--) bytes.push_back(static_cast<uint8_t>(random_()));
        break;
      case 4:  // for somebody else
        for (size_t i = 0; i < 8; i++) bytes[i] = static_cast<uint8_t>(random_());
        break;
      case 5:  // half of another one
        bytes.resize(bytes.size() / 2);
        for (const uint8_t byte : recorded_[pick(recorded_.size())]) bytes.push_back(byte);
        break;
      case 6:  // shorter, and yet the checksum holds: control of another content, data of no bytes
        bytes.resize(kUdpHeaderBytes + (bytes[13] == 0 ? 0 : pick(bytes.size() - kUdpHeaderBytes)));
        if (bytes.size() > kUdpHeaderBytes) bodies_.emplace_back(bytes.begin() + kUdpHeaderBytes, bytes.end());
        sign(&bytes);
        break;
      case 7:
        forge(&bytes);
        break;
      case 8: {  // noise
        bytes.resize(pick(1500));
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random_());
        break;
      }
    }
    return bytes;
  }

  // A header that no sender writes, with the right key and checksum. None of these may reach memory.
  void forge(Bytes* bytes) {
    Bytes& b = *bytes;
    const bool data = b[13] == 0;
    switch (pick(data ? 6 : 3)) {
      case 0:
        b[12] = static_cast<uint8_t>(2 + pick(254));
        break;
      case 1:
        b[13] = static_cast<uint8_t>(kPacketKinds + pick(256 - kPacketKinds));
        break;
      case 2:
        if (data) b.resize(kUdpHeaderBytes + pair_.setup.packet_bytes + 1 + pick(100));
        else b[14 + pick(10)] ^= static_cast<uint8_t>(1 + pick(255));
        break;
      case 3:  // a queue beyond all generations
        b[14] = static_cast<uint8_t>(128 + pick(128));
        break;
      case 4:  // a slot beyond the table, or a packet beyond the message
        b[16 + pick(2)] |= 0xc0;
        break;
      case 5:  // another life of the slot
        b[20 + pick(3)] ^= static_cast<uint8_t>(1 + pick(255));
        break;
    }
    sign(bytes);
  }

  static void sign(Bytes* bytes) {
    const uint32_t crc = plain_crc32c(bytes->data() + 12, bytes->size() - 12);
    for (size_t i = 0; i < 4; i++) (*bytes)[8 + i] = static_cast<uint8_t>(crc >> (24 - 8 * i));
  }

  // All that was sent has been counted, each under its reason.
  void settle() {
    pair_.wait("all to be counted", [&] { return counted(pair_).total() >= expected_.total(); });
    const Tally got = counted(pair_);
    CHECK_EQ(got.unknown, expected_.unknown);
    CHECK_EQ(got.truncated, expected_.truncated);
    CHECK_EQ(got.bad_checksum, expected_.bad_checksum);
    CHECK_EQ(got.malformed, expected_.malformed);
    CHECK_EQ(got.control, expected_.control);
    CHECK_EQ(got.engine, expected_.engine);
    pair_.wait("the control", [&] { return pair_.b.controls.size() == expected_.control; });
    for (; controls_seen_ < pair_.b.controls.size(); controls_seen_++) {
      const Bytes& body = pair_.b.controls[controls_seen_];
      CHECK(std::find(bodies_.begin(), bodies_.end(), body) != bodies_.end());
    }
  }

  std::mt19937_64 random_;
  Pair pair_;
  const size_t bytes_;
  std::vector<std::unique_ptr<Raw>> guns_;
  std::vector<Bytes> recorded_;  // datagrams of this and earlier messages
  std::vector<Bytes> bodies_;    // of control that may arrive
  Tally expected_;
  size_t controls_seen_ = 0;
};

uint64_t setting(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace

TEST(every_datagram_is_counted_by_reason_and_none_spoils_memory) {
  const uint64_t rounds = setting("SDR_FUZZ_ROUNDS", 6), first = setting("SDR_SEED", 1);
  for (uint64_t seed = first; seed < first + rounds; seed++) {
    std::mt19937_64 random(seed);
    Setup setup;
    setup.packet_bytes = 64 + static_cast<uint32_t>(random() % 1337);
    setup.packets_per_chunk = 1 + static_cast<uint32_t>(random() % 9);
    setup.channels = 1 + static_cast<uint32_t>(random() % 3);
    setup.slots = 1 + static_cast<uint32_t>(random() % 3);
    setup.generations = 1 + static_cast<uint32_t>(random() % 3);
    setup.max_message_bytes = 1 << 20;
    setup.gro = random() % 2 == 0;
    std::printf("  seed %llu: %u-byte packets, %u a chunk, %u channels, %u slots, %u generations, gro %d\n",
                static_cast<unsigned long long>(seed), setup.packet_bytes, setup.packets_per_chunk, setup.channels,
                setup.slots, setup.generations, setup.gro);
    std::fflush(stdout);
    Fuzz(setup, random()).run();
  }
}

TEST(control_that_nobody_takes_is_dropped_at_the_limit_and_counted) {
  Pair pair(Setup{});
  const Bytes body(1400, 3);
  const uint64_t fit = EventQueue::kControlBytesMax / body.size();
  uint64_t sent = 0;
  while (sent < fit + 100) {
    for (uint32_t i = 0; i < kShotsPerStep; i++, sent++)
      CHECK_EQ(pair.a.qp->send_control(PacketKind::ack, body.data(), body.size()), SDR_OK);
    pair.wait("arrival", [&] { return pair.b.qp->counters().control_received == sent; }, false);
  }
  pair.wait("the last drop", [&] { return pair.b.qp->counters().control_dropped == sent - fit; }, false);
  pair.b.drain();
  CHECK_EQ(pair.b.controls.size(), size_t{fit});
}
