// Every kernel that this processor has against sums of products by the definition: all lengths near the vectors' and
// the tiles' widths, all row counts, odd alignments, and buffers with a page behind or before them that nobody may
// touch.
#include "codec/combine.h"

#include "codec_fixture.h"

#include <sys/mman.h>
#include <unistd.h>

#include "codec/gf256.h"

using namespace sdr::codec;
using namespace sdr::codec::test;

namespace {

template <class Body>
void each_kernel(Body body) {
  for (const Kernel& kernel : kernels()) {
    if (!kernel.supported) {
      std::printf("  skipped %s: this processor lacks it\n", kernel.name);
      continue;
    }
    body(kernel);
  }
}

// Memory between two pages that fault on every access.
class Guarded {
 public:
  explicit Guarded(size_t bytes) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    bytes_ = (bytes + page_ - 1) / page_ * page_;
    void* at = mmap(nullptr, bytes_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    all_ = static_cast<uint8_t*>(at);
    CHECK_EQ(mprotect(all_ + page_, bytes_, PROT_READ | PROT_WRITE), 0);
  }
  Guarded(const Guarded&) = delete;
  ~Guarded() { munmap(all_, bytes_ + 2 * page_); }

  uint8_t* at_start() { return all_ + page_; }
  uint8_t* before_end(size_t bytes) { return all_ + page_ + bytes_ - bytes; }

 private:
  size_t page_, bytes_ = 0;
  uint8_t* all_ = nullptr;
};

struct Trial {
  uint32_t rows, columns;
  size_t bytes;
  bool add;
};

// Runs one combination over the given buffers and compares every target with the definition.
void check_combination(const Trial& trial, const std::vector<uint8_t*>& sources, const std::vector<uint8_t*>& targets,
                       const Kernel& kernel, std::mt19937& random) {
  Bytes coefficients(size_t{trial.rows} * trial.columns);
  fill(&coefficients, random);
  if (random() % 2 == 0) std::fill_n(coefficients.begin(), trial.columns, 1);  // as in the first parity chunk
  if (random() % 4 == 0) coefficients[random() % coefficients.size()] = 0;
  std::vector<Source> from;
  std::vector<Target> to;
  for (uint8_t* source : sources) {
    for (size_t i = 0; i < trial.bytes; i++) source[i] = static_cast<uint8_t>(random() >> 7);
    from.push_back({source, trial.bytes});
  }
  std::vector<Bytes> expected;
  for (uint32_t r = 0; r < trial.rows; r++) {
    for (size_t i = 0; i < trial.bytes; i++) targets[r][i] = static_cast<uint8_t>(random() >> 7);
    Bytes sum(trial.add ? Bytes(targets[r], targets[r] + trial.bytes) : Bytes(trial.bytes, 0));
    for (uint32_t c = 0; c < trial.columns; c++) {
      for (size_t i = 0; i < trial.bytes; i++)
        sum[i] ^= product(coefficients[size_t{r} * trial.columns + c], sources[c][i]);
    }
    expected.push_back(sum);
    to.push_back({targets[r], trial.bytes});
  }
  combine({coefficients.data(), trial.rows, trial.columns, from.data(), to.data(), trial.add}, kernel);
  for (uint32_t r = 0; r < trial.rows; r++) {
    const bool equal = std::equal(expected[r].begin(), expected[r].end(), targets[r]);
    if (!equal)
      std::fprintf(stderr, "%s: row %u of %u by %u, %zu bytes, add %d\n", kernel.name, r, trial.rows, trial.columns,
                   trial.bytes, trial.add);
    CHECK(equal);
  }
}

// Buffers with guard pages: at the end of the memory, or at its start.
void check_guarded(const Trial& trial, bool at_end, const Kernel& kernel, std::mt19937& random) {
  std::vector<std::unique_ptr<Guarded>> memory;
  std::vector<uint8_t*> buffers;
  for (uint32_t i = 0; i < trial.rows + trial.columns; i++) {
    memory.push_back(std::make_unique<Guarded>(trial.bytes + 1));
    buffers.push_back(at_end ? memory.back()->before_end(trial.bytes) : memory.back()->at_start());
  }
  check_combination(trial, {buffers.begin(), buffers.begin() + trial.columns},
                    {buffers.begin() + trial.columns, buffers.end()}, kernel, random);
}

}  // namespace

