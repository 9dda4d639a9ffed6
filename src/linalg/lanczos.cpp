#include "linalg/lanczos.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "linalg/dense.hpp"

namespace tinyphys {
namespace {

using Vector = std::vector<std::complex<double>>;

std::complex<double> dot(const Vector& a, const Vector& b) {
  double re = 0, im = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    re += a[i].real() * b[i].real() + a[i].imag() * b[i].imag();
    im += a[i].real() * b[i].imag() - a[i].imag() * b[i].real();
  }
  return {re, im};
}
void add_times(Vector& a, std::complex<double> factor, const Vector& b) {
  const double re = factor.real(), im = factor.imag();
  for (std::size_t i = 0; i < a.size(); ++i)
    a[i] += std::complex<double>(re * b[i].real() - im * b[i].imag(), re * b[i].imag() + im * b[i].real());
}
double norm_of(const Vector& a) { return std::sqrt(dot(a, a).real()); }
void scale(Vector& a, double factor) {
  for (std::complex<double>& z : a) z *= factor;
}

}  // namespace

LanczosBounds lanczos_bounds(const std::function<Vector(const Vector&)>& apply, Vector start, int most,
                             double accuracy) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  LanczosBounds out;
  std::vector<double> alpha, beta;
  scale(start, 1 / norm_of(start));
  Vector now = std::move(start), before;
  while (true) {
    Vector next = apply(now);
    ++out.steps;
    alpha.push_back(dot(now, next).real());
    for (int twice = 0; twice < 2; ++twice)
      for (const Vector* v : {&before, &now})
        if (!v->empty()) add_times(next, -dot(*v, next), *v);
    const double rest = norm_of(next);
    if (!std::isfinite(alpha.back()) || !std::isfinite(rest)) return {kNone, kNone, out.steps};

    const std::size_t m = alpha.size();
    std::vector<double> t(m * m, 0.0), ritz(m);
    for (std::size_t i = 0; i < m; ++i) {
      t[i * m + i] = alpha[i];
      if (i > 0) t[i * m + i - 1] = t[(i - 1) * m + i] = beta[i - 1];
    }
    if (!symmetric_eigen(static_cast<long>(m), t.data(), ritz.data()).empty())
      return {kNone, kNone, out.steps};
    // Row j holds the vector of the j-th value: its last component is its share of what lies outside.
    const double below = rest * std::fabs(t[m - 1]), above = rest * std::fabs(t[m * m - 1]);
    out.low = ritz.front() - below;
    out.high = ritz.back() + above;
    const double width = out.high - out.low, size = std::max(std::fabs(out.low), std::fabs(out.high));
    const bool whole = rest <= 1e-12 * size || m == now.size();
    const bool exact = m >= 8 && below <= accuracy * width && above <= accuracy * width;
    if (whole || exact || out.steps >= most) return out;
    scale(next, 1 / rest);
    beta.push_back(rest);
    before = std::exchange(now, std::move(next));
  }
}

}  // namespace tinyphys
