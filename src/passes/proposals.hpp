// What Method::Auto proposes for an evolution that stays a loop: other methods that would take fewer steps, from the curvature of
// each term of H at the state that it is given. A proposal changes nothing.
#pragma once

#include "support/records.hpp"
#include "uop/scan_layout.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// Of an EVOLVE of kicks and drifts, H = T(p) + V(q) with T quadratic, without levels, by the largest eigenvalue omega^2 of
// M^-1 d2V/dq2 of each term: at the start, and everywhere of a term of degree <= 2.
//   Split     the terms of degree <= 2 are stiffer than the others: their step could be as long against the others' omega
//   levels    a named term is stiffer than the others: those could be kicked less often (RESPA), short of half a period of it
//   TimeWarp  of one body or two: V < 0 is homogeneous of degree -1 (gravity), and the start is far from a / r = U / (2 |E|) = 1, its mean by the
//             virial theorem: on an ellipse the eccentricity is at least |1 - r / a|
// Each with the reason and the expected gain, where that is at least 1.2; else why it is not known. Nothing where the values or
// the state are not known when the evolution is recorded, or there are more than 128 coordinates, but why.
Records find_proposals(const Node* evolve, const Labels& labels);

}  // namespace tinyphys
