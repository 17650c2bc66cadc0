// The emulated mlx5 device (test/verbs): null region, dmabuf, indirect keys rewritten by raw UMR
// entries, and the receive queue that is refilled through its doorbell record.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

#include "verbs_emulated_fixture.h"

using namespace emulated_test;

namespace {

struct Entry {
  uint32_t bytes, key;
  uint64_t address;
};

// A UMR entry as hardware wants it; tests spoil one field at a time.
struct Umr {
  uint32_t mkey = 0, qpn = 0;
  uint8_t opmod = 0, opcode = MLX5_OPCODE_UMR;
  uint8_t flags = MLX5_WQE_UMR_CTRL_FLAG_INLINE | MLX5_WQE_UMR_CTRL_FLAG_TRNSLATION_OFFSET;
  uint16_t offset = 0;
  int octowords = -1, ds = -1;
  uint64_t mask = MLX5_WQE_UMR_CTRL_MKEY_MASK_FREE;
  uint64_t length = 0;
  std::vector<Entry> entries;

  std::vector<uint8_t> bytes() const {
    const size_t size = 128 + entries.size() * 16;
    std::vector<uint8_t> out(std::max<size_t>(size, 1024));
    auto* ctrl = reinterpret_cast<mlx5_wqe_ctrl_seg*>(out.data());
    const auto units = static_cast<uint8_t>(ds < 0 ? size / 16 : static_cast<size_t>(ds));
    mlx5dv_set_ctrl_seg(ctrl, 0, opcode, opmod, qpn, MLX5_WQE_CTRL_CQ_UPDATE, units, 0,
                        htobe32(mkey));
    auto* umr = reinterpret_cast<mlx5_wqe_umr_ctrl_seg*>(out.data() + 16);
    umr->flags = flags;
    umr->klm_octowords = htobe16(
        static_cast<uint16_t>(octowords < 0 ? static_cast<int>(entries.size()) : octowords));
    umr->translation_offset = htobe16(offset);
    umr->mkey_mask = htobe64(mask);
    auto* context = reinterpret_cast<mlx5_wqe_mkey_context_seg*>(out.data() + 64);
    context->len = htobe64(length);
    context->access_flags = MLX5_WQE_MKEY_CONTEXT_ACCESS_FLAGS_REMOTE_WRITE |
                            MLX5_WQE_MKEY_CONTEXT_ACCESS_FLAGS_LOCAL_WRITE;
    for (size_t i = 0; i < entries.size(); i++) {
      const mlx5_wqe_umr_klm_seg klm{htobe32(entries[i].bytes), htobe32(entries[i].key),
                                     htobe64(entries[i].address)};
      std::memcpy(out.data() + 128 + i * 16, &klm, sizeof klm);
    }
    return out;
  }
};

// What the first update of a fresh key has to say besides its entries.
constexpr uint64_t kMakeUsable = MLX5_WQE_UMR_CTRL_MKEY_MASK_FREE |
                                 MLX5_WQE_UMR_CTRL_MKEY_MASK_LEN |
                                 MLX5_WQE_UMR_CTRL_MKEY_MASK_ACCESS_LOCAL_WRITE |
                                 MLX5_WQE_UMR_CTRL_MKEY_MASK_ACCESS_REMOTE_WRITE;

// An indirect key of `slots` entries in a receiver's domain, updated through a queue pair
// connected to itself.
struct Indirect {
  static constexpr uint32_t kSlotBytes = 4096;
  ibv_context* context;
  ibv_pd* pd;
  ibv_cq* cq = api().create_cq(context, 64, nullptr, nullptr, 0);
  ibv_qp* loop = make_loop();
  ibv_mr* null_mr = verbs_get_ctx(context)->alloc_null_mr(pd);
  mlx5dv_mkey* mkey;

