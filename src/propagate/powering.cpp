// The step as matrices, raised to the power N by squaring in double-double (linalg/affine_power.hpp): any small
// affine map, defective ones and linear flows that join q and p included. Coordinates that nothing couples are blocks
// of their own; blocks that are equal in every bit share one power.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "linalg/affine_power.hpp"
#include "linalg/affine_sums.hpp"
#include "propagate/propagator.hpp"
#include "support/cost_model.hpp"
#include "support/thread_pool.hpp"

namespace tinyphys {
namespace {

// Below so many coordinates the work of a jump is over before another thread has woken.
constexpr std::int64_t kParallelCoordinates = 1 << 12;
constexpr std::int64_t kBlocksPerTask = 256;
// The smallest normal number. Errors below it are the loop's, too: there it rounds to multiples of 2^-1074 in each step, and
// may stay at many of them.
constexpr double kTiny = 0x1p-1022;

std::size_t u(std::int64_t i) { return static_cast<std::size_t>(i); }

class PoweringPropagator final : public Propagator {
 public:
  explicit PoweringPropagator(std::shared_ptr<const JumpSystem> system) : system_(std::move(system)) {
    if (!system_->form().reason.empty()) return;
    find_blocks();
    std::int64_t largest = 0;
    for (std::size_t b = 0; b + 1 < first_.size(); ++b)
      largest = std::max(largest, first_[b + 1] - first_[b]);
    if (largest > AffinePower::kMaxOrder)
      reason_ =
          (largest == system_->size() ? std::to_string(largest) + " coordinates in all"
                                      : "a block of " + std::to_string(largest) + " coupled coordinates") +
          "; powering takes at most " + std::to_string(AffinePower::kMaxOrder);
    else
      find_kinds();
  }

  JumpEstimate estimate(const JumpTask& task) const override {
    if (!reason_.empty()) return {0, 0, reason_};
    const int squarings = std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(task.steps, 1)));
    const double s = cost_model().dd_multiply_add_s;
    return {ready(task) ? 0 : products_ * s * (2.0 * squarings + 24), applied_ * s};
  }

  std::string build() override { return reason_; }

  JumpFindings jump(const JumpTask& task) override {
    JumpFindings f;
    const std::int64_t n = system_->size(), blocks = static_cast<std::int64_t>(first_.size()) - 1;
    f.structure = structure();
    if (!ready(task)) {
      h_ = task.h;
      steps_ = task.steps;
      powers_.assign(kind_example_.size(), {});
      for_all(static_cast<std::int64_t>(powers_.size()), 1, [&](std::int64_t k) {
        powers_[u(k)] = affine_power(step(kind_example_[u(k)], task.h), task.steps);
      });
    }
    for (const AffinePower& p : powers_)
      if (f.refused.empty()) f.refused = p.reason();
    if (!f.refused.empty()) return f;

    std::vector<double> z(u(n)), after(u(n)), bound(u(n));
    std::size_t at = 0;
    for (std::size_t i = 0; i < task.state.size(); ++i) {
      std::copy_n(task.state[i], system_->sizes[i], z.data() + at);
      at += u(system_->sizes[i]);
    }
    const double loop_error = 0x1p-53 * std::sqrt(static_cast<double>(task.steps));
    // A loop rounds each step to the size of the state it has; a jump is to be as close.
    const double allowed = std::max(loop_error, 0x1p-50);
    std::atomic<bool> beyond = false, unstable = false;
    for_all(blocks, kBlocksPerTask, [&](std::int64_t b) {
      const AffinePower& power = powers_[u(kind_[u(b)])];
      const std::int64_t d = first_[u(b) + 1] - first_[u(b)];
      double in[AffinePower::kMaxOrder] = {}, out[AffinePower::kMaxOrder], error[AffinePower::kMaxOrder];
      const auto coordinate = [&](std::int64_t i) { return u(order_[u(first_[u(b)] + i)]); };
      for (std::int64_t i = 0; i < d; ++i) in[i] = z[coordinate(i)];
      power.apply(in, out);
      if (power.error_bounds(in, out, error) > allowed &&
          std::any_of(error, error + d, [](double e) { return !(e <= kTiny); }))
        beyond = true;
      for (std::int64_t i = 0; i < d; ++i) {
        after[coordinate(i)] = out[i];
        bound[coordinate(i)] = error[i];
        if (!std::isfinite(out[i])) unstable = true;
      }
    });
    at = 0;
    for (std::size_t i = 0; i < task.out.size(); ++i) {
      const auto size = system_->sizes[i];
      double out = 0, error = 0;
      for (std::int64_t k = 0; k < size; ++k) {
        const double x = after[at + u(k)];
        task.out[i][k] = x;
        out = std::isnan(x) ? std::numeric_limits<double>::infinity() : std::max(out, std::fabs(x));
        error = std::max(error, bound[at + u(k)]);
      }
      f.error.push_back(!std::isfinite(out) ? std::numeric_limits<double>::infinity()
                        : out > 0
                            ? 0x1p-53 + (error + 0x1p-1074) / out  // a subnormal result has fewer digits
                        : error > 0 ? std::numeric_limits<double>::infinity()
                                    : 0);
      // Of q and p each has its own bound; a carry's parts are judged together, in balanced units.
      if (hamiltonian() && std::isfinite(f.error.back()) && f.error.back() > allowed && error > kTiny)
        beyond = true;
      at += u(size);
    }
    if (task.has_loop && beyond) f.refused = "its error may be larger than the loop's";
    // Powers of a map whose eigenvalues are within the unit circle stay within a polynomial of N.
    constexpr double kDecadesPerBit = 0.30102999566398120;
    const double polynomial = std::log10(static_cast<double>(std::max<std::int64_t>(task.steps, 1))) + 3;
    for (const AffinePower& p : powers_) {
      const double decades = p.log2_size() * kDecadesPerBit;
      f.growth_decades = std::max(f.growth_decades, decades);
      if (decades > polynomial) unstable = true;
    }
    f.unstable_modes = unstable ? 1 : 0;
    return f;
  }

