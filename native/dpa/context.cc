// The DPA context: the device, its card, the thread that listens to them, and the queue pairs.
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <new>
#include <set>
#include <system_error>

#include "dpa/queue_pair.h"
#include "sdr/dpa.h"
#include "transport/checks.h"

namespace sdr {
namespace {

using dpa::Card;
using dpa::DpaQueuePair;
using dpa::EmulatedPlatform;

constexpr size_t kQueuePairsMax = 1024;
constexpr uint32_t kReceivesMax = 512;  // what DevicePair posts with the most generations
constexpr uint8_t kInfoMagic[4] = {'D', 'P', 'A', 1};
constexpr size_t kInfoBytes = sizeof(kInfoMagic) + sizeof(uint64_t);

// Queue pairs that the device has news of, until the host's thread has served them.
class News {
 public:
  void tell(uint32_t qp) {
    const std::lock_guard lock(mutex_);
    waiting_.insert(qp);
    told_.notify_one();
  }
  void stop() {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    told_.notify_all();
  }
  // Empty: stopping.
  std::set<uint32_t> wait() {
    std::unique_lock lock(mutex_);
    told_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    std::set<uint32_t> all;
    if (!stopping_) all.swap(waiting_);
    return all;
  }

 private:
  std::mutex mutex_;
  std::condition_variable told_;
  std::set<uint32_t> waiting_;
  bool stopping_ = false;
};

}  // namespace

struct DpaContext::State {
  Environment environment;
  DpaOptions options;
  DpaCapabilities capabilities;
  std::unique_ptr<EmulatedPlatform> platform;
  std::unique_ptr<Card> card;
  News news;
  std::thread listener;
  mutable std::mutex mutex;  // guards queue_pairs and owners
  std::map<uint32_t, std::shared_ptr<DpaQueuePair>> queue_pairs;
  std::map<uint32_t, std::weak_ptr<DpaQueuePair>> owners;  // by the card's queue number
  uint32_t next_id = 0;
  bool shut = false;

