#include "transport/verbs_root_key.h"

#include <cerrno>
#include <cstring>

#include "transport/checks.h"
#include "transport/verbs_queue.h"
#include "transport/verbs_wire.h"

namespace sdr::verbs {

#if defined(SDR_HAVE_MLX5DV)
namespace {

constexpr uint64_t kPieceBytesMax = (uint64_t{1} << 31) - 1;
constexpr uint32_t kPiecesMax = 65535;  // of one key: 16 bits at its creation
constexpr size_t kPollsMax =
    100'000'000;  // of an update that the device does not answer: it is gone
constexpr uint8_t kRemoteWrite = 1 << 5, kLocalWrite = 1 << 3, kLocalRead = 1 << 2;

// The queue pair connected to itself on which keys are changed: such work requests exist on RC
// only.
class Loopback {
 public:
  explicit Loopback(const Device& device) : device_(device) {}
  ~Loopback() {
    if (qp_ != nullptr) device_.ibv.destroy_qp(qp_);
    if (cq_ != nullptr) device_.ibv.destroy_cq(ibv_cq_ex_to_cq(cq_));
  }
  bool open() {
    verbs_context* extended = verbs_get_ctx_op(device_.context, create_cq_ex);
    if (extended == nullptr) return false;
    ibv_cq_init_attr_ex wanted{};
    wanted.cqe = kDepth;
    cq_ = extended->create_cq_ex(device_.context, &wanted);
    if (cq_ == nullptr) return false;
    ibv_qp_init_attr_ex attributes{};
    attributes.qp_type = IBV_QPT_RC;
    attributes.send_cq = attributes.recv_cq = ibv_cq_ex_to_cq(cq_);
    attributes.cap.max_send_wr = kDepth;
    attributes.cap.max_recv_wr = 1;
    attributes.cap.max_send_sge = attributes.cap.max_recv_sge = 1;
    attributes.cap.max_inline_data = kUpdateBytes;
    attributes.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    attributes.pd = device_.pd;
    attributes.send_ops_flags = IBV_QP_EX_WITH_SEND;
    mlx5dv_qp_init_attr own{};
    own.comp_mask =
        MLX5DV_QP_INIT_ATTR_MASK_SEND_OPS_FLAGS | MLX5DV_QP_INIT_ATTR_MASK_QP_CREATE_FLAGS;
    own.create_flags = MLX5DV_QP_CREATE_DISABLE_SCATTER_TO_CQE;  // does not go with keys like these
    own.send_ops_flags = MLX5DV_QP_EX_WITH_RAW_WQE;
    qp_ = device_.mlx5->create_qp(device_.context, &attributes, &own);
    return qp_ != nullptr && connect() == 0;
  }
  uint32_t number() const { return qp_->qp_num; }

  // Posts one work request and waits for it. 0, or an errno.
  int run(const uint8_t* wqe) {
    if (failed_) return EIO;
    const int number = post_and_wait(wqe);
    failed_ = number != 0;  // what comes of a later one could be this one's
    return number;
  }

 private:
  static constexpr uint32_t kDepth = 16;

  int post_and_wait(const uint8_t* wqe) {
    ibv_qp_ex* ex = device_.ibv.qp_to_qp_ex != nullptr ? device_.ibv.qp_to_qp_ex(qp_)
                                                       : reinterpret_cast<ibv_qp_ex*>(qp_);
    mlx5dv_qp_ex* raw = device_.mlx5->qp_ex_from_ibv_qp_ex(ex);
    ibv_wr_start(ex);
    ex->wr_id = 0;
    ex->wr_flags = IBV_SEND_SIGNALED;
    mlx5dv_wr_raw_wqe(raw, wqe);
    if (const int number = ibv_wr_complete(ex); number != 0) return number;
    for (size_t polls = 0; polls < kPollsMax; polls++) {
      ibv_poll_cq_attr none{};
      if (ibv_start_poll(cq_, &none) != 0) continue;
      const ibv_wc_status status = cq_->status;
      ibv_end_poll(cq_);
      return status == IBV_WC_SUCCESS ? 0 : EIO;
    }
    return ETIMEDOUT;
  }

