#include "reference/stiff_chain.hpp"

#include <cmath>

namespace tinyphys::bench {

StiffChain::Vector StiffChain::soft_force(const Vector& q) {
  Vector f{};
  for (int i = 0; i <= kSprings; ++i) {
    const double left = i > 0 ? q[i - 1] + q[kSprings + i - 1] : 0;
    const double right = i < kSprings ? q[i] - q[kSprings + i] : 0;
    const double d = right - left, pull = d * d * d;
    if (i > 0) {
      f[i - 1] += pull;
      f[kSprings + i - 1] += pull;
    }
    if (i < kSprings) {
      f[i] -= pull;
      f[kSprings + i] += pull;
    }
  }
  return f;
}

void StiffChain::respa(Vector& q, Vector& p, double dt, int inner, long steps) const {
  const double half = 0.5 * dt, h = dt / inner, small = 0.5 * h, k = omega * omega;
  Vector f = soft_force(q);
  for (long s = 0; s < steps; ++s) {
    for (int i = 0; i < 2 * kSprings; ++i) p[i] += half * f[i];
    for (int j = 0; j < inner; ++j) {
      for (int i = kSprings; i < 2 * kSprings; ++i) p[i] -= small * k * q[i];
      for (int i = 0; i < 2 * kSprings; ++i) q[i] += h * p[i];
      for (int i = kSprings; i < 2 * kSprings; ++i) p[i] -= small * k * q[i];
    }
    f = soft_force(q);
    for (int i = 0; i < 2 * kSprings; ++i) p[i] += half * f[i];
  }
}

void StiffChain::split(Vector& q, Vector& p, double dt, long steps) const {
  const auto turn = [&](double t) {
    const double c = std::cos(omega * t), s = std::sin(omega * t);
    for (int i = 0; i < kSprings; ++i) q[i] += t * p[i];
    for (int i = kSprings; i < 2 * kSprings; ++i) {
      const double x = q[i];
      q[i] = c * x + s / omega * p[i];
      p[i] = c * p[i] - s * omega * x;
    }
  };
  turn(0.5 * dt);
  for (long n = 0; n < steps; ++n) {
    const Vector f = soft_force(q);
    for (int i = 0; i < 2 * kSprings; ++i) p[i] += dt * f[i];
    turn(dt);
  }
  turn(-0.5 * dt);
}

}  // namespace tinyphys::bench
