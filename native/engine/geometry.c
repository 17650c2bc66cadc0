/* Immediate splits, the geometry of a queue pair, and the sender's packet maker: pure functions.
 * Source: SDR-RDMA (arXiv 2505.05366) section 3.2, "10 message id + 18 packet offset + 4 user
 * bits". */
#include "engine/rx.h"

bool sdr_split_is_valid(sdr_split split) {
  return split.message_bits >= 1 && split.packet_bits >= 1 && split.user_bits <= 16 &&
         (uint32_t)split.message_bits + split.packet_bits + split.user_bits == 32;
}

uint32_t sdr_split_fragments(sdr_split split) {
  /* ceil(32 / user_bits), tabled because the packet maker needs it for every packet. */
  static const uint8_t fragments[17] = {0, 32, 16, 11, 8, 7, 6, 5, 4, 4, 4, 3, 3, 3, 3, 3, 2};
  return split.user_bits <= 16 ? fragments[split.user_bits] : 0;
}

/* Most counts here are powers of two, and a division costs more than the rest of a packet's work.
 */
static inline uint32_t remainder_of(uint32_t value, uint32_t count) {
  return (count & (count - 1)) == 0 ? value & (count - 1) : value % count;
}

static inline uint32_t quotient_of(uint32_t value, uint32_t count) {
  return (count & (count - 1)) == 0 ? value >> __builtin_ctz(count) : value / count;
}

sdr_rx_layout sdr_rx_layout_of(const sdr_geometry* geometry) {
  sdr_rx_layout layout;
  const uint64_t count = geometry->packets_per_chunk;
  layout.packets = sdr_ceil_div(geometry->max_message_bytes, geometry->packet_bytes);
  layout.chunks = sdr_ceil_div(layout.packets, count);
  /* Up to 64 packets: a power of two, so that no chunk straddles a word; above: whole words. */
  if (count <= 64) {
    layout.stride_bits = 1;
    while (layout.stride_bits < count) layout.stride_bits *= 2;
  } else {
    layout.stride_bits = (uint32_t)sdr_ceil_div(count, 64) * 64;
  }
  const uint64_t line_bits = 8 * SDR_CACHE_LINE;
  layout.packet_slot_bytes =
      sdr_ceil_div(layout.chunks * layout.stride_bits, line_bits) * SDR_CACHE_LINE;
  layout.sealed_slot_bytes = sdr_ceil_div(layout.chunks, line_bits) * SDR_CACHE_LINE;
  /* One word more than the chunks fill: the parity chunks' bits begin in a word of their own. */
  layout.chunk_slot_bytes = sdr_ceil_div(layout.chunks + 32, line_bits) * SDR_CACHE_LINE;
  /* Never empty: a view of no bytes helps nobody. */
  if (layout.packet_slot_bytes == 0) layout.packet_slot_bytes = SDR_CACHE_LINE;
  return layout;
}

uint32_t sdr_rx_parity_first(const sdr_geometry* geometry, uint64_t bytes) {
  const uint64_t packets = sdr_ceil_div(bytes, geometry->packet_bytes);
  return (uint32_t)sdr_ceil_div(packets, geometry->packets_per_chunk);
}

uint32_t sdr_rx_parity_bits(const sdr_geometry* geometry, uint64_t bytes) {
  return (sdr_rx_parity_first(geometry, bytes) + 31) & ~31u;
}

sdr_status sdr_geometry_check(const sdr_geometry* geometry) {
  if (geometry == NULL || !sdr_split_is_valid(geometry->split)) return SDR_INVALID;
  if (geometry->packet_bytes < SDR_PACKET_BYTES_MIN ||
      geometry->packet_bytes > SDR_PACKET_BYTES_MAX || geometry->packets_per_chunk < 1 ||
      geometry->packets_per_chunk > SDR_PACKETS_PER_CHUNK_MAX) {
    return SDR_INVALID;
  }
  if (geometry->slots < 1 || geometry->slots > SDR_SLOTS_MAX ||
      geometry->slots > (UINT64_C(1) << geometry->split.message_bits)) {
    return SDR_INVALID;
  }
  if (geometry->generations < 1 || geometry->generations > SDR_GENERATIONS_MAX ||
      geometry->channels < 1 || geometry->channels > SDR_CHANNELS_MAX) {
    return SDR_INVALID;
  }
  const sdr_rx_layout layout = sdr_rx_layout_of(geometry);
  if (layout.packets > (UINT64_C(1) << geometry->split.packet_bits)) return SDR_TOO_LARGE;
  const uint64_t slot_bytes =
      layout.packet_slot_bytes + layout.sealed_slot_bytes + layout.chunk_slot_bytes;
  return slot_bytes * geometry->slots > SDR_RX_BYTES_MAX ? SDR_TOO_LARGE : SDR_OK;
}

sdr_tx_packet sdr_tx_make(const sdr_geometry* geometry, uint32_t message, uint64_t message_bytes,
                          uint32_t packet, uint32_t user_immediate) {
  const sdr_split split = geometry->split;
  const uint32_t slot = remainder_of(message, geometry->slots);
  const uint32_t generation =
      remainder_of(quotient_of(message, geometry->slots), geometry->generations);
  uint32_t fragment = 0;
  if (split.user_bits != 0) {
    const uint32_t index = remainder_of(packet, sdr_split_fragments(split));
    fragment = (user_immediate >> (index * split.user_bits)) & ((1u << split.user_bits) - 1);
  }
  const uint64_t offset = (uint64_t)packet * geometry->packet_bytes;
  const uint64_t left = message_bytes > offset ? message_bytes - offset : 0;
  sdr_tx_packet made;
  made.queue = generation * geometry->channels + remainder_of(packet, geometry->channels);
  made.immediate =
      slot << (split.packet_bits + split.user_bits) | packet << split.user_bits | fragment;
  made.bytes = left < geometry->packet_bytes ? (uint32_t)left : geometry->packet_bytes;
  return made;
}
