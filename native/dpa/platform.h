// What the host side needs of a DPA and of the card around it, so that one host side drives both: the emulation
// (emulated_platform.h) and FlexIO with DEVX (flexio_platform.cc). Calls come from one thread unless said otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "dpa/device/program.h"
#include "sdr/transport.h"

namespace sdr::dpa {

inline constexpr uint32_t kNone = UINT32_MAX;
inline constexpr uint32_t kReceiveWqeBytes = 16;  // one data segment, of no bytes

enum class Entry : uint8_t { receive, packetise };

struct Window {
  uint32_t id = 0, key = 0;
};

struct CqPlace {
  uint64_t ring = 0, doorbell = 0;  // device addresses
  uint32_t log_entries = 0;
};

// One UC queue pair of the card.
struct QueuePlace {
  // Device addresses. One stretch: receive WQEs of kReceiveWqeBytes, never changed; right behind them the send WQEs.
  uint64_t doorbell = 0, rq_ring = 0, sq_ring = 0;
  uint32_t sq_log = 0, rq_log = 0;
  uint32_t send_cq = 0, receive_cq = 0;
  uint32_t generation = 0, channel = 0;
};

class Platform {
 public:
  virtual ~Platform() = default;
  // For results: which of the two is in use.
  virtual std::string name() const = 0;

  // Device memory by whole lines, zeroed; 0: none left.
  virtual uint64_t allocate(size_t bytes) = 0;
  virtual void free(uint64_t address) = 0;
  virtual bool write(uint64_t to, const void* from, size_t bytes) = 0;

  // Host memory, whole lines, for the device to write to.
  virtual bool open_window(void* base, size_t bytes, Window* window) = 0;
  virtual void close_window(const Window& window) = 0;

  // kNone on failure. `unit`: handlers of one number take turns, those of different ones may run at once.
  virtual uint32_t add_handler(Entry entry, uint64_t argument, uint32_t unit) = 0;
  virtual bool start_handler(uint32_t handler) = 0;
  // It does not run afterwards, whatever comes for it, and is no more. Its completion queues are removed before it.
  virtual void remove_handler(uint32_t handler) = 0;
  // sdr_dpa_control with the argument block at this device address. Any thread, one at a time for one block. False: the
  // device does not answer.
  virtual bool call(uint64_t argument, uint64_t* result) = 0;

  // Numbers of the card's objects; kNone on failure. Removing is idempotent.
  virtual uint32_t add_cq(const CqPlace& place, uint32_t handler) = 0;
  virtual uint32_t add_host_cq(std::function<void()> wake) = 0;  // `wake`: any thread, must not block
  virtual void remove_cq(uint32_t number) = 0;
  virtual uint32_t add_queue(const QueuePlace& place) = 0;
  virtual void remove_queue(uint32_t number) = 0;
};

}  // namespace sdr::dpa
