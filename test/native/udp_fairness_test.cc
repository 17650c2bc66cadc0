// Queue pairs that share a channel, by the order in which their work is injected: counts only, no time.
#include <thread>

#include "transport/udp_batch.h"
#include "udp_pair.h"

using namespace sdr;
using namespace sdr::test;

namespace {

// Holds the channel's thread in its call of `wake`, so that queue pairs can be given work at one moment.
struct Gate {
  std::mutex mutex;
  std::condition_variable changed;
  bool shut = false, held = false;
  void pass() {
    std::unique_lock lock(mutex);
    held = shut;
    changed.notify_all();
    changed.wait(lock, [&] { return !shut; });
    held = false;
  }
  void shut_and_wait(const std::function<void()>& provoke) {
    std::unique_lock lock(mutex);
    shut = true;
    lock.unlock();
    provoke();
    lock.lock();
    CHECK(changed.wait_for(lock, kPatience, [&] { return held; }));
  }
  void open() {
    const std::lock_guard lock(mutex);
    shut = false;
    changed.notify_all();
  }
};

// A socket that nobody reads.
struct Sink {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in at{};
  Sink() {
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof at;
    CHECK_EQ(bind(fd, reinterpret_cast<sockaddr*>(&at), length), 0);
    CHECK_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&at), &length), 0);
  }
  ~Sink() { close(fd); }
  uint16_t port() const { return ntohs(at.sin_port); }
};

}  // namespace

TEST(queue_pairs_with_work_are_served_in_turn) {
  constexpr uint32_t kQueuePairs = 3, kRequests = 40;
  for (const uint32_t packet_bytes : {1400u, 8900u}) {
    Gate gate;
    UdpError error;
    auto context = UdpContext::create({}, [&] { gate.pass(); }, &error);
    CHECK(context != nullptr);
    const Sink sink;
    const size_t whole = udp::SendBatch::packets_of(packet_bytes + kUdpHeaderBytes);
    const uint64_t bytes = 2 * whole * packet_bytes;     // of a request: what one turn takes
    Memory from(bytes * kRequests, 5);
    std::vector<QueuePair*> qps;
    for (uint32_t i = 0; i < kQueuePairs; i++) {
      QpConfig config;
      config.geometry = {packet_bytes, static_cast<uint32_t>(2 * whole), 8, 4, 1, 64u << 20, {10, 18, 4}};
      sdr_status status = SDR_OK;
      qps.push_back(context->create_qp(config, 100 + i, &status));
      CHECK_EQ(status, SDR_OK);
      CHECK_EQ(context->connect(qps[i]->id(), {{"127.0.0.1", sink.port()}}, 7, {}, 1), SDR_OK);
      CHECK_EQ(qps[i]->open_send(0, from.size, 0), SDR_OK);
    }
    gate.shut_and_wait([&] { CHECK_EQ(qps[0]->post_send(0, 999, from.region, 0, 0, bytes), SDR_OK); });
    for (QueuePair* qp : qps)
      for (uint32_t i = 0; i < kRequests; i++)
        CHECK_EQ(qp->post_send(0, i, from.region, i * bytes, i, bytes), SDR_OK);
    gate.open();
    std::map<uint32_t, uint32_t> done;
    std::vector<uint8_t> control(EventQueue::kControlBytesMax);
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    for (uint32_t total = 0; total < kQueuePairs * kRequests;) {
      CHECK(std::chrono::steady_clock::now() < limit);
      Event event;
      if (context->events().drain(&event, 1, control.data()) == 0) {
        std::this_thread::yield();
        continue;
      }
      if (event.type != static_cast<uint32_t>(EventType::injected) || event.value == 999) continue;
      CHECK_EQ(event.value, done[event.qp]);
      done[event.qp]++;
      total++;
      for (const QueuePair* qp : qps) CHECK(done[event.qp] <= done[qp->id()] + 1);
    }
  }
}
