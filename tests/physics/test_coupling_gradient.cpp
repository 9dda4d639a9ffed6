// The gradient of a jump by arrays of H (masses, couplings, fields): sums over pairs of modes, in place of a tape.
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

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
using EnergyOf = std::function<Tensor(const Tensor& q, const Tensor& p, const Tensors& of)>;

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

struct Case {
  EnergyOf energy;
  Tensors of;  // what H is made of, by which the gradient is asked for
  tp::Shape shape;
  tp::EvolveOptions options;
  tp::SystemOptions system = {};
};

struct Gradients {
  std::vector<std::vector<double>> values;  // by each of `of`, then by q
  std::string report;
};

Tensor loss(const Case& c, const Tensors& of, const Tensor& q, const Tensor& p, tp::Method method) {
  const tp::System system([&](const Tensor& x, const Tensor& y) { return c.energy(x, y, of); }, c.system);
  tp::EvolveOptions options = c.options;
  options.method = method;
  const tp::State z = system.evolve({q, p}, options);
  Draws draw{std::mt19937_64(99)};
  return (draw(c.shape) * z.q * z.q).sum() + (draw(c.shape) * z.p).sum();
}

Gradients gradients(const Case& c, tp::Method method, bool by_state = true) {
  Draws draw{std::mt19937_64(3)};
  const Tensor q = draw(c.shape), p = draw(c.shape);
  Tensors by = c.of;
  if (by_state) by.push_back(q);
  Gradients out;
  const Tensors g = tp::gradient(loss(c, c.of, q, p, method), by);
  for (const Tensor& x : g) out.values.push_back(x.to_vector<double>());
  out.report = tp::explain(g[0]).text;
  return out;
}

// The largest difference, relative to the largest entry by each array.
double difference(const Gradients& a, const Gradients& b) {
  double worst = 0;
  for (std::size_t i = 0; i < b.values.size(); ++i) {
    double off = 0, size = 1e-300;
    for (std::size_t k = 0; k < b.values[i].size(); ++k) {
      const double d = std::fabs(a.values[i][k] - b.values[i][k]);
      off = std::isnan(d) ? d : std::max(off, d);
      size = std::max(size, std::fabs(b.values[i][k]));
    }
    worst = std::isnan(off) ? off : std::max(worst, off / size);
  }
  return worst;
}

const char* const kSums = "the gradient's sums over the steps";

Case chain(long n, tp::EvolveOptions options) {
  Draws draw;
  const EnergyOf energy = [n](const Tensor& q, const Tensor& p, const Tensors& of) {
    const Tensor d = q.slice(0, 1, n) - q.slice(0, 0, n - 1);
    return 0.5 * (p * p / of[0]).sum() + 0.5 * (of[1] * d * d).sum() + (of[2] * q).sum() +
           0.5 * of[3] * (q * q).sum() + 0.1 * (of[4] * p).sum();
  };
  return {energy,
          {draw({n}, 0.5, 2), draw({n - 1}, 0.5, 2), draw({n}), draw({}, 0.5, 1), draw({n})},
          {n},
          options};
}

}  // namespace

TEST_CASE("the gradient by masses, springs and fields is that of the tape, for every method with a loop") {
  for (const tp::Integrator method :
       {tp::Integrator::LeapfrogKDK, tp::Integrator::LeapfrogDKD, tp::Integrator::Yoshida4,
        tp::Integrator::BlanesMoan4, tp::Integrator::ImplicitMidpoint}) {
    const Case c = chain(5, {.dt = 0.05, .steps = 1000, .integrator = method});
    const Gradients sums = gradients(c, tp::Method::Default), tape = gradients(c, tp::Method::Loop);
    CAPTURE(tp::row_of(method).name);
    CHECK(difference(sums, tape) < 1e-11);
    if (tp::env::optimize()) CHECK(contains(sums.report, kSums));
    CHECK(contains(tape.report, "Method::Loop asks for the loop"));
  }
}

