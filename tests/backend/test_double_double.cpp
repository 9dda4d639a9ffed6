// Graphs in double-double (derive/double_double.hpp): against quad precision, with the same bits from generated code as from
// the evaluator.
#include <bit>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "derive/double_double.hpp"
#include "propagate/host_kernel.hpp"
#include "support/quad.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/evaluate.hpp"

using namespace tinyphys;

namespace {

constexpr std::int64_t kCount = 64;
constexpr std::size_t kSize = kCount;
const Dims kShape{kCount};

struct Pairs {
  std::vector<double> high, low;
};
Pairs random_pairs(std::mt19937_64& engine, double smallest, double largest) {
  std::uniform_real_distribution<double> decade(std::log(smallest), std::log(largest)), part(-1.0, 1.0);
  Pairs x;
  for (std::size_t i = 0; i < kSize; ++i) {
    x.high.push_back(std::exp(decade(engine)));
    x.low.push_back(x.high.back() * 0x1p-54 * part(engine));
  }
  return x;
}

// f of x and y, params 0 and 2 with their low words 1 and 3, and the table 4, as high and low words.
struct Made {
  UOp x = param(0, DType::kFloat64, kShape), y = param(2, DType::kFloat64, kShape);
  UOp table = param(4, DType::kFloat64, Dims{kAngleTable});
  UOp value, pair;
  explicit Made(const std::function<UOp(const UOp&, const UOp&)>& f) : value(f(x, y)) {
    DoubleDouble dd(table);
    dd.set(x, {x, param(1, DType::kFloat64, kShape)});
    dd.set(y, {y, param(3, DType::kFloat64, kShape)});
    pair = make(Op::LAMBDA, {dd.high(value), dd.low(value)}, {std::int64_t{5}});
  }
};

template <class T, class F> Value<T> array_of(const Dims& shape, F&& at) {
  Value<T> v;
  v.shape = shape;
  for (std::int64_t i = 0; i < shape[0]; ++i) v.real.push_back(at(static_cast<std::size_t>(i)));
  return v;
}

// The largest error of f over `size`, from generated code, whose words must be those of the evaluator.
double worst(const Made& f, const Pairs& x, const Pairs& y,
             const std::function<double(std::size_t, double)>& size) {
  const std::vector<double>* words[] = {&x.high, &x.low, &y.high, &y.low, &angle_table()};
  const auto exact = evaluate<Quad>(f.value, [&](const Node* n) -> std::optional<Value<Quad>> {
    if (n->op != Op::PARAM) return std::nullopt;
    const Pairs& p = n->arg(0) == 0 ? x : y;
    return array_of<Quad>(kShape, [&](std::size_t i) { return Quad(p.high[i]) + Quad(p.low[i]); });
  });
  const auto evaluated = evaluate<double>(f.pair->src(), [&](const Node* n) -> std::optional<Value<double>> {
    if (n->op != Op::PARAM) return std::nullopt;
    return array_of<double>(Dims(n->shape().begin(), n->shape().end()),
                            [&](std::size_t i) { return (*words[n->arg(0)])[i]; });
  });
  std::vector<double> high(kSize), low(kSize);
  void* const outputs[] = {high.data(), low.data()};
  std::vector<const void*> inputs;
  for (const auto* w : words) inputs.push_back(w->data());
  host_kernel(f.pair)->run(outputs, inputs, std::vector<std::int64_t>(5));
  double most = 0;
  bool same = true;
  for (std::size_t i = 0; i < kSize; ++i) {
    same = same &&
           std::bit_cast<std::uint64_t>(high[i]) == std::bit_cast<std::uint64_t>(evaluated[0].real[i]) &&
           std::bit_cast<std::uint64_t>(low[i]) == std::bit_cast<std::uint64_t>(evaluated[1].real[i]);
    const Quad off = Quad(high[i]) + Quad(low[i]) - exact.real[i];
    const double error =
        std::fabs(static_cast<double>(off)) / size(i, std::fabs(static_cast<double>(exact.real[i])));
    most = error <= most ? most : error;
  }
  CHECK(same);
  return most;
}

}  // namespace

