// The N-th power of one mode's step, stable for every lambda, h and N.
#include "linalg/mode_step.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace tinyphys {

namespace {

// Beyond e^300 the growth carries its own exponent.
constexpr double kDirectExponent = 300.0;
// An exponent no input can bring back into the range of doubles.
constexpr double kMaxExponent = 0x1p40;
// Below this N^2 sigma vanishes against 2^-106 for every N < 2^63.
constexpr double kTinySigma = 1e-180;

struct Growth {
  DD cosh_w = 1.0, sinh_w = 0.0, sinh2_half = 0.0, cosh2_half = 1.0;  // of w and w / 2, times 2^exponent
  std::int64_t exponent = 0;
};

Growth growth(DD w) {
  Growth r;
  if (w.hi < kDirectExponent) {
    const DD s = sinh(ldexp(w, -1));
    r.sinh2_half = sqr(s);
    r.cosh2_half = 1.0 + r.sinh2_half;
    r.cosh_w = 1.0 + ldexp(r.sinh2_half, 1);
    r.sinh_w = ldexp(s * sqrt(r.cosh2_half), 1);
    return r;
  }
  const DD k = floor(w / kDDLn2);
  DD mantissa = 1.0;
  r.exponent = static_cast<std::int64_t>(kMaxExponent);
  if (k.hi < kMaxExponent) {
    mantissa = exp(w - k * kDDLn2);
    r.exponent = static_cast<std::int64_t>(k.hi);
  }
  r.cosh_w = r.sinh_w = ldexp(mantissa, -1);
  r.sinh2_half = r.cosh2_half = ldexp(mantissa, -2);
  return r;
}

// (N - U_{N-1}(1 - 2 sigma)) / (4 sigma) = sum_{k >= 1} C(N + k, 2k + 1) (-4 sigma)^{k-1}.
DD missing_sum(DD n, DD u_scaled, DD sigma, const Growth& g) {
  const DD four_sigma = ldexp(sigma, 2);
  const DD z = four_sigma * n * n;
  if (std::fabs(z.hi) > 1e-2) {
    // Under growth U dwarfs N.
    const DD rest = g.exponent > 0 ? -u_scaled : n - u_scaled;
    return rest / four_sigma;
  }
  const DD n2 = n * n;
  DD term = n * (n2 - 1.0) / 6.0, sum = term;
  for (int k = 2; k <= 14; ++k) {
    const double kk = static_cast<double>(k);
    // C(N+k, 2k+1) / C(N+k-1, 2k-1) = (N^2 - k^2) / ((2k) (2k+1)).
    term = -term * (four_sigma * (n2 - kk * kk)) / (2.0 * kk * (2.0 * kk + 1.0));
    sum += term;
  }
  return sum;
}

ModeCoefficients exact_flow(DD lambda, double h, std::int64_t steps) {
  ModeCoefficients r;
  const DD time = DD(steps) * h;
  const DD z = lambda * time * time;
  if (std::fabs(z.hi) <= 1e-2) {
    // Series in z for sinc-like functions: a2 = t^2 (1/2! - z/4! + ...), a1 = t (1 - z/3! + ...), a3 = t^3
    // (1/3! - ...).
    DD s1 = 0.0, s2 = 0.0, s3 = 0.0;
    for (int k = 8; k >= 0; --k) {
      const auto i = static_cast<std::size_t>(2 * k);
      s1 = dd_detail::kInvFactorial[i + 1] - z * s1;
      s2 = dd_detail::kInvFactorial[i + 2] - z * s2;
      s3 = dd_detail::kInvFactorial[i + 3] - z * s3;
    }
    r.a1 = r.b = time * s1;
    r.a2 = time * time * s2;
    r.a3 = time * time * time * s3;
    r.t = r.t_p = 1.0 - z * s2;
    r.a2_p = r.a2;
    return r;
  }
  const DD omega = sqrt(abs(lambda));
  const DD w = omega * abs(time);
  DD sine, one_minus_t;
  if (lambda.hi > 0.0) {
    DD s, c;
    sincos(ldexp(w, -1), s, c);
    one_minus_t = ldexp(sqr(s), 1);
    r.t = 1.0 - one_minus_t;
    sine = ldexp(s * c, 1);
  } else {
    const Growth g = growth(w);
    r.exponent = g.exponent;
    r.t = g.cosh_w;
    one_minus_t = -ldexp(g.sinh2_half, 1);
    sine = g.sinh_w;
  }
  r.a1 = r.b = sine / (h < 0.0 ? -omega : omega);
  r.a2 = one_minus_t / lambda;
  r.a3 = ((r.exponent > 0 ? DD(0.0) : time) - r.a1) / lambda;
  r.t_p = r.t;
  r.a2_p = r.a2;
  return r;
}

}  // namespace

