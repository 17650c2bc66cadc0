/* What the host writes into the device's memory and reads from its reports: the DPA program's data. Plain layouts,
 * the same for both compilers; every address is 64 bits wide. "Device address": memory of the DPA. "Host address":
 * reachable through the pair's window only, and only a whole 64-byte line at a time.
 * Sources: SDR-RDMA (arXiv 2505.05366) section 3.4; the CQE64 layout of the mlx5 programmer's reference. */
#ifndef SDR_DPA_PROGRAM_H
#define SDR_DPA_PROGRAM_H

#include "engine/rx.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  SDR_DPA_BATCH = 64,         /* completions between sdr_rx_enter and sdr_rx_leave */
  SDR_DPA_TELL_EVERY = 4,     /* batches that may pass before the host is told, while more come */
  SDR_DPA_BUDGET = 64 * 64,   /* completions of one activation; then others get their turn */
  SDR_DPA_HELD = 16,          /* lines and slots a batch remembers to report */
  SDR_DPA_SENDS = 1024,       /* send descriptors a channel */
  SDR_DPA_SIGNAL_EVERY = 32,  /* WQEs from one completion to the next, at most */
  SDR_DPA_DOORBELL_EVERY = 64,
  SDR_DPA_FLAGS_MAX = 8192,   /* chunks of one seal or fill call; bytes of a chunk's packet bits */
  SDR_DPA_LINE = 64
};

/* A completion queue entry as the card writes it; multi-byte fields are big-endian. */
typedef struct sdr_dpa_cqe {
  uint8_t head[36];
  uint32_t immediate;
  uint8_t unused[4];
  uint32_t bytes;
  uint8_t middle[6];
  uint8_t vendor_syndrome, syndrome; /* of an error */
  uint32_t queue;                    /* low 24 bits: the queue pair's number */
  uint16_t wqe_counter;
  uint8_t signature;
  uint8_t op_own; /* bit 0: owner, flips at each wrap; bits 7:4: opcode */
} sdr_dpa_cqe;
enum {
  SDR_DPA_CQE_SENT = 0,
  SDR_DPA_CQE_WRITTEN_IMM = 1,
  SDR_DPA_CQE_SEND_ERROR = 13,
  SDR_DPA_CQE_RECEIVE_ERROR = 14,
  SDR_DPA_CQE_INVALID = 15
};

typedef struct sdr_dpa_cq {
  uint64_t ring, doorbell; /* device addresses: 2^log_entries CQEs; the consumer index's record */
  uint32_t number, log_entries;
  uint32_t index; /* of the next CQE, counting on through the wraps */
  uint32_t reserved;
} sdr_dpa_cq;

/* One UC queue pair of the card: a generation on a channel. Receive WQEs have no bytes and never change, so that
 * posting one is a count in the doorbell record. */
typedef struct sdr_dpa_queue {
  uint64_t doorbell;      /* device address: receive and send producer index, two big-endian words */
  uint64_t sq_ring;       /* device address: 2^sq_log blocks of 64 bytes */
  uint64_t sq_owners;     /* device address: by block, 1 + the descriptor whose last packet it is, or 0 */
  uint32_t number;        /* the card's */
  uint32_t rq_posted;     /* receive WQEs ever posted */
  uint32_t sq_log, sq_posted, sq_done;
  uint32_t sq_rung;       /* sq_posted at the last doorbell */
} sdr_dpa_queue;

/* One queue pair of ours: the message table and its mirror on the host. */
typedef struct sdr_dpa_pair {
  sdr_geometry geometry;
  uint64_t rx, table, workers, chunk_slab, packet_slab; /* device addresses: the engine and its parts */
  uint64_t line_locks; /* device address: a byte a line of the chunk slab; who has it writes the host's line */
  uint64_t mirror;     /* host address of the chunk slab's copy */
  uint32_t window, window_key;
  uint32_t host_cq; /* an event on it wakes the host */
  uint32_t reserved;
} sdr_dpa_pair;

/* A line of the host, written by one receive worker: one for the worker, then one for each slot. A reader takes it
 * only while both `changes` agree: a line may come in pieces. */
typedef struct sdr_dpa_report {
  uint32_t changes;  /* goes up whenever something below, or in another line of this worker, changed */
  uint32_t message;  /* a slot's: the last one that got a chunk from this worker */
  uint32_t complete; /* 1: this worker completed it */
  uint32_t error_queue, error_syndrome;
  uint32_t unused;
  uint64_t completions, errors, unknown_queue; /* the worker's */
  uint64_t reserved;
  uint32_t padding, changes_again;
} sdr_dpa_report;

