// Dense linear algebra in double-double against __float128, and powers of affine maps.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "linalg/affine_power.hpp"
#include "linalg/dd_kernels.hpp"
#include "linalg/dd_matrix.hpp"
#include "linalg/dense.hpp"
#include "linalg/eigen_refine.hpp"

__extension__ typedef __float128 Quad;

extern "C" {
Quad cosq(Quad) noexcept;
Quad sinq(Quad) noexcept;
Quad atan2q(Quad, Quad) noexcept;
Quad logq(Quad) noexcept;
Quad log1pq(Quad) noexcept;
Quad expq(Quad) noexcept;
Quad sqrtq(Quad) noexcept;
}

namespace {

using namespace tinyphys;

constexpr double kInf = std::numeric_limits<double>::infinity();

std::size_t u(long i) { return static_cast<std::size_t>(i); }
Quad quad(DD x) { return static_cast<Quad>(x.hi) + static_cast<Quad>(x.lo); }
double magnitude(Quad x) { return static_cast<double>(x < 0 ? -x : x); }

// Blocks in reverse order stand for another thread schedule.
const ParallelFor kReversed = [](long n, const std::function<void(long)>& body) {
  for (long i = n - 1; i >= 0; --i) body(i);
};

struct Random {
  std::mt19937_64 engine;
  std::normal_distribution<double> normal;
  explicit Random(std::uint64_t seed) : engine(seed) {}
  double real() { return normal(engine); }
  DD dd() {
    const double h = real();
    return from_sum(h, std::ldexp(h * real(), -54));
  }
  DDMatrix matrix(long rows, long cols) {
    DDMatrix m(rows, cols);
    for (long i = 0; i < rows; ++i) {
      for (long j = 0; j < cols; ++j) m.set(i, j, dd());
    }
    return m;
  }
  DDMatrix symmetric(long n) {
    DDMatrix m(n, n);
    for (long i = 0; i < n; ++i) {
      for (long j = 0; j <= i; ++j) {
        const DD x = dd();
        m.set(i, j, x);
        m.set(j, i, x);
      }
    }
    return m;
  }
};

DDMatrix transposed(const DDMatrix& m) {
  DDMatrix t(m.cols, m.rows);
  for (long i = 0; i < m.rows; ++i) {
    for (long j = 0; j < m.cols; ++j) t.set(j, i, m.at(i, j));
  }
  return t;
}

bool same_bits(const DDMatrix& a, const DDMatrix& b) { return a.hi == b.hi && a.lo == b.lo; }

// max |C - A B| / (k max|A| max|B|), everything in quad.
double product_error(const DDMatrix& a, const DDMatrix& b, const DDMatrix& c) {
  double worst = 0.0, max_a = 0.0, max_b = 0.0;
  for (const double x : a.hi) max_a = std::max(max_a, std::fabs(x));
  for (const double x : b.hi) max_b = std::max(max_b, std::fabs(x));
  for (long i = 0; i < c.rows; ++i) {
    for (long j = 0; j < c.cols; ++j) {
      Quad sum = 0;
      for (long k = 0; k < a.cols; ++k) sum += quad(a.at(i, k)) * quad(b.at(k, j));
      worst = std::max(worst, magnitude(sum - quad(c.at(i, j))));
    }
  }
  return worst / (static_cast<double>(a.cols) * max_a * max_b);
}

// Q diag(w) Q^T with Q a product of three Householder reflections, in double-double.
DDMatrix with_spectrum(const std::vector<double>& w, std::uint64_t seed) {
  Random random(seed);
  const long n = static_cast<long>(w.size());
  DDMatrix a(n, n);
  for (long i = 0; i < n; ++i) a.set(i, i, w[u(i)]);
  for (int round = 0; round < 3; ++round) {
    std::vector<DD> v(u(n)), y(u(n));
    DD s = 0.0, k = 0.0;
    for (DD& x : v) {
      x = random.real();
      s += sqr(x);
    }
    matvec(a.view(), v.data(), 1, y.data());
    for (DD& x : y) x = ldexp(x, 1) / s;
    for (long i = 0; i < n; ++i) k += y[u(i)] * v[u(i)];
    k /= s;
    for (long i = 0; i < n; ++i) y[u(i)] -= k * v[u(i)];
    for (long i = 0; i < n; ++i) {
      for (long j = 0; j <= i; ++j) {
        const DD x = a.at(i, j) - (y[u(i)] * v[u(j)] + v[u(i)] * y[u(j)]);
        a.set(i, j, x);
        a.set(j, i, x);
      }
    }
  }
  return a;
}

AffineMap affine(long d, std::initializer_list<double> b, std::initializer_list<double> shift) {
  AffineMap map;
  map.d = d;
  map.b = DDMatrix(d, d);
  std::copy(b.begin(), b.end(), map.b.hi.begin());
  map.shift.assign(shift.begin(), shift.end());
  return map;
}

std::vector<DD> iterate(const AffineMap& map, std::int64_t steps, std::vector<DD> z) {
  const AffinePower power = affine_power(map, steps);
  REQUIRE(power.reason() == "");
  power.apply(z.data(), z.data());
  return z;
}

std::vector<Quad> quad_loop(const AffineMap& map, std::int64_t steps, const std::vector<DD>& start) {
  std::vector<Quad> z, next(start.size());
  for (const DD x : start) z.push_back(quad(x));
  for (std::int64_t s = 0; s < steps; ++s) {
    for (long i = 0; i < map.d; ++i) {
      next[u(i)] = z[u(i)] + quad(map.shift[u(i)]);
      for (long j = 0; j < map.d; ++j) next[u(i)] += quad(map.b.at(i, j)) * z[u(j)];
    }
    z = next;
  }
  return z;
}

double distance(const std::vector<DD>& got, const std::vector<Quad>& want) {
  Quad diff = 0, norm = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const Quad d = quad(got[i]) - want[i];
    diff += d * d;
    norm += want[i] * want[i];
  }
  return norm == 0 ? magnitude(diff) : std::sqrt(magnitude(diff / norm));
}

}  // namespace

