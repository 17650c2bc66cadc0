// The receiving half of an emulated card's queue pair: receive queues, keys of message slots, and what a packet does
// there. Endpoints of one process find each other by number, as cards on one network do. Packets are brought by the
// sender's card (flow.h), on its thread.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "dpa/emulation/emulated_platform.h"
#include "sdr/transport.h"

namespace sdr::dpa {

// A single-packet RDMA write with immediate.
struct WirePacket {
  uint32_t queue = 0;  // generation * channels + channel: the peer's queue pair that this one is connected to
  uint32_t immediate = 0, key = 0, bytes = 0;
  uint64_t offset = 0;
  const uint8_t* data = nullptr;
  RegionRef region;  // that holds it
};

// What a slot's key leads to: at most two stretches of memory. Writes between and behind them go nowhere.
struct SlotMemory {
  uint8_t* buffer = nullptr;
  uint64_t bytes = 0;
  uint8_t* parity = nullptr;
  uint64_t parity_offset = 0, parity_bytes = 0;
};

struct EndpointCounts {
  uint64_t late = 0;          // refused by the key: of another life of its slot, or of none
  uint64_t bad_checksum = 0;  // a packet or control datagram came corrupted
  uint64_t no_receive = 0;    // no receive WQE was there: lost, as UC does
  uint64_t control_received = 0, control_dropped = 0;
};

class Endpoint {
 public:
  using Control = std::function<EventQueue::Control(int64_t now_ns, const uint8_t* bytes, size_t size)>;
  using Failure = std::function<void(int error)>;
  Endpoint(EmulatedDevice& device, const sdr_geometry& geometry, Control control, Failure failure);

  const sdr_geometry& geometry() const { return geometry_; }
  // The key of slot 0; slot s has it + (s << 8), and its life in the low byte.
  static constexpr uint32_t kKey = 0x100;

  // One of the device's queues.
  void add_queue(uint32_t number, const QueuePlace& place);
  // A slot's key leads to this memory from now on, in this life of the slot; nowhere after unbind() has returned.
  void bind(uint32_t slot, uint32_t life, const SlotMemory& memory);
  void unbind(uint32_t slot);
  // Takes nothing any more; no memory is touched afterwards.
  void close();

  // From the wire.
  void take(const WirePacket& packet, int64_t now_ns);
  void take_control(const uint8_t* bytes, size_t size, int64_t now_ns);
  void take_corrupted();

  EndpointCounts counts() const;
  int64_t last_heard_ns() const { return last_heard_ns_.load(std::memory_order_relaxed); }

 private:
  struct Queue {
    const uint32_t* doorbell = nullptr;
    uint16_t used = 0;
    uint32_t cq = kNone, number = 0;
  };
  struct Slot {
    bool live = false;
    uint8_t life = 0;
    SlotMemory memory;
  };
  void place(const Slot& slot, const WirePacket& packet) const;
  void fail(int error);

  EmulatedDevice& device_;
  const sdr_geometry geometry_;
  const Control control_;
  const Failure failure_;
  mutable std::mutex mutex_;  // guards all below
  bool closed_ = false, failed_ = false;
  std::vector<Queue> queues_;
  std::vector<Slot> slots_;
  EndpointCounts counts_;
  std::atomic<int64_t> last_heard_ns_{0};
};

// The network: endpoints of this process by number. Any thread.
class Fabric {
 public:
  static Fabric& instance();
  uint64_t join(std::shared_ptr<Endpoint> endpoint);
  void leave(uint64_t number);
  std::shared_ptr<Endpoint> find(uint64_t number) const;

 private:
  mutable std::mutex mutex_;
  std::map<uint64_t, std::shared_ptr<Endpoint>> endpoints_;
  uint64_t next_ = 1;
};

}  // namespace sdr::dpa
