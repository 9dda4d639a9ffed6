// What the library costs beside the arithmetic.
#include <cmath>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "input.hpp"
#include "process.hpp"
#include "runtime/device.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys::bench {
namespace {

constexpr long kSmall = 64, kTiny = 8, kNodes = 1'000'000;

// --- the first kernel ---

// Time from main() to the values; the start of the process before that (loading shared libraries) is in the
// note.
Bench first_kernel() {
  const auto start_up = std::make_shared<std::vector<double>>();
  Bench b;
  b.work = [=](long) {
    const ChildResult c = run_child("first-kernel");
    if (!(c["error"] <= 1e-14))
      throw Wrong(fmt::format("the first kernel's values are off by {:.1e}", c["error"]));
    if (c["compiled"] < 1) throw Wrong("the first result came without a compiled kernel");
    start_up->push_back(c.start_up);
    return c["result_s"];
  };
  b.sampling = {.warm_up = 1, .min_samples = 11, .max_samples = 31, .budget_s = 3, .min_sample_s = 0};
  b.finish = [=] {
    return fmt::format("the process needs {:.1f} ms more to start, before main()",
                       1e3 * summarize(*start_up).median);
  };
  return b;
}

// --- recording ---

// Each operator makes one node; none is equal to an earlier one. Freeing them is not building: the note gives
// it.
Bench graph_build() {
  const auto freeing = std::make_shared<std::vector<double>>();
  Random random(5);
  const Tensor x = Tensor::from(random.vector(kTiny, 0, 1)), a = Tensor::from(random.vector(kTiny, 0, 1)),
               c = Tensor::from(random.vector(kTiny, 0, 1));
  Bench b;
  b.units = kNodes;
  b.work = [=](long) {
    Tensor y = x;
    const auto start = Clock::now();
    for (long i = 0; i < kNodes / 2; ++i) y = y * a + c;
    const double seconds = seconds_since(start);
    consume(y);
    const auto end = Clock::now();
    y = x;
    freeing->push_back(seconds_since(end) / kNodes);
    return seconds;
  };
  b.sampling.min_sample_s = 0;
  b.finish = [=] { return fmt::format("freeing them: {:.0f} ns a node", 1e9 * summarize(*freeing).median); };
  return b;
}

// --- running again ---

Bench cached_realize() {
  const std::vector<double> v = Random(6).vector(kTiny, 0, 1);
  const Tensor x = Tensor::from(v);
  const auto value = [=] { return ((x * x + 1.0) * x).sum().item<double>(); };
  double truth = 0;
  for (const double t : v) truth += (t * t + 1.0) * t;
  if (!(std::abs(value() - truth) <= 1e-13)) throw Wrong("the sum is wrong");
  const std::int64_t compiled = kernels_compiled();
  Bench b;
  b.work = timed([=] { consume(value()); });
  b.finish = [=]() -> std::string {
    if (kernels_compiled() != compiled) throw Wrong("a graph seen before was compiled again");
    return {};
  };
  return b;
}

}  // namespace

void first_kernel_child(Clock::time_point main_start) {
  const std::vector<double> v = Random(7).vector(kSmall, -2, 2);
  const Tensor x = Tensor::from(v);
  const std::vector<double> y = (sin(x) * exp(-x * x) + x / 2).to_vector<double>();
  const double seconds = seconds_since(main_start);
  std::vector<double> truth;
  for (const double t : v) truth.push_back(std::sin(t) * std::exp(-t * t) + t / 2);
  print_main_start(main_start);
  print_value("result_s", seconds);
  print_value("compiled", static_cast<double>(kernels_compiled()));
  print_value("error", relative_error(y, truth));
}

void add_overhead_rows(std::vector<Row>& rows) {
  rows.push_back({.name = "kernel/first",
                  .work = "a fused elementwise kernel from main() to its values, in a fresh process",
                  .n = kSmall,
                  .set_up = first_kernel});
  rows.push_back({.name = "graph/build",
                  .work = "a node of a graph of 10^6 elementwise operations, recorded",
                  .n = kNodes,
                  .set_up = graph_build});
  rows.push_back({.name = "realize/cached",
                  .work = "record, plan, run and read (x x + 1) x, summed, in a loop: all seen before",
                  .n = kTiny,
                  .set_up = cached_realize});
}

}  // namespace tinyphys::bench
