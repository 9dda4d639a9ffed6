// Method::TimeWarp: states at requested times, ensembles whose members have times of their own, and g(q, p).
#include <cmath>
#include <functional>
#include <numbers>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "derive/time_warp.hpp"
#include "lift_helpers.hpp"
#include "tensor/access.hpp"
#include "tinyphys/error.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;

namespace {

constexpr double kPi = std::numbers::pi;
const tp::Method kWarp = tp::Method::TimeWarp;

std::vector<double> values(const Tensor& x) { return x.to_vector<double>(); }

tp::System kepler() {
  return tp::System(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - 1.0 / tp::sqrt((q * q).sum()); });
}
// One body each, of masses of their own.
tp::System keplers(const Tensor& m) {
  return tp::System(
      [=](const Tensor& q, const Tensor& p) {
        return 0.5 * (p * p).sum({1}) / m - m / tp::sqrt((q * q).sum({1}));
      },
      {.batch_axes = 1});
}
tp::State aphelion(double e) {
  return {Tensor::from({1 + e, 0.0}), Tensor::from({0.0, std::sqrt((1 - e) / (1 + e))})};
}
std::vector<double> orbit_at(double e, double t) {
  const double mean = std::remainder(t + kPi, 2 * kPi);
  double x = mean;
  for (int i = 0; i < 200; ++i) x -= (x - e * std::sin(x) - mean) / (1 - e * std::cos(x));
  return {-(std::cos(x) - e), -std::sqrt(1 - e * e) * std::sin(x)};
}
// By both energies: near 1 / U on the motion, and a function of p.
Tensor pace(const Tensor& q, const Tensor& p) {
  return 1.0 / (0.5 * (p * p).sum() + 1.0 / tp::sqrt((q * q).sum()));
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::fabs(a[i] - b[i]));
  return a.size() == b.size() ? most : INFINITY;
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

TEST_CASE("save_at: each state is that of a landing by itself, and the walk goes on as if none had looked") {
  const tp::State start = aphelion(0.9);
  const std::vector<double> times{0.0, 0.5, 0.5, kPi, 9.0};
  for (const int kind : {0, 1, 2}) {
    tp::EvolveOptions options{.dt = 2 * kPi / 500, .steps = 3000, .method = kWarp};
    if (kind == 1) options.g = [](const Tensor& q) { return (q * q).sum() / (1.0 + (q * q).sum()); };
    if (kind == 2) options.g = pace;
    tp::EvolveOptions all = options;
    all.save_at = times;
    const tp::State path = kepler().evolve(start, all);
    CHECK(path.q.shape() == tp::Shape{5, 2});
    CHECK(path.t.shape() == tp::Shape{5});
    const auto t = values(path.t), q = values(path.q), p = values(path.p);
    for (std::size_t i = 0; i < times.size(); ++i) {
      CAPTURE(kind);
      CAPTURE(i);
      CHECK(std::fabs(t[i] - times[i]) <= 1e-13 * std::max(times[i], 1e-3));
      tp::EvolveOptions one = options;
      one.t_end = times[i];
      const tp::State s = kepler().evolve(start, one);
      CHECK(distance(values(s.q), {q[2 * i], q[2 * i + 1]}) < 1e-13);
      CHECK(distance(values(s.p), {p[2 * i], p[2 * i + 1]}) < 1e-12);
    }
    CHECK(distance(orbit_at(0.9, 9.0), {q[8], q[9]}) < 0.05);
  }
}

TEST_CASE("save_every: the states after so many steps, with the times that they lead to") {
  const tp::State start = aphelion(0.9);
  const tp::EvolveOptions options{.dt = 0.02, .steps = 600, .method = kWarp, .save_every = 150};
  const tp::State path = kepler().evolve(start, options);
  CHECK(path.q.shape() == tp::Shape{5, 2});
  const auto t = values(path.t), q = values(path.q);
  for (std::int64_t i = 0; i <= 4; ++i) {
    const tp::State s = kepler().evolve(start, {.dt = 0.02, .steps = 150 * i, .method = kWarp});
    const auto k = static_cast<std::size_t>(i);
    CHECK(std::fabs(s.t.item<double>() - t[k]) < 1e-12);
    CHECK(distance(values(s.q), {q[2 * k], q[2 * k + 1]}) < 1e-11);
  }
}

