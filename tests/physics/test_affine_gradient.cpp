// The gradient by arrays of a jump that is a power of its step: affine loops of one's own, and an H that joins q with p. Sums
// over the powers, in place of a tape.
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "engine/pipeline.hpp"
#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/env.hpp"
#include "support/integrators.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;

namespace {

using Tensors = std::vector<Tensor>;
constexpr const char* kSums = "the gradient's sums over the steps, by the powered step matrix";

struct Draws {
  std::mt19937_64 engine{17};
  Tensor operator()(const tp::Shape& shape, double low = -1, double high = 1) {
    long n = 1;
    for (const auto s : shape) n *= static_cast<long>(s);
    std::vector<double> v(static_cast<std::size_t>(n));
    for (double& x : v) x = low + (high - low) * (static_cast<double>(engine() >> 11) * 0x1p-53);
    return Tensor::from(v).reshape(shape).clone();
  }
};

// A loss of the end of a motion that is made of `of`.
using LossOf = std::function<Tensor(const Tensors& of, tp::Method method)>;

struct Gradients {
  std::vector<std::vector<double>> values;  // by each of `of`
  std::string report;
};
Gradients gradients(const LossOf& loss, const Tensors& of, tp::Method method = tp::Method::Default) {
  Gradients out;
  const Tensors g = tp::gradient(loss(of, method), of);
  tp::realize(g);
  for (const Tensor& x : g) out.values.push_back(x.to_vector<double>());
  out.report = tp::explain(g[0]).text;
  return out;
}
// That of the loop, over its tape, every number a quad.
std::vector<std::vector<double>> quad_gradients(const LossOf& loss, const Tensors& of) {
  std::vector<tp::UOp> held;
  for (const Tensor& x : tp::gradient(loss(of, tp::Method::Loop), of)) held.push_back(tp::uop(x));
  const tp::UOp loops = tp::run_passes(tp::lambda_of(held, 0), {.physics = false});
  const std::vector<tp::Node*> roots(loops->src().begin(), loops->src().end());
  std::vector<std::vector<double>> out;
  for (const auto& v : tp::evaluate<tp::Quad>(roots)) {
    out.emplace_back();
    for (const tp::Quad& x : v.real) out.back().push_back(static_cast<double>(x));
  }
  return out;
}
// The largest difference, relative to the largest entry by each array.
double difference(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    double off = 0, size = 1e-300;
    for (std::size_t k = 0; k < b[i].size(); ++k) {
      const double d = std::fabs(a[i][k] - b[i][k]);
      off = std::isnan(d) ? d : std::max(off, d);
      size = std::max(size, std::fabs(b[i][k]));
    }
    worst = std::isnan(off) ? off : std::max(worst, off / size);
  }
  return worst;
}
// Forward mode goes another way: the carry and its tangent are one map. Relative to the sum of what is added up.
double dual_difference(const LossOf& loss, const Tensors& of, const Gradients& g) {
  double worst = 0;
  for (std::size_t i = 0; i < of.size(); ++i) {
    Draws directions{std::mt19937_64(1000 + i)};
    const Tensor along = directions(of[i].shape());
    const auto end = [&](const Tensor& x) {
      Tensors moved = of;
      moved[i] = x;
      return loss(moved, tp::Method::Default);
    };
    const double forward = tp::jvp(end, {of[i]}, {along}).second.item<double>();
    double back = 0, size = 0;
    const auto direction = along.to_vector<double>();
    for (std::size_t k = 0; k < direction.size(); ++k) {
      back += g.values[i][k] * direction[k];
      size += std::fabs(g.values[i][k] * direction[k]);
    }
    worst = std::max(worst, std::fabs(forward - back) / size);
  }
  return worst;
}

using Step1 = std::function<Tensor(const Tensor& x, const Tensors& of)>;
using Step2 = std::function<std::tuple<Tensor, Tensor>(const Tensor& x, const Tensor& v, const Tensors& of)>;

