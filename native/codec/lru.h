// A bounded table shared between threads that forgets what has not been asked for for the longest time.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace sdr::codec {

template <class Key, class Value, class Hash>
class Lru {
 public:
  // Keeps values whose costs add up to `cost_max` at most, but always the newest.
  explicit Lru(size_t cost_max) : cost_max_(cost_max) {}

  std::shared_ptr<const Value> find(const Key& key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = places_.find(key);
    if (found == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->value;
  }

  // Returns what is kept under the key: `value`, or the one that another thread has put there meanwhile.
  std::shared_ptr<const Value> put(const Key& key, std::shared_ptr<const Value> value, size_t cost) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = places_.find(key);
    if (found != places_.end()) return found->second->value;
    entries_.push_front({key, std::move(value), cost});
    places_.emplace(key, entries_.begin());
    cost_ += cost;
    while (cost_ > cost_max_ && entries_.size() > 1) {
      cost_ -= entries_.back().cost;
      places_.erase(entries_.back().key);
      entries_.pop_back();
    }
    return entries_.front().value;
  }

  size_t size() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return entries_.size();
  }

 private:
  struct Entry {
    Key key;
    std::shared_ptr<const Value> value;
    size_t cost;
  };

  const size_t cost_max_;
  std::mutex mutex_;
  std::list<Entry> entries_;  // the latest first
  std::unordered_map<Key, typename std::list<Entry>::iterator, Hash> places_;
  size_t cost_ = 0;
};

}  // namespace sdr::codec
