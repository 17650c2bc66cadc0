#include "transport/receives.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#include "transport/checks.h"
#include "transport/memory.h"

namespace sdr {

// What a recovery works on. The pointers stay good because complete() and close() wait for it.
struct Receives::Block {
  uint32_t message;
  const codec::Code& code;
  BlockChunks at;
  uint8_t* data = nullptr;  // of the first data chunk; null: a phantom receive
  const uint8_t* parity = nullptr;
  uint64_t bytes = 0;       // from the first data chunk to the end of the last, which may be short
  uint32_t parity_bit = 0;  // of the first parity chunk, in the slot's bitmap

  uint32_t k() const { return code.shape().k; }
  uint32_t m() const { return code.shape().m; }
};

namespace {

// Chunks from a block's first to its last, both included.
uint64_t span_of(const BlockChunks& block) { return uint64_t{block.count - 1} * block.stride + 1; }

// Whether two blocks may have a chunk in common: certain where their strides are equal.
bool may_share(const BlockChunks& a, const BlockChunks& b) {
  if (a.first >= b.first + span_of(b) || b.first >= a.first + span_of(a)) return false;
  return a.stride != b.stride || a.first % a.stride == b.first % b.stride;
}

}  // namespace

Receives::Receives(ReceiveEngine& engine, const sdr_geometry& geometry, Placed placed)
    : engine_(engine), geometry_(geometry), placed_(placed), slots_(geometry.slots) {}

sdr_status Receives::post(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                          Parity parity) {
  if (!is_receivable(geometry_, region.get(), offset, bytes, parity)) return SDR_INVALID;
  const sdr_status status =
      engine_.post(message, memory_at(region.get(), offset), bytes, memory_at(parity.region.get(), parity.offset),
                   parity.chunks);
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
  const sdr_status status = engine_.set_length(message, bytes, complete);
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
  const sdr_status status = engine_.complete(message);
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
  const BlockChunks& at = block->at;
  if (!slot.length_known || at.count == 0 || at.stride == 0 || at.count > block->k()) return SDR_INVALID;
  const uint64_t span = span_of(at);
  if (at.first + span > sdr_rx_parity_first(&geometry_, slot.bytes)) return SDR_INVALID;
  if (uint64_t{at.parity_first} + block->m() > slot.parity.chunks) return SDR_INVALID;
  const auto is_remote = [](const RegionRef& region) { return region && region->dmabuf_fd >= 0; };
  if (is_remote(slot.region) || is_remote(slot.parity.region)) return SDR_INVALID;  // not a processor's to read
  for (const BlockChunks& other : slot.running) {
    if (may_share(at, other)) return SDR_BUSY;
  }
  slot.running.push_back(at);
  const uint64_t chunk = chunk_bytes(geometry_), start = at.first * chunk;
  block->bytes = std::min(span * chunk, slot.bytes - start);
  block->data = memory_at(slot.region.get(), slot.offset + start);
  block->parity = memory_at(slot.parity.region.get(), slot.parity.offset + at.parity_first * chunk);
  block->parity_bit = sdr_rx_parity_bits(&geometry_, slot.posted_bytes) + at.parity_first;
  return SDR_OK;
}

void Receives::end(const Block& block) {
  const std::lock_guard lock(mutex_);
  std::erase_if(slot_of(block.message).running,
                [&](const BlockChunks& other) { return other.first == block.at.first; });
  ended_.notify_all();
}

sdr_status Receives::recover(uint32_t message, const codec::Code& code, const BlockChunks& at, Recovered* recovered) {
  *recovered = {};
  Block block{message, code, at};
  const sdr_status status = begin(&block);
  if (status != SDR_OK) return status;
  // Also when the code throws for want of memory: then the chunks stay sealed, and another try may make them.
  const std::unique_ptr<const Block, std::function<void(const Block*)>> in_hand(
      &block, [this](const Block* ended) { end(*ended); });
  return make(block, recovered);
}

// Acquires the chunk's bytes with its bit.
bool Receives::has_chunk(uint32_t message, uint32_t bit) const {
  const sdr_bitmap_slab slab = engine_.bitmaps();
  const uint8_t* words = slab.base + message % geometry_.slots * slab.stride;
  const auto* word = reinterpret_cast<const uint32_t*>(words) + (bit >> 5);
  return (__atomic_load_n(word, __ATOMIC_ACQUIRE) >> (bit & 31) & 1) != 0;
}

// Writes the k + m flags of Code::decode; returns how many data chunks are missing.
uint32_t Receives::look(const Block& block, uint8_t* present) const {
  uint32_t missing = 0;
  for (uint32_t i = 0; i < block.k(); i++) {
    present[i] = i >= block.at.count || has_chunk(block.message, block.at.first + i * block.at.stride) ? 1 : 0;
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
  const auto& [first, count, parity_first, stride] = block.at;
  const auto span = static_cast<uint32_t>(span_of(block.at));
  std::vector<uint8_t> sealed(span);
  for (uint32_t i = 0; i < count; i++) sealed[i * stride] = present[i] == 0 ? 1 : 0;
  const sdr_status status = engine_.seal(block.message, first, span, sealed.data());
  if (status != SDR_OK) return status;
  const uint32_t missing = look(block, present);
  if (missing == 0) return SDR_OK;

  uint32_t parity_used = missing;
  if (block.data != nullptr) {
    const uint64_t chunk = chunk_bytes(geometry_);
    codec::Target data[codec::kChunksMax] = {};
    for (uint64_t i = 0; i < count; i++) {
      const uint64_t start = i * stride * chunk;
      data[i] = {block.data + start, std::min(chunk, block.bytes - start)};
    }
    const uint8_t* parity[codec::kChunksMax] = {};
    for (uint64_t i = 0; i < block.m(); i++) parity[i] = block.parity + i * chunk;
    RegionRef beside;
    if (placed_ == Placed::by_device) {
      beside = scratch_region(missing * chunk);
      if (!beside) return SDR_NO_MEMORY;
    }
    codec::Target places[codec::kChunksMax] = {};
    uint8_t* next = beside ? beside->base : nullptr;
    for (uint32_t i = 0; beside && i < count; i++) {
      if (present[i] != 0) continue;
      places[i] = std::exchange(data[i], {next, data[i].bytes});
      next += chunk;
    }
    if (block.code.decode(data, parity, present, chunk, &parity_used) != codec::Result::ok)
      return SDR_INVALID;
    for (uint32_t i = 0; beside && i < count; i++)
      if (present[i] == 0) std::memcpy(places[i].data, data[i].data, data[i].bytes);
  }
  recovered->chunks = missing;
  recovered->parity_used = parity_used;
  return engine_.fill(block.message, first, span, sealed.data(), &recovered->complete);
}

}  // namespace sdr
