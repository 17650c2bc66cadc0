#include "dpa/emulation/emulated_platform.h"

#include <cstring>

namespace sdr::dpa {

bool EmulatedPlatform::write(uint64_t to, const void* from, size_t bytes) {
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return true;
}

bool EmulatedPlatform::open_window(void* base, size_t bytes, Window* window) {
  *window = {0, device_.add_window(base, bytes)};
  return true;
}

uint32_t EmulatedPlatform::add_handler(Entry entry, uint64_t argument, uint32_t unit) {
  return device_.add_handler(entry == Entry::receive ? sdr_dpa_receive : sdr_dpa_packetise, argument, unit);
}

bool EmulatedPlatform::start_handler(uint32_t handler) {
  device_.activate(handler);
  return true;
}

bool EmulatedPlatform::call(uint64_t argument, uint64_t* result) {
  if (failed_.load()) return false;
  *result = device_.call(sdr_dpa_control, argument);
  return true;
}

uint32_t EmulatedPlatform::add_cq(const CqPlace& place, uint32_t handler) {
  return device_.add_cq(place.ring, place.doorbell, place.log_entries, handler);
}

uint32_t EmulatedPlatform::add_queue(const QueuePlace& place) {
  const uint32_t number = next_queue_++;
  if (plug_ != nullptr) plug_->add_queue(number, place);
  return number;
}

void EmulatedPlatform::remove_queue(uint32_t number) {
  if (plug_ != nullptr) plug_->remove_queue(number);
}

}  // namespace sdr::dpa
