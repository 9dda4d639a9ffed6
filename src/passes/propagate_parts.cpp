#include "passes/propagate_parts.hpp"

#include <algorithm>

#include "derive/batch.hpp"
#include "derive/gradient.hpp"
#include "derive/scan_tape.hpp"
#include "derive/vmap.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

constexpr std::int64_t kMostSums = std::int64_t{1} << 24;

// [rows, shape of x]: in row first + r the r-th of the `own` coordinates of each member is 1.
UOp unit_states(std::int64_t rows, std::int64_t first, std::int64_t own, const UOp& x) {
  const Dims square{rows, own}, members{x->size() / own, rows, own};
  Dims shape = shape_of(x.get());
  shape.insert(shape.begin(), rows);
  const UOp unit = cast(compare(Op::EQ, broadcast_to(reshape(iota(rows), Dims{rows, 1}), square),
                                broadcast_to(offset(iota(own), first), square)),
                        x->dtype);
  return reshape(move_axis(broadcast_to(unit, members), 0, 1), shape);
}

}  // namespace

std::int64_t size_of_member(const Node* body, std::size_t first, std::span<Node* const> state) {
  std::size_t common = state[0]->n_dim;
  std::int64_t all = 0;
  for (const Node* s : state) {
    const auto a = s->shape(), b = state[0]->shape();
    const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
    common = std::min(common, static_cast<std::size_t>(end - a.begin()));
    all += s->size();
  }
  for (std::size_t batch = common; batch > 0; --batch) {
    if (prove_independent(body, batch, first, state.size()).culprit) continue;
    for (const std::int64_t d : state[0]->shape().first(batch)) all /= std::max<std::int64_t>(d, 1);
    break;
  }
  return all;
}

std::vector<UOp> by_sums(const GradientBySums& of) {
  const PropagateView forward(of.propagate.get());
  const bool hamiltonian = forward.kind() == PropagateKind::kHamiltonian;
  const std::size_t n_state = forward.n_state, n_captured = forward.captured().size();
  std::int64_t size = 0, of_state = 0;
  for (Node* s : forward.state()) size += s->size();
  of_state = of.separable ? size / 2 : size;
  if (size == 0 || of.rows > kMostSums / size) return {};

  std::vector<UOp> src{UOp(), UOp::share(forward.map()), UOp(), UOp::share(forward.loop())};
  for (std::size_t i = forward.first; i < of.propagate->n_src; ++i) src.push_back(of.propagate.src(i));
  src.insert(src.end(), of.cotangents.begin(), of.cotangents.end());
  std::vector<UOp> params = loop_params(std::span(src).subspan(4));
  const std::size_t n_of_loop = params.size();
  for (const bool matrices : {true, false})
    for (Node* s : forward.state()) {
      Dims shape = shape_of(s);
      if (matrices) shape.insert(shape.begin(), of.rows);
      params.push_back(param(static_cast<std::int64_t>(params.size()), s->dtype, shape));
    }
  // Both programs are made over symbols.
  std::vector<UOp> symbols;
  NodeMap<UOp> param_of;
  for (const UOp& x : params) {
    symbols.push_back(symbol_like(x.get()));
    param_of.insert(symbols.back().get(), x);
  }
  const auto program = [&](std::vector<UOp> outputs, std::size_t n) {
    outputs = substitute(outputs, [&](Node* x) {
      const UOp* known = param_of.find(x);
      return known ? *known : UOp();
    });
    return lambda_of(outputs, n);
  };
  const std::span<const UOp> all(symbols),
      state = all.subspan(1, n_state), captured = all.subspan(1 + n_state, n_captured),
      cotangents = all.subspan(n_of_loop - n_state, n_state), of_matrices = all.subspan(n_of_loop, n_state),
      of_vectors = all.subspan(n_of_loop + n_state);

  std::vector<UOp> outputs;
  if (of.tape) {
    // A tape is as long as a number says.
    const UOp steps = is_const(forward.steps()) ? UOp::share(forward.steps()) : symbols[0];
    outputs = lower_vjps(of.tape(steps, state, captured, cotangents));
  }
  src[0] = program(outputs, n_of_loop);

  // The change of a loss by what is captured: the sums with the derivative of the map by each coordinate, a tangent, which
  // cancels nothing, and with the map at the start.
  std::vector<UOp> at, along, units;
  std::int64_t row = 0;
  for (const UOp& s : state) {
    at.push_back(symbol_like(s.get()));
    along.push_back(symbol_like(s.get()));
    const std::int64_t own = of.rows * s->size() / of_state;
    units.push_back(unit_states(of.rows, of.separable ? 0 : row, own, s));
    row += own;
  }
  const std::vector<UOp> gives = of.map(at, captured);
  UOp change = constant(0.0);
  for (std::size_t i = 0; i < n_state; ++i) {
    const std::size_t first = of.separable ? i : 0, n = of.separable ? 1 : n_state;
    const UOp tangent =
        jvp(std::span(&gives[i], 1), std::span(at).subspan(first, n), std::span(along).subspan(first, n))[0];
    if (tangent)
      if (const UOp each = vmap(std::span(&tangent, 1), std::span(along).subspan(first, n),
                                std::span(units).subspan(first, n))[0])
        change = add(change, dot(of_matrices[i], each));
    change = add(change, dot(of_vectors[i], gives[i]));
  }
  change = substitute(change, [&](Node* n) {
    for (std::size_t i = 0; i < n_state; ++i)
      if (n == at[i].get()) return state[i];
    return UOp();
  });
  // The sums of a Hamiltonian are those of a step of 1: a loss changes by dt times that, and by dt itself as H does.
  const UOp by = hamiltonian ? captured[0] : constant(1.0);
  std::vector<UOp> wrt;
  for (const std::size_t i : of.by) wrt.push_back(captured[i]);
  outputs = vjp(std::span(&change, 1), std::span(&by, 1), wrt);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i]) outputs[i] = zeros_like(wrt[i]);
    if (hamiltonian && of.by[i] == 0) outputs[i] = change;
  }
  src[2] = program(lower_vjps(outputs), params.size());

  std::vector<std::int64_t> arg(forward.system().begin(), forward.system().end());
  if (hamiltonian) arg[3] = of.separable;
  arg.push_back(of.rows);
  const UOp back = make(Op::PROPAGATE_VJP, std::span<const UOp>(src), arg);
  std::vector<UOp> out;
  for (std::size_t i = 0; i < of.by.size(); ++i) out.push_back(get(back, static_cast<std::int64_t>(i)));
  return out;
}

}  // namespace tinyphys
