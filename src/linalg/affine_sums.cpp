#include "linalg/affine_sums.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tinyphys {

namespace {

std::size_t u(long i) { return static_cast<std::size_t>(i); }

// Of powers: the product of two, and of the state, stays a double.
constexpr double kMostGrowth = 1e120;
// A flow's first piece turns by at most this, and its series leave 2^-110 of it.
constexpr double kPiece = 0.25;
constexpr int kSeriesTerms = 22;
// Error bounds have room for powers between those that were met.
constexpr double kRoom = 16;
// What underflow may lose.
constexpr double kUnderflow = 0x1p-960;

DDMatrix matrix_of(const DD* x, long rows, long cols) {
  DDMatrix m(rows, cols);
  for (long i = 0; i < rows; ++i)
    for (long j = 0; j < cols; ++j) m.set(i, j, x[i * cols + j]);
  return m;
}

// out += X Y: n x k, k x m. Entry by entry: small ones beside large ones keep their digits.
void add_product(long n, long k, long m, const DDEntries& x, const DDEntries& y, DDEntries& out) {
  constexpr long kSmall = 1 << 10;
  if (n == 1 || m == 1 || n * k * m <= kSmall) {
    for (long i = 0; i < n; ++i)
      for (long l = 0; l < k; ++l) {
        const DD factor = x[u(i * k + l)];
        for (long j = 0; j < m; ++j) out[u(i * m + j)] += factor * y[u(l * m + j)];
      }
    return;
  }
  DDEntries product(u(n * m));
  matvec_transposed(matrix_of(y.data(), k, m).view(), x.data(), n, product.data());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] += product[i];
}

double largest(const DDEntries& x) {
  double most = 0.0;
  for (const DD& v : x) most = std::fabs(v.hi) <= most ? most : std::fabs(v.hi);  // NaN stays
  return most;
}

// The largest row sum, in the balanced units of the rows and of the columns; null: 1.
Log2 norm(const DDEntries& x, const StepPowers* of_rows, const StepPowers* of_cols) {
  const long rows = of_rows ? of_rows->d : 1, cols = of_cols ? of_cols->d : 1;
  Log2 most;
  if ((!of_rows || !of_rows->unit.empty()) && (!of_cols || !of_cols->unit.empty())) {
    double largest_row = 0.0;
    for (long i = 0; i < rows; ++i) {
      double row = 0.0;
      for (long j = 0; j < cols; ++j)
        row += std::fabs(x[u(i * cols + j)].hi) / (of_cols ? of_cols->unit[u(j)] : 1.0);
      row *= of_rows ? of_rows->unit[u(i)] : 1.0;
      largest_row = row <= largest_row ? largest_row : row;
    }
    most = Log2::of(largest_row);
    // What underflows has no size here.
    return most.log2 > -900.0 || largest(x) == 0.0 ? most : Log2{-900.0};
  }
  for (long i = 0; i < rows; ++i) {
    Log2 row;
    for (long j = 0; j < cols; ++j)
      if (const double v = std::fabs(x[u(i * cols + j)].hi); v != 0.0)
        row = row + Log2{std::log2(v) + (of_rows ? of_rows->scale[u(i)] : 0.0) -
                         (of_cols ? of_cols->scale[u(j)] : 0.0)};
    most.log2 = std::max(most.log2, row.log2);
  }
  return most;
}

// The units in which the map of a step is balanced.
void find_units(StepPowers& p, const AffineMap& step, std::int64_t steps) {
  p.scale = balance(step, steps);
  constexpr double kModerate = 100.0;
  if (std::ranges::all_of(p.scale, [](double s) { return std::fabs(s) <= kModerate; }))
    for (const double s : p.scale) p.unit.push_back(std::exp2(s));
}

DDEntries entries_of(const DDMatrix& m) {
  DDEntries x;
  for (std::size_t i = 0; i < m.hi.size(); ++i) x.push_back(DD(m.hi[i], m.lo[i]));
  return x;
}
DDEntries plus_identity(const DDMatrix& m) {
  DDEntries x = entries_of(m);
  for (long i = 0; i < m.rows; ++i) x[u(i * m.rows + i)] += 1.0;
  return x;
}

