// A chain of 100 masses between two walls, on springs that stiffen: their constants are recovered from what is seen of one
// motion, the positions at 20 moments. The gradient by all 101 constants goes through every step; L-BFGS (Nocedal 1980) does
// the rest.
// Units: kg, m, N/m.   fit_springs [ITERATIONS]
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
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

constexpr std::int64_t kMasses = 99, kSteps = 400, kEvery = 20;
constexpr double kStep = 0.025;
using Vector = std::vector<double>;

double dot(const Vector& a, const Vector& b) {
  double s = 0;
  for (std::size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}
void add_scaled(Vector& to, double factor, const Vector& x) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += factor * x[i];
}

// The positions that are seen when the springs have these constants.
tp::State motion(const tp::Tensor& k, const tp::State& start) {
  const tp::System chain([&](const tp::Tensor& q, const tp::Tensor& p) {
    const tp::Tensor walled = q.pad({{1, 1}}), d = walled.slice(0, 1) - walled.slice(0, 0, -1),
                     squared = d * d;
    return 0.5 * (p * p).sum() + (k * (0.5 * squared + 0.25 * squared * squared)).sum();
  });
  return chain.evolve(start, {.dt = kStep, .steps = kSteps, .save_every = kEvery});
}

// The direction of L-BFGS for a gradient, from the last steps and changes of the gradient.
struct Change {
  Vector step, slope;
};
Vector direction(Vector g, const std::deque<Change>& changes) {
  std::vector<double> weights;
  for (auto c = changes.rbegin(); c != changes.rend(); ++c) {
    weights.push_back(dot(c->step, g) / dot(c->step, c->slope));
    add_scaled(g, -weights.back(), c->slope);
  }
  if (!changes.empty()) {
    const Change& last = changes.back();
    const double scale = dot(last.step, last.slope) / dot(last.slope, last.slope);
    for (double& x : g) x *= scale;
  }
  for (const Change& c : changes) {
    add_scaled(g, weights.back() - dot(c.slope, g) / dot(c.step, c.slope), c.step);
    weights.pop_back();
  }
  for (double& x : g) x = -x;
  return g;
}

void run(std::int64_t iterations) {
  const tp::Tensor site = tp::Tensor::arange(static_cast<double>(kMasses + 1));
  const Vector truth = (2.0 + 0.8 * tp::sin(0.35 * site) * tp::cos(1.7 * site)).to_vector<double>();
  const tp::Tensor mass = tp::Tensor::arange(static_cast<double>(kMasses));
  const tp::State start{0.6 * tp::sin(2.1 * mass + 0.02 * mass * mass), 0.5 * tp::cos(1.3 * mass)};
  const tp::Tensor seen = motion(tp::Tensor::from(truth), start).q.realize();

  std::string report;
  const auto loss_at = [&](const Vector& k, Vector& slope) {
    const tp::Tensor of = tp::Tensor::from(k);
    const tp::Tensor loss = tp::square(motion(of, start).q - seen).sum();
    const tp::Tensor g = tp::gradient(loss, std::vector<tp::Tensor>{of})[0];
    tp::realize({loss, g});
    slope = g.to_vector<double>();
    if (report.empty()) report = tp::explain(g).text;
    return loss.item<double>();
  };
  Vector k(truth.size(), 2.0), g;
  const auto begin = std::chrono::steady_clock::now();
  double loss = loss_at(k, g);
  Vector number{0}, losses{loss};
  std::deque<Change> changes;
  while (losses.back() > 1e-22 && static_cast<std::int64_t>(number.size()) <= iterations) {
    const Vector along = direction(g, changes);
    const double slope = dot(g, along);
    // Shorter until it is enough better (Armijo).
    double length = changes.empty() ? 0.1 / std::sqrt(dot(g, g)) : 1.0;
    Vector next, next_g;
    double next_loss = 0;
    for (int tries = 0; tries < 30; ++tries, length *= 0.5) {
      next = k;
      add_scaled(next, length, along);
      next_loss = loss_at(next, next_g);
      if (next_loss <= loss + 1e-4 * length * slope) break;
    }
    Change change{next, next_g};
    add_scaled(change.step, -1, k);
    add_scaled(change.slope, -1, g);
    if (dot(change.step, change.slope) > 0) changes.push_back(std::move(change));
    if (changes.size() > 20) changes.pop_front();
    k = next;
    g = next_g;
    if (!(next_loss < loss)) break;  // as good as rounding lets it be
    loss = next_loss;
    number.push_back(static_cast<double>(number.size()));
    losses.push_back(loss);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  double worst = 0;
  for (std::size_t i = 0; i < k.size(); ++i) worst = std::max(worst, std::fabs(k[i] - truth[i]));
  fmt::print("fitted     {} constants from {} positions, {} iterations in {:.1f} s\n", k.size(), seen.size(),
             number.size() - 1, took.count());
  fmt::print("constants  from 1.2 to 2.8 N/m, recovered to {:.1e} N/m; squared misfit {:.1e} -> {:.1e} m2\n",
             worst, losses.front(), losses.back());
  fmt::print("\n{}", report);

  example::Figure figure(900, 420, "Springs of a chain, recovered from its motion");
  example::Panel springs({.x = 70, .y = 50, .width = 420, .height = 300}, {"spring", 0, 99}, {"N/m", 1, 3});
  const Vector sites = site.to_vector<double>();
  springs.line(sites, truth, example::kBlue, "true");
  springs.points(sites, k, example::kRed, "fitted");
  figure.add(springs);
  Vector logs;
  for (const double x : losses) logs.push_back(std::log10(std::max(x, 1e-30)));
  example::Panel curve({.x = 570, .y = 50, .width = 300, .height = 300}, {"iteration", 0, number.back()},
                       {"squared misfit (m2)", std::floor(logs.back()), std::ceil(logs.front()), true});
  curve.line(number, logs, example::kBlue);
  figure.add(curve);
  figure.save("fit_springs.svg");
  fmt::print("plot       fit_springs.svg\n");
}

}  // namespace

int main(int argc, char** argv) {
  return example::run("fit_springs", [&] {
    const auto iterations = example::parse_integer(argc > 1 ? argv[1] : "400");
    if (!iterations || *iterations < 1)
      throw example::BadInput("ITERATIONS must be a whole number, 1 or more");
    run(*iterations);
  });
}
