// Coefficients of Chebyshev series: against quad precision, closed forms, and the exponentials that they are series of.
#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include "linalg/chebyshev.hpp"
#include "support/quad.hpp"
#include "tinyphys/error.hpp"

extern "C" tinyphys_float128 jnq(int, tinyphys_float128);

using namespace tinyphys;

namespace {

const std::vector<double> kArguments{1e-3, 0.1,  1.0,  2.404825557695773, 10,  50.25,
                                     137,  1000, 2000, 12345.678,         1e5, 1e6};

double off(double x, Quad exact) { return std::fabs(static_cast<double>(Quad(x) - exact)); }

// Sum of coefficients times T_k(y), by Clenshaw's recurrence.
template <class T> std::complex<double> at(const std::vector<T>& c, double y) {
  std::complex<double> b1 = 0, b2 = 0;
  for (std::size_t k = c.size(); k-- > 1;) {
    const std::complex<double> b = c[k] + 2 * y * b1 - b2;
    b2 = b1;
    b1 = b;
  }
  return c[0] + y * b1 - b2;
}

}  // namespace

TEST_CASE("chebyshev: J_k to 1e-15 for all k, against a library in quad precision") {
  for (const double x : {1e-3, 0.1, 1.0, 2.404825557695773, 10.0, 50.25, 137.0, 1000.0, 2000.0}) {
    CAPTURE(x);
    const auto j = bessel_j(x, 1e-30);
    const auto every = static_cast<int>(std::max<std::size_t>(1, j.size() / 97));
    for (int k = 0; k < static_cast<int>(j.size()); k += every)
      CHECK(off(j[static_cast<std::size_t>(k)], Quad(jnq(k, x))) < 1e-15);
  }
}

TEST_CASE(
    "chebyshev: J_k at large arguments, by the forward recurrence where it is stable, in quad precision") {
  for (const double x : {12345.678, 1e5, 1e6}) {
    CAPTURE(x);
    const auto j = bessel_j(x, 1e-30);
    Quad before(jnq(0, x)), now(jnq(1, x));
    double most = off(j[0], before);
    // It loses digits as k comes near x: of 33 there are enough left until then.
    for (std::size_t k = 1; static_cast<double>(k) < x - 2 * std::cbrt(x); ++k) {
      most = std::max(most, off(j[k], now));
      const Quad next = Quad(2.0 * static_cast<double>(k)) / Quad(x) * now - before;
      before = now;
      now = next;
    }
    CHECK(most < 1e-15);
    // Beyond: the sum of all squares.
    Quad squares = Quad(j[0]) * Quad(j[0]);
    for (std::size_t k = 1; k < j.size(); ++k) squares = squares + Quad(2.0) * Quad(j[k]) * Quad(j[k]);
    CHECK(off(1.0, squares) < 1e-13);
  }
}

TEST_CASE("chebyshev: there are no more terms than the contract says") {
  for (const double x : kArguments) {
    CAPTURE(x);
    const auto j = bessel_j(x, 1e-13);
    CHECK(static_cast<double>(j.size()) <= x + 9.3 * std::cbrt(x) + 4);
    CHECK(std::fabs(j.back()) >= 1e-13);
    // What is cut off is below it.
    const auto more = bessel_j(x, 1e-25);
    for (std::size_t k = j.size(); k < more.size(); ++k) CHECK(std::fabs(more[k]) < 1e-13);
  }
}

TEST_CASE("chebyshev: exp(-x) I_k, against its closed sums and the recurrence") {
  for (const double x : kArguments) {
    CAPTURE(x);
    const auto i = scaled_bessel_i(x, 1e-30);
    Quad all = i[0], even = i[0];
    for (std::size_t k = 1; k < i.size(); ++k) {
      all = all + Quad(2.0 * i[k]);
      even = even + Quad((k % 2 == 0 ? 2.0 : -2.0) * i[k]);  // exp(-2 x)
    }
    CHECK(off(1.0, all) < 1e-15);
    CHECK(off(std::exp(-2 * x), even) < 1e-15);
    double most = 0;
    for (std::size_t k = 1; k + 1 < i.size(); ++k)
      most = std::max(most, std::fabs(i[k - 1] - i[k + 1] - 2 * static_cast<double>(k) / x * i[k]));
    CHECK(most < 4e-16);
  }
  CHECK(scaled_bessel_i(1.0, 1e-20)[0] == doctest::Approx(0.46575960759364043).epsilon(1e-15));
  CHECK(scaled_bessel_i(1.0, 1e-20)[1] == doctest::Approx(0.20791041534970845).epsilon(1e-15));
}

TEST_CASE("chebyshev: the series are the exponentials") {
  for (const double x : {-1000.0, -3.0, 0.0, 1e-3, 1.0, 50.25, 2000.0})
    for (const double y : {-1.0, -0.7, 0.0, 0.3, 0.99, 1.0}) {
      CAPTURE(x);
      CAPTURE(y);
      const std::complex<double> exact(std::cos(x * y), -std::sin(x * y));
      CHECK(std::abs(at(chebyshev_of_phase(x, 1e-17), y) - exact) <
            1e-15 * (2 + std::fabs(x)));  // x y is rounded
      if (x >= 0) {
        const double decay = std::exp(-x * (y + 1));  // exp(-x y) / exp(x)
        CHECK(std::abs(at(chebyshev_of_decay(x, 1e-17), y) - decay) < 1e-15 * (2 + std::sqrt(x)));
      }
    }
  // A percent beyond the interval the series grows without bound: what a bound that is too small does.
  CHECK(std::abs(at(chebyshev_of_phase(2000, 1e-13), 1.01)) > 1e3);
}

TEST_CASE("chebyshev: bad input") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(bessel_j(-1, 1e-13), Error);
  CHECK_THROWS_AS(bessel_j(nan, 1e-13), Error);
  CHECK_THROWS_AS(bessel_j(1e9, 1e-13), Error);
  CHECK_THROWS_AS(bessel_j(1, 0), Error);
  CHECK_THROWS_AS(scaled_bessel_i(-1, 1e-13), Error);
  CHECK_THROWS_AS(chebyshev_of_decay(1, nan), Error);
  CHECK(bessel_j(0, 1e-13) == std::vector<double>{1.0});
}
