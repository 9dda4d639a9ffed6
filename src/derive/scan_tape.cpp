#include "derive/scan_tape.hpp"

#include "derive/gradient.hpp"
#include "derive/gradient_rules.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

UOp symbol_like(const Node* n) { return symbol(n->dtype, n->shape()); }
UOp symbol_of_row(const Node* n) { return symbol(n->dtype, n->shape().subspan(1)); }
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
UOp with_lowered_body(const UOp& whole, const EvolveLowering& lower) {
  Node* body = whole->src(0);
  std::vector<UOp> params(static_cast<std::size_t>(body->arg(0)));
  if (whole->op == Op::SCAN) {
    const ScanView scan(whole.get());
    params[0] = symbol(DType::kInt64, {});
    for (std::size_t i = 1; i < params.size(); ++i) {
      const bool is_x = i > scan.n_carry && i <= scan.n_carry + scan.n_xs;
      params[i] = is_x ? symbol_of_row(whole->src(i + 1)) : symbol_like(whole->src(i + 1));
    }
  } else {
    for (std::size_t i = 0; i < params.size(); ++i) params[i] = symbol_like(whole->src(i + 3));
  }
  const std::vector<UOp> outputs = lower_vjps(tinyphys::apply(body, params), lower);
  std::vector<UOp> extra, src;
  src.push_back(close_lambda(outputs, params, extra));
  append(src, whole->src().subspan(1));
  append(src, extra);
  return make(whole->op, std::span<const UOp>(src), whole->arg());
}

// Reverses the steps of a tape.
UOp reversed(const UOp& x) { return flip(x, 0); }

class Tape {
 public:
  Tape(const Node* n, const std::vector<bool>& wanted, const EvolveLowering& lower)
      : scan_(n), lower_(lower), results_(output_count(n)), wanted_(wanted) {
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
  bool wanted_x(std::size_t i) const { return wanted_[scan_.n_carry + i]; }
  bool wanted_captured(std::size_t i) const { return wanted_[scan_.n_carry + scan_.n_xs + i]; }

  // One step and its vjp, over symbols.
  void trace() {
    index_ = symbol(DType::kInt64, {});
    for (Node* c : scan_.carry()) carry_.push_back(symbol_like(c));
    for (Node* x : scan_.xs()) xs_.push_back(symbol_of_row(x));
    for (Node* c : scan_.captured()) captured_.push_back(symbol_like(c));
    std::vector<UOp> args{index_};
    for (const auto* part : {&carry_, &xs_, &captured_}) append(args, *part);
    outputs_ = tinyphys::apply(scan_.body(), args);
    for (const UOp& o : outputs_) cotangents_.push_back(is_float(o->dtype) ? symbol_like(o.get()) : UOp());
    std::vector<UOp> wrt = carry_;
    append(wrt, xs_);
    append(wrt, captured_);
    pulled_ = vjp(outputs_, cotangents_, wrt);
    for (std::size_t i = 0; i < pulled_.size(); ++i)
      if (!is_float(wrt[i]->dtype) || (i >= carry_.size() && !wanted_[i])) pulled_[i] = UOp();
  }
  const UOp& pulled_x(std::size_t i) const { return pulled_[carry_.size() + i]; }
  const UOp& pulled_captured(std::size_t i) const { return pulled_[carry_.size() + xs_.size() + i]; }

  std::vector<UOp> stacked_carries() const {
    if (carry_.empty()) return {};
    std::vector<UOp> body(outputs_.begin(), outputs_.begin() + static_cast<std::ptrdiff_t>(carry_.size()));
    append(body, carry_);
    body = lower_vjps(body, lower_);
    std::vector<UOp> params{index_};
    for (const auto* part : {&carry_, &xs_, &captured_}) append(params, *part);
    std::vector<UOp> extra, src{UOp(), UOp::share(scan_.steps())};
    append(src, scan_.carry());
    append(src, scan_.xs());
    append(src, scan_.captured());
    src[0] = close_lambda(body, params, extra);
    append(src, extra);
    const UOp forward = make(Op::SCAN, std::span<const UOp>(src), scan_.node->arg());
    std::vector<UOp> tape;
    for (std::size_t i = 0; i < carry_.size(); ++i)
      tape.push_back(get(forward, static_cast<std::int64_t>(carry_.size() + i)));
    return tape;
  }

  void reverse_scan(const std::vector<UOp>& tape) {
    std::vector<UOp> new_carry, params{UOp()}, row_params, outs, src{UOp(), UOp::share(scan_.steps())}, xs;
    const auto given = scan_.cotangents();
    const UOp position = symbol(DType::kInt64, {});
    params[0] = position;
    for (std::size_t i = 0; i < carry_.size(); ++i) {
      if (!cotangents_[i]) continue;
      params.push_back(cotangents_[i]);
      src.push_back(UOp::share(given[i]));
      new_carry.push_back(pulled_[i] ? pulled_[i] : zeros_like(carry_[i]));
    }
    for (std::size_t i = 0; i < captured_.size(); ++i) {
      if (!pulled_captured(i)) continue;
      const UOp sum = symbol_like(captured_[i].get());
      params.push_back(sum);
      src.push_back(zeros_like(UOp::share(scan_.captured()[i])));
      new_carry.push_back(add(sum, pulled_captured(i)));
    }
    const std::size_t n_carry = new_carry.size();

    auto row = [&](const UOp& param, const UOp& values) {
      params.push_back(param);
      xs.push_back(reversed(values));
    };
    for (std::size_t i = 0; i < carry_.size(); ++i) row(carry_[i], tape[i]);
    for (std::size_t i = 0; i < xs_.size(); ++i) row(xs_[i], UOp::share(scan_.xs()[i]));
    for (std::size_t j = carry_.size(); j < outputs_.size(); ++j)
      if (cotangents_[j]) row(cotangents_[j], UOp::share(given[j]));
    append(params, captured_);
    append(src, xs);
    append(src, scan_.captured());

    std::vector<UOp> body = new_carry;
    for (std::size_t i = 0; i < xs_.size(); ++i)
      if (pulled_x(i)) body.push_back(pulled_x(i));
    const UOp last = offset(UOp::share(scan_.steps()), -1);
    const UOp own_index = sub(last, position);
    for (UOp& b : body) b = substitute(b, [&](Node* n) { return n == index_.get() ? own_index : UOp(); });
    body = lower_vjps(body, lower_);

    std::vector<UOp> extra;
    src[0] = close_lambda(body, params, extra);
    append(src, extra);
    const std::int64_t counts[] = {static_cast<std::int64_t>(n_carry), static_cast<std::int64_t>(xs.size())};
    const UOp reverse = make(Op::SCAN, std::span<const UOp>(src), counts);

    std::int64_t next = 0;
    for (std::size_t i = 0; i < carry_.size(); ++i)
      if (cotangents_[i]) results_[i] = get(reverse, next++);
    for (std::size_t i = 0; i < captured_.size(); ++i)
      if (pulled_captured(i)) results_[carry_.size() + xs_.size() + i] = get(reverse, next++);
    for (std::size_t i = 0; i < xs_.size(); ++i)
      if (pulled_x(i)) results_[carry_.size() + i] = reversed(get(reverse, next++));
  }

  ScanView scan_;
  const EvolveLowering& lower_;
  std::vector<UOp> results_;
  std::vector<bool> wanted_;
  UOp index_;
  std::vector<UOp> carry_, xs_, captured_, outputs_, cotangents_, pulled_;
};

}  // namespace

