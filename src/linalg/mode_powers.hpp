// The N-th powers of the steps of many modes, as ModeCoefficients and ModeBound have them, in arrays that vector code reads.
//
// A stable mode whose step turns by less than pi / 2, sigma = sin^2(theta / 2) <= 1/2, is taken eight at a time, in
// double-double: theta / 2 from its sine and cosine, N theta / 2 reduced by multiples of 2 pi / 256, table and Taylor series.
// Others (growth, free particles, steps near the limit of stability, steps that are not symmetric) go by mode_coefficients().
#pragma once

#include <span>
#include <string>
#include <vector>

#include "linalg/dd_kernels.hpp"
#include "linalg/dd_matrix.hpp"
#include "linalg/mode_step.hpp"

namespace tinyphys {

class ModePowers {
 public:
  ModePowers() = default;
  // `forces`: a2 is asked for. a3 is not computed.
  ModePowers(std::span<const DD> lambda, double h, std::int64_t steps, const IntegratorRow& row, bool forces,
             const ParallelFor& parallel, const DDKernels& kernels = dd_kernels());

  long count() const { return count_; }
  // Why there are none for some mode; empty otherwise.
  const std::string& reason() const { return reason_; }
  ModeCoefficients coefficients(long j) const;
  ModeBound bound(long j) const;
  // All modes from the first of eight on.
  bool regular(long first) const { return regular_[static_cast<std::size_t>(first / 8)] != 0; }

  // Over all modes, lambda off by 2^-104 of itself.
  const ModeExtremes& extremes() const { return extremes_; }
  std::vector<long> unstable() const;

 private:
  struct Odd {
    long mode;
    bool unstable;
    ModeCoefficients coefficients;
    ModeBound bound;
  };
  const Odd& odd(long j) const;
  double* array(int which) { return data_.data() + which * padded_; }
  const double* array(int which) const { return data_.data() + which * padded_; }

  long count_ = 0, padded_ = 0;
  bool forces_ = false;
  std::string reason_;
  std::vector<double> data_;  // as in ModeArrays, one after the other
  std::vector<unsigned char> regular_;
  std::vector<Odd> odd_;  // ascending
  ModeExtremes extremes_{};
};

// What the phase of a mode depends on: sigma = sin^2(theta / 2) and its slope in z = lambda h^2.
struct ModeAngle {
  double sine = 0.0, co_sine = 1.0;  // sqrt |sigma|, sqrt |1 - sigma|
  double gain = 0.25;                // |d sigma / d z|
  double rounding = 0x1p-101;        // of theta, relative
  double reach = 1.0, skew = 0.0;    // max(|b|, |c|), |a - d| / 2 of the step map
  double curve = 0.25;               // |sigma / z|
  bool unstable = false;
};
ModeAngle mode_angle(const IntegratorRow& row, DD z, const StepMap& step);
ModeBound mode_bound(DD lambda, double h, std::int64_t steps, const ModeAngle& angle,
                     const ModeCoefficients& power);
// The error of the phase after all steps, lambda off by d_lambda.
double phase_error(double h, std::int64_t steps, const ModeAngle& angle, double d_lambda);

}  // namespace tinyphys
