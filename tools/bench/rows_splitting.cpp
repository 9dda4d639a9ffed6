// Steps that treat the terms of H apart: multiple time steps, and the exact flow with kicks between.
#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "input.hpp"
#include "reference/stiff_chain.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys::bench {
namespace {

constexpr long kSteps = 200'000;
constexpr int kInner = 10;
constexpr double kDt = 0.01;
constexpr StiffChain kChain{50.0};
constexpr StiffChain::Vector kPlaces = {1.0, 0, 0, 0.02, 0, 0}, kMomenta = {1.0, 0, 0, 1.0, 0, 0};
// The chain is not regular: what differs in the last bit grows. Few steps are compared, many are measured.
constexpr long kCompared = 2'000;
constexpr double kSameMotion = 1e-9;

System chain() {
  constexpr std::int64_t n = StiffChain::kSprings;
  const auto stiff = [](const Tensor& q, const Tensor& p) {
    const Tensor stretch = q.slice(0, n);
    return 0.5 * (p * p).sum() + 0.5 * kChain.omega * kChain.omega * (stretch * stretch).sum();
  };
  const auto soft = [](const Tensor& q, const Tensor&) {
    const Tensor centre = q.slice(0, 0, n), stretch = q.slice(0, n);
    const Tensor d = (centre - stretch).pad({{0, 1}}) - (centre + stretch).pad({{1, 0}});
    const Tensor square = d * d;
    return 0.25 * (square * square).sum();
  };
  return System({{"stiff", stiff}, {"soft", soft}});
}

// `options` without steps; `by_hand` the same steps written by hand.
template <class F> Bench against(const EvolveOptions& options, F by_hand) {
  const System system = chain();
  const auto motion = [=](long steps) {
    EvolveOptions o = options;
    o.steps = steps;
    const State s = system.evolve({Tensor::from(std::vector<double>(kPlaces.begin(), kPlaces.end())),
                                   Tensor::from(std::vector<double>(kMomenta.begin(), kMomenta.end()))},
                                  o);
    realize({s.q, s.p});
    return std::pair(s.q.to_vector<double>(), s.p.to_vector<double>());
  };
  const auto truth = [=](long steps) {
    std::pair s(kPlaces, kMomenta);
    by_hand(s.first, s.second, steps);
    return s;
  };
  const auto ours = motion(kCompared);
  const auto hand = truth(kCompared);
  const double error =
      std::max(relative_error(ours.first, hand.first), relative_error(ours.second, hand.second));
  if (!(error <= kSameMotion))
    throw Wrong(
        fmt::format("differs by {:.1e} from the loop written by hand after {} steps", error, kCompared));
  Bench b;
  b.work = timed([=] { consume(motion(kSteps)); });
  b.reference = timed([=] { consume(truth(kSteps)); });
  b.sampling.budget_s = 4;
  b.finish = [=] { return fmt::format("they differ by {:.1e} after {} steps", error, kCompared); };
  return b;
}

Bench respa() {
  EvolveOptions options{.dt = kDt};
  options.levels = {{"soft", 1}, {"stiff", kInner}};
  return against(options, [](auto& q, auto& p, long steps) { kChain.respa(q, p, kDt, kInner, steps); });
}

Bench split() {
  EvolveOptions options{.dt = kDt, .method = Method::Split};
  return against(options, [](auto& q, auto& p, long steps) { kChain.split(q, p, kDt, steps); });
}

}  // namespace

void add_splitting_rows(std::vector<Row>& rows) {
  rows.push_back({.name = "respa",
                  .work = "a stiff chain of 6 coordinates, multiple time steps, 10 inner ones",
                  .n = kSteps,
                  .reference = "the same steps in C++ -O3",
                  .set_up = respa});
  rows.push_back({.name = "split",
                  .work = "the same chain, exact rotations of the stiff springs and kicks by the soft ones",
                  .n = kSteps,
                  .reference = "the same steps in C++ -O3",
                  .set_up = split});
}

}  // namespace tinyphys::bench
