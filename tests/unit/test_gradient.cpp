#include "test_gradient.hpp"

#include <array>
#include <cstdlib>
#include <string>

#include <doctest/doctest.h>

#include "derive/gradient.hpp"
#include "derive/jvp.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

// A function of float inputs, and points at which it is smooth.
struct Case {
  std::string name;
  std::vector<Dims> shapes;
  double low, high;
  std::function<UOp(const std::vector<UOp>&)> f;
};

std::int64_t elements(const Dims& d) {
  std::int64_t n = 1;
  for (std::int64_t e : d) n *= e;
  return n;
}

UOp index_of(std::vector<std::int64_t> values, const Dims& shape) {
  UOp v;
  for (std::int64_t i : values) {
    const UOp one = reshape(constant_int(i), Dims{1});
    v = v ? cat(std::vector<UOp>{v, one}, 0) : one;
  }
  return reshape(v, shape);
}

std::vector<Case> all_ops() {
  using Args = const std::vector<UOp>&;
  std::vector<Case> cases;
  auto one = [&](Op op, double low, double high) {
    cases.push_back({std::string(name(op)), {{2, 3}}, low, high, [op](Args x) { return make(op, {x[0]}); }});
  };
  one(Op::NEG, -1, 1);
  one(Op::ABS, 0.2, 1);
  one(Op::ABS, -1, -0.2);
  one(Op::SQRT, 0.3, 2);
  one(Op::EXP, -1, 1);
  one(Op::EXPM1, -1, 1);
  one(Op::LOG, 0.3, 2);
  one(Op::LOG1P, -0.5, 2);
  one(Op::SIN, -2, 2);
  one(Op::COS, -2, 2);
  one(Op::TAN, -1, 1);
  one(Op::ASIN, -0.8, 0.8);
  one(Op::ACOS, -0.8, 0.8);
  one(Op::ATAN, -2, 2);
  one(Op::SINH, -2, 2);
  one(Op::COSH, -2, 2);
  one(Op::TANH, -2, 2);
  one(Op::ERF, -1, 1);
  one(Op::SIGN, 0.2, 1);
  one(Op::FLOOR, 0.2, 0.8);
  one(Op::CEIL, 0.2, 0.8);
  for (std::int64_t k : {-64, -3, -1, 0, 1, 2, 3, 7})
    cases.push_back(
        {"POWI " + std::to_string(k), {{4}}, 0.9, 1.2, [k](Args x) { return make(Op::POWI, {x[0]}, {k}); }});
  auto two = [&](Op op, double low, double high) {
    cases.push_back({std::string(name(op)), {{2, 3}, {2, 3}}, low, high, [op](Args x) {
                       return make(op, {x[0], x[1]});
                     }});
    cases.push_back({std::string(name(op)) + " of one value", {{3}}, low, high, [op](Args x) {
                       return make(op, {unary(Op::SIN, x[0]), offset(x[0], 2)});
                     }});
  };
  two(Op::ADD, -1, 1);
  two(Op::SUB, -1, 1);
  two(Op::MUL, -1, 1);
  two(Op::DIV, 0.5, 2);
  two(Op::POW, 0.5, 2);
  two(Op::ATAN2, 0.5, 2);
  two(Op::MAX, -1, 1);
  two(Op::MIN, -1, 1);
  cases.push_back({"MOD", {{3}, {3}}, 0.0, 0.2, [](Args x) {
                     return make(Op::MOD, {offset(x[0], 7.5), offset(x[1], 2.0)});
                   }});
  cases.push_back({"FMA", {{3}, {3}, {3}}, -1, 1, [](Args x) { return make(Op::FMA, {x[0], x[1], x[2]}); }});
  cases.push_back({"WHERE", {{6}, {6}}, 0.5, 2, [](Args x) {
                     const UOp even =
                         compare(Op::EQ, make(Op::MOD, {iota(6), full(DType::kInt64, Dims{6}, 2)}),
                                 full(DType::kInt64, Dims{6}, 0));
                     return where(even, x[0], mul(x[1], x[1]));
                   }});
  cases.push_back({"CAST", {{3}}, -1, 1, [](Args x) {
                     return mul(x[0], cast(cast(x[0], DType::kInt64), DType::kFloat64));
                   }});
  cases.push_back({"RESHAPE PERMUTE", {{2, 3, 2}}, -1, 1, [](Args x) {
                     return permute(reshape(permute(x[0], Dims{2, 0, 1}), Dims{4, 3}), Dims{1, 0});
                   }});
  cases.push_back({"EXPAND", {{2, 1, 3}}, -1, 1, [](Args x) {
                     return broadcast_to(x[0], Dims{4, 2, 5, 3});
                   }});
  const std::vector<std::array<std::int64_t, 3>> slices{{0, 7, 1},   {2, 5, 1},  {0, 7, 2},   {1, 6, 3},
                                                        {6, -1, -1}, {5, 0, -2}, {6, -1, -3}, {3, 4, 5},
                                                        {3, 3, 1},   {4, 3, -7}};
  for (const auto& s : slices)
    cases.push_back({"SLICE " + shape_text(s), {{7, 4}}, -1, 1, [s](Args x) {
                       return make(Op::SLICE, {x[0]}, {s[0], s[1], s[2], 3, -1, -2});
                     }});
  cases.push_back({"PAD", {{2, 3}}, -1, 1, [](Args x) {
                     return make(Op::PAD, {x[0]}, {bits(5.0), 1, 0, 2, 3});
                   }});
  cases.push_back({"ROLL", {{2, 5}}, -1, 1, [](Args x) { return make(Op::ROLL, {x[0]}, {1, 2}); }});
  cases.push_back({"ROLL by 0", {{2, 5}}, -1, 1, [](Args x) { return make(Op::ROLL, {x[0]}, {1, 0}); }});
  cases.push_back({"CAT", {{2, 3}, {2, 2}}, -1, 1, [](Args x) {
                     return cat(std::vector<UOp>{x[0], x[1], mul(x[0], x[0])}, 1);
                   }});
  for (Reduction r : {Reduction::kSum, Reduction::kProd, Reduction::kMax, Reduction::kMin}) {
    cases.push_back({"REDUCE " + std::string(name(r)), {{2, 5, 3}}, 0.5, 1.5, [r](Args x) {
                       return reduce(r, x[0], Dims{0, 2});
                     }});
    cases.push_back({"REDUCE all " + std::string(name(r)), {{7}}, -1.5, 1.5, [r](Args x) {
                       return reduce(r, x[0], Dims{0});
                     }});
  }
  // The builders of its derivative look through a reshape.
  cases.push_back({"REDUCE prod of a reshape", {{2, 3}}, 0.5, 1.5, [](Args x) {
                     return reduce(Reduction::kProd, reshape(x[0], Dims{3, 2}), Dims{0, 1});
                   }});
  cases.push_back({"CUMSUM", {{3, 4}}, -1, 1, [](Args x) { return make(Op::CUMSUM, {x[0]}, {0}); }});
  cases.push_back({"MATMUL", {{3, 2}, {2, 4}}, -1, 1, [](Args x) { return matmul(x[0], x[1]); }});
  cases.push_back(
      {"MATMUL batched", {{2, 3, 2}, {2, 2, 2}}, -1, 1, [](Args x) { return matmul(x[0], x[1]); }});
  cases.push_back({"FFT", {{3, 4, 2}}, -1, 1, [](Args x) { return fft(x[0], kForwardFft, Dims{1}); }});
  cases.push_back({"FFT inverse", {{3, 4, 2}}, -1, 1, [](Args x) {
                     return fft(x[0], kInverseFft, Dims{0, 1});
                   }});
  for (std::int64_t n : {4, 5}) {
    const std::string length = " of length " + std::to_string(n);
    cases.push_back({"RFFT" + length, {{3, n, 2}}, -1, 1, [](Args x) { return rfft(x[0], Dims{0, 1}); }});
    cases.push_back({"IRFFT" + length, {{3, n / 2 + 1, 2}}, -1, 1, [n](Args x) {
                       return irfft(x[0], n, Dims{0, 1});
                     }});
  }
  cases.push_back({"GATHER", {{2, 4, 3}}, -1, 1, [](Args x) {
                     return make(Op::GATHER, {x[0], index_of({0, 3, 3, -2}, {2, 2})}, {1});
                   }});
  cases.push_back({"SCATTER_ADD", {{2, 4}, {2, 3}}, -1, 1, [](Args x) {
                     return make(Op::SCATTER_ADD, {x[0], index_of({1, -1, 1}, {3}), x[1]}, {1});
                   }});
  return cases;
}

