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
#include "tinyphys/transforms.hpp"

namespace tinyphys::bench {
namespace {

constexpr long kSmall = 64, kTiny = 8, kNodes = 1'000'000, kLong = 100'000, kPieces = 20'000,
               kScalars = 3'200;

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

// --- long graphs, never seen before: recorded, planned, compiled where something is new, run ---

// Each pass has another length, so that no plan is found ready. n: steps of the first pass.
Bench long_graph(std::function<Tensor(long n)> record, long n, double units) {
  const auto next = std::make_shared<long>(n);
  Bench b;
  b.units = units;
  b.work = [=, record = std::move(record)](long) {
    const auto start = Clock::now();
    const Tensor x = record(++*next).realize();
    const double seconds = seconds_since(start);
    consume(x);
    return seconds;
  };
  b.sampling = {.warm_up = 1, .min_samples = 3, .max_samples = 11, .budget_s = 3, .min_sample_s = 0};
  return b;
}

Bench long_chain(long n) {
  const Tensor x0 = Tensor::from(Random(8).vector(3, 0, 1));
  const auto record = [=](long steps) {
    Tensor x = x0;
    for (long i = 0; i < steps; ++i) x = x * 0.99 + 0.01;
    return x;
  };
  return long_graph(record, n, static_cast<double>(n));
}

Bench long_numbers() {
  constexpr long kNodesOfStep = 8;  // two operations, two numbers, each reshaped and expanded
  const Tensor x0 = Tensor::from(Random(9).vector(3, 0, 1));
  const auto record = [=](long steps) {
    Tensor x = x0;
    for (long i = 0; i < steps; ++i) {
      const auto t = static_cast<double>(i);
      x = x * (0.99 + 1e-9 * t) + (0.01 + 1e-9 * t);
    }
    return x;
  };
  return long_graph(record, kLong, static_cast<double>(kLong * kNodesOfStep));
}

Bench long_gradient() {
  constexpr long kNodesOfStep = 12;  // four operations forward, eight back
  const Tensor x0 = Tensor::from(Random(10).vector(3, 0, 1));
  const auto record = [=](long steps) {
    Tensor x = x0;
    for (long i = 0; i < steps; ++i) x = x * 0.99 + 0.005 * (x * x);
    return gradient(x.sum(), std::vector<Tensor>{x0})[0];
  };
  return long_graph(record, kLong, static_cast<double>(kLong * kNodesOfStep));
}

Bench long_cat() {
  const Tensor x = Tensor::from(Random(11).vector(kPieces + 100, 0, 1));
  const auto record = [=](long n) {
    std::vector<Tensor> pieces;
    for (long i = 0; i < n; ++i) pieces.push_back(x.slice(0, i, i + 1) * 2.0);
    return cat(pieces, 0);
  };
  return long_graph(record, kPieces, static_cast<double>(kPieces));
}

Bench long_stack() {
  const auto record = [=](long n) {
    std::vector<Tensor> numbers;
    for (long i = 0; i < n; ++i) numbers.push_back(Tensor::full({}, 0.5 * static_cast<double>(i)));
    return stack(numbers, 0);
  };
  return long_graph(record, kScalars, static_cast<double>(kScalars));
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
  rows.push_back({.name = "long/chain",
                  .work = "a step of x = x c + d, a chain of 10^5 never seen before, recorded and realized",
                  .n = kLong,
                  .set_up = [] { return long_chain(kLong); }});
  rows.push_back({.name = "long/chain-1e6", .work = "the same, a chain of 10^6", .n = kNodes, .set_up = [] {
                    return long_chain(kNodes);
                  }});
  rows.push_back({.name = "long/numbers",
                  .work = "a node of a chain of 10^5 steps x = x c + d, where each step has its own c and d",
                  .n = kLong,
                  .set_up = long_numbers});
  rows.push_back({.name = "long/gradient",
                  .work = "a node of the gradient of a chain of 10^5 steps x = c x + d x x",
                  .n = kLong,
                  .set_up = long_gradient});
  rows.push_back({.name = "long/cat",
                  .work = "a piece of cat of 20,000 pieces, each a computed element of one tensor",
                  .n = kPieces,
                  .set_up = long_cat});
  rows.push_back({.name = "long/stack",
                  .work = "a piece of stack of 3,200 numbers",
                  .n = kScalars,
                  .set_up = long_stack});
}

}  // namespace tinyphys::bench
