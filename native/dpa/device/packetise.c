/* The sender's packetiser: descriptors of a channel become single-packet RDMA writes with immediate, one WQE each, and
 * their completions become a word a descriptor on the host. Whoever gives it something to do (the control path, a
 * completion) pumps: one at a time, and who comes meanwhile leaves that to who is there.
 * Source: SDR-RDMA (arXiv 2505.05366) section 3.3: every packet is its own write, so packets may come in any order. */
#include <dpaintrin.h>
#include <libflexio-dev/flexio_dev.h>
#include <libflexio-dev/flexio_dev_endianity.h>
#include <libflexio-dev/flexio_dev_queue_access.h>

#include "dpa/device/program.h"

static sdr_dpa_queue* queue_of(const sdr_dpa_packetiser* packetiser, const sdr_dpa_send* send) {
  const sdr_dpa_pair* pair = (const sdr_dpa_pair*)packetiser->pair;
  const sdr_geometry* geometry = &pair->geometry;
  return (sdr_dpa_queue*)packetiser->queues + send->message / geometry->slots % geometry->generations;
}

static uint32_t* owner_at(const sdr_dpa_queue* queue, uint32_t position) {
  return (uint32_t*)queue->sq_owners + (position & ((1u << queue->sq_log) - 1));
}

static bool is_full(const sdr_dpa_queue* queue) { return queue->sq_posted - queue->sq_done == 1u << queue->sq_log; }

static void ring(sdr_dpa_queue* queue) {
  if (queue->sq_rung == queue->sq_posted) return;
  queue->sq_rung = queue->sq_posted;
  __dpa_thread_fence(__DPA_MEMORY, __DPA_W, __DPA_W); /* the WQEs before the record, the record before the doorbell */
  flexio_dev_dbr_sq_set_pi((uint32_t*)queue->doorbell + 1, queue->sq_posted);
  __dpa_thread_fence(__DPA_MEMORY, __DPA_W, __DPA_W);
  flexio_dev_qp_sq_ring_db((uint16_t)queue->sq_posted, queue->number);
}

/* A control segment; the block's number goes up. `owner`: 1 + the descriptor that ends with it, or 0. */
static union flexio_dev_sqe_seg* begin_wqe(sdr_dpa_queue* queue, enum flexio_ctrl_seg type, uint32_t owner) {
  const uint32_t position = queue->sq_posted++;
  const uint32_t mask = (1u << queue->sq_log) - 1;
  union flexio_dev_sqe_seg* segment =
      (union flexio_dev_sqe_seg*)(queue->sq_ring + (uint64_t)(position & mask) * SDR_DPA_LINE);
  const bool tell = owner != 0 || position % SDR_DPA_SIGNAL_EVERY == SDR_DPA_SIGNAL_EVERY - 1;
  flexio_dev_swqe_seg_ctrl_set(segment, position, queue->number,
                               tell ? MLX5_CTRL_SEG_CE_CQE_ALWAYS : MLX5_CTRL_SEG_CE_CQE_ON_CQE_ERROR, type);
  *owner_at(queue, position) = owner;
  return segment;
}

static void write_packet(const sdr_dpa_packetiser* packetiser, sdr_dpa_queue* queue, const sdr_dpa_send* send,
                         uint32_t owner) {
  const sdr_dpa_pair* pair = (const sdr_dpa_pair*)packetiser->pair;
  const sdr_geometry* geometry = &pair->geometry;
  const sdr_tx_packet made =
      sdr_tx_make(geometry, send->message, send->cut_bytes, send->next, send->user_immediate);
  const uint32_t slot = send->message % geometry->slots;
  /* The slot's key in this life of it: the receiver's card refuses payloads of another one. */
  const uint32_t remote_key = packetiser->peer_key + (slot << 8) + (send->message / geometry->slots & 0xff);
  union flexio_dev_sqe_seg* segment = begin_wqe(queue, FLEXIO_CTRL_SEG_RDMA_WRITE_IMM, owner);
  segment[0].ctrl.general_id = cpu_to_be32(made.immediate);
  flexio_dev_swqe_seg_rdma_set(segment + 1, remote_key, (uint64_t)send->next * geometry->packet_bytes);
  const uint64_t from = send->address + (uint64_t)(send->next - send->first) * geometry->packet_bytes;
  flexio_dev_swqe_seg_mem_ptr_data_set(segment + 2, made.bytes, send->key, from);
}

static void finish(sdr_dpa_packetiser* packetiser, uint32_t index, bool failed) {
  packetiser->done[index] = packetiser->sends[index].lap | (failed ? (uint32_t)SDR_DPA_SEND_FAILED : 0);
  packetiser->dirty[index / 16 / 64] |= UINT64_C(1) << (index / 16 % 64);
}

/* Writes what the descriptor has left. False: no room for more now. */
static bool write_send(sdr_dpa_packetiser* packetiser, uint32_t index) {
  sdr_dpa_send* send = packetiser->sends + index;
  sdr_dpa_queue* queue = queue_of(packetiser, send);
  const uint32_t channels = ((const sdr_dpa_pair*)packetiser->pair)->geometry.channels;
  if (send->cancelled != 0) {
    if (send->open == 0) {
      finish(packetiser, index, false);
      return true;
    }
    /* What was written of it may still be read: a block that does nothing ends after it. */
    if (is_full(queue)) return false;
    begin_wqe(queue, FLEXIO_CTRL_SEG_NOP, index + 1);
    return true;
  }
  for (; send->next < send->end; send->next += channels) {
    if (is_full(queue)) return false;
    write_packet(packetiser, queue, send, send->end - send->next <= channels ? index + 1 : 0);
    send->open = 1;
    if (queue->sq_posted - queue->sq_rung >= SDR_DPA_DOORBELL_EVERY) ring(queue);
  }
  return true;
}

