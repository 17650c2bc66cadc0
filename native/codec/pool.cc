#include "codec/pool.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <system_error>

#if defined(__linux__)
#include <pthread.h>
#endif

namespace sdr::codec {
namespace {

constexpr char kThreadsVariable[] = "SDR_CODEC_THREADS";

uint32_t threads_wanted() {
  const uint32_t machine = std::clamp(std::thread::hardware_concurrency(), 1u, Pool::kThreadsMax);
  const char* text = std::getenv(kThreadsVariable);
  if (text == nullptr || *text == '\0') return machine;
  char* end = nullptr;
  const long number = std::strtol(text, &end, 10);
  if (*end == '\0' && number >= 1 && number <= static_cast<long>(Pool::kThreadsMax))
    return static_cast<uint32_t>(number);
  std::fprintf(stderr, "sdr: %s=%s is not a number of threads from 1 to %u: %u are used\n", kThreadsVariable, text,
               Pool::kThreadsMax, machine);
  return machine;
}

}  // namespace

std::shared_ptr<Pool> Pool::shared() {
  static std::mutex mutex;
  static std::weak_ptr<Pool> current;
  const std::lock_guard lock(mutex);
  std::shared_ptr<Pool> pool = current.lock();
  if (!pool) {
    pool = std::make_shared<Pool>(threads_wanted());
    current = pool;
  }
  return pool;
}

Pool::~Pool() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  posted_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

// Under the mutex.
bool Pool::start_thread() {
  try {
    workers_.emplace_back([this] { work(); });
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

void Pool::work() {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), "sdr-codec");
#endif
  std::unique_lock lock(mutex_);
  for (;;) {
    idle_++;
    posted_.wait(lock, [this] { return ending_ || !queue_.empty(); });
    idle_--;
    if (queue_.empty()) return;
    Entry entry = std::move(queue_.front());
    queue_.pop_front();
    entry.client->running_++;
    lock.unlock();
    entry.job();
    entry.job = nullptr;  // what it holds goes before its client may
    lock.lock();
    if (--entry.client->running_ == 0) finished_.notify_all();
  }
}

bool PoolClient::post(Job job) {
  if (!pool_) return false;
  {
    const std::lock_guard lock(pool_->mutex_);
    // Threads woken for earlier jobs still count as idle: a thread for each job that waits, up to the limit.
    const bool short_of_threads = pool_->queue_.size() >= pool_->idle_ && pool_->workers_.size() < pool_->threads_;
    if (short_of_threads && !pool_->start_thread() && pool_->workers_.empty()) return false;
    pool_->queue_.push_back({this, std::move(job)});
  }
  pool_->posted_.notify_one();
  return true;
}

void PoolClient::stop() {
  if (!pool_) return;
  std::vector<Job> dropped;
  std::unique_lock lock(pool_->mutex_);
  auto& queue = pool_->queue_;
  for (Pool::Entry& entry : queue)
    if (entry.client == this) dropped.push_back(std::move(entry.job));
  std::erase_if(queue, [this](const Pool::Entry& entry) { return entry.client == this; });
  lock.unlock();
  dropped.clear();  // what they hold is freed outside the mutex
  lock.lock();
  pool_->finished_.wait(lock, [this] { return running_ == 0; });
  lock.unlock();
  pool_.reset();
}

}  // namespace sdr::codec
