#include "passes/loop_lift.hpp"

#include <algorithm>
#include <optional>

#include "derive/gradient.hpp"
#include "derive/gradient_rules.hpp"
#include "derive/jvp.hpp"
#include "derive/lower_evolve.hpp"
#include "passes/proof_cache.hpp"
#include "passes/propagate_parts.hpp"
#include "passes/resonances.hpp"
#include "rewrite/rewrite.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// An identity test beyond this work is run only where the degree bound alone does not decide.
constexpr double kCheapWork = 3e5;
// Up to so many coordinates coupled, the modes cost less than asking for what is cheaper.
constexpr std::int64_t kFewCoordinates = 512;
// Inputs of an EVOLVE, as its vjp counts them.
constexpr std::size_t kOfDt = 0, kOfQ = 2, kOfP = 3, kFirstCaptured = 4;

std::vector<StateGroup> groups_of(const Node* energy) {
  std::vector<StateGroup> g(static_cast<std::size_t>(energy->arg(0)), StateGroup::kNone);
  g[0] = StateGroup::kQ;
  g[1] = StateGroup::kP;
  return g;
}

// The numbers behind the PARAMs of an energy, those of the subgraphs that were taken out included.
Constants constants_of(const EvolveView& e, std::span<const UOp> taken_out) {
  Constants c(2);
  for (Node* n : e.captured())
    c.push_back(is_const(n) ? std::optional(evaluate<double>(UOp::share(n))) : std::nullopt);
  std::vector<Node*> roots, known_roots;
  for (const UOp& v : taken_out) roots.push_back(v.get());
  const NodeMap<char> known = known_nodes(roots, {}, c);
  for (Node* n : roots)
    if (known.at(n)) known_roots.push_back(n);
  auto folded = fold(known_roots, c);
  for (std::size_t i = 0, k = 0; i < roots.size(); ++i)
    c.push_back(known.at(roots[i]) ? std::optional(std::move(folded[k++])) : std::nullopt);
  return c;
}

// For messages: what was taken out of the energy reads as the user wrote it.
std::vector<std::string> names_of(const Node* energy, std::span<const UOp> taken_out) {
  std::vector<std::string> names{"q", "p"};
  if (taken_out.empty()) return names;
  for (std::int64_t i = 2; i < energy->arg(0); ++i) names.push_back("x" + std::to_string(i));
  for (const UOp& v : taken_out) names.push_back("(" + to_infix(v.get(), 30, names) + ")");
  return names;
}

EnergyProof prove(const Node* evolve) {
  const EvolveView e(evolve);
  EnergyProof proof;
  // State-independent subgraphs are taken out before any rule of the real numbers could look at them.
  const Independent split = take_out_independent(e.energy(), groups_of(e.energy()));
  proof.taken_out = split.values;
  const UOp simplified =
      with_outputs(split.body.get(), simplify_for_recognition(outputs_of(split.body.get())));
  const Node* energy = simplified.get();
  proof.energy = simplified;
  const auto groups = groups_of(energy);
  const Constants constants = constants_of(e, split.values);
  const auto names = names_of(e.energy(), split.values);

  proof.separable = test_separable(energy, groups, constants, names);
  proof.needs_values = proof.separable.needed_values;
  proof.values_decide = proof.separable.values_decide;
  proof.bound = bound_degree(energy, groups, 2, names);
  if (!proof.bound.worst.finite()) {
    proof.refused = proof.bound.reason;
    return proof;
  }
  const bool bound_decides = proof.bound.worst.joint <= 2;
  if (!bound_decides || evaluation_work(energy) <= kCheapWork)
    proof.identity = test_degree(energy, groups, proof.bound, 2, constants);
  else
    proof.identity.holds = true;
  proof.needs_values |= proof.identity.needed_values;
  proof.values_decide |= proof.identity.values_decide;
  if (!proof.identity.holds) {
    proof.refused = proof.identity.reason;
    return proof;
  }
  proof.quadratic = true;
  return proof;
}

}  // namespace

Constants numbers_of(const Node* evolve, std::span<const UOp> taken_out) {
  return constants_of(EvolveView(evolve), taken_out);
}

