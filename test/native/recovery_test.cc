// Making lost chunks from parity: what Receives checks, waits for and writes, with the engine alone under it; then the
// same through the emulated transport.
#include <atomic>
#include <future>
#include <latch>
#include <new>
#include <random>
#include <thread>

#include "emulated_fixture.h"
#include "transport/receives.h"

using namespace sdr;

namespace {

constexpr uint32_t kRandomRounds = 300;
constexpr uint32_t kContestRounds = 100;

uint64_t seed_of() {
  const char* text = std::getenv("SDR_SEED");
  const uint64_t seed = text ? std::strtoull(text, nullptr, 10) : 1;
  std::printf("  SDR_SEED=%llu\n", (unsigned long long)seed);
  return seed;
}

sdr_geometry geometry_of(uint32_t packet_bytes, uint32_t per_chunk, uint32_t channels, uint32_t chunks_max) {
  return {packet_bytes, per_chunk, 2, 4, channels, uint64_t{packet_bytes} * per_chunk * chunks_max, {10, 18, 4}};
}

// A message with what its sender has: the data, and its parity, block by block; `in_turns`: its blocks take turns.
struct Sent {
  Sent(const sdr_geometry& geometry_is, const codec::Shape& shape, uint64_t bytes, uint32_t seed, bool in_turns = false)
      : geometry(geometry_is),
        code(codec::Code::of(shape)),
        chunk(uint64_t{geometry.packet_bytes} * geometry.packets_per_chunk),
        chunks(sdr_rx_parity_first(&geometry, bytes)),
        blocks((chunks + shape.k - 1) / shape.k),
        stride(in_turns ? blocks : 1),
        data(fixture::memory(bytes, seed)),
        parity(fixture::memory(blocks * shape.m * chunk)) {
    for (uint32_t block = 0; block < blocks; block++) {
      std::vector<codec::Source> sources(shape.k);
      for (uint32_t i = 0; i < count(block); i++) {
        const uint64_t at = uint64_t{chunk_of(block, i)} * chunk;
        sources[i] = {data->base + at, std::min(chunk, bytes - at)};
      }
      std::vector<uint8_t*> targets(shape.m);
      for (uint32_t i = 0; i < shape.m; i++) targets[i] = parity->base + (block * shape.m + i) * chunk;
      CHECK(code->encode(sources.data(), targets.data(), chunk) == codec::Result::ok);
    }
  }
  uint32_t first(uint32_t block) const { return stride > 1 ? block : block * code->shape().k; }
  uint32_t count(uint32_t block) const {
    return std::min(code->shape().k, (chunks - first(block) + stride - 1) / stride);
  }
  uint32_t chunk_of(uint32_t block, uint32_t i) const { return first(block) + i * stride; }
  BlockChunks at(uint32_t block) const { return {first(block), count(block), parity_first(block), stride}; }
  uint32_t parity_first(uint32_t block) const { return block * code->shape().m; }
  uint32_t parity_chunks() const { return blocks * code->shape().m; }

