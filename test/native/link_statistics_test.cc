// The link's laws, statistically. Seeds are fixed, so a run never varies; each bound is one that a
// correct link meets with probability at least 1 - 1e-6 over the choice of the seed.
#include <algorithm>
#include <cmath>
#include <functional>

#include "check.h"
#include "sdr/link.h"

using namespace sdr;

namespace {

constexpr PacketKind kData = PacketKind::data;
constexpr double kDoubt = 1e-6;
constexpr double kSigmas = 4.9;  // two-sided normal quantile of kDoubt: 4.892

// Chernoff: P(|X - np| at least this far) <= 2 exp(-n KL(X/n, p)) for binomial X, any n and p.
bool within_binomial(uint64_t hits, uint64_t n, double p) {
  const double q = static_cast<double>(hits) / static_cast<double>(n);
  const double a = q > 0 ? q * std::log(q / p) : 0;
  const double b = q < 1 ? (1 - q) * std::log((1 - q) / (1 - p)) : 0;
  const bool within = static_cast<double>(n) * (a + b) <= std::log(2 / kDoubt);
  if (!within)
    std::fprintf(stderr, "rate %g of %llu, expected %g\n", q, static_cast<unsigned long long>(n),
                 p);
  return within;
}

bool within_sigmas(double value, double expected, double sigma) {
  const bool within = std::abs(value - expected) <= kSigmas * sigma;
  if (!within) std::fprintf(stderr, "%g, expected %g, sigma %g\n", value, expected, sigma);
  return within;
}

std::vector<bool> losses(const LinkConfig& config, int count, uint64_t seed,
                         uint32_t bytes = 1000) {
  Link link(config, seed, 0);
  std::vector<bool> lost;
  for (int i = 0; i < count; i++) lost.push_back(link.offer(i, bytes, bytes, kData).copies == 0);
  return lost;
}

uint64_t count_of(const std::vector<bool>& lost) {
  return static_cast<uint64_t>(std::count(lost.begin(), lost.end(), true));
}

std::vector<double> variates(LinkConfig config, int count, uint64_t seed) {
  config.delay_ns = 100'000'000;
  config.jitter_ns = 10'000'000;
  Link link(config, seed, 0);
  std::vector<double> all;
  for (int i = 0; i < count; i++) {
    const Fate fate = link.offer(i, 100, 100, kData);
    all.push_back(static_cast<double>(fate.arrive_ns[0] - fate.depart_ns - config.delay_ns) / 1e7);
  }
  return all;
}

struct Moments {
  double mean, deviation;
};

Moments moments_of(const std::vector<double>& all) {
  double sum = 0, squares = 0;
  for (const double x : all) sum += x;
  const double mean = sum / static_cast<double>(all.size());
  for (const double x : all) squares += (x - mean) * (x - mean);
  return {mean, std::sqrt(squares / static_cast<double>(all.size()))};
}

// Mean, deviation and fourth moment of a quantile function, by the midpoint rule.
struct Law {
  double mean = 0, deviation = 0, fourth = 0;
  explicit Law(const std::function<double(double)>& quantile) {
    const int steps = 200'000;
    std::vector<double> values;
    for (int i = 0; i < steps; i++) values.push_back(quantile((i + 0.5) / steps));
    const auto average = [&](auto f) {
      double sum = 0;
      for (const double value : values) sum += f(value);
      return sum / steps;
    };
    mean = average([](double x) { return x; });
    deviation = std::sqrt(average([&](double x) { return (x - mean) * (x - mean); }));
    fourth = average([&](double x) { return std::pow(x - mean, 4); });
  }
};

void check_moments(const std::vector<double>& sample, const Law& law) {
  const double n = static_cast<double>(sample.size());
  const Moments moments = moments_of(sample);
  CHECK(within_sigmas(moments.mean, law.mean, law.deviation / std::sqrt(n)));
  const double variance = law.deviation * law.deviation;
  const double sigma = std::sqrt((law.fourth - variance * variance) / n) / (2 * law.deviation);
  CHECK(within_sigmas(moments.deviation, law.deviation, sigma));
}

// Kolmogorov-Smirnov with the Dvoretzky-Kiefer-Wolfowitz bound, which holds for every n. `rounding`
// is how far the distribution function moves within one nanosecond.
void check_distribution(std::vector<double> sample,
                        const std::function<double(double)>& distribution) {
  std::sort(sample.begin(), sample.end());
  const double n = static_cast<double>(sample.size());
  double distance = 0;
  for (size_t i = 0; i < sample.size(); i++) {
    const double f = distribution(sample[i]);
    distance = std::max({distance, std::abs(f - static_cast<double>(i) / n),
                         std::abs(f - static_cast<double>(i + 1) / n)});
  }
  const double rounding = 1e-6;
  CHECK(distance <= std::sqrt(std::log(2 / kDoubt) / (2 * n)) + rounding);
}

double normal_distribution(double x) { return 0.5 * std::erfc(-x * M_SQRT1_2); }

double normal_quantile(double u) {
  double low = -9, high = 9;
  for (int i = 0; i < 40; i++) {
    const double middle = (low + high) / 2;
    (normal_distribution(middle) < u ? low : high) = middle;
  }
  return std::clamp(low, -4.0, 4.0);
}

double pareto_quantile(double u) {
  return std::min(4.0, (std::pow(1 - u, -1.0 / 3) - 1.5) * 4 / 3);
}

// The stationary distribution function at `x` of x' = (1 - rho) uniform + rho x: the fixed point of
// its own integral equation F(y) = rho / (1 - rho) * (G(y / rho) - G((y - 1 + rho) / rho)), G' = F,
// on a grid.
double correlated_distribution(double x, double rho) {
  const int steps = 10'000;
  std::vector<double> f(steps + 1), g(steps + 1);
  for (int i = 0; i <= steps; i++) f[i] = static_cast<double>(i) / steps;
  const auto integral = [&](double y) {
    if (y <= 0) return 0.0;
    if (y >= 1) return g[steps] + (y - 1);
    const double position = y * steps;
    const int i = static_cast<int>(position);
    return g[i] + (g[i + 1] - g[i]) * (position - i);
  };
  for (int round = 0; round < 100; round++) {
    for (int i = 1; i <= steps; i++) g[i] = g[i - 1] + (f[i - 1] + f[i]) / (2.0 * steps);
    for (int i = 0; i <= steps; i++) {
      const double y = static_cast<double>(i) / steps;
      f[i] = rho / (1 - rho) * (integral(y / rho) - integral((y - 1 + rho) / rho));
    }
  }
  return f[static_cast<int>(std::lround(x * steps))];
}

}  // namespace

