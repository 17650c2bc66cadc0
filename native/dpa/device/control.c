/* The control path on the device: the host's calls on a message table that lies in the device's memory. The engine's
 * own functions, and after each the host's copy of the bits it may have changed. One call at a time for a pair. */
#include <dpaintrin.h>
#include <libflexio-dev/flexio_dev.h>

#include "dpa/device/program.h"

static void reply_bytes(uint64_t to, const void* bytes, uint32_t size) {
  const uint8_t* from = (const uint8_t*)bytes;
  for (uint32_t at = 0; at < size; at += SDR_DPA_LINE) {
    uint8_t line[SDR_DPA_LINE] __attribute__((aligned(8))) = {0};
    for (uint32_t index = 0; index < SDR_DPA_LINE && at + index < size; index++) line[index] = from[at + index];
    sdr_dpa_store_line(to + at, line);
    __dpa_thread_window_writeback();
  }
}

static void publish_all(const sdr_dpa_pair* pair, uint32_t message) {
  const struct sdr_rx* rx = (const struct sdr_rx*)pair->rx;
  const uint32_t number = message % rx->slots;
  const sdr_rx_slot* slot = rx->table + number;
  const uint32_t bits = ((slot->posted.chunks + 31) & ~31u) + slot->parity_chunks;
  if (bits != 0) sdr_dpa_publish(pair, number, 0, bits - 1);
}

static uint64_t init(const sdr_dpa_pair* pair) {
  const sdr_rx_parts parts = {(void*)pair->table, (void*)pair->workers, (void*)pair->chunk_slab,
                              (void*)pair->packet_slab};
  const sdr_status status = sdr_geometry_check(&pair->geometry);
  if (status == SDR_OK) sdr_rx_init((struct sdr_rx*)pair->rx, &pair->geometry, &parts);
  return status;
}

static uint64_t expand(sdr_dpa_call* call, const struct sdr_rx* rx) {
  uint64_t* bits = (uint64_t*)call->flags; /* a handler's stack is small */
  const sdr_status status = sdr_rx_chunk_expand(rx, call->message, call->first, bits, SDR_DPA_FLAGS_MAX / 8);
  if (status == SDR_OK) reply_bytes(call->reply, bits, (uint32_t)sdr_ceil_div(rx->packets_per_chunk, 64) * 8);
  return status;
}

static uint64_t seal(sdr_dpa_call* call, const sdr_dpa_pair* pair, struct sdr_rx* rx) {
  if (call->count == 0 || call->count > SDR_DPA_FLAGS_MAX) return SDR_INVALID;
  const sdr_status status = sdr_rx_seal(rx, call->message, call->first, call->count, call->flags);
  if (status != SDR_OK) return status;
  publish_all(pair, call->message); /* what was complete already must show, parity above all */
  reply_bytes(call->reply, call->flags, call->count);
  return status;
}

static uint64_t fill(const sdr_dpa_call* call, const sdr_dpa_pair* pair, struct sdr_rx* rx) {
  if (call->count == 0 || call->count > SDR_DPA_FLAGS_MAX) return SDR_INVALID;
  bool complete = false;
  const sdr_status status = sdr_rx_fill(rx, call->message, call->first, call->count, call->flags, &complete);
  if (status == SDR_OK) publish_all(pair, call->message);
  return status | (complete ? SDR_DPA_COMPLETE_BIT : 0);
}

static uint64_t set_length(const sdr_dpa_call* call, const sdr_dpa_pair* pair, struct sdr_rx* rx) {
  bool complete = false;
  const sdr_status status = sdr_rx_set_length(rx, call->message, call->bytes, &complete);
  if (status == SDR_OK) publish_all(pair, call->message);
  return status | (complete ? SDR_DPA_COMPLETE_BIT : 0);
}

static uint64_t post(const sdr_dpa_call* call, const sdr_dpa_pair* pair, struct sdr_rx* rx) {
  const sdr_status status = sdr_rx_post_parity(rx, call->message, NULL, call->bytes, NULL, call->count);
  if (status == SDR_OK) publish_all(pair, call->message);
  return status;
}

