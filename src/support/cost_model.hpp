// What things cost, in seconds: the one place that every Guard asks. Measured by tools/bench on one machine kind, a
// core of a 2.6 GHz AMD EPYC (Zen 4) with AVX-512; constants, not run-time measurements, so that a decision between a
// loop and a jump (and with it the last bits of a result) is the same in every run.
#pragma once

namespace tinyphys {

struct CostModel {
  // One core, vectorised, per element.
  double op_s = 0.25e-9;            // an arithmetic operation
  double call_s = 2.5e-9;           // a transcendental function
  double multiply_add_s = 0.1e-9;   // of a matrix product
  double dd_multiply_add_s = 4e-9;  // of a matrix product in double-double, entry by entry
  // The runtime.
  double kernel_compile_s =
      6e-3;  // a loop's kernels, when they are not there yet: these and for each of their nodes
  double node_compile_s = 3e-4;
  double loop_pass_s = 2e-6;  // a pass through a loop of the plan, beside its kernels' arithmetic
  double scan_step_s = 8e-9;  // latency of one dependent step of a scan kernel
  // Reading an affine map off the graph, per evaluated element.
  double extraction_s = 60e-9;
  // Normal modes of a block of order n: (build_cubic n^2 + build_square n + build_row) n, (apply_square n + apply_row) n.
  double modes_build_cubic_s = 1.25e-9, modes_build_square_s = 1.5e-7, modes_build_row_s = 1e-5;
  double modes_apply_square_s = 2.2e-9, modes_apply_row_s = 1.2e-6;
  // Fourier modes: proving a lattice and probing it, per evaluated element; a mode's power, and a coupling in
  // its symbol; a transform, per point and
  // bit of the number of points.
  double lattice_probe_s = 150e-9, lattice_mode_s = 1.5e-6, lattice_tap_s = 25e-9, fft_point_s = 0.5e-9;
  // And of coordinates that are coupled to none.
  double single_build_s = 4e-8, single_apply_s = 6e-8;
};

inline const CostModel& cost_model() {
  static constexpr CostModel model;
  return model;
}

}  // namespace tinyphys
