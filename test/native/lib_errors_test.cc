// What the C library refuses, and says why: arguments, names, infos, memory; over the emulated and
// the UDP device.
#include <cstdlib>

#include "lib_pair.h"

using namespace lib_test;

TEST(infos_that_do_not_go_together_are_refused_with_what_differs) {
  both([](const std::string& device) {
    Pair pair(device);
    std::vector<char> own(Pair::size_of(pair.a.qp)), theirs(Pair::size_of(pair.b.qp));
    OK(sdr_qp_info_get(pair.a.qp, own.data()));
    OK(sdr_qp_info_get(pair.b.qp, theirs.data()));
    FAILS(sdr_qp_connect(pair.a.qp, own.data()), SDR_EXT_PEER_INCOMPATIBLE, "peer's info");
    FAILS(sdr_ext_qp_connect(pair.a.qp, theirs.data(), 40), SDR_EXT_PEER_INCOMPATIBLE,
          "not readable");
    FAILS(sdr_ext_qp_connect(pair.a.qp, "", 0), SDR_EXT_PEER_INCOMPATIBLE, "not readable");
    FAILS(sdr_qp_connect(pair.a.qp, nullptr), SDR_EXT_INVALID_ARGUMENT, "NULL");
    const std::string text(theirs.begin(), theirs.end());
    const auto changed = [&](const std::string& from, const std::string& to) {
      std::string other = text;
      const size_t at = other.find(from);
      CHECK(at != std::string::npos);
      return other.replace(at, from.size(), to);
    };
    for (const auto& [from, to, part] : std::vector<std::array<std::string, 3>>{
             {"\"sdr\":1", "\"sdr\":2", "version"},
             {"\"packetBytes\":1024", "\"packetBytes\":512", "packetBytes 512"},
             {"\"maxMessages\":8", "\"maxMessages\":-8", "maxMessages unknown"},
             {"[10,18,4]", "[8,22,2]", "split [8,22,2]"},
             {"\"transport\":{\"transport\":", "\"transport\":{\"transport\":[],\"other\":",
              "peer's info"}}) {
      const std::string info = changed(from, to);
      // An emulated info is told by its world alone.
      if (device == "emu" && from.starts_with("\"transport\"")) continue;
      FAILS(sdr_ext_qp_connect(pair.a.qp, info.data(), info.size()), SDR_EXT_PEER_INCOMPATIBLE,
            part.c_str());
    }
    OK(sdr_qp_connect(pair.a.qp, theirs.data()));
    FAILS(sdr_qp_connect(pair.a.qp, theirs.data()), SDR_EXT_INVALID_ARGUMENT, "connected already");
  });
}

