// Loops of one's own whose step is affine in the carry become one jump: against the loop in quad precision with the same
// double inputs; near misses stay loops and say why.
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "engine/engine.hpp"
#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/env.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;

namespace {

using Tensors = std::vector<Tensor>;

std::vector<double> values(const Tensors& xs) {
  std::vector<double> all;
  for (const Tensor& x : xs)
    for (const double v : x.to_vector<double>()) all.push_back(v);
  return all;
}
// The recorded loop, every number a quad.
std::vector<tp::Quad> quad_values(const Tensors& xs) {
  std::vector<tp::UOp> held;
  std::vector<tp::Node*> roots;
  for (const Tensor& x : xs) roots.push_back(held.emplace_back(tp::uop(x)).get());
  std::vector<tp::Quad> all;
  for (const auto& v : tp::evaluate<tp::Quad>(roots)) all.insert(all.end(), v.real.begin(), v.real.end());
  return all;
}

struct Outcome {
  std::vector<double> jump;
  double jump_error, loop_error;
  std::string report;
};
// `run`: the final carry for a method.
Outcome compare(const std::function<Tensors(tp::Method)>& run) {
  const Tensors lifted = run(tp::Method::Default), looped = run(tp::Method::Loop);
  const auto exact = quad_values(run(tp::Method::Loop));
  Outcome out;
  out.jump = values(lifted);
  out.jump_error = relative_error(out.jump, exact);
  out.loop_error = relative_error(values(looped), exact);
  out.report = tp::explain(lifted[0]).text;
  CHECK(contains(tp::explain(looped[0]).text, "Method::Loop asks for the loop"));
  return out;
}
void check_lifted(const Outcome& o) {
  INFO(o.report);
  CHECK(contains(o.report, "proved   the step is affine in its carry"));
  CHECK(contains(o.report, "chose    powered step matrix (class exact)"));
  CHECK(o.jump_error <= std::max(o.loop_error, 3e-16));
}
void check_looped(const Tensor& x, const std::string& why) {
  (void)x.to_vector<double>();
  const std::string report = tp::explain(x).text;
  INFO(report);
  CHECK(contains(report, why));
  CHECK(contains(report, "chose    the loop"));
}
Tensors list(const std::tuple<Tensor, Tensor>& t) { return {std::get<0>(t), std::get<1>(t)}; }

}  // namespace

TEST_CASE("a damped oscillator of one's own: under, critically and over damped" * needs_passes()) {
  const double w2 = 3.1, h = 1e-3;
  for (const double c : {0.02, 2 * std::sqrt(3.1), 11.0}) {
    const auto run = [&](tp::Method method) {
      return list(tp::scan(
          [&](const Tensor& x, const Tensor& v) {
            const Tensor next = v - h * (w2 * x + c * v);
            return std::tuple{x + h * next, next};
          },
          std::tuple{Tensor::from({1.0}), Tensor::from({0.3})}, 20000, {.method = method}));
    };
    check_lifted(compare(run));
  }
}

TEST_CASE("a step with a constant part, a Jordan block, and growth to infinity without NaN" *
          needs_passes()) {
  const auto shear = [](tp::Method method) {
    return list(tp::scan(
        [](const Tensor& x, const Tensor& v) {
          return std::tuple{x + 0.01 * v, v - 0.01 * 9.81};
        },
        std::tuple{Tensor(2.0), Tensor(5.0)}, 10000, {.method = method}));
  };
  check_lifted(compare(shear));
  const auto grow = [](const Tensor& start, std::int64_t n) {
    return tp::scan([](const Tensor& x) { return 1.5 * x + 0.25; }, start, n);
  };
  const Tensor large = grow(Tensor::from({1.0, -1.0}), 100'000'000);
  const auto v = large.to_vector<double>();
  CHECK(v[0] == std::numeric_limits<double>::infinity());
  CHECK(v[1] == -std::numeric_limits<double>::infinity());
  const std::string report = tp::explain(large).text;
  INFO(report);
  CHECK(contains(report, "chose    powered step matrix"));
  CHECK(contains(report, "warns"));
  // On the unstable fixed point the parts of the jump cancel: the loop stays there, and is taken.
  const Tensor fixed = grow(Tensor::from({-0.5}), 1'000'000);
  CHECK(fixed.item<double>() == -0.5);
  CHECK(contains(tp::explain(fixed).text, "its error may be larger than the loop's"));
}

