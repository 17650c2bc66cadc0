// The receiving half of the device: what a packet may do, and the completions that tell of it.
#include <cstring>

#include "fabric.h"

namespace emulated {
namespace {

const PortConfig* port_with(const Device& device, const Packet& packet, uint32_t* number) {
  for (uint32_t i = 0; i < device.config.ports.size(); i++) {
    const PortConfig& port = device.config.ports[i];
    *number = i + 1;
    if (!port.active) continue;
    if (!packet.global) {
      if (!port.ethernet && port.lid == packet.dlid) return &port;
      continue;
    }
    for (const GidConfig& gid : port.gids) {
      if (gid.type == packet.gid_type && std::memcmp(gid.gid.raw, packet.dgid.raw, 16) == 0)
        return &port;
    }
  }
  return nullptr;
}

bool is_receiving(const Qp& qp) { return qp.state == IBV_QPS_RTR || qp.state == IBV_QPS_RTS; }

// The list of the receive at the head of the queue.
void receive_spans(Qp* qp, std::vector<Span>* spans, uint64_t* room, bool* good) {
  const RecvQueue& recv = qp->recv;
  const mlx5_wqe_data_seg* segs =
      &recv.ring[static_cast<size_t>(recv.taken & (recv.count - 1)) * recv.sges];
  *room = 0;
  *good = true;
  for (uint32_t i = 0; i < recv.sges && be32toh(segs[i].lkey) != kInvalidLkey; i++) {
    const uint32_t bytes = be32toh(segs[i].byte_count);
    *good = *good && resolve(*qp->device, qp->ex.qp_base.pd, be32toh(segs[i].lkey),
                             be64toh(segs[i].addr), bytes, IBV_ACCESS_LOCAL_WRITE, spans);
    *room += bytes;
  }
}

void complete_receive(Qp* qp, const Packet& packet, ibv_wc_status status, uint64_t bytes) {
  RecvQueue& recv = qp->recv;
  Completion done;
  done.qp = qp;
  done.solicited = packet.solicited;
  done.wc.wr_id = recv.wr_ids[recv.taken++ & (recv.count - 1)];
  done.wc.status = status;
  done.wc.opcode = packet.write ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV;
  done.wc.byte_len = static_cast<uint32_t>(bytes);
  done.wc.qp_num = qp->ex.qp_base.qp_num;
  done.wc.src_qp = packet.source_qpn;
  done.wc.slid = packet.slid;
  if (packet.with_imm) {
    done.wc.imm_data = packet.imm;
    done.wc.wc_flags |= IBV_WC_WITH_IMM;
  }
  if (packet.type == IBV_QPT_UD) done.wc.wc_flags |= IBV_WC_GRH;
  complete(qp->recv_cq, done);
}

Fate drop(Qp* qp, Count why, Fate fate) {
  count(why);
  qp->inbound.active = false;  // the rest of the message is dropped with it
  return fate;
}

// Whether a packet is the next of the message that is arriving. On UC a first packet always begins
// anew.
bool follows(Qp* qp, const Packet& packet) {
  Inbound& inbound = qp->inbound;
  if (packet.first) {
    inbound = Inbound{true, packet.message, 0};
  } else if (!inbound.active || inbound.message != packet.message ||
             inbound.next_offset != packet.offset) {
    return false;
  }
  inbound.next_offset = packet.offset + packet.bytes;
  if (packet.last) inbound.active = false;
  return true;
}

Fate take_write(Qp* qp, const Packet& packet) {
  static thread_local std::vector<Span> spans;
  const bool takes_receive = packet.with_imm && packet.last;
  if (takes_receive && receives_ready(*qp) == 0)
    return drop(qp, Count::kNoReceive, Fate::kNoReceive);
  const Device& device = *qp->device;
  const ibv_pd* pd = qp->ex.qp_base.pd;
  // A write of no bytes needs no key. Otherwise the first packet names the whole range, each its
  // own part.
  if (packet.total > 0) {
    spans.clear();
    if ((qp->attr.qp_access_flags & IBV_ACCESS_REMOTE_WRITE) == 0)
      return drop(qp, Count::kBadKey, Fate::kBadKey);
    if (packet.first && !packet.last &&
        !resolve(device, pd, packet.rkey, packet.remote, packet.total, IBV_ACCESS_REMOTE_WRITE,
                 &spans)) {
      return drop(qp, Count::kBadKey, Fate::kBadKey);
    }
    spans.clear();
    if (!resolve(device, pd, packet.rkey, packet.remote + packet.offset, packet.bytes,
                 IBV_ACCESS_REMOTE_WRITE, &spans)) {
      return drop(qp, Count::kBadKey, Fate::kBadKey);
    }
    copy_spans(packet.payload, spans);
  }
  if (takes_receive) complete_receive(qp, packet, IBV_WC_SUCCESS, packet.total);
  return Fate::kTaken;
}

// Places a send's packet in the receive at the head of the queue, which the last packet consumes.
Fate take_send(Qp* qp, const Packet& packet) {
  static thread_local std::vector<Span> spans, source;
  if (receives_ready(*qp) == 0) return drop(qp, Count::kNoReceive, Fate::kNoReceive);
  const uint64_t header = packet.type == IBV_QPT_UD ? kGrhBytes : 0;
  uint64_t room = 0;
  bool good = true;
  spans.clear();
  receive_spans(qp, &spans, &room, &good);
  if (!good || header + packet.total > room) {
    if (packet.type == IBV_QPT_UD) return drop(qp, Count::kBadLength, Fate::kBadLength);
    complete_receive(qp, packet, good ? IBV_WC_LOC_LEN_ERR : IBV_WC_LOC_PROT_ERR, 0);
    qp->doomed = true;
    fabric().doomed.push_back(qp);
    return drop(qp, Count::kBadLength, Fate::kBadLength);
  }
  ibv_grh grh{};
  grh.version_tclass_flow = htobe32(6u << 28);
  grh.paylen = htobe16(static_cast<uint16_t>(packet.bytes));
  grh.sgid = packet.sgid;
  grh.dgid = packet.dgid;
  source.clear();
  // What lies before this packet's part is skipped by copying nothing there.
  uint64_t skip = packet.offset;
  while (skip > 0 && !spans.empty()) {
    const uint64_t part = std::min(skip, spans.front().bytes);
    if (spans.front().data != nullptr) spans.front().data += part;
    spans.front().bytes -= part;
    skip -= part;
    if (spans.front().bytes == 0) spans.erase(spans.begin());
  }
  if (header > 0) source.push_back({reinterpret_cast<uint8_t*>(&grh), header});
  source.insert(source.end(), packet.payload.begin(), packet.payload.end());
  copy_spans(source, spans);
  if (packet.last) complete_receive(qp, packet, IBV_WC_SUCCESS, header + packet.total);
  return Fate::kTaken;
}

}  // namespace

uint32_t receives_ready(const Qp& qp) {
  if (qp.recv.count == 0) return 0;
  const uint32_t posted = be32toh(qp.doorbells[MLX5_RCV_DBR].load(std::memory_order_acquire));
  const auto ready = static_cast<uint16_t>(posted - qp.recv.taken);
  return ready <= qp.recv.count ? ready : 0;  // more than there are places: a doorbell gone wrong
}

Qp* find_peer(const Packet& packet) {
  for (const auto& device : fabric().devices) {
    uint32_t number = 0;
    if (port_with(*device, packet, &number) == nullptr) continue;
    const auto found = device->qps.find(packet.dest_qpn);
    if (found == device->qps.end()) return nullptr;
    Qp* qp = found->second;
    if (qp->ex.qp_base.qp_type != packet.type || !is_receiving(*qp) || qp->doomed) return nullptr;
    if (qp->attr.port_num != number) return nullptr;
    if (packet.type == IBV_QPT_UD) return qp->attr.qkey == packet.qkey ? qp : nullptr;
    // Connected: the packet must come from where the queue pair looks to, and on RC start with the
    // agreed number.
    const ibv_ah_attr& ah = qp->attr.ah_attr;
    const bool from_peer = packet.global ? std::memcmp(ah.grh.dgid.raw, packet.sgid.raw, 16) == 0
                                         : ah.dlid == packet.slid;
    if (!from_peer) return nullptr;
    if (packet.type == IBV_QPT_RC && packet.psn_start != qp->attr.rq_psn) return nullptr;
    return qp;
  }
  return nullptr;
}

Fate deliver(const Packet& packet) {
  Qp* qp = find_peer(packet);
  if (qp == nullptr) {
    count(Count::kNoPeer);
    return Fate::kNoPeer;
  }
  if (packet.type != IBV_QPT_UD) {
    // All but the last packet are exactly as long as the receiver's path MTU.
    const uint32_t mtu = mtu_bytes(qp->attr.path_mtu);
    if (packet.bytes > mtu || (!packet.last && packet.bytes != mtu))
      return drop(qp, Count::kMtuMismatch, Fate::kBadLength);
  }
  if (!follows(qp, packet)) return drop(qp, Count::kOutOfOrder, Fate::kLost);
  const Fate fate = packet.write ? take_write(qp, packet) : take_send(qp, packet);
  if (fate == Fate::kBadKey && packet.type == IBV_QPT_RC) {
    raise_async(context_of(qp->ex.qp_base.context), IBV_EVENT_QP_ACCESS_ERR, &qp->ex.qp_base);
    qp->doomed = true;
    fabric().doomed.push_back(qp);
  }
  return fate;
}

}  // namespace emulated
