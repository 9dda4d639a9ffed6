#include "tinyphys/transforms.hpp"

#include <numeric>
#include <string>

#include "derive/gradient.hpp"
#include "derive/jvp.hpp"
#include "derive/vmap.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

using front::describe;
using front::fail;

std::vector<UOp> nodes(const std::vector<Tensor>& tensors, std::string_view call, const Where& where) {
  std::vector<UOp> out;
  for (const Tensor& t : tensors) out.push_back(front::value(t, call, where));
  return out;
}
std::vector<Tensor> wrapped(std::span<const UOp> values) {
  std::vector<Tensor> out;
  for (const UOp& v : values) out.push_back(tensor(v));
  return out;
}

void check_float(const UOp& x, std::size_t i, std::string_view call, const Where& where) {
  if (!is_float(x->dtype) && !is_complex(x->dtype))
    fail(call,
         "argument " + std::to_string(i) + " is " + describe(x.get()) +
             ": derivatives need a float or complex dtype",
         where);
}
void check_loss(const UOp& loss, const std::string& what, std::string_view call, const Where& where) {
  if (!loss->shape().empty()) fail(call, what + " must be a scalar, got " + describe(loss.get()), where);
  if (is_complex(loss->dtype))
    fail(call,
         what + " is " + describe(loss.get()) +
             ": it must be real, as real(z) or abs(z); vjp takes a complex output",
         where);
  if (!is_float(loss->dtype))
    fail(call, what + " must be of float dtype, got " + describe(loss.get()), where);
}

// f at fresh symbols. The values of the arguments come in afterwards, so that equal arguments stay distinct,
// and nothing that f captures is taken for one of them.
struct Trace {
  std::vector<UOp> symbols, outputs;

  Trace(const detail::Function& f, std::span<const UOp> like, std::string_view call, const Where& where) {
    for (const UOp& x : like) symbols.push_back(symbol(x->dtype, x->shape()));
    outputs = nodes(f(wrapped(symbols)), call, where);
  }
  std::vector<UOp> at(std::span<const UOp> values, std::span<const UOp> graphs) const {
    NodeMap<UOp> actual;
    for (std::size_t i = 0; i < symbols.size(); ++i) actual.insert(symbols[i].get(), values[i]);
    return substitute(graphs, [&](Node* n) {
      const UOp* v = actual.find(n);
      return v ? *v : UOp();
    });
  }
};

void fill_zeros(std::vector<UOp>& values, std::span<const UOp> like) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!values[i]) values[i] = zeros_like(like[i]);
}

void check_directions(std::span<const UOp> given, std::span<const UOp> of, const std::string& noun,
                      const std::string& of_noun, std::string_view call, const Where& where) {
  if (given.size() != of.size())
    fail(call,
         std::to_string(given.size()) + " " + noun + "s for " + std::to_string(of.size()) + " " + of_noun +
             "s",
         where);
  for (std::size_t i = 0; i < given.size(); ++i)
    if (given[i]->dtype != of[i]->dtype || !same_shape(given[i].get(), of[i].get()))
      fail(call,
           noun + " " + std::to_string(i) + " is " + describe(given[i].get()) + ", but its " + of_noun +
               " is " + describe(of[i].get()),
           where);
}

}  // namespace

std::vector<Tensor> gradient(const Tensor& loss, const std::vector<Tensor>& wrt, Where where) {
  constexpr std::string_view kCall = "gradient";
  const UOp scalar = front::value(loss, kCall, where);
  check_loss(scalar, "the loss", kCall, where);
  const std::vector<UOp> x = nodes(wrt, kCall, where);
  for (std::size_t i = 0; i < x.size(); ++i) {
    check_float(x[i], i, kCall, where);
    if (!(x[i]->flags & (Node::kHasBuffer | Node::kHasSym)))
      fail(kCall,
           "argument " + std::to_string(i) +
               " is a constant, the same value wherever it is written: make it "
               "data with clone() before the loss is built, or use grad(f)(...)",
           where);
  }
  LocationScope scope(where);
  return wrapped(gradient(scalar, x));
}

