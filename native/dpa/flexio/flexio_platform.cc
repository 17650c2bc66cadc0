#include "dpa/flexio/flexio_platform.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace sdr::dpa {
namespace {

constexpr uint64_t kLine = SDR_DPA_LINE;
constexpr uint32_t kInvalidKey = 0x100;  // ends a list of data segments (mlx5)

// The entry points: where dpacc compiled the program, these names are its stubs.
flexio_func_t* stub(Entry entry) {
  return reinterpret_cast<flexio_func_t*>(entry == Entry::receive ? &sdr_dpa_receive : &sdr_dpa_packetise);
}

}  // namespace

// ---- the process ----

std::unique_ptr<FlexioPlatform> FlexioPlatform::create(const FlexioOptions& options, std::string* why) {
  std::unique_ptr<FlexioPlatform> made(new FlexioPlatform(options));
  return made->open(why) ? std::move(made) : nullptr;
}

bool FlexioPlatform::open(std::string* why) {
  const auto refused = [&](const std::string& what) {
    *why = what;
    return false;
  };
  flexio_process_attr attributes{};
  attributes.pd = options_.pd;
  const flexio_status made = flexio_process_create(options_.context, options_.program, &attributes, &process_);
  if (made != FLEXIO_STATUS_SUCCESS) {
    process_ = nullptr;
    return refused("flexio_process_create gave " + std::to_string(made) +
                   ": no DPA, none for this function, or no rights to it");
  }
  if (flexio_window_create(process_, options_.pd, &window_) != FLEXIO_STATUS_SUCCESS) {
    window_ = nullptr;
    return refused("flexio_window_create failed");
  }
  flexio_heap_mem_info heap{};
  if (flexio_process_mem_info_get(process_, &heap) != FLEXIO_STATUS_SUCCESS)
    return refused("flexio_process_mem_info_get failed");
  mlx5dv_pd pd{};
  mlx5dv_obj object{};
  object.pd.in = options_.pd;
  object.pd.out = &pd;
  if (mlx5dv_init_obj(&object, MLX5DV_OBJ_PD) != 0) return refused("the protection domain is not mlx5's");
  parts_ = {options_.context, pd.pdn, flexio_uar_get_id(flexio_process_get_uar(process_)),
            flexio_process_get_dumem_id(process_), heap.base_addr};
  channel_ = ibv_create_comp_channel(options_.context);
  if (channel_ == nullptr) return refused("ibv_create_comp_channel failed: errno " + std::to_string(errno));
  stop_fd_ = eventfd(0, EFD_CLOEXEC);
  if (stop_fd_ < 0) return refused("eventfd failed: errno " + std::to_string(errno));
  watcher_ = std::thread([this] { watch(); });
  return true;
}

