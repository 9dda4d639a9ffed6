// What runs as generated code, beside plain C++.
#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "input.hpp"
#include "reference/gravity.hpp"
#include "reference/plain.hpp"
#include "reference/wave.hpp"
#include "runtime/device.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys::bench {
namespace {

// --- three bodies ---

constexpr long kSteps = 1'000'000;
constexpr double kDt = 1e-3;
// A star and two planets, regular over the 160 turns measured here: rounding grows to about 1e-10.
constexpr Gravity<3> kBodies = {{1.0, 1e-3, 3e-4}, 1e-4, 1.0};
constexpr std::array<double, 9> kPlaces = {0, 0, 0, 1, 0, 0, 0, 2.2, 0.1};
constexpr std::array<double, 9> kMomenta = {0, 0, 0, 0, 1e-3, 0, -2.0e-4, 0, 1e-5};
constexpr double kSameOrbits = 1e-7;

// As a user writes it: tensors, one term a pair.
Tensor three_body_energy(const Tensor& q, const Tensor& p) {
  const auto& mass = kBodies.mass;
  const Tensor m = Tensor::from({mass[0], mass[1], mass[2]}, {3, 1});
  Tensor energy = 0.5 * (p * p / m).sum();
  for (int i = 0; i < 3; ++i)
    for (int j = i + 1; j < 3; ++j) {
      const Tensor r = q[i] - q[j];
      energy -= mass[static_cast<std::size_t>(i)] * mass[static_cast<std::size_t>(j)] /
                sqrt((r * r).sum() + kBodies.softening2);
    }
  return energy;
}

Bench three_body() {
  const System system(three_body_energy);
  const auto motion = [=] {
    const Shape shape{3, 3};
    const State s =
        system.evolve({Tensor::from(std::vector<double>(kPlaces.begin(), kPlaces.end()), shape),
                       Tensor::from(std::vector<double>(kMomenta.begin(), kMomenta.end()), shape)},
                      {.dt = kDt, .steps = kSteps});
    realize({s.q, s.p});
    return std::pair(s.q.to_vector<double>(), s.p.to_vector<double>());
  };
  const auto by_hand = [] {
    std::pair s(kPlaces, kMomenta);
    kBodies.leapfrog(s.first, s.second, kDt, kSteps);
    return s;
  };
  const std::int64_t compiled = kernels_compiled();
  const auto ours = motion();
  const std::int64_t kernels = kernels_compiled() - compiled;
  const auto truth = by_hand();
  const double error =
      std::max(relative_error(ours.first, truth.first), relative_error(ours.second, truth.second));
  if (!(error <= kSameOrbits))
    throw Wrong(fmt::format("differs by {:.1e} from the loop written by hand", error));
  Bench b;
  b.work = timed([=] { consume(motion()); });
  b.reference = timed([=] { consume(by_hand()); });
  b.sampling.budget_s = 6;
  b.finish = [=] {
    return fmt::format("{} kernels compiled; they differ by {:.1e} at the end", kernels, error);
  };
  return b;
}

// --- the outer solar system, as in examples/ ---

constexpr double kDays = 50;
constexpr Gravity<6> kPlanets = {
    {1.00000597682, 0.000954786104043, 0.000285583733151, 0.0000437273164546, 0.0000517759138449, 1 / 1.3e8},
    0,
    2.95912208286e-4};
constexpr std::array<double, 18> kPlanetPlaces = {
    0.0,        0.0,         0.0,         -3.5023653,  -3.8169847,  -1.5507963,
    9.0755314,  -3.0458353,  -1.6483708,  8.3101420,   -16.2901086, -7.2521278,
    11.4707666, -25.7294829, -10.8169456, -15.5387357, -25.2225594, -3.1902382};
constexpr std::array<double, 18> kPlanetVelocities = {
    0.0,        0.0,        0.0,        0.00565429, -0.00412490, -0.00190589,
    0.00168318, 0.00483525, 0.00192462, 0.00354178, 0.00137102,  0.00055029,
    0.00288930, 0.00114527, 0.00039677, 0.00276725, -0.00170702, -0.00136504};

Bench outer_solar(bool native) {
  const auto& mass = kPlanets.mass;
  const Tensor m = Tensor::from(std::vector<double>(mass.begin(), mass.end())).reshape({6, 1});
  const System system([=](const Tensor& q, const Tensor& p) {
    const Tensor d = q.reshape({6, 1, 3}) - q.reshape({1, 6, 3}), self = Tensor::eye(6);
    const Tensor r = sqrt((d * d).sum(2) + self);
    return 0.5 * (p * p / m).sum() - 0.5 * kPlanets.g * (m * m.reshape({1, 6}) / r * (1.0 - self)).sum();
  });
  std::array<double, 18> momenta{};
  for (std::size_t k = 0; k < 18; ++k) momenta[k] = mass[k / 3] * kPlanetVelocities[k];
  const auto motion = [=](long steps) {
    const State s =
        system.evolve({Tensor::from(std::vector<double>(kPlanetPlaces.begin(), kPlanetPlaces.end()), {6, 3}),
                       Tensor::from(std::vector<double>(momenta.begin(), momenta.end()), {6, 3})},
                      {.dt = kDays, .steps = steps});
    realize({s.q, s.p});
    return s.q.to_vector<double>();
  };
  const auto by_hand = [=](long steps) {
    std::pair s(kPlanetPlaces, momenta);
    if (native)
      plain::six_bodies(s.first.data(), s.second.data(), mass.data(), kPlanets.g, kDays, steps);
    else
      kPlanets.leapfrog(s.first, s.second, kDays, steps);
    return s.first;
  };
  const double error = relative_error(motion(10'000), by_hand(10'000));
  if (!(error <= kSameOrbits))
    throw Wrong(fmt::format("differs by {:.1e} from the loop written by hand", error));
  Bench b;
  b.work = timed([=] { consume(motion(kSteps)); });
  b.reference = timed([=] { consume(by_hand(kSteps)); });
  b.sampling.budget_s = 6;
  b.finish = [=] { return fmt::format("they differ by {:.1e} after 10^4 steps", error); };
  return b;
}

// --- elementwise ---

constexpr long kElements = 1'000'000;

Tensor wave_tensor(const Tensor& x) { return sin(x) * exp(-x * x) + x / 2; }

struct WaveInput {
  std::vector<double> x = Random(4).vector(kElements, -5, 5), y = std::vector<double>(kElements);
  Tensor tensor = Tensor::from(x);
};

Bench wave_values() {
  const auto in = std::make_shared<WaveInput>();
  wave(in->x.data(), in->y.data(), kElements);
  // libmvec is within 4 ulp, and sin cancels nothing here: 1e-14 of the largest value is ample.
  const double error = relative_error(wave_tensor(in->tensor).to_vector<double>(), in->y);
  if (!(error <= 1e-14)) throw Wrong(fmt::format("differs by {:.1e} from plain C++", error));
  Bench b;
  b.work = timed([in] { consume(wave_tensor(in->tensor).realize()); });
  b.reference = timed([in] {
    wave(in->x.data(), in->y.data(), kElements);
    consume(*in->y.data());
  });
  return b;
}

Bench wave_total() {
  const auto in = std::make_shared<WaveInput>();
  const double truth = wave_sum(in->x.data(), kElements);
  // The plain sum adds 1e6 terms of either sign in a row: rounding of some 1e-16 * 1e6 * 1e3, at most.
  const double error = std::abs(wave_tensor(in->tensor).sum().item<double>() - truth);
  if (!(error <= 1e-7)) throw Wrong(fmt::format("the sum differs by {:.1e} from plain C++", error));
  Bench b;
  b.work = timed([in] { consume(wave_tensor(in->tensor).sum().item<double>()); });
  b.reference = timed([in] { consume(wave_sum(in->x.data(), kElements)); });
  return b;
}

}  // namespace

