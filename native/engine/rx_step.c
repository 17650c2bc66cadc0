/* The receive worker's step: completion -> generation check -> packet bit -> chunk bit.
 * One piece of code for every transport and device: no libc, no allocation, no locks.
 * Source: SDR-RDMA (arXiv 2505.05366) sections 3.2 to 3.4.
 *
 * Who reports a message complete. Workers may complete chunks before the length is known, while
 * sdr_rx_set_length is at work, and after it. All the operations named here are sequentially
 * consistent, so they lie in one order.
 *   worker:     W1 set packet bit; W2 read phase; W3 set chunk bit; W4 read phase; W5 add to
 *               chunks_done; W6 read phase; if known and chunks_done >= total: W7 look at all bits
 *   set_length: S1 phase := known; S2 look at the last chunk's packets, set its bit if full and
 * add; S3 look at all chunk bits (a) The truly last chunk, short now: a worker whose W2 read
 * "unknown" set its bit before S1, so S2 sees it; one whose W2 read "known" judges by the true
 * length. Either completes the chunk, both may try, and the chunk bit (one atomic or) lets one of
 * them count it. (b) Chunks beyond the true total, complete early because the sender wrote more
 * than it announced: W4 keeps a worker that knows better from counting. So chunks_done >= total is
 * necessary for completeness but may not suffice, which is why W7 looks at the bits themselves. (c)
 * Somebody sees completion: if S3 finds a bit missing, the worker that sets it does W3 after S1.
 *     Among all workers' adds the last one, W5, finds chunks_done >= total, and its W6 follows that
 *     of the bit set after S1, so reads "known"; its W7 sees all bits, each of which was set before
 *     its own add. And just one reports: `finished` is exchanged.
 * With one worker, once set_length is through, nobody else writes the bitmaps: phase PLAIN, where
 * the same steps are plain loads and stores.
 *
 * Who writes a chunk's bytes, of a message with parity (phase SEALABLE, once set_length is through,
 * so that S2 is over). Sequentially consistent as well:
 *   worker: enter; P1 read sealed bit, if clear place and write bytes; P2 read sealed bit, if clear
 *           W1 to W7; leave
 *   seal:   R1 set sealed bits; R2 wait for batches; R3 read chunk bits
 *   fill:   R4 W3, W5 and W7 with the length known
 * (d) After R2 no worker writes to the chunk: a batch that R2 did not wait for entered after R1 was
 *     visible, reads phase SEALABLE (stored before R1) and a set bit at P1.
 * (e) Nor does one claim it: W3 follows a P2 that found the bit clear, which is in a batch that R2
 *     waited for, and is seen by R3: such a chunk is not the caller's. Its sealed bit stays: all its
 *     packets are in, and DUPLICATE already. So W3 and R4 never compete for a chunk, but for phantom
 *     receives, whose callers may seal and fill again; then the chunk bit lets one of them count it.
 * (f) R4 is a worker to (c), whose length was known all along. */
#include "engine/rx.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

typedef struct target {
  sdr_rx_slot* slot;
  uint32_t message, packet, phase;
} target;

/* Of resolve(), beside the results that the step has: a packet of a parity chunk. */
enum { PARITY_PACKET = SDR_STEP_KINDS };

/* A packet beyond the message's own: of a parity chunk, or none of this message's at all. */
static __attribute__((noinline, cold)) sdr_step resolve_parity(const struct sdr_rx* rx,
                                                               const sdr_rx_slot* slot,
                                                               uint32_t packet, uint32_t bytes) {
  const uint32_t chunk = sdr_rx_chunk_of(rx, packet);
  const uint32_t first = slot->posted.chunks;
  if (chunk < first || chunk - first >= slot->parity_chunks) return SDR_STEP_BAD_PACKET;
  return bytes == rx->packet_bytes ? (sdr_step)PARITY_PACKET : SDR_STEP_BAD_LENGTH;
}

