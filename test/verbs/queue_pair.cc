// Queue pairs: creation, the state machine with its required attributes, the error state,
// destruction.
#include <algorithm>

#include "fabric.h"

namespace emulated {
namespace {

struct Transition {
  ibv_qp_type type;
  ibv_qp_state from, to;
  int required, optional;
};

// IBTA 1.2.1 table 91 (and the kernel's ib_modify_qp_is_ok) for what is emulated. To RESET and ERR
// one may always go.
constexpr int kInit = IBV_QP_PKEY_INDEX | IBV_QP_PORT;
constexpr int kConnect = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
constexpr int kRcConnect = kConnect | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
constexpr int kRcSend =
    IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
constexpr int kLater = IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS;
constexpr Transition kTransitions[] = {
    {IBV_QPT_UC, IBV_QPS_RESET, IBV_QPS_INIT, kInit | IBV_QP_ACCESS_FLAGS, 0},
    {IBV_QPT_UC, IBV_QPS_INIT, IBV_QPS_INIT, 0, kInit | IBV_QP_ACCESS_FLAGS},
    {IBV_QPT_UC, IBV_QPS_INIT, IBV_QPS_RTR, kConnect, IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX},
    {IBV_QPT_UC, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QP_SQ_PSN, kLater},
    {IBV_QPT_UC, IBV_QPS_RTS, IBV_QPS_RTS, 0, kLater},
    {IBV_QPT_RC, IBV_QPS_RESET, IBV_QPS_INIT, kInit | IBV_QP_ACCESS_FLAGS, 0},
    {IBV_QPT_RC, IBV_QPS_INIT, IBV_QPS_INIT, 0, kInit | IBV_QP_ACCESS_FLAGS},
    {IBV_QPT_RC, IBV_QPS_INIT, IBV_QPS_RTR, kRcConnect, IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX},
    {IBV_QPT_RC, IBV_QPS_RTR, IBV_QPS_RTS, kRcSend, kLater | IBV_QP_MIN_RNR_TIMER},
    {IBV_QPT_RC, IBV_QPS_RTS, IBV_QPS_RTS, 0, kLater | IBV_QP_MIN_RNR_TIMER},
    {IBV_QPT_UD, IBV_QPS_RESET, IBV_QPS_INIT, kInit | IBV_QP_QKEY, 0},
    {IBV_QPT_UD, IBV_QPS_INIT, IBV_QPS_INIT, 0, kInit | IBV_QP_QKEY},
    {IBV_QPT_UD, IBV_QPS_INIT, IBV_QPS_RTR, 0, IBV_QP_PKEY_INDEX | IBV_QP_QKEY},
    {IBV_QPT_UD, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QP_SQ_PSN, IBV_QP_CUR_STATE | IBV_QP_QKEY},
    {IBV_QPT_UD, IBV_QPS_RTS, IBV_QPS_RTS, 0, IBV_QP_CUR_STATE | IBV_QP_QKEY},
};

// What is wrong with a change of state, or empty.
std::string transition_error(const Qp& qp, ibv_qp_state to, int mask) {
  if (to == IBV_QPS_RESET || to == IBV_QPS_ERR) return "";
  const ibv_qp_state from = qp.state;
  for (const Transition& one : kTransitions) {
    if (one.type != qp.ex.qp_base.qp_type || one.from != from || one.to != to) continue;
    const int given = mask & ~IBV_QP_STATE;
    if ((given & one.required) != one.required) {
      return "attributes missing: mask " + std::to_string(one.required & ~given);
    }
    const int extra = given & ~(one.required | one.optional);
    return extra == 0 ? "" : "attributes not allowed here: mask " + std::to_string(extra);
  }
  return "no way from state " + std::to_string(from) + " to " + std::to_string(to);
}

// What is wrong with the values given, or empty.
std::string value_error(const Qp& qp, const ibv_qp_attr& attr, int mask) {
  const uint32_t number = (mask & IBV_QP_PORT) != 0 ? attr.port_num : qp.attr.port_num;
  const PortConfig* port = port_of(*qp.device, number);
  if ((mask & IBV_QP_PORT) != 0 && port == nullptr) return "no port " + std::to_string(number);
  if ((mask & IBV_QP_PKEY_INDEX) != 0 && attr.pkey_index != 0) return "the key table has one entry";
  if ((mask & IBV_QP_PATH_MTU) != 0) {
    if (attr.path_mtu < IBV_MTU_256 || attr.path_mtu > IBV_MTU_4096) return "no such MTU";
    if (port != nullptr && attr.path_mtu > port->active_mtu)
      return "path MTU above the port's active MTU";
  }
  if ((mask & IBV_QP_RQ_PSN) != 0 && attr.rq_psn >> 24 != 0) return "rq_psn has more than 24 bits";
  if ((mask & IBV_QP_SQ_PSN) != 0 && attr.sq_psn >> 24 != 0) return "sq_psn has more than 24 bits";
  if ((mask & IBV_QP_DEST_QPN) != 0 && attr.dest_qp_num >> 24 != 0)
    return "dest_qp_num has more than 24 bits";
  if ((mask & IBV_QP_AV) != 0 && port != nullptr) {
    if (attr.ah_attr.port_num != number) return "ah_attr.port_num is not the queue pair's port";
    if (port->ethernet && attr.ah_attr.is_global == 0) return "RoCE needs ah_attr.is_global";
    if (attr.ah_attr.is_global != 0 && port->find_gid(attr.ah_attr.grh.sgid_index) == nullptr) {
      return "no GID at sgid_index " + std::to_string(attr.ah_attr.grh.sgid_index);
    }
  }
  return "";
}

void take_attributes(Qp* qp, const ibv_qp_attr& from, int mask) {
  ibv_qp_attr& to = qp->attr;
  if ((mask & IBV_QP_PORT) != 0) to.port_num = from.port_num;
  if ((mask & IBV_QP_PKEY_INDEX) != 0) to.pkey_index = from.pkey_index;
  if ((mask & IBV_QP_ACCESS_FLAGS) != 0) to.qp_access_flags = from.qp_access_flags;
  if ((mask & IBV_QP_QKEY) != 0) to.qkey = from.qkey;
  if ((mask & IBV_QP_AV) != 0) to.ah_attr = from.ah_attr;
  if ((mask & IBV_QP_PATH_MTU) != 0) to.path_mtu = from.path_mtu;
  if ((mask & IBV_QP_DEST_QPN) != 0) to.dest_qp_num = from.dest_qp_num;
  if ((mask & IBV_QP_RQ_PSN) != 0) to.rq_psn = from.rq_psn;
  if ((mask & IBV_QP_SQ_PSN) != 0) to.sq_psn = from.sq_psn;
  if ((mask & IBV_QP_TIMEOUT) != 0) to.timeout = from.timeout;
  if ((mask & IBV_QP_RETRY_CNT) != 0) to.retry_cnt = from.retry_cnt;
  if ((mask & IBV_QP_RNR_RETRY) != 0) to.rnr_retry = from.rnr_retry;
  if ((mask & IBV_QP_MIN_RNR_TIMER) != 0) to.min_rnr_timer = from.min_rnr_timer;
  if ((mask & IBV_QP_MAX_QP_RD_ATOMIC) != 0) to.max_rd_atomic = from.max_rd_atomic;
  if ((mask & IBV_QP_MAX_DEST_RD_ATOMIC) != 0) to.max_dest_rd_atomic = from.max_dest_rd_atomic;
}

void set_state(Qp* qp, ibv_qp_state state) {
  qp->state = state;
  qp->ex.qp_base.state = state;
}

void unstall(Qp* qp) {
  Fabric& all = fabric();
  const auto drop = [qp](std::vector<Qp*>* from) {
    from->erase(std::remove(from->begin(), from->end(), qp), from->end());
  };
  drop(&all.stalled);
  drop(&all.doomed);
  drop(&all.waiting);
  all.stalled_count = static_cast<uint32_t>(all.stalled.size());
  qp->stalled = qp->waiting = false;
}

// Everything outstanding is forgotten, completions included. With post_mutex held too.
void reset_queues(Qp* qp) {
  unstall(qp);
  forget_completions(qp->send_cq, qp);
  forget_completions(qp->recv_cq, qp);
  qp->send_posted = qp->send_done = 0;
  qp->send_submitted = qp->send_polled = 0;
  std::lock_guard<std::mutex> lock(qp->recv_mutex);
  qp->recv.posted = qp->recv.taken = 0;
  qp->recv.polled = 0;
  qp->doorbells[0] = qp->doorbells[1] = 0;
  qp->inbound = Inbound{};
  qp->messages_sent = 0;
  qp->doomed = false;
}

uint32_t power_of_two(uint32_t at_least) {
  uint32_t value = 1;
  while (value < at_least) value *= 2;
  return value;
}

void make_recv_queue(Qp* qp) {
  RecvQueue& recv = qp->recv;
  recv.count = qp->cap.max_recv_wr == 0 ? 0 : power_of_two(qp->cap.max_recv_wr);
  recv.sges = power_of_two(std::max(1u, qp->cap.max_recv_sge));
  recv.stride = recv.sges * sizeof(mlx5_wqe_data_seg);
  recv.ring = std::make_unique<mlx5_wqe_data_seg[]>(static_cast<size_t>(recv.count) * recv.sges);
  recv.wr_ids.resize(recv.count);
  for (uint32_t i = 0; i < recv.count * recv.sges; i++) recv.ring[i].lkey = htobe32(kInvalidLkey);
}

int create_error(const Device& device, const ibv_qp_init_attr_ex& attr) {
  constexpr uint64_t known_ops = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM |
                                 IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;
  constexpr uint32_t known = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  const auto above = [](uint32_t value, int limit) { return value > static_cast<uint32_t>(limit); };
  const DeviceConfig& limits = device.config;
  const ibv_qp_cap& cap = attr.cap;
  if (attr.qp_type != IBV_QPT_RC && attr.qp_type != IBV_QPT_UC && attr.qp_type != IBV_QPT_UD)
    return EOPNOTSUPP;
  if (attr.send_cq == nullptr || attr.recv_cq == nullptr || attr.pd == nullptr) return EINVAL;
  if (attr.srq != nullptr || (attr.comp_mask & ~known) != 0) return EOPNOTSUPP;
  if ((attr.comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) != 0) {
    if ((attr.send_ops_flags & ~known_ops) != 0) return EOPNOTSUPP;
    const uint64_t writes = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM;
    if (attr.qp_type == IBV_QPT_UD && (attr.send_ops_flags & writes) != 0) return EOPNOTSUPP;
  }
  if (above(cap.max_send_wr, limits.max_qp_wr) || above(cap.max_recv_wr, limits.max_qp_wr))
    return EINVAL;
  if (above(cap.max_send_sge, limits.max_sge) || above(cap.max_recv_sge, limits.max_sge))
    return EINVAL;
  if (cap.max_inline_data > kInlineBytesMax) return EINVAL;
  return device.qps.size() >= static_cast<size_t>(limits.max_qp) ? ENOMEM : 0;
}

ibv_qp* create_qp(ibv_context* context, ibv_qp_init_attr_ex* attr, uint64_t dv_ops) {
  Device& device = *context_of(context)->device;
  Fabric& all = fabric();
  std::lock_guard<std::mutex> lock(all.mutex);
  if (const int number = create_error(device, *attr))
    return static_cast<ibv_qp*>(fail_null(number));
  auto* qp = new Qp;
  qp->device = &device;
  qp->send_cq = cq_of(attr->send_cq);
  qp->recv_cq = cq_of(attr->recv_cq);
  qp->cap = attr->cap;
  qp->all_signaled = attr->sq_sig_all != 0;
  qp->sends.resize(std::max(1u, attr->cap.max_send_wr));
  make_recv_queue(qp);
  qp->cap.max_recv_wr = qp->recv.count;
  attr->cap = qp->cap;
  if ((attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) != 0) qp->send_ops = attr->send_ops_flags;
  qp->dv_ops = dv_ops;
  qp->dv.qp = qp;
  ibv_qp& ibv = qp->ex.qp_base;
  ibv.context = context;
  ibv.qp_context = attr->qp_context;
  ibv.pd = attr->pd;
  ibv.send_cq = attr->send_cq;
  ibv.recv_cq = attr->recv_cq;
  ibv.qp_type = attr->qp_type;
  ibv.qp_num = ibv.handle = device.next_qpn++ & 0xffffff;
  pthread_mutex_init(&ibv.mutex, nullptr);
  pthread_cond_init(&ibv.cond, nullptr);
  set_builders(qp);
  device.qps[ibv.qp_num] = qp;
  qp->send_cq->users++;
  qp->recv_cq->users++;
  pd_of(ibv.pd)->users++;
  all.qps_created++;
  for (const QpFailure& failure : all.config.qp_failures) {
    if (failure.ordinal == all.qps_created) qp->failure = failure;
  }
  return &ibv;
}

}  // namespace

ibv_qp* create_qp_ex(ibv_context* context, ibv_qp_init_attr_ex* attr) {
  if (const int number = injected("create_qp_ex")) return static_cast<ibv_qp*>(fail_null(number));
  return create_qp(context, attr, 0);
}

ibv_qp* create_qp_dv(ibv_context* context, ibv_qp_init_attr_ex* attr, mlx5dv_qp_init_attr* dv) {
  constexpr uint64_t known =
      MLX5DV_QP_INIT_ATTR_MASK_QP_CREATE_FLAGS | MLX5DV_QP_INIT_ATTR_MASK_SEND_OPS_FLAGS;
  uint64_t ops = 0;
  if (dv != nullptr) {
    if ((dv->comp_mask & ~known) != 0) return static_cast<ibv_qp*>(fail_null(EINVAL));
    if ((dv->comp_mask & MLX5DV_QP_INIT_ATTR_MASK_SEND_OPS_FLAGS) != 0) ops = dv->send_ops_flags;
    if ((ops & ~static_cast<uint64_t>(MLX5DV_QP_EX_WITH_RAW_WQE)) != 0)
      return static_cast<ibv_qp*>(fail_null(EOPNOTSUPP));
    // A raw entry reports no scatter-to-CQE data, so the queue pair must have been told not to use
    // it.
    const bool no_scatter = (dv->comp_mask & MLX5DV_QP_INIT_ATTR_MASK_QP_CREATE_FLAGS) != 0 &&
                            (dv->create_flags & MLX5DV_QP_CREATE_DISABLE_SCATTER_TO_CQE) != 0;
    if (ops != 0 && !no_scatter) return static_cast<ibv_qp*>(fail_null(EINVAL));
    if (ops != 0 && (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) == 0) {
      return static_cast<ibv_qp*>(fail_null(EINVAL));
    }
  }
  return create_qp(context, attr, ops);
}

void break_qp(Qp* qp, ibv_wc_status status, uint32_t vendor_err) {
  if (qp->state == IBV_QPS_RESET) return;
  set_state(qp, IBV_QPS_ERR);
  unstall(qp);
  const uint64_t submitted = qp->send_submitted;
  while (receives_ready(*qp) > 0) {
    Completion flushed;
    flushed.qp = qp;
    flushed.wc.wr_id = qp->recv.wr_ids[qp->recv.taken++ & (qp->recv.count - 1)];
    flushed.wc.status = status;
    flushed.wc.vendor_err = vendor_err;
    flushed.wc.opcode = IBV_WC_RECV;
    flushed.wc.qp_num = qp->ex.qp_base.qp_num;
    complete(qp->recv_cq, flushed);
    status = IBV_WC_WR_FLUSH_ERR;
    vendor_err = 0;
  }
  while (qp->send_done < submitted) {
    send_completion(qp, qp->sends[qp->send_done % qp->sends.size()], status, vendor_err);
    status = IBV_WC_WR_FLUSH_ERR;
    vendor_err = 0;
  }
}

void settle() {
  Fabric& all = fabric();
  while (!all.doomed.empty()) {
    Qp* qp = all.doomed.back();
    all.doomed.pop_back();
    if (!qp->doomed || qp->state == IBV_QPS_ERR) continue;
    raise_async(context_of(qp->ex.qp_base.context), IBV_EVENT_QP_FATAL, &qp->ex.qp_base);
    const bool planned = qp->failure.has_value() && qp->completions >= qp->failure->after;
    break_qp(qp, planned ? qp->failure->status : IBV_WC_WR_FLUSH_ERR,
             planned ? qp->failure->vendor_err : 0);
  }
}

}  // namespace emulated