Tensor measure(const Tensor& x, double seed) {
  return (bumpy(x.shape(), seed) * x * x).sum() + (bumpy(x.shape(), seed + 1) * x).sum();
}
LossOf loss_of(const Step1& step, const Tensor& start, std::int64_t steps) {
  return [=](const Tensors& of, tp::Method method) {
    return measure(tp::scan([&](const Tensor& x) { return step(x, of); }, start, steps, {.method = method}),
                   0.7);
  };
}
LossOf loss_of(const Step2& step, const Tensor& x0, const Tensor& v0, std::int64_t steps) {
  return [=](const Tensors& of, tp::Method method) {
    const auto [x, v] = tp::scan([&](const Tensor& y, const Tensor& u) { return step(y, u, of); },
                                 std::tuple{x0, v0}, steps, {.method = method});
    return measure(x, 0.7) + measure(v, 0.3);
  };
}

// Sums against the tape, and both in quad.
void check(const std::string& name, const LossOf& loss, const Tensors& of, double allowed) {
  CAPTURE(name);
  const Gradients sums = gradients(loss, of), tape = gradients(loss, of, tp::Method::Loop);
  const auto exact = quad_gradients(loss, of);
  const double error = difference(sums.values, exact), loop_error = difference(tape.values, exact);
  INFO(sums.report);
  MESSAGE(name, ": ", error, ", the tape ", loop_error);
  CHECK(error < (tp::env::optimize() ? allowed : 1e-12));
  if (!tp::env::optimize()) return;
  CHECK(contains(sums.report, kSums));
  CHECK(contains(sums.report, "error    the gradient ~"));
}

Step2 damped(double h) {
  return [h](const Tensor& x, const Tensor& v, const Tensors& of) {
    const Tensor next = v - h * (of[0] * x + of[1] * v - of[2]);
    return std::tuple{x + h * next, next};
  };
}
Step1 heat(double rate) {
  return [rate](const Tensor& x, const Tensors& of) {
    const auto n = static_cast<std::int64_t>(x.shape()[0]);
    const Tensor flow = of[0] * (x.slice(0, 1, n) - x.slice(0, 0, n - 1));
    return x + rate * (flow.pad({{0, 1}}) - flow.pad({{1, 0}}));
  };
}

}  // namespace

TEST_CASE("the gradient by arrays of an affine step is that of the tape in quad") {
  Draws draw;
  check("damped oscillators", loss_of(damped(0.02), draw({5}), draw({5}), 1500),
        {draw({5}, 0.5, 2), draw({5}, 0.01, 0.3), draw({5})}, 1e-14);
  check("coupled damped oscillators",
        loss_of(
            [](const Tensor& x, const Tensor& v, const Tensors& of) {
              const Tensor next = v - 0.02 * (tp::matmul(of[0], x) + of[1] * v - of[2]);
              return std::tuple{x + 0.02 * next, next};
            },
            draw({6}), draw({6}), 1000),
        {(3.0 * Tensor::eye(6) + 0.3 * draw({6, 6})).clone(), draw({6}, 0.01, 0.1), draw({6})}, 1e-14);
  check("filters of second order",
        loss_of(
            [](const Tensor& x, const Tensor& v, const Tensors& of) {
              return std::tuple{of[0] * x + of[1] * v + of[2], x};
            },
            draw({2}), draw({2}), 1777),
        {Tensor::from({1.95, 1.9}).clone(), Tensor::from({-0.953, -0.999}).clone(), draw({2})}, 1e-14);
  // In quad its rows are not rounded to doubles, and sum to 1 otherwise.
  check("a Markov chain",
        loss_of(
            [](const Tensor& x, const Tensors& of) {
              return tp::matmul(x, of[0] / of[0].sum(std::vector<std::int64_t>{1}, true));
            },
            draw({7}, 0, 1), 1000),
        {tp::exp(draw({7, 7})).clone()}, 1e-12);
  check("heat", loss_of(heat(0.02), draw({12}), 3000), {draw({11}, 0.2, 1)}, 1e-13);
  check(
      "a Jordan block",
      loss_of([](const Tensor& x, const Tensors& of) { return tp::matmul(of[0], x); }, draw({4}), 500),
      {Tensor::from({1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0}, {4, 4})
           .clone()},
      1e-13);
  check("growing",
        loss_of([](const Tensor& x, const Tensors& of) { return x + tp::matmul(of[0], x) + of[1]; },
                draw({3}), 700),
        {(0.1 * draw({3, 3}, 0.5, 1)).clone(), draw({3})}, 1e-12);
  check("five numbers",
        loss_of(
            [](const Tensor& x, const Tensor& v, const Tensors& of) {
              return std::tuple{of[0] * x + of[1] * v + of[4], of[2] * x + of[3] * v};
            },
            draw({2}), draw({2}), 1000),
        {Tensor(0.99).clone(), Tensor(0.01).clone(), Tensor(-0.02).clone(), Tensor(0.998).clone(),
         Tensor(0.1).clone()},
        1e-13);
}

