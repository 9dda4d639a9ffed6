#include "derive/time_warp.hpp"

#include <functional>
#include <numeric>

#include "derive/gradient.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

// Halvings of the last step, after which Newton's method is at its end in two iterations.
constexpr std::int64_t kHalvings = 40;
constexpr int kNewton = 3;
// Of the midpoint equation, and the residual that counts as solved, relative to the largest coordinate of the member.
constexpr std::int64_t kSweeps = 60;
constexpr double kSolved = 1e-13, kTiny = 1e-290;

UOp both(const UOp& a, const UOp& b) { return make(Op::AND, {a, b}); }
UOp negated(const UOp& a) { return unary(Op::NOT, a); }
// Above 0, and a number.
UOp usable(const UOp& x) {
  return both(compare(Op::LT, zeros_like(x), x), compare(Op::EQ, sub(x, x), zeros_like(x)));
}

struct Moment {
  UOp q, p, t;
  UOp w;  // with a rate of q: what 1 / g is followed by
};
struct Step {
  Moment end;
  UOp first, second;  // bools: what the step needs holds; see failures()
};
// Some of the steps, up to a moment.
struct Walk {
  Moment now;
  UOp no_first, no_second;  // int64: the step at which a condition first failed; -1: none did
  UOp ended;                // bool: the next step would pass t_end
  UOp count;                // int64, of `times`: steps taken
};

class Warp {
 public:
  explicit Warp(const WarpLoop& loop) : loop_(loop) {
    const auto members = loop.q->shape().first(loop.n_batch);
    members_.assign(members.begin(), members.end());
    const auto by = [&](const UOp& f, const UOp& x) { return gradient(total(f), std::vector<UOp>{x})[0]; };
    if (loop.energy) {
      velocity_ = by(loop.energy, loop.p);
      force_ = neg(by(loop.energy, loop.q));
      rate_by_p_ = by(loop.rate, loop.p);
      rate_by_q_ = by(loop.rate, loop.q);
      return;
    }
    velocity_ = by(loop.kinetic, loop.p);
    force_ = neg(by(loop.potential, loop.q));
    if (loop.rate) {
      slowness_ = div(ones_like(loop.rate), loop.rate);
      climb_ = by(slowness_, loop.q);
    }
  }

  Warped run() {
    const UOp none = each(constant_int(-1)), never = each(constant_bool(false));
    const Walk start{first(), none, none, never, loop_.times ? each(constant_int(0)) : UOp()};
    if (loop_.times) return at_times(start);
    if (loop_.every > 0) return now_and_then(start);
    UOp scan;
    const Walk w = walk(start, loop_.t_end ? each(loop_.t_end) : UOp(), loop_.steps, UOp(), &scan);
    Moment last = w.now;
    if (loop_.t_end) last = landed(last, each(loop_.t_end));
    return checked(scan, {last.q, last.p, last.t}, w, loop_.t_end, w.ended);
  }

 private:
  std::vector<UOp*> parts(Moment& m) const {
    std::vector<UOp*> all{&m.q, &m.p, &m.t};
    if (m.w) all.push_back(&m.w);
    return all;
  }
  std::vector<UOp*> parts(Walk& w) const {
    std::vector<UOp*> all = parts(w.now);
    all.insert(all.end(), {&w.no_first, &w.no_second, &w.ended});
    if (w.count) all.push_back(&w.count);
    return all;
  }

  // --- members -------------------------------------------------------------------------------------------

  // A number for each member of one that is the same for all, or is that already.
  UOp each(const UOp& x) const { return x->shape().empty() ? broadcast_to(x, members_) : x; }
  static UOp total(const UOp& x) { return x->shape().empty() ? x : sum_all(x); }
  // For each element of a state that of its member.
  UOp spread(const UOp& x, const UOp& like) const {
    Dims shape = members_;
    shape.resize(like->shape().size(), 1);
    return broadcast_to(reshape(x, shape), like->shape());
  }
  UOp along(const UOp& x, const UOp& state) const { return mul(spread(x, state), state); }
  // Over all but the members' axes.
  UOp over_state(Reduction kind, const UOp& x) const {
    Dims axes(x->shape().size() - members_.size());
    std::iota(axes.begin(), axes.end(), static_cast<std::int64_t>(members_.size()));
    return reduce(kind, x, axes);
  }
  UOp product(const UOp& a, const UOp& b) const {
    return members_.empty() ? dot(a, b) : over_state(Reduction::kSum, mul(a, b));
  }
  UOp largest(const UOp& x) const { return over_state(Reduction::kMax, unary(Op::ABS, x)); }
  UOp any(const UOp& flags) const {
    if (members_.empty()) return flags;
    const UOp number = reshape(cast(flags, DType::kInt64), Dims{flags->size()});
    return compare(Op::LT, constant_int(0), reduce(Reduction::kMax, number, Dims{0}));
  }
  UOp all(const UOp& flags) const { return negated(any(negated(flags))); }

