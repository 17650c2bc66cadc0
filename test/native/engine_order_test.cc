// The packet engine's races, decided by a scheduler: workers and the control path run as fibers
// that may switch at every atomic operation, so that orders which threads hardly ever meet are
// tried by the thousand. The engine's sources are compiled in here with that switch before each
// operation.
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "check.h"

#if defined(__GLIBC__) && !defined(__SANITIZE_THREAD__)
#include <ucontext.h>
#define HAVE_FIBERS 1
#else
#define HAVE_FIBERS 0
#endif

extern "C" void test_switch(void);

#define __atomic_load_n(at, order) (test_switch(), __atomic_load_n(at, order))
#define __atomic_store_n(at, value, order) (test_switch(), __atomic_store_n(at, value, order))
#define __atomic_exchange_n(at, value, order) (test_switch(), __atomic_exchange_n(at, value, order))
#define __atomic_fetch_or(at, value, order) (test_switch(), __atomic_fetch_or(at, value, order))
#define __atomic_fetch_add(at, value, order) (test_switch(), __atomic_fetch_add(at, value, order))
#define __atomic_add_fetch(at, value, order) (test_switch(), __atomic_add_fetch(at, value, order))
#define sched_yield() test_switch()
extern "C" {
#include "engine/geometry.c"
#include "engine/rx.c"
#include "engine/rx_step.c"
}
#undef __atomic_load_n
#undef __atomic_store_n
#undef __atomic_exchange_n
#undef __atomic_fetch_or
#undef __atomic_fetch_add
#undef __atomic_add_fetch
#undef sched_yield

#if !HAVE_FIBERS

extern "C" void test_switch(void) {}

TEST(orders_of_atomic_operations) {
  std::printf("  skipped: no fibers here (glibc, without thread sanitizer)\n");
}

#else

namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr uint32_t kOrders = 4000;  // tried for each setting
constexpr uint32_t kSwitchesMax = 100000;

class Fibers {
 public:
  explicit Fibers(uint64_t seed) : random_(seed) {}

  void add(std::function<void()> body) {
    fibers_.push_back(std::make_unique<Fiber>());
    Fiber& fiber = *fibers_.back();
    fiber.body = std::move(body);
    static std::vector<std::vector<char>>
        stacks;  // kept: fresh ones would cost more than all the rest
    if (stacks.size() < fibers_.size()) stacks.emplace_back(kStackBytes);
    CHECK_EQ(getcontext(&fiber.context), 0);
    fiber.context.uc_stack.ss_sp = stacks[fibers_.size() - 1].data();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = &scheduler_;
    makecontext(&fiber.context, &Fibers::enter, 0);
  }
  // Runs all to their ends. How eager the order is to switch is drawn too: some races need long
  // runs of one fiber, some need strict turns.
  void run() {
    active_ = this;
    const uint32_t stay_percent = uint32_t(random_() % 95);
    uint32_t switches = 0;
    current_ = pick();
    while (current_ != nullptr) {
      CHECK(++switches < kSwitchesMax);
      CHECK_EQ(swapcontext(&scheduler_, &current_->context), 0);
      if (current_->done || random_() % 100 >= stay_percent) current_ = pick();
    }
    active_ = nullptr;
  }
  static void give_way() {
    if (active_ != nullptr)
      CHECK_EQ(swapcontext(&active_->current_->context, &active_->scheduler_), 0);
  }

 private:
  struct Fiber {
    ucontext_t context;
    std::function<void()> body;
    bool done = false;
  };
  static void enter() {
    Fiber* fiber = active_->current_;
    fiber->body();
    fiber->done = true;
  }
  Fiber* pick() {
    std::vector<Fiber*> ready;
    for (const auto& fiber : fibers_) {
      if (!fiber->done) ready.push_back(fiber.get());
    }
    return ready.empty() ? nullptr : ready[random_() % ready.size()];
  }

