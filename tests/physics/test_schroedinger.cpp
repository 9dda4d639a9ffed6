// The Schroedinger equation against closed forms: free packets, coherent states, reflectionless wells, Morse levels.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdlib>
#include <functional>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <tinyphys/tinyphys.hpp>

namespace tp = tinyphys;

namespace {

using Complex = std::complex<double>;
constexpr Complex kI{0.0, 1.0};

std::vector<double> points(const tp::Grid& grid) { return grid.x(0).reshape({-1}).to_vector<double>(); }

tp::Tensor sampled(const tp::Grid& grid, const std::function<Complex(double)>& f) {
  std::vector<Complex> values;
  for (const double x : points(grid)) values.push_back(f(x));
  return tp::Tensor::from(values);
}
double largest_difference(const tp::Tensor& a, const std::function<Complex(double)>& f,
                          const tp::Grid& grid) {
  const auto got = a.to_vector<Complex>();
  const auto x = points(grid);
  double most = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double d = std::abs(got[i] - f(x[i]));
    most = d <= most ? most : d;
  }
  return most;
}

// A Gaussian of width s at x0 with momentum k, after t (hbar = m = 1), and its derivative in x.
struct Packet {
  double x0 = 0.0, k = 0.0, s = 1.0;
  Complex at(double x, double t) const {
    const Complex spread = 1.0 + kI * t / (2 * s * s);
    const double d = x - x0 - k * t;
    return std::pow(2 * std::numbers::pi * s * s, -0.25) / std::sqrt(spread) *
           std::exp(-d * d / (4 * s * s * spread) + kI * (k * (x - x0) - 0.5 * k * k * t));
  }
  Complex slope(double x, double t) const {
    const Complex spread = 1.0 + kI * t / (2 * s * s);
    return at(x, t) * (-(x - x0 - k * t) / (2 * s * s * spread) + kI * k);
  }
};

// The state of least energy in x^2 / 2, moved by x0, after `periods` of its motion: the largest difference of one series and the
// closed form, at the time that the number `t` is.
double coherent_error(std::int64_t n, double length, double periods, double tol,
                      std::optional<std::pair<double, double>> spectrum = {}) {
  const tp::Grid grid({n}, {length});
  const tp::Schroedinger trap(grid, 0.5 * tp::square(grid.x(0)));
  const double x0 = 1.0, t = 2 * std::numbers::pi * periods;
  // t is not the whole number of periods that it stands for.
  constexpr double kRestOfTwoPi = 2.4492935982947064e-16;
  const double late = std::fma(-periods, 2 * std::numbers::pi, t) - periods * kRestOfTwoPi;
  const double sign = std::fmod(std::fabs(periods), 2.0) == 1.0 ? -1.0 : 1.0;  // energies are n + 1/2
  const auto at = [&](double x, double time) {
    const Complex turn = std::exp(-kI * time);
    return std::exp(-0.5 * x * x + x0 * turn * x - 0.25 * x0 * x0 * (1.0 + turn * turn) - 0.5 * kI * time);
  };
  const tp::Tensor psi = sampled(grid, [&](double x) { return at(x, 0.0); });
  const tp::Tensor end =
      trap.evolve(psi, {.t_end = t, .method = tp::Method::Spectral, .tol = tol, .spectrum = spectrum}).psi;
  return largest_difference(
      end, [&](double x) { return sign * at(x, late); }, grid);
}

bool long_tests() {
  const char* set = std::getenv("TINYPHYS_LONG_TESTS");
  return set && std::string(set) == "1";
}

}  // namespace

