/* The smallest use of the library: one process writes a buffer into another's memory.
 *   write recv HOST PORT DEVICE BYTES        on the receiving machine (HOST: its own address)
 *   write send HOST PORT DEVICE BYTES [LINK] on the other
 * DEVICE is udp:ADDRESS, or an RDMA device; LINK impairs what is sent, such as "loss 1%".
 * Packets may be lost. What a program does about that is up to it: this one writes the whole message again until each
 * chunk has arrived once. selective_repeat.c does better. */
#define _DEFAULT_SOURCE
#include "common.h"
#include "sdr_mr.h"

#define CHUNK_LOG 14
#define QUIET_NS 50000000 /* nothing more is under way after so long a silence */

static void send_all(struct sdr_qp *qp, int tcp, struct sdr_send_wr *wr) {
  char again = 1;
  while (again) {
    struct sdr_send_handle *send = NULL;
    int done = 0;
    MUST(sdr_send_post(qp, wr, &send));
    while (!done) {
      if (sdr_send_poll(send, &done, NULL) == SDR_ERROR) give_up("the send failed");
    }
    tell(tcp, "x", 1); /* all of it is on its way */
    hear(tcp, &again, 1);
  }
}

/* Returns how many times the message was written. */
static int receive_all(struct sdr_context *ctx, struct sdr_qp *qp, int tcp, struct sdr_recv_wr *wr) {
  const size_t chunks = ((size_t)wr->max_length + (1 << CHUNK_LOG) - 1) >> CHUNK_LOG;
  uint8_t *have = (uint8_t *)calloc(chunks / 8 + 1, 1), *bitmap = NULL;
  size_t i, bytes = 0, missing = chunks;
  int passes;
  for (passes = 0; missing > 0; passes++) {
    struct sdr_recv_handle *receive = NULL;
    char sent, again;
    MUST(sdr_recv_post(qp, wr, &receive));
    hear(tcp, &sent, 1);
    while (sdr_ext_wait(ctx, QUIET_NS) == SDR_SUCCESS) {
    }
    MUST(sdr_recv_bitmap_get(receive, &bitmap, &bytes));
    for (i = 0; i < bytes; i++) have[i] |= bitmap[i];
    MUST(sdr_recv_complete(receive));
    for (i = missing = 0; i < chunks; i++) missing += (have[i / 8] >> (i % 8) & 1) == 0;
    again = missing > 0;
    tell(tcp, &again, 1);
  }
  free(have);
  return passes;
}

int main(int argc, char **argv) {
  const int receives = argc > 1 && strcmp(argv[1], "recv") == 0;
  struct sdr_dev_attr device = {1, 0};
  struct sdr_qp_attr attributes;
  struct sdr_context *ctx;
  struct sdr_qp *qp;
  struct sdr_mr *mr;
  uint8_t *buffer;
  uint32_t length, key = 0;
  int tcp;
  if (argc < 6) return fprintf(stderr, "usage: %s send|recv HOST PORT DEVICE BYTES [LINK]\n", argv[0]), 2;
  length = (uint32_t)strtoul(argv[5], NULL, 10);
  buffer = (uint8_t *)calloc(length, 1);
  if (!receives) fill(buffer, length);
  ctx = sdr_context_create(argv[4], &device);
  if (ctx == NULL) give_up("no context");
  memset(&attributes, 0, sizeof attributes);
  attributes.bitmap_chunk_size_log_bytes = CHUNK_LOG;
  attributes.max_in_flight_log_bytes = 30;
  attributes.mtu = SDR_MTU_1024;
  attributes.send_enable = attributes.recv_enable = 1;
  qp = sdr_qp_create(ctx, &attributes);
  if (qp == NULL) give_up("no queue pair");
  mr = sdr_mr_reg(ctx, buffer, length, SDR_ACCESS_REMOTE_WRITE);
  if (mr == NULL) give_up("no memory region");
  MUST(sdr_mr_lkey_get(mr, &key));
  tcp = meet(receives, argv[2], argv[3]);
  connect_over(tcp, qp);
  if (argc > 6) MUST(sdr_ext_link_set(qp, argv[6]));

  if (receives) {
    struct sdr_recv_wr wr = {length, key, (uint64_t)(uintptr_t)buffer};
    printf("passes %d\n", receive_all(ctx, qp, tcp, &wr));
  } else {
    struct sdr_send_wr wr = {SDR_WR_WRITE, 0, length, key, (uint64_t)(uintptr_t)buffer, 0};
    send_all(qp, tcp, &wr);
  }
  printf("hash %016llx\n", hash_of(buffer, length));
  MUST(sdr_qp_destroy(qp));
  MUST(sdr_mr_dereg(mr));
  MUST(sdr_context_destroy(ctx));
  close(tcp);
  free(buffer);
  return 0;
}
