#include "support/thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "support/env.hpp"

namespace tinyphys {

namespace {

/// Set while this thread runs blocks: a nested loop must not wait for workers that wait for it.
thread_local bool inside_run = false;

/// Long enough to bridge the gap between two kernels of a loop, short against a scheduler's time slice. Waking a
/// sleeping thread costs about as much. A longer one keeps a busy machine from running the thread that is waited for.
constexpr std::chrono::microseconds kSpin{40};

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
  // On a cache line of its own: a worker polls only this.
  struct alignas(64) Worker {
    std::atomic<unsigned> ticket{0};  // raised once a job
    std::exception_ptr error;
    std::thread thread;
  };

  std::mutex mutex;  // held by the thread that is in run()
  std::vector<std::unique_ptr<Worker>> workers;
  const int cpus = env::available_cpus();

  // The job, written before the tickets are raised.
  const Body* body = nullptr;
  long n_blocks = 0;
  int parts = 0;
  bool stop = false;
  bool spin = false;
  alignas(64) std::atomic<unsigned> unfinished{0};

  void work(Worker& worker, int part) {
    inside_run = true;
    unsigned seen = 0;
    bool may_spin = true;
    while (true) {
      seen = wait_for_change(worker.ticket, seen, may_spin);
      if (stop) return;
      may_spin = spin;
      run_part(part, worker.error);
      if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
    }
  }

  void run_part(int part, std::exception_ptr& error) {
    try {
      (*body)(range_begin(n_blocks, part, parts), range_begin(n_blocks, part + 1, parts));
    } catch (...) {
      error = std::current_exception();
    }
  }

  void add_workers(int count) {
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
  impl_->stop = true;
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
  pool.n_blocks = n_blocks;
  pool.parts = parts;
  pool.spin = parts <= pool.cpus;
  pool.unfinished.store(static_cast<unsigned>(parts - 1), std::memory_order_relaxed);
  for (int part = 1; part < parts; ++part) pool.wake(*pool.workers[part - 1]);

  std::exception_ptr error;
  inside_run = true;
  pool.run_part(0, error);
  inside_run = false;
  unsigned left = pool.unfinished.load(std::memory_order_acquire);
  while (left != 0) left = wait_for_change(pool.unfinished, left, pool.spin);

  for (int part = 1; part < parts; ++part) {
    std::exception_ptr& theirs = pool.workers[part - 1]->error;
    if (!error) error = theirs;
    theirs = nullptr;
  }
  if (error) std::rethrow_exception(error);
}

ThreadPool& thread_pool() {
  // Never destroyed: at exit a worker may still be in generated code, and joining threads from a static destructor
  // hangs when the process ends from inside a loop.
  static ThreadPool& instance = *new ThreadPool;
  return instance;
}

int threads() { return env::threads(); }

}  // namespace tinyphys
