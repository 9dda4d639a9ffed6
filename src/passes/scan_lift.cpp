#include "passes/scan_lift.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "derive/gradient_rules.hpp"
#include "derive/scan_tape.hpp"
#include "passes/proof_cache.hpp"
#include "passes/propagate_parts.hpp"
#include "passes/way_back_report.hpp"
#include "rewrite/rewrite.hpp"
#include "support/env.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

std::vector<StateGroup> groups_of(const Node* step, std::size_t n_carry) {
  std::vector<StateGroup> g(static_cast<std::size_t>(step->arg(0)), StateGroup::kNone);
  std::fill_n(g.begin() + 1, n_carry, StateGroup::kQ);
  return g;
}

std::vector<std::string> names_of(const ScanView& s) {
  std::vector<std::string> names{"i"};
  for (std::size_t c = 0; c < s.n_carry; ++c) names.push_back(s.n_carry == 1 ? "z" : "z" + std::to_string(c));
  for (std::size_t i = 0; i < s.n_xs + static_cast<std::size_t>(s.n_captured); ++i)
    names.push_back("x" + std::to_string(i));
  return names;
}

// Why a loop of this form is no power of one map, whatever its step computes.
std::string refusal(const ScanView& s, const std::vector<std::string>& names, Op& culprit) {
  if (s.n_carry == 0) return "it carries nothing from step to step";
  if (s.has_until) return "it ends on a condition (.until)";
  if (s.n_xs > 0) return "its steps read .xs";
  if (s.n_out > 0) return "it stacks an output of each step";
  for (std::size_t c = 0; c < s.n_carry; ++c)
    if (const DType d = s.carry()[c]->dtype; d != DType::kFloat64)
      return fmt::format(
          "carry {} is {}{}", c, name(d),
          is_float(d) ? ": jumps are made in float64" : ": integers are never lifted in floating point");
  for (Node* n : toposort(s.body()->src()))
    for (Node* x : n->src())
      if (x->op == Op::PARAM && x->arg(0) == 0) {
        culprit = n->op;
        return "the step depends on its number: " + located_infix(n, names);
      }
  return {};
}

// The body as recognition reads it, over [index, carry..., captured..., taken out...].
struct ReadStep {
  UOp step;
  // State-independent subgraphs that round, over the body's PARAMs: to the jump they are numbers.
  std::vector<UOp> taken_out;
};
ReadStep read_step(const ScanView& s) {
  Independent split = take_out_independent(s.body(), groups_of(s.body(), s.n_carry));
  return {with_outputs(split.body.get(), simplify_for_recognition(outputs_of(split.body.get()))),
          std::move(split.values)};
}

void prove(const ScanView& s, std::vector<std::string> names, StepProof& proof) {
  names[0] = "the carry";  // of which degrees are told; nothing reads the index here
  const ReadStep read = read_step(s);
  const auto own = names;
  for (const UOp& v : read.taken_out) names.push_back("(" + to_infix(v.get(), 30, own) + ")");
  const auto groups = groups_of(read.step.get(), s.n_carry);
  const DegreeBound bound = bound_degree(read.step.get(), groups, 1, names);
  proof.bound = bound.worst.joint;
  if (bound.culprit) proof.culprit = bound.culprit->op;
  if (bound.worst.finite() && proof.bound <= 1) {
    proof.affine = true;
    return;
  }
  proof.refused = bound.reason;
  if (!bound.worst.finite()) return;
  // Numbers of the step are arguments of a plan: what holds for all of them decides, not what they are.
  proof.identity = test_degree(read.step.get(), groups, bound, 1, {});
  proof.affine = proof.identity.holds;
  if (!proof.affine) proof.refused = proof.identity.reason;
}

}  // namespace

std::shared_ptr<const StepProof> prove_step(const Node* scan) {
  static auto* cache = new ProofCache<StepProof>;  // outlives static handles
  const ScanView s(scan);
  const auto names = names_of(s);
  auto proof = std::make_shared<StepProof>();
  proof->refused = refusal(s, names, proof->culprit);
  if (!proof->refused.empty()) return proof;
  // The proof is of the body and its layout.
  const UOp key = make(Op::SINK, {UOp::share(s.body())}, scan->arg());
  if (auto known = cache->find(key)) return known;
  prove(s, names, *proof);
  cache->keep(key, proof);
  return proof;
}

