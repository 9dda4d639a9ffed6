#include "passes/resonances.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "analysis/degree.hpp"
#include "derive/lower_evolve.hpp"
#include "passes/fast_modes.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

// |h Omega - k pi| that is near.
constexpr double kNear = 0.1;

std::vector<StateGroup> state_groups(const Node* energy) {
  std::vector<StateGroup> g(static_cast<std::size_t>(energy->arg(0)), StateGroup::kNone);
  g[0] = StateGroup::kQ;
  g[1] = StateGroup::kP;
  return g;
}

UOp term_of(const Node* energy, std::size_t i) {
  const UOp term = UOp::share(energy->src(i));
  return with_outputs(energy, std::span(&term, 1));
}

std::string quoted(const Labels& labels, std::size_t i) {
  return i < labels.names.size() ? "\"" + labels.names[i] + "\"" : "term " + std::to_string(i + 1);
}

std::string times_text(std::int64_t n) { return n == 1 ? "once" : with_commas(n) + " times"; }

}  // namespace

std::string level_text(const EvolveRecord& record, const Labels& labels, std::int64_t steps) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < record.levels.size(); ++i)
    if (record.levels[i] == steps) names.push_back(quoted(labels, i));
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return text;
}

void check_levels(const Node* evolve, const char* file, unsigned line) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  const Labels labels = labels_of(evolve);
  const auto groups = state_groups(e.energy());
  const std::vector<std::string> names{"q", "p"};
  const std::vector<std::int64_t> steps = record.level_steps();
  const auto fail = [&](const std::string& why, const Node* at) {
    throw Error("evolve", with_own_places(why, labels, at->op), file, line);
  };
  for (std::size_t i = 0; i < record.levels.size(); ++i) {
    const UOp term = term_of(e.energy(), i);
    const Node* node = term->src(0);
    const std::string place = location_text(node).empty() ? "" : " at " + location_text(node);
    const Degree degree = bound_degree(term.get(), groups, 2, names).worst;
    if (record.levels[i] == 0 && degree.q > 0)
      fail("levels name no steps for the term " + quoted(labels, i) + place +
               ", which depends on q: give it a level (a term of p alone needs none)",
           node);
    if (record.levels[i] != 0 && degree.q == 0 && degree.p > 0 && record.levels[i] != steps.back())
      fail("the term " + quoted(labels, i) + place + " depends on p alone and is given " +
               std::to_string(record.levels[i]) + (record.levels[i] == 1 ? " step" : " steps") +
               ": the drift is taken at the innermost level, of " + std::to_string(steps.back()) +
               "; name it there or leave it out of levels",
           node);
  }
}

void report_levels(const EvolveRecord& record, const Labels& labels, Records& to) {
  const std::vector<std::int64_t> steps = record.level_steps();
  std::string text = fmt::format("RESPA, {} level{}: kicks by ", steps.size(), steps.size() == 1 ? "" : "s");
  for (std::size_t l = 0; l < steps.size(); ++l)
    text += fmt::format("{}{} {}", l == 0 ? "" : ", by ", level_text(record, labels, steps[l]),
                        times_text(steps[l]));
  text += fmt::format(" in each dt; drifts {}", times_text(steps.empty() ? 1 : steps.back()));
  Record r{Finding::kFound, std::move(text)};
  for (std::size_t i = 0; i < record.levels.size(); ++i)
    r.numbers.emplace_back(i < labels.names.size() ? labels.names[i] : "term " + std::to_string(i + 1),
                           record.levels[i]);
  to.push_back(std::move(r));
}

