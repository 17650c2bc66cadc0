#include "node/dpa_context.h"

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
  DpaOptions options;
  options.workers = whole32(given.Get("workers"), "workers");

  DeviceError error;
  const bool is_made = make(env, info[1], "sdr-dpa", [&](std::function<void()> wake) {
    return DpaContext::create(options, std::move(wake), &error);
  });
  if (!is_made) throw to_error(env, error);
  auto capabilities = Napi::Object::New(env);
  capabilities.Set("name", native(env).capabilities().name);
  capabilities.Set("receivesMax", native(env).capabilities().receives_max);
  publish(info.This().As<Napi::Object>(), capabilities);
}

Napi::Value DpaContextWrap::create_qp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  sdr_status status = SDR_OK;
  QueuePair* qp = native(env).create_qp(to_qp_config(info[0]), &status);
  if (qp == nullptr) throw refused_qp(env, status);
  return wrap(env, qp);
}

Napi::Value DpaContextWrap::connect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t id = QueuePairWrap::unwrap(info[0]).native(env).id();
  const auto bytes = to_bytes(info[1], "peer");
  const std::vector<uint8_t> peer(bytes.Data(), bytes.Data() + bytes.ByteLength());
  const auto result = native(env).connect(id, peer, to_link(info[2]), whole(info[3], "seed"));
  return Napi::Number::New(env, static_cast<int>(result));
}

}  // namespace sdr::node
