// Things under way on an impaired link, in order of the time they are due. In-order ones (the usual case) take a FIFO;
// those that overtake take a heap. Equal times leave in the order of insertion.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

namespace sdr {

template <class Item>
class DelayQueue {
 public:
  static constexpr size_t kMax = 1 << 20;  // items; a full queue holds the sender back

  bool empty() const { return in_order_.empty() && heap_.empty(); }
  size_t size() const { return in_order_.size() + heap_.size(); }
  bool full() const { return size() >= kMax; }

  void push(int64_t due_ns, Item item) {
    Entry entry{due_ns, sequence_++, std::move(item)};
    if (in_order_.empty() || in_order_.back().due_ns <= due_ns) {
      in_order_.push_back(std::move(entry));
    } else {
      heap_.push_back(std::move(entry));
      std::push_heap(heap_.begin(), heap_.end(), later);
    }
  }
  // Precondition of these: !empty().
  int64_t next_due_ns() const { return heap_first() ? heap_.front().due_ns : in_order_.front().due_ns; }
  const Item& next() const { return heap_first() ? heap_.front().item : in_order_.front().item; }
  Item pop() {
    if (heap_first()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      Item item = std::move(heap_.back().item);
      heap_.pop_back();
      return item;
    }
    Item item = std::move(in_order_.front().item);
    in_order_.pop_front();
    return item;
  }
  void clear() {
    in_order_.clear();
    heap_.clear();
  }

 private:
  struct Entry {
    int64_t due_ns;
    uint64_t sequence;
    Item item;
  };
  static bool later(const Entry& a, const Entry& b) {
    return a.due_ns != b.due_ns ? a.due_ns > b.due_ns : a.sequence > b.sequence;
  }
  bool heap_first() const {
    return !heap_.empty() && (in_order_.empty() || later(in_order_.front(), heap_.front()));
  }

  std::deque<Entry> in_order_;
  std::vector<Entry> heap_;
  uint64_t sequence_ = 0;
};

}  // namespace sdr
