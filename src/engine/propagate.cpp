#include "engine/propagate.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>

#include "analysis/jacobian.hpp"
#include "linalg/affine_power.hpp"
#include "linalg/propagator.hpp"
#include "support/hash.hpp"
#include "support/thread_pool.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// Reading K, M and the forces off the graph costs about this many loop steps in evaluated elements.
constexpr double kExtractionSecondsPerElement = 60e-9;
// Coupled q-p systems: dimension of the state that double-double powering takes on.
constexpr std::int64_t kPoweringLimit = 128;
// Systems whose modes are kept, and the entries of their dense matrices in all (four doubles each).
constexpr std::size_t kKept = 8;
constexpr double kKeptEntries = 4e7;

double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

// What does not depend on state, dt and steps: made once per forces and captured values, in two stages.
struct Prepared {
  UOp forces;
  Hash128 values;
  std::string reason;        // why there is no jump
  AffineForm form;           // dH/dq and dH/dp as one affine map of (q, p)
  std::vector<long> blocks;  // orders of the coupled components of a separable H
  std::unique_ptr<NormalModes> modes;

  double entries() const {
    double n = 0;
    for (long b : blocks) n += static_cast<double>(b) * static_cast<double>(b);
    return n;
  }
};

// Below these sizes the work of a jump is over before another thread has woken.
constexpr long kParallelBlock = 192;
constexpr std::int64_t kParallelCoordinates = 1 << 15;

ParallelFor pool_for(const std::vector<long>& blocks, std::int64_t n) {
  const long largest = blocks.empty() ? 0 : *std::max_element(blocks.begin(), blocks.end());
  if (largest < kParallelBlock && n < kParallelCoordinates) return {};
  return [](long count, const std::function<void(long)>& f) {
    thread_pool().parallel_for(count, [&](long i) { f(i); });
  };
}

Value<DD> captured_value(const Node* n, const Argument& a) {
  Value<DD> v;
  v.dtype = n->dtype;
  v.shape = shape_of(n);
  const auto size = static_cast<std::size_t>(n->size());
  const void* data = a.data ? a.data->data : nullptr;
  for (std::size_t i = 0; i < size; ++i) {
    if (!data) {  // a number
      if (is_float(n->dtype))
        v.real.push_back(DD(from_bits(a.scalar)));
      else
        v.integer.push_back(a.scalar);
      continue;
    }
    switch (n->dtype) {
      case DType::kFloat64: v.real.push_back(DD(static_cast<const double*>(data)[i])); break;
      case DType::kFloat32:
        v.real.push_back(DD(static_cast<double>(static_cast<const float*>(data)[i])));
        break;
      case DType::kInt64: v.integer.push_back(static_cast<const std::int64_t*>(data)[i]); break;
      case DType::kInt32: v.integer.push_back(static_cast<const std::int32_t*>(data)[i]); break;
      default: v.integer.push_back(static_cast<const unsigned char*>(data)[i]); break;
    }
  }
  return v;
}

Hash128 hash_values(std::span<const Argument> captured) {
  std::vector<Hash128> parts;
  for (const Argument& a : captured)
    parts.push_back(a.data ? content_hash(a.data->data, a.data->bytes)
                           : content_hash(&a.scalar, sizeof a.scalar));
  return content_hash(parts.data(), parts.size() * sizeof(Hash128));
}

// Rows [first_row, first_row + n) and columns [first_col, first_col + n) of the affine form.
SparseDD block(const AffineForm& a, std::int64_t first_row, std::int64_t first_col, std::int64_t n) {
  SparseDD s;
  s.n = n;
  s.row_start.push_back(0);
  for (std::int64_t r = first_row; r < first_row + n; ++r) {
    for (auto k = static_cast<std::size_t>(a.row_start[static_cast<std::size_t>(r)]);
         k < static_cast<std::size_t>(a.row_start[static_cast<std::size_t>(r) + 1]); ++k)
      if (a.col[k] >= first_col && a.col[k] < first_col + n) {
        s.col.push_back(static_cast<int>(a.col[k] - first_col));
        s.value.push_back(a.value[k]);
      }
    s.row_start.push_back(static_cast<long>(s.col.size()));
  }
  return s;
}

// Orders of the components that K and M^-1 couple; single coordinates are left out.
std::vector<long> coupled_blocks(const AffineForm& form, std::int64_t n) {
  std::vector<std::int64_t> parent(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) parent[static_cast<std::size_t>(i)] = i;
  auto root = [&](std::int64_t i) {
    while (parent[static_cast<std::size_t>(i)] != i) {
      auto& p = parent[static_cast<std::size_t>(i)];
      p = parent[static_cast<std::size_t>(p)];
      i = p;
    }
    return i;
  };
  for (std::size_t r = 0; r + 1 < form.row_start.size(); ++r)
    for (auto k = static_cast<std::size_t>(form.row_start[r]);
         k < static_cast<std::size_t>(form.row_start[r + 1]); ++k)
      parent[static_cast<std::size_t>(root(static_cast<std::int64_t>(r) % n))] = root(form.col[k] % n);
  std::vector<long> size(static_cast<std::size_t>(n), 0), blocks;
  for (std::int64_t i = 0; i < n; ++i) ++size[static_cast<std::size_t>(root(i))];
  for (long s : size)
    if (s > 1) blocks.push_back(s);
  return blocks;
}

