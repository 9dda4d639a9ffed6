#include "tensor/ops.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "support/devices.hpp"
#include "tinyphys/count.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"

namespace tinyphys {

std::int64_t Count::whole(double n, std::source_location where) {
  constexpr double kTwo63 = 9223372036854775808.0;
  if (!(n == std::trunc(n) && n >= -kTwo63 && n < kTwo63)) not_whole(n, where);
  return static_cast<std::int64_t>(n);
}
void Count::not_whole(double n, std::source_location where) {
  front::fail("steps", "a number of steps must be whole and fit int64, got " + front::number_text(n), where);
}

UOp uop(const Arg& a, DType d, std::string_view call) {
  if (!a.is_number()) return front::value(a.tensor(), call, a.where());
  if (a.kind() == Arg::Kind::kComplex) {
    if (!is_complex(d))
      front::fail(call, "the number is complex, and does not fit " + std::string(name(d)), a.where());
    const DType part = real_dtype(d);
    return complex_of(constant(a.as_double(), part), constant(a.imag(), part));
  }
  const bool real = a.kind() == Arg::Kind::kReal;
  if (is_complex(d)) return constant(a.as_double(), d);
  if (is_float(d)) return constant(a.as_double(), d);
  if (d == DType::kBool) return constant_bool(real ? a.as_double() != 0 : a.as_int() != 0);
  std::int64_t v = 0;
  bool fits = true;
  if (real) {
    constexpr double kTwo63 = 9223372036854775808.0;
    const double r = a.as_double();
    fits = r == std::trunc(r) && r >= -kTwo63 && r < kTwo63;  // false for NaN
    if (fits) v = static_cast<std::int64_t>(r);
  } else {
    v = a.as_int();
  }
  if (d == DType::kInt32) fits = fits && v == static_cast<std::int32_t>(v);
  if (!fits)
    front::fail(call,
                "the number " + (real ? front::number_text(a.as_double()) : std::to_string(v)) +
                    " does not fit " + std::string(name(d)),
                a.where());
  return constant_int(v, d);
}

}  // namespace tinyphys

namespace tinyphys::front {

void fail(Call call, const std::string& what, const Where& where) { throw Error(call, what, where); }

void fail(Call call, const std::string& what, const Where& where, const Node* n) {
  const auto places = where.line() == 0 ? locations(n) : std::vector<Location>{};
  if (places.empty()) fail(call, what, where);
  throw Error(call, what, places.front().file.c_str(), places.front().line);
}

StorageRef allocate(DType d, std::span<const std::int64_t> shape, Call call, const Where& where) {
  try {
    return tinyphys::allocate(d, shape);
  } catch (const Error& e) {
    fail(call, e.message(), where);
  }
}

void check_devices(const UOp& a, const UOp& b, Call call, const Where& where) {
  const int first = a->device(), second = b->device();
  if (first != 0 && second != 0 && first != second) fail(call, different_devices(first, second), where);
}

std::string describe(const Node* n) { return std::string(name(n->dtype)) + shape_text(n->shape()); }

std::string point_text(std::span<const std::int64_t> shape, std::size_t at) {
  Dims index(shape.size());
  for (std::size_t a = shape.size(); a-- > 0; at /= static_cast<std::size_t>(shape[a]))
    index[a] = static_cast<std::int64_t>(at % static_cast<std::size_t>(shape[a]));
  return shape_text(index);
}

std::string number_text(double v) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, v).ptr;
  return {text, end};
}

void check_tolerance(double v, Call call, const Where& where) {
  if (!(v > 0 && v <= 1))
    fail(call, "the tolerance is " + number_text(v) + ", it must be above 0 and at most 1", where);
}

std::string shape_list(std::span<const UOp> values) {
  std::string s;
  for (std::size_t i = 0; i < values.size(); ++i)
    s += (i == 0 ? "" : i + 1 == values.size() ? " and " : ", ") + shape_text(values[i]->shape());
  return s;
}

UOp value(const Tensor& t, Call call, const Where& where) {
  Node* n = TensorAccess::node(t);
  if (!n) fail(call, "the tensor is empty: it was default constructed or moved from", where);
  return UOp::share_held(n);
}

namespace {

DType number_dtype(Arg::Kind kind) {
  switch (kind) {
    case Arg::Kind::kBool: return DType::kBool;
    case Arg::Kind::kInteger: return DType::kInt64;
    case Arg::Kind::kComplex: return DType::kComplex128;
    default: return DType::kFloat64;
  }
}

}  // namespace

UOp value(const Arg& a, Call call) { return uop(a, number_dtype(a.kind()), call); }

DType promote(DType a, DType b) {
  if (a == b) return a;
  const DType low = std::min(a, b), high = std::max(a, b);
  if (is_complex(high))
    return is_integer(low) ? DType::kComplex128 : complex_dtype(promote(real_dtype(low), real_dtype(high)));
  return high == DType::kFloat32 && is_integer(low) ? DType::kFloat64 : high;
}

