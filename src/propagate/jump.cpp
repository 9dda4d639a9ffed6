#include "propagate/jump.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <functional>
#include <limits>

#include <fmt/format.h>

#include "analysis/rounding.hpp"
#include "linalg/dd_kernels.hpp"
#include "support/cost_model.hpp"
#include "support/hash.hpp"
#include "support/thread_pool.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

// Systems that are kept, and the doubles that they hold in all.
constexpr std::size_t kKept = 8;
constexpr double kKeptDoubles = 1.6e8;
// Decades of growth that are not the rounding of a zero eigenvalue.
constexpr double kVisibleGrowth = 1e-3;

double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

// One map with its captured values, and what each propagator has made of it.
struct Prepared {
  UOp map;
  std::vector<std::int64_t> arg;  // of the PROPAGATE
  Hash128 values;
  std::shared_ptr<const JumpSystem> system;
  std::vector<std::unique_ptr<Propagator>> ways;  // as in propagators()
  // What the rounding of a step was looked at for: this loop, states not smaller, steps not longer.
  UOp checked_loop;
  std::vector<double> checked_sizes;
  double checked_h = 0;
  double checked_ratio = 0;                        // the largest rounding, of what the formula gave
  std::vector<std::vector<double>> reach_of_part;  // by each part of size 1 alone, and last by none
  std::vector<double> step_error;  // what a step rounds, of the size of what its formula gives

  double kept_doubles() const {
    double n = system->kept_doubles();
    for (const auto& w : ways) n += w ? w->kept_doubles() : 0;
    return n;
  }
};

Hash128 hash_values(std::span<const HostValue> captured) {
  std::vector<Hash128> parts;
  for (const HostValue& a : captured)
    parts.push_back(a.storage ? a.storage->content() : content_hash(&a.scalar, sizeof a.scalar));
  return content_hash(parts.data(), parts.size() * sizeof(Hash128));
}

std::shared_ptr<Prepared> prepare(const PropagateView& view, std::span<const HostValue> captured,
                                  const Hash128& values) {
  auto out = std::make_shared<Prepared>();
  out->map = UOp::share(view.map());
  out->arg.assign(view.system().begin(), view.system().end());
  out->values = values;
  auto system = std::make_shared<JumpSystem>();
  system->kind = view.kind();
  if (view.kind() == PropagateKind::kHamiltonian) {
    system->integrator = view.integrator();
    system->separable = view.separable();
  }
  for (Node* s : view.state()) {
    system->sizes.push_back(s->size());
    system->shapes.push_back(shape_of(s));
  }
  system->map = out->map;
  system->groups.assign(view.n_state + captured.size(), StateGroup::kNone);
  std::fill_n(system->groups.begin(), view.n_state, StateGroup::kQ);
  if (view.kind() == PropagateKind::kHamiltonian) system->groups[1] = StateGroup::kP;
  for (const HostValue& a : captured) {
    const char* bytes = a.data ? static_cast<const char*>(a.data) : reinterpret_cast<const char*>(&a.scalar);
    system->captured.emplace_back(bytes, bytes + (a.data ? a.bytes : sizeof a.scalar));
    system->is_number.push_back(!a.data);
  }
  out->system = system;
  out->ways.resize(propagators().size());
  return out;
}

using Kept = std::deque<std::shared_ptr<Prepared>>;
// Those used last come first. One realize runs at a time, so that no lock is needed.
std::shared_ptr<Prepared> find(const PropagateView& view, const Hash128& values, Kept& kept) {
  for (std::size_t i = 0; i < kept.size(); ++i)
    if (kept[i]->map.get() == view.map() && kept[i]->values == values &&
        std::ranges::equal(kept[i]->arg, view.system())) {
      auto found = kept[i];
      kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(i));
      kept.push_front(found);
      return found;
    }
  return nullptr;
}

void trim(Kept& kept) {
  double doubles = 0;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    doubles += kept[i]->kept_doubles();
    if (i > 0 && (i >= kKept || doubles > kKeptDoubles)) return kept.resize(i);
  }
}

