// The chain of Fermi, Pasta and Ulam with stiff and soft springs in turn (Hairer, Lubich and Wanner, Geometric Numerical
// Integration, section I.5.1): the soft springs hand energy slowly from one stiff spring to the next. Method::Split turns the
// stiff springs exactly and kicks by the soft ones; leapfrog has to follow them in small steps.
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

constexpr std::int64_t kSprings = 3;
constexpr double kOmega = 50, kTime = 200;

// q = [centres of the stiff springs, their stretches].
tp::System chain() {
  return tp::System([](const tp::Tensor& q, const tp::Tensor& p) {
    const tp::Tensor centre = q.slice(0, 0, kSprings), stretch = q.slice(0, kSprings);
    const tp::Tensor left = (centre - stretch).pad({{0, 1}}), right = (centre + stretch).pad({{1, 0}});
    const tp::Tensor soft = left - right;
    return 0.5 * (p * p).sum() + 0.5 * kOmega * kOmega * (stretch * stretch).sum() +
           0.25 * (soft * soft * soft * soft).sum();
  });
}

struct Motion {
  std::vector<double> time, total;
  std::vector<std::vector<double>> springs;  // the energy of each stiff spring
  double energy_error = 0;
  tp::Tensor q;
};

Motion motion_of(const tp::System& system, const tp::State& start, double step, tp::Method method) {
  const auto steps = static_cast<std::int64_t>(std::lround(kTime / step));
  const std::int64_t every = std::max<std::int64_t>(1, steps / 1000);
  const tp::State path = system.evolve(
      start, {.dt = step, .steps = steps / every * every, .method = method, .save_every = every});
  const auto q = path.q.to_vector<double>(), p = path.p.to_vector<double>();
  Motion m{path.t.to_vector<double>(), {}, std::vector<std::vector<double>>(kSprings), 0, path.q};
  const double before = system.energy(start).item<double>();
  constexpr std::size_t n = 2 * kSprings;
  for (std::size_t i = 0; i < m.time.size(); ++i) {
    double sum = 0;
    for (std::size_t k = 0; k < kSprings; ++k) {
      const double x = q[n * i + kSprings + k], u = p[n * i + kSprings + k];
      m.springs[k].push_back(0.5 * (u * u + kOmega * kOmega * x * x));
      sum += m.springs[k].back();
    }
    m.total.push_back(sum);
    const auto row = static_cast<std::ptrdiff_t>(n * i);
    const tp::State now{tp::Tensor::from(std::vector<double>(q.begin() + row, q.begin() + row + n)),
                        tp::Tensor::from(std::vector<double>(p.begin() + row, p.begin() + row + n))};
    if (i % 10 != 0) continue;
    const double error = std::abs(system.energy(now).item<double>() / before - 1);
    m.energy_error = error <= m.energy_error ? m.energy_error : error;  // NaN stays
  }
  return m;
}

void run() {
  const tp::System system = chain();
  const tp::State start{tp::Tensor::from({1.0, 0.0, 0.0, 1 / kOmega, 0.0, 0.0}),
                        tp::Tensor::from({1.0, 0.0, 0.0, 1.0, 0.0, 0.0})};
  const Motion truth = motion_of(system, start, 0.0005, tp::Method::Default);
  const Motion split = motion_of(system, start, 0.02, tp::Method::Split);
  const Motion leapfrog = motion_of(system, start, 0.02, tp::Method::Default);
  const Motion long_split = motion_of(system, start, 0.1, tp::Method::Split);
  const Motion long_leapfrog = motion_of(system, start, 0.1, tp::Method::Default);
  fmt::print("energy     step 0.02: split {:.1e}, leapfrog {:.1e}; step 0.1: split {:.1e}, leapfrog {:.1e}\n",
             split.energy_error, leapfrog.energy_error, long_split.energy_error, long_leapfrog.energy_error);
  // The exchange: how far the energy of the third spring is from that at 40 times smaller steps, on average.
  const auto off = [&](const Motion& m) {
    double sum = 0;
    for (std::size_t i = 0; i < m.time.size(); ++i) {
      const auto k = std::min(truth.time.size() - 1,
                              static_cast<std::size_t>(std::lround(
                                  m.time[i] / kTime * static_cast<double>(truth.time.size() - 1))));
      sum += std::abs(m.springs[2][i] - truth.springs[2][k]) / static_cast<double>(m.time.size());
    }
    return sum;
  };
  fmt::print(
      "exchange   mean error of the third spring's energy at step 0.02: split {:.1e}, leapfrog {:.1e}\n",
      off(split), off(leapfrog));
  const auto [least, most] = std::minmax_element(split.total.begin(), split.total.end());
  fmt::print("adiabatic  the sum over the stiff springs stays in {:.3f} .. {:.3f}\n", *least, *most);
  fmt::print("\n{}",
             tp::explain(system.evolve(start, {.dt = 0.02, .steps = 10'000, .method = tp::Method::Split}).q));
  example::Figure figure(800, 420, "Energy of three stiff springs, handed on by soft ones");
  example::Panel panel({.x = 80, .y = 50, .width = 680, .height = 300}, {"time", 0, kTime},
                       {"energy", 0, 1.4});
  panel.line(split.time, split.springs[0], example::kBlue, "first");
  panel.line(split.time, split.springs[1], example::kGreen, "second");
  panel.line(split.time, split.springs[2], example::kRed, "third");
  panel.line(split.time, split.total, "#555555", "sum");
  figure.add(panel);
  figure.save("fermi_pasta_ulam.svg");
  fmt::print("plot       fermi_pasta_ulam.svg\n");
}

}  // namespace

int main() { return example::run("fermi_pasta_ulam", run); }
