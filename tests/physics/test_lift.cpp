// The loop that disappears: traps that must be lifted, near misses that must not, each against the loop in quad
// precision with the same double inputs.
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/env.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;
using Energy = std::function<Tensor(const Tensor&, const Tensor&)>;

namespace {

std::vector<double> random_vector(std::size_t n, double low, double high, unsigned seed) {
  std::mt19937_64 gen(seed);
  std::uniform_real_distribution<double> u(low, high);
  std::vector<double> v(n);
  for (double& x : v) x = u(gen);
  return v;
}

struct Outcome {
  double jump_error, loop_error;
  std::string report;
};

Outcome compare(const Energy& h, const Tensor& q0, const Tensor& p0, double dt, std::int64_t steps,
                tp::Integrator integrator = tp::Integrator::LeapfrogKDK) {
  const tp::System system(h);
  const tp::State jump = system.evolve({q0, p0}, {.dt = dt, .steps = steps, .integrator = integrator});
  const auto reference = quad_loop(jump);
  const tp::State loop = system.evolve(
      {q0, p0}, {.dt = dt, .steps = steps, .integrator = integrator, .method = tp::Method::Loop});
  Outcome out;
  out.jump_error = relative_error(joined(jump), reference);
  out.loop_error = relative_error(joined(loop), reference);
  out.report = tp::explain(jump.q).text;
  return out;
}

// Lifted, and at least as close to the exactly evaluated map as the loop, but for the last rounding.
void check_lifted(const Outcome& o) {
  INFO(o.report);
  CHECK(contains(o.report, "normal-mode jump"));
  CHECK(contains(o.report, "chose"));
  CHECK_FALSE(contains(o.report, "refused"));
  CHECK(o.jump_error <= std::max(o.loop_error, 3e-16));
}

constexpr std::int64_t kSteps = 2000;

}  // namespace

TEST_CASE("one oscillator follows the closed form of its leapfrog map" * tp::testing::needs_passes()) {
  const double k = 2.25, m = 0.7, h = 0.01;
  const tp::System system(
      [&](const Tensor& q, const Tensor& p) { return 0.5 * (p * p / m).sum() + 0.5 * k * (q * q).sum(); });
  const std::int64_t steps = 1'000'000'000;
  const tp::State s = system.evolve({Tensor::from({1.0}), Tensor::from({0.0})}, {.dt = h, .steps = steps});
  const tp::Quad theta = tp::Quad(2.0) * asin(tp::Quad(h) * sqrt(tp::Quad(k) / tp::Quad(m)) / tp::Quad(2.0));
  const double expected = static_cast<double>(cos(tp::Quad(static_cast<double>(steps)) * theta));
  CHECK(s.q.item<double>() == doctest::Approx(expected).epsilon(1e-13));
}

TEST_CASE("trap: a chain whose Hessian row sums vanish" * tp::testing::needs_passes()) {
  const auto chain = [](const Tensor& q, const Tensor& p) {
    const Tensor d = q.slice(0, 1, 6) - q.slice(0, 0, 5);
    return 0.5 * (p * p).sum() + 0.5 * 3.7 * (d * d).sum();
  };
  check_lifted(compare(chain, Tensor::from(random_vector(6, -1, 1, 1)),
                       Tensor::from(random_vector(6, -1, 1, 2)), 0.05, kSteps));
}

TEST_CASE("trap: constant force on a singular K" * tp::testing::needs_passes()) {
  const Tensor m = Tensor::from({1.0, 2.5, 0.3, 1.7});
  const auto falling = [&](const Tensor& q, const Tensor& p) {
    const Tensor d = q.slice(0, 1, 4) - q.slice(0, 0, 3);
    return 0.5 * (p * p / m).sum() + 0.5 * (d * d).sum() + 9.81 * (m * q).sum();
  };
  check_lifted(compare(falling, Tensor::from(random_vector(4, -1, 1, 3)),
                       Tensor::from(random_vector(4, -1, 1, 4)), 0.03, kSteps));
}