  double estimate_sums(const SumsTask& task) const override {
    const double doublings = std::log2(static_cast<double>(task.steps) + 2.0) + 8;
    double products = 0;
    for (const Member& m : members_of(task.rows)) {
      double sum = 0, squares = 0;
      for (std::int64_t b : m) {
        const auto d = static_cast<double>(first_[u(b) + 1] - first_[u(b)]);
        sum += d;
        squares += d * d;
      }
      const auto blocks = static_cast<double>(m.size());
      products += 2 * sum * squares + kPairOverhead * blocks * blocks + kCourseOverhead * blocks;
    }
    return products * doublings * 1.5 * cost_model().dd_multiply_add_s;
  }

  SumsFindings sums(const SumsTask& task) override {
    SumsFindings f;
    f.structure = structure();
    const std::size_t parts = system_->sizes.size();
    for (std::size_t i = 0; i < 2 * parts; ++i)
      std::fill_n(task.out[i], (i < parts ? task.rows : 1) * system_->sizes[i % parts], 0.0);
    if (task.steps == 0) return f;
    const std::vector<StepPowers> powers = powers_of_kinds(task);
    for (const StepPowers& p : powers)
      if (f.refused.empty()) f.refused = p.reason;
    if (!f.refused.empty()) return f;
    const std::int64_t count = system_->size() / task.rows;
    std::vector<Place> places;
    std::int64_t row = 0;
    for (std::size_t s = 0; s < system_->sizes.size(); ++s) {
      const std::int64_t own = system_->sizes[s] / count;
      for (std::int64_t k = 0; k < system_->sizes[s]; ++k) places.push_back({s, k, row + k % own});
      row += own;
    }
    const std::vector<Member> members = members_of(task.rows);
    for (const Member& m : members)
      if (m.empty()) return f.refused = "its blocks are not those of members", f;
    for (const std::int64_t size : system_->sizes) f.end.emplace_back(u(size));

    // How far off the sums of each member are, the largest of each kind. First by what is known of the powers alone; where that is
    // more than the rounding of the result, more closely.
    std::vector<double> off(2 * parts * members.size());
    f.of_each = 0x1p-52;
    for (const bool closely : {false, true}) {
      const bool one = members.size() == 1;
      const auto take = [&](std::int64_t i) {
        sums_of_member(members[u(i)], powers, places, task, closely, one, &off[2 * parts * u(i)], f.end);
      };
      if (one)
        take(0);
      else
        for_all(static_cast<std::int64_t>(members.size()), kBlocksPerTask, take);
      f.of_largest = 0;
      for (std::size_t i = 0; i < 2 * parts; ++i) {
        const std::int64_t size = system_->sizes[i % parts] * (i < parts ? task.rows : 1);
        double most = 0, error = 0;
        for (std::int64_t k = 0; k < size; ++k) {
          if (!std::isfinite(task.out[i][k]))
            return f.refused = "the sums of the gradient leave the range of doubles", f;
          most = std::max(most, std::fabs(task.out[i][k]));
        }
        for (std::size_t m = 0; m < members.size(); ++m) keep_larger(error, off[2 * parts * m + i]);
        // Sums of 0 are 0 by structure, or lost.
        if (most > 0) keep_larger(f.of_largest, error / most);
      }
      if (f.of_largest <= 0x1p-52) break;
    }
    return f;
  }

