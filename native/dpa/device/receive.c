/* The receive worker: completions of one channel become packet and chunk bits in the device's memory, and chunk bits
 * become lines in the host's. One handler of one completion queue; it never blocks.
 *
 * Whose line is whose. A write through the window may rewrite the 64 bytes around it, so
 *   - the chunk bitmap that workers change with atomics is in the device's memory; the host has a copy, which only this
 *     program ever writes, whole lines at a time;
 *   - a line of that copy is written by who holds its lock: it reads the master after taking the lock, so no write can
 *     undo another one;
 *   - reports have one writer each.
 * What must be seen first is written back first: the bits, then the report that tells of them. */
#include <dpaintrin.h>
#include <libflexio-dev/flexio_dev.h>
#include <libflexio-dev/flexio_dev_endianity.h>
#include <libflexio-dev/flexio_dev_queue_access.h>

#include "dpa/device/program.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

void sdr_dpa_store_line(uint64_t host_address, const void* line) {
  flexio_uintptr_t at = 0;
  if (flexio_dev_window_ptr_acquire(FLEXIO_DEV_WINDOW_ENTITY_0, host_address, &at) != FLEXIO_DEV_STATUS_SUCCESS) {
    return;
  }
  volatile uint64_t* to = (volatile uint64_t*)at;
  const uint64_t* from = (const uint64_t*)line;
  for (int index = 0; index < SDR_DPA_LINE / 8; index++) to[index] = from[index];
}

static void publish_line(const sdr_dpa_pair* pair, uint64_t line) {
  uint8_t* lock = (uint8_t*)pair->line_locks + line;
  for (uint32_t spins = 0; __atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) != 0; spins++) sdr_rx_relax(spins);
  const uint32_t* master = (const uint32_t*)(pair->chunk_slab + line * SDR_DPA_LINE);
  uint32_t words[SDR_DPA_LINE / 4] __attribute__((aligned(8)));
  for (int index = 0; index < SDR_DPA_LINE / 4; index++) {
    words[index] = __atomic_load_n(master + index, __ATOMIC_ACQUIRE);
  }
  sdr_dpa_store_line(pair->mirror + line * SDR_DPA_LINE, words);
  __dpa_thread_window_writeback();
  __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

void sdr_dpa_publish(const sdr_dpa_pair* pair, uint32_t slot, uint32_t from, uint32_t to) {
  const struct sdr_rx* rx = (const struct sdr_rx*)pair->rx;
  const uint64_t first = slot * (rx->chunk_slot_bytes / SDR_DPA_LINE);
  for (uint32_t line = from / (8 * SDR_DPA_LINE); line <= to / (8 * SDR_DPA_LINE); line++) {
    publish_line(pair, first + line);
  }
}

static void report(const sdr_dpa_receiver* receiver, uint32_t index) {
  sdr_dpa_report* master = (sdr_dpa_report*)receiver->masters + index;
  master->changes_again = master->changes;
  sdr_dpa_store_line(receiver->reports + (uint64_t)index * SDR_DPA_LINE, master);
}

/* Everything that the batch noted goes to the host: bits, then what tells of them, then that there is news. */
static __attribute__((noinline)) void tell(sdr_dpa_receiver* receiver) {
  const sdr_dpa_pair* pair = (const sdr_dpa_pair*)receiver->pair;
  for (uint32_t index = 0; index < receiver->line_count; index++) publish_line(pair, receiver->lines[index]);
  for (uint32_t index = 0; index < receiver->slot_count; index++) report(receiver, 1 + receiver->slots[index]);
  if (receiver->slot_count != 0) __dpa_thread_window_writeback();
  receiver->line_count = receiver->slot_count = 0;
  sdr_dpa_report* worker = (sdr_dpa_report*)receiver->masters;
  worker->changes++;
  report(receiver, 0);
  __dpa_thread_window_writeback();
  flexio_dev_msix_send(pair->host_cq);
}

