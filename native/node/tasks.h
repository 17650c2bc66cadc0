// Work that an environment has done on the codec's threads, and the promises that tell of its end.
#pragma once

#include <napi.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "codec/pool.h"

namespace sdr::node {

// Made, settled and freed on the JavaScript thread.
class Task {
 public:
  virtual ~Task() = default;
  // On a codec thread: no JavaScript. May throw std::bad_alloc.
  virtual void run() = 0;
  // What the promise resolves with.
  virtual napi_value result(Napi::Env env) = 0;

  // Kept from collection until the task is over; may be empty.
  Napi::ObjectReference pinned;

 private:
  friend class Tasks;
  napi_deferred deferred_ = nullptr;
  bool failed_ = false;
};

// All calls but those of the codec's threads come from the environment's own thread.
class Tasks {
 public:
  // The promise of the task's result; it rejects when there is no memory or no thread for it. The process stays alive
  // until it is settled.
  Napi::Value submit(Napi::Env env, std::unique_ptr<Task> task);
  // Drops tasks that have not begun, waits for those that have; none is settled. Before the environment ends.
  void stop();

 private:
  static void call_settle(Napi::Env env, Napi::Function unused, Tasks* tasks, std::nullptr_t*);
  using Wake = Napi::TypedThreadSafeFunction<Tasks, std::nullptr_t, call_settle>;

  void run(Task* task);
  // From any thread: the promise may be settled.
  void finish(Task* task);
  void settle(Napi::Env env);

  codec::PoolClient client_{codec::Pool::shared()};
  std::unordered_map<Task*, std::unique_ptr<Task>> pending_;  // bounded by the promises that JavaScript awaits
  std::mutex mutex_;
  std::vector<Task*> done_;  // under mutex_
  Wake wake_;
  bool has_wake_ = false;
};

}  // namespace sdr::node
