// Method::Split composed to higher orders, and its flow made once for all pieces of save_every.
#include <cmath>
#include <functional>
#include <numbers>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/engine.hpp"
#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "tinyphys/error.hpp"

namespace tp = tinyphys;
using tp::Impulse;
using tp::Integrator;
using tp::Tensor;
using namespace tp::testing;

namespace {

constexpr double kPi = std::numbers::pi;

tp::EvolveOptions split(Integrator integrator, double dt, std::int64_t steps,
                        Impulse impulse = Impulse::Auto) {
  tp::EvolveOptions o{
      .dt = dt, .steps = static_cast<double>(steps), .integrator = integrator, .method = tp::Method::Split};
  o.impulse = impulse;
  return o;
}

tp::System wells(double g = 0.3) {
  return tp::System([g](const Tensor& q, const Tensor& p) {
    const Tensor omega = Tensor::from({1.0, 5.0});
    return 0.25 * (p * p).sum() + (omega * omega * q * q).sum() + g * (q * q * q * q).sum();
  });
}
tp::System chain() {
  return tp::System([](const Tensor& q, const Tensor& p) {
    const Tensor walled = q.pad({{1, 1}}), d = walled.slice(0, 1) - walled.slice(0, 0, -1);
    return 0.5 * (p * p).sum() + 0.5 * (d * d).sum() + 0.5 / 3.0 * (d * d * d).sum() +
           0.7 / 4.0 * (d * d * d * d).sum();
  });
}
const tp::State kTwo{Tensor::from({0.7, -0.4}), Tensor::from({0.2, 0.5})};
tp::State bent(std::int64_t n) {
  const Tensor place = Tensor::arange(static_cast<double>(n)) + 1.0;
  return {(0.5 * tp::sin(kPi / static_cast<double>(n + 1) * place)).realize(), Tensor::zeros({n})};
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double d = 0;
  for (std::size_t i = 0; i < a.size(); ++i) d = std::max(d, std::fabs(a[i] - b[i]));
  return d;
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

TEST_CASE("the split composed as Yoshida4 is the loop written by hand, plain and mollified") {
  const double w1 = 1.3512071919596576340476878, w0 = 1 - 2 * w1, h = 0.1;
  for (const Impulse impulse : {Impulse::Plain, Impulse::Mollified}) {
    const auto found = joined(wells().evolve(kTwo, split(Integrator::Yoshida4, h, 100, impulse)));
    const auto q0 = kTwo.q.to_vector<double>(), p0 = kTwo.p.to_vector<double>();
    for (std::size_t i = 0; i < 2; ++i) {
      long double x = q0[i], u = p0[i];
      const long double w = i == 0 ? 1 : 5, m = 2;
      const auto turn = [&](long double t) {
        const long double c = std::cos(w * t), s = std::sin(w * t), y = x;
        x = c * x + s / (m * w) * u;
        u = c * u - m * w * s * y;
      };
      for (int k = 0; k < 100; ++k)
        for (const double part : {w1, w0, w1}) {
          const long double t = static_cast<long double>(h) * part;
          const long double a = impulse == Impulse::Plain ? 1 : std::sin(w * t) / (w * t);
          turn(t / 2);
          const long double y = a * x;
          u -= t * a * 4 * 0.3L * y * y * y;
          turn(t / 2);
        }
      CHECK(found[i] == doctest::Approx(static_cast<double>(x)).epsilon(1e-11).scale(1));
      CHECK(found[2 + i] == doctest::Approx(static_cast<double>(u)).epsilon(1e-11).scale(5));
    }
  }
}

TEST_CASE("compositions of the split have their order, by blocks and by a matrix") {
  const auto finely = [](const tp::System& system, const tp::State& start) {
    return joined(system.evolve(
        start,
        {.dt = 2.0 / 512, .steps = 512, .integrator = Integrator::Yoshida8, .method = tp::Method::Loop}));
  };
  const auto of_chain = finely(chain(), bent(7)), of_wells = finely(wells(), kTwo);
  struct Case {
    Integrator integrator;
    Impulse impulse;
    double order;
    std::int64_t steps;
  };
  for (const auto& c : {Case{Integrator::Yoshida4, Impulse::Plain, 4, 64},
                        Case{Integrator::Yoshida4, Impulse::Mollified, 4, 64},
                        Case{Integrator::BlanesMoan4, Impulse::Plain, 4, 16},
                        Case{Integrator::Yoshida6, Impulse::Plain, 6, 24},
                        Case{Integrator::Yoshida6, Impulse::Mollified, 6, 32}}) {
    for (const bool matrix : {false, true}) {
      CAPTURE(static_cast<int>(c.integrator));
      CAPTURE(matrix);
      const tp::System system = matrix ? chain() : wells();
      const tp::State start = matrix ? bent(7) : kTwo;
      const auto at = [&](std::int64_t n) {
        return joined(system.evolve(start, split(c.integrator, 2.0 / static_cast<double>(n), n, c.impulse)));
      };
      const auto& truth = matrix ? of_chain : of_wells;
      const double order = std::log2(distance(at(c.steps), truth) / distance(at(2 * c.steps), truth));
      CHECK(order == doctest::Approx(c.order).epsilon(0.06));
    }
  }
}

TEST_CASE("compositions of the split come back, and are told") {
  for (const Integrator integrator : {Integrator::Yoshida4, Integrator::BlanesMoan4}) {
    const tp::State there = wells().evolve(kTwo, split(integrator, 0.05, 300));
    const tp::State back = wells().evolve(there, split(integrator, -0.05, 300));
    CHECK(distance(joined(back), joined(kTwo)) < 1e-12);
  }
  const std::string text = tp::explain(wells().evolve(kTwo, split(Integrator::Yoshida4, 0.05, 300)).q).text;
  CHECK(contains(text, "300 steps, Split composed as Yoshida4, dt 0.05"));
  CHECK(contains(text, "the loop of split steps (class method: order 4, symplectic, symmetric"));
  CHECK(contains(text, "largest h Omega of the flow 0.25: the impulse is plain"));
  // Omega 5, h = 0.15: h Omega = 0.75, but the longest part of a step takes 1.7 of it.
  const std::string longer = tp::explain(wells().evolve(kTwo, split(Integrator::Yoshida4, 0.15, 300)).q).text;
  CHECK(contains(longer, "largest h Omega of the flow 0.75: the impulse is mollified"));
  const auto bits = [](double h, Impulse impulse) {
    return joined(wells().evolve(kTwo, split(Integrator::Yoshida4, h, 20, impulse)));
  };
  CHECK(bits(0.05, Impulse::Auto) == bits(0.05, Impulse::Plain));
  CHECK(bits(0.15, Impulse::Auto) == bits(0.15, Impulse::Mollified));
  CHECK(bits(0.15, Impulse::Auto) != bits(0.15, Impulse::Plain));
  // BlanesMoan4 has no steps of order 2 to mollify.
  const tp::State far = wells().evolve(kTwo, split(Integrator::BlanesMoan4, 0.5, 10));
  CHECK(contains(tp::explain(far.q).text, "plain impulse: BlanesMoan4 composes flows and kicks"));
  CHECK(contains(
      said([&] { (void)wells().evolve(kTwo, split(Integrator::BlanesMoan4, 0.5, 10, Impulse::Mollified)); }),
      "[evolve] Impulse::Mollified needs split steps: BlanesMoan4 composes flows and kicks"));
  for (const Integrator integrator :
       {Integrator::LeapfrogDKD, Integrator::ImplicitMidpoint, Integrator::Exact})
    CHECK(contains(said([&] { (void)wells().evolve(kTwo, split(integrator, 0.1, 10)); }),
                   "(LeapfrogKDK, Yoshida4, Yoshida6, Yoshida8 or BlanesMoan4): it takes no Integrator::"));
}

TEST_CASE("resonances of a composition are looked for at its steps and at theirs" * needs_passes()) {
  const auto report = [](double angle, Impulse impulse) {  // h Omega of the faster oscillator
    return tp::explain(wells().evolve(kTwo, split(Integrator::Yoshida4, angle / 5, 10, impulse)).q).text;
  };
  const std::string whole = report(kPi - 0.02, Impulse::Plain);
  CHECK(contains(whole, "warns    resonance: a mode of the flow near h Omega = k pi, Omega 5 is 0.02 off"));
  const std::string part = report((kPi - 0.02) / 1.3512071919596576, Impulse::Plain);
  CHECK(contains(part, "warns    resonance: a mode of the flow near 1.351 h Omega = k pi"));
  // Its own step does not kick a mode that it turns by pi.
  const std::string quiet = report((kPi - 0.02) / 1.3512071919596576, Impulse::Mollified);
  CHECK(contains(quiet, "spectrum resonance: a mode of the flow near 1.351 h Omega = k pi"));
  CHECK_FALSE(contains(quiet, "warns"));
  CHECK(contains(report(kPi - 0.02, Impulse::Mollified), "the kicks of the composed steps may pump it"));
  CHECK_FALSE(contains(report(0.7, Impulse::Plain), "resonance"));
}

TEST_CASE("the flow of a split is made once for all pieces of save_every" * needs_passes()) {
  const auto plan_of = [](const tp::State& s) {
    const tp::UOp v = tp::uop(s.q);
    return tp::describe_plan(std::span<const tp::UOp>(&v, 1));
  };
  // Lines of the plan within its last loop, that of the pieces.
  const auto inside = [](const std::string& plan, const std::string& what) {
    std::size_t count = 0, at = plan.rfind("\nloop ") + 1;
    at = plan.find('\n', at) + 1;
    for (; at < plan.size() && plan[at] == ' '; at = plan.find('\n', at) + 1)
      count += contains(plan.substr(at, plan.find('\n', at) - at), what) ? 1 : 0;
    return count;
  };
  for (const bool matrix : {false, true}) {
    CAPTURE(matrix);
    const tp::System system = matrix ? chain() : wells();
    const tp::State start = matrix ? bent(4) : kTwo;
    tp::EvolveOptions o = split(Integrator::LeapfrogKDK, 0.1, 60);
    const auto whole = joined(system.evolve(start, o));
    o.save_every = 20;
    const tp::State path = system.evolve(start, o);
    const std::string plan = plan_of(path);
    CAPTURE(plan);
    CHECK(inside(plan, "jump") ==
          2);  // of the state, by half a step: before its first kick and after its last one
    CHECK(inside(plan, "loop") == 0);
    CHECK(inside(plan, "scan kernel") == 1);
    CHECK(distance(path.q[3].to_vector<double>(),
                   std::vector<double>(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(
                                                                          whole.size() / 2))) < 1e-13);
  }
}
