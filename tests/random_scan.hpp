// Random loops, over what RandomGraph draws.
#pragma once

#include <cstdint>
#include <vector>

#include "random_graph.hpp"
#include "uop/build.hpp"

namespace tinyphys::testing {

// An output of a loop of up to 6 steps: some carries, rows of xs, captured values, the number of the step, stacked
// outputs, an end by `until`. Its values come from `source`.
inline UOp random_scan(RandomGraph& random, DType d, const Dims& s, const RandomGraph::Source& source) {
  ScanParts p;
  const bool stacked = !s.empty() && s[0] > 0 && s[0] <= 6 && random.one_in(3);
  const std::int64_t steps = stacked ? s[0] : random.below(7);
  p.steps = constant_int(steps);
  std::vector<UOp> inside;
  if (random.one_in(2)) inside.push_back(p.index = symbol(DType::kInt64, Dims{}));
  const auto param = [&](std::vector<UOp>& params, DType of, const Dims& of_shape) {
    params.push_back(symbol(of, of_shape));
    inside.push_back(params.back());
  };
  for (std::int64_t c = 0, n = 1 + random.below(2); c < n; ++c) {
    const bool first = c == 0;
    const DType of = first || random.one_in(2) ? d : random.dtype();
    const Dims of_shape = first && stacked            ? Dims(s.begin() + 1, s.end())
                          : first || random.one_in(2) ? s
                                                      : random.shape();
    param(p.carry_params, of, of_shape);
    p.carry.push_back(source(of, of_shape));
  }
  for (std::int64_t x = random.below(2); x > 0; --x) {
    const UOp& like = random.pick(p.carry);
    param(p.row_params, like->dtype, shape_of(like.get()));
    Dims rows = shape_of(like.get());
    rows.insert(rows.begin(), steps);
    p.xs.push_back(source(like->dtype, rows));
  }
  const RandomGraph::Source bottom = [&](DType of, const Dims& of_shape) {
    return random.from(inside, of, of_shape);
  };
  for (const UOp& carry : p.carry)
    p.next.push_back(random.deep(carry->dtype, shape_of(carry.get()), 3, bottom));
  if (stacked) p.outs.push_back(random.deep(d, Dims(s.begin() + 1, s.end()), 2, bottom));
  if (random.one_in(4)) p.until = random.deep(DType::kBool, Dims{}, 2, bottom);
  return get(make_scan(p), stacked ? static_cast<std::int64_t>(p.carry.size()) : 0);
}

}  // namespace tinyphys::testing
