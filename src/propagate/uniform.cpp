// Uniform chains and grids with ends: every site is coupled to its neighbours as every other, and at an end as if the
// motion went on beyond it, mirrored with its sign changed (fixed: at rest at -1 and n), mirrored (free: nothing pulls
// from outside) or repeated (periodic). Modes are products of sines and cosines (PHYSICS section 2, item 2), known without
// an eigensolver. An axis with one end fixed and the other free is half of one of twice the sites with both ends fixed, in
// motions that are mirrored about its middle.
//
//   lambda(k) = 1/m sum over offsets r of a(r) prod cos(r phi(k)) = 1/m (sum a(r) - sum a(r) (1 - prod cos))
//
// in double-double. The state goes through a transform in doubles there and back. What holds is seen from the couplings
// themselves, entry by entry, so that arrays which happen to be constant count as well.
#include <algorithm>
#include <cmath>
#include <limits>

#include "linalg/fft.hpp"
#include "linalg/mode_powers.hpp"
#include "propagate/mode_kernel.hpp"
#include "propagate/propagator.hpp"
#include "support/cost_model.hpp"
#include "support/thread_pool.hpp"

namespace tinyphys {
namespace {

// Fewer coordinates are taken by dense modes, which are closer to the exact map than transforms in doubles.
constexpr std::int64_t kFewestCoordinates = 512;
constexpr std::size_t kMaxAxes = 3;
constexpr std::size_t kMaxTaps = 512;
constexpr std::int64_t kChunk = 4096;
// What extraction in double-double may leave of equal couplings, relative to the sum of a site's.
constexpr double kSame = 0x1p-98;

std::size_t u(std::int64_t i) { return static_cast<std::size_t>(i); }

struct Tap {
  std::int64_t offset[kMaxAxes] = {0, 0, 0};
  DD value;
};
struct Entry {
  std::int64_t col;
  DD value;
};
using Row = std::vector<Entry>;

class UniformPropagator final : public Propagator {
 public:
  explicit UniformPropagator(std::shared_ptr<const JumpSystem> system) : system_(std::move(system)) {
    const auto& shapes = system_->shapes;
    if (!fft_available() || system_->kind != PropagateKind::kHamiltonian || !system_->separable ||
        shapes[0].empty() || shapes[0].size() > kMaxAxes || system_->sizes[0] < kFewestCoordinates)
      return;
    extent_.assign(shapes[0].begin(), shapes[0].end());
    form_ = &system_->form();
    suggested_ = form_->reason.empty() && equal_masses() && read_centre() && read_ends();
    if (suggested_) reason_ = differing_row();
  }

  JumpEstimate estimate(const JumpTask& task) const override {
    if (!suggested_) return {0, 0, "not uniform", true};
    if (!reason_.empty()) return {0, 0, reason_};
    const CostModel& c = cost_model();
    const auto count = static_cast<double>(waves());
    const double modes = count * (c.lattice_mode_s + static_cast<double>(taps_.size()) * c.lattice_tap_s);
    return {ready(task) ? 0 : modes, count * (8 * std::log2(count) * c.fft_point_s + c.lattice_point_s)};
  }

  std::string build() override { return reason_; }

  JumpFindings jump(const JumpTask& task) override {
    JumpFindings f;
    f.structure = structure();
    if (task.steps == 0) {
      for (std::size_t i = 0; i < 2; ++i) std::copy_n(task.state[i], n(), task.out[i]);
      return f;
    }
    if (!ready(task)) {
      f.refused = power(task);
      if (!f.refused.empty()) return f;
    }
    apply(task, f);
    f.largest_h_omega = largest_h_omega_;
    f.unstable_modes = unstable_modes_;
    f.growth_decades = growth_decades_;
    return f;
  }

  double kept_doubles() const override {
    return static_cast<double>(kernel_.size() * sizeof(Mode) / sizeof(double) + push_.size());
  }

