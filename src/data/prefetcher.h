// A thread that prepares the next few items while the current one is in use.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace transxssm {

// Calls `produce` on its own thread, at most `depth` items ahead. Items come out in order; what produce
// throws comes out of next() once the items before it are taken, and of every next() after that.
template <class Item>
class Prefetcher {
 public:
  Prefetcher(size_t depth, std::function<Item()> produce)
      : depth_(depth), produce_(std::move(produce)), thread_([this] { run(); }) {}

  ~Prefetcher() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    space_.notify_all();
    thread_.join();
  }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // `seconds_waited` grows by the time it took until an item was there.
  Item next(double& seconds_waited) {
    std::unique_lock lock(mutex_);
    const auto start = std::chrono::steady_clock::now();
    available_.wait(lock, [this] { return !items_.empty() || error_; });
    seconds_waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (items_.empty()) std::rethrow_exception(error_);
    Item item = std::move(items_.front());
    items_.pop_front();
    space_.notify_one();
    return item;
  }

 private:
  void run() {
    try {
      while (wait_for_space()) {
        Item item = produce_();
        const std::lock_guard lock(mutex_);
        items_.push_back(std::move(item));
        available_.notify_one();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      available_.notify_one();
    }
  }

  // False when it is time to end.
  bool wait_for_space() {
    std::unique_lock lock(mutex_);
    space_.wait(lock, [this] { return items_.size() < depth_ || stopping_; });
    return !stopping_;
  }

  const size_t depth_;
  const std::function<Item()> produce_;
  std::mutex mutex_;
  std::condition_variable available_;
  std::condition_variable space_;
  std::deque<Item> items_;
  std::exception_ptr error_;
  bool stopping_ = false;
  std::thread thread_;  // last, so that it finds everything else ready
};

}  // namespace transxssm
