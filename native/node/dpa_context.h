// The DPA transport's context for JavaScript.
#pragma once

#include "node/context_hold.h"
#include "sdr/dpa.h"

namespace sdr::node {

class DpaContextWrap : public Napi::ObjectWrap<DpaContextWrap>, public ContextHold<DpaContext> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit DpaContextWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value create_qp(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
};

}  // namespace sdr::node
