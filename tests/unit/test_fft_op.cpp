// FFT, RFFT and IRFFT as ops, in the form in which a complex value is real with a trailing axis of 2.
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "../needs_passes.hpp"
#include "derive/batch.hpp"
#include "derive/vmap.hpp"
#include "engine/engine.hpp"
#include "linalg/fft.hpp"
#include "support/env.hpp"
#include "support/quad.hpp"
#include "tensor/access.hpp"
#include "tinyphys/tinyphys.hpp"
#include "uop/build.hpp"
#include "uop/evaluate.hpp"
#include "uop/graph.hpp"

using namespace tinyphys;

namespace {

using Numbers = std::vector<double>;

std::int64_t points(const Dims& shape) {
  std::int64_t n = 1;
  for (const std::int64_t d : shape) n *= d;
  return n;
}
Tensor bumpy(const Dims& shape, DType d = DType::kFloat64, double seed = 1.3) {
  Numbers v;
  for (std::int64_t i = 0; i < points(shape); ++i)
    v.push_back(std::sin(seed * static_cast<double>(i * i % 1009)) + 0.3 * std::cos(static_cast<double>(i)));
  const Tensor t = Tensor::from(v, {shape.begin(), shape.end()});
  return tensor(uop(t.astype(d)));
}
Dims with(Dims shape, std::int64_t last) {
  shape.push_back(last);
  return shape;
}
Numbers computed(const UOp& x) { return tensor(x).astype(DType::kFloat64).to_vector<double>(); }

std::vector<Quad> in_quad(const UOp& x) { return evaluate<Quad>(x).real; }
// Largest difference, of the largest value.
double error_of(const Numbers& x, const std::vector<Quad>& exact) {
  REQUIRE(x.size() == exact.size());
  double error = 0, most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    error = std::max(error, std::fabs(static_cast<double>(Quad(x[i]) - exact[i])));
    most = std::max(most, std::fabs(static_cast<double>(exact[i])));
  }
  return error / std::max(most, 1e-300);
}

// The defining sum along one axis of pairs, every number a quad.
std::vector<Quad> by_definition(const std::vector<Quad>& x, const Dims& shape, std::size_t axis,
                                double sign) {
  const Quad pi = acos(Quad(-1.0));
  std::int64_t inner = 1, outer = 1;
  for (std::size_t d = 0; d < shape.size(); ++d) (d < axis ? outer : inner) *= d == axis ? 1 : shape[d];
  const std::int64_t n = shape[axis];
  std::vector<Quad> out(x.size());
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t i = 0; i < inner; ++i)
      for (std::int64_t k = 0; k < n; ++k) {
        Quad re = 0.0, im = 0.0;
        for (std::int64_t j = 0; j < n; ++j) {
          const Quad angle =
              Quad(sign * 2.0) * pi * Quad(static_cast<double>(j * k % n)) / Quad(static_cast<double>(n));
          const auto from = static_cast<std::size_t>(2 * ((o * n + j) * inner + i));
          re = re + x[from] * cos(angle) - x[from + 1] * sin(angle);
          im = im + x[from] * sin(angle) + x[from + 1] * cos(angle);
        }
        const auto to = static_cast<std::size_t>(2 * ((o * n + k) * inner + i));
        out[to] = re;
        out[to + 1] = im;
      }
  return out;
}
std::vector<Quad> quads(const Numbers& x) { return {x.begin(), x.end()}; }

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_CASE("fft op: the evaluator is the defining sum, to the last bits of a quad") {
  for (const std::int64_t n : {1, 2, 3, 4, 5, 8, 12, 17, 30, 49})
    for (const std::int64_t sign : {kForwardFft, kInverseFft}) {
      CAPTURE(n);
      const Tensor x = bumpy({n, 2});
      const std::vector<Quad> got = in_quad(fft(uop(x), sign, Dims{0}));
      const std::vector<Quad> exact =
          by_definition(quads(x.to_vector<double>()), {n}, 0, static_cast<double>(sign));
      for (std::size_t i = 0; i < got.size(); ++i)
        CHECK(std::fabs(static_cast<double>(got[i] - exact[i])) < 1e-31 * static_cast<double>(n));
    }
}

