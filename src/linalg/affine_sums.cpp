#include "linalg/affine_sums.hpp"

#include <algorithm>
#include <cmath>

namespace tinyphys {

namespace {

std::size_t u(long i) { return static_cast<std::size_t>(i); }

// Of powers: the product of two, and of the state, stays a double.
constexpr double kMostGrowth = 1e120;
// A flow's first piece turns by at most this, and its series leave 2^-110 of it.
constexpr double kPiece = 0.25;
constexpr int kSeriesTerms = 22;
// Error bounds have room for powers between those that were met, and for the terms of a series.
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
  p.norms = Log2::of(kRoom);
  p.peak.log2 = std::max(p.peak.log2, size.log2);
  for (const char more : odd) {
    if (!(largest(power) < kMostGrowth)) break;
    p.levels.push_back({power, more != 0, size, error});
    // A doubling rounds twice the power's size, and what it adds; one more step has its own.
    p.norms = p.norms + size + Log2::of(2.0) + (more ? first_norm : Log2());
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
  p.count = m;
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

StateCourse state_course(const StepPowers& of, const double* z0) {
  StateCourse course;
  course.of = &of;
  const long n = of.d;
  DDEntries& g = course.g;
  g = moved(of.motion, z0, of, course.g_error);
  for (const SumTerm& t : of.terms) course.places.push_back(moved(t.at, z0, of, course.g_error));
  // No product leaves the range on the way.
  double most = largest(g);
  for (const DDEntries& p : course.places) most = std::max(most, largest(p));
  course.exponent = exponent_of(most);
  scale_by(g, -course.exponent);
  for (DDEntries& p : course.places) scale_by(p, -course.exponent);
  course.g_error.log2 -= course.exponent;

  const Log2 eps = Log2::of(of.rounding), one = Log2::of(1.0);
  DDEntries w = g;
  Log2 error = course.g_error;
  if (of.piece > 0) {
    // Taylor series of w' = X w + g over the first piece.
    DDEntries v(u(n));
    std::fill(w.begin(), w.end(), DD(0.0));
    for (int k = 1; k <= kSeriesTerms; ++k) {
      course.series.push_back(v);
      DDEntries next(u(n));
      add_product(n, n, 1, of.step, v, next);
      for (long i = 0; i < n; ++i) {
        next[u(i)] = k == 1 ? g[u(i)] : next[u(i)] / static_cast<double>(k);
        w[u(i)] += next[u(i)];
      }
      v = std::move(next);
    }
    error = error + Log2::of(kRoom) * eps * norm(w, &of, nullptr);
  }
  const auto met = [&] {
    const Log2 size = norm(w, &of, nullptr);
    course.peak.log2 = std::max(course.peak.log2, size.log2);
    course.way.push_back({w, size, error});
    return size;
  };
  for (const StepPowers::Level& level : of.levels) {
    const Log2 size = met();
    DDEntries next = w;
    add_product(n, n, 1, level.power, w, next);
    w = std::move(next);
    error = error * (one + level.norm + level.error) + size * (level.error + eps * (one + level.norm));
    if (!level.odd) continue;
    const Log2 odd = met();
    next = g;
    add_product(n, n, 1, of.step, w, next);
    w = std::move(next);
    error = error * (of.step_norm + of.step_error) + odd * of.step_error + course.g_error +
            eps * (odd * of.step_norm + norm(w, &of, nullptr));
  }
  (void)met();
  for (const DD& x : course.way.back().value) course.end.push_back(ldexp(x, course.exponent).hi);
  return course;
}

CotangentCourse cotangent_course(const StepPowers& of, std::int64_t steps, const double* cotangent) {
  CotangentCourse course;
  course.of = &of;
  const long m = of.d;
  DDEntries& c = course.c;
  c.assign(cotangent, cotangent + m);
  course.exponent = exponent_of(largest(c));
  scale_by(c, -course.exponent);

  const Log2 eps = Log2::of(of.rounding), one = Log2::of(1.0);
  course.size = course.peak = norm(c, nullptr, &of);
  DDEntries psi = c;
  Log2 error;
  if (of.piece > 0) {
    // Taylor series of psi' = psi X + c^T over the first piece.
    DDEntries row = c;
    for (DD& x : row) x = x * of.piece;
    psi = row;
    for (int k = 1; k <= kSeriesTerms; ++k) {
      DDEntries next(u(m));
      add_product(1, m, m, row, of.step, next);
      for (long j = 0; j < m; ++j) {
        next[u(j)] = next[u(j)] / static_cast<double>(k + 1);
        psi[u(j)] += next[u(j)];
      }
      row = std::move(next);
    }
    error = Log2::of(kRoom) * eps * norm(psi, nullptr, &of);
  }
  const auto met = [&] {
    const Log2 size = norm(psi, nullptr, &of);
    course.way.push_back({psi, size, error});
    return size;
  };
  for (const StepPowers::Level& level : of.levels) {
    DDEntries now(u(m));
    add_product(1, m, m, c, level.power, now);
    course.peak.log2 = std::max(course.peak.log2, norm(now, nullptr, &of).log2);
    const Log2 size = met();
    DDEntries next = psi;
    add_product(1, m, m, psi, level.power, next);
    psi = std::move(next);
    error = error * (one + level.norm + level.error) + size * (level.error + eps * (one + level.norm));
    if (!level.odd) continue;
    const Log2 odd = met();
    next = c;
    add_product(1, m, m, psi, of.step, next);
    psi = std::move(next);
    error = error * (of.step_norm + of.step_error) + odd * of.step_error +
            eps * (odd * of.step_norm + course.size);
  }
  (void)met();
  // Or so: each c_k is off by as many errors of a step as it has steps, each carried on by powers as large as the largest that
  // was met; and the doublings round what they give, at most as many c_k as they stand for.
  const Log2 terms = Log2::of(static_cast<double>(steps)), all = Log2::of(of.count), room = Log2::of(kRoom);
  course.off = all * room * eps * of.peak * of.peak * course.size;
  Log2& last = course.way.back().error;
  last.log2 = std::min(last.log2, (terms * (course.off + of.peak * eps * course.peak * of.norms)).log2);
  return course;
}

BlockSums block_sums(const StateCourse& states, const CotangentCourse& cotangents, std::int64_t steps,
                     bool closely) {
  const StepPowers &a = *states.of, &b = *cotangents.of;
  const long n = a.d, m = b.d;
  const double *sa = a.scale.data(), *sb = b.scale.data();
  const Log2 eps = Log2::of(a.rounding + b.rounding);
  const DDEntries& c = cotangents.c;

  DDEntries phi(u(n * m));
  Log2 error;
  if (a.piece > 0) {
    // Taylor series of Phi' = Phi X + w c^T over the first piece.
    DDEntries f(u(n * m));
    for (int k = 1; k <= kSeriesTerms; ++k) {
      DDEntries next(u(n * m));
      add_product(n, m, m, f, b.step, next);
      const DDEntries& v = states.series[u(k - 1)];
      for (long i = 0; i < n; ++i)
        for (long j = 0; j < m; ++j) {
          DD& x = next[u(i * m + j)];
          x = (x + v[u(i)] * c[u(j)] * a.piece) / static_cast<double>(k);
          phi[u(i * m + j)] += x;
        }
      f = std::move(next);
    }
    error = Log2::of(kRoom) * eps * Log2::of(a.piece) * states.peak * cotangents.size;
  }
  std::size_t at = 0;
  for (std::size_t l = 0; l < a.levels.size(); ++l) {
    const StepPowers::Level &pa = a.levels[l], &pb = b.levels[l];
    const OnTheWay &w = states.way[at], &psi = cotangents.way[at];
    ++at;
    DDEntries next(u(n * m));
    add_product(n, m, m, phi, pb.power, next);
    add_product(n, n, m, pa.power, phi, next);
    add_product(n, 1, m, w.value, psi.value, next);
    if (closely) {
      const Log2 size = norm(phi, &a, &b);
      error = error * (pa.norm + pa.error + pb.norm + pb.error) + size * (pa.error + pb.error) +
              w.error * (psi.size + psi.error) + w.size * psi.error +
              eps * (size * (pa.norm + pb.norm) + w.size * psi.size);
    }
    phi = std::move(next);
    if (!pa.odd) continue;
    const OnTheWay& before = states.way[at++];
    next.assign(u(n * m), 0.0);
    add_product(n, m, m, phi, b.step, next);
    add_product(n, 1, m, before.value, c, next);
    if (closely) {
      const Log2 size = norm(phi, &a, &b);
      error = error * (b.step_norm + b.step_error) + size * b.step_error + before.error * cotangents.size +
              eps * (size * b.step_norm + before.size * cotangents.size);
    }
    phi = std::move(next);
  }
  const Log2 by_norms = error;
  // As of psi.
  const Log2 terms = Log2::of(static_cast<double>(steps)), all = Log2::of(a.count);
  const Log2 w_off =
      all * (Log2::of(kRoom * a.rounding) * a.peak * a.peak * states.peak + a.peak * states.g_error);
  error = terms * (w_off * cotangents.peak + states.peak * cotangents.off +
                   a.peak * b.peak * eps * states.peak * cotangents.peak * (a.norms + b.norms));
  if (closely) error.log2 = std::min(error.log2, by_norms.log2);

  DDEntries psi = cotangents.way.back().value;
  Log2 psi_error = cotangents.way.back().error;
  if (!a.terms.empty()) {
    DDEntries sum(u(n * m)), row(u(m));
    Log2 sum_error, row_error;
    const Log2 of_phi = norm(phi, &a, &b), of_psi = cotangents.way.back().size;
    for (std::size_t t = 0; t < a.terms.size(); ++t) {
      const DDEntries p = plus_identity(a.terms[t].at.b), &r = b.terms[t].r, &place = states.places[t];
      DDEntries at_place(u(n * m)), through(u(n * m)), end(u(m));
      add_product(n, n, m, p, phi, at_place);
      add_product(n, 1, m, place, psi, at_place);
      add_product(n, m, m, at_place, r, through);
      add_product(1, m, m, psi, r, end);
      const double weight = a.terms[t].weight;
      for (std::size_t i = 0; i < through.size(); ++i) sum[i] += through[i] * weight;
      for (std::size_t i = 0; i < end.size(); ++i) row[i] += end[i] * weight;
      const Log2 of_r = norm(r, &b, &b) * Log2::of(std::fabs(weight));
      sum_error = sum_error +
                  of_r * (norm(p, &a, &a) * (error + eps * of_phi) +
                          norm(place, &a, nullptr) * (psi_error + eps * of_psi) + states.g_error * of_psi);
      row_error = row_error + of_r * (psi_error + eps * of_psi);
    }
    phi = std::move(sum);
    psi = std::move(row);
    error = sum_error;
    psi_error = row_error;
  }

  BlockSums out;
  const int exponent = states.exponent + cotangents.exponent;
  const double lost = kUnderflow * static_cast<double>(steps);
  for (long i = 0; i < n; ++i)
    for (long j = 0; j < m; ++j) {
      out.phi.push_back(ldexp(phi[u(i * m + j)], exponent).hi);
      out.phi_error.push_back(std::ldexp(std::exp2(error.log2 - sa[i] + sb[j]) + lost, exponent));
    }
  for (long j = 0; j < m; ++j) {
    out.psi.push_back(ldexp(psi[u(j)], cotangents.exponent).hi);
    out.psi_error.push_back(std::ldexp(std::exp2(psi_error.log2 + sb[j]) + lost, cotangents.exponent));
  }
  return out;
}

}  // namespace tinyphys
