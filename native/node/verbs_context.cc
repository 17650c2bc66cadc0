#include "node/verbs_context.h"

#include "node/queue_pair.h"

namespace sdr::node {
namespace {

// With the fields that src/transport/verbs.ts makes an SdrError of.
Napi::Error to_error(Napi::Env env, const VerbsError& error) {
  auto thrown = Napi::Error::New(env, error.what);
  thrown.Set("errno", Napi::Number::New(env, error.number));
  thrown.Set("code", Napi::String::New(env, error.code));
  thrown.Set("remedy", Napi::String::New(env, error.remedy));
  return thrown;
}

VerbsOptions to_options(const Napi::Object& given) {
  VerbsOptions options;
  options.device = given.Get("device").ToString();
  const uint32_t port = whole32(given.Get("port"), "port");
  const uint32_t traffic_class = whole32(given.Get("trafficClass"), "trafficClass");
  if (port > 255 || traffic_class > 255)
    throw Napi::TypeError::New(given.Env(), "port or trafficClass is above 255");
  options.port = static_cast<uint8_t>(port);
  options.traffic_class = static_cast<uint8_t>(traffic_class);
  const double gid_index = number_or(given, "gidIndex", -1);
  options.gid_index = gid_index >= 0 && gid_index <= 65535 ? static_cast<int>(gid_index) : -1;
  options.mtu = whole32(given.Get("mtu"), "mtu");
  options.channels = whole32(given.Get("channels"), "channels");
  options.reliable = given.Get("reliable").ToBoolean();
  return options;
}

}  // namespace

Napi::Function VerbsContextWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeVerbsContext",
                     {InstanceMethod("createQp", &VerbsContextWrap::create_qp),
                      InstanceMethod("info", &VerbsContextWrap::info),
                      InstanceMethod("connect", &VerbsContextWrap::connect),
                      InstanceMethod("failure", &VerbsContextWrap::failure),
                      InstanceMethod("refusal", &VerbsContextWrap::refusal),
                      InstanceMethod("nowNs", &VerbsContextWrap::now),
                      InstanceMethod("drain", &VerbsContextWrap::drain),
                      InstanceMethod("workerCpuNs", &VerbsContextWrap::worker_cpu),
                      InstanceMethod("close", &VerbsContextWrap::close)});
}

VerbsContextWrap::VerbsContextWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<VerbsContextWrap>(info) {
  const Napi::Env env = info.Env();
  const VerbsOptions options = to_options(to_object(info[0], "options"));
  if (!info[1].IsFunction()) throw Napi::TypeError::New(env, "wake is not a function");
  slab_ = std::make_unique<EventSlab>(env);
  wake_ = WakeFunction::New(env, info[1].As<Napi::Function>(), "sdr-verbs", 0, 1, nullptr);
  wake_.Unref(env);
  VerbsError error;
  context_ = VerbsContext::create(
      options, [wake = wake_] { wake.NonBlockingCall(); }, &error);
  if (!context_) {
    wake_.Release();
    throw to_error(env, error);
  }
  const VerbsCapabilities& can = context_->capabilities();
  auto capabilities = Napi::Object::New(env);
  capabilities.Set("device", can.device);
  capabilities.Set("driver", can.driver);
  capabilities.Set("port", Napi::Number::New(env, can.port));
  capabilities.Set("gidIndex", Napi::Number::New(env, can.gid_index));
  capabilities.Set("gid", can.gid);
  capabilities.Set("linkLayer", can.link_layer);
  capabilities.Set("mtu", Napi::Number::New(env, can.mtu));
  capabilities.Set("rootKey", Napi::Boolean::New(env, can.keys == KeyScheme::root));
  capabilities.Set("dmabuf", Napi::Boolean::New(env, can.dmabuf));
  capabilities.Set("receiveDepth", Napi::Number::New(env, can.receive_depth));
  auto self = info.This().As<Napi::Object>();
  self.Set("capabilities", capabilities);
  self.Set("events", slab_->object());
  // Last: everything above may throw, and then this object is gone and its context with it.
  environment_ = &Environment::of(env);
  environment_->open_contexts.insert(this);
}

VerbsContextWrap::~VerbsContextWrap() { shut(); }

void VerbsContextWrap::shut() {
  if (!context_) return;
  environment_->open_contexts.erase(this);
  context_->shutdown();
  context_.reset();  // freed with the last bitmap view
  wake_.Release();
}

VerbsContext& VerbsContextWrap::native(Napi::Env env) const {
  if (!context_) throw Napi::Error::New(env, "the context is closed");
  return *context_;
}

Napi::Value VerbsContextWrap::create_qp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  sdr_status status = SDR_OK;
  VerbsError error;
  QueuePair* qp = native(env).create_qp(to_qp_config(info[0]), &status, &error);
  if (qp == nullptr) {
    auto thrown = error.what.empty()
                      ? Napi::Error::New(env, "the queue pair's configuration was refused")
                      : to_error(env, error);
    thrown.Set("status", Napi::Number::New(env, static_cast<int>(status)));
    throw thrown;
  }
  std::weak_ptr<VerbsContext> weak = context_;
  return QueuePairWrap::create(env, context_, qp, [weak, id = qp->id()] {
    if (auto context = weak.lock()) context->destroy_qp(id);
  });
}

Napi::Value VerbsContextWrap::info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::vector<uint8_t> bytes =
      native(env).info(QueuePairWrap::unwrap(info[0]).native(env).id());
  auto out = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), out.Data());
  return out;
}

// Throws what the device or the peer's info is the reason of; else the status.
Napi::Value VerbsContextWrap::connect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t id = QueuePairWrap::unwrap(info[0]).native(env).id();
  const auto peer = to_bytes(info[1], "peer");
  VerbsError error;
  const sdr_status status = native(env).connect(id, peer.Data(), peer.ByteLength(),
                                                to_link(info[2]), whole(info[3], "seed"), &error);
  if (status != SDR_OK && !error.what.empty()) throw to_error(env, error);
  return Napi::Number::New(env, static_cast<int>(status));
}

Napi::Value VerbsContextWrap::failure(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Napi::String::New(env,
                           native(env).failure(QueuePairWrap::unwrap(info[0]).native(env).id()));
}

// An error as they are thrown; undefined when no post was refused.
Napi::Value VerbsContextWrap::refusal(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const VerbsError error = native(env).refusal(QueuePairWrap::unwrap(info[0]).native(env).id());
  return error.what.empty() ? env.Undefined() : to_error(env, error).Value();
}

Napi::Value VerbsContextWrap::now(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(native(info.Env()).now_ns()));
}

Napi::Value VerbsContextWrap::drain(const Napi::CallbackInfo& info) {
  const size_t drained = slab_->drain(native(info.Env()).events());
  environment_->releases->drain();
  return Napi::Number::New(info.Env(), static_cast<double>(drained));
}

Napi::Value VerbsContextWrap::worker_cpu(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto list = Napi::Array::New(env);
  for (const int64_t used : native(env).worker_cpu_ns())
    list.Set(list.Length(), Napi::Number::New(env, static_cast<double>(used)));
  return list;
}

Napi::Value VerbsContextWrap::close(const Napi::CallbackInfo& info) {
  shut();
  environment_->releases->drain();
  return info.Env().Undefined();
}

}  // namespace sdr::node
