// The DPA program on its emulated device: nothing lost or doubled with wraps and two workers at once, and what each
// fault leads to. SDR_DPA_COMPLETIONS sets how many completions the race takes (default 10 million).
#include <dpaintrin.h>
#include <libflexio-dev/flexio_dev.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include "check.h"
#include "dpa/emulation/rig.h"

using namespace sdr::dpa;

namespace {

constexpr uint32_t kSlots = 4, kGenerations = 2;

sdr_geometry geometry_of(uint32_t workers, uint32_t packets_per_chunk, uint64_t packets) {
  return {1024, packets_per_chunk, kSlots, kGenerations, workers, packets * 1024, {10, 18, 4}};
}

std::array<uint64_t, SDR_STEP_KINDS> counters(Rig& rig) {
  std::array<uint64_t, SDR_STEP_KINDS> counts{};
  rig.pair()->counters(counts.data());
  return counts;
}

// Until the condition holds; a device that hangs ends the test.
template <class Condition>
void wait_for(const char* what, Condition condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) check::fail(__FILE__, __LINE__, std::string("never: ") + what);
    std::this_thread::yield();
  }
}

bool taken(Rig& rig, uint32_t channel) {
  const uint32_t cq = rig.pair()->receive_cq(channel);
  return rig.device().consumed(cq) == (rig.device().produced(cq) & 0xffffff);
}

void produce_waiting(Rig& rig, uint32_t message, uint64_t bytes, uint32_t packet) {
  const uint32_t channel = packet % rig.geometry().channels, cq = rig.pair()->receive_cq(channel);
  const uint32_t room = 1u << rig.pair()->receive_log();
  wait_for("room in the ring", [&] {
    return ((rig.device().produced(cq) - rig.device().consumed(cq)) & 0xffffff) < room;
  });
  CHECK(rig.produce(message, bytes, packet) == Produced::written);
}

// One message of all its packets, some of them twice, in an order that has workers meet in words and lines.
uint64_t race_message(Rig& rig, uint32_t message, std::mt19937& random) {
  const uint64_t bytes = rig.geometry().max_message_bytes;
  const auto packets = static_cast<uint32_t>(bytes / 1024);
  const uint32_t channels = rig.geometry().channels;
  bool complete = false;
  CHECK_EQ(rig.pair()->post(message, nullptr, bytes, nullptr, 0), SDR_OK);
  const bool early = random() % 2 == 0;
  if (early) CHECK_EQ(rig.pair()->set_length(message, bytes, &complete), SDR_OK);
  std::vector<std::thread> cards;
  std::vector<uint64_t> extra(channels);
  for (uint32_t channel = 0; channel < channels; channel++) {
    const uint32_t seed = random();
    cards.emplace_back([&, channel, seed] {
      std::mt19937 own(seed);
      for (uint32_t packet = channel; packet < packets; packet += channels) {
        produce_waiting(rig, message, bytes, packet);
        if (own() % 64 != 0) continue;
        produce_waiting(rig, message, bytes, packet);
        extra[channel]++;
      }
    });
  }
  if (!early) CHECK_EQ(rig.pair()->set_length(message, bytes, &complete), SDR_OK);
  for (std::thread& card : cards) card.join();
  uint64_t sum = 0;
  for (uint32_t channel = 0; channel < channels; channel++) {
    wait_for("all completions taken", [&] { return taken(rig, channel); });
    sum += extra[channel];
  }
  if (!complete) {
    bool reported = false;
    wait_for("the message to be reported complete", [&] {
      std::vector<DevicePair::Change> changes;
      rig.pair()->take_changes(&changes);
      for (const auto& change : changes) reported |= change.message == message && change.complete;
      return reported;
    });
  }
  const std::string wrong = rig.verify(message, bytes);
  if (!wrong.empty()) check::fail(__FILE__, __LINE__, wrong);
  CHECK_EQ(rig.pair()->complete(message), SDR_OK);
  return sum;
}

}  // namespace

