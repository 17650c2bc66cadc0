// What every native transport offers to the binding: queue pairs over an sdr_rx engine, one bounded event
// queue towards JavaScript, and memory regions. Per-packet work stays below this line.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "sdr/codec.h"
#include "sdr/engine.h"
#include "sdr/link.h"
#include "sdr/receive_engine.h"

namespace sdr {

// Why a device cannot be used, or does not do what was asked of it.
struct DeviceError {
  int number = 0;    // errno, 0 when it is no system call's
  std::string code;  // a code of src/base/errors.ts
  std::string what, remedy;
};

// User memory. The shared_ptr's deleter releases what pins it; a transport holds one reference for each
// posted receive and each work request until no packet can touch the memory again.
struct Region {
  uint8_t* base = nullptr;  // null: phantom (no bytes, only lengths)
  uint64_t bytes = 0;
  // Memory of another device (a GPU's), which only cards touch: `base` is its address there, and no processor's.
  int dmabuf_fd = -1;  // stays the caller's
  uint64_t dmabuf_offset = 0;
};
using RegionRef = std::shared_ptr<const Region>;

// Where a receive's parity chunks go.
struct Parity {
  RegionRef region;  // null or phantom: bitmaps only
  uint64_t offset = 0;
  uint32_t chunks = 0;
};

struct Recovered {
  uint32_t chunks = 0;       // that were missing and are in place now
  uint32_t parity_used = 0;  // parity chunks that it took
  bool complete = false;     // this made the message complete; no event says so
};

enum class EventType : uint32_t {
  // A work request's last packet was given to the link: message, value = work request id. Packets under way on an
  // impaired link are read from memory when they leave it: the bytes must not change before the message is delivered.
  injected = 1,
  progress = 2,  // a receive's bitmap changed: message, value = 1 when the message is complete; one pending a message
  control = 3,   // a control datagram arrived: value = bytes, extra = offset in the control buffer
  error = 4,     // the queue pair failed: value = errno, e.g. socket error
};

struct Event {  // 32 bytes; JavaScript reads it as Uint32[8] / Float64[4]
  uint32_t type, qp, message, value;
  double time_ns, extra;
};
static_assert(sizeof(Event) == 32);

// Bounded, many producers, one consumer. A control datagram that does not fit is dropped, and its queue pair counts it
// (that costs time only); other events are bounded by their nature and never dropped: injected by the work requests
// posted since the last drain, progress by one a message (a push while one is pending only updates its value), error
// by one a queue pair.
class EventQueue {
 public:
  static constexpr size_t kControlBytesMax = 1 << 20;
  static constexpr size_t kControlEventsMax = 1 << 15;
  // True when the queue was empty before: the consumer must be woken. A progress event of a (qp, message) that
  // has one waiting is merged into it: the value becomes 1 when either is 1, the time stays the earlier one.
  bool push(const Event& event);
  enum class Control : uint8_t { dropped, queued, queued_first };  // first: as true above
  Control push_control(uint32_t qp, int64_t time_ns, const uint8_t* bytes, size_t size);
  // Moves up to max_events out; control bytes are copied to `control` (kControlBytesMax bytes) and `extra`
  // rewritten to offsets in it. Progress events release their message's pending mark as they leave.
  size_t drain(Event* out, size_t max_events, uint8_t* control);
  bool empty() const;
  size_t size() const;
  // `release(qp, message)` is called by drain(), with no lock held, for every progress event that leaves, before
  // drain returns: the transport clears that message's pending mark there. Set once, before the first push.
  void on_progress_drained(std::function<void(uint32_t qp, uint32_t message)> release);

 private:
  bool append(const Event& event);
  size_t take(Event* out, size_t max_events, uint8_t* control);

  mutable std::mutex mutex_;
  std::vector<Event> events_;    // [begin_, end) are waiting
  size_t begin_ = 0;
  std::vector<uint8_t> control_;  // bodies of the waiting control events, in order
  size_t control_events_ = 0;
  std::unordered_map<uint64_t, uint64_t> progress_;  // (qp, message) -> sequence number of its waiting event
  uint64_t drained_ = 0;         // events that ever left: the sequence number of events_[begin_]
  std::function<void(uint32_t, uint32_t)> release_;
};

inline constexpr uint32_t kWorkRequestsMax = 1 << 20;
inline constexpr size_t kGrantBytesMax = 64;

struct QpConfig {
  sdr_geometry geometry{};
  double rate_bps = 0;  // pacing, within a link's rates; 0: as fast as the link takes it
  uint32_t work_requests_max = 256;  // posted and not yet injected, 1..kWorkRequestsMax; then SDR_BUSY
};

struct QpCounters {
  std::array<uint64_t, SDR_STEP_KINDS> steps{};  // receive side, by sdr_step
  uint64_t packets_sent = 0, bytes_sent = 0;     // payload bytes injected (before loss)
  uint64_t wire_bytes_sent = 0;                  // with headers and control, without link overhead
  // Received datagrams are all valid ones; `control_dropped` of them found no room in the event queue.
  uint64_t control_sent = 0, control_received = 0, control_dropped = 0;
  uint64_t control_waiting = 0;  // of those posted, what has not left this end yet: close() would lose it
  // Datagrams ignored, by reason; those with another key are nobody's. `malformed`: the checksum holds, and yet no
  // sender of this version makes such a datagram, or not to this channel.
  uint64_t bad_checksum = 0, truncated = 0, replayed = 0, malformed = 0;
  uint64_t send_errors = 0;  // datagrams the operating system refused to send (lost, as on a path)
};

// Where a message has a block of an erasure code: data chunks first, first + stride, ... `count` of them, and parity
// chunks from parity_first on, counted from 0.
struct BlockChunks {
  uint32_t first, count, parity_first;
  uint32_t stride = 1;
};

// One end of a connection. All calls come from the JavaScript thread. After close() they give SDR_CLOSED; what needs a
// peer gives SDR_INVALID before connect().
class QueuePair {
 public:
  virtual ~QueuePair() = default;
  virtual uint32_t id() const = 0;
  virtual const sdr_geometry& geometry() const = 0;

