#include "flexio/shims.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <memory>
#include <mutex>

// clang-format off
#include <libflexio/flexio_ver.h>
#define FLEXIO_VER_USED FLEXIO_VER(24, 10, 0)
#include <libflexio/flexio.h>
// clang-format on

#undef ibv_reg_mr
#undef ibv_get_device_list

using sdr::dpa::EmulatedDevice;
using sdr::flexio_shims::shims;

struct flexio_process {
  EmulatedDevice device{2};
  int error_fd = eventfd(0, EFD_CLOEXEC);
  std::atomic<bool> dead{false};
};
struct flexio_window {};
struct flexio_uar {};
struct flexio_event_handler {
  flexio_process* process;
  uint32_t number;
  bool running = false;
};
struct flexio_thread {};  // stands for the handler at the same address
struct flexio_cq {
  flexio_process* process;
  uint32_t number;
};
struct mlx5dv_devx_obj {
  uint32_t number;
};

namespace {

flexio_process* the_process = nullptr;
flexio_window the_window;
flexio_uar the_uar;
uint32_t next_queue = 0x200;

struct HostCq {
  ibv_cq cq{};
  uint32_t number = 0;
  std::atomic<bool> armed{false};
};
struct Channel {
  ibv_comp_channel channel{};
  std::mutex mutex;
  std::vector<ibv_cq*> events;
};
Channel the_channel;

int notify(ibv_cq* cq, int) {
  reinterpret_cast<HostCq*>(cq)->armed.store(true);
  return 0;
}

void destroyed(const char* what) {
  shims().order.emplace_back(what);
  shims().open--;
}

}  // namespace

namespace sdr::flexio_shims {

Shims& shims() {
  static Shims all;
  return all;
}
dpa::EmulatedDevice& device() { return the_process->device; }
ibv_context* context() {
  static ibv_context one = [] {
    ibv_context made{};
    made.ops.req_notify_cq = notify;
    return made;
  }();
  return &one;
}
ibv_pd* pd() {
  static ibv_pd one{};
  one.context = context();
  return &one;
}
void crash() {
  the_process->dead.store(true);
  const uint64_t count = 1;
  if (write(the_process->error_fd, &count, sizeof(count)) < 0) std::abort();
}

}  // namespace sdr::flexio_shims

