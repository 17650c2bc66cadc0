// The emulated transport: any number of queue pairs in one virtual time, per packet, on one thread.
// Deterministic: events are ordered by (time, sequence of insertion); equal seeds give equal runs.
#pragma once

#include <memory>
#include <vector>

#include "sdr/transport.h"

namespace sdr {

// What became of one packet, or one copy of it, or one control datagram.
struct PacketRecord {
  int64_t depart_ns = 0;  // its last bit left the serialiser
  int64_t arrive_ns = 0;  // -1: lost on the way
  uint32_t qp = 0;        // that sent it
  uint32_t message = 0, packet = 0;  // of data; parity packets are numbered behind the message's own
  PacketKind kind = PacketKind::data;
};
inline constexpr size_t kPacketRecordsMax = 1 << 22;

class EmulatedWorld {
 public:
  // A receive's progress event comes `progress_interval_ns` after the first chunk that it reports (as interrupt
  // moderation would), at once when the message completes. 0: every chunk.
  EmulatedWorld(uint64_t seed, int64_t progress_interval_ns);
  ~EmulatedWorld();

  // Links are shared by all queue pairs connected over them. Returns the link's index; UINT32_MAX when the
  // config is not valid.
  uint32_t add_link(const LinkConfig& config);
  sdr_status set_link(uint32_t link, const LinkConfig& config);
  LinkCounters link_counters(uint32_t link) const;

  QueuePair* create_qp(const QpConfig& config, sdr_status* status);  // owned by the world; null on error
  // a's packets travel over link_ab, b's over link_ba. Geometries must be equal, else SDR_INVALID.
  sdr_status connect(uint32_t qp_a, uint32_t qp_b, uint32_t link_ab, uint32_t link_ba);

  int64_t now_ns() const;
  // Runs native events in time order until at least one Event is queued (then finishes that instant), or until
  // the next one lies after limit_ns (then now = limit_ns; limit INT64_MAX with nothing left leaves now alone).
  // Returns the number of queued Events.
  size_t advance(int64_t limit_ns);
  // Whether any packet, work request or pending event is left.
  bool idle() const;
  EventQueue& events();

  // Keeps a record of each of the next `records_max` packets (at most kPacketRecordsMax); 0: no more records.
  void record_packets(size_t records_max);
  // The records since the last call, by the time when each was offered to its link.
  std::vector<PacketRecord> take_records();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sdr
