// A plan: what runs, in order, over numbered slots. A small tree: a Loop holds the plan of its body, a Guard the
// alternatives that values decide between.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "schedule/call.hpp"
#include "schedule/guard.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

struct Plan;

enum class PlanOp : std::uint8_t {
  kKernel,  // code: LAMBDA compiled by the device
  kHost,    // code: LAMBDA evaluated on the host: fills, and ops that no kernel has
  kCall,    // code: a node that a library function makes
  kLoop,    // code: SCAN; body plan, n times, carries double-buffered
  kGuard,   // alternatives, decided at each run
  kCheck    // code: CHECK; a condition that must hold, else tp::Error
};

constexpr std::string_view name(PlanOp k) {
  switch (k) {
    case PlanOp::kKernel: return "kernel";
    case PlanOp::kHost: return "host";
    case PlanOp::kCall: return "call";
    case PlanOp::kLoop: return "loop";
    case PlanOp::kGuard: return "guard";
    case PlanOp::kCheck: return "check";
  }
  return "?";
}

// Where an operand comes from: a slot, or a scalar argument of the plan.
struct Operand {
  int index = 0;
  bool scalar = false;
};

struct Slot {
  DType dtype = DType::kFloat64;
  Dims shape;
  int buffer = -1;  // whose memory it takes; -1: a param's, or what a step hands on
  std::size_t bytes() const { return bytes_of(dtype, shape); }
};

struct PlanStep {
  PlanOp kind = PlanOp::kKernel;
  UOp code;
  // One per LAMBDA param; for whole nodes one per source (LAMBDA sources left out).
  std::vector<Operand> inputs;
  std::vector<int> outputs;                      // slots; -1 where an output of a loop is not wanted
  const CallRow* call = nullptr;                 // kCall
  std::shared_ptr<Plan> body;                    // kLoop
  std::size_t n_carry = 0, n_xs = 0, n_out = 0;  // kLoop
  bool has_until = false;                        // kLoop: the last result of the body ends it
  std::vector<Alternative> alternatives;         // kGuard: tried in order
  bool scan_kernel = false;                      // kKernel: a whole time loop
  // The memory plan. `overwritten`: a slot that dies here and whose memory output 0 takes, -1: none.
  int overwritten = -1;
  std::vector<int> dead;  // slots that nobody reads after this step
  std::vector<int> idle;  // buffers that no later step writes
};

struct Plan {
  std::vector<Operand> params;  // per PARAM: its slot or its scalar number
  std::vector<Slot> slots;      // first the tensor params, then temporaries and results
  std::vector<Slot> scalars;
  std::vector<PlanStep> steps;
  std::vector<int> results;          // one slot per output; may be a param's slot
  std::vector<std::size_t> buffers;  // the bytes of each
  bool has_guard = false;
};

struct ScheduleOptions {
  bool fuse = true;  // false: a kernel per op, and every SCAN a loop of the plan (TINYPHYS_OPT=0)
  // Is this SCAN small enough to be one kernel? Asked of the code generator, a later stage.
  std::function<bool(const Node*)> fits_kernel;
};

// The plan of a closed program: a LAMBDA over PARAMs, tensors (kind 0) and scalar slots (kind 1). n_params counts
// unused ones too.
std::shared_ptr<Plan> schedule(const Node* program, const ScheduleOptions& options = {});

// Gives slots their buffers: a buffer is taken again when what it held is dead, and an elementwise kernel writes over an
// input that dies there. Results get memory that no other slot holds at the end.
void plan_memory(Plan& plan);

// "kernel", "scan kernel", "gemm", "guard jump or loop".
std::string step_name(const PlanStep& step);
// One step a line, for TINYPHYS_DEBUG and golden tests.
std::string to_text(const Plan& plan, const std::string& indent = "");

// Arithmetic of one pass over a graph, in flops and bytes: the loop's side of the cost Guard.
double estimate_seconds(const Node* lambda);

}  // namespace tinyphys
