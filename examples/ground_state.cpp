// The ground state of the quartic oscillator H = p^2 + x^4 by imaginary time, from a packet that is nowhere near it. Its
// energy has been computed to many digits: 1.060362090484182899647 (Banerjee, Proc. R. Soc. A 364, 265 (1978), and others).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <fmt/format.h>

#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr double kPublished = 1.060362090484182899647;

void run() {
  const tp::Grid grid({128}, {14.0});
  const tp::Tensor x = grid.x(0);
  const tp::Schroedinger quartic(grid, x * x * x * x, {.mass = 0.5});  // p^2 / 2m = p^2
  tp::Tensor psi = quartic.normalised(tp::exp(-tp::square(x - 2.0)));
  std::vector<double> time{0}, above;
  const auto energy = [&] { return quartic.energy(psi).item<double>(); };
  above.push_back(std::log10(energy() - kPublished));
  for (int i = 1; i <= 16; ++i) {
    psi =
        quartic.evolve(psi, {.t_end = 0.5, .method = tp::Method::Spectral, .imaginary = true}).psi.realize();
    time.push_back(0.5 * i);
    above.push_back(std::log10(std::max(std::abs(energy() - kPublished), 1e-16)));
  }
  fmt::print("energy     {:.14f}\npublished  {:.14f}, difference {:.1e}\n", energy(), kPublished,
             std::abs(energy() - kPublished));
  fmt::print("<x^2>      {:.12f}\n", quartic.expectation(psi, x * x).item<double>());
  fmt::print("\n{}", tp::explain(psi));

  example::Figure figure(800, 480, "The ground state of p^2 + x^4");
  example::Panel wave({.x = 80, .y = 50, .width = 300, .height = 360}, {"x", -4, 4}, {"psi", 0, 1});
  std::vector<double> at = x.to_vector<double>(), value = tp::abs(psi).to_vector<double>();
  wave.line(at, value, example::kBlue, "psi");
  example::Panel fall({.x = 480, .y = 50, .width = 290, .height = 360}, {"imaginary time", 0, 8},
                      {"energy above the ground state", -16, 2, true});
  fall.line(time, above, example::kRed, "energy");
  figure.add(wave);
  figure.add(fall);
  figure.save("ground_state.svg");
  fmt::print("plot       ground_state.svg\n");
}

}  // namespace

int main() { return example::run("ground_state", run); }
