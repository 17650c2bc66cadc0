// The DPA transport: the receive workers and the packetiser run on a network card's own processor (native/dpa/device).
// Here on its emulation: the same device program, on threads of this process, with an emulated card and network that
// reach other contexts of this process only. capabilities().name says which.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sdr/transport.h"

namespace sdr {

inline constexpr uint32_t kDpaWorkersMax = 16;

struct DpaOptions {
  uint32_t workers = 1;  // channels of a queue pair; each has an execution unit
};

struct DpaCapabilities {
  std::string name;           // "dpa-emulated"
  uint32_t receives_max = 0;  // receive WQEs a channel and generation, at least
};

class DpaContext {
 public:
  // Whether a context of this build can run on a card. None can: the emulated card's half (keys, links, control
  // datagrams) has no counterpart for a real one yet. docs/dpa.md says what there is.
  static constexpr bool runs_on_card() { return false; }
  // `wake` is called from any thread when the event queue became non-empty. Null on error.
  static std::unique_ptr<DpaContext> create(const DpaOptions& options, std::function<void()> wake, DeviceError* error);
  ~DpaContext();  // shutdown(), then frees the queue pairs' memory
  // Closes queue pairs, joins threads; no region is touched afterwards. Bitmaps stay readable until the context is
  // destroyed. Idempotent.
  void shutdown();

  const DpaCapabilities& capabilities() const;
  // Monotonic nanoseconds since the context was made: the time base of all its events.
  int64_t now_ns() const;
  EventQueue& events();

  // geometry.channels must equal options.workers.
  QueuePair* create_qp(const QpConfig& config, sdr_status* status);
  // What a peer's connect() takes; empty for an unknown queue pair. Opaque, checked there.
  std::vector<uint8_t> info(uint32_t qp) const;
  // SDR_CLOSED: no such queue pair here, or the peer's is gone. SDR_INVALID: the info is not valid, its own, or of a
  // queue pair of another shape; the link is not valid; or it is connected already.
  sdr_status connect(uint32_t qp, const std::vector<uint8_t>& peer_info, const LinkConfig& link, uint64_t seed);
  void destroy_qp(uint32_t qp);

 private:
  struct State;
  explicit DpaContext(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sdr
