#include "transport/verbs_info.h"

#include <cstring>

#include "transport/crc32c.h"
#include "transport/verbs_wire.h"

namespace sdr::verbs {
namespace {

constexpr uint8_t kVersion = 1, kReliable = 1, kEthernet = 2, kHasGid = 4;
constexpr uint8_t kMagic[4] = {'S', 'D', 'R', 'V'};
constexpr size_t kFixedBytes = 56, kChecksumAt = 36;
constexpr uint32_t kNumberMax = 0xffffff;  // 24 bits on the wire

uint32_t checksum(const uint8_t* bytes, size_t size) {
  static constexpr uint8_t none[sizeof(uint32_t)] = {};
  const uint32_t before = crc32c(none, sizeof none, crc32c(bytes, kChecksumAt));
  const size_t after = kChecksumAt + sizeof none;
  return crc32c(bytes + after, size - after, before);
}

bool refuse(DeviceError* error, std::string what, std::string remedy) {
  *error = {0, "PEER_INCOMPATIBLE", std::move(what), std::move(remedy)};
  return false;
}

}  // namespace

std::vector<uint8_t> write_info(const Info& info) {
  const size_t generations = info.numbers.front().size();
  std::vector<uint8_t> out(kFixedBytes + 4 * generations * info.numbers.size());
  uint8_t* at = out.data();
  std::memcpy(at, kMagic, sizeof kMagic);
  at[4] = kVersion;
  at[5] = static_cast<uint8_t>((info.reliable ? kReliable : 0) | (info.ethernet ? kEthernet : 0) |
                               (info.has_gid ? kHasGid : 0));
  put(at + 6, static_cast<uint16_t>(info.mtu));
  put(at + 8, info.lid);
  at[10] = static_cast<uint8_t>(generations);
  at[11] = static_cast<uint8_t>(info.numbers.size());
  std::memcpy(at + 12, info.gid.raw, sizeof info.gid.raw);
  put(at + 28, info.control_number);
  put(at + 32, info.root.key);
  put(at + 40, info.root.data_stride);
  put(at + 48, info.root.parity_stride);
  at += kFixedBytes;
  for (const auto& channel : info.numbers) {
    for (const uint32_t number : channel) {
      put(at, number);
      at += 4;
    }
  }
  put(out.data() + kChecksumAt, checksum(out.data(), out.size()));
  return out;
}

bool read_info(const uint8_t* bytes, size_t size, const sdr_geometry& geometry, Info* out,
               DeviceError* error) {
  const char* const unchanged = "pass what the peer's info() returned, unchanged";
  if (bytes == nullptr || size < kFixedBytes || size > kVerbsInfoBytesMax ||
      std::memcmp(bytes, kMagic, sizeof kMagic) != 0)
    return refuse(error, "the peer's info is none of a verbs queue pair", unchanged);
  if (bytes[4] != kVersion) {
    return refuse(error,
                  "the peer's info is of version " + std::to_string(bytes[4]) + ", this is " +
                      std::to_string(kVersion),
                  "use the same version on both ends");
  }
  if (get<uint32_t>(bytes + kChecksumAt) != checksum(bytes, size))
    return refuse(error, "the peer's info was changed on its way: its checksum differs", unchanged);
  const uint32_t generations = bytes[10], channels = bytes[11];
  if (generations != geometry.generations || channels != geometry.channels) {
    return refuse(error,
                  "the peer has " + std::to_string(generations) + " generations and " +
                      std::to_string(channels) + " channels, this end " +
                      std::to_string(geometry.generations) + " and " +
                      std::to_string(geometry.channels),
                  "use the same numbers on both ends");
  }
  const uint8_t flags = bytes[5];
  Info info;
  info.reliable = (flags & kReliable) != 0;
  info.ethernet = (flags & kEthernet) != 0;
  info.has_gid = (flags & kHasGid) != 0;
  info.mtu = get<uint16_t>(bytes + 6);
  info.lid = get<uint16_t>(bytes + 8);
  std::memcpy(info.gid.raw, bytes + 12, sizeof info.gid.raw);
  info.control_number = get<uint32_t>(bytes + 28);
  info.root = {get<uint32_t>(bytes + 32), get<uint64_t>(bytes + 40), get<uint64_t>(bytes + 48)};
  bool valid = (flags & ~(kReliable | kEthernet | kHasGid)) == 0 &&
               size == kFixedBytes + 4 * size_t{generations} * channels &&
               info.control_number <= kNumberMax;
  valid = valid && (info.mtu == 256 || info.mtu == 512 || info.mtu == 1024 || info.mtu == 2048 ||
                    info.mtu == 4096);
  // All entries of a root key lie within what an address can say.
  const uint64_t strides = info.root.data_stride + info.root.parity_stride;
  const uint64_t entries = uint64_t{geometry.slots} * geometry.generations;
  valid = valid && strides >= info.root.data_stride &&
          (strides == 0 || entries <= UINT64_MAX / strides);
  const uint8_t* at = bytes + kFixedBytes;
  for (uint32_t channel = 0; valid && channel < channels; channel++) {
    auto& numbers = info.numbers.emplace_back();
    for (uint32_t i = 0; i < generations; i++, at += 4) {
      numbers.push_back(get<uint32_t>(at));
      valid = valid && numbers.back() <= kNumberMax;
    }
  }
  if (!valid) return refuse(error, "the peer's info does not hold together", unchanged);
  *out = std::move(info);
  return true;
}

bool is_compatible(const Info& peer, const Device& device, const sdr_geometry& geometry,
                   DeviceError* error) {
  if (peer.reliable != device.options.reliable) {
    return refuse(error,
                  std::string("the peer uses ") + (peer.reliable ? "RC" : "UC") +
                      " queue pairs, this end " + (device.options.reliable ? "RC" : "UC"),
                  "choose the same on both ends");
  }
  if (peer.ethernet != device.is_ethernet()) {
    return refuse(error,
                  std::string("the peer's port is ") + (peer.ethernet ? "Ethernet" : "InfiniBand") +
                      ", this end's " + (device.is_ethernet() ? "Ethernet" : "InfiniBand"),
                  "use ports of one network");
  }
  if (peer.ethernet && !peer.has_gid)
    return refuse(error, "the peer's info has no GID", "name one of its port");
  if (geometry.packet_bytes > peer.mtu) {
    return refuse(error,
                  "packets of " + std::to_string(geometry.packet_bytes) +
                      " B are above the peer's MTU of " + std::to_string(peer.mtu),
                  "use packets of at most " + std::to_string(std::min(peer.mtu, device.mtu)) +
                      " B on both ends");
  }
  return true;
}

}  // namespace sdr::verbs