TEST_CASE("linalg: gemm, all transposes, blocks in any order") {
  Random random(1);
  const long m = 300, n = 37, k = 19;
  std::vector<double> a(u(m * k)), at(u(m * k)), b(u(k * n)), bt(u(k * n));
  for (long i = 0; i < m; ++i) {
    for (long j = 0; j < k; ++j) a[u(i * k + j)] = at[u(j * m + i)] = std::floor(8.0 * random.real());
  }
  for (long i = 0; i < k; ++i) {
    for (long j = 0; j < n; ++j) b[u(i * n + j)] = bt[u(j * k + i)] = std::floor(8.0 * random.real());
  }
  std::vector<double> want(u(m * n), 0.0);
  for (long i = 0; i < m; ++i) {
    for (long l = 0; l < k; ++l) {
      for (long j = 0; j < n; ++j) want[u(i * n + j)] += a[u(i * k + l)] * b[u(l * n + j)];
    }
  }
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      std::vector<double> c(u(m * n), kInf);
      gemm(m, n, k, ta ? at.data() : a.data(), ta ? m : k, ta, tb ? bt.data() : b.data(), tb ? k : n, tb,
           c.data(), n, false, kReversed);
      CHECK(c == want);
      gemm(m, n, k, ta ? at.data() : a.data(), ta ? m : k, ta, tb ? bt.data() : b.data(), tb ? k : n, tb,
           c.data(), n, true);
      for (std::size_t i = 0; i < c.size(); ++i) CHECK(c[i] == 2.0 * want[i]);
    }
  }
  std::vector<double> c(6, 1.0);
  gemm(2, 3, 0, nullptr, 1, false, nullptr, 3, false, c.data(), 3);
  CHECK(c == std::vector<double>(6, 0.0));
}

TEST_CASE("linalg: LAPACK's failures are reported") {
  std::vector<double> a{1.0, 2.0, 2.0, std::nan("")}, w(2);
  CHECK(symmetric_eigen(2, a.data(), w.data()) == "non-finite matrix entry");
  a = {2.0, 1.0, 1.0, 2.0};
  CHECK(symmetric_eigen(2, a.data(), w.data()) == "");
  CHECK(w[0] == doctest::Approx(1.0));
  CHECK(w[1] == doctest::Approx(3.0));
  // Row 1 is the eigenvector of w[1].
  CHECK(a[2] * a[3] == doctest::Approx(0.5));
  CHECK(symmetric_eigen(0, nullptr, nullptr) == "");
}

TEST_CASE("linalg: products in double-double") {
  Random random(2);
  for (const long k : {1L, 2L, 7L, 63L, 64L, 65L, 127L, 128L, 129L, 200L, 1000L}) {
    const DDMatrix a = random.matrix(21, k), b = random.matrix(k, 35);
    CAPTURE(k);
    const DDMatrix c = multiply(a.view(), false, b.view(), false);
    CHECK(product_error(a, b, c) <= 0x1p-102);
    const DDMatrix at = transposed(a), bt = transposed(b);
    CHECK(product_error(a, b, multiply(at.view(), true, b.view(), false)) <= 0x1p-102);
    CHECK(product_error(a, b, multiply(a.view(), false, bt.view(), true)) <= 0x1p-102);
    CHECK(product_error(a, b, multiply(at.view(), true, bt.view(), true)) <= 0x1p-102);
    CHECK(same_bits(c, multiply(a.view(), false, b.view(), false, false, kReversed)));
  }
  // Several panels and column blocks; a symmetric result equals its transpose to the bit.
  const DDMatrix x = random.matrix(1100, 8);
  const DDMatrix full = multiply(x.view(), false, x.view(), true),
                 half = multiply(x.view(), false, x.view(), true, true, kReversed);
  CHECK(same_bits(half, transposed(half)));
  for (long i = 0; i < 1100; i += 37) {
    for (long j = 0; j < 1100; j += 41) CHECK(full.at(std::min(i, j), std::max(i, j)) == half.at(i, j));
  }
  // A plain double factor needs no low words.
  const DDMatrix a = random.matrix(30, 40);
  DDMatrix hi = a;
  std::fill(hi.lo.begin(), hi.lo.end(), 0.0);
  CHECK(same_bits(multiply({a.hi.data(), nullptr, 30, 40, 40}, false, x.row_block(0, 40), false),
                  multiply(hi.view(), false, x.row_block(0, 40), false)));
  // Rows and columns of any size are scaled apart; zero rows are fine.
  DDMatrix p = random.matrix(6, 9), q = random.matrix(9, 5);
  const DDMatrix plain = multiply(p.view(), false, q.view(), false);
  for (long j = 0; j < 9; ++j) p.set(2, j, 0.0);
  for (long j = 0; j < 9; ++j) p.set(3, j, ldexp(p.at(3, j), 990));
  for (long j = 0; j < 9; ++j) p.set(4, j, ldexp(p.at(4, j), -800));
  for (long i = 0; i < 9; ++i) q.set(i, 1, ldexp(q.at(i, 1), -700));
  const DDMatrix scaled = multiply(p.view(), false, q.view(), false);
  CHECK(scaled.at(2, 0) == DD(0.0));
  CHECK(scaled.at(3, 0) == ldexp(plain.at(3, 0), 990));
  CHECK(scaled.at(3, 1) == ldexp(plain.at(3, 1), 290));
  CHECK(scaled.at(4, 0) == ldexp(plain.at(4, 0), -800));
  CHECK(scaled.at(4, 1) == DD(0.0));  // 2^-1500
  CHECK(multiply(DDMatrix(3, 0).view(), false, DDMatrix(0, 2).view(), false).at(2, 1) == DD(0.0));
}

