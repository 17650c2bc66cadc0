// The published interface: sdr.h and sdr_mr.h. Arguments are checked here; what they mean is the
// sides' business.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>

#include "lib/api.h"
#include "lib/link_text.h"

using namespace sdr::lib;

namespace {

constexpr uint32_t kQpsMaxLog = 10;
constexpr size_t kQpsDefault = 64;
constexpr uint64_t kPeerTimeoutMsDefault = 5000, kPeerTimeoutMsMax = 3'600'000;
constexpr int64_t kReleaseWaitNs = 10'000'000'000;

const char* environment(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? text : nullptr;
}

bool has_immediate(const sdr_wr_opcode& opcode) {
  const uint32_t number = number_in(opcode);
  if (number > SDR_WR_WRITE_WITH_IMM)
    fail(SDR_EXT_INVALID_ARGUMENT, "opcode " + std::to_string(number) + " is unknown",
         "use SDR_WR_WRITE or SDR_WR_WRITE_WITH_IMM");
  return number == SDR_WR_WRITE_WITH_IMM;
}

uint32_t chunk_of(uint64_t remote_offset) {
  if (remote_offset >= UINT32_MAX)
    fail(SDR_EXT_INVALID_ARGUMENT,
         "remote_offset " + std::to_string(remote_offset) + " is too large",
         "it counts bitmap chunks");
  return static_cast<uint32_t>(remote_offset);
}

sdr_send_handle& live(sdr_send_handle* handle) {
  sdr_send_handle& given = needed(handle, "handle");
  require(given.outcome.load(std::memory_order_acquire) != Outcome::released,
          "the send handle is gone already",
          "do not use it after sdr_send_poll has said how it ended");
  return given;
}

sdr_recv_handle& live(sdr_recv_handle* handle) {
  sdr_recv_handle& given = needed(handle, "handle");
  require(given.outcome.load(std::memory_order_acquire) != Outcome::released,
          "the receive handle is gone already", "do not use it after sdr_recv_complete");
  return given;
}

uint64_t chunks(const End& end, uint64_t bytes) {
  const uint64_t chunk = end.attributes.chunk_bytes();
  return (bytes + chunk - 1) / chunk;
}

}  // namespace

// ---- contexts ----

sdr_context* sdr_context_create(const char* dev_name, sdr_dev_attr* dev_attr) {
  sdr_context* made = nullptr;
  guarded([&] {
    const char* name = environment("SDR_DEVICE");
    if (name == nullptr) name = &needed(dev_name, "dev_name");
    auto context = std::make_unique<sdr_context>();
    if (dev_attr != nullptr && dev_attr->num_channels != 0)
      context->channels = dev_attr->num_channels;
    if (context->channels > SDR_CHANNELS_MAX)
      fail(SDR_EXT_INVALID_ARGUMENT,
           "num_channels " + std::to_string(context->channels) + " is not valid", "use 1 to 64");
    const uint32_t log = dev_attr != nullptr ? dev_attr->log_max_qps : 0;
    if (log > kQpsMaxLog)
      fail(SDR_EXT_INVALID_ARGUMENT, "log_max_qps " + std::to_string(log) + " is not valid",
           "use at most 10");
    context->qps_max = log != 0 ? size_t{1} << log : kQpsDefault;
    if (const char* link = environment("SDR_LINK")) context->link = parse_link(link);
    std::random_device random;
    const bool is_emulated = std::string(name).starts_with("emu:");
    context->seed = environment_number("SDR_SEED", 0, UINT32_MAX, is_emulated ? 1 : random());
    context->peer_timeout_ns =
        1'000'000 * static_cast<int64_t>(environment_number(
                        "SDR_PEER_TIMEOUT_MS", 1, kPeerTimeoutMsMax, kPeerTimeoutMsDefault));
    context->domain = open_domain({name, context->channels, context->seed});
    made = context.release();
  });
  return made;
}

int sdr_context_destroy(sdr_context* context) {
  return error_not_retry(guarded([&] {
    sdr_context& given = needed(context, "context");
    {
      const std::lock_guard lock(given.domain->mutex);
      if (given.qps > 0)
        fail(SDR_EXT_BUSY, std::to_string(given.qps) + " queue pairs of the context are left",
             "destroy them first");
    }
    delete context;
  }));
}

// ---- memory ----

uint64_t sdr::lib::Memory::offset_of(uint64_t address, uint64_t bytes) const {
  const auto base = reinterpret_cast<uintptr_t>(region->base);
  const uint64_t offset = address - base;
  if (address < base || offset > region->bytes || bytes > region->bytes - offset)
    fail(SDR_EXT_INVALID_ARGUMENT,
         std::to_string(bytes) + " B at the given address are not within the memory of key " +
             std::to_string(key),
         "pass the key of the memory that holds them");
  return offset;
}

