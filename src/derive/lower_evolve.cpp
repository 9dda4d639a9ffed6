#include "derive/lower_evolve.hpp"

#include <cmath>
#include <optional>

#include "derive/gradient.hpp"
#include "derive/lower_split.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// Fixed-point sweeps of one implicit step: 2^-52 is reached when each sweep halves the error (h * omega <= 1).
constexpr std::int64_t kMidpointSweeps = 60;
// Residual of the midpoint equation that counts as solved, relative to the largest coordinate.
constexpr double kMidpointTolerance = 1e-13;
constexpr double kTiny = 1e-290;

UOp max_abs(const UOp& x) {
  const UOp flat = reshape(unary(Op::ABS, x), Dims{x->size()});
  return reduce(Reduction::kMax, flat, Dims{0});
}
UOp max_of(const UOp& a, const UOp& b) { return make(Op::MAX, {a, b}); }

// One step over symbols of the state.
class Step {
 public:
  explicit Step(const ForceLoop& loop)
      : loop_(loop),
        row_(row_of(loop.record.integrator)),
        levels_(loop.record.level_steps()),
        timed_(loop.record.timed),
        index_(symbol(DType::kInt64, {})) {}

  std::vector<UOp> run() {
    ScanParts s;
    s.index = index_;
    s.steps = loop_.steps;
    s.method = loop_.record.method;
    s.reversible = loop_.record.reversible;
    const UOp q0 = loop_.q, p0 = loop_.p;
    q_ = symbol_like(q0.get());
    p_ = symbol_like(p0.get());
    s.carry_params = {q_, p_};
    s.carry = {q0, p0};
    if (!levels_.empty()) return run_levels(s);
    // What a step ends with moves q: the force of its last kick is not that of the next.
    const bool carried = row_.first_same_as_last() && !loop_.instead,
               solves = row_.has(Part::kSolve) && q0->size() > 0;
    if (carried) {
      force_ = symbol_like(q0.get());
      s.carry_params.push_back(force_);
      s.carry.push_back(forces_at(q0, p0, start())[0]);
    }
    if (solves) {
      worst_ = symbol(DType::kFloat64, {});
      s.carry_params.push_back(worst_);
      s.carry.push_back(constant(0.0));
    }
    std::vector<UOp> counts;
    for (std::size_t i = 0; i < loop_.n_counts; ++i) {
      counts.push_back(symbol(DType::kInt64, {}));
      s.carry_params.push_back(counts.back());
      s.carry.push_back(constant_int(0));
    }
    if (s.reversible == Reversible::Exact) {
      s.range = {loop_.record.range_q, loop_.record.range_p};
      s.range.resize(s.carry.size());
    }
    const auto step = [&](const UOp& q, const UOp& p) {
      q_ = q;
      p_ = p;
      drifted_ = 0;
      for (std::size_t i = 0; i < row_.substeps.size(); ++i) substep(i);
      return std::pair{q_, p_};
    };
    if (loop_.instead) {
      const ForceLoop::Ended ended = loop_.instead(q_, p_, step);
      q_ = ended.q;
      p_ = ended.p;
      for (std::size_t i = 0; i < counts.size(); ++i) counts[i] = add(counts[i], ended.counts[i]);
    } else {
      step(q_, p_);
    }
    s.next = {q_, p_};
    if (carried) s.next.push_back(force_);
    if (solves) s.next.push_back(worst_);
    s.next.insert(s.next.end(), counts.begin(), counts.end());

    const UOp scan = make_scan(s);
    std::vector<UOp> last{get(scan, 0), get(scan, 1)};
    if (solves) {
      const UOp converged = compare(Op::LE, get(scan, carried ? 3 : 2), constant(kMidpointTolerance));
      for (UOp& v : last)
        v = make(Op::CHECK, {v, converged}, {static_cast<std::int64_t>(CheckKind::kMidpointConverged)});
    }
    for (std::size_t i = s.next.size() - counts.size(); i < s.next.size(); ++i)
      last.push_back(get(scan, static_cast<std::int64_t>(i)));
    return last;
  }