std::vector<UOp> lower_scan_vjp(const Node* scan_vjp, const std::vector<bool>& wanted) {
  return Tape(scan_vjp, wanted, {}).run();
}

std::vector<UOp> lower_evolve_vjp(const Node* evolve_vjp, const EvolveLowering& lower,
                                  const std::vector<bool>& wanted) {
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
  const std::vector<UOp> pulled = vjp(lower(evolve.get()), call.cotangents, wrt);
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
  present = lower_vjps(present, lower);
  std::size_t next = 0;
  for (UOp& o : out)
    if (o) o = present[next++];
  return out;
}

std::vector<UOp> lower_vjps(std::span<const UOp> roots, const EvolveLowering& lower) {
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
  NodeMap<UOp> done;
  NodeMap<std::vector<UOp>> lowered;  // by the node as it was
  std::vector<Node*> src;
  for (Node* n : order) {
    if (n->op == Op::GET)
      if (const auto* values = lowered.find(n->src(0))) {
        done.insert(n, (*values)[static_cast<std::size_t>(n->arg(0))]);
        continue;
      }
    UOp now = UOp::share(n);
    if (n->n_src > 0 && n->op != Op::LAMBDA) {
      src.clear();
      bool changed = false;
      for (Node* s : n->src()) {
        src.push_back(done.at(s).get());
        changed |= src.back() != s;
      }
      LocationScope at(n->location.load(std::memory_order_relaxed));
      if (changed) now = with_sources(n, src);
      const bool primal = n->op == Op::SCAN || n->op == Op::EVOLVE;
      if (primal && holds_vjp(now->src(0))) now = with_lowered_body(now, lower);
      if (n->op == Op::SCAN_VJP) lowered.insert(n, Tape(now.get(), wanted[n], lower).run());
      if (n->op == Op::EVOLVE_VJP && lower) lowered.insert(n, lower_evolve_vjp(now.get(), lower, wanted[n]));
    }
    done.insert(n, std::move(now));
  }
  std::vector<UOp> out;
  for (Node* s : starts) out.push_back(done.at(s));
  return out;
}

}  // namespace tinyphys