TEST(no_bit_is_lost_or_doubled_with_wraps_and_races) {
  const char* asked = std::getenv("SDR_DPA_COMPLETIONS");
  const uint64_t wanted = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 10'000'000;
  for (const uint32_t packets_per_chunk : {1u, 16u, 100u}) {
    Rig rig(geometry_of(2, packets_per_chunk, 1 << 17), 2, 10);
    CHECK(rig.pair() != nullptr);
    rig.device().watch_lines();
    std::mt19937 random(packets_per_chunk);
    uint64_t done = 0, duplicates = 0;
    uint32_t message = 0;
    for (; done < wanted / 3; message++) {
      const uint64_t twice = race_message(rig, message, random);
      duplicates += twice;
      done += (1 << 17) + twice;
    }
    const auto counts = counters(rig);
    const uint64_t chunks = ((1 << 17) + packets_per_chunk - 1) / packets_per_chunk;
    CHECK_EQ(counts[SDR_STEP_CHUNK] + counts[SDR_STEP_MESSAGE] + counts[SDR_STEP_PACKET], uint64_t{message} << 17);
    CHECK_EQ(counts[SDR_STEP_DUPLICATE], duplicates);
    CHECK(counts[SDR_STEP_CHUNK] + counts[SDR_STEP_MESSAGE] <= message * chunks);
    CHECK_EQ(rig.device().line_conflicts(), 0u);
    CHECK_EQ(rig.device().window_faults(), 0u);
    std::printf("  %llu completions, %u packets a chunk, %u messages\n", static_cast<unsigned long long>(done),
                packets_per_chunk, message);
  }
}

TEST(a_ring_that_wraps_many_times_is_read_to_the_end) {
  Rig rig(geometry_of(1, 4, 4096), 0, 6);  // 128 entries at most
  rig.run(0);
  bool complete = false;
  CHECK_EQ(rig.pair()->post(0, nullptr, 4096 * 1024, nullptr, 0), SDR_OK);
  CHECK_EQ(rig.pair()->set_length(0, 4096 * 1024, &complete), SDR_OK);
  for (uint32_t packet = 0; packet < 4096; packet++) {
    CHECK(rig.produce(0, 4096 * 1024, packet) == Produced::written);
    if (packet % 37 == 0 || packet == 4095) rig.run(0);
  }
  CHECK_EQ(rig.verify(0, 4096 * 1024), std::string());
  CHECK(rig.device().produced(rig.pair()->receive_cq(0)) >= 32u << rig.pair()->receive_log());
}

TEST(a_completion_with_error_is_counted_and_reported_and_the_rest_goes_on) {
  Rig rig(geometry_of(1, 2, 4), 0, 10);
  bool complete = false;
  CHECK_EQ(rig.pair()->post(0, nullptr, 4096, nullptr, 0), SDR_OK);
  CHECK_EQ(rig.pair()->set_length(0, 4096, &complete), SDR_OK);
  sdr_dpa_cqe broken = rig.completion_of(sdr_tx_make(&rig.geometry(), 0, 4096, 1, 0));
  broken.op_own = SDR_DPA_CQE_RECEIVE_ERROR << 4;
  broken.syndrome = 0x13;
  CHECK(rig.produce(0, 4096, 0) == Produced::written);
  CHECK(rig.device().produce(rig.pair()->receive_cq(0), broken) == Produced::written);
  for (uint32_t packet = 1; packet < 4; packet++) CHECK(rig.produce(0, 4096, packet) == Produced::written);
  const uint32_t wakes = rig.wakes();
  rig.run(0);
  CHECK(rig.wakes() > wakes);
  std::vector<DevicePair::Change> changes;
  rig.pair()->take_changes(&changes);
  const WorkerCounts counts = rig.pair()->worker_counts();
  CHECK_EQ(counts.errors, 1u);
  CHECK_EQ(counts.error_syndrome, 0x13u);
  CHECK_EQ(counts.error_queue, rig.pair()->queue_number(0, 0));
  CHECK_EQ(counts.completions, 5u);
  CHECK_EQ(rig.verify(0, 4096), std::string());
}

TEST(a_completion_of_a_queue_that_is_not_ours_touches_no_bit) {
  Rig rig(geometry_of(1, 2, 4), 0, 10);
  CHECK_EQ(rig.pair()->post(0, nullptr, 4096, nullptr, 0), SDR_OK);
  sdr_dpa_cqe foreign = rig.completion_of(sdr_tx_make(&rig.geometry(), 0, 4096, 0, 0));
  foreign.queue = __builtin_bswap32(0xabcdef);
  CHECK(rig.device().produce(rig.pair()->receive_cq(0), foreign) == Produced::written);
  rig.run(0);
  std::vector<DevicePair::Change> changes;
  rig.pair()->take_changes(&changes);
  CHECK_EQ(rig.pair()->worker_counts().unknown_queue, 1u);
  for (const uint64_t count : counters(rig)) CHECK_EQ(count, 0u);
}