 private:
  // What a step of a level leaves behind: the forces are those of the levels from its own on, each of its last kick.
  struct Moment {
    UOp q, p;
    std::vector<UOp> forces;
    std::vector<UOp> all() const {
      std::vector<UOp> v{q, p};
      v.insert(v.end(), forces.begin(), forces.end());
      return v;
    }
    static Moment of(const std::vector<UOp>& v) { return {v[0], v[1], {v.begin() + 2, v.end()}}; }
  };

  std::vector<UOp> run_levels(ScanParts s) {
    s.index = UOp();  // named terms do not depend on the time
    std::optional<FlowMap> fastest;
    if (loop_.fastest) fastest = loop_.fastest->captured_by(s);
    fastest_ = fastest ? &*fastest : nullptr;
    const std::vector<UOp> first = forces_at(s.carry[0], s.carry[1], {});
    for (std::size_t l = 0; l + (fastest ? 1 : 0) < levels_.size(); ++l) {
      s.carry_params.push_back(symbol_like(q_.get()));
      s.carry.push_back(first[l]);
    }
    s.next = level_step(0, Moment::of(s.carry_params)).all();
    const UOp scan = make_scan(s);
    return {get(scan, 0), get(scan, 1)};
  }

  // One step of level l: half a kick, the steps of the next level (at the last one the drift), half a kick.
  Moment level_step(std::size_t l, Moment z) const {
    const UOp h = levels_[l] == 1 ? loop_.dt : div(loop_.dt, constant(static_cast<double>(levels_[l])));
    const auto times = [&](const UOp& length, const UOp& x) {
      return mul(broadcast_to(length, x->shape()), x);
    };
    const UOp half = mul(h, constant(0.5));
    z.p = sub(z.p, times(half, z.forces[0]));
    if (fastest_ && l + 2 == levels_.size()) {
      const std::vector<UOp> turned = fastest_->turn(z.q, z.p);
      z.q = turned[0];
      z.p = turned[1];
    } else if (l + 1 == levels_.size()) {
      z.q = add(z.q, times(h, forces_at(z.q, z.p, {})[levels_.size()]));
    } else {
      ScanParts inner;
      inner.steps = constant_int(levels_[l + 1] / levels_[l]);
      inner.method = Method::Loop;
      inner.carry = Moment{z.q, z.p, {z.forces.begin() + 1, z.forces.end()}}.all();
      for (const UOp& c : inner.carry) inner.carry_params.push_back(symbol_like(c.get()));
      inner.next = level_step(l + 1, Moment::of(inner.carry_params)).all();
      const UOp scan = make_scan(inner);
      z = {get(scan, 0), get(scan, 1), {z.forces[0]}};
      for (std::size_t i = 2; i < inner.carry.size(); ++i)
        z.forces.push_back(get(scan, static_cast<std::int64_t>(i)));
    }
    z.forces[0] = forces_at(z.q, z.p, {})[l];
    z.p = sub(z.p, times(half, z.forces[0]));
    return z;
  }

  UOp start() const { return timed_ ? loop_.captured[0] : UOp(); }
  // The time of the moment: start + (steps done + the part of a step done) h.
  UOp time(double done) const {
    if (!timed_) return {};
    const UOp steps = cast(index_, DType::kFloat64);
    return add(start(), mul(done == 0 ? steps : offset(steps, done), loop_.dt));
  }
  // c h for every coordinate.
  UOp scale(double c) const {
    const UOp h = c == 1 ? loop_.dt : mul(loop_.dt, constant(c, loop_.dt->dtype));
    return broadcast_to(h, loop_.q->shape());
  }
  // dH/dq and dH/dp.
  std::vector<UOp> forces_at(const UOp& q, const UOp& p, const UOp& t) const {
    std::vector<UOp> args{q, p};
    args.insert(args.end(), loop_.captured.begin(), loop_.captured.end());
    if (timed_) args[2] = t;
    return tinyphys::apply(loop_.forces.get(), args);
  }

