#include "tensor/system.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <string>

#include "tensor/engine_hook.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

using front::describe;
using front::fail;
using Callback = std::function<void(const Progress&)>;

static_assert(static_cast<std::int64_t>(Integrator::LeapfrogKDK) ==
              static_cast<std::int64_t>(IntegratorKind::kLeapfrogKDK));
static_assert(static_cast<std::int64_t>(Integrator::LeapfrogDKD) ==
              static_cast<std::int64_t>(IntegratorKind::kLeapfrogDKD));
static_assert(static_cast<std::int64_t>(Integrator::Exact) ==
              static_cast<std::int64_t>(IntegratorKind::kExact));
static_assert(static_cast<std::int64_t>(Integrator::ImplicitMidpoint) ==
              static_cast<std::int64_t>(IntegratorKind::kImplicitMidpoint));
static_assert(static_cast<std::int64_t>(Method::Default) == static_cast<std::int64_t>(MethodKind::kDefault));
static_assert(static_cast<std::int64_t>(Method::Loop) == static_cast<std::int64_t>(MethodKind::kLoop));

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
    fail(call, "the state must be float64 for now: q is " + describe(q.get()) + ", p is " + describe(p.get()),
         where);
  if (!same_shape(q.get(), p.get()))
    fail(call, "q and p must have one shape: q is " + describe(q.get()) + ", p is " + describe(p.get()),
         where);
  return {q, p};
}

UOp checked_energy(const Tensor& h, std::string_view call, const Where& where) {
  const UOp e = front::value(h, call, where);
  if (!e->shape().empty())
    fail(call,
         "H must return a scalar, the energy; it returns " + describe(e.get()) + " (sum over what remains?)",
         where);
  if (e->dtype != DType::kFloat64)
    fail(call, "H must return float64; it returns " + describe(e.get()), where);
  return e;
}

UOp checked_dt(const Arg& dt, std::string_view call, const Where& where) {
  if (dt.is_number()) {
    const double v = dt.as_double();
    if (std::isnan(v)) fail(call, "dt must be given and finite", where);
    if (!std::isfinite(v)) fail(call, "dt is " + front::number_text(v) + ", it must be finite", where);
    return constant(v);
  }
  const UOp t = front::value(dt.tensor(), call, where);
  if (t->dtype != DType::kFloat64 || !t->shape().empty())
    fail(call, "dt must be a float64 scalar, got " + describe(t.get()), where);
  return t;
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

System::System(std::function<Tensor(const Tensor& q, const Tensor& p)> h) : h_(std::move(h)) {}

State System::evolve(const State& s, const EvolveOptions& options, Where where) const {
  constexpr std::string_view kCall = "evolve";
  const auto [q0, p0] = checked_state(s, kCall, where);
  const UOp dt = checked_dt(options.dt, kCall, where);
  if (options.steps < 0) fail(kCall, "steps is " + std::to_string(options.steps), where);

  const UOp q = symbol(q0->dtype, q0->shape()), p = symbol(p0->dtype, p0->shape());
  const UOp energy = checked_energy(h_(tensor(q), tensor(p)), kCall, where);
  LocationScope scope(where);
  std::vector<UOp> captured;
  const UOp h = close_lambda(std::span(&energy, 1), std::vector<UOp>{q, p}, captured);
  std::vector<UOp> src{h, dt, constant_int(options.steps), q0, p0};
  src.insert(src.end(), captured.begin(), captured.end());
  const std::int64_t arg[] = {static_cast<std::int64_t>(options.integrator),
                              static_cast<std::int64_t>(options.method)};
  const UOp evolve = make(Op::EVOLVE, std::span<const UOp>(src), arg);
  if (has_engine()) engine().check_evolve(evolve, where);
  if (options.progress) set_progress_callback(evolve, options.progress);
  return {tensor(get(evolve, 0)), tensor(get(evolve, 1))};
}

Tensor System::energy(const State& s, Where where) const {
  checked_state(s, "energy", where);
  return tensor(checked_energy(h_(s.q, s.p), "energy", where));
}

}  // namespace tinyphys
