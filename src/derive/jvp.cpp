#include "derive/jvp.hpp"

#include "derive/gradient.hpp"
#include "derive/gradient_rules.hpp"
#include "derive/lower_evolve.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

UOp sum_of(const UOp& a, const UOp& b) { return !a ? b : !b ? a : add(a, b); }
UOp or_zeros(const UOp& t, const UOp& like) { return t ? t : zeros_like(like); }

// Tangents of the sources of one node, null where zero.
using Tangents = std::vector<UOp>;

// SCAN over (carry, tangents of carry) with xs and captured values beside their tangents.
class ScanTangent {
 public:
  // t: tangents of the sources of a SCAN of these parts.
  ScanTangent(const ScanParts& parts, const Tangents& t) : step_(parts), source_tangents_(t) {}

  // Tangents of the outputs.
  std::vector<UOp> run() {
    outputs_ = step_.next;
    outputs_.insert(outputs_.end(), step_.outs.begin(), step_.outs.end());
    // A carry that starts without a tangent may get one from another: repeat until no more do.
    active_.resize(step_.carry.size());
    for (std::size_t i = 0; i < active_.size(); ++i) active_[i] = static_cast<bool>(of_carry(i));
    while (trace_body()) {
    }
    return build();
  }

 private:
  const UOp& of_carry(std::size_t i) const { return source_tangents_[2 + i]; }
  const UOp& of_x(std::size_t i) const { return source_tangents_[2 + step_.carry.size() + i]; }
  const UOp& of_captured(std::size_t i) const {
    return source_tangents_[2 + step_.carry.size() + step_.xs.size() + i];
  }

  // Sets the tangents of the body; true when they make another carry active.
  bool trace_body() {
    wrt_.clear();
    symbols_.clear();
    auto with = [&](const UOp& x, bool has) {
      if (!has) return;
      wrt_.push_back(x);
      symbols_.push_back(symbol_like(x.get()));
    };
    for (std::size_t i = 0; i < active_.size(); ++i) with(step_.carry_params[i], active_[i]);
    for (std::size_t i = 0; i < step_.xs.size(); ++i) with(step_.row_params[i], static_cast<bool>(of_x(i)));
    for (std::size_t i = 0; i < step_.captured.size(); ++i)
      with(step_.captured_params[i], static_cast<bool>(of_captured(i)));
    body_tangents_ = jvp(outputs_, wrt_, symbols_);
    bool more = false;
    for (std::size_t i = 0; i < active_.size(); ++i)
      if (body_tangents_[i] && !active_[i]) {
        active_[i] = 1;
        more = true;
      }
    return more;
  }

  std::vector<UOp> build() const {
    const std::size_t n = step_.carry.size();
    ScanParts lifted = step_;
    auto symbol_of = symbols_.begin();
    for (std::size_t i = 0; i < n; ++i)
      if (active_[i]) {
        lifted.carry_params.push_back(*symbol_of++);
        lifted.carry.push_back(or_zeros(of_carry(i), step_.carry[i]));
        lifted.next.push_back(or_zeros(body_tangents_[i], step_.carry_params[i]));
      }
    for (std::size_t i = 0; i < step_.xs.size(); ++i)
      if (of_x(i)) {
        lifted.row_params.push_back(*symbol_of++);
        lifted.xs.push_back(of_x(i));
      }
    for (std::size_t i = 0; i < step_.captured.size(); ++i)
      if (of_captured(i)) {
        lifted.captured_params.push_back(*symbol_of++);
        lifted.captured.push_back(of_captured(i));
      }
    for (std::size_t j = n; j < outputs_.size(); ++j)
      if (body_tangents_[j]) lifted.outs.push_back(body_tangents_[j]);

    const UOp scan = make_scan(lifted);
    std::vector<UOp> tangents(outputs_.size());
    auto next = static_cast<std::int64_t>(n);
    for (std::size_t i = 0; i < n; ++i)
      if (active_[i]) tangents[i] = get(scan, next++);
    next += static_cast<std::int64_t>(step_.outs.size());
    for (std::size_t j = n; j < outputs_.size(); ++j)
      if (body_tangents_[j]) tangents[j] = get(scan, next++);
    return tangents;
  }

  ScanParts step_;
  const Tangents& source_tangents_;
  std::vector<UOp> outputs_;
  std::vector<char> active_;
  std::vector<UOp> wrt_, symbols_, body_tangents_;
};

