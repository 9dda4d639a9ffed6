#include "linalg/affine_power.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "linalg/balanced.hpp"

namespace tinyphys {

namespace {

std::size_t u(long i) { return static_cast<std::size_t>(i); }

// Beyond this, powers continue with an exponent per entry.
constexpr double kWideThreshold = 0x1p300;
constexpr std::int64_t kExponentLimit = std::int64_t{1} << 60;
// A power this small is better held as itself than as its difference from the identity.
constexpr double kDecayed = 0x1p-10;

double max_entry(const DDMatrix& m, long cols) {
  double max = 0.0;
  for (long i = 0; i < m.rows; ++i) {
    for (long j = 0; j < cols; ++j) {
      const double x = std::fabs(m.at(i, j).hi);
      if (!(x <= max)) max = x;
    }
  }
  return max;
}

// X Y entry by entry in double-double dot products: unlike slices, small entries beside large ones keep their
// digits (positions and velocities rarely share units). x is d x d (of d x (d + 1) storage), y is d x (d +
// 1).
DDMatrix dot_product(const DDMatrix& x, const DDMatrix& y) {
  const long d = x.rows, cols = y.cols;
  std::vector<DD> columns(u(d * cols)), result(u(d * cols));
  for (long i = 0; i < d; ++i) {
    for (long j = 0; j < cols; ++j) columns[u(j * d + i)] = y.at(i, j);
  }
  DDView view = x.view();
  view.cols = d;
  matvec(view, columns.data(), cols, result.data());
  DDMatrix z(d, cols);
  for (long i = 0; i < d; ++i) {
    for (long j = 0; j < cols; ++j) z.set(i, j, result[u(j * d + i)]);
  }
  return z;
}

// The map x after the map y. In A - I form: X + Y + X Y; the shift column follows the same rule. In plain
// form: X Y, and the shift of x on top.
DDMatrix compose(const DDMatrix& x, const DDMatrix& y, bool minus_identity) {
  DDMatrix z = dot_product(x, y);
  const long d = x.rows;
  for (long i = 0; i < d; ++i) {
    if (minus_identity) {
      for (long j = 0; j <= d; ++j) z.set(i, j, z.at(i, j) + (x.at(i, j) + y.at(i, j)));
    } else {
      z.set(i, d, z.at(i, d) + x.at(i, d));
    }
  }
  return z;
}

WideDD normalised(DD value, std::int64_t exponent) {
  if (value.hi == 0.0) return {};
  int e;
  (void)std::frexp(value.hi, &e);
  return {ldexp(value, -e), std::clamp(exponent + e, -kExponentLimit, kExponentLimit)};
}

WideDD add(const WideDD& a, const WideDD& b) {
  if (a.value.hi == 0.0) return b;
  if (b.value.hi == 0.0) return a;
  const bool swap = a.exponent < b.exponent;
  const WideDD& large = swap ? b : a;
  const WideDD& small = swap ? a : b;
  const std::int64_t shift = large.exponent - small.exponent;
  if (shift > 220) return large;
  return normalised(large.value + ldexp(small.value, -static_cast<int>(shift)), large.exponent);
}

WideDD multiply(const WideDD& a, const WideDD& b) {
  return normalised(a.value * b.value, a.exponent + b.exponent);
}

DD narrow(const WideDD& a) {
  return ldexp(a.value, static_cast<int>(std::clamp<std::int64_t>(a.exponent, -5000, 5000)));
}

std::vector<WideDD> widen(const DDMatrix& m) {
  std::vector<WideDD> w(m.hi.size());
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = normalised(DD(m.hi[i], m.lo[i]), 0);
  return w;
}

// In A - I form.
std::vector<WideDD> compose(const std::vector<WideDD>& x, const std::vector<WideDD>& y, long d) {
  std::vector<WideDD> z(x.size());
  for (long i = 0; i < d; ++i) {
    for (long j = 0; j <= d; ++j) {
      WideDD sum = add(x[u(i * (d + 1) + j)], y[u(i * (d + 1) + j)]);
      for (long k = 0; k < d; ++k) sum = add(sum, multiply(x[u(i * (d + 1) + k)], y[u(k * (d + 1) + j)]));
      z[u(i * (d + 1) + j)] = sum;
    }
  }
  return z;
}

// A power as it is held, X (A^k, or A^k - I) and its shift; their norms (largest row sum of |X|, largest entry of the
// shift), and bounds of how far they are from those of the exact power. In scaled coordinates 2^scale[i] z[i].
struct Bounds {
  Log2 norm, error, shift, shift_error;
};

template <class At> Bounds norms(const std::vector<double>& scale, const At& at) {
  const auto d = static_cast<long>(scale.size());
  Bounds b;
  for (long i = 0; i < d; ++i) {
    Log2 row;
    for (long j = 0; j < d; ++j) row = row + at(i, j) * Log2{scale[u(i)] - scale[u(j)]};
    b.norm.log2 = std::max(b.norm.log2, row.log2);
    b.shift.log2 = std::max(b.shift.log2, (at(i, d) * Log2{scale[u(i)]}).log2);
  }
  return b;
}
Bounds norms(const DDMatrix& m, const std::vector<double>& scale) {
  return norms(scale, [&](long i, long j) { return Log2::of(std::fabs(m.at(i, j).hi)); });
}
Bounds norms(const std::vector<WideDD>& m, const std::vector<double>& scale) {
  const auto d = static_cast<long>(scale.size());
  return norms(scale, [&](long i, long j) {
    const WideDD& x = m[u(i * (d + 1) + j)];
    return Log2{std::log2(std::fabs(x.value.hi)) + static_cast<double>(x.exponent)};
  });
}

// Of X after Y, whose norms are those of `z`: what X and Y are off by, and the rounding of the product.
Bounds product_bounds(const Bounds& x, const Bounds& y, Bounds z, long d, bool minus_identity) {
  const Log2 rounding = Log2::of(static_cast<double>(d + 4) * 0x1p-103);
  z.error = x.norm * y.error + x.error * y.norm + x.error * y.error + rounding * x.norm * y.norm;
  if (minus_identity) z.error = z.error + x.error + y.error + rounding * (x.norm + y.norm);
  z.shift_error = x.shift_error + x.norm * y.shift_error + x.error * (y.shift + y.shift_error) +
                  rounding * (x.norm * y.shift + x.shift + y.shift);
  if (minus_identity) z.shift_error = z.shift_error + y.shift_error;
  return z;
}

struct Power {
  DDMatrix narrow;
  std::vector<WideDD> wide;
  Bounds bounds;
  Log2 peak = Log2::of(1.0), shift_peak;  // the largest norm of A^k met on the way, and of its shift
};

double log2_entry(const DDMatrix& m, long cols) { return std::log2(max_entry(m, cols)); }
double log2_entry(const std::vector<WideDD>& m, long d) {
  double most = -std::numeric_limits<double>::infinity();
  for (long i = 0; i < d; ++i)
    for (long j = 0; j < d; ++j)
      if (const WideDD& x = m[u(i * (d + 1) + j)]; x.value.hi != 0.0)
        most = std::max(most, static_cast<double>(x.exponent));
  return most;
}

// base^steps by squaring, steps >= 1; narrow until an entry passes the threshold.
Power raise(DDMatrix base, Bounds bounds, const std::vector<double>& scale, std::int64_t steps,
            bool minus_identity) {
  const long d = base.rows;
  Power result;
  bool started = false;
  std::vector<WideDD> wide_base;
  const auto too_large = [&](const DDMatrix& m) { return !(max_entry(m, d + 1) < kWideThreshold); };
  // The next product must not overflow before it is looked at.
  const auto widen_if_needed = [&] {
    if (!wide_base.empty() || (!too_large(base) && !(started && too_large(result.narrow)))) return;
    wide_base = widen(base);
    if (started) result.wide = widen(result.narrow);
  };
  const auto saw = [&](const Bounds& b) {
    const Log2 of_power = minus_identity ? b.norm + Log2::of(1.0) : b.norm;
    result.peak.log2 = std::max(result.peak.log2, of_power.log2);
    result.shift_peak.log2 = std::max(result.shift_peak.log2, b.shift.log2);
  };
  saw(bounds);
  for (std::int64_t rest = steps;;) {
    widen_if_needed();
    const bool wide = !wide_base.empty();
    if ((rest & 1) != 0) {
      if (wide) {
        result.wide = started ? compose(result.wide, wide_base, d) : wide_base;
      } else {
        result.narrow = started ? compose(result.narrow, base, minus_identity) : base;
      }
      const Bounds size = wide ? norms(result.wide, scale) : norms(result.narrow, scale);
      result.bounds = started ? product_bounds(result.bounds, bounds, size, d, minus_identity) : bounds;
      saw(result.bounds);
      started = true;
    }
    rest >>= 1;
    if (rest == 0) break;
    if (wide)
      wide_base = compose(wide_base, wide_base, d);
    else
      base = compose(base, base, minus_identity);
    const Bounds size = wide ? norms(wide_base, scale) : norms(base, scale);
    bounds = product_bounds(bounds, bounds, size, d, minus_identity);
    saw(bounds);
  }
  return result;
}

DDMatrix augmented(const AffineMap& map) {
  DDMatrix m(map.d, map.d + 1);
  for (long i = 0; i < map.d; ++i) {
    for (long j = 0; j < map.d; ++j) m.set(i, j, map.b.at(i, j));
    m.set(i, map.d, map.shift[u(i)]);
  }
  return m;
}

bool all_finite(const DDMatrix& m) {
  return std::all_of(m.hi.begin(), m.hi.end(), [](double x) { return std::isfinite(x); });
}

AffineMap from_augmented(const DDMatrix& m) {
  AffineMap map;
  map.d = m.rows;
  map.b = DDMatrix(map.d, map.d);
  map.shift.resize(u(map.d));
  for (long i = 0; i < map.d; ++i) {
    for (long j = 0; j < map.d; ++j) map.b.set(i, j, m.at(i, j));
    map.shift[u(i)] = m.at(i, map.d);
  }
  return map;
}

std::string check_generator(const DDMatrix& g_matrix, std::span<const DD> g, double h) {
  const long d = g_matrix.rows;
  if (g_matrix.cols != d || (!g.empty() && g.size() != u(d))) return "sizes of G and g differ";
  if (!std::isfinite(h)) return "step size is not finite";
  if (!all_finite(g_matrix)) return "non-finite matrix entry";
  for (const DD x : g) {
    if (!isfinite(x)) return "non-finite entry in g";
  }
  return {};
}

// [h G, h g], each rounded once.
DDMatrix scaled_generator(const DDMatrix& g_matrix, std::span<const DD> g, double h) {
  const long d = g_matrix.rows;
  DDMatrix m(d, d + 1);
  for (long i = 0; i < d; ++i) {
    for (long j = 0; j < d; ++j) m.set(i, j, g_matrix.at(i, j) * h);
    if (!g.empty()) m.set(i, d, g[u(i)] * h);
  }
  return m;
}

}  // namespace

AffinePower affine_power(const AffineMap& map, std::int64_t steps) {
  AffinePower p;
  p.d_ = map.d;
  if (!map.reason.empty()) return p.reason_ = map.reason, p;
  if (map.d > AffinePower::kMaxOrder) {
    return p.reason_ = "order " + std::to_string(map.d) + " exceeds the limit of powering (" +
                       std::to_string(AffinePower::kMaxOrder) + ")",
           p;
  }
  if (map.b.rows != map.d || map.b.cols != map.d || map.shift.size() != u(map.d))
    return p.reason_ = "sizes of B and b differ", p;
  if (steps < 0) return p.reason_ = "negative number of steps", p;
  const DDMatrix base = augmented(map);
  if (!all_finite(base)) return p.reason_ = "non-finite matrix entry", p;
  if (steps == 0) {
    p.identity_ = true;
    return p;
  }
  p.scale_ = balance(map, steps);
  Bounds start = norms(base, p.scale_);
  start.error = Log2::of(map.relative_error) * (start.norm + Log2::of(1.0));
  start.shift_error = Log2::of(map.relative_error) * start.shift;
  const auto keep_bounds = [&](const Power& power) {
    // Step k's error is carried on by the powers before and after it: at most N errors times the largest power squared,
    // with room for powers between those that were met.
    constexpr double kRoom = 16;
    const Log2 rounding = Log2::of(kRoom * static_cast<double>(steps) *
                                   (static_cast<double>(map.d + 4) * 0x1p-103 + map.relative_error)) *
                          power.peak * power.peak;
    // What becomes smaller than any double on the way: a multiple of the smallest in each of at most 128 products.
    double low = 0, high = 0;
    for (const double s : p.scale_) {
      low = std::min(low, s);
      high = std::max(high, s);
    }
    const Log2 lost = power.wide.empty()
                          ? Log2{std::log2(128.0 * static_cast<double>(map.d + 4)) - 1074.0 + (high - low)} *
                                power.peak * power.peak
                          : Log2();
    p.log2_error_ = (Log2{std::min(power.bounds.error.log2, rounding.log2)} + lost).log2;
    p.log2_shift_error_ =
        (Log2{std::min(power.bounds.shift_error.log2, (rounding * power.shift_peak).log2)} + lost).log2;
  };
  Power power = raise(base, start, p.scale_, steps, true);
  keep_bounds(power);
  if (!power.wide.empty()) {
    p.log2_size_ = log2_entry(power.wide, map.d);
    p.wide_ = std::move(power.wide);
    return p;
  }
  // Decayed: A^N - I no longer shows the digits of A^N; power A itself.
  DDMatrix plain = power.narrow;
  for (long i = 0; i < map.d; ++i) plain.set(i, i, plain.at(i, i) + 1.0);
  p.log2_size_ = log2_entry(plain, map.d);
  if (max_entry(plain, map.d) < kDecayed) {
    DDMatrix a = base;
    for (long i = 0; i < map.d; ++i) a.set(i, i, a.at(i, i) + 1.0);
    Bounds of_a = norms(a, p.scale_);
    of_a.error = start.error + Log2::of(0x1p-104) * of_a.norm;
    of_a.shift_error = start.shift_error;
    Power decayed = raise(std::move(a), of_a, p.scale_, steps, false);
    if (decayed.wide.empty()) {
      keep_bounds(decayed);
      p.log2_size_ = log2_entry(decayed.narrow, map.d);
      p.power_ = std::move(decayed.narrow);
      p.minus_identity_ = false;
      return p;
    }
  }
  p.power_ = std::move(power.narrow);
  return p;
}

double AffinePower::error_bounds(const double* z, const double* out, double* bounds) const {
  std::fill_n(bounds, d_, 0.0);
  if (identity_) return 0.0;
  const auto size = [&](const double* x) {
    Log2 most;
    for (long i = 0; i < d_; ++i)
      most.log2 = std::max(most.log2, (Log2::of(std::fabs(x[i])) * Log2{scale_[u(i)]}).log2);
    return most;
  };
  const Log2 bound = Log2{log2_error_} * size(z) + Log2{log2_shift_error_};
  for (long i = 0; i < d_; ++i) bounds[i] = std::exp2(bound.log2 - scale_[u(i)]);
  return std::isfinite(bound.log2) ? std::exp2(bound.log2 - size(out).log2) : 0.0;
}

void AffinePower::apply(const DD* z, DD* out) const {
  const std::vector<DD> in(z, z + d_);
  if (identity_) {
    std::copy(in.begin(), in.end(), out);
    return;
  }
  const bool finite = std::all_of(in.begin(), in.end(), [](DD x) { return isfinite(x); });
  const bool moderate = std::all_of(in.begin(), in.end(), [](DD x) { return std::fabs(x.hi) < 0x1p300; });
  if (wide_.empty() && (moderate || !finite)) {
    DDView view = power_.view();
    view.cols = d_;
    std::vector<DD> sum(u(d_));
    matvec(view, in.data(), 1, sum.data());
    for (long i = 0; i < d_; ++i) {
      const DD total = sum[u(i)] + power_.at(i, d_);
      out[i] = minus_identity_ ? in[u(i)] + total : total;
    }
    return;
  }
  const std::vector<WideDD> power = wide_.empty() ? widen(power_) : wide_;
  for (long i = 0; i < d_; ++i) {
    if (!finite) {
      out[i] = std::nan("");
      continue;
    }
    WideDD sum = power[u(i * (d_ + 1) + d_)];
    if (minus_identity_) sum = add(sum, normalised(in[u(i)], 0));
    for (long j = 0; j < d_; ++j)
      sum = add(sum, multiply(power[u(i * (d_ + 1) + j)], normalised(in[u(j)], 0)));
    out[i] = narrow(sum);
  }
}

void AffinePower::apply(const double* z, double* out) const {
  // Many small systems: without an allocation.
  constexpr long kSmall = 8;
  if (!identity_ && wide_.empty() && d_ <= kSmall &&
      std::all_of(z, z + d_, [](double x) { return std::fabs(x) < 0x1p300; })) {
    double result[kSmall];
    for (long i = 0; i < d_; ++i) {
      DD sum = power_.at(i, d_);
      for (long j = 0; j < d_; ++j) sum = sum + power_.at(i, j) * z[j];
      result[i] = minus_identity_ ? (sum + z[i]).hi : sum.hi;
    }
    std::copy_n(result, d_, out);
    return;
  }
  std::vector<DD> in(z, z + d_);
  if (identity_) {
    std::copy_n(z, d_, out);
    return;
  }
  apply(in.data(), in.data());
  for (long i = 0; i < d_; ++i) out[i] = in[u(i)].hi;
}

AffineMap compose(const AffineMap& after, const AffineMap& before) {
  if (!after.reason.empty()) return after;
  if (!before.reason.empty()) return before;
  AffineMap map = from_augmented(compose(augmented(after), augmented(before), true));
  map.mixes_rows = after.mixes_rows || before.mixes_rows;
  return map;
}

AffineMap partial_step(const DDMatrix& g_matrix, std::span<const DD> g, double h, long first, long n) {
  AffineMap map;
  map.reason = check_generator(g_matrix, g, h);
  if (!map.reason.empty()) return map;
  DDMatrix m = scaled_generator(g_matrix, g, h);
  for (long i = 0; i < m.rows; ++i)
    for (long j = 0; j < m.cols && (i < first || i >= first + n); ++j) m.set(i, j, DD(0.0));
  if (!all_finite(m)) return map.reason = "h G exceeds the range of doubles", map;
  return from_augmented(m);
}

AffineMap exact_step(const DDMatrix& g_matrix, std::span<const DD> g, double h) {
  AffineMap map;
  map.reason = check_generator(g_matrix, g, h);
  if (!map.reason.empty()) return map;
  const long d = g_matrix.rows;
  DDMatrix m = scaled_generator(g_matrix, g, h);
  // The row sums of h G alone decide the scaling: the shift enters linearly.
  double norm = 0.0;
  for (long i = 0; i < d; ++i) {
    double row = 0.0;
    for (long j = 0; j < d; ++j) row += std::fabs(m.at(i, j).hi);
    norm = std::max(norm, row);
  }
  if (!std::isfinite(norm) || !all_finite(m)) return map.reason = "h G exceeds the range of doubles", map;
  int halvings = 0;
  for (; norm > 0.25; norm *= 0.5) ++halvings;
  for (std::size_t i = 0; i < m.hi.size(); ++i) {
    const DD x = ldexp(DD(m.hi[i], m.lo[i]), -halvings);
    m.hi[i] = x.hi;
    m.lo[i] = x.lo;
  }
  // expm1(M) z + phi1(M) b: Horner on E <- M (1 + E) / k from k = 21 (0.25^22 / 22! = 5e-35) down; the shift
  // column of M M^k is M^k b / (k + 1)!, which the same recursion delivers when the column of E stands for
  // sum M^(j-1) b / j!.
  constexpr int kTerms = 21;
  DDMatrix e(d, d + 1);
  for (int k = kTerms; k >= 1; --k) {
    DDMatrix next = dot_product(m, e);
    const double divisor = static_cast<double>(k);
    for (long i = 0; i < d; ++i) {
      for (long j = 0; j <= d; ++j) next.set(i, j, (m.at(i, j) + next.at(i, j)) / divisor);
    }
    e = std::move(next);
  }
  for (int k = 0; k < halvings; ++k) e = compose(e, e, true);
  if (!all_finite(e)) return map.reason = "exp(h G) exceeds the range of doubles", map;
  return from_augmented(e);
}

AffineMap midpoint_step(const DDMatrix& g_matrix, std::span<const DD> g, double h) {
  AffineMap map;
  map.reason = check_generator(g_matrix, g, h);
  if (!map.reason.empty()) return map;
  const long d = g_matrix.rows;
  DDMatrix rhs = scaled_generator(g_matrix, g, h);
  if (!all_finite(rhs)) return map.reason = "h G exceeds the range of doubles", map;
  DDMatrix a(d, d);
  std::vector<double> scale(u(d), 0.0);
  for (long i = 0; i < d; ++i) {
    for (long j = 0; j < d; ++j) {
      a.set(i, j, (i == j ? DD(1.0) : DD(0.0)) - ldexp(rhs.at(i, j), -1));
      scale[u(i)] = std::max(scale[u(i)], std::fabs(a.at(i, j).hi));
    }
    if (scale[u(i)] == 0.0) return map.reason = "the implicit midpoint step is singular", map;
  }
  const auto swap_rows = [](DDMatrix& m, long i, long j) {
    for (long c = 0; c < m.cols; ++c) {
      const DD t = m.at(i, c);
      m.set(i, c, m.at(j, c));
      m.set(j, c, t);
    }
  };
  for (long c = 0; c < d; ++c) {
    long best = c;
    for (long i = c + 1; i < d; ++i) {
      // Rows measured against their own size: units differ.
      if (std::fabs(a.at(i, c).hi) / scale[u(i)] > std::fabs(a.at(best, c).hi) / scale[u(best)]) best = i;
    }
    if (!(std::fabs(a.at(best, c).hi) > 0x1p-98 * scale[u(best)]))
      return map.reason = "the implicit midpoint step is singular", map;
    if (best != c) {
      swap_rows(a, best, c);
      swap_rows(rhs, best, c);
      std::swap(scale[u(best)], scale[u(c)]);
    }
    const DD inverse = 1.0 / a.at(c, c);
    for (long i = c + 1; i < d; ++i) {
      const DD f = a.at(i, c) * inverse;
      if (f.hi == 0.0) continue;
      for (long j = c + 1; j < d; ++j) a.set(i, j, a.at(i, j) - f * a.at(c, j));
      for (long j = 0; j <= d; ++j) rhs.set(i, j, rhs.at(i, j) - f * rhs.at(c, j));
    }
  }
  for (long i = d - 1; i >= 0; --i) {
    for (long k = i + 1; k < d; ++k) {
      const DD f = a.at(i, k);
      if (f.hi == 0.0) continue;
      for (long j = 0; j <= d; ++j) rhs.set(i, j, rhs.at(i, j) - f * rhs.at(k, j));
    }
    for (long j = 0; j <= d; ++j) rhs.set(i, j, rhs.at(i, j) / a.at(i, i));
  }
  map = from_augmented(rhs);
  map.mixes_rows = true;
  return map;
}

}  // namespace tinyphys
