#include "codegen/rangeify.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <string>

#include "schedule/fusion.hpp"
#include "tinyphys/error.hpp"
#include "uop/evaluate.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// Ids of reduce ranges are level * kLevel + number of the loop: ranges of a reduction inside another differ from its own,
// and reductions of equal extents side by side share theirs, so that they fuse into one loop.
constexpr std::int64_t kLevel = 64;
// A kernel that grows beyond this is a mistake of the scheduler (exponential recomputation).
constexpr std::size_t kMaxScalars = 400'000;

// Taken in float64 and rounded once.
bool is_long_sum(DType d, std::int64_t length) { return d == DType::kFloat32 && length > kSequentialSum; }

UOp cast(const UOp& x, DType d) {
  return x->dtype == d ? x : make(Op::CAST, {x}, {static_cast<std::int64_t>(d)});
}

bool is_true(const UOp& u) { return is_const(u.get()) && const_int(u.get()) != 0; }
bool is_false(const UOp& u) { return is_const(u.get()) && const_int(u.get()) == 0; }

}  // namespace

Op reduction_op(Reduction kind) {
  switch (kind) {
    case Reduction::kSum: return Op::ADD;
    case Reduction::kProd: return Op::MUL;
    case Reduction::kMax: return Op::MAX;
    case Reduction::kMin: return Op::MIN;
  }
  return Op::ADD;
}

UOp reduction_identity(Reduction kind, DType d) {
  const double inf = std::numeric_limits<double>::infinity();
  switch (kind) {
    case Reduction::kSum: return constant(0.0, d);
    case Reduction::kProd: return constant(1.0, d);
    case Reduction::kMax:
      if (is_float(d)) return constant(-inf, d);
      if (d == DType::kInt32) return constant_int(std::numeric_limits<std::int32_t>::min(), d);
      return d == DType::kBool ? constant_bool(false)
                               : constant_int(std::numeric_limits<std::int64_t>::min(), d);
    case Reduction::kMin:
      if (is_float(d)) return constant(inf, d);
      if (d == DType::kInt32) return constant_int(std::numeric_limits<std::int32_t>::max(), d);
      return d == DType::kBool ? constant_bool(true)
                               : constant_int(std::numeric_limits<std::int64_t>::max(), d);
  }
  return {};
}

int Rangeify::tuple(std::vector<UOp> index) {
  std::vector<Node*> key;
  for (const UOp& u : index) key.push_back(u.get());
  auto [it, fresh] = tuple_ids_.try_emplace(std::move(key), static_cast<int>(tuples_.size()));
  if (fresh) tuples_.push_back(std::move(index));
  return it->second;
}

Rangeify::Task Rangeify::child(const Frame& f, std::size_t i, std::vector<UOp> index, const UOp& gate) {
  Node* g = f.task.gate;
  if (gate) {
    const UOp both = math_.both(g ? UOp::share(g) : UOp(), gate);
    kept_.push_back(both);
    g = is_true(both) ? nullptr : both.get();
  }
  return {f.task.node->src(i), tuple(std::move(index)), g};
}

UOp Rangeify::lower(Node* n, std::vector<UOp> index) {
  const Task root{n, tuple(std::move(index)), nullptr};
  std::vector<Frame> stack;
  stack.push_back({root, 0, {}, {}});
  while (!stack.empty()) {
    if (done_.contains(stack.back().task)) {
      stack.pop_back();
      continue;
    }
    const bool ready = expand(stack.back());
    bool waiting = false;
    // In reverse, so that the first source is lowered first: the order of the text follows the graph.
    const std::vector<Task> sources = stack.back().sources;
    for (std::size_t i = sources.size(); i-- > 0;)
      if (!done_.contains(sources[i])) {
        stack.push_back({sources[i], 0, {}, {}});
        waiting = true;
      }
    if (waiting || !ready) continue;
    const Task task = stack.back().task;
    count_visited(1);
    UOp result = finish(stack.back());
    done_.emplace(task, std::move(result));
    stack.pop_back();
    if (done_.size() > kMaxScalars)
      throw Error("compile", "a kernel grew beyond " + std::to_string(kMaxScalars) + " scalar values", "", 0);
  }
  return value(root);
}

