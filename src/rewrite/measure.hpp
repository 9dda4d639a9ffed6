// Why rewriting ends.
#pragma once

#include <cstdint>

#include "uop/uop.hpp"

namespace tinyphys {

// What every rule lowers: the work of the graph written out as a tree.
//
//   measure(n) = weight(op) (1 + elements it works on) + the measures of its sources (twice for POW, POWI)
//
// REDUCE works on its source's elements, once and once more for each axis. The weights say what is dearer than what: powers, then DIV,
// then other arithmetic, then negation and logic; movement is cheap, and a number broadcast to a shape costs less
// than any op. They count their source twice because x^2 becomes x*x.
// Strictly increasing in the measure of each source, so a rule that lowers it at one node lowers it for the graph:
// no sequence of rewrites is endless. Saturates at 2^62; for tests, on small graphs.
std::int64_t measure(const Node* n);

}  // namespace tinyphys
