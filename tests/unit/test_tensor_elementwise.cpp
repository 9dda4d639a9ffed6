#include <functional>
#include <limits>

#include "test_tensor_helpers.hpp"

namespace tinyphys::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("tensor: math functions follow <cmath>") {
  struct Row {
    const char* name;
    Tensor (*ours)(const Arg&);
    double (*reference)(double);
  };
  const Row rows[] = {{"sqrt", &sqrt, [](double v) { return std::sqrt(v); }},
                      {"rsqrt", &rsqrt, [](double v) { return 1 / std::sqrt(v); }},
                      {"exp", &exp, [](double v) { return std::exp(v); }},
                      {"expm1", &expm1, [](double v) { return std::expm1(v); }},
                      {"log", &log, [](double v) { return std::log(v); }},
                      {"log1p", &log1p, [](double v) { return std::log1p(v); }},
                      {"sin", &sin, [](double v) { return std::sin(v); }},
                      {"cos", &cos, [](double v) { return std::cos(v); }},
                      {"tan", &tan, [](double v) { return std::tan(v); }},
                      {"asin", &asin, [](double v) { return std::asin(v); }},
                      {"acos", &acos, [](double v) { return std::acos(v); }},
                      {"atan", &atan, [](double v) { return std::atan(v); }},
                      {"sinh", &sinh, [](double v) { return std::sinh(v); }},
                      {"cosh", &cosh, [](double v) { return std::cosh(v); }},
                      {"tanh", &tanh, [](double v) { return std::tanh(v); }},
                      {"erf", &erf, [](double v) { return std::erf(v); }},
                      {"floor", &floor, [](double v) { return std::floor(v); }},
                      {"ceil", &ceil, [](double v) { return std::ceil(v); }},
                      {"abs", &abs, [](double v) { return std::abs(v); }},
                      {"square", &square, [](double v) { return v * v; }},
                      {"-", [](const Arg& x) { return -x; }, [](double v) { return -v; }},
                      {"sign", &sign, [](double v) { return v > 0   ? 1.0
                                                            : v < 0 ? -1.0
                                                                    : v; }}};
  const Doubles in{-2.5, -1, -0.3, 0, 0.2, 0.9, 1, 3.7, kInf, -kInf, kNan};
  for (const Row& row : rows) {
    Doubles want, want32;
    for (double v : in) want.push_back(row.reference(v));
    CHECK_MESSAGE(close(doubles(row.ours(Tensor::from(in))), want), row.name);
    // Integers are taken as float64, but for the functions that keep them.
    const Tensor of_int = row.ours(Tensor::from({1, 0}));
    const std::string n = row.name;
    const bool keeps = n == "floor" || n == "ceil" || n == "abs" || n == "square" || n == "-" || n == "sign";
    CHECK_MESSAGE(of_int.dtype() == (keeps ? DType::kInt64 : DType::kFloat64), row.name);
    CHECK_MESSAGE(close(doubles(of_int.astype(DType::kFloat64)), {row.reference(1), row.reference(0) + 0.0}),
                  row.name);
    CHECK_MESSAGE(row.ours(Tensor::from({0.5f})).dtype() == DType::kFloat32, row.name);
  }
}