std::shared_ptr<const EnergyProof> prove_energy(const Node* evolve) {
  // Proofs are kept per energy and captured constants. One that no value can change is stored without them, so that
  // other constants find it too.
  static auto* cache = new ProofCache<EnergyProof>;  // outlives static handles

  const EvolveView e(evolve);
  std::vector<UOp> with_values{UOp::share(e.energy())};
  for (Node* n : e.captured()) with_values.push_back(is_const(n) ? UOp::share(n) : UOp::share(e.energy()));
  const UOp plain = make(Op::SINK, {UOp::share(e.energy())});
  const UOp exact = make(Op::SINK, std::span<const UOp>(with_values), std::initializer_list<std::int64_t>{1});
  for (const UOp& key : {plain, exact})
    if (auto known = cache->find(key)) return known;
  auto proof = std::make_shared<const EnergyProof>(prove(evolve));
  cache->keep(proof->values_decide ? exact : plain, proof);
  return proof;
}

std::int64_t value_verdict(const Node* evolve) {
  const auto proof = prove_energy(evolve);
  if (!proof->needs_values) return 0;
  return EvolveRecord::kDecided | (proof->quadratic ? EvolveRecord::kQuadratic : 0) |
         (proof->separable.separable ? EvolveRecord::kSeparable : 0) |
         (proof->identity.values_decide ? EvolveRecord::kQuadraticNow : 0) |
         (proof->separable.values_decide ? EvolveRecord::kSeparableNow : 0);
}

