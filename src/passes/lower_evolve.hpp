// EVOLVE -> SCAN: the loop that the integrator means, one step per pass.
#pragma once

#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// dH/dq and dH/dp of an energy LAMBDA with params [q, p, captured...], as a LAMBDA of the same params.
UOp force_lambda(const Node* energy, const Node* q, const Node* p);

// The q and p after all steps: GETs of one SCAN.
//   LeapfrogKDK       p -= h/2 dH/dq(q); q += h dH/dp(p); p -= h/2 dH/dq(q), the force carried from step to step
//   LeapfrogDKD       q += h/2 dH/dp(p); p -= h dH/dq(q); q += h/2 dH/dp(p)
//   ImplicitMidpoint  z' = z + h J grad H((z + z')/2) by fixed-point iteration, checked for convergence
// Exact has no loop; it throws.
std::vector<UOp> lower_evolve(const Node* evolve);

}  // namespace tinyphys
