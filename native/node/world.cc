#include "node/world.h"

#include <limits>

#include "node/queue_pair.h"

namespace sdr::node {

Napi::Function WorldWrap::define(Napi::Env env) {
  return DefineClass(
      env, "NativeWorld",
      {InstanceMethod("addLink", &WorldWrap::add_link), InstanceMethod("setLink", &WorldWrap::set_link),
       InstanceMethod("linkCounters", &WorldWrap::link_counters), InstanceMethod("createQp", &WorldWrap::create_qp),
       InstanceMethod("connect", &WorldWrap::connect), InstanceMethod("nowNs", &WorldWrap::now),
       InstanceMethod("advance", &WorldWrap::advance), InstanceMethod("idle", &WorldWrap::idle),
       InstanceMethod("recordPackets", &WorldWrap::record_packets),
       InstanceMethod("takeRecords", &WorldWrap::take_records),
       InstanceMethod("close", &WorldWrap::close)});
}

WorldWrap::WorldWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<WorldWrap>(info) {
  const uint64_t seed = whole(info[0], "seed");
  const uint64_t interval = whole(info[1], "progressIntervalNs");
  world_ = std::make_shared<EmulatedWorld>(seed, static_cast<int64_t>(interval));
  slab_ = std::make_unique<EventSlab>(info.Env());
  info.This().As<Napi::Object>().Set("events", slab_->object());
}

EmulatedWorld& WorldWrap::native(Napi::Env env) const {
  if (!world_) throw Napi::Error::New(env, "the world is closed");
  return *world_;
}

Napi::Value WorldWrap::add_link(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t index = native(env).add_link(to_link(info[0]));
  if (index == UINT32_MAX) throw Napi::Error::New(env, "the world has too many links");
  return Napi::Number::New(env, index);
}

Napi::Value WorldWrap::set_link(const Napi::CallbackInfo& info) {
  const auto result = native(info.Env()).set_link(whole32(info[0], "link"), to_link(info[1]));
  return Napi::Number::New(info.Env(), static_cast<int>(result));
}

Napi::Value WorldWrap::link_counters(const Napi::CallbackInfo& info) {
  return from_link_counters(info.Env(), native(info.Env()).link_counters(whole32(info[0], "link")));
}

Napi::Value WorldWrap::create_qp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  sdr_status status = SDR_OK;
  QueuePair* qp = native(env).create_qp(to_qp_config(info[0]), &status);
  if (qp == nullptr) {
    auto error = Napi::Error::New(env, "the queue pair's configuration was refused");
    error.Set("status", Napi::Number::New(env, static_cast<int>(status)));
    throw error;
  }
  return QueuePairWrap::create(env, world_, qp, nullptr);
}

Napi::Value WorldWrap::connect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto result = native(env).connect(
      QueuePairWrap::unwrap(info[0]).native(env).id(), QueuePairWrap::unwrap(info[1]).native(env).id(),
      whole32(info[2], "linkAb"), whole32(info[3], "linkBa"));
  return Napi::Number::New(env, static_cast<int>(result));
}

Napi::Value WorldWrap::now(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(native(info.Env()).now_ns()));
}

Napi::Value WorldWrap::advance(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  EmulatedWorld& world = native(env);
  const double limit = number(info[0], "limitNs");
  if (!(limit >= 0)) throw Napi::TypeError::New(env, "limitNs is negative or not a number");
  if (world.events().empty())
    world.advance(limit >= kIntegerMax ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(limit));
  const size_t drained = slab_->drain(world.events());
  Environment::of(env).releases->drain();
  return Napi::Number::New(env, static_cast<double>(drained));
}

Napi::Value WorldWrap::idle(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), native(info.Env()).idle());
}

Napi::Value WorldWrap::record_packets(const Napi::CallbackInfo& info) {
  native(info.Env()).record_packets(whole32(info[0], "recordsMax"));
  return info.Env().Undefined();
}

// Six numbers a record, as src/transport/native.ts says.
Napi::Value WorldWrap::take_records(const Napi::CallbackInfo& info) {
  const std::vector<PacketRecord> records = native(info.Env()).take_records();
  auto array = Napi::Float64Array::New(info.Env(), 6 * records.size());
  double* to = array.Data();
  for (const PacketRecord& record : records) {
    *to++ = static_cast<double>(record.depart_ns);
    *to++ = static_cast<double>(record.arrive_ns);
    *to++ = record.qp;
    *to++ = static_cast<double>(record.kind);
    *to++ = record.message;
    *to++ = record.packet;
  }
  return array;
}

Napi::Value WorldWrap::close(const Napi::CallbackInfo& info) {
  world_.reset();  // freed when the last queue pair wrapper and bitmap view are gone
  return info.Env().Undefined();
}

}  // namespace sdr::node
