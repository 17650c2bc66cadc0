// Every published call at work, over the emulated and the UDP device.
#include <poll.h>

#include <cstdlib>

#include "lib_pair.h"

using namespace lib_test;

TEST(messages_land_in_receives_of_their_order_with_lengths_and_immediates) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    constexpr uint32_t sizes[] = {0, 1, 1023, 1024, kChunk, kChunk + 1, 40'000, 33 * kChunk};
    for (uint32_t round = 0; round < 3; round++) {
      size_t offset = 0;
      std::vector<sdr_recv_handle*> receives;
      for (const uint32_t size : sizes) {
        receives.push_back(receive(pair.b, pair.b.recv_wr(size + 100, offset)));
        offset += size + 100;
      }
      offset = 0;
      for (const uint32_t size : sizes) {
        sdr_send_wr wr = pair.a.send_wr(size, offset);
        wr.opcode = SDR_WR_WRITE_WITH_IMM;
        wr.imm_value = 0xdeadbeef + size + round;
        CHECK_EQ(pair.injected(send(pair.a, wr)), static_cast<int>(SDR_SUCCESS));
        offset += size + 100;
      }
      offset = 0;
      for (size_t i = 0; i < receives.size(); i++) {
        const uint32_t size = sizes[i];
        const sdr_ext_recv_info info = pair.arrived(receives[i]);
        CHECK_EQ(info.message, static_cast<uint32_t>(round * std::size(sizes) + i));
        CHECK_EQ(info.length, uint64_t{size});
        CHECK_EQ(info.chunks, (size + kChunk - 1) / kChunk);
        CHECK_EQ(info.chunks_done, info.chunks);
        uint32_t immediate = 0;
        OK(sdr_recv_imm_get(receives[i], &immediate));
        CHECK_EQ(immediate, 0xdeadbeef + size + round);
        uint8_t* bitmap = nullptr;
        size_t bytes = 99;
        OK(sdr_recv_bitmap_get(receives[i], &bitmap, &bytes));
        CHECK_EQ(bytes, size_t{(info.chunks + 7) / 8});
        for (uint32_t chunk = 0; chunk < info.chunks; chunk++) CHECK(bit(bitmap, chunk));
        CHECK(equal(pair, offset, offset, size));
        OK(sdr_recv_complete(receives[i]));
        offset += size + 100;
      }
    }
  });
}

TEST(a_message_at_an_offset_leaves_the_chunks_before_it) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(8 * kChunk));
    sdr_send_wr wr = pair.a.send_wr(kChunk + 5, 100);
    wr.remote_offset = 3;
    CHECK_EQ(pair.injected(send(pair.a, wr)), static_cast<int>(SDR_SUCCESS));
    sdr_ext_recv_info info{};
    pair.wait("two chunks", [&] {
      OK(sdr_ext_recv_info_get(into, &info));
      return info.chunks_done == 2 && info.length_known;
    });
    CHECK_EQ(info.length, uint64_t{4 * kChunk + 5});
    CHECK_EQ(info.complete, 0);
    uint8_t* bitmap = nullptr;
    size_t bytes = 0;
    OK(sdr_recv_bitmap_get(into, &bitmap, &bytes));
    CHECK_EQ(bytes, size_t{1});
    CHECK_EQ(int{bitmap[0]}, 0b11000);
    CHECK(equal(pair, 100, 3 * kChunk, kChunk + 5));
    uint64_t packets = 0;
    OK(sdr_recv_bitmap_chunk_expand(into, 3, &packets));
    CHECK_EQ(packets, uint64_t{0b1111});
    OK(sdr_recv_bitmap_chunk_expand(into, 4, &packets));
    CHECK_EQ(packets, uint64_t{0b1});
    OK(sdr_recv_bitmap_chunk_expand(into, 2, &packets));
    CHECK_EQ(packets, uint64_t{0});
    FAILS(sdr_recv_bitmap_chunk_expand(into, 5, &packets), SDR_EXT_INVALID_ARGUMENT, "chunk 5");
    uint32_t immediate = 0;
    FAILS(sdr_recv_imm_get(into, &immediate), SDR_EXT_INVALID_ARGUMENT, "no immediate");
    OK(sdr_recv_complete(into));
    FAILS(sdr_recv_complete(into), SDR_EXT_INVALID_ARGUMENT, "gone");
  });
}

