// mlx5's memory key update: checks a raw UMR work queue entry strictly and rewrites an indirect
// key's table. Layout: mlx5dv.h; the kernel's model for a translation offset is mlx5e's
// build_klm_umr.
#include <cstring>

#include "fabric.h"

namespace emulated {
namespace {

constexpr size_t kUnit = 16;             // what a work queue entry is counted in
constexpr uint32_t kKlmAlign = 4;        // entries come, and are placed, in groups of four
constexpr size_t kKlmAt = 16 + 48 + 64;  // control, update control, key context
constexpr uint64_t kMaskKnown =
    MLX5_WQE_UMR_CTRL_MKEY_MASK_LEN | MLX5_WQE_UMR_CTRL_MKEY_MASK_START_ADDR |
    MLX5_WQE_UMR_CTRL_MKEY_MASK_MKEY | MLX5_WQE_UMR_CTRL_MKEY_MASK_QPN |
    MLX5_WQE_UMR_CTRL_MKEY_MASK_ACCESS_LOCAL_WRITE |
    MLX5_WQE_UMR_CTRL_MKEY_MASK_ACCESS_REMOTE_READ |
    MLX5_WQE_UMR_CTRL_MKEY_MASK_ACCESS_REMOTE_WRITE | MLX5_WQE_UMR_CTRL_MKEY_MASK_FREE;
constexpr uint8_t kFlagsKnown = MLX5_WQE_UMR_CTRL_FLAG_INLINE |
                                MLX5_WQE_UMR_CTRL_FLAG_TRNSLATION_OFFSET |
                                MLX5_WQE_UMR_CTRL_FLAG_CHECK_FREE;

static_assert(sizeof(mlx5_wqe_umr_ctrl_seg) == 48 && sizeof(mlx5_wqe_mkey_context_seg) == 64);

struct Update {
  mlx5_wqe_ctrl_seg ctrl;
  mlx5_wqe_umr_ctrl_seg umr;
  mlx5_wqe_mkey_context_seg context;
  uint32_t entries, offset;
  uint64_t mask;
};

void read_update(const std::vector<uint8_t>& wqe, Update* update) {
  std::memcpy(&update->ctrl, wqe.data(), 16);
  std::memcpy(&update->umr, wqe.data() + 16, 48);
  std::memcpy(&update->context, wqe.data() + 64, 64);
  update->entries = be16toh(update->umr.klm_octowords);
  update->offset = be16toh(update->umr.translation_offset);
  update->mask = be64toh(update->umr.mkey_mask);
}

bool any_byte(const uint8_t* bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (bytes[i] != 0) return true;
  }
  return false;
}

// What is wrong with the entry itself, or empty.
std::string entry_error(const Qp& qp, const std::vector<uint8_t>& wqe, const Update& update) {
  const uint32_t opcode = be32toh(update.ctrl.opmod_idx_opcode);
  if ((opcode & 0xff) != MLX5_OPCODE_UMR)
    return "opcode " + std::to_string(opcode & 0xff) + " is not UMR (0x25)";
  if (opcode >> 24 != 0) return "opmod is not 0";
  if (be32toh(update.ctrl.qpn_ds) >> 8 != qp.ex.qp_base.qp_num)
    return "the control segment names another queue pair";
  const uint8_t flags = update.umr.flags;
  if ((flags & MLX5_WQE_UMR_CTRL_FLAG_INLINE) == 0) return "entries must be inline";
  if ((flags & ~kFlagsKnown) != 0) return "unknown flags " + std::to_string(flags);
  if (any_byte(update.umr.rsvd0, sizeof update.umr.rsvd0) ||
      any_byte(update.umr.rsvd1, sizeof update.umr.rsvd1)) {
    return "reserved bytes are not 0";
  }
  if ((update.mask & ~kMaskKnown) != 0) return "unknown mkey_mask bits";
  if (update.entries % kKlmAlign != 0) return "klm_octowords is not a multiple of 4";
  if ((flags & MLX5_WQE_UMR_CTRL_FLAG_TRNSLATION_OFFSET) == 0 && update.offset != 0)
    return "offset without its flag";
  if (update.offset % kKlmAlign != 0) return "translation_offset is not a multiple of 4";
  const size_t bytes = kKlmAt + update.entries * sizeof(mlx5_wqe_umr_klm_seg);
  if (wqe.size() != bytes) {
    return "ds is " + std::to_string(wqe.size() / kUnit) + ", not " + std::to_string(bytes / kUnit);
  }
  return "";
}

// What is wrong with the key it names, or empty.
std::string key_error(const Qp& qp, const Update& update, const Key* key) {
  if (key == nullptr) return "no such key";
  if (!key->indirect) return "the key is not an indirect one";
  if (key->pd != qp.ex.qp_base.pd) return "the key is of another protection domain";
  if (update.offset + update.entries > key->klms.size())
    return "the entries go beyond the key's table";
  if ((update.umr.flags & MLX5_WQE_UMR_CTRL_FLAG_CHECK_FREE) != 0 && !key->free)
    return "the key is not free";
  const uint32_t qpn_mkey = be32toh(update.context.qpn_mkey);
  if ((update.mask & MLX5_WQE_UMR_CTRL_MKEY_MASK_MKEY) != 0 &&
      (qpn_mkey & 0xff) != (key->value & 0xff)) {
    return "changing the key's tag is not emulated";
  }
  if ((update.mask & MLX5_WQE_UMR_CTRL_MKEY_MASK_QPN) != 0 && qpn_mkey >> 8 != 0xffffff) {
    return "binding the key to one queue pair is not emulated";
  }
  return "";
}

void set_access(Key* key, uint64_t mask, uint8_t given, uint64_t mask_bit, uint8_t given_bit,
                unsigned access) {
  if ((mask & mask_bit) == 0) return;
  if ((given & given_bit) != 0)
    key->access |= access;
  else
    key->access &= ~access;
}

void apply(const std::vector<uint8_t>& wqe, const Update& update, Key* key) {
  for (uint32_t i = 0; i < update.entries; i++) {
    mlx5_wqe_umr_klm_seg klm;
    std::memcpy(&klm, wqe.data() + kKlmAt + i * sizeof klm, sizeof klm);
    key->klms[update.offset + i] =
        Klm{be32toh(klm.byte_count), be32toh(klm.mkey), be64toh(klm.address)};
  }
  index_klms(key);
  const mlx5_wqe_mkey_context_seg& context = update.context;
  if ((update.mask & MLX5_WQE_UMR_CTRL_MKEY_MASK_LEN) != 0) key->length = be64toh(context.len);
  if ((update.mask & MLX5_WQE_UMR_CTRL_MKEY_MASK_START_ADDR) != 0)
    key->start = be64toh(context.start_addr);
  if ((update.mask & MLX5_WQE_UMR_CTRL_MKEY_MASK_FREE) != 0) {
    key->free = (context.free & MLX5_WQE_MKEY_CONTEXT_FREE) != 0;
  }
  const uint8_t given = context.access_flags;
  set_access(key, update.mask, given, MLX5_WQE_UMR_CTRL_MKEY_MASK_ACCESS_LOCAL_WRITE,
             MLX5_WQE_MKEY_CONTEXT_ACCESS_FLAGS_LOCAL_WRITE, IBV_ACCESS_LOCAL_WRITE);
  set_access(key, update.mask, given, MLX5_WQE_UMR_CTRL_MKEY_MASK_ACCESS_REMOTE_WRITE,
             MLX5_WQE_MKEY_CONTEXT_ACCESS_FLAGS_REMOTE_WRITE, IBV_ACCESS_REMOTE_WRITE);
  set_access(key, update.mask, given, MLX5_WQE_UMR_CTRL_MKEY_MASK_ACCESS_REMOTE_READ,
             MLX5_WQE_MKEY_CONTEXT_ACCESS_FLAGS_REMOTE_READ, IBV_ACCESS_REMOTE_READ);
}

}  // namespace

