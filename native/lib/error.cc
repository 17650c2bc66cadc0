#include "lib/error.h"

#include <iterator>

namespace sdr::lib {
namespace {

constexpr const char* kNames[] = {"NONE",
                                  "INVALID_ARGUMENT",
                                  "BUSY",
                                  "TOO_LARGE",
                                  "CLOSED",
                                  "ABORTED",
                                  "DEADLINE_EXCEEDED",
                                  "PEER_UNREACHABLE",
                                  "PEER_INCOMPATIBLE",
                                  "PEER_CLOSED",
                                  "ACCESS_DENIED",
                                  "ADDRESS_IN_USE",
                                  "UNRECOVERABLE_LOSS",
                                  "INTEGRITY",
                                  "FILE",
                                  "NO_SPACE",
                                  "UNSUPPORTED",
                                  "ENVIRONMENT",
                                  "NOT_FOUND",
                                  "DEADLOCK"};
static_assert(std::size(kNames) == SDR_EXT_DEADLOCK + 1);

thread_local Error t_last;

}  // namespace

Error make_error(Code code, const std::string& text, const std::string& remedy) {
  return {code, remedy.empty() ? text : text + " (" + remedy + ")"};
}

void fail(Code code, const std::string& text, const std::string& remedy) {
  throw Failure(make_error(code, text, remedy));
}

const char* code_name(Code code) {
  const auto number = static_cast<unsigned>(code);
  return number < std::size(kNames) ? kNames[number] : "UNKNOWN";
}

Code code_of(unsigned number) {
  return number > 0 && number < std::size(kNames) ? static_cast<Code>(number) : SDR_EXT_ABORTED;
}

void remember_error(const Error& error) noexcept { remember_error(error.code, error.text.c_str()); }

void remember_error(Code code, const char* text) noexcept {
  t_last.code = code;
  try {
    t_last.text = text;
  } catch (...) {
    t_last.text.clear();  // no memory for the text: the code is there
  }
}

const Error& last_error() noexcept { return t_last; }

}  // namespace sdr::lib
