// Lattices: every site couples to the others as its neighbour does, with periodic ends, along any number of axes and with
// several components a site. The map is a convolution; each wave vector k has a small matrix of its own, the symbol,
// whose power takes N steps (PHYSICS section 2, item 2).
//
//   symbol(k) = sum over offsets r of a(r) exp(-i k r) = sum a(r) + sum a(r) (-2 sin^2(k r / 2) - i sin(k r))
//
// in double-double, from what one site does to the others; angles are exact multiples of pi / N_axis. The state goes
// through a double FFT there and back.
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>
#include <tuple>
#include <unordered_map>

#include "analysis/identity.hpp"
#include "linalg/complex_dd.hpp"
#include "linalg/fft.hpp"
#include "linalg/mode_powers.hpp"
#include "propagate/mode_kernel.hpp"
#include "propagate/propagator.hpp"
#include "support/cost_model.hpp"
#include "support/thread_pool.hpp"

namespace tinyphys {
namespace {

// Fewer coordinates are taken by dense modes, and what has none by powering where that can: both are closer to the exact map
// than an FFT in doubles.
constexpr std::int64_t kFewestModes = 512, kFewest = 16;
constexpr int kMaxOrder = 12;  // coordinates of a site: components of all parts of the state
constexpr std::size_t kMaxAxes = 3;
// Couplings of a site, of all its coordinates: each is added up for every wave vector.
constexpr std::size_t kMaxTaps = 4096;
constexpr std::int64_t kChunk = 2048;

std::size_t u(std::int64_t i) { return static_cast<std::size_t>(i); }

using Complex = std::complex<double>;

// How one site drives another.
struct Tap {
  int row, col;  // components
  std::vector<std::int64_t> offset;
  DD value;
};

// cos and sin of pi m / n for 0 <= m < 2 n.
struct HalfAngles {
  std::int64_t n;
  std::vector<DD> cos, sin;
  explicit HalfAngles(std::int64_t count) : n(count) {
    for (std::int64_t m = 0; m < 2 * n; ++m) {
      DD s, c;
      sincos(kDDPi * static_cast<double>(m) / static_cast<double>(n), s, c);
      cos.push_back(c);
      sin.push_back(s);
    }
  }
};

std::shared_ptr<const ShiftTest> shifts_of(const JumpSystem& system) {
  struct Cache {
    std::mutex mutex;
    std::unordered_map<const Node*, std::pair<UOp, std::shared_ptr<const ShiftTest>>> tests;
  };
  static auto* cache = new Cache;  // outlives static handles
  constexpr std::size_t kMaxTests = 256;
  std::lock_guard lock(cache->mutex);
  if (auto it = cache->tests.find(system.map.get()); it != cache->tests.end()) return it->second.second;
  auto test =
      std::make_shared<const ShiftTest>(test_shifts(system.map.get(), system.groups, system.shapes.front()));
  if (cache->tests.size() >= kMaxTests) cache->tests.clear();
  cache->tests.try_emplace(system.map.get(), system.map, test);
  return test;
}

class LatticePropagator final : public Propagator {
 public:
  explicit LatticePropagator(std::shared_ptr<const JumpSystem> system) : system_(std::move(system)) {
    const auto& shapes = system_->shapes;
    const bool same =
        std::all_of(shapes.begin(), shapes.end(), [&](const Dims& s) { return s == shapes[0]; });
    if (!fft_available())
      reason_ = "this build has no FFTW";
    else if (!same || shapes[0].empty() || too_few())
      off_topic_ = true;
    else if (hamiltonian() && !system_->separable && row_of(system_->integrator).needs_separable())
      off_topic_ = true;
    else if (has_table())
      off_topic_ = true;
  }

  JumpEstimate estimate(const JumpTask& task) const override {
    if (off_topic_) return {0, 0, "no lattice", true};
    if (!reason_.empty()) return {0, 0, reason_, told_off_topic_};
    const auto n = static_cast<double>(system_->size());
    const double transforms = 2 * n * std::log2(n) * cost_model().fft_point_s;
    const double symbol = static_cast<double>(taps_.size()) * cost_model().lattice_tap_s;
    const double modes = ready(task) ? 0 : n / 2 * (cost_model().lattice_mode_s + symbol);
    return {(built_ ? 0 : evaluation_work(system_->map.get()) * cost_model().lattice_probe_s) + modes,
            transforms + n * cost_model().lattice_point_s,
            {},
            false,
            system_->sizes[0] < kFewestModes};
  }

