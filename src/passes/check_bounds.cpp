#include "passes/check_bounds.hpp"

#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

// -n <= index < n for every element, as a bool scalar.
UOp in_range(const UOp& index, std::int64_t n) {
  const UOp low = compare(Op::LE, full_like(index, static_cast<double>(-n)), index);
  const UOp high = compare(Op::LT, index, full_like(index, static_cast<double>(n)));
  const UOp both = cast(make(Op::AND, {low, high}), DType::kInt64);
  const UOp all = reduce(Reduction::kMin, reshape(both, Dims{both->size()}), Dims{0});
  return compare(Op::EQ, all, constant_int(1));
}

}  // namespace

UOp pass_check_bounds(const UOp& program) {
  NodeMap<UOp> done;
  std::vector<Node*> src;
  for (Node* n : toposort(program)) {
    if (n->n_src == 0 || (n->op == Op::LAMBDA && n != program.get())) {
      done.insert(n, UOp::share(n));
      continue;
    }
    src.clear();
    bool changed = false;
    for (Node* s : n->src()) {
      src.push_back(done.at(s).get());
      changed |= src.back() != s;
    }
    LocationScope at(n->location.load(std::memory_order_relaxed));
    UOp made = changed ? with_sources(n, src) : UOp::share(n);
    if ((n->op == Op::GATHER || n->op == Op::SCATTER_ADD) && n->src(1)->size() > 0) {
      const std::int64_t extent = n->src(0)->shape()[static_cast<std::size_t>(n->arg(0))];
      made = make(Op::CHECK, {made, in_range(made.src(1), extent)},
                  {static_cast<std::int64_t>(CheckKind::kIndexInRange), extent});
    }
    done.insert(n, std::move(made));
  }
  return done.at(program.get());
}

}  // namespace tinyphys
