// Graphs of many nodes: the work grows as the graph, not as its square. Work is counted, never timed: nodes that walks look
// at, kernels compiled, steps of the plan.
#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/engine.hpp"
#include "needs_passes.hpp"
#include "runtime/device.hpp"
#include "support/env.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/graph.hpp"

namespace tp = tinyphys;
using tp::Tensor;

namespace {

struct Work {
  double visits = 0, compiled = 0;
};

Work work_of(const std::function<void()>& f) {
  const std::int64_t visits = tp::nodes_visited(), compiled = tp::kernels_compiled();
  f();
  return {static_cast<double>(tp::nodes_visited() - visits),
          static_cast<double>(tp::kernels_compiled() - compiled)};
}

// f(n) against f(4 n), each on a graph that was not there before. What does not grow with n only lowers the ratio;
// the margin is for the last kernel of a chain, which is a short one.
void check_linear(const std::function<void(long)>& f, long n) {
  f(n / 8);  // what is made once
  const Work once = work_of([&] { f(n); }), four = work_of([&] { f(4 * n); });
  CAPTURE(once.visits);
  CAPTURE(four.visits);
  CHECK(four.visits <= 4.4 * once.visits);
  CAPTURE(once.compiled);
  CAPTURE(four.compiled);
  CHECK(four.compiled <= 4.4 * once.compiled + 4);
}

Tensor start(std::int64_t size) {
  return Tensor::from(std::vector<double>(static_cast<std::size_t>(size), 1.25));
}

Tensor chain(Tensor x, long n) {
  for (long i = 0; i < n; ++i) x = x * 0.99 + 0.01;
  return x;
}

Tensor varying(Tensor x, long n) {
  for (long i = 0; i < n; ++i)
    x = x * (0.99 + 1e-7 * static_cast<double>(i)) + 1e-3 * static_cast<double>(i % 7 + 3);
  return x;
}

// No stretch of it is like another.
Tensor irregular(Tensor x, long n) {
  std::uint32_t seed = 1;
  for (long i = 0; i < n; ++i) {
    seed = seed * 1664525u + 1013904223u;
    switch (seed >> 29) {
      case 0: x = x * 0.9; break;
      case 1: x = x + 0.3; break;
      case 2: x = x - 0.7; break;
      case 3: x = abs(x) + x; break;
      case 4: x = x / 1.5; break;
      case 5: x = maximum(x, -x); break;
      default: x = where(x < 2.5, x, x * 0.25); break;
    }
  }
  return x;
}

std::vector<Tensor> pieces_of(const Tensor& x, long n) {
  std::vector<Tensor> pieces;
  for (long i = 0; i < n; ++i)
    pieces.push_back(x.slice(0, i, i + 1) * x.slice(0, (i + 1) % n, (i + 1) % n + 1));
  return pieces;
}

std::string plan_of(const Tensor& x) {
  const tp::UOp u = tp::uop(x);
  return tp::describe_plan(std::span<const tp::UOp>(&u, 1));
}
long lines(const std::string& text) { return static_cast<long>(std::count(text.begin(), text.end(), '\n')); }

}  // namespace

TEST_CASE("a chain is planned, compiled and run in work that grows as its length") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  for (const std::int64_t size : {1, 3, 1000}) {
    CAPTURE(size);
    check_linear([&](long n) { chain(start(size), n).realize(); }, 2000);
    check_linear([&](long n) { varying(start(size), n).realize(); }, 2000);
  }
  check_linear([&](long n) { irregular(start(1), n).realize(); }, 1500);
}

TEST_CASE("without optimisation too") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  const tp::env::ScopedOverride plain("TINYPHYS_OPT", "0");
  check_linear([&](long n) { chain(start(3), n).realize(); }, 2000);
  check_linear([&](long n) { varying(start(3), n).realize(); }, 2000);
}

TEST_CASE("a repeated body is compiled once, with numbers that vary too") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  chain(start(5), 100).realize();
  varying(start(5), 100).realize();
  // The kernel of 256 operations and the last, shorter one; their phase against the body is the same everywhere.
  CHECK(work_of([] { chain(start(5), 4000).realize(); }).compiled <= 2);
  CHECK(work_of([] { varying(start(5), 4100).realize(); }).compiled <= 2);
  CHECK(work_of([] { varying(start(5), 8200).realize(); }).compiled <= 2);
}

