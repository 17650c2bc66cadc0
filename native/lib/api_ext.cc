// Beyond the published interface: sdr_ext.h.
#include <algorithm>
#include <cstring>

#include "lib/api.h"
#include "lib/link_text.h"

using namespace sdr::lib;

namespace {

constexpr uint32_t kPeerTimeoutMsMax = 3'600'000;

sdr_ext_stats stats_of(const End& end) {
  const sdr::QpCounters counters = end.native->counters();
  const sdr::LinkCounters link = end.native->link_counters();
  const auto step = [&](sdr_step kind) { return counters.steps[kind]; };
  sdr_ext_stats stats{};
  stats.packets_received = step(SDR_STEP_PACKET) + step(SDR_STEP_CHUNK) + step(SDR_STEP_MESSAGE);
  stats.packets_duplicate = step(SDR_STEP_DUPLICATE);
  stats.packets_late = step(SDR_STEP_LATE);
  stats.packets_bad = step(SDR_STEP_BAD_QUEUE) + step(SDR_STEP_BAD_SLOT) +
                      step(SDR_STEP_BAD_PACKET) + step(SDR_STEP_BAD_LENGTH);
  stats.packets_sent = counters.packets_sent;
  stats.bytes_sent = counters.bytes_sent;
  stats.wire_bytes_sent = counters.wire_bytes_sent;
  stats.control_sent = counters.control_sent;
  stats.control_received = counters.control_received;
  stats.control_dropped = counters.control_dropped + end.inbox_dropped;
  stats.datagrams_ignored = counters.malformed + counters.truncated + counters.replayed +
                            counters.bad_checksum + end.frames_malformed;
  stats.send_errors = counters.send_errors;
  stats.link_dropped = link.dropped + link.queue_dropped;
  stats.link_duplicated = link.duplicated;
  stats.link_corrupted = link.corrupted;
  stats.link_reordered = link.reordered;
  return stats;
}

void check_control(const End& end, const sdr_ext_control& control, const void* body) {
  if (control.type < kPolicyKindMin)
    fail(SDR_EXT_INVALID_ARGUMENT,
         "control type " + std::to_string(control.type) + " is not a program's own",
         "use 64 to 255");
  const uint32_t most = end.attributes.packet_bytes() - kFrameHeaderBytes;
  if (control.size > most)
    fail(SDR_EXT_TOO_LARGE, "a control message of " + std::to_string(control.size) + " B",
         "send at most " + std::to_string(most) + " B, or use a larger mtu");
  if (control.size > 0) needed(static_cast<const char*>(body), "body");
}

}  // namespace

// ---- errors ----

sdr_ext_error sdr_ext_error_code(void) { return last_error().code; }
const char* sdr_ext_error_text(void) { return last_error().text.c_str(); }
const char* sdr_ext_error_name(sdr_ext_error code) { return code_name(code); }

// ---- time and waiting ----

int sdr_ext_now_ns(sdr_context* ctx, int64_t* now_ns) {
  return guarded([&] {
    Domain& domain = *needed(ctx, "ctx").domain;
    int64_t& out = needed(now_ns, "now_ns");
    const std::lock_guard lock(domain.mutex);
    out = domain.now_ns();
  });
}

int sdr_ext_wait(sdr_context* ctx, int64_t timeout_ns) {
  bool changed = false;
  const int result = guarded([&] {
    Domain& domain = *needed(ctx, "ctx").domain;
    require(timeout_ns >= 0, "timeout_ns is negative", "use 0 for a look");
    std::unique_lock lock(domain.mutex);
    changed = domain.wait(lock, timeout_ns);
  });
  return result == SDR_SUCCESS && !changed ? SDR_RETRY : result;
}

int sdr_ext_event_fd(sdr_context* ctx, int* fd) {
  return guarded([&] {
    Domain& domain = *needed(ctx, "ctx").domain;
    int& out = needed(fd, "fd");
    const std::lock_guard lock(domain.mutex);
    out = domain.event_fd();
  });
}

// ---- queue pairs ----

int sdr_ext_qp_connect(sdr_qp* qp, const void* info, size_t info_size) {
  return error_not_retry(guarded([&] {
    End& end = needed(qp, "qp").end;
    const char* const text = &needed(static_cast<const char*>(info), "info");
    const std::lock_guard lock(end.domain.mutex);
    end.connect(text, info_size);
  }));
}

int sdr_ext_qp_connected(sdr_qp* qp) {
  bool connected = false;
  const int result = guarded([&] {
    End& end = needed(qp, "qp").end;
    const std::lock_guard lock(end.domain.mutex);
    end.check_usable();
    if (end.is_connecting() && end.domain.limits().is_virtual) end.domain.step(kNever);
    end.check_usable();
    connected = end.is_connected();
  });
  return result == SDR_SUCCESS && !connected ? SDR_RETRY : error_not_retry(result);
}

int sdr_ext_qp_rtt_ns(sdr_qp* qp, int64_t* rtt_ns) {
  return guarded([&] {
    End& end = needed(qp, "qp").end;
    int64_t& out = needed(rtt_ns, "rtt_ns");
    const std::lock_guard lock(end.domain.mutex);
    out = end.path.rtt_ns();
  });
}