// How far A z - z of a map is from 0, and a bound of how far that may be off.
DDEntries moved(const AffineMap& map, const double* z, const StepPowers& of, Log2& error) {
  DDEntries out = map.shift;
  for (long i = 0; i < map.d; ++i) {
    Log2 sum = Log2::of(std::fabs(out[u(i)].hi));
    for (long j = 0; j < map.d; ++j) {
      const DD term = map.b.at(i, j) * z[j];
      out[u(i)] += term;
      sum = sum + Log2::of(std::fabs(term.hi));
    }
    error.log2 = std::max(error.log2, (sum * Log2::of(of.rounding) * Log2{of.scale[u(i)]}).log2);
  }
  return out;
}

// The powers for doublings, each followed by one more step where `odd` says so.
void raise(StepPowers& p, DDEntries power, const std::vector<char>& odd, Log2 error) {
  const long d = p.d;
  const DDEntries first = power;
  const Log2 rounding = Log2::of(static_cast<double>(d + 4) * 0x1p-103);
  const auto norm_of = [&](const DDEntries& x) { return norm(x, &p, &p); };
  const Log2 first_norm = norm_of(first), first_error = error;
  p.step_norm = first_norm;
  p.step_error = first_error;
  double m = 1;
  const auto saw = [&](const Log2& size) {
    p.peak.log2 = std::max(p.peak.log2, size.log2);
    // Or m errors of a step, each carried on by powers as large as the largest.
    error.log2 = std::min(error.log2, (Log2::of(kRoom * m * p.rounding) * p.peak * p.peak).log2);
  };
  Log2 size = first_norm;
  p.peak.log2 = std::max(p.peak.log2, size.log2);
  for (const char more : odd) {
    if (!(largest(power) < kMostGrowth)) break;
    p.levels.push_back({power, more != 0, size, error});
    DDEntries next(power.size());
    add_product(d, d, d, power, power, next);
    error = size * error + size * error + error * error + rounding * size * size;
    m *= 2;
    power = std::move(next);
    size = norm_of(power);
    saw(size);
    if (more) {
      next.assign(power.size(), 0.0);
      add_product(d, d, d, power, first, next);
      error = size * first_error + error * first_norm + error * first_error + rounding * size * first_norm;
      m += 1;
      power = std::move(next);
      size = norm_of(power);
      saw(size);
    }
  }
  if (!(largest(power) < kMostGrowth)) p.reason = "the motion grows too far for the sums of its gradient";
}

double row_sum(const DDMatrix& m) {
  double most = 0.0;
  for (long i = 0; i < m.rows; ++i) {
    double row = 0.0;
    for (long j = 0; j < m.cols; ++j) row += std::fabs(m.at(i, j).hi);
    most = std::max(most, row);
  }
  return most;
}

// value of this step's sums, and how far it may be off, in balanced units.
struct Tracked {
  DDEntries value;
  Log2 error;
};

int exponent_of(double most) { return most > 0.0 && std::isfinite(most) ? std::ilogb(most) : 0; }

void scale_by(DDEntries& x, int exponent) {
  for (DD& v : x) v = ldexp(v, exponent);
}

}  // namespace

StepPowers step_powers(const AffineMap& step, std::int64_t steps) {
  StepPowers p;
  p.d = step.d;
  if (!step.reason.empty()) return p.reason = step.reason, p;
  p.motion = step;
  p.rounding = static_cast<double>(p.d + 4) * 0x1p-103 + step.relative_error;
  find_units(p, step, steps);
  p.step = plus_identity(step.b);
  if (!std::isfinite(largest(p.step)) || !std::isfinite(largest(step.shift)))
    return p.reason = "non-finite matrix entry", p;
  std::vector<char> odd;
  for (std::int64_t bits = steps; bits > 1; bits /= 2) odd.push_back(bits % 2 != 0);
  std::reverse(odd.begin(), odd.end());
  const Log2 error = Log2::of(p.rounding) * (norm(p.step, &p, &p) + Log2::of(1.0));
  raise(p, p.step, odd, error);
  return p;
}

