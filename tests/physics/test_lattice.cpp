// Periodic lattices by their Fourier modes: against the loop in quad precision, against closed forms, and near misses.
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"
#include "needs_passes.hpp"
#include "support/dd.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;

namespace {

Tensor springs(const Tensor& q, std::int64_t axis, std::int64_t far = 1) {
  const Tensor d = q.roll(far, axis) - q;
  return 0.5 * (d * d).sum();
}
std::string report_of(const Tensor& x) {
  (void)x.to_vector<double>();
  return tp::explain(x).text;
}

struct Case {
  std::function<Tensor(const Tensor&, const Tensor&)> h;
  std::vector<std::int64_t> shape;
  std::string sites;
};
void check_against_quad(const Case& c, std::int64_t steps = 600,
                        tp::Integrator integrator = tp::Integrator::LeapfrogKDK) {
  const tp::System system(c.h);
  const tp::State z{bumpy(c.shape, 0.7), bumpy(c.shape, 1.3)};
  const tp::EvolveOptions options{.dt = 0.05, .steps = steps, .integrator = integrator};
  const tp::State jump = system.evolve(z, options);
  const auto exact = quad_loop(jump);
  const std::string report = report_of(jump.q);
  INFO(report);
  CHECK(contains(report, "chose    Fourier-mode jump (class exact)"));
  CHECK(contains(report, c.sites));
  tp::EvolveOptions looped = options;
  looped.method = tp::Method::Loop;
  const double jump_error = relative_error(joined(jump), exact);
  CHECK(jump_error <= std::max(relative_error(joined(system.evolve(z, looped)), exact), 1e-15));
}

}  // namespace

TEST_CASE("lattices in one, two and three dimensions, farther neighbours, forces, components" *
          needs_passes()) {
  const double m = 1.7;
  const auto kinetic = [&](const Tensor& p) { return 0.5 * (p * p).sum() / m; };
  check_against_quad({[&](const Tensor& q, const Tensor& p) { return kinetic(p) + 3.0 * springs(q, 0); },
                      {1024},
                      "a periodic lattice of 1024 sites"});
  check_against_quad({[&](const Tensor& q, const Tensor& p) {
                        return kinetic(p) + 3.0 * springs(q, 0) + 0.7 * springs(q, 0, 2) +
                               0.1 * (q * q).sum() + 0.25 * q.sum();
                      },
                      {777},
                      "a periodic lattice of 777 sites"});
  check_against_quad({[&](const Tensor& q, const Tensor& p) {
                        return kinetic(p) + 3.0 * springs(q, 0) + 1.1 * springs(q, 1);
                      },
                      {24, 30},
                      "a periodic lattice of 24 x 30 sites"});
  check_against_quad({[&](const Tensor& q, const Tensor& p) {
                        return kinetic(p) + springs(q, 0) + 1.1 * springs(q, 1) + 0.8 * springs(q, 2);
                      },
                      {8, 9, 10},
                      "a periodic lattice of 8 x 9 x 10 sites"});
  // Two components a site, of different masses, coupled within the site and to the neighbours crosswise.
  const Tensor masses = Tensor::from({1.0, 2.5}, {2, 1});
  check_against_quad({[&](const Tensor& q, const Tensor& p) {
                        const Tensor x = q.slice(0, 0, 1), y = q.slice(0, 1, 2);
                        const Tensor cross = x - y.roll(1, 1);
                        return 0.5 * (p * p / masses).sum() + 2.0 * springs(q, 1) +
                               0.5 * 1.3 * ((x - y) * (x - y)).sum() + 0.5 * 0.4 * (cross * cross).sum();
                      },
                      {2, 400},
                      "a periodic lattice of 400 sites, 2 components each"});
}

TEST_CASE("lattices without modes: masses that are a matrix or negative, a magnetic field" * needs_passes()) {
  // The momenta of neighbours joined, and a drift of all.
  const Case neighbours{[](const Tensor& q, const Tensor& p) {
                          return 0.5 * (p * p).sum() + 0.3 * (p * p.roll(1, 0)).sum() + 0.2 * p.sum() +
                                 springs(q, 0) + 0.1 * q.sum();
                        },
                        {640},
                        "a periodic lattice of 640 sites"};
  for (const tp::Integrator i : {tp::Integrator::LeapfrogKDK, tp::Integrator::LeapfrogDKD,
                                 tp::Integrator::Yoshida4, tp::Integrator::ImplicitMidpoint}) {
    CAPTURE(static_cast<int>(i));
    check_against_quad(neighbours, 600, i);
  }
  // A component whose mass is negative.
  const Tensor masses = Tensor::from({1.0, -2.5}, {2, 1});
  check_against_quad({[&](const Tensor& q, const Tensor& p) {
                        return 0.5 * (p * p / masses).sum() + springs(q, 1) + 0.1 * (q[0] * q[1]).sum();
                      },
                      {2, 300},
                      "a periodic lattice of 300 sites, 2 components each"});
  // Charges on a ring in a magnetic field, each with a place (x, y).
  const Case magnetic{[](const Tensor& q, const Tensor& p) {
                        const Tensor x = q[0], y = q[1], u = p[0] + 0.7 * y, v = p[1] - 0.7 * x;
                        return 0.5 * (u * u + v * v).sum() + springs(q, 1) + 0.05 * (x * x).sum();
                      },
                      {2, 300},
                      "a periodic lattice of 300 sites, 2 components each"};
  check_against_quad(magnetic, 600, tp::Integrator::ImplicitMidpoint);
  // The flow over one time, in steps of two lengths.
  const tp::System charges(magnetic.h);
  const tp::State z{bumpy({2, 300}, 0.7), bumpy({2, 300}, 1.3)};
  const auto flow = [&](double dt, std::int64_t steps) {
    return joined(charges.evolve(z, {.dt = dt, .steps = steps, .integrator = tp::Integrator::Exact}));
  };
  const auto fine = flow(0x1p-8, 1 << 24), coarse = flow(1.0, 1 << 16);
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < fine.size(); ++i) {
    worst = std::max(worst, std::fabs(fine[i] - coarse[i]));
    largest = std::max(largest, std::fabs(fine[i]));
  }
  CHECK(worst <= 1e-12 * largest);
}

