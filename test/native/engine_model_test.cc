// Differential: the engine against a naive model, over random geometries and random operations,
// most of them valid, some hostile. SDR_SEED and SDR_RUNS in the environment choose other seeds.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "check.h"
#include "sdr/engine.h"

namespace {

constexpr uint32_t kDefaultRuns = 300;
constexpr uint32_t kOperations = 3000;
constexpr uint32_t kPacketsMax = 300;

uint64_t environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// What the contract says, with sets and divisions.
class Model {
 public:
  explicit Model(const sdr_geometry& geometry) : g_(geometry) {}

  struct Message {
    uint64_t posted = 0;
    std::optional<uint64_t> length;
    std::set<uint32_t> packets, chunks;
    std::map<uint32_t, uint32_t> fragments;
    bool complete = false;
  };

  sdr_status post(uint32_t message, uint64_t bytes) {
    if (message != next_) return SDR_OUT_OF_ORDER;
    if (bytes > g_.max_message_bytes) return SDR_TOO_LARGE;
    if (live_.count(message % g_.slots) != 0) return SDR_BUSY;
    live_[message % g_.slots] = message;
    messages_[message] = Message{};
    messages_[message].posted = bytes;
    next_++;
    return SDR_OK;
  }
  sdr_status set_length(uint32_t message, uint64_t bytes, bool* complete) {
    *complete = false;
    Message* m = find(message);
    if (m == nullptr) return SDR_CLOSED;
    if (bytes > m->posted) return SDR_TOO_LARGE;
    if (m->length && *m->length != bytes) return SDR_INVALID;
    m->length = bytes;
    const uint32_t chunks = chunks_of(bytes);
    if (chunks > 0 && has_chunk(*m, chunks - 1)) m->chunks.insert(chunks - 1);
    m->complete = done(*m) == chunks;
    *complete = m->complete;
    return SDR_OK;
  }
  sdr_status complete(uint32_t message) {
    if (find(message) == nullptr) return SDR_CLOSED;
    live_.erase(message % g_.slots);
    messages_.erase(message);
    return SDR_OK;
  }
  sdr_step check(const sdr_completion& c, uint32_t* message, uint32_t* packet) {
    if (c.queue >= g_.generations * g_.channels) return SDR_STEP_BAD_QUEUE;
    const uint64_t immediate = c.immediate;
    const uint64_t slot = immediate >> (32 - g_.split.message_bits);
    if (slot >= g_.slots) return SDR_STEP_BAD_SLOT;
    const auto live = live_.find(uint32_t(slot));
    if (live == live_.end() || live->second / g_.slots % g_.generations != c.queue / g_.channels) {
      return SDR_STEP_LATE;
    }
    const Message& m = messages_[live->second];
    const uint64_t bytes = m.length.value_or(m.posted);
    *message = live->second;
    *packet = uint32_t((immediate >> g_.split.user_bits) % (uint64_t{1} << g_.split.packet_bits));
    const uint64_t offset = uint64_t{*packet} * g_.packet_bytes;
    if (offset >= bytes) return SDR_STEP_BAD_PACKET;
    const uint64_t whole = std::min<uint64_t>(g_.packet_bytes, bytes - offset);
    const bool fits = m.length ? c.bytes == whole : c.bytes >= 1 && c.bytes <= whole;
    if (!fits) return SDR_STEP_BAD_LENGTH;
    return m.packets.count(*packet) != 0 ? SDR_STEP_DUPLICATE : SDR_STEP_PACKET;
  }
  sdr_step step(const sdr_completion& c, uint32_t* message) {
    uint32_t packet = 0;
    sdr_step kind = check(c, message, &packet);
    if (kind == SDR_STEP_PACKET) kind = take(c, messages_[*message], packet);
    counts_[kind]++;
    return kind;
  }
  sdr_rx_progress progress(uint32_t message) {
    const Message& m = *find(message);
    return {chunks_of(m.length.value_or(m.posted)), done(m), m.length.has_value(), m.complete};
  }
  bool user(uint32_t message, uint32_t* value) {
    const Message& m = *find(message);
    const uint32_t count =
        g_.split.user_bits == 0 ? 0 : (31 + g_.split.user_bits) / g_.split.user_bits;
    if (count == 0 || m.fragments.size() < count) return false;
    uint64_t all = 0;
    for (const auto& [index, bits] : m.fragments)
      all |= uint64_t{bits} << (index * g_.split.user_bits);
    *value = uint32_t(all);
    return true;
  }
  Message* find(uint32_t message) {
    const auto found = messages_.find(message);
    return found == messages_.end() ? nullptr : &found->second;
  }
  uint32_t next() const { return next_; }
  // The index-th of the messages posted now, or otherwise.
  uint32_t live(uint32_t index, uint32_t otherwise) const {
    if (live_.empty()) return otherwise;
    return std::next(live_.begin(), index % live_.size())->second;
  }
  const uint64_t* counts() const { return counts_; }
  uint32_t packets_of(uint64_t bytes) const {
    return uint32_t((bytes + g_.packet_bytes - 1) / g_.packet_bytes);
  }

