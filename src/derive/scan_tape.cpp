#include "derive/scan_tape.hpp"

#include <algorithm>

#include "derive/gradient.hpp"
#include "derive/gradient_rules.hpp"
#include "derive/lower_evolve.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

void append(std::vector<UOp>& to, std::span<const UOp> from) {
  to.insert(to.end(), from.begin(), from.end());
}
void append(std::vector<UOp>& to, std::span<Node* const> from) {
  for (Node* n : from) to.push_back(UOp::share(n));
}

bool is_vjp(const Node* n) { return n->op == Op::SCAN_VJP || n->op == Op::EVOLVE_VJP; }

// Whether a body, or a body inside it, holds a derivative call.
bool holds_vjp(Node* lambda) {
  std::vector<Node*> pending{lambda};
  NodeMap<char> seen;
  while (!pending.empty()) {
    Node* body = pending.back();
    pending.pop_back();
    for (Node* n : toposort(std::span<Node* const>(&body, 1))) {
      if (is_vjp(n)) return true;
      if (n->op == Op::LAMBDA && n != body && seen.insert(n, 1)) pending.push_back(n);
    }
  }
  return false;
}

// The same SCAN or EVOLVE with a body that holds no derivative call. Numbers that the lowering brings in are
// captured, as in any body.
UOp with_lowered_body(const UOp& whole, const LiftVjp& lift) {
  if (whole->op == Op::SCAN) {
    ScanParts s = open_scan(whole.get());
    std::vector<UOp> outputs = s.next;
    append(outputs, s.outs);
    if (s.until) outputs.push_back(s.until);
    outputs = lower_vjps(outputs, lift);
    if (s.until) s.until = outputs.back();
    const auto outs = outputs.begin() + static_cast<std::ptrdiff_t>(s.next.size());
    std::copy(outs, outs + static_cast<std::ptrdiff_t>(s.outs.size()), s.outs.begin());
    std::copy(outputs.begin(), outs, s.next.begin());
    return make_scan(s);
  }
  Node* energy = whole->src(0);
  std::vector<UOp> params(static_cast<std::size_t>(energy->arg(0))), extra, src;
  for (std::size_t i = 0; i < params.size(); ++i) params[i] = symbol_like(whole->src(i + 3));
  src.push_back(close_lambda(lower_vjps(tinyphys::apply(energy, params), lift), params, extra));
  append(src, whole->src().subspan(1));
  append(src, extra);
  return make(Op::EVOLVE, std::span<const UOp>(src), whole->arg());
}

// Reverses the steps of a tape.
UOp reversed(const UOp& x) { return flip(x, 0); }

class Tape {
 public:
  Tape(const Node* n, const std::vector<bool>& wanted, const LiftVjp& lift)
      : scan_(n), step_(open_scan(n)), results_(output_count(n)), wanted_(wanted), lift_(lift) {
    if (wanted_.empty()) wanted_.assign(results_.size(), true);
  }

  std::vector<UOp> run() {
    trace();
    reverse_scan(stacked_carries());
    for (std::size_t i = 0; i < results_.size(); ++i)
      if (wanted_[i] && !results_[i]) results_[i] = zeros_like(UOp::share(scan_.node->src(2 + i)));
    return std::move(results_);
  }

 private:
  // The vjp of one step, over symbols.
  void trace() {
    outputs_ = step_.next;
    append(outputs_, step_.outs);
    for (const UOp& o : outputs_) cotangents_.push_back(is_float(o->dtype) ? symbol_like(o.get()) : UOp());
    std::vector<UOp> wrt = step_.carry_params;
    append(wrt, step_.row_params);
    append(wrt, step_.captured_params);
    pulled_ = vjp(outputs_, cotangents_, wrt);
    for (std::size_t i = 0; i < pulled_.size(); ++i)
      if (!is_float(wrt[i]->dtype) || (i >= scan_.n_carry && !wanted_[i])) pulled_[i] = UOp();
  }
  const UOp& pulled_x(std::size_t i) const { return pulled_[scan_.n_carry + i]; }
  const UOp& pulled_captured(std::size_t i) const { return pulled_[scan_.n_carry + scan_.n_xs + i]; }