TEST_CASE("linalg: every instruction set returns the same bits") {
  Random random(3);
  MESSAGE("variants here: " << dd_kernel_variants().size() << ", in use: " << std::string(dd_kernels().name));
  for (const long cols : {1L, 7L, 8L, 9L, 31L, 130L}) {
    const long rows = 21, stride_in = (cols + 7) / 8 * 8, stride_rows = 24;
    const DDMatrix a = random.matrix(rows, cols);
    std::vector<double> xh(u(2 * stride_in), 0.0), xl(xh), zh(u(2 * stride_rows), 0.0), zl(zh);
    for (int v = 0; v < 2; ++v) {
      for (long j = 0; j < cols; ++j) {
        const DD x = random.dd();
        xh[u(v * stride_in + j)] = x.hi;
        xl[u(v * stride_in + j)] = x.lo;
      }
      for (long i = 0; i < rows; ++i) {
        const DD x = random.dd();
        zh[u(v * stride_rows + i)] = x.hi;
        zl[u(v * stride_rows + i)] = x.lo;
      }
    }
    const long terms = cols;
    std::vector<double> left(u(2 * kDDProductRows * terms)), right(u(2 * kDDProductCols * terms)),
        powers(u(cols));
    const double size = 0.5 / std::sqrt(static_cast<double>(terms));
    for (long k = 0; k < terms; ++k) {
      powers[u(k)] = std::ldexp(1.0, static_cast<int>(-k % 5));
      for (auto* side : {&left, &right}) {
        const long width = static_cast<long>(side->size()) / (2 * terms);
        for (long i = 0; i < width; ++i) {
          const DD x = size * random.dd();
          (*side)[u(2 * width * k + i)] = x.hi;
          (*side)[u(2 * width * k + width + i)] = x.lo;
        }
      }
    }
    struct Result {
      std::vector<double> yh, yl, th, tl, tile, rest, sum_h, sum_l;
    };
    const auto run = [&](const DDKernels& kernels, int nvec, bool low) {
      Result r{std::vector<double>(u(2 * rows)),
               std::vector<double>(u(2 * rows)),
               std::vector<double>(u(2 * cols)),
               std::vector<double>(u(2 * cols)),
               std::vector<double>(u(kDDProductRows * kDDProductCols)),
               std::vector<double>(u(kDDProductRows * kDDProductCols)),
               a.hi,
               a.lo};
      const double* lo = low ? a.lo.data() : nullptr;
      kernels.matvec(a.hi.data(), lo, cols, 0, rows, cols, xh.data(), xl.data(), stride_in, nvec, r.yh.data(),
                     r.yl.data(), rows);
      kernels.matvec_transposed(a.hi.data(), lo, cols, rows, 0, cols, zh.data(), zl.data(), stride_rows, nvec,
                                r.th.data(), r.tl.data(), cols);
      kernels.product(terms, left.data(), right.data(), r.tile.data(), r.rest.data());
      kernels.accumulate(cols, 0.25, powers.data(), xh.data(), xl.data(), r.sum_h.data(), r.sum_l.data());
      return r;
    };
    for (const int nvec : {1, 2}) {
      for (const bool low : {true, false}) {
        const Result want = run(*dd_kernel_variants().front(), nvec, low);
        for (const DDKernels* kernels : dd_kernel_variants()) {
          const std::string variant = kernels->name;
          CAPTURE(variant);
          const Result got = run(*kernels, nvec, low);
          CHECK(got.yh == want.yh);
          CHECK(got.yl == want.yl);
          CHECK(got.th == want.th);
          CHECK(got.tl == want.tl);
          CHECK(got.tile == want.tile);
          CHECK(got.rest == want.rest);
          CHECK(got.sum_h == want.sum_h);
          CHECK(got.sum_l == want.sum_l);
        }
      }
    }
    // The tile is the product, its sums whole units of 2^-51.
    const Result r = run(dd_kernels(), 1, true);
    for (long i = 0; i < kDDProductRows; ++i) {
      for (long j = 0; j < kDDProductCols; ++j) {
        Quad sum = 0;
        for (long k = 0; k < terms; ++k) {
          const double* x = &left[u(2 * kDDProductRows * k + i)];
          const double* y = &right[u(2 * kDDProductCols * k + j)];
          sum +=
              (static_cast<Quad>(x[0]) + x[kDDProductRows]) * (static_cast<Quad>(y[0]) + y[kDDProductCols]);
        }
        const double got = r.tile[u(i * kDDProductCols + j)];
        CHECK(std::ldexp(got, 51) == std::floor(std::ldexp(got, 51)));
        CHECK(magnitude(sum - got - r.rest[u(i * kDDProductCols + j)]) <=
              0x1p-103 * std::sqrt(static_cast<double>(terms)));
      }
    }
  }
}

