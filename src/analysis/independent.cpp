#include "analysis/independent.hpp"

#include "rewrite/uniform.hpp"

namespace tinyphys {
namespace {

bool widens(const Node* cast) {
  const DType from = cast->src(0)->dtype, to = cast->dtype;
  if (!is_float(to)) return false;
  if (is_float(from)) return item_size(to) >= item_size(from);
  return from == DType::kBool || (from == DType::kInt32 && to == DType::kFloat64);
}

// The value is exact whatever its sources are.
bool is_exact(const Node* n) {
  if (n->n_src == 0 || is_movement(n->op)) return true;
  if (!is_float(n->dtype)) return n->op != Op::GET;
  switch (n->op) {
    case Op::NEG:
    case Op::ABS:
    case Op::SIGN:
    case Op::FLOOR:
    case Op::CEIL:
    case Op::MAX:
    case Op::MIN:
    case Op::WHERE:
    case Op::GATHER: return true;
    case Op::CAST: return widens(n);
    default: return false;
  }
}

bool all_integers(const Node* n) {
  if (is_float(n->dtype)) return false;
  for (Node* s : n->src())
    if (is_float(s->dtype)) return false;
  return true;
}

// Its value follows from its sources' in every bit, on every device.
bool is_foldable(const Node* n) {
  switch (n->op) {
    case Op::CONST:
    case Op::IOTA: return true;
    case Op::PARAM:
    case Op::LAMBDA:
    case Op::GET:
    case Op::CHECK: return false;
    case Op::GATHER: return true;
    default: return is_movement(n->op) || all_integers(n) || rounds_the_same_everywhere(n->op);
  }
}

}  // namespace

Independent take_out_independent(const Node* body, std::span<const StateGroup> params) {
  const NodeMap<char> depends = state_dependence(body, params);
  Independent out;
  NodeMap<UOp> replaced;
  std::int64_t next = body->arg(0);
  const auto order = toposort(body->src(), [&](const Node* n) {
    if (depends.at(n) || is_exact(n) || n->op == Op::LAMBDA) return false;
    if (replaced.insert(n, param(next, n->dtype, n->shape()))) {
      ++next;
      out.values.push_back(UOp::share(const_cast<Node*>(n)));
    }
    return true;
  });
  (void)order;
  if (out.values.empty()) {
    out.body = UOp::share(const_cast<Node*>(body));
    return out;
  }
  const auto outputs = substitute(outputs_of(body), [&](Node* n) {
    const UOp* r = replaced.find(n);
    return r ? *r : UOp();
  });
  out.body = make(Op::LAMBDA, std::span<const UOp>(outputs), std::span<const std::int64_t>(&next, 1));
  return out;
}

NodeMap<char> known_nodes(std::span<Node* const> roots, std::span<const StateGroup> params,
                          const Constants& constants) {
  NodeMap<char> known;
  for (Node* n : toposort(roots)) {
    char k;
    if (n->op == Op::PARAM) {
      const auto i = static_cast<std::size_t>(n->arg(0));
      const bool state = i < params.size() && params[i] != StateGroup::kNone;
      k = !state && i < constants.size() && constants[i].has_value();
    } else {
      k = is_foldable(n);
      for (Node* s : n->src()) k = k && known.at(s);
    }
    known.insert(n, k);
  }
  return known;
}

std::vector<Value<double>> fold(std::span<Node* const> known, const Constants& constants) {
  return evaluate<double>(known, [&](const Node* n) -> std::optional<Value<double>> {
    if (n->op != Op::PARAM) return std::nullopt;
    return constants[static_cast<std::size_t>(n->arg(0))];
  });
}

}  // namespace tinyphys
