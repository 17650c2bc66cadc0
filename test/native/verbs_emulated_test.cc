// The emulated RDMA device (test/verbs) behaves as verbs say: each test is one rule that programs
// rely on.
#include <algorithm>
#include <atomic>
#include <thread>

#include "verbs_emulated_fixture.h"

using namespace emulated_test;

namespace {

// ibv_query_port, whose inline form wants a symbol to link with.
int query_port(ibv_context* context, uint8_t number, ibv_port_attr* attr) {
  return verbs_get_ctx(context)->query_port(context, number, attr, sizeof *attr);
}

int device_count() {
  int count = 0;
  api().free_device_list(api().get_device_list(&count));
  return count;
}

}  // namespace

TEST(exports_what_a_program_looks_up) {
  for (const char* name : {"ibv_get_device_list",
                           "ibv_free_device_list",
                           "ibv_get_device_name",
                           "ibv_get_device_guid",
                           "ibv_open_device",
                           "ibv_close_device",
                           "ibv_query_device",
                           "ibv_query_port",
                           "ibv_query_gid",
                           "_ibv_query_gid_ex",
                           "_ibv_query_gid_table",
                           "ibv_query_pkey",
                           "ibv_alloc_pd",
                           "ibv_dealloc_pd",
                           "ibv_reg_mr",
                           "ibv_reg_mr_iova",
                           "ibv_reg_mr_iova2",
                           "ibv_reg_dmabuf_mr",
                           "ibv_dereg_mr",
                           "ibv_create_comp_channel",
                           "ibv_destroy_comp_channel",
                           "ibv_get_cq_event",
                           "ibv_ack_cq_events",
                           "ibv_create_cq",
                           "ibv_resize_cq",
                           "ibv_destroy_cq",
                           "ibv_create_qp",
                           "ibv_modify_qp",
                           "ibv_query_qp",
                           "ibv_destroy_qp",
                           "ibv_create_ah",
                           "ibv_destroy_ah",
                           "ibv_get_async_event",
                           "ibv_ack_async_event",
                           "ibv_wc_status_str",
                           "ibv_node_type_str",
                           "ibv_port_state_str",
                           "ibv_event_type_str",
                           "ibv_fork_init",
                           "ibv_qp_to_qp_ex"}) {
    CHECK(dlsym(api().verbs, name) != nullptr);
  }
  for (const char* name : {"mlx5dv_is_supported", "mlx5dv_open_device", "mlx5dv_query_device",
                           "mlx5dv_create_mkey", "mlx5dv_destroy_mkey", "mlx5dv_create_qp",
                           "mlx5dv_qp_ex_from_ibv_qp_ex", "mlx5dv_init_obj"}) {
    CHECK(dlsym(api().mlx5, name) != nullptr);
  }
}

