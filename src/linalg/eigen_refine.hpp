// Symmetric eigenproblem in double-double: LAPACK in double, then Newton sweeps after Ogita & Aishima (2018,
// "Iterative refinement for symmetric eigenvalue decomposition"), clusters rotated as blocks (2019, part II).
#pragma once

#include <string>
#include <vector>

#include "linalg/dd_matrix.hpp"

namespace tinyphys {

struct SymmetricEigen {
  std::string reason;      // empty, or why there is no decomposition
  std::vector<DD> values;  // ascending
  DDMatrix vectors;        // ROW j is the unit eigenvector of values[j]
  double norm = 0.0;       // max |values|
  // Estimates of |A X - X Lambda|_F / norm and |X^T X - I|_F from random +-1 probes (exact for n <= 16),
  // times 2. By Weyl every eigenvalue of A is within residual * norm (1 + orthogonality) of its computed one.
  double residual = 0.0;
  double orthogonality = 0.0;
  int sweeps = 0;
};

// Only the symmetric matrix `a` is read; the caller has checked its symmetry. Sweeps until the residual is at
// the level of double-double rounding or `max_sweeps` are done; two suffice unless eigenvalues cluster.
SymmetricEigen symmetric_eigen_dd(const DDMatrix& a, const ParallelFor& parallel = {}, int max_sweeps = 6);

}  // namespace tinyphys
