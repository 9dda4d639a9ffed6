#include "tinyphys/spectra.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numbers>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "linalg/dense.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/scan.hpp"

namespace tinyphys {

using front::fail;
using front::number_text;

namespace {

// Up to so many points the matrix of H is diagonalised.
constexpr std::int64_t kDense = 512;
// A filter lets the lowest state grow by at most this over those that it damps; that of a block which is still random by less, or
// its waves would be nearly one.
constexpr double kMostGrowth = 1e10, kFirstGrowth = 1e4;
constexpr double kLongestFilter = 2000;
// Of products of two states that are returned, against 1 and 0.
constexpr double kOrthonormal = 1e-12;
// The bounds are taken to be this much wider: what rounding adds to H.
constexpr double kMargin = 1e-9;

std::int64_t points_of(const Grid& grid) {
  return std::accumulate(grid.points().begin(), grid.points().end(), std::int64_t{1}, std::multiplies<>());
}

std::pair<double, double> bounds_of(const Schroedinger& system, std::string_view call, const Where& place) {
  try {
    return system.bounds(place);
  } catch (const Error& e) {
    fail(call, e.message(), place);
  }
}

// A block of m real waves, rows of [m, N]. H is real: two of them go through it as the parts of one complex wave.
class Block {
 public:
  Block(const Schroedinger& system, Tensor x)
      : system_(&system), x_(std::move(x)), m_(x_.shape()[0]), n_(points_of(system.grid())) {}

  std::int64_t size() const { return m_; }
  const Tensor& x() const { return x_; }
  const Tensor& hx() const { return hx_; }
  const std::vector<double>& energy() const { return energy_; }

  // y_d = the Chebyshev polynomial of degree d of H, small on [a, b], 1 at `lowest`.
  void filter(double lowest, double a, double b, std::int64_t degree) {
    const double e = (b - a) / 2, c = (b + a) / 2, first = e / (lowest - c);
    std::vector<double> by_next, by_last;
    for (double sigma = first; static_cast<std::int64_t>(by_next.size()) + 1 < degree;) {
      const double next = 1 / (2 / first - sigma);
      by_next.push_back(2 * next / e);
      by_last.push_back(sigma * next);
      sigma = next;
    }
    const Tensor centre(c), z = packed();
    const auto shifted = [&](const Tensor& y) { return system_->apply(y) - centre * y; };
    Tensor start = shifted(z) * (first / e);
    if (!by_next.empty())
      start = std::get<1>(scan(
          [&](const Tensor& last, const Tensor& y, const Tensor& p, const Tensor& q) {
            return std::tuple{y, shifted(y) * p - last * q};
          },
          std::tuple{z, start}, static_cast<std::int64_t>(by_next.size()),
          {.xs = {Tensor::from(by_next), Tensor::from(by_last)}, .method = Method::Loop}));
    x_ = unpacked(start).realize();
    hx_ = {};
  }