 private:
  // q' = qq q + qp p + qf f, p' = pq q + pp p + pf f, with f the constant force.
  struct Mode {
    double qq, qp, qf, pq, pp, pf;
  };

  std::int64_t n() const { return system_->sizes[0]; }
  std::size_t axes() const { return extent_.size(); }
  bool mixed(std::size_t a) const { return low_[a] != high_[a]; }
  std::int64_t waves() const {
    std::int64_t count = 1;
    for (const std::int64_t w : wide_) count *= w;
    return count;
  }
  bool ready(const JumpTask& task) const { return !kernel_.empty() && h_ == task.h && steps_ == task.steps; }

  std::string structure() const {
    std::string t, ends;
    for (std::size_t a = 0; a < axes(); ++a) {
      t += (t.empty() ? "" : " x ") + std::to_string(extent_[a]);
      const auto word = [](End e) {
        return std::string(e == End::kFixed ? "fixed" : e == End::kFree ? "free" : "periodic");
      };
      const std::string end = word(low_[a]) + (mixed(a) ? " and " + word(high_[a]) : "");
      if (ends != end) ends += (ends.empty() ? "" : ", ") + end;
    }
    return "a uniform grid of " + t + " sites, ends " + ends + ": each coupling was compared";
  }

  Row row(std::int64_t r) const {
    Row out;
    for (auto k = form_->row_start[u(r)]; k < form_->row_start[u(r + 1)]; ++k)
      if (form_->value[u(k)].hi != 0) out.push_back({form_->col[u(k)], form_->value[u(k)]});
    return out;
  }
  bool same(DD a, DD b) const { return std::fabs((a - b).hi) <= kSame * scale_; }
  bool same(const Row& a, const Row& b) const {
    auto x = a.begin(), y = b.begin();
    while (x != a.end() || y != b.end()) {
      if (y == b.end() || (x != a.end() && x->col < y->col)) {
        if (!same((x++)->value, DD(0.0))) return false;
      } else if (x == a.end() || y->col < x->col) {
        if (!same((y++)->value, DD(0.0))) return false;
      } else if (!same((x++)->value, (y++)->value)) {
        return false;
      }
    }
    return true;
  }

  bool equal_masses() {
    for (std::int64_t i = 0; i < n(); ++i) {
      const Row r = row(n() + i);
      if (r.size() != 1 || r[0].col != n() + i || form_->offset[u(n() + i)].hi != 0) return false;
      if (i == 0) inverse_mass_ = r[0].value;
      if (!(r[0].value == inverse_mass_)) return false;
    }
    return inverse_mass_.hi > 0;
  }

  // The couplings of the site in the middle; those to both sides of it must be alike along each axis.
  bool read_centre() {
    std::int64_t site[kMaxAxes] = {0, 0, 0};
    for (std::size_t a = 0; a < axes(); ++a) site[a] = extent_[a] / 2;
    for (const Entry& e : row(index(site))) {
      if (e.col >= n()) return false;
      Tap t;
      t.value = e.value;
      std::int64_t rest = e.col;
      for (std::size_t a = axes(); a-- > 0; rest /= extent_[a]) t.offset[a] = rest % extent_[a] - site[a];
      taps_.push_back(t);
      scale_ += std::fabs(t.value.hi);
      for (std::size_t a = 0; a < axes(); ++a) reach_[a] = std::max(reach_[a], std::abs(t.offset[a]));
      if (taps_.size() > kMaxTaps) return false;
    }
    if (taps_.empty() || !std::isfinite(scale_)) return false;
    for (std::size_t a = 0; a < axes(); ++a) {
      if (reach_[a] > 0 && 2 * reach_[a] + 1 >= extent_[a]) return false;
      for (const Tap& t : taps_) {
        const auto mirrored = std::find_if(taps_.begin(), taps_.end(), [&](const Tap& o) {
          for (std::size_t b = 0; b < axes(); ++b)
            if (o.offset[b] != (a == b ? -t.offset[b] : t.offset[b])) return false;
          return true;
        });
        if (mirrored == taps_.end() || !same(mirrored->value, t.value)) return false;
      }
    }
    return true;
  }