TEST(field_tables_are_the_field_of_0x11d) {
  for (uint32_t a = 0; a < 256; a++) {
    for (uint32_t b = 0; b < 256; b++) {
      const auto x = static_cast<uint8_t>(a), y = static_cast<uint8_t>(b);
      const uint8_t* nibbles = field().nibbles[x];
      CHECK_EQ(multiply(x, y), plain_multiply(x, y));
      CHECK_EQ(nibbles[y & 15] ^ nibbles[16 + (y >> 4)], product(x, y));
    }
    if (a > 0) CHECK_EQ(product(static_cast<uint8_t>(a), invert(static_cast<uint8_t>(a))), 1);
  }
}

TEST(every_kernel_equals_the_definition_at_every_length_between_guard_pages) {
  std::printf("  seed 1\n");
  each_kernel([](const Kernel& kernel) {
    std::mt19937 random(1);
    for (size_t bytes = 0; bytes <= 260; bytes++) {
      for (const bool at_end : {true, false}) {
        const auto rows = static_cast<uint32_t>(1 + random() % 9), columns = static_cast<uint32_t>(1 + random() % 6);
        check_guarded({rows, columns, bytes, random() % 3 == 0}, at_end, kernel, random);
      }
    }
    for (const size_t edge : {511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 4096, 4160, 32768, 32769}) {
      for (const uint32_t columns : {1u, 2u, 33u}) {
        check_guarded({2, columns, edge, false}, true, kernel, random);
        check_guarded({9, columns, edge, true}, false, kernel, random);
      }
    }
  });
}

TEST(every_kernel_equals_the_definition_for_random_shapes_and_alignments) {
  std::printf("  seed 2\n");
  each_kernel([](const Kernel& kernel) {
    std::mt19937 random(2);
    for (uint32_t n = 0; n < 300; n++) {
      const Trial trial{static_cast<uint32_t>(1 + random() % 20), static_cast<uint32_t>(1 + random() % 40),
                        random() % 3000, random() % 4 == 0};
      const bool aligned = random() % 2 == 0;  // only then a kernel may write past the caches
      constexpr size_t kAlignment = 64;
      std::vector<Bytes> memory(trial.rows + trial.columns, Bytes(trial.bytes + 3 * kAlignment));
      std::vector<uint8_t*> buffers;
      for (Bytes& one : memory) {
        void* at = one.data();
        size_t space = one.size();
        CHECK(std::align(kAlignment, trial.bytes + kAlignment, at, space) != nullptr);
        buffers.push_back(static_cast<uint8_t*>(at) + (aligned ? 0 : random() % kAlignment));
      }
      check_combination(trial, {buffers.begin(), buffers.begin() + trial.columns},
                        {buffers.begin() + trial.columns, buffers.end()}, kernel, random);
    }
  });
}

TEST(chunks_of_many_lengths_are_combined_as_if_filled_up_with_zeros) {
  std::printf("  seed 3\n");
  each_kernel([](const Kernel& kernel) {
    std::mt19937 random(3);
    for (uint32_t n = 0; n < 60; n++) {
      const auto rows = static_cast<uint32_t>(1 + random() % 12), columns = static_cast<uint32_t>(1 + random() % 30);
      constexpr size_t kBytes = 700;
      Bytes coefficients(rows * columns);
      fill(&coefficients, random);
      std::vector<Bytes> from(columns), to(rows);
      std::vector<Source> sources;
      std::vector<Target> targets;
      for (Bytes& chunk : from) {
        chunk.resize(random() % 3 == 0 ? kBytes : random() % kBytes);
        fill(&chunk, random);
        sources.push_back({random() % 8 == 0 ? nullptr : chunk.data(), chunk.size()});
      }
      for (Bytes& chunk : to) {
        chunk.resize(random() % 3 == 0 ? kBytes : random() % kBytes);
        targets.push_back({chunk.data(), chunk.size()});
      }
      combine({coefficients.data(), rows, columns, sources.data(), targets.data(), false}, kernel);
      for (uint32_t r = 0; r < rows; r++) {
        Bytes sum(to[r].size(), 0);
        for (uint32_t c = 0; c < columns; c++) {
          const size_t bytes = sources[c].data == nullptr ? 0 : std::min(from[c].size(), sum.size());
          for (size_t i = 0; i < bytes; i++) sum[i] ^= product(coefficients[r * columns + c], from[c][i]);
        }
        CHECK(to[r] == sum);
      }
    }
  });
}
