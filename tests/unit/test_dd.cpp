// Double-double against __float128 (113 bits): tolerances are multiples of 2^-106 = 1.2e-32, stated per
// function.
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <type_traits>

#include <doctest/doctest.h>

#include "support/dd.hpp"

__extension__ typedef __float128 Quad;

// Declared here and not by <quadmath.h>, so that clang compiles the file too.
extern "C" {
Quad expq(Quad) noexcept;
Quad expm1q(Quad) noexcept;
Quad logq(Quad) noexcept;
Quad log1pq(Quad) noexcept;
Quad sinq(Quad) noexcept;
Quad cosq(Quad) noexcept;
Quad tanq(Quad) noexcept;
Quad asinq(Quad) noexcept;
Quad acosq(Quad) noexcept;
Quad atanq(Quad) noexcept;
Quad sinhq(Quad) noexcept;
Quad coshq(Quad) noexcept;
Quad tanhq(Quad) noexcept;
Quad asinhq(Quad) noexcept;
Quad acoshq(Quad) noexcept;
Quad atanhq(Quad) noexcept;
Quad sqrtq(Quad) noexcept;
Quad powq(Quad, Quad) noexcept;
Quad atan2q(Quad, Quad) noexcept;
Quad exp2q(Quad) noexcept;
Quad hypotq(Quad, Quad) noexcept;
}

namespace {

using tinyphys::DD;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Quad quad(DD x) { return static_cast<Quad>(x.hi) + static_cast<Quad>(x.lo); }

double relative(DD got, Quad want) {
  const Quad diff = quad(got) - want;
  if (want == 0) return static_cast<double>(diff < 0 ? -diff : diff);
  const double r = static_cast<double>(diff / want);
  return r < 0 ? -r : r;
}

bool normalised(DD x) { return !std::isfinite(x.hi) ? x.lo == 0.0 : x.hi + x.lo == x.hi; }

struct Random {
  std::mt19937_64 engine{20240611};
  double uniform(double a, double b) { return std::uniform_real_distribution<double>(a, b)(engine); }
  // A value in [a, b] with bits down to 2^-110 of its leading one: fills a DD and still fits a Quad exactly.
  DD dd(double a, double b) {
    const double h = uniform(a, b);
    int e;
    (void)std::frexp(h, &e);
    return tinyphys::from_sum(h, std::ldexp(std::floor(uniform(-0x1p55, 0x1p55)), e - 110));
  }
  // Drops the bits of lo that a Quad cannot hold beside hi.
  static DD fit(DD x) {
    int e;
    (void)std::frexp(x.hi, &e);
    return tinyphys::from_sum(x.hi, std::ldexp(std::floor(std::ldexp(x.lo, 110 - e)), e - 110));
  }
  DD log_dd(double log2_a, double log2_b) {
    const DD x = dd(1.0, 2.0);
    return ldexp(x, static_cast<int>(std::floor(uniform(log2_a, log2_b))));
  }
};

template <class F, class G> double worst(F f, G g, double a, double b, int count = 4000) {
  Random random;
  double w = 0.0;
  for (int i = 0; i < count; ++i) {
    const DD x = random.dd(a, b);
    const DD y = f(x);
    if (!normalised(y)) return kInf;
    const double r = relative(y, g(quad(x)));
    if (!(r <= w)) w = r;
  }
  return w;
}

}  // namespace

TEST_CASE("dd: integers and doubles convert exactly") {
  for (const std::int64_t v : {std::int64_t{0}, std::int64_t{1}, std::int64_t{-1}, std::int64_t{1} << 62,
                               (std::int64_t{1} << 62) - 1, std::numeric_limits<std::int64_t>::max(),
                               std::numeric_limits<std::int64_t>::min(), std::int64_t{9007199254740993},
                               std::int64_t{-9007199254740993}}) {
    const DD x = tinyphys::from_int64(v);
    CHECK(normalised(x));
    CHECK(quad(x) == static_cast<Quad>(v));
    CHECK(quad(DD(v)) == static_cast<Quad>(v));
  }
  CHECK(quad(DD(std::numeric_limits<std::uint64_t>::max())) ==
        static_cast<Quad>(std::numeric_limits<std::uint64_t>::max()));
  CHECK(quad(DD(7u)) == Quad(7));
  CHECK(quad(tinyphys::from_product(0.1, 0.3)) == static_cast<Quad>(0.1) * static_cast<Quad>(0.3));
  CHECK(quad(tinyphys::from_sum(1.0, 1e-30)) == static_cast<Quad>(1.0) + static_cast<Quad>(1e-30));
  CHECK(static_cast<double>(DD(0.1, 1e-18)) == 0.1);
  static_assert(std::is_trivially_copyable_v<DD> && sizeof(DD) == 16);
}

