// What runs as generated code, beside plain C++.
#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "input.hpp"
#include "reference/three_body.hpp"
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
constexpr ThreeBody kBodies = {{1.0, 1e-3, 3e-4}, 1e-4};
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