  std::int64_t index(const std::int64_t* site) const {
    std::int64_t at = 0;
    for (std::size_t a = 0; a < axes(); ++a) at = at * extent_[a] + site[a];
    return at;
  }

  // The couplings that a site has by these ends.
  Row expected(const std::int64_t* site) const {
    Row out;
    for (const Tap& t : taps_) {
      std::int64_t to[kMaxAxes] = {0, 0, 0};
      bool odd = false, at_wall = false;
      for (std::size_t a = 0; a < axes(); ++a) {
        const std::int64_t size = extent_[a];
        std::int64_t y = site[a] + t.offset[a];
        if (low_[a] == End::kPeriodic) {
          y = (y + size) % size;
        } else if (y < 0) {
          const bool fixed = low_[a] == End::kFixed;
          at_wall = at_wall || (fixed && y == -1);
          odd = odd != fixed;
          y = fixed ? -2 - y : -1 - y;
        } else if (y >= size) {
          const bool fixed = high_[a] == End::kFixed;
          at_wall = at_wall || (fixed && y == size);
          odd = odd != fixed;
          y = fixed ? 2 * size - y : 2 * size - 1 - y;
        }
        to[a] = y;
      }
      if (!at_wall) out.push_back({index(to), odd ? -t.value : t.value});
    }
    std::sort(out.begin(), out.end(), [](const Entry& a, const Entry& b) { return a.col < b.col; });
    std::size_t kept = 0;
    for (const Entry& e : out) {
      if (kept > 0 && out[kept - 1].col == e.col)
        out[kept - 1].value = out[kept - 1].value + e.value;
      else
        out[kept++] = e;
    }
    out.resize(kept);
    return out;
  }

  // By the first site of each axis, and the last.
  bool read_ends() {
    low_.assign(axes(), End::kPeriodic);
    high_ = low_;
    for (std::size_t a = 0; a < axes(); ++a) {
      std::int64_t site[kMaxAxes] = {0, 0, 0};
      for (std::size_t b = 0; b < axes(); ++b) site[b] = extent_[b] / 2;
      const auto fits = [&](std::int64_t at, std::vector<End>& ends, End end) {
        site[a] = at;
        ends[a] = end;
        return same(row(index(site)), expected(site));
      };
      const auto one_of_two = [&](std::int64_t at, std::vector<End>& ends) {
        return fits(at, ends, End::kFree) || fits(at, ends, End::kFixed);
      };
      if (one_of_two(0, low_)) {
        if (!one_of_two(extent_[a] - 1, high_)) return false;
      } else if (high_[a] = End::kPeriodic; !fits(0, low_, End::kPeriodic)) {
        return false;
      }
    }
    wide_ = extent_;
    wide_ends_ = low_;
    for (std::size_t a = 0; a < axes(); ++a)
      if (mixed(a)) {
        wide_[a] *= 2;
        wide_ends_[a] = End::kFixed;
      }
    return true;
  }

