#include "tinyphys/scan.hpp"

#include <string>

#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys::detail {

using front::describe;
using front::fail;

void wrong_number_of_xs(std::size_t taken, std::size_t given, Where where) {
  fail("scan", "step takes " + std::to_string(taken) + " per-step inputs, .xs has " + std::to_string(given),
       where);
}

StepResult scan(const StepFunction& step, const std::vector<Tensor>& carry, std::int64_t n,
                const std::vector<Tensor>& xs, Where where) {
  constexpr std::string_view kCall = "scan";
  if (n < 0) fail(kCall, "the number of steps is " + std::to_string(n), where);

  const Tensor index = tensor(symbol(DType::kInt64, {}));
  std::vector<UOp> params{uop(index)}, src{UOp(), constant_int(n)};
  std::vector<Tensor> carry_symbols, rows;
  for (const Tensor& c : carry) {
    const UOp u = front::value(c, kCall, where);
    src.push_back(u);
    params.push_back(symbol(u->dtype, u->shape()));
    carry_symbols.push_back(tensor(params.back()));
  }
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const UOp u = front::value(xs[i], kCall, where);
    if (u->shape().empty() || u->shape()[0] != n)
      fail(kCall,
           ".xs " + std::to_string(i) + " is " + describe(u.get()) +
               ": its first axis must be the number of "
               "steps, " +
               std::to_string(n),
           where);
    src.push_back(u);
    params.push_back(symbol(u->dtype, u->shape().subspan(1)));
    rows.push_back(tensor(params.back()));
  }

  const StepResult next = step(index, carry_symbols, rows);
  if (next.carry.size() != carry.size())
    fail(kCall,
         "step takes a carry of " + std::to_string(carry.size()) + " tensors and returns " +
             std::to_string(next.carry.size()),
         where);
  std::vector<UOp> outputs;
  for (std::size_t i = 0; i < carry.size(); ++i) {
    outputs.push_back(front::value(next.carry[i], kCall, where));
    const Node *before = src[2 + i].get(), *after = outputs.back().get();
    if (before->dtype != after->dtype || !same_shape(before, after))
      fail(kCall,
           "carry " + std::to_string(i) + " enters a step as " + describe(before) + " and leaves it as " +
               describe(after),
           where);
  }
  for (const Tensor& o : next.outs) outputs.push_back(front::value(o, kCall, where));

  LocationScope scope(where);
  StepResult result;
  if (n == 0) {
    result.carry = carry;
    for (std::size_t j = carry.size(); j < outputs.size(); ++j) {
      Dims shape = shape_of(outputs[j].get());
      shape.insert(shape.begin(), 0);
      result.outs.push_back(tensor(full(outputs[j]->dtype, shape, 0)));
    }
    return result;
  }
  std::vector<UOp> extra;
  src[0] = close_lambda(outputs, params, extra);
  src.insert(src.end(), extra.begin(), extra.end());
  const std::int64_t counts[] = {static_cast<std::int64_t>(carry.size()),
                                 static_cast<std::int64_t>(xs.size())};
  const UOp all = make(Op::SCAN, std::span<const UOp>(src), counts);
  for (std::size_t i = 0; i < outputs.size(); ++i)
    (i < carry.size() ? result.carry : result.outs).push_back(tensor(get(all, static_cast<std::int64_t>(i))));
  return result;
}

}  // namespace tinyphys::detail
