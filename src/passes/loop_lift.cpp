#include "passes/loop_lift.hpp"

#include "derive/gradient_rules.hpp"
#include "derive/jvp.hpp"
#include "derive/lower_evolve.hpp"
#include "passes/proof_cache.hpp"
#include "passes/propagate_parts.hpp"
#include "rewrite/rewrite.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// An identity test beyond this work is run only where the degree bound alone does not decide.
constexpr double kCheapWork = 3e5;
// By how many numbers a gradient goes forward, one evolution for each.
constexpr std::size_t kMostNumbers = 4;

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
         (proof->separable.separable ? EvolveRecord::kSeparable : 0);
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

// The evolution from another state by another step, of H or of its quadratic part.
UOp propagate(const Node* evolve, const UOp& dt, const UOp& q, const UOp& p, bool linear_part) {
  const EvolveView e(evolve);
  const EvolveRecord record = e.record();
  if (record.timed || (record.method == Method::Loop && e.row().has_loop())) return {};
  // In a plan the numbers of H are arguments: what was decided from them came with the record.
  const auto proof = prove_energy(evolve);
  const bool told = record.verdict != 0;
  const bool quadratic = told ? (record.verdict & EvolveRecord::kQuadratic) != 0 : proof->quadratic;
  const bool separable = told ? (record.verdict & EvolveRecord::kSeparable) != 0 : proof->separable.separable;
  if (!quadratic) return {};
  LocationScope at(evolve->location.load(std::memory_order_relaxed));
  // The state and what is captured, dt first among it; the loop is a closed program over [steps, state, captured...].
  std::vector<UOp> src{UOp(), UOp(), UOp::share(e.steps()), q, p, dt};
  for (Node* c : e.captured()) src.push_back(UOp::share(c));
  const std::size_t n_loop_params = src.size() - 2;
  // What was taken out of the energy is computed by the runtime, once, and comes in as data.
  std::vector<UOp> arguments{src[3], src[4]};
  arguments.insert(arguments.end(), src.begin() + 6, src.end());
  for (const UOp& v : proof->taken_out) src.push_back(over(v, arguments));
  const std::vector<UOp> params = loop_params(src);
  std::vector<UOp> outputs;
  if (e.row().has_loop())
    outputs = loop_of_steps(
        {.record = record,
         .forces = forces_of(e.energy(), e, linear_part),
         .dt = params[3],
         .steps = params[0],
         .q = params[1],
         .p = params[2],
         .captured = {params.begin() + 4, params.begin() + static_cast<std::ptrdiff_t>(n_loop_params)}});
  src[0] = lambda_of(outputs, params.size());
  std::vector<UOp> forces_at;
  for (std::size_t i = 3; i < src.size(); ++i) {
    if (i == 5) continue;  // the forces do not take dt
    forces_at.push_back(param(static_cast<std::int64_t>(i) - 3, src[i]->dtype, src[i]->shape()));
  }
  src[1] = lambda_of(tinyphys::apply(forces_of(proof->energy.get(), e, linear_part).get(), forces_at),
                     src.size() - 3);
  const std::vector<std::int64_t> arg{static_cast<std::int64_t>(PropagateKind::kHamiltonian), 2,
                                      static_cast<std::int64_t>(record.integrator), separable};
  return make(Op::PROPAGATE, std::span<const UOp>(src), arg);
}

}  // namespace

UOp lift_evolve(const Node* evolve) {
  const EvolveView e(evolve);
  return propagate(evolve, UOp::share(e.dt()), UOp::share(e.q()), UOp::share(e.p()), false);
}

std::vector<UOp> lift_gradient(const Node* evolve_vjp, const std::vector<bool>& wanted) {
  constexpr std::size_t kOfQ = 2, kOfP = 3;
  const VjpCall call(const_cast<Node*>(evolve_vjp));
  const UOp evolve = call.primal(call.inputs);
  const EvolveView e(evolve.get());
  if (!e.row().symmetric()) return {};
  std::vector<std::size_t> numbers;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (!wanted[i] || i == kOfQ || i == kOfP) continue;
    if (!is_float(call.inputs[i]->dtype) || call.inputs[i]->size() != 1) return {};
    numbers.push_back(i);
  }
  // Forward mode takes an evolution of the state and its tangent for each. What was decided from the values of numbers
  // does not speak of that one.
  if (numbers.size() > kMostNumbers || (!numbers.empty() && e.record().verdict != 0)) return {};
  LocationScope at(evolve_vjp->location.load(std::memory_order_relaxed));
  const UOp &of_q = call.cotangents[0], &of_p = call.cotangents[1];
  std::vector<UOp> out(call.inputs.size());
  const UOp back = propagate(evolve.get(), neg(UOp::share(e.dt())), neg(of_p), of_q, true);
  if (!back) return {};
  out[kOfQ] = get(back, 1);
  out[kOfP] = neg(get(back, 0));
  const auto dot = [](const UOp& a, const UOp& b) {
    const UOp product = reshape(mul(a, b), Dims{a->size()});
    return reduce(Reduction::kSum, product, Dims{0});
  };
  for (const std::size_t i : numbers) {
    // A fresh symbol: two inputs may be one node.
    std::vector<UOp> inputs = call.inputs;
    inputs[i] = symbol_like(call.inputs[i].get());
    const UOp along = ones_like(call.inputs[i]);
    const auto moved = jvp(outputs_of(call.primal(inputs)), std::span(&inputs[i], 1), std::span(&along, 1));
    UOp sum = constant(0.0);
    if (moved[0]) sum = add(sum, dot(of_q, moved[0]));
    if (moved[1]) sum = add(sum, dot(of_p, moved[1]));
    out[i] = reshape(substitute(sum, [&](Node* n) { return n == inputs[i].get() ? call.inputs[i] : UOp(); }),
                     call.inputs[i]->shape());
  }
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
}

}  // namespace tinyphys
