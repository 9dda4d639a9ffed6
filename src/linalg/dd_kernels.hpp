// The hot loops of double-double linear algebra, one copy per instruction set, chosen at run time.
//
// Every variant returns the same bits: each works on the same eight lanes in the same order, and uses fma
// only where its result is exact (the error of a product).
#pragma once

#include <vector>

namespace tinyphys {

constexpr long kDDLanes = 8;

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
  // slice = h rounded to a multiple of unit, magic = 1.5 2^52 unit; (h, l) becomes the renormalised rest.
  void (*split)(long n, double* h, double* l, double magic, double* slice);
  // (ch, cl) += p, elementwise, two_sum on the high part.
  void (*accumulate)(long n, const double* p, double* ch, double* cl);
};

// The best variant for this machine.
const DDKernels& dd_kernels();

// All variants this machine can run, the portable one first (for tests).
const std::vector<const DDKernels*>& dd_kernel_variants();

}  // namespace tinyphys