TEST_CASE("the gradient by arrays of an affine step: couplings that are 0 now, and members by themselves") {
  Draws draw;
  const Tensor k = draw({5}, 0.1, 0.5);
  check("couplings of 0",
        loss_of([k](const Tensor& x, const Tensors& of) { return x - 0.01 * (k * x + tp::matmul(of[0], x)); },
                draw({5}), 900),
        {Tensor::zeros({5, 5}).clone()}, 1e-14);
  check("members, each a chain with shared and own couplings",
        loss_of(
            [](const Tensor& x, const Tensor& v, const Tensors& of) {
              const Tensor d = of[0] * (x.slice(1, 1, 4) - x.slice(1, 0, 3));
              const Tensor f = d.pad({{0, 0}, {0, 1}}) - d.pad({{0, 0}, {1, 0}}) - of[1] * v;
              const Tensor next = v + 0.05 * f;
              return std::tuple{x + 0.05 * next, next};
            },
            draw({30, 4}), draw({30, 4}), 500),
        {draw({30, 3}, 0.5, 1), draw({4}, 0.01, 0.05)}, 1e-13);
  // A part of the carry has fewer coordinates than the other.
  check("a shared bath",
        loss_of(
            [](const Tensor& x, const Tensor& b, const Tensors& of) {
              const Tensor heat = of[0] * (x - b.reshape({3, 1}).expand({3, 4}));
              return std::tuple{x - 0.02 * heat, b + 0.01 * heat.sum(std::vector<std::int64_t>{1})};
            },
            draw({3, 4}), draw({3}), 800),
        {draw({3, 4}, 0.2, 1)}, 1e-13);
}

TEST_CASE("the gradient by arrays of an affine step after 10^9 steps" * needs_passes()) {
  // x_N = a^N x_0 + b (1 - a^N) / (1 - a), each by itself; a = 1 - c.
  constexpr std::int64_t kSteps = 1'000'000'000;
  const std::vector<double> c{1e-9, 3e-9, 2e-10, 4e-8}, b{3e-10, -1e-9, 1e-10, 2e-8},
      x0{1.0, 0.5, -2.0, 0.25};
  const Tensor ct = Tensor::from(c).clone(), bt = Tensor::from(b).clone();
  const Tensor x = tp::scan([&](const Tensor& s) { return s - ct * s + bt; }, Tensor::from(x0), kSteps);
  const Tensors g = tp::gradient(x.sum(), Tensors{ct, bt});
  const auto by_c = g[0].to_vector<double>(), by_b = g[1].to_vector<double>();
  INFO(tp::explain(g[0]).text);
  CHECK(contains(tp::explain(g[0]).text, kSums));
  const double n = kSteps;
  for (std::size_t i = 0; i < c.size(); ++i) {
    const double power = std::exp(n * std::log1p(-c[i])), left = -std::expm1(n * std::log1p(-c[i]));
    const double slope = n * power / (1 - c[i]);  // -d power / d c
    CHECK(by_c[i] == doctest::Approx(-slope * x0[i] + b[i] * (slope - left / c[i]) / c[i]).epsilon(1e-11));
    CHECK(by_b[i] == doctest::Approx(left / c[i]).epsilon(1e-12));
  }
}

