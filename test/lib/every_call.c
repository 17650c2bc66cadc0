/* Uses every published call and every extension, over any device: two threads of one process, or two processes.
 *   every_call DEVICE                        both ends here (for "emu:NAME" too)
 *   every_call DEVICE recv|send HOST PORT    one end each, on two machines; HOST is the receiver's
 * DEVICE is udp:ADDRESS, emu:NAME or an RDMA device such as rxe0. Ends with "every call passed". */
#define _DEFAULT_SOURCE
#include <pthread.h>

#include "../../examples/c/common.h"
#include "sdr.h"
#include "sdr_mr.h"

enum { CHUNK_LOG = 12, CHUNK = 1 << CHUNK_LOG, BYTES = 20 * CHUNK + 100, CHUNKS = 21, NUMBER = 64 };

#define EXPECT(condition)                                                                                  \
  do {                                                                                                     \
    if (!(condition)) {                                                                                    \
      fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #condition, sdr_ext_error_text()); \
      exit(1);                                                                                             \
    }                                                                                                      \
  } while (0)

struct end {
  const char *device;
  int fd, is_emulated;
  struct sdr_context *ctx;
  struct sdr_qp *qp;
  struct sdr_mr *mr;
  uint32_t key;
  uint8_t *buffer;
};

static void barrier(const struct end *e) { /* both ends are here */
  char mark = 'x';
  tell(e->fd, &mark, 1);
  hear(e->fd, &mark, 1);
}

static void open_end(struct end *e) {
  struct sdr_dev_attr device = {1, 2};
  struct sdr_qp_attr attr;
  uint32_t remote_key = 0;
  int64_t ns = -1;
  int fd = -1, state;
  memset(&attr, 0, sizeof attr);
  attr.bitmap_chunk_size_log_bytes = CHUNK_LOG;
  attr.max_in_flight_log_bytes = 20;
  attr.max_log_num_msgs = 4;
  attr.mtu = SDR_MTU_1024;
  attr.send_enable = attr.recv_enable = 1;
  e->is_emulated = strncmp(e->device, "emu:", 4) == 0;
  e->ctx = sdr_context_create(e->device, &device);
  if (e->ctx == NULL) give_up("no context");
  e->qp = sdr_qp_create(e->ctx, &attr);
  if (e->qp == NULL) give_up("no queue pair");
  e->buffer = (uint8_t *)calloc(BYTES, 1);
  e->mr = sdr_mr_reg(e->ctx, e->buffer, BYTES, SDR_ACCESS_REMOTE_WRITE);
  if (e->mr == NULL) give_up("no memory region");
  MUST(sdr_mr_lkey_get(e->mr, &e->key));
  MUST(sdr_mr_rkey_get(e->mr, &remote_key));
  MUST(sdr_ext_qp_peer_timeout(e->qp, 60000));
  MUST(sdr_ext_link_set(e->qp, "none"));
  MUST(sdr_ext_now_ns(e->ctx, &ns));
  EXPECT(ns >= 0);
  if (e->is_emulated) EXPECT(sdr_ext_event_fd(e->ctx, &fd) == SDR_ERROR);
  else MUST(sdr_ext_event_fd(e->ctx, &fd));
  EXPECT(sdr_qp_connect(e->qp, NULL) == SDR_ERROR); /* then by sdr_ext_qp_connect */
  connect_over(e->fd, e->qp);
  while ((state = sdr_ext_qp_connected(e->qp)) == SDR_RETRY) sdr_ext_wait(e->ctx, 1000000);
  if (state != SDR_SUCCESS) give_up("connecting");
  MUST(sdr_ext_qp_rtt_ns(e->qp, &ns));
  EXPECT(ns > 0);
  barrier(e);
}

static void close_end(struct end *e) {
  struct sdr_ext_stats stats;
  MUST(sdr_ext_stats_get(e->qp, &stats, sizeof stats));
  EXPECT(stats.control_sent > 0 && stats.control_received > 0);
  barrier(e);
  MUST(sdr_qp_destroy(e->qp));
  MUST(sdr_mr_dereg(e->mr));
  MUST(sdr_context_destroy(e->ctx));
  free(e->buffer);
}

static void *sender(void *argument) {
  struct end *e = (struct end *)argument;
  struct sdr_send_handle *handle = NULL;
  struct sdr_send_status status;
  struct sdr_ext_send_info info;
  struct sdr_ext_control control = {NUMBER, 1, 5};
  int completed = 0, state, chunk;
  open_end(e);
  fill(e->buffer, BYTES);
  { /* message 0: one shot, with an immediate */
    struct sdr_send_wr wr;
    memset(&wr, 0, sizeof wr);
    wr.opcode = SDR_WR_WRITE_WITH_IMM;
    wr.imm_value = 0xdeadbeef;
    wr.length = BYTES;
    wr.lkey = e->key;
    wr.local_addr = (uint64_t)(uintptr_t)e->buffer;
    while ((state = sdr_send_post(e->qp, &wr, &handle)) == SDR_RETRY) {
    }
    EXPECT(state == SDR_SUCCESS);
    MUST(sdr_ext_send_info_get(handle, &info));
    EXPECT(info.message == 0 && info.length == BYTES);
    while ((state = sdr_send_poll(handle, &completed, &status)) == SDR_RETRY) EXPECT(!completed);
    EXPECT(state == SDR_SUCCESS && completed && status.flags == 0);
  }
  barrier(e);
  for (chunk = 0; chunk < 2; chunk++) { /* messages 1 and 2: streaming, backwards, the second with its own length */
    struct sdr_send_start_wr start = {SDR_WR_WRITE_WITH_IMM, 77};
    int at;
    if (chunk == 0) state = sdr_streaming_send_start(e->qp, &start, &handle);
    else state = sdr_ext_streaming_send_start(e->qp, &start, BYTES, &handle);
    EXPECT(state == SDR_SUCCESS);
    for (at = CHUNKS - 1; at >= 0; at--) {
      struct sdr_send_continue_wr wr;
      wr.length = at == CHUNKS - 1 ? 100 : CHUNK;
      wr.local_addr = (uint64_t)(uintptr_t)e->buffer + (uint64_t)at * CHUNK;
      wr.lkey = e->key;
      wr.remote_offset = (uint64_t)at;
      while ((state = sdr_streaming_send_continue(handle, &wr)) == SDR_RETRY) sdr_ext_wait(e->ctx, 1000000);
      EXPECT(state == SDR_SUCCESS);
    }
    MUST(sdr_streaming_send_end(handle));
    while ((state = sdr_send_poll(handle, &completed, NULL)) == SDR_RETRY) sdr_ext_wait(e->ctx, 1000000);
    EXPECT(state == SDR_SUCCESS && completed);
    barrier(e);
  }
  MUST(sdr_ext_control_send(e->qp, &control, "hello"));
  close_end(e);
  return NULL;
}

