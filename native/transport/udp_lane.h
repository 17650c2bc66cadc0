// What one queue pair has on one channel of the UDP transport: the sending half of every transport
// (SendLane), here with datagrams for a medium, and the receiving half, which checks datagrams and
// places their payload. Only the channel's thread touches it.
#pragma once

#include <vector>

#include "sdr/udp.h"
#include "transport/send_lane.h"
#include "transport/udp_batch.h"
#include "transport/udp_wire.h"

namespace sdr::udp {

struct Environment : sdr::Environment {
  std::atomic<uint64_t> unknown_datagrams{0};
};

struct Shared : QpShared {
  Shared(sdr::Environment& its_environment, uint32_t its_id, const QpConfig& config, sdr_rx* its_rx,
         uint64_t key)
      : QpShared(its_environment, its_id, config, its_rx, kUdpHeaderBytes), receive_key(key) {}
  const uint64_t receive_key;
  uint64_t send_key = 0;
};

struct LaneCounters {
  Counter control_received, control_dropped;
  Counter bad_checksum, truncated, replayed, malformed, late, send_errors;
};

class Lane final : public SendLane {
 public:
  Lane(Shared& its, uint32_t its_channel) : SendLane(its, its_channel), shared(its) {}
  ~Lane() override { drop_all(); }

  // Lets go of all memory, without events. Only once the channel has forgotten the lane.
  void drop_all();

  // ---- the channel's thread ----
  // Moves up to `quantum` packets into the batch; as SendLane's.
  int64_t pump(int64_t now_ns, SendBatch& batch, size_t quantum);
  // Everything pumped was handed over: memory may go, work requests are injected.
  void flushed(Report& report);
  void refused(uint32_t packets, int error);
  // A datagram with this queue pair's key: checked, counted, and put where it belongs. Within
  // sdr_rx_enter.
  void received(const uint8_t* datagram, size_t bytes, int64_t now_ns, Report& report);
  // Steps what received() has put in place. Within the same sdr_rx_enter.
  void settle(int64_t now_ns, Report& report);

  Shared& shared;
  SocketAddress peer{};
  LaneCounters counters;

 private:
  bool has_room(const Parcel&) const override { return !batch_->full(); }
  void emit(Parcel* parcel, uint32_t packet, bool corrupt) override;
  bool is_for_this_channel(const Header& header) const;
  void place(const Header& header, const uint8_t* payload, uint32_t bytes);
  bool is_streamed(uint32_t message);

  SendBatch* batch_ = nullptr;  // during pump()
  std::vector<Parcel*> in_batch_;
  std::vector<sdr_completion> placed_;    // of one receive buffer, not yet stepped
  bool streams_ = false;                  // some of them went past the caches
  uint32_t judged_message_ = UINT32_MAX;  // is_streamed() of this one is known
  bool judged_streamed_ = false;
};

}  // namespace sdr::udp