TEST(a_streaming_send_is_queued_until_its_receiver_is_ready_and_repeats_what_it_likes) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    sdr_send_start_wr start{SDR_WR_WRITE_WITH_IMM, 7};
    sdr_send_handle* stream = nullptr;
    OK(sdr_streaming_send_start(pair.a.qp, &start, &stream));
    sdr_ext_send_info state{};
    OK(sdr_ext_send_info_get(stream, &state));
    CHECK_EQ(int{state.ready}, 0);
    for (const uint64_t chunk : {9u, 0u, 3u, 3u, 0u}) {
      sdr_send_continue_wr wr = pair.a.continue_wr(kChunk, chunk);
      OK(sdr_streaming_send_continue(stream, &wr));
    }
    int completed = 0;
    CHECK_EQ(sdr_send_poll(stream, &completed, nullptr), static_cast<int>(SDR_RETRY));
    uint32_t immediate = 0;
    sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(10 * kChunk));
    sdr_ext_recv_info info{};
    pair.wait("three chunks", [&] {
      OK(sdr_ext_recv_info_get(into, &info));
      return info.chunks_done == 3;
    });
    for (const uint64_t chunk : {1u, 2u, 4u, 5u, 6u, 7u, 8u}) {
      sdr_send_continue_wr wr = pair.a.continue_wr(kChunk, chunk);
      OK(sdr_streaming_send_continue(stream, &wr));
    }
    info = pair.arrived(into);
    CHECK_EQ(info.length, uint64_t{10 * kChunk});
    OK(sdr_recv_imm_get(into, &immediate));
    CHECK_EQ(immediate, 7u);
    CHECK_EQ(sdr_send_poll(stream, &completed, nullptr), static_cast<int>(SDR_RETRY));
    sdr_send_continue_wr wrong = pair.a.continue_wr(kChunk - 1, 0);
    FAILS(sdr_streaming_send_continue(stream, &wrong), SDR_EXT_INVALID_ARGUMENT,
          "4095 B at chunk 0");
    wrong = pair.a.continue_wr(kChunk, 10);
    FAILS(sdr_streaming_send_continue(stream, &wrong), SDR_EXT_INVALID_ARGUMENT, "chunk 10");
    wrong = pair.a.continue_wr(0, 0);
    FAILS(sdr_streaming_send_continue(stream, &wrong), SDR_EXT_INVALID_ARGUMENT, "0 B");
    wrong.remote_offset = uint64_t{1} << 40;
    wrong.length = kChunk;
    FAILS(sdr_streaming_send_continue(stream, &wrong), SDR_EXT_INVALID_ARGUMENT, "remote_offset");
    OK(sdr_streaming_send_end(stream));
    CHECK_EQ(pair.injected(stream), static_cast<int>(SDR_SUCCESS));
    FAILS(sdr_streaming_send_end(stream), SDR_EXT_INVALID_ARGUMENT, "gone");
    CHECK(equal(pair, 0, 0, 10 * kChunk));
    OK(sdr_recv_complete(into));
  });
}

TEST(a_streaming_send_may_say_its_own_length_and_takes_nothing_after_its_end) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(100'000));
    sdr_send_start_wr start{SDR_WR_WRITE, 0};
    sdr_send_handle* stream = nullptr;
    OK(sdr_ext_streaming_send_start(pair.a.qp, &start, kChunk + 10, &stream));
    sdr_send_continue_wr wr = pair.a.continue_wr(kChunk + 10, 0);
    OK(sdr_streaming_send_continue(stream, &wr));
    OK(sdr_streaming_send_end(stream));
    CHECK(sdr_streaming_send_continue(stream, &wr) == SDR_ERROR);
    CHECK_EQ(pair.injected(stream), static_cast<int>(SDR_SUCCESS));
    CHECK_EQ(pair.arrived(into).length, uint64_t{kChunk + 10});
    CHECK(equal(pair, 0, 0, kChunk + 10));
    OK(sdr_recv_complete(into));
  });
}

