// The driver: fixpoint, budget, sharing, bodies, locations, realized values, and a million nodes.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "../random_graph.hpp"
#include "rewrite/measure.hpp"
#include "rewrite/rewrite.hpp"
#include "support/debug.hpp"
#include "support/env.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"
#include "uop/spec.hpp"

using namespace tinyphys;

namespace {

const Dims kThree{3};

UOp sym() { return symbol(DType::kFloat64, kThree); }
UOp neg(const UOp& x) { return make(Op::NEG, {x}); }
UOp add(const UOp& a, const UOp& b) { return make(Op::ADD, {a, b}); }
UOp mul(const UOp& a, const UOp& b) { return make(Op::MUL, {a, b}); }
UOp one() { return uniform(1.0, DType::kFloat64, kThree); }

RewriteResult rewrite_one(const UOp& root, std::int64_t budget = kNoBudget) {
  return rewrite(std::span<const UOp>(&root, 1), algebra_table(), budget);
}

}  // namespace

TEST_CASE("rewrites bottom-up to a fixpoint") {
  const UOp x = sym(), y = sym();
  // -(-(x * 1)) + (-(y / 1)) = x - y
  const UOp u = add(neg(neg(mul(x, one()))), neg(make(Op::DIV, {y, one()})));
  const RewriteResult r = rewrite_one(u);
  CHECK(r.roots[0] == make(Op::SUB, {x, y}));
  CHECK(r.stop == StopReason::kFixpoint);
  CHECK(r.fired == 4);
  CHECK(rewrite_one(r.roots[0]).fired == 0);
  // What a right side makes is rewritten too: (-x) * 2 = x * (-2); |(-x) (-x)| = x x.
  CHECK(simplify(make(Op::ABS, {mul(neg(x), neg(x))})) == mul(x, x));
  CHECK(simplify(make(Op::POWI, {make(Op::ABS, {neg(x)})}, {2})) == mul(x, x));
}

TEST_CASE("a budget stops it, with what was done so far") {
  const UOp x = sym();
  UOp u = x;
  for (int i = 0; i < 100; ++i) u = add(mul(u, one()), x);
  const RewriteResult r = rewrite_one(u, 30);
  CHECK(r.stop == StopReason::kBudget);
  CHECK(r.fired == 30);
  CHECK(measure(r.roots[0].get()) < measure(u.get()));
  UOp expected = x;
  for (int i = 0; i < 100; ++i) expected = add(i < 30 ? expected : mul(expected, one()), x);
  CHECK(r.roots[0] == expected);
  CHECK(rewrite_one(u, 100).stop == StopReason::kFixpoint);
  CHECK(rewrite_one(u, 0).roots[0] == u);
  CHECK(name(rewrite_one(u, 99).stop) == "budget");
}

TEST_CASE("what does not change stays the same node; nothing is left behind") {
  const std::int64_t before = live_nodes();
  {
    const UOp x = sym();
    const UOp plain = add(mul(x, x), x);
    CHECK(simplify(plain) == plain);
    const std::int64_t live = live_nodes();
    const UOp folded = simplify(add(neg(neg(x)), mul(one(), x)));
    CHECK(folded == add(x, x));
    CHECK(live_nodes() == live + 1);
  }
  CHECK(live_nodes() == before);
}

TEST_CASE("several roots share the work; a root may be a leaf") {
  const UOp x = sym();
  const UOp shared = mul(neg(neg(x)), x);
  const std::vector<UOp> roots{shared, add(shared, x), x};
  const RewriteResult r = rewrite(roots, algebra_table());
  CHECK(r.fired == 1);
  CHECK(r.roots[0] == mul(x, x));
  CHECK(r.roots[1] == add(mul(x, x), x));
  CHECK(r.roots[2] == x);
}

TEST_CASE("a shared graph is rewritten once a node") {
  const UOp x = sym();
  UOp u = x, expected = x;
  for (int i = 0; i < 200; ++i) {
    u = add(mul(u, one()), mul(u, one()));
    expected = add(expected, expected);
  }
  const RewriteResult r = rewrite_one(u);
  CHECK(r.roots[0] == expected);
  CHECK(r.fired == 200);
}

