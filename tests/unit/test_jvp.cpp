#include <doctest/doctest.h>

#include "derive/gradient.hpp"
#include "derive/jvp.hpp"
#include "tensor/access.hpp"
#include "test_gradient.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/transforms.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

Row values(const Tensor& t) { return Bench().run(uop(t)); }
std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing thrown";
}
bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Tensor energy(const Tensor& x) { return (sin(x) * x).sum() + (x * x * x).sum() / 3.0; }

}  // namespace

TEST_CASE("grad and value_and_grad") {
  const Tensor x = Tensor::from({0.5, -1.0, 2.0}), y = Tensor::from({1.0, 2.0, 3.0});
  const Row g = values(grad(energy)(x));
  const Row at{0.5, -1.0, 2.0};
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(g[i] == doctest::Approx(std::sin(at[i]) + at[i] * std::cos(at[i]) + at[i] * at[i]).epsilon(1e-14));

  const auto product = [](const Tensor& a, const Tensor& b) { return (a * a * b).sum(); };
  const auto [ga, gb] = grad(product)(x, y);
  CHECK(values(ga) == Row{1, -4, 12});
  CHECK(values(gb) == Row{0.25, 1, 4});
  const auto [v, both] = value_and_grad(product)(x, y);
  CHECK(values(v) == Row{0.25 + 2 + 12});
  CHECK(values(std::get<1>(both)) == Row{0.25, 1, 4});

  // Equal arguments stay distinct; constants may be arguments.
  const Tensor zero = Tensor::zeros({3});
  const auto [g1, g2] = grad([](Tensor a, Tensor b) { return (3.0 * a + b * b + 0.0).sum(); })(zero, zero);
  CHECK(values(g1) == Row{3, 3, 3});
  CHECK(values(g2) == Row{0, 0, 0});

  // Structures in, the same structure out.
  const std::vector<Tensor> list{x, y};
  const std::vector<Tensor> gl = grad([](const std::vector<Tensor>& p) { return (p[0] * p[1]).sum(); })(list);
  CHECK(values(gl[0]) == Row{1, 2, 3});
  CHECK(values(gl[1]) == Row{0.5, -1, 2});

  // Derivatives of derivatives: d^3/dx^3 of x^4.
  const auto f = [](const Tensor& t) { return t * t * t * t; };
  CHECK(values(grad(grad(grad(f)))(2.0)) == Row{48});
}

TEST_CASE("gradient of a graph") {
  const Tensor x = Tensor::from({1.0, 2.0}), w = Tensor::from({3.0, 4.0});
  const Tensor mid = x * w;
  const auto g = gradient((mid * mid).sum(), {x, w, mid});
  CHECK(values(g[0]) == Row{18, 64});
  CHECK(values(g[1]) == Row{6, 32});
  CHECK(values(g[2]) == Row{6, 16});
}

TEST_CASE("jvp and vjp are transposes of each other") {
  const Tensor x = Tensor::from({0.5, -1.0}), y = Tensor::from({1.0, 2.0});
  const Tensor v = Tensor::from({0.3, 0.1}), u = Tensor::from({-0.2, 0.7});
  const auto f = [](const Tensor& a, const Tensor& b) { return std::tuple{sin(a) * b, (a * b).sum()}; };
  const auto [out, d] = jvp(f, {x, y}, {v, u});
  const Tensor w0 = Tensor::from({0.9, -0.4}), w1 = Tensor::from({1.5}, Shape{});
  const auto [same, back] = vjp(f, {x, y}, {w0, w1});
  CHECK(values(std::get<0>(out)) == values(std::get<0>(same)));
  const double forward =
      inner(values(w0), values(std::get<0>(d))) + inner(values(w1), values(std::get<1>(d)));
  const double reverse = inner(values(v), values(back[0])) + inner(values(u), values(back[1]));
  CHECK(forward == doctest::Approx(reverse).epsilon(1e-14));
  // A list of any length.
  const std::vector<Tensor> at{x, y}, along{v, u};
  const auto [s, ds] = jvp([](const std::vector<Tensor>& p) { return p[0] * p[1]; }, at, along);
  CHECK(values(ds)[0] == doctest::Approx(0.3 * 1.0 + 0.5 * -0.2));
}

