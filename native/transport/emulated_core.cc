// What happens over virtual time: serialisers pull packets, packets land, progress is reported.
//
// A packet is never an object: its flight names its work and its number, and the payload is copied
// from the source to the destination when it lands. Senders without a pace are pulled by their
// link's serialiser, so a long message waits as one work request, not as millions of queued
// packets.
#include "transport/emulated_core.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "transport/checks.h"

namespace sdr::emulated {

namespace {

constexpr uint32_t kFlightSource = 0;
constexpr uint32_t kWorker = 0;  // one thread steps every channel's completions

bool same_geometry(const sdr_geometry& a, const sdr_geometry& b) {
  return a.packet_bytes == b.packet_bytes && a.packets_per_chunk == b.packets_per_chunk &&
         a.slots == b.slots && a.generations == b.generations && a.channels == b.channels &&
         a.max_message_bytes == b.max_message_bytes &&
         a.split.message_bits == b.split.message_bits &&
         a.split.packet_bits == b.split.packet_bits && a.split.user_bits == b.split.user_bits;
}

}  // namespace

Core::Core(uint64_t seed, int64_t progress_interval_ns)
    : seed_(seed), progress_interval_ns_(std::max<int64_t>(0, progress_interval_ns)) {
  add_source(SourceKind::flights, 0);
}

uint32_t Core::add_source(SourceKind kind, uint32_t index) {
  source_table_.push_back({kind, index});
  return sources_.add();
}

uint32_t Core::add_link(const LinkConfig& config) {
  if (!config.is_valid() || links_.size() >= kLinksMax) return UINT32_MAX;
  const uint32_t index = static_cast<uint32_t>(links_.size());
  links_.push_back(std::make_unique<WorldLink>(Link(config, seed_, index)));
  links_.back()->pump_source = add_source(SourceKind::pump, index);
  links_.back()->arrival_source = add_source(SourceKind::arrivals, index);
  return index;
}

sdr_status Core::set_link(uint32_t link, const LinkConfig& config) {
  if (link >= links_.size() || !config.is_valid()) return SDR_INVALID;
  links_[link]->link.reconfigure(config);
  return SDR_OK;
}

Qp* Core::create_qp(const QpConfig& config, sdr_status* status) {
  *status = qps_.size() >= kQpsMax ? SDR_BUSY : check_config(config);
  if (*status != SDR_OK) return nullptr;
  sdr_rx* rx = nullptr;
  *status = sdr_rx_create(&config.geometry, &rx);
  if (*status != SDR_OK) return nullptr;
  qps_.push_back(std::make_unique<Qp>(*this, static_cast<uint32_t>(qps_.size()), config, rx));
  return qps_.back().get();
}

sdr_status Core::connect(uint32_t qp_a, uint32_t qp_b, uint32_t link_ab, uint32_t link_ba) {
  if (qp_a >= qps_.size() || qp_b >= qps_.size() || qp_a == qp_b) return SDR_INVALID;
  if (link_ab >= links_.size() || link_ba >= links_.size()) return SDR_INVALID;
  Qp &a = *qps_[qp_a], &b = *qps_[qp_b];
  if (a.closed_ || b.closed_) return SDR_CLOSED;
  if (a.link_ != Qp::kNone || b.link_ != Qp::kNone) return SDR_INVALID;
  if (!same_geometry(a.geometry(), b.geometry())) return SDR_INVALID;
  a.peer_ = qp_b;
  a.link_ = link_ab;
  b.peer_ = qp_a;
  b.link_ = link_ba;
  return SDR_OK;
}

size_t Core::advance(int64_t limit_ns) {
  has_events_ = !events_.empty();
  while (!sources_.empty()) {
    const int64_t time_ns = sources_.top_key().time_ns;
    if (time_ns > limit_ns || (has_events_ && time_ns > now_ns_)) break;
    assert(time_ns >= now_ns_);
    if (drop_stale_report()) continue;
    now_ns_ = time_ns;
    run_source(source_table_[sources_.top()]);
  }
  leave_engines();
  const bool nothing_left = sources_.empty() && limit_ns == INT64_MAX;
  if (!has_events_ && !nothing_left) now_ns_ = std::max(now_ns_, limit_ns);
  return has_events_ ? events_.size() : 0;
}

void Core::run_source(const Source& source) {
  switch (source.kind) {
    case SourceKind::pump:
      return pump(*links_[source.index]);
    case SourceKind::pacer:
      return pace(*qps_[source.index]);
    case SourceKind::arrivals: {
      WorldLink& link = *links_[source.index];
      const Flight flight = link.in_order.front();
      link.in_order.pop();
      if (link.in_order.empty())
        sources_.remove(link.arrival_source);
      else
        sources_.set(link.arrival_source, link.in_order.front().at);
      return land(flight);
    }
    case SourceKind::flights: {
      const Flight flight = flights_.top();
      flights_.pop();
      next_flight_changed();
      return land(flight);
    }
  }
}

// ---- sending ----

// `qp` has something to send: its pacer or its link's serialiser will come for it.
void Core::wake(Qp& qp) {
  if (qp.is_paced()) {
    if (!sources_.has(qp.pace_source_)) {
      sources_.set(qp.pace_source_, key_at(std::max(now_ns_, qp.pacer_.free_at_ns())));
    }
    return;
  }
  WorldLink& link = *links_[qp.link_];
  if (!qp.waiting_) {
    qp.waiting_ = true;
    link.senders.push(qp.id_);
  }
  if (!sources_.has(link.pump_source)) arm_pump(link);
}

void Core::arm_pump(WorldLink& link) {
  const int64_t free_ns = std::max(now_ns_, link.link.free_at_ns());
  sources_.set(link.pump_source,
               key_at(is_stalled() ? std::max(free_ns, now_ns_ + kStallNs) : free_ns));
}

// The serialiser is free: one packet of the next sender, then that sender goes to the end of the
// line.
void Core::pump(WorldLink& link) {
  if (!is_stalled()) {
    Qp& qp = *qps_[link.senders.front()];
    if (qp.has_work()) send_next(qp);
    if (link.senders.size() > 1 || !qp.has_work()) {
      link.senders.pop();
      qp.waiting_ = qp.has_work();
      if (qp.waiting_) link.senders.push(qp.id_);
    }
  }
  if (link.senders.empty())
    sources_.remove(link.pump_source);
  else
    arm_pump(link);
}

void Core::pace(Qp& qp) {
  if (is_stalled()) {
    sources_.set(qp.pace_source_, key_at(now_ns_ + kStallNs));
    return;
  }
  if (qp.has_work()) qp.pacer_.push(now_ns_, send_data(qp));
  if (qp.has_work())
    sources_.set(qp.pace_source_, key_at(qp.pacer_.free_at_ns()));
  else
    sources_.remove(qp.pace_source_);
}

void Core::send_next(Qp& qp) {
  if (qp.controls_.empty()) {
    send_data(qp);
    return;
  }
  const uint32_t body = qp.controls_.front();
  qp.controls_.pop();
  send_control_body(qp, body);
}

// Sends the next packet of the first work request; returns its bytes.
uint32_t Core::send_data(Qp& qp) {
  const uint32_t index = qp.works_.front();
  Work& work = works_[index];
  const uint32_t packet = work.first_packet + work.sent++;
  const uint32_t bytes = qp.packet_bytes_of(work, packet);
  qp.counters_.packets_sent++;
  qp.counters_.bytes_sent += bytes;
  qp.counters_.wire_bytes_sent += bytes;
  WorldLink& link = *links_[qp.link_];
  const Fate fate = link.link.offer(now_ns_, bytes, bytes, PacketKind::data);
  work.in_flight += fate.copies;
  if (records_left_ > 0) record(fate, {.qp = qp.id_, .message = work.message, .packet = packet});
  launch_copies(link, fate, What::data, packet, index, qp.peer_);
  if (work.sent == work.packets) {
    qp.works_.pop();
    work.queued = false;
    work.reporting = true;
    add_flight({key_at(fate.depart_ns), 0, index, qp.id_, What::injected, false});
  }
  return bytes;
}

// Takes over the caller's reference to `body`.
void Core::send_control_body(Qp& qp, uint32_t body) {
  ControlBody& control = controls_[body];
  const uint32_t bytes = static_cast<uint32_t>(control.bytes.size());
  qp.counters_.control_sent++;
  qp.counters_.wire_bytes_sent += bytes;
  WorldLink& link = *links_[qp.link_];
  const Fate fate = link.link.offer(now_ns_, bytes, bytes, control.kind);
  control.references += fate.copies;
  if (records_left_ > 0) record(fate, {.qp = qp.id_, .kind = control.kind});
  launch_copies(link, fate, What::control, 0, body, qp.peer_);
  release_control(body);
}

void Core::record(const Fate& fate, PacketRecord packet) {
  packet.depart_ns = fate.depart_ns;
  for (uint32_t copy = 0; copy < std::max(1u, fate.copies) && records_left_ > 0; copy++, records_left_--) {
    packet.arrive_ns = copy < fate.copies ? fate.arrive_ns[copy] : -1;
    records_.push_back(packet);
  }
}

void Core::launch_copies(WorldLink& link, const Fate& fate, What what, uint32_t index,
                         uint32_t body, uint32_t destination) {
  for (uint32_t i = 0; i < fate.copies; i++) {
    in_flight_++;
    const Key at = key_at(fate.arrive_ns[i]);
    const bool was_empty = link.in_order.empty();
    if (!was_empty && at.before(link.in_order.back().at)) {
      add_flight({at, index, body, destination, what, fate.corrupt[i]});
      continue;
    }
    // Filled in place, field by field: a flight built aside is read back before its bytes have
    // settled.
    Flight& flight = link.in_order.extend();
    flight.at = at;
    flight.index = index;
    flight.body = body;
    flight.qp = destination;
    flight.what = what;
    flight.corrupt = fate.corrupt[i];
    if (was_empty) sources_.set(link.arrival_source, at);
  }
}

void Core::add_flight(const Flight& flight) {
  const bool is_next = flights_.empty() || flight.at.before(flights_.top().at);
  flights_.push(flight);
  if (is_next) sources_.set(kFlightSource, flight.at);
}

void Core::next_flight_changed() {
  if (flights_.empty())
    sources_.remove(kFlightSource);
  else
    sources_.set(kFlightSource, flights_.top().at);
}

// ---- arriving ----

void Core::land(const Flight& flight) {
  switch (flight.what) {
    case What::data:
      in_flight_--;
      return land_data(flight);
    case What::control:
      in_flight_--;
      return land_control(flight);
    case What::injected:
      return report_injected(flight);
    case What::progress:
      return report_progress(flight);
  }
}

void Core::land_data(const Flight& flight) {
  Work& work = works_[flight.body];
  Qp& qp = *qps_[flight.qp];
  if (!qp.closed_ && !work.dead) {
    if (flight.corrupt) {
      qp.counters_.bad_checksum++;
    } else {
      receive(qp, work, flight.index);
    }
  }
  work.in_flight--;
  release_if_unused(flight.body);
}

// The NIC's part: place the payload, then the receive worker's step.
void Core::receive(Qp& qp, const Work& work, uint32_t packet) {
  qp.last_heard_ns_ = now_ns_;
  if (!qp.entered_) {
    qp.entered_ = true;
    entered_.push_back(&qp);
    sdr_rx_enter(qp.rx_, kWorker);
  }
  const sdr_tx_packet sent = sdr_tx_make(&qp.config_.geometry, work.message, work.cut_bytes,
                                         packet, work.user_immediate);
  const sdr_completion completion = {sent.queue, sent.immediate, sent.bytes};
  // The emulated wire carries the message number, as UDP's header does: it tells lives of a slot apart beyond the
  // generations.
  const uint32_t live = sdr_rx_slot_message(qp.rx_, work.message % qp.config_.geometry.slots);
  if (live != work.message) return sdr_rx_refuse(qp.rx_, kWorker, SDR_STEP_LATE);
  if (work.source) {
    sdr_step why;
    void* const destination = sdr_rx_place(qp.rx_, &completion, &why);
    const uint64_t offset = uint64_t{packet - work.first_packet} * qp.config_.geometry.packet_bytes;
    if (destination) std::memcpy(destination, work.source + offset, sent.bytes);
  }
  uint32_t message = 0;
  const sdr_step step = sdr_rx_step(qp.rx_, kWorker, &completion, &message);
  if (step == SDR_STEP_CHUNK)
    chunk_arrived(qp, message);
  else if (step == SDR_STEP_MESSAGE)
    message_arrived(qp, message);
}

void Core::land_control(const Flight& flight) {
  Qp& qp = *qps_[flight.qp];
  const ControlBody& body = controls_[flight.body];
  if (!qp.closed_) {
    if (flight.corrupt) {
      qp.counters_.bad_checksum++;
    } else {
      qp.last_heard_ns_ = now_ns_;
      qp.counters_.control_received++;
      if (events_.push_control(qp.id_, now_ns_, body.bytes.data(), body.bytes.size()) ==
          EventQueue::Control::dropped) {
        qp.counters_.control_dropped++;
      }
      has_events_ = true;
    }
  }
  release_control(flight.body);
}

void Core::report_injected(const Flight& flight) {
  Work& work = works_[flight.body];
  Qp& qp = *qps_[flight.qp];
  work.reporting = false;
  qp.outstanding_--;
  if (!qp.closed_) push_event(EventType::injected, qp.id_, work.message, work.request);
  release_if_unused(flight.body);
}

void Core::chunk_arrived(Qp& qp, uint32_t message) {
  if (progress_interval_ns_ == 0) return push_event(EventType::progress, qp.id_, message, 0);
  Qp::Receiving* const slot = qp.receiving(message);
  if (!slot || slot->progress_armed) return;
  slot->progress_armed = true;
  add_flight({key_at(now_ns_ + progress_interval_ns_), message, 0, qp.id_, What::progress, false});
}

void Core::message_arrived(Qp& qp, uint32_t message) {
  if (Qp::Receiving* const slot = qp.receiving(message)) slot->progress_armed = false;
  push_event(EventType::progress, qp.id_, message, 1);
}

// A report whose message completed meanwhile is nothing that happens: it must not move the time.
bool Core::drop_stale_report() {
  if (sources_.top() != kFlightSource || flights_.top().what != What::progress) return false;
  const Flight& flight = flights_.top();
  const Qp::Receiving* const slot = qps_[flight.qp]->receiving(flight.index);
  if (slot && slot->progress_armed) return false;
  flights_.pop();
  next_flight_changed();
  return true;
}

void Core::report_progress(const Flight& flight) {
  Qp& qp = *qps_[flight.qp];
  qp.receiving(flight.index)->progress_armed = false;
  push_event(EventType::progress, qp.id_, flight.index, 0);
}

void Core::push_event(EventType type, uint32_t qp, uint32_t message, uint32_t value) {
  events_.push({static_cast<uint32_t>(type), qp, message, value, static_cast<double>(now_ns_), 0});
  has_events_ = true;
}

void Core::release_if_unused(uint32_t index) {
  Work& work = works_[index];
  if (work.queued || work.reporting || work.in_flight > 0) return;
  work.region.reset();
  work.source = nullptr;
  work.in_use = false;
  works_.give(index);
}

void Core::release_control(uint32_t index) {
  if (--controls_[index].references == 0) controls_.give(index);
}

void Core::leave_engines() {
  for (Qp* qp : entered_) {
    qp->entered_ = false;
    sdr_rx_leave(qp->rx_, kWorker);
  }
  entered_.clear();
}

}  // namespace sdr::emulated