TEST_CASE("tensor: two operands") {
  const Doubles a{-7, 7, -7, 7, 0, kInf, kNan, 2.5}, b{3, -3, -3, 3, 2, 2, 1, kNan};
  struct Row {
    const char* name;
    std::function<Tensor(const Tensor&, const Tensor&)> ours;
    std::function<double(double, double)> reference;
  };
  auto nan_or = [](double x, double y, double v) { return std::isnan(x) || std::isnan(y) ? kNan : v; };
  const Row rows[] = {
      {"+", [](const Tensor& x, const Tensor& y) { return x + y; }, std::plus<>()},
      {"-", [](const Tensor& x, const Tensor& y) { return x - y; }, std::minus<>()},
      {"*", [](const Tensor& x, const Tensor& y) { return x * y; }, std::multiplies<>()},
      {"/", [](const Tensor& x, const Tensor& y) { return x / y; }, std::divides<>()},
      {"%", [](const Tensor& x, const Tensor& y) { return x % y; },
       [](double x, double y) {
         const double r = std::fmod(x, y);
         return r != 0 && (r < 0) != (y < 0) ? r + y : r;
       }},
      {"pow", [](const Tensor& x, const Tensor& y) { return pow(x, y); },
       [](double x, double y) { return std::pow(x, y); }},
      {"atan2", [](const Tensor& x, const Tensor& y) { return atan2(x, y); },
       [](double x, double y) { return std::atan2(x, y); }},
      {"maximum", [](const Tensor& x, const Tensor& y) { return maximum(x, y); },
       [&](double x, double y) { return nan_or(x, y, std::max(x, y)); }},
      {"minimum", [](const Tensor& x, const Tensor& y) { return minimum(x, y); },
       [&](double x, double y) { return nan_or(x, y, std::min(x, y)); }},
  };
  for (const Row& row : rows) {
    Doubles want;
    for (std::size_t i = 0; i < a.size(); ++i) want.push_back(row.reference(a[i], b[i]));
    CHECK_MESSAGE(close(doubles(row.ours(Tensor::from(a), Tensor::from(b))), want), row.name);
  }
  CHECK(doubles(fma(Tensor::from({0.1}), 10.0, -1.0)) == Doubles{std::fma(0.1, 10.0, -1.0)});
  CHECK(doubles(1.0 - Tensor::from({3.0})) == Doubles{-2});
  CHECK(doubles(1 / Tensor::from({4, 0})) == Doubles{0.25, kInf});
  CHECK(ints(Tensor::from({-7, 7, 5}) % Tensor::from({3, -3, 0})) == Ints{2, -2, 0});
}

TEST_CASE("tensor: comparisons and logic") {
  const Tensor x = Tensor::from({1.0, 2.0, kNan}), y = Tensor::from({2.0, 2.0, kNan});
  CHECK(bools(x == y) == Bools{false, true, false});
  CHECK(bools(x != y) == Bools{true, false, true});
  CHECK(bools(x < y) == Bools{true, false, false});
  CHECK(bools(x <= y) == Bools{true, true, false});
  CHECK(bools(x > y) == Bools{false, false, false});
  CHECK(bools(x >= y) == Bools{false, true, false});
  CHECK(bools(1.5 < x) == Bools{false, true, false});
  CHECK(bools(Tensor::from({1, 2}) == 2) == Bools{false, true});
  CHECK(bools(Tensor::from({1, 2}) > 1.5) == Bools{false, true});
  const Tensor t = Tensor::from({true, true, false, false}), u = Tensor::from({true, false, true, false});
  CHECK(bools(t & u) == Bools{true, false, false, false});
  CHECK(bools(t | u) == Bools{true, true, true, false});
  CHECK(bools(!t) == Bools{false, false, true, true});
  CHECK(bools(logical_and(t, true)) == Bools{true, true, false, false});
  CHECK(bools(logical_or(t, u)) == Bools{true, true, true, false});
  CHECK(bools(logical_not(u)) == Bools{false, true, false, true});
  CHECK(bools(t + u) == Bools{true, true, true, false});
  CHECK(bools(t * u) == Bools{true, false, false, false});
  CHECK(bools(maximum(t, u)) == Bools{true, true, true, false});
  CHECK(bools(t == u) == Bools{true, false, false, true});
  CHECK(doubles(where(x > 1.0, x, -1.0)) == Doubles{-1, 2, -1});
  CHECK(doubles(where(Tensor::from({{true}, {false}}), Tensor::from({1.0, 2.0}), 0)) == Doubles{1, 2, 0, 0});
  CHECK(ints(where(t, 1, 2)) == Ints{1, 1, 2, 2});
}