TEST_CASE("linalg: matvec and its transpose, one to five vectors") {
  Random random(4);
  const long rows = 203, cols = 141;
  const DDMatrix a = random.matrix(rows, cols);
  for (const long nvec : {1L, 2L, 3L, 5L}) {
    std::vector<DD> x(u(nvec * cols)), y(u(nvec * rows)), y2(y), z(u(nvec * rows)), w(u(nvec * cols));
    for (DD& value : x) value = random.dd();
    for (DD& value : z) value = random.dd();
    matvec(a.view(), x.data(), nvec, y.data());
    matvec(a.view(), x.data(), nvec, y2.data(), kReversed);
    matvec_transposed(a.view(), z.data(), nvec, w.data());
    bool same = true;
    for (std::size_t i = 0; i < y.size(); ++i) same = same && y[i] == y2[i];
    CHECK(same);
    double worst = 0.0;
    for (long v = 0; v < nvec; ++v) {
      for (long i = 0; i < rows; ++i) {
        Quad sum = 0;
        for (long j = 0; j < cols; ++j) sum += quad(a.at(i, j)) * quad(x[u(v * cols + j)]);
        worst = std::max(worst, magnitude(sum - quad(y[u(v * rows + i)])));
      }
      for (long j = 0; j < cols; ++j) {
        Quad sum = 0;
        for (long i = 0; i < rows; ++i) sum += quad(a.at(i, j)) * quad(z[u(v * rows + i)]);
        worst = std::max(worst, magnitude(sum - quad(w[u(v * cols + j)])));
      }
    }
    // About 200 terms of order one.
    CHECK(worst <= 200 * 4e-32 * 10);
  }
}

TEST_CASE("linalg: pivoted Cholesky finds the rank and refuses indefinite matrices") {
  Random random(5);
  for (const long rank : {0L, 1L, 5L, 30L}) {
    const long n = 30;
    DDMatrix f = random.matrix(n, rank);
    // Exact products, so that the rank is exact: small integers; rows in units 12 decades apart.
    for (std::size_t i = 0; i < f.hi.size(); ++i) {
      f.hi[i] = std::floor(8.0 * f.hi[i]);
      f.lo[i] = 0.0;
    }
    for (long i = 0; i < n; ++i) {
      for (long j = 0; j < rank; ++j) f.set(i, j, ldexp(f.at(i, j), static_cast<int>(i % 5) * 10 - 20));
    }
    const DDMatrix a = multiply(f.view(), false, f.view(), true, true);
    const DDCholesky c = cholesky_pivoted(a);
    REQUIRE(c.reason == "");
    CHECK(c.rank == rank);
    const DDMatrix back = multiply(c.l.view(), false, c.l.view(), true);
    double worst = 0.0;
    for (long i = 0; i < n; ++i) {
      for (long j = 0; j < n; ++j) {
        const double unit = std::sqrt(a.at(i, i).hi * a.at(j, j).hi);
        if (unit > 0.0) worst = std::max(worst, std::fabs((back.at(i, j) - a.at(i, j)).hi) / unit);
      }
    }
    CHECK(worst <= 1e-29);
    if (rank == 0) continue;
    // L (L^+ b) = b for b in the range; L^T x = y.
    std::vector<DD> y(u(rank)), b(u(n)), back_y(u(rank));
    for (DD& v : y) v = random.dd();
    matvec(c.l.view(), y.data(), 1, b.data());
    const std::vector<DD> solved = solve_lower(c, b);
    for (long i = 0; i < rank; ++i) CHECK(std::fabs((solved[u(i)] - y[u(i)]).hi) <= 1e-24);
    const std::vector<DD> x = solve_lower_transposed(c, y);
    matvec_transposed(c.l.view(), x.data(), 1, back_y.data());
    for (long i = 0; i < rank; ++i) CHECK(std::fabs((back_y[u(i)] - y[u(i)]).hi) <= 1e-26);
  }
  DDMatrix m(2, 2);
  m.set(0, 1, 1.0);
  m.set(1, 0, 1.0);
  CHECK(cholesky_pivoted(m).reason == "not positive semidefinite");
  m.set(0, 0, 1.0);
  m.set(1, 1, 0.999);
  CHECK(cholesky_pivoted(m).reason == "not positive semidefinite");
  m.set(1, 1, -1.0);
  CHECK(cholesky_pivoted(m).reason == "negative diagonal entry");
  m.set(1, 1, kInf);
  CHECK(cholesky_pivoted(m).reason == "non-finite matrix entry");
}

