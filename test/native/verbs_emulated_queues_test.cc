// The emulated RDMA device (test/verbs): queues, their errors, reliable connections and datagrams.
#include "verbs_emulated_fixture.h"

using namespace emulated_test;

TEST(an_error_flushes_all_that_is_posted_and_all_that_follows) {
  configure(kPair);
  Pair pair;
  Region from(pair.a, 64);
  pair.a.post_receives(3);
  pair.a.to_error();
  Write write;
  write.id = 42;
  write.signaled = false;  // an error is always told
  CHECK_EQ(post_write(pair.a, write), 0);
  CHECK_EQ(pair.a.post_receive(3), 0);
  const auto all = pair.a.poll();
  CHECK_EQ(all.size(), size_t{5});
  for (const ibv_wc& wc : all) CHECK_EQ(wc.status, IBV_WC_WR_FLUSH_ERR);
  CHECK_EQ(all[3].wr_id, uint64_t{42});
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_RESET;
  CHECK_EQ(api().modify_qp(pair.a.qp, &attr, IBV_QP_STATE), 0);
  CHECK_EQ(pair.a.to_init(), 0);

  Write foreign = write;  // a local key that is none
  foreign.sges = {{from.address(), 64, 0x999}};
  foreign.signaled = true;
  CHECK_EQ(post_write(pair.b, foreign), 0);
  const auto failed = pair.b.poll();
  CHECK_EQ(failed.size(), size_t{1});
  CHECK_EQ(failed[0].status, IBV_WC_LOC_PROT_ERR);
  CHECK_EQ(pair.b.state(), IBV_QPS_ERR);
}

TEST(an_overrun_completion_queue_breaks_its_queue_pairs_and_says_so) {
  configure(kPair);
  Options small;
  small.cqe = 4;
  Pair pair({}, &small);
  pair.b.post_receives(8);
  for (int i = 0; i < 5; i++) CHECK_EQ(post_write(pair.a, Write{}), 0);
  CHECK_EQ(pair.b.state(), IBV_QPS_ERR);
  CHECK_EQ(pair.b.poll().size(), size_t{4});
  ibv_async_event event{};
  CHECK_EQ(api().get_async_event(pair.b.context, &event), 0);
  CHECK_EQ(event.event_type, IBV_EVENT_CQ_ERR);
  CHECK(event.element.cq == pair.b.cq);
  api().ack_async_event(&event);
  CHECK_EQ(api().get_async_event(pair.b.context, &event), 0);
  CHECK_EQ(event.event_type, IBV_EVENT_QP_FATAL);
  CHECK(event.element.qp == pair.b.qp);
  api().ack_async_event(&event);
}

TEST(a_completion_channel_is_readable_once_for_each_time_it_was_armed) {
  configure(kPair);
  Options options;
  options.channel = true;
  Pair pair(options);
  pair.b.post_receives(8);
  CHECK_EQ(post_write(pair.a, Write{}), 0);
  CHECK(!pair.b.readable());  // not armed
  CHECK_EQ(ibv_req_notify_cq(pair.b.cq, 0), 0);
  CHECK(!pair.b.readable());  // what was there before does not count
  CHECK_EQ(post_write(pair.a, Write{}), 0);
  CHECK_EQ(post_write(pair.a, Write{}), 0);
  CHECK(pair.b.readable());
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  CHECK_EQ(api().get_cq_event(pair.b.channel, &cq, &context), 0);
  CHECK(cq == pair.b.cq && context == &pair.b);
  CHECK(!pair.b.readable());
  api().ack_cq_events(cq, 1);
  CHECK_EQ(pair.b.poll().size(), size_t{3});
  CHECK_EQ(ibv_req_notify_cq(pair.b.cq, 1), 0);  // solicited only
  CHECK_EQ(post_write(pair.a, Write{}), 0);
  CHECK(!pair.b.readable());
  pair.b.to_error();  // an error counts as solicited
  CHECK(pair.b.readable());
}

