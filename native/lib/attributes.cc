#include "lib/attributes.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>

#include "lib/error.h"

namespace sdr::lib {
namespace {

constexpr uint32_t kChunkLogMax = 30;
constexpr uint64_t kMessageBytesMax = UINT32_MAX;  // lengths of work requests have 32 bits
constexpr uint32_t kMessageLogDefault = 30;
constexpr uint32_t kGenerationsDefault = 4;
// Splits with more packet bits serve larger messages and have fewer message ids.
constexpr sdr_split kSplits[] = {{10, 18, 4}, {8, 22, 2}, {4, 28, 0}};

std::string number(uint64_t value) { return std::to_string(value); }

// The first split that carries messages of `bytes`, or else the one with the most packet bits that
// still has an id for each of 2^message_log messages.
sdr_split split_for(uint64_t bytes, uint32_t packet_bytes, uint32_t message_log) {
  const uint64_t packets = (bytes + packet_bytes - 1) / packet_bytes;
  sdr_split best = kSplits[0];
  for (const sdr_split& split : kSplits) {
    if (split.message_bits < message_log) break;
    best = split;
    if (packets <= uint64_t{1} << split.packet_bits) break;
  }
  return best;
}

uint32_t packet_bytes_of(const sdr_qp_attr& given, const DeviceLimits& limits) {
  const uint32_t mtu = number_in(given.mtu);
  if (mtu > SDR_MTU_4096)
    fail(SDR_EXT_INVALID_ARGUMENT, "mtu " + number(mtu) + " is not one of enum sdr_mtu",
         "use SDR_MTU_1024 or another");
  const uint32_t bytes = 64u << mtu;
  if (bytes < limits.packet_bytes_min || bytes > limits.packet_bytes_max)
    fail(SDR_EXT_INVALID_ARGUMENT,
         "mtu " + number(bytes) + " is outside " + number(limits.packet_bytes_min) + " to " +
             number(limits.packet_bytes_max) + " B, what " + limits.name + " carries here",
         "use another mtu, or raise that of the interface");
  return bytes;
}

}  // namespace

uint64_t environment_number(const char* name, uint64_t least, uint64_t most, uint64_t otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  uint64_t value = 0;
  const char* const end = text + std::strlen(text);
  const auto [rest, problem] = std::from_chars(text, end, value);
  if (problem != std::errc() || rest != end || value < least || value > most)
    fail(SDR_EXT_INVALID_ARGUMENT, std::string(name) + "=" + text + " is not valid",
         "set a whole number from " + number(least) + " to " + number(most));
  return value;
}

Attributes resolve_attributes(const sdr_qp_attr& given, const DeviceLimits& limits,
                              uint32_t channels) {
  const uint32_t packet_bytes = packet_bytes_of(given, limits);
  const uint32_t chunk_log = given.bitmap_chunk_size_log_bytes;
  if (chunk_log > kChunkLogMax || (uint64_t{1} << chunk_log) < packet_bytes ||
      (uint64_t{1} << chunk_log) / packet_bytes > SDR_PACKETS_PER_CHUNK_MAX)
    fail(SDR_EXT_INVALID_ARGUMENT,
         "bitmap_chunk_size_log_bytes " + number(chunk_log) + " is not 1 to " +
             number(SDR_PACKETS_PER_CHUNK_MAX) + " packets of " + number(packet_bytes) + " B",
         "use 16 for chunks of 64 KiB");
  const uint32_t message_log = given.max_log_num_msgs;
  if (message_log > 10)
    fail(SDR_EXT_TOO_LARGE, "max_log_num_msgs " + number(message_log) + " is more than 10",
         "use at most 1024 messages");
  if (!given.send_enable && !given.recv_enable)
    fail(SDR_EXT_INVALID_ARGUMENT, "neither send_enable nor recv_enable is set",
         "set what this end is to do");
  const size_t wanted_log =
      given.max_in_flight_log_bytes != 0 ? given.max_in_flight_log_bytes : kMessageLogDefault;
  const uint64_t wanted = wanted_log < 32 ? uint64_t{1} << wanted_log : kMessageBytesMax;

  Attributes attributes;
  sdr_geometry& geometry = attributes.geometry;
  geometry.packet_bytes = packet_bytes;
  geometry.packets_per_chunk = static_cast<uint32_t>((uint64_t{1} << chunk_log) / packet_bytes);
  geometry.slots = 1u << message_log;
  geometry.generations = static_cast<uint32_t>(
      environment_number("SDR_QP_NUM_GENERATIONS", 1, SDR_GENERATIONS_MAX, kGenerationsDefault));
  geometry.channels = channels;
  geometry.split = split_for(wanted, packet_bytes, message_log);
  geometry.max_message_bytes =
      std::min(wanted, uint64_t{packet_bytes} << geometry.split.packet_bits);
  // Bytes in flight are those of all messages together: one alone need not have bitmaps for all of
  // them.
  while (sdr_geometry_check(&geometry) == SDR_TOO_LARGE &&
         geometry.max_message_bytes > packet_bytes)
    geometry.max_message_bytes /= 2;
  if (sdr_geometry_check(&geometry) != SDR_OK)
    fail(SDR_EXT_INVALID_ARGUMENT, "these attributes do not fit together",
         "use fewer messages or larger packets");
  const uint64_t kbps = given.rate_limit != 0
                            ? given.rate_limit
                            : environment_number("SDR_RATE_LIMIT", 0, UINT32_MAX, 0);
  attributes.rate_bps = 1e3 * static_cast<double>(kbps);
  attributes.send_enabled = given.send_enable != 0;
  attributes.recv_enabled = given.recv_enable != 0;
  return attributes;
}

}  // namespace sdr::lib
