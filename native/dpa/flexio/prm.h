// Bits of a DEVX command as the mlx5 programmer's reference numbers them: bit 0 is the first of the first byte, fields
// are big-endian. Offsets are those of mlx5_ifc.h (rdma-core). Knows no command.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sdr::dpa {

struct Field {
  uint32_t bit, width;  // width <= 32
};

template <size_t kBytes>
class Command {
 public:
  void set(Field field, uint64_t value) {
    for (uint32_t i = 0; i < field.width; i++) {
      const uint32_t bit = field.bit + i;
      const auto one = static_cast<uint8_t>(0x80 >> bit % 8);
      uint8_t& byte = bytes_[bit / 8];
      byte = static_cast<uint8_t>((value >> (field.width - 1 - i) & 1) != 0 ? byte | one : byte & ~one);
    }
  }
  // Two words, the upper one first.
  void set64(uint32_t bit, uint64_t value) {
    set({bit, 32}, value >> 32);
    set({bit + 32, 32}, value & 0xffffffff);
  }
  uint32_t get(Field field) const {
    uint32_t value = 0;
    for (uint32_t bit = field.bit; bit < field.bit + field.width; bit++)
      value = value << 1 | (bytes_[bit / 8] >> (7 - bit % 8) & 1);
    return value;
  }
  uint8_t* data() { return bytes_.data(); }
  static constexpr size_t size() { return kBytes; }

 private:
  std::array<uint8_t, kBytes> bytes_{};
};

// Commands on queue pairs share their layout.
namespace prm {

inline constexpr uint32_t kCreateQp = 0x500, kRst2Init = 0x502, kInit2Rtr = 0x503, kRtr2Rts = 0x504;
inline constexpr size_t kQpInBytes = 0x880 / 8, kQpOutBytes = 16;
inline constexpr Field kOpcode{0, 16}, kQpn{0x48, 24};  // the answer to CREATE_QP has the number there too
inline constexpr Field kStatus{0, 8}, kSyndrome{32, 32};
inline constexpr uint32_t kWqUmemOffset = 0x800;
inline constexpr Field kWqUmemId{0x840, 32}, kWqUmemValid{0x860, 1};

// The queue pair's context, from bit 0xc0 on.
constexpr Field in_context(uint32_t bit, uint32_t width) { return {0xc0 + bit, width}; }
inline constexpr Field kService = in_context(0x08, 8), kPathMigration = in_context(0x13, 2);
inline constexpr Field kPd = in_context(0x28, 24), kMtu = in_context(0x40, 3), kLogMsgMax = in_context(0x43, 5);
inline constexpr Field kLogRqSize = in_context(0x49, 4), kLogRqStride = in_context(0x4d, 3);
inline constexpr Field kLogSqSize = in_context(0x51, 4), kUar = in_context(0x68, 24);
inline constexpr Field kLogPageSize = in_context(0xa3, 5), kRemoteQpn = in_context(0xa8, 24);
inline constexpr Field kSendPsn = in_context(0x3c8, 24), kCqSend = in_context(0x3e8, 24);
inline constexpr Field kRemoteWrite = in_context(0x491, 1), kPageOffset = in_context(0x494, 6);
inline constexpr Field kReceivePsn = in_context(0x4a8, 24), kCqReceive = in_context(0x4e8, 24);
inline constexpr uint32_t kDoorbell = 0xc0 + 0x500;
inline constexpr Field kRqType = in_context(0x565, 3), kDoorbellUmemValid = in_context(0x683, 1);
inline constexpr Field kDoorbellUmemId = in_context(0x720, 32);

// The primary address path, in the context from bit 0xc0 on.
constexpr Field in_path(uint32_t bit, uint32_t width) { return in_context(0xc0 + bit, width); }
inline constexpr Field kSourceGidIndex = in_path(0x48, 8), kHopLimit = in_path(0x58, 8), kDscp = in_path(0x10a, 6);
inline constexpr Field kUdpSource = in_path(0x110, 16), kPort = in_path(0x128, 8);
inline constexpr uint32_t kRemoteGid = 0xc0 + 0xc0 + 0x80, kRemoteMac = 0xc0 + 0xc0 + 0x130;  // 16 and 6 bytes

inline constexpr uint32_t kServiceUc = 1, kMigrated = 3;

}  // namespace prm
}  // namespace sdr::dpa