TEST_CASE("the gradient by arrays of an affine step after 10^9 steps is dual to the tangent's jump" *
          needs_passes()) {
  Draws draw;
  const std::int64_t steps = 1'000'000'000;
  struct Row {
    std::string name;
    LossOf loss;
    Tensors of;
  };
  const std::vector<Row> rows{{"damped oscillators",
                               loss_of(damped(1e-8), draw({4}), draw({4}), steps),
                               {draw({4}, 0.5, 2), draw({4}, 0.01, 0.1), draw({4})}},
                              {"undamped, coupled",
                               loss_of(
                                   [](const Tensor& x, const Tensor& v, const Tensors& of) {
                                     const Tensor next = v - 1e-6 * tp::matmul(of[0], x);
                                     return std::tuple{x + 1e-6 * next, next};
                                   },
                                   draw({5}), draw({5}), steps),
                               {(2.0 * Tensor::eye(5) + 0.2 * Tensor::ones({5, 5})).clone()}},
                              {"heat", loss_of(heat(1e-7), draw({40}), steps), {draw({39}, 0.2, 1)}},
                              {"a filter",
                               loss_of(
                                   [](const Tensor& x, const Tensor& v, const Tensors& of) {
                                     return std::tuple{of[0] * x + of[1] * v, x};
                                   },
                                   draw({3}), draw({3}), steps),
                               {Tensor::from({1.999, 1.99, 1.9999}).clone(),
                                Tensor::from({-0.9999999992, -0.9999999997, -0.9999999995}).clone()}}};
  for (const Row& r : rows) {
    CAPTURE(r.name);
    const Gradients g = gradients(r.loss, r.of);
    INFO(g.report);
    CHECK(contains(g.report, kSums));
    const double off = dual_difference(r.loss, r.of, g);
    MESSAGE(r.name, ": ", off);
    CHECK(off < 1e-11);
  }
}

TEST_CASE(
    "the gradient by arrays of a step that is affine only for the values that they have goes over the tape" *
    needs_passes()) {
  Draws draw;
  const Tensor zero = Tensor::zeros({4}).clone(), flag = Tensor::from({1.0, 1.0, 1.0, 1.0}).clone();
  struct Row {
    std::string name;
    Step1 step;
    Tensors of;
  };
  const std::vector<Row> rows{
      {"a square times 0",
       [](const Tensor& x, const Tensors& of) { return 0.99 * x + of[0] * x * x; },
       {zero}},
      {"a choice by data",
       [](const Tensor& x, const Tensors& of) { return tp::where(of[0] > 0.5, of[0] * 0.99 * x, x * x); },
       {flag}},
      {"a difference that cancels for these values",
       [zero](const Tensor& x, const Tensors& of) { return 0.99 * x + (of[0] - (zero + 1.0)) * x * x; },
       {flag}},
      {"a square, and an array beside it",
       [](const Tensor& x, const Tensors& of) { return x - 0.01 * x * x + of[0]; },
       {(0.01 * draw({4}, 0, 1)).clone()}}};
  for (const Row& r : rows) {
    CAPTURE(r.name);
    const LossOf loss = loss_of(r.step, draw({4}, 0.1, 0.9), 500);
    const Gradients g = gradients(loss, r.of);
    INFO(g.report);
    CHECK_FALSE(contains(g.report, kSums));
    CHECK(contains(g.report, "over a tape of its states"));
    CHECK(difference(g.values, quad_gradients(loss, r.of)) < 1e-12);
  }
}

