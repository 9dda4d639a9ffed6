// What explain() says: records as text and as JSON, whose line, how much of a long past.
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "engine/engine.hpp"
#include "needs_passes.hpp"
#include "runtime/device.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/uop.hpp"

namespace tp = tinyphys;
using tp::Tensor;

namespace {

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}
std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t i = 0; (i = text.find(what, i)) != std::string::npos; i += what.size()) ++n;
  return n;
}
const tp::State kStart{Tensor::from({0.5}), Tensor::from({0.1})};
std::string here(unsigned line) { return "test_explain.cpp:" + std::to_string(line); }

}  // namespace

TEST_CASE("two systems with one formula: each report names its own line") {
  const unsigned first = __LINE__ + 1;
  const tp::System a([](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + sin(q).sum(); });
  const unsigned second = __LINE__ + 1;
  const tp::System b([](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + sin(q).sum(); });
  const std::string of_a = tp::explain(a.evolve(kStart, {.dt = 0.1, .steps = 3}).q).text;
  const std::string of_b = tp::explain(b.evolve(kStart, {.dt = 0.2, .steps = 4}).q).text;
  CHECK(contains(of_a, here(first)));
  CHECK_FALSE(contains(of_a, here(second)));
  CHECK(contains(of_b, here(second)));
  CHECK_FALSE(contains(of_b, here(first)));

  const auto joined = [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * p).sum(); };
  const unsigned third = __LINE__ - 1, fourth = __LINE__ + 2;
  const tp::System c(joined);
  const tp::System d([](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * p).sum(); });
  try {
    (void)c.evolve(kStart, {.dt = 0.1, .steps = 3});
    FAIL("no error");
  } catch (const tp::Error& e) {
    CHECK(contains(e.what(), here(third)));
  }
  try {
    (void)d.evolve(kStart, {.dt = 0.1, .steps = 3});
    FAIL("no error");
  } catch (const tp::Error& e) {
    CHECK_FALSE(contains(e.what(), here(third)));
    CHECK(contains(e.what(), here(fourth)));
  }
}

TEST_CASE("a step that does not converge is told at its own evolve") {
  const tp::System pendulum(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
  const auto run = [&](const tp::State& z, double dt, tp::Where where) {
    return pendulum.evolve(z, {.dt = dt, .steps = 5, .integrator = tp::Integrator::ImplicitMidpoint}, where);
  };
  const unsigned good = __LINE__ + 1;
  (void)run(kStart, 0.1, tp::Where::current()).q.item<double>();
  const unsigned bad = __LINE__ + 1;
  const tp::State s = run({kStart.q + 0.25, kStart.p}, 40.0, tp::Where::current());
  try {
    (void)s.q.item<double>();
    FAIL("no error");
  } catch (const tp::Error& e) {
    CHECK(contains(e.what(), here(bad)));
    CHECK_FALSE(contains(e.what(), here(good)));
  }
}

TEST_CASE("a step that is no number is an error, whatever H is") {
  const Tensor nan = Tensor::from({std::numeric_limits<double>::quiet_NaN()}, {});
  const tp::System quadratic(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * q).sum(); });
  const tp::System quartic(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * q * q * q).sum(); });
  for (const tp::System* s : {&quadratic, &quartic})
    for (const tp::Integrator i : {tp::Integrator::LeapfrogKDK, tp::Integrator::ImplicitMidpoint}) {
      const tp::State z = s->evolve(kStart, {.dt = nan, .steps = 3, .integrator = i});
      CHECK_THROWS_WITH_AS((void)z.q.item<double>(), doctest::Contains("must be finite"), tp::Error);
    }
}

