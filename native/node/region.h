// Memory regions: user ArrayBuffers (pinned by reference), page-aligned allocations, phantoms.
#pragma once

#include "node/environment.h"
#include "sdr/transport.h"

namespace sdr::node {

class RegionWrap : public Napi::ObjectWrap<RegionWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(const Napi::CallbackInfo& info);
  static Napi::Value allocate(const Napi::CallbackInfo& info);
  static Napi::Value scratch(const Napi::CallbackInfo& info);
  static Napi::Value phantom(const Napi::CallbackInfo& info);
  static Napi::Value dmabuf(const Napi::CallbackInfo& info);
  // A null or undefined value is a phantom of no region. Throws TypeError for a buffer that was detached since.
  static RegionRef unwrap(const Napi::Value& value);

  explicit RegionWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<RegionWrap>(info) {}

  // Lets go of the memory now, as far as this object holds it.
  Napi::Value close(const Napi::CallbackInfo& info);

 private:
  static Napi::Object wrap(Napi::Env env, RegionRef region);

  RegionRef region_;
  Napi::ObjectReference buffer_;  // the user's ArrayBuffer, weak: only to notice that it was detached
};

}  // namespace sdr::node