MemoryRef sdr_context::find(uint32_t key, uint64_t address, uint64_t bytes,
                            uint64_t* offset) const {
  const auto found = memory.find(key);
  if (found == memory.end() || !found->second->memory->region)
    fail(SDR_EXT_INVALID_ARGUMENT,
         "lkey " + std::to_string(key) + " names no memory of this context",
         "pass what sdr_mr_lkey_get gave");
  *offset = found->second->memory->offset_of(address, bytes);
  return found->second->memory;
}

sdr_mr* sdr_mr_reg(sdr_context* sdr_ctx, void* addr, size_t length, sdr_access_flags access) {
  sdr_mr* made = nullptr;
  guarded([&] {
    sdr_context& context = needed(sdr_ctx, "sdr_ctx");
    needed(static_cast<uint8_t*>(addr), "addr");
    require(length > 0, "length is 0", "register at least a byte");
    require(number_in(access) == SDR_ACCESS_REMOTE_WRITE, "the access flags are unknown",
            "use SDR_ACCESS_REMOTE_WRITE");
    auto mr = std::make_unique<sdr_mr>();
    mr->context = &context;
    mr->release = std::make_shared<sdr_release>();
    mr->memory = std::make_shared<Memory>();
    mr->memory->region = sdr::RegionRef(new sdr::Region{static_cast<uint8_t*>(addr), length},
                                        [release = mr->release](const sdr::Region* region) {
                                          delete region;
                                          const std::lock_guard lock(release->mutex);
                                          release->gone = true;
                                          release->condition.notify_all();
                                        });
    const std::lock_guard lock(context.domain->mutex);
    while (context.next_key == 0 || context.memory.contains(context.next_key)) context.next_key++;
    mr->memory->key = context.next_key++;
    made = (context.memory[mr->memory->key] = std::move(mr)).get();
  });
  return made;
}

int sdr_mr_dereg(sdr_mr* mr) {
  return error_not_retry(guarded([&] {
    sdr_mr& given = needed(mr, "mr");
    sdr_context& context = *given.context;
    const auto release = given.release;
    std::weak_ptr<const sdr::Region> still;
    {
      const std::lock_guard lock(context.domain->mutex);
      Memory& memory = *given.memory;
      if (memory.holders > 0)
        fail(SDR_EXT_BUSY,
             std::to_string(memory.holders) + " posted receives and sends use the memory",
             "complete the receives, poll the sends, or destroy their queue pair");
      still = memory.region;
      memory.region.reset();
    }
    // Packets may still be on their way out of it.
    bool gone = false;
    if (context.domain->limits().is_virtual) {
      const std::lock_guard lock(context.domain->mutex);
      const int64_t limit_ns = context.domain->now_ns() + kReleaseWaitNs;
      while (!still.expired() && context.domain->now_ns() < limit_ns &&
             context.domain->step(limit_ns)) {
      }
      gone = still.expired();
    } else {
      std::unique_lock lock(release->mutex);
      gone = release->condition.wait_for(lock, std::chrono::nanoseconds(kReleaseWaitNs),
                                         [&] { return release->gone; });
    }
    const std::lock_guard lock(context.domain->mutex);
    if (!gone) given.memory->region = still.lock();
    if (given.memory->region)
      fail(SDR_EXT_BUSY, "packets from the memory are still on their way after 10 s",
           "try again later");
    context.memory.erase(given.memory->key);
  }));
}

int sdr_mr_lkey_get(sdr_mr* mr, uint32_t* lkey) {
  return guarded([&] { needed(lkey, "lkey") = needed(mr, "mr").memory->key; });
}

int sdr_mr_rkey_get(sdr_mr* mr, uint32_t* rkey) {
  return guarded([&] { needed(rkey, "rkey") = needed(mr, "mr").memory->key; });
}

// ---- queue pairs ----

sdr_qp* sdr_qp_create(sdr_context* ctx, sdr_qp_attr* qp_attr) {
  sdr_qp* made = nullptr;
  guarded([&] {
    sdr_context& context = needed(ctx, "ctx");
    const Attributes attributes =
        resolve_attributes(needed(qp_attr, "qp_attr"), context.domain->limits(), context.channels);
    const std::lock_guard lock(context.domain->mutex);
    if (context.qps >= context.qps_max)
      fail(SDR_EXT_BUSY, "the context has its " + std::to_string(context.qps_max) + " queue pairs",
           "raise log_max_qps");
    made = new sdr_qp(context, attributes, context.seed++);
    context.qps++;
  });
  return made;
}