/* All bits of a message that is complete, for other workers may not have told theirs yet. */
static __attribute__((noinline)) void finish(sdr_dpa_receiver* receiver, const sdr_rx_slot* slot, uint32_t number) {
  const sdr_dpa_pair* pair = (const sdr_dpa_pair*)receiver->pair;
  const uint32_t chunks = slot->known.chunks;
  if (chunks != 0) sdr_dpa_publish(pair, number, 0, chunks - 1);
}

/* The chunk of this immediate is complete: its line and its slot are to be told. */
static inline __attribute__((always_inline)) void note(sdr_dpa_receiver* receiver, const struct sdr_rx* rx,
                                                       uint32_t immediate, uint32_t message, sdr_step step) {
  const uint32_t number = immediate >> rx->slot_shift;
  const sdr_rx_slot* slot = rx->table + number;
  uint32_t bit = sdr_rx_chunk_of(rx, (immediate >> rx->user_bits) & rx->packet_mask);
  if (UNLIKELY(bit >= slot->posted.chunks)) bit += ((slot->posted.chunks + 31) & ~31u) - slot->posted.chunks;
  const uint32_t line = (uint32_t)(number * (rx->chunk_slot_bytes / SDR_DPA_LINE)) + bit / (8 * SDR_DPA_LINE);
  sdr_dpa_report* master = (sdr_dpa_report*)receiver->masters + 1 + number;
  if (LIKELY(receiver->line_count != 0 && receiver->lines[receiver->line_count - 1] == line &&
             receiver->slot_count != 0 && receiver->slots[receiver->slot_count - 1] == number &&
             step == SDR_STEP_CHUNK)) {
    return;
  }
  if (receiver->line_count == SDR_DPA_HELD || receiver->slot_count == SDR_DPA_HELD) tell(receiver);
  receiver->lines[receiver->line_count++] = line;
  receiver->slots[receiver->slot_count++] = number;
  master->changes++;
  if (master->message != message) master->complete = 0;
  master->message = message;
  if (step != SDR_STEP_MESSAGE) return;
  master->complete = 1;
  if (rx->channels > 1) finish(receiver, slot, number);
}

/* Which of this channel's queues has the card's number `number`; `generations` when none has. */
static inline __attribute__((always_inline)) uint32_t generation_of(sdr_dpa_receiver* receiver, uint32_t number) {
  const sdr_dpa_queue* queues = (const sdr_dpa_queue*)receiver->queues;
  if (LIKELY(queues[receiver->last_generation].number == number)) return receiver->last_generation;
  for (uint32_t index = 0; index < receiver->generations; index++) {
    if (queues[index].number != number) continue;
    receiver->last_generation = index;
    return index;
  }
  return receiver->generations;
}

static __attribute__((noinline, cold)) void refuse(sdr_dpa_receiver* receiver, const sdr_dpa_cqe* cqe) {
  sdr_dpa_report* worker = (sdr_dpa_report*)receiver->masters;
  const uint32_t opcode = cqe->op_own >> 4;
  if (opcode == SDR_DPA_CQE_WRITTEN_IMM) {
    worker->unknown_queue++;
  } else {
    worker->errors++;
    worker->error_queue = be32_to_cpu(cqe->queue) & 0xffffff;
    worker->error_syndrome = opcode == SDR_DPA_CQE_RECEIVE_ERROR ? cqe->syndrome : 0x100u | opcode;
  }
  tell(receiver);
}

/* Gives the receive WQEs that completions used back to the card: it may overwrite their CQEs only after that. */
static void ring_doorbells(sdr_dpa_receiver* receiver, const uint32_t* used) {
  sdr_dpa_queue* queues = (sdr_dpa_queue*)receiver->queues;
  flexio_dev_dbr_cq_set_ci((uint32_t*)receiver->cq.doorbell, receiver->cq.index);
  for (uint32_t index = 0; index < receiver->generations; index++) {
    if (used[index] == 0) continue;
    queues[index].rq_posted += used[index];
    /* What flexio_dev_dbr_rq_inc_pi does for one: the record holds 16 bits. */
    __atomic_store_n((uint32_t*)queues[index].doorbell, cpu_to_be32(queues[index].rq_posted & 0xffff),
                     __ATOMIC_RELEASE);
  }
}