  int connect() {
    if (const int number = bring_to_init(device_, qp_); number != 0) return number;
    const PeerAddress self{device_.gid, device_.port.lid, device_.gid_index >= 0, device_.mtu};
    return verbs::connect(device_, qp_, self, qp_->qp_num, true);
  }

  const Device& device_;
  ibv_cq_ex* cq_ = nullptr;
  ibv_qp* qp_ = nullptr;
  bool failed_ = false;
};

class RootKey final : public SlotKeys {
 public:
  RootKey(Device& device, const sdr_geometry& geometry)
      : device_(device),
        geometry_(geometry),
        loopback_(device),
        firsts_(entries(), UINT32_MAX),
        held_(entries()) {
    // An entry ends with a piece of nothing, so its memory is shorter than it by a packet at least.
    address_.data_stride = address_.parity_stride =
        geometry.max_message_bytes + geometry.packet_bytes;
  }
  ~RootKey() override {
    drop_key();
    if (nothing_ != nullptr) device_.ibv.dereg_mr(nothing_);
  }

  // False: not on this device, or not for this geometry.
  bool make() {
    if (address_.data_stride > kPieceBytesMax || uint64_t{entries()} * kPiecesPerEntry > kPiecesMax)
      return false;
    verbs_context* extended = verbs_get_ctx_op(device_.context, alloc_null_mr);
    nothing_ = extended != nullptr ? extended->alloc_null_mr(device_.pd) : nullptr;
    if (nothing_ == nullptr || !loopback_.open()) return false;
    mlx5dv_mkey_init_attr attributes{};
    attributes.pd = device_.pd;
    attributes.create_flags = MLX5DV_MKEY_INIT_ATTR_FLAGS_INDIRECT;
    attributes.max_entries = static_cast<uint16_t>(entries() * kPiecesPerEntry);
    key_ = device_.mlx5->create_mkey(&attributes);
    if (key_ == nullptr) return false;
    address_.key = key_->rkey;
    for (uint32_t entry = 0; entry < entries(); entry++)
      if (point(entry, {}, {}, entry == 0) != 0) return false;
    return true;
  }

  int open(uint32_t message, const RegionRef& region, uint64_t offset, uint64_t bytes,
           const Parity& parity) override {
    if (key_ == nullptr) return EIO;
    Piece own, beside;
    if (bytes > 0 && !piece_of(region, offset, bytes, &own)) return errno != 0 ? errno : EINVAL;
    if (parity.chunks > 0 &&
        !piece_of(parity.region, parity.offset, parity.chunks * chunk_bytes(geometry_), &beside))
      return errno != 0 ? errno : EINVAL;
    const uint32_t entry = root_entry(geometry_, message);
    if (const int number = point(entry, own, beside, false); number != 0) {
      drop_key();  // whether the entry points there now, nobody can tell
      return number;
    }
    held_[entry] = {region, parity.region};
    firsts_[entry] = parity.chunks == 0
                         ? UINT32_MAX
                         : sdr_rx_parity_first(&geometry_, bytes) * geometry_.packets_per_chunk;
    return 0;
  }

  // The queue pair that changes keys can fail alone: what it no longer revokes goes with the key.
  bool close(uint32_t message) override {
    const uint32_t entry = root_entry(geometry_, message);
    if (key_ != nullptr && point(entry, {}, {}, false) != 0) drop_key();
    held_[entry] = {};
    return key_ != nullptr;
  }

  size_t grant(uint32_t message, uint8_t out[kGrantBytesMax]) const override {
    return write_root_grant(firsts_[root_entry(geometry_, message)], out);
  }
  RootAddress root() const override { return address_; }

 private:
  uint32_t entries() const { return geometry_.slots * geometry_.generations; }

  void drop_key() {
    if (key_ != nullptr) device_.mlx5->destroy_mkey(key_);
    key_ = nullptr;
  }

  bool piece_of(const RegionRef& region, uint64_t offset, uint64_t bytes, Piece* out) {
    errno = E2BIG;
    if (bytes > address_.data_stride - geometry_.packet_bytes) return false;
    errno = 0;
    out->key = device_.local_key(region);
    out->bytes = static_cast<uint32_t>(bytes);
    out->address = reinterpret_cast<uint64_t>(region->base) + offset;
    return out->key != 0;
  }

