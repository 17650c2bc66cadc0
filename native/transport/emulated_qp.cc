// The calls of an emulated queue pair. What happens over time is in emulated_core.cc.
#include <algorithm>
#include <cassert>

#include "transport/checks.h"
#include "transport/emulated_core.h"

namespace sdr::emulated {

Qp::Qp(Core& core, uint32_t id, const QpConfig& config, sdr_rx* rx)
    : core_(core),
      id_(id),
      config_(config),
      rx_(rx),
      engine_(rx),
      receives_(engine_, config.geometry),
      pace_source_(core.add_source(Core::SourceKind::pacer, id)),
      sending_(config.geometry.slots),
      receiving_(config.geometry.slots) {
  pacer_.set_rate(config.rate_bps);
}

Qp::~Qp() {
  receives_.close();
  sdr_rx_destroy(rx_);
}

Qp::Sending* Qp::sending(uint32_t message) {
  Sending& slot = sending_[message % config_.geometry.slots];
  return slot.open && slot.message == message ? &slot : nullptr;
}

Qp::Receiving* Qp::receiving(uint32_t message) {
  Receiving& slot = receiving_[message % config_.geometry.slots];
  return slot.posted && slot.message == message ? &slot : nullptr;
}

uint32_t Qp::packet_bytes_of(const Work& work, uint32_t packet) const {
  const uint64_t packet_bytes = config_.geometry.packet_bytes;
  return static_cast<uint32_t>(std::min(packet_bytes, work.cut_bytes - packet * packet_bytes));
}

sdr_status Qp::post_receive(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                            Parity parity) {
  if (closed_) return SDR_CLOSED;
  if (!is_host_memory(region.get()) || !is_host_memory(parity.region.get())) return SDR_INVALID;
  const sdr_status status =
      receives_.post(message, std::move(region), offset, bytes, std::move(parity));
  if (status != SDR_OK) return status;
  Receiving& slot = receiving_[message % config_.geometry.slots];
  assert(!slot.posted);
  slot = {message, true, false};
  return SDR_OK;
}

sdr_status Qp::recover(uint32_t message, const codec::Code& code, const BlockChunks& block,
                       Recovered* recovered) {
  return receives_.recover(message, code, block, recovered);
}

sdr_status Qp::set_length(uint32_t message, uint64_t bytes, bool* complete) {
  if (closed_) return SDR_CLOSED;
  Receiving* const slot = receiving(message);
  if (!slot) return SDR_CLOSED;
  const sdr_status status = receives_.set_length(message, bytes, complete);
  if (status == SDR_OK && *complete)
    slot->progress_armed = false;  // the result says it, no event will
  return status;
}

sdr_status Qp::complete(uint32_t message) {
  if (closed_) return SDR_CLOSED;
  const sdr_status status = receives_.complete(message);
  if (status != SDR_OK) return status;
  if (Receiving* const slot = receiving(message)) *slot = {};
  return SDR_OK;
}

sdr_status Qp::open_send(uint32_t message, uint64_t message_bytes, uint32_t user_immediate) {
  if (closed_) return SDR_CLOSED;
  if (link_ == kNone || message == kNone) return SDR_INVALID;
  if (message_bytes > config_.geometry.max_message_bytes) return SDR_TOO_LARGE;
  Sending& slot = sending_[message % config_.geometry.slots];
  if (slot.open) return SDR_BUSY;
  if (slot.message != kNone && message <= slot.message) return SDR_OUT_OF_ORDER;
  slot = {message_bytes, message, user_immediate, true};
  return SDR_OK;
}

sdr_status Qp::post_send(uint32_t message, uint32_t work_request, RegionRef region,
                         uint64_t source_offset, uint32_t first_chunk, uint64_t bytes) {
  const Sending* const slot = sending(message);
  if (closed_ || !slot) return SDR_CLOSED;
  if (!is_sendable(config_.geometry, slot->bytes, first_chunk, bytes)) return SDR_INVALID;
  if (region && !region_holds(*region, source_offset, bytes)) return SDR_INVALID;
  if (!is_host_memory(region.get())) return SDR_INVALID;
  if (outstanding_ >= config_.work_requests_max) return SDR_BUSY;

  const uint32_t index = core_.works_.take();
  Work& work = core_.works_[index];
  work.source = region && region->base ? region->base + source_offset : nullptr;
  work.region = std::move(region);
  work.cut_bytes = cut_bytes(config_.geometry, slot->bytes, first_chunk);
  work.message = message;
  work.user_immediate = slot->user_immediate;
  work.request = work_request;
  work.owner = id_;
  const uint64_t packet_bytes = config_.geometry.packet_bytes;
  work.first_packet = first_chunk * config_.geometry.packets_per_chunk;
  work.packets = static_cast<uint32_t>((bytes + packet_bytes - 1) / packet_bytes);
  work.sent = work.in_flight = 0;
  work.in_use = work.queued = true;
  work.reporting = work.dead = false;
  outstanding_++;
  works_.push(index);
  core_.wake(*this);
  return SDR_OK;
}

sdr_status Qp::close_send(uint32_t message) {
  if (closed_) return SDR_CLOSED;
  Sending* const slot = sending(message);
  if (!slot) return SDR_CLOSED;
  slot->open = false;
  size_t kept = 0;
  for (size_t i = 0; i < works_.size(); i++) {
    const uint32_t index = works_[i];
    Work& work = core_.works_[index];
    if (work.message != message) {
      works_[kept++] = index;
      continue;
    }
    work.queued = false;
    outstanding_--;
    core_.release_if_unused(index);
  }
  works_.truncate(kept);
  return SDR_OK;
}

sdr_status Qp::send_control(PacketKind kind, const uint8_t* bytes, size_t size) {
  if (closed_) return SDR_CLOSED;
  if (link_ == kNone || kind == PacketKind::data || static_cast<size_t>(kind) >= kPacketKinds)
    return SDR_INVALID;
  if (bytes == nullptr || size == 0) return SDR_INVALID;
  if (size > config_.geometry.packet_bytes) return SDR_TOO_LARGE;
  if (controls_.size() >= kControlQueueMax) return SDR_BUSY;
  const uint32_t index = core_.controls_.take();
  ControlBody& body = core_.controls_[index];
  body.bytes.assign(bytes, bytes + size);
  body.kind = kind;
  body.references = 1;
  // A paced queue pair's pace is for data: its control goes into the link's queue at once.
  if (is_paced()) {
    core_.send_control_body(*this, index);
  } else {
    controls_.push(index);
    core_.wake(*this);
  }
  return SDR_OK;
}

QpCounters Qp::counters() const {
  QpCounters result = counters_;
  sdr_rx_counters(rx_, result.steps.data());
  result.control_waiting = controls_.size();
  return result;
}

LinkCounters Qp::link_counters() const {
  return link_ == kNone ? LinkCounters{} : core_.links_[link_]->link.counters();
}

sdr_status Qp::set_link(const LinkConfig& config) {
  if (closed_) return SDR_CLOSED;
  return link_ == kNone ? SDR_INVALID : core_.set_link(link_, config);
}

void Qp::close() {
  if (closed_) return;
  closed_ = true;
  receives_.close();
  for (size_t i = 0; i < controls_.size(); i++) core_.release_control(controls_[i]);
  controls_.clear();
  for (size_t i = 0; i < works_.size(); i++) core_.works_[works_[i]].queued = false;
  // Packets in flight refer to their work: it stays, without memory, until the last of them landed.
  for (uint32_t index = 0; index < core_.works_.size(); index++) {
    Work& work = core_.works_[index];
    if (work.owner != id_ || work.dead || !work.in_use) continue;
    work.dead = true;
    work.region.reset();
    work.source = nullptr;
    core_.release_if_unused(index);
  }
  works_.clear();
  core_.sources_.remove(pace_source_);
  std::fill(sending_.begin(), sending_.end(), Sending{});
  std::fill(receiving_.begin(), receiving_.end(), Receiving{});
}

}  // namespace sdr::emulated
