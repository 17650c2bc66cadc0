// Parity over UDP between two contexts of one process: lost chunks are made from it, whatever arrives meanwhile.
#include "udp_pair.h"

#include <atomic>
#include <thread>

using namespace sdr;
using namespace sdr::test;

namespace {

constexpr uint32_t kRounds = 20;

// A message of several blocks, and its parity.
struct Coded {
  Coded(const Pair& pair, const codec::Shape& shape, size_t bytes, uint32_t seed)
      : code(codec::Code::of(shape)),
        chunk(pair.chunk_bytes()),
        chunks(sdr_rx_parity_first(&pair.a.qp->geometry(), bytes)),
        blocks((chunks + shape.k - 1) / shape.k),
        data(bytes, seed),
        parity(size_t{blocks} * shape.m * chunk) {
    for (uint32_t block = 0; block < blocks; block++) {
      std::vector<codec::Source> sources(shape.k);
      for (uint32_t i = 0; i < count(block); i++) sources[i] = {data.region->base + start(first(block) + i),
                                                                size(first(block) + i)};
      std::vector<uint8_t*> targets(shape.m);
      for (uint32_t i = 0; i < shape.m; i++) targets[i] = parity.region->base + (block * shape.m + i) * chunk;
      CHECK(code->encode(sources.data(), targets.data(), chunk) == codec::Result::ok);
    }
  }
  uint64_t start(uint32_t c) const { return c * chunk; }
  uint64_t size(uint32_t c) const { return std::min<uint64_t>(chunk, data.size - start(c)); }
  uint32_t first(uint32_t block) const { return block * code->shape().k; }
  uint32_t count(uint32_t block) const { return std::min(code->shape().k, chunks - first(block)); }
  uint32_t parity_chunks() const { return blocks * code->shape().m; }

  const std::shared_ptr<const codec::Code> code;
  const uint64_t chunk;
  const uint32_t chunks, blocks;
  const Memory data, parity;
};

void begin(Pair& pair, uint32_t message, const Coded& coded, const Memory& to, const Memory& parity) {
  bool complete = false;
  CHECK_EQ(pair.b.qp->post_receive(message, to.region, 0, to.size, {parity.region, 0, coded.parity_chunks()}), SDR_OK);
  CHECK_EQ(pair.b.qp->set_length(message, coded.data.size, &complete), SDR_OK);
  CHECK_EQ(pair.a.qp->open_send(message, coded.data.size, 0), SDR_OK);
}

sdr_status recover(Pair& pair, uint32_t message, const Coded& coded, uint32_t block, Recovered* recovered) {
  return pair.b.qp->recover(message, *coded.code,
                            {coded.first(block), coded.count(block), block * coded.code->shape().m}, recovered);
}

uint64_t steps(const Pair& pair) {
  uint64_t sum = 0;
  for (const uint64_t count : pair.b.qp->counters().steps) sum += count;
  return sum;
}

}  // namespace

TEST(lost_chunks_are_made_from_parity_that_came_over_the_wire) {
  for (const uint32_t channels : {1u, 3u}) {
    for (const auto kind : {codec::Kind::mds, codec::Kind::xor_groups}) {
      Setup setup;
      setup.channels = channels;
      setup.packets_per_chunk = 2;
      Pair pair(setup);
      const Coded coded(pair, {kind, 4, 2}, 9 * 2800 + 1500, 11);
      const Memory to(coded.data.size), parity(coded.parity.size), wrong(coded.data.size, 12);
      begin(pair, 0, coded, to, parity);
      uint32_t request = 0;
      const auto post = [&](const Memory& from, uint32_t c) {
        CHECK_EQ(pair.a.qp->post_send(0, request++, from.region, coded.start(c), c, coded.size(c)), SDR_OK);
      };
      const auto is_lost = [](uint32_t c) { return c == 1 || c == 2 || c == 4 || c == 9; };
      for (uint32_t c = 0; c < coded.chunks; c++)
        if (!is_lost(c)) post(coded.data, c);
      const uint32_t first = coded.chunks;
      CHECK_EQ(pair.a.qp->post_send(0, request++, coded.parity.region, 0, first, coded.parity.size), SDR_OK);
      const uint64_t packets = 6 * 2 + coded.parity_chunks() * 2;
      CHECK(packets <= kDatagramsSafe);
      pair.wait("the packets", [&] { return steps(pair) == packets; });
      CHECK_EQ(pair.a.qp->counters().bytes_sent, 6 * coded.chunk + coded.parity.size);
      uint32_t made = 0, completions = 0;
      for (uint32_t block = 0; block < coded.blocks; block++) {
        Recovered recovered;
        CHECK_EQ(recover(pair, 0, coded, block, &recovered), SDR_OK);
        CHECK_EQ(recovered.parity_used, recovered.chunks);
        made += recovered.chunks;
        completions += recovered.complete;
      }
      CHECK_EQ(made, 4u);
      CHECK_EQ(completions, 1u);
      CHECK_EQ(to.hash(), coded.data.hash());
      // Late packets, with other bytes, change nothing; nobody reports completion again.
      for (uint32_t c = 0; c < coded.chunks; c++) post(wrong, c);
      pair.wait("late packets", [&] { return steps(pair) == packets + 2 * coded.chunks; });
      CHECK_EQ(pair.b.qp->counters().steps[SDR_STEP_DUPLICATE], uint64_t{2 * coded.chunks});
      CHECK_EQ(to.hash(), coded.data.hash());
      pair.b.drain();
      CHECK(!pair.b.is_complete(0));
      CHECK_EQ(pair.b.qp->complete(0), SDR_OK);
      Recovered recovered;
      CHECK_EQ(recover(pair, 0, coded, 0, &recovered), SDR_CLOSED);
    }
  }
}

