#include "derive/lower_split.hpp"

#include "derive/batch.hpp"
#include "derive/lower_evolve.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

UOp eye(std::int64_t n) {
  const Dims square{n, n};
  const UOp row = broadcast_to(iota(n), square);
  return cast(compare(Op::EQ, row, transpose_last(row)), DType::kFloat64);
}
UOp flat(const UOp& x) { return reshape(x, Dims{x->size()}); }
// x where the condition (a scalar) is true, else y.
UOp choose(const UOp& condition, const UOp& x, const UOp& y) {
  return where(broadcast_to(condition, x->shape()), x, y);
}
UOp largest(const UOp& x) { return reduce(Reduction::kMax, flat(x), Dims{0}); }

class Split {
 public:
  explicit Split(const Node* evolve)
      : e_(evolve),
        record_(e_.record()),
        energy_(energy_of_flow(evolve, true)),
        q0_(UOp::share(e_.q())),
        p0_(UOp::share(e_.p())),
        dt_(UOp::share(e_.dt())),
        steps_(UOp::share(e_.steps())) {}

  std::vector<UOp> run() {
    const UOp rest = energy_of_flow(e_.node, false);
    if (!rest) return flow(q0_, p0_, dt_, false, steps_);
    const UOp forces = force_lambda(rest.get(), e_.q(), e_.p());
    const UOp half = mul(dt_, constant(0.5));
    if (energy_) prepare();

    ScanParts s;
    s.steps = steps_;
    s.carry = energy_ ? flow(q0_, p0_, half, false) : std::vector<UOp>{q0_, p0_};
    s.carry_params = {symbol_like(e_.q()), symbol_like(e_.p())};
    // Captured by name: a map of numbers alone would else be made anew in each step.
    const auto inside = [&](UOp& x) {
      if (!x) return;
      s.captured.push_back(x);
      s.captured_params.push_back(symbol_like(x.get()));
      x = s.captured_params.back();
    };
    UOp h = dt_;
    for (UOp* x : {&h, &map_, &offset_, &mollifier_, &mass_}) inside(*x);
    std::vector<UOp> arguments{mollified(s.carry_params[0]), s.carry_params[1]};
    for (Node* c : e_.captured()) arguments.push_back(UOp::share(c));
    const UOp pull = mollified_force(tinyphys::apply(forces.get(), arguments)[0]);
    const UOp kicked = sub(s.carry_params[1], mul(broadcast_to(h, pull->shape()), pull));
    s.next = energy_ ? turn(s.carry_params[0], kicked, h) : std::vector<UOp>{s.carry_params[0], kicked};
    const UOp scan = make_scan(s);
    std::vector<UOp> last{get(scan, 0), get(scan, 1)};
    if (!energy_) return last;
    last = flow(last[0], last[1], neg(half), false);
    const UOp none = compare(Op::EQ, steps_, constant_int(0));
    return {choose(none, q0_, last[0]), choose(none, p0_, last[1])};
  }

 private:
  // R(h)^steps, or its linear part.
  std::vector<UOp> flow(const UOp& q, const UOp& p, const UOp& h, bool linear,
                        const UOp& steps = constant_int(1)) const {
    std::vector<UOp> src{energy_, h, steps, q, p};
    for (Node* c : e_.captured()) src.push_back(UOp::share(c));
    EvolveRecord record;
    record.integrator = Integrator::Exact;
    record.linear_part = linear;
    record.batch_axes = record_.batch_axes;
    record.dt_in_energy = record_.dt_in_energy;
    const UOp evolve = make(Op::EVOLVE, std::span<const UOp>(src), record.encode());
    return {get(evolve, 0), get(evolve, 1)};
  }
  // grad H of the flow's terms.
  std::vector<UOp> slopes(const UOp& q, const UOp& p) const {
    std::vector<UOp> arguments{q, p};
    for (Node* c : e_.captured()) arguments.push_back(UOp::share(c));
    return tinyphys::apply(force_lambda(energy_.get(), e_.q(), e_.p()).get(), arguments);
  }

