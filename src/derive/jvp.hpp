// Forward mode on graphs.
//
// The tangent of a SCAN is a SCAN over (carry, tangent). The tangent of an evolution is an evolution of the
// tangent-lifted Hamiltonian (the variational equations). With
//   H'(q, dq; dp, p) = H_q . dq + H_p . dp + H_c . dc       (dp conjugate to q, p conjugate to dq)
// Hamilton's equations of H' are those of H and their linearisation. H' is separable or quadratic where H is,
// and the tangent of a leapfrog, midpoint or exact step of H is that step of H', so what passes prove of H
// they prove of H'. A derivative by dt is one by a captured number h: a step of dt under H is a step of 1
// under h H.
#pragma once

#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// d output / d wrt applied to the tangents (null = zero), one per output; null where it is zero for every
// input. A wrt is an independent variable also where it depends on another wrt.
std::vector<UOp> jvp(std::span<const UOp> outputs, std::span<const UOp> wrt, std::span<const UOp> tangents);

}  // namespace tinyphys
