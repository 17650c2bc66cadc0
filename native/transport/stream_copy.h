// Copies past the caches, for payload too large to be found in them when it is used: a plain copy would first read
// from memory every line that it is about to overwrite. Pure functions.
#pragma once

#include <cstddef>

namespace sdr {

// As memcpy. On x86-64 the bytes become visible to other threads in order with later stores only after a
// stream_fence() of this thread.
void stream_copy(void* to, const void* from, size_t bytes);
void stream_fence();

}  // namespace sdr