FlexioPlatform::~FlexioPlatform() {
  if (watcher_.joinable()) {
    const uint64_t one = 1;
    while (::write(stop_fd_, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
    watcher_.join();
  }
  queues_.clear();
  for (const auto& [number, cq] : cqs_) flexio_cq_destroy(cq);
  for (const auto& [number, host] : host_cqs_) ibv_destroy_cq(host.cq);
  for (const auto& [number, handler] : handlers_) flexio_event_handler_destroy(handler.handler);
  for (const auto& [key, mr] : windows_) ibv_dereg_mr(mr);
  for (const auto& [address, memory] : memory_) flexio_buf_dev_free(process_, memory);
  if (channel_ != nullptr) ibv_destroy_comp_channel(channel_);
  if (stop_fd_ >= 0) ::close(stop_fd_);
  if (window_ != nullptr) flexio_window_destroy(window_);
  if (process_ != nullptr) flexio_process_destroy(process_);
}

std::string FlexioPlatform::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

bool FlexioPlatform::fail(const std::string& what) {
  const std::lock_guard lock(mutex_);
  failure_ = what;
  return false;
}

bool FlexioPlatform::ok(flexio_status status, const char* what) {
  if (status == FLEXIO_STATUS_SUCCESS) return true;
  return fail(std::string(what) + " gave " + std::to_string(status));
}

// The program is dead: says so once, keeps its memory for whoever looks, and wakes everybody.
void FlexioPlatform::crashed() {
  if (crashed_.exchange(true)) return;
  flexio_coredump_create(process_, options_.core_file.c_str());
  fail("the program on the DPA has crashed: its memory is in " + options_.core_file + ".*.core");
  const std::lock_guard lock(mutex_);
  for (const auto& [number, host] : host_cqs_) host.wake();
}

// Events on host completion queues, and the process's death.
void FlexioPlatform::watch() {
  pollfd waiting[3] = {{stop_fd_, POLLIN, 0}, {channel_->fd, POLLIN, 0}, {flexio_err_handler_fd(process_), POLLIN, 0}};
  while (true) {
    if (poll(waiting, crashed_.load() ? 2 : 3, -1) < 0 && errno != EINTR) return;
    if (waiting[0].revents != 0) return;
    if (waiting[1].revents != 0) take_event();
    if (!crashed_.load() && waiting[2].revents != 0) crashed();
    for (pollfd& one : waiting) one.revents = 0;
  }
}

void FlexioPlatform::take_event() {
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  if (ibv_get_cq_event(channel_, &cq, &context) != 0) return;
  ibv_ack_cq_events(cq, 1);
  // Before looking, so that what comes meanwhile is told again. [inference]: an event made by the device without an
  // entry (flexio_dev_msix_send) needs the queue armed as one with an entry does.
  const std::lock_guard lock(mutex_);
  for (const auto& [number, host] : host_cqs_) {
    if (host.cq != cq) continue;
    ibv_req_notify_cq(cq, 0);
    host.wake();
  }
}

// ---- memory ----

uint64_t FlexioPlatform::allocate(size_t bytes) {
  const size_t whole = (std::max<size_t>(bytes, 1) + kLine - 1) / kLine * kLine;
  flexio_uintptr_t memory = 0;
  if (!ok(flexio_buf_dev_alloc(process_, whole + kLine, &memory), "flexio_buf_dev_alloc") || memory == 0) return 0;
  const uint64_t address = (memory + kLine - 1) & ~(kLine - 1);
  if (!ok(flexio_buf_dev_memset(process_, 0, whole, address), "flexio_buf_dev_memset")) {
    flexio_buf_dev_free(process_, memory);
    return 0;
  }
  const std::lock_guard lock(mutex_);
  memory_.emplace(address, memory);
  return address;
}

void FlexioPlatform::free(uint64_t address) {
  const std::lock_guard lock(mutex_);
  const auto found = memory_.find(address);
  if (found == memory_.end()) return;
  flexio_buf_dev_free(process_, found->second);
  memory_.erase(found);
}

bool FlexioPlatform::write(uint64_t to, const void* from, size_t bytes) {
  return !crashed_.load() &&
         ok(flexio_host2dev_memcpy(process_, const_cast<void*>(from), bytes, to), "flexio_host2dev_memcpy");
}

// One window of the process shows all of them: the key chooses.
bool FlexioPlatform::open_window(void* base, size_t bytes, Window* window) {
  ibv_mr* mr = ibv_reg_mr(options_.pd, base, bytes, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
  if (mr == nullptr) return fail("ibv_reg_mr failed: errno " + std::to_string(errno));
  *window = {flexio_window_get_id(window_), mr->lkey};
  const std::lock_guard lock(mutex_);
  windows_.emplace(mr->lkey, mr);
  return true;
}

void FlexioPlatform::close_window(const Window& window) {
  const std::lock_guard lock(mutex_);
  const auto found = windows_.find(window.key);
  if (found == windows_.end()) return;
  ibv_dereg_mr(found->second);
  windows_.erase(found);
}

// ---- handlers and calls ----

uint32_t FlexioPlatform::add_handler(Entry entry, uint64_t argument, uint32_t unit) {
  flexio_event_handler_attr attributes{};
  attributes.host_stub_func = stub(entry);
  attributes.arg = argument;
  attributes.affinity.type = FLEXIO_AFFINITY_STRICT;
  attributes.affinity.id = options_.first_unit + unit;
  flexio_event_handler* handler = nullptr;
  if (!ok(flexio_event_handler_create(process_, &attributes, &handler), "flexio_event_handler_create")) return kNone;
  const std::lock_guard lock(mutex_);
  handlers_.emplace(next_handler_, Handler{handler, argument});
  return next_handler_++;
}

bool FlexioPlatform::start_handler(uint32_t number) {
  Handler handler{};
  {
    const std::lock_guard lock(mutex_);
    const auto found = handlers_.find(number);
    if (found == handlers_.end()) return false;
    handler = found->second;
  }
  return ok(flexio_event_handler_run(handler.handler, handler.argument), "flexio_event_handler_run");
}

void FlexioPlatform::remove_handler(uint32_t number) {
  flexio_event_handler* handler = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto found = handlers_.find(number);
    if (found == handlers_.end()) return;
    handler = found->second.handler;
    handlers_.erase(found);
  }
  ok(flexio_event_handler_destroy(handler), "flexio_event_handler_destroy");
}

bool FlexioPlatform::call(uint64_t argument, uint64_t* result) {
  if (crashed_.load()) return false;
  auto* control = reinterpret_cast<flexio_func_t*>(&sdr_dpa_control);
  const flexio_status status = flexio_process_call(process_, control, result, argument);
  if (flexio_err_status_get(process_) != FLEXIO_DEV_NO_ERROR) {
    crashed();
    return false;
  }
  return ok(status, "flexio_process_call");
}

// ---- the card's objects ----

uint32_t FlexioPlatform::add_cq(const CqPlace& place, uint32_t handler) {
  flexio_thread* thread = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto found = handlers_.find(handler);
    if (found != handlers_.end()) thread = flexio_event_handler_get_thread(found->second.handler);
  }
  if (thread == nullptr) return kNone;
  // All entries invalid, and the card's in the first round.
  constexpr size_t kAtOnce = 64;
  std::vector<sdr_dpa_cqe> entries(std::min<size_t>(kAtOnce, size_t{1} << place.log_entries));
  for (sdr_dpa_cqe& entry : entries) {
    entry = {};
    entry.op_own = SDR_DPA_CQE_INVALID << 4 | 1;
  }
  for (size_t at = 0; at < size_t{1} << place.log_entries; at += entries.size())
    if (!write(place.ring + at * sizeof(sdr_dpa_cqe), entries.data(), entries.size() * sizeof(sdr_dpa_cqe)))
      return kNone;
  flexio_cq_attr attributes{};
  attributes.log_cq_depth = static_cast<uint8_t>(place.log_entries);
  attributes.element_type = FLEXIO_CQ_ELEMENT_TYPE_DPA_THREAD;
  attributes.thread = thread;
  attributes.uar_id = parts_.uar;
  attributes.cq_ring_qmem.memtype = FLEXIO_MEMTYPE_DPA;
  attributes.cq_ring_qmem.daddr = place.ring;
  attributes.cq_dbr_daddr = place.doorbell;
  flexio_cq* cq = nullptr;
  if (!ok(flexio_cq_create(process_, options_.context, &attributes, &cq), "flexio_cq_create")) return kNone;
  const uint32_t number = flexio_cq_get_cq_num(cq);
  const std::lock_guard lock(mutex_);
  cqs_.emplace(number, cq);
  return number;
}

uint32_t FlexioPlatform::add_host_cq(std::function<void()> wake) {
  ibv_cq* cq = ibv_create_cq(options_.context, 1, nullptr, channel_, 0);
  mlx5dv_cq inside{};
  mlx5dv_obj object{};
  object.cq.in = cq;
  object.cq.out = &inside;
  if (cq == nullptr || mlx5dv_init_obj(&object, MLX5DV_OBJ_CQ) != 0) {
    fail("a completion queue of the host could not be made: errno " + std::to_string(errno));
    if (cq != nullptr) ibv_destroy_cq(cq);
    return kNone;
  }
  const std::lock_guard lock(mutex_);
  host_cqs_.emplace(inside.cqn, HostCq{cq, std::move(wake)});
  ibv_req_notify_cq(cq, 0);
  return inside.cqn;
}

void FlexioPlatform::remove_cq(uint32_t number) {
  flexio_cq* device = nullptr;
  ibv_cq* host = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = cqs_.find(number); found != cqs_.end()) {
      device = found->second;
      cqs_.erase(found);
    } else if (const auto of_host = host_cqs_.find(number); of_host != host_cqs_.end()) {
      host = of_host->second.cq;
      host_cqs_.erase(of_host);
    }
  }
  if (device != nullptr) ok(flexio_cq_destroy(device), "flexio_cq_destroy");
  if (host != nullptr) ibv_destroy_cq(host);  // waits until its events are acknowledged
}