bool Rangeify::expand(Frame& f) {
  Node* n = f.task.node;
  const int stage = f.stage++;
  if (n->op == Op::GATHER) {
    // x at (outer, index value, inner): the index first.
    const auto axis = static_cast<std::size_t>(n->arg(0));
    const std::vector<UOp> idx = tuples_[static_cast<std::size_t>(f.task.index)];
    const std::size_t n_index = n->src(1)->shape().size();
    const auto first = idx.begin() + n->arg(0), last = first + static_cast<std::ptrdiff_t>(n_index);
    if (stage == 0) {
      f.sources = {child(f, 1, {first, last})};
      return false;
    }
    if (stage > 1) return true;
    const std::int64_t extent = n->src(0)->shape()[axis];
    UOp at = value(f.sources[0]);
    if (at->dtype != DType::kInt64)
      at = is_const(at.get()) ? constant_int(const_int(at.get()))
                              : make(Op::CAST, {at}, {std::int64_t(DType::kInt64)});
    if (math_.bounds(at.get()).lo < 0) at = math_.where(math_.less(at, 0), math_.add(at, extent), at);
    std::vector<UOp> from(idx.begin(), first);
    from.push_back(math_.clamp(at, extent));
    from.insert(from.end(), last, idx.end());
    f.sources = {child(f, 0, std::move(from))};
    return true;
  }
  if (stage > 0) return true;
  if (is_elementwise(n->op)) {
    for (std::size_t i = 0; i < n->n_src; ++i) f.sources.push_back(child(f, i));
    return true;
  }
  if (is_movement(n->op)) {
    n->op == Op::CAT ? expand_cat(f) : expand_movement(f);
    return true;
  }
  switch (n->op) {
    case Op::REDUCE:
    case Op::CUMSUM: expand_reduce(f); return true;
    case Op::MATMUL: expand_matmul(f); return true;
    default: return true;
  }
}

void Rangeify::expand_movement(Frame& f) {
  Node* n = f.task.node;
  const std::vector<UOp> idx = tuples_[static_cast<std::size_t>(f.task.index)];
  const auto shape = n->src(0)->shape();
  std::vector<UOp> from;
  UOp gate;
  switch (n->op) {
    case Op::PERMUTE:
      from.resize(idx.size());
      for (std::size_t i = 0; i < idx.size(); ++i) from[static_cast<std::size_t>(n->arg(i))] = idx[i];
      break;
    case Op::EXPAND:
      for (std::size_t i = 0; i < idx.size(); ++i) from.push_back(shape[i] == 1 ? math_.number(0) : idx[i]);
      break;
    case Op::SLICE:
      for (std::size_t i = 0; i < idx.size(); ++i)
        from.push_back(math_.add(math_.mul(idx[i], n->arg(3 * i + 2)), n->arg(3 * i)));
      break;
    case Op::ROLL: {
      from = idx;
      const auto axis = static_cast<std::size_t>(n->arg(0));
      const std::int64_t shift = n->arg(1), extent = shape[axis];
      if (shift != 0)
        from[axis] = math_.where(math_.less(idx[axis], shift), math_.add(idx[axis], extent - shift),
                                 math_.add(idx[axis], -shift));
      break;
    }
    case Op::PAD:
      for (std::size_t i = 0; i < idx.size(); ++i) {
        const UOp at = math_.add(idx[i], -n->arg(1 + 2 * i));
        gate = math_.both(gate, math_.not_less(at, 0));
        gate = math_.both(gate, math_.less(at, shape[i]));
        from.push_back(at);
      }
      if (!gate) gate = constant_bool(true);
      f.extra = {gate};
      if (is_false(gate)) return;  // all fill
      break;
    default: {  // RESHAPE: groups of axes with equal products go by themselves
      const auto out = n->shape();
      if (n->size() == 0) {  // never run; only the form matters
        from.assign(shape.size(), math_.number(0));
        break;
      }
      std::size_t i = 0, j = 0;
      while (i < shape.size() || j < out.size()) {
        const std::size_t i0 = i, j0 = j;
        std::int64_t p = 1, q = 1;
        if (i < shape.size()) p = shape[i++];
        if (j < out.size()) q = out[j++];
        while (p != q) {
          if ((p < q && i < shape.size()) || j == out.size())
            p *= shape[i++];
          else
            q *= out[j++];
        }
        if (i - i0 == 1 && j - j0 == 1) {
          from.push_back(idx[j0]);
          continue;
        }
        const UOp flat = flat_index(std::span(idx).subspan(j0, j - j0), out.subspan(j0, j - j0));
        std::int64_t stride = p;
        for (std::size_t k = i0; k < i; ++k) {
          stride /= std::max<std::int64_t>(shape[k], 1);
          UOp part = math_.div(flat, std::max<std::int64_t>(stride, 1));
          if (k > i0) part = math_.mod(part, std::max<std::int64_t>(shape[k], 1));
          from.push_back(part);
        }
      }
      break;
    }
  }
  f.sources = {child(f, 0, std::move(from), gate)};
}

