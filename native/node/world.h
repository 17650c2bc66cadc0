// The emulated transport's world for JavaScript.
#pragma once

#include "node/environment.h"
#include "node/values.h"
#include "sdr/emulated.h"

namespace sdr::node {

class WorldWrap : public Napi::ObjectWrap<WorldWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit WorldWrap(const Napi::CallbackInfo& info);

 private:
  EmulatedWorld& native(Napi::Env env) const;
  Napi::Value add_link(const Napi::CallbackInfo& info);
  Napi::Value set_link(const Napi::CallbackInfo& info);
  Napi::Value link_counters(const Napi::CallbackInfo& info);
  Napi::Value create_qp(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value now(const Napi::CallbackInfo& info);
  Napi::Value advance(const Napi::CallbackInfo& info);
  Napi::Value record_packets(const Napi::CallbackInfo& info);
  Napi::Value take_records(const Napi::CallbackInfo& info);
  Napi::Value idle(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<EmulatedWorld> world_;
  std::unique_ptr<EventSlab> slab_;
};

}  // namespace sdr::node
