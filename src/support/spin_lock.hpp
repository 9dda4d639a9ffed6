#pragma once

#include <atomic>
#include <thread>

namespace tinyphys {

/// A lock for a few instructions that are seldom contended: half of what a std::mutex costs where nobody else is there.
class SpinLock {
 public:
  void lock() {
    while (held_.exchange(true, std::memory_order_acquire))
      for (int i = 0; held_.load(std::memory_order_relaxed); ++i)
        if (i >= 64) std::this_thread::yield();
  }
  void unlock() { held_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> held_{false};
};

}  // namespace tinyphys
