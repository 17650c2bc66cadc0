// One direction of a path: serialisation at a rate, delay, loss, reordering, duplication, corruption.
// Both the emulated transport and the UDP injector use this and nothing else, so "loss 1e-3" means the
// same in both. It knows no clock (time is passed in) and no global randomness (seeded streams).
// Vocabulary: Linux tc-netem(8). A Link belongs to one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace sdr {

// What a packet carries; "drop the n-th packet of kind k" and the counters tell them apart.
// Values 1.. equal the control frame kinds of src/reliability/frames.ts (the first frame in a datagram).
enum class PacketKind : uint8_t {
  data = 0,
  cts = 1,
  start = 2,
  ack = 3,
  nack = 4,
  done = 5,
  ping = 6,
  pong = 7,
  close = 8,
  other = 9
};
inline constexpr size_t kPacketKinds = 10;

enum class Distribution : uint8_t { uniform = 0, normal = 1, pareto = 2, paretonormal = 3 };
enum class LossModel : uint8_t { none = 0, bernoulli = 1, gilbert_elliott = 2, by_size = 3, trace = 4 };

// Drops the first..last-th (from 1) packets of `kind` offered to the link.
struct DropRule {
  PacketKind kind;
  uint64_t first, last;
};

inline constexpr double kLinkRateMinBps = 1, kLinkRateMaxBps = 1e15;
inline constexpr int64_t kLinkDelayMaxNs = 1'000'000'000'000'000;  // 11 days
inline constexpr size_t kLinkTableMax = 4096;  // drop rules; points of loss_by_size
inline constexpr size_t kLinkTraceMax = 1 << 24;  // packets of a loss trace

// Probabilities and correlations are 0..1.
struct LinkConfig {
  double rate_bps = 0;  // 0: infinite
  int32_t packet_overhead_bytes = 0;  // added to each packet for serialisation (netem "rate R OVERHEAD")
  int64_t delay_ns = 0, jitter_ns = 0;
  double delay_correlation = 0;
  Distribution distribution = Distribution::uniform;
  LossModel loss = LossModel::none;
  double loss_probability = 0, loss_correlation = 0;
  double ge_p = 0, ge_r = 0, ge_loss_bad = 1, ge_loss_good = 0;  // netem gemodel p r 1-h 1-k
  // (payload bytes, probability), ascending; log p linear in bytes between, clamped outside
  std::vector<std::pair<uint32_t, double>> loss_by_size;
  // one byte a data packet, non-zero = lost; repeats; other kinds pass
  std::shared_ptr<const std::vector<uint8_t>> loss_trace;
  double duplicate_probability = 0, duplicate_correlation = 0;
  double corrupt_probability = 0, corrupt_correlation = 0;
  double reorder_probability = 0, reorder_correlation = 0;  // such a packet skips the delay, as in netem
  uint32_t reorder_gap = 0;  // at least this many packets from one such packet to the next; 0 is 1
  uint32_t limit_packets = 0;  // queue limit before the serialiser, tail drop; 0: none
  std::vector<DropRule> drops;
  // True when a packet passes unchanged at once: transports may bypass the link.
  bool is_clear() const;
  // Ranges, table order and sizes. A Link asserts it; whoever takes settings from outside checks it first.
  bool is_valid() const;
};

// What becomes of one packet.
struct Fate {
  int64_t depart_ns = 0;  // last bit leaves the serialiser (also for packets lost later)
  uint32_t copies = 0;    // 0 lost, 1, or 2 duplicated
  int64_t arrive_ns[2] = {0, 0};
  bool corrupt[2] = {false, false};
};

struct LinkCounters {
  uint64_t offered = 0, offered_bytes = 0;  // bytes without overhead
  uint64_t dropped = 0;      // by loss model or drop rule
  uint64_t queue_dropped = 0;  // by limit_packets
  uint64_t duplicated = 0, corrupted = 0;
  uint64_t reordered = 0;  // copies whose arrival time precedes that of an earlier packet
  std::array<uint64_t, kPacketKinds> offered_by_kind{}, dropped_by_kind{};
};

class Link {
 public:
  // `stream` names this link among those of one seed; equal (seed, stream) gives equal fates.
  Link(LinkConfig config, uint64_t seed, uint64_t stream);
  ~Link();
  Link(Link&&) noexcept;
  Link& operator=(Link&&) noexcept;

  // Offers a packet of `bytes` wire bytes (before overhead) with `payload_bytes` of payload at `now_ns`
  // (never decreasing). Departures are exact: start of the busy period + cumulative bits / rate.
  Fate offer(int64_t now_ns, uint32_t bytes, uint32_t payload_bytes, PacketKind kind);
  // When the serialiser is idle again; a back-pressured sender offers its next packet no earlier.
  int64_t free_at_ns() const;
  // Replaces impairments (a link heals); the busy period, streams and counters go on.
  void reconfigure(LinkConfig config);
  const LinkConfig& config() const;
  const LinkCounters& counters() const;
  // Random bits for transports that must flip one when a packet is corrupted.
  uint64_t corruption_bits();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sdr
