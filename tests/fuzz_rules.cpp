// Random graphs: simplify keeps every bit, reaches a fixpoint, and leaves a graph that the spec accepts.
// TINYPHYS_FUZZ_SEED sets the seed, TINYPHYS_FUZZ_GRAPHS how many graphs.
#include <doctest/doctest.h>

#include "random_graph.hpp"
#include "rewrite/rewrite.hpp"
#include "uop/spec.hpp"

using namespace tinyphys;
using testing::RandomGraph;

namespace {

std::vector<UOp> random_graph(RandomGraph& random) {
  const Dims shape = random.shape();
  const std::int64_t size = 5 + random.below(40);
  return random.grow(size, shape,
                     [](Op op) { return is_elementwise(op) || is_movement(op) || op == Op::REDUCE; });
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
