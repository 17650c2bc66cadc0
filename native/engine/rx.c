/* The receive side's control path: the message table's life, lengths, completion and views.
 * Freestanding as the step is: a device runs it on tables in its own memory. */
#include "engine/rx.h"

/* Exact reciprocals. A packet number is below 2^31. With s = 31 + ceil(log2 n) and
 * r = ceil(2^s / n), the error r * n - 2^s is below n <= 2^(s - 31), so p * error < 2^s and
 * (p * r) >> s = p / n; and p * r < 2^63. Likewise 2^12 queues and at most 2^6 channels below 2^32.
 */
static void set_constants(sdr_rx* rx) {
  const sdr_geometry* geometry = &rx->geometry;
  uint32_t log = 0;
  while ((UINT64_C(1) << log) < geometry->packets_per_chunk) log++;
  rx->chunk_shift = (uint8_t)(31 + log);
  rx->chunk_reciprocal = sdr_ceil_div(UINT64_C(1) << rx->chunk_shift, geometry->packets_per_chunk);
  rx->channel_reciprocal = sdr_ceil_div(UINT64_C(1) << 32, geometry->channels);
  rx->queues = geometry->generations * geometry->channels;
  rx->slots = geometry->slots;
  rx->channels = geometry->channels;
  rx->packet_bytes = geometry->packet_bytes;
  rx->packets_per_chunk = geometry->packets_per_chunk;
  const sdr_split split = geometry->split;
  rx->packet_mask = (1u << split.packet_bits) - 1;
  rx->user_mask = (1u << split.user_bits) - 1;
  rx->user_bits = split.user_bits;
  rx->slot_shift = (uint8_t)(split.packet_bits + split.user_bits);
  rx->fragments = sdr_split_fragments(split);
  rx->fragment_mask = rx->fragments == 0 ? 0 : (uint32_t)sdr_low_mask(rx->fragments);
}

void sdr_rx_init(sdr_rx* rx, const sdr_geometry* geometry, const sdr_rx_parts* parts) {
  rx->geometry = *geometry;
  set_constants(rx);
  const sdr_rx_layout layout = sdr_rx_layout_of(geometry);
  rx->stride_bits = layout.stride_bits;
  rx->chunks_max = layout.chunks;
  rx->chunk_slot_bytes = layout.chunk_slot_bytes;
  rx->packet_slot_bytes = layout.packet_slot_bytes + layout.sealed_slot_bytes;
  rx->chunk_slab_bytes = rx->chunk_slot_bytes * geometry->slots;
  rx->packet_slab_bytes = rx->packet_slot_bytes * geometry->slots;
  rx->table = (sdr_rx_slot*)parts->table;
  rx->workers = (sdr_rx_worker*)parts->workers;
  rx->chunk_slab = (uint8_t*)parts->chunk_slab;
  rx->packet_slab = (uint8_t*)parts->packet_slab;
  for (uint32_t index = 0; index < geometry->slots; index++) {
    sdr_rx_slot* slot = rx->table + index;
    slot->chunk_words = (uint32_t*)(void*)(rx->chunk_slab + index * rx->chunk_slot_bytes);
    slot->packet_words = (uint64_t*)(void*)(rx->packet_slab + index * rx->packet_slot_bytes);
    slot->sealed_words = slot->packet_words + layout.packet_slot_bytes / sizeof(uint64_t);
  }
}

sdr_rx_sizes sdr_rx_sizes_of(const sdr_geometry* geometry) {
  const sdr_rx_layout layout = sdr_rx_layout_of(geometry);
  const sdr_rx_sizes sizes = {
      sizeof(sdr_rx),
      sizeof(sdr_rx_slot) * geometry->slots,
      sizeof(sdr_rx_worker) * geometry->channels,
      layout.chunk_slot_bytes * geometry->slots,
      (layout.packet_slot_bytes + layout.sealed_slot_bytes) * geometry->slots,
  };
  return sizes;
}

static sdr_rx_extent extent_of(const sdr_rx* rx, uint64_t bytes) {
  sdr_rx_extent extent = {0, 0, 0, 0};
  if (bytes == 0) return extent;
  extent.packets = (uint32_t)sdr_ceil_div(bytes, rx->packet_bytes);
  extent.last_bytes = (uint32_t)(bytes - (uint64_t)(extent.packets - 1) * rx->packet_bytes);
  extent.chunks = sdr_rx_chunk_of(rx, extent.packets - 1) + 1;
  extent.last_chunk_packets = extent.packets - (extent.chunks - 1) * rx->packets_per_chunk;
  return extent;
}

/* The slot that holds `message` now, or NULL. */
static sdr_rx_slot* slot_of(const sdr_rx* rx, uint32_t message) {
  sdr_rx_slot* slot = rx->table + message % rx->slots;
  const uint64_t word = __atomic_load_n(&slot->word, __ATOMIC_ACQUIRE);
  return word != 0 && (uint32_t)word == message ? slot : NULL;
}