  // The waves become the eigenstates of H within the space that they span (Rayleigh and Ritz), by an orthonormal basis of it
  // (Stathopoulos and Wu, SIAM J. Sci. Comput. 23, 2165 (2002)). What is wrong, or "".
  std::string rotate() {
    const auto m = static_cast<std::size_t>(m_);
    hx_ = unpacked(system_->apply(packed())).realize();
    std::vector<double> s = products(x_, x_), a = products(x_, hx_), w(m), scale(m);
    for (std::size_t i = 0; i < m; ++i) scale[i] = 1 / std::sqrt(s[i * m + i]);
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < m; ++j) s[i * m + j] *= scale[i] * scale[j];
    if (std::string why = symmetric_eigen(m_, s.data(), w.data()); !why.empty()) return why;
    const double floor = w.back() * 1e-15 * static_cast<double>(m_);
    std::vector<double> basis(m * m), part(m * m), of_h(m * m),
        rotation(m * m);  // rows of basis: combinations of waves
    for (std::size_t j = 0; j < m; ++j)
      for (std::size_t i = 0; i < m; ++i)
        basis[j * m + i] = s[j * m + i] * scale[i] / std::sqrt(std::max(w[j], floor));
    gemm(m_, m_, m_, basis.data(), m_, false, a.data(), m_, false, part.data(), m_);
    gemm(m_, m_, m_, part.data(), m_, false, basis.data(), m_, true, of_h.data(), m_);
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < i; ++j) of_h[i * m + j] = 0.5 * (of_h[i * m + j] + of_h[j * m + i]);
    energy_.resize(m);
    if (std::string why = symmetric_eigen(m_, of_h.data(), energy_.data()); !why.empty()) return why;
    gemm(m_, m_, m_, of_h.data(), m_, false, basis.data(), m_, false, rotation.data(), m_);
    const Tensor q = Tensor::from(rotation, {m_, m_});
    const Tensor x = matmul(q, x_), hx = matmul(q, hx_);
    x_ = x.realize();
    hx_ = hx.realize();
    return "";
  }

  // |H x - E x| of the first waves.
  std::vector<double> residuals(std::int64_t count) const {
    const Tensor e = Tensor::from(energy_, {m_, 1});
    return sqrt(square(hx_ - e * x_).sum({1})).slice(0, 0, count).to_vector<double>();
  }
  // The largest deviation of their products from 1 and 0.
  double deviation(std::int64_t count) const {
    const Tensor first = x_.slice(0, 0, count);
    return abs(matmul(first, first.transpose()) - Tensor::eye(count)).max().item<double>();
  }

 private:
  static std::vector<double> products(const Tensor& x, const Tensor& y) {
    return matmul(x, y.transpose()).to_vector<double>();
  }
  Tensor packed() const {
    const std::int64_t half = (m_ + 1) / 2;
    Shape shape = system_->grid().points();
    shape.insert(shape.begin(), half);
    Tensor second = x_.slice(0, half, m_);
    if (m_ % 2 != 0) second = cat({second, Tensor::zeros({1, n_})});
    return complex(x_.slice(0, 0, half).reshape(shape), second.reshape(shape));
  }
  Tensor unpacked(const Tensor& z) const {
    const Shape rows{(m_ + 1) / 2, n_};
    return cat({real(z).reshape(rows), imag(z).reshape(rows)}).slice(0, 0, m_);
  }

  const Schroedinger* system_;
  Tensor x_, hx_;
  std::int64_t m_, n_;
  std::vector<double> energy_;
};

// The first waves of a block as they are given back.
Eigenstates made_of(const Schroedinger& system, const Block& block, std::int64_t count,
                    const std::vector<double>& residuals, std::int64_t iterations) {
  std::vector<double> x = block.x().slice(0, 0, count).to_vector<double>();
  const std::size_t n = x.size() / static_cast<std::size_t>(count);
  const double unit = 1 / std::sqrt(system.grid().cell());
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const std::span<double> row(x.data() + i * n, n);
    const auto largest = std::ranges::max_element(row, {}, [](double value) { return std::fabs(value); });
    const double factor = *largest < 0 ? -unit : unit;
    for (double& value : row) value *= factor;
  }
  Shape shape = system.grid().points();
  shape.insert(shape.begin(), count);
  Eigenstates out;
  out.energy = Tensor::from(std::vector<double>(block.energy().begin(), block.energy().begin() + count));
  out.psi = Tensor::from(x, shape).astype(DType::kComplex128).realize();
  out.residual = Tensor::from(residuals);
  out.iterations = iterations;
  return out;
}

}  // namespace

