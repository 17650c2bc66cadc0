// The public face of the emulated world.
#include "transport/emulated_core.h"

namespace sdr {

struct EmulatedWorld::State {
  emulated::Core core;
};

EmulatedWorld::EmulatedWorld(uint64_t seed, int64_t progress_interval_ns)
    : state_(new State{emulated::Core(seed, progress_interval_ns)}) {}
EmulatedWorld::~EmulatedWorld() = default;

uint32_t EmulatedWorld::add_link(const LinkConfig& config) { return state_->core.add_link(config); }

sdr_status EmulatedWorld::set_link(uint32_t link, const LinkConfig& config) {
  return state_->core.set_link(link, config);
}

LinkCounters EmulatedWorld::link_counters(uint32_t link) const {
  return link < state_->core.link_count() ? state_->core.link(link).link.counters()
                                          : LinkCounters{};
}

QueuePair* EmulatedWorld::create_qp(const QpConfig& config, sdr_status* status) {
  return state_->core.create_qp(config, status);
}

sdr_status EmulatedWorld::connect(uint32_t qp_a, uint32_t qp_b, uint32_t link_ab,
                                  uint32_t link_ba) {
  return state_->core.connect(qp_a, qp_b, link_ab, link_ba);
}

int64_t EmulatedWorld::now_ns() const { return state_->core.now_ns(); }
size_t EmulatedWorld::advance(int64_t limit_ns) { return state_->core.advance(limit_ns); }
bool EmulatedWorld::idle() const { return state_->core.idle(); }
EventQueue& EmulatedWorld::events() { return state_->core.events(); }
void EmulatedWorld::record_packets(size_t records_max) { state_->core.record_packets(records_max); }
std::vector<PacketRecord> EmulatedWorld::take_records() { return state_->core.take_records(); }

}  // namespace sdr
