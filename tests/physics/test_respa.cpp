// Multiple time steps: against a loop written by hand in quad precision, by their order, symmetry and energy, and where they
// must be refused or warned of.
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/engine.hpp"
#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/env.hpp"
#include "tinyphys/error.hpp"

namespace tp = tinyphys;
using tp::Quad;
using tp::Tensor;
using namespace tp::testing;

namespace {

// Henon-Heiles: the cubic term is the slow one.
tp::System henon_heiles() {
  return tp::System(
      {{"fast", [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); }},
       {"slow", [](const Tensor& q, const Tensor&) {
          const Tensor x = q[0], y = q[1];
          return x * x * y - y * y * y / 3.0;
        }}});
}
const tp::State kStart{Tensor::from({0.1, -0.2}), Tensor::from({0.35, 0.1})};

// A stiff bond, a bend that is not quadratic and a soft pull; the momenta stand alone.
tp::System three_terms(double stiff = 100.0) {
  return tp::System({{"kinetic",
                      [](const Tensor&, const Tensor& p) {
                        return (p * p / Tensor::from({1.0, 2.0})).sum() * 0.5;
                      }},
                     {"soft", [](const Tensor& q, const Tensor&) { return 0.3 * tp::sin(q).sum(); }},
                     {"bend", [](const Tensor& q, const Tensor&) { return 2.0 * (q * q * q * q).sum(); }},
                     {"bond", [stiff](const Tensor& q, const Tensor&) {
                        const Tensor d = q[0] - q[1];
                        return 0.5 * stiff * d * d;
                      }}});
}

tp::EvolveOptions steps_of(double dt, std::int64_t steps, tp::Levels levels) {
  tp::EvolveOptions o{.dt = dt, .steps = static_cast<double>(steps)};
  o.levels = std::move(levels);
  return o;
}

// Half a kick of the slow term, k leapfrog steps of the fast one, half a kick.
std::vector<Quad> by_hand(double dt, int steps, int k) {
  Quad x = 0.1, y = -0.2, u = 0.35, v = 0.1;
  const Quad h = dt, inner = h / Quad(static_cast<double>(k)), half = Quad(0.5);
  const auto slow = [&] {
    const Quad fx = Quad(0.0) - (x * y + x * y), fy = y * y - x * x;
    u = u + half * h * fx;
    v = v + half * h * fy;
  };
  for (int i = 0; i < steps; ++i) {
    slow();
    for (int j = 0; j < k; ++j) {
      u = u - half * inner * x;
      v = v - half * inner * y;
      x = x + inner * u;
      y = y + inner * v;
      u = u - half * inner * x;
      v = v - half * inner * y;
    }
    slow();
  }
  return {x, y, u, v};
}

double distance(const std::vector<Quad>& a, const std::vector<Quad>& b) {
  double d = 0;
  for (std::size_t i = 0; i < a.size(); ++i) d = std::max(d, std::fabs(static_cast<double>(a[i] - b[i])));
  return d;
}