// Inputs at random points; the inputs of max and min get distinct values.
std::vector<UOp> inputs_for(const Case& c, Bench& bench, std::mt19937_64& rng) {
  std::vector<UOp> x;
  for (const Dims& shape : c.shapes)
    x.push_back(
        bench.input(shape, random_row(rng, static_cast<std::size_t>(elements(shape)), c.low, c.high)));
  return x;
}

// Central difference of w . f along v, fourth order.
double slope(Bench& bench, const UOp& f, const std::vector<UOp>& x, const std::vector<Row>& v, const Row& w) {
  std::vector<Row> at;
  for (const UOp& u : x) at.push_back(bench.at(u));
  constexpr double h = 1e-3;
  auto value = [&](double s) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      Row moved = at[i];
      for (std::size_t k = 0; k < moved.size(); ++k) moved[k] += s * v[i][k];
      bench.set(x[i], moved);
    }
    return inner(w, bench.run(f));
  };
  const double d = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
  for (std::size_t i = 0; i < x.size(); ++i) bench.set(x[i], at[i]);
  return d;
}

std::uint64_t seed() {
  const char* s = std::getenv("TINYPHYS_TEST_SEED");
  return s ? std::strtoull(s, nullptr, 10) : 20240611;
}

// Forward and reverse mode against each other (duality, to rounding) and against differences (1e-8: h^4 =
// 1e-12 times fifth derivatives, and rounding over h = 1e-13).
void check_derivatives(Bench& bench, const UOp& f, const std::vector<UOp>& x, std::mt19937_64& rng,
                       double tol = 1e-8) {
  std::vector<UOp> v, wrt = x;
  std::vector<Row> directions;
  for (const UOp& u : x) {
    directions.push_back(random_row(rng, static_cast<std::size_t>(u->size()), -0.1, 0.1));
    v.push_back(bench.input(shape_of(u.get()), directions.back()));
  }
  const Row weights = random_row(rng, static_cast<std::size_t>(f->size()), -1, 1);
  const UOp w = bench.input(shape_of(f.get()), weights);
  const UOp moved = jvp(std::span(&f, 1), wrt, v).front();
  const std::vector<UOp> pulled = vjp(std::span(&f, 1), std::span(&w, 1), wrt);
  const double forward = moved ? inner(weights, bench.run(moved)) : 0;
  double reverse = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    if (pulled[i]) {
      REQUIRE(same_shape(pulled[i].get(), x[i].get()));
      reverse += inner(directions[i], bench.run(pulled[i]));
    }
  if (moved) REQUIRE(same_shape(moved.get(), f.get()));
  const double expected = slope(bench, f, x, directions, weights);
  CHECK(forward == doctest::Approx(reverse).epsilon(1e-12).scale(1));
  CHECK(reverse == doctest::Approx(expected).epsilon(tol).scale(1));
}

}  // namespace

