#include "derive/time_warp.hpp"

#include "derive/gradient.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

// Halvings of the last step, after which Newton's method is at its end in two iterations.
constexpr std::int64_t kHalvings = 40;
constexpr int kNewton = 3;

UOp both(const UOp& a, const UOp& b) { return make(Op::AND, {a, b}); }
UOp negated(const UOp& a) { return unary(Op::NOT, a); }
// Above 0, and a number.
UOp usable(const UOp& x) {
  return both(compare(Op::LT, zeros_like(x), x), compare(Op::EQ, sub(x, x), zeros_like(x)));
}

struct Moment {
  UOp q, p, t;
  UOp w;  // with a rate of the user's: what 1 / g is followed by
};
struct Step {
  Moment end;
  UOp drifts, kicks;  // bools: that what is divided by was above 0
};

class Warp {
 public:
  explicit Warp(const WarpLoop& loop) : loop_(loop) {
    const auto by = [&](const UOp& f, const UOp& x) { return gradient(f, std::vector<UOp>{x})[0]; };
    velocity_ = by(loop.kinetic, loop.p);
    force_ = neg(by(loop.potential, loop.q));
    if (loop.rate) {
      slowness_ = div(ones_like(loop.rate), loop.rate);
      climb_ = by(slowness_, loop.q);
    }
  }

  Warped run() {
    ScanParts s;
    s.index = symbol(DType::kInt64, {});
    s.steps = loop_.steps;
    s.method = Method::Loop;
    const Moment start = first();
    Moment now = start;
    const auto carry = [&](UOp& x) {
      s.carry.push_back(x);
      x = symbol_like(x.get());
      s.carry_params.push_back(x);
    };
    for (UOp* x : parts(now)) carry(*x);
    // The step at which a condition first failed; -1: none did. Whether the next step would pass t_end.
    UOp no_drift = constant_int(-1), no_kick = constant_int(-1), ended = constant_bool(false);
    carry(no_drift);
    carry(no_kick);
    carry(ended);

    Step step = step_of(now, loop_.ds);
    const UOp defined = both(step.drifts, step.kicks);
    // A step that is not defined, or goes beyond the end, is not taken.
    UOp taken = defined;
    if (loop_.t_end) {
      const UOp beyond = both(defined, compare(Op::LT, loop_.t_end, step.end.t));
      ended = make(Op::OR, {ended, beyond});
      taken = both(defined, negated(beyond));
    }
    const std::vector<UOp*> before = parts(now), after = parts(step.end);
    for (std::size_t i = 0; i < before.size(); ++i)
      s.next.push_back(where(broadcast_to(taken, (*before[i])->shape()), *after[i], *before[i]));
    s.next.push_back(where(step.drifts, no_drift, s.index));
    s.next.push_back(where(both(step.drifts, negated(step.kicks)), s.index, no_kick));
    s.next.push_back(ended);
    s.until = negated(taken);
    const UOp scan = make_scan(s);

    std::int64_t n = 0;
    Moment last = start;
    for (UOp* x : parts(last)) *x = get(scan, n++);
    const UOp failed_drift = get(scan, n), failed_kick = get(scan, n + 1), has_ended = get(scan, n + 2);
    const auto check = [](const UOp& value, CheckKind kind, const UOp& scalar, std::int64_t what = -1) {
      Dims arg{static_cast<std::int64_t>(kind)};
      if (what >= 0) arg.push_back(what);
      return make(Op::CHECK, {value, scalar}, arg);
    };
    const auto of = [](WarpFailure f) { return static_cast<std::int64_t>(f); };
    for (UOp* x : {&last.q, &last.p, &last.t}) {
      *x = check(*x, CheckKind::kWarpDefined, failed_drift,
                 of(loop_.rate ? WarpFailure::kStep : WarpFailure::kKinetic));
      *x = check(*x, CheckKind::kWarpDefined, failed_kick,
                 of(loop_.rate ? WarpFailure::kStep : WarpFailure::kPotential));
      if (!loop_.t_end) continue;
      *x = check(*x, CheckKind::kWarpForward, compare(Op::LE, loop_.t0, loop_.t_end));
      *x = check(*x, CheckKind::kWarpEnded, has_ended);
    }
    if (loop_.t_end) last = landed(last);
    return {scan, last.q, last.p, last.t};
  }

