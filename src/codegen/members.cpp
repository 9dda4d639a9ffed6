#include "codegen/members.hpp"

#include <algorithm>

#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// So few places are written out one by one.
constexpr std::int64_t kFew = 8;

// Axes of nodes fall into classes: those that hold the same members. `joined`: a step joins places of the class.
class AxisClasses {
 public:
  void add(const Node* n) {
    first_.insert(n, parent_.size());
    for (std::size_t a = 0; a < n->n_dim; ++a) {
      parent_.push_back(parent_.size());
      joined_.push_back(false);
    }
  }
  std::size_t root(const Node* n, std::size_t axis) {
    std::size_t i = *first_.find(n) + axis;
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void unite(const Node* a, std::size_t axis_a, const Node* b, std::size_t axis_b) {
    const std::size_t x = root(a, axis_a), y = root(b, axis_b);
    joined_[x] = joined_[x] || joined_[y];
    parent_[y] = x;
  }
  void join(const Node* n, std::size_t axis) { joined_[root(n, axis)] = true; }
  bool joined(std::size_t root) const { return joined_[root]; }

 private:
  NodeMap<std::size_t> first_;
  std::vector<std::size_t> parent_;
  std::vector<bool> joined_;
};

void reshape(AxisClasses& c, const Node* n) {
  const Node* s = n->src(0);
  const auto from = s->shape(), to = n->shape();
  if (n->size() == 0) return;
  // Groups of axes with equal products, as an index is taken apart; axes of one element hold nothing.
  std::size_t i = 0, j = 0;
  while (i < from.size() || j < to.size()) {
    std::vector<std::size_t> left, right;
    std::int64_t p = 1, q = 1;
    const auto take_left = [&] {
      if (from[i] != 1) left.push_back(i);
      p *= from[i++];
    };
    const auto take_right = [&] {
      if (to[j] != 1) right.push_back(j);
      q *= to[j++];
    };
    if (i < from.size()) take_left();
    if (j < to.size()) take_right();
    while (p != q) p < q ? take_left() : take_right();
    if (left.size() == 1 && right.size() == 1) {
      c.unite(s, left[0], n, right[0]);
      continue;
    }
    for (const std::size_t a : left) c.join(s, a);
    for (const std::size_t a : right) c.join(n, a);
  }
}

// Axis a of the node and axis b of a source hold the same places.
void same(AxisClasses& c, const Node* n, std::size_t a, const Node* s, std::size_t b) {
  if (n->shape()[a] == s->shape()[b]) return c.unite(n, a, s, b);
  c.join(n, a);
  c.join(s, b);
}

// False: the node joins everything.
bool relate(AxisClasses& c, const Node* n) {
  const auto axis_of = [&](std::size_t i) { return static_cast<std::size_t>(n->arg(i)); };
  const std::size_t rank = n->n_dim;
  if (is_elementwise(n->op)) {
    for (const Node* s : n->src())
      for (std::size_t a = 0; a < rank; ++a) same(c, n, a, s, a);
    return true;
  }
  switch (n->op) {
    case Op::CONST:
    case Op::PARAM:
    case Op::IOTA: return true;
    case Op::EXPAND:
      for (std::size_t a = 0; a < rank; ++a)
        if (n->src(0)->shape()[a] != 1) same(c, n, a, n->src(0), a);
      return true;
    case Op::PERMUTE:
      for (std::size_t a = 0; a < rank; ++a) same(c, n, a, n->src(0), axis_of(a));
      return true;
    case Op::RESHAPE: reshape(c, n); return true;
    case Op::SLICE:
      for (std::size_t a = 0; a < rank; ++a) {
        const bool whole = n->arg(3 * a) == 0 && n->arg(3 * a + 2) == 1;
        if (whole || n->shape()[a] != n->src(0)->shape()[a]) {
          same(c, n, a, n->src(0), a);  // of another length: joined
        } else {
          c.join(n, a);
          c.join(n->src(0), a);
        }
      }
      return true;
    case Op::PAD:
    case Op::ROLL:
    case Op::CUMSUM:
      for (std::size_t a = 0; a < rank; ++a) same(c, n, a, n->src(0), a);
      if (n->op == Op::ROLL && n->arg(1) == 0) return true;
      if (n->op != Op::PAD) c.join(n, axis_of(0));
      return true;
    case Op::CAT:
      for (const Node* s : n->src())
        for (std::size_t a = 0; a < rank; ++a) {
          if (a != axis_of(0)) {
            same(c, n, a, s, a);
            continue;
          }
          c.join(n, a);
          c.join(s, a);
        }
      return true;
    case Op::REDUCE: {
      const Node* s = n->src(0);
      for (std::size_t b = 0, a = 0; b < s->n_dim; ++b) {
        const auto axes = n->arg().subspan(1);
        if (std::ranges::find(axes, static_cast<std::int64_t>(b)) != axes.end())
          c.join(s, b);
        else
          same(c, n, a++, s, b);
      }
      return true;
    }
    case Op::MATMUL: {
      const Node *x = n->src(0), *y = n->src(1);
      for (std::size_t a = 0; a + 1 < rank; ++a) same(c, n, a, x, a);
      for (std::size_t a = 0; a < rank; ++a)
        if (a + 2 != rank) same(c, n, a, y, a);
      c.join(x, rank - 1);
      c.join(y, rank - 2);
      return true;
    }
    case Op::GATHER: {
      const Node *x = n->src(0), *index = n->src(1);
      const std::size_t axis = axis_of(0);
      for (std::size_t a = 0; a < x->n_dim; ++a) {
        if (a == axis)
          c.join(x, a);
        else
          same(c, n, a < axis ? a : a - 1 + index->n_dim, x, a);
      }
      for (std::size_t a = 0; a < index->n_dim; ++a) same(c, n, axis + a, index, a);
      return true;
    }
    default: return false;
  }
}

constexpr std::size_t kNone = ~std::size_t{0};

// The one axis of this class; kNone: there is none, or several.
std::size_t axis_in(AxisClasses& c, const Node* n, std::size_t root) {
  std::size_t found = kNone;
  for (std::size_t a = 0; a < n->n_dim; ++a)
    if (c.root(n, a) == root) {
      if (found != kNone) return kNone;
      found = a;
    }
  return found;
}
bool has_two(AxisClasses& c, const Node* n, std::size_t root) {
  std::size_t count = 0;
  for (std::size_t a = 0; a < n->n_dim; ++a) count += c.root(n, a) == root;
  return count > 1;
}

}  // namespace

