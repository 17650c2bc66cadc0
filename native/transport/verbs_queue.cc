#include "transport/verbs_queue.h"

#include <endian.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace sdr::verbs {
namespace {

// Packets stand alone: their numbers say nothing.
constexpr uint32_t kFirstPsn = 0;
constexpr uint8_t kHopLimit = 64;  // a routed WAN
// RC only, as perftest has them: 67 ms (4.096 us * 2^14), retries 7, RNR retries without end.
constexpr uint8_t kAckTimeout = 14, kRetries = 7, kRnrRetries = 7, kRnrTimer = 12;

}  // namespace

int bring_to_init(const Device& device, ibv_qp* qp) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_INIT;
  attr.pkey_index = 0;
  attr.port_num = device.port_number;
  attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
  return device.ibv.modify_qp(qp, &attr,
                              IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

int connect(const Device& device, ibv_qp* qp, const PeerAddress& peer, uint32_t peer_number,
            bool reliable) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RTR;
  attr.path_mtu = mtu_of(std::min(device.mtu, peer.mtu));
  attr.dest_qp_num = peer_number;
  attr.rq_psn = kFirstPsn;
  attr.ah_attr.port_num = device.port_number;
  attr.ah_attr.dlid = peer.lid;
  if (device.gid_index >= 0 && peer.has_gid) {
    attr.ah_attr.is_global = 1;
    attr.ah_attr.grh.dgid = peer.gid;
    attr.ah_attr.grh.sgid_index = static_cast<uint8_t>(device.gid_index);
    attr.ah_attr.grh.hop_limit = kHopLimit;
    attr.ah_attr.grh.traffic_class = device.options.traffic_class;
  }
  int mask = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
  if (reliable) {
    attr.max_dest_rd_atomic = 0;
    attr.min_rnr_timer = kRnrTimer;
    mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
  }
  if (const int error = device.ibv.modify_qp(qp, &attr, mask); error != 0) return error;
  attr = {};
  attr.qp_state = IBV_QPS_RTS;
  attr.sq_psn = kFirstPsn;
  mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
  if (reliable) {
    attr.timeout = kAckTimeout;
    attr.retry_cnt = kRetries;
    attr.rnr_retry = kRnrRetries;
    attr.max_rd_atomic = 0;
    mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
  }
  return device.ibv.modify_qp(qp, &attr, mask);
}

HardwareQueue& HardwareQueue::operator=(HardwareQueue&& other) noexcept {
  if (this == &other) return *this;
  destroy();
  ibv_ = other.ibv_;
  qp_ = std::exchange(other.qp_, nullptr);
  ex_ = std::exchange(other.ex_, nullptr);
  chain_ = std::move(other.chain_);
  doorbell_ = std::exchange(other.doorbell_, nullptr);
  posted_ = other.posted_;
  return *this;
}

int HardwareQueue::create(const Device& device, ibv_cq* send_cq, ibv_cq* receive_cq,
                          const Depths& depths) {
  ibv_ = &device.ibv;
  verbs_context* extended = verbs_get_ctx_op(device.context, create_qp_ex);
  if (extended == nullptr) return EOPNOTSUPP;
  ibv_qp_init_attr_ex attributes{};
  attributes.qp_type = device.options.reliable ? IBV_QPT_RC : IBV_QPT_UC;
  attributes.send_cq = send_cq;
  attributes.recv_cq = receive_cq;
  attributes.cap.max_send_wr = depths.send;
  attributes.cap.max_recv_wr = depths.receive;
  attributes.cap.max_send_sge = 1;
  attributes.cap.max_recv_sge = 1;
  attributes.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  attributes.pd = device.pd;
  attributes.send_ops_flags = IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | IBV_QP_EX_WITH_SEND;
  errno = 0;
  qp_ = extended->create_qp_ex(device.context, &attributes);
  if (qp_ == nullptr) return errno != 0 ? errno : EINVAL;
  // Both begin alike in one made with send operations.
  ex_ = ibv_->qp_to_qp_ex != nullptr ? ibv_->qp_to_qp_ex(qp_) : reinterpret_cast<ibv_qp_ex*>(qp_);
  return bring_to_init(device, qp_);
}

int HardwareQueue::connect(const Device& device, const PeerAddress& peer, uint32_t peer_number) {
  return verbs::connect(device, qp_, peer, peer_number, device.options.reliable);
}

void HardwareQueue::to_error() {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_ERR;
  if (qp_ != nullptr) ibv_->modify_qp(qp_, &attr, IBV_QP_STATE);
}

void HardwareQueue::destroy() {
  if (qp_ != nullptr) ibv_->destroy_qp(qp_);
  qp_ = nullptr;
}

int HardwareQueue::fill_empty(const Device& device, uint64_t id, uint32_t count) {
  chain_.assign(count, ibv_recv_wr{});
  for (uint32_t i = 0; i < count; i++) {
    chain_[i].wr_id = id;
    chain_[i].next = i + 1 < count ? &chain_[i + 1] : nullptr;
  }
  if (const int error = refill_empty(count); error != 0) return error;
#if defined(SDR_HAVE_MLX5DV)
  // From here on the entries of the ring stay as they are; only the count in its doorbell record
  // moves on.
  mlx5dv_qp raw{};
  mlx5dv_obj object{};
  object.qp.in = qp_;
  object.qp.out = &raw;
  const bool is_whole =
      count != 0 && (count & (count - 1)) == 0;  // the ring has as many entries as were posted
  if (device.mlx5 != nullptr && is_whole && device.mlx5->init_obj(&object, MLX5DV_OBJ_QP) == 0 &&
      raw.rq.wqe_cnt == count && raw.dbrec != nullptr) {
    doorbell_ = reinterpret_cast<uint32_t*>(raw.dbrec);  // record 0 is the receive queue's
    posted_ = count;
  }
#else
  static_cast<void>(device);
#endif
  return 0;
}

int HardwareQueue::refill_empty(uint32_t count) {
  if (count == 0) return 0;
  if (doorbell_ != nullptr) {
    posted_ += count;
    // The device reads it at any time: what the entries say comes before it.
    __atomic_store_n(doorbell_, htobe32(posted_ & 0xffff), __ATOMIC_RELEASE);
    return 0;
  }
  ibv_recv_wr* last = &chain_[count - 1];
  ibv_recv_wr* const next = std::exchange(last->next, nullptr);
  ibv_recv_wr* bad = nullptr;
  const int error = qp_->context->ops.post_recv(qp_, &chain_[0], &bad);
  last->next = next;
  return error;
}

}  // namespace sdr::verbs
