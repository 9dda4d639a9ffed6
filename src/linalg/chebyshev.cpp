#include "linalg/chebyshev.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "support/dd.hpp"
#include "tinyphys/error.hpp"

namespace tinyphys {
namespace {

constexpr double kLargest = 1e7;  // of x: so many numbers fit in memory
// exp(-85) = 1e-37: a recurrence that begins there has forgotten its start where the numbers matter.
constexpr double kStart = 85;

void check(double x, double tol) {
  if (!(x >= 0 && x <= kLargest))
    throw Error("chebyshev",
                "the product of spectral radius and time is " + std::to_string(x) + ", not in [0, 1e7]", "",
                0);
  if (!(tol > 0 && tol < 1))
    throw Error("chebyshev", "tol = " + std::to_string(tol) + " is not in (0, 1)", "", 0);
}

// The first k at which decay(k), which grows with k, is beyond kStart.
template <class F> long first_index(double low, F&& decay) {
  double high = low + 64;
  while (decay(high) < kStart) high = low + 2 * (high - low);
  while (high - low > 1) {
    const double middle = (low + high) / 2;
    (decay(middle) < kStart ? low : high) = middle;
  }
  return static_cast<long>(std::ceil(high)) + 1;
}

// f_(k-1) = (2 k / x) f_k + sign f_(k+1) from `start` down, so scaled that f_0 + 2 sum of every `stride`-th is 1.
std::vector<double> by_miller(double x, double sign, long start, long stride, double tol) {
  std::vector<DD> f(static_cast<std::size_t>(start) + 2, DD(0.0));
  const DD by_x = DD(2.0) / DD(x);
  f[static_cast<std::size_t>(start)] = DD(1e-60);
  DD total = 0.0;
  for (long k = start; k > 0; --k) {
    const auto i = static_cast<std::size_t>(k);
    f[i - 1] = by_x * static_cast<double>(k) * f[i] + sign * f[i + 1];
    if (k % stride == 0) total = total + f[i];
  }
  total = f[0] + 2.0 * total;
  const DD scale = DD(1.0) / total;
  std::vector<double> out;
  out.reserve(f.size());
  for (const DD& v : f) out.push_back((v * scale).hi);
  while (out.size() > 1 && std::fabs(out.back()) < tol) out.pop_back();
  return out;
}

}  // namespace

std::vector<double> bessel_j(double x, double tol) {
  check(x, tol);
  if (x == 0) return {1.0};
  // J_k(x) < exp(-k (a - tanh a)), cosh a = k / x (Debye).
  const long start = first_index(x, [x](double k) {
    const double a = std::acosh(std::max(k / x, 1.0));
    return k * (a - std::tanh(a));
  });
  return by_miller(x, -1, start, 2, tol);
}

std::vector<double> scaled_bessel_i(double x, double tol) {
  check(x, tol);
  if (x == 0) return {1.0};
  // exp(-x) I_k(x) < exp(sqrt(k^2 + x^2) - x - k asinh(k / x)) (the uniform asymptotic form).
  const long start =
      first_index(0, [x](double k) { return k * std::asinh(k / x) - k * k / (std::hypot(k, x) + x); });
  return by_miller(x, 1, start, 1, tol);
}

std::vector<std::complex<double>> chebyshev_of_phase(double x, double tol) {
  std::vector<std::complex<double>> out;
  // (-i)^k, and of -x its conjugate.
  const double s = x < 0 ? 1 : -1;
  const std::complex<double> power[] = {{1, 0}, {0, s}, {-1, 0}, {0, -s}};
  const auto j = bessel_j(std::fabs(x), tol);
  for (std::size_t k = 0; k < j.size(); ++k) out.push_back((k == 0 ? 1.0 : 2.0) * j[k] * power[k % 4]);
  return out;
}

std::vector<double> chebyshev_of_decay(double x, double tol) {
  std::vector<double> out = scaled_bessel_i(x, tol);
  for (std::size_t k = 1; k < out.size(); ++k) out[k] *= k % 2 == 0 ? 2 : -2;
  return out;
}

}  // namespace tinyphys