TEST_CASE("hessian") {
  const Tensor x = Tensor::from({0.5, -1.0, 2.0, 0.25}, {2, 2});
  const auto f = [](const Tensor& t) { return exp(matmul(t, t).sum() * 0.1) + (t * t * t).sum(); };
  const Tensor h = hessian(f)(x);
  CHECK(h.shape() == Shape{2, 2, 2, 2});
  const Row m = values(h);
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < i; ++j) CHECK(m[4 * i + j] == doctest::Approx(m[4 * j + i]).epsilon(1e-14));
  // Column j by central differences of the gradient.
  Row at = values(x);
  constexpr double step = 1e-5;
  for (std::size_t j = 0; j < 4; ++j) {
    Row up = at, down = at;
    up[j] += step;
    down[j] -= step;
    const Row gu = values(grad(f)(Tensor::from(up, {2, 2}))),
              gd = values(grad(f)(Tensor::from(down, {2, 2})));
    for (std::size_t i = 0; i < 4; ++i)
      CHECK(m[4 * i + j] == doctest::Approx((gu[i] - gd[i]) / (2 * step)).epsilon(1e-7).scale(1));
  }
  CHECK(values(hessian([](const Tensor& t) { return t.sum(); })(x)) == Row(16, 0.0));
  CHECK(values(hessian([](const Tensor& t) { return t * t * t; })(2.0)) == Row{12});
}

TEST_CASE("equal arguments: one value in a graph, arguments of their own in a function") {
  const Tensor a = Tensor::from({1.0, 2.0}), same = a, twice = a * 2.0, again = a * 2.0;
  const auto product = [](const Tensor& x, const Tensor& y) { return (x * x * y).sum(); };
  for (const Tensor& g : gradient((a * a).sum(), {a, same})) CHECK(values(g) == Row{2, 4});
  const std::vector<Tensor> g = gradient(product(twice, again), {twice, a, again});
  CHECK(values(g[0]) == Row{12, 48});
  CHECK(values(g[1]) == Row{24, 96});
  CHECK(values(g[2]) == Row{12, 48});

  const auto [gx, gy] = grad(product)(a, a);
  CHECK(values(gx) == Row{2, 8});
  CHECK(values(gy) == Row{1, 4});
  const auto pulled = vjp([](const Tensor& x, const Tensor& y) { return x * x * y; }, {a, a}, {a}).second;
  CHECK(values(pulled[0]) == Row{2, 16});
  CHECK(values(pulled[1]) == Row{1, 8});
  const auto moved = jvp([](const Tensor& x, const Tensor& y) { return x * x * y; }, {a, a}, {a, a}).second;
  CHECK(values(moved) == Row{3, 24});
}

TEST_CASE("jvp: a tangent changes its dtype with the value") {
  const Tensor x = Tensor::from({1.5F, -2.0F});
  const auto f = [](const Tensor& t) { return t.astype(DType::kFloat64) * Tensor::from({2.0, 4.0}); };
  const auto [value, moved] = jvp(f, {x}, {Tensor::from({1.0F, 0.5F})});
  CHECK(moved.dtype() == DType::kFloat64);
  CHECK(values(moved) == Row{2, 2});
  CHECK(grad([&](const Tensor& t) { return f(t).sum(); })(x).dtype() == DType::kFloat32);
}

TEST_CASE("mistakes name the call, the values and the line") {
  const Tensor x = Tensor::from({1.0, 2.0}), i = Tensor::from({1, 2});
  const auto vector = [](const Tensor& t) { return t * 2.0; };
  const auto loss = [](const Tensor& t) { return t.sum(); };
  CHECK(contains(message_of([&] { grad(vector)(x); }),
                 "[grad] what f returns must be a scalar, got float64[2] (test_jvp.cpp:"));
  CHECK(contains(message_of([&] { hessian(vector)(x); }), "[hessian]"));
  CHECK(contains(message_of([&] { grad(loss)(i); }), "argument 0 is int64[2]"));
  CHECK(contains(message_of([&] { grad([](const Tensor& t) { return (t > 0.0).all(); })(x); }),
                 "float dtype, got bool"));
  CHECK(contains(message_of([&] { gradient(x * 2.0, {x}); }),
                 "[gradient] the loss must be a scalar, got float64[2]"));
  CHECK(contains(message_of([&] { gradient(i.sum().astype(DType::kFloat64), {i}); }),
                 "argument 0 is int64[2]"));
  CHECK(contains(message_of([&] { gradient(x.sum(), {Tensor::zeros({3})}); }), "is a constant"));
  CHECK(contains(message_of([&] { jvp(vector, {x}, {Tensor::from({1.0})}); }),
                 "tangent 0 is float64[1], but its argument is float64[2]"));
  CHECK(contains(message_of([&] { vjp(vector, {x}, {x, x}); }), "2 cotangents for 1 outputs"));
  CHECK(contains(message_of([&] { gradient(Tensor(), {x}); }), "[gradient]"));
}
