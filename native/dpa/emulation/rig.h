// A queue pair on the emulated device with completions written by hand: what benches and tests of the DPA program are
// made of. No card, no links.
#pragma once

#include <string>

#include "dpa/emulation/emulated_platform.h"
#include "dpa/pair.h"

namespace sdr::dpa {

class Rig {
 public:
  static constexpr uint32_t kUser = 0xdeadbeef;

  // With 0 units nothing runs but by run(). `queue_log`: completions that a channel's queue holds, as a power of two.
  Rig(const sdr_geometry& geometry, uint32_t units, uint32_t queue_log)
      : geometry_(geometry), platform_(units) {
    PairOptions options;
    options.geometry = geometry;
    options.rq_log_sum = queue_log;
    options.wake = [this] { wakes_.fetch_add(1); };
    sdr_status status = SDR_OK;
    pair_ = DevicePair::create(platform_, options, &status);
  }
  DevicePair* pair() { return pair_.get(); }  // null: no memory
  EmulatedPlatform& platform() { return platform_; }
  EmulatedDevice& device() { return platform_.device(); }
  const sdr_geometry& geometry() const { return geometry_; }
  uint32_t wakes() const { return wakes_.load(); }

  // The completion of a packet, as its card would write it.
  sdr_dpa_cqe completion_of(const sdr_tx_packet& made) const {
    sdr_dpa_cqe cqe{};
    cqe.immediate = __builtin_bswap32(made.immediate);
    cqe.bytes = __builtin_bswap32(made.bytes);
    const uint32_t channels = geometry_.channels;
    cqe.queue = __builtin_bswap32(pair_->queue_number(made.queue / channels, made.queue % channels));
    cqe.op_own = SDR_DPA_CQE_WRITTEN_IMM << 4;
    return cqe;
  }
  Produced produce(uint32_t message, uint64_t message_bytes, uint32_t packet) {
    const sdr_tx_packet made = sdr_tx_make(&geometry_, message, message_bytes, packet, kUser);
    return device().produce(pair_->receive_cq(made.queue % geometry_.channels), completion_of(made));
  }
  void run(uint32_t channel) { device().run(pair_->receive_handler(channel)); }

  // What is wrong with a message of `bytes` bytes that should be complete; empty: nothing. Looks at every bit, in the
  // host's copy and in the device's memory.
  std::string verify(uint32_t message, uint64_t bytes) const {
    const uint32_t packets = static_cast<uint32_t>((bytes + geometry_.packet_bytes - 1) / geometry_.packet_bytes);
    const uint32_t per_chunk = geometry_.packets_per_chunk, chunks = (packets + per_chunk - 1) / per_chunk;
    const sdr_bitmap_slab slab = pair_->bitmaps();
    const auto* words = reinterpret_cast<const uint32_t*>(slab.base + message % geometry_.slots * slab.stride);
    std::vector<uint64_t> bits((per_chunk + 63) / 64);
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
      if ((__atomic_load_n(words + (chunk >> 5), __ATOMIC_ACQUIRE) >> (chunk & 31) & 1) == 0)
        return "the host does not see chunk " + std::to_string(chunk) + " of message " + std::to_string(message);
      if (pair_->chunk_expand(message, chunk, bits.data(), bits.size()) != SDR_OK) return "expand failed";
      uint32_t set = 0;
      for (const uint64_t word : bits) set += static_cast<uint32_t>(__builtin_popcountll(word));
      const uint32_t wanted = std::min(per_chunk, packets - chunk * per_chunk);
      if (set != wanted)
        return "chunk " + std::to_string(chunk) + " has " + std::to_string(set) + " packets, not " +
               std::to_string(wanted);
    }
    sdr_rx_progress progress{};
    if (pair_->progress(message, &progress) != SDR_OK || !progress.complete || progress.chunks_done != chunks ||
        progress.chunks_total != chunks) {
      return "progress of message " + std::to_string(message) + " is wrong";
    }
    uint32_t user = 0;
    if (packets >= sdr_split_fragments(geometry_.split) && (!pair_->user_immediate(message, &user) || user != kUser))
      return "the user immediate is wrong";
    return {};
  }

 private:
  const sdr_geometry geometry_;
  std::atomic<uint32_t> wakes_{0};
  EmulatedPlatform platform_;
  std::unique_ptr<DevicePair> pair_;
};

}  // namespace sdr::dpa
