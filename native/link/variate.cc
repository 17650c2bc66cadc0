// Tables of the inverse distribution functions, computed once from their definitions.
#include "link/variate.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace sdr {

namespace {

constexpr size_t kSteps = 1 << 14;
using Table = std::array<double, kSteps + 1>;

double clip(double x) { return std::clamp(x, -kVariateMax, kVariateMax); }

// Normal quantiles for ascending u: Newton's method on the distribution function, from the quantile
// before.
Table normal_table() {
  constexpr double kDensityScale = 0.3989422804014327;  // 1 / sqrt(2 pi)
  Table table{};
  double x = 0;
  for (size_t i = kSteps / 2; i <= kSteps; i++) {
    const double u = static_cast<double>(i) / kSteps;
    for (int round = 0; round < 8 && x < kVariateMax; round++) {
      const double above = 0.5 * std::erfc(x * M_SQRT1_2) - (1 - u);
      x += above / (kDensityScale * std::exp(-0.5 * x * x));
    }
    x = clip(x);
    table[i] = x;
    table[kSteps - i] = -x;
  }
  return table;
}

double pareto_quantile(double u) {
  constexpr double kExponent = 3, kMean = 1.5, kScale = 4.0 / 3;
  return u < 1 ? clip((std::pow(1 - u, -1 / kExponent) - kMean) * kScale) : kVariateMax;
}

Table pareto_table() {
  Table table{};
  for (size_t i = 0; i <= kSteps; i++) table[i] = pareto_quantile(static_cast<double>(i) / kSteps);
  return table;
}

Table paretonormal_table() {
  const Table normal = normal_table();
  Table table = pareto_table();
  for (size_t i = 0; i <= kSteps; i++) table[i] = clip(0.25 * normal[i] + 0.75 * table[i]);
  return table;
}

double interpolate(const Table& table, double u) {
  const double position = u * kSteps;
  const size_t step = std::min(static_cast<size_t>(position), kSteps - 1);
  return table[step] + (table[step + 1] - table[step]) * (position - static_cast<double>(step));
}

}  // namespace

double delay_variate(Distribution distribution, double u) {
  static const Table normal = normal_table(), pareto = pareto_table(),
                     paretonormal = paretonormal_table();
  switch (distribution) {
    case Distribution::uniform:
      return 2 * u - 1;
    case Distribution::normal:
      return interpolate(normal, u);
    case Distribution::pareto:
      return interpolate(pareto, u);
    case Distribution::paretonormal:
      return interpolate(paretonormal, u);
  }
  return 0;
}

}  // namespace sdr
