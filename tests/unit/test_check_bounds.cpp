// An index out of range is an error with the index and the line, in loops and jumps too, and nothing else is one.
#include "engine/engine.hpp"
#include "needs_passes.hpp"
#include "test_tensor_helpers.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tinyphys::testing {
namespace {

Tensor table() { return Tensor::from({10.0, 20.0, 30.0}); }

}  // namespace

TEST_CASE("bounds: the index and the line") {
  const Tensor x = table(), bad = Tensor::from({1, 7, -9, 9}), low = Tensor::from({0, -4});
  const Tensor a = x[bad] * 2.0;
  CHECK(message([&] {
          doubles(a);
        }).find("[gather] index 7 is out of range for an axis of 3 (test_check_bounds") == 0);
  CHECK(message([&] { doubles(gather(x, low)); }) ==
        error_at("[gather] index -4 is out of range for an axis of 3"));
  CHECK(message([&] { doubles(scatter_add(x, low, 1.0)); }) ==
        error_at("[scatter_add] index -4 is out of range for an axis of 3"));
  CHECK(message([&] { doubles(set(x, low, 1.0)); }) ==
        error_at("[gather] index -4 is out of range for an axis of 3"));
  CHECK(message([&] { doubles(x[Tensor::full({}, 2) + 1]); }) ==
        error_at("[gather] index 3 is out of range for an axis of 3"));
  CHECK(doubles(gather(x, Tensor::from({2, -3, 0}))) == Doubles{30, 10, 10});
}

TEST_CASE("bounds: within a scan") {
  const Tensor x = table();
  const Tensor at = Tensor::from({2, 0}), bad = Tensor::from({0, 3}), rows = Tensor::from({0, 5, 2, 1});
  const auto sum_of = [&](std::int64_t shift, std::int64_t n) {
    return scan([&](Index i, Tensor s) { return s + x[i + shift]; }, 0.0, n).item<double>();
  };
  CHECK(sum_of(0, 3) == 60);
  CHECK(sum_of(1, 2) == 50);
  CHECK(sum_of(-3, 5) == 90);  // -3, -2, -1, 0, 1
  CHECK(message([&] { sum_of(0, 4); }).find("[gather] index 3 is out of range") == 0);
  CHECK(message([&] { sum_of(1, 3); }).find("[gather] index 3 is out of range") == 0);
  CHECK(message([&] { sum_of(-4, 2); }).find("[gather] index -4 is out of range") == 0);
  // Fixed.
  CHECK(scan([&](Tensor s) { return s + gather(x, at).sum(); }, 0.0, 2).item<double>() == 80);
  CHECK(message([&] {
          scan([&](Tensor s) { return s + gather(x, bad).sum(); }, 0.0, 2).item<double>();
        }).find("[gather] index 3 is out of range for an axis of 3 (test_check_bounds") == 0);
  // By the carry, and by what a step is given.
  const auto walk = [&](std::int64_t n) {
    auto [k, s] = scan(
        [&](Tensor j, Tensor sum) {
          return std::tuple{j * 2, sum + x[j]};
        },
        std::tuple{1, 0.0}, n);
    return s.template item<double>();
  };
  CHECK(walk(2) == 50);
  CHECK(message([&] { walk(5); }).find("[gather] index 4 is out of range") == 0);
  const auto listed = [&](std::int64_t n) {
    return scan([&](Tensor s, Tensor j) { return s + x[j]; }, 0.0, n, {.xs = {rows.slice(0, 0, n)}})
        .item<double>();
  };
  CHECK(listed(1) == 10);
  CHECK(message([&] { listed(4); }).find("[gather] index 5 is out of range") == 0);
  // Stacked outs stay where they are beside what the loop carries for the check.
  auto [last, all] = scan(
      [&](Tensor j, Tensor s) {
        const Tensor next = s + x[j];
        return std::pair{std::tuple{(j + 2) % 3, next}, std::tuple{next, j}};
      },
      std::tuple{0, 0.0}, 4);
  CHECK(std::get<1>(last).item<double>() == 70);
  CHECK(doubles(std::get<0>(all)) == Doubles{10, 40, 60, 70});
  CHECK(ints(std::get<1>(all)) == Ints{0, 2, 1, 0});
  // A loop that ends before.
  const auto until = [&](double end) {
    return scan([&](Index i, Tensor s) { return s + x[i]; }, 0.0, 100,
                {.until = [end](Tensor s) { return s >= end; }})
        .item<double>();
  };
  CHECK(until(30.0) == 30);
  CHECK(message([&] { until(1000.0); }).find("[gather] index 3 is out of range") == 0);
}

