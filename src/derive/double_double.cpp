#include "derive/double_double.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "rewrite/uniform.hpp"
#include "support/dd.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"

namespace tinyphys {
namespace {

// Multiples of 2 pi / kAngles.
constexpr std::int64_t kAngles = kAngleTable / 4;

// --- pairs: a double has no low word ---------------------------------------------------------------------

UOp number(const UOp& like, double v) { return full_like(like, v); }
DDValue constant(const UOp& like, DD v) {
  return {number(like, v.hi), v.lo == 0.0 ? UOp() : number(like, v.lo)};
}
UOp fma(const UOp& a, const UOp& b, const UOp& c) { return make(Op::FMA, {a, b, c}); }
// a or b, null being 0.
UOp plus(const UOp& a, const UOp& b) { return !a ? b : !b ? a : add(a, b); }
UOp fma_or(const UOp& a, const UOp& b, const UOp& c) {
  if (!a || !b) return c;
  return c ? fma(a, b, c) : mul(a, b);
}
// a - b with the product's error: a b = high + low.
DDValue product(const UOp& a, const UOp& b) {
  const UOp p = mul(a, b);
  return {p, fma(a, b, neg(p))};
}
// |a| >= |b|, or a = 0.
DDValue quick(const UOp& a, const UOp& b) {
  if (!b) return {a, {}};
  const UOp s = add(a, b);
  return {s, sub(b, sub(s, a))};
}
DDValue two_sum(const UOp& a, const UOp& b) {
  const UOp s = add(a, b), t = sub(s, a);
  return {s, add(sub(a, sub(s, t)), sub(b, t))};
}

DDValue plus(const DDValue& a, const DDValue& b) {
  const DDValue s = two_sum(a.high, b.high);
  const UOp lows = plus(a.low, b.low);
  return lows ? quick(s.high, add(s.low, lows)) : s;
}
// The same for |a| >= |b| or a = 0.
DDValue plus_less(const DDValue& a, const DDValue& b) {
  const DDValue s = quick(a.high, b.high);
  return quick(s.high, plus(s.low, plus(a.low, b.low)));
}
DDValue negated(const DDValue& a) { return {neg(a.high), a.low ? neg(a.low) : UOp()}; }
DDValue minus(const DDValue& a, const DDValue& b) { return plus(a, negated(b)); }
DDValue times(const DDValue& a, const DDValue& b) {
  const DDValue p = product(a.high, b.high);
  return quick(p.high, fma_or(a.high, b.low, fma_or(a.low, b.high, p.low)));
}
// By a power of two.
DDValue scaled(const DDValue& a, double factor) {
  const UOp f = number(a.high, factor);
  return {mul(a.high, f), a.low ? mul(a.low, f) : UOp()};
}
// c - a b, of two doubles whose product is near c: exact but for the low words.
UOp residual(const DDValue& c, const UOp& a, const UOp& b) {
  const DDValue p = product(a, b);
  return plus(sub(sub(c.high, p.high), p.low), c.low);
}
DDValue quotient(const DDValue& a, const DDValue& b) {
  const UOp inverse = div(number(b.high, 1.0), b.high), q = mul(a.high, inverse);
  UOp rest = residual(a, b.high, q);
  if (b.low) rest = sub(rest, mul(b.low, q));
  return quick(q, mul(rest, inverse));
}
DDValue root(const DDValue& a) {
  const UOp y = unary(Op::SQRT, a.high), zero = number(y, 0.0);
  const UOp correction = mul(residual(a, y, y), div(number(y, 0.5), y));
  return quick(y, where(compare(Op::LT, zero, y), correction, zero));
}
std::optional<double> power_of_two(const Node* n) {
  const Node* c = uniform_const(n);
  if (!c || c->dtype != DType::kFloat64) return {};
  int exponent;
  const double v = const_double(c);
  return std::fabs(std::frexp(v, &exponent)) == 0.5 ? std::optional(v) : std::nullopt;
}
DDValue chosen(const UOp& condition, const DDValue& yes, const DDValue& no) {
  const auto low = [](const DDValue& x) { return x.low ? x.low : number(x.high, 0.0); };
  return {where(condition, yes.high, no.high),
          yes.low || no.low ? where(condition, low(yes), low(no)) : UOp()};
}

// --- angles: multiples of 2 pi / 256 by the table, the rest by Taylor's series -----------------------------

struct Angle {
  UOp multiple;  // float64, a whole number of 2 pi / kAngles
  DDValue sine, cosine;
};
// 2 pi / kAngles in three words: pi to 159 bits.
constexpr double kPiThird = -2.9947698097183397e-33;
std::array<double, 3> unit_angle() {
  return {std::ldexp(kDDPi.hi, -7), std::ldexp(kDDPi.lo, -7), std::ldexp(kPiThird, -7)};
}

Angle nearest_multiple(const UOp& x, const UOp& table) {
  constexpr double kRound = 0x1.8p52;  // added and taken away again: rounds to an integer
  const UOp round = number(x, kRound);
  const UOp k = sub(add(mul(x, number(x, 1.0 / unit_angle()[0])), round), round);
  constexpr auto kCount = static_cast<double>(kAngles);
  UOp place = sub(k, mul(unary(Op::FLOOR, mul(k, number(k, 1.0 / kCount))), number(k, kCount)));
  // Whatever the angle, within the table: NaN too.
  const UOp zero = number(k, 0.0);
  place = where(compare(Op::LE, zero, place), place, zero);
  place = where(compare(Op::LT, place, number(k, kCount)), place, zero);
  const UOp index = cast(place, DType::kInt32);
  const auto pick = [&](std::int64_t part) {
    const std::int64_t first = part * kAngles;
    return make(Op::GATHER, {slice_axis(table, 0, first, first + kAngles), index}, {std::int64_t{0}});
  };
  return {k, {pick(0), pick(1)}, {pick(2), pick(3)}};
}

// sum of c[k] x^k: the first `exact` in double-double, what they multiply in doubles.
DDValue series(std::span<const DD> c, std::size_t exact, const DDValue& x) {
  UOp tail = number(x.high, c.back().hi);
  for (std::size_t k = c.size() - 1; k-- > exact;) tail = fma(tail, x.high, number(x.high, c[k].hi));
  DDValue sum{tail, {}};
  for (std::size_t k = exact; k-- > 0;) sum = plus_less(constant(x.high, c[k]), times(sum, x));
  return sum;
}

struct SineCosine {
  DDValue sine, cosine;
};
SineCosine sine_cosine(const DDValue& x, const UOp& table) {
  static const auto kSine = [] {
    std::array<DD, 5> c;
    for (std::size_t k = 0; k < c.size(); ++k)
      c[k] = dd_detail::kInvFactorial[2 * k + 3] * (k % 2 == 0 ? -1.0 : 1.0);
    return c;
  }();
  static const auto kCosine = [] {
    std::array<DD, 6> c;
    for (std::size_t k = 0; k < c.size(); ++k)
      c[k] = dd_detail::kInvFactorial[2 * k + 2] * (k % 2 == 0 ? -1.0 : 1.0);
    return c;
  }();
  const Angle at = nearest_multiple(x.high, table);
  const auto unit = unit_angle();
  const UOp& k = at.multiple;
  const DDValue first = product(k, number(k, unit[0])), second = product(k, number(k, unit[1]));
  const UOp less = fma(k, number(k, unit[2]), second.low);
  const UOp rest = sub(x.low ? sub(x.low, second.high) : neg(second.high), less);
  const DDValue r = plus(two_sum(sub(x.high, first.high), neg(first.low)), DDValue{rest, {}});
  const DDValue r2 = times(r, r);
  const DDValue s = plus_less(r, times(times(r, r2), series(kSine, 3, r2)));
  const DDValue c = times(r2, series(kCosine, 3, r2));  // cos r - 1
  return {plus_less(at.sine, plus(times(at.sine, c), times(at.cosine, s))),
          plus_less(at.cosine, minus(times(at.cosine, c), times(at.sine, s)))};
}

// Of an angle up to pi / 4, from its sine and cosine.
DDValue angle_of(const DDValue& s, const DDValue& c, const UOp& table) {
  static const auto kArcsine = [] {
    // (2k)! / (4^k (k!)^2 (2k + 1))
    std::array<DD, 8> a;
    DD central = 1.0;
    for (std::size_t k = 1; k <= a.size(); ++k) {
      const auto n = static_cast<double>(k);
      central = central * (2.0 * n - 1.0) / (2.0 * n);
      a[k - 1] = central / (2.0 * n + 1.0);
    }
    return a;
  }();
  const UOp s2 = mul(s.high, s.high);
  constexpr std::array kRough = {1.0, 1.0 / 6, 3.0 / 40, 5.0 / 112, 35.0 / 1152, 63.0 / 2816, 1155.0 / 13824};
  UOp rough = number(s2, kRough.back());
  for (std::size_t k = kRough.size() - 1; k-- > 0;) rough = fma(rough, s2, number(s2, kRough[k]));
  const Angle at = nearest_multiple(mul(rough, s.high), table);
  const DDValue t = minus(times(s, at.cosine), times(c, at.sine)), t2 = times(t, t);
  const DDValue rest = plus_less(t, times(times(t, t2), series(kArcsine, 3, t2)));
  const auto unit = unit_angle();
  return plus(times(constant(s2, DD(unit[0], unit[1])), DDValue{at.multiple, {}}), rest);
}

DDValue arcsine(const DDValue& x, const UOp& table) {
  const UOp sign =
      where(compare(Op::LT, x.high, number(x.high, 0.0)), number(x.high, -1.0), number(x.high, 1.0));
  const DDValue size = times(x, DDValue{sign, {}}), one = constant(x.high, 1.0);
  const DDValue other = root(times(minus(one, size), plus(one, size)));
  // From the smaller of sine and cosine: the other's is ill-conditioned.
  const UOp steep = compare(Op::LT, other.high, size.high);
  const DDValue angle = angle_of(chosen(steep, other, size), chosen(steep, size, other), table);
  const DDValue quarter = constant(x.high, ldexp(kDDPi, -1));
  return times(chosen(steep, minus(quarter, angle), angle), DDValue{sign, {}});
}

}  // namespace

const std::vector<double>& angle_table() {
  static const auto& table = *new std::vector<double>([] {
    std::vector<double> t(kAngleTable);
    const DD unit = ldexp(kDDPi, -7);
    for (std::int64_t k = 0; k < kAngles; ++k) {
      // By symmetry from the first quarter, so that the zeros are zero.
      const std::int64_t quadrant = k / (kAngles / 4), rest = k % (kAngles / 4);
      DD s = 0.0, c = 1.0;
      if (rest != 0) sincos(unit * static_cast<double>(rest), s, c);
      const DD sine = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
      const DD cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
      const auto at = static_cast<std::size_t>(k), step = static_cast<std::size_t>(kAngles);
      t[at] = sine.hi;
      t[step + at] = sine.lo;
      t[2 * step + at] = cosine.hi;
      t[3 * step + at] = cosine.lo;
    }
    return t;
  }());
  return table;
}

DDValue DoubleDouble::of(const UOp& value) {
  const auto known = [&](const Node* n) { return known_.contains(n); };
  for (Node* n : toposort(value, known)) {
    if (known_.contains(n)) continue;
    DDValue pair = made(n);
    held_.push_back(UOp::share(n));
    known_[n] = std::move(pair);
  }
  return known_.at(value.get());
}

UOp DoubleDouble::low(const UOp& value) {
  const DDValue pair = of(value);
  return pair.low ? pair.low : number(pair.high, 0.0);
}

DDValue DoubleDouble::made(Node* n) {
  const auto exact = [&](const Node* s) { return !known_.at(s).low && known_.at(s).high.get() == s; };
  const bool of_doubles =
      std::all_of(n->src().begin(), n->src().end(), [&](const Node* s) { return exact(s); });
  const auto src = [&](std::uint32_t i) -> const DDValue& { return known_.at(n->src(i)); };
  if (n->n_src == 0 || (of_doubles && n->dtype != DType::kFloat64)) return {UOp::share(n), {}};
  if (is_movement(n->op) && n->op != Op::CAT) {
    const auto moved = [&](const UOp& x) {
      return x ? with_sources(n, std::span<Node* const>(std::array{x.get()})) : UOp();
    };
    return {moved(src(0).high), moved(src(0).low)};
  }
  switch (n->op) {
    case Op::ADD: return plus(src(0), src(1));
    case Op::SUB: return minus(src(0), src(1));
    case Op::MUL:
      for (const std::uint32_t i : {0u, 1u})
        if (const auto factor = power_of_two(n->src(i))) return scaled(src(1 - i), *factor);
      return times(src(0), src(1));
    case Op::DIV: return quotient(src(0), src(1));
    case Op::NEG: return negated(src(0));
    case Op::ABS:
      return chosen(compare(Op::LT, src(0).high, number(src(0).high, 0.0)), negated(src(0)), src(0));
    case Op::SQRT: return root(src(0));
    case Op::SIN:
    case Op::COS:
      if (table_) {
        const SineCosine both = sine_cosine(src(0), table_);
        return n->op == Op::SIN ? both.sine : both.cosine;
      }
      break;
    case Op::ASIN:
      if (table_) return arcsine(src(0), table_);
      break;
    case Op::WHERE:
      if (exact(n->src(0))) return chosen(src(0).high, src(1), src(2));
      break;
    default: break;
  }
  throw Error("double_double", std::string(name(n->op)) + " has no double-double form", "", 0);
}

}  // namespace tinyphys
