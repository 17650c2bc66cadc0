// The host side for a DPA card (native/dpa/flexio) over shims onto the emulated device: the same program, the same
// DevicePair as everywhere else. It shows that this code does what it means to do; nothing about a device.
#include <chrono>
#include <thread>

#include "check.h"
#include "dpa/flexio/flexio_platform.h"
#include "dpa/flexio/prm.h"
#include "dpa/pair.h"
#include "flexio/shims.h"

using namespace sdr::dpa;
using sdr::flexio_shims::shims;

namespace {

constexpr uint32_t kPackets = 64, kPacketBytes = 1024, kPerChunk = 4, kUser = 0xdeadbeef;
constexpr uint64_t kBytes = uint64_t{kPackets} * kPacketBytes;

sdr_geometry geometry_of(uint32_t channels) {
  return {kPacketBytes, kPerChunk, 4, 2, channels, kBytes, {10, 18, 4}};
}

template <class Condition>
void wait_for(const char* what, Condition condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) check::fail(__FILE__, __LINE__, std::string("never: ") + what);
    std::this_thread::yield();
  }
}

std::unique_ptr<FlexioPlatform> open_platform() {
  shims() = {};
  FlexioOptions options;
  options.context = sdr::flexio_shims::context();
  options.pd = sdr::flexio_shims::pd();
  options.first_unit = 40;
  options.core_file = "/tmp/of-a-test";
  std::string why;
  auto platform = FlexioPlatform::create(options, &why);
  if (!platform) check::fail(__FILE__, __LINE__, why);
  return platform;
}

std::unique_ptr<DevicePair> make_pair(FlexioPlatform& platform, uint32_t channels, std::function<void()> wake = {}) {
  PairOptions options;
  options.geometry = geometry_of(channels);
  options.rq_log_sum = 8;
  options.wake = std::move(wake);
  sdr_status status = SDR_OK;
  auto pair = DevicePair::create(platform, options, &status);
  if (!pair) check::fail(__FILE__, __LINE__, "no pair: " + std::to_string(status) + " " + platform.failure());
  return pair;
}

void arrive(DevicePair& pair, const sdr_geometry& geometry, uint32_t message, uint32_t packet) {
  const sdr_tx_packet made = sdr_tx_make(&geometry, message, kBytes, packet, kUser);
  const uint32_t channel = made.queue % geometry.channels;
  sdr_dpa_cqe cqe{};
  cqe.immediate = __builtin_bswap32(made.immediate);
  cqe.bytes = __builtin_bswap32(made.bytes);
  cqe.queue = __builtin_bswap32(pair.queue_number(made.queue / geometry.channels, channel));
  cqe.op_own = SDR_DPA_CQE_WRITTEN_IMM << 4;
  CHECK(sdr::flexio_shims::device().produce(pair.receive_cq(channel), cqe) == Produced::written);
}

using QpCommand = Command<prm::kQpInBytes>;
uint64_t get64(const QpCommand& command, uint32_t bit) {
  return uint64_t{command.get({bit, 32})} << 32 | command.get({bit + 32, 32});
}
QpCommand command(size_t index) {
  CHECK(index < shims().commands.size());
  const std::vector<uint8_t>& bytes = shims().commands[index];
  CHECK_EQ(bytes.size(), QpCommand::size());
  QpCommand read;
  std::copy(bytes.begin(), bytes.end(), read.data());
  return read;
}

}  // namespace