TEST_CASE("a rotation a million million times" * needs_passes()) {
  const double c = 0.8, s = 0.6;  // as doubles they are no rotation: |z| = 1 + 4e-17
  const std::int64_t n = 1'000'000'000'000;
  const auto z = tp::scan(
      [&](const Tensor& x, const Tensor& y) {
        return std::tuple{c * x - s * y, s * x + c * y};
      },
      std::tuple{Tensor(1.0), Tensor(0.0)}, n);
  // (c + i s)^n by squaring in quad.
  tp::Quad re = 1, im = 0, a = c, b = s;
  for (std::int64_t k = n; k; k >>= 1) {
    if (k & 1) {
      const tp::Quad t = re * a - im * b;
      im = re * b + im * a;
      re = t;
    }
    const tp::Quad t = a * a - b * b;
    b = tp::Quad(2.0) * a * b;
    a = t;
  }
  CHECK(std::get<0>(z).item<double>() == doctest::Approx(static_cast<double>(re)).epsilon(1e-12));
  CHECK(std::get<1>(z).item<double>() == doctest::Approx(static_cast<double>(im)).epsilon(1e-12));
}

TEST_CASE("heat in a rod, a wave, a filter with memory, a Markov chain" * needs_passes()) {
  const auto heat = [](tp::Method method) {
    return Tensors{tp::scan(
        [](const Tensor& u) {
          const Tensor walled = u.pad({{1, 1}});
          return u + 0.3 * (walled.slice(0, 2) - 2.0 * u + walled.slice(0, 0, -2));
        },
        tp::sin(Tensor::arange(24.0)) + 2.0, 5000, {.method = method})};
  };
  check_lifted(compare(heat));
  const auto wave = [](tp::Method method) {
    return list(tp::scan(
        [](const Tensor& u, const Tensor& before) {
          const Tensor laplace = u.roll(1, 0) + u.roll(-1, 0) - 2.0 * u;
          return std::tuple{2.0 * u - before + 0.25 * laplace, u};
        },
        std::tuple{tp::cos(Tensor::arange(8.0)), tp::cos(Tensor::arange(8.0))}, 20000, {.method = method}));
  };
  check_lifted(compare(wave));
  const auto filter = [](tp::Method method) {
    return list(tp::scan(
        [](const Tensor& y1, const Tensor& y2) {
          return std::tuple{1.9 * y1 - 0.95 * y2 + 0.05 * 0.7, y1};
        },
        std::tuple{Tensor(0.0), Tensor(0.0)}, 4000, {.method = method}));
  };
  check_lifted(compare(filter));
  const Tensor p = Tensor::from({0.9, 0.075, 0.025, 0.15, 0.8, 0.05, 0.25, 0.25, 0.5}, {3, 3});
  const auto markov = [&](tp::Method method) {
    return Tensors{tp::scan([&](const Tensor& x) { return matmul(x, p); }, Tensor::from({1.0, 0.0, 0.0}),
                            5000, {.method = method})};
  };
  check_lifted(compare(markov));
}

TEST_CASE("an ensemble: each system its own block, equal ones share a power" * needs_passes()) {
  const Tensor w2 = Tensor::linspace(1.0, 4.0, 500);
  const auto run = [&](const Tensor& stiffness) {
    return [&, stiffness](tp::Method method) {
      return list(tp::scan(
          [&](const Tensor& x, const Tensor& v) {
            const Tensor next = v - 1e-2 * (stiffness * x + 0.1 * v);
            return std::tuple{x + 1e-2 * next, next};
          },
          std::tuple{tp::cos(Tensor::arange(500.0)), Tensor::zeros({500})}, 4000, {.method = method}));
    };
  };
  const Outcome different = compare(run(w2));
  check_lifted(different);
  CHECK(contains(different.report, "1000 coordinates in 500 blocks, 500 step matrices"));
  const Outcome same = compare(run(Tensor::full({500}, 2.0)));
  check_lifted(same);
  CHECK(contains(same.report, "1000 coordinates in 500 blocks, all of one step matrix"));
}

