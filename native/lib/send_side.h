// The sending direction of a queue pair: which messages wait for a CTS, which are under way, how
// recent ones ended. What src/sdk/send-side.ts does, for messages without a policy.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>

#include "lib/goodbyes.h"
#include "lib/handles.h"

namespace sdr::lib {

class SendSide {
 public:
  explicit SendSide(End& end) : end_(end) {}

  struct Options {
    bool has_immediate = false;
    uint32_t immediate = 0;
    bool length_known = false;
    uint64_t bytes = 0;
  };
  // Throws Failure; BUSY while no slot is free.
  sdr_send_handle& start(const Options& options);
  // Throws Failure; BUSY when no more can be queued.
  void add(sdr_send_handle& handle, Range range);
  // Nothing follows.
  void finish(sdr_send_handle& handle);
  void release(sdr_send_handle& handle) { pool_.put(handle); }

  void handle_injected(uint32_t work_request);
  void handle_cts(const Frame& frame, int64_t now_ns);
  void handle_close(uint32_t message, const Error& reason);
  void fail_all(const Error& error);
  void flush(int64_t now_ns);
  int64_t next_timeout_ns() const;
  bool is_waiting() const { return !handles_.empty() || !goodbyes_.empty(); }

 private:
  struct Ended {
    uint64_t bytes;
    bool has_immediate;
    uint32_t immediate;
  };
  void write_start(uint32_t message, const Ended& facts);
  void write_start(const sdr_send_handle& handle);
  void plan_start(sdr_send_handle& handle, int copies, int64_t now_ns);
  void open(sdr_send_handle& handle, const Frame& cts);
  void check_range(const sdr_send_handle& handle, const Range& range) const;
  bool post(sdr_send_handle& handle, Range& range);
  void pump(sdr_send_handle& handle);
  void abort(sdr_send_handle& handle, const Error& error, int64_t now_ns);
  void fail_handle(sdr_send_handle& handle, const Error& error);
  void settle(sdr_send_handle& handle);
  void answer(uint32_t message);

  End& end_;
  Pool<sdr_send_handle> pool_;
  std::map<uint32_t, sdr_send_handle*> handles_;
  std::map<uint32_t, Ended> ended_;  // the last two tables full, for receivers that have not heard
  std::map<uint32_t, Code> failures_;     // of messages whose receives may be posted much later
  std::map<uint32_t, Frame> clearances_;  // CTS of messages not posted yet
  std::map<uint32_t, Error> refusals_;    // messages not posted yet that the receiver has given up
  struct Work {
    sdr_send_handle* handle;
    Hold hold;
  };
  std::unordered_map<uint32_t, Work> work_;
  Goodbyes goodbyes_{Scope::send};
  uint32_t next_ = 0, next_work_ = 0;
};

}  // namespace sdr::lib