Eigenstates eigenstates(const Schroedinger& system, std::int64_t count, const EigenstatesOptions& o,
                        Where where) {
  constexpr std::string_view kCall = "eigenstates";
  LocationScope scope(where);
  const std::int64_t n = points_of(system.grid()), most = n <= kDense ? n : n / 2;
  if (count < 1 || count > most)
    fail(kCall, fmt::format("count is {}, it must be within 1 and {} on a grid of {} points", count, most, n),
         where);
  if (!(o.tol >= 1e-14 && o.tol <= 1e-2))
    fail(kCall, fmt::format("tol is {}, it must be within 1e-14 and 1e-2", number_text(o.tol)), where);
  if (o.max_iterations < 1)
    fail(kCall, fmt::format("max_iterations is {}, it must be at least 1", o.max_iterations), where);
  const auto [low, high] = bounds_of(system, kCall, where);
  const double radius = 0.5 * (high - low), top = high + kMargin * radius;
  const auto not_found = [&](const std::string& why) { fail(kCall, "LAPACK: " + why, where); };
  if (n <= kDense) {
    // Of all unit waves: the space is the whole, and one rotation finds all of them.
    Block block(system, Tensor::eye(n).realize());
    if (const std::string why = block.rotate(); !why.empty()) not_found(why);
    return made_of(system, block, count, block.residuals(count), 0);
  }
  // Guards make those that are asked for converge.
  const std::int64_t m = std::min(n, count + std::max<std::int64_t>(8, count / 4));
  Block block(system, Tensor::randn({m, n}, static_cast<std::int64_t>(o.seed)).realize());
  double lowest = low,
         cut = low + 2 * radius * std::min(0.5, 2 * static_cast<double>(m) / static_cast<double>(n));
  double worst = 0;
  for (std::int64_t i = 1; i <= o.max_iterations; ++i) {
    cut = std::min(cut, top - 1e-3 * radius);
    const double rate = std::acosh(1 + 2 * (cut - lowest) / (top - cut));
    const double degree = std::log(i == 1 ? kFirstGrowth : kMostGrowth) / rate;
    block.filter(lowest, cut, top, static_cast<std::int64_t>(std::clamp(degree, 4.0, kLongestFilter)));
    if (const std::string why = block.rotate(); !why.empty()) not_found(why);
    lowest = block.energy().front();
    cut = block.energy().back();
    std::vector<double> residuals = block.residuals(count);
    worst = *std::ranges::max_element(residuals);
    if (!(worst <= o.tol * radius)) continue;
    if (block.deviation(count) > kOrthonormal) {
      if (const std::string why = block.rotate(); !why.empty()) not_found(why);
      residuals = block.residuals(count);
      if (block.deviation(count) > kOrthonormal) continue;
    }
    return made_of(system, block, count, residuals, i);
  }
  fail(
      kCall,
      fmt::format("after {} iterations the largest residual is {:.3g}, above tol times half the width of the "
                  "spectrum, {:.3g}; take a larger tol, or more iterations",
                  o.max_iterations, worst, o.tol * radius),
      where);
}

// --- densities --------------------------------------------------------------------------------------------