 private:
  uint32_t chunks_of(uint64_t bytes) const {
    return (packets_of(bytes) + g_.packets_per_chunk - 1) / g_.packets_per_chunk;
  }
  bool has_chunk(const Message& m, uint32_t chunk) const {
    const uint32_t packets = packets_of(m.length.value_or(m.posted));
    const uint32_t begin = chunk * g_.packets_per_chunk;
    for (uint32_t packet = begin; packet < std::min(packets, begin + g_.packets_per_chunk);
         packet++) {
      if (m.packets.count(packet) == 0) return false;
    }
    return true;
  }
  uint32_t done(const Message& m) const {
    const uint32_t chunks = chunks_of(m.length.value_or(m.posted));
    return uint32_t(std::distance(m.chunks.begin(), m.chunks.lower_bound(chunks)));
  }
  sdr_step take(const sdr_completion& c, Message& m, uint32_t packet) {
    m.packets.insert(packet);
    if (g_.split.user_bits != 0) {
      const uint32_t count = (31 + g_.split.user_bits) / g_.split.user_bits;
      m.fragments.emplace(packet % count, c.immediate % (1u << g_.split.user_bits));
    }
    const uint32_t chunk = packet / g_.packets_per_chunk;
    if (!has_chunk(m, chunk)) return SDR_STEP_PACKET;
    m.chunks.insert(chunk);
    if (!m.length || done(m) < chunks_of(*m.length)) return SDR_STEP_CHUNK;
    m.complete = true;
    return SDR_STEP_MESSAGE;
  }

