// The N-th power of a general small affine map z' = (I + B) z + b by binary powering in double-double.
//
// A - I is kept, not A: (I + B)^2 = I + (2 B + B^2), so that a map close to the identity loses nothing. Works
// for defective and non-symmetric maps (critical damping, Jordan blocks), where eigenvectors would fail. The
// same bits everywhere.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "linalg/dd_matrix.hpp"

namespace tinyphys {

struct AffineMap {
  long d = 0;
  DDMatrix b;             // A - I, d x d
  std::vector<DD> shift;  // d
  // How far entries may be from the exact ones, relative to their row of A and to the shift.
  double relative_error = 0.0;
  // Made by an elimination: rows are off by parts of other rows, not by parts of their own entries.
  bool mixes_rows = false;
  std::string reason;  // set where the map could not be made
};

// A double-double with an exponent of its own: value * 2^exponent.
struct WideDD {
  DD value = 0.0;
  std::int64_t exponent = 0;
};

class AffinePower {
 public:
  static constexpr long kMaxOrder = 128;

  // Empty, or why there is no power: order above kMaxOrder, inconsistent sizes, non-finite entries, negative
  // N.
  const std::string& reason() const { return reason_; }
  long order() const { return d_; }
  // log2 of the largest entry of A^N.
  double log2_size() const { return log2_size_; }
  // How far each entry of out = apply(z) may be from the exact N-th iterate, but for its last rounding. The smaller of two
  // bounds, both in balanced units: every product adds (d + 4) 2^-103 |X| |Y| to what its factors are off by; or N errors
  // of a step, each carried on by powers as large as the largest that was met. Returns the bound relative to the largest
  // entry of out, in those units.
  double error_bounds(const double* z, const double* out, double* bounds) const;
  // z -> the N-th iterate; d entries each, may alias. Growth beyond the range ends in infinities, never in
  // NaN (finite inputs).
  void apply(const double* z, double* out) const;
  void apply(const DD* z, DD* out) const;

 private:
  friend AffinePower affine_power(const AffineMap& map, std::int64_t steps);
  long d_ = 0;
  double log2_size_ = 0.0, log2_error_ = 0.0, log2_shift_error_ = 0.0;
  std::vector<double> scale_;   // log2 of the balanced units
  bool identity_ = false;       // zero steps
  bool minus_identity_ = true;  // `power_` holds A^N - I, else A^N
  DDMatrix power_;              // d x (d + 1): the last column is the shift
  std::vector<WideDD>
      wide_;  // replaces power_ where entries left the range of doubles on the way; always A^N - I
  std::string reason_;
};

AffinePower affine_power(const AffineMap& map, std::int64_t steps);

// First `before`, then `after`.
AffineMap compose(const AffineMap& after, const AffineMap& before);
// z += h (G z + g) in the coordinates [first, first + n) only: a kick or a drift.
AffineMap partial_step(const DDMatrix& g_matrix, std::span<const DD> g, double h, long first, long n);

// One step of size h of z' = G z + g (a linear Hamiltonian flow with G = J Hess H, or any other).
// Exact: exp(h G) - I by Taylor and doubling. Reason where the step leaves the range of doubles.
AffineMap exact_step(const DDMatrix& g_matrix, std::span<const DD> g, double h);
// Implicit midpoint: (I - h G / 2)^{-1} h (G z + g), by LU with partial pivoting. Reason where I - h G / 2 is
// singular.
AffineMap midpoint_step(const DDMatrix& g_matrix, std::span<const DD> g, double h);

}  // namespace tinyphys
