// The yardsticks of the UDP transport, each between two processes on loopback, for one payload size:
//   raw UDP  one thread sends with UDP_SEGMENT as fast as it can; the receiver uses recvmmsg with UDP_GRO and lets the
//            kernel copy straight into its destination, with no header, checksum or bookkeeping. Goodput is what
//            arrives in a window that begins with the first datagram.
//   TCP      one stream, 256 KiB writes, reads into the same destination.
// What lies in the destination is compared with what was sent, after the clock has stopped.
//   engine   (with --engine) this product's channel threads, headers, checksums and bitmaps, without a policy: each
//            packet goes once, the receiver tells what it is done with, and counts what was placed.
//
// usage: udp_blast [--payload BYTES] [--seconds S] [--engine]      prints one JSON document
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "sdr/udp.h"

#if !defined(__linux__)
int main() {
  std::fprintf(stderr, "udp_blast: needs Linux (UDP_SEGMENT, UDP_GRO)\n");
  return 1;
}
#else

namespace {

constexpr size_t kDestinationBytes = 64u << 20;
constexpr size_t kSendBytesMax = 65507;
constexpr size_t kSegmentsMax = 64;
constexpr uint8_t kFill = 0x5a;  // every byte sent; destinations begin with zeros
constexpr uint64_t kEngineMessageBytes = 16u << 20;
constexpr uint32_t kEngineSlots = 8;
constexpr int kSocketBufferBytes = 16 << 20;

struct Options {
  uint32_t payload = 1400;
  double seconds = 2;
  bool engine = false;
};

// What a receiving process reports through a pipe.
struct Measured {
  double gbps = 0;
  uint64_t bytes = 0, lost = 0;
};

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

uint8_t* destination() {
  void* memory = mmap(nullptr, kDestinationBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) die("mmap");
  return static_cast<uint8_t*>(memory);
}

void verify(const uint8_t* memory, size_t bytes) {
  if (std::all_of(memory, memory + bytes, [](uint8_t byte) { return byte == kFill; })) return;
  std::fprintf(stderr, "udp_blast: the destination does not hold what was sent\n");
  std::exit(1);
}

int bound(int type, sockaddr_in* at) {
  const int fd = socket(AF_INET, type, 0);
  if (fd < 0) die("socket");
  *at = {};
  at->sin_family = AF_INET;
  at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof *at;
  if (bind(fd, reinterpret_cast<sockaddr*>(at), length) != 0) die("bind");
  if (getsockname(fd, reinterpret_cast<sockaddr*>(at), &length) != 0) die("getsockname");
  return fd;
}

void set(int fd, int level, int name, int value) { setsockopt(fd, level, name, &value, sizeof value); }

// Runs `send` in a child process until it is killed, `receive` here.
template <class Send, class Receive>
Measured two_processes(Send send, Receive receive) {
  const pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    send();
    _exit(0);
  }
  const Measured measured = receive();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return measured;
}

// ---- raw UDP ----

void blast(sockaddr_in to, uint32_t payload, uint64_t* sent) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  set(fd, SOL_SOCKET, SO_SNDBUF, kSocketBufferBytes);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) die("connect");
  set(fd, IPPROTO_UDP, UDP_SEGMENT, static_cast<int>(payload));
  const size_t burst = std::min(kSegmentsMax, kSendBytesMax / payload) * payload;
  const std::vector<uint8_t> source(4u << 20, kFill);
  size_t at = 0;
  while (true) {
    if (at + burst > source.size()) at = 0;
    const ssize_t done = send(fd, source.data() + at, burst, 0);
    if (done < 0 && errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED) die("send");
    if (done > 0) __atomic_fetch_add(sent, static_cast<uint64_t>(done), __ATOMIC_RELAXED);
    at += burst;
  }
}

