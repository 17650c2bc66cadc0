// The verbs context: opens the device and the channels, makes and finds queue pairs.
#include "sdr/verbs.h"

#if defined(SDR_HAVE_VERBS)

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <new>

#include "transport/checks.h"
#include "transport/verbs_queue_pair.h"

namespace sdr {
namespace {

using verbs::Channel;
using verbs::Device;
using verbs::VerbsQueuePair;

constexpr size_t kQueuePairsMax = 256;
constexpr uint32_t kUsualGenerations =
    4;  // of what capabilities tell; queue pairs with more have shorter queues

}  // namespace

struct VerbsContext::State {
  Environment environment;
  VerbsCapabilities capabilities;
  uint32_t channel_count = 0;
  bool shut = false;
  std::unique_ptr<Device> device;
  std::vector<std::unique_ptr<Channel>> channels;  // after the device: closed before it
  std::map<uint32_t, std::unique_ptr<VerbsQueuePair>> queue_pairs;  // after the channels
  uint32_t next_id = 0;

  static std::unique_ptr<State> open(const VerbsOptions& options, std::function<void()> wake,
                                     DeviceError* error);
  VerbsQueuePair* find(uint32_t id) const {
    const auto found = queue_pairs.find(id);
    return found == queue_pairs.end() ? nullptr : found->second.get();
  }
  void shutdown() {
    if (shut) return;
    shut = true;
    for (auto& [id, qp] : queue_pairs) qp->close();
    for (auto& channel : channels) channel->close();
    if (device) device->close();
  }
  ~State() { shutdown(); }
};

VerbsContext::VerbsContext(std::unique_ptr<State> state) : state_(std::move(state)) {}
VerbsContext::~VerbsContext() = default;
void VerbsContext::shutdown() { state_->shutdown(); }
bool VerbsContext::is_compiled() { return true; }

std::unique_ptr<VerbsContext> VerbsContext::create(const VerbsOptions& options,
                                                   std::function<void()> wake, DeviceError* error) {
  DeviceError unwanted;
  if (error == nullptr) error = &unwanted;
  try {
    auto state = State::open(options, std::move(wake), error);
    return std::unique_ptr<VerbsContext>(state ? new VerbsContext(std::move(state)) : nullptr);
  } catch (const std::bad_alloc&) {
    *error = {ENOMEM, "ENVIRONMENT", "there is no memory for a context", "end other programs"};
    return nullptr;
  }
}

std::unique_ptr<VerbsContext::State> VerbsContext::State::open(const VerbsOptions& options,
                                                               std::function<void()> wake,
                                                               DeviceError* error) {
  if (options.channels < 1 || options.channels > SDR_CHANNELS_MAX) {
    *error = {EINVAL, "INVALID_ARGUMENT",
              "channels " + std::to_string(options.channels) + " is not valid",
              "use 1 to " + std::to_string(int{SDR_CHANNELS_MAX})};
    return nullptr;
  }
  auto state = std::make_unique<State>();
  state->environment.wake = wake ? std::move(wake) : [] {};
  state->environment.start_ns = state->environment.now_ns();  // which counts from 0 until now
  state->channel_count = options.channels;
  state->device = Device::open(options, error);
  if (!state->device) return nullptr;
  Device& device = *state->device;
  const auto refuse = [&](int number, const char* what) {
    *error = {number, "ENVIRONMENT",
              options.device + " gives no " + what + ": " + std::strerror(number),
              "end other programs that use it, or use fewer channels"};
    return nullptr;
  };
  for (uint32_t i = 0; i < options.channels; i++) {
    state->channels.push_back(std::make_unique<Channel>(i, device, state->environment));
    if (state->channels.back()->open() == nullptr) return refuse(errno, "completion channel");
  }
  State* plain = state.get();
  state->environment.events.on_progress_drained([plain](uint32_t qp, uint32_t message) {
    if (VerbsQueuePair* found = plain->find(qp)) found->progress_drained(message);
  });
  for (auto& channel : state->channels)
    if (const int number = channel->start(); number != 0) return refuse(number, "thread");
  VerbsCapabilities& can = state->capabilities;
  can.device = options.device;
  can.driver = device.driver;
  can.port = device.port_number;
  can.gid_index = device.gid_index;
  can.gid = device.gid_text;
  can.link_layer = device.is_ethernet() ? "Ethernet" : "InfiniBand";
  can.mtu = device.mtu;
  can.dmabuf = device.has_dmabuf();
  can.reliable = options.reliable;
  can.keys = device.has_root_keys() ? KeyScheme::root : KeyScheme::per_message;
  can.receive_depth = verbs::Lane::receive_depth(device, kUsualGenerations);
  return state;
}

const VerbsCapabilities& VerbsContext::capabilities() const { return state_->capabilities; }
int64_t VerbsContext::now_ns() const { return state_->environment.now_ns(); }
EventQueue& VerbsContext::events() { return state_->environment.events; }

QueuePair* VerbsContext::create_qp(const QpConfig& config, sdr_status* status, DeviceError* error) {
  sdr_status ignored_status;
  DeviceError ignored_error;
  if (status == nullptr) status = &ignored_status;
  if (error == nullptr) error = &ignored_error;
  const auto refuse = [&](sdr_status why) {
    *status = why;
    return nullptr;
  };
  if (state_->shut) return refuse(SDR_CLOSED);
  if (state_->queue_pairs.size() >= kQueuePairsMax) return refuse(SDR_BUSY);
  const sdr_status checked = check_config(config);
  if (checked != SDR_OK) return refuse(checked);
  const sdr_geometry& geometry = config.geometry;
  if (geometry.channels != state_->channel_count || geometry.packet_bytes > state_->device->mtu)
    return refuse(SDR_INVALID);
  if (geometry.generations * geometry.channels > kVerbsQueuesMax) return refuse(SDR_INVALID);
  sdr_rx* rx = nullptr;
  const sdr_status made = sdr_rx_create(&geometry, &rx);
  if (made != SDR_OK) return refuse(made);
  const uint32_t id = state_->next_id++;
  auto qp = std::make_unique<VerbsQueuePair>(state_->environment, id, config, rx, *state_->device,
                                             state_->channels);
  if (!qp->open(error)) return refuse(SDR_NO_MEMORY);
  *status = SDR_OK;
  return state_->queue_pairs.emplace(id, std::move(qp)).first->second.get();
}

std::vector<uint8_t> VerbsContext::info(uint32_t qp) const {
  const VerbsQueuePair* found = state_->find(qp);
  return found == nullptr ? std::vector<uint8_t>{} : found->info();
}

sdr_status VerbsContext::connect(uint32_t qp, const uint8_t* info, size_t bytes,
                                 const LinkConfig& link, uint64_t seed, DeviceError* error) {
  DeviceError unwanted;
  VerbsQueuePair* found = state_->find(qp);
  return found == nullptr
             ? SDR_CLOSED
             : found->connect(info, bytes, link, seed, error == nullptr ? &unwanted : error);
}

std::string VerbsContext::failure(uint32_t qp) const {
  const VerbsQueuePair* found = state_->find(qp);
  return found == nullptr ? std::string() : found->failure();
}

DeviceError VerbsContext::refusal(uint32_t qp) const {
  const VerbsQueuePair* found = state_->find(qp);
  return found == nullptr ? DeviceError() : found->refusal();
}

void VerbsContext::destroy_qp(uint32_t qp) { state_->queue_pairs.erase(qp); }

std::vector<int64_t> VerbsContext::worker_cpu_ns() const {
  std::vector<int64_t> all;
  for (const auto& channel : state_->channels) all.push_back(channel->cpu_ns());
  return all;
}

}  // namespace sdr

