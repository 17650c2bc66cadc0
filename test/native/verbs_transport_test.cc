// The verbs transport between two contexts of one process, over emulated devices: what a key's
// revocation keeps out, what a failed queue says, what untrusted bytes can do, and the bytes of a
// key's update. Waits are bounded and on conditions.
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <random>

#include "check.h"
#include "sdr/verbs.h"
#include "transport/verbs_info.h"
#include "transport/verbs_root_key.h"

using namespace sdr;

namespace {

constexpr auto kPatience = std::chrono::seconds(60);
constexpr char kDevices[] =
    "device rxe0 rxe; port 1 active mtu 4096; gid 1 v2 10.0.0.1;"
    "device rxe1 rxe; port 1 active mtu 4096; gid 1 v2 10.0.0.2;"
    "device mlx0 mlx5; port 1 active mtu 4096; gid 3 v2 10.0.1.1;"
    "device mlx1 mlx5; port 1 active mtu 4096; gid 3 v2 10.0.1.2;";

// The library that the transport has loaded, or will.
struct Emulated {
  void* library;
  Emulated() {
    setenv("SDR_IBVERBS", SDR_EMULATED_IBVERBS, 1);
    setenv("SDR_MLX5", SDR_EMULATED_MLX5, 1);
    library = dlopen(SDR_EMULATED_IBVERBS, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) check::fail(__FILE__, __LINE__, dlerror());
  }
  void configure(const std::string& devices, const std::string& text) const {
    const auto call =
        reinterpret_cast<int (*)(const char*)>(dlsym(library, "sdr_emulated_configure"));
    CHECK_EQ(call((devices + text).c_str()), 0);
  }
  uint64_t count(const char* name) const {
    return reinterpret_cast<uint64_t (*)(const char*)>(dlsym(library, "sdr_emulated_count"))(name);
  }
};
const Emulated& emulated() {
  static const Emulated one;
  return one;
}

struct Setup {
  const char* devices[2] = {"rxe0", "rxe1"};
  uint32_t channels = 1, slots = 4, generations = 2, packet_bytes = 1024;
  bool reliable = false;
  std::string device_list = kDevices, config;
  KeyScheme keys() const { return devices[0][0] == 'm' ? KeyScheme::root : KeyScheme::per_message; }
};
Setup on_mlx5() {
  Setup setup;
  setup.devices[0] = "mlx0";
  setup.devices[1] = "mlx1";
  return setup;
}

struct End {
  std::unique_ptr<VerbsContext> context;
  QueuePair* qp = nullptr;
  std::vector<Event> events;
  std::vector<uint8_t> control = std::vector<uint8_t>(EventQueue::kControlBytesMax);
  void drain() {
    Event some[64];
    while (const size_t count = context->events().drain(some, 64, control.data()))
      events.insert(events.end(), some, some + count);
  }
  size_t count(EventType type, uint32_t message) const {
    return static_cast<size_t>(std::count_if(events.begin(), events.end(), [&](const Event& e) {
      return e.type == static_cast<uint32_t>(type) && e.message == message;
    }));
  }
  bool is_complete(uint32_t message) const {
    return std::any_of(events.begin(), events.end(), [&](const Event& e) {
      return e.type == static_cast<uint32_t>(EventType::progress) && e.message == message &&
             e.value == 1;
    });
  }
  bool has_failed() const { return count(EventType::error, 0) > 0; }
};

sdr_geometry geometry_of(const Setup& setup) {
  return {setup.packet_bytes, 4,        setup.slots, setup.generations,
          setup.channels,     1u << 20, {10, 18, 4}};
}

struct Pair {
  std::mutex mutex;
  std::condition_variable woken;
  uint64_t wakes = 0;
  End a, b;
  const Setup setup;

