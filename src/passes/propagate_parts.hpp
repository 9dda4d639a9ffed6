// What the passes share that put a PROPAGATE in the place of a loop.
#pragma once

#include <span>
#include <vector>

#include "derive/gradient_rules.hpp"
#include "derive/jvp.hpp"
#include "uop/build.hpp"
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

// By how many numbers a gradient goes forward: the loop of the state and its tangent for each.
inline constexpr std::size_t kMostNumbers = 4;

// The cotangent of input i, a number, of a SCAN_VJP or EVOLVE_VJP, by that.
inline UOp by_number(const VjpCall& call, std::size_t i) {
  std::vector<UOp> inputs = call.inputs;
  inputs[i] = symbol_like(call.inputs[i].get());  // a fresh symbol: two inputs may be one node
  const UOp along = ones_like(call.inputs[i]);
  const auto moved = jvp(outputs_of(call.primal(inputs)), std::span(&inputs[i], 1), std::span(&along, 1));
  UOp sum = constant(0.0);
  for (std::size_t k = 0; k < moved.size(); ++k)
    if (moved[k]) sum = add(sum, dot(call.cotangents[k], moved[k]));
  return reshape(substitute(sum, [&](Node* n) { return n == inputs[i].get() ? call.inputs[i] : UOp(); }),
                 call.inputs[i]->shape());
}

}  // namespace tinyphys
