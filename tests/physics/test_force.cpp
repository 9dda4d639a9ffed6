// Systems of a force without an energy: against the same system from its H, and against closed forms of forces that no
// energy has.
#include <cmath>
#include <complex>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/engine.hpp"
#include "lift_helpers.hpp"
#include "support/env.hpp"
#include "tinyphys/error.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;

namespace {

std::vector<double> values(const Tensor& x) { return x.to_vector<double>(); }
// Pendulums in a row of two planes.
const Tensor kQ = Tensor::from({{0.3, -1.2, 2.0}, {0.9, 0.1, -0.4}}),
             kP = Tensor::from({{0.5, 0.0, -0.25}, {1.0, 0.3, 0.2}});
Tensor pull(const Tensor& q) { return -tp::sin(q); }
tp::System by_energy(double m) {
  return tp::System(
      [m](const Tensor& q, const Tensor& p) { return 0.5 * (p * p / m).sum() - tp::cos(q).sum(); });
}
// What is thrown, without the line, which must be of this file.
std::string said(const std::function<void()>& f) {
  try {
    f();
  } catch (const tp::Error& e) {
    const std::string text = e.what();
    const std::size_t at = text.find(" (test_force.cpp:");
    return at == std::string::npos ? "no line in: " + text : text.substr(0, at);
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("the loop of a force is that of its energy, bit by bit") {
  const double m = 2;
  const tp::System energy = by_energy(m), force = tp::System::from_force(pull, m);
  for (const auto integrator : {tp::Integrator::LeapfrogKDK, tp::Integrator::LeapfrogDKD,
                                tp::Integrator::Yoshida4, tp::Integrator::Yoshida6, tp::Integrator::Yoshida8,
                                tp::Integrator::BlanesMoan4, tp::Integrator::ImplicitMidpoint}) {
    const tp::EvolveOptions options{.dt = 0.05, .steps = 200, .integrator = integrator};
    const tp::State a = energy.evolve({kQ, kP}, options), b = force.evolve({kQ, kP}, options);
    CAPTURE(static_cast<int>(integrator));
    CHECK(values(a.q) == values(b.q));
    CHECK(values(a.p) == values(b.p));
    CHECK(a.t.item<double>() == b.t.item<double>());
  }
  const tp::State rows = force.evolve({kQ, kP}, {.dt = 0.05, .steps = 200, .save_every = 50});
  CHECK(values(rows.q[4]) == values(energy.evolve({kQ, kP}, {.dt = 0.05, .steps = 200}).q));
  CHECK(values(force.evolve({kQ, kP}, {.dt = 0.05, .steps = 0}).q) == values(kQ));
  const Tensor none = Tensor::zeros({0});
  CHECK(values(force.evolve({none, none}, {.dt = 0.05, .steps = 3}).q).empty());
}

TEST_CASE("a force of the time") {
  const auto driven = [](const Tensor& q, const Tensor& t) { return tp::sin(t) - q; };
  const tp::System force = tp::System::from_force(driven, 1),
                   energy([](const Tensor&q, const Tensor&p, const Tensor&t) {
                     return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() - (q * tp::sin(t)).sum();
                   });
  const tp::State start{Tensor::from({0.0}), Tensor::from({0.0}), Tensor(0.25)};
  for (const auto integrator : {tp::Integrator::LeapfrogDKD, tp::Integrator::BlanesMoan4}) {
    const tp::EvolveOptions options{.dt = 0.01, .steps = 300, .integrator = integrator};
    const tp::State a = force.evolve(start, options), b = energy.evolve(start, options);
    CHECK(a.q.item<double>() == doctest::Approx(b.q.item<double>()).epsilon(1e-13));
    CHECK(a.t.item<double>() == b.t.item<double>());
  }
  // q'' + q = sin t from rest at t = 0: (sin t - t cos t) / 2.
  const tp::State end = force.evolve({Tensor::from({0.0}), Tensor::from({0.0})},
                                     {.dt = 0.01, .steps = 500, .integrator = tp::Integrator::BlanesMoan4});
  CHECK(end.q.item<double>() == doctest::Approx((std::sin(5.0) - 5 * std::cos(5.0)) / 2).epsilon(1e-9));
}

TEST_CASE("a force that turns has no energy: the step is powered, not taken for a Hamiltonian") {
  // f = w (-y, x): as z = x + i y, z'' = i w z. Leapfrog's step has z_{n+1} + z_{n-1} = (2 + i w h^2) z_n, so that
  // z_n = a mu^n + b mu^-n with mu + 1 / mu = 2 + i w h^2.
  const double w = 0.7, h = 0.01;
  const tp::System swirl = tp::System::from_force(
      [&](const Tensor& q) {
        return w * tp::stack({-q[1], q[0]});
      },
      1.0);
  const tp::State start{Tensor::from({1.0, 0.25}), Tensor::from({-0.5, 0.5})};
  using Complex = std::complex<double>;
  const Complex c{2, w * h * h}, mu = (c + std::sqrt(c * c - 4.0)) / 2.0;
  const Complex z0{1, 0.25}, z1 = z0 + h * Complex{-0.5, 0.5} + h * h / 2 * Complex{0, w} * z0;
  const Complex a = (z1 - z0 / mu) / (mu - 1.0 / mu), b = z0 - a;
  for (const auto method : {tp::Method::Default, tp::Method::Loop}) {
    const std::int64_t n = 1500;
    const auto at = static_cast<double>(n);
    const Complex z = a * std::pow(mu, at) + b * std::pow(mu, -at);
    const auto q = values(swirl.evolve(start, {.dt = h, .steps = n, .method = method}).q);
    CHECK(q[0] == doctest::Approx(z.real()).epsilon(1e-10));  // mu - 1 / mu loses four digits
    CHECK(q[1] == doctest::Approx(z.imag()).epsilon(1e-10));
  }
  if (!tp::env::optimize()) return;
  const tp::State far = swirl.evolve(start, {.dt = h, .steps = 100'000});
  const auto q = values(far.q);
  const std::string report = tp::explain(far.q).text;
  INFO(report);
  CHECK(contains(report, "a force by LeapfrogKDK, 100,000 steps"));
  CHECK(contains(report, "proved   the step is affine in its carry"));
  CHECK_FALSE(contains(report, "normal-mode"));
  CHECK(contains(tp::explain(tp::System::from_force(pull, 1).evolve({kQ, kP}, {.dt = h, .steps = 10}).q).text,
                 "refused  jump: "));
}

TEST_CASE("masses of a force, and derivatives, batches and scans of its motion") {
  const Tensor masses = Tensor::from({1.0, 4.0}).reshape({2, 1});
  const tp::EvolveOptions options{.dt = 0.05, .steps = 40};
  const auto by_force = [&](const Tensor& q, const Tensor& m) {
    return (tp::System::from_force(pull, m).evolve({q, kP}, options).q * kP).sum();
  };
  const auto by_h = [&](const Tensor& q, const Tensor& m) {
    const tp::System s(
        [&](const Tensor& x, const Tensor& p) { return 0.5 * (p * p / m).sum() - tp::cos(x).sum(); });
    return (s.evolve({q, kP}, options).q * kP).sum();
  };
  CHECK(tp::allclose(by_force(kQ, masses), by_h(kQ, masses), 1e-13));
  const auto [fq, fm] = tp::grad(by_force)(kQ, masses);
  const auto [hq, hm] = tp::grad(by_h)(kQ, masses);
  CHECK(tp::allclose(fq, hq, 1e-12));
  CHECK(tp::allclose(fm, hm, 1e-12));
  const Tensor both = tp::stack({kQ, kQ * 0.5});
  const Tensor batch = tp::vmap([&](const Tensor& q) { return by_force(q, masses); })(both);
  CHECK(tp::allclose(batch[1], by_force(kQ * 0.5, masses), 1e-13));
  const tp::System force = tp::System::from_force(pull, masses);
  const tp::State last =
      tp::scan([&](const tp::State& s) { return force.evolve(s, options); }, tp::State{kQ, kP}, 3);
  CHECK(tp::allclose(last.q, force.evolve({kQ, kP}, {.dt = 0.05, .steps = 120}).q, 1e-12));
}

TEST_CASE("progress of a force") {
  std::vector<double> told;
  const tp::State end = tp::System::from_force(pull, 1).evolve(
      {kQ, kP},
      {.dt = 0.01, .steps = 1000, .progress = [&](const tp::Progress& p) { told.push_back(p.fraction); }});
  end.q.realize();
  if (!tp::env::optimize()) return;
  REQUIRE(!told.empty());
  CHECK(told.back() == 1);
}

TEST_CASE("errors of a force") {
  const tp::State start{kQ, kP};
  const tp::EvolveOptions options{.dt = 0.1, .steps = 10};
  const auto scalar = [](const Tensor& q) { return q.sum(); };
  const auto narrow = [](const Tensor& q) { return q.astype(tp::DType::kFloat32); };
  const std::function<Tensor(const Tensor&)> empty;
  CHECK(said([&] { tp::System::from_force(scalar, 1).evolve(start, options); }) ==
        "[evolve] the force must be as q is, float64[2,3]; it is float64[]");
  CHECK(said([&] { tp::System::from_force(narrow, 1).evolve(start, options); }) ==
        "[evolve] the force must be as q is, float64[2,3]; it is float32[2,3]");
  CHECK(said([&] { tp::System::from_force(pull, Tensor::ones({2})).evolve(start, options); }) ==
        "[evolve] the mass, float64[2], does not broadcast to q, float64[2,3]");
  CHECK(said([&] {
          tp::System::from_force(pull, Tensor::ones({1, 2, 3})).evolve(start, options);
        }) == "[evolve] the mass, float64[1,2,3], does not broadcast to q, float64[2,3]");
  CHECK(said([&] { tp::System::from_force(pull, 0.0); }) ==
        "[from_force] the mass is 0, it must be finite and not 0");
  CHECK(said([&] { tp::System::from_force(pull, true); }) ==
        "[from_force] the mass is bool[], needs numbers");
  CHECK(said([&] { tp::System::from_force(empty, 1); }) == "[from_force] the force is an empty function");
  CHECK(said([&] { tp::System::from_force(pull, 1).energy(start); }) ==
        "[energy] the system is a force: it has no energy");
  CHECK(said([&] {
          tp::System::from_force(pull, 1).evolve(
              start, {.dt = 0.1, .steps = 1, .integrator = tp::Integrator::Exact});
        }).find("[evolve] Exact needs an energy, the system is a force; LeapfrogKDK, ") == 0);
}
