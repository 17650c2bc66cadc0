#include "transport/verbs_device.h"

#include <arpa/inet.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace sdr::verbs {
namespace {

constexpr size_t kGidsMax = 1024;
constexpr uint32_t kMtuBytesMin = 256;
constexpr char kSoftRoce[] =
    "load the card's driver, or Soft-RoCE on any network device: modprobe rdma_rxe; rdma link add "
    "rxe0 type rxe "
    "netdev eth0";

bool fail(DeviceError* error, int number, std::string what, std::string remedy,
          const char* code = "ENVIRONMENT") {
  *error = {number, code, std::move(what), std::move(remedy)};
  return false;
}

std::string reason(int number) { return std::strerror(number); }

bool is_mapped_ipv4(const ibv_gid& gid) {
  static constexpr uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(gid.raw, prefix, sizeof prefix) == 0;
}

bool is_link_local(const ibv_gid& gid) { return gid.raw[0] == 0xfe && (gid.raw[1] & 0xc0) == 0x80; }

bool is_zero(const ibv_gid& gid) {
  return gid.global.subnet_prefix == 0 && gid.global.interface_id == 0;
}

// Higher is better; 0: of no use.
int rank(const ibv_gid_entry& entry) {
  if (is_zero(entry.gid)) return 0;
  if (entry.gid_type != IBV_GID_TYPE_ROCE_V2) return 1;
  if (is_mapped_ipv4(entry.gid)) return 4;
  return is_link_local(entry.gid) ? 2 : 3;
}

const char* state_name(ibv_port_state state) {
  switch (state) {
    case IBV_PORT_DOWN:
      return "down";
    case IBV_PORT_INIT:
      return "initialising";
    case IBV_PORT_ARMED:
      return "armed";
    case IBV_PORT_ACTIVE:
      return "active";
    case IBV_PORT_ACTIVE_DEFER:
      return "active, deferred";
    default:
      return "in no known state";
  }
}

// The driver of the kernel's device; "" when it does not say.
std::string driver_of(const ibv_device& device) {
  char target[256];
  const std::string link = std::string(device.ibdev_path) + "/device/driver";
  const ssize_t size = readlink(link.c_str(), target, sizeof target - 1);
  if (size > 0) {
    target[size] = '\0';
    const char* last = std::strrchr(target, '/');
    return last != nullptr ? last + 1 : target;
  }
  return std::strncmp(device.name, "rxe", 3) == 0 ? "rdma_rxe" : "";
}

int query_port(const Ibv& ibv, ibv_context* context, uint8_t number, ibv_port_attr* out) {
  *out = {};
  verbs_context* extended = verbs_get_ctx_op(context, query_port);
  if (extended != nullptr) return extended->query_port(context, number, out, sizeof *out);
  return ibv.query_port(context, number, reinterpret_cast<_compat_ibv_port_attr*>(out));
}

}  // namespace

uint32_t mtu_bytes(ibv_mtu mtu) { return 128u << static_cast<unsigned>(mtu); }

ibv_mtu mtu_of(uint32_t bytes) {
  unsigned step = IBV_MTU_256;
  while (step < IBV_MTU_4096 && (128u << step) < bytes) step++;
  return static_cast<ibv_mtu>(step);
}

std::string to_text(const ibv_gid& gid) {
  char text[INET6_ADDRSTRLEN] = "";
  if (is_mapped_ipv4(gid))
    inet_ntop(AF_INET, gid.raw + 12, text, sizeof text);
  else
    inet_ntop(AF_INET6, gid.raw, text, sizeof text);
  return text;
}

Registration& Registration::operator=(Registration&& other) noexcept {
  if (this == &other) return *this;
  reset();
  ibv_ = other.ibv_;
  mr_ = other.mr_;
  other.mr_ = nullptr;
  return *this;
}

void Registration::reset() {
  if (mr_ != nullptr) ibv_->dereg_mr(mr_);
  mr_ = nullptr;
}

std::unique_ptr<Device> Device::open(const VerbsOptions& options, DeviceError* error) {
  const Ibv* ibv = load_ibv(error);
  if (ibv == nullptr) return nullptr;
  std::unique_ptr<Device> device(new Device(*ibv));
  device->options = options;
  if (!device->open_named(error) || !device->choose_port(error) || !device->choose_gid(error) ||
      !device->choose_mtu(error)) {
    return nullptr;
  }
  errno = 0;
  device->pd = ibv->alloc_pd(device->context);
  if (device->pd == nullptr) {
    fail(error, errno, options.device + " gives no protection domain: " + reason(errno),
         "end other programs that use it");
    return nullptr;
  }
  return device;
}