  // What a step needs of R(h), made once.
  void prepare() {
    kind_ = flow_kind(e_.node);
    const UOp zero = zeros_like(q0_), one = ones_like(q0_);
    const UOp inverse_mass = sub(slopes(zero, one)[1], slopes(zero, zero)[1]);
    const bool may_mollify = record_.impulse != Impulse::Plain;
    if (kind_ == FlowKind::kJump) {
      if (may_mollify) {
        const UOp x = mul(broadcast_to(dt_, zero->shape()), inverse_mass);
        const UOp frozen = compare(Op::EQ, x, zero);
        mollifier_ = cast(frozen, DType::kFloat64);
        mass_ = where(frozen, zero, div(one, where(frozen, one, x)));
      }
      return;
    }
    const std::vector<UOp> rest = flow(zero, zero, dt_, false);
    UOp a, b, c, d, bound, identity;
    if (kind_ == FlowKind::kBlocks) {
      const std::vector<UOp> by_q = flow(one, zero, dt_, true), by_p = flow(zero, one, dt_, true);
      map_ = stack(std::vector<UOp>{by_q[0], by_p[0], by_q[1], by_p[1]}, 0);
      offset_ = stack(rest, 0);
      b = by_p[0];
      identity = one;
      bound = mul(inverse_mass, sub(slopes(one, zero)[0], slopes(zero, zero)[0]));
    } else {
      const std::int64_t n = q0_->size();
      identity = eye(n);
      ScanParts rows;
      rows.steps = constant_int(n);
      rows.xs = {identity};
      rows.row_params = {symbol(DType::kFloat64, Dims{n})};
      const UOp unit = reshape(rows.row_params[0], q0_->shape());
      for (const auto& image : {flow(unit, zero, dt_, true), flow(zero, unit, dt_, true)})
        for (const UOp& part : image) rows.outs.push_back(flat(part));
      rows.outs.push_back(flat(sub(slopes(unit, zero)[0], slopes(zero, zero)[0])));
      const UOp scan = make_scan(rows);
      a = get(scan, 0), c = get(scan, 1), b = get(scan, 2), d = get(scan, 3);  // row i: the image of unit i
      map_ = cat(std::vector<UOp>{cat(std::vector<UOp>{a, c}, 1), cat(std::vector<UOp>{b, d}, 1)}, 0);
      offset_ = cat(std::vector<UOp>{flat(rest[0]), flat(rest[1])}, 0);
      bound = mul(flat(inverse_mass), sum(unary(Op::ABS, get(scan, 4)), Dims{1}));
    }
    if (!may_mollify) return;
    UOp x = mul(broadcast_to(dt_, zero->shape()), inverse_mass);
    if (kind_ == FlowKind::kMatrix) x = broadcast_to(reshape(x, Dims{x->size(), 1}), identity->shape());
    const UOp frozen = compare(Op::EQ, x, zeros_like(x));  // no time, or what never moves
    mollifier_ = where(frozen, identity, div(b, where(frozen, ones_like(x), x)));
    if (record_.impulse == Impulse::Mollified) return;
    const UOp most = mul(mul(dt_, dt_), largest(unary(Op::ABS, bound)));
    mollifier_ = choose(compare(Op::LE, most, constant(1.0)), identity, mollifier_);
  }

  std::vector<UOp> turn(const UOp& q, const UOp& p, const UOp& h) const {
    if (kind_ == FlowKind::kJump) return flow(q, p, h, false);
    if (kind_ == FlowKind::kBlocks) {
      const auto part = [&](const UOp& of, std::int64_t i) { return index_axis(of, 0, i); };
      std::vector<UOp> out;
      for (std::int64_t i = 0; i < 2; ++i)
        out.push_back(add(add(mul(part(map_, 2 * i), q), mul(part(map_, 2 * i + 1), p)), part(offset_, i)));
      return out;
    }
    const std::int64_t n = q->size();
    const UOp z = reshape(cat(std::vector<UOp>{flat(q), flat(p)}, 0), Dims{1, 2 * n});
    const UOp next = add(reshape(matmul(z, map_), Dims{2 * n}), offset_);
    return {reshape(slice_axis(next, 0, 0, n), q->shape()),
            reshape(slice_axis(next, 0, n, 2 * n), q->shape())};
  }

  // A q.
  UOp mollified(const UOp& q) const {
    if (!mollifier_) return q;
    if (kind_ == FlowKind::kBlocks) return mul(mollifier_, q);
    if (kind_ == FlowKind::kMatrix)
      return reshape(matmul(reshape(q, Dims{1, q->size()}), mollifier_), q->shape());
    const UOp moved = flow(zeros_like(q), mul(mass_, q), dt_, true)[0];
    return add(moved, mul(mollifier_, q));
  }
  // A^T f, R_qp being symmetric.
  UOp mollified_force(const UOp& f) const {
    if (!mollifier_) return f;
    if (kind_ == FlowKind::kBlocks) return mul(mollifier_, f);
    if (kind_ == FlowKind::kMatrix)
      return reshape(matmul(mollifier_, reshape(f, Dims{f->size(), 1})), f->shape());
    const UOp moved = mul(mass_, flow(zeros_like(f), f, dt_, true)[0]);
    return add(moved, mul(mollifier_, f));
  }

  EvolveView e_;
  EvolveRecord record_;
  UOp energy_;  // of the flow
  UOp q0_, p0_, dt_, steps_;
  FlowKind kind_ = FlowKind::kJump;
  UOp map_,
      offset_;  // kBlocks: [4, ...] and [2, ...]; kMatrix: [2 n, 2 n], a row for each part of the state, and [2 n]
  UOp mollifier_;  // kBlocks: the diagonal of A; kMatrix: A^T; kJump: 1 for what never moves, 0 for the rest
  UOp mass_;       // kJump: M / h, 0 for what never moves
};

}  // namespace

UOp energy_of_flow(const Node* evolve, bool flow) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  std::vector<UOp> terms;
  for (std::size_t i = 0; i < record.flows.size(); ++i)
    if ((record.flows[i] != 0) == flow) terms.push_back(UOp::share(e.energy()->src(i)));
  if (terms.empty()) return {};
  const UOp sum = total_energy(terms);
  return with_outputs(e.energy(), std::span(&sum, 1));
}

FlowKind flow_kind(const Node* evolve) {
  const EvolveView e(evolve);
  const UOp energy = energy_of_flow(evolve, true);
  if (energy) {
    const UOp forces = force_lambda(energy.get(), e.q(), e.p());
    if (!prove_independent(forces.get(), e.q()->shape().size()).culprit) return FlowKind::kBlocks;
  }
  return e.q()->size() <= kMostFlowRows ? FlowKind::kMatrix : FlowKind::kJump;
}

std::vector<UOp> lower_split(const Node* evolve) { return Split(evolve).run(); }

}  // namespace tinyphys