TEST_CASE(
    "the gradient by arrays of an affine step: where there are no sums it goes over the tape, and says why" *
    needs_passes()) {
  Draws draw;
  struct Row {
    std::string why;
    LossOf loss;
    Tensors of;
  };
  const std::vector<Row> rows{
      {"grows too far",
       loss_of([](const Tensor& x, const Tensors& of) { return x + of[0] * x; }, draw({3}), 4000),
       {draw({3}, 0.074, 0.076)}},
      {"powering takes at most 128",
       loss_of([](const Tensor& x, const Tensors& of) { return x + tp::matmul(of[0], x); },
               (1e-3 * draw({130})).clone(), 300),
       {(1e-3 * draw({130, 130})).clone()}},
      {"the loop is cheaper", loss_of(heat(0.2), draw({60}), 1000), {draw({59}, 0.2, 1)}},
      {"its rounding may be meant",
       loss_of([](const Tensor& x, const Tensors& of) { return ((of[0] * x + 4e14) - 4e14) + 0.001; },
               draw({3}, 1, 2), 3000),
       {draw({3}, 0.99, 0.999)}},
      {"at its end",
       loss_of([](const Tensor& x, const Tensors& of) { return (of[0] * x + 4e14) - 4e14; },
               (1e14 * draw({3}, 1, 2)).clone(), 3000),
       {draw({3}, 0.9, 0.99)}},
      {"is not finite",
       loss_of([](const Tensor& x, const Tensors& of) { return of[0] * x; },
               Tensor::from({1.0, std::nan(""), 2.0}).clone(), 3000),
       {draw({3}, 0.9, 0.99)}}};
  for (const Row& r : rows) {
    CAPTURE(r.why);
    const Gradients g = gradients(r.loss, r.of), tape = gradients(r.loss, r.of, tp::Method::Loop);
    INFO(g.report);
    CHECK(contains(g.report, r.why));
    CHECK(contains(g.report, "backward, over a tape of its states"));
    CHECK_FALSE(contains(g.report, kSums));
    for (std::size_t i = 0; i < g.values.size(); ++i)
      for (std::size_t k = 0; k < g.values[i].size(); ++k) {
        const double a = g.values[i][k], b = tape.values[i][k];
        CHECK((a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) <= 1e-9 * std::fabs(b)));
      }
  }
}

TEST_CASE(
    "the gradient by arrays of an affine step: by an index, through a function, twice over, with other "
    "data") {
  Draws draw;
  const Tensor kinds = Tensor::from(std::vector<std::int64_t>{0, 1, 2, 1, 0, 1}).clone();
  const Step2 step = [kinds](const Tensor& x, const Tensor& v, const Tensors& of) {
    const Tensor next = v - 0.03 * (tp::gather(tp::exp(of[0]), kinds) * x + of[1].sum() * v);
    return std::tuple{x + 0.03 * next, next};
  };
  const Tensor x0 = draw({6}), v0 = draw({6});
  const Tensors of{draw({3}), draw({4}, 0.01, 0.02)};
  const LossOf loss = loss_of(step, x0, v0, 900);
  check("kinds", loss, of, 1e-13);
  const auto slope = [&](tp::Method method) {
    return [&, method](const Tensor& x) {
      return (tp::gradient(loss({x, of[1]}, method), Tensors{x})[0] * Tensor::from({1.0, -2.0, 0.5})).sum();
    };
  };
  const auto second = tp::grad(slope(tp::Method::Default))(of[0]).to_vector<double>(),
             by_loop = tp::grad(slope(tp::Method::Loop))(of[0]).to_vector<double>();
  for (std::size_t i = 0; i < second.size(); ++i)
    CHECK(second[i] == doctest::Approx(by_loop[i]).epsilon(1e-11));
  for (int i = 0; i < 3; ++i) {
    const Tensor x = draw({3});
    const auto a = tp::gradient(loss({x, of[1]}, tp::Method::Default), Tensors{x})[0].to_vector<double>(),
               b = tp::gradient(loss({x, of[1]}, tp::Method::Loop), Tensors{x})[0].to_vector<double>();
    for (std::size_t k = 0; k < a.size(); ++k) CHECK(a[k] == doctest::Approx(b[k]).epsilon(1e-12));
  }
}

TEST_CASE("the gradient by arrays of an affine step of no steps is 0, of one is that of the step") {
  const Tensor a = Tensor::from({0.5, 0.25}).clone(), x0 = Tensor::from({3.0, -2.0}).clone();
  for (const std::int64_t steps : {0, 1}) {
    const Tensor x = tp::scan([&](const Tensor& s) { return a * s; }, x0, steps);
    const auto g = tp::gradient((x * Tensor::from({1.0, 10.0})).sum(), Tensors{a})[0].to_vector<double>();
    CHECK(g[0] == (steps ? 3.0 : 0.0));
    CHECK(g[1] == (steps ? -20.0 : 0.0));
  }
}

