/* The packet engine: immediates, the message table, packet and chunk bitmaps, generations.
 *
 * It knows no socket, clock, allocation on the packet path or randomness. Transports resolve where
 * a payload belongs (sdr_rx_place, the part a NIC's root key plays), put it there, then hand the
 * completion to sdr_rx_step. Source: SDR-RDMA (arXiv 2505.05366) section 3.
 *
 * Words: a message NUMBER counts up from 0 for the life of a queue pair; its slot is number % slots
 * and its generation is (number / slots) % generations. A QUEUE number is
 * generation * channels + channel. A WORKER is one thread that steps completions, 0..channels-1. */
#ifndef SDR_ENGINE_H
#define SDR_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  SDR_SLOTS_MAX = 1024,
  SDR_GENERATIONS_MAX = 64,
  SDR_CHANNELS_MAX = 64,
  SDR_PACKET_BYTES_MIN = 64,
  SDR_PACKET_BYTES_MAX = 65000,
  SDR_PACKETS_PER_CHUNK_MAX = 65536,
};
/* Of one receive side's bitmaps, all slots together; committed only as far as messages are posted.
 */
#define SDR_RX_BYTES_MAX (UINT64_C(768) << 20)

/* Results of calls on the control path (post, complete ...). */
typedef enum sdr_status {
  SDR_OK = 0,
  SDR_INVALID = 1,      /* an argument is out of range */
  SDR_BUSY = 2,         /* no free slot or queue room now: try again */
  SDR_TOO_LARGE = 3,    /* the message does not fit the immediate split or max_message_bytes */
  SDR_OUT_OF_ORDER = 4, /* the message number is not the next one */
  SDR_NO_MEMORY = 5,
  SDR_CLOSED = 6, /* unknown, already completed or closed */
} sdr_status;

/* How the 32-bit immediate is divided, most significant first: message id (slot), packet offset,
 * user immediate fragment. The three add to 32; message_bits >= 1, packet_bits >= 1, user_bits
 * 0..16. Default 10+18+4; 8+22+2 serves larger messages. */
typedef struct sdr_split {
  uint8_t message_bits, packet_bits, user_bits;
} sdr_split;

bool sdr_split_is_valid(sdr_split split);
/* Packets over which one 32-bit user immediate is spread: ceil(32 / user_bits); 0 when user_bits is
 * 0. */
uint32_t sdr_split_fragments(sdr_split split);

typedef struct sdr_geometry {
  uint32_t packet_bytes;      /* payload of every packet but a message's last */
  uint32_t packets_per_chunk; /* any whole number >= 1, not only powers of two */
  uint32_t slots;             /* messages in flight, 1..2^message_bits and <= SDR_SLOTS_MAX */
  uint32_t generations;       /* 1..SDR_GENERATIONS_MAX */
  uint32_t channels;          /* 1..SDR_CHANNELS_MAX */
  uint64_t max_message_bytes; /* refused (SDR_TOO_LARGE) when its packets exceed 2^packet_bits, or
                                 the bitmaps of all slots SDR_RX_BYTES_MAX */
  sdr_split split;
} sdr_geometry;

sdr_status sdr_geometry_check(const sdr_geometry* geometry);

/* One packet as the sender must emit it. Pure function of its arguments: no state.
 * `message` is its number, `packet` below 2^packet_bits counts within the message. With F fragments
 * (sdr_split_fragments) packet p carries bits [f * user_bits, (f + 1) * user_bits) of
 * `user_immediate`, f = p % F, low bits first; bits beyond 31 are 0. A packet beyond the message
 * has 0 bytes. */
typedef struct sdr_tx_packet {
  uint32_t queue; /* generation * channels + channel; channel = packet % channels */
  uint32_t immediate;
  uint32_t bytes; /* payload bytes; short only for the message's last packet */
} sdr_tx_packet;

sdr_tx_packet sdr_tx_make(const sdr_geometry* geometry, uint32_t message, uint64_t message_bytes,
                          uint32_t packet, uint32_t user_immediate);

/* ---- receive side ---- */

typedef struct sdr_completion {
  uint32_t queue;
  uint32_t immediate;
  uint32_t bytes;
} sdr_completion;

