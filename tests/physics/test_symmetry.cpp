// Symmetries found in H, and what follows from them: what holds is proven, and near misses are not.
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"
#include "passes/conserved.hpp"
#include "tinyphys/error.hpp"

namespace tp = tinyphys;
using tp::Conserved;
using tp::Tensor;
using namespace tp::testing;

namespace {

// The names of what is proven to be conserved: E, px, py, pz, Lx, Ly, Lz.
std::string proven(const tp::System& sys, const std::vector<std::int64_t>& shape) {
  const tp::State z{bumpy(shape, 0.3), bumpy(shape, 0.7)};
  const tp::State s = sys.evolve(z, {.dt = 0.01, .steps = 1, .integrator = tp::Integrator::ImplicitMidpoint});
  const tp::UOp q = tp::uop(s.q);
  const auto proof = tp::prove_conserved(q->src(0));
  std::string text;
  for (const tp::ProvenInvariant& i : proof->invariants) {
    text += text.empty() ? "" : " ";
    text += i.what == tp::ProvenInvariant::Kind::kEnergy     ? "E"
            : i.what == tp::ProvenInvariant::Kind::kMomentum ? "p"
                                                             : "L";
    if (i.what != tp::ProvenInvariant::Kind::kEnergy) text += "xyz"[i.axis];
    CHECK(i.error_probability < 1e-30);
    CHECK((i.what == tp::ProvenInvariant::Kind::kEnergy) == (i.error_probability == 0));
  }
  return text + (proof->even ? " even" : "");
}
tp::System with_potential(const std::function<Tensor(const Tensor& q)>& v) {
  return tp::System([v](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + v(q); });
}
// The squared distances of all pairs, [n, n], and the same without the diagonal's 0.
Tensor distances(const Tensor& q) { return tp::square(q.unsqueeze(0) - q.unsqueeze(1)).sum({2}); }

}  // namespace

TEST_CASE("pairs in space: all ten but the boosts, through roots and divisions") {
  const Tensor m = Tensor::from({1.0, 2.0, 0.5, 3.0});
  const auto gravity = [&](const Tensor& q, const Tensor& p) {
    const Tensor w = m.unsqueeze(0) * m.unsqueeze(1);
    return 0.5 * (p * p / m.unsqueeze(1)).sum() - 0.5 * (w / tp::sqrt(distances(q) + 0.01)).sum();
  };
  CHECK(proven(tp::System(gravity), {4, 3}) == "E px py pz Lx Ly Lz even");
  CHECK(proven(tp::System(gravity), {4, 2}) == "E px py Lz even");
  // Other ways to write it.
  CHECK(proven(with_potential([](const Tensor& q) {
                 Tensor v = Tensor(0.0);
                 for (std::int64_t i = 0; i < 4; ++i)
                   for (std::int64_t k = 0; k < i; ++k)
                     v = v - tp::pow(tp::square(q[i] - q[k]).sum() + 0.25, -1.5);
                 return v;
               }),
               {4, 3}) == "E px py pz Lx Ly Lz even");
  CHECK(proven(with_potential([](const Tensor& q) {
                 const Tensor r2 = distances(q), near = r2 < 1.0;
                 return tp::where(near, tp::exp(-r2), 0.0).sum();
               }),
               {4, 2}) == "E px py Lz even");
}

TEST_CASE("polynomials by identity, where no structure shows it") {
  // |q|^4 multiplied out.
  CHECK(proven(with_potential([](const Tensor& q) {
                 const Tensor x = q.slice(1, 0, 1), y = q.slice(1, 1, 2);
                 return (x * x * x * x + 2.0 * (x * x) * (y * y) + y * y * y * y).sum();
               }),
               {3, 2}) == "E Lz even");
  CHECK(proven(with_potential([](const Tensor& q) {
                 const Tensor x = q.slice(1, 0, 1), y = q.slice(1, 1, 2);
                 return (x * x * x * x + 1.9999999999 * (x * x) * (y * y) + y * y * y * y).sum();
               }),
               {3, 2}) == "E even");
  // Bodies in a line: springs between neighbours, by differences.
  CHECK(proven(with_potential([](const Tensor& q) { return tp::square(q - q.roll(1, 0)).sum(); }), {5}) ==
        "E px even");
}

