// Uniform chains and grids with fixed and free ends by sines and cosines: against the loop in quad precision, against
// closed forms, and near misses.
#include <cmath>
#include <functional>
#include <numbers>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "lift_helpers.hpp"
#include "linalg/fft.hpp"
#include "needs_passes.hpp"
#include "support/dd.hpp"

namespace tp = tinyphys;
using tp::Tensor;
using namespace tp::testing;

namespace {

using Energy = std::function<Tensor(const Tensor&, const Tensor&)>;
constexpr const char* kChosen = "chose    sine- and cosine-mode jump (class exact)";

Tensor squares(const Tensor& x) { return 0.5 * (x * x).sum(); }
Tensor steps_along(const Tensor& q, std::int64_t axis) { return q.slice(axis, 1) - q.slice(axis, 0, -1); }
Tensor walled(const Tensor& q, std::int64_t axis) {
  std::vector<std::pair<std::int64_t, std::int64_t>> widths(q.shape().size(), {0, 0});
  widths[static_cast<std::size_t>(axis)] = {1, 1};
  return steps_along(q.pad(widths), axis);
}
Tensor periodic(const Tensor& q, std::int64_t axis) { return q.roll(1, axis) - q; }

std::string report_of(const Tensor& x) {
  (void)x.to_vector<double>();
  return tp::explain(x).text;
}

void check_against_quad(const Energy& h, const std::vector<std::int64_t>& shape, const std::string& structure,
                        tp::Integrator integrator = tp::Integrator::LeapfrogKDK) {
  const tp::System system(h);
  const tp::State z{bumpy(shape, 0.7), bumpy(shape, 1.3)};
  tp::EvolveOptions options{.dt = 0.05, .steps = 600, .integrator = integrator};
  const tp::State jump = system.evolve(z, options);
  const auto exact = quad_loop(jump);
  const std::string report = report_of(jump.q);
  INFO(report);
  CHECK(contains(report, kChosen));
  CHECK(contains(report, structure));
  options.method = tp::Method::Loop;
  CHECK(relative_error(joined(jump), exact) <=
        std::max(relative_error(joined(system.evolve(z, options)), exact), 1e-15));
}

}  // namespace

TEST_CASE("uniform grids with fixed, free and periodic ends, forces, a wall of springs" * needs_passes()) {
  const auto kinetic = [](const Tensor& p) { return squares(p) / 1.7; };
  check_against_quad(
      [&](const Tensor& q, const Tensor& p) { return kinetic(p) + 3.0 * squares(walled(q, 0)); }, {1000},
      "a uniform grid of 1000 sites, ends fixed");
  check_against_quad(
      [&](const Tensor& q, const Tensor& p) {
        return kinetic(p) + 3.0 * squares(steps_along(q, 0)) + 0.3 * q.sum();
      },
      {777}, "a uniform grid of 777 sites, ends free");
  check_against_quad(
      [&](const Tensor& q, const Tensor& p) {
        return kinetic(p) + 3.0 * squares(walled(q, 0)) + 0.2 * squares(q) +
               0.1 * (bumpy({600}, 0.3) * q).sum();
      },
      {600}, "ends fixed", tp::Integrator::Yoshida4);
  check_against_quad(
      [&](const Tensor& q, const Tensor& p) {
        return kinetic(p) + 3.0 * squares(walled(q, 0)) + 1.1 * squares(periodic(q, 1));
      },
      {24, 30}, "a uniform grid of 24 x 30 sites, ends fixed, periodic");
  check_against_quad(
      [&](const Tensor& q, const Tensor& p) {
        return kinetic(p) + 3.0 * squares(steps_along(q, 0)) + 1.1 * squares(walled(q, 1)) +
               0.4 * squares(periodic(q, 2));
      },
      {9, 8, 10}, "a uniform grid of 9 x 8 x 10 sites, ends free, fixed, periodic");
}

