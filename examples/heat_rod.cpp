// Heat in a rod of 100 cells between two ends at 0 degrees, by explicit Euler steps: an affine loop of one's own, taken as
// a power of its step matrix. The slowest mode decays by a closed-form rate.
#include <cmath>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr std::int64_t kCells = 100;
constexpr double kNumber = 4e-4;  // diffusivity dt / dx^2; stable up to 0.5

tp::Tensor rod(const tp::Tensor& start, std::int64_t steps) {
  return tp::scan(
      [](const tp::Tensor& u) {
        const tp::Tensor walled = u.pad({{1, 1}});
        return u + kNumber * (walled.slice(0, 2) - 2.0 * u + walled.slice(0, 0, -2));
      },
      start, steps);
}

void run() {
  const double pi = 3.14159265358979323846;
  std::vector<double> start(kCells, 0.0), place;
  for (std::size_t i = 0; i < kCells; ++i) {
    if (i >= 20 && i < 50) start[i] = 100;
    place.push_back(static_cast<double>(i));
  }
  const tp::Tensor hot = tp::Tensor::from(start);
  example::Figure figure(800, 420, "A rod cools");
  example::Panel panel({.x = 70, .y = 50, .width = 690, .height = 300}, {"cell", 0, 99},
                       {"temperature", 0, 100});
  const std::vector<std::string_view> colours{"#000000", example::kBlue, example::kGreen, example::kRed};
  std::size_t at = 0;
  for (const std::int64_t steps : {0, 100'000, 1'000'000, 5'000'000})
    panel.line(place, rod(hot, steps).to_vector<double>(), colours[at++], fmt::format("{} steps", steps));
  figure.add(panel);
  figure.save("heat_rod.svg");

  // Of the slowest mode a step leaves 1 - 4 r sin^2(pi / (2 (n + 1))).
  const double closed = 1 - 4 * kNumber * std::pow(std::sin(pi / (2 * (kCells + 1))), 2);
  const std::int64_t late = 200'000'000;
  const tp::Tensor a = rod(hot, late), b = rod(hot, late + 1'000'000);
  const double rate = std::pow(b.sum().item<double>() / a.sum().item<double>(), 1e-6);
  fmt::print("a step leaves {:.15f} of the slowest mode; closed form {:.15f}, relative difference {:.1e}\n",
             rate, closed, std::abs(rate - closed) / closed);
  fmt::print("heat left after {} steps: {:.6e} of {}\n", late, a.sum().item<double>(),
             hot.sum().item<double>());
  fmt::print("\n{}plot       heat_rod.svg\n", tp::explain(a));
}

}  // namespace

int main() { return example::run("heat_rod", run); }
