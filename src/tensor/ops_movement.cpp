#include <algorithm>
#include <limits>
#include <numeric>

#include "tensor/ops.hpp"
#include "uop/build.hpp"

namespace tinyphys {

using front::Call;
using front::fail;

namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// start, stop, step of SLICE on one axis, so that equal selections are equal nodes: stop stands right after
// the last element taken.
UOp take(const UOp& x, std::int64_t axis, std::int64_t first, std::int64_t count, std::int64_t step) {
  if (count == 0) return slice_axis(x, axis, 0, 0, 1);
  if (count == 1) step = 1;
  const std::int64_t last = first + (count - 1) * step;
  return slice_axis(x, axis, first, last + (step > 0 ? 1 : -1), step);
}

UOp padded(const UOp& x, const Tensor::Padding& widths, std::int64_t fill, Call call, const Where& where) {
  if (widths.size() != x->n_dim)
    fail(call, std::to_string(widths.size()) + " pairs of widths for shape " + shape_text(x->shape()), where);
  Dims arg{fill}, shape;
  bool any = false;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    const auto [before, after] = widths[i];
    if (before < 0 || after < 0)
      fail(call, "negative width {" + std::to_string(before) + "," + std::to_string(after) + "}", where);
    any |= before != 0 || after != 0;
    arg.insert(arg.end(), {before, after});
    constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
    const std::int64_t n = x->shape()[i];
    shape.push_back(before > kMax - n || after > kMax - n - before ? kMax : before + n + after);
  }
  front::check_shape(shape, call, where);  // what no number can say is too large in any case
  return any ? make(Op::PAD, {x}, arg) : x;
}

// The parts that cat and stack join, with one dtype.
std::vector<UOp> same_dtype(const std::vector<Tensor>& parts, Call call, const Where& where) {
  if (parts.empty()) fail(call, "needs at least one tensor", where);
  std::vector<UOp> values;
  for (const Tensor& t : parts) values.push_back(front::value(t, call, where));
  DType d = values[0]->dtype;
  for (const UOp& v : values) d = front::promote(d, v->dtype);
  for (UOp& v : values) v = cast(v, d);
  return values;
}

}  // namespace

Tensor Tensor::reshape(const Shape& shape, Where where) const {
  constexpr Call kCall = "reshape";
  LocationScope scope(where);
  const UOp x = front::value(*this, kCall, where);
  Dims dims(shape.begin(), shape.end());
  auto mismatch = [&] {
    fail(kCall,
         "shape " + shape_text(x->shape()) + " of " + std::to_string(x->size()) + " elements does not fit " +
             shape_text(shape),
         where);
  };
  const auto open = std::find(dims.begin(), dims.end(), -1);
  if (open != dims.end()) {
    if (std::count(open, dims.end(), -1) > 1) fail(kCall, "more than one -1 in " + shape_text(shape), where);
    *open = 1;
    front::check_shape(dims, kCall, where);
    std::int64_t rest = 1;
    for (std::int64_t d : dims) rest *= d;
    if (rest == 0 || x->size() % rest != 0) mismatch();
    *open = x->size() / rest;
  }
  front::check_shape(dims, kCall, where);
  std::int64_t size = 1;
  for (std::int64_t d : dims) size *= d;
  if (size != x->size()) mismatch();
  return tensor(tinyphys::reshape(x, dims));
}

Tensor Tensor::flatten(Where where) const { return reshape({-1}, where); }

