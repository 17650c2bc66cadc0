#include "transport/sends.h"

#include <algorithm>
#include <cstring>

#include "transport/checks.h"

namespace sdr {
namespace {

constexpr uint32_t kNoMessage = UINT32_MAX;
constexpr uint64_t kLinkStream = 0;  // the only link of a queue pair's seed

}  // namespace

Sends::Sends(QpShared& shared, uint32_t work_requests_max, std::vector<SendLane*> lanes,
             std::function<void(uint32_t)> poke)
    : shared_(shared),
      work_requests_max_(work_requests_max),
      lanes_(std::move(lanes)),
      poke_(std::move(poke)),
      sends_(shared.geometry.slots) {}

void Sends::connect(const LinkConfig& link, uint64_t seed) {
  const std::lock_guard lock(shared_.link_mutex);
  shared_.link.emplace(link, seed, kLinkStream);
  shared_.update_direct();
  connected_ = true;
}

OpenSend* Sends::find(uint32_t message) const {
  OpenSend* send = sends_[message % shared_.geometry.slots].get();
  return send != nullptr && send->message == message && !send->closed.load() ? send : nullptr;
}

sdr_status Sends::open(uint32_t message, uint64_t message_bytes, uint32_t user_immediate) {
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

sdr_status Sends::post(uint32_t message, uint32_t work_request, RegionRef region,
                       uint64_t source_offset, uint32_t first_chunk, uint64_t bytes,
                       uint32_t local_key) {
  const OpenSend* send = find(message);
  if (send == nullptr) return SDR_CLOSED;
  if (!region || !region_holds(*region, source_offset, bytes)) return SDR_INVALID;
  if (!is_sendable(shared_.geometry, send->bytes, first_chunk, bytes)) return SDR_INVALID;
  if (shared_.work_requests.load() >= work_requests_max_) return SDR_BUSY;
  shared_.work_requests.fetch_add(1);
  auto request = std::make_shared<WorkRequest>();
  request->id = work_request;
  request->send = sends_[message % shared_.geometry.slots];
  request->data = region->base + source_offset;
  request->region = std::move(region);
  request->local_key = local_key;
  request->cut_bytes = cut_bytes(shared_.geometry, send->bytes, first_chunk);
  request->first_packet = first_chunk * shared_.geometry.packets_per_chunk;
  const uint64_t packet = shared_.geometry.packet_bytes;
  deal(request, static_cast<uint32_t>((bytes + packet - 1) / packet));
  return SDR_OK;
}

// Packet p goes on channel p % channels.
void Sends::deal(const std::shared_ptr<WorkRequest>& request, uint32_t packets) {
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
    poke_(channel);
  }
}

sdr_status Sends::close(uint32_t message) {
  OpenSend* send = find(message);
  if (send == nullptr) return SDR_CLOSED;
  send->closed.store(true, std::memory_order_release);
  for (uint32_t i = 0; i < lanes_.size(); i++) {
    lanes_[i]->post_purge();
    poke_(i);
  }
  return SDR_OK;
}

sdr_status Sends::control(PacketKind kind, const uint8_t* bytes, size_t size) {
  if (!connected_ || kind == PacketKind::data || static_cast<size_t>(kind) >= kPacketKinds)
    return SDR_INVALID;
  if (bytes == nullptr || size == 0) return SDR_INVALID;
  if (size > shared_.geometry.packet_bytes) return SDR_TOO_LARGE;
  if (shared_.controls.load() >= kControlsMax) return SDR_BUSY;
  shared_.controls.fetch_add(1);
  shared_.controls_waiting.fetch_add(1);
  auto parcel = std::make_unique<Parcel>();
  parcel->kind = kind;
  parcel->control.reset(new uint8_t[size]);
  std::memcpy(parcel->control.get(), bytes, size);
  parcel->control_bytes = static_cast<uint32_t>(size);
  parcel->ready_ns = shared_.environment->now_ns();
  lanes_[0]->post(std::move(parcel));
  poke_(0);
  return SDR_OK;
}

sdr_status Sends::set_link(const LinkConfig& config) {
  if (!connected_ || !config.is_valid()) return SDR_INVALID;
  {
    const std::lock_guard lock(shared_.link_mutex);
    shared_.link->reconfigure(config);
    shared_.update_direct();
  }
  for (uint32_t i = 0; i < lanes_.size(); i++) {
    lanes_[i]->post_purge();  // mail, so that a thread about to sleep by the old link's times looks
                              // again
    poke_(i);
  }
  return SDR_OK;
}

LinkCounters Sends::link_counters() const {
  LinkCounters sum;
  {
    const std::lock_guard lock(shared_.link_mutex);
    if (shared_.link) sum = shared_.link->counters();
  }
  for (const SendLane* lane : lanes_) {
    for (size_t kind = 0; kind < kPacketKinds; kind++) {
      const uint64_t count = lane->sent.clear_by_kind[kind].get();
      sum.offered += count;
      sum.offered_by_kind[kind] += count;
    }
    sum.offered_bytes += lane->sent.clear_bytes.get();
  }
  return sum;
}

void Sends::count(QpCounters* counters) const {
  for (const SendLane* lane : lanes_) {
    counters->packets_sent += lane->sent.packets_sent.get();
    counters->bytes_sent += lane->sent.bytes_sent.get();
    counters->wire_bytes_sent += lane->sent.wire_bytes_sent.get();
    counters->control_sent += lane->sent.control_sent.get();
  }
  counters->control_waiting += shared_.controls_waiting.load();
}

void Sends::close_all() {
  for (auto& send : sends_)
    if (send) send->closed.store(true);
}

}  // namespace sdr
