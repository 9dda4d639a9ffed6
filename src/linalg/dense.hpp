// Dense linear algebra in double: a thin, deterministic interface over BLAS and LAPACK.
//
// The library runs at one thread; parallelism is ours, over blocks whose partition depends on the sizes
// alone, so results have the same bits for any number of threads. Failures are returned, never aborted on.
#pragma once

#include <functional>
#include <string>

namespace tinyphys {

// Runs body(0) .. body(n - 1), in any order, on any threads, and returns when all are done. An empty function
// means serial. Bodies never throw and never nest another parallel loop.
using ParallelFor = std::function<void(long n, const std::function<void(long)>& body)>;

// Calls `parallel`, or a plain loop where it is empty or there is only one block.
void run_blocks(const ParallelFor& parallel, long n, const std::function<void(long)>& body);

// Pins BLAS to one thread, once. Every entry point below calls it; callers of raw BLAS symbols must too.
void use_single_thread_blas();

// C (m x n) = op(A) (m x k) op(B) (k x n), or C += ... where `accumulate`; all row-major, ld = row stride. op
// is the transpose where the flag is set: A is then stored k x m, B n x k. Row panels of 256 rows of C run in
// parallel.
void gemm(long m, long n, long k, const double* a, long lda, bool trans_a, const double* b, long ldb,
          bool trans_b, double* c, long ldc, bool accumulate = false, const ParallelFor& parallel = {});

// Eigen decomposition of a symmetric n x n matrix (LAPACK dsyevd; the lower row-major triangle is read). On
// success returns an empty string, ROW j of `a` holds the unit eigenvector of w[j], and w ascends. Otherwise
// returns the reason: non-finite entries, no convergence, or too large for 32-bit LAPACK; `a` is then
// undefined.
std::string symmetric_eigen(long n, double* a, double* w);

}  // namespace tinyphys
