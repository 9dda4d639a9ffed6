#include "analysis/independent.hpp"

#include "rewrite/uniform.hpp"
#include "uop/build.hpp"

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
    case Op::COPY:
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

AxisBits repeated_axes(const Node* n, const NodeMap<AxisBits>& known) {
  const auto shape = n->shape();
  AxisBits single = 0;  // of one element
  for (std::size_t a = 0; a < shape.size() && a < 64; ++a)
    if (shape[a] == 1) single |= AxisBits{1} << a;
  if (n->n_src == 0 || n->op == Op::LAMBDA || shape.size() > 64) return single;
  const AxisBits below = known.at(n->src(0));
  switch (n->op) {
    case Op::EXPAND:
    case Op::SLICE: return single | below;
    case Op::PERMUTE: {
      AxisBits moved = single;
      for (std::size_t a = 0; a < shape.size(); ++a)
        if (below >> n->arg(a) & 1) moved |= AxisBits{1} << a;
      return moved;
    }
    case Op::RESHAPE: {
      // AxisBits of one element come and go; the others must be the same ones.
      const auto from = n->src(0)->shape();
      AxisBits kept = single;
      std::size_t b = 0;
      for (std::size_t a = 0; a < shape.size(); ++a) {
        if (shape[a] == 1) continue;
        while (b < from.size() && from[b] == 1) ++b;
        if (b == from.size() || from[b] != shape[a]) return single;
        if (below >> b++ & 1) kept |= AxisBits{1} << a;
      }
      return kept;
    }
    default: break;
  }
  if (!is_elementwise(n->op)) return single;
  AxisBits all = below;
  for (Node* s : n->src()) all &= known.at(s);
  return single | all;
}

}  // namespace

NodeMap<AxisBits> repeated_axes(std::span<Node* const> order) {
  NodeMap<AxisBits> repeated;
  for (Node* n : order) repeated.insert(n, repeated_axes(n, repeated));
  return repeated;
}

Independent take_out_independent(const Node* body, std::span<const StateGroup> params) {
  const NodeMap<char> depends = state_dependence(body, params);
  Independent out;
  NodeMap<UOp> replaced;
  std::int64_t next = body->arg(0);
  const NodeMap<AxisBits> repeated = repeated_axes(toposort(body->src()));
  const auto order = toposort(body->src(), [&](const Node* n) {
    if (depends.at(n) || is_exact(n) || n->op == Op::LAMBDA) return false;
    if (replaced.contains(n)) return true;
    // What is the same along an axis is taken out once, and expanded here: that it is the same is structure.
    UOp value = UOp::share(const_cast<Node*>(n));
    for (std::size_t a = 0; a < n->n_dim; ++a)
      if (n->shape()[a] > 1 && (repeated.at(n) >> a & 1))
        value = slice_axis(value, static_cast<std::int64_t>(a), 0, 1);
    UOp own = param(next++, value->dtype, value->shape());
    if (!same_shape(own.get(), n)) own = make(Op::EXPAND, {own}, n->shape());
    replaced.insert(n, std::move(own));
    out.values.push_back(std::move(value));
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
  out.body = lambda_of(outputs, static_cast<std::size_t>(next));
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