std::vector<double> largest(const JumpSystem& system, std::span<const double* const> state) {
  std::vector<double> out;
  for (std::size_t i = 0; i < state.size(); ++i) {
    constexpr std::int64_t kBlock = 1 << 14;  // in the cache of one core
    const std::int64_t n = system.sizes[i], blocks = std::max<std::int64_t>(1, (n + kBlock - 1) / kBlock);
    std::vector<double> parts(static_cast<std::size_t>(blocks));
    const auto part = [&](std::int64_t b) {
      parts[static_cast<std::size_t>(b)] =
          dd_kernels().largest(state[i] + b * kBlock, std::min(kBlock, n - b * kBlock));
    };
    if (blocks > 1)
      parallel_for(blocks, part);
    else
      part(0);
    double most = 0.0;
    for (const double x : parts) most = x > most || std::isnan(x) ? x : most;  // NaN stays
    // Infinity and NaN are told apart.
    for (std::int64_t k = 0; std::isnan(most) && k < system.sizes[i] && !std::isnan(state[i][k]); ++k)
      if (k + 1 == system.sizes[i]) most = std::numeric_limits<double>::infinity();
    out.push_back(most);
  }
  return out;
}

// Half of the digits of a double: a step that loses more computes something else than its formula.
constexpr double kHalfTheDigits = 0x1p-26;

using Reach = std::function<std::vector<double>(std::span<const double>)>;

// What a step can give each part of a state whose parts have at most these sizes.
std::vector<double> size_of_step(const PropagateView& view, double h, std::span<const double> sizes,
                                 std::vector<double> size) {
  if (view.kind() != PropagateKind::kHamiltonian) return size;
  std::swap(size[0], size[1]);  // [dH/dq, dH/dp] move p and q
  for (std::size_t i = 0; i < 2; ++i) size[i] = sizes[i] + h * size[i];
  return size;
}

// The same for reports, from how far each part reaches by itself: an upper bound that need not read the map again.
std::vector<double> roughly(const Prepared& p, std::span<const double> sizes) {
  std::vector<double> size(sizes.size(), 0.0);
  for (std::size_t c = 0; c < sizes.size(); ++c)
    for (std::size_t r = 0; r < size.size(); ++r) size[r] += p.reach_of_part[c][r] * sizes[c];
  for (std::size_t r = 0; r < size.size(); ++r) size[r] += p.reach_of_part.back()[r];
  return size;
}

