// A lane is what one queue pair has on one channel. This is its sending half, the same for every
// transport that moves real packets: its share of the work requests, its packets under way on the
// link. Only the channel's thread touches it, but for the inbox. What the lanes of a queue pair
// share is in QpShared. It knows no socket and no device: packets that may leave go to the medium
// (emit).
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "sdr/transport.h"
#include "transport/delay_queue.h"

namespace sdr {

// What all parts of a context see.
struct Environment {
  EventQueue events;
  std::function<void()> wake;
  int64_t start_ns = 0;

  int64_t now_ns() const;
  void push(const Event& event) {
    if (events.push(event)) wake();
  }
};

// A number written by one thread and read by any.
class Counter {
 public:
  void add(uint64_t n) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

struct SendCounters {
  Counter packets_sent, bytes_sent, wire_bytes_sent, control_sent;
  Counter clear_by_kind[kPacketKinds], clear_bytes;  // went past a clear link, unseen by it
};

// Where the peer has a message's bytes, for transports whose sender addresses them. Packets count
// from `base` on; parity's, counted from its first, from `parity_base` on.
struct RemoteMemory {
  uint64_t base = 0, bytes = 0, parity_base = 0, parity_bytes = 0;
  uint32_t key = 0, parity_key = 0;
  uint32_t parity_first_packet = UINT32_MAX;
};

// One open send; shared with its work requests, which are dropped once it is closed.
struct OpenSend {
  uint32_t message = 0;
  uint64_t bytes = 0;
  uint32_t user_immediate = 0;
  RemoteMemory remote;  // once granted
  std::atomic<bool> granted{false}, closed{false};
};

struct WorkRequest {
  uint32_t id = 0;
  std::shared_ptr<OpenSend> send;
  RegionRef region;
  const uint8_t* data = nullptr;  // of packet first_packet
  uint32_t first_packet = 0;
  uint64_t cut_bytes = 0;  // by which its packets are cut: the message's, or no end for parity
  uint32_t local_key = 0;  // of the memory at `data`, where a device reads it
  std::atomic<uint32_t> lanes_left{0};
  std::atomic<bool> dropped{false};
};

// A lane's share of a work request, or one control datagram. Counted by hand: once while it waits,
// once for each delayed descriptor, and once for each time that the medium has packets of it in
// hand.
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
struct QpShared {
  QpShared(Environment& its_environment, uint32_t its_id, const QpConfig& config, sdr_rx* its_rx,
           uint32_t its_header_bytes);

  Environment* const environment;
  const uint32_t id;
  const sdr_geometry geometry;
  const double rate_bps;
  sdr_rx* const rx;
  const uint32_t header_bytes;  // around every payload, as far as this transport counts them
  std::atomic<int64_t> last_heard_ns{0};
  std::atomic<uint32_t> work_requests{0}, controls{0};  // posted and not yet injected
  std::atomic<uint32_t> controls_waiting{0};  // posted, and the medium still has them in hand
  std::atomic<bool> error_reported{false};
  std::unique_ptr<std::atomic<uint32_t>[]>
      progress_marks;  // by slot: the message whose event waits

  std::atomic<bool> direct{false};  // neither link nor pacing has a say: the lock is not taken
  mutable std::mutex link_mutex;    // guards all below
  std::optional<Link> link;
  double pace_next_ns = 0;
  int64_t last_offer_ns = 0;

  // Whether a datagram that was ready at `ready_ns` may be offered to the link now: *at_ns is then
  // the time to offer it at (late by no fault of the sender's clock: a thread that woke late makes
  // up for it), else when to ask again.
  bool admit(int64_t now_ns, int64_t ready_ns, uint32_t wire_bytes, int64_t* at_ns);
  void update_direct();
  // The queue pair has failed: says so once, with an errno.
  void report_error(int error);
  // A progress event of this message left the event queue.
  void progress_drained(uint32_t message);
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

  // Hands everything to the event queue. Returns whether its consumer must be woken.
  bool deliver(EventQueue& queue);
  bool empty() const { return events.empty() && controls.empty(); }
};

// Steps a completion whose payload is in place, and reports what it completes.
void step_and_report(QpShared& shared, uint32_t worker, const sdr_completion& completion,
                     int64_t now_ns, Report& report);
void report_control(const QpShared& shared, const uint8_t* body, uint32_t bytes, int64_t now_ns,
                    Counter* dropped, Report& report);

class SendLane {
 public:
  SendLane(QpShared& its, uint32_t its_channel) : channel(its_channel), qp_(its) {}
  virtual ~SendLane() { drop_queued(); }
  SendLane(const SendLane&) = delete;

  // ---- any thread ----
  void post(std::unique_ptr<Parcel> parcel);
  void post_purge();  // a send was closed: drop what is queued for it
  bool has_mail() const { return mail_.load(); }

  const uint32_t channel;
  SendCounters sent;

  // ---- the channel's thread ----
  bool idle() const;
  // Moves up to `quantum` packets towards the medium and due ones out of the link. Returns when to
  // be called again:
  // <= now_ns at once, INT64_MAX not before the next post.
  int64_t pump(int64_t now_ns, size_t quantum);

 protected:
  // Whether the medium takes a packet of this parcel now.
  virtual bool has_room(const Parcel& parcel) const = 0;
  // Gives one packet to the medium; it retains the parcel for as long as its bytes are read.
  virtual void emit(Parcel* parcel, uint32_t packet, bool corrupt) = 0;

  void retain(Parcel* parcel) { parcel->references++; }
  void release(Parcel* parcel);
  // Work requests whose last packet on this lane has been offered since the last call.
  std::vector<std::shared_ptr<WorkRequest>> take_offered();
  void report_injected(const std::shared_ptr<WorkRequest>& request, Report& report);
  // Lets go of all that waits, without events. Only once the channel has forgotten the lane.
  void drop_queued();

 private:
  // A packet under way on the link.
  struct Delayed {
    Parcel* parcel;
    uint32_t packet;
    bool corrupt;
  };
  void collect();
  void purge();
  Parcel* front();
  void advance(Parcel* parcel);
  void finish(Parcel* parcel, bool dropped);
  void drop(Parcel* parcel);
  uint32_t packets_left(const Parcel& parcel) const;
  uint32_t payload_bytes(const Parcel& parcel) const;
  void count_injected(const Parcel& parcel, uint32_t payload);
  size_t emit_due(int64_t now_ns);
  int64_t pump_direct(int64_t now_ns, size_t quantum);
  int64_t offer(int64_t now_ns, size_t quantum);

  QpShared& qp_;
  std::mutex inbox_mutex_;
  std::vector<std::unique_ptr<Parcel>> inbox_;
  bool inbox_purge_ = false;
  std::atomic<bool> mail_{false};

  std::deque<Parcel*> control_, data_;
  uint64_t data_packets_ = 0;  // that data_ still holds
  DelayQueue<Delayed> delayed_;
  std::vector<std::shared_ptr<WorkRequest>> offered_;  // this lane's share has gone to the link
};

}  // namespace sdr
