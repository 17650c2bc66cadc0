#include "transport/verbs_keys.h"

#include <cerrno>
#include <cstring>

#include "transport/checks.h"
#include "transport/verbs_wire.h"

namespace sdr::verbs {
namespace {

constexpr uint8_t kMessageKeys = 1, kRootKey = 2;
constexpr size_t kMessageGrantBytes = 48, kRootGrantBytes = 8;
constexpr int kWritable = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;

class MessageKeys final : public SlotKeys {
 public:
  MessageKeys(Device& device, const sdr_geometry& geometry)
      : device_(device), geometry_(geometry), slots_(geometry.slots) {}

  int open(uint32_t message, const RegionRef& region, uint64_t offset, uint64_t bytes,
           const Parity& parity) override {
    Slot slot;
    slot.message = message;
    slot.region = region;
    slot.parity_region = parity.region;
    RemoteMemory& memory = slot.memory;
    if (bytes > 0) {
      slot.own = device_.register_memory(*region, offset, bytes, kWritable);
      if (!slot.own) return errno != 0 ? errno : EINVAL;
      memory.base = reinterpret_cast<uint64_t>(region->base) + offset;
      memory.bytes = bytes;
      memory.key = slot.own.rkey();
    }
    if (parity.chunks > 0) {
      memory.parity_bytes = parity.chunks * chunk_bytes(geometry_);
      slot.parity =
          device_.register_memory(*parity.region, parity.offset, memory.parity_bytes, kWritable);
      if (!slot.parity) return errno != 0 ? errno : EINVAL;
      memory.parity_base = reinterpret_cast<uint64_t>(parity.region->base) + parity.offset;
      memory.parity_key = slot.parity.rkey();
      memory.parity_first_packet =
          sdr_rx_parity_first(&geometry_, bytes) * geometry_.packets_per_chunk;
    }
    slots_[message % geometry_.slots] = std::move(slot);
    return 0;
  }

  bool close(uint32_t message) override {
    Slot& slot = slots_[message % geometry_.slots];
    if (slot.message != message) return true;
    // The keys before the memory, which may serve something else at once.
    slot.own.reset();
    slot.parity.reset();
    slot = {};
    return true;
  }

  size_t grant(uint32_t message, uint8_t out[kGrantBytesMax]) const override {
    const Slot& slot = slots_[message % geometry_.slots];
    return slot.message == message ? write_grant(slot.memory, out) : 0;
  }

 private:
  struct Slot {
    uint32_t message = UINT32_MAX;
    Registration own, parity;
    RegionRef region, parity_region;
    RemoteMemory memory;
  };
  Device& device_;
  const sdr_geometry geometry_;
  std::vector<Slot> slots_;
};

bool is_range(uint64_t base, uint64_t bytes) { return bytes <= UINT64_MAX - base; }

}  // namespace

std::unique_ptr<SlotKeys> make_message_keys(Device& device, const sdr_geometry& geometry) {
  return std::make_unique<MessageKeys>(device, geometry);
}

uint32_t root_entry(const sdr_geometry& geometry, uint32_t message) {
  return message % (geometry.slots * geometry.generations);
}

size_t write_grant(const RemoteMemory& memory, uint8_t out[kGrantBytesMax]) {
  std::memset(out, 0, kMessageGrantBytes);
  out[0] = kMessageKeys;
  put(out + 4, memory.parity_first_packet);
  put(out + 8, memory.key);
  put(out + 12, memory.parity_key);
  put(out + 16, memory.base);
  put(out + 24, memory.bytes);
  put(out + 32, memory.parity_base);
  put(out + 40, memory.parity_bytes);
  return kMessageGrantBytes;
}

size_t write_root_grant(uint32_t parity_first_packet, uint8_t out[kGrantBytesMax]) {
  std::memset(out, 0, kRootGrantBytes);
  out[0] = kRootKey;
  put(out + 4, parity_first_packet);
  return kRootGrantBytes;
}

bool read_grant(const uint8_t* grant, size_t size, const sdr_geometry& geometry, uint32_t message,
                const RootAddress& root, RemoteMemory* out) {
  if (grant == nullptr || size < kRootGrantBytes || (grant[1] | grant[2] | grant[3]) != 0)
    return false;
  RemoteMemory memory;
  memory.parity_first_packet = get<uint32_t>(grant + 4);
  if (grant[0] == kRootKey && size == kRootGrantBytes) {
    if (root.key == 0) return false;
    memory.key = memory.parity_key = root.key;
    memory.base = root_entry(geometry, message) * (root.data_stride + root.parity_stride);
    memory.bytes = root.data_stride;
    memory.parity_base = memory.base + root.data_stride;
    memory.parity_bytes = root.parity_stride;
  } else if (grant[0] == kMessageKeys && size == kMessageGrantBytes) {
    memory.key = get<uint32_t>(grant + 8);
    memory.parity_key = get<uint32_t>(grant + 12);
    memory.base = get<uint64_t>(grant + 16);
    memory.bytes = get<uint64_t>(grant + 24);
    memory.parity_base = get<uint64_t>(grant + 32);
    memory.parity_bytes = get<uint64_t>(grant + 40);
  } else {
    return false;
  }
  if (!is_range(memory.base, memory.bytes) || !is_range(memory.parity_base, memory.parity_bytes))
    return false;
  *out = memory;
  return true;
}

}  // namespace sdr::verbs
