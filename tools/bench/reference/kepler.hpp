// A planet and its sun in the plane, by hand: H = |p|^2 / 2 - 1 / |q|.
#pragma once

#include <array>

namespace tinyphys::bench {

struct Kepler {
  std::array<double, 2> q, p;
  double t = 0;

  // Leapfrog, kick-drift-kick; the state then moves by one Newton iteration along the gradient of H, to H = energy.
  void projected(double dt, double energy, long steps);
  // The logarithmic Hamiltonian, drift-kick-drift (Mikkola and Tanikawa 1999).
  void warped(double ds, long steps);
};

}  // namespace tinyphys::bench