DType common_dtype(std::initializer_list<const Arg*> args, Call call) {
  DType tensors = DType::kVoid, numbers = DType::kVoid;
  for (const Arg* a : args) {
    if (a->is_number()) {
      numbers = std::max(numbers, number_dtype(a->kind()));
    } else {
      const Node* n = TensorAccess::node(a->tensor());
      if (!n) value(a->tensor(), call, a->where());
      tensors = tensors == DType::kVoid ? n->dtype : promote(tensors, n->dtype);
    }
  }
  if (tensors == DType::kVoid) return numbers;
  if (is_complex(tensors)) return tensors;
  if (is_complex(numbers)) return complex_dtype(float_dtype(tensors));
  if (numbers == DType::kFloat64 && !is_float(tensors)) return DType::kFloat64;
  if (numbers == DType::kInt64 && tensors == DType::kBool) return DType::kInt64;
  return tensors;
}

DType float_dtype(DType d) { return is_float(d) || is_complex(d) ? d : DType::kFloat64; }

bool same_kind(DType from, DType to) {
  auto kind = [](DType d) { return d == DType::kBool ? 0 : is_integer(d) ? 1 : is_float(d) ? 2 : 3; };
  return kind(from) <= kind(to);
}

void check_real(DType d, Call call, const Where& where) {
  if (is_complex(d))
    fail(call,
         "is not defined for " + std::string(name(d)) +
             (call == "<" || call == "<=" || call == ">" || call == ">=" || call == "max" || call == "min" ||
                      call == "maximum" || call == "minimum"
                  ? ": complex numbers have no order; compare abs(), real() or imag()"
                  : "; use real(), imag() or abs()"),
         where);
}

void check_shape(std::span<const std::int64_t> shape, Call call, const Where& where) {
  constexpr std::int64_t kMaxSize = std::int64_t{1} << 56;
  std::int64_t size = 1;
  bool zero = false;
  for (std::int64_t d : shape) {
    if (d < 0) fail(call, "negative size in shape " + shape_text(shape), where);
    zero |= d == 0;
    if (d > 0 && size > kMaxSize / d)
      size = kMaxSize + 1;
    else if (d > 0)
      size *= d;
  }
  if (size > kMaxSize && !zero) fail(call, "shape " + shape_text(shape) + " has too many elements", where);
}

std::int64_t axis_of(std::int64_t axis, std::span<const std::int64_t> shape, Call call, const Where& where) {
  const auto rank = static_cast<std::int64_t>(shape.size());
  if (axis < -rank || axis >= rank)
    fail(call, "axis " + std::to_string(axis) + " is out of range for shape " + shape_text(shape), where);
  return axis < 0 ? axis + rank : axis;
}

Dims axes_of(const Axes& axes, std::span<const std::int64_t> shape, Call call, const Where& where) {
  Dims out;
  if (axes.all()) {
    for (std::size_t i = 0; i < shape.size(); ++i) out.push_back(static_cast<std::int64_t>(i));
    return out;
  }
  for (std::int64_t a : axes.list()) out.push_back(axis_of(a, shape, call, where));
  std::sort(out.begin(), out.end());
  if (const auto twice = std::adjacent_find(out.begin(), out.end()); twice != out.end())
    fail(call, "axis " + std::to_string(*twice) + " is given twice for shape " + shape_text(shape), where);
  return out;
}

Stride stride_of(std::int64_t start, std::int64_t stop, std::int64_t step, std::int64_t n, Call call,
                 const Where& where) {
  if (step == 0) fail(call, "step is 0", where);
  // A step longer than the axis takes the first element only; this keeps the arithmetic below from overflowing.
  step = std::clamp(step, -n - 1, n + 1);
  // Python's slice.indices.
  auto clipped = [&](std::int64_t i) {
    if (i < 0) i += n;
    return step > 0 ? std::clamp<std::int64_t>(i, 0, n) : std::clamp<std::int64_t>(i, -1, n - 1);
  };
  const std::int64_t first = clipped(start), end = step < 0 && stop == kEnd ? -1 : clipped(stop);
  const std::int64_t length = step > 0 ? end - first : first - end, by = step > 0 ? step : -step;
  return {first, length > 0 ? (length + by - 1) / by : 0, step};
}

UOp index_value(Call call, const UOp& x, const Arg& index, std::int64_t axis) {
  const UOp i = value(index, call);
  if (!is_integer(i->dtype))
    fail(call, "the index is " + describe(i.get()) + ", needs integers", index.where());
  const std::int64_t n = x->shape()[static_cast<std::size_t>(axis)];
  const bool known = is_const(i.get());
  if ((known && (const_int(i.get()) < -n || const_int(i.get()) >= n)) || (n == 0 && i->size() > 0))
    fail(call,
         (known ? "index " + std::to_string(const_int(i.get())) : std::string("any index")) +
             " is out of range for axis " + std::to_string(axis) + " of shape " + shape_text(x->shape()),
         index.where());
  return i;
}

void broadcast(std::span<UOp> values, Call call, const Where& where) {
  const Node* widest = values[0].get();
  bool equal = true;
  for (const UOp& v : values) {
    equal &= same_shape(v.get(), values[0].get());
    if (v->n_dim > widest->n_dim) widest = v.get();
  }
  if (equal) return;
  Dims shape = shape_of(widest);
  for (const UOp& v : values) {
    const auto dims = v->shape();
    const std::size_t skip = shape.size() - dims.size();
    for (std::size_t i = 0; i < dims.size(); ++i) {
      std::int64_t& d = shape[skip + i];
      if (d == 1) d = dims[i];
      if (dims[i] != d && dims[i] != 1)
        fail(call, "shapes " + shape_list(values) + " do not broadcast", where);
    }
  }
  for (UOp& v : values) v = broadcast_to(v, shape);
}

}  // namespace tinyphys::front
