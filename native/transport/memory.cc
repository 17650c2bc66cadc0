#include "transport/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <optional>

namespace sdr {
namespace {

constexpr size_t kHugeFrom = 4u << 20;  // smaller memory is not worth a huge page
constexpr size_t kScratchWasteMax = 4;  // what is kept serves requests down to this part of its size

struct Block {
  uint8_t* base;
  size_t bytes;
};

std::optional<Block> map(uint64_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  if (bytes > SIZE_MAX - page) return std::nullopt;
  const size_t mapped = bytes == 0 ? page : (bytes + page - 1) / page * page;
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return std::nullopt;
#ifdef MADV_HUGEPAGE
  if (mapped >= kHugeFrom) madvise(memory, mapped, MADV_HUGEPAGE);
#endif
  return Block{static_cast<uint8_t*>(memory), mapped};
}

// Scratch memory between two uses, that let go of last at the back.
class Kept {
 public:
  std::optional<Block> take(uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    auto best = blocks_.end();
    for (auto one = blocks_.begin(); one != blocks_.end(); ++one) {
      const bool fits = one->bytes >= bytes && one->bytes / kScratchWasteMax <= bytes;
      if (fits && (best == blocks_.end() || one->bytes <= best->bytes)) best = one;
    }
    if (best == blocks_.end()) return std::nullopt;
    const Block block = *best;
    blocks_.erase(best);
    bytes_ -= block.bytes;
    return block;
  }

  void give(const Block& block) {
    if (block.bytes > kScratchKeptBytesMax) {
      munmap(block.base, block.bytes);
      return;
    }
    const std::lock_guard lock(mutex_);
    blocks_.push_back(block);
    bytes_ += block.bytes;
    for (; bytes_ > kScratchKeptBytesMax; blocks_.pop_front()) {
      bytes_ -= blocks_.front().bytes;
      munmap(blocks_.front().base, blocks_.front().bytes);
    }
  }

 private:
  std::mutex mutex_;
  std::deque<Block> blocks_;  // each at least a page, so their number has a limit too
  size_t bytes_ = 0;
};

// Never destroyed: threads may let go of regions while the process ends.
Kept& kept() {
  static Kept* one = new Kept;
  return *one;
}

}  // namespace

RegionRef map_region(uint64_t bytes) {
  const std::optional<Block> block = map(bytes);
  if (!block) return nullptr;
  return RegionRef(new Region{block->base, bytes}, [mapped = block->bytes](const Region* gone) {
    munmap(gone->base, mapped);
    delete gone;
  });
}

RegionRef scratch_region(uint64_t bytes) {
  std::optional<Block> block = kept().take(bytes);
  if (!block) block = map(bytes);
  if (!block) return nullptr;
  return RegionRef(new Region{block->base, bytes}, [mapped = block->bytes](const Region* gone) {
    kept().give({gone->base, mapped});
    delete gone;
  });
}

}  // namespace sdr
