// The UDP transport: one socket and one progress thread a channel, shared by the context's queue pairs and told
// apart by key. Linux: sendmsg with UDP_SEGMENT, recvmmsg with UDP_GRO; plain datagrams elsewhere.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sdr/transport.h"

namespace sdr {

// Before every payload, 24 bytes, big-endian:
//   0 u64 key       random, of the receiving queue pair; checked before anything else
//   8 u32 checksum  CRC-32C over bytes 12.. of the datagram (RFC 3720 appendix B.4 polynomial)
//  12 u8  version (1)   13 u8 kind (PacketKind)   14 u16 queue number (data) or 0
//  16 u32 immediate (data) or 0
//  20 u32 message number (data) or 0: tells lives of a slot apart beyond the generations
// Data goes to the socket of its packet's channel, control to the first one's.
inline constexpr size_t kUdpHeaderBytes = 24;
inline constexpr uint8_t kUdpVersion = 1;

struct UdpOptions {
  std::string address = "127.0.0.1";  // numeric IPv4 or IPv6
  uint16_t port = 0;                  // first channel's; others take any free port
  uint32_t channels = 1;
  uint32_t socket_buffer_bytes = 16u << 20;  // asked for; what was granted is in capabilities
  bool allow_gso = true, allow_gro = true;   // false forces the fallback (tests)
};

struct UdpCapabilities {
  bool gso = false, gro = false, ipv6 = false;
  uint32_t receive_buffer_bytes = 0, send_buffer_bytes = 0;  // granted, as getsockopt reports
  uint32_t payload_bytes_max = 0;  // largest packet payload the local interface's MTU takes without fragmentation
};

struct UdpAddress {
  std::string address;
  uint16_t port = 0;
};

struct UdpError {
  int number = 0;      // errno
  std::string call;    // "bind", "socket" ...
};

class UdpContext {
 public:
  // `wake` is called from any thread when the event queue became non-empty. Null on error.
  static std::unique_ptr<UdpContext> create(const UdpOptions& options, std::function<void()> wake, UdpError* error);
  ~UdpContext();  // shutdown(), then frees the queue pairs' memory
  // Closes queue pairs and sockets, joins threads; no region is touched afterwards. The engines' bitmaps stay readable
  // until the context is destroyed. Idempotent.
  void shutdown();

  const UdpCapabilities& capabilities() const;
  std::vector<UdpAddress> addresses() const;  // one a channel
  // Monotonic nanoseconds since the context was made: the time base of all its events.
  int64_t now_ns() const;

  // `receive_key`: datagrams with any other key are not this queue pair's. geometry.channels must
  // equal options.channels.
  QueuePair* create_qp(const QpConfig& config, uint64_t receive_key, sdr_status* status);
  // `link` impairs what this end sends, decided per packet, delayed by descriptor without copying payload.
  sdr_status connect(uint32_t qp, const std::vector<UdpAddress>& peer, uint64_t send_key, const LinkConfig& link,
                     uint64_t seed);
  void destroy_qp(uint32_t qp);
  EventQueue& events();
  // Datagrams that matched no queue pair's key, or were too short to hold one.
  uint64_t unknown_datagrams() const;
  // Processor time that each channel's thread has used so far; 0 where that cannot be told.
  std::vector<int64_t> worker_cpu_ns() const;

 private:
  struct State;
  explicit UdpContext(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sdr
