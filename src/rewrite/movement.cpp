#include "rewrite/movement.hpp"

#include <algorithm>

#include "rewrite/uniform.hpp"

namespace tinyphys {
namespace {

UOp share(const Node* n) { return UOp::share(const_cast<Node*>(n)); }

// Index of the last element that a SLICE takes along an axis; its size there is above 0.
std::int64_t last_of(const Node* slice, std::size_t axis) {
  return slice->arg(3 * axis) + (slice->shape()[axis] - 1) * slice->arg(3 * axis + 2);
}

// A slice of (start, count, step): stop is one step past the last element, so that equal slices are equal nodes.
void push_range(Dims& arg, std::int64_t start, std::int64_t count, std::int64_t step) {
  arg.push_back(start);
  arg.push_back(start + count * step);
  arg.push_back(step);
}

// A slice of a slice becomes one: inside another PAD or CAT it would sink a level further at each level of a chain like
// x = cat({x[1:], y}), and every link would sink through all links before it.
bool sinks_on(const Node* n) {
  return n->op == Op::SLICE && (n->src(0)->op == Op::PAD || n->src(0)->op == Op::CAT);
}

}  // namespace

bool is_identity_movement(const Node* n) {
  if (n->op == Op::CAT) return n->n_src == 1;
  if (!same_shape(n, n->src(0))) return false;
  switch (n->op) {
    case Op::RESHAPE:
    case Op::EXPAND:
    case Op::PAD: return true;
    case Op::PERMUTE:
      for (std::size_t i = 0; i < n->n_arg; ++i)
        if (n->arg(i) != static_cast<std::int64_t>(i)) return false;
      return true;
    case Op::SLICE:
      for (std::size_t i = 0; i < n->n_dim; ++i)
        if (n->shape()[i] > 0 && (n->arg(3 * i) != 0 || (n->shape()[i] > 1 && n->arg(3 * i + 2) != 1)))
          return false;
      return true;
    case Op::ROLL: return n->arg(1) == 0;
    default: return false;
  }
}

UOp merge_permutes(const Node* outer, const Node* inner) {
  Dims axes;
  for (std::int64_t a : outer->arg()) axes.push_back(inner->arg(static_cast<std::size_t>(a)));
  return make(Op::PERMUTE, {share(inner->src(0))}, axes);
}

UOp merge_slices(const Node* outer, const Node* inner) {
  Dims arg;
  for (std::size_t i = 0; i < outer->n_dim; ++i) {
    const std::int64_t count = outer->shape()[i], step = inner->arg(3 * i + 2);
    if (count == 0)
      push_range(arg, 0, 0, 1);
    else
      push_range(arg, inner->arg(3 * i) + outer->arg(3 * i) * step, count, outer->arg(3 * i + 2) * step);
  }
  return make(Op::SLICE, {share(inner->src(0))}, arg);
}

UOp merge_pads(const Node* outer, const Node* inner) {
  if (outer->arg(0) != inner->arg(0)) return {};
  Dims arg(outer->arg().begin(), outer->arg().end());
  for (std::size_t i = 1; i < arg.size(); ++i) arg[i] += inner->arg(i);
  return make(Op::PAD, {share(inner->src(0))}, arg);
}

UOp merge_rolls(const Node* outer, const Node* inner) {
  if (outer->arg(0) != inner->arg(0)) return {};
  const std::int64_t n = std::max<std::int64_t>(outer->shape()[static_cast<std::size_t>(outer->arg(0))], 1);
  return make(Op::ROLL, {share(inner->src(0))}, {outer->arg(0), (outer->arg(1) + inner->arg(1)) % n});
}

bool permutes_only_ones(const Node* permute) {
  std::int64_t before = -1;
  for (std::size_t i = 0; i < permute->n_dim; ++i) {
    if (permute->shape()[i] == 1) continue;
    if (permute->arg(i) < before) return false;
    before = permute->arg(i);
  }
  return true;
}

UOp slice_inside_pad(const Node* slice, const Node* pad) {
  const Node* x = pad->src(0);
  if (sinks_on(x)) return {};
  Dims arg;
  for (std::size_t i = 0; i < slice->n_dim; ++i) {
    const std::int64_t count = slice->shape()[i], before = pad->arg(1 + 2 * i);
    if (count == 0) {
      push_range(arg, 0, 0, 1);
      continue;
    }
    const std::int64_t first = slice->arg(3 * i) - before, last = last_of(slice, i) - before;
    if (std::min(first, last) < 0 || std::max(first, last) >= x->shape()[i]) return {};
    push_range(arg, first, count, slice->arg(3 * i + 2));
  }
  return make(Op::SLICE, {share(x)}, arg);
}

UOp slice_inside_cat(const Node* slice, const Node* cat) {
  const auto axis = static_cast<std::size_t>(cat->arg(0));
  const std::int64_t count = slice->shape()[axis];
  if (count == 0) return {};
  const std::int64_t first = slice->arg(3 * axis), last = last_of(slice, axis);
  std::int64_t begin = 0;
  for (const Node* part : cat->src()) {
    const std::int64_t end = begin + part->shape()[axis];
    if (std::min(first, last) >= begin && std::max(first, last) < end) {
      if (sinks_on(part)) return {};
      Dims arg;
      for (std::size_t i = 0; i < slice->n_dim; ++i)
        push_range(arg, slice->arg(3 * i) - (i == axis ? begin : 0), slice->shape()[i],
                   slice->arg(3 * i + 2));
      return make(Op::SLICE, {share(part)}, arg);
    }
    begin = end;
  }
  return {};
}

UOp move_uniform(const Node* n) {
  const Node* c = uniform_const(n->src(0));
  if (!c || is_canonical_uniform(n)) return {};
  if (n->op == Op::PAD && n->arg(0) != c->arg(1)) return {};
  if (n->op == Op::CAT)
    for (const Node* s : n->src())
      if (uniform_const(s) != c) return {};
  return uniform(share(c), n->shape());
}

UOp push_below_expand(const Node* n) {
  // Asked of every elementwise node: most have nothing expanded and must cost nothing here.
  const auto sources_of_n = n->src();
  if (std::none_of(sources_of_n.begin(), sources_of_n.end(),
                   [](const Node* s) { return s->op == Op::EXPAND; }))
    return {};
  // The smallest shape from which every source can be expanded. A number takes any shape.
  Dims common(n->n_dim, 1);
  bool expanded = false;
  for (const Node* s : n->src()) {
    if (uniform_const(s)) continue;
    const Node* from = s->op == Op::EXPAND ? s->src(0) : s;
    expanded |= s->op == Op::EXPAND;
    for (std::size_t i = 0; i < common.size(); ++i)
      if (from->shape()[i] != 1) common[i] = from->shape()[i];
  }
  std::int64_t size = 1;
  for (std::int64_t d : common) size *= d;
  if (!expanded || size >= n->size()) return {};
  std::vector<UOp> sources;
  for (const Node* s : n->src()) {
    if (const Node* c = uniform_const(s)) {
      sources.push_back(uniform(share(c), common));
      continue;
    }
    const Node* from = s->op == Op::EXPAND ? s->src(0) : s;
    const bool fits = std::equal(common.begin(), common.end(), from->shape().begin());
    sources.push_back(fits ? share(from) : make(Op::EXPAND, {share(from)}, common));
  }
  return make(Op::EXPAND, {make(n->op, sources, n->arg())}, n->shape());
}

UOp drop_reduced_ones(const Node* reduce) {
  const Node* x = reduce->src(0);
  const auto kind = static_cast<Reduction>(reduce->arg(0));
  Dims shape, arg{reduce->arg(0)};
  std::size_t k = 1;
  for (std::size_t i = 0; i < x->n_dim; ++i) {
    const bool reduced = k < reduce->n_arg && reduce->arg(k) == static_cast<std::int64_t>(i);
    k += reduced;
    if (reduced && x->shape()[i] == 1) continue;
    if (reduced) arg.push_back(static_cast<std::int64_t>(shape.size()));
    shape.push_back(x->shape()[i]);
  }
  const bool reduces_nothing = arg.size() == 1;
  if (!reduces_nothing && arg.size() == reduce->n_arg) return {};
  const UOp reshaped = shape.size() == x->n_dim ? share(x) : make(Op::RESHAPE, {share(x)}, shape);
  if (!reduces_nothing) return make(Op::REDUCE, {reshaped}, arg);
  // A sum of one term is 0 + x, which is +0 for x = -0.
  if (kind == Reduction::kSum && is_float(x->dtype))
    return make(Op::ADD, {reshaped, uniform(0.0, x->dtype, shape)});
  return reshaped;
}

}  // namespace tinyphys
