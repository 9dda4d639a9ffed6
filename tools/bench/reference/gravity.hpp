// A few bodies under gravity, written by hand.
#pragma once

#include <array>

namespace tinyphys::bench {

// H = sum p_i^2 / (2 m_i) - sum over pairs g m_i m_j / sqrt(r^2 + softening2). Body i has coordinates 3 i to 3 i + 2.
template <int N> struct Gravity {
  using Vector = std::array<double, 3 * N>;
  std::array<double, N> mass;
  double softening2 = 0, g = 1;

  // Leapfrog, kick-drift-kick: each pair once, one force a step.
  void leapfrog(Vector& q, Vector& p, double dt, long steps) const;

 private:
  Vector force(const Vector& q) const;
};

extern template struct Gravity<3>;
extern template struct Gravity<6>;

}  // namespace tinyphys::bench