  const sdr_geometry geometry;
  const std::shared_ptr<const codec::Code> code;
  const uint64_t chunk;
  const uint32_t chunks, blocks, stride;
  const RegionRef data, parity;
};

// An engine with its Receives, and packets delivered by hand.
struct Bench {
  explicit Bench(const sdr_geometry& geometry_is) : geometry(geometry_is) {
    CHECK_EQ(sdr_rx_create(&geometry, &rx), SDR_OK);
    engine = std::make_unique<HostEngine>(rx);
    receives = std::make_unique<Receives>(*engine, geometry);
  }
  ~Bench() {
    receives->close();
    sdr_rx_destroy(rx);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // Posts for `sent`, with `more` bytes than it has, and announces its length.
  void begin(uint32_t message, const Sent& sent, RegionRef to, RegionRef parity, uint64_t more = 0) {
    bool complete = false;
    posted = sent.data->bytes + more;
    CHECK_EQ(receives->post(message, std::move(to), 0, posted, {std::move(parity), 0, sent.parity_chunks()}), SDR_OK);
    CHECK_EQ(receives->set_length(message, sent.data->bytes, &complete), SDR_OK);
    CHECK(!complete);
  }
  // One packet, numbered as the receiver does, from `from`, where it begins at `at`.
  sdr_step deliver(uint32_t message, uint64_t cut, uint32_t packet, const uint8_t* from) {
    const sdr_tx_packet tx = sdr_tx_make(&geometry, message, cut, packet, 0);
    const sdr_completion completion{tx.queue, tx.immediate, tx.bytes};
    sdr_step why;
    void* to = sdr_rx_place(rx, &completion, &why);
    if (why != SDR_STEP_PACKET) return why;
    if (to != nullptr) std::memcpy(to, from, tx.bytes);
    const sdr_step kind = sdr_rx_step(rx, packet % geometry.channels, &completion, nullptr);
    messages += kind == SDR_STEP_MESSAGE;
    return kind;
  }
  // A chunk of the message's own, as far as its `packets` first packets.
  void deliver_data(uint32_t message, const Sent& sent, uint32_t chunk, uint32_t packets = UINT32_MAX) {
    const uint64_t begin = chunk * sent.chunk, end = std::min(begin + sent.chunk, sent.data->bytes);
    for (uint64_t at = begin; at < end && packets > 0; at += geometry.packet_bytes, packets--)
      deliver(message, sent.data->bytes, uint32_t(at / geometry.packet_bytes), sent.data->base + at);
  }
  void deliver_parity(uint32_t message, const Sent& sent, uint32_t chunk, uint32_t packets = UINT32_MAX) {
    const uint32_t first = (sdr_rx_parity_first(&geometry, posted) + chunk) * geometry.packets_per_chunk;
    for (uint32_t p = 0; p < std::min(packets, geometry.packets_per_chunk); p++)
      deliver(message, UINT64_MAX, first + p, sent.parity->base + chunk * sent.chunk + p * geometry.packet_bytes);
  }
  sdr_status recover(uint32_t message, const Sent& sent, uint32_t block, Recovered* recovered) {
    return receives->recover(message, *sent.code, sent.at(block), recovered);
  }
  sdr_rx_progress progress(uint32_t message) const {
    sdr_rx_progress out{};
    CHECK_EQ(sdr_rx_progress_get(rx, message, &out), SDR_OK);
    return out;
  }

  const sdr_geometry geometry;
  sdr_rx* rx = nullptr;
  std::unique_ptr<HostEngine> engine;
  std::unique_ptr<Receives> receives;
  uint64_t posted = 0;
  uint32_t messages = 0;  // reported complete by packets
};

void check_same(const RegionRef& got, const RegionRef& expected) {
  CHECK(std::memcmp(got->base, expected->base, expected->bytes) == 0);
  for (uint64_t at = expected->bytes; at < got->bytes; at++) CHECK_EQ(got->base[at], 0);
}

// A code that tells when it is asked to decode, and goes on when it is told to.
class Gate final : public codec::Code {
 public:
  explicit Gate(std::shared_ptr<const Code> inner) : Code(inner->shape()), inner_(std::move(inner)) {}
  codec::Result encode(const codec::Source* data, uint8_t* const* parity, size_t bytes) const override {
    return inner_->encode(data, parity, bytes);
  }
  codec::Result update(uint32_t index, codec::Source data, uint8_t* const* parity, size_t bytes) const override {
    return inner_->update(index, data, parity, bytes);
  }
  bool is_recoverable(const uint8_t* present) const override { return inner_->is_recoverable(present); }
  codec::Result decode(const codec::Target* data, const uint8_t* const* parity, const uint8_t* present, size_t bytes,
                       uint32_t* used) const override {
    entered.count_down();
    go_on.wait();
    if (fails) throw std::bad_alloc();
    return inner_->decode(data, parity, present, bytes, used);
  }

  mutable std::latch entered{1};
  std::latch go_on{1};
  bool fails = false;

