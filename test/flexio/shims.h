// FlexIO's, DEVX's and verbs' calls of native/dpa/flexio, answered by the emulated device, so that the host side for a
// card can be run without one. What a test sets and sees of them is here.
#pragma once

#include <infiniband/mlx5dv.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "dpa/emulation/device.h"

namespace sdr::flexio_shims {

struct Shims {
  // Faults.
  bool no_process = false, no_queue_pairs = false;

  std::vector<std::string> order;  // what was destroyed, in order
  std::vector<std::vector<uint8_t>> commands;  // DEVX, in order
  std::vector<uint32_t> units;                 // affinities of handlers, in order
  std::string core_file;                       // of the last coredump
  int open = 0;                                // objects there are
};

Shims& shims();
// Of the process there is.
dpa::EmulatedDevice& device();
ibv_context* context();
ibv_pd* pd();
// The program dies: calls fail, the error descriptor becomes readable.
void crash();

}  // namespace sdr::flexio_shims