TEST_CASE("a product that cancels: decided by the identity test" * needs_passes()) {
  const auto run = [](tp::Method method) {
    return Tensors{
        tp::scan([](const Tensor& x) { return x + (x + 1.0) * (x + 1.0) - x * x - 2.0 * x - 0.5 * x; },
                 Tensor::from({0.25}), 3000, {.method = method})};
  };
  const Tensors lifted = run(tp::Method::Default);
  (void)values(lifted);
  const std::string report = tp::explain(lifted[0]).text;
  CHECK(contains(report, "lowered to 1 by the identity test"));
  // x -> x / 2 + 1 has the fixed point 2.
  CHECK(values(lifted)[0] == doctest::Approx(2.0).epsilon(1e-15));
}

TEST_CASE("near misses stay loops" * needs_passes()) {
  const std::int64_t n = 100'000;
  check_looped(tp::scan([](const Tensor& x) { return x * 0.5 + 1e-3 * x * x; }, Tensor(0.1), n), "degree 2");
  check_looped(tp::scan([](const Tensor& x) { return 0.5 * x + 1e-9 * tp::sin(x); }, Tensor(0.1), n), "sin");
  check_looped(
      tp::scan([](const Tensor& x) { return tp::where(x < 1.0, 1.01 * x, 0.5 * x); }, Tensor(0.1), n),
      "refused");
  check_looped(tp::scan([](const Tensor& x) { return tp::abs(0.5 * x); }, Tensor(0.1), n), "refused");
  check_looped(
      tp::scan([](tp::Index i, const Tensor& x) { return 0.5 * x + 1e-6 * i.astype(tp::DType::kFloat64); },
               Tensor(0.1), n),
      "the step depends on its number");
  check_looped(tp::scan([](const Tensor& x, const Tensor& f) { return 0.5 * x + f; }, Tensor(0.1), n,
                        {.xs = {Tensor::linspace(0.0, 1.0, n)}}),
               ".xs");
  check_looped(tp::scan([](const Tensor& x) { return 0.999 * x; }, Tensor(1.0), n,
                        {.until = [](const Tensor& x) { return x < 1e-3; }}),
               "ends on a condition");
  check_looped(tp::scan(
                   [](const Tensor& x) {
                     return std::pair{0.999 * x, x};
                   },
                   Tensor(1.0), n)
                   .first,
               "stacks an output");
  check_looped(tp::scan([](const Tensor& x) { return 0.5f * x + 1.0f; },
                        Tensor::full({2}, 1.0, tp::DType::kFloat32), n)
                   .astype(tp::DType::kFloat64),
               "float32");
  const auto counted = tp::scan(
      [](const Tensor& x, const Tensor& k) {
        return std::tuple{0.5 * x, k + 1};
      },
      std::tuple{Tensor(1.0), Tensor::full({}, 0, tp::DType::kInt64)}, n);
  check_looped(std::get<0>(counted), "integers are never lifted");
  CHECK(std::get<1>(counted).item<std::int64_t>() == n);
  // A cubic term whose number vanishes in one prime field of old.
  check_looped(
      tp::scan([](const Tensor& x) { return 0.9 * x + 0.1 * x * x - 0.1 * 0x1p-61 * x * x; }, Tensor(0.1), n),
      "degree 2");
}