Measured take_udp(int fd, double seconds, const uint64_t* sent) {
  constexpr size_t kBatch = 8, kBuffer = 65536;
  uint8_t* memory = destination();
  iovec iovs[kBatch];
  mmsghdr messages[kBatch] = {};
  std::vector<uint32_t> lengths(kDestinationBytes / kBuffer);  // most ever placed in each buffer
  size_t at = 0;
  uint64_t bytes = 0, sent_before = 0;
  double begin = 0;
  while (true) {
    if (at + kBatch * kBuffer > kDestinationBytes) at = 0;
    for (size_t i = 0; i < kBatch; i++) {
      iovs[i] = {memory + at + i * kBuffer, kBuffer};
      messages[i].msg_hdr.msg_iov = &iovs[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int count = recvmmsg(fd, messages, kBatch, MSG_WAITFORONE, nullptr);
    if (count < 0) die("recvmmsg");
    for (int i = 0; i < count; i++) {
      bytes += messages[i].msg_len;
      uint32_t& most = lengths[at / kBuffer + static_cast<size_t>(i)];
      most = std::max(most, messages[i].msg_len);
    }
    at += kBatch * kBuffer;
    const double now = now_s();
    if (begin == 0) {
      begin = now;
      bytes = 0;
      sent_before = __atomic_load_n(sent, __ATOMIC_RELAXED);
    } else if (now - begin >= seconds) {
      const uint64_t offered = __atomic_load_n(sent, __ATOMIC_RELAXED) - sent_before;
      for (size_t i = 0; i < lengths.size(); i++) verify(memory + i * kBuffer, lengths[i]);
      munmap(memory, kDestinationBytes);
      return {static_cast<double>(bytes) * 8 / (now - begin) / 1e9, offered,
              offered > bytes ? offered - bytes : 0};
    }
  }
}

Measured raw_udp(const Options& options) {
  sockaddr_in at;
  const int fd = bound(SOCK_DGRAM, &at);
  set(fd, SOL_SOCKET, SO_RCVBUF, kSocketBufferBytes);
  set(fd, SOL_SOCKET, SO_RCVBUFFORCE, kSocketBufferBytes);
  set(fd, IPPROTO_UDP, UDP_GRO, 1);
  auto* sent = static_cast<uint64_t*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (sent == MAP_FAILED) die("mmap");
  const Measured measured = two_processes([&] { blast(at, options.payload, sent); },
                                          [&] { return take_udp(fd, options.seconds, sent); });
  munmap(sent, 4096);
  close(fd);
  return measured;
}

// ---- TCP ----

Measured tcp(const Options& options) {
  sockaddr_in at;
  const int listener = bound(SOCK_STREAM, &at);
  if (listen(listener, 1) != 0) die("listen");
  const auto send_all = [&] {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) die("connect");
    const std::vector<uint8_t> source(256 * 1024, kFill);
    while (send(fd, source.data(), source.size(), MSG_NOSIGNAL) > 0) {
    }
  };
  const Measured measured = two_processes(send_all, [&]() -> Measured {
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    uint8_t* memory = destination();
    constexpr size_t kRead = 1 << 20;
    std::vector<uint32_t> lengths(kDestinationBytes / kRead);
    uint64_t bytes = 0;
    double begin = 0;
    for (size_t place = 0;; place = (place + kRead) % kDestinationBytes) {
      const ssize_t got = recv(fd, memory + place, kRead, 0);
      if (got <= 0) die("recv");
      bytes += static_cast<uint64_t>(got);
      lengths[place / kRead] = std::max(lengths[place / kRead], static_cast<uint32_t>(got));
      const double now = now_s();
      if (begin == 0) {
        begin = now;
        bytes = 0;
      } else if (now - begin >= options.seconds) {
        for (size_t i = 0; i < lengths.size(); i++) verify(memory + i * kRead, lengths[i]);
        close(fd);
        munmap(memory, kDestinationBytes);
        return {static_cast<double>(bytes) * 8 / (now - begin) / 1e9, bytes, 0};
      }
    }
  });
  close(listener);
  return measured;
}

// ---- the engine ----

// One end, with a main thread that sleeps until events come.
struct End {
  std::mutex mutex;
  std::condition_variable woken;
  bool awake = false;
  std::unique_ptr<sdr::UdpContext> context;
  sdr::QueuePair* qp = nullptr;
  std::vector<uint8_t> control = std::vector<uint8_t>(sdr::EventQueue::kControlBytesMax);

  End(uint32_t payload, uint64_t key) {
    sdr::UdpError error;
    context = sdr::UdpContext::create({}, [this] {
      const std::lock_guard lock(mutex);
      awake = true;
      woken.notify_one();
    }, &error);
    if (!context) {
      errno = error.number;
      die(error.call.c_str());
    }
    sdr::QpConfig config;
    const uint32_t packets_per_chunk = std::max<uint32_t>(1, 65536 / payload);
    config.geometry = {payload, packets_per_chunk, kEngineSlots, 4, 1, kEngineMessageBytes, {10, 18, 4}};
    sdr_status status = SDR_OK;
    qp = context->create_qp(config, key, &status);
    if (qp == nullptr) {
      std::fprintf(stderr, "udp_blast: payload %u was refused (%d)\n", payload, static_cast<int>(status));
      std::exit(1);
    }
  }
  // Sleeps up to 5 ms, then drains; `each` gets (event, control bytes).
  template <class Each>
  void wait(Each each) {
    {
      std::unique_lock lock(mutex);
      woken.wait_for(lock, std::chrono::milliseconds(5), [&] { return awake; });
      awake = false;
    }
    sdr::Event some[64];
    while (const size_t count = context->events().drain(some, 64, control.data()))
      for (size_t i = 0; i < count; i++) each(some[i], control.data() + static_cast<size_t>(some[i].extra));
  }
};

uint16_t exchange_port(int socket_fd, uint16_t mine) {
  uint16_t theirs = 0;
  if (write(socket_fd, &mine, sizeof mine) != sizeof mine) die("write");
  if (read(socket_fd, &theirs, sizeof theirs) != sizeof theirs) die("read");
  return theirs;
}

void engine_send(const Options& options, int pipe_fd) {
  End end(options.payload, 1);
  const uint16_t port = exchange_port(pipe_fd, end.context->addresses()[0].port);
  end.context->connect(end.qp->id(), {{"127.0.0.1", port}}, 2, {}, 1);
  std::vector<uint8_t> source(kEngineMessageBytes, kFill);
  const auto region = std::make_shared<const sdr::Region>(sdr::Region{source.data(), source.size()});
  uint32_t posted = 0, injected = 0, done = 0;
  while (true) {
    // Two in injection keep the channel's thread busy; the receiver has a slot for each that it is not done with.
    while (posted - injected < 2 && posted - done < kEngineSlots) {
      if (end.qp->open_send(posted, source.size(), 0) != SDR_OK) break;
      if (end.qp->post_send(posted, posted, region, 0, 0, source.size()) != SDR_OK) die("post_send");
      posted++;
    }
    end.wait([&](const sdr::Event& event, const uint8_t* bytes) {
      if (event.type == static_cast<uint32_t>(sdr::EventType::injected)) {
        injected++;
        end.qp->close_send(event.message);
      } else if (event.type == static_cast<uint32_t>(sdr::EventType::control)) {
        uint32_t told;
        std::memcpy(&told, bytes, sizeof told);
        done = std::max(done, told);
      }
    });
  }
}

Measured engine_receive(const Options& options, int pipe_fd) {
  End end(options.payload, 2);
  uint8_t* memory = destination();
  const auto region = std::make_shared<const sdr::Region>(sdr::Region{memory, kDestinationBytes});
  uint32_t posted = 0, done = 0, newest = 0;
  const auto post = [&] {
    bool complete = false;
    const uint64_t offset = posted * kEngineMessageBytes % kDestinationBytes;
    if (end.qp->post_receive(posted, region, offset, kEngineMessageBytes) != SDR_OK ||
        end.qp->set_length(posted, kEngineMessageBytes, &complete) != SDR_OK)
      die("post_receive");
    posted++;
  };
  while (posted < kEngineSlots) post();
  const uint16_t port = exchange_port(pipe_fd, end.context->addresses()[0].port);
  end.context->connect(end.qp->id(), {{"127.0.0.1", port}}, 1, {}, 2);
  const auto placed = [&] {
    const sdr::QpCounters c = end.qp->counters();
    return (c.steps[SDR_STEP_PACKET] + c.steps[SDR_STEP_CHUNK] + c.steps[SDR_STEP_MESSAGE]) * options.payload;
  };
  bool whole[kDestinationBytes / kEngineMessageBytes] = {};  // places where a message completed
  double begin = 0;
  uint64_t before = 0;
  uint32_t done_before = 0;
  while (true) {
    bool complete = false, quiet = true;
    end.wait([&](const sdr::Event& event, const uint8_t*) {
      quiet = false;
      if (event.value == 1) whole[event.message % std::size(whole)] = true;
      newest = std::max(newest, event.message);
      complete |= event.message == done && event.value == 1;
    });
    // Done with a message when it is complete, a later one is well under way, or nothing more comes.
    const uint32_t was = done;
    while (done < posted && (complete || newest > done + 1 || (quiet && newest >= done && begin != 0))) {
      end.qp->complete(done++);
      post();
      complete = false;
    }
    if (done != was)
      end.qp->send_control(sdr::PacketKind::ack, reinterpret_cast<const uint8_t*>(&done), sizeof done);
    const double now = now_s();
    if (begin == 0 && done > 0) {
      begin = now;
      before = placed();
      done_before = done;
    } else if (begin != 0 && now - begin >= options.seconds) {
      const uint64_t bytes = placed() - before;
      const uint64_t offered = (done - done_before) * kEngineMessageBytes;
      for (size_t i = 0; i < std::size(whole); i++)
        if (whole[i]) verify(memory + i * kEngineMessageBytes, kEngineMessageBytes);
      return {static_cast<double>(bytes) * 8 / (now - begin) / 1e9, offered, offered > bytes ? offered - bytes : 0};
    }
  }
}

Measured engine(const Options& options) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) die("socketpair");
  return two_processes([&] { engine_send(options, ends[0]); },
                       [&] { return engine_receive(options, ends[1]); });
}

