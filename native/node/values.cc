#include "node/values.h"

namespace sdr::node {

namespace {

[[noreturn]] void wrong(Napi::Env env, const std::string& what) { throw Napi::TypeError::New(env, what); }

// A field that may be absent: 0 then. Whole, and from `least` to `most`.
int64_t integer_or_zero(const Napi::Object& object, const char* name, int64_t least, int64_t most) {
  const double value = number_or(object, name, 0);
  if (!(value >= static_cast<double>(least) && value <= static_cast<double>(most)) ||
      value != std::floor(value)) {
    wrong(object.Env(), std::string(name) + " is not a whole number from " + std::to_string(least) +
                            " to " + std::to_string(most));
  }
  return static_cast<int64_t>(value);
}

Distribution to_distribution(const Napi::Object& object) {
  const Napi::Value value = object.Get("distribution");
  if (value.IsUndefined()) return Distribution::uniform;
  const std::string text = value.ToString();
  if (text == "uniform") return Distribution::uniform;
  if (text == "normal") return Distribution::normal;
  if (text == "pareto") return Distribution::pareto;
  if (text == "paretonormal") return Distribution::paretonormal;
  wrong(object.Env(), "distribution " + text + " is unknown");
}

LossModel to_loss(const Napi::Object& object) {
  const Napi::Value value = object.Get("loss");
  if (value.IsUndefined()) return LossModel::none;
  const std::string text = value.ToString();
  if (text == "none") return LossModel::none;
  if (text == "bernoulli") return LossModel::bernoulli;
  if (text == "gilbert_elliott") return LossModel::gilbert_elliott;
  if (text == "by_size") return LossModel::by_size;
  if (text == "trace") return LossModel::trace;
  wrong(object.Env(), "loss " + text + " is unknown");
}

double probability(const Napi::Object& object, const char* name, double otherwise = 0) {
  const double value = number_or(object, name, otherwise);
  if (!(value >= 0 && value <= 1)) wrong(object.Env(), std::string(name) + " is not within 0..1");
  return value;
}

void read_loss_details(const Napi::Object& object, LinkConfig* link) {
  if (const Napi::Value sizes = object.Get("lossBySize"); !sizes.IsUndefined()) {
    const auto list = to_array(sizes, "lossBySize", kLinkTableMax);
    for (uint32_t i = 0; i < list.Length(); i++) {
      const auto pair = to_array(list.Get(i), "lossBySize's element", 2);
      link->loss_by_size.emplace_back(whole32(pair.Get(0u), "lossBySize bytes"),
                                      number(pair.Get(1u), "lossBySize probability"));
    }
  }
  if (const Napi::Value trace = object.Get("lossTrace"); !trace.IsUndefined()) {
    const auto bytes = to_bytes(trace, "lossTrace");
    if (bytes.ByteLength() > kLinkTraceMax) wrong(object.Env(), "lossTrace is too long");
    link->loss_trace = std::make_shared<const std::vector<uint8_t>>(
        bytes.Data(), bytes.Data() + bytes.ByteLength());
  }
  if (const Napi::Value drops = object.Get("drops"); !drops.IsUndefined()) {
    const auto list = to_array(drops, "drops", kLinkTableMax);
    for (uint32_t i = 0; i < list.Length(); i++) {
      const auto rule = to_object(list.Get(i), "drop rule");
      const uint32_t kind = whole32(rule.Get("kind"), "drop kind");
      if (kind >= kPacketKinds) wrong(object.Env(), "drop kind is out of range");
      link->drops.push_back({static_cast<PacketKind>(kind), whole(rule.Get("first"), "drop first"),
                             whole(rule.Get("last"), "drop last")});
    }
  }
}

}  // namespace

double number(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) wrong(value.Env(), std::string(name) + " is not a number");
  return value.As<Napi::Number>().DoubleValue();
}

uint64_t whole(const Napi::Value& value, const char* name) {
  const double n = number(value, name);
  if (!(n >= 0 && n <= kIntegerMax) || n != std::floor(n))
    wrong(value.Env(), std::string(name) + " is not a whole number from 0 to 2^53-1");
  return static_cast<uint64_t>(n);
}

uint32_t whole32(const Napi::Value& value, const char* name) {
  const uint64_t n = whole(value, name);
  if (n > UINT32_MAX) wrong(value.Env(), std::string(name) + " is above 2^32-1");
  return static_cast<uint32_t>(n);
}

