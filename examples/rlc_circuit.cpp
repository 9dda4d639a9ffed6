// A resistor, an inductor and a capacitor in series on a battery, stepped by a loop of one's own: charge and current by
// semi-implicit Euler. The step is affine, so the loop becomes one power of a matrix; its ring-down is compared with the
// closed form of the circuit. SI units: ohm, henry, farad, volt, second.
#include <cmath>
#include <cstdint>
#include <tuple>
#include <vector>

#include <fmt/format.h>

#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr double kR = 20, kL = 0.1, kC = 1e-6, kVolt = 5, kStep = 1e-9;

// Charge and current after so many steps from an empty capacitor.
std::tuple<tp::Tensor, tp::Tensor> circuit(std::int64_t steps) {
  return tp::scan(
      [](const tp::Tensor& charge, const tp::Tensor& current) {
        const tp::Tensor next = current + kStep / kL * (kVolt - kR * current - charge / kC);
        return std::tuple{charge + kStep * next, next};
      },
      std::tuple{tp::Tensor(0.0), tp::Tensor(0.0)}, steps);
}

void run() {
  const double decay = kR / (2 * kL), omega = std::sqrt(1 / (kL * kC) - decay * decay);
  const auto exact = [&](double t) {
    return kC * kVolt *
           (1 - std::exp(-decay * t) * (std::cos(omega * t) + decay / omega * std::sin(omega * t)));
  };
  std::vector<double> time, charge, closed;
  double worst = 0;
  for (std::int64_t ms = 0; ms <= 400; ++ms) {
    const std::int64_t steps = ms * 100'000;  // 0.1 ms
    time.push_back(static_cast<double>(steps) * kStep * 1e3);
    charge.push_back(std::get<0>(circuit(steps)).item<double>() * 1e6);
    closed.push_back(exact(static_cast<double>(steps) * kStep) * 1e6);
    worst = std::max(worst, std::abs(charge.back() - closed.back()));
  }
  fmt::print("circuit    R {} ohm, L {} H, C {} F on {} V: rings at {:.3f} Hz, decays in {:.1f} ms\n", kR, kL,
             kC, kVolt, omega / (2 * 3.14159265358979323846), 1e3 / decay);
  fmt::print("sampled    401 times up to 40 ms, each from t = 0 by up to 40,000,000 steps of 1 ns\n");
  fmt::print(
      "charge     differs from the closed form by at most {:.1e} of {} uC (the method is of order h)\n",
      worst / (kC * kVolt * 1e6), kC * kVolt * 1e6);
  const auto end = circuit(40'000'000);
  (void)std::get<0>(end).item<double>();
  fmt::print("\n{}", tp::explain(std::get<0>(end)));

  example::Figure figure(800, 420, "Charging a capacitor through an inductor");
  example::Panel panel({.x = 70, .y = 50, .width = 690, .height = 300}, {"t (ms)", 0, 40},
                       {"charge (uC)", 0, 10});
  panel.line(time, charge, example::kBlue, "loop, 1 ns a step");
  figure.add(panel);
  figure.save("rlc_circuit.svg");
  fmt::print("plot       rlc_circuit.svg\n");
}

}  // namespace

int main() { return example::run("rlc_circuit", run); }
