// Every row of the table of integrators does what its properties say: order, symmetry, the jump of a quadratic H,
// derivatives, batches, time. A row added here, in the test, is as good as those of the table.
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/integrators.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tp = tinyphys;
using tp::Integrator;
using tp::Quad;
using tp::Tensor;
using namespace tp::testing;

namespace {

constexpr std::array kTable{Integrator::LeapfrogKDK,      Integrator::LeapfrogDKD, Integrator::Exact,
                            Integrator::ImplicitMidpoint, Integrator::Yoshida4,    Integrator::Yoshida6,
                            Integrator::Yoshida8,         Integrator::BlanesMoan4};

tp::System pendulum() {
  return tp::System([](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
}
const tp::State kStart{Tensor::from({1.2}), Tensor::from({0.3})};

// The steps in quad precision, so that the order shows down to 1e-30.
std::vector<Quad> quad_steps(const tp::System& system, const tp::State& s, double dt, std::int64_t steps,
                             Integrator integrator) {
  return quad_loop(
      system.evolve(s, {.dt = dt, .steps = steps, .integrator = integrator, .method = tp::Method::Loop}));
}
double distance(const std::vector<Quad>& a, const std::vector<Quad>& b) {
  double d = 0;
  for (std::size_t i = 0; i < a.size(); ++i) d = std::max(d, std::fabs(static_cast<double>(a[i] - b[i])));
  return d;
}

bool holds_op(const Tensor& t, tp::Op op) {
  for (const tp::Node* n : tp::toposort(tp::uop(t)))
    if (n->op == op) return true;
  return false;
}

// p -= h dH/dq, q += h dH/dp: order 1, symplectic, not symmetric.
Integrator symplectic_euler() {
  static const Integrator added =
      tp::add_integrator({"SymplecticEuler", 1, {{tp::Part::kKick, 1}, {tp::Part::kDrift, 1}}});
  return added;
}

}  // namespace

TEST_CASE("orders of the integrators, by halving the step") {
  const auto truth = quad_steps(pendulum(), kStart, 1.0 / 128, 128, Integrator::Yoshida8);
  for (const Integrator i : kTable) {
    const tp::IntegratorRow& row = tp::row_of(i);
    if (!row.has_loop()) continue;
    INFO(std::string(row.name));
    // Far enough above the reference's error, small enough for the leading term to rule.
    const std::int64_t n = row.order >= 8 ? 4 : 8;
    const double e1 = distance(quad_steps(pendulum(), kStart, 1.0 / static_cast<double>(n), n, i), truth);
    const double e2 = distance(quad_steps(pendulum(), kStart, 0.5 / static_cast<double>(n), 2 * n, i), truth);
    const double order = std::log2(e1 / e2);
    CHECK(order > row.order - 0.6);
    CHECK(order < row.order + 1.2);
  }
  const double e1 = distance(quad_steps(pendulum(), kStart, 1.0 / 64, 64, symplectic_euler()), truth);
  const double e2 = distance(quad_steps(pendulum(), kStart, 1.0 / 128, 128, symplectic_euler()), truth);
  CHECK(std::log2(e1 / e2) == doctest::Approx(1.0).epsilon(0.2));
}

TEST_CASE("symmetric rows come back") {
  for (const Integrator i : kTable) CHECK(tp::row_of(i).symmetric());
  CHECK_FALSE(tp::row_of(symplectic_euler()).symmetric());
  for (const Integrator i : {Integrator::Yoshida4, Integrator::Yoshida8, Integrator::BlanesMoan4}) {
    const tp::EvolveOptions there{.dt = 0.05, .steps = 100, .integrator = i};
    const tp::EvolveOptions back{.dt = -0.05, .steps = 100, .integrator = i};
    const tp::State s = pendulum().evolve(pendulum().evolve(kStart, there), back);
    CHECK(s.q.item<double>() == doctest::Approx(1.2).epsilon(1e-12));
    CHECK(s.p.item<double>() == doctest::Approx(0.3).epsilon(1e-12));
    CHECK(s.t.item<double>() == doctest::Approx(0.0));
  }
}

TEST_CASE("the jump of every row is the loop in quad precision" * tp::testing::needs_passes()) {
  const Tensor m = Tensor::from({1.0, 0.4, 2.2, 1.5, 0.9});
  const tp::System chain([&](const Tensor& q, const Tensor& p) {
    const Tensor d = q.pad({{1, 0}}) - q.pad({{0, 1}});
    return 0.5 * (p * p / m).sum() + 0.4 * p.sum() + 0.5 * 1.7 * (d * d).sum() + 0.3 * q.sum();
  });
  const tp::System free([&](const Tensor& q, const Tensor& p) {  // the centre of mass falls
    const Tensor d = q.slice(0, 1) - q.slice(0, 0, -1);
    return 0.5 * (p * p / m).sum() + 0.5 * (d * d).sum() + 9.81 * (m * q).sum();
  });
  const tp::State s0{Tensor::from({0.3, -0.2, 0.5, 0.1, -0.6}), Tensor::from({0.1, 0.2, -0.7, 0.4, 0.0})};
  std::vector<Integrator> all{Integrator::Yoshida4, Integrator::Yoshida6, Integrator::Yoshida8,
                              Integrator::BlanesMoan4, symplectic_euler()};
  for (const Integrator i : all)
    for (const tp::System* system : {&chain, &free})
      for (const std::int64_t steps : {1, 2, 7, 400}) {
        INFO(std::string(tp::name(i)), " ", steps);
        const tp::State jump = system->evolve(s0, {.dt = 0.1, .steps = steps, .integrator = i});
        const tp::State loop =
            system->evolve(s0, {.dt = 0.1, .steps = steps, .integrator = i, .method = tp::Method::Loop});
        const auto truth = quad_loop(jump);
        CHECK(relative_error(joined(jump), truth) <= std::max(3e-16, relative_error(joined(loop), truth)));
        if (steps == 400) CHECK(contains(tp::explain(jump.q).text, "chose    normal-mode jump"));
      }
}

TEST_CASE("the lifted Yoshida at a million steps against quad" * tp::testing::needs_passes()) {
  const double k = 2.25, m = 0.7;
  const tp::System one(
      [&](const Tensor& q, const Tensor& p) { return 0.5 * (p * p / m).sum() + 0.5 * k * (q * q).sum(); });
  const tp::State s0{Tensor::from({1.0}), Tensor::from({0.25})};
  for (const Integrator i : {Integrator::Yoshida4, Integrator::Yoshida6, Integrator::Yoshida8}) {
    const tp::State s = one.evolve(s0, {.dt = 0.05, .steps = 1'000'000, .integrator = i});
    // The same substeps as plain quad arithmetic, with the same double coefficients.
    Quad q = 1.0, p = 0.25;
    const Quad h = 0.05, stiffness = k, mass = m;
    for (std::int64_t n = 0; n < 1'000'000; ++n)
      for (const auto& [part, c] : tp::row_of(i).substeps) {
        if (part == tp::Part::kKick)
          p = p - Quad(c) * h * (stiffness * q);
        else
          q = q + Quad(c) * h * (p / mass);
      }
    CHECK(relative_error(joined(s), {q, p}) <= 1e-15);
  }
}

TEST_CASE("an unstable Yoshida step blows up as its loop does, and explain says it" *
          tp::testing::needs_passes()) {
  const tp::System one(
      [&](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const tp::State s0{Tensor::from({1.0}), Tensor::from({0.25})};
  const tp::State s = one.evolve(s0, {.dt = 1.7, .steps = 200, .integrator = Integrator::Yoshida4});
  const auto truth = quad_loop(s);
  CHECK(relative_error(joined(s), truth) <= 1e-14);
  CHECK(contains(tp::explain(s.q).text, "warns"));
}

TEST_CASE("derivatives and batches go through every row with a loop") {
  const auto end = [](Integrator i) {
    return [i](const Tensor& x) {
      return pendulum().evolve({x, 0.3 * x}, {.dt = 0.1, .steps = 20, .integrator = i}).q.sum();
    };
  };
  std::vector<Integrator> rows(kTable.begin(), kTable.end());
  rows.push_back(symplectic_euler());
  // Euler again, as a method that claims to commute with nothing: jvp and vmap go through its loop.
  static const Integrator stubborn =
      tp::add_integrator({"Stubborn", 1, {{tp::Part::kKick, 1}, {tp::Part::kDrift, 1}}, false, false});
  rows.push_back(stubborn);
  for (const Integrator i : rows) {
    if (!tp::row_of(i).has_loop()) continue;
    INFO(std::string(tp::name(i)));
    const double x = 0.8, e = 1e-5;
    const double central =
        (end(i)(Tensor::from({x + e})).item<double>() - end(i)(Tensor::from({x - e})).item<double>()) /
        (2 * e);
    CHECK(tp::grad(end(i))(Tensor::from({x})).item<double>() == doctest::Approx(central).epsilon(1e-8));
    const auto [value, tangent] = tp::jvp(end(i), {Tensor::from({x})}, {Tensor::from({1.0})});
    // The tangent of what commutes is an evolution again; of what does not, a loop.
    const bool commutes = tp::row_of(i).commutes_with_tangent;
    CHECK(holds_op(tangent, tp::Op::EVOLVE) == commutes);
    CHECK(holds_op(tangent, tp::Op::SCAN) != commutes);
    CHECK(tangent.item<double>() == doctest::Approx(central).epsilon(1e-8));
    const Tensor many = tp::vmap(end(i))(Tensor::from({{0.8}, {-0.3}}));
    CHECK(holds_op(many, tp::Op::EVOLVE) == tp::row_of(i).commutes_with_batch);
    CHECK(many.to_vector<double>()[1] ==
          doctest::Approx(end(i)(Tensor::from({-0.3})).item<double>()).epsilon(1e-13));
  }
}

TEST_CASE("an energy that depends on the time: driven oscillator") {
  // q'' = -q + cos(2 t): q = (q0 + 1/3) cos t + p0 sin t - cos(2 t) / 3.
  const tp::System driven([](const Tensor& q, const Tensor& p, const Tensor& t) {
    return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() - (q * cos(2.0 * t)).sum();
  });
  const auto truth = [](double q0, double t0, double t) {
    // Started at t0: the particular solution is -cos(2 t)/3.
    const double a = q0 + std::cos(2 * t0) / 3, b = -2 * std::sin(2 * t0) / 3;
    return a * std::cos(t - t0) + b * std::sin(t - t0) - std::cos(2 * t) / 3;
  };
  for (const Integrator i : kTable) {
    const tp::IntegratorRow& row = tp::row_of(i);
    INFO(std::string(row.name));
    if (!row.has_loop()) {
      CHECK_THROWS_WITH_AS((void)driven.evolve(kStart, {.dt = 0.1, .steps = 1, .integrator = i}),
                           doctest::Contains("time"), tp::Error);
      continue;
    }
    for (const double t0 : {0.0, 0.7}) {
      const tp::State s0{Tensor::from({0.5}), Tensor::from({0.0}), Tensor::from({t0}, {})};
      double error[2];
      for (int k = 0; k < 2; ++k) {
        const std::int64_t n = row.order >= 6 ? 10 << k : 20 << k;
        const tp::State s =
            driven.evolve(s0, {.dt = 2.0 / static_cast<double>(n), .steps = n, .integrator = i});
        CHECK(s.t.item<double>() == doctest::Approx(t0 + 2).epsilon(1e-14));
        error[k] = std::fabs(s.q.item<double>() - truth(0.5, t0, t0 + 2));
        CHECK(contains(tp::explain(s.q).text, "H depends on the time"));
      }
      CHECK(error[0] < 0.1);
      CHECK(error[0] / error[1] > std::pow(2.0, row.order - 1));
    }
  }
  // A state carries its time along.
  const tp::EvolveOptions half{.dt = 0.05, .steps = 20}, whole{.dt = 0.05, .steps = 40};
  const tp::State twice = driven.evolve(driven.evolve(kStart, half), half),
                  once = driven.evolve(kStart, whole);
  CHECK(twice.q.item<double>() == doctest::Approx(once.q.item<double>()).epsilon(1e-13));
  CHECK(twice.t.item<double>() == doctest::Approx(2.0));
  // T that depends on the time is not what a drift computes.
  const tp::System warped([](const Tensor& q, const Tensor& p, const Tensor& t) {
    return 0.5 * (p * p).sum() * (1.0 + 0.1 * sin(t)) + 0.5 * (q * q).sum();
  });
  CHECK_THROWS_WITH_AS((void)warped.evolve(kStart, half), doctest::Contains("ImplicitMidpoint"), tp::Error);
  (void)warped.evolve(kStart, {.dt = 0.05, .steps = 20, .integrator = Integrator::ImplicitMidpoint})
      .q.item<double>();
}

TEST_CASE("derivatives and batches by the time at the start and by dt") {
  const tp::System driven([](const Tensor& q, const Tensor& p, const Tensor& t) {
    return 0.5 * (p * p).sum() - cos(q).sum() - (q * cos(2.0 * t)).sum();
  });
  const auto end = [&](const Tensor& t0, const Tensor& dt) {
    return driven.evolve({Tensor::from({0.5}), Tensor::from({0.0}), t0}, {.dt = dt, .steps = 30}).q.sum();
  };
  const auto at = [&](double t0, double dt) {
    return end(Tensor::from({t0}, {}), Tensor::from({dt}, {})).item<double>();
  };
  const double e = 1e-5;
  const Tensor t0 = Tensor::from({0.4}, {}), dt = Tensor::from({0.05}, {}), one = Tensor::from({1.0}, {}),
               zero = Tensor::from({0.0}, {});
  const double by_t0 = (at(0.4 + e, 0.05) - at(0.4 - e, 0.05)) / (2 * e);
  const double by_dt = (at(0.4, 0.05 + e) - at(0.4, 0.05 - e)) / (2 * e);
  CHECK(tp::jvp(end, {t0, dt}, {one, zero}).second.item<double>() == doctest::Approx(by_t0).epsilon(1e-7));
  CHECK(tp::jvp(end, {t0, dt}, {zero, one}).second.item<double>() == doctest::Approx(by_dt).epsilon(1e-7));
  const auto [g_t0, g_dt] = tp::grad(end)(t0, dt);
  CHECK(g_t0.item<double>() == doctest::Approx(by_t0).epsilon(1e-7));
  CHECK(g_dt.item<double>() == doctest::Approx(by_dt).epsilon(1e-7));
  const auto many = tp::vmap(end)(Tensor::from({0.4, 1.0}), Tensor::from({0.05, 0.02})).to_vector<double>();
  CHECK(many[0] == doctest::Approx(at(0.4, 0.05)).epsilon(1e-12));
  CHECK(many[1] == doctest::Approx(at(1.0, 0.02)).epsilon(1e-12));
}

TEST_CASE("H as named terms is their sum" * tp::testing::needs_passes()) {
  const auto fast = [](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 50.0 * (q * q).sum();
  };
  const auto slow = [](const Tensor& q, const Tensor&) { return -cos(q).sum(); };
  const tp::System parts({{"fast", fast}, {"slow", slow}});
  const tp::System whole([&](const Tensor& q, const Tensor& p) { return fast(q, p) + slow(q, p); });
  const tp::EvolveOptions options{.dt = 0.01, .steps = 100};
  CHECK(joined(parts.evolve(kStart, options)) == joined(whole.evolve(kStart, options)));
  CHECK(parts.energy(kStart).item<double>() == whole.energy(kStart).item<double>());
  const auto end = [&](const Tensor& x) { return parts.evolve({x, x}, options).q.sum(); };
  const auto same = [&](const Tensor& x) { return whole.evolve({x, x}, options).q.sum(); };
  const Tensor x = Tensor::from({0.4});
  CHECK(tp::grad(end)(x).item<double>() == doctest::Approx(tp::grad(same)(x).item<double>()).epsilon(1e-13));
  CHECK(tp::jvp(end, {x}, {x}).second.item<double>() ==
        doctest::Approx(tp::jvp(same, {x}, {x}).second.item<double>()).epsilon(1e-13));
  // Both terms quadratic: lifted.
  const tp::System linear(
      {{"spring", fast}, {"pull", [](const Tensor& q, const Tensor&) { return 2.0 * q.sum(); }}});
  const tp::State s = linear.evolve(kStart, {.dt = 0.01, .steps = 100'000});
  (void)s.q.item<double>();
  CHECK(contains(tp::explain(s.q).text, "chose    normal-mode jump"));
  CHECK_THROWS_WITH_AS(tp::System({{"a", fast}, {"a", slow}}), doctest::Contains("two terms"), tp::Error);
  CHECK_THROWS_WITH_AS(tp::System({{"a", fast}, {"b", {}}}), doctest::Contains("empty function"), tp::Error);
  CHECK_THROWS_WITH_AS(tp::System(std::function<Tensor(const Tensor&, const Tensor&)>{}),
                       doctest::Contains("empty function"), tp::Error);
}

TEST_CASE("an integrator that is none is refused with its number") {
  CHECK_THROWS_WITH_AS(
      (void)pendulum().evolve(kStart, {.dt = 0.1, .steps = 1, .integrator = static_cast<Integrator>(7777)}),
      doctest::Contains("7777"), tp::Error);
}

TEST_CASE("the record of an evolution goes through its args") {
  tp::EvolveRecord r;
  CHECK(r.encode() == tp::Dims{0, 0});
  r.integrator = Integrator::Yoshida6;
  r.timed = true;
  r.tolerance = 1e-4;
  r.levels = {1, 10};
  r.conserve = {2};
  CHECK(tp::EvolveRecord::decode(r.encode()) == r);
  r.conserve = {};
  r.save_every = 5;
  CHECK(tp::EvolveRecord::decode(r.encode()) == r);
}
