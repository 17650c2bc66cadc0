// The codec's threads: every job once and in turn, owners that end, and threads that end with the last of them.
#include "codec/pool.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <latch>

#include "check.h"

using sdr::codec::Pool;
using sdr::codec::PoolClient;

namespace {

#if defined(__linux__)
// Threads of pools in this process.
long thread_count() {
  long count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    // None of a thread that ended meanwhile.
    std::getline(std::ifstream(task.path() / "comm"), name);
    count += name == "sdr-codec";
  }
  return count;
}

// A thread that was joined leaves the system's list a moment later.
bool comes_to(long threads) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (thread_count() != threads)
    if (std::chrono::steady_clock::now() > deadline) return false;
  return true;
}
#endif

struct Setting {
  explicit Setting(const char* value) { setenv("SDR_CODEC_THREADS", value, 1); }
  ~Setting() { unsetenv("SDR_CODEC_THREADS"); }
};

}  // namespace

TEST(one_thread_runs_jobs_in_the_order_of_posting) {
  auto pool = std::make_shared<Pool>(1);
  std::vector<int> ran;
  std::latch done(3);
  PoolClient a(pool), b(pool);
  for (int i = 0; i < 3; i++)
    (i == 1 ? b : a).post([&ran, &done, i] {
      ran.push_back(i);
      done.count_down();
    });
  done.wait();
  CHECK_EQ(ran.size(), 3u);
  for (int i = 0; i < 3; i++) CHECK_EQ(ran[static_cast<size_t>(i)], i);
}

TEST(every_job_of_many_owners_on_many_threads_runs_once) {
  constexpr int kOwners = 6, kJobs = 2000;
  auto pool = std::make_shared<Pool>(4);
  std::vector<std::atomic<int>> runs(kOwners * kJobs);
  std::vector<std::thread> owners;
  for (int owner = 0; owner < kOwners; owner++)
    owners.emplace_back([&, owner] {
      PoolClient client(pool);
      std::latch done(kJobs);
      for (int i = 0; i < kJobs; i++)
        CHECK(client.post([&, i] {
          runs[static_cast<size_t>(owner * kJobs + i)]++;
          done.count_down();
        }));
      done.wait();
    });
  for (auto& owner : owners) owner.join();
  for (const auto& count : runs) CHECK_EQ(count.load(), 1);
}

TEST(jobs_run_at_the_same_time_up_to_the_number_of_threads) {
  constexpr int kThreads = 3;
  auto pool = std::make_shared<Pool>(kThreads);
  PoolClient client(pool);
  // Each waits for all: ends only when every one has a thread of its own.
  std::latch together(kThreads), done(kThreads);
  for (int i = 0; i < kThreads; i++)
    client.post([&] {
      together.arrive_and_wait();
      done.count_down();
    });
  done.wait();
}

TEST(stop_drops_what_has_not_begun_and_waits_for_what_has) {
  auto pool = std::make_shared<Pool>(1);
  PoolClient client(pool), other(pool);
  std::latch begun(1), posted(1), others(1);
  std::atomic<bool> ended = false;
  std::atomic<int> late = 0;
  auto held = std::make_shared<int>(0);  // by a job that never runs
  // Goes on until the others are dropped.
  client.post([&] {
    begun.count_down();
    posted.wait();
    while (held.use_count() != 1) std::this_thread::yield();
    ended = true;
  });
  for (int i = 0; i < 10; i++) client.post([&late, held] { late++; });
  other.post([&] { others.count_down(); });
  begun.wait();
  CHECK_EQ(held.use_count(), 11);
  posted.count_down();
  client.stop();
  CHECK(ended.load());
  CHECK_EQ(late.load(), 0);
  CHECK_EQ(held.use_count(), 1);
  others.wait();
  client.stop();
  CHECK(!client.post([&late] { late++; }));
  CHECK_EQ(late.load(), 0);
}

TEST(one_pool_is_shared_while_anybody_holds_it) {
  const Setting setting("3");
  auto a = Pool::shared();
  CHECK_EQ(a->threads(), 3u);
  CHECK(a == Pool::shared());
  a.reset();
  const Setting next("5");
  CHECK_EQ(Pool::shared()->threads(), 5u);
}

TEST(a_number_of_threads_that_makes_no_sense_is_not_taken) {
  const uint32_t machine = Pool::shared()->threads();
  CHECK(machine >= 1);
  CHECK(machine <= Pool::kThreadsMax);
  for (const char* text : {"0", "-1", "65", "2x", "x", "1.5", "99999999999999999999"}) {
    const Setting setting(text);
    CHECK_EQ(Pool::shared()->threads(), machine);
  }
  const Setting empty("");
  CHECK_EQ(Pool::shared()->threads(), machine);
}

#if defined(__linux__)
TEST(threads_start_with_jobs_and_end_with_the_last_owner) {
  const Setting setting("4");
  for (int round = 0; round < 20; round++) {
    PoolClient first(Pool::shared());
    auto second = std::make_unique<PoolClient>(Pool::shared());
    CHECK(comes_to(0));
    for (int i = 0; i < 50; i++) second->post([] {});
    std::latch done(1);
    first.post([&] { done.count_down(); });
    done.wait();
    CHECK(thread_count() > 0);
    CHECK(thread_count() <= 4);
    second.reset();
    CHECK(thread_count() > 0);
    first.stop();
    CHECK(comes_to(0));
  }
}
#endif
