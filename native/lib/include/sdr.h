/* SDR: software-defined reliability. Messages travel as single packets that may be lost, and a bitmap beside each
 * receive buffer says which chunks have arrived; how a lost chunk is sent again is the program's own business.
 * Source: SDR-RDMA (arXiv 2505.05366), sections 2 and 3; names and fields are those of its published interface.
 *
 * RETURN VALUES. Functions that return int give an enum sdr_errcode. After SDR_ERROR (or NULL) the calling thread's
 * sdr_ext_error_code() and sdr_ext_error_text() of sdr_ext.h say what was wrong and what to do.
 *
 * THREADS. Every function may be called from any thread: a context and what belongs to it has one lock inside. Two
 * rules remain with the program: nothing may be in use while it is destroyed, and each handle belongs to one thread at
 * a time. Progress (acknowledging, keep-alive, repeating control messages) is made by a thread of the library; over an
 * emulated device there is none, and virtual time moves on while functions poll (sdr_send_poll, sdr_recv_imm_get,
 * sdr_recv_bitmap_get, sdr_ext_wait).
 *
 * MATCHING. The n-th send of a queue pair lands in the n-th receive posted at its peer. A sender waits, without
 * blocking, until the receiver has announced that receive. */
#ifndef SDR_H
#define SDR_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SDR_API __attribute__((visibility("default")))
#else
#define SDR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct sdr_context;
struct sdr_qp;
struct sdr_send_handle;
struct sdr_recv_handle;

enum sdr_errcode {
  SDR_SUCCESS = 0,
  SDR_ERROR = 1,
  SDR_RETRY = 2 /* not now: no slot or room is free, or what is asked for is not known yet */
};

/* Payload bytes of a packet. */
enum sdr_mtu {
  SDR_MTU_64,
  SDR_MTU_128,
  SDR_MTU_256,
  SDR_MTU_512,
  SDR_MTU_1024,
  SDR_MTU_2048,
  SDR_MTU_4096
};

struct sdr_dev_attr {
  uint32_t num_channels; /* transport queues, each with a worker of its own; 0 is 1, at most 64; equal at both ends */
  uint32_t log_max_qps;  /* log2 of the most queue pairs, at most 10; 0: 64 queue pairs */
};

enum sdr_wr_opcode {
  SDR_WR_WRITE,
  SDR_WR_WRITE_WITH_IMM
};

struct sdr_qp_attr {
  uint32_t bitmap_chunk_size_log_bytes; /* log2 of the bytes behind one bit of the bitmap: a packet or more */
  size_t max_in_flight_log_bytes;       /* log2 of the bytes in flight, and so of the largest message; 0: 1 GiB */
  uint32_t max_log_num_msgs;            /* log2 of the messages in flight each way, at most 10 */
  enum sdr_mtu mtu;
  uint8_t send_enable, recv_enable; /* what this end will do: non-zero for yes, at least one of them */
  uint32_t rate_limit;              /* kbit/s at which data is injected; 0: as fast as the path takes it */
};

struct sdr_send_wr {
  enum sdr_wr_opcode opcode;
  uint32_t imm_value; /* for the receiver, with SDR_WR_WRITE_WITH_IMM */
  uint32_t length;    /* bytes, 0 or more */
  uint32_t lkey;      /* of the memory that holds them */
  uint64_t local_addr;
  uint64_t remote_offset; /* where they go in the receive buffer, in bitmap chunks */
};

struct sdr_send_start_wr {
  enum sdr_wr_opcode opcode;
  uint32_t imm_value;
};

struct sdr_send_continue_wr {
  uint32_t length; /* bytes, 1 or more: whole chunks, unless they end with the message */
  uint64_t local_addr;
  uint32_t lkey;
  uint64_t remote_offset; /* in bitmap chunks */
};

struct sdr_recv_wr {
  uint32_t max_length; /* most bytes that the sender may write */
  uint32_t lkey;
  uint64_t address;
};

struct sdr_send_status {
  uint32_t flags; /* 0: none is defined */
};

