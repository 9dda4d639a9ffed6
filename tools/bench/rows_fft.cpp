// Transforms beside FFTW alone: what the blocks over the batch, the threads and the runtime cost or bring.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <vector>

#include <fmt/format.h>

#include "bench.hpp"
#include "derive/chebyshev_scan.hpp"
#include "input.hpp"
#include "reference/transforms.hpp"
#include "tensor/access.hpp"
#include "tinyphys/fft.hpp"
#include "tinyphys/scan.hpp"

namespace tinyphys::bench {
namespace {

Bench transform(const std::vector<std::int64_t>& shape, std::int64_t batch, bool real) {
  std::int64_t size = batch;
  for (const std::int64_t n : shape) size *= n;
  Shape all{batch};
  all.insert(all.end(), shape.begin(), shape.end());
  const std::vector<double> numbers = Random(11).vector(real ? size : 2 * size, -1, 1);
  const Tensor pairs = Tensor::from(numbers);
  const Tensor parts = pairs.reshape({-1, real ? 1 : 2});
  const Tensor x =
      (real ? pairs.reshape(all) : complex(parts.select(1, 0), parts.select(1, 1)).reshape(all)).realize();
  std::vector<std::int64_t> axes;
  for (std::size_t a = 0; a < shape.size(); ++a) axes.push_back(static_cast<std::int64_t>(a) + 1);
  const FftnOptions options{.axes = axes};
  const auto plain = std::make_shared<PlainTransform>(std::vector<int>(shape.begin(), shape.end()),
                                                      static_cast<int>(batch), real, numbers);
  const auto make = [=] { return (real ? rfftn(x, options) : fftn(x, options)).realize(); };
  plain->run();
  const Tensor ours = make();
  std::vector<double> values =
      tinyphys::stack({tinyphys::real(ours), imag(ours)}, ours.ndim()).to_vector<double>();
  const double error = relative_error(values, plain->result());
  if (!(error <= 1e-14)) throw Wrong(fmt::format("differs by {:.1e} from FFTW alone", error));
  Bench b;
  b.work = timed([=] { consume(make()); });
  b.reference = timed([=] { plain->run(); });
  return b;
}

// psi -> exp(-i V h / 2) F^-1 exp(-i T h) F exp(-i V h / 2) psi, beside its transforms alone.
Bench split_step(const std::vector<std::int64_t>& shape, std::int64_t steps) {
  std::int64_t size = 1;
  for (const std::int64_t n : shape) size *= n;
  const std::vector<double> numbers = Random(12).vector(2 * size, -1, 1);
  const Tensor parts = Tensor::from(numbers).reshape({-1, 2});
  const Tensor psi = complex(parts.select(1, 0), parts.select(1, 1)).reshape(shape).realize();
  const auto phase = [&](std::uint64_t seed) {
    return exp(complex(0.0, Tensor::from(Random(seed).vector(size, -1, 1)).reshape(shape))).realize();
  };
  const Tensor v = phase(13), t = phase(14);
  const auto plain =
      std::make_shared<PlainTransform>(std::vector<int>(shape.begin(), shape.end()), 1, false, numbers);
  const auto make = [=] {
    return scan([&](const Tensor& y) { return v * ifftn(t * fftn(v * y)); }, psi, steps).realize();
  };
  const double before = psi.norm().item<double>(), after = make().norm().item<double>();
  if (!(std::abs(after / before - 1) <= 1e-12)) throw Wrong("the norm is not kept");
  Bench b;
  b.work = timed([=] { consume(make()); });
  b.reference = timed([=] {
    for (std::int64_t i = 0; i < 2 * steps; ++i) plain->run();
  });
  return b;
}

// exp(-i H t) psi at R t = 2000 by its Chebyshev series, beside the transforms of its terms alone.
Bench chebyshev(const std::vector<std::int64_t>& shape) {
  constexpr double kSpread = 2000, kTol = 1e-10, kHighest = 0.5;
  std::int64_t size = 1;
  for (const std::int64_t n : shape) size *= n;
  const std::vector<double> numbers = Random(12).vector(2 * size, -1, 1);
  const Tensor parts = Tensor::from(numbers).reshape({-1, 2});
  const Tensor psi = complex(parts.select(1, 0), parts.select(1, 1)).reshape(shape).realize();
  const Tensor v = Tensor::from(Random(15).vector(size, 0, kHighest)).reshape(shape).realize();
  Tensor kinetic = Tensor(0.0);
  for (std::size_t a = 0; a < shape.size(); ++a) {
    Shape along(shape.size(), 1);
    along[a] = shape[a];
    kinetic = kinetic + 0.5 * square(2 * std::numbers::pi * fftfreq(shape[a])).reshape(along);
  }
  kinetic = kinetic.realize();
  const double high = kinetic.max().item<double>() + kHighest;
  const BoundedOperator h{[=](const UOp& y) {
                            const Tensor t = tensor(y);
                            return uop(ifftn(kinetic * fftn(t)) + v * t);
                          },
                          high / 2, high / 2};
  const double time = kSpread / h.radius;
  const auto plain =
      std::make_shared<PlainTransform>(std::vector<int>(shape.begin(), shape.end()), 1, false, numbers);
  const ChebyshevSum first = chebyshev_exponential(h, uop(psi), time, Exponential::kPhase, kTol);
  const double before = psi.norm().item<double>(), after = tensor(first.value).norm().item<double>();
  if (!(std::abs(after / before - 1) <= 1e-9)) throw Wrong("the norm is not kept");
  const std::size_t pairs = first.terms - 1;
  Bench b;
  b.work = timed([=] {
    consume(tensor(chebyshev_exponential(h, uop(psi), time, Exponential::kPhase, kTol).value).realize());
  });
  b.reference = timed([=] {
    for (std::size_t i = 0; i < 2 * pairs; ++i) plain->run();
  });
  b.finish = [=] { return fmt::format("{} applications of H", pairs); };
  return b;
}

}  // namespace

void add_fft_rows(std::vector<Row>& rows) {
  const auto add = [&](std::string_view name, std::string_view work, std::vector<std::int64_t> shape,
                       std::int64_t batch, bool real) {
    std::int64_t size = batch;
    for (const std::int64_t n : shape) size *= n;
    rows.push_back({.name = name,
                    .work = work,
                    .n = size,
                    .reference = "one plan of FFTW, FFTW_ESTIMATE, 1 thread",
                    .set_up = [=] { return transform(shape, batch, real); }});
  };
  add("fft/1d", "complex, 4096 points, recorded and run", {4096}, 1, false);
  add("fft/1d-prime", "complex, 4099 points", {4099}, 1, false);
  add("fft/batch", "complex, 1000 rows of 1024 points", {1024}, 1000, false);
  add("fft/2d-256", "complex, 256 x 256", {256, 256}, 1, false);
  add("fft/2d-1024", "complex, 1024 x 1024", {1024, 1024}, 1, false);
  add("fft/3d-64", "complex, 64 x 64 x 64", {64, 64, 64}, 1, false);
  add("fft/real-2d-1024", "real, 1024 x 1024", {1024, 1024}, 1, true);
  rows.push_back({.name = "fft/split-step-1d",
                  .work = "1000 split steps of 4096 points",
                  .n = 4096,
                  .reference = "FFTW there and back of each step alone, FFTW_ESTIMATE, 1 thread",
                  .set_up = [] { return split_step({4096}, 1000); }});
  rows.push_back({.name = "fft/split-step-2d",
                  .work = "100 split steps of 256 x 256 points",
                  .n = 256 * 256,
                  .reference = "FFTW there and back of each step alone, FFTW_ESTIMATE, 1 thread",
                  .set_up = [] {
                    return split_step({256, 256}, 100);
                  }});
  rows.push_back({.name = "fft/chebyshev-1d",
                  .work = "exp(-i H t) of 4096 points at R t = 2000, tolerance 1e-10",
                  .n = 4096,
                  .reference = "FFTW there and back of each term alone, FFTW_ESTIMATE, 1 thread",
                  .set_up = [] { return chebyshev({4096}); }});
  rows.push_back({.name = "fft/chebyshev-2d",
                  .work = "exp(-i H t) of 256 x 256 points at R t = 2000, tolerance 1e-10",
                  .n = 256 * 256,
                  .reference = "FFTW there and back of each term alone, FFTW_ESTIMATE, 1 thread",
                  .set_up = [] {
                    return chebyshev({256, 256});
                  }});
}

}  // namespace tinyphys::bench