/* Bits are cleared here and not on completion, whose caller may go on reading them. Workers look at
 * nothing but the word of an inert slot, so all this is theirs to see only when the word is live.
 */
static void slot_open(sdr_rx* rx, sdr_rx_slot* slot, uint64_t bytes, uint32_t parity_chunks) {
  const sdr_rx_extent extent = extent_of(rx, bytes);
  const uint64_t packet_bits = ((uint64_t)extent.chunks + parity_chunks) * rx->stride_bits;
  __builtin_memset(slot->packet_words, 0, sdr_ceil_div(packet_bits, 64) * sizeof(uint64_t));
  const uint64_t chunk_words = sdr_ceil_div(extent.chunks, 32) + sdr_ceil_div(parity_chunks, 32);
  __builtin_memset(slot->chunk_words, 0, chunk_words * sizeof(uint32_t));
  if (parity_chunks != 0) {
    __builtin_memset(slot->sealed_words, 0, sdr_ceil_div(extent.chunks, 64) * sizeof(uint64_t));
  }
  slot->parity_chunks = parity_chunks;
  slot->posted = extent;
  slot->posted_bytes = bytes;
  slot->known_bytes = 0;
  __atomic_store_n(&slot->excess, false, __ATOMIC_RELAXED);
  __builtin_memset(&slot->known, 0, sizeof(slot->known));
  __atomic_store_n(&slot->user, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&slot->phase, SDR_LENGTH_UNKNOWN, __ATOMIC_RELAXED);
  __atomic_store_n(&slot->chunks_done, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&slot->full_words, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&slot->finished, 0, __ATOMIC_RELAXED);
}

sdr_status sdr_rx_post(sdr_rx* rx, uint32_t message, void* buffer, uint64_t bytes) {
  return sdr_rx_post_parity(rx, message, buffer, bytes, NULL, 0);
}

sdr_status sdr_rx_post_parity(sdr_rx* rx, uint32_t message, void* buffer, uint64_t bytes,
                              void* parity, uint32_t parity_chunks) {
  if (message != rx->next_message) return SDR_OUT_OF_ORDER;
  if (message == UINT32_MAX) return SDR_CLOSED; /* means "none"; numbers do not wrap */
  if (bytes > rx->geometry.max_message_bytes) return SDR_TOO_LARGE;
  if (parity_chunks != 0) { /* all of them full, so the last chunk of the largest message is too */
    const uint64_t chunks = (uint64_t)sdr_rx_parity_first(&rx->geometry, bytes) + parity_chunks;
    if (chunks > rx->chunks_max) return SDR_TOO_LARGE;
    if (chunks * rx->packets_per_chunk > (uint64_t)rx->packet_mask + 1) return SDR_TOO_LARGE;
  }
  sdr_rx_slot* slot = rx->table + message % rx->slots;
  if (__atomic_load_n(&slot->word, __ATOMIC_ACQUIRE) != 0) return SDR_BUSY;
  slot_open(rx, slot, bytes, parity_chunks);
  slot->buffer = (uint8_t*)buffer;
  slot->parity = (uint8_t*)parity;
  const uint32_t generation = message / rx->slots % rx->geometry.generations;
  const uint64_t word = (uint64_t)(SDR_SLOT_LIVE | generation) << 32 | message;
  __atomic_store_n(&slot->word, word, __ATOMIC_RELEASE);
  rx->next_message = message + 1;
  return SDR_OK;
}

/* S2 of rx_step.c: the last chunk may be complete by the true length and not by the posted one. */
static void settle_last_chunk(const sdr_rx* rx, sdr_rx_slot* slot) {
  const uint32_t chunk = slot->known.chunks - 1;
  if (sdr_rx_chunk_is_full(rx, slot, chunk, slot->known.last_chunk_packets, 0) &&
      sdr_rx_claim_chunk(slot, chunk)) {
    __atomic_fetch_add(&slot->chunks_done, 1, __ATOMIC_SEQ_CST);
  }
}

/* Bits set among [from, to). */
static uint32_t chunk_bits_count(const sdr_rx_slot* slot, uint32_t from, uint32_t to) {
  uint32_t count = 0;
  while (from < to) {
    const uint32_t shift = from & 31;
    const uint32_t width = to - from < 32 - shift ? to - from : 32 - shift;
    const uint32_t mask = (uint32_t)sdr_low_mask(width) << shift;
    const uint32_t bits = __atomic_load_n(slot->chunk_words + (from >> 5), __ATOMIC_SEQ_CST);
    count += (uint32_t)__builtin_popcount(bits & mask);
    from += width;
  }
  return count;
}