namespace {

// Of real numbers: 0 x is 0.
bool is_zero(Node* root) {
  NodeMap<char> zero;
  for (Node* n : toposort(std::span<Node* const>(&root, 1))) {
    const auto of = [&](std::size_t i) { return zero.contains(n->src(i)); };
    bool is = false;
    switch (n->op) {
      case Op::CONST: is = is_float(n->dtype) && const_double(n) == 0.0; break;
      case Op::MUL:
      case Op::MATMUL: is = of(0) || of(1); break;
      case Op::ADD:
      case Op::SUB: is = of(0) && of(1); break;
      case Op::WHERE: is = of(1) && of(2); break;
      case Op::PAD: is = of(0) && n->arg(0) == 0; break;
      case Op::POWI: is = of(0) && n->arg(0) > 0; break;
      case Op::NEG:
      case Op::DIV:
      case Op::CAST:
      case Op::CUMSUM:
      case Op::FFT:
      case Op::RFFT:
      case Op::IRFFT:
      case Op::GATHER: is = of(0); break;
      case Op::REDUCE: is = of(0) && static_cast<Reduction>(n->arg(0)) == Reduction::kSum; break;
      case Op::SCATTER_ADD: is = of(0) && of(2); break;
      case Op::CAT:
        is = true;
        for (std::size_t i = 0; i < n->n_src; ++i) is = is && of(i);
        break;
      default: is = is_movement(n->op) && of(0); break;
    }
    if (is) zero.insert(n, 1);
  }
  return zero.contains(root);
}

// grad H, or its linear part grad H(z) - grad H(0).
UOp forces_of(const Node* energy, const EvolveView& e, bool linear_part) {
  const UOp forces = force_lambda(energy, e.q(), e.p());
  if (!linear_part) return forces;
  std::vector<UOp> out;
  for (Node* part : forces->src()) {
    const UOp at_rest = substitute(UOp::share(part), [](Node* n) {
      return n->op == Op::PARAM && n->arg(0) < 2 ? zeros_like(UOp::share(n)) : UOp();
    });
    out.push_back(is_zero(at_rest.get()) ? UOp::share(part) : sub(UOp::share(part), at_rest));
  }
  return with_outputs(forces.get(), out);
}

// The tangent of grad H: its linear part as the steps of a loop take it, also where H rounds on purpose.
UOp tangent_forces(const EvolveView& e) {
  const UOp forces = force_lambda(e.energy(), e.q(), e.p());
  const std::vector<UOp> at{symbol_like(e.q()), symbol_like(e.p())},
      along{symbol_like(e.q()), symbol_like(e.p())};
  std::vector<UOp> params{param(0, e.q()->dtype, e.q()->shape()), param(1, e.p()->dtype, e.p()->shape())};
  std::vector<UOp> arguments = at, symbols = along;
  for (Node* c : e.captured()) {
    arguments.push_back(symbol_like(c));
    symbols.push_back(arguments.back());
    params.push_back(param(static_cast<std::int64_t>(params.size()), c->dtype, c->shape()));
  }
  std::vector<UOp> out = jvp(tinyphys::apply(forces.get(), arguments), at, along);
  for (std::size_t i = 0; i < 2; ++i)
    if (!out[i]) out[i] = zeros_like(at[i]);
  out = substitute(out, [&](Node* n) -> UOp {
    if (n == at[0].get() || n == at[1].get()) return zeros_like(UOp::share(n));
    for (std::size_t i = 0; i < symbols.size(); ++i)
      if (n == symbols[i].get()) return params[i];
    return {};
  });
  return lambda_of(out, params.size());
}

// What a PROPAGATE says of the system: the map, and what is captured, dt first among it.
struct Map {
  std::vector<UOp> captured;  // of the loop, and after it what was taken out of H
  std::size_t n_of_loop = 0;
  UOp map;  // LAMBDA params [q, p, captured...]
  bool separable = false;
};
std::optional<Map> map_of(const Node* evolve, const UOp& dt, const UOp& q, const UOp& p, bool linear_part) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  if (record.timed || (record.method == Method::Loop && e.row().has_loop())) return {};
  if (record.reversible == Reversible::Exact) return {};  // another loop
  if (!record.levels.empty() || !record.flows.empty())
    return {};  // another map than that of the integrator's row
  // In a plan the numbers of H are arguments: what was decided from them came with the record.
  const auto proof = prove_energy(evolve);
  const bool told = record.verdict != 0;
  const bool quadratic = told ? (record.verdict & EvolveRecord::kQuadratic) != 0 : proof->quadratic;
  if (!quadratic) return {};
  Map out;
  out.separable = told ? (record.verdict & EvolveRecord::kSeparable) != 0 : proof->separable.separable;
  out.captured.push_back(dt);
  std::vector<UOp> arguments{q, p};
  for (Node* c : e.captured()) {
    out.captured.push_back(UOp::share(c));
    arguments.push_back(out.captured.back());
  }
  out.n_of_loop = out.captured.size();
  // What was taken out of the energy is computed by the runtime, once, and comes in as data.
  for (const UOp& v : proof->taken_out) out.captured.push_back(over(v, arguments));
  std::vector<UOp> forces_at{param(0, q->dtype, q->shape()), param(1, p->dtype, p->shape())};
  for (std::size_t i = 1; i < out.captured.size(); ++i)  // the forces do not take dt
    forces_at.push_back(
        param(static_cast<std::int64_t>(i) + 2, out.captured[i]->dtype, out.captured[i]->shape()));
  out.map = lambda_of(tinyphys::apply(forces_of(proof->energy.get(), e, linear_part).get(), forces_at),
                      2 + out.captured.size());
  return out;
}

// The evolution from another state by another step, of H or of its quadratic part.
UOp propagate(const Node* evolve, const UOp& dt, const UOp& q, const UOp& p, bool linear_part) {
  const EvolveView e(evolve);
  LocationScope at(evolve->location.load(std::memory_order_relaxed));
  const std::optional<Map> map = map_of(evolve, dt, q, p, linear_part);
  if (!map) return {};
  // The loop is a closed program over [steps, state, captured...].
  std::vector<UOp> src{UOp(), map->map, UOp::share(e.steps()), q, p};
  src.insert(src.end(), map->captured.begin(), map->captured.end());
  const std::vector<UOp> params = loop_params(std::span(src).subspan(2));
  std::vector<UOp> outputs;
  if (e.row().has_loop())
    outputs = loop_of_steps(
        {.record = e.record(),
         .forces = linear_part ? tangent_forces(e) : force_lambda(e.energy(), e.q(), e.p()),
         .dt = params[3],
         .steps = params[0],
         .q = params[1],
         .p = params[2],
         .captured = {params.begin() + 4, params.begin() + 3 + static_cast<std::ptrdiff_t>(map->n_of_loop)}});
  src[0] = lambda_of(outputs, params.size());
  const std::vector<std::int64_t> arg{static_cast<std::int64_t>(PropagateKind::kHamiltonian), 2,
                                      static_cast<std::int64_t>(e.record().integrator), map->separable};
  return make(Op::PROPAGATE, std::span<const UOp>(src), arg);
}

