#include "derive/project.hpp"

#include "derive/gradient.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

constexpr std::int64_t kMaxIterations = 5;
// Where g - g0 is rounding: 2 eps of the sum of the |terms|, eps = 2^-53.
constexpr double kFloor = 0x1p-52;
// The square of the sine of the angle between a gradient and the span of those before it, below which they say the same.
constexpr double kDependent = 1e-12;
constexpr double kTiny = 1e-290;
// Of the symmetric projection: iterations at most; a move, relative to the state, that is rounding; one that counts as rest.
constexpr std::int64_t kMostAround = 50;
constexpr double kRest = 0x1p-53, kRested = 1e-13, kHuge = 1e300;

// The members' values of an inner product.
UOp inner(const UOp& a, const UOp& b, std::size_t n_batch) {
  Dims axes;
  for (std::size_t i = n_batch; i < a->shape().size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  return sum(mul(a, b), axes);
}

// A value of each member, for each of its coordinates.
UOp for_all(const UOp& x, const UOp& like) {
  Dims aligned(like->shape().size(), 1);
  std::copy(x->shape().begin(), x->shape().end(), aligned.begin());
  return broadcast_to(reshape(x, aligned), like->shape());
}

UOp positive(const UOp& x) { return compare(Op::LT, zeros_like(x), x); }

class Projection {
 public:
  Projection(const Invariants& of, const UOp& q, const UOp& p) : of_(of), q_(q), p_(p) {
    for (const UOp& v : of_.values) {
      const std::vector<UOp> wrt{of_.q, of_.p}, g = gradient(sum_all(v), wrt);
      gradients_.insert(gradients_.end(), g.begin(), g.end());
      sizes_.push_back(sum_of_magnitudes(v, wrt));
    }
    if (of_.masses) masses_ = broadcast_to(of_.masses, q->shape());
  }

  Projected run() { return of_.once ? once() : until_floor(); }

  // z' and x of z' = Phi(z + M^-1 G(z)^T x) + M^-1 G(z')^T x, g(z') = g0 (HLW V.4.1), by a Newton's method whose derivative of Phi
  // is 1: with r and s what the two equations are off by,
  //   dx = (G M^-1 G^T)^-1 (G r - s) / 2,   dz' = 2 M^-1 G^T dx - r,   G at z'.
  // It rests where a move is rounding, or no smaller than the one before.
  SymmetricallyProjected around(const StepOf& step) const {
    const std::size_t k = of_.values.size(), nb = of_.n_batch;
    const Slopes start = slopes_at(q_, p_);
    const auto [q1, p1] = step(q_, p_);
    const UOp member = misses(q_, p_)[0];  // of the shape of the members
    ScanParts s;
    s.steps = constant_int(kMostAround);
    s.carry = {q1, p1, q1, p1, full_like(member, kHuge), constant_int(0)};
    s.carry.push_back(compare(Op::LT, zeros_like(member), ones_like(member)));  // all go on
    for (std::size_t i = 0; i < k; ++i) s.carry.push_back(zeros_like(member));
    for (const UOp& c : s.carry) s.carry_params.push_back(symbol_like(c.get()));
    const UOp &q = s.carry_params[0], &p = s.carry_params[1];
    const UOp &stepped_q = s.carry_params[2], &stepped_p = s.carry_params[3];
    const UOp &last = s.carry_params[4], &count = s.carry_params[5], &active = s.carry_params[6];
    const std::vector<UOp> x(s.carry_params.begin() + 7, s.carry_params.end());

    const Slopes here = slopes_at(q, p);
    const auto [back_q, back_p] = along(here, x);
    const UOp rq = sub(sub(q, stepped_q), back_q), rp = sub(sub(p, stepped_p), back_p);
    std::vector<UOp> off = misses(q, p);
    for (std::size_t i = 0; i < k; ++i)
      off[i] = scaled(sub(add(inner(here.g[2 * i], rq, nb), inner(here.g[2 * i + 1], rp, nb)), off[i]), 0.5);
    const std::vector<UOp> dx = multipliers(here, off);
    const auto [half_q, half_p] = along(here, dx);
    const UOp dq = sub(scaled(half_q, 2), rq), dp = sub(scaled(half_p, 2), rp);
    const UOp move = add(inner(dq, dq, nb), inner(dp, dp, nb)), size = add(inner(q, q, nb), inner(p, p, nb));
    const UOp take = make(Op::AND, {active, compare(Op::LT, move, last)});
    const UOp goes_on = make(Op::AND, {take, compare(Op::LT, scaled(size, kRest * kRest), move)});
    std::vector<UOp> next_x;
    for (std::size_t i = 0; i < k; ++i) next_x.push_back(where(take, add(x[i], dx[i]), x[i]));
    const auto [off_q, off_p] = along(start, next_x);
    const auto [again_q, again_p] = step(add(q_, off_q), add(p_, off_p));
    s.next = {where(for_all(take, q), add(q, dq), q),
              where(for_all(take, p), add(p, dp), p),
              again_q,
              again_p,
              where(take, move, last),
              add(count, sum_all(cast(active, DType::kInt64))),
              goes_on};
    s.next.insert(s.next.end(), next_x.begin(), next_x.end());
    s.until = compare(Op::EQ, sum_all(cast(goes_on, DType::kInt64)), constant_int(0));
    const UOp scan = make_scan(s);
    const UOp end_q = get(scan, 0), end_p = get(scan, 1);
    const UOp end_size = add(inner(end_q, end_q, nb), inner(end_p, end_p, nb));
    const UOp rests = compare(Op::LE, get(scan, 4), scaled(end_size, kRested * kRested));
    return {end_q, end_p, get(scan, 5), sum_all(cast(unary(Op::NOT, rests), DType::kInt64))};
  }

 private:
  // Graphs over the symbols at a state.
  std::vector<UOp> at(const std::vector<UOp>& graphs, const UOp& q, const UOp& p) const {
    return substitute(graphs, [&](Node* n) { return n == of_.q.get() ? q : n == of_.p.get() ? p : UOp(); });
  }
  std::vector<UOp> misses(const UOp& q, const UOp& p) const {
    std::vector<UOp> r = at(of_.values, q, p);
    for (std::size_t i = 0; i < r.size(); ++i) r[i] = sub(r[i], of_.targets[i]);
    return r;
  }

  // The gradients of the invariants at a state, and M^-1 G^T.
  struct Slopes {
    std::vector<UOp> g;  // [dg/dq, dg/dp] of each
    std::vector<UOp> along_q, along_p;
  };
  Slopes slopes_at(const UOp& q, const UOp& p) const {
    Slopes s{.g = at(gradients_, q, p), .along_q = {}, .along_p = {}};
    for (std::size_t i = 0; 2 * i < s.g.size(); ++i) {
      s.along_q.push_back(masses_ ? div(s.g[2 * i], masses_) : s.g[2 * i]);
      s.along_p.push_back(masses_ ? mul(s.g[2 * i + 1], masses_) : s.g[2 * i + 1]);
    }
    return s;
  }
  // M^-1 G^T x
  static std::pair<UOp, UOp> along(const Slopes& s, const std::vector<UOp>& x) {
    UOp dq, dp;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const UOp q_part = mul(for_all(x[i], s.along_q[i]), s.along_q[i]),
                p_part = mul(for_all(x[i], s.along_p[i]), s.along_p[i]);
      dq = dq ? add(dq, q_part) : q_part;
      dp = dp ? add(dp, p_part) : p_part;
    }
    return {dq, dp};
  }

  // x with G M^-1 G^T x = miss.
  std::vector<UOp> multipliers(const Slopes& s, const std::vector<UOp>& miss) const {
    const std::size_t k = miss.size(), nb = of_.n_batch;
    const auto gram = [&](std::size_t i, std::size_t j) {
      return add(inner(s.g[2 * i], s.along_q[j], nb), inner(s.g[2 * i + 1], s.along_p[j], nb));
    };
    if (k == 1) {
      const UOp norm = gram(0, 0), some = positive(norm);
      return {where(some, div(miss[0], where(some, norm, ones_like(norm))), zeros_like(norm))};
    }
    // Rows and columns scaled to a diagonal of 1, and factored as L D L^T without pivoting: a pivot that is nothing but rounding
    // is a gradient that those before it span, and its invariant is left alone. A condition chooses what is divided by, too, so
    // that no derivative meets 0 / 0.
    std::vector<UOp> scale(k), rest(k), d(k), inverse(k), x(k);
    std::vector<std::vector<UOp>> l(k, std::vector<UOp>(k));
    for (std::size_t i = 0; i < k; ++i) {
      const UOp norm = gram(i, i), some = positive(norm);
      const UOp root = unary(Op::SQRT, where(some, norm, ones_like(norm)));
      scale[i] = where(some, div(ones_like(root), root), zeros_like(root));
    }
    for (std::size_t j = 0; j < k; ++j) {
      d[j] = where(positive(scale[j]), ones_like(scale[j]), zeros_like(scale[j]));  // 0: no gradient
      for (std::size_t m = 0; m < j; ++m) d[j] = sub(d[j], mul(mul(l[j][m], l[j][m]), d[m]));
      const UOp usable = compare(Op::LT, full_like(d[j], kDependent), d[j]);
      const UOp divisor = where(usable, d[j], ones_like(d[j]));
      inverse[j] = where(usable, div(ones_like(divisor), divisor), zeros_like(divisor));
      d[j] = where(usable, d[j], zeros_like(d[j]));
      for (std::size_t i = j + 1; i < k; ++i) {
        UOp c = mul(mul(gram(i, j), scale[i]), scale[j]);
        for (std::size_t m = 0; m < j; ++m) c = sub(c, mul(mul(l[i][m], l[j][m]), d[m]));
        l[i][j] = mul(c, inverse[j]);
      }
    }
    for (std::size_t j = 0; j < k; ++j) {
      x[j] = mul(miss[j], scale[j]);
      for (std::size_t m = 0; m < j; ++m) x[j] = sub(x[j], mul(l[j][m], x[m]));
    }
    for (std::size_t j = k; j-- > 0;) {
      x[j] = mul(x[j], inverse[j]);
      for (std::size_t i = j + 1; i < k; ++i) x[j] = sub(x[j], mul(l[i][j], x[i]));
    }
    for (std::size_t i = 0; i < k; ++i) x[i] = mul(x[i], scale[i]);
    return x;
  }

  // The state after one Newton iteration.
  std::pair<UOp, UOp> moved(const UOp& q, const UOp& p, const std::vector<UOp>& miss) const {
    const Slopes s = slopes_at(q, p);
    const auto [dq, dp] = along(s, multipliers(s, miss));
    return {sub(q, dq), sub(p, dp)};
  }

  UOp members() const {
    std::int64_t n = 1;
    for (std::size_t a = 0; a < of_.n_batch; ++a) n *= q_->shape()[a];
    return constant_int(n);
  }

  Projected once() const {
    const auto [q, p] = moved(q_, p_, misses(q_, p_));
    return {q, p, members()};
  }

  // Whether all that a member is off by is rounding; and how far it is off, in units of that.
  UOp at_floor(const std::vector<UOp>& miss, const std::vector<UOp>& sizes) const {
    UOp all;
    for (std::size_t i = 0; i < miss.size(); ++i) {
      const UOp one = compare(Op::LE, unary(Op::ABS, miss[i]), scaled(sizes[i], kFloor));
      all = all ? make(Op::AND, {all, one}) : one;
    }
    return all;
  }
  static UOp distance(const std::vector<UOp>& miss, const std::vector<UOp>& sizes) {
    UOp sum;
    for (std::size_t i = 0; i < miss.size(); ++i) {
      const UOp x = div(miss[i], offset(sizes[i], kTiny)), square = mul(x, x);
      sum = sum ? add(sum, square) : square;
    }
    return sum;
  }

  Projected until_floor() const {
    const std::size_t k = of_.values.size();
    const auto symbols = [&](const std::vector<UOp>& like, std::vector<UOp>& to) {
      std::vector<UOp> made;
      for (const UOp& x : like) made.push_back(symbol_like(x.get()));
      to.insert(to.end(), made.begin(), made.end());
      return made;
    };
    ScanParts s;
    s.steps = constant_int(kMaxIterations);
    const std::vector<UOp> miss0 = misses(q_, p_), size0 = at(sizes_, q_, p_);
    const UOp active0 = unary(Op::NOT, at_floor(miss0, size0));
    s.carry = {q_, p_, active0, constant_int(0)};
    s.carry.insert(s.carry.end(), miss0.begin(), miss0.end());
    s.carry.insert(s.carry.end(), size0.begin(), size0.end());
    const std::vector<UOp> now = symbols(s.carry, s.carry_params);
    const UOp &q = now[0], &p = now[1], &active = now[2], &count = now[3];
    const std::vector<UOp> miss(now.begin() + 4, now.begin() + 4 + static_cast<std::ptrdiff_t>(k)),
        sizes(now.begin() + 4 + static_cast<std::ptrdiff_t>(k), now.end());

    const auto [to_q, to_p] = moved(q, p, miss);
    const std::vector<UOp> to_miss = misses(to_q, to_p), to_sizes = at(sizes_, to_q, to_p);
    const UOp take =
        make(Op::AND, {active, compare(Op::LT, distance(to_miss, to_sizes), distance(miss, sizes))});
    const UOp goes_on = make(Op::AND, {take, unary(Op::NOT, at_floor(to_miss, to_sizes))});
    s.next = {where(for_all(take, q), to_q, q), where(for_all(take, p), to_p, p), goes_on,
              add(count, sum_all(cast(take, DType::kInt64)))};
    for (std::size_t i = 0; i < k; ++i) s.next.push_back(where(take, to_miss[i], miss[i]));
    for (std::size_t i = 0; i < k; ++i) s.next.push_back(where(take, to_sizes[i], sizes[i]));
    s.until = compare(Op::EQ, sum_all(cast(goes_on, DType::kInt64)), constant_int(0));
    const UOp scan = make_scan(s);
    return {get(scan, 0), get(scan, 1), get(scan, 3)};
  }

  const Invariants& of_;
  UOp q_, p_, masses_;
  std::vector<UOp> gradients_,
      sizes_;  // over the symbols: [dg/dq, dg/dp] of each, and the sum of its |terms|
};

}  // namespace