  explicit Pair(const Setup& with) : setup(with) {
    emulated().configure(setup.device_list, setup.config);
    open(a, setup.devices[0]);
    open(b, setup.devices[1]);
    connect(a, b);
    connect(b, a);
  }
  ~Pair() {
    a.context.reset();
    b.context.reset();
    CHECK_EQ(emulated().count("leaked"), uint64_t{0});
    CHECK_EQ(emulated().count("cq_overrun"), uint64_t{0});
  }
  void open(End& end, const char* device) {
    VerbsOptions options;
    options.device = device;
    options.channels = setup.channels;
    options.reliable = setup.reliable;
    DeviceError error;
    end.context = VerbsContext::create(
        options,
        [this] {
          const std::lock_guard lock(mutex);
          wakes++;
          woken.notify_all();
        },
        &error);
    if (!end.context) check::fail(__FILE__, __LINE__, error.what);
    QpConfig config;
    config.geometry = geometry_of(setup);
    sdr_status status = SDR_OK;
    end.qp = end.context->create_qp(config, &status, &error);
    if (end.qp == nullptr) check::fail(__FILE__, __LINE__, error.what);
    CHECK_EQ(end.context->capabilities().keys, setup.keys());
  }
  static void connect(End& from, const End& to) {
    const std::vector<uint8_t> info = to.context->info(to.qp->id());
    DeviceError error;
    CHECK_EQ(from.context->connect(from.qp->id(), info.data(), info.size(), {}, 1, &error), SDR_OK);
  }
  void wait(const char* what, const std::function<bool()>& done) {
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    while (true) {
      uint64_t seen;
      {
        const std::lock_guard lock(mutex);
        seen = wakes;
      }
      a.drain();
      b.drain();
      if (done()) return;
      if (std::chrono::steady_clock::now() > limit)
        check::fail(__FILE__, __LINE__, std::string("waited in vain for ") + what);
      std::unique_lock lock(mutex);
      woken.wait_for(lock, std::chrono::milliseconds(2), [&] { return wakes != seen; });
    }
  }
};

// Memory whose region says when its last reference goes.
struct Memory {
  std::shared_ptr<std::vector<uint8_t>> bytes;
  RegionRef region;
  explicit Memory(size_t size, uint32_t seed = 0)
      : bytes(std::make_shared<std::vector<uint8_t>>(size, 0xee)) {
    std::mt19937 random(seed);
    if (seed != 0)
      std::generate(bytes->begin(), bytes->end(), [&] { return static_cast<uint8_t>(random()); });
    region = RegionRef(new Region{bytes->data(), size},
                       [hold = bytes](const Region* gone) { delete gone; });
  }
};

void accept(Pair& pair, uint32_t message) {
  uint8_t grant[kGrantBytesMax];
  const size_t size = pair.b.qp->grant(message, grant);
  CHECK(size > 0);
  CHECK_EQ(pair.a.qp->accept_grant(message, grant, size), SDR_OK);
}

void begin(Pair& pair, uint32_t message, const Memory& from, const Memory& to) {
  CHECK_EQ(pair.b.qp->post_receive(message, to.region, 0, to.bytes->size()), SDR_OK);
  bool complete = false;
  CHECK_EQ(pair.b.qp->set_length(message, from.bytes->size(), &complete), SDR_OK);
  CHECK_EQ(pair.a.qp->open_send(message, from.bytes->size(), 0), SDR_OK);
  accept(pair, message);
}

void deliver(Pair& pair, uint32_t message, const Memory& from, const Memory& to) {
  begin(pair, message, from, to);
  CHECK_EQ(pair.a.qp->post_send(message, message, from.region, 0, 0, from.bytes->size()), SDR_OK);
  pair.wait("the message", [&] {
    return pair.b.is_complete(message) && pair.a.count(EventType::injected, message) == 1;
  });
  CHECK_EQ(pair.b.qp->complete(message), SDR_OK);
  CHECK(*from.bytes == *to.bytes);
}

// A list of devices with `limits` of each.
std::string with_limits(std::string devices, const std::string& limits) {
  for (size_t at = devices.find("; port"); at != std::string::npos;
       at = devices.find("; port", at + limits.size() + 6))
    devices.insert(at + 1, limits);
  return devices;
}

std::vector<Setup> both_schemes() { return {Setup{}, on_mlx5()}; }

}  // namespace

TEST(messages_arrive_in_slot_after_slot_and_regions_are_let_go) {
  for (Setup setup : both_schemes()) {
    for (const uint32_t channels : {1u, 3u}) {
      setup.channels = channels;
      Pair pair(setup);
      for (uint32_t message = 0; message < 40; message++) {
        const Memory from(1 + message * 1777, message + 1), to(from.bytes->size());
        deliver(pair, message, from, to);
        CHECK_EQ(to.region.use_count(), 1L);
        CHECK_EQ(pair.a.qp->close_send(message), SDR_OK);
        pair.wait("the sender to let go", [&] { return from.region.use_count() == 1; });
      }
    }
  }
}