void Rangeify::expand_cat(Frame& f) {
  Node* n = f.task.node;
  const std::vector<UOp> idx = tuples_[static_cast<std::size_t>(f.task.index)];
  const auto axis = static_cast<std::size_t>(n->arg(0));
  std::int64_t offset = 0;
  // Pairs, as complex numbers are: both are made, at the one place that each has, and nothing has to be gated. What they share
  // is the same for both, so that no lane loads it for itself.
  const bool pairs =
      n->n_src == 2 && axis + 1 == n->n_dim && n->src(0)->shape()[axis] == 1 && n->src(1)->shape()[axis] == 1;
  if (pairs && !is_const(idx[axis].get())) {
    std::vector<UOp> from = idx;
    from[axis] = math_.number(0);
    for (const std::size_t i : {0, 1}) {
      f.sources.push_back(child(f, i, std::vector<UOp>(from), UOp()));
      f.extra.push_back(math_.less(idx[axis], static_cast<std::int64_t>(i) + 1));
    }
    return;
  }
  // Parts that cannot be reached are left out; extra holds the condition "before the end of part i".
  for (std::size_t i = 0; i < n->n_src; ++i) {
    const std::int64_t extent = n->src(i)->shape()[axis];
    std::vector<UOp> from = idx;
    from[axis] = math_.add(idx[axis], -offset);
    const UOp after_start = math_.not_less(from[axis], 0), before_end = math_.less(from[axis], extent);
    const UOp gate = math_.both(after_start, before_end);
    offset += extent;
    if (extent == 0 || is_false(gate)) continue;
    f.sources.push_back(child(f, i, std::move(from), gate));
    f.extra.push_back(before_end);
  }
}

int Rangeify::level(Node* n) {
  if (const int* known = levels_.find(n)) return *known;
  for (Node* x : toposort(UOp::share(n), [&](const Node* y) { return levels_.contains(y); })) {
    if (levels_.contains(x)) continue;
    int l = x->op == Op::RANGE ? static_cast<int>(x->arg(0) / kLevel) : 0;
    for (Node* s : x->src()) l = std::max(l, *levels_.find(s));
    kept_.push_back(UOp::share(x));
    levels_.insert(x, l);
  }
  return *levels_.find(n);
}

std::int64_t Rangeify::fresh_range_id(const Task& t) {
  int l = t.gate ? level(t.gate) : 0;
  for (const UOp& u : std::vector<UOp>(tuples_[static_cast<std::size_t>(t.index)]))
    l = std::max(l, level(u.get()));
  return (l + 1) * kLevel;
}

bool Rangeify::unrolls(const Node* n) const {
  const bool few = n->op == Op::REDUCE && n->size() > 0 && n->src(0)->size() / n->size() <= kFewTerms;
  return unroll_ || (few && n->src(0)->size() > 0);
}

