// Realized values let go of their past when nobody can ask for it: loops that realize each pass are flat in memory.
#include <atomic>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "needs_host_memory.hpp"
#include "needs_passes.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/uop.hpp"

namespace tp = tinyphys;
using tp::Tensor;

namespace {

constexpr std::int64_t kLength = 500;
constexpr std::int64_t kBytes = kLength * 8;

// Data, as what a gradient is asked for must be.
Tensor ramp(std::int64_t n = kLength) {
  std::vector<double> v;
  for (std::int64_t i = 0; i < n; ++i) v.push_back(static_cast<double>(i) / static_cast<double>(n - 1));
  return Tensor::from(v);
}

struct Memory {
  std::int64_t nodes = tp::live_nodes(), bytes = tp::live_bytes();
};

// Memory after the first passes is the memory after all of them.
void check_flat(const std::function<void(int pass)>& pass, int passes = 1000) {
  for (int i = 0; i < 10; ++i) pass(i);
  const Memory before;
  std::int64_t most = 0;
  for (int i = 10; i < passes; ++i) {
    pass(i);
    most = std::max(most, tp::live_bytes());
  }
  CHECK(tp::live_nodes() <= before.nodes);
  CHECK(most <= before.bytes);
}

tp::System pendulum() {
  return tp::System([](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
}
tp::System oscillator() {
  return tp::System(
      [](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + 0.5 * (q * q).sum(); });
}

bool is_leaf(const Tensor& t) { return tp::uop(t)->n_src == 0; }

}  // namespace

TEST_CASE("a loop over a tensor is flat in memory") {
  Tensor x = ramp();
  check_flat([&](int i) { x = (x * .99 + (.01 * i + .003)).realize(); });
  CHECK(is_leaf(x));
  CHECK(std::isfinite(x.to_vector<double>()[3]));
  // The last value and nothing else.
  const Memory before;
  x = Tensor();
  CHECK(tp::live_bytes() == before.bytes - kBytes);
}

TEST_CASE("a loop over states is flat in memory, jumped or looped, and its values stay right") {
  for (const auto& system : {pendulum(), oscillator()}) {
    tp::State z{ramp(8), tp::zeros_like(ramp(8))};
    tp::State all = system.evolve(z, {.dt = 0.01, .steps = 3000});
    check_flat(
        [&](int) {
          z = system.evolve(z, {.dt = 0.01, .steps = 10});
          z.q.realize();
        },
        300);
    CHECK(tp::allclose(z.q, all.q, 1e-9, 1e-9));
    CHECK(tp::allclose(z.p, all.p, 1e-9, 1e-9));
  }
}

TEST_CASE("an observable asked for each pass changes nothing about that") {
  const tp::System system = pendulum();
  tp::State z{ramp(8), tp::zeros_like(ramp(8))};
  double sum = 0;
  check_flat(
      [&](int) {
        z = system.evolve(z, {.dt = 0.01, .steps = 5});
        sum += system.energy(z).item<double>();
      },
      200);
  CHECK(std::isfinite(sum));
}

TEST_CASE("a loop of scans is flat in memory") {
  Tensor x = ramp(), v = tp::zeros_like(x);
  check_flat(
      [&](int) {
        std::tie(x, v) = tp::scan(
            [](const Tensor& a, const Tensor& b) {
              return std::tuple{a + 0.01 * b, b - 0.01 * sin(a)};
            },
            std::tuple{x, v}, 5);
        tp::realize({x, v});
      },
      200);
}

TEST_CASE("gradient steps are flat in memory") {
  const auto loss = [](const Tensor& x) { return ((x - 0.5) * (x - 0.5)).sum(); };
  Tensor x = ramp();
  check_flat([&](int) { x = (x - 0.1 * tp::grad(loss)(x)).realize(); }, 300);
  CHECK(x.to_vector<double>()[0] == doctest::Approx(0.5));
}

TEST_CASE("what a loop reads keeps the graph that names it, and no buffers") {
  // gradient(x, {k}) goes through every pass: that stays right, and costs nodes, not buffers.
  const Tensor k = Tensor::from({0.5});
  Tensor x = ramp();
  check_flat([&](int) { x = (x * k).realize(); }, 3);
  const Memory before;
  for (int i = 0; i < 100; ++i) {
    x = (x * k + 1.0).realize();
    CHECK(tp::live_bytes() <= before.bytes + kBytes);
  }
  CHECK(tp::live_nodes() <= before.nodes + 100 * 6);
}

TEST_CASE("a start that is still held keeps the graph, and no buffers") {
  const Tensor start = ramp();
  Tensor x = start;
  for (int i = 0; i < 3; ++i) x = (x * 1.01).realize();
  const std::int64_t before = tp::live_bytes();
  for (int i = 0; i < 50; ++i) {
    x = (x * 1.01).realize();
    CHECK(tp::live_bytes() <= before + kBytes);
  }
  const double slope = tp::gradient(x.sum(), {start})[0].to_vector<double>()[7];
  CHECK(slope == doctest::Approx(std::pow(1.01, 53)).epsilon(1e-12));
}

TEST_CASE("gradients go through realized values while what they name is held") {
  Tensor a = ramp();
  Tensor b = (a * a).realize();
  Tensor c = (sin(b) * b).realize();
  b = Tensor();  // c still comes from a
  CHECK_FALSE(is_leaf(c));
  const auto g = tp::gradient((c * 2.0).sum(), {a})[0].to_vector<double>();
  for (std::size_t i = 0; i < g.size(); ++i) {
    const double x = static_cast<double>(i) / (kLength - 1), y = x * x;
    CHECK(g[i] == doctest::Approx(2 * (std::cos(y) * y + std::sin(y)) * 2 * x));
  }
  // A copy of the handle counts as the handle.
  const Tensor copy = a;
  a = Tensor();
  CHECK_FALSE(is_leaf((c + 0.0).realize()));
  CHECK_FALSE(is_leaf(c));
  CHECK(tp::gradient(c.sum(), {copy})[0].to_vector<double>()[0] == 0.0);
}

TEST_CASE("the past goes when the last handle into it goes, at once" * tp::testing::needs_host_memory()) {
  (void)(exp(ramp().realize()).realize() * 2.0 + ramp()).realize();  // plans are kept
  const Memory before;
  Tensor a = ramp().realize();
  Tensor b = exp(a).realize();
  Tensor c = (b * 2.0 + a).realize();
  CHECK(tp::live_bytes() == before.bytes + 3 * kBytes);
  b = Tensor();
  CHECK(tp::live_bytes() == before.bytes + 2 * kBytes);  // b can be made again from a
  CHECK_FALSE(is_leaf(c));
  a = Tensor();
  CHECK(is_leaf(c));
  CHECK(tp::live_bytes() == before.bytes + kBytes);
  CHECK(tp::live_nodes() == before.nodes + 1);
  const double c1 = c.to_vector<double>().back();
  CHECK(c1 == doctest::Approx(2 * std::exp(1.0) + 1.0));
}

TEST_CASE("a value realized after its arguments are gone keeps none of them") {
  const Memory before;
  Tensor b;
  {
    const Tensor a = ramp().realize();
    b = a.sum();
  }
  CHECK(b.item<double>() == doctest::Approx(kLength / 2.0));
  CHECK(tp::live_bytes() == before.bytes + 8);
  CHECK(is_leaf(b));
}

TEST_CASE("a buffer that a value still to be computed needs stays") {
  Tensor a = ramp();
  Tensor b = exp(a).realize();
  const Tensor lazy = b + 1.0;
  b = Tensor();
  Tensor other = (a + 1.0).realize();
  a = Tensor();
  CHECK(lazy.to_vector<double>()[0] == 2.0);
  CHECK(other.to_vector<double>()[0] == 1.0);
}

TEST_CASE("buffers below a value go although something lazy uses the value") {
  const auto warm_up = [] {
    const Tensor b = (ramp() * 1.5).realize();
    (void)tp::gradient(b.sum(), {b})[0].realize();
    (void)b.sum().item<double>();
    (void)(ramp(3) + 1.0).sum().item<double>();
  };
  warm_up();
  const Memory before;
  Tensor a = ramp().realize();
  Tensor b = (a * 1.5).realize();
  Tensor lazy = b.sum();
  a = Tensor();
  CHECK(tp::live_bytes() == before.bytes + kBytes);
  CHECK(tp::gradient(lazy, {b})[0].to_vector<double>()[2] == 1.0);
  CHECK(lazy.item<double>() == doctest::Approx(0.75 * kLength));
  b = lazy = Tensor();
  (void)(ramp(3) + 1.0).sum().item<double>();
  CHECK(tp::live_bytes() == before.bytes);
  CHECK(tp::live_nodes() == before.nodes);
}

TEST_CASE("a scheme of two steps back is flat in memory") {
  Tensor before = ramp(), now = (before * 1.0).realize();
  check_flat([&](int) {
    Tensor next = (2.0 * now - before + 0.01 * (now.roll(1, 0) - 2.0 * now + now.roll(-1, 0))).realize();
    before = now;
    now = next;
  });
  CHECK(is_leaf(before));
  const auto g = tp::gradient(now.sum(), {before})[0].to_vector<double>();
  CHECK(g[5] == doctest::Approx(2.0));
}

TEST_CASE("a window of handles that moves along is flat in memory") {
  std::deque<Tensor> last;
  Tensor x = ramp();
  check_flat([&](int i) {
    last.push_back(x);
    if (last.size() > 6) last.pop_front();
    x = (x * .99 + (.01 * i + .003)).realize();
  });
  // A gradient by the oldest one in the window goes through all of them.
  CHECK(tp::gradient(x.sum(), {last.front()})[0].to_vector<double>()[0] ==
        doctest::Approx(std::pow(.99, 6)).epsilon(1e-12));
}

TEST_CASE("letting a chain of many realized values go is linear") {
  (void)(ramp(4) * 0.999).realize();
  const Memory before;
  Tensor start = ramp(4), x = start;
  for (int i = 0; i < 20'000; ++i) x = (x * 0.999).realize();
  start = Tensor();
  CHECK(is_leaf(x));
  CHECK(tp::live_nodes() <= before.nodes + 1);
}

TEST_CASE("constants that a plan holds do not keep their buffers") {
  const auto work = [] {
    Tensor ones = Tensor::ones({kLength}).realize(), numbers = Tensor::arange(kLength).realize(),
           eye = Tensor::eye(20).realize();
    CHECK(ones.to_vector<double>()[3] == 1.0);
    CHECK(numbers.to_vector<std::int64_t>()[7] == 7);
    CHECK(eye.to_vector<double>()[21] == 1.0);
    return (ones + 1.0).realize();
  };
  const Memory before;
  Tensor two = work();
  CHECK(tp::live_bytes() == before.bytes + kBytes);
  two = work();
  CHECK(tp::live_bytes() == before.bytes + kBytes);
}

TEST_CASE("what somebody holds that is not a handle of the user is not touched") {
  Tensor y = ramp(), x = (y + 2.0).realize();
  const tp::UOp held = tp::uop(x);
  x = y = Tensor();
  (void)(ramp(3) * 2.0).sum().item<double>();
  CHECK(held->n_src == 2);
  CHECK(tp::storage(held.get()) != nullptr);
}

TEST_CASE("explain after a loop reports the evolutions, once and with their number" *
          tp::testing::needs_passes()) {
  const tp::System system = oscillator();
  tp::State z{ramp(8), tp::zeros_like(ramp(8))};
  for (int i = 0; i < 100; ++i) {
    z = system.evolve(z, {.dt = 0.01, .steps = 50'000'000});
    tp::realize({z.q, z.p});
  }
  CHECK(is_leaf(z.q));
  for (const Tensor& t : {z.q, z.p, system.energy(z)}) {
    const std::string text = tp::explain(t).text;
    CHECK(text.find("50,000,000 steps, LeapfrogKDK") != std::string::npos);
    CHECK(text.find("repeats  100 times in a row") != std::string::npos);
    CHECK(text.find("test_history.cpp:") != std::string::npos);
    CHECK(text.find("chose    normal-mode jump") != std::string::npos);
    CHECK(text.find("evolve ", text.find("evolve ") + 1) == std::string::npos);
  }
  Tensor y = (z.q * 2.0).realize();
  z = {};
  CHECK(is_leaf(y));
  CHECK(tp::explain(y).text.find("100 times") != std::string::npos);
}

TEST_CASE("explain stays bounded when every evolution is another one") {
  const tp::System system = pendulum();
  tp::State z{ramp(4), tp::zeros_like(ramp(4))};
  for (int i = 0; i < 40; ++i) {
    z = system.evolve(z, {.dt = 0.001 * (i + 1), .steps = 3});
    z.q.realize();
  }
  const std::string text = tp::explain(z.q).text;
  CHECK(text.find("dt 0.04") != std::string::npos);
  CHECK(text.find("24 earlier evolutions and scans") != std::string::npos);
  CHECK(text.find("dt 0.001,") == std::string::npos);
}

TEST_CASE("several threads realize and let go, alone and over shared values") {
  const Tensor shared = ramp(64).realize();
  Tensor middle = (shared * 3.0).realize();
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t, mine = middle] {
      Tensor x = ramp(64 + t);
      for (int i = 0; i < 150; ++i) {
        x = (x * .5 + 1.0).realize();
        // The same expressions in every thread: nodes of one are found and dropped by the others.
        Tensor a = (mine + static_cast<double>(i % 5)).realize();
        Tensor b = (a * a).realize();
        a = Tensor();
        const double g = tp::gradient(b.sum(), {mine})[0].to_vector<double>()[0];
        wrong += std::abs(g - 2.0 * (i % 5)) > 1e-12;
        wrong += (Tensor::full({3}, 1.25) * (i % 3 + 2.0)).realize().to_vector<double>()[0] !=
                 1.25 * (i % 3 + 2.0);
      }
      wrong += std::abs(x.to_vector<double>()[0] - 2.0) > 1e-12;
    });
  middle = Tensor();
  for (auto& t : threads) t.join();
  CHECK(wrong == 0);
}
