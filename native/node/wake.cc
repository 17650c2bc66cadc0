#include "node/wake.h"

namespace sdr::node {

void call_wake(Napi::Env env, Napi::Function wake, std::nullptr_t*, std::nullptr_t*) {
  if (env == nullptr || wake.IsEmpty()) return;
  napi_value receiver = nullptr;
  napi_value result = nullptr;
  if (napi_get_undefined(env, &receiver) != napi_ok) return;
  if (napi_call_function(env, receiver, wake, 0, nullptr, &result) != napi_pending_exception) return;
  napi_value thrown = nullptr;
  if (napi_get_and_clear_last_exception(env, &thrown) == napi_ok) napi_fatal_exception(env, thrown);
}

}  // namespace sdr::node
