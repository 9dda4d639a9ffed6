// A separable quadratic H: its normal modes, each taken N steps ahead by its own formula (linalg/propagator.hpp).
#include <algorithm>
#include <cmath>

#include "linalg/propagator.hpp"
#include "propagate/mode_kernel.hpp"
#include "propagate/propagator.hpp"
#include "support/cost_model.hpp"
#include "support/thread_pool.hpp"

namespace tinyphys {
namespace {

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

// Rows and columns [first, first + n) of the affine form.
SparseDD block(const AffineForm& a, std::int64_t first, std::int64_t n) {
  SparseDD s;
  s.n = n;
  s.row_start.push_back(0);
  for (std::int64_t r = first; r < first + n; ++r) {
    for (auto k = static_cast<std::size_t>(a.row_start[static_cast<std::size_t>(r)]);
         k < static_cast<std::size_t>(a.row_start[static_cast<std::size_t>(r) + 1]); ++k)
      if (a.col[k] >= first && a.col[k] < first + n) {
        s.col.push_back(static_cast<int>(a.col[k] - first));
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

class NormalModePropagator final : public Propagator {
 public:
  explicit NormalModePropagator(std::shared_ptr<const JumpSystem> system) : system_(std::move(system)) {
    if (system_->kind != PropagateKind::kHamiltonian)
      reason_ = "no Hamiltonian is known of the loop";
    else if (!system_->separable)
      reason_ = "q and p are coupled";
    else
      blocks_ = coupled_blocks(system_->form(), n());
  }

  JumpEstimate estimate(const JumpTask& task) const override {
    if (!reason_.empty()) return {0, 0, reason_};
    std::int64_t singles = n();
    for (long b : blocks_) singles -= b;
    const auto count = static_cast<double>(singles);
    // Equal coordinates share their mode, which is known when the modes are.
    const auto powers = modes_ && modes_->has_jump(task.h, task.steps, system_->integrator) ? 0.0
                        : modes_ ? static_cast<double>(modes_->distinct())
                                 : static_cast<double>(n() - singles) + 1;
    return {modes_ ? 0 : NormalModes::build_seconds_estimate(blocks_) + count * cost_model().single_build_s,
            NormalModes::apply_seconds_estimate(blocks_) + count * cost_model().single_apply_s +
                powers * cost_model().mode_power_s};
  }

  std::string build() override {
    if (modes_ || !reason_.empty()) return reason_;
    const auto split = static_cast<std::size_t>(n());
    const std::span<const DD> offset(system_->form().offset);
    NormalModesResult built =
        NormalModes::build(block(system_->form(), 0, n()), block(system_->form(), n(), n()),
                           offset.first(split), offset.subspan(split), pool_for(blocks_, n()));
    modes_ = std::move(built.modes);
    return reason_ = built.reason;
  }

  JumpFindings jump(const JumpTask& task) override {
    JumpFindings r;
    r.structure = modes_text(blocks_, n());
    const auto made = modes_->jump(task.h, task.steps, system_->integrator, mode_kernel);
    r.refused = made->reason;
    if (!r.refused.empty()) return r;
    const StateError error = modes_->apply(*made, task.state[0], task.state[1], task.out[0], task.out[1]);
    r.error = {error.q, error.p};
    if (const auto& largest = error.largest) {
      r.start_sizes = {(*largest)[0], (*largest)[1]};
      r.end_sizes = {(*largest)[2], (*largest)[3]};
    }
    if (error.beyond_loop && task.has_loop)
      r.refused = "its error may be larger than the loop's: the masses or springs span too many decades";
    r.largest_h_omega = made->report.max_h_omega;
    r.unstable_modes = made->report.unstable_modes;
    r.growth_decades = made->report.log10_growth;
    return r;
  }

  double estimate_sums(const SumsTask& task) const override {
    constexpr double kOperations = 100;  // of a pair of modes in a doubling
    const CostModel& c = cost_model();
    const double doublings = std::log2(static_cast<double>(task.steps) + 2.0) + 8;
    double pairs = static_cast<double>(n()), products = 0;
    for (long b : blocks_) {
      const auto size = static_cast<double>(b);
      pairs += size * size;
      products += 4 * size * size * size;
    }
    return pairs * doublings * kOperations * c.op_s + products * c.multiply_add_s +
           static_cast<double>(n()) * doublings * c.mode_power_s;
  }

  SumsFindings sums(const SumsTask& task) override {
    SumsFindings f;
    f.refused = modes_->moments(task.h, task.steps, system_->integrator, task.state[0], task.state[1],
                                task.cotangents[0], task.cotangents[1], task.rows,
                                {task.out[0], task.out[1], task.out[2], task.out[3]});
    // Each doubling is a handful of operations in double.
    f.of_largest = 0x1p-51 * (std::log2(static_cast<double>(std::max<std::int64_t>(task.steps, 1))) + 8);
    return f;
  }

  double kept_doubles() const override {
    double entries = 0;
    for (long b : blocks_) entries += static_cast<double>(b) * static_cast<double>(b);
    return 4 * entries;
  }

 private:
  std::int64_t n() const { return system_->sizes[0]; }

  std::shared_ptr<const JumpSystem> system_;
  std::vector<long> blocks_;
  std::unique_ptr<NormalModes> modes_;
  std::string reason_;
};

}  // namespace

std::unique_ptr<Propagator> make_normal_modes(std::shared_ptr<const JumpSystem> system) {
  return std::make_unique<NormalModePropagator>(std::move(system));
}

}  // namespace tinyphys
