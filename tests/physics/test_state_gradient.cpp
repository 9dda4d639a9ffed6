// The gradient of a jump by the state at its start, an evolution backward, and by numbers.
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/env.hpp"
#include "support/integrators.hpp"
#include "support/quad.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;

namespace {

struct Draws {
  std::mt19937_64 engine;
  std::vector<double> operator()(long n) {
    std::vector<double> v(static_cast<std::size_t>(n));
    for (double& x : v) x = static_cast<double>(engine() >> 11) * 0x1p-52 - 1.0;
    return v;
  }
  Tensor tensor(const tp::Shape& shape) {
    long n = 1;
    for (const auto s : shape) n *= static_cast<long>(s);
    return Tensor::from((*this)(n)).reshape(shape);
  }
};

struct Result {
  double duality;  // | w . M dz - (M^T w) . dz |, relative to the terms of the first sum
  std::string report;
};

// The map z -> M z + c of the evolution is affine: differences of it are exact, whatever dz is.
Result duality(const tp::System& system, const tp::Shape& shape, tp::EvolveOptions options,
               unsigned seed = 1) {
  Draws draw{std::mt19937_64(seed)};
  const Tensor q = draw.tensor(shape), p = draw.tensor(shape), dq = draw.tensor(shape),
               dp = draw.tensor(shape);
  const Tensor a = draw.tensor(shape), b = draw.tensor(shape);
  const tp::State z = system.evolve({q, p}, options), moved = system.evolve({q + dq, p + dp}, options);
  const auto g = tp::gradient((a * z.q).sum() + (b * z.p).sum(), std::vector<Tensor>{q, p});
  const Tensor tq = a * (moved.q - z.q), tpp = b * (moved.p - z.p);
  const double forward = (tq.sum() + tpp.sum()).item<double>(),
               size = (tp::abs(tq).sum() + tp::abs(tpp).sum()).item<double>();
  const double back = ((g[0] * dq).sum() + (g[1] * dp).sum()).item<double>();
  return {std::fabs(forward - back) / size, tp::explain(g[0]).text};
}

std::string chosen(const std::string& report) {
  const auto at = report.find("chose ");
  return report.substr(at, report.find('\n', at) - at);
}

tp::System springs(double force) {
  Draws draw{std::mt19937_64(7)};
  const Tensor k = draw.tensor({40}) + 2.0, m = draw.tensor({40}) + 2.0;
  return tp::System([=](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p / m).sum() + 0.5 * (k * q * q).sum() + force * (q.sum() + 0.1 * p.sum());
  });
}

}  // namespace

