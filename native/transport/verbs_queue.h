// One hardware queue pair, UC or RC: making it, bringing it to its states, its receives. Posting
// sends is its lane's.
#pragma once

#include <vector>

#include "transport/verbs_device.h"

namespace sdr::verbs {

// Where a hardware queue pair's peer is.
struct PeerAddress {
  ibv_gid gid{};
  uint16_t lid = 0;
  bool has_gid = false;
  uint32_t mtu = 0;
};

// The states of a queue pair that was just made: INIT, then ready to receive and send. 0, or an
// errno.
int bring_to_init(const Device& device, ibv_qp* qp);
int connect(const Device& device, ibv_qp* qp, const PeerAddress& peer, uint32_t peer_number,
            bool reliable);

class HardwareQueue {
 public:
  struct Depths {
    uint32_t send = 0, receive = 0;
  };
  HardwareQueue() = default;
  ~HardwareQueue() { destroy(); }
  HardwareQueue(HardwareQueue&& other) noexcept { *this = std::move(other); }
  HardwareQueue& operator=(HardwareQueue&& other) noexcept;

  // Makes it in state INIT. 0, or an errno.
  int create(const Device& device, ibv_cq* send_cq, ibv_cq* receive_cq, const Depths& depths);
  // Ready to receive and send. 0, or an errno. Receives are to be posted before the peer sends.
  int connect(const Device& device, const PeerAddress& peer, uint32_t peer_number);
  void to_error();  // whatever state it is in
  void destroy();

  uint32_t number() const { return qp_->qp_num; }
  ibv_qp* qp() const { return qp_; }
  ibv_qp_ex* ex() const { return ex_; }

  // Fills the receive queue with `count` receives of no memory, as a write with immediate takes
  // them. 0, or an errno.
  int fill_empty(const Device& device, uint64_t id, uint32_t count);
  // Puts back `count` of them. 0, or an errno.
  int refill_empty(uint32_t count);

 private:
  const Ibv* ibv_ = nullptr;
  ibv_qp* qp_ = nullptr;
  ibv_qp_ex* ex_ = nullptr;
  std::vector<ibv_recv_wr> chain_;  // linked, posted as far as needed
  uint32_t* doorbell_ = nullptr;    // mlx5: the receive queue's record; its entries never change
  uint32_t posted_ = 0;
};

}  // namespace sdr::verbs
