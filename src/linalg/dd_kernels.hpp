// The hot loops of double-double linear algebra, one copy per instruction set, chosen at run time.
//
// Every variant returns the same bits: each does the same operations on an element, in the same order, and
// fma is one of them by name (portable: the C library's, slow where the machine has none).
#pragma once

#include <vector>

namespace tinyphys {

constexpr long kDDLanes = 8;
constexpr long kDDProductRows = 4, kDDProductCols = 16;
// 1 of a sum whose terms stay below 1: all of its values lie in [2, 4], with one unit.
constexpr double kDDProductMagic = 3.0;

// Single coordinates and their maps, q' = t q + of_p p + at_q, p' = t p + of_q q + at_p. For each eight coordinates eight
// words of each of t, of_p, of_q, and with `constant` of at_q and at_p: high words, then low words. The states' low words may
// be null (all four).
struct SingleArrays {
  const double* maps;
  bool constant;
  const double *q_h, *q_l, *p_h, *p_l;
  double *q_out_h, *q_out_l, *p_out_h, *p_out_l;
};

struct DDKernels {
  const char* name;
  // y[v][i] = sum_j A[i][j] x[v][j], i in [row_begin, row_end). lo may be null (plain double matrix). x holds
  // nvec vectors of x_stride doubles, hi and lo apart, zero-padded to a multiple of kDDLanes. nvec is 1 or 2.
  void (*matvec)(const double* hi, const double* lo, long ld, long row_begin, long row_end, long cols,
                 const double* xh, const double* xl, long x_stride, int nvec, double* yh, double* yl,
                 long y_stride);
  // y[v][j] = sum_i A[i][j] x[v][i], j in [col_begin, col_end), for all `rows` rows in ascending order.
  void (*matvec_transposed)(const double* hi, const double* lo, long ld, long rows, long col_begin,
                            long col_end, const double* xh, const double* xl, long x_stride, int nvec,
                            double* yh, double* yl, long y_stride);
  // A tile of a product: sum + rest = A B with A of kDDProductRows rows and B of kDDProductCols columns, both packed
  // for each of the k terms: high words, then low words. Rows of A and columns of B have norms <= 1 in the k terms.
  // sum is a multiple of 2^-51; sum + rest is off by some 2^-104 sqrt(k) of the norms.
  void (*product)(long k, const double* a, const double* b, double* sum, double* rest);
  // (ch, cl) += row col[i] (ph, pl), elementwise, two_sum on the high part; factors are powers of two.
  void (*accumulate)(long n, double row, const double* col, const double* ph, const double* pl, double* ch,
                     double* cl);
  // n is a multiple of 8. Of q, p, and of both afterwards: the sums of the squares, and the largest sizes where the sums are
  // finite.
  void (*mode_apply)(const SingleArrays& arrays, long n, double* sums, double* sizes);
  // The largest |x|; NaN if one is not finite.
  double (*largest)(const double* x, long n);
};

// The best variant for this machine.
const DDKernels& dd_kernels();

// All variants this machine can run, the portable one first (for tests).
const std::vector<const DDKernels*>& dd_kernel_variants();

}  // namespace tinyphys
