// The step as one matrix, raised to the power N by squaring in double-double (linalg/affine_power.hpp): any small
// affine map, defective ones and linear flows that join q and p included.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "linalg/affine_power.hpp"
#include "propagate/propagator.hpp"
#include "support/cost_model.hpp"

namespace tinyphys {
namespace {

class PoweringPropagator final : public Propagator {
 public:
  explicit PoweringPropagator(std::shared_ptr<const JumpSystem> system) : system_(std::move(system)) {
    const std::int64_t d = system_->size();
    if (d > AffinePower::kMaxOrder)
      reason_ = std::to_string(d) + " coordinates in all; powering takes at most " +
                std::to_string(AffinePower::kMaxOrder);
  }

  JumpEstimate estimate(const JumpTask& task) const override {
    if (!reason_.empty()) return {0, 0, reason_};
    const auto d = static_cast<double>(system_->size());
    const int squarings = std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(task.steps, 1)));
    const double product = d * d * (d + 1) * cost_model().dd_multiply_add_s;
    const bool ready = power_ && h_ == task.h && steps_ == task.steps;
    return {ready ? 0 : product * (2.0 * squarings + 24), d * d * cost_model().dd_multiply_add_s};
  }

  std::string build() override { return reason_; }

  JumpFindings jump(const JumpTask& task) override {
    JumpFindings f;
    const long d = system_->size();
    f.structure = "the step matrix of " + std::to_string(d) + " coordinates, powered in double-double";
    if (!power_ || h_ != task.h || steps_ != task.steps) {
      const AffineMap map = step(task.h);
      h_ = task.h;
      steps_ = task.steps;
      power_ = std::make_unique<AffinePower>(affine_power(map, task.steps));
    }
    f.refused = power_->reason();
    if (!f.refused.empty()) return f;

    std::vector<double> z(static_cast<std::size_t>(d)), after(z.size());
    std::size_t at = 0;
    for (std::size_t i = 0; i < task.state.size(); ++i) {
      std::copy_n(task.state[i], system_->sizes[i], z.data() + at);
      at += static_cast<std::size_t>(system_->sizes[i]);
    }
    power_->apply(z.data(), after.data());
    // A product of double-double matrices is off by d 2^-104 of its entries' sums; N of them in a row by N times
    // that, each carried on by the powers before and after it. Relative to |A^N| |z|, then to what came out.
    const auto largest = [](const double* x, std::int64_t n) {
      double m = 0;
      for (std::int64_t i = 0; i < n; ++i) m = std::max(m, std::fabs(x[i]));
      return m;
    };
    const double growth = 2 * power_->log2_peak();
    const double relative = static_cast<double>(d) * 0x1p-102 *
                            static_cast<double>(std::max<std::int64_t>(task.steps, 1)) *
                            std::exp2(std::min(growth - std::min(power_->log2_size(), growth), 1000.0));
    const double size = std::exp2(std::min(power_->log2_size(), 1020.0)) * static_cast<double>(d) *
                        std::max(largest(z.data(), d), shift_size());
    at = 0;
    for (std::size_t i = 0; i < task.out.size(); ++i) {
      const auto n = system_->sizes[i];
      std::copy_n(after.data() + at, n, task.out[i]);
      const double out = largest(task.out[i], n);
      f.error.push_back(!std::isfinite(out)   ? std::numeric_limits<double>::infinity()
                        : out > 0             ? 0x1p-53 + relative * size / out
                        : relative * size > 0 ? std::numeric_limits<double>::infinity()
                                              : 0);
      at += static_cast<std::size_t>(n);
    }
    f.loop_error = 0x1p-53 * std::sqrt(static_cast<double>(task.steps));
    for (double e : f.error)
      if (task.has_loop && std::isfinite(e) && e > std::max(f.loop_error, 0x1p-50))
        f.refused = "its error may be larger than the loop's";
    // Powers of a map whose eigenvalues are within the unit circle stay within a polynomial of N.
    constexpr double kDecadesPerBit = 0.30102999566398120;
    f.growth_decades = power_->log2_size() * kDecadesPerBit;
    const double polynomial = std::log10(static_cast<double>(std::max<std::int64_t>(task.steps, 1))) + 3;
    if (f.growth_decades > polynomial || !std::isfinite(largest(after.data(), d))) f.unstable_modes = 1;
    return f;
  }

  double kept_doubles() const override {
    const auto d = static_cast<double>(system_->size());
    return d <= AffinePower::kMaxOrder ? 2 * d * (d + 1) : 0;
  }

 private:
  // The map of one step as A - I and a shift.
  AffineMap step(double h) const {
    const long d = system_->size();
    DDMatrix m(d, d);
    std::vector<DD> offset(static_cast<std::size_t>(d));
    const bool hamiltonian = system_->kind == PropagateKind::kHamiltonian;
    const AffineForm& form = system_->form;
    const long n = hamiltonian ? d / 2 : 0;
    for (long r = 0; r < d; ++r) {
      // Row r of (dH/dq, dH/dp) drives p with a minus sign, q with a plus.
      const long to = !hamiltonian ? r : r < n ? r + n : r - n;
      const DD sign = hamiltonian && r < n ? DD(-1.0) : DD(1.0);
      for (auto k = static_cast<std::size_t>(form.row_start[static_cast<std::size_t>(r)]);
           k < static_cast<std::size_t>(form.row_start[static_cast<std::size_t>(r) + 1]); ++k)
        m.set(to, static_cast<long>(form.col[k]),
              m.at(to, static_cast<long>(form.col[k])) + sign * form.value[k]);
      offset[static_cast<std::size_t>(to)] = sign * form.offset[static_cast<std::size_t>(r)];
    }
    AffineMap map;
    map.d = d;
    if (!hamiltonian) {
      for (long i = 0; i < d; ++i) m.set(i, i, m.at(i, i) - 1.0);
      map.b = std::move(m);
      map.shift = std::move(offset);
      return map;
    }
    map.b = DDMatrix(d, d);
    map.shift.assign(static_cast<std::size_t>(d), DD(0.0));
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
      map = compose(part == Part::kKick    ? partial_step(g, shift, h, n, n)
                    : part == Part::kDrift ? partial_step(g, shift, h, 0, n)
                    : part == Part::kSolve ? midpoint_step(g, shift, h)
                                           : exact_step(g, shift, h),
                    map);
    }
    return map;
  }

  double shift_size() const {
    double most = 0;
    for (const DD& x : system_->form.offset) most = std::max(most, std::fabs(x.hi));
    return most > 0 ? std::max(1.0, most) : 0;
  }

  std::shared_ptr<const JumpSystem> system_;
  std::string reason_;
  std::unique_ptr<AffinePower> power_;
  double h_ = 0;
  std::int64_t steps_ = 0;
};

}  // namespace

std::unique_ptr<Propagator> make_powering(std::shared_ptr<const JumpSystem> system) {
  return std::make_unique<PoweringPropagator>(std::move(system));
}

}  // namespace tinyphys