Projected project(const Invariants& invariants, const UOp& q, const UOp& p) {
  return Projection(invariants, q, p).run();
}

SymmetricallyProjected project_around(const Invariants& invariants, const UOp& q, const UOp& p,
                                      const StepOf& step) {
  return Projection(invariants, q, p).around(step);
}

UOp sum_of_magnitudes(const UOp& value, const std::vector<UOp>& leaves) {
  // Which nodes depend on the leaves, and which are reached as terms.
  const std::vector<Node*> order = toposort(value);
  NodeMap<char> depends;
  for (Node* n : order) {
    char d = 0;
    for (const UOp& x : leaves) d |= n == x.get();
    if (n->op != Op::LAMBDA)
      for (Node* s : n->src()) d |= depends.at(s);
    depends.insert(n, d);
  }
  NodeMap<char> is_sum;  // its sources are terms, too
  std::vector<Node*> todo{value.get()};
  while (!todo.empty()) {
    Node* n = todo.back();
    todo.pop_back();
    if (is_sum.contains(n) || !is_float(n->dtype)) continue;
    const auto descend = [&](std::initializer_list<std::size_t> which) {
      is_sum.insert(n, 1);
      for (const std::size_t i : which) todo.push_back(n->src(i));
    };
    switch (n->op) {
      case Op::ADD:
      case Op::SUB: descend({0, 1}); break;
      case Op::NEG: descend({0}); break;
      case Op::REDUCE:
        if (n->arg(0) == static_cast<std::int64_t>(Reduction::kSum)) descend({0});
        break;
      case Op::MUL:
        if (!depends.at(n->src(0)))
          descend({1});
        else if (!depends.at(n->src(1)))
          descend({0});
        break;
      case Op::DIV:
        if (!depends.at(n->src(1))) descend({0});
        break;
      case Op::RESHAPE:
      case Op::PERMUTE:
      case Op::EXPAND:
      case Op::SLICE:
      case Op::ROLL: descend({0}); break;
      default: break;
    }
  }
  NodeMap<UOp> size;
  for (Node* n : order) {
    if (!is_float(n->dtype) || n->op == Op::LAMBDA) continue;
    const UOp here = UOp::share(n);
    if (!is_sum.contains(n)) {
      size.insert(n, unary(Op::ABS, here));
      continue;
    }
    const auto of = [&](std::size_t i) { return size.at(n->src(i)); };
    UOp made;
    switch (n->op) {
      case Op::ADD:
      case Op::SUB: made = add(of(0), of(1)); break;
      case Op::NEG: made = of(0); break;
      case Op::MUL:
        made = depends.at(n->src(0)) ? mul(of(0), unary(Op::ABS, UOp::share(n->src(1))))
                                     : mul(unary(Op::ABS, UOp::share(n->src(0))), of(1));
        break;
      case Op::DIV: made = div(of(0), unary(Op::ABS, UOp::share(n->src(1)))); break;
      default: made = make(n->op, {of(0)}, n->arg()); break;  // a sum over axes, or movement
    }
    size.insert(n, made);
  }
  return size.at(value.get());
}

}  // namespace tinyphys
