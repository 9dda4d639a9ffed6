#include "tensor/system.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>
#include <string>

#include "derive/batch.hpp"
#include "derive/complex.hpp"
#include "derive/fixed_point.hpp"
#include "derive/gradient.hpp"
#include "derive/lower_evolve.hpp"
#include "derive/lower_split.hpp"
#include "derive/project.hpp"
#include "derive/time_warp.hpp"
#include "tensor/conserve.hpp"
#include "tensor/engine_hook.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/tolerance.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

using front::describe;
using front::fail;
using Callback = std::function<void(const Progress&)>;

// Each entry holds its node, so that the address cannot be taken by another; an entry that nobody else holds
// is dropped at the next use of the table.
struct CallbackTable {
  struct Entry {
    UOp evolve;
    Callback callback;
  };
  std::mutex mutex;
  std::vector<Entry> entries;

  std::vector<Entry> take_unused() {
    const auto unused = std::partition(entries.begin(), entries.end(), [](const Entry& e) {
      return e.evolve->refs.load(std::memory_order_acquire) > 1;
    });
    std::vector<Entry> dead(std::make_move_iterator(unused), std::make_move_iterator(entries.end()));
    entries.erase(unused, entries.end());
    return dead;
  }
};
// Leaked on purpose: evolutions may be held by static objects.
CallbackTable& callbacks() {
  static auto* t = new CallbackTable;
  return *t;
}

// q and p, checked.
std::pair<UOp, UOp> checked_state(const State& s, std::string_view call, const Where& where) {
  const UOp q = front::value(s.q, call, where), p = front::value(s.p, call, where);
  if (q->dtype != DType::kFloat64 || p->dtype != DType::kFloat64)
    fail(call,
         "the state must be float64 for now: q is " + describe(q.get()) + ", p is " + describe(p.get()) +
             "; write 1.0 for 1, or convert with astype",
         where);
  if (!same_shape(q.get(), p.get()))
    fail(call, "q and p must have one shape: q is " + describe(q.get()) + ", p is " + describe(p.get()),
         where);
  return {q, p};
}

// `members`: of an ensemble whose members may have times of their own.
UOp checked_time(const Tensor& t, std::string_view call, const Where& where,
                 std::span<const std::int64_t> members = {}) {
  const UOp time = front::value(t, call, where);
  const bool of_members = !members.empty() && std::ranges::equal(time->shape(), members);
  if (time->dtype != DType::kFloat64 || !(time->shape().empty() || of_members))
    fail(call,
         "the time of the state must be a float64 scalar" +
             (members.empty() ? std::string() : " or one for each member, " + shape_text(members)) +
             ", got " + describe(time.get()),
         where);
  return time;
}

bool holds(const UOp& graph, const Node* leaf) {
  bool found = false;
  for (const Node* n : toposort(graph, [&](const Node* x) { return found || !(x->flags & Node::kHasSym); }))
    found |= n == leaf;
  return found;
}

// `members`: the shape of an ensemble, empty where there is none.
UOp checked_energy(const Tensor& h, std::span<const std::int64_t> members, std::string_view call,
                   const Where& where) {
  const UOp e = front::value(h, call, where);
  if (members.empty() && !e->shape().empty())
    fail(call,
         "H must return a scalar, the energy; it returns " + describe(e.get()) +
             " (sum over what remains? Or, for an ensemble, System(H, {.batch_axes = " +
             std::to_string(e->shape().size()) + "}))",
         where);
  if (!std::equal(members.begin(), members.end(), e->shape().begin(), e->shape().end()))
    fail(call,
         "H must return an energy for each member, " + shape_text(members) + "; it returns " +
             describe(e.get()),
         where);
  if (e->dtype != DType::kFloat64)
    fail(call,
         "H must return float64; it returns " + describe(e.get()) +
             (is_complex(e->dtype) ? " (an energy is real: sum real(conj(z) * z))" : ""),
         where);
  return lower_complex(e);  // what is proven of H is proven of real numbers
}

std::span<const std::int64_t> members_of(const Node* q, const SystemOptions& options, std::string_view call,
                                         const Where& where) {
  const auto n = static_cast<std::size_t>(options.batch_axes);
  if (n > q->shape().size())
    fail(call, "q and p have fewer axes than batch_axes = " + std::to_string(n) + ": " + describe(q), where);
  return q->shape().first(n);
}

UOp total(const UOp& x) {
  Dims axes(x->shape().size());
  std::iota(axes.begin(), axes.end(), 0);
  return reduce(Reduction::kSum, x, axes);
}

void check_independent(std::span<const UOp> energies, const std::vector<UOp>& state, std::size_t n_batch,
                       std::string_view call, const Where& where, const std::string& what = "H") {
  std::vector<UOp> captured;
  Labels labels;
  const UOp body = close_lambda(energies, state, captured, &labels.places);
  const BatchProof proof = prove_independent(body.get(), n_batch);
  if (!proof.culprit) return;
  const std::string at = location_text(proof.culprit);
  fail(call,
       what + " may join members of the ensemble (batch_axes): " + proof.reason +
           (at.empty() ? "" : with_own_places(" at " + at, labels, proof.culprit->op)),
       where);
}

