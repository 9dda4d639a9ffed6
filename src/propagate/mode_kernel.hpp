// The kernels of mode_powers.hpp: the formulas of an integrator's modes as a graph, in double-double by
// derive/double_double.hpp.
#pragma once

#include <memory>

#include "linalg/mode_powers.hpp"

namespace tinyphys {

// For steps that are symmetric compositions of kicks and drifts, a flow, or one implicit midpoint; null for others. Compiled
// once a process. `forces`: with a2.
std::shared_ptr<const ModeKernel> mode_kernel(const IntegratorRow& row, bool forces);

}  // namespace tinyphys
