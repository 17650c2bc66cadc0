/* Selective Repeat written on the bitmap (section 4.1 of the paper): the receiver acknowledges what its bitmap shows, the
 * sender sends each chunk again whose acknowledgement is overdue.
 *   selective_repeat recv HOST PORT DEVICE BYTES [LINK]   on the receiving machine (HOST: its own address)
 *   selective_repeat send HOST PORT DEVICE BYTES [LINK]   on the other
 * DEVICE is udp:ADDRESS, or an RDMA device; LINK impairs what is sent, such as "loss 1%". TCP only introduces the two:
 * acknowledgements cross the same lossy path as data, as control messages. */
#define _DEFAULT_SOURCE
#include "common.h"
#include "sdr_mr.h"

enum { CHUNK_LOG = 14, WINDOW_CHUNKS = 128, ACK = 128, DONE = 64 };
static const uint32_t CHUNK = 1u << CHUNK_LOG;
static const int64_t RTO_MIN_NS = 20000000, ACK_EVERY_NS = 5000000;

struct program {
  struct sdr_context *ctx;
  struct sdr_qp *qp;
  uint8_t *buffer;
  uint32_t length, chunks, key;
};

static int64_t now(const struct program *p) {
  int64_t ns = 0;
  MUST(sdr_ext_now_ns(p->ctx, &ns));
  return ns;
}

/* ---- the receiver: an ACK is the first chunk missing, and the bitmap from its byte on ---- */

/* Returns whether it tells of all chunks. */
static int acknowledge(const struct program *p, const uint8_t *bitmap, size_t bytes) {
  uint8_t body[512];
  uint32_t first = 0, room = 0, at;
  size_t size;
  struct sdr_ext_control ack = {ACK, 0, 0};
  while (first < p->chunks && (bitmap[first / 8] >> (first % 8) & 1)) first++;
  MUST(sdr_ext_control_size_max(p->qp, &room));
  at = first / 8;
  size = bytes - at;
  if (size > sizeof body - 4) size = sizeof body - 4;
  if (size > room - 4) size = room - 4;
  memcpy(body, &first, 4);
  memcpy(body + 4, bitmap + at, size);
  ack.size = (uint32_t)(4 + size);
  (void)sdr_ext_control_send(p->qp, &ack, body); /* it may be lost anyway; a dead peer shows where answers are read */
  while (first < p->chunks && first / 8 - at < size && (body[4 + first / 8 - at] >> (first % 8) & 1)) first++;
  return first == p->chunks;
}

static void receive(const struct program *p) {
  struct sdr_recv_wr wr = {p->length, p->key, (uint64_t)(uintptr_t)p->buffer};
  struct sdr_recv_handle *handle = NULL;
  struct sdr_ext_control control;
  uint8_t *bitmap = NULL;
  size_t bytes = 0;
  int whole = 0, confirmed = 0;
  int64_t acked_ns = 0;
  MUST(sdr_recv_post(p->qp, &wr, &handle));
  while (!confirmed) {
    int state = sdr_ext_wait(p->ctx, ACK_EVERY_NS);
    if (state == SDR_ERROR) give_up("waiting");
    MUST(sdr_recv_bitmap_get(handle, &bitmap, &bytes));
    if (state == SDR_RETRY || now(p) - acked_ns >= ACK_EVERY_NS) {
      whole = acknowledge(p, bitmap, bytes); /* the last one is repeated until the sender has it */
      acked_ns = now(p);
    }
    while ((state = sdr_ext_control_recv(p->qp, &control, NULL, 0)) == SDR_SUCCESS) confirmed |= control.type == DONE;
    if (state != SDR_ERROR) continue;
    state = sdr_ext_error_code(); /* a sender that is gone may have had the last ACK: all is here in any case */
    confirmed = whole && (state == SDR_EXT_PEER_CLOSED || state == SDR_EXT_PEER_UNREACHABLE);
    if (!confirmed) give_up("the sender is gone");
  }
  MUST(sdr_recv_complete(handle));
}

/* ---- the sender ---- */

struct window {
  uint8_t *acked;
  int64_t *sent_ns;
  uint32_t base, next, missing; /* first chunk not acknowledged, first never sent, chunks not acknowledged */
  unsigned long repeats;
};

static void take_acks(const struct program *p, struct window *w) {
  uint8_t body[512];
  struct sdr_ext_control control;
  int state;
  while ((state = sdr_ext_control_recv(p->qp, &control, body, sizeof body)) == SDR_SUCCESS) {
    uint32_t first, c, end;
    if (control.type != ACK || control.size < 4) continue;
    memcpy(&first, body, 4);
    end = (first & ~7u) + 8 * (control.size - 4);
    for (c = w->base; c < p->chunks && (c < first || c < end); c++) {
      if (w->acked[c] || (c >= first && !(body[4 + c / 8 - first / 8] >> (c % 8) & 1))) continue;
      w->acked[c] = 1;
      w->missing--;
    }
    while (w->base < p->chunks && w->acked[w->base]) w->base++;
  }
  if (state == SDR_ERROR) give_up("the receiver is gone");
}

