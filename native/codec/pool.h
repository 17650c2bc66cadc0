// Threads that encode and decode: one pool for the process, whoever uses it. Jobs are taken first in, first out, one a
// thread at a time. How many wait is bounded by those who post: the SDK has so many blocks of a message in hand, a
// program as many promises as it leaves pending.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace sdr::codec {

using Job = std::function<void()>;  // throws nothing
class PoolClient;

class Pool {
 public:
  static constexpr uint32_t kThreadsMax = 64;

  // The process's pool: made for the first holder, its threads joined with the last one. As many threads as the
  // machine runs at once, at most kThreadsMax, or what the environment variable SDR_CODEC_THREADS says (1 to
  // kThreadsMax; the process is told of anything else on stderr).
  static std::shared_ptr<Pool> shared();

  explicit Pool(uint32_t threads) : threads_(threads) {}
  // No client is left, so no job either.
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Most threads at a time. They start one by one, with jobs for which no thread is free.
  uint32_t threads() const { return threads_; }

 private:
  friend class PoolClient;
  struct Entry {
    PoolClient* client;
    Job job;
  };

  bool start_thread();
  void work();

  const uint32_t threads_;
  std::mutex mutex_;
  std::condition_variable posted_, finished_;
  std::deque<Entry> queue_;
  std::vector<std::thread> workers_;
  uint32_t idle_ = 0;
  bool ending_ = false;
};

// The jobs of one owner, which can be ended without those of others. Called from one thread, which is not a job's.
class PoolClient {
 public:
  explicit PoolClient(std::shared_ptr<Pool> pool) : pool_(std::move(pool)) {}
  ~PoolClient() { stop(); }
  PoolClient(const PoolClient&) = delete;
  PoolClient& operator=(const PoolClient&) = delete;

  // False: the system gives no thread, or after stop(). The job is dropped then.
  bool post(Job job);
  // Drops jobs that have not begun, waits for those that have, and lets the pool go. Idempotent.
  void stop();

 private:
  friend class Pool;
  std::shared_ptr<Pool> pool_;
  uint32_t running_ = 0;  // under the pool's mutex
};

}  // namespace sdr::codec