TEST(bernoulli_loss_rates) {
  for (const double p : {1e-1, 1e-2, 1e-3, 1e-4}) {
    LinkConfig config;
    config.loss = LossModel::bernoulli;
    config.loss_probability = p;
    const int n = 2'000'000;
    CHECK(within_binomial(count_of(losses(config, n, 1)), n, p));
  }
}

TEST(bernoulli_losses_are_independent_of_the_one_before) {
  LinkConfig config;
  config.loss = LossModel::bernoulli;
  config.loss_probability = 0.2;
  const std::vector<bool> lost = losses(config, 1'000'000, 2);
  uint64_t pairs = 0, again = 0;
  for (size_t i = 1; i < lost.size(); i++) {
    pairs += lost[i - 1];
    again += lost[i - 1] && lost[i];
  }
  CHECK(within_binomial(again, pairs, 0.2));
}

TEST(correlated_loss_follows_the_stationary_law_of_netems_formula) {
  for (const double rho : {0.25, 0.5}) {
    LinkConfig config;
    config.loss = LossModel::bernoulli;
    config.loss_probability = 0.3;
    config.loss_correlation = rho;
    const int n = 2'000'000;
    const double expected = correlated_distribution(0.3, rho);
    CHECK(std::abs(expected - 0.3) > 0.01);  // the formula does not keep the rate, see tc-netem(8)
    const std::vector<bool> lost = losses(config, n, 3);
    // Correlations fall at least as fast as rho^k, which widens the deviation by this factor at
    // most.
    const double sigma = std::sqrt(expected * (1 - expected) / n * (1 + rho) / (1 - rho));
    const double rate = static_cast<double>(count_of(lost)) / n;
    CHECK(within_sigmas(rate, expected, sigma));
    uint64_t again = 0;
    for (int i = 1; i < n; i++) again += lost[i - 1] && lost[i];
    CHECK(static_cast<double>(again) / static_cast<double>(count_of(lost)) > 1.2 * rate);  // bursts
  }
}

