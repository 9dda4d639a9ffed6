// The sums over the steps of a jump of which its gradient by K, Minv, g and v consists.
//
// A loss L of the state after N steps changes by
//   dL = h sum of  -c lambda_p . (dK q + dg)      over the kicks,
//        h sum of   d lambda_q . (dMinv p + dv)   over the drifts,
// q and p those before the substep, lambda the cotangents after it (the adjoint method), and by h itself by the same sums,
// with K, Minv, g and v in the place of their changes. In modes the sums of one pair follow from
//   X_ab = sum_n (A_a^T)^(N-1-n) Lambda_a z_b^T (A_b^T)^n,
// Lambda_a the cotangents of mode a at the end, z_b = (y, pi, 1) mode b at the start, A their steps. Its N terms are summed by
// doubling, X_2m = (A_a^T)^m X_m + X_m (A_b^T)^m: no difference of frequencies divides anything, and equal ones are no case of
// their own. The powers are double-double, the sums double: their error is some 2^-53 of N |Lambda_a| |z_b|.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "support/dd.hpp"
#include "support/integrators.hpp"

namespace tinyphys {

// H = m pi^2 / 2 + v pi + k y^2 / 2 + g y; its state at the start and the cotangents at the end.
struct ModeLine {
  DD k = 0.0, m = 0.0, g = 0.0, v = 0.0;
  double y = 0.0, pi = 0.0, of_y = 0.0, of_pi = 0.0;
};

class ModeMoments {
 public:
  ModeMoments(std::span<const ModeLine> modes, double h, std::int64_t steps, const IntegratorRow& row);

  // Empty, or why there are no sums: a mode leaves the range in which they can be taken.
  const std::string& reason() const { return reason_; }

  // What goes with each entry of K and of Minv, and with g and v, of mode a.
  struct Constants {
    double of_g = 0.0, of_v = 0.0;
  };
  // Of the pairs (a, b), all b: kicks[b] = -sum c lambda_pi,a y_b, drifts[b] = sum d lambda_y,a pi_b.
  Constants row(long a, double* kicks, double* drifts) const;
  // Of the pairs (a, a) alone.
  void diagonal(double* kicks, double* drifts, double* of_g, double* of_v) const;

 private:
  // (y, pi) -> (a y + b pi + x, c y + d pi + w)
  struct Powers {
    std::vector<double> a, b, c, d, x, w;
    std::vector<double> u0, u1;  // (A^m)^T Lambda of the odd step that follows
    bool odd = false;
  };
  // One substep as what X gives: weight * r^T X p.
  struct Term {
    double weight = 0.0;
    bool kick = false;
    std::vector<double> r0, r1, p0, p1, p2;
  };
  template <bool kDiagonal>
  void block(long a, long first, long count, double* kicks, double* drifts, double* of_g, double* of_v) const;

  long n_ = 0;
  // Of each mode the cotangents and the state are kept in units of these powers of 2: no product leaves the range on the way.
  std::vector<int> of_cotangents_, of_state_;
  bool none_ = false;  // N = 0
  std::string reason_;
  std::vector<ModeLine> modes_;
  std::vector<Powers> levels_;
  Powers one_;  // of one step, after which odd levels ask
  std::vector<Term> terms_;
  // A flow: its first piece, tau / h steps, by the series sum_k tau^(k+1) / (k+1)! D_k / h,
  // D_(k+1) = J_a^T D_k + Lambda (J_b^(k+1) z)^T.
  double tau_ = 0.0, piece_ = 0.0;
  int series_ = 0;
  std::vector<double> k_, m_;
};

}  // namespace tinyphys
