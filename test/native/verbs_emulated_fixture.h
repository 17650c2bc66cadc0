// What the tests of the emulated RDMA device share: its calls by dlsym, as a program without
// rdma-core finds them, and two connected queue pairs.
#pragma once

#include <dlfcn.h>
#include <infiniband/mlx5dv.h>
#include <infiniband/verbs.h>
#include <poll.h>

#include <cstdint>
#include <string>
#include <vector>

#include "check.h"

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

namespace emulated_test {

inline void* library(const char* path) {
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) check::fail(__FILE__, __LINE__, dlerror());
  return handle;
}
inline void* symbol(void* handle, const char* name) {
  void* found = dlsym(handle, name);
  if (found == nullptr) check::fail(__FILE__, __LINE__, std::string(name) + " is not exported");
  return found;
}

struct Api {
  void* verbs = library(SDR_EMULATED_IBVERBS);
  void* mlx5 = library(SDR_EMULATED_MLX5);
#define VERB(name)                                                                   \
  decltype(&ibv_##name) name = reinterpret_cast<decltype(&ibv_##name)>(symbol(verbs, \
                                                                              "ibv"  \
                                                                              "_" #name))
  VERB(get_device_list);
  VERB(free_device_list);
  VERB(get_device_name);
  VERB(open_device);
  VERB(close_device);
  VERB(query_device);
  VERB(query_gid);
  VERB(alloc_pd);
  VERB(dealloc_pd);
  VERB(reg_mr);
  VERB(reg_mr_iova);
  VERB(reg_dmabuf_mr);
  VERB(dereg_mr);
  VERB(create_comp_channel);
  VERB(destroy_comp_channel);
  VERB(create_cq);
  VERB(destroy_cq);
  VERB(get_cq_event);
  VERB(ack_cq_events);
  VERB(create_qp);
  VERB(modify_qp);
  VERB(query_qp);
  VERB(destroy_qp);
  VERB(qp_to_qp_ex);
  VERB(create_ah);
  VERB(destroy_ah);
  VERB(get_async_event);
  VERB(ack_async_event);
#undef VERB
#define DV(name)                         \
  decltype(&mlx5dv_##name) mlx5_##name = \
      reinterpret_cast<decltype(&mlx5dv_##name)>(symbol(mlx5, "mlx5dv_" #name))
  DV(is_supported);
  DV(open_device);
  DV(query_device);
  DV(create_mkey);
  DV(destroy_mkey);
  DV(create_qp);
  DV(qp_ex_from_ibv_qp_ex);
  DV(init_obj);
#undef DV
  decltype(&_ibv_query_gid_table) query_gid_table =
      reinterpret_cast<decltype(&_ibv_query_gid_table)>(symbol(verbs, "_ibv_query_gid_table"));
  int (*configure)(const char*) =
      reinterpret_cast<int (*)(const char*)>(symbol(verbs, "sdr_emulated_configure"));
  uint64_t (*count)(const char*) =
      reinterpret_cast<uint64_t (*)(const char*)>(symbol(verbs, "sdr_emulated_count"));
  const char* (*last_error)() =
      reinterpret_cast<const char* (*)()>(symbol(verbs, "sdr_emulated_last_error"));
};
inline Api& api() {
  static Api all;
  return all;
}

inline constexpr const char* kPair =
    "device rx0 rxe; port 1 active mtu 4096; gid 0 v2 fe80::1; gid 1 v2 10.0.0.1;"
    "device mx0 mlx5; port 1 active mtu 4096; gid 0 v1 fe80::2; gid 3 v2 10.0.0.2;";
inline constexpr uint8_t kRxeGid = 1, kMlx5Gid = 3;

struct Options {
  ibv_qp_type type = IBV_QPT_UC;
  ibv_mtu mtu = IBV_MTU_1024;
  uint32_t send_wr = 256, recv_wr = 256, recv_sge = 1;
  int cqe = 1024;
  uint64_t send_ops = 0;
  bool channel = false;
  bool devx = false;  // open mlx5 devices with mlx5dv_open_device
  unsigned access = IBV_ACCESS_REMOTE_WRITE;
  uint8_t rnr_retry = 7;
};

// One opened device with a domain, a completion queue and a queue pair.
struct End {
  Options options;
  ibv_context* context = nullptr;
  ibv_pd* pd = nullptr;
  ibv_comp_channel* channel = nullptr;
  ibv_cq* cq = nullptr;
  ibv_qp* qp = nullptr;
  uint8_t gid_index = 0;

  End(const char* device, uint8_t gid, const Options& wanted) : options(wanted), gid_index(gid) {
    int count = 0;
    ibv_device** list = api().get_device_list(&count);
    for (int i = 0; i < count && context == nullptr; i++) {
      if (std::strcmp(api().get_device_name(list[i]), device) == 0) context = open(list[i]);
    }
    api().free_device_list(list);
    CHECK(context != nullptr);
    pd = api().alloc_pd(context);
    if (options.channel) channel = api().create_comp_channel(context);
    cq = api().create_cq(context, options.cqe, this, channel, 0);
    CHECK(pd != nullptr && cq != nullptr);
    make_qp();
  }
  ~End() {
    if (qp != nullptr) CHECK_EQ(api().destroy_qp(qp), 0);
    CHECK_EQ(api().destroy_cq(cq), 0);
    if (channel != nullptr) CHECK_EQ(api().destroy_comp_channel(channel), 0);
    CHECK_EQ(api().dealloc_pd(pd), 0);
    CHECK_EQ(api().close_device(context), 0);
  }
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  ibv_context* open(ibv_device* device) const {
    if (!options.devx || !api().mlx5_is_supported(device)) return api().open_device(device);
    mlx5dv_context_attr attr{MLX5DV_CONTEXT_FLAGS_DEVX, 0};
    return api().mlx5_open_device(device, &attr);
  }
  ibv_qp_init_attr_ex init() const {
    ibv_qp_init_attr_ex attr{};
    attr.send_cq = attr.recv_cq = cq;
    attr.cap = {options.send_wr, options.recv_wr, 4, options.recv_sge, 64};
    attr.qp_type = options.type;
    attr.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    attr.pd = pd;
    attr.send_ops_flags = options.send_ops;
    return attr;
  }
  void make_qp() {
    ibv_qp_init_attr_ex attr = init();
    if (options.send_ops != 0)
      qp = verbs_get_ctx(context)->create_qp_ex(context, &attr);
    else
      qp = api().create_qp(pd, reinterpret_cast<ibv_qp_init_attr*>(&attr));
    CHECK(qp != nullptr);
  }
  union ibv_gid gid() const {
    union ibv_gid found {};
    CHECK_EQ(api().query_gid(context, 1, gid_index, &found), 0);
    return found;
  }
  int to_init() {
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_INIT;
    attr.port_num = 1;
    attr.qkey = 0x1234;
    attr.qp_access_flags = options.access;
    const int last = options.type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS;
    return api().modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | last);
  }
  int to_rtr(const End& peer) {
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_RTR;
    attr.path_mtu = options.mtu;
    attr.dest_qp_num = peer.qp->qp_num;
    attr.rq_psn = 7;
    attr.max_dest_rd_atomic = 1;
    attr.ah_attr.is_global = 1;
    attr.ah_attr.port_num = 1;
    attr.ah_attr.grh.dgid = peer.gid();
    attr.ah_attr.grh.sgid_index = gid_index;
    attr.ah_attr.grh.hop_limit = 64;
    int mask = IBV_QP_STATE;
    if (options.type != IBV_QPT_UD)
      mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
    if (options.type == IBV_QPT_RC) mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
    return api().modify_qp(qp, &attr, mask);
  }
  int to_rts() {
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_RTS;
    attr.sq_psn = 7;
    attr.timeout = 1;
    attr.retry_cnt = 1;
    attr.rnr_retry = options.rnr_retry;
    attr.max_rd_atomic = 1;
    int mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
    if (options.type == IBV_QPT_RC)
      mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
    return api().modify_qp(qp, &attr, mask);
  }
  void to_error() {
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_ERR;
    CHECK_EQ(api().modify_qp(qp, &attr, IBV_QP_STATE), 0);
  }
  ibv_qp_state state() const {
    ibv_qp_attr attr{};
    ibv_qp_init_attr init_attr{};
    CHECK_EQ(api().query_qp(qp, &attr, IBV_QP_STATE, &init_attr), 0);
    return attr.qp_state;
  }

  int post_receive(uint64_t id, ibv_sge* sges = nullptr, int count = 0) {
    ibv_recv_wr wr{id, nullptr, sges, count}, *bad = nullptr;
    return ibv_post_recv(qp, &wr, &bad);
  }
  void post_receives(int count) {
    for (int i = 0; i < count; i++) CHECK_EQ(post_receive(static_cast<uint64_t>(i)), 0);
  }
  // Completions that are there now.
  std::vector<ibv_wc> poll() {
    std::vector<ibv_wc> all;
    for (ibv_wc one; ibv_poll_cq(cq, 1, &one) == 1;) all.push_back(one);
    return all;
  }
  // The next completion, waited for at most ten seconds by polling.
  ibv_wc wait() {
    ibv_wc one{};
    for (int tries = 0; tries < 10000; tries++) {
      if (ibv_poll_cq(cq, 1, &one) == 1) return one;
      ::poll(nullptr, 0, 1);
    }
    check::fail(__FILE__, __LINE__, "no completion came");
  }
  bool readable() const {
    pollfd wait{channel->fd, POLLIN, 0};
    return ::poll(&wait, 1, 0) == 1;
  }
};

// Memory and its key.
struct Region {
  std::vector<uint8_t> bytes;
  ibv_mr* mr;
  Region(const End& end, size_t size,
         unsigned access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE)
      : bytes(size), mr(api().reg_mr(end.pd, bytes.data(), size, static_cast<int>(access))) {
    CHECK(mr != nullptr);
  }
  ~Region() {
    if (mr != nullptr) CHECK_EQ(api().dereg_mr(mr), 0);
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  void fill(uint8_t seed) {
    for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<uint8_t>(i * 7 + seed);
  }
  uint64_t address(size_t offset = 0) const {
    return reinterpret_cast<uint64_t>(bytes.data() + offset);
  }
  ibv_sge sge(size_t offset, size_t size) const {
    return {address(offset), static_cast<uint32_t>(size), mr->lkey};
  }
};

struct Write {
  uint64_t id = 1;
  uint32_t imm = 0;
  uint64_t remote = 0;
  uint32_t rkey = 0;
  std::vector<ibv_sge> sges;
  bool with_imm = true, signaled = true;
};
inline Write write_of(const Region& from, const Region& to, size_t bytes, uint32_t imm = 0) {
  Write write;
  write.imm = imm;
  write.remote = to.address();
  write.rkey = to.mr->rkey;
  write.sges = {from.sge(0, bytes)};
  return write;
}
inline int post_write(End& end, const Write& write) {
  ibv_send_wr wr{}, *bad = nullptr;
  wr.wr_id = write.id;
  wr.opcode = write.with_imm ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_RDMA_WRITE;
  wr.send_flags = write.signaled ? IBV_SEND_SIGNALED : 0;
  wr.imm_data = htobe32(write.imm);
  wr.sg_list = const_cast<ibv_sge*>(write.sges.data());
  wr.num_sge = static_cast<int>(write.sges.size());
  wr.wr.rdma.remote_addr = write.remote;
  wr.wr.rdma.rkey = write.rkey;
  return ibv_post_send(end.qp, &wr, &bad);
}
inline int post_send_message(End& end, uint64_t id, std::vector<ibv_sge> sges, ibv_ah* ah = nullptr,
                             uint32_t qpn = 0) {
  ibv_send_wr wr{}, *bad = nullptr;
  wr.wr_id = id;
  wr.opcode = IBV_WR_SEND;
  wr.send_flags = IBV_SEND_SIGNALED;
  wr.sg_list = sges.data();
  wr.num_sge = static_cast<int>(sges.size());
  if (ah != nullptr) {
    wr.wr.ud.ah = ah;
    wr.wr.ud.remote_qpn = qpn;
    wr.wr.ud.remote_qkey = 0x1234;
  }
  return ibv_post_send(end.qp, &wr, &bad);
}

// An end on each device, connected.
struct Pair {
  End a, b;
  explicit Pair(const Options& options = {}, const Options* other = nullptr)
      : a("rx0", kRxeGid, options), b("mx0", kMlx5Gid, other == nullptr ? options : *other) {
    connect();
  }
  void connect() {
    CHECK_EQ(a.to_init(), 0);
    CHECK_EQ(b.to_init(), 0);
    CHECK_EQ(a.to_rtr(b), 0);
    CHECK_EQ(b.to_rtr(a), 0);
    CHECK_EQ(a.to_rts(), 0);
    CHECK_EQ(b.to_rts(), 0);
  }
};

inline void configure(const std::string& text) {
  if (api().configure(text.c_str()) != 0) check::fail(__FILE__, __LINE__, api().last_error());
}

}  // namespace emulated_test