  sdr_geometry g_;
  uint32_t next_ = 0;
  std::map<uint32_t, uint32_t> live_;  // slot to message
  std::map<uint32_t, Message> messages_;
  uint64_t counts_[SDR_STEP_KINDS] = {};
};

class Run {
 public:
  explicit Run(uint64_t seed)
      : random_(seed), g_(geometry()), model_(g_), buffer_(g_.max_message_bytes) {
    CHECK_EQ(sdr_rx_create(&g_, &rx_), SDR_OK);
  }
  ~Run() { sdr_rx_destroy(rx_); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // Adds to `totals` what it met, so that the caller can tell that every kind was.
  void all(uint64_t totals[SDR_STEP_KINDS]) {
    for (uint32_t operation = 0; operation < kOperations; operation++) {
      const uint32_t dice = below(1000);
      if (dice < 30)
        post();
      else if (dice < 45)
        set_length();
      else if (dice < 60)
        complete();
      else if (dice < 70)
        compare(any_message());
      else if (dice < 140)
        step(garbage());
      else
        step(packet());
    }
    for (uint32_t back = 0; back < g_.slots && back < model_.next(); back++)
      compare(model_.next() - 1 - back);
    uint64_t counts[SDR_STEP_KINDS];
    sdr_rx_counters(rx_, counts);
    for (int kind = 0; kind < SDR_STEP_KINDS; kind++) {
      CHECK_EQ(counts[kind], model_.counts()[kind]);
      totals[kind] += counts[kind];
    }
  }

 private:
  uint32_t below(uint64_t limit) { return uint32_t(random_() % limit); }

  sdr_geometry geometry() {
    static const uint32_t per_chunk[] = {1, 2, 3, 5, 8, 16, 17, 32, 33, 63, 64, 65, 100, 128, 129};
    static const sdr_split splits[] = {{10, 18, 4}, {8, 22, 2},  {3, 29, 0},
                                       {10, 17, 5}, {6, 10, 16}, {12, 19, 1}};
    sdr_geometry g{};
    g.packet_bytes = 64 + below(3) * 37;
    g.packets_per_chunk = per_chunk[below(std::size(per_chunk))];
    g.slots = 1 + below(5);
    g.generations = 1 + below(5);
    g.channels = 1 + below(3) * below(2);
    g.max_message_bytes = 1 + below(uint64_t{g.packet_bytes} * kPacketsMax);
    g.split = splits[below(std::size(splits))];
    return g;
  }
  // Mostly live, sometimes long gone or yet to come.
  uint32_t any_message() {
    return model_.next() + below(2) - std::min(model_.next(), below(g_.slots + 3));
  }

  void post() {
    const uint32_t message = below(10) == 0 ? any_message() : model_.next();
    const uint64_t bytes =
        below(8) == 0 ? below(g_.max_message_bytes + 3)
                      : g_.max_message_bytes - below(g_.packet_bytes) % g_.max_message_bytes;
    CHECK_EQ(sdr_rx_post(rx_, message, buffer_.data(), bytes), model_.post(message, bytes));
  }
  void set_length() {
    const uint32_t message = any_message();
    const Model::Message* m = model_.find(message);
    uint64_t bytes = m == nullptr ? below(1000) : below(m->posted + 2);
    if (m != nullptr && below(2) == 0) bytes = m->length.value_or(m->posted);
    bool complete = false, expected = false;
    const sdr_status status = model_.set_length(message, bytes, &expected);
    CHECK_EQ(sdr_rx_set_length(rx_, message, bytes, &complete), status);
    CHECK_EQ(complete, expected);
  }
  void complete() {
    const uint32_t message = any_message();
    const Model::Message* m = model_.find(message);
    if (m != nullptr && !m->complete && below(16) != 0)
      return;  // early completion is the rarer case
    compare(message);
    CHECK_EQ(sdr_rx_complete(rx_, message), model_.complete(message));
  }
  sdr_completion garbage() {
    const uint32_t slot = below(g_.slots + 1), queue = below(g_.generations * g_.channels + 1);
    const uint32_t packet =
        below(kPacketsMax + 2) % (1u << std::min<uint32_t>(g_.split.packet_bits, 20));
    const uint32_t low = 32 - g_.split.message_bits;
    const uint32_t immediate =
        below(4) == 0 ? uint32_t(random_()) : slot << low | packet << g_.split.user_bits;
    return {queue, immediate, below(3) == 0 ? uint32_t(random_()) : below(g_.packet_bytes + 2)};
  }
  // A packet as its sender would make it, of a live message or, rarely, another; often one still
  // missing.
  sdr_completion packet() {
    const uint32_t other = any_message();
    const uint32_t message = below(16) == 0 ? other : model_.live(below(g_.slots), other);
    const Model::Message* m = model_.find(message);
    const uint64_t bytes = m == nullptr ? g_.max_message_bytes : m->length.value_or(m->posted);
    const uint32_t count = model_.packets_of(bytes);
    uint32_t packet = count == 0 ? 0 : below(count);
    if (m != nullptr && count > 0 && below(16) != 0) {
      for (uint32_t tries = 0; tries < count && m->packets.count(packet) != 0; tries++)
        packet = (packet + 1) % count;
    }
    const sdr_tx_packet made = sdr_tx_make(&g_, message, bytes, packet, message * 0x9e3779b9u);
    return {made.queue, made.immediate, made.bytes};
  }
  void step(const sdr_completion& c) {
    uint32_t message = 0, expected_message = 0, packet = 0;
    const sdr_step placed = model_.check(c, &expected_message, &packet);
    sdr_step why = SDR_STEP_KINDS;
    const void* place = sdr_rx_place(rx_, &c, &why);
    CHECK_EQ(why, placed);
    CHECK(place == (placed == SDR_STEP_PACKET ? buffer_.data() + uint64_t{packet} * g_.packet_bytes
                                              : nullptr));
    const sdr_step expected = model_.step(c, &expected_message);
    CHECK_EQ(sdr_rx_step(rx_, c.queue % g_.channels, &c, &message), expected);
    if (expected <= SDR_STEP_MESSAGE) CHECK_EQ(message, expected_message);
  }
  void compare(uint32_t message) {
    sdr_rx_progress got;
    const Model::Message* m = model_.find(message);
    CHECK_EQ(sdr_rx_progress_get(rx_, message, &got), m == nullptr ? SDR_CLOSED : SDR_OK);
    if (m == nullptr) return;
    CHECK_EQ(sdr_rx_slot_message(rx_, message % g_.slots), message);
    const sdr_rx_progress expected = model_.progress(message);
    CHECK_EQ(got.chunks_total, expected.chunks_total);
    CHECK_EQ(got.chunks_done, expected.chunks_done);
    CHECK_EQ(got.length_known, expected.length_known);
    CHECK_EQ(got.complete, expected.complete);
    uint32_t user = 0, expected_user = 0;
    CHECK_EQ(sdr_rx_user_immediate(rx_, message, &user), model_.user(message, &expected_user));
    CHECK_EQ(user, expected_user);
    const sdr_bitmap_slab slab = sdr_rx_bitmaps(rx_);
    const auto* words =
        reinterpret_cast<const uint32_t*>(slab.base + message % g_.slots * slab.stride);
    const uint32_t packets = model_.packets_of(m->length.value_or(m->posted));
    uint64_t bits[3];
    for (uint32_t chunk = 0; chunk < got.chunks_total; chunk++) {
      CHECK_EQ((words[chunk / 32] >> (chunk % 32) & 1) != 0, m->chunks.count(chunk) != 0);
      CHECK_EQ(sdr_rx_chunk_expand(rx_, message, chunk, bits, 3), SDR_OK);
      for (uint32_t index = 0; index < g_.packets_per_chunk; index++) {
        const uint32_t packet = chunk * g_.packets_per_chunk + index;
        const bool in = packet < packets && m->packets.count(packet) != 0;
        CHECK_EQ((bits[index / 64] >> (index % 64) & 1) != 0, in);
      }
    }
  }

  std::mt19937_64 random_;
  sdr_geometry g_;
  Model model_;
  std::vector<uint8_t> buffer_;
  sdr_rx* rx_ = nullptr;
};

}  // namespace

TEST(the_engine_agrees_with_a_naive_model) {
  const uint64_t first = environment("SDR_SEED", 1), runs = environment("SDR_RUNS", kDefaultRuns);
  uint64_t seed = first;
  std::printf("  seeds %llu to %llu, %u operations each\n", (unsigned long long)first,
              (unsigned long long)(first + runs - 1), kOperations);
  uint64_t totals[SDR_STEP_KINDS] = {};
  static uint64_t failing;
  std::atexit([] {
    if (failing != 0)
      std::fprintf(stderr, "  reproduce: SDR_SEED=%llu SDR_RUNS=1\n", (unsigned long long)failing);
  });
  for (; seed < first + runs; seed++) {
    failing = seed;
    Run(seed).all(totals);
  }
  failing = 0;
  for (int kind = 0; kind < SDR_STEP_KINDS; kind++) {
    std::printf("  kind %d: %llu\n", kind, (unsigned long long)totals[kind]);
    CHECK(totals[kind] > 0 || runs < kDefaultRuns);
  }
}