/* sdr_context_create - open a device
 * dev_name: "udp:ADDRESS" or "udp:ADDRESS:PORT" (numeric, "udp:[::1]:7000"; without a port any free one), "emu:NAME"
 *   (an emulated network in virtual time, shared by the process's contexts of that name), or an RDMA device such as
 *   "mlx5_0" or "rxe0". The environment variable SDR_DEVICE, where set, takes this argument's place, so that a program
 *   written for RDMA devices runs over UDP as it is.
 * dev_attr: copied; NULL: one channel.
 * RESULT: a context for sdr_context_destroy, or NULL.
 * ERRORS: INVALID_ARGUMENT, ADDRESS_IN_USE, ACCESS_DENIED, NOT_FOUND, ENVIRONMENT.
 * ENVIRONMENT: SDR_DEVICE; SDR_LINK (impairments of what is sent, as for sdr_ext_link_set); SDR_SEED (of those; a
 *   number); SDR_PEER_TIMEOUT_MS (default 5000); SDR_RATE_LIMIT (kbit/s where an attribute says 0);
 *   SDR_QP_NUM_GENERATIONS (1 to 64, default 4; equal at both ends); SDR_USE_UC_QP (RDMA devices; 0: reliable
 *   connections carry the packets, else unreliable ones). Without a meaning here: SDR_SEND_CTX_SWR_BATCH_SIZE,
 *   SDR_DPA_TX_OFFLOADING_ENABLE, SDR_DPA_TX_NUM_WORKERS.
 * SOURCE: section 3 (channels, generations). */
SDR_API struct sdr_context *sdr_context_create(const char *dev_name, struct sdr_dev_attr *dev_attr);

/* sdr_context_destroy - close a device
 * Ends its threads and frees it. Its queue pairs must be destroyed before, memory is deregistered.
 * ERRORS: BUSY (SDR_ERROR all the same) while a queue pair is left; INVALID_ARGUMENT for NULL. */
SDR_API int sdr_context_destroy(struct sdr_context *context);

/* sdr_qp_create - make one end of a connection
 * qp_attr: copied. Both ends need the same chunk size, mtu, number of messages, and message size class.
 * RESULT: a queue pair for sdr_qp_destroy, or NULL.
 * ERRORS: INVALID_ARGUMENT, TOO_LARGE (attributes that do not fit together; the text names them), BUSY (there are as
 *   many as log_max_qps allows). */
SDR_API struct sdr_qp *sdr_qp_create(struct sdr_context *ctx, struct sdr_qp_attr *qp_attr);

/* sdr_qp_destroy - end a connection
 * Tells the peer, which takes 2 ms and 1.5 round trips (of virtual time where it is virtual), and up to 2 s more while
 * what was sent has not left this end; then frees the queue pair and all its handles. Sends not yet injected are
 * dropped; a receiver at the other end sees SDR_ERROR (PEER_CLOSED) where chunks are missing. */
SDR_API int sdr_qp_destroy(struct sdr_qp *qp);

/* sdr_qp_info_size_get - bytes of a queue pair's info
 * The same for every queue pair of this library. */
SDR_API int sdr_qp_info_size_get(struct sdr_qp *qp, size_t *info_size);

/* sdr_qp_info_get - what the peer needs to connect
 * info: sdr_qp_info_size_get bytes of the caller's; text, padded with spaces. Holds this end's key: send it by a way
 *   that is as private as the data is to be. */
SDR_API int sdr_qp_info_get(struct sdr_qp *qp, void *info);

/* sdr_qp_connect - connect to the queue pair whose info this is; both ends do so
 * Returns at once, connecting goes on in the background; sends and receives may be posted meanwhile.
 *   sdr_ext_qp_connected tells when the peer has answered.
 * remote_qp_info: the peer's, unchanged; not kept. It is read up to the end of its text, at most
 *   sdr_qp_info_size_get bytes; where its size is known sdr_ext_qp_connect is safer.
 * ERRORS: PEER_INCOMPATIBLE (attributes or device differ; the text names them), INVALID_ARGUMENT (connected before). */
SDR_API int sdr_qp_connect(struct sdr_qp *qp, void *remote_qp_info);

/* sdr_recv_post - post the next receive
 * wr: copied. The buffer is the library's to write until sdr_recv_complete.
 * handle: set to a handle for the calls below; sdr_recv_complete is owed for it.
 * RETURNS SDR_RETRY while all slots (max_log_num_msgs) are taken by receives not completed.
 * ERRORS: INVALID_ARGUMENT (key or range), TOO_LARGE, UNSUPPORTED (recv_enable), or what ended the queue pair.
 * SOURCE: section 3, order-based matching. */
