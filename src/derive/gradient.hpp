// Reverse mode on graphs.
//
// A SCAN or EVOLVE gives one SCAN_VJP or EVOLVE_VJP node, which a later pass lowers (scan_tape.hpp).
// Derivatives of these are again whole: with L the tangent-lifted call (jvp.hpp) of F,
//   vjp of (x, c) -> F'(x)^T c  at cotangent m:  for c the tangent outputs of L(x, m), for x the pull-back of
//   c through them. So gradients of any order keep the primitives that the physics passes look for.
#pragma once

#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// Sum over outputs of cotangent^T d output / d wrt, one per wrt; null where it is zero for every input (no
// path). A null cotangent is zero. Where one wrt depends on another, each gets its total derivative.
std::vector<UOp> vjp(std::span<const UOp> outputs, std::span<const UOp> cotangents, std::span<const UOp> wrt);

// The gradient of a float scalar; zeros where there is no path.
std::vector<UOp> gradient(const UOp& scalar, std::span<const UOp> wrt);

}  // namespace tinyphys