TEST(configuration_names_devices_and_refuses_nonsense) {
  configure(kPair);
  CHECK_EQ(device_count(), 2);
  configure("nodevices");
  CHECK_EQ(device_count(), 0);
  for (const char* bad : {"device x", "gid 0 v2 1.2.3.4", "device d rxe; port 1; gid 0 v3 1.2.3.4",
                          "wire loss 2", "fail reg_mr 0 ENOMEM", "fail reg_mr 1 ENOTHING",
                          "break 1 after 0 general", "memlock lots"}) {
    CHECK_EQ(api().configure(bad), EINVAL);
    CHECK(std::string(api().last_error()).find("is not understood") != std::string::npos);
  }
  configure(
      "device ib0 mlx5; port 1 down mtu 2048 infiniband lid 3; port 2 active mtu 1024 ethernet;"
      "limit max_qp_wr 100; limit max_cqe 50");
  int count = 0;
  ibv_device** list = api().get_device_list(&count);
  ibv_context* context = api().open_device(list[0]);
  CHECK_EQ(api().configure("device other rxe"), EBUSY);
  ibv_port_attr port{};
  CHECK_EQ(query_port(context, 1, &port), 0);
  CHECK_EQ(port.state, IBV_PORT_DOWN);
  CHECK_EQ(port.active_mtu, IBV_MTU_2048);
  CHECK_EQ(port.lid, 3);
  CHECK_EQ(int{port.link_layer}, int{IBV_LINK_LAYER_INFINIBAND});
  CHECK_EQ(query_port(context, 2, &port), 0);
  CHECK_EQ(port.state, IBV_PORT_ACTIVE);
  CHECK_EQ(query_port(context, 3, &port), EINVAL);
  ibv_device_attr attr{};
  CHECK_EQ(api().query_device(context, &attr), 0);
  CHECK_EQ(attr.max_qp_wr, 100);
  CHECK_EQ(int{attr.phys_port_cnt}, 2);
  ibv_gid_entry entries[4];
  CHECK_EQ(api().query_gid_table(context, entries, 4, 0, sizeof entries[0]), 0);
  CHECK(api().create_cq(context, 51, nullptr, nullptr, 0) == nullptr);
  CHECK_EQ(errno, EINVAL);
  CHECK_EQ(api().close_device(context), 0);
  api().free_device_list(list);
}

TEST(opening_can_be_denied_and_calls_can_fail) {
  configure("device locked rxe; deny EACCES; device open rxe; port 1; gid 0 v2 10.0.0.1");
  ibv_device** list = api().get_device_list(nullptr);
  CHECK(api().open_device(list[0]) == nullptr);
  CHECK_EQ(errno, EACCES);
  ibv_context* context = api().open_device(list[1]);
  ibv_pd* pd = api().alloc_pd(context);
  std::vector<uint8_t> bytes(8192);
  configure("fail ibv_reg_mr 2 EPERM; memlock 8192");
  ibv_mr* mr = api().reg_mr(pd, bytes.data(), 4096, IBV_ACCESS_LOCAL_WRITE);
  CHECK(mr != nullptr);
  CHECK(api().reg_mr(pd, bytes.data(), 4096, 0) == nullptr);
  CHECK_EQ(errno, EPERM);
  CHECK(api().reg_mr(pd, bytes.data(), 4097, 0) == nullptr);
  CHECK_EQ(errno, ENOMEM);
  CHECK_EQ(api().dealloc_pd(pd), EBUSY);
  CHECK_EQ(api().dereg_mr(mr), 0);
  CHECK_EQ(api().dealloc_pd(pd), 0);
  CHECK_EQ(api().close_device(context), 0);
  api().free_device_list(list);
}

TEST(a_queue_pair_is_moved_with_exactly_the_attributes_that_verbs_require) {
  configure(
      "device rx0 rxe; port 1 active mtu 1024; gid 1 v2 10.0.0.1; device mx0 mlx5; port 1; gid 3 "
      "v2 10.0.0.2");
  Options options;
  options.mtu = IBV_MTU_2048;
  End a("rx0", kRxeGid, options), b("mx0", kMlx5Gid, options);
  ibv_qp_attr attr{};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = 1;
  CHECK_EQ(api().modify_qp(a.qp, &attr, IBV_QP_STATE | IBV_QP_PORT | IBV_QP_PKEY_INDEX), EINVAL);
  attr.qp_state = IBV_QPS_RTS;
  CHECK_EQ(api().modify_qp(a.qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN), EINVAL);
  CHECK_EQ(a.post_receive(1), EINVAL);  // in RESET
  CHECK_EQ(a.to_init(), 0);
  CHECK_EQ(a.post_receive(1), 0);
  CHECK_EQ(post_write(a, Write{}), EINVAL);  // before RTS
  CHECK_EQ(a.to_rtr(b), EINVAL);             // path MTU above the active one
  CHECK(std::string(api().last_error()).find("active MTU") != std::string::npos);
  a.options.mtu = IBV_MTU_1024;
  a.gid_index = 5;  // an empty entry
  CHECK_EQ(a.to_rtr(b), EINVAL);
  a.gid_index = kRxeGid;
  CHECK_EQ(a.to_rtr(b), 0);
  CHECK_EQ(post_write(a, Write{}), EINVAL);
  attr.qp_state = IBV_QPS_RTS;
  CHECK_EQ(api().modify_qp(a.qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT),
           EINVAL);  // RC's, not UC's
  CHECK_EQ(a.to_rts(), 0);
  CHECK_EQ(a.state(), IBV_QPS_RTS);
}