ibv_wc_status run_raw(Qp* qp, const std::vector<uint8_t>& wqe, uint32_t* vendor_err) {
  *vendor_err = 0x68;  // as a local operation error's syndrome
  if (qp->ex.qp_base.qp_type != IBV_QPT_RC) {
    explain("UMR: only reliable connections run memory key updates");
    return IBV_WC_LOC_QP_OP_ERR;
  }
  if (wqe.size() < kKlmAt) {
    explain("UMR: the entry is shorter than its segments");
    return IBV_WC_LOC_QP_OP_ERR;
  }
  Update update;
  read_update(wqe, &update);
  const std::string error = entry_error(*qp, wqe, update);
  if (!error.empty()) {
    explain("UMR: " + error);
    return IBV_WC_LOC_QP_OP_ERR;
  }
  const auto found = qp->device->keys.find(be32toh(update.ctrl.imm));
  Key* key = found == qp->device->keys.end() ? nullptr : found->second.get();
  const std::string wrong_key = key_error(*qp, update, key);
  if (!wrong_key.empty()) {
    explain("UMR: " + wrong_key);
    return IBV_WC_MW_BIND_ERR;
  }
  apply(wqe, update, key);
  count(Count::kUmr);
  return IBV_WC_SUCCESS;
}

}  // namespace emulated
