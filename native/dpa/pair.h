// The host's half of one queue pair on a DPA: what it puts into the device's memory and how it is laid out there, the
// control path by remote calls, and reading the reports. Knows a Platform, no threads of its own, no links.
#pragma once

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "dpa/platform.h"
#include "sdr/receive_engine.h"

namespace sdr::dpa {

// Sum over the workers.
struct WorkerCounts {
  uint64_t completions = 0, errors = 0, unknown_queue = 0;
  uint32_t error_queue = 0, error_syndrome = 0;  // of an error
};

struct PairOptions {
  sdr_geometry geometry{};
  uint32_t sq_log = 7;
  uint32_t rq_log_sum = 15;  // receive WQEs of all generations of a channel together, at most
  std::function<void()> wake;
};

class DevicePair final : public ReceiveEngine {
 public:
  // Everything up to running handlers. Null, with *status: SDR_NO_MEMORY, or what the geometry's check says.
  static std::unique_ptr<DevicePair> create(Platform& platform, const PairOptions& options, sdr_status* status);
  ~DevicePair() override;  // stop()
  DevicePair(const DevicePair&) = delete;
  DevicePair& operator=(const DevicePair&) = delete;
  // No handler of it runs and no call is made afterwards: those give SDR_CLOSED. Idempotent.
  void stop();

  sdr_status post(uint32_t message, void* buffer, uint64_t bytes, void* parity, uint32_t parity_chunks) override;
  sdr_status set_length(uint32_t message, uint64_t bytes, bool* complete) override;
  sdr_status complete(uint32_t message) override;
  sdr_status seal(uint32_t message, uint32_t first, uint32_t count, uint8_t* flags) override;
  sdr_status fill(uint32_t message, uint32_t first, uint32_t count, const uint8_t* flags, bool* complete) override;
  sdr_bitmap_slab bitmaps() const override;
  sdr_status progress(uint32_t message, sdr_rx_progress* out) const override;
  sdr_status chunk_expand(uint32_t message, uint32_t chunk, uint64_t* bits, size_t words) const override;
  bool user_immediate(uint32_t message, uint32_t* value) const override;
  void counters(uint64_t counts[SDR_STEP_KINDS]) const override;

  // Send side. The peer's key of slot 0, before the first send.
  void set_peer_key(uint32_t key);
  // Whether every channel has a free descriptor.
  bool has_room() const;
  // Hands packets [first, end) to the channels they belong to. `send`: address, key, cut_bytes, message and immediate.
  // has_room() must hold. *tickets: one more than before for every channel that has some.
  struct Ticket {
    uint32_t channel, descriptor;
  };
  sdr_status send(const sdr_dpa_send& send, uint32_t first, uint32_t end, std::vector<Ticket>* tickets);
  // Drops what of the message is not yet with the card; its tickets come back all the same.
  void cancel(uint32_t message);
  // Tickets that are through, in no order.
  void take_done(std::vector<Ticket>* tickets);

  // Sends that the card could not carry out, among the tickets taken so far.
  uint64_t send_errors() const { return send_errors_; }

  // One thread: receives that changed since the last look: (message, complete by a worker). False: some line was being
  // written, look again.
  struct Change {
    uint32_t message;
    bool complete;
  };
  bool take_changes(std::vector<Change>* changes);
  WorkerCounts worker_counts() const;  // as of the last look

  uint32_t queue_number(uint32_t generation, uint32_t channel) const;
  uint32_t receive_cq(uint32_t channel) const { return channels_[channel].receive_cq; }
  uint32_t receive_handler(uint32_t channel) const { return channels_[channel].receive_handler; }
  uint32_t packetise_handler(uint32_t channel) const { return channels_[channel].packetise_handler; }
  uint32_t receive_log() const { return rq_log_ + generations_log_; }

 private:
  struct Channel {
    uint32_t receive_handler = kNone, packetise_handler = kNone;
    uint32_t receive_cq = kNone, send_cq = kNone;
    std::vector<uint32_t> queues;  // by generation
    uint64_t receiver = 0, packetiser = 0;
    const sdr_dpa_report* reports = nullptr;  // 1 + slots lines of host memory
    const uint32_t* done = nullptr;
    std::vector<uint32_t> seen;  // `changes` by line
    sdr_dpa_report worker{};     // line 0, as it was then
    // Of each descriptor the lap that was given out; through when `done` says so too.
    std::vector<uint32_t> given, taken;
    uint32_t tail = 0;
  };

  DevicePair(Platform& platform, const PairOptions& options);
  bool take_slots(Channel* channel, const sdr_dpa_report& worker, std::vector<Change>* changes);
  sdr_status build();
  sdr_status build_host_memory();
  sdr_status build_channel(uint32_t index);
  uint64_t allocate(size_t bytes);
  // Takes mutex_. `reply`: host memory to copy the device's answer to.
  sdr_status call(sdr_dpa_call* call, size_t flags, uint64_t* result = nullptr, void* reply = nullptr,
                  size_t reply_bytes = 0) const;

  Platform& platform_;
  const PairOptions options_;
  uint32_t rq_log_ = 0, generations_log_ = 0;
  std::unique_ptr<uint8_t, void (*)(void*)> host_memory_{nullptr, std::free};
  uint8_t* host_ = nullptr;  // mirror, reports, done words, reply
  size_t host_bytes_ = 0;
  size_t mirror_bytes_ = 0, slot_bytes_ = 0;
  uint8_t* reply_ = nullptr;
  Window window_;
  bool window_open_ = false;
  uint32_t host_cq_ = kNone;
  uint64_t pair_ = 0, call_ = 0;
  std::vector<uint64_t> memory_;
  std::vector<Channel> channels_;
  mutable std::mutex mutex_;  // of calls
  bool stopped_ = false;
  uint64_t last_counts_[SDR_STEP_KINDS] = {};  // once stopped
  std::atomic<uint64_t> send_errors_{0};
};

}  // namespace sdr::dpa