// What is thrown, without the line, which must be of this file.
std::string said(const std::function<void()>& f) {
  try {
    f();
  } catch (const tp::Error& e) {
    const std::string text = e.what();
    const std::size_t at = text.find(" (test_respa.cpp:");
    return at == std::string::npos ? "no line in: " + text : text.substr(0, at);
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("RESPA is the nested loop written by hand, in quad precision and in doubles") {
  for (const int k : {1, 2, 3, 10}) {
    CAPTURE(k);
    const tp::State s = henon_heiles().evolve(kStart, steps_of(0.15, 40, {{"slow", 1}, {"fast", k}}));
    const auto truth = by_hand(0.15, 40, k);
    CHECK(distance(quad_loop(s), truth) < 1e-31);
    CHECK(relative_error(joined(s), truth) < 1e-14);
    CHECK(s.t.item<double>() == doctest::Approx(6.0).epsilon(1e-15));
  }
}

TEST_CASE("RESPA: the order of the list says nothing, and no steps change nothing") {
  const auto a = joined(henon_heiles().evolve(kStart, steps_of(0.1, 100, {{"slow", 1}, {"fast", 4}})));
  const auto b = joined(henon_heiles().evolve(kStart, steps_of(0.1, 100, {{"fast", 4}, {"slow", 1}})));
  CHECK(a == b);
  const auto swapped = joined(henon_heiles().evolve(kStart, steps_of(0.1, 100, {{"fast", 1}, {"slow", 4}})));
  CHECK(a != swapped);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::fabs(a[i] - swapped[i]) < 1e-2);
  CHECK(joined(henon_heiles().evolve(kStart, steps_of(0.1, 0, {{"slow", 1}, {"fast", 4}}))) ==
        joined(kStart));
}

TEST_CASE("RESPA with 1 for all terms is leapfrog, bit by bit") {
  const tp::System s = three_terms();
  const tp::State one = s.evolve(kStart, steps_of(0.02, 500, {{"soft", 1}, {"bend", 1}, {"bond", 1}}));
  const tp::State named =
      s.evolve(kStart, steps_of(0.02, 500, {{"bond", 1}, {"kinetic", 1}, {"bend", 1}, {"soft", 1}}));
  const tp::State plain = s.evolve(kStart, {.dt = 0.02, .steps = 500, .method = tp::Method::Loop});
  CHECK(joined(one) == joined(plain));
  CHECK(joined(named) == joined(plain));
}

TEST_CASE("RESPA is of order 2, with two levels and with three") {
  const auto order = [](const tp::System& s, const tp::Levels& levels) {
    const auto at = [&](std::int64_t n) {
      return quad_loop(s.evolve(kStart, steps_of(1.0 / static_cast<double>(n), n, levels)));
    };
    const auto truth = quad_loop(s.evolve(
        kStart,
        {.dt = 1.0 / 256, .steps = 256, .integrator = tp::Integrator::Yoshida8, .method = tp::Method::Loop}));
    return std::log2(distance(at(32), truth) / distance(at(64), truth));
  };
  CHECK(order(henon_heiles(), {{"slow", 1}, {"fast", 3}}) == doctest::Approx(2).epsilon(0.05));
  CHECK(order(henon_heiles(), {{"fast", 1}, {"slow", 3}}) == doctest::Approx(2).epsilon(0.05));
  CHECK(order(three_terms(), {{"soft", 1}, {"bend", 2}, {"bond", 6}}) == doctest::Approx(2).epsilon(0.1));
}

TEST_CASE("RESPA comes back: forward and backward to rounding") {
  const tp::Levels levels{{"soft", 1}, {"bend", 2}, {"bond", 8}};
  const tp::System s = three_terms();
  const tp::State there = s.evolve(kStart, steps_of(0.05, 400, levels));
  const tp::State back = s.evolve(there, steps_of(-0.05, 400, levels));
  CHECK(std::fabs(there.q[0].item<double>() - 0.1) > 1e-2);
  const auto a = joined(back), b = joined(kStart);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::fabs(a[i] - b[i]) < 1e-11);
  CHECK(back.t.item<double>() == doctest::Approx(0.0));
}

TEST_CASE("RESPA: no trend of the energy in a million steps of Henon-Heiles") {
  const tp::System s = henon_heiles();
  tp::EvolveOptions o = steps_of(0.1, 1'000'000, {{"slow", 1}, {"fast", 4}});
  o.save_every = 997.0;
  o.steps = 997 * 1000;
  const tp::State path = s.evolve(kStart, o);
  const auto q = path.q.to_vector<double>(), p = path.p.to_vector<double>();
  std::vector<double> off;
  double start = 0;
  for (std::size_t i = 0; i < q.size(); i += 2) {
    const double x = q[i], y = q[i + 1], u = p[i], v = p[i + 1];
    const double h = 0.5 * (u * u + v * v + x * x + y * y) + x * x * y - y * y * y / 3.0;
    if (i == 0) start = h;
    off.push_back(h / start - 1);
  }
  double first = 0, last = 0, largest = 0;
  for (std::size_t i = 0; i < off.size(); ++i) {
    largest = std::max(largest, std::fabs(off[i]));
    if (i < off.size() / 2)
      first += off[i] / static_cast<double>(off.size() / 2);
    else
      last += off[i] / static_cast<double>(off.size() - off.size() / 2);
  }
  CAPTURE(largest);
  CHECK(largest < 2e-3);
  CHECK(largest > 1e-6);
  CHECK(std::fabs(last - first) < 0.1 * largest);
}

TEST_CASE("RESPA is one kernel, its state in registers" * tp::testing::needs_passes()) {
  const auto plan_of = [](tp::EvolveOptions o) {
    const tp::State s = three_terms().evolve(kStart, o);
    const tp::UOp v = tp::uop(s.q);
    return tp::describe_plan(std::span<const tp::UOp>(&v, 1));
  };
  const auto count = [](const std::string& plan, const std::string& what) {
    std::size_t n = 0;
    for (std::size_t i = 0; (i = plan.find(what, i)) != std::string::npos; ++i) ++n;
    return n;
  };
  tp::EvolveOptions o = steps_of(0.02, 1000, {{"soft", 1}, {"bend", 2}, {"bond", 8}});
  o.method = tp::Method::Loop;
  const std::string steps = plan_of(o);
  CAPTURE(steps);
  CHECK(count(steps, "scan kernel") == 1);
  CHECK(count(steps, "kernel") <= 2);  // the forces of the start, and the loop
  o.method = tp::Method::Default;      // the bond as a map, made before
  const std::string turned = plan_of(o);
  CAPTURE(turned);
  CHECK(count(turned, "scan kernel") == 1);
}

