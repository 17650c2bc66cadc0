// Small pieces of a connection's watch over its path: round-trip time (RFC 6298), sequence numbers
// seen (RFC 4303 appendix A), and whether the peer is there. They are src/reliability/rtt.ts,
// replay-window.ts and src/sdk/peer-watch.ts in C++. No clock: time comes in, in nanoseconds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace sdr::lib {

inline constexpr int64_t kRttGuessNs = 10'000'000;  // until the first pong
inline constexpr int64_t kRttMaxNs = 60'000'000'000;

class RoundTrip {
 public:
  int64_t rtt_ns() const { return std::max<int64_t>(1, std::llround(smoothed_ns_)); }
  void sample(int64_t rtt_ns) {
    if (rtt_ns <= 0 || rtt_ns > kRttMaxNs) return;
    smoothed_ns_ = has_sample_ ? smoothed_ns_ + (static_cast<double>(rtt_ns) - smoothed_ns_) / 8
                               : static_cast<double>(rtt_ns);
    has_sample_ = true;
  }

 private:
  double smoothed_ns_ = kRttGuessNs;
  bool has_sample_ = false;
};

class ReplayWindow {
 public:
  // True once for each sequence number that is not older than 64 before the highest.
  bool accept(uint32_t sequence) {
    if (!any_) {
      any_ = true;
      highest_ = sequence;
      seen_ = 1;
      return true;
    }
    const uint32_t ahead = sequence - highest_;
    if (ahead != 0 && ahead < 0x80000000u) {
      seen_ = (ahead < 64 ? seen_ << ahead : 0) | 1;
      highest_ = sequence;
      return true;
    }
    const uint32_t age = highest_ - sequence;
    if (age >= 64 || (seen_ >> age & 1) != 0) return false;
    seen_ |= uint64_t{1} << age;
    return true;
  }

 private:
  bool any_ = false;
  uint32_t highest_ = 0;
  uint64_t seen_ = 0;  // bit i: highest - i
};

// When to ping: doubling intervals while connecting, then when a peer that owes an answer has been
// silent.
class PeerWatch {
 public:
  int64_t timeout_ns = 0;

  bool is_connected() const { return full_pong_; }
  bool has_small_pong() const { return small_pong_; }
  void heard(int64_t now_ns) { alive_ns_ = std::max(alive_ns_, now_ns); }
  // A look that comes late, because this end's thread was busy, is not held against the peer.
  void look(int64_t now_ns) {
    if (const int64_t late_ns = now_ns - next_ns(); late_ns > 0) heard(alive_ns_ + late_ns);
  }
  bool is_silent(int64_t now_ns) const { return now_ns >= alive_ns_ + timeout_ns; }
  bool is_ping_due(int64_t now_ns) const { return now_ns >= ping_at_ns(); }
  int64_t next_ns() const { return std::min(ping_at_ns(), alive_ns_ + timeout_ns); }
  void pinged(int64_t now_ns) {
    last_ping_ns_ = now_ns;
    pings_++;
  }
  void ponged(bool full) { (full ? full_pong_ : small_pong_) = true; }

 private:
  static constexpr int64_t kPingIntervalNsMin = 10'000'000;
  static constexpr int kPingDoublingsMax = 4;
  static constexpr int64_t kPingsPerTimeout = 16;

  int64_t ping_at_ns() const {
    if (!full_pong_)
      return last_ping_ns_ + (kPingIntervalNsMin << std::clamp(pings_ - 1, 0, kPingDoublingsMax));
    return std::max(alive_ns_, last_ping_ns_) + std::max<int64_t>(1, timeout_ns / kPingsPerTimeout);
  }

  int64_t alive_ns_ = 0, last_ping_ns_ = 0;
  int pings_ = 0;
  bool small_pong_ = false, full_pong_ = false;
};

}  // namespace sdr::lib
