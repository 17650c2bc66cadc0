#include "lib/link_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <set>
#include <sstream>
#include <vector>

#include "lib/error.h"

namespace sdr::lib {
namespace {

constexpr const char* kTerms[] = {"rate",    "delay",   "loss",  "duplicate",
                                  "corrupt", "reorder", "limit", "drop"};
constexpr const char* kKinds[] = {"data", "cts",  "start", "ack",   "nack",
                                  "done", "ping", "pong",  "close", "other"};
static_assert(std::size(kKinds) == kPacketKinds);

struct Unit {
  const char* name;
  double factor;
};
constexpr Unit kRates[] = {{"", 1},       {"bit", 1},     {"kbit", 1e3}, {"mbit", 1e6},
                           {"gbit", 1e9}, {"tbit", 1e12}, {"bps", 8},    {"kbps", 8e3},
                           {"mbps", 8e6}, {"gbps", 8e9},  {"tbps", 8e12}};
constexpr Unit kTimes[] = {{"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}};
constexpr Unit kPlain[] = {{"", 1}};

// The words of one term, taken in order.
class Term {
 public:
  explicit Term(std::string name) : name_(std::move(name)) {}
  void add(std::string word) { words_.push_back(std::move(word)); }
  const std::string& name() const { return name_; }

  [[noreturn]] void refuse(const std::string& problem) const {
    fail(SDR_EXT_INVALID_ARGUMENT, "link term \"" + name_ + "\": " + problem,
         "sdr_ext.h lists the terms, for example rate 10gbit delay 5ms loss 0.1%");
  }
  bool accept(const char* word) {
    if (at_ >= words_.size() || words_[at_] != word) return false;
    at_++;
    return true;
  }
  bool has_value(const char* stop = "") const { return at_ < words_.size() && words_[at_] != stop; }
  std::string word() {
    if (at_ >= words_.size()) refuse("a word is missing");
    return words_[at_++];
  }

  template <size_t N>
  double value(const Unit (&units)[N]) {
    const std::string text = word();
    double number = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, problem] = std::from_chars(text.data(), end, number);
    if (problem == std::errc() && number >= 0 && std::isfinite(number)) {
      for (const Unit& unit : units)
        if (std::string(rest, end) == unit.name) return number * unit.factor;
      if (number == 0 && rest == end) return 0;
    }
    refuse("\"" + text + "\" is not understood");
  }
  // A plain number of 1 and more could mean percent, so it is not guessed.
  double share() {
    const bool is_percent = has_value() && words_[at_].ends_with('%');
    if (is_percent) {
      // The exponent is shifted instead of dividing, so that 70% is rounded once.
      std::string& word = words_[at_];
      word.pop_back();
      const size_t exponent = word.find('e');
      const long shift =
          exponent == std::string::npos ? 0 : std::strtol(word.c_str() + exponent + 1, nullptr, 10);
      word = word.substr(0, exponent) + "e" + std::to_string(shift - 2);
    }
    const double value = this->value(kPlain);
    if (value > 1 || (value == 1 && !is_percent))
      refuse("a probability is 0% to 100%, or a number below 1");
    return value;
  }
  int64_t time() { return whole(value(kTimes), 1e15); }
  int64_t count() { return whole(value(kPlain), 4e9); }
  double optional_share(const char* stop = "") { return has_value(stop) ? share() : 0; }
  void end() const {
    if (at_ < words_.size()) refuse("\"" + words_[at_] + "\" is not expected here");
  }

 private:
  int64_t whole(double value, double most) const {
    if (value > most) refuse("a number is too large");
    return std::llround(value);
  }
  std::string name_;
  std::vector<std::string> words_;
  size_t at_ = 0;
};

void read_delay(Term& term, LinkConfig& link) {
  link.delay_ns = term.time();
  if (term.has_value("distribution")) link.jitter_ns = term.time();
  link.delay_correlation = term.optional_share("distribution");
  if (!term.accept("distribution")) return;
  constexpr const char* names[] = {"uniform", "normal", "pareto", "paretonormal"};
  const std::string name = term.word();
  for (size_t i = 0; i < std::size(names); i++) {
    if (name != names[i]) continue;
    link.distribution = static_cast<Distribution>(i);
    return;
  }
  term.refuse("distribution \"" + name + "\" is unknown");
}

void read_loss(Term& term, LinkConfig& link) {
  if (term.accept("none")) return;
  if (term.accept("gemodel")) {
    link.loss = LossModel::gilbert_elliott;
    link.ge_p = term.share();
    link.ge_r = term.has_value() ? term.share() : 1 - link.ge_p;
    link.ge_loss_bad = term.has_value() ? term.share() : 1;
    link.ge_loss_good = term.optional_share();
    if (link.ge_p + link.ge_r == 0) term.refuse("p and r are both 0: no state is ever left");
    return;
  }
  term.accept("random");
  link.loss = LossModel::bernoulli;
  link.loss_probability = term.share();
  link.loss_correlation = term.optional_share();
}

void read_drop(Term& term, LinkConfig& link) {
  const std::string name = term.word();
  size_t kind = 0;
  while (kind < kPacketKinds && name != kKinds[kind]) kind++;
  if (kind == kPacketKinds) term.refuse("kind \"" + name + "\" is unknown");
  const std::string range = term.word();
  uint64_t first = 0, last = 0;
  const char* const end = range.data() + range.size();
  auto parsed = std::from_chars(range.data(), end, first);
  last = first;
  if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '-')
    parsed = std::from_chars(parsed.ptr + 1, end, last);
  if (parsed.ec != std::errc() || parsed.ptr != end)
    term.refuse("\"" + range + "\" is not N or N-M");
  link.drops.push_back({static_cast<PacketKind>(kind), first, last});
}

void read_term(Term& term, LinkConfig& link) {
  const std::string& name = term.name();
  if (name == "rate") {
    link.rate_bps = term.value(kRates);
    if (term.has_value())
      link.packet_overhead_bytes = static_cast<int32_t>(std::min<int64_t>(term.count(), 65536));
  } else if (name == "delay") {
    read_delay(term, link);
  } else if (name == "loss") {
    read_loss(term, link);
  } else if (name == "duplicate") {
    link.duplicate_probability = term.share();
    link.duplicate_correlation = term.optional_share();
  } else if (name == "corrupt") {
    link.corrupt_probability = term.share();
    link.corrupt_correlation = term.optional_share();
  } else if (name == "reorder") {
    link.reorder_probability = term.share();
    link.reorder_correlation = term.optional_share("gap");
    if (term.accept("gap")) link.reorder_gap = static_cast<uint32_t>(term.count());
  } else if (name == "limit") {
    link.limit_packets = static_cast<uint32_t>(term.count());
  } else {
    read_drop(term, link);
  }
  term.end();
}

bool is_term(const std::string& word) {
  for (const char* term : kTerms)
    if (word == term) return true;
  return false;
}

}  // namespace

LinkConfig parse_link(const std::string& text) {
  std::string lower = text;
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  std::istringstream words(lower);
  std::vector<Term> terms;
  for (std::string word; words >> word;) {
    if (is_term(word))
      terms.emplace_back(word);
    else if (!terms.empty())
      terms.back().add(word);
    else if (word == "none" && (words >> std::ws).eof())
      return {};
    else
      Term(word).refuse("no term of a link is called so");
  }
  if (terms.empty()) Term("").refuse("the text is empty; \"none\" is a clear link");
  LinkConfig link;
  std::set<std::string> seen;
  for (Term& term : terms) {
    if (term.name() != "drop" && !seen.insert(term.name()).second) term.refuse("given twice");
    read_term(term, link);
  }
  if (link.reorder_probability > 0 && link.delay_ns == 0)
    Term("reorder").refuse("without a delay there is nothing to overtake");
  if (!link.is_valid())
    fail(SDR_EXT_INVALID_ARGUMENT, "link \"" + text + "\" has a value out of range",
         "sdr_ext.h lists the terms");
  return link;
}

}  // namespace sdr::lib