  std::string build() override {
    if (built_ || !reason_.empty()) return reason_;
    reason_ = prepare();
    built_ = reason_.empty();
    return reason_;
  }

  JumpFindings jump(const JumpTask& task) override {
    JumpFindings f;
    f.structure = structure();
    if (task.steps == 0) {
      for (std::size_t i = 0; i < task.out.size(); ++i)
        std::copy_n(task.state[i], system_->sizes[i], task.out[i]);
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

  std::vector<double> reach(std::span<const double> sizes) const override {
    std::vector<double> rows(u(order()), 0.0), out(u(parts()), 0.0);
    for (std::size_t r = 0; r < rows.size(); ++r) rows[r] = std::fabs(shift_[r].hi);
    for (const Tap& t : taps_) rows[u(t.row)] += std::fabs(t.value.hi) * sizes[u(t.col / components_)];
    for (int c = 0; c < static_cast<int>(inverse_mass_.size()); ++c)
      rows[u(components_ + c)] += inverse_mass_[u(c)].hi * sizes[1];
    for (std::size_t r = 0; r < rows.size(); ++r) {
      double& most = out[r / u(components_)];
      most = std::max(most, rows[r]);
    }
    return out;
  }
  bool refuses_for_all() const override { return refuses_for_all_; }
  double kept_doubles() const override {
    return 2 * static_cast<double>(kernel_.size() + lambda_.size()) +
           4 * static_cast<double>(vectors_.size());
  }

 private:
  bool hamiltonian() const { return system_->kind == PropagateKind::kHamiltonian; }
  bool too_few() const {
    const auto& sizes = system_->sizes;
    if (hamiltonian() && system_->separable) return sizes[0] < kFewestModes;
    return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}) < kFewest;
  }
  bool ready(const JumpTask& task) const { return !kernel_.empty() && h_ == task.h && steps_ == task.steps; }
  std::int64_t sites() const {
    std::int64_t n = 1;
    for (std::int64_t d : extent_) n *= d;
    return n;
  }
  int parts() const { return static_cast<int>(system_->shapes.size()); }
  // Coordinates of a site in all: component c of part s is s * components_ + c.
  int order() const { return parts() * components_; }

  std::string structure() const {
    std::string t;
    for (std::int64_t d : extent_) t += (t.empty() ? "" : " x ") + std::to_string(d);
    t = "a periodic lattice of " + t + " sites";
    if (components_ > 1) t += ", " + std::to_string(components_) + " components each";
    return t + ", by the identity test in F_p for 2 random primes";
  }

  // Element of part `s` at component c of a site, in the memory of the state.
  std::int64_t element(int component, std::int64_t site) const {
    std::int64_t at = component_offset_[u(component)];
    for (std::size_t a = extent_.size(); a-- > 0; site /= extent_[a]) at += site % extent_[a] * stride_[a];
    return at;
  }

  // A value for each pair of coordinates, or half of them, is given: what is alike from site to site needs few.
  bool has_table() const {
    const double n = static_cast<double>(system_->sizes[0]);
    return std::any_of(system_->captured.begin(), system_->captured.end(), [n](const auto& bytes) {
      return static_cast<double>(bytes.size()) >= 0.5 * n * n * sizeof(double);
    });
  }