bool broadcasts_to(std::span<const std::int64_t> from, std::span<const std::int64_t> to) {
  if (from.size() > to.size()) return false;
  for (std::size_t i = 1; i <= from.size(); ++i)
    if (from[from.size() - i] != 1 && from[from.size() - i] != to[to.size() - i]) return false;
  return true;
}

bool is_method(Method m) {
  return m == Method::Default || m == Method::Loop || m == Method::Auto || m == Method::TimeWarp ||
         m == Method::Split;
}

// The steps of each term, 0 for one that is not named.
std::vector<std::int64_t> checked_levels(const Levels& levels, std::span<const EnergyTerm> terms,
                                         Integrator integrator, const Where& where) {
  constexpr std::string_view kCall = "evolve";
  if (integrator != Integrator::LeapfrogKDK)
    fail(kCall, "levels are steps of LeapfrogKDK, not of " + std::string(name(integrator)), where);
  if (levels.list().empty())
    fail(kCall, "levels is an empty list: name the terms of H, or leave it away", where);
  if (terms.size() == 1 && terms[0].name.empty())
    fail(kCall, "levels needs an H of named terms: System({{\"fast\", ...}, {\"slow\", ...}})", where);
  std::vector<std::int64_t> steps(terms.size(), 0), sorted;
  for (const Level& level : levels.list()) {
    const std::string which = "levels: the term \"" + level.term + "\"";
    const auto term =
        std::find_if(terms.begin(), terms.end(), [&](const EnergyTerm& t) { return t.name == level.term; });
    if (term == terms.end()) {
      std::string known;
      for (const EnergyTerm& t : terms) known += (known.empty() ? "\"" : ", \"") + t.name + "\"";
      fail(kCall, "levels: H has no term \"" + level.term + "\"; its terms are " + known, where);
    }
    std::int64_t& n = steps[static_cast<std::size_t>(term - terms.begin())];
    if (n != 0) fail(kCall, which + " is named twice", where);
    n = level.steps;
    if (n < 1) fail(kCall, which + " is given " + std::to_string(n) + " steps, it must be at least 1", where);
    sorted.push_back(n);
  }
  std::sort(sorted.begin(), sorted.end());
  if (sorted.front() != 1)
    fail(kCall,
         "levels: the slowest level has " + std::to_string(sorted.front()) +
             " steps in dt; it must have 1, dt is its step",
         where);
  for (std::size_t i = 1; i < sorted.size(); ++i)
    if (sorted[i] % sorted[i - 1] != 0)
      fail(kCall,
           "levels: " + std::to_string(sorted[i]) + " steps are no multiple of the " +
               std::to_string(sorted[i - 1]) + " of the next slower level",
           where);
  return steps;
}

UOp checked_dt(const Arg& dt, std::string_view call, const Where& where) {
  if (dt.is_number()) {
    const double v = dt.as_double();
    if (dt.kind() == Arg::Kind::kComplex) fail(call, "dt is complex, it must be real", where);
    if (std::isnan(v)) fail(call, "dt must be given and finite", where);
    if (!std::isfinite(v)) fail(call, "dt is " + front::number_text(v) + ", it must be finite", where);
    return constant(v);
  }
  const UOp t = front::value(dt.tensor(), call, where);
  if (t->dtype != DType::kFloat64 || !t->shape().empty())
    fail(call, "dt must be a float64 scalar, got " + describe(t.get()), where);
  if (is_const(t.get()) && !std::isfinite(const_double(t.get())))
    fail(call, "dt is " + front::number_text(const_double(t.get())) + ", it must be finite", where);
  return t;
}

// What evolve was asked for, and symbols for the state of a moment.
struct Request {
  EvolveRecord record;
  UOp dt, steps, q0, p0, t0;
  UOp q, p, t;
};
struct Motion {
  UOp steps;  // the node of all steps: an EVOLVE, or the SCAN of a force
  UOp q, p;   // after them
};

// What each step is projected on.
struct Kept {
  std::vector<front::KeptValue> values;  // over r.q and r.p; none: no projection
  std::vector<UOp> targets;
  UOp masses;
  bool once = false, symmetric = false;
  Records told;
};

bool is_timed(const Request& r, const std::vector<UOp>& energies) {
  return std::any_of(energies.begin(), energies.end(), [&](const UOp& e) { return holds(e, r.t.get()); });
}

// The EVOLVE of all steps, checked.
UOp evolve_node(Request& r, const std::vector<UOp>& energies, std::vector<std::string> names,
                const Where& where) {
  LocationScope scope(where);
  r.record.timed = is_timed(r, energies);
  std::vector<UOp> captured, params{r.q, r.p};
  if (r.record.timed) params.push_back(r.t);
  Labels labels;
  const UOp h = close_lambda(energies, params, captured, &labels.places);
  labels.names = std::move(names);
  std::vector<UOp> src{h, r.dt, r.steps, r.q0, r.p0};
  if (r.record.timed) src.push_back(r.t0);
  src.insert(src.end(), captured.begin(), captured.end());
  const auto labelled = [&] {
    UOp n = make(Op::EVOLVE, std::span<const UOp>(src), r.record.encode());
    if (labels.any()) set_labels(n.get(), labels);
    return n;
  };
  UOp evolve = labelled();
  if (r.record.method == Method::Split) {
    if (!has_engine()) fail("evolve", "Method::Split needs the engine, which is not linked in", where);
    evolve = engine().split_evolve(evolve, where);
    labels = labels_of(evolve.get());
    labels.found = engine().found_of(evolve);
    if (labels.any()) set_labels(evolve.get(), std::move(labels));
  } else if (has_engine()) {
    r.record.verdict = engine().check_evolve(evolve, where);
    if (r.record.verdict != 0) evolve = labelled();
    if (!r.record.levels.empty() || r.record.method == Method::Auto) {
      labels.found = engine().found_of(evolve);
      evolve = labelled();
    }
  }
  return evolve;
}