TEST(a_message_is_received_through_the_host_side_for_a_card) {
  const auto platform = open_platform();
  CHECK_EQ(platform->name(), std::string("dpa"));
  for (const uint32_t channels : {1u, 2u}) {
    std::atomic<uint32_t> wakes{0};
    const auto pair = make_pair(*platform, channels, [&] { wakes++; });
    bool complete = false;
    for (uint32_t message = 0; message < 8; message++) {  // each slot twice
      const uint32_t before = wakes.load();
      CHECK_EQ(pair->post(message, nullptr, kBytes, nullptr, 0), SDR_OK);
      CHECK_EQ(pair->set_length(message, kBytes, &complete), SDR_OK);
      for (uint32_t packet = kPackets; packet > 0; packet--)
        arrive(*pair, geometry_of(channels), message, packet - 1);
      bool reported = false;
      wait_for("the message to be reported complete", [&] {
        std::vector<DevicePair::Change> changes;
        pair->take_changes(&changes);
        for (const auto& change : changes) reported |= change.message == message && change.complete;
        return reported;
      });
      wait_for("the host to be woken", [&] { return wakes.load() > before; });
      const sdr_bitmap_slab slab = pair->bitmaps();
      const auto* words = reinterpret_cast<const uint32_t*>(slab.base + message % 4 * slab.stride);
      CHECK_EQ(__atomic_load_n(words, __ATOMIC_ACQUIRE), (1u << kPackets / kPerChunk) - 1);
      sdr_rx_progress progress{};
      CHECK_EQ(pair->progress(message, &progress), SDR_OK);
      CHECK(progress.complete);
      uint32_t user = 0;
      CHECK(pair->user_immediate(message, &user));
      CHECK_EQ(user, kUser);
      CHECK_EQ(pair->complete(message), SDR_OK);
    }
    CHECK_EQ(sdr::flexio_shims::device().window_faults(), 0u);
    // Receive worker and packetiser of a channel share a unit, and other channels have others.
    const std::vector<uint32_t> units(shims().units.end() - 2 * channels, shims().units.end());
    for (uint32_t i = 0; i < units.size(); i++) CHECK_EQ(units[i], 40 + i / 2);
  }
}

TEST(queue_pairs_are_unreliable_ones_onto_the_devices_completion_queues) {
  const auto platform = open_platform();
  const auto pair = make_pair(*platform, 1);
  CHECK_EQ(shims().commands.size(), 2u);  // a queue pair a generation
  for (uint32_t generation = 0; generation < 2; generation++) {
    const QpCommand create = command(generation);
    CHECK_EQ(create.get(prm::kOpcode), 0x500u);
    CHECK_EQ(create.get(prm::kService), 1u);
    CHECK_EQ(create.get(prm::kPd), 99u);
    CHECK_EQ(create.get(prm::kUar), 55u);
    CHECK_EQ(create.get(prm::kCqReceive), pair->receive_cq(0));
    CHECK_EQ(create.get(prm::kLogSqSize), 7u);
    CHECK_EQ(create.get(prm::kLogRqSize) + 1, pair->receive_log());
    CHECK_EQ(create.get(prm::kWqUmemId), 77u);
    CHECK_EQ(create.get(prm::kWqUmemValid), 1u);
    CHECK_EQ(create.get(prm::kDoorbellUmemId), 77u);
    CHECK_EQ(create.get(prm::kDoorbellUmemValid), 1u);
    // Its receive ring: requests of no bytes, whose list ends at once.
    const uint64_t page = get64(create, prm::kWqUmemOffset);
    CHECK_EQ(page % 4096, 0u);
    const auto* ring = reinterpret_cast<const uint32_t*>(page + create.get(prm::kPageOffset) * SDR_DPA_LINE);
    for (uint32_t i = 0; i < 1u << create.get(prm::kLogRqSize); i++) {
      CHECK_EQ(ring[4 * i], 0u);
      CHECK_EQ(__builtin_bswap32(ring[4 * i + 1]), 0x100u);
    }
    const uint64_t doorbell = get64(create, prm::kDoorbell);
    CHECK_EQ(__builtin_bswap32(*reinterpret_cast<const uint32_t*>(doorbell)), 1u << create.get(prm::kLogRqSize));
  }
}