  // Which axes are of sites, and what one site does to the others.
  std::string prepare() {
    const Dims& shape = system_->shapes[0];
    const auto shifts = shifts_of(*system_);
    if (!shifts->reason.empty()) {
      told_off_topic_ = true;
      return "no shift of the sites could be tested: " + shifts->reason;
    }
    std::int64_t stride = system_->sizes[0], components = 1;
    Dims component_extent, component_stride;
    for (std::size_t a = 0; a < shape.size(); ++a) {
      stride /= shape[a];
      if (shifts->invariant[a]) {
        extent_.push_back(shape[a]);
        stride_.push_back(stride);
      } else {
        components *= shape[a];
        component_extent.push_back(shape[a]);
        component_stride.push_back(stride);
      }
    }
    if (extent_.empty()) {
      told_off_topic_ = true;
      return "no axis along which each site is coupled as the next one is";
    }
    if (extent_.size() > kMaxAxes)
      return std::to_string(extent_.size()) + " axes of sites, at most 3 are taken";
    if (components * parts() > kMaxOrder)
      return std::to_string(components * parts()) + " coordinates a site, at most " +
             std::to_string(kMaxOrder) + " are taken";
    components_ = static_cast<int>(components);
    for (std::int64_t c = 0; c < components; ++c) {
      std::int64_t at = 0, rest = c;
      for (std::size_t a = component_extent.size(); a-- > 0; rest /= component_extent[a])
        at += rest % component_extent[a] * component_stride[a];
      component_offset_.push_back(at);
    }

    // Site 0 of each component of each part.
    std::vector<std::int64_t> columns;
    std::vector<int> coordinate;
    for (int s = 0; s < parts(); ++s)
      for (int c = 0; c < components_; ++c)
        columns.push_back(s * system_->sizes[0] + component_offset_[u(c)]);
    std::sort(columns.begin(), columns.end());
    const AffineForm form = system_->columns(columns);
    if (!form.reason.empty()) return form.reason;
    // Of each element, the coordinate and the site.
    std::vector<std::pair<int, std::int64_t>> place(u(system_->sizes[0]));
    const std::int64_t n_sites = sites();
    for (int c = 0; c < components_; ++c)
      for (std::int64_t site = 0; site < n_sites; ++site) place[u(element(c, site))] = {c, site};
    shift_.assign(u(order()), DD(0.0));
    for (std::size_t r = 0; r + 1 < form.row_start.size(); ++r) {
      const auto part = static_cast<int>(static_cast<std::int64_t>(r) / system_->sizes[0]);
      const auto [component, site] = place[u(static_cast<std::int64_t>(r) % system_->sizes[0])];
      const int row = part * components_ + component;
      if (site == 0) shift_[u(row)] = form.offset[r];
      for (auto k = u(form.row_start[r]); k < u(form.row_start[r + 1]); ++k) {
        const auto col_part = static_cast<int>(form.col[k] / system_->sizes[0]);
        const int col = col_part * components_ + place[u(form.col[k] % system_->sizes[0])].first;
        Tap tap{row, col, {}, form.value[k]};
        std::int64_t rest = site;
        tap.offset.resize(extent_.size());
        for (std::size_t a = extent_.size(); a-- > 0; rest /= extent_[a]) tap.offset[a] = rest % extent_[a];
        taps_.push_back(std::move(tap));
      }
    }
    if (taps_.size() > kMaxTaps) {
      // The other ways would read all of these couplings for every site.
      refuses_for_all_ = true;
      const std::string count = std::to_string(taps_.size());
      taps_.clear();
      return "each site is coupled to others in " + count + " ways, at most " + std::to_string(kMaxTaps) +
             " are taken";
    }
    folded_ = is_even();
    for (std::int64_t d : extent_) angles_.emplace_back(d);
    has_modes_ = hamiltonian() && split_hamiltonian();
    return {};
  }

  // Into K and 1 / m of each component; false where there is more, or where 1 / m is not positive: then each wave vector has a
  // step to be powered, not modes.
  bool split_hamiltonian() {
    std::vector<DD> inverse_mass(u(components_), DD(0.0));
    std::vector<Tap> springs;
    for (const Tap& t : taps_) {
      const bool of_q = t.row < components_;
      if (of_q != (t.col < components_)) return false;
      if (of_q) {
        springs.push_back(t);
        continue;
      }
      const bool here = std::all_of(t.offset.begin(), t.offset.end(), [](std::int64_t o) { return o == 0; });
      if (!here || t.row != t.col) return false;
      inverse_mass[u(t.row - components_)] = t.value;
    }
    for (const DD& m : inverse_mass)
      if (!(m.hi > 0)) return false;
    for (int c = 0; c < components_; ++c)
      if (shift_[u(components_ + c)].hi != 0) return false;
    inverse_mass_ = std::move(inverse_mass);
    for (const DD& m : inverse_mass_) root_.push_back(sqrt(m));
    mass_ = DD(1.0) / inverse_mass_[0];
    taps_ = std::move(springs);
    return true;
  }

