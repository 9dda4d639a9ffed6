// RESPA's fastest level as one map where its terms are quadratic: the same motion as its steps, in quad precision, and where
// it must stay steps.
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/engine.hpp"
#include "lift_helpers.hpp"
#include "needs_passes.hpp"

namespace tp = tinyphys;
using tp::Quad;
using tp::Tensor;
using namespace tp::testing;

namespace {

tp::EvolveOptions steps_of(double dt, std::int64_t steps, tp::Levels levels) {
  tp::EvolveOptions o{.dt = dt, .steps = static_cast<double>(steps)};
  o.levels = std::move(levels);
  return o;
}

// Wells of their own with a weight and masses that are not all one, under waves.
tp::System wells(double quartic = 0) {
  return tp::System({{"slow", [](const Tensor& q,
                                 const Tensor& p) { return 0.3 * tp::cos(q).sum() + 0.1 * (p * p).sum(); }},
                     {"fast", [quartic](const Tensor& q, const Tensor& p) {
                        const Tensor k = Tensor::from({100.0, 30.0, 7.0});
                        const Tensor whole = 0.5 * (p * p / Tensor::from({1.0, 2.0, 3.0})).sum() +
                                             0.5 * (k * q * q).sum() - 2.0 * q.sum();
                        return quartic == 0 ? whole : whole + quartic * (q * q * q * q).sum();
                      }}});
}
const tp::State kWells{Tensor::from({0.3, -0.2, 0.5}), Tensor::from({0.4, 1.0, -0.3})};

// Bonds between neighbours, and a soft pull on each.
tp::System chain(std::int64_t n) {
  return tp::System({{"bonds",
                      [](const Tensor& q, const Tensor& p) {
                        const Tensor d = q.slice(0, 1) - q.slice(0, 0, -1);
                        return 0.5 * (p * p).sum() + 200.0 * (d * d).sum();
                      }},
                     {"pull", [n](const Tensor& q, const Tensor&) {
                        return tp::log(1.0 + tp::square(q + Tensor::arange(static_cast<double>(n)))).sum();
                      }}});
}
tp::State bent(std::int64_t n) {
  return {(0.1 * tp::sin(Tensor::arange(static_cast<double>(n)))).realize(), Tensor::zeros({n})};
}

const tp::Levels kTen{{"slow", 1}, {"fast", 10}};

// From its steps in quad precision: they are read off the graph, which may be let go of once the state is computed.
double off_quad(const tp::State& s) {
  const auto exact = quad_loop(s);
  return relative_error(joined(s), exact);
}

}  // namespace

TEST_CASE("a quadratic fast level is the loop of its steps, in quad precision" * needs_passes()) {
  const tp::State blocks = wells().evolve(kWells, steps_of(0.1, 300, kTen));
  CHECK(off_quad(blocks) < 1e-13);
  CHECK(contains(
      tp::explain(blocks.q).text,
      "found    the 10 steps of \"fast\" within one of \"slow\" are a rotation, T + V being quadratic: "
      "one map, 2 x 2 numbers for each coordinate, made once (class exact"));
  // No farther from it than the steps are.
  tp::EvolveOptions loop = steps_of(0.1, 4000, kTen);
  const tp::State by_map = wells().evolve(kWells, loop);
  loop.method = tp::Method::Loop;
  const auto exactly = quad_loop(by_map);
  const double of_map = relative_error(joined(by_map), exactly),
               of_steps = relative_error(joined(wells().evolve(kWells, loop)), exactly);
  CAPTURE(of_map);
  CAPTURE(of_steps);
  CHECK(of_map < 2 * of_steps);
}