std::shared_ptr<Prepared> read_forces(const PropagateView& view, std::span<const Argument> captured,
                                      const Hash128& values) {
  auto out = std::make_shared<Prepared>();
  out->forces = UOp::share(view.map());
  out->values = values;
  std::vector<StateGroup> groups(captured.size() + 3, StateGroup::kNone);
  groups[0] = StateGroup::kQ;
  groups[1] = StateGroup::kP;
  out->form = extract_affine(view.map(), groups, [&](std::int64_t i, const Node* n) {
    return captured_value(n, captured[static_cast<std::size_t>(i) - 3]);
  });
  out->reason = out->form.reason;
  const std::int64_t n = view.state()[0]->size();
  if (view.separable())
    out->blocks = coupled_blocks(out->form, n);
  else if (2 * n > kPoweringLimit && out->reason.empty())
    out->reason = "q and p are coupled in " + std::to_string(2 * n) +
                  " coordinates; powering takes at most " + std::to_string(kPoweringLimit);
  return out;
}

void build_modes(Prepared& prepared, std::int64_t n) {
  const auto split = static_cast<std::size_t>(n);
  const std::span<const DD> offset(prepared.form.offset);
  NormalModesResult built =
      NormalModes::build(block(prepared.form, 0, 0, n), block(prepared.form, n, n, n), offset.first(split),
                         offset.subspan(split), pool_for(prepared.blocks, n));
  prepared.reason = built.reason;
  prepared.modes = std::move(built.modes);
  if (prepared.modes) prepared.form = {};
}

// Those used last come first. One realize runs at a time, so that no lock is needed.
std::shared_ptr<Prepared> find_prepared(const PropagateView& view, const Hash128& values,
                                        std::deque<std::shared_ptr<Prepared>>& kept) {
  for (std::size_t i = 0; i < kept.size(); ++i)
    if (kept[i]->forces.get() == view.map() && kept[i]->values == values) {
      auto found = kept[i];
      kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(i));
      kept.push_front(found);
      return found;
    }
  return nullptr;
}

void trim(std::deque<std::shared_ptr<Prepared>>& kept) {
  double entries = 0;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    entries += kept[i]->entries();
    if (i > 0 && (i >= kKept || entries > kKeptEntries)) return kept.resize(i);
  }
}

double number(const Argument& a) { return a.data ? *a.data.as<double>() : from_bits(a.scalar); }
std::int64_t integer(const Argument& a) { return a.data ? *a.data.as<std::int64_t>() : a.scalar; }

std::string modes_text(const std::vector<long>& sizes, std::int64_t n) {
  long coupled = 0, largest = 0;
  for (long s : sizes) {
    coupled += s;
    largest = std::max(largest, s);
  }
  std::string t = std::to_string(n) + " normal modes";
  if (coupled == 0) return t + ", every coordinate by itself";
  if (sizes.size() == 1 && largest == n) return t + " of one coupled block";
  return t + " in " + std::to_string(sizes.size()) + " coupled blocks (largest " + std::to_string(largest) +
         ") and " + std::to_string(n - coupled) + " single coordinates";
}

// z' = G z + g with z = (q, p) from dH/dq, dH/dp.
void power_jump(const PropagateView& view, const Prepared& prepared, double h, std::int64_t steps,
                std::span<const Argument> arguments, JumpResult& out) {
  const std::int64_t n = view.state()[0]->size();
  const long d = 2 * n;
  DDMatrix g(d, d);
  std::vector<DD> offset(static_cast<std::size_t>(d));
  for (std::int64_t r = 0; r < d; ++r) {
    // Row r of (dH/dq, dH/dp) drives p with a minus sign, q with a plus.
    const std::int64_t to = r < n ? r + n : r - n;
    const DD sign = r < n ? DD(-1.0) : DD(1.0);
    for (auto k = static_cast<std::size_t>(prepared.form.row_start[static_cast<std::size_t>(r)]);
         k < static_cast<std::size_t>(prepared.form.row_start[static_cast<std::size_t>(r) + 1]); ++k) {
      const DD v = sign * prepared.form.value[k];
      const auto at = static_cast<std::size_t>(to * d + prepared.form.col[k]);
      g.hi[at] = v.hi;
      g.lo[at] = v.lo;
    }
    offset[static_cast<std::size_t>(to)] = sign * prepared.form.offset[static_cast<std::size_t>(r)];
  }
  const AffineMap step =
      row_of(view.integrator()).has(Part::kFlow) ? exact_step(g, offset, h) : midpoint_step(g, offset, h);
  const AffinePower power = affine_power(step, steps);
  if (!step.reason.empty() || !power.reason().empty()) {
    out.facts.refused = step.reason.empty() ? power.reason() : step.reason;
    return;
  }
  std::vector<double> z(static_cast<std::size_t>(d));
  const auto bytes = static_cast<std::size_t>(n) * sizeof(double);
  std::memcpy(z.data(), arguments[1].data->data, bytes);
  std::memcpy(z.data() + n, arguments[2].data->data, bytes);
  std::vector<double> z_out(z.size());
  power.apply(z.data(), z_out.data());
  out.q = StorageRef::allocate(bytes);
  out.p = StorageRef::allocate(bytes);
  std::memcpy(out.q->data, z_out.data(), bytes);
  std::memcpy(out.p->data, z_out.data() + n, bytes);
  out.jumped = true;
  out.facts.structure = "the step matrix of " + std::to_string(d) + " coordinates, powered in double-double";
}

}  // namespace