TEST(a_write_with_immediate_takes_one_receive_and_tells_length_immediate_and_queue_pair) {
  configure(kPair);
  Pair pair;
  Region from(pair.a, 8192), to(pair.b, 8192);
  from.fill(3);
  for (const size_t bytes : {size_t{1}, size_t{1024}, size_t{1025}, size_t{8192}}) {
    pair.b.post_receives(1);
    CHECK_EQ(post_write(pair.a, write_of(from, to, bytes, 0x01020304)), 0);
    const auto sent = pair.a.poll(), got = pair.b.poll();
    CHECK_EQ(sent.size(), size_t{1});
    CHECK_EQ(sent[0].opcode, IBV_WC_RDMA_WRITE);
    CHECK_EQ(sent[0].status, IBV_WC_SUCCESS);
    CHECK_EQ(got.size(), size_t{1});
    CHECK_EQ(got[0].opcode, IBV_WC_RECV_RDMA_WITH_IMM);
    CHECK_EQ(got[0].wc_flags, unsigned{IBV_WC_WITH_IMM});
    CHECK_EQ(be32toh(got[0].imm_data), 0x01020304u);
    CHECK_EQ(size_t{got[0].byte_len}, bytes);
    CHECK_EQ(got[0].qp_num, pair.b.qp->qp_num);
    CHECK(std::memcmp(from.bytes.data(), to.bytes.data(), bytes) == 0);
  }
  Write plain = write_of(from, to, 100);
  plain.with_imm = false;
  CHECK_EQ(post_write(pair.a, plain), 0);
  CHECK_EQ(pair.b.poll().size(), size_t{0});  // a plain write tells the receiver nothing
}

TEST(what_may_not_be_written_is_dropped_silently_on_uc) {
  configure(kPair);
  Pair pair;
  Region from(pair.a, 4096), to(pair.b, 4096), readonly(pair.b, 4096, IBV_ACCESS_LOCAL_WRITE);
  from.fill(1);
  CHECK_EQ(post_write(pair.a, write_of(from, to, 64)), 0);  // nobody waits
  CHECK_EQ(api().count("no_receive"), uint64_t{1});
  pair.b.post_receives(8);
  Write bad = write_of(from, to, 64);
  bad.rkey ^= 0x100;
  CHECK_EQ(post_write(pair.a, bad), 0);
  CHECK_EQ(post_write(pair.a, write_of(from, readonly, 64)), 0);
  Write beyond = write_of(from, to, 4096);
  beyond.remote += 1;
  CHECK_EQ(post_write(pair.a, beyond), 0);
  Write below = write_of(from, to, 64);
  below.remote -= 1;
  CHECK_EQ(post_write(pair.a, below), 0);
  CHECK_EQ(api().count("bad_key"), uint64_t{4});
  CHECK_EQ(pair.b.poll().size(), size_t{0});
  CHECK_EQ(pair.b.state(), IBV_QPS_RTS);
  const auto sent = pair.a.poll();
  CHECK_EQ(sent.size(), size_t{5});  // and the sender learns nothing of it
  for (const ibv_wc& wc : sent) CHECK_EQ(wc.status, IBV_WC_SUCCESS);
  for (const uint8_t byte : to.bytes) CHECK_EQ(int{byte}, 0);

  Write empty;  // no bytes: no key is looked at
  empty.imm = 9;
  CHECK_EQ(post_write(pair.a, empty), 0);
  const auto got = pair.b.poll();
  CHECK_EQ(got.size(), size_t{1});
  CHECK_EQ(got[0].byte_len, 0u);
}