 private:
  const std::shared_ptr<const Code> inner_;
};

}  // namespace

TEST(lost_chunks_are_made_for_every_shape_length_and_loss) {
  std::mt19937_64 random(seed_of());
  uint64_t made = 0, refused = 0;
  for (uint32_t round = 0; round < kRandomRounds; round++) {
    const bool mds = random() % 2 == 0;
    const auto k = uint32_t(1 + random() % 12), m = uint32_t(1 + random() % (mds ? 5 : k));
    const auto per_chunk = uint32_t(1 + random() % 20);
    const auto packet_bytes = uint32_t(64 + random() % 100), channels = uint32_t(1 + random() % 3);
    const sdr_geometry geometry = geometry_of(packet_bytes, per_chunk, channels, 200);
    const uint64_t chunk = uint64_t{geometry.packet_bytes} * per_chunk;
    const Sent sent(geometry, {mds ? codec::Kind::mds : codec::Kind::xor_groups, k, m}, 1 + random() % (30 * chunk),
                    round + 1, random() % 2 == 0);
    const uint64_t more = random() % 2 == 0 ? 0 : random() % (3 * chunk);
    const RegionRef to = fixture::memory(sent.data->bytes + more), parity = fixture::memory(sent.parity->bytes);
    Bench bench(geometry);
    bench.begin(0, sent, to, parity, more);
    for (uint32_t c = 0; c < sent.chunks; c++)
      bench.deliver_data(0, sent, c, random() % 5 == 0 ? uint32_t(random() % per_chunk) : UINT32_MAX);
    for (uint32_t c = 0; c < sent.parity_chunks(); c++)
      bench.deliver_parity(0, sent, c, random() % 8 == 0 ? uint32_t(random() % per_chunk) : UINT32_MAX);
    uint32_t completions = 0;
    for (uint32_t block = 0; block < sent.blocks; block++) {
      const uint32_t before = bench.progress(0).chunks_done;
      Recovered recovered;
      const sdr_status status = bench.recover(0, sent, block, &recovered);
      CHECK_EQ(bench.progress(0).chunks_done, before + recovered.chunks);
      completions += recovered.complete;
      if (status == SDR_BUSY) {
        CHECK_EQ(recovered.chunks, 0u);
        refused++;
        // Nothing was sealed: what was lost may still come.
        for (uint32_t i = 0; i < sent.count(block); i++) bench.deliver_data(0, sent, sent.chunk_of(block, i));
        continue;
      }
      CHECK_EQ(status, SDR_OK);
      CHECK_EQ(recovered.parity_used, recovered.chunks);
      made += recovered.chunks;
      // Packets of made chunks change nothing.
      const uint64_t hash = fixture::hash(to);
      for (uint32_t i = 0; i < sent.count(block); i++) bench.deliver_data(0, sent, sent.chunk_of(block, i));
      CHECK_EQ(fixture::hash(to), hash);
      CHECK_EQ(bench.recover(0, sent, block, &recovered), SDR_OK);
      CHECK_EQ(recovered.chunks, 0u);
    }
    CHECK_EQ(completions + bench.messages, 1u);
    CHECK(bench.progress(0).complete);
    check_same(to, sent.data);
    CHECK_EQ(bench.receives->complete(0), SDR_OK);
  }
  std::printf("  %llu chunks made, %llu blocks refused\n", (unsigned long long)made, (unsigned long long)refused);
  CHECK(made > 0 && refused > 0);
}

TEST(phantom_receives_recover_as_if_they_had_bytes) {
  const sdr_geometry geometry = geometry_of(64, 4, 1, 40);
  const Sent sent(geometry, {codec::Kind::mds, 8, 2}, 14 * 256 - 3, 1);
  Bench bench(geometry);
  bench.begin(0, sent, nullptr, nullptr);
  for (uint32_t c = 2; c < 14; c++) bench.deliver_data(0, sent, c);
  Recovered recovered;
  CHECK_EQ(bench.recover(0, sent, 0, &recovered), SDR_BUSY);
  bench.deliver_parity(0, sent, 0);
  CHECK_EQ(bench.recover(0, sent, 0, &recovered), SDR_BUSY);
  bench.deliver_parity(0, sent, 1);
  CHECK_EQ(bench.recover(0, sent, 0, &recovered), SDR_OK);
  CHECK_EQ(recovered.chunks, 2u);
  CHECK_EQ(recovered.parity_used, 2u);
  CHECK(recovered.complete);
}

TEST(wrong_arguments_are_refused) {
  const sdr_geometry geometry = geometry_of(64, 4, 1, 40);
  const auto code = codec::Code::of({codec::Kind::mds, 8, 2});
  Bench bench(geometry);
  Receives& receives = *bench.receives;
  const RegionRef region = fixture::memory(40 * 256), phantom(new Region{nullptr, 40 * 256});
  const RegionRef inside(new Region{region->base + 10 * 256, 256});
  // Memory: within its region, apart from the message's, and there when the message's is.
  CHECK_EQ(receives.post(0, region, 0, 10 * 256, {region, 10 * 256, 31}), SDR_INVALID);
  CHECK_EQ(receives.post(0, region, 0, 10 * 256, {region, 10 * 256 - 1, 2}), SDR_INVALID);
  CHECK_EQ(receives.post(0, region, 11 * 256 - 1, 10 * 256, {inside, 0, 1}), SDR_INVALID);
  CHECK_EQ(receives.post(0, region, 0, 10 * 256, {region, UINT64_MAX, 1}), SDR_INVALID);
  CHECK_EQ(receives.post(0, region, 0, 10 * 256, {region, 10 * 256, UINT32_MAX}), SDR_INVALID);
  CHECK_EQ(receives.post(0, region, 0, 10 * 256, {phantom, 0, 1}), SDR_INVALID);
  CHECK_EQ(receives.post(0, region, 0, 10 * 256, {nullptr, 0, 1}), SDR_INVALID);
  CHECK_EQ(receives.post(0, phantom, 0, 10 * 256, {phantom, 0, 41}), SDR_INVALID);
  CHECK_EQ(receives.post(0, region, 0, 39 * 256, {region, 39 * 256, 1}), SDR_OK);

  Recovered recovered;
  bool complete = false;
  CHECK_EQ(receives.recover(0, *code, {0, 8, 0}, &recovered), SDR_INVALID);  // no length yet
  CHECK_EQ(receives.complete(0), SDR_OK);
  CHECK_EQ(receives.recover(0, *code, {0, 8, 0}, &recovered), SDR_CLOSED);
  CHECK_EQ(receives.complete(0), SDR_CLOSED);
  CHECK_EQ(receives.post(1, region, 0, 20 * 256, {region, 20 * 256, 4}), SDR_OK);
  CHECK_EQ(receives.set_length(1, 9 * 256 + 1, &complete), SDR_OK);
  CHECK_EQ(receives.recover(1, *code, {0, 0, 0}, &recovered), SDR_INVALID);
  CHECK_EQ(receives.recover(1, *code, {0, 9, 0}, &recovered), SDR_INVALID);
  CHECK_EQ(receives.recover(1, *code, {3, 8, 0}, &recovered), SDR_INVALID);
  CHECK_EQ(receives.recover(1, *code, {UINT32_MAX, 8, 0}, &recovered), SDR_INVALID);
  CHECK_EQ(receives.recover(1, *code, {0, 8, 3}, &recovered), SDR_INVALID);
  CHECK_EQ(receives.recover(1, *code, {0, 8, 0, 0}, &recovered), SDR_INVALID);
  CHECK_EQ(receives.recover(1, *code, {0, 8, 0, 2}, &recovered), SDR_INVALID);  // its last chunk is beyond the message
  CHECK_EQ(receives.recover(1, *code, {0, 8, 0, UINT32_MAX}, &recovered), SDR_INVALID);
  CHECK_EQ(receives.recover(1, *code, {0, 8, UINT32_MAX}, &recovered), SDR_INVALID);
  CHECK_EQ(receives.recover(1, *code, {2, 8, 2}, &recovered), SDR_BUSY);  // right, but nothing is there
  CHECK_EQ(receives.recover(0, *code, {0, 8, 0}, &recovered), SDR_CLOSED);
  CHECK_EQ(receives.recover(3, *code, {0, 8, 0}, &recovered), SDR_CLOSED);
  CHECK_EQ(receives.post(2, region, 0, 256, {}), SDR_OK);
  CHECK_EQ(receives.set_length(2, 256, &complete), SDR_OK);
  CHECK_EQ(receives.recover(2, *code, {0, 1, 0}, &recovered), SDR_INVALID);  // without parity
  receives.close();
  CHECK_EQ(receives.recover(1, *code, {2, 8, 2}, &recovered), SDR_CLOSED);
}

namespace {

// A message of which the first chunk is missing and can be made.
struct Recoverable {
  const sdr_geometry geometry = geometry_of(64, 4, 1, 40);
  const Sent sent{geometry, {codec::Kind::mds, 4, 1}, 8 * 256, 7};
  RegionRef to = fixture::memory(8 * 256), parity = fixture::memory(2 * 256);
  Bench bench{geometry};
  Gate gate{sent.code};

