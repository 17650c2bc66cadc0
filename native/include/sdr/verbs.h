// The verbs transport: RDMA cards, and Soft-RoCE, through libibverbs. UC queue pairs for each
// (generation, channel) of a queue pair, one RDMA write with immediate a packet, and one UC queue
// pair for control datagrams. One progress thread a channel. This header needs nothing of
// rdma-core; without its headers at compile time, or its library at run time, create() says so.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sdr/transport.h"

namespace sdr {

struct VerbsOptions {
  std::string device;  // "mlx5_0", "rxe0"
  uint8_t port = 0;    // from 1; 0: the first that is active
  int gid_index = -1;  // -1: RoCE v2 with a routable address before all others
  uint32_t mtu = 0;    // 256, 512 ... 4096; 0: the port's active one
  uint32_t channels = 1;
  bool reliable =
      false;  // RC instead of UC queue pairs: the card repeats, as the authors' SDR_USE_UC_QP=0
  uint8_t traffic_class = 0;
};

// Where receives are found by their sender.
enum class KeyScheme : uint8_t {
  per_message = 0,  // each receive's own key and address, in its CTS; deregistered at completion
  root = 1,  // mlx5: one indirect key for all slots; a slot's entries point at memory or at nothing
};

struct VerbsCapabilities {
  std::string device, driver;
  uint8_t port = 0;
  int gid_index = -1;
  std::string gid, link_layer;
  uint32_t mtu = 0;  // payload of a packet at most
  KeyScheme keys = KeyScheme::per_message;
  bool dmabuf = false;
  bool reliable = false;
  uint32_t receive_depth = 0;  // packets of one queue that may wait for the progress thread
};

// What its wires carry around every payload: BTH, RETH, immediate and ICRC (RoCE v2 and InfiniBand
// alike). Ethernet, IP and UDP headers are the link's.
inline constexpr uint32_t kVerbsHeaderBytes = 12 + 16 + 4 + 4;
inline constexpr size_t kVerbsInfoBytesMax = 4608;
inline constexpr uint32_t kVerbsQueuesMax = 1024;  // generations * channels of one queue pair

class VerbsContext {
 public:
  // `wake` is called from any thread when the event queue became non-empty. Null on error.
  static std::unique_ptr<VerbsContext> create(const VerbsOptions& options,
                                              std::function<void()> wake, DeviceError* error);
  // Whether this library was built with rdma-core's headers.
  static bool is_compiled();
  ~VerbsContext();  // shutdown(), then frees the queue pairs' memory
  // Closes queue pairs and the device, joins threads; no region is touched afterwards. The engines'
  // bitmaps stay readable until the context is destroyed. Idempotent.
  void shutdown();

  const VerbsCapabilities& capabilities() const;
  // Monotonic nanoseconds since the context was made: the time base of all its events.
  int64_t now_ns() const;
  // geometry.channels must equal options.channels, packet_bytes be at most the MTU. Null on error,
  // with *status and, where the device is the reason, *error.
  QueuePair* create_qp(const QpConfig& config, sdr_status* status, DeviceError* error = nullptr);
  // What the peer's connect() needs; opaque, at most kVerbsInfoBytesMax bytes. Empty for a queue
  // pair that is unknown or closed.
  std::vector<uint8_t> info(uint32_t qp) const;
  // `info` came from outside. `link` impairs what this end sends, decided per packet; a corrupted
  // packet is a lost one, as a card discards what fails its check.
  sdr_status connect(uint32_t qp, const uint8_t* info, size_t bytes, const LinkConfig& link,
                     uint64_t seed, DeviceError* error);
  // Why a queue pair failed (its error event): the queue, the completion's status and vendor code.
  // Empty: it did not.
  std::string failure(uint32_t qp) const;
  // Why a post of this queue pair last gave SDR_NO_MEMORY; empty words: none did.
  DeviceError refusal(uint32_t qp) const;
  void destroy_qp(uint32_t qp);
  EventQueue& events();
  // Processor time of each progress thread.
  std::vector<int64_t> worker_cpu_ns() const;

 private:
  struct State;
  explicit VerbsContext(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sdr
