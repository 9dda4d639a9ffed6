// Random numbers as expressions: the op PHILOX of a seed and of the number of the element, and arithmetic that rounds
// the same on every device.
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "support/philox.hpp"
#include "tensor/ops.hpp"
#include "uop/build.hpp"

namespace tinyphys {

using front::Call;
using front::fail;

namespace {

// One for each function, so that one seed gives them independent numbers.
enum Stream : std::int64_t { kUniform, kNormal, kInteger };

class Draws {
 public:
  Draws(Call call, const Shape& shape, const Arg& seed, Stream stream) : stream_(stream) {
    const Where& where = seed.where();
    front::check_shape(shape, call, where);
    UOp key = seed.is_number() ? uop(seed, DType::kInt64, call) : front::value(seed, call);
    if (key->n_dim != 0 || !is_integer(key->dtype))
      fail(call, "the seed is " + front::describe(key.get()) + ", needs an integer scalar", where);
    std::int64_t n = 1;
    for (std::int64_t d : shape) n *= d;
    counter_ = reshape(iota(n), shape);
    key_ = broadcast_to(cast(key, DType::kInt64), shape);
  }
  // Integers below 2^bits.
  UOp integers(std::int64_t bits, std::int64_t half = 0) const {
    return make(Op::PHILOX, {key_, counter_}, {philox::number({stream_, half, bits})});
  }
  // Multiples of 2^-bits in [0, 1).
  UOp fractions(std::int64_t bits, std::int64_t half = 0, DType d = DType::kFloat64) const {
    return scaled(cast(integers(bits, half), d), std::ldexp(1.0, static_cast<int>(-bits)));
  }

 private:
  Stream stream_;
  UOp counter_, key_;
};

UOp fused(const UOp& a, const UOp& b, const UOp& c) { return make(Op::FMA, {a, b, c}); }
UOp less(const UOp& x, double limit) { return compare(Op::LT, x, full_like(x, limit)); }

// sum c_i x^i.
template <std::size_t n> UOp polynomial(const UOp& x, const std::array<double, n>& c) {
  UOp v = full_like(x, c[n - 1]);
  for (std::size_t i = n - 1; i-- > 0;) v = fused(v, x, full_like(x, c[i]));
  return v;
}

// The logarithm of multiples of 2^-53 in (0, 1]. The library's differs in the last bit from device to device; here each
// operation rounds once.
UOp logarithm(UOp x) {
  UOp shift = zeros_like(x);  // x 2^shift in [sqrt(1/2), sqrt(2))
  for (const int k : {32, 16, 8, 4, 2, 1}) {
    const UOp small = less(x, std::ldexp(1.0, -k));
    x = where(small, scaled(x, std::ldexp(1.0, k)), x);
    shift = where(small, offset(shift, k), shift);
  }
  const UOp small = less(x, std::numbers::sqrt2 / 2);
  x = where(small, scaled(x, 2), x);
  shift = where(small, offset(shift, 1), shift);
  // log x = 2 artanh s, s = (x - 1) / (x + 1), |s| < 0.172: the next term of the series is below 2^-57 of the sum.
  const UOp s = div(offset(x, -1), offset(x, 1));
  std::array<double, 11> c;
  for (std::size_t i = 0; i < c.size(); ++i) c[i] = 2.0 / static_cast<double>(2 * i + 1);
  return fused(shift, full_like(x, -std::numbers::ln2), mul(s, polynomial(mul(s, s), c)));
}

// cos(2 pi x) for x in [0, 1), by the series of the sine and the cosine in |t| <= pi / 4.
UOp cosine_of_turns(const UOp& x) {
  const UOp quarters = scaled(x, 4), quadrant = unary(Op::FLOOR, offset(quarters, 0.5));
  const UOp t = scaled(sub(quarters, quadrant), std::numbers::pi / 2), square = mul(t, t);
  std::array<double, 9> even, odd;
  double factorial = 1;
  for (std::size_t i = 0; i < even.size(); ++i) {
    const double sign = i % 2 ? -1 : 1, k = static_cast<double>(2 * i);
    even[i] = sign / factorial;
    factorial *= k + 1;
    odd[i] = sign / factorial;
    factorial *= k + 2;
  }
  const UOp c = polynomial(square, even), s = mul(t, polynomial(square, odd));
  const auto is = [&](double q) { return compare(Op::EQ, quadrant, full_like(quadrant, q)); };
  return where(is(1), neg(s), where(is(2), neg(c), where(is(3), s, c)));
}

void check_real(Call call, DType d, const Where& where) {
  if (!is_float(d)) fail(call, "needs float64 or float32, got " + std::string(name(d)), where);
}

}  // namespace

Tensor Tensor::rand(const Shape& shape, const Arg& seed, DType dtype) {
  constexpr Call kCall = "rand";
  LocationScope scope(seed.where());
  check_real(kCall, dtype, seed.where());
  const Draws draws(kCall, shape, seed, kUniform);
  return tensor(draws.fractions(dtype == DType::kFloat32 ? 24 : 53, 0, dtype));
}

Tensor Tensor::randn(const Shape& shape, const Arg& seed, DType dtype) {
  constexpr Call kCall = "randn";
  LocationScope scope(seed.where());
  check_real(kCall, dtype, seed.where());
  const Draws draws(kCall, shape, seed, kNormal);
  // sqrt(-2 log u) cos(2 pi v), u in (0, 1].
  const UOp u = offset(draws.fractions(53), std::ldexp(1.0, -53)), v = draws.fractions(53, 1);
  const UOp radius = unary(Op::SQRT, scaled(logarithm(u), -2));
  return tensor(cast(mul(radius, cosine_of_turns(v)), dtype));
}

Tensor Tensor::randint(std::int64_t low, std::int64_t high, const Shape& shape, const Arg& seed,
                       DType dtype) {
  constexpr Call kCall = "randint";
  const Where& where = seed.where();
  LocationScope scope(where);
  const std::string range = "[" + std::to_string(low) + ", " + std::to_string(high) + ")";
  if (low >= high) fail(kCall, "no integer is in " + range, where);
  if (!is_integer(dtype)) fail(kCall, "needs int64 or int32, got " + std::string(name(dtype)), where);
  using Int32 = std::numeric_limits<std::int32_t>;
  if (dtype == DType::kInt32 && (low < Int32::min() || high - 1 > Int32::max()))
    fail(kCall, "int32 does not hold all of " + range, where);
  const std::uint64_t count = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  if (count > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    fail(kCall, "more than 2^63 - 1 integers are in " + range, where);
  const Draws draws(kCall, shape, seed, kInteger);
  const auto number = [&](std::int64_t v) { return broadcast_to(constant_int(v), shape); };
  const UOp below = make(Op::MOD, {draws.integers(63), number(static_cast<std::int64_t>(count))});
  return tensor(cast(add(below, number(low)), dtype));
}

}  // namespace tinyphys
