// sin(x) exp(-x x) + x / 2 over an array, as plain loops.
#pragma once

namespace tinyphys::bench {

void wave(const double* x, double* y, long n);
double wave_sum(const double* x, long n);

}  // namespace tinyphys::bench