TEST_CASE("dd: arithmetic within the bounds of Joldes, Muller and Popescu") {
  Random random;
  double add = 0, add_d = 0, mul = 0, mul_d = 0, div = 0, root = 0;
  const auto keep = [](double& w, double r) {
    if (!(r <= w)) w = r;
  };
  for (int i = 0; i < 20000; ++i) {
    const DD a = (i & 1) ? -random.log_dd(-30, 30) : random.log_dd(-30, 30);
    // Half of the sums cancel strongly.
    const DD b = (i & 2) ? random.log_dd(-30, 30) : Random::fit(-a + random.log_dd(-80, -20) * a);
    const double d = random.uniform(-3, 3);
    const DD s = a + b, p = a * b, q = a / b, r = sqrt(abs(a));
    for (const DD x : {s, p, q, r}) CHECK(normalised(x));
    keep(add, relative(s, quad(a) + quad(b)));
    keep(add_d, relative(a + d, quad(a) + static_cast<Quad>(d)));
    keep(mul, relative(p, quad(a) * quad(b)));
    keep(mul_d, relative(a * d, quad(a) * static_cast<Quad>(d)));
    keep(div, relative(q, quad(a) / quad(b)));
    keep(root, relative(r, sqrtq(quad(abs(a)))));
  }
  const double u2 = 0x1p-106;
  CHECK(add <= 3.5 * u2);
  CHECK(add_d <= 2.5 * u2);
  CHECK(mul <= 6 * u2);
  CHECK(mul_d <= 3.5 * u2);
  CHECK(div <= 10 * u2);
  CHECK(root <= 6 * u2);
}

TEST_CASE("dd: infinities stay infinities, NaN stays NaN") {
  const DD inf = kInf, one = 1.0;
  for (const DD x : {inf + one,
                     one + inf,
                     inf + inf,
                     inf * 2.0,
                     inf * one,
                     inf / one,
                     DD(1e308) + DD(1e308),
                     DD(1e308) * 10.0,
                     DD(1e308) * DD(1e308),
                     one / DD(0.0),
                     exp(DD(1e4)),
                     exp(inf),
                     sqrt(inf),
                     abs(-inf),
                     ldexp(inf, 3),
                     ldexp(one, 5000),
                     inf + 1.0,
                     log(inf),
                     sinh(inf),
                     cosh(DD(-1e3)),
                     floor(inf),
                     pow(DD(10), DD(400)),
                     sqr(inf),
                     tinyphys::from_sum(kInf, 1.0),
                     tinyphys::from_product(kInf, 2.0),
                     expm1(inf),
                     tan(DD(0.0)) + inf}) {
    CHECK(x.hi == kInf);
    CHECK(x.lo == 0.0);
  }
  CHECK((one / inf).hi == 0.0);
  CHECK(exp(-inf) == DD(0.0));
  CHECK(tanh(inf) == one);
  CHECK(atan(inf) == tinyphys::kDDHalfPi);
  CHECK(log(DD(0.0)).hi == -kInf);
  CHECK(log1p(DD(-1.0)).hi == -kInf);
  for (const DD x : {inf - inf, inf * 0.0, DD(0.0) / 0.0, sqrt(DD(-1.0)), log(DD(-1.0)), asin(DD(1.5)),
                     sin(inf), cos(DD(kNaN)), exp(DD(kNaN)), DD(kNaN) + 1.0, DD(kNaN) * 1.0,
                     pow(DD(-2.0), DD(0.5)), acosh(DD(0.5)), expm1(DD(kNaN))}) {
    CHECK(isnan(x));
    CHECK(x.lo == 0.0);
  }
  CHECK(std::signbit(sqrt(DD(-0.0)).hi));
  CHECK(std::signbit(sin(DD(-0.0)).hi));
  // The edge of the range: dividing must not make NaN out of finite numbers.
  const double max = std::numeric_limits<double>::max();
  CHECK((DD(max) / DD(max)).hi == 1.0);
  CHECK((DD(max) / DD(1.0)).hi == max);
  CHECK((DD(max) / DD(0.1)).hi == kInf);
  CHECK_FALSE(isnan(DD(5e-324) / DD(5e-324)));
}

