// Memory for regions: zeroed where it is promised, kept for the next use where that is, and never used twice at once.
#include "transport/memory.h"

#include <algorithm>
#include <set>
#include <vector>

#include "check.h"

using sdr::map_region;
using sdr::RegionRef;
using sdr::scratch_region;

namespace {
constexpr uint64_t kMiB = 1 << 20;

void fill(const RegionRef& region) { std::fill_n(region->base, region->bytes, uint8_t{7}); }
}  // namespace

TEST(mapped_memory_is_zeroed_every_time_also_where_scratch_was) {
  fill(scratch_region(kMiB));
  for (int round = 0; round < 3; round++) {
    const RegionRef region = map_region(kMiB + 1);
    CHECK(std::all_of(region->base, region->base + region->bytes, [](uint8_t byte) { return byte == 0; }));
    fill(region);
  }
}

TEST(scratch_let_go_of_is_the_next_of_about_its_size) {
  RegionRef first = scratch_region(3 * kMiB);
  const uint8_t* place = first->base;
  first.reset();
  const RegionRef small = scratch_region(kMiB / 2);
  CHECK(small->base != place);
  const RegionRef again = scratch_region(2 * kMiB);
  CHECK(again->base == place);
  CHECK_EQ(again->bytes, 2 * kMiB);
  CHECK(scratch_region(2 * kMiB)->base != place);
}

TEST(scratch_in_use_is_nobody_elses) {
  std::vector<RegionRef> regions;
  std::set<const uint8_t*> places;
  for (int i = 0; i < 20; i++) {
    if (i % 3 == 2) places.erase(regions.back()->base), regions.pop_back();
    regions.push_back(scratch_region(kMiB));
    fill(regions.back());
    CHECK(places.insert(regions.back()->base).second);
  }
}

TEST(no_more_is_kept_than_the_limit) {
  const uint64_t bytes = sdr::kScratchKeptBytesMax / 4;
  std::vector<RegionRef> regions;
  for (int i = 0; i < 6; i++) {
    regions.push_back(scratch_region(bytes));
    regions.back()->base[0] = 7;
  }
  regions.clear();
  // Fresh memory is zeroed.
  for (int i = 0; i < 6; i++) {
    regions.push_back(scratch_region(bytes));
    CHECK_EQ(regions.back()->base[0], i < 4 ? 7 : 0);
  }
  const RegionRef large = scratch_region(2 * sdr::kScratchKeptBytesMax);
  large->base[0] = 7;
}

TEST(more_than_there_is_gives_none) {
  CHECK(map_region(uint64_t{1} << 62) == nullptr);
  CHECK(scratch_region(UINT64_MAX) == nullptr);
}
