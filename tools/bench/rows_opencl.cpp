// Kernels on the first OpenCL device, beside the same on the CPU device.
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "input.hpp"
#include "tinyphys/tensor.hpp"

namespace tinyphys::bench {
namespace {

constexpr long kElements = 1'000'000, kBodies = 16'384;
constexpr double kSoftening2 = 0.01;

Tensor wave(const Tensor& x) { return sin(x) * exp(-x * x) + x / 2.0; }

Tensor arithmetic(const Tensor& x) {
  Tensor y = x * 0.25 + 0.5;
  for (int k = 0; k < 9; ++k) y = y * x - 1.5;
  return y;
}

// Accelerations of bodies on a line; broadcast and sum, no N x N array.
Tensor pair_sums(const Tensor& x) {
  const Tensor way = x.reshape({1, kBodies}) - x.reshape({kBodies, 1});
  const Tensor r2 = way * way + kSoftening2;
  return (way / (r2 * sqrt(r2))).sum(1);
}

Bench beside_the_cpu(Tensor (*f)(const Tensor&), long n, DType dtype, double bound) {
  const Tensor x = Tensor::from(Random(21).vector(static_cast<std::size_t>(n), -5, 5)).astype(dtype);
  const Tensor there = x.to("cl"), here = x.to("cpu");
  realize({there, here});
  const auto on = [f](const Tensor& input) {
    Tensor y = f(input);
    y.realize();
    return y;
  };
  const auto values = [&](const Tensor& input) {
    return on(input).to("cpu").astype(DType::kFloat64).to_vector<double>();
  };
  const double error = relative_error(values(there), values(here));
  if (!(error <= bound)) throw Wrong(fmt::format("differs by {:.1e} from the CPU device", error));
  Bench b;
  b.work = timed([=] { consume(on(there)); });
  b.reference = timed([=] { consume(on(here)); });
  b.finish = [=] { return fmt::format("they differ by {:.1e}", error); };
  return b;
}

}  // namespace

void add_opencl_rows(std::vector<Row>& rows) {
  const char* cpu = "the CPU device";
  rows.push_back({"opencl/elementwise", "a polynomial of degree 10, 20 operations in one kernel", kElements,
                  cpu, [] { return beside_the_cpu(arithmetic, kElements, DType::kFloat64, 0); }});
  // The driver's sine and exponential, beside libmvec's.
  rows.push_back({"opencl/wave", "sin(x) exp(-x^2) + x/2, in one kernel", kElements, cpu,
                  [] { return beside_the_cpu(wave, kElements, DType::kFloat64, 1e-14); }});
  rows.push_back({"opencl/pair-sums-f32", "sums over pairs, float32", kBodies, cpu,
                  [] { return beside_the_cpu(pair_sums, kBodies, DType::kFloat32, 1e-5); }});
  rows.push_back({"opencl/pair-sums-f64", "sums over pairs, float64", kBodies, cpu,
                  [] { return beside_the_cpu(pair_sums, kBodies, DType::kFloat64, 1e-13); }});
}

}  // namespace tinyphys::bench
