// The packet engine under several workers: exactly-once bits and reports, lengths that become known
// while packets arrive, completion and sealing while workers go on. Meant for the thread sanitizer
// as well.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "check.h"
#include "sdr/engine.h"

namespace {

constexpr uint32_t kWorkers = 4;
constexpr uint32_t kRounds = 150;
constexpr uint32_t kSealingRounds = 60;
constexpr auto kPatience = std::chrono::seconds(60);

uint64_t seed_of() {
  const char* text = std::getenv("SDR_SEED");
  const uint64_t seed = text ? std::strtoull(text, nullptr, 10) : 1;
  std::printf("  SDR_SEED=%llu\n", (unsigned long long)seed);
  return seed;
}

// Gives the processor away until `holds`; fails after a generous while.
template <class Condition>
void wait_until(Condition holds) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!holds()) {
    CHECK(std::chrono::steady_clock::now() < deadline);
    std::this_thread::yield();
  }
}

sdr_geometry geometry_of(uint32_t packets_per_chunk, uint32_t channels, uint64_t max_bytes) {
  sdr_geometry geometry{};
  geometry.packet_bytes = 64;
  geometry.packets_per_chunk = packets_per_chunk;
  geometry.slots = 2;
  geometry.generations = 4;
  geometry.channels = channels;
  geometry.max_message_bytes = max_bytes;
  geometry.split = {10, 18, 4};
  return geometry;
}

struct Tally {
  uint64_t kinds[SDR_STEP_KINDS] = {};
};

// One message that all workers step at once, while the main thread announces its length.
struct Contest {
  uint32_t packets_per_chunk;
  uint32_t workers;
  bool beyond;  // the sender wrote all that was posted, more than it announces
};

