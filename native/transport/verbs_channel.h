// A channel of the verbs transport: one completion event channel and the thread that polls, for the
// lanes of every queue pair.
#pragma once

#include <vector>

#include "transport/verbs_lane.h"
#include "transport/worker.h"

namespace sdr::verbs {

class Channel final : public Worker {
 public:
  Channel(uint32_t index, Device& device, Environment& environment);
  ~Channel() override { close(); }
  // Null on failure, with errno set.
  ibv_comp_channel* open();
  // Once no lane is left: joins the thread, and lets the device go.
  void close();
  ibv_comp_channel* events() const { return events_; }

  // From any one thread, and complete on return: after remove() this channel neither sends nor
  // receives for the lane.
  void add(Lane* lane);
  void remove(Lane* lane);

 private:
  void round() override;
  void sleep(int64_t now_ns, int64_t until_ns);
  void take_events();
  void take_device_events();

  Device& device_;
  Environment& environment_;
  ibv_comp_channel* events_ = nullptr;

  // the thread's own
  std::vector<Lane*> lanes_;
  Report report_;
  bool hears_device_ = index_ == 0;  // the first channel listens for the device's own events
  int64_t linger_until_ns_ = 0;      // no sleep before
};

}  // namespace sdr::verbs
