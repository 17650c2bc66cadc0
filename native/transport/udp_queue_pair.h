// A queue pair over UDP: checks what the caller asks, deals work to the lanes, owns the receive engine.
#pragma once

#include <memory>
#include <vector>

#include "transport/threaded_queue_pair.h"
#include "transport/udp_channel.h"

namespace sdr::udp {

class UdpQueuePair final : public ThreadedQueuePair {
 public:
  // Takes the engine. The channels outlive the queue pair's close().
  UdpQueuePair(Environment& environment, uint32_t id, const QpConfig& config, sdr_rx* rx,
               uint64_t receive_key, const std::vector<std::unique_ptr<Channel>>& channels);
  ~UdpQueuePair() override;

  sdr_status connect(const std::vector<SocketAddress>& peer, uint64_t send_key,
                     const LinkConfig& link, uint64_t seed);
  // A progress event of this message left the event queue.
  void progress_drained(uint32_t message) { shared_.progress_drained(message); }
  uint64_t receive_key() const { return shared_.receive_key; }

  sdr_status post_receive(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                          Parity parity) override;
  const ReceiveEngine& engine() const override { return engine_; }
  sdr_status post_send(uint32_t message, uint32_t work_request, RegionRef region,
                       uint64_t source_offset, uint32_t first_chunk, uint64_t bytes) override;
  int64_t last_heard_ns() const override { return shared_.last_heard_ns.load(std::memory_order_relaxed); }
  QpCounters counters() const override;
  void close() override;

 private:
  std::vector<SendLane*> make_lanes();

  Shared shared_;
  HostEngine engine_;
  const std::vector<std::unique_ptr<Channel>>& channels_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace sdr::udp
