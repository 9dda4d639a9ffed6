// What an expert writes by hand for the CPU at hand: vectors of its width, fused multiply-adds, two vectors side by side, all
// threads. Compiled with -O3 -march=native -ffast-math.
#pragma once

namespace tinyphys::bench::native {

// y = sin(x) exp(-x x) + x / 2; its sum. `y` may be null.
double wave(const double* x, double* y, long n, int threads);

// z = a x + y by stores that pass by the caches.
void triad(double a, const double* x, const double* y, double* z, long n, int threads);

// Softened gravity: a_i = sum over j of m_j (x_j - x_i) / (|x_j - x_i|^2 + e2)^(3/2). x and a are [3][n].
void gravity(const double* x, const double* m, double* a, long n, double e2, int threads);
void gravity(const float* x, const float* m, float* a, long n, float e2, int threads);

// Leapfrog, kick-drift-kick, of H = (px^2 + py^2 + x^2 + y^2) / 2 + x^2 y - y^3 / 3, of n trajectories. `s` is [4][n]: x, y, px, py.
void henon_heiles(double* s, long n, double h, long steps, int threads);

// Ten operations over an array, fused: the arithmetic of the row realize/ten-ops.
void ten_operations(const double* x, double* y, long n);

}  // namespace tinyphys::bench::native
