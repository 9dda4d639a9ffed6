// The compiler's one list of passes over the tensor graph.
#pragma once

#include "uop/uop.hpp"

namespace tinyphys {

struct PipelineOptions {
  bool physics = true;  // false: EVOLVE becomes its loop and nothing is recognised (TINYPHYS_OPT=0)
  bool body = false;    // the program is a body: a step of a loop or the loop alternative of a jump
  bool step = false;    // the former
  bool lift_scans = true;
};

// A program (LAMBDA over PARAMs) made ready for the scheduler: no EVOLVE, no vjp nodes. Bodies of loops are
// programs too and go through the same passes.
UOp run_passes(const UOp& program, const PipelineOptions& options);

}  // namespace tinyphys
