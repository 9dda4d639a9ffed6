// Twelve beads on stiff bonds that repel each other softly over any distance. The bonds need small steps, the 66 pairs are
// the work: multiple time steps (RESPA) take the bonds ten times as often as the pairs. The work that each needs for the
// same error of the energy, and the steps of pairs that meet the period of the bonds.
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

constexpr std::int64_t kBeads = 12;
constexpr double kBond = 1000, kCharge = 0.4, kTime = 400;  // units of a bead's mass and a bond's length

tp::System chain() {
  const auto bonds = [](const tp::Tensor& q, const tp::Tensor& p) {
    const tp::Tensor stretch = q.slice(0, 1) - q.slice(0, 0, -1) - 1.0;
    return 0.5 * (p * p).sum() + 0.5 * kBond * (stretch * stretch).sum();
  };
  const auto pairs = [](const tp::Tensor& q, const tp::Tensor&) {
    const tp::Tensor d = q.reshape({kBeads, 1}) - q.reshape({1, kBeads});
    return 0.5 * kCharge * (1.0 / tp::sqrt(d * d + 0.25)).sum();
  };
  return tp::System({{"bonds", bonds}, {"pairs", pairs}});
}

struct Run {
  double step, error, pair_sums;
  tp::State end;
};

// The largest relative change of the energy over all steps, looked at 400 times.
Run run_with(const tp::System& system, const tp::State& start, double step, std::int64_t bonds) {
  const auto every = static_cast<std::int64_t>(std::lround(kTime / step / 400));
  tp::EvolveOptions options{.dt = step, .steps = every};
  if (bonds > 1) options.levels = {{"pairs", 1}, {"bonds", bonds}};
  const auto [end, energies] = tp::scan(
      [&](const tp::State& s) {
        const tp::State next = system.evolve(s, options);
        return std::pair{next, system.energy(next)};
      },
      start, 400);
  const double before = system.energy(start).item<double>();
  double worst = 0;
  for (const double e : energies.to_vector<double>()) worst = std::max(worst, std::abs(e / before - 1));
  return {step, worst, static_cast<double>(400 * every), end};
}

void run() {
  const tp::System system = chain();
  const tp::Tensor site = tp::Tensor::arange(static_cast<double>(kBeads));
  const tp::State start{1.02 * site + 0.02 * tp::cos(2.0 * site), 0.4 * tp::sin(1.0 + 3.0 * site)};
  // Both are of order 2: their error is that of a step times a number, from which the step for another error follows.
  std::vector<double> leapfrog_work, leapfrog_error, respa_work, respa_error;
  const auto show = [](const char* name, const Run& r) {
    fmt::print("{:<10} step {:.4f}: energy error {:.1e}, {:.0f} sums over the pairs\n", name, r.step, r.error,
               r.pair_sums);
  };
  for (const double step : {0.02, 0.01, 0.005, 0.0025}) {
    const Run r = run_with(system, start, step, 1);
    show("leapfrog", r);
    leapfrog_work.push_back(std::log10(r.pair_sums));
    leapfrog_error.push_back(std::log10(r.error));
  }
  Run last{};
  for (const double step : {0.04, 0.02}) {
    last = run_with(system, start, step, 10);
    show("RESPA", last);
    respa_work.push_back(std::log10(last.pair_sums));
    respa_error.push_back(std::log10(last.error));
  }
  const double same = leapfrog_work.back() + 0.5 * (leapfrog_error.back() - respa_error.back());
  fmt::print(
      "work       for the energy error of the last, leapfrog needs {:.1f} times the sums over the pairs\n",
      std::pow(10.0, same - respa_work.back()));
  fmt::print(
      "\n{}",
      tp::explain(
          system.evolve(start, {.dt = 0.02, .steps = 20'000, .levels = {{"pairs", 1}, {"bonds", 10}}}).q));
  example::Figure figure(800, 420, "Work and energy error: RESPA and leapfrog");
  example::Panel panel({.x = 80, .y = 50, .width = 680, .height = 300},
                       {"sums over the pairs", 3.5, 5.5, true}, {"energy error", -7, -1, true});
  panel.line(leapfrog_work, leapfrog_error, example::kRed, "leapfrog");
  panel.line(respa_work, respa_error, example::kBlue, "RESPA, 10 bond steps in each");
  figure.add(panel);
  figure.save("respa_chain.svg");
  fmt::print("plot       respa_chain.svg\n");
}

}  // namespace

int main() { return example::run("respa_chain", run); }