  double kept_doubles() const override {
    double n = 3 * static_cast<double>(system_->size());
    for (std::int64_t b : kind_example_) {
      const auto d = static_cast<double>(first_[u(b) + 1] - first_[u(b)]);
      n += 2 * d * (d + 1);
    }
    return n;
  }

 private:
  // Handling a block, and in each doubling of sums a pair of them and each by itself, in multiply-adds.
  static constexpr double kBlockOverhead = 20, kPairOverhead = 20, kCourseOverhead = 150;

  bool ready(const JumpTask& task) const { return !powers_.empty() && h_ == task.h && steps_ == task.steps; }

  bool hamiltonian() const { return system_->kind == PropagateKind::kHamiltonian; }
  // The coordinate that row r of the form drives: row r of (dH/dq, dH/dp) drives p with a minus sign, q with a plus.
  std::int64_t driven(std::int64_t r) const {
    const std::int64_t n = system_->size() / 2;
    return !hamiltonian() ? r : r < n ? r + n : r - n;
  }

  std::string structure() const {
    const std::int64_t n = system_->size(), blocks = static_cast<std::int64_t>(first_.size()) - 1;
    if (blocks <= 1)
      return "the step matrix of " + std::to_string(n) + " coordinates, powered in double-double";
    std::string t = std::to_string(n) + " coordinates in " + std::to_string(blocks) + " blocks, ";
    t += kind_example_.size() == 1 ? "all of one step matrix"
                                   : std::to_string(kind_example_.size()) + " step matrices";
    return t + ", powered in double-double";
  }

  template <class F> void for_all(std::int64_t count, std::int64_t per_task, F&& f) const {
    if (system_->size() < kParallelCoordinates) {
      for (std::int64_t i = 0; i < count; ++i) f(i);
      return;
    }
    thread_pool().parallel_for((count + per_task - 1) / per_task, [&](long task) {
      for (std::int64_t i = task * per_task; i < std::min(count, (task + 1) * per_task); ++i) f(i);
    });
  }

  void find_blocks() {
    const AffineForm& form = system_->form();
    const std::int64_t n = system_->size();
    std::vector<std::int64_t> parent(u(n));
    std::iota(parent.begin(), parent.end(), std::int64_t{0});
    const auto root = [&](std::int64_t i) {
      while (parent[u(i)] != i) i = parent[u(i)] = parent[u(parent[u(i)])];
      return i;
    };
    for (std::int64_t r = 0; r < n; ++r)
      for (auto k = u(form.row_start[u(r)]); k < u(form.row_start[u(r) + 1]); ++k) {
        const std::int64_t a = root(driven(r)), b = root(form.col[k]);
        parent[u(std::max(a, b))] = std::min(a, b);  // the root is the smallest: blocks are in order
      }
    block_of_.assign(u(n), 0);
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < n; ++i) block_of_[u(i)] = root(i) == i ? count++ : block_of_[u(root(i))];
    first_.assign(u(count) + 1, 0);
    for (std::int64_t i = 0; i < n; ++i) ++first_[u(block_of_[u(i)]) + 1];
    for (const std::int64_t d : first_)
      if (d > 0) applied_ += static_cast<double>(d) * static_cast<double>(d) + kBlockOverhead;
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    std::vector<std::int64_t> next(first_.begin(), first_.end() - 1);
    order_.resize(u(n));
    local_.resize(u(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t b = block_of_[u(i)];
      local_[u(i)] = next[u(b)] - first_[u(b)];
      order_[u(next[u(b)]++)] = i;
    }
  }

