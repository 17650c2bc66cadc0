// Intel's ISA-L, where its library is installed (Debian: libisal2), is an implementation of the same field that shares
// nothing with this one: parity and recovered bytes of both are compared.
#include <dlfcn.h>

#include <algorithm>

#include "codec/combine.h"
#include "codec/matrix.h"
#include "codec_fixture.h"

using namespace sdr::codec;
using namespace sdr::codec::test;

namespace {

struct Isal {
  void (*cauchy)(unsigned char* matrix, int chunks, int k) = nullptr;  // (k + m) by k, the identity on top
  void (*tables)(int k, int rows, unsigned char* matrix, unsigned char* tables) = nullptr;
  void (*encode)(int bytes, int k, int rows, unsigned char* tables, unsigned char** from, unsigned char** to) = nullptr;

  bool load() {
    void* library = dlopen("libisal.so.2", RTLD_NOW);
    if (library == nullptr) {
      std::printf("  skipped: %s\n", dlerror());
      return false;
    }
    cauchy = reinterpret_cast<decltype(cauchy)>(dlsym(library, "gf_gen_cauchy1_matrix"));
    tables = reinterpret_cast<decltype(tables)>(dlsym(library, "ec_init_tables"));
    encode = reinterpret_cast<decltype(encode)>(dlsym(library, "ec_encode_data"));
    CHECK(cauchy != nullptr && tables != nullptr && encode != nullptr);
    return true;
  }

  // What it makes of `data` with a matrix of rows by k.
  std::vector<Bytes> run(std::vector<uint8_t> matrix, uint32_t rows, std::vector<Bytes> data) const {
    const auto k = static_cast<uint32_t>(data.size());
    std::vector<Bytes> made(rows, Bytes(data[0].size()));
    std::vector<unsigned char> expanded(size_t{32} * k * rows);
    std::vector<unsigned char*> from, to;
    for (Bytes& chunk : data) from.push_back(chunk.data());
    for (Bytes& chunk : made) to.push_back(chunk.data());
    tables(static_cast<int>(k), static_cast<int>(rows), matrix.data(), expanded.data());
    encode(static_cast<int>(data[0].size()), static_cast<int>(k), static_cast<int>(rows), expanded.data(), from.data(),
           to.data());
    return made;
  }
};

std::vector<Bytes> combined(const std::vector<uint8_t>& matrix, uint32_t rows, const std::vector<Bytes>& chunks) {
  std::vector<Bytes> made(rows, Bytes(chunks[0].size()));
  std::vector<Source> sources;
  std::vector<Target> targets;
  for (const Bytes& chunk : chunks) sources.push_back({chunk.data(), chunk.size()});
  for (Bytes& chunk : made) targets.push_back({chunk.data(), chunk.size()});
  combine({matrix.data(), rows, static_cast<uint32_t>(chunks.size()), sources.data(), targets.data(), false}, kernel());
  return made;
}

void check_shape(const Isal& isal, uint32_t k, uint32_t m, std::mt19937& random) {
  std::vector<Bytes> data(k, Bytes(64 + random() % 3000));
  for (Bytes& chunk : data) chunk.resize(data[0].size()), fill(&chunk, random);
  // Its matrix, parity by both.
  std::vector<uint8_t> whole(size_t{k + m} * k);
  isal.cauchy(whole.data(), static_cast<int>(k + m), static_cast<int>(k));
  const std::vector<uint8_t> theirs(whole.begin() + static_cast<ptrdiff_t>(size_t{k} * k), whole.end());
  const std::vector<Bytes> parity = isal.run(theirs, m, data);
  CHECK(combined(theirs, m, data) == parity);
  // Its parity, losses undone here.
  std::vector<uint32_t> missing, used;
  std::vector<Bytes> known;
  for (uint32_t j = 0; j < k; j++) {
    if (missing.size() < m && random() % 3 == 0) missing.push_back(j);
    else known.push_back(data[j]);
  }
  if (missing.empty()) missing.push_back(0), known.erase(known.begin());
  for (uint32_t i = 0; i < missing.size(); i++) used.push_back(i), known.push_back(parity[i]);
  const auto lost = static_cast<uint32_t>(missing.size());
  const std::vector<Bytes> made = combined(recovery(theirs, k, missing, used), lost, known);
  for (uint32_t r = 0; r < lost; r++) CHECK(made[r] == data[missing[r]]);
  // Parity made here, and losses undone by it.
  const Block block({Kind::mds, k, m}, data[0].size(), false, random);
  CHECK(isal.run(generator(m, k), m, block.data) == block.parity);
  known.clear();
  for (uint32_t j = 0; j < k; j++) {
    if (!std::binary_search(missing.begin(), missing.end(), j)) known.push_back(block.data[j]);
  }
  for (const uint32_t i : used) known.push_back(block.parity[i]);
  const std::vector<Bytes> undone = isal.run(recovery(generator(m, k), k, missing, used), lost, known);
  for (uint32_t r = 0; r < lost; r++) CHECK(undone[r] == block.data[missing[r]]);
}

}  // namespace

TEST(parity_and_recovered_bytes_equal_those_of_isal) {
  Isal isal;
  if (!isal.load()) return;
  std::printf("  seed 1\n");
  std::mt19937 random(1);
  for (const auto& [k, m] : {std::pair{32u, 8u}, {200u, 50u}, {1u, 1u}, {4u, 2u}, {10u, 4u}, {100u, 3u}, {17u, 16u}})
    for (uint32_t n = 0; n < 3; n++) check_shape(isal, k, m, random);
}
