// The UDP transport's context for JavaScript.
#pragma once

#include <cstddef>

#include "node/environment.h"
#include "node/values.h"
#include "sdr/udp.h"

namespace sdr::node {

// Calls `wake` on the JavaScript thread. What it throws is an uncaught exception of the program, as from a
// timer's callback; in an environment that is being terminated the call simply does not happen.
void call_wake(Napi::Env env, Napi::Function wake, std::nullptr_t* context, std::nullptr_t* data);
using WakeFunction = Napi::TypedThreadSafeFunction<std::nullptr_t, std::nullptr_t, call_wake>;

class UdpContextWrap : public Napi::ObjectWrap<UdpContextWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit UdpContextWrap(const Napi::CallbackInfo& info);
  ~UdpContextWrap() override;
  // Closes sockets and joins threads. Idempotent; also called when the environment ends.
  void shut();

 private:
  UdpContext& native(Napi::Env env) const;
  Napi::Value addresses(const Napi::CallbackInfo& info);
  Napi::Value create_qp(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value now(const Napi::CallbackInfo& info);
  Napi::Value drain(const Napi::CallbackInfo& info);
  Napi::Value unknown_datagrams(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<UdpContext> context_;
  std::unique_ptr<EventSlab> slab_;
  WakeFunction wake_;
  Environment* environment_ = nullptr;
};

}  // namespace sdr::node