JumpResult try_jump(const Node* propagate, std::span<const Argument> arguments, double loop_seconds) {
  static auto* kept = new std::deque<std::shared_ptr<Prepared>>;  // outlives static handles
  const PropagateView view(propagate);
  const bool must = !view.has_loop();
  const std::span<const Argument> captured = arguments.subspan(4);
  const std::int64_t steps = integer(arguments[0]), n = view.state()[0]->size();
  const double h = number(arguments[3]);

  JumpResult out;
  JumpFacts& facts = out.facts;
  facts.steps = steps;
  facts.dt = h;
  facts.loop_estimate_s = loop_seconds;

  const Hash128 values = hash_values(captured);
  std::shared_ptr<Prepared> prepared = find_prepared(view, values, *kept);
  const auto loop_is_cheaper = [&](double jump_seconds) {
    facts.jump_estimate_s = jump_seconds;
    if (must || jump_seconds <= loop_seconds) return false;
    facts.refused = "the loop is cheaper for this many steps";
    facts.by_cost = true;
    return true;
  };
  if (!prepared) {
    if (loop_is_cheaper(evaluation_work(view.map()) * kExtractionSecondsPerElement)) return out;
    const auto start = std::chrono::steady_clock::now();
    prepared = read_forces(view, captured, values);
    kept->push_front(prepared);
    trim(*kept);
    facts.build_s = seconds_since(start);
  }
  if (prepared->reason.empty() && view.separable()) {
    const double build = prepared->modes ? 0 : NormalModes::build_seconds_estimate(prepared->blocks);
    if (loop_is_cheaper(build + NormalModes::apply_seconds_estimate(prepared->blocks))) return out;
    if (!prepared->modes) {
      const auto start = std::chrono::steady_clock::now();
      build_modes(*prepared, n);
      facts.build_s += seconds_since(start);
    }
  }
  // An indefinite mass matrix (the tangent of an evolution has one) has no normal modes of this kind, but the step
  // matrix of a linear flow has powers.
  const bool linear_flow = !row_of(view.integrator()).needs_separable();
  facts.powered = !prepared->modes && prepared->form.reason.empty() && linear_flow && 2 * n <= kPoweringLimit;
  if (!prepared->reason.empty() && !facts.powered) {
    facts.refused = prepared->reason;
    return out;
  }
  const auto start = std::chrono::steady_clock::now();
  if (facts.powered) {
    power_jump(view, *prepared, h, steps, arguments, out);
    facts.apply_s = seconds_since(start);
    facts.jumped = out.jumped;
    return out;
  }
  facts.structure = modes_text(prepared->blocks, n);
  const auto jump = prepared->modes->jump(h, steps, view.integrator());
  if (!jump->reason.empty()) {
    facts.refused = jump->reason;
    return out;
  }
  const auto bytes = static_cast<std::size_t>(n) * sizeof(double);
  out.q = StorageRef::allocate(bytes);
  out.p = StorageRef::allocate(bytes);
  const StateError error =
      prepared->modes->apply(*jump, arguments[1].data.as<double>(), arguments[2].data.as<double>(),
                             out.q.as<double>(), out.p.as<double>());
  facts.error_bound_q = error.q;
  facts.error_bound_p = error.p;
  if (error.beyond_loop && !must) {
    facts.refused = "its error may be larger than the loop's: the masses or springs span too many decades";
    return out;
  }
  out.jumped = facts.jumped = true;
  facts.apply_s = seconds_since(start);
  facts.loop_error = jump->report.loop_error_estimate;
  facts.h_omega_max = jump->report.max_h_omega;
  facts.unstable_modes = jump->report.unstable_modes;
  facts.growth_decades = jump->report.log10_growth;
  return out;
}

}  // namespace tinyphys
