// A queue pair over verbs: checks what the caller asks, keeps the keys of posted receives, owns the
// engine and the lanes.
#pragma once

#include <memory>
#include <vector>

#include "transport/threaded_queue_pair.h"
#include "transport/verbs_channel.h"
#include "transport/verbs_keys.h"

namespace sdr::verbs {

class VerbsQueuePair final : public ThreadedQueuePair {
 public:
  // Takes the engine. The device and the channels outlive the queue pair's close().
  VerbsQueuePair(Environment& environment, uint32_t id, const QpConfig& config, sdr_rx* rx,
                 Device& device, const std::vector<std::unique_ptr<Channel>>& channels);
  ~VerbsQueuePair() override;

  // Makes the hardware's queues and the keys. False: why is in *error, and the queue pair is good
  // for nothing.
  bool open(DeviceError* error);
  std::vector<uint8_t> info() const;
  sdr_status connect(const uint8_t* info, size_t bytes, const LinkConfig& link, uint64_t seed,
                     DeviceError* error);
  std::string failure() const { return shared_.failure.get(); }
  // Of the last SDR_NO_MEMORY. Control thread.
  const DeviceError& refusal() const { return refusal_; }
  void progress_drained(uint32_t message) { shared_.progress_drained(message); }

  sdr_status post_receive(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                          Parity parity) override;
  size_t grant(uint32_t message, uint8_t out[kGrantBytesMax]) const override;
  sdr_status complete(uint32_t message) override;
  const ReceiveEngine& engine() const override { return engine_; }
  sdr_status accept_grant(uint32_t message, const uint8_t* grant, size_t size) override;
  sdr_status post_send(uint32_t message, uint32_t work_request, RegionRef region,
                       uint64_t source_offset, uint32_t first_chunk, uint64_t bytes) override;
  int64_t last_heard_ns() const override {
    return shared_.last_heard_ns.load(std::memory_order_relaxed);
  }
  QpCounters counters() const override;
  void close() override;

 private:
  std::vector<SendLane*> make_lanes();
  bool is_opened(const OpenSend& send, uint32_t first_chunk, uint64_t bytes) const;
  void close_key(uint32_t message);

  Device& device_;
  Shared shared_;
  HostEngine engine_;
  const std::vector<std::unique_ptr<Channel>>& channels_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::unique_ptr<SlotKeys> keys_;
  RootAddress peer_root_;
  DeviceError refusal_;
};

}  // namespace sdr::verbs
