#include <cmath>
#include <limits>
#include <numeric>

#include "test_tensor_helpers.hpp"

namespace tinyphys::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("tensor: sums") {
  const Tensor x = counting({2, 3, 4});
  CHECK(x.sum().item<double>() == 276);
  CHECK(x.sum().shape() == Shape{});
  CHECK(x.sum({}, true).shape() == Shape{1, 1, 1});
  CHECK(doubles(x.sum(1)) == Doubles{12, 15, 18, 21, 48, 51, 54, 57});
  CHECK(doubles(x.sum({0, -1})) == Doubles{60, 92, 124});
  CHECK(x.sum({2, 0}, true).shape() == Shape{1, 3, 1});
  CHECK(doubles(x.sum(-1)) == Doubles{6, 22, 38, 54, 70, 86});
  CHECK(Tensor::full({}, 3.0).sum().item<double>() == 3);
  CHECK(Tensor::from({true, true, false}).sum().item<std::int64_t>() == 2);
  const Tensor big = Tensor::from(std::vector<int>{std::numeric_limits<int>::max(), 1});
  CHECK(big.sum().item<std::int64_t>() == std::int64_t{1} << 31);
  CHECK(Tensor::from({0.1f, 0.2f}).sum().dtype() == DType::kFloat32);
}

TEST_CASE("tensor: products, means, norms") {
  CHECK(doubles(Tensor::from({{1.0, 2.0}, {3.0, 4.0}}).prod(0)) == Doubles{3, 8});
  CHECK(Tensor::from({2, 3, 4}).prod().item<std::int64_t>() == 24);
  CHECK(Tensor::from({1, 2}).mean().item<double>() == 1.5);
  CHECK(doubles(counting({2, 2}).mean(1, true)) == Doubles{0.5, 2.5});
  CHECK(Tensor::from({true, false}).mean().item<double>() == 0.5);
  CHECK(Tensor::from({3.0, 4.0}).norm().item<double>() == 5);
  CHECK(Tensor::from({3, 4}).norm().item<double>() == 5);
  CHECK(doubles(Tensor::from({{3.0, 4.0}, {-5.0, 12.0}}).norm(1)) == Doubles{5, 13});
}

TEST_CASE("tensor: extrema") {
  const Tensor x = Tensor::from({{1.0, -3.0}, {2.0, 7.0}});
  CHECK(x.max().item<double>() == 7);
  CHECK(doubles(x.min(0)) == Doubles{1, -3});
  CHECK(doubles(x.max(1, true)) == Doubles{1, 7});
  for (const Doubles& values :
       {Doubles{kNan, 1, 2}, Doubles{1, kNan, 2}, Doubles{1, 2, kNan}, Doubles{kInf, kNan, -kInf}}) {
    CHECK(std::isnan(Tensor::from(values).max().item<double>()));
    CHECK(std::isnan(Tensor::from(values).min().item<double>()));
    CHECK(std::isnan(Tensor::from(values).sum().item<double>()));
  }
  CHECK(Tensor::from({-kInf, -1.0}).max().item<double>() == -1);
  CHECK(Tensor::from({-kInf, -kInf}).max().item<double>() == -kInf);
  CHECK(Tensor::from({kInf, -kInf}).min().item<double>() == -kInf);
  CHECK(Tensor::from({-5, -2}).max().item<std::int64_t>() == -2);
  CHECK(Tensor::from({false, true}).max().item<bool>());
  CHECK(!Tensor::from({false, true}).min().item<bool>());
}

TEST_CASE("tensor: any and all") {
  const Tensor x = Tensor::from({{true, false}, {true, true}});
  CHECK(x.any().item<bool>());
  CHECK(!x.all().item<bool>());
  CHECK(bools(x.all(1)) == Bools{false, true});
  CHECK(bools(x.any(0, true)) == Bools{true, true});
  CHECK(!Tensor::zeros({0}, DType::kBool).any().item<bool>());
  CHECK(Tensor::zeros({0}, DType::kBool).all().item<bool>());
}

TEST_CASE("tensor: reductions of nothing") {
  const Tensor none = Tensor::zeros({0, 3});
  CHECK(none.sum().item<double>() == 0);
  CHECK(doubles(none.sum(0)) == Doubles{0, 0, 0});
  CHECK(doubles(none.prod(0)) == Doubles{1, 1, 1});
  CHECK(none.prod({}, true).shape() == Shape{1, 1});
  CHECK(none.sum(1).shape() == Shape{0});
  CHECK(none.max(1).shape() == Shape{0});
  CHECK(std::isnan(none.mean().item<double>()));
  CHECK(none.norm().item<double>() == 0);
  CHECK(none.cumsum(0).shape() == Shape{0, 3});
}

TEST_CASE("tensor: cumsum") {
  CHECK(doubles(counting({2, 3}).cumsum(1)) == Doubles{0, 1, 3, 3, 7, 12});
  CHECK(doubles(counting({2, 3}).cumsum(-2)) == Doubles{0, 1, 2, 3, 5, 7});
  CHECK(ints(Tensor::from({true, true, false, true}).cumsum(0)) == Ints{1, 2, 2, 3});
  CHECK(same(doubles(Tensor::from({1.0, kInf, 1.0, -kInf, 0.0}).cumsum(0)), {1, kInf, kInf, kNan, kNan}));
}

TEST_CASE("tensor: sums, means and norms of many float32 keep six digits") {
  const std::int64_t n = 3'000'000;
  const Tensor x = Tensor::full({n}, 0.1, DType::kFloat32).clone();
  const double tenth = static_cast<double>(0.1f), count = static_cast<double>(n);
  CHECK(static_cast<double>(x.sum().item<float>()) == doctest::Approx(count * tenth).epsilon(1e-6));
  CHECK(static_cast<double>(x.mean().item<float>()) == doctest::Approx(tenth).epsilon(1e-6));
  CHECK(static_cast<double>(x.norm().item<float>()) ==
        doctest::Approx(tenth * std::sqrt(count)).epsilon(1e-6));
  CHECK(static_cast<double>(x.cumsum(0).select(0, n - 1).item<float>()) ==
        doctest::Approx(count * tenth).epsilon(1e-6));
  const std::vector<float> columns = x.reshape({n / 3, 3}).sum(0).to_vector<float>();
  CHECK(static_cast<double>(columns[2]) == doctest::Approx(count / 3 * tenth).epsilon(1e-6));
}

}  // namespace tinyphys::testing