// Forward mode goes another way: the state and its tangent are one evolution.
TEST_CASE("the gradient by masses, springs and fields is dual to the tangent, whose evolution is another" *
          needs_passes()) {
  for (const tp::Integrator method : {tp::Integrator::LeapfrogKDK, tp::Integrator::Yoshida8,
                                      tp::Integrator::ImplicitMidpoint, tp::Integrator::Exact}) {
    const Case c = chain(3, {.dt = 0.05, .steps = 20'000, .integrator = method});
    CAPTURE(tp::row_of(method).name);
    const Gradients sums = gradients(c, tp::Method::Default, false);
    INFO(sums.report);
    CHECK(contains(sums.report, kSums));
    CHECK(contains(sums.report, "error    the gradient ~"));
    Draws draw{std::mt19937_64(3)};
    const Tensor q = draw(c.shape), p = draw(c.shape);
    for (std::size_t i = 0; i < c.of.size(); ++i) {
      CAPTURE(i);
      Draws directions{std::mt19937_64(1000 + i)};
      const Tensor along = directions(c.of[i].shape());
      const auto end = [&](const Tensor& x) {
        Tensors of = c.of;
        of[i] = x;
        return loss(c, of, q, p, tp::Method::Default);
      };
      const double forward = tp::jvp(end, {c.of[i]}, {along}).second.item<double>();
      double back = 0, size = 0;
      const auto direction = along.to_vector<double>();
      for (std::size_t k = 0; k < direction.size(); ++k) {
        back += sums.values[i][k] * direction[k];
        size += std::fabs(sums.values[i][k] * direction[k]);
      }
      CHECK(std::fabs(forward - back) < 1e-11 * size);
    }
  }
}

TEST_CASE("the gradient by arrays of H: structures of it, against the tape") {
  Draws draw;
  struct Row {
    std::string name;
    Case c;
  };
  const tp::EvolveOptions options{.dt = 0.02, .steps = 2000};
  const Tensor kinds = Tensor::from(std::vector<std::int64_t>{0, 1, 2, 1, 0, 1});
  std::vector<Row> rows;
  rows.push_back({"singles",
                  {[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     return 0.5 * (of[0] * p * p).sum() + 0.5 * (of[1] * q * q).sum();
                   },
                   {draw({3, 4}, 0.5, 2), draw({4}, 0.5, 2)},
                   {3, 4},
                   options}});
  rows.push_back({"a matrix that is not symmetric",
                  {[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     return 0.5 * (p * p).sum() + (q * q).sum() + 0.3 * (q * tp::matmul(of[0], q)).sum();
                   },
                   {draw({6, 6})},
                   {6},
                   options}});
  rows.push_back({"members",
                  {[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     const Tensor d = q.slice(1, 1, 3) - q.slice(1, 0, 2);
                     return 0.5 * (p * p / of[0]).sum(std::vector<std::int64_t>{1}) +
                            0.5 * (of[1] * d * d).sum(std::vector<std::int64_t>{1});
                   },
                   {draw({4, 3}, 0.5, 2), draw({4, 2}, 0.5, 2)},
                   {4, 3},
                   options,
                   {.batch_axes = 1}}});
  rows.push_back({"kinds of springs",
                  {[kinds](const Tensor& q, const Tensor& p, const Tensors& of) {
                     return 0.5 * (p * p).sum() + 0.5 * (tp::gather(of[0], kinds) * q * q).sum() +
                            0.1 * q.sum() * q.sum();
                   },
                   {draw({3}, 0.5, 2)},
                   {6},
                   options}});
  rows.push_back({"one array twice, through a function",
                  {[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     return 0.5 * (p * p / tp::exp(of[0])).sum() + 0.5 * (tp::exp(of[0]) * q * q).sum() +
                            (of[0] * q).sum();
                   },
                   {draw({5})},
                   {5},
                   options}});
  rows.push_back({"five numbers",
                  {[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     const Tensor d = q.slice(0, 1, 4) - q.slice(0, 0, 3);
                     return of[0] * (p * p).sum() + of[1] * (q * q).sum() + of[2] * (d * d).sum() +
                            of[3] * q.sum() + of[4] * p.sum();
                   },
                   {draw({}, 1, 2), draw({}, 1, 2), draw({}, 1, 2), draw({}), draw({})},
                   {4},
                   options}});
  rows.push_back({"backward",
                  {[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     return 0.5 * (p * p).sum() + 0.5 * (of[0] * q * q).sum() + 0.2 * q.sum() * q.sum();
                   },
                   {draw({5}, 0.5, 2)},
                   {5},
                   {.dt = -0.02, .steps = 2000}}});
  rows.push_back({"free particles",
                  {[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     const Tensor d = q.slice(0, 1, 4) - q.slice(0, 0, 3);
                     return 0.5 * (p * p / of[0]).sum() + 0.5 * (of[1] * d * d).sum();
                   },
                   {draw({4}, 0.5, 2), draw({3}, 0.5, 2)},
                   {4},
                   options}});
  rows.push_back({"growing",
                  {[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     return 0.5 * (p * p).sum() - 0.05 * (of[0] * q * q).sum() + 0.1 * q.sum() * q.sum();
                   },
                   {draw({4}, 0.5, 2)},
                   {4},
                   options}});
  for (const Row& r : rows) {
    const Gradients sums = gradients(r.c, tp::Method::Default), tape = gradients(r.c, tp::Method::Loop);
    CAPTURE(r.name);
    INFO(sums.report);
    CHECK(difference(sums, tape) < 1e-11);
    if (tp::env::optimize()) CHECK(contains(sums.report, kSums));
  }
}

TEST_CASE(
    "the gradient by masses that are a matrix, and by what joins q and p for other values, against the "
    "tape") {
  Draws draw;
  // p^T M^-1 p / 2 of a matrix that is not diagonal, a field and a drift beside it.
  const Case coupled{[](const Tensor& q, const Tensor& p, const Tensors& of) {
                       const Tensor m = tp::matmul(of[0], of[0].transpose()) + Tensor::eye(4);
                       const Tensor d = q.slice(0, 1, 4) - q.slice(0, 0, 3);
                       return 0.5 * (p * tp::matmul(m, p)).sum() + 0.5 * (of[1] * q * q).sum() +
                              0.3 * (d * d).sum() + (of[2] * q).sum() + (of[3] * p).sum();
                     },
                     {draw({4, 4}), draw({4}, 0.5, 2), draw({4}), draw({4})},
                     {4},
                     {.dt = 0.02, .steps = 2000}};
  const Case pairs{[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     return (of[0] * p * p).sum(1) + (of[1] * p.select(1, 0) * p.select(1, 1)) +
                            0.5 * (of[2] * q * q).sum(1);
                   },
                   {draw({3, 2}, 0.5, 1), draw({3}, -0.3, 0.3), draw({3, 2}, 0.5, 2)},
                   {3, 2},
                   {.dt = 0.02, .steps = 2000},
                   {.batch_axes = 1}};
  for (const tp::Integrator method :
       {tp::Integrator::LeapfrogKDK, tp::Integrator::LeapfrogDKD, tp::Integrator::Yoshida4,
        tp::Integrator::BlanesMoan4, tp::Integrator::ImplicitMidpoint}) {
    for (Case c : {coupled, pairs}) {
      c.options.integrator = method;
      const Gradients sums = gradients(c, tp::Method::Default), tape = gradients(c, tp::Method::Loop);
      CAPTURE(tp::row_of(method).name);
      INFO(sums.report);
      CHECK(difference(sums, tape) < 1e-11);
      if (tp::env::optimize()) CHECK(contains(sums.report, kSums));
    }
  }
  // A number that is 0 now makes H separable; the sums are those of a step that joins q and p.
  const Tensor nothing(0.0);
  const Case field{[nothing](const Tensor& q, const Tensor& p, const Tensors& of) {
                     return 0.5 * (p * p).sum() + 0.5 * (of[0] * q * q).sum() +
                            nothing * (q.select(0, 0) * p.select(0, 1) - q.select(0, 1) * p.select(0, 0));
                   },
                   {draw({2}, 0.5, 2)},
                   {2},
                   {.dt = 0.02, .steps = 2000, .integrator = tp::Integrator::ImplicitMidpoint}};
  const Gradients sums = gradients(field, tp::Method::Default), tape = gradients(field, tp::Method::Loop);
  INFO(sums.report);
  CHECK(difference(sums, tape) < 1e-11);
  if (tp::env::optimize()) CHECK(contains(sums.report, kSums));
}

TEST_CASE("the gradient by arrays of H: where there are no sums it goes over the tape, and says why" *
          needs_passes()) {
  Draws draw;
  const tp::EvolveOptions options{.dt = 0.02, .steps = 3000};
  struct Row {
    std::string why;
    Case c;
  };
  std::vector<Row> rows;
  const Tensor walls = Tensor::from({1.0, 0.0, 0.5, 2.0}).clone();  // one of infinite mass
  rows.push_back({"no positive diagonal",
                  {[walls](const Tensor& q, const Tensor& p, const Tensors& of) {
                     const Tensor d = q.slice(0, 1, 4) - q.slice(0, 0, 3);
                     return 0.5 * (walls * p * p).sum() + 0.5 * (of[0] * d * d).sum();
                   },
                   {draw({3}, 0.5, 2)},
                   {4},
                   options}});
  rows.push_back({"grows too far",
                  {[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     return 0.5 * (p * p).sum() - 10.0 * (of[0] * q * q).sum();
                   },
                   {draw({3}, 0.9, 1.1)},
                   {3},
                   {.dt = 0.02, .steps = 3250}}});
  rows.push_back({"the loop is cheaper",
                  {[](const Tensor& q, const Tensor& p, const Tensors& of) {
                     return 0.5 * (p * p).sum() + 0.5 * (of[0] * q * q).sum() + 0.1 * q.sum() * q.sum();
                   },
                   {draw({1500}, 0.5, 2)},
                   {1500},
                   {.dt = 0.02, .steps = 2}}});
  for (const Row& r : rows) {
    const Gradients sums = gradients(r.c, tp::Method::Default, false),
                    tape = gradients(r.c, tp::Method::Loop, false);
    CAPTURE(r.why);
    INFO(sums.report);
    CHECK(difference(sums, tape) < 1e-9);
    CHECK(contains(sums.report, r.why));
    CHECK(contains(sums.report, "backward, over a tape of its states"));
    CHECK_FALSE(contains(sums.report, kSums));
  }
  const Tensor k = draw({2}, 0.5, 2), q = draw({2});
  const tp::System magnetic([&](const Tensor& x, const Tensor& y) {
    return 0.5 * (y * y).sum() + (y * x.flip(0)).sum() + 0.5 * (k * x * x).sum();
  });
  const auto by_k = [&](tp::Method method) {
    const tp::State z = magnetic.evolve(
        {q, q}, {.dt = 0.02, .steps = 300, .integrator = tp::Integrator::ImplicitMidpoint, .method = method});
    return tp::gradient(z.q.sum(), Tensors{k})[0].to_vector<double>();
  };
  const auto a = by_k(tp::Method::Default), b = by_k(tp::Method::Loop);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-10));
}

