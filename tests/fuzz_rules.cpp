// Random graphs: simplify keeps every bit, reaches a fixpoint, and leaves a graph that the spec accepts.
// TINYPHYS_FUZZ_SEED sets the seed, TINYPHYS_FUZZ_GRAPHS how many graphs.
#include <doctest/doctest.h>

#include "random_graph.hpp"
#include "rewrite/rewrite.hpp"
#include "uop/spec.hpp"

using namespace tinyphys;
using testing::RandomGraph;

namespace {

// A graph that grows by ops over what is there: shared nodes, movement of all kinds, few dtypes and shapes at once
// so that operands meet.
std::vector<UOp> random_graph(RandomGraph& random) {
  const Dims shape = random.shape();
  std::vector<UOp> pool;
  const DType main_dtype = random.dtype();
  auto source = [&](DType d, const Dims& s) {
    std::vector<UOp> fit;
    for (const UOp& u : pool)
      if (u->dtype == d && shape_of(u.get()) == s) fit.push_back(u);
    return fit.empty() || random.one_in(6) ? random.any(d, s) : random.pick(fit);
  };
  for (std::int64_t size = 5 + random.below(40); static_cast<std::int64_t>(pool.size()) < size;) {
    const auto op = static_cast<Op>(random.below(kOpCount));
    if (!is_elementwise(op) && !is_movement(op) && op != Op::REDUCE) continue;
    // Cheap exact ops three times out of four: there is more algebra in them.
    const OpClass cls = traits(op).cls;
    if (cls == OpClass::kUnary && op > Op::SQRT && op < Op::FLOOR && !random.one_in(4)) continue;
    const DType d = random.one_in(4) ? random.dtype() : main_dtype;
    if (UOp u = random.node(op, d, random.one_in(5) ? random.shape() : shape, source))
      pool.push_back(std::move(u));
  }
  return pool;  // every node is a root
}

}  // namespace

TEST_CASE("simplify keeps the bits of random graphs") {
  const std::uint64_t seed = testing::seed_from_environment(1);
  const char* count = std::getenv("TINYPHYS_FUZZ_GRAPHS");
  const int graphs = count && *count ? std::atoi(count) : 2000;
  std::int64_t fired = 0;
  for (int i = 0; i < graphs; ++i) {
    RandomGraph random(seed + static_cast<std::uint64_t>(i));
    const std::vector<UOp> roots = random_graph(random);
    const RewriteResult r = rewrite(roots, algebra_table());
    fired += r.fired;
    CAPTURE(seed + static_cast<std::uint64_t>(i));
    REQUIRE(r.stop == StopReason::kFixpoint);
    std::vector<Node*> before, after;
    for (std::size_t k = 0; k < roots.size(); ++k) {
      before.push_back(roots[k].get());
      after.push_back(r.roots[k].get());
    }
    CHECK_NOTHROW(verify(after, Stage::kTensor));
    CHECK(simplify(r.roots) == r.roots);
    const auto values = evaluate<double>(before), simple = evaluate<double>(after);
    for (std::size_t k = 0; k < roots.size(); ++k) {
      CAPTURE(to_text(roots[k]));
      CAPTURE(to_text(r.roots[k]));
      CAPTURE(testing::values_text(values[k]));
      CAPTURE(testing::values_text(simple[k]));
      REQUIRE(testing::same_bits(values[k], simple[k]));
    }
  }
  MESSAGE(graphs << " graphs, " << fired << " rules fired; TINYPHYS_FUZZ_SEED=" << seed);
}
