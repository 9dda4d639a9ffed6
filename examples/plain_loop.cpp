// A chain of masses and springs between two walls, written three ways: as a plain C++ loop over tensors, as a scan, and as
// the energy of a System. All three are found to be one linear map taken N times, and become one jump.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <tuple>

#include <fmt/format.h>

#include "support/run.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;

namespace {

constexpr int kMasses = 32;
constexpr double kStep = 1e-2;
std::int64_t steps = 1'000'000;

// Springs of 1 N/m, masses of 1 kg; the walls stand at 0.
tp::Tensor force(const tp::Tensor& q) {
  const tp::Tensor walled = q.pad({{1, 1}});
  const tp::Tensor stretch = walled.slice(0, 1) - walled.slice(0, 0, -1);
  return stretch.slice(0, 1) - stretch.slice(0, 0, -1);
}

// Kick, drift, kick.
std::tuple<tp::Tensor, tp::Tensor> step(const tp::Tensor& q, const tp::Tensor& p) {
  const tp::Tensor half = p + 0.5 * kStep * force(q);
  const tp::Tensor next = q + kStep * half;
  return {next, half + 0.5 * kStep * force(next)};
}

template <class Run> tp::Tensor timed(const char* name, const Run& run) {
  const auto start = std::chrono::steady_clock::now();
  const tp::Tensor q = run().realize();
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  fmt::print("{:<9} q[0] = {:+.12f} m after {} steps, {:.1f} ms\n", name, q[0].item<double>(), steps,
             took.count());
  return q;
}

void run() {
  const tp::Tensor q0 = 0.1 * tp::sin(0.3 * tp::Tensor::arange(static_cast<double>(kMasses))),
                   p0 = tp::Tensor::zeros({kMasses});

  const tp::Tensor by_loop = timed("for loop", [&] {
    tp::Tensor q = q0, p = p0;
    for (std::int64_t i = 0; i < steps; ++i) std::tie(q, p) = step(q, p);
    return q;
  });
  const tp::Tensor by_scan = timed("scan", [&] {
    return std::get<0>(tp::scan(step, std::tuple{q0, p0}, steps));
  });
  const tp::Tensor by_system = timed("System", [&] {
    const tp::System chain([](const tp::Tensor& q, const tp::Tensor& p) {
      const tp::Tensor walled = q.pad({{1, 1}});
      const tp::Tensor stretch = walled.slice(0, 1) - walled.slice(0, 0, -1);
      return 0.5 * (p * p).sum() + 0.5 * (stretch * stretch).sum();
    });
    return chain.evolve({q0, p0}, {.dt = kStep, .steps = steps}).q;
  });

  const auto apart = [&](const tp::Tensor& a) {
    return (tp::abs(a - by_loop).max() / tp::abs(by_loop).max()).item<double>();
  };
  fmt::print("apart     scan {:.0e}, System {:.0e} of the largest position, from the for loop\n\n",
             apart(by_scan), apart(by_system));
  fmt::print("{}", tp::explain(by_loop));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) steps = std::max(std::atoll(argv[1]), 1LL);
  return example::run("plain_loop", run);
}
