// The sending half of an emulated card: takes WQEs that packetisers rang for and control datagrams, offers each packet
// to the link, and brings it to the peer's endpoint when the link says. A Flow is one queue pair's; a Card is the
// thread that serves all flows of a context.
#pragma once

#include <condition_variable>
#include <deque>
#include <optional>
#include <thread>
#include <unordered_map>

#include "dpa/emulation/endpoint.h"
#include "dpa/emulation/flight_queue.h"

namespace sdr::dpa {

inline constexpr uint32_t kWireHeaderBytes = 64;  // IP, UDP, BTH, RETH, immediate, ICRC
inline constexpr size_t kControlsMax = 4096;      // datagrams posted and not yet sent, a queue pair

struct FlowCounts {
  uint64_t packets_sent = 0, bytes_sent = 0, wire_bytes_sent = 0, control_sent = 0;
};

class Card;

class Flow {
 public:
  Flow(EmulatedDevice& device, double rate_bps) : device_(device), rate_bps_(rate_bps) {}

  void add_queue(uint32_t number, const QueuePlace& place, uint32_t index);
  void connect(std::shared_ptr<Endpoint> peer, const LinkConfig& link, uint64_t seed);
  void set_link(const LinkConfig& config);
  LinkCounters link_counters() const;
  FlowCounts counts() const;

  // Memory that WQEs may read; the key for it. remove: no WQE may name it any more; packets under way keep it.
  uint32_t add_memory(RegionRef region);
  void remove_memory(uint32_t key);

  // False: too many wait.
  bool send_control(PacketKind kind, const uint8_t* bytes, size_t size, int64_t now_ns);
  // A doorbell.
  void ring(uint32_t number, uint16_t index, int64_t now_ns);
  // Nothing leaves any more, and no memory is read.
  void close();

  // Sends what is due and offers up to a quantum. When to come again; <= now_ns: at once.
  int64_t pump(int64_t now_ns);

 private:
  struct Queue {
    uint32_t number = 0, index = 0;  // index: generation * channels + channel
    const uint8_t* ring = nullptr;
    uint32_t log = 0, cq = kNone;
    uint16_t rung = 0, taken = 0;
    int64_t ready_ns = 0;
  };
  struct Datagram {
    PacketKind kind;
    int64_t ready_ns;
    std::vector<uint8_t> bytes;
  };
  struct Flight {
    WirePacket packet;
    std::shared_ptr<const Datagram> control;  // null: a packet
    bool corrupt = false;
  };

  bool admit(int64_t now_ns, int64_t ready_ns, uint32_t wire_bytes, int64_t* at_ns);
  int64_t offer(int64_t now_ns);
  Queue* next_queue();
  bool read_wqe(const Queue& queue, WirePacket* packet, bool* nothing, bool* signalled) const;
  void step_over(Queue* queue, bool signalled, uint8_t opcode);
  void deliver_due(int64_t now_ns);

  EmulatedDevice& device_;
  const double rate_bps_;
  mutable std::mutex mutex_;  // guards all below; held while packets are delivered
  bool closed_ = false;
  std::shared_ptr<Endpoint> peer_;
  std::optional<Link> link_;
  double pace_next_ns_ = 0;
  int64_t last_offer_ns_ = 0;
  std::vector<Queue> queues_;
  size_t turn_ = 0;
  std::unordered_map<uint32_t, RegionRef> memory_;
  uint32_t next_key_ = 1;
  std::deque<std::shared_ptr<const Datagram>> controls_;
  FlightQueue<Flight> delayed_;
  FlowCounts counts_;
};

class Card {
 public:
  explicit Card(std::function<int64_t()> clock);
  ~Card();  // stop()
  void add(std::shared_ptr<Flow> flow);
  void remove(const Flow* flow);
  void poke();
  void stop();

 private:
  void run();
  const std::function<int64_t()> clock_;
  std::mutex mutex_;
  std::condition_variable poked_;
  std::vector<std::shared_ptr<Flow>> flows_;
  bool news_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace sdr::dpa
