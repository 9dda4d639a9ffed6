// The node: interning, counting, locations, printing, closing bodies, and sizes that would break recursion.
#include <algorithm>
#include <atomic>
#include <ctime>
#include <limits>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"
#include "uop/uop.hpp"

using namespace tinyphys;

namespace {

const Dims kThree{3};

UOp add(const UOp& a, const UOp& b) { return make(Op::ADD, {a, b}); }
UOp mul(const UOp& a, const UOp& b) { return make(Op::MUL, {a, b}); }

UOp chain(const UOp& start, std::int64_t n) {
  UOp u = start;
  for (std::int64_t i = 0; i < n; ++i) u = i % 2 ? add(u, start) : mul(u, start);
  return u;
}

// Of this process' CPUs: other programs on the machine do not count.
double seconds_since(std::clock_t start) {
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

}  // namespace

TEST_CASE("equal nodes are the same node") {
  const UOp x = symbol(DType::kFloat64, kThree), y = symbol(DType::kFloat64, kThree);
  CHECK(add(x, y) == add(x, y));
  CHECK(!(add(x, y) == add(y, x)));
  CHECK(!(add(x, y) == mul(x, y)));
  CHECK(!(x == y));
  CHECK(constant(0.5) == constant(0.5));
  CHECK(!(constant(0.0) == constant(-0.0)));
  CHECK(!(constant(1.0) == constant(1.0, DType::kFloat32)));
  CHECK(!(constant(1.0) == constant_int(1)));
  CHECK(constant(std::numeric_limits<double>::quiet_NaN()) ==
        constant(std::numeric_limits<double>::quiet_NaN()));
  CHECK(constant(0.1, DType::kFloat32) == constant(static_cast<double>(0.1f), DType::kFloat32));
  CHECK(make(Op::RESHAPE, {x}, {3, 1}) == make(Op::RESHAPE, {x}, {3, 1}));
  CHECK(!(make(Op::RESHAPE, {x}, {3, 1}) == make(Op::RESHAPE, {x}, {1, 3})));
}

TEST_CASE("dtype and shape are derived") {
  const UOp x = symbol(DType::kFloat32, Dims{2, 3});
  const UOp lt = make(Op::LT, {x, x});
  CHECK(lt->dtype == DType::kBool);
  CHECK(shape_text(lt->shape()) == "[2,3]");
  CHECK(shape_text(make(Op::PERMUTE, {x}, {1, 0})->shape()) == "[3,2]");
  CHECK(shape_text(make(Op::REDUCE, {x}, {0, 0})->shape()) == "[3]");
  CHECK(make(Op::CAST, {x}, {static_cast<std::int64_t>(DType::kInt64)})->dtype == DType::kInt64);
  CHECK_THROWS_AS(add(x, symbol(DType::kFloat64, Dims{2, 3})), Error);
  CHECK_THROWS_AS(make(Op::RESHAPE, {x}, {5}), Error);
  CHECK_THROWS_AS(make(Op::NOT, {x}), Error);
  CHECK_THROWS_AS(make(Op::SLICE, {x}, {0, 3, 1, 0, 3, 1}), Error);
}

TEST_CASE("nodes die with their last handle") {
  const std::int64_t before = live_nodes();
  {
    const UOp x = symbol(DType::kFloat64, kThree);
    const UOp y = add(mul(x, x), x);
    CHECK(live_nodes() == before + 3);
    UOp copy = y;
    CHECK(copy->refs.load() == 2);
    UOp moved = std::move(copy);
    CHECK(y->refs.load() == 2);
    moved = x;
    CHECK(y->refs.load() == 1);
    const UOp square = y.src(0);
    CHECK(square->op == Op::MUL);
  }
  CHECK(live_nodes() == before);
  // A node that is made, dropped and made again is a good node.
  for (int i = 0; i < 100; ++i) CHECK(const_double(add(constant(2.0), constant(3.0))->src(0)) == 2.0);
  CHECK(live_nodes() == before);
}

TEST_CASE("a realized value belongs to the node") {
  const Dims shape{2};
  const UOp b = buffer(DType::kFloat64, shape, StorageRef::allocate(16));
  HostWrite(*storage(b.get())).as<double>()[1] = 7.0;
  const UOp sum = make(Op::ADD, {b, b});
  CHECK(storage(sum.get()) == nullptr);
  StorageRef first = StorageRef::allocate(16);
  Storage* kept = first.get();
  set_storage(sum.get(), std::move(first));
  set_storage(sum.get(), StorageRef::allocate(16));
  CHECK(storage(make(Op::ADD, {b, b}).get()) == kept);
  const StorageRef shared = StorageRef::share(storage(b.get()));
  CHECK(HostRead(*shared).as<double>()[1] == 7.0);
}

TEST_CASE("large values come from blocks that others left, small ones and other sizes do not") {
  const auto data_of = [](std::size_t bytes) {
    const StorageRef s = allocate(DType::kFloat64, Dims{static_cast<std::int64_t>(bytes / 8)});
    const HostWrite to(*s);
    // All of it is there to be written.
    to.as<double>()[0] = to.as<double>()[bytes / 8 - 1] = 1;
    CHECK(reinterpret_cast<std::uintptr_t>(to.data()) % 64 == 0);
    return to.data();
  };
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  void* first = data_of(40 * kMiB);
  void* other = data_of(80 * kMiB - 4096);
  if (keeps_large_blocks()) {
    CHECK(data_of(40 * kMiB) == first);
    CHECK(data_of(80 * kMiB) == other);  // rounded up, they are one size
  }
  // Both at once are two blocks.
  const StorageRef held = allocate(DType::kFloat64, Dims{5 * static_cast<std::int64_t>(kMiB)});
  CHECK(data_of(40 * kMiB) != HostRead(*held).data());
  // Many, and far more than is kept.
  for (int round = 0; round < 3; ++round) {
    std::vector<StorageRef> many;
    for (std::int64_t i = 1; i <= 40; ++i)
      many.push_back(allocate(DType::kFloat64, Dims{i * static_cast<std::int64_t>(kMiB)}));
  }
  CHECK_THROWS_WITH_AS(allocate(DType::kFloat64, Dims{std::int64_t{1} << 57}),
                       doctest::Contains("out of memory"), Error);
  data_of(40 * kMiB);
}

TEST_CASE("locations: the outermost scope, one entry a call site") {
  const UOp x = symbol(DType::kFloat64, kThree);
  CHECK(location_text(x.get()).empty());
  const auto line = std::source_location::current();
  UOp y;
  {
    LocationScope outer(line);
    LocationScope inner(std::source_location::current());
    y = add(x, x);
  }
  CHECK(location_text(y.get()) == "test_uop.cpp:" + std::to_string(line.line()));
  {
    LocationScope second(std::source_location::current());
    CHECK(add(x, x) == y);
    CHECK(add(x, x) == y);
  }
  REQUIRE(locations(y.get()).size() == 2);
  CHECK(locations(y.get())[0].line == line.line());
  {
    // A node with several call sites hands its first one to what replaces it.
    LocationScope replaced(y->location.load());
    const UOp z = mul(x, x);
    REQUIRE(locations(z.get()).size() == 1);
    CHECK(location_text(z.get()) == location_text(y.get()));
    LocationScope none(std::uint32_t{0});
    CHECK(mul(x, x) == z);
    CHECK(locations(z.get()).size() == 1);
  }
}

TEST_CASE("a graph as text") {
  // Equal nodes of other tests may be alive in cached plans, with their places.
  const auto to_text = [](const UOp& root) {
    return std::regex_replace(tinyphys::to_text(root), std::regex("   [a-z_]+\\.cpp:[0-9]+"), "");
  };
  const UOp x = symbol(DType::kFloat64, Dims{2, 3}), k = symbol(DType::kInt64, {});
  const UOp half = make(Op::EXPAND, {make(Op::RESHAPE, {constant(0.5)}, {1, 1})}, {2, 3});
  const UOp square = mul(x, x);
  const UOp energy = make(Op::REDUCE, {mul(half, square)}, {0, 0, 1});
  const UOp padded = make(Op::PAD, {x}, {bits(0.0), 1, 1, 0, 2});
  CHECK(to_text(energy) ==
        "%0 = CONST float64[] 0.5\n"
        "%1 = RESHAPE float64[1,1] %0\n"
        "%2 = EXPAND float64[2,3] %1\n"
        "%3 = SYM float64[2,3] #0\n"
        "%4 = MUL float64[2,3] %3 %3\n"
        "%5 = MUL float64[2,3] %2 %4\n"
        "%6 = REDUCE float64[] sum [0,1] %5\n");
  CHECK(to_text(padded) ==
        "%0 = SYM float64[2,3] #0\n"
        "%1 = PAD float64[4,5] fill 0.000000 by (1,1) (0,2) %0\n");
  CHECK(to_infix(energy.get()) == "sum(0.5 * x * x)");

  // for k steps: q += c, with c captured
  std::vector<UOp> captured;
  const UOp index = symbol(DType::kInt64, {}), q = symbol(DType::kFloat64, {}),
            c = symbol(DType::kFloat64, {});
  const UOp body = close_lambda(std::vector{add(q, c)}, std::vector{index, q}, captured);
  REQUIRE(captured.size() == 1);
  CHECK(captured[0] == c);
  const UOp scan = make(Op::SCAN, {body, k, constant(1.0), c}, {1, 0});
  CHECK(to_text(get(scan, 0)) ==
        "body0:\n"
        "  %0 = PARAM float64[] 1\n"
        "  %1 = PARAM float64[] 2\n"
        "  %2 = ADD float64[] %0 %1\n"
        "  %3 = LAMBDA [3] %2\n"
        "%0 = SYM int64[] #0\n"
        "%1 = CONST float64[] 1\n"
        "%2 = SYM float64[] #1\n"
        "%3 = SCAN [1,0] body0 %0 %1 %2\n"
        "%4 = GET float64[] [0] %3\n");
}

TEST_CASE("equal bodies are one LAMBDA, captures are numbered by first use") {
  const UOp a = symbol(DType::kFloat64, {}), b = symbol(DType::kFloat64, {});
  auto close = [&](const UOp& first, const UOp& second, std::vector<UOp>& captured) {
    const UOp q = symbol(DType::kFloat64, {});
    const UOp step = add(mul(q, first), mul(mul(second, second), make(Op::MUL, {q, constant(2.0)})));
    return close_lambda(std::vector{step}, std::vector{q}, captured);
  };
  std::vector<UOp> c1, c2;
  const UOp l1 = close(a, b, c1), l2 = close(b, a, c2);
  CHECK(l1 == l2);
  REQUIRE(c1.size() == 2);
  // The largest subgraph that does not depend on q: b * b, not b.
  CHECK(c1[0] == a);
  CHECK(c1[1] == mul(b, b));
  CHECK(c2[0] == b);
  CHECK(l1->arg(0) == 3);
  CHECK((l1->flags & Node::kHasSym) == 0);

  // A number that rules may not look at is captured, 2 is not.
  std::vector<UOp> c3;
  const UOp q = symbol(DType::kFloat64, {});
  const UOp l3 = close_lambda(std::vector{add(mul(q, constant(2.0)), constant(0.1))}, std::vector{q}, c3);
  REQUIRE(c3.size() == 1);
  CHECK(c3[0] == constant(0.1));

  // applied again, it is the graph that it was made from
  CHECK(tinyphys::apply(l1.get(), std::vector{q, a, mul(b, b)})[0] ==
        add(mul(q, a), mul(mul(b, b), mul(q, constant(2.0)))));
}

TEST_CASE("nested traces do not capture each other's symbols") {
  const UOp outer = symbol(DType::kFloat64, {}), inner = symbol(DType::kFloat64, {});
  const UOp index = symbol(DType::kInt64, {}), steps = constant_int(1);
  std::vector<UOp> from_inner;
  const UOp body =
      close_lambda(std::vector{add(mul(inner, outer), outer)}, std::vector{index, inner}, from_inner);
  REQUIRE(from_inner.size() == 1);
  CHECK(from_inner[0] == outer);
  const UOp scan = get(make(Op::SCAN, {body, steps, outer, from_inner[0]}, {1, 0}), 0);
  std::vector<UOp> from_outer;
  const UOp whole = close_lambda(std::vector{scan}, std::vector{outer}, from_outer);
  CHECK(from_outer.empty());
  CHECK(whole->arg(0) == 1);
  // The inner body is untouched: its PARAMs are its own.
  const Node* rebuilt = whole->src(0)->src(0);
  CHECK(rebuilt->op == Op::SCAN);
  CHECK(rebuilt->src(0) == body.get());
  CHECK(rebuilt->src(2)->op == Op::PARAM);
  const UOp three = constant(3.0);
  CHECK(tinyphys::apply(whole.get(), std::vector{three})[0] ==
        get(make(Op::SCAN, {body, steps, three, three}, {1, 0}), 0));
}

TEST_CASE("substitute leaves what does not change, and does not go below a replacement") {
  const UOp x = symbol(DType::kFloat64, {}), y = symbol(DType::kFloat64, {});
  const UOp kept = mul(y, y);
  const UOp root = add(mul(x, x), kept);
  const UOp r = substitute(root, [&](Node* n) { return n == x.get() ? y : UOp(); });
  CHECK(r == add(kept, kept));
  CHECK(substitute(root, [](Node*) { return UOp(); }) == root);
  CHECK(substitute(root, [&](Node* n) { return n == root.get() ? x : UOp(); }) == x);
}

TEST_CASE("a chain of a million nodes is built, printed, walked and destroyed") {
  const std::int64_t before = live_nodes();
  constexpr std::int64_t kLength = 1'000'000;
  double build = 0, destroy = 0;
  {
    const UOp x = symbol(DType::kFloat64, kThree);
    chain(x, kLength);  // the memory of the nodes is there for the run that is measured
    std::clock_t start = std::clock();
    UOp u = chain(x, kLength);
    build = seconds_since(start);
    CHECK(live_nodes() == before + kLength + 1);
    CHECK(toposort(u).size() == static_cast<std::size_t>(kLength) + 1);
    const std::string text = to_text(u);
    CHECK(std::count(text.begin(), text.end(), '\n') == kLength + 1);
    CHECK(text.starts_with("%0 = SYM float64[3] #0\n%1 = MUL float64[3] %0 %0\n%2 = ADD float64[3] %1 %0\n"));
    CHECK(to_infix(u.get()).size() <= 83);
    const UOp y = symbol(DType::kFloat64, kThree);
    CHECK(substitute(u, [&](Node* n) { return n == x.get() ? y : UOp(); }) == chain(y, kLength));
    start = std::clock();
    u = UOp();
    destroy = seconds_since(start);
  }
  CHECK(live_nodes() == before);
  MESSAGE("build " << build / kLength * 1e9 << " ns a node, destroy " << destroy / kLength * 1e9
                   << " ns a node");
}

TEST_CASE("a graph whose tree has 2^200 leaves is walked once") {
  const UOp x = symbol(DType::kFloat64, {});
  UOp u = x;
  for (int i = 0; i < 200; ++i) u = add(u, u);
  CHECK(toposort(u).size() == 201);
  CHECK(to_infix(u.get()).size() <= 83);
}

TEST_CASE("threads build one graph at once and drop it") {
  const std::int64_t before = live_nodes();
  for (const int threads : {2, 4}) {
    const UOp x = symbol(DType::kFloat64, kThree);
    constexpr int kRounds = 30, kLength = 300;
    std::vector<UOp> results(static_cast<std::size_t>(threads));
    std::atomic<int> ready{0};
    std::vector<std::thread> pool;
    for (int t = 0; t < threads; ++t)
      pool.emplace_back([&, t] {
        ++ready;
        while (ready < threads) std::this_thread::yield();
        for (int round = 0; round < kRounds; ++round) {
          // All threads make the same nodes from the same two lines, and drop all but the last chain.
          UOp u = x;
          for (int i = 0; i < kLength; ++i) {
            LocationScope first(std::source_location::current());
            u = add(u, x);
          }
          for (int i = 0; i < kLength; ++i) {
            LocationScope second(std::source_location::current());
            u = mul(u, x);
          }
          CHECK(!location_text(u.get()).empty());
          results[static_cast<std::size_t>(t)] = u;
        }
      });
    for (std::thread& p : pool) p.join();
    for (const UOp& r : results) CHECK(r == results[0]);
    CHECK(live_nodes() == before + 1 + 2 * kLength);
  }
  CHECK(live_nodes() == before);
}