TEST_CASE("where coordinates are joined the map is a matrix, by Method::Auto: its rounding adds up" *
          needs_passes()) {
  tp::EvolveOptions loop = steps_of(0.05, 300, {{"pull", 1}, {"bonds", 8}});
  const tp::State steps = chain(6).evolve(bent(6), loop);
  CHECK(off_quad(steps) < 1e-13);
  const std::string on_offer = tp::explain(steps.q).text;
  CHECK(contains(
      on_offer,
      "offers   a matrix of 12 x 12 for the 8 steps of \"bonds\" within one of \"pull\", T + V being "
      "quadratic (class method)"));
  loop.method = tp::Method::Auto;
  const tp::State matrix = chain(6).evolve(bent(6), loop);
  CHECK(off_quad(matrix) < 1e-12);
  CHECK(joined(matrix) != joined(steps));
  CHECK(contains(tp::explain(matrix.q).text,
                 "are a rotation, T + V being quadratic: one map, a matrix of 12 x 12"));
  loop.method = tp::Method::Loop;
  const tp::State taken = chain(6).evolve(bent(6), loop);
  CHECK(contains(tp::explain(taken.q).text, "within one of \"pull\": Method::Loop asks for the steps"));
  const auto a = joined(matrix), b = joined(taken);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::fabs(a[i] - b[i]) < 1e-12);
}

TEST_CASE("a quadratic fast level below two others, backward, and with steps of 0" * needs_passes()) {
  const tp::System three({{"slow", [](const Tensor& q, const Tensor&) { return 0.3 * tp::sin(q).sum(); }},
                          {"middle", [](const Tensor& q, const Tensor&) { return (q * q * q * q).sum(); }},
                          {"kinetic", [](const Tensor&, const Tensor& p) { return 0.5 * (p * p).sum(); }},
                          {"bond", [](const Tensor& q, const Tensor&) {
                             const Tensor d = q[0] - q[1];
                             return 50.0 * d * d;
                           }}});
  const tp::State start{Tensor::from({0.1, -0.2}), Tensor::from({0.35, 0.1})};
  const tp::Levels levels{{"slow", 1}, {"middle", 2}, {"bond", 8}};
  const auto options = [&](double dt, std::int64_t n) {
    tp::EvolveOptions o = steps_of(dt, n, levels);
    o.method = tp::Method::Auto;
    return o;
  };
  const tp::State there = three.evolve(start, options(0.1, 200));
  CHECK(off_quad(there) < 1e-12);
  CHECK(
      contains(tp::explain(there.q).text, "the 4 steps of \"bond\" within one of \"middle\" are a rotation"));
  const auto back = joined(three.evolve(there, options(-0.1, 200))), first = joined(start);
  for (std::size_t i = 0; i < back.size(); ++i) CHECK(std::fabs(back[i] - first[i]) < 1e-11);
  CHECK(joined(three.evolve(start, options(0.1, 0))) == first);
}

TEST_CASE("what is no quadratic fast level stays steps, and says why") {
  const auto report = [](const tp::System& s, const tp::State& z, const tp::Levels& levels,
                         tp::Method method = tp::Method::Auto) {
    tp::EvolveOptions o = steps_of(0.05, 40, levels);
    o.method = method;
    const tp::State end = s.evolve(z, o);
    CHECK(off_quad(end) < 1e-13);
    return tp::explain(end.q).text;
  };
  const std::string quartic = report(wells(1e-9), kWells, kTen);
  CAPTURE(quartic);
  CHECK(contains(quartic, "refused  rotation for the 10 steps of \"fast\" within one of \"slow\": "));
  CHECK(contains(quartic, "has degree 3 in q at test_fast_level.cpp:"));
  // A kinetic energy that is not quadratic, wherever it stands.
  const tp::System relativistic(
      {{"slow",
        [](const Tensor& q, const Tensor& p) { return tp::sqrt(1.0 + p * p).sum() + tp::cos(q).sum(); }},
       {"fast", [](const Tensor& q, const Tensor&) { return 9.0 * (q * q).sum(); }}});
  CHECK(contains(report(relativistic, kWells, kTen), "refused  rotation for the 10 steps of \"fast\""));
  // Quadratic for the numbers that it has now, and for no others.
  const double c = 1.125;
  const tp::System now({{"slow", [](const Tensor& q, const Tensor&) { return 0.3 * tp::cos(q).sum(); }},
                        {"fast", [c](const Tensor& q, const Tensor& p) {
                           const Tensor r = q + 1.0;
                           return 0.5 * (p * p).sum() + 9.0 * (q * q).sum() +
                                  (0.75 * r * r * r + 0.375 * r * r * r - c * q * q * q).sum();
                         }}});
  const std::string numbers = report(now, kWells, kTen);
  CAPTURE(numbers);
  CHECK_FALSE(contains(numbers, "are a rotation"));
  // Two steps of a long chain are less work than a matrix.
  if (tp::env::optimize())
    CHECK(contains(report(chain(60), bent(60), {{"pull", 1}, {"bonds", 2}}),
                   "a matrix of 120 x 120 would be more work than 2 steps"));
}

