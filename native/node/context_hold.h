// What the wraps of contexts with threads share: holding the native context, its wake-ups and its events, and ending it
// before the environment does.
#pragma once

#include <algorithm>
#include <memory>

#include "node/environment.h"
#include "node/queue_pair.h"
#include "node/values.h"
#include "node/wake.h"

namespace sdr::node {

template <class Native>
class ContextHold : public OpenContext {
 public:
  // Closes what the context has open and joins its threads. Idempotent; also called when the environment ends.
  void shut() final {
    if (!context_) return;
    if (environment_ != nullptr) environment_->open_contexts.erase(this);
    context_->shutdown();
    context_.reset();  // freed with the last bitmap view
    wake_.Release();
  }

 protected:
  ~ContextHold() { shut(); }

  // Makes the context by `create(wake)`; false when that gave none.
  template <class Create>
  bool make(Napi::Env env, const Napi::Value& wake, const char* name, Create create) {
    if (!wake.IsFunction()) throw Napi::TypeError::New(env, "wake is not a function");
    slab_ = std::make_unique<EventSlab>(env);
    wake_ = WakeFunction::New(env, wake.As<Napi::Function>(), name, 0, 1, nullptr);
    wake_.Unref(env);
    context_ = create([wake = wake_] { wake.NonBlockingCall(); });
    if (!context_) wake_.Release();
    return context_ != nullptr;
  }
  // Last in a constructor: everything before may throw, and then the object is gone and its context with it.
  void publish(Napi::Object self, const Napi::Object& capabilities) {
    self.Set("capabilities", capabilities);
    self.Set("events", slab_->object());
    environment_ = &Environment::of(self.Env());
    environment_->open_contexts.insert(this);
  }

  // Throws after shut().
  Native& native(Napi::Env env) const {
    if (!context_) throw Napi::Error::New(env, "the context is closed");
    return *context_;
  }
  Napi::Value wrap(Napi::Env env, QueuePair* qp) const {
    std::weak_ptr<Native> weak = context_;
    return QueuePairWrap::create(env, context_, qp, [weak, id = qp->id()] {
      if (auto context = weak.lock()) context->destroy_qp(id);
    });
  }
  // Why no queue pair was made; with the device's reason where there is one.
  static Napi::Error refused_qp(Napi::Env env, sdr_status status, const DeviceError& error = {}) {
    auto thrown = error.what.empty() ? Napi::Error::New(env, "the queue pair's configuration was refused")
                                     : to_error(env, error);
    thrown.Set("status", Napi::Number::New(env, static_cast<int>(status)));
    return thrown;
  }

  Napi::Value now(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(native(info.Env()).now_ns()));
  }
  Napi::Value drain(const Napi::CallbackInfo& info) {
    const size_t drained = slab_->drain(native(info.Env()).events());
    environment_->releases->drain();
    return Napi::Number::New(info.Env(), static_cast<double>(drained));
  }
  // Processor time of each of its threads.
  Napi::Value worker_cpu(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    auto list = Napi::Array::New(env);
    for (const int64_t used : native(env).worker_cpu_ns())
      list.Set(list.Length(), Napi::Number::New(env, static_cast<double>(used)));
    return list;
  }
  // What a queue pair's peer needs, as the context writes it.
  Napi::Value qp_info(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto bytes = native(env).info(QueuePairWrap::unwrap(info[0]).native(env).id());
    auto out = Napi::Uint8Array::New(env, bytes.size());
    std::copy(bytes.begin(), bytes.end(), out.Data());
    return out;
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    shut();
    environment_->releases->drain();
    return info.Env().Undefined();
  }

 private:
  std::shared_ptr<Native> context_;
  std::unique_ptr<EventSlab> slab_;
  WakeFunction wake_;
  Environment* environment_ = nullptr;  // from publish() on
};

}  // namespace sdr::node
