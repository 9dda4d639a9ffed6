// Bounds of the spectrum of a Hermitian operator that is known by what it makes of vectors.
#pragma once

#include <complex>
#include <functional>
#include <vector>

namespace tinyphys {

struct LanczosBounds {
  double low = 0, high = 0;
  int steps = 0;  // so often the operator was applied
};

/// The least and largest Ritz values of a Krylov space, each moved outwards by the norm of its residual (Zhou and Li, Linear
/// Algebra Appl. 435, 480 (2011)), after the steps at which both residuals are below `accuracy` of the width, or `most`.
/// An estimate, not a proof: an eigenvector that the start does not hold is not seen, and a random start holds each but with
/// probability 0. Vectors are kept orthogonal to the two before only: three are in memory, and values that come twice for that
/// do no harm at the ends. `start` is not 0. NaN where the operator gives a number that is not finite.
LanczosBounds lanczos_bounds(
    const std::function<std::vector<std::complex<double>>(const std::vector<std::complex<double>>&)>& apply,
    std::vector<std::complex<double>> start, int most, double accuracy);

}  // namespace tinyphys
