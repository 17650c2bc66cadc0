// The DPA transport's context for JavaScript.
#pragma once

#include "node/environment.h"
#include "node/values.h"
#include "node/wake.h"
#include "sdr/dpa.h"

namespace sdr::node {

class DpaContextWrap : public Napi::ObjectWrap<DpaContextWrap>, public OpenContext {
 public:
  static Napi::Function define(Napi::Env env);
  explicit DpaContextWrap(const Napi::CallbackInfo& info);
  ~DpaContextWrap() override;
  // Joins threads. Idempotent; also called when the environment ends.
  void shut() override;

 private:
  DpaContext& native(Napi::Env env) const;
  Napi::Value create_qp(const Napi::CallbackInfo& info);
  Napi::Value qp_info(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value now(const Napi::CallbackInfo& info);
  Napi::Value drain(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<DpaContext> context_;
  std::unique_ptr<EventSlab> slab_;
  WakeFunction wake_;
  Environment* environment_ = nullptr;
};

}  // namespace sdr::node
