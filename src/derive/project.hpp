// Projection of a state onto the manifold of its invariants, as a graph (PHYSICS section 6).
//
// Newton's method on g(z - M^-1 G^T x) = g0, G = dg/dz at the z of the moment (Hairer, Lubich and Wanner, Geometric Numerical
// Integration, IV.4):
//
//   z -= M^-1 G^T (G M^-1 G^T)^-1 (g(z) - g0)
//
// An iteration is taken where |g - g0| falls by it, so that it cannot leave z worse, nor NaN.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// Scalars of (q, p), one for each member of an ensemble: of the shape of the first n_batch axes of q and p.
struct Invariants {
  UOp q, p;                  // symbols
  std::vector<UOp> values;   // over them, and whatever else they capture
  std::vector<UOp> targets;  // of their shapes
  UOp masses;                // M of q, 1 / M of p; broadcasts to q; null: 1
  std::size_t n_batch = 0;
  bool once = false;  // one iteration, whatever it does
};

struct Projected {
  UOp q, p;
  UOp iterations;  // int64 scalar, of all members together
};
Projected project(const Invariants& invariants, const UOp& q, const UOp& p);

// The step of an integrator from a state.
using StepOf = std::function<std::pair<UOp, UOp>(const UOp& q, const UOp& p)>;

struct SymmetricallyProjected {
  UOp q, p;
  UOp iterations;  // int64 scalar, of all members together
  UOp restless;    // int64 scalar: members whose iterations did not come to rest
};
// The step from q and p, off the manifold before it and back on to it by the same multipliers (the symmetric projection of V.4.1).
SymmetricallyProjected project_around(const Invariants& invariants, const UOp& q, const UOp& p,
                                      const StepOf& step);

// The sum of the |terms| of a value, as it is written: through sums, reductions of sums, negation, movement, and products and
// quotients by what does not depend on the leaves. What the rounding of the value is proportional to.
UOp sum_of_magnitudes(const UOp& value, const std::vector<UOp>& leaves);

}  // namespace tinyphys
