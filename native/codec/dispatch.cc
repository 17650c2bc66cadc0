// Which kernel is in use: decided once a process.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "codec/kernels.h"
#include "sdr/codec.h"

namespace sdr::codec {
namespace {

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") != 0; }
bool has_gfni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("gfni");
}
#endif

const Kernel& choose() {
  const Kernel* best = nullptr;
  for (const Kernel& one : kernels()) {
    if (one.supported && best == nullptr) best = &one;
  }
  const char* wanted = std::getenv("SDR_CODEC_KERNEL");
  if (wanted == nullptr || wanted[0] == 0) return *best;
  for (const Kernel& one : kernels()) {
    if (one.supported && std::strcmp(one.name, wanted) == 0) return one;
  }
  std::fprintf(stderr, "sdr: SDR_CODEC_KERNEL=%s is not among this processor's kernels; %s is used\n", wanted,
               best->name);
  return *best;
}

std::atomic<const Kernel*>& in_use() {
  static std::atomic<const Kernel*> kernel{&choose()};
  return kernel;
}

}  // namespace

const std::vector<Kernel>& kernels() {
  // Never destroyed: threads may still be at work when the process ends.
  static const auto& all = *new std::vector<Kernel>{
#if defined(__x86_64__)
      {"gfni", has_gfni(), kRowsMaxGfni, run_gfni},
      {"avx2", has_avx2(), kRowsMaxAvx2, run_avx2},
#elif defined(__aarch64__)
      {"neon", true, kRowsMaxNeon, run_neon},
#endif
      {"scalar", true, kRowsMaxScalar, run_scalar},
  };
  return all;
}

const Kernel& kernel() { return *in_use().load(std::memory_order_relaxed); }

void use_kernel(const Kernel& one) { in_use().store(&one, std::memory_order_relaxed); }

const char* kernel_name() { return kernel().name; }

}  // namespace sdr::codec