TEST_CASE("fft op: any axes, lengths and batches, against quad precision" * doctest::skip(!fft_available())) {
  struct Case {
    Dims shape, axes;
  };
  const std::vector<Case> cases{{{1}, {0}},
                                {{97}, {0}},
                                {{1024}, {0}},
                                {{6, 5}, {0}},
                                {{6, 5}, {1}},
                                {{6, 5}, {0, 1}},
                                {{3, 4, 5}, {1}},
                                {{3, 4, 5}, {0, 2}},
                                {{3, 4, 5}, {0, 1}},
                                {{3, 4, 5}, {0, 1, 2}},
                                {{2, 35, 2}, {1}},
                                {{300, 7}, {1}},
                                {{7, 300}, {0}},
                                {{5, 33, 9}, {0, 1}},
                                {{0, 4}, {1}},
                                {{4, 1, 1}, {0, 1}},
                                {{2, 3, 2, 3}, {0, 1, 2, 3}}};
  for (const DType d : {DType::kFloat64, DType::kFloat32}) {
    const double unit = d == DType::kFloat64 ? 1e-15 : 6e-7;
    for (const Case& c : cases) {
      CAPTURE(shape_text(c.shape));
      CAPTURE(shape_text(c.axes));
      const Tensor z = bumpy(with(c.shape, 2), d), x = bumpy(c.shape, d);
      for (const std::int64_t sign : {kForwardFft, kInverseFft}) {
        const UOp y = fft(uop(z), sign, c.axes);
        CHECK(y->shape().size() == c.shape.size() + 1);
        CHECK(error_of(computed(y), in_quad(y)) < unit);
      }
      const UOp half = rfft(uop(x), c.axes);
      CHECK(error_of(computed(half), in_quad(half)) < unit);
      const std::int64_t n = c.shape[static_cast<std::size_t>(c.axes.back())];
      // Any numbers, and not those of a real array alone: what cannot be is not read.
      const UOp any = uop(bumpy(shape_of(half.get()), d)), back = irfft(any, n, c.axes);
      CHECK(error_of(computed(back), in_quad(back)) < unit);
      const UOp round = irfft(half, n, c.axes);
      double of_all = 1;
      for (const std::int64_t a : c.axes) of_all *= static_cast<double>(c.shape[static_cast<std::size_t>(a)]);
      const Numbers once = x.astype(DType::kFloat64).to_vector<double>(), again = computed(round);
      for (std::size_t i = 0; i < once.size(); ++i) CHECK(std::fabs(again[i] / of_all - once[i]) < 2 * unit);
    }
  }
}

TEST_CASE("fft op: half of the spectrum along an axis that is not the last one" *
          doctest::skip(!fft_available())) {
  const Dims shape{5, 6, 3};
  const Tensor x = bumpy(shape);
  for (const Dims& axes : {Dims{0}, Dims{1}, Dims{2, 0}, Dims{1, 2, 0}, Dims{0, 2, 1}}) {
    CAPTURE(shape_text(axes));
    const UOp half = rfft(uop(x), axes);
    CHECK(error_of(computed(half), in_quad(half)) < 1e-15);
    // The same numbers as those of the whole spectrum.
    const Tensor pairs = stack({x, Tensor::zeros({5, 6, 3})}, 3);
    const UOp whole = slice_axis(fft(uop(pairs), kForwardFft, axes), axes.back(), 0,
                                 half->shape()[static_cast<std::size_t>(axes.back())]);
    CHECK(error_of(computed(half), in_quad(whole)) < 1e-15);
    const UOp back = irfft(half, shape[static_cast<std::size_t>(axes.back())], axes);
    CHECK(error_of(computed(back), in_quad(back)) < 1e-15);
  }
}

TEST_CASE("fft op: the same bits for one and two threads" * doctest::skip(!fft_available())) {
  for (const DType d : {DType::kFloat64, DType::kFloat32})
    for (const Dims& shape : {Dims{64, 128}, Dims{40, 33, 17}, Dims{513, 31}}) {
      const Tensor z = bumpy(with(shape, 2), d), x = bumpy(shape, d);
      const Dims axes{0, 1};
      const auto run = [&](const char* threads) {
        const env::ScopedOverride scope("TINYPHYS_THREADS", threads);
        std::vector<Numbers> out;
        const UOp one = uop(z.clone()), real = uop(x.clone());
        out.push_back(computed(fft(one, kForwardFft, axes)));
        out.push_back(computed(fft(one, kInverseFft, axes)));
        out.push_back(computed(rfft(real, axes)));
        out.push_back(computed(irfft(rfft(real, axes), shape[1], axes)));
        return out;
      };
      CHECK(run("1") == run("2"));
    }
}

