// What a queue pair tells its peer out of band: addresses and numbers of its hardware queues. Bytes
// to fields and back; reading trusts nothing.
#pragma once

#include <vector>

#include "transport/verbs_device.h"
#include "transport/verbs_keys.h"

namespace sdr::verbs {

// Big-endian:
//   0 "SDRV"   4 u8 version (1)   5 u8 flags: 1 RC, 2 Ethernet, 4 has a GID   6 u16 MTU in bytes
//   8 u16 LID  10 u8 generations  11 u8 channels   12 GID, 16 bytes   28 u32 number of the control
//   queue
//  32 u32 root key, 0 for none    36 u32 CRC-32C of all of it, with 0 here
//  40 u64 data stride  48 u64 parity stride of its entries
//  56 u32 number of each data queue: all generations of channel 0, then of channel 1 ...
struct Info {
  bool reliable = false, ethernet = false, has_gid = false;
  uint32_t mtu = 0;
  uint16_t lid = 0;
  ibv_gid gid{};
  uint32_t control_number = 0;
  RootAddress root;
  std::vector<std::vector<uint32_t>> numbers;  // by channel, by generation
};

std::vector<uint8_t> write_info(const Info& info);
// False, with *error set, for bytes that no end of this version writes, or not for this geometry.
bool read_info(const uint8_t* bytes, size_t size, const sdr_geometry& geometry, Info* out,
               DeviceError* error);
// Whether this end can talk to it.
bool is_compatible(const Info& peer, const Device& device, const sdr_geometry& geometry,
                   DeviceError* error);

}  // namespace sdr::verbs