TEST_CASE("bounds: within a scan in a scan, and writes") {
  const Tensor x = table();
  const auto nested = [&](std::int64_t n, std::int64_t m) {
    return scan([&](Index i,
                    Tensor s) { return s + scan([&](Index j, Tensor t) { return t + x[i + j]; }, 0.0, m); },
                0.0, n)
        .item<double>();
  };
  CHECK(nested(2, 2) == 80);
  CHECK(message([&] { nested(3, 2); }).find("[gather] index 3 is out of range") == 0);
  CHECK(message([&] { nested(2, 3); }).find("[gather] index 3 is out of range") == 0);
  const auto add = [&](std::int64_t n) {
    return doubles(scan([&](Index i, Tensor c) { return scatter_add(c, i, 1.0); }, Tensor::zeros({3}), n));
  };
  CHECK(add(3) == Doubles{1, 1, 1});
  CHECK(message([&] { add(4); }).find("[scatter_add] index 3 is out of range") == 0);
  const auto write = [&](std::int64_t n) {
    return doubles(scan([&](Index i, Tensor c) { return set(c, i, 5.0); }, Tensor::zeros({3}), n));
  };
  CHECK(write(3) == Doubles{5, 5, 5});
  CHECK(message([&] { write(4); }).find("[gather] index 3 is out of range") == 0);
}

TEST_CASE("bounds: within an energy, jumped or not" * needs_passes()) {
  const auto run = [](const Tensor& at, double cubic, Integrator by = Integrator::LeapfrogKDK) {
    const System s([=](const Tensor& q, const Tensor& p) {
      const Tensor d = q[at];
      const Tensor h = 0.5 * (p * p).sum() + 0.5 * (d * d).sum();
      return cubic == 0 ? h : h + cubic * (d * d * d).sum();
    });
    return doubles(
        s.evolve({Tensor::from({1.0, 2.0}), Tensor::zeros({2})}, {.dt = 0.1, .steps = 100, .integrator = by})
            .q);
  };
  for (const double cubic : {0.0, 0.01}) {
    CHECK(run(Tensor::from({0, -1}), cubic).size() == 2);
    CHECK(message([&] { run(Tensor::from({0, 2}), cubic); }).find("[gather] index 2 is out of range") == 0);
  }
  CHECK(message([&] {
          run(Tensor::from({-3, 1}), 0.0, Integrator::Exact);
        }).find("[gather] index -3 is out of range") == 0);
  const System by_state([](const Tensor& q, const Tensor& p) {
    const Tensor well = Tensor::from({1.0, 2.0, 3.0});
    return 0.5 * (p * p).sum() + 0.5 * (q * q).sum() * well[floor(abs(q[0])).astype(DType::kInt64)];
  });
  const auto motion = [&](double q) {
    return doubles(by_state.evolve({Tensor::from({q}), Tensor::from({0.0})}, {.dt = 0.01, .steps = 50}).q);
  };
  CHECK(motion(2.5).size() == 1);
  CHECK(message([&] { motion(3.5); }).find("[gather] index 3 is out of range") == 0);
  // Reported as before.
  const Tensor at = Tensor::from({0, 1});
  const System s(
      [=](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q[at] * q).sum(); });
  const State end =
      s.evolve({Tensor::from({1.0, 2.0}), Tensor::zeros({2})}, {.dt = 0.01, .steps = 1'000'000});
  (void)doubles(end.q);
  CHECK(explain(end.q).text.find("chose    normal-mode jump") != std::string::npos);
}

TEST_CASE("bounds: gradients through loops that index") {
  const auto f = [](const Tensor& x) {
    return scan([&](Index i, Tensor s) { return s + x[i] * x[i]; }, 0.0, 3);
  };
  CHECK(doubles(grad(f)(table())) == Doubles{20, 40, 60});
  CHECK(message([&] {
          doubles(grad(f)(Tensor::from({1.0, 2.0})));
        }).find("index 2 is out of range") != std::string::npos);
}

}  // namespace tinyphys::testing
