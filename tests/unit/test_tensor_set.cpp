// Writing as a function, and assignments that would be lost.
#include <array>
#include <map>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "test_tensor_helpers.hpp"
#include "tinyphys/fmt.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/system.hpp"
#include "tinyphys/transforms.hpp"

namespace tinyphys::testing {
namespace {

template <class To, class From>
concept CanAdd = requires(To to, From from) {
  static_cast<To>(to) += from;
  static_cast<To>(to) -= from;
  static_cast<To>(to) *= from;
  static_cast<To>(to) /= from;
};

// x[0] = v, f(x) = y, x[1] += 5.0 do not compile.
static_assert(!std::is_assignable_v<Tensor&&, Tensor>);
static_assert(!std::is_assignable_v<Tensor&&, const Tensor&>);
static_assert(!std::is_assignable_v<decltype(std::declval<Tensor&>()[0]), Tensor>);
static_assert(!std::is_assignable_v<const Tensor&, Tensor>);
static_assert(!CanAdd<Tensor&&, double>);
static_assert(!CanAdd<Tensor&&, Tensor>);
// What names a tensor is assigned to as ever.
static_assert(std::is_assignable_v<Tensor&, Tensor> && std::is_nothrow_move_assignable_v<Tensor>);
static_assert(std::is_copy_assignable_v<Tensor> && std::is_swappable_v<Tensor>);
static_assert(CanAdd<Tensor&, double> && CanAdd<Tensor&, Tensor>);
static_assert(std::is_assignable_v<std::tuple<Tensor&, Tensor&>, std::tuple<Tensor, Tensor>>);
static_assert(std::is_assignable_v<std::tuple<Tensor&, Tensor&>, std::pair<Tensor, Tensor>>);

Tensor integers(const Shape& shape) {
  std::int64_t n = 1;
  for (std::int64_t d : shape) n *= d;
  return Tensor::arange(n).reshape(shape);
}

// x with value[k] at row index[k], one after the other.
Ints written_in_order(Ints x, const Ints& index, const Ints& value) {
  for (std::size_t k = 0; k < index.size(); ++k) {
    const auto n = static_cast<std::int64_t>(x.size());
    x[static_cast<std::size_t>(index[k] < 0 ? index[k] + n : index[k])] = value[k];
  }
  return x;
}

}  // namespace

TEST_CASE("set: assignment to what is named") {
  Tensor a = Tensor::from({1.0}), b = Tensor::from({2.0});
  std::swap(a, b);
  CHECK(doubles(a) == Doubles{2});
  std::tie(a, b) = std::tuple{b, a};
  CHECK(doubles(a) == Doubles{1});
  std::tie(a, b) = std::pair{b, a};
  CHECK(doubles(a) == Doubles{2});
  auto [c, d] = std::pair{a, b};
  c = d;
  c += 1.0;
  CHECK(doubles(c) == Doubles{2});
  std::vector<Tensor> list{a, b};
  list[0] = list[1];
  list.front() *= 10.0;
  list.insert(list.begin(), c);
  list.erase(list.begin());
  CHECK(doubles(list[0]) == Doubles{10});
  std::array<Tensor, 2> pair{a, b};
  pair[0] = pair[1] + 1.0;
  std::map<int, Tensor> by_name;
  by_name[3] = a;
  std::optional<Tensor> maybe;
  maybe = a;
  *maybe = b;
  State s{a, b};
  s.q = s.p;
  s = State{b, a};
  a = a + 1.0;
  CHECK(doubles(a) == Doubles{3});
  CHECK(doubles(pair[0]) == Doubles{2});
  CHECK(doubles(by_name.at(3)) == Doubles{2});
  CHECK(doubles(*maybe) == Doubles{1});
}

TEST_CASE("set: a position") {
  const Tensor x = integers({2, 3});
  CHECK(ints(set(x, 0, 9)) == Ints{9, 9, 9, 3, 4, 5});
  CHECK(ints(set(x, -1, Tensor::from({7, 8, 9}))) == Ints{0, 1, 2, 7, 8, 9});
  CHECK(ints(set(x, {1, -2}, 9)) == Ints{0, 1, 2, 3, 9, 5});
  CHECK(ints(set(x, {1}, 9)) == Ints{0, 1, 2, 9, 9, 9});
  CHECK(ints(set(x, Shape{0, 0}, 9)) == Ints{9, 1, 2, 3, 4, 5});
  CHECK(ints(set(x, {}, 9)) == Ints{9, 9, 9, 9, 9, 9});
  CHECK(ints(x) == Ints{0, 1, 2, 3, 4, 5});
  CHECK(set(Tensor::full({}, 1.0), {}, 2.0).item<double>() == 2);
  CHECK(ints(set(integers({1, 1}), {0, 0}, 5)) == Ints{5});
  CHECK(set(Tensor::zeros({2, 0}), 1, 5.0).shape() == Shape{2, 0});
  // Everything else keeps its bits.
  const double nan = std::nan("");
  const Doubles kept = doubles(set(Tensor::from({-0.0, nan, 1.0}), 2, nan));
  CHECK(std::signbit(kept[0]));
  CHECK((std::isnan(kept[1]) && std::isnan(kept[2])));
  CHECK(doubles(set(Tensor::from({nan, 1.0}), 0, 3.0)) == Doubles{3, 1});
}

TEST_CASE("set: a slice, against plain loops") {
  for (std::int64_t n : {0, 1, 2, 5, 7})
    for (std::int64_t start : {-9, -3, 0, 1, 4, 9})
      for (std::int64_t stop : {-9L, -1L, 0L, 3L, 6L, static_cast<long>(kEnd)})
        for (std::int64_t step : {-3, -2, -1, 1, 2, 3, 50}) {
          const Tensor x = integers({n});
          const Ints places = ints(x.slice(0, start, stop, step));
          const Tensor value = Tensor::arange(static_cast<std::int64_t>(places.size())) + 100;
          const Ints got = ints(x.slice_set(0, start, stop, value, step));
          REQUIRE(got == written_in_order(ints(x), places, ints(value)));
        }
  const Tensor x = integers({2, 4});
  CHECK(ints(x.slice_set(1, 1, 3, Tensor::from({{8}, {9}}))) == Ints{0, 8, 8, 3, 4, 9, 9, 7});
  CHECK(ints(x.slice_set(-1, 0, kEnd, Tensor::from({8, 9}), 2)) == Ints{8, 1, 9, 3, 8, 5, 9, 7});
  CHECK(ints(x.slice_set(0, 1, 2, 5)) == Ints{0, 1, 2, 3, 5, 5, 5, 5});
  CHECK(ints(x.slice_set(0, 0, kEnd, 5)) == Ints{5, 5, 5, 5, 5, 5, 5, 5});
}

TEST_CASE("set: an index tensor; of equal ones the last counts") {
  const Tensor x = integers({4});
  CHECK(ints(set(x, Tensor::from({1, 3}), Tensor::from({7, 8}))) == Ints{0, 7, 2, 8});
  CHECK(ints(set(x, Tensor::from({-1}), 9)) == Ints{0, 1, 2, 9});
  CHECK(ints(set(x, Tensor::full({}, 2), 9)) == Ints{0, 1, 9, 3});
  CHECK(ints(set(x, Tensor::from({2, 2, 2}), Tensor::from({7, 8, 9}))) == Ints{0, 1, 9, 3});
  CHECK(ints(set(x, Tensor::from({2, -2, 0}), Tensor::from({7, 8, 9}))) == Ints{9, 1, 8, 3});
  CHECK(ints(set(x, Tensor::from(std::vector<std::int32_t>{0, 1}), 5)) == Ints{5, 5, 2, 3});
  CHECK(uop(set(x, Tensor::from(std::vector<std::int64_t>{}), 5)) == uop(x));
  // A table of positions takes a table of rows.
  const Tensor rows = integers({3, 2});
  CHECK(ints(set(rows, Tensor::from({{0}, {2}}), Tensor::from({{{7, 8}}, {{9, 10}}}))) ==
        Ints{7, 8, 2, 3, 9, 10});
  CHECK(ints(set(rows, Tensor::from({{0, 2}, {2, 0}}), Tensor::from({7, 8}))) == Ints{7, 8, 2, 3, 7, 8});

  std::uint64_t seed = 1;
  auto random = [&](std::int64_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::int64_t>((seed >> 33) % static_cast<std::uint64_t>(n));
  };
  for (std::int64_t n : {1, 3, 17, 64})
    for (std::size_t count : {1, 2, 3, 16, 17, 100}) {
      Ints index(count), value(count);
      for (std::size_t k = 0; k < count; ++k) {
        index[k] = random(2 * n) - n;
        value[k] = 1000 + static_cast<std::int64_t>(k);
      }
      REQUIRE(ints(set(integers({n}), Tensor::from(index), Tensor::from(value))) ==
              written_in_order(ints(integers({n})), index, value));
    }
}

TEST_CASE("set: dtypes") {
  const Tensor narrow = Tensor::from(std::vector<float>{1, 2}), whole = Tensor::from({1, 2}),
               flags = Tensor::from({true, false});
  CHECK(set(narrow, 0, 0.5).dtype() == DType::kFloat32);
  CHECK(set(narrow, 0, Tensor::full({}, 0.1)).to_vector<float>()[0] == 0.1f);
  CHECK(doubles(set(Tensor::from({1.0, 2.0}), 0, Tensor::full({}, 7))) == Doubles{7, 2});
  CHECK(bools(set(flags, 1, true)) == Bools{true, true});
  CHECK(ints(set(whole, 0, true)) == Ints{1, 2});
  CHECK(message([&] { set(whole, 0, 0.5); }) == error_at("[set] the number 0.5 does not fit int64"));
  CHECK(message([&] { set(whole, 0, Tensor::full({}, 2.0)); }) ==
        error_at("[set] the value is float64, the tensor int64; use astype"));
  CHECK(message([&] { set(flags, 0, 1); }) ==
        error_at("[set] the value is int64, the tensor bool; use astype"));
}

TEST_CASE("set: errors") {
  const Tensor x = integers({2, 3});
  CHECK(message([&] { set(x, 2, 1); }) ==
        error_at("[set] index 2 is out of range for axis 0 of shape [2,3]"));
  CHECK(message([&] {
          set(x, {0, -4}, 1);
        }) == error_at("[set] index -4 is out of range for axis 1 of shape [2,3]"));
  CHECK(message([&] { set(x, {0, 0, 0}, 1); }) == error_at("[set] 3 positions for shape [2,3]"));
  CHECK(message([&] {
          set(x, 0, Tensor::from({1, 2}));
        }) == error_at("[set] a value of shape [2] does not broadcast to [3]"));
  CHECK(message([&] {
          set(x, Tensor::from({0, 1}), Tensor::from({{{1}}}));
        }) == error_at("[set] a value of shape [1,1,1] does not broadcast to [2,3]"));
  CHECK(message([&] {
          x.slice_set(1, 0, 2, integers({2, 3}));
        }) == error_at("[slice_set] a value of shape [2,3] does not broadcast to [2,2]"));
  CHECK(message([&] { x.slice_set(2, 0, 1, 1); }) ==
        error_at("[slice_set] axis 2 is out of range for shape [2,3]"));
  CHECK(message([&] { x.slice_set(1, 0, 1, 1, 0); }) == error_at("[slice_set] step is 0"));
  CHECK(message([&] { set(x, Tensor::from({0.0}), 1); }) ==
        error_at("[set] the index is float64[1], needs integers"));
  CHECK(message([&] {
          set(x, Tensor::from({true, false}), 1);
        }) == error_at("[set] the index is bool[2]; for a mask write where(mask, value, x)"));
  CHECK(message([&] { set(Tensor::full({}, 1.0), Tensor::full({}, 0), 1.0); }) ==
        error_at("[set] a 0-d tensor has no axis to index"));
  CHECK(message([&] { set(Tensor(), 0, 1.0); }) ==
        error_at("[set] the tensor is empty: it was default constructed or moved from"));
}

TEST_CASE("set: out of range when the value is computed") {
  const Tensor x = integers({3});
  for (const Ints& index : {Ints{3}, Ints{0, -4}, Ints{0, 1, 3}})
    CHECK_THROWS_AS(ints(set(x, Tensor::from(index), 1)), Error);
}

TEST_CASE("set: derivatives go to the value and to what was kept") {
  const Tensor x = Tensor::from({1.0, 2.0, 3.0, 4.0}), w = Tensor::from({10.0, 20.0, 30.0, 40.0});
  auto check = [&](auto write, const Tensor& value, const Doubles& to_x, const Doubles& to_value) {
    auto [dx, dv] = grad([&](const Tensor& a, const Tensor& v) { return (w * write(a, v)).sum(); })(x, value);
    CHECK(doubles(dx) == to_x);
    CHECK(doubles(dv) == to_value);
  };
  const Tensor one = Tensor::full({}, 5.0), two = Tensor::from({5.0, 6.0}),
               three = Tensor::from({5.0, 6.0, 7.0});
  check([](const Tensor& a, const Tensor& v) { return set(a, 2, v); }, one, {10, 20, 0, 40}, {30});
  check([](const Tensor& a, const Tensor& v) { return a.slice_set(0, 0, kEnd, v, 2); }, two, {0, 20, 0, 40},
        {10, 30});
  check([](const Tensor& a, const Tensor& v) { return a.slice_set(0, kEnd, 0, v, -2); }, two, {10, 0, 30, 0},
        {40, 20});
  check([](const Tensor& a, const Tensor& v) { return a.slice_set(0, 1, kEnd, v); }, one, {10, 0, 0, 0},
        {90});
  const Tensor index = Tensor::from({3, 0}), twice = Tensor::from({1, 2, 1});
  check([&](const Tensor& a, const Tensor& v) { return set(a, index, v); }, two, {0, 20, 30, 0}, {40, 10});
  check([&](const Tensor& a, const Tensor& v) { return set(a, twice, v); }, three, {10, 0, 0, 40},
        {0, 30, 20});
  // Through what is kept, an infinite slope elsewhere or not.
  const Tensor bad = Tensor::from({0.0, 4.0});
  const Tensor slope = grad([](const Tensor& a) { return set(sqrt(a), 0, 1.0).sum(); })(bad);
  CHECK(doubles(slope)[1] == 0.25);
  // Forward mode.
  auto [value, moved] = jvp([&](const Tensor& a, const Tensor& v) { return set(a, twice, v * v); },
                            {x, three}, {Tensor::ones({4}), Tensor::ones({3})});
  CHECK(doubles(value) == Doubles{1, 49, 36, 4});
  CHECK(doubles(moved) == Doubles{1, 14, 12, 1});
}

TEST_CASE("set: batches and loops") {
  const Tensor x = counting({2, 3}), v = Tensor::from({{7.0, 8.0}, {9.0, 10.0}});
  const Tensor index = Tensor::from({{0, 2}, {1, 1}});
  CHECK(doubles(vmap([&](const Tensor& row, const Tensor& i, const Tensor& value) {
          return set(row, i, value);
        })(x, index, v)) == Doubles{7, 1, 8, 3, 10, 5});
  CHECK(doubles(vmap([&](const Tensor& row) { return row.slice_set(0, 1, 3, row[0] - 1.0); })(x)) ==
        Doubles{0, -1, -1, 3, 2, 2});
  // Fibonacci numbers, one a step.
  const Tensor start = set(Tensor::zeros({10}), 1, 1.0);
  const Tensor fibonacci =
      scan([](Index i, const Tensor& f) { return set(f, i + 2, f[i] + f[i + 1]); }, start, 8);
  CHECK(doubles(fibonacci) == Doubles{0, 1, 1, 2, 3, 5, 8, 13, 21, 34});
}

}  // namespace tinyphys::testing