Motion by_energy(Request r, const std::vector<UOp>& energies, std::vector<std::string> names,
                 const Where& where) {
  const UOp evolve = evolve_node(r, energies, std::move(names), where);
  return {evolve, get(evolve, 0), get(evolve, 1)};
}

// The loop itself, a scan: each step ends with a projection, and is no integrator's alone.
Motion projected(const ForceLoop& steps, const Request& r, Kept kept, std::size_t n_batch) {
  const IntegratorRow& row = row_of(r.record.integrator);
  Invariants on{.q = r.q,
                .p = r.p,
                .values = {},
                .targets = std::move(kept.targets),
                .masses = kept.masses,
                .n_batch = n_batch,
                .once = kept.once};
  for (const front::KeptValue& v : kept.values) on.values.push_back(v.value);
  ForceLoop loop = steps;
  loop.record.method = Method::Loop;
  loop.n_counts = kept.symmetric ? 2 : 1;
  loop.instead = [&](const UOp& q, const UOp& p, const StepOf& step) {
    if (kept.symmetric) {
      const SymmetricallyProjected z = project_around(on, q, p, step);
      return ForceLoop::Ended{z.q, z.p, {z.iterations, z.restless}};
    }
    const auto [to_q, to_p] = step(q, p);
    const Projected z = project(on, to_q, to_p);
    return ForceLoop::Ended{z.q, z.p, {z.iterations}};
  };
  const std::vector<UOp> last = loop_of_steps(loop);
  const UOp scan = last[2].src(0);
  Labels labels = labels_of(scan.get());
  const std::string what = front::listed(kept.values);
  labels.names = {std::string(row.name) + (kept.symmetric ? " symmetrically" : "") + " projected on " + what};
  labels.told = std::move(kept.told);
  labels.told.push_back(
      {Finding::kFound,
       kept.symmetric
           ? "symmetric projection (class method): off " + what +
                 " before each step and back on to the start's after it, by the same multipliers, in at "
                 "most 50 iterations"
       : kept.once ? "projection (class method): after each step one Newton iteration on " + what
                   : "projection (class method): after each step at most 5 Newton iterations on " + what +
                         ", to their rounding, 2 eps times the sum of their |terms|"});
  labels.told.push_back(
      {Finding::kWarns, kept.symmetric ? "a projected step is not symplectic; steps of -dt take it back"
                                       : "a projected step is neither symplectic nor reversible"});
  labels.why_loop = "each step is projected, which is not linear";
  set_labels(scan.get(), labels);
  Motion m{scan, last[0], last[1]};
  for (UOp* v : {&m.q, &m.p}) {
    *v = make(Op::CHECK, {*v, last[2]}, {static_cast<std::int64_t>(CheckKind::kProjected)});
    if (kept.symmetric)
      *v = make(Op::CHECK, {*v, compare(Op::EQ, last[3], constant_int(0))},
                {static_cast<std::int64_t>(CheckKind::kProjectionRests)});
  }
  return m;
}

Motion by_projection(Request r, const std::vector<UOp>& energies, std::vector<std::string> names, Kept kept,
                     std::size_t n_batch, const Where& where) {
  const UOp evolve = evolve_node(r, energies, std::move(names), where);
  LocationScope scope(where);
  const EvolveView e(evolve.get());
  ForceLoop loop{.record = r.record,
                 .forces = force_lambda(e.energy(), e.q(), e.p()),
                 .dt = r.dt,
                 .steps = r.steps,
                 .q = r.q0,
                 .p = r.p0,
                 .captured = {}};
  for (Node* c : e.captured()) loop.captured.push_back(UOp::share(c));
  return projected(loop, r, std::move(kept), n_batch);
}

// Of an evolution, or of the loop of a force.
void check_fixed_point(const UOp& steps, const Where& where) {
  UOp scan = steps;
  if (steps->op == Op::EVOLVE) {
    const UOp q = lower_evolve(steps.get())[0];
    scan = q->op == Op::CHECK ? q.src(0).src(0) : q.src(0);
  }
  const ScanParts loop = open_scan(scan.get());
  std::string why = fixed_refusal(loop);
  if (why.empty()) why = start_refusal(loop);
  if (!why.empty()) fail("evolve", "Reversible::Exact (q is part 0, p is part 1): " + why, where);
}