TEST_CASE("trap: free particle" * tp::testing::needs_passes()) {
  const auto free = [](const Tensor&, const Tensor& p) { return 0.5 * (p * p).sum() / 1.3; };
  check_lifted(compare(free, Tensor::from({0.1, -2.0}), Tensor::from({0.7, 0.0}), 0.01, kSteps));
}

TEST_CASE("trap: unequal masses with dense couplings" * tp::testing::needs_passes()) {
  constexpr std::size_t n = 12;
  std::vector<double> k = random_vector(n * n, -0.5, 0.5, 5);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j) k[i * n + j] = k[j * n + i];
    k[i * n + i] = 8;
  }
  const Tensor matrix = Tensor::from(k, {n, n}), m = Tensor::from(random_vector(n, 0.01, 5.0, 6));
  const auto h = [&](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p / m).sum() + 0.5 * (q * matmul(matrix, q)).sum();
  };
  for (const auto integrator :
       {tp::Integrator::LeapfrogKDK, tp::Integrator::LeapfrogDKD, tp::Integrator::ImplicitMidpoint})
    check_lifted(compare(h, Tensor::from(random_vector(n, -1, 1, 7)),
                         Tensor::from(random_vector(n, -1, 1, 8)), 0.01, 500, integrator));
}

TEST_CASE("trap: a linear term hidden in (q+1)^3 - q^3 - 3 q^2" * tp::testing::needs_passes()) {
  const auto hidden = [](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 0.5 * 1.9 * (q * q).sum() +
           (pow(q + 1.0, 3) - pow(q, 3) - 3.0 * pow(q, 2)).sum();
  };
  const Outcome o = compare(hidden, Tensor::from({0.3, -0.8}), Tensor::from({0.1, 0.4}), 0.02, kSteps);
  check_lifted(o);
  CHECK(contains(o.report, "degree bound 3, lowered to 2 by the identity test"));
}

TEST_CASE("trap: sqrt(q q)^2" * tp::testing::needs_passes()) {
  const auto root = [](const Tensor& q, const Tensor& p) {
    const Tensor r = sqrt((q * q).sum());
    return 0.5 * (p * p).sum() + 0.5 * 2.3 * r * r;
  };
  check_lifted(compare(root, Tensor::from({0.3, -0.8, 0.2}), Tensor::from({0.1, 0.4, -0.3}), 0.02, kSteps));
}

TEST_CASE("a plan made for one value of a proof's numbers is not used for another") {
  const auto make = [](double c) {
    return Energy([c](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() + (pow(q + 1.0, 3) - pow(q, 3) - c * pow(q, 2)).sum();
    });
  };
  const Tensor q0 = Tensor::from({0.3}), p0 = Tensor::from({0.1});
  const tp::EvolveOptions options{.dt = 0.01, .steps = 100};
  const tp::State lifted = tp::System(make(3.0)).evolve({q0, p0}, options);
  const tp::State other = tp::System(make(2.5)).evolve({q0, p0}, options);
  CHECK(contains(tp::explain(lifted.q).text, "proved"));
  // Still quadratic, with another K; the proof looked at 2.5.
  CHECK(contains(tp::explain(other.q).text, "proved"));
  CHECK(relative_error(joined(other), quad_loop(tp::System(make(2.5)).evolve({q0, p0}, options))) < 1e-14);
  CHECK(relative_error(joined(lifted), quad_loop(tp::System(make(3.0)).evolve({q0, p0}, options))) < 1e-14);
}

