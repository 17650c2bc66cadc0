#include "transport/udp_lane.h"

#include <cerrno>
#include <cstring>

#include "transport/checks.h"
#include "transport/stream_copy.h"

namespace sdr::udp {
namespace {

constexpr uint64_t kStreamedBytesMin =
    4 << 20;  // a message this large is not read from the caches anyway

}  // namespace

void Lane::drop_all() {
  for (Parcel* parcel : in_batch_) release(parcel);
  in_batch_.clear();
  drop_queued();
}

int64_t Lane::pump(int64_t now_ns, SendBatch& batch, size_t quantum) {
  batch_ = &batch;
  return SendLane::pump(now_ns, quantum);
}

void Lane::flushed(Report& report) {
  for (Parcel* parcel : in_batch_) release(parcel);
  in_batch_.clear();
  for (const auto& request : take_offered()) report_injected(request, report);
}

// ---- sending ----

// Puts one packet into the batch_->
void Lane::emit(Parcel* parcel, uint32_t packet, bool corrupt) {
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
  write_header(batch_->add(this, peer, payload, bytes), shared.send_key, header, payload, bytes);
  if (corrupt) {
    const std::lock_guard lock(shared.link_mutex);
    batch_->corrupt_last(shared.link->corruption_bits());
  }
  if (in_batch_.empty() || in_batch_.back() != parcel) {
    retain(parcel);
    in_batch_.push_back(parcel);
  }
}

void Lane::refused(uint32_t packets, int error) {
  counters.send_errors.add(packets);
  // Only a datagram that can never pass is the queue pair's failure; the rest is loss.
  if (error == EMSGSIZE) shared.report_error(error);
}

// ---- receiving ----

void Lane::received(const uint8_t* datagram, size_t bytes, int64_t now_ns, Report& report) {
  Header header;
  switch (read_header(datagram, bytes, &header)) {
    case Verdict::truncated:
      return counters.truncated.add(1);
    case Verdict::bad_checksum:
      return counters.bad_checksum.add(1);
    case Verdict::malformed:
      return counters.malformed.add(1);
    case Verdict::valid:
      break;
  }
  const auto payload_size = static_cast<uint32_t>(bytes - kUdpHeaderBytes);
  if (payload_size > shared.geometry.packet_bytes) return counters.malformed.add(1);
  shared.last_heard_ns.store(now_ns, std::memory_order_relaxed);
  const uint8_t* payload = datagram + kUdpHeaderBytes;
  if (header.kind == PacketKind::data) return place(header, payload, payload_size);
  counters.control_received.add(1);
  report_control(shared, payload, payload_size, now_ns, &counters.control_dropped, report);
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
    // The number tells lives of a slot apart for ever. While this thread is inside the engine the
    // slot cannot be completed and posted anew, so what holds here holds at the step.
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
  for (const sdr_completion& completion : placed_)
    step_and_report(shared, channel, completion, now_ns, report);
  placed_.clear();
}

}  // namespace sdr::udp
