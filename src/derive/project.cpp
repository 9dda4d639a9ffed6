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

  // The state after one Newton iteration.
  std::pair<UOp, UOp> moved(const UOp& q, const UOp& p, const std::vector<UOp>& miss) const {
    const std::size_t k = miss.size(), nb = of_.n_batch;
    const std::vector<UOp> g = at(gradients_, q, p);
    std::vector<UOp> along_q, along_p;  // M^-1 G^T
    for (std::size_t i = 0; i < k; ++i) {
      along_q.push_back(masses_ ? div(g[2 * i], masses_) : g[2 * i]);
      along_p.push_back(masses_ ? mul(g[2 * i + 1], masses_) : g[2 * i + 1]);
    }
    const auto gram = [&](std::size_t i, std::size_t j) {
      return add(inner(g[2 * i], along_q[j], nb), inner(g[2 * i + 1], along_p[j], nb));
    };
    if (k == 1) {
      const UOp norm = gram(0, 0), some = positive(norm);
      const UOp lambda = where(some, div(miss[0], where(some, norm, ones_like(norm))), zeros_like(norm));
      return {sub(q, mul(for_all(lambda, q), along_q[0])), sub(p, mul(for_all(lambda, p), along_p[0]))};
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
    UOp dq, dp;
    for (std::size_t i = 0; i < k; ++i) {
      const UOp lambda = mul(x[i], scale[i]);
      const UOp q_part = mul(for_all(lambda, q), along_q[i]), p_part = mul(for_all(lambda, p), along_p[i]);
      dq = dq ? add(dq, q_part) : q_part;
      dp = dp ? add(dp, p_part) : p_part;
    }
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
