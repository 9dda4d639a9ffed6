// Uniform values: one CONST at every place of a shape, as the front end broadcasts a number:
// EXPAND(RESHAPE(CONST, [1,1]), [3,4]), without the parts that would change nothing.
#pragma once

#include <cstdint>
#include <span>

#include "uop/uop.hpp"

namespace tinyphys {

// The CONST that n repeats, or null. Sees through a few EXPAND and RESHAPE only: simplified graphs hold at most
// one of each, and a bound keeps a long chain of movement from being walked once a node.
inline Node* uniform_const(const Node* n) {
  constexpr int kMaxWrappers = 4;
  for (int i = 0; i < kMaxWrappers && (n->op == Op::EXPAND || n->op == Op::RESHAPE); ++i) n = n->src(0);
  return n->op == Op::CONST ? const_cast<Node*>(n) : nullptr;
}

// The CONST c at every place of `shape`.
UOp uniform(const UOp& c, std::span<const std::int64_t> shape);
UOp uniform(double v, DType d, std::span<const std::int64_t> shape);

// n is exactly what uniform() makes for its constant and shape.
bool is_canonical_uniform(const Node* n);

// Ops whose rounding IEEE 754 fixes: every device gives the same bits.
bool rounds_the_same_everywhere(Op op);

// The value of an elementwise node over uniform sources, computed by the evaluator, hence with the rounding that
// the node has at run time; null where it is not folded:
// - functions that a device may round differently (sin, pow, ...);
// - a result that rules may not look at (is_structural_const) from sources that all are such constants. A closed
//   body holds no other numbers, and folding keeps it so.
UOp fold_constants(const Node* n);

}  // namespace tinyphys