static uint64_t complete(const sdr_dpa_call* call, const sdr_dpa_pair* pair, struct sdr_rx* rx) {
  const sdr_status status = sdr_rx_complete(rx, call->message);
  if (status == SDR_OK) publish_all(pair, call->message); /* a worker that tells later tells the same */
  return status;
}

static uint64_t user_immediate(const sdr_dpa_call* call, const struct sdr_rx* rx) {
  uint32_t value = 0;
  if (!sdr_rx_user_immediate(rx, call->message, &value)) return SDR_CLOSED;
  return (uint64_t)value << 32 | SDR_OK;
}

static uint64_t progress(const sdr_dpa_call* call, const struct sdr_rx* rx) {
  sdr_rx_progress now;
  const sdr_status status = sdr_rx_progress_get(rx, call->message, &now);
  if (status == SDR_OK) reply_bytes(call->reply, &now, sizeof(now));
  return status;
}

static uint64_t counters(const sdr_dpa_call* call, const struct sdr_rx* rx) {
  uint64_t counts[SDR_STEP_KINDS];
  sdr_rx_counters(rx, counts);
  reply_bytes(call->reply, counts, sizeof(counts));
  return SDR_OK;
}

static void lock(sdr_dpa_packetiser* packetiser) {
  for (uint32_t spins = 0; __atomic_exchange_n(&packetiser->lock, 1, __ATOMIC_SEQ_CST) != 0; spins++) {
    sdr_rx_relax(spins);
  }
}

static uint64_t give(const sdr_dpa_call* call, sdr_dpa_packetiser* packetiser) {
  if (call->first >= SDR_DPA_SENDS) return SDR_INVALID;
  lock(packetiser);
  const bool fits = packetiser->tail % SDR_DPA_SENDS == call->first &&
                    packetiser->tail - packetiser->head < SDR_DPA_SENDS;
  if (fits) packetiser->sends[call->first] = call->send;
  if (fits) packetiser->tail++;
  __atomic_store_n(&packetiser->lock, 0, __ATOMIC_SEQ_CST);
  sdr_dpa_pump(packetiser);
  return fits ? SDR_OK : SDR_OUT_OF_ORDER;
}

static uint64_t cancel(const sdr_dpa_call* call, sdr_dpa_packetiser* packetiser) {
  lock(packetiser);
  for (uint32_t index = packetiser->head; index != packetiser->tail; index++) {
    sdr_dpa_send* send = packetiser->sends + index % SDR_DPA_SENDS;
    if (send->message == call->message) send->cancelled = 1;
  }
  __atomic_store_n(&packetiser->lock, 0, __ATOMIC_SEQ_CST);
  sdr_dpa_pump(packetiser);
  return SDR_OK;
}

__dpa_rpc__ uint64_t sdr_dpa_control(uint64_t argument) {
  sdr_dpa_call* call = (sdr_dpa_call*)argument;
  const sdr_dpa_pair* pair = (const sdr_dpa_pair*)call->pair;
  struct sdr_rx* rx = (struct sdr_rx*)pair->rx;
  flexio_dev_window_config(FLEXIO_DEV_WINDOW_ENTITY_0, (uint16_t)pair->window, pair->window_key);
  switch (call->op) {
    case SDR_DPA_INIT: return init(pair);
    case SDR_DPA_POST: return post(call, pair, rx);
    case SDR_DPA_SET_LENGTH: return set_length(call, pair, rx);
    case SDR_DPA_COMPLETE: return complete(call, pair, rx);
    case SDR_DPA_SEAL: return seal(call, pair, rx);
    case SDR_DPA_FILL: return fill(call, pair, rx);
    case SDR_DPA_PROGRESS: return progress(call, rx);
    case SDR_DPA_EXPAND: return expand(call, rx);
    case SDR_DPA_USER_IMMEDIATE: return user_immediate(call, rx);
    case SDR_DPA_COUNTERS: return counters(call, rx);
    case SDR_DPA_SEND: return give(call, (sdr_dpa_packetiser*)call->packetiser);
    case SDR_DPA_CANCEL: return cancel(call, (sdr_dpa_packetiser*)call->packetiser);
    default: return SDR_INVALID;
  }
}