TEST_CASE("dd: comparisons, floor, rounding") {
  const DD a(1.0, 1e-20), b(1.0, -1e-20);
  CHECK(b < a);
  CHECK(a > DD(1.0));
  CHECK(a > 1.0);
  CHECK(b <= 1.0);
  CHECK(a != b);
  CHECK(DD(kNaN) != DD(kNaN));
  CHECK_FALSE(DD(kNaN) < 1.0);
  CHECK(floor(a) == DD(1.0));
  CHECK(floor(b) == DD(0.0));
  CHECK(ceil(b) == DD(1.0));
  CHECK(ceil(a) == DD(2.0));
  CHECK(trunc(-b) == DD(0.0));
  CHECK(round(DD(2.5)) == DD(3.0));
  CHECK(round(DD(-2.5)) == DD(-3.0));
  CHECK(floor(DD(0x1p60, 0.5)) == DD(0x1p60));
  CHECK(fmax(a, b) == a);
  CHECK(fmin(a, b) == b);
}

TEST_CASE("dd: elementary functions against __float128") {
  using namespace tinyphys;
  const double u = 1e-31;
  struct Case {
    std::string name;
    DD (*f)(DD);
    Quad (*g)(Quad) noexcept;
    double a, b, tol;
  };
  const Case cases[] = {
      {"exp", exp, expq, -1, 1, u},
      {"exp", exp, expq, -600, 700, u},
      {"exp", exp, expq, -1e-8, 1e-8, u},
      {"exp2", exp2, exp2q, -900, 1000, 2 * u},
      {"expm1", expm1, expm1q, -0.4, 0.4, u},
      {"expm1", expm1, expm1q, -1e-5, 1e-5, u},
      {"expm1", expm1, expm1q, -1e-100, 1e-100, u},
      {"expm1", expm1, expm1q, -50, 50, u},
      {"log", log, logq, 0.5, 2, u},
      {"log", log, logq, 0.9999999, 1.0000001, u},
      {"log", log, logq, 1e-300, 1e-290, u},
      {"log", log, logq, 1, 1e10, u},
      {"log1p", log1p, log1pq, -1e-6, 1e-6, u},
      {"log1p", log1p, log1pq, -0.99, 3, u},
      {"log1p", log1p, log1pq, 1, 1e20, u},
      {"sin", sin, sinq, -1e-3, 1e-3, u},
      {"sin", sin, sinq, -0.7, 0.7, u},
      {"tan", tan, tanq, -0.7, 0.7, 2 * u},
      {"asin", asin, asinq, -1, 1, u},
      {"asin", asin, asinq, -1e-10, 1e-10, u},
      {"asin", asin, asinq, 0.999999, 1, u},
      {"acos", acos, acosq, -1, 0.99, u},
      {"acos", acos, acosq, 0.999999, 1, 2 * u},
      {"atan", atan, atanq, -2, 2, u},
      {"atan", atan, atanq, -1e-7, 1e-7, u},
      {"atan", atan, atanq, -1e20, 1e20, u},
      {"sinh", sinh, sinhq, -1, 1, u},
      {"sinh", sinh, sinhq, -1e-9, 1e-9, u},
      {"sinh", sinh, sinhq, -709, 709, u},
      {"cosh", cosh, coshq, -5, 5, u},
      {"tanh", tanh, tanhq, -1, 1, u},
      {"tanh", tanh, tanhq, -45, 45, u},
      {"asinh", asinh, asinhq, -1, 1, u},
      {"asinh", asinh, asinhq, -1e25, 1e25, u},
      {"acosh", acosh, acoshq, 1, 1.0001, 2 * u},
      {"acosh", acosh, acoshq, 1, 100, u},
      {"atanh", atanh, atanhq, -0.99, 0.99, u},
      {"sqrt", sqrt, sqrtq, 1e-310, 1e-300, 1e-2},  // subnormal input: only its own bits
      {"sqrt", sqrt, sqrtq, 1e-290, 1e-280, u},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    CAPTURE(c.a);
    CHECK(worst(c.f, c.g, c.a, c.b) <= c.tol);
  }
}