TEST_CASE("tensor: powers") {
  const Tensor x = Tensor::from({-2.0, 0.5, 3.0});
  CHECK(uop(pow(x, 3))->op == Op::POWI);
  CHECK(uop(pow(x, -2.0))->op == Op::POWI);
  CHECK(uop(pow(x, 0.5))->op == Op::POW);
  CHECK(uop(pow(x, 65))->op == Op::POW);
  CHECK(uop(pow(x, 1)) == uop(x));
  CHECK(doubles(pow(x, 3)) == Doubles{-8, 0.125, 27});
  CHECK(doubles(pow(x, -2)) == Doubles{0.25, 4, 1.0 / 9});
  CHECK(doubles(pow(Tensor::from({kNan, 0.0}), 0)) == Doubles{1, 1});
  CHECK(close(doubles(pow(x, 0.5)), {kNan, std::sqrt(0.5), std::sqrt(3.0)},
              1e-15));  // 4 ulp: a vector library's
  CHECK(ints(pow(Tensor::from({-3, 2}), 5)) == Ints{-243, 32});
  CHECK(ints(pow(Tensor::from({-3, 2}), 0)) == Ints{1, 1});
  CHECK(ints(pow(Tensor::from({2, 3}), Tensor::from({10, 2}))) == Ints{1024, 9});
  CHECK(ints(pow(2, Tensor::from({10, 2}))) == Ints{1024, 4});
  CHECK(doubles(pow(2.0, Tensor::from({10, 2}))) == Doubles{1024, 4});
  CHECK(pow(Tensor::from({2}), 2.0).dtype() == DType::kFloat64);
}

TEST_CASE("tensor: promotion follows NumPy") {
  const DType order[] = {DType::kBool, DType::kInt32, DType::kInt64, DType::kFloat32, DType::kFloat64};
  const DType b = order[0], i4 = order[1], i8 = order[2], f4 = order[3], f8 = order[4];
  const DType table[5][5] = {{b, i4, i8, f4, f8},
                             {i4, i4, i8, f8, f8},
                             {i8, i8, i8, f8, f8},
                             {f4, f8, f8, f4, f8},
                             {f8, f8, f8, f8, f8}};
  auto of = [](DType d) { return Tensor::ones({2}, d); };
  for (int i = 0; i < 5; ++i)
    for (int k = 0; k < 5; ++k) {
      CAPTURE(name(order[i]));
      CAPTURE(name(order[k]));
      const Tensor x = of(order[i]), y = of(order[k]);
      CHECK((x * y).dtype() == table[i][k]);
      CHECK((x < y).dtype() == b);
      CHECK((x / y).dtype() == (is_float(table[i][k]) ? table[i][k] : f8));
      CHECK(where(Tensor::full({2}, true), x, y).dtype() == table[i][k]);
      CHECK(cat({x, y}).dtype() == table[i][k]);
    }
  // C++ numbers raise by kind only.
  const DType with_bool[] = {b, i4, i8, f4, f8}, with_int[] = {i8, i4, i8, f4, f8},
              with_real[] = {f8, f8, f8, f4, f8};
  for (int i = 0; i < 5; ++i) {
    CAPTURE(name(order[i]));
    CHECK((of(order[i]) + true).dtype() == with_bool[i]);
    CHECK((of(order[i]) + 1).dtype() == with_int[i]);
    CHECK((1u + of(order[i])).dtype() == with_int[i]);
    CHECK((of(order[i]) * 0.5).dtype() == with_real[i]);
    CHECK((0.5f * of(order[i])).dtype() == with_real[i]);
  }
  CHECK((Tensor::from({3}) / 2).item<double>() == 1.5);
  CHECK((Tensor::from({0.1f}) * 0.1).item<float>() == 0.1f * 0.1f);
  // A 0-d tensor is a tensor, not a number.
  CHECK((Tensor::from({1.0f}) * Tensor::full({}, 2.0)).dtype() == f8);
}

TEST_CASE("tensor: astype") {
  const Tensor x = Tensor::from({-1.7, 1.7, kNan, kInf, 0.0});
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  CHECK(ints(x.astype(DType::kInt64)) == Ints{-1, 1, 0, kMax, 0});
  CHECK(bools(x.astype(DType::kBool)) == Bools{true, true, true, true, false});
  CHECK(Tensor::from({0.1}).astype(DType::kFloat32).item<float>() == 0.1f);
  CHECK(Tensor::from({true}).astype(DType::kFloat64).item<double>() == 1);
  CHECK(Tensor::from({300}).astype(DType::kInt32).item<int>() == 300);
}

