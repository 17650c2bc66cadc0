// Messages given up at this end, until the peer confirms that it knows: their CLOSE is repeated, as
// any control frame may be lost.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>

#include "lib/domain.h"
#include "lib/writer.h"

namespace sdr::lib {

class Goodbyes {
 public:
  static constexpr size_t kMost = 1024;  // with so many unconfirmed, nothing new is posted

  explicit Goodbyes(Scope scope) : scope_(scope) {}
  void add(uint32_t message, unsigned reason, int64_t now_ns) {
    waiting_[message] = {reason, 0, now_ns};
  }
  void confirm(uint32_t message) { waiting_.erase(message); }
  void clear() { waiting_.clear(); }
  bool empty() const { return waiting_.empty(); }
  bool is_full() const { return waiting_.size() >= kMost; }
  int64_t next_ns() const {
    int64_t next = kNever;
    for (const auto& [message, goodbye] : waiting_) next = std::min(next, goodbye.at_ns);
    return next;
  }
  void flush(FrameWriter& writer, int64_t now_ns, int64_t interval_ns) {
    for (auto& [message, goodbye] : waiting_) {
      if (goodbye.at_ns > now_ns) continue;
      writer.write(close_frame(scope_, message, goodbye.reason));
      const int64_t doubled = interval_ns << std::min(goodbye.repeats++, kDoublingsMax);
      goodbye.at_ns = now_ns + std::min(doubled, std::max(interval_ns, kIntervalNsMax));
    }
  }

 private:
  static constexpr int kDoublingsMax = 10;
  static constexpr int64_t kIntervalNsMax = 250'000'000;
  struct Goodbye {
    unsigned reason;
    int repeats;
    int64_t at_ns;
  };
  const Scope scope_;
  std::map<uint32_t, Goodbye> waiting_;
};

}  // namespace sdr::lib
