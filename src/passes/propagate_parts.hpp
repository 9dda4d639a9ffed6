// What the passes share that put a PROPAGATE in the place of a loop.
#pragma once

#include <vector>

#include "uop/graph.hpp"

namespace tinyphys {

// Params of the loop beside the jump, one for each source from the steps on: [steps, state..., captured...]. What is a
// number when the plan runs the loop takes as one.
inline std::vector<UOp> loop_params(const std::vector<UOp>& sources) {
  std::vector<UOp> params;
  for (std::size_t i = 2; i < sources.size(); ++i) {
    const Node* n = sources[i].get();
    const bool number = n->op == Op::CONST || (n->op == Op::PARAM && n->arg(2) != 0);
    params.push_back(param(static_cast<std::int64_t>(i) - 2, n->dtype, n->shape(), number));
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
