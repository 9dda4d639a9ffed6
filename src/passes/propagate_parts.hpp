// What the passes share that put a PROPAGATE in the place of a loop.
#pragma once

#include <span>
#include <vector>

#include "uop/graph.hpp"

namespace tinyphys {

// Params of the loop beside the jump, one for each of its values: [steps, state..., captured...]. What is a number when the
// plan runs the loop takes as one.
inline std::vector<UOp> loop_params(std::span<const UOp> values) {
  std::vector<UOp> params;
  for (const UOp& v : values) {
    const bool number = v->op == Op::CONST || (v->op == Op::PARAM && v->arg(2) != 0);
    params.push_back(param(static_cast<std::int64_t>(params.size()), v->dtype, v->shape(), number));
  }
  return params;
}

// A value over PARAMs, at these arguments.
inline UOp over(const UOp& value, const std::vector<UOp>& arguments) {
  return substitute(value, [&](Node* n) {
    return n->op == Op::PARAM ? arguments[static_cast<std::size_t>(n->arg(0))] : UOp();
  });
}

}  // namespace tinyphys