TEST_CASE("rounding that is meant is no formula: the loop is taken" * needs_passes()) {
  const double c = 6755399441055744.0;  // 1.5 * 2^52: adding and taking it away rounds to whole numbers
  const auto check = [](const std::function<Tensor(tp::Method)>& run) {
    const Tensor x = run(tp::Method::Default);
    CHECK(x.to_vector<double>() == run(tp::Method::Loop).to_vector<double>());
    const std::string report = tp::explain(x).text;
    INFO(report);
    CHECK(contains(report, "its rounding may be meant"));
  };
  const Tensor start = Tensor::from({0.3, 1.7});
  check([&](tp::Method m) {
    return tp::scan([&](const Tensor& x) { return ((x + c) - c) + 0.25; }, start, 100'000'000, {.method = m});
  });
  check([&](tp::Method m) {
    return tp::scan([](const Tensor& x) { return 0.999 * x + ((x + 1e16) - 1e16); }, start, 1'000'000,
                    {.method = m});
  });
  // At the start it is harmless, at the end it is not.
  check([&](tp::Method m) {
    return tp::scan([](const Tensor& x) { return 0.5 * ((x + 1e3) - 1e3); }, start, 200, {.method = m});
  });
  // In an energy.
  check([&](tp::Method m) {
    const tp::System s([&](const Tensor& q, const Tensor& p) {
      const Tensor whole = (q + c) - c;
      return 0.5 * (p * p).sum() + 0.5 * (whole * whole).sum();
    });
    return s.evolve({start, Tensor::zeros({2})}, {.dt = 0.01, .steps = 1'000'000, .method = m}).q;
  });
  // Large numbers that are part of the formula are none.
  const Tensor far =
      tp::scan([](const Tensor& x) { return 0.5 * (x - 1e9) + 1e9; }, Tensor::from({1e9 + 1}), 1'000'000);
  CHECK(far.item<double>() == 1e9);
  CHECK(contains(tp::explain(far).text, "chose    powered step matrix"));
}

TEST_CASE("a state that is not finite, and forces that are not, take the loop" * needs_passes()) {
  const auto same = [](const Tensor& a, const Tensor& b) {
    const auto x = a.to_vector<double>(), y = b.to_vector<double>();
    for (std::size_t i = 0; i < x.size(); ++i)
      CHECK((x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))));
  };
  const tp::System plain(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const tp::System root([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 0.5 * tp::square(tp::sqrt(q * q)).sum();
  });
  const auto compare = [&](const tp::System& s, double q0) {
    const tp::State z{Tensor::from({1.0, q0}), Tensor::zeros({2})};
    tp::EvolveOptions options{.dt = 0.01, .steps = 5000};
    const Tensor jump = s.evolve(z, options).q;
    options.method = tp::Method::Loop;
    same(jump, s.evolve(z, options).q);
  };
  compare(plain, std::numeric_limits<double>::infinity());
  compare(plain, std::numeric_limits<double>::quiet_NaN());
  compare(root, 0.0);
}