  Recoverable() {
    bench.begin(0, sent, to, parity);
    for (uint32_t c = 1; c < 8; c++) bench.deliver_data(0, sent, c);
    bench.deliver_parity(0, sent, 0);
  }
};

}  // namespace

TEST(completion_and_closing_wait_for_a_recovery_under_way_and_refuse_later_ones) {
  for (const bool close : {false, true}) {
    Recoverable it;
    Recovered recovered, other;
    auto recovery = std::async(std::launch::async, [&] {
      return it.bench.receives->recover(0, it.gate, {0, 4, 0}, &recovered);
    });
    it.gate.entered.wait();
    CHECK_EQ(it.bench.receives->recover(0, *it.sent.code, {3, 2, 1}, &other), SDR_BUSY);  // chunk 3 is in hand
    CHECK_EQ(it.bench.receives->recover(0, *it.sent.code, {4, 4, 1}, &other), SDR_OK);
    const std::weak_ptr<const Region> held = it.to;
    RegionRef to = std::move(it.to);
    std::atomic<bool> ended{false};
    auto control = std::async(std::launch::async, [&] {
      if (close) it.bench.receives->close();
      else CHECK_EQ(it.bench.receives->complete(0), SDR_OK);
      CHECK(ended.load());
    });
    // Refused as soon as the other thread waits; until then the block is whole or in hand.
    sdr_status status = SDR_BUSY;
    while (status != SDR_CLOSED) {
      status = it.bench.receives->recover(0, *it.sent.code, {0, 4, 0}, &other);
      CHECK(status == SDR_BUSY || status == SDR_CLOSED);
    }
    ended = true;
    it.gate.go_on.count_down();
    control.get();
    CHECK_EQ(recovery.get(), SDR_OK);
    CHECK_EQ(recovered.chunks, 1u);
    CHECK(recovered.complete);
    check_same(to, it.sent.data);
    to.reset();
    CHECK(held.expired());
  }
}

TEST(a_recovery_that_fails_can_be_tried_again) {
  Recoverable it;
  it.gate.fails = true;
  it.gate.go_on.count_down();
  Recovered recovered;
  bool thrown = false;
  try {
    it.bench.receives->recover(0, it.gate, {0, 4, 0}, &recovered);
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  CHECK(thrown);
  CHECK(!it.bench.progress(0).complete);
  CHECK_EQ(it.bench.recover(0, it.sent, 0, &recovered), SDR_OK);
  CHECK(recovered.complete);
  check_same(it.to, it.sent.data);
  CHECK_EQ(it.bench.receives->complete(0), SDR_OK);
}

TEST(recoveries_packets_and_completion_at_once) {
  std::mt19937_64 random(seed_of());
  const sdr_geometry geometry = geometry_of(64, 5, 1, 60);
  const Sent sent(geometry, {codec::Kind::mds, 6, 3}, 29 * 320 + 100, 3);
  uint64_t made = 0, cut_short = 0;
  for (uint32_t round = 0; round < kContestRounds; round++) {
    Bench bench(geometry);
    RegionRef to = fixture::memory(sent.data->bytes), parity = fixture::memory(sent.parity->bytes);
    bench.begin(0, sent, to, parity);
    const bool early = random() % 2 == 0;  // completed whatever is missing
    const uint64_t seed = random();
    std::atomic<bool> stop{false};
    std::atomic<uint32_t> reports{0}, made_now{0};
    // One worker: parity first, then data in any order, for ever.
    std::thread worker([&] {
      std::mt19937_64 order(seed);
      while (!stop) {
        sdr_rx_enter(bench.rx, 0);
        const auto parity_packet = uint32_t(order() % (sent.parity_chunks() * 5));
        bench.deliver(0, UINT64_MAX, sent.chunks * 5 + parity_packet, sent.parity->base + parity_packet * 64);
        const auto packet = uint32_t(order() % ((sent.data->bytes + 63) / 64));
        const uint8_t* from = sent.data->base + packet * 64;
        reports += bench.deliver(0, sent.data->bytes, packet, from) == SDR_STEP_MESSAGE;
        sdr_rx_leave(bench.rx, 0);
        if (order() % 8 == 0) std::this_thread::yield();
      }
    });
    std::vector<std::thread> makers;
    for (uint32_t maker = 0; maker < 3; maker++) {
      makers.emplace_back([&, maker] {
        for (uint32_t turn = maker;; turn++) {
          Recovered recovered;
          const sdr_status status = bench.recover(0, sent, turn % sent.blocks, &recovered);
          if (status == SDR_CLOSED) return;
          CHECK(status == SDR_OK || status == SDR_BUSY);
          made_now += recovered.chunks;
          reports += recovered.complete;
          std::this_thread::yield();
        }
      });
    }
    const uint32_t wanted = early ? uint32_t(random() % sent.chunks) : sent.chunks;
    while (bench.progress(0).chunks_done < wanted) std::this_thread::yield();
    if (!early) {
      while (reports == 0) std::this_thread::yield();  // told after it is counted
    }
    CHECK_EQ(bench.receives->complete(0), SDR_OK);
    const uint64_t hash = fixture::hash(to);
    for (std::thread& maker : makers) maker.join();
    stop = true;
    worker.join();
    CHECK_EQ(fixture::hash(to), hash);
    CHECK_EQ(to.use_count(), 1);
    CHECK_EQ(parity.use_count(), 1);
    CHECK(reports <= 1);
    if (!early) check_same(to, sent.data);
    made += made_now;
    cut_short += early;
  }
  std::printf("  %llu chunks made, %llu rounds cut short\n", (unsigned long long)made, (unsigned long long)cut_short);
  CHECK(made > 0 && cut_short > 0);
}

// ---- through the emulated transport ----

TEST(emulated_messages_are_recovered_from_parity_that_was_sent) {
  for (const auto kind : {codec::Kind::mds, codec::Kind::xor_groups}) {
    fixture::Settings settings;
    settings.rate_bps = 4e9;
    fixture::Pair pair(settings);  // chunks of four 1000-byte packets
    const Sent sent(settings.geometry, {kind, 8, 4}, 19 * 4000 + 1234, 5);
    const RegionRef to = fixture::memory(22 * 4000), parity = fixture::memory(sent.parity->bytes);
    bool complete = false;
    CHECK_EQ(pair.b->post_receive(0, to, 0, to->bytes, {parity, 0, sent.parity_chunks()}), SDR_OK);
    CHECK_EQ(pair.b->set_length(0, sent.data->bytes, &complete), SDR_OK);
    CHECK_EQ(pair.a->open_send(0, sent.data->bytes, 0), SDR_OK);
    uint32_t request = 0;
    const auto is_lost = [](uint32_t chunk) { return chunk == 0 || chunk == 3 || chunk == 9 || chunk == 19; };
    const auto post = [&](uint32_t chunk) {
      const uint64_t at = chunk * sent.chunk, bytes = std::min(sent.chunk, sent.data->bytes - at);
      CHECK_EQ(pair.a->post_send(0, request++, sent.data, at, chunk, bytes), SDR_OK);
    };
    for (uint32_t chunk = 0; chunk < sent.chunks; chunk++)
      if (!is_lost(chunk)) post(chunk);
    CHECK_EQ(pair.a->post_send(0, request++, sent.parity, 0, 22, sent.parity->bytes), SDR_OK);
    pair.run();
    CHECK_EQ(pair.of(fixture::kInjected).size(), size_t{request});
    CHECK(!pair.is_complete(0));
    uint32_t made = 0, completions = 0;
    for (uint32_t block = 0; block < sent.blocks; block++) {
      Recovered recovered;
      CHECK_EQ(pair.b->recover(0, *sent.code, {sent.first(block), sent.count(block), sent.parity_first(block)},
                               &recovered),
               SDR_OK);
      made += recovered.chunks;
      completions += recovered.complete;
    }
    CHECK_EQ(made, 4u);
    CHECK_EQ(completions, 1u);
    CHECK(pair.is_complete(0));
    check_same(to, sent.data);
    // What comes late, and from another source, changes nothing, and nobody reports completion again.
    const RegionRef wrong = fixture::memory(sent.data->bytes, 99);
    for (uint32_t chunk = 0; chunk < sent.chunks; chunk++) {
      const uint64_t at = chunk * sent.chunk, bytes = std::min(sent.chunk, sent.data->bytes - at);
      CHECK_EQ(pair.a->post_send(0, request++, wrong, at, chunk, bytes), SDR_OK);
    }
    pair.run();
    check_same(to, sent.data);
    for (const Event& event : pair.of(fixture::kProgress)) CHECK_EQ(event.value, 0u);
    CHECK_EQ(pair.b->complete(0), SDR_OK);
    CHECK_EQ(to.use_count(), 1);
    CHECK_EQ(parity.use_count(), 1);
    Recovered recovered;
    CHECK_EQ(pair.b->recover(0, *sent.code, {0, 8, 0}, &recovered), SDR_CLOSED);
  }
}

TEST(emulated_parity_is_sent_in_whole_chunks_that_can_be_numbered) {
  fixture::Settings settings;
  fixture::Pair pair(settings);
  const RegionRef from = fixture::memory(8 * 4000);
  CHECK_EQ(pair.a->open_send(0, 4001, 0), SDR_OK);
  CHECK_EQ(pair.a->post_send(0, 0, from, 0, 2, 4001), SDR_INVALID);
  CHECK_EQ(pair.a->post_send(0, 0, from, 0, 1, 8000), SDR_INVALID);  // from the last chunk on into parity
  CHECK_EQ(pair.a->post_send(0, 0, from, 0, 65535, 8000), SDR_INVALID);  // 2^18 packets
  CHECK_EQ(pair.a->post_send(0, 0, from, 0, 65536, 4000), SDR_INVALID);
  CHECK_EQ(pair.a->post_send(0, 0, from, 0, UINT32_MAX, 4000), SDR_INVALID);
  CHECK_EQ(pair.a->post_send(0, 0, from, 8 * 4000 - 3999, 2, 4000), SDR_INVALID);
  CHECK_EQ(pair.a->post_send(0, 0, from, 0, 65535, 4000), SDR_OK);
  CHECK_EQ(pair.a->post_send(0, 1, from, 0, 2, 8 * 4000), SDR_OK);
  pair.run();
  // Every packet is full, and none of them is anything that the receiver posted for.
  CHECK_EQ(pair.a->counters().bytes_sent, uint64_t{9 * 4000});
}
