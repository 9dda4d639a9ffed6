// Double-double arithmetic: an unevaluated sum hi + lo of two doubles, about 106 bits.
//
// Used as the reference number type of the evaluator and as the working precision of the jumps. Sums and
// products follow Dekker (1971), Knuth (TAOCP 2, 4.2.2) and Joldes, Muller & Popescu (2017, "Tight and
// rigorous error bounds for basic building blocks of double-word arithmetic"): add 3 ulp^2, mul 5 ulp^2, div
// 10 ulp^2, ulp = 2^-53. Elementary functions hold a relative error near 1e-31 on ordinary ranges.
//
// Needs IEEE doubles, round to nearest and no contraction (-ffp-contract=off): a fused a*b+c inside two_sum
// would destroy the error term. A non-finite hi always carries lo = 0, so infinities stay infinities.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>

namespace tinyphys {

struct DD {
  double hi = 0.0;
  double lo = 0.0;

  constexpr DD() = default;
  // Implicit on purpose: DD stands in for double as the number type of templates.
  constexpr DD(double value) : hi(value) {}
  // The caller promises a normalised pair: hi == fl(hi + lo).
  constexpr DD(double h, double l) : hi(h), lo(l) {}
  // Exact for every integer type up to 64 bits: each half has at most 32 significant bits.
  template <std::integral I> constexpr DD(I value) {
    constexpr I kLow = static_cast<I>(0xffffffffu);
    if constexpr (sizeof(I) <= 4) {
      hi = static_cast<double>(value);
    } else {
      const double low = static_cast<double>(value & kLow);
      const double high = static_cast<double>(value - (value & kLow));
      hi = high + low;
      lo = low - (hi - high);
    }
  }

  explicit constexpr operator double() const { return hi; }
};

namespace dd_detail {

inline bool finite(double x) { return std::fabs(x) <= std::numeric_limits<double>::max(); }

}  // namespace dd_detail

// ---- error-free transformations --------------------------------------------------------------------------

// s + e == a + b exactly, s = fl(a + b) (Knuth).
inline double two_sum(double a, double b, double& e) {
  const double s = a + b;
  const double bb = s - a;
  e = (a - (s - bb)) + (b - bb);
  return s;
}

// As two_sum, for |a| >= |b| or a == 0 (Dekker).
inline double quick_two_sum(double a, double b, double& e) {
  const double s = a + b;
  e = b - (s - a);
  return s;
}

// p + e == a * b exactly, barring underflow of e.
inline double two_prod(double a, double b, double& e) {
  const double p = a * b;
  e = std::fma(a, b, -p);
  return p;
}

// The pair a + b, |a| >= |b|, renormalised; lo is cleared when hi is not finite.
inline DD dd_normalise(double a, double b) {
  double e;
  const double s = quick_two_sum(a, b, e);
  return dd_detail::finite(s) ? DD(s, e) : DD(s);
}

// a + b of two doubles, exactly.
inline DD from_sum(double a, double b) {
  double e;
  const double s = two_sum(a, b, e);
  return dd_detail::finite(s) ? DD(s, e) : DD(s);
}

// a * b of two doubles, exactly (barring underflow).
inline DD from_product(double a, double b) {
  double e;
  const double p = two_prod(a, b, e);
  return dd_detail::finite(p) ? DD(p, e) : DD(p);
}

inline constexpr DD from_int64(std::int64_t value) { return DD(value); }
inline constexpr double to_double(DD a) { return a.hi; }

// ---- classification and comparison -----------------------------------------------------------------------

inline bool isfinite(DD a) { return std::isfinite(a.hi); }
inline bool isnan(DD a) { return std::isnan(a.hi); }
inline bool isinf(DD a) { return std::isinf(a.hi); }
inline bool signbit(DD a) { return std::signbit(a.hi); }

inline constexpr bool operator==(DD a, DD b) { return a.hi == b.hi && a.lo == b.lo; }
inline constexpr bool operator!=(DD a, DD b) { return !(a == b); }
inline constexpr bool operator<(DD a, DD b) { return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo); }
inline constexpr bool operator>(DD a, DD b) { return b < a; }
inline constexpr bool operator<=(DD a, DD b) { return a.hi < b.hi || (a.hi == b.hi && a.lo <= b.lo); }
inline constexpr bool operator>=(DD a, DD b) { return b <= a; }

// ---- arithmetic ------------------------------------------------------------------------------------------

inline constexpr DD operator+(DD a) { return a; }
inline constexpr DD operator-(DD a) { return {-a.hi, -a.lo}; }

[[gnu::always_inline]] inline DD operator+(DD a, DD b) {
  double e, f;
  const double s = two_sum(a.hi, b.hi, e);
  if (!dd_detail::finite(s)) return s;
  const double t = two_sum(a.lo, b.lo, f);
  double l;
  const double h = quick_two_sum(s, e + t, l);
  return dd_normalise(h, l + f);
}

