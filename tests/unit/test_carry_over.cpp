// What a step computes at its end and the next one at its beginning is carried over: the same bits, computed once.
#include <algorithm>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "needs_passes.hpp"
#include "passes/carry_over.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tp = tinyphys;
using tp::Tensor;

namespace {

const double kStep = 0.01;

// The SCAN that a tensor is an output of.
const tp::Node* scan_of(const Tensor& t) {
  const tp::Node* n = tp::uop(t).get();
  while (n->op != tp::Op::SCAN) n = n->src(0);
  return n;
}
std::ptrdiff_t count(const tp::Node* scan, tp::Op op) {
  return std::ranges::count(tp::toposort(tp::ScanView(scan).body()->src()), op, &tp::Node::op);
}

template <class Force> auto leapfrog(Force force) {
  return [force](const Tensor& q, const Tensor& p) {
    const Tensor half = p + 0.5 * kStep * force(q), moved = q + kStep * half;
    return std::tuple(moved, half + 0.5 * kStep * force(moved));
  };
}
Tensor pull(const Tensor& q) { return -sin(q); }

// Sines of a step before and after.
template <class Step, class... Rest>
std::pair<std::ptrdiff_t, std::ptrdiff_t> sines(Step step, Rest... rest) {
  const Tensor q = Tensor::from({0.1, 0.7}), p = Tensor::from({0.3, -0.2});
  const auto [a, b] = tp::scan(step, std::tuple(q, p), 10, rest...);
  const tp::Node* scan = scan_of(a);
  const tp::UOp now = tp::carry_over(scan, true);
  return {count(scan, tp::Op::SIN), now ? count(now.get(), tp::Op::SIN) : -1};
}

}  // namespace

TEST_CASE("a leapfrog of one's own computes its force once a step") {
  CHECK(sines(leapfrog(pull)) == std::pair<std::ptrdiff_t, std::ptrdiff_t>(2, 1));
  // Of more than one carry, and where the end of a step computes more than the next begins with.
  CHECK(sines([](const Tensor& q, const Tensor& p) {
          const Tensor x = q + kStep * sin(q + p), v = p - kStep * q;
          return std::tuple(x, v + kStep * sin(x + p));
        }).second == -1);
  CHECK(sines([](const Tensor& q, const Tensor& p) {
          const Tensor v = p - kStep * q, x = q + kStep * sin(q + p);
          return std::tuple(x, v * (1 + 1e-3 * cos(sin(x + v))));
        }).second == -1);
}

TEST_CASE("what differs from step to step is computed in each") {
  // Other numbers, another place, a state that is changed once more.
  CHECK(sines([](const Tensor& q, const Tensor& p) {
          const Tensor half = p - 0.5 * kStep * sin(q), moved = q + kStep * half;
          return std::tuple(moved, half - 0.5 * kStep * sin(moved * 1.0000001));
        }).second == -1);
  CHECK(sines([](const Tensor& q, const Tensor& p) {
          const Tensor half = p - 0.5 * kStep * sin(q), moved = q + kStep * half;
          return std::tuple(moved + 1e-9, half - 0.5 * kStep * sin(moved));
        }).second == -1);
  // A force that moves with the number of the step.
  CHECK(sines([](const tp::Index& i, const Tensor& q, const Tensor& p) {
          const Tensor half = p - 0.5 * kStep * sin(q + 0.1 * i), moved = q + kStep * half;
          return std::tuple(moved, half - 0.5 * kStep * sin(moved + 0.1 * i));
        }).second == -1);
}

TEST_CASE("carried over or not, the values are the same to the bit" * tp::testing::needs_passes()) {
  const auto rough = [](const Tensor& q) {
    const Tensor a = q * q * q - 1.5 * q, b = a / (1.0 + q * q);
    return b - sqrt(1.0 + a * a);
  };
  for (const std::int64_t n : {1, 3, 40, 700})
    for (const std::int64_t steps : {0, 1, 2, 25}) {
      Tensor q = Tensor::linspace(-1, 1, n).realize(), p = (q * 0.5).realize();
      const auto [a, b] = tp::scan(leapfrog(rough), std::tuple(q, p), steps);
      const std::vector<double> x = a.to_vector<double>(), v = b.to_vector<double>();
      // Step by step, each by itself.
      for (std::int64_t i = 0; i < steps; ++i) {
        std::tie(q, p) = leapfrog(rough)(q, p);
        tp::realize({q, p});
      }
      CHECK(x == q.to_vector<double>());
      CHECK(v == p.to_vector<double>());
    }
}

TEST_CASE("what is carried over leaves rows, an end and gradients as they are" *
          tp::testing::needs_passes()) {
  const Tensor q = Tensor::from({0.1, 0.7}), p = Tensor::from({0.3, -0.2}), k = Tensor::from({1.5, 0.5});
  const auto force = [&](const Tensor& x) { return -k * x * x * x / (1.0 + x * x); };
  const auto step = leapfrog(force);
  const auto with_rows = [&](const Tensor& x, const Tensor& v) {
    const auto [a, b] = step(x, v);
    return std::tuple(std::tuple(a, b), (a * b).sum());
  };
  const auto [end, rows] = tp::scan(with_rows, std::tuple(q, p), 20);
  const auto [x, v] = end;
  Tensor a = q, b = p;
  std::vector<double> truth;
  for (int i = 0; i < 20; ++i) {
    std::tie(a, b) = step(a, b);
    tp::realize({a, b});
    truth.push_back((a * b).sum().item<double>());
  }
  CHECK(x.to_vector<double>() == a.to_vector<double>());
  const std::vector<double> got = rows.to_vector<double>();
  REQUIRE(got.size() == truth.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(truth[i]).epsilon(1e-14));

  const auto last = [&](const Tensor& from, const Tensor& coupling) {
    const auto [f, g] =
        tp::scan(leapfrog([&](const Tensor& y) { return -coupling * y * y * y / (1.0 + y * y); }),
                 std::tuple(from, p), 20);
    return (f * f).sum() + (g * g).sum();
  };
  const std::vector<Tensor> slopes = tp::gradient(last(q, k), {q, k});
  const double e = 1e-5;
  for (int which = 0; which < 2; ++which)
    for (int i = 0; i < 2; ++i) {
      const Tensor d = Tensor::from({i == 0 ? e : 0.0, i == 1 ? e : 0.0});
      const double up = (which == 0 ? last(q + d, k) : last(q, k + d)).item<double>();
      const double down = (which == 0 ? last(q - d, k) : last(q, k - d)).item<double>();
      CHECK(slopes[static_cast<std::size_t>(which)].to_vector<double>()[static_cast<std::size_t>(i)] ==
            doctest::Approx((up - down) / (2 * e)).epsilon(1e-7));
    }
}