TEST_CASE("the gradient by arrays of an affine step: far offsets, and values near the ends of the range") {
  Draws draw;
  // Around places far away: the motion is what counts, not where it is.
  const Tensor places = (1e6 + draw({4})).realize(), start = (places + draw({4})).realize();
  const LossOf far = [&](const Tensors& of, tp::Method method) {
    const Tensor x =
        tp::scan([&](const Tensor& s) { return s - of[0] * (s - places); }, start, 2000, {.method = method});
    return ((x - places) * (x - places)).sum();
  };
  const Tensors rate{draw({4}, 1e-4, 3e-4)};
  const double off = difference(gradients(far, rate).values, quad_gradients(far, rate));
  MESSAGE("far offsets: ", off);
  CHECK(off < (tp::env::optimize() ? 1e-9 : 1e-8));
  for (const double s : {1e-150, 1e150}) {
    const Tensor z0 = (s * draw({4})).realize();
    const LossOf scaled = [&](const Tensors& of, tp::Method method) {
      const Tensor x =
          tp::scan([&](const Tensor& v) { return v - of[0] * v + s * of[1]; }, z0, 2000, {.method = method});
      return (x / s).sum();
    };
    const Tensors of{draw({4}, 1e-4, 3e-4), draw({4})};
    const Gradients g = gradients(scaled, of);
    INFO(g.report);
    CHECK(difference(g.values, quad_gradients(scaled, of)) < 1e-13);
    if (tp::env::optimize()) CHECK(contains(g.report, kSums));
  }
}

TEST_CASE("a gradient of an affine step whose sums cancel goes over the tape, and says so" * needs_passes()) {
  const Tensor c = Tensor::from({1.3, 0.7}).clone();
  const auto by_c = [&](std::int64_t steps, tp::Method method) {  // three on springs, that drift
    const auto [x, v] = tp::scan(
        [&](const Tensor& y, const Tensor& u) {
          const Tensor f = c * (y.slice(0, 1, 3) - y.slice(0, 0, 2));
          const Tensor next = u + 0.01 * (f.pad({{0, 1}}) - f.pad({{1, 0}}));
          return std::tuple{y + 0.01 * next, next};
        },
        std::tuple{Tensor::from({1.0, 0.5, 0.25}).clone(), Tensor::from({1e7, 1e7 + 1, 1e7}).clone()}, steps,
        {.method = method});
    const Tensor d = x.slice(0, 1, 3) - x.slice(0, 0, 2);
    Tensor g = tp::gradient((d * d).sum() + 1e-12 * (x * x).sum() * v.sum(), Tensors{c})[0];
    (void)g.to_vector<double>();
    return g;
  };
  const Tensor g = by_c(2000, tp::Method::Default);
  INFO(tp::explain(g).text);
  CHECK(contains(tp::explain(g).text, "the sums of the gradient cancel in it"));
  const auto got = g.to_vector<double>(), loop = by_c(2000, tp::Method::Loop).to_vector<double>();
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(loop[i]).epsilon(1e-5));
}

