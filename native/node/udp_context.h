// The UDP transport's context for JavaScript.
#pragma once

#include "node/environment.h"
#include "node/values.h"
#include "node/wake.h"
#include "sdr/udp.h"

namespace sdr::node {

class UdpContextWrap : public Napi::ObjectWrap<UdpContextWrap>, public OpenContext {
 public:
  static Napi::Function define(Napi::Env env);
  explicit UdpContextWrap(const Napi::CallbackInfo& info);
  ~UdpContextWrap() override;
  // Closes sockets and joins threads. Idempotent; also called when the environment ends.
  void shut() override;

 private:
  UdpContext& native(Napi::Env env) const;
  Napi::Value addresses(const Napi::CallbackInfo& info);
  Napi::Value create_qp(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value now(const Napi::CallbackInfo& info);
  Napi::Value drain(const Napi::CallbackInfo& info);
  Napi::Value unknown_datagrams(const Napi::CallbackInfo& info);
  Napi::Value worker_cpu_ns(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<UdpContext> context_;
  std::unique_ptr<EventSlab> slab_;
  WakeFunction wake_;
  Environment* environment_ = nullptr;
};

}  // namespace sdr::node
