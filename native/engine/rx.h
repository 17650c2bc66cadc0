/* Receive side, internal: the message table's layout and what the step and the control path share.
 * Freestanding: no libc call is made from here, because the step is compiled for devices too. */
#ifndef SDR_ENGINE_RX_H
#define SDR_ENGINE_RX_H

#include "sdr/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the chunk bitmap's words are little-endian"
#endif

enum { SDR_CACHE_LINE = 64 };
#define SDR_LINE_ALIGNED __attribute__((aligned(64)))

/* A slot's word: message number in the low half; in the high half LIVE and the generation, or 0 for
 * an inert slot. One load tells late packets. */
enum { SDR_SLOT_LIVE = 1 << 8 };

/* How far the length of a message is known, and so how the step may work on its bitmaps.
 * UNKNOWN, KNOWN: with atomic read-modify-writes. PLAIN: length known, one worker and nobody else
 * writes, so plain loads and stores do. SEALABLE: as KNOWN, of a message with parity whose
 * sdr_rx_set_length is through: its chunks may be sealed. */
enum {
  SDR_LENGTH_UNKNOWN = 0,
  SDR_LENGTH_KNOWN = 1,
  SDR_LENGTH_PLAIN = 2,
  SDR_LENGTH_SEALABLE = 3
};

/* What a number of bytes means in packets and chunks. All 0 for no bytes. */
typedef struct sdr_rx_extent {
  uint32_t packets;
  uint32_t last_bytes; /* of the last packet */
  uint32_t chunks;
  uint32_t last_chunk_packets;
} sdr_rx_extent;

typedef struct sdr_rx_slot {
  /* First line: what every packet reads, hardly ever written. */
  SDR_LINE_ALIGNED uint64_t word; /* atomic */
  uint8_t* buffer;                /* user memory; NULL: phantom */
  uint64_t* packet_words;         /* atomic words */
  uint32_t* chunk_words;          /* atomic words */
  uint64_t user;  /* atomic: user immediate (low half), which fragments are in (high half) */
  uint32_t phase; /* atomic: SDR_LENGTH_* */
  uint32_t reserved;
  sdr_rx_extent known; /* by true length; written before phase leaves UNKNOWN */
  /* Second line: as posted. */
  SDR_LINE_ALIGNED sdr_rx_extent posted;
  uint64_t posted_bytes, known_bytes;
  uint8_t* parity;        /* user memory of the parity chunks; NULL: phantom */
  uint64_t* sealed_words; /* atomic words, a bit a chunk; used by messages with parity only */
  uint32_t parity_chunks; /* numbered from posted.chunks on */
  bool excess; /* atomic: chunks beyond the true length were complete before it was known */
  /* Third line: written whenever a chunk completes. */
  SDR_LINE_ALIGNED uint32_t chunks_done; /* atomic: chunk bits set and counted */
  uint32_t full_words;                   /* atomic hint: chunk words below it are full */
  uint32_t finished;                     /* atomic: 1 once completion has been reported */
} sdr_rx_slot;

typedef struct sdr_rx_worker {
  SDR_LINE_ALIGNED uint64_t epoch; /* atomic: odd inside a batch */
  /* Apart from the epoch, which sdr_rx_complete may spin on. One writer. */
  SDR_LINE_ALIGNED uint64_t counts[SDR_STEP_KINDS];
} sdr_rx_worker;

struct sdr_rx {
  /* Constants, in the order in which the step needs them. */
  SDR_LINE_ALIGNED sdr_rx_slot* table;
  sdr_rx_worker* workers;
  uint64_t chunk_reciprocal;   /* chunk = packet * reciprocal >> chunk_shift, exact */
  uint64_t channel_reciprocal; /* generation = queue * reciprocal >> 32, exact */
  uint32_t queues, slots, channels;
  uint32_t packet_bytes, packets_per_chunk;
  uint32_t stride_bits; /* from one chunk to the next in packet_words */
  uint32_t packet_mask, user_mask, fragment_mask, fragments;
  uint8_t chunk_shift, slot_shift, user_bits;
  /* Control path. */
  sdr_geometry geometry;
  uint32_t next_message;
  uint8_t *chunk_slab, *packet_slab;
  uint64_t chunks_max; /* of one message, its parity chunks included */
  size_t chunk_slab_bytes, packet_slab_bytes;
  size_t chunk_slot_bytes, packet_slot_bytes; /* from one slot to the next */
};

typedef struct sdr_rx_layout {
  uint64_t packets, chunks; /* of the largest message */
  uint32_t stride_bits;
  /* Whole cache lines: slots share none. In the packet slab a slot's packet bits are followed by
   * its sealed bits. */
  uint64_t packet_slot_bytes, sealed_slot_bytes, chunk_slot_bytes;
} sdr_rx_layout;

