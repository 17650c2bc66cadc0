// The sending half of the device and the wire: work requests become packets, packets are lost,
// doubled and overtaken.
#include <algorithm>

#include "fabric.h"

namespace emulated {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kHoldPacketsMax = 8;  // a held packet is overtaken by so many at most
constexpr auto kHoldTime = std::chrono::milliseconds(5);  // and waits no longer than this
constexpr auto kTick = std::chrono::milliseconds(1);

bool chance(double probability) {
  if (probability <= 0) return false;
  return std::uniform_real_distribution<double>(0, 1)(fabric().random) < probability;
}

// Parts of `from`, [offset, offset + bytes).
void slice(const std::vector<Span>& from, uint64_t offset, uint64_t bytes, std::vector<Span>* to) {
  to->clear();
  for (const Span& span : from) {
    if (bytes == 0) return;
    if (offset >= span.bytes) {
      offset -= span.bytes;
      continue;
    }
    const uint64_t part = std::min(bytes, span.bytes - offset);
    to->push_back({span.data == nullptr ? nullptr : span.data + offset, part});
    bytes -= part;
    offset = 0;
  }
}

void release_held(const Qp* source) {
  Fabric& all = fabric();
  for (size_t i = 0; i < all.held.size();) {
    HeldPacket& held = all.held[i];
    if (held.source != source || --held.after > 0) {
      i++;
      continue;
    }
    Packet packet = std::move(held.packet);
    all.held.erase(all.held.begin() + static_cast<ptrdiff_t>(i));
    deliver(packet);
  }
}

void hold(const Packet& packet, const Qp* source) {
  Fabric& all = fabric();
  HeldPacket held{packet, source, 1 + static_cast<uint32_t>(all.random() % kHoldPacketsMax),
                  Clock::now() + kHoldTime};
  held.packet.copy.resize(packet.bytes);
  std::vector<Span> to{{held.packet.copy.data(), packet.bytes}};
  copy_spans(packet.payload, to);
  held.packet.payload = to;  // moving a vector keeps its memory where it is
  all.held.push_back(std::move(held));
  count(Count::kReordered);
  wake_thread();
}

void transmit(const Packet& packet, const Qp* source) {
  const WireConfig& wire = fabric().config.wire;
  count(Count::kPackets);
  if (chance(wire.loss)) {
    count(Count::kLost);
    return;
  }
  if (chance(wire.reorder)) {
    hold(packet, source);
    return;
  }
  deliver(packet);
  if (chance(wire.duplicate)) {
    count(Count::kDuplicated);
    deliver(packet);
  }
  if (!fabric().held.empty()) release_held(source);
}

bool address_packet(const Qp& qp, const SendWqe& wqe, Packet* packet) {
  const ibv_ah_attr& ah = wqe.has_ah ? wqe.ah : qp.attr.ah_attr;
  const PortConfig* port = port_of(*qp.device, qp.attr.port_num);
  if (port == nullptr || !port->active) return false;
  packet->global = ah.is_global != 0;
  packet->dgid = ah.grh.dgid;
  packet->dlid = ah.dlid;
  packet->slid = port->lid;
  const GidConfig* gid = port->find_gid(ah.grh.sgid_index);
  if (packet->global && gid == nullptr) return false;
  if (gid != nullptr) {
    packet->sgid = gid->gid;
    packet->gid_type = gid->type;
  }
  return true;
}

// The local payload of a request; false when a local key does not allow it.
bool gather(Qp* qp, SendWqe* wqe, std::vector<Span>* spans, uint64_t* total) {
  spans->clear();
  *total = wqe->bytes.size();
  if (wqe->is_inline) {
    if (*total > 0) spans->push_back({wqe->bytes.data(), *total});
    return true;
  }
  for (const ibv_sge& sge : wqe->sges) {
    if (!resolve(*qp->device, qp->ex.qp_base.pd, sge.lkey, sge.addr, sge.length, 0, spans))
      return false;
    *total += sge.length;
  }
  return true;
}

void describe(Qp* qp, const SendWqe& wqe, uint64_t total, Packet* packet) {
  const bool write = wqe.opcode == IBV_WR_RDMA_WRITE || wqe.opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
  packet->type = qp->ex.qp_base.qp_type;
  packet->write = write;
  packet->with_imm = wqe.opcode == IBV_WR_RDMA_WRITE_WITH_IMM || wqe.opcode == IBV_WR_SEND_WITH_IMM;
  packet->imm = wqe.imm;
  packet->solicited = wqe.solicited;
  packet->source_qpn = qp->ex.qp_base.qp_num;
  packet->dest_qpn = wqe.has_ah ? wqe.remote_qpn : qp->attr.dest_qp_num;
  packet->qkey = wqe.remote_qkey;
  packet->psn_start = qp->attr.sq_psn;
  packet->mtu_bytes = packet->type == IBV_QPT_UD
                          ? mtu_bytes(port_of(*qp->device, qp->attr.port_num)->active_mtu)
                          : mtu_bytes(qp->attr.path_mtu);
  packet->message = qp->messages_sent++;
  packet->total = total;
  packet->remote = wqe.remote;
  packet->rkey = wqe.rkey;
}

// Cuts the message into packets; `send` gets each until it says false.
template <class Send>
void each_packet(const std::vector<Span>& source, Packet* packet, Send send) {
  uint64_t offset = 0;
  do {
    packet->offset = offset;
    packet->bytes = std::min<uint64_t>(packet->total - offset, packet->mtu_bytes);
    packet->first = offset == 0;
    offset += packet->bytes;
    packet->last = offset == packet->total;
    slice(source, packet->offset, packet->bytes, &packet->payload);
    if (!send(*packet)) return;
  } while (offset < packet->total);
}

void stall(Qp* qp, std::chrono::nanoseconds patience) {
  Fabric& all = fabric();
  if (qp->stalled) return;
  qp->stalled = true;
  qp->stall_end = Clock::now() + patience;
  all.stalled.push_back(qp);
  all.stalled_count = static_cast<uint32_t>(all.stalled.size());
  wake_thread();
}

// The request at the head fails, everything behind it is flushed.
void fail_request(Qp* qp, const SendWqe& wqe, ibv_wc_status status, uint32_t vendor_err) {
  send_completion(qp, wqe, status, vendor_err);
  break_qp(qp, IBV_WC_WR_FLUSH_ERR, 0);
}

enum class Step { kDone, kStalled };

// A reliable message arrives whole or its queue pair breaks; it waits for a peer and for a receive.
Step send_reliable(Qp* qp, const SendWqe& wqe, const std::vector<Span>& source, Packet* packet) {
  Fate fate = Fate::kNoPeer;
  if (address_packet(*qp, wqe, packet)) {
    Qp* peer = find_peer(*packet);
    const bool takes_receive = !packet->write || packet->with_imm;
    if (peer != nullptr)
      fate = takes_receive && receives_ready(*peer) == 0 ? Fate::kNoReceive : Fate::kTaken;
  }
  if (fate == Fate::kTaken) {
    each_packet(source, packet, [&](const Packet& one) {
      count(Count::kPackets);
      return (fate = deliver(one)) == Fate::kTaken;
    });
  }
  const bool late = qp->stalled && Clock::now() >= qp->stall_end;
  if ((fate == Fate::kNoPeer || fate == Fate::kNoReceive) && !late) {
    qp->messages_sent--;
    const bool forever = fate == Fate::kNoReceive ? qp->attr.rnr_retry == 7 : qp->attr.timeout == 0;
    const uint64_t timeout_ns = 4096ull << std::min<unsigned>(qp->attr.timeout, 31);
    stall(qp, forever ? std::chrono::hours(24 * 365)
                      : std::chrono::nanoseconds(timeout_ns * (qp->attr.retry_cnt + 1)));
    return Step::kStalled;
  }
  switch (fate) {
    case Fate::kTaken:
      send_completion(qp, wqe, IBV_WC_SUCCESS, 0);
      break;
    case Fate::kNoReceive:
      fail_request(qp, wqe, IBV_WC_RNR_RETRY_EXC_ERR, 0x97);
      break;
    case Fate::kBadKey:
      fail_request(qp, wqe, IBV_WC_REM_ACCESS_ERR, 0x88);
      break;
    case Fate::kBadLength:
      fail_request(qp, wqe, IBV_WC_REM_INV_REQ_ERR, 0x8a);
      break;
    default:
      fail_request(qp, wqe, IBV_WC_RETRY_EXC_ERR, 0x81);
      break;
  }
  return Step::kDone;
}

Step run_request(Qp* qp, SendWqe* wqe) {
  static thread_local std::vector<Span> source;
  static thread_local Packet packet;
  if (wqe->is_raw) {
    uint32_t vendor_err = 0;
    const ibv_wc_status status = run_raw(qp, wqe->bytes, &vendor_err);
    if (status == IBV_WC_SUCCESS)
      send_completion(qp, *wqe, status, 0);
    else
      fail_request(qp, *wqe, status, vendor_err);
    return Step::kDone;
  }
  uint64_t total = 0;
  if (!gather(qp, wqe, &source, &total)) {
    explain("a send's lkey does not cover its bytes");
    fail_request(qp, *wqe, IBV_WC_LOC_PROT_ERR, 0x53);
    return Step::kDone;
  }
  describe(qp, *wqe, total, &packet);
  if (packet.type == IBV_QPT_RC) return send_reliable(qp, *wqe, source, &packet);
  if (total > kMessageBytesMax || (packet.type == IBV_QPT_UD && total > packet.mtu_bytes)) {
    fail_request(qp, *wqe, IBV_WC_LOC_LEN_ERR, 0x69);
    return Step::kDone;
  }
  if (address_packet(*qp, *wqe, &packet)) {
    each_packet(source, &packet, [&](const Packet& one) {
      transmit(one, qp);
      return true;
    });
  }
  // Unreliable: sent is done. The delivery may have broken this very queue pair, and flushed the
  // request.
  if (qp->state == IBV_QPS_RTS) send_completion(qp, *wqe, IBV_WC_SUCCESS, 0);
  return Step::kDone;
}

void run_thread() {
  Fabric& all = fabric();
  std::unique_lock<std::mutex> lock(all.mutex);
  while (!all.stop) {
    while (!all.waiting.empty()) {
      Qp* qp = all.waiting.front();
      all.waiting.erase(all.waiting.begin());
      qp->waiting = false;
      advance(qp);
      settle();
    }
    const auto now = Clock::now();
    for (size_t i = 0; i < all.held.size();) {
      if (all.held[i].deadline > now) {
        i++;
        continue;
      }
      Packet packet = std::move(all.held[i].packet);
      all.held.erase(all.held.begin() + static_cast<ptrdiff_t>(i));
      deliver(packet);
    }
    retry_stalled();
    settle();
    if (!all.held.empty() || !all.stalled.empty())
      all.wake.wait_for(lock, kTick);
    else if (all.waiting.empty())
      all.wake.wait(lock);
  }
}

}  // namespace

