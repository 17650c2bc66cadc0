// What the emulated devices are and which faults they show, read from text; README.md has the
// language. Knows verbs' enumerations, no device object.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <string>
#include <vector>

namespace emulated {

struct GidConfig {
  uint32_t index = 0;
  uint32_t type = IBV_GID_TYPE_ROCE_V2;  // enum ibv_gid_type
  union ibv_gid gid {};
};

struct PortConfig {
  bool active = true;
  ibv_mtu active_mtu = IBV_MTU_4096;
  bool ethernet = true;
  uint16_t lid = 0;
  std::vector<GidConfig> gids;
  const GidConfig* find_gid(uint32_t index) const;
};

struct DeviceConfig {
  std::string name;
  bool mlx5 = false;   // else like Soft-RoCE: no null region, no indirect keys, no dmabuf
  int open_errno = 0;  // what opening it fails with
  int max_qp = 1024, max_qp_wr = 16384, max_cqe = 65535, max_sge = 30;
  std::vector<PortConfig> ports;  // port 1 first
};

struct CallFailure {
  std::string call;      // without "ibv_" or "mlx5dv_"
  uint64_t nth = 1;      // counted from 1
  bool onwards = false;  // every later call too
  int number = 0;        // errno
  uint64_t seen = 0;
};

struct QpFailure {
  uint32_t ordinal = 0;  // queue pairs in order of creation, from 1
  uint64_t after = 0;    // completions
  ibv_wc_status status = IBV_WC_GENERAL_ERR;
  uint32_t vendor_err = 0;
};

struct WireConfig {
  double loss = 0, reorder = 0, duplicate = 0;  // probabilities, per packet; UC and UD only
  uint64_t seed = 1;
};

struct Config {
  std::vector<DeviceConfig> devices;
  std::vector<CallFailure> call_failures;
  std::vector<QpFailure> qp_failures;
  WireConfig wire;
  uint64_t memlock_bytes = UINT64_MAX;
  bool threaded = false;  // deliver on a thread of the fabric's rather than in the posting call
};

// Two devices, "emu0" like Soft-RoCE and "emu1" like mlx5, both active.
std::vector<DeviceConfig> default_devices();
// False, with what was wrong in `error`, when the text cannot be read. No device lines: `devices`
// stays empty.
bool parse_config(const std::string& text, Config* config, std::string* error);

}  // namespace emulated