TEST_CASE("members of an ensemble each take steps of their own, and land on times of their own") {
  const std::vector<double> es{0.0, 0.6, 0.95};
  const std::vector<double> masses{1.0, 2.0, 0.5}, ends{1.0, 2.5, 7.0};
  std::vector<double> q0, p0;
  for (std::size_t i = 0; i < es.size(); ++i) {
    q0.insert(q0.end(), {1 + es[i], 0.0});
    p0.insert(p0.end(), {0.0, masses[i] * std::sqrt((1 - es[i]) / (1 + es[i]))});
  }
  const tp::State all{Tensor::from(q0).reshape({3, 2}), Tensor::from(p0).reshape({3, 2})};
  const Tensor m = Tensor::from(masses);
  const tp::System ensemble = keplers(m);
  const auto one = [&](std::size_t i, const tp::EvolveOptions& options) {
    const Tensor own = Tensor::from({masses[i]}).reshape({});
    const tp::System sys([own](const Tensor& q, const Tensor& p) {
      return 0.5 * (p * p).sum() / own - own / tp::sqrt((q * q).sum());
    });
    return sys.evolve({Tensor::from({q0[2 * i], q0[2 * i + 1]}), Tensor::from({p0[2 * i], p0[2 * i + 1]})},
                      options);
  };
  const auto same = [&](const tp::State& s, std::size_t i, const tp::State& alone) {
    const auto q = values(s.q), p = values(s.p), t = values(s.t);
    const auto a = values(alone.q), b = values(alone.p), c = values(alone.t);
    for (std::size_t row = 0; row < c.size(); ++row) {
      CAPTURE(i);
      CAPTURE(row);
      const std::size_t k = 3 * row + i;
      CHECK(std::hypot(a[2 * row] - q[2 * k], a[2 * row + 1] - q[2 * k + 1]) < 1e-11);
      CHECK(std::hypot(b[2 * row] - p[2 * k], b[2 * row + 1] - p[2 * k + 1]) < 1e-10);
      CHECK(std::fabs(c[row] - t[k]) < 1e-11);
    }
  };
  for (const int kind : {0, 1, 2}) {
    CAPTURE(kind);
    tp::EvolveOptions of_one{.dt = 0.02, .steps = 400, .method = kWarp}, of_all = of_one;
    if (kind == 1) {
      of_one.g = [](const Tensor& q) { return (q * q).sum() / (1.0 + (q * q).sum()); };
      of_all.g = [](const Tensor& q) { return (q * q).sum({1}) / (1.0 + (q * q).sum({1})); };
    } else if (kind == 2) {
      of_one.g = [](const Tensor& q, const Tensor& p) { return 1.0 / ((p * p).sum() + 1.0 / (q * q).sum()); };
      of_all.g = [](const Tensor& q, const Tensor& p) {
        return 1.0 / ((p * p).sum({1}) + 1.0 / (q * q).sum({1}));
      };
    }
    // So many steps: each at its own time.
    tp::State s = ensemble.evolve(all, of_all);
    CHECK(s.t.shape() == tp::Shape{3});
    for (std::size_t i = 0; i < 3; ++i) same(s, i, one(i, of_one));
    // To a time of its own for each.
    of_all.steps = of_one.steps = 5000;
    of_all.t_end = m * 0.0 + Tensor::from(ends);
    s = ensemble.evolve(all, of_all);
    for (std::size_t i = 0; i < 3; ++i) {
      of_one.t_end = Tensor::from({ends[i]}).reshape({});
      CHECK(std::fabs(values(s.t)[i] - ends[i]) <= 1e-12);
      same(s, i, one(i, of_one));
    }
    if (kind == 2) continue;
    of_all.t_end = {};
    of_one.t_end = {};
    of_all.save_at = of_one.save_at = {0.7, 3.0};
    s = ensemble.evolve(all, of_all);
    CHECK(s.q.shape() == tp::Shape{2, 3, 2});
    CHECK(s.t.shape() == tp::Shape{2, 3});
    for (std::size_t i = 0; i < 3; ++i) same(s, i, one(i, of_one));
  }
  // The state goes on, with its times; the energy takes it.
  const tp::State mid = ensemble.evolve(all, {.dt = 0.02, .steps = 100, .method = kWarp});
  const tp::State on = ensemble.evolve(mid, {.dt = 0.02, .steps = 100, .method = kWarp}),
                  whole = ensemble.evolve(all, {.dt = 0.02, .steps = 200, .method = kWarp});
  CHECK(distance(values(on.t), values(whole.t)) < 1e-10);
  CHECK(distance(values(ensemble.energy(on)), values(ensemble.energy(all))) < 1e-11);
  const std::string report = tp::explain(mid.q).text;
  CHECK(
      contains(report, "3 members of an ensemble, none joined with another: each goes by a time of its own"));
}

