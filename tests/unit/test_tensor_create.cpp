#include <limits>

#include "rewrite/rewrite.hpp"
#include "test_tensor_helpers.hpp"
#include "uop/graph.hpp"

namespace tinyphys::testing {

TEST_CASE("tensor: from lists and vectors") {
  CHECK(doubles(Tensor::from({1.0, 2.5})) == Doubles{1, 2.5});
  CHECK(Tensor::from({1.0, 2.5}).shape() == Shape{2});
  CHECK(Tensor::from({{1.0}, {2.0}}).shape() == Shape{2, 1});
  CHECK(Tensor::from({{1.0, 2.0}, {3.0, 4.0}}).shape() == Shape{2, 2});
  CHECK(Tensor::from({{{1, 2}, {3, 4}}, {{5, 6}, {7, 8}}, {{9, 10}, {11, 12}}}).shape() == Shape{3, 2, 2});
  CHECK(ints(Tensor::from({{{1, 2}, {3, 4}}})) == Ints{1, 2, 3, 4});
  CHECK(Tensor::from({1, 2}).dtype() == DType::kInt64);
  CHECK(Tensor::from(std::vector<int>{1, 2}).dtype() == DType::kInt32);
  CHECK(Tensor::from({1.0f}).dtype() == DType::kFloat32);
  CHECK(bools(Tensor::from({true, false})) == Bools{true, false});
  CHECK(Tensor::from(std::vector<bool>{true, false, true}).to_vector<bool>() == Bools{true, false, true});
  CHECK(Tensor::from({1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, {2, 3}).shape() == Shape{2, 3});
  CHECK(Tensor::from({5.0}, {}).item<double>() == 5.0);
  CHECK(Tensor::from({5.0}, {}).ndim() == 0);
  CHECK(Tensor::from(std::vector<double>{}, {0, 3}).shape() == Shape{0, 3});
  CHECK(Tensor::from(std::vector<float>{1, 2}).to_vector<float>() == std::vector<float>{1, 2});
}

TEST_CASE("tensor: constants") {
  CHECK(doubles(Tensor::zeros({2, 2})) == Doubles{0, 0, 0, 0});
  CHECK(ints(Tensor::ones({3}, DType::kInt64)) == Ints{1, 1, 1});
  CHECK(Tensor::zeros({}).item<double>() == 0);
  CHECK(Tensor::zeros({0}).to_vector<double>().empty());
  CHECK(Tensor::zeros({3, 0, 2}).size() == 0);
  CHECK(Tensor::full({2}, 3).dtype() == DType::kInt64);
  CHECK(Tensor::full({2}, 3.0).dtype() == DType::kFloat64);
  CHECK(Tensor::full({2}, true).dtype() == DType::kBool);
  CHECK(Tensor::full({2}, 3, DType::kFloat32).to_vector<float>() == std::vector<float>{3, 3});
  CHECK(doubles(Tensor::full({2}, Tensor::from({7.0}).sum())) == Doubles{7, 7});
  const Tensor like = Tensor::from({{1, 2}, {3, 4}});
  CHECK(ints(zeros_like(like)) == Ints{0, 0, 0, 0});
  CHECK(ints(ones_like(like)) == Ints{1, 1, 1, 1});
  CHECK(ints(full_like(like, 9)) == Ints{9, 9, 9, 9});
  CHECK(as_tensor(2).dtype() == DType::kInt64);
  CHECK(as_tensor(2.5f).item<double>() == 2.5);
}

TEST_CASE("tensor: arange, linspace, eye") {
  CHECK(ints(Tensor::arange(4)) == Ints{0, 1, 2, 3});
  CHECK(ints(Tensor::arange(2, 9, 3)) == Ints{2, 5, 8});
  CHECK(ints(Tensor::arange(5, 0, -2)) == Ints{5, 3, 1});
  CHECK(ints(Tensor::arange(3, 3)).empty());
  CHECK(ints(Tensor::arange(3, 0)).empty());
  CHECK(doubles(Tensor::arange(0.5, 2.0, 0.5)) == Doubles{0.5, 1.0, 1.5});
  CHECK(Tensor::arange(3, DType::kFloat32).to_vector<float>() == std::vector<float>{0, 1, 2});
  constexpr std::int64_t kLarge = std::int64_t{1} << 60;
  CHECK(ints(Tensor::arange(kLarge, kLarge + 3)) == Ints{kLarge, kLarge + 1, kLarge + 2});

  const Doubles x = doubles(Tensor::linspace(0.1, 0.7, 8));
  CHECK(x.front() == 0.1);
  CHECK(x.back() == 0.7);
  for (std::size_t i = 0; i + 1 < x.size(); ++i) CHECK(x[i] == doctest::Approx(0.1 + 0.6 * double(i) / 7));
  CHECK(doubles(Tensor::linspace(1, 2, 1)) == Doubles{1});
  CHECK(doubles(Tensor::linspace(1, 2, 0)).empty());
  CHECK(doubles(Tensor::linspace(2, -2, 3)) == Doubles{2, 0, -2});

  CHECK(doubles(Tensor::eye(2)) == Doubles{1, 0, 0, 1});
  CHECK(ints(Tensor::eye(2, 3, DType::kInt64)) == Ints{1, 0, 0, 0, 1, 0});
  CHECK(bools(Tensor::eye(2, 1, DType::kBool)) == Bools{true, false});
  CHECK(Tensor::eye(0).shape() == Shape{0, 0});
}

TEST_CASE("tensor: item, to_vector, clone, shape") {
  const Tensor x = counting({2, 3});
  CHECK(x.dim(-1) == 3);
  CHECK(x.ndim() == 2);
  CHECK(x.size() == 6);
  CHECK(x.select(0, 1).select(0, 2).item<double>() == 5);
  CHECK(Tensor::from({{4}}).item<std::int64_t>() == 4);
  CHECK(Tensor::from({{4}}).item<long long>() == 4);
  CHECK(Tensor::full({}, true).item<bool>());
  const Tensor y = (x * 2.0).clone();
  CHECK(uop(y)->op == Op::BUFFER);
  CHECK(doubles(y) == Doubles{0, 2, 4, 6, 8, 10});
  CHECK(x.realize().shape() == Shape{2, 3});
  const Tensor a = x + 1.0, b = x + 2.0;
  realize({a, b});
  CHECK(storage(uop(a).get()) != nullptr);
  CHECK(storage(uop(b).get()) != nullptr);
}

TEST_CASE("tensor: handles") {
  Tensor a = Tensor::from({1.0}), b = a;
  CHECK(uop(a) == uop(b));
  Tensor c = std::move(a);
  CHECK(!uop(a));
  CHECK(uop(c) == uop(b));
  a = c;
  a = *&a;
  CHECK(uop(a) == uop(c));
  const std::int64_t before = live_nodes();
  {
    Tensor x = a;
    for (int i = 0; i < 100; ++i) x = x * a + 0.5;
    CHECK(live_nodes() > before + 199);
  }
  CHECK(live_nodes() == before);
}

TEST_CASE("tensor: numbers become plain constants, broadcast once") {
  const Tensor x = Tensor::from({1.0, 2.0, 3.0}), s = Tensor::from({2.0}, {});
  const UOp product = uop(x * 0.25);
  CHECK(product->op == Op::MUL);
  CHECK(product->src(1)->op == Op::EXPAND);
  CHECK(product->src(1)->src(0)->op == Op::RESHAPE);
  CHECK(is_const(product->src(1)->src(0)->src(0), 0.25));
  CHECK(is_const(uop(s * 0.25)->src(1), 0.25));
  CHECK(toposort(uop(x + x)).size() == 2);
  CHECK(uop(x.reshape({3})) == uop(x));
  CHECK(simplify(uop(x.reshape({1, 3}).reshape({3, 1}).reshape({3}))) == uop(x));
  CHECK(uop(x.astype(DType::kFloat64)) == uop(x));
  CHECK(uop(x.expand({3})) == uop(x));
  CHECK(uop(x.slice(0, 0)) == uop(x));
  CHECK(uop(x.slice(0, -3, 100)) == uop(x));
  CHECK(uop(x.slice(0, 0, 3, 2)) == uop(x.slice(0, 0, 9, 2)));
  CHECK(uop(x.roll(3, 0)) == uop(x));
  CHECK(uop(x.permute({0})) == uop(x));
  CHECK(uop(x.pad({{0, 0}})) == uop(x));
  CHECK(uop(x > 1.0) == uop(1.0 < x));
  CHECK(uop(x >= s) == uop(s <= x));
  CHECK(simplify(uop(x.reshape({3, 1}).sum(1))) == uop(x));
}

TEST_CASE("tensor: nodes carry the user's line") {
  const Tensor x = Tensor::from({1.0, 2.0});
  const unsigned line = __LINE__ + 1;
  const Tensor y = x.reshape({2, 1}).norm(0) * 3.0;
  const std::string here = "test_tensor_create.cpp:" + std::to_string(line);
  for (const Node* n : toposort(uop(y)))
    if (n != uop(x).get() && (n->flags & Node::kHasBuffer))
      CHECK_MESSAGE(location_text(n) == here, std::string(name(n->op)));
}

}  // namespace tinyphys::testing
