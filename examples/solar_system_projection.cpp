// The sun and the five outer planets (the data of outer_solar_system) for 1000 years in steps of 50 days: leapfrog as it is, and
// projected after each step on the invariants that are proven of H, Conserved::Auto: energy, momentum, angular momentum.
// Leapfrog's energy swings and stays bounded; the projected one stays at its rounding, at the price of being symplectic no
// longer. Units: astronomical units, days, solar masses.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "support/outer_planets.hpp"
#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr std::int64_t kPieces = 100, kSteps = 73;  // of 50 days: 10 years

void run() {
  const auto [m, start, planets] = example::outer_planets();
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
