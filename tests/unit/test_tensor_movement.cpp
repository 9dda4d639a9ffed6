#include <functional>

#include "test_tensor_helpers.hpp"

namespace tinyphys::testing {
namespace {

// out[index] = in[place(index)] for every index of `out`, by plain loops.
Doubles picked(const Tensor& in, const Shape& out, const std::function<Shape(const Shape&)>& place) {
  const Doubles values = doubles(in);
  const Shape shape = in.shape();
  Doubles result;
  Shape index(out.size(), 0);
  std::int64_t n = 1;
  for (std::int64_t d : out) n *= d;
  for (std::int64_t k = 0; k < n; ++k) {
    std::int64_t rest = k;
    for (std::size_t i = out.size(); i-- > 0; rest /= out[i]) index[i] = rest % out[i];
    const Shape at = place(index);
    std::int64_t flat = 0;
    for (std::size_t i = 0; i < shape.size(); ++i) flat = flat * shape[i] + at[i];
    result.push_back(values[static_cast<std::size_t>(flat)]);
  }
  return result;
}

}  // namespace

TEST_CASE("tensor: reshape") {
  const Tensor x = counting({2, 3, 4});
  CHECK(x.reshape({6, -1}).shape() == Shape{6, 4});
  CHECK(x.reshape({-1}).shape() == Shape{24});
  CHECK(doubles(x.reshape({4, 6})) == doubles(x));
  CHECK(x.flatten().shape() == Shape{24});
  CHECK(Tensor::from({1.0}).reshape({}).shape() == Shape{});
  CHECK(Tensor::full({}, 1.0).reshape({1, -1}).shape() == Shape{1, 1});
  CHECK(Tensor::zeros({0, 3}).reshape({3, 0}).shape() == Shape{3, 0});
  CHECK(Tensor::zeros({0, 3}).reshape({-1, 3}).shape() == Shape{0, 3});
}

TEST_CASE("tensor: permute and transpose") {
  const Tensor x = counting({2, 3, 4});
  const Tensor y = x.permute({2, 0, -2});
  CHECK(y.shape() == Shape{4, 2, 3});
  CHECK(doubles(y) == picked(x, {4, 2, 3}, [](const Shape& i) { return Shape{i[1], i[2], i[0]}; }));
  CHECK(x.transpose().shape() == Shape{4, 3, 2});
  CHECK(doubles(x.transpose()) == picked(x, {4, 3, 2}, [](const Shape& i) {
          return Shape{i[2], i[1], i[0]};
        }));
  CHECK(x.transpose(0, -1).shape() == Shape{4, 3, 2});
  CHECK(uop(x.transpose(1, 1)) == uop(x));
  CHECK(Tensor::full({}, 1.0).transpose().ndim() == 0);
}

TEST_CASE("tensor: expand") {
  const Tensor x = Tensor::from({{1.0}, {2.0}});
  CHECK(doubles(x.expand({2, 3})) == Doubles{1, 1, 1, 2, 2, 2});
  CHECK(doubles(x.expand({2, 2, 1})) == Doubles{1, 2, 1, 2});
  CHECK(doubles(Tensor::full({}, 5.0).expand({2})) == Doubles{5, 5});
  CHECK(x.expand({2, 0}).size() == 0);
}

TEST_CASE("tensor: flip and roll") {
  const Tensor x = counting({2, 3});
  CHECK(doubles(x.flip(1)) == Doubles{2, 1, 0, 5, 4, 3});
  CHECK(doubles(x.flip({0, 1})) == Doubles{5, 4, 3, 2, 1, 0});
  CHECK(doubles(x.flip()) == Doubles{5, 4, 3, 2, 1, 0});
  CHECK(doubles(x.roll(1, 1)) == Doubles{2, 0, 1, 5, 3, 4});
  CHECK(doubles(x.roll(-1, -1)) == Doubles{1, 2, 0, 4, 5, 3});
  CHECK(doubles(x.roll(7, 0)) == Doubles{3, 4, 5, 0, 1, 2});
  CHECK(Tensor::zeros({0}).roll(3, 0).size() == 0);
  CHECK(Tensor::zeros({0}).flip().size() == 0);
}

TEST_CASE("tensor: slice follows Python") {
  // Reference: PySlice_AdjustIndices.
  auto python = [](std::int64_t n, std::int64_t start, std::int64_t stop, std::int64_t step) {
    if (start < 0) start = std::max<std::int64_t>(start + n, step < 0 ? -1 : 0);
    if (start >= n) start = step < 0 ? n - 1 : n;
    if (stop < 0) stop = std::max<std::int64_t>(stop + n, step < 0 ? -1 : 0);
    if (stop >= n) stop = step < 0 ? n - 1 : n;
    Doubles out;
    for (std::int64_t i = start; step > 0 ? i < stop : i > stop; i += step) out.push_back(double(i));
    return out;
  };
  for (std::int64_t n : {0, 1, 2, 5})
    for (std::int64_t start = -7; start <= 7; ++start)
      for (std::int64_t stop = -7; stop <= 7; ++stop)
        for (std::int64_t step : {-6, -2, -1, 1, 2, 3, 6}) {
          const Tensor y = counting({n}).slice(0, start, stop, step);
          if (doubles(y) != python(n, start, stop, step)) {
            CAPTURE(n);
            CAPTURE(start);
            CAPTURE(stop);
            CAPTURE(step);
            FAIL("slice differs from Python's");
          }
        }
  const Tensor x = counting({3, 4});
  CHECK(doubles(x.slice(1, 1, 3)) == Doubles{1, 2, 5, 6, 9, 10});
  CHECK(doubles(x.slice(0, 2)) == Doubles{8, 9, 10, 11});
  CHECK(doubles(x.slice(0, kEnd, kEnd, -2)) == Doubles{8, 9, 10, 11, 0, 1, 2, 3});
  CHECK(doubles(x.slice(-1, 0, kEnd, std::numeric_limits<std::int64_t>::max())) == Doubles{0, 4, 8});
  CHECK(doubles(x.slice(-1, -1, std::numeric_limits<std::int64_t>::min(), -3)) == Doubles{3, 0, 7, 4, 11, 8});
  CHECK(x.slice(0, 2, 1).shape() == Shape{0, 4});
}

TEST_CASE("tensor: select and []") {
  const Tensor x = counting({3, 4});
  CHECK(doubles(x[1]) == Doubles{4, 5, 6, 7});
  CHECK(doubles(x[-1]) == Doubles{8, 9, 10, 11});
  CHECK(x[2][3].item<double>() == 11);
  CHECK(doubles(x.select(1, -4)) == Doubles{0, 4, 8});
  CHECK(doubles(x[Tensor::from({2, 0})]) == Doubles{8, 9, 10, 11, 0, 1, 2, 3});
}

TEST_CASE("tensor: pad") {
  const Tensor x = Tensor::from({{1.0, 2.0}});
  CHECK(x.pad({{1, 0}, {0, 2}}).shape() == Shape{2, 4});
  CHECK(doubles(x.pad({{1, 0}, {0, 2}})) == Doubles{0, 0, 0, 0, 1, 2, 0, 0});
  CHECK(doubles(x.pad({{0, 0}, {1, 1}}, -1.5)) == Doubles{-1.5, 1, 2, -1.5});
  CHECK(ints(Tensor::from({1}).pad({{0, 1}}, 7)) == Ints{1, 7});
  CHECK(bools(Tensor::from({false}).pad({{1, 0}}, true)) == Bools{true, false});
  CHECK(Tensor::from({1.0f}).pad({{0, 1}}, 0.1).to_vector<float>() == std::vector<float>{1, 0.1f});
  CHECK(doubles(Tensor::zeros({0}).pad({{2, 1}}, 4)) == Doubles{4, 4, 4});
}

TEST_CASE("tensor: cat, stack, split") {
  const Tensor a = Tensor::from({{1.0, 2.0}}), b = Tensor::from({{3.0, 4.0}, {5.0, 6.0}});
  CHECK(doubles(cat({a, b})) == Doubles{1, 2, 3, 4, 5, 6});
  CHECK(doubles(cat({b, b}, -1)) == Doubles{3, 4, 3, 4, 5, 6, 5, 6});
  CHECK(cat({a, Tensor::zeros({0, 2})}).shape() == Shape{1, 2});
  CHECK(cat({Tensor::from({1}), Tensor::from({1.5})}).dtype() == DType::kFloat64);
  const Tensor x = Tensor::from({1.0, 2.0}), y = Tensor::from({3.0, 4.0});
  CHECK(doubles(stack({x, y})) == Doubles{1, 2, 3, 4});
  CHECK(doubles(stack({x, y}, -1)) == Doubles{1, 3, 2, 4});
  CHECK(stack({Tensor::full({}, 1.0), Tensor::full({}, 2.0)}).shape() == Shape{2});
  const auto halves = counting({2, 4}).split(2, 1);
  CHECK(halves.size() == 2);
  CHECK(doubles(halves[1]) == Doubles{2, 3, 6, 7});
  const auto parts = counting({6}).split_sizes({1, 0, 5});
  CHECK(parts[0].shape() == Shape{1});
  CHECK(parts[1].shape() == Shape{0});
  CHECK(doubles(parts[2]) == Doubles{1, 2, 3, 4, 5});
}

TEST_CASE("tensor: squeeze and unsqueeze") {
  const Tensor x = Tensor::zeros({1, 3, 1});
  CHECK(x.squeeze().shape() == Shape{3});
  CHECK(x.squeeze(0).shape() == Shape{3, 1});
  CHECK(x.squeeze({0, -1}).shape() == Shape{3});
  CHECK(Tensor::zeros({2}).unsqueeze(0).shape() == Shape{1, 2});
  CHECK(Tensor::zeros({2}).unsqueeze(-1).shape() == Shape{2, 1});
  CHECK(Tensor::full({}, 1.0).unsqueeze(0).shape() == Shape{1});
}

}  // namespace tinyphys::testing
