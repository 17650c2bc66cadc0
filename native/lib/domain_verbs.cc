// RDMA devices, and Soft-RoCE: "mlx5_0", "rxe0".
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "lib/domain.h"
#include "lib/error.h"
#include "sdr/verbs.h"

namespace sdr::lib {
namespace {

constexpr uint32_t kPacketBytesMin = 256;  // below it, a CTS with its grant is no packet
constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// As RFC 4648 section 4, which is how the TypeScript SDK writes a verbs info.
std::string to_base64(const std::vector<uint8_t>& bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; j++) group = group << 8 | (i + j < bytes.size() ? bytes[i + j] : 0u);
    for (size_t j = 0; j < 4; j++)
      text += i + j <= bytes.size() ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

// False for what is no base64.
bool from_base64(std::string text, std::vector<uint8_t>& bytes) {
  while (text.ends_with('=')) text.pop_back();
  uint32_t group = 0;
  int bits = 0;
  for (const char c : text) {
    const char* digit = c != '\0' ? std::strchr(kDigits, c) : nullptr;
    if (digit == nullptr) return false;
    group = group << 6 | static_cast<uint32_t>(digit - kDigits);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<uint8_t>(group >> bits));
  }
  return true;
}

Error to_error(const DeviceError& error) {
  Code code = SDR_EXT_ENVIRONMENT;
  for (int number = 1; number <= SDR_EXT_DEADLOCK; number++)
    if (error.code == code_name(static_cast<Code>(number))) code = static_cast<Code>(number);
  return make_error(code, error.what, error.remedy);
}

[[noreturn]] void fail_with(const DeviceError& error) { throw Failure(to_error(error)); }

class VerbsDomain final : public RealDomain {
 public:
  explicit VerbsDomain(const DeviceOptions& options) {
    VerbsOptions verbs;
    verbs.device = options.name;
    verbs.channels = options.channels;
    const char* unreliable = std::getenv("SDR_USE_UC_QP");
    verbs.reliable = unreliable != nullptr && std::strcmp(unreliable, "0") == 0;
    DeviceError error;
    context_ = VerbsContext::create(
        verbs, [this] { wake(); }, &error);
    if (!context_) {
      error.what = "device \"" + options.name + "\": " + error.what;
      fail_with(error);
    }
    limits_ = {.name = "the device",
               .packet_bytes_min = kPacketBytesMin,
               .packet_bytes_max = context_->capabilities().mtu,
               .receive_buffer_bytes =
                   uint64_t{context_->capabilities().receive_depth} * context_->capabilities().mtu};
    start();
  }
  ~VerbsDomain() override {
    stop();
    context_.reset();
  }

  int64_t now_ns() override { return context_->now_ns(); }

  QueuePair* create_qp(const QpConfig& config) override {
    sdr_status status = SDR_OK;
    DeviceError error;
    QueuePair* qp = context_->create_qp(config, &status, &error);
    if (qp == nullptr && !error.what.empty()) fail_with(error);
    if (qp == nullptr)
      fail(SDR_EXT_INVALID_ARGUMENT,
           "the queue pair was refused (status " + std::to_string(status) + ")",
           "use fewer or smaller messages");
    return qp;
  }

  std::string info(const QueuePair& qp) override {
    return R"({"transport":"verbs","queues":")" + to_base64(context_->info(qp.id())) + R"("})";
  }

  void connect(QueuePair& qp, const Json& peer, const LinkConfig& link, uint64_t seed) override {
    const Json *transport = peer.find("transport"), *queues = peer.find("queues");
    std::vector<uint8_t> bytes;
    if (transport == nullptr || transport->string != "verbs" || queues == nullptr ||
        !from_base64(queues->string, bytes))
      fail(SDR_EXT_PEER_INCOMPATIBLE, "the peer's info is not of an RDMA device",
           "pass what the peer's sdr_qp_info_get gave, unchanged");
    if (bytes == context_->info(qp.id()))
      fail(SDR_EXT_PEER_INCOMPATIBLE, "the peer's info is this queue pair's own",
           "pass the peer's");
    DeviceError error;
    const sdr_status status =
        context_->connect(qp.id(), bytes.data(), bytes.size(), link, seed, &error);
    if (status != SDR_OK && !error.what.empty()) fail_with(error);
    if (status != SDR_OK)
      fail(SDR_EXT_PEER_INCOMPATIBLE,
           "the peer's info was refused (status " + std::to_string(status) + ")",
           "pass what the peer's sdr_qp_info_get gave, unchanged");
  }

  void destroy_qp(QueuePair& qp) override { context_->destroy_qp(qp.id()); }
  std::string failure(const QueuePair& qp) const override { return context_->failure(qp.id()); }
  Error refusal(const QueuePair& qp) const override { return to_error(context_->refusal(qp.id())); }

 private:
  EventQueue& events() override { return context_->events(); }

  std::unique_ptr<VerbsContext> context_;
};

}  // namespace

std::shared_ptr<Domain> open_verbs(const DeviceOptions& options) {
  return std::make_shared<VerbsDomain>(options);
}

}  // namespace sdr::lib