TEST_CASE("near misses break exactly what they should") {
  const auto pairs = [](const Tensor& q) { return tp::square(distances(q)).sum(); };
  CHECK(proven(with_potential(pairs), {3, 3}) == "E px py pz Lx Ly Lz even");
  // A field along x: translation along x, and rotations that turn x, are gone.
  CHECK(proven(with_potential([&](const Tensor& q) { return pairs(q) + 1e-9 * q.slice(1, 0, 1).sum(); }),
               {3, 3}) == "E py pz Lx");
  // A trap keeps rotation and not translation; a flat one keeps less.
  CHECK(proven(with_potential([&](const Tensor& q) { return pairs(q) + (q * q).sum(); }), {3, 3}) ==
        "E Lx Ly Lz even");
  const Tensor flat = Tensor::from({1.0, 1.0, 1.1});
  CHECK(proven(with_potential([&](const Tensor& q) { return pairs(q) + (flat * q * q).sum(); }), {3, 3}) ==
        "E even");
  CHECK(proven(with_potential([&](const Tensor& q) {
                 return pairs(q) + (q * q).slice(1, 0, 2).sum() + 1.1 * (q * q).slice(1, 2, 3).sum();
               }),
               {3, 3}) == "E Lz even");
  // Roots.
  const auto root = [](double b) {
    return with_potential([b](const Tensor& q) {
      const Tensor x = q.slice(1, 0, 1), y = q.slice(1, 1, 2);
      return tp::sqrt(x * x + b * (y * y) + 0.01).sum();
    });
  };
  CHECK(proven(root(1.0), {1, 2}) == "E Lz even");
  CHECK(proven(root(1.1), {1, 2}) == "E even");
  // Masses of the bodies do not matter, a mass that differs per axis does.
  const Tensor per_body = Tensor::from({1.0, 2.0, 4.0}).unsqueeze(1), per_axis = Tensor::from({1.0, 2.0});
  const auto kinetic = [&](const Tensor& m) {
    return tp::System([&pairs, m](const Tensor& q, const Tensor& p) { return (p * p / m).sum() + pairs(q); });
  };
  CHECK(proven(kinetic(per_body), {3, 2}) == "E px py Lz even");
  CHECK(proven(kinetic(per_axis), {3, 2}) == "E px py even");
  // Momentum times position: a magnetic field turns with it, but does not move with it.
  CHECK(proven(tp::System([](const Tensor& q, const Tensor& p) {
                 const Tensor x = q.slice(1, 0, 1), y = q.slice(1, 1, 2);
                 return 0.5 * tp::square(p).sum() + (x * p.slice(1, 1, 2) - y * p.slice(1, 0, 1)).sum();
               }),
               {2, 2}) == "E Lz");
  // The time.
  CHECK(proven(tp::System([&](const Tensor& q, const Tensor& p, const Tensor& t) {
                 return 0.5 * (p * p).sum() + tp::sin(t) * pairs(q);
               }),
               {3, 2}) == "px py Lz even");
  // An integer or a rounding of the state is no polynomial, and does not keep its value.
  CHECK(proven(with_potential([](const Tensor& q) { return tp::floor(q).sum(); }), {2, 2}) == "E");
}

TEST_CASE("shapes that are no bodies in space say nothing but the energy") {
  CHECK(proven(with_potential([](const Tensor& q) { return 0.0 * q.sum(); }), {2, 4}) == "E");
  CHECK(proven(with_potential([](const Tensor& q) { return 0.0 * q.sum(); }), {}) == "E");
}

TEST_CASE("members of an ensemble are proven each by itself") {
  const tp::System sys(
      [](const Tensor& q, const Tensor& p) {
        return 0.5 * (p * p).sum({1, 2}) + tp::square(q.slice(1, 0, 1) - q.slice(1, 1, 2)).sum({1, 2});
      },
      {.batch_axes = 1});
  CHECK(proven(sys, {3, 2, 2}) == "E px py Lz even");
}

TEST_CASE("Conserved::Auto keeps exactly what is proven, and explain lists it") {
  const tp::System sys = with_potential(
      [](const Tensor& q) { return tp::sqrt(distances(q) + 0.1).sum() + 0.3 * q.slice(1, 0, 1).sum(); });
  const tp::State z{bumpy({3, 2}, 0.3), bumpy({3, 2}, 0.7)};
  const tp::State s = sys.evolve(z, {.dt = 0.05, .steps = 200, .conserve = {Conserved::Auto}});
  const std::string report = tp::explain(s.q).text;
  INFO(report);
  CHECK(contains(report, "projected on energy and momentum y, 200 steps"));
  CHECK(contains(report,
                 "momentum y is conserved: H is invariant under translation along y, identity test in F_p"));
  CHECK(contains(report, "; the arguments of sqrt are invariant by the same test"));
  CHECK(std::fabs(sys.energy(s).item<double>() - sys.energy(z).item<double>()) < 1e-14);

  const tp::State plain = sys.evolve(z, {.dt = 0.05, .steps = 200});
  CHECK(contains(tp::explain(plain.q).text, "proved   momentum y is conserved"));
  // Nothing is said where it is the energy alone.
  const tp::System pendulum = with_potential([](const Tensor& q) { return -tp::cos(q).sum(); });
  const tp::State swing =
      pendulum.evolve({Tensor::from({1.0}), Tensor::from({0.0})}, {.dt = 0.05, .steps = 200});
  CHECK_FALSE(contains(tp::explain(swing.q).text, "conserved"));
}