// Why the loop is not what its formula says, at this state of these sizes; empty where it is but for rounding. `reach`: of
// the map.
std::string check_rounding(const PropagateView& view, Node* loop, Prepared& p, const JumpTask& task,
                           std::span<const double* const> state, std::span<const double> sizes,
                           std::span<const HostValue> captured, const Reach& reach) {
  for (const double s : sizes)
    if (!std::isfinite(s)) return "the state is not finite";
  const double h = std::fabs(task.h);
  if (p.checked_loop.get() != loop) {
    p.checked_loop = UOp::share(loop);
    p.checked_sizes.assign(sizes.size(), std::numeric_limits<double>::infinity());
    p.checked_h = h;
    p.checked_ratio = 0;
    p.step_error.clear();
  }
  bool known = h <= 2 * p.checked_h;
  // A smaller state rounds no more in a step than the one that was looked at, and its step gives in proportion less.
  const double slack = p.checked_ratio > 0 ? std::max(2.0, kHalfTheDigits / p.checked_ratio) : 2.0;
  for (std::size_t i = 0; i < sizes.size(); ++i) known = known && sizes[i] >= p.checked_sizes[i] / slack;
  if (known) return {};
  // One step of the loop, a LAMBDA over [steps, state..., captured...].
  const auto is_state = [&](std::int64_t i) { return i > 0 && static_cast<std::size_t>(i) <= view.n_state; };
  std::vector<double> error;
  const auto value_at = [&](std::int64_t i, const Node* n) {
    const auto k = static_cast<std::size_t>(i);
    if (k == 0) return Value<double>{n->dtype, shape_of(n), {}, {1}};
    if (k <= view.n_state) {
      const double* x = state[k - 1];
      return Value<double>{n->dtype, shape_of(n), std::vector<double>(x, x + n->size()), {}};
    }
    return value_of(n, captured[k - 1 - view.n_state]);
  };
  try {
    error = rounding_of(loop, is_state, value_at);
  } catch (const Error&) {
    // A step whose equation the loop cannot solve: there is no answer of the loop's to differ from.
    if (view.kind() != PropagateKind::kHamiltonian || !row_of(view.integrator()).has(Part::kSolve)) throw;
    p.step_error.clear();
    return {};
  }
  const std::vector<double> size = size_of_step(view, h, sizes, reach(sizes));
  if (p.reach_of_part.empty())
    for (std::size_t c = 0; c <= sizes.size(); ++c) {
      std::vector<double> unit(sizes.size(), 0.0);
      if (c < sizes.size()) unit[c] = 1;
      p.reach_of_part.push_back(reach(unit));
    }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (std::isnan(error[i])) return "a step of the loop gives NaN";
    if (error[i] > kHalfTheDigits * size[i])
      return fmt::format(
          "a step of the loop rounds by {:.0e}, its formula gives {:.0e}: its rounding may be meant",
          error[i], size[i]);
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    p.checked_sizes[i] = std::min(p.checked_sizes[i], sizes[i]);
    if (size[i] > 0) p.checked_ratio = std::max(p.checked_ratio, error[i] / size[i]);
  }
  // Of a state near the end of the range the errors are 0.
  const std::vector<double> rough = size_of_step(view, h, sizes, roughly(p, sizes));
  p.step_error.resize(sizes.size(), 0.0);
  for (std::size_t i = 0; i < sizes.size(); ++i)
    if (rough[i] > 0) p.step_error[i] = std::max(p.step_error[i], error[i] / rough[i]);
  p.checked_h = std::max(p.checked_h, h);
  return {};
}

// Of so many steps, relative to the parts of a state of the sizes that it has on the way: the running error bound of a step,
// which grows as what the step gives, as a random walk.
std::vector<double> loop_rounding(const PropagateView& view, const Prepared& p, const JumpTask& task,
                                  std::span<const double> sizes) {
  if (p.step_error.empty()) return {};
  const std::vector<double> size = size_of_step(view, std::fabs(task.h), sizes, roughly(p, sizes));
  std::vector<double> out;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const double is = std::max(sizes[i] > 0 ? sizes[i] : size[i], std::numeric_limits<double>::min());
    out.push_back(p.step_error[i] * size[i] / is * std::sqrt(static_cast<double>(task.steps)));
  }
  return out;
}

double number(const HostValue& a) {
  return a.data ? *static_cast<const double*>(a.data) : from_bits(a.scalar);
}

// Whether the loop takes less than such a jump; then it is noted.
bool loop_is_cheaper(JumpNotes& notes, double jump_seconds, bool is_last_word = true) {
  notes.jump_s = jump_seconds;
  if (!notes.has_loop || jump_seconds <= notes.loop_s) return false;
  if (!is_last_word) return true;
  notes.refused.push_back("jump: the loop is cheaper for this many steps");
  notes.by_cost = true;
  return true;
}

// The system with these values; null where the loop takes less than `more_seconds` and a look at the map. dt is no part of
// it: the jumps by all dt share what is built.
std::shared_ptr<Prepared> system_of(const PropagateView& view, std::span<const HostValue> captured,
                                    JumpNotes& notes, double more_seconds) {
  static auto* kept = new Kept;  // outlives static handles
  const Hash128 values =
      hash_values(view.kind() == PropagateKind::kHamiltonian ? captured.subspan(1) : captured);
  if (auto known = find(view, values, *kept)) return known;
  if (loop_is_cheaper(notes, evaluation_work(view.map()) * cost_model().extraction_s + more_seconds))
    return {};
  kept->push_front(prepare(view, captured, values));
  trim(*kept);
  return kept->front();
}

