// Lowering of SCAN_VJP and EVOLVE_VJP to scans: the tape.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// GET i of a SCAN_VJP or EVOLVE_VJP for each i that is wanted, without a tape; empty where that is not known to be possible.
using LiftVjp = std::function<std::vector<UOp>(const Node* vjp, const std::vector<bool>& wanted)>;

// The roots with every SCAN_VJP and EVOLVE_VJP lowered, in the bodies of scans and evolutions too. A SCAN_VJP becomes two
// scans over the same steps:
//   forward   the scan itself, which also stacks the carry that enters each step (the tape);
//   reverse   from the last step to the first: carry = (cotangents of the carry, sums of the cotangents of captured),
//             xs = (tape, xs, cotangents of the outputs), all reversed; body = vjp of the body; outs = cotangents of xs.
// Memory: steps * size of the carry. What is not wanted costs nothing where it is a cotangent of xs or captured. An index
// is the scan's own: n - 1 - i. An EVOLVE_VJP becomes the vjp of the lowered EVOLVE: throws where the integrator has no loop.
// What `lift` makes of either comes before all that.
std::vector<UOp> lower_vjps(std::span<const UOp> roots, const LiftVjp& lift = {});

}  // namespace tinyphys