inline DD operator+(DD a, double b) {
  double e;
  const double s = two_sum(a.hi, b, e);
  if (!dd_detail::finite(s)) return s;
  return dd_normalise(s, e + a.lo);
}

inline DD operator+(double a, DD b) { return b + a; }
inline DD operator-(DD a, DD b) { return a + (-b); }
inline DD operator-(DD a, double b) { return a + (-b); }
inline DD operator-(double a, DD b) { return (-b) + a; }

[[gnu::always_inline]] inline DD operator*(DD a, DD b) {
  double e;
  const double p = two_prod(a.hi, b.hi, e);
  if (!dd_detail::finite(p)) return p;
  const double cross = a.hi * b.lo + a.lo * b.hi;
  return dd_normalise(p, e + (cross + a.lo * b.lo));
}

inline DD operator*(DD a, double b) {
  double e;
  const double p = two_prod(a.hi, b, e);
  if (!dd_detail::finite(p)) return p;
  return dd_normalise(p, e + a.lo * b);
}

inline DD operator*(double a, DD b) { return b * a; }

inline DD operator/(DD a, DD b) {
  const double q0 = a.hi / b.hi;
  if (!dd_detail::finite(q0) || q0 == 0.0 || !dd_detail::finite(b.hi)) return q0;
  const DD r0 = a - b * q0;
  const double q1 = r0.hi / b.hi;
  const DD r1 = r0 - b * q1;
  const double q2 = r1.hi / b.hi;
  // b * q0 can round to infinity only when a itself is at the edge of the range.
  if (!dd_detail::finite(q1) || !dd_detail::finite(q2)) return q0;
  return dd_normalise(q0, q1) + q2;
}

inline DD operator/(DD a, double b) { return a / DD(b); }
inline DD operator/(double a, DD b) { return DD(a) / b; }

inline DD& operator+=(DD& a, DD b) { return a = a + b; }
inline DD& operator-=(DD& a, DD b) { return a = a - b; }
inline DD& operator*=(DD& a, DD b) { return a = a * b; }
inline DD& operator/=(DD& a, DD b) { return a = a / b; }
inline DD& operator+=(DD& a, double b) { return a = a + b; }
inline DD& operator-=(DD& a, double b) { return a = a - b; }
inline DD& operator*=(DD& a, double b) { return a = a * b; }
inline DD& operator/=(DD& a, double b) { return a = a / b; }

// Integers of 64 bits do not fit a double: they enter as exact DDs, never through a silent rounding.
template <std::integral I> inline DD operator+(DD a, I b) { return a + DD(b); }
template <std::integral I> inline DD operator-(DD a, I b) { return a - DD(b); }
template <std::integral I> inline DD operator*(DD a, I b) { return a * DD(b); }
template <std::integral I> inline DD operator/(DD a, I b) { return a / DD(b); }
template <std::integral I> inline DD operator+(I a, DD b) { return DD(a) + b; }
template <std::integral I> inline DD operator-(I a, DD b) { return DD(a) - b; }
template <std::integral I> inline DD operator*(I a, DD b) { return DD(a) * b; }
template <std::integral I> inline DD operator/(I a, DD b) { return DD(a) / b; }

inline DD abs(DD a) { return std::signbit(a.hi) ? -a : a; }
inline DD fabs(DD a) { return abs(a); }
inline DD copysign(DD a, DD b) { return std::signbit(a.hi) == std::signbit(b.hi) ? a : -a; }
inline DD fmax(DD a, DD b) { return isnan(a) || a < b ? b : a; }
inline DD fmin(DD a, DD b) { return isnan(a) || b < a ? b : a; }

// Exact unless the result leaves the range of doubles.
inline DD ldexp(DD a, int e) {
  // A normal power of two rounds as ldexp does, and is no call.
  if (e >= -1022 && e <= 1023) {
    const auto factor = std::bit_cast<double>(static_cast<std::uint64_t>(1023 + e) << 52);
    const double scaled = a.hi * factor;
    return dd_detail::finite(scaled) ? dd_normalise(scaled, a.lo * factor) : DD(scaled);
  }
  const double h = std::ldexp(a.hi, e);
  return dd_detail::finite(h) ? dd_normalise(h, std::ldexp(a.lo, e)) : DD(h);
}

inline DD floor(DD a) {
  const double h = std::floor(a.hi);
  if (h != a.hi || !dd_detail::finite(h)) return h;
  return dd_normalise(h, std::floor(a.lo));
}

inline DD ceil(DD a) { return -floor(-a); }
inline DD trunc(DD a) { return std::signbit(a.hi) ? ceil(a) : floor(a); }

// Halves away from zero, as std::round.
inline DD round(DD a) {
  const DD r = floor(abs(a) + 0.5);
  return std::signbit(a.hi) ? -r : r;
}

