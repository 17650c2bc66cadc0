// The emulated world's inside: links, queue pairs and their work, in one virtual time on one
// thread.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "link/serialiser.h"
#include "sdr/emulated.h"
#include "transport/emulated_schedule.h"
#include "transport/receives.h"

namespace sdr::emulated {

inline constexpr size_t kQpsMax = 1 << 16, kLinksMax = 1 << 16;
inline constexpr size_t kControlQueueMax =
    1024;  // control datagrams waiting for the serialiser, a queue pair
// Packets in flight in one world; at the limit senders pause and look again after kStallNs.
inline constexpr size_t kInFlightMax = 1 << 24;
inline constexpr int64_t kStallNs = 1000;

// One posted work request, until nothing refers to it: not queued, its injection reported, no
// packet in flight.
struct Work {
  RegionRef region;
  const uint8_t* source = nullptr;  // payload of first_packet; null: phantom
  uint64_t cut_bytes = 0;  // by which its packets are cut: the message's, or no end for parity
  uint32_t message = 0, user_immediate = 0, request = 0, owner = 0;
  uint32_t first_packet = 0, packets = 0, sent = 0;
  uint32_t in_flight = 0;
  bool in_use = false, queued = false, reporting = false;
  bool dead = false;  // its owner closed: packets in flight carry nothing any more
};

struct ControlBody {
  std::vector<uint8_t> bytes;
  uint32_t references = 0;
  PacketKind kind = PacketKind::other;
};

class Core;

class Qp final : public QueuePair {
 public:
  Qp(Core& core, uint32_t id, const QpConfig& config, sdr_rx* rx);
  ~Qp() override;
  Qp(const Qp&) = delete;
  Qp& operator=(const Qp&) = delete;

  uint32_t id() const override { return id_; }
  const sdr_geometry& geometry() const override { return config_.geometry; }
  sdr_status post_receive(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                          Parity parity) override;
  sdr_status recover(uint32_t message, const codec::Code& code, const BlockChunks& block,
                     Recovered* recovered) override;
  sdr_status set_length(uint32_t message, uint64_t bytes, bool* complete) override;
  sdr_status complete(uint32_t message) override;
  const ReceiveEngine& engine() const override { return engine_; }
  sdr_status open_send(uint32_t message, uint64_t message_bytes, uint32_t user_immediate) override;
  sdr_status post_send(uint32_t message, uint32_t work_request, RegionRef region,
                       uint64_t source_offset, uint32_t first_chunk, uint64_t bytes) override;
  sdr_status close_send(uint32_t message) override;
  sdr_status send_control(PacketKind kind, const uint8_t* bytes, size_t size) override;
  int64_t last_heard_ns() const override { return last_heard_ns_; }
  QpCounters counters() const override;
  LinkCounters link_counters() const override;
  sdr_status set_link(const LinkConfig& config) override;
  void close() override;

 private:
  friend class Core;
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Sending {
    uint64_t bytes = 0;
    uint32_t message = kNone, user_immediate = 0;  // the slot's last, open or not
    bool open = false;
  };
  struct Receiving {
    uint32_t message = 0;
    bool posted = false;
    bool progress_armed =
        false;  // a timer will report the chunks that arrived since the last report
  };

  Sending* sending(uint32_t message);
  Receiving* receiving(uint32_t message);
  bool is_paced() const { return config_.rate_bps > 0; }
  bool has_work() const { return !works_.empty() || !controls_.empty(); }
  uint32_t packet_bytes_of(const Work& work, uint32_t packet) const;

