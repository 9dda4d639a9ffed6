// tp::fft and its like: NumPy's values and conventions, theorems of the transform, derivatives, mistakes.
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/engine.hpp"
#include "linalg/fft.hpp"
#include "support/env.hpp"
#include "support/quad.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"

using namespace tinyphys;

namespace {

using Complex = std::complex<double>;
using Row = std::vector<Complex>;
using Real = std::vector<double>;

Row row(const Tensor& t) { return t.astype(DType::kComplex128).to_vector<Complex>(); }
Real real_row(const Tensor& t) { return t.astype(DType::kFloat64).to_vector<double>(); }
template <class T> double distance(const std::vector<T>& a, const std::vector<T>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}
double largest(const Row& a) {
  double most = 0;
  for (const Complex& x : a) most = std::max(most, std::abs(x));
  return most;
}

Tensor bumpy(const Shape& shape, double seed) {
  std::int64_t n = 1;
  for (const std::int64_t d : shape) n *= d;
  Real v;
  for (std::int64_t i = 0; i < n; ++i)
    v.push_back(std::sin(seed * static_cast<double>(i * i % 1009)) + 0.3 * std::cos(static_cast<double>(i)));
  return Tensor::from(v, shape);
}
Tensor wavy(const Shape& shape, double seed = 1.3) {
  return complex(bumpy(shape, seed), bumpy(shape, seed + 1)).realize();
}

// sum_j x[j] exp(sign 2 pi i j k / n) over a row of pairs, every number a quad.
Row by_definition(const Row& x, double sign) {
  const Quad pi = acos(Quad(-1.0));
  const std::size_t n = x.size();
  Row out;
  for (std::size_t k = 0; k < n; ++k) {
    Quad re = 0.0, im = 0.0;
    for (std::size_t j = 0; j < n; ++j) {
      const Quad angle =
          Quad(2.0 * sign) * pi * Quad(static_cast<double>(j * k % n)) / Quad(static_cast<double>(n));
      re = re + Quad(x[j].real()) * cos(angle) - Quad(x[j].imag()) * sin(angle);
      im = im + Quad(x[j].real()) * sin(angle) + Quad(x[j].imag()) * cos(angle);
    }
    out.emplace_back(static_cast<double>(re), static_cast<double>(im));
  }
  return out;
}

template <class F> std::string message(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

doctest::skip needs_fft() { return doctest::skip(!fft_available()); }

}  // namespace

TEST_CASE("fft: the values of NumPy's manual" * needs_fft()) {
  constexpr Complex i{0, 1};
  CHECK(distance(row(ifft(Tensor::from({0.0, 4.0, 0.0, 0.0}))), Row{1, i, -1, -i}) < 1e-15);
  const Tensor turns = exp(complex(0.0, Tensor::arange(8.0) * (2 * std::numbers::pi / 8)));
  CHECK(distance(row(fft(turns)), Row{0, 8, 0, 0, 0, 0, 0, 0}) < 1e-14);
  CHECK(distance(row(rfft(Tensor::from({0.0, 1.0, 0.0, 0.0}))), Row{1, -i, -1}) < 1e-15);
  CHECK(distance(row(fft(Tensor::from({0.0, 1.0, 0.0, 0.0}))), Row{1, -i, -1, i}) < 1e-15);
  CHECK(distance(real_row(irfft(Tensor::from(Row{1, -i, -1}))), Real{0, 1, 0, 0}) < 1e-15);
  const Tensor ramp = Tensor::arange(3.0).reshape({3, 1, 1}).expand({3, 3, 3});
  Row expected(27);
  expected[9] = 9;
  expected[18] = 18;
  CHECK(distance(row(fftn(ramp, {.axes = {{1, 2}}})), expected) < 1e-14);
  CHECK(distance(row(fftn(ramp, {.s = {{2, 2}}, .axes = {{0, 1}}})),
                 Row{2, 2, 2, 0, 0, 0, -2, -2, -2, 0, 0, 0}) < 1e-15);
  const Tensor eye = Tensor::eye(4);
  CHECK(distance(row(ifftn(fftn(eye, {.axes = {{0}}}), {.axes = {{1}}})), row(eye)) < 1e-15);
  const Tensor ones = Tensor::ones({2, 2, 2});
  CHECK(distance(row(rfftn(ones)), Row{8, 0, 0, 0, 0, 0, 0, 0}) < 1e-15);
  CHECK(distance(row(rfftn(ones, {.axes = {{2, 0}}})), Row{4, 0, 4, 0, 0, 0, 0, 0}) < 1e-15);
  Row peak(12);
  peak[0] = 12;
  CHECK(distance(real_row(irfftn(Tensor::from(peak, {3, 2, 2}))), Real(12, 1.0)) < 1e-15);
  CHECK(real_row(fftfreq(8, 0.1)) == Real{0, 1.25, 2.5, 3.75, -5, -3.75, -2.5, -1.25});
  CHECK(distance(real_row(fftfreq(5)), Real{0, 0.2, 0.4, -0.4, -0.2}) < 1e-16);
  CHECK(distance(real_row(rfftfreq(10, 0.01)), Real{0, 10, 20, 30, 40, 50}) < 1e-14);
  CHECK(real_row(rfftfreq(1)) == Real{0});
  CHECK(distance(real_row(fftshift(fftfreq(10, 0.1))), Real{-5, -4, -3, -2, -1, 0, 1, 2, 3, 4}) < 1e-15);
  const Tensor freqs = fftfreq(9, 1.0 / 9).reshape({3, 3});
  CHECK(distance(real_row(fftshift(freqs, {1})), Real{2, 0, 1, -4, 3, 4, -1, -3, -2}) < 1e-15);
  CHECK(real_row(ifftshift(fftshift(freqs))) == real_row(freqs));
  CHECK(real_row(fftshift(Tensor::arange(5.0))) == Real{3, 4, 0, 1, 2});
  CHECK(real_row(ifftshift(Tensor::arange(5.0))) == Real{2, 3, 4, 0, 1});
}

TEST_CASE("fft: dtypes and shapes are NumPy's" * needs_fft()) {
  const auto made = [](const Tensor& t) {
    return std::string(name(t.dtype())) + " " + std::to_string(t.size());
  };
  CHECK(made(fft(Tensor::from({1, 2, 3}))) == "complex128 3");
  CHECK(made(fft(Tensor::from({true, false}))) == "complex128 2");
  CHECK(made(fft(Tensor::ones({4}, DType::kFloat32))) == "complex64 4");
  CHECK(made(fft(Tensor::ones({4}).astype(DType::kComplex64))) == "complex64 4");
  CHECK(made(rfft(Tensor::ones({5}, DType::kFloat32))) == "complex64 3");
  CHECK(made(rfft(Tensor::ones({6}))) == "complex128 4");
  CHECK(made(irfft(Tensor::ones({4}, DType::kFloat32))) == "float32 6");
  CHECK(made(irfft(Tensor::ones({4}), {.n = 7})) == "float64 7");
  CHECK(rfftn(Tensor::ones({6, 5, 4}), {.axes = {{2, 0}}}).shape() == Shape{4, 5, 4});
  CHECK(irfftn(Tensor::ones({6, 5, 4}), {.axes = {{2, 0}}}).shape() == Shape{10, 5, 4});
  CHECK(fftn(Tensor::ones({6, 5, 4}), {.s = {{3, 8}}}).shape() == Shape{6, 3, 8});
  CHECK(made(fft(Tensor::zeros({0, 3}))) == "complex128 0");
  CHECK(made(fft(Tensor::zeros({0}), {.n = 4})) == "complex128 4");
  CHECK(made(fftn(Tensor(2.5))) == "complex128 1");
  // In the precision of the operand.
  const Tensor single = wavy({40}).astype(DType::kComplex64);
  const Row exact = by_definition(row(single), -1);
  CHECK(distance(row(fft(single)), exact) < 4e-7 * largest(exact));
}

TEST_CASE("fft: cropped, padded, scaled, along any axis, against quad precision" * needs_fft()) {
  for (const std::int64_t length : {1, 2, 7, 8, 30, 97, 128}) {
    CAPTURE(length);
    const Row x = row(wavy({length}));
    const auto n = static_cast<double>(length);
    const Tensor t = Tensor::from(x);
    const Row forward = by_definition(x, -1), back = by_definition(x, 1);
    const auto times = [](Row r, double by) {
      for (Complex& v : r) v *= by;
      return r;
    };
    const double unit = 1e-15 * std::max(largest(forward), largest(back));
    CHECK(distance(row(fft(t)), forward) < unit);
    CHECK(distance(row(ifft(t)), times(back, 1 / n)) < unit);
    CHECK(distance(row(fft(t, {.norm = FftNorm::Ortho})), times(forward, 1 / std::sqrt(n))) < unit);
    CHECK(distance(row(ifft(t, {.norm = FftNorm::Ortho})), times(back, 1 / std::sqrt(n))) < unit);
    CHECK(distance(row(fft(t, {.norm = FftNorm::Forward})), times(forward, 1 / n)) < unit);
    CHECK(distance(row(ifft(t, {.norm = FftNorm::Forward})), back) < unit);
    for (const std::int64_t m : {length + 3, std::max<std::int64_t>(1, length - 1)}) {
      Row other = x;
      other.resize(static_cast<std::size_t>(m));
      const Row exact = by_definition(other, -1);
      CHECK(distance(row(fft(t, {.n = m})), exact) < 1e-15 * std::max(largest(exact), 1.0));
    }
    for (const FftNorm norm : {FftNorm::Backward, FftNorm::Ortho, FftNorm::Forward}) {
      CHECK(distance(row(ifft(fft(t, {.norm = norm}), {.norm = norm})), x) < 2e-15);
      const Real y = real_row(real(t));
      CHECK(distance(real_row(irfft(rfft(real(t), {.norm = norm}), {.n = length, .norm = norm})), y) < 2e-15);
    }
  }
  // Along another axis: the transform of what lies along it; both: one after the other, in any order.
  const Tensor z = wavy({5, 12, 6});
  for (const std::int64_t axis : {0, 1, -1})
    CHECK(distance(row(fft(z, {.axis = axis}).transpose(axis, -1)), row(fft(z.transpose(axis, -1)))) < 1e-14);
  const Row both = row(fft(fft(z, {.axis = 0}), {.axis = 2}));
  CHECK(distance(row(fftn(z, {.axes = {{0, 2}}})), both) < 1e-14);
  CHECK(distance(row(fftn(z, {.axes = {{-1, 0}}})), both) < 1e-14);
  const Row all = row(fft(fft(fft(z, {.axis = 0}), {.axis = 2}), {.axis = 1}));
  CHECK(distance(row(fftn(z)), all) < 1e-13);
  CHECK(distance(row(ifftn(fftn(z))), row(z)) < 2e-15);
  // The half of a real one is that of the whole, and comes back.
  const Tensor x = real(z);
  CHECK(distance(row(rfftn(x, {.axes = {{2, 1}}})), row(fftn(x, {.axes = {{1, 2}}}).slice(1, 0, 7))) < 1e-14);
  CHECK(distance(real_row(irfftn(rfftn(x, {.axes = {{2, 1}}}), {.axes = {{2, 1}}})), real_row(x)) < 2e-15);
  CHECK(distance(real_row(irfftn(rfftn(x, {.axes = {{1, 0}}}), {.s = {{12, 5}}, .axes = {{1, 0}}})),
                 real_row(x)) < 2e-15);
}

TEST_CASE("fft: Parseval, shift and convolution theorems, derivative of a wave" * needs_fft()) {
  const Tensor z = wavy({6, 45}), w = wavy({6, 45}, 0.4);
  const double norm = square(abs(z)).sum().item<double>();
  CHECK(square(abs(fftn(z, {.norm = FftNorm::Ortho}))).sum().item<double>() ==
        doctest::Approx(norm).epsilon(1e-14));
  CHECK(square(abs(fft(z))).sum().item<double>() == doctest::Approx(45 * norm).epsilon(1e-14));
  // x[j - s] has exp(-2 pi i k s / n) X[k].
  const Tensor phase = exp(complex(0.0, fftfreq(45) * (-2 * std::numbers::pi * 7)));
  CHECK(distance(row(fft(z.roll(7, 1))), row(fft(z) * phase)) < 1e-12);
  // Of a circular convolution, the product.
  Row sum(45);
  const Row a = row(z.select(0, 0)), b = row(w.select(0, 0));
  for (std::size_t i = 0; i < 45; ++i)
    for (std::size_t j = 0; j < 45; ++j) sum[i] += a[j] * b[(45 + i - j) % 45];
  CHECK(distance(row(ifft(fft(z.select(0, 0)) * fft(w.select(0, 0)))), sum) < 1e-12);
  // d/dx sin(3 x) = 3 cos(3 x) by i k.
  const std::int64_t n = 64;
  const Tensor x = Tensor::arange(static_cast<double>(n)) * (2 * std::numbers::pi / n);
  const Tensor k = rfftfreq(n, 1.0 / n);
  const Tensor slope = irfft(rfft(sin(3 * x)) * complex(0.0, k));
  CHECK(distance(real_row(slope), real_row(3 * cos(3 * x))) < 1e-12);
}

TEST_CASE("fft: gradients against central differences, jvp beside vjp" * needs_fft()) {
  const Tensor x = bumpy({3, 8}, 1.1), v = bumpy({3, 8}, 0.3);
  const Tensor w = wavy({3, 8}, 2.2), half = wavy({3, 5}, 0.9);
  using Function = std::function<Tensor(const Tensor&)>;
  const std::vector<Function> functions{
      [&](const Tensor& y) { return square(abs(fft(y) * w)).sum(); },
      [&](const Tensor& y) { return real(fftn(complex(y, y * y), {.norm = FftNorm::Ortho}) * w).sum(); },
      [&](const Tensor& y) { return imag(ifft(complex(sin(y), y), {.axis = 0}) * w).sum(); },
      [&](const Tensor& y) { return square(abs(rfftn(y) * half)).sum(); },
      [&](const Tensor& y) {
        return (irfft(rfft(y * y) * half, {.n = 9}) * bumpy({3, 9}, 0.7)).sum();
      },
      [&](const Tensor& y) {
        return square(irfftn(complex(y, cos(y)), {.axes = {{1, 0}}})).sum();
      },
      [&](const Tensor& y) {
        return square(abs(fft(y, {.n = 5}))).sum() + square(abs(fft(y, {.n = 11}))).sum();
      }};
  for (std::size_t i = 0; i < functions.size(); ++i) {
    CAPTURE(i);
    const Function& f = functions[i];
    const double by_gradient = (grad(f)(x) * v).sum().item<double>();
    const auto at = [&](double t) { return f(x + t * v).item<double>(); };
    const double h = 1e-3;
    const double by_difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    CHECK(by_gradient == doctest::Approx(by_difference).epsilon(1e-9));
    CHECK(jvp(f, {x}, {v}).second.item<double>() == doctest::Approx(by_gradient).epsilon(1e-12));
  }
}

TEST_CASE("fft: the gradient by a complex operand is JAX's, dL = Re(sum g dz)" * needs_fft()) {
  const Tensor z = wavy({3, 8}), v = wavy({3, 8}, 0.5), w = wavy({3, 8}, 2.2);
  const std::vector<std::function<Tensor(const Tensor&)>> functions{
      [&](const Tensor& y) { return square(abs(fft(y * y) * w)).sum(); },
      [&](const Tensor& y) { return real(ifftn(y * w) * y).sum(); },
      [&](const Tensor& y) { return square(irfft(y, {.n = 13, .axis = 1})).sum(); }};
  for (std::size_t i = 0; i < functions.size(); ++i) {
    CAPTURE(i);
    const auto& f = functions[i];
    const double by_gradient = real((grad(f)(z) * v).sum()).item<double>();
    const auto at = [&](double t) { return f(z + t * v).item<double>(); };
    const double h = 1e-3;
    const double by_difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    CHECK(by_gradient == doctest::Approx(by_difference).epsilon(1e-9));
    CHECK(jvp(f, {z}, {v}).second.item<double>() == doctest::Approx(by_gradient).epsilon(1e-12));
  }
}

TEST_CASE("fft: what stands around a transform is one kernel on each side" *
          doctest::skip(!fft_available() || !env::optimize())) {
  const Tensor z = wavy({64}), v = bumpy({64}, 0.8), k = fftfreq(64).realize();
  const Tensor out = ifft(exp(complex(0.0, -0.5 * k * k)) * fft(exp(complex(0.0, -0.1 * v)) * z)) * 2.0;
  const UOp node = uop(out);
  const std::string plan = describe_plan(std::span<const UOp>(&node, 1));
  CAPTURE(plan);
  std::size_t kernels = 0, transforms = 0;
  for (std::size_t at = plan.find("kernel"); at != std::string::npos; at = plan.find("kernel", at + 1))
    ++kernels;
  for (std::size_t at = plan.find("fft"); at != std::string::npos; at = plan.find("fft", at + 1))
    ++transforms;
  CHECK(transforms == 2);
  CHECK(kernels <= 4);  // before, between and after; the phases may have one of their own
}

TEST_CASE("fft: vmap is a transform along another axis" * needs_fft()) {
  const Tensor z = wavy({4, 10});
  CHECK(row(vmap([](const Tensor& r) { return fft(r); })(z)) == row(fft(z)));
}

TEST_CASE("fft: a plain loop of linear steps is folded, proved and jumps" *
          doctest::skip(!fft_available() || !env::optimize())) {
  constexpr int kSteps = 20'000;
  const Tensor k = 2 * std::numbers::pi * fftfreq(8, 0.5);
  const Tensor turn = exp(complex(0.0, -5e-4 * k * k)).realize(), start = wavy({8});
  Tensor psi = start;
  for (int i = 0; i < kSteps; ++i) psi = ifft(turn * fft(psi));
  const Tensor exact = ifft(exp(complex(0.0, -5e-4 * kSteps * k * k)) * fft(start));
  CHECK(distance(row(psi), row(exact)) < 1e-11);
  const std::string report = explain(psi).text;
  CAPTURE(report);
  CHECK(report.find("folded") != std::string::npos);
  CHECK(report.find("jump") != std::string::npos);
}

TEST_CASE("fft: mistakes are told where they are made") {
  const Tensor z = wavy({4, 6});
  CHECK(message([&] { fft(z, {.axis = 2}); }).find("[fft] axis 2 is out of range for shape [4,6]") == 0);
  CHECK(message([&] {
          fftn(z, {.axes = {{0, -2}}});
        }).find("[fftn] axis 0 is given twice for shape [4,6]") == 0);
  CHECK(message([&] { fft(z, {.n = 0}); }).find("[fft] 0 points along axis 1 of shape [4,6]") == 0);
  CHECK(message([&] {
          ifft(Tensor::zeros({3, 0}));
        }).find("[ifft] 0 points along axis 1 of shape [3,0]") == 0);
  CHECK(message([&] { fftn(z, {.s = {{1, 2, 3}}}); }).find("[fftn] 3 lengths for shape [4,6]") == 0);
  CHECK(message([&] { fftn(z, {.s = {{1, 2}}, .axes = {{0}}}); }).find("[fftn] 2 lengths for 1 axes") == 0);
  CHECK(message([&] { rfft(z); }).find("[rfft] needs a real operand, got complex128[4,6]") == 0);
  CHECK(message([&] {
          irfft(Tensor::ones({1}));
        }).find("[irfft] 0 points along axis 0 of shape [1], which is half") == 0);
  CHECK(message([&] { rfftn(Tensor(1.0)); }).find("[rfftn] needs an axis") == 0);
  CHECK(message([&] { fft(z, {.norm = static_cast<FftNorm>(7)}); }).find("[fft] norm 7 is none") == 0);
  CHECK(message([&] { fft(Tensor(1.0)); }).find("[fft] axis -1 is out of range for shape []") == 0);
  CHECK(message([&] { fftfreq(0); }).find("[fftfreq] 0 points") == 0);
  CHECK(message([&] { rfftfreq(4, 0.0); }).find("[rfftfreq] the spacing is 0") == 0);
  CHECK(message([&] {
          fftfreq(4, std::numeric_limits<double>::infinity());
        }).find("[fftfreq] the spacing is inf") == 0);
  CHECK(message([&] { fftshift(z, {5}); }).find("[fftshift] axis 5 is out of range for shape [4,6]") == 0);
  CHECK(message([&] { fft(z, {.axis = 2}); }).find("test_fft_numpy.cpp:") != std::string::npos);
}
