#include "transport/verbs_channel.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace sdr::verbs {
namespace {

constexpr size_t kQuantum = 256;       // packets of a queue pair in its turn
constexpr int64_t kSpinNs = 5'000;     // a shorter wait is not worth a sleep
constexpr int64_t kLingerNs = 20'000;  // after anything moved: arming and being woken takes longer

void make_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

}  // namespace

Channel::Channel(uint32_t index, Device& device, Environment& environment)
    : Worker("sdr-verbs-", index, environment), device_(device), environment_(environment) {}

void Channel::close() {
  stop();
  if (events_ != nullptr) device_.ibv.destroy_comp_channel(events_);
  events_ = nullptr;
}

ibv_comp_channel* Channel::open() {
  errno = 0;
  events_ = device_.ibv.create_comp_channel(device_.context);
  if (events_ == nullptr) return nullptr;
  make_nonblocking(events_->fd);
  if (index_ == 0) make_nonblocking(device_.context->async_fd);
  return events_;
}

void Channel::add(Lane* lane) {
  // An event of its queues may have been taken while no channel knew the lane.
  change([this, lane] {
    lane->disarmed();
    lanes_.push_back(lane);
  });
}

void Channel::remove(Lane* lane) {
  // What it has to tell refers to its memory.
  change([this, lane] {
    if (report_.deliver(environment_.events)) environment_.wake();
    std::erase(lanes_, lane);
  });
}

void Channel::round() {
  const int64_t now_ns = environment_.now_ns();
  size_t moved = 0;
  for (Lane* lane : lanes_) moved += lane->receive(now_ns, report_);
  for (Lane* lane : lanes_) moved += lane->reap(report_);
  int64_t again_ns = kNever;
  for (Lane* lane : lanes_)
    if (!lane->idle()) again_ns = std::min(again_ns, lane->pump(now_ns, kQuantum, report_));
  if (moved > 0) {
    note_activity(now_ns);
    linger_until_ns_ = now_ns + kLingerNs;
  }
  again_ns = std::min(again_ns, tell(report_, now_ns));
  for (Lane* lane : lanes_) lane->refill();
  if (moved == 0 && again_ns > now_ns) sleep(now_ns, again_ns);
}

void Channel::sleep(int64_t now_ns, int64_t until_ns) {
  const int64_t left = until_ns - now_ns;
  if (left < kSpinNs) return;
  if (now_ns < linger_until_ns_) return std::this_thread::yield();
  begin_sleep();
  bool is_due = is_called();
  for (Lane* lane : lanes_) {
    is_due |= lane->has_mail();
    // What completed before the arming announces nothing: look once more.
    if (!is_due && lane->arm()) is_due = lane->receive(now_ns, report_) + lane->reap(report_) > 0;
  }
  if (!is_due) {
    pollfd watched[3] = {{waker_.readable(), POLLIN, 0},
                         {events_->fd, POLLIN, 0},
                         {device_.context->async_fd, POLLIN, 0}};
    const size_t count = hears_device_ ? 3 : 2;
    if (wait_any(watched, count, until_ns == kNever ? -1 : left) > 0) {
      if (watched[0].revents != 0) waker_.clear();
      if (watched[1].revents != 0) take_events();
      if (count > 2 && watched[2].revents != 0) {
        take_device_events();
        // Of a device that is gone: there is nothing more to hear.
        if ((watched[2].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) hears_device_ = false;
      }
    }
  }
  end_sleep();
}

void Channel::take_events() {
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  while (device_.ibv.get_cq_event(events_, &cq, &context) == 0) {
    device_.ibv.ack_cq_events(cq, 1);
    const auto lane = std::find(lanes_.begin(), lanes_.end(), context);
    if (lane != lanes_.end()) (*lane)->disarmed();
  }
}

// What completions do not tell: one that overran says nothing any more, nor does a device that is
// gone. (A queue pair that fails always has receives to flush.) The queue of another channel cannot
// be destroyed before its event is acknowledged.
void Channel::take_device_events() {
  ibv_async_event event{};
  while (device_.ibv.get_async_event(device_.context, &event) == 0) {
    const char* what = nullptr;
    switch (event.event_type) {
      case IBV_EVENT_CQ_ERR:
        static_cast<Lane*>(event.element.cq->cq_context)
            ->device_failed("its completion queue overran");
        break;
      case IBV_EVENT_DEVICE_FATAL:
        what = "the device failed";
        break;
      default:
        break;  // a port that goes down shows by its silence
    }
    if (what != nullptr)
      for (Lane* lane : lanes_) lane->device_failed(what);
    device_.ibv.ack_async_event(&event);
  }
}

}  // namespace sdr::verbs