  void substep(std::size_t i) {
    const auto [part, c] = row_.substeps[i];
    switch (part) {
      case Part::kKick: {
        const bool first = i == 0 && force_, last = i + 1 == row_.substeps.size() && force_;
        const UOp force = first ? force_ : forces_at(q_, p_, time(drifted_))[0];
        p_ = sub(p_, mul(scale(c), force));
        if (last) force_ = force;
        return;
      }
      case Part::kDrift:
        q_ = add(q_, mul(scale(c), forces_at(q_, p_, time(drifted_))[1]));
        drifted_ += c;
        // The sum of the drifts is the step: its rounding is no time that passes.
        if (std::fabs(drifted_ - 1) < 1e-12) drifted_ = 1;
        return;
      case Part::kSolve: return solve(c);
      case Part::kFlow: break;
    }
    throw Error("evolve", std::string(row_.name) + " is the exact flow of a quadratic H: it has no loop", "",
                0);
  }

  // The midpoint m solves m = z + h/2 J grad H(m); z' = z + h J grad H(m). A carry keeps the worst residual of m,
  // relative to the largest coordinate, over all steps: sweeps that did not converge are an error, not a result.
  void solve(double c) {
    const UOp t = time(drifted_ + c / 2), h = scale(c), h2 = scale(c / 2);
    const auto sweep = [&](const UOp& at_q, const UOp& at_p) {
      const auto g = forces_at(at_q, at_p, t);
      return std::vector<UOp>{add(q_, mul(h2, g[1])), sub(p_, mul(h2, g[0]))};
    };
    ScanParts inner;
    inner.steps = constant_int(kMidpointSweeps);
    inner.carry = {q_, p_};
    inner.carry_params = {symbol_like(q_.get()), symbol_like(p_.get())};
    inner.next = sweep(inner.carry_params[0], inner.carry_params[1]);
    const UOp scan = make_scan(inner);
    const std::vector<UOp> mid{get(scan, 0), get(scan, 1)};
    if (worst_) {
      const auto again = sweep(mid[0], mid[1]);
      for (std::size_t k = 0; k < 2; ++k) {
        const UOp size = add(max_abs(mid[k]), constant(kTiny));
        worst_ = max_of(worst_, div(max_abs(sub(again[k], mid[k])), size));
      }
    }
    const auto g = forces_at(mid[0], mid[1], t);
    q_ = add(q_, mul(h, g[1]));
    p_ = sub(p_, mul(h, g[0]));
    drifted_ += c;
  }

  const ForceLoop& loop_;
  const IntegratorRow& row_;
  std::vector<std::int64_t> levels_;
  bool timed_;
  UOp index_;
  UOp q_, p_, force_, worst_;
  const FlowMap* fastest_ = nullptr;
  double drifted_ = 0;
};

}  // namespace

UOp total_energy(std::span<const UOp> terms) {
  UOp sum = terms[0];
  for (const UOp& t : terms.subspan(1)) sum = add(sum, t);
  return sum;
}

UOp force_lambda(const Node* energy, const Node* q, const Node* p, const EvolveRecord& record) {
  const std::int64_t n = energy->arg(0);
  std::vector<UOp> params(static_cast<std::size_t>(n));
  for (Node* x : toposort(energy->src()))
    if (x->op == Op::PARAM) params[static_cast<std::size_t>(x->arg(0))] = symbol_like(x);
  if (!params[0]) params[0] = symbol_like(q);
  if (!params[1]) params[1] = symbol_like(p);
  for (UOp& s : params)
    if (!s) s = symbol(DType::kFloat64, {});  // captured but unused
  const std::vector<UOp> terms = tinyphys::apply(energy, params);
  std::vector<UOp> forces;
  if (record.levels.empty()) {
    forces = gradient(total_energy(terms), std::vector<UOp>{params[0], params[1]});
  } else {
    for (const std::int64_t steps : record.level_steps()) {
      std::vector<UOp> of_level;
      for (std::size_t i = 0; i < terms.size(); ++i)
        if (record.levels[i] == steps) of_level.push_back(terms[i]);
      forces.push_back(gradient(total_energy(of_level), std::vector<UOp>{params[0]})[0]);
    }
    forces.push_back(gradient(total_energy(terms), std::vector<UOp>{params[1]})[0]);
  }
  // Back to the same params; numbers that differentiation made (exponents) stay inside, they belong to the text.
  NodeMap<UOp> back;
  for (std::size_t i = 0; i < params.size(); ++i)
    back.insert(params[i].get(), param(static_cast<std::int64_t>(i), params[i]->dtype, params[i]->shape()));
  const auto closed = substitute(forces, [&](Node* x) {
    const UOp* r = back.find(x);
    return r ? *r : UOp();
  });
  return make(Op::LAMBDA, std::span<const UOp>(closed), std::span<const std::int64_t>(&n, 1));
}

