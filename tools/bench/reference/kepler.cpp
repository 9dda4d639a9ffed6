#include "reference/kepler.hpp"

#include <cmath>

namespace tinyphys::bench {

void Kepler::projected(double dt, double energy, long steps) {
  const double half = 0.5 * dt;
  auto [x, y] = q;
  auto [u, v] = p;
  for (long s = 0; s < steps; ++s) {
    double r2 = x * x + y * y, w = 1 / (r2 * std::sqrt(r2));
    u -= half * w * x;
    v -= half * w * y;
    x += dt * u;
    y += dt * v;
    r2 = x * x + y * y;
    double r = std::sqrt(r2);
    w = 1 / (r2 * r);
    u -= half * w * x;
    v -= half * w * y;
    const double gx = w * x, gy = w * y;
    const double lambda = (0.5 * (u * u + v * v) - 1 / r - energy) / (gx * gx + gy * gy + u * u + v * v);
    x -= lambda * gx;
    y -= lambda * gy;
    u -= lambda * u;
    v -= lambda * v;
  }
  q = {x, y};
  p = {u, v};
}

void Kepler::warped(double ds, long steps) {
  auto [x, y] = q;
  auto [u, v] = p;
  const double binding = 1 / std::sqrt(x * x + y * y) - 0.5 * (u * u + v * v);
  for (long s = 0; s < steps; ++s) {
    double dt = 0.5 * ds / (0.5 * (u * u + v * v) + binding);
    t += dt;
    x += dt * u;
    y += dt * v;
    const double r2 = x * x + y * y;
    dt = ds / r2;  // (ds / U) / r^3
    u -= dt * x;
    v -= dt * y;
    dt = 0.5 * ds / (0.5 * (u * u + v * v) + binding);
    t += dt;
    x += dt * u;
    y += dt * v;
  }
  q = {x, y};
  p = {u, v};
}

}  // namespace tinyphys::bench