/* `geometry`'s ranges must have been checked, here and below. */
sdr_rx_layout sdr_rx_layout_of(const sdr_geometry* geometry);

/* An sdr_rx in memory that is the caller's (a device has no allocator): bytes of each part, all of
 * them whole cache lines, and the parts, zeroed and line-aligned, as is `rx` itself. */
typedef struct sdr_rx_sizes {
  size_t rx, table, workers, chunk_slab, packet_slab;
} sdr_rx_sizes;
typedef struct sdr_rx_parts {
  void *table, *workers, *chunk_slab, *packet_slab;
} sdr_rx_parts;
sdr_rx_sizes sdr_rx_sizes_of(const sdr_geometry* geometry);
void sdr_rx_init(sdr_rx* rx, const sdr_geometry* geometry, const sdr_rx_parts* parts);

/* One turn of a wait for another worker, the spins-th: whoever links the engine says what to do. */
void sdr_rx_relax(uint32_t spins);

static inline uint64_t sdr_ceil_div(uint64_t value, uint64_t by) {
  return value / by + (value % by != 0);
}

/* `count` low bits, 1..64. */
static inline uint64_t sdr_low_mask(uint32_t count) { return ~UINT64_C(0) >> (64 - count); }

static inline uint32_t sdr_rx_chunk_of(const struct sdr_rx* rx, uint32_t packet) {
  return (uint32_t)(packet * rx->chunk_reciprocal >> rx->chunk_shift);
}

static inline uint32_t sdr_rx_chunk_packets(const struct sdr_rx* rx, const sdr_rx_extent* extent,
                                            uint32_t chunk) {
  return chunk + 1 == extent->chunks ? extent->last_chunk_packets : rx->packets_per_chunk;
}

/* Whether the first `count` packets of the chunk are all in. Starts after word `from` of the chunk
 * and wraps, so that arrivals in order find the next, empty word at once. */
static inline bool sdr_rx_chunk_is_full(const struct sdr_rx* rx, const sdr_rx_slot* slot,
                                        uint32_t chunk, uint32_t count, uint32_t from) {
  const uint64_t first_bit = (uint64_t)chunk * rx->stride_bits;
  const uint64_t* words = slot->packet_words + (first_bit >> 6);
  if (rx->stride_bits <= 64) {
    const uint64_t mask = sdr_low_mask(count) << (first_bit & 63);
    return (__atomic_load_n(words, __ATOMIC_SEQ_CST) & mask) == mask;
  }
  const uint32_t word_count = (count + 63) / 64;
  for (uint32_t step = 1; step <= word_count; step++) {
    const uint32_t index = from + step < word_count ? from + step : from + step - word_count;
    const uint32_t left = count - 64 * index;
    const uint64_t mask = sdr_low_mask(left < 64 ? left : 64);
    if ((__atomic_load_n(words + index, __ATOMIC_SEQ_CST) & mask) != mask) return false;
  }
  return true;
}

/* Sets bit `bit` of the chunk bitmap, a chunk's; true for the one caller that set it. Release, so
 * that a reader who sees the bit sees the chunk's bytes. */
static inline bool sdr_rx_claim_chunk(sdr_rx_slot* slot, uint32_t bit) {
  const uint32_t mask = 1u << (bit & 31);
  return (__atomic_fetch_or(slot->chunk_words + (bit >> 5), mask, __ATOMIC_SEQ_CST) & mask) == 0;
}

static inline bool sdr_rx_is_sealed(const sdr_rx_slot* slot, uint32_t chunk) {
  return (__atomic_load_n(slot->sealed_words + (chunk >> 6), __ATOMIC_SEQ_CST) >> (chunk & 63) &
          1) != 0;
}

/* Whether this call found the first `chunks` chunk bits set, and was the first to do so. The search
 * goes on where the last one stopped: over a message's life it reads each word about once. */
static inline bool sdr_rx_finish(sdr_rx_slot* slot, uint32_t chunks) {
  const uint32_t whole = chunks >> 5;
  uint32_t index = __atomic_load_n(&slot->full_words, __ATOMIC_RELAXED);
  while (index < whole &&
         __atomic_load_n(slot->chunk_words + index, __ATOMIC_SEQ_CST) == UINT32_MAX) {
    index++;
  }
  __atomic_store_n(&slot->full_words, index, __ATOMIC_RELAXED);
  if (index < whole) return false;
  if ((chunks & 31) != 0) {
    const uint32_t mask = (1u << (chunks & 31)) - 1;
    if ((__atomic_load_n(slot->chunk_words + whole, __ATOMIC_SEQ_CST) & mask) != mask) return false;
  }
  return __atomic_exchange_n(&slot->finished, 1, __ATOMIC_SEQ_CST) == 0;
}

#ifdef __cplusplus
}
#endif
#endif