// Whether the velocity of each coordinate is provably that of its own momentum: only then are the sums of a gradient those of
// pairs of modes (linalg/mode_moments.hpp).
bool has_single_masses(const UOp& forces) {
  const UOp velocity = UOp::share(forces->src(1));
  const UOp alone = with_outputs(forces.get(), std::span(&velocity, 1));
  const std::vector<Node*> momentum{velocity.get()};  // of its shape
  return size_of_member(alone.get(), 1, momentum) == 1;
}

// The cotangents of inputs of the EVOLVE (numbers from 0: dt, steps, q, p, captured...) by the sums of their gradient, which
// need no tape; nothing where they cannot be had.
std::vector<UOp> sums_of(const UOp& evolve, const std::vector<std::size_t>& wanted, const UOp& of_q,
                         const UOp& of_p) {
  const EvolveView e(evolve.get());
  GradientBySums by;
  by.propagate = lift_evolve(evolve.get());
  if (!by.propagate) return {};
  // What only holds for the values that H has now (a q^4 for a = 0) does not hold for what it has beside them.
  const std::int64_t verdict = e.record().verdict != 0 ? e.record().verdict : value_verdict(evolve.get());
  if (verdict & EvolveRecord::kQuadraticNow) return {};
  const bool now = verdict & EvolveRecord::kSeparableNow;
  if (now && e.row().needs_separable()) return {};
  by.cotangents = {of_q, of_p};
  const UOp forces = forces_of(e.energy(), e, e.record().linear_part);
  const std::vector<Node*> state{e.q(), e.p()};
  by.separable = PropagateView(by.propagate.get()).separable() && !now && has_single_masses(forces);
  by.rows = size_of_member(forces.get(), 0, state) / (by.separable ? 2 : 1);
  for (const std::size_t i : wanted) by.by.push_back(i == kOfDt ? 0 : i - kFirstCaptured + 1);
  const std::size_t n_captured = e.captured().size();
  by.map = [&](std::span<const UOp> at, std::span<const UOp> captured) {
    std::vector<UOp> arguments(at.begin(), at.end());
    const auto of_h = captured.subspan(1, n_captured);
    arguments.insert(arguments.end(), of_h.begin(), of_h.end());
    return tinyphys::apply(forces.get(), arguments);
  };
  if (e.row().has_loop())
    by.tape = [&](const UOp& steps, std::span<const UOp> at, std::span<const UOp> captured,
                  std::span<const UOp> cotangents) {
      std::vector<UOp> src{UOp::share(e.energy()), captured[0], steps, at[0], at[1]};
      const auto of_h = captured.subspan(1, n_captured);
      src.insert(src.end(), of_h.begin(), of_h.end());
      const UOp again = make(Op::EVOLVE, std::span<const UOp>(src), evolve->arg());
      const UOp back = vjp_node(again, {cotangents[0], cotangents[1]});
      std::vector<UOp> outputs;
      for (const std::size_t i : wanted) outputs.push_back(get(back, static_cast<std::int64_t>(i)));
      return outputs;
    };
  return by_sums(by);
}

}  // namespace

UOp lift_evolve(const Node* evolve) {
  const EvolveView e(evolve);
  return propagate(evolve, UOp::share(e.dt()), UOp::share(e.q()), UOp::share(e.p()), e.record().linear_part);
}

