#include "tinyphys/scan.hpp"

#include <string>

#include "derive/fixed_point.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys::detail {

using front::describe;
using front::fail;

void wrong_number_of_xs(std::size_t plain_rows, std::size_t rows_with_index, std::size_t given, Where where) {
  std::string takes;
  if (plain_rows != kNotTaken) takes = std::to_string(plain_rows);
  if (plain_rows != kNotTaken && rows_with_index != kNotTaken)
    takes = std::to_string(rows_with_index) + " or " + takes;
  else if (rows_with_index != kNotTaken)
    takes = std::to_string(rows_with_index);
  const bool index_meant = rows_with_index == kNotTaken && plain_rows == given + 1;
  fail("scan",
       "step takes " + takes + " per-step inputs, .xs has " + std::to_string(given) +
           (index_meant ? "; for the number of the step the first parameter is an Index" : ""),
       where);
}

void wrong_until(std::size_t taken, std::size_t given, Where where) {
  fail("scan",
       ".until takes " + std::to_string(taken) + " tensors, the carry has " + std::to_string(given) +
           ": it takes the carry as step does, without Index and xs",
       where);
}

StepResult record_scan(const StepFunction& step, const std::vector<Tensor>& carry, std::int64_t n,
                       const ScanOptions& options, Where where) {
  constexpr std::string_view kCall = "scan";
  const std::vector<Tensor>& xs = options.xs.list();
  if (n < 0) fail(kCall, "the number of steps is " + std::to_string(n), where);

  ScanParts s;
  s.index = symbol(DType::kInt64, {});
  s.steps = constant_int(n);
  s.method = options.method;
  if (options.reversible < Reversible::Auto || options.reversible > Reversible::Exact)
    fail(kCall, "there is no Reversible number " + std::to_string(static_cast<int>(options.reversible)),
         where);
  s.reversible = options.reversible;
  std::vector<Tensor> carry_symbols, rows;
  for (const Tensor& c : carry) {
    s.carry.push_back(front::value(c, kCall, where));
    s.carry_params.push_back(symbol_like(s.carry.back().get()));
    carry_symbols.push_back(tensor(s.carry_params.back()));
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
    s.xs.push_back(u);
    s.row_params.push_back(symbol_of_row(u.get()));
    rows.push_back(tensor(s.row_params.back()));
  }

  const StepResult next = step(tensor(s.index), carry_symbols, rows);
  if (next.carry.size() != carry.size())
    fail(kCall,
         "step takes a carry of " + std::to_string(carry.size()) + " tensors and returns " +
             std::to_string(next.carry.size()),
         where);
  for (std::size_t i = 0; i < carry.size(); ++i) {
    s.next.push_back(front::value(next.carry[i], kCall, where));
    const Node *before = s.carry[i].get(), *after = s.next.back().get();
    if (before->dtype != after->dtype || !same_shape(before, after))
      fail(kCall,
           "carry " + std::to_string(i) + " enters a step as " + describe(before) + " and leaves it as " +
               describe(after),
           where);
  }
  for (const Tensor& o : next.outs) s.outs.push_back(front::value(o, kCall, where));
  if (options.until) {
    s.until = front::value(options.until(next.carry, where), kCall, where);
    if (s.until->dtype != DType::kBool || !s.until->shape().empty())
      fail(kCall, ".until must give a bool scalar, got " + describe(s.until.get()), where);
  }

  LocationScope scope(where);
  if (options.reversible == Reversible::Exact) {
    s.range =
        options.range.size() == 1 ? std::vector<double>(s.carry.size(), options.range[0]) : options.range;
    s.range.resize(s.carry.size());
    if (options.range.size() > 1 && options.range.size() != s.carry.size())
      fail(kCall,
           ".range has " + std::to_string(options.range.size()) + " numbers, the carry " +
               std::to_string(s.carry.size()) + " tensors",
           where);
    for (std::size_t i = 0; i < s.carry.size(); ++i)
      if (is_complex(s.carry[i]->dtype))
        fail(kCall,
             "Reversible::Exact: part " + std::to_string(i) + " of the state is " +
                 std::string(name(s.carry[i]->dtype)) + ", it must be float64",
             where);
    if (const std::string why = fixed_refusal(s); !why.empty())
      fail(kCall, "Reversible::Exact: " + why, where);
    if (const std::string why = start_refusal(s); !why.empty())
      fail(kCall, "Reversible::Exact: " + why, where);
  }
  StepResult result;
  if (n == 0) {
    result.carry = carry;
    for (const UOp& o : s.outs) {
      Dims shape = shape_of(o.get());
      shape.insert(shape.begin(), 0);
      result.outs.push_back(tensor(full(o->dtype, shape, 0)));
    }
    return result;
  }
  const UOp all = make_scan(s);
  std::int64_t i = 0;
  for (std::size_t c = 0; c < carry.size(); ++c) result.carry.push_back(tensor(get(all, i++)));
  for (std::size_t o = 0; o < s.outs.size(); ++o) result.outs.push_back(tensor(get(all, i++)));
  return result;
}

}  // namespace tinyphys::detail
