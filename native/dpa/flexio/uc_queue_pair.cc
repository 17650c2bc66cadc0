#include "dpa/flexio/uc_queue_pair.h"

#include <cerrno>
#include <cstring>

#include "dpa/flexio/prm.h"

namespace sdr::dpa {
namespace {

using QpCommand = Command<prm::kQpInBytes>;
using QpAnswer = Command<prm::kQpOutBytes>;

constexpr uint64_t kPage = 4096;
constexpr uint32_t kLogMessageMax = 30;

std::string refused(const char* what, const QpAnswer& answer) {
  return std::string(what) + " failed: errno " + std::to_string(errno) + ", the card's status " +
         std::to_string(answer.get(prm::kStatus)) + ", syndrome " + std::to_string(answer.get(prm::kSyndrome));
}

// 256 is 1, 4096 is 5; 0: no such packet.
uint32_t mtu_code(uint32_t bytes) {
  for (uint32_t code = 1; code <= 5; code++)
    if (bytes == 128u << code) return code;
  return 0;
}

bool modify(mlx5dv_devx_obj* object, QpCommand& command, const char* what, std::string* why) {
  QpAnswer answer;
  if (mlx5dv_devx_obj_modify(object, command.data(), command.size(), answer.data(), answer.size()) == 0) return true;
  *why = refused(what, answer);
  return false;
}

}  // namespace

std::unique_ptr<UcQueuePair> UcQueuePair::create(const CardParts& parts, const QueuePlace& place, std::string* why) {
  QpCommand command;
  command.set(prm::kOpcode, prm::kCreateQp);
  command.set(prm::kService, prm::kServiceUc);  // [inference]: UC with a DPA's completion queues
  command.set(prm::kPathMigration, prm::kMigrated);
  command.set(prm::kPd, parts.pd);
  command.set(prm::kUar, parts.uar);
  command.set(prm::kLogMsgMax, kLogMessageMax);
  command.set(prm::kLogRqSize, place.rq_log);
  command.set(prm::kLogRqStride, 0);  // of 16 bytes: one data segment
  command.set(prm::kLogSqSize, place.sq_log);
  command.set(prm::kCqSend, place.send_cq);
  command.set(prm::kCqReceive, place.receive_cq);
  command.set(prm::kRqType, 0);
  // [inference]: an offset is a device address less that of the process's memory, in pages, the rest in lines.
  const uint64_t ring = place.rq_ring - parts.umem_base;
  command.set(prm::kLogPageSize, 0);  // of 4 KiB
  command.set(prm::kPageOffset, ring % kPage / SDR_DPA_LINE);
  command.set64(prm::kWqUmemOffset, ring - ring % kPage);
  command.set(prm::kWqUmemId, parts.umem);
  command.set(prm::kWqUmemValid, 1);
  command.set64(prm::kDoorbell, place.doorbell - parts.umem_base);
  command.set(prm::kDoorbellUmemId, parts.umem);
  command.set(prm::kDoorbellUmemValid, 1);
  QpAnswer answer;
  mlx5dv_devx_obj* object =
      mlx5dv_devx_obj_create(parts.context, command.data(), command.size(), answer.data(), answer.size());
  if (object == nullptr) {
    *why = refused("CREATE_QP (UC, onto a DPA's completion queue)", answer);
    return nullptr;
  }
  return std::unique_ptr<UcQueuePair>(new UcQueuePair(object, answer.get(prm::kQpn), parts.pd));
}

UcQueuePair::~UcQueuePair() { mlx5dv_devx_obj_destroy(object_); }

bool UcQueuePair::connect(const UcPath& path, std::string* why) {
  const uint32_t mtu = mtu_code(path.mtu);
  if (mtu == 0) {
    *why = "an MTU of " + std::to_string(path.mtu) + " bytes is none of RDMA's: use 256, 512, 1024, 2048 or 4096";
    return false;
  }
  QpCommand init;
  init.set(prm::kOpcode, prm::kRst2Init);
  init.set(prm::kQpn, number_);
  init.set(prm::kPd, pd_);
  init.set(prm::kPathMigration, prm::kMigrated);
  init.set(prm::kRemoteWrite, 1);
  init.set(prm::kPort, path.port);
  if (!modify(object_, init, "RST2INIT_QP", why)) return false;

  QpCommand receive;
  receive.set(prm::kOpcode, prm::kInit2Rtr);
  receive.set(prm::kQpn, number_);
  receive.set(prm::kPathMigration, prm::kMigrated);
  receive.set(prm::kMtu, mtu);
  receive.set(prm::kLogMsgMax, kLogMessageMax);
  receive.set(prm::kRemoteQpn, path.queue);
  receive.set(prm::kReceivePsn, 0);
  receive.set(prm::kRemoteWrite, 1);
  receive.set(prm::kPort, path.port);
  receive.set(prm::kSourceGidIndex, path.gid_index);
  receive.set(prm::kHopLimit, path.hop_limit);
  receive.set(prm::kDscp, path.traffic_class >> 2);
  receive.set(prm::kUdpSource, path.udp_source);
  for (uint32_t i = 0; i < 16; i++) receive.set({prm::kRemoteGid + 8 * i, 8}, path.gid[i]);
  for (uint32_t i = 0; i < 6; i++) receive.set({prm::kRemoteMac + 8 * i, 8}, path.mac[i]);
  if (!modify(object_, receive, "INIT2RTR_QP", why)) return false;

  QpCommand send;
  send.set(prm::kOpcode, prm::kRtr2Rts);
  send.set(prm::kQpn, number_);
  send.set(prm::kPathMigration, prm::kMigrated);
  send.set(prm::kSendPsn, 0);
  return modify(object_, send, "RTR2RTS_QP", why);
}

}  // namespace sdr::dpa