/* Blocks that the card is through with, by its completions. */
static void collect(sdr_dpa_packetiser* packetiser) {
  const sdr_dpa_pair* pair = (const sdr_dpa_pair*)packetiser->pair;
  sdr_dpa_cq* cq = &packetiser->cq;
  const sdr_dpa_cqe* cqes = (const sdr_dpa_cqe*)cq->ring;
  sdr_dpa_queue* queues = (sdr_dpa_queue*)packetiser->queues;
  uint32_t index = cq->index;
  for (;; index++) {
    const sdr_dpa_cqe* cqe = cqes + (index & ((1u << cq->log_entries) - 1));
    const uint8_t op_own = __atomic_load_n(&cqe->op_own, __ATOMIC_ACQUIRE);
    if ((op_own & 1) != (index >> cq->log_entries & 1) || op_own >> 4 == SDR_DPA_CQE_INVALID) break;
    __dpa_thread_fence(__DPA_MEMORY, __DPA_R, __DPA_R);
    const bool failed = op_own >> 4 != SDR_DPA_CQE_SENT;
    if (failed) {
      packetiser->errors++;
      packetiser->error_syndrome = cqe->syndrome;
    }
    const uint32_t number = be32_to_cpu(cqe->queue) & 0xffffff;
    uint32_t generation = 0;
    while (generation < pair->geometry.generations && queues[generation].number != number) generation++;
    if (generation == pair->geometry.generations) continue;
    sdr_dpa_queue* queue = queues + generation;
    const uint16_t through = (uint16_t)(be16_to_cpu(cqe->wqe_counter) + 1 - queue->sq_done);
    if (through > queue->sq_posted - queue->sq_done) continue; /* of nothing that was posted */
    for (uint32_t left = through; left > 0; left--) {
      uint32_t* owner = owner_at(queue, queue->sq_done++);
      if (*owner != 0) finish(packetiser, *owner - 1, failed);
      *owner = 0;
    }
  }
  __atomic_store_n(&cq->index, index, __ATOMIC_RELAXED); /* the handler reads it to arm */
  flexio_dev_dbr_cq_set_ci((uint32_t*)cq->doorbell, index);
}

static void tell(sdr_dpa_packetiser* packetiser) {
  bool any = false;
  for (uint32_t word = 0; word < SDR_DPA_SENDS / 16 / 64; word++) {
    while (packetiser->dirty[word] != 0) {
      const uint32_t line = 64 * word + (uint32_t)__builtin_ctzll(packetiser->dirty[word]);
      packetiser->dirty[word] &= packetiser->dirty[word] - 1;
      sdr_dpa_store_line(packetiser->report + (uint64_t)line * SDR_DPA_LINE, packetiser->done + 16 * line);
      any = true;
    }
  }
  if (!any) return;
  __dpa_thread_window_writeback();
  flexio_dev_msix_send(((const sdr_dpa_pair*)packetiser->pair)->host_cq);
}

static void work(sdr_dpa_packetiser* packetiser) {
  sdr_dpa_queue* queues = (sdr_dpa_queue*)packetiser->queues;
  collect(packetiser);
  while (packetiser->head != packetiser->tail && write_send(packetiser, packetiser->head % SDR_DPA_SENDS)) {
    packetiser->head++;
  }
  const uint32_t generations = ((const sdr_dpa_pair*)packetiser->pair)->geometry.generations;
  for (uint32_t index = 0; index < generations; index++) ring(queues + index);
  tell(packetiser);
}

void sdr_dpa_pump(sdr_dpa_packetiser* packetiser) {
  __atomic_store_n(&packetiser->again, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&packetiser->again, __ATOMIC_SEQ_CST) != 0) {
    if (__atomic_exchange_n(&packetiser->lock, 1, __ATOMIC_SEQ_CST) != 0) return; /* who has it comes round again */
    __atomic_store_n(&packetiser->again, 0, __ATOMIC_SEQ_CST);
    work(packetiser);
    __atomic_store_n(&packetiser->lock, 0, __ATOMIC_SEQ_CST);
  }
}

__dpa_global__ void sdr_dpa_packetise(uint64_t argument) {
  sdr_dpa_packetiser* packetiser = (sdr_dpa_packetiser*)argument;
  const sdr_dpa_pair* pair = (const sdr_dpa_pair*)packetiser->pair;
  flexio_dev_window_config(FLEXIO_DEV_WINDOW_ENTITY_0, (uint16_t)pair->window, pair->window_key);
  sdr_dpa_pump(packetiser);
  __dpa_thread_fence(__DPA_MEMORY, __DPA_W, __DPA_W);
  flexio_dev_cq_arm(__atomic_load_n(&packetiser->cq.index, __ATOMIC_RELAXED), packetiser->cq.number);
  flexio_dev_thread_reschedule();
}