// No EVOLVE, which is an energy's to all that read it: the loop itself, a scan like those that users write. What is proved
// of scans holds for it, and asks for no potential.
Motion by_force(Request r, const UOp& force, const UOp& mass, Kept kept, const Where& where) {
  constexpr std::string_view kCall = "evolve";
  const IntegratorRow& row = row_of(r.record.integrator);
  if (!row.has_loop())
    fail(kCall,
         std::string(row.name) + " needs an energy, the system is a force; " +
             integrator_names([](const IntegratorRow& i) { return i.has_loop(); }) + " take one",
         where);
  if (force->dtype != DType::kFloat64 || !same_shape(force.get(), r.q.get()))
    fail(kCall, "the force must be as q is, " + describe(r.q.get()) + "; it is " + describe(force.get()),
         where);
  if (!broadcasts_to(mass->shape(), r.q->shape()))
    fail(kCall, "the mass, " + describe(mass.get()) + ", does not broadcast to q, " + describe(r.q.get()),
         where);
  LocationScope scope(where);
  r.record.timed = holds(force, r.t.get());
  ForceLoop loop{
      .record = r.record, .forces = {}, .dt = r.dt, .steps = r.steps, .q = r.q0, .p = r.p0, .captured = {}};
  std::vector<UOp> params{r.q, r.p};
  if (r.record.timed) {
    params.push_back(r.t);
    loop.captured.push_back(r.t0);
  }
  const UOp velocity = div(r.p, broadcast_to(mass, r.p->shape()));
  loop.forces = close_lambda(std::vector<UOp>{neg(force), velocity}, params, loop.captured);
  if (!kept.values.empty()) return projected(loop, r, std::move(kept), 0);
  const std::vector<UOp> last = loop_of_steps(loop);
  const Node* get = last[0]->op == Op::CHECK ? last[0]->src(0) : last[0].get();
  UOp scan = UOp::share(get->src(0));
  Labels labels = labels_of(scan.get());
  labels.names = {"a force by " + std::string(row.name)};
  set_labels(scan.get(), labels);
  return {scan, last[0], last[1]};
}

}  // namespace

std::function<void(const Progress&)> progress_callback(const Node* evolve) {
  CallbackTable& t = callbacks();
  std::vector<CallbackTable::Entry> dead;  // destroyed after the lock is gone
  std::lock_guard lock(t.mutex);
  dead = t.take_unused();
  for (const auto& e : t.entries)
    if (e.evolve.get() == evolve) return e.callback;
  return {};
}

void set_progress_callback(const UOp& evolve, std::function<void(const Progress&)> callback) {
  CallbackTable& t = callbacks();
  std::vector<CallbackTable::Entry> dead;
  std::lock_guard lock(t.mutex);
  dead = t.take_unused();
  for (auto& e : t.entries)
    if (e.evolve == evolve) {
      std::swap(e.callback, callback);
      return;
    }
  t.entries.push_back({evolve, std::move(callback)});
}

System::System(std::vector<EnergyTerm> terms, const SystemOptions& options, Where where)
    : terms_(std::move(terms)), options_(options) {
  check(where);
}

void System::check(Where where) const {
  constexpr std::string_view kCall = "System";
  if (options_.batch_axes < 0) fail(kCall, "batch_axes is " + std::to_string(options_.batch_axes), where);
  if (timed_) return;
  if (terms_.empty()) fail(kCall, "H has no terms, or is an empty function", where);
  for (std::size_t i = 0; i < terms_.size(); ++i) {
    const std::string which = terms_[i].name.empty() ? "H" : "the term \"" + terms_[i].name + "\"";
    if (!terms_[i].h) fail(kCall, which + " is an empty function", where);
    if (terms_.size() > 1 && terms_[i].name.empty()) fail(kCall, "a term of several has no name", where);
    for (std::size_t k = 0; k < i; ++k)
      if (terms_[k].name == terms_[i].name)
        fail(kCall, "two terms are named \"" + terms_[i].name + "\"", where);
  }
}

System::System(Force force, const Arg& mass) : force_(std::move(force)) {
  constexpr std::string_view kCall = "from_force";
  const Where& where = mass.where();
  if (!force_) fail(kCall, "the force is an empty function", where);
  const UOp m = front::value(mass, kCall);
  if (m->dtype == DType::kBool) fail(kCall, "the mass is " + describe(m.get()) + ", needs numbers", where);
  if (is_complex(m->dtype)) fail(kCall, "the mass is " + describe(m.get()) + ", it must be real", where);
  if (mass.is_number() && (!std::isfinite(mass.as_double()) || mass.as_double() == 0))
    fail(kCall, "the mass is " + front::number_text(mass.as_double()) + ", it must be finite and not 0",
         where);
  LocationScope scope(where);
  UOp usable = cast(m, DType::kFloat64);
  if (!mass.is_number() && usable->size() > 0) {
    const UOp one = div(usable, usable);  // NaN where it is none
    const UOp zero = reduce(Reduction::kSum, reshape(sub(one, one), Dims{usable->size()}), Dims{0});
    usable = make(Op::CHECK, {usable, compare(Op::EQ, zero, constant(0.0))},
                  {static_cast<std::int64_t>(CheckKind::kMassUsable)});
  }
  mass_ = tensor(usable);
}