  std::vector<UOp> stacked_carries() const {
    if (scan_.n_carry == 0) return {};
    ScanParts forward = step_;
    forward.outs = step_.carry_params;
    std::vector<UOp> body = forward.next;
    append(body, forward.outs);
    body = lower_vjps(body, lift_);
    const auto outs = body.begin() + static_cast<std::ptrdiff_t>(scan_.n_carry);
    forward.next.assign(body.begin(), outs);
    forward.outs.assign(outs, body.end());
    const UOp scan = make_scan(forward);
    std::vector<UOp> tape;
    for (std::size_t i = 0; i < scan_.n_carry; ++i)
      tape.push_back(get(scan, static_cast<std::int64_t>(scan_.n_carry + i)));
    return tape;
  }

  void reverse_scan(const std::vector<UOp>& tape) {
    ScanParts back;
    back.index = symbol(DType::kInt64, {});
    back.steps = step_.steps;
    back.method = step_.method;
    const auto given = scan_.cotangents();
    for (std::size_t i = 0; i < scan_.n_carry; ++i) {
      if (!cotangents_[i]) continue;
      back.carry_params.push_back(cotangents_[i]);
      back.carry.push_back(UOp::share(given[i]));
      back.next.push_back(pulled_[i] ? pulled_[i] : zeros_like(step_.carry_params[i]));
    }
    for (std::size_t i = 0; i < step_.captured.size(); ++i) {
      if (!pulled_captured(i)) continue;
      const UOp sum = symbol_like(step_.captured[i].get());
      back.carry_params.push_back(sum);
      back.carry.push_back(zeros_like(step_.captured[i]));
      back.next.push_back(add(sum, pulled_captured(i)));
    }
    back.captured_params = step_.captured_params;
    back.captured = step_.captured;

    std::vector<UOp> body = back.next;
    for (std::size_t i = 0; i < scan_.n_xs; ++i)
      if (pulled_x(i)) body.push_back(pulled_x(i));
    const UOp own_index = sub(offset(step_.steps, -1), back.index);
    for (UOp& b : body)
      b = substitute(b, [&](Node* n) { return n == step_.index.get() ? own_index : UOp(); });
    body = lower_vjps(body, lift_);
    // Rows that the way back reads: of an affine step it reads none, and is affine itself.
    NodeMap<char> read;
    std::vector<Node*> roots;
    for (const UOp& b : body) roots.push_back(b.get());
    for (Node* n : toposort(roots)) read.insert(n, 1);
    auto row = [&](const UOp& param, const UOp& values) {
      if (!read.contains(param.get())) return;
      back.row_params.push_back(param);
      back.xs.push_back(reversed(values));
    };
    for (std::size_t i = 0; i < scan_.n_carry; ++i) row(step_.carry_params[i], tape[i]);
    for (std::size_t i = 0; i < scan_.n_xs; ++i) row(step_.row_params[i], step_.xs[i]);
    for (std::size_t j = scan_.n_carry; j < outputs_.size(); ++j)
      if (cotangents_[j]) row(cotangents_[j], UOp::share(given[j]));
    const auto outs = body.begin() + static_cast<std::ptrdiff_t>(back.next.size());
    back.outs.assign(outs, body.end());
    back.next.assign(body.begin(), outs);
    const UOp reverse = make_scan(back);

    std::int64_t next = 0;
    for (std::size_t i = 0; i < scan_.n_carry; ++i)
      if (cotangents_[i]) results_[i] = get(reverse, next++);
    for (std::size_t i = 0; i < step_.captured.size(); ++i)
      if (pulled_captured(i)) results_[scan_.n_carry + scan_.n_xs + i] = get(reverse, next++);
    for (std::size_t i = 0; i < scan_.n_xs; ++i)
      if (pulled_x(i)) results_[scan_.n_carry + i] = reversed(get(reverse, next++));
  }