// The receive side and the workers of a contest; `turn` opens and closes each round.
struct Ring {
  Ring(const Contest& contest, uint64_t seed_value)
      : setting(contest),
        seed(seed_value),
        packets(contest.packets_per_chunk * 5 + contest.packets_per_chunk / 2 + 3),
        posted(64 * uint64_t{packets}),
        geometry(geometry_of(contest.packets_per_chunk, contest.workers, posted)),
        turn(contest.workers + 1),
        tallies(contest.workers) {
    CHECK_EQ(sdr_rx_create(&geometry, &rx), SDR_OK);
  }
  ~Ring() { sdr_rx_destroy(rx); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  sdr_step step(uint32_t worker, uint64_t bytes, uint32_t packet) {
    const sdr_tx_packet made = sdr_tx_make(&geometry, message, bytes, packet, 0x12345678);
    const sdr_completion completion{made.queue, made.immediate, made.bytes};
    return sdr_rx_step(rx, worker, &completion, nullptr);
  }

  const Contest setting;
  const uint64_t seed;
  const uint32_t packets;
  const uint64_t posted;
  const sdr_geometry geometry;
  sdr_rx* rx = nullptr;
  std::barrier<> turn;
  std::vector<Tally> tallies;
  // Of the round: written before it opens.
  uint32_t message = 0;
  uint64_t length = 0, sent_bytes = 0;
  std::atomic<uint64_t> stepped{0};
};

// Every worker steps every packet once, in an order of its own: each is new once, else a duplicate.
void compete(Ring& ring, uint32_t worker) {
  std::mt19937_64 random(ring.seed * 64 + worker);
  for (uint32_t round = 0; round < kRounds; round++) {
    ring.turn.arrive_and_wait();
    const uint64_t bytes = ring.sent_bytes;
    std::vector<uint32_t> order((bytes + 63) / 64);
    for (uint32_t index = 0; index < order.size(); index++) order[index] = index;
    std::shuffle(order.begin(), order.end(), random);
    Tally tally;
    for (size_t first = 0; first < order.size(); first += 8) {
      const size_t end = std::min(first + 8, order.size());
      sdr_rx_enter(ring.rx, worker);
      for (size_t at = first; at < end; at++) tally.kinds[ring.step(worker, bytes, order[at])]++;
      sdr_rx_leave(ring.rx, worker);
      ring.stepped += end - first;
    }
    ring.tallies[worker] = tally;
    ring.turn.arrive_and_wait();
  }
}

// After a round: what all saw together, and what is left standing.
void judge(Ring& ring, bool complete) {
  const Contest& setting = ring.setting;
  Tally sum;
  for (const Tally& tally : ring.tallies) {
    for (int kind = 0; kind < SDR_STEP_KINDS; kind++) sum.kinds[kind] += tally.kinds[kind];
  }
  const uint32_t true_packets = uint32_t((ring.length + 63) / 64);
  const uint32_t chunks =
      (true_packets + setting.packets_per_chunk - 1) / setting.packets_per_chunk;
  if (setting.beyond) {
    // The whole packet that was sent for the truly last, short one may have been refused: sent
    // again, as by a sender who saw no acknowledgement.
    for (uint32_t packet = 0; packet < true_packets; packet++) {
      sum.kinds[ring.step(0, ring.length, packet)]++;
    }
  } else {
    CHECK_EQ(sum.kinds[0] + sum.kinds[1] + sum.kinds[2], uint64_t{true_packets});
    CHECK_EQ(sum.kinds[SDR_STEP_DUPLICATE], uint64_t{true_packets} * (setting.workers - 1));
    // The last chunk may be set_length's; every other one is a worker's, once.
    const uint64_t by_workers = sum.kinds[SDR_STEP_CHUNK] + sum.kinds[SDR_STEP_MESSAGE];
    CHECK(by_workers == chunks || by_workers + 1 == chunks);
  }
  CHECK_EQ(sum.kinds[SDR_STEP_MESSAGE] + complete, uint64_t{1});
  sdr_rx_progress progress;
  CHECK_EQ(sdr_rx_progress_get(ring.rx, ring.message, &progress), SDR_OK);
  CHECK(progress.complete && progress.length_known);
  CHECK_EQ(progress.chunks_done, chunks);
  CHECK_EQ(progress.chunks_total, chunks);
}

void contest(const Contest& setting, uint64_t seed) {
  Ring ring(setting, seed);
  std::mt19937_64 random(seed);
  std::vector<std::thread> threads;
  for (uint32_t worker = 0; worker < setting.workers; worker++) {
    threads.emplace_back([&ring, worker] { compete(ring, worker); });
  }
  for (uint32_t round = 0; round < kRounds; round++) {
    ring.length = 1 + random() % ring.posted;
    ring.sent_bytes = setting.beyond ? ring.posted : ring.length;
    ring.message = round;
    ring.stepped = 0;
    CHECK_EQ(sdr_rx_post(ring.rx, round, nullptr, ring.posted), SDR_OK);
    const uint64_t announce_at = random() % ((ring.sent_bytes + 63) / 64 * setting.workers + 1);
    ring.turn.arrive_and_wait();
    wait_until([&] { return ring.stepped >= announce_at; });
    bool complete = false;
    CHECK_EQ(sdr_rx_set_length(ring.rx, round, ring.length, &complete), SDR_OK);
    ring.turn.arrive_and_wait();
    judge(ring, complete);
    CHECK_EQ(sdr_rx_complete(ring.rx, round), SDR_OK);
  }
  for (std::thread& thread : threads) thread.join();
}

uint8_t byte_of(uint32_t message, uint64_t offset) {
  return uint8_t(offset * 31 + offset / 64 * 7 + message + 1);
}

uint64_t hash_of(const uint8_t* bytes, size_t count) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t index = 0; index < count; index++) hash = (hash ^ bytes[index]) * 0x100000001b3u;
  return hash;
}