TEST(slots_and_queues_that_are_full_say_retry) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    sdr_recv_wr recv = pair.b.recv_wr(kChunk);
    std::vector<sdr_recv_handle*> receives;
    sdr_recv_handle* one_more = nullptr;
    for (int i = 0; i < 8; i++) receives.push_back(receive(pair.b, recv));
    CHECK_EQ(sdr_recv_post(pair.b.qp, &recv, &one_more), static_cast<int>(SDR_RETRY));
    CHECK(sdr_ext_error_code() == SDR_EXT_BUSY);
    // Nobody receives at a: its eight slots stay taken.
    std::vector<sdr_send_handle*> sends;
    for (int i = 0; i < 8; i++) sends.push_back(send(pair.b, pair.b.send_wr(10)));
    sdr_send_wr wr = pair.b.send_wr(10);
    sdr_send_handle* another = nullptr;
    CHECK_EQ(sdr_send_post(pair.b.qp, &wr, &another), static_cast<int>(SDR_RETRY));
    sdr_send_start_wr start{SDR_WR_WRITE, 0};
    CHECK_EQ(sdr_streaming_send_start(pair.b.qp, &start, &another), static_cast<int>(SDR_RETRY));
    // A stream whose receiver is not ready queues 256 ranges.
    sdr_send_handle* stream = nullptr;
    Pair other(device);
    other.connect();
    OK(sdr_streaming_send_start(other.a.qp, &start, &stream));
    sdr_send_continue_wr more = other.a.continue_wr(kChunk, 0);
    for (int i = 0; i < 256; i++) OK(sdr_streaming_send_continue(stream, &more));
    CHECK_EQ(sdr_streaming_send_continue(stream, &more), static_cast<int>(SDR_RETRY));
    for (sdr_recv_handle* handle : receives) OK(sdr_recv_complete(handle));
    OK(sdr_recv_post(pair.b.qp, &recv, &one_more));
  });
}

TEST(both_ends_learn_of_a_message_that_does_not_fit_and_others_go_on) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    sdr_recv_handle* small = receive(pair.b, pair.b.recv_wr(100));
    sdr_recv_handle* good = receive(pair.b, pair.b.recv_wr(kChunk));
    sdr_send_handle* large = send(pair.a, pair.a.send_wr(101));
    CHECK_EQ(pair.injected(large), static_cast<int>(SDR_ERROR));
    check_error(__FILE__, __LINE__, SDR_EXT_TOO_LARGE, "101 B");
    CHECK_EQ(pair.injected(send(pair.a, pair.a.send_wr(kChunk))), static_cast<int>(SDR_SUCCESS));
    pair.arrived(good);
    uint8_t* bitmap = nullptr;
    size_t bytes = 0;
    pair.wait("the receiver's end of it",
              [&] { return sdr_recv_bitmap_get(small, &bitmap, &bytes) == SDR_ERROR; });
    check_error(__FILE__, __LINE__, SDR_EXT_TOO_LARGE, "gave up message 0");
    uint32_t immediate = 0;
    FAILS(sdr_recv_imm_get(small, &immediate), SDR_EXT_TOO_LARGE, "message 0");
    uint64_t packets = 0;
    FAILS(sdr_recv_bitmap_chunk_expand(small, 0, &packets), SDR_EXT_TOO_LARGE, "message 0");
    OK(sdr_recv_complete(small));
    OK(sdr_recv_complete(good));
  });
}

TEST(a_receive_completed_before_its_send_fails_that_send_and_only_that) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    OK(sdr_recv_complete(receive(pair.b, pair.b.recv_wr(kChunk))));
    // The sender has not posted anything when it learns of that: what follows it has arrived.
    sdr_ext_control mark{80, 0, 0};
    OK(sdr_ext_control_send(pair.b.qp, &mark, nullptr));
    pair.wait("the mark",
              [&] { return sdr_ext_control_recv(pair.a.qp, &mark, nullptr, 0) == SDR_SUCCESS; });
    sdr_recv_handle* second = receive(pair.b, pair.b.recv_wr(kChunk));
    sdr_send_handle* lost = send(pair.a, pair.a.send_wr(kChunk));
    sdr_send_handle* good = send(pair.a, pair.a.send_wr(kChunk, kChunk));
    CHECK_EQ(pair.injected(lost), static_cast<int>(SDR_ERROR));
    check_error(__FILE__, __LINE__, SDR_EXT_CLOSED, "message 0");
    CHECK_EQ(pair.injected(good), static_cast<int>(SDR_SUCCESS));
    pair.arrived(second);
    CHECK(equal(pair, kChunk, 0, kChunk));
    OK(sdr_recv_complete(second));
  });
}