std::vector<Tensor> System::terms_at(const Tensor& q, const Tensor& p, const Tensor& t) const {
  if (timed_) return {timed_(q, p, t)};
  std::vector<Tensor> energies;
  for (const EnergyTerm& term : terms_) energies.push_back(term.h(q, p));
  return energies;
}

State System::evolve(const State& s, const EvolveOptions& options, Where where) const {
  return evolve_holding(s, options, nullptr, where);
}

State System::evolve_holding(const State& s, const EvolveOptions& options, const std::vector<Tensor>* held,
                             Where where) const {
  constexpr std::string_view kCall = "evolve";
  const auto [q0, p0] = checked_state(s, kCall, where);
  const UOp t0 = options.method == Method::TimeWarp
                     ? checked_time(s.t, kCall, where, members_of(q0.get(), options_, kCall, where))
                     : checked_time(s.t, kCall, where);
  const UOp dt = checked_dt(options.dt, kCall, where);
  if (options.steps == EvolveOptions{}.steps) fail(kCall, "steps must be given", where);
  if (options.steps < 0) fail(kCall, "steps is " + std::to_string(options.steps), where);
  if (!is_integrator(options.integrator))
    fail(kCall,
         "there is no integrator number " + std::to_string(static_cast<std::int64_t>(options.integrator)) +
             "; there are " + integrator_names([](const IntegratorRow&) { return true; }),
         where);
  if (options.method == Method::Spectral)
    fail(kCall, "Method::Spectral is for waves (schroedinger.hpp); a System that is linear jumps by Default",
         where);
  if (!is_method(options.method))
    fail(kCall,
         "there is no method number " + std::to_string(static_cast<std::int64_t>(options.method)) +
             "; there are Default, Loop, Auto, TimeWarp and Split",
         where);
  if (options.reversible < Reversible::Auto || options.reversible > Reversible::Exact)
    fail(kCall, "there is no Reversible number " + std::to_string(static_cast<int>(options.reversible)),
         where);
  if (options.tol) front::check_tolerance(*options.tol, kCall, where);
  const bool keeps = options.conserve.asked();
  if (options.reversible == Reversible::Exact && (keeps || options.method == Method::TimeWarp))
    fail(kCall,
         std::string("Reversible::Exact takes steps back, ") +
             (keeps ? "and a projected step is not reversible: leave out conserve, or take another Reversible"
                    : "which Method::TimeWarp does not know in fixed point: take another Reversible"),
         where);
  if (options.method == Method::TimeWarp && (options.levels.given() || options.impulse != Impulse::Auto))
    fail(kCall, "Method::TimeWarp takes neither levels nor an impulse: leave them away", where);
  if (options.method == Method::TimeWarp) return time_warp(s, options, where);
  if (options.t_end)
    fail(kCall, "t_end is for Method::TimeWarp; here steps times dt is the time that passes", where);
  if (!options.save_at.empty()) fail(kCall, "save_at is for Method::TimeWarp; take save_every", where);
  if (options.g) fail(kCall, "g is for Method::TimeWarp", where);
  if (options.method == Method::Split) {
    if (!is_split_step(row_of(options.integrator)))
      fail(kCall,
           "Method::Split is a step of its own, composed as an integrator that begins and ends with a kick "
           "is (" +
               integrator_names(is_split_step, "or") +
               "): it takes no Integrator::" + std::string(name(options.integrator)),
           where);
    if (options.levels.given()) fail(kCall, "Method::Split has no levels: leave one of both away", where);
    if (force_) fail(kCall, "Method::Split needs an energy, the system is a force", where);
  } else if (options.impulse != Impulse::Auto) {
    fail(kCall, "impulse is an option of Method::Split alone", where);
  }
  if (options.impulse != Impulse::Auto && options.impulse != Impulse::Plain &&
      options.impulse != Impulse::Mollified)
    fail(kCall,
         "there is no impulse number " + std::to_string(static_cast<std::int64_t>(options.impulse)) +
             "; there are Auto, Plain and Mollified",
         where);
  std::vector<std::int64_t> levels;
  if (options.levels.given()) {
    if (force_) fail(kCall, "levels needs an H of named terms, the system is a force", where);
    if (timed_)
      fail(kCall, "levels needs an H of named terms, each of (q, p); the system is one H(q, p, t)", where);
    levels = checked_levels(options.levels, terms_, options.integrator, where);
  }
  if (options.method == Method::Split || options.levels.given()) {
    const std::string what = options.levels.given() ? "levels" : "Method::Split";
    if (keeps) fail(kCall, what + " and conserve do not go together: leave one of both away", where);
    if (options.reversible == Reversible::Exact)
      fail(kCall, "Reversible::Exact has no fixed point for " + what + ": take another Reversible", where);
  }
  if (options.save_every && !keeps) return trajectory(s, options, nullptr, where);

  Request r{.record = {},
            .dt = dt,
            .steps = constant_int(options.steps),
            .q0 = q0,
            .p0 = p0,
            .t0 = t0,
            .q = symbol_like(q0.get()),
            .p = symbol_like(p0.get()),
            .t = symbol_like(t0.get())};
  r.record.integrator = options.integrator;
  r.record.method = options.method;
  r.record.reversible = options.reversible;
  if (options.reversible == Reversible::Exact) {
    if (!row_of(options.integrator).has_loop())
      fail(kCall,
           "Reversible::Exact needs steps to take, and " + std::string(row_of(options.integrator).name) +
               " is the flow itself",
           where);
    r.record.range_q = options.range.q;
    r.record.range_p = options.range.p;
  }
  r.record.levels = levels;
  r.record.impulse = options.impulse;
  r.record.tolerance = options.tol.value_or(current_tolerance());
  std::vector<std::string> names;
  for (const EnergyTerm& term : terms_)
    if (!term.name.empty()) names.push_back(term.name);
  std::vector<UOp> energies;  // of each member
  UOp force;
  std::span<const std::int64_t> members;
  if (force_) {
    force = front::value(force_(tensor(r.q), tensor(r.t)), kCall, where);
  } else {
    members = members_of(r.q.get(), options_, kCall, where);
    r.record.batch_axes = static_cast<std::int64_t>(members.size());
    for (const Tensor& h : terms_at(tensor(r.q), tensor(r.p), tensor(r.t)))
      energies.push_back(checked_energy(h, members, kCall, where));
  }
  std::vector<UOp> total_energies = energies;
  if (!members.empty()) {
    LocationScope scope(where);
    check_independent(energies, {r.q, r.p}, members.size(), kCall, where);
    for (UOp& e : total_energies) e = total(e);
  }
  Kept kept;
  if (keeps) {
    const IntegratorRow& row = row_of(options.integrator);
    if (!row.has_loop())
      fail(kCall,
           "conserve needs steps to project, " + std::string(row.name) +
               " is the flow itself, which keeps what H keeps up to rounding; " +
               integrator_names([](const IntegratorRow& i) { return i.has_loop(); }) + " have steps",
           where);
    const front::KeptBy by{
        .q = r.q,
        .p = r.p,
        .energies = energies,
        .timed = is_timed(r, energies),
        .members = members,
        .proven = [&]() -> std::vector<ProvenInvariant> {
          if (!has_engine()) return {};
          Request copy = r;
          return engine().proven_invariants(evolve_node(copy, total_energies, names, where));
        }};
    kept.values = front::kept_values(options.conserve, by, kept.told, where);
    std::vector<UOp> values;
    for (const front::KeptValue& v : kept.values) values.push_back(v.value);
    if (!members.empty()) check_independent(values, {r.q, r.p}, members.size(), kCall, where, "an invariant");
    kept.masses = front::checked_metric(options.conserve, r.q, where);
    kept.once = options.conserve.is_once();
    kept.symmetric = options.conserve.is_symmetric();
    if (kept.symmetric && kept.once)
      fail(kCall, "conserve: once() and symmetric() do not go together: leave one of both away", where);
    if (kept.symmetric && row.has(Part::kSolve))
      fail(kCall,
           "conserve: the symmetric projection takes the step in each of its iterations, and a step of " +
               std::string(row.name) + " is iterated itself; " +
               integrator_names([](const IntegratorRow& i) { return i.has_loop() && !i.has(Part::kSolve); }) +
               " are not",
           where);
    if (held) {
      for (const Tensor& g : *held) kept.targets.push_back(uop(g));
    } else {
      LocationScope scope(where);
      kept.targets = substitute(values, [&](Node* n) {
        return n == r.q.get() ? q0 : n == r.p.get() ? p0 : UOp();
      });
    }
    if (options.save_every) {
      // All pieces are held to the values at the start.
      std::vector<Tensor> at_start;
      for (const UOp& g : kept.targets) at_start.push_back(tensor(g));
      return trajectory(s, options, &at_start, where);
    }
  }
  const Motion m =
      force_  ? by_force(r, lower_complex(force), uop(mass_), std::move(kept), where)
      : keeps ? by_projection(r, total_energies, std::move(names), std::move(kept), members.size(), where)
              : by_energy(r, total_energies, std::move(names), where);
  if (options.reversible == Reversible::Exact) check_fixed_point(m.steps, where);
  LocationScope scope(where);
  if (options.progress) set_progress_callback(m.steps, options.progress);
  // Numbers give a number: a loop of evolutions leaves no chain of sums behind.
  const auto n = static_cast<double>(options.steps);
  const UOp end = is_const(t0.get()) && is_const(dt.get())
                      ? constant(const_double(t0.get()) + const_double(dt.get()) * n)
                      : add(t0, mul(dt, constant(n)));
  return {tensor(m.q), tensor(m.p), tensor(end)};
}

