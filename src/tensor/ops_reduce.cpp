#include <algorithm>

#include "tensor/ops.hpp"
#include "uop/build.hpp"

namespace tinyphys {
namespace {

using front::Call;
using front::fail;

// The axes of a reduction and what follows from them.
struct Plan {
  Dims axes;
  Dims kept;               // shape of the result
  Dims with_ones;          // the same with keepdims
  std::int64_t count = 1;  // elements in each result
};

Plan plan_of(const UOp& x, const Axes& axes, Call call, const Where& where) {
  Plan p;
  p.axes = front::axes_of(axes, x->shape(), call, where);
  for (std::size_t i = 0; i < x->n_dim; ++i) {
    const std::int64_t d = x->shape()[i];
    const bool reduced = std::binary_search(p.axes.begin(), p.axes.end(), static_cast<std::int64_t>(i));
    p.with_ones.push_back(reduced ? 1 : d);
    if (reduced)
      p.count *= d;
    else
      p.kept.push_back(d);
  }
  return p;
}

// The later stages see no reduction over nothing, nor over one element.
UOp reduced(Reduction kind, const UOp& x, const Plan& p, bool keepdims, Call call, const Where& where) {
  const Dims& shape = keepdims ? p.with_ones : p.kept;
  if (p.count == 0 && (kind == Reduction::kMax || kind == Reduction::kMin))
    fail(call, "no elements along axes " + shape_text(p.axes) + " of shape " + shape_text(x->shape()), where);
  if (p.count == 0 || x->size() == 0) return full(x->dtype, shape, kind == Reduction::kProd ? 1 : 0);
  if (p.count == 1) return reshape(x, shape);
  return reshape(reduce(kind, x, p.axes), shape);
}

UOp reduce_checked(Reduction kind, const UOp& x, const Axes& axes, bool keepdims, Call call,
                   const Where& where) {
  return reduced(kind, x, plan_of(x, axes, call, where), keepdims, call, where);
}

// Sums of counts and of int32 are taken in int64.
UOp widened(const UOp& x) {
  return x->dtype == DType::kBool || x->dtype == DType::kInt32 ? cast(x, DType::kInt64) : x;
}

// bool has no max of its own: any is the max of 0 and 1.
UOp extremum(Reduction kind, const UOp& x, const Axes& axes, bool keepdims, Call call, const Where& where) {
  front::check_real(x->dtype, call, where);
  if (x->dtype != DType::kBool) return reduce_checked(kind, x, axes, keepdims, call, where);
  return cast(reduce_checked(kind, widened(x), axes, keepdims, call, where), DType::kBool);
}

}  // namespace

Tensor Tensor::sum(const Axes& axes, KeepDims keepdims, Where where) const {
  LocationScope scope(where);
  const UOp x = widened(front::value(*this, "sum", where));
  return tensor(reduce_checked(Reduction::kSum, x, axes, keepdims, "sum", where));
}
Tensor Tensor::prod(const Axes& axes, KeepDims keepdims, Where where) const {
  LocationScope scope(where);
  const UOp x = widened(front::value(*this, "prod", where));
  return tensor(reduce_checked(Reduction::kProd, x, axes, keepdims, "prod", where));
}
Tensor Tensor::mean(const Axes& axes, KeepDims keepdims, Where where) const {
  LocationScope scope(where);
  UOp x = front::value(*this, "mean", where);
  x = cast(x, front::float_dtype(x->dtype));
  const Plan p = plan_of(x, axes, "mean", where);
  const UOp total = reduced(Reduction::kSum, x, p, keepdims, "mean", where);
  return tensor(div(total, full_like(total, static_cast<double>(p.count))));
}
Tensor Tensor::max(const Axes& axes, KeepDims keepdims, Where where) const {
  LocationScope scope(where);
  return tensor(extremum(Reduction::kMax, front::value(*this, "max", where), axes, keepdims, "max", where));
}
Tensor Tensor::min(const Axes& axes, KeepDims keepdims, Where where) const {
  LocationScope scope(where);
  return tensor(extremum(Reduction::kMin, front::value(*this, "min", where), axes, keepdims, "min", where));
}
Tensor Tensor::norm(const Axes& axes, KeepDims keepdims, Where where) const {
  LocationScope scope(where);
  UOp x = front::value(*this, "norm", where);
  x = cast(x, front::float_dtype(x->dtype));
  const auto squared = [](const UOp& v) { return mul(v, v); };
  const UOp squares = is_complex(x->dtype) ? add(squared(real_part(x)), squared(imag_part(x))) : squared(x);
  return tensor(unary(Op::SQRT, reduce_checked(Reduction::kSum, squares, axes, keepdims, "norm", where)));
}

namespace {

Tensor truth(Call call, Reduction kind, const Tensor& t, const Axes& axes, bool keepdims,
             const Where& where) {
  LocationScope scope(where);
  const UOp x = front::value(t, call, where);
  if (x->dtype != DType::kBool) fail(call, "needs bool, got " + front::describe(x.get()), where);
  const Plan p = plan_of(x, axes, call, where);
  // any of nothing is false, all of nothing is true.
  if (p.count == 0)
    return tensor(full(DType::kBool, keepdims ? p.with_ones : p.kept, kind == Reduction::kMin ? 1 : 0));
  return tensor(extremum(kind, x, axes, keepdims, call, where));
}

}  // namespace

Tensor Tensor::any(const Axes& axes, KeepDims keepdims, Where where) const {
  return truth("any", Reduction::kMax, *this, axes, keepdims, where);
}
Tensor Tensor::all(const Axes& axes, KeepDims keepdims, Where where) const {
  return truth("all", Reduction::kMin, *this, axes, keepdims, where);
}

Tensor Tensor::cumsum(std::int64_t axis, Where where) const {
  LocationScope scope(where);
  const UOp x = widened(front::value(*this, "cumsum", where));
  const std::int64_t a = front::axis_of(axis, x->shape(), "cumsum", where);
  if (x->size() == 0 || x->shape()[static_cast<std::size_t>(a)] == 1) return tensor(x);
  return tensor(make(Op::CUMSUM, {x}, {a}));
}

}  // namespace tinyphys
