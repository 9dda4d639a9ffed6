// The chain of Fermi, Pasta and Ulam with three stiff springs between soft ones, written by hand: multiple time steps, and
// exact rotations of the stiff springs with kicks by the soft ones.
#pragma once

#include <array>

namespace tinyphys::bench {

// Coordinates: the centres of the stiff springs, then their stretches. H = |p|^2 / 2 + omega^2 |stretches|^2 / 2 +
// sum d^4 / 4 over the soft springs.
struct StiffChain {
  static constexpr int kSprings = 3;
  using Vector = std::array<double, 2 * kSprings>;
  double omega;

  // Kicks by the soft springs every dt, `inner` leapfrog steps by the stiff ones between.
  void respa(Vector& q, Vector& p, double dt, int inner, long steps) const;
  // Exact flow of all but the soft springs, plain kicks by those, every dt.
  void split(Vector& q, Vector& p, double dt, long steps) const;

 private:
  static Vector soft_force(const Vector& q);
};

}  // namespace tinyphys::bench
