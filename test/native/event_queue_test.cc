// The event queue: order, merging of progress, limits of control, partial drains.
#include "check.h"
#include "sdr/transport.h"

using namespace sdr;

namespace {

Event event(EventType type, uint32_t qp, uint32_t message, uint32_t value, double time = 0) {
  return {static_cast<uint32_t>(type), qp, message, value, time, 0};
}

}  // namespace

TEST(only_the_first_event_wakes_the_consumer) {
  EventQueue queue;
  CHECK(queue.empty());
  CHECK(queue.push(event(EventType::injected, 1, 2, 3)));
  CHECK(!queue.push(event(EventType::injected, 1, 2, 4)));
  const uint8_t body = 9;
  CHECK_EQ(queue.push_control(1, 0, &body, 1), EventQueue::Control::queued);
  Event out[8];
  uint8_t control[8];
  CHECK_EQ(queue.drain(out, 8, control), 3u);
  CHECK(queue.empty());
  CHECK_EQ(queue.push_control(1, 0, &body, 1), EventQueue::Control::queued_first);
}

TEST(progress_of_a_message_is_merged_while_it_waits) {
  EventQueue queue;
  std::vector<uint64_t> released;
  queue.on_progress_drained(
      [&](uint32_t qp, uint32_t message) { released.push_back(qp * 1000ull + message); });
  queue.push(event(EventType::progress, 1, 7, 0, 10));
  queue.push(event(EventType::progress, 2, 7, 0, 11));
  CHECK(!queue.push(event(EventType::progress, 1, 7, 1, 12)));
  CHECK(!queue.push(event(EventType::progress, 1, 7, 0, 13)));
  CHECK_EQ(queue.size(), 2u);
  Event out[8];
  CHECK_EQ(queue.drain(out, 1, nullptr), 1u);
  CHECK_EQ(out[0].value, 1u);
  CHECK_EQ(out[0].time_ns, 10.0);
  queue.push(event(EventType::progress, 1, 7, 0, 14));  // released: a new event, behind the other
  queue.push(event(EventType::progress, 2, 7, 1, 15));
  CHECK_EQ(queue.drain(out, 8, nullptr), 2u);
  CHECK_EQ(out[0].qp, 2u);
  CHECK_EQ(out[0].value, 1u);
  CHECK_EQ(out[1].time_ns, 14.0);
  CHECK((released == std::vector<uint64_t>{1007, 2007, 1007}));
}

TEST(control_bytes_follow_their_events_through_partial_drains) {
  EventQueue queue;
  std::vector<uint8_t> control(EventQueue::kControlBytesMax);
  uint32_t pushed = 0, drained = 0;
  // More goes in than comes out at first, so that bodies of several drains lie behind each other.
  for (int round = 0; round < 2000; round++) {
    for (int i = 0; i < 3 && round < 1000; i++) {
      const std::vector<uint8_t> body(pushed % 50, static_cast<uint8_t>(pushed));
      queue.push_control(pushed, pushed, body.data(), body.size());
      pushed++;
    }
    Event out[2];
    const size_t count = queue.drain(out, 2, control.data());
    for (size_t i = 0; i < count; i++) {
      CHECK_EQ(out[i].qp, drained);
      CHECK_EQ(out[i].value, drained % 50);
      const uint8_t* const bytes = control.data() + static_cast<size_t>(out[i].extra);
      for (uint32_t j = 0; j < out[i].value; j++) CHECK_EQ(bytes[j], static_cast<uint8_t>(drained));
      drained++;
    }
  }
  CHECK_EQ(drained, pushed);
  CHECK(queue.empty());
}

TEST(control_beyond_the_limits_is_dropped_and_said_so) {
  EventQueue queue;
  using Control = EventQueue::Control;
  const std::vector<uint8_t> body(EventQueue::kControlBytesMax / 4);
  for (int i = 0; i < 6; i++) {
    const Control result = queue.push_control(0, i, body.data(), body.size());
    CHECK_EQ(result, i == 0 ? Control::queued_first : i < 4 ? Control::queued : Control::dropped);
  }
  CHECK_EQ(queue.size(), 4u);
  queue.push(event(EventType::injected, 0, 0, 0));  // others still fit
  CHECK_EQ(queue.size(), 5u);
  std::vector<uint8_t> control(EventQueue::kControlBytesMax);
  Event out[8];
  CHECK_EQ(queue.drain(out, 8, control.data()), 5u);
  for (size_t i = 0; i < EventQueue::kControlEventsMax; i++)
    CHECK(queue.push_control(0, 0, nullptr, 0) != Control::dropped);
  CHECK_EQ(queue.push_control(0, 0, nullptr, 0), Control::dropped);
  CHECK_EQ(queue.size(), EventQueue::kControlEventsMax);
}
