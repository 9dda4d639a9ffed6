#include "codegen/passes.hpp"

#include <algorithm>
#include <bit>

#include "codegen/rangeify.hpp"

namespace tinyphys {
namespace {

constexpr std::int64_t kScratchRange = std::int64_t{1} << 20;  // ids of ranges over blocks
constexpr std::int64_t kLongReduction = 65536;                 // elements
constexpr std::int64_t kFewResults = 64;
constexpr std::int64_t kBlocks = 64;
constexpr std::int64_t kBlockAlign = 128;  // a multiple of every vector loop's step

std::int64_t product(std::span<const UOp> ranges) {
  std::int64_t n = 1;
  for (const UOp& r : ranges) n *= r->arg(1);
  return n;
}

}  // namespace

void pass_split_rolled_loads(KernelGraph& k) {
  IndexMath& math = *k.math;
  constexpr std::size_t kMaxChoices = 2;  // four loads
  auto split = [&](Node* n) -> UOp {
    if (n->op != Op::LOAD) return {};
    std::vector<std::pair<Node*, std::int64_t>> choices;
    for (auto t : math.linear(n->src(1)).terms)
      if (t.first->op == Op::WHERE) choices.push_back(t);
    if (choices.empty() || choices.size() > kMaxChoices) return {};
    const UOp array = n->n_src ? UOp::share(n->src(0)) : UOp();
    struct Case {
      UOp index, gate;
    };
    std::vector<Case> cases{{UOp::share(n->src(1)), n->n_src > 2 ? UOp::share(n->src(2)) : UOp()}};
    std::vector<UOp> conditions;
    for (auto [choice, factor] : choices) {
      const UOp atom = UOp::share(choice), condition = atom.src(0), otherwise = make(Op::NOT, {condition});
      conditions.push_back(condition);
      std::vector<Case> next;
      for (const Case& c : cases) {
        const UOp rest = math.add(c.index, math.mul(atom, -factor));
        next.push_back({math.add(rest, math.mul(atom.src(1), factor)), math.both(c.gate, condition)});
        next.push_back({math.add(rest, math.mul(atom.src(2), factor)), math.both(c.gate, otherwise)});
      }
      cases = std::move(next);
    }
    std::vector<UOp> values;
    for (const Case& c : cases) values.push_back(make(Op::LOAD, {array, c.index, c.gate}));
    for (std::size_t level = conditions.size(); level-- > 0;) {
      std::vector<UOp> next;
      for (std::size_t i = 0; i < values.size(); i += 2)
        next.push_back(make(Op::WHERE, {conditions[level], values[i], values[i + 1]}));
      values = std::move(next);
    }
    return values[0];
  };
  for (LoopNest& nest : k.nests) nest.stores = substitute(nest.stores, split);
}

void pass_split_long_reductions(KernelGraph& k) {
  IndexMath& math = *k.math;
  LoopNest last = std::move(k.nests.back());
  k.nests.pop_back();
  for (;;) {
    const Dependence dependence(last);
    std::uint64_t outer = 0;
    for (const UOp& r : last.ranges) outer |= dependence.bit(r.get());
    auto results = [&](const Node* n) {
      std::vector<UOp> r;
      for (const UOp& range : last.ranges)
        if (dependence.loops(n) & dependence.bit(range.get())) r.push_back(range);
      return r;
    };
    auto is_long = [&](Node* n) {
      if (n->op != Op::ACCUMULATE || (dependence.loops(n) & ~outer)) return false;
      std::int64_t size = 1;
      for (Node* r : n->src().subspan(1)) size *= r->arg(1);
      return size >= kLongReduction && product(results(n)) <= kFewResults;
    };
    // The first that waits for no other, with those beside it over the same ranges.
    Node* first = nullptr;
    for (Node* n : dependence.order())
      if (is_long(n) && (!first || dependence.stage(n) < dependence.stage(first))) first = n;
    if (!first) break;
    std::vector<Node*> group;
    for (Node* n : dependence.order())
      if (is_long(n) && dependence.stage(n) == dependence.stage(first) && results(n) == results(first) &&
          std::equal(n->src().begin() + 1, n->src().end(), first->src().begin() + 1, first->src().end()))
        group.push_back(n);

    Node* cut = first->src(1);
    for (Node* r : first->src().subspan(1))
      if (cut->arg(1) < kBlocks && r->arg(1) > cut->arg(1)) cut = r;
    std::int64_t size = (cut->arg(1) + kBlocks - 1) / kBlocks;
    if (size >= kBlockAlign) size = (size + kBlockAlign - 1) / kBlockAlign * kBlockAlign;
    const std::int64_t n_blocks = (cut->arg(1) + size - 1) / size;
    const auto serial = static_cast<std::int64_t>(k.scratch.size());
    const UOp block = math.range(kScratchRange + 2 * serial, n_blocks);
    const UOp again = math.range(kScratchRange + 2 * serial + 1, n_blocks);

    LoopNest partial;
    partial.ranges = results(first);
    const std::int64_t count = product(partial.ranges);
    UOp result = math.number(0);
    for (const UOp& r : partial.ranges) result = math.add(math.mul(result, r->arg(1)), r);
    partial.ranges.insert(partial.ranges.begin(), block);
    partial.blocks.push_back({UOp::share(cut), block, size});
    NodeMap<UOp> replacement;
    for (Node* n : group) {
      const auto buffer = static_cast<std::int64_t>(k.scratch.size());
      k.scratch.push_back(n_blocks * count * static_cast<std::int64_t>(item_size(n->dtype)));
      partial.stores.push_back(
          make(Op::STORE, {math.add(math.mul(block, count), result), UOp::share(n)}, {k.n_outputs + buffer}));
      const UOp array = param(k.n_params + buffer, n->dtype, std::vector<std::int64_t>{n_blocks * count});
      const UOp part = make(Op::LOAD, {array, math.add(math.mul(again, count), result)});
      replacement.insert(n, make(Op::ACCUMULATE, {part, again}, n->arg()));
    }
    k.nests.push_back(std::move(partial));
    last.stores = substitute(last.stores, [&](Node* n) -> UOp {
      const UOp* r = replacement.find(n);
      return r ? *r : UOp();
    });
  }
  k.nests.push_back(std::move(last));
}

namespace {

struct LaneChoice {
  LoopNest& nest;
  IndexMath& math;
  const Dependence dependence;
  int native;
  bool calls = false;
  std::size_t n_values = 0;