TEST_CASE("schroedinger: a free packet, by one series and by steps, which are exact without V") {
  const tp::Grid grid({512}, {80.0});
  const tp::Schroedinger free(grid, 0.0);
  const Packet packet{-10.0, 2.0, 1.5};
  const tp::Tensor psi = sampled(grid, [&](double x) { return packet.at(x, 0.0); });
  const auto exact = [&](double x) { return packet.at(x, 6.0); };
  CHECK(largest_difference(free.evolve(psi, {.t_end = 6.0, .method = tp::Method::Spectral}).psi, exact,
                           grid) < 1e-12);
  CHECK(largest_difference(free.evolve(psi, {.dt = 0.5, .t_end = 6.0}).psi, exact, grid) < 1e-12);
  CHECK(free.norm(psi).item<double>() == doctest::Approx(1.0).epsilon(1e-12));
  CHECK(free.energy(psi).item<double>() == doctest::Approx(2.0 + 1.0 / (8 * 1.5 * 1.5)).epsilon(1e-12));
  CHECK(free.expectation(psi, grid.x(0)).item<double>() == doctest::Approx(-10.0).epsilon(1e-12));
}

TEST_CASE("schroedinger: a coherent state comes back after whole periods; the norm is kept") {
  const tp::Grid grid({80}, {20.0});
  const tp::Schroedinger trap(grid, 0.5 * tp::square(grid.x(0)));
  const auto start = [](double x) { return std::exp(-0.5 * (x - 1.0) * (x - 1.0)) + 0.0 * kI; };
  const tp::Tensor psi = sampled(grid, start);
  const double period = 2 * std::numbers::pi;
  const tp::Wave w =
      trap.evolve(psi, {.dt = period / 4, .steps = 400, .method = tp::Method::Spectral, .save_every = 40});
  CHECK(w.psi.shape() == tp::Shape{11, 80});
  CHECK(w.t.to_vector<double>()[10] == doctest::Approx(100 * period).epsilon(1e-14));
  for (std::int64_t i : {1L, 5L, 10L}) {
    CAPTURE(i);  // energies n + 1/2: after 10 i periods the sign is (-1)^(10 i)
    const tp::Tensor at = w.psi.slice(0, i, i + 1).squeeze(0);
    CHECK(largest_difference(at, start, grid) < 1e-12);
    CHECK(std::fabs((trap.norm(at) / trap.norm(psi)).item<double>() - 1.0) < 2e-13 * static_cast<double>(i));
  }
}

TEST_CASE(
    "schroedinger: a coherent state over a hundred and a thousand periods, by one series and by several") {
  // The roundings of R t, 1 / R and E t turn psi by 1e-12 in a hundred periods, and are made up for: with these bounds what is
  // missing of the time has either sign.
  for (const double more : {0.0, 4.0, 5.0, 10.0}) {
    CAPTURE(more);
    const double top = 0.5 * std::pow(3.2 * std::numbers::pi, 2) + 50.0;
    CHECK(coherent_error(64, 20.0, 100.0, 2e-15, std::pair{-more, top + more}) < 2e-13);
    CHECK(coherent_error(64, 20.0, -100.0, 2e-15, std::pair{-more, top + more}) < 2e-13);
  }
  CHECK(coherent_error(64, 20.0, 1000.0, 2e-15) < 1e-12);
}

TEST_CASE("schroedinger: a coherent state over ten thousand periods (TINYPHYS_LONG_TESTS=1)" *
          doctest::skip(!long_tests())) {
  CHECK(coherent_error(64, 20.0, 1e4, 2e-15) < 2e-12);
}

TEST_CASE("schroedinger: nothing is reflected by -1 / cosh^2 x") {
  const tp::Grid grid({2048}, {240.0});
  const tp::Schroedinger well(grid, -1.0 / tp::square(tp::cosh(grid.x(0))));
  // (tanh x - d/dx) takes free motions to those in this well.
  const Packet packet{-30.0, 2.0, 3.0};
  const auto exact = [&](double t) {
    return [&packet, t](double x) { return std::tanh(x) * packet.at(x, t) - packet.slope(x, t); };
  };
  const tp::Tensor psi = sampled(grid, exact(0.0));
  CHECK(largest_difference(well.evolve(psi, {.t_end = 25.0, .method = tp::Method::Spectral}).psi, exact(25.0),
                           grid) < 1e-12);
  CHECK(largest_difference(well.evolve(psi, {.t_end = -5.0, .method = tp::Method::Spectral}).psi, exact(-5.0),
                           grid) < 1e-12);
}

