// The verbs transport's context for JavaScript.
#pragma once

#include "node/context_hold.h"
#include "sdr/verbs.h"

namespace sdr::node {

class VerbsContextWrap : public Napi::ObjectWrap<VerbsContextWrap>,
                         public ContextHold<VerbsContext> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit VerbsContextWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value create_qp(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value failure(const Napi::CallbackInfo& info);
  Napi::Value refusal(const Napi::CallbackInfo& info);
};

}  // namespace sdr::node
