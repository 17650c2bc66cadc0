// A queue pair as JavaScript sees it; the same for every transport.
#pragma once

#include <functional>

#include "node/environment.h"
#include "sdr/transport.h"

namespace sdr::node {

// The native queue pair, for as long as the wrap or a task needs it.
struct NativeQueuePair {
  std::shared_ptr<void> owner;  // world or context: outlives it
  QueuePair* qp = nullptr;
  std::function<void()> destroy;  // frees it before its owner's end; may be empty
  ~NativeQueuePair() {
    if (destroy) destroy();
  }
};

class QueuePairWrap : public Napi::ObjectWrap<QueuePairWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  // `owner` (world or context) outlives the queue pair; `destroy` frees it natively and may be empty.
  static Napi::Object create(Napi::Env env, std::shared_ptr<void> owner, QueuePair* qp, std::function<void()> destroy);
  // Throws TypeError for anything else or after close.
  static QueuePairWrap& unwrap(const Napi::Value& value);

  explicit QueuePairWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<QueuePairWrap>(info) {}
  ~QueuePairWrap() override;
  QueuePair& native(Napi::Env env) const;
  // Detaches the bitmap views and ends the native queue pair. Idempotent.
  void shut();

 private:
  Napi::Value post_receive(const Napi::CallbackInfo& info);
  Napi::Value parity_bits(const Napi::CallbackInfo& info);
  Napi::Value recover(const Napi::CallbackInfo& info);
  Napi::Value recover_now(const Napi::CallbackInfo& info);
  Napi::Value grant(const Napi::CallbackInfo& info);
  Napi::Value set_length(const Napi::CallbackInfo& info);
  Napi::Value complete(const Napi::CallbackInfo& info);
  Napi::Value chunk_expand(const Napi::CallbackInfo& info);
  Napi::Value user_immediate(const Napi::CallbackInfo& info);
  Napi::Value chunks_done(const Napi::CallbackInfo& info);
  Napi::Value open_send(const Napi::CallbackInfo& info);
  Napi::Value accept_grant(const Napi::CallbackInfo& info);
  Napi::Value post_send(const Napi::CallbackInfo& info);
  Napi::Value close_send(const Napi::CallbackInfo& info);
  Napi::Value send_control(const Napi::CallbackInfo& info);
  Napi::Value last_heard(const Napi::CallbackInfo& info);
  Napi::Value counters(const Napi::CallbackInfo& info);
  Napi::Value set_link(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<NativeQueuePair> native_;  // null after shut()
  std::function<void()> destroy_;
  Napi::Reference<Napi::ArrayBuffer> bitmaps_;
};

}  // namespace sdr::node