TEST(gilbert_elliott_loss_rate_is_that_of_its_stationary_state) {
  struct Case {
    double p, r, loss_bad, loss_good;
  };
  for (const Case& c :
       {Case{0.01, 0.1, 1, 0}, Case{0.01, 0.1, 0.3, 0.001}, Case{0.2, 0.5, 0.9, 0.1}}) {
    LinkConfig config;
    config.loss = LossModel::gilbert_elliott;
    config.ge_p = c.p;
    config.ge_r = c.r;
    config.ge_loss_bad = c.loss_bad;
    config.ge_loss_good = c.loss_good;
    const int n = 2'000'000;
    const double bad = c.p / (c.p + c.r), carry = 1 - c.p - c.r;
    const double expected = bad * c.loss_bad + (1 - bad) * c.loss_good;
    // Variance of the mean: the binomial part plus the covariance through the state, carry^k at lag
    // k.
    const double state = bad * (1 - bad) * std::pow(c.loss_bad - c.loss_good, 2);
    const double variance = expected * (1 - expected) + 2 * state * carry / (1 - carry);
    const double rate = static_cast<double>(count_of(losses(config, n, 4))) / n;
    CHECK(within_sigmas(rate, expected, std::sqrt(variance / n)));
  }
}

TEST(gilbert_elliott_bursts_and_gaps_have_geometric_lengths) {
  LinkConfig config;
  config.loss = LossModel::gilbert_elliott;
  config.ge_p = 0.02;
  config.ge_r = 0.25;
  const std::vector<bool> lost = losses(config, 2'000'000, 5);
  for (const bool kind : {true, false}) {
    const double leave = kind ? config.ge_r : config.ge_p;
    uint64_t runs = 0, total = 0, ones = 0;
    // Whole runs only: the first and the last are cut.
    size_t i = 0;
    while (i < lost.size() && lost[i] == lost[0]) i++;
    while (i < lost.size()) {
      size_t end = i;
      while (end < lost.size() && lost[end] == lost[i]) end++;
      if (end < lost.size() && lost[i] == kind) {
        runs++;
        total += end - i;
        ones += end - i == 1;
      }
      i = end;
    }
    const double mean = static_cast<double>(total) / static_cast<double>(runs);
    CHECK(
        within_sigmas(mean, 1 / leave, std::sqrt((1 - leave) / static_cast<double>(runs)) / leave));
    CHECK(within_binomial(ones, runs, leave));
  }
}