TEST_CASE("first derivatives of every op") {
  std::mt19937_64 rng(seed());
  for (const Case& c : all_ops()) {
    CAPTURE(c.name);
    Bench bench;
    const std::vector<UOp> x = inputs_for(c, bench, rng);
    check_derivatives(bench, c.f(x), x, rng);
  }
}

TEST_CASE("second derivatives of every op") {
  std::mt19937_64 rng(seed() + 1);
  for (const Case& c : all_ops()) {
    CAPTURE(c.name);
    Bench bench;
    const std::vector<UOp> x = inputs_for(c, bench, rng);
    const UOp f = c.f(x);
    const UOp w = bench.input(shape_of(f.get()), random_row(rng, static_cast<std::size_t>(f->size()), -1, 1));
    const UOp loss = dot(w, mul(f, f));
    const std::vector<UOp> g = gradient(loss, x);
    UOp second;
    for (const UOp& gi : g) {
      const UOp r =
          bench.input(shape_of(gi.get()), random_row(rng, static_cast<std::size_t>(gi->size()), -1, 1));
      second = second ? add(second, dot(r, gi)) : dot(r, gi);
    }
    check_derivatives(bench, second, x, rng, 1e-6);
  }
}

TEST_CASE("closed forms") {
  Bench bench;
  const UOp x = bench.input({3}, {0.5, -1.25, 2.0});
  SUBCASE("sum of x sin x") {
    const UOp g = gradient(dot(x, unary(Op::SIN, x)), std::span(&x, 1)).front();
    const Row v = bench.run(g);
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(v[i] == doctest::Approx(std::sin(bench.at(x)[i]) + bench.at(x)[i] * std::cos(bench.at(x)[i]))
                        .epsilon(1e-15));
  }
  SUBCASE("a quadratic form") {
    const UOp a = bench.input({3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 10});
    const UOp column = reshape(x, Dims{3, 1});
    const UOp form = dot(column, matmul(a, column));
    const Row v = bench.run(gradient(form, std::span(&x, 1)).front());
    const Row& m = bench.at(a);
    for (std::size_t i = 0; i < 3; ++i) {
      double expected = 0;
      for (std::size_t j = 0; j < 3; ++j) expected += (m[3 * i + j] + m[3 * j + i]) * bench.at(x)[j];
      CHECK(v[i] == doctest::Approx(expected).epsilon(1e-14));
    }
  }
  SUBCASE("analytic functions by a complex step") {
    const auto f = [](auto z) { return exp(sin(z)) / sqrt(z * z + 2.0) - tanh(z) * log(z + 4.0); };
    const UOp z2 = offset(powi(x, 2), 2.0);
    const UOp graph = sub(div(unary(Op::EXP, unary(Op::SIN, x)), unary(Op::SQRT, z2)),
                          mul(unary(Op::TANH, x), unary(Op::LOG, offset(x, 4.0))));
    const Row v = bench.run(gradient(sum_all(graph), std::span(&x, 1)).front());
    for (std::size_t i = 0; i < 3; ++i) {
      constexpr double h = 1e-100;  // Im f(x + ih) / h = f'(x) to rounding
      CHECK(v[i] == doctest::Approx(f(std::complex<double>(bench.at(x)[i], h)).imag() / h).epsilon(1e-14));
    }
  }
}