TEST_CASE("what decays below all doubles is 0, and still a jump" * needs_passes()) {
  const auto jumps = [](const auto& step, double x, double v, std::int64_t steps) {
    const auto [a, b] = tp::scan(step, std::tuple{x, v}, steps);
    const double end = a.template item<double>();
    CAPTURE(steps);
    CHECK(contains(tp::explain(a.realize()).text, "chose    powered step matrix"));
    return end;
  };
  const auto damped = [](const Tensor& x, const Tensor& v) {
    return std::tuple{x + 1e-3 * v, v - 1e-3 * (4.0 * x + 0.1 * v)};
  };
  const auto jordan = [](const Tensor& x, const Tensor& v) { return std::tuple{0.999 * x + v, 0.999 * v}; };
  for (const std::int64_t steps : {16'000'000L, 1'000'000'000L, 1'000'000'000'000L})
    CHECK(jumps(damped, 1.0, -0.3, steps) == 0);
  // (x + n v / 0.999) 0.999^n: 2e-429 for states of 1.
  CHECK(jumps(jordan, 1.0, 1.0, 1'000'000) == 0);
  CHECK(jumps(jordan, 1.0, 1.0, 700'000) ==
        doctest::Approx(std::exp(std::log1p(700'000 / 0.999) + 700'000 * std::log1p(-0.001))).epsilon(1e-9));
}

TEST_CASE("the stated bound holds for results that are subnormal" * needs_passes()) {
  const Tensor x = tp::scan([](const Tensor& s) { return s * 0.5; }, Tensor::from({1.7}), 1074);
  CHECK(x.item<double>() == 0x1p-1074 * 2);  // 1.7 2^-1074 rounds to 2 units
  const std::string report = tp::explain(x).text;
  INFO(report);
  CHECK_FALSE(contains(report, "carry 0 <= 1.1e-16"));
}

TEST_CASE("the way back through an affine loop is a jump too" * needs_passes()) {
  const std::int64_t n = 1'000'000'000;
  const double c = 1e-9, w = 2.0, h = 1e-6;
  const auto run = [&](const Tensor& x0) {
    return std::get<0>(tp::scan(
        [&](const Tensor& x, const Tensor& v) {
          const Tensor next = v - h * (w * x + c * v);
          return std::tuple{x + h * next, next};
        },
        std::tuple{x0, Tensor::from({0.0, 0.0})}, n));
  };
  const Tensor x0 = Tensor::from({1.0, 0.5});
  const Tensor end = run(x0);
  const Tensor g = tp::gradient(end.sum(), {x0})[0];
  // x_n is linear in x_0.
  const auto at_one = run(Tensor::from({1.0, 1.0})).to_vector<double>();
  const auto got = g.to_vector<double>();
  CHECK(got[0] == doctest::Approx(at_one[0]).epsilon(1e-12));
  CHECK(got[1] == doctest::Approx(at_one[0]).epsilon(1e-12));
}

TEST_CASE("numbers of a lifted step are arguments: other ones compile nothing" * needs_passes()) {
  const auto run = [](double a) {
    return tp::scan([a](const Tensor& x) { return a * x + 0.125; }, Tensor(1.0), 1'000'000).item<double>();
  };
  (void)run(0.75);
  const auto before = tp::plan_counts().made;
  for (int i = 1; i < 20; ++i) {
    const double a = 0.7 + 0.01 * i;
    CHECK(run(a) == doctest::Approx(0.125 / (1 - a)).epsilon(1e-14));
  }
  CHECK(tp::plan_counts().made == before);
}

TEST_CASE("TINYPHYS_OPT=0 lifts nothing") {
  const tp::env::ScopedOverride plain("TINYPHYS_OPT", "0");
  check_looped(tp::scan([](const Tensor& x) { return 0.5 * x + 1.0; }, Tensor(0.1), 1000), "TINYPHYS_OPT=0");
}

TEST_CASE("the gradient by numbers of an affine step needs no tape") {
  const auto gradients = [](std::int64_t steps, double damping, tp::Method method) {
    const Tensors by{Tensor(1.3).clone(), Tensor(damping).clone(), Tensor(0.4).clone(),
                     Tensor::from({1.0, 0.5}).clone()};
    const auto [x, v] = tp::scan(
        [&](const Tensor& xn, const Tensor& vn) {
          const Tensor next = vn - 0.01 * (by[0] * xn + by[1] * vn - by[2]);
          return std::tuple{xn + 0.01 * next, next};
        },
        std::tuple{by[3], Tensor::from({0.0, 0.3})}, steps, {.method = method});
    return values(tp::gradient((x * x).sum() + 0.1 * v.sum(), by));
  };
  const auto forward = gradients(2000, 0.02, tp::Method::Default),
             tape = gradients(2000, 0.02, tp::Method::Loop);
  for (std::size_t i = 0; i < tape.size(); ++i) CHECK(forward[i] == doctest::Approx(tape[i]).epsilon(1e-11));
}

TEST_CASE("the gradient by numbers of an affine step after 10^9 steps" * needs_passes()) {
  // x = (1 - a)^N + (1 - (1 - a)^N) b / a
  constexpr std::int64_t kSteps = 1'000'000'000;
  const Tensor a = Tensor(1e-9).clone(), b = Tensor(3e-10).clone();
  const Tensor x = tp::scan([&](const Tensor& s) { return s - a * s + b; }, Tensor(1.0).clone(), kSteps);
  const Tensors g = tp::gradient(x, Tensors{a, b});
  const double n = 1e9, at = 1e-9, bt = 3e-10, power = std::exp(n * std::log1p(-at));
  const double slope = -n * power / (1 - at);
  CHECK(g[0].item<double>() ==
        doctest::Approx(slope * (1 - bt / at) - (1 - power) * bt / at / at).epsilon(1e-9));
  CHECK(g[1].item<double>() == doctest::Approx((1 - power) / at).epsilon(1e-11));
}
