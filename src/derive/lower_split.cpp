#include "derive/lower_split.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "derive/lower_evolve.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

UOp flat(const UOp& x) { return reshape(x, Dims{x->size()}); }
// x where the condition (a scalar) is true, else y.
UOp choose(const UOp& condition, const UOp& x, const UOp& y) {
  return where(broadcast_to(condition, x->shape()), x, y);
}
UOp largest(const UOp& x) { return reduce(Reduction::kMax, flat(x), Dims{0}); }
// c h
UOp part_of(const UOp& h, double c) { return c == 1 ? h : mul(h, constant(c)); }

// A of the mollified impulse over one h.
struct Mollifier {
  UOp h;
  UOp a;     // kBlocks: the diagonal of A; kMatrix: A^T; kJump: 1 for what never moves, 0 for the rest
  UOp kick;  // kBlocks: h A; kMatrix: h A^T
  UOp mass;  // kJump: M / h, 0 for what never moves
};

class Split {
 public:
  explicit Split(const Node* evolve)
      : e_(evolve),
        record_(e_.record()),
        step_(row_of(record_.integrator)),
        flow_{.energy = energy_of_flow(evolve, true),
              .captured = {},
              .q = UOp::share(e_.q()),
              .p = UOp::share(e_.p()),
              .batch_axes = record_.batch_axes,
              .dt_in_energy = record_.dt_in_energy},
        dt_(UOp::share(e_.dt())),
        steps_(UOp::share(e_.steps())) {
    for (Node* c : e_.captured()) flow_.captured.push_back(UOp::share(c));
  }

  std::vector<UOp> run() {
    const UOp rest = energy_of_flow(e_.node, false), &q0 = flow_.q, &p0 = flow_.p;
    const auto flow = [&](const UOp& q, const UOp& p, double c) {
      return flow_.run(q, p, part_of(dt_, c), constant_int(1), false);
    };
    if (!rest) return flow_.run(q0, p0, dt_, steps_, false);
    const UOp forces = force_lambda(rest.get(), e_.q(), e_.p());
    if (flow_.energy) prepare();

    ScanParts s;
    s.steps = steps_;
    s.carry = flow_.energy ? flow(q0, p0, step_.flows.front()) : std::vector<UOp>{q0, p0};
    s.carry_params = {symbol_like(e_.q()), symbol_like(e_.p())};
    const UOp h = captured_as_symbol(s, dt_);
    for (auto& [c, map] : maps_) map = map.captured_by(s);
    for (auto& [c, m] : mollifiers_)
      for (UOp* x : {&m.h, &m.a, &m.kick, &m.mass}) *x = captured_as_symbol(s, *x);
    s.next = s.carry_params;
    const std::size_t n = step_.kicks.size();
    for (std::size_t i = 0; i < n; ++i) {
      const double c = step_.kicks[i];
      UOp &q = s.next[0], &p = s.next[1];
      std::vector<UOp> arguments{mollified(c, q), p};
      arguments.insert(arguments.end(), flow_.captured.begin(), flow_.captured.end());
      p = sub(p, kicked(c, h, tinyphys::apply(forces.get(), arguments)[0]));
      if (flow_.energy) s.next = map_of(flow_after(i)).turn(q, p);
    }
    const UOp scan = make_scan(s);
    std::vector<UOp> last{get(scan, 0), get(scan, 1)};
    if (!flow_.energy) return last;
    last = flow(last[0], last[1], -step_.flows.front());
    const UOp none = compare(Op::EQ, steps_, constant_int(0));
    return {choose(none, q0, last[0]), choose(none, p0, last[1])};
  }

 private:
  // The last flow of a step and the first of the next are one.
  double flow_after(std::size_t kick) const {
    const std::size_t n = step_.kicks.size();
    return kick + 1 < n ? step_.flows[kick + 1] : step_.flows[n] + step_.flows[0];
  }
  FlowMap& map_of(double c) {
    return std::find_if(maps_.begin(), maps_.end(), [&](const auto& m) { return m.first == c; })->second;
  }
  const Mollifier* mollifier_of(double c) const {
    for (const auto& [of, m] : mollifiers_)
      if (of == c) return &m;
    return nullptr;
  }

