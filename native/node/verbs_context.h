// The verbs transport's context for JavaScript.
#pragma once

#include "node/environment.h"
#include "node/values.h"
#include "node/wake.h"
#include "sdr/verbs.h"

namespace sdr::node {

class VerbsContextWrap : public Napi::ObjectWrap<VerbsContextWrap>, public OpenContext {
 public:
  static Napi::Function define(Napi::Env env);
  explicit VerbsContextWrap(const Napi::CallbackInfo& info);
  ~VerbsContextWrap() override;
  // Closes the device and joins threads. Idempotent; also called when the environment ends.
  void shut() override;

 private:
  VerbsContext& native(Napi::Env env) const;
  Napi::Value create_qp(const Napi::CallbackInfo& info);
  Napi::Value info(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value failure(const Napi::CallbackInfo& info);
  Napi::Value refusal(const Napi::CallbackInfo& info);
  Napi::Value now(const Napi::CallbackInfo& info);
  Napi::Value drain(const Napi::CallbackInfo& info);
  Napi::Value worker_cpu(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<VerbsContext> context_;
  std::unique_ptr<EventSlab> slab_;
  WakeFunction wake_;
  Environment* environment_ = nullptr;
};

}  // namespace sdr::node
