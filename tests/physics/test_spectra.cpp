// Eigenstates and densities of states of a Schroedinger operator, against closed forms, published levels and sums over all levels.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <tinyphys/tinyphys.hpp>

#include "support/env.hpp"

namespace tp = tinyphys;

namespace {

using Complex = std::complex<double>;
constexpr double kPi = std::numbers::pi;

// Energies agree with the closed form within what their residuals allow and rounding, and the states are orthonormal.
void check_levels(const tp::Schroedinger& system, const tp::Eigenstates& s, const std::vector<double>& exact,
                  double rounding) {
  const std::vector<double> energy = s.energy.to_vector<double>(), residual = s.residual.to_vector<double>();
  REQUIRE(energy.size() == exact.size());
  for (std::size_t i = 0; i < exact.size(); ++i) {
    CAPTURE(i);
    CHECK(std::fabs(energy[i] - exact[i]) <= residual[i] + rounding);
  }
  const auto count = static_cast<std::int64_t>(exact.size());
  const tp::Tensor x = tp::real(s.psi).reshape({count, -1});
  CHECK((tp::abs(tp::matmul(x, x.transpose()) * system.grid().cell() - tp::Tensor::eye(count)))
            .max()
            .item<double>() < 1e-11);
  const tp::Tensor h = system.apply(s.psi), e = s.energy.reshape({-1, 1});
  const tp::Tensor off = tp::real(h).reshape({count, -1}) - e * x;
  CHECK(tp::allclose(tp::sqrt(tp::square(off).sum({1}) * system.grid().cell()), s.residual, 1e-2,
                     1e-12 * system.bounds().second));
}

tp::Schroedinger morse(std::int64_t points) {
  // D (1 - exp(-a x))^2 - D, a = 0.5, D = 8.
  const tp::Grid grid({points}, {44.0});
  const tp::Tensor x = grid.x(0) + 17.0;  // from -5 to 39
  const tp::Tensor rise = 1.0 - tp::exp(-0.5 * x);
  return tp::Schroedinger(grid, 8.0 * tp::square(rise) - 8.0);
}
// hbar omega (n + 1/2) - (hbar omega (n + 1/2))^2 / 4 D - D, omega = a sqrt(2 D) = 2.
std::vector<double> morse_levels(int count) {
  std::vector<double> e;
  for (int n = 0; n < count; ++n) e.push_back(2 * (n + 0.5) - std::pow(2 * (n + 0.5), 2) / 32 - 8);
  return e;
}

tp::Schroedinger henon_heiles() {
  const tp::Grid grid({48, 48}, {18.0, 18.0});
  const tp::Tensor x = grid.x(0), y = grid.x(1);
  return tp::Schroedinger(grid, 0.5 * (x * x + y * y) + 0.1118 * (x * x * y - y * y * y / 3.0));
}

// What the kernel polynomial method makes of levels of these weights: the same kernel, summed over the levels.
double smoothed(const std::vector<double>& levels, const std::vector<double>& weights, double energy,
                std::int64_t moments, std::pair<double, double> bounds) {
  const double centre = 0.5 * (bounds.first + bounds.second),
               radius = 0.5 * (bounds.second - bounds.first) * (1 + 1e-9);
  const double x = (energy - centre) / radius, m = static_cast<double>(moments);
  double sum = 0;
  for (std::int64_t k = 0; k < moments; ++k) {
    const double a = static_cast<double>(k), step = kPi / (m + 1);
    const double g = ((m - a + 1) * std::cos(step * a) + std::sin(step * a) / std::tan(step)) / (m + 1);
    double moment = 0;
    for (std::size_t n = 0; n < levels.size(); ++n)
      moment += weights[n] * std::cos(a * std::acos((levels[n] - centre) / radius));
    sum += (k == 0 ? 1 : 2) * g * moment * std::cos(a * std::acos(x));
  }
  return sum / (kPi * radius * std::sqrt(1 - x * x));
}

template <class F> std::string message(F&& f) {
  try {
    f();
  } catch (const tp::Error& e) {
    return e.message();
  }
  return "no error";
}

}  // namespace

