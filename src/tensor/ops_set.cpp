// Writing as a function: a new tensor that differs from the old one at some places. All of it is movement and WHERE,
// so that derivatives, batches and kernels come from those.
#include <algorithm>
#include <string>

#include "tensor/ops.hpp"
#include "uop/build.hpp"

namespace tinyphys {

using front::Call;
using front::fail;

namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// The value to write, in x's dtype and this shape.
UOp written(const UOp& x, const Arg& value, std::span<const std::int64_t> shape, Call call) {
  const UOp v = x->dtype == DType::kBool ? front::value(value, call) : uop(value, x->dtype, call);
  front::check_devices(x, v, call, value.where());
  if (!front::same_kind(v->dtype, x->dtype))
    fail(call,
         "the value is " + std::string(name(v->dtype)) + ", the tensor " + std::string(name(x->dtype)) +
             "; use astype",
         value.where());
  bool fits = v->n_dim <= shape.size();
  for (std::size_t i = 0; fits && i < v->n_dim; ++i) {
    const std::int64_t from = v->shape()[i], to = shape[shape.size() - v->n_dim + i];
    fits = from == to || from == 1;
  }
  if (!fits)
    fail(call, "a value of shape " + shape_text(v->shape()) + " does not broadcast to " + shape_text(shape),
         value.where());
  return broadcast_to(cast(v, x->dtype), shape);
}

// x with `block` put in where `mask` is; both are (before, after) per axis away from the edges of x. The mask has extent
// 1 along axes that the block fills.
UOp put(const UOp& x, const UOp& block, const UOp& mask, std::span<const std::int64_t> before_after) {
  const UOp inside = broadcast_to(pad_zeros(mask, before_after), x->shape());
  return where(inside, pad_zeros(block, before_after), x);
}

// The elements of x along the axis with step - 1 zeros after each but the last.
UOp spread(const UOp& x, std::int64_t axis, std::int64_t step) {
  if (step == 1) return x;
  Dims columns = shape_of(x.get()), flat = columns;
  columns.insert(columns.begin() + axis + 1, 1);
  Dims widths(2 * columns.size(), 0);
  widths[at(2 * axis + 3)] = step - 1;
  flat[at(axis)] *= step;
  return slice_axis(reshape(pad_zeros(reshape(x, columns), widths), flat), axis, 0,
                    flat[at(axis)] - step + 1);
}

UOp set_position(const UOp& x, const std::vector<std::int64_t>& position, const Arg& value, Call call) {
  if (position.size() > x->n_dim)
    fail(call, std::to_string(position.size()) + " positions for shape " + shape_text(x->shape()),
         value.where());
  Dims before_after(2 * x->n_dim, 0), block = shape_of(x.get());
  for (std::size_t i = 0; i < position.size(); ++i) {
    const std::int64_t n = x->shape()[i];
    if (position[i] < -n || position[i] >= n)
      fail(call,
           "index " + std::to_string(position[i]) + " is out of range for axis " + std::to_string(i) +
               " of shape " + shape_text(x->shape()),
           value.where());
    before_after[2 * i] = position[i] < 0 ? position[i] + n : position[i];
    before_after[2 * i + 1] = n - 1 - before_after[2 * i];
    block[i] = 1;
  }
  const auto rest = x->shape().subspan(position.size());
  const UOp mask = full(DType::kBool, Dims(x->n_dim, 1), 1);
  return put(x, reshape(written(x, value, rest, call), block), mask, before_after);
}

// For each of n rows the last k with index[k] = row, -1 where there is none; index[k] lies in [0, n). The winner's
// bits are found from the highest down: of the candidates for a row those that have the bit stay, if there are any.
// Only sums of integers are needed, so that the order in which a device adds does not matter.
UOp last_writer(const UOp& index, std::int64_t n) {
  constexpr DType kInt = DType::kInt64;
  const std::int64_t count = index->size();
  const Dims rows{n}, entries{count};
  const UOp k = iota(count);
  auto scattered = [&](const UOp& base, const UOp& values) {
    return make(Op::SCATTER_ADD, {base, index, values}, {std::int64_t{0}});
  };
  auto number = [&](std::int64_t v) { return broadcast_to(constant_int(v), entries); };
  UOp candidate = full(DType::kBool, entries, 1);
  std::int64_t bit = 1;
  while (bit < count) bit *= 2;
  for (bit /= 2; bit > 0; bit /= 2) {
    const UOp set = compare(Op::LE, number(bit), make(Op::MOD, {k, number(2 * bit)}));
    const UOp has = make(Op::AND, {candidate, set});
    const UOp counted =
        make(Op::GATHER, {scattered(full(kInt, rows, 0), cast(has, kInt)), index}, {std::int64_t{0}});
    candidate = where(compare(Op::LT, number(0), counted), has, candidate);
  }
  return scattered(full(kInt, rows, -1), where(candidate, make(Op::ADD, {k, number(1)}), number(0)));
}

UOp set_indices(const UOp& x, const Tensor& indices, const Arg& value, Call call) {
  const UOp given = front::value(indices, call, value.where());
  if (given->dtype == DType::kBool)
    fail(call, "the index is " + front::describe(given.get()) + "; for a mask write where(mask, value, x)",
         value.where());
  const std::int64_t axis0 = 0;
  if (x->n_dim == 0) fail(call, "a 0-d tensor has no axis to index", value.where());
  const std::int64_t n = x->shape()[0], count = given->size();
  const UOp index = front::index_value(call, x, Arg(indices, value.where()), 0);
  Dims shape = shape_of(index.get()), whole = shape_of(x.get());
  shape.insert(shape.end(), whole.begin() + 1, whole.end());
  front::check_shape(shape, call, value.where());
  const UOp v = written(x, value, shape, call);
  if (count == 0 || x->size() == 0) return x;

  // GATHER turns negative indices to positive ones and is where an index out of range is found.
  const UOp row = make(Op::GATHER, {iota(n), reshape(index, Dims{count})}, {axis0});
  Dims column(x->n_dim, 1);
  column[0] = n;
  auto along_rows = [&](const UOp& c) { return broadcast_to(reshape(c, column), x->shape()); };
  if (count == 1) {
    const UOp hit = compare(Op::EQ, iota(n), broadcast_to(row, Dims{n}));
    Dims one = whole;
    one[0] = 1;
    return where(along_rows(hit), broadcast_to(reshape(v, one), whole), x);
  }
  const UOp writer = last_writer(row, n), zero = zeros_like(writer);
  Dims flat(whole.begin(), whole.end());
  flat[0] = count;
  const UOp source = make(Op::GATHER, {reshape(v, flat), make(Op::MAX, {writer, zero})}, {axis0});
  return where(along_rows(compare(Op::LE, zero, writer)), source, x);
}

}  // namespace