TEST_CASE("a quadratic fast level: ensembles, vmap, save_every and derivatives") {
  const auto terms = [](const Tensor& k) {
    return std::vector<tp::EnergyTerm>{
        {"slow", [](const Tensor& q, const Tensor&) { return -1.0 * tp::cos(q).sum({-1}); }},
        {"fast", [k](const Tensor& q, const Tensor& p) {
           const Tensor d = q.slice(-1, 1) - q.slice(-1, 0, -1);
           return 0.5 * (p * p).sum({-1}) + 0.5 * k * (d * d).sum({-1});
         }}};
  };
  const auto ten = [](std::int64_t n) {
    tp::EvolveOptions o = steps_of(0.1, n, kTen);
    o.method = tp::Method::Auto;
    return o;
  };
  const Tensor k = Tensor::from({9.0, 16.0}), q = Tensor::from({{0.3, 0.1, 0.2}, {-0.5, 1.0, 0.0}}),
               p = Tensor::zeros({2, 3});
  const tp::State all = tp::System(terms(k), {.batch_axes = 1}).evolve({q, p}, ten(50));
  const Tensor mapped = tp::vmap([&](const Tensor& x, const Tensor& y, const Tensor& c) {
    return tp::System(terms(c)).evolve({x, y}, ten(50)).q;
  })(q, p, k);
  for (std::int64_t i = 0; i < 2; ++i) {
    const tp::State one = tp::System(terms(k[i])).evolve({q[i], p[i]}, ten(50));
    const auto expected = quad_loop(one);
    CHECK(relative_error(joined(one), expected) < 1e-13);
    for (std::size_t c = 0; c < 3; ++c) {
      const double x = static_cast<double>(expected[c]);
      CHECK(all.q[i].to_vector<double>()[c] == doctest::Approx(x).epsilon(1e-12));
      CHECK(mapped[i].to_vector<double>()[c] == doctest::Approx(x).epsilon(1e-12));
    }
  }
  tp::EvolveOptions o = steps_of(0.1, 60, kTen);
  const tp::State end = wells().evolve(kWells, o);
  o.save_every = 20;
  const tp::State path = wells().evolve(kWells, o);
  const auto last = path.q[3].to_vector<double>(), whole = end.q.to_vector<double>();
  for (std::size_t i = 0; i < whole.size(); ++i) CHECK(std::fabs(last[i] - whole[i]) < 1e-13);

  const auto loss = [&](const Tensor& stiff) {
    return tp::System(terms(stiff)).evolve({q[0], p[0]}, ten(30)).q[1];
  };
  const Tensor at = tp::as_tensor(9.0).clone();
  const double e = 1e-5, slope = (loss(tp::as_tensor(9.0 + e)).item<double>() -
                                  loss(tp::as_tensor(9.0 - e)).item<double>()) /
                                 (2 * e);
  CHECK(tp::grad(loss)(at).item<double>() == doctest::Approx(slope).epsilon(1e-6));
}
