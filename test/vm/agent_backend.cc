#include "agent_backend.h"

#include "sdr/udp.h"
#include "sdr/verbs.h"

namespace sdr::vm {

namespace {

class UdpBackend final : public Backend {
 public:
  UdpBackend(Reader& in, std::function<void()> wake) {
    UdpOptions options;
    options.address = in.text();
    options.port = static_cast<uint16_t>(in.u32());
    options.channels = in.u32();
    options.socket_buffer_bytes = in.u32();
    options.allow_gso = in.u8() != 0;
    options.allow_gro = in.u8() != 0;
    UdpError error;
    context_ = UdpContext::create(options, std::move(wake), &error);
    if (context_ == nullptr) throw BackendError{error.number, error.call, error.call + " failed", "", ""};
  }

  void write_capabilities(Writer& out) const override {
    const UdpCapabilities& can = context_->capabilities();
    out.u8(can.gso);
    out.u8(can.gro);
    out.u8(can.ipv6);
    out.u32(can.receive_buffer_bytes);
    out.u32(can.send_buffer_bytes);
    out.u32(can.payload_bytes_max);
  }
  int64_t now_ns() const override { return context_->now_ns(); }
  EventQueue& events() override { return context_->events(); }
  QueuePair* create_qp(const QpConfig& config, Reader& in, sdr_status* status) override {
    return context_->create_qp(config, in.u64(), status);
  }
  // The context's addresses: a queue pair has none of its own.
  void write_info(uint32_t, Writer& out) override {
    const auto addresses = context_->addresses();
    out.u32(static_cast<uint32_t>(addresses.size()));
    for (const UdpAddress& address : addresses) {
      out.text(address.address);
      out.u32(address.port);
    }
  }
  sdr_status connect(uint32_t qp, Reader& in) override {
    std::vector<UdpAddress> peer;
    for (uint32_t n = in.u32(); n > 0; n--) {
      std::string address = in.text();
      peer.push_back({std::move(address), static_cast<uint16_t>(in.u32())});
    }
    const uint64_t key = in.u64();
    const LinkConfig link = read_link(in);
    return context_->connect(qp, peer, key, link, in.whole());
  }
  void destroy_qp(uint32_t qp) override { context_->destroy_qp(qp); }
  uint64_t unknown_datagrams() const override { return context_->unknown_datagrams(); }

 private:
  std::unique_ptr<UdpContext> context_;
};

class VerbsBackend final : public Backend {
 public:
  VerbsBackend(Reader& in, std::function<void()> wake) {
    VerbsOptions options;
    options.device = in.text();
    options.port = in.u8();
    options.gid_index = static_cast<int>(in.f64());
    options.mtu = in.u32();
    options.channels = in.u32();
    options.reliable = in.u8() != 0;
    options.traffic_class = in.u8();
    DeviceError error;
    context_ = VerbsContext::create(options, std::move(wake), &error);
    if (context_ == nullptr) throw of(error);
  }

  void write_capabilities(Writer& out) const override {
    const VerbsCapabilities& can = context_->capabilities();
    out.text(can.device);
    out.text(can.driver);
    out.u8(can.port);
    out.f64(can.gid_index);
    out.text(can.gid);
    out.text(can.link_layer);
    out.u32(can.mtu);
    out.u8(can.keys == KeyScheme::root);
    out.u8(can.dmabuf);
    out.u32(can.receive_depth);
  }
  int64_t now_ns() const override { return context_->now_ns(); }
  EventQueue& events() override { return context_->events(); }
  QueuePair* create_qp(const QpConfig& config, Reader&, sdr_status* status) override {
    DeviceError error;
    QueuePair* qp = context_->create_qp(config, status, &error);
    if (qp == nullptr && !error.what.empty()) throw of(error);
    return qp;
  }
  void write_info(uint32_t qp, Writer& out) override {
    const auto info = context_->info(qp);
    out.bytes(info.data(), info.size());
  }
  sdr_status connect(uint32_t qp, Reader& in) override {
    const auto peer = in.bytes();
    const LinkConfig link = read_link(in);
    DeviceError error;
    const sdr_status status = context_->connect(qp, peer.data(), peer.size(), link, in.whole(), &error);
    if (status != SDR_OK && !error.what.empty()) throw of(error);
    return status;
  }
  void destroy_qp(uint32_t qp) override { context_->destroy_qp(qp); }
  std::string failure(uint32_t qp) const override { return context_->failure(qp); }

 private:
  static BackendError of(const DeviceError& error) {
    return {error.number, "", error.what, error.remedy, error.code};
  }
  std::unique_ptr<VerbsContext> context_;
};

}  // namespace

std::unique_ptr<Backend> open_backend(Reader& in, std::function<void()> wake) {
  const std::string name = in.text();
  if (name == "udp") return std::make_unique<UdpBackend>(in, std::move(wake));
  if (name == "verbs") return std::make_unique<VerbsBackend>(in, std::move(wake));
  throw BackendError{0, "", "this agent has no transport " + name, "build it with that transport", "UNSUPPORTED"};
}

}  // namespace sdr::vm
