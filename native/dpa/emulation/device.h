// The emulated DPA: execution units that run handlers, completion queues that activate them,
// windows to host memory with a write-back of whole lines, remote calls. It runs native/dpa/device
// as it is, and knows nothing of what that does; nor of packets, which are the emulated card's
// (flow.h, endpoint.h).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "dpa/device/program.h"

namespace sdr::dpa {

using Handler = void (*)(uint64_t argument);
using RemoteCall = uint64_t (*)(uint64_t argument);

// What became of a completion that the card wanted to write.
enum class Produced : uint8_t { written, overrun };

class EmulatedDevice {
 public:
  static constexpr uint32_t kUnitsMax = 64;
  explicit EmulatedDevice(uint32_t units);  // threads; 0: run() is all that runs handlers
  ~EmulatedDevice();                        // stop()
  EmulatedDevice(const EmulatedDevice&) = delete;
  EmulatedDevice& operator=(const EmulatedDevice&) = delete;
  // No handler runs afterwards. Idempotent.
  void stop();

  // Device memory, zeroed, by whole lines. Null: none left.
  uint64_t allocate(size_t bytes);
  void free(uint64_t address);

  // Host memory that windows may show; the key for it. Both ends whole lines.
  uint32_t add_window(void* base, size_t bytes);
  void remove_window(uint32_t key);

  uint32_t add_handler(Handler handler, uint64_t argument, uint32_t unit);
  // Runs it as soon as its unit can; once more when it runs already.
  void activate(uint32_t handler);
  // It never runs again, and does not run now; what comes for it is left lying. Also a fault to
  // inject.
  void stop_handler(uint32_t handler);
  // Stopped and forgotten.
  void remove_handler(uint32_t handler);
  // On the calling thread, as a unit would.
  void run(uint32_t handler);
  uint64_t call(RemoteCall function, uint64_t argument);

  // `ring`: 2^log_entries CQEs of device memory, made invalid here. `handler` is activated when
  // armed.
  uint32_t add_cq(uint64_t ring, uint64_t doorbell, uint32_t log_entries, uint32_t handler);
  // A queue for events to the host alone.
  uint32_t add_host_cq(std::function<void()> wake);
  void remove_cq(uint32_t number);
  // The card's side; one thread at a time for one queue. The owner bit is set here.
  Produced produce(uint32_t cq, sdr_dpa_cqe cqe);
  // So many were ever written; so many the consumer has given back.
  uint32_t produced(uint32_t cq) const;
  uint32_t consumed(uint32_t cq) const;

  // Doorbells of send queues go here. Before any handler runs.
  void on_doorbell(std::function<void(uint32_t queue, uint16_t index)> ring) {
    doorbell_ = std::move(ring);
  }

  // From here on a line that two threads have at once is counted: the program's rule of one writer.
  void watch_lines() { watching_.store(true); }
  uint64_t line_conflicts() const { return conflicts_.load(); }
  // Handlers that ran, and pointers asked for outside of any window.
  uint64_t activations() const { return activations_.load(); }
  uint64_t window_faults() const { return faults_.load(); }
  // Handlers, completion queues, windows and stretches of memory there are now.
  size_t objects() const;

  // What one thread has of the window: a cache of whole lines, written back whole.
  class Thread;

 private:
  friend class Thread;
  struct Window {
    uint64_t base;
    size_t bytes;
  };
  struct Work {
    Handler function;
    uint64_t argument;
    uint32_t unit;
    bool queued = false, running = false, again = false, stopped = false;
  };
  struct Unit {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<uint32_t> queue;
    std::thread thread;
    bool stopping = false;
  };
  struct Cq {
    sdr_dpa_cqe* ring = nullptr;
    uint32_t* doorbell = nullptr;
    uint32_t log_entries = 0, handler = 0;
    std::atomic<uint32_t> produced{0};
    std::atomic<bool> armed{false}, dead{false};
    std::function<void()> wake;
  };

  void serve(Unit* unit);
  std::shared_ptr<Cq> find_cq(uint32_t number) const;
  std::shared_ptr<Work> find_work(uint32_t handler) const;
  uint32_t keep_cq(std::shared_ptr<Cq> cq);

  friend struct Calls;
  mutable std::mutex mutex_;  // of the tables below
  std::unordered_map<uint64_t, size_t> memory_;
  // By number, which is never given twice; who uses an entry keeps it.
  std::unordered_map<uint32_t, Window> windows_;
  std::unordered_map<uint32_t, std::shared_ptr<Work>> works_;
  std::unordered_map<uint32_t, std::shared_ptr<Cq>> cqs_;
  uint32_t next_number_ = 1;
  std::deque<Unit> units_;
  std::function<void(uint32_t, uint16_t)> doorbell_;
  bool stopped_ = false;

  std::atomic<bool> watching_{false};
  std::atomic<uint64_t> conflicts_{0}, activations_{0}, faults_{0};
  std::mutex lines_mutex_;
  std::unordered_map<uint64_t, const Thread*> held_lines_;
};

}  // namespace sdr::dpa