// Workers that place, write and step the packets of their channel for ever: of the message posted
// now, and of the one before, whose packets are late.
class Stream {
 public:
  Stream(const sdr_geometry& geometry, uint64_t bytes) : geometry_(geometry), bytes_(bytes) {
    CHECK_EQ(sdr_rx_create(&geometry_, &rx_), SDR_OK);
    for (uint32_t worker = 0; worker < geometry.channels; worker++) {
      threads_.emplace_back([this, worker] { work(worker); });
    }
  }
  ~Stream() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    sdr_rx_destroy(rx_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  sdr_rx* rx() { return rx_; }
  void set_current(uint32_t message) { current_ = message; }
  // Until every worker has begun and ended several batches.
  void wait_for_batches() {
    std::vector<uint64_t> seen;
    for (const auto& one : batches_) seen.push_back(one);
    for (uint32_t worker = 0; worker < geometry_.channels; worker++) {
      wait_until([&] { return batches_[worker] >= seen[worker] + 6; });
    }
  }

 private:
  void work(uint32_t worker) {
    std::mt19937_64 random(worker + 1);
    const uint32_t packets = uint32_t(bytes_ + 63) / 64;
    while (!stop_) {
      sdr_rx_enter(rx_, worker);
      const uint32_t now = current_;
      for (int count = 0; count < 16; count++) {
        const uint32_t message = now > 0 && random() % 4 == 0 ? now - 1 : now;
        const uint32_t packet =
            uint32_t(random() % packets) / geometry_.channels * geometry_.channels + worker;
        if (packet < packets) deliver(worker, message, packet);
      }
      sdr_rx_leave(rx_, worker);
      batches_[worker]++;
      if (random() % 8 == 0) std::this_thread::yield();
    }
  }
  void deliver(uint32_t worker, uint32_t message, uint32_t packet) {
    const sdr_tx_packet made = sdr_tx_make(&geometry_, message, bytes_, packet, 0xabcdef01);
    const sdr_completion completion{made.queue, made.immediate, made.bytes};
    sdr_step why;
    auto* to = static_cast<uint8_t*>(sdr_rx_place(rx_, &completion, &why));
    // Refused now must not be stepped: the slot may be posted in between, and the bytes are not there.
    if (to == nullptr) return sdr_rx_refuse(rx_, worker, why);
    for (uint32_t at = 0; at < made.bytes; at++)
      to[at] = byte_of(message, uint64_t{packet} * 64 + at);
    sdr_rx_step(rx_, worker, &completion, nullptr);
  }

  sdr_geometry geometry_;
  uint64_t bytes_;
  sdr_rx* rx_ = nullptr;
  std::atomic<bool> stop_{false};
  std::atomic<uint32_t> current_{0};
  std::atomic<uint64_t> batches_[kWorkers] = {};
  std::vector<std::thread> threads_;
};

// Waits until `chunks_wanted` chunk bits are set, checking each chunk's bytes as soon as its bit is
// seen.
void watch(Stream& stream, uint32_t message, const std::vector<uint8_t>& buffer,
           uint32_t chunk_bytes, uint32_t chunks_wanted) {
  const sdr_bitmap_slab slab = sdr_rx_bitmaps(stream.rx());
  auto* words = reinterpret_cast<uint32_t*>(slab.base + message % 2 * slab.stride);
  const uint32_t chunks = uint32_t((buffer.size() + chunk_bytes - 1) / chunk_bytes);
  std::vector<bool> seen(chunks);
  uint32_t count = 0;
  wait_until([&] {
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
      if (seen[chunk] ||
          (__atomic_load_n(words + chunk / 32, __ATOMIC_ACQUIRE) >> (chunk % 32) & 1) == 0)
        continue;
      seen[chunk] = true;
      count++;
      const size_t end = std::min<size_t>(buffer.size(), size_t{chunk + 1} * chunk_bytes);
      for (size_t at = size_t{chunk} * chunk_bytes; at < end; at++)
        CHECK_EQ(buffer[at], byte_of(message, at));
    }
    return count >= chunks_wanted;
  });
}