TEST_CASE("schroedinger: nothing is reflected by -3 / cosh^2 x, from which two levels follow") {
  const tp::Grid grid({2048}, {240.0});
  const tp::Tensor well_of_x = -3.0 / tp::square(tp::cosh(grid.x(0))), t_of_k = 0.5 * grid.k_squared();
  // As a function of psi, beside the grid and V.
  const tp::Schroedinger well(grid, well_of_x),
      same([&](const tp::Tensor&z) { return tp::ifft(t_of_k * tp::fft(z)) + well_of_x * z; }, grid);
  // (2 tanh x - d/dx) (tanh x - d/dx) takes free motions to those in this well (Poeschl and Teller 1933).
  const Packet packet{-30.0, 2.0, 3.0};
  const auto exact = [&](double t) {
    return [&packet, t](double x) {
      const double s = 2 * packet.s * packet.s, th = std::tanh(x);
      const Complex spread = 1.0 + kI * t / s;
      const Complex f = packet.at(x, t), f1 = packet.slope(x, t), f2 = f1 * f1 / f - f / (s * spread);
      return 2.0 * th * (th * f - f1) - (f * (1 - th * th) + th * f1 - f2);
    };
  };
  const tp::Tensor psi = sampled(grid, exact(0.0));
  for (const tp::Schroedinger* h : {&well, &same})
    CHECK(largest_difference(h->evolve(psi, {.t_end = 25.0, .method = tp::Method::Spectral}).psi, exact(25.0),
                             grid) < 1e-12);
  // E = -2 and -1/2, of 1 / cosh^2 and sinh / cosh^2.
  const tp::Tensor x = grid.x(0);
  const tp::Tensor levels =
      tp::stack({1.0 / tp::square(tp::cosh(x)), tp::sinh(x) / tp::square(tp::cosh(x))}, 0);
  const auto e = same.energy(levels).to_vector<double>();
  CHECK(e[0] == doctest::Approx(-2.0).epsilon(1e-12));
  CHECK(e[1] == doctest::Approx(-0.5).epsilon(1e-12));
}

TEST_CASE("schroedinger: a Morse level turns by its energy, and imaginary time finds it") {
  const double depth = 8.0, omega = std::sqrt(2 * depth), lambda = std::sqrt(2 * depth);
  const double e0 = 0.5 * omega - 0.25 * omega * omega / (4 * depth);
  // The grid is shifted to where the state is.
  const tp::Grid grid({192}, {24.0});
  const double shift = 9.5;
  const tp::Tensor x = grid.x(0) + shift;
  const tp::Schroedinger morse(grid, depth * tp::square(1.0 - tp::exp(-x)));
  const auto level = [&](double at) {
    const double z = 2 * lambda * std::exp(-(at + shift));
    return std::exp((lambda - 0.5) * std::log(z) - 0.5 * z) + 0.0 * kI;
  };
  const tp::Tensor psi = morse.normalised(sampled(grid, level));
  CHECK(morse.energy(psi).item<double>() == doctest::Approx(e0).epsilon(1e-12));
  const double t = 3.0;
  const tp::Tensor later = morse.evolve(psi, {.t_end = t, .method = tp::Method::Spectral}).psi;
  const tp::Tensor turned = psi * std::exp(-kI * e0 * t);
  CHECK(tp::abs(later - turned).max().item<double>() < 1e-12);

  const tp::Tensor rough = tp::Tensor::ones({192});
  const tp::Tensor found =
      morse.evolve(rough, {.t_end = 12.0, .method = tp::Method::Spectral, .imaginary = true}).psi;
  CHECK(std::fabs(morse.energy(found).item<double>() - e0) < 1e-11);
  CHECK(morse.norm(found).item<double>() == doctest::Approx(1.0).epsilon(1e-13));
}

