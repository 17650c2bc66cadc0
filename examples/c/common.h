/* What the examples share, none of it about SDR: a TCP connection by which two processes find each other, a buffer of
 * random bytes and a hash of it, and the end of a program that failed. */
#ifndef EXAMPLE_COMMON_H
#define EXAMPLE_COMMON_H

#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sdr_ext.h"

#define MUST(call)                                                                                     \
  do {                                                                                                 \
    if ((call) != SDR_SUCCESS) {                                                                       \
      fprintf(stderr, "%s: %s: %s\n", #call, sdr_ext_error_name(sdr_ext_error_code()), sdr_ext_error_text()); \
      exit(1);                                                                                         \
    }                                                                                                  \
  } while (0)

static inline void give_up(const char *what) {
  fprintf(stderr, "%s: %s\n", what, sdr_ext_error_text());
  exit(1);
}

/* A TCP connection: the receiver listens, the sender connects. */
static inline int meet(int listens, const char *host, const char *port) {
  struct addrinfo hints, *found = NULL;
  int fd, peer, yes = 1, tries;
  memset(&hints, 0, sizeof hints);
  hints.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(host, port, &hints, &found) != 0) give_up("no such address");
  for (tries = 0; tries < 3000; tries++) {
    fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (fd < 0) give_up("no socket");
    if (listens) {
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
      if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 1) != 0) give_up("the port is not free");
      peer = accept(fd, NULL, NULL);
      if (peer < 0) give_up("nobody came");
      close(fd);
      freeaddrinfo(found);
      return peer;
    }
    if (connect(fd, found->ai_addr, found->ai_addrlen) == 0) {
      freeaddrinfo(found);
      return fd;
    }
    close(fd); /* the receiver is not there yet */
    usleep(10000);
  }
  give_up("nobody listens");
  return -1;
}

static inline void tell(int fd, const void *bytes, size_t size) {
  const char *at = (const char *)bytes;
  while (size > 0) {
    ssize_t n = write(fd, at, size);
    if (n <= 0) give_up("the TCP connection broke");
    at += n;
    size -= (size_t)n;
  }
}

static inline void hear(int fd, void *bytes, size_t size) {
  char *at = (char *)bytes;
  while (size > 0) {
    ssize_t n = read(fd, at, size);
    if (n <= 0) give_up("the TCP connection broke");
    at += n;
    size -= (size_t)n;
  }
}

/* Connects two queue pairs by exchanging their infos. */
static inline void connect_over(int fd, struct sdr_qp *qp) {
  size_t size = 0, theirs = 0;
  void *info;
  MUST(sdr_qp_info_size_get(qp, &size));
  info = malloc(size);
  MUST(sdr_qp_info_get(qp, info));
  tell(fd, &size, sizeof size);
  tell(fd, info, size);
  hear(fd, &theirs, sizeof theirs);
  if (theirs != size) give_up("the peer is of another version");
  hear(fd, info, size);
  MUST(sdr_ext_qp_connect(qp, info, size));
  free(info);
}

static inline void fill(uint8_t *bytes, size_t size) {
  uint64_t state = 88172645463325252u;
  size_t i;
  for (i = 0; i < size; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    bytes[i] = (uint8_t)state;
  }
}

/* FNV-1a over all of it. */
static inline unsigned long long hash_of(const uint8_t *bytes, size_t size) {
  unsigned long long hash = 14695981039346656037u;
  size_t i;
  for (i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
  return hash;
}

#endif