  // What a step needs of the flow, made once.
  void prepare() {
    kind_ = flow_.kind();
    const auto need_map = [&](double c) {
      for (const auto& m : maps_)
        if (m.first == c) return;
      maps_.emplace_back(c, FlowMap(flow_, kind_, part_of(dt_, c), constant_int(1)));
    };
    const std::vector<double>& kicks = step_.kicks;
    for (std::size_t i = 0; i < kicks.size(); ++i) need_map(flow_after(i));
    if (record_.impulse == Impulse::Plain) return;
    const UOp zero = zeros_like(flow_.q), one = ones_like(flow_.q);
    const UOp inverse_mass = sub(flow_.slopes(zero, one)[1], flow_.slopes(zero, zero)[1]);
    UOp plain;  // whether A is 1 all the same
    if (record_.impulse == Impulse::Auto && kind_ != FlowKind::kJump) {
      double part = 0;
      for (const double c : kicks) part = std::max(part, std::fabs(c));
      const UOp h = part_of(dt_, part);
      const UOp most = mul(mul(h, h), largest(unary(Op::ABS, row_sums(inverse_mass))));
      plain = compare(Op::LE, most, constant(1.0));
    }
    for (const double c : kicks) {
      if (mollifier_of(c)) continue;
      Mollifier m{.h = part_of(dt_, c), .a = {}, .kick = {}, .mass = {}};
      UOp x = mul(broadcast_to(m.h, zero->shape()), inverse_mass), identity = one;
      if (kind_ == FlowKind::kMatrix) {
        identity = identity_matrix(zero->size());
        x = broadcast_to(reshape(x, Dims{x->size(), 1}), identity->shape());
      }
      const UOp frozen = compare(Op::EQ, x, zeros_like(x));  // no time, or what never moves
      if (kind_ == FlowKind::kJump) {
        m.a = cast(frozen, DType::kFloat64);
        m.mass = where(frozen, zero, div(one, where(frozen, one, x)));
      } else {
        need_map(c);
        m.a = where(frozen, identity, div(map_of(c).q_by_p(), where(frozen, ones_like(x), x)));
        if (plain) m.a = choose(plain, identity, m.a);
        m.kick = mul(broadcast_to(m.h, m.a->shape()), m.a);
      }
      mollifiers_.emplace_back(c, std::move(m));
    }
  }

  // Of M^-1 K, signs left out where that is not diagonal.
  UOp row_sums(const UOp& inverse_mass) const {
    const UOp zero = zeros_like(flow_.q);
    if (kind_ == FlowKind::kBlocks)
      return mul(inverse_mass, sub(flow_.slopes(ones_like(zero), zero)[0], flow_.slopes(zero, zero)[0]));
    ScanParts rows;
    rows.steps = constant_int(zero->size());
    rows.xs = {identity_matrix(zero->size())};
    rows.row_params = {symbol(DType::kFloat64, Dims{zero->size()})};
    const UOp unit = reshape(rows.row_params[0], zero->shape());
    rows.outs = {flat(sub(flow_.slopes(unit, zero)[0], flow_.slopes(zero, zero)[0]))};
    return mul(flat(inverse_mass), sum(unary(Op::ABS, get(make_scan(rows), 0)), Dims{1}));
  }

  // A q.
  UOp mollified(double c, const UOp& q) const {
    const Mollifier* m = mollifier_of(c);
    if (!m) return q;
    if (kind_ == FlowKind::kBlocks) return mul(m->a, q);
    if (kind_ == FlowKind::kMatrix) return reshape(matmul(reshape(q, Dims{1, q->size()}), m->a), q->shape());
    const UOp moved = flow_.run(zeros_like(q), mul(m->mass, q), m->h, constant_int(1), true)[0];
    return add(moved, mul(m->a, q));
  }
  // c h A^T f, R_qp being symmetric.
  UOp kicked(double c, const UOp& h, const UOp& f) const {
    const Mollifier* m = mollifier_of(c);
    if (!m) return mul(broadcast_to(part_of(h, c), f->shape()), f);
    if (kind_ == FlowKind::kBlocks) return mul(m->kick, f);
    if (kind_ == FlowKind::kMatrix)
      return reshape(matmul(m->kick, reshape(f, Dims{f->size(), 1})), f->shape());
    const UOp moved = mul(m->mass, flow_.run(zeros_like(f), f, m->h, constant_int(1), true)[0]);
    return mul(broadcast_to(m->h, f->shape()), add(moved, mul(m->a, f)));
  }

  EvolveView e_;
  EvolveRecord record_;
  SplitStep step_;
  QuadraticSteps flow_;
  UOp dt_, steps_;
  FlowKind kind_ = FlowKind::kJump;
  // By the part of dt that they are of.
  std::vector<std::pair<double, FlowMap>> maps_;
  std::vector<std::pair<double, Mollifier>> mollifiers_;
};

}  // namespace

SplitStep::SplitStep(const IntegratorRow& row) {
  for (const Substep& s : row.substeps) (s.part == Part::kKick ? flows : kicks).push_back(s.coefficient);
}

bool SplitStep::composed() const {
  for (std::size_t i = 0; i < flows.size(); ++i) {
    const double before = i == 0 ? 0 : kicks[i - 1], after = i < kicks.size() ? kicks[i] : 0;
    if (std::fabs(flows[i] - 0.5 * (before + after)) > 1e-14) return false;
  }
  return true;
}

bool is_split_step(const IntegratorRow& row) {
  return row.first_same_as_last() && row.has(Part::kDrift) && !row.has(Part::kSolve) && row.has_loop();
}

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
  if (!energy) return e.q()->size() <= kMostFlowRows ? FlowKind::kMatrix : FlowKind::kJump;
  return QuadraticSteps{.energy = energy, .captured = {}, .q = UOp::share(e.q()), .p = UOp::share(e.p())}
      .kind();
}

std::vector<UOp> lower_split(const Node* evolve) { return Split(evolve).run(); }

}  // namespace tinyphys