TEST_CASE("a report of a long past is short: what repeats is counted, the last comes first") {
  const tp::System pendulum(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
  tp::State z = kStart;
  for (int i = 0; i < 1000; ++i) z = pendulum.evolve(z, {.dt = 0.01, .steps = 5});
  const std::string text = tp::explain(z.q).text;
  CHECK(text.size() < 3000);
  CHECK(contains(text, "repeats  1,000 times in a row"));
  CHECK(count(text, "evolve   ") == 1);
  // Each different: the last ones, and a word about the rest.
  z = kStart;
  for (int i = 0; i < 100; ++i) z = pendulum.evolve(z, {.dt = 0.01, .steps = 5 + i});
  const std::string list = tp::explain(z.q).text;
  CHECK(count(list, "evolve   ") == 16);
  CHECK(contains(list.substr(0, 40), "104 steps"));
  CHECK(contains(list, "84 earlier"));
}

TEST_CASE("the report as JSON" * tp::testing::needs_passes()) {
  const tp::System spring({{"kinetic", [](const Tensor&, const Tensor& p) { return 0.5 * (p * p).sum(); }},
                           {"spring", [](const Tensor& q, const Tensor&) { return 1.5 * (q * q).sum(); }}});
  const tp::State s = spring.evolve(kStart, {.dt = 0.01, .steps = 1'000'000});
  (void)s.q.item<double>();
  const auto report = nlohmann::json::parse(tp::explain(s.q).json());
  REQUIRE(report["entries"].size() == 1);
  bool chose = false, error = false, terms = false;
  for (const auto& r : report["entries"][0]) {
    if (r["key"] == "evolve") {
      CHECK(r["numbers"]["steps"] == 1'000'000);
      CHECK(r["numbers"]["dt"] == 0.01);
      CHECK(r["numbers"]["integrator"] == "LeapfrogKDK");
      CHECK(contains(r["where"], "test_explain.cpp"));
    }
    terms |= r["key"] == "terms" && contains(r["text"], "spring: 1.5 * q * q, degree 2 in q");
    chose |= r["key"] == "chose" && r["numbers"]["propagator"] == "normal-mode jump";
    error |= r["key"] == "error" && r["numbers"]["bound_q"].get<double>() > 0;
  }
  CHECK(terms);
  CHECK(chose);
  CHECK(error);
  CHECK(report["value"][0]["key"] == "value");
}

TEST_CASE("a powered step matrix states its error, and warns of growth") {
  const tp::System saddle([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() - 0.5 * (q * q).sum() + 0.3 * (q * p).sum();
  });
  const tp::EvolveOptions options{.dt = 0.01, .steps = 2000, .integrator = tp::Integrator::Exact};
  const tp::State s = saddle.evolve(kStart, options);
  (void)s.q.item<double>();
  const std::string text = tp::explain(s.q).text;
  CHECK(contains(text, "chose    powered step matrix"));
  CHECK(contains(text, "error    q <= "));
  CHECK(contains(text, "warns    the step is unstable"));
}

TEST_CASE("numbers that vary compile nothing, also where they decide a proof") {
  const auto evolve = [](double k) {
    const tp::System cubic([k](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() + k * (q * q * q).sum();
    });
    return cubic.evolve(kStart, {.dt = 0.01, .steps = 10}).q.item<double>();
  };
  (void)evolve(0.123);
  const auto plans = tp::plan_counts();
  const auto kernels = tp::kernels_compiled();
  for (int i = 0; i < 200; ++i) (void)evolve(0.1 + 0.001 * i);
  CHECK(tp::plan_counts().made == plans.made);
  CHECK(tp::kernels_compiled() == kernels);
}

TEST_CASE(
    "an error of a run names the line of its own call, also where a plan or the body of a loop is shared") {
  const auto line_of = [](const auto& run) -> std::string {
    try {
      (void)run();
    } catch (const tp::Error& e) {
      return e.what();
    }
    return "no error";
  };
  const Tensor x = Tensor::from({1.0, 2.0, 3.0});
  const auto at = [](std::int64_t i) { return Tensor::from({i, std::int64_t{0}}); };
  // Two calls, one plan.
  const unsigned first = __LINE__ + 1;
  CHECK((2.0 * x[at(1)]).to_vector<double>() == std::vector<double>{4, 2});
  const unsigned second = __LINE__ + 1;
  std::string said = line_of([&] { return (2.0 * x[at(7)]).to_vector<double>(); });
  CHECK(contains(said, "index 7"));
  CHECK(contains(said, here(second)));
  CHECK_FALSE(contains(said, here(first)));
  // One body.
  const unsigned third = __LINE__ + 2;
  const auto sum_a = [&](std::int64_t n) {
    return tp::scan([&](tp::Index i, Tensor s) { return s + x[i]; }, 0.0, n).item<double>();
  };
  const unsigned fourth = __LINE__ + 2;
  const auto sum_b = [&](std::int64_t n) {
    return tp::scan([&](tp::Index i, Tensor s) { return s + x[i]; }, 0.0, n).item<double>();
  };
  CHECK(sum_a(3) == 6);
  said = line_of([&] { return sum_b(4); });
  CHECK(contains(said, here(fourth)));
  CHECK_FALSE(contains(said, here(third)));
  said = line_of([&] { return sum_a(4); });
  CHECK(contains(said, here(third)));
  CHECK_FALSE(contains(said, here(fourth)));
  // A body within a body.
  const auto nested = [&](unsigned& line, std::int64_t n) {
    return tp::scan(
               [&](tp::Index i, Tensor s) {
                 line = __LINE__ + 1;
                 return s + tp::scan([&](tp::Index j, Tensor t) { return t + x[i + j]; }, 0.0, n);
               },
               0.0, 2)
        .item<double>();
  };
  const auto other = [&](unsigned& line, std::int64_t n) {
    return tp::scan(
               [&](tp::Index i, Tensor s) {
                 line = __LINE__ + 1;
                 return s + tp::scan([&](tp::Index j, Tensor t) { return t + x[i + j]; }, 0.0, n);
               },
               0.0, 2)
        .item<double>();
  };
  unsigned one = 0, two = 0;
  CHECK(nested(one, 2) == 8);
  said = line_of([&] { return other(two, 3); });
  CHECK(contains(said, here(two)));
  CHECK_FALSE(contains(said, here(one)));
  // Two of them in what is asked for: both are named.
  const unsigned fifth = __LINE__ + 1;
  const Tensor a = x[at(0)].sum();
  const unsigned sixth = __LINE__ + 1;
  const Tensor b = x[at(9)].sum();
  said = line_of([&] { return (a + b).item<double>(); });
  CHECK(contains(said, "index 9"));
  CHECK(contains(said, here(sixth)));
  CHECK_FALSE(contains(said, here(fifth)));
  // A step that does not converge.
  const tp::System pendulum(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
  const auto run = [&](double dt, tp::Where where) {
    return pendulum
        .evolve(kStart, {.dt = dt, .steps = 6, .integrator = tp::Integrator::ImplicitMidpoint}, where)
        .q.item<double>();
  };
  const unsigned good = __LINE__ + 1;
  (void)run(0.1, tp::Where::current());
  const unsigned bad = __LINE__ + 1;
  said = line_of([&] { return run(40.0, tp::Where::current()); });
  CHECK(contains(said, here(bad)));
  CHECK_FALSE(contains(said, here(good)));
}

TEST_CASE("a gradient tells of the loop that it goes back through" * tp::testing::needs_passes()) {
  const Tensor q = Tensor::from({1.0, 2.0}), p = Tensor::zeros({2});
  const auto report_of = [&](const tp::System& system, long steps) {
    const tp::State z = system.evolve({q, p}, {.dt = 0.01, .steps = steps});
    const Tensor g =
        tp::gradient(z.q.sum(), std::vector<Tensor>{q})[0];  // nothing of the state is left in it
    const std::string before = tp::explain(g).text;
    g.realize();
    return std::pair(before, tp::explain(g).text);
  };
  const tp::System linear(
      [](const Tensor& x, const Tensor& y) { return 0.5 * (y * y).sum() + 0.5 * (x * x).sum(); });
  const auto [offered, jumped] = report_of(linear, 100'000);
  CHECK(contains(offered, "evolve   the gradient through 100,000 steps, LeapfrogKDK"));
  CHECK(contains(offered, "found    the gradient by the state is an evolution by -dt"));
  CHECK(contains(offered, "offers   normal-mode jump"));
  CHECK(contains(jumped, "evolve   the gradient through 100,000 steps"));
  CHECK(contains(jumped, "chose    normal-mode jump (class exact)"));
  const tp::System quartic(
      [](const Tensor& x, const Tensor& y) { return 0.5 * (y * y).sum() + 0.25 * (x * x * x * x).sum(); });
  for (const std::string& text : {report_of(quartic, 1000).first, report_of(quartic, 1001).second}) {
    CHECK(contains(text, "evolve   the gradient through 1,00"));
    CHECK(contains(text, "refused  jump: q * q * q has degree 3"));
    CHECK(
        contains(text, "chose    the loop of LeapfrogKDK steps, backward, over a tape of its states, 32 kB"));
  }
  const Tensor rate = Tensor::from({0.9999, 0.99995});
  const auto scan_report = [&](auto step) {
    const Tensor z = tp::scan(step, q, 50'000);
    const Tensor g = tp::gradient(z.sum(), std::vector<Tensor>{q})[0];
    g.realize();
    return tp::explain(g).text;
  };
  const std::string affine = scan_report([&](const Tensor& x) { return x * rate + 1.0; });
  CHECK(contains(affine, "scan     the gradient through 50,000 steps, carry float64[2]"));
  CHECK(contains(affine, "chose    powered step matrix"));
  const std::string curved = scan_report([&](const Tensor& x) { return tp::sin(x * rate); });
  CHECK(contains(curved, "chose    the loop, backward, over a tape of its states, 800 kB"));
}

TEST_CASE("the loop's own rounding is that of its steps, of q and of p" * tp::testing::needs_passes()) {
  const auto loop_rounding = [](double offset) {
    const tp::System system([=](const Tensor& q, const Tensor& p) {
      const Tensor x = q - offset;
      return 0.5 * (p * p).sum() + 0.4321 * (x * x).sum();  // a system that no other test has met
    });
    const Tensor q = Tensor::from({offset + 1.0}), p = Tensor::from({1.0});
    const tp::State z = system.evolve({q, p}, {.dt = 0.01, .steps = 10'000});
    tp::realize({z.q, z.p});
    const auto json = nlohmann::json::parse(tp::explain(z.q).json());
    for (const auto& r : json["entries"][0])
      if (r["key"] == "error")
        return std::pair(r["numbers"]["loop_q"].get<double>(), r["numbers"]["loop_p"].get<double>());
    return std::pair(0.0, 0.0);
  };
  const auto [q_near, p_near] = loop_rounding(0.0);
  CHECK(q_near > 1e-16);
  CHECK(q_near < 1e-13);
  CHECK(p_near < 1e-13);
  // Far from the origin q rounds to its own size, which moves p by as much.
  const auto [q_far, p_far] = loop_rounding(1e6);
  CHECK(q_far < 1e-13);
  CHECK(p_far > 1e2 * p_near);
}

TEST_CASE("terms that are polynomials in the end say their degree") {
  const tp::System system([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + tp::square(tp::sqrt(q * q)).sum() + tp::pow(q, Tensor::full({2}, 2.0)).sum();
  });
  const tp::State z =
      system.evolve({Tensor::from({1.0, 2.0}), Tensor::zeros({2})}, {.dt = 0.01, .steps = 10});
  const std::string text = tp::explain(z.q).text;
  CHECK(!contains(text, "not polynomial"));
  CHECK(contains(text, "proved   H is quadratic"));
}

TEST_CASE("a scan tells of the evolutions in its steps, and of what their jumps did" *
          tp::testing::needs_passes()) {
  const tp::System spring(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const tp::State path = spring.evolve(kStart, {.dt = 0.01, .steps = 1'000'000, .save_every = 10'000});
  CHECK(contains(tp::explain(path.q).text, "offers   normal-mode jump"));
  path.q.realize();
  const std::string text = tp::explain(path.q).text;
  CHECK(contains(text, "scan     100 steps"));
  CHECK(contains(text, "evolve   in each step: 10,000 steps, LeapfrogKDK, dt 0.01"));
  CHECK(contains(text, "chose    normal-mode jump (class exact)"));
  CHECK(contains(text, "error    q <= "));
}

TEST_CASE("an ensemble is told of, with all its members") {
  const tp::System ensemble(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum({1}) + 0.5 * (q * q).sum({1}); },
      {.batch_axes = 1});
  const auto move = [&](const Tensor& q) {
    return ensemble.evolve({q, tp::zeros_like(q)}, {.dt = 0.01, .steps = 10}).q;
  };
  CHECK(contains(tp::explain(move(Tensor::ones({3, 2}))).text, "proved   3 members of an ensemble"));
  CHECK(contains(tp::explain(tp::vmap(move)(Tensor::ones({4, 3, 2}))).text,
                 "proved   12 members of an ensemble"));
}

TEST_CASE("explain of nothing") {
  std::string said;
  const unsigned line = __LINE__ + 2;
  try {
    (void)tp::explain(Tensor());
  } catch (const tp::Error& e) {
    said = e.what();
  }
  CHECK(contains(said, "[explain] the tensor is empty"));
  CHECK((contains(said, here(line)) || contains(said, here(line + 1))));
}

TEST_CASE("a state that is refused between two that are not leaves the report of the third whole" *
          tp::testing::needs_passes()) {
  const tp::System system([](const Tensor& q, const Tensor& p) {
    const Tensor x = (q + 1e10) - 1e10;  // rounds a small q on purpose
    return 0.5 * (p * p).sum() + 0.1234 * (x * x).sum();
  });
  const auto report = [&](double q) {
    const tp::State z = system.evolve({Tensor::from({q}), Tensor::from({q})}, {.dt = 0.01, .steps = 100'000});
    z.q.realize();
    return tp::explain(z.q).text;
  };
  CHECK(contains(report(1e6), "the loop's own rounding: q ~"));
  CHECK(contains(report(1e-6), "its rounding may be meant"));
  CHECK(contains(report(1e6), "the loop's own rounding: q ~"));
}

TEST_CASE("time steps that differ from member to member are no step of 1" * tp::testing::needs_passes()) {
  const tp::System system(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
  const auto end = [&](const Tensor& q, const Tensor& dt) {
    return system.evolve({q, tp::zeros_like(q)}, {.dt = dt, .steps = 1000}).q;
  };
  const Tensor q = tp::vmap(end)(Tensor::ones({2, 3}), Tensor::from({0.1, 0.2}));
  q.realize();
  const std::string text = tp::explain(q).text;
  INFO(text);
  CHECK(contains(text, "dt a factor of H"));
  CHECK_FALSE(contains(text, "dt 1,"));
}