  // Points an entry at memory; a piece without bytes at nothing.
  int point(uint32_t entry, Piece own, Piece beside, bool first) {
    Update update;
    update.queue_number = loopback_.number();
    update.key = key_->lkey;
    update.entry = entry;
    update.key_bytes = first ? entries() * (address_.data_stride + address_.parity_stride) : 0;
    const Piece* const wanted[2] = {&own, &beside};
    for (uint32_t half = 0; half < 2; half++) {
      const uint64_t stride = half == 0 ? address_.data_stride : address_.parity_stride;
      Piece piece = *wanted[half];
      if (piece.bytes == 0) piece = {geometry_.packet_bytes, nothing_->lkey, 0};
      update.pieces[2 * half] = piece;
      update.pieces[2 * half + 1] = {static_cast<uint32_t>(stride - piece.bytes), nothing_->lkey,
                                     0};
    }
    alignas(16) uint8_t wqe[kUpdateBytes];
    write_update(update, wqe);
    return loopback_.run(wqe);
  }

  Device& device_;
  const sdr_geometry geometry_;
  Loopback loopback_;
  struct Held {
    RegionRef own, parity;
  };
  std::vector<uint32_t> firsts_;  // parity packet, by entry
  std::vector<Held> held_;        // memory that entries point at
  RootAddress address_;
  ibv_mr* nothing_ = nullptr;
  mlx5dv_mkey* key_ = nullptr;
};

}  // namespace

std::unique_ptr<SlotKeys> make_root_key(Device& device, const sdr_geometry& geometry) {
  // The null key takes the bytes of late packets, but their completions come all the same: only a
  // generation of their own tells them from those of the slot's next life.
  if (device.mlx5 == nullptr || geometry.generations < 2) return nullptr;
  auto key = std::make_unique<RootKey>(device, geometry);
  if (!key->make()) return nullptr;
  return key;
}

void write_update(const Update& update, uint8_t out[kUpdateBytes]) {
  static_assert(sizeof(mlx5_wqe_ctrl_seg) == 16 && sizeof(mlx5_wqe_umr_ctrl_seg) == 48 &&
                sizeof(mlx5_wqe_mkey_context_seg) == 64 && sizeof(mlx5_wqe_umr_klm_seg) == 16);
  std::memset(out, 0, kUpdateBytes);
  constexpr uint32_t sixteens = kUpdateBytes / 16;
  put(out + 0, uint32_t{MLX5_OPCODE_UMR});
  put(out + 4, update.queue_number << 8 | sixteens);
  out[11] = MLX5_WQE_CTRL_CQ_UPDATE;
  put(out + 12, update.key);

  uint8_t* const control = out + 16;
  control[0] = MLX5_WQE_UMR_CTRL_FLAG_INLINE | MLX5_WQE_UMR_CTRL_FLAG_TRNSLATION_OFFSET;
  put(control + 4, static_cast<uint16_t>(kPiecesPerEntry));
  put(control + 6, static_cast<uint16_t>(update.entry * kPiecesPerEntry));
  uint64_t mask = MLX5_WQE_UMR_CTRL_MKEY_MASK_FREE;
  uint8_t* const context = out + 64;
  if (update.key_bytes != 0) {
    mask |= MLX5_WQE_UMR_CTRL_MKEY_MASK_LEN | MLX5_WQE_UMR_CTRL_MKEY_MASK_START_ADDR |
            MLX5_WQE_UMR_CTRL_MKEY_MASK_ACCESS_LOCAL_WRITE |
            MLX5_WQE_UMR_CTRL_MKEY_MASK_ACCESS_REMOTE_WRITE;
    context[2] = kRemoteWrite | kLocalWrite | kLocalRead;
    put(context + 24, update.key_bytes);
  }
  put(control + 8, mask);

  uint8_t* piece = out + 128;
  for (const Piece& one : update.pieces) {
    put(piece, one.bytes);
    put(piece + 4, one.key);
    put(piece + 8, one.address);
    piece += 16;
  }
}

#else

std::unique_ptr<SlotKeys> make_root_key(Device&, const sdr_geometry&) { return nullptr; }

#endif

}  // namespace sdr::verbs