TEST_CASE("double-double: the operations are right to their bounds, in generated code") {
  std::mt19937_64 engine(5);
  const auto relative = [](std::size_t, double result) { return result; };
  const auto absolute = [](std::size_t, double) { return 1.0; };
  for (int round = 0; round < 8; ++round) {
    CAPTURE(round);
    const Pairs x = random_pairs(engine, 1e-20, 1e20), y = random_pairs(engine, 1e-20, 1e20);
    const auto sum = [&](std::size_t i, double) { return x.high[i] + y.high[i]; };
    CHECK(worst(Made([](auto& a, auto& b) { return add(a, b); }), x, y, sum) <= 0x1p-104);
    CHECK(worst(Made([](auto& a, auto& b) { return sub(a, b); }), x, y, sum) <= 0x1p-104);
    CHECK(worst(Made([](auto& a, auto& b) { return mul(a, b); }), x, y, relative) <= 0x1p-102);
    CHECK(worst(Made([](auto& a, auto& b) { return div(a, b); }), x, y, relative) <= 0x1p-101);
    CHECK(worst(Made([](auto& a, auto&) { return unary(Op::SQRT, a); }), x, y, relative) <= 0x1p-102);
    CHECK(worst(Made([](auto& a, auto& b) {
                  return scaled(
                      neg(where(compare(Op::LT, iota(kCount), full(DType::kInt64, kShape, 20.0)), a, b)),
                      0.25);
                }),
                x, y, relative) == 0.0);
    CHECK(worst(Made([](auto& a, auto& b) { return unary(Op::ABS, sub(a, b)); }), x, y, sum) <= 0x1p-104);
    // Angles up to 2^40, whose own rounding is what the reduction leaves.
    const Pairs angle = random_pairs(engine, 1e-8, 1e12);
    const auto of_angle = [&](std::size_t i, double) { return std::fmax(1.0, angle.high[i]); };
    CHECK(worst(Made([](auto& a, auto&) { return unary(Op::SIN, a); }), angle, y, of_angle) <= 0x1p-100);
    CHECK(worst(Made([](auto& a, auto&) { return unary(Op::COS, a); }), angle, y, of_angle) <= 0x1p-100);
    Pairs sine = random_pairs(engine, 1e-12, 1.0);
    for (std::size_t i = 0; i < kSize; i += 2) {
      sine.high[i] = -sine.high[i];
      sine.low[i] = -sine.low[i];
    }
    sine.high[0] = 1.0;
    sine.low[0] = 0.0;
    sine.high[1] = sine.low[1] = 0.0;
    CHECK(worst(Made([](auto& a, auto&) { return unary(Op::ASIN, a); }), sine, y, absolute) <= 0x1p-100);
  }
}

TEST_CASE("double-double: what has no such form is refused, doubles by themselves stay as they are") {
  const UOp x = param(0, DType::kFloat64, kShape), low = param(1, DType::kFloat64, kShape);
  DoubleDouble dd;
  dd.set(x, {x, low});
  CHECK_THROWS_WITH_AS(dd.of(unary(Op::EXP, x)), doctest::Contains("EXP has no double-double form"), Error);
  CHECK_THROWS_WITH_AS(dd.of(unary(Op::SIN, x)), doctest::Contains("SIN has no double-double form"), Error);
  CHECK_THROWS_WITH_AS(dd.of(where(compare(Op::LT, x, low), x, low)), doctest::Contains("LT"), Error);
  const UOp y = param(2, DType::kFloat64, kShape);
  CHECK(dd.of(y).high == y);
  CHECK_FALSE(dd.of(y).low);
  // A sum of two doubles is exact in two words.
  CHECK(dd.of(add(y, y)).low);
}
