// How fast codes are made and undone, beside what reading the same memory costs and beside Intel's ISA-L where its
// library is installed. Rounds go through all of it, so that ratios within a round hold however busy the machine is;
// a scan goes beside each figure, every output is verified. One core; seconds are the thread's own.
//   codec_bench [--seconds N] [--quick]
// Prints one JSON document: GB/s of data (10^9 bytes), one figure a round, medians of the rounds.
#include <dlfcn.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "codec/combine.h"
#include "codec/kernels.h"
#include "codec/matrix.h"
#include "sdr/codec.h"

using namespace sdr::codec;

namespace {

constexpr size_t kBytes = size_t{128} << 20, kQuickBytes = size_t{16} << 20;
constexpr size_t kSlowBytes = size_t{8} << 20;  // for the scalar kernel, and for fifty rows without the best
constexpr uint32_t kRoundsMin = 3, kRoundsMax = 200;
constexpr double kSecondsDefault = 20;
constexpr size_t kWindowBytes = 192;  // of each block's parity, compared with the scalar kernel's
constexpr size_t kPageBytes = size_t{2} << 20;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "codec_bench: %s\n", what.c_str());
  std::exit(1);
}
void require(bool holds, const std::string& what) {
  if (!holds) fail(what);
}

double seconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <class Body>
double gbps_of(size_t bytes, Body body) {
  const double begin = seconds_of(CLOCK_THREAD_CPUTIME_ID);
  body();
  return static_cast<double>(bytes) / (seconds_of(CLOCK_THREAD_CPUTIME_ID) - begin) / 1e9;
}

uint8_t* allocate(size_t bytes) {
  void* at = mmap(nullptr, bytes + kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED, "no memory");
  const uintptr_t aligned = (reinterpret_cast<uintptr_t>(at) + kPageBytes - 1) / kPageBytes * kPageBytes;
  madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE);  // as regions of the addon are
  std::memset(reinterpret_cast<void*>(aligned), 1, bytes);          // no page is touched first while measured
  return reinterpret_cast<uint8_t*>(aligned);
}

// What the data is: any part of it can be made again to compare with.
uint64_t pattern(size_t word) {
  const uint64_t mixed = (word + 1) * 0x9e3779b97f4a7c15;
  return (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9;
}
void make_pattern(uint8_t* data, size_t at, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t word = pattern((at + i) / 8);
    std::memcpy(data + at + i, &word, 8);
  }
}
bool is_pattern(const uint8_t* data, size_t at, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t word = pattern((at + i) / 8);
    if (std::memcmp(data + at + i, &word, 8) != 0) return false;
  }
  return true;
}

// The widest vectors that the compiler makes for the processor, four sums at a time.
#if defined(__x86_64__)
__attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#endif
uint64_t
scan(const uint8_t* data, size_t bytes) {
  typedef uint64_t Vector __attribute__((vector_size(64)));
  Vector sums[4] = {};
  const auto* from = reinterpret_cast<const Vector*>(data);
  for (size_t i = 0; i < bytes / sizeof(Vector); i += 4) {
    for (size_t v = 0; v < 4; v++) sums[v] ^= from[i + v];
  }
  sums[0] ^= sums[1] ^ sums[2] ^ sums[3];
  uint64_t sum = 0;
  for (size_t lane = 0; lane < 8; lane++) sum ^= sums[0][lane];
  return sum;
}

struct Isal {
  using Encode = void (*)(int bytes, int k, int rows, unsigned char* tables, unsigned char** from, unsigned char** to);
  void (*tables)(int k, int rows, unsigned char* matrix, unsigned char* tables) = nullptr;
  Encode best = nullptr, avx2 = nullptr;

  Isal() {
    void* library = dlopen("libisal.so.2", RTLD_NOW);
    if (library == nullptr) return;
    tables = reinterpret_cast<decltype(tables)>(dlsym(library, "ec_init_tables"));
    best = reinterpret_cast<Encode>(dlsym(library, "ec_encode_data"));
    avx2 = reinterpret_cast<Encode>(dlsym(library, "ec_encode_data_avx2"));
    if (tables == nullptr) best = avx2 = nullptr;
  }
};

enum class Operation { encode, decode };

struct Setting {
  Shape shape;
  size_t chunk_bytes;
  std::string kernel;
  const Kernel* by;  // null: one of ISA-L's
  Isal::Encode isal;
  Operation operation;
  std::vector<double> gbps, scan;
};

