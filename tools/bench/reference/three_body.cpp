#include "reference/three_body.hpp"

#include <cmath>

namespace tinyphys::bench {

std::array<double, 9> ThreeBody::force(const std::array<double, 9>& q) const {
  std::array<double, 9> f{};
  for (int i = 0; i < 3; ++i) {
    for (int j = i + 1; j < 3; ++j) {
      const double dx = q[3 * j] - q[3 * i], dy = q[3 * j + 1] - q[3 * i + 1],
                   dz = q[3 * j + 2] - q[3 * i + 2];
      const double r2 = dx * dx + dy * dy + dz * dz + softening2;
      const double w = mass[i] * mass[j] / (r2 * std::sqrt(r2));
      f[3 * i] += w * dx;
      f[3 * i + 1] += w * dy;
      f[3 * i + 2] += w * dz;
      f[3 * j] -= w * dx;
      f[3 * j + 1] -= w * dy;
      f[3 * j + 2] -= w * dz;
    }
  }
  return f;
}

void ThreeBody::leapfrog(std::array<double, 9>& q, std::array<double, 9>& p, double dt, long steps) const {
  const double half = 0.5 * dt;
  const std::array<double, 3> drift{dt / mass[0], dt / mass[1], dt / mass[2]};
  std::array<double, 9> f = force(q);
  for (long s = 0; s < steps; ++s) {
    for (int k = 0; k < 9; ++k) {
      p[k] += half * f[k];
      q[k] += drift[k / 3] * p[k];
    }
    f = force(q);
    for (int k = 0; k < 9; ++k) p[k] += half * f[k];
  }
}

}  // namespace tinyphys::bench
