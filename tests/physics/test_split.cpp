// Method::Split: the exact flow of the terms of degree <= 2 with kicks by the others, against loops written by hand, by order,
// symmetry and energy, at any stiffness; the mollified impulse at resonances; and what must be refused.
#include <cmath>
#include <functional>
#include <numbers>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/engine.hpp"
#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/env.hpp"
#include "tinyphys/error.hpp"

namespace tp = tinyphys;
using tp::Impulse;
using tp::Tensor;
using namespace tp::testing;

namespace {

constexpr double kPi = std::numbers::pi;

tp::EvolveOptions split(double dt, std::int64_t steps, Impulse impulse = Impulse::Auto) {
  tp::EvolveOptions o{.dt = dt, .steps = static_cast<double>(steps), .method = tp::Method::Split};
  o.impulse = impulse;
  return o;
}

// Oscillators of frequencies omega, mass 2, each with a quartic well.
tp::System wells(const Tensor& omega, double g) {
  return tp::System([omega, g](const Tensor& q, const Tensor& p) {
    return 0.25 * (p * p).sum() + (omega * omega * q * q).sum() + g * (q * q * q * q).sum();
  });
}

// Fermi, Pasta, Ulam and Tsingou: springs between walls with a cubic and a quartic part.
tp::System chain(double alpha, double beta, double k = 1.0) {
  return tp::System([=](const Tensor& q, const Tensor& p) {
    const Tensor walled = q.pad({{1, 1}}), d = walled.slice(0, 1) - walled.slice(0, 0, -1);
    return 0.5 * (p * p).sum() + 0.5 * k * (d * d).sum() + alpha / 3.0 * (d * d * d).sum() +
           beta / 4.0 * (d * d * d * d).sum();
  });
}
tp::State bent(std::int64_t n) {
  const Tensor place = Tensor::arange(static_cast<double>(n)) + 1.0;
  // Computed once: another kernel's sine may have another last bit.
  return {(0.5 * tp::sin(kPi / static_cast<double>(n + 1) * place)).realize(), Tensor::zeros({n})};
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double d = 0;
  for (std::size_t i = 0; i < a.size(); ++i) d = std::max(d, std::fabs(a[i] - b[i]));
  return d;
}

// What is thrown, without the line, which must be of this file.
std::string said(const std::function<void()>& f) {
  try {
    f();
  } catch (const tp::Error& e) {
    const std::string text = e.what();
    const std::size_t at = text.rfind(" (test_split.cpp:");
    return at == std::string::npos ? "no line in: " + text : text.substr(0, at);
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("a split of oscillators is the loop written by hand, plain and mollified") {
  const std::vector<double> omega{0.5, 3.0, 40.0}, q0{0.7, -0.4, 0.3}, p0{0.2, 0.5, -1.0};
  const double m = 2, g = 0.3, h = 0.1;
  for (const Impulse impulse : {Impulse::Plain, Impulse::Mollified}) {
    const tp::State s =
        wells(Tensor::from(omega), g).evolve({Tensor::from(q0), Tensor::from(p0)}, split(h, 200, impulse));
    const auto found = joined(s);
    for (std::size_t i = 0; i < 3; ++i) {
      long double x = q0[i], u = p0[i];
      const long double w = omega[i];
      const auto turn = [&](long double t) {
        const long double c = std::cos(w * t), sn = std::sin(w * t), y = x;
        x = c * x + sn / (m * w) * u;
        u = c * u - m * w * sn * y;
      };
      const long double a = impulse == Impulse::Plain ? 1 : std::sin(w * h) / (w * h);
      for (int k = 0; k < 200; ++k) {
        turn(static_cast<long double>(h) / 2);
        const long double y = a * x;
        u -= h * a * 4 * g * y * y * y;
        turn(static_cast<long double>(h) / 2);
      }
      CHECK(found[i] == doctest::Approx(static_cast<double>(x)).epsilon(1e-11).scale(1));
      CHECK(found[3 + i] == doctest::Approx(static_cast<double>(u)).epsilon(1e-11).scale(40));
    }
    CHECK(s.t.item<double>() == doctest::Approx(20.0).epsilon(1e-14));
  }
}

TEST_CASE("the split is of order 2, by blocks and by a matrix, plain and mollified") {
  const auto order = [](const tp::System& system, const tp::State& start, Impulse impulse) {
    const auto at = [&](std::int64_t n) {
      return joined(system.evolve(start, split(2.0 / static_cast<double>(n), n, impulse)));
    };
    const auto truth = joined(system.evolve(start, {.dt = 2.0 / 4096,
                                                    .steps = 4096,
                                                    .integrator = tp::Integrator::Yoshida8,
                                                    .method = tp::Method::Loop}));
    return std::log2(distance(at(64), truth) / distance(at(128), truth));
  };
  const tp::State one{Tensor::from({0.7, -0.4}), Tensor::from({0.2, 0.5})};
  for (const Impulse impulse : {Impulse::Plain, Impulse::Mollified}) {
    CHECK(order(wells(Tensor::from({1.0, 5.0}), 0.3), one, impulse) == doctest::Approx(2).epsilon(0.05));
    CHECK(order(chain(0.5, 0.7), bent(7), impulse) == doctest::Approx(2).epsilon(0.05));
  }
}

TEST_CASE("the split without kicks is the exact flow, as one jump" * tp::testing::needs_passes()) {
  const tp::State start{Tensor::from({1.0}), Tensor::from({0.5})};
  const tp::State s = wells(Tensor::from({3.0}), 0.0).evolve(start, split(0.1, 1'000'000));
  // The energy has its quartic term times the number 0: degree 4, with kicks that are 0.
  const long double angle = std::fmod(3.0L * 0.1 * 1'000'000, 2 * std::numbers::pi_v<long double>);
  const double expected = static_cast<double>(std::cos(angle) + 0.5L / 6 * std::sin(angle));
  CHECK(s.q.item<double>() == doctest::Approx(expected).epsilon(1e-8));
  const tp::System spring(
      [](const Tensor& q, const Tensor& p) { return 0.25 * (p * p).sum() + 9.0 * (q * q).sum(); });
  const tp::State exact = spring.evolve(start, split(0.1, 1'000'000));
  CHECK(exact.q.item<double>() == doctest::Approx(expected).epsilon(1e-12));
  const std::string text = tp::explain(exact.q).text;
  CHECK(contains(text, "split: the terms of degree <= 2 by their exact flow, no others"));
  CHECK(contains(text, "normal-mode jump"));
}

TEST_CASE("the split stays bounded from omega 1 to 1e12 where leapfrog does not") {
  const double h = 0.05;
  for (const double omega : {1.0, 1e2, 1e4, 1e8, 1e12}) {
    CAPTURE(omega);
    const tp::System trap([=](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() + 0.5 * omega * omega * (q * q).sum() + 0.01 * (q * q * q * q).sum();
    });
    const tp::State start{Tensor::from({1.0}), Tensor::from({0.0})};
    const tp::State s = trap.evolve(start, split(h, 20'000));
    const double amplitude = std::hypot(s.q.item<double>(), s.p.item<double>() / omega);
    CHECK(amplitude == doctest::Approx(1).epsilon(1e-2));
    const tp::State leapfrog = trap.evolve(start, {.dt = h, .steps = 20'000});
    CHECK(std::isfinite(leapfrog.q.item<double>()) == (omega * h < 2));
  }
}

TEST_CASE("the split comes back, and its energy has no trend") {
  const tp::System system = chain(0.25, 0.4);
  const tp::State start = bent(9);
  const tp::State back = system.evolve(system.evolve(start, split(0.3, 300)), split(-0.3, 300));
  CHECK(distance(joined(back), joined(start)) < 1e-11);
  CHECK(back.t.item<double>() == doctest::Approx(0.0));

  const tp::System small = wells(Tensor::from({1.0, 2.3}), 0.2);
  tp::EvolveOptions o = split(0.2, 100'000);
  o.save_every = 100;
  const tp::State first{Tensor::from({0.7, -0.4}), Tensor::from({0.2, 0.5})};
  const tp::State path = small.evolve(first, o);
  const auto q = path.q.to_vector<double>(), p = path.p.to_vector<double>();
  double means[2] = {0, 0}, largest = 0, begin = 0;
  for (std::size_t i = 0; i < q.size() / 2; ++i) {
    double h = 0;
    for (std::size_t c = 0; c < 2; ++c) {
      const double x = q[2 * i + c], u = p[2 * i + c], w = c == 0 ? 1.0 : 2.3;
      h += 0.25 * u * u + w * w * x * x + 0.2 * x * x * x * x;
    }
    if (i == 0) begin = h;
    largest = std::max(largest, std::fabs(h / begin - 1));
    means[i < q.size() / 4 ? 0 : 1] += (h / begin - 1) / static_cast<double>(q.size() / 4);
  }
  CHECK(largest < 1e-2);
  CHECK(largest > 1e-6);
  CHECK(std::fabs(means[1] - means[0]) < 0.1 * largest);
}

TEST_CASE("the plain impulse resonates where h omega is near pi, the mollified one does not") {
  const double h = 0.1;
  const auto largest = [&](double omega, Impulse impulse) {
    const tp::System system([=](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() + 0.5 * omega * omega * (q * q).sum() +
             40.0 * (tp::exp(q) + tp::exp(-q)).sum();
    });
    tp::EvolveOptions o = split(h, 1000, impulse);
    o.save_every = 4;
    const tp::State path = system.evolve({Tensor::from({1e-3}), Tensor::from({0.0})}, o);
    double most = 0;
    for (const double x : path.q.to_vector<double>()) most = std::max(most, std::fabs(x));
    return std::pair{most, tp::explain(path.q).text};
  };
  const double at = 0.97 * kPi / h, away = 0.6 * kPi / h;
  const auto [resonant, warned] = largest(at, Impulse::Plain);
  CAPTURE(warned);
  CHECK(resonant > 1e-2);
  CHECK(contains(warned, "warns    resonance: a mode of the flow near h Omega = k pi"));
  const auto [calm, noted] = largest(at, Impulse::Auto);
  CHECK(calm < 1.2e-3);
  CHECK(contains(noted, "the impulse is mollified"));
  CHECK_FALSE(contains(noted, "warns"));
  const auto [far, nothing] = largest(away, Impulse::Plain);
  CHECK(far < 2e-3);
  CHECK_FALSE(contains(nothing, "resonance"));
}

TEST_CASE("the impulse is plain up to h omega = 1 and mollified beyond, unless asked for") {
  const auto bits = [](double omega, double h, Impulse impulse) {
    return joined(wells(Tensor::from({omega, 0.1}), 0.3)
                      .evolve({Tensor::from({0.7, 0.1}), Tensor::from({0.2, 0.0})}, split(h, 50, impulse)));
  };
  CHECK(bits(9.0, 0.1, Impulse::Auto) == bits(9.0, 0.1, Impulse::Plain));
  CHECK(bits(11.0, 0.1, Impulse::Auto) == bits(11.0, 0.1, Impulse::Mollified));
  CHECK(bits(11.0, 0.1, Impulse::Auto) != bits(11.0, 0.1, Impulse::Plain));
  // A step of 0 and a coordinate that never moves have no sinc.
  CHECK(bits(11.0, 0.0, Impulse::Mollified) == std::vector<double>{0.7, 0.1, 0.2, 0.0});
  const Tensor light = Tensor::from({1.0, 0.0});  // inverse masses
  const tp::System held([&](const Tensor& q, const Tensor& p) {
    return 0.5 * (light * p * p).sum() + 200.0 * (q * q).sum() + (q * q * q * q).sum();
  });
  const tp::State s = held.evolve({Tensor::from({0.1, 0.2}), Tensor::zeros({2})}, split(0.1, 10));
  CHECK(s.q[1].item<double>() == 0.2);
  CHECK(std::isfinite(s.p[1].item<double>()));
}

TEST_CASE("a split of a coupled chain, by a matrix, follows the motion at fine steps") {
  const tp::State start = bent(12);
  const auto truth = joined(chain(0.25, 0.5).evolve(
      start,
      {.dt = 1.0 / 256, .steps = 2560, .integrator = tp::Integrator::Yoshida8, .method = tp::Method::Loop}));
  CHECK(distance(joined(chain(0.25, 0.5).evolve(start, split(1.0 / 256, 2560, Impulse::Plain))), truth) <
        1e-5);
  CHECK(distance(joined(chain(0.25, 0.5).evolve(start, split(1.0 / 256, 2560, Impulse::Mollified))), truth) <
        1e-5);
  CHECK(joined(chain(0.25, 0.5).evolve(start, split(0.1, 0))) == joined(start));
}

TEST_CASE("a split of a large ring jumps in each step" * tp::testing::needs_passes()) {
  const tp::System ring([](const Tensor& q, const Tensor& p) {
    const Tensor d = q - q.roll(1, 0);
    return 0.5 * (p * p).sum() + 0.5 * 400.0 * (d * d).sum() + 0.25 * (q * q * q * q).sum();
  });
  const tp::State start{0.5 * tp::sin(2 * kPi / 640 * Tensor::arange(640.0)), Tensor::zeros({640})};
  const tp::State s = ring.evolve(start, split(0.05, 20));
  CHECK(contains(tp::explain(s.q).text, "the flow is a jump in each step"));
  const auto fine =
      joined(ring.evolve(start, {.dt = 1.0 / 1024, .steps = 1024, .integrator = tp::Integrator::Yoshida4}));
  CHECK(distance(joined(s), fine) < 2e-4);
}

TEST_CASE("the flow may join q and p, then with the plain impulse") {
  // A charge in a magnetic field and a quartic well.
  const tp::System charge([](const Tensor& q, const Tensor& p) {
    const Tensor x = q[0], y = q[1], u = p[0] + 3.0 * y, v = p[1] - 3.0 * x;
    return 0.5 * (u * u + v * v) + 0.1 * (q * q * q * q).sum();
  });
  const tp::State start{Tensor::from({0.5, -0.2}), Tensor::from({0.3, 0.4})};
  const tp::State s = charge.evolve(start, split(0.01, 300));
  CHECK(contains(tp::explain(s.q).text, "plain impulse: the term "));
  const auto fine = joined(
      charge.evolve(start, {.dt = 1e-3, .steps = 3000, .integrator = tp::Integrator::ImplicitMidpoint}));
  CHECK(distance(joined(s), fine) < 1e-4);
  CHECK(contains(said([&] { (void)charge.evolve(start, split(0.01, 10, Impulse::Mollified)); }),
                 "[evolve] Impulse::Mollified needs the frequencies of the flow: the term "));
}

TEST_CASE("a constant force flows, and terms of one function are told apart") {
  const tp::System system({{"trap",
                            [](const Tensor& q, const Tensor& p) {
                              return 0.5 * (p * p).sum() + 8.0 * (q * q).sum() + 3.0 * q.sum() +
                                     0.2 * (q * q * q).sum();
                            }},
                           {"well", [](const Tensor& q, const Tensor&) { return tp::cos(q).sum(); }}});
  const tp::State start{Tensor::from({0.2, -0.3}), Tensor::from({0.3, 0.4})};
  const tp::State s = system.evolve(start, split(0.005, 400));
  const auto fine = joined(system.evolve(
      start,
      {.dt = 2.0 / 2048, .steps = 2048, .integrator = tp::Integrator::Yoshida8, .method = tp::Method::Loop}));
  CHECK(distance(joined(s), fine) < 2e-5);
  const std::string text = tp::explain(s.q).text;
  CHECK(contains(text,
                 "split: the terms of degree <= 2 of \"trap\" by their exact flow, kicks by the others of "
                 "\"trap\" and \"well\" between"));
  CHECK(contains(text, "400 steps, Split, dt 0.005"));
  CHECK(contains(text, "class method"));
}

TEST_CASE("what is of degree <= 2 is proved, and a small coefficient is not none" *
          tp::testing::needs_passes()) {
  const tp::State start{Tensor::from({0.2, -0.3}), Tensor::from({0.3, 0.4})};
  const auto report = [&](double cubic, double quartic) {
    const tp::System system([=](const Tensor& q, const Tensor& p) {
      const Tensor r = q + 1.0;
      return 0.5 * (p * p).sum() + (q * q).sum() + (r * r * r - cubic * q * q * q - 3.0 * q * q).sum() +
             quartic * (q * q * q * q).sum();
    });
    const tp::State s = system.evolve(start, split(0.01, 100));
    const auto fine = joined(system.evolve(
        start,
        {.dt = 1.0 / 512, .steps = 512, .integrator = tp::Integrator::Yoshida8, .method = tp::Method::Loop}));
    CHECK(distance(joined(s), fine) < 3e-4);
    return tp::explain(s.q).text;
  };
  CHECK(contains(report(1.0, 0.0), "by their exact flow, no others"));
  CHECK(contains(report(1.0 + 1e-9, 0.0), "kicks by the others between"));
  CHECK(contains(report(1.0, 1e-9), "kicks by the others between"));
  CHECK(contains(report(1.0, 0.5), "kicks by the others between"));
}

TEST_CASE("a split is one kernel, its state in registers" * tp::testing::needs_passes()) {
  const tp::State s = wells(Tensor::from({1.0, 5.0}), 0.3)
                          .evolve({Tensor::from({0.7, -0.4}), Tensor::from({0.2, 0.5})}, split(0.1, 1000));
  const tp::UOp v = tp::uop(s.q);
  const std::string plan = tp::describe_plan(std::span<const tp::UOp>(&v, 1));
  CAPTURE(plan);
  CHECK(contains(plan, "scan"));
  CHECK_FALSE(contains(plan, "loop"));
}

TEST_CASE("a split: derivatives, batches, ensembles, save_every") {
  const auto loss = [](const Tensor& q, const Tensor& dt, const Tensor& k, const Tensor& g) {
    const tp::System system([&](const Tensor& x, const Tensor& p) {
      return 0.5 * (p * p).sum() + 0.5 * (k * x * x).sum() + g * (x * x * x * x).sum();
    });
    tp::EvolveOptions o{.dt = dt, .steps = 20, .method = tp::Method::Split};
    const tp::State s = system.evolve({q, Tensor::from({0.1, -0.3})}, o);
    return (s.q * s.q).sum() + 0.5 * s.p[0];
  };
  const Tensor q = Tensor::from({0.4, -0.2}), dt = tp::as_tensor(0.07).clone(), k = Tensor::from({2.0, 30.0}),
               g = tp::as_tensor(0.6).clone();
  const auto slopes = tp::gradient(loss(q, dt, k, g), std::vector<Tensor>{q, dt, k, g});
  const double e = 1e-5;
  const auto central = [&](const std::function<double(double)>& f) { return (f(e) - f(-e)) / (2 * e); };
  CHECK(slopes[0].to_vector<double>()[0] ==
        doctest::Approx(central([&](double x) {
          return loss(Tensor::from({0.4 + x, -0.2}), dt, k, g).item<double>();
        })).epsilon(1e-6));
  CHECK(slopes[1].item<double>() == doctest::Approx(central([&](double x) {
                                      return loss(q, tp::as_tensor(0.07 + x), k, g).item<double>();
                                    })).epsilon(1e-6));
  CHECK(slopes[2].to_vector<double>()[1] ==
        doctest::Approx(central([&](double x) {
          return loss(q, dt, Tensor::from({2.0, 30.0 + x}), g).item<double>();
        })).epsilon(1e-6));
  CHECK(slopes[3].item<double>() == doctest::Approx(central([&](double x) {
                                      return loss(q, dt, k, tp::as_tensor(0.6 + x)).item<double>();
                                    })).epsilon(1e-6));

  const Tensor many = Tensor::from({{0.4, -0.2}, {0.1, 0.3}}),
               couplings = Tensor::from({{2.0, 30.0}, {5.0, 1.0}});
  const Tensor mapped =
      tp::vmap([&](const Tensor& x, const Tensor& c) { return loss(x, dt, c, g); })(many, couplings);
  for (std::int64_t i = 0; i < 2; ++i)
    CHECK(mapped[i].item<double>() ==
          doctest::Approx(loss(many[i], dt, couplings[i], g).item<double>()).epsilon(1e-11));

  const tp::System ensemble(
      [&](const Tensor& x, const Tensor& p) {
        return 0.5 * (p * p).sum({1}) + 0.5 * (couplings * x * x).sum({1}) + 0.6 * (x * x * x * x).sum({1});
      },
      {.batch_axes = 1});
  const tp::State all = ensemble.evolve({many, Tensor::zeros({2, 2})}, split(0.07, 30));
  for (std::int64_t i = 0; i < 2; ++i) {
    const tp::System one([&](const Tensor& x, const Tensor& p) {
      return 0.5 * (p * p).sum() + 0.5 * (couplings[i] * x * x).sum() + 0.6 * (x * x * x * x).sum();
    });
    const auto alone = one.evolve({many[i], Tensor::zeros({2})}, split(0.07, 30)).q.to_vector<double>();
    CHECK(distance(all.q[i].to_vector<double>(), alone) < 1e-13);
  }

  tp::EvolveOptions o = split(0.1, 60);
  o.save_every = 20;
  const tp::State path = chain(0.2, 0.2).evolve(bent(4), o);
  const tp::State end = chain(0.2, 0.2).evolve(bent(4), split(0.1, 60));
  CHECK(path.q.shape() == tp::Shape{4, 4});
  CHECK(distance(path.q[3].to_vector<double>(), end.q.to_vector<double>()) < 1e-13);
}

TEST_CASE("what a split refuses, with the line") {
  const tp::State start{Tensor::from({0.2}), Tensor::from({0.3})};
  const tp::System relativistic(
      [](const Tensor& q, const Tensor& p) { return (tp::sqrt(1.0 + p * p)).sum() + 0.5 * (q * q).sum(); });
  CHECK(contains(said([&] { (void)relativistic.evolve(start, split(0.1, 10)); }),
                 "[evolve] Method::Split kicks by the terms beyond degree 2, which must be V(q), but sqrt("));
  const tp::System joined_term(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * q * p).sum(); });
  const std::string text = said([&] { (void)joined_term.evolve(start, split(0.1, 10)); });
  CHECK(contains(text, "q * q * p"));
  CHECK(contains(text, " at test_split.cpp:"));
  const tp::System timed(
      [](const Tensor& q, const Tensor& p, const Tensor& t) { return (p * p + tp::cos(t) * q).sum(); });
  CHECK(contains(said([&] { (void)timed.evolve(start, split(0.1, 10)); }), "does not depend on the time"));
  const tp::System spring([](const Tensor& q, const Tensor& p) { return (p * p + q * q).sum(); });
  tp::EvolveOptions o = split(0.1, 10);
  o.integrator = tp::Integrator::LeapfrogDKD;
  CHECK(contains(said([&] { (void)spring.evolve(start, o); }), "it takes no Integrator::LeapfrogDKD"));
  o = {.dt = 0.1, .steps = 10};
  o.impulse = Impulse::Mollified;
  CHECK(
      contains(said([&] { (void)spring.evolve(start, o); }), "impulse is an option of Method::Split alone"));
  const tp::System force = tp::System::from_force([](const Tensor& q) { return -q; }, 1.0);
  CHECK(contains(said([&] { (void)force.evolve(start, split(0.1, 10)); }), "the system is a force"));
}
