#include "lib/send_side.h"

#include <algorithm>

#include "lib/end.h"

namespace sdr::lib {
namespace {

constexpr size_t kFailuresMax = 4096, kRefusalsMax = 4096;
constexpr size_t kPendingMax = 256;  // ranges of one message before its receiver is ready
// START is sent several times, this part of a round trip apart: nothing but the end of the CTSs
// answers it.
constexpr int kStartCopies = 3;
constexpr int kStartsPerRtt = 32;

using State = sdr_send_handle::State;

std::string number(uint64_t value) { return std::to_string(value); }

}  // namespace

// ---- calls of the program ----

sdr_send_handle& SendSide::start(const Options& options) {
  end_.check_usable();
  const sdr_geometry& geometry = end_.attributes.geometry;
  if (!end_.attributes.send_enabled)
    fail(SDR_EXT_UNSUPPORTED, "this queue pair does not send", "create it with send_enable");
  if (options.bytes > geometry.max_message_bytes)
    fail(SDR_EXT_TOO_LARGE,
         "a message of " + number(options.bytes) + " B is above the " +
             number(geometry.max_message_bytes) + " B of this queue pair",
         "raise max_in_flight_log_bytes (or lower max_log_num_msgs), or send several messages");
  if (goodbyes_.is_full())
    fail(SDR_EXT_BUSY, "the peer has not confirmed the end of too many sends", "wait until it has");
  if (next_ >= geometry.slots && handles_.contains(next_ - geometry.slots))
    fail(SDR_EXT_BUSY, "all " + number(geometry.slots) + " send slots are in use",
         "poll an earlier send, or raise max_log_num_msgs");
  sdr_send_handle& handle = pool_.take();
  handle.end = &end_;
  handle.state = State::waiting;
  handle.message = next_;
  handle.length_known = options.length_known;
  handle.bytes = options.bytes;
  handle.has_immediate = options.has_immediate;
  handle.immediate = options.has_immediate ? options.immediate : 0;
  handle.ending = false;
  handle.pending.clear();
  handle.outstanding = 0;
  handle.starts_left = -1;
  handle.start_at_ns = kNever;
  handle.error = {};
  handle.outcome.store(Outcome::pending);
  end_.begin_waiting();
  handles_[next_++] = &handle;
  if (const auto refusal = refusals_.find(handle.message); refusal != refusals_.end()) {
    const Error error = refusal->second;
    refusals_.erase(refusal);
    fail_handle(handle, error);
  }
  return handle;
}

void SendSide::check_range(const sdr_send_handle& handle, const Range& range) const {
  const uint64_t chunk_bytes = end_.attributes.chunk_bytes();
  const uint64_t begin = range.chunk * chunk_bytes;
  if (begin < handle.bytes && range.bytes <= handle.bytes - begin &&
      (range.bytes % chunk_bytes == 0 || begin + range.bytes == handle.bytes))
    return;
  fail(SDR_EXT_INVALID_ARGUMENT,
       number(range.bytes) + " B at chunk " + number(range.chunk) +
           " are not whole chunks within the message's " + number(handle.bytes) + " B",
       "send multiples of " + number(chunk_bytes) +
           " B, or up to the message's end; a streaming send is as long as its "
           "receive unless sdr_ext_streaming_send_start says otherwise");
}

void SendSide::add(sdr_send_handle& handle, Range range) {
  if (handle.state == State::failed) throw Failure(handle.error);
  if (handle.ending)
    fail(SDR_EXT_CLOSED, "message " + number(handle.message) + " takes no more data",
         "post before its end");
  if (range.bytes == 0) fail(SDR_EXT_INVALID_ARGUMENT, "a range of 0 B", "send at least a byte");
  if (handle.length_known) check_range(handle, range);
  if (handle.state == State::open) {
    // Behind what waits already: ranges go in the order in which they were posted.
    if (handle.pending.empty() && post(handle, range)) return;
    fail(SDR_EXT_BUSY, "all " + number(End::kWorkRequestsMax) + " work requests are in use",
         "poll, and try again");
  }
  if (handle.pending.size() >= kPendingMax)
    fail(SDR_EXT_BUSY,
         "the receiver is not ready, and " + number(kPendingMax) + " ranges wait already",
         "try again");
  handle.pending.push_back(std::move(range));
}

void SendSide::finish(sdr_send_handle& handle) {
  if (handle.state == State::failed) throw Failure(handle.error);
  handle.ending = true;
  // The CTS may have come before the send was posted; by now all of it is there.
  const auto clearance = clearances_.find(handle.message);
  if (handle.state == State::waiting && clearance != clearances_.end()) {
    const Frame cts = clearance->second;
    handle_cts(cts, end_.domain.now_ns());
  } else {
    settle(handle);
  }
}

// ---- events ----

void SendSide::handle_injected(uint32_t work_request) {
  const auto found = work_.find(work_request);
  if (found == work_.end()) return;  // its message was closed meanwhile
  sdr_send_handle& handle = *found->second.handle;
  work_.erase(found);
  handle.outstanding--;
  settle(handle);
}

void SendSide::handle_cts(const Frame& frame, int64_t now_ns) {
  const auto found = handles_.find(frame.message);
  if (found == handles_.end()) {
    const uint32_t ahead = frame.message - next_;
    if (frame.message >= next_) {
      if (ahead < end_.attributes.geometry.slots)
        clearances_.insert_or_assign(frame.message, frame);
    } else if (const auto ended = ended_.find(frame.message); ended != ended_.end()) {
      write_start(frame.message, ended->second);
    } else {
      answer(frame.message);
    }
    return;
  }
  sdr_send_handle& handle = *found->second;
  if (handle.state == State::waiting) {
    try {
      open(handle, frame);
    } catch (const Failure& failure) {
      abort(handle, failure.error(), now_ns);
      return;
    }
  }
  write_start(handle);
  if (handle.starts_left < 0) plan_start(handle, kStartCopies - 1, now_ns);
  pump(handle);
  settle(handle);
}

// The receiver is ready. Throws Failure when the two do not go together.
void SendSide::open(sdr_send_handle& handle, const Frame& cts) {
  const std::string message = "message " + number(handle.message);
  if (!cts.policy.empty())
    fail(SDR_EXT_PEER_INCOMPATIBLE,
         "the receiver of " + message + " uses policy \"" + cts.policy + "\", this sender none",
         "post a receive without a policy");
  if (!handle.length_known) {
    handle.bytes = cts.value;
    handle.length_known = true;
  }
  if (handle.bytes > cts.value)
    fail(SDR_EXT_TOO_LARGE,
         message + " has " + number(handle.bytes) + " B, the receiver posted " + number(cts.value),
         "post a larger receive");
  for (const Range& range : handle.pending) check_range(handle, range);
  sdr_status status = end_.native->open_send(handle.message, handle.bytes, handle.immediate);
  if (status == SDR_TOO_LARGE)
    fail(SDR_EXT_TOO_LARGE,
         "a message as long as its receive, " + number(handle.bytes) + " B, is too long here",
         "raise max_in_flight_log_bytes");
  if (status != SDR_OK)
    fail(SDR_EXT_ENVIRONMENT, message + " was refused (status " + number(status) + ")", "");
  handle.state = State::open;
  status = end_.native->accept_grant(handle.message, cts.body.data(), cts.body.size());
  if (status != SDR_OK)
    fail(SDR_EXT_PEER_INCOMPATIBLE, "what the receiver of " + message + " grants is not understood",
         "use the same release at both ends");
}

void SendSide::handle_close(uint32_t message, const Error& reason) {
  goodbyes_.confirm(message);
  if (message >= next_) {
    if (refusals_.size() >= kRefusalsMax) return;
    refusals_.insert_or_assign(message, reason);
    clearances_.erase(message);
  }
  const auto found = handles_.find(message);
  if (found != handles_.end()) {
    // One that has begun goes on when its receive is completed early; nothing is waited for.
    const bool goes_on = reason.code == SDR_EXT_CLOSED && found->second->state == State::open;
    if (!goes_on) fail_handle(*found->second, reason);
  }
  end_.writer.write(done_frame(message));
}

void SendSide::fail_all(const Error& error) {
  while (!handles_.empty()) fail_handle(*handles_.begin()->second, error);
  goodbyes_.clear();
}

// The receiver still talks of a message that has ended here otherwise than well, or too long ago.
void SendSide::answer(uint32_t message) {
  if (const auto failed = failures_.find(message); failed != failures_.end()) {
    if (end_.is_connected()) end_.writer.write(close_frame(Scope::send, message, failed->second));
    return;
  }
  end_.writer.write(done_frame(message));
  end_.writer.write(close_frame(Scope::send, message, SDR_EXT_ABORTED));
}

// ---- progress ----

void SendSide::write_start(uint32_t message, const Ended& facts) {
  Frame frame;
  frame.kind = static_cast<uint8_t>(FrameKind::start);
  frame.message = message;
  frame.value = facts.bytes;
  frame.has_immediate = facts.has_immediate;
  frame.immediate = facts.immediate;
  end_.writer.write(std::move(frame));
}

void SendSide::write_start(const sdr_send_handle& handle) {
  write_start(handle.message, {handle.bytes, handle.has_immediate, handle.immediate});
}

void SendSide::plan_start(sdr_send_handle& handle, int copies, int64_t now_ns) {
  handle.starts_left = copies;
  handle.start_at_ns = copies > 0 ? now_ns + end_.path.rtt_ns() / kStartsPerRtt + 1 : kNever;
}

// False: the transport has no room now.
bool SendSide::post(sdr_send_handle& handle, Range& range) {
  const sdr_status status =
      end_.native->post_send(handle.message, next_work_, range.hold.memory()->region, range.offset,
                             range.chunk, range.bytes);
  if (status == SDR_BUSY) return false;
  if (status == SDR_NO_MEMORY) throw Failure(end_.domain.refusal(*end_.native));
  if (status != SDR_OK)
    fail(SDR_EXT_INVALID_ARGUMENT,
         "the transport refused " + number(range.bytes) + " B at chunk " + number(range.chunk) +
             " (status " + number(status) + ")",
         "check the work request");
  work_.insert_or_assign(next_work_++, Work{&handle, std::move(range.hold)});
  handle.outstanding++;
  return true;
}

void SendSide::pump(sdr_send_handle& handle) {
  if (handle.state != State::open) return;
  // Often on the device's own thread, where nobody else would catch it.
  try {
    while (!handle.pending.empty() && post(handle, handle.pending.front()))
      handle.pending.pop_front();
  } catch (const Failure& failure) {
    abort(handle, failure.error(), end_.domain.now_ns());
  }
}

// Ends a message of which everything is injected.
void SendSide::settle(sdr_send_handle& handle) {
  if (handle.state != State::open || !handle.ending || handle.outstanding > 0 ||
      !handle.pending.empty())
    return;
  handle.state = State::ended;
  end_.native->close_send(handle.message);
  keep(ended_, handle.message, Ended{handle.bytes, handle.has_immediate, handle.immediate},
       2 * size_t{end_.attributes.geometry.slots});
  // Its further STARTs answer CTSs, from what is kept.
  clearances_.erase(handle.message);
  handles_.erase(handle.message);
  handle.outcome.store(Outcome::done, std::memory_order_release);
}

void SendSide::abort(sdr_send_handle& handle, const Error& error, int64_t now_ns) {
  if (end_.is_connected()) goodbyes_.add(handle.message, error.code, now_ns);
  fail_handle(handle, error);
}

void SendSide::fail_handle(sdr_send_handle& handle, const Error& error) {
  if (handle.state == State::open) end_.native->close_send(handle.message);
  handle.state = State::failed;
  handle.error = error;
  handle.pending.clear();
  std::erase_if(work_, [&](const auto& one) { return one.second.handle == &handle; });
  keep(failures_, handle.message, error.code, kFailuresMax);
  clearances_.erase(handle.message);
  handles_.erase(handle.message);
  handle.outcome.store(Outcome::failed, std::memory_order_release);
}

void SendSide::flush(int64_t now_ns) {
  goodbyes_.flush(end_.writer, now_ns, end_.repeat_ns());
  for (auto it = handles_.begin(); it != handles_.end();) {
    sdr_send_handle& handle = *(it++)->second;  // it may end in here
    if (handle.state == State::waiting) {
      const auto clearance = clearances_.find(handle.message);
      if (clearance != clearances_.end()) {
        const Frame cts = clearance->second;
        handle_cts(cts, now_ns);
      }
      continue;
    }
    if (handle.start_at_ns <= now_ns) {
      write_start(handle);
      plan_start(handle, handle.starts_left - 1, now_ns);
    }
    pump(handle);
    settle(handle);
  }
}

int64_t SendSide::next_timeout_ns() const {
  int64_t next = goodbyes_.next_ns();
  for (const auto& [message, handle] : handles_) next = std::min(next, handle->start_at_ns);
  return next;
}

}  // namespace sdr::lib