TEST_CASE("spectra: a harmonic oscillator, by its matrix and by a filter, on even and odd grids") {
  for (const std::int64_t n : {96, 101, 640, 777}) {
    CAPTURE(n);
    const tp::Grid grid({n}, {22.0});
    const tp::Schroedinger trap(grid, 0.5 * tp::square(grid.x(0)));
    for (const std::int64_t count : {1, 7}) {
      const tp::Eigenstates s = tp::eigenstates(trap, count);
      CHECK((s.iterations == 0) == (n <= 512));
      std::vector<double> exact(static_cast<std::size_t>(count));
      std::iota(exact.begin(), exact.end(), 0.5);
      check_levels(trap, s, exact, 1e-12);
      CHECK(s.energy.to_vector<double>()[0] == doctest::Approx(0.5).epsilon(1e-11));
    }
  }
}

TEST_CASE("spectra: Morse's levels, mass and hbar of one's own, and the ground state as a closed form") {
  check_levels(morse(400), tp::eigenstates(morse(400), 5), morse_levels(5), 1e-11);
  check_levels(morse(600), tp::eigenstates(morse(600), 5), morse_levels(5), 1e-11);
  // hbar omega = 0.3 * sqrt(k / m).
  const tp::Grid grid({80}, {14.0});
  const tp::Schroedinger heavy(grid, 2.0 * tp::square(grid.x(0)), {.mass = 0.25, .hbar = 0.3});
  const double quantum = 0.3 * std::sqrt(4.0 / 0.25);
  check_levels(heavy, tp::eigenstates(heavy, 3), {0.5 * quantum, 1.5 * quantum, 2.5 * quantum}, 1e-12);
  const tp::Eigenstates s = tp::eigenstates(heavy, 1);
  const tp::Tensor exact = tp::exp(-0.5 * tp::square(grid.x(0)) * (0.25 * 4.0 / 0.3)),
                   first = tp::real(s.psi).squeeze(0);
  CHECK(tp::allclose(first, exact / tp::sqrt(tp::square(exact).sum() * grid.cell()), 0.0, 1e-11));
}

TEST_CASE("spectra: equal levels come as often as they are, and the published ones of Henon and Heiles") {
  const tp::Grid grid({32, 32}, {14.0, 14.0});
  const tp::Schroedinger round(grid, 0.5 * (tp::square(grid.x(0)) + tp::square(grid.x(1))));
  check_levels(round, tp::eigenstates(round, 10), {1, 2, 2, 3, 3, 3, 4, 4, 4, 4}, 1e-9);
  const tp::Eigenstates s = tp::eigenstates(henon_heiles(), 15);
  const std::vector<double> energy = s.energy.to_vector<double>();
  const std::vector<double> published{0.9986, 1.9901, 1.9901, 2.9562, 2.9853, 2.9853, 3.9260, 3.9260,
                                      3.9824, 3.9858, 4.8702, 4.8987, 4.8987, 4.9863, 4.9863};
  for (std::size_t i = 0; i < published.size(); ++i) {
    CAPTURE(i);
    CHECK(std::fabs(energy[i] - published[i]) < 0.51e-4);
  }
  CHECK(s.iterations < 12);
}

TEST_CASE("spectra: the same bits by one thread and two, and the same levels without optimisation") {
  const tp::Grid grid({640}, {22.0});
  const tp::Schroedinger trap(grid, 0.5 * tp::square(grid.x(0)));
  const auto levels = [&](const char* name, const char* value) {
    const tp::env::ScopedOverride set(name, value);
    const tp::Eigenstates s = tp::eigenstates(trap, 4);
    return std::pair{s.energy.to_vector<double>(), s.psi.to_vector<Complex>()};
  };
  const auto one = levels("TINYPHYS_THREADS", "1"), two = levels("TINYPHYS_THREADS", "2"),
             plain = levels("TINYPHYS_OPT", "0");
  CHECK(one == two);
  for (std::size_t i = 0; i < 4; ++i) CHECK(plain.first[i] == doctest::Approx(one.first[i]).epsilon(1e-11));
}