class Bench {
 public:
  explicit Bench(size_t bytes) : bytes_(bytes), data_(allocate(bytes)), parity_(allocate(bytes / 2)) {
    make_pattern(data_, 0, bytes);
    scanned_ = 0;
    for (size_t word = 0; word < bytes / 8; word++) scanned_ ^= pattern(word);
  }

  double measure_scan() {
    uint64_t sum = 0;
    const double gbps = gbps_of(bytes_, [&] { sum = scan(data_, bytes_); });
    require(sum == scanned_, "the scan's sum is wrong");
    return gbps;
  }

  // A scan, the setting's work, and the check of what it made. What is to be made is spoilt before the scan, which
  // leaves the caches as they are for the first: no dirty lines to be written on the account of the work.
  void measure(Setting* setting) {
    const Shape& shape = setting->shape;
    const size_t block = shape.k * setting->chunk_bytes;
    const bool slow = setting->kernel == "scalar" || (shape.m >= 50 && setting->by != &kernels().front());
    const size_t blocks = std::max((slow ? std::min(kSlowBytes, bytes_) : bytes_) / block, size_t{1});
    require(blocks * block <= bytes_, "a block is larger than the data");
    if (setting->by != nullptr) use_kernel(*setting->by);
    const std::vector<uint8_t> present = losses(shape);
    if (setting->operation == Operation::encode) {
      std::memset(parity_, 0x5a, blocks * shape.m * setting->chunk_bytes);
      setting->scan.push_back(measure_scan());
      setting->gbps.push_back(setting->by == nullptr ? run_isal(*setting, blocks) : run_encode(*setting, blocks));
      return verify_parity(*setting, blocks);
    }
    run_encode(*setting, blocks);
    each_lost(*setting, blocks, present, [&](size_t at) { std::memset(data_ + at, 0x5a, setting->chunk_bytes); });
    require(scan(data_, bytes_) != scanned_, "the lost chunks were not spoilt");
    const double gbps = run_decode(*setting, blocks, present);
    each_lost(*setting, blocks, present, [&](size_t at) {
      require(is_pattern(data_, at, setting->chunk_bytes), "a chunk was decoded wrongly");
    });
    setting->scan.push_back(measure_scan());
    setting->gbps.push_back(gbps);
  }

 private:
  // Every (k / m)-th data chunk: one of each group of the XOR code too, where m divides k.
  static std::vector<uint8_t> losses(const Shape& shape) {
    std::vector<uint8_t> present(shape.k + shape.m, 1);
    const uint32_t apart = shape.kind == Kind::mds ? shape.k / shape.m : 1;
    for (uint32_t i = 0; i < shape.m; i++) present[i * apart] = 0;
    return present;
  }

  template <class Body>
  void each_lost(const Setting& setting, size_t blocks, const std::vector<uint8_t>& present, Body body) const {
    for (size_t b = 0; b < blocks; b++) {
      for (uint32_t j = 0; j < setting.shape.k; j++) {
        if (present[j] == 0) body((b * setting.shape.k + j) * setting.chunk_bytes);
      }
    }
  }

  uint8_t* data_of(const Setting& s, size_t block, uint32_t j) const {
    return data_ + (block * s.shape.k + j) * s.chunk_bytes;
  }
  uint8_t* parity_of(const Setting& s, size_t block, uint32_t i) const {
    return parity_ + (block * s.shape.m + i) * s.chunk_bytes;
  }

  double run_encode(const Setting& s, size_t blocks) const {
    const std::shared_ptr<const Code> code = Code::of(s.shape);
    Result result = Result::ok;
    const double gbps = gbps_of(blocks * s.shape.k * s.chunk_bytes, [&] {
      Source sources[kChunksMax];
      uint8_t* targets[kChunksMax];
      for (size_t b = 0; b < blocks && result == Result::ok; b++) {
        for (uint32_t j = 0; j < s.shape.k; j++) sources[j] = {data_of(s, b, j), s.chunk_bytes};
        for (uint32_t i = 0; i < s.shape.m; i++) targets[i] = parity_of(s, b, i);
        result = code->encode(sources, targets, s.chunk_bytes);
      }
    });
    require(result == Result::ok, "encode failed");
    return gbps;
  }