UOp lift_scan(const Node* scan) {
  const ScanView s(scan);
  if (s.method == Method::Loop || s.reversible == Reversible::Exact) return {};
  if (!prove_step(scan)->affine) return {};
  const ReadStep read = read_step(s);
  LocationScope at(first_location(scan));
  std::vector<UOp> src{UOp(), UOp(), UOp::share(s.steps())};
  for (Node* c : s.carry()) src.push_back(UOp::share(c));
  for (Node* c : s.captured()) src.push_back(UOp::share(c));
  const std::size_t n_loop_params = src.size() - 2;
  // What was taken out of the step is computed by the runtime, once, and comes in as data.
  std::vector<UOp> arguments{constant_int(0)};
  arguments.insert(arguments.end(), src.begin() + 3, src.end());
  for (const UOp& v : read.taken_out) src.push_back(over(v, arguments));

  const std::vector<UOp> params = loop_params(std::span(src).subspan(2));
  std::vector<UOp> inner{UOp::share(s.body())};
  inner.insert(inner.end(), params.begin(), params.begin() + static_cast<std::ptrdiff_t>(n_loop_params));
  const UOp loop = make(Op::SCAN, std::span<const UOp>(inner), scan->arg());
  std::vector<UOp> outputs;
  for (std::size_t c = 0; c < s.n_carry; ++c) outputs.push_back(get(loop, static_cast<std::int64_t>(c)));
  src[0] = lambda_of(outputs, params.size());

  std::vector<UOp> step_at{constant_int(0)};
  for (std::size_t i = 3; i < src.size(); ++i)
    step_at.push_back(param(static_cast<std::int64_t>(i) - 3, src[i]->dtype, src[i]->shape()));
  src[1] = lambda_of(tinyphys::apply(read.step.get(), step_at), src.size() - 3);
  return make(Op::PROPAGATE, std::span<const UOp>(src),
              std::initializer_list<std::int64_t>{static_cast<std::int64_t>(PropagateKind::kAffine),
                                                  static_cast<std::int64_t>(s.n_carry)});
}

namespace {

// The cotangents of inputs of the SCAN (numbers from 0: carry..., captured...) that the step captures, by sums over the steps;
// nothing where there are too many.
std::vector<UOp> sums_of(const UOp& scan, const std::vector<std::size_t>& wanted, std::vector<UOp> cotangents,
                         std::int64_t rows) {
  const ScanView s(scan.get());
  const auto n_captured = static_cast<std::size_t>(s.n_captured);
  GradientBySums by;
  by.propagate = lift_scan(scan.get());
  by.cotangents = std::move(cotangents);
  by.rows = rows;
  for (const std::size_t i : wanted) by.by.push_back(i - s.n_carry);
  by.map = [&](std::span<const UOp> at, std::span<const UOp> captured) {
    std::vector<UOp> arguments{constant_int(0)};
    arguments.insert(arguments.end(), at.begin(), at.end());
    const auto own = captured.first(n_captured);
    arguments.insert(arguments.end(), own.begin(), own.end());
    return tinyphys::apply(s.body(), arguments);
  };
  by.tape = [&](const UOp& steps, std::span<const UOp> at, std::span<const UOp> captured,
                std::span<const UOp> ends) {
    std::vector<UOp> src{UOp::share(s.body()), steps};
    src.insert(src.end(), at.begin(), at.end());
    const auto own = captured.first(n_captured);
    src.insert(src.end(), own.begin(), own.end());
    const UOp again = make(Op::SCAN, std::span<const UOp>(src), scan->arg());
    const UOp back = vjp_node(again, {ends.begin(), ends.end()});
    std::vector<UOp> outputs;
    for (const std::size_t i : wanted) outputs.push_back(get(back, static_cast<std::int64_t>(i)));
    return outputs;
  };
  return by_sums(by);
}

}  // namespace

std::vector<UOp> lift_scan_gradient(const Node* scan_vjp, const std::vector<bool>& wanted, bool sums) {
  const VjpCall call(const_cast<Node*>(scan_vjp));
  const UOp scan = call.primal(call.inputs);
  const ScanView s(scan.get());
  std::vector<std::size_t> others;
  std::vector<UOp> out(call.inputs.size()), carries;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (!wanted[i]) continue;
    if (i < s.n_carry)
      carries.push_back(get(UOp::share(const_cast<Node*>(scan_vjp)), static_cast<std::int64_t>(i)));
    else if (!is_float(call.inputs[i]->dtype))
      out[i] = zeros_like(call.inputs[i]);
    else
      others.push_back(i);
  }
  if (others.empty() || s.method == Method::Loop || s.reversible == Reversible::Exact ||
      !prove_step(scan.get())->affine)
    return {};
  LocationScope at(first_location(scan_vjp));
  const std::int64_t rows = size_of_member(s.body(), 1, s.carry());
  const bool forward = others.size() <= kMostNumbers && std::ranges::all_of(others, [&](std::size_t i) {
                         return call.inputs[i]->size() == 1;
                       });
  std::vector<UOp> of_others;
  if (sums && (!forward || !tangent_is_powered(rows)))
    of_others = sums_of(scan, others, call.cotangents, rows);
  if (of_others.empty()) {
    if (!forward) return {};
    for (const std::size_t i : others) of_others.push_back(by_number(call, i));
  }
  for (std::size_t k = 0; k < others.size(); ++k) out[others[k]] = of_others[k];
  // By the carry alone the way back reads no state.
  carries = lower_vjps(carries);
  for (std::size_t i = 0, k = 0; i < s.n_carry; ++i)
    if (wanted[i]) out[i] = carries[k++];
  return out;
}

