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
  // The same steps undone, and with them the cotangents of q and p: one force and one product with its Jacobian a step.
  void leapfrog_back(Vector& q, Vector& p, Vector& of_q, Vector& of_p, double dt, long steps) const;

 private:
  Vector force(const Vector& q) const;
  // The force at q, and its Jacobian, which is symmetric, times v.
  void force_and_product(const Vector& q, const Vector& v, Vector& f, Vector& jv) const;
};

extern template struct Gravity<3>;
extern template struct Gravity<6>;
extern template struct Gravity<64>;

}  // namespace tinyphys::bench
