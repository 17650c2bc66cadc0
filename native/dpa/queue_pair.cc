#include "dpa/queue_pair.h"

#include <algorithm>
#include <cerrno>
#include <thread>

#include "transport/checks.h"

namespace sdr::dpa {
namespace {

uint64_t ticket_key(const DevicePair::Ticket& ticket) { return uint64_t{ticket.channel} << 32 | ticket.descriptor; }

}  // namespace

// The device's engine, and the card's keys: a receive can be written to from post() until complete() has begun.
class DpaQueuePair::KeyedEngine final : public ReceiveEngine {
 public:
  KeyedEngine(DevicePair& pair, Endpoint& endpoint, const sdr_geometry& geometry)
      : pair_(pair), endpoint_(endpoint), geometry_(geometry) {}

  sdr_status post(uint32_t message, void* buffer, uint64_t bytes, void* parity, uint32_t parity_chunks) override {
    const sdr_status status = pair_.post(message, buffer, bytes, parity, parity_chunks);
    if (status != SDR_OK) return status;
    const uint64_t chunk = chunk_bytes(geometry_);
    SlotMemory memory{static_cast<uint8_t*>(buffer), bytes, static_cast<uint8_t*>(parity),
                      sdr_rx_parity_first(&geometry_, bytes) * chunk, parity_chunks * chunk};
    endpoint_.bind(message % geometry_.slots, message / geometry_.slots, memory);
    return SDR_OK;
  }
  sdr_status set_length(uint32_t message, uint64_t bytes, bool* complete) override {
    return pair_.set_length(message, bytes, complete);
  }
  sdr_status complete(uint32_t message) override {
    endpoint_.unbind(message % geometry_.slots);
    return pair_.complete(message);
  }
  sdr_status seal(uint32_t message, uint32_t first, uint32_t count, uint8_t* flags) override {
    return pair_.seal(message, first, count, flags);
  }
  sdr_status fill(uint32_t message, uint32_t first, uint32_t count, const uint8_t* flags, bool* complete) override {
    return pair_.fill(message, first, count, flags, complete);
  }
  sdr_bitmap_slab bitmaps() const override { return pair_.bitmaps(); }
  sdr_status progress(uint32_t message, sdr_rx_progress* out) const override { return pair_.progress(message, out); }
  sdr_status chunk_expand(uint32_t message, uint32_t chunk, uint64_t* bits, size_t words) const override {
    return pair_.chunk_expand(message, chunk, bits, words);
  }
  bool user_immediate(uint32_t message, uint32_t* value) const override {
    return pair_.user_immediate(message, value);
  }
  void counters(uint64_t counts[SDR_STEP_KINDS]) const override { pair_.counters(counts); }

