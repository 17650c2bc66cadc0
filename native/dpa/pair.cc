#include "dpa/pair.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace sdr::dpa {
namespace {

constexpr size_t kPage = 4096;

uint32_t log2_ceil(uint64_t value) {
  uint32_t log = 0;
  while (uint64_t{1} << log < value) log++;
  return log;
}

uint64_t address_of(const void* memory) { return reinterpret_cast<uint64_t>(memory); }

}  // namespace

// ---- making ----

std::unique_ptr<DevicePair> DevicePair::create(Platform& platform, const PairOptions& options, sdr_status* status) {
  *status = sdr_geometry_check(&options.geometry);
  if (*status != SDR_OK) return nullptr;
  std::unique_ptr<DevicePair> pair(new DevicePair(platform, options));
  *status = pair->build();
  return *status == SDR_OK ? std::move(pair) : nullptr;
}

DevicePair::DevicePair(Platform& platform, const PairOptions& options) : platform_(platform), options_(options) {
  generations_log_ = log2_ceil(options.geometry.generations);
  rq_log_ = std::clamp(options.rq_log_sum - generations_log_, 6u, 13u);
}

DevicePair::~DevicePair() {
  stop();
  for (const uint64_t address : memory_) platform_.free(address);
}

void DevicePair::stop() {
  counters(last_counts_);
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    stopped_ = true;
  }
  for (const Channel& channel : channels_) {
    for (const uint32_t queue : channel.queues) platform_.remove_queue(queue);
    for (const uint32_t cq : {channel.receive_cq, channel.send_cq})
      if (cq != kNone) platform_.remove_cq(cq);
    for (const uint32_t handler : {channel.receive_handler, channel.packetise_handler})
      if (handler != kNone) platform_.remove_handler(handler);
  }
  if (host_cq_ != kNone) platform_.remove_cq(host_cq_);
  if (window_open_) platform_.close_window(window_);
}

uint64_t DevicePair::allocate(size_t bytes) {
  const uint64_t address = platform_.allocate(bytes);
  if (address != 0) memory_.push_back(address);
  return address;
}

sdr_status DevicePair::build_host_memory() {
  const sdr_geometry& geometry = options_.geometry;
  const sdr_rx_sizes sizes = sdr_rx_sizes_of(&geometry);
  mirror_bytes_ = sizes.chunk_slab;
  slot_bytes_ = sizes.chunk_slab / geometry.slots;
  const size_t reports = (size_t{1} + geometry.slots) * SDR_DPA_LINE;
  const size_t done = SDR_DPA_SENDS * sizeof(uint32_t);
  const size_t reply = SDR_DPA_FLAGS_MAX;
  host_bytes_ = mirror_bytes_ + geometry.channels * (reports + done) + reply;
  // Zeroed, and committed only as it is written to.
  host_memory_.reset(static_cast<uint8_t*>(std::calloc(1, host_bytes_ + kPage)));
  if (!host_memory_) return SDR_NO_MEMORY;
  host_ = reinterpret_cast<uint8_t*>((address_of(host_memory_.get()) + kPage - 1) & ~uint64_t{kPage - 1});
  if (!platform_.open_window(host_, host_bytes_, &window_)) return SDR_NO_MEMORY;
  window_open_ = true;
  uint8_t* at = host_ + mirror_bytes_;
  channels_.resize(geometry.channels);
  for (Channel& channel : channels_) {
    channel.reports = reinterpret_cast<const sdr_dpa_report*>(at);
    channel.done = reinterpret_cast<const uint32_t*>(at + reports);
    channel.seen.resize(1 + geometry.slots);
    channel.given.resize(SDR_DPA_SENDS);
    channel.taken.resize(SDR_DPA_SENDS);
    at += reports + done;
  }
  reply_ = at;
  return SDR_OK;
}