  // --- steps ---------------------------------------------------------------------------------------------

  // A graph over the symbols, at a state.
  UOp at(const UOp& graph, const UOp& q, const UOp& p) const {
    return substitute(graph, [&](Node* n) {
      return n == loop_.q.get() ? q : n == loop_.p.get() ? p : UOp();
    });
  }

  Moment first() {
    Moment m{loop_.q0, loop_.p0, each(loop_.t0), {}};
    if (loop_.energy)
      energy_ = loop_.held ? each(loop_.held) : at(loop_.energy, m.q, m.p);
    else if (loop_.rate)
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
    if (loop_.energy) return midpoint_step(start, ds);
    const UOp half = mul(ds, each(constant(0.5)));
    Moment m = drifted(start, half);
    const UOp divisor = loop_.rate ? at(slowness_, m.q, m.p) : neg(at(loop_.potential, m.q, m.p));
    const UOp dt = div(ds, divisor);
    const UOp p = add(m.p, along(dt, at(force_, m.q, m.p)));
    if (loop_.rate) {
      const UOp mean = add(at(velocity_, m.q, m.p), at(velocity_, m.q, p));
      m.w = add(m.w, mul(mul(dt, each(constant(0.5))), product(mean, at(climb_, m.q, m.p))));
    }
    m.p = p;
    Step s;
    s.first = both(usable(pace(start)), usable(pace(m)));
    s.second = usable(divisor);
    s.end = drifted(m, half);
    // Before what a drift divides by comes what the kick does: of several that fail the first is told.
    s.first = make(Op::OR, {s.first, both(usable(pace(start)), negated(s.second))});
    return s;
  }

  // The midpoint by sweeps, as the integrator of that name (lower_evolve.cpp).
  Step midpoint_step(const Moment& start, const UOp& ds) const {
    const auto slopes = [&](const UOp& q, const UOp& p) {
      const UOp rate = at(loop_.rate, q, p), excess = sub(at(loop_.energy, q, p), energy_);
      return Moment{add(along(rate, at(velocity_, q, p)), along(excess, at(rate_by_p_, q, p))),
                    sub(along(rate, at(force_, q, p)), along(excess, at(rate_by_q_, q, p))),
                    rate,
                    {}};
    };
    const UOp half = mul(ds, each(constant(0.5)));
    const auto sweep = [&](const UOp& q, const UOp& p) {
      const Moment by = slopes(q, p);
      return std::vector<UOp>{add(start.q, along(half, by.q)), add(start.p, along(half, by.p))};
    };
    ScanParts inner;
    inner.steps = constant_int(kSweeps);
    inner.method = Method::Loop;
    inner.carry = {start.q, start.p};
    inner.carry_params = {symbol_like(start.q.get()), symbol_like(start.p.get())};
    inner.next = sweep(inner.carry_params[0], inner.carry_params[1]);
    const UOp scan = make_scan(inner);
    const UOp q = get(scan, 0), p = get(scan, 1);
    const std::vector<UOp> again = sweep(q, p);
    const auto solved = [&](const UOp& x, const UOp& once_more) {
      const UOp size = add(largest(x), each(constant(kTiny)));
      return compare(Op::LE, largest(sub(once_more, x)), mul(size, each(constant(kSolved))));
    };
    const Moment by = slopes(q, p);
    Step s;
    s.second = usable(by.t);
    // A g that is not above 0 is told before what came of it.
    s.first = make(Op::OR, {both(solved(q, again[0]), solved(p, again[1])), negated(s.second)});
    s.end = {add(start.q, along(ds, by.q)), add(start.p, along(ds, by.p)), add(start.t, mul(ds, by.t)), {}};
    return s;
  }