// Its state moves by whole units: it has a gradient, by the derivative of what is rounded, and no tangent of its own.
[[noreturn]] void refuse_exact(const Node* node) {
  const auto where = locations(node);
  throw Error("jvp",
              "there is no jvp, hessian or gradient of a gradient through Reversible::Exact: take Float or "
              "Checkpoints",
              where.empty() ? "" : where[0].file.c_str(), where.empty() ? 0 : where[0].line);
}

std::vector<UOp> scan_tangent(const Node* node, Tangents t) {
  const ScanView scan(node);
  if (scan.reversible == Reversible::Exact) refuse_exact(node);
  ScanParts parts = open_scan(node);
  if (!scan.has_until) return ScanTangent(parts, t).run();
  // The carry that says that the loop is done has no tangent.
  const auto flag = static_cast<std::ptrdiff_t>(scan.n_carry);
  t.insert(t.begin() + 2 + flag, UOp());
  std::vector<UOp> tangents = ScanTangent(without_until(parts), t).run();
  tangents.erase(tangents.begin() + flag);
  return tangents;
}

// Tangents of (q, p) after an EVOLVE: see jvp.hpp. The state is packed as Q = [q, dq], P = [dp, p].
std::vector<UOp> evolve_tangent(const Node* node, const Tangents& t) {
  const EvolveView evolve(node);
  if (evolve.record().reversible == Reversible::Exact) refuse_exact(node);
  if (!evolve.commutes_with_tangent()) {
    const LoweredEvolve lowered(node);
    std::vector<UOp> wrt, moves;
    for (std::size_t i = 0; i < t.size(); ++i)
      if (t[i] && lowered.symbols[i]) {
        wrt.push_back(lowered.symbols[i]);
        moves.push_back(t[i]);
      }
    return lowered.at_sources(jvp(lowered.outputs, wrt, moves));
  }
  if (evolve.record().timed && t[1]) {
    const UOp unit = by_unit_steps(node);
    Tangents moved{UOp(), UOp(), UOp(), t[3], t[4], UOp(), t[5], t[1]};
    moved.insert(moved.end(), t.begin() + 6, t.end());
    moved.resize(unit->n_src);
    return evolve_tangent(unit.get(), moved);
  }
  const UOp q = symbol_like(evolve.q()), p = symbol_like(evolve.p());
  std::vector<UOp> args{q, p}, wrt{q, p}, d_captured, captured, captured_tangents;
  for (std::size_t i = 0; i < evolve.captured().size(); ++i) {
    Node* c = evolve.captured()[i];
    args.push_back(symbol_like(c));
    captured.push_back(UOp::share(c));
    if (!t[5 + i]) continue;
    wrt.push_back(args.back());
    d_captured.push_back(symbol_like(c));
    captured_tangents.push_back(t[5 + i]);
  }
  const std::vector<UOp> terms = tinyphys::apply(evolve.energy(), args);
  Dims packed = shape_of(q.get());
  packed.insert(packed.begin(), 2);
  const UOp big_q = symbol(q->dtype, packed), big_p = symbol(p->dtype, packed);
  std::vector<UOp> moves{index_axis(big_q, 0, 1), index_axis(big_p, 0, 0)};
  moves.insert(moves.end(), d_captured.begin(), d_captured.end());
  std::vector<UOp> lifted;  // each term by itself
  for (const UOp& energy : terms) {
    const UOp one = ones_like(energy);
    const std::vector<UOp> slopes = vjp(std::span(&energy, 1), std::span(&one, 1), wrt);
    UOp sum;
    for (std::size_t i = 0; i < wrt.size(); ++i)
      if (slopes[i]) sum = sum_of(sum, dot(slopes[i], moves[i]));
    lifted.push_back(sum ? sum : zeros_like(energy));
  }

  std::vector<UOp> params{big_q, big_p}, values = captured;
  params.insert(params.end(), args.begin() + 2, args.end());
  params.insert(params.end(), d_captured.begin(), d_captured.end());
  values.insert(values.end(), captured_tangents.begin(), captured_tangents.end());
  UOp dt = UOp::share(evolve.dt());
  if (t[1]) {
    const UOp h = symbol(dt->dtype, {}), dh = symbol(dt->dtype, {});
    for (std::size_t k = 0; k < terms.size(); ++k) lifted[k] = add(mul(h, lifted[k]), mul(dh, terms[k]));
    params.insert(params.end(), {h, dh});
    values.insert(values.end(), {dt, t[1]});
    dt = ones_like(dt);
  }
  const UOp first_q = index_axis(big_q, 0, 0), second_p = index_axis(big_p, 0, 1);
  const auto h_lifted = substitute(lifted, [&](Node* n) {
    return n == q.get() ? first_q : n == p.get() ? second_p : UOp();
  });

  const UOp q0 = UOp::share(evolve.q()), p0 = UOp::share(evolve.p());
  std::vector<UOp> src{close_lambda(h_lifted, params, values), dt, UOp::share(evolve.steps()),
                       stack(std::vector<UOp>{q0, or_zeros(t[3], q0)}, 0),
                       stack(std::vector<UOp>{or_zeros(t[4], p0), p0}, 0)};
  src.insert(src.end(), values.begin(), values.end());
  const UOp moved = make(Op::EVOLVE, std::span<const UOp>(src), node->arg());
  return {index_axis(get(moved, 0), 0, 1), index_axis(get(moved, 1), 0, 0)};
}