sdr_status DevicePair::build() {
  const sdr_geometry& geometry = options_.geometry;
  const sdr_status status = build_host_memory();
  if (status != SDR_OK) return status;
  host_cq_ = platform_.add_host_cq(options_.wake ? options_.wake : [] {});
  pair_ = allocate(sizeof(sdr_dpa_pair));
  call_ = allocate(sizeof(sdr_dpa_call));
  const sdr_rx_sizes sizes = sdr_rx_sizes_of(&geometry);
  sdr_dpa_pair pair{};
  pair.geometry = geometry;
  pair.rx = allocate(sizes.rx);
  pair.table = allocate(sizes.table);
  pair.workers = allocate(sizes.workers);
  pair.chunk_slab = allocate(sizes.chunk_slab);
  pair.packet_slab = allocate(sizes.packet_slab);
  pair.line_locks = allocate(sizes.chunk_slab / SDR_DPA_LINE);
  pair.mirror = address_of(host_);
  pair.window = window_.id;
  pair.window_key = window_.key;
  pair.host_cq = host_cq_;
  if (host_cq_ == kNone || memory_.size() != 8) return SDR_NO_MEMORY;
  if (!platform_.write(pair_, &pair, sizeof(pair))) return SDR_NO_MEMORY;
  sdr_dpa_call init{};
  init.op = SDR_DPA_INIT;
  const sdr_status made = call(&init, 0);
  if (made != SDR_OK) return made;
  for (uint32_t index = 0; index < geometry.channels; index++) {
    const sdr_status built = build_channel(index);
    if (built != SDR_OK) return built;
  }
  for (const Channel& channel : channels_)
    if (!platform_.start_handler(channel.receive_handler) || !platform_.start_handler(channel.packetise_handler))
      return SDR_NO_MEMORY;
  return SDR_OK;
}

sdr_status DevicePair::build_channel(uint32_t index) {
  const sdr_geometry& geometry = options_.geometry;
  Channel& channel = channels_[index];
  const size_t lines = size_t{1} + geometry.slots;
  const CqPlace receive_place{allocate(size_t{SDR_DPA_LINE} << receive_log()), allocate(SDR_DPA_LINE), receive_log()};
  // Every WQE in flight may be told of, at worst.
  const uint32_t send_log = options_.sq_log + generations_log_;
  const CqPlace send_place{allocate(size_t{SDR_DPA_LINE} << send_log), allocate(SDR_DPA_LINE), send_log};
  const uint64_t queues = allocate(sizeof(sdr_dpa_queue) * geometry.generations);
  const uint64_t masters = allocate(lines * SDR_DPA_LINE);
  channel.receiver = allocate(sizeof(sdr_dpa_receiver));
  channel.packetiser = allocate(sizeof(sdr_dpa_packetiser));
  if (receive_place.ring == 0 || receive_place.doorbell == 0 || send_place.ring == 0 || send_place.doorbell == 0 ||
      queues == 0 || masters == 0 || channel.receiver == 0 || channel.packetiser == 0) {
    return SDR_NO_MEMORY;
  }
  channel.receive_handler = platform_.add_handler(Entry::receive, channel.receiver, index);
  channel.packetise_handler = platform_.add_handler(Entry::packetise, channel.packetiser, index);
  if (channel.receive_handler == kNone || channel.packetise_handler == kNone) return SDR_NO_MEMORY;
  channel.receive_cq = platform_.add_cq(receive_place, channel.receive_handler);
  channel.send_cq = platform_.add_cq(send_place, channel.packetise_handler);
  if (channel.receive_cq == kNone || channel.send_cq == kNone) return SDR_NO_MEMORY;

  std::vector<sdr_dpa_queue> made(geometry.generations);
  for (uint32_t generation = 0; generation < geometry.generations; generation++) {
    sdr_dpa_queue& queue = made[generation];
    queue.doorbell = allocate(SDR_DPA_LINE);
    queue.sq_log = options_.sq_log;
    const size_t receive_bytes = size_t{kReceiveWqeBytes} << rq_log_;
    const uint64_t rings = allocate(receive_bytes + (size_t{SDR_DPA_LINE} << queue.sq_log));
    queue.sq_ring = rings + receive_bytes;
    queue.sq_owners = allocate(sizeof(uint32_t) << queue.sq_log);
    if (queue.doorbell == 0 || rings == 0 || queue.sq_owners == 0) return SDR_NO_MEMORY;
    queue.rq_posted = 1u << rq_log_;
    const uint32_t record = __builtin_bswap32(queue.rq_posted);
    if (!platform_.write(queue.doorbell, &record, sizeof(record))) return SDR_NO_MEMORY;
    queue.number = platform_.add_queue({queue.doorbell, rings, queue.sq_ring, queue.sq_log, rq_log_, channel.send_cq,
                                        channel.receive_cq, generation, index});
    if (queue.number == kNone) return SDR_NO_MEMORY;
    channel.queues.push_back(queue.number);
  }

  sdr_dpa_receiver receiver{};
  receiver.pair = pair_;
  receiver.queues = queues;
  receiver.reports = address_of(channel.reports);
  receiver.masters = masters;
  receiver.channel = index;
  receiver.generations = geometry.generations;
  receiver.cq = {receive_place.ring, receive_place.doorbell, channel.receive_cq, receive_place.log_entries, 0, 0};
  const auto packetiser = std::make_unique<sdr_dpa_packetiser>();
  packetiser->pair = pair_;
  packetiser->queues = queues;
  packetiser->report = address_of(channel.done);
  packetiser->channel = index;
  packetiser->cq = {send_place.ring, send_place.doorbell, channel.send_cq, send_place.log_entries, 0, 0};
  return platform_.write(queues, made.data(), sizeof(sdr_dpa_queue) * made.size()) &&
                 platform_.write(channel.receiver, &receiver, sizeof(receiver)) &&
                 platform_.write(channel.packetiser, packetiser.get(), sizeof(sdr_dpa_packetiser))
             ? SDR_OK
             : SDR_NO_MEMORY;
}