void complete_while_workers_go_on(uint32_t packets_per_chunk, uint32_t workers, uint64_t seed) {
  const uint32_t chunk_bytes = 64 * packets_per_chunk;
  const uint64_t bytes = uint64_t{chunk_bytes} * 9 + 100;
  const uint32_t chunks = uint32_t((bytes + chunk_bytes - 1) / chunk_bytes);
  std::mt19937_64 random(seed);
  // Each message's own buffer, freed while workers still send late packets: a write after complete
  // is a use after free as well.
  std::vector<uint8_t> buffer(bytes);
  const sdr_geometry geometry = geometry_of(packets_per_chunk, workers, bytes);
  Stream stream(geometry, bytes);
  for (uint32_t message = 0; message < kRounds; message++) {
    buffer = std::vector<uint8_t>(bytes);
    CHECK_EQ(sdr_rx_post(stream.rx(), message, buffer.data(), bytes), SDR_OK);
    stream.set_current(message);
    const bool announce = random() % 2 == 0;
    bool complete = false;
    if (announce) CHECK_EQ(sdr_rx_set_length(stream.rx(), message, bytes, &complete), SDR_OK);
    const uint32_t wanted = uint32_t(random() % (chunks + 1));  // mostly early
    watch(stream, message, buffer, chunk_bytes, wanted);
    CHECK_EQ(sdr_rx_complete(stream.rx(), message), SDR_OK);

    const sdr_bitmap_slab slab = sdr_rx_bitmaps(stream.rx());
    const uint8_t* bits = slab.base + message % 2 * slab.stride;
    const uint64_t buffer_hash = hash_of(buffer.data(), buffer.size()),
                   bits_hash = hash_of(bits, slab.stride);
    uint64_t before[SDR_STEP_KINDS], after[SDR_STEP_KINDS];
    sdr_rx_counters(stream.rx(), before);
    if (message % 4 == 0) stream.wait_for_batches();
    sdr_rx_counters(stream.rx(), after);
    CHECK_EQ(hash_of(buffer.data(), buffer.size()), buffer_hash);
    CHECK_EQ(hash_of(bits, slab.stride), bits_hash);
    for (int kind = 0; kind < SDR_STEP_KINDS; kind++)
      CHECK(kind == SDR_STEP_LATE || after[kind] == before[kind]);
    if (message % 4 == 0) CHECK(after[SDR_STEP_LATE] > before[SDR_STEP_LATE]);
  }
}

// One message with parity whose chunks some threads seal, write and fill while the workers deliver packets.
struct Sealing {
  Sealing(uint32_t per_chunk, uint32_t workers_is, uint64_t seed_value)
      : chunk_bytes(64 * per_chunk),
        workers(workers_is),
        seed(seed_value),
        buffer(uint64_t{chunk_bytes} * (kChunks - 1) + chunk_bytes / 2 + 1),
        parity(chunk_bytes),
        geometry(geometry_of(per_chunk, workers_is, uint64_t{chunk_bytes} * (kChunks + 1))),
        made(kChunks),
        start(workers_is + kMakers + 1),
        stop(workers_is + kMakers + 1) {
    CHECK_EQ(sdr_rx_create(&geometry, &rx), SDR_OK);
  }
  ~Sealing() { sdr_rx_destroy(rx); }
  Sealing(const Sealing&) = delete;
  Sealing& operator=(const Sealing&) = delete;

  static constexpr uint32_t kChunks = 12, kMakers = 2;
  static constexpr uint8_t kMade = 0xee;