TEST(a_queue_pair_is_connected_in_three_steps) {
  const auto platform = open_platform();
  const auto pair = make_pair(*platform, 1);
  shims().commands.clear();
  UcPath path;
  path.queue = 0xabcdef;
  for (uint8_t i = 0; i < 16; i++) path.gid[i] = static_cast<uint8_t>(0x10 + i);
  for (uint8_t i = 0; i < 6; i++) path.mac[i] = static_cast<uint8_t>(0xa0 + i);
  path.gid_index = 3;
  path.traffic_class = 0x68;
  CHECK(platform->connect_queue(pair->queue_number(0, 0), path));
  CHECK_EQ(shims().commands.size(), 3u);
  const uint32_t opcodes[] = {0x502, 0x503, 0x504};
  for (size_t i = 0; i < 3; i++) {
    CHECK_EQ(command(i).get(prm::kOpcode), opcodes[i]);
    CHECK_EQ(command(i).get(prm::kQpn), pair->queue_number(0, 0));
  }
  CHECK_EQ(command(0).get(prm::kRemoteWrite), 1u);
  const QpCommand receive = command(1);
  CHECK_EQ(receive.get(prm::kMtu), 5u);
  CHECK_EQ(receive.get(prm::kRemoteQpn), 0xabcdefu);
  CHECK_EQ(receive.get(prm::kSourceGidIndex), 3u);
  CHECK_EQ(receive.get(prm::kDscp), 0x1au);
  CHECK_EQ(receive.get({prm::kRemoteGid, 32}), 0x10111213u);
  CHECK_EQ(receive.get({prm::kRemoteMac, 16}), 0xa0a1u);
  CHECK_EQ(receive.get({prm::kRemoteMac + 16, 32}), 0xa2a3a4a5u);

  path.mtu = 1500;
  CHECK(!platform->connect_queue(pair->queue_number(0, 0), path));
  CHECK(platform->failure().find("1500") != std::string::npos);
  CHECK(!platform->connect_queue(0xffffff, path));
  CHECK_EQ(shims().commands.size(), 3u);
}

TEST(without_a_process_there_is_no_platform_and_a_reason) {
  shims() = {};
  shims().no_process = true;
  FlexioOptions options;
  options.context = sdr::flexio_shims::context();
  options.pd = sdr::flexio_shims::pd();
  std::string why;
  CHECK(FlexioPlatform::create(options, &why) == nullptr);
  CHECK(why.find("flexio_process_create gave 1") != std::string::npos);
  CHECK_EQ(shims().open, 0);
}

TEST(a_card_that_refuses_the_queue_pair_gives_a_reason_and_leaves_nothing) {
  {
    const auto platform = open_platform();
    shims().no_queue_pairs = true;
    PairOptions options;
    options.geometry = geometry_of(1);
    sdr_status status = SDR_OK;
    CHECK(DevicePair::create(*platform, options, &status) == nullptr);
    CHECK_EQ(status, SDR_NO_MEMORY);
    CHECK(platform->failure().find("CREATE_QP") != std::string::npos);
    CHECK(platform->failure().find("status 3") != std::string::npos);
    CHECK_EQ(sdr::flexio_shims::device().objects(), 0u);
  }
  CHECK_EQ(shims().open, 0);
}

TEST(a_program_that_crashes_is_noticed_dumped_and_closed_to_the_host) {
  const auto platform = open_platform();
  std::atomic<uint32_t> wakes{0};
  const auto pair = make_pair(*platform, 1, [&] { wakes++; });
  CHECK_EQ(pair->post(0, nullptr, kBytes, nullptr, 0), SDR_OK);
  sdr::flexio_shims::crash();
  wait_for("the host to be woken", [&] { return wakes.load() > 0; });  // without asking the device for anything
  CHECK_EQ(pair->post(1, nullptr, kBytes, nullptr, 0), SDR_CLOSED);
  CHECK_EQ(pair->complete(0), SDR_CLOSED);
  CHECK_EQ(shims().core_file, std::string("/tmp/of-a-test"));
  CHECK(platform->failure().find("crashed") != std::string::npos);
}

TEST(everything_is_given_back_users_before_what_they_use) {
  {
    const auto platform = open_platform();
    {
      const auto pair = make_pair(*platform, 2);
      pair->stop();
      const auto& order = shims().order;
      const auto last = [&](const char* what) {
        return std::find(order.rbegin(), order.rend(), what).base() - order.begin();
      };
      const auto first = [&](const char* what) { return std::find(order.begin(), order.end(), what) - order.begin(); };
      CHECK_EQ(std::count(order.begin(), order.end(), std::string("queue pair")), 4);
      CHECK_EQ(std::count(order.begin(), order.end(), std::string("completion queue")), 4);
      CHECK_EQ(std::count(order.begin(), order.end(), std::string("handler")), 4);
      CHECK(first("queue pair") < first("completion queue"));
      CHECK(last("queue pair") <= last("completion queue"));
      CHECK(last("completion queue") <= last("handler"));
    }
    CHECK_EQ(sdr::flexio_shims::device().objects(), 0u);
    CHECK_EQ(shims().open, 3);  // process, window, channel
  }
  CHECK_EQ(shims().open, 0);
}