// Before another message takes the slot, and after one has.
TEST(what_comes_after_complete_changes_nothing) {
  for (const Setup& setup : both_schemes()) {
    Pair pair(setup);
    const Memory from(50'000, 1), later(50'000, 2), next(50'000, 3), again(50'000), to(50'000);
    deliver(pair, 0, from, to);
    uint32_t posts = 1;
    const auto send_late = [&] {
      CHECK_EQ(pair.a.qp->post_send(0, 100 + posts, later.region, 0, 0, 50'000), SDR_OK);
      posts++;
      pair.wait("its injection", [&] { return pair.a.count(EventType::injected, 0) == posts; });
    };
    send_late();
    // A message behind it, on the same queues: all before has come.
    for (uint32_t message = 1; message < setup.slots; message++) {
      const Memory one(4096, 9), other(4096);
      deliver(pair, message, one, other);
      CHECK_EQ(pair.a.qp->close_send(message), SDR_OK);
    }
    CHECK(*to.bytes == *from.bytes);
    CHECK_EQ(pair.b.qp->post_receive(setup.slots, again.region, 0, 50'000), SDR_OK);
    send_late();
    CHECK_EQ(pair.a.qp->close_send(0), SDR_OK);
    bool complete = false;
    CHECK_EQ(pair.b.qp->set_length(setup.slots, 50'000, &complete), SDR_OK);
    CHECK_EQ(pair.a.qp->open_send(setup.slots, 50'000, 0), SDR_OK);
    accept(pair, setup.slots);
    CHECK_EQ(pair.a.qp->post_send(setup.slots, 1, next.region, 0, 0, 50'000), SDR_OK);
    pair.wait("the slot's next message", [&] { return pair.b.is_complete(setup.slots); });
    CHECK(*again.bytes == *next.bytes);
    CHECK(*to.bytes == *from.bytes);
    CHECK(!pair.a.has_failed() && !pair.b.has_failed());
  }
}

// Everything that the queues may hold at once, posted at once: nothing overflows (Pair's end
// checks).
TEST(as_much_as_may_be_under_way_overflows_no_completion_queue) {
  for (Setup setup : both_schemes()) {
    for (const bool is_small : {false, true}) {
      setup.packet_bytes = 256;
      setup.generations = 4;
      if (is_small)
        setup.device_list =
            with_limits(setup.device_list, "limit max_cqe 1024; limit max_qp_wr 1024;");
      Pair pair(setup);
      std::vector<Memory> from, to;
      for (uint32_t message = 0; message < setup.slots; message++) {
        from.emplace_back(1u << 20, message + 1);
        to.emplace_back(1u << 20);
        begin(pair, message, from.back(), to.back());
      }
      std::vector<uint8_t> datagram(200, 7);
      // Receives run out where the thread is late, and UC loses what finds none.
      for (uint32_t round = 0; round < 10; round++) {
        for (uint32_t message = 0; message < setup.slots; message++)
          CHECK_EQ(pair.a.qp->post_send(message, round, from[message].region, 0, 0, 1u << 20),
                   SDR_OK);
        for (int i = 0; i < 300; i++) {
          const sdr_status sent =
              pair.b.qp->send_control(PacketKind::other, datagram.data(), datagram.size());
          CHECK(sent == SDR_OK || sent == SDR_BUSY);
        }
        pair.wait("injection", [&] {
          for (uint32_t message = 0; message < setup.slots; message++)
            if (pair.a.count(EventType::injected, message) <= round) return false;
          return true;
        });
      }
      for (uint32_t message = 0; message < setup.slots; message++) {
        CHECK_EQ(pair.b.qp->complete(message), SDR_OK);
        CHECK_EQ(pair.a.qp->close_send(message), SDR_OK);
      }
      const Memory last(10'000, 99), arrived(10'000);
      deliver(pair, setup.slots, last, arrived);
      CHECK(!pair.a.has_failed() && !pair.b.has_failed());
    }
  }
}

TEST(shutdown_under_way_touches_no_memory_afterwards) {
  for (Setup setup : both_schemes()) {
    setup.channels = 2;
    setup.config = "delivery thread";
    for (int which = 0; which < 6; which++) {
      Pair pair(setup);
      const Memory from(1u << 20, 1), to(1u << 20);
      begin(pair, 0, from, to);
      for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(pair.a.qp->post_send(0, i, from.region, 0, 0, 1u << 20), SDR_OK);
      End& first = which % 2 == 0 ? pair.a : pair.b;
      End& second = which % 2 == 0 ? pair.b : pair.a;
      if (which < 4)
        pair.wait("some of it", [&] { return pair.b.count(EventType::progress, 0) > 0; });
      first.context->shutdown();
      const std::vector<uint8_t> as_left = *to.bytes;
      if (&first == &pair.b) {
        CHECK_EQ(to.region.use_count(), 1L);
        CHECK(*to.bytes == as_left);
      } else {
        CHECK_EQ(from.region.use_count(), 1L);
      }
      CHECK_EQ(first.qp->complete(0), SDR_CLOSED);
      second.context->shutdown();
      CHECK_EQ(from.region.use_count(), 1L);
      CHECK_EQ(to.region.use_count(), 1L);
    }
  }
}

// On RC a write to a revoked key ends the sender's queue: it says so by the cause, although its
// receives are flushed in the same moment, and read first.
TEST(a_failed_queue_tells_its_cause) {
  Setup setup;
  setup.reliable = true;
  for (int i = 0; i < 20; i++) {
    Pair pair(setup);
    const Memory from(50'000, 1), to(50'000);
    deliver(pair, 0, from, to);
    CHECK_EQ(pair.a.qp->post_send(0, 1, from.region, 0, 0, 50'000), SDR_OK);
    pair.wait("the failure", [&] { return pair.a.has_failed(); });
    const std::string why = pair.a.context->failure(pair.a.qp->id());
    if (why.find("remote access error") == std::string::npos ||
        why.find("data queue") == std::string::npos)
      check::fail(__FILE__, __LINE__, "the cause is: " + why);
    CHECK(pair.a.context->failure(pair.b.qp->id() + 7).empty());
  }
}

TEST(a_receive_whose_memory_cannot_be_registered_is_refused_with_the_reason) {
  for (const Setup& with : both_schemes()) {
    Setup setup = with;
    setup.config = "memlock 2000000";
    Pair pair(setup);
    CHECK(pair.b.context->refusal(pair.b.qp->id()).what.empty());
    const Memory large(1u << 20), small(4096), from(4096, 1);
    CHECK_EQ(pair.b.qp->post_receive(0, large.region, 0, 1u << 20), SDR_NO_MEMORY);
    const DeviceError error = pair.b.context->refusal(pair.b.qp->id());
    CHECK_EQ(error.number, ENOMEM);
    CHECK(error.what.find("1048576 B") != std::string::npos && !error.remedy.empty());
    CHECK_EQ(large.region.use_count(), 1L);
    CHECK(pair.b.context->failure(pair.b.qp->id()).empty());
    deliver(pair, 0, from, small);
  }
}

// The queue on which keys are changed fails by itself, between a receive's posting and its end:
// memory is safe all the same, and the queue pair says that it is of no more use.
TEST(a_root_key_that_cannot_be_changed_any_more_lets_nobody_write) {
  Setup setup = on_mlx5();
  // Two data queues, control, updates of the first end; the same of the second. Its entries'
  // updates, then the post's.
  setup.config =
      "break 8 after " + std::to_string(setup.slots * setup.generations + 1) + " general vendor 5";
  Pair pair(setup);
  const Memory from(50'000, 1), later(50'000, 2), to(50'000);
  begin(pair, 0, from, to);
  CHECK_EQ(pair.a.qp->post_send(0, 0, from.region, 0, 0, 50'000), SDR_OK);
  pair.wait("the message", [&] { return pair.b.is_complete(0); });
  CHECK_EQ(pair.b.qp->complete(0), SDR_OK);
  CHECK_EQ(to.region.use_count(), 1L);
  pair.wait("the failure", [&] { return pair.b.has_failed(); });
  CHECK(pair.b.context->failure(pair.b.qp->id()).find("memory key on mlx1") != std::string::npos);
  CHECK_EQ(pair.a.qp->post_send(0, 1, later.region, 0, 0, 50'000), SDR_OK);
  pair.wait("injection", [&] { return pair.a.count(EventType::injected, 0) == 2; });
  CHECK(*to.bytes == *from.bytes);
  CHECK_EQ(pair.b.qp->post_receive(1, later.region, 0, 50'000), SDR_NO_MEMORY);
  CHECK_EQ(later.region.use_count(), 1L);
}

TEST(infos_of_random_bytes_are_refused_in_words) {
  Pair pair(Setup{});
  const sdr_geometry geometry = geometry_of(pair.setup);
  const std::vector<uint8_t> good = pair.b.context->info(pair.b.qp->id());
  std::mt19937 random(7);
  verbs::Info info;
  DeviceError error;
  CHECK(verbs::read_info(good.data(), good.size(), geometry, &info, &error));
  for (int round = 0; round < 200'000; round++) {
    std::vector<uint8_t> bad = good;
    const uint32_t changes = 1 + random() % 8;
    for (uint32_t i = 0; i < changes; i++)
      bad[random() % bad.size()] = static_cast<uint8_t>(random());
    if (round % 3 == 0) bad.resize(random() % (2 * bad.size()));
    if (bad == good) continue;
    error = {};
    CHECK(!verbs::read_info(bad.data(), bad.size(), geometry, &info, &error));
    CHECK_EQ(error.code, std::string("PEER_INCOMPATIBLE"));
    CHECK(!error.what.empty() && !error.remedy.empty());
  }
}

// What a peer of this version, but none of good will, may write: the checksum holds.
TEST(infos_with_wild_values_are_refused_or_do_no_harm) {
  std::mt19937_64 random(8);
  const sdr_geometry geometry = geometry_of(Setup{});
  uint32_t taken = 0;
  for (int round = 0; round < 20'000; round++) {
    const auto number = [&] { return static_cast<uint32_t>(random() >> (random() % 64)); };
    verbs::Info wild;
    wild.ethernet = wild.has_gid = true;
    wild.mtu = random() % 2 ? 1024 : number() & 0xffff;
    wild.lid = static_cast<uint16_t>(random());
    for (uint8_t& byte : wild.gid.raw) byte = static_cast<uint8_t>(random());
    wild.control_number = number();
    wild.root = {number(), random() >> (random() % 64), random() >> (random() % 64)};
    wild.numbers = {{number(), number()}};
    const std::vector<uint8_t> bytes = verbs::write_info(wild);
    verbs::Info info;
    DeviceError error;
    if (!verbs::read_info(bytes.data(), bytes.size(), geometry, &info, &error)) {
      CHECK_EQ(error.code, std::string("PEER_INCOMPATIBLE"));
      continue;
    }
    taken++;
    CHECK(info.control_number <= 0xffffff && info.numbers[0][0] <= 0xffffff);
    // All entries lie within 64 bits, or there are none.
    const uint64_t strides = info.root.data_stride + info.root.parity_stride;
    CHECK(strides >= info.root.data_stride);
    CHECK(strides == 0 || geometry.slots * geometry.generations <= UINT64_MAX / strides);
  }
  CHECK(taken > 100 && taken < 19'000);
}

TEST(grants_of_random_bytes_are_refused_or_stay_within_what_they_say) {
  const sdr_geometry geometry = geometry_of(Setup{});
  verbs::RootAddress root;
  root.key = 77;
  root.data_stride = root.parity_stride = (1u << 20) + 1024;
  std::mt19937 random(9);
  uint32_t taken = 0;
  for (int round = 0; round < 200'000; round++) {
    uint8_t grant[kGrantBytesMax];
    for (uint8_t& byte : grant) byte = static_cast<uint8_t>(random());
    size_t size = random() % (kGrantBytesMax + 1);
    if (round % 2 == 0) {  // nearly right
      grant[0] = static_cast<uint8_t>(1 + random() % 2);
      grant[1] = grant[2] = grant[3] = 0;
      size = grant[0] == 1 ? 48 : 8;
    }
    const bool has_root = random() % 2 == 0;
    RemoteMemory memory;
    if (!verbs::read_grant(grant, size, geometry, random(), has_root ? root : verbs::RootAddress{},
                           &memory))
      continue;
    taken++;
    CHECK((size == 48 && grant[0] == 1) || (size == 8 && grant[0] == 2 && has_root));
    CHECK(memory.base + memory.bytes >= memory.base);
    CHECK(memory.parity_base + memory.parity_bytes >= memory.parity_base);
    if (size == 8)
      CHECK(memory.parity_base + memory.parity_bytes <=
            8 * (root.data_stride + root.parity_stride));
  }
  CHECK(taken > 1000);
  CHECK(!verbs::read_grant(nullptr, 0, geometry, 0, root, nullptr));
}

// A grant as far as the sender can check it, which points into nowhere: the card refuses, and
// nobody comes to harm.
TEST(a_grant_that_points_nowhere_writes_nothing) {
  Pair pair(Setup{});
  const Memory from(20'000, 1), to(20'000), next(20'000);
  CHECK_EQ(pair.b.qp->post_receive(0, to.region, 0, 20'000), SDR_OK);
  CHECK_EQ(pair.a.qp->open_send(0, 20'000, 0), SDR_OK);
  uint8_t grant[kGrantBytesMax];
  RemoteMemory nowhere;
  nowhere.base = UINT64_MAX - 20'000;
  nowhere.bytes = 20'000;
  nowhere.key = 0x12345678;
  CHECK_EQ(pair.a.qp->accept_grant(0, grant, verbs::write_grant(nowhere, grant)), SDR_OK);
  CHECK_EQ(pair.a.qp->post_send(0, 0, from.region, 0, 0, 20'000), SDR_OK);
  pair.wait("injection", [&] { return pair.a.count(EventType::injected, 0) == 1; });
  CHECK_EQ(pair.a.qp->close_send(0), SDR_OK);
  deliver(pair, 1, from, next);
  CHECK_EQ(emulated().count("bad_key"), uint64_t{20});
  CHECK(*to.bytes == std::vector<uint8_t>(20'000, 0xee));
  // Shorter than the message: refused.
  CHECK_EQ(pair.a.qp->open_send(2, 20'000, 0), SDR_OK);
  nowhere.bytes = 19'999;
  CHECK_EQ(pair.a.qp->accept_grant(2, grant, verbs::write_grant(nowhere, grant)), SDR_INVALID);
}

// By hand from mlx5dv.h: mlx5_wqe_ctrl_seg, mlx5_wqe_umr_ctrl_seg, mlx5_wqe_mkey_context_seg,
// mlx5_wqe_umr_klm_seg.
TEST(a_keys_update_is_as_the_device_reads_it) {
  verbs::Update update;
  update.queue_number = 0x00abcdef;
  update.key = 0x11223300;
  update.entry = 3;
  update.key_bytes = 0x0000000102030405;
  update.pieces[0] = {0x00100000, 0xaabbcc00, 0x00007f0012345678};
  update.pieces[1] = {0x400, 0x00000100, 0};
  update.pieces[2] = {0x2000, 0xddeeff00, 0x00007f00deadbeef};
  update.pieces[3] = {0xfe400, 0x00000100, 0};
  uint8_t out[verbs::kUpdateBytes];
  verbs::write_update(update, out);
  const std::vector<uint8_t> wanted = {
      // control: opcode 0x25; queue number and 12 units of 16 bytes; signature, stream; CQ update;
      // the key
      0, 0, 0, 0x25, 0xab, 0xcd, 0xef, 0x0c, 0, 0, 0, 0x08, 0x11, 0x22, 0x33, 0x00,
      // UMR control: inline, translation offset; 4 entries; from entry 12
      0x90, 0, 0, 0, 0x00, 0x04, 0x00, 0x0c,
      // mask: free (29), remote write (20), local write (18), start address (6), length (0)
      0, 0, 0, 0, 0x20, 0x14, 0x00, 0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      // key context: not free; remote write, local write, local read; numbers and flags; start 0;
      // length
      0, 0, 0x2c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01,
      0x02, 0x03, 0x04, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      0, 0, 0, 0, 0, 0, 0, 0, 0,
      // entries: byte count, key, address
      0x00, 0x10, 0x00, 0x00, 0xaa, 0xbb, 0xcc, 0x00, 0x00, 0x00, 0x7f, 0x00, 0x12, 0x34, 0x56,
      0x78, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x01, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x00,
      0x20, 0x00, 0xdd, 0xee, 0xff, 0x00, 0x00, 0x00, 0x7f, 0x00, 0xde, 0xad, 0xbe, 0xef, 0x00,
      0x0f, 0xe4, 0x00, 0x00, 0x00, 0x01, 0x00, 0, 0, 0, 0, 0, 0, 0, 0};
  CHECK_EQ(wanted.size(), sizeof out);
  for (size_t i = 0; i < sizeof out; i++)
    if (out[i] != wanted[i])
      check::fail(__FILE__, __LINE__,
                  "byte " + std::to_string(i) + " is " + std::to_string(out[i]) + ", not " +
                      std::to_string(wanted[i]));
  // Later ones change entries only: neither length nor rights.
  update.key_bytes = 0;
  verbs::write_update(update, out);
  CHECK(std::equal(out + 24, out + 32, std::vector<uint8_t>{0, 0, 0, 0, 0x20, 0, 0, 0}.begin()));
  CHECK(std::all_of(out + 64, out + 128, [](uint8_t byte) { return byte == 0; }));
}
