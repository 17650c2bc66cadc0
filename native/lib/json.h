// A reader of small JSON texts from outside: strict, bounded in depth, and it says where the text
// ended.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sdr::lib {

struct Json {
  enum class Kind { null, boolean, number, string, array, object };
  Kind kind = Kind::null;
  double number = 0;  // 1 for true
  std::string string;
  std::vector<Json> items;
  std::vector<std::pair<std::string, Json>> fields;

  // The field of an object; null when there is none.
  const Json* find(const char* name) const;
  // A whole number within [least, most], else nothing.
  std::optional<double> whole(double least, double most) const;
};

// The value at the beginning of `text`, and in `end` where it ended; nothing when it is none. A NUL
// ends the text.
std::optional<Json> read_json(const char* text, size_t size, size_t* end);

// `text` as a JSON string, with its quotes.
std::string json_string(const std::string& text);

}  // namespace sdr::lib
