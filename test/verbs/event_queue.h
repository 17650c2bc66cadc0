// A queue whose file descriptor is readable exactly while something is in it. Knows nothing of
// verbs.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <mutex>

namespace emulated {

template <class Item>
class EventQueue {
 public:
  EventQueue() : fd_(eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC)) {}
  ~EventQueue() { close(fd_); }
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;

  int fd() const { return fd_; }

  void push(const Item& item) {
    const uint64_t one = 1;
    std::lock_guard<std::mutex> lock(mutex_);
    items_.push_back(item);
    if (write(fd_, &one, sizeof one) != sizeof one) std::abort();
  }

  // Waits for an item, unless the descriptor is O_NONBLOCK: then false with errno EAGAIN.
  bool pop(Item* item) {
    while (!take(item)) {
      if ((fcntl(fd_, F_GETFL) & O_NONBLOCK) != 0) {
        errno = EAGAIN;
        return false;
      }
      pollfd wait{fd_, POLLIN, 0};
      if (poll(&wait, 1, -1) < 0) return false;
    }
    return true;
  }

  // How many were removed.
  template <class Match>
  size_t remove_if(Match match) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto kept = std::remove_if(items_.begin(), items_.end(), match);
    const auto gone = static_cast<size_t>(items_.end() - kept);
    for (size_t i = 0; i < gone; i++) drain_one();
    items_.erase(kept, items_.end());
    return gone;
  }

 private:
  bool take(Item* item) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (items_.empty()) return false;
    drain_one();
    *item = items_.front();
    items_.pop_front();
    return true;
  }
  // The descriptor counts what the queue holds, under the same lock: this never waits.
  void drain_one() {
    uint64_t one = 0;
    if (read(fd_, &one, sizeof one) != sizeof one) std::abort();
  }

  int fd_;
  std::mutex mutex_;
  std::deque<Item> items_;
};

}  // namespace emulated
