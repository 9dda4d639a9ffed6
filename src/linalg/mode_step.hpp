// One step of a mode, and its N-th power.
#pragma once

#include <cstdint>
#include <string>

#include "support/dd.hpp"
#include "support/integrators.hpp"

namespace tinyphys {

// One step of a mode, z = lambda h^2: [[1 + z a, h b], [-lambda h c, 1 + z d]], the product of the maps of the
// integrator's substeps. Kept with z pulled out, so that nothing cancels as z goes to 0.
struct StepMap {
  DD a = 0.0, b = 0.0, c = 0.0, d = 0.0;
  DD weight = 0.0;  // sum of the weights of the forces: 1 up to the rounding of the coefficients
  DD c2 = 0.0;      // c = weight + z c2
  DD s = 0.0, sigma = 0.0, co_sigma = 1.0;  // sigma = z s = sin^2(theta / 2), 1 - sigma
  double slope = 0.0;                       // d sigma / dz
  bool singular = false;                    // an implicit substep has no solution
};
// Of an integrator without a flow.
StepMap step_map(const IntegratorRow& row, DD z);

// What a mode's (y, pi) becomes, with f the constant force in the mode and pi including the linear term's
// shift:
//   y' = t y + b pi + a2 f,   pi' = t_p pi - lambda a1 y + a1 f,   h sum' y_j = a2_p pi + a3 f for y_0 = 0
// (sum': the positions at which the step takes its forces, with their weights). Every entry is to be multiplied by
// 2^exponent. For symmetric steps t = t_p and a2 = a2_p.
struct ModeCoefficients {
  DD t = 1.0, t_p = 1.0, b = 0.0, a1 = 0.0, a2 = 0.0, a2_p = 0.0, a3 = 0.0;
  std::int64_t exponent = 0;
};

// One mode's N-th power, from the map of its step (unused by a flow). `reason` is set where the step itself is undefined (implicit midpoint at 1 + lambda
// h^2/4 = 0, lambda h^2 beyond the range of doubles).
ModeCoefficients mode_coefficients(DD lambda, double h, std::int64_t steps, const IntegratorRow& row,
                                   const StepMap& step, std::string* reason = nullptr);
ModeCoefficients mode_coefficients(DD lambda, double h, std::int64_t steps, const IntegratorRow& row,
                                   std::string* reason = nullptr);

// How much a mode can have moved at any time of the jump: |y'| <= growth (|y| + lever |pi| + lever2 |f|), and so on.
struct ModeBound {
  double lever = 0.0, lever2 = 0.0;
  double rounding = 0.0;  // of its coefficients, relative to those sizes
  double growth = 1.0;
};

}  // namespace tinyphys
