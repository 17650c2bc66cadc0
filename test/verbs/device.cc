// Devices: listing, opening, what they say of themselves, asynchronous events, and the control
// functions.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

#include "fabric.h"

#undef ibv_query_port

namespace emulated {

namespace {

void restart(Fabric& all) {
  all.random.seed(all.config.wire.seed);
  all.failing = !all.config.call_failures.empty();
}

void make_devices(Fabric& all) {
  for (auto& old : all.devices) all.retired.push_back(std::move(old));
  all.devices.clear();
  uint32_t number = 0;
  for (const DeviceConfig& config : all.config.devices) {
    auto device = std::make_unique<Device>();
    device->config = config;
    device->ibv.node_type = IBV_NODE_CA;
    device->ibv.transport_type = IBV_TRANSPORT_IB;
    std::snprintf(device->ibv.name, sizeof device->ibv.name, "%s", config.name.c_str());
    std::snprintf(device->ibv.dev_name, sizeof device->ibv.dev_name, "uverbs%u", number++);
    device->next_key = number << 16;  // a key of one device means nothing to another
    all.devices.push_back(std::move(device));
  }
}

// SDR_EMULATED_VERBS holds the configuration, or "@" and the name of its file.
void configure_first(Fabric& all) {
  const char* text = std::getenv("SDR_EMULATED_VERBS");
  std::string from = text == nullptr ? "" : text, error;
  if (!from.empty() && from[0] == '@') {
    std::ifstream file(from.substr(1));
    std::stringstream content;
    content << file.rdbuf();
    if (!file) std::fprintf(stderr, "SDR_EMULATED_VERBS: %s cannot be read\n", from.c_str() + 1);
    from = content.str();
  }
  if (!parse_config(from, &all.config, &error)) {
    std::fprintf(stderr, "SDR_EMULATED_VERBS: %s\n", error.c_str());
    all.config = Config{};
  }
  if (all.config.devices.empty() && from.find("nodevices") == std::string::npos) {
    all.config.devices = default_devices();
  }
  make_devices(all);
  restart(all);
}

int query_port_full(ibv_context* context, uint8_t number, ibv_port_attr* attr, size_t bytes) {
  if (const int number_injected = injected("query_port")) return number_injected;
  const PortConfig* port = port_of(*context_of(context)->device, number);
  if (port == nullptr) return EINVAL;
  ibv_port_attr all{};
  all.state = port->active ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
  all.max_mtu = IBV_MTU_4096;
  all.active_mtu = port->active_mtu;
  all.gid_tbl_len = kGidTableLength;
  all.max_msg_sz = kMessageBytesMax;
  all.pkey_tbl_len = 1;
  all.lid = port->lid;
  all.active_width = 2;  // 4x
  all.active_speed = 32;
  all.phys_state = port->active ? 5 : 3;
  all.link_layer = port->ethernet ? IBV_LINK_LAYER_ETHERNET : IBV_LINK_LAYER_INFINIBAND;
  std::memcpy(attr, &all, bytes < sizeof all ? bytes : sizeof all);
  return 0;
}

void fill_device_attr(const Device& device, ibv_device_attr* attr) {
  const DeviceConfig& config = device.config;
  *attr = ibv_device_attr{};
  std::snprintf(attr->fw_ver, sizeof attr->fw_ver, "emulated");
  attr->node_guid = attr->sys_image_guid =
      ibv_get_device_guid(const_cast<ibv_device*>(&device.ibv));
  attr->max_mr_size = UINT64_MAX;
  attr->page_size_cap = 0xfffff000;
  attr->vendor_id = config.mlx5 ? 0x02c9 : 0xffffff;
  attr->max_qp = config.max_qp;
  attr->max_qp_wr = config.max_qp_wr;
  attr->max_sge = attr->max_sge_rd = config.max_sge;
  attr->max_cq = 1 << 16;
  attr->max_cqe = config.max_cqe;
  attr->max_mr = attr->max_pd = attr->max_ah = 1 << 20;
  attr->atomic_cap = IBV_ATOMIC_NONE;
  attr->max_pkeys = 1;
  attr->phys_port_cnt = static_cast<uint8_t>(config.ports.size());
}

int query_device_ex(ibv_context* context, const ibv_query_device_ex_input*,
                    ibv_device_attr_ex* attr, size_t bytes) {
  if (const int number = injected("query_device_ex")) return number;
  ibv_device_attr_ex all{};
  fill_device_attr(*context_of(context)->device, &all.orig_attr);
  all.phys_port_cnt_ex = all.orig_attr.phys_port_cnt;
  std::memcpy(attr, &all, bytes < sizeof all ? bytes : sizeof all);
  return 0;
}

ibv_mr* alloc_null_mr(ibv_pd* pd) {
  if (const int number = injected("alloc_null_mr")) return static_cast<ibv_mr*>(fail_null(number));
  std::lock_guard<std::mutex> lock(fabric().mutex);
  Key* key = add_key(*context_of(pd->context)->device, pd);
  key->null = true;
  key->length = UINT64_MAX;
  key->access = IBV_ACCESS_LOCAL_WRITE;
  auto* mr = new Mr;
  mr->key = key->value;
  mr->ibv = ibv_mr{pd->context, pd, nullptr, SIZE_MAX, 0, key->value, 0};
  pd_of(pd)->users++;
  return &mr->ibv;
}

}  // namespace

Fabric& fabric() {
  static Fabric* const all = [] {
    auto* made = new Fabric;  // never freed: its thread and its users may outlive static objects
    configure_first(*made);
    return made;
  }();
  return *all;
}

int injected(const char* call) {
  Fabric& all = fabric();
  if (!all.failing.load(std::memory_order_relaxed)) return 0;
  std::lock_guard<std::mutex> lock(all.mutex);
  for (CallFailure& failure : all.config.call_failures) {
    if (failure.call != call) continue;
    const uint64_t nth = ++failure.seen;
    if (nth == failure.nth || (failure.onwards && nth > failure.nth)) return failure.number;
  }
  return 0;
}

void count(Count what) { fabric().counts[static_cast<size_t>(what)]++; }
void explain(const std::string& why) { fabric().last_error = why; }

const PortConfig* port_of(const Device& device, uint32_t number) {
  const auto& ports = device.config.ports;
  return number == 0 || number > ports.size() ? nullptr : &ports[number - 1];
}

void raise_async(Context* context, ibv_event_type type, void* element) {
  ibv_async_event event{};
  event.event_type = type;
  if (type == IBV_EVENT_CQ_ERR)
    event.element.cq = static_cast<ibv_cq*>(element);
  else
    event.element.qp = static_cast<ibv_qp*>(element);
  context->async.push(event);
}

ibv_context* open_device(Device* device, bool devx) {
  if (device->config.open_errno != 0)
    return static_cast<ibv_context*>(fail_null(device->config.open_errno));
  auto* made = new Context;
  made->device = device;
  made->devx = devx;
  verbs_context& verbs = made->verbs;
  verbs.sz = sizeof verbs;
  verbs.priv = reinterpret_cast<verbs_ex_private*>(made);
  verbs.query_port = query_port_full;
  verbs.query_device_ex = query_device_ex;
  verbs.create_cq_ex = create_cq_ex;
  verbs.create_qp_ex = create_qp_ex;
  if (device->config.mlx5) verbs.alloc_null_mr = alloc_null_mr;
  ibv_context& context = verbs.context;
  context.device = &device->ibv;
  context.cmd_fd = -1;
  context.async_fd = made->async.fd();
  context.num_comp_vectors = 4;
  context.abi_compat = __VERBS_ABI_IS_EXTENDED;
  pthread_mutex_init(&context.mutex, nullptr);
  context.ops.poll_cq = poll_cq;
  context.ops.req_notify_cq = req_notify_cq;
  context.ops.post_send = post_send;
  context.ops.post_recv = post_recv;
  Fabric& all = fabric();
  std::lock_guard<std::mutex> alive(all.lifecycle);
  std::lock_guard<std::mutex> lock(all.mutex);
  all.contexts++;
  return &context;
}

}  // namespace emulated

