// A context: a device, its registered memory, and the settings that its queue pairs begin with.
#pragma once

#include <map>
#include <memory>

#include "lib/domain.h"
#include "lib/end.h"
#include "lib/handles.h"
#include "sdr_mr.h"

struct sdr_context {
  std::shared_ptr<sdr::lib::Domain> domain;
  uint32_t channels = 1;
  size_t qps_max = 0, qps = 0;
  sdr::LinkConfig link;
  uint64_t seed = 0;
  int64_t peer_timeout_ns = 0;
  uint32_t next_key = 1;
  std::map<uint32_t, std::unique_ptr<sdr_mr>> memory;  // by key

  // The memory of a key, and where [address, + bytes) begins in it. Throws INVALID_ARGUMENT.
  sdr::lib::MemoryRef find(uint32_t key, uint64_t address, uint64_t bytes, uint64_t* offset) const;
};

struct sdr_qp {
  sdr_qp(sdr_context& of, const sdr::lib::Attributes& attributes, uint64_t seed)
      : context(of), end(*of.domain, attributes, of.link, seed, of.peer_timeout_ns) {
    end.context = &of;
  }
  sdr_context& context;
  sdr::lib::End end;
};

// Told when the last reference to a region has gone.
struct sdr_release {
  std::mutex mutex;
  std::condition_variable condition;
  bool gone = false;
};

struct sdr_mr {
  sdr_context* context = nullptr;
  sdr::lib::MemoryRef memory;
  std::shared_ptr<sdr_release> release;
};
