// A ball is thrown over a hill and a hollow and is to land in a hand 3 s later: the velocity of the throw is trained by the
// gradient through all steps of the flight. A tape of 10^6 steps would be 48 MB for this one ball; here each step is undone on
// the way back (Reversible::Float), and what is kept does not depend on their number.
// Units: m, s, kg.   throw_the_ball [STEPS]
#include <chrono>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "support/bad_input.hpp"
#include "support/number.hpp"
#include "support/run.hpp"
#include "support/svg.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr double kFlight = 3.0, kGravity = 9.81;

void run(std::int64_t steps) {
  // Beside its weight the ball feels a round hill that pushes it away and a hollow that draws it in, each a Gaussian 1 m wide.
  const tp::System ball([](const tp::Tensor& q, const tp::Tensor& p) {
    const tp::Tensor x = q[0], y = q[1];
    const auto bump = [&](double height, double at_x, double at_y) {
      return height * tp::exp(-0.5 * (tp::square(x - at_x) + tp::square(y - at_y)));
    };
    return 0.5 * (p * p).sum() + kGravity * y + bump(6, 4, 9) + bump(-5, 9, 9);
  });
  const tp::Tensor start = tp::Tensor::from({0.0, 1.0}), target = tp::Tensor::from({12.0, 2.0});
  const auto fly = [&](const tp::Tensor& v, std::int64_t n) {
    return ball.evolve(
        {start, v},
        {.dt = kFlight / static_cast<double>(n), .steps = n, .reversible = tp::Reversible::Float});
  };
  const auto loss_of = [&](const tp::Tensor& v) { return tp::square(fly(v, steps).q - target).sum(); };

  tp::Tensor v = tp::Tensor::from({2.5, 12.0}), slope;
  std::vector<double> throws, losses;
  std::string report;
  // In free flight the loss is |v t + ...|^2, and half of this is the way to its minimum.
  double rate = 0.5 / (2 * kFlight * kFlight);
  const auto begin = std::chrono::steady_clock::now();
  for (tp::Tensor tried = v; losses.size() < 200;) {
    const tp::Tensor loss = loss_of(tried), of_tried = tp::gradient(loss, std::vector<tp::Tensor>{tried})[0];
    tp::realize({loss, of_tried});
    if (report.empty()) report = tp::explain(of_tried).text;
    // A throw that is no better is taken back, and the next goes half as far.
    const bool better = losses.empty() || loss.item<double>() < losses.back();
    throws.push_back(static_cast<double>(throws.size()));
    losses.push_back(better ? loss.item<double>() : losses.back());
    rate *= better ? 1.2 : 0.5;
    if (better) {
      v = tried;
      slope = of_tried;
    }
    if (losses.back() < 1e-16) break;
    tried = tp::Tensor::from((v - rate * slope).to_vector<double>());
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  fmt::print("trained    {} throws of {} steps each in {:.1f} s\n", throws.size(), steps, took.count());
  fmt::print("thrown     {:.6f} m/s; it misses the hand by {:.1e} m, at first by {:.2f} m\n", v,
             std::sqrt(losses.back()), std::sqrt(losses.front()));
  fmt::print("\n{}", report);

  example::Figure figure(900, 420, "A ball thrown over a hill and a hollow");
  example::Panel path({.x = 70, .y = 50, .width = 420, .height = 300}, {"x (m)", -1, 15}, {"y (m)", 0, 14});
  const std::int64_t drawn = 600;
  const auto draw = [&](const tp::Tensor& thrown, std::string_view color, std::string_view label) {
    const tp::State s =
        ball.evolve({start, thrown}, {.dt = kFlight / drawn, .steps = drawn, .save_every = 5});
    path.line(s.q.slice(1, 0, 1).flatten().to_vector<double>(),
              s.q.slice(1, 1, 2).flatten().to_vector<double>(), color, label);
  };
  draw(tp::Tensor::from({2.5, 12.0}), example::kRed, "first throw");
  draw(v, example::kBlue, "trained");
  path.points({12.0}, {2.0}, example::kGreen, "hand");
  figure.add(path);
  std::vector<double> logs;
  for (const double x : losses) logs.push_back(std::log10(std::max(x, 1e-20)));
  example::Panel curve({.x = 570, .y = 50, .width = 300, .height = 300},
                       {"throw", 0, static_cast<double>(throws.size())},
                       {"squared distance (m2)", std::floor(logs.back()), 3, true});
  curve.line(throws, logs, example::kBlue);
  figure.add(curve);
  figure.save("throw_the_ball.svg");
  fmt::print("plot       throw_the_ball.svg\n");
}

}  // namespace

int main(int argc, char** argv) {
  return example::run("throw_the_ball", [&] {
    const auto steps = example::parse_integer(argc > 1 ? argv[1] : "1000000");
    if (!steps || *steps < 100) throw example::BadInput("STEPS must be a whole number, 100 or more");
    run(*steps);
  });
}
