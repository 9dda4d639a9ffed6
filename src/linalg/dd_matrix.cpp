#include "linalg/dd_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <type_traits>
#include <utility>

#include "linalg/dd_kernels.hpp"

namespace tinyphys {

namespace {

constexpr long kPanelRows = 128;    // of C, one task each
constexpr long kBlockCols = 1024;   // of C, bounds the memory for the slices of B
constexpr long kVectorBlock = 128;  // rows (columns) of a matvec, one task each
constexpr int kMaxSlices = 6;

// Uninitialised on purpose: every element is written before it is read.
template <class T> using ScratchOf = std::unique_ptr<T[]>;
template <class T> ScratchOf<T> scratch_of(long count) {
  return ScratchOf<T>(new T[static_cast<std::size_t>(std::max(count, 1L))]);
}
using Scratch = ScratchOf<double>;
Scratch scratch(long count) { return scratch_of<double>(count); }

struct SliceRule {
  int beta = 0;         // bits in a slice
  int count = 0;        // slices of each factor
  long group = 1;       // slice products of one level that may be summed exactly in double
  bool single = false;  // the last level in float32, which holds the slices exactly
};

// Signed slices hold |integer| <= 2^(beta - 1), so k products sum exactly while k 2^(2 beta - 2) <= 2^53.
SliceRule slice_rule(long k, ProductAccuracy accuracy) {
  const int bits = accuracy == ProductAccuracy::kCoarse ? 62 : 103;
  int log_k = 0;
  while ((1L << log_k) < k) ++log_k;
  SliceRule rule;
  rule.beta = (55 - log_k) / 2;
  rule.count = 1;
  while (rule.count * rule.beta - 1 < bits && rule.count < kMaxSlices) ++rule.count;
  rule.group = std::max(1L, (1L << (55 - 2 * rule.beta)) / k);
  rule.single = accuracy != ProductAccuracy::kFull && rule.beta <= std::numeric_limits<float>::digits;
  return rule;
}

// Exact powers of two that may leave the normal range are applied in two steps.
double scaled(double x, int e) {
  if (e > -1000 && e < 1000) return x * std::ldexp(1.0, e);
  return std::ldexp(x, e);
}

struct SlicedBlock {
  long rows = 0, cols = 0;
  bool by_row = true;  // scaled by row, else by column
  int count = 0;       // slices that are not all zero
  std::vector<int> exponent;
  Scratch data;
  ScratchOf<float> single;  // the same, where the rule asks for it
  template <class T> const T* slice(int s) const {
    if constexpr (std::is_same_v<T, float>)
      return single.get() + s * rows * cols;
    else
      return data.get() + s * rows * cols;
  }
};

int exponent_of(double max) {
  if (!(max > 0.0) || !std::isfinite(max)) return 0;
  int e;
  (void)std::frexp(max, &e);
  return std::max(e, -1000);
}

SlicedBlock slice_block(const DDView& m, bool by_row, const SliceRule& rule, const ParallelFor& parallel) {
  SlicedBlock block;
  block.rows = m.rows;
  block.cols = m.cols;
  block.by_row = by_row;
  block.exponent.assign(static_cast<std::size_t>(by_row ? m.rows : m.cols), 0);
  std::vector<double> factor;
  if (!by_row) {
    std::vector<double> max(static_cast<std::size_t>(m.cols), 0.0);
    for (long i = 0; i < m.rows; ++i) {
      const double* row = m.hi + i * m.ld;
      for (long j = 0; j < m.cols; ++j)
        max[static_cast<std::size_t>(j)] = std::max(max[static_cast<std::size_t>(j)], std::fabs(row[j]));
    }
    factor.resize(max.size());
    for (std::size_t j = 0; j < max.size(); ++j) {
      block.exponent[j] = exponent_of(max[j]);
      factor[j] = std::ldexp(1.0, -block.exponent[j]);
    }
  }
  const long size = m.rows * m.cols;
  block.data = scratch(rule.count * size);
  if (rule.single) block.single = scratch_of<float>(rule.count * size);
  constexpr long kChunk = 64;
  const long chunks = (m.rows + kChunk - 1) / kChunk;
  std::vector<int> used(static_cast<std::size_t>(chunks), 0);
  run_blocks(parallel, chunks, [&](long chunk) {
    const long first = chunk * kChunk, last = std::min(m.rows, first + kChunk);
    const Scratch h = scratch(m.cols), l = scratch(m.cols);
    for (long i = first; i < last; ++i) {
      const double* row_hi = m.hi + i * m.ld;
      const double* row_lo = m.lo ? m.lo + i * m.ld : nullptr;
      double row_factor = 1.0;
      if (by_row) {
        double max = 0.0;
        for (long j = 0; j < m.cols; ++j) max = std::max(max, std::fabs(row_hi[j]));
        block.exponent[static_cast<std::size_t>(i)] = exponent_of(max);
        row_factor = std::ldexp(1.0, -block.exponent[static_cast<std::size_t>(i)]);
      }
      for (long j = 0; j < m.cols; ++j) {
        const double f = by_row ? row_factor : factor[static_cast<std::size_t>(j)];
        h[static_cast<std::size_t>(j)] = row_hi[j] * f;
        l[static_cast<std::size_t>(j)] = row_lo ? row_lo[j] * f : 0.0;
      }
      for (int s = 0; s < rule.count; ++s) {
        double* out = block.data.get() + s * size + i * m.cols;
        // Slice s holds multiples of 2^(1 - (s + 1) beta).
        dd_kernels().split(m.cols, h.get(), l.get(), std::ldexp(1.5, 53 - (s + 1) * rule.beta), out);
        if (rule.single) std::copy_n(out, m.cols, block.single.get() + s * size + i * m.cols);
        int& u = used[static_cast<std::size_t>(chunk)];
        if (s >= u && std::any_of(out, out + m.cols, [](double x) { return x != 0.0; })) u = s + 1;
      }
    }
  });
  for (const int u : used) block.count = std::max(block.count, u);
  return block;
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

DDMatrix multiply(const DDView& a, bool trans_a, const DDView& b, bool trans_b, ProductAccuracy accuracy,
                  bool symmetric_result, const ParallelFor& parallel) {
  const long m = trans_a ? a.cols : a.rows, k = trans_a ? a.rows : a.cols, n = trans_b ? b.rows : b.cols;
  DDMatrix c(m, n);
  if (m == 0 || n == 0 || k == 0) return c;
  use_single_thread_blas();
  const SliceRule rule = slice_rule(k, accuracy);
  for (long col = 0; col < n; col += kBlockCols) {
    const long width = std::min(kBlockCols, n - col);
    DDView part = b;
    const long offset = trans_b ? col * b.ld : col;
    part.hi += offset;
    if (part.lo != nullptr) part.lo += offset;
    (trans_b ? part.rows : part.cols) = width;
    const SlicedBlock right = slice_block(part, trans_b, rule, parallel);
    run_blocks(parallel, (m + kPanelRows - 1) / kPanelRows, [&](long panel) {
      const long row = panel * kPanelRows, height = std::min(kPanelRows, m - row);
      const long skip = symmetric_result ? std::max(0L, row - col) : 0;
      if (skip >= width) return;
      DDView rows = a;
      const long shift = trans_a ? row : row * a.ld;
      rows.hi += shift;
      if (rows.lo != nullptr) rows.lo += shift;
      (trans_a ? rows.cols : rows.rows) = height;
      const SlicedBlock left = slice_block(rows, !trans_a, rule, {});
      const long active = width - skip;
      const Scratch tile = scratch(height * active);
      const auto add_tile = [&] {
        for (long r = 0; r < height; ++r) {
          const auto at = static_cast<std::size_t>((row + r) * n + col + skip);
          dd_kernels().accumulate(active, tile.get() + r * active, c.hi.data() + at, c.lo.data() + at);
        }
      };
      // The products of one level i + j into `to`, which is then used up; at most `group` of them at once.
      const auto add_level = [&](int level, long group, auto* to, const auto& use_up) {
        using T = std::remove_pointer_t<decltype(to)>;
        long pending = 0;
        for (int i = 0; i <= level; ++i) {
          const int j = level - i;
          if (i < left.count && j < right.count) {
            gemm(height, active, k, left.slice<T>(i), left.cols, trans_a,
                 right.slice<T>(j) + (trans_b ? skip * right.cols : skip), right.cols, trans_b, to, active,
                 pending > 0);
            ++pending;
          }
          if (pending > 0 && (pending == group || i == level)) {
            use_up();
            pending = 0;
          }
        }
      };
      // From the smallest products to the largest.
      int level = rule.count - 1;
      if (rule.single) {
        const ScratchOf<float> small = scratch_of<float>(height * active);
        add_level(level--, rule.count, small.get(), [&] {
          std::copy_n(small.get(), height * active, tile.get());
          add_tile();
        });
      }
      for (; level >= 0; --level) add_level(level, rule.group, tile.get(), add_tile);
      for (long r = 0; r < height; ++r) {
        const int e_row = left.exponent[static_cast<std::size_t>(r)];
        for (long j = skip; j < width; ++j) {
          const auto at = static_cast<std::size_t>((row + r) * n + col + j);
          const int e = e_row + right.exponent[static_cast<std::size_t>(j)];
          const double s = c.hi[at] + c.lo[at];
          const double rest = c.lo[at] - (s - c.hi[at]);
          c.hi[at] = e == 0 ? s : scaled(s, e);
          c.lo[at] = !std::isfinite(c.hi[at]) ? 0.0 : e == 0 ? rest : scaled(rest, e);
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
  const auto u = [](long i) { return static_cast<std::size_t>(i); };
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