uint32_t DevicePair::queue_number(uint32_t generation, uint32_t channel) const {
  return channels_[channel].queues[generation];
}

// ---- the control path ----

sdr_status DevicePair::call(sdr_dpa_call* call, size_t flags, uint64_t* result, void* reply,
                            size_t reply_bytes) const {
  call->pair = pair_;
  call->reply = address_of(reply_);
  const std::lock_guard lock(mutex_);
  if (stopped_) return SDR_CLOSED;
  uint64_t answer = 0;
  if (!platform_.write(call_, call, offsetof(sdr_dpa_call, flags) + flags) || !platform_.call(call_, &answer)) {
    return SDR_CLOSED;
  }
  if (result != nullptr) *result = answer;
  const auto status = static_cast<sdr_status>(answer & 0xff);
  if (status == SDR_OK && reply != nullptr) std::memcpy(reply, reply_, reply_bytes);
  return status;
}

sdr_status DevicePair::post(uint32_t message, void*, uint64_t bytes, void*, uint32_t parity_chunks) {
  sdr_dpa_call request{};
  request.op = SDR_DPA_POST;
  request.message = message;
  request.bytes = bytes;
  request.count = parity_chunks;
  return call(&request, 0);
}

sdr_status DevicePair::set_length(uint32_t message, uint64_t bytes, bool* complete) {
  sdr_dpa_call request{};
  request.op = SDR_DPA_SET_LENGTH;
  request.message = message;
  request.bytes = bytes;
  uint64_t result = 0;
  const sdr_status status = call(&request, 0, &result);
  *complete = (result & SDR_DPA_COMPLETE_BIT) != 0;
  return status;
}

sdr_status DevicePair::complete(uint32_t message) {
  sdr_dpa_call request{};
  request.op = SDR_DPA_COMPLETE;
  request.message = message;
  return call(&request, 0);
}