TEST_CASE("near misses stay loops") {
  const Tensor q0 = Tensor::from({0.3, -0.8}), p0 = Tensor::from({0.1, 0.4});
  const Tensor table = Tensor::from({1.0, 1.5, 2.0, 2.5});
  const auto kinetic = [](const Tensor& p) { return 0.5 * (p * p).sum(); };
  struct Case {
    const char* what;
    const char* reason;
    Energy h;
  };
  const std::vector<Case> cases{
      {"1e-9 q^3", "degree 3",
       [&](const Tensor& q, const Tensor& p) {
         return kinetic(p) + 0.5 * (q * q).sum() + 1e-9 * (q * q * q).sum();
       }},
      {"cos q", "cos(q)", [&](const Tensor& q, const Tensor& p) { return kinetic(p) - cos(q).sum(); }},
      {"|q|", "abs(q)", [&](const Tensor& q, const Tensor& p) { return kinetic(p) + abs(q).sum(); }},
      {"1 / q", "/ q", [&](const Tensor& q, const Tensor& p) { return kinetic(p) + (1.0 / q).sum(); }},
      {"gather by state", "int64(q * q)",
       [&](const Tensor& q, const Tensor& p) {
         const Tensor at = (q * q).astype(tp::DType::kInt64);
         return kinetic(p) + 0.5 * (gather(table, at, 0) * q * q).sum();
       }},
      {"a float32 round trip", "float32(q)",
       [&](const Tensor& q, const Tensor& p) {
         const Tensor f = q.astype(tp::DType::kFloat32).astype(tp::DType::kFloat64);
         return kinetic(p) + 0.5 * (f * f).sum();
       }},
      {"max(q, 0)^2", "max",
       [&](const Tensor& q, const Tensor& p) {
         const Tensor r = maximum(q, 0.0);
         return kinetic(p) + 0.5 * (r * r).sum();
       }},
      {"where on state", "0 < q",
       [&](const Tensor& q, const Tensor& p) {
         return kinetic(p) + where(q > 0.0, q * q, 2.0 * q * q).sum();
       }},
      {"p^4", "degree 4",
       [&](const Tensor& q, const Tensor& p) {
         return kinetic(p) + 1e-12 * pow(p, 4).sum() + (q * q).sum();
       }},
  };
  for (const Case& c : cases) {
    INFO(c.what);
    const tp::State s = tp::System(c.h).evolve({q0, p0}, {.dt = 0.01, .steps = 50});
    const auto reference = quad_loop(s);
    const std::string report = tp::explain(s.q).text;
    INFO(report);
    CHECK(contains(report, "refused"));
    CHECK(contains(report, c.reason));
    CHECK_FALSE(contains(report, "proved"));
    // The quad reference does not round to float32.
    const double tolerance = contains(c.reason, "float32") ? 1e-8 : 1e-14;
    CHECK(relative_error(joined(s), reference) < tolerance);
    CHECK_FALSE(contains(tp::explain(s.q).text, "normal-mode"));
  }
}

TEST_CASE("user scans stay loops: step index, another carry, integer carry") {
  const Tensor x0 = Tensor::from({1.0, 2.0});
  const auto by_index = tp::scan(
      [](tp::Index i, const Tensor& x) { return x * (1.0 + 1e-3 * i.astype(tp::DType::kFloat64)); }, x0, 20);
  double f = 1;
  for (int i = 0; i < 20; ++i) f *= 1 + 1e-3 * i;
  CHECK(by_index.to_vector<double>()[1] == doctest::Approx(2 * f).epsilon(1e-13));
  CHECK(contains(tp::explain(by_index).text, "the loop"));

  const auto [a, b] = tp::scan(
      [](const Tensor& x, const Tensor& y) {
        return std::tuple{x * y, y + 0.01};
      },
      std::tuple{x0, x0}, 10);
  CHECK(contains(tp::explain(a).text, "the loop"));
  double x = 1, y = 1;
  for (int i = 0; i < 10; ++i) {
    x *= y;
    y += 0.01;
  }
  CHECK(a.to_vector<double>()[0] == doctest::Approx(x).epsilon(1e-13));

  // A linear congruential generator is affine over the integers, and must not be made one over the reals.
  const Tensor seed = Tensor::full({}, 12345, tp::DType::kInt64);
  const Tensor lcg =
      tp::scan([](const Tensor& s) { return s * 6364136223846793005LL + 1442695040888963407LL; }, seed, 1000);
  std::uint64_t s = 12345;
  for (int i = 0; i < 1000; ++i) s = s * 6364136223846793005ull + 1442695040888963407ull;
  CHECK(static_cast<std::uint64_t>(lcg.item<std::int64_t>()) == s);
}

