#include "dpa/emulation/flow.h"

#include <libflexio-dev/flexio_dev_queue_access.h>

#include <algorithm>
#include <chrono>
#include <cstring>

namespace sdr::dpa {
namespace {

constexpr int64_t kNever = INT64_MAX;
constexpr int kQuantum = 64;               // packets of a flow in its turn

uint32_t be32_at(const uint8_t* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof(value));
  return __builtin_bswap32(value);
}
uint64_t be64_at(const uint8_t* at) {
  uint64_t value;
  std::memcpy(&value, at, sizeof(value));
  return __builtin_bswap64(value);
}

}  // namespace

void Flow::add_queue(uint32_t number, const QueuePlace& place, uint32_t index) {
  const std::lock_guard lock(mutex_);
  queues_.push_back({number, index, reinterpret_cast<const uint8_t*>(place.sq_ring), place.sq_log, place.send_cq});
}

void Flow::connect(std::shared_ptr<Endpoint> peer) {
  const std::lock_guard lock(mutex_);
  peer_ = std::move(peer);
}

uint32_t Flow::add_memory(RegionRef region) {
  const std::lock_guard lock(mutex_);
  memory_.emplace(next_key_, std::move(region));
  return next_key_++;
}

void Flow::remove_memory(uint32_t key) {
  RegionRef last;  // its end may run what others wait for: not under the lock
  const std::lock_guard lock(mutex_);
  const auto found = memory_.find(key);
  if (found == memory_.end()) return;
  last = std::move(found->second);
  memory_.erase(found);
}

void Flow::ring(uint32_t number, uint16_t index, int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  for (Queue& queue : queues_) {
    if (queue.number != number) continue;
    if (queue.rung == queue.taken) queue.ready_ns = now_ns;
    queue.rung = index;
  }
}

void Flow::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  drop_queued();
  delayed_.clear();
  memory_.clear();
  peer_.reset();
}

Flow::Queue* Flow::next_queue() {
  for (size_t count = 0; count < queues_.size(); count++) {
    Queue& queue = queues_[turn_];
    turn_ = (turn_ + 1) % queues_.size();
    if (queue.rung != queue.taken) return &queue;
  }
  return nullptr;
}

// False: the block makes no sense, or names memory that it may not.
bool Flow::read_wqe(const Queue& queue, WirePacket* packet, bool* nothing, bool* signalled) const {
  const uint8_t* block = queue.ring + size_t{queue.taken & ((1u << queue.log) - 1)} * SDR_DPA_LINE;
  const uint32_t opcode = be32_at(block) & 0xff;
  *signalled = (be32_at(block + 8) >> 2 & 3) == MLX5_CTRL_SEG_CE_CQE_ALWAYS;
  *nothing = opcode == MLX5_CTRL_SEG_OPCODE_NOP;
  if (*nothing) return true;
  if (opcode != MLX5_CTRL_SEG_OPCODE_RDMA_WRITE_WITH_IMMEDIATE || (be32_at(block) >> 8 & 0xffff) != queue.taken ||
      be32_at(block + 4) != (queue.number << 8 | 3)) {
    return false;
  }
  packet->queue = queue.index;
  packet->immediate = be32_at(block + 12);
  packet->offset = be64_at(block + 16);
  packet->key = be32_at(block + 24);
  packet->bytes = be32_at(block + 32);
  const auto memory = memory_.find(be32_at(block + 36));
  const uint64_t address = be64_at(block + 40);
  if (memory == memory_.end()) return false;
  const auto base = reinterpret_cast<uint64_t>(memory->second->base);
  if (address < base || address - base > memory->second->bytes ||
      packet->bytes > memory->second->bytes - (address - base)) {
    return false;
  }
  packet->data = reinterpret_cast<const uint8_t*>(address);
  packet->region = memory->second;
  return true;
}

