// An electron in a uniform magnetic field and a weak crossed electric one, from its Hamiltonian
// H = |p + A(q)|^2 / 2 - E q_y, A = B (-q_y, q_x) / 2, which joins q and p. The exact flow takes any number of turns at
// once; the drift is E x B / B^2. Units: charge -1, mass 1.
#include <cmath>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr double kB = 2.0, kE = 0.1, kPi = 3.14159265358979323846;

void run() {
  const tp::System electron([](const tp::Tensor& q, const tp::Tensor& p) {
    const tp::Tensor turned = q.flip(0) * tp::Tensor::from({-1.0, 1.0});
    const tp::Tensor velocity = p + 0.5 * kB * turned;
    return 0.5 * (velocity * velocity).sum() - kE * q[1];
  });
  const tp::State start{tp::Tensor::from({0.0, 0.0}), tp::Tensor::from({0.0, 1.0})};
  const auto at = [&](double time, std::int64_t steps) {
    return electron.evolve(
        start,
        {.dt = time / static_cast<double>(steps), .steps = steps, .integrator = tp::Integrator::Exact});
  };
  const double turn = 2 * kPi / kB;
  std::vector<double> x, y;
  for (int i = 0; i <= 600; ++i) {
    const auto q = at(6 * turn * i / 600.0 + 1e-300, 1).q.to_vector<double>();
    x.push_back(q[0]);
    y.push_back(q[1]);
  }
  // After whole turns only the drift is left.
  const std::int64_t turns = 1'000'000;
  const tp::State s = at(turn * static_cast<double>(turns), 1000 * turns);
  const auto q = s.q.to_vector<double>();
  const double drift = q[0] / (turn * static_cast<double>(turns)), closed = kE / kB;
  fmt::print("after {} turns: x = {:.9f}, y = {:.3e}\n", turns, q[0], q[1]);
  fmt::print("drift {:.15f}, closed form |E/B| = {:.15f}, relative difference {:.1e}\n", std::abs(drift),
             closed, std::abs(std::abs(drift) - closed) / closed);
  fmt::print("energy before {:.15f}, after {:.15f}\n", electron.energy(start).item<double>(),
             electron.energy(s).item<double>());
  fmt::print("\n{}", tp::explain(s.q));
  const auto [left, right] = std::minmax_element(x.begin(), x.end());
  const auto [low, high] = std::minmax_element(y.begin(), y.end());
  example::Figure figure(800, 420, "E x B drift");
  example::Panel panel({.x = 70, .y = 50, .width = 690, .height = 300}, {"x", *left - 0.1, *right + 0.1},
                       {"y", *low - 0.1, *high + 0.1});
  panel.line(x, y, example::kBlue, "6 turns");
  figure.add(panel);
  figure.save("cyclotron.svg");
  fmt::print("plot       cyclotron.svg\n");
}

}  // namespace

int main() { return example::run("cyclotron", run); }