void Rangeify::expand_reduce(Frame& f) {
  Node* n = f.task.node;
  const std::vector<UOp> idx = tuples_[static_cast<std::size_t>(f.task.index)];
  const auto shape = n->src(0)->shape();
  std::vector<std::size_t> axes;
  if (n->op == Op::CUMSUM)
    axes.push_back(static_cast<std::size_t>(n->arg(0)));
  else
    for (std::size_t k = 1; k < n->n_arg; ++k) axes.push_back(static_cast<std::size_t>(n->arg(k)));
  auto reduced = [&](std::size_t i) { return std::find(axes.begin(), axes.end(), i) != axes.end(); };

  if (unrolls(n)) {
    Dims at(shape.size(), 0);
    std::int64_t count = 1;
    for (std::size_t a : axes) count *= shape[a];
    if (n->op == Op::CUMSUM) {
      if (!is_const(idx[axes[0]].get()))
        throw Error("compile", "cumsum at an index that depends on state", "", 0);
      count = const_int(idx[axes[0]].get()) + 1;
    }
    for (std::int64_t flat = 0; flat < count; ++flat) {
      std::int64_t rest = flat;
      for (std::size_t k = axes.size(); k-- > 0;) {
        at[axes[k]] = rest % shape[axes[k]];
        rest /= shape[axes[k]];
      }
      std::vector<UOp> from;
      for (std::size_t i = 0, j = 0; i < shape.size(); ++i) {
        const bool own = reduced(i);
        if (own) from.push_back(math_.number(at[i]));
        if (!own || n->op == Op::CUMSUM) {
          if (!own) from.push_back(idx[j]);
          ++j;
        }
      }
      f.sources.push_back(child(f, 0, std::move(from)));
    }
    return;
  }

  std::int64_t id = fresh_range_id(f.task);
  std::vector<UOp> own(shape.size());
  for (std::size_t k = 0; k < axes.size();) {
    // Axes next to each other become one loop, unless that was found to split indices below.
    std::size_t end = k + 1;
    if (!apart_.contains(n))
      while (end < axes.size() && axes[end] == axes[end - 1] + 1) ++end;
    std::int64_t extent = 1;
    std::size_t loops = 0;
    for (std::size_t m = k; m < end; ++m) {
      extent *= shape[axes[m]];
      loops += shape[axes[m]] != 1;
    }
    if (extent == 0) {  // nothing to add up
      f.extra.clear();
      f.extra.push_back(UOp());
      return;
    }
    if (extent == 1) {
      for (std::size_t m = k; m < end; ++m) own[axes[m]] = math_.number(0);
    } else {
      const UOp range = math_.range(id++, extent);
      f.extra.push_back(range);
      if (loops > 1) collapsed_[range.get()].push_back(n);
      std::int64_t stride = extent;
      for (std::size_t m = k; m < end; ++m) {
        stride /= shape[axes[m]];
        own[axes[m]] = math_.mod(math_.div(range, stride), shape[axes[m]]);
      }
    }
    k = end;
  }
  std::vector<UOp> from;
  for (std::size_t i = 0, j = 0; i < shape.size(); ++i) {
    if (reduced(i)) {
      from.push_back(own[i]);
      if (n->op == Op::CUMSUM) ++j;
    } else {
      from.push_back(idx[j++]);
    }
  }
  f.sources = {child(f, 0, std::move(from))};
}

void Rangeify::expand_matmul(Frame& f) {
  Node* n = f.task.node;
  const std::vector<UOp> idx = tuples_[static_cast<std::size_t>(f.task.index)];
  const std::size_t r = idx.size();
  const std::int64_t inner = n->src(0)->shape()[r - 1];
  auto product = [&](const UOp& k) {
    std::vector<UOp> a = idx, b = idx;
    a[r - 1] = k;
    b[r - 2] = k;
    f.sources.push_back(child(f, 0, std::move(a)));
    f.sources.push_back(child(f, 1, std::move(b)));
  };
  if (unroll_) {
    for (std::int64_t k = 0; k < inner; ++k) product(math_.number(k));
    return;
  }
  if (inner == 0) {
    f.extra = {UOp()};
    return;
  }
  const UOp range = inner == 1 ? math_.number(0) : math_.range(fresh_range_id(f.task), inner);
  if (inner > 1) f.extra = {range};
  product(range);
}