int sdr_ext_qp_peer_timeout(sdr_qp* qp, uint32_t milliseconds) {
  return guarded([&] {
    End& end = needed(qp, "qp").end;
    require(milliseconds >= 1 && milliseconds <= kPeerTimeoutMsMax, "the peer timeout is not valid",
            "use 1 to 3600000 ms");
    const std::lock_guard lock(end.domain.mutex);
    end.set_peer_timeout(int64_t{1'000'000} * milliseconds);
    end.domain.rearm();
  });
}

int sdr_ext_link_set(sdr_qp* qp, const char* text) {
  return guarded([&] {
    End& end = needed(qp, "qp").end;
    const sdr::LinkConfig link = parse_link(&needed(text, "text"));
    const std::lock_guard lock(end.domain.mutex);
    end.set_link(link);
  });
}

int sdr_ext_stats_get(sdr_qp* qp, sdr_ext_stats* stats, size_t stats_size) {
  return guarded([&] {
    End& end = needed(qp, "qp").end;
    auto* const out = reinterpret_cast<char*>(&needed(stats, "stats"));
    const std::lock_guard lock(end.domain.mutex);
    const sdr_ext_stats now = stats_of(end);
    const size_t known = std::min(stats_size, sizeof now);
    std::memcpy(out, &now, known);
    std::memset(out + known, 0, stats_size - known);
  });
}

// ---- messages ----

int sdr_ext_recv_info_get(sdr_recv_handle* handle, sdr_ext_recv_info* info) {
  return guarded([&] {
    sdr_recv_handle& given = needed(handle, "handle");
    sdr_ext_recv_info& out = needed(info, "info");
    require(given.outcome.load(std::memory_order_acquire) != Outcome::released,
            "the receive handle is gone already", "");
    End& end = *given.end;
    if (!given.complete.load(std::memory_order_acquire)) let_time_pass(end.domain);
    const std::lock_guard lock(end.domain.mutex);
    const bool complete = given.complete.load();
    if (given.state == sdr_recv_handle::State::failed && !complete) throw Failure(given.error);
    const uint64_t bytes = given.bytes.load(), chunk = end.attributes.chunk_bytes();
    out = {};
    out.message = given.message;
    out.chunks = static_cast<uint32_t>((bytes + chunk - 1) / chunk);
    out.chunks_done = complete ? out.chunks : end.receives.chunks_done(given);
    out.length_known = given.length_known.load() ? 1 : 0;
    out.complete = complete ? 1 : 0;
    out.length = out.length_known ? bytes : 0;
  });
}

int sdr_ext_send_info_get(sdr_send_handle* handle, sdr_ext_send_info* info) {
  return guarded([&] {
    sdr_send_handle& given = needed(handle, "handle");
    sdr_ext_send_info& out = needed(info, "info");
    require(given.outcome.load(std::memory_order_acquire) != Outcome::released,
            "the send handle is gone already", "");
    End& end = *given.end;
    if (given.outcome.load() == Outcome::pending) let_time_pass(end.domain);
    const std::lock_guard lock(end.domain.mutex);
    if (given.state == sdr_send_handle::State::failed) throw Failure(given.error);
    out = {};
    out.message = given.message;
    out.ready = given.state != sdr_send_handle::State::waiting ? 1 : 0;
    out.length = given.length_known ? given.bytes : 0;
  });
}

// ---- control messages ----

int sdr_ext_control_size_max(sdr_qp* qp, uint32_t* size) {
  return guarded([&] {
    needed(size, "size") = needed(qp, "qp").end.attributes.packet_bytes() - kFrameHeaderBytes;
  });
}

int sdr_ext_control_send(sdr_qp* qp, const sdr_ext_control* control, const void* body) {
  if (qp == nullptr) return guarded([&] { needed(qp, "qp"); });
  return guarded_on(qp->end.domain, [&] {
    const sdr_ext_control& given = needed(control, "control");
    check_control(qp->end, given, body);
    const auto* const bytes = static_cast<const uint8_t*>(body);
    qp->end.send_control(
        {given.type, given.message, std::vector<uint8_t>(bytes, bytes + given.size)});
  });
}

int sdr_ext_control_recv(sdr_qp* qp, sdr_ext_control* control, void* body, size_t capacity) {
  bool empty = false;
  const int result = guarded([&] {
    End& end = needed(qp, "qp").end;
    sdr_ext_control& out = needed(control, "control");
    const std::lock_guard lock(end.domain.mutex);
    if (end.inbox.empty() && end.domain.limits().is_virtual) end.domain.step(kNever);
    if (end.inbox.empty()) {
      end.check_usable();
      empty = true;
      return;
    }
    const Control& first = end.inbox.front();
    out = {first.type, first.message, static_cast<uint32_t>(first.body.size())};
    if (first.body.size() > capacity)
      fail(SDR_EXT_TOO_LARGE,
           "the control message has " + std::to_string(first.body.size()) +
               " B, there is room for " + std::to_string(capacity),
           "give sdr_ext_control_size_max bytes");
    if (!first.body.empty())
      std::memcpy(&needed(static_cast<char*>(body), "body"), first.body.data(), first.body.size());
    end.inbox.pop_front();
  });
  return result == SDR_SUCCESS && empty ? SDR_RETRY : error_not_retry(result);
}
