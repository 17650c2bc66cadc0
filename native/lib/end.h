// One end of a connection: it connects, watches that the peer is there, tells frames of its two
// directions apart, and closes in good order. What src/sdk/queue-pair.ts does, and it speaks the
// same protocol. All of it under the domain's mutex.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>

#include "lib/attributes.h"
#include "lib/path.h"
#include "lib/receive_side.h"
#include "lib/send_side.h"
#include "lib/writer.h"

namespace sdr::lib {

// A program's own control message.
struct Control {
  uint8_t type = 0;
  uint32_t message = 0;
  std::vector<uint8_t> body;
};

class End {
 public:
  static constexpr size_t kInfoBytes = 8192;  // of every queue pair, padded
  static constexpr uint32_t kWorkRequestsMax = 4096;

  // Throws Failure.
  End(Domain& domain, const Attributes& attributes, const LinkConfig& link, uint64_t seed,
      int64_t peer_timeout_ns);
  ~End();
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  Domain& domain;
  sdr_context* context = nullptr;  // whose memory its handles name
  const Attributes attributes;
  QueuePair* const native;
  FrameWriter writer;
  RoundTrip path;
  SendSide sends{*this};
  ReceiveSide receives{*this};

  std::string info() const;  // kInfoBytes of text
  void connect(const char* info, size_t size);
  // Ends the connection and waits until the peer has been told; `lock` holds the mutex.
  void close(std::unique_lock<std::mutex>& lock);
  bool is_connected() const { return state_ == State::connected; }
  bool is_connecting() const { return state_ == State::connecting; }
  // Throws what ended it, or that it has no peer.
  void check_usable() const;
  void check_not_failed() const;
  void set_link(const LinkConfig& link);
  void set_peer_timeout(int64_t ns) { watch_.timeout_ns = ns; }
  // Sends what is due, after a call of the program.
  void act();
  // Waiting for the peer begins: its silence counts from now.
  void begin_waiting();
  // No control message is repeated sooner than this.
  int64_t repeat_ns() const;

  void send_control(Control control);
  std::deque<Control> inbox;

  // Events, from the domain.
  void handle_injected(uint32_t work_request) { sends.handle_injected(work_request); }
  void handle_progress(uint32_t message, bool complete, int64_t now_ns);
  void handle_control(const uint8_t* bytes, size_t size, int64_t now_ns);
  void handle_transport_error(int number);
  bool handle_timeout(int64_t now_ns);
  void flush(int64_t now_ns);
  int64_t next_timeout_ns() const;

  uint64_t inbox_dropped = 0, frames_malformed = 0;

 private:
  enum class State : uint8_t { created, connecting, connected, closing, closed };

  void handle_frame(Frame& frame, int64_t now_ns);
  void ping(int64_t now_ns);
  bool is_waiting() const;
  Error unreachable() const;
  void fail_with(const Error& error);
  void begin_closing(const Error& error);
  void proceed_close(int64_t now_ns);
  void shut();

  LinkConfig link_;
  const uint64_t seed_;
  State state_ = State::created;
  Error failure_;  // why it ended; none while it has not
  PeerWatch watch_;
  bool has_heard_ = false;  // anything from the peer
  ReplayWindow replays_;
  int closes_sent_ = 0;
  int64_t close_at_ns_ = kNever, close_until_ns_ = kNever;
  std::condition_variable shut_condition_;
};

// The error of a message or connection that the peer ended.
Error peer_gave_up(const Frame& close);

// Notes `value` of a message; beyond `most`, the earliest message is forgotten.
template <class Value>
void keep(std::map<uint32_t, Value>& map, uint32_t message, Value value, size_t most) {
  map.insert_or_assign(message, std::move(value));
  if (map.size() > most) map.erase(map.begin());
}

}  // namespace sdr::lib