// What pairs (i, j) and (j, i) have in common is one node, by identities of IEEE arithmetic that hold to the bit:
// a + b = b + a, a b = b a, and (a - b)^2 = (b - a)^2.
void Rangeify::share_mirrored(const Node* n, std::vector<UOp>& src) {
  const auto sort = [&](UOp& a, UOp& b) {
    const int first = math_.serial(a.get()), second = math_.serial(b.get());
    if (second < first) std::swap(a, b);
  };
  const bool commutes = n->op == Op::ADD || n->op == Op::MUL;
  const bool even =
      n->op == Op::ABS || (n->op == Op::POWI && n->arg(0) % 2 == 0) || (n->op == Op::MUL && src[0] == src[1]);
  if (even && is_float(n->dtype) && src[0]->op == Op::SUB) {
    UOp a = src[0].src(0), b = src[0].src(1);
    sort(a, b);
    src.assign(src.size(), make(Op::SUB, {a, b}));
  } else if (commutes && !is_const(src[0].get()) && !is_const(src[1].get())) {
    sort(src[0], src[1]);
  }
}

UOp Rangeify::elementwise(Node* n, std::span<const UOp> src) {
  if (n->op == Op::WHERE && is_const(src[0].get())) return const_int(src[0].get()) ? src[1] : src[2];
  if (n->op == Op::AND) {
    if (is_true(src[0])) return src[1];
    if (is_true(src[1])) return src[0];
  }
  if (n->op == Op::OR) {
    if (is_false(src[0])) return src[1];
    if (is_false(src[1])) return src[0];
  }
  std::vector<UOp> in(src.begin(), src.end());
  share_mirrored(n, in);
  UOp u = make(n->op, in, n->arg());
  // Integers are folded: they may become indices, and conditions on numbers decide WHEREs above.
  bool fold = !is_float(u->dtype);
  for (const UOp& s : src) fold = fold && is_const(s.get()) && !is_float(s->dtype);
  return fold ? constant_int(evaluate<double>(u).integer[0], u->dtype) : u;
}

UOp Rangeify::flat_index(std::span<const UOp> index, std::span<const std::int64_t> shape) {
  UOp flat = math_.number(0);
  for (std::size_t i = 0; i < index.size(); ++i) flat = math_.add(math_.mul(flat, shape[i]), index[i]);
  return flat;
}

UOp Rangeify::load(Node* p, int index, Node* gate) {
  if (p->arg(2) == 1) return UOp::share(p);  // a scalar slot is a value already
  const UOp at = flat_index(std::vector<UOp>(tuples_[static_cast<std::size_t>(index)]), p->shape());
  if (gate) return make(Op::LOAD, {UOp::share(p), at, UOp::share(gate)});
  return make(Op::LOAD, {UOp::share(p), at});
}

UOp Rangeify::state(Node* symbol, int index) {
  const Binding* b = bindings_.find(symbol);
  if (!b) throw Error("compile", "a kernel holds an open symbol", "", 0);
  auto number = [&](std::int64_t i) {
    return make(Op::STATE, {}, {b->loop, b->offset + i, static_cast<std::int64_t>(symbol->dtype)});
  };
  if (b->offset < 0) return number(0);  // the step
  const std::vector<UOp> idx = tuples_[static_cast<std::size_t>(index)];
  std::vector<UOp> own;
  Dims shape;
  for (std::size_t a = 0; a < idx.size(); ++a) {
    const auto member = std::ranges::find(b->axes, a);
    if (member == b->axes.end()) {
      own.push_back(idx[a]);
      shape.push_back(symbol->shape()[a]);
    } else if (idx[a] != ranges_[static_cast<std::size_t>(member - b->axes.begin())]) {
      throw Error("compile", "a step joins the members of its scan", "", 0);
    }
  }
  const UOp at = flat_index(own, shape);
  if (is_const(at.get())) return number(const_int(at.get()));
  const std::int64_t size = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  UOp v = number(0);
  for (std::int64_t i = 1; i < size; ++i)
    v = make(Op::WHERE, {make(Op::EQ, {at, math_.number(i)}), number(i), v});
  return v;
}

