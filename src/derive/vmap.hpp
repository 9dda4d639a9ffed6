// Batching of graphs: the graph of one example becomes the graph of many.
#pragma once

#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// outputs, a graph over inputs[i], at values[i] = a stack of inputs[i] along a new leading axis (one length
// for all). Each result has that leading axis, or is null where the output does not depend on the inputs.
// What does not depend on a batched value stays as it is; a product of a batch with one matrix stays one
// matrix product.
//   SCAN: the same number of steps for all. EVOLVE: independent systems are one system, H = sum of H_b; a
//   batched time step h_b is a step of 1 under h_b H_b.
std::vector<UOp> vmap(std::span<const UOp> outputs, std::span<const UOp> inputs, std::span<const UOp> values);

}  // namespace tinyphys
