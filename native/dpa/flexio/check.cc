// sdr_dpa_check DEVICE: what the host side does with a card short of sending packets, step by step: the process, the
// objects, a remote call, and bits that the device writes into the host's memory. The first thing to run on a card.
#include <cstdio>
#include <cstring>
#include <vector>

#include "dpa/flexio/flexio_platform.h"
#include "dpa/pair.h"

extern "C" flexio_app* sdr_dpa_program;  // dpacc's

namespace {

using namespace sdr::dpa;

constexpr uint32_t kChunks = 100;
constexpr uint64_t kChunkBytes = 65536;

ibv_context* open_device(const char* name) {
  int count = 0;
  ibv_device** devices = ibv_get_device_list(&count);
  ibv_context* context = nullptr;
  for (int i = 0; i < count; i++) {
    if (std::strcmp(ibv_get_device_name(devices[i]), name) != 0) continue;
    mlx5dv_context_attr attributes{};
    attributes.flags = MLX5DV_CONTEXT_FLAGS_DEVX;
    context = mlx5dv_open_device(devices[i], &attributes);
  }
  if (devices != nullptr) ibv_free_device_list(devices);
  return context;
}

int failed(const char* what, const std::string& why) {
  std::fprintf(stderr, "%s: %s\n", what, why.c_str());
  return 1;
}

int check(ibv_context* context, ibv_pd* pd) {
  FlexioOptions options;
  options.context = context;
  options.pd = pd;
  options.program = sdr_dpa_program;
  std::string why;
  const auto platform = FlexioPlatform::create(options, &why);
  if (!platform) return failed("no process on the DPA", why);
  std::puts("a process runs on the DPA");
  PairOptions pair_options;
  pair_options.geometry = {4096, 16, 4, 2, 1, 2 * kChunks * kChunkBytes, {10, 18, 4}};
  sdr_status status = SDR_OK;
  const auto pair = DevicePair::create(*platform, pair_options, &status);
  if (!pair) return failed("no queue pair in its memory", platform->failure());
  std::printf("UC queue pairs %u and %u lead to its completion queue %u\n", pair->queue_number(0, 0),
              pair->queue_number(1, 0), pair->receive_cq(0));
  bool complete = false;
  status = pair->post(0, nullptr, kChunks * kChunkBytes, nullptr, 1);
  if (status == SDR_OK) status = pair->set_length(0, kChunks * kChunkBytes, &complete);
  std::vector<uint8_t> flags(kChunks, 1);
  if (status == SDR_OK) status = pair->seal(0, 0, kChunks, flags.data());
  if (status != SDR_OK) return failed("a remote call failed", std::to_string(status) + " " + platform->failure());
  std::puts("remote calls are answered");
  status = pair->fill(0, 0, kChunks, flags.data(), &complete);
  if (status != SDR_OK || !complete) return failed("the message is not complete", platform->failure());
  const sdr_bitmap_slab slab = pair->bitmaps();
  const auto* words = reinterpret_cast<const uint32_t*>(slab.base);
  for (uint32_t chunk = 0; chunk < kChunks; chunk++)
    if ((__atomic_load_n(words + chunk / 32, __ATOMIC_ACQUIRE) >> chunk % 32 & 1) == 0)
      return failed("the window", "bit " + std::to_string(chunk) + " did not come to the host's memory");
  std::printf("%u bits came through the window\n", kChunks);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: sdr_dpa_check DEVICE, as in: sdr_dpa_check mlx5_0\n");
    return 2;
  }
  ibv_context* context = open_device(argv[1]);
  if (context == nullptr)
    return failed(argv[1], "there is no such device, or DEVX does not open it: see ibv_devices, run as root");
  ibv_pd* pd = ibv_alloc_pd(context);
  const int result = pd != nullptr ? check(context, pd) : failed(argv[1], "no protection domain");
  if (pd != nullptr) ibv_dealloc_pd(pd);
  ibv_close_device(context);
  return result;
}
