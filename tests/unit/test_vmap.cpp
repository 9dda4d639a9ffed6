#include <doctest/doctest.h>

#include "derive/vmap.hpp"
#include "tensor/access.hpp"
#include "test_gradient.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/transforms.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

Row values(const Tensor& t) { return Bench().run(uop(t)); }

using Function = std::function<Tensor(const Tensor&, const Tensor&)>;

// vmap(f) against one call a row, to the last bit; each argument batched, or captured whole.
void check_against_loop(const std::string& name, const Function& f, const Tensor& x, const Tensor& y) {
  CAPTURE(name);
  const std::int64_t n = x.dim(0);
  auto rows = [&](const std::function<Tensor(std::int64_t)>& one) {
    Row all;
    for (std::int64_t i = 0; i < n; ++i) {
      const Row r = values(one(i));
      all.insert(all.end(), r.begin(), r.end());
    }
    return all;
  };
  CHECK(values(vmap(f)(x, y)) == rows([&](std::int64_t i) { return f(x.select(0, i), y.select(0, i)); }));
  const Tensor y0 = y.select(0, 1), x0 = x.select(0, 2);
  CHECK(values(vmap([&](const Tensor& a) { return f(a, y0); })(x)) ==
        rows([&](std::int64_t i) { return f(x.select(0, i), y0); }));
  CHECK(values(vmap([&](const Tensor& b) { return f(x0, b); })(y)) ==
        rows([&](std::int64_t i) { return f(x0, y.select(0, i)); }));
}

Tensor numbers(std::uint64_t seed, const Shape& shape) {
  std::mt19937_64 rng(seed);
  std::int64_t n = 1;
  for (std::int64_t d : shape) n *= d;
  return Tensor::from(random_row(rng, static_cast<std::size_t>(n), 0.2, 1.5), shape);
}

}  // namespace

TEST_CASE("vmap equals a loop") {
  const Tensor x = numbers(1, {4, 2, 3}), y = numbers(2, {4, 2, 3});
  auto check = [&](const std::string& name, const Function& f) { check_against_loop(name, f, x, y); };
  check("elementwise", [](const Tensor& a, const Tensor& b) { return sin(a) * b + 2.0; });
  check("where", [](const Tensor& a, const Tensor& b) { return where(a < b, a, b * 3.0); });
  check("reshape, permute", [](const Tensor& a, const Tensor& b) {
    return a.reshape({3, 2}).permute({1, 0}) + b;
  });
  check("broadcast", [](const Tensor& a, const Tensor& b) { return a.slice(0, 0, 1) + b.sum(1, true); });
  check("slice",
        [](const Tensor& a, const Tensor& b) { return a.slice(1, 2, kEnd, -2) * b.slice(1, 0, 3, 2); });
  check("pad", [](const Tensor& a, const Tensor& b) { return a.pad({{1, 0}, {0, 2}}, 3.0) * b.sum(); });
  check("roll, flip", [](const Tensor& a, const Tensor& b) { return a.roll(1, 1) + b.flip(0); });
  check("cat", [](const Tensor& a, const Tensor& b) { return cat({a, b, a}, 1); });
  check("reduce",
        [](const Tensor& a, const Tensor& b) { return a.max(1) + b.prod(1) - a.min() * b.sum(0).sum(); });
  check("cumsum", [](const Tensor& a, const Tensor& b) { return a.cumsum(1) * b.cumsum(0); });
  check("matmul", [](const Tensor& a, const Tensor& b) { return matmul(a, b.transpose()); });
  check("batched matmul", [](const Tensor& a, const Tensor& b) {
    return matmul(stack({a, a * 2.0}), stack({b, b + 1.0}).permute({0, 2, 1}));
  });
  check("gather", [](const Tensor& a, const Tensor& b) {
    const Tensor index = (b.select(0, 0) * 2.0).astype(DType::kInt64) - 1;  // -1 .. 1
    return gather(a, index, 1) + gather(a, index, 0).sum();
  });
  check("scatter", [](const Tensor& a, const Tensor& b) {
    const Tensor index = (b.select(0, 0) * 2.0).astype(DType::kInt64) - 1;
    return scatter_add(a, index, b * 2.0, 1);
  });
  check("scan", [](const Tensor& a, const Tensor& b) {
    const auto [s, t] = scan(
        [&](Index i, const Tensor& u, const Tensor& w) {
          return std::tuple{u + w * 0.1 * i, w * b};
        },
        std::tuple{a, Tensor::ones({2, 3})}, 3);
    return s + t;
  });
  check("scan with xs and outs", [](const Tensor& a, const Tensor& b) {
    const auto [s, out] = scan(
        [](const Tensor& u, const Tensor& r) {
          return std::pair{u * r, u + r};
        },
        a.select(0, 0), 2, {.xs = b});
    return s.sum() + out;
  });
  check("gradients", [](const Tensor& a, const Tensor& b) {
    return grad([&](const Tensor& t) { return (sin(t) * matmul(t, b.transpose()).sum()).sum(); })(a);
  });
  check("gradient of a scan", [](const Tensor& a, const Tensor& b) {
    return grad([&](const Tensor& t) {
      return scan([&](const Tensor& u) { return sin(u) * b + t * 0.1; }, t, 3).sum();
    })(a);
  });
}

TEST_CASE("vmap of structures, and what does not depend on the batch") {
  const Tensor x = numbers(3, {3, 2});
  const auto [a, b] = vmap([](const Tensor& r) { return std::pair{r.sum(), Tensor::full({2}, 7.0)}; })(x);
  CHECK(a.shape() == Shape{3});
  CHECK(b.shape() == Shape{3, 2});
  CHECK(values(b) == Row(6, 7.0));
  // A matrix that is captured stays one matrix: one product, no batch.
  const Tensor m = numbers(4, {2, 2});
  const Tensor y = vmap([&](const Tensor& r) { return matmul(m, r); })(x);
  for (Node* n : toposort(uop(y)))
    if (n->op == Op::MATMUL) CHECK(n->shape().size() == 2);
  // Nested.
  const Tensor outer =
      vmap([&](const Tensor& r) { return vmap([&](const Tensor& s) { return r * s; })(x.select(1, 0)); })(x);
  CHECK(outer.shape() == Shape{3, 3, 2});
}

TEST_CASE("vmap mistakes") {
  const auto sum = [](const Tensor& a, const Tensor& b) { return a + b; };
  CHECK_THROWS_WITH_AS(vmap(sum)(numbers(1, {3}), numbers(1, {4})), doctest::Contains("[3] and [4]"), Error);
  CHECK_THROWS_WITH_AS(vmap(sum)(1.0, numbers(1, {4})), doctest::Contains("argument 0 is a scalar"), Error);
}
