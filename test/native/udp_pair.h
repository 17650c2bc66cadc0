// Two connected UDP contexts of one process, memory with guards, a raw socket: what the UDP tests are made of.
#pragma once

#include "sdr/udp.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <random>

#include "check.h"
#include "transport/udp_wire.h"

namespace sdr::test {

inline constexpr uint64_t kKeyA = 0x1122334455667788, kKeyB = 0x99aabbccddeeff01;
inline constexpr auto kPatience = std::chrono::seconds(60);
// Datagrams of up to 1400 bytes that any socket buffer holds while its thread does not run: a test whose datagrams must
// all arrive has no more under way. Unprivileged sockets often get no more than 208 KiB, of which each takes
// 2304 bytes.
inline constexpr uint64_t kDatagramsSafe = 60;

struct End {
  std::unique_ptr<UdpContext> context;
  QueuePair* qp = nullptr;
  std::vector<Event> events;  // all that ever came
  std::vector<std::vector<uint8_t>> controls;
  std::vector<uint8_t> control_buffer = std::vector<uint8_t>(EventQueue::kControlBytesMax);

  void drain() {
    Event some[64];
    while (const size_t count = context->events().drain(some, 64, control_buffer.data())) {
      for (size_t i = 0; i < count; i++) {
        events.push_back(some[i]);
        if (some[i].type != static_cast<uint32_t>(EventType::control)) continue;
        const uint8_t* body = control_buffer.data() + static_cast<size_t>(some[i].extra);
        controls.emplace_back(body, body + some[i].value);
      }
    }
  }
  size_t count(EventType type, uint32_t message) const {
    return static_cast<size_t>(std::count_if(events.begin(), events.end(), [&](const Event& e) {
      return e.type == static_cast<uint32_t>(type) && e.message == message;
    }));
  }
  bool is_complete(uint32_t message) const {
    return std::any_of(events.begin(), events.end(), [&](const Event& e) {
      return e.type == static_cast<uint32_t>(EventType::progress) && e.message == message && e.value == 1;
    });
  }
};

struct Setup {
  std::string address = "127.0.0.1";
  uint32_t channels = 1;
  bool gso = true, gro = true;
  uint32_t packet_bytes = 1400, packets_per_chunk = 16;
  double rate_bps = 0;
  LinkConfig link{};  // of both directions
  uint32_t work_requests_max = 256;
  uint32_t slots = 8, generations = 4;
  uint64_t max_message_bytes = 64u << 20;
  UdpOptions options() const {
    UdpOptions o;
    o.address = address, o.channels = channels, o.allow_gso = gso, o.allow_gro = gro;
    return o;
  }
};

// Two connected ends; `wake` of either wakes wait().
struct Pair {
  std::mutex mutex;
  std::condition_variable woken;
  uint64_t wakes = 0;
  End a, b;
  Setup setup;