 private:
  std::vector<UOp*> parts(Moment& m) const {
    std::vector<UOp*> all{&m.q, &m.p, &m.t};
    if (loop_.rate) all.push_back(&m.w);
    return all;
  }
  // A graph over the symbols, at a state.
  UOp at(const UOp& graph, const UOp& q, const UOp& p) const {
    return substitute(graph, [&](Node* n) {
      return n == loop_.q.get() ? q : n == loop_.p.get() ? p : UOp();
    });
  }
  UOp along(const UOp& scalar, const UOp& x) const { return mul(broadcast_to(scalar, x->shape()), x); }

  Moment first() {
    Moment m{loop_.q0, loop_.p0, loop_.t0, {}};
    if (loop_.rate)
      m.w = at(slowness_, m.q, m.p);
    else  // U0 - T0 = -E0
      binding_ = neg(add(at(loop_.potential, m.q, m.p), at(loop_.kinetic, m.q, m.p)));
    return m;
  }

  // What a drift divides by.
  UOp pace(const Moment& m) const { return loop_.rate ? m.w : add(at(loop_.kinetic, m.q, m.p), binding_); }
  Moment drifted(Moment m, const UOp& half) const {
    const UOp dt = div(half, pace(m));
    m.t = add(m.t, dt);
    m.q = add(m.q, along(dt, at(velocity_, m.q, m.p)));
    return m;
  }

  Step step_of(const Moment& start, const UOp& ds) const {
    const UOp half = mul(ds, constant(0.5));
    Moment m = drifted(start, half);
    const UOp divisor = loop_.rate ? at(slowness_, m.q, m.p) : neg(at(loop_.potential, m.q, m.p));
    const UOp dt = div(ds, divisor);
    const UOp p = add(m.p, along(dt, at(force_, m.q, m.p)));
    if (loop_.rate) {
      const UOp mean = add(at(velocity_, m.q, m.p), at(velocity_, m.q, p));
      m.w = add(m.w, mul(mul(dt, constant(0.5)), dot(mean, at(climb_, m.q, m.p))));
    }
    m.p = p;
    Step s;
    s.drifts = both(usable(pace(start)), usable(pace(m)));
    s.kicks = usable(divisor);
    s.end = drifted(m, half);
    // Before what a drift divides by comes what the kick does: of several that fail the first is told.
    s.drifts = make(Op::OR, {s.drifts, both(usable(pace(start)), negated(s.kicks))});
    return s;
  }

  // The part of a step that ends at t_end: halved to near it, then by Newton's method, through which derivatives go.
  Moment landed(const Moment& from) {
    ScanParts s;
    s.steps = constant_int(kHalvings);
    const UOp low = symbol(DType::kFloat64, {}), high = symbol(DType::kFloat64, {});
    s.carry_params = {low, high};
    s.carry = {constant(0.0), loop_.ds};
    const UOp middle = mul(add(low, high), constant(0.5));
    const UOp early = compare(Op::LE, step_of(from, middle).end.t, loop_.t_end);
    s.next = {where(early, middle, low), where(early, high, middle)};
    UOp part = get(make_scan(s), 0);
    for (int i = 0; i < kNewton; ++i) {
      const UOp sigma = symbol(DType::kFloat64, {}), t = step_of(from, sigma).end.t;
      const UOp slope = gradient(t, std::vector<UOp>{sigma})[0];
      const std::vector<UOp> now =
          substitute(std::vector<UOp>{t, slope}, [&](Node* n) { return n == sigma.get() ? part : UOp(); });
      part = sub(part, div(sub(now[0], loop_.t_end), now[1]));
    }
    return step_of(from, part).end;
  }

  const WarpLoop& loop_;
  UOp velocity_, force_;  // dT/dp, -dV/dq
  UOp slowness_, climb_;  // 1 / g and its gradient
  UOp binding_;           // -E0
};

}  // namespace

Warped warp(const WarpLoop& loop) { return Warp(loop).run(); }

}  // namespace tinyphys