  ScanView scan_;
  ScanParts step_;
  std::vector<UOp> results_;
  std::vector<bool> wanted_;
  const LiftVjp& lift_;
  std::vector<UOp> outputs_, cotangents_, pulled_;
};

std::vector<UOp> lower_evolve_vjp(const Node* evolve_vjp, const std::vector<bool>& wanted,
                                  const LiftVjp& lift) {
  if (const IntegratorRow& row = EvolveView(evolve_vjp).row(); !row.has_loop()) {
    const auto where = locations(evolve_vjp);
    throw Error("gradient",
                "there is no gradient by dt or by numbers of H through Integrator::" + std::string(row.name) +
                    ", which has no loop of steps to walk back (there is one by the state); " +
                    integrator_names([](const IntegratorRow& r) { return r.has_loop(); }) +
                    " have one, and jvp goes through all",
                where.empty() ? "" : where[0].file.c_str(), where.empty() ? 0 : where[0].line);
  }
  const VjpCall call(const_cast<Node*>(evolve_vjp));
  // Fresh symbols: two sources may be one node, and a constant dt may occur in the lowered steps.
  NodeMap<UOp> actual;
  std::vector<UOp> inputs, wrt;
  std::vector<std::size_t> wrt_at;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    const UOp& x = call.inputs[i];
    inputs.push_back(is_float(x->dtype) ? symbol_like(x.get()) : x);
    if (inputs[i] == x) continue;
    actual.insert(inputs[i].get(), x);
    if (!wanted.empty() && !wanted[i]) continue;
    wrt.push_back(inputs[i]);
    wrt_at.push_back(i);
  }
  const UOp evolve = call.primal(inputs);
  const std::vector<UOp> pulled = vjp(lower_evolve(evolve.get()), call.cotangents, wrt);
  std::vector<UOp> out(call.inputs.size());
  for (std::size_t i = 0; i < out.size(); ++i)
    if (wanted.empty() || wanted[i]) out[i] = zeros_like(call.inputs[i]);
  for (std::size_t k = 0; k < wrt.size(); ++k)
    if (pulled[k])
      out[wrt_at[k]] = substitute(pulled[k], [&](Node* n) {
        const UOp* a = actual.find(n);
        return a ? *a : UOp();
      });
  std::vector<UOp> present;
  for (const UOp& o : out)
    if (o) present.push_back(o);
  present = lower_vjps(present, lift);
  std::size_t next = 0;
  for (UOp& o : out)
    if (o) o = present[next++];
  return out;
}

}  // namespace

std::vector<UOp> lower_vjps(std::span<const UOp> roots, const LiftVjp& lift) {
  std::vector<Node*> starts;
  for (const UOp& r : roots) starts.push_back(r.get());
  const auto order = toposort(starts);
  NodeMap<std::vector<bool>> wanted;
  for (Node* n : order)
    if (n->op == Op::GET && is_vjp(n->src(0))) {
      auto& w = wanted[n->src(0)];
      if (w.empty()) w.assign(output_count(n->src(0)), false);
      w[static_cast<std::size_t>(n->arg(0))] = true;
    }
  NodeMap<std::vector<UOp>> lowered;  // by the node as it was
  return rebuild(roots, {.ready = [&](Node* n) -> UOp {
                           const auto* values = n->op == Op::GET ? lowered.find(n->src(0)) : nullptr;
                           return values ? (*values)[static_cast<std::size_t>(n->arg(0))] : UOp();
                         },
                         .after = [&](Node* n, const UOp& now) -> UOp {
                           if (is_vjp(n)) {
                             std::vector<UOp> made = lift ? lift(now.get(), wanted[n]) : std::vector<UOp>();
                             if (made.empty())
                               made = n->op == Op::SCAN_VJP ? Tape(now.get(), wanted[n], lift).run()
                                                            : lower_evolve_vjp(now.get(), wanted[n], lift);
                             lowered.insert(n, std::move(made));
                           }
                           const bool primal = n->op == Op::SCAN || n->op == Op::EVOLVE;
                           return primal && holds_vjp(now->src(0)) ? with_lowered_body(now, lift) : UOp();
                         }});
}

}  // namespace tinyphys
