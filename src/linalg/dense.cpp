#include "linalg/dense.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

extern "C" {
void dgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
            const double* alpha, const double* a, const int* lda, const double* b, const int* ldb,
            const double* beta, double* c, const int* ldc);
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w,
             double* work, const int* lwork, int* iwork, const int* liwork, int* info);
// OpenBLAS only; other BLAS libraries leave it null.
__attribute__((weak)) void openblas_set_num_threads(int count);
}

namespace tinyphys {

namespace {

constexpr long kPanelRows = 256;

}  // namespace

void run_blocks(const ParallelFor& parallel, long n, const std::function<void(long)>& body) {
  if (parallel && n > 1) {
    parallel(n, body);
    return;
  }
  for (long i = 0; i < n; ++i) body(i);
}

void use_single_thread_blas() {
  static const bool once = [] {
    if (openblas_set_num_threads != nullptr) openblas_set_num_threads(1);
    return true;
  }();
  (void)once;
}

void gemm(long m, long n, long k, const double* a, long lda, bool trans_a, const double* b, long ldb,
          bool trans_b, double* c, long ldc, bool accumulate, const ParallelFor& parallel) {
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {
    if (accumulate) return;
    for (long i = 0; i < m; ++i) std::fill_n(c + i * ldc, n, 0.0);
    return;
  }
  use_single_thread_blas();
  run_blocks(parallel, (m + kPanelRows - 1) / kPanelRows, [&](long block) {
    const long row = block * kPanelRows;
    // Column-major BLAS sees the transposes: C^T = op(B)^T op(A)^T.
    const int rows = static_cast<int>(std::min(kPanelRows, m - row)), cols = static_cast<int>(n),
              inner = static_cast<int>(k);
    const int ia = static_cast<int>(lda), ib = static_cast<int>(ldb), ic = static_cast<int>(ldc);
    const double one = 1.0, beta = accumulate ? 1.0 : 0.0;
    const double* panel = trans_a ? a + row : a + row * lda;
    dgemm_(trans_b ? "T" : "N", trans_a ? "T" : "N", &cols, &rows, &inner, &one, b, &ib, panel, &ia, &beta,
           c + row * ldc, &ic);
  });
}

std::string symmetric_eigen(long n, double* a, double* w) {
  if (n <= 0) return {};
  // dsyevd's workspace, 1 + 6 n + 2 n^2, must fit a 32-bit int.
  if (n > 32000) return "matrix of order " + std::to_string(n) + " exceeds 32-bit LAPACK";
  for (long i = 0; i < n * n; ++i) {
    if (!std::isfinite(a[i])) return "non-finite matrix entry";
  }
  use_single_thread_blas();
  const int order = static_cast<int>(n);
  const int work_size = 1 + 6 * order + 2 * order * order, iwork_size = 3 + 5 * order;
  std::vector<double> work(static_cast<std::size_t>(work_size));
  std::vector<int> iwork(static_cast<std::size_t>(iwork_size));
  int info = 0;
  dsyevd_("V", "U", &order, a, &order, w, work.data(), &work_size, iwork.data(), &iwork_size, &info);
  if (info != 0) return "LAPACK dsyevd did not converge (info = " + std::to_string(info) + ")";
  for (long i = 0; i < n; ++i) {
    if (!std::isfinite(w[i])) return "LAPACK dsyevd returned a non-finite eigenvalue";
  }
  return {};
}

}  // namespace tinyphys