TEST_CASE("spectra: a density of states is that of its levels, smoothed by Jackson's kernel") {
  const tp::Grid grid({64}, {16.0});
  const tp::Schroedinger trap(grid, 0.5 * tp::square(grid.x(0)));
  const tp::Eigenstates all = tp::eigenstates(trap, 64);
  const std::vector<double> levels = all.energy.to_vector<double>();
  // Of a state: its weights are known.
  const tp::Tensor psi = 0.6 * all.psi.slice(0, 2, 3).squeeze(0) + 0.8 * all.psi.slice(0, 9, 10).squeeze(0);
  std::vector<double> weights(64, 0.0);
  weights[2] = 0.36;
  weights[9] = 0.64;
  for (const std::int64_t moments : {2, 3, 64, 151}) {
    CAPTURE(moments);
    const std::vector<double> at{0.3, 2.5, 9.5, 20.0, trap.bounds().second - 0.1, trap.bounds().second + 1,
                                 -1.0};
    const std::vector<double> rho =
        tp::spectral_density(trap, psi, tp::Tensor::from(at), {.moments = moments}).to_vector<double>();
    for (std::size_t i = 0; i < 5; ++i)
      CHECK(rho[i] ==
            doctest::Approx(smoothed(levels, weights, at[i], moments, trap.bounds())).epsilon(1e-9));
    CHECK(rho[5] == 0);
    CHECK(rho[6] == 0);
  }
  // Of all states: the trace by random phases, whose error is small; the integral is exact, as |phase| is 1.
  const auto [low, high] = trap.bounds();
  const std::int64_t n = 20000;
  const tp::Tensor energies = tp::Tensor::linspace(low, high, n + 1).slice(0, 0, n) + 0.5 * (high - low) / n;
  const tp::Tensor rho = tp::density_of_states(trap, energies, {.moments = 40, .vectors = 64});
  CHECK((rho.sum() * ((high - low) / n)).item<double>() == doctest::Approx(64).epsilon(1e-3));
  const std::vector<double> ones(64, 1.0), some = rho.to_vector<double>(), at = energies.to_vector<double>();
  for (const std::size_t i : {2000u, 7000u, 13000u})
    CHECK(some[i] == doctest::Approx(smoothed(levels, ones, at[i], 40, trap.bounds())).epsilon(0.1));
}

TEST_CASE("spectra: a spectral density is differentiable in psi, and lazy") {
  const tp::Grid grid({24}, {9.0});
  const tp::Schroedinger trap(grid, 0.5 * tp::square(grid.x(0)));
  const tp::Tensor x = grid.x(0), at = tp::Tensor::from({1.0, 3.0, 7.5});
  const auto weight = [&](const tp::Tensor& shift) {
    const tp::Tensor psi = tp::exp(-0.5 * tp::square(x - shift));
    return (tp::spectral_density(trap, psi, at, {.moments = 30}) * tp::Tensor::from({1.0, -2.0, 0.5})).sum();
  };
  const tp::Tensor shift = tp::Tensor(0.7).clone();
  const double slope = tp::gradient(weight(shift), {shift})[0].item<double>(), h = 1e-5;
  const double difference = (weight(0.7 + h).item<double>() - weight(0.7 - h).item<double>()) / (2 * h);
  CHECK(slope == doctest::Approx(difference).epsilon(1e-7));
}

TEST_CASE("spectra: bad input is an error where it is written") {
  const tp::Grid grid({32, 32}, {10.0, 10.0});
  const tp::Schroedinger trap(grid, 0.5 * tp::square(grid.x(0)));
  const tp::Tensor e = tp::Tensor::from({1.0});
  CHECK(message([&] { tp::eigenstates(trap, 0); }) ==
        "count is 0, it must be within 1 and 512 on a grid of 1024 points");
  CHECK(message([&] { tp::eigenstates(trap, 513); }) ==
        "count is 513, it must be within 1 and 512 on a grid of 1024 points");
  CHECK(message([&] { tp::eigenstates(trap, 1, {.tol = 0}); }) ==
        "tol is 0, it must be within 1e-14 and 1e-2");
  CHECK(message([&] { tp::eigenstates(trap, 1, {.max_iterations = 0}); }) ==
        "max_iterations is 0, it must be at least 1");
  CHECK(message([&] {
          tp::eigenstates(trap, 3, {.tol = 1e-14, .max_iterations = 1});
        }).starts_with("after 1 iterations the largest residual is "));
  CHECK(message([&] { tp::density_of_states(trap, e, {.moments = 1}); }) ==
        "moments is 1, it must be within 2 and 1,000,000");
  CHECK(message([&] { tp::density_of_states(trap, e, {.vectors = 0}); }) ==
        "vectors is 0, it must be at least 1");
  CHECK(message([&] {
          tp::density_of_states(trap, tp::Tensor::from({Complex(1, 2)}));
        }).starts_with("the energies are complex128[1]"));
  CHECK(message([&] {
          tp::spectral_density(trap, tp::Tensor::ones({32}), e);
        }).find("it must be of the grid, [32,32]") != std::string::npos);
  try {
    tp::eigenstates(trap, -1);
  } catch (const tp::Error& error) {
    CHECK(error.call() == "eigenstates");
    CHECK(error.line() == __LINE__ - 3);
  }
}
