// The emulated fabric: what every device, key, queue and packet is. All of it lives in one process.
// Locks, outermost first: Qp::post_mutex, Fabric::mutex, then one of Qp::recv_mutex, Cq::mutex,
// EventQueue's.
#pragma once

#include <infiniband/mlx5dv.h>
#include <infiniband/verbs.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "config.h"
#include "event_queue.h"

namespace emulated {

constexpr uint32_t kInlineBytesMax = 256;
constexpr uint32_t kGidTableLength = 256;
constexpr uint64_t kMessageBytesMax = 1u << 31;
constexpr uint32_t kInvalidLkey = 0x100;  // ends a receive's list early, as mlx5 does
constexpr uint32_t kGrhBytes = 40;

struct Cq;
struct Qp;
struct Device;

struct Context {
  Device* device = nullptr;
  bool devx = false;
  int objects = 0;  // domains, queues and channels not yet destroyed
  EventQueue<ibv_async_event> async;
  verbs_context verbs{};
};

struct Pd {
  ibv_pd ibv{};
  int users = 0;
};

struct Span {
  uint8_t* data;  // null: nothing is stored (the null region)
  uint64_t bytes;
};

struct Klm {
  uint32_t bytes = 0, key = 0;
  uint64_t address = 0;
};

// One entry of a device's key table; lkey and rkey are the same number.
struct Key {
  uint32_t value = 0;
  ibv_pd* pd = nullptr;
  uint8_t* host = nullptr;  // where offset 0 lies
  uint64_t start = 0, length = 0;
  unsigned access = 0;
  bool null = false;
  bool indirect = false, free = false;  // free: not yet given a meaning, or taken back
  std::vector<Klm> klms;
  std::vector<uint64_t> klm_ends;  // running sum of their bytes
};

struct Mr {
  ibv_mr ibv{};
  uint32_t key = 0;
  void* mapping = nullptr;  // of a dmabuf
  size_t mapping_bytes = 0, locked_bytes = 0;
};

struct Completion {
  ibv_wc wc{};
  Qp* qp = nullptr;
  bool is_send = false, solicited = false;
  uint64_t send_done = 0;  // work requests finished up to this one: what polling it frees
};

struct Channel {
  ibv_comp_channel ibv{};
  EventQueue<Cq*> events;
};

struct Cq {
  ibv_cq_ex ex{};  // first: an ibv_cq is one of these
  Channel* channel = nullptr;
  int users = 0;
  std::mutex mutex;
  std::condition_variable acknowledged;
  std::deque<Completion> entries;
  enum { kQuiet, kSolicited, kAny } armed = kQuiet;
  bool overrun = false, polling = false;
  Completion current;
  uint32_t events_sent = 0, events_acked = 0;
};

struct Ah {
  ibv_ah ibv{};
  ibv_ah_attr attr{};
};

struct SendWqe {
  uint64_t wr_id = 0;
  ibv_wr_opcode opcode = IBV_WR_SEND;
  bool signaled = false, solicited = false, is_raw = false, is_inline = false;
  __be32 imm = 0;
  uint64_t remote = 0;
  uint32_t rkey = 0;
  ibv_ah_attr ah{};
  bool has_ah = false;
  uint32_t remote_qpn = 0, remote_qkey = 0;
  std::vector<ibv_sge> sges;
  std::vector<uint8_t> bytes;  // inline payload, or a raw mlx5 work queue entry
};

// The receive queue in mlx5's layout, so that a program may refill it through the doorbell record
// alone.
struct RecvQueue {
  uint32_t count = 0, sges = 0, stride = 0;
  std::unique_ptr<mlx5_wqe_data_seg[]> ring;
  std::vector<uint64_t> wr_ids;
  uint32_t posted = 0;  // recv_mutex
  std::atomic<uint32_t> polled{0};
  uint16_t taken = 0;  // Fabric::mutex
};

struct Qp;
struct DvQp {
  mlx5dv_qp_ex ex{};
  Qp* qp = nullptr;
};

struct Inbound {  // the message that is arriving
  bool active = false;
  uint64_t message = 0, next_offset = 0;
};

struct Qp {
  ibv_qp_ex ex{};  // first: an ibv_qp is one of these
  DvQp dv;
  Device* device = nullptr;
  Cq* send_cq = nullptr;
  Cq* recv_cq = nullptr;
  ibv_qp_attr attr{};
  ibv_qp_cap cap{};
  bool all_signaled = false;
  uint64_t send_ops = 0, dv_ops = 0;
  std::atomic<ibv_qp_state> state{IBV_QPS_RESET};
  std::optional<QpFailure> failure;
  uint64_t completions = 0;
  bool doomed = false;  // to be moved to the error state before the lock is let go
  bool stalled = false, waiting = false;
  std::chrono::steady_clock::time_point stall_end{};
  Inbound inbound;
  uint64_t messages_sent = 0;

