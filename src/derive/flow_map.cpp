#include "derive/flow_map.hpp"

#include "derive/batch.hpp"
#include "derive/lower_evolve.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

UOp flat(const UOp& x) { return reshape(x, Dims{x->size()}); }

}  // namespace

UOp identity_matrix(std::int64_t n) {
  const Dims square{n, n};
  const UOp row = broadcast_to(iota(n), square);
  return cast(compare(Op::EQ, row, transpose_last(row)), DType::kFloat64);
}

UOp captured_as_symbol(ScanParts& loop, const UOp& x) {
  if (!x) return x;
  loop.captured.push_back(x);
  loop.captured_params.push_back(symbol_like(x.get()));
  return loop.captured_params.back();
}

FlowKind QuadraticSteps::kind() const {
  const UOp forces = force_lambda(energy.get(), q.get(), p.get());
  if (!prove_independent(forces.get(), q->shape().size()).culprit) return FlowKind::kBlocks;
  return q->size() <= kMostFlowRows ? FlowKind::kMatrix : FlowKind::kJump;
}

std::vector<UOp> QuadraticSteps::run(const UOp& at_q, const UOp& at_p, const UOp& h, const UOp& steps,
                                     bool linear) const {
  std::vector<UOp> src{energy, h, steps, at_q, at_p};
  src.insert(src.end(), captured.begin(), captured.end());
  EvolveRecord record;
  record.integrator = integrator;
  record.linear_part = linear;
  record.batch_axes = batch_axes;
  record.dt_in_energy = dt_in_energy;
  const UOp evolve = make(Op::EVOLVE, std::span<const UOp>(src), record.encode());
  return {get(evolve, 0), get(evolve, 1)};
}

std::vector<UOp> QuadraticSteps::slopes(const UOp& at_q, const UOp& at_p) const {
  std::vector<UOp> arguments{at_q, at_p};
  arguments.insert(arguments.end(), captured.begin(), captured.end());
  return tinyphys::apply(force_lambda(energy.get(), q.get(), p.get()).get(), arguments);
}

FlowMap::FlowMap(const QuadraticSteps& of, FlowKind kind, const UOp& h, const UOp& steps)
    : of_(&of), kind_(kind), h_(h), steps_(steps) {
  if (kind == FlowKind::kJump) return;
  const UOp zero = zeros_like(of.q), one = ones_like(of.q);
  const std::vector<UOp> rest = of.run(zero, zero, h, steps, false);
  if (kind == FlowKind::kBlocks) {
    const std::vector<UOp> by_q = of.run(one, zero, h, steps, true), by_p = of.run(zero, one, h, steps, true);
    map_ = stack(std::vector<UOp>{by_q[0], by_p[0], by_q[1], by_p[1]}, 0);
    offset_ = stack(rest, 0);
    q_by_p_ = by_p[0];
    return;
  }
  const std::int64_t n = of.q->size();
  ScanParts rows;
  rows.steps = constant_int(n);
  rows.xs = {identity_matrix(n)};
  rows.row_params = {symbol(DType::kFloat64, Dims{n})};
  const UOp unit = reshape(rows.row_params[0], of.q->shape());
  for (const auto& image : {of.run(unit, zero, h, steps, true), of.run(zero, unit, h, steps, true)})
    for (const UOp& part : image) rows.outs.push_back(flat(part));
  const UOp scan = make_scan(rows);
  // Row i: the image of unit i.
  const UOp a = get(scan, 0), c = get(scan, 1), b = get(scan, 2), d = get(scan, 3);
  map_ = cat(std::vector<UOp>{cat(std::vector<UOp>{a, c}, 1), cat(std::vector<UOp>{b, d}, 1)}, 0);
  offset_ = cat(std::vector<UOp>{flat(rest[0]), flat(rest[1])}, 0);
  q_by_p_ = b;
}

FlowMap FlowMap::captured_by(ScanParts& loop) const {
  FlowMap inside = *this;
  for (UOp* x : {&inside.map_, &inside.offset_}) *x = captured_as_symbol(loop, *x);
  if (kind_ == FlowKind::kJump) inside.h_ = captured_as_symbol(loop, h_);
  return inside;
}

std::vector<UOp> FlowMap::turn(const UOp& q, const UOp& p) const {
  if (kind_ == FlowKind::kJump) return of_->run(q, p, h_, steps_, false);
  if (kind_ == FlowKind::kBlocks) {
    const auto part = [&](const UOp& of, std::int64_t i) { return index_axis(of, 0, i); };
    std::vector<UOp> out;
    for (std::int64_t i = 0; i < 2; ++i)
      // In this order: two fused products and sums.
      out.push_back(add(mul(part(map_, 2 * i), q), add(mul(part(map_, 2 * i + 1), p), part(offset_, i))));
    return out;
  }
  const std::int64_t n = q->size();
  const UOp z = reshape(cat(std::vector<UOp>{flat(q), flat(p)}, 0), Dims{1, 2 * n});
  const UOp next = add(reshape(matmul(z, map_), Dims{2 * n}), offset_);
  return {reshape(slice_axis(next, 0, 0, n), q->shape()), reshape(slice_axis(next, 0, n, 2 * n), q->shape())};
}

}  // namespace tinyphys