  double run_decode(const Setting& s, size_t blocks, const std::vector<uint8_t>& present) const {
    const std::shared_ptr<const Code> code = Code::of(s.shape);
    Result result = Result::ok;
    const double gbps = gbps_of(blocks * s.shape.k * s.chunk_bytes, [&] {
      Target targets[kChunksMax];
      const uint8_t* sources[kChunksMax];
      uint32_t used = 0;
      for (size_t b = 0; b < blocks && result == Result::ok; b++) {
        for (uint32_t j = 0; j < s.shape.k; j++) targets[j] = {data_of(s, b, j), s.chunk_bytes};
        for (uint32_t i = 0; i < s.shape.m; i++) sources[i] = parity_of(s, b, i);
        result = code->decode(targets, sources, present.data(), s.chunk_bytes, &used);
      }
    });
    require(result == Result::ok, "decode failed");
    return gbps;
  }

  double run_isal(const Setting& s, size_t blocks) const {
    std::vector<uint8_t> matrix = generator(s.shape.m, s.shape.k);
    std::vector<unsigned char> tables(size_t{32} * s.shape.k * s.shape.m);
    isal.tables(static_cast<int>(s.shape.k), static_cast<int>(s.shape.m), matrix.data(), tables.data());
    return gbps_of(blocks * s.shape.k * s.chunk_bytes, [&] {
      unsigned char *sources[kChunksMax], *targets[kChunksMax];
      for (size_t b = 0; b < blocks; b++) {
        for (uint32_t j = 0; j < s.shape.k; j++) sources[j] = data_of(s, b, j);
        for (uint32_t i = 0; i < s.shape.m; i++) targets[i] = parity_of(s, b, i);
        s.isal(static_cast<int>(s.chunk_bytes), static_cast<int>(s.shape.k), static_cast<int>(s.shape.m),
               tables.data(), sources, targets);
      }
    });
  }

  // A window of each block, another one in each, against the scalar kernel.
  void verify_parity(const Setting& s, size_t blocks) const {
    std::vector<uint8_t> matrix(size_t{s.shape.m} * s.shape.k);
    for (uint32_t i = 0; i < s.shape.m; i++) {
      for (uint32_t j = 0; j < s.shape.k; j++)
        matrix[i * s.shape.k + j] = s.shape.kind == Kind::mds ? coefficient(i, j) : (j % s.shape.m == i ? 1 : 0);
    }
    const size_t step = std::max(blocks / 16, size_t{1});
    std::vector<uint8_t> expected(kWindowBytes * s.shape.m);
    for (size_t b = 0; b < blocks; b += step) {
      const size_t at = pattern(b) % (s.chunk_bytes - kWindowBytes + 1);
      std::vector<Source> sources;
      std::vector<Target> targets;
      for (uint32_t j = 0; j < s.shape.k; j++) sources.push_back({data_of(s, b, j) + at, kWindowBytes});
      for (uint32_t i = 0; i < s.shape.m; i++) targets.push_back({&expected[i * kWindowBytes], kWindowBytes});
      combine({matrix.data(), s.shape.m, s.shape.k, sources.data(), targets.data(), false}, kernels().back());
      for (uint32_t i = 0; i < s.shape.m; i++)
        require(std::memcmp(targets[i].data, parity_of(s, b, i) + at, kWindowBytes) == 0, s.kernel + ": wrong parity");
    }
  }

 public:
  Isal isal;

 private:
  const size_t bytes_;
  uint8_t* const data_;
  uint8_t* const parity_;
  uint64_t scanned_;
};

std::vector<Setting> settings(const Isal& isal) {
  constexpr size_t kLarge = 64 * 1024, kSmall = 4 * 1024;
  const Shape mds{Kind::mds, 32, 8}, wide{Kind::mds, 200, 50}, groups{Kind::xor_groups, 32, 8};
  std::vector<Setting> all;
  for (const Kernel& one : kernels()) {
    if (!one.supported) continue;
    const auto add = [&](const Shape& shape, size_t chunk_bytes, Operation operation) {
      all.push_back({shape, chunk_bytes, one.name, &one, nullptr, operation, {}, {}});
    };
    add(mds, kLarge, Operation::encode);
    add(mds, kLarge, Operation::decode);
    add(groups, kLarge, Operation::encode);
    if (std::strcmp(one.name, "scalar") == 0) continue;
    add(groups, kLarge, Operation::decode);
    add(mds, kSmall, Operation::encode);
    add(mds, kSmall, Operation::decode);
    add(groups, kSmall, Operation::encode);
    add(wide, kLarge, Operation::encode);
  }
  for (const auto& [name, encode] : {std::pair{"isal", isal.best}, {"isal-avx2", isal.avx2}}) {
    if (encode == nullptr) continue;
    for (const auto& [shape, chunk_bytes] : {std::pair{mds, kLarge}, {mds, kSmall}, {wide, kLarge}})
      all.push_back({shape, chunk_bytes, name, nullptr, encode, Operation::encode, {}, {}});
  }
  // What is compared comes one after the other, while the machine is about as busy.
  std::stable_sort(all.begin(), all.end(), [](const Setting& a, const Setting& b) {
    const auto key = [](const Setting& s) { return std::tuple(s.operation, s.shape.kind, s.shape.k, s.chunk_bytes); };
    return key(a) < key(b);
  });
  return all;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}
