#include "lib/receive_side.h"

#include <algorithm>
#include <array>

#include "lib/end.h"

namespace sdr::lib {
namespace {

constexpr int kCtsDoublingsMax = 10;
constexpr int64_t kCtsIntervalNsMax = 250'000'000;

using State = sdr_recv_handle::State;
using Immediate = sdr_recv_handle::Immediate;

std::string number(uint64_t value) { return std::to_string(value); }

}  // namespace

// ---- calls of the program ----

sdr_recv_handle& ReceiveSide::post(MemoryRef memory, uint64_t offset, uint64_t bytes) {
  end_.check_not_failed();
  const sdr_geometry& geometry = end_.attributes.geometry;
  if (!end_.attributes.recv_enabled)
    fail(SDR_EXT_UNSUPPORTED, "this queue pair does not receive", "create it with recv_enable");
  if (bytes > geometry.max_message_bytes)
    fail(SDR_EXT_TOO_LARGE,
         "a receive of " + number(bytes) + " B is above the " + number(geometry.max_message_bytes) +
             " B of this queue pair",
         "raise max_in_flight_log_bytes, or lower max_log_num_msgs");
  if (next_ >= geometry.slots && handles_.contains(next_ - geometry.slots))
    fail(SDR_EXT_BUSY, "all " + number(geometry.slots) + " receive slots are in use",
         "complete an earlier receive, or raise max_log_num_msgs");
  if (goodbyes_.is_full())
    fail(SDR_EXT_BUSY, "the peer has not confirmed the end of too many receives",
         "wait until it has");
  const sdr_status status =
      end_.native->post_receive(next_, memory ? memory->region : nullptr, offset, bytes);
  if (status == SDR_NO_MEMORY) throw Failure(end_.domain.refusal(*end_.native));
  if (status != SDR_OK)
    fail(status == SDR_BUSY ? SDR_EXT_BUSY : SDR_EXT_INVALID_ARGUMENT,
         "receive " + number(next_) + " was refused (status " + number(status) + ")",
         "check its memory and length");
  sdr_recv_handle& handle = pool_.take();
  handle.end = &end_;
  handle.state = State::posted;
  handle.message = next_;
  handle.hold = Hold(std::move(memory));
  handle.max_bytes = bytes;
  const sdr_bitmap_slab slab = end_.native->engine().bitmaps();
  handle.bitmap = slab.base + (next_ % geometry.slots) * slab.stride;
  handle.bytes.store(bytes);
  handle.length_known.store(false);
  handle.complete.store(false);
  handle.immediate_state.store(Immediate::unknown);
  handle.cts_at_ns = end_.domain.now_ns();
  handle.cts_sent = 0;
  handle.error = {};
  handle.outcome.store(Outcome::pending);
  end_.begin_waiting();
  handles_[next_++] = &handle;
  return handle;
}

void ReceiveSide::complete(sdr_recv_handle& handle) {
  if (handle.state != State::failed) end_.native->complete(handle.message);
  // It may wait for the CTS, which nobody repeats any more.
  if (handle.state == State::posted && end_.is_connected())
    goodbyes_.add(handle.message, SDR_EXT_CLOSED, end_.domain.now_ns());
  handles_.erase(handle.message);
  handle.hold = Hold();
  pool_.put(handle);
}

uint32_t ReceiveSide::chunks_done(const sdr_recv_handle& handle) const {
  if (handle.state == State::failed) return handle.chunks_at_end;
  sdr_rx_progress progress{};
  end_.native->engine().progress(handle.message, &progress);
  return progress.chunks_done;
}

// ---- events ----

void ReceiveSide::handle_progress(uint32_t message, bool complete) {
  const auto found = handles_.find(message);
  if (found == handles_.end()) return;
  sdr_recv_handle& handle = *found->second;
  uint32_t immediate = 0;
  if (handle.state == State::posted && handle.immediate_state.load() == Immediate::unknown &&
      end_.native->engine().user_immediate(message, &immediate) && immediate != 0) {
    // Packets of a message without an immediate carry zeros: only START tells a zero from none.
    handle.immediate.store(immediate);
    handle.immediate_state.store(Immediate::known, std::memory_order_release);
  }
  if (complete && handle.state == State::started)
    handle.complete.store(true, std::memory_order_release);
}

void ReceiveSide::handle_start(const Frame& frame, int64_t now_ns) {
  const auto found = handles_.find(frame.message);
  if (found == handles_.end()) {
    const auto failed = failures_.find(frame.message);
    if (failed != failures_.end() && end_.is_connected())
      end_.writer.write(close_frame(Scope::receive, frame.message, failed->second));
    return;
  }
  sdr_recv_handle& handle = *found->second;
  if (handle.state != State::posted) return;
  bool complete = false;
  try {
    start(handle, frame, &complete);
  } catch (const Failure& failure) {
    if (end_.is_connected()) goodbyes_.add(handle.message, failure.error().code, now_ns);
    fail_handle(handle, failure.error());
    return;
  }
  handle_progress(frame.message, complete);
}

void ReceiveSide::start(sdr_recv_handle& handle, const Frame& frame, bool* complete) {
  const std::string message = "message " + number(handle.message);
  if (!frame.policy.empty())
    fail(SDR_EXT_PEER_INCOMPATIBLE,
         "the sender of " + message + " uses policy \"" + frame.policy + "\", this receiver none",
         "send without a policy");
  if (frame.value > handle.max_bytes)
    fail(SDR_EXT_TOO_LARGE,
         message + " has " + number(frame.value) + " B, the receive was posted for " +
             number(handle.max_bytes),
         "post a larger receive");
  const sdr_status status = end_.native->set_length(handle.message, frame.value, complete);
  if (status != SDR_OK)
    fail(SDR_EXT_PEER_INCOMPATIBLE,
         message + " cannot have " + number(frame.value) + " B (status " + number(status) + ")",
         "");
  handle.state = State::started;
  handle.cts_at_ns = kNever;
  handle.bytes.store(frame.value);
  handle.immediate.store(frame.immediate);
  handle.immediate_state.store(frame.has_immediate ? Immediate::known : Immediate::none,
                               std::memory_order_release);
  handle.length_known.store(true, std::memory_order_release);
}

void ReceiveSide::handle_close(uint32_t message, const Error& reason) {
  const auto found = handles_.find(message);
  if (found != handles_.end()) fail_handle(*found->second, reason);
  end_.writer.write(close_frame(Scope::receive, message, reason.code));
}

void ReceiveSide::fail_all(const Error& error) {
  for (const auto& [message, handle] : handles_) fail_handle(*handle, error);
  goodbyes_.clear();
}

void ReceiveSide::fail_handle(sdr_recv_handle& handle, const Error& error) {
  if (handle.state == State::failed) return;
  sdr_rx_progress progress{};
  end_.native->engine().progress(handle.message, &progress);
  handle.chunks_at_end = progress.chunks_done;
  // All that was posted for is there, whatever else its sender had to say.
  if (progress.chunks_done == progress.chunks_total)
    handle.complete.store(true, std::memory_order_release);
  end_.native->complete(handle.message);
  handle.state = State::failed;
  handle.cts_at_ns = kNever;
  handle.error = error;
  keep(failures_, handle.message, error.code, end_.attributes.geometry.slots);
  handle.outcome.store(Outcome::failed, std::memory_order_release);
}

// ---- progress ----

void ReceiveSide::write_cts(sdr_recv_handle& handle, int64_t now_ns) {
  Frame frame;
  frame.kind = static_cast<uint8_t>(FrameKind::cts);
  frame.message = handle.message;
  frame.value = handle.max_bytes;
  std::array<uint8_t, kGrantBytesMax> grant{};
  const size_t grant_bytes = end_.native->grant(handle.message, grant.data());
  frame.body.assign(grant.data(), grant.data() + grant_bytes);
  end_.writer.write(std::move(frame));
  const int64_t interval = end_.repeat_ns() << std::min(handle.cts_sent++, kCtsDoublingsMax);
  handle.cts_at_ns =
      now_ns + std::min(interval, std::max(kCtsIntervalNsMax, 4 * end_.path.rtt_ns()));
}

void ReceiveSide::flush(int64_t now_ns) {
  goodbyes_.flush(end_.writer, now_ns, end_.repeat_ns());
  if (!end_.is_connected()) return;
  for (const auto& [message, handle] : handles_)
    if (handle->state == State::posted && handle->cts_at_ns <= now_ns) write_cts(*handle, now_ns);
}

int64_t ReceiveSide::next_timeout_ns() const {
  int64_t next = goodbyes_.next_ns();
  if (!end_.is_connected()) return next;
  for (const auto& [message, handle] : handles_) next = std::min(next, handle->cts_at_ns);
  return next;
}

bool ReceiveSide::is_waiting() const {
  if (!goodbyes_.empty()) return true;
  return std::any_of(handles_.begin(), handles_.end(),
                     [](const auto& one) { return one.second->state != State::failed; });
}

}  // namespace sdr::lib