extern "C" {

// ---- the process ----

flexio_status flexio_process_create(ibv_context*, flexio_app*, const flexio_process_attr*, flexio_process** process) {
  if (shims().no_process) return FLEXIO_STATUS_FAILED;
  *process = the_process = new flexio_process;
  shims().open++;
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_process_destroy(flexio_process* process) {
  destroyed("process");
  close(process->error_fd);
  delete process;
  the_process = nullptr;
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_process_call(flexio_process* process, flexio_func_t* function, uint64_t* result, ...) {
  va_list arguments;
  va_start(arguments, result);
  const uint64_t argument = va_arg(arguments, uint64_t);
  va_end(arguments);
  if (process->dead.load()) return FLEXIO_STATUS_FATAL_ERR;
  *result = process->device.call(reinterpret_cast<sdr::dpa::RemoteCall>(function), argument);
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_process_mem_info_get(const flexio_process*, flexio_heap_mem_info* info) {
  *info = {0, 0};
  return FLEXIO_STATUS_SUCCESS;
}
flexio_uar* flexio_process_get_uar(flexio_process*) { return &the_uar; }
uint32_t flexio_process_get_dumem_id(flexio_process*) { return 77; }
uint32_t flexio_uar_get_id(flexio_uar*) { return 55; }
flexio_err_status flexio_err_status_get(flexio_process* process) {
  return process->dead.load() ? FLEXIO_DEV_FATAL_ERROR : FLEXIO_DEV_NO_ERROR;
}
int flexio_err_handler_fd(flexio_process* process) { return process->error_fd; }
flexio_status flexio_coredump_create(flexio_process*, const char* outfile) {
  shims().core_file = outfile;
  return FLEXIO_STATUS_SUCCESS;
}

// ---- memory ----

flexio_status flexio_buf_dev_alloc(flexio_process* process, size_t bytes, flexio_uintptr_t* address) {
  *address = process->device.allocate(bytes);
  if (*address == 0) return FLEXIO_STATUS_FAILED;
  std::memset(reinterpret_cast<void*>(*address), 0xa5, bytes);  // nobody promises zeros
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_buf_dev_free(flexio_process* process, flexio_uintptr_t address) {
  process->device.free(address);
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_buf_dev_memset(flexio_process*, int value, size_t bytes, flexio_uintptr_t address) {
  std::memset(reinterpret_cast<void*>(address), value, bytes);
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_host2dev_memcpy(flexio_process*, void* from, size_t bytes, flexio_uintptr_t to) {
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_window_create(flexio_process*, ibv_pd*, flexio_window** window) {
  *window = &the_window;
  shims().open++;
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_window_destroy(flexio_window*) {
  destroyed("window");
  return FLEXIO_STATUS_SUCCESS;
}
uint32_t flexio_window_get_id(flexio_window*) { return 3; }

ibv_mr* ibv_reg_mr(ibv_pd* of, void* base, size_t bytes, int) {
  auto* mr = new ibv_mr{};
  mr->pd = of;
  mr->lkey = mr->rkey = the_process->device.add_window(base, bytes);
  shims().open++;
  return mr;
}
ibv_mr* ibv_reg_mr_iova2(ibv_pd* of, void* base, size_t bytes, uint64_t, unsigned int access) {
  return ibv_reg_mr(of, base, bytes, static_cast<int>(access));
}
int ibv_dereg_mr(ibv_mr* mr) {
  the_process->device.remove_window(mr->lkey);
  delete mr;
  destroyed("memory region");
  return 0;
}

// ---- handlers and completion queues ----

flexio_status flexio_event_handler_create(flexio_process* process, flexio_event_handler_attr* attributes,
                                          flexio_event_handler** handler) {
  shims().units.push_back(attributes->affinity.id);
  const auto function = reinterpret_cast<sdr::dpa::Handler>(attributes->host_stub_func);
  *handler = new flexio_event_handler{
      process, process->device.add_handler(function, attributes->arg, attributes->affinity.id)};
  shims().open++;
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_event_handler_run(flexio_event_handler* handler, uint64_t) {
  handler->process->device.activate(handler->number);
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_event_handler_destroy(flexio_event_handler* handler) {
  handler->process->device.remove_handler(handler->number);
  delete handler;
  destroyed("handler");
  return FLEXIO_STATUS_SUCCESS;
}
flexio_thread* flexio_event_handler_get_thread(flexio_event_handler* handler) {
  return reinterpret_cast<flexio_thread*>(handler);
}
flexio_status flexio_cq_create(flexio_process* process, ibv_context*, const flexio_cq_attr* attributes,
                               flexio_cq** cq) {
  // The ring is the host's to prepare: the emulated device would do it, too.
  const auto* ring = reinterpret_cast<const sdr_dpa_cqe*>(attributes->cq_ring_qmem.daddr);
  for (uint32_t i = 0; i < 1u << attributes->log_cq_depth; i++)
    if (ring[i].op_own != (SDR_DPA_CQE_INVALID << 4 | 1)) return FLEXIO_STATUS_FAILED;
  if (attributes->element_type != FLEXIO_CQ_ELEMENT_TYPE_DPA_THREAD || attributes->uar_id != 55)
    return FLEXIO_STATUS_FAILED;
  const auto* handler = reinterpret_cast<flexio_event_handler*>(attributes->thread);
  *cq = new flexio_cq{process, process->device.add_cq(attributes->cq_ring_qmem.daddr, attributes->cq_dbr_daddr,
                                                      attributes->log_cq_depth, handler->number)};
  shims().open++;
  return FLEXIO_STATUS_SUCCESS;
}
flexio_status flexio_cq_destroy(flexio_cq* cq) {
  cq->process->device.remove_cq(cq->number);
  delete cq;
  destroyed("completion queue");
  return FLEXIO_STATUS_SUCCESS;
}
uint32_t flexio_cq_get_cq_num(flexio_cq* cq) { return cq->number; }

ibv_comp_channel* ibv_create_comp_channel(ibv_context* of) {
  the_channel.channel.context = of;
  the_channel.channel.fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
  shims().open++;
  return &the_channel.channel;
}
int ibv_destroy_comp_channel(ibv_comp_channel* channel) {
  close(channel->fd);
  destroyed("channel");
  return 0;
}
ibv_cq* ibv_create_cq(ibv_context* of, int, void*, ibv_comp_channel* channel, int) {
  auto* made = new HostCq;
  made->cq.context = of;
  made->number = the_process->device.add_host_cq([made, channel] {
    if (!made->armed.exchange(false)) return;
    const std::lock_guard lock(the_channel.mutex);
    the_channel.events.push_back(&made->cq);
    const uint64_t one = 1;
    if (write(channel->fd, &one, sizeof(one)) < 0) std::abort();
  });
  shims().open++;
  return &made->cq;
}
int ibv_destroy_cq(ibv_cq* cq) {
  the_process->device.remove_cq(reinterpret_cast<HostCq*>(cq)->number);
  {
    const std::lock_guard lock(the_channel.mutex);
    std::erase(the_channel.events, cq);
  }
  delete reinterpret_cast<HostCq*>(cq);
  destroyed("host completion queue");
  return 0;
}
int ibv_get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) {
  uint64_t one = 0;
  if (read(channel->fd, &one, sizeof(one)) < 0) return -1;
  const std::lock_guard lock(the_channel.mutex);
  if (the_channel.events.empty()) return -1;  // of a queue that is no more
  *cq = the_channel.events.front();
  *cq_context = nullptr;
  the_channel.events.erase(the_channel.events.begin());
  return 0;
}
void ibv_ack_cq_events(ibv_cq*, unsigned int) {}

// ---- the device ----

flexio_app* sdr_dpa_program = nullptr;

ibv_device** ibv_get_device_list(int* count) {
  static ibv_device one{};
  static ibv_device* list[] = {&one, nullptr};
  *count = 1;
  return list;
}
void ibv_free_device_list(ibv_device**) {}
const char* ibv_get_device_name(ibv_device*) { return "mlx5_0"; }
ibv_context* mlx5dv_open_device(ibv_device*, mlx5dv_context_attr* attributes) {
  if ((attributes->flags & MLX5DV_CONTEXT_FLAGS_DEVX) == 0) return nullptr;
  return sdr::flexio_shims::context();
}
int ibv_close_device(ibv_context*) { return 0; }
ibv_pd* ibv_alloc_pd(ibv_context*) { return sdr::flexio_shims::pd(); }
int ibv_dealloc_pd(ibv_pd*) { return 0; }

// ---- mlx5 ----

int mlx5dv_init_obj(mlx5dv_obj* object, uint64_t type) {
  if (type == MLX5DV_OBJ_PD) object->pd.out->pdn = 99;
  if (type == MLX5DV_OBJ_CQ) object->cq.out->cqn = reinterpret_cast<HostCq*>(object->cq.in)->number;
  return 0;
}
mlx5dv_devx_obj* mlx5dv_devx_obj_create(ibv_context*, const void* in, size_t in_bytes, void* out, size_t out_bytes) {
  const auto* bytes = static_cast<const uint8_t*>(in);
  shims().commands.emplace_back(bytes, bytes + in_bytes);
  auto* answer = static_cast<uint8_t*>(out);
  if (shims().no_queue_pairs || out_bytes < 16) {
    answer[0] = 3;
    errno = EREMOTEIO;
    return nullptr;
  }
  const uint32_t number = next_queue++;
  answer[9] = static_cast<uint8_t>(number >> 16);
  answer[10] = static_cast<uint8_t>(number >> 8);
  answer[11] = static_cast<uint8_t>(number);
  shims().open++;
  return new mlx5dv_devx_obj{number};
}
int mlx5dv_devx_obj_modify(mlx5dv_devx_obj*, const void* in, size_t in_bytes, void*, size_t) {
  const auto* bytes = static_cast<const uint8_t*>(in);
  shims().commands.emplace_back(bytes, bytes + in_bytes);
  return 0;
}
int mlx5dv_devx_obj_destroy(mlx5dv_devx_obj* object) {
  delete object;
  destroyed("queue pair");
  return 0;
}

}  // extern "C"