TEST_CASE("linalg: refined eigen decompositions") {
  const auto check = [](const DDMatrix& a, const std::vector<double>* spectrum) {
    const long n = a.rows;
    const SymmetricEigen e = symmetric_eigen_dd(a);
    REQUIRE(e.reason == "");
    REQUIRE(static_cast<long>(e.values.size()) == n);
    CHECK(std::is_sorted(e.values.begin(), e.values.end()));
    if (e.norm == 0.0) return;
    // The true residual and orthogonality, in quad, not the estimates.
    double residual = 0.0, defect = 0.0;
    for (long j = 0; j < n; ++j) {
      for (long i = 0; i < n; ++i) {
        Quad r = -quad(e.values[u(j)]) * quad(e.vectors.at(j, i)), o = i == j ? Quad(-1) : Quad(0);
        for (long k = 0; k < n; ++k) {
          r += quad(a.at(i, k)) * quad(e.vectors.at(j, k));
          o += quad(e.vectors.at(i, k)) * quad(e.vectors.at(j, k));
        }
        residual += std::pow(magnitude(r) / e.norm, 2);
        defect += std::pow(magnitude(o), 2);
      }
    }
    residual = std::sqrt(residual);
    defect = std::sqrt(defect);
    CHECK(residual <= 1e-28);
    CHECK(defect <= 1e-26);
    CHECK(residual <= 1.5 * e.residual + 1e-31);
    CHECK(defect <= 1.5 * e.orthogonality + 1e-31);
    if (spectrum == nullptr) return;
    std::vector<double> want = *spectrum;
    std::sort(want.begin(), want.end());
    for (long j = 0; j < n; ++j) CHECK(std::fabs((e.values[u(j)] - want[u(j)]).hi) <= 1e-29 * e.norm);
  };
  Random random(6);
  for (const long n : {1L, 2L, 3L, 10L, 60L, 140L}) {
    CAPTURE(n);
    check(random.symmetric(n), nullptr);
  }
  check(DDMatrix(5, 5), nullptr);
  DDMatrix diagonal(6, 6);
  for (long i = 0; i < 6; ++i) diagonal.set(i, i, i % 2 == 0 ? 2.0 : -1.0);
  check(diagonal, nullptr);
  const auto spectrum = [&](const std::string& name, const std::function<double(int)>& value, int n = 48) {
    CAPTURE(name);
    std::vector<double> w;
    for (int i = 0; i < n; ++i) w.push_back(value(i));
    const DDMatrix a = with_spectrum(w, 7);
    check(a, &w);
    for (const int e : {498, -498}) {
      DDMatrix scaled = a;
      std::vector<double> ws = w;
      for (double& x : scaled.hi) x = std::ldexp(x, e);
      for (double& x : scaled.lo) x = std::ldexp(x, e);
      for (double& x : ws) x = std::ldexp(x, e);
      const SymmetricEigen plain = symmetric_eigen_dd(a), other = symmetric_eigen_dd(scaled);
      CHECK(other.norm == std::ldexp(plain.norm, e));
      CHECK(other.residual <= 1e-28);
      for (int i = 0; i < n; ++i)
        CHECK(std::fabs((ldexp(other.values[u(i)], -e) - plain.values[u(i)]).hi) <= 1e-29 * plain.norm);
    }
  };
  spectrum("all equal", [](int) { return 1.0; });
  spectrum("multiple and zero", [](int i) { return i < 16 ? 0.0 : i < 32 ? 1.0 : 2.0 + 1e-3 * i; });
  spectrum("gaps of 1e-12", [](int i) { return i < 24 ? 1.0 + 1e-12 * i : 2.0 + i; });
  spectrum("gaps of 1e-17", [](int i) { return i < 24 ? 1e-17 * i : 2.0 + i; });
  spectrum("clusters in clusters", [](int i) {
    return i < 16 ? 1e-17 * i : i < 32 ? 1e-9 + 1e-12 * i : 1.0 + i;
  });
  spectrum("plus and minus", [](int i) { return (i % 2 == 0 ? 1.0 : -1.0) * (1.0 + i / 2); });
  spectrum("twelve decades", [](int i) { return std::pow(10.0, -0.25 * i); });
  spectrum("twenty-four decades", [](int i) { return std::pow(10.0, -0.5 * i); });
  DDMatrix bad(2, 2);
  bad.set(0, 0, kInf);
  CHECK(symmetric_eigen_dd(bad).reason == "non-finite matrix entry");
  const DDMatrix a = random.symmetric(150);
  const SymmetricEigen x = symmetric_eigen_dd(a), y = symmetric_eigen_dd(a, kReversed);
  CHECK(same_bits(x.vectors, y.vectors));
  CHECK(x.values == y.values);
}

TEST_CASE("affine: powers against the quad loop") {
  Random random(8);
  for (const long d : {1L, 2L, 5L, 16L}) {
    AffineMap map;
    map.d = d;
    map.b = DDMatrix(d, d);
    for (long i = 0; i < d; ++i) {
      for (long j = 0; j < d; ++j) map.b.set(i, j, 0.05 * random.dd());
      map.shift.push_back(0.1 * random.dd());
    }
    std::vector<DD> z(u(d));
    for (DD& x : z) x = random.dd();
    for (const std::int64_t steps : {1L, 2L, 3L, 10L, 1000L}) {
      CAPTURE(d);
      CAPTURE(steps);
      CHECK(distance(iterate(map, steps, z), quad_loop(map, steps, z)) <= 1e-27);
    }
  }
  // The identity, translations, zero steps.
  const AffineMap translation = affine(2, {0, 0, 0, 0}, {0.1, -0.3});
  const std::vector<DD> moved = iterate(translation, std::int64_t{1} << 62, {DD(0.0), DD(1.0)});
  CHECK(moved[0].hi == std::ldexp(0.1, 62));
  CHECK(moved[1].hi ==
        static_cast<double>(1 - static_cast<Quad>(0.3) * static_cast<Quad>(std::int64_t{1} << 62)));
  double state[2] = {-0.0, 3.5};
  affine_power(affine(2, {5, 1, 1, 5}, {1, 1}), 0).apply(state, state);
  CHECK(std::signbit(state[0]));
  CHECK(state[1] == 3.5);
}