typedef enum sdr_step {
  SDR_STEP_PACKET = 0,     /* a new packet, its chunk not complete yet */
  SDR_STEP_CHUNK = 1,      /* this packet completed a chunk */
  SDR_STEP_MESSAGE = 2,    /* this packet completed the message's last missing chunk */
  SDR_STEP_DUPLICATE = 3,  /* bit was already set */
  SDR_STEP_LATE = 4,       /* wrong generation, or the slot is inert */
  SDR_STEP_BAD_QUEUE = 5,  /* queue number out of range */
  SDR_STEP_BAD_SLOT = 6,   /* message id >= slots */
  SDR_STEP_BAD_PACKET = 7, /* packet offset beyond the message */
  SDR_STEP_BAD_LENGTH = 8, /* byte count wrong for that packet */
  SDR_STEP_KINDS = 9
} sdr_step;

typedef struct sdr_rx sdr_rx;

/* Memory: all of it is allocated here (lazily committed by the OS) and in no later call. */
sdr_status sdr_rx_create(const sdr_geometry* geometry, sdr_rx** out);
void sdr_rx_destroy(sdr_rx* rx);

/* post, set_length, complete and the views below belong to one thread at a time, the workers may be
 * others; sdr_rx_progress_get may be called by a worker too, inside its batch. */
/* Posts the next receive. `message` must be the next number, else SDR_OUT_OF_ORDER; SDR_BUSY while
 * the message that had the slot before is not completed. `buffer` NULL is a phantom receive
 * (bitmaps only). `bytes` is the most the sender may write; 0 is allowed. The buffer stays the
 * caller's and must live until sdr_rx_complete has returned. SDR_TOO_LARGE beyond
 * max_message_bytes; SDR_CLOSED when all 2^32 - 1 numbers are used up. The slot's bitmap is cleared
 * here, as far as `bytes` reach. */
sdr_status sdr_rx_post(sdr_rx* rx, uint32_t message, void* buffer, uint64_t bytes);
/* Tells the message's true length once the sender announced it (<= posted bytes, else
 * SDR_TOO_LARGE). At most once: the same length again changes nothing, another one is SDR_INVALID.
 * Returns via *complete whether the message is complete after it (a zero-length one always is).
 * When a worker completes it at the same moment, just one of the two says so: the worker by
 * SDR_STEP_MESSAGE, or the first call of this function by *complete. A repeated call tells the
 * present state. Until the length is known a packet may be short if it lies within the posted
 * bytes. Packets beyond the true length are SDR_STEP_BAD_PACKET from then on and those before do
 * not count; the chunk bits that they set stay set, beyond chunks_total. Never blocks. */
sdr_status sdr_rx_set_length(sdr_rx* rx, uint32_t message, uint64_t bytes, bool* complete);
/* As sdr_rx_post, and beside the message's chunks it takes `parity_chunks` parity chunks, all of full
 * size, into `parity` (NULL: bitmaps only), which stays the caller's as `buffer` does. They are
 * numbered behind the chunks of `bytes`, whatever the true length turns out to be: the first is chunk
 * sdr_rx_parity_first(bytes). Their bits begin at sdr_rx_parity_bits(bytes) in the slot's bitmap: a
 * word of their own. They count for nothing: completion and progress are the message's own chunks';
 * the step reports a complete one as SDR_STEP_CHUNK. SDR_TOO_LARGE when all chunks together are more
 * than max_message_bytes hold. */
sdr_status sdr_rx_post_parity(sdr_rx* rx, uint32_t message, void* buffer, uint64_t bytes,
                              void* parity, uint32_t parity_chunks);
uint32_t sdr_rx_parity_first(const sdr_geometry* geometry, uint64_t bytes);
uint32_t sdr_rx_parity_bits(const sdr_geometry* geometry, uint64_t bytes);

/* Recovery of chunks by other means than their packets; only of messages posted with parity, once
 * sdr_rx_set_length has returned, and chunks that were posted (SDR_INVALID otherwise). Any thread,
 * one at a time for one chunk, and not at the same time as sdr_rx_complete of the message.
 * seal: takes the chunks with flags[i] != 0 of [first, first + count) away from the network: on return
 * no worker writes to them any more, and their packets are DUPLICATE. It waits for workers as
 * sdr_rx_complete does. Flags of chunks that are complete, or beyond the message, are cleared: those
 * are not sealed.
 * fill: the flagged chunks, sealed before (SDR_INVALID otherwise, and nothing was done), have their
 * bytes: sets their bits and counts them. *complete: true for the one call that completes the
 * message, which no worker reports then. */
