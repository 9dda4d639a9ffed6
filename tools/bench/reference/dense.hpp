// Coupled oscillators with a dense coupling, written by hand: what the dense rows are compared with.
#pragma once

#include <vector>

namespace tinyphys::bench {

// H = sum p_i^2 / (2 m_i) + q K q / 2. K is symmetric, n x n.
struct DenseSystem {
  long n = 0;
  std::vector<double> mass, coupling;

  double energy(const std::vector<double>& q, const std::vector<double>& p) const;
  // Leapfrog, kick-drift-kick, one force a step.
  void leapfrog(std::vector<double>& q, std::vector<double>& p, double dt, long steps) const;
  // M^-1/2 K M^-1/2, whose eigenvectors are the normal modes.
  std::vector<double> mass_weighted() const;

 private:
  // f = -K q.
  void force(const std::vector<double>& q, std::vector<double>& f) const;
};

// LAPACK's dsyevd with all vectors, on one thread. The workspace is made once, so that a timed call only
// computes.
class SymmetricEigen {
 public:
  explicit SymmetricEigen(long n);
  // a, n x n, is replaced by the eigenvectors. Throws std::runtime_error when LAPACK reports a failure.
  void operator()(std::vector<double>& a, std::vector<double>& eigenvalues);

 private:
  int n_;
  std::vector<double> work_;
  std::vector<int> iwork_;
};

}  // namespace tinyphys::bench