inline DD sqr(DD a) {
  double e;
  const double p = two_prod(a.hi, a.hi, e);
  if (!dd_detail::finite(p)) return p;
  return dd_normalise(p, e + (2.0 * (a.hi * a.lo) + a.lo * a.lo));
}

// One Newton step on y = sqrt(hi): y + (a - y^2) / (2 y), the residual formed exactly (Karp & Markstein).
inline DD sqrt(DD a) {
  if (!(a.hi > 0.0) || !dd_detail::finite(a.hi)) return std::sqrt(a.hi);
  // Keep y^2's error term clear of underflow.
  if (a.hi < 0x1p-900) return ldexp(sqrt(ldexp(a, 200)), -100);
  const double y = std::sqrt(a.hi);
  const DD residual = a - from_product(y, y);
  return dd_normalise(y, residual.hi / (2.0 * y));
}

inline DD hypot(DD a, DD b) {
  DD x = abs(a), y = abs(b);
  if (isinf(x) || isinf(y)) return std::numeric_limits<double>::infinity();
  if (x < y) {
    const DD t = x;
    x = y;
    y = t;
  }
  if (x.hi == 0.0 || isnan(x) || isnan(y)) return x + y;
  int e;
  (void)std::frexp(x.hi, &e);
  return ldexp(sqrt(sqr(ldexp(x, -e)) + sqr(ldexp(y, -e))), e);
}

// ---- constants and tables --------------------------------------------------------------------------------

inline constexpr DD kDDPi{0x1.921fb54442d18p+1, 0x1.1a62633145c07p-53};
inline constexpr DD kDDTwoPi{0x1.921fb54442d18p+2, 0x1.1a62633145c07p-52};
inline constexpr DD kDDHalfPi{0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54};
inline constexpr DD kDDInvTwoPi{0x1.45f306dc9c883p-3, -0x1.6b01ec5417056p-57};
inline constexpr DD kDDLn2{0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};
inline constexpr DD kDDLn10{0x1.26bb1bbb55516p+1, -0x1.f48ad494ea3e9p-53};

