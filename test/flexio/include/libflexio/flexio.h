/* Stand-in for FlexIO's host API (DOCA), as far as native/dpa/flexio uses it: names, fields and signatures as published
 * for 24.10, written anew; fields that are not used are left out, so layouts differ. It lets the host side be compiled,
 * and run over test/flexio/shims.cc, on machines without DOCA. It proves nothing about a device. */
#ifndef SDR_STANDIN_FLEXIO_H
#define SDR_STANDIN_FLEXIO_H

#include <infiniband/mlx5dv.h>
#include <stddef.h>
#include <stdint.h>

#if !defined(FLEXIO_VER_USED) || FLEXIO_VER_USED < FLEXIO_VER(24, 10, 0)
#error "the host side is written for FlexIO 24.10 and later"
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t flexio_uintptr_t;
typedef void(flexio_func_t)(void);
typedef enum { FLEXIO_STATUS_SUCCESS = 0, FLEXIO_STATUS_FAILED = 1, FLEXIO_STATUS_FATAL_ERR = 3 } flexio_status;
enum flexio_err_status { FLEXIO_DEV_NO_ERROR = 0, FLEXIO_DEV_FATAL_ERROR = 1, FLEXIO_DEV_USER_ERROR = 2 };
enum { FLEXIO_CQ_ELEMENT_TYPE_DPA_THREAD = 0, FLEXIO_CQ_ELEMENT_TYPE_NON_DPA_CQ = 8 };
enum flexio_memtype { FLEXIO_MEMTYPE_DPA = 0, FLEXIO_MEMTYPE_HOST = 1 };
enum flexio_affinity_type { FLEXIO_AFFINITY_NONE = 0, FLEXIO_AFFINITY_STRICT, FLEXIO_AFFINITY_GROUP };

struct flexio_app;
struct flexio_process;
struct flexio_window;
struct flexio_uar;
struct flexio_thread;
struct flexio_event_handler;
struct flexio_cq;

struct flexio_process_attr {
  struct ibv_pd* pd;
};
struct flexio_affinity {
  enum flexio_affinity_type type;
  uint32_t id;
};
struct flexio_event_handler_attr {
  flexio_func_t* host_stub_func;
  uint64_t arg;
  struct flexio_affinity affinity;
};
struct flexio_heap_mem_info {
  uint64_t base_addr;
  size_t size;
};
struct flexio_qmem {
  enum flexio_memtype memtype;
  flexio_uintptr_t daddr;
};
struct flexio_cq_attr {
  uint8_t log_cq_depth, element_type;
  struct flexio_thread* thread;
  uint32_t uar_id;
  struct flexio_qmem cq_ring_qmem;
  flexio_uintptr_t cq_dbr_daddr;
};

flexio_status flexio_process_create(struct ibv_context* context, struct flexio_app* app,
                                    const struct flexio_process_attr* attributes, struct flexio_process** process);
flexio_status flexio_process_destroy(struct flexio_process* process);
flexio_status flexio_process_call(struct flexio_process* process, flexio_func_t* function, uint64_t* result, ...);
flexio_status flexio_process_mem_info_get(const struct flexio_process* process, struct flexio_heap_mem_info* info);
struct flexio_uar* flexio_process_get_uar(struct flexio_process* process);
uint32_t flexio_process_get_dumem_id(struct flexio_process* process);
uint32_t flexio_uar_get_id(struct flexio_uar* uar);
enum flexio_err_status flexio_err_status_get(struct flexio_process* process);
int flexio_err_handler_fd(struct flexio_process* process);
flexio_status flexio_coredump_create(struct flexio_process* process, const char* outfile);

flexio_status flexio_buf_dev_alloc(struct flexio_process* process, size_t bytes, flexio_uintptr_t* address);
flexio_status flexio_buf_dev_free(struct flexio_process* process, flexio_uintptr_t address);
flexio_status flexio_buf_dev_memset(struct flexio_process* process, int value, size_t bytes, flexio_uintptr_t address);
flexio_status flexio_host2dev_memcpy(struct flexio_process* process, void* from, size_t bytes, flexio_uintptr_t to);

flexio_status flexio_window_create(struct flexio_process* process, struct ibv_pd* pd, struct flexio_window** window);
flexio_status flexio_window_destroy(struct flexio_window* window);
uint32_t flexio_window_get_id(struct flexio_window* window);

flexio_status flexio_event_handler_create(struct flexio_process* process, struct flexio_event_handler_attr* attributes,
                                          struct flexio_event_handler** handler);
flexio_status flexio_event_handler_run(struct flexio_event_handler* handler, uint64_t argument);
flexio_status flexio_event_handler_destroy(struct flexio_event_handler* handler);
struct flexio_thread* flexio_event_handler_get_thread(struct flexio_event_handler* handler);

flexio_status flexio_cq_create(struct flexio_process* process, struct ibv_context* context,
                               const struct flexio_cq_attr* attributes, struct flexio_cq** cq);
flexio_status flexio_cq_destroy(struct flexio_cq* cq);
uint32_t flexio_cq_get_cq_num(struct flexio_cq* cq);

#ifdef __cplusplus
}
#endif
#endif