std::vector<UOp> loop_of_steps(const ForceLoop& loop) { return Step(loop).run(); }

std::vector<UOp> lower_evolve(const Node* evolve) {
  LocationScope at(evolve->location.load(std::memory_order_relaxed));
  const EvolveView e(evolve);
  if (!e.record().flows.empty()) return lower_split(evolve);
  ForceLoop loop{.record = e.record(),
                 .forces = force_lambda(e.energy(), e.q(), e.p(), e.record()),
                 .dt = UOp::share(e.dt()),
                 .steps = UOp::share(e.steps()),
                 .q = UOp::share(e.q()),
                 .p = UOp::share(e.p()),
                 .captured = {}};
  for (Node* c : e.captured()) loop.captured.push_back(UOp::share(c));
  return loop_of_steps(loop);
}

LoweredEvolve::LoweredEvolve(const Node* evolve) : evolve_(evolve) {
  std::vector<UOp> src;
  for (Node* s : evolve->src()) {
    symbols.push_back(is_float(s->dtype) ? symbol_like(s) : UOp());
    src.push_back(symbols.back() ? symbols.back() : UOp::share(s));
  }
  outputs = lower_evolve(make(Op::EVOLVE, std::span<const UOp>(src), evolve->arg()).get());
}

std::vector<UOp> LoweredEvolve::at_sources(std::vector<UOp> values) const {
  NodeMap<UOp> actual;
  for (std::size_t i = 0; i < symbols.size(); ++i)
    if (symbols[i]) actual.insert(symbols[i].get(), UOp::share(evolve_->src(i)));
  std::vector<UOp> present;
  for (const UOp& v : values)
    if (v) present.push_back(v);
  present = substitute(present, [&](Node* n) {
    const UOp* a = actual.find(n);
    return a ? *a : UOp();
  });
  std::size_t next = 0;
  for (UOp& v : values)
    if (v) v = present[next++];
  return values;
}

UOp by_unit_steps(const Node* n) {
  const EvolveView evolve(n);
  const UOp q = symbol_like(evolve.q()), p = symbol_like(evolve.p()), tau = symbol(DType::kFloat64, {}),
            t0 = symbol(DType::kFloat64, {}), h = symbol_like(evolve.dt());
  std::vector<UOp> args{q, p, add(t0, mul(h, tau))}, params{q, p, tau, t0, h}, extra;
  std::vector<UOp> src{UOp(),
                       ones_like(UOp::share(evolve.dt())),
                       UOp::share(evolve.steps()),
                       UOp::share(evolve.q()),
                       UOp::share(evolve.p()),
                       constant(0.0),
                       UOp::share(evolve.captured()[0]),
                       UOp::share(evolve.dt())};
  for (Node* c : evolve.captured().subspan(1)) {
    args.push_back(symbol_like(c));
    params.push_back(args.back());
    src.push_back(UOp::share(c));
  }
  std::vector<UOp> terms = tinyphys::apply(evolve.energy(), args);
  for (UOp& term : terms) term = mul(h, term);
  src[0] = close_lambda(terms, params, extra);
  src.insert(src.end(), extra.begin(), extra.end());
  EvolveRecord record = evolve.record();
  record.dt_in_energy = true;
  return make(Op::EVOLVE, std::span<const UOp>(src), record.encode());
}

}  // namespace tinyphys