TEST_CASE(
    "the gradient by arrays of H of no steps is 0; a state that is not finite gives what the tape gives") {
  Draws draw;
  Case c{[](const Tensor& q, const Tensor& p, const Tensors& of) {
           return 0.5 * (p * p / of[0]).sum() + 0.5 * (of[1] * q * q).sum() + 0.1 * q.sum() * q.sum();
         },
         {draw({4}, 0.5, 2), draw({4}, 0.5, 2)},
         {4},
         {.dt = 0.1, .steps = 0}};
  for (const auto& values :
       {gradients(c, tp::Method::Default).values[0], gradients(c, tp::Method::Default).values[1]})
    for (const double x : values) CHECK(x == 0);
  const Tensor k = draw({3}, 1, 2), q = Tensor::from({1.0, std::nan(""), 2.0}).clone();
  const tp::System springs(
      [&](const Tensor& x, const Tensor& y) { return 0.5 * (y * y).sum() + 0.5 * (k * x * x).sum(); });
  const tp::State z = springs.evolve({q, tp::zeros_like(q)}, {.dt = 0.1, .steps = 5000});
  const auto g = tp::gradient(z.q.sum(), Tensors{k})[0].to_vector<double>();
  CHECK(std::isfinite(g[0]));
  CHECK(std::isnan(g[1]));
  CHECK(std::isfinite(g[2]));
}

