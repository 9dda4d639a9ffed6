#include "linalg/complex_dd.hpp"

#include <utility>

namespace tinyphys {
namespace {

std::size_t at(int n, int i, int j) { return static_cast<std::size_t>(i * n + j); }

ComplexMatrixDD product(int n, const ComplexMatrixDD& x, const ComplexMatrixDD& y) {
  ComplexMatrixDD z(x.size());
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j)
      for (int k = 0; k < n; ++k) z[at(n, i, j)] = z[at(n, i, j)] + x[at(n, i, k)] * y[at(n, k, j)];
  return z;
}

}  // namespace

HermitianEigen hermitian_eigen(int n, ComplexMatrixDD a) {
  ComplexMatrixDD v(a.size());
  for (int i = 0; i < n; ++i) {
    v[at(n, i, i)].re = 1.0;
    a[at(n, i, i)].im = 0.0;
    for (int j = 0; j < i; ++j) a[at(n, i, j)] = conj(a[at(n, j, i)]);
  }
  constexpr int kMaxSweeps = 30;
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    double off = 0, diagonal = 0;
    for (int i = 0; i < n; ++i) {
      diagonal = std::max(diagonal, std::fabs(a[at(n, i, i)].re.hi));
      for (int j = i + 1; j < n; ++j) off = std::max(off, size(a[at(n, i, j)]));
    }
    if (!(off > 0x1p-107 * diagonal)) break;
    for (int p = 0; p < n; ++p)
      for (int q = p + 1; q < n; ++q) {
        const ComplexDD apq = a[at(n, p, q)];
        const DD r = sqrt(apq.re * apq.re + apq.im * apq.im);
        if (r.hi == 0.0) continue;
        // Column q times e^{-i phi} makes the entry real; then the real rotation that annihilates it.
        const DD inverse = 1.0 / r;
        const ComplexDD phase{apq.re * inverse, apq.im * inverse};
        const DD tau = (a[at(n, q, q)].re - a[at(n, p, p)].re) / ldexp(r, 1);
        const DD root = sqrt(1.0 + tau * tau);
        const DD t = tau.hi >= 0 ? 1.0 / (tau + root) : -1.0 / (root - tau);
        const DD c = 1.0 / sqrt(1.0 + t * t), s = t * c;
        // Columns: p' = c p - s e^{-i phi} q, q' = s p + c e^{-i phi} q.
        const auto columns = [&](ComplexMatrixDD& m) {
          for (int i = 0; i < n; ++i) {
            const ComplexDD x = m[at(n, i, p)], y = conj(phase) * m[at(n, i, q)];
            m[at(n, i, p)] = c * x - s * y;
            m[at(n, i, q)] = s * x + c * y;
          }
        };
        columns(a);
        columns(v);
        for (int j = 0; j < n; ++j) {
          const ComplexDD x = a[at(n, p, j)], y = phase * a[at(n, q, j)];
          a[at(n, p, j)] = c * x - s * y;
          a[at(n, q, j)] = s * x + c * y;
        }
        a[at(n, p, q)] = a[at(n, q, p)] = {};
        a[at(n, p, p)].im = a[at(n, q, q)].im = 0.0;
      }
  }
  HermitianEigen out;
  for (int i = 0; i < n; ++i) out.lambda.push_back(a[at(n, i, i)].re);
  out.vectors = std::move(v);
  return out;
}

ComplexMatrixDD compose_minus_identity(int n, const ComplexMatrixDD& a, const ComplexMatrixDD& b) {
  ComplexMatrixDD z = product(n, a, b);
  for (std::size_t i = 0; i < z.size(); ++i) z[i] = z[i] + (a[i] + b[i]);
  return z;
}

ComplexMatrixDD solve(int n, ComplexMatrixDD a, ComplexMatrixDD b) {
  const auto at = [n](int i, int j) { return static_cast<std::size_t>(i * n + j); };
  const auto inverse = [](const ComplexDD& x) {
    const DD scale = DD(1.0) / (x.re * x.re + x.im * x.im);
    return scale * conj(x);
  };
  for (int k = 0; k < n; ++k) {
    int best = k;
    for (int i = k + 1; i < n; ++i)
      if (size(a[at(i, k)]) > size(a[at(best, k)])) best = i;
    const double pivot = size(a[at(best, k)]);
    if (!(pivot > 0) || !std::isfinite(pivot)) return {};
    for (int j = 0; j < n; ++j) {
      std::swap(a[at(k, j)], a[at(best, j)]);
      std::swap(b[at(k, j)], b[at(best, j)]);
    }
    const ComplexDD by = inverse(a[at(k, k)]);
    for (int i = 0; i < n; ++i) {
      if (i == k) continue;
      const ComplexDD factor = a[at(i, k)] * by;
      for (int j = 0; j < n; ++j) {
        a[at(i, j)] = a[at(i, j)] - factor * a[at(k, j)];
        b[at(i, j)] = b[at(i, j)] - factor * b[at(k, j)];
      }
    }
    for (int j = 0; j < n; ++j) {
      a[at(k, j)] = by * a[at(k, j)];
      b[at(k, j)] = by * b[at(k, j)];
    }
  }
  return b;
}

ComplexMatrixDD exp_minus_identity(int n, ComplexMatrixDD x) {
  constexpr int kTerms = 18;  // (1/16)^18 / 18! < 2^-120
  double norm = 0;
  for (int i = 0; i < n; ++i) {
    double row = 0;
    for (int j = 0; j < n; ++j) row += size(x[static_cast<std::size_t>(i * n + j)]);
    norm = std::max(norm, row);
  }
  int squarings = 0;
  if (std::isfinite(norm) && norm > 0) squarings = std::max(0, std::ilogb(norm) + 5);
  for (ComplexDD& e : x) e = {ldexp(e.re, -squarings), ldexp(e.im, -squarings)};
  ComplexMatrixDD sum = x, term = x;
  for (int k = 2; k <= kTerms; ++k) {
    term = product(n, term, x);
    for (std::size_t i = 0; i < term.size(); ++i) {
      term[i] = {term[i].re / static_cast<double>(k), term[i].im / static_cast<double>(k)};
      sum[i] = sum[i] + term[i];
    }
  }
  for (int s = 0; s < squarings; ++s) sum = compose_minus_identity(n, sum, sum);
  return sum;
}

ComplexMatrixDD power_minus_identity(int n, ComplexMatrixDD b, std::int64_t steps) {
  ComplexMatrixDD result(b.size());
  for (; steps > 0; steps >>= 1) {
    if (steps & 1) result = compose_minus_identity(n, result, b);
    if (steps > 1) b = compose_minus_identity(n, b, b);
  }
  return result;
}

}  // namespace tinyphys
