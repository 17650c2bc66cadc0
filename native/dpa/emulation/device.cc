#include "dpa/emulation/device.h"

#include <dpaintrin.h>
#include <libflexio-dev/flexio_dev_queue_access.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace sdr::dpa {
namespace {

constexpr size_t kLine = SDR_DPA_LINE;
constexpr uint32_t kNoHandler = UINT32_MAX;

}  // namespace

// ---- windows ----

// A small write-back cache. Lines come in with what the host has there, and go out as they are: what the host, or
// another thread, wrote meanwhile to the same 64 bytes is undone, as on the device.
class EmulatedDevice::Thread {
 public:
  static constexpr size_t kLines = 8;
  explicit Thread(EmulatedDevice& device) : device_(device), outer_(current) { current = this; }
  ~Thread() {
    write_back();
    current = outer_;
  }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  bool configure(uint32_t key) {
    const std::lock_guard lock(device_.mutex_);
    const auto found = device_.windows_.find(key);
    if (found == device_.windows_.end()) return false;
    window_ = found->second;
    return true;
  }
  bool acquire(uint64_t host, uint64_t* at) {
    if (host < window_.base || host - window_.base >= window_.bytes) {
      device_.faults_.fetch_add(1);
      return false;
    }
    const uint64_t start = host & ~uint64_t{kLine - 1};
    size_t index = 0;
    while (index < count_ && lines_[index].host != start) index++;
    if (index == kLines) {
      write_back();
      index = 0;
    }
    if (index == count_) {
      lines_[index].host = start;
      if (device_.watching_.load(std::memory_order_relaxed)) hold(start);
      const auto* from = reinterpret_cast<const uint64_t*>(start);
      for (size_t word = 0; word < kLine / 8; word++)
        lines_[index].words[word] = __atomic_load_n(from + word, __ATOMIC_RELAXED);
      count_++;
    }
    *at = reinterpret_cast<uint64_t>(lines_[index].words) + (host - start);
    return true;
  }
  void write_back() {
    for (size_t index = 0; index < count_; index++) {
      auto* to = reinterpret_cast<uint64_t*>(lines_[index].host);
      for (size_t word = 0; word < kLine / 8; word++)
        __atomic_store_n(to + word, lines_[index].words[word], __ATOMIC_RELEASE);
      if (device_.watching_.load(std::memory_order_relaxed)) let_go(lines_[index].host);
    }
    count_ = 0;
  }
  EmulatedDevice& device() { return device_; }

  static thread_local Thread* current;

 private:
  struct Line {
    uint64_t host;
    alignas(8) uint64_t words[kLine / 8];
  };
  void hold(uint64_t line) {
    const std::lock_guard lock(device_.lines_mutex_);
    const auto [held, is_new] = device_.held_lines_.emplace(line, this);
    if (!is_new && held->second != this) device_.conflicts_.fetch_add(1);
  }
  void let_go(uint64_t line) {
    const std::lock_guard lock(device_.lines_mutex_);
    const auto held = device_.held_lines_.find(line);
    if (held != device_.held_lines_.end() && held->second == this) device_.held_lines_.erase(held);
  }

  EmulatedDevice& device_;
  Thread* const outer_;
  Window window_{0, 0};
  size_t count_ = 0;
  Line lines_[kLines];
};

thread_local EmulatedDevice::Thread* EmulatedDevice::Thread::current = nullptr;

uint32_t EmulatedDevice::add_window(void* base, size_t bytes) {
  const std::lock_guard lock(mutex_);
  windows_.emplace(next_number_, Window{reinterpret_cast<uint64_t>(base), bytes});
  return next_number_++;
}

void EmulatedDevice::remove_window(uint32_t key) {
  const std::lock_guard lock(mutex_);
  windows_.erase(key);
}

// ---- memory ----

uint64_t EmulatedDevice::allocate(size_t bytes) {
  const size_t whole = (std::max<size_t>(bytes, 1) + kLine - 1) / kLine * kLine;
  void* memory = std::calloc(1, whole + kLine);
  if (memory == nullptr) return 0;
  const uint64_t address = (reinterpret_cast<uint64_t>(memory) + kLine) & ~uint64_t{kLine - 1};
  const std::lock_guard lock(mutex_);
  memory_.emplace(address, address - reinterpret_cast<uint64_t>(memory));
  return address;
}

void EmulatedDevice::free(uint64_t address) {
  const std::lock_guard lock(mutex_);
  const auto found = memory_.find(address);
  if (found == memory_.end()) return;
  std::free(reinterpret_cast<void*>(address - found->second));
  memory_.erase(found);
}