std::vector<double> ratios(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> all;
  for (size_t i = 0; i < above.size(); i++) all.push_back(above[i] / below[i]);
  return all;
}
void print_list(const char* name, const std::vector<double>& values) {
  std::printf("\"%s\":[", name);
  for (size_t i = 0; i < values.size(); i++) std::printf("%s%.3f", i == 0 ? "" : ",", values[i]);
  std::printf("]");
}

// `name` of the same code, operation and chunk size; null where there is none.
const Setting* find(const std::vector<Setting>& all, const Setting& like, const char* name) {
  for (const Setting& one : all) {
    if (one.kernel == name && one.shape.kind == like.shape.kind && one.shape.k == like.shape.k &&
        one.shape.m == like.shape.m && one.chunk_bytes == like.chunk_bytes && one.operation == like.operation)
      return &one;
  }
  return nullptr;
}

void print(const std::vector<Setting>& all, const std::vector<double>& scans, size_t bytes, bool has_isal) {
  std::printf("{\"dataBytes\":%zu,\"bestKernel\":\"%s\",\"isal\":%s,\"rounds\":%zu,\"medianScanGBps\":%.3f,", bytes,
              kernels().front().supported ? kernels().front().name : kernel_name(), has_isal ? "true" : "false",
              scans.size(), median(scans));
  print_list("scanGBps", scans);
  std::printf(",\"results\":[");
  for (const Setting& one : all) {
    std::printf("%s{\"code\":\"%s\",\"k\":%u,\"m\":%u,\"chunkBytes\":%zu,\"kernel\":\"%s\",\"operation\":\"%s\",",
                &one == all.data() ? "" : ",", one.shape.kind == Kind::mds ? "mds" : "xor", one.shape.k, one.shape.m,
                one.chunk_bytes, one.kernel.c_str(), one.operation == Operation::encode ? "encode" : "decode");
    print_list("gbps", one.gbps);
    std::printf(",");
    print_list("scanGBps", one.scan);
    const std::vector<double> of_scan = ratios(one.gbps, one.scan);
    std::printf(",");
    print_list("ofScan", of_scan);
    std::printf(",\"medianGBps\":%.3f,\"medianOfScan\":%.3f", median(one.gbps), median(of_scan));
    for (const auto& [name, list, middle] : {std::tuple{"isal", "ofIsal", "medianOfIsal"},
                                             {"isal-avx2", "ofIsalAvx2", "medianOfIsalAvx2"}}) {
      const Setting* isal = one.by == nullptr ? nullptr : find(all, one, name);
      if (isal == nullptr) continue;
      const std::vector<double> of_isal = ratios(one.gbps, isal->gbps);
      std::printf(",");
      print_list(list, of_isal);
      std::printf(",\"%s\":%.3f", middle, median(of_isal));
    }
    std::printf("}");
  }
  std::printf("]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = kSecondsDefault;
  bool quick = false;
  for (int i = 1; i < argc; i++) {
    if (std::strcmp(argv[i], "--quick") == 0) quick = true;
    else if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) seconds = std::atof(argv[++i]);
    else fail("codec_bench [--seconds N] [--quick]");
  }
  require(seconds > 0 && seconds <= 3600, "--seconds is above 0 and at most 3600");
  const size_t bytes = quick ? kQuickBytes : kBytes;
  const double deadline = seconds_of(CLOCK_MONOTONIC) + seconds;
  Bench bench(bytes);
  std::vector<Setting> all = settings(bench.isal);
  std::vector<double> scans;
  bench.measure_scan();
  const uint32_t rounds_min = quick ? 1 : kRoundsMin, rounds_max = quick ? 1 : kRoundsMax;
  for (uint32_t r = 0; r < rounds_min || (r < rounds_max && seconds_of(CLOCK_MONOTONIC) < deadline); r++) {
    std::vector<double> of_round;
    for (Setting& one : all) {
      bench.measure(&one);
      of_round.push_back(one.scan.back());
    }
    scans.push_back(median(of_round));
  }
  print(all, scans, bytes, bench.isal.best != nullptr);
  return 0;
}
