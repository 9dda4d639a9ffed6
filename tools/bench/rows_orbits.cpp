// Steps that are more than an integrator's: projected, and of a fictitious time.
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "bench.hpp"
#include "reference/kepler.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys::bench {
namespace {

constexpr long kSteps = 1'000'000;
constexpr double kStep = 0.01;
const Kepler kStart{{1.0, 0.0}, {0.0, 1.1}};

System kepler() {
  return System(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - 1.0 / sqrt((q * q).sum()); });
}
double energy_of(const Kepler& k) {
  return 0.5 * (k.p[0] * k.p[0] + k.p[1] * k.p[1]) - 1 / std::hypot(k.q[0], k.q[1]);
}
State start() { return {Tensor::from({kStart.q[0], kStart.q[1]}), Tensor::from({kStart.p[0], kStart.p[1]})}; }
State moved(const EvolveOptions& options) {
  const State s = kepler().evolve(start(), options);
  realize({s.q, s.p});
  return s;
}
Kepler by_hand(const State& s) {
  const std::vector<double> q = s.q.to_vector<double>(), p = s.p.to_vector<double>();
  return {{q[0], q[1]}, {p[0], p[1]}, 0};
}
void same_energy(const Kepler& a) {
  const double off = std::abs(energy_of(a) / energy_of(kStart) - 1);
  if (!(off <= 1e-6)) throw Wrong(fmt::format("the energy is off by {:.1e}", off));
}

EvolveOptions projection() {
  return {.dt = kStep, .steps = kSteps, .conserve = Conserve({Conserved::Energy}).once()};
}
EvolveOptions loop() { return {.dt = kStep, .steps = kSteps, .method = Method::Loop}; }

// Beside the same steps that are not projected.
Bench project_beside_plain() {
  same_energy(by_hand(moved(projection())));
  Bench b;
  b.work = timed([] { consume(moved(projection())); });
  b.reference = timed([] { consume(moved(loop())); });
  return b;
}
Bench project() {
  same_energy(by_hand(moved(projection())));
  Bench b;
  b.work = timed([] { consume(moved(projection())); });
  b.reference = timed([] {
    Kepler k = kStart;
    k.projected(kStep, energy_of(kStart), kSteps);
    consume(k);
  });
  return b;
}
Bench warp() {
  const EvolveOptions options{.dt = kStep, .steps = kSteps, .method = Method::TimeWarp};
  same_energy(by_hand(moved(options)));
  Bench b;
  b.work = timed([=] { consume(moved(options)); });
  b.reference = timed([] {
    Kepler k = kStart;
    k.warped(kStep, kSteps);
    consume(k);
  });
  return b;
}

}  // namespace

void add_orbit_rows(std::vector<Row>& rows) {
  rows.push_back({.name = "project/plain",
                  .work = "a planet, 10^6 leapfrog steps, each projected on the energy by one iteration",
                  .n = kSteps,
                  .reference = "the same steps without projection",
                  .set_up = project_beside_plain});
  rows.push_back({.name = "project",
                  .work = "the same",
                  .n = kSteps,
                  .reference = "the same projected steps in C++ -O3",
                  .set_up = project});
  rows.push_back({.name = "warp",
                  .work = "a planet, 10^6 steps of TimeWarp by the logarithmic Hamiltonian",
                  .n = kSteps,
                  .reference = "the same steps in C++ -O3",
                  .set_up = warp});
}

}  // namespace tinyphys::bench
