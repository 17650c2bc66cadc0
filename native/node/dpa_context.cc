#include "node/dpa_context.h"

#include <algorithm>

#include "node/queue_pair.h"

namespace sdr::node {

Napi::Function DpaContextWrap::define(Napi::Env env) {
  return DefineClass(
      env, "NativeDpaContext",
      {InstanceMethod("createQp", &DpaContextWrap::create_qp), InstanceMethod("qpInfo", &DpaContextWrap::qp_info),
       InstanceMethod("connect", &DpaContextWrap::connect), InstanceMethod("nowNs", &DpaContextWrap::now),
       InstanceMethod("drain", &DpaContextWrap::drain), InstanceMethod("close", &DpaContextWrap::close)});
}

DpaContextWrap::DpaContextWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DpaContextWrap>(info) {
  const Napi::Env env = info.Env();
  const auto given = to_object(info[0], "options");
  if (!info[1].IsFunction()) throw Napi::TypeError::New(env, "wake is not a function");
  DpaOptions options;
  options.workers = whole32(given.Get("workers"), "workers");

  slab_ = std::make_unique<EventSlab>(env);
  wake_ = WakeFunction::New(env, info[1].As<Napi::Function>(), "sdr-dpa", 0, 1, nullptr);
  wake_.Unref(env);
  DpaError error;
  context_ = DpaContext::create(options, [wake = wake_] { wake.NonBlockingCall(); }, &error);
  if (!context_) {
    wake_.Release();
    auto thrown = Napi::Error::New(env, error.what);
    thrown.Set("errno", Napi::Number::New(env, error.number));
    thrown.Set("sdrCode", Napi::String::New(env, error.code));
    thrown.Set("remedy", Napi::String::New(env, error.remedy));
    throw thrown;
  }
  auto capabilities = Napi::Object::New(env);
  capabilities.Set("name", context_->capabilities().name);
  capabilities.Set("receivesMax", context_->capabilities().receives_max);
  auto self = info.This().As<Napi::Object>();
  self.Set("capabilities", capabilities);
  self.Set("events", slab_->object());
  // Last: everything above may throw, and then this object is gone and its context with it.
  environment_ = &Environment::of(env);
  environment_->open_contexts.insert(this);
}

DpaContextWrap::~DpaContextWrap() { shut(); }

void DpaContextWrap::shut() {
  if (!context_) return;
  environment_->open_contexts.erase(this);
  context_->shutdown();
  context_.reset();  // freed with the last bitmap view
  wake_.Release();
}

DpaContext& DpaContextWrap::native(Napi::Env env) const {
  if (!context_) throw Napi::Error::New(env, "the context is closed");
  return *context_;
}

Napi::Value DpaContextWrap::create_qp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  sdr_status status = SDR_OK;
  QueuePair* qp = native(env).create_qp(to_qp_config(info[0]), &status);
  if (qp == nullptr) {
    auto error = Napi::Error::New(env, "the queue pair's configuration was refused");
    error.Set("status", Napi::Number::New(env, static_cast<int>(status)));
    throw error;
  }
  std::weak_ptr<DpaContext> weak = context_;
  return QueuePairWrap::create(env, context_, qp, [weak, id = qp->id()] {
    if (auto context = weak.lock()) context->destroy_qp(id);
  });
}

Napi::Value DpaContextWrap::qp_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto bytes = native(env).info(QueuePairWrap::unwrap(info[0]).native(env).id());
  auto out = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), out.Data());
  return out;
}

Napi::Value DpaContextWrap::connect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t id = QueuePairWrap::unwrap(info[0]).native(env).id();
  const auto bytes = to_bytes(info[1], "peer");
  const std::vector<uint8_t> peer(bytes.Data(), bytes.Data() + bytes.ByteLength());
  const auto result = native(env).connect(id, peer, to_link(info[2]), whole(info[3], "seed"));
  return Napi::Number::New(env, static_cast<int>(result));
}

Napi::Value DpaContextWrap::now(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(native(info.Env()).now_ns()));
}

Napi::Value DpaContextWrap::drain(const Napi::CallbackInfo& info) {
  const size_t drained = slab_->drain(native(info.Env()).events());
  environment_->releases->drain();
  return Napi::Number::New(info.Env(), static_cast<double>(drained));
}

Napi::Value DpaContextWrap::close(const Napi::CallbackInfo& info) {
  shut();
  environment_->releases->drain();
  return info.Env().Undefined();
}

}  // namespace sdr::node