#else

namespace sdr {

struct VerbsContext::State {
  VerbsCapabilities capabilities;
  EventQueue events;
};

VerbsContext::VerbsContext(std::unique_ptr<State> state) : state_(std::move(state)) {}
VerbsContext::~VerbsContext() = default;
bool VerbsContext::is_compiled() { return false; }

std::unique_ptr<VerbsContext> VerbsContext::create(const VerbsOptions&, std::function<void()>,
                                                   DeviceError* error) {
  if (error != nullptr) {
    *error = {
        0, "ENVIRONMENT",
        "this build has no verbs transport: rdma-core's headers were missing when it was made",
        "install them (Debian, Ubuntu: apt-get install libibverbs-dev) and build again: npm run "
        "build:native"};
  }
  return nullptr;
}

// No context is ever made: nothing below is reached.
void VerbsContext::shutdown() {}
const VerbsCapabilities& VerbsContext::capabilities() const { return state_->capabilities; }
int64_t VerbsContext::now_ns() const { return 0; }
QueuePair* VerbsContext::create_qp(const QpConfig&, sdr_status*, DeviceError*) { return nullptr; }
std::vector<uint8_t> VerbsContext::info(uint32_t) const { return {}; }
sdr_status VerbsContext::connect(uint32_t, const uint8_t*, size_t, const LinkConfig&, uint64_t,
                                 DeviceError*) {
  return SDR_CLOSED;
}
std::string VerbsContext::failure(uint32_t) const { return {}; }
DeviceError VerbsContext::refusal(uint32_t) const { return {}; }
void VerbsContext::destroy_qp(uint32_t) {}
EventQueue& VerbsContext::events() { return state_->events; }
std::vector<int64_t> VerbsContext::worker_cpu_ns() const { return {}; }

}  // namespace sdr

#endif
