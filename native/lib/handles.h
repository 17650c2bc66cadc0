// What a program holds of a message: send and receive handles, and registered memory. They belong
// to their queue pair (memory to its context) and are reused; fields are guarded by the domain's
// mutex but for the atomics, which polling programs read without it.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "lib/error.h"
#include "sdr.h"
#include "sdr/transport.h"

namespace sdr::lib {

class End;

// Registered memory. `holders` are posted receives and sends not injected yet.
struct Memory {
  RegionRef region;
  uint32_t holders = 0;
  uint32_t key = 0;

  // Where [address, + bytes) begins in it; throws INVALID_ARGUMENT when that is not within.
  uint64_t offset_of(uint64_t address, uint64_t bytes) const;
};
using MemoryRef = std::shared_ptr<Memory>;

// Holds a Memory for a message; movable.
class Hold {
 public:
  Hold() = default;
  explicit Hold(MemoryRef memory) : memory_(std::move(memory)) {
    if (memory_) memory_->holders++;
  }
  Hold(Hold&& other) noexcept : memory_(std::move(other.memory_)) {}
  Hold& operator=(Hold&& other) noexcept {
    std::swap(memory_, other.memory_);
    return *this;
  }
  ~Hold() {
    if (memory_) memory_->holders--;
  }
  const MemoryRef& memory() const { return memory_; }

 private:
  MemoryRef memory_;
};

// A range of chunks to inject.
struct Range {
  Hold hold;
  uint64_t offset = 0;  // in its region
  uint32_t chunk = 0;
  uint64_t bytes = 0;
};

enum class Outcome : uint8_t { pending, done, failed, released };

}  // namespace sdr::lib

struct sdr_send_handle {
  enum class State : uint8_t { waiting, open, ended, failed };

  sdr::lib::End* end = nullptr;
  std::atomic<sdr::lib::Outcome> outcome{sdr::lib::Outcome::released};
  State state = State::waiting;
  uint32_t message = 0;
  bool length_known = false;  // else it is what the receiver posted
  uint64_t bytes = 0;
  bool has_immediate = false;
  uint32_t immediate = 0;
  bool ending = false;                  // nothing follows
  std::deque<sdr::lib::Range> pending;  // not given to the transport yet
  uint32_t outstanding = 0;             // given to it and not injected yet
  int starts_left = -1;                 // further copies of START; -1 before the first
  int64_t start_at_ns = 0;
  sdr::lib::Error error;
};

struct sdr_recv_handle {
  enum class State : uint8_t { posted, started, failed };
  enum class Immediate : uint8_t { unknown, none, known };

  sdr::lib::End* end = nullptr;
  std::atomic<sdr::lib::Outcome> outcome{sdr::lib::Outcome::released};
  State state = State::posted;
  uint32_t message = 0;
  sdr::lib::Hold hold;
  uint64_t max_bytes = 0;
  uint8_t* bitmap = nullptr;
  std::atomic<uint64_t> bytes{0};  // max_bytes until the length is known
  std::atomic<bool> length_known{false};
  std::atomic<bool> complete{false};  // every chunk is in place
  std::atomic<Immediate> immediate_state{Immediate::unknown};
  std::atomic<uint32_t> immediate{0};
  int64_t cts_at_ns = 0;
  int cts_sent = 0;
  uint32_t chunks_at_end = 0;  // done when it failed
  sdr::lib::Error error;
};

namespace sdr::lib {

// Handles of one queue pair: made as needed, reused after release, freed with it.
template <class Handle>
class Pool {
 public:
  Handle& take() {
    if (free_.empty()) {
      all_.push_back(std::make_unique<Handle>());
      free_.reserve(all_.size());  // so that put() cannot fail
      return *all_.back();
    }
    Handle& handle = *free_.back();
    free_.pop_back();
    return handle;
  }
  void put(Handle& handle) {
    handle.outcome.store(Outcome::released);
    free_.push_back(&handle);
  }

 private:
  std::vector<std::unique_ptr<Handle>> all_;
  std::vector<Handle*> free_;
};

}  // namespace sdr::lib
