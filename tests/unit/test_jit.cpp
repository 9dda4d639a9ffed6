// tp::jit: recorded once, replayed, and never with an old value.
#include <thread>

#include <doctest/doctest.h>

#include "tinyphys/tinyphys.hpp"
#include "uop/uop.hpp"

using namespace tinyphys;

namespace {

std::vector<double> numbers(const Tensor& t) { return t.to_vector<double>(); }
Tensor data(std::initializer_list<double> values) { return Tensor::from(values); }

}  // namespace

TEST_CASE("jit: f runs once for each form of its arguments") {
  int runs = 0;
  const auto f = jit([&](const Tensor& x, const Tensor& y) {
    ++runs;
    return std::pair{x * y + 1.0, (x - y).sum()};
  });
  for (int i = 1; i <= 5; ++i) {
    const double a = i;
    const auto [u, v] = f(data({a, 2}), data({3, 4}));
    CHECK(numbers(u) == std::vector<double>{3 * a + 1, 9});
    CHECK(v.item<double>() == a - 5);
  }
  CHECK(runs == 1);
  CHECK(f(data({1, 2, 3}), data({1, 1, 1})).second.item<double>() == 3);
  CHECK(f(Tensor(2.0), 5).first.item<double>() == 11);
  CHECK(f(Tensor::from({1.5F}), Tensor::from({2.0F})).first.dtype() == DType::kFloat32);
  CHECK(runs == 4);
  CHECK(f(7, 5).first.item<double>() == 36);  // int64 is another dtype
  CHECK(f(1.0, 0.5).first.item<double>() == 1.5);
  CHECK(runs == 6);
  CHECK(f.times_recorded() == 6);
  const auto copy = f;
  copy(2.0, 0.5);
  CHECK(runs == 6);
}

TEST_CASE("jit: arguments, captured values and constants as results; structures") {
  const Tensor k = data({5, 6});
  const auto f = jit([&](const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    Tensor sum(0.0);
    for (const Tensor& t : b) sum = sum + t;
    return std::tuple{a.front(), k, Tensor::zeros({2}), std::vector{sum, Tensor(1.0)}};
  });
  const Tensor x = data({1, 2}), y = data({3, 4}), z = data({5, 6});
  for (int i = 0; i < 2; ++i) {
    CHECK(numbers(std::get<3>(f(std::vector{x}, std::vector{y, z}))[0]) == std::vector<double>{8, 10});
    // The same tensors, put together in another way.
    CHECK(numbers(std::get<3>(f(std::vector{x, y}, std::vector{z}))[0]) == std::vector<double>{5, 6});
  }
  const auto [a, b, c, d] = f(std::vector{y}, std::vector{z, z});
  CHECK(numbers(a) == numbers(y));
  CHECK(numbers(b) == numbers(k));
  CHECK(numbers(c) == std::vector<double>{0, 0});
  CHECK(numbers(d[0]) == std::vector<double>{10, 12});
  CHECK(d[1].item<double>() == 1);
}

TEST_CASE("jit: a captured value that is another one is an error that names it") {
  Tensor k = data({1, 2, 3});
  const Tensor w = data({2, 2, 2});
  const auto f = jit([&](const Tensor& x) { return x * (k * w); });
  const Tensor x = data({1, 1, 1});
  CHECK(numbers(f(x)) == std::vector<double>{2, 4, 6});
  SUBCASE("assigned") {
    k = data({1, 5, 3});
    CHECK_THROWS_WITH_AS(
        f(x), doctest::Contains("changed since the function was recorded: element 1 was 4 and is 10 now"),
        Error);
    CHECK_THROWS_WITH_AS(f(x), doctest::Contains("[jit] captured value 0, float64[3] from test_jit.cpp:"),
                         Error);
    k = data({1, 2, 3});  // the same data: as it was
    CHECK(numbers(f(x)) == std::vector<double>{2, 4, 6});
  }
  SUBCASE("another shape") {
    k = Tensor(1.0);
    CHECK_THROWS_WITH_AS(
        f(x), doctest::Contains("changed since the function was recorded: element 1 was 4 and is 2 now"),
        Error);
  }
  SUBCASE("swapped") {
    Tensor other = data({7, 7, 7});
    std::swap(k, other);
    CHECK_THROWS_WITH_AS(f(x), doctest::Contains("element 0 was 2 and is 14 now"), Error);
    std::swap(k, other);
    CHECK(numbers(f(x)) == std::vector<double>{2, 4, 6});
  }
  SUBCASE("kept elsewhere meanwhile") {
    const Tensor old = k;
    k += 1.0;
    CHECK_THROWS_WITH_AS(f(x), doctest::Contains("element 0 was 2 and is 4 now"), Error);
    CHECK(old.dim(0) == 3);
  }
  SUBCASE("set in place") {
    k = set(k, 2, 9.0);
    CHECK_THROWS_WITH_AS(f(x), doctest::Contains("element 2 was 6 and is 18 now"), Error);
  }
  SUBCASE("realized: the same value") {
    k.realize();
    CHECK(numbers(f(x)) == std::vector<double>{2, 4, 6});
  }
}

