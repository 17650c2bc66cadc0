#include "node/verbs_context.h"

namespace sdr::node {
namespace {

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
                      InstanceMethod("info", &VerbsContextWrap::qp_info),
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
  DeviceError error;
  const bool is_made = make(env, info[1], "sdr-verbs", [&](std::function<void()> wake) {
    return VerbsContext::create(options, std::move(wake), &error);
  });
  if (!is_made) throw to_error(env, error);
  const VerbsCapabilities& can = native(env).capabilities();
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
  publish(info.This().As<Napi::Object>(), capabilities);
}

Napi::Value VerbsContextWrap::create_qp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  sdr_status status = SDR_OK;
  DeviceError error;
  QueuePair* qp = native(env).create_qp(to_qp_config(info[0]), &status, &error);
  if (qp == nullptr) throw refused_qp(env, status, error);
  return wrap(env, qp);
}

// Throws what the device or the peer's info is the reason of; else the status.
Napi::Value VerbsContextWrap::connect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t id = QueuePairWrap::unwrap(info[0]).native(env).id();
  const auto peer = to_bytes(info[1], "peer");
  DeviceError error;
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
  const DeviceError error = native(env).refusal(QueuePairWrap::unwrap(info[0]).native(env).id());
  return error.what.empty() ? env.Undefined() : to_error(env, error).Value();
}

}  // namespace sdr::node