namespace {

// The mean over the waves [v, grid...] of <psi|T_k(Hn)|psi> for k < moments, by two of each T_k.
Tensor moments_of(const Schroedinger& system, const Tensor& psi, double centre, double radius,
                  std::int64_t moments, const Where& place) {
  const double count = static_cast<double>(psi.shape()[0]);
  const auto product = [&](const Tensor& x, const Tensor& y) {
    return (real(x) * real(y) + imag(x) * imag(y)).sum() * (1 / count);
  };
  const auto apply = [&](const Tensor& y) { return (system.apply(y) - centre * y) * (1 / radius); };
  const Tensor first = apply(psi), m0 = product(psi, psi), m1 = product(psi, first);
  Tensor all = stack({m0, m1});
  if (const std::int64_t steps = (moments - 1) / 2; steps > 0) {
    const auto [end, rows] = scan(
        [&](const Tensor& last, const Tensor& y) {
          const Tensor next = 2.0 * apply(y) - last;
          return std::pair{std::pair{y, next},
                           stack({2.0 * product(y, y) - m0, 2.0 * product(next, y) - m1})};
        },
        std::pair{psi, first}, steps, {.method = Method::Loop}, place);
    all = cat({all, rows.reshape({2 * steps})});
  }
  return all.slice(0, 0, moments);
}

Tensor density(const Schroedinger& system, const Tensor& psi, const Tensor& energies, std::int64_t moments,
               double factor, const std::pair<double, double>& bounds, const Where& place) {
  const auto [low, high] = bounds;
  const double centre = 0.5 * (low + high), radius = 0.5 * (high - low) * (1 + kMargin);
  std::vector<double> kernel;  // Jackson's
  const double step = std::numbers::pi / static_cast<double>(moments + 1);
  for (std::int64_t k = 0; k < moments; ++k) {
    const double x = step * static_cast<double>(k);
    kernel.push_back((k == 0 ? 1.0 : 2.0) *
                     (static_cast<double>(moments - k + 1) * std::cos(x) + std::sin(x) / std::tan(step)) /
                     static_cast<double>(moments + 1));
  }
  const Tensor terms = moments_of(system, psi, centre, radius, moments, place) * Tensor::from(kernel);
  const Tensor flat = energies.astype(DType::kFloat64).reshape({-1});
  const Tensor x = (flat - centre) * (1 / radius), inside = abs(x) < 1.0, at = where(inside, x, 0.0);
  const Tensor angle = acos(at).unsqueeze(1) * Tensor::arange(static_cast<double>(moments));
  const Tensor sum = (cos(angle) * terms).sum({1}) / sqrt(1.0 - square(at));
  return where(inside, sum * (factor / (std::numbers::pi * radius)), 0.0).reshape(energies.shape());
}

void check_density(std::string_view call, const Tensor& energies, const DensityOptions& o,
                   const Where& place) {
  const UOp e = front::value(energies, call, place);
  if (is_complex(e->dtype) || e->dtype == DType::kBool)
    fail(call, "the energies are " + front::describe(e.get()) + ", they must be real numbers", place);
  if (o.moments < 2 || o.moments > 1'000'000)
    fail(call, fmt::format("moments is {}, it must be within 2 and 1,000,000", o.moments), place);
  if (o.vectors < 1) fail(call, fmt::format("vectors is {}, it must be at least 1", o.vectors), place);
}

}  // namespace

Tensor density_of_states(const Schroedinger& system, const Tensor& energies, const DensityOptions& o,
                         Where place) {
  constexpr std::string_view kCall = "density_of_states";
  check_density(kCall, energies, o, place);
  LocationScope scope(place);
  Shape shape = system.grid().points();
  shape.insert(shape.begin(), o.vectors);
  // Phases: of all random numbers of mean square 1 those whose trace varies least.
  const Tensor phase = 2.0 * std::numbers::pi * Tensor::rand(shape, static_cast<std::int64_t>(o.seed));
  return density(system, complex(cos(phase), sin(phase)), energies, o.moments, 1.0,
                 bounds_of(system, kCall, place), place);
}

Tensor spectral_density(const Schroedinger& system, const Tensor& psi, const Tensor& energies,
                        const DensityOptions& o, Where place) {
  constexpr std::string_view kCall = "spectral_density";
  check_density(kCall, energies, o, place);
  LocationScope scope(place);
  if (psi.shape(place) != system.grid().points())
    fail(kCall,
         "psi is " + front::describe(front::value(psi, kCall, place).get()) + ", it must be of the grid, " +
             shape_text(system.grid().points()),
         place);
  const Tensor z = is_complex(psi.dtype()) ? psi : psi.astype(DType::kComplex128, place);
  return density(system, z.unsqueeze(0), energies, o.moments, system.grid().cell(),
                 bounds_of(system, kCall, place), place);
}

}  // namespace tinyphys