static void check_whole(const struct end *e, struct sdr_recv_handle *handle, uint32_t message, uint32_t immediate) {
  struct sdr_ext_recv_info info;
  uint8_t *bitmap = NULL, *wanted;
  uint64_t packets = 0;
  uint32_t got = 0;
  size_t bytes = 0, i;
  int state;
  while ((state = sdr_recv_imm_get(handle, &got)) == SDR_RETRY) sdr_ext_wait(e->ctx, 1000000);
  EXPECT(state == SDR_SUCCESS && got == immediate);
  for (;;) {
    size_t there = 0;
    MUST(sdr_recv_bitmap_get(handle, &bitmap, &bytes));
    EXPECT(bytes == (CHUNKS + 7) / 8);
    for (i = 0; i < CHUNKS; i++) there += bitmap[i / 8] >> (i % 8) & 1;
    if (there == CHUNKS) break;
    sdr_ext_wait(e->ctx, 1000000);
  }
  do {
    MUST(sdr_ext_recv_info_get(handle, &info));
  } while (!info.complete);
  EXPECT(info.message == message && info.length == BYTES && info.chunks_done == CHUNKS);
  MUST(sdr_recv_bitmap_chunk_expand(handle, 3, &packets));
  EXPECT(packets == 15);
  MUST(sdr_recv_bitmap_chunk_expand(handle, CHUNKS - 1, &packets));
  EXPECT(packets == 1);
  EXPECT(sdr_recv_bitmap_chunk_expand(handle, CHUNKS, &packets) == SDR_ERROR);
  EXPECT(sdr_ext_error_code() == SDR_EXT_INVALID_ARGUMENT);
  EXPECT(strcmp(sdr_ext_error_name(sdr_ext_error_code()), "INVALID_ARGUMENT") == 0);
  MUST(sdr_recv_complete(handle));
  wanted = (uint8_t *)malloc(BYTES);
  fill(wanted, BYTES);
  EXPECT(memcmp(wanted, e->buffer, BYTES) == 0);
  free(wanted);
}

static void *receiver(void *argument) {
  struct end *e = (struct end *)argument;
  struct sdr_ext_control control;
  char body[64];
  uint32_t most = 0, message;
  int state;
  open_end(e);
  for (message = 0; message < 3; message++) {
    struct sdr_recv_handle *handle = NULL;
    struct sdr_recv_wr wr;
    wr.max_length = BYTES;
    wr.lkey = e->key;
    wr.address = (uint64_t)(uintptr_t)e->buffer;
    memset(e->buffer, 0, BYTES);
    while ((state = sdr_recv_post(e->qp, &wr, &handle)) == SDR_RETRY) {
    }
    EXPECT(state == SDR_SUCCESS);
    check_whole(e, handle, message, message == 0 ? 0xdeadbeef : 77);
    barrier(e);
  }
  MUST(sdr_ext_control_size_max(e->qp, &most));
  EXPECT(most == 1024 - 12);
  while ((state = sdr_ext_control_recv(e->qp, &control, body, sizeof body)) == SDR_RETRY) sdr_ext_wait(e->ctx, 1000000);
  EXPECT(state == SDR_SUCCESS && control.type == NUMBER && control.message == 1 && control.size == 5);
  EXPECT(memcmp(body, "hello", 5) == 0);
  close_end(e);
  return NULL;
}

int main(int argc, char **argv) {
  struct end ends[2];
  int fds[2];
  memset(ends, 0, sizeof ends);
  if (argc != 2 && argc != 5) return fprintf(stderr, "usage: %s DEVICE [recv|send HOST PORT]\n", argv[0]), 2;
  ends[0].device = ends[1].device = argv[1];
  if (argc == 5) {
    const int receives = strcmp(argv[2], "recv") == 0;
    ends[0].fd = meet(receives, argv[3], argv[4]);
    if (receives) receiver(&ends[0]);
    else sender(&ends[0]);
  } else {
    pthread_t other;
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    ends[0].fd = fds[0];
    ends[1].fd = fds[1];
    EXPECT(pthread_create(&other, NULL, sender, &ends[1]) == 0);
    receiver(&ends[0]);
    EXPECT(pthread_join(other, NULL) == 0);
  }
  printf("every call passed\n");
  return 0;
}
