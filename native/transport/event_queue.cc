// The bounded event queue between transports and the binding. It knows no transport and no
// JavaScript.
#include <algorithm>
#include <cstring>

#include "sdr/transport.h"

namespace sdr {

namespace {

constexpr uint32_t type_of(EventType type) { return static_cast<uint32_t>(type); }
constexpr uint64_t progress_key(const Event& event) {
  return (uint64_t{event.qp} << 32) | event.message;
}

}  // namespace

bool EventQueue::append(const Event& event) {
  const bool was_empty = begin_ == events_.size();
  events_.push_back(event);
  return was_empty;
}

bool EventQueue::push(const Event& event) {
  const std::lock_guard lock(mutex_);
  if (event.type != type_of(EventType::progress)) return append(event);
  const uint64_t sequence = drained_ + (events_.size() - begin_);
  const auto [waiting, inserted] = progress_.try_emplace(progress_key(event), sequence);
  if (inserted) return append(event);
  Event& earlier = events_[begin_ + (waiting->second - drained_)];
  earlier.value |= event.value;
  return false;
}

EventQueue::Control EventQueue::push_control(uint32_t qp, int64_t time_ns, const uint8_t* bytes,
                                             size_t size) {
  const std::lock_guard lock(mutex_);
  if (control_events_ >= kControlEventsMax || size > kControlBytesMax - control_.size()) {
    return Control::dropped;
  }
  Event event{};
  event.type = type_of(EventType::control);
  event.qp = qp;
  event.value = static_cast<uint32_t>(size);
  event.time_ns = static_cast<double>(time_ns);
  control_.insert(control_.end(), bytes, bytes + size);
  control_events_++;
  return append(event) ? Control::queued_first : Control::queued;
}

size_t EventQueue::drain(Event* out, size_t max_events, uint8_t* control) {
  const size_t count = take(out, max_events, control);
  if (release_) {
    for (size_t i = 0; i < count; i++) {
      if (out[i].type == type_of(EventType::progress)) release_(out[i].qp, out[i].message);
    }
  }
  return count;
}

size_t EventQueue::take(Event* out, size_t max_events, uint8_t* control) {
  const std::lock_guard lock(mutex_);
  const size_t count = std::min(max_events, events_.size() - begin_);
  size_t control_bytes = 0;
  for (size_t i = 0; i < count; i++) {
    Event& event = events_[begin_ + i];
    if (event.type == type_of(EventType::control)) {
      event.extra = static_cast<double>(control_bytes);
      control_bytes += event.value;
      control_events_--;
    } else if (event.type == type_of(EventType::progress)) {
      progress_.erase(progress_key(event));
    }
    out[i] = event;
  }
  if (control_bytes > 0) {
    std::memcpy(control, control_.data(), control_bytes);
    control_.erase(control_.begin(), control_.begin() + static_cast<ptrdiff_t>(control_bytes));
  }
  drained_ += count;
  begin_ += count;
  // Compact when at least half is consumed, so that each event is moved at most once on average.
  if (begin_ * 2 >= events_.size()) {
    events_.erase(events_.begin(), events_.begin() + static_cast<ptrdiff_t>(begin_));
    begin_ = 0;
  }
  return count;
}

bool EventQueue::empty() const { return size() == 0; }

size_t EventQueue::size() const {
  const std::lock_guard lock(mutex_);
  return events_.size() - begin_;
}

void EventQueue::on_progress_drained(std::function<void(uint32_t, uint32_t)> release) {
  release_ = std::move(release);
}

}  // namespace sdr
