// Emulated devices: "emu:NAME". Contexts of one name share a world in virtual time, which moves on
// in calls that poll; with one thread a program's run is the same each time.
#include <map>
#include <utility>

#include "lib/domain.h"
#include "lib/error.h"
#include "sdr/emulated.h"

namespace sdr::lib {
namespace {

constexpr int64_t kProgressIntervalNs = 10'000;
constexpr size_t kNameBytesMax = 64;

class EmulatedDomain final : public Domain {
 public:
  EmulatedDomain(std::string name, uint64_t seed)
      : name_(std::move(name)), world_(seed, kProgressIntervalNs) {
    limits_ = {.name = "emu", .is_virtual = true};
  }

  int64_t now_ns() override { return world_.now_ns(); }

  QueuePair* create_qp(const QpConfig& config) override {
    sdr_status status = SDR_OK;
    QueuePair* qp = world_.create_qp(config, &status);
    if (qp == nullptr)
      fail(status == SDR_NO_MEMORY ? SDR_EXT_ENVIRONMENT : SDR_EXT_INVALID_ARGUMENT,
           "the queue pair was refused (status " + std::to_string(status) + ")",
           "use fewer or smaller messages");
    qps_[qp->id()].qp = qp;
    return qp;
  }

  std::string info(const QueuePair& qp) override {
    return R"({"transport":"emulated","world":)" + json_string("lib:" + name_) + R"(,"qp":)" +
           std::to_string(qp.id()) + "}";
  }

  // The second of the two connects both.
  void connect(QueuePair& qp, const Json& peer, const LinkConfig& link, uint64_t) override {
    const Json *world = peer.find("world"), *number = peer.find("qp");
    const auto id = number != nullptr ? number->whole(0, UINT32_MAX) : std::nullopt;
    const auto found = id ? qps_.find(static_cast<uint32_t>(*id)) : qps_.end();
    if (world == nullptr || world->string != "lib:" + name_ || found == qps_.end() ||
        found->second.qp == &qp)
      fail(SDR_EXT_PEER_INCOMPATIBLE,
           "the peer's info is not of another queue pair on emu:" + name_,
           "connect queue pairs of one emulated device, in one process");
    Emulated &self = qps_.at(qp.id()), &other = found->second;
    self.link = world_.add_link(link);
    self.wanted = other.qp->id();
    if (other.wanted != qp.id()) return;
    if (world_.connect(qp.id(), other.qp->id(), self.link, other.link) != SDR_OK)
      fail(SDR_EXT_PEER_INCOMPATIBLE, "the two queue pairs do not match",
           "give both the same attributes and number of channels");
  }

  void destroy_qp(QueuePair& qp) override {
    qp.close();  // its memory goes with the world
    qps_.erase(qp.id());
  }

  bool has_peer(const QueuePair& qp) const override {
    const auto self = qps_.find(qp.id());
    const auto other = self != qps_.end() ? qps_.find(self->second.wanted) : qps_.end();
    return other != qps_.end() && other->second.wanted == qp.id();
  }

  void rearm() override {}  // every step looks at the timers

  bool step(int64_t limit_ns) override {
    const int64_t target = std::max(std::min(next_timeout_ns(), limit_ns), now_ns());
    if (target == kNever && world_.idle()) return false;
    if (world_.events().empty()) world_.advance(target);
    changed_ |= turn();
    return true;
  }

  bool wait(std::unique_lock<std::mutex>&, int64_t timeout_ns) override {
    const int64_t limit_ns = timeout_ns < kNever - now_ns() ? now_ns() + timeout_ns : kNever;
    while (!changed_ && now_ns() < limit_ns && step(limit_ns)) {
    }
    return std::exchange(changed_, false);
  }

  int event_fd() override {
    fail(SDR_EXT_UNSUPPORTED, "an emulated device has no descriptor: its time moves in calls",
         "use sdr_ext_wait");
  }

 private:
  struct Emulated {
    QueuePair* qp = nullptr;
    uint32_t wanted = UINT32_MAX, link = 0;
  };
  EventQueue& events() override { return world_.events(); }

  const std::string name_;
  EmulatedWorld world_;
  std::map<uint32_t, Emulated> qps_;
  bool changed_ = false;
};

}  // namespace

std::shared_ptr<Domain> open_emulated(const std::string& rest, const DeviceOptions& options) {
  if (rest.empty() || rest.size() > kNameBytesMax)
    fail(SDR_EXT_INVALID_ARGUMENT, "emu: needs a name of 1 to 64 bytes", "use for example emu:lab");
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Domain>> worlds;
  const std::lock_guard lock(mutex);
  std::shared_ptr<Domain> world = worlds[rest].lock();
  if (!world) worlds[rest] = world = std::make_shared<EmulatedDomain>(rest, options.seed);
  return world;
}

}  // namespace sdr::lib
