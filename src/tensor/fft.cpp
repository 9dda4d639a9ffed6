// Transforms: the ops work on pairs of real numbers, so that a complex operand goes in and out by its bytes.
#include "tinyphys/fft.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "tensor/ops.hpp"
#include "uop/build.hpp"

namespace tinyphys {
namespace {

using front::Call;
using front::fail;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

struct Transform {
  Call call;
  const Where& where;
  UOp x;
  Dims axes, lengths;  // of the real side, where there is one
  FftNorm norm;
};

// The operand in the precision of the result.
UOp floating(const Arg& x, Call call) {
  const UOp v = front::value(x, call);
  return is_complex(v->dtype) ? v : cast(v, front::float_dtype(v->dtype));
}
UOp pairs_of(const UOp& x) { return as_real(is_complex(x->dtype) ? x : complex_of(x, zeros_like(x))); }

// Points along an axis of what goes in, where that is asked for in terms of the real side.
enum class Side { kComplex, kReal, kHalf };

Transform prepare(Call call, const Arg& arg, const FftnOptions& options, Side side) {
  Transform t{call, arg.where(), floating(arg, call), {}, {}, options.norm};
  const Where& where = t.where;
  if (options.norm > FftNorm::Forward)
    fail(call, "norm " + std::to_string(static_cast<int>(options.norm)) + " is none", where);
  const auto shape = t.x->shape();
  const auto rank = static_cast<std::int64_t>(shape.size());
  if (options.axes) {
    for (const std::int64_t a : *options.axes) t.axes.push_back(front::axis_of(a, shape, call, where));
  } else {
    const std::int64_t count = options.s ? static_cast<std::int64_t>(options.s->size()) : rank;
    if (count > rank) fail(call, std::to_string(count) + " lengths for shape " + shape_text(shape), where);
    for (std::int64_t a = rank - count; a < rank; ++a) t.axes.push_back(a);
  }
  for (auto a = t.axes.begin(); a != t.axes.end(); ++a)
    if (std::find(t.axes.begin(), a, *a) != a)
      fail(call, "axis " + std::to_string(*a) + " is given twice for shape " + shape_text(shape), where);
  if (options.s && options.s->size() != t.axes.size())
    fail(call, std::to_string(options.s->size()) + " lengths for " + std::to_string(t.axes.size()) + " axes",
         where);
  if (side != Side::kComplex && t.axes.empty()) fail(call, "needs an axis", where);
  for (std::size_t i = 0; i < t.axes.size(); ++i) {
    const std::int64_t there = shape[at(t.axes[i])];
    const bool halved = side == Side::kHalf && i + 1 == t.axes.size();
    const std::int64_t n = options.s ? (*options.s)[i] : halved ? 2 * (there - 1) : there;
    if (n < 1)
      fail(call,
           std::to_string(n) + " points along axis " + std::to_string(t.axes[i]) + " of shape " +
               shape_text(shape) + (halved && !options.s ? ", which is half of a spectrum" : ""),
           where);
    t.lengths.push_back(n);
    const std::int64_t wanted = halved ? n / 2 + 1 : n;
    if (wanted < there) t.x = slice_axis(t.x, t.axes[i], 0, wanted);
    if (wanted > there) {
      Dims widths(2 * t.x->shape().size(), 0);
      widths[2 * at(t.axes[i]) + 1] = wanted - there;
      Dims grown = shape_of(t.x.get());
      grown[at(t.axes[i])] = wanted;
      front::check_shape(grown, call, where);
      t.x = pad_zeros(t.x, widths);
    }
  }
  return t;
}

UOp normalised(const UOp& x, const Transform& t, bool forward) {
  double points = 1;
  for (const std::int64_t n : t.lengths) points *= static_cast<double>(n);
  if (t.norm == FftNorm::Ortho) return points == 1 ? x : scaled(x, 1 / std::sqrt(points));
  return (t.norm == FftNorm::Forward) == forward && points != 1 ? scaled(x, 1 / points) : x;
}

Tensor complex_transform(Call call, const Arg& arg, const FftnOptions& options, bool forward) {
  LocationScope scope(arg.where());
  const Transform t = prepare(call, arg, options, Side::kComplex);
  const UOp y = fft(pairs_of(t.x), forward ? kForwardFft : kInverseFft, t.axes);
  return tensor(as_complex(normalised(y, t, forward)));
}

Tensor half_transform(Call call, const Arg& arg, const FftnOptions& options) {
  LocationScope scope(arg.where());
  const Transform t = prepare(call, arg, options, Side::kReal);
  if (is_complex(t.x->dtype))
    fail(call,
         "needs a real operand, got " + front::describe(front::value(arg, call).get()) +
             ": take fft, or real()",
         arg.where());
  return tensor(as_complex(normalised(rfft(t.x, t.axes), t, true)));
}

Tensor half_inverse(Call call, const Arg& arg, const FftnOptions& options) {
  LocationScope scope(arg.where());
  const Transform t = prepare(call, arg, options, Side::kHalf);
  return tensor(normalised(irfft(pairs_of(t.x), t.lengths.back(), t.axes), t, false));
}

FftnOptions along_one(const FftOptions& o) {
  FftnOptions out;
  if (o.n) out.s = std::vector<std::int64_t>{*o.n};
  out.axes = std::vector<std::int64_t>{o.axis};
  out.norm = o.norm;
  return out;
}

// k / (n d): of all n, those of the upper half counted from below 0; or of the lower half alone.
Tensor frequencies(Call call, std::int64_t n, double d, bool half, const Where& site) {
  LocationScope scope(site);
  if (n < 1) fail(call, std::to_string(n) + " points", site);
  if (d == 0 || !std::isfinite(d)) fail(call, "the spacing is " + front::number_text(d), site);
  const std::int64_t count = half ? n / 2 + 1 : n;
  const Dims shape{count};
  UOp k = iota(count);
  if (!half) {
    const auto number = [&](std::int64_t v) { return full(DType::kInt64, shape, static_cast<double>(v)); };
    k = tinyphys::where(compare(Op::LT, k, number((n + 1) / 2)), k, sub(k, number(n)));
  }
  return tensor(scaled(cast(k, DType::kFloat64), 1 / (static_cast<double>(n) * d)));
}

Tensor shifted(Call call, const Arg& arg, const Axes& axes, bool forward) {
  LocationScope scope(arg.where());
  UOp x = front::value(arg, call);
  for (const std::int64_t a : front::axes_of(axes, x->shape(), call, arg.where())) {
    const std::int64_t n = x->shape()[at(a)], by = forward ? n / 2 : (n + 1) / 2;
    if (n > 1) x = make(Op::ROLL, {x}, {a, by});
  }
  return tensor(x);
}

}  // namespace

Tensor fft(const Arg& x, const FftOptions& o) { return complex_transform("fft", x, along_one(o), true); }
Tensor ifft(const Arg& x, const FftOptions& o) { return complex_transform("ifft", x, along_one(o), false); }
Tensor fftn(const Arg& x, const FftnOptions& o) { return complex_transform("fftn", x, o, true); }
Tensor ifftn(const Arg& x, const FftnOptions& o) { return complex_transform("ifftn", x, o, false); }
Tensor rfft(const Arg& x, const FftOptions& o) { return half_transform("rfft", x, along_one(o)); }
Tensor rfftn(const Arg& x, const FftnOptions& o) { return half_transform("rfftn", x, o); }
Tensor irfft(const Arg& x, const FftOptions& o) { return half_inverse("irfft", x, along_one(o)); }
Tensor irfftn(const Arg& x, const FftnOptions& o) { return half_inverse("irfftn", x, o); }

Tensor fftfreq(std::int64_t n, double d, Where where) { return frequencies("fftfreq", n, d, false, where); }
Tensor rfftfreq(std::int64_t n, double d, Where where) { return frequencies("rfftfreq", n, d, true, where); }

Tensor fftshift(const Arg& x, const Axes& axes) { return shifted("fftshift", x, axes, true); }
Tensor ifftshift(const Arg& x, const Axes& axes) { return shifted("ifftshift", x, axes, false); }

}  // namespace tinyphys