TEST_CASE("a quadratic H by RESPA is not another integrator's jump" * tp::testing::needs_passes()) {
  const tp::System s(
      {{"slow", [](const Tensor& q, const Tensor&) { return 0.05 * (q * q).sum(); }},
       {"fast", [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 8.0 * (q * q).sum(); }}});
  const tp::State respa = s.evolve(kStart, steps_of(0.2, 3000, {{"slow", 1}, {"fast", 5}}));
  const auto truth = quad_loop(respa);
  CHECK(relative_error(joined(respa), truth) < 1e-11);
  const auto plain = joined(s.evolve(kStart, {.dt = 0.2, .steps = 3000}));
  CHECK(relative_error(plain, truth) > 1e-2);
  const std::string text = tp::explain(respa.q).text;
  CHECK(contains(text,
                 "RESPA, 2 levels: kicks by \"slow\" once, by \"fast\" 5 times in each dt; drifts 5 times"));
  CHECK(contains(text, "class method"));
  CHECK_FALSE(contains(text, "jump (class exact)"));
}

TEST_CASE("RESPA: derivatives by the state, dt and couplings, by central differences") {
  const auto loss = [](const Tensor& q, const Tensor& dt, const Tensor& stiff) {
    const tp::System s({{"slow", [](const Tensor& x, const Tensor&) { return 0.3 * tp::sin(x).sum(); }},
                        {"fast", [&](const Tensor& x, const Tensor& p) {
                           return 0.5 * (p * p).sum() + 0.5 * stiff * (x[0] - x[1]) * (x[0] - x[1]);
                         }}});
    tp::EvolveOptions o{.dt = dt, .steps = 30};
    o.levels = {{"slow", 1}, {"fast", 3}};
    const tp::State z = s.evolve({q, kStart.p}, o);
    return (z.q * z.q).sum() + 0.5 * z.p[0];
  };
  const Tensor q = Tensor::from({0.1, -0.2}), dt = tp::as_tensor(0.07).clone(),
               stiff = tp::as_tensor(9.0).clone();
  const auto g = tp::gradient(loss(q, dt, stiff), std::vector<Tensor>{q, dt, stiff});
  const double e = 1e-5;
  const auto value = [&](double a, double h, double k) {
    return loss(Tensor::from({0.1 + a, -0.2}), tp::as_tensor(0.07 + h), tp::as_tensor(9.0 + k))
        .item<double>();
  };
  const double by_q = (value(e, 0, 0) - value(-e, 0, 0)) / (2 * e),
               by_dt = (value(0, e, 0) - value(0, -e, 0)) / (2 * e),
               by_k = (value(0, 0, e) - value(0, 0, -e)) / (2 * e);
  CHECK(g[0].to_vector<double>()[0] == doctest::Approx(by_q).epsilon(1e-7));
  CHECK(g[1].item<double>() == doctest::Approx(by_dt).epsilon(1e-6));
  CHECK(g[2].item<double>() == doctest::Approx(by_k).epsilon(1e-7));
  const auto forward =
      tp::jvp([&](const Tensor& k) { return loss(q, dt, k); }, {stiff}, {tp::as_tensor(1.0)}).second;
  CHECK(forward.item<double>() == doctest::Approx(g[2].item<double>()).epsilon(1e-10));
}