StepMap step_map(const IntegratorRow& row, DD z) {
  StepMap m;
  // d/dz of a, b, c and d: good enough in double.
  struct Slopes {
    double a = 0.0, b = 0.0, c = 0.0, d = 0.0;
  } slope;
  const double zh = z.hi;
  const auto diagonal = [&](DD x) { return x.hi == 0.0 ? DD(1.0) : 1.0 + z * x; };
  for (const Substep& s : row.substeps) {
    const double c = s.coefficient;
    const StepMap old = m;
    const Slopes was = slope;
    switch (s.part) {
      case Part::kKick:  // [[1, 0], [-lambda h c, 1]]
        if (&s == row.substeps.data()) {
          m.c = m.weight = c;
          break;
        }
        m.c = c * diagonal(old.a) + old.c;
        m.d = old.d - c * old.b;
        m.c2 = c * old.a + old.c2;
        m.weight = old.weight + c;
        slope.c = c * (old.a.hi + zh * was.a) + was.c;
        slope.d = was.d - c * was.b;
        break;
      case Part::kDrift:  // [[1, h c], [0, 1]]
        m.a = old.a - c * old.c;
        m.b = old.b + c * diagonal(old.d);
        slope.a = was.a - c * was.c;
        slope.b = was.b + c * (old.d.hi + zh * was.d);
        break;
      case Part::kSolve: {  // [[1 + z sa, h sb], [-lambda h sb, 1 + z sa]], and sb = c + z sc2
        const DD c2 = from_product(c, c), x = ldexp(z * c2, -2), denominator = 1.0 + x;
        if (denominator.hi == 0.0) {
          m.singular = true;
          return m;
        }
        const DD sb = c / denominator, sa = -ldexp(c2 / denominator, -1), sc2 = -ldexp(c2 * sb, -2);
        m.a = sa + old.a + z * sa * old.a - sb * old.c;
        m.b = (1.0 + z * sa) * old.b + sb * (1.0 + z * old.d);
        m.c = sb * (1.0 + z * old.a) + (1.0 + z * sa) * old.c;
        m.d = sa + old.d + z * sa * old.d - sb * old.b;
        m.c2 = sc2 + sb * old.a + old.c2 + sa * old.c;
        m.weight = old.weight + c;
        const double d_sb = -0.25 * c * c * sb.hi / denominator.hi, d_sa = -0.5 * c * d_sb;
        const double flow = 1.0 + zh * sa.hi, d_flow = sa.hi + zh * d_sa;
        slope.a = d_sa + d_flow * old.a.hi + flow * was.a - d_sb * old.c.hi - sb.hi * was.c;
        slope.b =
            d_flow * old.b.hi + flow * was.b + d_sb * (1.0 + zh * old.d.hi) + sb.hi * (old.d.hi + zh * was.d);
        slope.c =
            d_sb * (1.0 + zh * old.a.hi) + sb.hi * (old.a.hi + zh * was.a) + d_flow * old.c.hi + flow * was.c;
        slope.d = d_sa + d_flow * old.d.hi + flow * was.d - d_sb * old.b.hi - sb.hi * was.b;
        break;
      }
      case Part::kFlow: throw std::logic_error("a flow has no step map");
    }
  }
  m.s = -ldexp(m.a + m.d, -2);
  m.sigma = z * m.s;
  m.slope = m.s.hi - 0.25 * zh * (slope.a + slope.d);
  m.co_sigma = 1.0 - m.sigma;
  // One solve by itself: without the cancellation, for any stiffness.
  if (row.substeps.size() == 1 && row.substeps[0].part == Part::kSolve)
    m.co_sigma =
        1.0 / (1.0 + ldexp(z * from_product(row.substeps[0].coefficient, row.substeps[0].coefficient), -2));
  return m;
}

ModeCoefficients mode_coefficients(DD lambda, double h, std::int64_t steps, const IntegratorRow& row,
                                   std::string* reason) {
  return mode_coefficients(lambda, h, steps, row,
                           row.has(Part::kFlow) ? StepMap{} : step_map(row, lambda * h * h), reason);
}

