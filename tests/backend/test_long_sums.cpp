// Sums of many float32: relative error <= 1e-6, along every axis, on every device.
#include "backend/kernel_helpers.hpp"
#include "support/env.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

constexpr double kRelative = 1e-6;  // what is promised; one rounding of the result is 6e-8

void check_all(const Bytes& got, double expected) {
  double worst = 0;
  for (std::int64_t i = 0; i < got.size(); ++i)
    worst = std::max(worst, std::fabs(got.real(i) - expected) / std::fabs(expected));
  CHECK(worst <= kRelative);
}

const double kTenth = static_cast<double>(0.1f);

}  // namespace

TEST_CASE("a long sum of float32 keeps six digits") {
  for (const std::string_view name : {env::device(), std::string_view("interp")}) {
    CAPTURE(name);
    Device& d = device(name);
    const std::int64_t n = name != "interp" ? 10'000'000 : 1'000'000;
    const Bytes v = values(DType::kFloat32, {n}, {0.1});
    check_all(run(d, lambda({sum_all(tensor(0, {n}, DType::kFloat32))}, 1), {v})[0],
              static_cast<double>(n) * kTenth);
    // Many columns, few; rows; two axes with one between.
    struct Case {
      Dims shape, axes;
    };
    for (const Case& c : {Case{{n / 1000, 1000}, {0}}, Case{{n / 4, 4}, {0}}, Case{{3, n / 3}, {1}},
                          Case{{n / 500, 5, 100}, {0, 2}}, Case{{100, n / 300, 3}, {1}}}) {
      CAPTURE(shape_text(c.shape));
      const UOp x = tensor(0, c.shape, DType::kFloat32);
      const UOp y = sum(x, c.axes);
      check_all(run(d, lambda({y}, 1), {values(DType::kFloat32, c.shape, {0.1})})[0],
                kTenth * static_cast<double>(x->size() / y->size()));
    }
  }
}

TEST_CASE("a product of matrices and a running sum of float32 too") {
  for (const std::string_view name : {env::device(), std::string_view("interp")}) {
    CAPTURE(name);
    Device& d = device(name);
    const std::int64_t n = 300'000;
    const UOp a = tensor(0, {2, n}, DType::kFloat32), b = tensor(1, {n, 1}, DType::kFloat32);
    check_all(run(d, lambda({matmul(a, b)}, 2),
                  {values(DType::kFloat32, {2, n}, {0.1}), values(DType::kFloat32, {n, 1}, {1})})[0],
              kTenth * static_cast<double>(n));
    const std::int64_t m = name != "interp" ? 4000 : n;
    const auto sums = run(d, lambda({op(Op::CUMSUM, {tensor(0, {m}, DType::kFloat32)}, {0})}, 1),
                          {values(DType::kFloat32, {m}, {0.1})});
    double worst = 0;
    for (std::int64_t i = 0; i < m; ++i) {
      const double expected = kTenth * static_cast<double>(i + 1);
      worst = std::max(worst, std::fabs(sums[0].real(i) - expected) / expected);
    }
    CHECK(worst <= kRelative);
  }
}

TEST_CASE("terms of both signs: the error is small against the sum of their sizes") {
  std::mt19937_64 rng(21);
  const std::int64_t n = 2'000'000;
  const Bytes v = random_values(rng, DType::kFloat32, {n}, -1, 1);
  double exact = 0, size = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    exact += v.real(i);
    size += std::fabs(v.real(i));
  }
  for (const std::string_view name : {env::device(), std::string_view("interp")})
    CHECK(std::fabs(run(device(name), lambda({sum_all(tensor(0, {n}, DType::kFloat32))}, 1), {v})[0].real(0) -
                    exact) <= 1e-7 * std::fabs(exact) + 1e-12 * size);
}

TEST_CASE("a short sum of float32 is taken in float32, a longer one rounds once") {
  const std::vector<double> terms{1, 0x1p-24, 0x1p-24, 0x1p-24, 0x1p-24, 0x1p-24, 0x1p-24, 0x1p-24, 0x1p-24};
  for (const std::string_view name : {env::device(), std::string_view("interp")})
    for (const std::int64_t n : {8, 9}) {
      const Bytes v = values(DType::kFloat32, {3, n}, std::vector<double>(terms.begin(), terms.begin() + n));
      const double got =
          run(device(name), lambda({sum(tensor(0, {3, n}, DType::kFloat32), Dims{1})}, 1), {v})[0].real(2);
      CHECK(std::fabs(got - (1 + static_cast<double>(n - 1) * 0x1p-24)) <= (n == 9 ? 0 : 0x1p-21));
    }
}

TEST_CASE("the bits of a long sum do not depend on the number of threads") {
  std::mt19937_64 rng(22);
  for (const DType d : {DType::kFloat32, DType::kFloat64})
    for (const Dims& axes : {Dims{0, 1}, Dims{0}, Dims{1}}) {
      const Dims shape{700, 900};
      const Bytes v = random_values(rng, d, shape);
      const UOp kernel = lambda({sum(tensor(0, shape, d), axes)}, 1);
      const auto at = [&](const char* threads) {
        const env::ScopedOverride override("TINYPHYS_THREADS", threads);
        return run(tested_device(), kernel, {v})[0].data;
      };
      const auto one = at("1");
      CHECK(at("2") == one);
      CHECK(at("3") == one);
    }
}