TEST_CASE("affine: Jordan blocks and critical damping") {
  // (1 + e)^N with ones above the diagonal: binomial closed form z_0 = sum_j C(N, j) lambda^(N-j).
  const double e = -1e-3;
  const AffineMap jordan = affine(3, {e, 1, 0, 0, e, 1, 0, 0, e}, {0, 0, 0});
  for (const std::int64_t n : {5L, 1000L, 20000L}) {
    const std::vector<DD> z = iterate(jordan, n, {DD(0.0), DD(0.0), DD(1.0)});
    const Quad power = expq(static_cast<Quad>(n) * log1pq(static_cast<Quad>(e))),
               lambda = 1 + static_cast<Quad>(e), count = n;
    const std::vector<Quad> want{count * (count - 1) / 2 * power / (lambda * lambda), count * power / lambda,
                                 power};
    CHECK(distance(z, want) <= 1e-24);
  }
  // An oscillator damped at, just above and just below critical: z'' = -z - 2 c z', exact steps of 0.01, against
  // e^{-ct} times (cos, sin) or their linear limit. After 10^4 steps the state has shrunk to e^-100: its own digits
  // must be right, not only those of A^N - I.
  for (const double c : {1.0, 1.0 - 1e-12, 1.0 + 1e-12, 1.0 - 1e-6}) {
    DDMatrix g(2, 2);
    g.set(0, 1, 1.0);
    g.set(1, 0, -1.0);
    g.set(1, 1, -2.0 * DD(c));
    for (const std::int64_t n : {1L, 100L, 2000L, 10000L}) {
      const AffineMap step = exact_step(g, {}, 0.01);
      REQUIRE(step.reason == "");
      const std::vector<DD> z = iterate(step, n, {DD(1.0), DD(0.5)});
      const Quad t = static_cast<Quad>(0.01) * static_cast<Quad>(n), damp = expq(-static_cast<Quad>(c) * t);
      const Quad w2 = 1 - static_cast<Quad>(c) * static_cast<Quad>(c);
      // cos(w t) and sin(w t)/w by their series in w^2 t^2, fit for both signs.
      Quad cosine = 1, sine = t, term = 1;
      for (int k = 1; k < 60; ++k) {
        term *= -w2 * t * t / (2 * k * (2 * k - 1));
        cosine += term;
        sine += t * term / (2 * k + 1);
      }
      const Quad x = 1, v = static_cast<Quad>(0.5), cc = c;
      const std::vector<Quad> want{damp * (x * cosine + (v + cc * x) * sine),
                                   damp * (v * cosine - (x + cc * v) * sine)};
      CAPTURE(c);
      CAPTURE(n);
      // Relative to a state that has shrunk to e^-100.
      CHECK(distance(z, want) <= 1e-25);
    }
  }
}