uint32_t optional32(const Napi::Value& value, const char* name, uint32_t otherwise) {
  return value.IsUndefined() ? otherwise : whole32(value, name);
}

Napi::Object to_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) wrong(value.Env(), std::string(name) + " is not an object");
  return value.As<Napi::Object>();
}

Napi::Array to_array(const Napi::Value& value, const char* name, size_t most) {
  if (!value.IsArray()) wrong(value.Env(), std::string(name) + " is not an array");
  const auto list = value.As<Napi::Array>();
  if (list.Length() > most)
    wrong(value.Env(), std::string(name) + " has more than " + std::to_string(most) + " elements");
  return list;
}

Napi::Uint8Array to_bytes(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() ||
      value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    wrong(value.Env(), std::string(name) + " is not a Uint8Array");
  }
  return value.As<Napi::Uint8Array>();
}

Memory to_memory(const Napi::Value& value, const std::string& name) {
  Memory memory;
  size_t offset = 0;
  if (value.IsTypedArray()) {
    const auto view = value.As<Napi::TypedArray>();
    memory.buffer = view.ArrayBuffer();
    offset = view.ByteOffset();
    memory.bytes = view.ByteLength();
  } else if (value.IsDataView()) {
    const auto view = value.As<Napi::DataView>();
    memory.buffer = view.ArrayBuffer();
    offset = view.ByteOffset();
    memory.bytes = view.ByteLength();
  } else if (value.IsArrayBuffer()) {
    memory.buffer = value.As<Napi::ArrayBuffer>();
    memory.bytes = memory.buffer.ByteLength();
  } else {
    wrong(value.Env(), name + " is not an ArrayBuffer or a view of one");
  }
  if (!memory.buffer.IsArrayBuffer()) wrong(value.Env(), name + "'s buffer is not an ArrayBuffer");
  if (memory.buffer.IsDetached()) wrong(value.Env(), name + "'s ArrayBuffer is detached");
  if (memory.buffer.Get("resizable").ToBoolean())
    wrong(value.Env(), name + "'s ArrayBuffer is resizable, and could shrink while it is in use");
  memory.data = static_cast<uint8_t*>(memory.buffer.Data()) + offset;
  return memory;
}

double number_or(const Napi::Object& object, const char* name, double otherwise) {
  const Napi::Value value = object.Get(name);
  return value.IsUndefined() ? otherwise : number(value, name);
}

LinkConfig to_link(const Napi::Value& value) {
  const auto object = to_object(value, "link");
  LinkConfig link;
  link.rate_bps = number_or(object, "rateBps", 0);
  link.packet_overhead_bytes =
      static_cast<int32_t>(integer_or_zero(object, "packetOverheadBytes", INT32_MIN, INT32_MAX));
  link.delay_ns = integer_or_zero(object, "delayNs", 0, kLinkDelayMaxNs);
  link.jitter_ns = integer_or_zero(object, "jitterNs", 0, kLinkDelayMaxNs);
  link.delay_correlation = probability(object, "delayCorrelation");
  link.distribution = to_distribution(object);
  link.loss = to_loss(object);
  link.loss_probability = probability(object, "lossProbability");
  link.loss_correlation = probability(object, "lossCorrelation");
  link.ge_p = probability(object, "geP");
  link.ge_r = probability(object, "geR");
  link.ge_loss_bad = probability(object, "geLossBad", 1);
  link.ge_loss_good = probability(object, "geLossGood");
  link.duplicate_probability = probability(object, "duplicateProbability");
  link.duplicate_correlation = probability(object, "duplicateCorrelation");
  link.corrupt_probability = probability(object, "corruptProbability");
  link.corrupt_correlation = probability(object, "corruptCorrelation");
  link.reorder_probability = probability(object, "reorderProbability");
  link.reorder_correlation = probability(object, "reorderCorrelation");
  link.reorder_gap = static_cast<uint32_t>(integer_or_zero(object, "reorderGap", 0, UINT32_MAX));
  link.limit_packets =
      static_cast<uint32_t>(integer_or_zero(object, "limitPackets", 0, UINT32_MAX));
  read_loss_details(object, &link);
  if (!link.is_valid())
    wrong(object.Env(), "the link's rate is out of range, or what its loss model needs is not");
  return link;
}

