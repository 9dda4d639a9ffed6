// EVOLVE of Method::Split -> its loop: the exact flow of the terms of degree <= 2, with kicks by the others between.
#pragma once

#include <string_view>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// How the loop applies the flow, which is one affine map for all steps.
enum class FlowKind {
  kBlocks,  // no coordinate is joined with another: 2 x 2 numbers for each
  kMatrix,  // a matrix of 2 n x 2 n
  kJump     // a jump in every step, by whatever way there is for the flow
};
// Decided by structure. `evolve` has its terms told apart (EvolveRecord::flows).
FlowKind flow_kind(const Node* evolve);
inline constexpr std::int64_t kMostFlowRows = 512;  // of kMatrix: n

// q and p after all steps. With R(h) the flow, and V the other terms:
//   R(h/2); then in each step  p -= h A^T grad V(A q), R(h);  and R(-h/2) at the end.
// A is 1, or of the mollified impulse: A q = R_qp(h) M q / h, which is sinc(h Omega) q for frequencies Omega and masses M
// (Garcia-Archilla, Sanz-Serna and Skeel, SIAM J. Sci. Comput. 20, 1998). Where Impulse::Auto leaves the choice, A is 1 if
// h^2 times the largest row sum of |M^-1 K|, which no Omega^2 exceeds, is at most 1; a flow of kind kJump is mollified.
std::vector<UOp> lower_split(const Node* evolve);

// The terms that are taken by their flow (or those that kick) as a LAMBDA of the energy's params; null where there are none.
UOp energy_of_flow(const Node* evolve, bool flow);

}  // namespace tinyphys
