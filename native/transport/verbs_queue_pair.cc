#include "transport/verbs_queue_pair.h"

#include <cerrno>
#include <utility>

#include "transport/checks.h"
#include "transport/verbs_info.h"
#include "transport/verbs_root_key.h"

namespace sdr::verbs {

VerbsQueuePair::VerbsQueuePair(Environment& environment, uint32_t id, const QpConfig& config,
                               sdr_rx* rx, Device& device,
                               const std::vector<std::unique_ptr<Channel>>& channels)
    : ThreadedQueuePair(id, config.geometry),
      device_(device),
      shared_(environment, id, config, rx),
      engine_(rx),
      channels_(channels) {
  receives_ = std::make_unique<Receives>(engine_, config.geometry, Receives::Placed::by_device);
  sends_ = std::make_unique<Sends>(shared_, config.work_requests_max, make_lanes(),
                                   [this](uint32_t i) { channels_[i]->poke(); });
}

std::vector<SendLane*> VerbsQueuePair::make_lanes() {
  std::vector<SendLane*> plain;
  for (uint32_t i = 0; i < channels_.size(); i++) {
    lanes_.push_back(std::make_unique<Lane>(device_, shared_, i));
    plain.push_back(lanes_.back().get());
  }
  return plain;
}

bool VerbsQueuePair::open(DeviceError* error) {
  for (size_t i = 0; i < lanes_.size(); i++)
    if (!lanes_[i]->open(channels_[i]->events(), error)) return false;
  keys_ = make_root_key(device_, shared_.geometry);
  if (!keys_) keys_ = make_message_keys(device_, shared_.geometry);
  // Last: from here on threads know the lanes.
  for (const auto& lane : lanes_) channels_[lane->channel]->add(lane.get());
  return true;
}

VerbsQueuePair::~VerbsQueuePair() {
  close();
  sdr_rx_destroy(shared_.rx);
}

std::vector<uint8_t> VerbsQueuePair::info() const {
  if (closed_) return {};
  Info info;
  info.reliable = device_.options.reliable;
  info.ethernet = device_.is_ethernet();
  info.mtu = device_.mtu;
  info.lid = device_.port.lid;
  info.has_gid = device_.gid_index >= 0;
  info.gid = device_.gid;
  info.control_number = lanes_.front()->control_number();
  info.root = keys_->root();
  for (const auto& lane : lanes_) info.numbers.push_back(lane->numbers());
  return write_info(info);
}

sdr_status VerbsQueuePair::connect(const uint8_t* bytes, size_t size, const LinkConfig& link,
                                   uint64_t seed, DeviceError* error) {
  if (closed_) return SDR_CLOSED;
  if (sends_->is_connected() || !link.is_valid()) return SDR_INVALID;
  Info peer;
  if (!read_info(bytes, size, shared_.geometry, &peer, error) ||
      !is_compatible(peer, device_, shared_.geometry, error))
    return SDR_INVALID;
  const PeerAddress address{peer.gid, peer.lid, peer.has_gid, peer.mtu};
  // No thread may touch queues that change state.
  for (const auto& lane : lanes_) channels_[lane->channel]->remove(lane.get());
  bool connected = true;
  for (size_t i = 0; i < lanes_.size() && connected; i++)
    connected = lanes_[i]->connect(address, peer.numbers[i], peer.control_number, error);
  peer_root_ = peer.root;
  if (connected) sends_->connect(link, seed);
  for (const auto& lane : lanes_) channels_[lane->channel]->add(lane.get());
  return connected ? SDR_OK : SDR_INVALID;
}

// ---- receive side ----

sdr_status VerbsQueuePair::post_receive(uint32_t message, RegionRef region, uint64_t offset,
                                        uint64_t bytes, Parity parity) {
  if (closed_) return SDR_CLOSED;
  // A card needs memory to write to, and writes no bitmaps for what it has not.
  const auto has_memory = [](const RegionRef& one) {
    return one && (one->base != nullptr || one->dmabuf_fd >= 0);
  };
  if ((bytes > 0 && !has_memory(region)) || (parity.chunks > 0 && !has_memory(parity.region)))
    return SDR_INVALID;
  if (!is_receivable(shared_.geometry, region.get(), offset, bytes, parity)) return SDR_INVALID;
  if (bytes > shared_.geometry.max_message_bytes) return SDR_TOO_LARGE;
  if (sdr_rx_slot_message(shared_.rx, message % shared_.geometry.slots) != UINT32_MAX)
    return SDR_BUSY;
  if (const int number = keys_->open(message, region, offset, bytes, parity); number != 0) {
    if (number == E2BIG) return SDR_TOO_LARGE;
    refusal_ = device_.memory_error(number, bytes);
    return SDR_NO_MEMORY;
  }
  const sdr_status status =
      receives_->post(message, std::move(region), offset, bytes, std::move(parity));
  if (status != SDR_OK) close_key(message);
  return status;
}

size_t VerbsQueuePair::grant(uint32_t message, uint8_t out[kGrantBytesMax]) const {
  return closed_ ? 0 : keys_->grant(message, out);
}

// The engine first: what the card has already announced is late. Then the key: what it has not
// finds no memory.
sdr_status VerbsQueuePair::complete(uint32_t message) {
  const sdr_status status = ThreadedQueuePair::complete(message);
  if (status == SDR_OK) close_key(message);
  return status;
}

void VerbsQueuePair::close_key(uint32_t message) {
  if (keys_->close(message)) return;
  shared_.failure.set("its memory key on " + device_.options.device +
                          " cannot be changed any more: the queue for its updates has failed",
                      true);
  shared_.report_error(EIO);
}

// ---- send side ----

// Whether a range lies within what the peer has opened: beyond it, under a root key, is another
// message's memory.
bool VerbsQueuePair::is_opened(const OpenSend& send, uint32_t first_chunk, uint64_t bytes) const {
  const RemoteMemory& to = send.remote;
  const uint64_t first_packet = uint64_t{first_chunk} * shared_.geometry.packets_per_chunk;
  const bool is_parity = first_packet >= to.parity_first_packet;
  const uint64_t base = is_parity ? to.parity_first_packet : 0;
  const uint64_t offset = (first_packet - base) * shared_.geometry.packet_bytes;
  const uint64_t most = is_parity ? to.parity_bytes : to.bytes;
  return offset <= most && bytes <= most - offset;
}

sdr_status VerbsQueuePair::accept_grant(uint32_t message, const uint8_t* grant, size_t size) {
  if (closed_) return SDR_CLOSED;
  OpenSend* send = sends_->find(message);
  if (send == nullptr) return SDR_CLOSED;
  if (send->granted.load()) return SDR_OK;  // a CTS that was repeated
  if (!read_grant(grant, size, shared_.geometry, message, peer_root_, &send->remote))
    return SDR_INVALID;
  if (send->bytes > send->remote.bytes) return SDR_INVALID;
  send->granted.store(true);
  return SDR_OK;
}

sdr_status VerbsQueuePair::post_send(uint32_t message, uint32_t work_request, RegionRef region,
                                     uint64_t source_offset, uint32_t first_chunk, uint64_t bytes) {
  if (closed_) return SDR_CLOSED;
  const OpenSend* send = sends_->find(message);
  if (send == nullptr) return SDR_CLOSED;
  if (!region || (region->base == nullptr && region->dmabuf_fd < 0) || !send->granted.load())
    return SDR_INVALID;
  if (!is_opened(*send, first_chunk, bytes)) return SDR_INVALID;
  const uint32_t local_key = device_.local_key(region);
  if (local_key == 0) {
    refusal_ = device_.memory_error(errno, region->bytes);
    return SDR_NO_MEMORY;
  }
  return sends_->post(message, work_request, std::move(region), source_offset, first_chunk, bytes,
                     local_key);
}

// ---- looking and closing ----

QpCounters VerbsQueuePair::counters() const {
  QpCounters sum = counted();
  for (const auto& lane : lanes_) {
    sum.control_received += lane->counters.control_received.get();
    sum.control_dropped += lane->counters.control_dropped.get();
    sum.malformed += lane->counters.malformed.get();
    sum.send_errors += lane->counters.send_errors.get();
  }
  return sum;
}

void VerbsQueuePair::close() {
  if (closed_) return;
  closed_ = true;
  for (const auto& lane : lanes_) {
    channels_[lane->channel]->remove(lane.get());
    lane->close();
  }
  sends_->close_all();
  keys_.reset();
  receives_->close();
}

}  // namespace sdr::verbs
