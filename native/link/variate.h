// Delay distributions by inversion: uniform numbers in, variates in units of the jitter out.
// Stateless.
#pragma once

#include "sdr/link.h"

namespace sdr {

inline constexpr double kVariateMax = 4;  // variates are clipped at plus and minus this

// The inverse distribution function at `u` in [0, 1), with the meaning of iproute2's netem tables:
// uniform on
// [-1, 1); normal(0, 1); pareto with exponent 3, centred and scaled by 4/3; paretonormal 0.25
// normal + 0.75 pareto of the same u. The last three are clipped and read from a table of 2^14
// steps with linear interpolation.
double delay_variate(Distribution distribution, double u);

}  // namespace sdr
