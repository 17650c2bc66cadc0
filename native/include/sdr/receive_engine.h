// A receive side's control path as queue pairs and the binding see it: the calls of sdr/engine.h, wherever the message
// table lives. It is an sdr_rx in this process (HostEngine), or in a device's memory, where only the device may touch
// it. Completions are stepped elsewhere, without virtual calls.
#pragma once

#include "sdr/engine.h"

namespace sdr {

// By the same names, with the same results, threads and ownership as sdr_rx_*. Additionally SDR_CLOSED when the device
// that holds the table no longer answers.
class ReceiveEngine {
 public:
  virtual ~ReceiveEngine() = default;
  virtual sdr_status post(uint32_t message, void* buffer, uint64_t bytes, void* parity, uint32_t parity_chunks) = 0;
  virtual sdr_status set_length(uint32_t message, uint64_t bytes, bool* complete) = 0;
  virtual sdr_status complete(uint32_t message) = 0;
  virtual sdr_status seal(uint32_t message, uint32_t first, uint32_t count, uint8_t* flags) = 0;
  virtual sdr_status fill(uint32_t message, uint32_t first, uint32_t count, const uint8_t* flags, bool* complete) = 0;

  virtual sdr_bitmap_slab bitmaps() const = 0;  // memory that the host can read; lives as long as this
  virtual sdr_status progress(uint32_t message, sdr_rx_progress* out) const = 0;
  virtual sdr_status chunk_expand(uint32_t message, uint32_t chunk, uint64_t* bits, size_t words) const = 0;
  virtual bool user_immediate(uint32_t message, uint32_t* value) const = 0;
  virtual void counters(uint64_t counts[SDR_STEP_KINDS]) const = 0;
};

// Over an sdr_rx in this process, which stays the caller's and outlives this.
class HostEngine final : public ReceiveEngine {
 public:
  explicit HostEngine(sdr_rx* rx) : rx_(rx) {}
  sdr_status post(uint32_t message, void* buffer, uint64_t bytes, void* parity, uint32_t parity_chunks) override {
    return sdr_rx_post_parity(rx_, message, buffer, bytes, parity, parity_chunks);
  }
  sdr_status set_length(uint32_t message, uint64_t bytes, bool* complete) override {
    return sdr_rx_set_length(rx_, message, bytes, complete);
  }
  sdr_status complete(uint32_t message) override { return sdr_rx_complete(rx_, message); }
  sdr_status seal(uint32_t message, uint32_t first, uint32_t count, uint8_t* flags) override {
    return sdr_rx_seal(rx_, message, first, count, flags);
  }
  sdr_status fill(uint32_t message, uint32_t first, uint32_t count, const uint8_t* flags, bool* complete) override {
    return sdr_rx_fill(rx_, message, first, count, flags, complete);
  }
  sdr_bitmap_slab bitmaps() const override { return sdr_rx_bitmaps(rx_); }
  sdr_status progress(uint32_t message, sdr_rx_progress* out) const override {
    return sdr_rx_progress_get(rx_, message, out);
  }
  sdr_status chunk_expand(uint32_t message, uint32_t chunk, uint64_t* bits, size_t words) const override {
    return sdr_rx_chunk_expand(rx_, message, chunk, bits, words);
  }
  bool user_immediate(uint32_t message, uint32_t* value) const override {
    return sdr_rx_user_immediate(rx_, message, value);
  }
  void counters(uint64_t counts[SDR_STEP_KINDS]) const override { sdr_rx_counters(rx_, counts); }

 private:
  sdr_rx* const rx_;
};

}  // namespace sdr
