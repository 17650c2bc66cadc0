// How many completions a second one worker steps. Messages are recycled through slots and
// generations: post, announce the length, step every packet, check, complete. Prints one JSON
// object; exits with 1 when any bitmap, counter or result is not what it must be.
//   engine_bench [repeats]
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "sdr/engine.h"

namespace {

constexpr uint32_t kPackets = 1u << 15;  // a message: 128 MiB of 4 KiB packets
constexpr uint32_t kMessages = 256;      // stepped in one repeat: 8 M completions
constexpr uint32_t kSlots = 8, kGenerations = 4;
constexpr uint32_t kRepeatsMax = 1000;
constexpr int kDefaultRepeats = 15;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "engine_bench: %s\n", what);
  std::exit(1);
}
void require(bool holds, const char* what) {
  if (!holds) fail(what);
}

// How the completions reach the step.
enum class Mode { known, unknown, shared };

struct Setting {
  const char* name;
  uint32_t packets_per_chunk;
  Mode mode;
};

struct Result {
  double median, low, high;
};

sdr_geometry geometry_of(const Setting& setting) {
  sdr_geometry geometry{};
  geometry.packet_bytes = 4096;
  geometry.packets_per_chunk = setting.packets_per_chunk;
  geometry.slots = kSlots;
  geometry.generations = kGenerations;
  geometry.channels =
      setting.mode == Mode::shared ? 2 : 1;  // two channels, one at work: the shared path's price
  geometry.max_message_bytes = uint64_t{kPackets} * geometry.packet_bytes;
  geometry.split = {10, 18, 4};
  return geometry;
}

