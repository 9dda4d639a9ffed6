// A wave packet meets a barrier that it has not the energy to climb: how much of it comes through, against the closed form
// for V = V0 / cosh^2 x (Landau and Lifshitz, Quantum Mechanics, section 25), hbar = m = 1,
//   T(k) = sinh^2(pi k) / (sinh^2(pi k) + cosh^2(pi / 2 sqrt(8 V0 - 1))),
// in the mean over the momenta of the packet. All 120 states are one Chebyshev recurrence after the other: no step in time.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

#include <fmt/format.h>

#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr double kTop = 0.6, kMomentum = 1.0, kWidth = 8.0, kStart = -60.0;
constexpr std::int64_t kStates = 120;

double closed_form() {
  // The packet's momenta are Gaussian around its mean, of width 1 / (2 kWidth).
  const double spread = 1 / (2 * kWidth);
  const double b = std::pow(std::cosh(0.5 * std::numbers::pi * std::sqrt(8 * kTop - 1)), 2);
  double sum = 0, weights = 0;
  for (int i = -4000; i <= 4000; ++i) {
    const double k = kMomentum + 8 * spread * i / 4000, a = std::pow(std::sinh(std::numbers::pi * k), 2);
    const double weight = std::exp(-0.5 * std::pow((k - kMomentum) / spread, 2));
    sum += weight * a / (a + b);
    weights += weight;
  }
  return sum / weights;
}

void run() {
  const tp::Grid grid({2048}, {400.0});
  const tp::Tensor x = grid.x(0);
  const tp::Schroedinger barrier(grid, kTop / tp::square(tp::cosh(x)));
  const tp::Tensor envelope = tp::exp(-tp::square((x - kStart) / (2 * kWidth)));
  const tp::Tensor start =
      barrier.normalised(envelope * tp::complex(tp::cos(kMomentum * x), tp::sin(kMomentum * x)));

  const tp::Wave w = barrier.evolve(
      start, {.dt = 1.0, .steps = kStates, .method = tp::Method::Spectral, .tol = 1e-12, .save_every = 1});
  const tp::Tensor density = (tp::square(tp::real(w.psi)) + tp::square(tp::imag(w.psi))).realize();
  const tp::Tensor end = w.psi.slice(0, kStates, kStates + 1).squeeze(0);
  const double through = barrier.expectation(end, tp::where(x > 0.0, 1.0, 0.0)).item<double>();
  const double expected = closed_form();
  fmt::print("energy     {:.6f} of the packet, {} at the top of the barrier\n",
             barrier.energy(start).item<double>(), kTop);
  fmt::print("through    {:.9f}, closed form {:.9f}, difference {:.1e}\n", through, expected,
             std::abs(through - expected));
  fmt::print("norm       {:.1e} off 1\n", std::abs(barrier.norm(end).item<double>() - 1));
  fmt::print("\n{}", tp::explain(end));

  // Space upwards, time to the right; every 4th point around the barrier.
  std::vector<std::vector<double>> columns;
  const std::vector<double> all = density.to_vector<double>();
  for (std::int64_t i = 0; i <= kStates; ++i) {
    std::vector<double> column;
    for (std::int64_t j = 512; j < 1536; j += 4)
      column.push_back(all[static_cast<std::size_t>(i * 2048 + j)]);
    columns.push_back(column);
  }
  example::Figure figure(800, 480, "A packet at a barrier");
  example::Panel panel({.x = 80, .y = 50, .width = 600, .height = 360}, {"time", 0, kStates},
                       {"x", -100, 100}, "density");
  panel.heat_map(columns, 0.05);
  figure.add(panel);
  figure.save("tunnelling.svg");
  fmt::print("plot       tunnelling.svg\n");
}

}  // namespace

int main() { return example::run("tunnelling", run); }
