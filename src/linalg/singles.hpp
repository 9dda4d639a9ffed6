// Coordinates that move each by itself: H = k q^2 / 2 + m p^2 / 2 + g q + v p of each, with lambda = m k. N steps are
// q' = t q + b (m p + v) - a2 m g and p' = t p - a1 (k q + g) - a2 k v, with the powers of its mode (mode_powers.hpp);
// the linear drift of m = 0 is the limit lambda = 0.
#pragma once

#include <array>
#include <cmath>
#include <span>
#include <vector>

#include "linalg/dd_kernels.hpp"
#include "linalg/dd_matrix.hpp"
#include "linalg/mode_powers.hpp"
#include "linalg/mode_step.hpp"

namespace tinyphys {

// Unit of double-double arithmetic as the bounds count it: some operations of 2^-104 each.
constexpr double kUnit = 0x1p-101;

DD scale_exponent(DD x, std::int64_t e);
// 0 * inf = 0: a coefficient may have overflowed where the input is zero.
inline DD guarded(DD coefficient, DD x) { return x.hi == 0.0 ? DD(0.0) : coefficient * x; }
// Inputs near the end of the range are brought down first, so that no two products overflow to opposite infinities.
int headroom(DD a, DD b);
inline DD lowered(DD value, int down) { return down == 0 ? value : ldexp(value, -down); }

// The duration of a jump, as the error sees it: of N h times the weights of the forces, negative ones counted too.
double stretched_time(const IntegratorRow& row, double h, std::int64_t steps);

// Squared norms of some coordinates: of the state before and after, of their error, and of the forces of one step; and the
// largest |q| and |p| before and after. NaN stays.
struct Norms {
  double q_before = 0.0, p_before = 0.0, force = 0.0, q = 0.0, p = 0.0, q_error = 0.0, p_error = 0.0;
  std::array<double, 4> largest{};

  void add(const Norms& o) {
    q_before += o.q_before;
    p_before += o.p_before;
    force += o.force;
    q += o.q;
    p += o.p;
    q_error += o.q_error;
    p_error += o.p_error;
    for (std::size_t i = 0; i < largest.size(); ++i)
      if (o.largest[i] > largest[i] || std::isnan(o.largest[i])) largest[i] = o.largest[i];
  }
};

// What N steps make of single coordinates.
struct SinglesJump {
  ModePowers powers;
  double h = 0.0;
  double kick = 0.0;  // the time of the forces times kUnit: lambda = m k is right to a unit
  // As in SingleArrays. Empty where the coordinates are not in order, or near the ends of the range.
  std::vector<double> maps;
  // Of kGroup coordinates: the largest of the factors of their errors, and the norms of what no state enters.
  struct Bound {
    double lever_m = 0.0, lever_k = 0.0, k = 0.0, rounding = 0.0, turned = 0.0;
    double moved_q = 0.0, moved_p = 0.0, force = 0.0;
    bool regular = true;  // all of its eights are
  };
  std::vector<Bound> bounds;
};

class Singles {
 public:
  static constexpr long kGroup = 256;

  // Coordinate i, with a mode of lambda = m k; equal lambdas may share a mode.
  void add(long i, long mode, DD k, DD m, DD g, DD v);
  // When all are there.
  void finish();

  long size() const { return static_cast<long>(index_.size()); }
  long index(long s) const { return index_[at(s)]; }
  DD k(long s) const { return value(k_h_, k_l_, s); }
  DD m(long s) const { return value(m_h_, m_l_, s); }
  DD g(long s) const { return forces() ? value(g_h_, g_l_, s) : DD(0.0); }
  DD v(long s) const { return forces() ? value(v_h_, v_l_, s) : DD(0.0); }

  SinglesJump jump(std::span<const DD> lambda, double h, std::int64_t steps, const IntegratorRow& row,
                   const ParallelFor& parallel, const ModeKernels& kernels) const;
  // Takes q and p, of all coordinates, to q_out and p_out; in doubles they must not overlap. Returns the norms of these
  // coordinates.
  template <class Number>
  Norms apply(const SinglesJump& jump, const Number* q, const Number* p, Number* q_out, Number* p_out,
              const ParallelFor& parallel) const;

 private:
  static std::size_t at(long i) { return static_cast<std::size_t>(i); }
  static DD value(const std::vector<double>& high, const std::vector<double>& low, long s) {
    return {high[at(s)], low.empty() ? 0.0 : low[at(s)]};
  }
  bool forces() const { return !g_h_.empty(); }
  int planes() const { return forces() ? 10 : 6; }
  void apply_one(const SinglesJump& jump, long s, DD q, DD p, DD& q_out, DD& p_out, Norms& total) const;

  std::vector<long> index_;
  // The low words of k and m are empty where all are 0; g and v where all are.
  std::vector<double> k_h_, k_l_, m_h_, m_l_, g_h_, g_l_, v_h_, v_l_;
  std::vector<long> mode_;
  bool in_order_ = true;  // index and mode count up from 0
  bool moderate_ = true;  // no product of a few of these leaves the range of doubles
};

}  // namespace tinyphys
