// One UDP socket: opening it with every option the transport wants, receiving in batches, sleeping until something
// happens. Knows no header and no queue pair. The operating system's differences end here and in udp_batch.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sdr/udp.h"
#include "transport/worker.h"

namespace sdr::udp {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  int family() const { return storage.ss_family; }
};

// Numeric addresses only ("fe80::1%eth0" too). False when `text` is none.
bool parse_address(const std::string& text, uint16_t port, SocketAddress* out);
UdpAddress to_text(const SocketAddress& address);

// The largest payload that leaves the interface of `local` unfragmented; for a wildcard address, the smallest over all
// interfaces that are up. At most SDR_PACKET_BYTES_MAX.
uint32_t payload_bytes_max(const SocketAddress& local);

// Opens, configures and binds; `gso`, `gro` and the granted sizes are written to `capabilities`. An invalid descriptor
// on failure, with *error set.
Descriptor open_socket(const SocketAddress& local, const UdpOptions& options,
                       UdpCapabilities* capabilities, UdpError* error);
SocketAddress local_address(int fd);

// What one receive call brought: `bytes` bytes, datagrams of `segment` bytes each (the last may be shorter).
struct Received {
  const uint8_t* data;
  size_t bytes;
  size_t segment;
};

// Buffers for one batch of receives; valid until the next call.
class ReceiveBatch {
 public:
  // With GRO a buffer holds up to 64 KiB of datagrams, so few of them make a batch, which then stays in the L2 cache.
  static constexpr size_t kBuffersGro = 6;
  static constexpr size_t kBuffersPlain = 32;
  static constexpr size_t kBufferBytes = 65536;

  explicit ReceiveBatch(bool gro);
  // Never blocks. How many of `received()` are valid: 0 when nothing waits (or an error of no consequence was taken
  // from the socket).
  size_t receive(int fd);
  const Received& at(size_t i) const { return received_[i]; }
  size_t capacity() const { return received_.size(); }

 private:
  struct Native;
  struct NativeDelete {
    void operator()(Native* native) const;
  };
  std::unique_ptr<uint8_t[]> memory_;  // touched only as far as datagrams reach
  std::vector<Received> received_;
  std::unique_ptr<Native, NativeDelete> native_;
};

// Sleeps until `fd` has a datagram (or room to send, when `writable`), the waker is signalled, or `timeout_ns` has
// passed; negative: no limit. Spurious returns are allowed.
void wait_for(int fd, bool writable, Waker& waker, int64_t timeout_ns);

}  // namespace sdr::udp
