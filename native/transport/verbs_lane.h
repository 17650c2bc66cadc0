// What one queue pair has on one channel of the verbs transport: a hardware queue for each
// generation, on the first channel one more for control datagrams, and the two completion queues
// they share. The sending half is SendLane's, with send queues for a medium; the receiving half
// hands completions to the engine. Only the channel's thread touches it between add() and remove().
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "transport/send_lane.h"
#include "transport/verbs_queue.h"

namespace sdr::verbs {

struct LaneCounters {
  Counter control_received, control_dropped, malformed, send_errors;
};

// Why a queue pair failed: the first cause, or what was flushed until that is known. From any
// thread.
class Failure {
 public:
  void set(const std::string& text, bool is_cause) {
    const std::lock_guard lock(mutex_);
    if (text_.empty() || (is_cause && !has_cause_)) text_ = text;
    has_cause_ |= is_cause;
  }
  std::string get() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;
  bool has_cause_ = false;
};

struct Shared : QpShared {
  Shared(Environment& its_environment, uint32_t its_id, const QpConfig& config, sdr_rx* its_rx)
      : QpShared(its_environment, its_id, config, its_rx, kVerbsHeaderBytes) {}
  Failure failure;
};

class Lane final : public SendLane {
 public:
  static constexpr uint32_t kSendDepth = 1024;        // of a data queue, at most
  static constexpr uint32_t kReceiveDepth = 4096;     // of a data queue, at most
  static constexpr uint32_t kControlSendDepth = 256;  // datagrams
  static constexpr uint32_t kControlReceiveDepth = 512;

  // How many packets of one queue may wait for the thread, of queue pairs with so many generations.
  static uint32_t receive_depth(const Device& device, uint32_t generations);

  Lane(Device& device, Shared& its, uint32_t its_channel);
  ~Lane() override;

  // ---- the control thread, while no channel knows the lane ----
  // Makes the queues and posts their receives; completions are announced on `events`. False: why is
  // in *error.
  bool open(ibv_comp_channel* events, DeviceError* error);
  std::vector<uint32_t> numbers() const;  // of the data queues, by generation
  uint32_t control_number() const { return control_.hardware.number(); }
  bool connect(const PeerAddress& peer, const std::vector<uint32_t>& numbers,
               uint32_t control_number, DeviceError* error);
  // Destroys the queues: on return the device touches no memory of theirs.
  void close();

  // ---- any thread, while it is open ----
  // The queue pair has failed, and no completion says so.
  void device_failed(const char* what);

  // ---- the channel's thread ----
  // Steps what has arrived. How many completions.
  size_t receive(int64_t now_ns, Report& report);
  // Takes back what has been sent; work requests are injected. After receive(): a failure is
  // reported here, when both queues were looked at.
  size_t reap(Report& report);
  // Moves up to `quantum` packets to the send queues; as SendLane's.
  int64_t pump(int64_t now_ns, size_t quantum, Report& report);
  // Puts receives back. After the report was told: control datagrams are read from their buffers
  // until then.
  void refill();
  // Asks for an event with the next completion; true when none was asked for yet. Completions that
  // came before are seen by looking again.
  bool arm();
  void disarmed() { armed_ = false; }

  LaneCounters counters;

 private:
  struct Staged {
    Parcel* parcel = nullptr;  // null: nothing is staged
    uint64_t local = 0, remote = 0;
    uint32_t bytes = 0, local_key = 0, remote_key = 0, immediate = 0;
  };
  struct Retained {
    uint32_t position;
    Parcel* parcel;
  };
  struct Offered {
    uint32_t position;
    std::shared_ptr<WorkRequest> request;
  };
  // One hardware queue as the thread sees it. Positions count sends; a signalled one completes all
  // before it.
  struct Queue {
    HardwareQueue hardware;
    uint32_t index = 0, depth = 0;
    uint32_t posted = 0, completed = 0, consumed = 0;
    bool started = false, failed = false;
    Staged staged;
    std::deque<Retained> retained;
    std::deque<Offered> offered;
    uint32_t outstanding() const { return posted - completed + (staged.parcel != nullptr ? 1 : 0); }
  };

  static uint32_t queue_share(const Device& device, uint32_t generations);
  bool has_room(const Parcel& parcel) const override;
  void emit(Parcel* parcel, uint32_t packet, bool corrupt) override;
  Queue& queue_of(uint32_t message) {
    const sdr_geometry& geometry = shared_.geometry;
    return queues_[message / geometry.slots % geometry.generations];
  }
  bool open_queue(Queue& queue, uint32_t depth, uint32_t receive_depth, DeviceError* error);
  bool open_control_memory(DeviceError* error);
  int post_control_receives(uint32_t count);
  bool refuse(int number, const char* what, DeviceError* error);
  void stage(Queue& queue, const Staged& next);
  void post_staged(Queue& queue, bool signalled);
  void finish_batch(Queue& queue);
  void completed(Queue& queue, uint32_t position, Report& report);
  void fail(Queue& queue, const char* side, ibv_wc_status status, uint32_t vendor);
  void drop_queue(Queue& queue, Report* report);
  void received(Queue& queue, int64_t now_ns, Report& report);
  uint64_t control_slot(uint32_t slot) const {
    return slot * uint64_t{shared_.geometry.packet_bytes};
  }
  void for_each(const std::function<void(Queue&)>& action);

  Device& device_;
  Shared& shared_;
  HardwareQueue::Depths depths_;
  ibv_cq_ex *send_cq_ = nullptr, *receive_cq_ = nullptr;
  std::vector<Queue> queues_;                  // by generation
  Queue control_;                              // on channel 0 only
  std::unique_ptr<uint8_t[]> control_memory_;  // first the receives' slots, then the sends'
  Registration control_key_;
  uint32_t control_posted_ = 0;  // receives
  uint32_t full_ = 0;            // queues that take no more
  bool armed_ = false;
  int error_ = 0;  // of a failure that is not reported yet
};

}  // namespace sdr::verbs