int doublings_of(const DDMatrix& g_matrix, double h, std::int64_t steps) {
  const double angle = row_sum(g_matrix) * std::fabs(h) * static_cast<double>(steps);
  return angle > kPiece && std::isfinite(angle) ? std::ilogb(angle / kPiece) + 1 : 0;
}

StepPowers flow_powers(const DDMatrix& g_matrix, std::span<const DD> g, double h, std::int64_t steps,
                       int doublings) {
  StepPowers p;
  p.d = g_matrix.rows;
  constexpr int kMostDoublings = 100;
  if (doublings > kMostDoublings) return p.reason = "the motion turns too often in the time of the jump", p;
  // One piece is tau of the flow; the rows of G and g together.
  const DD tau = ldexp(DD(steps) * h, -doublings);
  p.piece = std::ldexp(static_cast<double>(steps), -doublings);
  DDMatrix scaled = g_matrix;
  DDEntries shift(g.begin(), g.end());
  for (std::size_t i = 0; i < scaled.hi.size(); ++i) {
    const DD x = DD(scaled.hi[i], scaled.lo[i]) * tau;
    scaled.hi[i] = x.hi;
    scaled.lo[i] = x.lo;
  }
  for (DD& x : shift) x = x * tau;
  const AffineMap step = exact_step(scaled, shift, 1.0);
  if (!step.reason.empty()) return p.reason = step.reason, p;
  p.motion.d = p.d;
  p.motion.b = std::move(scaled);
  p.motion.shift = std::move(shift);
  p.step = entries_of(p.motion.b);
  p.rounding = static_cast<double>(p.d + 4) * 0x1p-100;
  const std::int64_t pieces = std::int64_t{1} << std::min(doublings, 62);
  find_units(p, step, pieces);
  const DDEntries power = plus_identity(step.b);
  const Log2 error = Log2::of(p.rounding) * (norm(power, &p, &p) + Log2::of(1.0));
  raise(p, power, std::vector<char>(static_cast<std::size_t>(doublings), 0), error);
  return p;
}