TEST_CASE("points where a derivative is a convention") {
  Bench bench;
  const double inf = std::numeric_limits<double>::infinity();
  const UOp x = bench.input({1}, {0.0}), y = bench.input({1}, {0.0});
  const std::vector<UOp> xy{x, y};
  auto at = [&](const UOp& f, std::size_t i) { return bench.run(gradient(sum_all(f), xy)[i])[0]; };
  CHECK(at(unary(Op::ABS, x), 0) == 0);
  CHECK(at(unary(Op::SQRT, x), 0) == inf);
  CHECK(at(make(Op::MAX, {x, y}), 0) == 0.5);
  CHECK(at(make(Op::MAX, {x, y}), 1) == 0.5);
  CHECK(at(make(Op::MIN, {x, y}), 1) == 0.5);
  CHECK(at(make(Op::POW, {x, full_like(x, 2.0)}), 0) == 0);
  CHECK(at(make(Op::POW, {x, y}), 0) == 0);  // x^0 is 1 everywhere
  CHECK(at(powi(x, 2), 0) == 0);
  // The branch not taken is not finite, and stays out.
  const UOp positive = compare(Op::LT, zeros_like(x), x);
  CHECK(at(where(positive, unary(Op::LOG, y), x), 0) == 1);
  const UOp tied = bench.input({4}, {3, 1, 3, 2});
  const UOp top = reduce(Reduction::kMax, tied, Dims{0});
  CHECK(bench.run(gradient(top, std::span(&tied, 1)).front()) == Row{0.5, 0, 0.5, 0});
  // Products with zero factors.
  const UOp factors = bench.input({3}, {2, 0, 5});
  const UOp product = reduce(Reduction::kProd, factors, Dims{0});
  CHECK(bench.run(gradient(product, std::span(&factors, 1)).front()) == Row{0, 10, 0});
  bench.set(factors, {0, 0, 5});
  CHECK(bench.run(gradient(product, std::span(&factors, 1)).front()) == Row{0, 0, 0});
}

TEST_CASE("what is asked for and nothing else") {
  Bench bench;
  const UOp x = bench.input({2}, {1, 2}), y = bench.input({2}, {3, 4}), z = bench.input({2}, {5, 6});
  const UOp mid = mul(x, y);
  const UOp loss = dot(mid, x);
  SUBCASE("an intermediate value and what it depends on") {
    const std::vector<UOp> wrt{mid, x, z};
    const auto g = bench.run(gradient(loss, wrt));
    CHECK(g[0] == Row{1, 2});
    CHECK(g[1] == Row{6, 16});  // 2 x y
    CHECK(g[2] == Row{0, 0});
  }
  SUBCASE("no path is null") {
    const UOp one = ones_like(loss);
    CHECK_FALSE(vjp(std::span(&loss, 1), std::span(&one, 1), std::span(&z, 1)).front());
    CHECK_FALSE(jvp(std::span(&loss, 1), std::span(&z, 1), std::span(&z, 1)).front());
    const UOp steps = unary(Op::FLOOR, x);
    CHECK_FALSE(vjp(std::span(&steps, 1), std::span(&x, 1), std::span(&x, 1)).front());
    const UOp through_int = cast(cast(x, DType::kInt64), DType::kFloat64);
    CHECK_FALSE(jvp(std::span(&through_int, 1), std::span(&x, 1), std::span(&y, 1)).front());
  }
  SUBCASE("the loss itself") { CHECK(bench.run(gradient(loss, std::span(&loss, 1)).front()) == Row{1}); }
  SUBCASE("the graph stays small") {
    // x . x: expand 1 to [2], times 2, times x.
    const UOp square = dot(x, x);
    const UOp g = gradient(square, std::span(&x, 1)).front();
    CHECK(g == mul(scaled(ones_like(x), 2.0), x));
  }
}

