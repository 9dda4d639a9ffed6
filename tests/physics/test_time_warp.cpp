// Method::TimeWarp: orbits of any eccentricity, the time that it lands on, and what it refuses.
#include <cmath>
#include <functional>
#include <numbers>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"
#include "tinyphys/error.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;

namespace {

constexpr double kEps = 0x1p-53, kPi = std::numbers::pi;

std::vector<double> values(const Tensor& x) { return x.to_vector<double>(); }

tp::System kepler() {
  return tp::System(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - 1.0 / tp::sqrt((q * q).sum()); });
}
tp::State aphelion(double e) {
  return {Tensor::from({1 + e, 0.0}), Tensor::from({0.0, std::sqrt((1 - e) / (1 + e))})};
}
// Where the orbit that starts at its aphelion is at time t.
std::vector<double> orbit_at(double e, double t) {
  const double mean = std::remainder(t + kPi, 2 * kPi);
  double x = mean;
  for (int i = 0; i < 200; ++i) x -= (x - e * std::sin(x) - mean) / (1 - e * std::cos(x));
  return {-(std::cos(x) - e), -std::sqrt(1 - e * e) * std::sin(x)};
}

std::string said(const std::function<void()>& f) {
  try {
    f();
  } catch (const tp::Error& e) {
    const std::string text = e.what();
    const std::size_t at = text.find(" (test_time_warp.cpp:");
    return at == std::string::npos ? "no line in: " + text : text.substr(0, at);
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("Kepler orbits up to e = 0.9999 keep their energy to the walk of the rounding") {
  const tp::System sys = kepler();
  const std::int64_t orbits = 100;
  for (const double e : {0.0, 0.5, 0.9, 0.99, 0.9999}) {
    tp::State s = aphelion(e);
    const double e0 = sys.energy(s).item<double>();
    double worst = 0;
    for (int piece = 0; piece < 10; ++piece) {
      // Steps that fall elsewhere on the orbit each time.
      s = sys.evolve(s,
                     {.dt = 2 * kPi / 200, .steps = 200 * orbits / 10 + 37, .method = tp::Method::TimeWarp});
      worst = std::max(worst, std::fabs(sys.energy(s).item<double>() / e0 - 1));
    }
    CAPTURE(e);
    CAPTURE(worst);
    CHECK(worst <= 100 * kEps * (1 + e) / (1 - e) * std::sqrt(static_cast<double>(orbits)));
    // It has been around: the time is that of so many orbits.
    CHECK(s.t.item<double>() == doctest::Approx(2 * kPi * (orbits + 10 * 37 / 200.0)).epsilon(0.02));
  }
}

TEST_CASE("the orbit itself is exact, its phase of order 2") {
  const tp::System sys = kepler();
  const double e = 0.9;
  double last = 0;
  for (const int per_orbit : {100, 200, 400}) {
    const tp::State s = sys.evolve(
        aphelion(e), {.dt = 2 * kPi / per_orbit, .steps = 3 * per_orbit / 2, .method = tp::Method::TimeWarp});
    const auto q = values(s.q), p = values(s.p);
    const double l = q[0] * p[1] - q[1] * p[0], r = std::hypot(q[0], q[1]);
    const double ex = l * p[1] - q[0] / r, ey = -l * p[0] - q[1] / r;
    CHECK(std::hypot(ex + e, ey) < 1e-11);  // the perihelion points to -x
    const auto exact = orbit_at(e, s.t.item<double>());
    const double off = std::hypot(q[0] - exact[0], q[1] - exact[1]);
    if (last > 0) CHECK(last / off == doctest::Approx(4).epsilon(0.1));
    last = off;
  }
}

TEST_CASE("t_end is landed on, with the state of that time") {
  const tp::System sys = kepler();
  const double e = 0.99;
  for (const double t_end : {0.5, 2 * kPi, 20.25, 0.0}) {
    const tp::State s =
        sys.evolve(aphelion(e),
                   {.dt = 2 * kPi / 4000, .steps = 100'000, .method = tp::Method::TimeWarp, .t_end = t_end});
    CAPTURE(t_end);
    CHECK(std::fabs(s.t.item<double>() - t_end) <= 1e-13 * t_end);
    const auto q = values(s.q), exact = orbit_at(e, t_end);
    CHECK(std::hypot(q[0] - exact[0], q[1] - exact[1]) < 2e-3);
    CHECK(std::fabs(sys.energy(s).item<double>() + 0.5) < 1e-11);
  }
  // From a time of its own; and a g of one's own gives another path to it: the time-transformed leapfrog of order 2.
  double last = 0;
  for (const int per_orbit : {500, 1000, 2000}) {
    tp::State start = aphelion(0.8);
    start.t = Tensor(3.0);
    const tp::State s =
        sys.evolve(start, {.dt = 2 * kPi / per_orbit,
                           .steps = 100'000,
                           .method = tp::Method::TimeWarp,
                           .t_end = Tensor(3.0 + 9.5),
                           .g = [](const Tensor& q) { return (q * q).sum() / (1.0 + (q * q).sum()); }});
    CHECK(std::fabs(s.t.item<double>() - 12.5) <= 1e-13 * 12.5);
    const auto q = values(s.q), exact = orbit_at(0.8, 9.5);
    const double off = std::hypot(q[0] - exact[0], q[1] - exact[1]);
    CAPTURE(off);
    if (last > 0) CHECK(last / off == doctest::Approx(4).epsilon(0.25));
    last = off;
  }
}

TEST_CASE("gradients go through a landing") {
  const tp::System sys = kepler();
  const auto end = [&](const Tensor& q) {
    const tp::State s{q, Tensor::from({0.0, 0.5})};
    return sys.evolve(s, {.dt = 0.05, .steps = 1000, .method = tp::Method::TimeWarp, .t_end = 1.0}).q[0];
  };
  const std::vector<double> at{1.0, 0.2};
  const auto g = values(tp::grad(end)(Tensor::from(at)));
  for (std::size_t i = 0; i < 2; ++i) {
    std::vector<double> up = at, down = at;
    up[i] += 1e-5;
    down[i] -= 1e-5;
    const double slope =
        (end(Tensor::from(up)).item<double>() - end(Tensor::from(down)).item<double>()) / 2e-5;
    CHECK(g[i] == doctest::Approx(slope).epsilon(1e-6));
  }
}

TEST_CASE("explain tells of a warp, and runs on every device and without passes are the same loop") {
  const tp::State s = kepler().evolve(
      aphelion(0.5), {.dt = 0.05, .steps = 500, .method = tp::Method::TimeWarp, .t_end = 3.0});
  const std::string report = tp::explain(s.q).text;
  INFO(report);
  CHECK(contains(report, "TimeWarp by the logarithmic Hamiltonian, 500 steps"));
  CHECK(contains(report, "class method"));
  CHECK(contains(report, "refused  jump: the length of a step depends on the state"));
}

TEST_CASE("what a warp is not for is refused, with the reason") {
  const auto warp = [](const tp::System& sys, const tp::State& z, tp::EvolveOptions options = {}) {
    options.dt = 0.05;
    options.steps = 2000;
    options.method = tp::Method::TimeWarp;
    return said([&] { sys.evolve(z, options).q.realize(); });
  };
  const tp::State z = aphelion(0.5);
  CHECK(contains(warp(tp::System::from_force([](const Tensor& q) { return -q; }, 1), z),
                 "the system is a force"));
  CHECK(contains(warp(tp::System([](const Tensor& q, const Tensor& p, const Tensor& t) {
                        return 0.5 * (p * p).sum() - 1.0 / tp::sqrt((q * q).sum()) + t * q.sum();
                      }),
                      z),
                 "H depends on the time"));
  CHECK(contains(
      warp(tp::System([](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * p).sum(); }),
           z),
      "joins q and p"));
  CHECK(contains(warp(kepler(), z, {.integrator = tp::Integrator::Yoshida4}), "drift-kick-drift of its own"));
  CHECK(contains(warp(kepler(), z, {.conserve = {tp::Conserved::Energy}}), "conserve is not built for it"));
  CHECK(contains(warp(kepler(), z, {.t_end = -1.0}), "t_end is -1, before the time of the state, 0"));
  CHECK(contains(warp(kepler(), z, {.t_end = Tensor::from({1.0})[0] - 2.0}),
                 "t_end is before the time of the state"));
  CHECK(contains(warp(kepler(), z, {.t_end = 1e6}), "the steps given do not reach t_end"));
  CHECK(contains(warp(kepler(), z, {.g = [](const Tensor& q) { return q; }}),
                 "g must return a float64 scalar"));
  CHECK(contains(said([&] { kepler().evolve(z, {.dt = 0.1, .steps = 10, .t_end = 1.0}); }),
                 "t_end is for Method::TimeWarp"));
  // U > 0 at the start, and then not: a well with a rim.
  const tp::System rim(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (q * q).sum() - 1.0; });
  const std::string out = warp(rim, {Tensor::from({0.0}), Tensor::from({2.0})});
  CHECK(contains(out, "TimeWarp needs"));
  CHECK(contains(out, "does not hold at step "));
  CHECK(contains(warp(rim, {Tensor::from({2.0}), Tensor::from({0.0})}), "does not hold at step 0"));
  CHECK(contains(warp(kepler(), z, {.g = [](const Tensor& q) { return q[0] - 10.0; }}), "needs a g above 0"));
}
