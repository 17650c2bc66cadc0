/* The emulation's stand-in for FlexIO's queue access, as far as native/dpa/device uses it: doorbell records and WQE
 * segments in the card's byte order, doorbells by calls into the emulated card (device.cc). */
#ifndef SDR_EMULATED_FLEXIO_DEV_QUEUE_ACCESS_H
#define SDR_EMULATED_FLEXIO_DEV_QUEUE_ACCESS_H

#include <stdbool.h>

#include "libflexio-dev/flexio_dev.h"
#include "libflexio-dev/flexio_dev_endianity.h"

#ifdef __cplusplus
extern "C" {
#endif

enum cq_ce_mode {
  MLX5_CTRL_SEG_CE_CQE_ON_CQE_ERROR = 0,
  MLX5_CTRL_SEG_CE_CQE_ON_FIRST_CQE_ERROR = 1,
  MLX5_CTRL_SEG_CE_CQE_ALWAYS = 2
};
enum flexio_ctrl_seg { FLEXIO_CTRL_SEG_NOP = 7, FLEXIO_CTRL_SEG_RDMA_WRITE_IMM = 8 };
enum { MLX5_CTRL_SEG_OPCODE_NOP = 0, MLX5_CTRL_SEG_OPCODE_RDMA_WRITE_WITH_IMMEDIATE = 9 };

union flexio_dev_sqe_seg { /* 16 bytes, big-endian */
  struct {
    uint32_t idx_opcode, qpn_ds, signature_fm_ce_se, general_id;
  } ctrl;
  struct {
    uint64_t raddr;
    uint32_t rkey, reserved;
  } rdma;
  struct {
    uint32_t byte_count, lkey;
    uint64_t addr;
  } mem_ptr_send_data;
};

void flexio_dev_qp_sq_ring_db(uint16_t pi, uint32_t qnum);
void flexio_dev_cq_arm(uint32_t ci, uint32_t qnum);
/* An event on a completion queue that the host waits on. */
void flexio_dev_msix_send(uint32_t cqn);

static inline void flexio_dev_dbr_cq_set_ci(uint32_t* record, uint32_t ci) {
  __atomic_store_n(record, cpu_to_be32(ci & 0xffffff), __ATOMIC_RELEASE);
}
static inline void flexio_dev_dbr_sq_set_pi(uint32_t* record, uint32_t pi) {
  __atomic_store_n(record, cpu_to_be32(pi & 0xffff), __ATOMIC_RELEASE);
}

static inline flexio_dev_status_t flexio_dev_swqe_seg_ctrl_set(union flexio_dev_sqe_seg* segment, uint32_t sq_pi,
                                                               uint32_t sq_number, uint32_t ce,
                                                               enum flexio_ctrl_seg type) {
  const bool writes = type == FLEXIO_CTRL_SEG_RDMA_WRITE_IMM;
  const uint32_t opcode = writes ? MLX5_CTRL_SEG_OPCODE_RDMA_WRITE_WITH_IMMEDIATE : MLX5_CTRL_SEG_OPCODE_NOP;
  segment->ctrl.idx_opcode = cpu_to_be32((sq_pi & 0xffff) << 8 | opcode);
  segment->ctrl.qpn_ds = cpu_to_be32(sq_number << 8 | (writes ? 3u : 1u));
  segment->ctrl.signature_fm_ce_se = cpu_to_be32(ce << 2);
  segment->ctrl.general_id = 0;
  return FLEXIO_DEV_STATUS_SUCCESS;
}
static inline flexio_dev_status_t flexio_dev_swqe_seg_rdma_set(union flexio_dev_sqe_seg* segment, uint32_t rkey,
                                                               uint64_t raddr) {
  segment->rdma.raddr = cpu_to_be64(raddr);
  segment->rdma.rkey = cpu_to_be32(rkey);
  return FLEXIO_DEV_STATUS_SUCCESS;
}
static inline flexio_dev_status_t flexio_dev_swqe_seg_mem_ptr_data_set(union flexio_dev_sqe_seg* segment,
                                                                       uint32_t bytes, uint32_t lkey,
                                                                       uint64_t address) {
  segment->mem_ptr_send_data.byte_count = cpu_to_be32(bytes);
  segment->mem_ptr_send_data.lkey = cpu_to_be32(lkey);
  segment->mem_ptr_send_data.addr = cpu_to_be64(address);
  return FLEXIO_DEV_STATUS_SUCCESS;
}

#ifdef __cplusplus
}
#endif
#endif