TEST_CASE("a chain of 10^5 nodes") {
  Bench bench;
  const UOp x = bench.input({}, {0.3}), c = bench.input({}, {1e-6});
  UOp y = x;
  constexpr int kLinks = 50'000;
  for (int i = 0; i < kLinks; ++i) y = add(mul(y, c), x);
  const std::vector<UOp> wrt{x, c};
  const auto g = bench.run(gradient(y, wrt));
  // y = x / (1 - c)
  CHECK(g[0][0] == doctest::Approx(1 / (1 - 1e-6)).epsilon(1e-14));
  CHECK(g[1][0] == doctest::Approx(0.3 / ((1 - 1e-6) * (1 - 1e-6))).epsilon(1e-12));
  const UOp one = ones_like(x);
  const UOp t = jvp(std::span(&y, 1), std::span(&x, 1), std::span(&one, 1)).front();
  CHECK(bench.run(t)[0] == doctest::Approx(1 / (1 - 1e-6)).epsilon(1e-14));
}

TEST_CASE("random graphs") {
  const std::uint64_t first = seed();
  for (std::uint64_t k = 0; k < 60; ++k) {
    const std::uint64_t s = first + k;
    INFO("TINYPHYS_TEST_SEED=", s);
    std::mt19937_64 rng(s);
    Bench bench;
    std::vector<UOp> x{bench.input({2, 3}, random_row(rng, 6, 0.3, 0.9)),
                       bench.input({2, 3}, random_row(rng, 6, 0.3, 0.9)),
                       bench.input({3, 3}, random_row(rng, 9, 0.3, 0.9))};
    std::vector<UOp> pool{x[0], x[1]};
    auto pick = [&] { return pool[rng() % pool.size()]; };
    // Each op keeps values in a bounded range, away from its singular points.
    for (int i = 0; i < 25; ++i) {
      const UOp a = pick(), b = pick();
      UOp r;
      switch (rng() % 14) {
        case 0: r = unary(Op::SIN, a); break;
        case 1: r = unary(Op::TANH, add(a, b)); break;
        case 2: r = mul(unary(Op::COS, a), b); break;
        case 3: r = div(a, offset(powi(b, 2), 1.0)); break;
        case 4: r = unary(Op::SQRT, offset(powi(a, 2), 0.5)); break;
        case 5: r = unary(Op::TANH, matmul(a, x[2])); break;
        case 6: r = make(Op::ROLL, {a}, {1, 1}); break;
        case 7: r = broadcast_to(reshape(unary(Op::SIN, sum(a, Dims{1})), Dims{2, 1}), Dims{2, 3}); break;
        case 8: r = flip(sub(a, scaled(b, 0.5)), 0); break;
        case 9: r = slice_axis(cat(std::vector<UOp>{a, b}, 0), 0, 0, 4, 2); break;
        case 10: r = unary(Op::SIN, make(Op::CUMSUM, {a}, {1})); break;
        case 11: r = reshape(permute(unary(Op::ATAN, a), Dims{1, 0}), Dims{2, 3}); break;
        case 12: r = make(Op::GATHER, {a, index_of({2, 0, 2}, {3})}, {1}); break;
        default: r = unary(Op::TANH, broadcast_to(reduce(Reduction::kProd, a, Dims{0}), Dims{2, 3})); break;
      }
      pool.push_back(r);
    }
    UOp total = pool.back();
    for (std::size_t i = pool.size() - 4; i + 1 < pool.size(); ++i) total = add(total, pool[i]);
    check_derivatives(bench, total, x, rng, 1e-6);
  }
}