void Flow::step_over(Queue* queue, bool signalled, uint8_t opcode) {
  sdr_dpa_cqe cqe{};
  cqe.queue = __builtin_bswap32(queue->number);
  cqe.wqe_counter = __builtin_bswap16(queue->taken);
  cqe.syndrome = opcode == SDR_DPA_CQE_SENT ? 0 : 0x04;  // local protection error
  cqe.op_own = static_cast<uint8_t>(opcode << 4);
  queue->taken++;
  if (signalled || opcode != SDR_DPA_CQE_SENT) device_.produce(queue->cq, cqe);
}

// Returns when to ask again.
int64_t Flow::offer(int64_t now_ns) {
  const std::lock_guard lock(shared_.link_mutex);
  for (int count = 0; count < kQuantum; count++) {
    if (delayed_.full()) return delayed_.next_due_ns();
    Queue* queue = next_queue();
    if (queue == nullptr) return kNever;
    Flight flight;
    bool nothing = false, signalled = false;
    const bool valid = read_wqe(*queue, &flight.packet, &nothing, &signalled);
    if (!valid || nothing) {
      step_over(queue, signalled, valid ? SDR_DPA_CQE_SENT : SDR_DPA_CQE_SEND_ERROR);
      continue;
    }
    const uint32_t payload = flight.packet.bytes, wire = payload + kWireHeaderBytes;
    int64_t at = 0;
    if (!shared_.admit(now_ns, queue->ready_ns, wire, &at)) {
      turn_ = static_cast<size_t>(queue - queues_.data());
      return at;
    }
    const Fate fate = shared_.link->offer(at, wire, payload, PacketKind::data);
    for (uint32_t copy = 0; copy < fate.copies; copy++) {
      flight.corrupt = fate.corrupt[copy];
      delayed_.push(fate.arrive_ns[copy], flight);
    }
    sent.wire_bytes_sent.add(wire);
    sent.packets_sent.add(1);
    sent.bytes_sent.add(payload);
    step_over(queue, signalled, SDR_DPA_CQE_SENT);
  }
  return now_ns;
}

void Flow::emit(Parcel* parcel, uint32_t, bool corrupt) {
  if (corrupt) {
    peer_->take_corrupted();
  } else {
    peer_->take_control(parcel->control.get(), parcel->control_bytes, shared_.environment->now_ns());
  }
}

void Flow::deliver_due(int64_t now_ns) {
  for (int count = 0; count < kQuantum && !delayed_.empty() && delayed_.next_due_ns() <= now_ns; count++) {
    const Flight flight = delayed_.pop();
    if (flight.corrupt) {
      peer_->take_corrupted();
    } else {
      peer_->take(flight.packet, now_ns);
    }
  }
}

// Control first.
int64_t Flow::pump(int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  if (closed_ || !peer_) return kNever;
  deliver_due(now_ns);
  int64_t again = SendLane::pump(now_ns, kQuantum);
  again = std::min(again, offer(now_ns));
  deliver_due(now_ns);
  return delayed_.empty() ? again : std::min(again, delayed_.next_due_ns());
}

// ---- the card ----

Card::Card(std::function<int64_t()> clock) : clock_(std::move(clock)) {
  thread_ = std::thread([this] { run(); });
}

Card::~Card() { stop(); }

void Card::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    poked_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Card::add(std::shared_ptr<Flow> flow) {
  const std::lock_guard lock(mutex_);
  flows_.push_back(std::move(flow));
}

void Card::remove(const Flow* flow) {
  const std::lock_guard lock(mutex_);
  std::erase_if(flows_, [&](const auto& one) { return one.get() == flow; });
}

void Card::poke() {
  const std::lock_guard lock(mutex_);
  news_ = true;
  poked_.notify_all();
}

void Card::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    news_ = false;
    const auto flows = flows_;
    lock.unlock();
    const int64_t now_ns = clock_();
    int64_t again = kNever;
    for (const auto& flow : flows) again = std::min(again, flow->pump(now_ns));
    lock.lock();
    if (news_ || stopping_ || again <= now_ns) continue;
    const auto called = [&] { return news_ || stopping_; };
    if (again == kNever) {
      poked_.wait(lock, called);
    } else {
      poked_.wait_for(lock, std::chrono::nanoseconds(again - now_ns), called);
    }
  }
}

}  // namespace sdr::dpa
