// One memory key for all slots of a queue pair (paper section 3.2.2), on mlx5: an indirect key
// whose entries point at the posted receives' memory, or at the null key, which takes bytes and
// keeps none. Entries change by work requests on a queue pair connected to itself; each change is
// awaited, before a CTS goes out and before a buffer is handed back.
#pragma once

#include <memory>

#include "transport/verbs_keys.h"

namespace sdr::verbs {

// Null where the device has no such keys, or the geometry is beyond them: keys of each message
// serve then.
std::unique_ptr<SlotKeys> make_root_key(Device& device, const sdr_geometry& geometry);

// ---- the work request that rewrites one entry; a pure function, so that its bytes can be tested
// anywhere ----

inline constexpr uint32_t kPiecesPerEntry =
    4;  // its message's bytes, nothing, its parity's, nothing; the unit of updates
inline constexpr size_t kUpdateBytes = 16 + 48 + 64 + kPiecesPerEntry * 16;

struct Piece {
  uint32_t bytes = 0;  // 1 .. 2^31 - 1
  uint32_t key = 0;
  uint64_t address = 0;
};

struct Update {
  uint32_t queue_number = 0, key = 0;
  uint32_t entry = 0;
  uint64_t key_bytes =
      0;  // not 0: the key's first update, which also says how long it is and what it allows
  Piece pieces[kPiecesPerEntry];
};

// Layout: mlx5's control segment, UMR control segment, memory key context and inline KLMs
// (rdma-core, mlx5dv.h).
void write_update(const Update& update, uint8_t out[kUpdateBytes]);

}  // namespace sdr::verbs
