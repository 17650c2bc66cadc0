#include "lib/end.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "lib/error.h"

namespace sdr::lib {
namespace {

constexpr int kInfoVersion = 1;
constexpr int64_t kRepeatNsMin = 10'000'000, kRepeatNsMinVirtual = 100'000;
constexpr int64_t kCloseLingerNsMin =
    2'000'000;                   // from the first CLOSE on, for all of them to leave
constexpr int kCloseCopies = 3;  // nobody answers the connection's CLOSE
constexpr int64_t kCloseOutNsMax =
    2'000'000'000;  // after the last, for all that was sent to leave this end
constexpr size_t kInboxMax = 1024;
constexpr uint64_t kBytesMax = uint64_t{1} << 53;

struct Agreed {
  const char* name;
  uint64_t value;
};

// What both ends must have alike, besides the split.
std::array<Agreed, 4> agreed(const Attributes& attributes) {
  return {{{"packetBytes", attributes.packet_bytes()},
           {"chunkBytes", attributes.chunk_bytes()},
           {"maxMessages", attributes.geometry.slots},
           {"generations", attributes.geometry.generations}}};
}

std::string split_text(const sdr_split& split) {
  return "[" + std::to_string(split.message_bits) + "," + std::to_string(split.packet_bits) + "," +
         std::to_string(split.user_bits) + "]";
}

[[noreturn]] void incompatible(const std::string& what) {
  fail(SDR_EXT_PEER_INCOMPATIBLE, what, "create both queue pairs with the same attributes");
}

void check_agreed(const Json& info, const Attributes& own) {
  for (const Agreed& one : agreed(own)) {
    const Json* theirs = info.find(one.name);
    const auto value = theirs != nullptr ? theirs->whole(0, kBytesMax) : std::nullopt;
    if (!value || *value != static_cast<double>(one.value))
      incompatible(std::string("the peer has ") + one.name + " " +
                   (value ? std::to_string(static_cast<uint64_t>(*value)) : "unknown") +
                   ", this end " + std::to_string(one.value));
  }
  const Json* split = info.find("split");
  std::string theirs = "[";
  if (split != nullptr)
    for (const Json& bits : split->items)
      theirs += (theirs.size() > 1 ? "," : "") +
                std::to_string(static_cast<int>(bits.whole(0, 32).value_or(-1)));
  theirs += "]";
  if (theirs != split_text(own.geometry.split))
    incompatible("the peer has split " + theirs + ", this end " + split_text(own.geometry.split));
}

QpConfig to_config(const Attributes& attributes) {
  QpConfig config;
  config.geometry = attributes.geometry;
  config.rate_bps = attributes.rate_bps;
  config.work_requests_max = End::kWorkRequestsMax;
  return config;
}

Error closed_here() { return make_error(SDR_EXT_CLOSED, "the queue pair was destroyed", ""); }

}  // namespace

Error peer_gave_up(const Frame& close) {
  const Code code = code_of(close.reason);
  return make_error(
      code,
      "the peer gave up message " + std::to_string(close.message) + " (" + code_name(code) + ")",
      "see the peer's own error");
}

End::End(Domain& on, const Attributes& with, const LinkConfig& link, uint64_t seed,
         int64_t peer_timeout_ns)
    : domain(on),
      attributes(with),
      native(on.create_qp(to_config(with))),
      writer(*native, with.packet_bytes()),
      link_(link),
      seed_(seed) {
  watch_.timeout_ns = peer_timeout_ns;
  domain.add(*this);
}

End::~End() {
  domain.remove(*this);
  domain.destroy_qp(*native);
}

// ---- connecting ----

std::string End::info() const {
  std::string text = R"({"sdr":)" + std::to_string(kInfoVersion);
  for (const Agreed& one : agreed(attributes))
    text += ",\"" + std::string(one.name) + "\":" + std::to_string(one.value);
  text += R"(,"split":)" + split_text(attributes.geometry.split);
  text += R"(,"receiveBufferBytes":)" + std::to_string(domain.limits().receive_buffer_bytes);
  text += R"(,"transport":)" + domain.info(*native) + "}";
  text.resize(std::max(kInfoBytes, text.size()), ' ');
  return text;
}

void End::connect(const char* info, size_t size) {
  check_not_failed();
  require(state_ == State::created, "the queue pair is connected already",
          "make a new one for another peer");
  const auto read = read_json(info, std::min(size, kInfoBytes), nullptr);
  const Json* version = read ? read->find("sdr") : nullptr;
  const Json* transport = read ? read->find("transport") : nullptr;
  if (version == nullptr || transport == nullptr)
    fail(SDR_EXT_PEER_INCOMPATIBLE, "the peer's info is not readable",
         "pass what the peer's sdr_qp_info_get gave");
  if (version->number != kInfoVersion)
    fail(SDR_EXT_PEER_INCOMPATIBLE, "the peer's info is of another version",
         "use the same release at both ends");
  check_agreed(*read, attributes);
  domain.connect(*native, *transport, link_, seed_);
  state_ = State::connecting;
  const int64_t now = domain.now_ns();
  watch_.heard(now);
  ping(now);
  act();
}

void End::ping(int64_t now_ns) {
  watch_.pinged(now_ns);
  writer.write(ping_frame(FrameKind::ping, static_cast<uint64_t>(now_ns), 0));
  if (watch_.is_connected()) return;
  writer.flush();  // the small one in a datagram of its own; the full one proves the path's MTU
  writer.write(ping_frame(FrameKind::ping, static_cast<uint64_t>(now_ns),
                          attributes.packet_bytes() - kPingFixedBytes));
}

void End::set_link(const LinkConfig& link) {
  check_not_failed();
  link_ = link;
  if (state_ != State::created) native->set_link(link);
}

void End::check_not_failed() const {
  if (failure_.code != SDR_EXT_NONE) throw Failure(failure_);
}

void End::check_usable() const {
  check_not_failed();
  require(state_ != State::created, "the queue pair is not connected", "call sdr_qp_connect first");
}

int64_t End::repeat_ns() const {
  const int64_t least = domain.limits().is_virtual ? kRepeatNsMinVirtual : kRepeatNsMin;
  return std::max(least, path.rtt_ns() + path.rtt_ns() / 2);
}

// ---- events ----

void End::handle_progress(uint32_t message, bool complete, int64_t now_ns) {
  watch_.heard(now_ns);
  receives.handle_progress(message, complete);
}

void End::handle_transport_error(int number) {
  const std::string why = domain.failure(*native);
  fail_with(make_error(SDR_EXT_ENVIRONMENT,
                       "the transport failed: " + (why.empty() ? std::strerror(number) : why),
                       "check the machine's network"));
}

void End::handle_control(const uint8_t* bytes, size_t size, int64_t now_ns) {
  watch_.heard(now_ns);
  has_heard_ = true;
  bool malformed = false;
  std::vector<Frame> frames = decode_frames(bytes, size, &malformed);
  if (malformed) frames_malformed++;
  for (Frame& frame : frames) {
    if (state_ == State::closed) return;
    if (replays_.accept(frame.sequence)) handle_frame(frame, now_ns);
  }
}

void End::handle_frame(Frame& frame, int64_t now_ns) {
  if (frame.kind >= kPolicyKindMin) {
    if (inbox.size() < kInboxMax)
      inbox.push_back({frame.kind, frame.message, std::move(frame.body)});
    else
      inbox_dropped++;
    return;
  }
  switch (static_cast<FrameKind>(frame.kind)) {
    case FrameKind::ping:
      writer.write(ping_frame(FrameKind::pong, frame.value, frame.padding));
      break;
    case FrameKind::pong: {
      const int64_t rtt_ns = now_ns - static_cast<int64_t>(frame.value);
      if (rtt_ns < 0 || rtt_ns > kRttMaxNs) break;
      path.sample(rtt_ns);
      watch_.ponged(frame.padding > 0);
      if (state_ == State::connecting && watch_.is_connected()) state_ = State::connected;
      break;
    }
    case FrameKind::cts:
      sends.handle_cts(frame, now_ns);
      break;
    case FrameKind::start:
      receives.handle_start(frame, now_ns);
      break;
    case FrameKind::done:
      receives.handle_done(frame.message);
      break;
    case FrameKind::close:
      if (frame.scope == Scope::receive)
        sends.handle_close(frame.message, peer_gave_up(frame));
      else if (frame.scope == Scope::send)
        receives.handle_close(frame.message, peer_gave_up(frame));
      else if (state_ == State::closing)
        shut();
      else
        fail_with(make_error(SDR_EXT_PEER_CLOSED, "the peer closed the connection", ""));
      break;
    default:
      break;  // ACK and NACK are policies', and there is none here
  }
}

bool End::handle_timeout(int64_t now_ns) {
  if (!is_waiting()) return false;
  watch_.heard(native->last_heard_ns());
  watch_.look(now_ns);
  if (watch_.is_silent(now_ns)) {
    fail_with(unreachable());
    return true;
  }
  if (watch_.is_ping_due(now_ns)) ping(now_ns);
  return false;
}

Error End::unreachable() const {
  const std::string bytes = std::to_string(attributes.packet_bytes());
  if (!watch_.is_connected() && watch_.has_small_pong())
    return make_error(SDR_EXT_PEER_UNREACHABLE,
                      "packets of " + bytes + " B do not get through, small ones do",
                      "use a smaller mtu: the path's is lower");
  return make_error(
      SDR_EXT_PEER_UNREACHABLE,
      "nothing was heard from the peer for " + std::to_string(watch_.timeout_ns / 1'000'000) +
          " ms",
      "check that it runs, has this end's info, and that the path lets packets through; or raise "
      "sdr_ext_qp_peer_timeout");
}

// The peer owes something: its silence counts.
bool End::is_waiting() const {
  if (state_ == State::connecting) return domain.has_peer(*native);
  return state_ == State::connected && (sends.is_waiting() || receives.is_waiting());
}

void End::begin_waiting() {
  if (!is_waiting()) watch_.heard(domain.now_ns());
}

int64_t End::next_timeout_ns() const {
  if (state_ == State::created || state_ == State::closed) return kNever;
  int64_t next = close_at_ns_;
  if (state_ == State::closing) return next;
  next = std::min({next, sends.next_timeout_ns(), receives.next_timeout_ns()});
  return is_waiting() ? std::min(next, watch_.next_ns()) : next;
}

void End::flush(int64_t now_ns) {
  if (state_ == State::closed) return;
  if (state_ != State::created && state_ != State::closing) {
    receives.flush(now_ns);
    sends.flush(now_ns);
  }
  writer.flush();
  if (state_ == State::closing) proceed_close(now_ns);
}

void End::act() {
  flush(domain.now_ns());
  domain.rearm();
}

void End::send_control(Control control) {
  check_usable();
  Frame frame;
  frame.kind = control.type;
  frame.message = control.message;
  frame.body = std::move(control.body);
  writer.flush();
  if (!writer.write(std::move(frame)))
    fail(SDR_EXT_TOO_LARGE, "the control message is larger than a packet", "");
  const sdr_status status = writer.flush();
  if (status == SDR_BUSY)
    fail(SDR_EXT_BUSY, "the transport has no room for control messages now", "try again");
  if (status != SDR_OK)
    fail(SDR_EXT_INVALID_ARGUMENT, "the control message was refused", "connect both ends first");
}

// ---- ending ----

void End::fail_with(const Error& error) {
  if (state_ == State::closing || state_ == State::closed) return;
  // A peer that is only slow to answer need not find out by waiting.
  if (state_ == State::connected && error.code != SDR_EXT_PEER_CLOSED) {
    begin_closing(error);
    return;
  }
  failure_ = error;
  sends.fail_all(error);
  receives.fail_all(error);
  shut();
}

void End::begin_closing(const Error& error) {
  failure_ = error;
  sends.fail_all(error);
  receives.fail_all(error);
  state_ = State::closing;
  close_at_ns_ = domain.now_ns();
  act();
}

void End::proceed_close(int64_t now_ns) {
  if (now_ns < close_at_ns_) return;
  const int64_t linger_ns = kCloseLingerNsMin + path.rtt_ns() + path.rtt_ns() / 2;
  close_at_ns_ = now_ns + linger_ns / kCloseCopies;
  if (closes_sent_ < kCloseCopies) {
    closes_sent_++;
    close_until_ns_ = now_ns + kCloseOutNsMax;
    writer.write(close_frame(Scope::connection, 0, failure_.code));
    writer.flush();
    return;
  }
  // The transport's own thread may not have come to run, or the link may delay it.
  if (native->counters().control_waiting == 0 || now_ns >= close_until_ns_) shut();
}

void End::shut() {
  state_ = State::closed;
  close_at_ns_ = kNever;
  shut_condition_.notify_all();
}

void End::close(std::unique_lock<std::mutex>& lock) {
  // A peer that was heard may be connected, and all have been sent and received, before this end
  // knows its path.
  const bool has_met = state_ == State::connecting && has_heard_;
  if (state_ == State::connected || has_met) begin_closing(closed_here());
  while (state_ == State::closing) {
    if (domain.limits().is_virtual) {
      if (!domain.step(kNever)) break;
    } else {
      shut_condition_.wait(lock);
    }
  }
  if (state_ != State::closed) shut();
}

}  // namespace sdr::lib