  // The symbol of the taps at a wave vector, n x n.
  ComplexMatrixDD symbol(int n, std::span<const std::int64_t> k) const {
    ComplexMatrixDD a(u(n * n));
    for (const Tap& t : taps_) {
      DD c = 1.0, s = 0.0;  // of k r / 2
      for (std::size_t i = 0; i < k.size(); ++i) {
        if (t.offset[i] == 0 || k[i] == 0) continue;
        const std::int64_t m = k[i] * t.offset[i] % (2 * extent_[i]);
        const DD ca = angles_[i].cos[u(m)], sa = angles_[i].sin[u(m)];
        const DD next = c * ca - s * sa;
        s = s * ca + c * sa;
        c = next;
      }
      ComplexDD& entry = a[u(t.row * n + t.col)];
      entry.re = entry.re - ldexp(t.value * (s * s), 1);
      entry.im = entry.im - ldexp(t.value * (s * c), 1);
    }
    return a;
  }
  bool has_shift() const {
    return std::any_of(shift_.begin(), shift_.end(), [](DD x) { return x.hi != 0; });
  }
  // Of k = 0: the plain sums, in which rigid motions cancel exactly.
  ComplexMatrixDD plain_sums(int n) const {
    ComplexMatrixDD a(u(n * n));
    for (const Tap& t : taps_) a[u(t.row * n + t.col)].re = a[u(t.row * n + t.col)].re + t.value;
    return a;
  }

  // What a reflection of any axis leaves as it is: wave vectors are then told apart by |k| of each axis only.
  bool is_even() const {
    using Key = std::tuple<int, int, std::vector<std::int64_t>>;
    std::map<Key, std::pair<double, double>> known;
    for (const Tap& t : taps_) known[{t.row, t.col, t.offset}] = {t.value.hi, t.value.lo};
    for (const auto& [key, value] : known)
      for (std::size_t a = 0; a < extent_.size(); ++a) {
        Key mirrored = key;
        std::int64_t& r = std::get<2>(mirrored)[a];
        r = (extent_[a] - r) % extent_[a];
        const auto it = known.find(mirrored);
        if (it == known.end() || it->second != value) return false;
      }
    return true;
  }

  template <class F> static void in_chunks(std::int64_t count, F&& f) {
    thread_pool().parallel_for((count + kChunk - 1) / kChunk, [&](long chunk) {
      for (std::int64_t i = chunk * kChunk; i < std::min(count, (chunk + 1) * kChunk); ++i) f(i, chunk);
    });
  }