  size_t begin_of(uint32_t chunk) const { return size_t{chunk} * chunk_bytes; }
  size_t end_of(uint32_t chunk) const { return std::min(buffer.size(), begin_of(chunk + 1)); }
  bool has_bit(uint32_t chunk) const {
    const sdr_bitmap_slab slab = sdr_rx_bitmaps(rx);
    const auto* words = reinterpret_cast<uint32_t*>(slab.base + message % 2 * slab.stride);
    return (__atomic_load_n(words, __ATOMIC_ACQUIRE) >> chunk & 1) != 0;
  }
  // A packet as a transport delivers it.
  void deliver(uint32_t worker, uint32_t packet) {
    const sdr_tx_packet tx = sdr_tx_make(&geometry, message, buffer.size(), packet, 0);
    const sdr_completion completion{tx.queue, tx.immediate, tx.bytes};
    sdr_step kind;
    auto* to = static_cast<uint8_t*>(sdr_rx_place(rx, &completion, &kind));
    if (to != nullptr) {
      for (uint32_t at = 0; at < tx.bytes; at++) to[at] = byte_of(message, uint64_t{packet} * 64 + at);
      kind = sdr_rx_step(rx, worker, &completion, nullptr);
    }
    CHECK(kind <= SDR_STEP_DUPLICATE);
    reports += kind == SDR_STEP_MESSAGE;
    chunks += kind == SDR_STEP_CHUNK || kind == SDR_STEP_MESSAGE;
  }

  const uint32_t chunk_bytes, workers;
  const uint64_t seed;
  std::vector<uint8_t> buffer, parity;
  const sdr_geometry geometry;
  sdr_rx* rx = nullptr;
  std::vector<char> made;  // by chunk: a maker's, not the workers'
  std::barrier<> start, stop;
  // Of the round.
  uint32_t message = 0;
  std::atomic<uint32_t> reports{0}, chunks{0}, makers_left{0};
};

// Every packet of this channel at least once, and on until the makers are through.
void deliver_all(Sealing& sealing, uint32_t worker) {
  std::mt19937_64 random(sealing.seed * 64 + worker);
  std::vector<uint32_t> order;
  for (uint32_t packet = worker; packet * 64 < sealing.buffer.size(); packet += sealing.workers)
    order.push_back(packet);
  for (uint32_t round = 0; round < kSealingRounds; round++) {
    sealing.start.arrive_and_wait();
    do {
      std::this_thread::yield();
      std::shuffle(order.begin(), order.end(), random);
      for (size_t first = 0; first < order.size(); first += 4) {
        sdr_rx_enter(sealing.rx, worker);
        for (size_t at = first; at < std::min(first + 4, order.size()); at++)
          sealing.deliver(worker, order[at]);
        sdr_rx_leave(sealing.rx, worker);
      }
    } while (sealing.makers_left > 0);
    sealing.stop.arrive_and_wait();
  }
}

// Makes some of its chunks, every second one of all, unless they came first.
void make_chunks(Sealing& sealing, uint32_t maker) {
  std::mt19937_64 random(sealing.seed * 64 + 32 + maker);
  for (uint32_t round = 0; round < kSealingRounds; round++) {
    sealing.start.arrive_and_wait();
    for (uint32_t first = 0; first < Sealing::kChunks; first += 4) {
      uint8_t flags[4] = {};
      for (uint32_t i = maker; i < 4; i += Sealing::kMakers) flags[i] = random() % 2;
      CHECK_EQ(sdr_rx_seal(sealing.rx, sealing.message, first, 4, flags), SDR_OK);
      for (uint32_t i = 0; i < 4; i++) {
        if (flags[i] == 0) continue;
        const uint32_t chunk = first + i;
        CHECK(!sealing.has_bit(chunk));
        for (size_t at = sealing.begin_of(chunk); at < sealing.end_of(chunk); at++)
          sealing.buffer[at] = Sealing::kMade;
        sealing.made[chunk] = 1;
        sealing.chunks++;
      }
      if (random() % 2 == 0) std::this_thread::yield();
      bool complete = false;
      CHECK_EQ(sdr_rx_fill(sealing.rx, sealing.message, first, 4, flags, &complete), SDR_OK);
      sealing.reports += complete;
    }
    sealing.makers_left--;
    sealing.stop.arrive_and_wait();
  }
}