TEST_CASE("a lattice after 10^9 steps: sampled modes against double-double" * needs_passes()) {
  const std::int64_t nx = 64, ny = 48, steps = 1'000'000'000;
  const double h = 0.05, kx = 3.0, ky = 1.25, m = 1.7;
  const tp::System crystal([&](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() / m + kx * springs(q, 0) + ky * springs(q, 1);
  });
  for (const auto& [a, b] : {std::pair{1, 0}, std::pair{3, 7}, std::pair{31, 24}}) {
    // A standing wave stays one: its amplitude is cos(N theta).
    std::vector<double> wave;
    for (std::int64_t i = 0; i < nx; ++i)
      for (std::int64_t j = 0; j < ny; ++j)
        wave.push_back(std::cos(2 * M_PI *
                                (static_cast<double>(a * i) / static_cast<double>(nx) +
                                 static_cast<double>(b * j) / static_cast<double>(ny))));
    const tp::State s =
        crystal.evolve({Tensor::from(wave, {nx, ny}), Tensor::zeros({nx, ny})}, {.dt = h, .steps = steps});
    const auto q = s.q.to_vector<double>();
    double amplitude = 0, norm = 0;
    for (std::size_t i = 0; i < q.size(); ++i) {
      amplitude += q[i] * wave[i];
      norm += wave[i] * wave[i];
    }
    const auto sine2 = [](int k, std::int64_t n) {
      const tp::DD x = sin(tp::kDDPi * static_cast<double>(k) / static_cast<double>(n));
      return x * x;
    };
    const tp::DD lambda = (4.0 * (tp::DD(kx) * sine2(a, nx) + tp::DD(ky) * sine2(b, ny))) / tp::DD(m);
    const tp::DD theta = 2.0 * asin(tp::DD(h) * sqrt(lambda) / 2.0);
    const double expected = cos(theta * static_cast<double>(steps)).hi;
    CHECK(amplitude / norm == doctest::Approx(expected).epsilon(1e-11));
  }
}

TEST_CASE("near misses are no lattice" * needs_passes()) {
  const std::int64_t n = 600;
  const tp::State z{bumpy({n}, 0.7), bumpy({n}, 1.3)};
  const auto run = [&](const std::function<Tensor(const Tensor&, const Tensor&)>& h) {
    const tp::State s = tp::System(h).evolve(z, {.dt = 0.05, .steps = 1'000'000});
    const std::string report = report_of(s.q);
    INFO(report);
    CHECK_FALSE(contains(report, "chose    Fourier"));
    return report;
  };
  // One mass that is not like the others.
  std::vector<double> masses(n, 1.0);
  masses[17] = 1.0000001;
  const Tensor defect = Tensor::from(masses);
  run([&](const Tensor& q, const Tensor& p) { return 0.5 * (p * p / defect).sum() + springs(q, 0); });
  // Equal masses, but given as data: other data would not be equal, and the plan is one for both.
  const Tensor equal = Tensor::from(std::vector<double>(n, 1.0));
  run([&](const Tensor& q, const Tensor& p) { return 0.5 * (p * p / equal).sum() + springs(q, 0); });
  // Ends that are not tied together.
  run([&](const Tensor& q, const Tensor& p) {
    const Tensor d = q.slice(0, 1) - q.slice(0, 0, -1);
    return 0.5 * (p * p).sum() + 0.5 * (d * d).sum();
  });
  // A spring more between two of the sites.
  run([&](const Tensor& q, const Tensor& p) {
    const Tensor d = q[5] - q[90];
    return 0.5 * (p * p).sum() + springs(q, 0) + 1e-9 * d * d;
  });
}