TEST_CASE("a fit of springs to where a chain is after 10^8 steps converges" * needs_passes()) {
  constexpr long kN = 6;
  Draws draw;
  const Tensor q = draw({kN}), p = draw({kN}), truth = draw({kN}, 0.9, 1.1);
  const auto end = [&](const Tensor& k, double t) {
    const tp::System system([&](const Tensor& x, const Tensor& y) {
      const Tensor d = x.slice(0, 1, kN) - x.slice(0, 0, kN - 1);
      return 0.5 * (y * y).sum() + 0.5 * (k * x * x).sum() + 0.25 * (d * d).sum();
    });
    return system.evolve({q, p}, {.dt = t * 1e-8, .steps = 100'000'000});
  };
  // Gauss-Newton is not needed: short times, and the loss is nearly quadratic.
  Tensor k = (truth + 0.05 * draw({kN})).clone();
  const tp::State goal = end(truth, 3.0);
  const auto loss_at = [&](const Tensor& x) {
    const tp::State z = end(x, 3.0);
    return ((z.q - goal.q) * (z.q - goal.q)).sum() + ((z.p - goal.p) * (z.p - goal.p)).sum();
  };
  const double before = loss_at(k).item<double>();
  double after = before;
  for (int i = 0; i < 60; ++i) {
    const Tensor l = loss_at(k);
    const Tensor g = tp::gradient(l, Tensors{k})[0];
    k = (k - 0.1 * g).realize();
    after = l.item<double>();
  }
  CHECK(after < 0.2 * before);
}