TEST(arguments_that_make_no_sense_are_refused_by_name) {
  both([](const std::string& device) {
    Pair pair(device);
    sdr_qp_attr attr = attributes();
    const auto refused = [&](auto change, sdr_ext_error code, const char* part) {
      sdr_qp_attr bad = attributes();
      change(bad);
      GIVES_NULL(sdr_qp_create(pair.a.ctx, &bad), code, part);
    };
    refused([](auto& a) { a.mtu = static_cast<sdr_mtu>(7); }, SDR_EXT_INVALID_ARGUMENT, "mtu 7");
    refused([](auto& a) { a.bitmap_chunk_size_log_bytes = 9; }, SDR_EXT_INVALID_ARGUMENT,
            "bitmap_chunk_size_log_bytes 9");
    refused([](auto& a) { a.bitmap_chunk_size_log_bytes = 40; }, SDR_EXT_INVALID_ARGUMENT,
            "bitmap_chunk_size_log_bytes 40");
    refused([](auto& a) { a.max_log_num_msgs = 11; }, SDR_EXT_TOO_LARGE, "max_log_num_msgs 11");
    refused([](auto& a) { a.send_enable = a.recv_enable = 0; }, SDR_EXT_INVALID_ARGUMENT,
            "send_enable");
    GIVES_NULL(sdr_qp_create(nullptr, &attr), SDR_EXT_INVALID_ARGUMENT, "ctx is NULL");
    GIVES_NULL(sdr_qp_create(pair.a.ctx, nullptr), SDR_EXT_INVALID_ARGUMENT, "qp_attr is NULL");

    sdr_send_wr send = pair.a.send_wr(10);
    sdr_send_handle* sent = nullptr;
    FAILS(sdr_send_post(pair.a.qp, &send, &sent), SDR_EXT_INVALID_ARGUMENT, "not connected");
    pair.connect();
    FAILS(sdr_send_post(nullptr, &send, &sent), SDR_EXT_INVALID_ARGUMENT, "qp is NULL");
    FAILS(sdr_send_post(pair.a.qp, nullptr, &sent), SDR_EXT_INVALID_ARGUMENT, "wr is NULL");
    FAILS(sdr_send_post(pair.a.qp, &send, nullptr), SDR_EXT_INVALID_ARGUMENT, "handle is NULL");
    send.lkey = 999;
    FAILS(sdr_send_post(pair.a.qp, &send, &sent), SDR_EXT_INVALID_ARGUMENT, "lkey 999");
    send = pair.a.send_wr(10, pair.a.memory.size() - 9);
    FAILS(sdr_send_post(pair.a.qp, &send, &sent), SDR_EXT_INVALID_ARGUMENT, "10 B");
    send = pair.a.send_wr(10);
    send.local_addr -= 1;
    FAILS(sdr_send_post(pair.a.qp, &send, &sent), SDR_EXT_INVALID_ARGUMENT, "10 B");
    send = pair.a.send_wr(10);
    send.remote_offset = 4096;
    FAILS(sdr_send_post(pair.a.qp, &send, &sent), SDR_EXT_TOO_LARGE, "16777226 B");
    send.remote_offset = UINT64_MAX;
    FAILS(sdr_send_post(pair.a.qp, &send, &sent), SDR_EXT_INVALID_ARGUMENT, "remote_offset");
    send = pair.a.send_wr(10);
    send.opcode = static_cast<sdr_wr_opcode>(9);
    FAILS(sdr_send_post(pair.a.qp, &send, &sent), SDR_EXT_INVALID_ARGUMENT, "opcode 9");

    sdr_recv_wr recv = pair.b.recv_wr(10);
    sdr_recv_handle* received = nullptr;
    FAILS(sdr_recv_post(nullptr, &recv, &received), SDR_EXT_INVALID_ARGUMENT, "qp is NULL");
    FAILS(sdr_recv_post(pair.b.qp, nullptr, &received), SDR_EXT_INVALID_ARGUMENT, "wr is NULL");
    FAILS(sdr_recv_post(pair.b.qp, &recv, nullptr), SDR_EXT_INVALID_ARGUMENT, "handle is NULL");
    recv.lkey = 999;
    FAILS(sdr_recv_post(pair.b.qp, &recv, &received), SDR_EXT_INVALID_ARGUMENT, "lkey 999");
    recv = pair.b.recv_wr(static_cast<uint32_t>(pair.b.memory.size()) + 1);
    FAILS(sdr_recv_post(pair.b.qp, &recv, &received), SDR_EXT_INVALID_ARGUMENT, "not within");

    int flag = 0;
    uint32_t number = 0;
    uint8_t* bitmap = nullptr;
    size_t size = 0;
    FAILS(sdr_send_poll(nullptr, &flag, nullptr), SDR_EXT_INVALID_ARGUMENT, "handle is NULL");
    FAILS(sdr_recv_imm_get(nullptr, &number), SDR_EXT_INVALID_ARGUMENT, "handle is NULL");
    FAILS(sdr_recv_bitmap_get(nullptr, &bitmap, &size), SDR_EXT_INVALID_ARGUMENT, "handle is NULL");
    FAILS(sdr_recv_complete(nullptr), SDR_EXT_INVALID_ARGUMENT, "handle is NULL");
    FAILS(sdr_streaming_send_continue(nullptr, nullptr), SDR_EXT_INVALID_ARGUMENT,
          "handle is NULL");
    FAILS(sdr_streaming_send_end(nullptr), SDR_EXT_INVALID_ARGUMENT, "handle is NULL");
    FAILS(sdr_streaming_send_start(pair.a.qp, nullptr, &sent), SDR_EXT_INVALID_ARGUMENT,
          "wr is NULL");
    FAILS(sdr_qp_destroy(nullptr), SDR_EXT_INVALID_ARGUMENT, "qp is NULL");
    FAILS(sdr_qp_info_size_get(pair.a.qp, nullptr), SDR_EXT_INVALID_ARGUMENT, "info_size is NULL");
    FAILS(sdr_qp_info_get(pair.a.qp, nullptr), SDR_EXT_INVALID_ARGUMENT, "info is NULL");
    FAILS(sdr_ext_link_set(pair.a.qp, "loss much"), SDR_EXT_INVALID_ARGUMENT, "loss");
    FAILS(sdr_ext_qp_peer_timeout(pair.a.qp, 0), SDR_EXT_INVALID_ARGUMENT, "timeout");
    FAILS(sdr_ext_wait(pair.a.ctx, -1), SDR_EXT_INVALID_ARGUMENT, "negative");
    FAILS(sdr_context_destroy(nullptr), SDR_EXT_INVALID_ARGUMENT, "context is NULL");
    FAILS(sdr_context_destroy(pair.a.ctx), SDR_EXT_BUSY, "1 queue pairs");
  });
}