TEST_CASE("every site coupled to every other: not by Fourier modes where the loop is cheaper" *
          needs_passes()) {
  const tp::System mean_field([](const Tensor& q, const Tensor& p) {
    return 0.5 * (p * p).sum() + 0.5 * tp::square(q - q.mean()).sum();
  });
  const auto run = [&](std::int64_t n, std::int64_t steps) {
    return report_of(
        mean_field.evolve({bumpy({n}, 0.7), Tensor::zeros({n})}, {.dt = 0.01, .steps = steps}).q);
  };
  const std::string few = run(2048, 50);
  INFO(few);
  CHECK(contains(few, "the loop is cheaper"));
  const std::string many = run(2048, 100'000'000);
  INFO(many);
  CHECK(contains(many, "chose    Fourier-mode jump"));
  const std::string too_many = run(32768, 2000);
  INFO(too_many);
  CHECK(contains(too_many, "chose    the loop"));
}

TEST_CASE("explicit heat and waves on a ring, of one's own" * needs_passes()) {
  const auto check = [](const Tensor& lifted, const Tensor& looped) {
    const std::string report = report_of(lifted);
    INFO(report);
    CHECK(contains(report, "chose    Fourier-mode jump"));
    const auto a = lifted.to_vector<double>(), b = looped.to_vector<double>();
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      error += (a[i] - b[i]) * (a[i] - b[i]);
      norm += b[i] * b[i];
    }
    CHECK(std::sqrt(error / norm) < 1e-12);
  };
  const auto heat = [](tp::Method method) {
    return tp::scan(
        [](const Tensor& x) {
          Tensor next = x + 1e-4;
          for (const std::int64_t axis : {0, 1})
            next = next + 0.2 * (x.roll(1, axis) - 2.0 * x + x.roll(-1, axis));
          return next;
        },
        bumpy({40, 25}, 0.7), 3000, {.method = method});
  };
  check(heat(tp::Method::Default), heat(tp::Method::Loop));
  const auto wave = [](tp::Method method) {
    return std::get<0>(tp::scan(
        [](const Tensor& x, const Tensor& before) {
          return std::tuple{2.0 * x - before + 0.25 * (x.roll(1, 0) - 2.0 * x + x.roll(-1, 0)), x};
        },
        std::tuple{bumpy({700}, 0.7), bumpy({700}, 0.7)}, 3000, {.method = method}));
  };
  check(wave(tp::Method::Default), wave(tp::Method::Loop));
  // Too many coordinates for powering, and no normal modes to take them before they are 512.
  const auto ring = [](std::int64_t n, double last, std::int64_t steps, tp::Method method) {
    const Tensor k = last == 1.0 ? Tensor(1.0) : tp::set(Tensor::ones({n}), -1, last);
    return std::get<0>(tp::scan(
        [&](const Tensor& q, const Tensor& p) {
          const Tensor next =
              p + 1e-3 * (40.0 * (k * (q.roll(1, 0) - q) - (k * (q.roll(1, 0) - q)).roll(-1, 0)));
          return std::tuple{q + 1e-3 * next, next};
        },
        std::tuple{bumpy({n}, 0.7), 0.1 * bumpy({n}, 0.7)}, steps, {.method = method}));
  };
  check(ring(70, 1.0, 100'000, tp::Method::Default), ring(70, 1.0, 100'000, tp::Method::Loop));
  // Powering would be off by more than the loop, or cost more; where it does neither, it is closer to the exact map.
  check(ring(40, 1.0, 20'000, tp::Method::Default), ring(40, 1.0, 20'000, tp::Method::Loop));
  CHECK(contains(report_of(ring(40, 1.0, 1'000'000'000, tp::Method::Default)), "chose    Fourier-mode jump"));
  CHECK(contains(report_of(ring(9, 1.0, 100'000, tp::Method::Default)), "chose    powered step matrix"));
  const std::string differs = report_of(ring(70, 1.0 + 1e-15, 1000, tp::Method::Default));
  INFO(differs);
  CHECK(contains(differs, "powering takes at most 128"));
  CHECK(contains(differs, "chose    the loop"));
  // Three parts of four components: 12 coordinates a site are taken, 15 are not.
  const auto three = [](std::int64_t components, tp::Method method) {
    const Tensor x = bumpy({components, 200}, 0.7),
                 rate = bumpy({components, 1}, 0.3);  // components are not alike
    return std::get<0>(tp::scan(
        [&](const Tensor& a, const Tensor& b, const Tensor& c) {
          return std::tuple{a + 0.01 * rate * (b.roll(1, 1) - a), b + 0.01 * (c - b),
                            c + 0.01 * (a.roll(2, 1) - c)};
        },
        std::tuple{x, 0.5 * x, x * x}, 20000, {.method = method}));
  };
  check(three(4, tp::Method::Default), three(4, tp::Method::Loop));
  const std::string refused = report_of(three(5, tp::Method::Default));
  INFO(refused);
  CHECK(contains(refused, "coordinates a site, at most 12 are taken"));
  // Carried along one way: the symbol is complex.
  const auto advection = [](tp::Method method) {
    return tp::scan([](const Tensor& x) { return x - 0.4 * (x - x.roll(1, 0)); }, bumpy({512}, 0.7), 3000,
                    {.method = method});
  };
  check(advection(tp::Method::Default), advection(tp::Method::Loop));
}
