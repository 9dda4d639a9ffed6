// Input for the rows: the same numbers in every run and on every machine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace tinyphys::bench {

// The standard fixes mt19937_64 but not its distributions, so the mapping to [low, high) is our own.
class Random {
 public:
  explicit Random(std::uint64_t seed) : bits_(seed) {}
  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(bits_() >> 11) * 0x1p-53;
  }
  std::vector<double> vector(long n, double low, double high) {
    std::vector<double> v(static_cast<std::size_t>(n));
    for (double& x : v) x = uniform(low, high);
    return v;
  }

 private:
  std::mt19937_64 bits_;
};

// Largest difference, relative to the largest entry of `truth`; NaN counts as infinitely wrong.
template <class A, class B> double relative_error(const A& values, const B& truth) {
  if (values.size() != truth.size()) return INFINITY;
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double difference = std::abs(values[i] - truth[i]);
    worst = difference <= worst ? worst : std::isnan(difference) ? INFINITY : difference;
    size = std::max<double>(size, std::abs(truth[i]));
  }
  return size > 0 ? worst / size : worst;
}

}  // namespace tinyphys::bench