TEST_CASE("schroedinger: splittings have their orders, in two dimensions too") {
  const tp::Grid grid({32, 40}, {12.0, 14.0});
  const tp::Tensor x = grid.x(0), y = grid.x(1);
  const tp::Schroedinger h(grid, 0.5 * x * x + 0.3 * y * y + 0.1 * x * x * y);
  const tp::Tensor psi = tp::exp(-0.5 * tp::square(x - 0.7) - 0.4 * tp::square(y + 0.3));
  const tp::Tensor exact = h.evolve(psi, {.t_end = 2.0, .method = tp::Method::Spectral}).psi.realize();
  const auto error = [&](tp::Integrator kind, std::int64_t steps) {
    const tp::Tensor end =
        h.evolve(psi, {.dt = 2.0 / static_cast<double>(steps), .steps = steps, .integrator = kind}).psi;
    return tp::abs(end - exact).max().item<double>();
  };
  for (const auto& [kind, order, steps] :
       {std::tuple{tp::Integrator::LeapfrogKDK, 2.0, 20}, std::tuple{tp::Integrator::LeapfrogDKD, 2.0, 20},
        std::tuple{tp::Integrator::Yoshida4, 4.0, 20}, std::tuple{tp::Integrator::BlanesMoan4, 4.0, 40}}) {
    CAPTURE(static_cast<int>(kind));
    const double measured = std::log2(error(kind, steps) / error(kind, 2 * steps));
    CHECK(measured > order - 0.1);
    CHECK(measured < order + 0.4);
  }
}

TEST_CASE("schroedinger: imaginary steps and a batch") {
  const tp::Grid grid({64}, {16.0});
  const tp::Schroedinger trap(grid, 0.5 * tp::square(grid.x(0)));
  const tp::Tensor x = grid.x(0);
  const tp::Tensor both = tp::stack({tp::exp(-0.3 * tp::square(x)), tp::exp(-tp::square(x - 0.5))}, 0);
  const tp::Tensor ground =
      trap.evolve(both,
                  {.dt = 0.02, .steps = 1500, .integrator = tp::Integrator::BlanesMoan4, .imaginary = true})
          .psi;
  for (const double e : trap.energy(ground).to_vector<double>()) CHECK(std::fabs(e - 0.5) < 1e-9);
  const tp::Tensor moved = trap.evolve(both, {.t_end = 1.0, .method = tp::Method::Spectral}).psi;
  const tp::Tensor second =
      trap.evolve(both.slice(0, 1, 2).squeeze(0), {.t_end = 1.0, .method = tp::Method::Spectral}).psi;
  CHECK(tp::allclose(moved.slice(0, 1, 2).squeeze(0), second, 0, 1e-14));
}

TEST_CASE("schroedinger: a spectrum that is too small by a hundredth is found out by the norm") {
  const tp::Grid grid({256}, {20.0});
  const tp::Tensor x = grid.x(0);
  const tp::Schroedinger trap(grid, 0.5 * x * x);
  const tp::Tensor psi = tp::exp(-0.5 * tp::square(x - 1.0));
  const double top = 0.5 * grid.largest_k_squared() + 50.0;
  const auto run = [&](double high) {
    return trap.evolve(psi, {.t_end = 20.0, .method = tp::Method::Spectral, .spectrum = std::pair{0.0, high}})
        .psi.realize();
  };
  CHECK_NOTHROW(run(top));
  CHECK_THROWS_WITH_AS(run(0.99 * (0.5 * grid.largest_k_squared())),
                       doctest::Contains("is not within centre"), tp::Error);
}

TEST_CASE("schroedinger: gradients go through the series") {
  const tp::Grid grid({64}, {16.0});
  const tp::Tensor x = grid.x(0);
  const auto loss = [&](const tp::Tensor& a) {
    const tp::Schroedinger trap(grid, 0.5 * x * x);
    const tp::Tensor psi = tp::exp(-0.5 * tp::square(x - a));
    return trap.expectation(trap.evolve(psi, {.t_end = 0.7, .method = tp::Method::Spectral}).psi, x);
  };
  // <x> of a coherent state is a cos t.
  CHECK(tp::grad(loss)(tp::Tensor(0.8)).item<double>() == doctest::Approx(std::cos(0.7)).epsilon(1e-10));
}