typedef struct sdr_dpa_receiver {
  uint64_t pair;    /* device address */
  uint64_t queues;  /* device address: sdr_dpa_queue by generation */
  uint64_t reports; /* host address: 1 + slots lines */
  uint64_t masters; /* device address: the same lines, as this worker last knew them */
  uint32_t channel, generations;
  sdr_dpa_cq cq;
  /* What a batch has still to tell the host. */
  uint32_t lines[SDR_DPA_HELD], slots[SDR_DPA_HELD];
  uint32_t line_count, slot_count;
  uint32_t last_generation; /* most completions are of the same queue as the one before */
} sdr_dpa_receiver;

/* A range of packets of one message to send; `next` steps over other channels' packets. */
typedef struct sdr_dpa_send {
  uint64_t address;   /* of packet `first`, as `key` knows it */
  uint64_t cut_bytes; /* length by which packets are cut; no end for parity */
  uint32_t key, message, user_immediate;
  uint32_t first, next, end;
  uint32_t cancelled; /* set by the control path, under the packetiser's lock */
  uint32_t open;      /* WQEs of this descriptor have been written */
  uint32_t lap;       /* what sdr_dpa_packetiser.done says once it is through */
  uint32_t reserved[3];
} sdr_dpa_send;

/* In a descriptor's word of `done`: one of its sends failed. Laps are counted without it. */
enum { SDR_DPA_SEND_FAILED = 1 << 30 };

typedef struct sdr_dpa_packetiser {
  uint64_t pair, queues; /* device addresses */
  uint64_t report;       /* host address: SDR_DPA_SENDS words, as `done` */
  uint32_t channel;
  uint32_t peer_key; /* the peer's key of slot 0; slot s has key + s, a life of it in the key's low byte */
  uint32_t lock, again; /* atomic: who has the lock goes round again when asked to */
  uint32_t head, tail;  /* descriptors taken; given */
  uint32_t errors, error_syndrome;
  sdr_dpa_cq cq;
  uint64_t dirty[SDR_DPA_SENDS / 16 / 64]; /* lines of `done` that the host has not seen */
  uint32_t done[SDR_DPA_SENDS] __attribute__((aligned(64))); /* by descriptor: its last lap that is through */
  sdr_dpa_send sends[SDR_DPA_SENDS];
} sdr_dpa_packetiser;

/* The control path: what the host asks for by a remote call with the device address of one of these. */
typedef enum sdr_dpa_op {
  SDR_DPA_INIT = 0, /* makes the engine in the pair's memory */
  SDR_DPA_POST = 1,
  SDR_DPA_SET_LENGTH = 2,
  SDR_DPA_COMPLETE = 3,
  SDR_DPA_SEAL = 4,
  SDR_DPA_FILL = 5,
  SDR_DPA_PROGRESS = 6,
  SDR_DPA_EXPAND = 7,
  SDR_DPA_USER_IMMEDIATE = 8,
  SDR_DPA_COUNTERS = 9,
  SDR_DPA_SEND = 10,  /* `first` is the descriptor's number, `send` the rest */
  SDR_DPA_CANCEL = 11 /* of all descriptors of `message` */
} sdr_dpa_op;

typedef struct sdr_dpa_call {
  uint64_t pair;       /* device address */
  uint64_t packetiser; /* device address, for SEND and CANCEL */
  uint64_t reply;      /* host address: what more there is to tell than a status, from a line's start */
  uint64_t bytes;
  uint32_t op, message;
  uint32_t first, count;         /* chunks; of POST: parity chunks in `count` */
  sdr_dpa_send send;
  uint8_t flags[SDR_DPA_FLAGS_MAX] __attribute__((aligned(8))); /* of SEAL and FILL, as far as `count` */
} sdr_dpa_call;

/* A call's result: the sdr_status, and this bit when the message is complete by it. */
enum { SDR_DPA_COMPLETE_BIT = 1 << 8 };

/* Through the pair's window; all of them lines. */
void sdr_dpa_store_line(uint64_t host_address, const void* line);
/* Brings the host's copy of chunk bits [from, to] of a slot up to date. */
void sdr_dpa_publish(const sdr_dpa_pair* pair, uint32_t slot, uint32_t from, uint32_t to);
/* Turns descriptors into WQEs as far as there is room. Any thread. */
void sdr_dpa_pump(sdr_dpa_packetiser* packetiser);

/* Entry points: handlers of completion queues, and the remote call. */
void sdr_dpa_receive(uint64_t receiver);
void sdr_dpa_packetise(uint64_t packetiser);
uint64_t sdr_dpa_control(uint64_t call);

#ifdef __cplusplus
}
#endif
#endif
