// The engine: plans found again, the same bits always, what a second realize costs, errors that leave it usable.
#include <algorithm>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "engine/engine.hpp"
#include "needs_passes.hpp"
#include "runtime/device.hpp"
#include "support/env.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tp = tinyphys;
using tp::Tensor;

namespace {

Tensor ramp(std::int64_t n) { return Tensor::linspace(0.0, 3.0, n); }

tp::System oscillators(const Tensor& m, double k) {
  return tp::System(
      [m, k](const Tensor& q, const Tensor& p) { return 0.5 * (p * p / m).sum() + 0.5 * k * (q * q).sum(); });
}

}  // namespace

TEST_CASE("other numbers and other data compile nothing and plan nothing") {
  const auto f = [](double a, const Tensor& x) { return (sin(x * a) + a).sum().item<double>(); };
  const Tensor x = ramp(1000).realize(), y = (x + 1.0).realize();
  const double first = f(1.25, x);
  const auto kernels = tp::kernels_compiled();
  const auto plans = tp::plan_counts();
  const double second = f(3.5, y);
  CHECK(tp::kernels_compiled() == kernels);
  CHECK(tp::plan_counts().made == plans.made);
  CHECK(tp::plan_counts().reused > plans.reused);
  CHECK(first != second);
  double expected = 0;
  for (double v : y.to_vector<double>()) expected += std::sin(v * 3.5) + 3.5;
  CHECK(second == doctest::Approx(expected).epsilon(1e-13));
}

