// Seeded random streams for links. It knows no global state: equal (seed, stream, purpose) gives
// equal draws. Generators: xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number
// generators", 2021), its state filled by splitmix64 (Steele, Lea and Flood, "Fast splittable
// pseudorandom number generators", 2014).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace sdr {

// Each impairment draws from a stream of its own, so that switching one on shifts none of the
// others.
enum class Purpose : uint64_t {
  loss = 1,
  duplicate,
  corrupt,
  corrupt_copy,
  reorder,
  reorder_copy,
  delay,
  delay_copy,
  corruption_bits,
};

class Random {
 public:
  Random(uint64_t seed, uint64_t stream, Purpose purpose) {
    uint64_t state = scramble(seed);
    state = scramble(state ^ stream);
    state = scramble(state ^ static_cast<uint64_t>(purpose));
    for (uint64_t& word : words_) word = scramble(state += kGolden);
  }

  uint64_t next() {
    const uint64_t result = std::rotl(words_[1] * 5, 7) * 9;
    const uint64_t shifted = words_[1] << 17;
    words_[2] ^= words_[0];
    words_[3] ^= words_[1];
    words_[1] ^= words_[2];
    words_[0] ^= words_[3];
    words_[2] ^= shifted;
    words_[3] = std::rotl(words_[3], 45);
    return result;
  }

  // Uniform in [0, 1), a multiple of 2^-53.
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  static constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
  static uint64_t scramble(uint64_t x) {
    x += kGolden;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }

  uint64_t words_[4];
};

// A probability as the number of 64-bit values below which a draw counts as a hit: exact to 2^-64.
struct Threshold {
  uint64_t below = 0;
  bool always = false;

  Threshold() = default;
  explicit Threshold(double probability)
      : below(probability < 1 ? static_cast<uint64_t>(std::ldexp(probability, 64)) : 0),
        always(probability >= 1) {}
  bool hit(uint64_t draw) const { return draw < below || always; }
};

// netem's correlated variates: x = (1 - rho) * uniform + rho * previous x. As in netem their law is
// narrower than uniform, so that a correlated loss rate is not the probability asked for
// (tc-netem(8) warns of it).
class Correlated {
 public:
  explicit Correlated(Random random) : random_(random) { last_ = random_.unit(); }
  void set_correlation(double rho) { rho_ = rho; }
  bool is_correlated() const { return rho_ > 0; }
  uint64_t bits() { return random_.next(); }
  double variate() {
    const double fresh = random_.unit();
    if (rho_ <= 0) return fresh;
    last_ = (1 - rho_) * fresh + rho_ * last_;
    return last_;
  }

 private:
  Random random_;
  double rho_ = 0, last_;
};

// An event of given probability and correlation. It draws once a call while its probability is not
// 0.
class Chance {
 public:
  explicit Chance(Random random) : source_(random) {}
  void set(double probability, double correlation) {
    probability_ = probability;
    threshold_ = Threshold(probability);
    source_.set_correlation(correlation);
  }
  bool enabled() const { return probability_ > 0; }
  bool draw() {
    if (!source_.is_correlated()) return threshold_.hit(source_.bits());
    return source_.variate() < probability_ || threshold_.always;
  }

 private:
  Correlated source_;
  double probability_ = 0;
  Threshold threshold_;
};

}  // namespace sdr
