// What the emulated world keeps its future in: rings, a heap of flights and a heap of event
// sources. Nothing here knows packets or links; everything is ordered by (time, sequence of
// insertion).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sdr::emulated {

struct Key {
  int64_t time_ns;
  uint64_t sequence;
  bool before(const Key& other) const {
    return time_ns != other.time_ns ? time_ns < other.time_ns : sequence < other.sequence;
  }
};

enum class What : uint8_t { data, control, injected, progress };

// One thing that will happen. Millions of these are in flight: 32 bytes, no pointer.
struct Flight {
  Key at;
  uint32_t index;  // data: packet of the message; progress: message
  uint32_t body;   // data, injected: work; control: control body
  uint32_t qp;     // data, control: the destination; else the owner
  What what;
  bool corrupt;
};
static_assert(sizeof(Flight) == 32);

// First in, first out; grows by doubling, so that a steady state allocates nothing.
template <class T>
class Ring {
 public:
  bool empty() const { return head_ == tail_; }
  size_t size() const { return static_cast<size_t>(tail_ - head_); }
  T& front() { return slots_[head_ & mask_]; }
  T& back() { return slots_[(tail_ - 1) & mask_]; }
  T& operator[](size_t i) { return slots_[(head_ + i) & mask_]; }
  void pop() { head_++; }
  void push(const T& value) { extend() = value; }
  // A new last element, with whatever was in its place before.
  T& extend() {
    if (size() == slots_.size()) grow();
    return slots_[tail_++ & mask_];
  }
  void clear() { head_ = tail_ = 0; }
  // Keeps the first `count` elements.
  void truncate(size_t count) { tail_ = head_ + count; }

 private:
  void grow() {
    std::vector<T> larger(std::max<size_t>(16, slots_.size() * 2));
    const size_t count = size();
    for (size_t i = 0; i < count; i++) larger[i] = (*this)[i];
    slots_ = std::move(larger);
    mask_ = slots_.size() - 1;
    head_ = 0;
    tail_ = count;
  }

  std::vector<T> slots_;
  uint64_t mask_ = 0, head_ = 0, tail_ = 0;
};

// A four-way heap: half the levels of a binary one, and siblings share cache lines.
class FlightHeap {
 public:
  bool empty() const { return heap_.empty(); }
  size_t size() const { return heap_.size(); }
  const Flight& top() const { return heap_.front(); }
  void push(const Flight& flight) {
    size_t hole = heap_.size();
    heap_.push_back(flight);
    while (hole > 0) {
      const size_t parent = (hole - 1) / 4;
      if (!flight.at.before(heap_[parent].at)) break;
      heap_[hole] = heap_[parent];
      hole = parent;
    }
    heap_[hole] = flight;
  }
  void pop() {
    const Flight last = heap_.back();
    heap_.pop_back();
    if (heap_.empty()) return;
    size_t hole = 0;
    for (size_t first = 1; first < heap_.size(); first = hole * 4 + 1) {
      const size_t end = std::min(first + 4, heap_.size());
      size_t least = first;
      for (size_t i = first + 1; i < end; i++) {
        if (heap_[i].at.before(heap_[least].at)) least = i;
      }
      if (!heap_[least].at.before(last.at)) break;
      heap_[hole] = heap_[least];
      hole = least;
    }
    heap_[hole] = last;
  }

 private:
  std::vector<Flight> heap_;
};

// Which source of events comes next. A source (a link's serialiser, a link's arrivals in order, a
// pacer, the heap of everything else) shows only its earliest event here, so that a packet costs
// two short sifts, not two operations on a heap of every packet in flight.
class SourceHeap {
 public:
  uint32_t add() {
    positions_.push_back(kAbsent);
    return static_cast<uint32_t>(positions_.size() - 1);
  }
  bool empty() const { return heap_.empty(); }
  uint32_t top() const { return heap_.front().source; }
  const Key& top_key() const { return heap_.front().key; }
  bool has(uint32_t source) const { return positions_[source] != kAbsent; }

  void set(uint32_t source, const Key& key) {
    uint32_t position = positions_[source];
    // The usual case: the source that is next stays next, as the others wait for later times.
    if (position == 0 && !child_before(key)) {
      heap_[0].key = key;
      return;
    }
    if (position == kAbsent) {
      position = static_cast<uint32_t>(heap_.size());
      heap_.push_back({key, source});
      positions_[source] = position;
      rise(position);
      return;
    }
    const bool earlier = key.before(heap_[position].key);
    heap_[position].key = key;
    if (earlier)
      rise(position);
    else
      sink(position);
  }

  void remove(uint32_t source) {
    const uint32_t position = positions_[source];
    if (position == kAbsent) return;
    positions_[source] = kAbsent;
    const Entry last = heap_.back();
    heap_.pop_back();
    if (last.source == source) return;
    heap_[position] = last;
    positions_[last.source] = position;
    rise(position);
    sink(positions_[last.source]);
  }

 private:
  static constexpr uint32_t kAbsent = UINT32_MAX;
  struct Entry {
    Key key;
    uint32_t source;
  };

  bool child_before(const Key& key) const {
    const size_t count = heap_.size();
    return (count > 1 && heap_[1].key.before(key)) || (count > 2 && heap_[2].key.before(key));
  }
  void put(uint32_t position, const Entry& entry) {
    heap_[position] = entry;
    positions_[entry.source] = position;
  }
  void rise(uint32_t position) {
    const Entry entry = heap_[position];
    while (position > 0) {
      const uint32_t parent = (position - 1) / 2;
      if (!entry.key.before(heap_[parent].key)) break;
      put(position, heap_[parent]);
      position = parent;
    }
    put(position, entry);
  }
  void sink(uint32_t position) {
    const Entry entry = heap_[position];
    const uint32_t count = static_cast<uint32_t>(heap_.size());
    for (uint32_t child = 2 * position + 1; child < count; child = 2 * position + 1) {
      if (child + 1 < count && heap_[child + 1].key.before(heap_[child].key)) child++;
      if (!heap_[child].key.before(entry.key)) break;
      put(position, heap_[child]);
      position = child;
    }
    put(position, entry);
  }

  std::vector<Entry> heap_;
  std::vector<uint32_t> positions_;
};

// Reusable objects by number.
template <class T>
class Pool {
 public:
  uint32_t take() {
    if (!free_.empty()) {
      const uint32_t index = free_.back();
      free_.pop_back();
      return index;
    }
    items_.emplace_back();
    return static_cast<uint32_t>(items_.size() - 1);
  }
  void give(uint32_t index) { free_.push_back(index); }
  T& operator[](uint32_t index) { return items_[index]; }
  size_t size() const { return items_.size(); }  // taken and free ones

 private:
  std::vector<T> items_;
  std::vector<uint32_t> free_;
};

}  // namespace sdr::emulated