TEST_CASE("leapfrog with q-p cross terms is an error that names the term") {
  const tp::System magnetic([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 0.3 * (q * p).sum() + 0.5 * (q * q).sum();
  });
  const tp::State s0{Tensor::from({0.3}), Tensor::from({0.1})};
  try {
    (void)magnetic.evolve(s0, {.dt = 0.01, .steps = 10});
    FAIL("no error");
  } catch (const tp::Error& e) {
    const std::string what = e.what();
    INFO(what);
    CHECK(contains(what, "q * p"));
    CHECK(contains(what, "Exact"));
    CHECK(contains(what, "ImplicitMidpoint"));
    CHECK(contains(what, "test_lift.cpp"));
  }
  // What is offered works: the flow of [[0.3, 1], [-1, -0.3]].
  const tp::State exact =
      magnetic.evolve(s0, {.dt = 0.01, .steps = 100000, .integrator = tp::Integrator::Exact});
  const double w = std::sqrt(1 - 0.09), t = 1000;
  CHECK(exact.q.item<double>() ==
        doctest::Approx(0.3 * std::cos(w * t) + (0.3 * 0.3 + 0.1) / w * std::sin(w * t)).epsilon(1e-12));
  const tp::State midpoint =
      magnetic.evolve(s0, {.dt = 0.01, .steps = 300, .integrator = tp::Integrator::ImplicitMidpoint});
  CHECK(relative_error(joined(midpoint), quad_loop(midpoint)) < 1e-14);
}

TEST_CASE("cross terms that cancel are none" * tp::testing::needs_passes()) {
  const auto h = [](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() +
           (pow(q + p, 2) - pow(q, 2) - pow(p, 2) - 2.0 * q * p).sum();
  };
  check_lifted(compare(h, Tensor::from({0.3}), Tensor::from({0.1}), 0.01, kSteps));
}

TEST_CASE("Exact beyond degree 2 is an error") {
  const tp::System system(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * q * q * q).sum(); });
  CHECK_THROWS_WITH_AS((void)system.evolve({Tensor::from({0.3}), Tensor::from({0.1})},
                                           {.dt = 0.01, .steps = 1, .integrator = tp::Integrator::Exact}),
                       doctest::Contains("degree"), tp::Error);
}

TEST_CASE("Exact with Method::Loop is an error, not a silent jump") {
  const tp::System system(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * q).sum(); });
  CHECK_THROWS_WITH_AS(
      (void)system.evolve(
          {Tensor::from({0.3}), Tensor::from({0.1})},
          {.dt = 0.01, .steps = 1, .integrator = tp::Integrator::Exact, .method = tp::Method::Loop}),
      doctest::Contains("no loop"), tp::Error);
}