/* Where the completion belongs, or why it must be dropped. Every field comes from the wire. */
static inline __attribute__((always_inline)) sdr_step resolve(const struct sdr_rx* rx,
                                                              const sdr_completion* completion,
                                                              target* at) {
  const uint32_t queue = completion->queue;
  if (UNLIKELY(queue >= rx->queues)) return SDR_STEP_BAD_QUEUE;
  const uint32_t index = completion->immediate >> rx->slot_shift;
  if (UNLIKELY(index >= rx->slots)) return SDR_STEP_BAD_SLOT;
  sdr_rx_slot* slot = rx->table + index;
  const uint32_t generation = (uint32_t)(queue * rx->channel_reciprocal >> 32);
  /* Sequentially consistent with sdr_rx_enter's store: see sdr_rx_complete. */
  const uint64_t word = __atomic_load_n(&slot->word, __ATOMIC_SEQ_CST);
  if (UNLIKELY(word >> 32 != (SDR_SLOT_LIVE | generation))) return SDR_STEP_LATE;
  const uint32_t packet = (completion->immediate >> rx->user_bits) & rx->packet_mask;
  const uint32_t phase = __atomic_load_n(&slot->phase, __ATOMIC_SEQ_CST);
  const bool known = LIKELY(phase != SDR_LENGTH_UNKNOWN);
  const sdr_rx_extent* extent = known ? &slot->known : &slot->posted;
  at->slot = slot;
  at->message = (uint32_t)word;
  at->packet = packet;
  at->phase = phase;
  if (UNLIKELY(packet >= extent->packets)) {
    return resolve_parity(rx, slot, packet, completion->bytes);
  }
  const uint32_t most = packet + 1 == extent->packets ? extent->last_bytes : rx->packet_bytes;
  /* Before the length is known any packet may be the message's last, short one. */
  if (UNLIKELY(completion->bytes != most) &&
      (known || completion->bytes == 0 || completion->bytes > most)) {
    return SDR_STEP_BAD_LENGTH;
  }
  return SDR_STEP_PACKET;
}

/* Keeps the packet's part of the user immediate; the first packet to bring a part wins. Comes
 * before the packet's bit, so that a complete message has all the parts that were sent. */
static inline void take_fragment(const struct sdr_rx* rx, sdr_rx_slot* slot, uint32_t packet,
                                 uint32_t immediate) {
  const uint64_t have = __atomic_load_n(&slot->user, __ATOMIC_RELAXED);
  if (LIKELY((uint32_t)(have >> 32) == rx->fragment_mask)) return;
  const uint32_t index = packet % rx->fragments;
  if ((have >> (32 + index) & 1) != 0) return;
  const uint32_t part = (immediate & rx->user_mask) << (index * rx->user_bits);
  __atomic_fetch_or(&slot->user, (UINT64_C(1) << (32 + index)) | part, __ATOMIC_RELEASE);
}

/* Where a packet's bit is, and its chunk. */
typedef struct place {
  uint64_t* word;
  uint64_t bit;
  uint32_t chunk, index; /* of the packet in its chunk */
  uint32_t first_shift;  /* bit number in *word of the word's first packet of this chunk */
} place;

static inline __attribute__((always_inline)) place place_of(const struct sdr_rx* rx,
                                                            const target* at) {
  place p;
  p.chunk = sdr_rx_chunk_of(rx, at->packet);
  p.index = at->packet - p.chunk * rx->packets_per_chunk;
  const uint64_t position = (uint64_t)p.chunk * rx->stride_bits + p.index;
  p.word = at->slot->packet_words + (position >> 6);
  p.bit = UINT64_C(1) << (position & 63);
  p.first_shift = (uint32_t)(position - p.index) & 63;
  return p;
}

/* Whether, with `bits` in its word, the packet's chunk of `count` packets is complete. Cheap unless
 * that word is. */
static inline __attribute__((always_inline)) bool completes(const struct sdr_rx* rx,
                                                            const target* at, const place* p,
                                                            uint32_t count, uint64_t bits) {
  if (LIKELY(rx->stride_bits <= 64)) {
    const uint64_t mask = sdr_low_mask(count) << p->first_shift;
    return (bits & mask) == mask;
  }
  const uint32_t left = count - (p->index & ~63u);
  const uint64_t mask = sdr_low_mask(left < 64 ? left : 64);
  return (bits & mask) == mask &&
         sdr_rx_chunk_is_full(rx, at->slot, p->chunk, count, p->index >> 6);
}