  // The rows of a block: f(row of the form, local row).
  template <class F> void rows_of(std::int64_t block, F&& f) const {
    for (std::int64_t i = first_[u(block)]; i < first_[u(block) + 1]; ++i) {
      const std::int64_t to = order_[u(i)];
      f(driven(to), i - first_[u(block)]);  // it is its own inverse
    }
  }

  void find_kinds() {
    const AffineForm& form = system_->form();
    std::map<std::vector<double>, std::int64_t> known;
    std::vector<double> content;
    const std::int64_t blocks = static_cast<std::int64_t>(first_.size()) - 1;
    for (std::int64_t b = 0; b < blocks; ++b) {
      content.clear();
      rows_of(b, [&](std::int64_t r, std::int64_t) {
        content.push_back(hamiltonian() && r < system_->size() / 2);  // a momentum's
        content.push_back(form.offset[u(r)].hi);
        content.push_back(form.offset[u(r)].lo);
        content.push_back(static_cast<double>(form.row_start[u(r) + 1] - form.row_start[u(r)]));
        for (auto k = u(form.row_start[u(r)]); k < u(form.row_start[u(r) + 1]); ++k) {
          content.push_back(static_cast<double>(local_[u(form.col[k])]));
          content.push_back(form.value[k].hi);
          content.push_back(form.value[k].lo);
        }
      });
      const auto [it, fresh] = known.try_emplace(content, static_cast<std::int64_t>(kind_example_.size()));
      if (fresh) {
        kind_example_.push_back(b);
        const auto d = static_cast<double>(first_[u(b) + 1] - first_[u(b)]);
        products_ += d * d * (d + 1) + kBlockOverhead;
      }
      kind_.push_back(it->second);
    }
  }

  // Of z' = G z + g (kHamiltonian), or the map itself (kAffine).
  struct Generator {
    DDMatrix m;
    std::vector<DD> offset;
    long positions = 0;  // they come first
  };
  Generator generator(std::int64_t block) const {
    const AffineForm& form = system_->form();
    const auto d = static_cast<long>(first_[u(block) + 1] - first_[u(block)]);
    const std::int64_t half = system_->size() / 2;
    Generator out{DDMatrix(d, d), std::vector<DD>(u(d))};
    auto& [m, offset, positions] = out;
    rows_of(block, [&](std::int64_t r, std::int64_t to) {
      const bool kick = hamiltonian() && r < half;
      positions += hamiltonian() && !kick;
      const DD sign = kick ? DD(-1.0) : DD(1.0);
      for (auto k = u(form.row_start[u(r)]); k < u(form.row_start[u(r) + 1]); ++k) {
        const auto col = static_cast<long>(local_[u(form.col[k])]);
        m.set(static_cast<long>(to), col, m.at(static_cast<long>(to), col) + sign * form.value[k]);
      }
      offset[u(to)] = sign * form.offset[u(r)];
    });
    return out;
  }

  static AffineMap identity(long d) {
    AffineMap map;
    map.d = d;
    map.b = DDMatrix(d, d);
    map.shift.assign(u(d), DD(0.0));
    return map;
  }
  static AffineMap substep(const Generator& of, const Substep& s, double h) {
    const long d = of.m.rows;
    // c h as exact as the entries are, not rounded first.
    DDMatrix g = of.m;
    std::vector<DD> shift = of.offset;
    for (std::size_t i = 0; i < g.hi.size(); ++i) {
      const DD x = DD(g.hi[i], g.lo[i]) * s.coefficient;
      g.hi[i] = x.hi;
      g.lo[i] = x.lo;
    }
    for (DD& x : shift) x = x * s.coefficient;
    return s.part == Part::kKick    ? partial_step(g, shift, h, of.positions, d - of.positions)
           : s.part == Part::kDrift ? partial_step(g, shift, h, 0, of.positions)
           : s.part == Part::kSolve ? midpoint_step(g, shift, h)
                                    : exact_step(g, shift, h);
  }
  // Entries in double-double.
  static double relative_error(long d) { return 0x1p-101 * static_cast<double>(d); }

  // The map of one step of a block, as A - I and a shift.
  AffineMap step(std::int64_t block, double h) const {
    Generator g = generator(block);
    const long d = g.m.rows;
    AffineMap map = identity(d);
    if (!hamiltonian()) {
      for (long i = 0; i < d; ++i) g.m.set(i, i, g.m.at(i, i) - 1.0);
      map.b = std::move(g.m);
      map.shift = std::move(g.offset);
    } else {
      for (const Substep& s : row_of(system_->integrator).substeps) map = compose(substep(g, s, h), map);
    }
    map.relative_error = relative_error(d);
    return map;
  }