  int width(const Node* range, bool reduced) const {
    const auto extent = static_cast<std::uint64_t>(range->arg(1));
    // Down the columns of a matrix, wide strips also use more of each page.
    const int unroll = reduced ? 4 : 8;
    constexpr std::size_t kFewValues = 24;
    // Sums need several chains to hide the latency of the additions.
    const bool sums =
        reduced || std::any_of(dependence.order().begin(), dependence.order().end(), [&](Node* n) {
          return n->op == Op::ACCUMULATE && (dependence.loops(n) & dependence.bit(range));
        });
    const int wide = sums && !calls && n_values <= kFewValues ? native * unroll : native;
    if (extent >= static_cast<std::uint64_t>(wide)) return wide;
    return static_cast<int>(std::min<std::uint64_t>(std::bit_ceil(extent), static_cast<std::uint64_t>(wide)));
  }

  // No value may depend on two vector ranges.
  bool valid(std::uint64_t lanes) const {
    return std::none_of(dependence.order().begin(), dependence.order().end(),
                        [&](Node* n) { return std::popcount(dependence.loops(n) & lanes) > 1; });
  }

  double cost() const { return estimate_cycles(nest, math, dependence); }

  // Adds vector ranges of reductions while they pay.
  void extend() {
    std::uint64_t lanes = 0;
    for (auto& [r, w] : nest.lanes) lanes |= dependence.bit(r);
    double best = cost();
    for (Node* n : dependence.order()) {
      if (n->op != Op::ACCUMULATE) continue;
      for (std::size_t k = n->n_src; k-- > 1;) {
        Node* r = n->src(k);
        if (nest.lanes.contains(r) || !valid(lanes | dependence.bit(r))) continue;
        const int w = width(r, true);
        if (w == 1) continue;
        nest.lanes[r] = w;
        const double c = cost();
        if (c < best) {
          best = c;
          lanes |= dependence.bit(r);
        } else {
          nest.lanes.erase(r);
        }
      }
    }
  }
};

}  // namespace

void pass_choose_lanes(KernelGraph& k, const Target& target) {
  for (LoopNest& nest : k.nests) {
    LaneChoice choice{nest, *k.math, Dependence(nest), 0};
    std::size_t item = 4;
    int singles = 0, doubles = 0;
    for (Node* n : choice.dependence.order()) {
      const bool value = is_elementwise(n->op) || n->op == Op::LOAD || n->op == Op::ACCUMULATE;
      if (value) ++choice.n_values;
      // Indices are int64 in every kernel; what is read, written or floating sets the width.
      if (n->op == Op::LOAD || is_float(n->dtype)) item = std::max(item, item_size(n->dtype));
      if (n->op == Op::STORE) item = std::max(item, item_size(n->src(1)->dtype));
      choice.calls = choice.calls || is_library_call(n);
      const bool arithmetic = is_elementwise(n->op) && n->op != Op::CAST;
      singles += arithmetic && n->dtype == DType::kFloat32;
      doubles += arithmetic && n->dtype == DType::kFloat64;
    }
    // Sums of float32 are taken in float64 (kSequentialSum): the arithmetic below them is what counts.
    if (singles > doubles) item = sizeof(float);
    choice.native = std::max(1, target.vector_bytes / static_cast<int>(item));
    choice.extend();
    double best = choice.cost();
    std::map<Node*, int> best_lanes = nest.lanes;
    for (std::size_t i = nest.ranges.size(); i-- > 0;) {
      Node* r = nest.ranges[i].get();
      nest.lanes.clear();
      const bool block = std::any_of(nest.blocks.begin(), nest.blocks.end(),
                                     [&](const LoopNest::Block& b) { return b.block.get() == r; });
      if (block) continue;  // its loops have other bounds in every pass
      nest.lanes[r] = choice.width(r, false);
      if (nest.lanes[r] == 1) continue;
      choice.extend();
      if (const double c = choice.cost(); c < best) {
        best = c;
        best_lanes = nest.lanes;
      }
    }
    nest.lanes = std::move(best_lanes);
  }
}

void pass_put_members_in_lanes(KernelGraph& k, const Target& target) {
  LoopNest& nest = k.nests[0];
  if (nest.ranges.empty()) return;
  Node* range = nest.ranges.back().get();
  const Dependence dependence(nest);
  std::size_t item = 4;
  std::int64_t states = 0;
  for (Node* n : dependence.order()) {
    if (is_float(n->dtype) || n->op == Op::LOAD) item = std::max(item, item_size(n->dtype));
    if (n->op == Op::LOOP) states += n->arg(1);
  }
  // A step is a chain of operations that wait for each other: some vectors go side by side, as many as leave the states in
  // registers.
  constexpr std::int64_t kRegisters = 24;
  std::int64_t lanes = target.vector_bytes / static_cast<int>(item);
  for (std::int64_t vectors = 2; vectors * states <= kRegisters && 2 * lanes <= range->arg(1); vectors *= 2)
    lanes *= 2;
  nest.lanes[range] = static_cast<int>(lanes);
}

void pass_choose_parallel(KernelGraph& k, const Target& target) {
  for (LoopNest& nest : k.nests) {
    const Dependence dependence(nest);
    constexpr double kCyclesPerNs = 3;
    nest.cost_ns = estimate_cycles(nest, *k.math, dependence) / kCyclesPerNs;
    if (nest.ranges.empty()) continue;
    // The outermost range that has enough to share out, else the longest.
    constexpr std::int64_t kEnough = 64;
    nest.parallel = nest.ranges[0];
    for (const UOp& r : nest.ranges)
      if (nest.parallel->arg(1) < kEnough && r->arg(1) > nest.parallel->arg(1)) nest.parallel = r;
    const std::int64_t extent = nest.parallel->arg(1);
    const auto lanes = nest.lanes.find(nest.parallel.get());
    const std::int64_t step = lanes == nest.lanes.end() ? 1 : lanes->second;
    nest.grain = ((extent + target.max_units - 1) / target.max_units + step - 1) / step * step;
    nest.units = (extent + nest.grain - 1) / nest.grain;
  }
}

}  // namespace tinyphys
