// Lowering of SCAN_VJP and EVOLVE_VJP to scans: the tape, checkpoints, undone steps.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// GET i of a SCAN_VJP or EVOLVE_VJP for each i that is wanted, without a tape; empty where that is not known to be possible.
using LiftVjp = std::function<std::vector<UOp>(const Node* vjp, const std::vector<bool>& wanted)>;

// The roots with every SCAN_VJP and EVOLVE_VJP lowered, in the bodies of scans and evolutions too. A SCAN_VJP becomes scans
// over the same steps (derive/way_back.hpp says which are taken):
//   forward   the scan itself, which also stacks the carry that enters each step (the tape);
//   reverse   from the last step to the first: carry = (cotangents of the carry, sums of the cotangents of captured),
//             xs = (tape, xs, cotangents of the outputs), all reversed; body = vjp of the body; outs = cotangents of xs.
// Over checkpoints both are done block by block, the last first, each from the state kept where it begins: the sums go on from
// block to block, so that every number is the same as over one tape. Blocks of undone steps are alike, but what stacks the
// states is a scan of undone steps from the state after the block.
// What is not wanted costs nothing where it is a cotangent of xs or captured. An EVOLVE_VJP becomes the vjp of the lowered
// EVOLVE: throws where the integrator has no loop. What `lift` makes of either comes before all that.
// may_undo: false where what is made is differentiated again.
std::vector<UOp> lower_vjps(std::span<const UOp> roots, const LiftVjp& lift = {}, bool may_undo = true);

}  // namespace tinyphys
