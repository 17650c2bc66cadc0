#include "transport/udp_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#if defined(__linux__)
#include <netinet/udp.h>
#endif

namespace sdr::udp {
namespace {

constexpr uint32_t kIpv4HeaderBytes = 20, kIpv6HeaderBytes = 40, kUdpOwnHeaderBytes = 8;

const sockaddr* generic(const SocketAddress& address) {
  return reinterpret_cast<const sockaddr*>(&address.storage);
}
const sockaddr_in& ipv4(const sockaddr_storage& storage) {
  return reinterpret_cast<const sockaddr_in&>(storage);
}
const sockaddr_in6& ipv6(const sockaddr_storage& storage) {
  return reinterpret_cast<const sockaddr_in6&>(storage);
}

bool is_wildcard(const SocketAddress& address) {
  if (address.family() == AF_INET) return ipv4(address.storage).sin_addr.s_addr == INADDR_ANY;
  return IN6_IS_ADDR_UNSPECIFIED(&ipv6(address.storage).sin6_addr);
}

bool same_host(const SocketAddress& address, const sockaddr* other) {
  if (other == nullptr || other->sa_family != address.family()) return false;
  if (address.family() == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(other)->sin_addr.s_addr ==
           ipv4(address.storage).sin_addr.s_addr;
  }
  return std::memcmp(&reinterpret_cast<const sockaddr_in6*>(other)->sin6_addr,
                     &ipv6(address.storage).sin6_addr, sizeof(in6_addr)) == 0;
}

uint32_t interface_mtu(int fd, const char* name) {
  ifreq request{};
  std::strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  if (ioctl(fd, SIOCGIFMTU, &request) != 0 || request.ifr_mtu <= 0) return 0;
  return static_cast<uint32_t>(request.ifr_mtu);
}

// Not inherited by programs that another thread starts meanwhile, and never blocking.
int open_datagram(int family) {
#if defined(__linux__)
  return socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
#else
  const int fd = socket(family, SOCK_DGRAM, 0);
  if (fd >= 0) {
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, O_NONBLOCK);
  }
  return fd;
#endif
}

bool set_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

// Privileged processes may exceed the system's limit; others get as much as it allows.
uint32_t grow_buffer(int fd, int force, int name, uint32_t bytes) {
  const int wanted = static_cast<int>(std::min<uint32_t>(bytes, 1u << 30));
  if (force < 0 || !set_option(fd, SOL_SOCKET, force, wanted))
    set_option(fd, SOL_SOCKET, name, wanted);
  int granted = 0;
  socklen_t length = sizeof granted;
  getsockopt(fd, SOL_SOCKET, name, &granted, &length);
  return static_cast<uint32_t>(granted);
}

// A datagram larger than the path takes is refused, never fragmented: one lost fragment would lose them all.
void forbid_fragments(int fd, int family) {
#if defined(__linux__)
  if (family == AF_INET) set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
  else set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
#elif defined(IP_DONTFRAG)
  if (family == AF_INET) set_option(fd, IPPROTO_IP, IP_DONTFRAG, 1);
#endif
#if defined(IPV6_DONTFRAG)
  if (family == AF_INET6) set_option(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
#endif
}

Descriptor failed(UdpError* error, const char* call) {
  error->number = errno;
  error->call = call;
  return {};
}

}  // namespace

bool parse_address(const std::string& text, uint16_t port, SocketAddress* out) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (text.empty() || text.find('\0') != std::string::npos) return false;
  if (getaddrinfo(text.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return false;
  const bool usable = (found->ai_family == AF_INET || found->ai_family == AF_INET6) &&
                      found->ai_addrlen <= sizeof out->storage;
  if (usable) {
    out->storage = {};
    std::memcpy(&out->storage, found->ai_addr, found->ai_addrlen);
    out->bytes = found->ai_addrlen;
  }
  freeaddrinfo(found);
  return usable;
}

UdpAddress to_text(const SocketAddress& address) {
  char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";
  getnameinfo(generic(address), address.bytes, host, sizeof host, port, sizeof port,
              NI_NUMERICHOST | NI_NUMERICSERV);
  return {host, static_cast<uint16_t>(std::strtoul(port, nullptr, 10))};
}

uint32_t payload_bytes_max(const SocketAddress& local) {
  const uint32_t overhead =
      (local.family() == AF_INET ? kIpv4HeaderBytes : kIpv6HeaderBytes) + kUdpOwnHeaderBytes;
  uint32_t mtu = 0;
  ifaddrs* all = nullptr;
  const Descriptor probe(open_datagram(local.family()));
  if (probe.get() >= 0 && getifaddrs(&all) == 0) {
    for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
      if ((one->ifa_flags & IFF_UP) == 0) continue;
      if (!is_wildcard(local) && !same_host(local, one->ifa_addr)) continue;
      const uint32_t its = interface_mtu(probe.get(), one->ifa_name);
      if (its > 0) mtu = mtu == 0 ? its : std::min(mtu, its);
    }
    freeifaddrs(all);
  }
  // 127/8 is all loopback though only 127.0.0.1 is listed; other unlisted addresses get what every path takes.
  if (mtu == 0) {
    const bool loopback = local.family() == AF_INET &&
                          (ntohl(ipv4(local.storage).sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
    mtu = loopback && probe.get() >= 0 ? interface_mtu(probe.get(), "lo") : 0;
    if (mtu == 0) mtu = 1280;
  }
  mtu = std::min<uint32_t>(mtu, 65535);
  const uint32_t headers = overhead + static_cast<uint32_t>(kUdpHeaderBytes);
  return mtu <= headers ? 0 : std::min<uint32_t>(mtu - headers, SDR_PACKET_BYTES_MAX);
}

Descriptor open_socket(const SocketAddress& local, const UdpOptions& options,
                       UdpCapabilities* capabilities, UdpError* error) {
  Descriptor opened(open_datagram(local.family()));
  const int fd = opened.get();
  if (fd < 0) return failed(error, "socket");
  if (local.family() == AF_INET6) set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  forbid_fragments(fd, local.family());
  if (bind(fd, generic(local), local.bytes) != 0) return failed(error, "bind");

  int force_receive = -1, force_send = -1;
#if defined(__linux__)
  force_receive = SO_RCVBUFFORCE;
  force_send = SO_SNDBUFFORCE;
  int value = 0;
  socklen_t length = sizeof value;
  capabilities->gso =
      options.allow_gso && getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &value, &length) == 0;
  capabilities->gro = options.allow_gro && set_option(fd, IPPROTO_UDP, UDP_GRO, 1);
#endif
  capabilities->receive_buffer_bytes =
      grow_buffer(fd, force_receive, SO_RCVBUF, options.socket_buffer_bytes);
  capabilities->send_buffer_bytes =
      grow_buffer(fd, force_send, SO_SNDBUF, options.socket_buffer_bytes);
  capabilities->ipv6 = local.family() == AF_INET6;
  return opened;
}

SocketAddress local_address(int fd) {
  SocketAddress address;
  address.bytes = sizeof address.storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.bytes) != 0)
    address.bytes = 0;
  return address;
}