BlockSums block_sums(const StepPowers& a, const StepPowers& b, std::int64_t steps, const double* z0,
                     const double* cotangent) {
  const long n = a.d, m = b.d;
  const bool flow = a.piece > 0;
  const double *sa = a.scale.data(), *sb = b.scale.data();
  const Log2 one = Log2::of(1.0), eps = Log2::of(a.rounding + b.rounding);

  Log2 g_error;
  DDEntries g = moved(a.motion, z0, a, g_error), c(cotangent, cotangent + m);
  std::vector<DDEntries> places;  // of the terms, as g
  for (const SumTerm& t : a.terms) places.push_back(moved(t.at, z0, a, g_error));
  // No product leaves the range on the way.
  double most = largest(g);
  for (const DDEntries& p : places) most = std::max(most, largest(p));
  const int of_state = exponent_of(most), of_cotangent = exponent_of(largest(c));
  scale_by(g, -of_state);
  for (DDEntries& p : places) scale_by(p, -of_state);
  scale_by(c, -of_cotangent);
  g_error.log2 -= of_state;

  Tracked phi{DDEntries(u(n * m)), {}}, psi{c, {}}, w{g, g_error};
  const auto phi_norm = [&] { return norm(phi.value, &a, &b); };
  const auto psi_norm = [&] { return norm(psi.value, nullptr, &b); };
  const auto w_norm = [&] { return norm(w.value, &a, nullptr); };
  const Log2 c_norm = psi_norm();
  if (flow) {
    // Taylor series of Phi' = Phi X + w c^T, psi' = psi X + c^T, w' = X w + g over the first piece.
    DDEntries f(u(n * m)), row = c, v(u(n));
    for (DD& x : row) x = x * a.piece;
    psi.value = row;
    std::fill(w.value.begin(), w.value.end(), DD(0.0));
    for (int k = 1; k <= kSeriesTerms; ++k) {
      const double divisor = static_cast<double>(k);
      DDEntries next(u(n * m)), next_v(u(n)), next_row(u(m));
      add_product(n, m, m, f, b.step, next);
      for (long i = 0; i < n; ++i)
        for (long j = 0; j < m; ++j) {
          DD& x = next[u(i * m + j)];
          x = (x + v[u(i)] * c[u(j)] * a.piece) / divisor;
          phi.value[u(i * m + j)] += x;
        }
      add_product(n, n, 1, a.step, v, next_v);
      for (long i = 0; i < n; ++i) {
        next_v[u(i)] = k == 1 ? g[u(i)] : next_v[u(i)] / divisor;
        w.value[u(i)] += next_v[u(i)];
      }
      add_product(1, m, m, row, b.step, next_row);
      for (long j = 0; j < m; ++j) {
        next_row[u(j)] = next_row[u(j)] / (divisor + 1);
        psi.value[u(j)] += next_row[u(j)];
      }
      f = std::move(next);
      v = std::move(next_v);
      row = std::move(next_row);
    }
    const Log2 series = Log2::of(64.0) * eps;
    w.error = w.error + series * w_norm();
    psi.error = series * psi_norm();
    phi.error = series * Log2::of(a.piece) * w_norm() * c_norm;
  }

  // What doublings round, for each step that they stand for; the largest w_k and c_k met.
  Log2 phi_rounds, psi_rounds, w_peak = w_norm(), c_peak = c_norm;
  double count = 1;
  for (std::size_t l = 0; l < a.levels.size(); ++l) {
    const StepPowers::Level &pa = a.levels[l], &pb = b.levels[l];
    const Log2 of_phi = phi_norm(), of_psi = psi_norm(), of_w = w_norm();
    DDEntries next_phi = DDEntries(u(n * m)), next_psi = psi.value, next_w = w.value, c_now(u(m));
    add_product(n, m, m, phi.value, pb.power, next_phi);
    add_product(n, n, m, pa.power, phi.value, next_phi);
    add_product(n, 1, m, w.value, psi.value, next_phi);
    add_product(1, m, m, psi.value, pb.power, next_psi);
    add_product(n, n, 1, pa.power, w.value, next_w);
    add_product(1, m, m, c, pb.power, c_now);
    const Log2 phi_round = eps * (of_phi * (pa.norm + pb.norm) + of_w * of_psi),
               psi_round = eps * of_psi * (one + pb.norm), each = Log2::of(1 / count);
    phi_rounds = phi_rounds + each * phi_round;
    psi_rounds = psi_rounds + each * psi_round;
    phi.error = phi.error * (pa.norm + pa.error + pb.norm + pb.error) + of_phi * (pa.error + pb.error) +
                w.error * (of_psi + psi.error) + of_w * psi.error + phi_round;
    psi.error = psi.error * (one + pb.norm + pb.error) + of_psi * pb.error + psi_round;
    w.error = w.error * (one + pa.norm + pa.error) + of_w * (pa.error + eps * (one + pa.norm));
    phi.value = std::move(next_phi);
    psi.value = std::move(next_psi);
    w.value = std::move(next_w);
    count *= 2;
    w_peak.log2 = std::max(w_peak.log2, w_norm().log2);
    c_peak.log2 = std::max(c_peak.log2, norm(c_now, nullptr, &b).log2);
    if (!pa.odd) continue;
    const Log2 now_phi = phi_norm(), now_psi = psi_norm(), now_w = w_norm();
    next_phi.assign(u(n * m), 0.0);
    next_psi = c;
    next_w = g;
    add_product(n, m, m, phi.value, b.step, next_phi);
    add_product(n, 1, m, w.value, c, next_phi);
    add_product(1, m, m, psi.value, b.step, next_psi);
    add_product(n, n, 1, a.step, w.value, next_w);
    const Log2 phi_odd = eps * (now_phi * b.step_norm + now_w * c_norm),
               psi_odd = eps * (now_psi * b.step_norm + c_norm), each_odd = Log2::of(1 / count);
    phi_rounds = phi_rounds + each_odd * phi_odd;
    psi_rounds = psi_rounds + each_odd * psi_odd;
    phi.error =
        phi.error * (b.step_norm + b.step_error) + now_phi * b.step_error + w.error * c_norm + phi_odd;
    psi.error = psi.error * (b.step_norm + b.step_error) + now_psi * b.step_error + psi_odd;
    w.error = w.error * (a.step_norm + a.step_error) + now_w * a.step_error + g_error +
              eps * (now_w * a.step_norm + w_norm());
    phi.value = std::move(next_phi);
    psi.value = std::move(next_psi);
    w.value = std::move(next_w);
    count += 1;
    w_peak.log2 = std::max(w_peak.log2, w_norm().log2);
  }
  // Or so: each w_k and c_k is off by as many errors of a step as it has steps, each carried on by powers as large as the largest
  // that was met; and so is what the doublings round.
  const Log2 all = Log2::of(count), terms = Log2::of(count * (flow ? a.piece : 1.0)), room = Log2::of(kRoom);
  const Log2 w_off = all * (room * Log2::of(a.rounding) * a.peak * a.peak * w_peak + a.peak * g_error),
             c_off = all * room * Log2::of(b.rounding) * b.peak * b.peak * c_norm;
  phi.error.log2 = std::min(
      phi.error.log2, (terms * (w_off * c_peak + w_peak * c_off) + all * a.peak * b.peak * phi_rounds).log2);
  psi.error.log2 = std::min(psi.error.log2, (terms * c_off + all * b.peak * psi_rounds).log2);

  if (!a.terms.empty()) {
    Tracked sum{DDEntries(u(n * m)), {}}, row{DDEntries(u(m)), {}};
    const Log2 of_phi = phi_norm(), of_psi = psi_norm();
    for (std::size_t t = 0; t < a.terms.size(); ++t) {
      const DDEntries p = plus_identity(a.terms[t].at.b), &r = b.terms[t].r;
      DDEntries at(u(n * m)), through(u(n * m)), end(u(m));
      add_product(n, n, m, p, phi.value, at);
      add_product(n, 1, m, places[t], psi.value, at);
      add_product(n, m, m, at, r, through);
      add_product(1, m, m, psi.value, r, end);
      const double weight = a.terms[t].weight;
      for (std::size_t i = 0; i < through.size(); ++i) sum.value[i] += through[i] * weight;
      for (std::size_t i = 0; i < end.size(); ++i) row.value[i] += end[i] * weight;
      const Log2 of_p = norm(p, &a, &a), of_place = norm(places[t], &a, nullptr),
                 of_r = norm(r, &b, &b) * Log2::of(std::fabs(weight));
      sum.error = sum.error + of_r * (of_p * (phi.error + eps * of_phi) +
                                      of_place * (psi.error + eps * of_psi) + g_error * of_psi);
      row.error = row.error + of_r * (psi.error + eps * of_psi);
    }
    phi = std::move(sum);
    psi = std::move(row);
  }

  BlockSums out;
  out.rows = n;
  out.cols = m;
  const double lost = kUnderflow * static_cast<double>(steps);
  for (long i = 0; i < n; ++i) {
    out.end.push_back(ldexp(w.value[u(i)], of_state).hi);
    for (long j = 0; j < m; ++j) {
      out.phi.push_back(ldexp(phi.value[u(i * m + j)], of_state + of_cotangent).hi);
      out.phi_error.push_back(
          std::ldexp(std::exp2(phi.error.log2 - sa[i] + sb[j]) + lost, of_state + of_cotangent));
    }
  }
  for (long j = 0; j < m; ++j) {
    out.psi.push_back(ldexp(psi.value[u(j)], of_cotangent).hi);
    out.psi_error.push_back(std::ldexp(std::exp2(psi.error.log2 + sb[j]) + lost, of_cotangent));
  }
  return out;
}

}  // namespace tinyphys
