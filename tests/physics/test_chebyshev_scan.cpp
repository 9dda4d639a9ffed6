// The Chebyshev series of exp(-i H t) and exp(-H t) as a scan: closed forms, its number of terms, its plan, and what it refuses.
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "derive/chebyshev_scan.hpp"
#include "engine/engine.hpp"
#include "linalg/chebyshev.hpp"
#include "linalg/fft.hpp"
#include "support/env.hpp"
#include "support/quad.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"

using namespace tinyphys;

namespace {

using Complex = std::complex<double>;
using Row = std::vector<Complex>;

constexpr double kPi = std::numbers::pi;

// A periodic grid of n points over `length`, hbar = m = 1.
struct Waves {
  std::int64_t n;
  double length;
  Tensor x, kinetic;
  Tensor v;
  double least = 0, most = 0;  // of v

  Waves(std::int64_t points, double size) : n(points), length(size) {
    x = (Tensor::arange(static_cast<double>(n)) * (length / static_cast<double>(n)) - length / 2).realize();
    kinetic = (0.5 * square(2 * kPi * fftfreq(n, length / static_cast<double>(n)))).realize();
    v = Tensor::zeros({n});
  }
  Waves& potential(const Tensor& of_x) {
    v = of_x.clone();
    least = v.min().item<double>();
    most = v.max().item<double>();
    return *this;
  }
  double fastest() const { return kinetic.max().item<double>(); }
  BoundedOperator energy(double share = 1) const {
    const auto apply = [t = kinetic, u = v](const UOp& psi) {
      const Tensor y = tensor(psi);
      return uop(ifft(t * fft(y)) + u * y);
    };
    const double high = fastest() + most;
    return {apply, (high + least) / 2, share * (high - least) / 2};
  }
  // Of norm 1 in the sum of squares.
  Tensor packet(double centre, double momentum, double width = 1) const {
    const Tensor y = x - centre;
    const Tensor psi = exp(complex(-0.5 * y * y / (width * width), momentum * y));
    return (psi / psi.norm()).realize();
  }
};

Row row(const Tensor& t) { return t.to_vector<Complex>(); }
Tensor after(const BoundedOperator& h, const Tensor& psi, double t, double tol = 1e-15) {
  return tensor(chebyshev_exponential(h, uop(psi), t, Exponential::kPhase, tol).value);
}
double distance(const Row& a, const Row& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}
double norm_of(const Row& a) {
  double s = 0;
  for (const Complex& z : a) s += std::norm(z);
  return std::sqrt(s);
}

// A free packet, by its waves, every number a quad.
Row free_after(const Waves& g, const Row& psi, double t) {
  const std::size_t n = psi.size();
  const Quad pi = acos(Quad(-1.0));
  struct Wave {
    Quad re = 0.0, im = 0.0;
  };
  const auto sum = [&](const std::vector<Wave>& x, double sign) {
    std::vector<Wave> out(n);
    for (std::size_t k = 0; k < n; ++k)
      for (std::size_t j = 0; j < n; ++j) {
        const Quad a =
            Quad(2.0 * sign) * pi * Quad(static_cast<double>(j * k % n)) / Quad(static_cast<double>(n));
        out[k].re = out[k].re + x[j].re * cos(a) - x[j].im * sin(a);
        out[k].im = out[k].im + x[j].re * sin(a) + x[j].im * cos(a);
      }
    return out;
  };
  std::vector<Wave> x(n);
  for (std::size_t j = 0; j < n; ++j) x[j] = {psi[j].real(), psi[j].imag()};
  x = sum(x, -1);
  const auto energies = g.kinetic.to_vector<double>();
  for (std::size_t k = 0; k < n; ++k) {
    const Quad a = Quad(energies[k]) * Quad(-t), c = cos(a), s = sin(a);
    x[k] = {x[k].re * c - x[k].im * s, x[k].re * s + x[k].im * c};
  }
  Row out;
  for (const Wave& w : sum(x, 1))
    out.emplace_back(static_cast<double>(w.re) / static_cast<double>(n),
                     static_cast<double>(w.im) / static_cast<double>(n));
  return out;
}

doctest::skip needs_fft() { return doctest::skip(!fft_available()); }

}  // namespace

TEST_CASE("chebyshev scan: a free packet, forwards and backwards, against its waves in quad precision" *
          needs_fft()) {
  const Waves g(64, 20);
  const Tensor psi = g.packet(-2, 1.5);
  for (const double spread : {0.01, 1.0, 200.0, 2000.0}) {  // R t
    CAPTURE(spread);
    const double t = spread / g.energy().radius;
    for (const double time : {t, -t}) {
      const Row end = row(after(g.energy(), psi, time));
      CHECK(distance(end, free_after(g, row(psi), time)) < 1e-12);
      CHECK(std::fabs(norm_of(end) - 1) < 1e-13);
    }
    const ChebyshevSum s = chebyshev_exponential(g.energy(), uop(psi), t, Exponential::kPhase, 1e-13);
    CHECK(static_cast<double>(s.terms) <= spread + 9.3 * std::cbrt(spread) + 4);
    CHECK(s.last >= 1e-13);
  }
  CHECK(distance(row(after(g.energy(), psi, 0)), row(psi)) == 0);
}

