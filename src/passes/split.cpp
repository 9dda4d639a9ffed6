#include "passes/split.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "analysis/identity.hpp"
#include "analysis/terms.hpp"
#include "derive/batch.hpp"
#include "derive/lower_evolve.hpp"
#include "derive/lower_split.hpp"
#include "passes/fast_modes.hpp"
#include "passes/loop_lift.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

constexpr double kNear = 0.1;  // |h Omega - k pi|

std::vector<StateGroup> state_groups(const Node* energy) {
  std::vector<StateGroup> g(static_cast<std::size_t>(energy->arg(0)), StateGroup::kNone);
  g[0] = StateGroup::kQ;
  g[1] = StateGroup::kP;
  return g;
}

// Why the kicks have no sinc(h Omega); empty where they have.
std::string no_mollifier(const Node* evolve) {
  const EvolveView e(evolve);
  if (!SplitStep(e.row()).composed())
    return std::string(e.row().name) +
           " composes flows and kicks, not split steps with a length of their own";
  const UOp energy = energy_of_flow(evolve, true);
  if (!energy) return "no term of H is of degree <= 2";
  const Separability apart =
      test_separable(energy.get(), state_groups(energy.get()), {}, std::vector<std::string>{"q", "p"});
  if (!apart.separable) return "the term " + apart.reason + " of the flow joins q and p";
  const UOp forces = force_lambda(energy.get(), e.q(), e.p());
  const UOp velocity = forces.src(1);
  const UOp alone = with_outputs(forces.get(), std::span(&velocity, 1));
  if (prove_independent(alone.get(), e.q()->shape().size()).culprit)
    return "the masses of the flow are not proved to be one for each coordinate";
  return {};
}

// The longest part of the step that a kick has.
double longest_part(const SplitStep& step) {
  double most = 0;
  for (const double c : step.kicks) most = std::max(most, std::fabs(c));
  return most;
}

// A bound of h Omega of that part, where dt and what H captures are known and the coordinates few.
std::optional<double> known_reach(const Node* evolve) {
  const EvolveView e(evolve);
  const UOp energy = energy_of_flow(evolve, true);
  const std::optional<Value<double>> dt = e.record().dt_in_energy ? std::nullopt : known_value(e.dt());
  if (!energy || !dt) return {};
  const KnownValues values(e.captured());
  const UOp forces = force_lambda(energy.get(), e.q(), e.p());
  const FastModes modes = fast_modes(forces.get(), nullptr, e.q()->size(), values, true);
  if (!modes.refused.empty()) return {};
  return std::fabs(dt->real[0]) * longest_part(SplitStep(e.row())) * std::sqrt(modes.row_sum);
}

std::string names_text(const EvolveRecord& record, const Labels& labels, bool flow) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < record.flows.size(); ++i)
    if ((record.flows[i] != 0) == flow && i < labels.names.size())
      names.push_back("\"" + labels.names[i] + "\"");
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? " of " : i + 1 == names.size() ? " and " : ", ") + names[i];
  return text;
}

}  // namespace

UOp split_evolve(const UOp& evolve, const char* file, unsigned line) {
  const EvolveView e(evolve.get());
  Labels labels = labels_of(evolve.get());
  EvolveRecord record = e.record();
  const auto fail = [&](const std::string& why, const Node* at) {
    throw Error("evolve", at ? with_own_places(why, labels, at->op) : why, file, line);
  };
  if (record.timed) fail("Method::Split needs an H that does not depend on the time", nullptr);
  const auto groups = state_groups(e.energy());
  const std::vector<std::string> names{"q", "p"};
  std::vector<UOp> outputs;
  std::vector<std::string> of_output;
  const auto proof = prove_energy(evolve.get());
  const bool quadratic = proof->quadratic && !proof->needs_values;
  for (std::size_t i = 0; i < e.energy()->n_src; ++i) {
    const UOp whole = UOp::share(e.energy()->src(i));
    const std::string name = i < labels.names.size() ? labels.names[i] : "";
    std::vector<UOp> flow, kick;
    if (quadratic) {
      flow = {whole};
    } else {
      const NamedOutput output{name, whole};
      for (const Term& t : find_terms(std::span(&output, 1), groups, names).list) {
        const bool of_flow = t.degree.joint <= 2;
        if (!of_flow && t.degree.p > 0)
          fail("Method::Split kicks by the terms beyond degree 2, which must be V(q), but " +
                   (name.empty() ? "" : "\"" + name + "\" has ") + t.text +
                   (t.where.empty() ? "" : " at " + t.where) + ", of degree " + degree_text(t.degree),
               t.node);
        (of_flow ? flow : kick).push_back(t.value);
      }
      // A term that need not be cut stays as it was written.
      if (kick.empty()) flow = {whole};
      if (flow.empty()) kick = {whole};
    }
    for (const auto* terms : {&flow, &kick}) {
      if (terms->empty()) continue;
      outputs.push_back(total_energy(*terms));
      record.flows.push_back(terms == &flow);
      of_output.push_back(name);
    }
  }
  if (!labels.names.empty()) labels.names = of_output;
  const auto cut = [&] {
    const UOp energy = with_outputs(e.energy(), outputs);
    std::vector<Node*> src(evolve->src().begin(), evolve->src().end());
    src[0] = energy.get();
    UOp n = make(Op::EVOLVE, std::span<Node* const>(src), record.encode());
    if (labels.any()) set_labels(n.get(), labels);
    return n;
  };
  UOp made = cut();
  if (const std::string why = no_mollifier(made.get()); !why.empty() && record.impulse != Impulse::Plain) {
    const bool kicks = std::ranges::find(record.flows, 0) != record.flows.end();
    if (record.impulse == Impulse::Mollified && kicks)
      fail((SplitStep(e.row()).composed() ? "Impulse::Mollified needs the frequencies of the flow: "
                                          : "Impulse::Mollified needs split steps: ") +
               why + "; use Impulse::Plain",
           nullptr);
    record.impulse = Impulse::Plain;
    made = cut();
  }
  // Where it is known which impulse Auto is, the steps need not be made for both.
  if (record.impulse == Impulse::Auto && flow_kind(made.get()) != FlowKind::kJump)
    if (const std::optional<double> reach = known_reach(made.get())) {
      record.impulse = *reach > 1 ? Impulse::Mollified : Impulse::Plain;
      made = cut();
    }
  return made;
}