  // The power of each symbol, as a matrix over the coordinates of a site.
  std::string power(const JumpTask& task) {
    h_ = task.h;
    steps_ = task.steps;
    const int n = order();
    table_extent_.clear();
    for (std::size_t a = 0; a < extent_.size(); ++a)
      table_extent_.push_back(folded_ || a + 1 == extent_.size() ? extent_[a] / 2 + 1 : extent_[a]);
    std::int64_t count = 1;
    for (std::int64_t d : table_extent_) count *= d;
    kernel_.assign(u(count * n * n), Complex());
    const std::int64_t chunks = (count + kChunk - 1) / kChunk;
    struct Found {
      double h_omega = 0, decades = 0;
      std::int64_t unstable = 0;
      std::string reason;
    };
    std::vector<Found> found(u(chunks));
    shift_power_.assign(u(n), 0.0);
    const ComplexMatrixDD rigid = plain_sums(has_modes_ ? components_ : n);
    const bool find_modes = has_modes_ && lambda_.empty();
    if (find_modes) {
      lambda_.resize(u(count * components_));
      if (components_ > 1) vectors_.resize(u(count * components_ * components_));
    }
    thread_pool().parallel_for(chunks, [&](long chunk) {
      Found& f = found[u(chunk)];
      const std::int64_t first = chunk * kChunk, last = std::min(count, first + kChunk), c = components_;
      std::vector<std::int64_t> k(extent_.size());
      const auto wave = [&](std::int64_t i) {
        for (std::size_t a = k.size(); a-- > 0; i /= table_extent_[a]) k[a] = i % table_extent_[a];
        return std::span<const std::int64_t>(k);
      };
      const auto vectors = [&](std::int64_t i) {
        return vectors_.empty() ? nullptr : vectors_.data() + i * c * c;
      };
      ModePowers powers;
      if (has_modes_) {
        if (find_modes)
          for (std::int64_t i = first; i < last; ++i)
            modes_of(wave(i), rigid, lambda_.data() + i * c, vectors(i));
        powers = ModePowers(std::span(lambda_).subspan(u(first * c), u((last - first) * c)), h_, steps_,
                            row_of(system_->integrator), false, {}, mode_kernel);
        f.reason = powers.reason();
        if (!f.reason.empty()) return;
      }
      for (std::int64_t i = first; i < last; ++i) {
        Complex* out = kernel_.data() + i * n * n;
        const std::string reason = has_modes_ ? hamiltonian_power(i, powers, (i - first) * c, vectors(i), out,
                                                                  f.h_omega, f.decades, f.unstable)
                                              : affine_power_of(wave(i), rigid, out);
        if (f.reason.empty()) f.reason = reason;
        for (int e = 0; e < n * n; ++e)
          if (!std::isfinite(out[e].real()) || !std::isfinite(out[e].imag()))
            f.reason = "the motion of a mode leaves the range of doubles";
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
    return {};
  }

  // The modes of a wave vector, of the symmetric M^-1/2 K M^-1/2.
  void modes_of(std::span<const std::int64_t> k, const ComplexMatrixDD& rigid, DD* lambda,
                ComplexDD* vectors) const {
    const int c = components_;
    ComplexMatrixDD s = symbol(c, k);
    for (int i = 0; i < c; ++i)
      for (int j = 0; j < c; ++j) {
        ComplexDD& x = s[u(i * c + j)];
        x = (i == j ? inverse_mass_[u(i)] : root_[u(i)] * root_[u(j)]) * (x + rigid[u(i * c + j)]);
      }
    if (c == 1) {
      lambda[0] = s[0].re;
      return;
    }
    const HermitianEigen modes = hermitian_eigen(c, s);
    std::copy_n(modes.lambda.begin(), c, lambda);
    std::copy_n(modes.vectors.begin(), c * c, vectors);
  }

  // `at`: of the first mode of wave vector i in `powers`.
  std::string hamiltonian_power(std::int64_t i_wave, const ModePowers& powers, std::int64_t at,
                                const ComplexDD* vectors, Complex* out, double& h_omega, double& decades,
                                std::int64_t& unstable) {
    const int c = components_, n = 2 * c;
    const bool still = i_wave == 0;
    for (int m = 0; m < c; ++m) {
      const DD lambda = lambda_[u(i_wave * c + m)];
      ModeCoefficients f = powers.coefficients(at + m);
      if (still && has_shift()) {  // a2 is asked for here only
        std::string reason;
        f = mode_coefficients(lambda, h_, steps_, row_of(system_->integrator), &reason);
        if (!reason.empty()) return reason;
      }
      if (lambda.hi > 0) h_omega = std::max(h_omega, std::fabs(h_) * std::sqrt(lambda.hi));
      if (f.exponent != 0) return "the motion of a mode leaves the range of doubles";
      const double size = std::max(std::fabs(f.t.hi), std::fabs(f.t_p.hi));
      if (size > 1 + 1e-6) {
        ++unstable;
        decades = std::max(decades, std::log10(size));
      }
      const DD back = -(lambda * f.a1);
      if (c == 1 && !still) {
        out[0] = f.t.hi;
        out[1] = (f.b * inverse_mass_[0]).hi;
        out[2] = (back * mass_).hi;
        out[3] = f.t_p.hi;
        continue;
      }
      for (int i = 0; i < c; ++i)
        for (int j = 0; j < c; ++j) {
          // q = D V y, p = D^-1 V pi with D = M^-1/2.
          const ComplexDD v = c == 1 ? ComplexDD{1.0, 0.0} : vectors[i * c + m] * conj(vectors[j * c + m]);
          const DD ratio = root_[u(i)] / root_[u(j)], product = root_[u(i)] * root_[u(j)];
          const auto add = [&](int r, int col, DD factor) {
            out[r * n + col] += Complex((factor * v.re).hi, (factor * v.im).hi);
          };
          add(i, j, f.t * ratio);
          add(i, c + j, f.b * product);
          add(c + i, j, back / product);
          add(c + i, c + j, f.t_p / ratio);
          if (still) {  // the constant force -g pushes the rigid motions
            const DD push = -shift_[u(j)];
            shift_power_[u(i)] += (f.a2 * product * v.re * push).hi;
            shift_power_[u(c + i)] += (f.a1 / ratio * v.re * push).hi;
          }
        }
    }
    return {};
  }

  // A step less the identity, from the rows of grad H at a wave vector. Empty: an equation of the step has no solution.
  ComplexMatrixDD step_of(int size, const ComplexMatrixDD& gradient) const {
    ComplexMatrixDD step(gradient.size());
    for (const Substep& s : row_of(system_->integrator).substeps) {
      const DD h = DD(h_) * DD(s.coefficient);
      ComplexMatrixDD x(gradient.size());  // h J grad H, or a part of it
      for (int i = 0; i < components_; ++i)
        for (int j = 0; j < size; ++j) {
          const auto of_q = u(i * size + j), of_p = u((components_ + i) * size + j);
          if (s.part != Part::kKick) x[of_q] = h * gradient[of_p];
          if (s.part != Part::kDrift) x[of_p] = -h * gradient[of_q];
        }
      if (s.part == Part::kFlow) x = exp_minus_identity(size, std::move(x));
      if (s.part == Part::kSolve) {  // (1 - X / 2)^-1 X
        ComplexMatrixDD a(x.size());
        for (std::size_t e = 0; e < x.size(); ++e) a[e] = DD(-0.5) * x[e];
        for (int i = 0; i < size; ++i) a[u(i * size + i)].re = a[u(i * size + i)].re + 1.0;
        x = solve(size, std::move(a), std::move(x));
        if (x.empty()) return {};
      }
      step = compose_minus_identity(size, x, step);
    }
    return step;
  }

  std::string affine_power_of(std::span<const std::int64_t> k, const ComplexMatrixDD& rigid, Complex* out) {
    const int n = order();
    const bool still = std::all_of(k.begin(), k.end(), [](std::int64_t x) { return x == 0; });
    // The shift enters at k = 0 only, as one coordinate more that stays 1.
    const int size = still ? n + 1 : n;
    const ComplexMatrixDD s = symbol(n, k);
    ComplexMatrixDD b(u(size * size));
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) b[u(i * size + j)] = s[u(i * n + j)] + rigid[u(i * n + j)];
      if (still) b[u(i * size + n)].re = shift_[u(i)];
    }
    if (hamiltonian()) {
      b = step_of(size, b);
      if (b.empty()) return "a step cannot be solved";
    } else {
      // A - I without the rounding of A's own 1, where the sums allow it.
      for (int i = 0; i < n; ++i) b[u(i * size + i)].re = b[u(i * size + i)].re - 1.0;
    }
    const ComplexMatrixDD p = power_minus_identity(size, b, steps_);
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) {
        const ComplexDD& x = p[u(i * size + j)];
        out[i * n + j] = Complex((x.re + (i == j ? 1.0 : 0.0)).hi, x.im.hi);
      }
      if (still) shift_power_[u(i)] = p[u(i * size + n)].re.hi;
    }
    return {};
  }

