#include "rewrite/uniform.hpp"

#include <algorithm>

#include "uop/evaluate.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

bool all_ones(std::span<const std::int64_t> shape) {
  return std::all_of(shape.begin(), shape.end(), [](std::int64_t d) { return d == 1; });
}

}  // namespace

bool rounds_the_same_everywhere(Op op) {
  switch (op) {
    case Op::NEG:
    case Op::ABS:
    case Op::SIGN:
    case Op::SQRT:
    case Op::FLOOR:
    case Op::CEIL:
    case Op::NOT:
    case Op::CAST:
    case Op::ADD:
    case Op::SUB:
    case Op::MUL:
    case Op::DIV:
    case Op::MAX:
    case Op::MIN:
    case Op::AND:
    case Op::OR:
    case Op::LT:
    case Op::LE:
    case Op::EQ:
    case Op::NE:
    case Op::WHERE: return true;
    default: return false;
  }
}

UOp uniform(const UOp& c, std::span<const std::int64_t> shape) {
  if (shape.empty()) return c;
  const Dims ones(shape.size(), 1);
  const UOp one = make(Op::RESHAPE, {c}, ones);
  return all_ones(shape) ? one : make(Op::EXPAND, {one}, shape);
}
UOp uniform(double v, DType d, std::span<const std::int64_t> shape) { return uniform(constant(v, d), shape); }

bool is_canonical_uniform(const Node* n) {
  if (n->op == Op::EXPAND && !all_ones(n->shape())) n = n->src(0);
  if (n->op == Op::RESHAPE && n->n_dim > 0 && all_ones(n->shape())) n = n->src(0);
  return n->op == Op::CONST;
}

UOp fold_constants(const Node* n) {
  if (!is_elementwise(n->op) || !rounds_the_same_everywhere(n->op)) return {};
  std::vector<Node*> constants;
  bool all_structural = true;
  for (const Node* s : n->src()) {
    Node* c = uniform_const(s);
    if (!c) return {};
    all_structural &= is_structural_const(c);
    constants.push_back(c);
  }
  const Value<double> v = evaluate<double>(with_sources(n, constants));
  const UOp folded =
      is_float(n->dtype) ? constant(v.real[0], n->dtype) : constant_int(v.integer[0], n->dtype);
  if (all_structural && !is_structural_const(folded.get())) return {};
  return uniform(folded, n->shape());
}

}  // namespace tinyphys