TEST(an_end_does_only_what_it_was_made_for) {
  both([](const std::string& device) {
    sdr_qp_attr sends = attributes();
    sends.recv_enable = 0;
    Pair pair(device, sends);
    sdr_recv_wr recv = pair.a.recv_wr(1);
    sdr_recv_handle* into = nullptr;
    FAILS(sdr_recv_post(pair.a.qp, &recv, &into), SDR_EXT_UNSUPPORTED, "does not receive");
    sends.send_enable = 0, sends.recv_enable = 1;
    Pair receives(device, sends);
    receives.connect();
    sdr_send_wr wr = receives.a.send_wr(1);
    sdr_send_handle* sent = nullptr;
    FAILS(sdr_send_post(receives.a.qp, &wr, &sent), SDR_EXT_UNSUPPORTED, "does not send");
  });
}

TEST(memory_in_use_is_not_let_go) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect("delay 5ms");
    GIVES_NULL(sdr_mr_reg(pair.a.ctx, nullptr, 1, SDR_ACCESS_REMOTE_WRITE),
               SDR_EXT_INVALID_ARGUMENT, "addr");
    GIVES_NULL(sdr_mr_reg(pair.a.ctx, pair.a.memory.data(), 0, SDR_ACCESS_REMOTE_WRITE),
               SDR_EXT_INVALID_ARGUMENT, "length");
    GIVES_NULL(sdr_mr_reg(pair.a.ctx, pair.a.memory.data(), 1, static_cast<sdr_access_flags>(4)),
               SDR_EXT_INVALID_ARGUMENT, "access");
    FAILS(sdr_mr_dereg(nullptr), SDR_EXT_INVALID_ARGUMENT, "mr is NULL");
    uint32_t rkey = 0;
    OK(sdr_mr_rkey_get(pair.a.mr, &rkey));
    CHECK(rkey != 0);
    sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(4 * kChunk));
    FAILS(sdr_mr_dereg(pair.b.mr), SDR_EXT_BUSY, "1 posted receives");
    CHECK_EQ(pair.injected(send(pair.a, pair.a.send_wr(4 * kChunk))),
             static_cast<int>(SDR_SUCCESS));
    OK(sdr_mr_dereg(pair.a.mr));  // waits for the packets under way
    pair.a.mr = nullptr;
    sdr_send_wr gone = pair.a.send_wr(1);
    sdr_send_handle* sent = nullptr;
    FAILS(sdr_send_post(pair.a.qp, &gone, &sent), SDR_EXT_INVALID_ARGUMENT, "names no memory");
    pair.arrived(into);
    OK(sdr_recv_complete(into));
  });
}

TEST(a_context_has_as_many_queue_pairs_as_it_was_made_for) {
  both([](const std::string& device) {
    sdr_dev_attr dev{1, 1};
    sdr_context* ctx = sdr_context_create(device_of(device).c_str(), &dev);
    CHECK(ctx != nullptr);
    sdr_qp_attr attr = attributes();
    sdr_qp* first = sdr_qp_create(ctx, &attr);
    sdr_qp* second = sdr_qp_create(ctx, &attr);
    CHECK(first != nullptr && second != nullptr);
    GIVES_NULL(sdr_qp_create(ctx, &attr), SDR_EXT_BUSY, "2 queue pairs");
    OK(sdr_qp_destroy(first));
    first = sdr_qp_create(ctx, &attr);
    CHECK(first != nullptr);
    OK(sdr_qp_destroy(first));
    OK(sdr_qp_destroy(second));
    OK(sdr_context_destroy(ctx));
  });
}

