#include "linalg/eigen_refine.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>

namespace tinyphys {

namespace {

// A pair whose first-order mixing |x_i^T A x_j| / gap exceeds this is rotated as a block: Newton's remainder
// is its square.
constexpr double kMaxMixing = 1e-5;
// Gaps below kNearGap / n (relative to the norm) take the orthogonality-preserving form of the correction:
// dividing the rounding of the residual by such a gap would cost orthogonality. Random spectra stay mostly
// above it.
constexpr double kNearGap = 0.2;
// Rounding level of the residual products, relative to the norm.
constexpr double kNoise = 0x1p-99;

std::size_t u(long i) { return static_cast<std::size_t>(i); }

struct Interval {
  long first, count;
};

class Refiner {
 public:
  Refiner(const DDMatrix& matrix, double norm, SymmetricEigen& eigen, const ParallelFor& parallel)
      : a(matrix), n(matrix.rows), scale(norm), out(eigen), pool(parallel) {}

  void sweep() {
    form_residual_products();
    for (long j = 0; j < n; ++j) out.values[u(j)] += g[u(j * n + j)];
    find_clusters();
    form_correction();
    // X <- X (I + E); E is small, so double suffices for the product.
    gemm(n, n, n, e.data(), n, false, out.vectors.hi.data(), n, false, r.data(), n, false, pool);
    run_blocks(pool, n, [&](long j) {
      for (long c = 0; c < n; ++c) out.vectors.set(j, c, out.vectors.at(j, c) + r[u(j * n + c)]);
    });
    for (const Interval& c : clusters) rotate(c);
    ++out.sweeps;
  }

  // Frobenius norms by Hutchinson's estimator: E |M z|^2 = |M|_F^2 for independent signs z.
  void probe() {
    const long count = n <= 16 ? n : 4;
    std::vector<DD> z(u(n * count)), lz(u(n * count)), xz(u(n * count)), w(u(n * count)), t(u(n * count));
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    for (long v = 0; v < count; ++v) {
      for (long i = 0; i < n; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const double sign = (state >> 63) != 0 ? 1.0 : -1.0;
        z[u(v * n + i)] = n <= 16 ? DD(i == v ? 1.0 : 0.0) : DD(sign);
        lz[u(v * n + i)] = out.values[u(i)] * z[u(v * n + i)];
      }
    }
    const DDView x = out.vectors.view();
    matvec_transposed(x, z.data(), count, xz.data(), pool);
    matvec(a.view(), xz.data(), count, w.data(), pool);
    matvec_transposed(x, lz.data(), count, t.data(), pool);
    double sum = 0.0;
    for (std::size_t i = 0; i < w.size(); ++i) sum += std::pow((w[i] - t[i]).hi / scale, 2);
    matvec(x, xz.data(), count, w.data(), pool);
    double defect = 0.0;
    for (std::size_t i = 0; i < w.size(); ++i) defect += std::pow((w[i] - z[i]).hi, 2);
    const double share = n <= 16 ? 1.0 : 1.0 / static_cast<double>(count);
    out.residual = 2.0 * std::sqrt(sum * share);
    out.orthogonality = 2.0 * std::sqrt(defect * share);
  }

 private:
  // r: rows A x_j - lambda_j x_j, rounded to double after the cancellation; g[j][i] = x_i . r_j.
  void form_residual_products() {
    const DDMatrix y = multiply(out.vectors.view(), false, a.view(), false, false, pool);
    r.resize(u(n * n));
    g.resize(u(n * n));
    e.resize(u(n * n));
    run_blocks(pool, n, [&](long j) {
      const DD lambda = out.values[u(j)];
      for (long c = 0; c < n; ++c) r[u(j * n + c)] = (y.at(j, c) - lambda * out.vectors.at(j, c)).hi;
    });
    gemm(n, n, n, r.data(), n, false, out.vectors.hi.data(), n, true, g.data(), n, false, pool);
  }

  double gap(long j, long i) const {
    const DD a_j = out.values[u(j)], a_i = out.values[u(i)];
    return (a_j.hi - a_i.hi) + (a_j.lo - a_i.lo);
  }

  double coupling(long j, long i) const { return 0.5 * (g[u(j * n + i)] + g[u(i * n + j)]); }