TEST_CASE("a new node has the location of the one that it replaces") {
  const UOp x = sym(), y = sym();
  UOp u;
  const auto here = std::source_location::current();
  {
    LocationScope at(here);
    u = add(x, neg(y));
  }
  const UOp top = mul(u, x);
  const UOp r = simplify(top);
  CHECK(r->src(0)->op == Op::SUB);
  CHECK(location_text(r->src(0)) == "test_rewrite.cpp:" + std::to_string(here.line()));
  CHECK(location_text(r.get()).empty());
}

TEST_CASE("a realized node stays") {
  const UOp x = sym();
  const UOp realized = mul(x, one());
  set_storage(realized.get(), StorageRef::allocate(24));
  const UOp u = add(realized, neg(neg(x)));
  CHECK(simplify(u) == add(realized, x));
  CHECK(simplify(realized) == realized);
}

TEST_CASE("bodies are rewritten when asked for, inner before outer") {
  const UOp index = symbol(DType::kInt64, {}), steps = constant_int(2);
  auto scan = [&](const UOp& body, const UOp& start) {
    return get(make(Op::SCAN, {body, steps, start}, {1, 0}), 0);
  };
  auto close = [](const UOp& out, const UOp& i, const UOp& carry) {
    std::vector<UOp> captured;
    const UOp body = close_lambda(std::vector{out}, std::vector{i, carry}, captured);
    CHECK(captured.empty());
    return body;
  };
  const UOp q = sym(), p = sym(), x = sym();
  const UOp inner = close(mul(neg(neg(q)), one()), index, q), inner_simple = close(q, index, q);
  const UOp outer = close(add(scan(inner, neg(neg(p))), neg(p)), index, p);
  const UOp outer_simple = close(make(Op::SUB, {scan(inner_simple, p), p}), index, p);
  const UOp u = mul(scan(outer, x), one());

  CHECK(simplify(u) == scan(outer, x));
  const RewriteResult r = rewrite_bodies(std::span<const UOp>(&u, 1), algebra_table());
  CHECK(r.roots[0] == mul(scan(outer_simple, x), one()));
  CHECK(r.fired == 4);
  CHECK(rewrite_bodies(std::span<const UOp>(&u, 1), algebra_table(), 2).stop == StopReason::kBudget);
  // A LAMBDA that is a root itself is entered; the bodies in it are not.
  CHECK(simplify(outer) == close(make(Op::SUB, {scan(inner, p), p}), index, p));
  CHECK(simplify_bodies(std::vector{outer})[0] ==
        close(add(scan(inner_simple, neg(neg(p))), neg(p)), index, p));
}

TEST_CASE("debug level 5 names the rule that fired") {
  const UOp x = sym();
  DebugCapture capture;
  {
    env::ScopedOverride level("TINYPHYS_DEBUG", "5");
    simplify(neg(neg(x)));
  }
  CHECK(capture.text().find("--x  =>  x   by   --x -> x   rules_algebra.hpp:") != std::string::npos);
  const std::size_t before = capture.text().size();
  simplify(neg(neg(x)));
  CHECK(capture.text().size() == before);
}

TEST_CASE("a chain of a million nodes is rewritten without recursion, in linear time") {
  const std::int64_t before = live_nodes();
  {
    const UOp x = sym();
    auto chain = [&](std::int64_t n, bool busy) {
      UOp u = x;
      for (std::int64_t i = 0; i < n; ++i) u = busy && i % 2 ? mul(u, one()) : i % 4 ? mul(u, x) : add(u, x);
      return u;
    };
    constexpr std::int64_t kLong = 1'000'000, kShort = kLong / 8;
    for (const bool busy : {false, true}) {
      const UOp few = chain(kShort, busy), many = chain(kLong, busy);
      const auto visits = [](const auto& work) {
        const std::int64_t before_it = nodes_visited();
        work();
        return nodes_visited() - before_it;
      };
      RewriteResult r;
      const std::int64_t of_few = visits([&] { simplify(few); }),
                         of_many = visits([&] { r = rewrite_one(many); });
      CHECK(r.fired == (busy ? kLong / 2 : 0));
      if (!busy) CHECK(r.roots[0] == many);
      CHECK(of_few >= kShort);
      CHECK(of_many < 9 * of_few);  // 8 times the nodes; a quadratic walk would visit 64 times as many
    }
    // Every rule fires at the root of what the last one left: -(-(-(...x))).
    UOp u = x;
    for (std::int64_t i = 0; i < kLong; ++i) u = neg(u);
    CHECK(simplify(u) == x);
  }
  CHECK(live_nodes() == before);
}
