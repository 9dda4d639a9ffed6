// EVOLVE of Method::Split -> its loop: the exact flow of the terms of degree <= 2, with kicks by the others between.
#pragma once

#include <string_view>
#include <vector>

#include "derive/flow_map.hpp"
#include "support/integrators.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// How the loop applies the flow. Decided by structure. `evolve` has its terms told apart (EvolveRecord::flows).
FlowKind flow_kind(const Node* evolve);

// A split step: flows over parts of h, with kicks over parts of h between, flows[0] first and last flows.back().
struct SplitStep {
  std::vector<double> flows, kicks;

  // The composition of an integrator's row, with the flow in the place of its kicks, and kicks in that of its drifts.
  explicit SplitStep(const IntegratorRow& row);
  // Flow, kick and flow of w h one after the other, w being the kicks': what has a mollified impulse of its own.
  bool composed() const;
};
// Whether the row is kicks and drifts that begin and end with a kick.
bool is_split_step(const IntegratorRow& row);

// q and p after all steps. With R(h) the flow, and V the other terms, one step of order 2 is
//   R(h/2);  p -= h A^T grad V(A q);  R(h/2)
// and the row of another integrator composes it, or its parts, to a higher order; flows that meet are one.
// A is 1, or of the mollified impulse: A q = R_qp(h) M q / h, which is sinc(h Omega) q for frequencies Omega and masses M
// (Garcia-Archilla, Sanz-Serna and Skeel, SIAM J. Sci. Comput. 20, 1998); in a composition h is the part of the step that is
// composed, so that each is that step of order 2, symmetric. Where Impulse::Auto leaves the choice, A is 1 if h^2 times the
// largest row sum of |M^-1 K|, which no Omega^2 exceeds, is at most 1 for the largest part h; a flow of kind kJump is mollified.
std::vector<UOp> lower_split(const Node* evolve);

// The terms that are taken by their flow (or those that kick) as a LAMBDA of the energy's params; null where there are none.
UOp energy_of_flow(const Node* evolve, bool flow);

}  // namespace tinyphys
