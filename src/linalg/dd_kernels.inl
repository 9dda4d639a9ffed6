// Included once per instruction set by dd_kernels.cpp, which defines TP_TARGET and a Vec of eight lanes with
// its operations in the namespace at hand. No standard header may be included here.

// acc += a x in double-double, per lane: two_prod(a_hi, x_hi) exactly, cross terms in the low word.
#define TP_FMA_DD(ACC_H, ACC_L, AH, AL, XH, XL)               \
  do {                                                        \
    const Vec p_ = mul(AH, XH);                               \
    const Vec e_ = mul_error(AH, XH, p_);                     \
    const Vec c_ = add(mul(AH, XL), mul(AL, XH));             \
    const Vec s_ = add(ACC_H, p_);                            \
    const Vec b_ = sub(s_, ACC_H);                            \
    const Vec t_ = add(sub(ACC_H, sub(s_, b_)), sub(p_, b_)); \
    ACC_L = add(ACC_L, add(t_, add(e_, c_)));                 \
    ACC_H = s_;                                               \
  } while (false)

// The fixed tree over eight lanes, in double-double, then normalised.
TP_TARGET static void reduce_lanes(Vec ah, Vec al, double* yh, double* yl) {
  double h[8], l[8];
  store(h, ah);
  store(l, al);
  for (int width = 4; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      const double a = h[i], b = h[i + width];
      const double s = a + b, bb = s - a;
      l[i] = (l[i] + l[i + width]) + ((a - (s - bb)) + (b - bb));
      h[i] = s;
    }
  }
  const double s = h[0] + l[0];
  *yl = l[0] - (s - h[0]);
  *yh = s;
}