// ---- receiving ----

struct ReceiveBatch::Native {
  struct Control {
    alignas(cmsghdr) uint8_t bytes[CMSG_SPACE(sizeof(int))];
  };
  std::vector<iovec> iovs;
  std::vector<Control> controls;
#if defined(__linux__)
  std::vector<mmsghdr> messages;
#endif
};

void ReceiveBatch::NativeDelete::operator()(Native* native) const { delete native; }

ReceiveBatch::ReceiveBatch(bool gro) : native_(new Native) {
  const size_t buffers = gro ? kBuffersGro : kBuffersPlain;
  memory_.reset(new uint8_t[buffers * kBufferBytes]);
  received_.resize(buffers);
  native_->iovs.resize(buffers);
  native_->controls.resize(buffers);
  for (size_t i = 0; i < buffers; i++) {
    native_->iovs[i] = {memory_.get() + i * kBufferBytes, kBufferBytes};
    received_[i].data = memory_.get() + i * kBufferBytes;
  }
#if defined(__linux__)
  native_->messages.resize(buffers);
#endif
}

#if defined(__linux__)

size_t ReceiveBatch::receive(int fd) {
  for (size_t i = 0; i < received_.size(); i++) {
    msghdr& header = native_->messages[i].msg_hdr;
    header = {};
    header.msg_iov = &native_->iovs[i];
    header.msg_iovlen = 1;
    header.msg_control = native_->controls[i].bytes;
    header.msg_controllen = sizeof native_->controls[i].bytes;
  }
  const int count = recvmmsg(fd, native_->messages.data(),
                             static_cast<unsigned>(native_->messages.size()), MSG_DONTWAIT, nullptr);
  for (int i = 0; i < count; i++) {
    const mmsghdr& message = native_->messages[static_cast<size_t>(i)];
    Received& one = received_[static_cast<size_t>(i)];
    one.bytes = message.msg_len;
    one.segment = message.msg_len;
    for (cmsghdr* part = CMSG_FIRSTHDR(&message.msg_hdr); part != nullptr;
         part = CMSG_NXTHDR(const_cast<msghdr*>(&message.msg_hdr), part)) {
      if (part->cmsg_level != IPPROTO_UDP || part->cmsg_type != UDP_GRO) continue;
      int segment = 0;
      std::memcpy(&segment, CMSG_DATA(part), sizeof segment);
      if (segment > 0) one.segment = static_cast<size_t>(segment);
    }
  }
  return count > 0 ? static_cast<size_t>(count) : 0;
}

#else

size_t ReceiveBatch::receive(int fd) {
  size_t count = 0;
  while (count < received_.size()) {
    const ssize_t bytes =
        recv(fd, native_->iovs[count].iov_base, kBufferBytes, MSG_DONTWAIT);
    if (bytes < 0) break;
    received_[count].bytes = received_[count].segment = static_cast<size_t>(bytes);
    count++;
  }
  return count;
}

#endif

// ---- sleeping ----

void wait_for(int fd, bool writable, Waker& waker, int64_t timeout_ns) {
  pollfd watched[2] = {{fd, static_cast<short>(writable ? POLLIN | POLLOUT : POLLIN), 0},
                       {waker.readable(), POLLIN, 0}};
  if (wait_any(watched, 2, timeout_ns) > 0 && watched[1].revents != 0) waker.clear();
}

}  // namespace sdr::udp