TEST(datagrams_carry_a_header_of_forty_bytes_and_need_the_queue_key) {
  configure(kPair);
  Options options;
  options.type = IBV_QPT_UD;
  Pair pair(options);
  Region from(pair.a, 4096), to(pair.b, 8192);
  from.fill(2);
  ibv_ah_attr attr{};
  attr.is_global = 1;
  attr.port_num = 1;
  attr.grh.dgid = pair.b.gid();
  attr.grh.sgid_index = kRxeGid;
  ibv_ah* ah = api().create_ah(pair.a.pd, &attr);
  CHECK(ah != nullptr);
  ibv_sge room = to.sge(0, 8192);
  CHECK_EQ(pair.b.post_receive(5, &room, 1), 0);
  CHECK_EQ(post_send_message(pair.a, 1, {from.sge(0, 1000)}, ah, pair.b.qp->qp_num), 0);
  const auto got = pair.b.poll();
  CHECK_EQ(got.size(), size_t{1});
  CHECK_EQ(got[0].byte_len, 1040u);
  CHECK_EQ(got[0].src_qp, pair.a.qp->qp_num);
  CHECK_EQ(got[0].wc_flags, unsigned{IBV_WC_GRH});
  CHECK(std::memcmp(to.bytes.data() + 40, from.bytes.data(), 1000) == 0);
  CHECK(std::memcmp(to.bytes.data() + 8, pair.a.gid().raw, 16) == 0);  // the sender's address
  CHECK_EQ(api().destroy_ah(ah), 0);
}

TEST(a_reliable_connection_waits_for_a_receive_and_tells_what_the_receiver_refused) {
  configure(kPair);
  Options options;
  options.type = IBV_QPT_RC;
  Pair pair(options);
  Region from(pair.a, 8192), to(pair.b, 8192);
  from.fill(8);
  CHECK_EQ(post_write(pair.a, write_of(from, to, 8192, 5)), 0);
  CHECK_EQ(pair.a.poll().size(), size_t{0});
  pair.b.post_receives(1);
  CHECK_EQ(pair.a.wait().status, IBV_WC_SUCCESS);
  CHECK_EQ(be32toh(pair.b.wait().imm_data), 5u);
  CHECK(from.bytes == to.bytes);
  pair.b.post_receives(1);
  Write bad = write_of(from, to, 10);
  bad.rkey = 0;
  CHECK_EQ(post_write(pair.a, bad), 0);
  CHECK_EQ(pair.a.wait().status, IBV_WC_REM_ACCESS_ERR);
  CHECK_EQ(pair.a.state(), IBV_QPS_ERR);
  CHECK_EQ(pair.b.wait().status, IBV_WC_WR_FLUSH_ERR);
}

TEST(a_reliable_connection_gives_up_on_a_peer_that_is_gone) {
  configure(kPair);
  Options options;
  options.type = IBV_QPT_RC;
  Pair pair(options);
  pair.b.to_error();
  CHECK_EQ(post_write(pair.a, Write{}), 0);
  CHECK_EQ(pair.a.wait().status, IBV_WC_RETRY_EXC_ERR);
}

TEST(a_queue_pair_can_be_made_to_fail_after_so_many_completions) {
  configure(std::string(kPair) + "break 2 after 3 fatal vendor 0x81");
  Pair pair;
  pair.b.post_receives(5);
  for (int i = 0; i < 5; i++) CHECK_EQ(post_write(pair.a, Write{}), 0);
  const auto got = pair.b.poll();
  CHECK_EQ(got.size(), size_t{5});
  for (size_t i = 0; i < 3; i++) CHECK_EQ(got[i].status, IBV_WC_SUCCESS);
  CHECK_EQ(got[3].status, IBV_WC_FATAL_ERR);
  CHECK_EQ(got[3].vendor_err, 0x81u);
  CHECK_EQ(got[4].status, IBV_WC_WR_FLUSH_ERR);
  CHECK_EQ(pair.b.state(), IBV_QPS_ERR);
}

