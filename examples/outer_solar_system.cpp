// The sun and the five outer planets, from their positions and velocities of 5 September 1994 (Hairer, Lubich and
// Wanner, Geometric Numerical Integration, section I.2.4), for 200,000 years in steps of 50 days. Gravity is not
// quadratic: explain() says where, and the loop runs as one kernel. Leapfrog's energy error stays bounded.
// Units: astronomical units, days, solar masses.
#include <chrono>
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

void run() {
  const auto [m, start, planets] = example::outer_planets();
  const double before = planets.energy(start).item<double>();
  constexpr std::int64_t kPieces = 200, kSteps = 7305;  // of 50 days: 1000 years
  std::vector<double> year{0}, error{0};
  const auto begin = std::chrono::steady_clock::now();
  tp::State s = start;
  double worst = 0;
  for (std::int64_t i = 1; i <= kPieces; ++i) {
    s = planets.evolve(s, {.dt = 50.0, .steps = kSteps});
    tp::realize({s.q, s.p});
    year.push_back(1000.0 * static_cast<double>(i));
    error.push_back((planets.energy(s).item<double>() - before) / std::abs(before) * 1e6);
    worst = std::max(worst, std::abs(error.back()));
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  fmt::print("evolved    {} steps of 50 days, {} years, in {:.2f} s\n", kPieces * kSteps, kPieces * 1000,
             took.count());
  fmt::print("energy     {:.15e}; its relative error stays below {:.1e}\n", before, worst * 1e-6);
  const auto momentum = s.p.sum(0).to_vector<double>(), momentum0 = start.p.sum(0).to_vector<double>();
  fmt::print("momentum   changed by {:.1e}, {:.1e}, {:.1e}\n", momentum[0] - momentum0[0],
             momentum[1] - momentum0[1], momentum[2] - momentum0[2]);
  fmt::print("\n{}", tp::explain(s.q));
  example::Figure figure(800, 420, "Energy error of the outer solar system, leapfrog with 50 days a step");
  example::Panel panel({.x = 80, .y = 50, .width = 680, .height = 300}, {"years", 0, 1000.0 * kPieces},
                       {"relative error, 1e-6", -1.1 * worst, 1.1 * worst});
  panel.line(year, error, example::kBlue, "H");
  figure.add(panel);
  figure.save("outer_solar_system.svg");
  fmt::print("plot       outer_solar_system.svg\n");
}

}  // namespace

int main() { return example::run("outer_solar_system", run); }
