// What bounds the rounding of powers: sizes that may be beyond the range of doubles, and units in which norms mean something.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "linalg/affine_power.hpp"

namespace tinyphys {

// log2 of a size or an error, so that powers beyond the range of doubles have one too.
struct Log2 {
  double log2 = -std::numeric_limits<double>::infinity();

  static Log2 of(double x) { return {std::log2(x)}; }
  friend Log2 operator*(Log2 a, Log2 b) {
    const double none = -std::numeric_limits<double>::infinity();
    return {a.log2 == none || b.log2 == none ? none : a.log2 + b.log2};
  }
  friend Log2 operator+(Log2 a, Log2 b) {
    const double most = std::max(a.log2, b.log2), least = std::min(a.log2, b.log2);
    if (!std::isfinite(most) || most - least > 60.0) return {most};
    return {most + std::log2(1.0 + std::exp2(least - most))};
  }
};

// Units in which rows and columns are of like size (Osborne 1960): positions and velocities rarely share one. That is for
// coordinates that depend on each other. What only follows others (a tangent its state, a filter its input) gets a unit in
// which it follows by at most 1 / steps in a step, so that its power grows no more than theirs: entries that are 0 stay 0, and
// the others are right to a unit of their own. log2 of
// each.
std::vector<double> balance(const AffineMap& map, std::int64_t steps);

}  // namespace tinyphys
