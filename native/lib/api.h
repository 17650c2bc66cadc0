// What every function of the C interface is wrapped in: no exception leaves the library, and what
// failed is kept as the thread's last error.
#pragma once

#include <new>

#include "lib/context.h"
#include "lib/error.h"

namespace sdr::lib {

// SDR_SUCCESS, or what the body threw: SDR_RETRY for BUSY, SDR_ERROR for everything else.
template <class Body>
int guarded(Body&& body) noexcept {
  try {
    body();
    return SDR_SUCCESS;
  } catch (const Failure& failure) {
    remember_error(failure.error());
    return failure.error().code == SDR_EXT_BUSY ? SDR_RETRY : SDR_ERROR;
  } catch (const std::bad_alloc&) {
    remember_error(SDR_EXT_ENVIRONMENT, "out of memory (free some)");
  } catch (const std::exception& other) {
    remember_error(SDR_EXT_ENVIRONMENT, other.what());
  } catch (...) {
    remember_error(SDR_EXT_ENVIRONMENT, "an unknown failure");
  }
  return SDR_ERROR;
}

inline int error_not_retry(int result) { return result == SDR_RETRY ? SDR_ERROR : result; }

template <class T>
T& needed(T* pointer, const char* what) {
  if (pointer == nullptr)
    fail(SDR_EXT_INVALID_ARGUMENT, std::string(what) + " is NULL", "pass a valid one");
  return *pointer;
}

// A call that finds nothing yet, or no room: where time is virtual something happens meanwhile.
inline void let_time_pass(Domain& domain) {
  if (!domain.limits().is_virtual) return;
  const std::lock_guard lock(domain.mutex);
  domain.step(kNever);
}

// As guarded, under the queue pair's lock; a busy one lets time pass.
template <class Body>
int guarded_on(Domain& domain, Body&& body) noexcept {
  const int result = guarded([&] {
    const std::lock_guard lock(domain.mutex);
    body();
  });
  if (result == SDR_RETRY) guarded([&] { let_time_pass(domain); });
  return result;
}

}  // namespace sdr::lib
