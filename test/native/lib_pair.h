// Two connected ends of the C library in one process, over any device: what its tests are made of.
// They use nothing but the public headers.
#pragma once

#include <chrono>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "sdr.h"
#include "sdr_ext.h"
#include "sdr_mr.h"

namespace lib_test {

inline constexpr auto kPatience = std::chrono::seconds(60);
inline constexpr uint32_t kChunk = 4096;  // four packets of 1024

#define OK(call)                                                                                  \
  do {                                                                                            \
    const int ok_result = (call);                                                                 \
    if (ok_result != SDR_SUCCESS)                                                                 \
      check::fail(                                                                                \
          __FILE__, __LINE__,                                                                     \
          std::string(#call " gave ") + std::to_string(ok_result) + ": " + sdr_ext_error_text()); \
  } while (0)

// A call that must fail, with this code and a text that names what was wrong.
#define FAILS(call, code, part)                            \
  do {                                                     \
    CHECK_EQ((call), static_cast<int>(SDR_ERROR));         \
    lib_test::check_error(__FILE__, __LINE__, code, part); \
  } while (0)
#define GIVES_NULL(call, code, part)                       \
  do {                                                     \
    CHECK((call) == nullptr);                              \
    lib_test::check_error(__FILE__, __LINE__, code, part); \
  } while (0)

inline void check_error(const char* file, int line, sdr_ext_error code, const char* part) {
  const std::string text = sdr_ext_error_text();
  if (sdr_ext_error_code() != code || text.find(part) == std::string::npos)
    check::fail(file, line,
                std::string(sdr_ext_error_name(sdr_ext_error_code())) + ": " + text +
                    "; expected " + sdr_ext_error_name(code) + " with \"" + part + "\"");
}

inline sdr_qp_attr attributes() {
  sdr_qp_attr attr{};
  attr.bitmap_chunk_size_log_bytes = 12;
  attr.max_in_flight_log_bytes = 24;
  attr.max_log_num_msgs = 3;
  attr.mtu = SDR_MTU_1024;
  attr.send_enable = attr.recv_enable = 1;
  return attr;
}

struct Side {
  sdr_context* ctx = nullptr;
  sdr_qp* qp = nullptr;
  sdr_mr* mr = nullptr;
  uint32_t key = 0;
  std::vector<uint8_t> memory;

  uint64_t at(size_t offset) const { return reinterpret_cast<uint64_t>(memory.data() + offset); }
  sdr_send_wr send_wr(uint32_t length, size_t offset = 0) const {
    return {SDR_WR_WRITE, 0, length, key, at(offset), 0};
  }
  sdr_recv_wr recv_wr(uint32_t length, size_t offset = 0) const {
    return {length, key, at(offset)};
  }
  sdr_send_continue_wr continue_wr(uint32_t length, uint64_t chunk) const {
    return {length, at(chunk * kChunk), key, chunk};
  }
};

inline std::string device_of(const std::string& kind) {
  static int worlds = 0;
  return kind == "emu" ? "emu:test-" + std::to_string(worlds++) : "udp:127.0.0.1";
}

class Pair {
 public:
  Side a, b;

  explicit Pair(const std::string& kind, sdr_qp_attr attr = attributes(), size_t bytes = 1 << 20,
                uint32_t channels = 1) {
    const std::string device = device_of(kind);
    open(a, device, attr, bytes, channels);
    open(b, device, attr, bytes, channels);
    std::mt19937_64 random(11);
    for (uint8_t& byte : a.memory) byte = static_cast<uint8_t>(random());
  }
  ~Pair() {
    close(a);
    close(b);
  }
  void connect(const char* link = nullptr) {
    std::vector<char> info_a(size_of(a.qp)), info_b(size_of(b.qp));
    OK(sdr_qp_info_get(a.qp, info_a.data()));
    OK(sdr_qp_info_get(b.qp, info_b.data()));
    if (link != nullptr) OK(sdr_ext_link_set(a.qp, link));
    if (link != nullptr) OK(sdr_ext_link_set(b.qp, link));
    OK(sdr_qp_connect(a.qp, info_b.data()));
    OK(sdr_qp_connect(b.qp, info_a.data()));
    wait("both ends to connect", [&] {
      const int one = sdr_ext_qp_connected(a.qp), other = sdr_ext_qp_connected(b.qp);
      CHECK(one != SDR_ERROR && other != SDR_ERROR);
      return one == SDR_SUCCESS && other == SDR_SUCCESS;
    });
  }
  // Bounded by kPatience; looks again at each change, and each 2 ms.
  void wait(const char* what, const std::function<bool()>& done) {
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    while (!done()) {
      if (std::chrono::steady_clock::now() > limit)
        check::fail(__FILE__, __LINE__, std::string("waited in vain for ") + what);
      CHECK(sdr_ext_wait(a.ctx, 2'000'000) != SDR_ERROR);
    }
  }
  // Until the send is injected: what sdr_send_poll gave in the end.
  int injected(sdr_send_handle* send) {
    int result = SDR_RETRY, completed = 0;
    wait("a send", [&] {
      sdr_send_status status{~0u};
      result = sdr_send_poll(send, &completed, &status);
      CHECK_EQ(status.flags, 0u);
      return result != SDR_RETRY;
    });
    CHECK_EQ(completed, result == SDR_SUCCESS ? 1 : 0);
    return result;
  }
  sdr_ext_recv_info arrived(sdr_recv_handle* receive) {
    sdr_ext_recv_info info{};
    wait("a message", [&] {
      OK(sdr_ext_recv_info_get(receive, &info));
      return info.complete && info.length_known;
    });
    return info;
  }
  static size_t size_of(sdr_qp* qp) {
    size_t size = 0;
    OK(sdr_qp_info_size_get(qp, &size));
    return size;
  }
  static void close(Side& side) {
    if (side.qp != nullptr) OK(sdr_qp_destroy(side.qp));
    if (side.mr != nullptr) OK(sdr_mr_dereg(side.mr));
    if (side.ctx != nullptr) OK(sdr_context_destroy(side.ctx));
    side.qp = nullptr, side.mr = nullptr, side.ctx = nullptr;
  }

 private:
  static void open(Side& side, const std::string& device, sdr_qp_attr attr, size_t bytes,
                   uint32_t channels) {
    sdr_dev_attr dev{channels, 0};
    side.ctx = sdr_context_create(device.c_str(), &dev);
    if (side.ctx == nullptr) check::fail(__FILE__, __LINE__, sdr_ext_error_text());
    side.qp = sdr_qp_create(side.ctx, &attr);
    if (side.qp == nullptr) check::fail(__FILE__, __LINE__, sdr_ext_error_text());
    side.memory.resize(bytes);
    side.mr = sdr_mr_reg(side.ctx, side.memory.data(), bytes, SDR_ACCESS_REMOTE_WRITE);
    CHECK(side.mr != nullptr);
    OK(sdr_mr_lkey_get(side.mr, &side.key));
  }
};

// A bit of a live bitmap, as sdr.h says to read it.
inline bool bit(const uint8_t* bitmap, size_t chunk) {
  return (__atomic_load_n(&bitmap[chunk / 8], __ATOMIC_ACQUIRE) >> (chunk % 8) & 1) != 0;
}

inline constexpr const char* kDevices[] = {"emu", "udp"};

inline void both(void (*test)(const std::string& device)) {
  for (const char* device : kDevices) test(device);
}

inline sdr_send_handle* send(const Side& side, sdr_send_wr wr) {
  sdr_send_handle* handle = nullptr;
  OK(sdr_send_post(side.qp, &wr, &handle));
  return handle;
}

inline sdr_recv_handle* receive(const Side& side, sdr_recv_wr wr) {
  sdr_recv_handle* handle = nullptr;
  OK(sdr_recv_post(side.qp, &wr, &handle));
  return handle;
}

inline bool equal(const Pair& pair, size_t from, size_t to, size_t bytes) {
  return std::memcmp(pair.a.memory.data() + from, pair.b.memory.data() + to, bytes) == 0;
}

}  // namespace lib_test