// Differences have their first-met part first: a - b and b - a, and products with them, are one value and a sign.
Rangeify::Signed Rangeify::without_sign(const UOp& v, int depth) {
  constexpr int kDepth = 16;
  if (depth == kDepth || !is_float(v->dtype)) return {false, v};
  const auto inside = [&](std::size_t i) { return without_sign(v.src(i), depth + 1); };
  const auto made = [&](bool minus, std::initializer_list<UOp> parts) {
    std::vector<UOp> src(parts);
    bool same = true;
    for (std::size_t i = 0; i < src.size(); ++i) same &= src[i] == v.src(i);
    if (same) return Signed{minus, v};
    share_mirrored(v.get(), src);
    return Signed{minus, make(v->op, src, v->arg())};
  };
  switch (v->op) {
    case Op::NEG: {
      const Signed x = inside(0);
      return {!x.minus, x.core};
    }
    case Op::SUB: {
      const int first = math_.serial(v->src(0)), second = math_.serial(v->src(1));
      return second < first ? made(true, {v.src(1), v.src(0)}) : Signed{false, v};
    }
    case Op::MUL: {
      const Signed x = inside(0), y = inside(1);
      return made(x.minus != y.minus, {x.core, y.core});
    }
    case Op::DIV: {
      const Signed x = inside(0);
      return made(x.minus, {x.core, v.src(1)});
    }
    case Op::CAST: {
      const Signed x = inside(0);
      return made(x.minus, {x.core});
    }
    default: return {false, v};
  }
}

UOp Rangeify::accumulate(Reduction kind, DType d, const UOp& v, std::span<const UOp> ranges) {
  if (ranges.empty()) return v;
  if (!ranges[0]) return reduction_identity(kind, d);
  std::int64_t length = 1;
  for (const UOp& r : ranges) length *= r->arg(1);
  if (kind == Reduction::kSum && is_long_sum(d, length))
    return cast(accumulate(kind, DType::kFloat64, cast(v, DType::kFloat64), ranges), d);
  // The sum of the negatives is the negative of the sum, to the bit: a sum is never -0, and what zeros its terms are does not
  // matter. So the forces on both sides of pairs are one sum.
  const Signed term = kind == Reduction::kSum ? without_sign(v) : Signed{false, v};
  if (term.minus) return make(Op::SUB, {constant(0.0, d), accumulate(kind, d, term.core, ranges)});
  std::vector<UOp> src{term.core};
  src.insert(src.end(), ranges.begin(), ranges.end());
  return make(Op::ACCUMULATE, src, std::vector<std::int64_t>{static_cast<std::int64_t>(kind)});
}

UOp Rangeify::combine(Reduction kind, DType d, std::vector<UOp> v) {
  if (v.empty()) return reduction_identity(kind, d);
  const Op op = reduction_op(kind);
  if (v.size() <= static_cast<std::size_t>(kSequentialSum)) {
    UOp sum = v[0];
    for (std::size_t i = 1; i < v.size(); ++i) sum = make(op, {sum, v[i]});
    return sum;
  }
  while (v.size() > 1) {  // by halves
    std::vector<UOp> half;
    for (std::size_t i = 0; i + 1 < v.size(); i += 2) half.push_back(make(op, {v[i], v[i + 1]}));
    if (v.size() % 2) half.push_back(v.back());
    v = std::move(half);
  }
  return v[0];
}

