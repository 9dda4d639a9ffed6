// What a newcomer writes first: numbers where tensors go, auto parameters, pairs for tuples, 1e6 steps.
#include <array>
#include <sstream>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "test_tensor_helpers.hpp"
#include "tinyphys/tinyphys.hpp"

namespace tinyphys::testing {

TEST_CASE("first contact: a number is a 0-d tensor") {
  const Tensor a = 1.0, b = 2, c = true, d = 0.5f;
  CHECK(a.shape() == Shape{});
  CHECK(a.item<double>() == 1);
  CHECK(b.item<std::int64_t>() == 2);
  CHECK(c.item<bool>());
  CHECK(d.dtype() == DType::kFloat64);
  Tensor x;
  x = 3.0;
  x += 1;
  CHECK(x.item<double>() == 4);
  CHECK(doubles(cat({x.reshape({1}), Tensor::from({5.0})})) == Doubles{4, 5});
  CHECK(doubles(stack({1.0, x, 2.0})) == Doubles{1, 4, 2});
  const System free([](const Tensor&, const Tensor&) { return 0.0; });
  CHECK(free.energy({1.0, 2.0}).item<double>() == 0);
  CHECK(free.evolve({1.0, 2.0}, {.dt = 0.1, .steps = 3}).q.item<double>() == 1);
  auto [value, slope] = jvp([](const Tensor& y) { return y * y; }, {3.0}, {1.0});
  CHECK(slope.item<double>() == 6);
  static_assert(!std::is_convertible_v<std::initializer_list<double>, Tensor>);
  static_assert(!std::is_convertible_v<const char*, Tensor> &&
                !std::is_convertible_v<std::nullptr_t, Tensor>);
  CHECK(message([] { Tensor(std::uint64_t{1} << 63); }) ==
        error_at("[Arg] the number 9223372036854775808 does not fit int64"));
}

TEST_CASE("first contact: scan with numbers, pairs, tuples, arrays") {
  // Exact: small integers.
  auto [a, b] = scan([](Tensor x, Tensor y) { return std::tuple{y, x + y}; }, std::tuple{0.0, 1.0}, 10);
  CHECK(a.item<double>() == 55);
  auto [c, d] = scan([](Tensor x, Tensor y) { return std::tuple{y, x + y}; }, std::pair{0, 1}, 10);
  CHECK(d.item<std::int64_t>() == 89);
  auto [e, f] = scan(
      [](Tensor x, Tensor y) {
        return std::pair{y, x + y};
      },
      std::tuple{Tensor(0.0), Tensor(1.0)}, 10);
  CHECK(e.item<double>() == 55);
  const auto g = scan(
      [](const std::array<Tensor, 2>& z) {
        return std::tuple{z[1], z[0] + z[1]};
      },
      std::array<Tensor, 2>{0.0, 1.0}, 10);
  CHECK(g[0].item<double>() == 55);
  auto [h, outs] = scan(
      [](Tensor x, Tensor y) {
        return std::tuple{std::pair{y, x + y}, x};
      },
      std::tuple{0.0, 1.0}, 4);
  CHECK(std::get<0>(h).item<double>() == 3);
  CHECK(doubles(outs) == Doubles{0, 1, 1, 2});
  const auto nested = scan(
      [](const std::tuple<Tensor, Tensor>& z, Tensor n) {
        return std::tuple{std::pair{std::get<1>(z), n}, n + 1.0};
      },
      std::tuple{std::tuple{0.0, 0.0}, 1.0}, 3);
  CHECK(std::get<1>(std::get<0>(nested)).item<double>() == 3);
  CHECK(scan([](Tensor x) { return x + 1.0; }, 0.0, 1e3).item<double>() == 1000);
  CHECK(scan([](Tensor) { return 7.0; }, 0.0, 2).item<double>() == 7);
}

TEST_CASE("first contact: auto parameters are counted") {
  const Tensor row = Tensor::from({10.0, 20.0, 30.0});
  CHECK(scan([](auto x) { return x + 1.0; }, 0.0, 3).item<double>() == 3);
  // 2 (2 (2 * 0 + 0) + 1) + 2
  CHECK(scan([](auto i, auto x) { return 2.0 * x + i; }, 0.0, 3).item<double>() == 4);
  CHECK(scan([](Index i, auto x) { return 2.0 * x + i; }, 0.0, 3).item<double>() == 4);
  CHECK(scan([](auto i, const Tensor& x) { return 2.0 * x + i; }, 0.0, 3).item<double>() == 4);
  CHECK(scan([](auto x, auto a) { return 2.0 * x + a; }, 0.0, 3, {.xs = {row}}).item<double>() == 110);
  CHECK(scan([](auto i, auto x, auto a) { return 2.0 * x + a + i; }, 0.0, 3, {.xs = {row}}).item<double>() ==
        114);
  auto [x, out] = scan([](auto i, auto y) { return std::pair{y + i, i}; }, 0, 3);
  CHECK(x.template item<std::int64_t>() == 3);
  CHECK(ints(out) == Ints{0, 1, 2});
  auto [u, v] = scan([](auto i, auto p, auto q) { return std::tuple{q, p + i}; }, std::tuple{0, 0}, 4);
  CHECK(v.template item<std::int64_t>() == 4);
  CHECK(u.template item<std::int64_t>() == 2);
  const State s = scan([](auto z) { return State{z.q + z.p, z.p}; }, State{1.0, 2.0}, 3);
  CHECK(s.q.item<double>() == 7);

  const auto sum = [](auto y, auto z) { return y + z; };
  CHECK(message([&] {
          scan(sum, 0.0, 3, {.xs = {row, row}});
        }) == error_at("[scan] step takes 0 or 1 per-step inputs, .xs has 2"));
  CHECK(message([&] { scan([](Tensor i, Tensor y) { return y + i; }, 0.0, 3); }) ==
        error_at(
            "[scan] step takes 1 per-step inputs, .xs has 0; for the number of the step the first parameter "
            "is an Index"));
}

TEST_CASE("first contact: transforms of transforms and of lambdas with auto") {
  const auto cube = [](const Tensor& x) { return (x * x * x).sum(); };
  const Tensor x = Tensor::from({1.0, 2.0});
  CHECK(doubles(jvp(grad(cube), {x}, {x}).second) == Doubles{6, 24});
  CHECK(doubles(vjp(grad(cube), {x}, {x}).second[0]) == Doubles{6, 24});
  CHECK(doubles(vmap(grad(cube))(stack({x, x}))) == Doubles{3, 12, 3, 12});
  const auto square = [](auto y) { return y * y; };
  CHECK(doubles(jvp(square, {x}, {x}).second) == Doubles{2, 8});
  CHECK(doubles(vjp(square, {x}, {x}).second[0]) == Doubles{2, 8});
  CHECK(doubles(grad([](auto y) { return (y * y).sum(); })(x)) == Doubles{2, 4});
  const auto list = [](const std::vector<Tensor>& v) { return v[0] * v[1]; };
  CHECK(doubles(jvp(list, {x, x}, {x, x}).second) == Doubles{2, 8});
  CHECK(doubles(vjp(list, {x, x}, {x}).second[1]) == Doubles{1, 4});
}

TEST_CASE("first contact: the parameters of until") {
  const auto step = [](Tensor x, Tensor y) { return std::tuple{x + 1.0, y}; };
  const auto init = std::tuple{0.0, 3.0};
  auto [x, y] = scan(step, init, 10, {.until = [](Tensor a, Tensor b) { return a >= b; }});
  CHECK(x.item<double>() == 3);
  auto [u, v] =
      scan(step, init, 10, {.until = [](const std::vector<Tensor>& all) { return all[0] >= all[1]; }});
  CHECK(u.item<double>() == 3);
  CHECK(message([&] { scan(step, init, 10, {.until = [](Tensor a) { return a >= 2.0; }}); }) ==
        error_at(
            "[scan] .until takes 1 tensors, the carry has 2: it takes the carry as step does, without Index "
            "and xs"));
  CHECK(
      message([&] { scan(step, init, 10, {.until = [](Tensor, Tensor, Tensor a) { return a >= 2.0; }}); }) ==
      error_at(
          "[scan] .until takes 3 tensors, the carry has 2: it takes the carry as step does, without Index "
          "and xs"));
}

TEST_CASE("first contact: a number of steps") {
  const System pendulum([](const Tensor& q, const Tensor& p) { return 0.5 * (p * p).sum() - cos(q).sum(); });
  const State start{Tensor::from({1.0}), Tensor::from({0.0})};
  const State a = pendulum.evolve(start, {.dt = 1e-3, .steps = 1e3});
  const State b = pendulum.evolve(start, {.dt = 1e-3, .steps = 1000});
  CHECK(uop(a.q) == uop(b.q));
  CHECK(pendulum.evolve(start, {.dt = 1e-3, .steps = 2u}).q.shape() == Shape{1});
  static_assert(!std::is_convertible_v<bool, Count>);
  const auto steps = [&](auto n, Where where = Where::current()) {
    return message([&] { pendulum.evolve(start, {.dt = 1e-3, .steps = Count(n, where)}); });
  };
  CHECK(steps(2.5) == error_at("[steps] a number of steps must be whole and fit int64, got 2.5"));
  CHECK(steps(1e19) == error_at("[steps] a number of steps must be whole and fit int64, got 1e+19"));
  CHECK(steps(std::nan("")) == error_at("[steps] a number of steps must be whole and fit int64, got nan"));
  CHECK(steps(~std::uint64_t{0}) ==
        error_at("[steps] a number of steps must be whole and fit int64, got 18446744073709551616"));
  CHECK(message([&] { pendulum.evolve(start, {.dt = 1e-3, .steps = 0.5}); }) ==
        error_at("[steps] a number of steps must be whole and fit int64, got 0.5"));
  CHECK(message([&] { scan([](Tensor x) { return x; }, 0.0, 1.5); }) ==
        error_at("[steps] a number of steps must be whole and fit int64, got 1.5"));
  CHECK(message([&] { pendulum.evolve(start, {.dt = 1e-3, .steps = -1}); }) ==
        error_at("[evolve] steps is -1"));
}

}  // namespace tinyphys::testing
