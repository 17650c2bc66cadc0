// A lane is what one queue pair has on one channel: its share of the work requests, its packets under way on the
// link, its counters. Only the channel's thread touches it, but for the inbox. What the lanes of a queue pair share
// is in Shared.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "sdr/udp.h"
#include "transport/udp_batch.h"
#include "transport/udp_delay.h"
#include "transport/udp_wire.h"

namespace sdr::udp {

// What all parts of a context see.
struct Environment {
  EventQueue events;
  std::function<void()> wake;
  std::atomic<uint64_t> unknown_datagrams{0};
  int64_t start_ns = 0;

  int64_t now_ns() const;
  void push(const Event& event) {
    if (events.push(event)) wake();
  }
};

// A number written by one thread and read by any.
class Counter {
 public:
  void add(uint64_t n) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

struct LaneCounters {
  Counter packets_sent, bytes_sent, wire_bytes_sent, control_sent;
  Counter control_received, control_dropped;
  Counter bad_checksum, truncated, replayed, malformed, late, send_errors;
  Counter clear_by_kind[kPacketKinds], clear_bytes;  // went past a clear link, unseen by it
};

// One open send; shared with its work requests, which are dropped once it is closed.
struct OpenSend {
  uint32_t message = 0;
  uint64_t bytes = 0;
  uint32_t user_immediate = 0;
  std::atomic<bool> closed{false};
};

struct WorkRequest {
  uint32_t id = 0;
  std::shared_ptr<OpenSend> send;
  RegionRef region;
  const uint8_t* data = nullptr;  // of packet first_packet
  uint32_t first_packet = 0;
  uint64_t cut_bytes = 0;  // by which its packets are cut: the message's, or no end for parity
  std::atomic<uint32_t> lanes_left{0};
  std::atomic<bool> dropped{false};
};

// A lane's share of a work request, or one control datagram. Counted by hand: once while it waits, once for each
// delayed descriptor, once for each batch it has packets in.
struct Parcel {
  std::shared_ptr<WorkRequest> request;  // null: control
  std::unique_ptr<uint8_t[]> control;
  uint32_t control_bytes = 0;
  PacketKind kind = PacketKind::data;
  int64_t ready_ns = 0;               // when it was posted
  uint32_t next_packet = 0, end = 0;  // next_packet goes up by the number of channels
  uint32_t references = 1;
};

// What a queue pair's lanes share.
struct Shared {
  Environment* environment = nullptr;
  uint32_t id = 0;
  sdr_geometry geometry{};
  sdr_rx* rx = nullptr;
  uint64_t receive_key = 0, send_key = 0;
  double rate_bps = 0;
  std::atomic<int64_t> last_heard_ns{0};
  std::atomic<uint32_t> work_requests{0}, controls{0};  // posted and not yet injected
  std::atomic<bool> error_reported{false};
  std::unique_ptr<std::atomic<uint32_t>[]> progress_marks;  // by slot: the message whose event waits

  std::atomic<bool> direct{false};  // neither link nor pacing has a say: the lock is not taken
  mutable std::mutex link_mutex;    // guards all below
  std::optional<Link> link;
  double pace_next_ns = 0;
  int64_t last_offer_ns = 0;

  // Whether a datagram that was ready at `ready_ns` may be offered to the link now: *at_ns is then the time to offer
  // it at (late by no fault of the sender's clock: a thread that woke late makes up for it), else when to ask again.
  bool admit(int64_t now_ns, int64_t ready_ns, uint32_t wire_bytes, int64_t* at_ns);
  void update_direct();
};

// What a channel's thread has for JavaScript, told once the engine is left.
struct Report {
  struct Control {
    Event event;
    const uint8_t* body;  // into the receive buffer
    Counter* dropped;     // of the lane
  };
  std::vector<Control> controls;
  std::vector<Event> events;  // bounded by their nature: see EventQueue
  bool urgent = false;        // one of the events cannot wait for company
};

struct Lane {
  Lane(Shared& its, uint32_t its_channel) : shared(its), channel(its_channel) {}
  ~Lane() { drop_all(); }
  Lane(const Lane&) = delete;

  // ---- any thread ----
  void post(std::unique_ptr<Parcel> parcel);
  void post_purge();  // a send was closed: drop what is queued for it

  bool has_mail() const { return mail_.load(); }
  // Lets go of all memory, without events. Only once the channel has forgotten the lane.
  void drop_all();

  // ---- the channel's thread ----
  bool idle() const;
  // Moves up to `quantum` packets into the batch and due ones out of the link. Returns when to be called again:
  // <= now_ns at once, INT64_MAX not before the next post.
  int64_t pump(int64_t now_ns, SendBatch& batch, size_t quantum);
  // Everything pumped was handed over: memory may go, work requests are injected.
  void flushed(Report& report);
  void refused(uint32_t packets, int error);
  // A datagram with this queue pair's key: checked, counted, and put where it belongs. Within sdr_rx_enter.
  void received(const uint8_t* datagram, size_t bytes, int64_t now_ns, Report& report);
  // Steps what received() has put in place. Within the same sdr_rx_enter.
  void settle(int64_t now_ns, Report& report);

  Shared& shared;
  const uint32_t channel;
  SocketAddress peer{};
  LaneCounters counters;

 private:
  void collect();
  void purge();
  Parcel* front();
  void advance(Parcel* parcel);
  void finish(Parcel* parcel, bool dropped);
  void drop(Parcel* parcel);
  uint32_t packets_left(const Parcel& parcel) const;
  void release(Parcel* parcel);
  uint32_t payload_bytes(const Parcel& parcel) const;
  void count_injected(const Parcel& parcel, uint32_t payload);
  void emit(Parcel* parcel, uint32_t packet, bool corrupt, SendBatch& batch);
  size_t emit_due(int64_t now_ns, SendBatch& batch);
  int64_t pump_direct(int64_t now_ns, SendBatch& batch, size_t quantum);
  int64_t offer(int64_t now_ns, size_t quantum);
  bool is_for_this_channel(const Header& header) const;
  void place(const Header& header, const uint8_t* payload, uint32_t bytes);
  bool is_streamed(uint32_t message);
  void step(const sdr_completion& completion, int64_t now_ns, Report& report);

  std::mutex inbox_mutex_;
  std::vector<std::unique_ptr<Parcel>> inbox_;
  bool inbox_purge_ = false;
  std::atomic<bool> mail_{false};

  std::deque<Parcel*> control_, data_;
  uint64_t data_packets_ = 0;  // that data_ still holds
  DelayQueue delayed_;
  std::vector<Parcel*> in_batch_;
  std::vector<std::shared_ptr<WorkRequest>> injected_;  // this lane's share is in the batch or on the link
  std::vector<sdr_completion> placed_;                  // of one receive buffer, not yet stepped
  bool streams_ = false;                                // some of them went past the caches
  uint32_t judged_message_ = UINT32_MAX;                // is_streamed() of this one is known
  bool judged_streamed_ = false;
};

}  // namespace sdr::udp
