// The N-th powers of the steps of many modes, as ModeCoefficients and ModeBound have them, in arrays that vector code reads.
//
// A stable mode whose step turns by less than pi / 2, sigma = sin^2(theta / 2) <= 1/2, is taken by generated code where there
// are many, in double-double: theta / 2 = asin(sqrt(sigma)), sines and cosines of N theta / 2. Others (growth, free
// particles, steps near the limit of stability, steps that are not symmetric) go by mode_coefficients().
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "linalg/dd_matrix.hpp"
#include "linalg/mode_step.hpp"

namespace tinyphys {

// The outputs of generated code: high and low words, ModeBound, the error of the phase for a lambda that is off by 2^-104 of
// itself, and whether the formulas hold (1 or 0).
enum ModeOutput : std::size_t {
  kModeT,
  kModeB = 2,
  kModeA1 = 4,
  kModeLever = 6,
  kModeRounding,
  kModePhase,
  kModeRegular,
  kModeOutputsWithoutForces,
  kModeA2 = kModeOutputsWithoutForces,
  kModeLever2 = kModeA2 + 2,
  kModeOutputs
};
// Modes side by side. Fewer are no work for generated code, which takes some time to be made.
inline constexpr long kModeBlock = 256;

// Generated code for an integrator; made by a later stage (propagate/mode_kernel.hpp).
class ModeKernel {
 public:
  virtual ~ModeKernel() = default;
  // kModeBlock modes, and as many values of each output. unit: the rounding of theta, relative.
  virtual void run(double h, std::int64_t steps, double unit, const double* lambda_h, const double* lambda_l,
                   std::span<double* const> outputs) const = 0;
};
// Null for an integrator without. `forces`: with kModeA2 and kModeLever2.
using ModeKernels = std::function<std::shared_ptr<const ModeKernel>(const IntegratorRow& row, bool forces)>;

// Over all modes: the largest error of the phase, lambda off by 2^-104 of itself, and the range of lambda.
struct ModeExtremes {
  double phase, lambda_min, lambda_max;
};

class ModePowers {
 public:
  ModePowers() = default;
  // `forces`: a2 is asked for. a3 is not computed.
  ModePowers(std::span<const DD> lambda, double h, std::int64_t steps, const IntegratorRow& row, bool forces,
             const ParallelFor& parallel, const ModeKernels& kernels = {});

  long count() const { return count_; }
  // Why there are none for some mode; empty otherwise.
  const std::string& reason() const { return reason_; }
  ModeCoefficients coefficients(long j) const;
  ModeBound bound(long j) const;
  // Whether the eight modes that this one is of do not grow, and have steps that are symmetric.
  bool regular(long mode) const {
    const long first = mode / 8 * 8;
    for (long j = first; j < first + 8; ++j)
      if (!in_arrays(j)) return false;
    return true;
  }

  const ModeExtremes& extremes() const { return extremes_; }
  std::vector<long> unstable() const;

 private:
  struct Odd {
    long mode;
    bool unstable;
    ModeCoefficients coefficients;
    ModeBound bound;
  };
  bool in_arrays(long j) const { return regular_[static_cast<std::size_t>(j)] != 0; }
  const Odd& odd(long j) const;
  double* array(std::size_t which) { return data_.data() + which * static_cast<std::size_t>(padded_); }
  double at(std::size_t which, long j) const {
    return data_[which * static_cast<std::size_t>(padded_) + static_cast<std::size_t>(j)];
  }

  long count_ = 0, padded_ = 0;
  bool forces_ = false;
  std::string reason_;
  std::vector<double> data_;            // of each ModeOutput, one after the other
  std::vector<unsigned char> regular_;  // of each mode: it is in data_, else in odd_
  std::vector<Odd> odd_;                // ascending
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