  // The place among the waves' sites of a site, and the site that a place mirrors. An axis that begins free is turned round
  // about its first site: its mirror image comes first.
  std::int64_t place(std::int64_t site) const {
    std::int64_t at = 0, scale = 1;
    for (std::size_t a = axes(); a-- > 0; scale *= wide_[a], site /= extent_[a])
      at += scale * (site % extent_[a] + (mixed(a) && low_[a] == End::kFree ? extent_[a] : 0));
    return at;
  }
  std::int64_t mirrored(std::int64_t at) const {
    std::int64_t site = 0, scale = 1;
    for (std::size_t a = axes(); a-- > 0; scale *= extent_[a], at /= wide_[a]) {
      std::int64_t y = at % wide_[a];
      if (mixed(a))
        y = low_[a] == End::kFree ? (y < extent_[a] ? extent_[a] - 1 - y : y - extent_[a])
                                  : (y < extent_[a] ? y : wide_[a] - 1 - y);
      site += scale * y;
    }
    return site;
  }
  void to_waves(const double* x, double* wave) const {
    if (waves() != n()) {
      for (std::int64_t i = 0; i < waves(); ++i) wave[i] = x[mirrored(i)];
      x = wave;
    }
    transform_by_ends(wide_, wide_ends_, FftDirection::kForward, x, wave);
  }
  void from_waves(double* wave, double* x) const {
    if (waves() == n()) return transform_by_ends(wide_, wide_ends_, FftDirection::kInverse, wave, x);
    transform_by_ends(wide_, wide_ends_, FftDirection::kInverse, wave, wave);
    for (std::int64_t i = 0; i < n(); ++i) x[i] = wave[place(i)];
  }

  std::string differing_row() const {
    const std::int64_t chunks = (n() + kChunk - 1) / kChunk;
    std::vector<std::int64_t> bad(u(chunks), -1);
    thread_pool().parallel_for(chunks, [&](long chunk) {
      for (std::int64_t i = chunk * kChunk; i < std::min(n(), (chunk + 1) * kChunk); ++i) {
        std::int64_t site[kMaxAxes] = {0, 0, 0}, rest = i;
        for (std::size_t a = axes(); a-- > 0; rest /= extent_[a]) site[a] = rest % extent_[a];
        if (same(row(i), expected(site))) continue;
        bad[u(chunk)] = i;
        return;
      }
    });
    for (const std::int64_t i : bad)
      if (i >= 0) return "site " + std::to_string(i) + " is not coupled as the others are";
    return {};
  }

  // 2 sin^2(r phi / 2) for the wave numbers of an axis, for each r up to its reach.
  std::vector<std::vector<DD>> versines(std::size_t axis) const {
    const std::int64_t size = wide_[axis];
    const bool fixed = wide_ends_[axis] == End::kFixed, periodic = wide_ends_[axis] == End::kPeriodic;
    // phi = pi numerator / denominator; sin^2 has the period of 2 denominators.
    const std::int64_t denominator = fixed ? size + 1 : size;
    std::vector<std::vector<DD>> out(u(reach_[axis] + 1), std::vector<DD>(u(size), DD(0.0)));
    const std::int64_t chunks = (size + kChunk - 1) / kChunk;
    thread_pool().parallel_for(chunks, [&](long chunk) {
      for (std::int64_t k = chunk * kChunk; k < std::min(size, (chunk + 1) * kChunk); ++k) {
        const std::int64_t numerator = fixed ? k + 1 : periodic ? 2 * std::min(k, size - k) : k;
        for (std::int64_t r = 1; r <= reach_[axis]; ++r) {
          DD s, c;
          sincos(kDDPi * static_cast<double>(r * numerator % (2 * denominator)) /
                     static_cast<double>(2 * denominator),
                 s, c);
          out[u(r)][u(k)] = ldexp(sqr(s), 1);
        }
      }
    });
    return out;
  }