namespace dd_detail {

struct SinCosEntry {
  DD sin, cos;
};

// sin and cos of j pi/64, j = 0..16.
inline constexpr std::array<SinCosEntry, 17> kSinCos{{
    {{0x0.0p+0, 0x0.0p+0}, {0x1.0000000000000p+0, 0x0.0p+0}},
    {{0x1.91f65f10dd814p-5, -0x1.912bd0d569a90p-61}, {0x1.ff621e3796d7ep-1, -0x1.c57bc2e24aa15p-57}},
    {{0x1.917a6bc29b42cp-4, -0x1.e2718d26ed688p-60}, {0x1.fd88da3d12526p-1, -0x1.87df6378811c7p-55}},
    {{0x1.2c8106e8e613ap-3, 0x1.13000a89a11e0p-58}, {0x1.fa7557f08a517p-1, -0x1.7a0a8ca13571fp-55}},
    {{0x1.8f8b83c69a60bp-3, -0x1.26d19b9ff8d82p-57}, {0x1.f6297cff75cb0p-1, 0x1.562172a361fd3p-56}},
    {{0x1.f19f97b215f1bp-3, -0x1.42deef11da2c4p-57}, {0x1.f0a7efb9230d7p-1, 0x1.52c7adc6b4989p-56}},
    {{0x1.294062ed59f06p-2, -0x1.5d28da2c4612dp-56}, {0x1.e9f4156c62ddap-1, 0x1.760b1e2e3f81ep-55}},
    {{0x1.58f9a75ab1fddp-2, -0x1.efdc0d58cf620p-62}, {0x1.e212104f686e5p-1, -0x1.014c76c126527p-55}},
    {{0x1.87de2a6aea963p-2, -0x1.72cedd3d5a610p-57}, {0x1.d906bcf328d46p-1, 0x1.457e610231ac2p-56}},
    {{0x1.b5d1009e15cc0p-2, 0x1.5b362cb974183p-57}, {0x1.ced7af43cc773p-1, -0x1.e7b6bb5ab58aep-58}},
    {{0x1.e2b5d3806f63bp-2, 0x1.e0d891d3c6841p-58}, {0x1.c38b2f180bdb1p-1, -0x1.6e0b1757c8d07p-56}},
    {{0x1.073879922ffeep-1, -0x1.a5a014347406cp-55}, {0x1.b728345196e3ep-1, -0x1.bc69f324e6d61p-55}},
    {{0x1.1c73b39ae68c8p-1, 0x1.b25dd267f6600p-55}, {0x1.a9b66290ea1a3p-1, 0x1.9f630e8b6dac8p-60}},
    {{0x1.30ff7fce17035p-1, -0x1.efcc626f74a6fp-57}, {0x1.9b3e047f38741p-1, -0x1.30ee286712474p-55}},
    {{0x1.44cf325091dd6p-1, 0x1.8076a2cfdc6b3p-57}, {0x1.8bc806b151741p-1, -0x1.2c5e12ed1336dp-55}},
    {{0x1.57d69348ceca0p-1, -0x1.75720992bfbb2p-55}, {0x1.7b5df226aafafp-1, -0x1.0f537acdf0ad7p-56}},
    {{0x1.6a09e667f3bcdp-1, -0x1.bdd3413b26456p-55}, {0x1.6a09e667f3bcdp-1, -0x1.bdd3413b26456p-55}},
}};

// exp(j/32) - 1, j = -12..12.
inline constexpr std::array<DD, 25> kExpm1{{
    {-0x1.40373d42ce2e3p-2, 0x1.53d8db804c224p-56},
    {-0x1.29e011a428ec6p-2, -0x1.dabf5975c0c02p-57},
    {-0x1.12d35a41ba104p-2, 0x1.3445f7544e0efp-57},
    {-0x1.f616a79dda3a8p-3, -0x1.6b2eab63020c1p-57},
    {-0x1.c5041854df7d4p-3, -0x1.797d4686c5393p-57},
    {-0x1.9262c1c3430a1p-3, -0x1.46ff6ec4a4251p-57},
    {-0x1.5e25fb4fde211p-3, 0x1.64eec82915df3p-63},
    {-0x1.2840b5836cf67p-3, -0x1.85405051eb425p-57},
    {-0x1.e14aed893eef4p-4, 0x1.e1f58934f97afp-59},
    {-0x1.6e8caff341feap-4, -0x1.9573ded7888b2p-58},
    {-0x1.f0540438fd5c3p-5, -0x1.a1ce01f9f6ca7p-61},
    {-0x1.f8152aee9450ep-6, 0x1.4b00abf977627p-61},
    {0x0.0p+0, 0x0.0p+0},
    {0x1.040ac0224fd93p-5, 0x1.c17a107575019p-61},
    {0x1.082b577d34ed8p-4, -0x1.5272ff30eed1bp-59},
    {0x1.92937074e0cd7p-4, -0x1.db0b9cc915fc5p-58},
    {0x1.10b022db7ae68p-3, -0x1.8c4a5df1ec7e5p-58},
    {0x1.5a5ac59b963cbp-3, -0x1.fd91307e74c50p-57},
    {0x1.a65c0b85ac1a9p-3, 0x1.a9c189196f8cdp-57},
    {0x1.f4c6f5508ee5dp-3, 0x1.46ef7b808180ap-57},
    {0x1.22d78f0fa061ap-2, -0x1.89843c4964554p-56},
    {0x1.4c946033eb3dep-2, -0x1.35d267d66dc96p-56},
    {0x1.77a45d8117fd5p-2, -0x1.2bb36e6b3a2afp-58},
    {0x1.a4124b2fe50cbp-2, 0x1.fb5f3020a46f5p-57},
    {0x1.d1e944f6fbdaap-2, -0x1.dcb8749a64f6ep-56},
}};

// 1/n!, n = 0..21.
inline constexpr std::array<DD, 22> kInvFactorial{{
    {0x1.0000000000000p+0, 0x0.0p+0},
    {0x1.0000000000000p+0, 0x0.0p+0},
    {0x1.0000000000000p-1, 0x0.0p+0},
    {0x1.5555555555555p-3, 0x1.5555555555555p-57},
    {0x1.5555555555555p-5, 0x1.5555555555555p-59},
    {0x1.1111111111111p-7, 0x1.1111111111111p-63},
    {0x1.6c16c16c16c17p-10, -0x1.f49f49f49f49fp-65},
    {0x1.a01a01a01a01ap-13, 0x1.a01a01a01a01ap-73},
    {0x1.a01a01a01a01ap-16, 0x1.a01a01a01a01ap-76},
    {0x1.71de3a556c734p-19, -0x1.c154f8ddc6c00p-73},
    {0x1.27e4fb7789f5cp-22, 0x1.cbbc05b4fa99ap-76},
    {0x1.ae64567f544e4p-26, -0x1.c062e06d1f209p-80},
    {0x1.1eed8eff8d898p-29, -0x1.2aec959e14c06p-83},
    {0x1.6124613a86d09p-33, 0x1.f28e0cc748ebep-87},
    {0x1.93974a8c07c9dp-37, 0x1.05d6f8a2efd1fp-92},
    {0x1.ae7f3e733b81fp-41, 0x1.1d8656b0ee8cbp-97},
    {0x1.ae7f3e733b81fp-45, 0x1.1d8656b0ee8cbp-101},
    {0x1.952c77030ad4ap-49, 0x1.ac981465ddc6cp-103},
    {0x1.6827863b97d97p-53, 0x1.eec01221a8b0bp-107},
    {0x1.2f49b46814157p-57, 0x1.2650f61dbdcb4p-112},
    {0x1.e542ba4020225p-62, 0x1.ea72b4afe3c2fp-120},
    {0x1.71b8ef6dcf572p-66, -0x1.d043ae40c4647p-120},
}};

// The fraction bits of 1/(2 pi), most significant word first: enough for Payne & Hanek over all doubles.
inline constexpr std::array<std::uint32_t, 40> kInvTwoPiWords{{
    0x28be60dbu, 0x9391054au, 0x7f09d5f4u, 0x7d4d3770u, 0x36d8a566u, 0x4f10e410u, 0x7f9458eau, 0xf7aef158u,
    0x6dc91b8eu, 0x909374b8u, 0x01924bbau, 0x82746487u, 0x3f877ac7u, 0x2c4a69cfu, 0xba208d7du, 0x4baed121u,
    0x3a671c09u, 0xad17df90u, 0x4e64758eu, 0x60d4ce7du, 0x272117e2u, 0xef7e4a0eu, 0xc7fe25ffu, 0xf7816603u,
    0xfbcbc462u, 0xd6829b47u, 0xdb4d9fb3u, 0xc9f2c26du, 0xd3d18fd9u, 0xa797fa8bu, 0x5d49eeb1u, 0xfaf97c5eu,
    0xcf41ce7du, 0xe294a4bau, 0x9afed7ecu, 0x47e35742u, 0x1580cc11u, 0xbf1edaeau, 0xfc33ef08u, 0x26bd0d87u,
}};

// expm1 for |r| <= 1/64 + a little: Taylor; terms below 2^-53 of the sum are summed in double.
inline DD expm1_small(DD r) {
  const double x = r.hi;
  double tail = kInvFactorial[14].hi;
  for (int n = 13; n >= 9; --n) tail = tail * x + kInvFactorial[static_cast<std::size_t>(n)].hi;
  DD sum = kInvFactorial[8] + tail * x;
  for (int n = 7; n >= 2; --n) sum = sum * r + kInvFactorial[static_cast<std::size_t>(n)];
  return r + sqr(r) * sum;
}

// sin(r) and cos(r) - 1 for |r| <= pi/128.
inline void sincos_small(DD r, DD& s, DD& c_minus_1) {
  const DD r2 = sqr(r);
  const double x = r2.hi;
  const double st = kInvFactorial[9].hi -
                    x * (kInvFactorial[11].hi - x * (kInvFactorial[13].hi - x * kInvFactorial[15].hi));
  const double ct = kInvFactorial[8].hi -
                    x * (kInvFactorial[10].hi - x * (kInvFactorial[12].hi - x * kInvFactorial[14].hi));
  const DD sp = (kInvFactorial[7] - st * x) * r2 - kInvFactorial[5];
  s = r - r * r2 * (kInvFactorial[3] + sp * r2);
  const DD cp = (kInvFactorial[6] - ct * x) * r2 - kInvFactorial[4];
  c_minus_1 = -(r2 * (0.5 + cp * r2));
}

// frac(x / (2 pi)) of one double with |x| >= 2^30, in turns in [0, 1): Payne & Hanek (1983). Only the words
// whose product with the 53-bit integer significand can reach the fraction are multiplied.
inline DD turns_of_large(double x) {
  int e;
  const double significand = std::frexp(std::fabs(x), &e);
  const std::uint64_t m = static_cast<std::uint64_t>(std::ldexp(significand, 53));
  e -= 53;  // |x| = m 2^e
  // Words before `first` only add whole turns: bit i of 1/(2 pi) weighs 2^-(i+1), times 2^e is even.
  const int first = e > 0 ? e / 32 : 0;
  constexpr int kWindow = 8;
  std::array<std::uint64_t, kWindow + 2> product{};
  const std::uint64_t m_low = m & 0xffffffffu, m_high = m >> 32;
  for (int i = kWindow - 1; i >= 0; --i) {
    const int at = first + i;
    const std::uint64_t w = at < 40 ? kInvTwoPiWords[static_cast<std::size_t>(at)] : 0u;
    const auto u = static_cast<std::size_t>(i) + 2;
    // product[k] weighs 2^(-32 (k - 1)) relative to the window's start; carries are kept in 32-bit limbs.
    std::uint64_t carry = 0;
    std::uint64_t t = product[u] + (m_low * w & 0xffffffffu);
    product[u] = t & 0xffffffffu;
    carry = (t >> 32) + (m_low * w >> 32);
    t = product[u - 1] + (m_high * w & 0xffffffffu) + carry;
    product[u - 1] = t & 0xffffffffu;
    carry = (t >> 32) + (m_high * w >> 32);
    product[u - 2] = (product[u - 2] + carry) & 0xffffffffu;
  }
  // Value = sum_k product[k] 2^(-32 (k - 1)) 2^(e - 32 first); drop whole turns, keep 128 fraction bits or
  // more.
  const int shift = e - 32 * first;  // in (-53, 32)
  DD sum = 0.0;
  for (int k = 0; k < kWindow + 2; ++k) {
    const int weight = -32 * (k - 1) + shift;  // of the limb's lowest bit
    std::uint64_t limb = product[static_cast<std::size_t>(k)];
    if (weight >= 0) continue;
    if (weight > -32) limb &= (std::uint64_t{1} << -weight) - 1;
    sum += std::ldexp(static_cast<double>(limb), weight);
  }
  return std::signbit(x) ? -sum : sum;
}

// x = k pi/64 + r with |r| <= pi/128; returns k mod 128.
inline int reduce_pi64(DD x, DD& r) {
  constexpr double kParts[4] = {0x1.921fb54442d18p-5, 0x1.1a62633145c07p-59, -0x1.f1976b7ed8fbcp-115,
                                0x1.4cf98e804177dp-169};
  constexpr double kInverse = 0x1.45f306dc9c883p+4;
  if (std::fabs(x.hi) >= 0x1p40) {
    DD turns = turns_of_large(x.hi);
    turns += std::fabs(x.lo) >= 0x1p30 ? turns_of_large(x.lo) : kDDInvTwoPi * x.lo;
    turns -= floor(turns);
    const double k = std::floor(turns.hi * 128.0 + 0.5);
    r = (turns - k / 128.0) * kDDTwoPi;
    return static_cast<int>(k) & 127;
  }
  const double k = std::floor(x.hi * kInverse + 0.5);
  DD sum = x;
  for (const double part : kParts) sum -= from_product(k, part);
  r = sum;
  return static_cast<int>(static_cast<std::int64_t>(k) & 127);
}

}  // namespace dd_detail

