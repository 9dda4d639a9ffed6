// The named passes of a kernel, each KernelGraph -> KernelGraph in place; lower.cpp lists them in order.
#pragma once

#include "codegen/kernel.hpp"
#include "codegen/linearize.hpp"

namespace tinyphys {

// Reads of a rolled tensor, x[WHERE(c, a, b)], become WHERE(c, x[a], x[b]): each half moves evenly with the
// lanes, where the whole would be a gather.
void pass_split_rolled_loads(KernelGraph& k);

// A long reduction with few results is cut into fixed blocks: one nest fills an array of partial results, the
// next adds them up. The blocks depend on the shapes only, so the value does not depend on the threads.
void pass_split_long_reductions(KernelGraph& k);

// Chooses the vector ranges of each nest by estimated cost.
void pass_choose_lanes(KernelGraph& k, const Target& target);

// Lanes of a scan kernel: its members side by side.
void pass_put_members_in_lanes(KernelGraph& k, const Target& target);

// Chooses the range that is cut into units of work, and estimates the time of the nest.
void pass_choose_parallel(KernelGraph& k, const Target& target);

// Cycles of a nest with these lanes: every node runs once per value of the loops it depends on.
double estimate_cycles(const LoopNest& nest, IndexMath& math, const Dependence& dependence);
// Calls a vector math library: keeps few values across, so wide unrolling does not pay.
bool is_library_call(const Node* n);

}  // namespace tinyphys
