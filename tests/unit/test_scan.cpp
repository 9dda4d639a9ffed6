#include <doctest/doctest.h>

#include "derive/gradient.hpp"
#include "derive/jvp.hpp"
#include "support/env.hpp"
#include "tensor/access.hpp"
#include "test_gradient.hpp"
#include "tinyphys/error.hpp"
#include "tinyphys/scan.hpp"
#include "tinyphys/transforms.hpp"
#include "uop/scan_layout.hpp"

using namespace tinyphys;
using namespace tinyphys::testing;

namespace {

Row values(const Tensor& t) { return Bench().run(uop(t)); }
Tensor numbers(std::uint64_t seed, const Shape& shape) {
  std::mt19937_64 rng(seed);
  std::int64_t n = 1;
  for (std::int64_t d : shape) n *= d;
  return Tensor::from(random_row(rng, static_cast<std::size_t>(n), -1, 1), shape);
}
// Two orders of summation agree to rounding.
void check_close(const Row& a, const Row& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-13).scale(1));
}

// The loop written out.
template <class Step>
std::pair<Tensor, Tensor> unrolled(const Step& step, Tensor q, Tensor p, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) std::tie(q, p) = step(q, p);
  return {q, p};
}

}  // namespace

TEST_CASE("scan means the loop") {
  const Tensor q = numbers(1, {3}), p = numbers(2, {3}), k = numbers(3, {3});
  const auto step = [&](const Tensor& a, const Tensor& b) {
    const Tensor v = b - 0.1 * k * sin(a);
    return std::tuple{a + 0.1 * v, v};
  };
  for (std::int64_t n : {0, 1, 2, 7}) {
    const auto [q1, p1] = scan(step, std::tuple{q, p}, n);
    const auto [q2, p2] = unrolled(step, q, p, n);
    CHECK(values(q1) == values(q2));
    CHECK(values(p1) == values(p2));
  }
  SUBCASE("n = 0 gives the carry itself") {
    const auto [q1, p1] = scan(step, std::tuple{q, p}, 0);
    CHECK(uop(q1) == uop(q));
    CHECK(uop(p1) == uop(p));
  }
  SUBCASE("one node for any number of steps, equal for equal loops") {
    const auto [a, b] = scan(step, std::tuple{q, p}, 1'000'000'000);
    const auto [c, d] = scan(step, std::tuple{q, p}, 1'000'000'000);
    CHECK(uop(a) == uop(c));
    CHECK(uop(b) == uop(d));
    CHECK(uop(a)->src(0)->op == Op::SCAN);
  }
  SUBCASE("one tensor, a pair, a list") {
    CHECK(values(scan([](const Tensor& x) { return x * 2.0; }, q, 3)) == values(q * 8.0));
    const auto [a, b] = scan(
        [](const Tensor& x, const Tensor& y) {
          return std::pair{y, x};
        },
        std::pair{q, p}, 3);
    CHECK(values(a) == values(p));
    const std::vector<Tensor> list{q, p, k};
    const auto r = scan(
        [](const std::vector<Tensor>& v) {
          return std::vector<Tensor>{v[1], v[2], v[0]};
        },
        list, 2);
    CHECK(values(r[0]) == values(k));
  }
}

TEST_CASE("step number, per-step inputs, stacked outputs") {
  const Tensor x = numbers(4, {2}), a = numbers(5, {4, 2}), b = numbers(6, {4});
  const Tensor r = scan([](Index i, const Tensor& s) { return s + 0.5 * i; }, x, 5);
  check_close(values(r), values(x + 5.0));
  const auto [last, outs] = scan(
      [](Index i, const Tensor& s, const Tensor& row, const Tensor& w) {
        return std::pair{s * row + w * i, std::tuple{s.sum(), row}};
      },
      x, 4, {.xs = {a, b}});
  CHECK(std::get<0>(outs).shape() == Shape{4});
  CHECK(values(std::get<1>(outs)) == values(a));
  Tensor s = x;
  Row sums;
  for (std::int64_t i = 0; i < 4; ++i) {
    sums.push_back(values(s.sum())[0]);
    s = s * a.select(0, i) + b.select(0, i) * static_cast<double>(i);
  }
  CHECK(values(last) == values(s));
  CHECK(values(std::get<0>(outs)) == sums);
  // .xs as one tensor, taken as a list; no steps, no rows.
  const auto [t, none] = scan(
      [](const Tensor& u, const std::vector<Tensor>& v) {
        return std::tuple{u, v[0] + u};
      },
      x, 0, {.xs = Tensor::zeros({0, 2})});
  CHECK(uop(t) == uop(x));
  CHECK(none.shape() == Shape{0, 2});
}

TEST_CASE("gradient of a scan equals that of the loop written out") {
  const Tensor q = numbers(1, {3}), p = numbers(2, {3}), k = numbers(3, {3}), m = numbers(4, {3, 3});
  auto loss = [](bool as_scan, std::int64_t n) {
    return [=](const Tensor& q0, const Tensor& p0, const Tensor& stiffness, const Tensor& mix) {
      const auto step = [&](const Tensor& a, const Tensor& b) {
        const Tensor v = b - 0.2 * stiffness * sin(a) - 0.1 * matmul(mix, b);
        return std::tuple{a + 0.2 * v * v, v};
      };
      Tensor a = q0, b = p0;
      if (as_scan)
        std::tie(a, b) = scan(step, std::tuple{a, b}, n);
      else
        std::tie(a, b) = unrolled(step, a, b, n);
      return (a * a).sum() + (a * b).sum();
    };
  };
  for (std::int64_t n : {1, 2, 6}) {
    const auto [gq, gp, gk, gm] = grad(loss(true, n))(q, p, k, m);
    const auto [hq, hp, hk, hm] = grad(loss(false, n))(q, p, k, m);
    check_close(values(gq), values(hq));
    check_close(values(gp), values(hp));
    check_close(values(gk), values(hk));
    check_close(values(gm), values(hm));
  }
  SUBCASE("forward mode") {
    const auto [x, dx] = jvp(loss(true, 5), {q, p, k, m}, {p, k, q, m});
    const auto [y, dy] = jvp(loss(false, 5), {q, p, k, m}, {p, k, q, m});
    check_close(values(dx), values(dy));
  }
  SUBCASE("second derivatives, by every order of modes") {
    auto in_q = [&](bool as_scan) { return [=](const Tensor& t) { return loss(as_scan, 4)(t, p, k, m); }; };
    check_close(values(hessian(in_q(true))(q)),
                values(hessian(in_q(false))(q)));  // forward over reverse, batched
    auto slope = [&](bool as_scan) {
      return [=](const Tensor& t) { return (grad(in_q(as_scan))(t) * k).sum(); };
    };
    check_close(values(grad(slope(true))(q)), values(grad(slope(false))(q)));  // reverse over reverse
    auto forward = [&](bool as_scan) {
      return [=](const Tensor& t) { return jvp(in_q(as_scan), {t}, {k}).second; };
    };
    check_close(values(grad(forward(true))(q)), values(grad(forward(false))(q)));  // reverse over forward
    auto twice = [&](bool as_scan) {
      return [=](const Tensor& t) { return (grad(slope(as_scan))(t) * k).sum(); };
    };
    check_close(values(grad(twice(true))(q)), values(grad(twice(false))(q)));  // third
  }
}

TEST_CASE("gradient of per-step inputs and stacked outputs, with an integer in the carry") {
  const Tensor x = numbers(7, {2}), a = numbers(8, {4, 2}), w = numbers(9, {4});
  const auto with_scan = [&](const Tensor& x0, const Tensor& rows) {
    const auto [last, outs] = scan(
        [](Index i, const Tensor& s, const Tensor& count, const Tensor& row) {
          return std::pair{std::tuple{sin(s) * row + 0.1 * i * count, count + 1}, (s * row).sum()};
        },
        std::tuple{x0, as_tensor(1)}, 4, {.xs = rows});
    return (outs * w).sum() + std::get<0>(last).sum();
  };
  const auto with_loop = [&](const Tensor& x0, const Tensor& rows) {
    Tensor s = x0, total = Tensor::zeros({});
    for (std::int64_t i = 0; i < 4; ++i) {
      total = total + (s * rows.select(0, i)).sum() * w.select(0, i);
      s = sin(s) * rows.select(0, i) + 0.1 * static_cast<double>(i * (i + 1));
    }
    return total + s.sum();
  };
  check_close(values(with_scan(x, a)), values(with_loop(x, a)));
  const auto [gx, ga] = grad(with_scan)(x, a);
  const auto [hx, ha] = grad(with_loop)(x, a);
  check_close(values(gx), values(hx));
  check_close(values(ga), values(ha));
}

TEST_CASE("nested scans capture what is theirs") {
  const Tensor x = numbers(10, {2}), c = numbers(11, {2});
  // The inner loop captures the outer carry, the outer step number and data; equal inner bodies at both
  // depths.
  const auto nested = [&](const Tensor& x0, const Tensor& data) {
    return scan(
        [&](Index i, const Tensor& u) {
          const Tensor inner =
              scan([&](Index j, const Tensor& v) { return sin(v) + 0.1 * u * j + 0.2 * data * i; }, u, 3);
          return inner * 0.5 + scan([&](const Tensor& v) { return v * u; }, data, 2);
        },
        x0, 3);
  };
  const auto loops = [&](const Tensor& x0, const Tensor& data) {
    Tensor u = x0;
    for (int i = 0; i < 3; ++i) {
      Tensor v = u, t = data;
      for (int j = 0; j < 3; ++j) v = sin(v) + 0.1 * u * j + 0.2 * data * i;
      for (int j = 0; j < 2; ++j) t = t * u;
      u = v * 0.5 + t;
    }
    return u;
  };
  check_close(values(nested(x, c)), values(loops(x, c)));
  const auto sum_of = [](const auto& f) {
    return [&f](const Tensor& a, const Tensor& b) { return (f(a, b) * f(a, b)).sum(); };
  };
  const auto [gx, gc] = grad(sum_of(nested))(x, c);
  const auto [hx, hc] = grad(sum_of(loops))(x, c);
  check_close(values(gx), values(hx));
  check_close(values(gc), values(hc));
  const auto at_c = [&](const auto& f) { return [&](const Tensor& a) { return sum_of(f)(a, c); }; };
  check_close(values(hessian(at_c(nested))(x)), values(hessian(at_c(loops))(x)));
  // A gradient inside a step.
  const auto descend = [&](const Tensor& x0) {
    return scan([&](const Tensor& u) { return u - 0.1 * grad(at_c(nested))(u); }, x0, 2);
  };
  Tensor u = x;
  for (int i = 0; i < 2; ++i) u = u - 0.1 * grad(at_c(loops))(u);
  check_close(values(descend(x)), values(u));
  check_close(values(grad([&](const Tensor& a) { return descend(a).sum(); })(x)),
              values(grad([&](const Tensor& a) {
                Tensor v = a;
                for (int i = 0; i < 2; ++i) v = v - 0.1 * grad(at_c(loops))(v);
                return v.sum();
              })(x)));
}

TEST_CASE("a gradient is one node until it is lowered") {
  const Tensor x = numbers(12, {2});
  const auto f = [](const Tensor& t) {
    return scan([](const Tensor& u) { return sin(u); }, t, 1'000'000'000).sum();
  };
  const UOp g = uop(grad(f)(x));
  CHECK(g->op == Op::GET);
  CHECK(g->src(0)->op == Op::SCAN_VJP);
  for (Node* n : toposort(lower_vjps(std::span(&g, 1))[0])) CHECK(n->op != Op::SCAN_VJP);  // over checkpoints
  const env::ScopedOverride any("TINYPHYS_TAPE", "1000000000000");
  const std::vector<UOp> lowered = lower_vjps(std::span(&g, 1));
  for (Node* n : toposort(lowered[0])) CHECK(n->op != Op::SCAN_VJP);
  // What is not asked for is not computed: the only carry of the reverse scan is the cotangent of u.
  CHECK(ScanView(lowered[0]->src(0)).n_carry == 1);
}

TEST_CASE("scan mistakes") {
  const Tensor x = numbers(1, {3});
  const auto same = [](const Tensor& u) { return u; };
  auto contains = [](const char* s) { return doctest::Contains(s); };
  CHECK_THROWS_WITH_AS(scan([](const Tensor& u) { return u.sum(); }, x, 4),
                       contains("[scan] carry 0 enters a step as float64[3] and leaves it as float64[]"),
                       Error);
  CHECK_THROWS_WITH_AS(scan(
                           [](const Tensor& u, const Tensor& v) {
                             return std::tuple{u, v > 0.0};
                           },
                           std::tuple{x, x}, 4),
                       contains("carry 1 enters a step as float64[3] and leaves it as bool[3]"), Error);
  CHECK_THROWS_WITH_AS(scan(same, x, 0 - 1), contains("the number of steps is -1"), Error);
  CHECK_THROWS_WITH_AS(scan([](const Tensor& u, const Tensor& r) { return u + r; }, x, 4, {.xs = {x}}),
                       contains(".xs 0 is float64[3]: its first axis must be the number of steps, 4"), Error);
  CHECK_THROWS_WITH_AS(scan(same, x, 4, {.xs = {x, x}}), contains("step takes 0 per-step inputs, .xs has 2"),
                       Error);
  CHECK_THROWS_WITH_AS(scan(same, x, -2), contains("(test_scan.cpp:"), Error);
  const std::vector<Tensor> list{x, x};
  CHECK_THROWS_WITH_AS(scan([](const std::vector<Tensor>& v) { return std::vector<Tensor>{v[0]}; }, list, 2),
                       contains("step takes a carry of 2 tensors and returns 1"), Error);
}

TEST_CASE("a scan with until ends after the step that makes it true") {
  // x doubles until it passes 100: 1, 2, ..., 128 after 7 steps.
  const auto doubling = [](const Tensor& x, const Tensor& limit, std::int64_t n) {
    return scan(
        [](const Tensor& y) {
          return std::pair{2.0 * y, y};
        },
        x, n, {.until = [limit](Tensor y) { return y > limit; }});
  };
  const Tensor limit = Tensor::from({100.0}, {});
  const auto [end, seen] = doubling(Tensor::from({1.0}, {}), limit, 20);
  CHECK(end.item<double>() == 128);
  const auto rows = seen.to_vector<double>();
  REQUIRE(rows.size() == 20);
  CHECK(rows[6] == 64);
  for (std::size_t i = 7; i < rows.size(); ++i) CHECK(rows[i] == 0);
  // n is the bound.
  CHECK(doubling(Tensor::from({1.0}, {}), limit, 3).first.item<double>() == 8);
  // Derivatives: 2^7 by x, and 7 stays 7 for a small change.
  const auto f = [&](const Tensor& x) { return doubling(x, limit, 20).first; };
  CHECK(grad(f)(Tensor::from({1.0}, {})).item<double>() == 128);
  CHECK(jvp(f, {Tensor::from({1.0}, {})}, {Tensor::from({0.5}, {})}).second.item<double>() == 64);
  const auto g = [&](const Tensor& x) { return doubling(x, limit, 20).second.sum(); };
  CHECK(grad(g)(Tensor::from({1.0}, {})).item<double>() == 127);
  // In a batch each example ends by itself.
  const auto many = vmap(f)(Tensor::from({1.0, 60.0, 200.0})).to_vector<double>();
  CHECK(many == std::vector<double>{128, 120, 400});
  // A structure as the carry.
  const auto [a, b] = scan(
      [](const Tensor& x, const Tensor& y) {
        return std::tuple{x + 1.0, y * 2.0};
      },
      std::tuple{Tensor::from({0.0}, {}), Tensor::from({1.0}, {})}, 50,
      {.until = [](Tensor x, Tensor) { return x >= 5.0; }});
  CHECK(a.item<double>() == 5);
  CHECK(b.item<double>() == 32);
  CHECK_THROWS_WITH_AS(
      scan([](const Tensor& x) { return x; }, limit, 5, {.until = [](Tensor x) { return x; }}),
      doctest::Contains("bool scalar"), Error);
}
