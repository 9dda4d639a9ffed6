// N steps of a separable quadratic Hamiltonian at once (PHYSICS section 2, item 1).
//
//   H = 1/2 p^T Minv p + v^T p + 1/2 q^T K q + g^T q,   K, Minv symmetric, Minv positive semidefinite
//
// Minv = L L^T, S = L^T K L = V diag(lambda) V^T, all in double-double. In the coordinates of a mode every
// step has a 2 x 2 map with half trace 1 - 2 sigma, sigma = sin^2(theta / 2); its N-th power follows from
// theta in double-double. No formula divides by lambda or by sin(theta) where they vanish, and growth carries
// its own exponent.
//
// The same bits for any number of threads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "linalg/singles.hpp"
#include "support/integrators.hpp"

namespace tinyphys {

// Compressed rows; columns of a row in any order, duplicates add up, explicit zeros do not couple.
struct SparseDD {
  long n = 0;
  std::vector<long> row_start;  // n + 1
  std::vector<int> col;
  std::vector<DD> value;
};

struct JumpReport {
  double max_h_omega = 0.0;   // largest |h| sqrt(lambda) over the oscillating modes
  long unstable_modes = 0;    // modes that grow exponentially under this step
  double log10_growth = 0.0;  // log10 of the largest amplification among them
  double lambda_min = 0.0, lambda_max = 0.0;
  double refinement_residual = 0.0;  // largest relative eigenvalue residual of the components
  // Relative error of a state in which all modes take part, in the norm: 2^-53 for the final rounding; N d(theta) with
  // d(lambda) from the residual, over all modes; the double-double rounding of theta and of the transforms, times the
  // ratio of masses. What holds for a given state is the StateError that apply returns.
  double error_bound = 0.0;
};

// How far a computed state may be from the exactly evaluated map, in the Euclidean norm: of q relative to |q|, of p
// relative to |p|, both at the end. Infinite where the state grew out of the range of doubles.
//
// It is propagated from the given state: each mode's amplitude with the rounding of its coefficients and of the
// transforms, and the residual of the eigenvectors as a kick in every step. The residual is small against the largest
// eigenvalue only, so that masses over many decades leave little for the slow coordinates: 10^-31 times the ratio of
// masses.
struct StateError {
  double q = 0.0, p = 0.0;
  // What a double loop's rounding makes of it, 2^-53 sqrt(N) of the largest q, and of the largest sum of a momentum and
  // the force it gets in a step; relative to the same norms.
  double loop_q = 0.0, loop_p = 0.0;
  // More than the loop's: a jump that promises to be at least as close to the exact map must not be taken.
  bool beyond_loop = false;
  // The largest |q| and |p| before and after, where they were looked at.
  std::optional<std::array<double, 4>> largest = {};
};

struct Jump {
  double h = 0.0;
  std::int64_t steps = 0;
  Integrator integrator = Integrator::LeapfrogKDK;
  std::string reason;  // empty, or why this jump cannot be taken (the loop must run)
  SinglesJump singles;
  std::vector<ModeCoefficients> coefficients;  // of the coupled modes
  std::vector<ModeBound> bounds;
  JumpReport report;
};
class NormalModes;

struct NormalModesResult {
  std::unique_ptr<NormalModes> modes;  // null where there is a reason
  std::string reason;
};

class NormalModes {
 public:
  static constexpr long kDenseLimit = 4096;

  // Reasons: sizes that do not match, non-finite entries, "K is not symmetric", "Minv not positive
  // semidefinite", "v has a component outside the range of Minv" (coupled coordinates only), "component of
  // 5000 coupled coordinates exceeds the dense limit (4096)". g = dH/dq and v = dH/dp at the origin; either
  // may be empty (zero). `parallel` is kept and used by jump and apply.
  static NormalModesResult build(const SparseDD& k, const SparseDD& minv, std::span<const DD> g,
                                 std::span<const DD> v, ParallelFor parallel = {},
                                 long dense_limit = kDenseLimit);
  ~NormalModes();
  NormalModes(const NormalModes&) = delete;
  NormalModes& operator=(const NormalModes&) = delete;

  long size() const;

  // The coefficients of `steps` >= 0 steps of size h (negative: backward). The last few are kept.
  // Thread-safe.
  std::shared_ptr<const Jump> jump(double h, std::int64_t steps, Integrator integrator,
                                   const ModeKernels& kernels = {}) const;

  // Whether that one is kept.
  bool has_jump(double h, std::int64_t steps, Integrator integrator) const;
  // Modes with a power of their own: equal single coordinates share one.
  long distinct() const;

  // (q, p) -> (q_out, p_out) for a jump without a reason; size() entries each; outputs may alias inputs. Zero
  // steps copy bits.
  StateError apply(const Jump& jump, const double* q, const double* p, double* q_out, double* p_out) const;
  // The same in double-double.
  StateError apply(const Jump& jump, const DD* q, const DD* p, DD* q_out, DD* p_out) const;

  // The sums of which the gradient of a loss by the entries of K and Minv, by g, v and h consists (mode_moments.hpp), for a
  // jump from (q, p) whose end has the cotangents (of_q, of_p). They are those of the way from there, q - q(0) and p - p(0):
  // g stands for the force K q + g at the start, v for the velocity. The coordinates come in blocks of `rows`, coupled
  // within them only; row r of of_k and of_minv (rows x size()) has beside coordinate i what goes with the entry of i and the
  // r-th one of its block, be that 0 or not. Empty, or why there are none: components without a positive diagonal Minv, a
  // motion that grows too far.
  struct Moments {
    double *of_k, *of_minv, *of_g, *of_v;
  };
  std::string moments(double h, std::int64_t steps, Integrator integrator, const double* q, const double* p,
                      const double* of_q, const double* of_p, long rows, const Moments& out) const;

  // One per mode, ascending: sqrt(lambda), or -sqrt(-lambda) for a growing one. Directions without kinetic
  // energy have none.
  std::vector<double> frequencies() const;

  // Orders of the coupled components (single coordinates left out).
  std::vector<long> component_sizes() const;

  // Predicted seconds at one thread for components of these orders (cost_model.hpp).
  static double build_seconds_estimate(std::span<const long> sizes);
  static double apply_seconds_estimate(std::span<const long> sizes);

 private:
  struct Impl;
  explicit NormalModes(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tinyphys
