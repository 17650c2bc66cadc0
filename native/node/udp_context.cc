#include "node/udp_context.h"

#include "node/queue_pair.h"

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
       InstanceMethod("workerCpuNs", &UdpContextWrap::worker_cpu_ns),
       InstanceMethod("close", &UdpContextWrap::close)});
}

UdpContextWrap::UdpContextWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<UdpContextWrap>(info) {
  const Napi::Env env = info.Env();
  const auto given = to_object(info[0], "options");
  if (!info[1].IsFunction()) throw Napi::TypeError::New(env, "wake is not a function");
  UdpOptions options;
  const UdpAddress local = to_address(given);
  options.address = local.address;
  options.port = local.port;
  options.channels = whole32(given.Get("channels"), "channels");
  options.socket_buffer_bytes = whole32(given.Get("socketBufferBytes"), "socketBufferBytes");
  options.allow_gso = given.Get("allowGso").ToBoolean();
  options.allow_gro = given.Get("allowGro").ToBoolean();

  slab_ = std::make_unique<EventSlab>(env);
  wake_ = WakeFunction::New(env, info[1].As<Napi::Function>(), "sdr-udp", 0, 1, nullptr);
  wake_.Unref(env);
  UdpError error;
  context_ = UdpContext::create(options, [wake = wake_] { wake.NonBlockingCall(); }, &error);
  if (!context_) {
    wake_.Release();
    auto thrown = Napi::Error::New(env, error.call + " failed");
    thrown.Set("errno", Napi::Number::New(env, error.number));
    thrown.Set("call", Napi::String::New(env, error.call));
    throw thrown;
  }

  const UdpCapabilities& can = context_->capabilities();
  auto capabilities = Napi::Object::New(env);
  capabilities.Set("gso", can.gso);
  capabilities.Set("gro", can.gro);
  capabilities.Set("ipv6", can.ipv6);
  capabilities.Set("receiveBufferBytes", can.receive_buffer_bytes);
  capabilities.Set("sendBufferBytes", can.send_buffer_bytes);
  capabilities.Set("payloadBytesMax", can.payload_bytes_max);
  auto self = info.This().As<Napi::Object>();
  self.Set("capabilities", capabilities);
  self.Set("events", slab_->object());
  // Last: everything above may throw, and then this object is gone and its context with it.
  environment_ = &Environment::of(env);
  environment_->open_contexts.insert(this);
}

UdpContextWrap::~UdpContextWrap() { shut(); }

void UdpContextWrap::shut() {
  if (!context_) return;
  environment_->open_contexts.erase(this);
  context_->shutdown();
  context_.reset();  // freed with the last bitmap view
  wake_.Release();
}

UdpContext& UdpContextWrap::native(Napi::Env env) const {
  if (!context_) throw Napi::Error::New(env, "the context is closed");
  return *context_;
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
  if (qp == nullptr) {
    auto error = Napi::Error::New(env, "the queue pair's configuration was refused");
    error.Set("status", Napi::Number::New(env, static_cast<int>(status)));
    throw error;
  }
  std::weak_ptr<UdpContext> weak = context_;
  return QueuePairWrap::create(env, context_, qp, [weak, id = qp->id()] {
    if (auto context = weak.lock()) context->destroy_qp(id);
  });
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

Napi::Value UdpContextWrap::now(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(native(info.Env()).now_ns()));
}

Napi::Value UdpContextWrap::drain(const Napi::CallbackInfo& info) {
  const size_t drained = slab_->drain(native(info.Env()).events());
  environment_->releases->drain();
  return Napi::Number::New(info.Env(), static_cast<double>(drained));
}

Napi::Value UdpContextWrap::unknown_datagrams(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(native(info.Env()).unknown_datagrams()));
}

Napi::Value UdpContextWrap::worker_cpu_ns(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto list = Napi::Array::New(env);
  for (const int64_t used : native(env).worker_cpu_ns())
    list.Set(list.Length(), Napi::Number::New(env, static_cast<double>(used)));
  return list;
}

Napi::Value UdpContextWrap::close(const Napi::CallbackInfo& info) {
  shut();
  environment_->releases->drain();
  return info.Env().Undefined();
}

}  // namespace sdr::node
