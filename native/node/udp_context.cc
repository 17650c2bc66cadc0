#include "node/udp_context.h"

namespace sdr::node {

namespace {

UdpAddress to_address(const Napi::Object& object) {
  const uint32_t port = whole32(object.Get("port"), "port");
  if (port > 65535) throw Napi::TypeError::New(object.Env(), "port is above 65535");
  return {object.Get("address").ToString(), static_cast<uint16_t>(port)};
}

uint64_t to_key(const Napi::Value& value) {
  if (!value.IsBigInt()) throw Napi::TypeError::New(value.Env(), "key is not a bigint");
  bool lossless = false;
  const uint64_t key = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw Napi::TypeError::New(value.Env(), "key is beyond 64 bits");
  return key;
}

}  // namespace

Napi::Function UdpContextWrap::define(Napi::Env env) {
  return DefineClass(
      env, "NativeUdpContext",
      {InstanceMethod("addresses", &UdpContextWrap::addresses), InstanceMethod("createQp", &UdpContextWrap::create_qp),
       InstanceMethod("connect", &UdpContextWrap::connect), InstanceMethod("nowNs", &UdpContextWrap::now),
       InstanceMethod("drain", &UdpContextWrap::drain),
       InstanceMethod("unknownDatagrams", &UdpContextWrap::unknown_datagrams),
       InstanceMethod("workerCpuNs", &UdpContextWrap::worker_cpu),
       InstanceMethod("close", &UdpContextWrap::close)});
}

UdpContextWrap::UdpContextWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<UdpContextWrap>(info) {
  const Napi::Env env = info.Env();
  const auto given = to_object(info[0], "options");
  UdpOptions options;
  const UdpAddress local = to_address(given);
  options.address = local.address;
  options.port = local.port;
  options.channels = whole32(given.Get("channels"), "channels");
  options.socket_buffer_bytes = whole32(given.Get("socketBufferBytes"), "socketBufferBytes");
  options.allow_gso = given.Get("allowGso").ToBoolean();
  options.allow_gro = given.Get("allowGro").ToBoolean();

  UdpError error;
  const bool is_made = make(env, info[1], "sdr-udp", [&](std::function<void()> wake) {
    return UdpContext::create(options, std::move(wake), &error);
  });
  if (!is_made) {
    auto thrown = Napi::Error::New(env, error.call + " failed");
    thrown.Set("errno", Napi::Number::New(env, error.number));
    thrown.Set("call", Napi::String::New(env, error.call));
    throw thrown;
  }

  const UdpCapabilities& can = native(env).capabilities();
  auto capabilities = Napi::Object::New(env);
  capabilities.Set("gso", can.gso);
  capabilities.Set("gro", can.gro);
  capabilities.Set("ipv6", can.ipv6);
  capabilities.Set("receiveBufferBytes", can.receive_buffer_bytes);
  capabilities.Set("sendBufferBytes", can.send_buffer_bytes);
  capabilities.Set("payloadBytesMax", can.payload_bytes_max);
  publish(info.This().As<Napi::Object>(), capabilities);
}

Napi::Value UdpContextWrap::addresses(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto list = Napi::Array::New(env);
  for (const UdpAddress& address : native(env).addresses()) {
    auto object = Napi::Object::New(env);
    object.Set("address", address.address);
    object.Set("port", Napi::Number::New(env, address.port));
    list.Set(list.Length(), object);
  }
  return list;
}

Napi::Value UdpContextWrap::create_qp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  sdr_status status = SDR_OK;
  QueuePair* qp = native(env).create_qp(to_qp_config(info[0]), to_key(info[1]), &status);
  if (qp == nullptr) throw refused_qp(env, status);
  return wrap(env, qp);
}

Napi::Value UdpContextWrap::connect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t id = QueuePairWrap::unwrap(info[0]).native(env).id();
  std::vector<UdpAddress> peer;
  const auto list = to_array(info[1], "peer", SDR_CHANNELS_MAX);
  for (uint32_t i = 0; i < list.Length(); i++)
    peer.push_back(to_address(to_object(list.Get(i), "peer's element")));
  const auto result = native(env).connect(id, peer, to_key(info[2]), to_link(info[3]), whole(info[4], "seed"));
  return Napi::Number::New(env, static_cast<int>(result));
}

Napi::Value UdpContextWrap::unknown_datagrams(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(native(info.Env()).unknown_datagrams()));
}

}  // namespace sdr::node
