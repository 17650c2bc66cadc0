// One direction of a path, packet by packet. It knows no transport, clock or thread.
//
// The impairments are those of tc-netem(8), in this order: the packet is serialised at the rate,
// then lost or duplicated, then each copy is corrupted and delayed or sent ahead. netem loses and
// duplicates before it serialises; here a lost packet has used the wire, as it has on a path. As in
// netem a packet that is both lost and duplicated arrives once. Unlike netem's, a copy is not
// exposed to loss a second time, and every random stream draws once a packet whatever the other
// impairments decide, so that each can be studied by itself.
#include "sdr/link.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "link/random.h"
#include "link/serialiser.h"
#include "link/variate.h"

namespace sdr {

namespace {

bool is_probability(double p) { return p >= 0 && p <= 1; }

bool is_valid_size_table(const std::vector<std::pair<uint32_t, double>>& table) {
  for (size_t i = 0; i < table.size(); i++) {
    if (!is_probability(table[i].second)) return false;
    if (i > 0 && table[i].first <= table[i - 1].first) return false;
  }
  return !table.empty() && table.size() <= kLinkTableMax;
}

bool is_valid_drop(const DropRule& rule) {
  return static_cast<size_t>(rule.kind) < kPacketKinds && rule.first >= 1 &&
         rule.last >= rule.first;
}

// Between two points the logarithm of the probability is linear in the bytes; towards a zero the
// probability is.
double interpolate_loss(const std::vector<std::pair<uint32_t, double>>& table, uint32_t bytes) {
  const auto above =
      std::lower_bound(table.begin(), table.end(), bytes,
                       [](const auto& point, uint32_t value) { return point.first < value; });
  if (above == table.begin()) return table.front().second;
  if (above == table.end()) return table.back().second;
  const auto below = above - 1;
  const double part =
      static_cast<double>(bytes - below->first) / static_cast<double>(above->first - below->first);
  const double p0 = below->second, p1 = above->second;
  if (p0 <= 0 || p1 <= 0) return p0 + (p1 - p0) * part;
  return std::min(1.0, std::exp(std::log(p0) + (std::log(p1) - std::log(p0)) * part));
}

// Departure times of the packets queued or in serialisation; at most `limit` of them.
class DepartureQueue {
 public:
  bool is_full(int64_t now_ns, uint32_t limit) {
    while (head_ != tail_ && ring_[head_ & (ring_.size() - 1)] <= now_ns) head_++;
    return tail_ - head_ >= limit;
  }
  void push(int64_t depart_ns) {
    if (tail_ - head_ == ring_.size()) grow();
    ring_[tail_++ & (ring_.size() - 1)] = depart_ns;
  }

 private:
  void grow() {
    std::vector<int64_t> larger(std::max<size_t>(64, ring_.size() * 2));
    size_t count = 0;
    for (uint64_t i = head_; i != tail_; i++) larger[count++] = ring_[i & (ring_.size() - 1)];
    ring_ = std::move(larger);
    head_ = 0;
    tail_ = count;
  }

  std::vector<int64_t> ring_;  // a power of two, or empty
  uint64_t head_ = 0, tail_ = 0;
};

}  // namespace

bool LinkConfig::is_clear() const {
  return rate_bps <= 0 && delay_ns == 0 && jitter_ns == 0 && loss == LossModel::none &&
         duplicate_probability == 0 && corrupt_probability == 0 && drops.empty();
}

bool LinkConfig::is_valid() const {
  for (double p : {delay_correlation, loss_probability, loss_correlation, ge_p, ge_r, ge_loss_bad,
                   ge_loss_good, duplicate_probability, duplicate_correlation, corrupt_probability,
                   corrupt_correlation, reorder_probability, reorder_correlation}) {
    if (!is_probability(p)) return false;
  }
  if (!(rate_bps == 0 || (rate_bps >= kLinkRateMinBps && rate_bps <= kLinkRateMaxBps)))
    return false;
  if (delay_ns < 0 || delay_ns > kLinkDelayMaxNs || jitter_ns < 0 || jitter_ns > kLinkDelayMaxNs)
    return false;
  if (distribution > Distribution::paretonormal || loss > LossModel::trace) return false;
  if (loss == LossModel::by_size && !is_valid_size_table(loss_by_size)) return false;
  if (loss == LossModel::trace &&
      (!loss_trace || loss_trace->empty() || loss_trace->size() > kLinkTraceMax)) {
    return false;
  }
  return drops.size() <= kLinkTableMax && std::all_of(drops.begin(), drops.end(), is_valid_drop);
}

// What each copy of a packet draws from: the second copy has streams of its own.
struct CopyStreams {
  Chance corrupt, reorder;
  Correlated delay;
};

struct Link::State {
  State(uint64_t seed, uint64_t stream)
      : loss(Random(seed, stream, Purpose::loss)),
        duplicate(Random(seed, stream, Purpose::duplicate)),
        copies{CopyStreams{Chance(Random(seed, stream, Purpose::corrupt)),
                           Chance(Random(seed, stream, Purpose::reorder)),
                           Correlated(Random(seed, stream, Purpose::delay))},
               CopyStreams{Chance(Random(seed, stream, Purpose::corrupt_copy)),
                           Chance(Random(seed, stream, Purpose::reorder_copy)),
                           Correlated(Random(seed, stream, Purpose::delay_copy))}},
        chain(Random(seed, stream, Purpose::loss)),
        bits(Random(seed, stream, Purpose::corruption_bits)) {}