TEST_CASE("RESPA: ensembles, vmap and save_every are what one motion is") {
  const auto terms = [](const Tensor& k) {
    return std::vector<tp::EnergyTerm>{
        {"slow", [](const Tensor& q, const Tensor&) { return -1.0 * tp::cos(q).sum({-1}); }},
        {"fast", [k](const Tensor& q, const Tensor& p) {
           return 0.5 * (p * p).sum({-1}) + 0.5 * k * (q * q).sum({-1});
         }}};
  };
  const tp::Levels levels{{"slow", 1}, {"fast", 4}};
  const Tensor k = Tensor::from({9.0, 16.0}), q = Tensor::from({{0.3, 0.1}, {-0.5, 1.0}}),
               p = Tensor::zeros({2, 2});
  const tp::State all = tp::System(terms(k), {.batch_axes = 1}).evolve({q, p}, steps_of(0.1, 50, levels));
  const Tensor mapped = tp::vmap([&](const Tensor& x, const Tensor& y, const Tensor& c) {
    return tp::System(terms(c)).evolve({x, y}, steps_of(0.1, 50, levels)).q;
  })(q, p, k);
  for (std::int64_t i = 0; i < 2; ++i) {
    const tp::State one = tp::System(terms(k[i])).evolve({q[i], p[i]}, steps_of(0.1, 50, levels));
    for (std::size_t c = 0; c < 2; ++c) {
      const double expected = one.q.to_vector<double>()[c];
      CHECK(all.q[i].to_vector<double>()[c] == doctest::Approx(expected).epsilon(1e-13));
      CHECK(mapped[i].to_vector<double>()[c] == doctest::Approx(expected).epsilon(1e-13));
    }
  }
  tp::EvolveOptions o = steps_of(0.1, 60, {{"slow", 1}, {"fast", 4}});
  const tp::State end = henon_heiles().evolve(kStart, o);
  o.save_every = 20;
  const tp::State path = henon_heiles().evolve(kStart, o);
  CHECK(path.q.shape() == tp::Shape{4, 2});
  CHECK(path.q[3].to_vector<double>() == end.q.to_vector<double>());
  const std::string text = tp::explain(path.q).text;  // the body of a loop has no names
  CHECK(contains(text, "RESPA, 2 levels: kicks by term 2 once, by term 1 4 times in each dt"));
  CHECK(contains(text, "spectrum term 1: largest Omega 1"));
}

TEST_CASE("RESPA: levels that are none") {
  const tp::System s = henon_heiles();
  const auto with = [&](tp::Levels levels) {
    return said([&] { (void)s.evolve(kStart, steps_of(0.1, 10, levels)); });
  };
  CHECK(with({{"slow", 1}, {"fast", 0}}) ==
        "[evolve] levels: the term \"fast\" is given 0 steps, it must be at least 1");
  CHECK(with({{"slow", 1}, {"fast", -3}}) ==
        "[evolve] levels: the term \"fast\" is given -3 steps, it must be at least 1");
  CHECK(with(std::vector<tp::Level>{}) ==
        "[evolve] levels is an empty list: name the terms of H, or leave it away");
  CHECK(with({{"slow", 1}, {"medium", 4}}) ==
        "[evolve] levels: H has no term \"medium\"; its terms are \"fast\", \"slow\"");
  CHECK(with({{"slow", 1}, {"fast", 4}, {"slow", 2}}) == "[evolve] levels: the term \"slow\" is named twice");
  CHECK(with({{"slow", 2}, {"fast", 4}}) ==
        "[evolve] levels: the slowest level has 2 steps in dt; it must have 1, dt is its step");
  CHECK(contains(with({{"slow", 1}}),
                 "[evolve] levels name no steps for the term \"fast\" at test_respa.cpp:"));
  const tp::System three = three_terms();
  const auto of_three = [&](tp::Levels levels) {
    return said([&] { (void)three.evolve(kStart, steps_of(0.1, 10, levels)); });
  };
  CHECK(of_three({{"soft", 1}, {"bend", 4}, {"bond", 6}}) ==
        "[evolve] levels: 6 steps are no multiple of the 4 of the next slower level");
  CHECK(contains(of_three({{"kinetic", 1}, {"soft", 1}, {"bend", 4}, {"bond", 8}}),
                 "depends on p alone and is given 1 step: the drift is taken at the innermost level, of 8"));
  CHECK(of_three({{"kinetic", 8}, {"soft", 1}, {"bend", 4}, {"bond", 8}}) == "nothing was thrown");
  for (const auto integrator : {tp::Integrator::LeapfrogDKD, tp::Integrator::Exact, tp::Integrator::Yoshida4,
                                tp::Integrator::ImplicitMidpoint}) {
    tp::EvolveOptions o = steps_of(0.1, 10, {{"slow", 1}, {"fast", 2}});
    o.integrator = integrator;
    CHECK(contains(said([&] { (void)s.evolve(kStart, o); }),
                   "[evolve] levels are steps of LeapfrogKDK, not of "));
  }
  const tp::EvolveOptions o = steps_of(0.1, 10, {{"slow", 1}, {"fast", 2}});
  const tp::System unnamed([](const Tensor& q, const Tensor& p) { return (q * q + p * p).sum(); });
  CHECK(
      contains(said([&] { (void)unnamed.evolve(kStart, o); }), "levels needs an H of named terms: System("));
  const tp::System timed(
      [](const Tensor& q, const Tensor& p, const Tensor& t) { return (t * q * q + p * p).sum(); });
  CHECK(
      contains(said([&] { (void)timed.evolve(kStart, o); }), "each of (q, p); the system is one H(q, p, t)"));
  const tp::System force = tp::System::from_force([](const Tensor& q) { return -q; }, 1.0);
  CHECK(contains(said([&] { (void)force.evolve(kStart, o); }), "the system is a force"));
}

