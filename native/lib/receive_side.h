// The receiving direction of a queue pair: posted receives and their CTS, what is arriving, and how
// recent messages ended. What src/sdk/receive-side.ts does, for messages without a policy.
#pragma once

#include <cstdint>
#include <map>

#include "lib/goodbyes.h"
#include "lib/handles.h"

namespace sdr::lib {

class ReceiveSide {
 public:
  explicit ReceiveSide(End& end) : end_(end) {}

  // `memory` null for 0 bytes. Throws Failure; BUSY while no slot is free.
  sdr_recv_handle& post(MemoryRef memory, uint64_t offset, uint64_t bytes);
  void complete(sdr_recv_handle& handle);
  uint32_t chunks_done(const sdr_recv_handle& handle) const;

  void handle_progress(uint32_t message, bool complete);
  void handle_start(const Frame& frame, int64_t now_ns);
  void handle_done(uint32_t message) { goodbyes_.confirm(message); }
  void handle_close(uint32_t message, const Error& reason);
  void fail_all(const Error& error);
  void flush(int64_t now_ns);
  int64_t next_timeout_ns() const;
  bool is_waiting() const;

 private:
  void start(sdr_recv_handle& handle, const Frame& frame, bool* complete);
  void write_cts(sdr_recv_handle& handle, int64_t now_ns);
  void fail_handle(sdr_recv_handle& handle, const Error& error);

  End& end_;
  Pool<sdr_recv_handle> pool_;
  std::map<uint32_t, sdr_recv_handle*> handles_;  // until completed by the program
  std::map<uint32_t, Code> failures_;             // the last table full
  Goodbyes goodbyes_{Scope::receive};
  uint32_t next_ = 0;
};

}  // namespace sdr::lib
