#include "reference/gravity.hpp"

#include <cmath>

namespace tinyphys::bench {

template <int N> typename Gravity<N>::Vector Gravity<N>::force(const Vector& q) const {
  Vector f{};
  for (int i = 0; i < N; ++i) {
    for (int j = i + 1; j < N; ++j) {
      const double dx = q[3 * j] - q[3 * i], dy = q[3 * j + 1] - q[3 * i + 1],
                   dz = q[3 * j + 2] - q[3 * i + 2];
      const double r2 = dx * dx + dy * dy + dz * dz + softening2;
      const double w = g * mass[i] * mass[j] / (r2 * std::sqrt(r2));
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

template <int N> void Gravity<N>::leapfrog(Vector& q, Vector& p, double dt, long steps) const {
  const double half = 0.5 * dt;
  std::array<double, N> drift{};
  for (int i = 0; i < N; ++i) drift[i] = dt / mass[i];
  Vector f = force(q);
  for (long s = 0; s < steps; ++s) {
    for (int k = 0; k < 3 * N; ++k) {
      p[k] += half * f[k];
      q[k] += drift[k / 3] * p[k];
    }
    f = force(q);
    for (int k = 0; k < 3 * N; ++k) p[k] += half * f[k];
  }
}

template <int N>
void Gravity<N>::force_and_product(const Vector& q, const Vector& v, Vector& f, Vector& jv) const {
  f = {};
  jv = {};
  for (int i = 0; i < N; ++i) {
    for (int j = i + 1; j < N; ++j) {
      const double dx = q[3 * j] - q[3 * i], dy = q[3 * j + 1] - q[3 * i + 1],
                   dz = q[3 * j + 2] - q[3 * i + 2];
      const double vx = v[3 * j] - v[3 * i], vy = v[3 * j + 1] - v[3 * i + 1],
                   vz = v[3 * j + 2] - v[3 * i + 2];
      const double r2 = dx * dx + dy * dy + dz * dz + softening2;
      const double w = g * mass[i] * mass[j] / (r2 * std::sqrt(r2));
      const double u = -3 * w * (dx * vx + dy * vy + dz * vz) / r2;
      const double fx = w * dx, fy = w * dy, fz = w * dz;
      const double gx = w * vx + u * dx, gy = w * vy + u * dy, gz = w * vz + u * dz;
      f[3 * i] += fx;
      f[3 * i + 1] += fy;
      f[3 * i + 2] += fz;
      f[3 * j] -= fx;
      f[3 * j + 1] -= fy;
      f[3 * j + 2] -= fz;
      jv[3 * i] += gx;
      jv[3 * i + 1] += gy;
      jv[3 * i + 2] += gz;
      jv[3 * j] -= gx;
      jv[3 * j + 1] -= gy;
      jv[3 * j + 2] -= gz;
    }
  }
}

template <int N>
void Gravity<N>::leapfrog_back(Vector& q, Vector& p, Vector& of_q, Vector& of_p, double dt,
                               long steps) const {
  const double half = 0.5 * dt;
  std::array<double, N> drift{};
  for (int i = 0; i < N; ++i) drift[i] = dt / mass[i];
  Vector f, jv;
  force_and_product(q, of_p, f, jv);
  for (long s = 0; s < steps; ++s) {
    for (int k = 0; k < 3 * N; ++k) {
      p[k] -= half * f[k];
      q[k] -= drift[k / 3] * p[k];
      of_q[k] += half * jv[k];
      of_p[k] += drift[k / 3] * of_q[k];
    }
    force_and_product(q, of_p, f, jv);
    for (int k = 0; k < 3 * N; ++k) {
      p[k] -= half * f[k];
      of_q[k] += half * jv[k];
    }
  }
}

template struct Gravity<3>;
template struct Gravity<6>;
template struct Gravity<64>;

}  // namespace tinyphys::bench