Records report_split(const Node* evolve, const Labels& labels) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  Records to;
  const UOp rest = energy_of_flow(evolve, false), flow = energy_of_flow(evolve, true);
  std::string text =
      flow ? "the terms of degree <= 2" + names_text(record, labels, true) + " by their exact flow"
           : "no term of degree <= 2: nothing flows";
  text += rest ? ", kicks by the others" + names_text(record, labels, false) + " between" : ", no others";
  to.push_back({Finding::kFound, "split: " + text});
  if (!rest) return to;
  if (flow) {
    const FlowKind kind = flow_kind(evolve);
    to.push_back({Finding::kFound,
                  kind == FlowKind::kBlocks
                      ? "the flow joins no coordinate with another: 2 x 2 numbers for each"
                  : kind == FlowKind::kMatrix
                      ? fmt::format("the flow is a matrix of {} x {}", 2 * e.q()->size(), 2 * e.q()->size())
                      : "the flow is a jump in each step"});
    std::string impulse;
    switch (record.impulse) {
      case Impulse::Plain: {
        const std::string why = no_mollifier(evolve);
        impulse = "plain impulse" + (why.empty() ? "" : ": " + why);
        break;
      }
      case Impulse::Mollified: impulse = "mollified impulse, A = sinc(h Omega)"; break;
      case Impulse::Auto:
        impulse = kind == FlowKind::kJump
                      ? "mollified impulse, A = sinc(h Omega): the largest Omega is not looked for"
                      : "mollified impulse, A = sinc(h Omega), where h Omega may exceed 1; else plain";
    }
    to.push_back({Finding::kFound, impulse});
  }
  return to;
}

Records find_split_resonances(const Node* evolve) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  const UOp energy = energy_of_flow(evolve, true);
  if (!energy || !energy_of_flow(evolve, false)) return {};
  const auto none = [](const std::string& why) {
    return Records{{Finding::kSpectrum, "resonances of the flow are not checked: " + why}};
  };
  const std::optional<Value<double>> dt = record.dt_in_energy ? std::nullopt : known_value(e.dt());
  if (!dt) return none("dt is not known here");
  const KnownValues values(e.captured());
  const UOp forces = force_lambda(energy.get(), e.q(), e.p());
  const FastModes modes = fast_modes(forces.get(), nullptr, e.q()->size(), values);
  if (!modes.refused.empty()) return none(modes.refused);
  const double h = std::fabs(dt->real[0]);
  // The step, and where it is composed the steps that it is composed of.
  const SplitStep step(e.row());
  std::vector<double> parts{1};
  for (const double c : step.kicks)
    if (step.kicks.size() > 1 && std::ranges::find(parts, std::fabs(c)) == parts.end())
      parts.push_back(std::fabs(c));
  double largest = 0;
  for (const double square : modes.omega_square)
    if (square > 0) largest = std::max(largest, std::sqrt(square));
  const double reach = h * longest_part(step) * std::sqrt(modes.row_sum);
  const bool mollified =
      record.impulse == Impulse::Mollified || (record.impulse == Impulse::Auto && reach > 1);
  Records found{{Finding::kSpectrum,
                 fmt::format("largest h Omega of the flow {:.4g}: the impulse is {}", h * largest,
                             mollified ? "mollified" : "plain"),
                 "",
                 {{"h_omega", h * largest}, {"mollified", std::int64_t{mollified}}}}};
  for (const double part : parts) {
    double worst = kNear, at = 0;
    std::int64_t near = 0;
    for (const double square : modes.omega_square) {
      if (square <= 0) continue;
      const double omega = std::sqrt(square), angle = h * part * omega,
                   turns = std::round(angle / std::numbers::pi),
                   distance = std::fabs(angle - turns * std::numbers::pi);
      if (turns < 1 || distance > kNear) continue;
      ++near;
      if (distance > worst) continue;
      worst = distance;
      at = omega;
    }
    if (near == 0) continue;
    // A mollified kick leaves alone what its own step turns by k pi; of a composition that is the composed step.
    const bool quiet = mollified && (step.kicks.size() == 1 || part != 1);
    found.push_back(
        {quiet ? Finding::kSpectrum : Finding::kWarns,
         fmt::format("resonance: {} of the flow near {}h Omega = k pi, Omega {:.6g} is {:.2g} off{}",
                     near == 1 ? "a mode" : fmt::format("{} modes", near),
                     part == 1 ? "" : fmt::format("{:.4g} ", part), at, worst,
                     quiet       ? ", where the mollified impulse does not kick it"
                     : mollified ? ": the kicks of the composed steps may pump it"
                                 : ": plain kicks pump it"),
         "",
         {{"near_modes", near}}});
  }
  return found;
}

}  // namespace tinyphys