TP_TARGET static void matvec(const double* hi, const double* lo, long ld, long row_begin, long row_end,
                             long cols, const double* xh, const double* xl, long x_stride, int nvec,
                             double* yh, double* yl, long y_stride) {
  const long full = cols / 8 * 8;
  const double* xh1 = xh + (nvec > 1 ? x_stride : 0);
  const double* xl1 = xl + (nvec > 1 ? x_stride : 0);
  double th[8] = {0, 0, 0, 0, 0, 0, 0, 0}, tl[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  for (long i = row_begin; i < row_end; ++i) {
    const double* rh = hi + i * ld;
    const double* rl = lo ? lo + i * ld : nullptr;
    Vec ah0 = zero(), al0 = zero(), ah1 = zero(), al1 = zero();
    for (long j = full; j < cols; ++j) {
      th[j - full] = rh[j];
      tl[j - full] = rl ? rl[j] : 0.0;
    }
    for (long j = 0; j < cols; j += 8) {
      const bool tail = j >= full;
      const Vec a = load(tail ? th : rh + j);
      const Vec b = tail ? load(tl) : rl ? load(rl + j) : zero();
      TP_FMA_DD(ah0, al0, a, b, load(xh + j), load(xl + j));
      if (nvec > 1) TP_FMA_DD(ah1, al1, a, b, load(xh1 + j), load(xl1 + j));
    }
    reduce_lanes(ah0, al0, yh + i, yl + i);
    if (nvec > 1) reduce_lanes(ah1, al1, yh + y_stride + i, yl + y_stride + i);
  }
}

// Eight rows at a time keep the accumulators in registers and the number of memory streams small.
TP_TARGET static void matvec_transposed(const double* hi, const double* lo, long ld, long rows,
                                        long col_begin, long col_end, const double* xh, const double* xl,
                                        long x_stride, int nvec, double* yh, double* yl, long y_stride) {
  for (int v = 0; v < nvec; ++v) {
    for (long j = col_begin; j < col_end; ++j) yh[v * y_stride + j] = yl[v * y_stride + j] = 0.0;
  }
  for (long i0 = 0; i0 < rows; i0 += 8) {
    const long count = rows - i0 < 8 ? rows - i0 : 8;
    for (long j = col_begin; j < col_end; j += 8) {
      const long width = col_end - j < 8 ? col_end - j : 8;
      double th[8] = {0, 0, 0, 0, 0, 0, 0, 0}, tl[8] = {0, 0, 0, 0, 0, 0, 0, 0};
      Vec ah0, al0, ah1 = zero(), al1 = zero();
      if (width == 8) {
        ah0 = load(yh + j);
        al0 = load(yl + j);
        if (nvec > 1) {
          ah1 = load(yh + y_stride + j);
          al1 = load(yl + y_stride + j);
        }
      } else {
        double sh[8] = {0, 0, 0, 0, 0, 0, 0, 0}, sl[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        for (long c = 0; c < width; ++c) {
          sh[c] = yh[j + c];
          sl[c] = yl[j + c];
        }
        ah0 = load(sh);
        al0 = load(sl);
        if (nvec > 1) {
          for (long c = 0; c < width; ++c) {
            sh[c] = yh[y_stride + j + c];
            sl[c] = yl[y_stride + j + c];
          }
          ah1 = load(sh);
          al1 = load(sl);
        }
      }
      for (long i = i0; i < i0 + count; ++i) {
        Vec a, b;
        if (width == 8) {
          a = load(hi + i * ld + j);
          b = lo ? load(lo + i * ld + j) : zero();
        } else {
          for (long c = 0; c < width; ++c) {
            th[c] = hi[i * ld + j + c];
            tl[c] = lo ? lo[i * ld + j + c] : 0.0;
          }
          a = load(th);
          b = load(tl);
        }
        TP_FMA_DD(ah0, al0, a, b, broadcast(xh[i]), broadcast(xl[i]));
        if (nvec > 1) TP_FMA_DD(ah1, al1, a, b, broadcast(xh[x_stride + i]), broadcast(xl[x_stride + i]));
      }
      double sh[8], sl[8];
      for (int v = 0; v < nvec; ++v) {
        const Vec h = v == 0 ? ah0 : ah1, l = v == 0 ? al0 : al1;
        if (width == 8) {
          store(yh + v * y_stride + j, h);
          store(yl + v * y_stride + j, l);
        } else {
          store(sh, h);
          store(sl, l);
          for (long c = 0; c < width; ++c) {
            yh[v * y_stride + j + c] = sh[c];
            yl[v * y_stride + j + c] = sl[c];
          }
        }
      }
    }
  }
  for (int v = 0; v < nvec; ++v) {
    for (long j = col_begin; j < col_end; ++j) {
      const double h = yh[v * y_stride + j], l = yl[v * y_stride + j], s = h + l;
      yl[v * y_stride + j] = l - (s - h);
      yh[v * y_stride + j] = s;
    }
  }
}

// A part of the tile at a time, of kTileRows rows and kTileVecs vectors: what the registers hold.
TP_TARGET static void product(long k, const double* a, const double* b, double* sum, double* rest) {
  for (long row = 0; row < kDDProductRows; row += kTileRows) {
    for (long col = 0; col < kDDProductCols; col += 8 * kTileVecs) {
      Vec s[kTileRows][kTileVecs], l[kTileRows][kTileVecs];
      for (int r = 0; r < kTileRows; ++r) {
        for (int v = 0; v < kTileVecs; ++v) {
          s[r][v] = broadcast(kDDProductMagic);
          l[r][v] = zero();
        }
      }
      for (long begin = 0; begin < k; begin += 8) {
        const long end = begin + 8 < k ? begin + 8 : k;
        for (long i = begin; i < end; ++i) {
          const double* x = a + 2 * kDDProductRows * i + row;
          const double* y = b + 2 * kDDProductCols * i + col;
#pragma GCC unroll 8
          for (int r = 0; r < kTileRows; ++r) {
            const Vec xh = broadcast(x[r]), xl = broadcast(x[kDDProductRows + r]);
#pragma GCC unroll 8
            for (int v = 0; v < kTileVecs; ++v) {
              const Vec yh = load(y + 8 * v), yl = load(y + kDDProductCols + 8 * v);
              // The sum takes the product to a fixed unit; what it leaves is exact but for 2^-106.
              const Vec t = mul_add(xh, yh, s[r][v]);
              const Vec left = mul_error(xh, yh, sub(t, s[r][v]));
              l[r][v] = add(l[r][v], mul_add(xl, yh, mul_add(xh, yl, left)));
              s[r][v] = t;
            }
          }
        }
        // The rest gives its whole units to the sum: the smaller it is, the less its own rounding.
        if (end - begin < 8) break;
#pragma GCC unroll 8
        for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
          for (int v = 0; v < kTileVecs; ++v) {
            const Vec t = add(s[r][v], l[r][v]);
            l[r][v] = sub(l[r][v], sub(t, s[r][v]));
            s[r][v] = t;
          }
        }
      }
      for (int r = 0; r < kTileRows; ++r) {
        for (int v = 0; v < kTileVecs; ++v) {
          const long at = (row + r) * kDDProductCols + col + 8 * v;
          store(sum + at, sub(s[r][v], broadcast(kDDProductMagic)));
          store(rest + at, l[r][v]);
        }
      }
    }
  }
}

TP_TARGET static void accumulate(long n, double row, const double* col, const double* ph, const double* pl,
                                 double* ch, double* cl) {
  long i = 0;
  for (; i + 8 <= n; i += 8) {
    const Vec f = mul(broadcast(row), load(col + i));
    const Vec a = load(ch + i), x = mul(f, load(ph + i));
    const Vec s = add(a, x), b = sub(s, a);
    const Vec e = add(sub(a, sub(s, b)), sub(x, b));
    store(cl + i, add(load(cl + i), add(e, mul(f, load(pl + i)))));
    store(ch + i, s);
  }
  for (; i < n; ++i) {
    const double f = row * col[i], x = f * ph[i], s = ch[i] + x, b = s - ch[i];
    const double e = (ch[i] - (s - b)) + (x - b);
    cl[i] = cl[i] + (e + f * pl[i]);
    ch[i] = s;
  }
}

#undef TP_FMA_DD