void note_hamiltonian(const PropagateView& view, JumpNotes& notes) {
  notes.hamiltonian = true;
  notes.integrator = name(view.integrator());
  notes.separable = view.separable();
}

}  // namespace

std::shared_ptr<const JumpNotes> try_jump(const Node* propagate, std::int64_t steps,
                                          std::span<const HostValue> state,
                                          std::span<const HostValue> captured, std::span<double* const> out,
                                          double loop_seconds) {
  const PropagateView view(propagate);
  auto result = std::make_shared<JumpNotes>();
  JumpNotes& notes = *result;
  notes.steps = steps;
  notes.loop_s = loop_seconds;
  notes.has_loop = view.has_loop();
  JumpTask task;
  task.steps = steps;
  task.has_loop = notes.has_loop;
  if (view.kind() == PropagateKind::kHamiltonian) {
    note_hamiltonian(view, notes);
    task.h = number(captured[0]);
  }
  std::vector<double> numbers(state.size());
  for (std::size_t i = 0; i < state.size(); ++i) {
    if (!state[i].data) numbers[i] = from_bits(state[i].scalar);
    task.state.push_back(state[i].data ? static_cast<const double*>(state[i].data) : &numbers[i]);
  }
  task.out.assign(out.begin(), out.end());

  const std::shared_ptr<Prepared> prepared = system_of(view, captured, notes, 0);
  if (!prepared) return result;
  // The cheapest first; one that turns out not to hold makes place for the next. Those that need not read the map entry by
  // entry come before the others, and last what is meant for where there is no other.
  const std::vector<PropagatorRow> rows = propagators();
  std::vector<double> start_sizes;
  bool one_is_left = false;
  enum Turn { kSeesMap, kReadsForm, kIfNoOther };
  for (const Turn turn : {kSeesMap, kReadsForm, kIfNoOther}) {
    const bool reads_form = turn == kReadsForm;
    if (reads_form) {
      const JumpSystem& system = *prepared->system;
      if (!system.has_form()) {
        const auto start = std::chrono::steady_clock::now();
        (void)system.form();
        notes.build_s += seconds_since(start);
      }
      if (!system.form().reason.empty()) {
        notes.refused.push_back("jump: " + system.form().reason);
        return result;
      }
    }
    struct Way {
      std::size_t index;
      JumpEstimate estimate;
    };
    std::vector<Way> ways;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].reads_form != reads_form) continue;
      if (!prepared->ways[i]) prepared->ways[i] = rows[i].make(prepared->system);
      JumpEstimate e = prepared->ways[i]->estimate(task);
      one_is_left |= e.if_no_other && e.refused.empty() && turn == kSeesMap;
      if (e.if_no_other != (turn == kIfNoOther)) continue;
      if (e.refused.empty())
        ways.push_back({i, std::move(e)});
      else if (!e.off_topic)
        notes.refused.push_back(std::string(rows[i].name) + ": " + e.refused);
    }
    std::stable_sort(ways.begin(), ways.end(), [](const Way& a, const Way& b) {
      return a.estimate.build_s + a.estimate.jump_s < b.estimate.build_s + b.estimate.jump_s;
    });
    for (const auto& [i, estimate] : ways) {
      const bool is_last_word = !one_is_left || turn == kIfNoOther;
      const auto too_dear = [&](const JumpEstimate& e) {
        return loop_is_cheaper(notes, e.build_s + e.jump_s, is_last_word);
      };
      if (too_dear(estimate)) {
        if (is_last_word) return result;
        continue;
      }
      Propagator& way = *prepared->ways[i];
      auto start = std::chrono::steady_clock::now();
      std::string reason = way.build();
      if (estimate.build_s > 0) notes.build_s += seconds_since(start);
      if (!reason.empty() && way.refuses_for_all()) {
        notes.refused.push_back(std::string(rows[i].name) + ": " + reason);
        return result;
      }
      // What it costs is known better now.
      if (reason.empty()) {
        if (too_dear(way.estimate(task))) {
          if (is_last_word) return result;
          continue;
        }
      }
      const auto reach = [&](std::span<const double> sizes) {
        return reads_form ? prepared->system->reach(sizes) : way.reach(sizes);
      };
      const auto rounding = [&](std::span<const double* const> at, std::span<const double> sizes) {
        return notes.has_loop ? check_rounding(view, view.loop(), *prepared, task, at, sizes, captured, reach)
                              : std::string();
      };
      const auto refused_at_start = [&] {
        const std::string meant = rounding(task.state, start_sizes);
        if (!meant.empty()) notes.refused.push_back("jump: " + meant);
        return !meant.empty();
      };
      // A loop that was looked at is likely to stay what it is, and some ways tell the sizes by the way.
      const bool later = notes.has_loop && prepared->checked_loop.get() == view.loop();
      if (reason.empty() && !later) {
        if (start_sizes.empty()) start_sizes = largest(*prepared->system, task.state);
        if (refused_at_start()) return result;
      }
      if (reason.empty()) {
        start = std::chrono::steady_clock::now();
        notes.findings = way.jump(task);
        notes.apply_s = seconds_since(start);
        notes.structure = notes.findings.structure;
        reason = notes.findings.refused;
        if (start_sizes.empty()) start_sizes = notes.findings.start_sizes;
        if (start_sizes.empty()) start_sizes = largest(*prepared->system, task.state);
        if (later && refused_at_start()) return result;
      }
      if (reason.empty()) {
        // The state may have become small beside what the step adds and takes away.
        const std::vector<const double*> end(task.out.begin(), task.out.end());
        const auto sizes =
            notes.findings.end_sizes.empty() ? largest(*prepared->system, end) : notes.findings.end_sizes;
        const bool finite =
            std::all_of(sizes.begin(), sizes.end(), [](double s) { return std::isfinite(s); });
        if (const std::string meant = finite ? rounding(end, sizes) : ""; !meant.empty()) {
          notes.refused.push_back("jump: at its end " + meant);
          return result;
        }
        if (notes.has_loop) {
          std::vector<double> most = start_sizes;
          for (std::size_t s = 0; s < most.size(); ++s) most[s] = std::max(most[s], finite ? sizes[s] : 0.0);
          notes.loop_rounding = loop_rounding(view, *prepared, task, most);
        }
        notes.jumped = true;
        notes.propagator = rows[i].name;
        return result;
      }
      if (notes.findings.error.size() == 2 && notes.hamiltonian)
        reason += fmt::format(" (bounds: {:.0e} of q, {:.0e} of p)", notes.findings.error[0],
                              notes.findings.error[1]);
      notes.refused.push_back(std::string(rows[i].name) + ": " + reason);
    }
  }
  return result;
}

