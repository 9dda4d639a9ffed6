#pragma once

#include <type_traits>

#include "support/function_ref.hpp"

namespace tinyphys {

/// Threads that run the blocks of one loop at a time. Each thread begins with a contiguous share of the blocks, the
/// caller with the first; who is through takes from the shares of those that are late or slow. So which thread runs a
/// block is not fixed, and a worker that the system does not run yet is not waited for.
class ThreadPool {
 public:
  /// A range [begin, end) of blocks.
  using Body = FunctionRef<void(long begin, long end)>;

  ThreadPool();
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Runs all blocks in [0, n_blocks) on up to `threads` threads, starting those that are not yet there, and returns
  /// when all are done: one call of `body` for each range taken, none of them empty. Where a range throws, the others
  /// still run and the exception of the lowest range is thrown here. Runs on the calling thread alone inside another
  /// run(), and while another thread is in run().
  void run(long n_blocks, int threads, Body body);

  /// run() over as many threads as the environment says: f(block) for each block, or f(begin, end) for each range of
  /// them that a thread takes. Results are the same for any number of threads as long as a block does the same work whatever
  /// range it is in. Allocates nothing once the threads have started.
  template <class F> void parallel_for(long n_blocks, F&& f);

 private:
  struct Impl;
  Impl* impl_;
};

/// The pool of the process.
ThreadPool& thread_pool();

/// Threads of a computation: TINYPHYS_THREADS.
int threads();

template <class F> void ThreadPool::parallel_for(long n_blocks, F&& f) {
  if constexpr (std::is_invocable_v<F&, long, long>) {
    run(n_blocks, tinyphys::threads(), f);
  } else {
    run(n_blocks, tinyphys::threads(), [&f](long begin, long end) {
      for (long block = begin; block < end; ++block) f(block);
    });
  }
}

template <class F> void parallel_for(long n_blocks, F&& f) { thread_pool().parallel_for(n_blocks, f); }

}  // namespace tinyphys
