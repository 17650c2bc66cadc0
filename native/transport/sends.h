// The sending side of a queue pair, the same for every transport that moves real packets: which
// sends are open, their work requests dealt to the lanes, control datagrams, the outgoing link.
// Knows no socket and no device. All calls come from the control thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "transport/send_lane.h"

namespace sdr {

// The calls of QueuePair (sdr/transport.h) by the same names. The transport checks whether it is
// closed itself.
class Sends {
 public:
  static constexpr uint32_t kControlsMax = 4096;  // control datagrams posted and not yet sent

  // One lane a channel, in their order. `poke(i)`: lane i has mail. All of them outlive this
  // object's last call.
  Sends(QpShared& shared, uint32_t work_requests_max, std::vector<SendLane*> lanes,
        std::function<void(uint32_t)> poke);

  sdr_status open(uint32_t message, uint64_t message_bytes, uint32_t user_immediate);
  // The open send of this number, or null.
  OpenSend* find(uint32_t message) const;
  // `local_key` is the device's for the region's memory, 0 where none is needed.
  sdr_status post(uint32_t message, uint32_t work_request, RegionRef region, uint64_t source_offset,
                  uint32_t first_chunk, uint64_t bytes, uint32_t local_key);
  sdr_status close(uint32_t message);
  sdr_status control(PacketKind kind, const uint8_t* bytes, size_t size);

  // Once; nothing is posted before.
  void connect(const LinkConfig& link, uint64_t seed);
  bool is_connected() const { return connected_; }
  sdr_status set_link(const LinkConfig& config);
  LinkCounters link_counters() const;
  void count(QpCounters* counters) const;
  // The queue pair closes: nothing that is still queued may be sent.
  void close_all();

 private:
  void deal(const std::shared_ptr<WorkRequest>& request, uint32_t packets);

  QpShared& shared_;
  const uint32_t work_requests_max_;
  const std::vector<SendLane*> lanes_;
  const std::function<void(uint32_t)> poke_;
  std::vector<std::shared_ptr<OpenSend>> sends_;  // by slot; the last life stays, closed
  bool connected_ = false;
};

}  // namespace sdr