std::shared_ptr<JumpNotes> try_gradient_sums(const Node* propagate_vjp, std::int64_t steps,
                                             std::span<const HostValue> state,
                                             std::span<const HostValue> captured,
                                             std::span<const HostValue> cotangents,
                                             std::span<double* const> out, double loop_seconds,
                                             double finish_seconds) {
  const PropagateView view(propagate_vjp);
  auto result = std::make_shared<JumpNotes>();
  JumpNotes& notes = *result;
  notes.steps = steps;
  notes.loop_s = loop_seconds;
  notes.of_gradient = true;
  notes.has_loop = view.has_loop();
  SumsTask task;
  task.steps = steps;
  task.rows = view.rows();
  task.out.assign(out.begin(), out.end());
  if (view.kind() == PropagateKind::kHamiltonian) {
    note_hamiltonian(view, notes);
    task.h = number(captured[0]);
  }
  std::vector<double> numbers(2 * view.n_state);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::size_t part = i % view.n_state;
    const HostValue& value = i < view.n_state ? state[part] : cotangents[part];
    if (!value.data) numbers[i] = from_bits(value.scalar);
    const double* at = value.data ? static_cast<const double*>(value.data) : &numbers[i];
    (i < view.n_state ? task.state : task.cotangents).push_back(at);
    for (std::int64_t k = 0; k < view.state()[part]->size(); ++k)
      if (!std::isfinite(at[k])) {
        notes.refused.push_back("jump: the state or its cotangent is not finite");
        return result;
      }
  }
  const std::shared_ptr<Prepared> prepared = system_of(view, captured, notes, finish_seconds);
  if (!prepared) return result;
  auto start = std::chrono::steady_clock::now();
  const JumpSystem& system = *prepared->system;
  const bool read = system.has_form();
  if (const std::string& reason = system.form().reason; !reason.empty()) {
    notes.refused.push_back("jump: " + reason);
    return result;
  }
  if (!read) notes.build_s += seconds_since(start);
  const std::vector<PropagatorRow> rows = propagators();
  const JumpTask jump{.steps = steps, .h = task.h, .has_loop = notes.has_loop, .state = {}, .out = {}};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i].has_sums || !rows[i].has_sums(system)) continue;
    if (!prepared->ways[i]) prepared->ways[i] = rows[i].make(prepared->system);
    Propagator& way = *prepared->ways[i];
    const JumpEstimate estimate = way.estimate(jump);
    std::string reason = estimate.refused;
    if (reason.empty()) {
      if (loop_is_cheaper(notes, estimate.build_s + way.estimate_sums(task) + finish_seconds)) return result;
      start = std::chrono::steady_clock::now();
      reason = way.build();
      if (estimate.build_s > 0) notes.build_s += seconds_since(start);
    }
    // Where the loop is another motion than its formula's, the gradient is that of the loop.
    const auto rounding = [&](std::span<const double* const> at) {
      const std::vector<double> sizes = largest(system, at);
      const bool finite = std::ranges::all_of(sizes, [](double x) { return std::isfinite(x); });
      if (!finite || !notes.has_loop) return std::string();
      return check_rounding(view, view.forward(), *prepared, jump, at, sizes, captured,
                            [&](std::span<const double> x) { return system.reach(x); });
    };
    if (reason.empty()) reason = rounding(task.state);
    if (reason.empty()) {
      start = std::chrono::steady_clock::now();
      const SumsFindings found = way.sums(task);
      notes.apply_s = seconds_since(start);
      notes.structure = found.structure;
      notes.of_each = found.of_each;
      notes.of_largest = found.of_largest;
      reason = found.refused;
      std::vector<const double*> end;
      for (const auto& part : found.end) end.push_back(part.data());
      if (reason.empty() && !end.empty())
        if (const std::string meant = rounding(end); !meant.empty()) reason = "at its end " + meant;
    }
    if (reason.empty()) {
      notes.jumped = true;
      notes.propagator = rows[i].name;
      return result;
    }
    notes.refused.push_back(std::string(rows[i].name) + ": " + reason);
  }
  return result;
}

