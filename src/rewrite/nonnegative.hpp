// What can be said of the sign of a value without knowing it.
#pragma once

#include "uop/uop.hpp"

namespace tinyphys {

// Every element is >= 0, or not a number. Sums, products and quotients of such; squares and even powers (also
// with the two factors apart: (k * x) * x with k >= 0), |x|, exp, cosh, sqrt, numbers that rules may look at.
// False when it is not seen within a bounded walk.
bool provably_nonnegative(const Node* n);

}  // namespace tinyphys
