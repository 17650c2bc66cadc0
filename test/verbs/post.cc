// Posting: ibv_post_send and ibv_post_recv, and the ibv_wr_* builders with mlx5's raw entry.
#include <algorithm>
#include <cstring>

#include "fabric.h"

namespace emulated {
namespace {

bool may_send(const Qp& qp) {
  const ibv_qp_state state = qp.state;
  return state == IBV_QPS_RTS || state == IBV_QPS_ERR;
}

// The next place in the send queue; null when it is full. A place is free again when its
// completion, or that of a later request, has been polled.
SendWqe* next_wqe(Qp* qp) {
  const uint64_t polled = qp->send_polled.load(std::memory_order_acquire);
  if (qp->send_posted - polled >= qp->cap.max_send_wr) return nullptr;
  SendWqe* wqe = &qp->sends[qp->send_posted++ % qp->sends.size()];
  wqe->sges.clear();
  wqe->bytes.clear();
  wqe->is_raw = wqe->is_inline = wqe->has_ah = false;
  wqe->imm = 0;
  return wqe;
}

// What has been put in the queue becomes the device's. With post_mutex held.
void submit(Qp* qp) {
  Fabric& all = fabric();
  if (qp->send_submitted.load(std::memory_order_relaxed) == qp->send_posted) return;
  qp->send_submitted.store(qp->send_posted, std::memory_order_release);
  std::lock_guard<std::mutex> lock(all.mutex);
  if (qp->state == IBV_QPS_ERR) {
    break_qp(qp, IBV_WC_WR_FLUSH_ERR, 0);
  } else if (all.config.threaded) {
    if (qp->waiting) return;
    qp->waiting = true;
    all.waiting.push_back(qp);
    wake_thread();
  } else {
    advance(qp);
  }
  settle();
}

void add_inline(Qp* qp, SendWqe* wqe, const void* from, size_t bytes, int* error) {
  if (wqe->bytes.size() + bytes > qp->cap.max_inline_data) {
    *error = ENOMEM;
    return;
  }
  wqe->is_inline = true;
  const auto* data = static_cast<const uint8_t*>(from);
  wqe->bytes.insert(wqe->bytes.end(), data, data + bytes);
}

bool takes_write(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_RDMA_WRITE || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}
bool takes_send(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_SEND || opcode == IBV_WR_SEND_WITH_IMM;
}

int take_request(Qp* qp, const ibv_send_wr& wr) {
  const ibv_qp_type type = qp->ex.qp_base.qp_type;
  if (!takes_send(wr.opcode) && (!takes_write(wr.opcode) || type == IBV_QPT_UD)) return EINVAL;
  if (wr.num_sge < 0 || static_cast<uint32_t>(wr.num_sge) > qp->cap.max_send_sge) return EINVAL;
  SendWqe* wqe = next_wqe(qp);
  if (wqe == nullptr) return ENOMEM;
  wqe->wr_id = wr.wr_id;
  wqe->opcode = wr.opcode;
  wqe->signaled = qp->all_signaled || (wr.send_flags & IBV_SEND_SIGNALED) != 0;
  wqe->solicited = (wr.send_flags & IBV_SEND_SOLICITED) != 0;
  wqe->imm = wr.imm_data;
  if (takes_write(wr.opcode)) {
    wqe->remote = wr.wr.rdma.remote_addr;
    wqe->rkey = wr.wr.rdma.rkey;
  }
  int error = 0;
  if (type == IBV_QPT_UD) {
    if (wr.wr.ud.ah == nullptr)
      error = EINVAL;
    else
      wqe->ah = reinterpret_cast<Ah*>(wr.wr.ud.ah)->attr;
    wqe->has_ah = true;
    wqe->remote_qpn = wr.wr.ud.remote_qpn;
    wqe->remote_qkey = wr.wr.ud.remote_qkey;
  }
  for (int i = 0; i < wr.num_sge; i++) {
    const ibv_sge& sge = wr.sg_list[i];
    if ((wr.send_flags & IBV_SEND_INLINE) != 0)
      add_inline(qp, wqe, reinterpret_cast<const void*>(sge.addr), sge.length, &error);
    else if (sge.length > 0)
      wqe->sges.push_back(sge);
  }
  if (error != 0) qp->send_posted--;
  return error;
}

int take_receive(Qp* qp, const ibv_recv_wr& wr) {
  RecvQueue& recv = qp->recv;
  if (wr.num_sge < 0 || static_cast<uint32_t>(wr.num_sge) > std::max(1u, qp->cap.max_recv_sge))
    return EINVAL;
  const uint32_t polled = recv.polled.load(std::memory_order_acquire);
  if (recv.posted - polled >= recv.count) return ENOMEM;
  const uint32_t slot = recv.posted & (recv.count - 1);
  mlx5_wqe_data_seg* segs = &recv.ring[static_cast<size_t>(slot) * recv.sges];
  uint32_t used = 0;
  for (int i = 0; i < wr.num_sge; i++) {
    const ibv_sge& sge = wr.sg_list[i];
    if (sge.length > 0) segs[used++] = {htobe32(sge.length), htobe32(sge.lkey), htobe64(sge.addr)};
  }
  if (used < recv.sges) segs[used] = {0, htobe32(kInvalidLkey), 0};
  recv.wr_ids[slot] = wr.wr_id;
  recv.posted++;
  return 0;
}

// The builders of ibv_wr_*: errors are kept until wr_complete.

void start(ibv_qp_ex* ex) {
  Qp* qp = qp_of(ex);
  qp->post_mutex.lock();
  qp->send_start = qp->send_posted;
  qp->building = nullptr;
  qp->build_error = may_send(*qp) ? 0 : EINVAL;
}

SendWqe* begin(ibv_qp_ex* ex, ibv_wr_opcode opcode) {
  Qp* qp = qp_of(ex);
  qp->building = qp->build_error == 0 ? next_wqe(qp) : nullptr;
  if (qp->building == nullptr) {
    if (qp->build_error == 0) qp->build_error = ENOMEM;
    return nullptr;
  }
  SendWqe* wqe = qp->building;
  wqe->wr_id = ex->wr_id;
  wqe->opcode = opcode;
  wqe->signaled = qp->all_signaled || (ex->wr_flags & IBV_SEND_SIGNALED) != 0;
  wqe->solicited = (ex->wr_flags & IBV_SEND_SOLICITED) != 0;
  return wqe;
}

void begin_write(ibv_qp_ex* ex, ibv_wr_opcode opcode, uint32_t rkey, uint64_t remote, __be32 imm) {
  SendWqe* wqe = begin(ex, opcode);
  if (wqe == nullptr) return;
  wqe->rkey = rkey;
  wqe->remote = remote;
  wqe->imm = imm;
}
void wr_rdma_write(ibv_qp_ex* ex, uint32_t rkey, uint64_t remote) {
  begin_write(ex, IBV_WR_RDMA_WRITE, rkey, remote, 0);
}
void wr_rdma_write_imm(ibv_qp_ex* ex, uint32_t rkey, uint64_t remote, __be32 imm) {
  begin_write(ex, IBV_WR_RDMA_WRITE_WITH_IMM, rkey, remote, imm);
}
void wr_send(ibv_qp_ex* ex) { begin(ex, IBV_WR_SEND); }
void wr_send_imm(ibv_qp_ex* ex, __be32 imm) {
  if (SendWqe* wqe = begin(ex, IBV_WR_SEND_WITH_IMM)) wqe->imm = imm;
}

void set_sge_list(ibv_qp_ex* ex, size_t count, const ibv_sge* sges) {
  Qp* qp = qp_of(ex);
  if (qp->building == nullptr) return;
  if (count > qp->cap.max_send_sge) {
    qp->build_error = ENOMEM;
    return;
  }
  for (size_t i = 0; i < count; i++) {
    if (sges[i].length > 0) qp->building->sges.push_back(sges[i]);
  }
}
void set_sge(ibv_qp_ex* ex, uint32_t lkey, uint64_t address, uint32_t length) {
  const ibv_sge sge{address, length, lkey};
  set_sge_list(ex, 1, &sge);
}
void set_inline(ibv_qp_ex* ex, void* data, size_t bytes) {
  Qp* qp = qp_of(ex);
  if (qp->building != nullptr) add_inline(qp, qp->building, data, bytes, &qp->build_error);
}
void set_inline_list(ibv_qp_ex* ex, size_t count, const ibv_data_buf* list) {
  for (size_t i = 0; i < count; i++) set_inline(ex, list[i].addr, list[i].length);
}
void set_ud_addr(ibv_qp_ex* ex, ibv_ah* ah, uint32_t qpn, uint32_t qkey) {
  SendWqe* wqe = qp_of(ex)->building;
  if (wqe == nullptr) return;
  wqe->ah = reinterpret_cast<Ah*>(ah)->attr;
  wqe->has_ah = true;
  wqe->remote_qpn = qpn;
  wqe->remote_qkey = qkey;
}

int finish(ibv_qp_ex* ex) {
  Qp* qp = qp_of(ex);
  int error = qp->build_error;
  if (error == 0) error = injected("wr_complete");
  if (error != 0)
    qp->send_posted = qp->send_start;
  else
    submit(qp);
  qp->post_mutex.unlock();
  return error;
}
void abandon(ibv_qp_ex* ex) {
  Qp* qp = qp_of(ex);
  qp->send_posted = qp->send_start;
  qp->post_mutex.unlock();
}

// The driver takes the entry's size from its control segment; the rest is the device's to check.
void wr_raw_wqe(mlx5dv_qp_ex* dv, const void* entry) {
  Qp* qp = reinterpret_cast<DvQp*>(dv)->qp;
  SendWqe* wqe = begin(&qp->ex, IBV_WR_DRIVER1);
  if (wqe == nullptr) return;
  mlx5_wqe_ctrl_seg ctrl;
  std::memcpy(&ctrl, entry, sizeof ctrl);
  const size_t bytes = (be32toh(ctrl.qpn_ds) & 0x3f) * size_t{16};
  const auto* from = static_cast<const uint8_t*>(entry);
  wqe->bytes.assign(from, from + bytes);
  wqe->is_raw = true;
  wqe->signaled = (ctrl.fm_ce_se & MLX5_WQE_CTRL_CQ_UPDATE) != 0;  // wr_flags are ignored
}

}  // namespace

void set_builders(Qp* qp) {
  ibv_qp_ex& ex = qp->ex;
  if (qp->send_ops == 0 && qp->dv_ops == 0) return;
  ex.wr_start = start;
  ex.wr_complete = finish;
  ex.wr_abort = abandon;
  ex.wr_set_sge = set_sge;
  ex.wr_set_sge_list = set_sge_list;
  ex.wr_set_inline_data = set_inline;
  ex.wr_set_inline_data_list = set_inline_list;
  if (ex.qp_base.qp_type == IBV_QPT_UD) ex.wr_set_ud_addr = set_ud_addr;
  if ((qp->send_ops & IBV_QP_EX_WITH_RDMA_WRITE) != 0) ex.wr_rdma_write = wr_rdma_write;
  if ((qp->send_ops & IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM) != 0)
    ex.wr_rdma_write_imm = wr_rdma_write_imm;
  if ((qp->send_ops & IBV_QP_EX_WITH_SEND) != 0) ex.wr_send = wr_send;
  if ((qp->send_ops & IBV_QP_EX_WITH_SEND_WITH_IMM) != 0) ex.wr_send_imm = wr_send_imm;
  if ((qp->dv_ops & MLX5DV_QP_EX_WITH_RAW_WQE) != 0) qp->dv.ex.wr_raw_wqe = wr_raw_wqe;
}

int post_send(ibv_qp* ibv, ibv_send_wr* wr, ibv_send_wr** bad) {
  Qp* qp = qp_of(ibv);
  std::lock_guard<std::mutex> post(qp->post_mutex);
  int error = injected("post_send");
  if (error == 0 && !may_send(*qp)) error = EINVAL;
  for (; wr != nullptr && error == 0; wr = wr->next) {
    error = take_request(qp, *wr);
    if (error != 0) break;
  }
  if (error != 0) *bad = wr;
  submit(qp);  // what came before the bad one has been posted
  return error;
}

int post_recv(ibv_qp* ibv, ibv_recv_wr* wr, ibv_recv_wr** bad) {
  Qp* qp = qp_of(ibv);
  int error = injected("post_recv");
  if (error == 0 && qp->state == IBV_QPS_RESET) error = EINVAL;
  {
    std::lock_guard<std::mutex> lock(qp->recv_mutex);
    for (; wr != nullptr && error == 0; wr = wr->next) {
      error = take_receive(qp, *wr);
      if (error != 0) break;
    }
    qp->doorbells[MLX5_RCV_DBR].store(htobe32(qp->recv.posted & 0xffff), std::memory_order_release);
  }
  if (error != 0) *bad = wr;
  Fabric& all = fabric();
  if (qp->state == IBV_QPS_ERR || all.stalled_count > 0) {
    std::lock_guard<std::mutex> lock(all.mutex);
    if (qp->state == IBV_QPS_ERR) break_qp(qp, IBV_WC_WR_FLUSH_ERR, 0);
    retry_stalled();
    settle();
  }
  return error;
}

}  // namespace emulated