Tensor set(const Tensor& x, const Position& at, const Arg& value) {
  constexpr Call kCall = "set";
  LocationScope scope(value.where());
  const UOp base = front::value(x, kCall, value.where());
  return tensor(at.is_tensor() ? set_indices(base, at.indices(), value, kCall)
                               : set_position(base, at.list(), value, kCall));
}

Tensor Tensor::slice_set(std::int64_t axis, std::int64_t start, std::int64_t stop, const Arg& value,
                         std::int64_t step) const {
  constexpr Call kCall = "slice_set";
  const Where& where = value.where();
  LocationScope scope(where);
  const UOp x = front::value(*this, kCall, where);
  const std::int64_t a = front::axis_of(axis, x->shape(), kCall, where), n = x->shape()[at(a)];
  const front::Stride s = front::stride_of(start, stop, step, n, kCall, where);
  Dims shape = shape_of(x.get());
  shape[at(a)] = s.count;
  UOp v = written(x, value, shape, kCall);
  if (v->size() == 0) return *this;
  if (s.step < 0) v = tinyphys::flip(v, a);
  const std::int64_t last = s.first + (s.count - 1) * s.step;
  Dims before_after(2 * x->n_dim, 0);
  before_after[at(2 * a)] = std::min(s.first, last);
  before_after[at(2 * a + 1)] = n - 1 - std::max(s.first, last);
  const std::int64_t step_size = s.step < 0 ? -s.step : s.step;
  Dims along(x->n_dim, 1);
  along[at(a)] = s.count;
  const UOp mask = tinyphys::full(DType::kBool, along, 1);
  return tensor(put(x, spread(v, a, step_size), spread(mask, a, step_size), before_after));
}

}  // namespace tinyphys
