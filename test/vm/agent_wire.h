// Frames between the test process and an agent: little-endian numbers in a fixed order, lengths before bytes. What is
// read is checked against the frame's end; a frame that makes no sense throws, and the agent answers with the reason.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "sdr/transport.h"

namespace sdr::vm {

class Reader {
 public:
  Reader(const uint8_t* at, size_t bytes) : at_(at), end_(at + bytes) {}

  uint8_t u8() { return number<uint8_t>(); }
  uint32_t u32() { return number<uint32_t>(); }
  uint64_t u64() { return number<uint64_t>(); }
  double f64() { return number<double>(); }
  // Whole numbers below 2^53 come as doubles, as JavaScript has them.
  uint64_t whole() { return static_cast<uint64_t>(f64()); }
  std::string text() {
    const auto bytes = this->bytes();
    return {bytes.begin(), bytes.end()};
  }
  std::vector<uint8_t> bytes() {
    const size_t size = u32();
    const uint8_t* from = take(size);
    return {from, from + size};
  }
  size_t left() const { return static_cast<size_t>(end_ - at_); }
  const uint8_t* take(size_t size) {
    if (size > left()) throw std::runtime_error("the frame is too short");
    const uint8_t* from = at_;
    at_ += size;
    return from;
  }

 private:
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  const uint8_t* at_;
  const uint8_t* end_;
};

class Writer {
 public:
  void u8(uint8_t value) { raw(&value, 1); }
  void u32(uint32_t value) { raw(&value, sizeof value); }
  void f64(double value) { raw(&value, sizeof value); }
  void whole(uint64_t value) { f64(static_cast<double>(value)); }
  void bytes(const void* data, size_t size) {
    u32(static_cast<uint32_t>(size));
    raw(data, size);
  }
  void text(const std::string& value) { bytes(value.data(), value.size()); }
  void raw(const void* data, size_t size) {
    const auto* from = static_cast<const uint8_t*>(data);
    out_.insert(out_.end(), from, from + size);
  }
  // A number whose value is known later.
  size_t reserve32() {
    u32(0);
    return out_.size() - 4;
  }
  void set32(size_t at, uint32_t value) { std::memcpy(out_.data() + at, &value, sizeof value); }
  std::vector<uint8_t>& out() { return out_; }

 private:
  std::vector<uint8_t> out_;
};

inline QpConfig read_config(Reader& in) {
  QpConfig config;
  sdr_geometry& g = config.geometry;
  g.packet_bytes = in.u32();
  g.packets_per_chunk = in.u32();
  g.slots = in.u32();
  g.generations = in.u32();
  g.channels = in.u32();
  g.max_message_bytes = in.whole();
  g.split = {in.u8(), in.u8(), in.u8()};
  config.rate_bps = in.f64();
  config.work_requests_max = in.u32();
  return config;
}

inline LinkConfig read_link(Reader& in) {
  LinkConfig link;
  link.rate_bps = in.f64();
  link.packet_overhead_bytes = static_cast<int32_t>(in.f64());
  link.delay_ns = static_cast<int64_t>(in.f64());
  link.jitter_ns = static_cast<int64_t>(in.f64());
  link.delay_correlation = in.f64();
  link.distribution = static_cast<Distribution>(in.u8());
  link.loss = static_cast<LossModel>(in.u8());
  for (double* field : {&link.loss_probability, &link.loss_correlation, &link.ge_p, &link.ge_r, &link.ge_loss_bad,
                        &link.ge_loss_good, &link.duplicate_probability, &link.duplicate_correlation,
                        &link.corrupt_probability, &link.corrupt_correlation, &link.reorder_probability,
                        &link.reorder_correlation})
    *field = in.f64();
  link.reorder_gap = in.u32();
  link.limit_packets = in.u32();
  for (uint32_t n = in.u32(); n > 0; n--) {
    const uint32_t size = in.u32();
    link.loss_by_size.emplace_back(size, in.f64());
  }
  auto trace = in.bytes();
  if (!trace.empty()) link.loss_trace = std::make_shared<const std::vector<uint8_t>>(std::move(trace));
  for (uint32_t n = in.u32(); n > 0; n--) {
    const auto kind = static_cast<PacketKind>(in.u8());
    const uint64_t first = in.whole();
    link.drops.push_back({kind, first, in.whole()});
  }
  if (!link.is_valid()) throw std::runtime_error("the link is not valid");
  return link;
}

inline void write_link_counters(Writer& out, const LinkCounters& c) {
  for (uint64_t n : {c.offered, c.offered_bytes, c.dropped, c.queue_dropped, c.duplicated, c.corrupted, c.reordered})
    out.whole(n);
  for (uint64_t n : c.offered_by_kind) out.whole(n);
  for (uint64_t n : c.dropped_by_kind) out.whole(n);
}

inline void write_counters(Writer& out, const QpCounters& c) {
  for (uint64_t n : c.steps) out.whole(n);
  for (uint64_t n : {c.packets_sent, c.bytes_sent, c.wire_bytes_sent, c.control_sent, c.control_waiting,
                     c.control_received, c.control_dropped, c.bad_checksum, c.truncated, c.replayed, c.malformed,
                     c.send_errors})
    out.whole(n);
}

}  // namespace sdr::vm