TEST(the_builders_post_what_is_complete_and_a_full_queue_is_emptied_by_polling) {
  configure(kPair);
  Options options;
  options.send_ops = IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | IBV_QP_EX_WITH_SEND;
  options.send_wr = 4;
  Pair pair(options);
  Region from(pair.a, 1024), to(pair.b, 1024);
  from.fill(6);
  pair.b.post_receives(16);
  ibv_qp_ex* ex = api().qp_to_qp_ex(pair.a.qp);
  CHECK(ex != nullptr && ex->wr_rdma_write == nullptr);  // not asked for
  const auto build = [&](int count, bool abort) {
    ibv_wr_start(ex);
    for (int i = 0; i < count; i++) {
      ex->wr_id = static_cast<uint64_t>(i);
      ex->wr_flags = i + 1 == count ? IBV_SEND_SIGNALED : 0;
      ibv_wr_rdma_write_imm(ex, to.mr->rkey, to.address(), htobe32(static_cast<uint32_t>(i)));
      ibv_wr_set_sge(ex, from.mr->lkey, from.address(), 512);
    }
    if (!abort) return ibv_wr_complete(ex);
    ibv_wr_abort(ex);
    return 0;
  };
  CHECK_EQ(build(2, true), 0);
  CHECK_EQ(pair.b.poll().size(), size_t{0});
  CHECK_EQ(build(4, false), 0);
  CHECK_EQ(build(1, false), ENOMEM);  // done, but not polled
  const auto sent = pair.a.poll();
  CHECK_EQ(sent.size(), size_t{1});  // one of four was signalled, and frees all four
  CHECK_EQ(sent[0].wr_id, uint64_t{3});
  CHECK_EQ(build(4, false), 0);
  CHECK_EQ(pair.b.poll().size(), size_t{8});
  CHECK(std::memcmp(to.bytes.data(), from.bytes.data(), 512) == 0);
}

TEST(an_extended_completion_queue_reads_what_it_was_made_for) {
  configure(kPair);
  Pair pair;
  ibv_cq_init_attr_ex attr{};
  attr.cqe = 16;
  attr.wc_flags = IBV_WC_EX_WITH_IMM | IBV_WC_EX_WITH_QP_NUM | IBV_WC_EX_WITH_BYTE_LEN;
  ibv_cq_ex* cq = verbs_get_ctx(pair.b.context)->create_cq_ex(pair.b.context, &attr);
  CHECK(cq != nullptr && cq->read_slid == nullptr);
  CHECK_EQ(api().destroy_qp(pair.b.qp), 0);
  ibv_cq* old = pair.b.cq;
  pair.b.cq = ibv_cq_ex_to_cq(cq);
  pair.b.make_qp();
  CHECK_EQ(api().destroy_cq(old), 0);
  CHECK_EQ(pair.b.to_init(), 0);
  CHECK_EQ(pair.b.to_rtr(pair.a), 0);
  CHECK_EQ(api().destroy_qp(pair.a.qp), 0);
  pair.a.make_qp();
  CHECK_EQ(pair.a.to_init(), 0);
  CHECK_EQ(pair.a.to_rtr(pair.b), 0);
  CHECK_EQ(pair.a.to_rts(), 0);
  ibv_poll_cq_attr poll_attr{};
  CHECK_EQ(ibv_start_poll(cq, &poll_attr), ENOENT);
  pair.b.post_receives(2);
  Write write;
  for (uint32_t i = 0; i < 2; i++) {
    write.imm = i;
    CHECK_EQ(post_write(pair.a, write), 0);
  }
  CHECK_EQ(ibv_start_poll(cq, &poll_attr), 0);
  CHECK_EQ(ibv_wc_read_opcode(cq), IBV_WC_RECV_RDMA_WITH_IMM);
  CHECK_EQ(ibv_wc_read_qp_num(cq), pair.b.qp->qp_num);
  CHECK_EQ(ibv_next_poll(cq), 0);
  CHECK_EQ(be32toh(ibv_wc_read_imm_data(cq)), 1u);
  CHECK_EQ(ibv_next_poll(cq), ENOENT);
  ibv_end_poll(cq);
}
