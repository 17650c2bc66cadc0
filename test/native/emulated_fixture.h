// Two connected queue pairs in an emulated world, and a log of everything that they report.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "sdr/emulated.h"

namespace fixture {

inline constexpr uint32_t kInjected = 1, kProgress = 2, kControl = 3;

inline sdr_geometry geometry(uint32_t packet_bytes = 1000, uint32_t packets_per_chunk = 4) {
  sdr_geometry g{};
  g.packet_bytes = packet_bytes;
  g.packets_per_chunk = packets_per_chunk;
  g.slots = 8;
  g.generations = 4;
  g.channels = 2;
  g.max_message_bytes = 1 << 20;
  g.split = {10, 18, 4};
  return g;
}

inline sdr::LinkConfig link(double rate_bps, int64_t delay_ns) {
  sdr::LinkConfig config;
  config.rate_bps = rate_bps;
  config.delay_ns = delay_ns;
  return config;
}

// Real memory that frees itself; `filled` with bytes that depend on the seed.
inline sdr::RegionRef memory(uint64_t bytes, uint32_t seed = 0) {
  auto* region = new sdr::Region{new uint8_t[bytes](), bytes};
  uint64_t state = seed * 0x9e3779b97f4a7c15u;
  for (uint64_t i = 0; seed != 0 && i < bytes; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    region->base[i] = static_cast<uint8_t>(state >> 56);
  }
  return sdr::RegionRef(region, [](const sdr::Region* r) {
    delete[] r->base;
    delete r;
  });
}

// FNV-1a over the whole region.
inline uint64_t hash(const sdr::RegionRef& region) {
  uint64_t value = 0xcbf29ce484222325;
  for (uint64_t i = 0; i < region->bytes; i++) value = (value ^ region->base[i]) * 0x100000001b3;
  return value;
}

struct Settings {
  sdr::LinkConfig ab = link(8e9, 1'000'000), ba = link(8e9, 1'000'000);
  sdr_geometry geometry = fixture::geometry();
  uint64_t seed = 1;
  int64_t progress_interval_ns = 0;
  double rate_bps = 0;
  uint32_t work_requests_max = 256;
};

struct Pair {
  explicit Pair(const Settings& s) : world(s.seed, s.progress_interval_ns), control(1 << 20) {
    const uint32_t forth = world.add_link(s.ab), back = world.add_link(s.ba);
    const sdr::QpConfig config{s.geometry, s.rate_bps, s.work_requests_max};
    sdr_status status = SDR_INVALID;
    a = world.create_qp(config, &status);
    CHECK_EQ(status, SDR_OK);
    b = world.create_qp(config, &status);
    CHECK_EQ(status, SDR_OK);
    CHECK_EQ(world.connect(a->id(), b->id(), forth, back), SDR_OK);
  }

  // Drains what advance() left; returns the events of this batch. Control bodies go to `bodies`.
  std::vector<sdr::Event> step(int64_t limit_ns) {
    const size_t waiting = world.advance(limit_ns);
    CHECK_EQ(waiting, world.events().size());
    std::vector<sdr::Event> batch(waiting);
    CHECK_EQ(world.events().drain(batch.data(), waiting, control.data()), waiting);
    for (const sdr::Event& event : batch) {
      log.push_back(event);
      if (event.type == kControl) {
        const auto* begin = control.data() + static_cast<size_t>(event.extra);
        bodies.emplace_back(begin, begin + event.value);
      }
    }
    return batch;
  }
  void run() {
    while (!world.idle()) step(INT64_MAX);
  }
  std::vector<sdr::Event> of(uint32_t type) const {
    std::vector<sdr::Event> chosen;
    for (const sdr::Event& event : log) {
      if (event.type == type) chosen.push_back(event);
    }
    return chosen;
  }
  // Posts, announces and sends a whole message from a to b as one work request.
  void send(uint32_t message, uint64_t bytes, sdr::RegionRef from = nullptr,
            sdr::RegionRef to = nullptr) {
    bool complete = false;
    CHECK_EQ(b->post_receive(message, std::move(to), 0, bytes), SDR_OK);
    CHECK_EQ(b->set_length(message, bytes, &complete), SDR_OK);
    CHECK_EQ(complete, bytes == 0);
    CHECK_EQ(a->open_send(message, bytes, 0), SDR_OK);
    if (bytes > 0) CHECK_EQ(a->post_send(message, message, std::move(from), 0, 0, bytes), SDR_OK);
  }
  bool is_complete(uint32_t message) {
    sdr_rx_progress progress{};
    CHECK_EQ(b->engine().progress(message, &progress), SDR_OK);
    return progress.complete;
  }

  sdr::EmulatedWorld world;
  std::vector<uint8_t> control;
  sdr::QueuePair *a = nullptr, *b = nullptr;
  std::vector<sdr::Event> log;
  std::vector<std::vector<uint8_t>> bodies;
};

inline std::string text(const std::vector<sdr::Event>& log) {
  std::string result;
  for (const sdr::Event& e : log) {
    for (const uint32_t field : {e.type, e.qp, e.message, e.value})
      result += std::to_string(field) + ' ';
    result += std::to_string(static_cast<int64_t>(e.time_ns)) + '\n';
  }
  return result;
}

}  // namespace fixture
