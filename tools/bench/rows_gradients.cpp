// Gradients through loops that stay loops: steps undone.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "input.hpp"
#include "reference/gravity.hpp"
#include "tinyphys/explain.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/tensor.hpp"
#include "tinyphys/transforms.hpp"

namespace tinyphys::bench {
namespace {

constexpr int kBodies = 64;
constexpr long kSteps = 10'000;
constexpr double kDt = 2e-4;
// Nearby motions part by some e-foldings until the end, and so do roundings.
constexpr double kSameGradient = 1e-8;

struct Cluster {
  Gravity<kBodies> gravity;
  Gravity<kBodies>::Vector q, p, weight;
};
Cluster cluster() {
  Random random(12);
  Cluster c{};
  c.gravity.softening2 = 0.01;
  c.gravity.g = 1;
  c.gravity.mass.fill(1.0 / kBodies);
  for (std::size_t k = 0; k < c.q.size(); ++k) {
    c.q[k] = random.uniform(-1, 1);
    c.p[k] = random.uniform(-0.5, 0.5) / kBodies;
    c.weight[k] = random.uniform(-1, 1);
  }
  return c;
}

Tensor rows_of(const Gravity<kBodies>::Vector& v) {
  return Tensor::from(std::vector<double>(v.begin(), v.end()), {kBodies, 3});
}

// A loss of the places at the end; its gradient by the places and momenta at the start.
struct Program {
  Cluster c = cluster();
  Tensor q = rows_of(c.q), p = rows_of(c.p), weight = rows_of(c.weight);
  System system{[](const Tensor& x, const Tensor& y) {
    const Tensor d = x.reshape({kBodies, 1, 3}) - x.reshape({1, kBodies, 3});
    const Tensor r = sqrt((d * d).sum(2) + 0.01);
    // A body with itself is a constant, which has no force.
    return 0.5 * kBodies * (y * y).sum() - 0.5 / (kBodies * kBodies) * (1.0 / r).sum();
  }};

  State forward() const {
    return system.evolve({q, p}, {.dt = kDt, .steps = kSteps, .reversible = Reversible::Float});
  }
  std::vector<Tensor> gradient() const {
    std::vector<Tensor> g = tinyphys::gradient((weight * forward().q).sum(), std::vector<Tensor>{q, p});
    realize(g);
    return g;
  }
  std::vector<double> by_hand() const {
    Gravity<kBodies>::Vector x = c.q, y = c.p, of_q = c.weight, of_p{};
    c.gravity.leapfrog(x, y, kDt, kSteps);
    c.gravity.leapfrog_back(x, y, of_q, of_p, kDt, kSteps);
    return {of_q.begin(), of_q.end()};
  }
};

Bench reverse() {
  const Program program;
  const std::vector<Tensor> g = program.gradient();
  if (explain(g[0]).text.find("each step undone") == std::string::npos)
    throw Wrong("the steps are not undone");
  const double error = relative_error(g[0].to_vector<double>(), program.by_hand());
  if (!(error <= kSameGradient)) throw Wrong(fmt::format("differs by {:.1e} from that by hand", error));
  Bench b;
  // A value that is held is not made again.
  b.work = timed([program] { consume(Program(program).gradient()); });
  b.reference = timed([program] { consume(program.by_hand()); });
  b.sampling = {.warm_up = 1, .min_samples = 5, .max_samples = 15, .budget_s = 10, .min_sample_s = 0};
  b.finish = [error] { return fmt::format("they differ by {:.1e}", error); };
  return b;
}

Bench reverse_and_forward() {
  const Program program;
  Bench b;
  b.work = timed([program] { consume(Program(program).gradient()); });
  b.reference = timed([program] {
    const State s = Program(program).forward();
    realize({s.q, s.p});
    consume(s);
  });
  b.sampling = {.warm_up = 1, .min_samples = 5, .max_samples = 15, .budget_s = 10, .min_sample_s = 0};
  return b;
}

}  // namespace

void add_gradient_rows(std::vector<Row>& rows) {
  rows.push_back({.name = "reverse",
                  .work = "64 bodies, 10^4 leapfrog steps and the gradient through them, steps undone",
                  .n = kSteps,
                  .reference = "the same by hand, C++ -O3",
                  .set_up = reverse});
  rows.push_back({.name = "reverse/forward",
                  .work = "64 bodies, 10^4 leapfrog steps and the gradient through them, steps undone",
                  .n = kSteps,
                  .reference = "the steps alone",
                  .set_up = reverse_and_forward});
}

}  // namespace tinyphys::bench