TEST_CASE("schroedinger: what is no Schroedinger equation is refused") {
  const tp::Grid grid({64}, {16.0});
  const tp::Tensor x = grid.x(0);
  using doctest::Contains;
  CHECK_THROWS_WITH_AS(tp::Grid({1}, {1.0}), Contains("at least 2"), tp::Error);
  CHECK_THROWS_WITH_AS(tp::Grid({8}, {0.0}), Contains("length 0"), tp::Error);
  CHECK_THROWS_WITH_AS(tp::Grid({8, 8}, {1.0}), Contains("lengths of 1"), tp::Error);
  CHECK_THROWS_WITH_AS(tp::Grid({8, 8, 8, 8}, {1.0, 1.0, 1.0, 1.0}), Contains("4 axes"), tp::Error);
  CHECK_THROWS_WITH_AS(grid.x(1), Contains("axis"), tp::Error);
  CHECK_THROWS_WITH_AS(tp::Schroedinger(grid, x * Complex(0.0, -1.0)), Contains("Hermitian"), tp::Error);
  CHECK_THROWS_WITH_AS(tp::Schroedinger(grid, 1.0 / x), Contains("point [32]"), tp::Error);
  CHECK_THROWS_WITH_AS(tp::Schroedinger(grid, tp::log(x)), Contains("nan at point [0]"), tp::Error);
  CHECK_THROWS_WITH_AS(tp::Schroedinger(grid, tp::Tensor::zeros({32})), Contains("[32]"), tp::Error);
  CHECK_THROWS_WITH_AS(tp::Schroedinger(grid, 0.0, {.mass = 0.0}), Contains("mass is 0"), tp::Error);
  const tp::Schroedinger h(grid, 0.5 * x * x);
  const tp::Tensor psi = tp::exp(-x * x);
  CHECK_THROWS_WITH_AS(h.evolve(tp::Tensor::ones({32}), {.dt = 0.1, .steps = 1}), Contains("last axes"),
                       tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.steps = 1}), Contains("dt is missing"), tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.dt = 0.1}), Contains("neither steps nor t_end"), tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.dt = 0.1, .steps = 1, .t_end = 1.0}), Contains("both"), tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.dt = 0.1, .t_end = std::nan("")}), Contains("t_end is nan"),
                       tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.dt = 0.1, .steps = -1}), Contains("-1"), tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.dt = 0.1, .steps = 10, .save_every = 3}), Contains("does not divide"),
                       tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.t_end = 1.0, .method = tp::Method::Spectral, .tol = 1e-15}),
                       Contains("tol"), tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.dt = 0.1, .steps = 1, .integrator = tp::Integrator::Exact}),
                       Contains("Spectral"), tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.dt = 0.1, .steps = 1, .method = tp::Method::TimeWarp}),
                       Contains("TimeWarp"), tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(psi, {.dt = -0.1, .steps = 1, .imaginary = true}), Contains("forwards"),
                       tp::Error);
  const tp::Tensor nothing = tp::Tensor::zeros({64});
  CHECK_THROWS_WITH_AS(h.energy(nothing).item<double>(), Contains("psi is 0 everywhere"), tp::Error);
  CHECK_THROWS_WITH_AS(h.expectation(psi / 0.0, x).item<double>(), Contains("not finite"), tp::Error);
  CHECK_THROWS_WITH_AS(h.normalised(nothing).realize(), Contains("psi is 0 everywhere"), tp::Error);
  CHECK_THROWS_WITH_AS(h.evolve(nothing, {.dt = 0.1, .steps = 3, .imaginary = true}).psi.realize(),
                       Contains("psi is 0 everywhere"), tp::Error);
  CHECK_THROWS_WITH_AS(
      h.evolve(nothing, {.t_end = 1.0, .method = tp::Method::Spectral, .imaginary = true}).psi.realize(),
      Contains("psi is 0"), tp::Error);
  // No steps change nothing.
  CHECK(tp::allclose(h.evolve(psi, {.dt = 0.1, .steps = 0}).psi, psi));
  CHECK(tp::allclose(h.evolve(psi, {.t_end = 0.0, .method = tp::Method::Spectral}).psi, psi));
}
