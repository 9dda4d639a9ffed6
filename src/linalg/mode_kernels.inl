// Included once per instruction set by dd_kernels.cpp, after dd_kernels.inl: powers of modes and what they make of single
// coordinates, eight at a time. Angles in radians, see mode_powers.hpp for what is computed.

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

TP_INLINE Vec vneg(Vec a) { return sub(zero(), a); }

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
// Off by some 2^-105 (|a| + |b|), also where they cancel: what the angles and amplitudes here need.
TP_INLINE VecDD vadd(VecDD a, VecDD b) {
  const VecDD s = vtwo_sum(a.h, b.h);
  return vquick(s.h, add(s.l, add(a.l, b.l)));
}
TP_INLINE VecDD vadd(VecDD a, Vec b) {
  const VecDD s = vtwo_sum(a.h, b);
  return vquick(s.h, add(s.l, a.l));
}
// The same for |a| >= |b| or a = 0.
TP_INLINE VecDD vadd_less(VecDD a, VecDD b) {
  const VecDD s = vquick(a.h, b.h);
  return vquick(s.h, add(s.l, add(a.l, b.l)));
}
TP_INLINE VecDD vneg(VecDD a) { return {vneg(a.h), vneg(a.l)}; }
TP_INLINE VecDD vsub(VecDD a, VecDD b) { return vadd(a, vneg(b)); }
TP_INLINE VecDD vmul(VecDD a, VecDD b) {
  const Vec p = mul(a.h, b.h), e = mul_error(a.h, b.h, p);
  return vquick(p, add(e, mul_add(a.h, b.l, mul(a.l, b.h))));
}
TP_INLINE VecDD vmul(VecDD a, Vec b) {
  const Vec p = mul(a.h, b), e = mul_error(a.h, b, p);
  return vquick(p, mul_add(a.l, b, e));
}
TP_INLINE VecDD vproduct(Vec a, Vec b) {
  const Vec p = mul(a, b);
  return {p, mul_error(a, b, p)};
}
// By a power of two.
TP_INLINE VecDD vscale(VecDD a, double factor) {
  return {mul(a.h, broadcast(factor)), mul(a.l, broadcast(factor))};
}
// Of two doubles whose product is near c: c - a b, exact but for the low words.
TP_INLINE Vec vresidual(VecDD c, Vec a, Vec b) {
  const VecDD p = vproduct(a, b);
  return add(sub(sub(c.h, p.h), p.l), c.l);
}
TP_INLINE VecDD vdiv(VecDD a, VecDD b) {
  const Vec inverse = div(broadcast(1.0), b.h), q = mul(a.h, inverse);
  return vquick(q, mul(sub(vresidual(a, b.h, q), mul(b.l, q)), inverse));
}
TP_INLINE VecDD vroot(VecDD a) {
  const Vec y = root(a.h);
  return vquick(y, mul(vresidual(a, y, y), div(broadcast(0.5), y)));
}
TP_INLINE VecDD vnumber(double h, double l) { return {broadcast(h), broadcast(l)}; }
TP_INLINE VecDD vload(const double* h, const double* l) { return {load(h), l ? load(l) : zero()}; }
TP_INLINE void vstore(double* h, double* l, VecDD a) {
  store(h, a.h);
  store(l, a.l);
}

// Sines and cosines of the multiples of kModeAngle, by the low bits of `at` (an integer that was rounded by kVecRound).
TP_INLINE VecDD angle_sine(const double* table, Vec at) {
  return {pick(table, at), pick(table + kModeAngles, at)};
}
TP_INLINE VecDD angle_cosine(const double* table, Vec at) {
  return {pick(table + 2 * kModeAngles, at), pick(table + 3 * kModeAngles, at)};
}

// sum of c[k] x^k: the first `exact` in double-double, what they multiply in doubles.
TP_INLINE VecDD vseries(const double (*c)[2], int exact, int terms, VecDD x) {
  Vec tail = broadcast(c[terms - 1][0]);
  for (int k = terms - 2; k >= exact; --k) tail = mul_add(tail, x.h, broadcast(c[k][0]));
  VecDD sum{tail, zero()};
  for (int k = exact - 1; k >= 0; --k) sum = vadd_less(vnumber(c[k][0], c[k][1]), vmul(sum, x));
  return sum;
}

