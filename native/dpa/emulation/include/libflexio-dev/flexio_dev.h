/* The emulation's stand-in for FlexIO's device API, version 24.10 and later (calls without a thread context), as far as
 * native/dpa/device uses it. Windows are in emulation/device.cc: a pointer acquired here is good for the 64-byte line
 * it points into, which is all that the program relies on. */
#ifndef SDR_EMULATED_FLEXIO_DEV_H
#define SDR_EMULATED_FLEXIO_DEV_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t flexio_uintptr_t;
typedef enum { FLEXIO_DEV_STATUS_SUCCESS = 0, FLEXIO_DEV_STATUS_FAILED = 1 } flexio_dev_status_t;

enum flexio_window_entity { FLEXIO_DEV_WINDOW_ENTITY_0 = 0, FLEXIO_DEV_WINDOW_ENTITY_1 = 1 };

/* Which host memory this thread's window shows from now on. */
flexio_dev_status_t flexio_dev_window_config(enum flexio_window_entity entity, uint16_t window_id, uint32_t mkey);
/* A pointer to host memory at `host_address`, within the window. */
flexio_dev_status_t flexio_dev_window_ptr_acquire(enum flexio_window_entity entity, uint64_t host_address,
                                                  flexio_uintptr_t* device_address);
/* Ends this activation; the next event starts the handler anew. On a device it does not return. */
void flexio_dev_thread_reschedule(void);

#ifdef __cplusplus
}
#endif
#endif
