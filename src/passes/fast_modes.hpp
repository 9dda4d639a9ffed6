// The frequencies of quadratic terms of H at the numbers and data that they are given, where those are known and few.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "analysis/jacobian.hpp"
#include "uop/uop.hpp"

namespace tinyphys {

// What an EVOLVE captures, as far as it can be had without running anything.
class KnownValues {
 public:
  explicit KnownValues(std::span<Node* const> captured);
  const std::string& unknown() const { return unknown_; }  // why not all are known; empty when they are
  // Of PARAMs of an energy: those of q and p come first.
  ParamValue by_param() const;

 private:
  std::vector<Value<double>> values_;
  std::string unknown_;
};
// The value of a number or of small data; nothing where it would have to be computed by a loop, or is not there.
std::optional<Value<double>> known_value(Node* n);

// The modes of V(q) + T(p), both quadratic, T with a mass for each coordinate.
struct FastModes {
  std::string refused;               // why they are not known
  std::vector<double> omega_square;  // ascending; below 0: a saddle
  double row_sum = 0;                // the largest of |M^-1 K|: no omega_square is above it
  // The second derivative of another potential along each mode, in units of its mass: omega^2 of the mode in that.
  std::vector<double> other;
};

constexpr std::int64_t kMostModes = 128;

// `forces`: LAMBDA of [dV/dq, dT/dp], affine in the state; `other`: of [dW/dq] of another potential, or null. `bound_only`: the
// row sum, and no modes.
FastModes fast_modes(const Node* forces, const Node* other, std::int64_t n, const KnownValues& values,
                     bool bound_only = false);

}  // namespace tinyphys