/* One chunk; 0 when there is no room now. */
static int inject(const struct program *p, struct sdr_send_handle *handle, struct window *w, uint32_t chunk) {
  const uint32_t at = chunk * CHUNK, rest = p->length - at;
  struct sdr_send_continue_wr wr;
  int state;
  wr.length = rest < CHUNK ? rest : CHUNK;
  wr.local_addr = (uint64_t)(uintptr_t)p->buffer + at;
  wr.lkey = p->key;
  wr.remote_offset = chunk;
  state = sdr_streaming_send_continue(handle, &wr);
  if (state == SDR_ERROR) give_up("the message failed");
  if (state == SDR_SUCCESS) w->sent_ns[chunk] = now(p);
  return state == SDR_SUCCESS;
}

static void transmit(const struct program *p) {
  struct sdr_send_start_wr start = {SDR_WR_WRITE, 0};
  struct sdr_send_handle *handle = NULL;
  struct sdr_ext_control done_message = {DONE, 0, 0};
  struct window w = {NULL, NULL, 0, 0, 0, 0};
  int done = 0, copies;
  w.acked = (uint8_t *)calloc(p->chunks, 1);
  w.sent_ns = (int64_t *)calloc(p->chunks, sizeof *w.sent_ns);
  w.missing = p->chunks;
  MUST(sdr_streaming_send_start(p->qp, &start, &handle));
  while (w.missing > 0) {
    int64_t rtt_ns = 0;
    uint32_t c;
    MUST(sdr_ext_qp_rtt_ns(p->qp, &rtt_ns));
    take_acks(p, &w);
    for (c = w.base; c < w.next; c++) { /* overdue: three round trips */
      if (w.acked[c] || now(p) - w.sent_ns[c] < 3 * rtt_ns + RTO_MIN_NS) continue;
      if (!inject(p, handle, &w, c)) break;
      w.repeats++;
    }
    while (w.next < p->chunks && w.next < w.base + WINDOW_CHUNKS && inject(p, handle, &w, w.next)) w.next++;
    if (sdr_ext_wait(p->ctx, ACK_EVERY_NS) == SDR_ERROR) give_up("waiting");
  }
  MUST(sdr_streaming_send_end(handle));
  while (!done) {
    if (sdr_send_poll(handle, &done, NULL) == SDR_ERROR) give_up("the message failed");
  }
  for (copies = 0; copies < 3; copies++) sdr_ext_control_send(p->qp, &done_message, NULL);
  printf("repeats %lu of %lu chunks\n", w.repeats, (unsigned long)p->chunks);
  free(w.acked);
  free(w.sent_ns);
}

int main(int argc, char **argv) {
  const int receives = argc > 1 && strcmp(argv[1], "recv") == 0;
  struct sdr_qp_attr attributes;
  struct sdr_mr *mr;
  struct program p;
  int tcp;
  if (argc < 6) return fprintf(stderr, "usage: %s send|recv HOST PORT DEVICE BYTES [LINK]\n", argv[0]), 2;
  p.length = (uint32_t)strtoul(argv[5], NULL, 10);
  p.chunks = (uint32_t)(((uint64_t)p.length + CHUNK - 1) / CHUNK);
  p.buffer = (uint8_t *)calloc(p.length, 1);
  if (!receives) fill(p.buffer, p.length);
  p.ctx = sdr_context_create(argv[4], NULL);
  if (p.ctx == NULL) give_up("no context");
  memset(&attributes, 0, sizeof attributes);
  attributes.bitmap_chunk_size_log_bytes = CHUNK_LOG;
  attributes.mtu = SDR_MTU_1024;
  attributes.send_enable = attributes.recv_enable = 1;
  p.qp = sdr_qp_create(p.ctx, &attributes);
  if (p.qp == NULL) give_up("no queue pair");
  mr = sdr_mr_reg(p.ctx, p.buffer, p.length, SDR_ACCESS_REMOTE_WRITE);
  if (mr == NULL) give_up("no memory region");
  MUST(sdr_mr_lkey_get(mr, &p.key));
  tcp = meet(receives, argv[2], argv[3]);
  connect_over(tcp, p.qp);
  if (argc > 6) MUST(sdr_ext_link_set(p.qp, argv[6]));
  if (receives) receive(&p);
  else transmit(&p);
  printf("hash %016llx\n", hash_of(p.buffer, p.length));
  MUST(sdr_qp_destroy(p.qp));
  MUST(sdr_mr_dereg(mr));
  MUST(sdr_context_destroy(p.ctx));
  close(tcp);
  free(p.buffer);
  return 0;
}
