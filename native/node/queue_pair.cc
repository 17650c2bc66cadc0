#include "node/queue_pair.h"

#include <algorithm>

#include "node/codec.h"
#include "node/region.h"
#include "node/values.h"

namespace sdr::node {

namespace {

Napi::Value status(Napi::Env env, sdr_status value) { return Napi::Number::New(env, static_cast<int>(value)); }

constexpr int kCompleteFlag = 16;  // setLength: the message is complete

// One block to recover. A queue pair closed meanwhile says so by itself; it is there as long as the task.
class RecoverTask final : public Task {
 public:
  RecoverTask(const Napi::CallbackInfo& info, std::shared_ptr<NativeQueuePair> native)
      : native_(std::move(native)),
        message_(whole32(info[0], "message")),
        code_(CodeWrap::unwrap(info[1])),
        block_{whole32(info[2], "first"), whole32(info[3], "count"), whole32(info[4], "parityFirst"),
               optional32(info[5], "stride", 1)} {}

  void run() override {
    status_ = native_->qp->recover(message_, *code_, block_, &recovered_);
  }
  napi_value result(Napi::Env env) override {
    auto object = Napi::Object::New(env);
    object.Set("status", Napi::Number::New(env, static_cast<int>(status_)));
    object.Set("chunks", Napi::Number::New(env, recovered_.chunks));
    object.Set("parityUsed", Napi::Number::New(env, recovered_.parity_used));
    object.Set("complete", Napi::Boolean::New(env, recovered_.complete));
    return object;
  }

 private:
  const std::shared_ptr<NativeQueuePair> native_;
  const uint32_t message_;
  const std::shared_ptr<const codec::Code> code_;
  const BlockChunks block_;
  sdr_status status_ = SDR_INVALID;
  Recovered recovered_;
};

}  // namespace

Napi::Function QueuePairWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeQueuePair",
                     {InstanceMethod("postReceive", &QueuePairWrap::post_receive),
                      InstanceMethod("parityBits", &QueuePairWrap::parity_bits),
                      InstanceMethod("recover", &QueuePairWrap::recover),
                      InstanceMethod("recoverNow", &QueuePairWrap::recover_now),
                      InstanceMethod("grant", &QueuePairWrap::grant),
                      InstanceMethod("setLength", &QueuePairWrap::set_length),
                      InstanceMethod("complete", &QueuePairWrap::complete),
                      InstanceMethod("chunkExpand", &QueuePairWrap::chunk_expand),
                      InstanceMethod("userImmediate", &QueuePairWrap::user_immediate),
                      InstanceMethod("chunksDone", &QueuePairWrap::chunks_done),
                      InstanceMethod("openSend", &QueuePairWrap::open_send),
                      InstanceMethod("acceptGrant", &QueuePairWrap::accept_grant),
                      InstanceMethod("postSend", &QueuePairWrap::post_send),
                      InstanceMethod("closeSend", &QueuePairWrap::close_send),
                      InstanceMethod("sendControl", &QueuePairWrap::send_control),
                      InstanceMethod("lastHeardNs", &QueuePairWrap::last_heard),
                      InstanceMethod("counters", &QueuePairWrap::counters),
                      InstanceMethod("setLink", &QueuePairWrap::set_link),
                      InstanceMethod("close", &QueuePairWrap::close)});
}

Napi::Object QueuePairWrap::create(Napi::Env env, std::shared_ptr<void> owner, QueuePair* qp,
                                   std::function<void()> destroy) {
  Napi::Object object = Environment::of(env).queue_pair.New({});
  QueuePairWrap* self = Unwrap(object);
  self->native_ = std::make_shared<NativeQueuePair>();
  self->native_->owner = owner;
  self->native_->qp = qp;
  self->destroy_ = std::move(destroy);
  // The views may outlive this object: they keep the owner (and so the engine's memory) until detached by shut().
  const sdr_bitmap_slab slab = qp->engine().bitmaps();
  auto* hold = new std::shared_ptr<void>(std::move(owner));
  auto bitmaps = Napi::ArrayBuffer::New(
      env, slab.base, slab.bytes, [](Napi::BasicEnv, void*, std::shared_ptr<void>* held) { delete held; }, hold);
  self->bitmaps_ = Napi::Persistent(bitmaps);
  object.Set("id", Napi::Number::New(env, qp->id()));
  object.Set("bitmaps", bitmaps);
  object.Set("bitmapStride", Napi::Number::New(env, static_cast<double>(slab.stride)));
  return object;
}

QueuePairWrap& QueuePairWrap::unwrap(const Napi::Value& value) {
  const Napi::Env env = value.Env();
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(Environment::of(env).queue_pair.Value()))
    throw Napi::TypeError::New(env, "not a queue pair");
  QueuePairWrap& self = *Unwrap(value.As<Napi::Object>());
  self.native(env);
  return self;
}

QueuePair& QueuePairWrap::native(Napi::Env env) const {
  if (!native_) throw Napi::Error::New(env, "the queue pair is closed");
  return *native_->qp;
}

// Collected without close: bitmap views may still be out, so the memory stays with the owner; only the traffic ends.
QueuePairWrap::~QueuePairWrap() {
  if (native_) native_->qp->close();
}

