// The UDP transport's context for JavaScript.
#pragma once

#include "node/context_hold.h"
#include "sdr/udp.h"

namespace sdr::node {

class UdpContextWrap : public Napi::ObjectWrap<UdpContextWrap>, public ContextHold<UdpContext> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit UdpContextWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value addresses(const Napi::CallbackInfo& info);
  Napi::Value create_qp(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value unknown_datagrams(const Napi::CallbackInfo& info);
};

}  // namespace sdr::node
