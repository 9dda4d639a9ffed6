// Gradients through loops that stay loops: over a tape, over checkpoints, over steps undone in float64 and in fixed point.
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/env.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/storage.hpp"

namespace tp = tinyphys;
using tp::Reversible;
using tp::Tensor;
using namespace tp::testing;

namespace {

using Values = std::vector<std::vector<double>>;

// Henon and Heiles: chaotic at E = 1/6.
tp::System henon_heiles(const Tensor& m) {
  return tp::System([=](const Tensor& q, const Tensor& p) {
    const Tensor x = q[0], y = q[1];
    return 0.5 * (p * p / m).sum() + 0.5 * (q * q).sum() + x * x * y - y * y * y / 3.0;
  });
}

struct Gradients {
  Values values;
  std::string report;
};

Gradients gradients(const Tensor& loss, const std::vector<Tensor>& by) {
  std::vector<Tensor> g = tp::gradient(loss, by);
  tp::realize(g);
  Gradients out;
  for (const Tensor& x : g) out.values.push_back(x.to_vector<double>());
  out.report = tp::explain(g[0]).text;
  return out;
}

bool same_bits(const Values& a, const Values& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i].size() != b[i].size() ||
        std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(double)) != 0)
      return false;
  return true;
}

// The largest difference, relative to the largest element of each.
double difference(const Values& a, const Values& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    double most = 0, off = 0;
    for (std::size_t k = 0; k < a[i].size(); ++k) {
      most = std::max(most, std::fabs(b[i][k]));
      off = std::max(off, std::fabs(a[i][k] - b[i][k]));
    }
    if (off > 0) worst = std::max(worst, off / most);
  }
  return worst;
}

// The gradient of a loss of Henon and Heiles by the start, dt and the masses.
Gradients of_henon_heiles(tp::EvolveOptions options, double size = 0.2) {
  const Tensor q = Tensor::from({0.1 * size, -0.3 * size}), p = Tensor::from({size, 0.5 * size}),
               m = Tensor::from({1.0, 1.25}), dt = Tensor::from({0.02}).reshape({});
  options.dt = dt;
  const tp::State s = henon_heiles(m).evolve({q, p}, options);
  return gradients((s.q * Tensor::from({1.0, -0.5})).sum() + (s.p * s.p).sum(), {q, p, dt, m});
}

}  // namespace

TEST_CASE(
    "a gradient over checkpoints has the bits of that over the tape: any number of steps, all integrators") {
  for (const tp::Integrator i : {tp::Integrator::LeapfrogKDK, tp::Integrator::Yoshida4})
    for (const long n : {0L, 1L, 2L, 3L, 7L, 36L, 41L}) {
      CAPTURE(n);
      const Gradients tape = of_henon_heiles({.steps = n, .integrator = i, .reversible = Reversible::Tape}),
                      kept = of_henon_heiles(
                          {.steps = n, .integrator = i, .reversible = Reversible::Checkpoints});
      CHECK(same_bits(tape.values, kept.values));
      CHECK(contains(tape.report, "over a tape of its states"));
      CHECK(contains(kept.report, "over checkpoints") == (n > 2));
    }
  const Gradients tape = of_henon_heiles(
      {.steps = 12, .integrator = tp::Integrator::ImplicitMidpoint, .reversible = Reversible::Tape});
  const Gradients kept = of_henon_heiles(
      {.steps = 12, .integrator = tp::Integrator::ImplicitMidpoint, .reversible = Reversible::Checkpoints});
  CHECK(same_bits(tape.values, kept.values));
}

TEST_CASE("checkpoints are taken by themselves where the tape is too large, in as many levels as it needs" *
          needs_passes()) {
  const Gradients tape = of_henon_heiles({.steps = 1000});
  CHECK(contains(tape.report, "over a tape of its states, 32 kB"));
  CHECK(!contains(tape.report, "offers"));
  // 48 bytes a state, in two copies.
  for (const auto& [bytes, levels] : std::vector<std::pair<std::string, std::string>>{
           {"95000", "65 states kept at a time, 6.24 kB, in 2 levels of 40"},
           {"6200", "63 states kept at a time, 6.05 kB, in 2 levels of 32"},
           {"0", "63 states kept at a time, 6.05 kB, in 2 levels of 32"}}) {
    const tp::env::ScopedOverride bound("TINYPHYS_TAPE", bytes);
    const Gradients kept = of_henon_heiles({.steps = 1000});
    CAPTURE(kept.report);
    CHECK(contains(kept.report, levels));
    CHECK(contains(kept.report, "offers   Reversible::Float"));
    CHECK(same_bits(tape.values, kept.values));
  }
}