// ---- elementary functions --------------------------------------------------------------------------------

inline DD expm1(DD x);

// exp(k ln2 + j/32 + r) = 2^k (1 + T_j)(1 + expm1(r)), |r| <= 1/64.
inline DD exp(DD x) {
  if (std::isnan(x.hi)) return x;
  if (x.hi > 709.9) return std::numeric_limits<double>::infinity();
  if (x.hi < -746.0) return 0.0;
  // ln 2 in 42-bit pieces: k times each of the first two is exact.
  constexpr double kLn2[3] = {0x1.62e42fefa2000p-1, 0x1.9ef35793c7000p-41, 0x1.9cc01f97b57a0p-83};
  const double k = std::floor(x.hi * 0x1.71547652b82fep+0 + 0.5);
  DD r = x;
  if (k != 0.0) r = ((r - k * kLn2[0]) - k * kLn2[1]) - k * kLn2[2];
  const double j = std::floor(r.hi * 32.0 + 0.5);
  const DD p = dd_detail::expm1_small(r - j / 32.0);
  const DD t = dd_detail::kExpm1[static_cast<std::size_t>(static_cast<int>(j) + 12)];
  const DD m = 1.0 + (t + (p + t * p));
  // Two steps: 2^k alone may leave the range although the product does not.
  const int half = static_cast<int>(k) / 2;
  return ldexp(ldexp(m, half), static_cast<int>(k) - half);
}

