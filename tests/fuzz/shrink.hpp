// A small graph that still fails, in place of a large one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys::fuzz {

using Fails = std::function<bool(const std::vector<UOp>&)>;

// Fewer roots, nodes replaced by their values or by what they are made of, loops that take fewer steps and hold less,
// simpler values in the leaves: as long as `fails` says yes.
std::vector<UOp> shrink(std::vector<UOp> roots, const Fails& fails);

// The graph, and the values of its leaves.
std::string to_readable(const std::vector<UOp>& roots);

}  // namespace tinyphys::fuzz
