// What an operation means, spelled out in operations that a renderer has.
#pragma once

#include "codegen/program.hpp"

namespace tinyphys {

// What the text of a target can say in one operation, with the meaning of evaluate.hpp; the rest is spelled out.
struct RenderCaps {
  bool integer_extrema = false;   // MAX and MIN of integers
  bool saturating_casts = false;  // CAST of a float to an integer: saturates, NaN is 0
};

// Operations that a machine has under another meaning, or not at all, become sequences of those that it has:
//   DIV, MOD of integers   never divide by 0 (which gives 0) or by -1 (MIN / -1 wraps); MOD has the divisor's sign
//   MOD of floats          the exact remainder, moved to the divisor's sign
//   MAX, MIN of floats     NaN when either is NaN
//   POWI, POW of integers  products; POWI of floats beyond |k| = 4 is POW
//   CAST                   of floats to integers saturates
//   across lanes           a reduction by halves
//   arithmetic of bools    logic
// and SIGN, ABS of integers, ... A named pass of lower.cpp.
Program lower_operations(const Program& p, const RenderCaps& caps);

}  // namespace tinyphys