TEST_CASE("a second evolve with other state, dt and steps compiles nothing" * tp::testing::needs_passes()) {
  const Tensor m = Tensor::from({1.0, 2.0, 0.5});
  const tp::System system = oscillators(m, 1.7);
  const auto run = [&](double q, double dt, std::int64_t steps) {
    return system
        .evolve({Tensor::from({q, 0.1, 0.2}), Tensor::from({0.0, q, 0.3})}, {.dt = dt, .steps = steps})
        .q.to_vector<double>();
  };
  run(0.3, 1e-3, 1'000'000'000);
  const auto kernels = tp::kernels_compiled();
  const auto plans = tp::plan_counts();
  const auto again = run(0.7, 2e-3, 123'456'789);
  CHECK(tp::kernels_compiled() == kernels);
  CHECK(tp::plan_counts().made == plans.made);
  CHECK(std::isfinite(again[0]));
}

TEST_CASE("q and p of one evolution come from one run") {
  const tp::System pendulum(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
  int calls = 0;
  const tp::State s =
      pendulum.evolve({Tensor::from({1.0}), Tensor::from({0.0})},
                      {.dt = 1e-3, .steps = 1000, .progress = [&](const tp::Progress&) { ++calls; }});
  (void)s.q.item<double>();
  CHECK(calls > 0);
  const int after_q = calls;
  (void)s.p.item<double>();
  (void)(s.p * 2.0).item<double>();
  CHECK(calls == after_q);
}

TEST_CASE("progress ends at the last step and never goes back") {
  const tp::System pendulum(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
  for (const bool large : {false, true}) {
    std::vector<tp::Progress> seen;
    const Tensor q0 = large ? ramp(5000) : Tensor::from({1.0, 0.5}), p0 = tp::zeros_like(q0);
    const tp::State with = pendulum.evolve(
        {q0, p0}, {.dt = 1e-3, .steps = 3000, .progress = [&](const tp::Progress& p) { seen.push_back(p); }});
    const auto values = with.q.to_vector<double>();
    REQUIRE(!seen.empty());
    CHECK(seen.back().done == 3000);
    CHECK(seen.back().total == 3000);
    CHECK(seen.back().fraction == 1.0);
    for (std::size_t i = 1; i < seen.size(); ++i) CHECK(seen[i].done >= seen[i - 1].done);
    // In pieces or in one go: the same bits.
    const tp::State without = pendulum.evolve({q0 + 0.0, p0 + 0.0}, {.dt = 1e-3, .steps = 3000});
    CHECK(without.q.to_vector<double>() == values);
  }
}

TEST_CASE("the same bits for one and two threads, fused and unfused") {
  const auto work = [] {
    const Tensor x = ramp(100'003);
    std::vector<double> out{(sin(x) * exp(-x * x)).sum().item<double>(), (x * x).mean().item<double>()};
    const Tensor y = tp::matmul(x.slice(0, 0, 90'000).reshape({300, 300}), x.slice(0, 1, 301)).realize();
    const auto v = y.to_vector<double>();
    out.insert(out.end(), v.begin(), v.end());
    return out;
  };
  std::vector<std::vector<double>> results;
  for (const char* threads : {"1", "2", "2"}) {
    tp::env::ScopedOverride t("TINYPHYS_THREADS", threads);
    results.push_back(work());
  }
  CHECK(results[0] == results[1]);
  CHECK(results[1] == results[2]);
  tp::env::ScopedOverride off("TINYPHYS_OPT", "0");
  const auto plain = work();
  for (std::size_t i = 0; i < plain.size(); ++i)
    CHECK(plain[i] == doctest::Approx(results[0][i]).epsilon(1e-12));
}

TEST_CASE("interp is the oracle of cpu") {
  const auto work = [] {
    const Tensor x = ramp(77).reshape({7, 11});
    const Tensor y =
        tp::scan([](const Tensor& a) { return a + 0.01 * sin(a.roll(3, 1)) - 0.001 * a.sum(); }, x, 25);
    return (y.permute({1, 0}).cumsum(0) * tp::where(y.permute({1, 0}) > 1.0, 2.0, 0.5)).to_vector<double>();
  };
  const auto cpu = work();
  tp::env::ScopedOverride device("TINYPHYS_DEVICE", "interp");
  const auto interp = work();
  REQUIRE(cpu.size() == interp.size());
  for (std::size_t i = 0; i < cpu.size(); ++i) CHECK(cpu[i] == doctest::Approx(interp[i]).epsilon(1e-12));
}

TEST_CASE("the null device gives no values") {
  tp::env::ScopedOverride device("TINYPHYS_DEVICE", "null");
  CHECK_THROWS_WITH_AS((void)(ramp(4) * 3.25).sum().item<double>(), doctest::Contains("null"), tp::Error);
}

TEST_CASE("item inside a trace is an error at that place, and the engine goes on") {
  CHECK_THROWS_WITH_AS(
      (void)tp::grad([](const Tensor& x) { return x * x.item<double>(); })(Tensor::full({}, 2.0)),
      doctest::Contains("traced"), tp::Error);
  CHECK((Tensor::from({1.0, 2.0}) + 1.0).sum().item<double>() == 5.0);
}

TEST_CASE("gradients run through evolve by the tape") {
  const double k0 = 1.3, dt = 0.01;
  const std::int64_t steps = 200;
  const Tensor q0 = Tensor::from({1.0, -0.4}), p0 = Tensor::from({0.0, 0.2});
  const auto loss = [&](const Tensor& k) {
    const tp::System s([k](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() + k * pow(q, 4).sum() + (q * q).sum();
    });
    const tp::State end = s.evolve({q0, p0}, {.dt = dt, .steps = steps});
    return (end.q * end.q).sum() + end.p.sum();
  };
  const double g = tp::grad(loss)(Tensor::full({}, k0)).item<double>();
  const double e = 1e-5;
  const double central =
      (loss(Tensor::full({}, k0 + e)).item<double>() - loss(Tensor::full({}, k0 - e)).item<double>()) /
      (2 * e);
  CHECK(g == doctest::Approx(central).epsilon(1e-7));
}

TEST_CASE("derivatives of every order and mode agree with the closed form of a jumped oscillator") {
  const double h = 0.01, steps = 100;
  const tp::System system(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 2.0 * (q * q).sum(); });
  const auto end = [&](const Tensor& x) {
    return system.evolve({x, tp::zeros_like(x)}, {.dt = h, .steps = static_cast<std::int64_t>(steps)}).q;
  };
  const auto loss = [&](const Tensor& x) {
    const Tensor q = end(x);
    return (q * q).sum();
  };
  const double c = std::cos(2 * steps * std::asin(h * 2.0 / 2));  // d q_N / d q_0
  const Tensor x = Tensor::from({1.0, 0.5});
  const auto [value, tangent] = tp::jvp(end, {x}, {Tensor::from({3.0, -1.0})});
  CHECK(tangent.to_vector<double>()[0] == doctest::Approx(3 * c).epsilon(1e-12));
  CHECK(tangent.to_vector<double>()[1] == doctest::Approx(-c).epsilon(1e-12));
  CHECK(tp::grad(loss)(x).to_vector<double>()[1] == doctest::Approx(2 * c * c * 0.5).epsilon(1e-12));
  const auto hessian = tp::hessian(loss)(x).to_vector<double>();
  CHECK(hessian[0] == doctest::Approx(2 * c * c).epsilon(1e-12));
  CHECK(hessian[1] == doctest::Approx(0.0));
  CHECK(hessian[3] == doctest::Approx(2 * c * c).epsilon(1e-12));
}

TEST_CASE("tensors are used from several threads") {
  std::vector<std::thread> threads;
  std::vector<double> sums(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t, &sums] {
      for (int i = 0; i < 20; ++i)
        sums[static_cast<std::size_t>(t)] =
            (ramp(100 + t) * static_cast<double>(t) + 1.0).sum().item<double>();
    });
  for (auto& t : threads) t.join();
  for (int t = 0; t < 4; ++t)
    CHECK(sums[static_cast<std::size_t>(t)] == doctest::Approx((100 + t) * (1.5 * t + 1.0)).epsilon(1e-12));
}

TEST_CASE("loops: carries that swap, pass through, stack out and take slices") {
  const Tensor a = ramp(3000).realize(), b = (ramp(3000) + 1.0).realize();
  const auto [x, y] = tp::scan(
      [](const Tensor& u, const Tensor& v) {
        return std::tuple{v, u};
      },
      std::tuple{a, b}, 3);
  CHECK(x.to_vector<double>() == b.to_vector<double>());
  CHECK(y.to_vector<double>() == a.to_vector<double>());
  const Tensor zero_steps = tp::scan([](const Tensor& u) { return u * 2.0; }, a, 0);
  CHECK(zero_steps.to_vector<double>() == a.to_vector<double>());
}

TEST_CASE("a value asked for inside a progress callback is an error, not a deadlock") {
  const tp::System pendulum(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
  const tp::State s = pendulum.evolve({Tensor::from({1.1}), Tensor::from({0.0})},
                                      {.dt = 1e-3, .steps = 100, .progress = [](const tp::Progress&) {
                                         (void)(ramp(3) * 7.5).sum().item<double>();
                                       }});
  CHECK_THROWS_WITH_AS((void)s.q.item<double>(), doctest::Contains("progress callback"), tp::Error);
  CHECK((ramp(3) * 7.5).sum().item<double>() == doctest::Approx(33.75));
}

TEST_CASE("explain knows what an item() has run" * tp::testing::needs_passes()) {
  const tp::System system = oscillators(Tensor::from({1.5}), 0.9);
  const tp::State s =
      system.evolve({Tensor::from({1.0}), Tensor::from({0.25})}, {.dt = 1e-3, .steps = 50'000'000});
  (void)s.q.item<double>();
  CHECK(tp::explain(s.q).text.find("chose    normal-mode jump") != std::string::npos);
  CHECK(tp::explain(s.p).text.find("chose    normal-mode jump") != std::string::npos);
}

TEST_CASE("an index known only at run time is checked") {
  const Tensor table = ramp(5).realize(), at = (Tensor::from({0.0, 1.0}) * 2.0).astype(tp::DType::kInt64);
  CHECK(tp::gather(table, at).to_vector<double>() == std::vector<double>{0.0, 1.5});
  CHECK(tp::gather(table, at - 5).to_vector<double>() == std::vector<double>{0.0, 1.5});
  CHECK_THROWS_WITH_AS((void)tp::gather(table, at * 3).to_vector<double>(), doctest::Contains("out of range"),
                       tp::Error);
  CHECK_THROWS_WITH_AS((void)tp::gather(table, at - 6).to_vector<double>(),
                       doctest::Contains("test_engine.cpp"), tp::Error);
}

TEST_CASE("the plan is text") {
  const tp::UOp v = tp::uop((ramp(10) * 2.5).sum());
  const std::string plan = tp::describe_plan(std::span<const tp::UOp>(&v, 1));
  CHECK(plan.find("kernel") != std::string::npos);
}

TEST_CASE("forces between pairs keep nothing of all pairs, however they are spelled" *
          tp::testing::needs_passes()) {
  const std::int64_t n = 96;
  const Tensor q = tp::sin(ramp(3 * n) * 7).reshape({n, 3}).realize(), m = (ramp(n) + 1).realize();
  const auto plan = [](const std::vector<Tensor>& values) {
    std::vector<tp::UOp> nodes;
    for (const Tensor& v : values) nodes.push_back(tp::uop(v));
    return tp::describe_plan(nodes);
  };
  const auto component = [&](std::int64_t c) { return q.slice(1, c, c + 1).reshape({n}); };
  const auto way = [&](const Tensor& x) { return x.reshape({1, n}) - x.reshape({n, 1}); };
  const Tensor x = component(0).realize(), y = component(1).realize(), z = component(2).realize();
  const Tensor dx = way(x), dy = way(y), dz = way(z), r2 = dx * dx + dy * dy + dz * dz + 0.1;
  const Tensor w = m.reshape({1, n}) / (r2 * sqrt(r2));
  const std::vector<Tensor> apart{(dx * w).sum(1), (dy * w).sum(1), (dz * w).sum(1)};
  const Tensor d = q.reshape({1, n, 3}) - q.reshape({n, 1, 3}), s2 = (d * d).sum(2) + 0.1;
  const Tensor together = (d * (m.reshape({1, n}) / (s2 * sqrt(s2))).reshape({n, n, 1})).sum(1);
  const Tensor energy = -0.5 * (m.reshape({1, n}) * m.reshape({n, 1}) / sqrt(s2)).sum();
  const Tensor slope = tp::gradient(energy, {q})[0];
  for (const std::string& text : {plan(apart), plan({together}), plan({slope})}) {
    CAPTURE(text);
    CHECK(text.find("[96,96") == std::string::npos);
  }
  const std::string sums = plan(apart);
  CHECK(std::count(sums.begin(), sums.end(), '\n') == 1);
  tp::realize(apart);
  const Tensor stacked = tp::stack(apart, 1);
  CHECK(tp::allclose(together, stacked, 1e-12, 1e-12));
  CHECK(tp::allclose(-slope / m.reshape({n, 1}), stacked, 1e-12, 1e-12));
}

TEST_CASE("nothing leaks") {
  const auto work = [] {
    const tp::System s = oscillators(Tensor::from({1.0, 2.0}), 0.7);
    (void)s.evolve({Tensor::from({1.0, 0.0}), Tensor::from({0.0, 1.0})}, {.dt = 0.01, .steps = 1'000'000})
        .q.to_vector<double>();
  };
  work();
  const auto before = tp::live_nodes();
  for (int i = 0; i < 5; ++i) work();
  CHECK(tp::live_nodes() <= before);
}

TEST_CASE("programs that differ a little are not taken for one another, asked for twice or not") {
  const auto v = [](const Tensor& x) { return x.to_vector<double>(); };
  using Values = std::vector<double>;
  const auto from = [](Values x) { return Tensor::from(x); };
  for (int round = 0; round < 3; ++round) {  // the first makes the plans, the others find them again
    CAPTURE(round);
    const double r = round;
    const Tensor a = from({1 + r, 2, 3}), b = from({4, 5 + r, 7});
    CHECK(v(a - b) == Values{r - 3, -3 - r, -4});
    CHECK(v(b - a) == Values{3 - r, 3 + r, 4});
    CHECK(v(a - a) == Values{0, 0, 0});
    CHECK(v(a * b + a) == Values{(1 + r) * 4 + 1 + r, 2 * (5 + r) + 2, 24});
    CHECK(v(a * b + b) == Values{(1 + r) * 4 + 4, 2 * (5 + r) + 5 + r, 28});
    CHECK(v(a * b + a * b) == Values{(1 + r) * 8, 4 * (5 + r), 42});
    // One number twice, and two numbers.
    CHECK(v(a * 2.0 + 2.0) == Values{4 + 2 * r, 6, 8});
    CHECK(v(a * 2.0 + (3.0 + r)) == Values{5 + 3 * r, 7 + r, 9 + r});
    CHECK(v(a * 2.5 + 2.5) == Values{5 + 2.5 * r, 7.5, 10});
    CHECK(v(a.roll(1, 0)) == Values{3, 1 + r, 2});
    CHECK(v(a.roll(2, 0)) == Values{2, 3, 1 + r});
    CHECK(v(tp::pow(b, 2)) == Values{16, (5 + r) * (5 + r), 49});
    CHECK(v(tp::pow(b, 3)) == Values{64, (5 + r) * (5 + r) * (5 + r), 343});
    CHECK(v(from({1, 2, 3, 4}).reshape({2, 2}).sum(0)) == Values{4, 6});
    CHECK(v(from({1, 2, 3, 4}).reshape({2, 2}).sum(1)) == Values{3, 7});
    CHECK(v(from({1, 2}).reshape({2, 1}) + from({10, 20, 30})) == Values{11, 21, 31, 12, 22, 32});
    CHECK(v(from({1, 2, 3}).reshape({3, 1}) + from({10, 20})) == Values{11, 21, 12, 22, 13, 23});
    // What one realize computed is where the next begins: another structure.
    const Tensor c = a * 3.0, d = c + b;
    if (round != 1) c.realize();
    CHECK(v(d) == Values{7 + 3 * r, 11 + r, 16});
    // Products of float32 are rounded to float32.
    CHECK(v((Tensor::from(std::vector<float>{1, 2}) * 0.1).astype(tp::DType::kFloat64)) ==
          Values{static_cast<double>(0.1F), static_cast<double>(0.2F)});
    CHECK(v((from({1, 2}) * 0.1).astype(tp::DType::kFloat64)) == Values{0.1, 0.2});
    Tensor e = c + 1.0, f = c - 1.0;
    tp::realize({e, f, e});
    CHECK(v(e) == Values{4 + 3 * r, 7, 10});
    CHECK(v(f) == Values{2 + 3 * r, 5, 8});
  }
}