TP_INLINE void vsincos(const ModeTask& task, VecDD x, VecDD& sine, VecDD& cosine) {
  const Vec at = add(mul(x.h, broadcast(task.over_angle)), broadcast(kVecRound)),
            k = sub(at, broadcast(kVecRound));
  // x - k angle, the angle in three words.
  const VecDD first = vproduct(k, broadcast(task.angle[0])), second = vproduct(k, broadcast(task.angle[1]));
  const Vec rest = sub(sub(x.l, second.h), mul_add(k, broadcast(task.angle[2]), second.l));
  const VecDD r = vadd(vtwo_sum(sub(x.h, first.h), vneg(first.l)), rest);
  const VecDD r2 = vmul(r, r);
  const VecDD s = vadd_less(r, vmul(vmul(r, r2), vseries(task.sine_series, 3, 5, r2)));
  const VecDD less = vmul(r2, vseries(task.cosine_series, 3, 6, r2));  // cos r - 1
  const VecDD sk = angle_sine(task.table, at), ck = angle_cosine(task.table, at);
  sine = vadd_less(sk, vadd(vmul(sk, less), vmul(ck, s)));
  cosine = vadd_less(ck, vsub(vmul(ck, less), vmul(sk, s)));
}

// Of an angle up to pi / 4, from its sine and cosine.
TP_INLINE VecDD vangle(const ModeTask& task, VecDD s, VecDD c) {
  const Vec s2 = mul(s.h, s.h);
  Vec rough = broadcast(1155.0 / 13824);
  constexpr double kArcsine[] = {1.0, 1.0 / 6, 3.0 / 40, 5.0 / 112, 35.0 / 1152, 63.0 / 2816};
  for (int k = 5; k >= 0; --k) rough = mul_add(rough, s2, broadcast(kArcsine[k]));
  const Vec at = add(mul(mul(rough, s.h), broadcast(task.over_angle)), broadcast(kVecRound)),
            k = sub(at, broadcast(kVecRound));
  const VecDD t = vsub(vmul(s, angle_cosine(task.table, at)), vmul(c, angle_sine(task.table, at)));
  const VecDD t2 = vmul(t, t);
  const VecDD rest = vadd_less(t, vmul(vmul(t, t2), vseries(task.arcsine_series, 3, 8, t2)));
  return vadd(vmul(vnumber(task.angle[0], task.angle[1]), k), rest);
}