uint32_t FlexioPlatform::add_queue(const QueuePlace& place) {
  // Receive requests that end at once: completions without bytes.
  struct Segment {
    uint32_t bytes, key;
    uint64_t address;
  };
  static_assert(sizeof(Segment) == kReceiveWqeBytes);
  const std::vector<Segment> requests(size_t{1} << place.rq_log, Segment{0, __builtin_bswap32(kInvalidKey), 0});
  if (!write(place.rq_ring, requests.data(), requests.size() * sizeof(Segment))) return kNone;
  std::string why;
  auto queue = UcQueuePair::create(parts_, place, &why);
  if (!queue) {
    fail(why);
    return kNone;
  }
  const std::lock_guard lock(mutex_);
  const uint32_t number = queue->number();
  queues_.emplace(number, std::move(queue));
  return number;
}

bool FlexioPlatform::connect_queue(uint32_t number, const UcPath& path) {
  const auto found = queues_.find(number);
  if (found == queues_.end()) return fail("there is no queue pair " + std::to_string(number));
  std::string why;
  return found->second->connect(path, &why) || fail(why);
}

void FlexioPlatform::remove_queue(uint32_t number) {
  const std::lock_guard lock(mutex_);
  queues_.erase(number);
}

}  // namespace sdr::dpa
