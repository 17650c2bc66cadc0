#include "config.h"

#include <arpa/inet.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <sstream>

namespace emulated {
namespace {

constexpr uint32_t kGidIndexMax = 255;
constexpr uint32_t kPortsMax = 4;

const std::map<std::string, int> kErrnos = {
    {"EPERM", EPERM},           {"ENOENT", ENOENT}, {"EIO", EIO},
    {"EAGAIN", EAGAIN},         {"ENOMEM", ENOMEM}, {"EACCES", EACCES},
    {"EFAULT", EFAULT},         {"EBUSY", EBUSY},   {"ENODEV", ENODEV},
    {"EINVAL", EINVAL},         {"ENOSPC", ENOSPC}, {"ENOSYS", ENOSYS},
    {"EMFILE", EMFILE},         {"ENFILE", ENFILE}, {"ETIMEDOUT", ETIMEDOUT},
    {"EOPNOTSUPP", EOPNOTSUPP},
};

const std::map<std::string, ibv_wc_status> kStatuses = {
    {"local-protection", IBV_WC_LOC_PROT_ERR},
    {"local-length", IBV_WC_LOC_LEN_ERR},
    {"local-operation", IBV_WC_LOC_QP_OP_ERR},
    {"remote-access", IBV_WC_REM_ACCESS_ERR},
    {"retry-exceeded", IBV_WC_RETRY_EXC_ERR},
    {"general", IBV_WC_GENERAL_ERR},
    {"fatal", IBV_WC_FATAL_ERR},
};

using Words = std::vector<std::string>;

bool read_number(const std::string& word, uint64_t* value) {
  try {
    size_t used = 0;
    *value = std::stoull(word, &used, 0);
    return !word.empty() && word[0] != '-' && used == word.size();
  } catch (const std::exception&) {
    return false;
  }
}

bool read_probability(const std::string& word, double* value) {
  try {
    size_t used = 0;
    *value = std::stod(word, &used);
    return used == word.size() && *value >= 0 && *value <= 1;
  } catch (const std::exception&) {
    return false;
  }
}

bool read_errno(const std::string& word, int* number) {
  const auto found = kErrnos.find(word);
  if (found == kErrnos.end()) return false;
  *number = found->second;
  return true;
}

bool read_address(const std::string& word, union ibv_gid* gid) {
  in_addr v4{};
  if (inet_pton(AF_INET, word.c_str(), &v4) != 1)
    return inet_pton(AF_INET6, word.c_str(), gid->raw) == 1;
  std::memset(gid->raw, 0, 10);
  gid->raw[10] = gid->raw[11] = 0xff;
  std::memcpy(gid->raw + 12, &v4, 4);
  return true;
}

bool read_mtu(const std::string& word, ibv_mtu* mtu) {
  for (int code = IBV_MTU_256; code <= IBV_MTU_4096; code++) {
    if (word != std::to_string(128 << code)) continue;
    *mtu = static_cast<ibv_mtu>(code);
    return true;
  }
  return false;
}

// port N [active|down] [mtu BYTES] [lid N] [ethernet|infiniband]
bool read_port(const Words& words, Config* config) {
  uint64_t number = 0;
  if (config->devices.empty() || words.size() < 2 || !read_number(words[1], &number)) return false;
  auto& ports = config->devices.back().ports;
  if (number != ports.size() + 1 || number > kPortsMax) return false;
  PortConfig port;
  for (size_t i = 2; i < words.size(); i++) {
    const std::string& word = words[i];
    uint64_t lid = 0;
    if (word == "active" || word == "down")
      port.active = word == "active";
    else if (word == "ethernet" || word == "infiniband")
      port.ethernet = word == "ethernet";
    else if (word == "mtu" && i + 1 < words.size() && read_mtu(words[i + 1], &port.active_mtu))
      i++;
    else if (word == "lid" && i + 1 < words.size() && read_number(words[i + 1], &lid) &&
             lid < 0xc000) {
      port.lid = static_cast<uint16_t>(lid);
      i++;
    } else {
      return false;
    }
  }
  ports.push_back(port);
  return true;
}

// gid INDEX v1|v2|ib ADDRESS
bool read_gid(const Words& words, Config* config) {
  uint64_t index = 0;
  GidConfig gid;
  if (words.size() != 4 || config->devices.empty() || config->devices.back().ports.empty())
    return false;
  if (!read_number(words[1], &index) || index > kGidIndexMax || !read_address(words[3], &gid.gid))
    return false;
  if (words[2] == "v1")
    gid.type = IBV_GID_TYPE_ROCE_V1;
  else if (words[2] == "v2")
    gid.type = IBV_GID_TYPE_ROCE_V2;
  else if (words[2] == "ib")
    gid.type = IBV_GID_TYPE_IB;
  else
    return false;
  gid.index = static_cast<uint32_t>(index);
  PortConfig& port = config->devices.back().ports.back();
  if (port.find_gid(gid.index) != nullptr) return false;
  port.gids.push_back(gid);
  return true;
}

// limit max_qp|max_qp_wr|max_cqe|max_sge N
bool read_limit(const Words& words, Config* config) {
  uint64_t value = 0;
  if (words.size() != 3 || config->devices.empty() || !read_number(words[2], &value)) return false;
  if (value == 0 || value > 1 << 22) return false;
  DeviceConfig& device = config->devices.back();
  const int limit = static_cast<int>(value);
  if (words[1] == "max_qp")
    device.max_qp = limit;
  else if (words[1] == "max_qp_wr" && limit <= 32768)
    device.max_qp_wr = limit;
  else if (words[1] == "max_cqe")
    device.max_cqe = limit;
  else if (words[1] == "max_sge" && limit <= 32)
    device.max_sge = limit;
  else
    return false;
  return true;
}

// fail CALL N[+] ERRNO
bool read_failure(const Words& words, Config* config) {
  if (words.size() != 4) return false;
  CallFailure failure;
  failure.call = words[1];
  for (const char* prefix : {"ibv_", "mlx5dv_"}) {
    if (failure.call.rfind(prefix, 0) == 0) failure.call = failure.call.substr(std::strlen(prefix));
  }
  std::string nth = words[2];
  failure.onwards = !nth.empty() && nth.back() == '+';
  if (failure.onwards) nth.pop_back();
  if (!read_number(nth, &failure.nth) || failure.nth == 0 || !read_errno(words[3], &failure.number))
    return false;
  config->call_failures.push_back(failure);
  return true;
}

// break QP after COMPLETIONS STATUS [vendor N]
bool read_break(const Words& words, Config* config) {
  uint64_t ordinal = 0, vendor = 0;
  QpFailure failure;
  if (words.size() != 5 && words.size() != 7) return false;
  const auto status = kStatuses.find(words[4]);
  if (!read_number(words[1], &ordinal) || ordinal == 0 || words[2] != "after") return false;
  if (!read_number(words[3], &failure.after) || failure.after == 0 || status == kStatuses.end())
    return false;
  if (words.size() == 7 && (words[5] != "vendor" || !read_number(words[6], &vendor))) return false;
  failure.ordinal = static_cast<uint32_t>(ordinal);
  failure.status = status->second;
  failure.vendor_err = static_cast<uint32_t>(vendor);
  config->qp_failures.push_back(failure);
  return true;
}

// wire [loss P] [reorder P] [duplicate P] [seed N]
bool read_wire(const Words& words, Config* config) {
  WireConfig& wire = config->wire;
  if (words.size() < 3 || words.size() % 2 == 0) return false;
  for (size_t i = 1; i < words.size(); i += 2) {
    const std::string& value = words[i + 1];
    const bool good = words[i] == "loss"        ? read_probability(value, &wire.loss)
                      : words[i] == "reorder"   ? read_probability(value, &wire.reorder)
                      : words[i] == "duplicate" ? read_probability(value, &wire.duplicate)
                      : words[i] == "seed"      ? read_number(value, &wire.seed)
                                                : false;
    if (!good) return false;
  }
  return true;
}

bool read_line(const Words& words, Config* config) {
  const std::string& what = words[0];
  if (what == "device") {
    if (words.size() != 3 || (words[2] != "rxe" && words[2] != "mlx5")) return false;
    if (words[1].size() >= IBV_SYSFS_NAME_MAX) return false;
    DeviceConfig device;
    device.name = words[1];
    device.mlx5 = words[2] == "mlx5";
    config->devices.push_back(device);
    return true;
  }
  if (what == "port") return read_port(words, config);
  if (what == "gid") return read_gid(words, config);
  if (what == "limit") return read_limit(words, config);
  if (what == "fail") return read_failure(words, config);
  if (what == "break") return read_break(words, config);
  if (what == "wire") return read_wire(words, config);
  if (what == "deny") {
    return words.size() == 2 && !config->devices.empty() &&
           read_errno(words[1], &config->devices.back().open_errno);
  }
  if (what == "memlock") return words.size() == 2 && read_number(words[1], &config->memlock_bytes);
  if (what == "delivery" && words.size() == 2 && (words[1] == "inline" || words[1] == "thread")) {
    config->threaded = words[1] == "thread";
    return true;
  }
  return what == "nodevices" && words.size() == 1;
}

}  // namespace

const GidConfig* PortConfig::find_gid(uint32_t index) const {
  for (const GidConfig& gid : gids) {
    if (gid.index == index) return &gid;
  }
  return nullptr;
}

std::vector<DeviceConfig> default_devices() {
  Config config;
  std::string error;
  parse_config(
      "device emu0 rxe; port 1 active mtu 4096; gid 0 v2 fe80::ff:fe00:1; gid 1 v2 10.9.0.1;"
      "device emu1 mlx5; port 1 active mtu 4096; gid 0 v1 fe80::ff:fe00:2; gid 1 v2 "
      "fe80::ff:fe00:2;"
      "gid 2 v1 10.9.0.2; gid 3 v2 10.9.0.2",
      &config, &error);
  return config.devices;
}

bool parse_config(const std::string& text, Config* config, std::string* error) {
  std::string lines = text;
  for (char& c : lines) {
    if (c == ';') c = '\n';
  }
  std::istringstream in(lines);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream cut(line.substr(0, line.find('#')));
    Words words;
    for (std::string word; cut >> word;) words.push_back(word);
    if (words.empty()) continue;
    if (read_line(words, config)) continue;
    *error = "\"" + line + "\" is not understood; test/verbs/README.md has the language";
    return false;
  }
  for (DeviceConfig& device : config->devices) {
    if (device.ports.empty()) device.ports.emplace_back();
  }
  return true;
}

}  // namespace emulated
