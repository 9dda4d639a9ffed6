// The engine: what stands behind realize(), explain() and the checks of evolve().
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tensor/engine_hook.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// Plans made, and plans found ready, since the process began.
struct PlanCounts {
  std::int64_t made = 0;
  std::int64_t reused = 0;
};
PlanCounts plan_counts();

// Computes values whose program is not likely to come again: small ones by the interpreter, as their code would take longer to
// make than to run. Where it does come again it is compiled.
void realize_once(std::span<const UOp> values);

// The plan and kernels that realize(values) would run, as text; nothing is run.
std::string describe_plan(std::span<const UOp> values);

// What explain() says of the value: structure, and what its run found when it has run.
Explanation explain_value(const UOp& value);

}  // namespace tinyphys