using namespace emulated;

extern "C" {

ibv_qp* ibv_create_qp(ibv_pd* pd, ibv_qp_init_attr* attr) {
  if (const int number = injected("create_qp")) return static_cast<ibv_qp*>(fail_null(number));
  ibv_qp_init_attr_ex extended{};
  extended.qp_context = attr->qp_context;
  extended.send_cq = attr->send_cq;
  extended.recv_cq = attr->recv_cq;
  extended.srq = attr->srq;
  extended.cap = attr->cap;
  extended.qp_type = attr->qp_type;
  extended.sq_sig_all = attr->sq_sig_all;
  extended.comp_mask = IBV_QP_INIT_ATTR_PD;
  extended.pd = pd;
  ibv_qp* qp = create_qp(pd->context, &extended, 0);
  if (qp != nullptr) attr->cap = extended.cap;
  return qp;
}

// Null unless the queue pair was made with send_ops_flags.
ibv_qp_ex* ibv_qp_to_qp_ex(ibv_qp* qp) {
  return qp_of(qp)->send_ops == 0 && qp_of(qp)->dv_ops == 0 ? nullptr : &qp_of(qp)->ex;
}

int ibv_modify_qp(ibv_qp* ibv, ibv_qp_attr* attr, int mask) {
  if (const int number = injected("modify_qp")) return number;
  Qp* qp = qp_of(ibv);
  std::lock_guard<std::mutex> post(qp->post_mutex);
  std::lock_guard<std::mutex> lock(fabric().mutex);
  const ibv_qp_state to = (mask & IBV_QP_STATE) != 0 ? attr->qp_state : qp->state.load();
  std::string error = transition_error(*qp, to, mask);
  if (error.empty() && to != IBV_QPS_ERR && to != IBV_QPS_RESET)
    error = value_error(*qp, *attr, mask);
  if (!error.empty()) {
    explain("ibv_modify_qp: " + error);
    return EINVAL;
  }
  if (to == IBV_QPS_ERR) {
    if (qp->state != IBV_QPS_ERR) break_qp(qp, IBV_WC_WR_FLUSH_ERR, 0);
  } else {
    take_attributes(qp, *attr, mask);
    if (to == IBV_QPS_RESET) reset_queues(qp);
    set_state(qp, to);
    if (to == IBV_QPS_RTR) retry_stalled();
  }
  settle();
  return 0;
}

int ibv_query_qp(ibv_qp* ibv, ibv_qp_attr* attr, int, ibv_qp_init_attr* init) {
  if (const int number = injected("query_qp")) return number;
  Qp* qp = qp_of(ibv);
  std::lock_guard<std::mutex> lock(fabric().mutex);
  *attr = qp->attr;
  attr->qp_state = attr->cur_qp_state = qp->state;
  attr->cap = qp->cap;
  *init = ibv_qp_init_attr{
      ibv->qp_context,         ibv->send_cq, ibv->recv_cq, nullptr, qp->cap, ibv->qp_type,
      qp->all_signaled ? 1 : 0};
  return 0;
}

int ibv_query_qp_data_in_order(ibv_qp*, enum ibv_wr_opcode, uint32_t) { return 0; }

int ibv_destroy_qp(ibv_qp* ibv) {
  if (const int number = injected("destroy_qp")) return number;
  Qp* qp = qp_of(ibv);
  {
    Fabric& all = fabric();
    std::lock_guard<std::mutex> post(qp->post_mutex);
    std::lock_guard<std::mutex> lock(all.mutex);
    reset_queues(qp);
    qp->device->qps.erase(ibv->qp_num);
    context_of(ibv->context)->async.remove_if([ibv](const ibv_async_event& event) {
      return event.event_type != IBV_EVENT_CQ_ERR && event.element.qp == ibv;
    });
    qp->send_cq->users--;
    qp->recv_cq->users--;
    pd_of(ibv->pd)->users--;
  }
  pthread_mutex_destroy(&ibv->mutex);
  pthread_cond_destroy(&ibv->cond);
  delete qp;
  return 0;
}

}  // extern "C"
