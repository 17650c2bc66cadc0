#include "transport/udp_lane.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "transport/checks.h"
#include "transport/stream_copy.h"

namespace sdr::udp {
namespace {

constexpr int64_t kAheadNs = 100'000;       // how far the serialiser or the pacer may be busy ahead of an offer
constexpr int64_t kCatchUpNs = 4'000'000;   // how late a thread may wake without loss of rate
constexpr int64_t kCoalesceNs = 20'000;     // due packets wait this long for company ...
constexpr size_t kCoalesceFrom = 16;        // ... when at least so many are under way
constexpr uint64_t kStreamedBytesMin = 4 << 20;  // a message this large is not read from the caches anyway
constexpr uint64_t kAheadBytesMin = 1 << 20;  // with less left to send, more is asked for at once
constexpr int64_t kNever = INT64_MAX;

int64_t monotonic_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

int64_t Environment::now_ns() const { return monotonic_ns() - start_ns; }

// ---- what lanes share ----

void Shared::update_direct() {
  direct.store(link.has_value() && link->config().is_clear() && rate_bps <= 0,
               std::memory_order_release);
}

bool Shared::admit(int64_t now_ns, int64_t ready_ns, uint32_t wire_bytes, int64_t* at_ns) {
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

// ---- the inbox ----

void Lane::drop_all() {
  collect();
  while (!delayed_.empty()) release(delayed_.pop().parcel);
  for (Parcel* parcel : in_batch_) release(parcel);
  for (Parcel* parcel : control_) release(parcel);
  for (Parcel* parcel : data_) release(parcel);
  in_batch_.clear();
  control_.clear();
  data_.clear();
  injected_.clear();
}

void Lane::post(std::unique_ptr<Parcel> parcel) {
  const std::lock_guard lock(inbox_mutex_);
  inbox_.push_back(std::move(parcel));
  mail_.store(true);
}

void Lane::post_purge() {
  const std::lock_guard lock(inbox_mutex_);
  inbox_purge_ = true;
  mail_.store(true);
}

void Lane::collect() {
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

void Lane::purge() {
  std::deque<Parcel*> kept;
  for (Parcel* parcel : data_) {
    if (parcel->request->send->closed.load(std::memory_order_acquire)) drop(parcel);
    else kept.push_back(parcel);
  }
  data_.swap(kept);
}

bool Lane::idle() const {
  return !mail_.load() && control_.empty() && data_.empty() && delayed_.empty();
}

// ---- life of a parcel ----

void Lane::release(Parcel* parcel) {
  if (--parcel->references == 0) delete parcel;
}

// The parcel's last packet was injected, or what is left of it is dropped. It is off its queue.
void Lane::finish(Parcel* parcel, bool dropped) {
  if (!parcel->request) {
    shared.controls.fetch_sub(1, std::memory_order_relaxed);
  } else {
    if (dropped) parcel->request->dropped.store(true, std::memory_order_relaxed);
    injected_.push_back(parcel->request);
  }
  release(parcel);
}

void Lane::drop(Parcel* parcel) {
  data_packets_ -= packets_left(*parcel);
  finish(parcel, true);
}

// On this lane.
uint32_t Lane::packets_left(const Parcel& parcel) const {
  return (parcel.end - parcel.next_packet + shared.geometry.channels - 1) / shared.geometry.channels;
}

void Lane::flushed(Report& report) {
  for (Parcel* parcel : in_batch_) release(parcel);
  in_batch_.clear();
  for (auto& request : injected_) {
    if (request->lanes_left.fetch_sub(1, std::memory_order_acq_rel) != 1) continue;
    shared.work_requests.fetch_sub(1, std::memory_order_relaxed);
    if (request->dropped.load(std::memory_order_relaxed)) continue;
    Event event{};
    event.type = static_cast<uint32_t>(EventType::injected);
    event.qp = shared.id;
    event.message = request->send->message;
    event.value = request->id;
    event.time_ns = static_cast<double>(shared.environment->now_ns());
    report.events.push_back(event);
    report.urgent |= data_packets_ * shared.geometry.packet_bytes < kAheadBytesMin;
  }
  injected_.clear();
}

// The next parcel to inject from: control first. Drops those of closed sends on the way.
Parcel* Lane::front() {
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
void Lane::advance(Parcel* parcel) {
  if (parcel->request) {
    data_packets_--;
    parcel->next_packet += shared.geometry.channels;
    if (parcel->next_packet < parcel->end) return;
    data_.pop_front();
  } else {
    control_.pop_front();
  }
  finish(parcel, false);
}

uint32_t Lane::payload_bytes(const Parcel& parcel) const {
  if (!parcel.request) return parcel.control_bytes;
  const uint64_t offset = uint64_t{parcel.next_packet} * shared.geometry.packet_bytes;
  return static_cast<uint32_t>(
      std::min<uint64_t>(shared.geometry.packet_bytes, parcel.request->cut_bytes - offset));
}

void Lane::count_injected(const Parcel& parcel, uint32_t payload) {
  counters.wire_bytes_sent.add(payload + kUdpHeaderBytes);
  if (!parcel.request) {
    counters.control_sent.add(1);
  } else {
    counters.packets_sent.add(1);
    counters.bytes_sent.add(payload);
  }
}

// ---- sending ----

// Puts one packet into the batch.
void Lane::emit(Parcel* parcel, uint32_t packet, bool corrupt, SendBatch& batch) {
  Header header;
  header.kind = parcel->kind;
  const uint8_t* payload = parcel->control.get();
  uint32_t bytes = parcel->control_bytes;
  if (parcel->request) {
    const WorkRequest& request = *parcel->request;
    const sdr_tx_packet tx = sdr_tx_make(&shared.geometry, request.send->message, request.cut_bytes,
                                         packet, request.send->user_immediate);
    header.queue = static_cast<uint16_t>(tx.queue);
    header.immediate = tx.immediate;
    header.message = request.send->message;
    payload = request.data + uint64_t{packet - request.first_packet} * shared.geometry.packet_bytes;
    bytes = tx.bytes;
  }
  write_header(batch.add(this, peer, payload, bytes), shared.send_key, header, payload, bytes);
  if (corrupt) {
    const std::lock_guard lock(shared.link_mutex);
    batch.corrupt_last(shared.link->corruption_bits());
  }
  if (in_batch_.empty() || in_batch_.back() != parcel) {
    parcel->references++;
    in_batch_.push_back(parcel);
  }
}

size_t Lane::emit_due(int64_t now_ns, SendBatch& batch) {
  size_t emitted = 0;
  while (!delayed_.empty() && !batch.full() && delayed_.next_due_ns() <= now_ns) {
    const Delayed one = delayed_.pop();
    emit(one.parcel, one.packet, one.corrupt, batch);
    release(one.parcel);
    emitted++;
  }
  return emitted;
}

int64_t Lane::pump(int64_t now_ns, SendBatch& batch, size_t quantum) {
  collect();
  emit_due(now_ns, batch);
  if (batch.full()) return now_ns;
  if (shared.direct.load(std::memory_order_acquire)) {
    const int64_t again = pump_direct(now_ns, batch, quantum);
    return delayed_.empty() ? again : std::min(again, delayed_.next_due_ns());
  }
  int64_t again = front() == nullptr ? kNever : offer(now_ns, quantum);
  emit_due(now_ns, batch);
  if (!delayed_.empty()) {
    const int64_t wait = delayed_.size() >= kCoalesceFrom ? kCoalesceNs : 0;
    again = std::min(again, delayed_.next_due_ns() + wait);
  }
  return again;
}

int64_t Lane::pump_direct(int64_t now_ns, SendBatch& batch, size_t quantum) {
  for (size_t n = 0; n < quantum && !batch.full(); n++) {
    Parcel* parcel = front();
    if (parcel == nullptr) return kNever;
    const uint32_t payload = payload_bytes(*parcel);
    count_injected(*parcel, payload);
    counters.clear_by_kind[static_cast<size_t>(parcel->kind)].add(1);
    counters.clear_bytes.add(payload + kUdpHeaderBytes);
    emit(parcel, parcel->next_packet, false, batch);
    advance(parcel);
  }
  return now_ns;
}

// Offers up to `quantum` packets to the link; what it lets through becomes descriptors.
int64_t Lane::offer(int64_t now_ns, size_t quantum) {
  const std::lock_guard lock(shared.link_mutex);
  for (size_t n = 0; n < quantum; n++) {
    Parcel* parcel = front();
    if (parcel == nullptr) return kNever;
    if (delayed_.full()) return delayed_.next_due_ns();
    const uint32_t payload = payload_bytes(*parcel);
    const auto wire = static_cast<uint32_t>(payload + kUdpHeaderBytes);
    int64_t at = 0;
    if (!shared.admit(now_ns, parcel->ready_ns, wire, &at)) return at;
    const Fate fate = shared.link->offer(at, wire, payload, parcel->kind);
    for (uint32_t copy = 0; copy < fate.copies; copy++) {
      parcel->references++;
      delayed_.push(fate.arrive_ns[copy], parcel, parcel->next_packet, fate.corrupt[copy]);
    }
    count_injected(*parcel, payload);
    advance(parcel);
  }
  return now_ns;
}

void Lane::refused(uint32_t packets, int error) {
  counters.send_errors.add(packets);
  // Only a datagram that can never pass is the queue pair's failure; the rest is loss.
  if (error != EMSGSIZE || shared.error_reported.exchange(true)) return;
  Event event{};
  event.type = static_cast<uint32_t>(EventType::error);
  event.qp = shared.id;
  event.value = static_cast<uint32_t>(error);
  event.time_ns = static_cast<double>(shared.environment->now_ns());
  shared.environment->push(event);
}

// ---- receiving ----

void Lane::received(const uint8_t* datagram, size_t bytes, int64_t now_ns, Report& report) {
  Header header;
  switch (read_header(datagram, bytes, &header)) {
    case Verdict::truncated: return counters.truncated.add(1);
    case Verdict::bad_checksum: return counters.bad_checksum.add(1);
    case Verdict::malformed: return counters.malformed.add(1);
    case Verdict::valid: break;
  }
  const auto payload_size = static_cast<uint32_t>(bytes - kUdpHeaderBytes);
  if (payload_size > shared.geometry.packet_bytes) return counters.malformed.add(1);
  shared.last_heard_ns.store(now_ns, std::memory_order_relaxed);
  const uint8_t* payload = datagram + kUdpHeaderBytes;
  if (header.kind == PacketKind::data) return place(header, payload, payload_size);
  counters.control_received.add(1);
  Event event{};
  event.qp = shared.id;
  event.value = payload_size;
  event.time_ns = static_cast<double>(now_ns);
  report.controls.push_back({event, payload, &counters.control_dropped});
}

// A copy sent to another channel's socket would be placed by two threads at once.
bool Lane::is_for_this_channel(const Header& header) const {
  const sdr_geometry& geometry = shared.geometry;
  const uint32_t packet =
      (header.immediate >> geometry.split.user_bits) & ((1u << geometry.split.packet_bits) - 1);
  return packet % geometry.channels == channel && header.queue % geometry.channels == channel;
}

void Lane::place(const Header& header, const uint8_t* payload, uint32_t bytes) {
  const sdr_geometry& geometry = shared.geometry;
  if (geometry.channels > 1 && !is_for_this_channel(header)) return counters.malformed.add(1);
  const sdr_completion completion{header.queue, header.immediate, bytes};
  const uint32_t slot = header.immediate >> (32 - geometry.split.message_bits);
  if (slot < geometry.slots && header.queue < geometry.generations * geometry.channels) {
    // The number tells lives of a slot apart for ever. While this thread is inside the engine the slot cannot be
    // completed and posted anew, so what holds here holds at the step.
    const uint32_t live = sdr_rx_slot_message(shared.rx, slot);
    if (live != header.message) {
      const uint32_t generation = live / geometry.slots % geometry.generations;
      const bool told_by_generation =
          live == UINT32_MAX || generation != header.queue / geometry.channels;
      return (told_by_generation ? counters.late : counters.replayed).add(1);
    }
  }
  sdr_step why = SDR_STEP_PACKET;
  void* const where = sdr_rx_place(shared.rx, &completion, &why);
  if (why != SDR_STEP_PACKET) return sdr_rx_refuse(shared.rx, channel, why);
  if (where != nullptr) {
    if (is_streamed(header.message)) {
      stream_copy(where, payload, bytes);
      streams_ = true;
    } else {
      std::memcpy(where, payload, bytes);
    }
  }
  placed_.push_back(completion);
}

bool Lane::is_streamed(uint32_t message) {
  if (message == judged_message_) return judged_streamed_;
  sdr_rx_progress progress{};
  sdr_rx_progress_get(shared.rx, message, &progress);
  judged_message_ = message;
  judged_streamed_ = progress.chunks_total * chunk_bytes(shared.geometry) >= kStreamedBytesMin;
  return judged_streamed_;
}

// After all of a receive buffer is in place: the fence costs as much as a packet does.
void Lane::settle(int64_t now_ns, Report& report) {
  if (streams_) stream_fence();
  streams_ = false;
  for (const sdr_completion& completion : placed_) step(completion, now_ns, report);
  placed_.clear();
}

void Lane::step(const sdr_completion& completion, int64_t now_ns, Report& report) {
  uint32_t message = 0;
  const sdr_step stepped = sdr_rx_step(shared.rx, channel, &completion, &message);
  if (stepped != SDR_STEP_CHUNK && stepped != SDR_STEP_MESSAGE) return;
  // One event waits for each message; the exchange orders the bit just set before a drain that clears the mark.
  const bool waiting = shared.progress_marks[message % shared.geometry.slots].exchange(message) == message;
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

}  // namespace sdr::udp
