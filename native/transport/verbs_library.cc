#include "transport/verbs_library.h"

#include <dlfcn.h>

#include <cstdlib>

namespace sdr::verbs {
namespace {

// RTLD_LOCAL, and never closed: providers have threads and handlers of their own.
void* open_library(const char* variable, const char* name) {
  const char* given = std::getenv(variable);
  return dlopen(given != nullptr && *given != '\0' ? given : name, RTLD_NOW | RTLD_LOCAL);
}

template <typename Function>
bool find(void* library, const char* name, Function* out) {
  *out = reinterpret_cast<Function>(dlsym(library, name));
  return *out != nullptr;
}

struct Loaded {
  Ibv ibv;
  bool ok = false;
  DeviceError error;
};

Loaded load() {
  Loaded all;
  void* library = open_library(kVerbsLibraryVariable, "libibverbs.so.1");
  if (library == nullptr) {
    const char* why = dlerror();
    all.error = {
        0, "ENVIRONMENT",
        std::string("libibverbs cannot be loaded: ") + (why != nullptr ? why : "unknown"),
        "install rdma-core's user-space libraries (Debian, Ubuntu: apt-get install libibverbs1 "
        "ibverbs-providers)"};
    return all;
  }
  const char* missing = nullptr;
#define SDR_IBV_FIND(name) \
  if (!find(library, "ibv_" #name, &all.ibv.name)) missing = "ibv_" #name;
  SDR_IBV_FUNCTIONS(SDR_IBV_FIND)
#undef SDR_IBV_FIND
  if (!find(library, "_ibv_query_gid_table", &all.ibv.query_gid_table))
    missing = "_ibv_query_gid_table";
  find(library, "ibv_qp_to_qp_ex", &all.ibv.qp_to_qp_ex);
  find(library, "ibv_reg_dmabuf_mr", &all.ibv.reg_dmabuf_mr);
  all.ok = missing == nullptr;
  if (!all.ok) {
    all.error = {0, "ENVIRONMENT", std::string("libibverbs has no ") + missing,
                 "install rdma-core 32 or newer"};
  }
  return all;
}

}  // namespace

const Ibv* load_ibv(DeviceError* error) {
  static const Loaded* all = new Loaded(load());
  if (!all->ok) *error = all->error;
  return all->ok ? &all->ibv : nullptr;
}

#if defined(SDR_HAVE_MLX5DV)
const Mlx5* load_mlx5() {
  static const Mlx5* loaded = []() -> const Mlx5* {
    void* library = open_library(kMlx5LibraryVariable, "libmlx5.so.1");
    if (library == nullptr) return nullptr;
    auto* mlx5 = new Mlx5;
    const bool whole = find(library, "mlx5dv_is_supported", &mlx5->is_supported) &&
                       find(library, "mlx5dv_open_device", &mlx5->open_device) &&
                       find(library, "mlx5dv_create_mkey", &mlx5->create_mkey) &&
                       find(library, "mlx5dv_destroy_mkey", &mlx5->destroy_mkey) &&
                       find(library, "mlx5dv_create_qp", &mlx5->create_qp) &&
                       find(library, "mlx5dv_qp_ex_from_ibv_qp_ex", &mlx5->qp_ex_from_ibv_qp_ex) &&
                       find(library, "mlx5dv_init_obj", &mlx5->init_obj);
    return whole ? mlx5 : nullptr;
  }();
  return loaded;
}
#endif

}  // namespace sdr::verbs
