#include "passes/evolve_report.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "analysis/terms.hpp"
#include "derive/fixed_point.hpp"
#include "derive/gradient_rules.hpp"
#include "derive/lower_evolve.hpp"
#include "passes/fast_level.hpp"
#include "passes/proposals.hpp"
#include "passes/resonances.hpp"
#include "passes/scan_lift.hpp"
#include "passes/split.hpp"
#include "passes/way_back_report.hpp"
#include "support/env.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

// Terms listed one by one.
constexpr std::size_t kListedTerms = 6;

void report_terms(const UOp& energy, const Labels& labels, std::span<const std::string> names, Records& to) {
  std::vector<StateGroup> groups(static_cast<std::size_t>(energy->arg(0)), StateGroup::kNone);
  groups[0] = StateGroup::kQ;
  groups[1] = StateGroup::kP;
  std::vector<NamedOutput> outputs;
  for (std::size_t i = 0; i < energy->n_src; ++i)
    outputs.push_back({i < labels.names.size() ? labels.names[i] : "", energy.src(i)});
  const Terms terms = find_terms(outputs, groups, names);
  for (std::size_t i = 0; i < terms.list.size(); ++i) {
    if (i == kListedTerms) {
      to.push_back({Finding::kTerms, fmt::format("and {} more", terms.list.size() - i)});
      break;
    }
    const Term& t = terms.list[i];
    Record r{
        Finding::kTerms,
        (t.name.empty() ? "" : t.name + ": ") + t.text + ", degree " + degree_text(t.degree, names.first(2)),
        with_own_places(" at " + t.where, labels, t.node->op).substr(4)};
    if (t.degree.finite()) r.numbers = {{"degree", static_cast<std::int64_t>(t.degree.joint)}};
    to.push_back(std::move(r));
  }
  if (!terms.stopped.empty()) to.push_back({Finding::kTerms, terms.stopped});
}

}  // namespace

EvolveNotes::EvolveNotes(Node* node, std::shared_ptr<const Notes> run, std::string where, Labels labels)
    : where_(std::move(where)),
      labels_(std::move(labels)),
      run_(std::move(run)),
      back_(node->op == Op::EVOLVE_VJP) {
  const UOp evolve = primal_of(node);
  const EvolveView e(evolve.get());
  tape_bytes_ = bytes_of(e.q()->dtype, e.q()->shape()) + bytes_of(e.p()->dtype, e.p()->shape());
  record_ = e.record();
  if (is_const(e.steps())) steps_ = const_int(e.steps());
  if (is_const(e.dt()) && !record_.dt_in_energy) dt_ = const_double(e.dt());
  for (std::int64_t a = 0; a < record_.batch_axes; ++a)
    members_ = std::max<std::int64_t>(members_, 1) * e.q()->shape()[static_cast<std::size_t>(a)];
  state_ = std::string(tinyphys::name(e.q()->dtype)) + shape_text(e.q()->shape());
  names_ = {"q", "p"};
  for (Node* c : e.captured()) {
    const bool time = record_.timed && names_.size() == 2;
    names_.push_back(time ? "t" : is_const(c) ? to_infix(c) : "x" + std::to_string(names_.size()));
  }
  symmetric_ = e.row().symmetric();
  energy_ = UOp::share(e.energy());
  if (!record_.flows.empty()) split_ = report_split(evolve.get(), labels_);
  // In the body of a loop: at the numbers that it is given.
  if (labels_.found.empty() && !record_.flows.empty()) labels_.found = find_split_resonances(evolve.get());
  if (labels_.found.empty() && !record_.levels.empty())
    labels_.found = find_resonances(evolve.get(), labels_);
  if (labels_.found.empty() && !back_ && record_.method == Method::Auto && record_.levels.empty())
    labels_.found = find_proposals(evolve.get(), labels_);
  // A gradient goes through the steps.
  if (!back_ && record_.level_steps().size() > 1) {
    FastLevel fast = find_fast_level(evolve.get());
    if (fast.refused.empty() && !env::optimize()) fast.refused = "TINYPHYS_OPT=0";
    report_fast_level(fast, record_, labels_, fast_);
  }
  proof_ = prove_energy(evolve.get());
  if (!back_) conserved_ = prove_conserved(evolve.get());
  if (back_ && steps_ && e.row().has_loop() && reads_states()) {
    const UOp q = lower_evolve(evolve.get())[0];
    const UOp scan = q->op == Op::CHECK ? q.src(0).src(0) : q.src(0);
    if (scan->op == Op::SCAN) way_ = choose_way_back(open_scan(scan.get()));
  }
}

// The way back of a quadratic H reads none.
bool EvolveNotes::reads_states() const {
  return record_.timed || !proof_->quadratic || record_.reversible == Reversible::Exact;
}

