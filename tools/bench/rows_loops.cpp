// Plain C++ loops over tensors: what recording their passes costs, and what becomes of them.
#include <cmath>
#include <memory>
#include <random>
#include <tuple>
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "input.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys::bench {
namespace {

constexpr long kPasses = 1'000'000, kRead = 10'000, kOdd = 20'000;
constexpr double kStep = 1e-2;

using Step = std::tuple<Tensor, Tensor> (*)(const Tensor& q, const Tensor& p);

// Three masses, each on a spring of its own with a cubic part: 12 operations.
constexpr double kNonlinearOperations = 12;
std::tuple<Tensor, Tensor> nonlinear(const Tensor& q, const Tensor& p) {
  const Tensor half = p - 0.5 * kStep * (q + q * q * q);
  const Tensor next = q + kStep * half;
  return {next, half - 0.5 * kStep * (next + next * next * next)};
}
// The same without the cubic part: 6 operations.
constexpr double kLinearOperations = 6;
std::tuple<Tensor, Tensor> linear(const Tensor& q, const Tensor& p) {
  const Tensor half = p - 0.5 * kStep * q;
  const Tensor next = q + kStep * half;
  return {next, half - 0.5 * kStep * next};
}

struct Start {
  Tensor q = Tensor::from({0.5, -0.3, 0.8}), p = Tensor::from({0.1, 0.2, -0.4});
};

Tensor by_loop(Step step, const Start& start) {
  Tensor q = start.q, p = start.p;
  for (long i = 0; i < kPasses; ++i) std::tie(q, p) = step(q, p);
  return q.realize();
}
Tensor by_scan(Step step, const Start& start) {
  return std::get<0>(scan(step, std::tuple{start.q, start.p}, kPasses)).realize();
}

// The reference is what the loop may take: 1.5 x the scan, and 200 ns for each operation that it records.
Bench plain_loop(Step step, double operations) {
  const Start start;
  const Tensor loop = by_loop(step, start), scanned = by_scan(step, start);
  if (!allclose(loop, scanned, 1e-9, 1e-9)) throw Wrong("loop and scan differ");
  Bench b;
  b.units = static_cast<double>(kPasses) * operations;
  b.work = timed([=] { consume(by_loop(step, {start.q.clone(), start.p.clone()})); });
  b.reference = [=, scan_only = timed([=] {
                      consume(by_scan(step, {start.q.clone(), start.p.clone()}));
                    })](long repeat) mutable {
    return 1.5 * scan_only(repeat) +
           200e-9 * static_cast<double>(kPasses) * operations * static_cast<double>(repeat);
  };
  b.sampling = {.warm_up = 0, .min_samples = 3, .max_samples = 5, .budget_s = 5, .min_sample_s = 0};
  return b;
}

// A value is read in each pass.
Bench read_each_pass() {
  Bench b;
  b.units = kRead;
  b.work = [](long) {
    const Start start;
    Tensor q = start.q.clone(), p = start.p.clone();
    const auto from = Clock::now();
    double sum = 0;
    for (long i = 0; i < kRead; ++i) {
      std::tie(q, p) = nonlinear(q, p);
      sum += (q * q).sum().item<double>();
    }
    const double seconds = seconds_since(from);
    if (!std::isfinite(sum)) throw Wrong("the energy is not finite");
    return seconds;
  };
  b.sampling = {.warm_up = 1, .min_samples = 3, .max_samples = 7, .budget_s = 5, .min_sample_s = 0};
  return b;
}

// Operations that never repeat.
Bench no_loop() {
  const auto engine = std::make_shared<std::mt19937_64>(8);
  Bench b;
  b.units = kOdd;
  b.work = [=](long) {
    const Start start;
    std::vector<Tensor> known{start.q.clone(), start.p.clone()};
    const auto from = Clock::now();
    for (long i = 0; i < kOdd; ++i) {
      const Tensor &x = known[(*engine)() % known.size()], &y = known[(*engine)() % known.size()];
      const double c = 0.25 + static_cast<double>((*engine)() % 1000) / 4000;
      Tensor z = (*engine)() % 2 ? c * x + 0.5 * y : sin(x) * c;
      if (known.size() < 8)
        known.push_back(z);
      else
        known[(*engine)() % known.size()] = z;
    }
    realize(known);
    return seconds_since(from);
  };
  b.sampling = {.warm_up = 0, .min_samples = 3, .max_samples = 5, .budget_s = 5, .min_sample_s = 0};
  return b;
}

}  // namespace

void add_loop_rows(std::vector<Row>& rows) {
  constexpr std::string_view kAllowed =
      "what is allowed: 1.5 x the same as tp::scan, and 200 ns an operation";
  rows.push_back({.name = "loop/nonlinear",
                  .work = "an operation of 10^6 leapfrog passes of three nonlinear springs, a plain loop",
                  .n = kPasses,
                  .reference = kAllowed,
                  .set_up = [] { return plain_loop(nonlinear, kNonlinearOperations); }});
  rows.push_back({.name = "loop/linear",
                  .work = "an operation of 10^6 leapfrog passes of linear springs, a plain loop that jumps",
                  .n = kPasses,
                  .reference = kAllowed,
                  .set_up = [] { return plain_loop(linear, kLinearOperations); }});
  rows.push_back({.name = "loop/read",
                  .work = "a pass of such a loop that reads its energy each time (3 us are aimed at)",
                  .n = kRead,
                  .set_up = read_each_pass});
  rows.push_back({.name = "loop/none",
                  .work = "an operation of a program that never repeats (10 us are aimed at)",
                  .n = kOdd,
                  .set_up = no_loop});
}

}  // namespace tinyphys::bench
