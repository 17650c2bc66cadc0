// The sending half of an emulated card: takes WQEs that packetisers rang for, offers each packet to the link, brings
// it to the peer's endpoint when the link says. Control datagrams are a lane's, as on every transport. A Flow is one
// queue pair's; a Card is the thread that serves all flows of a context.
#pragma once

#include <condition_variable>
#include <thread>
#include <unordered_map>

#include "dpa/emulation/endpoint.h"
#include "transport/send_lane.h"

namespace sdr::dpa {

inline constexpr uint32_t kWireHeaderBytes = 64;  // IP, UDP, BTH, RETH, immediate, ICRC

class Flow final : public SendLane {
 public:
  // `shared` has the link, the pace and the counts; it is not touched after close().
  Flow(EmulatedDevice& device, QpShared& shared) : SendLane(shared, 0), device_(device), shared_(shared) {}

  void add_queue(uint32_t number, const QueuePlace& place, uint32_t index);
  // Once the link is there.
  void connect(std::shared_ptr<Endpoint> peer);

  // Memory that WQEs may read; the key for it. remove: no WQE may name it any more; packets under way keep it.
  uint32_t add_memory(RegionRef region);
  void remove_memory(uint32_t key);

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
  struct Flight {
    WirePacket packet;
    bool corrupt = false;
  };

  // Control datagrams, which the lane brings.
  bool has_room(const Parcel&) const override { return true; }
  void emit(Parcel* parcel, uint32_t packet, bool corrupt) override;
  int64_t offer(int64_t now_ns);
  Queue* next_queue();
  bool read_wqe(const Queue& queue, WirePacket* packet, bool* nothing, bool* signalled) const;
  void step_over(Queue* queue, bool signalled, uint8_t opcode);
  void deliver_due(int64_t now_ns);

  EmulatedDevice& device_;
  QpShared& shared_;
  mutable std::mutex mutex_;  // guards all below; held while packets are delivered
  bool closed_ = false;
  std::shared_ptr<Endpoint> peer_;
  std::vector<Queue> queues_;
  size_t turn_ = 0;
  std::unordered_map<uint32_t, RegionRef> memory_;
  uint32_t next_key_ = 1;
  DelayQueue<Flight> delayed_;
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
