// An opened RDMA device: the port, address and packet size to use, its limits, and keys for memory.
// Every reason why it cannot be used ends here as a DeviceError with a remedy. Knows no queue pair
// of ours and no message.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "transport/verbs_library.h"

namespace sdr::verbs {

// An ibv_mr that is deregistered with its last owner; dereg waits for writes in progress.
class Registration {
 public:
  Registration() = default;
  Registration(const Ibv& ibv, ibv_mr* mr) : ibv_(&ibv), mr_(mr) {}
  Registration(Registration&& other) noexcept : ibv_(other.ibv_), mr_(other.mr_) {
    other.mr_ = nullptr;
  }
  Registration& operator=(Registration&& other) noexcept;
  ~Registration() { reset(); }
  void reset();
  explicit operator bool() const { return mr_ != nullptr; }
  uint32_t lkey() const { return mr_->lkey; }
  uint32_t rkey() const { return mr_->rkey; }

 private:
  const Ibv* ibv_ = nullptr;
  ibv_mr* mr_ = nullptr;
};

class Device {
 public:
  static std::unique_ptr<Device> open(const VerbsOptions& options, DeviceError* error);
  ~Device() { close(); }
  Device(const Device&) = delete;

  const Ibv& ibv;
  ibv_context* context = nullptr;
  ibv_pd* pd = nullptr;
  VerbsOptions options;
  ibv_device_attr limits{};
  ibv_port_attr port{};
  uint8_t port_number = 0;
  ibv_gid gid{};
  int gid_index = -1;  // -1: InfiniBand without a GRH
  std::string gid_text, driver;
  uint32_t mtu = 0;
#if defined(SDR_HAVE_MLX5DV)
  const Mlx5* mlx5 = nullptr;  // null: not such a device, or opened without its extensions
#endif

  // Once nothing of it is in use.
  void close();
  bool is_ethernet() const { return port.link_layer == IBV_LINK_LAYER_ETHERNET; }
  bool has_dmabuf() const;
  // Whether it can have one key for all slots (verbs_root_key).
  bool has_root_keys() const {
#if defined(SDR_HAVE_MLX5DV)
    return mlx5 != nullptr;
#else
    return false;
#endif
  }
  // Registers [offset, offset + bytes) of a region. Empty on failure, with errno set.
  Registration register_memory(const Region& region, uint64_t offset, uint64_t bytes, int access);
  // A region's own key to send from, registered whole when first asked for. 0 on failure, with
  // errno set. Control thread.
  uint32_t local_key(const RegionRef& region);
  // What a failed registration means.
  DeviceError memory_error(int number, uint64_t bytes) const;

 private:
  struct Kept {
    std::weak_ptr<const Region> region;
    Registration registration;
  };
  explicit Device(const Ibv& its) : ibv(its) {}
  bool open_named(DeviceError* error);
  bool open_context(ibv_device* device, DeviceError* error);
  bool choose_port(DeviceError* error);
  bool choose_gid(DeviceError* error);
  bool choose_mtu(DeviceError* error);

  std::unordered_map<const Region*, Kept> kept_;
};

uint32_t mtu_bytes(ibv_mtu mtu);
ibv_mtu mtu_of(uint32_t bytes);  // precondition: one of the sizes there are
// "10.9.0.1" for a mapped IPv4 address, else as IPv6.
std::string to_text(const ibv_gid& gid);

}  // namespace sdr::verbs