UOp Rangeify::finish(Frame& f) {
  Node* n = f.task.node;
  std::vector<UOp> src;
  for (const Task& t : f.sources) src.push_back(value(t));
  if (is_elementwise(n->op)) return elementwise(n, src);
  switch (n->op) {
    case Op::CONST: return UOp::share(n);
    case Op::PARAM: return load(n, f.task.index, f.task.gate);
    case Op::IOTA: return tuples_[static_cast<std::size_t>(f.task.index)][0];
    case Op::SYM: return state(n, f.task.index);
    case Op::RESHAPE:
    case Op::PERMUTE:
    case Op::EXPAND:
    case Op::SLICE:
    case Op::ROLL:
    case Op::GATHER: return src[0];
    case Op::PAD: {
      const UOp fill =
          is_float(n->dtype) ? constant(from_bits(n->arg(0)), n->dtype) : constant_int(n->arg(0), n->dtype);
      return src.empty() ? fill : math_.where(f.extra[0], src[0], fill);
    }
    case Op::CAT: {
      if (src.empty()) return constant(0.0, n->dtype);  // an empty result; never run
      UOp v = src.back();
      for (std::size_t i = src.size() - 1; i-- > 0;) v = math_.where(f.extra[i], src[i], v);
      return v;
    }
    case Op::REDUCE: {
      const auto kind = static_cast<Reduction>(n->arg(0));
      if (unrolls(n)) return combine(kind, n->dtype, std::move(src));
      return accumulate(kind, n->dtype, src.empty() ? UOp() : src[0], f.extra);
    }
    case Op::CUMSUM: {
      if (unroll_) {
        const bool wide = is_long_sum(n->dtype, static_cast<std::int64_t>(src.size()));
        if (wide)
          for (UOp& s : src) s = cast(s, DType::kFloat64);
        UOp sum = src[0];
        for (std::size_t i = 1; i < src.size(); ++i) sum = make(Op::ADD, {sum, src[i]});
        return cast(sum, n->dtype);
      }
      if (f.extra.empty()) return src[0];
      if (!f.extra[0]) return constant(0.0, n->dtype);
      const UOp i = tuples_[static_cast<std::size_t>(f.task.index)][static_cast<std::size_t>(n->arg(0))];
      const UOp upto = math_.less(f.extra[0], math_.add(i, 1));
      return accumulate(Reduction::kSum, n->dtype, math_.where(upto, src[0], constant(0.0, n->dtype)),
                        f.extra);
    }
    case Op::MATMUL: {
      if (!unroll_) {
        const UOp v = src.empty() ? UOp() : make(Op::MUL, {src[0], src[1]});
        return accumulate(Reduction::kSum, n->dtype, v, f.extra);
      }
      std::vector<UOp> products;
      for (std::size_t k = 0; k + 1 < src.size(); k += 2)
        products.push_back(make(Op::MUL, {src[k], src[k + 1]}));
      return combine(Reduction::kSum, n->dtype, std::move(products));
    }
    case Op::GET: {
      Node* scan = n->src(0);
      if (scan->op != Op::SCAN || !unroll_ || n->arg(0) >= scan->arg(0)) break;
      std::int64_t offset = 0;
      const ScanView view(scan);
      for (std::size_t c = 0; c < static_cast<std::size_t>(n->arg(0)); ++c) offset += view.carry()[c]->size();
      const UOp at =
          flat_index(std::vector<UOp>(tuples_[static_cast<std::size_t>(f.task.index)]), n->shape());
      const UOp whole = loop(scan);
      if (is_const(at.get())) return get(whole, offset + const_int(at.get()));
      UOp v = get(whole, offset);
      for (std::int64_t i = 1; i < n->size(); ++i)
        v = make(Op::WHERE, {make(Op::EQ, {at, math_.number(i)}), get(whole, offset + i), v});
      return v;
    }
    default: break;
  }
  throw Error("compile", "no kernel can hold " + std::string(name(n->op)), "", 0);
}

