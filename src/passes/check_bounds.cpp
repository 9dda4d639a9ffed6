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
  return rebuild(program, {.after = [](Node* n, const UOp& now) -> UOp {
                   if ((n->op != Op::GATHER && n->op != Op::SCATTER_ADD) || n->src(1)->size() == 0) return {};
                   const std::int64_t extent = n->src(0)->shape()[static_cast<std::size_t>(n->arg(0))];
                   return make(Op::CHECK, {now, in_range(now.src(1), extent)},
                               {static_cast<std::int64_t>(CheckKind::kIndexInRange), extent});
                 }});
}

}  // namespace tinyphys
