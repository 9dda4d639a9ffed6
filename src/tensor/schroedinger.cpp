#include "tinyphys/schroedinger.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <map>
#include <numbers>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "derive/chebyshev_scan.hpp"
#include "support/integrators.hpp"
#include "tensor/hamiltonian.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/fft.hpp"
#include "tinyphys/scan.hpp"
#include "uop/build.hpp"
#include "uop/history.hpp"

namespace tinyphys {

using front::describe;
using front::fail;
using front::number_text;
using front::point_text;

namespace {

constexpr std::size_t kMaxAxes = 3;
// Of one series: above it, one after the other; below it, several times of output share one.
constexpr double kLongestSeries = 1e5, kShortSeries = 200.0;
// In imaginary time what is left of psi must stand well above the tolerance: it is made 1 again after each series.
constexpr double kLongestDecay = 256.0, kMostDecayed = 1e-4;
// The spectrum is taken to be this much wider: what rounding adds to H.
constexpr double kMargin = 1e-9;
constexpr double kLargest = 1e12;  // R t of what lies between two outputs

// exp(-i x) or, in imaginary time, exp(-x) of a real x.
Tensor propagator_of(const Tensor& x, bool imaginary) {
  return imaginary ? exp(-x) : complex(cos(x), -sin(x));
}

}  // namespace

// --- Grid -------------------------------------------------------------------------------------------------

Grid::Grid(std::vector<std::int64_t> points, std::vector<double> lengths, Where where)
    : points_(std::move(points)), lengths_(std::move(lengths)) {
  constexpr std::string_view kCall = "Grid";
  if (points_.empty() || points_.size() > kMaxAxes)
    fail(kCall, fmt::format("{} axes; a grid has 1 to 3", points_.size()), where);
  if (lengths_.size() != points_.size())
    fail(kCall, fmt::format("points of {} axes and lengths of {}", points_.size(), lengths_.size()), where);
  for (std::size_t a = 0; a < points_.size(); ++a) {
    if (points_[a] < 2)
      fail(kCall, fmt::format("axis {} has {} points, it must have at least 2", a, points_[a]), where);
    if (!(lengths_[a] > 0) || !std::isfinite(lengths_[a]))
      fail(kCall,
           fmt::format("axis {} has length {}, it must be above 0 and finite", a, number_text(lengths_[a])),
           where);
  }
}

double Grid::cell() const {
  double volume = 1.0;
  for (std::size_t a = 0; a < axes(); ++a) volume *= spacing(a);
  return volume;
}

namespace {

Tensor along(const Tensor& values, std::int64_t axis, std::size_t axes) {
  Shape shape(axes, 1);
  shape[static_cast<std::size_t>(axis)] = values.shape()[0];
  return values.reshape(shape);
}

}  // namespace

Tensor Grid::x(std::int64_t axis, Where where) const {
  const std::int64_t a = front::axis_of(axis, points_, "Grid::x", where);
  const auto i = static_cast<std::size_t>(a);
  const Tensor j = Tensor::arange(static_cast<double>(points_[i]));
  return along(j * spacing(i) - 0.5 * lengths_[i], a, axes());
}

Tensor Grid::k(std::int64_t axis, Where where) const {
  const std::int64_t a = front::axis_of(axis, points_, "Grid::k", where);
  const auto i = static_cast<std::size_t>(a);
  return along(2.0 * std::numbers::pi * fftfreq(points_[i], spacing(i), where), a, axes());
}

Tensor Grid::k_squared(Where where) const {
  Tensor sum = square(k(0, where));
  for (std::size_t a = 1; a < axes(); ++a) sum = sum + square(k(static_cast<std::int64_t>(a), where));
  return sum;
}

double Grid::largest_k_squared() const {
  double sum = 0.0;
  for (std::size_t a = 0; a < axes(); ++a) {
    const double k = 2.0 * std::numbers::pi * static_cast<double>(points_[a] / 2) / lengths_[a];
    sum += k * k;
  }
  return sum;
}

// --- Schroedinger -----------------------------------------------------------------------------------------

Schroedinger::Schroedinger(Grid grid, const Arg& potential, SchroedingerOptions options)
    : grid_(std::move(grid)), options_(options) {
  constexpr std::string_view kCall = "Schroedinger";
  const Where& where = potential.where();
  for (const auto& [what, x] : {std::pair{"mass", options.mass}, std::pair{"hbar", options.hbar}})
    if (!(x > 0) || !std::isfinite(x))
      fail(kCall, fmt::format("{} is {}, it must be above 0 and finite", what, number_text(x)), where);
  Tensor v = as_tensor(potential);
  if (is_complex(v.dtype()))
    fail(kCall,
         "the potential is " + std::string(name(v.dtype())) +
             ": H is Hermitian for a real one only (an absorbing one loses norm); take real(V)",
         where);
  const Shape& points = grid_.points();
  const Shape shape = v.shape();
  bool broadcasts = shape.size() <= points.size();
  for (std::size_t a = 0; broadcasts && a < shape.size(); ++a) {
    const std::int64_t n = shape[shape.size() - 1 - a];
    broadcasts = n == 1 || n == points[points.size() - 1 - a];
  }
  if (!broadcasts)
    fail(kCall, "a potential of shape " + shape_text(shape) + " on a grid of " + shape_text(points), where);
  potential_ = (v.dtype() == DType::kFloat64 ? v : v.astype(DType::kFloat64)).expand(points);
  if (front::is_traced(uop(potential_).get()))
    fail(kCall,
         "the potential depends on an argument of a function that is being traced: it must have values",
         where);
  const std::vector<double> values = potential_.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      fail(kCall,
           fmt::format(
               "the potential is {} at point {}; for a wall take a large finite value, some times the energy "
               "of psi",
               number_text(values[i]), point_text(points, i)),
           where);
  const auto [least, largest] = std::minmax_element(values.begin(), values.end());
  // Data: a loop would make numbers alone anew in each step.
  LocationScope scope(where);
  kinetic_ = (grid_.k_squared() * (options_.hbar * options_.hbar / (2.0 * options_.mass))).clone();
  least_v_ = *least;
  largest_v_ = *largest;
}

Schroedinger::Schroedinger(const Hamiltonian& h, Grid grid, HamiltonianOptions options, Where where)
    : grid_(std::move(grid)), options_{.hbar = options.hbar} {
  if (!(options.hbar > 0) || !std::isfinite(options.hbar))
    fail("Schroedinger", fmt::format("hbar is {}, it must be above 0 and finite", number_text(options.hbar)),
         where);
  hamiltonian_ = detail::record_hamiltonian(h, grid_.points(), where);
}

Schroedinger::Schroedinger(const Hamiltonian& h, Shape shape, HamiltonianOptions options, Where where)
    : Schroedinger(
          h,
          [&] {
            Grid lattice;  // of any number of axes
            for (const std::int64_t n : shape) lattice.lengths_.push_back(static_cast<double>(n));
            lattice.points_ = std::move(shape);
            return lattice;
          }(),
          options, where) {}

std::pair<double, double> Schroedinger::bounds(Where where) const {
  if (hamiltonian_)
    fail("bounds",
         "the bounds are those of a grid and a potential: they are not known of an H that is a function",
         where);
  const double hbar = options_.hbar;
  return {least_v_, grid_.largest_k_squared() * hbar * hbar / (2.0 * options_.mass) + largest_v_};
}

std::vector<std::int64_t> Schroedinger::axes_of(const Tensor& psi) const {
  std::vector<std::int64_t> axes;
  const auto rank = static_cast<std::int64_t>(psi.shape().size());
  for (std::int64_t a = rank - static_cast<std::int64_t>(grid_.axes()); a < rank; ++a) axes.push_back(a);
  return axes;
}

Tensor Schroedinger::checked(const Tensor& psi, std::string_view call, const Where& where) const {
  const UOp v = front::value(psi, call, where);
  const Shape& points = grid_.points();
  const auto shape = v->shape();
  if (shape.size() < points.size() || !std::equal(points.rbegin(), points.rend(), shape.rbegin()))
    fail(call,
         "psi is " + describe(v.get()) + ", its last axes must be those of the grid, " + shape_text(points),
         where);
  if (psi.dtype() == DType::kBool)
    fail(call, "psi is " + describe(v.get()) + ", it must be of numbers", where);
  return is_complex(psi.dtype()) && !hamiltonian_ ? psi : psi.astype(DType::kComplex128, where);
}

Tensor Schroedinger::applied(const Tensor& psi) const {
  if (hamiltonian_) return tensor(hamiltonian_->at(uop(psi)));
  const FftnOptions axes{.axes = axes_of(psi)};
  return ifftn(kinetic_ * fftn(psi, axes), axes) + potential_ * psi;
}

Tensor Schroedinger::total(const Tensor& density) const { return density.sum(axes_of(density)); }

Tensor Schroedinger::over_grid(const Tensor& scalars) const {
  Shape shape = scalars.shape();
  shape.insert(shape.end(), grid_.axes(), 1);
  return scalars.reshape(shape);
}

namespace {

Tensor density(const Tensor& psi) { return square(real(psi)) + square(imag(psi)); }

// value, or tp::Error when it is computed and one of the norms, or their squares, that it is divided by is none.
Tensor divided_by(const Tensor& value, const Tensor& norms) {
  const Tensor usable = ((norms > 0.0) & (norms < std::numeric_limits<double>::infinity())).all();
  return tensor(make(Op::CHECK, {uop(value), uop(usable)}, {static_cast<std::int64_t>(CheckKind::kHasNorm)}));
}

}  // namespace

Tensor Schroedinger::apply(const Tensor& psi, Where where) const {
  return applied(checked(psi, "apply", where));
}

Tensor Schroedinger::energy(const Tensor& psi, Where where) const {
  const Tensor z = checked(psi, "energy", where);
  const Tensor squares = total(density(z));
  return divided_by(total(real(conj(z) * apply(z, where))) / squares, squares);
}

Tensor Schroedinger::norm(const Tensor& psi, Where where) const {
  return sqrt(total(density(checked(psi, "norm", where))) * grid_.cell());
}

Tensor Schroedinger::expectation(const Tensor& psi, const Arg& f, Where where) const {
  const Tensor rho = density(checked(psi, "expectation", where));
  const Tensor weight = as_tensor(f);
  if (is_complex(weight.dtype())) fail("expectation", "f is complex, it must be real", f.where());
  const Tensor squares = total(rho);
  return divided_by(total(weight * rho) / squares, squares);
}

Tensor Schroedinger::normalised(const Tensor& psi, Where where) const {
  const Tensor z = checked(psi, "normalised", where), of_z = norm(z, where);
  return divided_by(z / over_grid(of_z), of_z);
}

// --- evolve -----------------------------------------------------------------------------------------------

namespace {

// What explain() has to say of a loop.
void tell(const UOp& loop, Records records, std::string why_loop) {
  if (!loop || loop->op != Op::SCAN) return;
  Labels labels = labels_of(loop.get());
  labels.told = std::move(records);
  labels.why_loop = std::move(why_loop);
  set_labels(loop.get(), std::move(labels));
}
UOp loop_of(const Tensor& end) {
  const UOp node = uop(end);
  return node->op == Op::GET ? UOp::share(node->src(0)) : UOp();
}

Tensor times(double first, double step, std::int64_t count) {
  return first + step * Tensor::arange(static_cast<double>(count));
}

}  // namespace

Wave Schroedinger::evolve(const Tensor& psi, const WaveOptions& o, Where where) const {
  constexpr std::string_view kCall = "evolve";
  const Tensor start = checked(psi, kCall, where);
  const bool has_steps = o.steps.value() != std::numeric_limits<std::int64_t>::min(),
             spectral = o.method == Method::Spectral;
  if (o.method != Method::Default && o.method != Method::Loop && !spectral)
    fail(kCall, fmt::format("Method::{} is none of a wave's: Default, Loop, Spectral", name(o.method)),
         where);
  if (hamiltonian_ && !spectral)
    fail(kCall,
         "H is given as a function: no T and V are known of it to take steps of; take Method::Spectral",
         where);
  if (!(o.tol > 1e-15 && o.tol < 1))
    fail(kCall, fmt::format("tol is {}, it must be above 1e-15 and below 1", number_text(o.tol)), where);
  if (o.spectrum && !(o.spectrum->first < o.spectrum->second && std::isfinite(o.spectrum->first) &&
                      std::isfinite(o.spectrum->second)))
    fail(kCall,
         fmt::format("spectrum is {} to {}, it must ascend and be finite", number_text(o.spectrum->first),
                     number_text(o.spectrum->second)),
         where);
  if (has_steps == o.t_end.has_value())
    fail(kCall, has_steps ? "both steps and t_end are given" : "neither steps nor t_end is given", where);
  if (o.t_end && !std::isfinite(*o.t_end))
    fail(kCall, "t_end is " + number_text(*o.t_end) + ", it must be finite", where);
  const bool needs_dt = has_steps || !spectral;
  if (needs_dt && !std::isfinite(o.dt))
    fail(kCall, std::isnan(o.dt) ? "dt is missing" : "dt is " + number_text(o.dt) + ", it must be finite",
         where);
  std::int64_t steps = has_steps ? o.steps.value() : 1;
  double dt = has_steps ? o.dt : *o.t_end;
  if (steps < 0) fail(kCall, fmt::format("steps is {}, it must not be negative", steps), where);
  if (o.t_end && !spectral) {
    if (o.dt == 0 && *o.t_end != 0) fail(kCall, "dt is 0: t_end is not reached", where);
    const double count = *o.t_end == 0 ? 0 : std::ceil(std::fabs(*o.t_end / o.dt) * (1 - 1e-12));
    if (count > 1e15) fail(kCall, fmt::format("{:.3g} steps to t_end: dt is too small", count), where);
    steps = static_cast<std::int64_t>(count);
    dt = steps == 0 ? 0 : *o.t_end / count;
  }
  if (o.imaginary && dt * static_cast<double>(steps) < 0)
    fail(kCall, "imaginary time runs forwards: dt and t_end must not be negative", where);
  const std::int64_t every = o.save_every ? o.save_every->value() : steps;
  if (o.save_every && every < 1)
    fail(kCall, fmt::format("save_every is {}, it must be at least 1", every), where);
  if (o.save_every && steps % every != 0)
    fail(kCall, fmt::format("save_every is {}, which does not divide the {} steps", every, steps), where);
  LocationScope scope(where);
  const std::int64_t pieces = every == 0 ? 0 : steps / every;
  if (spectral) return by_series(start, o, dt * static_cast<double>(every), pieces, where);
  return by_steps(start, o, dt, steps, every, where);
}

Wave Schroedinger::by_steps(const Tensor& psi, const WaveOptions& o, double dt, std::int64_t steps,
                            std::int64_t every, const Where& where) const {
  const IntegratorRow& row = row_of(o.integrator);
  for (const Substep& s : row.substeps)
    if (s.part != Part::kKick && s.part != Part::kDrift)
      fail("evolve",
           fmt::format("{} is no composition of kicks and drifts{}", row.name,
                       s.part == Part::kFlow ? ": the exact flow of H is Method::Spectral" : ""),
           where);
  const FftnOptions axes{.axes = axes_of(psi)};
  // By part and coefficient.
  std::map<std::pair<Part, double>, Tensor> factors;
  const Tensor& t_of_k = kinetic_;
  for (const Substep& s : row.substeps) {
    const double time = s.coefficient * dt / options_.hbar;
    if (!factors.contains({s.part, s.coefficient}))
      factors.emplace(std::pair{s.part, s.coefficient},
                      propagator_of((s.part == Part::kKick ? potential_ : t_of_k) * time, o.imaginary));
  }
  const auto step = [&](const Tensor& z) {
    Tensor w = z;
    for (const Substep& s : row.substeps) {
      const Tensor& factor = factors.at({s.part, s.coefficient});
      w = s.part == Part::kKick ? factor * w : ifftn(factor * fftn(w, axes), axes);
    }
    return o.imaginary ? w / over_grid(norm(w, where)) : w;
  };
  const Tensor start = o.imaginary ? divided_by(psi, norm(psi, where)) : psi;
  ScanOptions loop;
  loop.method = o.method;
  const std::string what =
      fmt::format("split-step Fourier of H = T(k) + V(x) by {}, order {}{}: {} pairs of transforms a step",
                  row.name, row.order, o.imaginary ? ", in imaginary time" : "",
                  std::count_if(row.substeps.begin(), row.substeps.end(),
                                [](const Substep& s) { return s.part == Part::kDrift; }));
  const Records records{{Finding::kFound, what}};
  if (!o.save_every) {
    const Tensor end = scan(step, start, steps, loop, where);
    tell(loop_of(end), records, "");
    return {end, Tensor(dt * static_cast<double>(steps))};
  }
  const auto [end, rows] = scan(
      [&](const Tensor& z) {
        const Tensor next = scan(step, z, every, loop, where);
        return std::pair{next, next};
      },
      start, steps / every, {}, where);
  tell(loop_of(end), records, "");
  return {cat({start.unsqueeze(0), rows}, 0), times(0.0, dt * static_cast<double>(every), steps / every + 1)};
}

Wave Schroedinger::by_series(const Tensor& psi, const WaveOptions& o, double time, std::int64_t pieces,
                             const Where& where) const {
  const double hbar = options_.hbar;
  double low = 0, high = 0;
  std::string bounded_by = ", as given";
  if (o.spectrum) {
    std::tie(low, high) = *o.spectrum;
  } else if (hamiltonian_) {
    const LanczosBounds found = hamiltonian_->spectrum(where);
    low = found.low;
    high = found.high;
    bounded_by = fmt::format(", by {} steps of Lanczos and 1 % of its width", found.steps);
  } else {
    std::tie(low, high) = bounds(where);
    bounded_by = ", by the largest k^2 and the values of V";
  }
  BoundedOperator h;
  h.centre = 0.5 * (low + high) / hbar;
  h.radius = 0.5 * (high - low) / hbar * (o.spectrum ? 1.0 : 1.0 + kMargin);
  h.batch_axes = psi.shape().size() - grid_.axes();
  const FftnOptions axes{.axes = axes_of(psi)};
  const Tensor t_of_k = hamiltonian_ ? Tensor() : kinetic_ * (1.0 / hbar),
               v_of_x = hamiltonian_ ? Tensor() : potential_ * (1.0 / hbar);
  h.apply = [&](const UOp& z) {
    const Tensor w = tensor(z);
    if (hamiltonian_) return uop(applied(w) * (1.0 / hbar));
    return uop((ifftn(t_of_k * fftn(w, axes), axes) + v_of_x * w).astype(psi.dtype()));
  };
  const double x = h.radius * std::fabs(time);  // of one piece
  if (!(x <= kLargest))
    fail("evolve",
         fmt::format("R t is {} between two outputs, R half the width of the spectrum: at most {:g} is taken",
                     number_text(x), kLargest),
         where);
  // The bounds of Lanczos lie up to 4 % of the width below what psi can have.
  const double longest = !o.imaginary ? kLongestSeries : hamiltonian_ ? kLongestDecay / 2 : kLongestDecay;
  // In real time a power of two: its parts of the time are not rounded.
  const double least = std::max(1.0, std::ceil(x / longest));
  const auto parts = static_cast<std::int64_t>(o.imaginary ? least : std::exp2(std::ceil(std::log2(least))));
  const std::int64_t together =
      parts > 1 || pieces == 0 || o.imaginary
          ? 1
          : std::clamp<std::int64_t>(static_cast<std::int64_t>(kShortSeries / std::max(x, 1e-6)), 1, pieces);
  const bool many = parts > 1 || pieces > together;  // series, one after the other
  const Exponential kind = o.imaginary ? Exponential::kDecay : Exponential::kPhase;
  const auto series = [&](const Tensor& z, std::span<const double> times_of) {
    try {
      const ChebyshevSum made = chebyshev_exponential(h, uop(z), times_of, kind, o.tol);
      const double longest_time = std::fabs(times_of.back());
      // Of the psi that is given back: in imaginary time at least kMostDecayed of what the series began with.
      const double left_out = o.imaginary ? made.left_out / kMostDecayed : made.left_out;
      Records told = hamiltonian_ ? hamiltonian_->shown : Records{};
      told.push_back({Finding::kFound, fmt::format("{} spectrum is within [{:.6g}, {:.6g}]{}",
                                                   hamiltonian_ ? "its" : "H = T(k) + V(x), Hermitian; its",
                                                   low, high, bounded_by)});
      told.push_back(
          {Finding::kChose,
           fmt::format(
               "a Chebyshev series of {} terms for R t = {:.6g}{}{}: {} a term", made.terms,
               h.radius * longest_time, o.imaginary ? ", imaginary time" : "",
               times_of.size() > 1 ? fmt::format(", {} times by one recurrence", times_of.size()) : "",
               hamiltonian_ ? "H once" : "one pair of transforms"),
           "",
           {{"terms", static_cast<std::int64_t>(made.terms)}, {"radius_time", h.radius * longest_time}}});
      told.push_back(
          {Finding::kError,
           fmt::format("psi <= {:.1e} of |psi| by the terms left out{}; the last term and the norm "
                       "are checked after the run",
                       left_out, many ? ", in each series" : ""),
           "",
           {{"last_coefficient", made.last}, {"left_out", left_out}}});
      tell(made.loop, std::move(told), "it is the recurrence of a Chebyshev series");
      const Tensor sum = tensor(made.value);
      if (!o.imaginary) return sum;
      const Tensor left = total(density(sum)), of_start = total(density(z)).unsqueeze(0);
      const Tensor resolved = (left >= of_start * (kMostDecayed * kMostDecayed)).all();
      return normalised(tensor(make(Op::CHECK, {uop(sum), uop(resolved)},
                                    {static_cast<std::int64_t>(CheckKind::kDecayResolved)})),
                        where);
    } catch (const Error& e) {
      fail("evolve", e.message(), where);
    }
  };

  // The states after 1, ..., count pieces, along a leading axis.
  const auto group = [&](const Tensor& z, std::int64_t count) {
    if (parts > 1) {
      const double part = time / static_cast<double>(parts);
      return scan([&](const Tensor& w) { return series(w, std::span(&part, 1)).squeeze(0); }, z, parts,
                  {.method = Method::Loop}, where)
          .unsqueeze(0);
    }
    std::vector<double> at;
    for (std::int64_t j = 1; j <= count; ++j) at.push_back(time * static_cast<double>(j));
    return series(z, at);
  };
  Tensor result;
  if (!o.save_every) {
    result = pieces == 0 || time == 0 ? psi : group(psi, 1).squeeze(0);
  } else {
    std::vector<Tensor> saved{psi.unsqueeze(0)};
    Tensor at = psi;
    if (const std::int64_t groups = pieces / together; groups > 0) {
      const auto [end, rows] = scan(
          [&](const Tensor& z) {
            const Tensor all = group(z, together);
            return std::pair{all.slice(0, together - 1, together).squeeze(0), all};
          },
          at, groups, {.method = Method::Loop}, where);
      at = end;
      Shape flat = psi.shape();
      flat.insert(flat.begin(), groups * together);
      saved.push_back(rows.reshape(flat));
    }
    if (const std::int64_t rest = pieces % together; rest > 0) saved.push_back(group(at, rest));
    result = cat(saved, 0);
  }
  const Tensor t = o.save_every ? times(0.0, time, pieces + 1) : Tensor(time * static_cast<double>(pieces));
  return {result, t};
}

}  // namespace tinyphys
