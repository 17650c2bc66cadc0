#include "transport/udp_queue_pair.h"

#include "transport/checks.h"

namespace sdr::udp {

UdpQueuePair::UdpQueuePair(Environment& environment, uint32_t id, const QpConfig& config, sdr_rx* rx,
                           uint64_t receive_key,
                           const std::vector<std::unique_ptr<Channel>>& channels)
    : ThreadedQueuePair(id, config.geometry),
      shared_(environment, id, config, rx, receive_key),
      engine_(rx),
      channels_(channels) {
  receives_ = std::make_unique<Receives>(engine_, config.geometry);
  sends_ = std::make_unique<Sends>(shared_, config.work_requests_max, make_lanes(),
                                   [this](uint32_t i) { channels_[i]->poke(); });
  // Last: from here on threads know the lanes.
  for (const auto& lane : lanes_) channels_[lane->channel]->add(lane.get());
}

std::vector<SendLane*> UdpQueuePair::make_lanes() {
  std::vector<SendLane*> plain;
  for (uint32_t i = 0; i < channels_.size(); i++) {
    lanes_.push_back(std::make_unique<Lane>(shared_, i));
    plain.push_back(lanes_.back().get());
  }
  return plain;
}

UdpQueuePair::~UdpQueuePair() {
  close();
  sdr_rx_destroy(shared_.rx);
}

sdr_status UdpQueuePair::connect(const std::vector<SocketAddress>& peer, uint64_t send_key,
                                 const LinkConfig& link, uint64_t seed) {
  if (closed_) return SDR_CLOSED;
  if (sends_->is_connected() || peer.size() != lanes_.size() || !link.is_valid()) return SDR_INVALID;
  shared_.send_key = send_key;
  for (size_t i = 0; i < lanes_.size(); i++) lanes_[i]->peer = peer[i];
  sends_->connect(link, seed);
  return SDR_OK;
}

// ---- receive side ----

sdr_status UdpQueuePair::post_receive(uint32_t message, RegionRef region, uint64_t offset,
                                      uint64_t bytes, Parity parity) {
  if (closed_) return SDR_CLOSED;
  if (!is_host_memory(region.get()) || !is_host_memory(parity.region.get())) return SDR_INVALID;
  return receives_->post(message, std::move(region), offset, bytes, std::move(parity));
}

// ---- send side ----

sdr_status UdpQueuePair::post_send(uint32_t message, uint32_t work_request, RegionRef region,
                                   uint64_t source_offset, uint32_t first_chunk, uint64_t bytes) {
  if (closed_) return SDR_CLOSED;
  if (region && (region->base == nullptr || !is_host_memory(region.get()))) return SDR_INVALID;
  return sends_->post(message, work_request, std::move(region), source_offset, first_chunk, bytes, 0);
}

// ---- looking and closing ----

QpCounters UdpQueuePair::counters() const {
  QpCounters sum = counted();
  for (const auto& lane : lanes_) {
    const LaneCounters& one = lane->counters;
    sum.steps[SDR_STEP_LATE] += one.late.get();
    sum.control_received += one.control_received.get();
    sum.control_dropped += one.control_dropped.get();
    sum.bad_checksum += one.bad_checksum.get();
    sum.truncated += one.truncated.get();
    sum.replayed += one.replayed.get();
    sum.malformed += one.malformed.get();
    sum.send_errors += one.send_errors.get();
  }
  return sum;
}

void UdpQueuePair::close() {
  if (closed_) return;
  closed_ = true;
  for (size_t i = 0; i < lanes_.size(); i++) {
    channels_[i]->remove(lanes_[i].get());
    lanes_[i]->drop_all();
  }
  sends_->close_all();
  receives_->close();
}

}  // namespace sdr::udp
