// 100,000 oscillators of different stiffness, a million leapfrog steps each, as one system: nothing couples them, so each
// is a mode of its own, and the loop becomes one jump for all. Each is compared with the closed form of its leapfrog map.
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

void run() {
  constexpr std::int64_t kCount = 100'000, kSteps = 1'000'000;
  constexpr double kStep = 0.01;
  const tp::Tensor k = tp::Tensor::linspace(0.5, 4.0, kCount);
  const tp::System oscillators([&](const tp::Tensor& q, const tp::Tensor& p) {
    return 0.5 * (p * p).sum() + 0.5 * (k * q * q).sum();
  });
  const tp::State start{tp::Tensor::ones({kCount}), tp::Tensor::zeros({kCount})};
  const auto begin = std::chrono::steady_clock::now();
  const tp::State s = oscillators.evolve(start, {.dt = kStep, .steps = kSteps});
  const std::vector<double> q = s.q.to_vector<double>(), stiffness = k.to_vector<double>();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  double worst = 0;
  std::vector<double> some_k, some_q;
  for (std::size_t i = 0; i < q.size(); ++i) {
    // cos(N theta) with sin(theta / 2) = h sqrt(k) / 2; the angle in long double.
    const long double theta = 2 * std::asin(static_cast<long double>(kStep) *
                                            std::sqrt(static_cast<long double>(stiffness[i])) / 2);
    worst = std::max(worst, std::abs(q[i] - static_cast<double>(std::cos(theta * kSteps))));
    if (i < 400) {
      some_k.push_back(stiffness[i]);
      some_q.push_back(q[i]);
    }
  }
  fmt::print("evolved    {} oscillators by {} steps in {:.3f} s\n", kCount, kSteps, took.count());
  fmt::print("closed     the largest difference from cos(N theta) is {:.1e}\n", worst);
  fmt::print("\n{}", tp::explain(s.q));
  example::Figure figure(800, 420, "Oscillators after a million steps");
  example::Panel panel({.x = 70, .y = 50, .width = 690, .height = 300}, {"stiffness", 0.5, some_k.back()},
                       {"q", -1.1, 1.1});
  panel.line(some_k, some_q, example::kBlue, "the 400 softest");
  figure.add(panel);
  figure.save("ensemble.svg");
  fmt::print("plot       ensemble.svg\n");
}

}  // namespace

int main() { return example::run("ensemble", run); }
