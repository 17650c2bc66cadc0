// The UDP context: opens the channels, makes and finds queue pairs.
#include "sdr/udp.h"

#include <cerrno>
#include <map>
#include <new>

#include "transport/checks.h"
#include "transport/udp_queue_pair.h"

namespace sdr {
namespace {

using udp::Channel;
using udp::SocketAddress;
using udp::UdpQueuePair;

constexpr size_t kQueuePairsMax = 1024;

}  // namespace

struct UdpContext::State {
  udp::Environment environment;
  UdpCapabilities capabilities;
  uint32_t channel_count = 0;
  int family = 0;
  bool shut = false;
  std::vector<std::unique_ptr<Channel>> channels;
  std::vector<UdpAddress> addresses;
  std::map<uint32_t, std::unique_ptr<UdpQueuePair>> queue_pairs;  // after channels: closed before them
  uint32_t next_id = 0;

  // Null on error, with *error set.
  static std::unique_ptr<State> open(const UdpOptions& options, std::function<void()> wake,
                                     UdpError* error);
  void shutdown() {
    if (shut) return;
    shut = true;
    for (auto& [id, qp] : queue_pairs) qp->close();
    for (auto& channel : channels) channel->stop();
  }
  ~State() { shutdown(); }
};

UdpContext::UdpContext(std::unique_ptr<State> state) : state_(std::move(state)) {}
UdpContext::~UdpContext() = default;
void UdpContext::shutdown() { state_->shutdown(); }

std::unique_ptr<UdpContext> UdpContext::create(const UdpOptions& options, std::function<void()> wake,
                                               UdpError* error) {
  UdpError unwanted;
  if (error == nullptr) error = &unwanted;
  try {
    auto state = State::open(options, std::move(wake), error);
    return std::unique_ptr<UdpContext>(state ? new UdpContext(std::move(state)) : nullptr);
  } catch (const std::bad_alloc&) {
    *error = {ENOMEM, "memory"};
    return nullptr;
  }
}

std::unique_ptr<UdpContext::State> UdpContext::State::open(const UdpOptions& options,
                                                           std::function<void()> wake,
                                                           UdpError* error) {
  SocketAddress local;
  if (options.channels < 1 || options.channels > SDR_CHANNELS_MAX) {
    *error = {EINVAL, "channels"};
    return nullptr;
  }
  if (!udp::parse_address(options.address, options.port, &local)) {
    *error = {EINVAL, "address"};
    return nullptr;
  }
  auto state = std::make_unique<State>();
  state->environment.wake = wake ? std::move(wake) : [] {};
  state->environment.start_ns = state->environment.now_ns();  // which counts from 0 until now
  state->channel_count = options.channels;
  state->family = local.family();
  for (uint32_t i = 0; i < options.channels; i++) {
    if (i > 0 && !udp::parse_address(options.address, 0, &local)) return nullptr;
    Descriptor socket = udp::open_socket(local, options, &state->capabilities, error);
    if (socket.get() < 0) return nullptr;
    state->channels.push_back(std::make_unique<Channel>(i, std::move(socket), state->capabilities,
                                                        state->environment));
    state->addresses.push_back(udp::to_text(state->channels.back()->address()));
  }
  state->capabilities.payload_bytes_max = udp::payload_bytes_max(local);
  State* plain = state.get();
  state->environment.events.on_progress_drained([plain](uint32_t qp, uint32_t message) {
    const auto found = plain->queue_pairs.find(qp);
    if (found != plain->queue_pairs.end()) found->second->progress_drained(message);
  });
  for (auto& channel : state->channels) {
    if (const int number = channel->start(); number != 0) {
      *error = {number, "thread"};
      return nullptr;
    }
  }
  return state;
}

const UdpCapabilities& UdpContext::capabilities() const {
  // The kernel may have refused a segmented send since: what is said is what is done.
  if (state_->capabilities.gso)
    for (const auto& channel : state_->channels)
      if (!channel->gso()) state_->capabilities.gso = false;
  return state_->capabilities;
}

std::vector<UdpAddress> UdpContext::addresses() const { return state_->addresses; }
int64_t UdpContext::now_ns() const { return state_->environment.now_ns(); }
EventQueue& UdpContext::events() { return state_->environment.events; }
uint64_t UdpContext::unknown_datagrams() const {
  return state_->environment.unknown_datagrams.load(std::memory_order_relaxed);
}

std::vector<int64_t> UdpContext::worker_cpu_ns() const {
  std::vector<int64_t> all;
  for (const auto& channel : state_->channels) all.push_back(channel->cpu_ns());
  return all;
}

QueuePair* UdpContext::create_qp(const QpConfig& config, uint64_t receive_key, sdr_status* status) {
  sdr_status unwanted;
  if (status == nullptr) status = &unwanted;
  const auto refuse = [&](sdr_status why) {
    *status = why;
    return nullptr;
  };
  if (state_->shut) return refuse(SDR_CLOSED);
  if (state_->queue_pairs.size() >= kQueuePairsMax) return refuse(SDR_BUSY);
  const sdr_status checked = check_config(config);
  if (checked != SDR_OK) return refuse(checked);
  if (config.geometry.channels != state_->channel_count ||
      config.geometry.packet_bytes > state_->capabilities.payload_bytes_max) {
    return refuse(SDR_INVALID);
  }
  for (const auto& [id, qp] : state_->queue_pairs)
    if (!qp->closed() && qp->receive_key() == receive_key) return refuse(SDR_INVALID);
  sdr_rx* rx = nullptr;
  const sdr_status made = sdr_rx_create(&config.geometry, &rx);
  if (made != SDR_OK) return refuse(made);
  const uint32_t id = state_->next_id++;
  auto qp = std::make_unique<UdpQueuePair>(state_->environment, id, config, rx, receive_key,
                                           state_->channels);
  *status = SDR_OK;
  return state_->queue_pairs.emplace(id, std::move(qp)).first->second.get();
}

sdr_status UdpContext::connect(uint32_t qp, const std::vector<UdpAddress>& peer, uint64_t send_key,
                               const LinkConfig& link, uint64_t seed) {
  const auto found = state_->queue_pairs.find(qp);
  if (found == state_->queue_pairs.end()) return SDR_CLOSED;
  if (peer.size() != state_->channel_count) return SDR_INVALID;
  std::vector<SocketAddress> parsed(peer.size());
  for (size_t i = 0; i < peer.size(); i++) {
    if (peer[i].port == 0 || !udp::parse_address(peer[i].address, peer[i].port, &parsed[i]) ||
        parsed[i].family() != state_->family) {
      return SDR_INVALID;
    }
  }
  return found->second->connect(parsed, send_key, link, seed);
}

void UdpContext::destroy_qp(uint32_t qp) { state_->queue_pairs.erase(qp); }

}  // namespace sdr