// Tangents of x -> F'(x)^T c: the pull-back of (dc, c) through the tangent-lifted F at (x, dx), its part at
// x. (d/dx of c . F'(x) dx is F''(x)[dx]^T c, as second derivatives commute.)
std::vector<UOp> derivative_call_tangent(const VjpCall& call, const Tangents& t) {
  const std::size_t n = call.inputs.size();
  NodeMap<UOp> actual;
  std::vector<UOp> inputs, wrt, moves;
  for (std::size_t i = 0; i < n; ++i) {
    const UOp& x = call.inputs[i];
    inputs.push_back(has_derivative(x->dtype) ? symbol_like(x.get()) : x);
    if (inputs[i] == x) continue;
    actual.insert(inputs[i].get(), x);
    wrt.push_back(inputs[i]);
    moves.emplace_back();
    if (const UOp& tangent = t[call.first + i]) {
      moves.back() = symbol_like(x.get());
      actual.insert(moves.back().get(), tangent);
    }
  }
  std::vector<UOp> outputs = outputs_of(call.primal(inputs));
  std::vector<UOp> weights(t.begin() + static_cast<std::ptrdiff_t>(call.first + n), t.end());
  const std::vector<UOp> moved = jvp(outputs, wrt, moves);
  outputs.insert(outputs.end(), moved.begin(), moved.end());
  weights.insert(weights.end(), call.cotangents.begin(), call.cotangents.end());
  const std::vector<UOp> pulled = vjp(outputs, weights, wrt);
  std::vector<UOp> out(n);
  for (std::size_t i = 0, k = 0; i < n; ++i) {
    if (!has_derivative(call.inputs[i]->dtype)) continue;
    if (const UOp& v = pulled[k++])
      out[i] = substitute(v, [&](Node* s) {
        const UOp* a = actual.find(s);
        return a ? *a : UOp();
      });
  }
  return out;
}

class Forward {
 public:
  std::vector<UOp> run(std::span<const UOp> outputs, std::span<const UOp> wrt,
                       std::span<const UOp> tangents) {
    std::vector<UOp> moving;
    for (std::size_t i = 0; i < wrt.size(); ++i) {
      tangents_.insert(wrt[i].get(), tangents[i]);
      if (tangents[i]) moving.push_back(wrt[i]);
    }
    std::vector<UOp> out(outputs.size());
    if (moving.empty()) return out;
    const std::uint8_t common = common_flags(moving);
    std::vector<Node*> roots;
    for (const UOp& o : outputs) roots.push_back(o.get());
    const auto order =
        toposort(roots, [&](const Node* n) { return tangents_.contains(n) || !may_depend(n, common); });
    for (Node* n : order) {
      if (tangents_.contains(n) || !moves(n)) continue;
      const std::uint32_t at = n->location.load(std::memory_order_relaxed);
      if (at == 0) {
        visit(n);
      } else {
        LocationScope scope(at);
        visit(n);
      }
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) out[i] = tangent(outputs[i].get());
    return out;
  }

 private:
  UOp tangent(const Node* n) const {
    const UOp* t = tangents_.find(n);
    return t ? *t : UOp();
  }
  bool moves(const Node* n) const {
    if (n->op == Op::LAMBDA) return false;
    if (n->op == Op::GET) return of_outputs_.contains(n->src(0));
    for (std::size_t i = 0; i < n->n_src; ++i)
      if (carries_derivative(n, i) && tangent(n->src(i))) return true;
    return false;
  }