  void configure(LinkConfig replacement);
  bool forced_drop(PacketKind kind) const;
  bool is_lost(uint32_t payload_bytes, PacketKind kind);
  bool gilbert_elliott();
  bool by_size(uint32_t payload_bytes);
  bool from_trace(PacketKind kind);
  bool goes_ahead(CopyStreams& streams);
  int64_t delay_of(CopyStreams& streams);
  void impair(Fate& fate, bool lost, bool forced);
  void note_arrival(int64_t arrive_ns);

  LinkConfig config;
  LinkCounters counters;
  Serialiser serialiser;
  DepartureQueue queue;
  int64_t last_offer_ns = INT64_MIN, latest_arrival_ns = INT64_MIN;
  bool plain = true;  // nothing but rate, constant delay and loss

  Chance loss, duplicate;
  CopyStreams copies[2];
  Random chain;  // Gilbert-Elliott and by-size draws: the loss stream, whichever model uses it
  Random bits;
  bool bad_state = false;
  Threshold to_bad, to_good, loss_bad, loss_good;
  uint32_t size_cached = 0;
  bool size_is_cached = false;
  Threshold size_loss;
  size_t trace_at = 0;
  uint64_t delayed_since_ahead = 0;
};

void Link::State::configure(LinkConfig replacement) {
  assert(replacement.is_valid());
  if (replacement.loss_trace != config.loss_trace) trace_at = 0;
  config = std::move(replacement);
  serialiser.set_rate(config.rate_bps);
  const bool bernoulli = config.loss == LossModel::bernoulli;
  loss.set(bernoulli ? config.loss_probability : 0, config.loss_correlation);
  duplicate.set(config.duplicate_probability, config.duplicate_correlation);
  for (CopyStreams& streams : copies) {
    streams.corrupt.set(config.corrupt_probability, config.corrupt_correlation);
    streams.reorder.set(config.reorder_probability, config.reorder_correlation);
    streams.delay.set_correlation(config.delay_correlation);
  }
  to_bad = Threshold(config.ge_p);
  to_good = Threshold(config.ge_r);
  loss_bad = Threshold(config.ge_loss_bad);
  loss_good = Threshold(config.ge_loss_good);
  size_is_cached = false;
  plain = !duplicate.enabled() && !copies[0].corrupt.enabled() && !copies[0].reorder.enabled() &&
          config.jitter_ns == 0 && config.drops.empty();
}

bool Link::State::forced_drop(PacketKind kind) const {
  const uint64_t number = counters.offered_by_kind[static_cast<size_t>(kind)];  // this one included
  for (const DropRule& rule : config.drops) {
    if (rule.kind == kind && number >= rule.first && number <= rule.last) return true;
  }
  return false;
}

// The state steps first, the loss is decided by the state before the step: the order of sch_netem.
bool Link::State::gilbert_elliott() {
  const uint64_t step = chain.next(), draw = chain.next();
  if (bad_state) {
    bad_state = !to_good.hit(step);
    return loss_bad.hit(draw);
  }
  bad_state = to_bad.hit(step);
  return loss_good.hit(draw);
}

bool Link::State::by_size(uint32_t payload_bytes) {
  if (!size_is_cached || payload_bytes != size_cached) {
    size_loss = Threshold(interpolate_loss(config.loss_by_size, payload_bytes));
    size_cached = payload_bytes;
    size_is_cached = true;
  }
  return size_loss.hit(chain.next());
}

bool Link::State::from_trace(PacketKind kind) {
  if (kind != PacketKind::data) return false;
  const bool lost = (*config.loss_trace)[trace_at] != 0;
  trace_at = trace_at + 1 < config.loss_trace->size() ? trace_at + 1 : 0;
  return lost;
}

bool Link::State::is_lost(uint32_t payload_bytes, PacketKind kind) {
  switch (config.loss) {
    case LossModel::none:
      return false;
    case LossModel::bernoulli:
      return loss.enabled() && loss.draw();
    case LossModel::gilbert_elliott:
      return gilbert_elliott();
    case LossModel::by_size:
      return by_size(payload_bytes);
    case LossModel::trace:
      return from_trace(kind);
  }
  return false;
}

// netem: the first gap - 1 packets after one that went ahead are delayed, later ones go ahead by
// chance.
bool Link::State::goes_ahead(CopyStreams& streams) {
  if (!streams.reorder.enabled()) return false;
  const bool chosen = streams.reorder.draw();
  const uint64_t gap = std::max<uint64_t>(1, config.reorder_gap);
  if (chosen && delayed_since_ahead + 1 >= gap) {
    delayed_since_ahead = 0;
    return true;
  }
  delayed_since_ahead++;
  return false;
}

int64_t Link::State::delay_of(CopyStreams& streams) {
  if (config.jitter_ns == 0) return config.delay_ns;
  const double variate = delay_variate(config.distribution, streams.delay.variate());
  const int64_t delay =
      config.delay_ns + std::llround(static_cast<double>(config.jitter_ns) * variate);
  return std::max<int64_t>(0, delay);
}

void Link::State::note_arrival(int64_t arrive_ns) {
  if (arrive_ns < latest_arrival_ns)
    counters.reordered++;
  else
    latest_arrival_ns = arrive_ns;
}

// The impairments beyond loss. Streams of the first copy draw for lost packets too, see the top of
// this file.
void Link::State::impair(Fate& fate, bool lost, bool forced) {
  const bool doubled = duplicate.enabled() && duplicate.draw();
  const uint32_t made = doubled ? 2 : 1;
  if (doubled && !forced) counters.duplicated++;
  fate.copies = forced ? 0 : made - (lost ? 1 : 0);
  for (uint32_t i = 0; i < std::max(1u, fate.copies); i++) {
    CopyStreams& streams = copies[i];
    const bool corrupt = streams.corrupt.enabled() && streams.corrupt.draw();
    const bool ahead = goes_ahead(streams);
    const int64_t delay = delay_of(streams);
    if (i >= fate.copies) break;
    fate.corrupt[i] = corrupt;
    fate.arrive_ns[i] = fate.depart_ns + (ahead ? 0 : delay);
    if (corrupt) counters.corrupted++;
    note_arrival(fate.arrive_ns[i]);
  }
}

Link::Link(LinkConfig config, uint64_t seed, uint64_t stream)
    : state_(std::make_unique<State>(seed, stream)) {
  state_->configure(std::move(config));
}
Link::~Link() = default;
Link::Link(Link&&) noexcept = default;
Link& Link::operator=(Link&&) noexcept = default;

Fate Link::offer(int64_t now_ns, uint32_t bytes, uint32_t payload_bytes, PacketKind kind) {
  State& s = *state_;
  assert(now_ns >= s.last_offer_ns && "a link's time never decreases");
  assert(static_cast<size_t>(kind) < kPacketKinds);
  s.last_offer_ns = now_ns;
  s.counters.offered++;
  s.counters.offered_bytes += bytes;
  s.counters.offered_by_kind[static_cast<size_t>(kind)]++;

  Fate fate;
  const uint32_t limit = s.config.limit_packets;
  if (limit > 0 && s.queue.is_full(now_ns, limit)) {
    s.counters.queue_dropped++;
    fate.depart_ns = now_ns;
    return fate;
  }
  const int64_t wire_bytes = std::max<int64_t>(0, int64_t{bytes} + s.config.packet_overhead_bytes);
  fate.depart_ns = s.serialiser.push(now_ns, static_cast<uint64_t>(wire_bytes));
  if (limit > 0) s.queue.push(fate.depart_ns);

  const bool lost = s.is_lost(payload_bytes, kind);
  const bool forced = !s.plain && s.forced_drop(kind);
  if (lost || forced) {
    s.counters.dropped++;
    s.counters.dropped_by_kind[static_cast<size_t>(kind)]++;
  }
  if (!s.plain) {
    s.impair(fate, lost, forced);
  } else if (!lost) {
    fate.copies = 1;
    fate.arrive_ns[0] = fate.depart_ns + s.config.delay_ns;
    s.note_arrival(fate.arrive_ns[0]);
  }
  return fate;
}

int64_t Link::free_at_ns() const { return state_->serialiser.free_at_ns(); }
void Link::reconfigure(LinkConfig config) { state_->configure(std::move(config)); }
const LinkConfig& Link::config() const { return state_->config; }
const LinkCounters& Link::counters() const { return state_->counters; }
uint64_t Link::corruption_bits() { return state_->bits.next(); }

}  // namespace sdr
