#include "reference/wave.hpp"

#include <cmath>

namespace tinyphys::bench {

void wave(const double* x, double* y, long n) {
  for (long i = 0; i < n; ++i) y[i] = std::sin(x[i]) * std::exp(-x[i] * x[i]) + x[i] / 2;
}

double wave_sum(const double* x, long n) {
  double sum = 0;
  for (long i = 0; i < n; ++i) sum += std::sin(x[i]) * std::exp(-x[i] * x[i]) + x[i] / 2;
  return sum;
}

}  // namespace tinyphys::bench