  // Mixing too strong for first order, and above the rounding of the products.
  bool strong(long j, long i) const {
    const double c = std::fabs(coupling(j, i));
    return c > kMaxMixing * std::fabs(gap(j, i)) && c > kNoise * scale;
  }

  // Values ascend, so the clusters are intervals: the closure of all strongly mixed pairs.
  void find_clusters() {
    std::vector<long> reach(u(n));
    run_blocks(pool, n, [&](long i) {
      reach[u(i)] = i;
      for (long j = n - 1; j > i; --j) {
        if (strong(j, i)) {
          reach[u(i)] = j;
          break;
        }
      }
    });
    const double near_gap = kNearGap * scale / static_cast<double>(n);
    clusters.clear();
    near.clear();
    cluster_of.assign(u(n), -1);
    near_of.assign(u(n), -1);
    for (long i = 0; i < n;) {
      long last = reach[u(i)];
      for (long j = i; j <= last; ++j) last = std::max(last, reach[u(j)]);
      if (last > i) {
        for (long j = i; j <= last; ++j) cluster_of[u(j)] = static_cast<long>(clusters.size());
        clusters.push_back({i, last - i + 1});
      }
      i = last + 1;
    }
    for (long i = 0; i < n;) {
      long last = i;
      while (last + 1 < n && (std::fabs(gap(last + 1, last)) <= near_gap ||
                              (cluster_of[u(last)] >= 0 && cluster_of[u(last)] == cluster_of[u(last + 1)]))) {
        ++last;
      }
      if (last > i) {
        for (long j = i; j <= last; ++j) near_of[u(j)] = static_cast<long>(near.size());
        near.push_back({i, last - i + 1});
      }
      i = last + 1;
    }
  }

  // e[j][i]: the share of x_i in the correction of x_j.
  void form_correction() {
    run_blocks(pool, n, [&](long j) {
      for (long i = 0; i < n; ++i) {
        const bool handled_below = i == j || (near_of[u(j)] >= 0 && near_of[u(j)] == near_of[u(i)]);
        e[u(j * n + i)] = handled_below ? 0.0 : g[u(j * n + i)] / gap(j, i);
      }
      DD norm = 0.0;
      for (long c = 0; c < n; ++c) norm += sqr(out.vectors.at(j, c));
      e[u(j * n + j)] = 0.5 * (1.0 - norm).hi;
    });
    // Within a near group: symmetric part -(X^T X - I) / 2 exactly, antisymmetric part coupling / gap. The
    // two agree with g / gap in exact arithmetic.
    for (const Interval& group : near) {
      const DDView x = out.vectors.row_block(group.first, group.count);
      const DDMatrix gram = multiply(x, false, x, true, true, pool);
      for (long k = 0; k < group.count; ++k) {
        for (long l = 0; l < group.count; ++l) {
          if (k == l) continue;
          const long j = group.first + k, i = group.first + l;
          const bool same_cluster = cluster_of[u(j)] >= 0 && cluster_of[u(j)] == cluster_of[u(i)];
          const double d = gap(j, i), c = coupling(j, i);
          // A coupling at the rounding level says nothing: divided by a small gap it would only stir the
          // pair.
          const bool noise = std::fabs(c) <= kNoise * scale;
          const double overlap = gram.at(k, l).hi;
          e[u(j * n + i)] = -0.5 * overlap + (same_cluster || noise ? 0.0 : c / d);
        }
      }
    }
  }

  // Diagonalise the projection of A - mu on the cluster in double (its entries are differences, so that 2^-53
  // of the cluster's diameter is what is lost) and rotate the rows of X.
  void rotate(const Interval& c) {
    const DD mu = out.values[u(c.first + c.count / 2)];
    std::vector<double> block(u(c.count * c.count)), w(u(c.count));
    for (long k = 0; k < c.count; ++k) {
      for (long l = 0; l < c.count; ++l) {
        block[u(k * c.count + l)] =
            k == l ? (out.values[u(c.first + k)] - mu).hi : coupling(c.first + k, c.first + l);
      }
    }
    // On failure the rows stay as they are: the probe then reports what was reached.
    if (!symmetric_eigen(c.count, block.data(), w.data()).empty()) return;
    const DDView rotation{block.data(), nullptr, c.count, c.count, c.count};
    const DDMatrix rows =
        multiply(rotation, false, out.vectors.row_block(c.first, c.count), false, false, pool);
    std::copy(rows.hi.begin(), rows.hi.end(), out.vectors.hi.begin() + c.first * n);
    std::copy(rows.lo.begin(), rows.lo.end(), out.vectors.lo.begin() + c.first * n);
    for (long k = 0; k < c.count; ++k) out.values[u(c.first + k)] = mu + w[u(k)];
  }