TEST_CASE("tensor: broadcasting") {
  auto shape = [](const Shape& a, const Shape& b) { return (Tensor::ones(a) + Tensor::ones(b)).shape(); };
  CHECK(shape({3}, {}) == Shape{3});
  CHECK(shape({}, {}) == Shape{});
  CHECK(shape({2, 1}, {3}) == Shape{2, 3});
  CHECK(shape({1}, {0}) == Shape{0});
  CHECK(shape({0, 1}, {1, 4}) == Shape{0, 4});
  CHECK(shape({4, 1, 3}, {2, 1}) == Shape{4, 2, 3});
  const Tensor sum = Tensor::from({{1.0}, {2.0}}) + Tensor::from({10.0, 20.0, 30.0});
  CHECK(doubles(sum) == Doubles{11, 21, 31, 12, 22, 32});
  CHECK((Tensor::zeros({0}) * 2.0).to_vector<double>().empty());
  CHECK(doubles(fma(Tensor::from({{2.0}, {3.0}}), Tensor::from({1.0, 10.0}), 1)) == Doubles{3, 21, 4, 31});
}

TEST_CASE("tensor: compound assignment") {
  Tensor x = Tensor::from({1.0, 2.0});
  const Tensor before = x;
  x += 1;
  x *= Tensor::from({2.0, 3.0});
  x -= 1.0;
  x /= 2;
  CHECK(doubles(x) == Doubles{1.5, 4});
  CHECK(doubles(before) == Doubles{1, 2});
  Tensor f = Tensor::from({1.0f});
  f += Tensor::from({0.25});
  CHECK(f.dtype() == DType::kFloat32);
  CHECK(f.item<float>() == 1.25f);
  Tensor i = Tensor::from({1});
  i += i;
  CHECK(i.item<std::int64_t>() == 2);
}

TEST_CASE("tensor: allclose") {
  const Tensor x = Tensor::from({1.0, kInf, -2.0});
  CHECK(allclose(x, x));
  CHECK(allclose(x, x * (1 + 1e-9)));
  CHECK(!allclose(x, x * 1.1));
  CHECK(!allclose(x, -x));
  CHECK(!allclose(Tensor::from({kInf}), 1.0));
  CHECK(!allclose(Tensor::from({kNan}), Tensor::from({kNan})));
  CHECK(allclose(Tensor::from({kNan}), Tensor::from({kNan}), 0, 0, true));
  CHECK(allclose(Tensor::ones({2, 3}), 1));
  CHECK(allclose(Tensor::zeros({0}), Tensor::ones({1})));
  CHECK(allclose(Tensor::from({1.0}), Tensor::from({1.05}), 0, 0.1));
}

TEST_CASE("numbers beside tensors: written again and again, in other shapes, dtypes and signs of 0") {
  // What is remembered of a number must be that number, of this shape and dtype.
  for (int round = 0; round < 3; ++round) {
    const Tensor a = Tensor::from({1.0, -2.0}), b = Tensor::from({{1.0, -2.0}, {3.0, 0.5}}), s = Tensor(4.0),
                 f = a.astype(DType::kFloat32);
    CHECK(doubles(a * 0.1) == Doubles{0.1, -0.2});
    CHECK(doubles(b * 0.1) == Doubles{0.1, -0.2, 3.0 * 0.1, 0.05});
    CHECK(doubles(s * 0.1) == Doubles{0.4});
    CHECK((f * 0.1).dtype() == DType::kFloat32);
    CHECK((f * 0.1).to_vector<float>() == std::vector<float>{0.1f, -2.0f * 0.1f});
    CHECK(std::signbit(doubles(a * 0.0)[1]));
    CHECK_FALSE(std::signbit(doubles(a * -0.0)[1]));
    CHECK(std::isnan(doubles(a + std::nan(""))[0]));
    CHECK(doubles(1 - a) == Doubles{0.0, 3.0});
    CHECK(doubles(a - 1) == Doubles{0.0, -3.0});
    CHECK(doubles(2.0 / a) == Doubles{2.0, -1.0});
    CHECK(doubles(Tensor::zeros({0}) * 0.1).empty());
    CHECK((a * 0.1).shape() == Shape{2});
  }
  CHECK(message([] { (void)(Tensor() * 2.0); }).find("empty") != std::string::npos);
}

}  // namespace tinyphys::testing
