// Three bodies under softened gravity, written by hand.
#pragma once

#include <array>

namespace tinyphys::bench {

// H = sum p_i^2 / (2 m_i) - sum over pairs m_i m_j / sqrt(r^2 + softening2). Body i has coordinates 3 i to 3
// i + 2.
struct ThreeBody {
  std::array<double, 3> mass;
  double softening2;

  // Leapfrog, kick-drift-kick: each pair once, one force a step.
  void leapfrog(std::array<double, 9>& q, std::array<double, 9>& p, double dt, long steps) const;

 private:
  std::array<double, 9> force(const std::array<double, 9>& q) const;
};

}  // namespace tinyphys::bench
