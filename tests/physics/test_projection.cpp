// Projection of steps on the invariants of the motion: what is kept, to what, and what is refused.
#include <cmath>
#include <functional>
#include <numbers>
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

std::vector<double> values(const Tensor& x) { return x.to_vector<double>(); }

tp::System henon_heiles() {
  return tp::System([](const Tensor& q, const Tensor& p) {
    const Tensor x = q[0], y = q[1];
    return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() + x * x * y - y * y * y / 3.0;
  });
}
const tp::State kChaotic{Tensor::from({0.1, -0.25}), Tensor::from({0.42, 0.13})};
// Of its terms.
double size_of_energy(const std::vector<double>& q, const std::vector<double>& p) {
  const double x = q[0], y = q[1];
  return 0.5 * (p[0] * p[0] + p[1] * p[1] + x * x + y * y) + std::fabs(x * x * y) + std::fabs(y * y * y / 3);
}

tp::System kepler() {
  return tp::System([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() - (1.0 / tp::sqrt((q * q).sum({1}))).sum();
  });
}
tp::State perihelion(double e) {
  return {Tensor::from({{1 - e, 0.0}}), Tensor::from({{0.0, std::sqrt((1 + e) / (1 - e))}})};
}
// The angle of the perihelion, from the eccentricity vector.
double angle(const std::vector<double>& q, const std::vector<double>& p) {
  const double l = q[0] * p[1] - q[1] * p[0], r = std::hypot(q[0], q[1]);
  return std::atan2(-l * p[0] - q[1] / r, l * p[1] - q[0] / r);
}

