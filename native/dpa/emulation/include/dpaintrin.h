/* The emulation's stand-in for the DPA compiler's intrinsics, as far as native/dpa/device uses them: the names and what
 * they order. A fence that writes the window back writes back what this thread has of it (device.h); between
 * processor and memory the host's own ordering does the rest. */
#ifndef SDR_EMULATED_DPAINTRIN_H
#define SDR_EMULATED_DPAINTRIN_H

#define __dpa_global__
#define __dpa_rpc__

enum { __DPA_MEMORY = 1, __DPA_MMIO = 2 };
enum { __DPA_R = 1, __DPA_W = 2, __DPA_RW = 3 };

#ifdef __cplusplus
extern "C" {
#endif
void sdr_emulated_window_writeback(void);
#ifdef __cplusplus
}
#endif

static inline void __dpa_thread_fence(int space, int before, int after) {
  (void)after;
#ifndef __SANITIZE_THREAD__ /* which does not know fences; what it must know is in atomic loads and stores too */
  __atomic_thread_fence(__ATOMIC_ACQ_REL);
#endif
  if (space == __DPA_MMIO && (before & __DPA_W) != 0) sdr_emulated_window_writeback();
}
#define __dpa_thread_window_writeback() __dpa_thread_fence(__DPA_MMIO, __DPA_W, __DPA_W)

#endif