void Device::close() {
  kept_.clear();
  if (pd != nullptr) ibv.dealloc_pd(pd);
  if (context != nullptr) ibv.close_device(context);
  pd = nullptr;
  context = nullptr;
}

bool Device::open_named(DeviceError* error) {
  int count = 0;
  errno = 0;
  ibv_device** list = ibv.get_device_list(&count);
  if (list == nullptr || count == 0) {
    const int number = errno;
    if (list != nullptr) ibv.free_device_list(list);
    const bool no_kernel = access("/sys/class/infiniband_verbs", F_OK) != 0;
    return fail(error, number,
                "no RDMA device " + options.device + ": this machine has none" +
                    (no_kernel ? " (the kernel's ib_uverbs is not loaded)" : ""),
                kSoftRoce);
  }
  std::string names;
  ibv_device* found = nullptr;
  for (int i = 0; i < count; i++) {
    const std::string name = ibv.get_device_name(list[i]);
    if (name == options.device) found = list[i];
    names += (names.empty() ? "" : ", ") + name;
  }
  const bool opened = found != nullptr && open_context(found, error);
  ibv.free_device_list(list);
  if (found == nullptr) {
    return fail(error, 0, "there is no RDMA device " + options.device, "use one of " + names,
                "INVALID_ARGUMENT");
  }
  return opened;
}

bool Device::open_context(ibv_device* device, DeviceError* error) {
  driver = driver_of(*device);
#if defined(SDR_HAVE_MLX5DV)
  mlx5 = load_mlx5();
  if (mlx5 != nullptr && !mlx5->is_supported(device)) mlx5 = nullptr;
  if (mlx5 != nullptr) {
    mlx5dv_context_attr attributes{};
    attributes.flags = MLX5DV_CONTEXT_FLAGS_DEVX;
    context = mlx5->open_device(device, &attributes);
    if (context == nullptr)
      mlx5 = nullptr;  // without DEVX there is no indirect key; the rest works
  }
#endif
  errno = 0;
  if (context == nullptr) context = ibv.open_device(device);
  if (context == nullptr) {
    const int number = errno;
    const bool denied = number == EACCES || number == EPERM;
    return fail(error, number,
                "the RDMA device " + options.device + " cannot be opened: " + reason(number),
                denied ? "allow this user to read and write /dev/infiniband/uverbs*, or run as root"
                       : "see whether its driver works: ibv_devinfo -d " + options.device,
                denied ? "ACCESS_DENIED" : "ENVIRONMENT");
  }
  if (const int number = ibv.query_device(context, &limits); number != 0) {
    return fail(error, number, options.device + " does not tell its limits: " + reason(number),
                "see whether its driver works: ibv_devinfo -d " + options.device);
  }
  return true;
}

bool Device::choose_port(DeviceError* error) {
  const uint8_t wanted = options.port;
  if (wanted > limits.phys_port_cnt) {
    return fail(error, 0, options.device + " has no port " + std::to_string(wanted),
                "use 1 to " + std::to_string(limits.phys_port_cnt), "INVALID_ARGUMENT");
  }
  const uint8_t first = wanted == 0 ? 1 : wanted,
                last = wanted == 0 ? limits.phys_port_cnt : wanted;
  std::string states;
  for (uint8_t number = first; number <= last; number++) {
    if (query_port(ibv, context, number, &port) != 0) continue;
    if (port.state == IBV_PORT_ACTIVE) {
      port_number = number;
      return true;
    }
    states += (states.empty() ? "port " : ", port ") + std::to_string(number) + " is " +
              state_name(port.state);
  }
  return fail(
      error, 0,
      options.device + " has no active port: " + (states.empty() ? "it names none" : states),
      "bring its network device up (ip link set DEV up), check the cable, or name another port");
}

