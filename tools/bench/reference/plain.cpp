#include "reference/plain.hpp"

#include <cmath>

namespace tinyphys::bench::plain {
namespace {

constexpr int kBodies = 6;

void force(const double* q, const double* mass, double g, double* f) {
  for (int k = 0; k < 3 * kBodies; ++k) f[k] = 0;
  for (int i = 0; i < kBodies; ++i)
    for (int j = i + 1; j < kBodies; ++j) {
      const double dx = q[3 * j] - q[3 * i], dy = q[3 * j + 1] - q[3 * i + 1],
                   dz = q[3 * j + 2] - q[3 * i + 2];
      const double r2 = dx * dx + dy * dy + dz * dz;
      const double w = g * mass[i] * mass[j] / (r2 * std::sqrt(r2));
      f[3 * i] += w * dx;
      f[3 * i + 1] += w * dy;
      f[3 * i + 2] += w * dz;
      f[3 * j] -= w * dx;
      f[3 * j + 1] -= w * dy;
      f[3 * j + 2] -= w * dz;
    }
}

}  // namespace

void six_bodies(double* q, double* p, const double* mass, double g, double dt, long steps) {
  double f[3 * kBodies], drift[kBodies];
  for (int i = 0; i < kBodies; ++i) drift[i] = dt / mass[i];
  force(q, mass, g, f);
  for (long s = 0; s < steps; ++s) {
    for (int k = 0; k < 3 * kBodies; ++k) {
      p[k] += 0.5 * dt * f[k];
      q[k] += drift[k / 3] * p[k];
    }
    force(q, mass, g, f);
    for (int k = 0; k < 3 * kBodies; ++k) p[k] += 0.5 * dt * f[k];
  }
}

void henon_heiles(double* s, double h, long steps) {
  double x = s[0], y = s[1], px = s[2], py = s[3];
  double fx = -(x + 2 * x * y), fy = -(y + x * x - y * y);
  for (long i = 0; i < steps; ++i) {
    px += 0.5 * h * fx;
    py += 0.5 * h * fy;
    x += h * px;
    y += h * py;
    fx = -(x + 2 * x * y);
    fy = -(y + x * x - y * y);
    px += 0.5 * h * fx;
    py += 0.5 * h * fy;
  }
  s[0] = x;
  s[1] = y;
  s[2] = px;
  s[3] = py;
}

}  // namespace tinyphys::bench::plain