  static inline Fibers* active_ = nullptr;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  Fiber* current_ = nullptr;
  ucontext_t scheduler_{};
};

// A message some of whose packets are in before the race begins.
struct Race {
  uint32_t packets_per_chunk, channels;
  uint64_t posted, length;
  std::vector<uint32_t> before;
  std::vector<std::vector<uint32_t>> workers;  // packets that each steps, in that order
  bool beyond = false;                         // sent as a message of `posted` bytes
};

class Message {
 public:
  explicit Message(const Race& race) : race_(race) {
    geometry_.packet_bytes = 64;
    geometry_.packets_per_chunk = race.packets_per_chunk;
    geometry_.slots = 1;
    geometry_.generations = 2;
    geometry_.channels = race.channels;
    geometry_.max_message_bytes = race.posted;
    geometry_.split = {10, 18, 4};
    CHECK_EQ(sdr_rx_create(&geometry_, &rx_), SDR_OK);
  }
  ~Message() { sdr_rx_destroy(rx_); }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  sdr_rx* rx() { return rx_; }
  sdr_completion completion(uint32_t packet) const {
    const uint64_t bytes = race_.beyond ? race_.posted : race_.length;
    const sdr_tx_packet made = sdr_tx_make(&geometry_, next_, bytes, packet, 0);
    return {made.queue, made.immediate, made.bytes};
  }
  sdr_step step(uint32_t worker, uint32_t packet) {
    const sdr_completion one = completion(packet);
    return sdr_rx_step(rx_, worker, &one, nullptr);
  }

  // One order: everybody sees what must be seen, once.
  void run(uint64_t seed) {
    CHECK_EQ(sdr_rx_post(rx_, next_, nullptr, race_.posted), SDR_OK);
    uint32_t reports = 0, chunks = 0, early = 0, others = 0;
    for (const uint32_t packet : race_.before) early += step(0, packet) == SDR_STEP_CHUNK;
    Fibers fibers(seed);
    for (uint32_t worker = 0; worker < race_.workers.size(); worker++) {
      fibers.add([&, worker] {
        sdr_rx_enter(rx_, worker);
        for (const uint32_t packet : race_.workers[worker]) {
          const sdr_step kind = step(worker, packet);
          if (kind == SDR_STEP_CHUNK)
            chunks++;
          else if (kind == SDR_STEP_MESSAGE)
            reports++, chunks++;
          else if (kind != SDR_STEP_PACKET && kind != SDR_STEP_DUPLICATE)
            others++;
        }
        sdr_rx_leave(rx_, worker);
      });
    }
    fibers.add([&] {
      bool complete = false;
      CHECK_EQ(sdr_rx_set_length(rx_, next_, race_.length, &complete), SDR_OK);
      reports += complete;
    });
    fibers.run();
    CHECK_EQ(reports, 1u);
    const uint32_t packets = uint32_t((race_.length + 63) / 64);
    const uint32_t total = (packets + race_.packets_per_chunk - 1) / race_.packets_per_chunk;
    sdr_rx_progress progress;
    CHECK_EQ(sdr_rx_progress_get(rx_, next_, &progress), SDR_OK);
    CHECK(progress.complete);
    CHECK_EQ(progress.chunks_done, total);
    for (uint32_t chunk = 0; chunk < total; chunk++) {
      CHECK(rx_->table[0].chunk_words[chunk >> 5] >> (chunk & 31) & 1);
    }
    if (!race_.beyond) {
      CHECK_EQ(others, 0u);
      CHECK(early + chunks == total || early + chunks + 1 == total);
    }
    CHECK_EQ(sdr_rx_complete(rx_, next_), SDR_OK);
    next_++;
  }

 private:
  Race race_;
  sdr_geometry geometry_{};
  sdr_rx* rx_ = nullptr;
  uint32_t next_ = 0;
};