// exp(x) - 1 with relative accuracy near 0.
inline DD expm1(DD x) {
  if (!(std::fabs(x.hi) < 0.34)) {
    if (x.hi < -75.0) return -1.0;
    return std::isnan(x.hi) ? x : exp(x) - 1.0;
  }
  const double j = std::floor(x.hi * 32.0 + 0.5);
  const DD p = dd_detail::expm1_small(x - j / 32.0);
  if (j == 0.0) return p;
  const DD t = dd_detail::kExpm1[static_cast<std::size_t>(static_cast<int>(j) + 12)];
  return t + (p + t * p);
}

// log(1 + x) with relative accuracy near 0: one Newton step on expm1 from the double value; the step's own
// error is third order in 2^-53 because log1p(d) is taken to second order.
inline DD log1p(DD x) {
  if (!(x.hi > -1.0 || (x.hi == -1.0 && x.lo > 0.0)) || !dd_detail::finite(x.hi)) {
    return std::log1p(x.hi + x.lo);
  }
  if (x.hi == 0.0) return x;
  double y = 0.0;
  DD d = 0.0;
  if (x.hi < -0.5 || x.hi > 1.0) {
    DD m = 1.0 + x;
    int e;
    (void)std::frexp(m.hi, &e);
    m = ldexp(m, -e);
    if (m.hi < 0.7071) {
      m = ldexp(m, 1);
      --e;
    }
    // m in [0.707, 1.414]: m - 1 is exact.
    const DD z = m - 1.0;
    y = std::log1p(z.hi);
    const DD g = expm1(DD(y));
    d = (z - g) / (1.0 + g);
    return kDDLn2 * static_cast<double>(e) + (y + (d - 0.5 * d.hi * d.hi));
  }
  y = std::log1p(x.hi);
  const DD g = expm1(DD(y));
  d = (x - g) / (1.0 + g);
  return y + (d - 0.5 * d.hi * d.hi);
}

