// What queue pairs of every transport with threads do alike: a call goes to the receiving or the
// sending half, unless the queue pair is closed. All calls come from the control thread, but for
// recover().
#pragma once

#include <memory>

#include "transport/receives.h"
#include "transport/sends.h"

namespace sdr {

class ThreadedQueuePair : public QueuePair {
 public:
  uint32_t id() const final { return id_; }
  const sdr_geometry& geometry() const final { return geometry_; }
  bool closed() const { return closed_; }

  sdr_status recover(uint32_t message, const codec::Code& code, const BlockChunks& block,
                     Recovered* recovered) final;
  sdr_status set_length(uint32_t message, uint64_t bytes, bool* complete) final;
  sdr_status complete(uint32_t message) override;
  sdr_status open_send(uint32_t message, uint64_t message_bytes, uint32_t user_immediate) final;
  sdr_status close_send(uint32_t message) override;
  sdr_status send_control(PacketKind kind, const uint8_t* bytes, size_t size) final;
  LinkCounters link_counters() const final { return sends_->link_counters(); }
  sdr_status set_link(const LinkConfig& config) final;

 protected:
  ThreadedQueuePair(uint32_t id, const sdr_geometry& geometry) : id_(id), geometry_(geometry) {}

  // What the engine and the sends count; what lanes count is not in it.
  QpCounters counted() const;

  // Of whoever derives: made before the first call, with what they refer to.
  std::unique_ptr<Receives> receives_;
  std::unique_ptr<Sends> sends_;
  bool closed_ = false;

 private:
  const uint32_t id_;
  const sdr_geometry geometry_;
};

}  // namespace sdr