Tensor Tensor::permute(const std::vector<std::int64_t>& axes, Where where) const {
  constexpr Call kCall = "permute";
  LocationScope scope(where);
  const UOp x = front::value(*this, kCall, where);
  Dims order;
  for (std::int64_t a : axes) order.push_back(front::axis_of(a, x->shape(), kCall, where));
  Dims sorted = order;
  std::sort(sorted.begin(), sorted.end());
  if (order.size() != x->n_dim || std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
    fail(kCall, "axes " + shape_text(axes) + " are no order of the axes of shape " + shape_text(x->shape()),
         where);
  return tensor(tinyphys::permute(x, order));
}

Tensor Tensor::transpose(Where where) const {
  LocationScope scope(where);
  const UOp x = front::value(*this, "transpose", where);
  Dims order(x->n_dim);
  std::iota(order.rbegin(), order.rend(), std::int64_t{0});
  return tensor(tinyphys::permute(x, order));
}

Tensor Tensor::transpose(std::int64_t axis_a, std::int64_t axis_b, Where where) const {
  LocationScope scope(where);
  const UOp x = front::value(*this, "transpose", where);
  const std::int64_t a = front::axis_of(axis_a, x->shape(), "transpose", where);
  const std::int64_t b = front::axis_of(axis_b, x->shape(), "transpose", where);
  Dims order(x->n_dim);
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::swap(order[at(a)], order[at(b)]);
  return tensor(tinyphys::permute(x, order));
}

Tensor Tensor::expand(const Shape& shape, Where where) const {
  constexpr Call kCall = "expand";
  LocationScope scope(where);
  const UOp x = front::value(*this, kCall, where);
  front::check_shape(shape, kCall, where);
  const auto from = x->shape();
  bool fits = from.size() <= shape.size();
  for (std::size_t i = 0; fits && i < from.size(); ++i) {
    const std::int64_t to = shape[shape.size() - from.size() + i];
    fits = from[i] == to || from[i] == 1;
  }
  if (!fits) fail(kCall, "shape " + shape_text(from) + " does not expand to " + shape_text(shape), where);
  return tensor(broadcast_to(x, shape));
}

Tensor Tensor::flip(const Axes& axes, Where where) const {
  LocationScope scope(where);
  UOp x = front::value(*this, "flip", where);
  for (std::int64_t a : front::axes_of(axes, x->shape(), "flip", where)) x = tinyphys::flip(x, a);
  return tensor(x);
}

Tensor Tensor::roll(std::int64_t shift, std::int64_t axis, Where where) const {
  LocationScope scope(where);
  const UOp x = front::value(*this, "roll", where);
  const std::int64_t a = front::axis_of(axis, x->shape(), "roll", where), n = x->shape()[at(a)];
  if (n == 0) return *this;
  const std::int64_t s = (shift % n + n) % n;
  return s == 0 ? *this : tensor(make(Op::ROLL, {x}, {a, s}));
}

Tensor Tensor::slice(std::int64_t axis, std::int64_t start, std::int64_t stop, std::int64_t step,
                     Where where) const {
  constexpr Call kCall = "slice";
  LocationScope scope(where);
  const UOp x = front::value(*this, kCall, where);
  const std::int64_t a = front::axis_of(axis, x->shape(), kCall, where), n = x->shape()[at(a)];
  const front::Stride s = front::stride_of(start, stop, step, n, kCall, where);
  return tensor(take(x, a, s.first, s.count, s.step));
}

Tensor Tensor::select(std::int64_t axis, std::int64_t index, Where where) const {
  constexpr Call kCall = "select";
  LocationScope scope(where);
  const UOp x = front::value(*this, kCall, where);
  const std::int64_t a = front::axis_of(axis, x->shape(), kCall, where), n = x->shape()[at(a)];
  if (index < -n || index >= n)
    fail(kCall,
         "index " + std::to_string(index) + " is out of range for axis " + std::to_string(a) + " of shape " +
             shape_text(x->shape()),
         where);
  return tensor(index_axis(x, a, index < 0 ? index + n : index));
}

Tensor Tensor::operator[](const Arg& index) const {
  if (index.kind() == Arg::Kind::kInteger) return select(0, index.as_int(), index.where());
  return gather(Arg(*this, index.where()), index, 0);
}

Tensor Tensor::pad(const Padding& widths, Where where) const {
  LocationScope scope(where);
  return tensor(padded(front::value(*this, "pad", where), widths, 0, "pad", where));
}
Tensor Tensor::pad(const Padding& widths, const Arg& fill) const {
  constexpr Call kCall = "pad";
  LocationScope scope(fill.where());
  const UOp x = front::value(*this, kCall, fill.where());
  if (!fill.is_number()) fail(kCall, "fill must be a C++ number, not a tensor", fill.where());
  const UOp value = uop(fill, x->dtype, kCall);
  if (!is_complex(x->dtype)) return tensor(padded(x, widths, value->arg(1), kCall, fill.where()));
  const UOp inside = tinyphys::full(DType::kBool, x->shape(), 1);
  const UOp zeros = padded(x, widths, 0, kCall, fill.where());
  return tensor(
      where(padded(inside, widths, 0, kCall, fill.where()), zeros, broadcast_to(value, zeros->shape())));
}

std::vector<Tensor> Tensor::split(std::int64_t parts, std::int64_t axis, Where where) const {
  constexpr Call kCall = "split";
  const UOp x = front::value(*this, kCall, where);
  const std::int64_t a = front::axis_of(axis, x->shape(), kCall, where), n = x->shape()[at(a)];
  if (parts <= 0 || n % parts != 0)
    fail(kCall,
         "axis " + std::to_string(a) + " of shape " + shape_text(x->shape()) + " does not split into " +
             std::to_string(parts) + " equal parts",
         where);
  return split_sizes(std::vector<std::int64_t>(at(parts), n / parts), a, where);
}

std::vector<Tensor> Tensor::split_sizes(const std::vector<std::int64_t>& sizes, std::int64_t axis,
                                        Where where) const {
  constexpr Call kCall = "split_sizes";
  LocationScope scope(where);
  const UOp x = front::value(*this, kCall, where);
  const std::int64_t a = front::axis_of(axis, x->shape(), kCall, where), n = x->shape()[at(a)];
  front::check_shape(sizes, kCall, where);
  if (std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}) != n)
    fail(kCall,
         "sizes " + shape_text(sizes) + " do not add up to axis " + std::to_string(a) + " of shape " +
             shape_text(x->shape()),
         where);
  std::vector<Tensor> out;
  std::int64_t start = 0;
  for (std::int64_t size : sizes) {
    out.push_back(tensor(take(x, a, start, size, 1)));
    start += size;
  }
  return out;
}