  // What the sums of a gradient need of each kind.
  std::vector<StepPowers> powers_of_kinds(const SumsTask& task) const {
    std::vector<StepPowers> powers(kind_example_.size());
    if (!hamiltonian()) {
      for_all(static_cast<std::int64_t>(powers.size()), 1, [&](std::int64_t k) {
        powers[u(k)] = step_powers(step(kind_example_[u(k)], task.h), task.steps);
      });
      return powers;
    }
    const std::span<const Substep> substeps = row_of(system_->integrator).substeps;
    const bool flow = substeps.size() == 1 && substeps[0].part == Part::kFlow && substeps[0].coefficient == 1;
    int doublings = 0;
    for (const std::int64_t b : kind_example_)
      if (flow) doublings = std::max(doublings, doublings_of(generator(b).m, task.h, task.steps));
    for_all(static_cast<std::int64_t>(powers.size()), 1, [&](std::int64_t k) {
      const std::int64_t block = kind_example_[u(k)];
      const Generator g = generator(block);
      if (flow) {
        powers[u(k)] = flow_powers(g.m, g.offset, task.h, task.steps, doublings);
        return;
      }
      StepPowers& p = powers[u(k)] = step_powers(step(block, task.h), task.steps);
      if (p.reason.empty()) p.reason = add_terms(g, substeps, task.h, p);
    });
    return powers;
  }

  // Where in a step of parts a change of G acts. In a solve, z' = z + c h G (z + z') / 2: on what is half way through it,
  // z + B z / 2 of its map I + B, and what it does there comes out by (1 - c h G / 2)^-1 = 1 + B / 2 and the parts behind. A
  // kick or a drift: on what the parts before it leave, and of what it does only the momenta or the positions count.
  std::string add_terms(const Generator& g, std::span<const Substep> substeps, double h,
                        StepPowers& to) const {
    const long d = g.m.rows;
    std::vector<AffineMap> parts;
    for (const Substep& s : substeps) {
      if (s.part == Part::kFlow) return "the sums of its gradient are not known for this method";
      parts.push_back(substep(g, s, h));
    }
    for (std::size_t i = 0; i < parts.size(); ++i) {
      AffineMap half = identity(d);
      if (substeps[i].part == Part::kSolve) {
        half = parts[i];
        for (std::size_t k = 0; k < half.b.hi.size(); ++k) {
          half.b.hi[k] *= 0.5;
          half.b.lo[k] *= 0.5;
        }
        for (DD& x : half.shift) x = ldexp(x, -1);
      }
      AffineMap before = identity(d), behind = half;
      for (std::size_t k = 0; k < i; ++k) before = compose(parts[k], before);
      for (std::size_t k = i + 1; k < parts.size(); ++k) behind = compose(parts[k], behind);
      SumTerm term{substeps[i].coefficient, compose(half, before), {}};
      if (!term.at.reason.empty()) return term.at.reason;
      const auto counts = [&](long c) {
        return substeps[i].part == Part::kKick    ? c >= g.positions
               : substeps[i].part == Part::kDrift ? c < g.positions
                                                  : true;
      };
      for (long r = 0; r < d; ++r)
        for (long c = 0; c < d; ++c)
          term.r.push_back(counts(c) ? behind.b.at(r, c) + (r == c ? 1.0 : 0.0) : DD(0.0));
      to.terms.push_back(std::move(term));
    }
    return {};
  }

  // Of a coordinate: its part of the state, where it is there, and its number in its member.
  struct Place {
    std::size_t part;
    std::int64_t at, row;
  };
  static void keep_larger(double& most, double x) { most = x <= most ? most : x; }  // NaN stays

