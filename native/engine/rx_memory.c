/* A receive side's memory where there is an operating system: taken from it, zeroed, given back. */
#include "engine/rx.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#endif
/* Sanitizers watch the heap but not mappings, so their builds take bitmaps from the heap. */
#if (defined(__unix__) || defined(__APPLE__)) && !defined(__SANITIZE_ADDRESS__)
#define SLABS_ARE_MAPPED 1
#else
#define SLABS_ARE_MAPPED 0
#endif

/* Looks at the epochs before giving the processor away; a batch takes tens of microseconds. */
enum { SPINS_MAX = 64 };

/* Zeroed, cache-line aligned, committed by the system page by page as it is touched. */
static void* slab_create(size_t bytes) {
#if SLABS_ARE_MAPPED
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
  flags |= MAP_NORESERVE;
#endif
  void* slab = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  return slab == MAP_FAILED ? NULL : slab;
#else
  void* slab = aligned_alloc(SDR_CACHE_LINE, bytes);
  if (slab != NULL) memset(slab, 0, bytes);
  return slab;
#endif
}

static void slab_destroy(void* slab, size_t bytes) {
  if (slab == NULL) return;
#if SLABS_ARE_MAPPED
  munmap(slab, bytes);
#else
  (void)bytes;
  free(slab);
#endif
}

static void* lines_create(size_t bytes) {
  void* lines = aligned_alloc(SDR_CACHE_LINE, bytes);
  if (lines != NULL) memset(lines, 0, bytes);
  return lines;
}

void sdr_rx_relax(uint32_t spins) {
  if (spins >= SPINS_MAX) sched_yield();
}

sdr_status sdr_rx_create(const sdr_geometry* geometry, sdr_rx** out) {
  if (out == NULL) return SDR_INVALID;
  *out = NULL;
  const sdr_status status = sdr_geometry_check(geometry);
  if (status != SDR_OK) return status;
  const sdr_rx_sizes sizes = sdr_rx_sizes_of(geometry);
  sdr_rx* rx = (sdr_rx*)lines_create(sizes.rx);
  if (rx == NULL) return SDR_NO_MEMORY;
  const sdr_rx_parts parts = {lines_create(sizes.table), lines_create(sizes.workers),
                              slab_create(sizes.chunk_slab), slab_create(sizes.packet_slab)};
  rx->chunk_slab_bytes = sizes.chunk_slab;
  rx->packet_slab_bytes = sizes.packet_slab;
  rx->table = (sdr_rx_slot*)parts.table;
  rx->workers = (sdr_rx_worker*)parts.workers;
  rx->chunk_slab = (uint8_t*)parts.chunk_slab;
  rx->packet_slab = (uint8_t*)parts.packet_slab;
  if (parts.table == NULL || parts.workers == NULL || parts.chunk_slab == NULL ||
      parts.packet_slab == NULL) {
    sdr_rx_destroy(rx);
    return SDR_NO_MEMORY;
  }
  sdr_rx_init(rx, geometry, &parts);
  *out = rx;
  return SDR_OK;
}

void sdr_rx_destroy(sdr_rx* rx) {
  if (rx == NULL) return;
  slab_destroy(rx->chunk_slab, rx->chunk_slab_bytes);
  slab_destroy(rx->packet_slab, rx->packet_slab_bytes);
  free(rx->workers);
  free(rx->table);
  free(rx);
}
