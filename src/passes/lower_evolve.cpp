#include "passes/lower_evolve.hpp"

#include "derive/gradient.hpp"
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

struct Forces {
  UOp lambda;
  std::vector<UOp> captured;

  // dH/dq and dH/dp at (q, p).
  std::vector<UOp> at(const UOp& q, const UOp& p) const {
    std::vector<UOp> args{q, p};
    args.insert(args.end(), captured.begin(), captured.end());
    return tinyphys::apply(lambda.get(), args);
  }
};

UOp scale_to(const UOp& scalar, const UOp& like) { return broadcast_to(scalar, like->shape()); }

std::vector<UOp> scan(const std::vector<UOp>& outputs, const std::vector<UOp>& params, const UOp& steps,
                      const std::vector<UOp>& carry) {
  std::vector<UOp> captured;
  const UOp body = close_lambda(outputs, params, captured);
  std::vector<UOp> src{body, steps};
  src.insert(src.end(), carry.begin(), carry.end());
  src.insert(src.end(), captured.begin(), captured.end());
  const std::vector<std::int64_t> arg{static_cast<std::int64_t>(carry.size()), 0};
  const UOp node = make(Op::SCAN, std::span<const UOp>(src), arg);
  std::vector<UOp> last;
  for (std::size_t i = 0; i < carry.size(); ++i) last.push_back(get(node, static_cast<std::int64_t>(i)));
  return last;
}

UOp index_symbol() { return symbol(DType::kInt64, {}); }
UOp like(const UOp& x) { return symbol(x->dtype, x->shape()); }

std::vector<UOp> leapfrog(const EvolveView& e, const Forces& forces, const UOp& q0, const UOp& p0) {
  const UOp dt = UOp::share(e.dt()), half = mul(dt, constant(0.5, dt->dtype));
  const UOp i = index_symbol(), q = like(q0), p = like(p0);
  const UOp h = scale_to(dt, q), h2 = scale_to(half, q);
  const UOp steps = UOp::share(e.steps());
  if (e.integrator() == IntegratorKind::kLeapfrogDKD) {
    const UOp q_mid = add(q, mul(h2, forces.at(q, p)[1]));
    const UOp p_new = sub(p, mul(h, forces.at(q_mid, p)[0]));
    const UOp q_new = add(q_mid, mul(h2, forces.at(q_mid, p_new)[1]));
    return scan({q_new, p_new}, {i, q, p}, steps, {q0, p0});
  }
  const UOp g = like(q0);
  const UOp p_mid = sub(p, mul(h2, g));
  const UOp q_new = add(q, mul(h, forces.at(q, p_mid)[1]));
  const UOp g_new = forces.at(q_new, p_mid)[0];
  const UOp p_new = sub(p_mid, mul(h2, g_new));
  auto last = scan({q_new, p_new, g_new}, {i, q, p, g}, steps, {q0, p0, forces.at(q0, p0)[0]});
  last.pop_back();
  return last;
}

UOp max_abs(const UOp& x) {
  const UOp flat = reshape(unary(Op::ABS, x), Dims{x->size()});
  return reduce(Reduction::kMax, flat, Dims{0});
}
UOp max_of(const UOp& a, const UOp& b) { return make(Op::MAX, {a, b}); }