// The state and what it was asked for are checked by evolve().
State System::time_warp(const State& s, const EvolveOptions& options, Where where) const {
  constexpr std::string_view kCall = "evolve";
  const auto refuse = [&](const std::string& why) { fail(kCall, "TimeWarp: " + why, where); };
  if (force_) refuse("the system is a force; the method needs an energy H = T(p) + V(q)");
  const bool midpoint = options.g && options.g.takes_p();
  if (options.integrator != Integrator::LeapfrogKDK && options.integrator != Integrator::LeapfrogDKD &&
      !(midpoint && options.integrator == Integrator::ImplicitMidpoint))
    refuse("its step is a " + std::string(midpoint ? "midpoint rule" : "drift-kick-drift") + " of its own, " +
           std::string(name(options.integrator)) + " cannot be taken in its place");
  if (options.conserve.asked()) refuse("conserve is not built for it");
  if ((options.save_every ? 1 : 0) + (options.t_end ? 1 : 0) + (options.save_at.empty() ? 0 : 1) > 1)
    refuse("of t_end, save_at and save_every one can be given");
  if (options.save_every && (*options.save_every < 1 || options.steps % *options.save_every != 0))
    refuse("save_every is " + std::to_string(*options.save_every) +
           ", it must be at least 1 and divide the " + std::to_string(options.steps) + " steps");

  const UOp q0 = uop(s.q), p0 = uop(s.p), t0 = uop(s.t);
  Request r{.record = {},
            .dt = checked_dt(options.dt, kCall, where),
            .steps = constant_int(options.steps),
            .q0 = q0,
            .p0 = p0,
            .t0 = t0,
            .q = symbol_like(q0.get()),
            .p = symbol_like(p0.get()),
            .t = symbol(DType::kFloat64, {})};
  r.record.integrator = midpoint ? Integrator::ImplicitMidpoint : Integrator::LeapfrogDKD;
  const auto members = members_of(r.q.get(), options_, kCall, where);
  r.record.batch_axes = static_cast<std::int64_t>(members.size());
  std::vector<UOp> energies;
  for (const Tensor& h : terms_at(tensor(r.q), tensor(r.p), tensor(r.t)))
    energies.push_back(checked_energy(h, members, kCall, where));
  if (is_timed(r, energies)) refuse("H depends on the time, its energy is no constant to step by");
  if (is_const(r.dt.get()) && const_double(r.dt.get()) == 0) refuse("dt, the step of s, is 0");
  LocationScope scope(where);
  const std::vector<UOp> state{r.q, r.p};
  if (!members.empty()) check_independent(energies, state, members.size(), kCall, where);

  WarpLoop loop{.q = r.q,
                .p = r.p,
                .kinetic = {},
                .potential = {},
                .energy = {},
                .held = {},
                .rate = {},
                .ds = r.dt,
                .steps = r.steps,
                .q0 = q0,
                .p0 = p0,
                .t0 = t0,
                .t_end = {},
                .times = {},
                .every = options.save_every ? std::int64_t{*options.save_every} : 0,
                .n_batch = members.size(),
                .reversible = options.reversible};
  if (midpoint) {
    loop.energy = energies[0];
    for (std::size_t i = 1; i < energies.size(); ++i) loop.energy = add(loop.energy, energies[i]);
  } else {
    // T and V of each member: those of the members' weighted sum, by the weights, in which they are linear.
    const UOp weights = symbol(DType::kFloat64, members);
    std::vector<UOp> sums = energies;
    if (!members.empty())
      for (UOp& e : sums) e = total(mul(weights, e));
    Request weighted = r;
    weighted.record.batch_axes = 0;
    const UOp evolve = evolve_node(weighted, sums, {}, where);
    const EvolveView e(evolve.get());
    std::vector<UOp> arguments = state;
    for (Node* c : e.captured()) arguments.push_back(UOp::share(c));
    const UOp split = engine().split_energy(evolve);
    if (!split)
      refuse("a term of H has both q and p; write T(p) and V(q) as terms of their own, or give a g(q, p)");
    std::vector<UOp> parts = tinyphys::apply(split.get(), arguments);
    if (!members.empty())
      for (UOp& part : parts) part = gradient(part, std::vector<UOp>{weights})[0];
    loop.kinetic = parts[0];
    loop.potential = parts[1];
  }
  if (options.g) {
    loop.rate = front::value(options.g(tensor(r.q), tensor(r.p)), kCall, where);
    if (loop.rate->dtype != DType::kFloat64 || !std::ranges::equal(loop.rate->shape(), members))
      refuse(members.empty() ? "g must return a float64 scalar; it returns " + describe(loop.rate.get())
                             : "g must return a float64 for each member, " + shape_text(members) +
                                   "; it returns " + describe(loop.rate.get()));
    if (!members.empty())
      check_independent(std::vector<UOp>{loop.rate}, state, members.size(), kCall, where, "g");
  }
  if (options.t_end) {
    const Arg& end = *options.t_end;
    if (end.kind() == Arg::Kind::kComplex) refuse("t_end is complex, it must be real");
    if (end.is_number() && !std::isfinite(end.as_double()))
      refuse("t_end is " + front::number_text(end.as_double()) + ", it must be finite");
    loop.t_end = end.is_number() ? constant(end.as_double()) : front::value(end.tensor(), kCall, where);
    if (loop.t_end->dtype != DType::kFloat64 ||
        !(loop.t_end->shape().empty() || std::ranges::equal(loop.t_end->shape(), members)))
      refuse("t_end must be a float64 scalar, got " + describe(loop.t_end.get()));
  }
  if (!options.save_at.empty()) {
    const std::vector<double>& at = options.save_at;
    for (std::size_t i = 0; i < at.size(); ++i) {
      const std::string which = "save_at[" + std::to_string(i) + "] is " + front::number_text(at[i]);
      if (!std::isfinite(at[i])) refuse(which + ", it must be finite");
      if (i > 0 && at[i] < at[i - 1])
        refuse(which + ", before the one before it, " + front::number_text(at[i - 1]));
    }
    loop.times = uop(Tensor::from(at));
  }
  if (options.t_end || loop.times) {
    const std::string which = options.t_end ? "t_end" : "save_at[0]";
    const UOp first = options.t_end ? loop.t_end : constant(options.save_at[0]);
    if (is_const(first.get()) && is_const(t0.get()) && const_double(first.get()) < const_double(t0.get()))
      refuse(which + " is " + front::number_text(const_double(first.get())) +
             ", before the time of the state, " + front::number_text(const_double(t0.get())));
    if (is_const(r.dt.get()) && const_double(r.dt.get()) < 0)
      refuse("dt, the step of s, is " + front::number_text(const_double(r.dt.get())) +
             ": it must be above 0 to reach " + (options.t_end ? "a t_end" : "the times of save_at"));
  }
  const Warped m = warp(loop);
  Labels labels = labels_of(m.scan.get());
  std::string method = !options.g ? "TimeWarp by the logarithmic Hamiltonian"
                       : midpoint ? "TimeWarp by dt = g(q, p) ds"
                                  : "TimeWarp by dt = g(q) ds";
  if (loop.times)
    method += ", at most " + with_commas(options.steps) + " steps, walks to save_at";
  else if (loop.every > 0)
    method += ", walks of " + with_commas(loop.every) + " steps";
  labels.names = {method};
  if (!members.empty())
    labels.told.push_back(
        {Finding::kProved, with_commas(energies[0]->size()) +
                               " members of an ensemble, none joined with another: each goes by "
                               "a time of its own"});
  labels.told.push_back(
      {Finding::kFound,
       !options.g ? "time-warp (class method): drifts by dt = ds / (T - E0), kicks by dt = ds / U, "
                    "H = T - U; U > 0 and T - E0 > 0 are checked at each step"
       : midpoint
           ? "time-warp (class method): the implicit midpoint rule for g (H - E0), order 2 in ds, symmetric; "
             "g > "
             "0 and its convergence are checked at each step"
           : "time-warp (class method): the time-transformed leapfrog, drift-kick-drift, order 2 in ds"});
  if (loop.t_end || loop.times)
    labels.told.push_back(
        {Finding::kFound, loop.t_end
                              ? "the steps given are the most that may be taken: the last one is "
                                "shortened to end at t_end"
                              : "each time is landed on by a part of a step beside the walk, which goes "
                                "on from its own steps"});
  labels.why_loop = "the length of a step depends on the state";
  set_labels(m.scan.get(), labels);
  if (options.progress) set_progress_callback(m.scan, options.progress);
  return {tensor(m.q), tensor(m.p), tensor(m.t)};
}