TEST(device_names_and_environments_that_are_wrong_are_refused) {
  sdr_dev_attr dev{1, 0};
  for (const char* name : {"udp:somewhere", "udp:127.0.0.1:port", "udp:127.0.0.1:70000", "udp:[::1",
                           "udp:[::1]7", "tcp:1.2.3.4", "emu:", ""})
    GIVES_NULL(sdr_context_create(name, &dev), SDR_EXT_INVALID_ARGUMENT, "");
  GIVES_NULL(sdr_context_create("udp:192.0.2.1", &dev), SDR_EXT_INVALID_ARGUMENT,
             "192.0.2.1 is not an address");
  GIVES_NULL(sdr_context_create(nullptr, &dev), SDR_EXT_INVALID_ARGUMENT, "dev_name is NULL");
  CHECK(sdr_context_create("no_such_device0", &dev) == nullptr);
  CHECK(std::strstr(sdr_ext_error_text(), "no_such_device0") != nullptr);
  dev.num_channels = 65;
  GIVES_NULL(sdr_context_create("emu:x", &dev), SDR_EXT_INVALID_ARGUMENT, "num_channels 65");
  dev = {1, 11};
  GIVES_NULL(sdr_context_create("emu:x", &dev), SDR_EXT_INVALID_ARGUMENT, "log_max_qps 11");
  dev = {1, 0};
  for (const auto& [name, value] :
       {std::pair{"SDR_LINK", "loss lots"}, {"SDR_SEED", "x"}, {"SDR_PEER_TIMEOUT_MS", "0"}}) {
    setenv(name, value, 1);
    GIVES_NULL(sdr_context_create("emu:x", &dev), SDR_EXT_INVALID_ARGUMENT,
               std::strcmp(name, "SDR_LINK") == 0 ? "loss" : name);
    unsetenv(name);
  }
  // A program for an RDMA device runs over another by the environment alone.
  setenv("SDR_DEVICE", "emu:instead", 1);
  setenv("SDR_QP_NUM_GENERATIONS", "65", 1);
  sdr_context* ctx = sdr_context_create("mlx5_0", &dev);
  CHECK(ctx != nullptr);
  sdr_qp_attr attr = attributes();
  GIVES_NULL(sdr_qp_create(ctx, &attr), SDR_EXT_INVALID_ARGUMENT, "SDR_QP_NUM_GENERATIONS=65");
  setenv("SDR_QP_NUM_GENERATIONS", "2", 1);
  sdr_qp* qp = sdr_qp_create(ctx, &attr);
  CHECK(qp != nullptr);
  std::vector<char> info(Pair::size_of(qp));
  OK(sdr_qp_info_get(qp, info.data()));
  CHECK(std::string(info.begin(), info.end()).find("\"generations\":2,") != std::string::npos);
  OK(sdr_qp_destroy(qp));
  OK(sdr_context_destroy(ctx));
  unsetenv("SDR_DEVICE");
  unsetenv("SDR_QP_NUM_GENERATIONS");
}

TEST(an_address_in_use_is_named) {
  sdr_dev_attr dev{1, 0};
  sdr_context* first = sdr_context_create("udp:127.0.0.1", &dev);
  CHECK(first != nullptr);
  sdr_qp_attr attr = attributes();
  sdr_qp* qp = sdr_qp_create(first, &attr);
  std::vector<char> info(Pair::size_of(qp));
  OK(sdr_qp_info_get(qp, info.data()));
  const std::string text(info.begin(), info.end());
  const size_t at = text.find("\"port\":") + 7;
  const std::string device = "udp:127.0.0.1:" + text.substr(at, text.find('}', at) - at);
  GIVES_NULL(sdr_context_create(device.c_str(), &dev), SDR_EXT_ADDRESS_IN_USE, "is in use");
  OK(sdr_qp_destroy(qp));
  OK(sdr_context_destroy(first));
  sdr_context* second = sdr_context_create(device.c_str(), &dev);
  CHECK(second != nullptr);
  OK(sdr_context_destroy(second));
}

TEST(split_and_sizes_follow_from_the_attributes) {
  Pair pair("emu");
  const auto info_of = [&](uint32_t in_flight, uint32_t messages, sdr_mtu mtu) {
    sdr_qp_attr attr = attributes();
    attr.max_in_flight_log_bytes = in_flight, attr.max_log_num_msgs = messages, attr.mtu = mtu;
    sdr_qp* qp = sdr_qp_create(pair.a.ctx, &attr);
    if (qp == nullptr) check::fail(__FILE__, __LINE__, sdr_ext_error_text());
    std::vector<char> info(Pair::size_of(qp));
    OK(sdr_qp_info_get(qp, info.data()));
    OK(sdr_qp_destroy(qp));
    return std::string(info.begin(), info.end());
  };
  const auto has = [](const std::string& info, const char* part) {
    return info.find(part) != std::string::npos;
  };
  CHECK(has(info_of(30, 10, SDR_MTU_4096), "\"split\":[10,18,4]"));
  CHECK(has(info_of(32, 8, SDR_MTU_4096), "\"split\":[8,22,2]"));
  CHECK(has(info_of(40, 10, SDR_MTU_4096), "\"split\":[10,18,4]"));  // the ids come first
  CHECK(has(info_of(32, 4, SDR_MTU_64), "\"split\":[4,28,0]"));
  CHECK(has(info_of(0, 0, SDR_MTU_512), "\"maxMessages\":1,"));
}
