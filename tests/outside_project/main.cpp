// Two oscillators, by the jump that a pass finds and by the loop, against the closed form of the leapfrog. No function
// of the engine or of a device is named here: they are there only if the whole archive was linked.
#include <cmath>

#include <fmt/format.h>
#include <tinyphys/tinyphys.hpp>

namespace tp = tinyphys;

int main() {
  const tp::System springs([](const tp::Tensor& q, const tp::Tensor& p) {
    return 0.5 * (p * p).sum() + 0.5 * 4.0 * (q * q).sum();
  });
  const tp::State start{tp::Tensor::from({1.0, -3.0}), tp::Tensor::zeros({2})};
  const double h = 1e-3, theta = 2 * std::asin(2.0 * h / 2);  // the angle of a step; omega = 2
  const auto error = [&](const tp::State& s, double steps) {
    const std::vector<double> q = s.q.to_vector<double>();
    return std::fabs(q[0] - std::cos(steps * theta)) + std::fabs(q[1] + 3 * std::cos(steps * theta));
  };
  const tp::State jumped = springs.evolve(start, {.dt = h, .steps = 1'000'000'000});
  const tp::State looped = springs.evolve(start, {.dt = h, .steps = 1000, .method = tp::Method::Loop});
  fmt::print("jump {}, loop {}\n", error(jumped, 1e9) < 1e-8 ? "right" : "wrong",
             error(looped, 1e3) < 1e-11 ? "right" : "wrong");
}