TEST(a_deregistered_region_is_written_no_more_and_a_zero_based_one_by_offset) {
  configure(kPair);
  Pair pair;
  Region from(pair.a, 4096);
  Region zero(pair.b, 4096,
              IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_ZERO_BASED);
  from.fill(5);
  pair.b.post_receives(4);
  Write write = write_of(from, zero, 100);
  write.remote = 200;
  CHECK_EQ(post_write(pair.a, write), 0);
  CHECK_EQ(pair.b.poll().size(), size_t{1});
  CHECK(std::memcmp(zero.bytes.data() + 200, from.bytes.data(), 100) == 0);
  CHECK_EQ(api().dereg_mr(zero.mr), 0);
  zero.mr = nullptr;
  CHECK_EQ(post_write(pair.a, write), 0);
  CHECK_EQ(pair.b.poll().size(), size_t{0});
  CHECK(api().reg_mr_iova(pair.b.pd, zero.bytes.data(), 4096, zero.address() + 1,
                          IBV_ACCESS_LOCAL_WRITE) == nullptr);
  CHECK_EQ(errno, EINVAL);
}

// A thread writes all the time while regions come and go: the sanitizers see any write after
// deregistration.
TEST(deregistration_waits_for_writes_in_progress) {
  configure(std::string(kPair) + "delivery thread");
  Pair pair;
  Region from(pair.a, 4096);
  std::atomic<uint64_t> target{0};
  std::atomic<uint32_t> key{0};
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) {
      Write write;
      write.remote = target;
      write.rkey = key;
      write.sges = {from.sge(0, 4096)};
      write.with_imm = false;
      if (post_write(pair.a, write) != 0) pair.a.poll();
    }
  });
  for (int i = 0; i < 200; i++) {
    auto to = std::make_unique<Region>(pair.b, 4096);
    target = to->address();
    key = to->mr->rkey;
    for (const uint64_t before = api().count("packets"); api().count("packets") < before + 4;)
      std::this_thread::yield();
    CHECK_EQ(api().dereg_mr(to->mr), 0);
    to->mr = nullptr;
    for (uint8_t& byte : to->bytes) byte = 1;
    for (const uint8_t byte : to->bytes) CHECK_EQ(int{byte}, 1);
  }
  stop = true;
  writer.join();
}

TEST(a_send_fills_the_receives_list_and_one_that_is_too_long_is_a_length_error) {
  configure(kPair);
  Options options;
  options.recv_sge = 2;
  Pair pair(options);
  Region from(pair.a, 4096), to(pair.b, 8192);
  from.fill(9);
  ibv_sge list[] = {to.sge(0, 1000), to.sge(4096, 3096)};
  CHECK_EQ(pair.b.post_receive(77, list, 2), 0);
  CHECK_EQ(post_send_message(pair.a, 1, {from.sge(0, 10), from.sge(10, 4086)}), 0);
  const auto got = pair.b.poll();
  CHECK_EQ(got.size(), size_t{1});
  CHECK_EQ(got[0].opcode, IBV_WC_RECV);
  CHECK_EQ(got[0].wr_id, uint64_t{77});
  CHECK_EQ(got[0].byte_len, 4096u);
  CHECK(std::memcmp(to.bytes.data(), from.bytes.data(), 1000) == 0);
  CHECK(std::memcmp(to.bytes.data() + 4096, from.bytes.data() + 1000, 3096) == 0);
  CHECK_EQ(pair.b.post_receive(78, list, 1), 0);
  CHECK_EQ(pair.b.post_receive(79, list, 1), 0);
  CHECK_EQ(post_send_message(pair.a, 2, {from.sge(0, 1001)}), 0);
  const auto failed = pair.b.poll();
  CHECK_EQ(failed.size(), size_t{2});
  CHECK_EQ(failed[0].status, IBV_WC_LOC_LEN_ERR);
  CHECK_EQ(failed[1].status, IBV_WC_WR_FLUSH_ERR);
  CHECK_EQ(pair.b.state(), IBV_QPS_ERR);
}

