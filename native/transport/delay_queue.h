// Packets under way on an impaired link, by descriptor, in order of the time they are due. In-order
// packets (the usual case) take a FIFO; those that overtake take a heap.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

namespace sdr {

struct Parcel;

struct Delayed {
  int64_t due_ns;
  uint64_t sequence;  // equal times leave in the order of insertion
  Parcel* parcel;
  uint32_t packet;
  bool corrupt;
};

class DelayQueue {
 public:
  static constexpr size_t kMax = 1 << 20;  // descriptors; a full queue holds the sender back

  bool empty() const { return in_order_.empty() && heap_.empty(); }
  size_t size() const { return in_order_.size() + heap_.size(); }
  bool full() const { return size() >= kMax; }

  void push(int64_t due_ns, Parcel* parcel, uint32_t packet, bool corrupt) {
    const Delayed one{due_ns, sequence_++, parcel, packet, corrupt};
    if (in_order_.empty() || in_order_.back().due_ns <= due_ns) {
      in_order_.push_back(one);
    } else {
      heap_.push_back(one);
      std::push_heap(heap_.begin(), heap_.end(), later);
    }
  }
  // Precondition of both: !empty().
  int64_t next_due_ns() const {
    return heap_first() ? heap_.front().due_ns : in_order_.front().due_ns;
  }
  Parcel* next_parcel() const {
    return heap_first() ? heap_.front().parcel : in_order_.front().parcel;
  }
  Delayed pop() {
    Delayed one;
    if (heap_first()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      one = heap_.back();
      heap_.pop_back();
    } else {
      one = in_order_.front();
      in_order_.pop_front();
    }
    return one;
  }

 private:
  static bool later(const Delayed& a, const Delayed& b) {
    return a.due_ns != b.due_ns ? a.due_ns > b.due_ns : a.sequence > b.sequence;
  }
  bool heap_first() const {
    return !heap_.empty() && (in_order_.empty() || later(in_order_.front(), heap_.front()));
  }

  std::deque<Delayed> in_order_;
  std::vector<Delayed> heap_;
  uint64_t sequence_ = 0;
};

}  // namespace sdr