inline DD log(DD x) {
  if (!(x.hi > 0.0) || !dd_detail::finite(x.hi)) return std::log(x.hi);
  int e;
  (void)std::frexp(x.hi, &e);
  DD m = ldexp(x, -e);
  if (m.hi < 0.7071) {
    m = ldexp(m, 1);
    --e;
  }
  const DD l = log1p(m - 1.0);
  return e == 0 ? l : kDDLn2 * static_cast<double>(e) + l;
}

inline DD log2(DD x) { return log(x) / kDDLn2; }
inline DD log10(DD x) { return log(x) / kDDLn10; }
inline DD exp2(DD x) {
  if (!(std::fabs(x.hi) < 2000.0)) return std::exp2(x.hi);
  const double k = std::floor(x.hi + 0.5);
  const DD m = exp((x - k) * kDDLn2);
  const int half = static_cast<int>(k) / 2;
  return ldexp(ldexp(m, half), static_cast<int>(k) - half);
}

// Both at once: table of multiples of pi/64 and the addition theorems.
inline void sincos(DD x, DD& s, DD& c) {
  if (!dd_detail::finite(x.hi)) {
    s = c = std::numeric_limits<double>::quiet_NaN();
    return;
  }
  DD r;
  const int k = dd_detail::reduce_pi64(x, r);
  DD sr, cr;
  dd_detail::sincos_small(r, sr, cr);
  const int quadrant = k / 32, in_quadrant = k % 32;
  DD sq, cq;
  if (in_quadrant == 0) {
    sq = sr;
    cq = 1.0 + cr;
  } else {
    const bool mirror = in_quadrant > 16;
    const auto& entry = dd_detail::kSinCos[static_cast<std::size_t>(mirror ? 32 - in_quadrant : in_quadrant)];
    const DD st = mirror ? entry.cos : entry.sin;
    const DD ct = mirror ? entry.sin : entry.cos;
    sq = st + (st * cr + ct * sr);
    cq = ct + (ct * cr - st * sr);
  }
  switch (quadrant) {
    case 0:
      s = sq;
      c = cq;
      break;
    case 1:
      s = cq;
      c = -sq;
      break;
    case 2:
      s = -sq;
      c = -cq;
      break;
    default:
      s = -cq;
      c = sq;
      break;
  }
}

inline DD sin(DD x) {
  if (x.hi == 0.0) return x;
  DD s, c;
  sincos(x, s, c);
  return s;
}

inline DD cos(DD x) {
  DD s, c;
  sincos(x, s, c);
  return c;
}

inline DD tan(DD x) {
  if (x.hi == 0.0) return x;
  DD s, c;
  sincos(x, s, c);
  return s / c;
}

// Newton on sin from the double value; beyond 0.7 by the half-angle identity, where Newton is
// ill-conditioned.
inline DD asin(DD x) {
  const DD a = abs(x);
  if (!(a <= DD(1.0))) return std::numeric_limits<double>::quiet_NaN();
  if (x.hi == 0.0) return x;
  DD y;
  if (a.hi <= 0.7) {
    const double y0 = std::asin(a.hi);
    DD s, c;
    sincos(DD(y0), s, c);
    y = y0 + (a - s) / c;
  } else {
    const DD w = sqrt(ldexp(1.0 - a, -1));
    if (w.hi == 0.0) {
      y = kDDHalfPi;
    } else {
      const double y0 = std::asin(w.hi);
      DD s, c;
      sincos(DD(y0), s, c);
      y = kDDHalfPi - ldexp(y0 + (w - s) / c, 1);
    }
  }
  return std::signbit(x.hi) ? -y : y;
}

inline DD acos(DD x) {
  if (std::fabs(x.hi) <= 0.5) return kDDHalfPi - asin(x);
  if (x.hi > 0.0) return ldexp(asin(sqrt(ldexp(1.0 - x, -1))), 1);
  return kDDPi - ldexp(asin(sqrt(ldexp(1.0 + x, -1))), 1);
}

// tan(y - y0) = (x cos y0 - sin y0) / (cos y0 + x sin y0).
inline DD atan(DD x) {
  if (x.hi == 0.0 || std::isnan(x.hi)) return x;
  if (std::fabs(x.hi) > 0x1p120) {
    const DD y = kDDHalfPi - 1.0 / abs(x);
    return std::signbit(x.hi) ? -y : y;
  }
  const double y0 = std::atan(x.hi);
  DD s, c;
  sincos(DD(y0), s, c);
  return y0 + (x * c - s) / (c + x * s);
}

