// A queue pair on the emulated DPA: checks what the caller asks, keeps work requests until the device is through with
// them, and binds receives to the keys of their slots. The device half is DevicePair; what moves packets are the
// emulated card's Flow and Endpoint.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "dpa/emulation/flow.h"
#include "dpa/pair.h"
#include "transport/threaded_queue_pair.h"

namespace sdr::dpa {

class DpaQueuePair final : public ThreadedQueuePair, private EmulatedPlatform::Plug {
 public:
  // Null with *status set when the device has no room for it. `call_host`: the device has news for this queue pair.
  static std::unique_ptr<DpaQueuePair> create(Environment& environment, EmulatedPlatform& platform, Card& card,
                                              uint32_t id, const QpConfig& config, std::function<void()> call_host,
                                              sdr_status* status);
  ~DpaQueuePair() override;

  sdr_status connect(uint64_t peer, const LinkConfig& link, uint64_t seed);
  uint64_t fabric_number() const { return fabric_number_; }
  // Reads the device's reports and tells of them. One thread at a time.
  void serve();
  // A doorbell of one of its queues, or of another's.
  void ring(uint32_t queue, uint16_t index);
  DevicePair& device() { return *pair_; }

  sdr_status post_receive(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                          Parity parity) override;
  const ReceiveEngine& engine() const override;
  sdr_status post_send(uint32_t message, uint32_t work_request, RegionRef region, uint64_t source_offset,
                       uint32_t first_chunk, uint64_t bytes) override;
  sdr_status close_send(uint32_t message) override;
  int64_t last_heard_ns() const override { return endpoint_->last_heard_ns(); }
  QpCounters counters() const override;
  void close() override;

 private:
  class KeyedEngine;
  struct Request {
    uint32_t message = 0, id = 0, memory = 0;
    uint32_t tickets = 0;
    bool dropped = false;
  };

  DpaQueuePair(Environment& environment, Card& card, uint32_t id, const QpConfig& config);
  void add_queue(uint32_t number, const QueuePlace& place) override;
  void remove_queue(uint32_t) override {}
  void push(EventType type, uint32_t message, uint32_t value);
  void tell_done();

  Environment& environment_;
  Card& card_;
  const QpConfig config_;
  QpShared shared_;
  std::shared_ptr<Endpoint> endpoint_;
  std::shared_ptr<Flow> flow_;
  uint64_t fabric_number_ = 0;
  std::unique_ptr<DevicePair> pair_;
  std::unique_ptr<KeyedEngine> engine_;
  uint64_t errors_seen_ = 0;

  std::mutex requests_mutex_;  // guards what follows, and the send side of pair_
  std::unordered_map<uint64_t, std::shared_ptr<Request>> requests_;  // by ticket
  uint32_t outstanding_ = 0;
};

}  // namespace sdr::dpa
