// Two oscillators, two ways: the jump that a pass found, and the loop as machine code. Both register themselves by static
// objects, which a linker may drop; and the plain sum needs a device.
#include <cmath>

#include <fmt/format.h>
#include <tinyphys/tinyphys.hpp>

namespace tp = tinyphys;

int main() {
  const tp::System springs([](const tp::Tensor& q, const tp::Tensor& p) {
    return 0.5 * (p * p).sum() + 0.5 * 4.0 * (q * q).sum();
  });
  const tp::State start{tp::Tensor::from({1.0, 0.0}), tp::Tensor::from({0.0, 2.0})};
  const tp::State jumped = springs.evolve(start, {.dt = 1e-3, .steps = 1'000'000'000});
  const tp::State looped = springs.evolve(start, {.dt = 1e-3, .steps = 1000, .method = tp::Method::Loop});
  tp::realize({jumped.q, looped.q});

  // omega = 2: q = cos 2t and sin 2t, and the leapfrog's error in omega is omega^3 dt^2 / 24.
  const bool right = std::fabs(looped.q[0].item<double>() - std::cos(2.0)) < 1e-6 &&
                     std::fabs(looped.q[1].item<double>() - std::sin(2.0)) < 1e-6;
  const bool found = tp::explain(jumped.q).text.find("chose    normal-mode jump") != std::string::npos;
  fmt::print("the loop is {}, the jump was {}\n", right ? "right" : "wrong", found ? "found" : "not found");
}
