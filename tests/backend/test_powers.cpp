// Integer powers against quad: at most 4 ulp, where the result is subnormal and where it nearly overflows too.
#include "backend/kernel_helpers.hpp"
#include "support/quad.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

Quad two_to(int n) { return pow(Quad(2.0), Quad(static_cast<double>(n))); }

// Exact to far more than a double: factors with the exponents taken apart, so that they do not under- or overflow.
Quad exact_power(double x, int k) {
  int e = 0;
  const Quad m = std::frexp(x, &e);
  Quad r = 1.0;
  for (int i = 0; i < std::abs(k); ++i) r = r * m;
  return (k < 0 ? Quad(1.0) / r : r) * two_to(e * k);
}

// In units of the last place of the exact value; beyond the largest number the spacing goes on.
double ulps(double got, Quad exact, int digits, int lowest, int highest) {
  if (std::isnan(got)) return 1e300;
  if (exact != Quad(0.0) && (exact < Quad(0.0)) != std::signbit(got)) return 1e300;
  const Quad limit = two_to(highest + 1);
  const Quad v = std::isinf(got) ? limit : Quad(std::fabs(got)), e = abs(exact) > limit ? limit : abs(exact);
  const int exponent =
      static_cast<double>(e * Quad(0.5)) == 0 ? lowest : std::ilogb(static_cast<double>(e * Quad(0.5))) + 2;
  return static_cast<double>(abs(v - e) / two_to(std::max(exponent - digits, lowest)));
}

void check_powers(DType d, int digits, int lowest, int highest) {
  std::mt19937_64 rng(31);
  const auto uniform = [&](double lo, double hi) {
    return lo + (hi - lo) * std::generate_canonical<double, 53>(rng);
  };
  const std::int64_t n = 1500;
  for (const int k : {-64, -33, -16, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 16, 33, 64}) {
    CAPTURE(k);
    Bytes x(d, {n});
    for (std::int64_t i = 0; i < n; ++i) {
      // The whole range; results that are subnormal or vanish; results at the largest number.
      double power = uniform(lowest / 2.0, highest / 2.0);
      if (i % 3 == 1) power = uniform(lowest - 2.0, lowest + digits) / k;
      if (i % 3 == 2) power = uniform(highest - 2.0, highest + 2.0) / k;
      power = std::clamp(power, static_cast<double>(lowest), static_cast<double>(highest));
      x.set(i, (i % 2 ? -1.0 : 1.0) * std::exp2(power));
    }
    const UOp kernel = lambda({powi(tensor(0, {n}, d), k)}, 1);
    for (const std::string_view name : {env::device(), std::string_view("interp")}) {
      CAPTURE(name);
      const Bytes y = run(device(name), kernel, {x})[0];
      double worst = 0, at = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const double u = ulps(y.real(i), exact_power(x.real(i), k), digits, lowest, highest);
        if (u > worst) {
          worst = u;
          at = x.real(i);
        }
      }
      CAPTURE(at);
      CHECK(worst <= 4);
    }
  }
}

}  // namespace

TEST_CASE("integer powers of float64 keep 4 ulp over the whole range") {
  check_powers(DType::kFloat64, 53, -1074, 1023);
}
TEST_CASE("integer powers of float32 keep 4 ulp over the whole range") {
  check_powers(DType::kFloat32, 24, -149, 127);
}

TEST_CASE("integer powers of zeros, infinities, NaN and the ends of the range") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> v{0.0,
                              -0.0,
                              1.0,
                              -1.0,
                              inf,
                              -inf,
                              nan,
                              5e-324,
                              -5e-324,
                              1.7976931348623157e308,
                              -1.7976931348623157e308,
                              1.3407807929942597e154,
                              1.4e154,
                              -1.2e154,
                              5.8e102,
                              -5.8e102};
  const auto n = static_cast<std::int64_t>(v.size());
  for (const int k : {-7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}) {
    CAPTURE(k);
    for (const std::string_view name : {env::device(), std::string_view("interp")}) {
      const Bytes y = run(device(name), lambda({powi(tensor(0, {n}), k)}, 1), {doubles({n}, v)})[0];
      for (std::int64_t i = 0; i < n; ++i) {
        const double want = std::pow(v[static_cast<std::size_t>(i)], k), got = y.real(i);
        CAPTURE(v[static_cast<std::size_t>(i)]);
        const bool exact = want == 0 || std::isinf(want) || std::isnan(want);
        if (exact)
          CHECK(((std::isnan(want) && std::isnan(got)) ||
                 (got == want && std::signbit(got) == std::signbit(want))));
        else
          CHECK(std::fabs(got - want) <= 4 * 0x1p-52 * std::fabs(want) + 4 * 5e-324);
      }
    }
  }
}
