// Failures of the C library: the error of a thread's last failing call. Inside, a failure is an
// exception; none leaves the library (api.h).
#pragma once

#include <exception>
#include <string>

#include "sdr_ext.h"

namespace sdr::lib {

using Code = sdr_ext_error;

struct Error {
  Code code = SDR_EXT_NONE;
  std::string text;  // names the value that was wrong, and what to do
};

class Failure : public std::exception {
 public:
  explicit Failure(Error error) : error_(std::move(error)) {}
  const Error& error() const { return error_; }
  const char* what() const noexcept override { return error_.text.c_str(); }

 private:
  Error error_;
};

Error make_error(Code code, const std::string& text, const std::string& remedy);
[[noreturn]] void fail(Code code, const std::string& text, const std::string& remedy);
inline void require(bool condition, const char* text, const char* remedy) {
  if (!condition) fail(SDR_EXT_INVALID_ARGUMENT, text, remedy);
}

const char* code_name(Code code);
// The code of a number that came over the wire; an unknown one is ABORTED.
Code code_of(unsigned number);

// This thread's. Never throws.
void remember_error(const Error& error) noexcept;
void remember_error(Code code, const char* text) noexcept;
const Error& last_error() noexcept;

}  // namespace sdr::lib
