// Running a PROPAGATE: the Guard that decides, from values, between the jump and the loop, and the jump itself.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/canonical.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// What a run of one PROPAGATE found and did; explain() puts it into words.
struct JumpFacts {
  bool jumped = false;
  std::string structure;  // "1000 normal modes, dense couplings"
  std::string refused;    // why it looped
  bool powered = false;   // by powers of the step matrix, not by modes
  bool by_cost = false;   // and whether the reason is the cost
  std::int64_t steps = 0;
  double dt = 0;
  double build_s = 0;  // making the modes; 0 when they were ready
  double apply_s = 0;
  double loop_estimate_s = 0, jump_estimate_s = 0;
  // Of q and p against the exactly evaluated map, relative to their norms; infinite where they overflow; 0: none stated.
  double error_bound_q = 0, error_bound_p = 0, loop_error = 0;
  double h_omega_max = 0;
  std::int64_t unstable_modes = 0;
  double growth_decades = 0;
};

struct JumpResult {
  bool jumped = false;
  StorageRef q, p;
  JumpFacts facts;
};

// arguments: steps, state..., captured... of `propagate`. Jumps when that is possible and predicted to be cheaper
// than loop_seconds (the whole loop), or when there is no loop.
JumpResult try_jump(const Node* propagate, std::span<const Argument> arguments, double loop_seconds);

}  // namespace tinyphys
