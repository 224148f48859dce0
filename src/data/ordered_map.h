// A pipeline that maps items on several threads and gives the results back in the order of the input.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace transxssm {

// One thread calls `read` until it gives nothing, `threads` threads call `map`, and next() gives the results
// in order. At most `max_weight` (as `weigh` has it) is under way, read but not yet given back, except that
// one item always may be. An exception of `read` or `map` comes out of next() in its place; nothing follows
// it.
template <class In, class Out>
class OrderedMap {
 public:
  OrderedMap(std::function<std::optional<In>()> read, std::function<Out(In)> map,
             std::function<size_t(const In&)> weigh, int threads, size_t max_weight)
      : read_(std::move(read)), map_(std::move(map)), weigh_(std::move(weigh)), max_weight_(max_weight) {
    threads_.emplace_back([this] { run_reader(); });
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { run_mapper(); });
  }

  ~OrderedMap() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  OrderedMap(const OrderedMap&) = delete;
  OrderedMap& operator=(const OrderedMap&) = delete;

  std::optional<Out> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return front_is_done() || (all_read_ && slots_.empty()); });
    if (slots_.empty()) return std::nullopt;
    const std::shared_ptr<Slot> slot = std::move(slots_.front());
    slots_.pop_front();
    weight_ -= slot->weight;
    lock.unlock();
    changed_.notify_all();
    if (slot->error) std::rethrow_exception(slot->error);
    return std::move(slot->out);
  }

 private:
  struct Slot {
    std::optional<In> in;
    std::optional<Out> out;
    std::exception_ptr error;
    size_t weight = 0;
    bool done = false;
  };

  bool front_is_done() const { return !slots_.empty() && slots_.front()->done; }

  void run_reader() {
    bool more = true;
    while (more) {
      auto slot = std::make_shared<Slot>();
      try {
        slot->in = read_();
        if (slot->in) slot->weight = weigh_(*slot->in);
      } catch (...) {
        slot->error = std::current_exception();
        slot->done = true;
      }
      more = slot->in.has_value() && !slot->done;
      std::unique_lock lock(mutex_);
      changed_.wait(lock,
                    [&] { return stopped_ || slots_.empty() || weight_ + slot->weight <= max_weight_; });
      if (stopped_) return;
      if (more) waiting_.push_back(slot);
      weight_ += slot->weight;
      if (more || slot->done) slots_.push_back(std::move(slot));
      all_read_ = !more;
      lock.unlock();
      changed_.notify_all();
    }
  }

  void run_mapper() {
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopped_ || !waiting_.empty() || all_read_; });
      if (stopped_ || waiting_.empty()) return;
      const std::shared_ptr<Slot> slot = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      try {
        slot->out = map_(std::move(*slot->in));
      } catch (...) {
        slot->error = std::current_exception();
      }
      slot->in.reset();
      lock.lock();
      slot->done = true;
      lock.unlock();
      changed_.notify_all();
    }
  }

  const std::function<std::optional<In>()> read_;
  const std::function<Out(In)> map_;
  const std::function<size_t(const In&)> weigh_;
  const size_t max_weight_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Slot>> slots_;    // in the order of the input
  std::deque<std::shared_ptr<Slot>> waiting_;  // not taken by a mapper yet
  size_t weight_ = 0;
  bool all_read_ = false;
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace transxssm
