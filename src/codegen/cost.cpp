#include <algorithm>

#include "codegen/passes.hpp"

namespace tinyphys {

bool is_library_call(const Node* n) {
  switch (n->op) {
    case Op::EXP:
    case Op::EXPM1:
    case Op::LOG:
    case Op::LOG1P:
    case Op::SIN:
    case Op::COS:
    case Op::TAN:
    case Op::ASIN:
    case Op::ACOS:
    case Op::ATAN:
    case Op::SINH:
    case Op::COSH:
    case Op::TANH:
    case Op::ERF:
    case Op::POW:
    case Op::ATAN2: return true;
    case Op::MOD: return is_float(n->dtype);
    case Op::POWI: return n->arg(0) > 4 || n->arg(0) < -4;
    default: return false;
  }
}

namespace {

// Rough cycles of one instruction, scalar or one native vector (STACK.md section 4: libmvec 3-7 ns per
// vector).
double cycles(const Node* n, bool vector) {
  if (is_library_call(n)) return vector ? 16 : 20;
  switch (n->op) {
    case Op::CONST:
    case Op::PARAM:
    case Op::RANGE:
    case Op::STATE: return 0;
    case Op::SQRT: return vector ? 10 : 5;
    case Op::DIV: return is_float(n->dtype) ? (vector ? 8 : 4) : (vector ? 40 : 8);
    case Op::MOD: return vector ? 40 : 10;
    case Op::PHILOX: return 60;
    case Op::LOAD: return 1;
    case Op::STORE: return 1.5;
    default: return 0.5;
  }
}

constexpr double kGatherCycles = 10, kScatterCycles = 18;
// Every second element: two vectors and what picks from them.
constexpr double kPairLoadCycles = 2, kPairStoreCycles = 2.5;

}  // namespace

double estimate_cycles(const LoopNest& nest, IndexMath& math, const Dependence& dependence) {
  double total = 0;
  std::vector<Node*> ranges;
  for (Node* n : dependence.order())
    if (n->op == Op::RANGE) ranges.push_back(n);
  count_visited(dependence.order().size() * ranges.size());
  NodeMap<char> pairs;  // stores of which two are one
  for (const auto& [first, second] : paired_stores(nest, math))
    for (const Node* s : {first, static_cast<const Node*>(second)}) pairs.insert(s, 1);
  // The loops of a reduction run inside those that it depends on.
  NodeMap<std::uint64_t> around;
  for (Node* n : dependence.order())
    if (n->op == Op::ACCUMULATE)
      for (Node* r : n->src().subspan(1)) around[r] |= dependence.loops(n);
  for (Node* n : dependence.order()) {
    const std::uint64_t own = dependence.loops(n);
    std::uint64_t loops = own;
    for (Node* r : ranges)
      if (const std::uint64_t* outer = around.find(r); outer && (own & dependence.bit(r))) loops |= *outer;
    double times = 1;
    Node* lane = nullptr;
    for (Node* r : ranges)
      if (loops & dependence.bit(r)) {
        const auto it = nest.lanes.find(r);
        if (it == nest.lanes.end()) {
          times *= static_cast<double>(r->arg(1));
        } else {
          if (own & dependence.bit(r)) lane = r;
          // A partial vector costs as much as a whole one.
          times *= static_cast<double>((r->arg(1) + it->second - 1) / it->second);
        }
      }
    for (const LoopNest::Block& b : nest.blocks)
      if ((loops & dependence.bit(b.range.get())) && (loops & dependence.bit(b.block.get())))
        times /= static_cast<double>(b.block->arg(1));
    double one = cycles(n, lane != nullptr);
    if (lane && (n->op == Op::LOAD || n->op == Op::STORE)) {
      const auto step = stride(math, n->src(n->op == Op::LOAD ? 1 : 0), lane, dependence);
      const bool load = n->op == Op::LOAD;
      if (step == 2 && (load ? reads_pairs(n, math) : pairs.contains(n)))
        one = load ? kPairLoadCycles : kPairStoreCycles;
      else if (!step || (*step != 1 && *step != 0))
        one = load ? kGatherCycles : kScatterCycles;
    }
    total += one * times;
  }
  return total;
}

}  // namespace tinyphys
