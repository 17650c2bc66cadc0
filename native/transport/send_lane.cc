#include "transport/send_lane.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace sdr {
namespace {

constexpr int64_t kAheadNs =
    100'000;  // how far the serialiser or the pacer may be busy ahead of an offer
constexpr int64_t kCatchUpNs = 4'000'000;     // how late a thread may wake without loss of rate
constexpr int64_t kCoalesceNs = 20'000;       // due packets wait this long for company ...
constexpr size_t kCoalesceFrom = 16;          // ... when at least so many are under way
constexpr uint64_t kAheadBytesMin = 1 << 20;  // with less left to send, more is asked for at once
constexpr int64_t kNever = INT64_MAX;
constexpr uint32_t kNoMessage = UINT32_MAX;

int64_t monotonic_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

int64_t Environment::now_ns() const { return monotonic_ns() - start_ns; }

// ---- what lanes share ----

QpShared::QpShared(Environment& its_environment, uint32_t its_id, const QpConfig& config,
                   sdr_rx* its_rx, uint32_t its_header_bytes)
    : environment(&its_environment),
      id(its_id),
      geometry(config.geometry),
      rate_bps(config.rate_bps),
      rx(its_rx),
      header_bytes(its_header_bytes),
      progress_marks(new std::atomic<uint32_t>[geometry.slots]) {
  for (uint32_t slot = 0; slot < geometry.slots; slot++) progress_marks[slot].store(kNoMessage);
}

void QpShared::update_direct() {
  direct.store(link.has_value() && link->config().is_clear() && rate_bps <= 0,
               std::memory_order_release);
}

bool QpShared::admit(int64_t now_ns, int64_t ready_ns, uint32_t wire_bytes, int64_t* at_ns) {
  const int64_t earliest = std::max(ready_ns, now_ns - kCatchUpNs);
  int64_t at = now_ns;
  const bool rated = link->config().rate_bps > 0;
  if (rated || rate_bps > 0) {
    at = earliest;
    if (rated) {
      if (link->free_at_ns() > now_ns + kAheadNs) {
        *at_ns = link->free_at_ns() - kAheadNs / 2;
        return false;
      }
      at = std::max(at, std::min(link->free_at_ns(), now_ns));
    }
    if (rate_bps > 0) {
      const auto paced = static_cast<int64_t>(pace_next_ns);
      if (paced > now_ns + kAheadNs) {
        *at_ns = paced - kAheadNs / 2;
        return false;
      }
      at = std::max(at, paced);
      pace_next_ns = std::max(pace_next_ns, static_cast<double>(at)) + wire_bytes * 8e9 / rate_bps;
    }
  }
  last_offer_ns = std::max(last_offer_ns, at);
  *at_ns = last_offer_ns;
  return true;
}

void QpShared::report_error(int error) {
  if (error_reported.exchange(true)) return;
  Event event{};
  event.type = static_cast<uint32_t>(EventType::error);
  event.qp = id;
  event.value = static_cast<uint32_t>(error);
  event.time_ns = static_cast<double>(environment->now_ns());
  environment->push(event);
}

void QpShared::progress_drained(uint32_t message) {
  uint32_t expected = message;
  progress_marks[message % geometry.slots].compare_exchange_strong(expected, kNoMessage);
}

// ---- what was received ----

void step_and_report(QpShared& shared, uint32_t worker, const sdr_completion& completion,
                     int64_t now_ns, Report& report) {
  uint32_t message = 0;
  const sdr_step stepped = sdr_rx_step(shared.rx, worker, &completion, &message);
  if (stepped != SDR_STEP_CHUNK && stepped != SDR_STEP_MESSAGE) return;
  // One event waits for each message; the exchange orders the bit just set before a drain that
  // clears the mark.
  const bool waiting =
      shared.progress_marks[message % shared.geometry.slots].exchange(message) == message;
  if (waiting && stepped != SDR_STEP_MESSAGE) return;
  Event event{};
  event.type = static_cast<uint32_t>(EventType::progress);
  event.qp = shared.id;
  event.message = message;
  event.value = stepped == SDR_STEP_MESSAGE ? 1 : 0;
  event.time_ns = static_cast<double>(now_ns);
  report.events.push_back(event);
  report.urgent |= event.value != 0;
}

void report_control(const QpShared& shared, const uint8_t* body, uint32_t bytes, int64_t now_ns,
                    Counter* dropped, Report& report) {
  Event event{};
  event.qp = shared.id;
  event.value = bytes;
  event.time_ns = static_cast<double>(now_ns);
  report.controls.push_back({event, body, dropped});
}

bool Report::deliver(EventQueue& queue) {
  bool wake = false;
  for (const Event& event : events) wake |= queue.push(event);
  for (const Control& one : controls) {
    const auto time_ns = static_cast<int64_t>(one.event.time_ns);
    const auto result = queue.push_control(one.event.qp, time_ns, one.body, one.event.value);
    wake |= result == EventQueue::Control::queued_first;
    if (result == EventQueue::Control::dropped) one.dropped->add(1);
  }
  events.clear();
  controls.clear();
  urgent = false;
  return wake;
}

// ---- the inbox ----

void SendLane::drop_queued() {
  collect();
  while (!delayed_.empty()) release(delayed_.pop().parcel);
  for (Parcel* parcel : control_) release(parcel);
  for (Parcel* parcel : data_) release(parcel);
  control_.clear();
  data_.clear();
  offered_.clear();
}

void SendLane::post(std::unique_ptr<Parcel> parcel) {
  const std::lock_guard lock(inbox_mutex_);
  inbox_.push_back(std::move(parcel));
  mail_.store(true);
}

void SendLane::post_purge() {
  const std::lock_guard lock(inbox_mutex_);
  inbox_purge_ = true;
  mail_.store(true);
}

void SendLane::collect() {
  if (!mail_.load(std::memory_order_acquire)) return;
  std::vector<std::unique_ptr<Parcel>> arrived;
  bool to_purge = false;
  {
    const std::lock_guard lock(inbox_mutex_);
    arrived.swap(inbox_);
    std::swap(to_purge, inbox_purge_);
    mail_.store(false);
  }
  for (auto& parcel : arrived) {
    Parcel* plain = parcel.release();
    (plain->request ? data_ : control_).push_back(plain);
    data_packets_ += packets_left(*plain);
  }
  if (to_purge) purge();
}

void SendLane::purge() {
  std::deque<Parcel*> kept;
  for (Parcel* parcel : data_) {
    if (parcel->request->send->closed.load(std::memory_order_acquire))
      drop(parcel);
    else
      kept.push_back(parcel);
  }
  data_.swap(kept);
}

bool SendLane::idle() const {
  return !mail_.load() && control_.empty() && data_.empty() && delayed_.empty();
}

// ---- life of a parcel ----

void SendLane::release(Parcel* parcel) {
  if (--parcel->references != 0) return;
  if (!parcel->request) qp_.controls_waiting.fetch_sub(1, std::memory_order_relaxed);
  delete parcel;
}

// The parcel's last packet was injected, or what is left of it is dropped. It is off its queue.
void SendLane::finish(Parcel* parcel, bool dropped) {
  if (!parcel->request) {
    qp_.controls.fetch_sub(1, std::memory_order_relaxed);
  } else {
    if (dropped) parcel->request->dropped.store(true, std::memory_order_relaxed);
    offered_.push_back(parcel->request);
  }
  release(parcel);
}

void SendLane::drop(Parcel* parcel) {
  data_packets_ -= packets_left(*parcel);
  finish(parcel, true);
}

// On this lane.
uint32_t SendLane::packets_left(const Parcel& parcel) const {
  return (parcel.end - parcel.next_packet + qp_.geometry.channels - 1) / qp_.geometry.channels;
}

std::vector<std::shared_ptr<WorkRequest>> SendLane::take_offered() {
  return std::exchange(offered_, {});
}

void SendLane::report_injected(const std::shared_ptr<WorkRequest>& request, Report& report) {
  if (request->lanes_left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  qp_.work_requests.fetch_sub(1, std::memory_order_relaxed);
  if (request->dropped.load(std::memory_order_relaxed)) return;
  Event event{};
  event.type = static_cast<uint32_t>(EventType::injected);
  event.qp = qp_.id;
  event.message = request->send->message;
  event.value = request->id;
  event.time_ns = static_cast<double>(qp_.environment->now_ns());
  report.events.push_back(event);
  report.urgent |= data_packets_ * qp_.geometry.packet_bytes < kAheadBytesMin;
}

// The next parcel to inject from: control first. Drops those of closed sends on the way.
Parcel* SendLane::front() {
  if (!control_.empty()) return control_.front();
  while (!data_.empty()) {
    Parcel* parcel = data_.front();
    if (!parcel->request->send->closed.load(std::memory_order_acquire)) return parcel;
    data_.pop_front();
    drop(parcel);
  }
  return nullptr;
}

// Steps over the packet just injected.
void SendLane::advance(Parcel* parcel) {
  if (parcel->request) {
    data_packets_--;
    parcel->next_packet += qp_.geometry.channels;
    if (parcel->next_packet < parcel->end) return;
    data_.pop_front();
  } else {
    control_.pop_front();
  }
  finish(parcel, false);
}

uint32_t SendLane::payload_bytes(const Parcel& parcel) const {
  if (!parcel.request) return parcel.control_bytes;
  const uint64_t offset = uint64_t{parcel.next_packet} * qp_.geometry.packet_bytes;
  return static_cast<uint32_t>(
      std::min<uint64_t>(qp_.geometry.packet_bytes, parcel.request->cut_bytes - offset));
}

void SendLane::count_injected(const Parcel& parcel, uint32_t payload) {
  sent.wire_bytes_sent.add(payload + qp_.header_bytes);
  if (!parcel.request) {
    sent.control_sent.add(1);
  } else {
    sent.packets_sent.add(1);
    sent.bytes_sent.add(payload);
  }
}

// ---- sending ----

size_t SendLane::emit_due(int64_t now_ns) {
  size_t emitted = 0;
  while (!delayed_.empty() && delayed_.next_due_ns() <= now_ns &&
         has_room(*delayed_.next().parcel)) {
    const Delayed one = delayed_.pop();
    emit(one.parcel, one.packet, one.corrupt);
    release(one.parcel);
    emitted++;
  }
  return emitted;
}

int64_t SendLane::pump(int64_t now_ns, size_t quantum) {
  collect();
  emit_due(now_ns);
  if (qp_.direct.load(std::memory_order_acquire)) {
    const int64_t again = pump_direct(now_ns, quantum);
    return delayed_.empty() ? again : std::min(again, delayed_.next_due_ns());
  }
  int64_t again = front() == nullptr ? kNever : offer(now_ns, quantum);
  emit_due(now_ns);
  if (!delayed_.empty()) {
    const int64_t wait = delayed_.size() >= kCoalesceFrom ? kCoalesceNs : 0;
    again = std::min(again, delayed_.next_due_ns() + wait);
  }
  return again;
}

int64_t SendLane::pump_direct(int64_t now_ns, size_t quantum) {
  for (size_t n = 0; n < quantum; n++) {
    Parcel* parcel = front();
    if (parcel == nullptr) return kNever;
    if (!has_room(*parcel)) break;
    const uint32_t payload = payload_bytes(*parcel);
    count_injected(*parcel, payload);
    sent.clear_by_kind[static_cast<size_t>(parcel->kind)].add(1);
    sent.clear_bytes.add(payload + qp_.header_bytes);
    emit(parcel, parcel->next_packet, false);
    advance(parcel);
  }
  return now_ns;
}

// Offers up to `quantum` packets to the link; what it lets through becomes descriptors.
int64_t SendLane::offer(int64_t now_ns, size_t quantum) {
  const std::lock_guard lock(qp_.link_mutex);
  for (size_t n = 0; n < quantum; n++) {
    Parcel* parcel = front();
    if (parcel == nullptr) return kNever;
    if (delayed_.full()) return delayed_.next_due_ns();
    const uint32_t payload = payload_bytes(*parcel);
    const auto wire = static_cast<uint32_t>(payload + qp_.header_bytes);
    int64_t at = 0;
    if (!qp_.admit(now_ns, parcel->ready_ns, wire, &at)) return at;
    const Fate fate = qp_.link->offer(at, wire, payload, parcel->kind);
    for (uint32_t copy = 0; copy < fate.copies; copy++) {
      parcel->references++;
      delayed_.push(fate.arrive_ns[copy], {parcel, parcel->next_packet, fate.corrupt[copy]});
    }
    count_injected(*parcel, payload);
    advance(parcel);
  }
  return now_ns;
}

}  // namespace sdr
