// A comet on an orbit of eccentricity 0.9999 around the sun, 1000 orbits with 200 steps each by Method::TimeWarp: the steps are
// equal in a fictitious time, and as short as the perihelion needs where the comet is there. Leapfrog with as many steps of equal
// time flies off at the first passage. Units: the semi-major axis and G M are 1, an orbit takes 2 pi.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include <fmt/format.h>

#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr double kE = 0.9999, kOrbit = 2 * std::numbers::pi;
// The ends of the pieces, where the energy is looked at, fall all around the orbit.
constexpr std::int64_t kPerOrbit = 200, kPieces = 200, kPiece = 5 * kPerOrbit + 3;
constexpr double kOrbits = static_cast<double>(kPieces * kPiece) / static_cast<double>(kPerOrbit);

void run() {
  const tp::System sun([](const tp::Tensor& q, const tp::Tensor& p) {
    return 0.5 * (p * p).sum() - 1.0 / tp::sqrt((q * q).sum());
  });
  const tp::State aphelion{tp::Tensor::from({1 + kE, 0.0}),
                           tp::Tensor::from({0.0, std::sqrt((1 - kE) / (1 + kE))})};
  const double before = sun.energy(aphelion).item<double>();
  std::vector<double> orbit{0}, error{-17};
  tp::State s = aphelion;
  double worst = 0;
  for (std::int64_t i = 1; i <= kPieces; ++i) {
    s = sun.evolve(s, {.dt = kOrbit / kPerOrbit, .steps = kPiece, .method = tp::Method::TimeWarp});
    const double e = std::abs(sun.energy(s).item<double>() / before - 1);
    worst = std::max(worst, e);
    orbit.push_back(static_cast<double>(i * kPiece) / static_cast<double>(kPerOrbit));
    error.push_back(std::log10(std::max(e, 1e-17)));
  }
  const double allowed = 100 * 0x1p-53 * (1 + kE) / (1 - kE) * std::sqrt(kOrbits);
  fmt::print(
      "warped     {} steps, {:.0f} orbits of e = {}: relative energy error at most {:.1e}, allowed {:.1e}\n",
      kPieces * kPiece, kOrbits, kE, worst, allowed);
  const tp::State loose = sun.evolve(aphelion, {.dt = kOrbit / kPerOrbit, .steps = kPerOrbit});
  fmt::print("leapfrog   one orbit with as many steps: relative energy error {:.1e}\n",
             std::abs(sun.energy(loose).item<double>() / before - 1));

  // Half an orbit, landed on at equal times: where the comet is, and when.
  std::vector<double> x, y;
  for (int i = 0; i <= 60; ++i) {
    const tp::State at = sun.evolve(aphelion, {.dt = kOrbit / kPerOrbit,
                                               .steps = 2 * kPerOrbit,
                                               .method = tp::Method::TimeWarp,
                                               .t_end = kOrbit / 60 * i});
    const std::vector<double> q = at.q.to_vector<double>();
    x.push_back(q[0]);
    y.push_back(1000 * q[1]);
  }
  fmt::print("\n{}", tp::explain(s.q));
  example::Figure figure(800, 660, "A comet of eccentricity 0.9999");
  example::Panel path({.x = 80, .y = 50, .width = 680, .height = 220}, {"x", -0.1, 2.1}, {"y, 1e-3", -20, 20},
                      "at 60 equal times");
  path.points(x, y, example::kBlue, "comet");
  example::Panel panel({.x = 80, .y = 350, .width = 680, .height = 220}, {"orbits", 0, kOrbits},
                       {"relative energy error", -17, -6, true});
  panel.line(orbit, error, example::kRed, "TimeWarp");
  figure.add(path);
  figure.add(panel);
  figure.save("comet.svg");
  fmt::print("plot       comet.svg\n");
}

}  // namespace

int main() { return example::run("comet", run); }
