#include "node/region.h"

#include "node/values.h"
#include "transport/memory.h"

namespace sdr::node {

namespace {

// The longest ArrayBuffer that Node makes over memory of ours. Asked beforehand: Node refuses a longer one by running
// the finalizer and failing, whereupon node-addon-api frees the finalizer a second time.
double external_bytes_max(Napi::Env env) {
  const auto process = env.Global().Get("process").As<Napi::Object>();
  const auto get_module = process.Get("getBuiltinModule").As<Napi::Function>();
  const auto module = get_module.Call(process, {Napi::String::New(env, "buffer")}).As<Napi::Object>();
  return number(module.Get("constants").As<Napi::Object>().Get("MAX_LENGTH"), "MAX_LENGTH");
}

RegionRef made(Napi::Env env, RegionRef region, uint64_t bytes) {
  if (region == nullptr) throw Napi::RangeError::New(env, "the system has no " + std::to_string(bytes) + " bytes");
  return region;
}

}  // namespace

Napi::Function RegionWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeRegion", {InstanceMethod("close", &RegionWrap::close)});
}

Napi::Value RegionWrap::close(const Napi::CallbackInfo& info) {
  region_.reset();
  return info.Env().Undefined();
}

Napi::Object RegionWrap::wrap(Napi::Env env, RegionRef region) {
  Napi::Object object = Environment::of(env).region.New({});
  object.Set("bytes", Napi::Number::New(env, static_cast<double>(region->bytes)));
  Unwrap(object)->region_ = std::move(region);
  return object;
}

Napi::Value RegionWrap::create(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Environment& environment = Environment::of(env);
  environment.releases->drain();
  const Memory memory = to_memory(info[0], "the memory");
  const auto buffer = memory.buffer.As<Napi::Object>();

  // The last native reference may go on any thread; the JavaScript one is then queued for this thread.
  auto* plain = new Region{memory.data, memory.bytes};
  auto pin = std::make_shared<Napi::ObjectReference>(Napi::Persistent(buffer));
  RegionRef region(plain, [pin, releases = environment.releases](const Region* gone) {
    delete gone;
    releases->push(std::move(*pin));
  });
  Napi::Object object = wrap(env, std::move(region));
  Unwrap(object)->buffer_ = Napi::Weak(buffer);
  return object;
}

Napi::Value RegionWrap::allocate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint64_t bytes = whole(info[0], "bytes");
  const double most = external_bytes_max(env);
  if (static_cast<double>(bytes) > most) {
    throw Napi::RangeError::New(env, "this version of Node has no ArrayBuffer above " +
                                         std::to_string(static_cast<uint64_t>(most)) + " bytes");
  }
  const RegionRef region = made(env, map_region(bytes), bytes);
  uint8_t* memory = region->base;
  Napi::Object object = wrap(env, region);
  auto* hold = new RegionRef(region);
  object.Set("buffer", Napi::ArrayBuffer::New(
                           env, memory, bytes, [](Napi::BasicEnv, void*, RegionRef* held) { delete held; }, hold));
  return object;
}

Napi::Value RegionWrap::scratch(const Napi::CallbackInfo& info) {
  const uint64_t bytes = whole(info[0], "bytes");
  return wrap(info.Env(), made(info.Env(), scratch_region(bytes), bytes));
}

Napi::Value RegionWrap::phantom(const Napi::CallbackInfo& info) {
  return wrap(info.Env(), std::make_shared<const Region>(Region{nullptr, whole(info[0], "bytes")}));
}

Napi::Value RegionWrap::dmabuf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Region region;
  region.dmabuf_fd = static_cast<int>(whole32(info[0], "fd") & INT32_MAX);
  region.dmabuf_offset = whole(info[1], "offset");
  region.bytes = whole(info[2], "bytes");
  bool lossless = false;
  if (!info[3].IsBigInt()) throw Napi::TypeError::New(env, "address is not a bigint");
  region.base = reinterpret_cast<uint8_t*>(info[3].As<Napi::BigInt>().Uint64Value(&lossless));
  if (!lossless) throw Napi::TypeError::New(env, "address is beyond 64 bits");
  return wrap(env, std::make_shared<const Region>(region));
}

RegionRef RegionWrap::unwrap(const Napi::Value& value) {
  if (value.IsNull() || value.IsUndefined()) return nullptr;
  const Napi::Env env = value.Env();
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(Environment::of(env).region.Value()))
    throw Napi::TypeError::New(env, "not a memory region");
  RegionWrap* self = Unwrap(value.As<Napi::Object>());
  if (self->region_ == nullptr) throw Napi::TypeError::New(env, "the memory region is closed");
  if (!self->buffer_.IsEmpty()) {
    const Napi::Value buffer = self->buffer_.Value();
    if (buffer.IsArrayBuffer() && buffer.As<Napi::ArrayBuffer>().IsDetached())
      throw Napi::TypeError::New(env, "the region's ArrayBuffer was detached");
  }
  return self->region_;
}

}  // namespace sdr::node
