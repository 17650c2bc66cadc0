// Exact serialisation at a rate. It knows neither packets nor clocks: sizes and times come in.
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>

namespace sdr {

// The n-th departure of a busy period that began at s is s + ceil(cumulative bits * 1e9 / rate),
// however long the period lasts: the time is kept as whole nanoseconds and an integer remainder, so
// that nothing is ever rounded. Beyond kTimeMaxNs all departures are then.
class Serialiser {
 public:
  // 73 years: adding a link's delay does not overflow.
  static constexpr int64_t kTimeMaxNs = int64_t{1} << 61;

  // The rate is kept in thousandths of a bit per second; 0 or less: infinite. A period under way
  // goes on from its last departure.
  void set_rate(double bits_per_second) {
    const uint64_t rate =
        bits_per_second > 0 ? static_cast<uint64_t>(std::llround(bits_per_second * 1000)) : 0;
    if (rate == rate_) return;
    floor_ns_ = free_at_ns();
    remainder_ = 0;
    rate_ = rate;
    cached_bytes_ = UINT64_MAX;
  }

  // Departure of the last bit of `bytes` offered at `now_ns`. An offer at free_at_ns() continues
  // the busy period: the idle time before it is the rounding of free_at_ns() only.
  int64_t push(int64_t now_ns, uint64_t bytes) {
    if (now_ns > free_at_ns()) {
      floor_ns_ = now_ns;
      remainder_ = 0;
    }
    if (rate_ == 0) return floor_ns_;
    if (bytes != cached_bytes_) measure(bytes);
    floor_ns_ = std::min(floor_ns_ + cached_ns_, kTimeMaxNs);
    remainder_ += cached_remainder_;
    if (remainder_ >= rate_) {
      remainder_ -= rate_;
      floor_ns_++;
    }
    return free_at_ns();
  }

  int64_t free_at_ns() const { return floor_ns_ + (remainder_ > 0 ? 1 : 0); }

 private:
  void measure(uint64_t bytes) {
    __extension__ using Wide = unsigned __int128;
    const Wide scaled = Wide{bytes} * 8 * 1'000'000'000'000;  // millibits * nanoseconds per second
    cached_bytes_ = bytes;
    cached_ns_ = static_cast<int64_t>(std::min(scaled / rate_, Wide{kTimeMaxNs}));
    cached_remainder_ = static_cast<uint64_t>(scaled % rate_);
  }

  uint64_t rate_ = 0;
  int64_t floor_ns_ = INT64_MIN;  // departure of the last bit is floor_ns_ + remainder_ / rate_
  uint64_t remainder_ = 0;
  uint64_t cached_bytes_ = UINT64_MAX;
  int64_t cached_ns_ = 0;
  uint64_t cached_remainder_ = 0;
};

}  // namespace sdr
