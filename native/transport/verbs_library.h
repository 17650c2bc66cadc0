// libibverbs and libmlx5, found when they are needed: nothing links them, so one binary runs on
// machines with and without them. Only functions the libraries export are here; what verbs.h has as
// inline functions goes through the opened device itself.
#pragma once

#include <infiniband/verbs.h>
#if __has_include(<infiniband/mlx5dv.h>)
#define SDR_HAVE_MLX5DV 1
#include <infiniband/mlx5dv.h>
#endif

#include <string>

#include "sdr/verbs.h"

// Macros over functions of the same names; the functions are meant here.
#undef ibv_query_port
#undef ibv_reg_mr
#undef ibv_reg_mr_iova
#undef ibv_get_device_list

namespace sdr::verbs {

// Names other files for the two libraries: odd installations, and emulated devices in tests.
inline constexpr char kVerbsLibraryVariable[] = "SDR_IBVERBS";
inline constexpr char kMlx5LibraryVariable[] = "SDR_MLX5";

#define SDR_IBV_FUNCTIONS(X)                                                                       \
  X(get_device_list)                                                                               \
  X(free_device_list)                                                                              \
  X(get_device_name)                                                                               \
  X(open_device) X(close_device) X(query_device) X(query_port) X(alloc_pd) X(dealloc_pd) X(reg_mr) \
      X(dereg_mr) X(create_comp_channel) X(destroy_comp_channel) X(get_cq_event) X(ack_cq_events)  \
          X(destroy_cq) X(modify_qp) X(destroy_qp) X(get_async_event) X(ack_async_event)           \
              X(wc_status_str)

struct Ibv {
#define SDR_IBV_MEMBER(name) decltype(&::ibv_##name) name = nullptr;
  SDR_IBV_FUNCTIONS(SDR_IBV_MEMBER)
#undef SDR_IBV_MEMBER
  ssize_t (*query_gid_table)(ibv_context*, ibv_gid_entry*, size_t, uint32_t, size_t) = nullptr;
  // Null where the library is older than they are.
  decltype(&::ibv_qp_to_qp_ex) qp_to_qp_ex = nullptr;
  decltype(&::ibv_reg_dmabuf_mr) reg_dmabuf_mr = nullptr;
};

// Loaded once a process, and kept. Null with *error set: no library, or one too old.
const Ibv* load_ibv(DeviceError* error);

#if defined(SDR_HAVE_MLX5DV)
struct Mlx5 {
  decltype(&::mlx5dv_is_supported) is_supported = nullptr;
  decltype(&::mlx5dv_open_device) open_device = nullptr;
  decltype(&::mlx5dv_create_mkey) create_mkey = nullptr;
  decltype(&::mlx5dv_destroy_mkey) destroy_mkey = nullptr;
  decltype(&::mlx5dv_create_qp) create_qp = nullptr;
  decltype(&::mlx5dv_qp_ex_from_ibv_qp_ex) qp_ex_from_ibv_qp_ex = nullptr;
  decltype(&::mlx5dv_init_obj) init_obj = nullptr;
};
// Null where the library is missing or older: the device is then used as any other.
const Mlx5* load_mlx5();
#endif

}  // namespace sdr::verbs
