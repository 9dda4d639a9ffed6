// Transforms: known spectra, a sum written out, round trips, Parseval.
#include <cmath>
#include <complex>
#include <cstdio>
#include <numbers>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "linalg/fft.hpp"
#include "tinyphys/error.hpp"

using namespace tinyphys;
using Complex = std::complex<double>;
using Shape = std::vector<std::int64_t>;

namespace {

std::vector<Complex> random_complex(std::int64_t n) {
  std::mt19937_64 rng(5);
  std::normal_distribution<double> normal;
  std::vector<Complex> v(static_cast<std::size_t>(n));
  for (Complex& c : v) c = {normal(rng), normal(rng)};
  return v;
}
std::int64_t points(const Shape& s) {
  std::int64_t n = 1;
  for (std::int64_t d : s) n *= d;
  return n;
}
double distance(const std::vector<Complex>& a, const std::vector<Complex>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

// The defining sum, over the last axis of one dimension.
std::vector<Complex> by_definition(const std::vector<Complex>& x) {
  const auto n = static_cast<double>(x.size());
  std::vector<Complex> out(x.size());
  for (std::size_t k = 0; k < x.size(); ++k)
    for (std::size_t j = 0; j < x.size(); ++j)
      out[k] += x[j] * std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(j * k % x.size()) / n);
  return out;
}

}  // namespace

TEST_CASE("fft: the defining sum, in one dimension") {
  if (!fft_available()) return;
  for (std::int64_t n : {1, 2, 3, 8, 17, 60, 101}) {
    const auto x = random_complex(n);
    std::vector<Complex> y(x.size());
    fft(Shape{n}, FftDirection::kForward, x.data(), y.data());
    CHECK(distance(y, by_definition(x)) < 1e-12 * static_cast<double>(n));  // the sum itself errs by n ulp
  }
}

TEST_CASE("fft: a plane wave is one peak, in one to three dimensions") {
  if (!fft_available()) return;
  const Shape s{4, 6, 5};
  std::vector<Complex> x(120), y(120);
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 6; ++j)
      for (int k = 0; k < 5; ++k)
        x[static_cast<std::size_t>((i * 6 + j) * 5 + k)] =
            std::polar(1.0, 2 * std::numbers::pi * (1.0 * i / 4 + 2.0 * j / 6 + 3.0 * k / 5));
  fft(s, FftDirection::kForward, x.data(), y.data());
  for (std::size_t i = 0; i < y.size(); ++i)
    CHECK(std::abs(y[i] - (i == (1 * 6 + 2) * 5 + 3 ? 120.0 : 0.0)) < 1e-12);
}

TEST_CASE("fft: round trips and Parseval, batches, in place") {
  if (!fft_available()) return;
  for (const Shape& s : {Shape{1}, Shape{64}, Shape{97}, Shape{12, 10}, Shape{4, 3, 9}, Shape{8, 8, 8}}) {
    constexpr std::int64_t kBatch = 3;
    const std::int64_t n = points(s);
    const auto x = random_complex(n * kBatch);
    std::vector<Complex> y(x.size()), z(x.size());
    fft(s, FftDirection::kForward, x.data(), y.data(), kBatch);
    fft(s, FftDirection::kInverse, y.data(), z.data(), kBatch);
    CHECK(distance(x, z) < 1e-14 * 10);
    double in = 0, out = 0;
    for (const Complex& c : x) in += std::norm(c);
    for (const Complex& c : y) out += std::norm(c) / static_cast<double>(n);
    CHECK(out == doctest::Approx(in).epsilon(1e-13));
    z = x;
    fft(s, FftDirection::kForward, z.data(), z.data(), kBatch);
    CHECK(distance(z, y) < 1e-12);
  }
}

TEST_CASE("fft: real data") {
  if (!fft_available()) return;
  for (const Shape& s : {Shape{1}, Shape{2}, Shape{9}, Shape{16}, Shape{6, 7}, Shape{3, 4, 10}}) {
    constexpr std::int64_t kBatch = 2;
    const std::int64_t n = points(s), m = n / s.back() * (s.back() / 2 + 1);
    const auto random = random_complex(n * kBatch);
    std::vector<double> x, back(static_cast<std::size_t>(n * kBatch));
    std::vector<Complex> wide, full(random.size()), half(static_cast<std::size_t>(m * kBatch));
    for (const Complex& c : random) {
      x.push_back(c.real());
      wide.emplace_back(c.real(), 0.0);
    }
    fft_real(s, x.data(), half.data(), kBatch);
    fft(s, FftDirection::kForward, wide.data(), full.data(), kBatch);
    const std::int64_t row = s.back() / 2 + 1;
    for (std::int64_t i = 0; i < m * kBatch; ++i)
      CHECK(std::abs(half[static_cast<std::size_t>(i)] -
                     full[static_cast<std::size_t>(i / row * s.back() + i % row)]) < 1e-13 * 100);
    const std::vector<Complex> kept = half;
    fft_real_inverse(s, half.data(), back.data(), kBatch);
    CHECK(half == kept);
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(back[i] == doctest::Approx(x[i]).epsilon(1e-12));
  }
}

TEST_CASE("fft: the same bits from several threads, at any address") {
  if (!fft_available()) return;
  const Shape s{30, 14};
  const auto x = random_complex(points(s));
  std::vector<std::vector<Complex>> results(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < results.size(); ++t)
    threads.emplace_back([&, t] {
      std::vector<Complex> shifted(x.size() + t);
      std::copy(x.begin(), x.end(), shifted.begin() + static_cast<std::ptrdiff_t>(t));
      results[t].resize(x.size());
      fft(s, FftDirection::kForward, shifted.data() + t, results[t].data());
    });
  for (std::thread& t : threads) t.join();
  for (const auto& r : results) CHECK(r == results[0]);
}

TEST_CASE("fft: bad shapes and missing wisdom") {
  if (!fft_available()) {
    CHECK_THROWS_AS(fft(Shape{4}, FftDirection::kForward, nullptr, nullptr), Error);
    return;
  }
  CHECK_THROWS_AS(fft(Shape{}, FftDirection::kForward, nullptr, nullptr), Error);
  CHECK_THROWS_AS(fft(Shape{0}, FftDirection::kForward, nullptr, nullptr), Error);
  CHECK_THROWS_AS(fft(Shape{2, 2, 2, 2}, FftDirection::kForward, nullptr, nullptr), Error);
  CHECK_FALSE(load_fft_wisdom("/nonexistent/wisdom"));
}