TEST_CASE("a chain of kernels has the values of its steps") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  double x = 1.25, y = 1.25;
  for (long i = 0; i < 3000; ++i) {
    x = x * 0.99 + 0.01;
    y = y * (0.99 + 1e-7 * static_cast<double>(i)) + 1e-3 * static_cast<double>(i % 7 + 3);
  }
  for (const std::int64_t size : {1, 3, 1000}) {
    const auto values = chain(start(size), 3000).to_vector<double>();
    CHECK(std::all_of(values.begin(), values.end(), [&](double v) { return v == x; }));
    const auto others = varying(start(size), 3000).to_vector<double>();
    CHECK(std::all_of(others.begin(), others.end(), [&](double v) { return v == y; }));
  }
  const double plain = [] {
    const tp::env::ScopedOverride off("TINYPHYS_OPT", "0");
    return irregular(start(1), 2000).item<double>();
  }();
  CHECK(irregular(start(1), 2000).item<double>() == plain);
}

TEST_CASE("the gradient of a chain, its report, and dropping it") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  const auto loss = [](const Tensor& x0, long n) {
    Tensor x = x0;
    for (long i = 0; i < n; ++i) x = x * 0.99 + 0.005 * (x * x);
    return x.sum();
  };
  check_linear(
      [&](long n) {
        const Tensor x0 = start(2);
        (void)tp::gradient(loss(x0, n), std::vector<Tensor>{x0})[0].realize();
      },
      1000);
  const Tensor x0 = Tensor::from({0.5});
  double x = 0.5, dx = 1;
  for (long i = 0; i < 2000; ++i) {
    dx *= 0.99 + 0.01 * x;
    x = x * 0.99 + 0.005 * (x * x);
  }
  CHECK(tp::gradient(loss(x0, 2000), std::vector<Tensor>{x0})[0].item<double>() ==
        doctest::Approx(dx).epsilon(1e-12));
  check_linear([&](long n) { CHECK(!tp::explain(chain(start(3), n)).text.empty()); }, 2000);
  // Deep enough to overflow a stack of 8 MB at 80 bytes a level.
  const std::int64_t before = tp::live_nodes();
  { const Tensor deep = chain(start(3), 100'000); }
  CHECK(tp::live_nodes() <= before + 8);
}

TEST_CASE("cat and stack of many pieces copy them, each once") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  const auto x = [](long n) {
    std::vector<double> v(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = 0.5 + static_cast<double>(i);
    return Tensor::from(v);
  };
  check_linear([&](long n) { tp::cat(pieces_of(x(n), n), 0).realize(); }, 500);
  check_linear(
      [&](long n) {
        std::vector<Tensor> numbers;
        for (long i = 0; i < n; ++i) numbers.push_back(Tensor::full({}, 0.25 * static_cast<double>(i)));
        tp::stack(numbers, 0).realize();
      },
      500);
  CHECK(work_of([&] { tp::cat(pieces_of(x(2000), 2000), 0).realize(); }).compiled <= 4);

  const long n = 300;
  const auto values = tp::cat(pieces_of(x(n), n), 0).to_vector<double>();
  for (long i = 0; i < n; ++i)
    CHECK(values[static_cast<std::size_t>(i)] ==
          (0.5 + static_cast<double>(i)) * (0.5 + static_cast<double>((i + 1) % n)));
}

TEST_CASE("a copy has the values of the parts: numbers, views, unequal lengths, inner axes, every dtype") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  for (const tp::DType d :
       {tp::DType::kFloat64, tp::DType::kFloat32, tp::DType::kInt64, tp::DType::kInt32, tp::DType::kBool}) {
    CAPTURE(tp::name(d));
    std::vector<Tensor> parts;
    std::vector<double> expected;
    for (long i = 0; i < 40; ++i) {
      const long columns = i % 4;
      const double v = d == tp::DType::kBool ? static_cast<double>(i % 2) : static_cast<double>(i) - 7;
      switch (i % 3) {
        case 0: parts.push_back(Tensor::full({30, columns}, v).astype(d)); break;
        case 1: parts.push_back(Tensor::full({columns, 30}, v).astype(d).transpose().clone()); break;
        default:
          parts.push_back(Tensor::full({30 * columns}, v).astype(d).clone().reshape({30, columns}));
          break;
      }
      for (long k = 0; k < columns; ++k) expected.push_back(v);
    }
    const Tensor joined = tp::cat(parts, 1);
    CHECK(plan_of(joined).find("copy") != std::string::npos);
    const auto values = joined.astype(tp::DType::kFloat64).to_vector<double>();
    REQUIRE(values.size() == 30 * expected.size());
    bool equal = true;
    for (std::size_t i = 0; i < values.size(); ++i) equal &= values[i] == expected[i % expected.size()];
    CHECK(equal);
  }
}

TEST_CASE("slices of one value, many of them, are the elements that they name") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  std::vector<double> v(7 * 90);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<double>(i);
  const Tensor x = Tensor::from(v, {7, 90}) + 0.5;
  Tensor sum = Tensor::full({3, 2}, 0.0);
  std::vector<double> expected(6, 0.0);
  for (long i = 0; i < 85; ++i) {
    sum = sum * 0.5 + x.slice(0, 5, 0, -2).slice(1, i, i + 4, 3);
    for (long r = 0; r < 3; ++r)
      for (long c = 0; c < 2; ++c) {
        double& e = expected[static_cast<std::size_t>(2 * r + c)];
        e = e * 0.5 + (static_cast<double>((5 - 2 * r) * 90 + i + 3 * c) + 0.5);
      }
  }
  CHECK(plan_of(sum).find("copy") != std::string::npos);
  CHECK(sum.to_vector<double>() == expected);
}