TEST_CASE("affine: a rotation to N = 1e12, its fixed point included") {
  // Not exactly orthogonal: c + i s in doubles, so that the reference is exp(N log(c + i s)) in quad.
  const double angle = 0.37, c_minus_1 = std::cos(angle) - 1.0, s = std::sin(angle);
  const AffineMap map = affine(2, {c_minus_1, -s, s, c_minus_1}, {0.25, -0.125});
  const Quad c = 1 + static_cast<Quad>(c_minus_1), sq = s;
  // log|c + i s| from |c + i s|^2 - 1 without cancellation.
  const Quad off = 2 * static_cast<Quad>(c_minus_1) +
                   static_cast<Quad>(c_minus_1) * static_cast<Quad>(c_minus_1) + sq * sq;
  const Quad log_radius = log1pq(off) / 2, phase = atan2q(sq, c);
  // Fixed point z* = (I - A)^{-1} b.
  const Quad det = static_cast<Quad>(c_minus_1) * static_cast<Quad>(c_minus_1) + sq * sq;
  const Quad fx =
      (-static_cast<Quad>(c_minus_1) * static_cast<Quad>(0.25) - sq * static_cast<Quad>(-0.125)) / det;
  const Quad fy =
      (sq * static_cast<Quad>(0.25) - static_cast<Quad>(c_minus_1) * static_cast<Quad>(-0.125)) / det;
  for (const std::int64_t n : {1L, 1000L, 1'000'000'000L, 1'000'000'000'000L}) {
    CAPTURE(n);
    const std::vector<DD> z = iterate(map, n, {DD(1.0), DD(0.5)});
    const Quad radius = expq(static_cast<Quad>(n) * log_radius), a = static_cast<Quad>(n) * phase;
    const Quad cosine = radius * cosq(a), sine = radius * sinq(a), x = 1 - fx,
               y = static_cast<Quad>(0.5) - fy;
    const std::vector<Quad> want{fx + cosine * x - sine * y, fy + sine * x + cosine * y};
    CHECK(distance(z, want) <= 4e-32 * static_cast<double>(n) + 1e-30);
  }
}

TEST_CASE("affine: the bound holds, and is of use, where coordinates only follow others") {
  // Rotations of 2, each of which the next ones follow by as much as 2^+-20: Jordan chains, where the angles are equal.
  Random random(21);
  double least = 1e300, worst = 0.0;
  for (int trial = 0; trial < 60; ++trial) {
    const long blocks = 1 + trial % 4, d = 2 * blocks;
    const bool equal = trial % 3 != 0;
    AffineMap map;
    map.d = d;
    map.b = DDMatrix(d, d);
    map.shift.assign(u(d), DD(0.0));
    map.relative_error = 0x1p-101;
    double angle = 0.3;
    for (long k = 0; k < blocks; ++k) {
      if (!equal) angle += 0.1 * random.dd().hi;
      const double units = std::ldexp(1.0, static_cast<int>(6 * random.dd().hi));
      for (const long i : {0L, 1L}) map.b.set(2 * k + i, 2 * k + i, std::cos(angle) - 1.0);
      map.b.set(2 * k, 2 * k + 1, -units * std::sin(angle));
      map.b.set(2 * k + 1, 2 * k, std::sin(angle) / units);
      const double by = std::ldexp(1.0, static_cast<int>(20 * random.dd().hi));
      for (long i = 0; i < 2; ++i)
        for (long j = 0; j < 2 * k; ++j) map.b.set(2 * k + i, j, by * random.dd());
    }
    std::vector<double> z(u(d));
    for (double& x : z) x = random.dd().hi;
    for (const std::int64_t steps : {7L, 100'000L, 1'000'000'000L}) {
      const AffinePower power = affine_power(map, steps);
      REQUIRE(power.reason() == "");
      std::vector<Quad> a(u(d * d), Quad(0)), total(u(d * d), Quad(0));
      for (long i = 0; i < d; ++i) {
        total[u(i * d + i)] = 1;
        for (long j = 0; j < d; ++j) a[u(i * d + j)] = quad(map.b.at(i, j)) + (i == j ? 1 : 0);
      }
      const auto product = [&](const std::vector<Quad>& x, const std::vector<Quad>& y) {
        std::vector<Quad> out(u(d * d), Quad(0));
        for (long i = 0; i < d; ++i)
          for (long l = 0; l < d; ++l)
            for (long j = 0; j < d; ++j) out[u(i * d + j)] += x[u(i * d + l)] * y[u(l * d + j)];
        return out;
      };
      for (std::int64_t rest = steps; rest > 0; rest /= 2, a = product(a, a))
        if (rest % 2 != 0) total = product(a, total);
      const std::vector<DD> start(z.begin(), z.end());
      std::vector<DD> end(u(d));
      power.apply(start.data(), end.data());
      std::vector<double> out(u(d)), bounds(u(d));
      for (long i = 0; i < d; ++i) out[u(i)] = end[u(i)].hi;
      const double relative = power.error_bounds(z.data(), out.data(), bounds.data());
      CAPTURE(trial);
      CAPTURE(steps);
      worst = std::max(worst, relative);
      for (long i = 0; i < d; ++i) {
        Quad want = 0;
        for (long j = 0; j < d; ++j) want += total[u(i * d + j)] * static_cast<Quad>(z[u(j)]);
        const Quad off = quad(end[u(i)]) - want;
        const double error = std::fabs(static_cast<double>(off));
        CHECK(error <= bounds[u(i)]);
        if (error > 0) least = std::min(least, bounds[u(i)] / error);
      }
    }
  }
  MESSAGE("bound / error at least " << least << ", relative bound at most " << worst);
  CHECK(worst < 0x1p-53);
}

TEST_CASE("affine: growth ends in infinities, stable coordinates keep their values") {
  // Coordinate 0 doubles, 1 and 2 rotate, 3 decays and drives nothing.
  const double c1 = std::cos(0.5) - 1.0, s = std::sin(0.5);
  const AffineMap map = affine(4, {1, 0, 0, 0, 0, c1, -s, 0, 0, s, c1, 0, 0, 0, 0, -0.5}, {0, 0.5, 0, 1});
  const std::vector<DD> start{DD(-1.0), DD(1.0), DD(0.0), DD(7.0)};
  const AffineMap calm = affine(2, {c1, -s, s, c1}, {0.5, 0});
  for (const std::int64_t n : {900L, 1023L, 1024L, 5000L, 1'000'000'000'000L, std::int64_t{1} << 62}) {
    CAPTURE(n);
    const std::vector<DD> z = iterate(map, n, start);
    CHECK(z[0].hi == (n <= 1023 ? -std::ldexp(1.0, static_cast<int>(n)) : -kInf));
    CHECK(z[3].hi == doctest::Approx(2.0).epsilon(1e-15));
    if (n < 2'000'000'000'000L) {
      const std::vector<DD> r = iterate(calm, n, {DD(1.0), DD(0.0)});
      CHECK(std::fabs((z[1] - r[0]).hi) <= 1e-18);
      CHECK(std::fabs((z[2] - r[1]).hi) <= 1e-18);
    }
    for (const DD x : z) CHECK_FALSE(isnan(x));
  }
  // Tiny starts come back into range; alternating signs; a start at zero stays.
  const AffineMap flip = affine(1, {-4.0}, {0.0});  // times -3
  const std::vector<DD> tiny = iterate(flip, 1001, {DD(1e-300)});
  const Quad want = -expq(1001 * logq(Quad(3)) + logq(static_cast<Quad>(1e-300)));
  CHECK(magnitude(quad(tiny[0]) / want - 1) <= 1e-28);
  CHECK(iterate(flip, 1001, {DD(1.0)})[0].hi == -kInf);
  CHECK(iterate(flip, 1000, {DD(1.0)})[0].hi == kInf);
  CHECK(iterate(flip, 1000, {DD(0.0)})[0] == DD(0.0));
  // A coupled pair growing with opposite signs in every entry: inf - inf must not appear.
  const AffineMap saddle = affine(2, {1.0, -3.0, -3.0, 1.0}, {0.0, 0.0});
  const std::vector<DD> z = iterate(saddle, 4001, {DD(1.0), DD(0.5)});
  CHECK(z[0].hi == kInf);
  CHECK(z[1].hi == -kInf);
  // Entries that start beyond the threshold.
  const std::vector<DD> big =
      iterate(affine(2, {0.0, 1e200, 0.0, 0.0}, {0.0, 0.0}), 1'000'000, {DD(0.0), DD(1e90)});
  CHECK(big[0].hi == doctest::Approx(1e296));
  CHECK(big[1].hi == 1e90);
  CHECK(iterate(affine(2, {0.0, 1e200, 0.0, 0.0}, {0.0, 0.0}), 1'000'000, {DD(1.0), DD(-1e190)})[0].hi ==
        -kInf);
}

TEST_CASE("affine: exact and midpoint steps of linear flows") {
  Random random(9);
  // A charged particle in a magnetic field with an electric drift (q-p cross terms): rotation by omega t
  // about the drift.
  const double omega = 1.7, field = 0.3, h = 0.25;
  DDMatrix g(4, 4);
  g.set(0, 2, 1.0);
  g.set(1, 3, 1.0);
  g.set(2, 3, omega);
  g.set(3, 2, -omega);
  const std::vector<DD> force{DD(0.0), DD(0.0), DD(field), DD(0.0)};
  const AffineMap exact = exact_step(g, force, h);
  REQUIRE(exact.reason == "");
  for (const std::int64_t n : {1L, 40L, 4000L}) {
    const std::vector<DD> z = iterate(exact, n, {DD(1.0), DD(2.0), DD(0.5), DD(-0.75)});
    const Quad w = omega, t = static_cast<Quad>(h) * static_cast<Quad>(n), e = static_cast<Quad>(field) / w;
    // v' = w (v_y, -v_x) + (field, 0): about the drift (0, -field / w).
    const Quad vx = static_cast<Quad>(0.5), vy = static_cast<Quad>(-0.75) + e, c = cosq(w * t),
               s = sinq(w * t);
    const std::vector<Quad> want{1 + (vx * s + vy * (1 - c)) / w, 2 - e * t + (vy * s - vx * (1 - c)) / w,
                                 vx * c + vy * s, vy * c - vx * s - e};
    CAPTURE(n);
    CHECK(distance(z, want) <= 1e-26);
  }
  // A large step is scaled and squared; units twelve decades apart.
  DDMatrix oscillator(2, 2);
  oscillator.set(0, 1, 1e6);
  oscillator.set(1, 0, -1e-6);
  const AffineMap large = exact_step(oscillator, {}, 1000.5);
  const Quad t = static_cast<Quad>(1000.5), rate = sqrtq(static_cast<Quad>(1e6) * static_cast<Quad>(1e-6)),
             ratio = static_cast<Quad>(1e6) / rate;
  CHECK(magnitude(quad(large.b.at(0, 0)) + 1 - cosq(rate * t)) <= 1e-25);
  CHECK(magnitude(quad(large.b.at(0, 1)) / ratio - sinq(rate * t)) <= 1e-25);
  CHECK(magnitude(quad(large.b.at(1, 0)) * ratio + sinq(rate * t)) <= 1e-25);

  // Midpoint: (I - h G / 2) (z' - z) = h (G z + g), checked by putting the result back, in quad.
  for (const long d : {1L, 3L, 12L}) {
    const DDMatrix a = random.matrix(d, d);
    std::vector<DD> shift(u(d));
    for (DD& x : shift) x = random.dd();
    const AffineMap step = midpoint_step(a, shift, 0.3);
    REQUIRE(step.reason == "");
    double worst = 0.0;
    const Quad half = static_cast<Quad>(0.3) / 2;
    for (long i = 0; i < d; ++i) {
      for (long j = 0; j <= d; ++j) {
        const auto entry = [&](long k) { return j < d ? quad(step.b.at(k, j)) : quad(step.shift[u(k)]); };
        Quad residual = entry(i) - 2 * half * (j < d ? quad(a.at(i, j)) : quad(shift[u(i)]));
        for (long k = 0; k < d; ++k) residual -= half * quad(a.at(i, k)) * entry(k);
        worst = std::max(worst, magnitude(residual));
      }
    }
    CHECK(worst <= 1e-28);
  }
  // exp(G t) against the midpoint rule: second order.
  const AffineMap coarse = midpoint_step(g, force, 0.01), fine = midpoint_step(g, force, 0.005);
  const std::vector<DD> z{DD(1.0), DD(2.0), DD(0.5), DD(-0.75)};
  const std::vector<DD> truth = iterate(exact_step(g, force, 1.0), 1, z), a = iterate(coarse, 100, z),
                        b = iterate(fine, 200, z);
  CHECK((a[0] - truth[0]).hi / (b[0] - truth[0]).hi == doctest::Approx(4.0).epsilon(1e-3));

  DDMatrix one(1, 1);
  one.set(0, 0, 2.0);
  CHECK(midpoint_step(one, {}, 1.0).reason == "the implicit midpoint step is singular");
  CHECK(exact_step(one, {}, kInf).reason == "step size is not finite");
  CHECK(exact_step(one, {}, 1e3).reason == "exp(h G) exceeds the range of doubles");
  one.set(0, 0, std::nan(""));
  CHECK(exact_step(one, {}, 1.0).reason == "non-finite matrix entry");
  CHECK(affine_power(exact_step(one, {}, 1.0), 3).reason() == "non-finite matrix entry");
  AffineMap wide;
  wide.d = 129;
  wide.b = DDMatrix(129, 129);
  wide.shift.resize(129);
  CHECK(affine_power(wide, 3).reason() == "order 129 exceeds the limit of powering (128)");
  CHECK(affine_power(affine(1, {0.5}, {0.0}), -1).reason() == "negative number of steps");
}
