// Memory of ours for regions: page-aligned, on huge pages where it is large. Thread-safe.
#pragma once

#include "sdr/transport.h"

namespace sdr {

// Zeroed, given back to the system with the last reference. Null when the system has none.
RegionRef map_region(uint64_t bytes);

// For what a message needs while it is under way, such as its parity: any contents. Memory let go of is kept for the
// next one, up to kScratchKeptBytesMax in the process: a system may take longer to hand out fresh pages than a network
// takes to fill them, a virtual machine much longer.
inline constexpr size_t kScratchKeptBytesMax = 256u << 20;
RegionRef scratch_region(uint64_t bytes);

}  // namespace sdr