TEST_CASE(
    "checkpoints of a scan: captured values, xs, stacked outputs, the index, integers, until, members") {
  const Tensor x0 = Tensor::from({0.3, -0.2, 0.7}), a = Tensor::from({0.9, 1.1, 1.3}),
               rows = tp::sin(Tensor::arange(41.0 * 3.0)).reshape({41, 3}).clone();
  const auto of = [&](Reversible way) {
    const auto [end, ys] = tp::scan(
        [&](tp::Index i, const Tensor& x, const Tensor& count, const Tensor& row) {
          const Tensor next = x + 0.1 * tp::sin(a * x * (1.0 + 0.01 * i)) * row;
          return std::pair{std::tuple{next, count + 1}, (next * next).sum()};
        },
        std::tuple{x0, Tensor::zeros({}, tp::DType::kInt64)}, 41, {.xs = {rows}, .reversible = way});
    return gradients(std::get<0>(end).sum() + (ys * tp::cos(Tensor::arange(41.0))).sum(), {x0, a, rows});
  };
  const Gradients tape = of(Reversible::Tape);
  CHECK(same_bits(tape.values, of(Reversible::Checkpoints).values));

  const auto until = [&](Reversible way) {
    const Tensor end = tp::scan([&](const Tensor& x) { return x + 0.1 * tp::cos(a * x); }, x0, 50,
                                {.until = [](const Tensor& x) { return x.sum() > 2.5; }, .reversible = way});
    return gradients((end * end).sum(), {x0, a});
  };
  CHECK(same_bits(until(Reversible::Tape).values, until(Reversible::Checkpoints).values));

  const auto members = [&](Reversible way) {
    const Tensor k = Tensor::from({1.0, 2.0, 3.0}), q = Tensor::from({{0.1, 0.2}, {0.3, -0.4}, {0.5, 0.6}});
    const tp::System ensemble(
        [&](const Tensor& x, const Tensor& p) {
          return 0.5 * (p * p).sum({1}) + k * (x * x * x * x).sum({1}) + 0.5 * (x * x).sum({1});
        },
        {.batch_axes = 1});
    const tp::State s = ensemble.evolve({q, 0.5 * q}, {.dt = 0.05, .steps = 30, .reversible = way});
    return gradients((s.q * s.p).sum(), {q, k});
  };
  CHECK(same_bits(members(Reversible::Tape).values, members(Reversible::Checkpoints).values));

  const auto path = [&](Reversible way) {
    const Tensor q = Tensor::from({0.1, 0.3}), m = Tensor::from({1.0, 1.5});
    const tp::State s =
        henon_heiles(m).evolve({q, 0.5 * q}, {.dt = 0.05, .steps = 60, .save_every = 20, .reversible = way});
    return gradients((s.q * s.q).sum(), {q, m});
  };
  CHECK(same_bits(path(Reversible::Tape).values, path(Reversible::Checkpoints).values));

  // A scan inside a scan.
  const auto nested = [&](Reversible way) {
    const Tensor end = tp::scan(
        [&](const Tensor& x) {
          return tp::scan([&](const Tensor& y) { return y + 0.05 * tp::sin(a * y) * x; }, x, 9,
                          {.reversible = way});
        },
        x0, 8, {.reversible = way});
    return gradients((end * end).sum(), {x0, a});
  };
  CHECK(same_bits(nested(Reversible::Tape).values, nested(Reversible::Checkpoints).values));
}