TEST(packets_longer_than_the_receivers_path_mtu_are_dropped) {
  configure(kPair);
  Options large, small;
  large.mtu = IBV_MTU_4096;
  small.mtu = IBV_MTU_1024;
  Pair pair(large, &small);
  Region from(pair.a, 4096), to(pair.b, 4096);
  pair.b.post_receives(2);
  CHECK_EQ(post_write(pair.a, write_of(from, to, 1025)), 0);
  CHECK_EQ(api().count("mtu_mismatch"), uint64_t{1});
  CHECK_EQ(post_write(pair.a, write_of(from, to, 1024)), 0);
  CHECK_EQ(pair.b.poll().size(), size_t{1});
}

TEST(a_wire_loses_doubles_and_reorders_packets_as_it_is_told_and_the_same_ones_each_time) {
  std::vector<uint32_t> first;
  for (int round = 0; round < 2; round++) {
    configure(std::string(kPair) + "wire loss 0.2 reorder 0.2 duplicate 0.2 seed 7");
    Options options;
    options.recv_wr = 4096;
    options.cqe = 8192;
    Pair pair(options);
    Region from(pair.a, 1024), to(pair.b, 1024);
    pair.b.post_receives(4096);
    for (uint32_t i = 0; i < 1000; i++) {
      CHECK_EQ(post_write(pair.a, write_of(from, to, 1024, i)), 0);
      CHECK_EQ(pair.a.poll().size(), size_t{1});
    }
    const uint64_t lost = api().count("lost"), doubled = api().count("duplicated");
    CHECK(lost > 100 && lost < 300);
    CHECK(api().count("reordered") > 80);
    CHECK(doubled > 60);
    std::vector<uint32_t> order;
    while (order.size() < 1000 - lost + doubled) order.push_back(be32toh(pair.b.wait().imm_data));
    CHECK_EQ(pair.b.poll().size(), size_t{0});
    uint32_t overtaken = 0;
    for (size_t i = 1; i < order.size(); i++) overtaken += order[i] < order[i - 1] ? 1 : 0;
    CHECK(overtaken > 50);
    CHECK_EQ(api().count("packets"), uint64_t{1000});
    std::sort(order.begin(),
              order.end());  // how far a packet is overtaken also depends on real time
    if (round == 0)
      first = order;
    else
      CHECK(first == order);
  }
}

TEST(a_message_of_several_packets_is_lost_whole_on_uc) {
  configure(std::string(kPair) + "wire loss 0.2 seed 3");
  Pair pair;
  Region from(pair.a, 4096), to(pair.b, 4096);
  int arrived = 0;
  for (int i = 0; i < 200; i++) {
    from.fill(static_cast<uint8_t>(i));
    pair.b.post_receives(1);
    CHECK_EQ(post_write(pair.a, write_of(from, to, 4096)), 0);
    CHECK_EQ(pair.a.poll().size(), size_t{1});
    const auto got = pair.b.poll();
    if (got.empty()) {
      CHECK_EQ(post_write(pair.a, Write{}), 0);  // uses up the receive, or is lost and leaves it
      while (pair.b.poll().empty()) CHECK_EQ(post_write(pair.a, Write{}), 0);
      pair.a.poll();
      continue;
    }
    arrived++;
    CHECK(from.bytes == to.bytes);
  }
  CHECK(arrived > 50 && arrived < 120);  // 0.8^4 = 0.41 of 200
}
