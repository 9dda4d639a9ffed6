// The default gradient through a loop keeps a number of states that does not depend on the steps, and has the bits of the
// tape: counted in the lowered graph, and compared where it runs.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "derive/scan_tape.hpp"
#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/env.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"
#include "uop/storage.hpp"

namespace tp = tinyphys;
using tp::Reversible;
using tp::Tensor;
using namespace tp::testing;

namespace {

using Values = std::vector<std::vector<double>>;

Values gradients(const Tensor& loss, const std::vector<Tensor>& by, std::string* report = nullptr) {
  std::vector<Tensor> g = tp::gradient(loss, by);
  tp::realize(g);
  Values out;
  for (const Tensor& x : g) out.push_back(x.to_vector<double>());
  if (report) *report = tp::explain(g[0]).text;
  return out;
}

bool same_bits(const Values& a, const Values& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(double)) == 0;
  });
}

// What a graph does, its loops included.
struct Work {
  double sines = 0;       // evaluated: of the step below one in each evaluation, and none in its adjoint
  std::int64_t kept = 0;  // states stacked at a time
};
Work work_of(std::span<const tp::UOp> roots) {
  std::vector<tp::Node*> starts;
  for (const tp::UOp& r : roots) starts.push_back(r.get());
  Work w;
  std::int64_t inside = 0;
  for (tp::Node* n : tp::toposort(starts)) {
    w.sines += n->op == tp::Op::SIN;
    if (n->op != tp::Op::SCAN) continue;
    const tp::ScanParts s = tp::open_scan(n);
    const auto steps = static_cast<std::int64_t>(tp::const_int(s.steps.get()));
    std::vector<tp::UOp> body = s.next;
    body.insert(body.end(), s.outs.begin(), s.outs.end());
    const Work one = work_of(body);
    w.sines += static_cast<double>(steps) * one.sines;
    if (!s.outs.empty()) w.kept += steps;
    inside = std::max(inside, one.kept);
  }
  w.kept += inside;
  return w;
}

constexpr std::int64_t kNumbers = 1024;  // 8 kB a state
// Not invertible: it is damped.
Work work_of_gradient(std::int64_t steps, Reversible way = Reversible::Auto) {
  const Tensor x0 = (0.1 * Tensor::arange(static_cast<double>(kNumbers))).clone(), a = Tensor(0.5);
  const Tensor end = tp::scan([&](const Tensor& x) { return 0.99 * x + 0.01 * a * tp::sin(x); }, x0, steps,
                              {.reversible = way});
  const std::vector<tp::UOp> roots{tp::uop(tp::gradient(end.sum(), std::vector<Tensor>{x0})[0])};
  return work_of(tp::lower_vjps(roots));
}

}  // namespace