TEST_CASE("axes with one end fixed and the other free are half of one with fixed ends" * needs_passes()) {
  const auto held = [](const Tensor& q, std::int64_t axis, bool first) {
    const std::int64_t n = q.shape()[static_cast<std::size_t>(axis)];
    return squares(steps_along(q, axis)) + squares(first ? q.slice(axis, 0, 1) : q.slice(axis, n - 1, n));
  };
  for (const bool first : {true, false})
    check_against_quad(
        [&](const Tensor& q, const Tensor& p) {
          return squares(p) / 1.7 + 3.0 * held(q, 0, first) + 0.1 * (bumpy({701}, 0.3) * q).sum();
        },
        {701},
        first ? "a uniform grid of 701 sites, ends fixed and free:"
              : "a uniform grid of 701 sites, ends free and fixed:");
  check_against_quad(
      [&](const Tensor& q, const Tensor& p) {
        return squares(p) + 3.0 * held(q, 0, true) + 1.1 * held(q, 1, false) + 0.4 * squares(walled(q, 2));
      },
      {9, 8, 10}, "a uniform grid of 9 x 8 x 10 sites, ends fixed and free, free and fixed, fixed",
      tp::Integrator::Yoshida4);
  // The k-th mode, at 10^9 steps: sin((j + 1) phi), phi = (2 k + 1) pi / (2 n + 1).
  constexpr std::int64_t kSteps = 1'000'000'000, n = 3001;
  const tp::System chain([&](const Tensor& q, const Tensor& p) { return squares(p) + held(q, 0, true); });
  for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1000}, n - 1}) {
    tp::DD s, c, other, turned;
    const tp::DD angle = tp::kDDPi / static_cast<double>(2 * n + 1);
    std::vector<double> shape;
    for (std::int64_t j = 0; j < n; ++j) {
      sincos(angle * static_cast<double>((j + 1) * (2 * k + 1) % (4 * n + 2)), s, c);
      shape.push_back(s.hi);
    }
    sincos(ldexp(angle * static_cast<double>(2 * k + 1), -1), s, c);
    sincos(2.0 * asin(0.01 * s) * static_cast<double>(kSteps), other, turned);
    const Tensor q0 = Tensor::from(shape),
                 q = chain.evolve({q0, tp::zeros_like(q0)}, {.dt = 0.01, .steps = kSteps}).q;
    const auto got = q.to_vector<double>();
    double worst = 0;
    for (std::size_t j = 0; j < got.size(); ++j)
      worst = std::max(worst, std::fabs(got[j] - turned.hi * shape[j]));
    CAPTURE(k);
    CHECK(worst <= 1e-11);
    CHECK(contains(tp::explain(q).text, kChosen));
  }
}

TEST_CASE("a mode of a chain turns by its closed form, at 10^9 steps" * needs_passes()) {
  constexpr std::int64_t kSteps = 1'000'000'000;
  const double h = 0.01;
  for (const bool fixed : {true, false})
    for (const std::int64_t n : {2000, 65537})
      for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1}, n / 3, n - 1}) {
        const tp::System chain([&](const Tensor& q, const Tensor& p) {
          return squares(p) + squares(fixed ? walled(q, 0) : steps_along(q, 0));
        });
        std::vector<double> shape;
        for (std::int64_t j = 0; j < n; ++j) {
          tp::DD s, c;
          const double m = fixed ? static_cast<double>((j + 1) * (k + 1) % (2 * (n + 1)))
                                 : static_cast<double>((2 * j + 1) * k % (4 * n));
          sincos(tp::kDDPi * m / static_cast<double>(fixed ? n + 1 : 2 * n), s, c);
          shape.push_back(fixed ? s.hi : c.hi);
        }
        const Tensor q0 = Tensor::from(shape);
        const Tensor q = chain.evolve({q0, tp::zeros_like(q0)}, {.dt = h, .steps = kSteps}).q;
        // omega = 2 sin(phi / 2), sin(theta / 2) = h omega / 2.
        tp::DD s, c, turned, other;
        sincos(
            tp::kDDPi * static_cast<double>(fixed ? k + 1 : k) / static_cast<double>(2 * (fixed ? n + 1 : n)),
            s, c);
        const tp::DD theta = 2.0 * asin(h * s);
        sincos(theta * static_cast<double>(kSteps), other, turned);
        const auto got = q.to_vector<double>();
        double worst = 0;
        for (std::size_t j = 0; j < got.size(); ++j)
          worst = std::max(worst, std::fabs(got[j] - turned.hi * shape[j]));
        CAPTURE(fixed);
        CAPTURE(n);
        CAPTURE(k);
        CHECK(worst <= 1e-11);
        CHECK(contains(tp::explain(q).text, kChosen));
      }
}