  const DDMatrix& a;
  const long n;
  const double scale;
  SymmetricEigen& out;
  const ParallelFor& pool;
  std::vector<double> r, g, e;
  std::vector<Interval> clusters, near;
  std::vector<long> cluster_of, near_of;
};

void sort_ascending(SymmetricEigen& eigen) {
  const long n = eigen.vectors.rows;
  if (std::is_sorted(eigen.values.begin(), eigen.values.end())) return;
  std::vector<long> order(u(n));
  std::iota(order.begin(), order.end(), 0L);
  std::sort(order.begin(), order.end(), [&](long i, long j) {
    return eigen.values[u(i)] < eigen.values[u(j)] || (eigen.values[u(i)] == eigen.values[u(j)] && i < j);
  });
  DDMatrix vectors(n, n);
  std::vector<DD> values(u(n));
  for (long k = 0; k < n; ++k) {
    const long from = order[u(k)];
    values[u(k)] = eigen.values[u(from)];
    std::copy_n(eigen.vectors.hi.begin() + from * n, n, vectors.hi.begin() + k * n);
    std::copy_n(eigen.vectors.lo.begin() + from * n, n, vectors.lo.begin() + k * n);
  }
  eigen.vectors = std::move(vectors);
  eigen.values = std::move(values);
}

}  // namespace

SymmetricEigen symmetric_eigen_dd(const DDMatrix& a, const ParallelFor& parallel, int max_sweeps) {
  SymmetricEigen eigen;
  const long n = a.rows;
  eigen.vectors = DDMatrix(n, n);
  eigen.values.assign(u(n), DD(0.0));
  double max = 0.0;
  for (const double x : a.hi) {
    if (!std::isfinite(x)) return eigen.reason = "non-finite matrix entry", eigen;
    max = std::max(max, std::fabs(x));
  }
  if (max == 0.0) {
    for (long i = 0; i < n; ++i) eigen.vectors.set(i, i, 1.0);
    return eigen;
  }
  // Entries of order one: neither squares nor residuals of 2^-106 leave the range.
  int exponent;
  (void)std::frexp(max, &exponent);
  DDMatrix scaled(n, n);
  for (std::size_t i = 0; i < scaled.hi.size(); ++i) {
    const DD x = ldexp(DD(a.hi[i], a.lo[i]), -exponent);
    scaled.hi[i] = x.hi;
    scaled.lo[i] = x.lo;
  }
  std::vector<double> w(u(n));
  eigen.vectors.hi = scaled.hi;
  eigen.reason = symmetric_eigen(n, eigen.vectors.hi.data(), w.data());
  if (!eigen.reason.empty()) return eigen;
  for (long i = 0; i < n; ++i) eigen.values[u(i)] = w[u(i)];
  const double norm = std::max(std::fabs(w.front()), std::fabs(w.back()));

  Refiner refiner(scaled, norm, eigen, parallel);
  const double root_n = std::sqrt(static_cast<double>(n));
  double previous = std::numeric_limits<double>::infinity();
  for (int sweep = 0; sweep < max_sweeps; ++sweep) {
    refiner.sweep();
    sort_ascending(eigen);
    refiner.probe();
    // The residual decides over eigenvalues. Gaps just above the near ones leave n / kNearGap of its rounding
    // in the orthogonality, which is harmless there.
    if (eigen.residual <= 4.0 * root_n * kNoise &&
        eigen.orthogonality <= (4.0 + static_cast<double>(n)) * root_n * kNoise)
      break;
    // Stalled at a rounding floor above the goal.
    const double reached = std::max(eigen.residual, eigen.orthogonality);
    if (reached < 1e-22 && reached > 0.5 * previous) break;
    previous = reached;
  }
  for (DD& value : eigen.values) value = ldexp(value, exponent);
  eigen.norm = std::ldexp(norm, exponent);
  return eigen;
}

}  // namespace tinyphys