// H is separable as a whole, its terms are not: each is kicked by itself.
TEST_CASE("RESPA: a term that joins q and p is refused, also where another takes it back") {
  const tp::System s(
      {{"slow", [](const Tensor& q, const Tensor& p) { return (q * p).sum() + (q * q * q * q).sum(); }},
       {"fast", [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - (q * p).sum(); }}});
  const std::string text = said([&] {
    (void)s.evolve(kStart, steps_of(0.1, 10, {{"slow", 1}, {"fast", 2}}));
  });
  CAPTURE(text);
  CHECK(contains(text, "needs H = T(p) + V(q), but the term q * p at test_respa.cpp:"));
}

TEST_CASE("RESPA: a resonance is warned of, and the motion does grow there" * tp::testing::needs_passes()) {
  // One mode Omega under a slow spring omega: half the trace is cos(Omega h) - omega^2 h / (2 Omega) sin(Omega h).
  const double omega2 = 1.0, fast = 5.0;
  const tp::System s({{"slow", [=](const Tensor& q, const Tensor&) { return 0.5 * omega2 * (q * q).sum(); }},
                      {"fast", [=](const Tensor& q, const Tensor& p) {
                         return 0.5 * (p * p).sum() + 0.5 * fast * fast * (q * q).sum();
                       }}});
  const tp::State z{Tensor::from({1.0}), Tensor::from({0.0})};
  const double pi = std::acos(-1.0);
  for (const double part : {0.5, 0.8, 0.97, 1.5, 1.97}) {
    const double h = part * pi / fast;
    CAPTURE(part);
    const tp::State end = s.evolve(z, steps_of(h, 3000, {{"slow", 1}, {"fast", 60}}));
    const double half_trace = std::cos(fast * h) - omega2 * h / (2 * fast) * std::sin(fast * h);
    const bool grows = std::fabs(half_trace) > 1;
    const bool warned = contains(tp::explain(end.q).text, "warns    resonance: ");
    CHECK(warned == (part == 0.97 || part == 1.97));
    CHECK(grows == warned);
    CHECK((std::fabs(end.q.item<double>()) + std::fabs(end.p.item<double>()) > 1e3) == grows);
  }
  // Where the slow term is not quadratic, the distance to k pi is what is known.
  const auto report = [](double h) {
    return tp::explain(henon_heiles().evolve(kStart, steps_of(h, 10, {{"slow", 1}, {"fast", 40}})).q).text;
  };
  CHECK(contains(report(pi), "is near a multiple of half a period"));
  CHECK_FALSE(contains(report(pi / 2), "warns"));
  CHECK(contains(report(pi / 2), "\"fast\": largest Omega 1"));
  // Where the fast terms are not quadratic, that is said.
  const std::string text =
      tp::explain(three_terms().evolve(kStart, steps_of(0.1, 10, {{"soft", 1}, {"bend", 2}, {"bond", 4}})).q)
          .text;
  CAPTURE(text);
  CHECK(contains(text, "resonances of \"bend\" are not checked: \"bend\" is not of degree 2"));
  CHECK(contains(text, "spectrum \"bond\": largest Omega 12.3"));
  // An inner step that is unstable.
  CHECK(contains(
      tp::explain(
          three_terms(1e6).evolve(kStart, steps_of(0.1, 10, {{"soft", 1}, {"bend", 2}, {"bond", 4}})).q)
          .text,
      "the innermost step is unstable"));
}

TEST_CASE("RESPA: a gradient that was to undo the steps says why it does not" * tp::testing::needs_passes()) {
  const Tensor q = kStart.q.clone();
  tp::EvolveOptions o = steps_of(0.05, 20, {{"slow", 1}, {"fast", 4}});
  const auto slope = [&] {
    const tp::State s = henon_heiles().evolve({q, kStart.p}, o);
    return tp::gradient((s.q * s.q).sum(), {q})[0];
  };
  const Tensor tape = slope();
  o.reversible = tp::Reversible::Float;
  const Tensor asked = slope();
  CHECK(contains(tp::explain(asked).text, "refused  undoing the steps: "));
  CHECK(asked.to_vector<double>() == tape.to_vector<double>());
}