sdr_status sdr_rx_seal(sdr_rx* rx, uint32_t message, uint32_t first, uint32_t count,
                       uint8_t* flags);
sdr_status sdr_rx_fill(sdr_rx* rx, uint32_t message, uint32_t first, uint32_t count,
                       const uint8_t* flags, bool* complete);

/* Makes the slot inert at once. On return no worker will write to the buffer or the bitmaps again:
 * it waits for workers that are between sdr_rx_enter and sdr_rx_leave, so a worker that calls it
 * inside its own batch would wait for itself. The bits stay readable until the slot is posted
 * again. SDR_CLOSED when the message is not posted now. */
sdr_status sdr_rx_complete(sdr_rx* rx, uint32_t message);

/* Brackets a worker's batch; keep batches short (tens of microseconds). A worker may not block
 * inside. A program whose workers and control path are one thread needs neither. */
void sdr_rx_enter(sdr_rx* rx, uint32_t worker);
void sdr_rx_leave(sdr_rx* rx, uint32_t worker);

/* Where the completion's payload belongs; the checks of sdr_rx_step without its effects. Two workers
 * that place the same packet at once would both write: a transport with several lets each take only
 * the packets of its own channel.
 * Returns NULL with *why set (LATE, BAD_*, DUPLICATE) when it must not be placed; a phantom
 * receive returns NULL with *why = SDR_STEP_PACKET. Does not count. */
void* sdr_rx_place(sdr_rx* rx, const sdr_completion* completion, sdr_step* why);
/* Counts, in sdr_rx_step's stead, a completion that sdr_rx_place or the transport itself refused. It
 * must not be stepped: its payload was not placed, and a slot that was inert then may be posted by
 * the time of the step. `worker` and `why` out of range trap. */
void sdr_rx_refuse(sdr_rx* rx, uint32_t worker, sdr_step why);
/* The message number that holds this slot now, or UINT32_MAX (inert or out of range). */
uint32_t sdr_rx_slot_message(const sdr_rx* rx, uint32_t slot);

/* The receive worker's step. Lock-free; safe from several workers at once. Counts its result.
 * `worker` is below channels (a trap otherwise) and names the calling thread: with one channel
 * there is one worker, and the step relies on it. `message_out` (may be NULL) gets the message
 * number for PACKET, CHUNK, MESSAGE. */
sdr_step sdr_rx_step(sdr_rx* rx, uint32_t worker, const sdr_completion* completion,
                     uint32_t* message_out);

/* Views. The chunk bitmaps of all slots lie in one slab of `bytes` bytes; slot s begins at
 * s * stride; chunk c of it is bit (c & 31) of the little-endian uint32 word c >> 5. Live. */
typedef struct sdr_bitmap_slab {
  uint8_t* base;
  size_t bytes;
  size_t stride;
} sdr_bitmap_slab;
sdr_bitmap_slab sdr_rx_bitmaps(const sdr_rx* rx);

typedef struct sdr_rx_progress {
  uint32_t chunks_total; /* by posted bytes until the length is known */
  uint32_t chunks_done;
  bool length_known, complete;
} sdr_rx_progress;
/* The calls by message number give SDR_CLOSED (false) when the message is not posted now. */
sdr_status sdr_rx_progress_get(const sdr_rx* rx, uint32_t message, sdr_rx_progress* out);

/* Packet bits of one chunk: ceil(packets_per_chunk / 64) words into `bits` (capacity in words);
 * SDR_INVALID when there is less room or no such chunk. Bits beyond the message are 0. */
sdr_status sdr_rx_chunk_expand(const sdr_rx* rx, uint32_t message, uint32_t chunk, uint64_t* bits,
                               size_t words);
/* The user immediate once every fragment has arrived; false until then (always false for messages
 * of fewer packets than fragments). */
bool sdr_rx_user_immediate(const sdr_rx* rx, uint32_t message, uint32_t* value);

/* Sum over workers, by sdr_step. */
void sdr_rx_counters(const sdr_rx* rx, uint64_t counts[SDR_STEP_KINDS]);

#ifdef __cplusplus
}
#endif
#endif
