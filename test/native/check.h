// The native tests' harness: TEST(name) { CHECK(...); } and a main that runs all, or those whose name holds argv[1].
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace check {

struct Case {
  const char* name;
  void (*run)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
inline bool add(const char* name, void (*run)()) {
  cases().push_back({name, run});
  return true;
}
inline std::string show(const std::string& value) { return value; }
inline std::string show(const char* value) { return value; }
template <class T>
std::string show(const T& value) {
  if constexpr (std::is_enum_v<T>) return std::to_string(static_cast<long long>(value));
  else if constexpr (std::is_pointer_v<T>) return value ? "pointer" : "null";
  else return std::to_string(value);
}
[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  std::exit(1);
}

}  // namespace check

#define TEST(name)                                                   \
  static void test_##name();                                         \
  static const bool added_##name = check::add(#name, &test_##name);  \
  static void test_##name()
#define CHECK(condition) \
  do { if (!(condition)) check::fail(__FILE__, __LINE__, "not so: " #condition); } while (0)
#define CHECK_EQ(a, b)                                                                              \
  do {                                                                                              \
    const auto check_a = (a);                                                                       \
    const auto check_b = (b);                                                                       \
    if (!(check_a == check_b))                                                                      \
      check::fail(__FILE__, __LINE__, std::string(#a " is ") + check::show(check_a) + ", not " +    \
                                          check::show(check_b) + " (" #b ")");                      \
  } while (0)

int main(int argc, char** argv) {
  int ran = 0;
  for (const auto& one : check::cases()) {
    if (argc > 1 && std::strstr(one.name, argv[1]) == nullptr) continue;
    std::printf("%s\n", one.name);
    std::fflush(stdout);
    one.run();
    ran++;
  }
  std::printf("%d tests passed\n", ran);
  return ran > 0 ? 0 : 1;
}
