#include "lib/json.h"

#include <charconv>
#include <cmath>
#include <cstring>

namespace sdr::lib {
namespace {

constexpr int kDepthMax = 16;

class Reader {
 public:
  Reader(const char* text, size_t size) : text_(text), size_(strnlen(text, size)) {}
  size_t at() const { return at_; }

  bool value(Json& out, int depth) {
    if (depth > kDepthMax) return false;
    skip_space();
    switch (peek()) {
      case '{':
        return object(out, depth);
      case '[':
        return array(out, depth);
      case '"':
        out.kind = Json::Kind::string;
        return string(out.string);
      case 't':
        out.kind = Json::Kind::boolean;
        out.number = 1;
        return word("true");
      case 'f':
        out.kind = Json::Kind::boolean;
        return word("false");
      case 'n':
        return word("null");
      default:
        return number(out);
    }
  }

 private:
  char peek() const { return at_ < size_ ? text_[at_] : '\0'; }
  bool take(char wanted) {
    skip_space();
    if (peek() != wanted) return false;
    at_++;
    return true;
  }
  void skip_space() {
    while (at_ < size_ && std::strchr(" \t\r\n", text_[at_]) != nullptr) at_++;
  }
  bool word(const char* wanted) {
    const size_t length = std::strlen(wanted);
    if (size_ - at_ < length || std::memcmp(text_ + at_, wanted, length) != 0) return false;
    at_ += length;
    return true;
  }

  bool number(Json& out) {
    out.kind = Json::Kind::number;
    const char first = peek();
    if (first != '-' && (first < '0' || first > '9')) return false;
    const auto [end, problem] = std::from_chars(text_ + at_, text_ + size_, out.number);
    if (problem != std::errc()) return false;
    at_ = static_cast<size_t>(end - text_);
    return true;
  }

  // Escapes other than those of one character never occur in what is read here.
  bool string(std::string& out) {
    at_++;
    while (at_ < size_) {
      const char c = text_[at_++];
      if (c == '"') return true;
      if (static_cast<unsigned char>(c) < 0x20) return false;
      if (c != '\\') {
        out += c;
        continue;
      }
      const char escaped = peek();
      if (escaped == '\0' || std::strchr("\"\\/", escaped) == nullptr) return false;
      out += escaped;
      at_++;
    }
    return false;
  }

  bool array(Json& out, int depth) {
    out.kind = Json::Kind::array;
    at_++;
    if (take(']')) return true;
    do {
      if (!value(out.items.emplace_back(), depth + 1)) return false;
    } while (take(','));
    return take(']');
  }

  bool object(Json& out, int depth) {
    out.kind = Json::Kind::object;
    at_++;
    if (take('}')) return true;
    do {
      skip_space();
      auto& [name, field] = out.fields.emplace_back();
      if (peek() != '"' || !string(name) || !take(':') || !value(field, depth + 1)) return false;
    } while (take(','));
    return take('}');
  }

  const char* text_;
  const size_t size_;
  size_t at_ = 0;
};

}  // namespace

const Json* Json::find(const char* name) const {
  for (const auto& [key, field] : fields)
    if (key == name) return &field;
  return nullptr;
}

std::optional<double> Json::whole(double least, double most) const {
  const bool good =
      kind == Kind::number && number == std::floor(number) && number >= least && number <= most;
  return good ? std::optional(number) : std::nullopt;
}

std::optional<Json> read_json(const char* text, size_t size, size_t* end) {
  Reader reader(text, size);
  Json value;
  if (!reader.value(value, 0)) return std::nullopt;
  if (end != nullptr) *end = reader.at();
  return value;
}

std::string json_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + "\"";
}

}  // namespace sdr::lib