TEST(recovery_goes_on_while_packets_arrive_and_until_completion_or_closing) {
  uint64_t made_ever = 0;
  for (uint32_t round = 0; round < kRounds; round++) {
    Setup setup;
    setup.channels = 1 + round % 2;
    setup.packets_per_chunk = 3;
    setup.link.loss = LossModel::bernoulli;
    setup.link.loss_probability = 0.1;
    setup.link.delay_ns = 200'000;
    setup.rate_bps = 2e9;
    Pair pair(setup);
    const Coded coded(pair, {codec::Kind::mds, 8, 4}, 39 * 4200 + 17, 20 + round);
    Memory to(coded.data.size), parity(coded.parity.size);
    begin(pair, 0, coded, to, parity);
    CHECK_EQ(pair.a.qp->post_send(0, 0, coded.data.region, 0, 0, coded.data.size), SDR_OK);
    CHECK_EQ(pair.a.qp->post_send(0, 1, coded.parity.region, 0, coded.chunks, coded.parity.size), SDR_OK);
    CHECK_EQ(pair.a.qp->post_send(0, 2, coded.data.region, 0, 0, coded.data.size), SDR_OK);
    std::atomic<uint32_t> completions{0}, made{0};
    std::vector<std::thread> makers;
    for (uint32_t maker = 0; maker < 2; maker++) {
      makers.emplace_back([&, maker] {
        for (uint32_t turn = maker;; turn++) {
          Recovered recovered;
          const sdr_status status = recover(pair, 0, coded, turn % coded.blocks, &recovered);
          if (status == SDR_CLOSED) return;
          CHECK(status == SDR_OK || status == SDR_BUSY);
          made += recovered.chunks;
          completions += recovered.complete;
          std::this_thread::yield();
        }
      });
    }
    // Every third one is ended while it is under way; the others are made whole, with another copy if need be.
    const auto done = [&] {
      sdr_rx_progress progress{};
      CHECK_EQ(pair.b.qp->engine().progress(0, &progress), SDR_OK);
      return progress.chunks_done;
    };
    if (round % 3 == 0) {
      pair.wait("a part", [&] { return done() > coded.chunks / 2; });
    } else {
      uint32_t request = 3;
      pair.wait("the whole", [&] {
        if (pair.a.count(EventType::injected, 0) == request)
          CHECK_EQ(pair.a.qp->post_send(0, request++, coded.data.region, 0, 0, coded.data.size), SDR_OK);
        return done() == coded.chunks;
      });
      // Told once, by a packet's event or by a recovery's result.
      pair.wait("the report", [&] { return completions + pair.b.is_complete(0) == 1; });
    }
    if (round % 2 == 0) CHECK_EQ(pair.b.qp->complete(0), SDR_OK);
    else pair.b.qp->close();
    const uint64_t hash = to.hash();
    for (std::thread& maker : makers) maker.join();
    CHECK_EQ(to.hash(), hash);
    if (round % 3 != 0) CHECK_EQ(hash, coded.data.hash());
    pair.b.drain();
    CHECK(completions + pair.b.is_complete(0) <= 1);
    made_ever += made;
    to.region.reset();
    parity.region.reset();
    CHECK(to.released->load() && parity.released->load());
  }
  std::printf("  %llu chunks made\n", (unsigned long long)made_ever);
  CHECK(made_ever > 0);
}