TEST_CASE("jit: numbers that tensors hold, lists of tensors, and what f reads") {
  const Tensor x = data({1, 2});
  SUBCASE("a number") {
    Tensor c(3.0);
    const auto f = jit([&](const Tensor& y) { return c * y; });
    CHECK(numbers(f(x)) == std::vector<double>{3, 6});
    c = Tensor(4.0);
    CHECK_THROWS_WITH_AS(f(x), doctest::Contains("element 0 was 3 and is 4 now"), Error);
  }
  SUBCASE("a number that is part of the program") {
    Tensor c(1.0);
    const auto f = jit([&](const Tensor& y) { return y + c; });
    CHECK(numbers(f(x)) == std::vector<double>{2, 3});
    c = Tensor(2.0);
    CHECK_THROWS_WITH_AS(f(x), doctest::Contains("does something else now"), Error);
  }
  SUBCASE("a list that grows moves its tensors") {
    std::vector<Tensor> list{data({1, 1}), data({2, 2})};
    const auto f = jit([&](const Tensor& y) { return y * list[0] + list[1]; });
    CHECK(numbers(f(x)) == std::vector<double>{3, 4});
    for (int i = 0; i < 10; ++i) list.push_back(x);
    CHECK(numbers(f(x)) == std::vector<double>{3, 4});
    CHECK(f.times_recorded() == 2);
    list.erase(list.begin());
    CHECK_THROWS_WITH_AS(f(x), doctest::Contains("captured value 0"), Error);
  }
  SUBCASE("a branch on a value") {
    Tensor flag(1.0), base = data({1, 2});
    const auto f =
        jit([&](const Tensor& y) { return (flag * base).sum().item<double>() > 0 ? sin(y) : cos(y); });
    CHECK(numbers(f(x)) == numbers(sin(x)));
    flag = Tensor(2.0);
    CHECK(numbers(f(x)) == numbers(sin(x)));
    base = data({-1, -2});
    CHECK_THROWS_WITH_AS(f(x), doctest::Contains("does something else now"), Error);
  }
  SUBCASE("numbers of C++ are taken as they were") {
    double c = 2;
    const auto f = jit([&](const Tensor& y) { return c * y; });
    CHECK(numbers(f(x)) == std::vector<double>{2, 4});
    c = 3;
    CHECK(numbers(f(x)) == std::vector<double>{2, 4});
  }
}

TEST_CASE("jit: in gradients, scans, other jits and vmap") {
  const Tensor k = data({2, 3}), x = data({0.5, 0.25});
  const auto energy = jit([&](const Tensor& q) { return (k * q * q * q).sum(); });
  CHECK(numbers(grad(energy)(x)) == std::vector<double>{1.5, 0.5625});
  CHECK(numbers(gradient(energy(x), {x})[0]) == std::vector<double>{1.5, 0.5625});
  const auto step = [&](const Tensor& q) { return q - 0.01 * grad(energy)(q); };
  CHECK(numbers(scan(step, x, 5)) == numbers(scan(jit(step), x, 5)));
  CHECK(numbers(vmap(energy)(Tensor::from({{1.0, 0.0}, {0.0, 2.0}}))) == std::vector<double>{2, 24});
  CHECK(energy.times_recorded() == 1);
  // A scan and an evolution within one.
  const System system(
      [&](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() + (k * q * q).sum(); });
  const auto both = jit([&](const Tensor& q) {
    const Tensor y = scan([&](Index i, const Tensor& z) { return z + 0.1 * i * sin(z); }, q, 4);
    return system.evolve({y, q}, {.dt = 0.1, .steps = 1000}).q;
  });
  const Tensor first = both(k);
  const auto written = [&](const Tensor& q) {
    const Tensor y = scan([&](Index i, const Tensor& z) { return z + 0.1 * i * sin(z); }, q, 4);
    return system.evolve({y, q}, {.dt = 0.1, .steps = 1000}).q;
  };
  CHECK(numbers(both(x)) == numbers(written(x)));
  CHECK(explain(both(x)).text.find("evolve   1,000 steps") != std::string::npos);
}