  explicit Pair(Setup with) : setup(std::move(with)) {
    open(a, kKeyA);
    open(b, kKeyB);
    CHECK_EQ(a.context->connect(a.qp->id(), b.context->addresses(), kKeyB, setup.link, 1), SDR_OK);
    CHECK_EQ(b.context->connect(b.qp->id(), a.context->addresses(), kKeyA, setup.link, 2), SDR_OK);
  }
  void open(End& end, uint64_t key) {
    UdpError error;
    end.context = UdpContext::create(
        setup.options(),
        [this] {
          const std::lock_guard lock(mutex);
          wakes++;
          woken.notify_all();
        },
        &error);
    if (!end.context) check::fail(__FILE__, __LINE__, error.call + ": " + std::strerror(error.number));
    QpConfig config;
    config.geometry = {setup.packet_bytes, setup.packets_per_chunk, setup.slots, setup.generations,
                       setup.channels, setup.max_message_bytes, {10, 18, 4}};
    config.rate_bps = setup.rate_bps;
    config.work_requests_max = setup.work_requests_max;
    sdr_status status = SDR_OK;
    end.qp = end.context->create_qp(config, key, &status);
    CHECK_EQ(status, SDR_OK);
    CHECK(end.qp != nullptr);
  }
  // Until `done` holds; a wake-up, or 2 ms where the condition is not announced by one. Fails after kPatience.
  // Events are drained meanwhile unless `drain` is false.
  void wait(const char* what, const std::function<bool()>& done, bool drain = true) {
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    while (true) {
      uint64_t seen;
      {
        const std::lock_guard lock(mutex);
        seen = wakes;
      }
      if (drain) {
        a.drain();
        b.drain();
      }
      if (done()) return;
      if (std::chrono::steady_clock::now() > limit)
        check::fail(__FILE__, __LINE__, std::string("waited in vain for ") + what);
      std::unique_lock lock(mutex);
      woken.wait_for(lock, std::chrono::milliseconds(2), [&] { return wakes != seen; });
    }
  }
  uint32_t chunk_bytes() const { return setup.packet_bytes * setup.packets_per_chunk; }
  uint64_t packets(uint64_t bytes) const { return (bytes + setup.packet_bytes - 1) / setup.packet_bytes; }
};

// Memory with a guard pattern around it. It lives as long as the region, which packets on a link may hold longer than
// the test does; `released` turns true when the last reference goes.
struct Memory {
  static constexpr size_t kGuard = 4096;
  std::shared_ptr<std::vector<uint8_t>> bytes;
  size_t size;
  std::shared_ptr<std::atomic<bool>> released = std::make_shared<std::atomic<bool>>(false);
  RegionRef region;