int sdr_qp_destroy(sdr_qp* qp) {
  return guarded([&] {
    sdr_context& context = needed(qp, "qp").context;
    std::unique_lock lock(context.domain->mutex);
    qp->end.close(lock);
    delete qp;
    context.qps--;
  });
}

int sdr_qp_info_size_get(sdr_qp* qp, size_t* info_size) {
  return guarded([&] {
    needed(qp, "qp");
    needed(info_size, "info_size") = End::kInfoBytes;
  });
}

int sdr_qp_info_get(sdr_qp* qp, void* info) {
  return guarded([&] {
    End& end = needed(qp, "qp").end;
    auto* out = &needed(static_cast<char*>(info), "info");
    const std::lock_guard lock(end.domain.mutex);
    end.check_not_failed();
    const std::string text = end.info();
    if (text.size() > End::kInfoBytes)
      fail(SDR_EXT_TOO_LARGE, "the info is too long", "use fewer channels");
    std::memcpy(out, text.data(), text.size());
  });
}

int sdr_qp_connect(sdr_qp* qp, void* remote_qp_info) {
  return sdr_ext_qp_connect(qp, remote_qp_info, End::kInfoBytes);
}

// ---- receives ----

int sdr_recv_post(sdr_qp* qp, sdr_recv_wr* wr, sdr_recv_handle** handle) {
  if (qp == nullptr) return guarded([&] { needed(qp, "qp"); });
  return guarded_on(qp->end.domain, [&] {
    const sdr_recv_wr& given = needed(wr, "wr");
    sdr_recv_handle*& out = needed(handle, "handle");
    uint64_t offset = 0;
    MemoryRef memory;
    if (given.max_length > 0)
      memory = qp->context.find(given.lkey, given.address, given.max_length, &offset);
    out = &qp->end.receives.post(std::move(memory), offset, given.max_length);
    qp->end.act();
  });
}

int sdr_recv_imm_get(sdr_recv_handle* handle, uint32_t* immediate) {
  using Immediate = sdr_recv_handle::Immediate;
  bool unknown = false;
  const int result = guarded([&] {
    sdr_recv_handle& given = live(handle);
    uint32_t& out = needed(immediate, "immediate");
    // First: a receive fails after it has told all that it knew.
    const bool failed = given.outcome.load(std::memory_order_acquire) == Outcome::failed;
    const Immediate state = given.immediate_state.load(std::memory_order_acquire);
    if (state == Immediate::known) {
      out = given.immediate.load();
    } else if (failed) {
      throw Failure(given.error);
    } else if (state == Immediate::none) {
      fail(SDR_EXT_INVALID_ARGUMENT,
           "message " + std::to_string(given.message) + " has no immediate",
           "ask only where the sender uses SDR_WR_WRITE_WITH_IMM");
    } else {
      unknown = true;
      let_time_pass(given.end->domain);
    }
  });
  return result == SDR_SUCCESS && unknown ? SDR_RETRY : result;
}

int sdr_recv_bitmap_get(sdr_recv_handle* handle, uint8_t** bitmap_bytes, size_t* bitmap_num_bytes) {
  return guarded([&] {
    sdr_recv_handle& given = live(handle);
    uint8_t*& bitmap = needed(bitmap_bytes, "bitmap_bytes");
    size_t& size = needed(bitmap_num_bytes, "bitmap_num_bytes");
    if (!given.complete.load(std::memory_order_acquire)) let_time_pass(given.end->domain);
    if (given.outcome.load(std::memory_order_acquire) == Outcome::failed && !given.complete.load())
      throw Failure(given.error);
    bitmap = given.bitmap;
    size = static_cast<size_t>(
        (chunks(*given.end, given.bytes.load(std::memory_order_acquire)) + 7) / 8);
  });
}

int sdr_recv_bitmap_chunk_expand(sdr_recv_handle* handle, uint32_t chunk_offset, uint64_t* bitmap) {
  return guarded([&] {
    sdr_recv_handle& given = live(handle);
    uint64_t* const bits = &needed(bitmap, "bitmap");
    End& end = *given.end;
    const std::lock_guard lock(end.domain.mutex);
    if (given.state == sdr_recv_handle::State::failed) throw Failure(given.error);
    const size_t words = (end.attributes.geometry.packets_per_chunk + 63) / 64;
    if (chunk_offset >= chunks(end, given.bytes.load()) ||
        end.native->engine().chunk_expand(given.message, chunk_offset, bits, words) != SDR_OK)
      fail(SDR_EXT_INVALID_ARGUMENT,
           "chunk " + std::to_string(chunk_offset) + " is beyond the message",
           "use a chunk of the bitmap");
  });
}

