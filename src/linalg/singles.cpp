#include "linalg/singles.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "linalg/dense.hpp"

namespace tinyphys {

namespace {

std::size_t u(long i) { return static_cast<std::size_t>(i); }

constexpr long kBlock = 1024;
constexpr double kModerate = 1e100;
// States below this meet no coefficient with which a product leaves the range; in squares.
constexpr double kModerateSquares = 1e200;

double sqr(double x) { return x * x; }

}  // namespace

DD scale_exponent(DD x, std::int64_t e) {
  return ldexp(x, static_cast<int>(std::clamp<std::int64_t>(e, -5000, 5000)));
}

int headroom(DD a, DD b) { return std::fmax(std::fabs(a.hi), std::fabs(b.hi)) > 0x1p400 ? 620 : 0; }

double stretched_time(const IntegratorRow& row, double h, std::int64_t steps) {
  double forces = 0.0;
  for (const Substep& s : row.substeps)
    if (s.part != Part::kDrift) forces += std::fabs(s.coefficient);
  return static_cast<double>(steps) * std::fabs(h) * std::max(1.0, forces);
}

void Singles::add(long i, long mode, DD k, DD m, DD g, DD v) {
  index_.push_back(i);
  mode_.push_back(mode);
  const auto push = [](std::vector<double>& high, std::vector<double>& low, DD x) {
    high.push_back(x.hi);
    low.push_back(x.lo);
  };
  push(k_h_, k_l_, k);
  push(m_h_, m_l_, m);
  push(g_h_, g_l_, g);
  push(v_h_, v_l_, v);
}

void Singles::finish() {
  const auto zero = [](const std::vector<double>& x) {
    return std::ranges::all_of(x, [](double y) { return y == 0.0; });
  };
  for (auto* low : {&k_l_, &m_l_})
    if (zero(*low)) *low = {};
  if (zero(g_h_) && zero(v_h_)) g_h_ = g_l_ = v_h_ = v_l_ = {};
  for (const auto* high : {&k_h_, &m_h_, &g_h_, &v_h_})
    for (const double x : *high) moderate_ = moderate_ && std::fabs(x) < kModerate;
  for (long s = 0; s < size(); ++s) in_order_ = in_order_ && index_[u(s)] == s && mode_[u(s)] == s;
}

SinglesJump Singles::jump(std::span<const DD> lambda, double h, std::int64_t steps, const IntegratorRow& row,
                          const ParallelFor& parallel, const ModeKernels& kernels) const {
  SinglesJump made{ModePowers(lambda, h, steps, row, forces(), parallel, kernels),
                   h,
                   stretched_time(row, h, steps) * kUnit,
                   {},
                   {}};
  if (!made.powers.reason().empty() || !in_order_ || !moderate_ || size() < kDDLanes) return made;
  const long count = size() / kDDLanes * kDDLanes;
  made.maps.resize(u(planes() * count));
  made.bounds.resize(u((count + kGroup - 1) / kGroup));
  run_blocks(parallel, static_cast<long>(made.bounds.size()), [&](long group) {
    SinglesJump::Bound& b = made.bounds[u(group)];
    const long first = group * kGroup, last = std::min(count, first + kGroup);
    for (long s = first; s < last; ++s) {
      if (!made.powers.regular(s)) {
        b.regular = false;
        s += kDDLanes - 1;
        continue;
      }
      const ModeCoefficients c = made.powers.coefficients(s);
      const ModeBound bound = made.powers.bound(s);
      const DD k_s = k(s), m_s = m(s);
      const auto set = [&](int plane, DD x) {
        double* eight = made.maps.data() + s / kDDLanes * kDDLanes * planes() + s % kDDLanes;
        eight[plane * kDDLanes] = x.hi;
        eight[(plane + 1) * kDDLanes] = x.lo;
      };
      set(0, c.t);
      set(2, c.b * m_s);
      set(4, -(c.a1 * k_s));
      const double mass = m_s.hi, stiff = std::fabs(k_s.hi);
      b.lever_m = std::max(b.lever_m, bound.lever * mass);
      b.lever_k = std::max(b.lever_k, bound.lever * stiff);
      b.k = std::max(b.k, stiff);
      b.rounding = std::max(b.rounding, bound.rounding);
      b.turned = std::max(b.turned, made.kick * stiff * mass * bound.lever);
      if (!forces()) continue;
      const DD g_s = g(s), v_s = v(s);
      set(6, c.b * v_s - c.a2 * m_s * g_s);
      set(8, -(c.a1 * g_s) - c.a2_p * k_s * v_s);
      const double f = std::fabs(g_s.hi), w = std::fabs(v_s.hi);
      b.moved_q += sqr(bound.lever * w + bound.lever2 * mass * f);
      b.moved_p += sqr(bound.lever2 * stiff * w + bound.lever * f);
      b.force += sqr(f);
    }
    for (double* squares : {&b.moved_q, &b.moved_p, &b.force}) *squares = std::sqrt(*squares);
  });
  return made;
}

// For any mode and any size.
void Singles::apply_one(const SinglesJump& jump, long s, DD q, DD p, DD& q_out, DD& p_out,
                        Norms& total) const {
  const ModeCoefficients c = jump.powers.coefficients(mode_[u(s)]);
  const ModeBound bound = jump.powers.bound(mode_[u(s)]);
  const int down = headroom(q, p);
  const DD k_s = k(s), m_s = m(s), g_s = lowered(g(s), down), v_s = lowered(v(s), down);
  const DD x = lowered(q, down), y = lowered(p, down);
  DD a = guarded(c.t, x) + guarded(c.b, m_s * y + v_s);
  DD b = guarded(c.t_p, y) - guarded(c.a1, k_s * x);
  if (g_s.hi != 0.0) {
    a -= guarded(c.a2, m_s * g_s);
    b -= guarded(c.a1, g_s);
  }
  if (v_s.hi != 0.0) b -= guarded(c.a2_p, k_s * v_s);
  const std::int64_t e = c.exponent + down;
  q_out = e == 0 ? a : scale_exponent(a, e);
  p_out = e == 0 ? b : scale_exponent(b, e);
  // The largest |q| and |p| on the way; lambda = m k is right to a unit, a kick of that part of k q in each step.
  const double mass = m_s.hi, stiff = std::fabs(k_s.hi), far = std::fabs(q.hi), fast = std::fabs(p.hi);
  const double f = std::fabs(g(s).hi), w = std::fabs(v(s).hi);
  double largest_q = far + bound.lever * mass * fast, largest_p = fast, pushed = stiff * far;
  if (f != 0.0 || w != 0.0) {
    largest_q += bound.lever * w + bound.lever2 * mass * f;
    largest_p += bound.lever2 * stiff * w;
    pushed += f;
  }
  largest_p += bound.lever * pushed;
  const double kick = jump.kick * stiff * largest_q;
  const double dq = bound.growth * (bound.rounding * largest_q + kick * mass * bound.lever);
  const double dp = bound.growth * (bound.rounding * largest_p + kick);
  total.add({sqr(far),
             sqr(fast),
             sqr(pushed),
             sqr(q_out.hi),
             sqr(p_out.hi),
             sqr(dq),
             sqr(dp),
             {far, fast, std::fabs(q_out.hi), std::fabs(p_out.hi)}});
}

template <class Number>
Norms Singles::apply(const SinglesJump& jump, const Number* q, const Number* p, Number* q_out, Number* p_out,
                     const ParallelFor& parallel) const {
  constexpr bool kLow = std::is_same_v<Number, DD>;
  const long count = size(), blocks = (count + kBlock - 1) / kBlock;
  std::vector<Norms> norms(u(blocks));
  run_blocks(parallel, blocks, [&](long block) {
    Norms& total = norms[u(block)];
    const auto one = [&](long s) {
      const long i = index_[u(s)];
      DD x, y;
      apply_one(jump, s, q[i], p[i], x, y, total);
      if constexpr (kLow) {
        q_out[i] = x;
        p_out[i] = y;
      } else {
        q_out[i] = x.hi;
        p_out[i] = y.hi;
      }
    };
    // Eight side by side, from s to end within a group: false where a state is too large for them.
    const auto side_by_side = [&](long s, long end) {
      SingleArrays arrays{};
      arrays.maps = jump.maps.data() + s * planes();
      arrays.constant = forces();
      std::array<std::array<double, kGroup>, 8> words;
      if constexpr (kLow) {
        for (long i = s; i < end; ++i) {
          words[0][u(i - s)] = q[i].hi;
          words[1][u(i - s)] = q[i].lo;
          words[2][u(i - s)] = p[i].hi;
          words[3][u(i - s)] = p[i].lo;
        }
        arrays.q_h = words[0].data();
        arrays.q_l = words[1].data();
        arrays.p_h = words[2].data();
        arrays.p_l = words[3].data();
        arrays.q_out_h = words[4].data();
        arrays.q_out_l = words[5].data();
        arrays.p_out_h = words[6].data();
        arrays.p_out_l = words[7].data();
      } else {
        arrays.q_h = q + s;
        arrays.p_h = p + s;
        arrays.q_out_h = q_out + s;
        arrays.p_out_h = p_out + s;
      }
      double sums[4];
      std::array<double, 4> largest;
      dd_kernels().mode_apply(arrays, end - s, sums, largest.data());
      if (!(sums[0] < kModerateSquares && sums[1] < kModerateSquares)) return false;
      if constexpr (kLow) {
        for (long i = s; i < end; ++i) {
          q_out[i] = {words[4][u(i - s)], words[5][u(i - s)]};
          p_out[i] = {words[6][u(i - s)], words[7][u(i - s)]};
        }
      }
      // As for one coordinate, in norms: by the triangle inequality at least those of all.
      const SinglesJump::Bound& b = jump.bounds[u(s / kGroup)];
      const double far = std::sqrt(sums[0]), fast = std::sqrt(sums[1]), pushed = b.k * far + b.force;
      const double largest_q = far + b.lever_m * fast + b.moved_q,
                   largest_p = fast + b.lever_k * far + b.moved_p;
      const double dq = (b.rounding + b.turned) * largest_q,
                   dp = b.rounding * largest_p + jump.kick * b.k * largest_q;
      total.add({sums[0], sums[1], sqr(pushed), sums[2], sums[3], sqr(dq), sqr(dp), largest});
      return true;
    };
    const long last = std::min(count, (block + 1) * kBlock);
    for (long s = block * kBlock; s < last;) {
      const long group_end = std::min(last, (s / kGroup + 1) * kGroup);
      long end = s;
      if (!jump.maps.empty()) {
        const long whole = s + (group_end - s) / kDDLanes * kDDLanes;
        const bool all = whole > s && jump.bounds[u(s / kGroup)].regular;
        for (end = all ? whole : s; end < whole && jump.powers.regular(end);) end += kDDLanes;
      }
      if (end > s && side_by_side(s, end)) {
        s = end;
        continue;
      }
      // Up to where the next eight may begin.
      const long odd = end > s ? end : std::min(group_end, s + kDDLanes);
      for (; s < odd; ++s) one(s);
    }
  });
  Norms sum;
  for (const Norms& part : norms) sum.add(part);
  sum.force *= jump.h * jump.h;
  return sum;
}

template Norms Singles::apply(const SinglesJump&, const double*, const double*, double*, double*,
                              const ParallelFor&) const;
template Norms Singles::apply(const SinglesJump&, const DD*, const DD*, DD*, DD*, const ParallelFor&) const;

}  // namespace tinyphys