TEST(loss_by_size_is_log_linear_between_its_points) {
  LinkConfig config;
  config.loss = LossModel::by_size;
  config.loss_by_size = {{1000, 1e-3}, {9000, 1e-1}};
  const int n = 500'000;
  CHECK(within_binomial(count_of(losses(config, n, 6, 100)), n, 1e-3));
  CHECK(within_binomial(count_of(losses(config, n, 6, 5000)), n, 1e-2));
  CHECK(within_binomial(count_of(losses(config, n, 6, 7000)), n, std::pow(10, -1.5)));
  CHECK(within_binomial(count_of(losses(config, n, 6, 20'000)), n, 1e-1));
}

TEST(duplicate_corrupt_and_reorder_rates) {
  LinkConfig config;
  config.delay_ns = 1'000'000;
  config.duplicate_probability = 0.07;
  config.corrupt_probability = 0.01;
  config.reorder_probability = 0.2;
  const uint64_t n = 1'000'000;
  Link link(config, 7, 0);
  uint64_t copies = 0, doubled = 0, corrupt = 0, ahead = 0, second_corrupt = 0;
  for (uint64_t i = 0; i < n; i++) {
    const Fate fate = link.offer(static_cast<int64_t>(i), 100, 100, kData);
    copies += fate.copies;
    doubled += fate.copies == 2;
    for (uint32_t copy = 0; copy < fate.copies; copy++) {
      corrupt += fate.corrupt[copy];
      ahead += fate.arrive_ns[copy] == fate.depart_ns;
    }
    second_corrupt += fate.corrupt[1];
  }
  CHECK(within_binomial(doubled, n, 0.07));
  CHECK(within_binomial(corrupt, copies, 0.01));
  CHECK(within_binomial(second_corrupt, doubled, 0.01));
  CHECK(within_binomial(ahead, copies, 0.2));
  CHECK_EQ(link.counters().duplicated, doubled);
  CHECK_EQ(link.counters().corrupted, corrupt);
}

TEST(loss_and_duplication_cancel_as_in_netem) {
  LinkConfig config;
  config.loss = LossModel::bernoulli;
  config.loss_probability = 0.3;
  config.duplicate_probability = 0.1;
  const uint64_t n = 1'000'000;
  CHECK(within_binomial(count_of(losses(config, n, 8)), n, 0.3 * 0.9));
}

TEST(uniform_delays) {
  const auto sample = variates({}, 400'000, 9);
  check_moments(sample, Law([](double u) { return 2 * u - 1; }));
  check_distribution(sample, [](double x) { return std::clamp((x + 1) / 2, 0.0, 1.0); });
}

TEST(normal_delays) {
  LinkConfig config;
  config.distribution = Distribution::normal;
  const auto sample = variates(config, 400'000, 10);
  check_moments(sample, Law(normal_quantile));
  check_distribution(sample,
                     normal_distribution);  // clipping moves 3e-5 of the mass, far below the bound
  CHECK(*std::max_element(sample.begin(), sample.end()) <= 4);
}

TEST(pareto_delays) {
  LinkConfig config;
  config.distribution = Distribution::pareto;
  const auto sample = variates(config, 400'000, 11);
  check_moments(sample, Law(pareto_quantile));
  uint64_t clipped = 0;
  for (const double x : sample) clipped += x > 3.999999;
  CHECK(within_binomial(clipped, sample.size(), std::pow(4.5, -3)));
  std::vector<double> below;
  for (const double x : sample) {
    if (x < 3.999) below.push_back(x);
  }
  const auto distribution = [](double x) { return 1 - std::pow(0.75 * x + 1.5, -3); };
  check_distribution(
      below, [&](double x) { return std::max(0.0, distribution(x)) / distribution(3.999); });
}

TEST(paretonormal_delays_are_a_quarter_normal_and_three_quarters_pareto) {
  LinkConfig config;
  config.distribution = Distribution::paretonormal;
  check_moments(variates(config, 400'000, 12), Law([](double u) {
                  return std::clamp(0.25 * normal_quantile(u) + 0.75 * pareto_quantile(u), -4.0,
                                    4.0);
                }));
}

TEST(correlated_delays_have_that_autocorrelation) {
  for (const double rho : {0.3, 0.8}) {
    LinkConfig config;
    config.delay_correlation = rho;
    const auto sample = variates(config, 400'000, 13);
    const Moments moments = moments_of(sample);
    double sum = 0;
    for (size_t i = 1; i < sample.size(); i++)
      sum += (sample[i] - moments.mean) * (sample[i - 1] - moments.mean);
    const double n = static_cast<double>(sample.size());
    const double correlation = sum / n / (moments.deviation * moments.deviation);
    // Bartlett: the estimator's variance for a first-order autoregression is (1 - rho^2) / n.
    CHECK(within_sigmas(correlation, rho, std::sqrt((1 - rho * rho) / n)));
    // Variance of the stationary law: that of a uniform times (1 - rho) / (1 + rho).
    const double expected = std::sqrt((1 - rho) / (1 + rho) / 3);
    CHECK(std::abs(moments.deviation - expected) < 0.01);
  }
}

TEST(streams_are_independent) {
  LinkConfig config;
  config.loss = LossModel::bernoulli;
  config.loss_probability = 0.5;
  const uint64_t n = 1'000'000;
  Link a(config, 14, 0), b(config, 14, 1), c(config, 15, 0);
  uint64_t with_stream = 0, with_seed = 0;
  for (uint64_t i = 0; i < n; i++) {
    const uint32_t first = a.offer(0, 1, 1, kData).copies;
    with_stream += first == b.offer(0, 1, 1, kData).copies;
    with_seed += first == c.offer(0, 1, 1, kData).copies;
  }
  CHECK(within_binomial(with_stream, n, 0.5));
  CHECK(within_binomial(with_seed, n, 0.5));

  // Loss against duplication on one link, without the cancelling: both drawn from one seed.
  config.duplicate_probability = 0.5;
  Link both(config, 16, 0);
  std::vector<uint64_t> by_copies(3);
  for (uint64_t i = 0; i < n; i++) by_copies[both.offer(0, 1, 1, kData).copies]++;
  CHECK(within_binomial(by_copies[0], n, 0.25));
  CHECK(within_binomial(by_copies[2], n, 0.25));
}