  std::string power(const JumpTask& task) {
    h_ = task.h;
    steps_ = task.steps;
    kernel_.assign(u(waves()), Mode{});
    DD rigid = 0.0;
    for (const Tap& t : taps_) rigid = rigid + t.value;
    std::vector<std::vector<std::vector<DD>>> versine;
    for (std::size_t a = 0; a < axes(); ++a) versine.push_back(versines(a));
    const IntegratorRow& row = row_of(system_->integrator);
    struct Found {
      double h_omega = 0, decades = 0;
      std::int64_t unstable = 0;
      std::string reason;
    };
    const std::int64_t chunks = (waves() + kChunk - 1) / kChunk;
    std::vector<Found> found(u(chunks));
    // What a constant force makes of a mode is asked for where there is one.
    const bool forced =
        std::any_of(form_->offset.begin(), form_->offset.end(), [](DD x) { return x.hi != 0; });
    thread_pool().parallel_for(chunks, [&](long chunk) {
      Found& f = found[u(chunk)];
      const std::int64_t first = chunk * kChunk, last = std::min(waves(), first + kChunk);
      std::vector<DD> lambdas;
      for (std::int64_t i = first; i < last; ++i) {
        std::int64_t k[kMaxAxes] = {0, 0, 0}, rest = i;
        for (std::size_t a = axes(); a-- > 0; rest /= wide_[a]) k[a] = rest % wide_[a];
        DD sum = rigid;
        for (const Tap& t : taps_) {
          DD missing = 0.0;  // 1 - prod cos
          for (std::size_t a = 0; a < axes(); ++a) {
            if (t.offset[a] == 0) continue;
            const DD v = versine[a][u(std::abs(t.offset[a]))][u(k[a])];
            missing = missing + v - missing * v;
          }
          sum = sum - t.value * missing;
        }
        lambdas.push_back(inverse_mass_ * sum);
      }
      const ModePowers powers(lambdas, h_, steps_, row, forced, {}, mode_kernel);
      f.reason = powers.reason();
      if (!f.reason.empty()) return;
      for (std::int64_t i = first; i < last; ++i) {
        const DD lambda = lambdas[u(i - first)];
        const ModeCoefficients c = powers.coefficients(i - first);
        const double size = std::max(std::fabs(c.t.hi), std::fabs(c.t_p.hi));
        if (c.exponent != 0 || !std::isfinite(size)) {
          f.reason = "the motion of a mode leaves the range of doubles";
          return;
        }
        if (lambda.hi > 0) f.h_omega = std::max(f.h_omega, std::fabs(h_) * std::sqrt(lambda.hi));
        if (size > 1 + 1e-6) {
          ++f.unstable;
          f.decades = std::max(f.decades, std::log10(size));
        }
        kernel_[u(i)] = {c.t.hi,
                         (c.b * inverse_mass_).hi,
                         (c.a2 * inverse_mass_).hi,
                         (-(lambda * c.a1) / inverse_mass_).hi,
                         c.t_p.hi,
                         c.a1.hi};
      }
    });
    largest_h_omega_ = growth_decades_ = 0;
    unstable_modes_ = 0;
    for (const Found& f : found) {
      largest_h_omega_ = std::max(largest_h_omega_, f.h_omega);
      growth_decades_ = std::max(growth_decades_, f.decades);
      unstable_modes_ += f.unstable;
      if (!f.reason.empty()) {
        kernel_.clear();
        return f.reason;
      }
    }
    if (push_.empty()) {
      std::vector<double> push(u(n()));
      force_square_ = 0;
      for (std::int64_t i = 0; i < n(); ++i) {
        push[u(i)] = -form_->offset[u(i)].hi;
        force_square_ += push[u(i)] * push[u(i)];
      }
      push_.resize(u(waves()));
      if (force_square_ != 0) to_waves(push.data(), push_.data());
    }
    return {};
  }