TEST_CASE("undone steps: the gradient is that of the tape, for every integrator of kicks and drifts" *
          needs_passes()) {
  for (const tp::Integrator i : {tp::Integrator::LeapfrogKDK, tp::Integrator::LeapfrogDKD,
                                 tp::Integrator::Yoshida4, tp::Integrator::BlanesMoan4}) {
    const Gradients tape = of_henon_heiles({.steps = 1000, .integrator = i, .reversible = Reversible::Tape}),
                    undone =
                        of_henon_heiles({.steps = 1000, .integrator = i, .reversible = Reversible::Float});
    CAPTURE(undone.report);
    CHECK(difference(undone.values, tape.values) < 1e-12);
    CHECK(contains(undone.report, "each step undone"));
    CHECK(contains(undone.report, "the recovered start is off by"));
    CHECK(contains(undone.report, "the cotangent of the state grows by a factor"));
  }
  for (const long n : {0L, 1L, 2L, 129L}) {
    CAPTURE(n);
    const Gradients tape = of_henon_heiles({.steps = n, .reversible = Reversible::Tape}),
                    undone = of_henon_heiles({.steps = n, .reversible = Reversible::Float});
    CHECK(difference(undone.values, tape.values) < 1e-13);
  }
}

TEST_CASE("undone steps: central differences" * needs_passes()) {
  const std::vector<double> at{0.02, -0.06, 0.2, 0.1, 0.02, 1.0, 1.25};
  const auto loss = [&](const std::vector<double>& v) {
    const tp::State s =
        henon_heiles(Tensor::from({v[5], v[6]}))
            .evolve({Tensor::from({v[0], v[1]}), Tensor::from({v[2], v[3]})}, {.dt = v[4], .steps = 1000});
    return ((s.q * Tensor::from({1.0, -0.5})).sum() + (s.p * s.p).sum()).item<double>();
  };
  const Gradients g = of_henon_heiles({.steps = 1000, .reversible = Reversible::Float});
  std::vector<double> all;
  for (const auto& v : g.values) all.insert(all.end(), v.begin(), v.end());
  for (std::size_t i = 0; i < at.size(); ++i) {
    const double h = i == 4 ? 1e-7 : 1e-5;
    std::vector<double> up = at, down = at;
    up[i] += h;
    down[i] -= h;
    CHECK((loss(up) - loss(down)) / (2 * h) == doctest::Approx(all[i]).epsilon(i == 4 ? 1e-5 : 1e-6));
  }
}

TEST_CASE("undone steps: a start that is missed sends the gradient over checkpoints, and it says so" *
          needs_passes()) {
  // The momentum comes and goes by 1e8 times what it began with.
  const Tensor q = Tensor::from({1.0}), p = Tensor::from({1e-9}), k = Tensor::from({1.0});
  const tp::System wall(
      [&](const Tensor& x, const Tensor& y) { return 0.5 * (y * y).sum() + (k * x * x * x * x).sum(); });
  const auto of = [&](Reversible way) {
    const tp::State s = wall.evolve({q, p}, {.dt = 0.01, .steps = 500, .reversible = way});
    return gradients((s.q * s.q).sum(), {q, p, k});
  };
  const Gradients tape = of(Reversible::Tape), undone = of(Reversible::Float);
  CAPTURE(undone.report);
  CHECK(contains(undone.report, "more than 1e-10; the gradient went over checkpoints instead"));
  CHECK(same_bits(tape.values, undone.values));
}