// A scan whose steps are evolutions.
State System::trajectory(const State& s, const EvolveOptions& options, const std::vector<Tensor>* held,
                         Where where) const {
  constexpr std::string_view kCall = "evolve";
  const std::int64_t every = *options.save_every, steps = options.steps;
  if (every < 1) fail(kCall, "save_every is " + std::to_string(every) + ", it must be at least 1", where);
  if (steps % every != 0)
    fail(kCall,
         "save_every is " + std::to_string(every) + ", which does not divide the " + std::to_string(steps) +
             " steps",
         where);
  EvolveOptions piece = options;
  piece.steps = every;
  piece.save_every = {};
  piece.progress = {};
  const auto [end, rows] = scan(
      [&](const State& z) {
        const State next = evolve_holding(z, piece, held, where);
        return std::pair{next, std::tuple{next.q, next.p}};
      },
      s, steps / every, {}, where);
  LocationScope scope(where);
  if (options.progress && steps > 0)
    if (const UOp last = uop(end.q); last->op == Op::GET)
      set_progress_callback(last.src(0), [every, callback = options.progress](Progress done) {
        done.done *= every;
        done.total *= every;
        callback(done);
      });
  const auto& [q, p] = rows;
  const Tensor passed = Tensor::arange(static_cast<double>(steps / every + 1)) * static_cast<double>(every);
  return {cat({s.q.unsqueeze(0), q}, 0), cat({s.p.unsqueeze(0), p}, 0), s.t + as_tensor(options.dt) * passed};
}

Tensor System::energy(const State& s, Where where) const {
  if (force_) fail("energy", "the system is a force: it has no energy", where);
  checked_state(s, "energy", where);
  const UOp q = front::value(s.q, "energy", where);
  const auto members = members_of(q.get(), options_, "energy", where);
  checked_time(s.t, "energy", where, members);
  std::vector<UOp> energies;
  for (const Tensor& h : terms_at(s.q, s.p, s.t))
    energies.push_back(checked_energy(h, members, "energy", where));
  LocationScope scope(where);
  UOp sum = energies[0];
  for (std::size_t i = 1; i < energies.size(); ++i) sum = add(sum, energies[i]);
  return tensor(sum);
}

}  // namespace tinyphys