TEST_CASE("fft op: work before and after is fused on each side of it" *
          doctest::skip(!fft_available() || !env::optimize())) {
  const Tensor z = bumpy({64, 2}), k = bumpy({64, 1});
  const auto z0 = uop(exp(-1.0 * z * z) * 2.0 + 1.0);
  const Tensor y = tensor(fft(z0, kForwardFft, Dims{0}));
  const UOp out = uop(sin(y * k) + y * 0.5);
  const std::string plan = describe_plan(std::span<const UOp>(&out, 1));
  CAPTURE(plan);
  CHECK(count(plan, "kernel") == 2);
  CHECK(count(plan, "fft") == 1);
}

TEST_CASE("fft op: what is no transform is an error") {
  const UOp z = uop(bumpy({4, 3, 2}));
  CHECK_THROWS_AS(make(Op::FFT, {z}, {kForwardFft, 2}), Error);  // the pairs
  CHECK_THROWS_AS(make(Op::FFT, {z}, {kForwardFft}), Error);
  CHECK_THROWS_AS(make(Op::FFT, {z}, {kForwardFft, 1, 0}), Error);
  CHECK_THROWS_AS(make(Op::FFT, {z}, {kForwardFft, 0, 0}), Error);
  CHECK_THROWS_AS(make(Op::FFT, {z}, {0, 0}), Error);
  CHECK_THROWS_AS(make(Op::FFT, {uop(bumpy({4, 3}))}, {kForwardFft, 0}), Error);
  CHECK_THROWS_AS(make(Op::FFT, {uop(bumpy({0, 2}))}, {kForwardFft, 0}), Error);
  CHECK_THROWS_AS(make(Op::IRFFT, {z}, {9, 0}), Error);
  CHECK_NOTHROW(make(Op::IRFFT, {z}, {7, 0}));
  CHECK_NOTHROW(make(Op::IRFFT, {z}, {6, 1, 0}));
  CHECK_THROWS_AS(make(Op::IRFFT, {z}, {6, 0, 0}), Error);
  CHECK_THROWS_AS(make(Op::RFFT, {uop(Tensor::from({1, 2, 3}))}, {kForwardFft, 0}), Error);
}

TEST_CASE("fft op: vmap moves the axes, members along other axes are independent") {
  const Tensor x = bumpy({3, 4, 2});
  const UOp s = symbol(DType::kFloat64, Dims{4, 2});
  const UOp one = fft(s, kForwardFft, Dims{0});
  const std::vector<UOp> batched = vmap(std::span(&one, 1), std::span(&s, 1), std::vector<UOp>{uop(x)});
  CHECK(batched[0].get() == fft(uop(x), kForwardFft, Dims{1}).get());
  const auto proof = [](std::int64_t axis) {
    const UOp p = param(0, DType::kFloat64, Dims{3, 4, 2});
    const UOp body = make(Op::LAMBDA, {fft(p, kForwardFft, Dims{axis})}, {std::int64_t{1}});
    return prove_independent(body.get(), 1, 0, 1);
  };
  CHECK(proof(1).reason.empty());
  CHECK(proof(0).reason == "a transform along axis 0, that of the members");
}

namespace {

// psi -> F^-1 phase(k) F psi / n: a free packet's step.
struct FreeStep {
  std::int64_t n;
  Tensor c, s;  // cos and sin of the phases, [n]