TEST_CASE("the gradient by couplings that are 0 now counts the pairs that they would couple") {
  Draws draw;
  const Tensor k = draw({4}, 0.5, 2);
  const tp::EvolveOptions options{.dt = 0.02, .steps = 2000};
  const auto dense = [=](const Tensor& q, const Tensor& p, const Tensors& of) {
    return 0.5 * (p * p).sum() + 0.5 * (k * q * q).sum() + 0.5 * (q * tp::matmul(of[0], q)).sum();
  };
  const auto masses = [=](const Tensor& q, const Tensor& p, const Tensors& of) {
    return 0.5 * (p * p).sum() + 0.5 * (k * q * q).sum() + 0.5 * (p * tp::matmul(of[0], p)).sum();
  };
  const auto springs = [=](const Tensor& q, const Tensor& p, const Tensors& of) {
    const Tensor d = q.slice(0, 1, 4) - q.slice(0, 0, 3);
    return 0.5 * (p * p).sum() + 0.5 * (k * q * q).sum() + 0.5 * (of[0] * d * d).sum();
  };
  const auto number = [=](const Tensor& q, const Tensor& p, const Tensors& of) {
    return 0.5 * (p * p).sum() + 0.5 * (k * q * q).sum() + (of[0] * q * q.flip(0)).sum();
  };
  const std::vector<Case> cases{{dense, {Tensor::zeros({4, 4}).clone()}, {4}, options},
                                {masses, {Tensor::zeros({4, 4}).clone()}, {4}, options},
                                {springs, {Tensor::from({1.0, 0.0, 1.0}).clone()}, {4}, options},
                                {number, {Tensor(0.0).clone()}, {4}, options}};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Gradients sums = gradients(cases[i], tp::Method::Default),
                    tape = gradients(cases[i], tp::Method::Loop);
    CAPTURE(i);
    CHECK(difference(sums, tape) < 1e-11);
    if (tp::env::optimize()) CHECK(contains(sums.report, kSums));
  }
}

TEST_CASE("the gradient by a number at a value for which alone H is quadratic, or separable") {
  const Tensor q = Tensor::from({0.5, -0.3}).clone(), p = Tensor::from({0.1, 0.7}).clone();
  const auto at = [&](const std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)>& term,
                      double a, tp::Integrator method) {
    const auto end = [&](tp::Method by) {
      return tp::grad([&](const Tensor& x) {
               const tp::System system([&](const Tensor& qn, const Tensor& pn) {
                 return 0.5 * (pn * pn).sum() + 0.5 * (qn * qn).sum() + term(x, qn, pn).sum();
               });
               return system.evolve({q, p}, {.dt = 0.02, .steps = 2000, .integrator = method, .method = by})
                   .q.sum();
             })(Tensor(a))
          .item<double>();
    };
    CHECK(end(tp::Method::Default) == doctest::Approx(end(tp::Method::Loop)).epsilon(1e-10));
  };
  const auto leapfrog = tp::Integrator::LeapfrogKDK;
  at([](const Tensor& a, const Tensor& x, const Tensor&) { return a * x * x * x * x; }, 0.0, leapfrog);
  at([](const Tensor& a, const Tensor& x, const Tensor&) { return (a - 1.0) * x * x * x; }, 1.0, leapfrog);
  at([](const Tensor& a, const Tensor& x, const Tensor& y) { return a * x * y; }, 0.0,
     tp::Integrator::ImplicitMidpoint);
}

