// UDP devices: "udp:ADDRESS" and "udp:ADDRESS:PORT".
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <random>

#include "lib/domain.h"
#include "lib/error.h"
#include "sdr/udp.h"

namespace sdr::lib {
namespace {

constexpr size_t kAddressBytesMax = 64;

Failure opening_failed(const UdpError& error, const UdpOptions& options) {
  const std::string where = options.address + " port " + std::to_string(options.port);
  switch (error.number) {
    case EADDRINUSE:
      return Failure(
          make_error(SDR_EXT_ADDRESS_IN_USE, where + " is in use", "choose another port, or none"));
    case EADDRNOTAVAIL:
      return Failure(make_error(SDR_EXT_INVALID_ARGUMENT,
                                options.address + " is not an address of this machine",
                                "use one of its own addresses"));
    case EACCES:
      return Failure(
          make_error(SDR_EXT_ACCESS_DENIED, where + " may not be opened", "use a port above 1023"));
    case EINVAL:
      if (error.call == "address")
        return Failure(make_error(SDR_EXT_INVALID_ARGUMENT,
                                  "address \"" + options.address + "\" is not numeric",
                                  "use an IPv4 or IPv6 address such as 127.0.0.1 or ::1"));
      break;
    default:
      break;
  }
  return Failure(make_error(
      SDR_EXT_ENVIRONMENT, error.call + " failed for " + where + ": " + std::strerror(error.number),
      "check the machine's network and limits"));
}

// ADDRESS, ADDRESS:PORT, [ADDRESS], [ADDRESS]:PORT; an IPv6 address with a port needs its brackets.
void read_name(const std::string& rest, UdpOptions& options) {
  std::string port;
  if (rest.starts_with('[')) {
    const size_t end = std::min(rest.find(']'), rest.size());
    options.address = rest.substr(1, end - 1);
    port = end < rest.size() ? rest.substr(end + 1) : "?";
    if (port.starts_with(':'))
      port.erase(0, 1);
    else if (!port.empty())
      port = "?";
  } else if (const size_t colon = rest.find(':');
             colon != std::string::npos && colon == rest.rfind(':')) {
    options.address = rest.substr(0, colon);
    port = rest.substr(colon + 1);
  } else if (!rest.empty()) {
    options.address = rest;
  }
  if (port.empty()) return;
  const char* const end = port.data() + port.size();
  const auto [at, problem] = std::from_chars(port.data(), end, options.port);
  if (problem != std::errc() || at != end)
    fail(SDR_EXT_INVALID_ARGUMENT, "device \"udp:" + rest + "\" has no valid port",
         "use udp:ADDRESS:PORT with 0 to 65535");
}

uint64_t random_key() {
  std::random_device random;
  return uint64_t{random()} << 32 | random();
}

class UdpDomain final : public RealDomain {
 public:
  UdpDomain(const std::string& rest, const DeviceOptions& options) {
    UdpOptions udp;
    udp.channels = options.channels;
    read_name(rest, udp);
    UdpError error;
    context_ = UdpContext::create(
        udp, [this] { wake(); }, &error);
    if (!context_) throw opening_failed(error, udp);
    const UdpCapabilities& can = context_->capabilities();
    limits_ = {.name = "udp",
               .packet_bytes_max = std::min<uint32_t>(SDR_PACKET_BYTES_MAX, can.payload_bytes_max),
               .receive_buffer_bytes = can.receive_buffer_bytes};
    start();
  }
  ~UdpDomain() override {
    stop();
    context_.reset();
  }

  int64_t now_ns() override { return context_->now_ns(); }

  QueuePair* create_qp(const QpConfig& config) override {
    sdr_status status = SDR_OK;
    const uint64_t key = random_key();
    QueuePair* qp = context_->create_qp(config, key, &status);
    if (qp == nullptr)
      fail(status == SDR_NO_MEMORY ? SDR_EXT_ENVIRONMENT : SDR_EXT_INVALID_ARGUMENT,
           "the queue pair was refused (status " + std::to_string(status) + ")",
           "use fewer or smaller messages");
    keys_[qp->id()] = key;
    return qp;
  }

  std::string info(const QueuePair& qp) override {
    std::string text = R"({"transport":"udp","addresses":[)";
    const char* separator = "";
    for (const UdpAddress& one : context_->addresses()) {
      text += separator + (R"({"address":)" + json_string(one.address)) + R"(,"port":)" +
              std::to_string(one.port) + "}";
      separator = ",";
    }
    char key[20];
    std::snprintf(key, sizeof key, "%llx", static_cast<unsigned long long>(keys_.at(qp.id())));
    return text + R"(],"key":")" + key + R"("})";
  }

  void connect(QueuePair& qp, const Json& peer, const LinkConfig& link, uint64_t seed) override {
    const auto bad = [](const std::string& what) {
      fail(SDR_EXT_PEER_INCOMPATIBLE, "the peer's info " + what,
           "pass what the peer's sdr_qp_info_get gave, unchanged");
    };
    const Json* transport = peer.find("transport");
    if (transport == nullptr || transport->string != "udp") bad("is not of a UDP device");
    const Json* key = peer.find("key");
    uint64_t send_key = 0;
    if (key == nullptr || key->kind != Json::Kind::string || key->string.empty()) bad("has no key");
    const char* const end = key->string.data() + key->string.size();
    const auto [rest, problem] = std::from_chars(key->string.data(), end, send_key, 16);
    if (problem != std::errc() || rest != end) bad("has no valid key");
    if (send_key == keys_.at(qp.id())) bad("is this queue pair's own");
    const std::vector<UdpAddress> addresses = read_addresses(peer, bad);
    const size_t channels = context_->addresses().size();
    if (addresses.size() != channels)
      bad("has " + std::to_string(addresses.size()) + " channels, this end has " +
          std::to_string(channels));
    if (context_->connect(qp.id(), addresses, send_key, link, seed) != SDR_OK)
      bad("has addresses of another family (" + addresses[0].address + ")");
  }

  void destroy_qp(QueuePair& qp) override {
    keys_.erase(qp.id());
    context_->destroy_qp(qp.id());
  }

 private:
  EventQueue& events() override { return context_->events(); }

  template <class Bad>
  static std::vector<UdpAddress> read_addresses(const Json& peer, const Bad& bad) {
    const Json* list = peer.find("addresses");
    std::vector<UdpAddress> addresses;
    if (list == nullptr || list->items.size() > SDR_CHANNELS_MAX) bad("has no valid addresses");
    for (const Json& one : list->items) {
      const Json *address = one.find("address"), *port = one.find("port");
      const auto number = port != nullptr ? port->whole(1, 65535) : std::nullopt;
      if (address == nullptr || address->string.size() > kAddressBytesMax || !number)
        bad("has no valid addresses");
      addresses.push_back({address->string, static_cast<uint16_t>(*number)});
    }
    return addresses;
  }

  std::unique_ptr<UdpContext> context_;
  std::map<uint32_t, uint64_t> keys_;
};

}  // namespace

std::shared_ptr<Domain> open_udp(const std::string& rest, const DeviceOptions& options) {
  return std::make_shared<UdpDomain>(rest, options);
}

}  // namespace sdr::lib