using namespace emulated;

extern "C" {

// Replaces the faults and, where the text names any, the devices. 0, EINVAL (the reason is in
// sdr_emulated_last_error), or EBUSY where devices would change under an open context.
int sdr_emulated_configure(const char* text) {
  Fabric& all = fabric();
  Config config;
  std::string error;
  const bool read = parse_config(text, &config, &error);
  std::lock_guard<std::mutex> lock(all.mutex);
  if (!read) {
    explain(error);
    return EINVAL;
  }
  const bool devices = !config.devices.empty() || std::strstr(text, "nodevices") != nullptr;
  if (devices && all.contexts > 0) {
    explain("devices cannot change while one is open");
    return EBUSY;
  }
  if (!devices) config.devices = all.config.devices;
  all.config = config;
  all.qps_created = 0;
  std::fill(std::begin(all.counts), std::end(all.counts), 0);
  all.last_error.clear();
  if (devices) make_devices(all);
  restart(all);
  return 0;
}

// How often something happened since the last configure: README.md names what is counted.
uint64_t sdr_emulated_count(const char* what) {
  std::lock_guard<std::mutex> lock(fabric().mutex);
  for (size_t i = 0; i < static_cast<size_t>(Count::kEnd); i++) {
    if (std::strcmp(what, kCountNames[i]) == 0) return fabric().counts[i];
  }
  return UINT64_MAX;  // no such count
}

// Why the last thing that the fabric refused was refused; valid until the calling thread's next
// call.
const char* sdr_emulated_last_error(void) {
  thread_local std::string kept;
  std::lock_guard<std::mutex> lock(fabric().mutex);
  kept = fabric().last_error;
  return kept.c_str();
}

ibv_device** ibv_get_device_list(int* num_devices) {
  if (const int number = injected("get_device_list"))
    return static_cast<ibv_device**>(fail_null(number));
  Fabric& all = fabric();
  std::lock_guard<std::mutex> lock(all.mutex);
  auto** list = static_cast<ibv_device**>(std::calloc(all.devices.size() + 1, sizeof(ibv_device*)));
  for (size_t i = 0; i < all.devices.size(); i++) list[i] = &all.devices[i]->ibv;
  if (num_devices != nullptr) *num_devices = static_cast<int>(all.devices.size());
  return list;
}
void ibv_free_device_list(ibv_device** list) { std::free(list); }
const char* ibv_get_device_name(ibv_device* device) { return device->name; }
int ibv_get_device_index(ibv_device*) { return -1; }
__be64 ibv_get_device_guid(ibv_device* device) {
  uint64_t guid = 0x0200c90000000000;  // and a name's hash: the same in every run
  for (const char* c = device->name; *c != 0; c++)
    guid = (guid ^ static_cast<uint8_t>(*c)) * 0x100000001b3;
  return htobe64(guid);
}

ibv_context* ibv_open_device(ibv_device* device) {
  if (const int number = injected("open_device"))
    return static_cast<ibv_context*>(fail_null(number));
  return open_device(device_of(device), false);
}

int ibv_close_device(ibv_context* ibv) {
  Context* context = context_of(ibv);
  Fabric& all = fabric();
  std::lock_guard<std::mutex> alive(all.lifecycle);
  bool last = false, leaked = false;
  {
    std::lock_guard<std::mutex> lock(all.mutex);
    leaked = context->objects > 0;
    if (leaked) count(Count::kLeaked);
    last = --all.contexts == 0;
    all.stop = last;
    if (last) all.held.clear();
    all.wake.notify_all();
  }
  if (last && all.thread.joinable()) all.thread.join();
  // What was not destroyed still points to its context: that is then left to the leak checker.
  if (!leaked) {
    pthread_mutex_destroy(&ibv->mutex);
    delete context;
  }
  return 0;
}

int ibv_query_device(ibv_context* context, ibv_device_attr* attr) {
  if (const int number = injected("query_device")) return number;
  fill_device_attr(*context_of(context)->device, attr);
  return 0;
}
int ibv_query_port(ibv_context* context, uint8_t port, _compat_ibv_port_attr* attr) {
  return query_port_full(context, port, reinterpret_cast<ibv_port_attr*>(attr),
                         offsetof(ibv_port_attr, port_cap_flags2));
}
int ibv_query_pkey(ibv_context* context, uint8_t port, int index, __be16* pkey) {
  if (port_of(*context_of(context)->device, port) == nullptr || index != 0) return -1;
  *pkey = htobe16(0xffff);
  return 0;
}
int ibv_get_pkey_index(ibv_context*, uint8_t, __be16 pkey) {
  return pkey == htobe16(0xffff) ? 0 : -1;
}

int ibv_query_gid(ibv_context* context, uint8_t number, int index, union ibv_gid* gid) {
  const int failure = injected("query_gid");
  const PortConfig* port = port_of(*context_of(context)->device, number);
  if (failure != 0 || port == nullptr || index < 0 || index >= static_cast<int>(kGidTableLength)) {
    errno = failure != 0 ? failure : EINVAL;
    return -1;
  }
  const GidConfig* entry = port->find_gid(static_cast<uint32_t>(index));
  *gid = entry == nullptr ? ibv_gid{} : entry->gid;
  return 0;
}

static ibv_gid_entry entry_of(const GidConfig& gid, uint32_t port) {
  ibv_gid_entry entry{};
  entry.gid = gid.gid;
  entry.gid_index = gid.index;
  entry.port_num = port;
  entry.gid_type = gid.type;
  return entry;
}

int _ibv_query_gid_ex(ibv_context* context, uint32_t number, uint32_t index, ibv_gid_entry* out,
                      uint32_t flags, size_t entry_size) {
  if (const int failure = injected("query_gid_ex")) return failure;
  const PortConfig* port = port_of(*context_of(context)->device, number);
  if (port == nullptr || flags != 0 || index >= kGidTableLength) return EINVAL;
  const GidConfig* gid = port->find_gid(index);
  if (gid == nullptr) return ENODATA;
  const ibv_gid_entry entry = entry_of(*gid, number);
  std::memcpy(out, &entry, entry_size < sizeof entry ? entry_size : sizeof entry);
  return 0;
}

ssize_t _ibv_query_gid_table(ibv_context* context, ibv_gid_entry* entries, size_t max_entries,
                             uint32_t flags, size_t entry_size) {
  if (const int failure = injected("query_gid_table")) return -failure;
  if (flags != 0) return -EINVAL;
  const Device& device = *context_of(context)->device;
  size_t filled = 0;
  for (uint32_t number = 1; number <= device.config.ports.size(); number++) {
    for (const GidConfig& gid : device.config.ports[number - 1].gids) {
      if (filled == max_entries) return -EINVAL;
      const ibv_gid_entry entry = entry_of(gid, number);
      std::memcpy(reinterpret_cast<uint8_t*>(entries) + filled++ * entry_size, &entry,
                  entry_size < sizeof entry ? entry_size : sizeof entry);
    }
  }
  return static_cast<ssize_t>(filled);
}

int ibv_get_async_event(ibv_context* context, ibv_async_event* event) {
  return context_of(context)->async.pop(event) ? 0 : -1;
}
void ibv_ack_async_event(ibv_async_event* event) {
  switch (event->event_type) {
    case IBV_EVENT_CQ_ERR: {
      ibv_cq* cq = event->element.cq;
      std::lock_guard<std::mutex> lock(fabric().mutex);
      cq->async_events_completed++;
      return;
    }
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_QP_REQ_ERR: {
      std::lock_guard<std::mutex> lock(fabric().mutex);
      event->element.qp->events_completed++;
      return;
    }
    default:
      return;
  }
}

int ibv_fork_init(void) { return 0; }
enum ibv_fork_status ibv_is_fork_initialized(void) { return IBV_FORK_UNNEEDED; }

const char* ibv_node_type_str(enum ibv_node_type type) {
  return type == IBV_NODE_CA ? "InfiniBand channel adapter" : "unknown";
}
const char* ibv_port_state_str(enum ibv_port_state state) {
  static const char* const names[] = {"no state change (NOP)", "down", "init", "armed", "active",
                                      "active defer"};
  return static_cast<unsigned>(state) < 6 ? names[state] : "invalid state";
}
const char* ibv_event_type_str(enum ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_CQ_ERR:
      return "CQ error";
    case IBV_EVENT_QP_FATAL:
      return "local work queue catastrophic error";
    case IBV_EVENT_QP_ACCESS_ERR:
      return "local access violation work queue error";
    default:
      return "unknown event";
  }
}
const char* ibv_wc_status_str(enum ibv_wc_status status) {
  switch (status) {
    case IBV_WC_SUCCESS:
      return "success";
    case IBV_WC_LOC_LEN_ERR:
      return "local length error";
    case IBV_WC_LOC_QP_OP_ERR:
      return "local QP operation error";
    case IBV_WC_LOC_PROT_ERR:
      return "local protection error";
    case IBV_WC_WR_FLUSH_ERR:
      return "Work Request Flushed Error";
    case IBV_WC_REM_ACCESS_ERR:
      return "remote access error";
    case IBV_WC_RETRY_EXC_ERR:
      return "transport retry counter exceeded";
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return "RNR retry counter exceeded";
    case IBV_WC_FATAL_ERR:
      return "fatal error";
    case IBV_WC_GENERAL_ERR:
      return "general error";
    default:
      return "unknown";
  }
}

}  // extern "C"