TEST(a_receive_completed_early_leaves_a_send_that_has_begun_to_end_well) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect("delay 10ms");
    sdr_send_start_wr start{SDR_WR_WRITE, 0};
    sdr_send_handle* stream = nullptr;
    OK(sdr_streaming_send_start(pair.a.qp, &start, &stream));
    sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(2 * kChunk));
    sdr_ext_recv_info info{};
    pair.wait("the first copy of START", [&] {
      OK(sdr_ext_recv_info_get(into, &info));
      return info.length_known;
    });
    OK(sdr_recv_complete(into));
    // Its other copies come now, and so would an answer to them.
    int64_t begun = 0, now = 0;
    OK(sdr_ext_now_ns(pair.a.ctx, &begun));
    pair.wait("three round trips", [&] {
      OK(sdr_ext_now_ns(pair.a.ctx, &now));
      return now - begun > 60'000'000;
    });
    sdr_send_continue_wr wr = pair.a.continue_wr(kChunk, 1);
    OK(sdr_streaming_send_continue(stream, &wr));
    OK(sdr_streaming_send_end(stream));
    CHECK_EQ(pair.injected(stream), static_cast<int>(SDR_SUCCESS));
  });
}

TEST(messages_pass_a_link_that_loses_every_kind_of_frame_and_packet) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    const char* bad = "loss 20% delay 1ms reorder 5% duplicate 5% corrupt 1%";
    OK(sdr_ext_link_set(pair.a.qp, bad));
    OK(sdr_ext_link_set(pair.b.qp, bad));
    for (uint32_t round = 0; round < 20; round++) {
      sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(10 * kChunk));
      sdr_send_start_wr start{SDR_WR_WRITE_WITH_IMM, round};
      sdr_send_handle* stream = nullptr;
      OK(sdr_ext_streaming_send_start(pair.a.qp, &start, 9 * kChunk + 3, &stream));
      sdr_ext_recv_info info{};
      int64_t now = 0, next = 0;
      pair.wait("a lossy message", [&] {
        OK(sdr_ext_now_ns(pair.a.ctx, &now));
        if (now >= next) {  // again and again, until all of it is there
          sdr_send_continue_wr wr = pair.a.continue_wr(9 * kChunk + 3, 0);
          CHECK(sdr_streaming_send_continue(stream, &wr) != SDR_ERROR);
          next = now + 5'000'000;
        }
        OK(sdr_ext_recv_info_get(into, &info));
        return info.complete && info.length_known;
      });
      OK(sdr_streaming_send_end(stream));
      CHECK_EQ(pair.injected(stream), static_cast<int>(SDR_SUCCESS));
      uint32_t immediate = 0;
      OK(sdr_recv_imm_get(into, &immediate));
      CHECK_EQ(immediate, round);
      CHECK(equal(pair, 0, 0, 9 * kChunk + 3));
      OK(sdr_recv_complete(into));
      // Late packets and repeats are on their way: the next round's memory must not be touched by
      // them.
      std::fill(pair.b.memory.begin(), pair.b.memory.end(), uint8_t{0});
    }
    sdr_ext_stats stats{};
    OK(sdr_ext_stats_get(pair.a.qp, &stats, sizeof stats));
    CHECK(stats.link_dropped > 0 && stats.link_duplicated > 0 && stats.packets_sent > 0 &&
          stats.control_received > 0);
    OK(sdr_ext_stats_get(pair.b.qp, &stats, sizeof stats));
    CHECK(stats.packets_received > 0 && stats.packets_duplicate > 0 && stats.control_sent > 0);
  });
}

