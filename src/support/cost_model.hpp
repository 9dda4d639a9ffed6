// What things cost, in seconds: the one place that every Guard asks. Constants of a kind of machine, measured once by
// `tinyphys-bench --calibrate` and not at run time, so that a decision between a loop and a jump (and with it the last
// bits of a result) is the same in every run.
#pragma once

#include <span>
#include <string_view>

namespace tinyphys {

struct CostModel {
  std::string_view kind;  // of machine
  // One core, vectorised, per element.
  double op_s;               // an arithmetic operation
  double call_s;             // a transcendental function
  double multiply_add_s;     // of a matrix product
  double dd_multiply_add_s;  // of a matrix product in double-double, entry by entry
  // The runtime.
  double kernel_compile_s;  // a loop's kernels, when they are not there yet: these and
  double node_compile_s;    // for each of their nodes
  double loop_pass_s;       // a pass through a loop of the plan, beside its kernels' arithmetic
  double scan_step_s;       // latency of one dependent step of a scan kernel
  // Reading an affine map off the graph, per evaluated element.
  double extraction_s;
  // Normal modes of a block of order n: (build_cubic n^2 + build_square n + build_row) n, (apply_square n + apply_row) n;
  // and the power of a mode, for a new step or number of steps.
  double modes_build_cubic_s, modes_build_square_s, modes_build_row_s;
  double modes_apply_square_s, modes_apply_row_s, mode_power_s;
  // And of coordinates that are coupled to none.
  double single_build_s, single_apply_s;
  // Fourier modes: proving a lattice and probing it, per evaluated element; the power of one of many modes, and a coupling in
  // its symbol;
  // a transform, per point and bit of the number of points; and what else a jump does to a point.
  double lattice_probe_s, lattice_mode_s, lattice_tap_s, fft_point_s, lattice_point_s;
};

/// Of this machine's kind; of amd-zen4 where it is unknown. TINYPHYS_COST_MODEL names another.
const CostModel& cost_model();

/// All kinds.
std::span<const CostModel> cost_models();

/// Their names, and before them what finds the machine's.
inline constexpr std::string_view kCostModelNames = "auto amd-zen4 intel-emerald-rapids";

}  // namespace tinyphys