void EvolveNotes::report(Records& to) const {
  const IntegratorRow& row = row_of(record_.integrator);
  std::string which(row.name);
  if (record_.method == Method::Split)
    which = record_.integrator == Integrator::LeapfrogKDK ? "Split" : "Split composed as " + which;
  std::string tolerance = record_.tolerance_text();
  if (!tolerance.empty()) tolerance += ",";
  Record evolve{Finding::kEvolve,
                fmt::format("{}{}, {}, dt {},{} q and p {}", back_ ? "the gradient through " : "",
                            steps_ ? with_commas(*steps_) + " steps" : "steps given as a tensor", which,
                            dt_                    ? fmt::format("{}", *dt_)
                            : record_.dt_in_energy ? "a factor of H"
                                                   : "given as a tensor",
                            tolerance, state_),
                where_};
  evolve.numbers = {{"integrator", which}};
  if (steps_) evolve.numbers.emplace_back("steps", *steps_);
  if (dt_) evolve.numbers.emplace_back("dt", *dt_);
  if (record_.tolerance != 0) evolve.numbers.emplace_back("tolerance", record_.tolerance);
  to.push_back(std::move(evolve));
  if (members_ > 0)
    to.push_back(
        {Finding::kProved,
         fmt::format("{} members of an ensemble, none joined with another: their axes are followed through H",
                     with_commas(members_)),
         "",
         {{"members", members_}}});
  report_terms(energy_, labels_, names_, to);
  if (conserved_) report_conserved(*conserved_, to);
  std::string way;
  if (way_ && way_->kind != WayBack::Kind::kTape)
    way = ", " + way_back_text(*way_);
  else if (back_ && reads_states())
    way = tape_text(steps_, tape_bytes_);
  to.insert(to.end(), split_.begin(), split_.end());
  if (std::ranges::find(record_.flows, 0) != record_.flows.end()) {
    to.push_back(
        {Finding::kChose,
         fmt::format(
             "the loop of split steps{}{} (class method: order {}, symplectic, symmetric; exact where "
             "the kicks are 0)",
             back_ ? ", backward" : "", way, row.order)});
    to.insert(to.end(), labels_.found.begin(), labels_.found.end());
    if (way_) report_way_back(*way_, run_.get(), to);
    return;
  }
  if (!record_.flows.empty()) {
    if (run_) return run_->report(to);
    to.push_back({Finding::kOffers, "the exact flow over all steps (class exact)"});
    return;
  }
  if (!record_.levels.empty()) {
    report_levels(record_, labels_, to);
    to.insert(to.end(), fast_.begin(), fast_.end());
    to.push_back({Finding::kChose,
                  fmt::format("the loop of RESPA steps{}{} (class method: order 2, symplectic, symmetric)",
                              back_ ? ", backward" : "", way)});
    to.insert(to.end(), labels_.found.begin(), labels_.found.end());
    if (way_) report_way_back(*way_, run_.get(), to);
    return;
  }

  const bool exact = record_.reversible == Reversible::Exact;
  const auto loop = [&](const std::string& why) {
    to.push_back({Finding::kRefused, "jump: " + why});
    to.push_back(
        {Finding::kChose, fmt::format("the loop of {} steps{}{}{}", row.name, exact ? " in fixed point" : "",
                                      back_ ? ", backward" : "", way)});
    if (exact && !back_)
      to.push_back({Finding::kError,
                    fmt::format("each increment of q is rounded to {:.1e}, of p to {:.1e}",
                                fixed_unit(record_.range_q), fixed_unit(record_.range_p)),
                    "",
                    {{"unit_q", fixed_unit(record_.range_q)}, {"unit_p", fixed_unit(record_.range_p)}}});
    if (record_.method == Method::Auto && !back_)
      to.insert(to.end(), labels_.found.begin(), labels_.found.end());
    if (way_) report_way_back(*way_, run_.get(), to);
  };
  if (exact) return loop("Reversible::Exact asks for another loop, in fixed point");
  if (record_.timed) return loop("H depends on the time");
  if (!proof_->quadratic) {
    const Node* culprit = proof_->bound.culprit;
    return loop(with_own_places(proof_->refused, labels_, culprit ? culprit->op : Op::GET));
  }
  Record proved{Finding::kProved, "H is quadratic in (q, p): "};
  const bool bound_decides = proof_->bound.worst.joint <= 2;
  proved.text += fmt::format("degree bound {}", proof_->bound.worst.joint);
  if (!bound_decides) proved.text += ", lowered to 2";
  if (proof_->identity.primes > 0) {
    const double error = std::max(proof_->identity.error_probability, 1e-300);
    proved.text += fmt::format("{} identity test in F_p for {} random primes p, error < {:.0e}",
                               bound_decides ? ";" : " by the", proof_->identity.primes, error);
    proved.numbers = {{"primes", static_cast<std::int64_t>(proof_->identity.primes)},
                      {"error_probability", error}};
  }
  to.push_back(std::move(proved));
  if (row.has_loop() && record_.method == Method::Loop) return loop("Method::Loop asks for the loop");
  if (row.has_loop() && !env::optimize()) return loop("TINYPHYS_OPT=0");
  if (run_) return run_->report(to);
  if (back_) {
    to.push_back(
        {Finding::kFound,
         symmetric_
             ? "the gradient by the state is an evolution by -dt, by a few numbers "
               "(dt, of H) it goes forward with the tangent; by arrays of H it is sums over the steps, "
               "which need no tape"
             : "the step is affine, and so is the way back: it reads no state"});
    to.push_back(
        {Finding::kOffers, fmt::format("{} (class exact); jump or loop is decided by cost when it runs",
                                       symmetric_ && proof_->separable.separable ? "normal-mode jump"
                                                                                 : "powered step matrix")});
    return;
  }
  const bool separable = proof_->separable.separable;
  std::string kind = separable ? "separable, H = T(p) + V(q)" : "q and p coupled";
  if (separable && proof_->separable.error_probability > 0)
    kind += fmt::format(" by the identity test, error < {:.0e}",
                        std::max(proof_->separable.error_probability, 1e-300));
  to.push_back({Finding::kFound, kind});
  to.push_back(
      {Finding::kOffers, fmt::format("{} (class exact); jump or loop is decided by cost when it runs",
                                     separable ? "normal-mode jump" : "powered step matrix")});
}

}  // namespace tinyphys