  // Steps on from there, at most so many, up to the last that does not pass t_end. `number`: of the first of them, 0 where it
  // is null.
  Walk walk(const Walk& from, const UOp& t_end, const UOp& steps, const UOp& number,
            UOp* made = nullptr) const {
    ScanParts s;
    s.index = symbol(DType::kInt64, {});
    s.steps = steps;
    s.method = Method::Loop;
    s.reversible = loop_.reversible;
    Walk w = from;
    for (UOp* x : parts(w)) {
      s.carry.push_back(*x);
      *x = symbol_like(x->get());
      s.carry_params.push_back(*x);
    }
    Step step = step_of(w.now, each(loop_.ds));
    const UOp defined = both(step.first, step.second);
    // A step that is not defined, goes beyond the end, or is one too many is not taken.
    UOp taken = defined, tried = each(constant_bool(true));
    if (w.count) taken = both(taken, tried = compare(Op::LT, w.count, each(loop_.steps)));
    UOp ended = w.ended;
    if (t_end) {
      const UOp beyond = both(taken, compare(Op::LT, t_end, step.end.t));
      ended = make(Op::OR, {ended, beyond});
      taken = both(taken, negated(beyond));
    }
    const std::vector<UOp*> before = parts(w.now), after = parts(step.end);
    for (std::size_t i = 0; i < before.size(); ++i)
      s.next.push_back(where(spread(taken, *before[i]), *after[i], *before[i]));
    const UOp at_step = w.count ? w.count : each(number ? add(number, s.index) : s.index);
    const auto noted = [&](const UOp& failed, const UOp& known) {
      const UOp now = both(both(tried, failed), compare(Op::LT, known, each(constant_int(0))));
      return where(now, at_step, known);
    };
    s.next.push_back(noted(negated(step.first), w.no_first));
    s.next.push_back(noted(both(step.first, negated(step.second)), w.no_second));
    s.next.push_back(ended);
    if (w.count) s.next.push_back(where(taken, add(w.count, each(constant_int(1))), w.count));
    s.until = negated(any(taken));
    const UOp scan = make_scan(s);
    if (made) *made = scan;
    std::int64_t n = 0;
    for (UOp* x : parts(w)) *x = get(scan, n++);
    return w;
  }

  // The part of a step that ends at t_end: halved to near it, then by Newton's method, through which derivatives go.
  Moment landed(const Moment& from, const UOp& t_end) const {
    ScanParts s;
    s.steps = constant_int(kHalvings);
    s.method = Method::Loop;
    const UOp low = symbol(DType::kFloat64, members_), high = symbol(DType::kFloat64, members_);
    s.carry_params = {low, high};
    s.carry = {each(constant(0.0)), each(loop_.ds)};
    const UOp middle = mul(add(low, high), each(constant(0.5)));
    const UOp early = compare(Op::LE, step_of(from, middle).end.t, t_end);
    s.next = {where(early, middle, low), where(early, high, middle)};
    UOp part = get(make_scan(s), 0);
    for (int i = 0; i < kNewton; ++i) {
      const UOp sigma = symbol(DType::kFloat64, members_), t = step_of(from, sigma).end.t;
      const UOp slope = gradient(total(t), std::vector<UOp>{sigma})[0];
      const std::vector<UOp> now =
          substitute(std::vector<UOp>{t, slope}, [&](Node* n) { return n == sigma.get() ? part : UOp(); });
      part = sub(part, div(sub(now[0], t_end), now[1]));
    }
    return step_of(from, part).end;
  }

  // --- the states on the way -----------------------------------------------------------------------------

  // A loop of walks: `body` gives what is stacked of the walk that it makes from the one before.
  struct Stacked {
    UOp scan;
    Walk end;
    std::vector<UOp> rows;
  };
  Stacked stacked(ScanParts s, const Walk& start, const std::function<Walk(const Walk&)>& body,
                  const std::function<Moment(const Walk&)>& row) const {
    s.method = Method::Loop;
    s.reversible = loop_.reversible;
    Walk w = start;
    for (UOp* x : parts(w)) {
      s.carry.push_back(*x);
      *x = symbol_like(x->get());
      s.carry_params.push_back(*x);
    }
    Walk next = body(w);
    for (UOp* x : parts(next)) s.next.push_back(*x);
    const Moment m = row(next);
    s.outs = {m.q, m.p, m.t};
    Stacked out{make_scan(s), w, {}};
    std::int64_t n = 0;
    for (UOp* x : parts(out.end)) *x = get(out.scan, n++);
    for (int i = 0; i < 3; ++i) out.rows.push_back(get(out.scan, n++));
    return out;
  }