TP_TARGET static void mode_powers(const ModeTask& task, long first, long last, const double* lambda_h,
                                  const double* lambda_l, const ModeArrays& out, ModeExtremes& extremes) {
  const Vec one = broadcast(1.0), h = broadcast(task.h), count = broadcast(task.count_h);
  Vec phase = zero(), lowest = broadcast(extremes.lambda_min),
      highest = broadcast(extremes.lambda_max);
  for (long j = first; j < last; j += 8) {
    const VecDD lambda = vload(lambda_h + (j - first), lambda_l + (j - first));
    VecDD half, half_sine, half_cosine, b, c, curve;  // theta / 2, of the step map, sigma / z
    Vec slope = broadcast(0.25);
    if (task.form == ModeForm::kFlow) {
      half_sine = vroot(lambda);
      half = vmul(vmul(half_sine, vabs(h)), broadcast(0.5));
      half_cosine = vnumber(1.0, 0.0);
      b = c = half_cosine;
      curve = vnumber(0.25, 0.0);
    } else {
      const VecDD z = vmul(vmul(lambda, h), h);
      if (task.form == ModeForm::kMidpoint) {
        const VecDD inverse = vdiv(vnumber(1.0, 0.0), vadd(vscale(z, 0.25), one));
        b = c = inverse;
        curve = vscale(inverse, 0.25);
        half_cosine = vroot(inverse);
        slope = mul(mul(inverse.h, inverse.h), broadcast(0.25));
      } else {
        VecDD a = vnumber(0.0, 0.0), d = a;
        b = c = a;
        Vec da = zero(), db = zero(), dc = zero(), dd = zero();  // by z
        for (int s = 0; s < task.substeps; ++s) {
          const Vec w = broadcast(task.weight[s]);
          if (task.is_kick[s]) {
            dc = mul_add(w, mul_add(z.h, da, a.h), dc);
            dd = sub(dd, mul(w, db));
            const VecDD kick = s == 0 ? VecDD{w, zero()} : vmul(vadd(vmul(z, a), one), w);
            c = vadd(kick, c);
            d = vsub(d, vmul(b, w));
          } else {
            da = sub(da, mul(w, dc));
            db = mul_add(w, mul_add(z.h, dd, d.h), db);
            a = vsub(a, vmul(c, w));
            b = vadd(vmul(vadd(vmul(z, d), one), w), b);
          }
        }
        curve = vscale(vadd(a, d), -0.25);
        half_cosine = vroot(vadd(vneg(vmul(z, curve)), one));
        slope = sub(curve.h, mul(mul(z.h, broadcast(0.25)), add(da, dd)));
      }
      half_sine = vroot(vmul(z, curve));
      half = vangle(task, half_sine, half_cosine);
    }
    const VecDD angle = vmul(half, vnumber(task.count_h, task.count_l));
    VecDD sine, cosine;
    vsincos(task, angle, sine, cosine);
    const VecDD s2 = vmul(sine, sine);
    const VecDD t = vadd(vscale(vneg(s2), 2.0), one);
    // U_{N-1} h; of a flow, sin(omega t) / omega.
    VecDD u = vdiv(vmul(sine, cosine), vmul(half_sine, half_cosine));
    u = task.form == ModeForm::kFlow ? vscale(u, task.h < 0 ? -2.0 : 2.0) : vmul(u, h);
    const VecDD top = vmul(b, u), bottom = vmul(c, u);
    vstore(out.t_h + j, out.t_l + j, t);
    vstore(out.b_h + j, out.b_l + j, top);
    vstore(out.a1_h + j, out.a1_l + j, bottom);
    // As ModeBound. `sine` of the bounds is sqrt(sigma), which for a flow is theta / 2.
    const Vec size = task.form == ModeForm::kFlow ? half.h : half_sine.h,
              over = div(one, half_cosine.h), slant = vmin(over, vmax(count, one)), under = div(one, size);
    const Vec u_n = vmin(count, mul(mul(broadcast(0.5), slant), under));
    store(out.lever + j, mul(mul(vabs(h), vmax(vabs(b.h), vabs(c.h))), u_n));
    const Vec turn = mul(mul(mul(broadcast(2.0), count), size), slant), unit = broadcast(task.rounding);
    store(out.rounding + j, mul(unit, add(broadcast(8.0), turn)));
    if (out.a2_h) {
      vstore(out.a2_h + j, out.a2_l + j, vdiv(vscale(s2, 2.0), lambda));
      const Vec h2 = mul(h, h);
      store(out.lever2 + j, mul(mul(mul(broadcast(2.0), h2), vabs(curve.h)),
                                vmin(mul(count, count), mul(under, under))));
    }
    // Which keep to the formulas: an angle theta / 2 between 0 and pi / 4 (of a flow, any), an N theta / 2 that its reduction
    // can hold, nothing near the ends of the range.
    double half_angle[8], turned[8];
    store(half_angle, size);
    store(turned, angle.h);
    const double steepest = task.form == ModeForm::kFlow ? kModeMaxAngle : 0.7;
    bool regular = true;
    for (int k = 0; k < 8; ++k)
      regular = regular && half_angle[k] > kModeMinSine && half_angle[k] <= steepest && turned[k] < kModeMaxAngle &&
                lambda_h[j - first + k] > kModeTiny;
    out.regular[j / 8] = regular;
    if (!regular) continue;
    const Vec gain = vmax(vabs(curve.h), vabs(slope)), lever = vmin(under, add(count, count));
    const Vec moved = mul(mul(mul(mul(count, mul(h, h)), mul(vabs(lambda.h), broadcast(0x1p-104))), gain),
                          mul(lever, slant));
    phase = vmax(phase, add(moved, mul(turn, unit)));
    lowest = vmin(lowest, lambda.h);
    highest = vmax(highest, lambda.h);
  }
  double most[8], high[8], low[8];
  store(most, phase);
  store(high, highest);
  store(low, lowest);
  for (int k = 0; k < 8; ++k) {
    if (most[k] > extremes.phase) extremes.phase = most[k];
    if (high[k] > extremes.lambda_max) extremes.lambda_max = high[k];
    if (low[k] < extremes.lambda_min) extremes.lambda_min = low[k];
  }
}

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
