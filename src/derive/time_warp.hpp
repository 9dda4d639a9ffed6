// Steps of equal length in a fictitious time s, dt = g ds, as a loop (PHYSICS section 7).
#pragma once

#include <cstdint>
#include <vector>

#include "uop/build.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// H = T(p) - U(q). Without `rate` the logarithmic Hamiltonian log(T - E0) - log(U), whose step is drift, kick, drift:
//   drift  t += c ds / (T - E0), q += (c ds / (T - E0)) dT/dp      kick  p += (ds / U) dU/dq
// (Mikkola and Tanikawa 1999, Preto and Tremaine 1999). With g = rate(q) the time-transformed leapfrog (Mikkola and Aarseth
// 2002), whose drift takes 1 / W for g, W a coordinate of its own that follows 1 / g:
//   drift  t += c ds / W, q += (c ds / W) dT/dp      kick  p += g ds dU/dq, W += g ds v . d(1 / g)/dq
// with the mean v of the velocities before and after the kick. With g = rate(q, p) and any H, the implicit midpoint rule for
// K = g (H - E0), with t as a coordinate (Hairer, Lubich and Wanner 2006, VIII.2): all at the mean of a step's two ends,
//   t += ds g, q += ds (g dH/dp + (H - E0) dg/dp), p -= ds (g dH/dq + (H - E0) dg/dq)
//
// Of an ensemble each scalar (T, U, H, g, t) is one for each member, the leading axes of q and p; members take steps until the
// last of them has no more to take, each in its own time.
struct WarpLoop {
  UOp q, p;                // symbols
  UOp kinetic, potential;  // T and V = -U over them
  UOp energy;              // H over them, in place of both: rate is of q and p
  UOp held;                // E0 of the midpoint rule; null: H at the start
  UOp rate;                // g; null: 1 / U
  UOp ds, steps;
  UOp q0, p0, t0;
  UOp t_end;                // null: all steps are taken
  UOp times;                // float64[n], ascending: the states then, in place of t_end; or null
  std::int64_t every = 0;   // above 0: the states after each so many steps
  std::size_t n_batch = 0;  // axes of the members
  Reversible reversible = Reversible::Auto;
};

struct Warped {
  UOp scan;
  UOp q, p, t;  // behind the CHECKs of what the method needs; of times and every with a leading axis
};
Warped warp(const WarpLoop& loop);

}  // namespace tinyphys
