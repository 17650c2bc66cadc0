// A queue pair over UDP: checks what the caller asks, deals work to the lanes, owns the receive engine.
#pragma once

#include <memory>
#include <vector>

#include "transport/receives.h"
#include "transport/sends.h"
#include "transport/udp_channel.h"

namespace sdr::udp {

class UdpQueuePair final : public QueuePair {
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
  bool closed() const { return closed_; }

  uint32_t id() const override { return shared_.id; }
  const sdr_geometry& geometry() const override { return shared_.geometry; }
  sdr_status post_receive(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                          Parity parity) override;
  sdr_status recover(uint32_t message, const codec::Code& code, const BlockChunks& block,
                     Recovered* recovered) override;
  sdr_status set_length(uint32_t message, uint64_t bytes, bool* complete) override;
  sdr_status complete(uint32_t message) override;
  const ReceiveEngine& engine() const override { return engine_; }
  sdr_status open_send(uint32_t message, uint64_t message_bytes, uint32_t user_immediate) override;
  sdr_status post_send(uint32_t message, uint32_t work_request, RegionRef region,
                       uint64_t source_offset, uint32_t first_chunk, uint64_t bytes) override;
  sdr_status close_send(uint32_t message) override;
  sdr_status send_control(PacketKind kind, const uint8_t* bytes, size_t size) override;
  int64_t last_heard_ns() const override { return shared_.last_heard_ns.load(std::memory_order_relaxed); }
  QpCounters counters() const override;
  LinkCounters link_counters() const override;
  sdr_status set_link(const LinkConfig& config) override;
  void close() override;

 private:
  std::vector<SendLane*> make_lanes();

  Shared shared_;
  HostEngine engine_;
  Receives receives_;
  const std::vector<std::unique_ptr<Channel>>& channels_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Sends sends_;
  bool closed_ = false;
};

}  // namespace sdr::udp
