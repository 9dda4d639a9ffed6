// Steps of equal length in a fictitious time s, dt = g ds, as a loop (PHYSICS section 7).
#pragma once

#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// H = T(p) - U(q). Without `rate` the logarithmic Hamiltonian log(T - E0) - log(U), whose step is drift, kick, drift:
//   drift  t += c ds / (T - E0), q += (c ds / (T - E0)) dT/dp      kick  p += (ds / U) dU/dq
// (Mikkola and Tanikawa 1999, Preto and Tremaine 1999). With g = rate(q) the time-transformed leapfrog (Mikkola and Aarseth
// 2002), whose drift takes 1 / W for g, W a coordinate of its own that follows 1 / g:
//   drift  t += c ds / W, q += (c ds / W) dT/dp      kick  p += g ds dU/dq, W += g ds v . d(1 / g)/dq
// with the mean v of the velocities before and after the kick.
struct WarpLoop {
  UOp q, p;                // symbols
  UOp kinetic, potential;  // T and V = -U over them, scalars
  UOp rate;                // g over q; null: 1 / U
  UOp ds, steps;
  UOp q0, p0, t0;
  UOp t_end;  // null: all steps are taken
};

struct Warped {
  UOp scan;
  UOp q, p, t;  // behind the CHECKs of what the method needs
};
Warped warp(const WarpLoop& loop);

}  // namespace tinyphys