  Core& core_;
  const uint32_t id_;
  const QpConfig config_;
  sdr_rx* const rx_;
  HostEngine engine_;
  Receives receives_;
  uint32_t peer_ = kNone, link_ = kNone;
  uint32_t pace_source_;
  Serialiser pacer_;
  bool closed_ = false;
  bool waiting_ = false;  // in its link's list of senders
  bool entered_ = false;  // between sdr_rx_enter and sdr_rx_leave
  std::vector<Sending> sending_;
  std::vector<Receiving> receiving_;
  Ring<uint32_t> works_, controls_;  // indices into the core's pools
  uint32_t outstanding_ = 0;
  int64_t last_heard_ns_ = 0;
  QpCounters counters_;
};

struct WorldLink {
  explicit WorldLink(Link made) : link(std::move(made)) {}
  Link link;
  Ring<uint32_t> senders;  // unpaced queue pairs with something to send, next first
  Ring<Flight> in_order;   // arrivals, ascending
  uint32_t pump_source = 0, arrival_source = 0;
};

class Core {
 public:
  Core(uint64_t seed, int64_t progress_interval_ns);

  uint32_t add_link(const LinkConfig& config);
  sdr_status set_link(uint32_t link, const LinkConfig& config);
  Qp* create_qp(const QpConfig& config, sdr_status* status);
  sdr_status connect(uint32_t qp_a, uint32_t qp_b, uint32_t link_ab, uint32_t link_ba);
  size_t advance(int64_t limit_ns);
  bool idle() const { return sources_.empty() && events_.empty(); }
  int64_t now_ns() const { return now_ns_; }
  EventQueue& events() { return events_; }
  const WorldLink& link(uint32_t index) const { return *links_[index]; }
  size_t link_count() const { return links_.size(); }
  void record_packets(size_t records_max) { records_left_ = std::min(records_max, kPacketRecordsMax); }
  std::vector<PacketRecord> take_records() { return std::exchange(records_, {}); }

 private:
  friend class Qp;
  enum class SourceKind : uint8_t { flights, pump, arrivals, pacer };
  struct Source {
    SourceKind kind;
    uint32_t index;
  };

  Key key_at(int64_t time_ns) { return {time_ns, ++sequence_}; }
  uint32_t add_source(SourceKind kind, uint32_t index);
  void run_source(const Source& source);

  // Sending.
  void wake(Qp& qp);
  void arm_pump(WorldLink& link);
  void pump(WorldLink& link);
  void pace(Qp& qp);
  void send_next(Qp& qp);
  uint32_t send_data(Qp& qp);
  void send_control_body(Qp& qp, uint32_t body);
  bool is_stalled() const { return in_flight_ >= kInFlightMax; }
  void launch_copies(WorldLink& link, const Fate& fate, What what, uint32_t index, uint32_t body,
                     uint32_t destination);
  void record(const Fate& fate, PacketRecord packet);
  void add_flight(const Flight& flight);
  void next_flight_changed();

  // Arriving.
  void land(const Flight& flight);
  void land_data(const Flight& flight);
  void land_control(const Flight& flight);
  void receive(Qp& qp, const Work& work, uint32_t packet);
  void report_injected(const Flight& flight);
  void chunk_arrived(Qp& qp, uint32_t message);
  void message_arrived(Qp& qp, uint32_t message);
  bool drop_stale_report();
  void report_progress(const Flight& flight);
  void push_event(EventType type, uint32_t qp, uint32_t message, uint32_t value);

  void release_if_unused(uint32_t work);
  void release_control(uint32_t body);
  void leave_engines();

  const uint64_t seed_;
  const int64_t progress_interval_ns_;
  int64_t now_ns_ = 0;
  uint64_t sequence_ = 0;
  size_t in_flight_ = 0;
  bool has_events_ = false;
  std::vector<Source> source_table_;
  SourceHeap sources_;
  FlightHeap flights_;
  std::vector<std::unique_ptr<WorldLink>> links_;
  std::vector<std::unique_ptr<Qp>> qps_;
  std::vector<Qp*> entered_;
  Pool<Work> works_;
  Pool<ControlBody> controls_;
  EventQueue events_;
  size_t records_left_ = 0;  // packets still to be recorded
  std::vector<PacketRecord> records_;
};

}  // namespace sdr::emulated