Records find_resonances(const Node* evolve, const Labels& labels) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  const std::vector<std::int64_t> steps = record.level_steps();
  if (steps.size() < 2) return {};
  const auto groups = state_groups(e.energy());
  Records found;
  const std::optional<Value<double>> dt = record.dt_in_energy ? std::nullopt : known_value(e.dt());
  const KnownValues values(e.captured());
  const UOp forces = force_lambda(e.energy(), e.q(), e.p(), record);
  std::vector<char> quadratic;  // each level
  std::string refused;
  if (!dt) refused = "dt is not known here";
  Degree drift;
  for (std::size_t i = 0; i < record.levels.size(); ++i)
    drift.p = std::max(drift.p, bound_degree(term_of(e.energy(), i).get(), groups, 2).worst.p);
  if (drift.p > 2) refused = "the kinetic energy is not quadratic";
  for (const std::int64_t n : steps) {
    bool two = true;
    for (std::size_t i = 0; i < record.levels.size(); ++i)
      if (record.levels[i] == n) {
        const DegreeBound bound = bound_degree(term_of(e.energy(), i).get(), groups, 2);
        two = two && bound.worst.q <= 2;
      }
    quadratic.push_back(two);
  }
  for (std::size_t l = 0; l + 1 < steps.size(); ++l) {
    const std::string fast = level_text(record, labels, steps[l + 1]);
    std::string why = refused;
    for (std::size_t k = l + 1; k < steps.size() && why.empty(); ++k)
      if (!quadratic[k]) why = level_text(record, labels, steps[k]) + " is not of degree 2";
    FastModes modes;
    if (why.empty()) {
      UOp sum = forces.src(l + 1);
      for (std::size_t k = l + 2; k < steps.size(); ++k) sum = add(sum, forces.src(k));
      const std::vector<UOp> outputs{sum, forces.src(steps.size())};
      const UOp own = forces.src(l);
      const UOp other = with_outputs(forces.get(), std::span(&own, 1));
      modes = fast_modes(with_outputs(forces.get(), outputs).get(), quadratic[l] ? other.get() : nullptr,
                         e.q()->size(), values);
      why = modes.refused;
    }
    if (!why.empty()) {
      found.push_back({Finding::kSpectrum, "resonances of " + fast + " are not checked: " + why});
      continue;
    }
    const double h = std::fabs(dt->real[0]) / static_cast<double>(steps[l]);
    const double inner = std::fabs(dt->real[0]) / static_cast<double>(steps.back());
    double largest = 0, worst_distance = kNear, worst_omega = 0, worst_trace = 1, grown = 0;
    std::int64_t near = 0, unstable = 0, beyond = 0;
    for (std::size_t j = 0; j < modes.omega_square.size(); ++j) {
      if (modes.omega_square[j] <= 0) continue;
      const double x = inner * std::sqrt(modes.omega_square[j]) / 2;
      if (x >= 1) {
        ++beyond;
        largest = std::max(largest, std::sqrt(modes.omega_square[j]));
        continue;
      }
      const double omega = 2 * std::asin(x) / inner;
      largest = std::max(largest, omega);
      const double turns = std::round(h * omega / std::numbers::pi);
      const double distance = std::fabs(h * omega - turns * std::numbers::pi);
      if (turns >= 1 && distance <= kNear) {
        ++near;
        if (distance <= worst_distance) {
          worst_distance = distance;
          worst_omega = omega;
        }
      }
      if (modes.other.empty()) continue;
      const double trace =
          std::fabs(std::cos(omega * h) - modes.other[j] * h / (2 * omega) * std::sin(omega * h));
      // What rounding makes of a term that does not pull at all is no resonance.
      if (trace <= 1 + 1e-12 || modes.other[j] <= 0) continue;
      ++unstable;
      if (trace > worst_trace) {
        worst_trace = trace;
        grown = omega;
      }
    }
    Record spectrum{
        Finding::kSpectrum,
        fmt::format("{}: largest Omega {:.4g}, h Omega {:.4g} for the step {:.4g} of {} (half a "
                    "period is at {:.4g})",
                    fast, largest, h * largest, h, level_text(record, labels, steps[l]), std::numbers::pi)};
    spectrum.numbers = {{"largest_omega", largest}, {"h_omega", h * largest}};
    found.push_back(std::move(spectrum));
    if (beyond > 0)
      found.push_back({Finding::kWarns,
                       fmt::format("{} of {} with Omega >= 2 / {:.4g}: the innermost step is unstable",
                                   beyond == 1 ? "a mode" : with_commas(beyond) + " modes", fast, inner),
                       "",
                       {{"unstable_inner_modes", beyond}}});
    if (unstable > 0)
      found.push_back(
          {Finding::kWarns,
           fmt::format("resonance: the step {:.4g} of {} meets {} of {}, at Omega {:.6g} half the trace of "
                       "a step is {:.6g}, beyond 1: the motion grows",
                       h, level_text(record, labels, steps[l]),
                       unstable == 1 ? "a mode" : with_commas(unstable) + " modes", fast, grown, worst_trace),
           "",
           {{"resonant_modes", unstable}, {"half_trace", worst_trace}}});
    else if (near > 0)
      found.push_back(
          {Finding::kWarns,
           fmt::format("resonance: the step {:.4g} of {} is near a multiple of half a period of {} of {}, "
                       "Omega {:.6g}: h Omega is {:.2g} from k pi",
                       h, level_text(record, labels, steps[l]),
                       near == 1 ? "a mode" : with_commas(near) + " modes", fast, worst_omega,
                       worst_distance),
           "",
           {{"near_modes", near}}});
  }
  return found;
}

}  // namespace tinyphys
