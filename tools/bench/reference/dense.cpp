#include "reference/dense.hpp"

#include <cmath>
#include <stdexcept>

extern "C" {
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w,
             double* work, const int* lwork, int* iwork, const int* liwork, int* info);
// OpenBLAS only; other BLAS libraries leave it null.
__attribute__((weak)) void openblas_set_num_threads(int count);
}

namespace tinyphys::bench {

// Column by column, as K is symmetric: the inner loop then has no sum in it and runs as vectors without
// fast-math.
void DenseSystem::force(const std::vector<double>& q, std::vector<double>& f) const {
  f.assign(static_cast<std::size_t>(n), 0.0);
  double* out = f.data();
  for (long j = 0; j < n; ++j) {
    const double* column = coupling.data() + j * n;
    const double x = q[static_cast<std::size_t>(j)];
    for (long i = 0; i < n; ++i) out[i] -= column[i] * x;
  }
}

double DenseSystem::energy(const std::vector<double>& q, const std::vector<double>& p) const {
  std::vector<double> f;
  force(q, f);
  double sum = 0;
  for (std::size_t i = 0; i < q.size(); ++i) sum += 0.5 * p[i] * p[i] / mass[i] - 0.5 * q[i] * f[i];
  return sum;
}

void DenseSystem::leapfrog(std::vector<double>& q, std::vector<double>& p, double dt, long steps) const {
  std::vector<double> f;
  force(q, f);
  for (long s = 0; s < steps; ++s) {
    for (std::size_t i = 0; i < q.size(); ++i) {
      p[i] += 0.5 * dt * f[i];
      q[i] += dt * p[i] / mass[i];
    }
    force(q, f);
    for (std::size_t i = 0; i < q.size(); ++i) p[i] += 0.5 * dt * f[i];
  }
}

std::vector<double> DenseSystem::mass_weighted() const {
  std::vector<double> s(coupling);
  for (long i = 0; i < n; ++i)
    for (long j = 0; j < n; ++j)
      s[static_cast<std::size_t>(i * n + j)] /=
          std::sqrt(mass[static_cast<std::size_t>(i)] * mass[static_cast<std::size_t>(j)]);
  return s;
}

SymmetricEigen::SymmetricEigen(long n)
    : n_(static_cast<int>(n)),
      work_(static_cast<std::size_t>(1 + 6 * n + 2 * n * n)),
      iwork_(static_cast<std::size_t>(3 + 5 * n)) {}

void SymmetricEigen::operator()(std::vector<double>& a, std::vector<double>& eigenvalues) {
  if (openblas_set_num_threads != nullptr) openblas_set_num_threads(1);
  eigenvalues.resize(static_cast<std::size_t>(n_));
  const int work_size = static_cast<int>(work_.size()), iwork_size = static_cast<int>(iwork_.size());
  int info = 0;
  dsyevd_("V", "U", &n_, a.data(), &n_, eigenvalues.data(), work_.data(), &work_size, iwork_.data(),
          &iwork_size, &info);
  if (info != 0) throw std::runtime_error("dsyevd failed with info " + std::to_string(info));
}

}  // namespace tinyphys::bench