void JumpNotes::report(Records& to) const {
  std::string kind = !hamiltonian ? "the step is affine in its carry"
                     : separable  ? "separable, H = T(p) + V(q)"
                                  : "q and p coupled";
  if (!structure.empty()) kind += "; " + structure;
  to.push_back({Finding::kFound, kind});
  if (!jumped) {
    for (std::size_t i = 0; i < refused.size(); ++i) {
      Record r{Finding::kRefused, refused[i]};
      if (by_cost && i + 1 == refused.size()) {
        r.text += fmt::format(" (the jump: {}, the loop: {}, its compilation included)",
                              duration_text(jump_s), duration_text(loop_s));
        r.numbers = {{"jump_seconds", jump_s}, {"loop_seconds", loop_s}};
      }
      to.push_back(std::move(r));
    }
    to.push_back(
        {Finding::kChose,
         fmt::format("the loop{}{}", hamiltonian ? fmt::format(" of {} steps", integrator) : "",
                     of_gradient
                         ? ", backward, over a tape of its states, or checkpoints where that is too large"
                         : "")});
    return;
  }
  Record chose{Finding::kChose,
               fmt::format("{}{} (class exact): ",
                           of_gradient ? "the gradient's sums over the steps, by the " : "", propagator)};
  if (build_s > 0)
    chose.text += fmt::format("{} once, then {} {}", duration_text(build_s), duration_text(apply_s),
                              of_gradient ? "the sums" : "a jump");
  else
    chose.text += fmt::format("{}{}", duration_text(apply_s), of_gradient ? "" : ", its modes were ready");
  if (has_loop) chose.text += fmt::format("; the loop would take about {}", duration_text(loop_s));
  chose.numbers = {{"class", "exact"},
                   {"propagator", std::string(propagator)},
                   {"build_seconds", build_s},
                   {"jump_seconds", apply_s},
                   {"loop_seconds", loop_s}};
  to.push_back(std::move(chose));
  if (of_gradient)
    to.push_back(
        {Finding::kError,
         fmt::format("the gradient ~ {:.0e} of its largest element, from sums that are right to {:.0e} of "
                     "theirs",
                     gradient_rounding, of_each + of_largest),
         "",
         {{"gradient", gradient_rounding}, {"sums", of_each + of_largest}}});

  const std::string map = hamiltonian ? std::string(integrator) + " map" : "step, taken so many times";
  const auto part = [&](std::size_t i) {
    return hamiltonian ? std::string(i == 0 ? "q" : "p") : fmt::format("carry {}", i);
  };
  double worst = 0;
  for (double e : findings.error) worst = std::max(worst, e);
  if (worst > 0 && std::isfinite(worst)) {
    Record error{Finding::kError, "", "", {}};
    const auto key = [&](std::size_t i) { return hamiltonian ? part(i) : std::to_string(i); };
    for (std::size_t i = 0; i < findings.error.size(); ++i) {
      error.text += fmt::format("{}{} <= {:.1e}{}", i ? ", " : "", part(i), findings.error[i],
                                findings.error[i] < 1 ? "" : " (no digit is certain)");
      error.numbers.emplace_back("bound_" + key(i), findings.error[i]);
    }
    error.text += " relative to the exactly evaluated " + map;
    for (std::size_t i = 0; i < loop_rounding.size(); ++i) {
      error.text +=
          fmt::format("{}{} ~ {:.0e}", i ? ", " : "; the loop's own rounding: ", part(i), loop_rounding[i]);
      error.numbers.emplace_back("loop_" + key(i), loop_rounding[i]);
    }
    to.push_back(std::move(error));
  } else if (!findings.error.empty()) {
    to.push_back({Finding::kError,
                  "no bound: the state leaves the range of doubles or its square does, or a part of it is "
                  "zero but for rounding"});
  }
  if (findings.largest_h_omega > 0)
    to.push_back({Finding::kSpectrum,
                  fmt::format("largest h*omega {:.4g}", findings.largest_h_omega),
                  "",
                  {{"largest_h_omega", findings.largest_h_omega}}});
  if (findings.unstable_modes > 0 && findings.growth_decades > kVisibleGrowth) {
    const std::string what =
        findings.largest_h_omega > 0 || separable
            ? fmt::format("{} mode{} unstable under this step (h*omega beyond its limit, or K not positive)",
                          findings.unstable_modes, findings.unstable_modes == 1 ? " is" : "s are")
            : std::string("the step is unstable");
    to.push_back(
        {Finding::kWarns,
         fmt::format("{}: the motion grows by 10^{:.4g}, as the loop's would", what, findings.growth_decades),
         "",
         {{"unstable_modes", findings.unstable_modes}, {"decades", findings.growth_decades}}});
  }
}

}  // namespace tinyphys