std::string tape_text(std::optional<std::int64_t> steps, std::size_t bytes_a_step) {
  const double bytes = static_cast<double>(steps.value_or(1)) * static_cast<double>(bytes_a_step);
  const char* each = steps ? "" : " a step";
  if (bytes < 1e6) return fmt::format(", over a tape of its states, {:.3g} kB{}", bytes * 1e-3, each);
  return fmt::format(", over a tape of its states, {:.3g} {}{}", bytes < 1e9 ? bytes * 1e-6 : bytes * 1e-9,
                     bytes < 1e9 ? "MB" : "GB", each);
}

ScanNotes::ScanNotes(Node* node, std::shared_ptr<const Notes> run, std::string where, Labels labels)
    : where_(std::move(where)),
      labels_(std::move(labels)),
      run_(std::move(run)),
      back_(node->op == Op::SCAN_VJP) {
  const UOp scan = primal_of(node);
  const ScanView s(scan.get());
  proof_ = labels_.why_loop.empty() ? prove_step(scan.get()) : std::make_shared<const StepProof>();
  std::string carry;
  for (Node* c : s.carry()) {
    carry += (carry.empty() ? "" : ", ") + std::string(name(c->dtype)) + shape_text(c->shape());
    tape_bytes_ += bytes_of(c->dtype, c->shape());
  }
  if (is_const(s.steps())) steps_ = const_int(s.steps());
  asked_for_loop_ = s.method == Method::Loop;
  exact_ = s.reversible == Reversible::Exact;
  if (back_ && steps_ && (!proof_->affine || exact_)) way_ = choose_way_back(open_scan(scan.get()));
  // The front end's name of a loop that it made.
  const std::string made = labels_.names.empty() ? "" : labels_.names[0] + ", ";
  if (!labels_.folded.empty() && steps_) {
    what_ = fmt::format("{}folded {} passes of {} into a scan, carry {}",
                        back_ ? "the gradient through " : "", with_commas(*steps_), labels_.folded, carry);
    return;
  }
  what_ = fmt::format("{}{}{}, carry {}", back_ ? "the gradient through " : "", made,
                      steps_ ? with_commas(*steps_) + " steps" : "steps given as a tensor", carry);
}

void ScanNotes::report(Records& to) const {
  to.push_back({Finding::kScan, what_, where_});
  if (!labels_.behind.empty())
    to.push_back({Finding::kRefused, "one loop with the passes before: " + labels_.behind});
  to.insert(to.end(), labels_.told.begin(), labels_.told.end());
  if (run_ && !labels_.why_loop.empty()) run_->report(to);
  const auto loop = [&](const std::string& why) {
    to.push_back({Finding::kRefused, "jump: " + why});
    std::string way;
    if (way_)
      way = ", " + way_back_text(*way_);
    else if (back_ && !proof_->affine)
      way = tape_text(steps_, tape_bytes_);
    to.push_back({Finding::kChose, std::string("the loop") + (exact_ ? " in fixed point" : "") +
                                       (back_ ? ", backward" : "") + way});
    if (way_) report_way_back(*way_, run_.get(), to);
  };
  if (!labels_.why_loop.empty()) return loop(labels_.why_loop);
  if (exact_) return loop("Reversible::Exact asks for another loop, in fixed point");
  if (!proof_->affine) return loop(with_own_places(proof_->refused, labels_, proof_->culprit));
  Record proved{Finding::kProved,
                fmt::format("the step is affine in its carry: degree bound {}", proof_->bound)};
  if (proof_->identity.primes > 0) {
    const double error = std::max(proof_->identity.error_probability, 1e-300);
    proved.text +=
        fmt::format(", lowered to 1 by the identity test in F_p for {} random primes p, error < {:.0e}",
                    proof_->identity.primes, error);
    proved.numbers = {{"primes", static_cast<std::int64_t>(proof_->identity.primes)},
                      {"error_probability", error}};
  }
  to.push_back(std::move(proved));
  if (asked_for_loop_) return loop("Method::Loop asks for the loop");
  if (!env::optimize()) return loop("TINYPHYS_OPT=0");
  if (run_) return run_->report(to);
  to.push_back(
      {Finding::kOffers, "powered step matrix (class exact); jump or loop is decided by cost when it runs"});
}

}  // namespace tinyphys
