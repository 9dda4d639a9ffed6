#include "support/thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "support/env.hpp"

namespace tinyphys {

namespace {

/// Set while this thread runs blocks: a nested loop must not wait for workers that wait for it.
thread_local bool inside_run = false;

/// Long enough to bridge the gap between two kernels of a loop, short against a scheduler's time slice. Waking a
/// sleeping thread costs about as much. A longer one keeps a busy machine from running the thread that is waited for.
constexpr std::chrono::microseconds kSpin{40};

/// What one thread's share of the blocks is taken in.
constexpr long kRangesPerShare = 8;

/// Waits until `word` differs from `old` and returns it: spins a while, where the other side has a CPU of its own,
/// then sleeps.
unsigned wait_for_change(const std::atomic<unsigned>& word, unsigned old, bool spin) {
  if (spin) {
    auto deadline = std::chrono::steady_clock::now() + kSpin;
    do {
      for (int i = 0; i < 32; ++i) {
        if (unsigned now = word.load(std::memory_order_acquire); now != old) return now;
        __builtin_ia32_pause();
      }
    } while (std::chrono::steady_clock::now() < deadline);
  }
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

long range_begin(long n_blocks, int part, int parts) {
  // Not n_blocks * part / parts, which overflows.
  return n_blocks / parts * part + std::min<long>(n_blocks % parts, part);
}

}  // namespace

struct ThreadPool::Impl {
  // The blocks that one thread begins with, on a cache line of its own.
  struct alignas(64) Share {
    std::atomic<long> taken{0};
    long begin = 0, end = 0;
  };

  // On a cache line of its own: a worker polls only this.
  struct alignas(64) Worker {
    std::atomic<unsigned> ticket{0};  // raised once a job
    std::thread thread;
  };

  std::mutex mutex;  // held by the thread that is in run()
  std::vector<std::unique_ptr<Worker>> workers;
  const int cpus = env::available_cpus();

  // The job, written while `inside` is closed and empty.
  const Body* body = nullptr;
  std::vector<std::unique_ptr<Share>> shares;
  int parts = 0;
  std::exception_ptr error;  // of the range that begins at failed_at, the lowest so far
  long failed_at = 0;
  std::mutex error_mutex;
  std::atomic<bool> stop{false};
  std::atomic<bool> spin{true};
  // Workers that are in the job, and kClosed where there is no job to enter.
  static constexpr unsigned kClosed = 1u << 31;
  alignas(64) std::atomic<unsigned> inside{kClosed};

  void work(Worker& worker, int part) {
    inside_run = true;
    unsigned seen = 0;
    while (true) {
      seen = wait_for_change(worker.ticket, seen, spin.load(std::memory_order_relaxed));
      if (stop.load(std::memory_order_relaxed)) return;
      // One that comes too late for a job finds it closed, or the next one open.
      if ((inside.fetch_add(1, std::memory_order_acq_rel) & kClosed) == 0 && part < parts) take_blocks(part);
      if (inside.fetch_sub(1, std::memory_order_acq_rel) == (kClosed | 1)) inside.notify_one();
    }
  }

  /// Runs ranges of blocks until none is left: of this part's share, then of the others'.
  void take_blocks(int part) {
    for (int k = 0; k < parts; ++k) {
      Share& share = *shares[(part + k) % parts];
      // Small against a share, for who comes last has one of them to itself; large against the atomic operation.
      const long many = share.end - share.begin, range = std::max<long>(1, many / kRangesPerShare);
      while (true) {
        const long at = share.taken.fetch_add(range, std::memory_order_relaxed);
        if (at >= many) break;
        run_range(share.begin + at, share.begin + std::min(at + range, many));
      }
    }
  }

  void run_range(long begin, long end) {
    try {
      (*body)(begin, end);
    } catch (...) {
      std::lock_guard lock(error_mutex);
      if (error && failed_at < begin) return;
      error = std::current_exception();
      failed_at = begin;
    }
  }

  void add_workers(int count) {
    while (static_cast<int>(shares.size()) < count + 1) shares.push_back(std::make_unique<Share>());
    while (static_cast<int>(workers.size()) < count) {
      workers.push_back(std::make_unique<Worker>());
      Worker& worker = *workers.back();
      int part = static_cast<int>(workers.size());  // part 0 is the caller's
      worker.thread = std::thread([this, &worker, part] { work(worker, part); });
    }
  }

  void wake(Worker& worker) {
    worker.ticket.fetch_add(1, std::memory_order_release);
    worker.ticket.notify_one();
  }
};

ThreadPool::ThreadPool() : impl_(new Impl) {}

ThreadPool::~ThreadPool() {
  impl_->stop.store(true, std::memory_order_relaxed);
  for (auto& worker : impl_->workers) impl_->wake(*worker);
  for (auto& worker : impl_->workers) worker->thread.join();
  delete impl_;
}

void ThreadPool::run(long n_blocks, int threads, Body body) {
  if (n_blocks <= 0) return;
  Impl& pool = *impl_;
  int parts = static_cast<int>(std::min<long>(n_blocks, threads));
  std::unique_lock lock(pool.mutex, std::defer_lock);
  if (parts <= 1 || inside_run || !lock.try_lock()) return body(0, n_blocks);

  pool.add_workers(parts - 1);
  pool.body = &body;
  pool.parts = parts;
  pool.spin.store(parts <= pool.cpus, std::memory_order_relaxed);
  for (int part = 0; part < parts; ++part) {
    Impl::Share& share = *pool.shares[static_cast<std::size_t>(part)];
    share.taken.store(0, std::memory_order_relaxed);
    share.begin = range_begin(n_blocks, part, parts);
    share.end = range_begin(n_blocks, part + 1, parts);
  }
  pool.inside.fetch_and(~Impl::kClosed, std::memory_order_release);
  for (int part = 1; part < parts; ++part) pool.wake(*pool.workers[static_cast<std::size_t>(part - 1)]);

  inside_run = true;
  pool.take_blocks(0);
  inside_run = false;
  // Nothing is left to take: only those that still run a range are waited for.
  unsigned left = pool.inside.fetch_or(Impl::kClosed, std::memory_order_acq_rel) | Impl::kClosed;
  while (left != Impl::kClosed) left = wait_for_change(pool.inside, left, parts <= pool.cpus);
  if (pool.error) std::rethrow_exception(std::exchange(pool.error, nullptr));
}

ThreadPool& thread_pool() {
  // Never destroyed: at exit a worker may still be in generated code, and joining threads from a static destructor
  // hangs when the process ends from inside a loop.
  static ThreadPool& instance = *new ThreadPool;
  return instance;
}

int threads() { return env::threads(); }

}  // namespace tinyphys
