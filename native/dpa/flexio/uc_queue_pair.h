// A UC queue pair of the card whose rings, doorbell record and completion queues are in a DPA's memory, made and
// connected by DEVX commands: FlexIO's own calls know reliable connections only. Never run on a device; what is not
// documented is marked [inference]. Knows no process, no handler and no message.
#pragma once

#include <infiniband/mlx5dv.h>

#include <memory>
#include <string>

#include "dpa/platform.h"

namespace sdr::dpa {

// What the card's objects belong to.
struct CardParts {
  ibv_context* context = nullptr;
  uint32_t pd = 0, uar = 0;
  uint32_t umem = 0;       // the process's memory, as the card knows it
  uint64_t umem_base = 0;  // its device address
};

// Where a peer's queue pair is, over RoCE.
struct UcPath {
  uint32_t queue = 0;
  uint8_t gid[16] = {}, mac[6] = {};
  uint8_t gid_index = 0, port = 1;  // ours
  uint32_t mtu = 4096;
  uint8_t hop_limit = 64, traffic_class = 0;
  uint16_t udp_source = 0xc000;
};

class UcQueuePair {
 public:
  // Null with *why: what the card said.
  static std::unique_ptr<UcQueuePair> create(const CardParts& parts, const QueuePlace& place, std::string* why);
  ~UcQueuePair();
  UcQueuePair(const UcQueuePair&) = delete;
  UcQueuePair& operator=(const UcQueuePair&) = delete;

  uint32_t number() const { return number_; }
  // To ready-to-send: both directions at once. False with *why.
  bool connect(const UcPath& path, std::string* why);

 private:
  UcQueuePair(mlx5dv_devx_obj* object, uint32_t number, uint32_t pd) : object_(object), number_(number), pd_(pd) {}
  mlx5dv_devx_obj* const object_;
  const uint32_t number_, pd_;
};

}  // namespace sdr::dpa