TEST(completions_of_another_generation_or_after_completion_are_late) {
  Rig rig(geometry_of(1, 2, 4), 0, 10);
  CHECK_EQ(rig.pair()->post(0, nullptr, 4096, nullptr, 0), SDR_OK);
  CHECK(rig.produce(kSlots, 4096, 0) == Produced::written);  // the slot's next life
  rig.run(0);
  CHECK_EQ(counters(rig)[SDR_STEP_LATE], 1u);
  CHECK(rig.produce(0, 4096, 0) == Produced::written);
  rig.run(0);
  CHECK_EQ(rig.pair()->complete(0), SDR_OK);
  CHECK(rig.produce(0, 4096, 1) == Produced::written);
  rig.run(0);
  CHECK_EQ(counters(rig)[SDR_STEP_LATE], 2u);
  CHECK_EQ(counters(rig)[SDR_STEP_PACKET], 1u);
}

TEST(a_worker_that_stops_leaves_its_ring_to_overrun_and_the_other_worker_goes_on) {
  Rig rig(geometry_of(2, 2, 1 << 12), 2, 6);
  const uint64_t bytes = uint64_t{1 << 12} * 1024;
  CHECK_EQ(rig.pair()->post(0, nullptr, bytes, nullptr, 0), SDR_OK);
  rig.device().stop_handler(rig.pair()->receive_handler(0));
  uint32_t written = 0;
  while (rig.produce(0, bytes, 2 * written) == Produced::written) written++;
  CHECK_EQ(written, 1u << rig.pair()->receive_log());
  CHECK(rig.produce(0, bytes, 0) == Produced::overrun);  // and stays so
  for (uint32_t packet = 1; packet < 1 << 12; packet += 2) produce_waiting(rig, 0, bytes, packet);
  wait_for("the other worker", [&] { return taken(rig, 1); });
  CHECK_EQ(counters(rig)[SDR_STEP_PACKET], uint64_t{1} << 11);
  CHECK_EQ(rig.pair()->complete(0), SDR_OK);  // the control path needs no worker
}

TEST(a_device_that_does_not_answer_is_closed_to_the_host) {
  Rig rig(geometry_of(1, 2, 4), 1, 10);
  rig.platform().fail_calls();
  CHECK_EQ(rig.pair()->post(0, nullptr, 4096, nullptr, 0), SDR_CLOSED);
  bool complete = false;
  CHECK_EQ(rig.pair()->set_length(0, 4096, &complete), SDR_CLOSED);
  CHECK_EQ(rig.pair()->complete(0), SDR_CLOSED);
}

TEST(a_queue_pair_that_is_gone_leaves_nothing_in_the_device) {
  EmulatedPlatform platform(1);
  PairOptions options;
  options.geometry = geometry_of(1, 2, 4);
  for (int round = 0; round < 3; round++) {
    sdr_status status = SDR_OK;
    const auto pair = DevicePair::create(platform, options, &status);
    CHECK_EQ(status, SDR_OK);
    CHECK(platform.device().objects() > 10);
    pair->stop();
    // Its handlers are no more: activating one, as a late event would, runs nothing.
    const uint64_t ran = platform.device().activations();
    platform.device().activate(pair->receive_handler(0));
    platform.device().run(pair->packetise_handler(0));
    CHECK_EQ(platform.device().activations(), ran);
  }
  CHECK_EQ(platform.device().objects(), 0u);
}

namespace {

alignas(64) uint64_t shared_line[8];
uint32_t shared_key;

// Two steps of a handler that writes one word of a line: it has the line, then gives it back.
void write_first_word(uint64_t value) {
  flexio_uintptr_t at = 0;
  flexio_dev_window_config(FLEXIO_DEV_WINDOW_ENTITY_0, 0, shared_key);
  CHECK_EQ(flexio_dev_window_ptr_acquire(FLEXIO_DEV_WINDOW_ENTITY_0, reinterpret_cast<uint64_t>(shared_line), &at),
           FLEXIO_DEV_STATUS_SUCCESS);
  *reinterpret_cast<uint64_t*>(at) = value;
  shared_line[1] = 77;  // the host, meanwhile
  __dpa_thread_window_writeback();
}

}  // namespace

TEST(the_emulated_window_writes_back_whole_lines_as_the_device_does) {
  EmulatedDevice device(0);
  shared_key = device.add_window(shared_line, sizeof(shared_line));
  std::fill(std::begin(shared_line), std::end(shared_line), 5);
  device.run(device.add_handler(write_first_word, 9, 0));
  CHECK_EQ(shared_line[0], 9u);
  CHECK_EQ(shared_line[1], 5u);  // what the host wrote is gone: hence one writer a line
  CHECK_EQ(device.window_faults(), 0u);
}