TEST_CASE("a gradient of an affine step that needs a tape for which there is no room is an error" *
          needs_passes()) {
  const Tensor a = Tensor::from({0.1, 0.2}).clone();
  const Tensor x =
      tp::scan([&](const Tensor& s) { return s + a * s; }, Tensor::from({1.0, 1.0}), 100'000'000'000);
  CHECK_THROWS_WITH_AS((void)tp::gradient(x.sum(), Tensors{a})[0].to_vector<double>(),
                       doctest::Contains("grows too far for the sums of its gradient"), tp::Error);
}

namespace {

using EnergyOf = std::function<Tensor(const Tensor& q, const Tensor& p, const Tensors& of)>;

// of: what H is made of, and where `by_dt` last of all dt.
LossOf loss_of(const EnergyOf& energy, const Tensor& q, const Tensor& p, const tp::EvolveOptions& options,
               bool by_dt, const tp::SystemOptions& system = {}) {
  return [=](const Tensors& of, tp::Method method) {
    const tp::System of_h([&](const Tensor& x, const Tensor& y) { return energy(x, y, of); }, system);
    tp::EvolveOptions o = options;
    if (by_dt) o.dt = of.back();
    if (o.integrator != tp::Integrator::Exact) o.method = method;
    const tp::State z = of_h.evolve({q, p}, o);
    return measure(z.q, 0.7) + measure(z.p, 0.3);
  };
}

Tensor column(const Tensor& x, std::int64_t i) { return x.slice(1, i, i + 1).reshape({x.shape()[0]}); }
// Charges in a plane [n, 2]: of = fields, masses, traps, and a spring between neighbours.
Tensor magnetic(const Tensor& q, const Tensor& p, const Tensors& of) {
  const Tensor half = 0.5 * of[0];
  const Tensor vx = column(p, 0) + half * column(q, 1), vy = column(p, 1) - half * column(q, 0);
  const auto n = static_cast<std::int64_t>(q.shape()[0]);
  const Tensor d = q.slice(0, 1, n) - q.slice(0, 0, n - 1);
  return (0.5 * (vx * vx + vy * vy) / of[1]).sum() +
         0.5 * (of[2] * (column(q, 0) * column(q, 0) + column(q, 1) * column(q, 1))).sum() +
         0.5 * (of[3] * (d * d).sum());
}
// Each by itself in a frame that turns: of = rates, spring constants, fields.
Tensor rotating(const Tensor& q, const Tensor& p, const Tensors& of) {
  return (0.5 * (column(p, 0) * column(p, 0) + column(p, 1) * column(p, 1)) -
          of[0] * (column(q, 0) * column(p, 1) - column(q, 1) * column(p, 0)) +
          0.5 * of[1] * (column(q, 0) * column(q, 0) + 2.0 * column(q, 1) * column(q, 1)) +
          of[2] * column(q, 0))
      .sum();
}

}  // namespace

TEST_CASE(
    "the gradient by arrays of an H that joins q and p is that of the tape in quad: implicit midpoint") {
  Draws draw;
  const tp::EvolveOptions options{.dt = 0.05, .steps = 400, .integrator = tp::Integrator::ImplicitMidpoint};
  check(
      "charges in fields, a spring between them, and dt",
      loss_of(magnetic, draw({3, 2}), draw({3, 2}), options, true),
      {draw({3}, 0.5, 1), draw({3}, 0.8, 1.5), draw({3}, 0.5, 1), Tensor(0.3).clone(), Tensor(0.05).clone()},
      1e-11);
  check("rotating frames", loss_of(rotating, draw({4, 2}), draw({4, 2}), options, false),
        {draw({4}, 0.1, 0.4), draw({4}, 0.5, 1), draw({4})}, 1e-11);
  check("a coupling of 0",
        loss_of(
            [](const Tensor& q, const Tensor& p, const Tensors& of) {
              return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() + (q * tp::matmul(of[0], p)).sum();
            },
            draw({3}), draw({3}), options, false),
        {Tensor::zeros({3, 3}).clone()}, 1e-11);
}

TEST_CASE("the gradient by arrays of an H that joins q and p is dual to the tangent's jump" *
          needs_passes()) {
  Draws draw;
  for (const tp::Integrator method : {tp::Integrator::Exact, tp::Integrator::ImplicitMidpoint})
    for (const std::int64_t steps : {1, 777, 1'000'000'000}) {
      CAPTURE(steps);
      CAPTURE(tp::name(method));
      const double dt = steps > 1000 ? 1e-6 : 0.05;
      const tp::EvolveOptions options{.dt = dt, .steps = steps, .integrator = method};
      const LossOf charges = loss_of(magnetic, draw({3, 2}), draw({3, 2}), options, true);
      const Tensors of_charges{draw({3}, 0.5, 1), draw({3}, 0.8, 1.5), draw({3}, 0.5, 1), Tensor(0.3).clone(),
                               Tensor(dt).clone()};
      const LossOf frames = loss_of(rotating, draw({4, 2}), draw({4, 2}), options, false);
      const Tensors of_frames{draw({4}, 0.1, 0.4), draw({4}, 0.5, 1), draw({4})};
      for (const bool of_frame : {false, true}) {
        const LossOf& loss = of_frame ? frames : charges;
        const Tensors& of = of_frame ? of_frames : of_charges;
        const Gradients g = gradients(loss, of);
        INFO(g.report);
        if (steps > 1) CHECK(contains(g.report, kSums));
        const double off = dual_difference(loss, of, g);
        MESSAGE(tp::name(method), ", ", steps, " steps: ", off);
        CHECK(off < 1e-11);
      }
    }
}

TEST_CASE(
    "the gradient by arrays of an H that joins q and p: members of an ensemble, numbers, compositions of "
    "solves") {
  Draws draw;
  const EnergyOf each = [](const Tensor& q, const Tensor& p, const Tensors& of) {
    const std::vector<std::int64_t> axis{1};
    const Tensor d = q.slice(1, 1, 3) - q.slice(1, 0, 2);
    return 0.5 * (p * p).sum(axis) + 0.5 * (of[0] * d * d).sum(axis) + (of[1] * q * p.roll(1, 1)).sum(axis);
  };
  const tp::EvolveOptions options{.dt = 0.04, .steps = 300, .integrator = tp::Integrator::ImplicitMidpoint};
  check("members", loss_of(each, draw({5, 3}), draw({5, 3}), options, true, {.batch_axes = 1}),
        {draw({5, 2}, 0.5, 1), draw({3}, 0.1, 0.3), Tensor(0.04).clone()}, 1e-12);
  check("five numbers",
        loss_of(
            [](const Tensor& q, const Tensor& p, const Tensors& of) {
              return of[0] * (p * p).sum() + of[1] * (q * q).sum() + of[2] * (q * p.flip(0)).sum() +
                     of[3] * q.sum() + of[4] * p.sum();
            },
            draw({3}), draw({3}), options, false),
        {draw({}, 0.4, 0.6), draw({}, 0.4, 0.6), draw({}, 0.1, 0.2), draw({}), draw({})}, 1e-12);
  static const tp::Integrator fourth = [] {
    const double a = 1 / (2 - std::cbrt(2.0));
    return tp::add_integrator(
        {"MidpointOf4", 4, {{tp::Part::kSolve, a}, {tp::Part::kSolve, 1 - 2 * a}, {tp::Part::kSolve, a}}});
  }();
  tp::EvolveOptions composed = options;
  composed.integrator = fourth;
  composed.steps = 150;
  check(
      "a composition", loss_of(magnetic, draw({2, 2}), draw({2, 2}), composed, true),
      {draw({2}, 0.5, 1), draw({2}, 0.8, 1.5), draw({2}, 0.5, 1), Tensor(0.3).clone(), Tensor(0.04).clone()},
      1e-12);
}

TEST_CASE("the gradient by the field of cyclotrons after 10^9 steps, in closed form" * needs_passes()) {
  // H = (p - A)^2 / 2, A = B (-y, x) / 2: at q = 0 with velocity v along x, x = v sin(B t) / B, y = v (cos(B t) - 1) / B.
  const std::vector<double> b{0.7, 1.3, 2.1}, v{1.0, -0.5, 2.0};
  const Tensor field = Tensor::from(b).clone();
  const double dt = 1e-7;
  const std::int64_t steps = 1'000'000'000;
  const tp::System charges([&](const Tensor& q, const Tensor& p) {
    const Tensor half = 0.5 * field;
    const Tensor vx = column(p, 0) + half * column(q, 1), vy = column(p, 1) - half * column(q, 0);
    return 0.5 * (vx * vx + vy * vy).sum();
  });
  const Tensor p = tp::stack({Tensor::from(v), Tensor::zeros({3})}, 1);
  const tp::State z = charges.evolve({Tensor::zeros({3, 2}), p},
                                     {.dt = dt, .steps = steps, .integrator = tp::Integrator::Exact});
  const auto g = tp::gradient(column(z.q, 0).sum(), Tensors{field})[0].to_vector<double>();
  const double t = dt * static_cast<double>(steps);
  for (std::size_t i = 0; i < b.size(); ++i)
    CHECK(g[i] == doctest::Approx(v[i] * (t * std::cos(b[i] * t) / b[i] - std::sin(b[i] * t) / b[i] / b[i]))
                      .epsilon(1e-12));
}
