// What the steps of an evolution are made of, in the body of a loop: made before the loop where nothing of it changes there.
#pragma once

#include <functional>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// The outputs of the SCAN (those of its GETs) with the EVOLVEs in its body lowered for which `lower` gives q and p, and with
// what they compute by loops and jumps from captured values alone taken out of the body, as captured values. Empty where
// nothing is taken out.
std::vector<UOp> hoist_flows(const Node* scan,
                             const std::function<std::vector<UOp>(const Node* evolve)>& lower);

}  // namespace tinyphys