uint64_t first_seed() {
  const char* text = std::getenv("SDR_SEED");
  const uint64_t seed = text ? std::strtoull(text, nullptr, 10) : 1;
  std::printf("  SDR_SEED=%llu, %u orders a setting\n", (unsigned long long)seed, kOrders);
  return seed;
}

void try_orders(const Race& race, uint64_t seed) {
  Message message(race);
  for (uint32_t order = 0; order < kOrders; order++) message.run(seed + order);
}

}  // namespace

extern "C" void test_switch(void) { Fibers::give_way(); }

TEST(the_length_becomes_known_while_one_worker_ends_the_message) {
  const uint64_t seed = first_seed();
  // The true last chunk is short where the posted one was whole.
  try_orders({4, 1, 64 * 8, 64 * 6, {0, 1, 2, 3}, {{4, 5}}}, seed);
  try_orders({4, 1, 64 * 8, 64 * 7 - 1, {0, 4, 5}, {{6, 3, 2, 1}}}, seed);
  try_orders({4, 1, 64 * 8, 64 * 8, {0, 1, 2, 4, 5, 6, 7}, {{3}}}, seed);
  try_orders({1, 1, 64 * 3, 64 * 2 + 1, {1}, {{0, 2}}}, seed);
  try_orders({70, 1, 64 * 80, 64 * 66, {}, {[] {
                std::vector<uint32_t> all;
                for (uint32_t packet = 0; packet < 66; packet++) all.push_back(65 - packet);
                return all;
              }()}},
             seed);
}

TEST(the_length_becomes_known_while_several_workers_end_the_message) {
  const uint64_t seed = first_seed();
  try_orders({4, 2, 64 * 8, 64 * 6, {0, 1, 2, 3}, {{4}, {5}}}, seed);
  try_orders({4, 2, 64 * 8, 64 * 8, {0, 1, 2, 4, 5, 6}, {{3}, {7}}}, seed);
  try_orders({1, 3, 64 * 4, 64 * 3, {}, {{0}, {1}, {2}}}, seed);
  try_orders({1, 2, 64 * 4, 64 * 2, {}, {{0, 1}, {1, 0}}}, seed);
  try_orders({65,
              2,
              64 * 65,
              64 * 65,
              [] {
                std::vector<uint32_t> all;
                for (uint32_t packet = 1; packet < 64; packet++) all.push_back(packet);
                return all;
              }(),
              {{0}, {64}}},
             seed);
}

TEST(the_length_becomes_known_while_the_sender_writes_beyond_it) {
  const uint64_t seed = first_seed();
  for (const uint32_t channels : {1u, 2u}) {
    try_orders({1, channels, 64 * 4, 64 * 2, {0}, {{3, 2, 1}}, true}, seed);
    try_orders({2, channels, 64 * 8, 64 * 3, {0, 4}, {{5, 6, 7, 3, 2, 1}}, true}, seed);
  }
  try_orders({1, 2, 64 * 4, 64 * 2, {}, {{3, 0}, {2, 1}}, true}, seed);
  try_orders({2, 2, 64 * 6, 64 * 3, {0, 4}, {{5, 1}, {3, 2}}, true}, seed);
}

