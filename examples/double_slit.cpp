// A wave packet goes through two slits in a wall: the pattern behind them, against Young's condition. Two slits at +-d/2 make
// psi(k_y) = 2 cos(k_y d / 2) times what one of them makes, whatever that is: dark directions are at k_y = (n + 1/2) 2 pi / d.
// hbar = m = 1; the wall is 11 times as high as the energy of the packet. Each frame is a PNG.
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <numbers>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "support/png.hpp"
#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr std::int64_t kPoints = 256, kFrames = 10;
// The middles and edges of the slits lie between points of the grid, half a spacing from them.
constexpr double kLength = 80.0, kMomentum = 3.0, kApart = 6.25, kOpen = 1.5625, kThick = 1.2, kHigh = 50.0;
constexpr double kTime = 12.0;

example::Palette blues() {
  example::Palette p{};
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double f = static_cast<double>(i) / 255;
    p[i] = {static_cast<std::uint8_t>(255 * std::pow(f, 1.6)),
            static_cast<std::uint8_t>(255 * std::pow(f, 0.9)),
            static_cast<std::uint8_t>(60 + 195 * std::sqrt(f))};
  }
  return p;
}

// Brightness goes with the root of the density, rows from the top.
void save_frame(const std::vector<double>& density, double scale, const std::vector<double>& wall,
                std::int64_t number) {
  const auto n = static_cast<std::size_t>(kPoints);
  std::vector<std::uint8_t> dots(n * n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      const double f = std::sqrt(std::min(1.0, density[i * n + j] / scale));
      dots[(n - 1 - j) * n + i] = wall[i * n + j] > 0 ? 128 : static_cast<std::uint8_t>(255 * f);
    }
  const std::string file = fmt::format("double_slit_{:02}.png", number);
  std::ofstream out(file, std::ios::binary);
  out << example::png(dots, n, n, blues());
  if (!out.flush()) throw std::runtime_error("cannot write " + file);
}

void run() {
  const tp::Grid grid({kPoints, kPoints}, {kLength, kLength});
  const tp::Tensor x = grid.x(0), y = grid.x(1);
  const tp::Tensor slits = tp::abs(tp::abs(y) - 0.5 * kApart) < 0.5 * kOpen;
  const tp::Tensor wall = tp::where((tp::abs(x) < 0.5 * kThick) & !slits, kHigh, 0.0).realize();
  const tp::Schroedinger system(grid, wall);
  const tp::Tensor envelope = tp::exp(-tp::square((x + 15.0) / 8.0) - tp::square(y / 16.0));
  const tp::Tensor start =
      system.normalised(envelope * tp::complex(tp::cos(kMomentum * x), tp::sin(kMomentum * x)));
  const tp::Wave w = system.evolve(start, {.dt = kTime / kFrames,
                                           .steps = kFrames,
                                           .method = tp::Method::Spectral,
                                           .tol = 1e-10,
                                           .save_every = 1});
  const tp::Tensor density = (tp::square(tp::real(w.psi)) + tp::square(tp::imag(w.psi))).realize();
  const tp::Tensor end = w.psi.slice(0, kFrames, kFrames + 1).squeeze(0);

  // What is behind the wall, by its momentum along y.
  const std::int64_t directions = 601;
  const tp::Tensor k = tp::Tensor::linspace(-1.5, 1.5, directions);
  const tp::Tensor phase = y.reshape({kPoints, 1}) * k;
  const tp::Tensor behind = tp::where(x > 2.0, end, std::complex<double>(0.0));
  const tp::Tensor by_k = tp::matmul(behind, tp::complex(tp::cos(phase), -tp::sin(phase)));
  const std::vector<double> pattern =
      (tp::square(tp::real(by_k)) + tp::square(tp::imag(by_k))).sum({0}).to_vector<double>();
  const std::vector<double> k_y = k.to_vector<double>();
  // The first dark direction: the least value between 0 and the second bright one, by a parabola through three.
  const auto dark = [&](double from, double to) {
    std::size_t at = 0;
    for (std::size_t i = 1; i + 1 < k_y.size(); ++i)
      if (k_y[i] > from && k_y[i] < to && (at == 0 || pattern[i] < pattern[at])) at = i;
    const double a = pattern[at - 1], b = pattern[at], c = pattern[at + 1];
    return k_y[at] + 0.5 * (a - c) / (a - 2 * b + c) * (k_y[1] - k_y[0]);
  };
  const double young = std::numbers::pi / kApart;
  fmt::print("through    {:.6f} of the packet\n",
             system.expectation(end, tp::where(x > 0.0, 1.0, 0.0)).item<double>());
  fmt::print("dark at    k_y = {:.4f} and {:.4f}; Young: +-pi / d = {:.4f}\n", dark(0.1, 1.0),
             dark(-1.0, -0.1), young);
  const double contrast = pattern[static_cast<std::size_t>(directions / 2)] /
                          *std::min_element(pattern.begin() + directions / 2, pattern.end() - 100);
  fmt::print("contrast   {:.0f} between the bright middle and the first dark direction\n", contrast);
  fmt::print("norm       {:.1e} off 1\n", std::abs(system.norm(end).item<double>() - 1));
  fmt::print("\n{}", tp::explain(end));

  const std::vector<double> all = density.to_vector<double>(), high = wall.to_vector<double>();
  const std::size_t each = static_cast<std::size_t>(kPoints * kPoints);
  std::vector<double> last;
  for (std::int64_t f = 0; f <= kFrames; ++f) {
    last.assign(all.begin() + static_cast<std::ptrdiff_t>(each) * f,
                all.begin() + static_cast<std::ptrdiff_t>(each) * (f + 1));
    save_frame(last, f < 4 ? 4e-3 : 4e-4, high, f);
  }
  example::Figure figure(860, 460, "Two slits");
  example::Panel plane({.x = 70, .y = 50, .width = 340, .height = 340}, {"x", -kLength / 2, kLength / 2},
                       {"y", -kLength / 2, kLength / 2}, "density at the end");
  std::vector<std::vector<double>> columns;
  for (std::int64_t i = 0; i < kPoints; ++i)
    columns.emplace_back(last.begin() + i * kPoints, last.begin() + (i + 1) * kPoints);
  plane.heat_map(columns, 4e-4);
  figure.add(plane);
  example::Panel fringes({.x = 490, .y = 50, .width = 330, .height = 340}, {"k_y", -1.5, 1.5},
                         {"behind the wall", 0, *std::max_element(pattern.begin(), pattern.end())});
  fringes.line(k_y, pattern, example::kBlue, "wave");
  fringes.marks({-3 * young, -young, young, 3 * young}, example::kRed, "Young");
  figure.add(fringes);
  figure.save("double_slit.svg");
  fmt::print("plot       double_slit.svg, frames double_slit_00.png to double_slit_{:02}.png\n", kFrames);
}

}  // namespace

int main() { return example::run("double_slit", run); }
