#include <cmath>
#include <cstring>

#include "tensor/ops.hpp"
#include "uop/build.hpp"

namespace tinyphys {

using front::Call;
using front::fail;

Tensor Tensor::from_memory(const void* values, std::size_t count, DType dtype, const Shape& shape,
                           Where where) {
  constexpr Call kCall = "from";
  LocationScope scope(where);
  front::check_shape(shape, kCall, where);
  std::int64_t size = 1;
  for (std::int64_t d : shape) size *= d;
  if (static_cast<std::size_t>(size) != count)
    fail(kCall, std::to_string(count) + " values do not fill shape " + shape_text(shape), where);
  StorageRef data = front::allocate(dtype, shape, kCall, where);
  if (count) std::memcpy(HostWrite(*data).data(), values, count * item_size(dtype));
  return tensor(buffer(dtype, shape, std::move(data)));
}

void Tensor::ragged(Where where) { fail("from", "the nested lists differ in length", where); }

namespace {

Tensor filled(Call call, const Shape& shape, DType d, double v, const Where& where) {
  LocationScope scope(where);
  front::check_shape(shape, call, where);
  if (item_size(d) == 0) fail(call, "void is no element type", where);
  return tensor(full(d, shape, v));
}

// The elements of arange and linspace are made from plain numbers.
double finite_number(Call call, const Arg& a) {
  if (!a.is_number()) fail(call, "needs C++ numbers, got a tensor", a.where());
  const double v = a.as_double();
  if (a.kind() == Arg::Kind::kComplex) fail(call, "the number is complex, needs a real one", a.where());
  if (!std::isfinite(v)) fail(call, "the number " + front::number_text(v) + " is not finite", a.where());
  return v;
}

UOp ramp(std::int64_t n, DType d) { return cast(iota(n), d); }

Tensor range(const Arg& start, const Arg& stop, const Arg& step, DType dtype) {
  constexpr Call kCall = "arange";
  const Where& where = start.where();
  LocationScope scope(where);
  const double a = finite_number(kCall, start), b = finite_number(kCall, stop),
               h = finite_number(kCall, step);
  if (h == 0) fail(kCall, "step is 0", where);
  const bool real = front::common_dtype({&start, &stop, &step}, kCall) == DType::kFloat64;
  const double count = std::ceil((b - a) / h);
  constexpr double kMaxCount = 1e15;
  if (count > kMaxCount) fail(kCall, front::number_text(count) + " elements are too many", where);
  std::int64_t n = count > 0 ? static_cast<std::int64_t>(count) : 0;
  if (!real) {  // doubles round beyond 2^53
    const auto from = static_cast<std::uint64_t>(start.as_int()),
               to = static_cast<std::uint64_t>(stop.as_int());
    const auto by = static_cast<std::uint64_t>(step.as_int());
    const bool up = step.as_int() > 0;
    const bool some = up ? start.as_int() < stop.as_int() : start.as_int() > stop.as_int();
    n = some ? static_cast<std::int64_t>(((up ? to - from : from - to) - 1) / (up ? by : 0 - by) + 1) : 0;
  }
  const DType work = real ? DType::kFloat64 : DType::kInt64;
  UOp x = ramp(n, work);
  auto number = [&](const Arg& v) { return broadcast_to(uop(v, work, kCall), x->shape()); };
  if (h != 1) x = make(Op::MUL, {x, number(step)});
  if (a != 0) x = make(Op::ADD, {x, number(start)});
  return tensor(cast(x, dtype == DType::kVoid ? work : dtype));
}

}  // namespace

Tensor Tensor::zeros(const Shape& shape, DType dtype, Where where) {
  return filled("zeros", shape, dtype, 0, where);
}
Tensor Tensor::ones(const Shape& shape, DType dtype, Where where) {
  return filled("ones", shape, dtype, 1, where);
}

Tensor Tensor::full(const Shape& shape, const Arg& value, DType dtype) {
  constexpr Call kCall = "full";
  LocationScope scope(value.where());
  front::check_shape(shape, kCall, value.where());
  UOp v = dtype == DType::kVoid ? front::value(value, kCall) : uop(value, dtype, kCall);
  if (v->n_dim != 0)
    fail(kCall, "the value is " + front::describe(v.get()) + ", needs one number", value.where());
  if (dtype != DType::kVoid) v = cast(v, dtype);
  return tensor(broadcast_to(v, shape));
}

Tensor Tensor::arange(const Arg& stop, DType dtype) {
  return range(Arg(0, stop.where()), stop, Arg(1), dtype);
}
Tensor Tensor::arange(const Arg& start, const Arg& stop, DType dtype) {
  return range(start, stop, Arg(1), dtype);
}
Tensor Tensor::arange(const Arg& start, const Arg& stop, const Arg& step, DType dtype) {
  return range(start, stop, step, dtype);
}

Tensor Tensor::linspace(const Arg& start, const Arg& stop, std::int64_t n, DType dtype) {
  constexpr Call kCall = "linspace";
  const Where& where = start.where();
  LocationScope scope(where);
  const double a = finite_number(kCall, start), b = finite_number(kCall, stop);
  if (n < 0) fail(kCall, "negative number of elements " + std::to_string(n), where);
  if (item_size(dtype) == 0) fail(kCall, "void is no element type", where);
  const Dims shape{n};
  auto number = [&](double v) { return tinyphys::full(DType::kFloat64, shape, v); };
  if (n < 2) return tensor(cast(number(a), dtype));
  // start + (n - 1) * step may miss stop by a rounding: the last element is put in.
  const UOp i = iota(n);
  const UOp inner =
      add(number(a), mul(cast(i, DType::kFloat64), number((b - a) / static_cast<double>(n - 1))));
  const UOp last = make(Op::EQ, {i, broadcast_to(constant_int(n - 1), shape)});
  return tensor(cast(make(Op::WHERE, {last, number(b), inner}), dtype));
}

Tensor Tensor::eye(std::int64_t n, std::int64_t m, DType dtype, Where where) {
  LocationScope scope(where);
  if (m < 0) m = n;
  const Dims shape{n, m};
  front::check_shape(shape, "eye", where);
  if (item_size(dtype) == 0) fail("eye", "void is no element type", where);
  const UOp row = broadcast_to(tinyphys::reshape(iota(n), Dims{n, 1}), shape),
            column = broadcast_to(iota(m), shape);
  return tensor(cast(make(Op::EQ, {row, column}), dtype));
}

Tensor zeros_like(const Arg& x) {
  LocationScope scope(x.where());
  return tensor(zeros_like(front::value(x, "zeros_like")));
}
Tensor ones_like(const Arg& x) {
  LocationScope scope(x.where());
  return tensor(ones_like(front::value(x, "ones_like")));
}
Tensor full_like(const Arg& x, const Arg& value) {
  const UOp like = front::value(x, "full_like");
  return Tensor::full(Shape(like->shape().begin(), like->shape().end()), value, like->dtype);
}

}  // namespace tinyphys