// ---- units and handlers ----

EmulatedDevice::EmulatedDevice(uint32_t units) {
  for (uint32_t i = 0; i < units; i++) units_.emplace_back();
  for (Unit& unit : units_) unit.thread = std::thread([this, plain = &unit] { serve(plain); });
}

EmulatedDevice::~EmulatedDevice() {
  stop();
  for (const auto& [address, offset] : memory_) std::free(reinterpret_cast<void*>(address - offset));
}

void EmulatedDevice::stop() {
  if (stopped_) return;
  stopped_ = true;
  for (Unit& unit : units_) {
    {
      const std::lock_guard lock(unit.mutex);
      unit.stopping = true;
      unit.changed.notify_all();
    }
    unit.thread.join();
  }
}

uint32_t EmulatedDevice::add_handler(Handler handler, uint64_t argument, uint32_t unit) {
  const std::lock_guard lock(mutex_);
  works_.emplace(next_number_, std::make_shared<Work>(Work{handler, argument, unit}));
  return next_number_++;
}

std::shared_ptr<EmulatedDevice::Work> EmulatedDevice::find_work(uint32_t handler) const {
  const std::lock_guard lock(mutex_);
  const auto found = works_.find(handler);
  return found == works_.end() ? nullptr : found->second;
}

size_t EmulatedDevice::objects() const {
  const std::lock_guard lock(mutex_);
  return works_.size() + cqs_.size() + windows_.size() + memory_.size();
}

void EmulatedDevice::serve(Unit* unit) {
  std::unique_lock lock(unit->mutex);
  while (true) {
    unit->changed.wait(lock, [&] { return unit->stopping || !unit->queue.empty(); });
    if (unit->stopping) return;
    const uint32_t index = unit->queue.front();
    unit->queue.pop_front();
    const std::shared_ptr<Work> work = find_work(index);
    if (!work) continue;
    work->queued = false;
    if (work->stopped) continue;
    work->running = true;
    lock.unlock();
    run(index);
    lock.lock();
    work->running = false;
    if (work->again && !work->stopped) {
      work->queued = true;
      unit->queue.push_back(index);
    }
    work->again = false;
    unit->changed.notify_all();
  }
}

void EmulatedDevice::activate(uint32_t handler) {
  const std::shared_ptr<Work> work = find_work(handler);
  if (!work || units_.empty()) return;
  Unit& unit = units_[work->unit % units_.size()];
  const std::lock_guard lock(unit.mutex);
  if (work->stopped || work->queued || unit.stopping) return;
  if (work->running) {
    work->again = true;
    return;
  }
  work->queued = true;
  unit.queue.push_back(handler);
  unit.changed.notify_all();
}

void EmulatedDevice::stop_handler(uint32_t handler) {
  const std::shared_ptr<Work> work = find_work(handler);
  if (!work || units_.empty()) return;
  Unit& unit = units_[work->unit % units_.size()];
  std::unique_lock lock(unit.mutex);
  work->stopped = true;
  unit.changed.wait(lock, [&] { return !work->running; });
}

void EmulatedDevice::remove_handler(uint32_t handler) {
  stop_handler(handler);
  const std::lock_guard lock(mutex_);
  works_.erase(handler);
}

void EmulatedDevice::run(uint32_t handler) {
  const std::shared_ptr<Work> work = find_work(handler);
  if (!work) return;
  activations_.fetch_add(1, std::memory_order_relaxed);
  Thread thread(*this);
  work->function(work->argument);
}

uint64_t EmulatedDevice::call(RemoteCall function, uint64_t argument) {
  Thread thread(*this);
  return function(argument);
}

// ---- completion queues ----

std::shared_ptr<EmulatedDevice::Cq> EmulatedDevice::find_cq(uint32_t number) const {
  const std::lock_guard lock(mutex_);
  const auto found = cqs_.find(number);
  return found == cqs_.end() ? nullptr : found->second;
}

uint32_t EmulatedDevice::keep_cq(std::shared_ptr<Cq> cq) {
  const std::lock_guard lock(mutex_);
  cqs_.emplace(next_number_, std::move(cq));
  return next_number_++;
}

uint32_t EmulatedDevice::add_cq(uint64_t ring, uint64_t doorbell, uint32_t log_entries, uint32_t handler) {
  auto cq = std::make_shared<Cq>();
  cq->ring = reinterpret_cast<sdr_dpa_cqe*>(ring);
  cq->doorbell = reinterpret_cast<uint32_t*>(doorbell);
  cq->log_entries = log_entries;
  cq->handler = handler;
  for (uint32_t i = 0; i < 1u << log_entries; i++) cq->ring[i].op_own = SDR_DPA_CQE_INVALID << 4 | 1;
  return keep_cq(std::move(cq));
}