  void apply(const JumpTask& task, JumpFindings& f) const {
    std::vector<double> wave[2];
    double before[3] = {0, 0, force_square_};
    thread_pool().parallel_for(2, [&](long part) {
      const double* x = task.state[u(part)];
      for (std::int64_t i = 0; i < n(); ++i) before[part] += x[i] * x[i];
      wave[part].resize(u(waves()));
      to_waves(x, wave[part].data());
    });
    // Sums over the modes of the squares of their gains, for the bound.
    const std::int64_t chunks = (waves() + kChunk - 1) / kChunk;
    struct Gains {
      double of[2][3] = {{0, 0, 0}, {0, 0, 0}};
    };
    std::vector<Gains> gains(u(chunks));
    thread_pool().parallel_for(chunks, [&](long chunk) {
      Gains& g = gains[u(chunk)];
      for (std::int64_t i = chunk * kChunk; i < std::min(waves(), (chunk + 1) * kChunk); ++i) {
        const Mode& m = kernel_[u(i)];
        const double q = wave[0][u(i)], p = wave[1][u(i)];
        wave[0][u(i)] = m.qq * q + m.qp * p;
        wave[1][u(i)] = m.pq * q + m.pp * p;
        if (force_square_ != 0) {
          wave[0][u(i)] += m.qf * push_[u(i)];
          wave[1][u(i)] += m.pf * push_[u(i)];
        }
        const double factors[2][3] = {{m.qq, m.qp, m.qf}, {m.pq, m.pp, m.pf}};
        for (int r = 0; r < 2; ++r)
          for (int c = 0; c < 3; ++c) g.of[r][c] += factors[r][c] * factors[r][c];
      }
    });
    double after[2] = {0, 0};
    thread_pool().parallel_for(2, [&](long part) {
      from_waves(wave[part].data(), task.out[u(part)]);
      for (std::int64_t i = 0; i < n(); ++i) after[part] += task.out[u(part)][i] * task.out[u(part)][i];
    });
    // As of a periodic lattice (lattice.cpp): a transform is off by 2^-53 sqrt(log2 n) of the norm in the mean, three times
    // that is counted; those of sines and cosines are transforms of twice the length. And what equal couplings may differ
    // by, as a phase.
    const double unit =
        3 * 0x1p-53 * std::sqrt(3 + std::log2(static_cast<double>(waves()))) +
        kSame * static_cast<double>(task.steps) * std::max(largest_h_omega_, std::fabs(task.h));
    const double loop_error = 0x1p-53 * std::sqrt(static_cast<double>(task.steps));
    for (int r = 0; r < 2; ++r) {
      double error = 0;
      for (int c = 0; c < 3; ++c) {
        double gain = 0;
        for (const Gains& g : gains) gain += g.of[r][c];
        error += gain / static_cast<double>(waves()) * before[c];
      }
      if (!std::isfinite(after[r])) f.refused = "the motion leaves the range of doubles";
      f.error.push_back(!std::isfinite(after[r]) ? std::numeric_limits<double>::infinity()
                        : after[r] > 0           ? unit * (1 + std::sqrt(error / after[r]))
                        : error > 0              ? std::numeric_limits<double>::infinity()
                                                 : 0);
    }
    if (task.has_loop && unit > std::max(loop_error, 0x1p-50))
      f.refused = "its transforms may be further from the exact map than so few steps of the loop";
  }

  std::shared_ptr<const JumpSystem> system_;
  const AffineForm* form_ = nullptr;
  bool suggested_ = false;
  std::string reason_;
  std::vector<std::int64_t> extent_;
  std::vector<End> low_, high_;  // ends of each axis
  // Of the transforms: axes with two kinds of ends have twice their sites, and fixed ends.
  std::vector<std::int64_t> wide_;
  std::vector<End> wide_ends_;
  std::vector<Tap> taps_;
  std::int64_t reach_[kMaxAxes] = {0, 0, 0};
  double scale_ = 0;  // sum of |couplings| of a site
  DD inverse_mass_ = 0.0;
  double h_ = 0;
  std::int64_t steps_ = 0;
  std::vector<Mode> kernel_;
  std::vector<double> push_;  // the force's transform
  double force_square_ = 0;
  double largest_h_omega_ = 0, growth_decades_ = 0;
  std::int64_t unstable_modes_ = 0;
};

}  // namespace

std::unique_ptr<Propagator> make_uniform(std::shared_ptr<const JumpSystem> system) {
  return std::make_unique<UniformPropagator>(std::move(system));
}

}  // namespace tinyphys