TEST(nothing_is_written_after_complete) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(16 * kChunk));
    sdr_send_start_wr start{SDR_WR_WRITE, 0};
    sdr_send_handle* stream = nullptr;
    OK(sdr_ext_streaming_send_start(pair.a.qp, &start, 16 * kChunk, &stream));
    const auto send_chunks = [&](uint64_t from, uint64_t to) {
      for (uint64_t chunk = from; chunk < to; chunk++) {
        sdr_send_continue_wr wr = pair.a.continue_wr(kChunk, chunk);
        OK(sdr_streaming_send_continue(stream, &wr));
      }
    };
    sdr_ext_recv_info info{};
    sdr_ext_stats stats{};
    send_chunks(0, 8);
    pair.wait("half of it", [&] {
      OK(sdr_ext_recv_info_get(into, &info));
      return info.chunks_done == 8 && info.length_known;
    });
    OK(sdr_ext_link_set(pair.a.qp, "delay 300ms"));
    send_chunks(8, 12);
    pair.wait("more to be under way", [&] {
      OK(sdr_ext_stats_get(pair.a.qp, &stats, sizeof stats));
      return stats.packets_sent == 48;
    });
    OK(sdr_recv_complete(into));
    const std::vector<uint8_t> before = pair.b.memory;
    CHECK(equal(pair, 0, 0, 8 * kChunk));
    send_chunks(12, 16);
    OK(sdr_streaming_send_end(stream));
    CHECK_EQ(pair.injected(stream), static_cast<int>(SDR_SUCCESS));
    pair.wait("the late packets", [&] {
      OK(sdr_ext_stats_get(pair.b.qp, &stats, sizeof stats));
      return stats.packets_late + stats.packets_received == 64;
    });
    CHECK(stats.packets_late >= 16);
    CHECK(before == pair.b.memory);
    CHECK(std::all_of(before.begin() + 12 * kChunk, before.end(),
                      [](uint8_t byte) { return byte == 0; }));
  });
}

TEST(control_messages_cross_both_ways_whole_and_once) {
  both([](const std::string& device) {
    Pair pair(device);
    uint8_t body[2000] = {};
    sdr_ext_control out{200, 5, 10}, in{};
    FAILS(sdr_ext_control_send(pair.a.qp, &out, body), SDR_EXT_INVALID_ARGUMENT, "not connected");
    pair.connect();
    OK(sdr_ext_link_set(pair.a.qp, "duplicate 100%"));
    CHECK_EQ(sdr_ext_control_recv(pair.b.qp, &in, body, sizeof body), static_cast<int>(SDR_RETRY));
    uint32_t most = 0;
    OK(sdr_ext_control_size_max(pair.a.qp, &most));
    CHECK_EQ(most, 1024u - 12);
    for (uint32_t i = 0; i < most; i++) body[i] = static_cast<uint8_t>(i * 7);
    for (const uint32_t size : {0u, 1u, most}) {
      out = {static_cast<uint8_t>(size == 0 ? 64 : 255), size + 3, size};
      OK(sdr_ext_control_send(pair.a.qp, &out, body));
      std::vector<uint8_t> got(most);
      int result = SDR_RETRY;
      pair.wait("a control message", [&] {
        result = sdr_ext_control_recv(pair.b.qp, &in, got.data(), size == most ? 0 : most);
        return result != SDR_RETRY;
      });
      if (size == most) {  // there was no room for it: it stays
        check_error(__FILE__, __LINE__, SDR_EXT_TOO_LARGE, "1012 B");
        CHECK_EQ(in.size, most);
        result = sdr_ext_control_recv(pair.b.qp, &in, got.data(), got.size());
      }
      OK(result);
      CHECK_EQ(int{in.type}, int{out.type});
      CHECK_EQ(in.message, size + 3);
      CHECK_EQ(in.size, size);
      CHECK(std::memcmp(got.data(), body, size) == 0);
    }
    CHECK_EQ(sdr_ext_control_recv(pair.b.qp, &in, body, sizeof body), static_cast<int>(SDR_RETRY));
    out = {63, 0, 0};
    FAILS(sdr_ext_control_send(pair.a.qp, &out, body), SDR_EXT_INVALID_ARGUMENT, "type 63");
    out = {64, 0, most + 1};
    FAILS(sdr_ext_control_send(pair.a.qp, &out, body), SDR_EXT_TOO_LARGE, "1013 B");
  });
}

namespace {

// A receive that fails because the peer closes the connection.
void ends_with_its_peer(Pair& pair, sdr_recv_handle* open) {
  uint8_t* bitmap = nullptr;
  size_t bytes = 0;
  pair.wait("the end", [&] { return sdr_recv_bitmap_get(open, &bitmap, &bytes) == SDR_ERROR; });
  check_error(__FILE__, __LINE__, SDR_EXT_PEER_CLOSED, "closed");
}

}  // namespace