TEST_CASE("jit: recorded within a trace, it does not take another's symbol for its own") {
  const Tensor x = data({1, 2});
  std::optional<Jit<std::function<Tensor(const Tensor&)>>> inner;
  Tensor scale;
  const auto outer = [&](const Tensor& y) {
    scale = 2.0 * y;
    if (!inner)
      inner.emplace(jit(std::function<Tensor(const Tensor&)>([&](const Tensor& z) { return z * scale; })));
    return (*inner)(y).sum();
  };
  CHECK(numbers(grad(outer)(x)) == std::vector<double>{4, 8});
  CHECK_THROWS_WITH_AS(outer(x), doctest::Contains("being traced"), Error);
}

TEST_CASE("jit: what f throws leaves nothing recorded, and calls of itself for smaller arguments") {
  const Tensor x = data({1, 2, 3, 4});
  bool bad = true;
  const auto f = jit([&](const Tensor& y) {
    if (bad) throw std::runtime_error("not yet");
    return y + 1.0;
  });
  CHECK_THROWS_WITH(f(x), "not yet");
  bad = false;
  CHECK(numbers(f(x)) == std::vector<double>{2, 3, 4, 5});
  const auto reads = jit([](const Tensor& y) { return y.sum().item<double>() > 0 ? y : -y; });
  CHECK_THROWS_WITH_AS(reads(x), doctest::Contains("argument of a function that is being traced"), Error);
  CHECK_THROWS_WITH_AS(f(Tensor()), doctest::Contains("[jit]"), Error);

  std::function<Tensor(const Tensor&)> reversed;
  const auto halves = jit(std::function<Tensor(const Tensor&)>([&](const Tensor& y) {
    const std::int64_t n = y.dim(0);
    if (n == 1) return y;
    return cat({reversed(y.slice(0, n / 2, n)), reversed(y.slice(0, 0, n / 2))}, 0);
  }));
  reversed = [&](const Tensor& y) { return halves(y); };
  for (int i = 0; i < 2; ++i) CHECK(numbers(halves(x)) == std::vector<double>{4, 3, 2, 1});
  CHECK(halves.times_recorded() == 3);
}

TEST_CASE("jit: several threads, and a loop that stays flat") {
  const Tensor k = data({0.25, 0.5});
  const auto f = jit([&](const Tensor& q, const Tensor& p) {
    const Tensor next = p - 0.1 * (k * q * q * q);
    return std::tuple{q + 0.1 * next, next};
  });
  std::vector<std::thread> threads;
  std::vector<std::vector<double>> ends(3);
  for (std::size_t t = 0; t < ends.size(); ++t)
    threads.emplace_back([&, t] {
      Tensor q = data({1, 2}), p = data({0, 0});
      for (int i = 0; i < 3000; ++i) std::tie(q, p) = f(q, p);
      ends[t] = numbers(q);
    });
  for (std::thread& t : threads) t.join();
  CHECK(f.times_recorded() == 1);
  CHECK(ends[0] == ends[1]);
  CHECK(ends[0] == ends[2]);

  Tensor q = data({1, 2}), p = data({0, 0});
  for (int i = 0; i < 3000; ++i) {
    const Tensor next = p - 0.1 * (k * q * q * q);
    std::tie(q, p) = std::tuple{q + 0.1 * next, next};
  }
  CHECK(ends[0] == numbers(q));

  const std::int64_t before = live_nodes();
  for (int i = 0; i < 20000; ++i) std::tie(q, p) = f(q, p);
  CHECK(explain(q).text.find("folded") != std::string::npos);
  realize({q, p});
  CHECK(live_nodes() < before + 6000);
}
