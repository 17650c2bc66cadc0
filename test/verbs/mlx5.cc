// libmlx5-emulated.so: the mlx5dv_ calls on the emulated fabric. The device's side of them is in
// libibverbs-emulated.so.
#include <cstring>

#include "fabric.h"

using namespace emulated;

namespace {

constexpr uint32_t kKlmAlign = 4;

struct Mkey {
  mlx5dv_mkey dv{};
  ibv_pd* pd = nullptr;
};

}  // namespace

extern "C" {

bool mlx5dv_is_supported(ibv_device* device) { return device_of(device)->config.mlx5; }

ibv_context* mlx5dv_open_device(ibv_device* device, mlx5dv_context_attr* attr) {
  if (const int number = injected("open_device"))
    return static_cast<ibv_context*>(fail_null(number));
  if (!mlx5dv_is_supported(device)) return static_cast<ibv_context*>(fail_null(EOPNOTSUPP));
  if (attr != nullptr && attr->comp_mask != 0) return static_cast<ibv_context*>(fail_null(EINVAL));
  return open_device(device_of(device),
                     attr != nullptr && (attr->flags & MLX5DV_CONTEXT_FLAGS_DEVX) != 0);
}

int mlx5dv_query_device(ibv_context* context, mlx5dv_context* out) {
  if (!context_of(context)->device->config.mlx5) return EOPNOTSUPP;
  const uint64_t asked = out->comp_mask;
  std::memset(out, 0, offsetof(mlx5dv_context, cqe_comp_caps));
  out->flags = MLX5DV_CONTEXT_FLAGS_CQE_V1;
  out->comp_mask = asked & MLX5DV_CONTEXT_MASK_NUM_LAG_PORTS;
  if (out->comp_mask != 0) out->num_lag_ports = 1;
  return 0;
}

// A fresh indirect key is free, of length 0 and without remote rights: the first update gives it
// those.
mlx5dv_mkey* mlx5dv_create_mkey(mlx5dv_mkey_init_attr* attr) {
  if (const int number = injected("create_mkey"))
    return static_cast<mlx5dv_mkey*>(fail_null(number));
  Context* context = context_of(attr->pd->context);
  if (!context->devx) return static_cast<mlx5dv_mkey*>(fail_null(EOPNOTSUPP));
  if (attr->create_flags != MLX5DV_MKEY_INIT_ATTR_FLAGS_INDIRECT || attr->max_entries == 0) {
    return static_cast<mlx5dv_mkey*>(fail_null(EOPNOTSUPP));
  }
  std::lock_guard<std::mutex> lock(fabric().mutex);
  Key* key = add_key(*context->device, attr->pd);
  key->indirect = key->free = true;
  key->klms.resize((attr->max_entries + kKlmAlign - 1) / kKlmAlign * kKlmAlign);
  index_klms(key);
  auto* mkey = new Mkey;
  mkey->dv.lkey = mkey->dv.rkey = key->value;
  mkey->pd = attr->pd;
  pd_of(attr->pd)->users++;
  return &mkey->dv;
}

int mlx5dv_destroy_mkey(mlx5dv_mkey* dv) {
  if (const int number = injected("destroy_mkey")) return number;
  auto* mkey = reinterpret_cast<Mkey*>(dv);
  {
    std::lock_guard<std::mutex> lock(fabric().mutex);
    context_of(mkey->pd->context)->device->keys.erase(dv->rkey);
    pd_of(mkey->pd)->users--;
  }
  delete mkey;
  return 0;
}

ibv_qp* mlx5dv_create_qp(ibv_context* context, ibv_qp_init_attr_ex* attr, mlx5dv_qp_init_attr* dv) {
  if (const int number = injected("create_qp")) return static_cast<ibv_qp*>(fail_null(number));
  if (!context_of(context)->device->config.mlx5) return static_cast<ibv_qp*>(fail_null(EOPNOTSUPP));
  return create_qp_dv(context, attr, dv);
}

mlx5dv_qp_ex* mlx5dv_qp_ex_from_ibv_qp_ex(ibv_qp_ex* ex) { return &qp_of(ex)->dv.ex; }

// Queue pairs only: the doorbell record and the receive queue's entries, which the device reads as
// mlx5 does. Send queues and completion queues are not laid out in memory.
int mlx5dv_init_obj(mlx5dv_obj* obj, uint64_t type) {
  if (type != MLX5DV_OBJ_QP) return EOPNOTSUPP;
  if (!context_of(obj->qp.in->context)->device->config.mlx5) return EOPNOTSUPP;
  Qp* qp = qp_of(obj->qp.in);
  mlx5dv_qp* out = obj->qp.out;
  out->comp_mask = 0;
  out->dbrec = reinterpret_cast<__be32*>(qp->doorbells);
  out->rq.buf = qp->recv.ring.get();
  out->rq.wqe_cnt = qp->recv.count;
  out->rq.stride = qp->recv.stride;
  out->sq.buf = nullptr;
  out->sq.wqe_cnt = out->sq.stride = 0;
  out->bf.reg = nullptr;
  out->bf.size = 0;
  return 0;
}

}  // extern "C"
