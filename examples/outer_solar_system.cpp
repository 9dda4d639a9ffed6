// The sun and the five outer planets, from their positions and velocities of 5 September 1994 (Hairer, Lubich and
// Wanner, Geometric Numerical Integration, section I.2.4), for 200,000 years in steps of 50 days. Gravity is not
// quadratic: explain() says where, and the loop runs as one kernel. Leapfrog's energy error stays bounded.
// Units: astronomical units, days, solar masses.
#include <chrono>
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