// RoCE addresses by GID only; InfiniBand needs one only across subnets, where it is given by hand.
bool Device::choose_gid(DeviceError* error) {
  std::vector<ibv_gid_entry> table(kGidsMax);
  const ssize_t read =
      ibv.query_gid_table(context, table.data(), table.size(), 0, sizeof(ibv_gid_entry));
  const std::string where = options.device + " port " + std::to_string(port_number);
  int best = 0;
  for (ssize_t i = 0; i < read; i++) {
    const ibv_gid_entry& entry = table[static_cast<size_t>(i)];
    if (entry.port_num != port_number) continue;
    const bool named = options.gid_index >= 0;
    if (named && entry.gid_index != static_cast<uint32_t>(options.gid_index)) continue;
    const int its = named ? 1 : rank(entry);
    if (its <= best || is_zero(entry.gid)) continue;
    best = its;
    gid = entry.gid;
    gid_index = static_cast<int>(entry.gid_index);
  }
  if (best > 0) gid_text = to_text(gid);
  if (options.gid_index >= 0 && best == 0) {
    return fail(error, 0, where + " has no GID " + std::to_string(options.gid_index),
                "see `sdr devices` for those it has, or let it be chosen", "INVALID_ARGUMENT");
  }
  if (is_ethernet() && best == 0) {
    return fail(error, 0, where + " has no GID",
                "give its network device an address: ip addr add ADDRESS/24 dev DEV");
  }
  if (!is_ethernet() && options.gid_index < 0) gid_index = -1;  // LIDs do
  return true;
}

bool Device::choose_mtu(DeviceError* error) {
  const uint32_t active = mtu_bytes(port.active_mtu);
  mtu = options.mtu == 0 ? active : options.mtu;
  const bool is_size = mtu >= kMtuBytesMin && (mtu & (mtu - 1)) == 0 && mtu <= 4096;
  if (is_size && mtu <= active) return true;
  return fail(error, 0,
              "MTU " + std::to_string(mtu) + " cannot be had: " + options.device + " port " +
                  std::to_string(port_number) + " has an active MTU of " + std::to_string(active),
              is_size ? "use a smaller one, or raise the network device's (RoCE with 4096 needs "
                        "4200: ip link set DEV mtu "
                        "4200)"
                      : "use 256, 512, 1024, 2048 or 4096",
              "INVALID_ARGUMENT");
}

bool Device::has_dmabuf() const {
  if (ibv.reg_dmabuf_mr == nullptr) return false;
  errno = 0;
  ibv_mr* none = ibv.reg_dmabuf_mr(pd, 0, 4096, 0, -1, IBV_ACCESS_LOCAL_WRITE);
  if (none != nullptr) ibv.dereg_mr(none);
  return errno == EBADF;  // EOPNOTSUPP, EPROTONOSUPPORT: the driver or the kernel cannot
}

Registration Device::register_memory(const Region& region, uint64_t offset, uint64_t bytes,
                                     int access) {
  // Memory that is gone may not keep others from being locked.
  std::erase_if(kept_, [](const auto& entry) { return entry.second.region.expired(); });
  errno = 0;
  if (region.dmabuf_fd >= 0) {
    if (ibv.reg_dmabuf_mr == nullptr) {
      errno = EOPNOTSUPP;
      return {};
    }
    return {ibv, ibv.reg_dmabuf_mr(pd, region.dmabuf_offset + offset, bytes,
                                   reinterpret_cast<uint64_t>(region.base) + offset,
                                   region.dmabuf_fd, access)};
  }
  return {ibv, ibv.reg_mr(pd, region.base + offset, bytes, access)};
}

uint32_t Device::local_key(const RegionRef& region) {
  auto found = kept_.find(region.get());
  if (found == kept_.end() || found->second.region.expired()) {
    Registration made = register_memory(*region, 0, region->bytes, IBV_ACCESS_LOCAL_WRITE);
    if (!made) return 0;
    found = kept_.emplace(region.get(), Kept{region, std::move(made)}).first;
  }
  return found->second.registration.lkey();
}

DeviceError Device::memory_error(int number, uint64_t bytes) const {
  DeviceError error{number, "ENVIRONMENT",
                    std::to_string(bytes) + " B of memory cannot be registered with " +
                        options.device + ": " + reason(number),
                    "use memory that stays mapped"};
  rlimit limit{};
  if (number == ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
    const bool is_limited = limit.rlim_cur != RLIM_INFINITY;
    error.what += " (the limit of locked memory is " +
                  (is_limited ? std::to_string(limit.rlim_cur) + " B)" : "infinite)");
    error.remedy = is_limited
                       ? "raise it: ulimit -l unlimited, or memlock in /etc/security/limits.conf"
                       : "register less: the device or the machine has no memory for more";
  } else if (number == EOPNOTSUPP || number == EPROTONOSUPPORT) {
    error.remedy = "its driver takes no dmabuf: use host memory";
  }
  return error;
}

}  // namespace sdr::verbs
