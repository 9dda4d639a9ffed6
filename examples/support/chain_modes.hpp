// Frequencies of a chain, and the spectrum of its sampled motion.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <numbers>
#include <utility>
#include <vector>

namespace example {

/// Eigenvalues, ascending, of the symmetric tridiagonal matrix with this diagonal (n) and the n - 1 entries
/// beside it, by the implicit QL method (Wilkinson and Reinsch, Handbook for Automatic Computation II, 1971).
/// O(n^2).
inline std::vector<double> tridiagonal_eigenvalues(std::vector<double> d, std::vector<double> beside) {
  const std::size_t n = d.size();
  beside.resize(n, 0.0);
  std::vector<double>& e = beside;
  for (std::size_t l = 0; l < n; ++l) {
    for (int sweep = 0; sweep < 60; ++sweep) {
      std::size_t m = l;  // the block that starts at l ends where an off-diagonal is negligible
      while (m + 1 < n && std::abs(e[m]) > 1e-16 * (std::abs(d[m]) + std::abs(d[m + 1]))) ++m;
      if (m == l) break;
      double g = (d[l + 1] - d[l]) / (2 * e[l]);
      double r = std::hypot(g, 1.0);
      g = d[m] - d[l] + e[l] / (g + std::copysign(r, g));  // d[m] minus Wilkinson's shift
      double s = 1, c = 1, p = 0;
      std::size_t i = m;
      while (i-- > l) {
        const double f = s * e[i], b = c * e[i];
        r = std::hypot(f, g);
        e[i + 1] = r;
        if (r == 0) {  // the block splits here
          d[i + 1] -= p;
          e[m] = 0;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
      }
      if (r == 0 && i + 1 > l) continue;
      d[l] -= p;
      e[l] = g;
      e[m] = 0;
    }
  }
  std::sort(d.begin(), d.end());
  return d;
}

/// Angular frequencies, ascending, of a chain in rad/s. springs has one more entry than mass: springs[i] is
/// left of mass i, so the first and the last are those of the walls. They are the square roots of the
/// eigenvalues of M^-1/2 K M^-1/2, which is tridiagonal.
inline std::vector<double> chain_frequencies(const std::vector<double>& mass,
                                             const std::vector<double>& springs) {
  const std::size_t n = mass.size();
  std::vector<double> diagonal(n), beside(n - 1);
  for (std::size_t i = 0; i < n; ++i) diagonal[i] = (springs[i] + springs[i + 1]) / mass[i];
  for (std::size_t i = 0; i + 1 < n; ++i) beside[i] = -springs[i + 1] / std::sqrt(mass[i] * mass[i + 1]);
  std::vector<double> frequencies = tridiagonal_eigenvalues(std::move(diagonal), std::move(beside));
  for (double& omega : frequencies)
    omega = std::sqrt(std::max(omega, 0.0));  // a free chain's 0 may round below
  return frequencies;
}

/// In place, sum over j of x[j] exp(-2 pi i j k / n); n is a power of 2.
inline void fft(std::vector<std::complex<double>>& x) {
  const std::size_t n = x.size();
  for (std::size_t i = 1, j = 0; i < n; ++i) {
    std::size_t bit = n / 2;
    for (; j & bit; bit /= 2) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(x[i], x[j]);
  }
  std::vector<std::complex<double>> roots(n / 2);
  for (std::size_t k = 0; k < n / 2; ++k)
    roots[k] = std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n));
  for (std::size_t half = 1; half < n; half *= 2)
    for (std::size_t start = 0; start < n; start += 2 * half)
      for (std::size_t k = 0; k < half; ++k) {
        const std::complex<double> a = x[start + k], w = roots[k * (n / (2 * half))], b = x[start + k + half];
        // Written out: operator* on complex looks for NaN and costs more than the transform.
        const std::complex<double> t(w.real() * b.real() - w.imag() * b.imag(),
                                     w.real() * b.imag() + w.imag() * b.real());
        x[start + k] = a + t;
        x[start + k + half] = a - t;
      }
}

/// Spectrum of motion[sample][i], the positions at equal times: sqrt(sum over i of m_i |Q_i|^2), for the
/// angular frequencies 2 pi k / (samples * time between samples), k < samples / 2. samples is a power of 2.
/// The mass weights make it a sum over the modes, which are orthonormal in sqrt(m) q. Hann window; scaled so
/// that a mode of amplitude a in that coordinate makes a peak of about a.
inline std::vector<double> motion_spectrum(const std::vector<std::vector<double>>& motion,
                                           const std::vector<double>& mass) {
  const std::size_t samples = motion.size(), n = mass.size();
  std::vector<double> window(samples), power(samples / 2, 0.0);
  double total = 0;
  for (std::size_t j = 0; j < samples; ++j) {
    window[j] = 0.5 - 0.5 * std::cos(2 * std::numbers::pi * (static_cast<double>(j) + 0.5) /
                                     static_cast<double>(samples));
    total += window[j];
  }
  std::vector<std::complex<double>> x(samples);
  for (std::size_t i = 0; i < n; i += 2) {  // two real signals a transform
    const bool pair = i + 1 < n;
    const double a = std::sqrt(mass[i]), b = pair ? std::sqrt(mass[i + 1]) : 0.0;
    for (std::size_t j = 0; j < samples; ++j)
      x[j] = {a * window[j] * motion[j][i], pair ? b * window[j] * motion[j][i + 1] : 0.0};
    fft(x);
    for (std::size_t k = 1; k < samples / 2; ++k)
      power[k] += (std::norm(x[k]) + std::norm(x[samples - k])) / 2;  // |A|^2 + |B|^2 of the two signals
    power[0] += std::norm(x[0]) / 4;
  }
  for (double& v : power) v = std::sqrt(v) * 2 / total;
  return power;
}

}  // namespace example