TEST_CASE("g(q, p): the implicit midpoint rule, of order 2, for an H that is not separable too") {
  double last = 0;
  for (const int per_orbit : {400, 800, 1600}) {
    const tp::State s = kepler().evolve(
        aphelion(0.8),
        {.dt = 4 * kPi / per_orbit, .steps = 100'000, .method = kWarp, .t_end = 4.0, .g = pace});
    const double off = distance(values(s.q), orbit_at(0.8, 4.0));
    CAPTURE(off);
    if (last > 0) CHECK(last / off == doctest::Approx(4).epsilon(0.1));
    last = off;
  }
  const tp::State out =
      kepler().evolve(aphelion(0.8), {.dt = 0.05, .steps = 1000, .method = kWarp, .g = pace});
  CHECK(std::fabs(kepler().energy(out).item<double>() + 0.5) < 0.02);
  CHECK(contains(tp::explain(out.q).text, "TimeWarp by dt = g(q, p) ds"));
  CHECK(contains(tp::explain(out.q).text, "the implicit midpoint rule for g (H - E0), order 2 in ds"));

  // p^2 (1 + q^2) / 2 + q^4 / 4: joined.
  const tp::System joined([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p * (1.0 + q * q)).sum() + 0.25 * (q * q * q * q).sum();
  });
  const tp::State z{Tensor::from({1.0}), Tensor::from({0.5})};
  const tp::State fine =
      joined.evolve(z, {.dt = 1e-3, .steps = 3000, .integrator = tp::Integrator::ImplicitMidpoint});
  last = 0;
  for (const double ds : {0.08, 0.04, 0.02}) {
    const tp::State s = joined.evolve(
        z,
        {.dt = ds, .steps = 10'000, .method = kWarp, .t_end = 3.0, .g = [](const Tensor& q, const Tensor& p) {
           return 1.0 / (1.0 + (p * p).sum() + 0.1 * (q * p).sum() + (q * q).sum());
         }});
    const double off = std::fabs(s.q.item<double>() - fine.q.item<double>());
    CAPTURE(off);
    if (last > 0) CHECK(last / off == doctest::Approx(4).epsilon(0.15));
    last = off;
  }
}

TEST_CASE("g(q, p): held to the energy of the way out, the way back is the way out, step by step") {
  const auto walk = [](const tp::State& from, std::int64_t steps) {
    tp::WarpLoop loop;
    const tp::UOp q = tp::uop(from.q), p = tp::uop(from.p);
    loop.q = tp::symbol_like(q.get());
    loop.p = tp::symbol_like(p.get());
    loop.energy = tp::uop(kepler().energy({tp::tensor(loop.q), tp::tensor(loop.p)}));
    loop.held = tp::constant(-0.5);
    loop.rate = tp::uop(pace(tp::tensor(loop.q), tp::tensor(loop.p)));
    loop.ds = tp::constant(0.05);
    loop.steps = tp::constant_int(steps);
    loop.q0 = q;
    loop.p0 = p;
    loop.t0 = tp::uop(from.t);
    const tp::Warped w = tp::warp(loop);
    return tp::State{tp::tensor(w.q), tp::tensor(w.p), tp::tensor(w.t)};
  };
  const tp::State out = walk(aphelion(0.8), 700), back = walk({out.q, -out.p}, 700);
  CHECK(distance(values(out.q), values(aphelion(0.8).q)) > 0.1);
  CHECK(distance(values(back.q), values(aphelion(0.8).q)) < 1e-10);
  CHECK(std::fabs(back.t.item<double>() - out.t.item<double>()) < 1e-10);
}

TEST_CASE("gradients go through saved times and members") {
  const auto check = [](const std::function<Tensor(const Tensor&)>& f, const std::vector<double>& at) {
    const auto g = values(tp::grad(f)(Tensor::from(at)));
    for (std::size_t i = 0; i < at.size(); ++i) {
      std::vector<double> up = at, down = at;
      up[i] += 1e-5;
      down[i] -= 1e-5;
      const double slope = (f(Tensor::from(up)).item<double>() - f(Tensor::from(down)).item<double>()) / 2e-5;
      CHECK(g[i] == doctest::Approx(slope).epsilon(1e-5));
    }
  };
  check(
      [](const Tensor& q) {
        const tp::State s{q, Tensor::from({0.0, 0.5})};
        const tp::State path =
            kepler().evolve(s, {.dt = 0.05, .steps = 100, .method = kWarp, .save_at = {0.3, 1.0}});
        return (path.q * Tensor::from({{1.0, 0.5}, {-0.5, 2.0}})).sum();
      },
      {1.0, 0.2});
  check(
      [](const Tensor& m) {
        const tp::State s{Tensor::from({{1.0, 0.2}, {0.8, -0.3}}), Tensor::from({{0.1, 0.7}, {0.2, 0.9}})};
        const tp::State end = keplers(m).evolve(s, {.dt = 0.05, .steps = 60, .method = kWarp, .t_end = 0.6});
        return (end.q * Tensor::from({{1.0, 0.5}, {-0.5, 2.0}})).sum();
      },
      {1.0, 1.3});
  check(
      [](const Tensor& q) {
        const tp::State s{q, Tensor::from({0.0, 0.5})};
        return kepler().evolve(s, {.dt = 0.05, .steps = 60, .method = kWarp, .t_end = 0.6, .g = pace}).q[0];
      },
      {1.0, 0.2});
}

