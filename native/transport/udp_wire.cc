#include "transport/udp_wire.h"

#include <cstring>

#include "transport/crc32c.h"

namespace sdr::udp {
namespace {

constexpr size_t kChecksumAt = 8;
constexpr size_t kCoveredAt = 12;  // the checksum covers all from here on

void put16(uint8_t* p, uint16_t v) {
  p[0] = static_cast<uint8_t>(v >> 8);
  p[1] = static_cast<uint8_t>(v);
}
void put32(uint8_t* p, uint32_t v) {
  put16(p, static_cast<uint16_t>(v >> 16));
  put16(p + 2, static_cast<uint16_t>(v));
}
void put64(uint8_t* p, uint64_t v) {
  put32(p, static_cast<uint32_t>(v >> 32));
  put32(p + 4, static_cast<uint32_t>(v));
}
uint16_t get16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
uint32_t get32(const uint8_t* p) { return uint32_t{get16(p)} << 16 | get16(p + 2); }

}  // namespace

void write_header(uint8_t out[kUdpHeaderBytes], uint64_t key, const Header& header,
                  const uint8_t* payload, size_t bytes) {
  put64(out, key);
  out[12] = kUdpVersion;
  out[13] = static_cast<uint8_t>(header.kind);
  put16(out + 14, header.queue);
  put32(out + 16, header.immediate);
  put32(out + 20, header.message);
  const uint32_t crc = crc32c(out + kCoveredAt, kUdpHeaderBytes - kCoveredAt);
  put32(out + kChecksumAt, crc32c(payload, bytes, crc));
}

uint64_t read_key(const uint8_t* datagram) {
  return uint64_t{get32(datagram)} << 32 | get32(datagram + 4);
}

Verdict read_header(const uint8_t* datagram, size_t bytes, Header* out) {
  if (bytes < kUdpHeaderBytes) return Verdict::truncated;
  if (crc32c(datagram + kCoveredAt, bytes - kCoveredAt) != get32(datagram + kChecksumAt))
    return Verdict::bad_checksum;
  if (datagram[12] != kUdpVersion || datagram[13] >= kPacketKinds) return Verdict::malformed;
  out->kind = static_cast<PacketKind>(datagram[13]);
  out->queue = get16(datagram + 14);
  out->immediate = get32(datagram + 16);
  out->message = get32(datagram + 20);
  const bool has_data_fields = (out->queue | out->immediate | out->message) != 0;
  if (out->kind != PacketKind::data && (has_data_fields || bytes == kUdpHeaderBytes))
    return Verdict::malformed;
  return Verdict::valid;
}

}  // namespace sdr::udp