  // At each time a walk up to it, and the landing on it beside the walk.
  Warped at_times(Walk start) const {
    ScanParts s;
    s.steps = constant_int(loop_.times->shape()[0]);
    const UOp time = symbol_of_row(loop_.times.get());
    s.row_params = {time};
    s.xs = {loop_.times};
    // Of the walk before: that it came to its end. The first one has none.
    start.ended = each(constant_bool(true));
    const Stacked all = stacked(
        std::move(s), start,
        [&](const Walk& from) {
          Walk now = from;
          now.ended = each(constant_bool(false));
          now = walk(now, each(time), loop_.steps, UOp());
          now.ended = both(now.ended, from.ended);
          return now;
        },
        [&](const Walk& w) { return landed(w.now, each(time)); });
    return checked(all.scan, all.rows, all.end, index_axis(loop_.times, 0, 0), all.end.ended);
  }

  Warped now_and_then(const Walk& start) const {
    ScanParts s;
    s.index = symbol(DType::kInt64, {});
    s.steps = constant_int(const_int(loop_.steps.get()) / loop_.every);
    const UOp number = mul(s.index, constant_int(loop_.every));
    const Stacked all = stacked(
        std::move(s), start,
        [&](const Walk& from) { return walk(from, UOp(), constant_int(loop_.every), number); },
        [](const Walk& w) { return w.now; });
    const UOp at_start[] = {start.now.q, start.now.p, start.now.t};
    std::vector<UOp> rows;
    for (std::size_t i = 0; i < 3; ++i) {
      Dims one(at_start[i]->shape().begin(), at_start[i]->shape().end());
      one.insert(one.begin(), 1);
      rows.push_back(cat(std::vector<UOp>{reshape(at_start[i], one), all.rows[i]}, 0));
    }
    return checked(all.scan, rows, all.end, UOp(), UOp());
  }

  // --- what must hold ------------------------------------------------------------------------------------

  // Of all members the first failure, with the member; as CheckKind::kWarpDefined takes it.
  UOp first_of(const UOp& failed) const {
    if (members_.empty()) return failed;
    const std::int64_t n = failed->size();
    const UOp late = full(DType::kInt64, Dims{n}, 0x1p60), flat = reshape(failed, Dims{n});
    const UOp key = where(compare(Op::LT, flat, zeros_like(flat)), late,
                          add(scaled(flat, static_cast<double>(n)), iota(n)));
    const UOp least = reduce(Reduction::kMin, key, Dims{0});
    return where(compare(Op::LT, least, constant_int(std::int64_t{1} << 60)), least, constant_int(-1));
  }

  // `end`: the first time that is asked for, or null; `reached`: that the last one is.
  Warped checked(const UOp& scan, std::vector<UOp> values, const Walk& w, const UOp& end,
                 const UOp& reached) const {
    const UOp no_first = first_of(w.no_first), no_second = first_of(w.no_second);
    const auto of = [](WarpFailure f) { return static_cast<std::int64_t>(f); };
    const auto defined = [&](const UOp& value, const UOp& failed, WarpFailure what) {
      Dims arg{static_cast<std::int64_t>(CheckKind::kWarpDefined), of(what)};
      if (!members_.empty()) arg.push_back(w.no_first->size());
      return make(Op::CHECK, {value, failed}, arg);
    };
    const WarpFailure first = loop_.energy ? WarpFailure::kMidpoint
                              : loop_.rate ? WarpFailure::kStep
                                           : WarpFailure::kKinetic,
                      second = loop_.rate ? WarpFailure::kStep : WarpFailure::kPotential;
    for (UOp& x : values) {
      x = defined(x, no_first, first);
      x = defined(x, no_second, second);
      if (!end) continue;
      x = make(Op::CHECK, {x, all(compare(Op::LE, each(loop_.t0), each(end)))},
               {static_cast<std::int64_t>(CheckKind::kWarpForward)});
      x = make(Op::CHECK, {x, all(reached)}, {static_cast<std::int64_t>(CheckKind::kWarpEnded)});
    }
    return {scan, values[0], values[1], values[2]};
  }

  const WarpLoop& loop_;
  Dims members_;
  UOp velocity_, force_;       // dH/dp, -dH/dq
  UOp slowness_, climb_;       // 1 / g and its gradient
  UOp rate_by_q_, rate_by_p_;  // of g(q, p)
  UOp binding_, energy_;       // -E0; E0
};

}  // namespace

Warped warp(const WarpLoop& loop) { return Warp(loop).run(); }

}  // namespace tinyphys
