// worker FIRST COUNT [PERTURB]: kernels FIRST to FIRST + COUNT, each other in shape and depth, and a few whole programs;
// every value is checked. Prints what was compiled and what was found. PERTURB values are made and dropped before, so that
// nodes lie at other addresses.
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;
using tp::Tensor;

namespace {

int wrong = 0;

void check(const std::string& what, double value, double truth) {
  if (std::fabs(value - truth) <= 1e-12 * (1 + std::fabs(truth))) return;
  fmt::print(stderr, "{} is {:.17g}, not {:.17g}\n", what, value, truth);
  ++wrong;
}

// Sum over i < n of a polynomial in x_i = i / n, in one of several forms.
void one_kernel(long number) {
  const long n = 16 + number, depth = 1 + number % 5;
  const Tensor x = Tensor::arange(static_cast<double>(n)) / static_cast<double>(n);
  Tensor y = x;
  for (long k = 0; k < depth; ++k) y = number % 2 ? y * x + 0.25 : (y + x) * (y - 0.5);
  double truth = 0;
  for (long i = 0; i < n; ++i) {
    const double xi = static_cast<double>(i) / static_cast<double>(n);
    double yi = xi;
    for (long k = 0; k < depth; ++k) yi = number % 2 ? yi * xi + 0.25 : (yi + xi) * (yi - 0.5);
    truth += yi;
  }
  check(fmt::format("kernel {}", number), y.sum().item<double>(), truth);
}

void programs() {
  const Tensor x = Tensor::linspace(0.0, 1.0, 50).clone(),
               m = x.reshape({50, 1}) * (x + 1.0).reshape({1, 50});
  check("matmul", tp::matmul(m, m).sum().item<double>(), [&] {
    double total = 0;
    for (int i = 0; i < 50; ++i)
      for (int j = 0; j < 50; ++j)
        for (int k = 0; k < 50; ++k) total += i / 49.0 * (k / 49.0 + 1) * (k / 49.0) * (j / 49.0 + 1);
    return total;
  }());
  // A pair sum, its force, a pendulum with its gradient, a scan with stacked output, a sort of gather.
  const Tensor d = x.reshape({50, 1}) - x.reshape({1, 50});
  const Tensor energy = (1.0 / tp::sqrt(d * d + 0.01)).sum();
  const Tensor force = tp::gradient(energy, std::vector<Tensor>{x})[0];
  // A sum of 2500 forces of up to 100 that cancel.
  if (!(std::fabs(force.sum().item<double>()) < 1e-10)) ++wrong;
  const tp::System pendulum([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() - tp::cos(q).sum() + 0.1 * (q * q * q * q).sum();
  });
  const Tensor q0 = Tensor::from({0.5, 1.0, 1.5}), p0 = Tensor::zeros({3});
  const tp::State s = pendulum.evolve({q0, p0}, {.dt = 1e-3, .steps = 500});
  const double before = pendulum.energy({q0, p0}).item<double>();
  if (!(std::fabs(pendulum.energy(s).item<double>() - before) < 1e-6)) ++wrong;
  const Tensor g = tp::gradient((s.q * s.q).sum(), std::vector<Tensor>{q0})[0];
  if (!std::isfinite(g.sum().item<double>())) ++wrong;
  const Tensor logistic =
      tp::scan([](const Tensor& v) { return 3.7 * v * (1.0 - v); }, Tensor::from({0.1, 0.2}), 7);
  double a = 0.1, b = 0.2;
  for (int i = 0; i < 7; ++i) {
    a = 3.7 * a * (1 - a);
    b = 3.7 * b * (1 - b);
  }
  check("logistic", logistic.sum().item<double>(), a + b);
  const Tensor rolled = tp::where(x < 0.5, tp::exp(x), tp::sin(x)) + x.roll(3, 0) + x.flip(0);
  double truth = 0;
  for (int i = 0; i < 50; ++i) {
    const double t = i / 49.0;
    truth += (t < 0.5 ? std::exp(t) : std::sin(t)) + 2 * t;
  }
  check("rolled", rolled.sum().item<double>(), truth);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: worker FIRST COUNT [PERTURB]\n");
    return 2;
  }
  const long first = std::atol(argv[1]), count = std::atol(argv[2]),
             perturb = argc > 3 ? std::atol(argv[3]) : 0;
  std::vector<Tensor> kept;
  for (long i = 0; i < perturb; ++i) {
    Tensor t = Tensor::full({3 + i % 7}, 0.5 * static_cast<double>(i));
    for (long k = 0; k < i % 11; ++k) t = t * 1.5 + t;
    if (i % 3 == 0) kept.push_back(t);
  }
  for (long i = 0; i < count; ++i) one_kernel(first + i);
  if (perturb >= 0) programs();
  const tp::KernelCounts c = tp::kernel_counts();
  fmt::print("memory {} disk {} compiled {} rejected {} wrong {}\n", c.memory_hits, c.disk_hits, c.compiled,
             c.rejected, wrong);
  return wrong == 0 ? 0 : 1;
}