ModeCoefficients mode_coefficients(DD lambda, double h, std::int64_t steps, const IntegratorRow& row,
                                   const StepMap& m, std::string* reason) {
  const auto undefined = [&](const char* why) {
    if (reason != nullptr) *reason = why;
    return ModeCoefficients{};
  };
  if (steps == 0 || h == 0.0) return {};
  if (row.has(Part::kFlow)) {
    if (!isfinite(lambda * (DD(steps) * h) * (DD(steps) * h)) &&
        !isfinite(sqrt(abs(lambda)) * (DD(steps) * h))) {
      return undefined("omega t exceeds the range of doubles");
    }
    return exact_flow(lambda, h, steps);
  }

  const DD z = lambda * h * h;
  if (!isfinite(z)) return undefined("lambda h^2 exceeds the range of doubles");
  if (m.singular) return undefined("the implicit midpoint step is singular: 1 + lambda h^2 / 4 = 0");
  if (!isfinite(m.sigma) || !isfinite(m.b) || !isfinite(m.c) || !isfinite(m.c2))
    return undefined("lambda h^2 exceeds the range of doubles");
  const DD sigma = m.sigma, co_sigma = m.co_sigma;

  const DD n = steps;
  const bool odd = (steps & 1) != 0;
  ModeCoefficients r;
  DD u, sin2;  // U_{N-1}(c) and sin^2(N theta / 2) / sigma
  Growth g;
  if (std::fabs(sigma.hi) < kTinySigma) {
    u = n;
    sin2 = n * n;
  } else if (sigma.hi > 0.0 && co_sigma.hi >= 0.0) {
    // theta from the smaller of sigma and 1 - sigma: asin is ill-conditioned near 1.
    const bool far = sigma.hi > 0.5;
    const DD half_sine = sqrt(far ? co_sigma : sigma);
    DD s, c;
    sincos(n * asin(half_sine), s, c);
    const DD sin_theta = ldexp(half_sine * sqrt(far ? sigma : co_sigma), 1);
    const DD s2 = sqr(s);
    const DD ratio = std::fabs(half_sine.hi) < kTinySigma ? n : ldexp(s * c, 1) / sin_theta;
    if (!far) {
      r.t = 1.0 - ldexp(s2, 1);
      u = ratio;
      sin2 = s2 / sigma;
    } else {
      // theta = pi - theta'.
      r.t = odd ? ldexp(s2, 1) - 1.0 : 1.0 - ldexp(s2, 1);
      u = odd ? ratio : -ratio;
      sin2 = (odd ? sqr(c) : s2) / sigma;
    }
  } else if (sigma.hi < 0.0) {
    const DD half_sine = sqrt(-sigma);
    g = growth(ldexp(n * asinh(half_sine), 1));
    r.t = g.cosh_w;
    u = g.sinh_w / ldexp(half_sine * sqrt(co_sigma), 1);
    sin2 = -(g.sinh2_half / sigma);
  } else {
    // theta = pi + i eta: the sign alternates.
    const DD half_sine = sqrt(-co_sigma);
    g = growth(ldexp(n * asinh(half_sine), 1));
    r.t = odd ? -g.cosh_w : g.cosh_w;
    u = g.sinh_w / ldexp(half_sine * sqrt(sigma), 1);
    if (!odd) u = -u;
    sin2 = (odd ? g.cosh2_half : -g.sinh2_half) / sigma;
  }
  r.exponent = g.exponent;
  r.b = m.b * h * u;
  r.a1 = m.c * h * u;
  // (1 - T_N) / lambda.
  const DD h2 = from_product(h, h);
  r.a2 = ldexp(h2 * m.s, 1) * sin2;
  r.t_p = r.t;
  r.a2_p = r.a2;
  // A step that is not symmetric: M^N = T_N + U_{N-1} (M - tr M / 2).
  if (const DD skew = ldexp(m.a - m.d, -1); skew.hi != 0.0) {
    r.t = r.t + z * skew * u;
    r.t_p = r.t_p - z * skew * u;
    r.a2 = r.a2 - h2 * skew * u;
    r.a2_p = r.a2_p + h2 * skew * u;
  }
  // (N h w - a1) / lambda, w the sum of the weights of the forces.
  const DD sum = ldexp(m.s, 2) * m.weight * missing_sum(n, u, sigma, g) - m.c2 * u;
  r.a3 = h2 * h * sum;
  return r;
}

}  // namespace tinyphys