TEST_CASE("chebyshev scan: a coherent state comes back after ten periods" * needs_fft()) {
  Waves g(64, 18);
  g.potential(0.5 * g.x * g.x);
  const Tensor psi = g.packet(1.5, 0);
  const double period = 2 * kPi;
  CHECK(distance(row(after(g.energy(), psi, 10 * period)), row(psi)) < 1e-11);
  // On the way x is 1.5 cos t.
  const Tensor third = after(g.energy(), psi, period / 3);
  CHECK((square(abs(third)) * g.x).sum().item<double>() ==
        doctest::Approx(1.5 * std::cos(period / 3)).epsilon(1e-11));
}

TEST_CASE("chebyshev scan: a decay ends in the ground state" * needs_fft()) {
  Waves g(48, 16);
  g.potential(0.5 * g.x * g.x);
  const BoundedOperator h = g.energy();
  const Tensor start = exp(complex(-square(g.x - 1.0), 0.3 * g.x));
  const Tensor end = tensor(chebyshev_exponential(h, uop(start), 20, Exponential::kDecay, 1e-15).value);
  const Tensor psi = end / end.norm();
  const double energy = real((conj(psi) * tensor(h.apply(uop(psi)))).sum()).item<double>();
  CHECK(std::fabs(energy - 0.5) < 1e-12);
  // A real state stays real, and is the same.
  const auto apply = [&](const UOp& y) { return uop(real(tensor(h.apply(uop(complex(tensor(y), 0.0)))))); };
  const Tensor one = exp(-square(g.x - 1.0));
  const auto of = [&](const Tensor& y, auto&& f) {
    return tensor(
        chebyshev_exponential({f, h.centre, h.radius}, uop(y), 3, Exponential::kDecay, 1e-15).value);
  };
  CHECK(allclose(of(one, apply), real(of(complex(one, 0.0), h.apply)), 1e-13, 1e-15));
}

TEST_CASE("chebyshev scan: two levels, in one kernel, of a product of matrices") {
  const double gap = 0.7, join = 0.4, size = std::hypot(gap, join), t = 3;
  const Tensor m = complex(Tensor::from({{gap, join}, {join, -gap}}), 0.0).realize();
  const BoundedOperator h{[&](const UOp& y) { return uop(matmul(m, tensor(y))); }, 0.1, 1.0};
  const Tensor psi = Tensor::from(Row{0.6, Complex(0, 0.8)});
  // exp(-i H t) = cos(|H| t) - i H sin(|H| t) / |H|.
  const Complex c = std::cos(size * t), s = Complex(0, -std::sin(size * t) / size);
  const Row p = row(psi);
  const Row exact{c * p[0] + s * (gap * p[0] + join * p[1]), c * p[1] + s * (join * p[0] - gap * p[1])};
  CHECK(distance(row(after(h, psi, t)), exact) < 1e-14);
}

TEST_CASE("chebyshev scan: bounds a percent too small, and what is not Hermitian, are found when it runs" *
          needs_fft()) {
  Waves g(64, 20);
  g.potential(0.5 * cos(g.x * (2 * kPi / 20)));
  // Over all of the spectrum.
  std::vector<Complex> rough;
  for (int i = 0; i < 64; ++i) rough.emplace_back(std::sin(1.7 * i * i), std::cos(0.9 * i * i));
  const Tensor psi = Tensor::from(rough);
  for (const double spread : {20.0, 200.0, 2000.0}) {
    CAPTURE(spread);
    const double t = spread / g.energy().radius;
    CHECK_NOTHROW((void)row(after(g.energy(), psi, t)));
    // Bounds of T + V are wider than the spectrum by what V spans: 3 % here.
    CHECK_THROWS_WITH_AS((void)row(after(g.energy(0.96), psi, t)), doctest::Contains("the series grew"),
                         Error);
  }
  const Waves free(64, 20);
  for (const double spread : {20.0, 200.0, 2000.0}) {
    CAPTURE(spread);
    const double t = spread / free.energy().radius;
    CHECK_NOTHROW((void)row(after(free.energy(), psi, t)));
    CHECK_THROWS_WITH_AS((void)row(after(free.energy(0.99), psi, t)), doctest::Contains("the series grew"),
                         Error);
  }
  BoundedOperator absorbing = g.energy();
  absorbing.apply = [h = absorbing.apply](const UOp& y) {
    return uop(tensor(h(y)) - complex(0.0, 0.01) * tensor(y));
  };
  CHECK_THROWS_WITH_AS((void)row(after(absorbing, psi, 20)), doctest::Contains("not Hermitian"), Error);
  const Tensor nan = psi * std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH_AS((void)row(after(g.energy(), nan, 20)), doctest::Contains("psi is not finite"), Error);
}

