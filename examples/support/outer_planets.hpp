// The sun and the five outer planets on 5 September 1994 (Hairer, Lubich and Wanner, Geometric Numerical Integration, section
// I.2.4), their gravity as a System. Units: astronomical units, days, solar masses.
#pragma once

#include <vector>

#include "tinyphys/tinyphys.hpp"

namespace example {

struct OuterPlanets {
  tinyphys::Tensor masses;  // [6, 1]
  tinyphys::State start;    // q and p [6, 3]
  tinyphys::System system;
};

inline OuterPlanets outer_planets() {
  namespace tp = tinyphys;
  constexpr double kG = 2.95912208286e-4;
  const std::vector<double> masses{1.00000597682,      0.000954786104043,  0.000285583733151,
                                   0.0000437273164546, 0.0000517759138449, 1 / 1.3e8};
  const tp::Tensor m = tp::Tensor::from(masses).reshape({6, 1});
  const tp::Tensor q0 = tp::Tensor::from(
      {0.0, 0.0, 0.0, -3.5023653, -3.8169847, -1.5507963, 9.0755314, -3.0458353, -1.6483708, 8.3101420,
       -16.2901086, -7.2521278, 11.4707666, -25.7294829, -10.8169456, -15.5387357, -25.2225594, -3.1902382},
      {6, 3});
  const tp::Tensor v0 = tp::Tensor::from(
      {0.0, 0.0, 0.0, 0.00565429, -0.00412490, -0.00190589, 0.00168318, 0.00483525, 0.00192462, 0.00354178,
       0.00137102, 0.00055029, 0.00288930, 0.00114527, 0.00039677, 0.00276725, -0.00170702, -0.00136504},
      {6, 3});
  const tp::System planets([=](const tp::Tensor& q, const tp::Tensor& p) {
    const tp::Tensor d = q.reshape({6, 1, 3}) - q.reshape({1, 6, 3});
    const tp::Tensor self = tp::Tensor::eye(6);
    const tp::Tensor r = tp::sqrt((d * d).sum(2) + self);
    return 0.5 * (p * p / m).sum() - 0.5 * kG * (m * m.reshape({1, 6}) / r * (1.0 - self)).sum();
  });
  return {m, {q0, m * v0}, planets};
}

}  // namespace example