namespace detail {

ValueAndGradients value_and_gradients(std::string_view call, const Function& f, const std::vector<Tensor>& x,
                                      Where where) {
  const std::vector<UOp> values = nodes(x, call, where);
  for (std::size_t i = 0; i < values.size(); ++i) check_float(values[i], i, call, where);
  const Trace trace(f, values, call, where);
  if (trace.outputs.size() != 1)
    fail(call, "f must return one scalar, got " + std::to_string(trace.outputs.size()) + " tensors", where);
  check_loss(trace.outputs[0], "what f returns", call, where);
  LocationScope scope(where);
  std::vector<UOp> results = gradient(trace.outputs[0], trace.symbols);
  results.push_back(trace.outputs[0]);
  results = trace.at(values, results);
  ValueAndGradients out{tensor(results.back()), {}};
  results.pop_back();
  out.gradients = wrapped(results);
  return out;
}

Linearized jvp(const Function& f, const std::vector<Tensor>& x, const std::vector<Tensor>& tangents,
               Where where) {
  const std::vector<UOp> values = nodes(x, "jvp", where), directions = nodes(tangents, "jvp", where);
  for (std::size_t i = 0; i < values.size(); ++i) check_float(values[i], i, "jvp", where);
  check_directions(directions, values, "tangent", "argument", "jvp", where);
  const Trace trace(f, values, "jvp", where);
  LocationScope scope(where);
  std::vector<UOp> moved = tinyphys::jvp(trace.outputs, trace.symbols, directions);
  fill_zeros(moved, trace.outputs);
  return {wrapped(trace.at(values, trace.outputs)), wrapped(trace.at(values, moved))};
}

Linearized vjp(const Function& f, const std::vector<Tensor>& x, const std::vector<Tensor>& cotangents,
               Where where) {
  const std::vector<UOp> values = nodes(x, "vjp", where), weights = nodes(cotangents, "vjp", where);
  for (std::size_t i = 0; i < values.size(); ++i) check_float(values[i], i, "vjp", where);
  const Trace trace(f, values, "vjp", where);
  check_directions(weights, trace.outputs, "cotangent", "output", "vjp", where);
  LocationScope scope(where);
  std::vector<UOp> pulled = tinyphys::vjp(trace.outputs, weights, trace.symbols);
  fill_zeros(pulled, values);
  return {wrapped(trace.at(values, trace.outputs)), wrapped(trace.at(values, pulled))};
}

std::vector<Tensor> vmap(const Function& f, const std::vector<Tensor>& x, Where where) {
  const std::vector<UOp> values = nodes(x, "vmap", where);
  if (values.empty()) fail("vmap", "needs at least one argument", where);
  std::vector<UOp> rows;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto shape = values[i]->shape();
    if (shape.empty())
      fail("vmap",
           "argument " + std::to_string(i) +
               " is a scalar: it has no axis to map over; what all share is captured, or repeated (a State "
               "has its time, .t)",
           where);
    if (shape[0] != values[0]->shape()[0])
      fail("vmap", "arguments have first axes of different length: " + front::shape_list(values), where);
    rows.push_back(symbol(values[i]->dtype, shape.subspan(1)));
  }
  const Trace trace(f, rows, "vmap", where);
  LocationScope scope(where);
  std::vector<UOp> out = tinyphys::vmap(trace.outputs, trace.symbols, values);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (!out[i]) out[i] = repeat_axis(trace.outputs[i], 0, values[0]->shape()[0]);
  return wrapped(out);
}

Tensor hessian(const Function& f, const Tensor& x, Where where) {
  constexpr std::string_view kCall = "hessian";
  const UOp value = front::value(x, kCall, where);
  check_float(value, 0, kCall, where);
  if (is_complex(value->dtype))
    fail(kCall,
         "argument 0 is " + describe(value.get()) + ": take the hessian by the parts, of a real [..., 2]",
         where);
  const Trace trace(f, std::span(&value, 1), kCall, where);
  if (trace.outputs.size() != 1)
    fail(kCall, "f must return one scalar, got " + std::to_string(trace.outputs.size()) + " tensors", where);
  check_loss(trace.outputs[0], "what f returns", kCall, where);
  LocationScope scope(where);
  const UOp slope = gradient(trace.outputs[0], trace.symbols).front();
  const UOp direction = symbol(value->dtype, value->shape());
  const UOp moved = tinyphys::jvp(std::span(&slope, 1), trace.symbols, std::span(&direction, 1)).front();

  const std::int64_t n = value->size();
  Dims shape = shape_of(value.get()), rows = shape;
  shape.insert(shape.end(), value->shape().begin(), value->shape().end());
  rows.insert(rows.begin(), n);
  if (!moved) return tensor(full(value->dtype, shape, 0));
  const Dims square{n, n};
  const UOp row = broadcast_to(reshape(iota(n), Dims{n, 1}), square), column = broadcast_to(iota(n), square);
  const UOp basis = reshape(cast(compare(Op::EQ, row, column), value->dtype), rows);
  const UOp all =
      tinyphys::vmap(std::span(&moved, 1), std::span(&direction, 1), std::span(&basis, 1)).front();
  return tensor(trace.at(std::span(&value, 1), std::vector<UOp>{reshape(all, shape)}).front());
}

}  // namespace detail
}  // namespace tinyphys