TEST_CASE(
    "undone steps: scans of one's own, with .xs, the index, outputs, integers, what is a function of the "
    "others" *
    needs_passes()) {
  const Tensor x0 = Tensor::from({0.3, -0.2, 0.7}), v0 = Tensor::from({0.1, 0.4, -0.3}),
               a = Tensor::from({0.9, 1.1, 1.3}),
               rows = tp::sin(Tensor::arange(300.0)).reshape({100, 3}).clone();
  const auto of = [&](Reversible way) {
    const auto [end, ys] = tp::scan(
        [&](tp::Index i, const Tensor& x, const Tensor& v, const Tensor& count, const Tensor& force,
            const Tensor& row) {
          const Tensor half = v + 0.01 * force, next = x + 0.02 * half / a;
          const Tensor of_next = row.sum() * 0.0 - tp::sin(a * next);
          const Tensor last = half + (0.01 * of_next + 1e-3 * row * tp::cos(0.1 * i));
          return std::pair{std::tuple{next, last, count + 2, -tp::sin(a * next)}, (next * last).sum()};
        },
        std::tuple{x0, v0, Tensor::zeros({}, tp::DType::kInt64), Tensor::zeros({3})}, 100,
        {.xs = {rows}, .reversible = way});
    return gradients((std::get<0>(end) * std::get<1>(end)).sum() + (ys * ys).sum(), {x0, v0, a, rows});
  };
  const Gradients tape = of(Reversible::Tape), undone = of(Reversible::Float);
  CAPTURE(undone.report);
  CHECK(contains(undone.report, "each step undone"));
  CHECK(contains(undone.report, "the recovered start is off by"));
  CHECK(difference(undone.values, tape.values) < 1e-12);
}

TEST_CASE("undone steps: H(q, p, t), by the time, members of an ensemble, a force without an energy, a path" *
          needs_passes()) {
  const auto compare = [](const std::function<Gradients(Reversible)>& of) {
    const Gradients tape = of(Reversible::Tape), undone = of(Reversible::Float);
    CAPTURE(undone.report);
    CHECK(contains(undone.report, "each step undone"));
    CHECK(difference(undone.values, tape.values) < 1e-12);
  };
  const Tensor q = Tensor::from({0.3, -0.2}), p = Tensor::from({0.1, 0.4}), k = Tensor::from({1.0, 1.5}),
               dt = Tensor::from({0.02}).reshape({});
  compare([&](Reversible way) {
    const tp::System driven([&](const Tensor& x, const Tensor& y, const Tensor& t) {
      return 0.5 * (y * y).sum() + (k * x * x * x * x).sum() + (x * tp::sin(3.0 * t)).sum();
    });
    const tp::State s = driven.evolve({q, p}, {.dt = dt, .steps = 300, .reversible = way});
    return gradients((s.q * s.p).sum(), {q, p, k, dt});
  });
  compare([&](Reversible way) {
    const tp::System ensemble([&](const Tensor& x, const Tensor& y) { return 0.5 * y * y + k * tp::cos(x); },
                              {.batch_axes = 1});
    const tp::State s = ensemble.evolve({q, p}, {.dt = dt, .steps = 300, .reversible = way});
    return gradients((s.q * s.p).sum(), {q, p, k, dt});
  });
  compare([&](Reversible way) {
    const tp::System swirl = tp::System::from_force(
        [&](const Tensor& x) {
          return -k * x * x * x + tp::stack({-x[1], x[0]});
        },
        1.5);
    const tp::State s = swirl.evolve({q, p}, {.dt = dt, .steps = 300, .reversible = way});
    return gradients((s.q * s.p).sum(), {q, p, k, dt});
  });
}

TEST_CASE("undone steps: an increment with a loop in it, members by vmap, second derivatives, Method::Auto" *
          needs_passes()) {
  const Tensor x0 = Tensor::from({0.3, -0.2}), v0 = Tensor::from({0.1, 0.4}), a = Tensor::from({0.9, 1.1});
  const auto inner = [&](Reversible way) {
    const auto [x, v] = tp::scan(
        [&](const Tensor& y, const Tensor& u) {
          const Tensor w =
              u - 0.02 * tp::scan([&](const Tensor& z) { return 0.5 * tp::sin(a * z) + y; }, y, 4);
          return std::tuple{y + 0.02 * w, w};
        },
        std::tuple{x0, v0}, 150, {.reversible = way});
    return gradients((x * v).sum(), {x0, v0, a});
  };
  const Gradients tape = inner(Reversible::Tape), undone = inner(Reversible::Float);
  CHECK(contains(undone.report, "each step undone"));
  CHECK(difference(undone.values, tape.values) < 1e-12);

  const auto loss = [&](Reversible way, tp::Method method = tp::Method::Default) {
    return [=](const Tensor& q) {
      const tp::System pendulum(
          [&](const Tensor& x, const Tensor& y) { return 0.5 * (y * y).sum() - (a * tp::cos(x)).sum(); });
      const tp::State s =
          pendulum.evolve({q, 0.5 * q}, {.dt = 0.05, .steps = 100, .method = method, .reversible = way});
      return (s.q * s.q * s.p).sum();
    };
  };
  const Tensor members = Tensor::from({{0.3, 0.4}, {0.5, -0.6}, {0.1, 0.9}});
  const auto each = [&](Reversible way) {
    return Values{tp::vmap(tp::grad(loss(way)))(members).to_vector<double>()};
  };
  CHECK(difference(each(Reversible::Float), each(Reversible::Tape)) < 1e-12);
  const auto curvature = [&](Reversible way) {
    return Values{tp::hessian(loss(way))(x0).to_vector<double>()};
  };
  CHECK(difference(curvature(Reversible::Float), curvature(Reversible::Tape)) < 1e-11);

  const tp::env::ScopedOverride bound("TINYPHYS_TAPE", "1000");
  CHECK(contains(gradients(loss(Reversible::Auto, tp::Method::Auto)(x0), {x0}).report, "each step undone"));
  CHECK(contains(gradients(loss(Reversible::Auto)(x0), {x0}).report, "over checkpoints"));
}

