// What Method::Auto proposes where the loop stays: by the curvature of each term, and not where that is not known.
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;

namespace {

std::string report(const tp::System& s, const tp::State& z, double dt, tp::Method method = tp::Method::Auto) {
  return tp::explain(s.evolve(z, {.dt = dt, .steps = 100, .method = method}).q).text;
}

// A stiff spring on each site and a soft pull between all.
tp::System stiff(double k) {
  return tp::System(
      {{"springs", [k](const Tensor& q,
                       const Tensor& p) { return 0.5 * (p * p / 2.0).sum() + 0.5 * k * (q * q).sum(); }},
       {"pairs", [](const Tensor& q, const Tensor&) {
          const Tensor d = q.reshape({8, 1}) - q.reshape({1, 8});
          return 0.05 * (1.0 / tp::sqrt(d * d + 1.0)).sum();
        }}});
}
const tp::State kEight{0.1 * tp::sin(Tensor::arange(8.0)), Tensor::zeros({8})};

tp::System kepler(double softening = 0) {
  return tp::System([softening](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() - 1.0 / tp::sqrt((q * q).sum() + softening);
  });
}
// At the aphelion of an ellipse with the semi-major axis 1.
tp::State aphelion(double e) {
  return {Tensor::from({1 + e, 0.0}), Tensor::from({0.0, std::sqrt((1 - e) / (1 + e))})};
}

}  // namespace

TEST_CASE(
    "Auto proposes Split and RESPA for a stiff quadratic term, with their steps, and keeps the answer") {
  // omega^2 of the springs is 2e4 / 2.
  const std::string text = report(stiff(2e4), kEight, 0.01);
  CAPTURE(text);
  CHECK(contains(text,
                 "offers   Method::Split: the term \"springs\" is quadratic and stiff, omega_max dt = 1,"));
  CHECK(contains(
      text, "offers   RESPA: the largest omega^2 of each term at the start, \"springs\" 1e+04, \"pairs\" "));
  CHECK(contains(text, ".dt = 0.02, .levels = {{\"springs\", 2}, {\"pairs\", 1}}"));
  // Shorter steps leave room for more of them; a quarter of a period of the springs is the limit.
  CHECK(contains(report(stiff(2e4), kEight, 0.001),
                 ".dt = 0.025, .levels = {{\"springs\", 25}, {\"pairs\", 1}}"));
  const auto end = [&](tp::Method m) {
    return joined(stiff(2e4).evolve(kEight, {.dt = 0.01, .steps = 100, .method = m}));
  };
  CHECK(end(tp::Method::Auto) == end(tp::Method::Default));
  CHECK_FALSE(contains(report(stiff(2e4), kEight, 0.01, tp::Method::Default), "offers"));
}

TEST_CASE("what Auto proposes is true: as long a step by Split has the error that leapfrog has by its own") {
  const tp::System s = stiff(2e4);
  const tp::State z{kEight.q, 0.3 * tp::cos(Tensor::arange(8.0))};
  const auto truth = joined(s.evolve(
      z, {.dt = 1e-4, .steps = 10'000, .integrator = tp::Integrator::Yoshida6, .method = tp::Method::Loop}));
  const auto error = [&](const tp::EvolveOptions& o) {
    const auto end = joined(s.evolve(z, o));
    double d = 0;
    for (std::size_t i = 0; i < 8; ++i) d = std::max(d, std::fabs(end[i] - truth[i]));
    return d;
  };
  const double leapfrog = error({.dt = 0.005, .steps = 200, .method = tp::Method::Auto}),
               by_split = error({.dt = 0.05, .steps = 20, .method = tp::Method::Split});
  CAPTURE(leapfrog);
  CAPTURE(by_split);
  CHECK(by_split < leapfrog);
}

TEST_CASE("Auto proposes nothing where no term is stiffer, nothing is known, or the loop does not stay") {
  CHECK(contains(report(stiff(0.4), kEight, 0.01),
                 "offers   no other method is proposed: no term is much stiffer"));
  // A state that has to be computed first.
  const tp::State later = stiff(2e4).evolve(kEight, {.dt = 0.01, .steps = 10});
  CHECK(
      contains(report(stiff(2e4), later, 0.01), "no other method is proposed: the state is not known here"));
  const tp::System joint([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 5e3 * (q * q).sum() + tp::cos(q).sum() + (q * p).sum();
  });
  const std::string text = tp::explain(joint
                                           .evolve(kEight, {.dt = 0.001,
                                                            .steps = 10,
                                                            .integrator = tp::Integrator::ImplicitMidpoint,
                                                            .method = tp::Method::Auto})
                                           .q)
                               .text;
  CHECK_FALSE(contains(text, "Method::Split"));
  const tp::State wide{Tensor::zeros({200}), Tensor::zeros({200})};
  const tp::System many([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 5e3 * (q * q).sum() + tp::cos(q).sum();
  });
  CHECK(contains(report(many, wide, 0.001), "it looks at 1 to 128 coordinates, here are 200"));
  const tp::System harmonic(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 5e3 * (q * q).sum(); });
  CHECK_FALSE(contains(report(harmonic, kEight, 0.001), "propose"));
}

TEST_CASE("Auto proposes TimeWarp for an eccentric orbit under gravity alone") {
  const std::string text = report(kepler(), aphelion(0.9), 0.001);
  CAPTURE(text);
  CHECK(contains(text, "offers   Method::TimeWarp: V is homogeneous of degree -1"));
  CHECK(contains(text, "an eccentricity of at least 0.9,"));
  CHECK_FALSE(contains(report(kepler(), aphelion(0.2), 0.001), "TimeWarp"));
  CHECK_FALSE(contains(report(kepler(0.01), aphelion(0.9), 0.001), "TimeWarp"));
  // Not bound.
  const tp::State fly{Tensor::from({1.0, 0.0}), Tensor::from({0.0, 3.0})};
  CHECK_FALSE(contains(report(kepler(), fly, 0.001), "TimeWarp"));
}
