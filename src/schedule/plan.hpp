// A plan: what runs, in order, over numbered buffers. A small tree: a Loop holds the plan of its body, a Propagate
// (the Guard of a lifted loop) the program of its alternative.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

struct Plan;

enum class PlanOp : std::uint8_t {
  kKernel,     // code: LAMBDA compiled by the device
  kHost,       // code: LAMBDA evaluated on the host: fills, and ops that no kernel has
  kMatmul,     // two operands, [batch..., m, k] x [batch..., k, n]: BLAS
  kCopy,       // CAT of many parts, where a part may be a number; SLICE
  kLoop,       // body plan, n times, carries double-buffered
  kPropagate,  // jump or loop, decided at each run
  kCheck       // a condition that must hold, else tp::Error
};

constexpr std::string_view name(PlanOp k) {
  switch (k) {
    case PlanOp::kKernel: return "kernel";
    case PlanOp::kHost: return "host";
    case PlanOp::kMatmul: return "matmul";
    case PlanOp::kCopy: return "copy";
    case PlanOp::kLoop: return "loop";
    case PlanOp::kPropagate: return "propagate";
    case PlanOp::kCheck: return "check";
  }
  return "?";
}

// Where an operand comes from: a buffer slot, or a scalar argument of the plan.
struct Operand {
  int index = 0;
  bool scalar = false;
};

struct Slot {
  DType dtype = DType::kFloat64;
  Dims shape;
  std::size_t bytes() const;
};

struct PlanStep {
  PlanOp kind = PlanOp::kKernel;
  UOp code;  // LAMBDA (kernel, host), SCAN (loop, propagate's own node), CHECK, MATMUL, CAT, SLICE
  std::vector<Operand>
      inputs;                // one per LAMBDA param; for whole nodes one per source (LAMBDA sources left out)
  std::vector<int> outputs;  // slots; -1 where an output of a loop is not wanted
  std::shared_ptr<Plan> body;                    // kLoop
  std::size_t n_carry = 0, n_xs = 0, n_out = 0;  // kLoop
  bool has_until = false;                        // kLoop: the last result of the body ends it
  bool scan_kernel = false;                      // kKernel: a whole time loop
};

struct Plan {
  std::vector<Operand> params;  // per PARAM: its slot or its scalar number
  std::vector<Slot> slots;      // first the tensor params, then temporaries and results
  std::vector<Slot> scalars;
  std::vector<PlanStep> steps;
  std::vector<int> results;   // one slot per output; may be a param's slot
  std::vector<int> last_use;  // per slot: the step after which it is free; -1 never (params, results)
};

struct ScheduleOptions {
  bool fuse = true;  // false: a kernel per op, and every SCAN a loop of the plan (TINYPHYS_OPT=0)
  // Is this SCAN small enough to be one kernel? Asked of the code generator, a later stage.
  std::function<bool(const Node*)> fits_kernel;
};

// The plan of a closed program: a LAMBDA over PARAMs, tensors (kind 0) and scalar slots (kind 1). n_params counts
// unused ones too.
std::shared_ptr<Plan> schedule(const Node* program, const ScheduleOptions& options = {});

// One step a line, for TINYPHYS_DEBUG and golden tests.
std::string to_text(const Plan& plan, const std::string& indent = "");

// Arithmetic of one pass over a graph, in flops and bytes: the loop's side of the cost Guard.
double estimate_seconds(const Node* lambda);

}  // namespace tinyphys