void send_completion(Qp* qp, const SendWqe& wqe, ibv_wc_status status, uint32_t vendor_err) {
  qp->send_done++;
  if (!wqe.signaled && status == IBV_WC_SUCCESS) return;
  Completion done;
  done.qp = qp;
  done.is_send = true;
  done.send_done = qp->send_done;
  done.wc.wr_id = wqe.wr_id;
  done.wc.status = status;
  done.wc.vendor_err = vendor_err;
  done.wc.qp_num = qp->ex.qp_base.qp_num;
  const bool write = wqe.opcode == IBV_WR_RDMA_WRITE || wqe.opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
  done.wc.opcode = wqe.is_raw ? IBV_WC_DRIVER2 : write ? IBV_WC_RDMA_WRITE : IBV_WC_SEND;
  complete(qp->send_cq, done);
}

void advance(Qp* qp) {
  while (qp->state == IBV_QPS_RTS && !qp->doomed &&
         qp->send_done < qp->send_submitted.load(std::memory_order_acquire)) {
    if (run_request(qp, &qp->sends[qp->send_done % qp->sends.size()]) == Step::kStalled) return;
    if (!qp->stalled) continue;
    Fabric& all = fabric();
    qp->stalled = false;
    all.stalled.erase(std::remove(all.stalled.begin(), all.stalled.end(), qp), all.stalled.end());
    all.stalled_count = static_cast<uint32_t>(all.stalled.size());
  }
}

void retry_stalled() {
  const std::vector<Qp*> stalled = fabric().stalled;
  for (Qp* qp : stalled) advance(qp);
}

void wake_thread() {
  Fabric& all = fabric();
  if (!all.thread.joinable()) {
    all.stop = false;
    all.thread = std::thread(run_thread);
  }
  all.wake.notify_all();
}

}  // namespace emulated
