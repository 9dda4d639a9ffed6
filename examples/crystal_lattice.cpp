// A square crystal, periodic, of 1024 x 1024 atoms that move out of the plane, each held by springs to its four
// neighbours, kicked at one atom and left alone for a billion leapfrog steps. Every atom is coupled to the others as its
// neighbour is, which tinyphys proves; the loop becomes one jump in Fourier modes. Units: mass 1, spring 1, distance 1.
//
// Printed: standing waves along (1, 0) and (1, 1) oscillate with the frequency of the closed-form dispersion relation
// omega^2 = 4 (sin^2(kx / 2) + sin^2(ky / 2)), as leapfrog changes it: sin(omega' h / 2) = omega h / 2.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr double kPi = 3.14159265358979323846, kStep = 0.1;

tp::Tensor springs(const tp::Tensor& u, std::int64_t axis) {
  const tp::Tensor stretch = u.roll(1, axis) - u;
  return 0.5 * (stretch * stretch).sum();
}

// The frequency with which a standing wave of wave numbers (a, b) comes back, in radians a unit of time.
double measured_frequency(const tp::System& crystal, std::int64_t n, std::int64_t a, std::int64_t b) {
  const tp::Tensor phase =
      (2 * kPi / static_cast<double>(n)) *
      (static_cast<double>(a) * tp::Tensor::arange(static_cast<double>(n)).reshape({n, 1}) +
       static_cast<double>(b) * tp::Tensor::arange(static_cast<double>(n)).reshape({1, n}));
  const tp::Tensor wave = tp::cos(phase).realize();
  const tp::State z{wave, tp::Tensor::zeros({n, n})};
  // The amplitude is cos(omega' t): read off after 1000 steps and after one more, in the range of acos of one step.
  const auto amplitude = [&](std::int64_t steps) {
    const tp::State s = crystal.evolve(z, {.dt = kStep, .steps = steps});
    return ((s.q * wave).sum() / (wave * wave).sum()).item<double>();
  };
  const double before = amplitude(999), now = amplitude(1000), after = amplitude(1001);
  return std::acos((before + after) / (2 * now)) / kStep;
}

void run(std::int64_t n, std::int64_t steps) {
  const tp::System crystal([](const tp::Tensor& u, const tp::Tensor& p) {
    return 0.5 * (p * p).sum() + springs(u, 0) + springs(u, 1);
  });
  const tp::Tensor still = tp::Tensor::zeros({n, n});
  const tp::Tensor kick = tp::set(still, {n / 2, n / 2}, 1.0);

  const auto start = std::chrono::steady_clock::now();
  const tp::State s = crystal.evolve({still, kick}, {.dt = kStep, .steps = steps});
  tp::realize({s.q, s.p});
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  fmt::print("evolved    {} x {} atoms by {} steps of {} in {:.2f} s\n", n, n, steps, kStep, took.count());
  fmt::print("energy     before 0.5, after {:.15f} (leapfrog keeps it within 2 %)\n",
             crystal.energy(s).item<double>());
  fmt::print("momentum   before 1, after {:.15f}\n", s.p.sum().item<double>());

  std::vector<double> k, closed, measured;
  double worst = 0;
  // A smaller crystal has the same waves, fewer of them.
  constexpr std::int64_t kWaves = 16;  // along each direction
  const std::int64_t side = std::min<std::int64_t>(256, n / (2 * kWaves) * (2 * kWaves));
  for (const bool diagonal : {false, true})
    for (std::int64_t a = side / (2 * kWaves); a <= side / 2; a += side / (2 * kWaves)) {
      const double x = 2 * kPi * static_cast<double>(a) / static_cast<double>(side);
      const double omega = 2 * std::sqrt((diagonal ? 2 : 1) * std::pow(std::sin(x / 2), 2));
      const double leapfrog = 2 / kStep * std::asin(omega * kStep / 2);
      const double found = measured_frequency(crystal, side, a, diagonal ? a : 0);
      worst = std::max(worst, std::abs(found - leapfrog) / leapfrog);
      k.push_back(x);
      closed.push_back(leapfrog);
      measured.push_back(found);
    }
  fmt::print(
      "dispersion {} waves along (1,0) and (1,1), in a crystal of {} x {} atoms: measured frequencies differ "
      "from the "
      "closed form by at most {:.1e}\n",
      k.size(), side, side, worst);
  fmt::print("\n{}", tp::explain(s.q));

  example::Figure figure(800, 460, "Phonons of a square lattice");
  example::Panel panel({.x = 70, .y = 50, .width = 690, .height = 340}, {"k", 0, kPi}, {"omega", 0, 3});
  const auto half = static_cast<std::ptrdiff_t>(k.size() / 2);
  const auto part = [&](const std::vector<double>& v, bool second) {
    return second ? std::vector<double>(v.begin() + half, v.end())
                  : std::vector<double>(v.begin(), v.begin() + half);
  };
  panel.line(part(k, false), part(closed, false), example::kBlue, "closed form, (1,0)");
  panel.line(part(k, true), part(closed, true), example::kRed, "closed form, (1,1)");
  panel.points(part(k, false), part(measured, false), example::kBlue);
  panel.points(part(k, true), part(measured, true), example::kRed);
  figure.add(panel);
  figure.save("crystal_lattice.svg");
  fmt::print("plot       crystal_lattice.svg\n");
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t n = argc > 1 ? std::atoll(argv[1]) : 1024,
                     steps = argc > 2 ? std::atoll(argv[2]) : 1'000'000'000;
  if (n < 64 || steps < 1) {
    fmt::print(stderr,
               "usage: crystal_lattice [atoms along a side, at least 64, default 1024] [steps, default "
               "1000000000]\n");
    return 2;
  }
  return example::run("crystal_lattice", [&] { run(n, steps); });
}