  void apply(const JumpTask& task, JumpFindings& f) const {
    const int n = order();
    const std::int64_t n_sites = sites(), last = extent_.back(), half = last / 2 + 1;
    const std::int64_t spectrum = n_sites / last * half;
    std::vector<std::vector<double>> sites_of(u(n), std::vector<double>(u(n_sites)));
    std::vector<std::vector<Complex>> waves(u(n), std::vector<Complex>(u(spectrum)));
    std::vector<double> before(u(parts()), 0.0);
    thread_pool().parallel_for(n, [&](long coordinate) {
      const auto part = coordinate / components_;
      std::vector<double>& x = sites_of[u(coordinate)];
      for (std::int64_t i = 0; i < n_sites; ++i)
        x[u(i)] = task.state[u(part)][element(static_cast<int>(coordinate % components_), i)];
      fft_real(extent_, x.data(), waves[u(coordinate)].data());
    });
    for (int c = 0; c < n; ++c)
      for (const double x : sites_of[u(c)]) before[u(c / components_)] += x * x;

    // Sums over the modes of the squares of their gains, from each part to each, for the bound.
    const auto m = u(parts());
    const std::int64_t chunks = (spectrum + kChunk - 1) / kChunk;
    std::vector<std::vector<double>> gains(u(chunks), std::vector<double>(m * m, 0.0));
    in_chunks(spectrum, [&](std::int64_t i, long chunk) {
      std::int64_t at = 0, rest = i, step = 1;
      const std::int64_t k_last = i % half;
      for (std::size_t a = extent_.size(); a-- > 0;) {
        const std::int64_t extent = a + 1 == extent_.size() ? half : extent_[a];
        std::int64_t k = rest % extent;
        rest /= extent;
        if (folded_ && a + 1 != extent_.size()) k = std::min(k, extent_[a] - k);
        at += k * step;
        step *= table_extent_[a];
      }
      const Complex* g = kernel_.data() + at * n * n;
      Complex in[kMaxOrder] = {}, out[kMaxOrder] = {};
      for (int c = 0; c < n; ++c) in[c] = waves[u(c)][u(i)];
      const double twice = k_last == 0 || 2 * k_last == last ? 1 : 2;
      for (int r = 0; r < n; ++r) {
        for (int c = 0; c < n; ++c) {
          // Spelled out: std::complex's product looks for infinities.
          const Complex x = g[r * n + c], y = in[c];
          out[r] +=
              Complex(x.real() * y.real() - x.imag() * y.imag(), x.real() * y.imag() + x.imag() * y.real());
          gains[u(chunk)][u(r / components_) * m + u(c / components_)] += twice * std::norm(x);
        }
        if (i == 0) out[r] += shift_power_[u(r)] * static_cast<double>(n_sites);
      }
      for (int r = 0; r < n; ++r) waves[u(r)][u(i)] = out[r];
    });
    thread_pool().parallel_for(n, [&](long coordinate) {
      std::vector<double>& x = sites_of[u(coordinate)];
      fft_real_inverse(extent_, waves[u(coordinate)].data(), x.data());
      double* to = task.out[u(coordinate / components_)];
      for (std::int64_t i = 0; i < n_sites; ++i)
        to[element(static_cast<int>(coordinate % components_), i)] = x[u(i)];
    });

    // A transform is off by 2^-53 sqrt(log2 n) of the norm in the mean, spread over all modes (Schatzman 1996); three
    // times that. What it is off by goes through the gains of the modes, and once more through the way back.
    const double unit = 3 * 0x1p-53 * std::sqrt(2 + std::log2(static_cast<double>(n_sites)));
    const double loop_error = 0x1p-53 * std::sqrt(static_cast<double>(task.steps));
    bool finite = true;
    for (std::size_t r = 0; r < m; ++r) {
      double out = 0, error = 0;
      for (int c = 0; c < components_; ++c)
        for (const double x : sites_of[r * u(components_) + u(c)]) out += x * x;
      for (std::size_t c = 0; c < m; ++c) {
        double gain = 0;
        for (const auto& part : gains) gain += part[r * m + c];
        error += gain / static_cast<double>(n_sites) * before[c];
      }
      finite = finite && std::isfinite(out);
      f.error.push_back(!std::isfinite(out) ? std::numeric_limits<double>::infinity()
                        : out > 0           ? unit * (1 + std::sqrt(error / out))
                        : error > 0         ? std::numeric_limits<double>::infinity()
                                            : 0);
    }
    if (!finite) f.refused = "the motion leaves the range of doubles";
    // The loop makes errors of 2^-53 in each step, which go through the same gains.
    if (task.has_loop && unit > std::max(loop_error, 0x1p-50))
      f.refused = "its transforms may be further from the exact map than so few steps of the loop";
  }

