/* SDR, beyond the published interface: errors by name, waiting, impairments, statistics, control messages.
 * Rules of return values and threads: sdr.h. */
#ifndef SDR_EXT_H
#define SDR_EXT_H

#include <stddef.h>
#include <stdint.h>

#include "sdr.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors ---- */

/* Why a call failed. The numbers are stable, and the same in every language binding and on the wire. */
enum sdr_ext_error {
  SDR_EXT_NONE = 0,
  SDR_EXT_INVALID_ARGUMENT = 1,
  SDR_EXT_BUSY = 2,
  SDR_EXT_TOO_LARGE = 3,
  SDR_EXT_CLOSED = 4,
  SDR_EXT_ABORTED = 5,
  SDR_EXT_DEADLINE_EXCEEDED = 6,
  SDR_EXT_PEER_UNREACHABLE = 7,
  SDR_EXT_PEER_INCOMPATIBLE = 8,
  SDR_EXT_PEER_CLOSED = 9,
  SDR_EXT_ACCESS_DENIED = 10,
  SDR_EXT_ADDRESS_IN_USE = 11,
  SDR_EXT_UNRECOVERABLE_LOSS = 12,
  SDR_EXT_INTEGRITY = 13,
  SDR_EXT_FILE = 14,
  SDR_EXT_NO_SPACE = 15,
  SDR_EXT_UNSUPPORTED = 16,
  SDR_EXT_ENVIRONMENT = 17,
  SDR_EXT_NOT_FOUND = 18,
  SDR_EXT_DEADLOCK = 19
};

/* sdr_ext_error_code - of this thread's last call that returned SDR_ERROR or NULL; SDR_EXT_NONE if there was none */
SDR_API enum sdr_ext_error sdr_ext_error_code(void);

/* sdr_ext_error_text - what was wrong, with the value, and what to do about it, in one line
 * RESULT: this thread's, good until its next failing call; "" if there was none. */
SDR_API const char *sdr_ext_error_text(void);

/* sdr_ext_error_name - "PEER_UNREACHABLE" and the like; "UNKNOWN" for other numbers; static memory */
SDR_API const char *sdr_ext_error_name(enum sdr_ext_error code);

/* ---- time and waiting ---- */

/* sdr_ext_now_ns - the context's clock: nanoseconds since it was made, virtual for an emulated device */
SDR_API int sdr_ext_now_ns(struct sdr_context *ctx, int64_t *now_ns);

/* sdr_ext_wait - until something of the context's queue pairs has changed, or timeout_ns have passed (0: no wait)
 * A change before the call and since the last one counts, so that none is missed between looking and waiting. One
 * thread waits at a time: of two, one may be told of what the other waits for. Over an emulated device virtual time
 * moves on to what happens next.
 * RETURNS SDR_SUCCESS when something has changed, SDR_RETRY when the time has passed. */
SDR_API int sdr_ext_wait(struct sdr_context *ctx, int64_t timeout_ns);

/* sdr_ext_event_fd - a descriptor that is readable when something has changed, for poll(2) and event loops
 * It stays readable until sdr_ext_wait is called, and is the context's to close.
 * ERRORS: UNSUPPORTED for an emulated device, whose time only moves in calls. */
SDR_API int sdr_ext_event_fd(struct sdr_context *ctx, int *fd);

/* ---- queue pairs ---- */

/* sdr_ext_qp_connect - as sdr_qp_connect, reading no more than info_size bytes */
SDR_API int sdr_ext_qp_connect(struct sdr_qp *qp, const void *info, size_t info_size);

/* sdr_ext_qp_connected - SDR_SUCCESS once a packet of full size has made the round trip, SDR_RETRY before, SDR_ERROR
 * with what ended the queue pair (PEER_UNREACHABLE, PEER_CLOSED, ...) after */
SDR_API int sdr_ext_qp_connected(struct sdr_qp *qp);

/* sdr_ext_qp_rtt_ns - round-trip time as known now; 10 ms until it was measured */
SDR_API int sdr_ext_qp_rtt_ns(struct sdr_qp *qp, int64_t *rtt_ns);

/* sdr_ext_qp_peer_timeout - after so many milliseconds (1 to 3600000) of silence from a peer that owes an answer the
 * queue pair fails with PEER_UNREACHABLE. It is probed sixteen times before. Default 5000, or SDR_PEER_TIMEOUT_MS. */
SDR_API int sdr_ext_qp_peer_timeout(struct sdr_qp *qp, uint32_t milliseconds);