QpConfig to_qp_config(const Napi::Value& value) {
  const auto object = to_object(value, "queue pair configuration");
  QpConfig config;
  sdr_geometry& g = config.geometry;
  g.packet_bytes = whole32(object.Get("packetBytes"), "packetBytes");
  g.packets_per_chunk = whole32(object.Get("packetsPerChunk"), "packetsPerChunk");
  g.slots = whole32(object.Get("slots"), "slots");
  g.generations = whole32(object.Get("generations"), "generations");
  g.channels = whole32(object.Get("channels"), "channels");
  g.max_message_bytes = whole(object.Get("maxMessageBytes"), "maxMessageBytes");
  const auto split = to_array(object.Get("split"), "split", 3);
  const auto bits = [&](uint32_t part) {
    const uint32_t n = whole32(split.Get(part), "split's element");
    if (n > 32) wrong(object.Env(), "split's element is above 32");
    return static_cast<uint8_t>(n);
  };
  g.split = {bits(0), bits(1), bits(2)};
  config.rate_bps = number(object.Get("rateBps"), "rateBps");
  config.work_requests_max = whole32(object.Get("workRequestsMax"), "workRequestsMax");
  return config;
}

namespace {

Napi::Value count(Napi::Env env, uint64_t n) { return Napi::Number::New(env, static_cast<double>(n)); }

Napi::Array by_kind(Napi::Env env, const std::array<uint64_t, kPacketKinds>& counts) {
  auto list = Napi::Array::New(env, kPacketKinds);
  for (uint32_t i = 0; i < kPacketKinds; i++) list.Set(i, count(env, counts[i]));
  return list;
}

}  // namespace

Napi::Error to_error(Napi::Env env, const DeviceError& error) {
  auto thrown = Napi::Error::New(env, error.what);
  thrown.Set("errno", Napi::Number::New(env, error.number));
  thrown.Set("code", Napi::String::New(env, error.code));
  thrown.Set("remedy", Napi::String::New(env, error.remedy));
  return thrown;
}

Napi::Object from_link_counters(Napi::Env env, const LinkCounters& c) {
  auto object = Napi::Object::New(env);
  object.Set("offered", count(env, c.offered));
  object.Set("offeredBytes", count(env, c.offered_bytes));
  object.Set("dropped", count(env, c.dropped));
  object.Set("queueDropped", count(env, c.queue_dropped));
  object.Set("duplicated", count(env, c.duplicated));
  object.Set("corrupted", count(env, c.corrupted));
  object.Set("reordered", count(env, c.reordered));
  object.Set("offeredByKind", by_kind(env, c.offered_by_kind));
  object.Set("droppedByKind", by_kind(env, c.dropped_by_kind));
  return object;
}

Napi::Object from_counters(Napi::Env env, const QpCounters& c, const LinkCounters& link) {
  static constexpr const char* kSteps[SDR_STEP_KINDS] = {"packets", "chunks",  "messages",  "duplicates", "late",
                                                         "badQueue", "badSlot", "badPacket", "badLength"};
  auto object = Napi::Object::New(env);
  for (size_t i = 0; i < SDR_STEP_KINDS; i++) object.Set(kSteps[i], count(env, c.steps[i]));
  object.Set("packetsSent", count(env, c.packets_sent));
  object.Set("bytesSent", count(env, c.bytes_sent));
  object.Set("wireBytesSent", count(env, c.wire_bytes_sent));
  object.Set("controlSent", count(env, c.control_sent));
  object.Set("controlWaiting", count(env, c.control_waiting));
  object.Set("controlReceived", count(env, c.control_received));
  object.Set("controlDropped", count(env, c.control_dropped));
  object.Set("badChecksum", count(env, c.bad_checksum));
  object.Set("truncated", count(env, c.truncated));
  object.Set("replayed", count(env, c.replayed));
  object.Set("malformed", count(env, c.malformed));
  object.Set("sendErrors", count(env, c.send_errors));
  object.Set("link", from_link_counters(env, link));
  return object;
}

EventSlab::EventSlab(Napi::Env env) {
  auto memory = Napi::ArrayBuffer::New(env, kEventsMax * sizeof(Event));
  auto control = Napi::ArrayBuffer::New(env, EventQueue::kControlBytesMax);
  events_ = static_cast<Event*>(memory.Data());
  control_ = static_cast<uint8_t*>(control.Data());
  auto object = Napi::Object::New(env);
  object.Set("words", Napi::Uint32Array::New(env, kEventsMax * 8, memory, 0));
  object.Set("times", Napi::Float64Array::New(env, kEventsMax * 4, memory, 0));
  object.Set("control", Napi::Uint8Array::New(env, EventQueue::kControlBytesMax, control, 0));
  object_ = Napi::Persistent(object);
}

}  // namespace sdr::node
