// The sun and the five outer planets (the data of outer_solar_system) for 1000 years in steps of 50 days: leapfrog as it is, and
// projected after each step on the invariants that are proven of H, Conserved::Auto: energy, momentum, angular momentum.
// Leapfrog's energy swings and stays bounded; the projected one stays at its rounding, at the price of being symplectic no
// longer. Units: astronomical units, days, solar masses.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr double kG = 2.95912208286e-4;
constexpr std::int64_t kPieces = 100, kSteps = 73;  // of 50 days: 10 years

void run() {
  const std::vector<double> masses{1.00000597682,      0.000954786104043,  0.000285583733151,
                                   0.0000437273164546, 0.0000517759138449, 1 / 1.3e8};
  const tp::Tensor m = tp::Tensor::from(masses).reshape({6, 1});
  const tp::Tensor q0 = tp::Tensor::from(
      {0.0, 0.0, 0.0, -3.5023653, -3.8169847, -1.5507963, 9.0755314, -3.0458353, -1.6483708, 8.3101420,
       -16.2901086, -7.2521278, 11.4707666, -25.7294829, -10.8169456, -15.5387357, -25.2225594, -3.1902382},
      {6, 3});
  const tp::Tensor v0 = tp::Tensor::from(
      {0.0, 0.0, 0.0, 0.00565429, -0.00412490, -0.00190589, 0.00168318, 0.00483525, 0.00192462, 0.00354178,
       0.00137102, 0.00055029, 0.00288930, 0.00114527, 0.00039677, 0.00276725, -0.00170702, -0.00136504},
      {6, 3});
  const tp::System planets([&](const tp::Tensor& q, const tp::Tensor& p) {
    const tp::Tensor d = q.reshape({6, 1, 3}) - q.reshape({1, 6, 3});
    const tp::Tensor self = tp::Tensor::eye(6);
    const tp::Tensor r = tp::sqrt((d * d).sum(2) + self);
    return 0.5 * (p * p / m).sum() - 0.5 * kG * (m * m.reshape({1, 6}) / r * (1.0 - self)).sum();
  });
  const tp::State start{q0, m * v0};
  const double before = planets.energy(start).item<double>();
  const tp::EvolveOptions plain{.dt = 50.0, .steps = kPieces * kSteps, .save_every = kSteps};
  tp::EvolveOptions kept = plain;
  kept.conserve = tp::Conserve({tp::Conserved::Auto}).metric(m);

  std::vector<double> year;
  for (std::int64_t i = 0; i <= kPieces; ++i) year.push_back(10.0 * static_cast<double>(i));
  const auto errors = [&](const tp::State& path, double& worst) {
    std::vector<double> log;
    worst = 0;
    for (std::int64_t i = 0; i <= kPieces; ++i) {
      const double e = std::abs(planets.energy({path.q[i], path.p[i]}).item<double>() / before - 1);
      worst = std::max(worst, e);
      log.push_back(std::log10(std::max(e, 1e-17)));
    }
    return log;
  };
  double worst_plain = 0, worst_kept = 0;
  const std::vector<double> of_plain = errors(planets.evolve(start, plain), worst_plain);
  const tp::State path = planets.evolve(start, kept);
  const std::vector<double> of_kept = errors(path, worst_kept);
  fmt::print("evolved    {} steps of 50 days, {} years\n", kPieces * kSteps, 10 * kPieces);
  fmt::print("energy     relative error of leapfrog at most {:.1e}, projected at most {:.1e}\n", worst_plain,
             worst_kept);
  fmt::print("\n{}", tp::explain(path.q));
  example::Figure figure(800, 420, "Energy error of the outer solar system, 50 days a step");
  example::Panel panel({.x = 80, .y = 50, .width = 680, .height = 300}, {"years", 0, 10.0 * kPieces},
                       {"relative error", -17, -2, true});
  panel.line(year, of_plain, example::kBlue, "leapfrog");
  panel.line(year, of_kept, example::kRed, "projected");
  figure.add(panel);
  figure.save("solar_system_projection.svg");
  fmt::print("plot       solar_system_projection.svg\n");
}

}  // namespace

int main() { return example::run("solar_system_projection", run); }
