// Who may write into the memory of posted receives. One scheme keeps a key for each message, told
// to the sender in its grant; the other (verbs_root_key) keeps one key for all. Both revoke: after
// close() nothing that still arrives changes the memory.
#pragma once

#include <memory>
#include <vector>

#include "transport/send_lane.h"
#include "transport/verbs_device.h"

namespace sdr::verbs {

// What a peer says of its root key, in its info; key 0: it has none.
struct RootAddress {
  uint32_t key = 0;
  uint64_t data_stride = 0,
           parity_stride = 0;  // of a slot's entry: its message's bytes, then its parity's
};

class SlotKeys {
 public:
  virtual ~SlotKeys() = default;
  // Opens the memory of a receive that is about to be posted. 0, or an errno.
  virtual int open(uint32_t message, const RegionRef& region, uint64_t offset, uint64_t bytes,
                   const Parity& parity) = 0;
  // False: the device changes keys no more. It has none of this queue pair's any longer, so that
  // nothing is written, and open() fails.
  virtual bool close(uint32_t message) = 0;
  virtual size_t grant(uint32_t message, uint8_t out[kGrantBytesMax]) const = 0;
  virtual RootAddress root() const { return {}; }
};

std::unique_ptr<SlotKeys> make_message_keys(Device& device, const sdr_geometry& geometry);

// A grant's bytes, which came from outside, as where to write. False: it is none.
//   0 u8 kind: 1 keys of this message, 2 the root key     1 three zeros   4 u32 first parity packet
//   kind 1:  8 u32 key   12 u32 parity's key   16 u64 address  24 u64 bytes  32 u64 parity's
//   address  40 u64 bytes
size_t write_grant(const RemoteMemory& memory, uint8_t out[kGrantBytesMax]);
size_t write_root_grant(uint32_t parity_first_packet, uint8_t out[kGrantBytesMax]);
bool read_grant(const uint8_t* grant, size_t size, const sdr_geometry& geometry, uint32_t message,
                const RootAddress& root, RemoteMemory* out);

// Which entry of the root key a message has: a slot's lives follow each other over several, so that
// a packet of an earlier one finds nothing (paper section 3.3.2's first stage, kept up after the
// slot is posted again).
uint32_t root_entry(const sdr_geometry& geometry, uint32_t message);

}  // namespace sdr::verbs