  // All pairs of the member's blocks; `off` as in sums().
  void sums_of_member(const std::vector<std::int64_t>& blocks, const std::vector<StepPowers>& powers,
                      const std::vector<Place>& places, const SumsTask& task, bool closely, bool in_parallel,
                      double* off, std::vector<std::vector<double>>& end) const {
    const std::size_t parts = system_->sizes.size(), count = blocks.size();
    const auto place = [&](std::int64_t block, long k) -> const Place& {
      return places[u(order_[u(first_[u(block)] + k)])];
    };
    std::vector<StateCourse> states;
    std::vector<CotangentCourse> cotangents;
    for (const std::int64_t b : blocks) {
      const StepPowers& of = powers[u(kind_[u(b)])];
      double z[AffinePower::kMaxOrder] = {}, c[AffinePower::kMaxOrder] = {};
      for (long k = 0; k < of.d; ++k) {
        const Place& p = place(b, k);
        z[k] = task.state[p.part][p.at];
        c[k] = task.cotangents[p.part][p.at];
      }
      states.push_back(state_course(of, z));
      cotangents.push_back(cotangent_course(of, task.steps, c));
      for (long k = 0; k < of.d; ++k) {
        const Place& p = place(b, k);
        end[p.part][u(p.at)] = z[k] + states.back().end[u(k)];
      }
    }
    std::vector<double> of_pairs(2 * parts * count * count);
    const auto take = [&](std::int64_t pair) {
      const std::size_t a = u(pair) / count, b = u(pair) % count;
      double* worst = &of_pairs[2 * parts * u(pair)];
      const BlockSums sums = block_sums(states[a], cotangents[b], task.steps, closely);
      const long n = states[a].of->d, m = cotangents[b].of->d;
      for (long k = 0; k < m; ++k) {
        // The output of the map that drives this coordinate.
        const std::int64_t r = driven(order_[u(first_[u(blocks[b])] + k)]);
        const double sign = hamiltonian() && r < system_->size() / 2 ? -1.0 : 1.0;
        const Place& to = places[u(r)];
        const std::int64_t size = system_->sizes[to.part];
        for (long j = 0; j < n; ++j) {
          task.out[to.part][place(blocks[a], j).row * size + to.at] = sign * sums.phi[u(j * m + k)];
          keep_larger(worst[to.part], sums.phi_error[u(j * m + k)]);
        }
        if (a != b) continue;
        task.out[parts + to.part][to.at] = sign * sums.psi[u(k)];
        keep_larger(worst[parts + to.part], sums.psi_error[u(k)]);
      }
    };
    const auto pairs = static_cast<std::int64_t>(count * count);
    if (in_parallel)
      for_all(pairs, kBlocksPerTask, take);
    else
      for (std::int64_t i = 0; i < pairs; ++i) take(i);
    for (std::size_t i = 0; i < 2 * parts; ++i) {
      off[i] = 0;
      for (std::size_t k = 0; k < count * count; ++k) keep_larger(off[i], of_pairs[2 * parts * k + i]);
    }
  }

  // The blocks of each member of so many coordinates, all parts of the state together; empty where a block is not of one.
  using Member = std::vector<std::int64_t>;
  std::vector<Member> members_of(std::int64_t rows) const {
    const std::int64_t count = system_->size() / rows;
    std::vector<std::int64_t> member_of;
    for (const std::int64_t size : system_->sizes)
      for (std::int64_t k = 0; k < size; ++k) member_of.push_back(k / (size / count));
    std::vector<Member> members(u(count));
    for (std::int64_t b = 0; b + 1 < static_cast<std::int64_t>(first_.size()); ++b) {
      const std::int64_t m = member_of[u(order_[u(first_[u(b)])])];
      for (std::int64_t i = first_[u(b)]; i < first_[u(b) + 1]; ++i)
        if (member_of[u(order_[u(i)])] != m) return std::vector<Member>(1);
      members[u(m)].push_back(b);
    }
    return members;
  }

  std::shared_ptr<const JumpSystem> system_;
  std::string reason_;
  double products_ = 0, applied_ = 0;  // operations of one product of all kinds, of one application
  // The coordinates of block b are order_[first_[b]] to order_[first_[b + 1] - 1], ascending.
  std::vector<std::int64_t> block_of_, local_, first_{0}, order_;
  std::vector<std::int64_t> kind_;          // of each block
  std::vector<std::int64_t> kind_example_;  // of each kind, a block
  std::vector<AffinePower> powers_;         // of each kind
  double h_ = 0;
  std::int64_t steps_ = 0;
};

}  // namespace

std::unique_ptr<Propagator> make_powering(std::shared_ptr<const JumpSystem> system) {
  return std::make_unique<PoweringPropagator>(std::move(system));
}

}  // namespace tinyphys