SDR_API int sdr_recv_post(struct sdr_qp *qp, struct sdr_recv_wr *wr, struct sdr_recv_handle **handle);

/* sdr_recv_imm_get - the sender's immediate
 * RETURNS SDR_RETRY until it is known; SDR_ERROR when the message brings none (INVALID_ARGUMENT) or has failed. */
SDR_API int sdr_recv_imm_get(struct sdr_recv_handle *handle, uint32_t *immediate);

/* sdr_recv_bitmap_get - the live bitmap of a receive
 * bitmap_bytes: set to memory of the library's that changes as chunks arrive: chunk c is bit c % 8 of byte c / 8. It is
 *   readable until sdr_recv_complete. Bytes of a chunk are in place when its bit is seen set by an acquire load (on
 *   x86-64 any load).
 * bitmap_num_bytes: of max_length until the sender has announced its length, then of the message: ask again after a
 *   bitmap looks incomplete. sdr_ext_recv_info_get tells when all of it is there.
 * RETURNS SDR_ERROR when the receive has failed with chunks missing. */
SDR_API int sdr_recv_bitmap_get(struct sdr_recv_handle *handle, uint8_t **bitmap_bytes, size_t *bitmap_num_bytes);

/* sdr_recv_bitmap_chunk_expand - which packets of one chunk have arrived
 * bitmap: room for one bit a packet of a chunk, in whole uint64_t; packet p is bit p % 64 of word p / 64.
 * ERRORS: INVALID_ARGUMENT (no such chunk), or what ended the receive. */
SDR_API int sdr_recv_bitmap_chunk_expand(struct sdr_recv_handle *handle, uint32_t chunk_offset, uint64_t *bitmap);

/* sdr_recv_complete - end a receive, early or late
 * On return no byte of the buffer changes any more, whatever arrives; the handle is gone and its slot is free. A sender
 * that still waits for this receive is told (its send fails with CLOSED).
 * SOURCE: section 3, late packets. */
SDR_API int sdr_recv_complete(struct sdr_recv_handle *handle);

/* sdr_send_post - send a message, once
 * wr: copied. The bytes must stay as they are until the message is delivered: packets on their way are read in place.
 *   With remote_offset the message reaches from 0 to that offset and length, and chunks before it are not sent.
 * handle: set to a handle for sdr_send_poll.
 * RETURNS SDR_RETRY while all slots are taken by sends not injected yet.
 * ERRORS: INVALID_ARGUMENT (key, range, not connected), TOO_LARGE, UNSUPPORTED (send_enable), or what ended the queue
 *   pair. What only the peer can refuse (TOO_LARGE for its receive) is told by sdr_send_poll. */
SDR_API int sdr_send_post(struct sdr_qp *qp, struct sdr_send_wr *wr, struct sdr_send_handle **handle);

/* sdr_streaming_send_start - begin a message whose chunks are sent one by one, in any order and repeatedly
 * Its length is what the receiver posted; sdr_ext_streaming_send_start gives another.
 * RETURNS and ERRORS as sdr_send_post. SOURCE: section 4.1, how retransmission is done. */
SDR_API int sdr_streaming_send_start(struct sdr_qp *qp, struct sdr_send_start_wr *wr, struct sdr_send_handle **handle);

/* sdr_streaming_send_continue - inject some chunks of it
 * RETURNS SDR_RETRY when no more can be queued now: 256 requests before the receiver is ready, 4096 on a queue pair.
 * ERRORS: INVALID_ARGUMENT (key or range), CLOSED (after its end), or what ended the message. */
SDR_API int sdr_streaming_send_continue(struct sdr_send_handle *handle, struct sdr_send_continue_wr *wr);

/* sdr_streaming_send_end - nothing follows: sdr_send_poll completes once what was posted is injected */
SDR_API int sdr_streaming_send_end(struct sdr_send_handle *handle);

/* sdr_send_poll - has everything been injected?
 * completed_flag: 1 if so, else 0. It says nothing of arrival. status: may be NULL.
 * RETURNS SDR_SUCCESS when complete, SDR_RETRY when not yet, SDR_ERROR when the message has failed. After SUCCESS and
 *   ERROR the handle is gone. */
SDR_API int sdr_send_poll(struct sdr_send_handle *handle, int *completed_flag, struct sdr_send_status *status);

#ifdef __cplusplus
}
#endif
#endif