TEST_CASE("a gradient through 10^6 steps, or 10^9, keeps no more states than one through 10^3") {
  const Work thousand = work_of_gradient(1000);
  CHECK(thousand.kept == 1000);  // a tape: below TINYPHYS_TAPE
  CHECK(thousand.sines == 1000);
  for (const std::int64_t steps : {std::int64_t{10'000}, std::int64_t{100'000}, std::int64_t{1'000'000},
                                   std::int64_t{1'000'000'000}, std::int64_t{999'983}}) {
    CAPTURE(steps);
    const Work w = work_of_gradient(steps);
    CHECK(w.kept <= 1000);
    CHECK(w.sines <= (steps <= 100'000 ? 2.0 : steps <= 1'000'000 ? 3.0 : 4.0) * static_cast<double>(steps));
  }
  // Who asks for the tape has it.
  CHECK(work_of_gradient(100'000, Reversible::Tape).kept == 100'000);
  const tp::env::ScopedOverride more("TINYPHYS_TAPE", "4000000000");
  CHECK(work_of_gradient(100'000).kept == 100'000);
}

TEST_CASE(
    "where states are large a few are kept, and steps taken about as often as binomial checkpointing takes "
    "them") {
  const tp::env::ScopedOverride none("TINYPHYS_TAPE", "0");
  // By the formula of Griewank and Walther (2000), r n - C(s + r, r - 1), for as many states: 1.94, 2.78, 4.32 a step.
  for (const auto& [steps, passes] :
       std::vector<std::pair<std::int64_t, double>>{{1000, 2.0}, {10'000, 2.93}, {1'000'000, 5.51}}) {
    CAPTURE(steps);
    const Work w = work_of_gradient(steps);
    CHECK(w.kept <= 100);  // 64, and those of what is left over before the blocks, which go first
    CHECK(w.sines <= passes * static_cast<double>(steps));
    CHECK(w.sines > (passes - 0.1) * static_cast<double>(steps));
  }
}

TEST_CASE("the default through 10^6 steps has the bits of the tape" * needs_passes()) {
  const Tensor x0 = Tensor::from({0.3, -0.2}), v0 = Tensor::from({0.1, 0.4}), a = Tensor::from({0.9, 1.1}),
               dt = Tensor::from({1e-3}).reshape({});
  const auto of = [&](Reversible way, std::string* report) {
    const auto [x, v] = tp::scan(
        [&](const Tensor& y, const Tensor& u) {
          const Tensor w = (1.0 - 1e-3 * dt) * u - dt * tp::sin(a * y);
          return std::tuple{y + dt * w, w};
        },
        std::tuple{x0, v0}, 1'000'000, {.reversible = way});
    return gradients((x * v).sum(), {x0, v0, a, dt}, report);
  };
  std::string report;
  const Values kept = of(Reversible::Auto, &report), tape = of(Reversible::Tape, nullptr);
  CAPTURE(report);
  CHECK(contains(report, "over checkpoints, 2,000 states kept at a time, 128 kB, in 2 levels of 1000"));
  CHECK(same_bits(kept, tape));
}

TEST_CASE("the memory that is taken by the default does not grow with the steps" * needs_passes()) {
  const auto peak = [](long steps, Reversible way = Reversible::Auto) {
    const Tensor x0 = (0.01 * Tensor::arange(128.0)).clone();
    const std::int64_t before = tp::live_bytes();
    tp::reset_peak_bytes();
    const Tensor end = tp::scan([](const Tensor& x) { return 0.99 * x + 0.01 * tp::sin(x); }, x0, steps,
                                {.reversible = way});
    (void)gradients(end.sum(), {x0});
    return static_cast<double>(tp::peak_bytes() - before);
  };
  const double few = peak(1000);
  CHECK(few > 1000 * 1024.0);  // a tape
  for (const long steps : {20'000L, 40'000L}) {
    CAPTURE(steps);
    CHECK(peak(steps) <= 1.01 * few);
  }
  CHECK(peak(20'000, Reversible::Tape) > 20'000 * 1024.0);
}

TEST_CASE("the default has the bits of the tape: several scans, members, rows, what is captured, dt") {
  const Tensor x0 = Tensor::from({0.3, -0.2, 0.7}), a = Tensor::from({0.9, 1.1, 1.3}),
               dt = Tensor::from({0.02}).reshape({});
  const auto compare = [](const auto& of) {
    const Values tape = of(Reversible::Tape);
    const tp::env::ScopedOverride none("TINYPHYS_TAPE", "0");
    CHECK(same_bits(of(Reversible::Auto), tape));
  };
  // One after the other, and beside each other.
  compare([&](Reversible way) {
    const auto damped = [&](const Tensor& x) { return 0.99 * x + dt * tp::sin(a * x); };
    const Tensor one = tp::scan(damped, x0, 150, {.reversible = way}),
                 two = tp::scan([&](const Tensor&y) { return damped(y) + dt * x0; }, one, 97,
                                {.reversible = way}),
                 three = tp::scan([&](const Tensor&y) { return damped(y) * 0.5; }, 2.0 * x0, 64,
                                  {.reversible = way});
    return gradients((two * three).sum() + one.sum(), {x0, a, dt});
  });
  // A scan whose step is a scan, with rows and outputs.
  compare([&](Reversible way) {
    const Tensor rows = tp::cos(Tensor::arange(80.0 * 3.0)).reshape({80, 3}).clone();
    const auto [end, ys] = tp::scan(
        [&](tp::Index i, const Tensor& x, const Tensor& row) {
          const Tensor y = tp::scan([&](const Tensor& z) { return 0.9 * z + dt * tp::sin(z + row); },
                                    x + 0.01 * i, 70, {.reversible = way});
          return std::pair{y, (y * y).sum()};
        },
        x0, 80, {.xs = {rows}, .reversible = way});
    return gradients((end * a).sum() + ys.sum(), {x0, a, dt, rows});
  });
  // Members of an ensemble.
  compare([&](Reversible way) {
    const tp::System ensemble([&](const Tensor& q, const Tensor& p) { return 0.5 * p * p + a * tp::cos(q); },
                              {.batch_axes = 1});
    const tp::State s = ensemble.evolve({x0, 0.5 * x0}, {.dt = dt, .steps = 200, .reversible = way});
    return gradients((s.q * s.p).sum(), {x0, a, dt});
  });
  // Members by vmap.
  compare([&](Reversible way) {
    const auto end = [&](const Tensor& x) {
      return tp::scan([&](const Tensor& y) { return 0.99 * y + dt * tp::sin(y); }, x, 130,
                      {.reversible = way});
    };
    return gradients((tp::vmap(end)(x0) * a).sum(), {x0, a, dt});
  });
}
