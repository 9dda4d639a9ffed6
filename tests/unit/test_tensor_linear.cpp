#include <limits>

#include "support/env.hpp"
#include "test_tensor_helpers.hpp"
#include "uop/evaluate.hpp"

namespace tinyphys::testing {
namespace {

// The product of row-major [m,k] and [k,n].
Doubles product(const Doubles& a, const Doubles& b, std::size_t m, std::size_t k, std::size_t n) {
  Doubles out(m * n, 0);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t l = 0; l < k; ++l) out[i * n + j] += a[i * k + l] * b[l * n + j];
  return out;
}

}  // namespace

TEST_CASE("tensor: matmul") {
  // Small whole numbers: sums are exact in any order.
  const Tensor a = counting({3, 4}), b = counting({4, 2}), v = counting({4});
  CHECK(doubles(matmul(a, b)) == product(doubles(a), doubles(b), 3, 4, 2));
  CHECK(matmul(a, b).shape() == Shape{3, 2});
  CHECK(doubles(matmul(a, v)) == product(doubles(a), doubles(v), 3, 4, 1));
  CHECK(matmul(a, v).shape() == Shape{3});
  CHECK(doubles(matmul(v, b)) == product(doubles(v), doubles(b), 1, 4, 2));
  CHECK(matmul(v, b).shape() == Shape{2});
  CHECK(matmul(v, v).item<double>() == 14);
  CHECK(matmul(v, v).shape() == Shape{});
  CHECK(doubles(dot(a, b)) == doubles(matmul(a, b)));
  CHECK(dot(v, v).item<double>() == 14);
  CHECK(doubles(dot(2.0, v)) == Doubles{0, 2, 4, 6});
  CHECK(ints(matmul(Tensor::from({{1, 2}, {3, 4}}), Tensor::from({{5}, {6}}))) == Ints{17, 39});
  CHECK(ints(matmul(Tensor::from({{1}, {3}}), Tensor::from({{5, 2}}))) == Ints{5, 2, 15, 6});
  CHECK(matmul(Tensor::from({{1, 2}}), Tensor::from({{0.5}, {1.0}})).item<double>() == 2.5);
}

TEST_CASE("tensor: matmul over batches") {
  struct Row {
    Shape a, b, out;
  };
  const Row rows[] = {{{5, 3, 4}, {4, 2}, {5, 3, 2}},    {{5, 3, 4}, {5, 4, 2}, {5, 3, 2}},
                      {{3, 4}, {5, 4, 2}, {5, 3, 2}},    {{5, 1, 3, 4}, {6, 4, 2}, {5, 6, 3, 2}},
                      {{4}, {5, 4, 2}, {5, 2}},          {{5, 3, 4}, {4}, {5, 3}},
                      {{1, 3, 4}, {2, 4, 2}, {2, 3, 2}}, {{2, 2, 3, 4}, {4, 2}, {2, 2, 3, 2}}};
  for (const Row& row : rows) {
    CAPTURE(shape_text(row.a));
    CAPTURE(shape_text(row.b));
    const Tensor a = counting(row.a), b = counting(row.b);
    // The definition: a sum over a broadcast product.
    const Tensor left = row.a.size() == 1 ? a.unsqueeze(0) : a,
                 right = row.b.size() == 1 ? b.unsqueeze(1) : b;
    const Tensor want = (left.unsqueeze(-1) * right.unsqueeze(-3)).sum(-2).reshape(row.out);
    CHECK(matmul(a, b).shape() == row.out);
    CHECK(doubles(matmul(a, b)) == doubles(want));
    CHECK(ints(matmul(a.astype(DType::kInt64), b.astype(DType::kInt64))) == ints(want.astype(DType::kInt64)));
  }
}

TEST_CASE("tensor: matmul of nothing") {
  CHECK(doubles(matmul(Tensor::zeros({2, 0}), Tensor::zeros({0, 2}))) == Doubles{0, 0, 0, 0});
  CHECK(matmul(Tensor::zeros({0, 3}), Tensor::zeros({3, 2})).shape() == Shape{0, 2});
  CHECK(matmul(Tensor::zeros({0}), Tensor::zeros({0})).item<double>() == 0);
  CHECK(matmul(Tensor::zeros({0, 2, 3}), Tensor::zeros({3})).shape() == Shape{0, 2});
}

TEST_CASE("tensor: gather") {
  const Tensor x = counting({3, 4});
  CHECK(doubles(gather(x, Tensor::from({2, 0, -1}))) == Doubles{8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11});
  CHECK(doubles(gather(x, Tensor::from({3, 1}), 1)) == Doubles{3, 1, 7, 5, 11, 9});
  CHECK(gather(x, Tensor::from({{0, 1}, {2, 0}}), 1).shape() == Shape{3, 2, 2});
  CHECK(doubles(gather(x, 1)) == Doubles{4, 5, 6, 7});
  CHECK(doubles(gather(x, Tensor::from({{0, 1}}), -1)) == Doubles{0, 1, 4, 5, 8, 9});
  CHECK(gather(x, Tensor::zeros({0}, DType::kInt64)).shape() == Shape{0, 4});
  CHECK(ints(gather(Tensor::from({5, 6}), Tensor::from(std::vector<int>{1, 1, 0}))) == Ints{6, 6, 5});
}

TEST_CASE("tensor: scatter_add") {
  const Tensor base = Tensor::from({10.0, 20.0, 30.0});
  CHECK(doubles(scatter_add(base, Tensor::from({0, 2, 0, -1}), Tensor::from({1.0, 2.0, 3.0, 4.0}))) ==
        Doubles{14, 20, 36});
  CHECK(doubles(scatter_add(Tensor::zeros({2, 2}), Tensor::from({1, 1}), 1.5, 1)) == Doubles{0, 3, 0, 3});
  CHECK(doubles(scatter_add(base, 1, 5)) == Doubles{10, 25, 30});
  CHECK(ints(scatter_add(Tensor::from({1, 2}), Tensor::from({0, 0}), Tensor::from({1, 1}))) == Ints{3, 2});
  CHECK(doubles(scatter_add(base, Tensor::zeros({0}, DType::kInt64), Tensor::zeros({0}))) == doubles(base));
}

TEST_CASE("scatter_add of int32 wraps before the sum is used, on each device") {
  const auto half = std::numeric_limits<std::int32_t>::min();
  for (const char* name : {"interp", "cpu"}) {
    CAPTURE(name);
    const env::ScopedOverride device("TINYPHYS_DEVICE", name);
    const Tensor sum = scatter_add(Tensor::zeros({2}, DType::kInt32), Tensor::from({0, 0}),
                                   Tensor::from(std::vector<std::int32_t>{half, half}));
    CHECK(ints(sum.astype(DType::kInt64)) == Ints{0, 0});
    // The evaluator alone, without memory of 32 bits in between.
    CHECK(evaluate<double>(uop(sum)).integer == std::vector<std::int64_t>{0, 0});
  }
}

}  // namespace tinyphys::testing
