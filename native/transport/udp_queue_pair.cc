#include "transport/udp_queue_pair.h"

#include <algorithm>
#include <cstring>

#include "transport/checks.h"

namespace sdr::udp {
namespace {

constexpr uint32_t kNoMessage = UINT32_MAX;
constexpr uint64_t kLinkStream = 0;  // the only link of a queue pair's seed

}  // namespace

UdpQueuePair::UdpQueuePair(Environment& environment, uint32_t id, const QpConfig& config, sdr_rx* rx,
                           uint64_t receive_key,
                           const std::vector<std::unique_ptr<Channel>>& channels)
    : receives_(rx, config.geometry), work_requests_max_(config.work_requests_max), channels_(channels) {
  shared_.environment = &environment;
  shared_.id = id;
  shared_.geometry = config.geometry;
  shared_.rx = rx;
  shared_.receive_key = receive_key;
  shared_.rate_bps = config.rate_bps;
  const uint32_t slots = config.geometry.slots;
  shared_.progress_marks.reset(new std::atomic<uint32_t>[slots]);
  for (uint32_t slot = 0; slot < slots; slot++) shared_.progress_marks[slot].store(kNoMessage);
  sends_.resize(slots);
  for (uint32_t i = 0; i < channels_.size(); i++)
    lanes_.push_back(std::make_unique<Lane>(shared_, i));
  // Last: from here on threads know the lanes.
  for (const auto& lane : lanes_) channels_[lane->channel]->add(lane.get());
}

UdpQueuePair::~UdpQueuePair() {
  close();
  sdr_rx_destroy(shared_.rx);
}

sdr_status UdpQueuePair::connect(const std::vector<SocketAddress>& peer, uint64_t send_key,
                                 const LinkConfig& link, uint64_t seed) {
  if (closed_) return SDR_CLOSED;
  if (connected_ || peer.size() != lanes_.size() || !link.is_valid()) return SDR_INVALID;
  shared_.send_key = send_key;
  for (size_t i = 0; i < lanes_.size(); i++) lanes_[i]->peer = peer[i];
  const std::lock_guard lock(shared_.link_mutex);
  shared_.link.emplace(link, seed, kLinkStream);
  shared_.update_direct();
  connected_ = true;
  return SDR_OK;
}

void UdpQueuePair::progress_drained(uint32_t message) {
  uint32_t expected = message;
  shared_.progress_marks[message % shared_.geometry.slots].compare_exchange_strong(expected, kNoMessage);
}

// ---- receive side ----

sdr_status UdpQueuePair::post_receive(uint32_t message, RegionRef region, uint64_t offset,
                                      uint64_t bytes, Parity parity) {
  if (closed_) return SDR_CLOSED;
  return receives_.post(message, std::move(region), offset, bytes, std::move(parity));
}

sdr_status UdpQueuePair::recover(uint32_t message, const codec::Code& code, const BlockChunks& block,
                                 Recovered* recovered) {
  return receives_.recover(message, code, block, recovered);
}

sdr_status UdpQueuePair::set_length(uint32_t message, uint64_t bytes, bool* complete) {
  if (closed_) return SDR_CLOSED;
  return receives_.set_length(message, bytes, complete);
}

sdr_status UdpQueuePair::complete(uint32_t message) {
  if (closed_) return SDR_CLOSED;
  return receives_.complete(message);
}

// ---- send side ----

OpenSend* UdpQueuePair::find_send(uint32_t message) const {
  OpenSend* send = sends_[message % shared_.geometry.slots].get();
  return send != nullptr && send->message == message && !send->closed.load() ? send : nullptr;
}

sdr_status UdpQueuePair::open_send(uint32_t message, uint64_t message_bytes, uint32_t user_immediate) {
  if (closed_) return SDR_CLOSED;
  if (!connected_ || message == kNoMessage) return SDR_INVALID;
  if (message_bytes > shared_.geometry.max_message_bytes) return SDR_TOO_LARGE;
  std::shared_ptr<OpenSend>& slot = sends_[message % shared_.geometry.slots];
  if (slot && !slot->closed.load()) return SDR_BUSY;
  if (slot && message <= slot->message) return SDR_OUT_OF_ORDER;
  slot = std::make_shared<OpenSend>();
  slot->message = message;
  slot->bytes = message_bytes;
  slot->user_immediate = user_immediate;
  return SDR_OK;
}

sdr_status UdpQueuePair::post_send(uint32_t message, uint32_t work_request, RegionRef region,
                                   uint64_t source_offset, uint32_t first_chunk, uint64_t bytes) {
  if (closed_) return SDR_CLOSED;
  const OpenSend* send = find_send(message);
  if (send == nullptr) return SDR_CLOSED;
  if (!region || region->base == nullptr || !region_holds(*region, source_offset, bytes))
    return SDR_INVALID;
  if (!is_sendable(shared_.geometry, send->bytes, first_chunk, bytes)) return SDR_INVALID;
  if (shared_.work_requests.load() >= work_requests_max_) return SDR_BUSY;
  shared_.work_requests.fetch_add(1);
  auto request = std::make_shared<WorkRequest>();
  request->id = work_request;
  request->send = sends_[message % shared_.geometry.slots];
  request->data = region->base + source_offset;
  request->region = std::move(region);
  request->cut_bytes = cut_bytes(shared_.geometry, send->bytes, first_chunk);
  request->first_packet = first_chunk * shared_.geometry.packets_per_chunk;
  const uint64_t packet = shared_.geometry.packet_bytes;
  deal(request, static_cast<uint32_t>((bytes + packet - 1) / packet));
  return SDR_OK;
}

// Packet p goes on channel p % channels.
void UdpQueuePair::deal(const std::shared_ptr<WorkRequest>& request, uint32_t packets) {
  const auto channels = static_cast<uint32_t>(lanes_.size());
  const uint32_t used = std::min(packets, channels);
  const int64_t now_ns = shared_.environment->now_ns();
  request->lanes_left.store(used);
  for (uint32_t i = 0; i < used; i++) {
    auto parcel = std::make_unique<Parcel>();
    parcel->request = request;
    parcel->ready_ns = now_ns;
    parcel->next_packet = request->first_packet + i;
    parcel->end = request->first_packet + packets;
    const uint32_t channel = parcel->next_packet % channels;
    lanes_[channel]->post(std::move(parcel));
    channels_[channel]->poke();
  }
}

sdr_status UdpQueuePair::close_send(uint32_t message) {
  if (closed_) return SDR_CLOSED;
  OpenSend* send = find_send(message);
  if (send == nullptr) return SDR_CLOSED;
  send->closed.store(true, std::memory_order_release);
  for (size_t i = 0; i < lanes_.size(); i++) {
    lanes_[i]->post_purge();
    channels_[i]->poke();
  }
  return SDR_OK;
}

sdr_status UdpQueuePair::send_control(PacketKind kind, const uint8_t* bytes, size_t size) {
  if (closed_) return SDR_CLOSED;
  if (!connected_ || kind == PacketKind::data || static_cast<size_t>(kind) >= kPacketKinds)
    return SDR_INVALID;
  if (bytes == nullptr || size == 0) return SDR_INVALID;
  if (size > shared_.geometry.packet_bytes) return SDR_TOO_LARGE;
  if (shared_.controls.load() >= kControlsMax) return SDR_BUSY;
  shared_.controls.fetch_add(1);
  auto parcel = std::make_unique<Parcel>();
  parcel->kind = kind;
  parcel->control.reset(new uint8_t[size]);
  std::memcpy(parcel->control.get(), bytes, size);
  parcel->control_bytes = static_cast<uint32_t>(size);
  parcel->ready_ns = shared_.environment->now_ns();
  lanes_[0]->post(std::move(parcel));
  channels_[0]->poke();
  return SDR_OK;
}

// ---- looking and closing ----

QpCounters UdpQueuePair::counters() const {
  QpCounters sum;
  uint64_t steps[SDR_STEP_KINDS] = {};
  sdr_rx_counters(shared_.rx, steps);
  std::copy(std::begin(steps), std::end(steps), sum.steps.begin());
  for (const auto& lane : lanes_) {
    const LaneCounters& one = lane->counters;
    sum.steps[SDR_STEP_LATE] += one.late.get();
    sum.packets_sent += one.packets_sent.get();
    sum.bytes_sent += one.bytes_sent.get();
    sum.wire_bytes_sent += one.wire_bytes_sent.get();
    sum.control_sent += one.control_sent.get();
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

LinkCounters UdpQueuePair::link_counters() const {
  LinkCounters sum;
  {
    const std::lock_guard lock(shared_.link_mutex);
    if (shared_.link) sum = shared_.link->counters();
  }
  for (const auto& lane : lanes_) {
    for (size_t kind = 0; kind < kPacketKinds; kind++) {
      const uint64_t count = lane->counters.clear_by_kind[kind].get();
      sum.offered += count;
      sum.offered_by_kind[kind] += count;
    }
    sum.offered_bytes += lane->counters.clear_bytes.get();
  }
  return sum;
}

sdr_status UdpQueuePair::set_link(const LinkConfig& config) {
  if (closed_) return SDR_CLOSED;
  if (!connected_ || !config.is_valid()) return SDR_INVALID;
  {
    const std::lock_guard lock(shared_.link_mutex);
    shared_.link->reconfigure(config);
    shared_.update_direct();
  }
  for (size_t i = 0; i < lanes_.size(); i++) {
    lanes_[i]->post_purge();  // mail, so that a thread about to sleep by the old link's times looks again
    channels_[i]->poke();
  }
  return SDR_OK;
}

void UdpQueuePair::close() {
  if (closed_) return;
  closed_ = true;
  for (size_t i = 0; i < lanes_.size(); i++) {
    channels_[i]->remove(lanes_[i].get());
    lanes_[i]->drop_all();
  }
  for (auto& send : sends_)
    if (send) send->closed.store(true);
  receives_.close();
}

}  // namespace sdr::udp