  explicit FreeStep(std::int64_t points) : n(points) {
    Numbers angle;
    for (std::int64_t k = 0; k < n; ++k) {
      const auto wave = static_cast<double>(2 * k > n ? k - n : k);
      angle.push_back(-0.001 * wave * wave);
    }
    const Tensor a = Tensor::from(angle);
    c = cos(a).realize();
    s = sin(a).realize();
  }
  Tensor turned(const Tensor& z) const {
    const Tensor re = z.slice(1, 0, 1), im = z.slice(1, 1, 2), cc = c.reshape({n, 1}), ss = s.reshape({n, 1});
    return cat({re * cc - im * ss, re * ss + im * cc}, 1);
  }
  Tensor operator()(const Tensor& z) const {
    const Tensor k = tensor(fft(uop(z), kForwardFft, Dims{0}));
    return tensor(fft(uop(turned(k)), kInverseFft, Dims{0})) * (1.0 / static_cast<double>(n));
  }
  // n_steps of it at once.
  Numbers after(const Numbers& start, double n_steps) const {
    std::vector<Quad> k = by_definition(quads(start), {n}, 0, -1.0);
    for (std::int64_t j = 0; j < n; ++j) {
      const auto wave = static_cast<double>(2 * j > n ? j - n : j);
      const Quad a = Quad(-0.001 * wave * wave) * Quad(n_steps);
      const auto at = static_cast<std::size_t>(2 * j);
      const Quad re = k[at], im = k[at + 1];
      k[at] = re * cos(a) - im * sin(a);
      k[at + 1] = re * sin(a) + im * cos(a);
    }
    Numbers out;
    for (const Quad& v : by_definition(k, {n}, 0, 1.0))
      out.push_back(static_cast<double>(v) / static_cast<double>(n));
    return out;
  }
};

double distance(const Numbers& a, const Numbers& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::fabs(a[i] - b[i]));
  return most;
}

}  // namespace

TEST_CASE("fft op: a scan of transforms is a loop of the plan, on every device and without passes" *
          doctest::skip(!fft_available())) {
  const FreeStep step(256);
  const Tensor start = bumpy({256, 2});
  const Numbers exact = step.after(start.to_vector<double>(), 50);
  for (const char* optimize : {"1", "0"})
    for (const char* device : {"cpu", "interp", "island"}) {
      CAPTURE(optimize);
      CAPTURE(device);
      const env::ScopedOverride passes("TINYPHYS_OPT", optimize), on("TINYPHYS_DEVICE", device);
      const Tensor end = scan([&](const Tensor& z) { return step(z); }, start, 50);
      CHECK(distance(end.to_vector<double>(), exact) < 1e-13);
    }
  const auto f = jit([&](const Tensor& z) { return scan([&](const Tensor& y) { return step(y); }, z, 50); });
  for (int k = 0; k < 3; ++k) CHECK(distance(f(start).to_vector<double>(), exact) < 1e-13);
  const env::ScopedOverride null("TINYPHYS_DEVICE", "null");
  CHECK_THROWS_WITH_AS((void)step(start).to_vector<double>(), doctest::Contains("null"), Error);
}

TEST_CASE("fft op: a small linear step with transforms is proved linear and jumps" *
          doctest::skip(!fft_available() || !env::optimize())) {
  const FreeStep step(16);
  const Tensor start = bumpy({16, 2});
  const Tensor end = scan([&](const Tensor& z) { return step(z); }, start, 1'000'000);
  const std::string report = explain(end).text;
  CAPTURE(report);
  CHECK(report.find("affine") != std::string::npos);
  CHECK(distance(end.to_vector<double>(), step.after(start.to_vector<double>(), 1e6)) < 1e-9);
  CHECK(explain(end).text.find("jump") != std::string::npos);
  // A term of degree 3 is none.
  const Tensor nonlinear = scan([&](const Tensor& z) { return step(z + 1e-9 * z * z * z); }, start, 1000);
  CHECK(explain(nonlinear).text.find("affine") == std::string::npos);
}

TEST_CASE("fft op: gradients through a scan of transforms, and jvp beside vjp" *
          doctest::skip(!fft_available())) {
  const FreeStep step(32);
  const Tensor start = bumpy({32, 2}), v = bumpy({32, 2}, DType::kFloat64, 0.7),
               w = bumpy({32, 2}, DType::kFloat64, 2.1);
  const auto f = [&](const Tensor& z) {
    return scan([&](const Tensor& y) { return step(y + 0.01 * y * y); }, z, 7);
  };
  const Tensor slope = gradient((f(start) * w).sum(), {start})[0];
  const double h = 1e-3;
  const auto at = [&](double t) { return (f(start + t * v) * w).sum().item<double>(); };
  const double by_difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  const double by_gradient = (slope * v).sum().item<double>();
  CHECK(by_gradient == doctest::Approx(by_difference).epsilon(1e-9));
  const Tensor moved = jvp(f, {start}, {v}).second;
  CHECK((moved * w).sum().item<double>() == doctest::Approx(by_gradient).epsilon(1e-13));
}