TEST_CASE("dd: sin and cos keep an absolute 1e-31 for arguments up to 1e10, and reduce any double") {
  Random random;
  double moderate = 0, large = 0;
  for (int i = 0; i < 20000; ++i) {
    const DD x = random.dd(-1e10, 1e10);
    // Quad arguments of 1e10 carry the pair exactly; libquadmath reduces them fully.
    DD s, c;
    sincos(x, s, c);
    const double es = static_cast<double>(quad(s) - sinq(quad(x))),
                 ec = static_cast<double>(quad(c) - cosq(quad(x)));
    moderate = std::fmax(moderate, std::fmax(std::fabs(es), std::fabs(ec)));
    CHECK(sin(x) == s);
    CHECK(cos(x) == c);
  }
  for (int i = 0; i < 20000; ++i) {
    const double x = std::ldexp(random.uniform(-2, 2), static_cast<int>(random.uniform(20, 1022)));
    const double es = static_cast<double>(quad(sin(DD(x))) - sinq(static_cast<Quad>(x)));
    const double ec = static_cast<double>(quad(cos(DD(x))) - cosq(static_cast<Quad>(x)));
    large = std::fmax(large, std::fmax(std::fabs(es), std::fabs(ec)));
  }
  CHECK(moderate <= 1e-31);
  CHECK(large <= 1e-31);
  // Close to a root the result is the reduced argument itself: sin(pi_dd) = pi - pi_dd = -3.0e-33 (relative
  // 1e-12).
  CHECK(relative(sin(tinyphys::kDDPi), static_cast<Quad>(-0x1.f1976b7ed8fbcp-109) +
                                           static_cast<Quad>(0x1.4cf98e804177dp-163)) < 1e-12);
  // Doubles nearest to multiples of pi/2 (Kahan): the reduction cancels 60 bits and more.
  for (const double x :
       {6381956970095103.0 * 0x1p797, 5319372648326541.0 * 0x1p200, 22.0, 355.0, 0x1.921fb54442d18p+1}) {
    CHECK(relative(sin(DD(x)), sinq(static_cast<Quad>(x))) < 1e-13);
    CHECK(relative(cos(DD(x)), cosq(static_cast<Quad>(x))) < 1e-13);
  }
}

TEST_CASE("dd: powers, atan2, hypot") {
  using namespace tinyphys;
  Random random;
  double w_int = 0, w_real = 0, w_atan2 = 0, w_hypot = 0;
  for (int i = 0; i < 5000; ++i) {
    const DD x = random.dd(0.1, 10), y = random.dd(-20, 20);
    const int n = static_cast<int>(random.uniform(-60, 60));
    w_int = std::fmax(w_int, relative(pow(-x, n), powq(-quad(x), Quad(n))));
    w_real = std::fmax(w_real, relative(pow(x, y), powq(quad(x), quad(y))));
    const DD a = random.dd(-5, 5);
    w_atan2 = std::fmax(w_atan2, relative(atan2(y, a), atan2q(quad(y), quad(a))));
    w_hypot = std::fmax(w_hypot, relative(hypot(y, a), hypotq(quad(y), quad(a))));
  }
  CHECK(w_int <= 5e-30);   // 6 squarings, each doubling the error
  CHECK(w_real <= 5e-30);  // |y log x| <= 46 times 1e-31
  CHECK(w_atan2 <= 2e-31);
  CHECK(w_hypot <= 1e-31);
  CHECK(relative(pow(DD(-3.0), DD(101.0)), powq(Quad(-3), Quad(101))) < 1e-29);
  CHECK(pow(DD(2.0), DD(10.0)) == DD(1024.0));
  CHECK(pow(DD(0.0), DD(0.0)) == DD(1.0));
  CHECK(pow(DD(5.0), 0) == DD(1.0));
  CHECK(hypot(DD(1e300), DD(1e300)).hi == doctest::Approx(std::sqrt(2.0) * 1e300));
  CHECK(atan2(DD(0.0), DD(-1.0)) == kDDPi);
  CHECK(atan2(DD(1.0), DD(0.0)) == kDDHalfPi);
  CHECK(atan2(DD(kInf), DD(kInf)) == ldexp(kDDPi, -2));
}
