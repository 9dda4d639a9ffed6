// Lowering of SCAN_VJP and EVOLVE_VJP to scans: the tape.
#pragma once

#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// GET i of a SCAN_VJP for each i, as two scans over the same steps:
//   forward   the scan itself, which also stacks the carry that enters each step (the tape);
//   reverse   from the last step to the first: carry = (cotangents of the carry, sums of the cotangents of
//   captured),
//             xs = (tape, xs, cotangents of the outputs), all reversed; body = vjp of the body; outs =
//             cotangents of xs.
// Memory: steps * size of the carry. wanted (empty: all): entries that are not wanted are null and cost
// nothing where they are cotangents of xs or captured. No SCAN_VJP is left in the bodies. An index is the
// scan's own: n - 1 - i.
std::vector<UOp> lower_scan_vjp(const Node* scan_vjp, const std::vector<bool>& wanted = {});

// GET i of an EVOLVE_VJP for each i: the vjp of the lowered EVOLVE, with no derivative call left. Throws where the
// integrator has no loop.
std::vector<UOp> lower_evolve_vjp(const Node* evolve_vjp, const std::vector<bool>& wanted = {});

// The roots with every SCAN_VJP and EVOLVE_VJP lowered, in the bodies of scans and evolutions too.
std::vector<UOp> lower_vjps(std::span<const UOp> roots);

}  // namespace tinyphys
