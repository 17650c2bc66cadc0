// The DPA program under emulation: completions a second that the device's receive worker takes from its ring, one and
// two workers, a thread each. Rings are filled outside of the timed part (a card would do it); what is timed is the
// handler: completion entries, step, bits, lines to the host, reports, doorbells, arming. Usage: dpa_bench [repeats].
// One JSON document on stdout; every bit, count and immediate is verified in the same run, and a wrong one ends it.
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "dpa/emulation/rig.h"

namespace {

using sdr::dpa::Produced;
using sdr::dpa::Rig;

constexpr uint32_t kPackets = 32768, kMessages = 64, kQueueLog = 12;
constexpr uint32_t kSlots = 16, kGenerations = 4;
constexpr int kDefaultRepeats = 9, kRepeatsMax = 1000;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "dpa_bench: %s\n", what.c_str());
  std::exit(1);
}
void require(bool holds, const char* what) {
  if (!holds) fail(what);
}

struct Result {
  double median, low, high, all;  // a worker; all: of the workers together, median
};

class Bench {
 public:
  Bench(uint32_t workers, uint32_t packets_per_chunk)
      : workers_(workers), rig_(geometry(workers, packets_per_chunk), 0, kQueueLog) {
    require(rig_.pair() != nullptr, "no memory");
    for (uint32_t worker = 0; worker < workers; worker++) rig_.run(worker);  // empty: arms
  }

  // Completions a second of each worker, over kMessages messages.
  std::vector<double> repeat() {
    std::vector<double> seconds(workers_);
    for (uint32_t count = 0; count < kMessages; count++) message(&seconds);
    std::vector<double> rates;
    for (const double spent : seconds) rates.push_back(double(kMessages) * kPackets / workers_ / spent);
    return rates;
  }

  void check_counters() {
    uint64_t counts[SDR_STEP_KINDS];
    rig_.pair()->counters(counts);
    const uint64_t chunks = kPackets / rig_.geometry().packets_per_chunk;
    const uint64_t wanted[SDR_STEP_KINDS] = {done_ * (kPackets - chunks), done_ * (chunks - 1), done_};
    require(std::equal(counts, counts + SDR_STEP_KINDS, wanted), "counters are wrong");
    std::vector<sdr::dpa::DevicePair::Change> changes;
    rig_.pair()->take_changes(&changes);
    require(rig_.pair()->worker_counts().completions == done_ * kPackets, "reports miss completions");
    require(rig_.pair()->worker_counts().errors == 0, "errors were reported");
  }

 private:
  static sdr_geometry geometry(uint32_t workers, uint32_t packets_per_chunk) {
    return {4096, packets_per_chunk, kSlots, kGenerations, workers, uint64_t{kPackets} * 4096, {10, 18, 4}};
  }

  void message(std::vector<double>* seconds) {
    const uint64_t bytes = rig_.geometry().max_message_bytes;
    bool complete = true;
    require(rig_.pair()->post(next_, nullptr, bytes, nullptr, 0) == SDR_OK, "post failed");
    require(rig_.pair()->set_length(next_, bytes, &complete) == SDR_OK && !complete, "set_length failed");
    const uint32_t part = workers_ << kQueueLog;
    for (uint32_t first = 0; first < kPackets; first += part) {
      for (uint32_t packet = first; packet < first + part; packet++)
        require(rig_.produce(next_, bytes, packet) == Produced::written, "the ring is full");
      take(seconds);
    }
    const std::string wrong = rig_.verify(next_, bytes);
    if (!wrong.empty()) fail(wrong);
    require(rig_.pair()->complete(next_) == SDR_OK, "complete failed");
    next_++;
    done_++;
  }

  // Both rings, filled, to the end.
  void take(std::vector<double>* seconds) {
    if (workers_ == 1) {
      (*seconds)[0] += run(0);
      return;
    }
    std::barrier start(static_cast<std::ptrdiff_t>(workers_));
    std::vector<std::thread> threads;
    for (uint32_t worker = 0; worker < workers_; worker++)
      threads.emplace_back([&, worker] {
        start.arrive_and_wait();
        (*seconds)[worker] += run(worker);
      });
    for (std::thread& thread : threads) thread.join();
  }

  double run(uint32_t worker) {
    const uint32_t cq = rig_.pair()->receive_cq(worker);
    const uint32_t all = rig_.device().produced(cq) & 0xffffff;
    const auto begin = std::chrono::steady_clock::now();
    while (rig_.device().consumed(cq) != all) rig_.run(worker);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  const uint32_t workers_;
  Rig rig_;
  uint32_t next_ = 0;
  uint64_t done_ = 0;
};

Result measure(uint32_t workers, uint32_t packets_per_chunk, int repeats) {
  Bench bench(workers, packets_per_chunk);
  bench.repeat();  // warm
  std::vector<double> each, all;
  for (int index = 0; index < repeats; index++) {
    double sum = 0;
    for (const double rate : bench.repeat()) {
      each.push_back(rate);
      sum += rate;
    }
    all.push_back(sum);
  }
  bench.check_counters();
  std::sort(each.begin(), each.end());
  std::sort(all.begin(), all.end());
  return {each[each.size() / 2], each.front(), each.back(), all[all.size() / 2]};
}

}  // namespace

int main(int argc, char** argv) {
  const int repeats = argc > 1 ? std::atoi(argv[1]) : kDefaultRepeats;
  if (repeats < 1 || repeats > kRepeatsMax) {
    std::fprintf(stderr, "usage: dpa_bench [repeats 1..%d]\n", kRepeatsMax);
    return 2;
  }
  std::printf("{\"bench\":\"dpa\",\"device\":\"dpa-emulated\",\"command\":\"dpa_bench %d\",\"packetsPerMessage\":%u,"
              "\"messagesPerRepeat\":%u,\"results\":[",
              repeats, kPackets, kMessages);
  bool first = true;
  for (const uint32_t workers : {1u, 2u}) {
    for (const uint32_t packets_per_chunk : {1u, 16u, 64u}) {
      const Result result = measure(workers, packets_per_chunk, repeats);
      std::printf("%s{\"workers\":%u,\"packetsPerChunk\":%u,\"completionsPerSecondEach\":%.0f,\"min\":%.0f,"
                  "\"max\":%.0f,\"completionsPerSecondTogether\":%.0f}",
                  first ? "" : ",", workers, packets_per_chunk, result.median, result.low, result.high, result.all);
      std::fflush(stdout);
      first = false;
    }
  }
  std::printf("],\"verified\":true}\n");
  return 0;
}