class Run {
 public:
  explicit Run(const Setting& setting) : setting_(setting), geometry_(geometry_of(setting)) {
    require(sdr_rx_create(&geometry_, &rx_) == SDR_OK, "sdr_rx_create failed");
    // One life of every slot in every generation, made beforehand: the step alone is timed.
    for (uint32_t life = 0; life < kSlots * kGenerations; life++) {
      for (uint32_t packet = 0; packet < kPackets; packet++) {
        const sdr_tx_packet made =
            sdr_tx_make(&geometry_, life, geometry_.max_message_bytes, packet, kUser);
        completions_.push_back({made.queue, made.immediate, made.bytes});
      }
    }
  }
  ~Run() { sdr_rx_destroy(rx_); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // Completions a second over kMessages messages; posting and checking are not timed.
  double repeat() {
    std::chrono::nanoseconds spent{0};
    for (uint32_t count = 0; count < kMessages; count++) spent += message();
    check_counters();
    return double(kMessages) * kPackets / (double(spent.count()) * 1e-9);
  }

 private:
  static constexpr uint32_t kUser = 0xdeadbeef;

  std::chrono::nanoseconds message() {
    bool complete = true;
    const uint64_t bytes = geometry_.max_message_bytes;
    require(sdr_rx_post(rx_, next_, nullptr, bytes) == SDR_OK, "post failed");
    if (setting_.mode != Mode::unknown) {
      require(sdr_rx_set_length(rx_, next_, bytes, &complete) == SDR_OK && !complete,
              "set_length failed");
    }
    const sdr_completion* completion =
        completions_.data() + size_t{next_ % (kSlots * kGenerations)} * kPackets;
    uint32_t chunks = 0, messages = 0, packets = 0;
    const auto begin = std::chrono::steady_clock::now();
    sdr_rx_enter(rx_, 0);
    for (uint32_t packet = 0; packet < kPackets; packet++) {
      const sdr_step step = sdr_rx_step(rx_, 0, completion + packet, nullptr);
      packets += step == SDR_STEP_PACKET;
      chunks += step == SDR_STEP_CHUNK;
      messages += step == SDR_STEP_MESSAGE;
    }
    sdr_rx_leave(rx_, 0);
    const auto spent = std::chrono::steady_clock::now() - begin;
    if (setting_.mode == Mode::unknown) {
      require(sdr_rx_set_length(rx_, next_, bytes, &complete) == SDR_OK && complete,
              "set_length did not complete");
      expected_[SDR_STEP_CHUNK]++;
    } else {
      require(messages == 1, "the message was not reported complete once");
      expected_[SDR_STEP_MESSAGE]++;
    }
    const uint32_t total = kPackets / setting_.packets_per_chunk;
    require(chunks + messages == total && packets == kPackets - total, "steps miscounted");
    expected_[SDR_STEP_CHUNK] += total - 1;
    expected_[SDR_STEP_PACKET] += kPackets - total;
    check_bitmaps(total);
    require(sdr_rx_complete(rx_, next_) == SDR_OK, "complete failed");
    require(sdr_rx_step(rx_, 0, completion, nullptr) == SDR_STEP_LATE,
            "a late packet was not late");
    expected_[SDR_STEP_LATE]++;
    next_++;
    return std::chrono::duration_cast<std::chrono::nanoseconds>(spent);
  }

  void check_bitmaps(uint32_t total) {
    const sdr_bitmap_slab slab = sdr_rx_bitmaps(rx_);
    const uint8_t* bits = slab.base + (next_ % kSlots) * slab.stride;
    for (uint32_t byte = 0; byte < total / 8; byte++)
      require(bits[byte] == 0xff, "a chunk bit is missing");
    uint64_t word = 0;
    const uint32_t per_chunk = setting_.packets_per_chunk;
    const uint64_t full = per_chunk == 64 ? ~uint64_t{0} : (uint64_t{1} << per_chunk) - 1;
    for (uint32_t chunk = 0; chunk < total; chunk++) {
      require(sdr_rx_chunk_expand(rx_, next_, chunk, &word, 1) == SDR_OK && word == full,
              "a packet bit is missing");
    }
    sdr_rx_progress progress;
    require(sdr_rx_progress_get(rx_, next_, &progress) == SDR_OK && progress.complete &&
                progress.chunks_done == total && progress.chunks_total == total,
            "progress is wrong");
    uint32_t user = 0;
    require(sdr_rx_user_immediate(rx_, next_, &user) && user == kUser,
            "the user immediate is wrong");
  }

  void check_counters() {
    uint64_t counts[SDR_STEP_KINDS];
    sdr_rx_counters(rx_, counts);
    require(std::memcmp(counts, expected_, sizeof(counts)) == 0, "counters are wrong");
  }

  Setting setting_;
  sdr_geometry geometry_;
  sdr_rx* rx_ = nullptr;
  std::vector<sdr_completion> completions_;
  uint64_t expected_[SDR_STEP_KINDS] = {};
  uint32_t next_ = 0;
};

Result measure(const Setting& setting, int repeats) {
  Run run(setting);
  run.repeat();  // warm: pages committed, caches and predictors filled
  std::vector<double> rates;
  for (int index = 0; index < repeats; index++) rates.push_back(run.repeat());
  std::sort(rates.begin(), rates.end());
  return {rates[rates.size() / 2], rates.front(), rates.back()};
}

std::string processor() {
  std::string name = "unknown";
  if (FILE* file = std::fopen("/proc/cpuinfo", "r")) {
    char line[256];
    while (std::fgets(line, sizeof(line), file)) {
      if (std::strncmp(line, "model name", 10) != 0) continue;
      if (const char* colon = std::strchr(line, ':'))
        name.assign(colon + 2, std::strcspn(colon + 2, "\"\\\n"));
      break;
    }
    std::fclose(file);
  }
  return name;
}

}  // namespace

int main(int argc, char** argv) {
  const int repeats = argc > 1 ? std::atoi(argv[1]) : kDefaultRepeats;
  if (repeats < 1 || repeats > int{kRepeatsMax}) {
    std::fprintf(stderr, "usage: engine_bench [repeats 1..%u]\n", kRepeatsMax);
    return 2;
  }
  // "length unknown" and "two channels" go through atomic read-modify-writes, "known" through plain
  // stores.
  const Setting settings[] = {
      {"step", 1, Mode::known},
      {"step", 16, Mode::known},
      {"step", 64, Mode::known},
      {"step, length unknown", 16, Mode::unknown},
      {"step, two channels", 16, Mode::shared},
  };
  std::printf("{\"bench\":\"engine\",\"machine\":\"%s\",\"command\":\"engine_bench %d\",",
              processor().c_str(), repeats);
  std::printf("\"packetsPerMessage\":%u,\"messagesPerRepeat\":%u,\"workers\":1,\"results\":[",
              kPackets, kMessages);
  bool first = true;
  for (const Setting& setting : settings) {
    const Result result = measure(setting, repeats);
    std::printf(
        "%s{\"name\":\"%s\",\"packetsPerChunk\":%u,\"completionsPerSecond\":%.0f,\"min\":%.0f,"
        "\"max\":%.0f}",
        first ? "" : ",", setting.name, setting.packets_per_chunk, result.median, result.low,
        result.high);
    first = false;
  }
  std::printf("],\"verified\":true}\n");
  return 0;
}
