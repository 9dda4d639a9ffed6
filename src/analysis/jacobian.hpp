// The matrix and offset of an affine body, read off the graph: forward accumulation of first-order dual numbers in
// double-double, with one sparse row per element. Each column is an exact Jacobian-vector product with a basis
// vector; only entries that exist are ever stored, so that a chain of 10^6 sites stays O(n).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "analysis/degree.hpp"
#include "support/dd.hpp"
#include "uop/evaluate.hpp"

namespace tinyphys {

struct AffineForm {
  std::int64_t n_state = 0;             // columns: the elements of the state params, in param order
  std::vector<std::int64_t> row_start;  // one row per element of the outputs, in output order; size rows + 1
  std::vector<std::int64_t> col;
  std::vector<DD> value;
  std::vector<DD> offset;  // the outputs at state 0
  std::string reason;      // why it could not be read; empty when it could
};

// Values of the params that are not state: the inputs of the loop.
using ParamValue = std::function<Value<double>(std::int64_t param, const Node* node)>;

// The body must be affine in its state (proved before): the derivative is taken at state 0 and holds everywhere.
// `columns`: only these, ascending; empty: all.
AffineForm extract_affine(const Node* body, std::span<const StateGroup> params, const ParamValue& value,
                          std::span<const std::int64_t> columns = {});

}  // namespace tinyphys
