// Serves the native transports to a test process on another machine, over a byte stream: in a guest a virtio-serial
// port, in the local self-test a Unix socket. One client at a time, one request after another; what the client has
// made goes when it leaves. User memory is mirrored: the client writes to regions here before it posts them, and asks
// (sync) what has changed in them since. A second stream carries wake-ups: the number of a context whose events wait.
//   agent --ports RPC WAKE     character devices        agent --unix RPC WAKE     sockets that it listens on
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>

#include "agent_backend.h"
#include "transport/memory.h"

namespace sdr::vm {

namespace {

constexpr size_t kFrameBytesMax = 64u << 20;
constexpr size_t kEventsMax = 2048;  // as the binding's
constexpr size_t kBlockBytes = 1024;  // of a region: what differs from the mirror goes in such pieces
constexpr size_t kLineBytes = 64;     // the same of bitmaps

// As test/vm/wire.ts numbers them. region_write, region_drop, close_send and send_control are not answered: their
// failure is told with the next answer.
enum class Op : uint8_t {
  reset = 1, open, close, create_qp, info, connect, close_qp, drain, unknown_datagrams, failure,
  post_receive = 20, recover, set_length, complete, chunk_expand, user_immediate, chunks_done, open_send, post_send,
  close_send, send_control, last_heard, counters, set_link, grant, accept_grant,
  region_write = 50, region_drop, sync,
  shell = 60, die,
};

bool write_all(int fd, const uint8_t* at, size_t size) {
  while (size > 0) {
    const ssize_t n = ::write(fd, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

// From any thread. A client that is there gets it: it asks for events only when told that there are some.
void write_wake(int fd, uint32_t context) {
  while (::write(fd, &context, sizeof context) < 0 && (errno == EAGAIN || errno == EINTR)) {
    pollfd one{fd, POLLOUT, 0};
    if (::poll(&one, 1, -1) < 0 || (one.revents & POLLHUP) != 0) return;
  }
}

bool read_all(int fd, uint8_t* at, size_t size) {
  while (size > 0) {
    const ssize_t n = ::read(fd, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

// Copies to `mirror` what differs and appends it, as (offset, bytes) with `id` before.
void write_changes(Writer& out, uint32_t id, const uint8_t* live, std::vector<uint8_t>& mirror, size_t block,
                   uint32_t* count) {
  for (size_t at = 0; at < mirror.size(); at += block) {
    const size_t size = std::min(block, mirror.size() - at);
    if (std::memcmp(live + at, mirror.data() + at, size) == 0) continue;
    std::memcpy(mirror.data() + at, live + at, size);
    out.u32(id);
    out.whole(at);
    out.bytes(mirror.data() + at, size);
    ++*count;
  }
}

constexpr uint32_t kNoQp = UINT32_MAX;

struct MirroredRegion {
  RegionRef region;
  std::vector<uint8_t> mirror;  // what the client knows; grows with what it wrote
};

struct MirroredQp {
  QueuePair* qp;
  std::vector<uint8_t> mirror;  // of the bitmap slab
};

struct OpenContext {
  std::unique_ptr<Backend> backend;
  std::map<uint32_t, MirroredQp> queue_pairs;
};

class Agent {
 public:
  explicit Agent(int wake_fd) : wake_fd_(wake_fd) {}

  // Answers one request into `out`; false: it has no answer.
  bool handle(Reader& in, Writer& out);
  void reset() {
    contexts_.clear();
    regions_.clear();
    trouble_.clear();
  }

 private:
  void answer(Op op, uint32_t context, uint32_t qp, Reader& in, Writer& out);
  void answer_qp(Op op, MirroredQp& mirrored, Reader& in, Writer& out);
  void open(Reader& in, Writer& out);
  void drain(OpenContext& context, Writer& out);
  void create_qp(OpenContext& context, Reader& in, Writer& out);
  void write_bitmaps(OpenContext& context, Writer& out);
  void region_write(Reader& in);
  void sync(Reader& in, Writer& out);
  RegionRef region(uint32_t id);
  static void shell(Reader& in, Writer& out);

  const int wake_fd_;
  uint32_t next_context_ = 1;
  std::map<uint32_t, OpenContext> contexts_;
  std::map<uint32_t, MirroredRegion> regions_;
  std::vector<uint8_t> control_ = std::vector<uint8_t>(EventQueue::kControlBytesMax);
  std::vector<Event> events_ = std::vector<Event>(kEventsMax);
  std::string trouble_;  // of a request without answer: told with the next
};

void Agent::open(Reader& in, Writer& out) {
  const uint32_t id = next_context_++;
  OpenContext context;
  context.backend = open_backend(in, [fd = wake_fd_, id] { write_wake(fd, id); });
  out.u32(id);
  context.backend->write_capabilities(out);
  contexts_.emplace(id, std::move(context));
}

void Agent::create_qp(OpenContext& context, Reader& in, Writer& out) {
  const QpConfig config = read_config(in);
  sdr_status status = SDR_OK;
  QueuePair* qp = context.backend->create_qp(config, in, &status);
  out.u32(status);
  if (qp == nullptr) return;
  const sdr_bitmap_slab slab = qp->engine().bitmaps();
  context.queue_pairs.insert_or_assign(qp->id(), MirroredQp{qp, std::vector<uint8_t>(slab.bytes)});
  out.u32(qp->id());
  out.whole(slab.bytes);
  out.whole(slab.stride);
}

void Agent::write_bitmaps(OpenContext& context, Writer& out) {
  const size_t at = out.reserve32();
  uint32_t count = 0;
  for (auto& [id, mirrored] : context.queue_pairs)
    write_changes(out, id, mirrored.qp->engine().bitmaps().base, mirrored.mirror, kLineBytes, &count);
  out.set32(at, count);
}

void Agent::drain(OpenContext& context, Writer& out) {
  const size_t n = context.backend->events().drain(events_.data(), kEventsMax, control_.data());
  size_t control_bytes = 0;
  for (size_t i = 0; i < n; i++) {
    if (events_[i].type != static_cast<uint32_t>(EventType::control)) continue;
    control_bytes = std::max(control_bytes, static_cast<size_t>(events_[i].extra) + events_[i].value);
  }
  out.bytes(events_.data(), n * sizeof(Event));
  out.bytes(control_.data(), control_bytes);
}

RegionRef Agent::region(uint32_t id) {
  if (id == 0) return nullptr;
  const auto found = regions_.find(id);
  if (found == regions_.end()) throw std::runtime_error("there is no region " + std::to_string(id));
  return found->second.region;
}

// Makes the region at its first mention. An empty piece of bytes only makes it.
void Agent::region_write(Reader& in) {
  const uint32_t id = in.u32();
  const uint64_t bytes = in.whole();
  const uint64_t offset = in.whole();
  const uint32_t size = in.u32();
  const uint8_t* from = in.take(size);
  auto& mirrored = regions_[id];
  if (mirrored.region == nullptr) mirrored.region = map_region(bytes);
  if (mirrored.region == nullptr) throw std::runtime_error("no memory for a region of " + std::to_string(bytes));
  if (size == 0) return;
  if (offset > bytes || size > bytes - offset || bytes != mirrored.region->bytes)
    throw std::runtime_error("a write beyond region " + std::to_string(id));
  std::memcpy(mirrored.region->base + offset, from, size);
  mirrored.mirror.resize(bytes);
  std::memcpy(mirrored.mirror.data() + offset, from, size);
}

void Agent::sync(Reader& in, Writer& out) {
  const size_t at = out.reserve32();
  uint32_t count = 0;
  for (uint32_t n = in.u32(); n > 0; n--) {
    const uint32_t id = in.u32();
    const auto found = regions_.find(id);
    if (found == regions_.end()) continue;
    auto& [memory, mirror] = found->second;
    mirror.resize(memory->bytes);
    write_changes(out, id, memory->base, mirror, kBlockBytes, &count);
  }
  out.set32(at, count);
}

void Agent::shell(Reader& in, Writer& out) {
  const std::string command = in.text() + " 2>&1";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("popen failed");
  std::string text;
  char piece[4096];
  while (const size_t n = std::fread(piece, 1, sizeof piece, pipe)) text.append(piece, n);
  const int status = ::pclose(pipe);
  out.u32(WIFEXITED(status) ? static_cast<uint32_t>(WEXITSTATUS(status)) : 255);
  out.text(text);
}

void Agent::answer_qp(Op op, MirroredQp& mirrored, Reader& in, Writer& out) {
  QueuePair& qp = *mirrored.qp;
  switch (op) {
    case Op::post_receive: {
      const uint32_t message = in.u32();
      RegionRef memory = region(in.u32());
      const uint64_t offset = in.whole(), bytes = in.whole();
      Parity parity{region(in.u32()), in.whole(), in.u32()};
      return out.u32(qp.post_receive(message, std::move(memory), offset, bytes, std::move(parity)));
    }
    case Op::recover: {
      const uint32_t message = in.u32();
      const codec::Shape shape{static_cast<codec::Kind>(in.u8()), in.u32(), in.u32()};
      const auto code = codec::is_valid(shape) ? codec::Code::of(shape) : nullptr;
      if (code == nullptr) throw std::runtime_error("the code's shape is not valid");
      const BlockChunks block{in.u32(), in.u32(), in.u32(), in.u32()};
      Recovered recovered;
      out.u32(qp.recover(message, *code, block, &recovered));
      out.u32(recovered.chunks);
      out.u32(recovered.parity_used);
      return out.u8(recovered.complete);
    }
    case Op::set_length: {
      const uint32_t message = in.u32();
      bool complete = false;
      out.u32(qp.set_length(message, in.whole(), &complete));
      return out.u8(complete);
    }
    case Op::complete:
      out.u32(qp.complete(in.u32()));
      return sync(in, out);
    case Op::chunk_expand: {
      const uint32_t message = in.u32(), chunk = in.u32();
      std::vector<uint64_t> bits(std::min<uint32_t>(in.u32(), SDR_PACKETS_PER_CHUNK_MAX));
      out.u32(qp.engine().chunk_expand(message, chunk, bits.data(), bits.size()));
      return out.bytes(bits.data(), bits.size() * sizeof(uint64_t));
    }
    case Op::user_immediate: {
      uint32_t value = 0;
      out.u8(qp.engine().user_immediate(in.u32(), &value));
      return out.u32(value);
    }
    case Op::chunks_done: {
      sdr_rx_progress progress{};
      const bool known = qp.engine().progress(in.u32(), &progress) == SDR_OK;
      return out.u32(known ? progress.chunks_done : 0);
    }
    case Op::open_send: {
      const uint32_t message = in.u32();
      const uint64_t bytes = in.whole();
      return out.u32(qp.open_send(message, bytes, in.u32()));
    }
    case Op::post_send: {
      const uint32_t message = in.u32(), work_request = in.u32();
      RegionRef memory = region(in.u32());
      const uint64_t offset = in.whole();
      const uint32_t first = in.u32();
      return out.u32(qp.post_send(message, work_request, std::move(memory), offset, first, in.whole()));
    }
    case Op::close_send:
      qp.close_send(in.u32());
      return;
    case Op::send_control: {
      const uint32_t kind = in.u32();
      const auto bytes = in.bytes();
      const auto packet_kind = kind < kPacketKinds ? static_cast<PacketKind>(kind) : PacketKind::other;
      const sdr_status status = qp.send_control(packet_kind, bytes.data(), bytes.size());
      if (status == SDR_INVALID || status == SDR_TOO_LARGE)
        throw std::runtime_error("a control frame was refused with status " + std::to_string(status));
      return;
    }
    case Op::last_heard:
      return out.f64(static_cast<double>(qp.last_heard_ns()));
    case Op::counters:
      write_counters(out, qp.counters());
      return write_link_counters(out, qp.link_counters());
    case Op::set_link:
      return out.u32(qp.set_link(read_link(in)));
    case Op::grant: {
      uint8_t grant[kGrantBytesMax];
      return out.bytes(grant, qp.grant(in.u32(), grant));
    }
    case Op::accept_grant: {
      const uint32_t message = in.u32();
      const auto grant = in.bytes();
      return out.u32(qp.accept_grant(message, grant.data(), grant.size()));
    }
    default:
      throw std::runtime_error("no such request: " + std::to_string(static_cast<int>(op)));
  }
}

void Agent::answer(Op op, uint32_t context_id, uint32_t qp_id, Reader& in, Writer& out) {
  switch (op) {
    case Op::reset:
      return reset();
    case Op::open:
      return open(in, out);
    case Op::close:
      contexts_.erase(context_id);
      return;
    case Op::region_write:
      return region_write(in);
    case Op::region_drop:
      regions_.erase(in.u32());
      return;
    case Op::sync:
      return sync(in, out);
    case Op::shell:
      return shell(in, out);
    case Op::die:
      ::kill(::getpid(), SIGKILL);
      return;
    default:
      break;
  }
  const auto found = contexts_.find(context_id);
  if (found == contexts_.end()) throw std::runtime_error("the context is closed");
  OpenContext& context = found->second;
  if (op == Op::create_qp) return create_qp(context, in, out);
  if (op == Op::unknown_datagrams) return out.whole(context.backend->unknown_datagrams());
  if (op == Op::drain) {
    drain(context, out);
    return write_bitmaps(context, out);
  }
  if (op == Op::info && qp_id == kNoQp) return context.backend->write_info(qp_id, out);
  const auto mirrored = context.queue_pairs.find(qp_id);
  if (mirrored == context.queue_pairs.end()) throw std::runtime_error("the queue pair is closed");
  if (op == Op::info) return context.backend->write_info(qp_id, out);
  if (op == Op::failure) return out.text(context.backend->failure(qp_id));
  if (op == Op::connect) return out.u32(context.backend->connect(qp_id, in));
  if (op == Op::close_qp) {
    mirrored->second.qp->close();
    context.queue_pairs.erase(mirrored);
    return context.backend->destroy_qp(qp_id);
  }
  answer_qp(op, mirrored->second, in, out);
  // Counts go with bits that are at least as new.
  const bool shows_bits = (op >= Op::post_receive && op <= Op::complete) || op == Op::counters;
  if (shows_bits) write_bitmaps(context, out);
}

bool Agent::handle(Reader& in, Writer& out) {
  out.u32(in.u32());  // the request's number
  const auto op = static_cast<Op>(in.u8());
  const uint32_t context = in.u32(), qp = in.u32();
  Writer body;
  if (op == Op::region_write || op == Op::region_drop || op == Op::close_send || op == Op::send_control) {
    try {
      answer(op, context, qp, in, body);
    } catch (const std::exception& error) {
      trouble_ = error.what();
    }
    return false;
  }
  try {
    if (!trouble_.empty()) throw std::runtime_error(std::exchange(trouble_, {}));
    answer(op, context, qp, in, body);
    const auto found = contexts_.find(context);
    out.u8(0);
    out.f64(found == contexts_.end() ? 0 : static_cast<double>(found->second.backend->now_ns()));
    out.raw(body.out().data(), body.out().size());
  } catch (const BackendError& error) {
    out.u8(2);
    out.f64(error.number);
    for (const std::string* text : {&error.call, &error.what, &error.remedy, &error.code}) out.text(*text);
  } catch (const std::exception& error) {
    out.u8(1);
    out.f64(0);
    out.text(error.what());
  }
  return true;
}

// Until the client leaves.
void serve(int rpc, Agent& agent) {
  std::vector<uint8_t> frame;
  for (;;) {
    uint32_t size = 0;
    if (!read_all(rpc, reinterpret_cast<uint8_t*>(&size), sizeof size)) break;
    if (size > kFrameBytesMax) {
      std::fprintf(stderr, "agent: a frame of %u bytes\n", size);
      break;
    }
    frame.resize(size);
    if (!read_all(rpc, frame.data(), size)) break;
    Reader in(frame.data(), frame.size());
    Writer out;
    const size_t at = out.reserve32();
    try {
      if (!agent.handle(in, out)) continue;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "agent: %s\n", error.what());
      break;
    }
    out.set32(at, static_cast<uint32_t>(out.out().size() - sizeof size));
    if (!write_all(rpc, out.out().data(), out.out().size())) break;
  }
  agent.reset();
}

int listen_on(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, 1) != 0) {
    std::perror(path);
    std::exit(1);
  }
  return fd;
}

// One client, then the end.
int serve_sockets(const char* rpc_path, const char* wake_path) {
  const int rpc_listener = listen_on(rpc_path), wake_listener = listen_on(wake_path);
  std::puts("listening");
  std::fflush(stdout);
  const int wake = ::accept(wake_listener, nullptr, nullptr);
  const int rpc = ::accept(rpc_listener, nullptr, nullptr);
  if (wake < 0 || rpc < 0) return 1;
  ::fcntl(wake, F_SETFL, O_NONBLOCK);
  Agent agent(wake);
  serve(rpc, agent);
  return 0;
}

int serve_ports(const char* rpc_path, const char* wake_path) {
  const int rpc = ::open(rpc_path, O_RDWR), wake = ::open(wake_path, O_RDWR | O_NONBLOCK);
  if (rpc < 0 || wake < 0) {
    std::perror(rpc < 0 ? rpc_path : wake_path);
    return 1;
  }
  Agent agent(wake);
  for (;;) {
    serve(rpc, agent);
    // Without a client a port hangs up at once; nothing tells when the next one comes.
    for (pollfd one{rpc, POLLIN, 0}; ::poll(&one, 1, -1) > 0 && (one.revents & POLLHUP) != 0;) ::usleep(20'000);
  }
}

}  // namespace

}  // namespace sdr::vm

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  const std::string how = argc == 4 ? argv[1] : "";
  if (how == "--ports") return sdr::vm::serve_ports(argv[2], argv[3]);
  if (how == "--unix") return sdr::vm::serve_sockets(argv[2], argv[3]);
  std::fprintf(stderr, "usage: agent --ports RPC WAKE | --unix RPC WAKE\n");
  return 2;
}