TEST(complete_returns_only_when_no_worker_can_write) {
  const uint64_t seed = first_seed();
  for (const uint32_t channels : {1u, 2u}) {
    Message message({2, channels, 64 * 4, 64 * 4, {}, {}});
    std::vector<uint8_t> buffer(64 * 4);
    uint32_t written = 0, refused = 0;
    for (uint32_t order = 0; order < kOrders; order++) {
      bool completed = false;
      // Numbers go on; completion() makes packets of number 0's generation for even ones.
      CHECK_EQ(sdr_rx_post(message.rx(), order, buffer.data(), buffer.size()), SDR_OK);
      Fibers fibers(seed + order);
      for (uint32_t worker = 0; worker < channels; worker++) {
        fibers.add([&, worker] {
          for (uint32_t packet = worker; packet < 4; packet += channels) {
            sdr_completion one = message.completion(packet);
            one.queue += order % 2 * channels;
            sdr_rx_enter(message.rx(), worker);
            sdr_step why;
            if (sdr_rx_place(message.rx(), &one, &why) != nullptr) {
              test_switch();  // the payload is written here
              CHECK(!completed);
              const sdr_step kind = sdr_rx_step(message.rx(), worker, &one, nullptr);
              CHECK(kind <= SDR_STEP_MESSAGE ? !completed : kind == SDR_STEP_LATE);
              written++;
            } else {
              CHECK_EQ(why, SDR_STEP_LATE);
              refused++;
            }
            sdr_rx_leave(message.rx(), worker);
          }
        });
      }
      fibers.add([&] {
        CHECK_EQ(sdr_rx_complete(message.rx(), order), SDR_OK);
        completed = true;
      });
      fibers.run();
    }
    CHECK(written > 0 && refused > 0);
  }
}

TEST(sealed_chunks_are_their_makers_and_are_counted_once) {
  const uint64_t seed = first_seed();
  for (const uint32_t channels : {1u, 2u}) {
    // Two chunks of two packets are posted, and room for a third, which is parity; the second turns out to have one.
    const uint64_t posted = 64 * 4, bytes = 64 * 3;
    Message message({2, channels, 64 * 6, bytes, {}, {}});
    uint32_t made_ever = 0, came_ever = 0;
    for (uint32_t order = 0; order < kOrders; order++) {
      uint8_t buffer[posted], parity[64 * 2];
      bool is_made[2] = {false, false};
      uint32_t reports = 0, made = 0;
      CHECK_EQ(sdr_rx_post_parity(message.rx(), order, buffer, posted, parity, 1), SDR_OK);
      Fibers fibers(seed + order);
      for (uint32_t worker = 0; worker < channels; worker++) {
        fibers.add([&, worker] {
          for (uint32_t packet = worker; packet < 3; packet += channels) {
            sdr_completion one = message.completion(packet);
            one.queue += order % 2 * channels;
            sdr_rx_enter(message.rx(), worker);
            sdr_step why;
            if (sdr_rx_place(message.rx(), &one, &why) != nullptr) {
              test_switch();  // the payload is written here
              CHECK(!is_made[packet / 2]);
              why = sdr_rx_step(message.rx(), worker, &one, nullptr);
              CHECK(why <= SDR_STEP_DUPLICATE);
              reports += why == SDR_STEP_MESSAGE;
            } else {
              CHECK_EQ(why, SDR_STEP_DUPLICATE);
            }
            sdr_rx_leave(message.rx(), worker);
          }
        });
      }
      fibers.add([&] {
        bool complete = false;
        CHECK_EQ(sdr_rx_set_length(message.rx(), order, bytes, &complete), SDR_OK);
        reports += complete;
      });
      for (uint32_t maker = 0; maker < 2; maker++) {
        fibers.add([&, maker] {
          uint8_t flag = 1;
          bool complete = false;
          while (sdr_rx_seal(message.rx(), order, maker, 1, &flag) == SDR_INVALID) test_switch();
          if (flag == 0) return;
          is_made[maker] = true;
          CHECK((message.rx()->table[0].chunk_words[0] >> maker & 1) == 0);
          test_switch();  // its bytes are made here
          CHECK((message.rx()->table[0].chunk_words[0] >> maker & 1) == 0);
          CHECK_EQ(sdr_rx_fill(message.rx(), order, maker, 1, &flag, &complete), SDR_OK);
          made++;
          reports += complete;
        });
      }
      fibers.run();
      CHECK_EQ(reports, 1u);
      CHECK_EQ(message.rx()->table[0].chunks_done, 2u);
      made_ever += made;
      came_ever += 2 - made;
      CHECK_EQ(sdr_rx_complete(message.rx(), order), SDR_OK);
    }
    CHECK(made_ever > 0 && came_ever > 0);
  }
}

#endif