  std::shared_ptr<DpaQueuePair> find(uint32_t qp) const {
    const std::lock_guard lock(mutex);
    const auto found = queue_pairs.find(qp);
    return found == queue_pairs.end() ? nullptr : found->second;
  }
  void listen() {
    for (std::set<uint32_t> all = news.wait(); !all.empty(); all = news.wait())
      for (const uint32_t id : all)
        if (const auto qp = find(id)) qp->serve();
  }
  // From a packetiser, wherever it runs.
  void ring(uint32_t queue, uint16_t index) {
    std::shared_ptr<DpaQueuePair> qp;
    {
      const std::lock_guard lock(mutex);
      const auto found = owners.find(queue);
      if (found != owners.end()) qp = found->second.lock();
    }
    if (!qp) return;
    qp->ring(queue, index);
    card->poke();
  }
  void shutdown() {
    if (shut) return;
    shut = true;
    for (auto& [id, qp] : queue_pairs) qp->close();
    news.stop();
    if (listener.joinable()) listener.join();
    if (card) card->stop();
    if (platform) platform->device().stop();
  }
  ~State() {
    shutdown();
    queue_pairs.clear();  // they give memory back to the device
  }
};

DpaContext::DpaContext(std::unique_ptr<State> state) : state_(std::move(state)) {}
DpaContext::~DpaContext() = default;
void DpaContext::shutdown() { state_->shutdown(); }

std::unique_ptr<DpaContext> DpaContext::create(const DpaOptions& options, std::function<void()> wake,
                                               DeviceError* error) {
  DeviceError unwanted;
  if (error == nullptr) error = &unwanted;
  if (options.workers < 1 || options.workers > kDpaWorkersMax) {
    *error = {EINVAL, "INVALID_ARGUMENT", "workers " + std::to_string(options.workers) + " is not valid",
              "use 1 to " + std::to_string(kDpaWorkersMax)};
    return nullptr;
  }
  try {
    auto state = std::make_unique<State>();
    State* plain = state.get();
    state->environment.wake = wake ? std::move(wake) : [] {};
    state->environment.start_ns = state->environment.now_ns();  // which counts from 0 until now
    state->options = options;
    state->platform = std::make_unique<EmulatedPlatform>(options.workers);
    state->platform->device().on_doorbell([plain](uint32_t queue, uint16_t index) { plain->ring(queue, index); });
    state->card = std::make_unique<Card>([plain] { return plain->environment.now_ns(); });
    state->capabilities = {state->platform->name(), kReceivesMax};
    state->listener = std::thread([plain] { plain->listen(); });
    return std::unique_ptr<DpaContext>(new DpaContext(std::move(state)));
  } catch (const std::system_error& failure) {
    *error = {failure.code().value(), "ENVIRONMENT", "a thread could not be started",
              "raise the limit of threads (ulimit -u)"};
  } catch (const std::bad_alloc&) {
    *error = {ENOMEM, "ENVIRONMENT", "there is no memory for the emulated device", "free some memory"};
  }
  return nullptr;
}

const DpaCapabilities& DpaContext::capabilities() const { return state_->capabilities; }
int64_t DpaContext::now_ns() const { return state_->environment.now_ns(); }
EventQueue& DpaContext::events() { return state_->environment.events; }

QueuePair* DpaContext::create_qp(const QpConfig& config, sdr_status* status) {
  sdr_status unwanted;
  if (status == nullptr) status = &unwanted;
  *status = state_->shut ? SDR_CLOSED : check_config(config);
  if (*status != SDR_OK) return nullptr;
  if (config.geometry.channels != state_->options.workers) *status = SDR_INVALID;
  if (state_->queue_pairs.size() >= kQueuePairsMax) *status = SDR_BUSY;
  if (*status != SDR_OK) return nullptr;
  const uint32_t id = state_->next_id++;
  State* plain = state_.get();
  std::shared_ptr<DpaQueuePair> qp = DpaQueuePair::create(
      state_->environment, *state_->platform, *state_->card, id, config, [plain, id] { plain->news.tell(id); }, status);
  if (!qp) return nullptr;
  const std::lock_guard lock(state_->mutex);
  for (uint32_t generation = 0; generation < config.geometry.generations; generation++)
    for (uint32_t channel = 0; channel < config.geometry.channels; channel++)
      state_->owners.emplace(qp->device().queue_number(generation, channel), qp);
  return state_->queue_pairs.emplace(id, std::move(qp)).first->second.get();
}

std::vector<uint8_t> DpaContext::info(uint32_t qp) const {
  const auto found = state_->find(qp);
  if (!found) return {};
  std::vector<uint8_t> bytes(kInfoBytes);
  std::memcpy(bytes.data(), kInfoMagic, sizeof(kInfoMagic));
  const uint64_t number = found->fabric_number();
  std::memcpy(bytes.data() + sizeof(kInfoMagic), &number, sizeof(number));
  return bytes;
}

sdr_status DpaContext::connect(uint32_t qp, const std::vector<uint8_t>& peer_info, const LinkConfig& link,
                               uint64_t seed) {
  const auto found = state_->find(qp);
  if (!found) return SDR_CLOSED;
  if (peer_info.size() != kInfoBytes || std::memcmp(peer_info.data(), kInfoMagic, sizeof(kInfoMagic)) != 0)
    return SDR_INVALID;
  uint64_t number = 0;
  std::memcpy(&number, peer_info.data() + sizeof(kInfoMagic), sizeof(number));
  return found->connect(number, link, seed);
}

void DpaContext::destroy_qp(uint32_t qp) {
  const std::shared_ptr<DpaQueuePair> last = state_->find(qp);
  if (!last) return;
  last->close();  // without the lock: it waits for handlers, which may ring
  const std::lock_guard lock(state_->mutex);
  std::erase_if(state_->owners, [&](const auto& entry) { return entry.second.lock() == last; });
  state_->queue_pairs.erase(qp);
}

}  // namespace sdr
