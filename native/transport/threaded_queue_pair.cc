#include "transport/threaded_queue_pair.h"

namespace sdr {

sdr_status ThreadedQueuePair::recover(uint32_t message, const codec::Code& code,
                                      const BlockChunks& block, Recovered* recovered) {
  return receives_->recover(message, code, block, recovered);
}

sdr_status ThreadedQueuePair::set_length(uint32_t message, uint64_t bytes, bool* complete) {
  return closed_ ? SDR_CLOSED : receives_->set_length(message, bytes, complete);
}

sdr_status ThreadedQueuePair::complete(uint32_t message) {
  return closed_ ? SDR_CLOSED : receives_->complete(message);
}

sdr_status ThreadedQueuePair::open_send(uint32_t message, uint64_t message_bytes,
                                        uint32_t user_immediate) {
  return closed_ ? SDR_CLOSED : sends_->open(message, message_bytes, user_immediate);
}

sdr_status ThreadedQueuePair::close_send(uint32_t message) {
  return closed_ ? SDR_CLOSED : sends_->close(message);
}

sdr_status ThreadedQueuePair::send_control(PacketKind kind, const uint8_t* bytes, size_t size) {
  return closed_ ? SDR_CLOSED : sends_->control(kind, bytes, size);
}

sdr_status ThreadedQueuePair::set_link(const LinkConfig& config) {
  return closed_ ? SDR_CLOSED : sends_->set_link(config);
}

QpCounters ThreadedQueuePair::counted() const {
  QpCounters sum;
  engine().counters(sum.steps.data());
  sends_->count(&sum);
  return sum;
}

}  // namespace sdr
