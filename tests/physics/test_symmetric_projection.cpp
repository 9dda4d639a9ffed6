// The symmetric projection: kept to rounding as the plain one, and taken back by steps of -dt.
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"
#include "support/env.hpp"
#include "tinyphys/error.hpp"

namespace tp = tinyphys;
using tp::Conserve;
using tp::Conserved;
using tp::Tensor;
using namespace tp::testing;

namespace {

constexpr double kEps = 0x1p-53;

tp::System henon_heiles() {
  return tp::System([](const Tensor& q, const Tensor& p) {
    const Tensor x = q[0], y = q[1];
    return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() + x * x * y - y * y * y / 3.0;
  });
}
const tp::State kStart{Tensor::from({0.1, -0.15}), Tensor::from({0.2, 0.13})};  // a regular motion

tp::System kepler() {
  return tp::System([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() - (1.0 / tp::sqrt((q * q).sum({1}))).sum();
  });
}
tp::State perihelion(double e) {
  return {Tensor::from({{1 - e, 0.0}}), Tensor::from({{0.0, std::sqrt((1 + e) / (1 - e))}})};
}

tp::State steps(const tp::System& s, const tp::State& z, double dt, std::int64_t n, const Conserve& c,
                tp::Integrator integrator = tp::Integrator::LeapfrogKDK) {
  return s.evolve(z, {.dt = dt, .steps = static_cast<double>(n), .integrator = integrator, .conserve = c});
}

double distance(const tp::State& a, const tp::State& b) {
  const auto x = joined(a), y = joined(b);
  double d = 0;
  for (std::size_t i = 0; i < x.size(); ++i) d = std::max(d, std::fabs(x[i] - y[i]));
  return d;
}

std::string said(const std::function<void()>& f) {
  try {
    f();
  } catch (const tp::Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("a symmetric projection is taken back by steps of -dt, a plain one is not") {
  for (const auto integrator : {tp::Integrator::LeapfrogKDK, tp::Integrator::Yoshida4}) {
    const double dt = integrator == tp::Integrator::Yoshida4 ? 0.3 : 0.1;
    const auto off = [&](const Conserve& c) {
      const tp::System s = henon_heiles();
      return distance(steps(s, steps(s, kStart, dt, 1000, c, integrator), -dt, 1000, c, integrator), kStart);
    };
    const double plain = off({Conserved::Energy}), symmetric = off(Conserve({Conserved::Energy}).symmetric());
    CAPTURE(plain);
    CAPTURE(symmetric);
    CHECK(symmetric < 1e-12);
    CHECK(plain > 1e4 * symmetric);
  }
  const Conserve both{Conserved::Energy, Conserved::AngularMomentum};
  const auto off = [&](const Conserve& c) {
    const tp::State start = perihelion(0.3);
    return distance(steps(kepler(), steps(kepler(), start, 0.03, 500, c), -0.03, 500, c), start);
  };
  CHECK(off(both.symmetric()) < 1e-11);
  CHECK(off(both) > 1e-9);
}

TEST_CASE(
    "a symmetric projection keeps the energy to rounding for 10^5 steps, and is of the integrator's order") {
  const tp::System s = henon_heiles();
  const std::int64_t many =
      tp::env::optimize() ? 100'000 : 1000;  // a kernel for each operation takes its time
  const double e0 = s.energy(kStart).item<double>();
  const tp::State end = steps(s, kStart, 0.1, many, Conserve({Conserved::Energy}).symmetric());
  const auto z = joined(end);
  const double size = 0.5 * (z[0] * z[0] + z[1] * z[1] + z[2] * z[2] + z[3] * z[3]) +
                      std::fabs(z[0] * z[0] * z[1]) + std::fabs(z[1] * z[1] * z[1] / 3);
  const double miss = std::fabs(s.energy(end).item<double>() - e0);
  CAPTURE(miss);
  CHECK(miss <= 8 * kEps * size);
  CHECK(std::fabs(s.energy(steps(s, kStart, 0.1, many, {})).item<double>() - e0) > 1e-6);
  const std::string text = tp::explain(end.q).text;
  CAPTURE(text);
  CHECK(contains(text, "LeapfrogKDK symmetrically projected on energy, "));
  CHECK(contains(text, "symmetric projection (class method): off energy before each step"));
  CHECK(contains(text, "Newton iterations in all"));
  CHECK(contains(text, "steps of -dt take it back"));
  const tp::State truth =
      s.evolve(kStart, {.dt = 1.0 / 64, .steps = 256, .integrator = tp::Integrator::Yoshida8});
  const auto error = [&](std::int64_t n) {
    return distance(
        steps(s, kStart, 4.0 / static_cast<double>(n), n, Conserve({Conserved::Energy}).symmetric()), truth);
  };
  CHECK(std::log2(error(40) / error(80)) == doctest::Approx(2).epsilon(0.05));
}

TEST_CASE("a symmetric projection: members of an ensemble, a metric, save_every, rest") {
  const Tensor k = Tensor::from({1.0, 4.0});
  const tp::System many(
      [&](const Tensor& q, const Tensor& p) {
        return 0.5 * (p * p).sum({1}) + 0.25 * k * tp::square(q * q).sum({1});
      },
      {.batch_axes = 1});
  const tp::State all{Tensor::from({{1.0}, {0.7}}), Tensor::from({{0.0}, {0.3}})};
  const Conserve c = Conserve({Conserved::Energy}).symmetric();
  const auto ends = joined(steps(many, all, 0.1, 200, c));
  for (std::int64_t i = 0; i < 2; ++i) {
    const tp::System one([&](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() + 0.25 * k[i] * tp::square(q * q).sum();
    });
    const auto end = joined(steps(one, {all.q[i], all.p[i]}, 0.1, 200, c));
    CHECK(ends[static_cast<std::size_t>(i)] == doctest::Approx(end[0]).epsilon(1e-10));
    CHECK(ends[static_cast<std::size_t>(2 + i)] == doctest::Approx(end[1]).epsilon(1e-10));
  }
  const tp::System s = henon_heiles();
  const Conserve heavy = Conserve({Conserved::Energy}).symmetric().metric(Tensor::from({4.0, 0.5}));
  CHECK(distance(steps(s, steps(s, kStart, 0.1, 200, heavy), -0.1, 200, heavy), kStart) < 1e-12);
  CHECK(distance(steps(s, kStart, 0.1, 200, heavy), steps(s, kStart, 0.1, 200, c)) > 1e-9);
  tp::EvolveOptions o{.dt = 0.1, .steps = 200, .conserve = c};
  o.save_every = 50;
  const tp::State path = s.evolve(kStart, o);
  CHECK(distance({path.q[4], path.p[4]}, steps(s, kStart, 0.1, 200, c)) < 1e-12);
  const tp::State rest{Tensor::zeros({2}), Tensor::zeros({2})};
  CHECK(joined(steps(s, rest, 0.1, 10, c)) == joined(rest));
  // A circular orbit: energy and angular momentum say nearly the same, and no iteration can part them.
  const Conserve both = Conserve({Conserved::Energy, Conserved::AngularMomentum}).symmetric();
  CHECK(contains(said([&] { steps(kepler(), perihelion(0.0), 0.02, 300, both).q.realize(); }),
                 "do not come to rest"));
}

TEST_CASE("a symmetric projection: gradients, and what is an error") {
  const tp::System s = henon_heiles();
  const Conserve c = Conserve({Conserved::Energy}).symmetric();
  const auto end = [&](const Tensor& q) { return steps(s, {q, kStart.p}, 0.1, 20, c).q[0]; };
  const auto g = tp::grad(end)(kStart.q).to_vector<double>();
  const double h = 1e-5, slope = (end(Tensor::from({0.1 + h, -0.15})).item<double>() -
                                  end(Tensor::from({0.1 - h, -0.15})).item<double>()) /
                                 (2 * h);
  CHECK(g[0] == doctest::Approx(slope).epsilon(1e-6));
  CHECK(contains(
      said([&] { (void)steps(s, kStart, 0.1, 10, Conserve({Conserved::Energy}).once().symmetric()); }),
      "once() and symmetric() do not go together"));
  CHECK(contains(said([&] { (void)steps(s, kStart, 0.1, 10, c, tp::Integrator::ImplicitMidpoint); }),
                 "a step of ImplicitMidpoint is iterated itself"));
  // So long a step that no iteration comes to rest.
  CHECK(contains(said([&] { steps(s, kStart, 30.0, 20, c).q.realize(); }),
                 "the iterations of a symmetric projection do not come to rest"));
}