TEST_CASE("undone steps: a chaotic motion is not recovered in float64, and its gradient is that of the tape" *
          needs_passes()) {
  const Gradients tape = of_henon_heiles({.steps = 30'000, .reversible = Reversible::Tape}, 0.5),
                  undone = of_henon_heiles({.steps = 30'000, .reversible = Reversible::Float}, 0.5);
  CAPTURE(undone.report);
  CHECK(contains(undone.report, "the gradient went over checkpoints instead"));
  CHECK(same_bits(tape.values, undone.values));
  const Gradients exact =
      of_henon_heiles({.steps = 30'000, .reversible = Reversible::Exact, .range = {2, 2}}, 0.5);
  CHECK(contains(exact.report, "the recovered start is the recorded one, bit for bit"));
}

TEST_CASE("fixed point: bodies with forces between all pairs, scans of one's own" * needs_passes()) {
  // Sums over 9 to 17 bodies: the loop is one kernel for few, of kernels for many.
  for (const std::int64_t n : {9, 17}) {
    const tp::System bodies([n](const Tensor& q, const Tensor& p) {
      const Tensor d = q.reshape({n, 1, 2}) - q.reshape({1, n, 2});
      return 0.5 * (p * p).sum() -
             0.5 * (1.0 / tp::sqrt((d * d).sum(2) + 0.1)).sum() / static_cast<double>(n);
    });
    const Tensor q = bumpy({n, 2}, 0.7), p = 0.3 * bumpy({n, 2}, 1.3).clone();
    const auto of = [&](Reversible way) {
      const tp::State s =
          bodies.evolve({q, p}, {.dt = 0.01, .steps = 150, .reversible = way, .range = {16, 16}});
      return gradients((s.q * s.q).sum(), {q});
    };
    const Gradients exact = of(Reversible::Exact), tape = of(Reversible::Tape);
    CHECK(contains(exact.report, "the recovered start is the recorded one, bit for bit"));
    CHECK(difference(exact.values, tape.values) < 1e-13);
  }
  const Tensor x0 = Tensor::from({0.3, -0.2}), v0 = Tensor::from({0.1, 0.4}), a = Tensor::from({0.9, 1.1});
  const auto own = [&](Reversible way) {
    const auto [end, ys] = tp::scan(
        [&](tp::Index i, const Tensor& x, const Tensor& v, const Tensor& count, const Tensor& still) {
          const Tensor w = v - 0.02 * still * tp::sin(a * x + 0.01 * i);
          const Tensor y = x + 0.02 * w;
          return std::pair{std::tuple{y, w, count + 3, still}, (y * w).sum()};
        },
        std::tuple{x0, v0, Tensor::zeros({}, tp::DType::kInt64), Tensor::from({1.5, 0.5})}, 200,
        {.reversible = way, .range = {4}});
    return gradients((std::get<0>(end) * std::get<1>(end)).sum() + (ys * ys).sum(), {x0, v0, a});
  };
  const Gradients exact = own(Reversible::Exact), tape = own(Reversible::Tape);
  CAPTURE(exact.report);
  CHECK(contains(exact.report, "each step undone to the bit"));
  CHECK(difference(exact.values, tape.values) < 1e-12);
}

TEST_CASE("fixed point: a shear that waits for one of a part before it" * needs_passes()) {
  const Tensor v0 = Tensor::from({0.1, 0.4}), x0 = Tensor::from({0.3, -0.2}), a = Tensor::from({0.9, 1.1});
  for (const bool first : {true, false}) {
    const auto of = [&](Reversible way) {
      const auto step = [&](const Tensor& v, const Tensor& x) {
        const Tensor w = v + 0.01 * a;
        return std::pair{w, x + 0.02 * tp::sin(w * a)};
      };
      if (first) {
        const auto [v, x] = tp::scan([&](const Tensor& y, const Tensor& z) { return step(y, z); },
                                     std::pair{v0, x0}, 150, {.reversible = way, .range = {4}});
        return gradients((x * v).sum(), {x0, v0, a});
      }
      const auto [x, v] = tp::scan(
          [&](const Tensor& z, const Tensor& y) {
            const auto [w, next] = step(y, z);
            return std::pair{next, w};
          },
          std::pair{x0, v0}, 150, {.reversible = way, .range = {4}});
      return gradients((x * v).sum(), {x0, v0, a});
    };
    const Gradients exact = of(Reversible::Exact), tape = of(Reversible::Tape);
    CHECK(contains(exact.report, "each step undone to the bit"));
    CHECK(difference(exact.values, tape.values) < 1e-13);
  }
}

TEST_CASE("undone steps: a state in one tensor, of which the step moves one part after the other" *
          needs_passes()) {
  const Tensor z0 = Tensor::from({{0.3, -0.2}, {0.1, 0.4}}), a = Tensor::from({0.9, 1.1});
  const auto compare = [&](const std::function<Tensor(const Tensor&)>& step, const Tensor& start) {
    const auto of = [&](Reversible way) {
      const Tensor z = tp::scan(step, start, 200, {.reversible = way});
      return gradients((z * z).sum(), {start, a});
    };
    const Gradients tape = of(Reversible::Tape), undone = of(Reversible::Float);
    CAPTURE(undone.report);
    CHECK(contains(undone.report, "each step undone"));
    CHECK(difference(undone.values, tape.values) < 1e-12);
  };
  compare(
      [&](const Tensor& z) {
        const Tensor p = z[1] - 0.01 * tp::sin(a * z[0]);
        return tp::stack({z[0] + 0.01 * p, p});
      },
      z0);
  compare(
      [&](const Tensor& z) {
        const Tensor q = z.slice(0, 0, 2), p = z.slice(0, 2, 4) - 0.01 * a * q * q * q;
        return tp::cat({q + 0.01 * p, p}, 0);
      },
      z0.flatten());
}

TEST_CASE(
    "no sequence of shears: the gradient is that of the tape or of checkpoints, and the reason is told" *
    needs_passes()) {
  const Tensor x0 = Tensor::from({0.3, -0.2}), v0 = Tensor::from({0.1, 0.4});
  using Step = std::function<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&)>;
  const auto refused = [&](const Step& step, const std::string& why) {
    const auto of = [&](Reversible way) {
      const auto [x, v] = tp::scan([&](const Tensor& a, const Tensor& b) { return step(a, b); },
                                   std::tuple{x0, v0}, 200, {.reversible = way});
      return gradients((x * x).sum() + (v * v).sum(), {x0, v0});
    };
    const Gradients tape = of(Reversible::Tape), undone = of(Reversible::Float);
    CAPTURE(undone.report);
    CHECK(contains(undone.report, "undoing the steps: " + why));
    CHECK(contains(undone.report, "over a tape"));
    CHECK(same_bits(tape.values, undone.values));
    const tp::env::ScopedOverride bound("TINYPHYS_TAPE", "1000");
    const Gradients kept = of(Reversible::Float);
    CHECK(contains(kept.report, "over checkpoints"));
    CHECK(same_bits(tape.values, kept.values));
  };
  // A damped pendulum.
  refused(
      [](const Tensor& x, const Tensor& v) {
        const Tensor w = v * 0.99 - 0.02 * tp::sin(x);
        return std::tuple{x + 0.02 * w, w};
      },
      "z1 is not itself plus an increment");
  // x' = x + f(x, v)
  refused(
      [](const Tensor& x, const Tensor& v) {
        return std::tuple{x + 0.01 * tp::sin(x + v), v};
      },
      "z0 grows by what depends on itself");
  // x' = x / 2 + f(v)
  refused(
      [](const Tensor& x, const Tensor& v) {
        const Tensor w = v + 0.01 * tp::cos(x);
        return std::tuple{0.5 * x + 0.01 * tp::sin(w), w};
      },
      "z0 is not itself plus an increment");
  // Both by the old values of the other: the second is no shear after the first.
  refused(
      [](const Tensor& x, const Tensor& v) {
        return std::tuple{x + 0.01 * tp::sin(v), v + 0.01 * tp::cos(x)};
      },
      "z0 grows by what depends on itself, or on what is not known");
  // They change places.
  refused(
      [](const Tensor& x, const Tensor& v) {
        return std::tuple{v, x + 0.01 * tp::sin(v)};
      },
      "z0 is not itself plus an increment");
  // What was is gone.
  refused(
      [](const Tensor& x, const Tensor& v) {
        return std::tuple{tp::sin(v) * 1.01, v + 0.01 * tp::cos(x)};
      },
      "z0");
}

namespace {

// The gradient in fixed point.
Gradients in_fixed_point(long n, double size = 0.2) {
  return of_henon_heiles({.steps = n, .reversible = Reversible::Exact, .range = {2, 2}}, size);
}

}  // namespace

TEST_CASE("fixed point: the gradient has the bits of that over a stored tape of the same loop" *
          needs_passes()) {
  for (const long n : {0L, 1L, 2L, 131L, 1000L}) {
    CAPTURE(n);
    const Gradients undone = in_fixed_point(n);
    CAPTURE(undone.report);
    CHECK(contains(undone.report, "in fixed point"));
    if (n > 0) CHECK(contains(undone.report, "each increment of q is rounded to 8.7e-19, of p to 8.7e-19"));
    if (n > 0) CHECK(contains(undone.report, "the recovered start is the recorded one, bit for bit"));
    const tp::env::ScopedOverride plain("TINYPHYS_OPT", "0");
    const Gradients tape = in_fixed_point(n);
    CHECK(contains(tape.report, "over a tape"));
    CHECK(same_bits(tape.values, undone.values));
  }
  // And it is that of the loop in float64 up to rounding.
  CHECK(difference(in_fixed_point(1000).values, of_henon_heiles({.steps = 1000}).values) < 1e-11);
}

TEST_CASE("fixed point: a chaotic run of 10^6 steps is undone to the bit, on 1 and 2 threads" *
          needs_passes()) {
  Values first;
  for (const char* threads : {"1", "2"}) {
    const tp::env::ScopedOverride t("TINYPHYS_THREADS", threads);
    const Gradients g = in_fixed_point(1'000'000, 0.5);  // it throws where the start is not recovered
    CHECK(contains(g.report, "the recovered start is the recorded one, bit for bit"));
    if (first.empty()) first = g.values;
    CHECK(same_bits(first, g.values));
  }
}

TEST_CASE("undone steps: memory does not depend on their number" * needs_passes()) {
  const auto peak = [](const std::function<void()>& f) {
    const std::int64_t before = tp::live_bytes();
    tp::reset_peak_bytes();
    f();
    return static_cast<double>(tp::peak_bytes() - before);
  };
  const auto undone = [](long n) { (void)of_henon_heiles({.steps = n, .reversible = Reversible::Float}); };
  const auto fixed = [](long n) { (void)in_fixed_point(n); };
  const double few = peak([&] { undone(1000); }), many = peak([&] { undone(100'000); });
  CHECK(many <= 1.01 * few);
  const double few_fixed = peak([&] { fixed(1000); }), many_fixed = peak([&] { fixed(1'000'000); });
  CHECK(many_fixed <= 1.01 * few_fixed);
  MESSAGE("peak bytes: ", few, " ", many, " in fixed point ", few_fixed, " ", many_fixed);
  // Checkpoints keep as much as they say: 2 levels of 317 states of 48 bytes, each with its copy.
  const auto kept = [](long n) {
    (void)of_henon_heiles({.steps = n, .reversible = Reversible::Checkpoints});
  };
  const double of_checkpoints = peak([&] { kept(100'000); });
  CHECK(of_checkpoints > 30'000);
  CHECK(of_checkpoints < 70'000);
  // A tape is that long.
  CHECK(peak([] { (void)of_henon_heiles({.steps = 1000, .reversible = Reversible::Tape}); }) > 32'000);
}

TEST_CASE("fixed point: errors") {
  const Tensor q = Tensor::from({1.0}), p = Tensor::from({0.0});
  const tp::System run([](const Tensor& x, const Tensor& y) { return 0.5 * (y * y).sum() - x.sum(); });
  const auto message = [](const std::function<void()>& f) -> std::string {
    try {
      f();
    } catch (const tp::Error& e) {
      return e.what();
    }
    return "";
  };
  const auto of = [&](const tp::System& s, tp::EvolveOptions options) {
    options.dt = 0.125;
    options.steps = options.steps < 0 ? tp::Count(100) : options.steps;
    options.reversible = Reversible::Exact;
    return message([&] { s.evolve({q, p}, options).q.to_vector<double>(); });
  };
  CHECK(contains(of(run, {}), "part 0 of the state needs a range"));
  CHECK(contains(of(run, {.range = {1, 0}}), "part 1 of the state needs a range"));
  // q = 1 + t^2 / 2 is above 3 after 16 steps of 1/8.
  CHECK(contains(of(run, {.range = {3, 100}}),
                 "part 0 of the state (q of an evolution) is outside its range [-3, 3]"));
  CHECK(contains(of(run, {.range = {3, 100}}), "by step 17:"));
  CHECK(contains(of(run, {.range = {0.5, 100}}),
                 "part 0 of the state starts at 1 (element 0), outside its range [-0.5, 0.5]"));
  CHECK(contains(message([&] {
                   // The start is not known before it runs.
                   const tp::State later{q + 0.0 * tp::sin(q), p};
                   run.evolve(later,
                              {.dt = 0.125, .steps = 9, .reversible = Reversible::Exact, .range = {0.5, 100}})
                       .q.to_vector<double>();
                 }),
                 "by step 1:"));
  CHECK(contains(message([&] {
                   tp::scan(
                       [](const Tensor& x, const Tensor& y) {
                         return std::tuple{x + 0.1 * y, y};
                       },
                       std::tuple{Tensor::from({0.5, -2.0}), Tensor::zeros({2})}, 3,
                       {.reversible = Reversible::Exact, .range = {1}});
                 }),
                 "part 0 of the state starts at -2 (element 1), outside its range [-1, 1]"));
  CHECK(of(run, {.range = {100, 100}}).empty());
  CHECK(contains(of(run, {.integrator = tp::Integrator::Exact, .range = {9, 9}}), "is the flow itself"));
  CHECK(contains(of(run, {.integrator = tp::Integrator::ImplicitMidpoint, .range = {9, 9}}),
                 "no sequence of shears"));
  CHECK(contains(message([&] {
                   tp::scan([](const Tensor& x) { return 0.5 * x; }, q, 3,
                            {.reversible = Reversible::Exact, .range = {1}});
                 }),
                 "a step is no sequence of shears"));
  CHECK(contains(message([&] {
                   const tp::State s = run.evolve(
                       {q, p}, {.dt = 0.1, .steps = 3, .reversible = Reversible::Exact, .range = {9, 9}});
                   const Tensor g = tp::gradient((s.q * s.q).sum(), std::vector<Tensor>{q})[0];
                   tp::gradient(g.sum(), std::vector<Tensor>{q})[0].to_vector<double>();
                 }),
                 "through Reversible::Exact"));
}
