// Included once per instruction set by dd_kernels.cpp, after dd_kernels.inl: what maps make of single coordinates, eight at a
// time.

struct VecDD {
  Vec h, l;
  VecDD() = default;
  TP_MEMBER VecDD(Vec high, Vec low) : h(high), l(low) {}
  TP_MEMBER VecDD(const VecDD& o) : h(o.h), l(o.l) {}
  TP_MEMBER VecDD& operator=(const VecDD& o) {
    h = o.h;
    l = o.l;
    return *this;
  }
};

TP_INLINE VecDD vquick(Vec a, Vec b) {
  VecDD r;
  r.h = add(a, b);
  r.l = sub(b, sub(r.h, a));
  return r;
}
TP_INLINE VecDD vtwo_sum(Vec a, Vec b) {
  const Vec s = add(a, b), t = sub(s, a);
  return {s, add(sub(a, sub(s, t)), sub(b, t))};
}
TP_INLINE VecDD vload(const double* h, const double* l) { return {load(h), l ? load(l) : zero()}; }

// a x + b y, and c.
template <bool kLow, bool kConstant>
TP_INLINE VecDD vmap(VecDD a, VecDD x, VecDD b, VecDD y, VecDD c) {
  const Vec p = mul(a.h, x.h), r = mul(b.h, y.h);
  Vec low = mul_add(b.l, y.h, mul_add(a.l, x.h, add(mul_error(a.h, x.h, p), mul_error(b.h, y.h, r))));
  if constexpr (kLow) low = mul_add(b.h, y.l, mul_add(a.h, x.l, low));
  VecDD sum = vtwo_sum(p, r);
  low = add(low, sum.l);
  if constexpr (kConstant) {
    sum = vtwo_sum(sum.h, c.h);
    low = add(low, add(sum.l, c.l));
  }
  return vquick(sum.h, low);
}

TP_INLINE VecDD vpair(const double* words) { return {load(words), load(words + 8)}; }

// One part of the state, x' = t x + b y + c, and what is told of it: the sum of squares and the largest size, before and after.
// kLow: states in double-double. The parts go one after the other: both at once need more registers than there are.
template <bool kLow, bool kConstant>
TP_INLINE void mode_apply_part(const double* map, long of_other, long constant, const double* x_h,
                               const double* x_l, const double* y_h, const double* y_l, double* out_h,
                               double* out_l, long n, double* sums, double* sizes) {
  Vec before = zero(), after = zero(), start = zero(), end = zero();
  for (long j = 0; j < n; j += 8, map += 8 * (kConstant ? 10 : 6)) {
    const VecDD x = vload(x_h + j, kLow ? x_l + j : nullptr), y = vload(y_h + j, kLow ? y_l + j : nullptr);
    const VecDD none{zero(), zero()};
    const VecDD r = vmap<kLow, kConstant>(vpair(map), x, vpair(map + of_other), y,
                                          kConstant ? vpair(map + constant) : none);
    store(out_h + j, r.h);
    if constexpr (kLow) store(out_l + j, r.l);
    before = mul_add(x.h, x.h, before);
    after = mul_add(r.h, r.h, after);
    start = vmax(start, vabs(x.h));
    end = vmax(end, vabs(r.h));
  }
  const Vec squares[2] = {before, after}, largest_of[2] = {start, end};
  for (int i = 0; i < 2; ++i) {
    double lanes[8];
    store(lanes, squares[i]);
    sums[2 * i] =
        ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    store(lanes, largest_of[i]);
    double most = 0.0;
    for (int k = 0; k < 8; ++k) most = lanes[k] > most ? lanes[k] : most;
    sizes[2 * i] = most;
  }
}
template <bool kLow, bool kConstant>
TP_TARGET static void mode_apply_as(const SingleArrays& s, long n, double* sums, double* sizes) {
  mode_apply_part<kLow, kConstant>(s.maps, 16, 48, s.q_h, s.q_l, s.p_h, s.p_l, s.q_out_h, s.q_out_l, n, sums,
                                   sizes);
  mode_apply_part<kLow, kConstant>(s.maps, 32, 64, s.p_h, s.p_l, s.q_h, s.q_l, s.p_out_h, s.p_out_l, n,
                                   sums + 1, sizes + 1);
}

TP_TARGET static void mode_apply(const SingleArrays& s, long n, double* sums, double* sizes) {
  if (s.q_l && s.constant)
    mode_apply_as<true, true>(s, n, sums, sizes);
  else if (s.q_l)
    mode_apply_as<true, false>(s, n, sums, sizes);
  else if (s.constant)
    mode_apply_as<false, true>(s, n, sums, sizes);
  else
    mode_apply_as<false, false>(s, n, sums, sizes);
}

TP_TARGET static double largest(const double* x, long n) {
  // Two chains: one would wait for its own sums.
  Vec most[2] = {zero(), zero()}, finite[2] = {zero(), zero()};
  const long whole = n / 16 * 16;
  for (long i = 0; i < whole; i += 16) {
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
      const Vec v = load(x + i + 8 * c);
      most[c] = vmax(most[c], vabs(v));
      finite[c] = add(finite[c], sub(v, v));
    }
  }
  double lanes[8], zeros[8], result = 0.0, all = 0.0;
  store(lanes, vmax(most[0], most[1]));
  store(zeros, add(finite[0], finite[1]));
  for (int k = 0; k < 8; ++k) {
    result = lanes[k] > result ? lanes[k] : result;
    all += zeros[k];
  }
  for (long i = whole; i < n; ++i) {
    const double size = x[i] < 0 ? -x[i] : x[i];
    result = size > result ? size : result;
    all += x[i] - x[i];
  }
  return result + all;
}
