#include "lib/domain.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "lib/end.h"
#include "lib/error.h"

namespace sdr::lib {
namespace {

constexpr size_t kEventsPerDrain = 64;
constexpr int64_t kSleepNsMax =
    1'000'000'000;  // a thread without timers looks once a second: it costs nothing

}  // namespace

void Domain::add(End& end) { ends_[end.native->id()] = &end; }
void Domain::remove(End& end) { ends_.erase(end.native->id()); }

bool Domain::deliver(const Event& event, int64_t now_ns) {
  const auto found = ends_.find(event.qp);
  if (found == ends_.end()) return false;
  End& end = *found->second;
  switch (static_cast<EventType>(event.type)) {
    case EventType::injected:
      end.handle_injected(event.value);
      break;
    case EventType::progress:
      end.handle_progress(event.message, event.value == 1, now_ns);
      break;
    case EventType::control:
      end.handle_control(control_.data() + static_cast<size_t>(event.extra), event.value, now_ns);
      break;
    case EventType::error:
      end.handle_transport_error(static_cast<int>(event.value));
      break;
  }
  return true;
}

bool Domain::turn() {
  bool any = false;
  Event some[kEventsPerDrain];
  while (const size_t count = events().drain(some, kEventsPerDrain, control_.data())) {
    const int64_t now = now_ns();
    for (size_t i = 0; i < count; i++) any |= deliver(some[i], now);
    for (size_t i = 0; i < count; i++) {
      if (i > 0 && some[i].qp == some[i - 1].qp) continue;
      const auto found = ends_.find(some[i].qp);
      if (found != ends_.end()) found->second->flush(now);
    }
  }
  const int64_t now = now_ns();
  for (const auto& [id, end] : ends_) {
    if (end->next_timeout_ns() > now) continue;
    any |= end->handle_timeout(now);
    end->flush(now);
  }
  return any;
}

int64_t Domain::next_timeout_ns() const {
  int64_t next = kNever;
  for (const auto& [id, end] : ends_) next = std::min(next, end->next_timeout_ns());
  return next;
}

// ---- real time ----

RealDomain::~RealDomain() {
  stop();
  for (const int fd : pipe_)
    if (fd >= 0) close(fd);
}

void RealDomain::start() {
  thread_ = std::thread([this] { run(); });
}

void RealDomain::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(wake_mutex_);
    stopping_ = true;
  }
  wake_condition_.notify_one();
  thread_.join();
}

void RealDomain::wake() {
  {
    const std::lock_guard lock(wake_mutex_);
    woken_ = true;
  }
  wake_condition_.notify_one();
}

void RealDomain::run() {
  int64_t sleep_ns = 0;
  std::unique_lock waking(wake_mutex_);
  while (!stopping_) {
    wake_condition_.wait_for(waking, std::chrono::nanoseconds(sleep_ns),
                             [this] { return woken_ || stopping_; });
    woken_ = false;
    waking.unlock();
    {
      const std::lock_guard lock(mutex);
      if (turn()) announce();
      armed_ns_ = next_timeout_ns();
      sleep_ns = std::clamp<int64_t>(armed_ns_ - now_ns(), 0, kSleepNsMax);
    }
    waking.lock();
  }
}

void RealDomain::rearm() {
  if (next_timeout_ns() < armed_ns_) wake();
}

void RealDomain::announce() {
  if (!changed_ && pipe_[1] >= 0) {
    const ssize_t written = write(pipe_[1], "", 1);
    (void)written;  // a full pipe is readable already
  }
  changed_ = true;
  changed_condition_.notify_all();
}

bool RealDomain::wait(std::unique_lock<std::mutex>& lock, int64_t timeout_ns) {
  const auto timeout = std::chrono::nanoseconds(std::min(timeout_ns, int64_t{3'600'000'000'000}));
  const bool changed = changed_condition_.wait_for(lock, timeout, [this] { return changed_; });
  changed_ = false;
  char taken[16];
  while (pipe_[0] >= 0 && read(pipe_[0], taken, sizeof taken) > 0) {
  }
  return changed;
}

int RealDomain::event_fd() {
  if (pipe_[0] >= 0) return pipe_[0];
  if (pipe(pipe_) != 0)
    fail(SDR_EXT_ENVIRONMENT, "no pipe could be opened", "raise the limit of open files");
  for (const int fd : pipe_) {
    fcntl(fd, F_SETFL, O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  if (changed_) {
    changed_ = false;
    announce();
  }
  return pipe_[0];
}

// ---- names ----

std::shared_ptr<Domain> open_domain(const DeviceOptions& options) {
  const std::string& name = options.name;
  if (name.starts_with("udp:")) return open_udp(name.substr(4), options);
  if (name.starts_with("emu:")) return open_emulated(name.substr(4), options);
  if (name.empty() || name.find(':') != std::string::npos)
    fail(SDR_EXT_INVALID_ARGUMENT, "device \"" + name + "\" is not understood",
         "use udp:ADDRESS, emu:NAME or an RDMA device such as mlx5_0");
  return open_verbs(options);
}

}  // namespace sdr::lib
