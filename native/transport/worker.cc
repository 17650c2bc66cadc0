#include "transport/worker.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/eventfd.h>
#include <sys/prctl.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

namespace sdr {
namespace {

// JavaScript is told of progress and injection at the latest so long after, or when nothing has
// moved for a while: a wake-up costs as much as tens of packets, and a bitmap that changes every
// few microseconds can be read now and then.
constexpr int64_t kTellNs = 200'000;
constexpr int64_t kQuietNs = 30'000;

// Makes short timeouts of the calling thread exact to a microsecond where the system allows it, and
// names the thread.
void prepare_thread([[maybe_unused]] const char* name, [[maybe_unused]] uint32_t index) {
#if defined(__linux__)
  prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
  pthread_setname_np(pthread_self(),
                     (std::string(name).substr(0, 11) + std::to_string(index)).c_str());
#endif
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

void Descriptor::reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

int Waker::open() {
#if defined(__linux__)
  read_ = Descriptor(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  return read_.get() < 0 ? errno : 0;
#else
  int ends[2] = {-1, -1};
  if (pipe(ends) != 0) return errno;
  read_ = Descriptor(ends[0]);
  write_ = Descriptor(ends[1]);
  for (const int end : ends) {
    fcntl(end, F_SETFL, O_NONBLOCK);
    fcntl(end, F_SETFD, FD_CLOEXEC);
  }
  return 0;
#endif
}

void Waker::signal() {
  const uint64_t one =
      1;  // a full pipe or counter is as good as a signal: the result does not matter
  const int fd = write_.get() >= 0 ? write_.get() : read_.get();
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
}

void Waker::clear() {
  uint8_t sink[64];
  [[maybe_unused]] const ssize_t taken = read(read_.get(), sink, sizeof sink);
}

int wait_any(pollfd* watched, size_t count, int64_t timeout_ns) {
#if defined(__linux__)
  const timespec limit{static_cast<time_t>(timeout_ns / 1'000'000'000),
                       static_cast<long>(timeout_ns % 1'000'000'000)};
  return ppoll(watched, count, timeout_ns < 0 ? nullptr : &limit, nullptr);
#else
  const int64_t milliseconds = std::min<int64_t>((timeout_ns + 999'999) / 1'000'000, 60'000);
  return poll(watched, static_cast<nfds_t>(count),
              timeout_ns < 0 ? -1 : static_cast<int>(milliseconds));
#endif
}

int Worker::start() {
  const int error = waker_.open();
  if (error != 0) return error;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& failure) {
    return failure.code().value();
  }
  return 0;
}

void Worker::stop() {
  stopping_.store(true);
  if (!thread_.joinable()) return;
  waker_.signal();
  thread_.join();
}

void Worker::change(std::function<void()> action) {
  std::unique_lock lock(command_mutex_);
  if (!thread_.joinable()) return action();
  commands_.push_back(std::move(action));
  const uint64_t mine = ++commands_given_;
  commanded_.store(true);
  waker_.signal();
  obeyed_.wait(lock, [&] { return commands_done_ >= mine; });
}

void Worker::obey() {
  const std::lock_guard lock(command_mutex_);
  commanded_.store(false);
  for (const auto& command : commands_) command();
  commands_done_ += commands_.size();
  commands_.clear();
  obeyed_.notify_all();
}

int64_t Worker::cpu_ns() const {
#if defined(__linux__)
  clockid_t clock{};
  timespec used{};
  auto& thread = const_cast<std::thread&>(thread_);
  if (!thread_.joinable() || pthread_getcpuclockid(thread.native_handle(), &clock) != 0) return 0;
  if (clock_gettime(clock, &used) == 0) return int64_t{used.tv_sec} * 1'000'000'000 + used.tv_nsec;
#endif
  return 0;
}

void Worker::poke() {
  if (sleeping_.exchange(false)) waker_.signal();
}

void Worker::run() {
  prepare_thread(name_, index_);
  while (!stopping_.load(std::memory_order_acquire)) {
    if (commanded_.load(std::memory_order_acquire)) obey();
    round();
  }
  obey();  // nobody may wait for a thread that is gone
}

int64_t Worker::tell(Report& report, int64_t now_ns) {
  if (report.empty()) return kNever;
  if (tell_by_ns_ == kNever) tell_by_ns_ = now_ns + kTellNs;
  const int64_t due_ns = std::min(tell_by_ns_, active_ns_ + kQuietNs);
  if (!report.urgent && report.controls.empty() && now_ns < due_ns) return due_ns;
  const bool wake = report.deliver(environment_.events);
  tell_by_ns_ = kNever;
  if (wake) environment_.wake();
  return kNever;
}

}  // namespace sdr
