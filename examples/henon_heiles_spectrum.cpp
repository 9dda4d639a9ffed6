// The energy levels of the Henon-Heiles oscillator, H = (p^2 + x^2 + y^2) / 2 + l (x^2 y - y^3 / 3) with l = 0.1118, against those
// that have been published to four digits (Davis and Heller, J. Chem. Phys. 71, 3383 (1979), and others): a test of every
// semiclassical theory, as its classical motion turns from regular to chaotic below the saddles at 1 / (6 l^2). Pairs of equal
// levels are of the symmetry E of its triangle.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr double kL = 0.1118, kLength = 18.0;
constexpr std::int64_t kPoints = 64, kLevels = 36;
const std::vector<double> kPublished{0.9986, 1.9901, 1.9901, 2.9562, 2.9853, 2.9853, 3.9260,
                                     3.9260, 3.9824, 3.9858, 4.8702, 4.8987, 4.8987, 4.9863,
                                     4.9863, 5.8170, 5.8170, 5.8670, 5.8815, 5.9913, 5.9913,
                                     6.7379, 6.7649, 6.7649, 6.8534, 6.8534, 6.9989, 6.9994};

void run() {
  const tp::Grid grid({kPoints, kPoints}, {kLength, kLength});
  const tp::Tensor x = grid.x(0), y = grid.x(1);
  const tp::Schroedinger system(grid, 0.5 * (x * x + y * y) + kL * (x * x * y - y * y * y / 3.0));
  const tp::Eigenstates states = tp::eigenstates(system, kLevels);
  const std::vector<double> energy = states.energy.to_vector<double>();

  double most = 0;
  fmt::print("level  energy       published\n");
  for (std::size_t i = 0; i < kPublished.size(); ++i) {
    fmt::print("{:5}  {:.8f}   {:.4f}\n", i, energy[i], kPublished[i]);
    most = std::max(most, std::abs(energy[i] - kPublished[i]));
  }
  fmt::print("at most {:.1e} from the published ones, which have four digits\n", most);
  fmt::print("residuals <= {:.1e} after {} Chebyshev filters; saddles at {:.4f}\n",
             states.residual.max().item<double>(), states.iterations, 1 / (6 * kL * kL));

  // All of the spectrum, without a single level: the kernel polynomial method.
  const std::int64_t bins = 300;
  const tp::Tensor at = tp::Tensor::linspace(0.0, 40.0, bins);
  const tp::Tensor rho = tp::density_of_states(system, at, {.moments = 600, .vectors = 32});
  // Below the saddles there is one state for each (2 pi)^2 of phase space: about E of them per unit of energy.
  const tp::Tensor below = tp::Tensor::linspace(0.0, 6.5, 1301);
  const double counted =
      (tp::density_of_states(system, below, {.moments = 2000, .vectors = 32}).sum() * 0.005).item<double>();
  fmt::print("states below 6.5: {:.1f} by the density of states, {} by the levels\n", counted,
             std::count_if(energy.begin(), energy.end(), [](double e) { return e < 6.5; }));

  example::Figure figure(860, 460, "Henon-Heiles");
  example::Panel density({.x = 70, .y = 50, .width = 330, .height = 340}, {"energy", 0, 40},
                         {"states per unit of energy", 0, 60});
  density.line(at.to_vector<double>(), rho.to_vector<double>(), example::kBlue, "density of states");
  figure.add(density);
  // The last state, in the plane.
  std::vector<std::vector<double>> columns;
  const std::vector<double> psi =
      tp::square(tp::abs(states.psi.slice(0, kLevels - 1, kLevels))).to_vector<double>();
  for (std::int64_t i = 0; i < kPoints; ++i)
    columns.emplace_back(psi.begin() + i * kPoints, psi.begin() + (i + 1) * kPoints);
  example::Panel plane({.x = 470, .y = 50, .width = 340, .height = 340}, {"x", -kLength / 2, kLength / 2},
                       {"y", -kLength / 2, kLength / 2}, fmt::format("density of level {}", kLevels - 1));
  plane.heat_map(columns, *std::max_element(psi.begin(), psi.end()));
  figure.add(plane);
  figure.save("henon_heiles_spectrum.svg");
  fmt::print("plot   henon_heiles_spectrum.svg\n");
}

}  // namespace

int main() { return example::run("henon_heiles_spectrum", run); }