sdr_status DevicePair::seal(uint32_t message, uint32_t first, uint32_t count, uint8_t* flags) {
  for (uint32_t at = 0; at < count; at += SDR_DPA_FLAGS_MAX) {
    const uint32_t part = std::min<uint32_t>(count - at, SDR_DPA_FLAGS_MAX);
    sdr_dpa_call request{};
    request.op = SDR_DPA_SEAL;
    request.message = message;
    request.first = first + at;
    request.count = part;
    std::memcpy(request.flags, flags + at, part);
    const sdr_status status = call(&request, part, nullptr, flags + at, part);
    if (status != SDR_OK) return status;
  }
  return SDR_OK;
}

sdr_status DevicePair::fill(uint32_t message, uint32_t first, uint32_t count, const uint8_t* flags, bool* complete) {
  *complete = false;
  for (uint32_t at = 0; at < count; at += SDR_DPA_FLAGS_MAX) {
    const uint32_t part = std::min<uint32_t>(count - at, SDR_DPA_FLAGS_MAX);
    sdr_dpa_call request{};
    request.op = SDR_DPA_FILL;
    request.message = message;
    request.first = first + at;
    request.count = part;
    std::memcpy(request.flags, flags + at, part);
    uint64_t result = 0;
    const sdr_status status = call(&request, part, &result);
    if (status != SDR_OK) return status;
    *complete |= (result & SDR_DPA_COMPLETE_BIT) != 0;
  }
  return SDR_OK;
}

sdr_bitmap_slab DevicePair::bitmaps() const { return {host_, mirror_bytes_, slot_bytes_}; }

sdr_status DevicePair::progress(uint32_t message, sdr_rx_progress* out) const {
  sdr_dpa_call request{};
  request.op = SDR_DPA_PROGRESS;
  request.message = message;
  return call(&request, 0, nullptr, out, sizeof(*out));
}

sdr_status DevicePair::chunk_expand(uint32_t message, uint32_t chunk, uint64_t* bits, size_t words) const {
  const size_t needed = (options_.geometry.packets_per_chunk + 63) / 64;
  if (words < needed) return SDR_INVALID;
  sdr_dpa_call request{};
  request.op = SDR_DPA_EXPAND;
  request.message = message;
  request.first = chunk;
  return call(&request, 0, nullptr, bits, needed * sizeof(uint64_t));
}

bool DevicePair::user_immediate(uint32_t message, uint32_t* value) const {
  sdr_dpa_call request{};
  request.op = SDR_DPA_USER_IMMEDIATE;
  request.message = message;
  uint64_t result = 0;
  if (call(&request, 0, &result) != SDR_OK) return false;
  *value = static_cast<uint32_t>(result >> 32);
  return true;
}

void DevicePair::counters(uint64_t counts[SDR_STEP_KINDS]) const {
  sdr_dpa_call request{};
  request.op = SDR_DPA_COUNTERS;
  if (call(&request, 0, nullptr, counts, sizeof(last_counts_)) == SDR_OK) return;
  if (counts != last_counts_) std::copy_n(last_counts_, SDR_STEP_KINDS, counts);
}

// ---- sending ----

void DevicePair::set_peer_key(uint32_t key) {
  for (const Channel& channel : channels_)
    platform_.write(channel.packetiser + offsetof(sdr_dpa_packetiser, peer_key), &key, sizeof(key));
}

bool DevicePair::has_room() const {
  return std::all_of(channels_.begin(), channels_.end(), [](const Channel& channel) {
    const uint32_t index = channel.tail % SDR_DPA_SENDS;
    return channel.given[index] == channel.taken[index];
  });
}

namespace {

// Of a descriptor: below the bit that says that its sends failed, and never 0, which was never given.
uint32_t next_lap(uint32_t lap) { return lap + 1 == SDR_DPA_SEND_FAILED ? 1 : lap + 1; }

}  // namespace