Tensor Tensor::squeeze(const Axes& axes, Where where) const {
  constexpr Call kCall = "squeeze";
  LocationScope scope(where);
  const UOp x = front::value(*this, kCall, where);
  Dims drop = front::axes_of(axes, x->shape(), kCall, where), shape;
  for (std::size_t i = 0; i < x->n_dim; ++i) {
    const bool named = std::binary_search(drop.begin(), drop.end(), static_cast<std::int64_t>(i));
    if (named && !axes.all() && x->shape()[i] != 1)
      fail(kCall, "axis " + std::to_string(i) + " of shape " + shape_text(x->shape()) + " is not 1", where);
    if (!named || x->shape()[i] != 1) shape.push_back(x->shape()[i]);
  }
  return tensor(tinyphys::reshape(x, shape));
}

Tensor Tensor::unsqueeze(std::int64_t axis, Where where) const {
  constexpr Call kCall = "unsqueeze";
  LocationScope scope(where);
  const UOp x = front::value(*this, kCall, where);
  const std::int64_t rank = static_cast<std::int64_t>(x->n_dim) + 1;
  if (axis < -rank || axis >= rank)
    fail(kCall,
         "axis " + std::to_string(axis) + " is out of range for a result with " + std::to_string(rank) +
             " axes",
         where);
  return tensor(repeat_axis(x, axis < 0 ? axis + rank : axis, 1));
}

Tensor cat(const std::vector<Tensor>& parts, std::int64_t axis, Where where) {
  constexpr Call kCall = "cat";
  LocationScope scope(where);
  const std::vector<UOp> values = same_dtype(parts, kCall, where);
  const auto first = values[0]->shape();
  const std::int64_t a = front::axis_of(axis, first, kCall, where);
  for (const UOp& v : values) {
    bool fits = v->n_dim == first.size();
    for (std::size_t i = 0; fits && i < first.size(); ++i) fits = i == at(a) || v->shape()[i] == first[i];
    if (!fits)
      fail(kCall,
           "shapes " + shape_text(first) + " and " + shape_text(v->shape()) + " do not join along axis " +
               std::to_string(a),
           where);
  }
  return tensor(tinyphys::cat(values, a));
}

Tensor stack(const std::vector<Tensor>& parts, std::int64_t axis, Where where) {
  constexpr Call kCall = "stack";
  LocationScope scope(where);
  const std::vector<UOp> values = same_dtype(parts, kCall, where);
  const std::int64_t rank = static_cast<std::int64_t>(values[0]->n_dim) + 1;
  if (axis < -rank || axis >= rank)
    fail(kCall,
         "axis " + std::to_string(axis) + " is out of range for a result with " + std::to_string(rank) +
             " axes",
         where);
  for (const UOp& v : values)
    if (!same_shape(v.get(), values[0].get()))
      fail(kCall, "shapes " + shape_text(values[0]->shape()) + " and " + shape_text(v->shape()) + " differ",
           where);
  return tensor(tinyphys::stack(values, axis < 0 ? axis + rank : axis));
}

}  // namespace tinyphys