void add_kernel_rows(std::vector<Row>& rows) {
  rows.push_back({.name = "three-body",
                  .work = "leapfrog of three bodies under softened gravity, 10^6 steps, as one kernel",
                  .n = kSteps,
                  .reference = "C++ -O3 by hand, each pair once, one force a step",
                  .set_up = three_body});
  rows.push_back(
      {.name = "outer-solar",
       .work = "the sun and five planets, all pairs by broadcasting, 10^6 steps of leapfrog, as one kernel",
       .n = kSteps,
       .reference = "C++ -O3 by hand, each pair once, one force a step",
       .set_up = [] { return outer_solar(false); }});
  rows.push_back({.name = "native/outer-solar",
                  .work = "the same",
                  .n = kSteps,
                  .reference = "C++ -O3 -march=native",
                  .set_up = [] { return outer_solar(true); }});
  rows.push_back({.name = "wave/values",
                  .work = "y = sin(x) exp(-x x) + x / 2, fused",
                  .n = kElements,
                  .reference = "C++ -O3, a plain loop over libm, 1 thread",
                  .set_up = wave_values});
  rows.push_back({.name = "wave/sum",
                  .work = "the sum of y, y never stored",
                  .n = kElements,
                  .reference = "C++ -O3, a plain loop over libm, 1 thread",
                  .set_up = wave_total});
}

}  // namespace tinyphys::bench