// The midpoint m solves m = z + h/2 J grad H(m); z' = z + h J grad H(m). A third carry keeps the worst residual of
// m, relative to the largest coordinate, over all steps: sweeps that did not converge are an error, not a result.
std::vector<UOp> implicit_midpoint(const EvolveView& e, const Forces& forces, const UOp& q0, const UOp& p0) {
  const UOp dt = UOp::share(e.dt()), half = mul(dt, constant(0.5, dt->dtype));
  const UOp i = index_symbol(), q = like(q0), p = like(p0), worst = symbol(DType::kFloat64, {});
  const UOp j = index_symbol(), mq = like(q0), mp = like(p0);
  const UOp h = scale_to(dt, q), h2 = scale_to(half, q);
  const auto sweep = [&](const UOp& at_q, const UOp& at_p) {
    const auto g = forces.at(at_q, at_p);
    return std::vector<UOp>{add(q, mul(h2, g[1])), sub(p, mul(h2, g[0]))};
  };
  const auto mid = scan(sweep(mq, mp), {j, mq, mp}, constant_int(kMidpointSweeps), {q, p});
  const auto g = forces.at(mid[0], mid[1]);
  const UOp q_new = add(q, mul(h, g[1])), p_new = sub(p, mul(h, g[0]));
  if (q0->size() == 0) return scan({q_new, p_new}, {i, q, p}, UOp::share(e.steps()), {q0, p0});
  const auto again = sweep(mid[0], mid[1]);
  UOp worst_new = worst;
  for (std::size_t k = 0; k < 2; ++k) {
    const UOp size = add(max_abs(mid[k]), constant(kTiny));
    worst_new = max_of(worst_new, div(max_abs(sub(again[k], mid[k])), size));
  }
  const auto last =
      scan({q_new, p_new, worst_new}, {i, q, p, worst}, UOp::share(e.steps()), {q0, p0, constant(0.0)});
  const UOp converged = compare(Op::LE, last[2], constant(kMidpointTolerance));
  const std::initializer_list<std::int64_t> kind = {static_cast<std::int64_t>(CheckKind::kMidpointConverged)};
  return {make(Op::CHECK, {last[0], converged}, kind), make(Op::CHECK, {last[1], converged}, kind)};
}

}  // namespace

UOp force_lambda(const Node* energy, const Node* q, const Node* p) {
  const std::int64_t n = energy->arg(0);
  std::vector<UOp> params(static_cast<std::size_t>(n));
  for (Node* x : toposort(energy->src()))
    if (x->op == Op::PARAM) params[static_cast<std::size_t>(x->arg(0))] = symbol(x->dtype, x->shape());
  if (!params[0]) params[0] = symbol(q->dtype, q->shape());
  if (!params[1]) params[1] = symbol(p->dtype, p->shape());
  for (UOp& s : params)
    if (!s) s = symbol(DType::kFloat64, {});  // captured but unused
  const UOp h = tinyphys::apply(energy, params).front();
  const std::vector<UOp> wrt{params[0], params[1]};
  // Back to the same params; numbers that differentiation made (exponents) stay inside, they belong to the text.
  NodeMap<UOp> back;
  for (std::size_t i = 0; i < params.size(); ++i)
    back.insert(params[i].get(), param(static_cast<std::int64_t>(i), params[i]->dtype, params[i]->shape()));
  const auto closed = substitute(gradient(h, wrt), [&](Node* x) {
    const UOp* r = back.find(x);
    return r ? *r : UOp();
  });
  return make(Op::LAMBDA, std::span<const UOp>(closed), std::span<const std::int64_t>(&n, 1));
}

std::vector<UOp> lower_evolve(const Node* evolve) {
  const EvolveView e(evolve);
  LocationScope at(evolve->location.load(std::memory_order_relaxed));
  Forces forces{force_lambda(e.energy(), e.q(), e.p()), {}};
  for (Node* c : e.captured()) forces.captured.push_back(UOp::share(c));
  const UOp q = UOp::share(e.q()), p = UOp::share(e.p());
  switch (e.integrator()) {
    case IntegratorKind::kLeapfrogKDK:
    case IntegratorKind::kLeapfrogDKD: return leapfrog(e, forces, q, p);
    case IntegratorKind::kImplicitMidpoint: return implicit_midpoint(e, forces, q, p);
    case IntegratorKind::kExact: break;
  }
  throw Error("evolve", "Exact is the exact flow of a quadratic H: it has no loop", "", 0);
}

}  // namespace tinyphys