  explicit Memory(size_t n, uint32_t seed = 0)
      : bytes(std::make_shared<std::vector<uint8_t>>(n + 2 * kGuard, uint8_t{0xee})), size(n) {
    if (seed != 0) {
      std::mt19937_64 random(seed);
      for (size_t i = 0; i < n; i++) (*bytes)[kGuard + i] = static_cast<uint8_t>(random());
    }
    region = RegionRef(new Region{bytes->data() + kGuard, n},
                       [flag = released, hold = bytes](const Region* gone) {
                         delete gone;
                         flag->store(true);
                       });
  }
  uint64_t hash() const {  // FNV-1a over all of it, guards included
    uint64_t h = 14695981039346656037u;
    for (const uint8_t byte : *bytes) h = (h ^ byte) * 1099511628211u;
    return h;
  }
};

inline bool chunk_done(QueuePair* qp, uint32_t message, uint32_t chunk) {
  const sdr_bitmap_slab slab = qp->engine().bitmaps();
  const uint8_t* base = slab.base + (message % qp->geometry().slots) * slab.stride;
  const auto* words = reinterpret_cast<const uint32_t*>(base);
  return (__atomic_load_n(&words[chunk >> 5], __ATOMIC_ACQUIRE) >> (chunk & 31) & 1) != 0;
}

inline void begin(Pair& pair, uint32_t message, const Memory& from, const Memory& to) {
  CHECK_EQ(pair.b.qp->post_receive(message, to.region, 0, to.size), SDR_OK);
  bool complete = false;
  CHECK_EQ(pair.b.qp->set_length(message, from.size, &complete), SDR_OK);
  CHECK_EQ(pair.a.qp->open_send(message, from.size, 0xabcd1234), SDR_OK);
}

inline void end(Pair& pair, uint32_t message, uint32_t work_requests) {
  pair.wait("the reports", [&] {
    return pair.b.is_complete(message) && pair.a.count(EventType::injected, message) >= work_requests;
  });
  CHECK_EQ(pair.a.count(EventType::injected, message), size_t{work_requests});
  CHECK_EQ(pair.a.qp->close_send(message), SDR_OK);
  CHECK_EQ(pair.b.qp->complete(message), SDR_OK);
}

// Over a clear link, up to kDatagramsSafe packets: each is sent once, so nothing is under way afterwards.
inline void deliver_once(Pair& pair, uint32_t message, const Memory& from, const Memory& to) {
  CHECK(pair.packets(from.size) <= kDatagramsSafe);
  begin(pair, message, from, to);
  CHECK_EQ(pair.a.qp->post_send(message, 0, from.region, 0, 0, from.size), SDR_OK);
  end(pair, message, 1);
}

inline constexpr uint32_t kRoundsMax = 20'000;  // of deliver(), each some chunks

// Posts missing chunks again and again, as a policy would, until the message is complete.
inline void deliver(Pair& pair, uint32_t message, const Memory& from, const Memory& to) {
  begin(pair, message, from, to);
  const uint64_t chunk = pair.chunk_bytes();
  const auto chunks = static_cast<uint32_t>((from.size + chunk - 1) / chunk);
  const uint64_t window = pair.b.context->capabilities().receive_buffer_bytes / 4;
  uint32_t work_request = 0;
  for (uint32_t round = 0; !pair.b.is_complete(message) && round < kRoundsMax; round++) {
    std::vector<uint32_t> posted;
    for (uint32_t c = 0; c < chunks && posted.size() * chunk <= window; c++) {
      if (chunk_done(pair.b.qp, message, c)) continue;
      const uint32_t first = c;
      do posted.push_back(c++);
      while (c < chunks && posted.size() * chunk <= window && !chunk_done(pair.b.qp, message, c));
      const uint64_t start = first * chunk, bytes = std::min<uint64_t>(c * chunk, from.size) - start;
      const sdr_status status = pair.a.qp->post_send(message, work_request, from.region, start, first, bytes);
      if (status == SDR_BUSY) break;
      CHECK_EQ(status, SDR_OK);
      work_request++;
    }
    pair.wait("injection", [&] { return pair.a.count(EventType::injected, message) >= work_request; });
    // What is on its way gets a while to land before it counts as lost.
    const auto lost = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
    pair.wait("arrival", [&] {
      return std::chrono::steady_clock::now() > lost ||
             std::all_of(posted.begin(), posted.end(), [&](uint32_t c) { return chunk_done(pair.b.qp, message, c); });
    });
  }
  end(pair, message, work_request);
}

inline void deliver_and_compare(const Setup& setup, size_t bytes, uint32_t messages = 3) {
  Pair pair(setup);
  for (uint32_t message = 0; message < messages; message++) {
    Memory from(bytes, 100 + message), to(bytes);
    deliver(pair, message, from, to);
    CHECK_EQ(to.hash(), from.hash());
  }
}

inline bool has_ipv6() {
  const int fd = socket(AF_INET6, SOCK_DGRAM, 0);
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_addr = in6addr_loopback;
  const bool works = fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any) == 0;
  if (fd >= 0) close(fd);
  return works;
}

// A plain socket that sends what it is told to one address.
struct Raw {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in to{};
  explicit Raw(const UdpAddress& address) {
    to.sin_family = AF_INET;
    to.sin_port = htons(address.port);
    inet_pton(AF_INET, address.address.c_str(), &to.sin_addr);
  }
  ~Raw() { close(fd); }
  void send(const void* bytes, size_t size) const {
    CHECK_EQ(sendto(fd, bytes, size, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to),
             static_cast<ssize_t>(size));
  }
};

inline std::vector<uint8_t> datagram(uint64_t key, const udp::Header& header, const std::vector<uint8_t>& payload) {
  std::vector<uint8_t> all(kUdpHeaderBytes + payload.size());
  udp::write_header(all.data(), key, header, payload.data(), payload.size());
  std::copy(payload.begin(), payload.end(), all.begin() + kUdpHeaderBytes);
  return all;
}

// Packet `packet` of a message, as a sender would make it.
inline std::vector<uint8_t> data_packet(const Pair& pair, uint32_t message, uint64_t bytes, uint32_t packet,
                                        uint8_t fill) {
  const sdr_tx_packet tx = sdr_tx_make(&pair.a.qp->geometry(), message, bytes, packet, 0);
  return datagram(kKeyB, {PacketKind::data, static_cast<uint16_t>(tx.queue), tx.immediate, message},
                  std::vector<uint8_t>(tx.bytes, fill));
}

}  // namespace sdr::test