Rangeify::ScanBody Rangeify::scan_body(Node* scan, const Members& members) {
  const ScanView view(scan);
  ScanBody out;
  out.id = next_loop_++;
  out.step = make(Op::STATE, {}, {out.id, -1, static_cast<std::int64_t>(DType::kInt64)});
  // An index of xs below the number of steps needs no clamp.
  Bounds reach{0, std::numeric_limits<std::int64_t>::max()};
  for (Node* x : view.xs()) reach.hi = std::min(reach.hi, x->shape()[0] - 1);
  math_.set_bounds(out.step, reach);

  std::vector<UOp> args;
  const UOp index = symbol(DType::kInt64, {});
  bindings_.insert(index.get(), Binding{out.id, -1});
  args.push_back(index);
  for (std::size_t k = 0; k < members.extents.size(); ++k)
    out.ranges.push_back(math_.range(static_cast<std::int64_t>(k), members.extents[k]));
  ranges_ = out.ranges;
  const auto axes_of = [&](std::size_t output) {
    return members.axes.empty() ? std::vector<std::size_t>() : members.axes[output];
  };
  std::int64_t offset = 0, one = 1;
  for (const std::int64_t extent : members.extents) one *= extent;
  for (std::size_t c = 0; c < view.n_carry; ++c) {
    const Node* first = view.carry()[c];
    args.push_back(symbol(first->dtype, first->shape()));
    bindings_.insert(args.back().get(), Binding{out.id, offset, axes_of(c)});
    offset += first->size() / one;
  }
  for (Node* x : view.xs()) args.push_back(make(Op::GATHER, {UOp::share(x), index}, {0}));
  for (Node* c : view.captured()) args.push_back(UOp::share(c));
  const std::vector<UOp> body = tinyphys::apply(view.body(), args);
  kept_.insert(kept_.end(), args.begin(), args.end());
  kept_.insert(kept_.end(), body.begin(), body.end());

  // Every element of a member of output `i`, as an index.
  auto each = [&](std::size_t i, const Node* n, auto&& take) {
    const std::vector<std::size_t> axes = axes_of(i);
    std::vector<UOp> idx(n->n_dim);
    Dims at(n->n_dim, 0), shape = shape_of(n);
    for (std::size_t k = 0; k < axes.size(); ++k) {
      idx[axes[k]] = out.ranges[k];
      shape[axes[k]] = 1;
    }
    for (std::int64_t left = n->size() / one; left > 0; --left) {
      for (std::size_t a = 0; a < at.size(); ++a)
        if (std::ranges::find(axes, a) == axes.end()) idx[a] = math_.number(at[a]);
      take(idx);
      for (std::size_t d = at.size(); d-- > 0;) {
        if (++at[d] < shape[d]) break;
        at[d] = 0;
      }
    }
  };
  for (std::size_t i = 0; i < view.n_carry; ++i) {
    Node* c = view.carry()[i];
    each(i, c, [&](const std::vector<UOp>& idx) {
      out.initial.push_back(lower(c, idx));
      out.places.emplace_back(i, flat_index(idx, c->shape()));
    });
  }
  for (std::size_t i = 0; i < view.n_carry; ++i)
    each(i, body[i].get(),
         [&](const std::vector<UOp>& idx) { out.next.push_back(lower(body[i].get(), idx)); });
  if (view.has_until) out.until = lower(body.back().get(), {});
  for (std::size_t i = view.n_carry; i + view.has_until < body.size(); ++i)
    each(i, body[i].get(), [&](const std::vector<UOp>& idx) {
      const UOp row = math_.mul(out.step, body[i]->size());
      out.stacked.emplace_back(math_.add(row, flat_index(idx, body[i]->shape())), lower(body[i].get(), idx));
      out.out_of.push_back(static_cast<std::int64_t>(i));
    });
  return out;
}

UOp Rangeify::loop(Node* scan) {
  if (const UOp* known = loops_.find(scan)) return *known;
  const ScanBody body = scan_body(scan);
  std::vector<UOp> src{math_.number(0), lower(ScanView(scan).steps(), {})};
  src.insert(src.end(), body.initial.begin(), body.initial.end());
  src.insert(src.end(), body.next.begin(), body.next.end());
  Dims arg{body.id, static_cast<std::int64_t>(body.next.size())};
  if (body.until) {
    src.push_back(body.until);
    arg.push_back(1);
  }
  const UOp l = make(Op::LOOP, std::span<const UOp>(src), arg);
  kept_.push_back(UOp::share(scan));
  loops_.insert(scan, l);
  return l;
}

}  // namespace tinyphys