inline DD atan2(DD y, DD x) {
  if (!isfinite(x) || !isfinite(y) || y.hi == 0.0 || x.hi == 0.0) {
    const double r = std::atan2(y.hi, x.hi);
    // The exact multiples of pi/4 in full precision.
    const double quarter = std::round(r / (0.25 * kDDPi.hi));
    return std::isnan(r) || r == 0.0 ? DD(r) : ldexp(kDDPi * quarter, -2);
  }
  int ex, ey;
  (void)std::frexp(x.hi, &ex);
  (void)std::frexp(y.hi, &ey);
  if (ey - ex > 1000) return std::signbit(y.hi) ? -kDDHalfPi : kDDHalfPi;
  const DD a = ex - ey > 1000 ? DD(0.0) : atan(abs(ldexp(y, -ex)) / abs(ldexp(x, -ex)));
  const DD r = std::signbit(x.hi) ? kDDPi - a : a;
  return std::signbit(y.hi) ? -r : r;
}

inline DD sinh(DD x) {
  if (x.hi == 0.0 || !dd_detail::finite(x.hi)) return x;
  const DD a = abs(x);
  DD y;
  if (a.hi < 0.34) {
    const DD m = expm1(a);
    y = ldexp(m + m / (1.0 + m), -1);
  } else if (a.hi > 700.0) {
    const DD e = exp(ldexp(a, -1));
    y = ldexp(e, -1) * e;
  } else {
    const DD e = exp(a);
    y = ldexp(e - 1.0 / e, -1);
  }
  return std::signbit(x.hi) ? -y : y;
}

inline DD cosh(DD x) {
  const DD a = abs(x);
  if (a.hi > 700.0) {
    const DD e = exp(ldexp(a, -1));
    return ldexp(e, -1) * e;
  }
  const DD e = exp(a);
  return ldexp(e + 1.0 / e, -1);
}

inline DD tanh(DD x) {
  if (x.hi == 0.0 || std::isnan(x.hi)) return x;
  const DD a = abs(x);
  DD y = 1.0;
  if (a.hi < 38.0) {
    const DD m = expm1(ldexp(-a, 1));
    y = -m / (2.0 + m);
  }
  return std::signbit(x.hi) ? -y : y;
}

inline DD asinh(DD x) {
  if (x.hi == 0.0 || !dd_detail::finite(x.hi)) return x;
  const DD a = abs(x);
  const DD y = a.hi > 0x1p60 ? log(a) + kDDLn2 : log1p(a + sqr(a) / (1.0 + sqrt(1.0 + sqr(a))));
  return std::signbit(x.hi) ? -y : y;
}

inline DD acosh(DD x) {
  if (!(x >= DD(1.0))) return std::numeric_limits<double>::quiet_NaN();
  if (x.hi > 0x1p60) return log(x) + kDDLn2;
  const DD t = x - 1.0;
  return log1p(t + sqrt(t * (x + 1.0)));
}

inline DD atanh(DD x) {
  const DD a = abs(x);
  if (x.hi == 0.0) return x;
  if (!(a < DD(1.0))) return std::atanh(x.hi + x.lo);
  const DD y = ldexp(log1p(ldexp(a, 1) / (1.0 - a)), -1);
  return std::signbit(x.hi) ? -y : y;
}

// x^n by binary powering.
inline DD pow(DD x, int n) {
  DD base = n < 0 ? 1.0 / x : x;
  DD result = 1.0;
  for (unsigned m = n < 0 ? 0u - static_cast<unsigned>(n) : static_cast<unsigned>(n); m != 0; m >>= 1) {
    if (m & 1u) result *= base;
    if (m > 1) base = sqr(base);
  }
  return result;
}

// Small integer exponents by powering, else exp(y log x); the special cases are those of C's pow.
inline DD pow(DD x, DD y) {
  const bool special = !isfinite(x) || !isfinite(y) || x.hi == 0.0 || y.hi == 0.0;
  if (special) return std::pow(x.hi, y.hi);
  const bool integral = floor(y) == y;
  if (integral && std::fabs(y.hi) <= 64.0) return pow(x, static_cast<int>(y.hi));
  if (std::signbit(x.hi)) {
    if (!integral) return std::numeric_limits<double>::quiet_NaN();
    const DD half = ldexp(y, -1);
    const DD magnitude = exp(y * log(-x));
    return floor(half) == half ? magnitude : -magnitude;
  }
  return exp(y * log(x));
}

inline DD pow(DD x, double y) { return pow(x, DD(y)); }
inline DD pow(double x, DD y) { return pow(DD(x), y); }

}  // namespace tinyphys