// Returns how many chunks were made, and how many came as packets.
std::pair<uint64_t, uint64_t> seal_while_workers_go_on(uint32_t per_chunk, uint32_t workers,
                                                       uint64_t seed) {
  Sealing sealing(per_chunk, workers, seed);
  std::vector<std::thread> threads;
  for (uint32_t worker = 0; worker < workers; worker++)
    threads.emplace_back([&sealing, worker] { deliver_all(sealing, worker); });
  for (uint32_t maker = 0; maker < Sealing::kMakers; maker++)
    threads.emplace_back([&sealing, maker] { make_chunks(sealing, maker); });
  uint64_t made = 0;
  for (uint32_t round = 0; round < kSealingRounds; round++) {
    std::fill(sealing.buffer.begin(), sealing.buffer.end(), uint8_t{0});
    std::fill(sealing.made.begin(), sealing.made.end(), char{0});
    sealing.message = round;
    sealing.reports = sealing.chunks = 0;
    sealing.makers_left = Sealing::kMakers;
    bool complete = false;
    CHECK_EQ(sdr_rx_post_parity(sealing.rx, round, sealing.buffer.data(), sealing.buffer.size(),
                                sealing.parity.data(), 1),
             SDR_OK);
    CHECK_EQ(sdr_rx_set_length(sealing.rx, round, sealing.buffer.size(), &complete), SDR_OK);
    sealing.start.arrive_and_wait();
    sealing.stop.arrive_and_wait();
    CHECK_EQ(sealing.reports.load(), 1u);
    CHECK_EQ(sealing.chunks.load(), Sealing::kChunks);
    sdr_rx_progress progress;
    CHECK_EQ(sdr_rx_progress_get(sealing.rx, round, &progress), SDR_OK);
    CHECK(progress.complete);
    CHECK_EQ(progress.chunks_done, Sealing::kChunks);
    for (uint32_t chunk = 0; chunk < Sealing::kChunks; chunk++) {
      made += sealing.made[chunk] != 0;
      for (size_t at = sealing.begin_of(chunk); at < sealing.end_of(chunk); at++)
        CHECK_EQ(sealing.buffer[at], sealing.made[chunk] ? Sealing::kMade : byte_of(round, at));
    }
    CHECK_EQ(sdr_rx_complete(sealing.rx, round), SDR_OK);
  }
  for (std::thread& thread : threads) thread.join();
  return {made, uint64_t{kSealingRounds} * Sealing::kChunks - made};
}

}  // namespace

TEST(every_chunk_and_the_message_are_reported_once_while_the_length_becomes_known) {
  uint64_t seed = seed_of();
  for (const uint32_t per_chunk : {1u, 3u, 16u, 64u, 65u, 200u}) {
    for (const uint32_t workers : {1u, 2u, kWorkers}) {
      contest({per_chunk, workers, false}, seed++);
      contest({per_chunk, workers, true}, seed++);
    }
  }
}

TEST(nothing_changes_after_complete_while_workers_go_on) {
  uint64_t seed = seed_of();
  for (const uint32_t per_chunk : {1u, 5u, 16u, 70u}) {
    for (const uint32_t workers : {1u, kWorkers})
      complete_while_workers_go_on(per_chunk, workers, seed++);
  }
}

TEST(no_worker_writes_to_a_sealed_chunk_and_every_chunk_counts_once) {
  uint64_t seed = seed_of();
  uint64_t made = 0, came = 0;
  for (const uint32_t per_chunk : {1u, 3u, 16u, 70u}) {
    for (const uint32_t workers : {1u, 3u}) {
      const auto counts = seal_while_workers_go_on(per_chunk, workers, seed++);
      made += counts.first;
      came += counts.second;
    }
  }
  std::printf("  %llu chunks made, %llu came\n", (unsigned long long)made, (unsigned long long)came);
  CHECK(made > 0 && came > 0);
}
