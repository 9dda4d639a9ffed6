// The key of a plan: the graph with its data and its numbers taken out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tinyphys/error.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// One argument of a plan: a value in memory, or the bits of a number.
struct Argument {
  StorageRef data;
  std::int64_t scalar = 0;
};

struct Canonical {
  // LAMBDA over PARAMs: realized values (kind 0) and numbers that rules may not look at (kind 1). Interned, so that
  // equal structure is the same node: the plan cache is a map by address.
  UOp program;
  std::vector<Argument> arguments;
  std::vector<const Node*> nodes;  // that the arguments are the values of
};

// Throws tp::Error when a value depends on a symbol of an open trace (item() inside grad, scan or System).
// `has_loops`: false where it is known that no scan, evolution or derivative of one is among the nodes.
Canonical canonicalize(std::span<const UOp> values, bool has_loops = true);

// An error of a run, told at the line of its own call: a plan, and the body of a loop, name the lines of who used them
// first. Where more than one call of these values may be meant, all are named.
Error at_own_place(const Error& e, std::span<const UOp> values);

}  // namespace tinyphys
