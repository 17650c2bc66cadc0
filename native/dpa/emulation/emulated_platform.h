// The emulated device as a Platform. Queue pairs of the card are but numbers, unless something of the card's is plugged
// in when they are made.
#pragma once

#include <functional>

#include "dpa/emulation/device.h"
#include "dpa/platform.h"

namespace sdr::dpa {

class EmulatedPlatform final : public Platform {
 public:
  // What the card has to know of queue pairs.
  class Plug {
   public:
    virtual ~Plug() = default;
    virtual void add_queue(uint32_t number, const QueuePlace& place) = 0;
    virtual void remove_queue(uint32_t number) = 0;
  };

  explicit EmulatedPlatform(uint32_t units) : device_(units) {}
  EmulatedDevice& device() { return device_; }
  void plug_in(Plug* plug) { plug_ = plug; }
  // A device that no longer answers, as a fault to inject.
  void fail_calls() { failed_.store(true); }

  std::string name() const override { return "dpa-emulated"; }
  uint64_t allocate(size_t bytes) override { return device_.allocate(bytes); }
  void free(uint64_t address) override { device_.free(address); }
  bool write(uint64_t to, const void* from, size_t bytes) override;
  bool open_window(void* base, size_t bytes, Window* window) override;
  void close_window(const Window& window) override { device_.remove_window(window.key); }
  uint32_t add_handler(Entry entry, uint64_t argument, uint32_t unit) override;
  bool start_handler(uint32_t handler) override;
  void remove_handler(uint32_t handler) override { device_.remove_handler(handler); }
  bool call(uint64_t argument, uint64_t* result) override;
  uint32_t add_cq(const CqPlace& place, uint32_t handler) override;
  uint32_t add_host_cq(std::function<void()> wake) override { return device_.add_host_cq(std::move(wake)); }
  void remove_cq(uint32_t number) override { device_.remove_cq(number); }
  uint32_t add_queue(const QueuePlace& place) override;
  void remove_queue(uint32_t number) override;

 private:
  EmulatedDevice device_;
  Plug* plug_ = nullptr;
  uint32_t next_queue_ = 0x100;
  std::atomic<bool> failed_{false};
};

}  // namespace sdr::dpa