/* One worker, length known and settled: nobody else writes. */
static inline __attribute__((always_inline)) sdr_step step_plain(const struct sdr_rx* rx,
                                                                 const target* at) {
  const place p = place_of(rx, at);
  const uint64_t bits = __atomic_load_n(p.word, __ATOMIC_RELAXED);
  if (UNLIKELY((bits & p.bit) != 0)) return SDR_STEP_DUPLICATE;
  __atomic_store_n(p.word, bits | p.bit, __ATOMIC_RELEASE);
  sdr_rx_slot* slot = at->slot;
  const uint32_t count = sdr_rx_chunk_packets(rx, &slot->known, p.chunk);
  if (!completes(rx, at, &p, count, bits | p.bit)) return SDR_STEP_PACKET;
  uint32_t* chunk_word = slot->chunk_words + (p.chunk >> 5);
  const uint32_t chunks = __atomic_load_n(chunk_word, __ATOMIC_RELAXED);
  __atomic_store_n(chunk_word, chunks | 1u << (p.chunk & 31), __ATOMIC_RELEASE);
  const uint32_t done = __atomic_load_n(&slot->chunks_done, __ATOMIC_RELAXED) + 1;
  __atomic_store_n(&slot->chunks_done, done, __ATOMIC_RELEASE);
  if (LIKELY(done < slot->known.chunks)) return SDR_STEP_CHUNK;
  return sdr_rx_finish(slot, slot->known.chunks) ? SDR_STEP_MESSAGE : SDR_STEP_CHUNK;
}

/* P1, P2: whether the chunk was sealed, and its packets come too late. */
static inline __attribute__((always_inline)) bool is_taken(const target* at, uint32_t chunk) {
  return UNLIKELY(at->phase == SDR_LENGTH_SEALABLE) && sdr_rx_is_sealed(at->slot, chunk);
}

/* A packet of a parity chunk: its bits, and nothing that counts. */
static __attribute__((noinline)) sdr_step step_parity(const struct sdr_rx* rx, const target* at) {
  const place p = place_of(rx, at);
  sdr_rx_slot* slot = at->slot;
  const uint64_t bits = __atomic_fetch_or(p.word, p.bit, __ATOMIC_SEQ_CST);
  if ((bits & p.bit) != 0) return SDR_STEP_DUPLICATE;
  if (!completes(rx, at, &p, rx->packets_per_chunk, bits | p.bit)) return SDR_STEP_PACKET;
  const uint32_t bit = ((slot->posted.chunks + 31) & ~31u) + (p.chunk - slot->posted.chunks);
  return sdr_rx_claim_chunk(slot, bit) ? SDR_STEP_CHUNK : SDR_STEP_PACKET;
}

/* Several workers, or a length that may become known meanwhile. W1 to W7: see the top. */
static sdr_step step_shared(const struct sdr_rx* rx, const target* at) {
  const place p = place_of(rx, at);
  sdr_rx_slot* slot = at->slot;
  if ((__atomic_load_n(p.word, __ATOMIC_RELAXED) & p.bit) != 0 || is_taken(at, p.chunk)) {
    return SDR_STEP_DUPLICATE;
  }
  const uint64_t bits = __atomic_fetch_or(p.word, p.bit, __ATOMIC_SEQ_CST); /* W1 */
  if ((bits & p.bit) != 0) return SDR_STEP_DUPLICATE;
  const sdr_rx_extent* extent = &slot->known;
  if (__atomic_load_n(&slot->phase, __ATOMIC_SEQ_CST) == SDR_LENGTH_UNKNOWN) { /* W2 */
    extent = &slot->posted;
  } else if (at->packet >= extent->packets) {
    return SDR_STEP_BAD_PACKET;
  }
  const uint32_t count = sdr_rx_chunk_packets(rx, extent, p.chunk);
  if (!completes(rx, at, &p, count, bits | p.bit)) return SDR_STEP_PACKET;
  if (!sdr_rx_claim_chunk(slot, p.chunk)) return SDR_STEP_PACKET;              /* W3 */
  if (__atomic_load_n(&slot->phase, __ATOMIC_SEQ_CST) != SDR_LENGTH_UNKNOWN && /* W4 */
      p.chunk >= slot->known.chunks) {
    return SDR_STEP_BAD_PACKET;
  }
  const uint32_t done = __atomic_add_fetch(&slot->chunks_done, 1, __ATOMIC_SEQ_CST); /* W5 */
  if (__atomic_load_n(&slot->phase, __ATOMIC_SEQ_CST) == SDR_LENGTH_UNKNOWN ||       /* W6 */
      done < slot->known.chunks) {
    return SDR_STEP_CHUNK;
  }
  return sdr_rx_finish(slot, slot->known.chunks) ? SDR_STEP_MESSAGE : SDR_STEP_CHUNK; /* W7 */
}