/* Up to SDR_DPA_BATCH completions; how many there were. */
static uint32_t take_batch(sdr_dpa_receiver* receiver, struct sdr_rx* rx) {
  const uint32_t mask = (1u << receiver->cq.log_entries) - 1, log = receiver->cq.log_entries;
  const sdr_dpa_cqe* ring = (const sdr_dpa_cqe*)receiver->cq.ring;
  const uint32_t channel = receiver->channel, channels = rx->channels;
  uint32_t used[SDR_GENERATIONS_MAX] = {0};
  uint32_t index = receiver->cq.index, taken = 0;
  sdr_rx_enter(rx, channel);
  for (; taken < SDR_DPA_BATCH; taken++, index++) {
    const sdr_dpa_cqe* cqe = ring + (index & mask);
    const uint8_t op_own = __atomic_load_n(&cqe->op_own, __ATOMIC_ACQUIRE);
    if ((op_own & 1) != (index >> log & 1) || op_own >> 4 == SDR_DPA_CQE_INVALID) break;
    __dpa_thread_fence(__DPA_MEMORY, __DPA_R, __DPA_R);
    const uint32_t generation = generation_of(receiver, be32_to_cpu(cqe->queue) & 0xffffff);
    if (generation < receiver->generations) used[generation]++;
    if (UNLIKELY(op_own >> 4 != SDR_DPA_CQE_WRITTEN_IMM || generation == receiver->generations)) {
      refuse(receiver, cqe);
      continue;
    }
    const sdr_completion completion = {generation * channels + channel, be32_to_cpu(cqe->immediate),
                                       be32_to_cpu(cqe->bytes)};
    uint32_t message = 0;
    const sdr_step step = sdr_rx_step(rx, channel, &completion, &message);
    if (step == SDR_STEP_CHUNK || step == SDR_STEP_MESSAGE) {
      note(receiver, rx, completion.immediate, message, step);
    }
  }
  if (taken != 0) {
    receiver->cq.index = index;
    ((sdr_dpa_report*)receiver->masters)->completions += taken;
    ring_doorbells(receiver, used);
  }
  sdr_rx_leave(rx, channel);
  return taken;
}

__dpa_global__ void sdr_dpa_receive(uint64_t argument) {
  sdr_dpa_receiver* receiver = (sdr_dpa_receiver*)argument;
  const sdr_dpa_pair* pair = (const sdr_dpa_pair*)receiver->pair;
  const uint32_t began = receiver->cq.index;
  flexio_dev_window_config(FLEXIO_DEV_WINDOW_ENTITY_0, (uint16_t)pair->window, pair->window_key);
  for (uint32_t count = 1; count <= SDR_DPA_BUDGET / SDR_DPA_BATCH; count++) {
    const uint32_t taken = take_batch(receiver, (struct sdr_rx*)pair->rx);
    const bool more = taken == SDR_DPA_BATCH;
    if (receiver->slot_count != 0 && (!more || count % SDR_DPA_TELL_EVERY == 0)) tell(receiver);
    if (!more) break;
  }
  if (receiver->cq.index != began) {
    /* Counts, for whoever looks; nobody is woken for them. */
    ((sdr_dpa_report*)receiver->masters)->changes++;
    report(receiver, 0);
    __dpa_thread_window_writeback();
  }
  /* Armed with completions left, the queue fires at once: that is how the next turn comes. */
  __dpa_thread_fence(__DPA_MEMORY, __DPA_W, __DPA_W);
  flexio_dev_cq_arm(receiver->cq.index, receiver->cq.number);
  flexio_dev_thread_reschedule();
}