  std::mutex post_mutex;
  std::vector<SendWqe> sends;  // a ring
  uint64_t send_posted = 0, send_start = 0;
  SendWqe* building = nullptr;
  int build_error = 0;
  std::atomic<uint64_t> send_submitted{0}, send_polled{0};
  uint64_t send_done = 0;  // Fabric::mutex

  std::mutex recv_mutex;
  RecvQueue recv;
  alignas(8) std::atomic<uint32_t> doorbells[2] = {
      0, 0};  // big-endian words: MLX5_RCV_DBR, MLX5_SND_DBR
};

struct Device {
  ibv_device ibv{};  // first
  DeviceConfig config;
  uint32_t next_qpn = 0x11, next_key = 1;
  std::unordered_map<uint32_t, Qp*> qps;
  std::unordered_map<uint32_t, std::unique_ptr<Key>> keys;
};

struct Packet {
  ibv_qp_type type = IBV_QPT_UC;
  bool write = false, first = false, last = false, with_imm = false, solicited = false;
  __be32 imm = 0;
  union ibv_gid sgid {
  }, dgid{};
  uint32_t gid_type = 0;
  bool global = false;
  uint16_t slid = 0, dlid = 0;
  uint32_t source_qpn = 0, dest_qpn = 0, qkey = 0, psn_start = 0, mtu_bytes = 0;
  uint64_t message = 0, offset = 0, total = 0, remote = 0;
  uint32_t rkey = 0;
  uint64_t bytes = 0;
  std::vector<Span> payload;
  std::vector<uint8_t> copy;  // what `payload` points to once the packet has been held back
};

// What is counted, and its name for sdr_emulated_count.
enum class Count : size_t {
  kPackets,
  kLost,
  kReordered,
  kDuplicated,
  kNoPeer,
  kNoReceive,
  kBadKey,
  kBadLength,
  kMtuMismatch,
  kOutOfOrder,
  kCqOverrun,
  kUmr,
  kLeaked,
  kEnd
};
inline constexpr const char* kCountNames[] = {
    "packets",    "lost",         "reordered",    "duplicated", "no_peer", "no_receive", "bad_key",
    "bad_length", "mtu_mismatch", "out_of_order", "cq_overrun", "umr",     "leaked"};

enum class Fate { kTaken, kLost, kNoPeer, kNoReceive, kBadKey, kBadLength };

struct HeldPacket {
  Packet packet;
  const Qp* source;
  uint32_t after;  // packets of the same source
  std::chrono::steady_clock::time_point deadline;
};

struct Fabric {
  std::mutex mutex;
  Config config;
  std::vector<std::unique_ptr<Device>> devices,
      retired;  // retired: a program may still hold pointers
  int contexts = 0;
  uint32_t qps_created = 0;
  uint64_t locked_bytes = 0;
  std::mt19937_64 random;
  uint64_t counts[static_cast<size_t>(Count::kEnd)] = {};
  std::atomic<bool> failing{
      false};  // whether any call is to fail: keeps the lock out of every call
  std::string last_error;
  std::vector<HeldPacket> held;
  std::vector<Qp*> stalled, doomed, waiting;  // waiting: for the delivery thread
  std::atomic<uint32_t> stalled_count{0};
  std::mutex lifecycle;  // opening and closing, which start and end the thread
  std::thread thread;
  std::condition_variable wake;
  bool stop = false;
};

Fabric& fabric();
// errno that a configured failure asks of this call (without its prefix), or 0.
int injected(const char* call);
void count(Count what);  // with Fabric::mutex held
// Why something was refused, for sdr_emulated_last_error. With Fabric::mutex held.
void explain(const std::string& why);

inline Context* context_of(ibv_context* context) {
  return reinterpret_cast<Context*>(verbs_get_ctx(context)->priv);
}
inline Pd* pd_of(ibv_pd* pd) { return reinterpret_cast<Pd*>(pd); }
inline Cq* cq_of(ibv_cq* cq) { return reinterpret_cast<Cq*>(cq); }
inline Cq* cq_of(ibv_cq_ex* cq) { return reinterpret_cast<Cq*>(cq); }
inline Qp* qp_of(ibv_qp* qp) { return reinterpret_cast<Qp*>(qp); }
inline Qp* qp_of(ibv_qp_ex* qp) { return reinterpret_cast<Qp*>(qp); }
inline Device* device_of(ibv_device* device) { return reinterpret_cast<Device*>(device); }
inline uint32_t mtu_bytes(ibv_mtu mtu) { return 128u << mtu; }
inline void* fail_null(int number) {
  errno = number;
  return nullptr;
}

// device.cc
ibv_context* open_device(Device* device, bool devx);
const PortConfig* port_of(const Device& device, uint32_t number);  // null: no such port

// memory.cc; with Fabric::mutex held.
Key* add_key(Device& device, ibv_pd* pd);
// Where `bytes` at `address` of a key lie, appended to `spans`; false when the key does not allow
// it.
bool resolve(const Device& device, const ibv_pd* pd, uint32_t key, uint64_t address, uint64_t bytes,
             unsigned access, std::vector<Span>* spans);
void copy_spans(const std::vector<Span>& from, const std::vector<Span>& to);
void index_klms(Key* key);

// completion.cc
ibv_cq_ex* create_cq_ex(ibv_context* context, ibv_cq_init_attr_ex* attr);
int poll_cq(ibv_cq* cq, int entries, ibv_wc* wc);
int req_notify_cq(ibv_cq* cq, int solicited_only);
// Adds a completion; a full queue overruns. With Fabric::mutex held.
void complete(Cq* cq, const Completion& completion);
void forget_completions(Cq* cq, const Qp* qp);

// queue_pair.cc
ibv_qp* create_qp_ex(ibv_context* context, ibv_qp_init_attr_ex* attr);
ibv_qp* create_qp_dv(ibv_context* context, ibv_qp_init_attr_ex* attr, mlx5dv_qp_init_attr* dv);
// To the error state: all that is outstanding is flushed, the first with `status`. With
// Fabric::mutex held.
void break_qp(Qp* qp, ibv_wc_status status, uint32_t vendor_err);
void raise_async(Context* context, ibv_event_type type, void* element);
// Does what had to wait until nobody was in the middle of a queue. With Fabric::mutex held, before
// it is let go.
void settle();

// post.cc
void set_builders(Qp* qp);
int post_send(ibv_qp* qp, ibv_send_wr* wr, ibv_send_wr** bad);
int post_recv(ibv_qp* qp, ibv_recv_wr* wr, ibv_recv_wr** bad);

// wire.cc; with Fabric::mutex held.
void advance(Qp* qp);  // runs what its send queue holds
void retry_stalled();
void wake_thread();  // starts it when need be
void send_completion(Qp* qp, const SendWqe& wqe, ibv_wc_status status, uint32_t vendor_err);

// responder.cc; with Fabric::mutex held.
Fate deliver(const Packet& packet);
uint32_t receives_ready(const Qp& qp);
Qp* find_peer(const Packet& packet);

// umr.cc: runs a raw mlx5 work queue entry. With Fabric::mutex held.
ibv_wc_status run_raw(Qp* qp, const std::vector<uint8_t>& wqe, uint32_t* vendor_err);

}  // namespace emulated