TEST_CASE("near misses of a uniform chain are not taken for one; equal arrays are" * needs_passes()) {
  constexpr std::int64_t kSites = 700;
  const Tensor q0 = bumpy({kSites}, 0.7), p0 = bumpy({kSites}, 1.3);
  const auto run = [&](const Energy& h) {
    const tp::EvolveOptions options{.dt = 0.05, .steps = 2000};
    tp::EvolveOptions loop = options;
    loop.method = tp::Method::Loop;
    const tp::System system(h);
    const tp::State jump = system.evolve({q0, p0}, options), looped = system.evolve({q0, p0}, loop);
    const auto a = joined(jump), b = joined(looped);
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(a[i] - b[i]));
    CHECK(worst <= 1e-11);
    return report_of(jump.q);
  };
  const auto chain = [&](const Tensor& k, const Tensor& m) {
    return [=](const Tensor& q, const Tensor& p) {
      const Tensor d = walled(q, 0);
      return 0.5 * (p * p / m).sum() + 0.5 * (k * d * d).sum();
    };
  };
  std::vector<double> k(kSites + 1, 2.5), m(kSites, 1.5);
  CHECK(contains(run(chain(Tensor::from(k), Tensor::from(m))), kChosen));
  for (const std::size_t at : {std::size_t{0}, std::size_t{1}, std::size_t{350}, std::size_t{700}}) {
    auto other = k;
    other[at] *= 1 + 1e-15;
    const std::string report = run(chain(Tensor::from(other), Tensor::from(m)));
    CAPTURE(at);
    CHECK_FALSE(contains(report, kChosen));
  }
  auto heavy = m;
  heavy[123] *= 1 + 1e-15;
  CHECK_FALSE(contains(run(chain(Tensor::from(k), Tensor::from(heavy))), kChosen));
  // A defect far from what was looked at first is named.
  auto defect = k;
  defect[200] = 2.6;
  CHECK(contains(run(chain(Tensor::from(defect), Tensor::from(m))),
                 "sine- and cosine-mode jump: site 199 is not coupled"));
  // Springs to the second neighbour that end at the wall are no mirror image.
  CHECK_FALSE(contains(run([](const Tensor& q, const Tensor& p) {
                         const Tensor far = q.slice(0, 2) - q.slice(0, 0, -2);
                         return squares(p) + squares(walled(q, 0)) + 0.3 * squares(far);
                       }),
                       kChosen));
  // Held at one end by another spring than those between the sites; by a spring at the last site but one.
  CHECK_FALSE(contains(run([](const Tensor& q, const Tensor& p) {
                         return squares(p) + squares(steps_along(q, 0)) + 1.001 * squares(q.slice(0, 0, 1));
                       }),
                       kChosen));
  CHECK_FALSE(contains(run([](const Tensor& q, const Tensor& p) {
                         return squares(p) + squares(steps_along(q, 0)) +
                                squares(q.slice(0, kSites - 2, kSites - 1));
                       }),
                       kChosen));
  // Stiff in the middle only.
  CHECK_FALSE(contains(run([](const Tensor& q, const Tensor& p) {
                         return squares(p) + squares(walled(q, 0)) + squares(q.slice(0, 300, 400));
                       }),
                       kChosen));
}

TEST_CASE("transforms by ends are what they say, and undone") {
  if (!tp::fft_available()) return;
  using tp::End;
  const std::vector<std::int64_t> shape{5, 4, 6};
  const std::vector<End> ends{End::kFixed, End::kFree, End::kPeriodic};
  std::vector<double> x(120), y(120), back(120);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(1.7 * static_cast<double>(i * i));
  tp::transform_by_ends(shape, ends, tp::FftDirection::kForward, x.data(), y.data());
  constexpr double kPi = std::numbers::pi;
  const auto wave = [&](std::size_t axis, double j, double k) {
    const auto n = static_cast<double>(shape[axis]);
    if (ends[axis] == End::kFixed) return 2 * std::sin(kPi * (j + 1) * (k + 1) / (n + 1));
    if (ends[axis] == End::kFree) return 2 * std::cos(kPi * (j + 0.5) * k / n);
    return k <= n / 2 ? std::cos(2 * kPi * j * k / n) : -std::sin(2 * kPi * j * (n - k) / n);
  };
  for (int k0 = 0; k0 < 5; ++k0)
    for (int k1 = 0; k1 < 4; ++k1)
      for (int k2 = 0; k2 < 6; ++k2) {
        double sum = 0;
        for (int a = 0; a < 5; ++a)
          for (int b = 0; b < 4; ++b)
            for (int c = 0; c < 6; ++c)
              sum += x[static_cast<std::size_t>((a * 4 + b) * 6 + c)] * wave(0, a, k0) * wave(1, b, k1) *
                     wave(2, c, k2);
        CHECK(y[static_cast<std::size_t>((k0 * 4 + k1) * 6 + k2)] == doctest::Approx(sum).epsilon(1e-12));
      }
  tp::transform_by_ends(shape, ends, tp::FftDirection::kInverse, y.data(), back.data());
  tp::transform_by_ends(shape, ends, tp::FftDirection::kInverse, y.data(), y.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    CHECK(back[i] == doctest::Approx(x[i]).epsilon(1e-14));
    CHECK(y[i] == back[i]);
  }
}