  // Receive side. `region` null or phantom: bitmaps only. Offsets and lengths are checked against the region. With
  // parity.chunks > 0 the message brings that many parity chunks (sdr_rx_post_parity), which go into their own region:
  // memory apart from the message's (SDR_INVALID when they overlap, or when the message's own has memory and this has
  // none).
  virtual sdr_status post_receive(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                                  Parity parity = {}) = 0;
  // Makes the missing ones of a block's data chunks from those present and its m parity chunks, in place, and
  // completes them as if they had arrived. Any thread, for as long as this object lives; complete() and close() wait
  // for it, after them it gives SDR_CLOSED. SDR_BUSY: not recoverable yet, or another call has some of these data
  // chunks in hand (or, where the strides differ, chunks between them); nothing was touched. SDR_INVALID: the block is
  // empty, has no stride or is not within what was posted and announced, or count > code.shape().k, or no length is
  // known yet. A phantom receive is treated as if it had bytes. Nothing missing: SDR_OK, 0 chunks.
  virtual sdr_status recover(uint32_t message, const codec::Code& code, const BlockChunks& block,
                             Recovered* recovered) = 0;
  // What the sender's transport has to know to write into this posted receive; goes with its CTS. Returns how many
  // bytes of `out` were written, whole words: 0 where packets name their message and the receiver finds the memory.
  virtual size_t grant(uint32_t /*message*/, uint8_t /*out*/[kGrantBytesMax]) const { return 0; }
  virtual sdr_status set_length(uint32_t message, uint64_t bytes, bool* complete) = 0;
  virtual sdr_status complete(uint32_t message) = 0;  // returns when the buffer can no longer change
  virtual const ReceiveEngine& engine() const = 0;    // bitmaps, expand, user immediate, progress

  // Send side. open_send once a message (its total length fixes the last, short packet), numbers ascending within a
  // slot: SDR_BUSY while the slot's last send is open, SDR_OUT_OF_ORDER for a number already used. post_send any number
  // of times, any chunk ranges, in any order and repeatedly; close_send drops what is queued and not yet
  // injected (no `injected` event for those) and lets the region go once nothing refers to it. `bytes` is at least 1
  // and whole chunks, unless the range ends with the message. A range that begins behind the message's last chunk is
  // parity: whole chunks, numbered as its receiver does (sdr_rx_parity_first of what was posted there).
  virtual sdr_status open_send(uint32_t message, uint64_t message_bytes, uint32_t user_immediate) = 0;
  virtual sdr_status post_send(uint32_t message, uint32_t work_request, RegionRef region, uint64_t source_offset,
                               uint32_t first_chunk, uint64_t bytes) = 0;
  virtual sdr_status close_send(uint32_t message) = 0;
  // The grant that came with the CTS of an open send, before its first post_send. SDR_INVALID: not such as this
  // transport makes.
  virtual sdr_status accept_grant(uint32_t /*message*/, const uint8_t* /*grant*/, size_t size) {
    return size == 0 ? SDR_OK : SDR_INVALID;
  }
  // One datagram of 1 to packet_bytes bytes (SDR_TOO_LARGE beyond); they are copied. Goes before queued data, through
  // the same link.
  virtual sdr_status send_control(PacketKind kind, const uint8_t* bytes, size_t size) = 0;

  virtual int64_t last_heard_ns() const = 0;  // time of the last valid datagram from the peer; 0: never
  virtual QpCounters counters() const = 0;
  virtual LinkCounters link_counters() const = 0;  // of the outgoing link
  // Replaces the outgoing link's impairments; SDR_INVALID unless config.is_valid().
  virtual sdr_status set_link(const LinkConfig& config) = 0;
  // After it returns no thread touches any region or sends anything for this queue pair.
  virtual void close() = 0;
};

}  // namespace sdr