TEST_CASE(
    "the gradient by arrays of H: far offsets, rounding that is meant, values near the ends of the range") {
  Draws draw;
  const tp::EvolveOptions options{.dt = 0.02, .steps = 2000};
  // Springs around places far away: the motion is what counts, not where it is.
  const Tensor places = (1e6 + draw({4})).realize(), k = draw({4}, 0.5, 2),
               start = (places + draw({4})).realize();
  const auto far = [&](tp::Method method) {
    const tp::System system([&](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() + 0.5 * (k * (q - places) * (q - places)).sum();
    });
    tp::EvolveOptions o = options;
    o.method = method;
    const tp::State z = system.evolve({start, tp::zeros_like(start)}, o);
    return tp::gradient(((z.q - places) * (z.q - places)).sum(), Tensors{k})[0].to_vector<double>();
  };
  const auto a = far(tp::Method::Default), b = far(tp::Method::Loop);
  for (std::size_t i = 0; i < a.size(); ++i)
    CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-7));  // the loop's rounding
  const Case rounds{[](const Tensor& q, const Tensor& p, const Tensors& of) {
                      const Tensor r = (q + 4e14) - 4e14;
                      return 0.5 * (p * p).sum() + 0.5 * (of[0] * r * r).sum();
                    },
                    {draw({3}, 0.5, 2)},
                    {3},
                    options};
  CHECK(difference(gradients(rounds, tp::Method::Default), gradients(rounds, tp::Method::Loop)) < 1e-12);
  for (const double s : {1e-150, 1e120}) {
    const Tensor ks = (s * k).realize(), q = (s * draw({4})).realize();
    const auto scaled = [&](tp::Method method) {
      const tp::System system([&](const Tensor& x, const Tensor& y) {
        return 0.5 / s * (y * y).sum() + 0.5 * (ks * x * x).sum();
      });
      tp::EvolveOptions o = options;
      o.method = method;
      return tp::gradient(system.evolve({q, tp::zeros_like(q)}, o).q.sum(), Tensors{ks})[0]
          .to_vector<double>();
    };
    const auto c = scaled(tp::Method::Default), d = scaled(tp::Method::Loop);
    for (std::size_t i = 0; i < c.size(); ++i) CHECK(c[i] == doctest::Approx(d[i]).epsilon(1e-11));
  }
}

TEST_CASE("the gradient of a lattice by a number: a lattice with its tangent, and the sum over its springs" *
          needs_passes()) {
  constexpr std::int64_t kSites = 600;
  for (const tp::Integrator integrator :
       {tp::Integrator::LeapfrogKDK, tp::Integrator::LeapfrogDKD, tp::Integrator::Yoshida4,
        tp::Integrator::ImplicitMidpoint, tp::Integrator::Exact})
    for (const std::int64_t steps : {std::int64_t{4000}, std::int64_t{100'000'000}}) {
      CAPTURE(static_cast<int>(integrator));
      CAPTURE(steps);
      const auto by = [&](const Tensor& k) {
        const tp::System ring([&](const Tensor& q, const Tensor& p) {
          const Tensor d = q - q.roll(1, 0);
          return 0.5 * (p * p).sum() + 0.5 * (k * d * d).sum() + 0.2 * (q * q).sum();
        });
        const tp::State z =
            ring.evolve({cos(Tensor::arange(static_cast<double>(kSites))), Tensor::ones({kSites})},
                        {.dt = 0.01, .steps = steps, .integrator = integrator});
        return tp::gradient((z.q * z.q * z.p).sum(), Tensors{k})[0].sum().item<double>();
      };
      const double one = by(Tensor(0.9).clone()), all = by(Tensor::full({kSites}, 0.9).clone());
      CHECK(one == doctest::Approx(all).epsilon(1e-12));
    }
}

TEST_CASE("a gradient whose sums cancel, and whose tape has no room, is an error and not a number" *
          needs_passes()) {
  const Tensor c = Tensor(1.3).clone();
  const tp::System dimer([&](const Tensor& q, const Tensor& p) {  // drifts by 10^7 of its size
    const Tensor d = q.slice(0, 1, 2) - q.slice(0, 0, 1);
    return 0.5 * (p * p / Tensor::from({1.0, 3.0})).sum() + 0.5 * c * (d * d).sum();
  });
  const tp::State z = dimer.evolve({Tensor::from({1.0, 0.5}).clone(), Tensor::from({1.0, 3.0}).clone()},
                                   {.dt = 0.01, .steps = 100'000'000'000});
  CHECK_THROWS_WITH_AS((void)tp::gradient((z.q * z.q).sum(), Tensors{c})[0].item<double>(),
                       doctest::Contains("the sums of the gradient cancel in it"), tp::Error);
}
