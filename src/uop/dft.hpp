// The discrete Fourier transform of the evaluator, in any number type: sums over x[j] exp(sign 2 pi i j k / n), not scaled.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace tinyphys::dft {

template <class T> struct Complex { T re, im; };

// cos and sin of 2 pi k / n, 0 <= k < n, by an angle of at most pi / 4: exact at the multiples of a quarter.
template <class T> Complex<T> turn(std::int64_t k, std::int64_t n, const T& pi) {
  using std::cos, std::sin;
  const std::int64_t octant = 8 * k / n, within = 8 * k % n;
  const bool mirrored = octant % 2 != 0;
  const auto part = static_cast<double>(mirrored ? n - within : within);
  const T angle = pi * T(part) / T(4.0 * static_cast<double>(n));
  T c = cos(angle), s = sin(angle);
  if (mirrored) std::swap(c, s);
  switch (octant / 2) {  // c + i s, turned by so many quarters
    case 0: return {c, s};
    case 1: return {-s, c};
    case 2: return {-c, -s};
    default: return {s, -c};
  }
}

// Of lines of n numbers: by decimation in time with the prime factors of n, so that a prime n costs n^2 (Cooley and
// Tukey 1965).
template <class T> class Plan {
 public:
  template <class Turn> Plan(std::int64_t n, std::int64_t sign, Turn&& turn) : n_(n) {
    for (std::int64_t k = 0; k < n; ++k) {
      const Complex<T> w = turn(k, n);
      turns_.push_back(w);
    }
    if (sign < 0)  // conjugate: exp(-2 pi i k / n) is the turn of n - k
      for (std::int64_t k = 1; k < n - k; ++k) std::swap(turns_[at(k)], turns_[at(n - k)]);
  }

  std::vector<Complex<T>> operator()(const std::vector<Complex<T>>& x) const {
    std::vector<Complex<T>> out = x;
    run(n_, 1, x, 0, out, 0);
    return out;
  }

 private:
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
  static Complex<T> sum(const Complex<T>& a, const Complex<T>& b) { return {a.re + b.re, a.im + b.im}; }
  static Complex<T> product(const Complex<T>& a, const Complex<T>& b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  }
  static std::int64_t smallest_factor(std::int64_t n) {
    for (std::int64_t p = 2; p * p <= n; ++p)
      if (n % p == 0) return p;
    return n;
  }

  // n numbers of x from `from` on, `step` apart, to n of out from `to` on.
  void run(std::int64_t n, std::int64_t step, const std::vector<Complex<T>>& x, std::int64_t from,
           std::vector<Complex<T>>& out, std::int64_t to) const {
    if (n == 1) {
      out[at(to)] = x[at(from)];
      return;
    }
    const std::int64_t p = smallest_factor(n), m = n / p;
    for (std::int64_t r = 0; r < p; ++r) run(m, step * p, x, from + r * step, out, to + r * m);
    std::vector<Complex<T>> parts;
    for (std::int64_t k = 0; k < m; ++k) {
      parts.clear();
      for (std::int64_t r = 0; r < p; ++r) parts.push_back(out[at(to + r * m + k)]);
      for (std::int64_t q = 0; q < p; ++q) {
        Complex<T> total = parts[0];
        for (std::int64_t r = 1; r < p; ++r)
          total = sum(total, product(turns_[at(r * (k + m * q) % n * step)], parts[at(r)]));
        out[at(to + m * q + k)] = total;
      }
    }
  }

  std::int64_t n_;
  std::vector<Complex<T>> turns_;  // exp(sign 2 pi i k / n)
};

}  // namespace tinyphys::dft