static inline void count_step(sdr_rx* rx, uint32_t worker, sdr_step step) {
  uint64_t* count = rx->workers[worker].counts + step;
  __atomic_store_n(count, __atomic_load_n(count, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

void sdr_rx_refuse(sdr_rx* rx, uint32_t worker, sdr_step why) {
  if (UNLIKELY(worker >= rx->channels || (uint32_t)why >= SDR_STEP_KINDS)) __builtin_trap();
  count_step(rx, worker, why);
}

sdr_step sdr_rx_step(sdr_rx* rx, uint32_t worker, const sdr_completion* completion,
                     uint32_t* message_out) {
  if (UNLIKELY(worker >= rx->channels)) __builtin_trap();
  target at;
  sdr_step step = resolve(rx, completion, &at);
  if (LIKELY(step == SDR_STEP_PACKET)) {
    take_fragment(rx, at.slot, at.packet, completion->immediate);
    step = LIKELY(at.phase == SDR_LENGTH_PLAIN) ? step_plain(rx, &at) : step_shared(rx, &at);
    if (message_out != NULL) *message_out = at.message;
  } else if (step == (sdr_step)PARITY_PACKET) {
    take_fragment(rx, at.slot, at.packet, completion->immediate);
    step = step_parity(rx, &at);
    if (message_out != NULL) *message_out = at.message;
  }
  count_step(rx, worker, step);
  return step;
}

/* As sdr_rx_place goes on for a packet of a parity chunk. */
static __attribute__((noinline, cold)) void* place_parity(const sdr_rx* rx, sdr_rx_slot* slot,
                                                          uint32_t packet, sdr_step* why) {
  const target at = {slot, 0, packet, 0};
  const place p = place_of(rx, &at);
  const bool is_in = (__atomic_load_n(p.word, __ATOMIC_RELAXED) & p.bit) != 0;
  *why = is_in ? SDR_STEP_DUPLICATE : SDR_STEP_PACKET;
  if (is_in || slot->parity == NULL) return NULL;
  const uint64_t first = (uint64_t)slot->posted.chunks * rx->packets_per_chunk;
  return slot->parity + (packet - first) * rx->packet_bytes;
}

void* sdr_rx_place(sdr_rx* rx, const sdr_completion* completion, sdr_step* why) {
  target at;
  *why = resolve(rx, completion, &at);
  if (UNLIKELY(*why != SDR_STEP_PACKET)) {
    return *why == (sdr_step)PARITY_PACKET ? place_parity(rx, at.slot, at.packet, why) : NULL;
  }
  const place p = place_of(rx, &at);
  if ((__atomic_load_n(p.word, __ATOMIC_RELAXED) & p.bit) != 0 || is_taken(&at, p.chunk)) {
    *why = SDR_STEP_DUPLICATE;
    return NULL;
  }
  if (at.slot->buffer == NULL) return NULL;
  return at.slot->buffer + (uint64_t)at.packet * rx->packet_bytes;
}

void sdr_rx_enter(sdr_rx* rx, uint32_t worker) {
  if (UNLIKELY(worker >= rx->channels)) __builtin_trap();
  uint64_t* epoch = &rx->workers[worker].epoch;
  /* Before every later load of a slot's word: see sdr_rx_complete. */
  __atomic_store_n(epoch, __atomic_load_n(epoch, __ATOMIC_RELAXED) + 1, __ATOMIC_SEQ_CST);
}

void sdr_rx_leave(sdr_rx* rx, uint32_t worker) {
  uint64_t* epoch = &rx->workers[worker].epoch;
  __atomic_store_n(epoch, __atomic_load_n(epoch, __ATOMIC_RELAXED) + 1, __ATOMIC_RELEASE);
}
