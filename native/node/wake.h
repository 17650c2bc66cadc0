// How a transport's threads call JavaScript.
#pragma once

#include <napi.h>

#include <cstddef>

namespace sdr::node {

// Calls `wake` on the JavaScript thread. What it throws is an uncaught exception of the program, as from a
// timer's callback; in an environment that is being terminated the call simply does not happen.
void call_wake(Napi::Env env, Napi::Function wake, std::nullptr_t* context, std::nullptr_t* data);
using WakeFunction = Napi::TypedThreadSafeFunction<std::nullptr_t, std::nullptr_t, call_wake>;

}  // namespace sdr::node
