#include "transport/receives.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "transport/checks.h"

namespace sdr {

// What a recovery works on. The pointers stay good because complete() and close() wait for it.
struct Receives::Block {
  uint32_t message;
  const codec::Code& code;
  uint32_t first, count;   // data chunks
  uint32_t parity_first;
  uint8_t* data = nullptr;  // of the first data chunk; null: a phantom receive
  const uint8_t* parity = nullptr;
  uint64_t bytes = 0;       // of the data chunks together: the last one may be short
  uint32_t parity_bit = 0;  // of the first parity chunk, in the slot's bitmap

  uint32_t k() const { return code.shape().k; }
  uint32_t m() const { return code.shape().m; }
};

Receives::Receives(sdr_rx* rx, const sdr_geometry& geometry)
    : rx_(rx), geometry_(geometry), slots_(geometry.slots) {}

sdr_status Receives::post(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                          Parity parity) {
  if (!is_receivable(geometry_, region.get(), offset, bytes, parity)) return SDR_INVALID;
  const sdr_status status =
      sdr_rx_post_parity(rx_, message, memory_at(region.get(), offset), bytes,
                         memory_at(parity.region.get(), parity.offset), parity.chunks);
  if (status != SDR_OK) return status;
  const std::lock_guard lock(mutex_);
  Slot& slot = slot_of(message);
  slot.posted = true;
  slot.length_known = false;
  slot.message = message;
  slot.posted_bytes = bytes;
  slot.region = std::move(region);
  slot.offset = offset;
  slot.parity = std::move(parity);
  return SDR_OK;
}

sdr_status Receives::set_length(uint32_t message, uint64_t bytes, bool* complete) {
  const sdr_status status = sdr_rx_set_length(rx_, message, bytes, complete);
  if (status != SDR_OK) return status;
  const std::lock_guard lock(mutex_);
  Slot& slot = slot_of(message);
  slot.length_known = true;
  slot.bytes = bytes;
  return SDR_OK;
}

sdr_status Receives::complete(uint32_t message) {
  Slot& slot = slot_of(message);
  {
    std::unique_lock lock(mutex_);
    if (!slot.posted || slot.message != message) return SDR_CLOSED;
    slot.posted = false;
    ended_.wait(lock, [&] { return slot.running.empty(); });
  }
  const sdr_status status = sdr_rx_complete(rx_, message);
  // Not before: until then packets may come.
  slot.region.reset();
  slot.parity.region.reset();
  return status;
}

void Receives::close() {
  std::unique_lock lock(mutex_);
  closed_ = true;
  for (Slot& slot : slots_) {
    ended_.wait(lock, [&] { return slot.running.empty(); });
    slot = {};
  }
}

// Checks what was asked for and takes the data chunks in hand.
sdr_status Receives::begin(Block* block) {
  const std::lock_guard lock(mutex_);
  Slot& slot = slot_of(block->message);
  if (closed_ || !slot.posted || slot.message != block->message) return SDR_CLOSED;
  if (!slot.length_known || block->count == 0 || block->count > block->k()) return SDR_INVALID;
  const uint64_t end = uint64_t{block->first} + block->count;
  if (end > sdr_rx_parity_first(&geometry_, slot.bytes)) return SDR_INVALID;
  if (uint64_t{block->parity_first} + block->m() > slot.parity.chunks) return SDR_INVALID;
  for (const Range& range : slot.running) {
    if (range.first < end && block->first < uint64_t{range.first} + range.count) return SDR_BUSY;
  }
  slot.running.push_back({block->first, block->count});
  const uint64_t chunk = chunk_bytes(geometry_), start = block->first * chunk;
  block->bytes = std::min(block->count * chunk, slot.bytes - start);
  block->data = memory_at(slot.region.get(), slot.offset + start);
  block->parity = memory_at(slot.parity.region.get(), slot.parity.offset + block->parity_first * chunk);
  block->parity_bit = sdr_rx_parity_bits(&geometry_, slot.posted_bytes) + block->parity_first;
  return SDR_OK;
}

void Receives::end(const Block& block) {
  const std::lock_guard lock(mutex_);
  std::erase_if(slot_of(block.message).running,
                [&](const Range& range) { return range.first == block.first; });
  ended_.notify_all();
}

sdr_status Receives::recover(uint32_t message, const codec::Code& code, uint32_t first, uint32_t count,
                         uint32_t parity_first, Recovered* recovered) {
  *recovered = {};
  Block block{message, code, first, count, parity_first};
  const sdr_status status = begin(&block);
  if (status != SDR_OK) return status;
  // Also when the code throws for want of memory: then the chunks stay sealed, and another try may make them.
  const std::unique_ptr<const Block, std::function<void(const Block*)>> in_hand(
      &block, [this](const Block* ended) { end(*ended); });
  return make(block, recovered);
}

// Acquires the chunk's bytes with its bit.
bool Receives::has_chunk(uint32_t message, uint32_t bit) const {
  const sdr_bitmap_slab slab = sdr_rx_bitmaps(rx_);
  const uint8_t* words = slab.base + message % geometry_.slots * slab.stride;
  const auto* word = reinterpret_cast<const uint32_t*>(words) + (bit >> 5);
  return (__atomic_load_n(word, __ATOMIC_ACQUIRE) >> (bit & 31) & 1) != 0;
}

// Writes the k + m flags of Code::decode; returns how many data chunks are missing.
uint32_t Receives::look(const Block& block, uint8_t* present) const {
  uint32_t missing = 0;
  for (uint32_t i = 0; i < block.k(); i++) {
    present[i] = i >= block.count || has_chunk(block.message, block.first + i) ? 1 : 0;
    missing += present[i] == 0;
  }
  for (uint32_t i = 0; i < block.m(); i++)
    present[block.k() + i] = has_chunk(block.message, block.parity_bit + i) ? 1 : 0;
  return missing;
}

sdr_status Receives::make(const Block& block, Recovered* recovered) const {
  uint8_t present[codec::kChunksMax];
  if (look(block, present) == 0) return SDR_OK;
  if (!block.code.is_recoverable(present)) return SDR_BUSY;

  // More may have arrived since: what is sealed is what has to be made, by what is there then.
  uint8_t sealed[codec::kChunksMax];
  for (uint32_t i = 0; i < block.count; i++) sealed[i] = present[i] == 0 ? 1 : 0;
  const sdr_status status = sdr_rx_seal(rx_, block.message, block.first, block.count, sealed);
  if (status != SDR_OK) return status;
  const uint32_t missing = look(block, present);
  if (missing == 0) return SDR_OK;

  uint32_t parity_used = missing;
  if (block.data != nullptr) {
    const uint64_t chunk = chunk_bytes(geometry_);
    codec::Target data[codec::kChunksMax] = {};
    for (uint64_t i = 0; i < block.count; i++)
      data[i] = {block.data + i * chunk, std::min(chunk, block.bytes - i * chunk)};
    const uint8_t* parity[codec::kChunksMax] = {};
    for (uint64_t i = 0; i < block.m(); i++) parity[i] = block.parity + i * chunk;
    if (block.code.decode(data, parity, present, chunk, &parity_used) != codec::Result::ok)
      return SDR_INVALID;
  }
  recovered->chunks = missing;
  recovered->parity_used = parity_used;
  return sdr_rx_fill(rx_, block.message, block.first, block.count, sealed, &recovered->complete);
}

}  // namespace sdr