TEST_CASE("the gradient by the state at the start is a jump, for every method" * needs_passes()) {
  for (const tp::Integrator method :
       {tp::Integrator::LeapfrogKDK, tp::Integrator::LeapfrogDKD, tp::Integrator::Yoshida4,
        tp::Integrator::Yoshida8, tp::Integrator::BlanesMoan4, tp::Integrator::ImplicitMidpoint,
        tp::Integrator::Exact})
    for (const double force : {0.0, 1.0}) {
      const std::string name(tp::row_of(method).name);
      CAPTURE(name);
      CAPTURE(force);
      const Result r =
          duality(springs(force), {40}, {.dt = 0.01, .steps = 1'000'000'000, .integrator = method});
      CHECK(r.duality <= 1e-14);
      CHECK(contains(chosen(r.report), "normal-mode jump"));
    }
}

TEST_CASE("the gradient by the state: lattices, dense couplings, q joined with p, members of an ensemble" *
          needs_passes()) {
  const tp::System lattice([](const Tensor& q, const Tensor& p) {
    const Tensor x = q.roll(1, 0) - q, y = q.roll(1, 1) - q;
    return 0.5 * (p * p).sum() + 0.5 * (x * x).sum() + 0.7 * (y * y).sum() + 0.1 * (q * q).sum();
  });
  const Result l = duality(lattice, {64, 96}, {.dt = 0.01, .steps = 1'000'000});
  CHECK(l.duality <= 1e-13);
  CHECK(contains(chosen(l.report), "Fourier-mode jump"));

  Draws draw{std::mt19937_64(3)};
  const Tensor root = draw.tensor({150, 150});
  const Tensor k = (tp::matmul(root, root.permute({1, 0})) * (1.0 / 150)).realize();
  const tp::System dense([=](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 0.5 * (q * tp::matmul(k, q)).sum();
  });
  const Result d = duality(dense, {150}, {.dt = 0.01, .steps = 1'000'000'000});
  CHECK(d.duality <= 1e-14);
  CHECK(contains(chosen(d.report), "normal-mode jump"));
  // The way back has the same modes: they are there.
  CHECK(contains(chosen(d.report), "modes were ready"));

  const tp::System magnetic([](const Tensor& q, const Tensor& p) {
    const Tensor vx = p.slice(0, 0, 1) + 0.5 * q.slice(0, 1, 2),
                 vy = p.slice(0, 1, 2) - 0.5 * q.slice(0, 0, 1);
    return 0.5 * (vx * vx + vy * vy).sum() + 0.1 * (q * q).sum();
  });
  for (const tp::Integrator method : {tp::Integrator::Exact, tp::Integrator::ImplicitMidpoint}) {
    const Result m = duality(magnetic, {2}, {.dt = 0.01, .steps = 1'000'000'000, .integrator = method});
    CHECK(m.duality <= 1e-13);
    CHECK(contains(chosen(m.report), "powered step matrix"));
  }

  const tp::System members(
      [](const Tensor& q, const Tensor& p) {
        return 0.5 * (p * p + 2.0 * q * q).sum(std::vector<std::int64_t>{1});
      },
      {.batch_axes = 1});
  CHECK(duality(members, {5, 3}, {.dt = 0.01, .steps = 1'000'000'000}).duality <= 1e-14);
}

TEST_CASE("the gradient by the state: near misses go the way of the tape, with the same result") {
  const auto compare = [](const tp::System& system, tp::EvolveOptions options, const char* way) {
    Draws draw{std::mt19937_64(5)};
    const Tensor q = draw.tensor({40}), p = draw.tensor({40}), a = draw.tensor({40});
    const auto gradient = [&](tp::EvolveOptions o, std::string* report) {
      const tp::State z = system.evolve({q, p}, o);
      const auto g = tp::gradient((a * z.q).sum() + (z.q * z.p).sum(), std::vector<Tensor>{q, p});
      std::vector<double> v = g[0].to_vector<double>();
      const auto w = g[1].to_vector<double>();
      v.insert(v.end(), w.begin(), w.end());
      if (report) *report = tp::explain(g[0]).text;
      return v;
    };
    std::string report;
    const auto got = gradient(options, &report);
    options.method = tp::Method::Loop;
    const auto want = gradient(options, nullptr);
    for (std::size_t i = 0; i < want.size(); ++i)
      CHECK(std::fabs(got[i] - want[i]) <= 1e-12 * (1 + std::fabs(want[i])));
    if (tp::env::optimize()) CHECK(contains(chosen(report), way));
  };
  // Not symmetric: M^{-1} is no step of -dt.
  const tp::Integrator euler =
      tp::add_integrator({"Euler of the state's gradient", 1, {{tp::Part::kKick, 1}, {tp::Part::kDrift, 1}}});
  compare(springs(1.0), {.dt = 0.01, .steps = 3000, .integrator = euler}, "powered step matrix");
  compare(springs(1.0), {.dt = 0.01, .steps = 3000}, "normal-mode jump");
  // Not quadratic.
  const tp::System quartic([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() + 1e-3 * (q * q * q * q).sum();
  });
  compare(quartic, {.dt = 0.01, .steps = 300}, "over a tape");
  // H of the time.
  const tp::System driven([](const Tensor& q, const Tensor& p, const Tensor& t) {
    return 0.5 * (p * p).sum() + 0.5 * (1.0 + 0.1 * tp::sin(t)) * (q * q).sum();
  });
  compare(driven, {.dt = 0.01, .steps = 300}, "over a tape");
}

TEST_CASE("the gradient by the state and by numbers of H at once are those of the tape") {
  Draws draw{std::mt19937_64(5)};
  const Tensor q = draw.tensor({6}), p = draw.tensor({6}), k = (draw.tensor({6}) + 2.0).realize();
  const tp::System system(
      [=](const Tensor& x, const Tensor& y) { return 0.5 * (y * y).sum() + 0.5 * (k * x * x).sum(); });
  const auto gradient = [&](tp::Method method, bool numbers) {
    const tp::State z = system.evolve({q, p}, {.dt = 0.01, .steps = 2000, .method = method});
    std::vector<Tensor> by{q};
    if (numbers) by.push_back(k);
    const auto g = tp::gradient((z.q * z.q).sum(), by);
    std::vector<double> all;
    for (const Tensor& x : g)
      for (const double v : x.to_vector<double>()) all.push_back(v);
    return all;
  };
  const auto both = gradient(tp::Method::Default, true), loop = gradient(tp::Method::Loop, true),
             state = gradient(tp::Method::Default, false);
  for (std::size_t i = 0; i < both.size(); ++i) CHECK(both[i] == doctest::Approx(loop[i]).epsilon(1e-12));
  for (std::size_t i = 0; i < state.size(); ++i) CHECK(state[i] == doctest::Approx(loop[i]).epsilon(1e-12));
}

namespace {

// One oscillator of mass m and spring k, N steps of leapfrog from (q0, 0), in quad precision:
// q = q0 cos(N theta), p = -q0 sin(N theta) m sin(theta) / h with cos(theta) = 1 - h^2 k / (2 m).
struct Truth {
  tp::Quad q, p;
};
Truth oscillator(tp::Quad h, tp::Quad k, tp::Quad m, std::int64_t steps) {
  // The power of the step map by squaring.
  struct Map {
    tp::Quad a, b, c, d;
  };
  const auto times = [](const Map& x, const Map& y) {
    return Map{x.a * y.a + x.b * y.c, x.a * y.b + x.b * y.d, x.c * y.a + x.d * y.c, x.c * y.b + x.d * y.d};
  };
  const tp::Quad z = h * h * k / m;
  Map step{1 - z / 2, h / m, -h * k * (1 - z / 4), 1 - z / 2}, power{1, 0, 0, 1};
  for (std::int64_t n = steps; n > 0; n /= 2, step = times(step, step))
    if (n % 2 == 1) power = times(power, step);
  return {power.a, power.c};
}

}  // namespace

TEST_CASE("the gradient of a jump by dt, by a mass and by a coupling, against differences in quad" *
          needs_passes()) {
  constexpr std::int64_t kSteps = 1'000'000;
  const double h = 0.01, k = 2.3, m = 1.7;
  const auto loss = [&](const Tensor& dt, const Tensor& spring, const Tensor& mass) {
    const tp::System system([&](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p / mass).sum() + 0.5 * spring * (q * q).sum();
    });
    const tp::State z =
        system.evolve({Tensor::from({1.0, 2.0}), Tensor::zeros({2})}, {.dt = dt, .steps = kSteps});
    return (z.q * Tensor::from({1.0, 0.0})).sum() +
           (z.p * Tensor::from({0.0, 0.25})).sum();  // q + p / 2 of one of 1
  };
  const auto number = [](double x) { return Tensor::full({}, x).clone(); };
  const Tensor dt = number(h), spring = number(k), mass = number(m);
  const auto g = tp::gradient(loss(dt, spring, mass), std::vector<Tensor>{dt, spring, mass});
  const auto truth = [&](tp::Quad th, tp::Quad tk, tp::Quad tm) {
    const Truth t = oscillator(th, tk, tm, kSteps);
    return t.q + t.p / 2;
  };
  const tp::Quad e = 1e-13;
  const tp::Quad want[] = {(truth(h + e, k, m) - truth(h - e, k, m)) / (2 * e),
                           (truth(h, k + e, m) - truth(h, k - e, m)) / (2 * e),
                           (truth(h, k, m + e) - truth(h, k, m - e)) / (2 * e)};
  for (std::size_t i = 0; i < 3; ++i) {
    CAPTURE(i);
    CHECK(g[i].item<double>() == doctest::Approx(static_cast<double>(want[i])).epsilon(1e-12));
    CHECK(contains(chosen(tp::explain(g[i]).text), "the gradient's sums over the steps"));
  }
  // Equal oscillators, degenerate modes: each by itself is half of both.
  const auto both = [&](const Tensor& s) {
    const tp::System pair([&](const Tensor& q, const Tensor& p) {
      const Tensor d = q.slice(0, 1) - q.slice(0, 0, -1);
      return 0.5 * (p * p).sum() + 0.5 * s * (q * q).sum() + 0.0 * (d * d).sum();
    });
    return pair.evolve({Tensor::from({1.0, 1.0}), Tensor::zeros({2})}, {.dt = h, .steps = kSteps}).q.sum();
  };
  const tp::Quad one = (oscillator(h, k + e, 1, kSteps).q - oscillator(h, k - e, 1, kSteps).q) / (2 * e);
  CHECK(tp::grad(both)(spring).item<double>() == doctest::Approx(2 * static_cast<double>(one)).epsilon(1e-9));
}

TEST_CASE("the gradient by the state through states on the way, of a method without a loop" *
          needs_passes()) {
  const tp::System system(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const Tensor q = Tensor::from({1.0, 2.0}).clone();
  const tp::EvolveOptions options{
      .dt = 0.1, .steps = 100, .integrator = tp::Integrator::Exact, .save_every = 10};
  const tp::State z = system.evolve({q, Tensor::from({0.1, 0.2})}, options);
  const auto g = tp::gradient(z.q.sum(), std::vector<Tensor>{q})[0].to_vector<double>();
  double want = 0;
  for (std::int64_t row = 0; row < z.q.shape()[0]; ++row)
    want += std::cos(0.1 * static_cast<double>(10 * (row + (z.q.shape()[0] == 10 ? 1 : 0))));
  for (const double x : g) CHECK(x == doctest::Approx(want).epsilon(1e-12));
  const Tensor end = tp::scan(
      [&](const Tensor& x) {
        return system
            .evolve({x, tp::zeros_like(x)}, {.dt = 0.1, .steps = 5, .integrator = tp::Integrator::Exact})
            .q;
      },
      q, 4);
  CHECK(tp::gradient(end.sum(), std::vector<Tensor>{q})[0].to_vector<double>()[1] ==
        doctest::Approx(std::pow(std::cos(0.5), 4)).epsilon(1e-12));
}

TEST_CASE("a gradient through a midpoint loop that did not converge throws as the loop does") {
  const tp::System pendulum(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - tp::cos(q).sum(); });
  const tp::System spring(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  for (const tp::System* system : {&pendulum, &spring}) {
    const Tensor q = Tensor::from({1.0, 0.5}).clone(), p = Tensor::from({0.2, 0.1}).clone();
    const tp::State z = system->evolve({q, p}, {.dt = 50.0,
                                                .steps = 10,
                                                .integrator = tp::Integrator::ImplicitMidpoint,
                                                .method = tp::Method::Loop});
    const auto g = tp::gradient(z.q.sum(), std::vector<Tensor>{q, p});
    CHECK_THROWS_WITH_AS((void)g[0].to_vector<double>(), doctest::Contains("did not converge"), tp::Error);
    CHECK_THROWS_WITH_AS((void)z.q.to_vector<double>(), doctest::Contains("did not converge"), tp::Error);
  }
}

TEST_CASE("ImplicitMidpoint jumps where its loop cannot solve a step, and rests for no steps" *
          needs_passes()) {
  const tp::System spring(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  for (const double h : {0.5, 1.5, 1.9, 2.1, 5.0, 50.0}) {
    const tp::State z =
        spring.evolve({Tensor::from({1.0, 2.0}), Tensor::zeros({2})},
                      {.dt = h, .steps = 1000, .integrator = tp::Integrator::ImplicitMidpoint});
    CAPTURE(h);
    const double q = std::cos(2 * std::atan(h / 2) * 1000);
    CHECK(z.q.to_vector<double>()[0] == doctest::Approx(q).epsilon(1e-11));
    CHECK(z.q.to_vector<double>()[1] == doctest::Approx(2 * q).epsilon(1e-11));
  }
  const Tensor many = Tensor::arange(5000.0).clone();
  const tp::State still = spring.evolve(
      {many, many},
      {.dt = 0.03, .steps = 0, .integrator = tp::Integrator::ImplicitMidpoint, .method = tp::Method::Loop});
  CHECK(still.q.to_vector<double>() == many.to_vector<double>());
}

TEST_CASE("the loop's own rounding is told of the sizes that the state comes to" * needs_passes()) {
  const tp::System spring(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const tp::State z =
      spring.evolve({Tensor::from({1e20}), Tensor::from({1.0})}, {.dt = 0.1, .steps = 1'000'000});
  (void)z.q.to_vector<double>();
  const std::string report = tp::explain(z.q).text;
  const auto at = report.find("the loop's own rounding: ");
  REQUIRE(at != std::string::npos);
  double q = 0, p = 0;
  REQUIRE(std::sscanf(report.c_str() + at, "the loop's own rounding: q ~ %lf, p ~ %lf", &q, &p) == 2);
  CHECK(q < 1e-11);
  CHECK(p < 1e-11);
}

TEST_CASE("a mass with an element that is none is an error when it is used") {
  const auto motion = [](std::vector<double> mass) {
    const tp::System s = tp::System::from_force([](const Tensor& q) { return -q; }, Tensor::from(mass));
    return s.evolve({Tensor::from({1.0, 2.0}), Tensor::from({1.0, 2.0})}, {.dt = 0.1, .steps = 100})
        .q.to_vector<double>();
  };
  CHECK(std::isfinite(motion({1.0, 2.0})[1]));
  CHECK(std::isfinite(motion({1.0, -2.0})[0]));
  for (const double bad : {0.0, -0.0, std::nan(""), HUGE_VAL})
    CHECK_THROWS_WITH_AS((void)motion({1.0, bad}),
                         doctest::Contains("an element of the mass is 0 or not finite"), tp::Error);
}