  Indirect(const End& receiver, uint16_t slots) : context(receiver.context), pd(receiver.pd) {
    mlx5dv_mkey_init_attr attr{pd, MLX5DV_MKEY_INIT_ATTR_FLAGS_INDIRECT, slots};
    mkey = api().mlx5_create_mkey(&attr);
    CHECK(mkey != nullptr && null_mr != nullptr);
  }
  ~Indirect() {
    CHECK_EQ(api().mlx5_destroy_mkey(mkey), 0);
    CHECK_EQ(api().dereg_mr(null_mr), 0);
    CHECK_EQ(api().destroy_qp(loop), 0);
    CHECK_EQ(api().destroy_cq(cq), 0);
  }
  ibv_qp* make_loop() {
    ibv_qp_init_attr_ex attr{};
    attr.send_cq = attr.recv_cq = cq;
    attr.cap = {16, 1, 1, 1, 0};
    attr.qp_type = IBV_QPT_RC;
    attr.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    attr.pd = pd;
    attr.send_ops_flags = IBV_QP_EX_WITH_RDMA_WRITE;
    mlx5dv_qp_init_attr more{};
    more.comp_mask = MLX5DV_QP_INIT_ATTR_MASK_SEND_OPS_FLAGS;
    more.send_ops_flags = MLX5DV_QP_EX_WITH_RAW_WQE;
    CHECK(api().mlx5_create_qp(context, &attr, &more) == nullptr);  // scatter to CQE was left on
    more.comp_mask |= MLX5DV_QP_INIT_ATTR_MASK_QP_CREATE_FLAGS;
    more.create_flags = MLX5DV_QP_CREATE_DISABLE_SCATTER_TO_CQE;
    ibv_qp* qp = api().mlx5_create_qp(context, &attr, &more);
    CHECK(qp != nullptr);
    connect(qp);
    return qp;
  }
  void connect(ibv_qp* qp) {
    ibv_qp_attr attr{};
    attr.port_num = attr.ah_attr.port_num = 1;
    attr.path_mtu = IBV_MTU_1024;
    attr.dest_qp_num = qp->qp_num;
    attr.max_rd_atomic = attr.max_dest_rd_atomic = 1;
    attr.ah_attr.is_global = 1;
    attr.ah_attr.grh.sgid_index = kMlx5Gid;
    CHECK_EQ(api().query_gid(context, 1, kMlx5Gid, &attr.ah_attr.grh.dgid), 0);
    attr.qp_state = IBV_QPS_INIT;
    CHECK_EQ(api().modify_qp(qp, &attr,
                             IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS),
             0);
    attr.qp_state = IBV_QPS_RTR;
    CHECK_EQ(api().modify_qp(qp, &attr,
                             IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                                 IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER),
             0);
    attr.qp_state = IBV_QPS_RTS;
    CHECK_EQ(api().modify_qp(qp, &attr,
                             IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                                 IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC),
             0);
  }
  // Posts an update and gives its completion.
  ibv_wc update(Umr umr) {
    if (umr.mkey == 0) umr.mkey = mkey->rkey;
    if (umr.qpn == 0) umr.qpn = loop->qp_num;
    const std::vector<uint8_t> wqe = umr.bytes();
    ibv_qp_ex* ex = api().qp_to_qp_ex(loop);
    mlx5dv_qp_ex* dvex = api().mlx5_qp_ex_from_ibv_qp_ex(ex);
    ibv_wr_start(ex);
    ex->wr_id = 99;
    ex->wr_flags = 0;  // ignored: the entry says that it wants a completion
    dvex->wr_raw_wqe(dvex, wqe.data());
    CHECK_EQ(ibv_wr_complete(ex), 0);
    ibv_wc wc{};
    CHECK_EQ(ibv_poll_cq(cq, 1, &wc), 1);
    CHECK_EQ(wc.wr_id, uint64_t{99});
    return wc;
  }
  std::vector<Entry> idle(size_t count) const {
    return std::vector<Entry>(count, Entry{kSlotBytes, null_mr->lkey, 0});
  }
};

void reset_to_rts(Indirect& root) {
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RESET;
  CHECK_EQ(api().modify_qp(root.loop, &attr, IBV_QP_STATE), 0);
  root.connect(root.loop);
}

}  // namespace

TEST(each_flavour_has_what_its_hardware_has) {
  configure(kPair);
  Pair pair;
  CHECK(verbs_get_ctx(pair.a.context)->alloc_null_mr == nullptr);
  CHECK(api().reg_dmabuf_mr(pair.a.pd, 0, 4096, 0, -1, IBV_ACCESS_LOCAL_WRITE) == nullptr);
  CHECK_EQ(errno, EOPNOTSUPP);
  CHECK(api().reg_dmabuf_mr(pair.b.pd, 0, 4096, 0, -1, IBV_ACCESS_LOCAL_WRITE) == nullptr);
  CHECK_EQ(errno, EBADF);
  mlx5dv_mkey_init_attr attr{pair.b.pd, MLX5DV_MKEY_INIT_ATTR_FLAGS_INDIRECT, 4};
  CHECK(api().mlx5_create_mkey(&attr) == nullptr);  // the context was not opened for DEVX
  CHECK_EQ(errno, EOPNOTSUPP);
  mlx5dv_context_attr devx{MLX5DV_CONTEXT_FLAGS_DEVX, 0};
  CHECK(api().mlx5_open_device(pair.a.context->device, &devx) == nullptr);
  CHECK_EQ(errno, EOPNOTSUPP);
  mlx5dv_context about{};
  CHECK_EQ(api().mlx5_query_device(pair.b.context, &about), 0);
  CHECK_EQ(api().mlx5_query_device(pair.a.context, &about), EOPNOTSUPP);
}

