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
#include "propagate/propagator.hpp"
#include "support/cost_model.hpp"
#include "support/thread_pool.hpp"

namespace tinyphys {
namespace {

// Below so many coordinates the work of a jump is over before another thread has woken.
constexpr std::int64_t kParallelCoordinates = 1 << 12;
constexpr std::int64_t kBlocksPerTask = 256;

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
      if (power.error_bounds(in, out, error) > allowed) beyond = true;
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
      if (hamiltonian() && std::isfinite(f.error.back()) && f.error.back() > allowed) beyond = true;
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

  double kept_doubles() const override {
    double n = 3 * static_cast<double>(system_->size());
    for (std::int64_t b : kind_example_) {
      const auto d = static_cast<double>(first_[u(b) + 1] - first_[u(b)]);
      n += 2 * d * (d + 1);
    }
    return n;
  }

 private:
  // Handling a block, in multiply-adds.
  static constexpr double kBlockOverhead = 20;

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

  // The map of one step of a block, as A - I and a shift.
  AffineMap step(std::int64_t block, double h) const {
    const AffineForm& form = system_->form();
    const auto d = static_cast<long>(first_[u(block) + 1] - first_[u(block)]);
    const std::int64_t half = system_->size() / 2;
    DDMatrix m(d, d);
    std::vector<DD> offset(u(d));
    long positions = 0;  // they come first
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
    AffineMap map;
    map.d = d;
    if (!hamiltonian()) {
      for (long i = 0; i < d; ++i) m.set(i, i, m.at(i, i) - 1.0);
      map.b = std::move(m);
      map.shift = std::move(offset);
    } else {
      map.b = DDMatrix(d, d);
      map.shift.assign(u(d), DD(0.0));
      for (const auto& [part, c] : row_of(system_->integrator).substeps) {
        // c h as exact as the entries are, not rounded first.
        DDMatrix g = m;
        std::vector<DD> shift = offset;
        for (std::size_t i = 0; i < g.hi.size(); ++i) {
          const DD x = DD(m.hi[i], m.lo[i]) * c;
          g.hi[i] = x.hi;
          g.lo[i] = x.lo;
        }
        for (DD& x : shift) x = x * c;
        map = compose(part == Part::kKick    ? partial_step(g, shift, h, positions, d - positions)
                      : part == Part::kDrift ? partial_step(g, shift, h, 0, positions)
                      : part == Part::kSolve ? midpoint_step(g, shift, h)
                                             : exact_step(g, shift, h),
                      map);
      }
    }
    map.relative_error = 0x1p-101 * static_cast<double>(d);  // entries in double-double
    return map;
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