Members members_of(const Node* scan) {
  const ScanView view(scan);
  if (view.has_until || view.n_carry == 0) return {};
  std::vector<Node*> order;
  for (Node* n : toposort(std::span<Node* const>(view.body()->src())))
    if (n->op != Op::LAMBDA) order.push_back(n);
  AxisClasses c;
  std::vector<Node*> state(view.n_carry, nullptr);
  for (Node* n : order) {
    c.add(n);
    if (n->op == Op::PARAM && n->arg(0) >= 1 && n->arg(0) <= static_cast<std::int64_t>(view.n_carry))
      state[static_cast<std::size_t>(n->arg(0)) - 1] = n;
  }
  for (Node* n : order)
    if (!relate(c, n)) return {};
  // What a step makes of a member is that member.
  for (std::size_t i = 0; i < view.n_carry; ++i)
    if (state[i])
      for (std::size_t a = 0; a < state[i]->n_dim; ++a) same(c, state[i], a, view.body()->src(i), a);

  const auto outputs = view.body()->src().first(view.n_carry + view.n_out);
  Members m;
  std::vector<std::size_t> roots;
  for (std::size_t a = 0; a < outputs[0]->n_dim; ++a) {
    const std::int64_t extent = outputs[0]->shape()[a];
    if (extent < kFew || c.joined(c.root(outputs[0], a))) continue;
    // Places of outputs that have nothing to do with each other are paired.
    for (const Node* n : outputs)
      for (std::size_t b = 0; b < n->n_dim && axis_in(c, n, c.root(outputs[0], a)) == kNone; ++b)
        if (n->shape()[b] == extent && !c.joined(c.root(n, b)) &&
            std::ranges::find(roots, c.root(n, b)) == roots.end())
          c.unite(outputs[0], a, n, b);
    const std::size_t root = c.root(outputs[0], a);
    const bool everywhere =
        std::ranges::all_of(outputs, [&](Node* n) { return axis_in(c, n, root) != kNone; });
    const bool once = std::ranges::none_of(order, [&](Node* n) { return has_two(c, n, root); });
    if (everywhere && once) roots.push_back(root);
  }
  if (roots.empty()) return {};
  // Lanes go along the last loop: along the last axis, where places lie side by side, unless it is short.
  constexpr std::int64_t kLong = 64;
  const auto extent = [&](std::size_t root) { return outputs[0]->shape()[axis_in(c, outputs[0], root)]; };
  if (extent(roots.back()) < kLong)
    std::ranges::stable_sort(roots, [&](std::size_t x, std::size_t y) { return extent(x) < extent(y); });
  for (const std::size_t root : roots) m.extents.push_back(extent(root));
  for (const Node* n : outputs) {
    m.axes.emplace_back();
    for (const std::size_t root : roots) m.axes.back().push_back(axis_in(c, n, root));
  }
  for (Node* n : order) {
    std::int64_t size = 1;
    for (std::size_t a = 0; a < n->n_dim; ++a)
      if (std::ranges::find(roots, c.root(n, a)) == roots.end()) size *= n->shape()[a];
    m.elements.insert(n, size);
  }
  return m;
}

}  // namespace tinyphys
