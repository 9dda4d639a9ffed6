// What of a body does not depend on its state, and what the runtime makes of it (PHYSICS section 1).
//
// Recognition reads the state's part of a graph as formulas over the real numbers. The rest is what it is when the
// program runs: 1 / 49 * 49 - 1 is -1.1e-16 there, not 0.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "analysis/degree.hpp"
#include "uop/evaluate.hpp"

namespace tinyphys {

struct Independent {
  UOp body;  // a PARAM, numbered on from the body's own, in place of each subgraph below
  std::vector<UOp>
      values;  // the largest subgraphs over the body's PARAMs that are free of state and that round
};
// What is exact stays in the body: movement, negation, selection, integers.
Independent take_out_independent(const Node* body, std::span<const StateGroup> params);

// Axes along which a value is the same at every place, as bits. Structure decides: expanded axes, and what is computed from
// such values element by element. `order`: sources before users.
using AxisBits = std::uint64_t;
NodeMap<AxisBits> repeated_axes(std::span<Node* const> order);

// Numbers behind PARAMs, by their number; none for data.
using Constants = std::vector<std::optional<Value<double>>>;

// Per node of the body: can its value be computed here with the bits that every device gives it?
NodeMap<char> known_nodes(std::span<Node* const> roots, std::span<const StateGroup> params,
                          const Constants& constants);

// The values of known nodes, with the rounding of their dtypes.
std::vector<Value<double>> fold(std::span<Node* const> known, const Constants& constants);

}  // namespace tinyphys
