#include "transport/verbs_lane.h"

#include <endian.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

namespace sdr::verbs {
namespace {

constexpr uint32_t kSignalEvery = 16;  // sends; the last of a batch always is
constexpr size_t kPollMax = 512;       // completions a round: batches inside the engine stay short
constexpr uint32_t kRefillShare = 8;   // receives go back when this part of a queue is used up
constexpr uint32_t kReceiveDepthMin = 16, kSendDepthMin = 4;
constexpr uint64_t kIndexShift =
    32;  // of a queue in a work request's id; positions and slots below

uint64_t id_of(uint32_t index, uint32_t low) { return uint64_t{index} << kIndexShift | low; }

}  // namespace

Lane::Lane(Device& device, Shared& its, uint32_t its_channel)
    : SendLane(its, its_channel),
      device_(device),
      shared_(its),
      queues_(its.geometry.generations) {}

Lane::~Lane() { close(); }

void Lane::for_each(const std::function<void(Queue&)>& action) {
  for (Queue& queue : queues_) action(queue);
  if (channel == 0) action(control_);
}

// ---- opening and closing ----

bool Lane::refuse(int number, const char* what, DeviceError* error) {
  *error = {number, "ENVIRONMENT",
            device_.options.device + " gives no " + what + ": " + std::strerror(number) +
                " (it has at most " + std::to_string(device_.limits.max_qp) + " queue pairs of " +
                std::to_string(device_.limits.max_qp_wr) + " work requests, completion queues of " +
                std::to_string(device_.limits.max_cqe) + ")",
            "use fewer generations, channels or queue pairs, or end other programs that use it"};
  return false;
}

// A completion queue that overflows ends all its queue pairs: it has room for all that can be under
// way.
uint32_t Lane::queue_share(const Device& device, uint32_t generations) {
  const auto most = static_cast<uint32_t>(std::max(device.limits.max_qp_wr, 1));
  const auto entries = static_cast<uint32_t>(std::max(device.limits.max_cqe, 1));
  constexpr uint32_t control = kControlReceiveDepth + kControlSendDepth;
  return std::min(most, entries > control ? (entries - control) / generations : 0);
}

// Powers of two: the ring then has as many entries as were posted, and so a doorbell record says
// all.
uint32_t Lane::receive_depth(const Device& device, uint32_t generations) {
  return std::bit_floor(std::min(kReceiveDepth, queue_share(device, generations)));
}

bool Lane::open(ibv_comp_channel* events, DeviceError* error) {
  const auto generations = static_cast<uint32_t>(queues_.size());
  const auto most = static_cast<uint32_t>(std::max(device_.limits.max_qp_wr, 1));
  const uint32_t control = channel == 0 ? kControlReceiveDepth + kControlSendDepth : 0;
  depths_.receive = receive_depth(device_, generations);
  depths_.send = std::min(kSendDepth, queue_share(device_, generations));
  if (depths_.receive < kReceiveDepthMin || depths_.send < kSendDepthMin ||
      (control > 0 && most < kControlReceiveDepth))
    return refuse(EINVAL, "queues of a useful size", error);
  verbs_context* extended = verbs_get_ctx_op(device_.context, create_cq_ex);
  if (extended == nullptr) return refuse(EOPNOTSUPP, "extended completion queues", error);
  ibv_cq_init_attr_ex attributes{};
  attributes.channel = events;
  attributes.cq_context = this;
  attributes.wc_flags = IBV_WC_EX_WITH_BYTE_LEN | IBV_WC_EX_WITH_IMM;
  attributes.cqe = depths_.receive * generations + control;
  errno = 0;
  receive_cq_ = extended->create_cq_ex(device_.context, &attributes);
  attributes.cqe = depths_.send * generations + control;
  send_cq_ =
      receive_cq_ == nullptr ? nullptr : extended->create_cq_ex(device_.context, &attributes);
  if (send_cq_ == nullptr) return refuse(errno, "completion queue", error);
  for (uint32_t i = 0; i < generations; i++) {
    queues_[i].index = i;
    if (!open_queue(queues_[i], depths_.send, depths_.receive, error)) return false;
    const int number = queues_[i].hardware.fill_empty(device_, id_of(i, 0), depths_.receive);
    if (number != 0) return refuse(number, "room for receives", error);
  }
  if (channel != 0) return true;
  control_.index = generations;
  if (!open_queue(control_, kControlSendDepth, kControlReceiveDepth, error) ||
      !open_control_memory(error))
    return false;
  const int number = post_control_receives(kControlReceiveDepth);
  return number == 0 || refuse(number, "room for receives", error);
}

bool Lane::open_queue(Queue& queue, uint32_t depth, uint32_t receive_depth, DeviceError* error) {
  queue.depth = depth;
  const int number = queue.hardware.create(device_, ibv_cq_ex_to_cq(send_cq_),
                                           ibv_cq_ex_to_cq(receive_cq_), {depth, receive_depth});
  return number == 0 ||
         refuse(number, device_.options.reliable ? "RC queue pair" : "UC queue pair", error);
}

bool Lane::open_control_memory(DeviceError* error) {
  const uint64_t bytes = control_slot(kControlReceiveDepth + kControlSendDepth);
  control_memory_.reset(new uint8_t[bytes]);
  const Region region{control_memory_.get(), bytes};
  control_key_ = device_.register_memory(region, 0, bytes, IBV_ACCESS_LOCAL_WRITE);
  if (!control_key_) *error = device_.memory_error(errno, bytes);
  return static_cast<bool>(control_key_);
}

int Lane::post_control_receives(uint32_t count) {
  for (; count > 0; count--) {
    const uint32_t slot = control_posted_ % kControlReceiveDepth;
    ibv_sge where{reinterpret_cast<uint64_t>(control_memory_.get() + control_slot(slot)),
                  shared_.geometry.packet_bytes, control_key_.lkey()};
    ibv_recv_wr one{};
    one.wr_id = id_of(control_.index, slot);
    one.sg_list = &where;
    one.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    ibv_qp* qp = control_.hardware.qp();
    const int number = qp->context->ops.post_recv(qp, &one, &bad);
    if (number != 0) return number;
    control_posted_++;
  }
  return 0;
}

std::vector<uint32_t> Lane::numbers() const {
  std::vector<uint32_t> all;
  for (const Queue& queue : queues_) all.push_back(queue.hardware.number());
  return all;
}

bool Lane::connect(const PeerAddress& peer, const std::vector<uint32_t>& peer_numbers,
                   uint32_t peer_control, DeviceError* error) {
  int number = 0;
  for (size_t i = 0; i < queues_.size() && number == 0; i++)
    number = queues_[i].hardware.connect(device_, peer, peer_numbers[i]);
  if (channel == 0 && number == 0) number = control_.hardware.connect(device_, peer, peer_control);
  if (number == 0) return true;
  *error = {number, "PEER_INCOMPATIBLE",
            std::string("the path to the peer's ") +
                (peer.has_gid ? "GID " + to_text(peer.gid) : "LID " + std::to_string(peer.lid)) +
                " cannot be set up: " + std::strerror(number),
            "see that both ends' addresses are in networks that reach each other, and their link "
            "layers are the same"};
  return false;
}

void Lane::close() {
  for_each([](Queue& queue) { queue.hardware.destroy(); });
  for (ibv_cq_ex** cq : {&send_cq_, &receive_cq_}) {
    if (*cq != nullptr) device_.ibv.destroy_cq(ibv_cq_ex_to_cq(*cq));
    *cq = nullptr;
  }
  control_key_.reset();
  for_each([this](Queue& queue) { drop_queue(queue, nullptr); });
  drop_queued();
}

// Its sends will not complete any more; with a report their work requests are injected, into
// nothing.
void Lane::drop_queue(Queue& queue, Report* report) {
  if (queue.outstanding() >= queue.depth && queue.depth > 0) full_--;
  if (queue.staged.parcel != nullptr) release(queue.staged.parcel);
  queue.staged = {};
  queue.completed = queue.posted;
  for (const Retained& one : queue.retained) release(one.parcel);
  queue.retained.clear();
  if (report != nullptr)
    for (const Offered& one : queue.offered) report_injected(one.request, *report);
  queue.offered.clear();
}

void Lane::device_failed(const char* what) {
  shared_.failure.set(device_.options.device + ": " + what, true);
  shared_.report_error(EIO);
}

// ---- sending ----

bool Lane::has_room(const Parcel& parcel) const {
  const sdr_geometry& geometry = shared_.geometry;
  const Queue& queue =
      parcel.request
          ? queues_[parcel.request->send->message / geometry.slots % geometry.generations]
          : control_;
  return queue.outstanding() < queue.depth;
}

void Lane::emit(Parcel* parcel, uint32_t packet, bool corrupt) {
  if (corrupt) return;  // the far end's card discards what fails its check
  Staged next;
  next.parcel = parcel;
  if (!parcel->request) {
    if (control_.failed) return;
    const uint32_t slot =
        kControlReceiveDepth +
        (control_.posted + (control_.staged.parcel != nullptr)) % kControlSendDepth;
    uint8_t* copy = control_memory_.get() + control_slot(slot);
    std::memcpy(copy, parcel->control.get(), parcel->control_bytes);
    next.local = reinterpret_cast<uint64_t>(copy);
    next.bytes = parcel->control_bytes;
    next.local_key = control_key_.lkey();
    return stage(control_, next);
  }
  const WorkRequest& request = *parcel->request;
  const sdr_geometry& geometry = shared_.geometry;
  const sdr_tx_packet tx = sdr_tx_make(&geometry, request.send->message, request.cut_bytes, packet,
                                       request.send->user_immediate);
  Queue& queue = queues_[tx.queue / geometry.channels];
  if (queue.failed) return;
  const RemoteMemory& to = request.send->remote;
  const uint64_t size = geometry.packet_bytes;
  const bool is_parity = packet >= to.parity_first_packet;
  next.local = reinterpret_cast<uint64_t>(request.data) + (packet - request.first_packet) * size;
  next.remote = is_parity ? to.parity_base + (packet - to.parity_first_packet) * size
                          : to.base + packet * size;
  next.remote_key = is_parity ? to.parity_key : to.key;
  next.bytes = tx.bytes;
  next.local_key = request.local_key;
  next.immediate = tx.immediate;
  stage(queue, next);
}

// One send is held back, because the last of a batch is to be signalled, and which is last shows
// only later.
void Lane::stage(Queue& queue, const Staged& next) {
  if (!queue.started) {
    ibv_wr_start(queue.hardware.ex());
    queue.started = true;
  }
  if (queue.staged.parcel != nullptr) post_staged(queue, (queue.posted + 1) % kSignalEvery == 0);
  retain(next.parcel);
  queue.staged = next;
  if (queue.outstanding() == queue.depth) full_++;
}

void Lane::post_staged(Queue& queue, bool signalled) {
  const Staged& one = queue.staged;
  ibv_qp_ex* ex = queue.hardware.ex();
  queue.posted++;
  ex->wr_id = id_of(queue.index, queue.posted);
  ex->wr_flags = signalled ? IBV_SEND_SIGNALED : 0;
  if (&queue == &control_)
    ibv_wr_send(ex);
  else
    ibv_wr_rdma_write_imm(ex, one.remote_key, one.remote, htobe32(one.immediate));
  ibv_wr_set_sge(ex, one.local_key, one.local, one.bytes);
  // Control bytes were copied. Of an RC queue pair's, a completion says that the peer's card has
  // them, and one that has closed never says so: they count as gone when posted.
  if (&queue == &control_ && device_.options.reliable)
    release(one.parcel);
  else
    queue.retained.push_back({queue.posted, one.parcel});
  queue.staged = {};
}

void Lane::finish_batch(Queue& queue) {
  if (!queue.started) return;
  queue.started = false;
  if (queue.staged.parcel != nullptr) post_staged(queue, true);
  const int number = ibv_wr_complete(queue.hardware.ex());
  if (number == 0) return;
  counters.send_errors.add(queue.outstanding());
  fail(queue, "send", IBV_WC_GENERAL_ERR, static_cast<uint32_t>(number));
}

int64_t Lane::pump(int64_t now_ns, size_t quantum, Report& report) {
  const int64_t again_ns = SendLane::pump(now_ns, quantum);
  // A request counts as injected when what was posted until now has left.
  for (auto& request : take_offered()) {
    Queue& queue = queue_of(request->send->message);
    const uint32_t position = queue.posted + (queue.staged.parcel != nullptr ? 1 : 0);
    const bool waits = !queue.failed && position != queue.completed && !request->dropped.load();
    if (waits)
      queue.offered.push_back({position, std::move(request)});
    else
      report_injected(request, report);
  }
  for_each([this](Queue& queue) { finish_batch(queue); });
  for_each([&](Queue& queue) {
    if (queue.failed && queue.outstanding() > 0) drop_queue(queue, &report);
  });
  return full_ > 0 && again_ns <= now_ns ? INT64_MAX : again_ns;
}

void Lane::completed(Queue& queue, uint32_t position, Report& report) {
  if (queue.failed) return;
  const bool was_full = queue.outstanding() >= queue.depth;
  queue.completed = position;
  if (was_full && queue.outstanding() < queue.depth) full_--;
  const auto is_done = [&](uint32_t at) { return static_cast<int32_t>(position - at) >= 0; };
  while (!queue.retained.empty() && is_done(queue.retained.front().position)) {
    release(queue.retained.front().parcel);
    queue.retained.pop_front();
  }
  while (!queue.offered.empty() && is_done(queue.offered.front().position)) {
    report_injected(queue.offered.front().request, report);
    queue.offered.pop_front();
  }
}

// One completion between start and end of a poll, here and in receive(): where rxe's ibv_next_poll
// finds none, it ends the poll itself (rdma-core 44), and ibv_end_poll would skip the completion
// that comes next.
size_t Lane::reap(Report& report) {
  ibv_poll_cq_attr none{};
  size_t count = 0;
  for (; count < kPollMax && ibv_start_poll(send_cq_, &none) == 0; count++) {
    const auto index = static_cast<uint32_t>(send_cq_->wr_id >> kIndexShift);
    Queue& queue = index < queues_.size() ? queues_[index] : control_;
    if (send_cq_->status == IBV_WC_SUCCESS) {
      completed(queue, static_cast<uint32_t>(send_cq_->wr_id), report);
      if (queue.failed) drop_queue(queue, &report);  // by its other half, meanwhile
    } else {
      counters.send_errors.add(1);
      fail(queue, "send", send_cq_->status, ibv_wc_read_vendor_err(send_cq_));
      drop_queue(queue, &report);
    }
    ibv_end_poll(send_cq_);
  }
  if (error_ != 0 && count < kPollMax) shared_.report_error(error_);
  return count;
}

// What fails first in a queue flushes its other half too, whose completion queue may be read first:
// the cause counts, whenever it comes.
void Lane::fail(Queue& queue, const char* side, ibv_wc_status status, uint32_t vendor) {
  queue.failed = true;
  queue.hardware.to_error();  // what is still in it comes back flushed
  const char* what = &queue == &control_ ? "control" : "data";
  const char* name = device_.ibv.wc_status_str(status);
  shared_.failure.set(std::string(side) + " on the " + what + " queue " +
                          std::to_string(queue.hardware.number()) + ": " +
                          (name != nullptr ? name : "unknown status") + " (status " +
                          std::to_string(status) + ", vendor code " + std::to_string(vendor) + ")",
                      status != IBV_WC_WR_FLUSH_ERR);
  const bool is_silence = status == IBV_WC_RETRY_EXC_ERR || status == IBV_WC_RNR_RETRY_EXC_ERR;
  if (error_ == 0 || is_silence) error_ = is_silence ? ETIMEDOUT : EIO;
}

// ---- receiving ----

size_t Lane::receive(int64_t now_ns, Report& report) {
  ibv_poll_cq_attr none{};
  if (ibv_start_poll(receive_cq_, &none) != 0) return 0;
  sdr_rx_enter(shared_.rx, channel);
  size_t count = 0;
  do {
    const auto index = static_cast<uint32_t>(receive_cq_->wr_id >> kIndexShift);
    Queue& queue = index < queues_.size() ? queues_[index] : control_;
    queue.consumed++;
    if (receive_cq_->status == IBV_WC_SUCCESS)
      received(queue, now_ns, report);
    else if (!queue.failed)
      fail(queue, "receive", receive_cq_->status, ibv_wc_read_vendor_err(receive_cq_));
    ibv_end_poll(receive_cq_);
    count++;
  } while (count < kPollMax && ibv_start_poll(receive_cq_, &none) == 0);
  sdr_rx_leave(shared_.rx, channel);
  return count;
}

void Lane::received(Queue& queue, int64_t now_ns, Report& report) {
  shared_.last_heard_ns.store(now_ns, std::memory_order_relaxed);
  const uint32_t bytes = ibv_wc_read_byte_len(receive_cq_);
  const ibv_wc_opcode opcode = ibv_wc_read_opcode(receive_cq_);
  if (&queue == &control_) {
    if (opcode != IBV_WC_RECV || bytes == 0) return counters.malformed.add(1);
    counters.control_received.add(1);
    const uint8_t* body =
        control_memory_.get() + control_slot(static_cast<uint32_t>(receive_cq_->wr_id));
    return report_control(shared_, body, bytes, now_ns, &counters.control_dropped, report);
  }
  if (opcode != IBV_WC_RECV_RDMA_WITH_IMM) return counters.malformed.add(1);
  const sdr_completion completion{queue.index * shared_.geometry.channels + channel,
                                  be32toh(ibv_wc_read_imm_data(receive_cq_)), bytes};
  step_and_report(shared_, channel, completion, now_ns, report);
}

void Lane::refill() {
  for (Queue& queue : queues_) {
    if (queue.failed || queue.consumed < depths_.receive / kRefillShare) continue;
    if (queue.hardware.refill_empty(queue.consumed) != 0)
      fail(queue, "receive", IBV_WC_GENERAL_ERR, ENOMEM);
    queue.consumed = 0;
  }
  if (channel != 0 || control_.failed || control_.consumed == 0) return;
  if (post_control_receives(control_.consumed) != 0)
    fail(control_, "receive", IBV_WC_GENERAL_ERR, ENOMEM);
  control_.consumed = 0;
}

bool Lane::arm() {
  if (armed_) return false;
  armed_ = true;
  for (ibv_cq_ex* cq : {send_cq_, receive_cq_}) {
    ibv_cq* plain = ibv_cq_ex_to_cq(cq);
    plain->context->ops.req_notify_cq(plain, 0);
  }
  return true;
}

}  // namespace sdr::verbs
