// What the passes share that put a PROPAGATE in the place of a loop.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "derive/gradient_rules.hpp"
#include "derive/jvp.hpp"
#include "linalg/affine_power.hpp"
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
// Whether that is powered where the state is: its blocks are twice as large. A state of larger blocks is not powered either way,
// and may be a lattice.
inline bool tangent_is_powered(std::int64_t member) {
  return 2 * member <= AffinePower::kMaxOrder || member > AffinePower::kMaxOrder;
}

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

// How many coordinates a member has, all parts of a state together: what `body` makes of its PARAMs from `first` on, the
// state, is proven to join none of one with those of another, along the leading axes.
std::int64_t size_of_member(const Node* body, std::size_t first, std::span<Node* const> state);

// A gradient by what a PROPAGATE captures, by sums over its steps: a PROPAGATE_VJP.
struct GradientBySums {
  UOp propagate;
  std::vector<UOp> cotangents;  // of the state at the end
  std::int64_t rows = 0;        // of a member: size_of_member, or that of q
  std::vector<std::size_t> by;  // which of what it captures
  bool separable = false;       // output i of the map moves with part i of the state alone
  // What the map gives, of the state and of what is captured, as the loop takes it.
  std::function<std::vector<UOp>(std::span<const UOp> state, std::span<const UOp> captured)> map = {};
  // The gradient over a tape; none where there is no loop.
  std::function<std::vector<UOp>(const UOp& steps, std::span<const UOp> state, std::span<const UOp> captured,
                                 std::span<const UOp> cotangents)>
      tape = {};
};
// Empty where there are too many sums to keep.
std::vector<UOp> by_sums(const GradientBySums& of);

}  // namespace tinyphys