  void visit(Node* n) {
    if (n->op == Op::GET) {
      if (const UOp& t = of_outputs_.at(n->src(0))[static_cast<std::size_t>(n->arg(0))])
        tangents_.insert(n, t);
      return;
    }
    Tangents t;
    for (std::size_t i = 0; i < n->n_src; ++i)
      t.push_back(carries_derivative(n, i) ? tangent(n->src(i)) : UOp());
    if (n->dtype == DType::kVoid) {
      of_outputs_.insert(n, whole(n, t));
      return;
    }
    UOp out;
    if (is_elementwise(n->op)) {
      for (std::size_t i = 0; i < t.size(); ++i)
        if (t[i]) out = sum_of(out, times_partial(n, i, t[i]));
    } else {
      out = other(n, t);
    }
    if (out) tangents_.insert(n, out);
  }

  static std::vector<UOp> whole(Node* n, const Tangents& t) {
    switch (n->op) {
      case Op::SCAN: return scan_tangent(n, t);
      case Op::EVOLVE: return evolve_tangent(n, t);
      case Op::SCAN_VJP:
      case Op::EVOLVE_VJP: return derivative_call_tangent(VjpCall(n), t);
      default: throw Error("jvp", "no rule for " + std::string(name(n->op)), "", 0);
    }
  }

  // Most of these are linear: the op itself, applied to the tangents.
  static UOp other(Node* n, const Tangents& t) {
    switch (n->op) {
      case Op::PAD: {
        Dims widths(n->arg().begin() + 1, n->arg().end());
        return pad_zeros(t[0], widths);
      }
      case Op::COPY: return make(n->op, {t[0]}, n->arg());
      case Op::AS_REAL: return as_real(t[0]);
      case Op::AS_COMPLEX: return as_complex(t[0]);
      case Op::CHECK: return t[0] ? make(n->op, {t[0], UOp::share(n->src(1))}, n->arg()) : UOp();
      case Op::RESHAPE: return reshape(t[0], n->shape());
      case Op::PERMUTE: return permute(t[0], n->arg());
      case Op::EXPAND: return broadcast_to(t[0], n->shape());
      case Op::SLICE:
      case Op::ROLL:
      case Op::CUMSUM:
      case Op::FFT:
      case Op::RFFT:
      case Op::IRFFT: return make(n->op, {t[0]}, n->arg());
      case Op::GATHER: return make(n->op, {t[0], UOp::share(n->src(1))}, n->arg());
      case Op::SCATTER_ADD:
        return make(n->op,
                    {or_zeros(t[0], UOp::share(n->src(0))), UOp::share(n->src(1)),
                     or_zeros(t[2], UOp::share(n->src(2)))},
                    n->arg());
      case Op::CAT: {
        std::vector<UOp> parts;
        for (std::size_t i = 0; i < t.size(); ++i) parts.push_back(or_zeros(t[i], UOp::share(n->src(i))));
        return cat(parts, n->arg(0));
      }
      case Op::MATMUL: {
        const UOp left = t[0] ? matmul(t[0], UOp::share(n->src(1))) : UOp();
        return sum_of(left, t[1] ? matmul(UOp::share(n->src(0)), t[1]) : UOp());
      }
      case Op::REDUCE: {
        const auto axes = n->arg().subspan(1);
        const auto kind = static_cast<Reduction>(n->arg(0));
        if (kind == Reduction::kSum) return sum(t[0], axes);
        if (kind != Reduction::kProd) return sum(mul(t[0], extremum_weights(n)), axes);
        return product_derivative(n, t[0], [](const UOp& tree, const UOp& x, const UOp& along) {
          return jvp(std::span(&tree, 1), std::span(&x, 1), std::span(&along, 1)).front();
        });
      }
      default: throw Error("jvp", "no rule for " + std::string(name(n->op)), "", 0);
    }
  }

  NodeMap<UOp> tangents_;
  NodeMap<std::vector<UOp>> of_outputs_;
};

}  // namespace

std::vector<UOp> jvp(std::span<const UOp> outputs, std::span<const UOp> wrt, std::span<const UOp> tangents) {
  return Forward().run(outputs, wrt, tangents);
}

}  // namespace tinyphys
