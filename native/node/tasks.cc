#include "node/tasks.h"

#include <new>

#include "node/environment.h"

namespace sdr::node {

namespace {

// Plain calls: in an environment that is being terminated they fail, and nobody is left to be told.
void resolve(Napi::Env env, napi_deferred deferred, napi_value value) { napi_resolve_deferred(env, deferred, value); }

void reject(Napi::Env env, napi_deferred deferred) {
  constexpr char kWhat[] = "the codec has no memory or no thread left";
  napi_value message = nullptr, error = nullptr;
  if (napi_create_string_utf8(env, kWhat, NAPI_AUTO_LENGTH, &message) != napi_ok) return;
  if (napi_create_error(env, nullptr, message, &error) != napi_ok) return;
  napi_reject_deferred(env, deferred, error);
}

}  // namespace

Napi::Value Tasks::submit(Napi::Env env, std::unique_ptr<Task> task) {
  if (!has_wake_) {
    wake_ = Wake::New(env, "sdr-codec", 0, 1, this);
    wake_.Unref(env);
    has_wake_ = true;
  }
  napi_value promise = nullptr;
  if (napi_create_promise(env, &task->deferred_, &promise) != napi_ok) throw Napi::Error::New(env);
  Task* plain = task.get();
  if (pending_.empty()) wake_.Ref(env);
  pending_.emplace(plain, std::move(task));
  if (!client_.post([this, plain] { run(plain); })) {
    plain->failed_ = true;
    finish(plain);
  }
  return {env, promise};
}

void Tasks::run(Task* task) {
  try {
    task->run();
  } catch (const std::bad_alloc&) {
    task->failed_ = true;
  }
  finish(task);
}

void Tasks::finish(Task* task) {
  const std::lock_guard lock(mutex_);
  done_.push_back(task);
  // One call for all that are done before it comes; in an environment that ends it does not come.
  if (done_.size() == 1) wake_.NonBlockingCall();
}

void Tasks::call_settle(Napi::Env env, Napi::Function, Tasks* tasks, std::nullptr_t*) {
  if (env != nullptr) tasks->settle(env);
}

void Tasks::settle(Napi::Env env) {
  std::vector<Task*> done;
  {
    const std::lock_guard lock(mutex_);
    done.swap(done_);
  }
  for (Task* task : done) {
    const Napi::HandleScope scope(env);
    const auto settled = pending_.extract(task);
    if (task->failed_) reject(env, task->deferred_);
    else resolve(env, task->deferred_, task->result(env));
  }
  if (pending_.empty()) wake_.Unref(env);
  Environment::of(env).releases->drain();
}

void Tasks::stop() {
  client_.stop();
  pending_.clear();
  if (has_wake_) wake_.Release();
  has_wake_ = false;
}

}  // namespace sdr::node