sdr_status sdr_rx_set_length(sdr_rx* rx, uint32_t message, uint64_t bytes, bool* complete) {
  *complete = false;
  sdr_rx_slot* slot = slot_of(rx, message);
  if (slot == NULL) return SDR_CLOSED;
  if (bytes > slot->posted_bytes) return SDR_TOO_LARGE;
  if (__atomic_load_n(&slot->phase, __ATOMIC_ACQUIRE) != SDR_LENGTH_UNKNOWN) {
    if (bytes != slot->known_bytes) return SDR_INVALID;
    *complete = __atomic_load_n(&slot->finished, __ATOMIC_ACQUIRE) != 0;
    return SDR_OK;
  }
  slot->known = extent_of(rx, bytes);
  slot->known_bytes = bytes;
  __atomic_store_n(&slot->phase, SDR_LENGTH_KNOWN, __ATOMIC_SEQ_CST); /* S1 */
  if (slot->known.chunks != 0) settle_last_chunk(rx, slot);           /* S2 */
  if (chunk_bits_count(slot, slot->known.chunks, slot->posted.chunks) != 0) {
    __atomic_store_n(&slot->excess, true, __ATOMIC_RELEASE);
  }
  *complete = sdr_rx_finish(slot, slot->known.chunks); /* S3 */
  if (slot->parity_chunks != 0) {
    __atomic_store_n(&slot->phase, SDR_LENGTH_SEALABLE, __ATOMIC_SEQ_CST);
  } else if (rx->channels == 1) {
    __atomic_store_n(&slot->phase, SDR_LENGTH_PLAIN, __ATOMIC_SEQ_CST);
  }
  return SDR_OK;
}

/* Until every batch that may not have seen the caller's last store (1) has ended. Each worker's
 * epoch is read (2); a worker stores an odd epoch (3), then loads what was stored (4); all four are
 * sequentially consistent. If 2 missed the epoch of 3, then 4 comes after 1 and sees it; if it saw
 * it, we wait until that batch has ended. The epoch's release in sdr_rx_leave hands its writes to
 * us. */
static void wait_for_batches(const sdr_rx* rx) {
  for (uint32_t index = 0; index < rx->channels; index++) {
    const uint64_t* epoch = &rx->workers[index].epoch;
    const uint64_t began = __atomic_load_n(epoch, __ATOMIC_SEQ_CST);
    if ((began & 1) == 0) continue;
    for (uint32_t spins = 0; __atomic_load_n(epoch, __ATOMIC_ACQUIRE) == began; spins++) {
      sdr_rx_relax(spins);
    }
  }
}

/* Nothing changes after it: batches that come find the slot inert. */
sdr_status sdr_rx_complete(sdr_rx* rx, uint32_t message) {
  sdr_rx_slot* slot = slot_of(rx, message);
  if (slot == NULL) return SDR_CLOSED;
  __atomic_store_n(&slot->word, 0, __ATOMIC_SEQ_CST);
  wait_for_batches(rx);
  slot->buffer = slot->parity = NULL;
  return SDR_OK;
}

/* The slot, in *out, when chunks [first, first + count) of the message may be sealed and filled. */
static sdr_status recoverable(const sdr_rx* rx, uint32_t message, uint32_t first, uint32_t count,
                              sdr_rx_slot** out) {
  *out = slot_of(rx, message);
  if (*out == NULL) return SDR_CLOSED;
  const uint32_t phase = __atomic_load_n(&(*out)->phase, __ATOMIC_SEQ_CST);
  const uint32_t chunks = (*out)->posted.chunks;
  return phase == SDR_LENGTH_SEALABLE && first <= chunks && count <= chunks - first ? SDR_OK
                                                                                    : SDR_INVALID;
}

sdr_status sdr_rx_seal(sdr_rx* rx, uint32_t message, uint32_t first, uint32_t count,
                       uint8_t* flags) {
  sdr_rx_slot* slot;
  const sdr_status status = recoverable(rx, message, first, count, &slot);
  if (status != SDR_OK) return status;
  for (uint32_t index = 0; index < count; index++) { /* R1 */
    const uint32_t chunk = first + index;
    if (chunk >= slot->known.chunks) flags[index] = 0;
    if (flags[index] == 0) continue;
    const uint64_t bit = UINT64_C(1) << (chunk & 63);
    __atomic_fetch_or(slot->sealed_words + (chunk >> 6), bit, __ATOMIC_SEQ_CST);
  }
  wait_for_batches(rx);                              /* R2 */
  for (uint32_t index = 0; index < count; index++) { /* R3 */
    if (flags[index] != 0 && chunk_bits_count(slot, first + index, first + index + 1) != 0) {
      flags[index] = 0;
    }
  }
  return SDR_OK;
}