std::vector<UOp> lift_gradient(const Node* evolve_vjp, const std::vector<bool>& wanted) {
  const VjpCall call(const_cast<Node*>(evolve_vjp));
  const UOp evolve = call.primal(call.inputs);
  const EvolveView e(evolve.get());
  const UOp &of_q = call.cotangents[0], &of_p = call.cotangents[1];
  LocationScope at(evolve_vjp->location.load(std::memory_order_relaxed));
  std::vector<std::size_t> others;  // dt, and what H is made of
  std::vector<UOp> out(call.inputs.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (!wanted[i] || i == kOfQ || i == kOfP) continue;
    if (is_float(call.inputs[i]->dtype))
      others.push_back(i);
    else
      out[i] = zeros_like(call.inputs[i]);
  }
  if (wanted[kOfQ] || wanted[kOfP]) {
    if (!e.row().symmetric()) return {};
    const UOp back = propagate(evolve.get(), neg(UOp::share(e.dt())), neg(of_p), of_q, true);
    if (!back) return {};
    out[kOfQ] = get(back, 1);
    out[kOfP] = neg(get(back, 0));
  }
  if (others.empty()) return out;
  const bool numbers_alone =
      std::ranges::all_of(others, [&](std::size_t i) { return call.inputs[i]->size() == 1; });
  // Forward mode takes an evolution of the state and its tangent for each number. What was decided from the values of numbers
  // does not speak of that one.
  const std::optional<Map> map = map_of(evolve.get(), UOp::share(e.dt()), of_q, of_p, e.record().linear_part);
  const bool forward = numbers_alone && others.size() <= kMostNumbers && e.record().verdict == 0 && map;
  // Where H is made of numbers alone, it may have modes that are known without an eigen solver: those of a lattice.
  const bool may_be_lattice =
      e.q()->size() > kFewCoordinates &&
      std::ranges::all_of(e.captured(), [](Node* c) { return c->size() == 1 || !is_float(c->dtype); });
  const std::vector<Node*> state{e.q(), e.p()};
  const bool forward_is_better =
      forward &&
      (map->separable
           ? may_be_lattice
           : tangent_is_powered(size_of_member(force_lambda(e.energy(), e.q(), e.p()).get(), 0, state)));
  if (!forward_is_better)
    if (const std::vector<UOp> sums = sums_of(evolve, others, of_q, of_p); !sums.empty()) {
      for (std::size_t k = 0; k < others.size(); ++k) out[others[k]] = sums[k];
      return out;
    }
  if (!forward) return {};
  for (const std::size_t i : others) out[i] = by_number(call, i);
  return out;
}

namespace {

// The first node of a graph that reads this param, for a message; null when none does.
bool reads_param(const UOp& graph, std::int64_t index) {
  for (const Node* n : toposort(graph))
    if (n->op == Op::PARAM && n->arg(0) == index) return true;
  return false;
}

}  // namespace

void check_integrator(const Node* evolve, const char* file, unsigned line) {
  const EvolveView e(evolve);
  const IntegratorRow& row = e.row();
  const std::string who(row.name);
  const auto proof = prove_energy(evolve);
  const auto fail = [&](const std::string& why) {
    const Node* culprit = proof->separable.culprit ? proof->separable.culprit : proof->bound.culprit;
    throw Error("evolve", with_own_places(why, labels_of(evolve), culprit ? culprit->op : Op::GET), file,
                line);
  };
  const EvolveRecord record = e.record();
  if (!row.has_loop() && record.method == Method::Loop)
    fail(who + " is the flow itself, it has no loop of steps: leave Method::Loop away");
  if (!row.has_loop() && record.timed)
    fail(who + " needs an H that does not depend on the time; " +
         integrator_names([](const IntegratorRow& r) { return r.has_loop(); }) + " take one that does");
  if (!row.has_loop() && !proof->quadratic)
    fail(who + " needs an H of degree <= 2 in (q, p): " + proof->refused + "; " +
         integrator_names([](const IntegratorRow& r) { return r.has_loop(); }) + " take others");
  if (!row.needs_separable()) return;
  if (!proof->separable.separable)
    fail(who + " needs H = T(p) + V(q), but the term " + proof->separable.reason + " joins q and p; use " +
         (proof->quadratic && !record.timed
              ? integrator_names([](const IntegratorRow& r) { return !r.needs_separable(); }, "or")
              : integrator_names([](const IntegratorRow& r) { return !r.needs_separable() && r.has_loop(); },
                                 "or")));
  if (record.timed && reads_param(outputs_of(force_lambda(e.energy(), e.q(), e.p()).get())[1], 2))
    fail(who + " needs a T(p) that does not depend on the time, only V may; use " +
         integrator_names([](const IntegratorRow& r) { return !r.needs_separable() && r.has_loop(); }, "or"));
  if (!record.levels.empty()) check_levels(evolve, file, line);
}

}  // namespace tinyphys