void QueuePairWrap::shut() {
  if (!native_) return;
  const auto native = std::move(native_);
  native->qp->close();
  Napi::ArrayBuffer bitmaps = bitmaps_.Value();
  // Views that were moved elsewhere cannot be detached: the memory stays with the owner, as long as they live.
  const bool moved = bitmaps.IsEmpty() || bitmaps.IsDetached();
  if (!moved) bitmaps.Detach();
  bitmaps_.Reset();
  if (!moved) native->destroy = std::move(destroy_);
  destroy_ = nullptr;
}

Napi::Value QueuePairWrap::post_receive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Parity parity{RegionWrap::unwrap(info[4]), whole(info[5], "parityOffset"), whole32(info[6], "parityChunks")};
  return status(env, native(env).post_receive(whole32(info[0], "message"), RegionWrap::unwrap(info[1]),
                                              whole(info[2], "offset"), whole(info[3], "bytes"), std::move(parity)));
}

Napi::Value QueuePairWrap::parity_bits(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Napi::Number::New(env, sdr_rx_parity_bits(&native(env).geometry(), whole(info[0], "bytes")));
}

Napi::Value QueuePairWrap::recover(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  native(env);
  return Environment::of(env).tasks.submit(env, std::make_unique<RecoverTask>(info, native_));
}

Napi::Value QueuePairWrap::recover_now(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  native(env);
  RecoverTask task(info, native_);
  task.run();
  return {env, task.result(env)};
}

Napi::Value QueuePairWrap::grant(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint8_t bytes[kGrantBytesMax];
  const size_t size = native(env).grant(whole32(info[0], "message"), bytes);
  if (size == 0) return env.Undefined();
  auto out = Napi::Uint8Array::New(env, size);
  std::copy(bytes, bytes + size, out.Data());
  return out;
}

Napi::Value QueuePairWrap::set_length(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  bool done = false;
  const sdr_status result = native(env).set_length(whole32(info[0], "message"), whole(info[1], "bytes"), &done);
  return Napi::Number::New(env, static_cast<int>(result) + (done ? kCompleteFlag : 0));
}

Napi::Value QueuePairWrap::complete(const Napi::CallbackInfo& info) {
  return status(info.Env(), native(info.Env()).complete(whole32(info[0], "message")));
}

Napi::Value QueuePairWrap::chunk_expand(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[2].IsTypedArray() || info[2].As<Napi::TypedArray>().TypedArrayType() != napi_biguint64_array)
    throw Napi::TypeError::New(env, "bits is not a BigUint64Array");
  auto bits = info[2].As<Napi::BigUint64Array>();
  return status(env, native(env).engine().chunk_expand(whole32(info[0], "message"), whole32(info[1], "chunk"),
                                                       bits.Data(), bits.ElementLength()));
}

Napi::Value QueuePairWrap::user_immediate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint32_t value = 0;
  if (!native(env).engine().user_immediate(whole32(info[0], "message"), &value)) return env.Undefined();
  return Napi::Number::New(env, value);
}

Napi::Value QueuePairWrap::chunks_done(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  sdr_rx_progress progress{};
  if (native(env).engine().progress(whole32(info[0], "message"), &progress) != SDR_OK)
    return Napi::Number::New(env, 0);
  return Napi::Number::New(env, progress.chunks_done);
}

Napi::Value QueuePairWrap::open_send(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return status(env, native(env).open_send(whole32(info[0], "message"), whole(info[1], "bytes"),
                                           whole32(info[2], "immediate")));
}

Napi::Value QueuePairWrap::accept_grant(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t message = whole32(info[0], "message");
  if (info[1].IsUndefined()) return status(env, native(env).accept_grant(message, nullptr, 0));
  const auto bytes = to_bytes(info[1], "grant");
  return status(env, native(env).accept_grant(message, bytes.Data(), bytes.ByteLength()));
}

Napi::Value QueuePairWrap::post_send(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return status(env, native(env).post_send(whole32(info[0], "message"), whole32(info[1], "workRequest"),
                                           RegionWrap::unwrap(info[2]), whole(info[3], "sourceOffset"),
                                           whole32(info[4], "firstChunk"), whole(info[5], "bytes")));
}

Napi::Value QueuePairWrap::close_send(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const sdr_status result = native(env).close_send(whole32(info[0], "message"));
  Environment::of(env).releases->drain();
  return status(env, result);
}

Napi::Value QueuePairWrap::send_control(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t kind = whole32(info[0], "kind");
  if (kind == 0) throw Napi::TypeError::New(env, "kind 0 is data");
  const auto bytes = to_bytes(info[1], "bytes");
  const uint32_t length = whole32(info[2], "length");
  if (length > bytes.ByteLength()) throw Napi::TypeError::New(env, "length is beyond the array");
  const auto packet_kind = kind < kPacketKinds ? static_cast<PacketKind>(kind) : PacketKind::other;
  return status(env, native(env).send_control(packet_kind, bytes.Data(), length));
}

Napi::Value QueuePairWrap::last_heard(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(native(info.Env()).last_heard_ns()));
}

Napi::Value QueuePairWrap::counters(const Napi::CallbackInfo& info) {
  QueuePair& qp = native(info.Env());
  return from_counters(info.Env(), qp.counters(), qp.link_counters());
}

Napi::Value QueuePairWrap::set_link(const Napi::CallbackInfo& info) {
  return status(info.Env(), native(info.Env()).set_link(to_link(info[0])));
}

Napi::Value QueuePairWrap::close(const Napi::CallbackInfo& info) {
  shut();
  Environment::of(info.Env()).releases->drain();
  return info.Env().Undefined();
}

}  // namespace sdr::node
