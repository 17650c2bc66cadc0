// A DPA as a Platform, by FlexIO and DEVX: the program as a process on the card, its memory, windows, handlers,
// completion queues and UC queue pairs. Compiled where DOCA is; never run on a device. Knows nothing of what the
// program does.
#pragma once

#include <infiniband/mlx5dv.h>
// clang-format off
#include <libflexio/flexio_ver.h>
#define FLEXIO_VER_USED FLEXIO_VER(24, 10, 0)
#include <libflexio/flexio.h>
// clang-format on

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "dpa/flexio/uc_queue_pair.h"
#include "dpa/platform.h"

namespace sdr::dpa {

struct FlexioOptions {
  ibv_context* context = nullptr;  // opened by mlx5dv_open_device with MLX5DV_CONTEXT_FLAGS_DEVX; stays the caller's
  ibv_pd* pd = nullptr;            // of that; of host memory that the device writes to
  flexio_app* program = nullptr;   // what dpacc made
  uint32_t first_unit = 0;         // execution unit of unit 0's handlers; the next ones follow
  std::string core_file = "sdr_dpa";  // where a crashed program's memory goes: FlexIO appends a number
};

class FlexioPlatform final : public Platform {
 public:
  // Null with *why unless a process runs on the card: a capability bit alone does not tell.
  static std::unique_ptr<FlexioPlatform> create(const FlexioOptions& options, std::string* why);
  ~FlexioPlatform() override;
  // Why the last thing that failed did; empty: nothing did.
  std::string failure() const;
  // Peers of its queue pairs; false, with failure(), also for an unknown number.
  bool connect_queue(uint32_t number, const UcPath& path);

  std::string name() const override { return "dpa"; }
  uint64_t allocate(size_t bytes) override;
  void free(uint64_t address) override;
  bool write(uint64_t to, const void* from, size_t bytes) override;
  bool open_window(void* base, size_t bytes, Window* window) override;
  void close_window(const Window& window) override;
  uint32_t add_handler(Entry entry, uint64_t argument, uint32_t unit) override;
  bool start_handler(uint32_t handler) override;
  void remove_handler(uint32_t handler) override;
  bool call(uint64_t argument, uint64_t* result) override;
  uint32_t add_cq(const CqPlace& place, uint32_t handler) override;
  uint32_t add_host_cq(std::function<void()> wake) override;
  void remove_cq(uint32_t number) override;
  uint32_t add_queue(const QueuePlace& place) override;
  void remove_queue(uint32_t number) override;

 private:
  struct Handler {
    flexio_event_handler* handler;
    uint64_t argument;
  };
  struct HostCq {
    ibv_cq* cq;
    std::function<void()> wake;
  };

  explicit FlexioPlatform(const FlexioOptions& options) : options_(options) {}
  bool open(std::string* why);
  bool ok(flexio_status status, const char* what);
  bool fail(const std::string& what);
  void crashed();
  void watch();
  void take_event();

  const FlexioOptions options_;
  CardParts parts_;
  flexio_process* process_ = nullptr;
  flexio_window* window_ = nullptr;
  ibv_comp_channel* channel_ = nullptr;
  int stop_fd_ = -1;
  std::thread watcher_;
  std::atomic<bool> crashed_{false};

  mutable std::mutex mutex_;  // guards what follows; held while a host's `wake` runs, which does not block
  std::string failure_;
  std::map<uint64_t, uint64_t> memory_;  // by the address given out: FlexIO's
  std::map<uint32_t, ibv_mr*> windows_;  // by key
  std::map<uint32_t, Handler> handlers_;
  std::map<uint32_t, flexio_cq*> cqs_;
  std::map<uint32_t, HostCq> host_cqs_;
  std::map<uint32_t, std::unique_ptr<UcQueuePair>> queues_;
  uint32_t next_handler_ = 0;
};

}  // namespace sdr::dpa