/* sdr_ext_link_set - impairs what this end sends
 * text: "none", or terms of tc-netem(8), for example "rate 10gbit delay 5ms 1ms distribution normal loss 0.1%":
 *     rate R [PACKETOVERHEAD]
 *     delay T [JITTER [CORRELATION]] [distribution uniform|normal|pareto|paretonormal]
 *     loss [random] P [CORRELATION] | loss gemodel P [R [1-H [1-K]]]
 *     duplicate P [CORRELATION]   corrupt P [CORRELATION]   reorder P [CORRELATION] [gap N]
 *     limit PACKETS               drop KIND N[-M]
 *   A time needs its unit; P is 0.1% or a number below 1; KIND is data, cts, start, ack, nack, done, ping, pong, close
 *   or other. What is not named is not impaired.
 * May be called before and after connecting. ERRORS: INVALID_ARGUMENT, naming the term. */
SDR_API int sdr_ext_link_set(struct sdr_qp *qp, const char *text);

/* Counts of one queue pair. */
struct sdr_ext_stats {
  uint64_t packets_received;    /* new ones */
  uint64_t packets_duplicate;   /* that were there already */
  uint64_t packets_late;        /* of an earlier life of their slot, or for one that is completed */
  uint64_t packets_bad;         /* no packet of their message */
  uint64_t packets_sent;        /* injected, before loss */
  uint64_t bytes_sent;          /* their payload */
  uint64_t wire_bytes_sent;     /* with headers and control */
  uint64_t control_sent;        /* control datagrams */
  uint64_t control_received;
  uint64_t control_dropped;     /* received, and no room for them here */
  uint64_t datagrams_ignored;   /* malformed, truncated, replayed, or with a wrong checksum */
  uint64_t send_errors;         /* datagrams that the operating system refused */
  uint64_t link_dropped;        /* by the impairments of this end's link */
  uint64_t link_duplicated;
  uint64_t link_corrupted;
  uint64_t link_reordered;
};

/* sdr_ext_stats_get - counts so far
 * stats_size: sizeof(struct sdr_ext_stats) as the program knows it: later versions add fields at the end. */
SDR_API int sdr_ext_stats_get(struct sdr_qp *qp, struct sdr_ext_stats *stats, size_t stats_size);

/* ---- messages ---- */

struct sdr_ext_recv_info {
  uint32_t message;      /* its number: the send of the same number lands here */
  uint32_t chunks;       /* by max_length until the length is known */
  uint32_t chunks_done;
  uint8_t length_known;  /* the sender has begun */
  uint8_t complete;      /* every chunk is in place; sdr_recv_complete is still owed */
  uint64_t length;       /* the message's, 0 until it is known */
};
SDR_API int sdr_ext_recv_info_get(struct sdr_recv_handle *handle, struct sdr_ext_recv_info *info);

struct sdr_ext_send_info {
  uint32_t message;
  uint8_t ready;    /* the receiver is */
  uint64_t length;  /* 0 for a streaming send until it is ready */
};
SDR_API int sdr_ext_send_info_get(struct sdr_send_handle *handle, struct sdr_ext_send_info *info);

/* sdr_ext_streaming_send_start - as sdr_streaming_send_start, with the message's length in bytes */
SDR_API int sdr_ext_streaming_send_start(struct sdr_qp *qp, struct sdr_send_start_wr *wr, uint32_t length,
                                         struct sdr_send_handle **handle);

/* ---- control messages: the way for acknowledgements and whatever else a reliability scheme has to say ---- */

struct sdr_ext_control {
  uint8_t type;      /* the program's own: 64 to 127 from a message's sender to its receiver, 128 to 255 back */
  uint32_t message;  /* that it is about; numbers count each direction */
  uint32_t size;     /* of the body, in bytes */
};

/* sdr_ext_control_size_max - bytes of the largest body: the mtu less 12 */
SDR_API int sdr_ext_control_size_max(struct sdr_qp *qp, uint32_t *size);

/* sdr_ext_control_send - one control message, at once and ahead of data
 * It may be lost or overtaken, as any packet, but it never arrives twice.
 * body: control->size bytes, copied. RETURNS SDR_RETRY when the transport has no room.
 * ERRORS: INVALID_ARGUMENT (type, or not connected), TOO_LARGE, or what ended the queue pair. */
SDR_API int sdr_ext_control_send(struct sdr_qp *qp, const struct sdr_ext_control *control, const void *body);

/* sdr_ext_control_recv - the next one from the peer
 * body: room for `capacity` bytes, sdr_ext_control_size_max for any.
 * RETURNS SDR_RETRY when there is none. 1024 wait at most, further ones are dropped. Those that have arrived can still
 * be read after the queue pair has failed. ERRORS: TOO_LARGE (it stays, control is set). */
SDR_API int sdr_ext_control_recv(struct sdr_qp *qp, struct sdr_ext_control *control, void *body, size_t capacity);

#ifdef __cplusplus
}
#endif
#endif
