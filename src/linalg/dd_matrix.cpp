#include "linalg/dd_matrix.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "linalg/dd_kernels.hpp"

namespace tinyphys {

namespace {

constexpr long kPanelRows = 64;     // of C, one task each
constexpr long kBlockCols = 1024;   // of C, bounds the memory for the packed columns of B
constexpr long kTerms = 128;        // summed in a fixed unit, then in double-double
constexpr long kVectorBlock = 128;  // rows (columns) of a matvec, one task each

// Uninitialised on purpose: every element is written before it is read.
using Scratch = std::unique_ptr<double[]>;
Scratch scratch(long count) { return Scratch(new double[static_cast<std::size_t>(std::max(count, 1L))]); }

std::size_t u(long i) { return static_cast<std::size_t>(i); }

double power_of_two(int e) {
  return e > -1000 && e < 1000 ? std::bit_cast<double>(static_cast<std::uint64_t>(1023 + e) << 52)
                               : std::ldexp(1.0, e);
}
// 2^e in two steps, either of which may leave the normal range but not that of doubles.
struct PowerOfTwo {
  double first = 1.0, second = 1.0;
  PowerOfTwo() = default;
  explicit PowerOfTwo(int e) : first(power_of_two(e / 2)), second(power_of_two(e - e / 2)) {}
};
double scaled(double x, int e) { return e > -1000 && e < 1000 ? x * power_of_two(e) : std::ldexp(x, e); }

// e with norm <= 2^e of values x up to `max`.
int exponent_of_norm(double max, double square, int scale) {
  if (!(max > 0.0) || !std::isfinite(max)) return 0;
  int e;
  (void)std::frexp(std::sqrt(square), &e);
  return e + scale;
}

// Lines (rows of A, columns of B) packed for the product kernel in strips of `width`, for kTerms of their terms at a
// time, each line scaled to a norm <= 1 there.
struct Packed {
  long lines, terms, width;
  Scratch data;
  std::vector<int> exponent;   // of a line
  std::vector<double> factor;  // [block of terms][line], relative to 2^exponent of the line
  long strips() const { return (lines + width - 1) / width; }
  // The strip's terms from `first` on.
  const double* strip(long s, long first) const { return data.get() + 2 * width * (s * terms + first); }
};

// `along`: a line is a row of m, else a column.
Packed pack(const DDView& m, bool along, long width, const ParallelFor& parallel) {
  Packed p{along ? m.rows : m.cols, along ? m.cols : m.rows, width, {}, {}, {}};
  const long blocks = (p.terms + kTerms - 1) / kTerms, strips = p.strips();
  p.data = scratch(2 * width * strips * p.terms);
  p.exponent.assign(u(strips * width), 0);
  p.factor.assign(u(blocks * strips * width), 0.0);
  std::vector<int> exponents(u(blocks * strips * width), 0);
  run_blocks(parallel, strips, [&](long s) {
    const long first = s * width, count = std::min(width, p.lines - first);
    const auto one = [&](long block) {
      const long begin = block * kTerms, end = std::min(p.terms, begin + kTerms);
      double* out = p.data.get() + 2 * width * (s * p.terms + begin);
      const long line = along ? m.ld : 1, term = along ? 1 : m.ld;
      for (long k = begin; k < end; ++k) {
        double* to = out + 2 * width * (k - begin);
        const long at = first * line + k * term;
        for (long i = 0; i < width; ++i) {
          to[i] = i < count ? m.hi[at + i * line] : 0.0;
          to[width + i] = i < count && m.lo != nullptr ? m.lo[at + i * line] : 0.0;
        }
      }
      // Over all lines at once, which lie side by side.
      constexpr long kMost = std::max(kDDProductRows, kDDProductCols);
      double max[kMost] = {}, square[kMost] = {};
      PowerOfTwo down[kMost];
      int scale[kMost] = {};
      for (long k = 0; k < end - begin; ++k)
        for (long i = 0; i < width; ++i) max[i] = std::max(max[i], std::fabs(out[2 * width * k + i]));
      for (long i = 0; i < width; ++i) {
        if (std::isfinite(max[i])) (void)std::frexp(max[i], &scale[i]);
        down[i] = PowerOfTwo(-scale[i]);
      }
      for (long k = 0; k < end - begin; ++k)
        for (long i = 0; i < width; ++i) {
          const double x = out[2 * width * k + i] * down[i].first * down[i].second;
          square[i] += x * x;
        }
      for (long i = 0; i < width; ++i) {
        const int e = exponent_of_norm(max[i], square[i], scale[i]);
        if (i < count) exponents[u((block * strips + s) * width + i)] = e;
        down[i] = PowerOfTwo(-e);
      }
      for (long k = 0; k < 2 * (end - begin); ++k)  // high words, then low words
        for (long i = 0; i < width; ++i)
          out[width * k + i] = out[width * k + i] * down[i].first * down[i].second;
    };
    for (long block = 0; block < blocks; ++block) one(block);
    for (long i = first; i < first + count; ++i) {
      int top = exponents[u(i)];
      for (long block = 1; block < blocks; ++block)
        top = std::max(top, exponents[u(block * strips * width + i)]);
      p.exponent[u(i)] = top;
      for (long block = 0; block < blocks; ++block) {
        const std::size_t at = u(block * strips * width + i);
        p.factor[at] = std::ldexp(1.0, exponents[at] - top);
      }
    }
  });
  return p;
}

// Pads each vector with zeros to whole lanes, hi and lo apart.
struct SplitVectors {
  long stride = 0;
  std::vector<double> hi, lo;
  SplitVectors(const DD* x, long n, long nvec) : stride((n + kDDLanes - 1) / kDDLanes * kDDLanes) {
    hi.assign(static_cast<std::size_t>(stride * nvec), 0.0);
    lo.assign(static_cast<std::size_t>(stride * nvec), 0.0);
    for (long v = 0; v < nvec; ++v) {
      for (long i = 0; i < n; ++i) {
        hi[static_cast<std::size_t>(v * stride + i)] = x[v * n + i].hi;
        lo[static_cast<std::size_t>(v * stride + i)] = x[v * n + i].lo;
      }
    }
  }
  SplitVectors(long n, long nvec) : stride(n), hi(static_cast<std::size_t>(n * nvec)), lo(hi.size()) {}
  void read(DD* y, long n, long nvec) const {
    for (long v = 0; v < nvec; ++v) {
      for (long i = 0; i < n; ++i) {
        const double h = hi[static_cast<std::size_t>(v * stride + i)],
                     l = lo[static_cast<std::size_t>(v * stride + i)];
        y[v * n + i] = std::isfinite(h) ? DD(h, l) : DD(h);
      }
    }
  }
};

}  // namespace

DDMatrix::DDMatrix(long row_count, long col_count)
    : rows(row_count),
      cols(col_count),
      hi(static_cast<std::size_t>(row_count * col_count), 0.0),
      lo(hi.size(), 0.0) {}

DDMatrix multiply(const DDView& a, bool trans_a, const DDView& b, bool trans_b, bool symmetric_result,
                  const ParallelFor& parallel) {
  const long m = trans_a ? a.cols : a.rows, k = trans_a ? a.rows : a.cols, n = trans_b ? b.rows : b.cols;
  DDMatrix c(m, n);
  if (m == 0 || n == 0 || k == 0) return c;
  for (long col = 0; col < n; col += kBlockCols) {
    const long width = std::min(kBlockCols, n - col);
    DDView part = b;
    const long offset = trans_b ? col * b.ld : col;
    part.hi += offset;
    if (part.lo != nullptr) part.lo += offset;
    (trans_b ? part.rows : part.cols) = width;
    const Packed right = pack(part, trans_b, kDDProductCols, parallel);
    run_blocks(parallel, (m + kPanelRows - 1) / kPanelRows, [&](long panel) {
      const long row = panel * kPanelRows, height = std::min(kPanelRows, m - row);
      if (symmetric_result && col + width <= row) return;
      DDView rows = a;
      const long shift = trans_a ? row : row * a.ld;
      rows.hi += shift;
      if (rows.lo != nullptr) rows.lo += shift;
      (trans_a ? rows.cols : rows.rows) = height;
      const Packed left = pack(rows, !trans_a, kDDProductRows, {});
      const long left_lines = left.strips() * left.width, right_lines = right.strips() * right.width;
      // Strips that lie below the diagonal in all of this panel are left out.
      const long first = symmetric_result ? std::max(0L, row - col) / kDDProductCols : 0;
      double sum[kDDProductRows * kDDProductCols], rest[kDDProductRows * kDDProductCols];
      for (long k0 = 0, block = 0; k0 < k; k0 += kTerms, ++block) {
        for (long t = first; t < right.strips(); ++t) {
          const long c0 = t * kDDProductCols, cols = std::min(kDDProductCols, width - c0);
          for (long s = 0; s < left.strips(); ++s) {
            dd_kernels().product(std::min(kTerms, k - k0), left.strip(s, k0), right.strip(t, k0), sum, rest);
            for (long r = 0; r < std::min(kDDProductRows, height - s * kDDProductRows); ++r) {
              const long line = s * kDDProductRows + r;
              const auto at = u((row + line) * n + col + c0);
              dd_kernels().accumulate(cols, left.factor[u(block * left_lines + line)],
                                      right.factor.data() + block * right_lines + c0,
                                      sum + r * kDDProductCols, rest + r * kDDProductCols, c.hi.data() + at,
                                      c.lo.data() + at);
            }
          }
        }
      }
      for (long r = 0; r < height; ++r) {
        for (long j = first * kDDProductCols; j < width; ++j) {
          const auto at = u((row + r) * n + col + j);
          const int e = left.exponent[u(r)] + right.exponent[u(j)];
          const double s = c.hi[at] + c.lo[at];
          const double tail = c.lo[at] - (s - c.hi[at]);
          c.hi[at] = e == 0 ? s : scaled(s, e);
          c.lo[at] = !std::isfinite(c.hi[at]) ? 0.0 : e == 0 ? tail : scaled(tail, e);
        }
      }
    });
  }
  if (symmetric_result) {
    run_blocks(parallel, (m + kPanelRows - 1) / kPanelRows, [&](long panel) {
      for (long i = panel * kPanelRows; i < std::min(m, (panel + 1) * kPanelRows); ++i) {
        for (long j = 0; j < i; ++j) c.set(i, j, c.at(j, i));
      }
    });
  }
  return c;
}

void matvec(const DDView& a, const DD* x, long nvec, DD* y, const ParallelFor& parallel) {
  if (a.rows == 0 || nvec == 0) return;
  const SplitVectors in(x, a.cols, nvec);
  SplitVectors out(a.rows, nvec);
  run_blocks(parallel, (a.rows + kVectorBlock - 1) / kVectorBlock, [&](long block) {
    const long first = block * kVectorBlock, last = std::min(a.rows, first + kVectorBlock);
    for (long v = 0; v < nvec; v += 2) {
      dd_kernels().matvec(a.hi, a.lo, a.ld, first, last, a.cols, in.hi.data() + v * in.stride,
                          in.lo.data() + v * in.stride, in.stride, static_cast<int>(std::min(2L, nvec - v)),
                          out.hi.data() + v * out.stride, out.lo.data() + v * out.stride, out.stride);
    }
  });
  out.read(y, a.rows, nvec);
}

void matvec_transposed(const DDView& a, const DD* x, long nvec, DD* y, const ParallelFor& parallel) {
  if (a.cols == 0 || nvec == 0) return;
  const SplitVectors in(x, a.rows, nvec);
  SplitVectors out(a.cols, nvec);
  // Wide blocks: each row is then read in long runs.
  constexpr long kBlock = 4 * kVectorBlock;
  run_blocks(parallel, (a.cols + kBlock - 1) / kBlock, [&](long block) {
    const long first = block * kBlock, last = std::min(a.cols, first + kBlock);
    for (long v = 0; v < nvec; v += 2) {
      dd_kernels().matvec_transposed(a.hi, a.lo, a.ld, a.rows, first, last, in.hi.data() + v * in.stride,
                                     in.lo.data() + v * in.stride, in.stride,
                                     static_cast<int>(std::min(2L, nvec - v)), out.hi.data() + v * out.stride,
                                     out.lo.data() + v * out.stride, out.stride);
    }
  });
  out.read(y, a.cols, nvec);
}

DDCholesky cholesky_pivoted(const DDMatrix& a, const ParallelFor& parallel) {
  const long n = a.rows;
  DDCholesky result;
  result.pivot.resize(static_cast<std::size_t>(n));
  std::iota(result.pivot.begin(), result.pivot.end(), 0L);
  auto& pivot = result.pivot;
  // Powers of two bring the diagonal to [1/2, 2), so that the rank decision does not depend on the units of a
  // row.
  std::vector<int> scale(u(n), 0);
  for (long i = 0; i < n; ++i) {
    const DD d = a.at(i, i);
    if (!isfinite(d)) return result.reason = "non-finite matrix entry", result;
    if (d < 0.0) return result.reason = "negative diagonal entry", result;
    if (d.hi > 0.0) scale[u(i)] = -static_cast<int>(std::floor(std::ilogb(d.hi) / 2.0));
  }
  // Row i of `l` belongs to original row pivot[i]; rows are swapped as pivots are taken.
  DDMatrix l(n, n);
  const auto entry = [&](long i, long j) {
    const long p = pivot[u(i)], q = pivot[u(j)];
    return ldexp(a.at(p, q), scale[u(p)] + scale[u(q)]);
  };
  std::vector<DD> diagonal(u(n));
  for (long i = 0; i < n; ++i) diagonal[u(i)] = entry(i, i);
  const double tolerance = static_cast<double>(n) * 0x1p-100;
  std::vector<DD> head(u(n)), column(u(n));
  // column[i] = A_ij - sum_{c < j} L_ic L_jc for the rows i in [first, n), with `width` columns of L known.
  const auto schur_column = [&](long j, long first, long width) {
    for (long c = 0; c < width; ++c) head[u(c)] = l.at(j, c);
    const DDView block{l.hi.data() + first * n, l.lo.data() + first * n, n - first, width, n};
    if (width > 0) {
      matvec(block, head.data(), 1, column.data() + first, parallel);
    } else {
      std::fill(column.begin() + first, column.end(), DD(0.0));
    }
    for (long i = first; i < n; ++i) column[u(i)] = entry(i, j) - column[u(i)];
  };
  long rank = 0;
  for (; rank < n; ++rank) {
    const auto best = std::max_element(diagonal.begin() + rank, diagonal.end());
    const long at = best - diagonal.begin();
    if (!(best->hi > tolerance)) break;
    if (at != rank) {
      std::swap(pivot[u(at)], pivot[u(rank)]);
      std::swap(diagonal[u(at)], diagonal[u(rank)]);
      for (long c = 0; c < rank; ++c) {
        const DD t = l.at(at, c);
        l.set(at, c, l.at(rank, c));
        l.set(rank, c, t);
      }
    }
    schur_column(rank, rank, rank);
    const DD root = sqrt(column[u(rank)]);
    if (!(root.hi > 0.0)) return result.reason = "not positive semidefinite", result;
    l.set(rank, rank, root);
    const DD inverse = 1.0 / root;
    for (long i = rank + 1; i < n; ++i) {
      const DD value = column[u(i)] * inverse;
      l.set(i, rank, value);
      diagonal[u(i)] -= sqr(value);
    }
  }
  // What is left must vanish, off the diagonal too: [[0, 1], [1, 0]] is not semidefinite.
  for (long j = rank; j < n; ++j) {
    schur_column(j, j, rank);
    for (long i = j; i < n; ++i) {
      if (!(std::fabs(column[u(i)].hi) <= 4.0 * tolerance))
        return result.reason = "not positive semidefinite", result;
    }
  }
  result.rank = rank;
  result.l = DDMatrix(n, rank);
  for (long i = 0; i < n; ++i) {
    const long p = pivot[u(i)];
    for (long c = 0; c < std::min(i + 1, rank); ++c) result.l.set(p, c, ldexp(l.at(i, c), -scale[u(p)]));
  }
  return result;
}

std::vector<DD> solve_lower(const DDCholesky& factor, const std::vector<DD>& b) {
  std::vector<DD> x(static_cast<std::size_t>(factor.rank));
  for (long i = 0; i < factor.rank; ++i) {
    const long p = factor.pivot[static_cast<std::size_t>(i)];
    DD sum = b[static_cast<std::size_t>(p)];
    for (long c = 0; c < i; ++c) sum -= factor.l.at(p, c) * x[static_cast<std::size_t>(c)];
    x[static_cast<std::size_t>(i)] = sum / factor.l.at(p, i);
  }
  return x;
}

std::vector<DD> solve_lower_transposed(const DDCholesky& factor, const std::vector<DD>& b) {
  std::vector<DD> rest = b, x(static_cast<std::size_t>(factor.l.rows), DD(0.0));
  for (long i = factor.rank - 1; i >= 0; --i) {
    const long p = factor.pivot[static_cast<std::size_t>(i)];
    const DD value = rest[static_cast<std::size_t>(i)] / factor.l.at(p, i);
    x[static_cast<std::size_t>(p)] = value;
    for (long c = 0; c < i; ++c) rest[static_cast<std::size_t>(c)] -= factor.l.at(p, c) * value;
  }
  return x;
}

}  // namespace tinyphys