sdr_status sdr_rx_fill(sdr_rx* rx, uint32_t message, uint32_t first, uint32_t count,
                       const uint8_t* flags, bool* complete) {
  *complete = false;
  sdr_rx_slot* slot;
  const sdr_status status = recoverable(rx, message, first, count, &slot);
  if (status != SDR_OK) return status;
  for (uint32_t index = 0; index < count; index++) {
    const uint32_t chunk = first + index;
    const bool is_filled = chunk < slot->known.chunks && sdr_rx_is_sealed(slot, chunk);
    if (flags[index] != 0 && !is_filled) return SDR_INVALID;
  }
  for (uint32_t index = 0; index < count; index++) {
    if (flags[index] == 0 || !sdr_rx_claim_chunk(slot, first + index)) continue; /* R4 */
    const uint32_t done = __atomic_add_fetch(&slot->chunks_done, 1, __ATOMIC_SEQ_CST);
    if (done >= slot->known.chunks && sdr_rx_finish(slot, slot->known.chunks)) *complete = true;
  }
  return SDR_OK;
}

uint32_t sdr_rx_slot_message(const sdr_rx* rx, uint32_t slot) {
  if (slot >= rx->slots) return UINT32_MAX;
  const uint64_t word = __atomic_load_n(&rx->table[slot].word, __ATOMIC_ACQUIRE);
  return word == 0 ? UINT32_MAX : (uint32_t)word;
}

sdr_bitmap_slab sdr_rx_bitmaps(const sdr_rx* rx) {
  const sdr_bitmap_slab slab = {rx->chunk_slab, rx->chunk_slab_bytes, rx->chunk_slot_bytes};
  return slab;
}

sdr_status sdr_rx_progress_get(const sdr_rx* rx, uint32_t message, sdr_rx_progress* out) {
  const sdr_rx_slot* slot = slot_of(rx, message);
  if (slot == NULL) return SDR_CLOSED;
  out->length_known = __atomic_load_n(&slot->phase, __ATOMIC_ACQUIRE) != SDR_LENGTH_UNKNOWN;
  out->chunks_total = out->length_known ? slot->known.chunks : slot->posted.chunks;
  out->complete = __atomic_load_n(&slot->finished, __ATOMIC_ACQUIRE) != 0;
  /* The count may hold chunks beyond the true length; the bits below it are exact then. */
  out->chunks_done = __atomic_load_n(&slot->excess, __ATOMIC_ACQUIRE)
                         ? chunk_bits_count(slot, 0, slot->known.chunks)
                         : __atomic_load_n(&slot->chunks_done, __ATOMIC_ACQUIRE);
  return SDR_OK;
}

sdr_status sdr_rx_chunk_expand(const sdr_rx* rx, uint32_t message, uint32_t chunk, uint64_t* bits,
                               size_t words) {
  const sdr_rx_slot* slot = slot_of(rx, message);
  if (slot == NULL) return SDR_CLOSED;
  const bool known = __atomic_load_n(&slot->phase, __ATOMIC_ACQUIRE) != SDR_LENGTH_UNKNOWN;
  const sdr_rx_extent* extent = known ? &slot->known : &slot->posted;
  if (chunk >= extent->chunks || words < sdr_ceil_div(rx->packets_per_chunk, 64)) {
    return SDR_INVALID;
  }
  const uint64_t first_bit = (uint64_t)chunk * rx->stride_bits;
  uint32_t left = sdr_rx_chunk_packets(rx, extent, chunk);
  for (size_t index = 0; index < sdr_ceil_div(rx->packets_per_chunk, 64); index++) {
    const uint32_t width = left < 64 ? left : 64;
    left -= width;
    /* Beyond a short last chunk the slab may hold nothing of this message. */
    bits[index] =
        width == 0
            ? 0
            : (__atomic_load_n(slot->packet_words + (first_bit >> 6) + index, __ATOMIC_ACQUIRE) >>
               (first_bit & 63)) &
                  sdr_low_mask(width);
  }
  return SDR_OK;
}

bool sdr_rx_user_immediate(const sdr_rx* rx, uint32_t message, uint32_t* value) {
  const sdr_rx_slot* slot = slot_of(rx, message);
  if (slot == NULL || rx->fragments == 0) return false;
  const uint64_t user = __atomic_load_n(&slot->user, __ATOMIC_ACQUIRE);
  if ((uint32_t)(user >> 32) != rx->fragment_mask) return false;
  *value = (uint32_t)user;
  return true;
}

void sdr_rx_counters(const sdr_rx* rx, uint64_t counts[SDR_STEP_KINDS]) {
  __builtin_memset(counts, 0, SDR_STEP_KINDS * sizeof(counts[0]));
  for (uint32_t worker = 0; worker < rx->channels; worker++) {
    for (int step = 0; step < SDR_STEP_KINDS; step++) {
      counts[step] += __atomic_load_n(&rx->workers[worker].counts[step], __ATOMIC_RELAXED);
    }
  }
}
