// Erasure codes for JavaScript: on views of ArrayBuffers, and on blocks of regions.
#pragma once

#include "node/environment.h"
#include "sdr/codec.h"

namespace sdr::node {

class CodeWrap : public Napi::ObjectWrap<CodeWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  // {kernel, threads}
  static Napi::Value describe(const Napi::CallbackInfo& info);
  // Throws TypeError for anything else.
  static std::shared_ptr<const codec::Code> unwrap(const Napi::Value& value);

  // (kind, k, m). Throws RangeError for a shape that is not valid.
  explicit CodeWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value encode(const Napi::CallbackInfo& info);
  Napi::Value update(const Napi::CallbackInfo& info);
  Napi::Value is_recoverable(const Napi::CallbackInfo& info);
  Napi::Value decode(const Napi::CallbackInfo& info);
  Napi::Value encode_block(const Napi::CallbackInfo& info);

  std::shared_ptr<const codec::Code> code_;
};

}  // namespace sdr::node