TEST(a_dmabuf_is_written_through_its_descriptor) {
  configure(kPair);
  Pair pair;
  const int fd = memfd_create("device-memory", 0);
  CHECK_EQ(ftruncate(fd, 8192), 0);
  ibv_mr* mr = api().reg_dmabuf_mr(pair.b.pd, 4096, 4096, 0, fd,
                                   IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
  CHECK(mr != nullptr);
  Region from(pair.a, 100);
  from.fill(4);
  Write write;
  write.remote = 50;
  write.rkey = mr->rkey;
  write.sges = {from.sge(0, 100)};
  pair.b.post_receives(1);
  CHECK_EQ(post_write(pair.a, write), 0);
  CHECK_EQ(pair.b.poll().size(), size_t{1});
  std::vector<uint8_t> read(100);
  CHECK_EQ(pread(fd, read.data(), 100, 4096 + 50), ssize_t{100});
  CHECK(read == from.bytes);
  CHECK_EQ(api().dereg_mr(mr), 0);
  close(fd);
}

TEST(an_indirect_key_spreads_writes_over_its_entries_and_null_entries_take_and_discard) {
  configure(kPair);
  Options options;
  options.devx = true;
  Pair pair(options);
  End& receiver = pair.b;
  Indirect root(receiver, 8);
  Region from(pair.a, 16384);
  from.fill(7);
  std::vector<uint8_t> slot_a(4096), slot_b(4096);
  ibv_mr* a = api().reg_mr(root.pd, slot_a.data(), 4096, IBV_ACCESS_LOCAL_WRITE);
  ibv_mr* b = api().reg_mr(root.pd, slot_b.data(), 4096, IBV_ACCESS_LOCAL_WRITE);
  CHECK(a != nullptr && b != nullptr);
  receiver.post_receives(16);
  Write write;
  write.rkey = root.mkey->rkey;
  write.remote = 2 * 4096;
  write.sges = {from.sge(0, 4096)};
  CHECK_EQ(post_write(pair.a, write), 0);
  CHECK_EQ(receiver.poll().size(), size_t{0});  // the fresh key is free

  Umr first;
  first.mask = kMakeUsable;
  first.length = 8 * Indirect::kSlotBytes;
  first.entries = root.idle(8);
  const ibv_wc done = root.update(first);
  CHECK_EQ(done.status, IBV_WC_SUCCESS);
  CHECK_EQ(static_cast<int>(done.opcode), static_cast<int>(MLX5DV_WC_RAW_WQE));
  CHECK_EQ(post_write(pair.a, write), 0);
  CHECK_EQ(receiver.poll().size(), size_t{1});  // discarded, but told

  Umr place;  // slots 4 to 7: a and b in the middle
  place.offset = 4;
  place.entries = root.idle(4);
  place.entries[1] = {4096, a->lkey, reinterpret_cast<uint64_t>(slot_a.data())};
  place.entries[2] = {4096, b->lkey, reinterpret_cast<uint64_t>(slot_b.data())};
  CHECK_EQ(root.update(place).status, IBV_WC_SUCCESS);
  write.remote = 5 * 4096 - 100;  // the end of an idle slot, all of a, the start of b
  write.sges = {from.sge(0, 100 + 4096 + 50)};
  CHECK_EQ(post_write(pair.a, write), 0);
  CHECK_EQ(receiver.poll().size(), size_t{1});
  CHECK(std::memcmp(slot_a.data(), from.bytes.data() + 100, 4096) == 0);
  CHECK(std::memcmp(slot_b.data(), from.bytes.data() + 4196, 50) == 0);
  CHECK_EQ(int{slot_b[50]}, 0);
  write.remote = 8 * 4096 - 10;  // past the end
  CHECK_EQ(post_write(pair.a, write), 0);
  CHECK_EQ(receiver.poll().size(), size_t{0});

  place.entries = root.idle(4);  // taken back: late packets change nothing
  CHECK_EQ(root.update(place).status, IBV_WC_SUCCESS);
  slot_a.assign(4096, 1);
  write.remote = 5 * 4096;
  write.sges = {from.sge(0, 4096)};
  CHECK_EQ(post_write(pair.a, write), 0);
  CHECK_EQ(receiver.poll().size(), size_t{1});
  CHECK(slot_a == std::vector<uint8_t>(4096, 1));
  CHECK_EQ(api().count("umr"), uint64_t{3});

  CHECK_EQ(api().dereg_mr(a), 0);
  CHECK_EQ(api().dereg_mr(b), 0);
}

TEST(a_malformed_update_is_a_local_error_that_says_what_is_wrong) {
  configure(kPair);
  Options options;
  options.devx = true;
  End end("mx0", kMlx5Gid, options);
  Indirect root(end, 8);
  const auto refused = [&](const Umr& umr, const char* why,
                           ibv_wc_status status = IBV_WC_LOC_QP_OP_ERR) {
    const ibv_wc wc = root.update(umr);
    CHECK_EQ(wc.status, status);
    if (std::string(api().last_error()).find(why) == std::string::npos)
      check::fail(why, 0, api().last_error());
    reset_to_rts(root);
  };
  Umr good;
  good.entries = root.idle(4);
  CHECK_EQ(root.update(good).status, IBV_WC_SUCCESS);
  Umr bad = good;
  bad.opcode = MLX5_OPCODE_NOP;
  refused(bad, "not UMR");
  bad = good;
  bad.opmod = 1;
  refused(bad, "opmod");
  bad = good;
  bad.qpn = 1;
  refused(bad, "another queue pair");
  bad = good;
  bad.ds = 8;
  refused(bad, "ds is 8, not 12");
  bad.ds = 4;
  refused(bad, "shorter than its segments");
  bad = good;
  bad.entries = root.idle(3);
  refused(bad, "multiple of 4");
  bad = good;
  bad.octowords = 8;
  refused(bad, "ds is 12, not 16");
  bad = good;
  bad.offset = 2;
  refused(bad, "translation_offset");
  bad = good;
  bad.offset = 4;
  bad.flags = MLX5_WQE_UMR_CTRL_FLAG_INLINE;
  refused(bad, "offset without its flag");
  bad = good;
  bad.flags = MLX5_WQE_UMR_CTRL_FLAG_TRNSLATION_OFFSET;
  refused(bad, "inline");
  bad = good;
  bad.mask |= 1ull << 40;
  refused(bad, "mkey_mask");
  bad = good;
  bad.offset = 8;
  refused(bad, "beyond", IBV_WC_MW_BIND_ERR);
  bad = good;
  bad.mkey = root.null_mr->lkey;
  refused(bad, "indirect", IBV_WC_MW_BIND_ERR);
  bad.mkey = 0xdead00;
  refused(bad, "no such key", IBV_WC_MW_BIND_ERR);
  CHECK_EQ(root.update(good).status, IBV_WC_SUCCESS);
}

TEST(a_receive_queue_can_be_refilled_through_its_doorbell_record) {
  configure(kPair);
  Options options;
  options.recv_wr = 8;
  Pair pair(options);
  pair.b.post_receives(8);
  mlx5dv_qp about{};
  mlx5dv_obj obj{};
  obj.qp.in = pair.b.qp;
  obj.qp.out = &about;
  CHECK_EQ(api().mlx5_init_obj(&obj, MLX5DV_OBJ_QP), 0);
  CHECK_EQ(about.rq.wqe_cnt, 8u);
  auto* record = reinterpret_cast<std::atomic<uint32_t>*>(&about.dbrec[MLX5_RCV_DBR]);
  CHECK_EQ(be32toh(record->load()), 8u);
  for (uint32_t round = 0; round < 20000; round++) {  // the counter's 16 bits wrap
    for (int i = 0; i < 8; i++) CHECK_EQ(post_write(pair.a, Write{}), 0);
    CHECK_EQ(pair.b.poll().size(), size_t{8});
    pair.a.poll();
    if (round % 10000 == 0) {
      CHECK_EQ(post_write(pair.a, Write{}), 0);  // nothing is posted: lost
      CHECK_EQ(pair.b.poll().size(), size_t{0});
      pair.a.poll();
    }
    record->store(htobe32((round + 2) * 8 & 0xffff), std::memory_order_release);
  }
  CHECK_EQ(api().count("no_receive"), uint64_t{2});
}