TEST_CASE("chebyshev scan: the same on every device and without passes" * needs_fft()) {
  Waves g(32, 12);
  g.potential(0.5 * g.x * g.x);
  const Tensor psi = g.packet(1, 0.5);
  const Row here = row(after(g.energy(), psi, 0.7));
  for (const char* optimize : {"1", "0"})
    for (const char* device : {"cpu", "interp", "island"}) {
      CAPTURE(optimize);
      CAPTURE(device);
      const env::ScopedOverride passes("TINYPHYS_OPT", optimize), on("TINYPHYS_DEVICE", device);
      CHECK(distance(row(after(g.energy(), psi * 1.0, 0.7)), here) < 1e-14);
    }
}

TEST_CASE("chebyshev scan: a term is a pair of transforms and a kernel after each" *
          doctest::skip(!fft_available() || !env::optimize())) {
  Waves g(4096, 100);
  g.potential(exp(-g.x * g.x));
  const Tensor end = after(g.energy(), g.packet(0, 1), 0.01);
  const UOp node = uop(end);
  const std::string plan = describe_plan(std::span<const UOp>(&node, 1));
  CAPTURE(plan);
  const std::size_t begin = plan.find("loop");
  REQUIRE(begin != std::string::npos);
  std::size_t kernels = 0, transforms = 0;
  for (std::size_t at = plan.find("\n", begin) + 1; plan.compare(at, 2, "  ") == 0;
       at = plan.find("\n", at) + 1) {
    kernels += plan.compare(at + 2, 6, "kernel") == 0;
    transforms += plan.compare(at + 2, 3, "fft") == 0;
  }
  CHECK(transforms == 2);
  CHECK(kernels == 2);
}

TEST_CASE("chebyshev scan: a gradient by the potential" * needs_fft()) {
  Waves g(32, 12);
  g.potential(0.5 * g.x * g.x);
  const Tensor psi = g.packet(1, 0.5), change = exp(-square(g.x - 0.5)), seen = g.x;
  const BoundedOperator bounds = g.energy();
  const auto f = [&](const Tensor& v) {
    const auto apply = [&](const UOp& y) { return uop(ifft(g.kinetic * fft(tensor(y))) + v * tensor(y)); };
    const Tensor end = after({apply, bounds.centre, 1.1 * bounds.radius}, psi, 0.8);
    return (square(abs(end)) * seen).sum();
  };
  const double by_gradient = (grad(f)(g.v) * change).sum().item<double>();
  const auto at = [&](double s) { return f(g.v + s * change).item<double>(); };
  const double h = 1e-2;
  CHECK(by_gradient ==
        doctest::Approx((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)).epsilon(1e-8));
}

TEST_CASE("chebyshev scan: bad input") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const UOp psi = uop(Tensor::from(Row{1, 0}));
  const auto same = [](const UOp& y) { return y; };
  const auto make = [&](BoundedOperator h, double t, Exponential kind = Exponential::kPhase,
                        double tol = 1e-13) { return chebyshev_exponential(h, psi, t, kind, tol); };
  CHECK_THROWS_WITH_AS(make({same, 0, 0}, 1), doctest::Contains("0.000000 +- 0.000000"), Error);
  CHECK_THROWS_AS(make({same, nan, 1}, 1), Error);
  CHECK_THROWS_AS(make({same, 0, nan}, 1), Error);
  CHECK_THROWS_WITH_AS(make({same, 0, 1}, nan), doctest::Contains("the time is nan"), Error);
  CHECK_THROWS_AS(make({same, 0, 1}, -1, Exponential::kDecay), Error);
  CHECK_THROWS_AS(make({same, 0, 1}, 1, Exponential::kPhase, 0), Error);
  CHECK_THROWS_AS(make({same, 0, 1}, 1e9), Error);
  CHECK_THROWS_WITH_AS(make({[](const UOp& y) { return uop(real(tensor(y))); }, 0, 1}, 1),
                       doctest::Contains("H psi is float64[2], psi is complex128[2]"), Error);
  CHECK_THROWS_WITH_AS(
      chebyshev_exponential({same, 0, 1}, uop(Tensor::ones({2})), 1, Exponential::kPhase, 1e-13),
      doctest::Contains("psi is float64"), Error);
}