TEST_CASE("h omega > 2 overflows as the loop does, and explain says it" * tp::testing::needs_passes()) {
  const tp::System system(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const tp::State s =
      system.evolve({Tensor::from({0.3}), Tensor::from({0.1})}, {.dt = 2.1, .steps = 1'000'000});
  CHECK(std::isinf(s.q.item<double>()));
  CHECK(std::isinf(s.p.item<double>()));
  CHECK(contains(tp::explain(s.q).text, "unstable"));
}

TEST_CASE("where an unstable motion overflows, the jump gives infinity with its sign, the loop NaN" *
          tp::testing::needs_passes()) {
  const tp::System system([](const Tensor& q, const Tensor& p) {
    const Tensor d = q.slice(0, 1, 2) - q.slice(0, 0, 1);
    return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() + 0.5 * (d * d).sum();
  });
  const tp::State s0{Tensor::from({0.3, -0.2}), Tensor::from({0.1, 0.4})};
  // h omega = 2.1 and 3.6: both modes grow.
  const auto run = [&](std::int64_t steps, tp::Method method) {
    const tp::State s = system.evolve(s0, {.dt = 2.1, .steps = steps, .method = method});
    return std::pair{joined(s), tp::explain(s.q).text};
  };
  const auto [jump, report] = run(2000, tp::Method::Default);
  const auto [loop, loop_report] = run(2000, tp::Method::Loop);
  INFO(report);
  CHECK(contains(report, "unstable"));
  CHECK(contains(report, "no bound: the state leaves the range of doubles"));
  // The fast mode alone decides: its signs at a time where they can still be seen.
  const auto seen = run(200, tp::Method::Loop).first;
  for (std::size_t i = 0; i < 4; ++i) {
    CAPTURE(i);
    CHECK(std::isinf(jump[i]));
    CHECK(std::signbit(jump[i]) == std::signbit(seen[i]));
    CHECK(std::isnan(loop[i]));
  }
}

TEST_CASE("masses over too many decades for the jump's arithmetic stay a loop, and Exact states its error" *
          tp::testing::needs_passes()) {
  const auto masses = [](double decades) {
    return Tensor::from({std::pow(10, -decades / 2), 3.0, std::pow(10, decades / 2)});
  };
  const auto chain = [&](double decades) {
    return tp::System([m = masses(decades)](const Tensor& q, const Tensor& p) {
      const Tensor d = q.slice(0, 1, 3) - q.slice(0, 0, 2);
      return 0.5 * (p * p / m).sum() + 0.5 * (d * d).sum() + 0.1 * (q * q).sum();
    });
  };
  const tp::State s0{Tensor::from({0.3, -0.2, 0.7}), Tensor::from({0.0, 0.0, 0.0})};
  const auto check = [&](double decades, bool lifted) {
    const tp::EvolveOptions options{.dt = std::pow(10, -decades / 4), .steps = 1000};
    const tp::State s = chain(decades).evolve(s0, options);
    const auto got = joined(s);
    const std::string report = tp::explain(s.q).text;
    INFO(report);
    CHECK(contains(report, "chose    normal-mode jump") == lifted);
    CHECK(contains(report, "the masses or springs span too many decades") != lifted);
    // q and p each.
    const auto want = quad_loop(chain(decades).evolve(s0, options));
    const auto half = got.begin() + 3;
    CHECK(relative_error({got.begin(), half}, {want.begin(), want.begin() + 3}) < 1e-13);
    CHECK(relative_error({half, got.end()}, {want.begin() + 3, want.end()}) < 1e-13);
  };
  check(6, true);
  check(24, false);
  const tp::State flow = chain(24).evolve(s0, {.dt = 1e-3, .steps = 10, .integrator = tp::Integrator::Exact});
  flow.q.realize();
  CHECK(contains(tp::explain(flow.q).text, "error    q <= "));
}

TEST_CASE("a chain at rest stays lifted: its momenta are zero but for rounding" *
          tp::testing::needs_passes()) {
  const tp::System chain([](const Tensor& q, const Tensor& p) {
    const Tensor d = q.slice(0, 1, 5) - q.slice(0, 0, 4);
    return 0.5 * (p * p).sum() + 0.35 * (d * d).sum();
  });
  const tp::State s =
      chain.evolve({Tensor::full({5}, 0.7), Tensor::zeros({5})}, {.dt = 0.1, .steps = 100000});
  tp::realize({s.q, s.p});
  const std::string report = tp::explain(s.q).text;
  INFO(report);
  CHECK(contains(report, "normal-mode jump"));
  for (const double q : s.q.to_vector<double>()) CHECK(q == doctest::Approx(0.7).epsilon(1e-15));
  for (const double p : s.p.to_vector<double>()) CHECK(std::fabs(p) < 1e-25);
}

TEST_CASE("an energy rounded to float32 as a whole has forces that stay apart") {
  const tp::System system([](const Tensor& q, const Tensor& p) {
    const Tensor h = 0.5 * (p * p).sum() + 0.5 * (q * q).sum();
    return h.astype(tp::DType::kFloat32).astype(tp::DType::kFloat64);
  });
  const tp::State s = system.evolve({Tensor::from({0.3}), Tensor::from({0.1})}, {.dt = 0.01, .steps = 100});
  CHECK(s.q.item<double>() == doctest::Approx(0.3 * std::cos(1.0) + 0.1 * std::sin(1.0)).epsilon(1e-4));
  CHECK(contains(tp::explain(s.q).text, "chose    the loop"));
}

TEST_CASE("a few steps of a large system stay a loop; the cost decides" * tp::testing::needs_passes()) {
  constexpr std::size_t n = 400;
  std::vector<double> k(n * n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) k[i * n + j] = i == j ? 4.0 : 1.0 / static_cast<double>(n + i + j);
  const Tensor matrix = Tensor::from(k, {n, n});
  const tp::System system([&](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 0.5 * (q * matmul(matrix, q)).sum();
  });
  const tp::State s0{Tensor::from(random_vector(n, -1, 1, 9)), Tensor::from(random_vector(n, -1, 1, 10))};
  const tp::State few = system.evolve(s0, {.dt = 0.01, .steps = 10});
  few.q.realize();
  CHECK(contains(tp::explain(few.q).text, "the loop is cheaper"));
  const tp::State many = system.evolve(s0, {.dt = 0.01, .steps = 10'000'000});
  many.q.realize();
  CHECK(contains(tp::explain(many.q).text, "normal-mode jump"));
}

TEST_CASE("TINYPHYS_OPT=0 and Method::Loop agree with the jump") {
  const auto h = [](const Tensor& q, const Tensor& p) {
    const Tensor d = q.slice(0, 1, 5) - q.slice(0, 0, 4);
    return 0.5 * (p * p).sum() + 0.5 * (d * d).sum() + 0.5 * 0.1 * (q * q).sum();
  };
  const tp::State s0{Tensor::from(random_vector(5, -1, 1, 11)), Tensor::from(random_vector(5, -1, 1, 12))};
  const tp::EvolveOptions options{.dt = 0.05, .steps = 300};
  const auto jump = joined(tp::System(h).evolve(s0, options));
  std::vector<double> plain;
  {
    tp::env::ScopedOverride off("TINYPHYS_OPT", "0");
    plain = joined(tp::System(h).evolve({s0.q + 0.0, s0.p + 0.0}, options));
  }
  for (std::size_t i = 0; i < jump.size(); ++i) CHECK(jump[i] == doctest::Approx(plain[i]).epsilon(1e-12));
}

TEST_CASE("zero steps give the state back, and steps may be large") {
  const tp::System system(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const tp::State s0{Tensor::from({0.3, 1e-300}), Tensor::from({-0.1, 0.0})};
  const tp::State s = system.evolve(s0, {.dt = 0.1, .steps = 0});
  CHECK(joined(s) == joined(s0));
}

TEST_CASE("an energy may hold a scan or an evolution of its own") {
  const tp::System inner(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const std::vector<Energy> energies{
      [](const Tensor& q, const Tensor& p) {  // r = 4 q
        const Tensor r = tp::scan([&](const Tensor& x) { return x + q; }, tp::zeros_like(q), 4);
        return 0.5 * (p * p).sum() + 0.5 * (r * r).sum();
      },
      [&](const Tensor& q, const Tensor& p) {  // r = cos(3 theta) q
        const Tensor r = inner.evolve({q, tp::zeros_like(q)}, {.dt = 0.1, .steps = 3}).q;
        return 0.5 * (p * p).sum() + 0.5 * (r * r).sum();
      }};
  const double c = std::cos(3 * 2 * std::asin(0.05));
  const double k[] = {16.0, c * c};
  for (std::size_t i = 0; i < energies.size(); ++i) {
    const tp::State s =
        tp::System(energies[i])
            .evolve({Tensor::from({1.0, 2.0}), Tensor::zeros({2})}, {.dt = 0.01, .steps = 50});
    const double expected = std::cos(50 * 2 * std::asin(0.01 * std::sqrt(k[i]) / 2));
    CHECK(s.q.to_vector<double>()[0] == doctest::Approx(expected).epsilon(1e-12));
    CHECK(s.q.to_vector<double>()[1] == doctest::Approx(2 * expected).epsilon(1e-12));
  }
}

TEST_CASE("Exact: jvp is right, and the gradient by the state and by what H is made of") {
  const auto end = [&](const Tensor& x, const Tensor& k) {
    const tp::System system(
        [&](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (k * q * q).sum(); });
    return system.evolve({x, tp::zeros_like(x)}, {.dt = 0.5, .steps = 3, .integrator = tp::Integrator::Exact})
        .q.sum();
  };
  const Tensor two = Tensor::from({2.0}).sum().realize(), one = Tensor::from({1.0});
  const auto by_state = [&](const Tensor& x) { return end(x, two); };
  const auto [value, tangent] = tp::jvp(by_state, {one}, {Tensor::from({1.0})});
  CHECK(tangent.item<double>() == doctest::Approx(std::cos(3.0)).epsilon(1e-13));
  CHECK(tp::grad(by_state)(one).item<double>() == doctest::Approx(std::cos(3.0)).epsilon(1e-13));
  // q = cos(sqrt(2 k) t), t = 1.5.
  CHECK(tp::grad([&](const Tensor& k) { return end(one, k); })(two).item<double>() ==
        doctest::Approx(-std::sin(3.0) * 1.5 / 2).epsilon(1e-13));
  const Tensor ones = Tensor::from({1.0, 1.0}), ks = Tensor::from({2.0, 2.0});
  for (const double x : tp::grad([&](const Tensor& k) { return end(ones, k); })(ks).to_vector<double>())
    CHECK(x == doctest::Approx(-std::sin(3.0) * 1.5 / 2).epsilon(1e-13));
  const auto joined_end = [&](const Tensor& k) {
    const tp::System system([&](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() + (k * q * q).sum() + 0.1 * (q * p).sum();
    });
    return system.evolve({ones, ones}, {.dt = 0.5, .steps = 3, .integrator = tp::Integrator::Exact}).q.sum();
  };
  const auto by_joined = tp::grad(joined_end)(ks).to_vector<double>();
  CHECK(by_joined[0] == doctest::Approx(by_joined[1]).epsilon(1e-15));
  CHECK(tp::jvp(joined_end, {ks}, {ones}).second.item<double>() ==
        doctest::Approx(by_joined[0] + by_joined[1]).epsilon(1e-13));
}

TEST_CASE("gradients go through ImplicitMidpoint") {
  const tp::System pendulum(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
  const auto loss = [&](const Tensor& x) {
    const tp::State s = pendulum.evolve(
        {x, tp::zeros_like(x)}, {.dt = 0.05, .steps = 40, .integrator = tp::Integrator::ImplicitMidpoint});
    return (s.q * s.q).sum();
  };
  const double e = 1e-5;
  const double central =
      (loss(Tensor::from({1.0 + e})).item<double>() - loss(Tensor::from({1.0 - e})).item<double>()) / (2 * e);
  CHECK(tp::grad(loss)(Tensor::from({1.0})).item<double>() == doctest::Approx(central).epsilon(1e-7));
}

TEST_CASE("ImplicitMidpoint of a nonlinear H converges, or says that it does not") {
  const tp::System pendulum(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
  const tp::State s =
      pendulum.evolve({Tensor::from({1.0}), Tensor::from({0.0})},
                      {.dt = 0.1, .steps = 100, .integrator = tp::Integrator::ImplicitMidpoint});
  const double e0 = -std::cos(1.0);
  CHECK(pendulum.energy(s).item<double>() == doctest::Approx(e0).epsilon(2e-3));
  const tp::State bad =
      pendulum.evolve({Tensor::from({1.0}), Tensor::from({0.0})},
                      {.dt = 40.0, .steps = 5, .integrator = tp::Integrator::ImplicitMidpoint});
  CHECK_THROWS_WITH_AS((void)bad.q.item<double>(), doctest::Contains("did not converge"), tp::Error);
}

TEST_CASE("lift: the price of compiling the loop counts, by its nodes" * needs_passes()) {
  // A hundred springs, each a term of its own: to compile them costs more than a jump.
  const tp::System springs([](const Tensor& q, const Tensor& p) {
    Tensor e = 0.5 * (p * p).sum();
    for (std::int64_t i = 0; i + 1 < 100; ++i) {
      const Tensor d = q[i + 1] - q[i];
      e = e + 0.5 * (1.0 + 0.01 * static_cast<double>(i)) * d * d;
    }
    return e;
  });
  const tp::State s =
      springs.evolve({Tensor::linspace(0.0, 1.0, 100), Tensor::zeros({100})}, {.dt = 0.01, .steps = 200});
  s.q.realize();
  const std::string json = tp::explain(s.q).json();
  CHECK(json.find("normal-mode jump") != std::string::npos);
  const std::string key = "\"loop_seconds\": ";
  const std::size_t at = json.find(key);
  REQUIRE(at != std::string::npos);
  CHECK(std::stod(json.substr(at + key.size())) > 0.1);  // predicted: ten times what one kernel takes
}

TEST_CASE("spring constants that a scan writes anew into the same memory make a jump of their own each time" *
          needs_passes()) {
  const Tensor q0 = Tensor::from({1.0, 2.0, 3.0, 4.0});
  const auto jump = [](const Tensor& k, const tp::State& s) {
    return tp::System([=](const Tensor& q, const Tensor& p) {
             return 0.5 * (p * p).sum() + 0.5 * (k * q * q).sum();
           })
        .evolve(s, {.dt = 0.01, .steps = 100000});
  };
  const auto grown = [](const Tensor& k) { return 0.3 * k * k + 1.0; };
  constexpr int kTimes = 5;
  const auto [k, q, p] = tp::scan(
      [&](const Tensor& kn, const Tensor& qn, const Tensor& pn) {
        const tp::State s = jump(kn, {qn, pn});
        return std::tuple{grown(kn), s.q, s.p};
      },
      std::tuple{q0, q0, tp::zeros_like(q0)}, kTimes);
  tp::State one_by_one{q0, tp::zeros_like(q0)};
  Tensor stiffness = q0;
  for (int i = 0; i < kTimes; ++i) {
    one_by_one = jump(stiffness, one_by_one);
    stiffness = grown(stiffness);
    tp::realize({one_by_one.q, one_by_one.p, stiffness});
  }
  CHECK(contains(tp::explain(q).text, "normal-mode jump"));
  CHECK(q.to_vector<double>() == one_by_one.q.to_vector<double>());
}

TEST_CASE("a tiny state between two others changes nothing of what is told of them" * needs_passes()) {
  const tp::System spring(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const auto rounding = [&](double a) {
    const tp::State z =
        spring.evolve({Tensor::from({a}), Tensor::from({0.0})}, {.dt = 0.1, .steps = 1'000'000});
    tp::realize({z.q, z.p});
    const std::string text = tp::explain(z.q).text, key = "the loop's own rounding: ";
    const auto from = text.find(key);
    REQUIRE(from != std::string::npos);
    return text.substr(from, text.find('\n', from) - from);
  };
  const std::string first = rounding(1.0);
  (void)rounding(1e-310);
  CHECK(rounding(1.0) == first);
  CHECK_FALSE(contains(first, "0e+00"));
}