sdr_status DevicePair::send(const sdr_dpa_send& send, uint32_t first, uint32_t end, std::vector<Ticket>* tickets) {
  const auto channels = static_cast<uint32_t>(channels_.size());
  for (uint32_t packet = first; packet < end && packet < first + channels; packet++) {
    Channel& channel = channels_[packet % channels];
    const uint32_t index = channel.tail % SDR_DPA_SENDS;
    sdr_dpa_call request{};
    request.op = SDR_DPA_SEND;
    request.packetiser = channel.packetiser;
    request.first = index;
    request.send = send;
    request.send.first = first;
    request.send.next = packet;
    request.send.end = end;
    request.send.lap = next_lap(channel.given[index]);
    const sdr_status status = call(&request, 0);
    if (status != SDR_OK) return status;
    channel.given[index] = next_lap(channel.given[index]);
    channel.tail++;
    tickets->push_back({packet % channels, index});
  }
  return SDR_OK;
}

void DevicePair::cancel(uint32_t message) {
  for (const Channel& channel : channels_) {
    sdr_dpa_call request{};
    request.op = SDR_DPA_CANCEL;
    request.packetiser = channel.packetiser;
    request.message = message;
    call(&request, 0);
  }
}

void DevicePair::take_done(std::vector<Ticket>* tickets) {
  for (uint32_t index = 0; index < channels_.size(); index++) {
    Channel& channel = channels_[index];
    for (uint32_t descriptor = 0; descriptor < SDR_DPA_SENDS; descriptor++) {
      if (channel.given[descriptor] == channel.taken[descriptor]) continue;
      const uint32_t done = __atomic_load_n(channel.done + descriptor, __ATOMIC_ACQUIRE);
      if ((done & ~uint32_t{SDR_DPA_SEND_FAILED}) != channel.given[descriptor]) continue;
      send_errors_ += (done & SDR_DPA_SEND_FAILED) != 0 ? 1 : 0;
      channel.taken[descriptor] = channel.given[descriptor];
      tickets->push_back({index, descriptor});
    }
  }
}

// ---- reports ----

namespace {

// Whether the line could be read whole.
bool read_report(const sdr_dpa_report& line, sdr_dpa_report* report) {
  const auto* from = reinterpret_cast<const uint64_t*>(&line);
  uint64_t words[SDR_DPA_LINE / 8];
  for (size_t index = 0; index < SDR_DPA_LINE / 8; index++)
    words[index] = __atomic_load_n(from + index, __ATOMIC_ACQUIRE);
  std::memcpy(report, words, sizeof(words));
  return report->changes == report->changes_again;
}

}  // namespace

// A line that is being written announces itself once more only when it is a slot's: the caller looks again.
bool DevicePair::take_changes(std::vector<Change>* changes) {
  bool whole = true;
  sdr_dpa_report report{};
  for (Channel& channel : channels_) {
    if (!read_report(channel.reports[0], &report)) whole = false;
    else if (report.changes != channel.seen[0]) whole &= take_slots(&channel, report, changes);
  }
  return whole;
}

bool DevicePair::take_slots(Channel* channel, const sdr_dpa_report& worker, std::vector<Change>* changes) {
  bool whole = true;
  sdr_dpa_report report{};
  for (size_t line = 1; line < channel->seen.size(); line++) {
    if (!read_report(channel->reports[line], &report)) whole = false;
    else if (report.changes != channel->seen[line]) {
      channel->seen[line] = report.changes;
      changes->push_back({report.message, report.complete != 0});
    }
  }
  channel->worker = worker;
  if (whole) channel->seen[0] = worker.changes;
  return whole;
}

WorkerCounts DevicePair::worker_counts() const {
  WorkerCounts sum;
  for (const Channel& channel : channels_) {
    sum.completions += channel.worker.completions;
    sum.errors += channel.worker.errors;
    sum.unknown_queue += channel.worker.unknown_queue;
    if (channel.worker.errors == 0) continue;
    sum.error_queue = channel.worker.error_queue;
    sum.error_syndrome = channel.worker.error_syndrome;
  }
  return sum;
}

}  // namespace sdr::dpa