 private:
  DevicePair& pair_;
  Endpoint& endpoint_;
  const sdr_geometry& geometry_;
};

// ---- making and connecting ----

const ReceiveEngine& DpaQueuePair::engine() const { return *engine_; }

DpaQueuePair::DpaQueuePair(Environment& environment, Card& card, uint32_t id, const QpConfig& config)
    : ThreadedQueuePair(id, config.geometry), environment_(environment), card_(card), config_(config),
      shared_(environment, id, config, nullptr, kWireHeaderBytes) {}

std::unique_ptr<DpaQueuePair> DpaQueuePair::create(Environment& environment, EmulatedPlatform& platform, Card& card,
                                                   uint32_t id, const QpConfig& config,
                                                   std::function<void()> call_host, sdr_status* status) {
  std::unique_ptr<DpaQueuePair> made(new DpaQueuePair(environment, card, id, config));
  DpaQueuePair* plain = made.get();
  const auto control = [plain](int64_t now_ns, const uint8_t* bytes, size_t size) {
    const auto result = plain->environment_.events.push_control(plain->id(), now_ns, bytes, size);
    if (result == EventQueue::Control::queued_first) plain->environment_.wake();
    return result;
  };
  made->endpoint_ = std::make_shared<Endpoint>(platform.device(), config.geometry, control,
                                               [plain](int error) { plain->shared_.report_error(error); });
  made->flow_ = std::make_shared<Flow>(platform.device(), made->shared_);
  PairOptions options;
  options.geometry = config.geometry;
  options.wake = std::move(call_host);
  platform.plug_in(plain);
  made->pair_ = DevicePair::create(platform, options, status);
  platform.plug_in(nullptr);
  if (!made->pair_) return nullptr;
  made->pair_->set_peer_key(Endpoint::kKey);
  made->engine_ = std::make_unique<KeyedEngine>(*made->pair_, *made->endpoint_, made->config_.geometry);
  made->receives_ =
      std::make_unique<Receives>(*made->engine_, config.geometry, Receives::Placed::by_device);
  // Its one lane is the flow, which carries control datagrams.
  made->sends_ = std::make_unique<Sends>(made->shared_, config.work_requests_max,
                                         std::vector<SendLane*>{made->flow_.get()}, [&card](uint32_t) { card.poke(); });
  made->fabric_number_ = Fabric::instance().join(made->endpoint_);
  card.add(made->flow_);
  return made;
}

DpaQueuePair::~DpaQueuePair() { close(); }

void DpaQueuePair::add_queue(uint32_t number, const QueuePlace& place) {
  endpoint_->add_queue(number, place);
  flow_->add_queue(number, place, place.generation * config_.geometry.channels + place.channel);
}

sdr_status DpaQueuePair::connect(uint64_t peer, const LinkConfig& link, uint64_t seed) {
  if (closed_) return SDR_CLOSED;
  if (sends_->is_connected() || peer == fabric_number_ || !link.is_valid()) return SDR_INVALID;
  auto endpoint = Fabric::instance().find(peer);
  if (!endpoint) return SDR_CLOSED;
  const sdr_geometry &ours = config_.geometry, &theirs = endpoint->geometry();
  if (ours.channels != theirs.channels || ours.generations != theirs.generations || ours.slots != theirs.slots ||
      ours.packet_bytes != theirs.packet_bytes || ours.packets_per_chunk != theirs.packets_per_chunk) {
    return SDR_INVALID;
  }
  sends_->connect(link, seed);
  flow_->connect(std::move(endpoint));
  card_.poke();
  return SDR_OK;
}

void DpaQueuePair::ring(uint32_t queue, uint16_t index) { flow_->ring(queue, index, environment_.now_ns()); }

// ---- what the device tells ----

void DpaQueuePair::push(EventType type, uint32_t message, uint32_t value) {
  Event event{};
  event.type = static_cast<uint32_t>(type);
  event.qp = id();
  event.message = message;
  event.value = value;
  event.time_ns = static_cast<double>(environment_.now_ns());
  environment_.push(event);
}

void DpaQueuePair::serve() {
  std::vector<DevicePair::Change> changes;
  while (!pair_->take_changes(&changes)) std::this_thread::yield();
  for (const DevicePair::Change& change : changes) push(EventType::progress, change.message, change.complete ? 1 : 0);
  if (pair_->worker_counts().errors > errors_seen_) {
    errors_seen_ = pair_->worker_counts().errors;
    shared_.report_error(EIO);
  }
  tell_done();
  if (pair_->send_errors() > 0) shared_.report_error(EIO);
}

void DpaQueuePair::tell_done() {
  std::vector<DevicePair::Ticket> done;
  std::vector<std::shared_ptr<Request>> injected;
  {
    const std::lock_guard lock(requests_mutex_);
    pair_->take_done(&done);
    for (const DevicePair::Ticket& ticket : done) {
      const auto found = requests_.find(ticket_key(ticket));
      if (found == requests_.end()) continue;
      const std::shared_ptr<Request> request = std::move(found->second);
      requests_.erase(found);
      if (--request->tickets > 0) continue;
      outstanding_--;
      injected.push_back(request);
    }
  }
  for (const auto& request : injected) {
    flow_->remove_memory(request->memory);
    if (!request->dropped) push(EventType::injected, request->message, request->id);
  }
}

// ---- receive side ----

sdr_status DpaQueuePair::post_receive(uint32_t message, RegionRef region, uint64_t offset, uint64_t bytes,
                                      Parity parity) {
  if (closed_) return SDR_CLOSED;
  return receives_->post(message, std::move(region), offset, bytes, std::move(parity));
}

// ---- send side ----

sdr_status DpaQueuePair::post_send(uint32_t message, uint32_t work_request, RegionRef region, uint64_t source_offset,
                                   uint32_t first_chunk, uint64_t bytes) {
  if (closed_) return SDR_CLOSED;
  const OpenSend* send = sends_->find(message);
  if (send == nullptr) return SDR_CLOSED;
  if (!region || region->base == nullptr || !region_holds(*region, source_offset, bytes)) return SDR_INVALID;
  const sdr_geometry& geometry = config_.geometry;
  if (!is_sendable(geometry, send->bytes, first_chunk, bytes)) return SDR_INVALID;
  const std::lock_guard lock(requests_mutex_);
  if (outstanding_ >= config_.work_requests_max || !pair_->has_room()) return SDR_BUSY;
  sdr_dpa_send descriptor{};
  descriptor.address = reinterpret_cast<uint64_t>(region->base + source_offset);
  descriptor.cut_bytes = cut_bytes(geometry, send->bytes, first_chunk);
  descriptor.message = message;
  descriptor.user_immediate = send->user_immediate;
  auto request = std::make_shared<Request>();
  request->message = message;
  request->id = work_request;
  request->memory = descriptor.key = flow_->add_memory(std::move(region));
  const uint32_t first = first_chunk * geometry.packets_per_chunk;
  const auto packets = static_cast<uint32_t>((bytes + geometry.packet_bytes - 1) / geometry.packet_bytes);
  std::vector<DevicePair::Ticket> tickets;
  const sdr_status status = pair_->send(descriptor, first, first + packets, &tickets);
  request->tickets = static_cast<uint32_t>(tickets.size());
  for (const DevicePair::Ticket& ticket : tickets) requests_[ticket_key(ticket)] = request;
  if (!tickets.empty()) outstanding_++;
  return status;
}

sdr_status DpaQueuePair::close_send(uint32_t message) {
  const sdr_status status = ThreadedQueuePair::close_send(message);
  if (status != SDR_OK) return status;
  const std::lock_guard lock(requests_mutex_);
  bool any = false;
  for (const auto& [ticket, request] : requests_) {
    if (request->message != message) continue;
    request->dropped = any = true;
  }
  if (any) pair_->cancel(message);
  return SDR_OK;
}

// ---- looking and closing ----

QpCounters DpaQueuePair::counters() const {
  QpCounters sum = counted();
  const EndpointCounts received = endpoint_->counts();
  sum.steps[SDR_STEP_LATE] += received.late;
  sum.control_received = received.control_received;
  sum.control_dropped = received.control_dropped;
  sum.bad_checksum = received.bad_checksum;
  return sum;
}

// The card first: once it neither sends nor takes anything, the device has nothing to do.
void DpaQueuePair::close() {
  if (closed_) return;
  closed_ = true;
  Fabric::instance().leave(fabric_number_);
  endpoint_->close();
  flow_->close();
  card_.remove(flow_.get());
  if (pair_) pair_->stop();
  if (receives_) receives_->close();
  const std::lock_guard lock(requests_mutex_);
  requests_.clear();
}

}  // namespace sdr::dpa