double fraction(const Measured& measured) {
  return measured.bytes == 0 ? 0 : static_cast<double>(measured.lost) / static_cast<double>(measured.bytes);
}

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; i++) {
    const std::string name = argv[i];
    if (name == "--engine") {
      options->engine = true;
      continue;
    }
    if (i + 1 >= argc) return false;
    char* end = nullptr;
    const double value = std::strtod(argv[++i], &end);
    if (*end != '\0') return false;
    if (name == "--payload" && value >= 64 && value <= 65000) options->payload = static_cast<uint32_t>(value);
    else if (name == "--seconds" && value > 0 && value <= 60) options->seconds = value;
    else return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, &options)) {
    std::fprintf(stderr, "usage: udp_blast [--payload 64..65000] [--seconds 0..60] [--engine]\n");
    return 2;
  }
  const Measured udp = raw_udp(options);
  const Measured stream = tcp(options);
  std::printf("{\"payloadBytes\": %u, \"udpGbps\": %.2f, \"udpLossFraction\": %.4f, \"tcpGbps\": %.2f",
              options.payload, udp.gbps, fraction(udp), stream.gbps);
  std::fflush(stdout);
  if (options.engine) {
    const Measured own = engine(options);
    std::printf(", \"engineGbps\": %.2f, \"engineLossFraction\": %.4f", own.gbps, fraction(own));
  }
  std::printf(", \"verified\": true}\n");
  return 0;
}

#endif
