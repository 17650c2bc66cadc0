// The receive side of a queue pair, the same for every transport: what is posted and holds which memory, lengths,
// completion; and making missing chunks from parity: whether it can be done, the engine's seal, the code's work, the
// engine's fill. Knows no packets and has no thread of its own: recover() is called on whichever the caller has for it.
#pragma once

#include <condition_variable>
#include <mutex>
#include <vector>

#include "sdr/transport.h"

namespace sdr {

// The calls of QueuePair (sdr/transport.h) by the same names. recover() from any thread; the rest from the control
// thread. The transport checks whether it is closed itself.
class Receives {
 public:
  // Who writes packets' payload into receive buffers. The transport's threads do not touch a chunk that is sealed; a
  // device may, with the bytes that it has anyway, so what is recovered beside it is made elsewhere and then put there.
  enum class Placed : uint8_t { by_threads, by_device };
  // The engine stays the caller's, and must be there until close() has returned.
  Receives(ReceiveEngine& engine, const sdr_geometry& geometry, Placed placed = Placed::by_threads);

  sdr_status post(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                  Parity parity);
  sdr_status set_length(uint32_t message, uint64_t bytes, bool* complete);
  sdr_status recover(uint32_t message, const codec::Code& code, const BlockChunks& block, Recovered* recovered);
  sdr_status complete(uint32_t message);
  // Waits for recoveries, refuses later ones, and lets go of all memory. No packet may come any more.
  void close();

 private:
  struct Slot {
    bool posted = false, length_known = false;
    uint32_t message = 0;
    uint64_t posted_bytes = 0;
    uint64_t bytes = 0;  // the true length, once it is known
    RegionRef region;
    uint64_t offset = 0;
    Parity parity;
    std::vector<BlockChunks> running;  // whose data chunks are in hand, one a recovery
  };
  struct Block;

  Slot& slot_of(uint32_t message) { return slots_[message % slots_.size()]; }
  sdr_status begin(Block* block);
  void end(const Block& block);
  sdr_status make(const Block& block, Recovered* recovered) const;
  bool has_chunk(uint32_t message, uint32_t bit) const;
  uint32_t look(const Block& block, uint8_t* present) const;

  ReceiveEngine& engine_;
  const sdr_geometry geometry_;
  const Placed placed_;
  std::mutex mutex_;  // guards all below
  std::condition_variable ended_;
  std::vector<Slot> slots_;
  bool closed_ = false;
};

}  // namespace sdr
