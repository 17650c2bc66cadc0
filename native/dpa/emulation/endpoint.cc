#include "dpa/emulation/endpoint.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sdr::dpa {

Endpoint::Endpoint(EmulatedDevice& device, const sdr_geometry& geometry, Control control, Failure failure)
    : device_(device),
      geometry_(geometry),
      control_(std::move(control)),
      failure_(std::move(failure)),
      queues_(size_t{geometry.generations} * geometry.channels),
      slots_(geometry.slots) {}

void Endpoint::add_queue(uint32_t number, const QueuePlace& place) {
  const std::lock_guard lock(mutex_);
  Queue& queue = queues_[place.generation * geometry_.channels + place.channel];
  queue.doorbell = reinterpret_cast<const uint32_t*>(place.doorbell);
  queue.cq = place.receive_cq;
  queue.number = number;
}

void Endpoint::bind(uint32_t slot, uint32_t life, const SlotMemory& memory) {
  const std::lock_guard lock(mutex_);
  slots_[slot] = {true, static_cast<uint8_t>(life), memory};
}

void Endpoint::unbind(uint32_t slot) {
  const std::lock_guard lock(mutex_);
  slots_[slot].live = false;
  slots_[slot].memory = {};
}

void Endpoint::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

void Endpoint::fail(int error) {
  if (failed_) return;
  failed_ = true;
  failure_(error);
}

// A write may reach over the end of a stretch: what is beyond goes nowhere.
void Endpoint::place(const Slot& slot, const WirePacket& packet) const {
  const SlotMemory& memory = slot.memory;
  const uint64_t end = packet.offset + packet.bytes;
  if (memory.buffer != nullptr && packet.offset < memory.bytes)
    std::memcpy(memory.buffer + packet.offset, packet.data, std::min(end, memory.bytes) - packet.offset);
  const uint64_t parity_end = memory.parity_offset + memory.parity_bytes;
  if (memory.parity == nullptr || packet.offset < memory.parity_offset || packet.offset >= parity_end) return;
  std::memcpy(memory.parity + (packet.offset - memory.parity_offset), packet.data,
              std::min(end, parity_end) - packet.offset);
}

void Endpoint::take(const WirePacket& packet, int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  if (closed_ || failed_ || packet.queue >= queues_.size()) return;
  last_heard_ns_.store(now_ns, std::memory_order_relaxed);
  Queue& queue = queues_[packet.queue];
  if (queue.doorbell == nullptr) return;
  const uint64_t index = (packet.key - kKey) >> 8;
  if (packet.key < kKey || index >= slots_.size() || !slots_[index].live ||
      slots_[index].life != (packet.key & 0xff)) {
    counts_.late++;
    return;
  }
  const auto posted = static_cast<uint16_t>(__builtin_bswap32(__atomic_load_n(queue.doorbell, __ATOMIC_ACQUIRE)));
  if (posted == queue.used) {
    counts_.no_receive++;
    return;
  }
  place(slots_[index], packet);
  sdr_dpa_cqe cqe{};
  cqe.immediate = __builtin_bswap32(packet.immediate);
  cqe.bytes = __builtin_bswap32(packet.bytes);
  cqe.queue = __builtin_bswap32(queue.number);
  cqe.wqe_counter = __builtin_bswap16(queue.used);
  cqe.op_own = SDR_DPA_CQE_WRITTEN_IMM << 4;
  queue.used++;
  if (device_.produce(queue.cq, cqe) == Produced::overrun) fail(EOVERFLOW);
}

void Endpoint::take_control(const uint8_t* bytes, size_t size, int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  last_heard_ns_.store(now_ns, std::memory_order_relaxed);
  counts_.control_received++;
  if (control_(now_ns, bytes, size) == EventQueue::Control::dropped) counts_.control_dropped++;
}

void Endpoint::take_corrupted() {
  const std::lock_guard lock(mutex_);
  counts_.bad_checksum++;
}

EndpointCounts Endpoint::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

Fabric& Fabric::instance() {
  static Fabric fabric;
  return fabric;
}

uint64_t Fabric::join(std::shared_ptr<Endpoint> endpoint) {
  const std::lock_guard lock(mutex_);
  endpoints_.emplace(next_, std::move(endpoint));
  return next_++;
}

void Fabric::leave(uint64_t number) {
  const std::lock_guard lock(mutex_);
  endpoints_.erase(number);
}

std::shared_ptr<Endpoint> Fabric::find(uint64_t number) const {
  const std::lock_guard lock(mutex_);
  const auto found = endpoints_.find(number);
  return found == endpoints_.end() ? nullptr : found->second;
}

}  // namespace sdr::dpa
