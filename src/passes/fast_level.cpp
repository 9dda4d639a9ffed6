#include "passes/fast_level.hpp"

#include <cmath>

#include <fmt/format.h>

#include "analysis/degree.hpp"
#include "analysis/terms.hpp"
#include "derive/lower_evolve.hpp"
#include "passes/loop_lift.hpp"
#include "passes/resonances.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

// The sum of the terms of p, and of what the fastest level has of q. Null where a term is not one or the other.
UOp fast_energy(const EvolveView& e, const EvolveRecord& record, std::int64_t fastest) {
  std::vector<StateGroup> groups(static_cast<std::size_t>(e.energy()->arg(0)), StateGroup::kNone);
  groups[0] = StateGroup::kQ;
  groups[1] = StateGroup::kP;
  std::vector<UOp> kept;
  for (std::size_t i = 0; i < e.energy()->n_src; ++i) {
    const NamedOutput whole{"", UOp::share(e.energy()->src(i))};
    const Terms terms = find_terms(std::span(&whole, 1), groups);
    bool all = true;
    std::vector<UOp> of_this;
    for (const Term& t : terms.list) {
      if (t.joins_q_and_p()) return {};
      if (t.degree.p > 0 || record.levels[i] == fastest)
        of_this.push_back(t.value);
      else
        all = false;
    }
    // A term that need not be cut stays as it was written.
    if (all) of_this = {whole.root};
    kept.insert(kept.end(), of_this.begin(), of_this.end());
  }
  if (kept.empty()) return {};
  const UOp sum = total_energy(kept);
  return with_outputs(e.energy(), std::span(&sum, 1));
}

}  // namespace

FastLevel find_fast_level(const Node* evolve) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  const std::vector<std::int64_t> levels = record.level_steps();
  FastLevel out;
  const auto refuse = [&](std::string why) {
    out.refused = std::move(why);
    return out;
  };
  out.steps = levels[levels.size() - 1] / levels[levels.size() - 2];
  if (record.method == Method::Loop) return refuse("Method::Loop asks for the steps");
  if (record.linear_part) return refuse("the motion is a linear part");
  out.of = {.energy = fast_energy(e, record, levels.back()),
            .captured = {},
            .q = UOp::share(e.q()),
            .p = UOp::share(e.p()),
            .integrator = Integrator::LeapfrogKDK,
            .batch_axes = record.batch_axes,
            .dt_in_energy = record.dt_in_energy};
  if (!out.of.energy) return refuse("a term of H is not T(p) or V(q) as it is written");
  for (Node* c : e.captured()) out.of.captured.push_back(UOp::share(c));
  const UOp alone =
      out.of.run(out.of.q, out.of.p, UOp::share(e.dt()), constant_int(out.steps), false)[0].src(0);
  const auto proof = prove_energy(alone.get());
  if (!proof->quadratic) return refuse(proof->refused);
  // The plan is made for all numbers that H may have.
  if (proof->needs_values) return refuse("it is quadratic for the numbers alone that H has now");
  out.kind = out.of.kind();
  const std::int64_t n = e.q()->size();
  if (out.kind == FlowKind::kJump)
    return refuse(
        fmt::format("{} coordinates are joined, a matrix is made for at most {}", n, kMostFlowRows));
  if (out.kind == FlowKind::kMatrix) {
    const UOp forces = force_lambda(out.of.energy.get(), e.q(), e.p());
    const double rows = 2 * static_cast<double>(n), of_matrix = rows * rows,
                 of_steps = static_cast<double>(out.steps) * (evaluation_work(forces.get()) + 2 * rows);
    if (of_matrix > of_steps)
      return refuse(
          fmt::format("a matrix of {} x {} would be more work than {} steps", 2 * n, 2 * n, out.steps));
    if (record.method != Method::Auto) {
      out.offered = true;
      return refuse("Method::Auto takes it");
    }
  }
  return out;
}

std::vector<UOp> turn_fast_level(const Node* evolve) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  if (record.level_steps().size() < 2) return {};
  const FastLevel level = find_fast_level(evolve);
  if (!level.refused.empty()) return {};
  LocationScope at(evolve->location.load(std::memory_order_relaxed));
  const double inner = static_cast<double>(record.level_steps().back());
  const FlowMap map(level.of, level.kind, div(UOp::share(e.dt()), constant(inner)),
                    constant_int(level.steps));
  ForceLoop loop{.record = record,
                 .forces = force_lambda(e.energy(), e.q(), e.p(), record),
                 .dt = UOp::share(e.dt()),
                 .steps = UOp::share(e.steps()),
                 .q = UOp::share(e.q()),
                 .p = UOp::share(e.p()),
                 .captured = level.of.captured};
  loop.fastest = &map;
  return loop_of_steps(loop);
}

void report_fast_level(const FastLevel& level, const EvolveRecord& record, const Labels& labels,
                       Records& to) {
  const std::vector<std::int64_t> levels = record.level_steps();
  const std::string steps = fmt::format("the {} steps of {} within one of {}", with_commas(level.steps),
                                        level_text(record, labels, levels.back()),
                                        level_text(record, labels, levels[levels.size() - 2]));
  const std::int64_t rows = level.of.q ? 2 * level.of.q->size() : 0;
  if (level.offered) {
    to.push_back(
        {Finding::kOffers,
         fmt::format(
             "a matrix of {} x {} for {}, T + V being quadratic (class method): Method::Auto takes it, "
             "rounded to 1.1e-16 of itself in each of them alike, which adds up as the steps' own "
             "rounding does not",
             rows, rows, steps)});
    return;
  }
  if (!level.refused.empty()) {
    to.push_back({Finding::kRefused, fmt::format("rotation for {}: {}", steps, level.refused)});
    return;
  }
  const bool blocks = level.kind == FlowKind::kBlocks;
  to.push_back(
      {Finding::kFound,
       fmt::format("{} are a rotation, T + V being quadratic: one map, {}, made once (class {}: that of the "
                   "steps, rounded to 1.1e-16 of itself)",
                   steps,
                   blocks ? std::string("2 x 2 numbers for each coordinate")
                          : fmt::format("a matrix of {} x {}", rows, rows),
                   blocks ? "exact" : "method"),
       "",
       {{"turned_steps", level.steps}}});
}

}  // namespace tinyphys
