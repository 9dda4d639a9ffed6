#include "linalg/mode_moments.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>

namespace tinyphys {
namespace {

constexpr std::size_t u(long i) { return static_cast<std::size_t>(i); }

// Pairs taken together.
constexpr long kBlock = 32;
// Of |A^N|: the product of two, and of the state, stays a double.
constexpr double kMostGrowth = 1e120;
// A flow's series: its piece turns by at most this angle, and these terms leave 2^-60 of it.
constexpr double kPiece = 0x1p-4;
constexpr int kSeriesTerms = 12;

// (y, pi) -> (a y + b pi + x, c y + d pi + w)
struct Affine {
  DD a = 1.0, b = 0.0, c = 0.0, d = 1.0, x = 0.0, w = 0.0;
};
// `second` after `first`.
Affine after(const Affine& second, const Affine& first) {
  return {second.a * first.a + second.b * first.c,
          second.a * first.b + second.b * first.d,
          second.c * first.a + second.d * first.c,
          second.c * first.b + second.d * first.d,
          second.a * first.x + second.b * first.w + second.x,
          second.c * first.x + second.d * first.w + second.w};
}

// (1 - c h J / 2)^-1 with J = [[0, m], [-k, 0]].
Affine solved(const ModeLine& mode, DD half) {
  const DD scale = DD(1.0) / (1.0 + half * half * mode.k * mode.m);
  return {scale, scale * half * mode.m, -(scale * half * mode.k), scale, 0.0, 0.0};
}

Affine substep(const ModeLine& mode, const Substep& s, double h) {
  const DD t = DD(s.coefficient) * h;
  switch (s.part) {
    case Part::kKick: return {1.0, 0.0, -(t * mode.k), 1.0, 0.0, -(t * mode.g)};
    case Part::kDrift: return {1.0, t * mode.m, 0.0, 1.0, t * mode.v, 0.0};
    default: break;
  }
  const DD half = ldexp(t, -1);
  const Affine forward{1.0, half * mode.m, -(half * mode.k), 1.0, t * mode.v, -(t * mode.g)};
  return after(solved(mode, half), forward);
}

// The flow over tau, |tau| omega at most kPiece, by its series.
Affine flow(const ModeLine& mode, DD tau) {
  Affine sum, term;
  // Of the affine part: the integral of the flow times (v, -g), of the same terms.
  DD s_a = tau, s_b = 0.0, s_c = 0.0, s_d = tau;
  for (int k = 1; k <= 22; ++k) {
    const DD f = tau / static_cast<double>(k);
    term = {
        f * mode.m * term.c, f * mode.m * term.d, -(f * mode.k * term.a), -(f * mode.k * term.b), 0.0, 0.0};
    sum.a += term.a;
    sum.b += term.b;
    sum.c += term.c;
    sum.d += term.d;
    const DD next = tau / static_cast<double>(k + 1);
    s_a += next * term.a;
    s_b += next * term.b;
    s_c += next * term.c;
    s_d += next * term.d;
  }
  sum.x = s_a * mode.v - s_b * mode.g;
  sum.w = s_c * mode.v - s_d * mode.g;
  return sum;
}

}  // namespace

ModeMoments::ModeMoments(std::span<const ModeLine> modes, double h, std::int64_t steps,
                         const IntegratorRow& row)
    : n_(static_cast<long>(modes.size())), none_(steps == 0), modes_(modes.begin(), modes.end()) {
  if (none_) return;
  int largest = 0;
  for (ModeLine& m : modes_) {
    const auto unit = [](std::initializer_list<double> values) {
      double size = 0.0;
      for (const double x : values) size = std::max(size, std::fabs(x));
      return size > 0.0 && std::isfinite(size) ? std::ilogb(size) : 0;
    };
    const int of_cotangents = unit({m.of_y, m.of_pi}), of_state = unit({m.y, m.pi, m.g.hi, m.v.hi});
    for (double* x : {&m.of_y, &m.of_pi}) *x = std::ldexp(*x, -of_cotangents);
    for (double* x : {&m.y, &m.pi}) *x = std::ldexp(*x, -of_state);
    for (DD* x : {&m.g, &m.v}) *x = ldexp(*x, -of_state);
    of_cotangents_.push_back(of_cotangents);
    of_state_.push_back(of_state);
    largest = std::max(largest, std::max(of_cotangents, 0) + std::max(of_state, 0));
  }
  // What is added to itself N times, and multiplied with derivatives, has to stay a double.
  if (largest > 600) {
    reason_ = "the state and its cotangent are too large for the sums of a gradient";
    return;
  }
  const bool flows = row.has(Part::kFlow);
  // Which powers the sums take: the leading bits of N, or a flow's pieces, 2^doublings of them.
  DD piece = 0.0;
  std::vector<char> odd;
  if (flows) {
    const DD time = DD(steps) * h;
    double fastest = 0.0;
    for (const ModeLine& m : modes_)
      fastest = std::max(fastest, std::sqrt(std::fabs(m.k.hi)) * std::sqrt(std::fabs(m.m.hi)));
    const double angle = fastest * std::fabs(time.hi);
    if (!(angle < 0x1p100)) {
      reason_ = "a mode turns too often in the time of the jump";
      return;
    }
    const int doublings = angle > kPiece ? std::ilogb(angle / kPiece) + 1 : 0;
    odd.assign(static_cast<std::size_t>(doublings), 0);
    piece = ldexp(time, -doublings);
    tau_ = piece.hi;
    piece_ = std::ldexp(static_cast<double>(steps), -doublings);
    series_ = kSeriesTerms;
  } else {
    for (std::int64_t bits = steps; bits > 1; bits /= 2) odd.push_back(bits % 2 != 0);
    std::reverse(odd.begin(), odd.end());
  }
  const auto sized = [&](Powers& p) {
    for (auto* v : {&p.a, &p.b, &p.c, &p.d, &p.x, &p.w, &p.u0, &p.u1}) v->resize(u(n_));
  };
  const auto put = [&](Powers& p, long j, const Affine& m) {
    p.a[u(j)] = m.a.hi;
    p.b[u(j)] = m.b.hi;
    p.c[u(j)] = m.c.hi;
    p.d[u(j)] = m.d.hi;
    p.x[u(j)] = m.x.hi;
    p.w[u(j)] = m.w.hi;
  };
  sized(one_);
  levels_.resize(odd.size());
  for (Powers& p : levels_) sized(p);
  if (flows) {
    terms_.resize(2);
  } else {
    for (const Substep& s : row.substeps) {
      const double weight = s.coefficient;
      if (s.part != Part::kDrift) terms_.push_back({-weight, true, {}, {}, {}, {}, {}});
      if (s.part != Part::kKick) terms_.push_back({weight, false, {}, {}, {}, {}, {}});
    }
  }
  for (Term& t : terms_)
    for (auto* v : {&t.r0, &t.r1, &t.p0, &t.p1, &t.p2}) v->resize(u(n_));
  if (flows)
    for (const bool kick : {true, false}) {
      Term& t = terms_[kick ? 0 : 1];
      t.kick = kick;
      t.weight = kick ? -1.0 : 1.0;
      std::fill(t.r0.begin(), t.r0.end(), kick ? 0.0 : 1.0);
      std::fill(t.r1.begin(), t.r1.end(), kick ? 1.0 : 0.0);
      std::fill(t.p0.begin(), t.p0.end(), kick ? 1.0 : 0.0);
      std::fill(t.p1.begin(), t.p1.end(), kick ? 0.0 : 1.0);
      std::fill(t.p2.begin(), t.p2.end(), 0.0);
    }

  const std::size_t count = row.substeps.size();
  std::vector<Affine> part(count), before(count + 1), behind(count + 1);
  for (long j = 0; j < n_; ++j) {
    const ModeLine& mode = modes_[u(j)];
    k_.push_back(mode.k.hi);
    m_.push_back(mode.m.hi);
    Affine step;
    if (flows) {
      step = flow(mode, piece);
    } else {
      for (std::size_t i = 0; i < count; ++i) part[i] = substep(mode, row.substeps[i], h);
      for (std::size_t i = 0; i < count; ++i) before[i + 1] = after(part[i], before[i]);
      for (std::size_t i = count; i-- > 0;) behind[i] = after(behind[i + 1], part[i]);
      step = before[count];
      std::size_t next = 0;
      for (std::size_t i = 0; i < count; ++i) {
        const Substep& s = row.substeps[i];
        // The cotangent that a push of this substep meets, and the state that it reads.
        Affine r = behind[i + 1], p = before[i];
        if (s.part == Part::kSolve) {
          r = after(r, solved(mode, ldexp(DD(s.coefficient) * h, -1)));
          const Affine& q = before[i + 1];
          p = {ldexp(p.a + q.a, -1), ldexp(p.b + q.b, -1), ldexp(p.c + q.c, -1),
               ldexp(p.d + q.d, -1), ldexp(p.x + q.x, -1), ldexp(p.w + q.w, -1)};
        }
        for (const bool kick : {true, false}) {
          if (s.part == (kick ? Part::kDrift : Part::kKick)) continue;
          Term& t = terms_[next++];
          t.r0[u(j)] = (kick ? r.b : r.a).hi;
          t.r1[u(j)] = (kick ? r.d : r.c).hi;
          t.p0[u(j)] = (kick ? p.a : p.c).hi;
          t.p1[u(j)] = (kick ? p.b : p.d).hi;
          t.p2[u(j)] = (kick ? p.x : p.w).hi;
        }
      }
    }
    put(one_, j, step);
    Affine power = step;
    for (std::size_t l = 0; l < odd.size(); ++l) {
      Powers& at = levels_[l];
      put(at, j, power);
      power = after(power, power);
      at.odd = odd[l] != 0;
      if (!at.odd) continue;
      at.u0[u(j)] = power.a.hi * mode.of_y + power.c.hi * mode.of_pi;
      at.u1[u(j)] = power.b.hi * mode.of_y + power.d.hi * mode.of_pi;
      power = after(step, power);
    }
    const double most = std::max({std::fabs(power.a.hi), std::fabs(power.d.hi),
                                  std::sqrt(std::fabs(power.b.hi)) * std::sqrt(std::fabs(power.c.hi))});
    if (!(most < kMostGrowth) || !std::isfinite(power.x.hi) || !std::isfinite(power.w.hi) ||
        !std::isfinite(power.b.hi) || !std::isfinite(power.c.hi)) {
      reason_ = "the motion grows too far for the sums of its gradient";
      return;
    }
  }
}

template <bool kDiagonal>
void ModeMoments::block(long a, long first, long count, double* kicks, double* drifts, double* of_g,
                        double* of_v) const {
  double x[2][3][kBlock], next[2][3][kBlock];
  const auto each = [&](auto&& body) {
    for (long i = 0; i < count; ++i) body(i, u(kDiagonal ? first + i : a), u(first + i));
  };
  each([&](long i, std::size_t l, std::size_t b) {
    const double lambda[2] = {modes_[l].of_y, modes_[l].of_pi}, z[3] = {modes_[b].y, modes_[b].pi, 1.0};
    for (int r = 0; r < 2; ++r)
      for (int c = 0; c < 3; ++c) x[r][c][i] = lambda[r] * z[c];
  });
  if (series_ > 0)
    each([&](long i, std::size_t l, std::size_t b) {
      const double lambda[2] = {modes_[l].of_y, modes_[l].of_pi};
      double z[3] = {modes_[b].y, modes_[b].pi, 1.0}, d[2][3], sum[2][3];
      double factor = piece_;
      for (int r = 0; r < 2; ++r)
        for (int c = 0; c < 3; ++c) sum[r][c] = factor * (d[r][c] = x[r][c][i]);
      for (int k = 1; k < series_; ++k) {
        // J z = (m pi + v, -(k y + g), 0); J^T D = (-k d_1, m d_0)
        const double g = z[2] * modes_[b].g.hi, v = z[2] * modes_[b].v.hi;
        const double moved[3] = {m_[b] * z[1] + v, -(k_[b] * z[0] + g), 0.0};
        std::copy_n(moved, 3, z);
        factor *= tau_ / static_cast<double>(k + 1);
        for (int c = 0; c < 3; ++c) {
          const double d0 = -k_[l] * d[1][c] + lambda[0] * z[c], d1 = m_[l] * d[0][c] + lambda[1] * z[c];
          sum[0][c] += factor * (d[0][c] = d0);
          sum[1][c] += factor * (d[1][c] = d1);
        }
      }
      for (int r = 0; r < 2; ++r)
        for (int c = 0; c < 3; ++c) x[r][c][i] = sum[r][c];
    });
  for (const Powers& p : levels_) {
    each([&](long i, std::size_t l, std::size_t b) {
      for (int r = 0; r < 2; ++r) {
        const double x0 = x[r][0][i], x1 = x[r][1][i], x2 = x[r][2][i];
        next[r][0][i] = x0 * p.a[b] + x1 * p.b[b] + x2 * p.x[b];
        next[r][1][i] = x0 * p.c[b] + x1 * p.d[b] + x2 * p.w[b];
        next[r][2][i] = x2;
      }
      for (int c = 0; c < 3; ++c) {
        const double x0 = x[0][c][i], x1 = x[1][c][i];
        x[0][c][i] = next[0][c][i] + (p.a[l] * x0 + p.c[l] * x1);
        x[1][c][i] = next[1][c][i] + (p.b[l] * x0 + p.d[l] * x1);
      }
    });
    if (!p.odd) continue;
    each([&](long i, std::size_t l, std::size_t b) {
      const double z[3] = {modes_[b].y, modes_[b].pi, 1.0}, lambda[2] = {p.u0[l], p.u1[l]};
      for (int r = 0; r < 2; ++r) {
        const double x0 = x[r][0][i], x1 = x[r][1][i], x2 = x[r][2][i];
        x[r][0][i] = lambda[r] * z[0] + (x0 * one_.a[b] + x1 * one_.b[b] + x2 * one_.x[b]);
        x[r][1][i] = lambda[r] * z[1] + (x0 * one_.c[b] + x1 * one_.d[b] + x2 * one_.w[b]);
        x[r][2][i] = lambda[r] + x2;
      }
    });
  }
  std::fill_n(kicks, count, 0.0);
  std::fill_n(drifts, count, 0.0);
  // The constants of one mode are the same beside every other.
  const long constants = kDiagonal ? count : 1;
  std::fill_n(of_g, constants, 0.0);
  std::fill_n(of_v, constants, 0.0);
  for (const Term& t : terms_) {
    double* out = t.kick ? kicks : drifts;
    double* constant = t.kick ? of_g : of_v;
    each([&](long i, std::size_t l, std::size_t b) {
      const double r0 = t.r0[l], r1 = t.r1[l];
      const double c0 = r0 * x[0][0][i] + r1 * x[1][0][i], c1 = r0 * x[0][1][i] + r1 * x[1][1][i],
                   c2 = r0 * x[0][2][i] + r1 * x[1][2][i];
      out[i] += t.weight * (c0 * t.p0[b] + c1 * t.p1[b] + c2 * t.p2[b]);
      if (i < constants) constant[i] += t.weight * c2;
    });
  }
  each([&](long i, std::size_t l, std::size_t b) {
    kicks[i] = std::ldexp(kicks[i], of_cotangents_[l] + of_state_[b]);
    drifts[i] = std::ldexp(drifts[i], of_cotangents_[l] + of_state_[b]);
    if (i >= constants) return;
    of_g[i] = std::ldexp(of_g[i], of_cotangents_[l]);
    of_v[i] = std::ldexp(of_v[i], of_cotangents_[l]);
  });
}

ModeMoments::Constants ModeMoments::row(long a, double* kicks, double* drifts) const {
  Constants c;
  if (none_) {
    std::fill_n(kicks, n_, 0.0);
    std::fill_n(drifts, n_, 0.0);
    return c;
  }
  for (long first = 0; first < n_; first += kBlock)
    block<false>(a, first, std::min(kBlock, n_ - first), kicks + first, drifts + first, &c.of_g, &c.of_v);
  return c;
}

void ModeMoments::diagonal(double* kicks, double* drifts, double* of_g, double* of_v) const {
  if (none_) {
    for (double* x : {kicks, drifts, of_g, of_v}) std::fill_n(x, n_, 0.0);
    return;
  }
  for (long first = 0; first < n_; first += kBlock)
    block<true>(0, first, std::min(kBlock, n_ - first), kicks + first, drifts + first, of_g + first,
                of_v + first);
}

}  // namespace tinyphys