TEST(a_peer_that_closes_and_one_that_vanishes_are_told_apart) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    sdr_recv_handle* whole = receive(pair.b, pair.b.recv_wr(kChunk));
    sdr_recv_handle* open = receive(pair.b, pair.b.recv_wr(kChunk));
    CHECK_EQ(pair.injected(send(pair.a, pair.a.send_wr(kChunk))), static_cast<int>(SDR_SUCCESS));
    const sdr_ext_control last{70, 0, 0};
    OK(sdr_ext_control_send(pair.a.qp, &last, nullptr));
    pair.arrived(whole);
    OK(sdr_qp_destroy(pair.a.qp));
    pair.a.qp = nullptr;
    ends_with_its_peer(pair, open);
    uint8_t* bitmap = nullptr;
    size_t bytes = 0;
    OK(sdr_recv_bitmap_get(whole, &bitmap, &bytes));  // all of it had arrived
    CHECK(bit(bitmap, 0));
    FAILS(sdr_ext_qp_connected(pair.b.qp), SDR_EXT_PEER_CLOSED, "closed");
    sdr_recv_wr recv = pair.b.recv_wr(1);
    sdr_recv_handle* none = nullptr;
    FAILS(sdr_recv_post(pair.b.qp, &recv, &none), SDR_EXT_PEER_CLOSED, "closed");
    sdr_send_wr wr = pair.b.send_wr(1);
    sdr_send_handle* nothing = nullptr;
    FAILS(sdr_send_post(pair.b.qp, &wr, &nothing), SDR_EXT_PEER_CLOSED, "closed");
    sdr_ext_control control{};
    OK(sdr_ext_control_recv(pair.b.qp, &control, nullptr,
                            0));  // what had arrived before can be read
    CHECK_EQ(int{control.type}, 70);
    FAILS(sdr_ext_control_recv(pair.b.qp, &control, nullptr, 0), SDR_EXT_PEER_CLOSED, "closed");
    OK(sdr_recv_complete(whole));
    OK(sdr_recv_complete(open));

    Pair silent(device);
    silent.connect();
    OK(sdr_ext_qp_peer_timeout(silent.a.qp, 300));
    OK(sdr_ext_link_set(silent.b.qp, "loss 100%"));
    sdr_send_handle* waits = send(silent.a, silent.a.send_wr(10));
    CHECK_EQ(silent.injected(waits), static_cast<int>(SDR_ERROR));
    check_error(__FILE__, __LINE__, SDR_EXT_PEER_UNREACHABLE, "300 ms");
    FAILS(sdr_ext_qp_connected(silent.a.qp), SDR_EXT_PEER_UNREACHABLE, "300 ms");
    FAILS(sdr_ext_link_set(silent.a.qp, "none"), SDR_EXT_PEER_UNREACHABLE, "300 ms");
  });
}

TEST(a_close_over_a_path_that_has_become_slow_arrives) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    sdr_recv_handle* open = receive(pair.b, pair.b.recv_wr(kChunk));
    OK(sdr_ext_link_set(pair.a.qp, "delay 300ms"));
    OK(sdr_qp_destroy(pair.a.qp));
    pair.a.qp = nullptr;
    ends_with_its_peer(pair, open);
  });
}

TEST(an_end_that_closes_before_it_knows_its_path_tells_its_peer) {
  both([](const std::string& device) {
    Pair pair(device);
    OK(sdr_ext_link_set(pair.b.qp, "drop pong 1-1000000"));
    std::vector<char> info_a(Pair::size_of(pair.a.qp)), info_b(Pair::size_of(pair.b.qp));
    OK(sdr_qp_info_get(pair.a.qp, info_a.data()));
    OK(sdr_qp_info_get(pair.b.qp, info_b.data()));
    OK(sdr_qp_connect(pair.a.qp, info_b.data()));
    OK(sdr_qp_connect(pair.b.qp, info_a.data()));
    sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(kChunk));
    sdr_recv_handle* open = receive(pair.b, pair.b.recv_wr(kChunk));
    CHECK_EQ(pair.injected(send(pair.a, pair.a.send_wr(kChunk))), static_cast<int>(SDR_SUCCESS));
    pair.arrived(into);
    CHECK_EQ(sdr_ext_qp_connected(pair.a.qp), static_cast<int>(SDR_RETRY));
    OK(sdr_qp_destroy(pair.a.qp));
    pair.a.qp = nullptr;
    ends_with_its_peer(pair, open);
  });
}