int sdr_recv_complete(sdr_recv_handle* handle) {
  return guarded([&] {
    sdr_recv_handle& given = live(handle);
    End& end = *given.end;
    const std::lock_guard lock(end.domain.mutex);
    end.receives.complete(given);
    end.act();
  });
}

// ---- sends ----

namespace {

// Starts a send and does `then` with it. One that the receiver has refused already is told by
// sdr_send_poll, as all are: it has its number.
template <class Then>
void start_send(sdr_qp& qp, const SendSide::Options& options, sdr_send_handle*& out, Then&& then) {
  SendSide& sends = qp.end.sends;
  sdr_send_handle& handle = sends.start(options);
  try {
    if (handle.outcome.load() == Outcome::pending) then(handle);
  } catch (...) {
    if (handle.outcome.load() != Outcome::pending) sends.release(handle);
    throw;
  }
  out = &handle;
  qp.end.act();
}

}  // namespace

int sdr_send_post(sdr_qp* qp, sdr_send_wr* wr, sdr_send_handle** handle) {
  if (qp == nullptr) return guarded([&] { needed(qp, "qp"); });
  return guarded_on(qp->end.domain, [&] {
    const sdr_send_wr& given = needed(wr, "wr");
    sdr_send_handle*& out = needed(handle, "handle");
    const uint32_t chunk = chunk_of(given.remote_offset);
    uint64_t offset = 0;
    MemoryRef memory;
    if (given.length > 0)
      memory = qp->context.find(given.lkey, given.local_addr, given.length, &offset);
    const uint64_t bytes = chunk * qp->end.attributes.chunk_bytes() + given.length;
    start_send(*qp, {has_immediate(given.opcode), given.imm_value, true, bytes}, out,
               [&](sdr_send_handle& made) {
                 if (given.length > 0)
                   qp->end.sends.add(made, {Hold(std::move(memory)), offset, chunk, given.length});
                 qp->end.sends.finish(made);
               });
  });
}

int sdr_streaming_send_start(sdr_qp* qp, sdr_send_start_wr* wr, sdr_send_handle** handle) {
  if (qp == nullptr) return guarded([&] { needed(qp, "qp"); });
  return guarded_on(qp->end.domain, [&] {
    const sdr_send_start_wr& given = needed(wr, "wr");
    start_send(*qp, {has_immediate(given.opcode), given.imm_value, false, 0},
               needed(handle, "handle"), [](sdr_send_handle&) {});
  });
}

int sdr_ext_streaming_send_start(sdr_qp* qp, sdr_send_start_wr* wr, uint32_t length,
                                 sdr_send_handle** handle) {
  if (qp == nullptr) return guarded([&] { needed(qp, "qp"); });
  return guarded_on(qp->end.domain, [&] {
    const sdr_send_start_wr& given = needed(wr, "wr");
    start_send(*qp, {has_immediate(given.opcode), given.imm_value, true, length},
               needed(handle, "handle"), [](sdr_send_handle&) {});
  });
}

int sdr_streaming_send_continue(sdr_send_handle* handle, sdr_send_continue_wr* wr) {
  End* end = nullptr;
  const int usable = guarded([&] { end = live(handle).end; });
  if (usable != SDR_SUCCESS) return usable;
  return guarded_on(end->domain, [&] {
    const sdr_send_continue_wr& given = needed(wr, "wr");
    uint64_t offset = 0;
    MemoryRef memory = end->context->find(given.lkey, given.local_addr, given.length, &offset);
    end->sends.add(*handle,
                   {Hold(std::move(memory)), offset, chunk_of(given.remote_offset), given.length});
    end->act();
  });
}

int sdr_streaming_send_end(sdr_send_handle* handle) {
  return guarded([&] {
    End& end = *live(handle).end;
    const std::lock_guard lock(end.domain.mutex);
    if (handle->outcome.load() == Outcome::done) return;
    end.sends.finish(*handle);
    end.act();
  });
}

int sdr_send_poll(sdr_send_handle* handle, int* completed_flag, sdr_send_status* status) {
  bool pending = false;
  const int result = guarded([&] {
    sdr_send_handle& given = live(handle);
    int& completed = needed(completed_flag, "completed_flag");
    completed = 0;
    if (status != nullptr) status->flags = 0;
    End& end = *given.end;
    if (given.outcome.load(std::memory_order_acquire) == Outcome::pending)
      let_time_pass(end.domain);
    const Outcome outcome = given.outcome.load(std::memory_order_acquire);
    pending = outcome == Outcome::pending;
    if (pending) return;
    const std::lock_guard lock(end.domain.mutex);
    const Error error = given.error;
    end.sends.release(given);
    if (outcome == Outcome::failed) throw Failure(error);
    completed = 1;
  });
  return pending ? SDR_RETRY : error_not_retry(result);
}