TEST_CASE("times and members: what is refused, with the values") {
  const auto warp = [](const tp::System& sys, const tp::State& z, tp::EvolveOptions options) {
    options.dt = 0.05;
    options.steps = 200;
    options.method = kWarp;
    return said([&] { sys.evolve(z, options).q.realize(); });
  };
  const tp::State z = aphelion(0.5);
  CHECK(
      contains(warp(kepler(), z, {.save_at = {1.0, 0.5}}), "save_at[1] is 0.5, before the one before it, 1"));
  CHECK(
      contains(warp(kepler(), z, {.save_at = {-1.0}}), "save_at[0] is -1, before the time of the state, 0"));
  CHECK(contains(warp(kepler(), z, {.save_at = {INFINITY}}), "save_at[0] is inf, it must be finite"));
  CHECK(contains(warp(kepler(), z, {.t_end = 1.0, .save_at = {1.0}}),
                 "of t_end, save_at and save_every one can be given"));
  CHECK(contains(warp(kepler(), z, {.save_every = 3}),
                 "save_every is 3, it must be at least 1 and divide the 200"));
  CHECK(contains(warp(kepler(), z, {.save_at = {0.1, 1e4}}), "the steps given do not reach t_end"));
  CHECK(contains(said([&] { kepler().evolve(z, {.dt = 0.1, .steps = 10, .save_at = {1.0}}); }),
                 "save_at is for Method::TimeWarp"));
  // g is below 0, or 0.
  CHECK(
      contains(warp(kepler(), z, {.g = [](const Tensor& q, const Tensor& p) { return q[0] + p[0] - 10.0; }}),
               "needs a g above 0 and finite all along, which does not hold at step 0"));
  CHECK(contains(warp(kepler(), z, {.g = [](const Tensor& q, const Tensor&) { return 0.0 * q[0]; }}),
                 "does not hold at step 0"));
  CHECK(contains(warp(kepler(), z, {.g = [](const Tensor& q, const Tensor&) { return 40.0 + 0.0 * q[0]; }}),
                 "by sweeps, which do not converge at step 0"));

  const tp::System ensemble = keplers(Tensor::from({1.0, 1.0, 1.0}));
  const tp::State three{Tensor::from({{1.0, 0.0}, {1.5, 0.0}, {1.2, 0.1}}),
                        Tensor::from({{0.0, 1.0}, {0.0, 0.5}, {0.1, 0.8}})};
  CHECK(contains(warp(ensemble, three, {.g = [](const Tensor& q) { return q.sum(); }}),
                 "g must return a float64 for each member, [3]"));
  CHECK(contains(warp(ensemble, three, {.g = [](const Tensor& q) { return (q * q).sum({1}).roll(1, 0); }}),
                 "g may join members of the ensemble"));
  const std::string of_member =
      warp(ensemble, three, {.g = [](const Tensor& q) {
             return tp::where(q.slice(1, 0, 1).reshape({3}) > Tensor::from({-9.0, 1.3, -9.0}), 1.0, -1.0);
           }});
  CAPTURE(of_member);
  CHECK(contains(of_member, "needs a g above 0 and finite all along, which does not hold at step "));
  CHECK(contains(of_member, " of member 1"));
  CHECK(contains(warp(ensemble, three, {.t_end = Tensor::from({1.0, 1.0, 1e5})}),
                 "the steps given do not reach"));
  // A save_every on the way: the step is counted from the start.
  const tp::System rim(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * q).sum() - 1.0; });
  const tp::State up{Tensor::from({0.0}), Tensor::from({2.0})};
  const std::string plain = warp(rim, up, {}), pieces = warp(rim, up, {.save_every = 4}),
                    timed = warp(rim, up, {.save_at = {0.01, 0.02, 50.0}});
  const auto step_in = [](const std::string& text) { return text.substr(text.find("at step "), 11); };
  CHECK(contains(plain, "does not hold at step 7"));
  CHECK(step_in(pieces) == step_in(plain));
  CHECK(step_in(timed) == step_in(plain));
}
