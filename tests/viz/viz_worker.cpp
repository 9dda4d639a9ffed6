// viz_worker small | NODES: programs to be dumped; one with an evolution and a scan, or one of about so many nodes.
#include <cstdlib>
#include <string>

#include <fmt/format.h>
#include <tinyphys/tinyphys.hpp>

namespace tp = tinyphys;
using tp::Tensor;

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "small";
  if (what == "small") {
    const Tensor q0 = Tensor::linspace(0.0, 1.0, 17), p0 = Tensor::zeros({17});
    const tp::System springs(
        [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * 3.0 * (q * q).sum(); });
    const tp::State s = springs.evolve({q0, p0}, {.dt = 0.01, .steps = 100});
    const Tensor x = tp::scan([](const Tensor& v) { return v - 0.1 * v * v; }, s.q, 5);
    fmt::print("{:.12f}\n", (x * x + 0.0 * x).sum().item<double>());
    return 0;
  }
  Tensor x = Tensor::linspace(0.0, 1.0, 5);
  for (long i = 0; i < std::atol(what.c_str()) * 3 / 10; ++i)  // of 3 or 4 nodes
    x = i % 3 == 0 ? tp::sin(x + 0.001 * static_cast<double>(i)) : x * (1.0 + 1e-6 * static_cast<double>(i));
  fmt::print("{:.12f}\n", x.sum().item<double>());
}