TEST(the_context_lives_on_when_a_queue_pair_has_failed) {
  both([](const std::string& device) {
    Pair pair(device);
    pair.connect();
    OK(sdr_qp_destroy(pair.a.qp));
    OK(sdr_qp_destroy(pair.b.qp));
    sdr_qp_attr attr = attributes();
    pair.a.qp = sdr_qp_create(pair.a.ctx, &attr);
    pair.b.qp = sdr_qp_create(pair.b.ctx, &attr);
    CHECK(pair.a.qp != nullptr && pair.b.qp != nullptr);
    pair.connect();
    sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(kChunk));
    CHECK_EQ(pair.injected(send(pair.a, pair.a.send_wr(kChunk))), static_cast<int>(SDR_SUCCESS));
    pair.arrived(into);
  });
}

TEST(the_descriptor_and_the_wait_tell_of_changes) {
  Pair pair("udp");
  int fd = -1;
  OK(sdr_ext_event_fd(pair.b.ctx, &fd));
  pair.connect();
  while (sdr_ext_wait(pair.b.ctx, 0) == SDR_SUCCESS) {
  }
  sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(kChunk));
  sdr_send_handle* handle = send(pair.a, pair.a.send_wr(kChunk));
  sdr_ext_recv_info info{};
  while (!info.complete) {
    pollfd waiting{fd, POLLIN, 0};
    CHECK_EQ(poll(&waiting, 1, 60'000), 1);
    CHECK(sdr_ext_wait(pair.b.ctx, 0) == SDR_SUCCESS);
    OK(sdr_ext_recv_info_get(into, &info));
  }
  CHECK_EQ(pair.injected(handle), static_cast<int>(SDR_SUCCESS));
  OK(sdr_recv_complete(into));
  Pair emulated("emu");
  FAILS(sdr_ext_event_fd(emulated.a.ctx, &fd), SDR_EXT_UNSUPPORTED, "no descriptor");
}

TEST(virtual_time_is_the_same_in_each_run) {
  const auto run = [] {
    Pair pair("emu");
    pair.connect("rate 1gbit delay 5ms 1ms loss 5%");
    for (int i = 0; i < 20; i++) {
      sdr_recv_handle* into = receive(pair.b, pair.b.recv_wr(20 * kChunk));
      CHECK_EQ(pair.injected(send(pair.a, pair.a.send_wr(20 * kChunk))),
               static_cast<int>(SDR_SUCCESS));
      sdr_ext_recv_info info{};
      pair.wait("START", [&] {
        OK(sdr_ext_recv_info_get(into, &info));
        return info.length_known != 0;
      });
      OK(sdr_recv_complete(into));
    }
    int64_t now = 0;
    OK(sdr_ext_now_ns(pair.a.ctx, &now));
    sdr_ext_stats stats{};
    OK(sdr_ext_stats_get(pair.b.qp, &stats, sizeof stats));
    return std::pair(now, stats.packets_received);
  };
  const auto first = run();
  CHECK(first.first > 0 && first.second > 0);
  CHECK(first == run());
}

TEST(virtual_time_stands_still_while_the_peer_has_not_connected) {
  Pair pair("emu");
  std::vector<char> info_a(Pair::size_of(pair.a.qp)), info_b(Pair::size_of(pair.b.qp));
  OK(sdr_qp_info_get(pair.a.qp, info_a.data()));
  OK(sdr_qp_info_get(pair.b.qp, info_b.data()));
  OK(sdr_qp_connect(pair.a.qp, info_b.data()));
  int64_t now = -1;
  for (int i = 0; i < 10'000; i++)
    CHECK_EQ(sdr_ext_qp_connected(pair.a.qp), static_cast<int>(SDR_RETRY));
  OK(sdr_ext_now_ns(pair.a.ctx, &now));
  CHECK_EQ(now, int64_t{0});
  OK(sdr_qp_connect(pair.b.qp, info_a.data()));
  pair.wait("both", [&] {
    return sdr_ext_qp_connected(pair.a.qp) == SDR_SUCCESS &&
           sdr_ext_qp_connected(pair.b.qp) == SDR_SUCCESS;
  });
}

TEST(statistics_of_another_version_are_filled_as_far_as_known) {
  Pair pair("emu");
  struct {
    sdr_ext_stats stats;
    uint64_t later;
  } larger;
  std::memset(&larger, 0xff, sizeof larger);
  OK(sdr_ext_stats_get(pair.a.qp, &larger.stats, sizeof larger));
  CHECK_EQ(larger.later, uint64_t{0});
  larger.later = 5;
  OK(sdr_ext_stats_get(pair.a.qp, &larger.stats, 8));
  CHECK_EQ(larger.later, uint64_t{5});
}
