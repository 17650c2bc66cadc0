// JavaScript values to C++ and back, checked: a wrong type throws TypeError naming the argument.
#pragma once

#include <napi.h>

#include <cmath>
#include <string>

#include "sdr/transport.h"

namespace sdr::node {

constexpr double kIntegerMax = 9007199254740991.0;  // 2^53 - 1

double number(const Napi::Value& value, const char* name);
// A whole number 0..2^53-1.
uint64_t whole(const Napi::Value& value, const char* name);
uint32_t whole32(const Napi::Value& value, const char* name);
// `otherwise` when the value is undefined.
uint32_t optional32(const Napi::Value& value, const char* name, uint32_t otherwise);
Napi::Object to_object(const Napi::Value& value, const char* name);
// At most `most` elements.
Napi::Array to_array(const Napi::Value& value, const char* name, size_t most);
Napi::Uint8Array to_bytes(const Napi::Value& value, const char* name);
// Memory that JavaScript owns. It stays in place while the buffer is neither collected nor detached.
struct Memory {
  Napi::ArrayBuffer buffer;  // empty: no memory
  uint8_t* data = nullptr;
  size_t bytes = 0;
};
// An ArrayBuffer or a view of one, neither shared, detached nor resizable.
Memory to_memory(const Napi::Value& value, const std::string& name);
// Optional fields of an options object.
double number_or(const Napi::Object& object, const char* name, double otherwise);

// Valid by LinkConfig::is_valid().
LinkConfig to_link(const Napi::Value& value);
// Field by field only: creating the queue pair judges the whole.
QpConfig to_qp_config(const Napi::Value& value);
// With the fields of which src/transport/transport.ts makes an SdrError.
Napi::Error to_error(Napi::Env env, const DeviceError& error);
Napi::Object from_link_counters(Napi::Env env, const LinkCounters& counters);
Napi::Object from_counters(Napi::Env env, const QpCounters& counters, const LinkCounters& link);

// The memory that events are drained into: Event[kEventsMax] seen as Uint32Array and Float64Array, and control bytes.
class EventSlab {
 public:
  static constexpr size_t kEventsMax = 2048;
  explicit EventSlab(Napi::Env env);
  Napi::Object object() const { return object_.Value(); }
  size_t drain(EventQueue& queue) { return queue.drain(events_, kEventsMax, control_); }

 private:
  Napi::ObjectReference object_;
  Event* events_ = nullptr;
  uint8_t* control_ = nullptr;
};

}  // namespace sdr::node