  std::shared_ptr<const JumpSystem> system_;
  bool off_topic_ = false, told_off_topic_ = false, built_ = false, folded_ = false, refuses_for_all_ = false;
  bool has_modes_ = false;  // of a Hamiltonian, at each wave vector
  std::string reason_;
  std::vector<std::int64_t> extent_, stride_;  // of the axes of sites
  int components_ = 1;
  std::vector<std::int64_t> component_offset_;
  std::vector<HalfAngles> angles_;
  std::vector<Tap> taps_;
  std::vector<DD> shift_;                // of each coordinate, the same at all sites
  std::vector<DD> inverse_mass_, root_;  // of each component; root_ = M^-1/2
  DD mass_ = 1.0;                        // of one component
  double h_ = 0;
  std::int64_t steps_ = 0;
  Dims table_extent_;
  std::vector<DD> lambda_;           // [wave vector][mode], of a Hamiltonian
  std::vector<ComplexDD> vectors_;   // [wave vector][component][mode], of several components
  std::vector<Complex> kernel_;      // [wave vector][row][column]
  std::vector<double> shift_power_;  // what the constant part has moved each coordinate by
  double largest_h_omega_ = 0, growth_decades_ = 0;
  std::int64_t unstable_modes_ = 0;
};

}  // namespace

std::unique_ptr<Propagator> make_lattice(std::shared_ptr<const JumpSystem> system) {
  return std::make_unique<LatticePropagator>(std::move(system));
}

}  // namespace tinyphys