TEST_CASE("growing and sliding windows of cat") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  const auto grow = [](long n) {
    Tensor x = start(2);
    for (long i = 0; i < n; ++i) x = tp::cat({x, Tensor::full({1}, static_cast<double>(i))}, 0);
    return x;
  };
  const auto slide = [](long n) {
    Tensor x = Tensor::linspace(1.0, 2.0, 500).clone();
    for (long i = 0; i < n; ++i) x = tp::cat({x.slice(0, 1, 500), x.slice(0, 0, 1) * 0.5}, 0);
    return x;
  };
  check_linear([&](long n) { grow(n).realize(); }, 500);
  check_linear([&](long n) { slide(n).realize(); }, 500);
  CHECK(lines(plan_of(grow(3000))) < 3200);
  const auto grown = grow(700).to_vector<double>();
  REQUIRE(grown.size() == 702);
  CHECK(grown[1] == 1.25);
  CHECK(grown[2] == 0);
  CHECK(grown[701] == 699);
  std::vector<double> window = Tensor::linspace(1.0, 2.0, 500).to_vector<double>();
  for (long i = 0; i < 600; ++i) {
    window[0] *= 0.5;
    std::rotate(window.begin(), window.begin() + 1, window.end());
  }
  CHECK(slide(600).to_vector<double>() == window);
}

TEST_CASE("chains of movement, reductions and products are cut into kernels of bounded size") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  check_linear(
      [](long n) {
        Tensor x = Tensor::from(std::vector<double>{1.0, 2.0, 3.0, 4.0});
        for (long i = 0; i < n; ++i) x = x.roll(1, 0).flip(0);
        CHECK(x.to_vector<double>().size() == 4);
      },
      3000);
  check_linear(
      [](long n) {
        Tensor x = Tensor::from(std::vector<double>{1.0, 2.0, 3.0, 5.0});
        for (long i = 0; i < n; ++i) x = x - x.mean() * 0.25;
        x.realize();
      },
      1000);
  check_linear(
      [](long n) {
        Tensor x = start(4), y = Tensor::from(std::vector<double>{1.0, 2.0, 3.0, 5.0});
        for (long i = 0; i < n; ++i) {
          const Tensor next = x * 0.5 + y.roll(1, 0) * 0.25;
          x = y;
          y = next;
        }
        y.realize();
      },
      1500);
}

TEST_CASE("plans of long graphs do not pile up" * tp::testing::needs_passes()) {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  chain(start(20), 60'000).realize();
  const std::int64_t before = tp::live_nodes();
  for (std::int64_t size = 21; size < 30; ++size) chain(start(size), 60'000).realize();
  // Nine programs of 120,000 nodes, of which half a million may stay.
  CHECK(tp::live_nodes() <= before + 600'000);
}

TEST_CASE("a chain of updates of parts is cut into kernels of a bounded size") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  constexpr long kSize = 40;
  const auto run = [](long passes) {
    Tensor x = Tensor::full({kSize}, 1.0);
    std::vector<double> truth(kSize, 1.0);
    for (long i = 0; i < passes; ++i) {
      x = x.slice_set(0, i, i + 1, x.sum() * 1e-3 + 1.0);
      double sum = 0;
      for (const double v : truth) sum += v;
      truth[static_cast<std::size_t>(i)] = sum * 1e-3 + 1.0;
    }
    const auto got = x.to_vector<double>();
    for (std::size_t i = 0; i < truth.size(); ++i) CHECK(got[i] == doctest::Approx(truth[i]).epsilon(1e-14));
  };
  run(5);
  run(40);
}

TEST_CASE("a pass of a descent looks at no more nodes the longer it runs, though its data is held") {
  const tp::env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  const Tensor data = Tensor::from({1.0, 2.0, 3.0}).clone();
  Tensor k = Tensor::from({0.5, 0.4, 0.3}).clone();
  std::int64_t early = 0, late = 0;
  for (int i = 0; i < 400; ++i) {
    const std::int64_t before = tp::nodes_visited();
    const Tensor off = data * k - 1.0;
    const Tensor g = tp::gradient((off * off).sum(), std::vector<Tensor>{k})[0];
    const std::int64_t seen = tp::nodes_visited() - before;
    k = (k - 1e-3 * g).realize();
    if (i == 20) early = seen;
    if (i == 399) late = seen;
  }
  CHECK(late <= early);
}
