// How much the loop itself rounds: running error analysis (Wilkinson 1960; Higham, section 3.3). A proof reads a step as
// formulas over the real numbers; where the program's own rounding is no small thing, as in (x + c) - c with a huge c,
// which rounds x on purpose, the two are not the same.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "uop/evaluate.hpp"

namespace tinyphys {

// For each output of a program (LAMBDA) the largest bound of what rounding makes of its elements, absolute; NaN where an
// element is NaN. The params are taken as exact, and so is what does not depend on those that are state.
std::vector<double> rounding_of(
    const Node* program, const std::function<bool(std::int64_t param)>& is_state,
    const std::function<Value<double>(std::int64_t param, const Node* node)>& value);

}  // namespace tinyphys
