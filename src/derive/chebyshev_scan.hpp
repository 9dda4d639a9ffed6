// The exponential of a Hermitian operator as one Chebyshev series: a SCAN whose step applies the operator once.
//
//   exp(-i H t) psi = exp(-i E t) sum_k (2 - delta_k0) (-i)^k J_k(R t) T_k(Hn) psi,    Hn = (H - E) / R,
//
// where the spectrum of H lies within E +- R (Tal-Ezer and Kosloff, J. Chem. Phys. 81, 3967 (1984)). phi_k = (-i)^k T_k(Hn)
// psi obeys phi_k+1 = -2 i Hn phi_k + phi_k-1, so that the coefficients are real: they are the xs of the loop, whose carry is
// two phi and the sum. With t = -i tau (relaxation) phi_k = (-1)^k T_k(Hn) psi, and I_k in place of J_k.
#pragma once

#include <functional>
#include <span>

#include "uop/uop.hpp"

namespace tinyphys {

struct BoundedOperator {
  std::function<UOp(const UOp& psi)> apply;  // H psi, of the shape and dtype of psi; linear and Hermitian
  // The spectrum lies within centre +- radius. Numbers, and not values of the graph: the coefficients are made of them, so
  // that a derivative by them would be wrong, while that by what H is made of is that of the series.
  double centre = 0, radius = 1;
  std::size_t batch_axes = 0;  // leading axes of psi, whose members are checked each by itself
};

enum class Exponential {
  kPhase,  // exp(-i H t) psi, t of either sign; psi complex
  kDecay  // exp(-(H - (centre - radius)) t) psi, t >= 0: the lower bound taken off, so that nothing grows; psi real or complex
};

struct ChebyshevSum {
  UOp value;
  UOp loop;               // the SCAN; null for one term
  std::size_t terms = 0;  // K; the operator is applied K - 1 times
  double last = 0;        // the last coefficient
  double left_out = 0;    // the sum of those that follow is at most this: of psi's norm
};

// Coefficients below `tol` are left out. The value stands behind a CHECK, that neither the last T_k(Hn) psi nor the result is
// larger than an operator within these bounds makes it; where one is, the bounds are too small or H is not Hermitian, and
// running it throws tp::Error: beyond the bounds T_k grows like exp(k sqrt(2 (|y| - 1))). Throws tp::Error("chebyshev", ...)
// for a radius that is not above 0, numbers that are not finite, t < 0 of a decay, and as linalg/chebyshev.hpp does.
ChebyshevSum chebyshev_exponential(const BoundedOperator& h, const UOp& psi, double t, Exponential kind,
                                   double tol);
// At several times by one recurrence, along a new leading axis of the value.
ChebyshevSum chebyshev_exponential(const BoundedOperator& h, const UOp& psi, std::span<const double> times,
                                   Exponential kind, double tol);

}  // namespace tinyphys