std::string said(const std::function<void()>& f) {
  try {
    f();
  } catch (const tp::Error& e) {
    const std::string text = e.what();
    const std::size_t at = text.find(" (test_projection.cpp:");
    return at == std::string::npos ? "no line in: " + text : text.substr(0, at);
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("the energy of Henon-Heiles stays at its rounding, and does not get worse later") {
  const tp::System sys = henon_heiles();
  const double e0 = sys.energy(kChaotic).item<double>();
  for (const std::int64_t steps : {std::int64_t{1000}, std::int64_t{100'000}}) {
    const tp::EvolveOptions plain{.dt = 0.1, .steps = steps};
    tp::EvolveOptions options = plain;
    options.conserve = {Conserved::Energy};
    const tp::State s = sys.evolve(kChaotic, options), loose = sys.evolve(kChaotic, plain);
    const double off = std::fabs(sys.energy(s).item<double>() - e0);
    const double allowed =
        std::max(1e-14 * std::fabs(e0), 4 * kEps * size_of_energy(values(s.q), values(s.p)));
    CAPTURE(off);
    CHECK(off <= allowed);
    CHECK(std::fabs(sys.energy(loose).item<double>() - e0) > 1e-6);
    CHECK(s.t.item<double>() == doctest::Approx(0.1 * static_cast<double>(steps)));
  }
}

TEST_CASE("one iteration is the cheap form: off by the square of a step's error, not by its sum") {
  const tp::System sys = henon_heiles();
  const double e0 = sys.energy(kChaotic).item<double>();
  const tp::State s =
      sys.evolve(kChaotic, {.dt = 0.1, .steps = 20'000, .conserve = Conserve({Conserved::Energy}).once()});
  const double off = std::fabs(sys.energy(s).item<double>() - e0);
  CAPTURE(off);
  CHECK(off < 1e-6);
  CHECK(off > 1e-14);
}

TEST_CASE(
    "Kepler: the energy alone worsens the perihelion, energy and angular momentum together keep it better") {
  const tp::System sys = kepler();
  const double e = 0.6, period = 2 * std::numbers::pi;
  const std::int64_t orbits = 50, steps = 200 * orbits;
  const tp::EvolveOptions plain{.dt = period / 200, .steps = steps};
  tp::EvolveOptions energy = plain, both = plain;
  energy.conserve = {Conserved::Energy};
  both.conserve = {Conserved::Energy, Conserved::AngularMomentum};
  const auto precession = [&](const tp::EvolveOptions& options) {
    const tp::State s = sys.evolve(perihelion(e), options);
    return std::fabs(angle(values(s.q), values(s.p)));
  };
  const double of_plain = precession(plain), of_energy = precession(energy), of_both = precession(both);
  CAPTURE(of_plain);
  CAPTURE(of_energy);
  CAPTURE(of_both);
  CHECK(of_energy > of_plain);
  CHECK(of_both < of_plain);
  // And both are kept to rounding.
  const tp::State s = sys.evolve(perihelion(e), both);
  const auto q = values(s.q), p = values(s.p);
  const double l = q[0] * p[1] - q[1] * p[0], l0 = std::sqrt(1 - e * e);
  CHECK(std::fabs(l - l0) <= 8 * kEps * (std::fabs(q[0] * p[1]) + std::fabs(q[1] * p[0])));
  const double kinetic = 0.5 * (p[0] * p[0] + p[1] * p[1]), potential = 1 / std::hypot(q[0], q[1]);
  CHECK(std::fabs(sys.energy(s).item<double>() + 0.5) <= 8 * kEps * (kinetic + potential + 0.5));
}

TEST_CASE("momentum and angular momentum of bodies in space, with masses and a metric") {
  const Tensor m = Tensor::from({1.0, 2.0, 0.5}).reshape({3, 1});
  const tp::System sys([&](const Tensor& q, const Tensor& p) {
    Tensor v = 0.5 * (p * p / m).sum();
    for (std::int64_t i = 0; i < 3; ++i)
      for (std::int64_t k = 0; k < i; ++k)
        v = v - m[i][0] * m[k][0] / tp::sqrt(tp::square(q[i] - q[k]).sum() + 0.01);
    return v;
  });
  const tp::State start{bumpy({3, 3}, 0.3), 0.3 * bumpy({3, 3}, 0.7)};
  const auto momenta = [&](const tp::State& s) {
    const auto q = values(s.q), p = values(s.p);
    std::vector<double> out(6, 0.0);
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t a = 0; a < 3; ++a) {
        const std::size_t b = (a + 1) % 3, c = (a + 2) % 3;
        out[a] += p[3 * i + a];
        out[3 + a] += q[3 * i + b] * p[3 * i + c] - q[3 * i + c] * p[3 * i + b];
      }
    out.push_back(sys.energy(s).item<double>());
    return out;
  };
  const auto before = momenta(start);
  tp::EvolveOptions options{.dt = 0.02, .steps = 500, .integrator = tp::Integrator::Yoshida4};
  for (const bool metric : {false, true}) {
    options.conserve = {Conserved::Energy, Conserved::Momentum, Conserved::AngularMomentum};
    if (metric) options.conserve = options.conserve.metric(m);
    const auto after = momenta(sys.evolve(start, options));
    for (std::size_t i = 0; i < 7; ++i) CHECK(std::fabs(after[i] - before[i]) < 2e-14);
  }
  options.conserve = {};
  CHECK(std::fabs(momenta(sys.evolve(start, options))[6] - before[6]) > 1e-11);
}

TEST_CASE("the metric says where a projection moves to") {
  // Two free coordinates of masses 1 and 4, of which the sum of q is asked to be what it was: the Newton step of a linear
  // invariant is exact, dq ~ M^-1 grad.
  const tp::System sys([](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.0 * q.sum(); });
  const tp::State start{Tensor::from({0.0, 0.0}), Tensor::from({1.0, 0.0})};
  const auto total = [](const Tensor& q, const Tensor&) { return q.sum(); };
  const Tensor m = Tensor::from({1.0, 4.0});
  const tp::State s = sys.evolve(start, {.dt = 1.0, .steps = 1, .conserve = Conserve({total}).metric(m)});
  CHECK(values(s.q)[0] == doctest::Approx(1 - 0.8).epsilon(1e-15));
  CHECK(values(s.q)[1] == doctest::Approx(-0.2).epsilon(1e-15));
  const tp::State even = sys.evolve(start, {.dt = 1.0, .steps = 1, .conserve = {total}});
  CHECK(values(even.q)[0] == doctest::Approx(0.5).epsilon(1e-15));
}

TEST_CASE("rest at equilibrium, and invariants that say the same, are left alone: no NaN") {
  const tp::System sys = henon_heiles();
  const tp::State rest{Tensor::zeros({2}), Tensor::zeros({2})};
  for (const bool once : {false, true}) {
    Conserve c({Conserved::Energy});
    if (once) c = c.once();
    CHECK(values(sys.evolve(rest, {.dt = 0.1, .steps = 10, .conserve = c}).q) == std::vector<double>{0, 0});
  }
  const auto twice = [&](const Tensor& q, const Tensor& p) { return 2.0 * sys.energy({q, p}); };
  const double e0 = sys.energy(kChaotic).item<double>();
  const tp::State s =
      sys.evolve(kChaotic, {.dt = 0.1, .steps = 1000, .conserve = {Conserved::Energy, {"twice H", twice}}});
  CHECK(std::fabs(sys.energy(s).item<double>() - e0) < 1e-15);
  // Circular orbit: the gradients of energy and angular momentum are parallel.
  const tp::System two = kepler();
  const tp::State circle = two.evolve(
      perihelion(0), {.dt = 0.1, .steps = 1000, .conserve = {Conserved::Energy, Conserved::AngularMomentum}});
  const auto q = values(circle.q);
  CHECK(std::hypot(q[0], q[1]) == doctest::Approx(1.0).epsilon(1e-2));
}

TEST_CASE("states on the way are held to the values at the start; implicit steps are projected, too") {
  const tp::System sys = henon_heiles();
  const double e0 = sys.energy(kChaotic).item<double>();
  for (const auto integrator : {tp::Integrator::LeapfrogDKD, tp::Integrator::ImplicitMidpoint}) {
    const tp::EvolveOptions options{.dt = 0.1,
                                    .steps = 400,
                                    .integrator = integrator,
                                    .save_every = 100,
                                    .conserve = {Conserved::Energy}};
    const tp::State path = sys.evolve(kChaotic, options);
    CHECK(path.q.shape() == std::vector<std::int64_t>{5, 2});
    for (std::int64_t i = 0; i < 5; ++i)
      CHECK(std::fabs(sys.energy({path.q[i], path.p[i]}).item<double>() - e0) < 1e-15);
    tp::EvolveOptions whole = options;
    whole.save_every = {};
    const std::string report = tp::explain(path.q).text;
    INFO(report);
    CHECK(contains(report, "in each step: " +
                               std::string(integrator == tp::Integrator::LeapfrogDKD ? "LeapfrogDKD"
                                                                                     : "ImplicitMidpoint") +
                               " projected on energy, 100 steps"));
    CHECK(values(sys.evolve(kChaotic, whole).q) == values(path.q[4]));
  }
}

TEST_CASE("an ensemble keeps an energy for each member") {
  const Tensor k = Tensor::from({1.0, 4.0, 9.0});
  const tp::System sys(
      [&](const Tensor& q, const Tensor& p) {
        return 0.5 * (p * p).sum({1}) + 0.25 * k * tp::square(q * q).sum({1});
      },
      {.batch_axes = 1});
  const tp::State start{Tensor::from({{1.0}, {2.0}, {0.0}}),
                        Tensor::zeros({3, 1})};  // the last one is at rest
  const tp::EvolveOptions options{.dt = 0.01, .steps = 1000, .conserve = {Conserved::Energy}};
  const tp::State s = sys.evolve(start, options);
  const auto before = values(sys.energy(start)), after = values(sys.energy(s));
  for (std::size_t i = 0; i < 3; ++i) CHECK(std::fabs(after[i] - before[i]) <= 4 * kEps * before[i]);
  CHECK(values(s.q)[2] == 0.0);
  // One by one, and by vmap.
  const auto alone = [&](const Tensor& q, const Tensor& p, const Tensor& c) {
    const tp::System one([&](const Tensor& x, const Tensor& y) {
      return 0.5 * (y * y).sum() + 0.25 * c * tp::square(x * x).sum();
    });
    return one.evolve({q, p}, options).q;
  };
  const auto each = values(tp::vmap(alone)(start.q, start.p, k));
  for (std::size_t i = 0; i < 2; ++i) {
    const auto row = static_cast<std::int64_t>(i);
    CHECK(values(alone(start.q[row], start.p[row], k[row]))[0] ==
          doctest::Approx(values(s.q)[i]).epsilon(1e-9));
    CHECK(each[i] == doctest::Approx(values(s.q)[i]).epsilon(1e-9));
  }
}

TEST_CASE("gradients go through a projected evolution") {
  const tp::System sys = henon_heiles();
  const auto end = [&](const Tensor& q) {
    return sys.evolve({q, kChaotic.p}, {.dt = 0.1, .steps = 30, .conserve = {Conserved::Energy}}).q[0];
  };
  const auto g = values(tp::grad(end)(kChaotic.q));
  for (std::size_t i = 0; i < 2; ++i) {
    const double h = 1e-5;
    std::vector<double> up = values(kChaotic.q), down = up;
    up[i] += h;
    down[i] -= h;
    const double slope =
        (end(Tensor::from(up)).item<double>() - end(Tensor::from(down)).item<double>()) / (2 * h);
    CHECK(g[i] == doctest::Approx(slope).epsilon(1e-6));
  }
}

TEST_CASE("explain tells of a projection, and how many iterations it took") {
  const tp::System sys = henon_heiles();
  const tp::State s = sys.evolve(kChaotic, {.dt = 0.1, .steps = 1000, .conserve = {Conserved::Energy}});
  if (tp::env::optimize()) CHECK(contains(tp::explain(s.q).text, "scan kernel"));  // Newton's loop is inside
  tp::realize({s.q, s.p});
  const std::string report = tp::explain(s.q).text;
  INFO(report);
  CHECK(contains(report, "LeapfrogKDK projected on energy, 1,000 steps"));
  CHECK(contains(report, "class method"));
  CHECK(contains(report, "neither symplectic nor reversible"));
  CHECK(contains(report, "Newton iterations in all"));
  CHECK(contains(report, "refused  jump: each step is projected"));
  // A quadratic H is not jumped either.
  const tp::System spring(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const tp::State z{Tensor::from({1.0}), Tensor::from({0.0})};
  const tp::State kept = spring.evolve(z, {.dt = 0.1, .steps = 100'000, .conserve = {Conserved::Energy}});
  CHECK(std::fabs(spring.energy(kept).item<double>() - 0.5) <= 4 * kEps * 0.5);
  CHECK(contains(tp::explain(kept.q).text, "refused  jump: each step is projected"));
}

TEST_CASE("what cannot be kept is an error") {
  const tp::System sys = henon_heiles();
  const auto with = [&](const tp::System& system, const Conserve& c, const tp::State& z,
                        tp::Integrator integrator = tp::Integrator::LeapfrogKDK) {
    return said([&] { system.evolve(z, {.dt = 0.1, .steps = 10, .integrator = integrator, .conserve = c}); });
  };
  CHECK(with(sys, Conserve(std::vector<tp::Invariant>{}), kChaotic) ==
        "[evolve] conserve: the list of invariants is empty");
  CHECK(with(sys, {{"all of q", [](const Tensor& q, const Tensor&) { return q; }}}, kChaotic) ==
        "[evolve] conserve: the invariant \"all of q\" must return a float64 scalar; it returns float64[2]");
  CHECK(
      contains(with(sys, {[](const Tensor& q, const Tensor&) { return q.sum().astype(tp::DType::kFloat32); }},
                    kChaotic),
               "an invariant must return a float64 scalar; it returns float32[]"));
  CHECK(contains(with(sys, {Conserved::AngularMomentum}, kChaotic),
                 "AngularMomentum needs q of shape [bodies, 2] or [bodies, 3]; q is float64[2]; one body is "
                 "of shape [1, 2]"));
  const tp::State wide{Tensor::zeros({2, 4}), Tensor::zeros({2, 4})};
  const tp::System free([](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.0 * q.sum(); });
  CHECK(contains(with(free, {Conserved::Momentum}, wide), "Momentum needs q of shape [bodies, D]"));
  CHECK(contains(with(free, Conserve({Conserved::Energy}).metric(-1.0), wide), "the metric is -1"));
  CHECK(contains(with(free, Conserve({Conserved::Energy}).metric(Tensor::from({1.0, 2.0})), wide),
                 "does not broadcast to q, float64[2,4]"));
  CHECK(contains(
      said([&] {
        free.evolve(wide,
                    {.dt = 0.1,
                     .steps = 10,
                     .conserve = Conserve({Conserved::Energy}).metric(Tensor::from({1.0, 0.0, 1.0, 1.0}))})
            .q.realize();
      }),
      "an element of the metric is not above 0"));
  const tp::System driven([](const Tensor& q, const Tensor& p, const Tensor& t) {
    return 0.5 * (p * p).sum() - (q * tp::sin(t)).sum();
  });
  CHECK(contains(with(driven, {Conserved::Energy}, kChaotic), "H depends on the time"));
  const tp::System force = tp::System::from_force([](const Tensor& q) { return -q; }, 1);
  CHECK(contains(with(force, {Conserved::Energy}, kChaotic), "the system is a force, it has no energy"));
  CHECK(contains(with(force, {Conserved::Auto}, kChaotic), "of which nothing is proven"));
  const tp::System spring(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  CHECK(contains(with(spring, {Conserved::Energy}, kChaotic, tp::Integrator::Exact),
                 "Exact is the flow itself"));
}
