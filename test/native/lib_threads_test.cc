// The C library from several threads: what sdr.h says may be shared is shared here, most of all
// under ThreadSanitizer.
#include <atomic>
#include <thread>

#include "lib_pair.h"

using namespace lib_test;

namespace {

constexpr uint32_t kMessageBytes = 5 * kChunk + 17;

// Sends `count` messages from `from` and gives each its number as immediate.
void send_many(const Side& from, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    sdr_send_wr wr = from.send_wr(kMessageBytes);
    wr.opcode = SDR_WR_WRITE_WITH_IMM;
    wr.imm_value = i;
    sdr_send_handle* handle = nullptr;
    int result = SDR_RETRY;
    while ((result = sdr_send_post(from.qp, &wr, &handle)) == SDR_RETRY) std::this_thread::yield();
    OK(result);
    int completed = 0;
    while ((result = sdr_send_poll(handle, &completed, nullptr)) == SDR_RETRY)
      std::this_thread::yield();
    OK(result);
  }
}

// Receives as many at `offset`, looking at the live bitmap only.
void receive_many(const Side& to, uint32_t count, size_t offset) {
  for (uint32_t i = 0; i < count; i++) {
    sdr_recv_wr wr = to.recv_wr(kMessageBytes, offset);
    sdr_recv_handle* handle = nullptr;
    OK(sdr_recv_post(to.qp, &wr, &handle));
    uint32_t immediate = 0;
    int result = SDR_RETRY;
    while ((result = sdr_recv_imm_get(handle, &immediate)) == SDR_RETRY) std::this_thread::yield();
    OK(result);
    CHECK_EQ(immediate, i);
    uint8_t* bitmap = nullptr;
    size_t bytes = 0;
    OK(sdr_recv_bitmap_get(handle, &bitmap, &bytes));
    CHECK_EQ(bytes, size_t{1});
    for (uint32_t chunk = 0; chunk < 6;) {
      if (bit(bitmap, chunk))
        chunk++;
      else
        std::this_thread::yield();
    }
    OK(sdr_recv_complete(handle));
  }
}

}  // namespace

TEST(both_directions_of_a_queue_pair_are_driven_by_threads_of_their_own_while_another_looks) {
  for (const char* device : {"udp", "emu"}) {
    Pair pair(device);
    pair.connect();
    std::atomic<bool> stop{false};
    std::thread looks([&] {
      while (!stop.load()) {
        sdr_ext_stats stats{};
        int64_t ns = 0;
        OK(sdr_ext_stats_get(pair.a.qp, &stats, sizeof stats));
        OK(sdr_ext_qp_rtt_ns(pair.b.qp, &ns));
        OK(sdr_ext_now_ns(pair.b.ctx, &ns));
        CHECK(sdr_ext_wait(pair.a.ctx, 1'000'000) != SDR_ERROR);
      }
    });
    constexpr uint32_t kCount = 50;
    std::thread threads[] = {
        std::thread([&] { send_many(pair.a, kCount); }),
        std::thread([&] { receive_many(pair.b, kCount, pair.b.memory.size() / 2); }),
        std::thread([&] { send_many(pair.b, kCount); }),
        std::thread([&] { receive_many(pair.a, kCount, pair.a.memory.size() / 2); })};
    for (std::thread& thread : threads) thread.join();
    stop.store(true);
    looks.join();
    CHECK(std::memcmp(pair.a.memory.data(), pair.b.memory.data() + pair.b.memory.size() / 2,
                      kMessageBytes) == 0);
  }
}

TEST(queue_pairs_of_one_context_are_made_used_and_destroyed_by_many_threads) {
  Pair shared("udp", attributes(), 1 << 20, 2);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&] {
      for (int round = 0; round < 3; round++) {
        sdr_qp_attr attr = attributes();
        Side a, b;
        a.ctx = shared.a.ctx, b.ctx = shared.b.ctx;
        for (Side* side : {&a, &b}) {
          side->qp = sdr_qp_create(side->ctx, &attr);
          CHECK(side->qp != nullptr);
          side->memory.resize(64 << 10);
          side->mr = sdr_mr_reg(side->ctx, side->memory.data(), side->memory.size(),
                                SDR_ACCESS_REMOTE_WRITE);
          CHECK(side->mr != nullptr);
          OK(sdr_mr_lkey_get(side->mr, &side->key));
        }
        std::vector<char> info(Pair::size_of(a.qp));
        OK(sdr_qp_info_get(a.qp, info.data()));
        OK(sdr_qp_connect(b.qp, info.data()));
        OK(sdr_qp_info_get(b.qp, info.data()));
        OK(sdr_qp_connect(a.qp, info.data()));
        std::thread sends([&] { send_many(a, 5); });
        receive_many(b, 5, 0);
        sends.join();
        for (Side* side : {&a, &b}) {
          OK(sdr_qp_destroy(side->qp));
          OK(sdr_mr_dereg(side->mr));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(each_thread_has_a_last_error_of_its_own) {
  CHECK(sdr_context_create("tcp:x", nullptr) == nullptr);
  std::thread other([] {
    CHECK(sdr_ext_error_code() == SDR_EXT_NONE);
    CHECK_EQ(std::string(sdr_ext_error_text()), std::string());
    FAILS(sdr_recv_complete(nullptr), SDR_EXT_INVALID_ARGUMENT, "handle is NULL");
  });
  other.join();
  check_error(__FILE__, __LINE__, SDR_EXT_INVALID_ARGUMENT, "tcp:x");
}
