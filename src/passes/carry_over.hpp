// What a step computes at its end and the next one again at its beginning, as the force of a leapfrog that is written as kick,
// drift, kick, is carried over instead. The values are the same to the bit, but for sums and functions such as
// sin, of which the first one is made by another kernel.
#pragma once

#include "uop/uop.hpp"

namespace tinyphys {

// The SCAN with more carries behind its own, or nothing where there is nothing to carry over. in_registers: the carry costs no
// memory traffic; else only what is dear to compute is kept.
UOp carry_over(const Node* scan, bool in_registers);

}  // namespace tinyphys
