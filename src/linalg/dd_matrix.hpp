// Dense matrices in double-double.
//
// Product: rows of A and columns of B are scaled to a norm <= 1, so that a sum of some terms stays in one binade of
// 3 + sum: fma takes each product to its unit, and what that leaves is known exactly (fma again) and summed apart, with
// the cross terms of the low words. Sums of kTerms are then added in double-double. The error is some 2^-104 of
// |row of A| |column of B|.
//
// Every result has the same bits for any number of threads, and for any instruction set.
#pragma once

#include <string>
#include <vector>

#include "linalg/dense.hpp"
#include "support/dd.hpp"

namespace tinyphys {

// A borrowed row-major block; lo may be null (all zero). Valid as long as the matrix it came from.
struct DDView {
  const double* hi = nullptr;
  const double* lo = nullptr;
  long rows = 0, cols = 0, ld = 0;
};

struct DDMatrix {
  long rows = 0, cols = 0;
  std::vector<double> hi, lo;

  DDMatrix() = default;
  // All zero.
  DDMatrix(long row_count, long col_count);

  DD at(long i, long j) const { return {hi[index(i, j)], lo[index(i, j)]}; }
  void set(long i, long j, DD value) {
    hi[index(i, j)] = value.hi;
    lo[index(i, j)] = value.lo;
  }
  DDView view() const { return {hi.data(), lo.data(), rows, cols, cols}; }
  DDView row_block(long first, long count) const {
    return {hi.data() + first * cols, lo.data() + first * cols, count, cols, cols};
  }

 private:
  std::size_t index(long i, long j) const { return static_cast<std::size_t>(i * cols + j); }
};

// op(A) op(B); op is the transpose where the flag is set. With symmetric_result the caller promises that the
// product is symmetric: only the upper triangle is computed, and mirrored.
DDMatrix multiply(const DDView& a, bool trans_a, const DDView& b, bool trans_b, bool symmetric_result = false,
                  const ParallelFor& parallel = {});

// y_v = A x_v for nvec vectors, each contiguous (x: nvec * cols, y: nvec * rows). Vectors are taken two at a
// time.
void matvec(const DDView& a, const DD* x, long nvec, DD* y, const ParallelFor& parallel = {});

// y_v = A^T x_v (x: nvec * rows, y: nvec * cols).
void matvec_transposed(const DDView& a, const DD* x, long nvec, DD* y, const ParallelFor& parallel = {});

// Pivoted Cholesky of a symmetric positive semidefinite matrix: A = L L^T where L is n x rank and row
// pivot[i] of L has its last non-zero in column i (i < rank). `reason` is empty, or says why there is no such
// factor.
struct DDCholesky {
  long rank = 0;
  DDMatrix l;
  std::vector<long> pivot;
  std::string reason;
};
DDCholesky cholesky_pivoted(const DDMatrix& a, const ParallelFor& parallel = {});

// x with L x = b from the first `rank` pivot rows (b in original order, n entries); for b in the range of L
// this solves all n equations.
std::vector<DD> solve_lower(const DDCholesky& factor, const std::vector<DD>& b);

// x with L^T x = b (b: rank entries), zero in the rows beyond the rank.
std::vector<DD> solve_lower_transposed(const DDCholesky& factor, const std::vector<DD>& b);

}  // namespace tinyphys