uint32_t EmulatedDevice::add_host_cq(std::function<void()> wake) {
  auto cq = std::make_shared<Cq>();
  cq->handler = kNoHandler;
  cq->wake = std::move(wake);
  return keep_cq(std::move(cq));
}

void EmulatedDevice::remove_cq(uint32_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = cqs_.find(number);
  if (found == cqs_.end()) return;
  found->second->dead.store(true);
  cqs_.erase(found);
}

uint32_t EmulatedDevice::produced(uint32_t number) const {
  const std::shared_ptr<Cq> cq = find_cq(number);
  return cq ? cq->produced.load() : 0;
}

uint32_t EmulatedDevice::consumed(uint32_t number) const {
  const std::shared_ptr<Cq> cq = find_cq(number);
  return cq ? __builtin_bswap32(__atomic_load_n(cq->doorbell, __ATOMIC_ACQUIRE)) : 0;
}

Produced EmulatedDevice::produce(uint32_t number, sdr_dpa_cqe cqe) {
  const std::shared_ptr<Cq> cq = find_cq(number);
  if (!cq || cq->dead.load(std::memory_order_relaxed)) return Produced::overrun;
  const uint32_t index = cq->produced.load(std::memory_order_relaxed);
  const uint32_t consumed = __builtin_bswap32(__atomic_load_n(cq->doorbell, __ATOMIC_ACQUIRE));
  // The record has 24 bits.
  if (((index - consumed) & 0xffffff) >= 1u << cq->log_entries) {
    cq->dead.store(true);
    return Produced::overrun;
  }
  sdr_dpa_cqe* to = cq->ring + (index & ((1u << cq->log_entries) - 1));
  const uint8_t op_own = static_cast<uint8_t>((cqe.op_own & 0xf0) | (index >> cq->log_entries & 1));
  std::memcpy(static_cast<void*>(to), &cqe, offsetof(sdr_dpa_cqe, op_own));
  __atomic_store_n(&to->op_own, op_own, __ATOMIC_RELEASE);
  cq->produced.store(index + 1, std::memory_order_seq_cst);
  if (cq->armed.load(std::memory_order_seq_cst) && cq->armed.exchange(false)) activate(cq->handler);
  return Produced::written;
}

// What the device API's calls do; friends of the device.
struct Calls {
  static void arm(EmulatedDevice& device, uint32_t index, uint32_t number) {
    const std::shared_ptr<EmulatedDevice::Cq> cq = device.find_cq(number);
    if (!cq) return;
    cq->armed.store(true, std::memory_order_seq_cst);
    if (cq->produced.load(std::memory_order_seq_cst) != index && cq->armed.exchange(false)) {
      device.activate(cq->handler);
    }
  }
  static void wake_host(EmulatedDevice& device, uint32_t number) {
    const std::shared_ptr<EmulatedDevice::Cq> cq = device.find_cq(number);
    if (cq && cq->wake && !cq->dead.load()) cq->wake();
  }
  static void ring(EmulatedDevice& device, uint32_t queue, uint16_t index) {
    if (device.doorbell_) device.doorbell_(queue, index);
  }
};

}  // namespace sdr::dpa

// ---- the device API ----

using Current = sdr::dpa::EmulatedDevice::Thread;

extern "C" {

void sdr_emulated_window_writeback() { Current::current->write_back(); }

flexio_dev_status_t flexio_dev_window_config(flexio_window_entity, uint16_t, uint32_t mkey) {
  return Current::current->configure(mkey) ? FLEXIO_DEV_STATUS_SUCCESS : FLEXIO_DEV_STATUS_FAILED;
}

flexio_dev_status_t flexio_dev_window_ptr_acquire(flexio_window_entity, uint64_t host_address, flexio_uintptr_t* at) {
  return Current::current->acquire(host_address, at) ? FLEXIO_DEV_STATUS_SUCCESS : FLEXIO_DEV_STATUS_FAILED;
}

// The handler's function returns after it.
void flexio_dev_thread_reschedule() {}

void flexio_dev_cq_arm(uint32_t ci, uint32_t qnum) { sdr::dpa::Calls::arm(Current::current->device(), ci, qnum); }

void flexio_dev_msix_send(uint32_t cqn) { sdr::dpa::Calls::wake_host(Current::current->device(), cqn); }

void flexio_dev_qp_sq_ring_db(uint16_t pi, uint32_t qnum) {
  sdr::dpa::Calls::ring(Current::current->device(), qnum, pi);
}

}  // extern "C"
