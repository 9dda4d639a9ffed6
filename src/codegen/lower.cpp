// The driver: LAMBDA to Kernel. lower_kernel() at the end is the list of passes, in order.
#include <algorithm>

#include "codegen/kernel.hpp"
#include "codegen/passes.hpp"
#include "codegen/rangeify.hpp"
#include "schedule/fusion.hpp"
#include "support/env.hpp"
#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"
#include "uop/spec.hpp"

namespace tinyphys {
namespace {

[[noreturn]] void refuse(const std::string& why) { throw Error("compile", why, "", 0); }

// Output axes as groups of neighbours; each group is one loop.
using Groups = std::vector<std::pair<std::size_t, std::size_t>>;

struct Attempt {
  KernelGraph graph;
  bool outputs_split = false;           // a loop over several output axes had to be taken apart by division
  std::set<const Node*> reduces_split;  // the same for reductions
};

// Pairs that are put together of two values, as complex numbers of their parts.
bool makes_pairs(const Node* lambda) {
  const auto shape = lambda->src(0)->shape();
  if (shape.size() < 2 || shape.back() != 2 || lambda->src(0)->size() <= 2) return false;
  std::vector<const Node*> todo(lambda->src().begin(), lambda->src().end());
  NodeMap<char> seen;
  while (!todo.empty()) {
    const Node* n = todo.back();
    todo.pop_back();
    if (!seen.insert(n, 1)) continue;
    if (n->op == Op::CAT && n->arg(0) == static_cast<std::int64_t>(shape.size()) - 1) return true;
    if (is_elementwise(n->op)) todo.insert(todo.end(), n->src().begin(), n->src().end());
  }
  return false;
}

// Short axes of long sums, as the components of a force: each place has a sum of its own, in the same loops. And the parts of
// pairs, which are two values for each step of the loop over the others.
std::vector<bool> axes_written_out(const Node* lambda) {
  const auto shape = lambda->src(0)->shape();
  std::vector<bool> out(shape.size(), false);
  if (makes_pairs(lambda)) {
    out.back() = true;
    return out;
  }
  for (const Node* n : lambda->src())
    if (n->op != Op::REDUCE || n->size() == 0 || n->src(0)->size() / n->size() < kWrittenOut) return out;
  std::int64_t places = 1, others = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    out[i] = shape[i] > 1 && places * shape[i] <= kFewTerms;
    (out[i] ? places : others) *= shape[i];
  }
  if (others == 1) out.assign(shape.size(), false);  // nothing is left to put into lanes or to share out
  return out;
}

Attempt lower_map(const Node* lambda, const Groups& groups, const std::set<const Node*>& apart) {
  Attempt a;
  KernelGraph& k = a.graph;
  k.math = std::make_shared<IndexMath>();
  IndexMath& math = *k.math;
  Rangeify rangeify(math, false);
  for (const Node* n : apart) rangeify.keep_axes_apart(n);

  const auto shape = lambda->src(0)->shape();
  const std::vector<bool> written_out = axes_written_out(lambda);
  LoopNest nest;
  std::vector<UOp> index(shape.size());
  std::vector<Node*> merged;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    std::int64_t extent = 1;
    int axes = 0;
    for (std::size_t i = groups[g].first; i < groups[g].second; ++i) {
      if (written_out[i]) continue;
      extent *= shape[i];
      axes += shape[i] != 1;
    }
    UOp flat = math.number(0);
    if (extent > 1) {
      flat = math.range(static_cast<std::int64_t>(g), extent);
      nest.ranges.push_back(flat);
      if (axes > 1) merged.push_back(flat.get());
    }
    std::int64_t stride = extent;
    for (std::size_t i = groups[g].first; i < groups[g].second; ++i) {
      if (written_out[i]) continue;
      stride /= shape[i];
      index[i] = math.mod(math.div(flat, stride), shape[i]);
    }
  }
  std::int64_t places = 1;  // of the axes that are written out
  for (std::size_t i = 0; i < shape.size(); ++i)
    if (written_out[i]) places *= shape[i];
  for (std::int64_t place = 0; place < places; ++place) {
    std::int64_t rest = place;
    for (std::size_t i = shape.size(); i-- > 0;)
      if (written_out[i]) {
        index[i] = math.number(rest % shape[i]);
        rest /= shape[i];
      }
    UOp at = math.number(0);
    for (std::size_t i = 0; i < shape.size(); ++i) at = math.add(math.mul(at, shape[i]), index[i]);
    for (std::size_t o = 0; o < lambda->n_src; ++o)
      nest.stores.push_back(
          make(Op::STORE, {at, rangeify.lower(lambda->src(o), index)}, {static_cast<std::int64_t>(o)}));
  }

  std::vector<Node*> roots;
  for (const UOp& s : nest.stores) roots.push_back(s.get());
  const std::vector<Node*> order = toposort(roots);
  NodeMap<std::vector<Node*>> below;  // merged ranges under a node
  for (Node* n : order) {
    std::vector<Node*> mine;
    auto add = [&](Node* r) {
      if (std::find(mine.begin(), mine.end(), r) == mine.end()) mine.push_back(r);
    };
    if (n->op == Op::RANGE &&
        (std::find(merged.begin(), merged.end(), n) != merged.end() || rangeify.collapsed().contains(n)))
      add(n);
    // A reduction binds its ranges; what it reads was looked at below.
    if (n->op != Op::ACCUMULATE && n->op != Op::LOAD)
      for (Node* s : n->src())
        for (Node* r : below.at(s)) add(r);
    if (math.is_split(n))
      for (Node* r : mine) {
        if (std::find(merged.begin(), merged.end(), r) != merged.end()) a.outputs_split = true;
        if (auto it = rangeify.collapsed().find(r); it != rangeify.collapsed().end())
          a.reduces_split.insert(it->second.begin(), it->second.end());
      }
    below.insert(n, std::move(mine));
  }
  k.nests.push_back(std::move(nest));
  return a;
}

// Tensor to loops. Neighbouring axes share a loop where every access allows: one long loop instead of several
// short ones. Tried from all-in-one; an attempt costs microseconds.
KernelGraph pass_rangeify(const Node* lambda) {
  std::set<const Node*> apart;
  auto attempt = [&](const Groups& g) {
    for (;;) {
      Attempt a = lower_map(lambda, g, apart);
      const std::size_t before = apart.size();
      apart.insert(a.reduces_split.begin(), a.reduces_split.end());
      if (apart.size() == before) return a;
    }
  };
  const std::size_t rank = lambda->src(0)->shape().size();
  Groups groups;
  if (rank > 0) groups.emplace_back(0, rank);
  Attempt best = attempt(groups);
  if (!best.outputs_split) return std::move(best.graph);
  groups.clear();
  for (std::size_t i = 0; i < rank; ++i) groups.emplace_back(i, i + 1);
  best = attempt(groups);
  for (std::size_t i = rank - 1; i-- > 0;) {
    Groups tried = groups;
    tried[i].second = tried[i + 1].second;
    tried.erase(tried.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    Attempt a = attempt(tried);
    if (a.outputs_split) continue;
    groups = std::move(tried);
    best = std::move(a);
  }
  return std::move(best.graph);
}

// A SCAN to one LOOP over scalars, with stores of the last carry after it and of stacked outputs inside; where it has members,
// one LOOP for each.
KernelGraph pass_unroll_scan(const Node* lambda) {
  KernelGraph k;
  k.math = std::make_shared<IndexMath>();
  k.is_scan = true;
  IndexMath& math = *k.math;
  Rangeify rangeify(math, true);
  Node* scan = lambda->src(0)->src(0);
  const ScanView view(scan);
  const Rangeify::ScanBody body = rangeify.scan_body(scan, members_of(scan));
  std::map<std::int64_t, std::int64_t> output_of;  // GET number -> output
  for (std::size_t o = 0; o < lambda->n_src; ++o) {
    if (lambda->src(o)->op != Op::GET || lambda->src(o)->src(0) != scan)
      refuse("the outputs of a scan kernel must be GETs of one SCAN");
    if (!output_of.emplace(lambda->src(o)->arg(0), static_cast<std::int64_t>(o)).second)
      refuse("a scan kernel has an output twice");
  }
  std::vector<UOp> src{param(kFirstStep, DType::kInt64, {}, true), param(kLastStep, DType::kInt64, {}, true)};
  src.insert(src.end(), body.initial.begin(), body.initial.end());
  src.insert(src.end(), body.next.begin(), body.next.end());
  const auto n_states = static_cast<std::int64_t>(body.next.size());
  Dims arg{body.id, n_states};
  if (body.until) {
    src.push_back(body.until);
    arg.push_back(1);
  }
  for (std::size_t i = 0; i < body.stacked.size(); ++i)
    if (auto it = output_of.find(body.out_of[i]); it != output_of.end())
      src.push_back(make(Op::STORE, {body.stacked[i].first, body.stacked[i].second}, {it->second}));
  const UOp loop = make(Op::LOOP, std::span<const UOp>(src), arg);
  LoopNest nest;
  nest.ranges = body.ranges;
  nest.stores.push_back(loop);  // also when no carry is asked for
  for (std::size_t i = 0; i < body.places.size(); ++i) {
    const auto& [carry, at] = body.places[i];
    if (const auto it = output_of.find(static_cast<std::int64_t>(carry)); it != output_of.end())
      nest.stores.push_back(make(Op::STORE, {at, get(loop, static_cast<std::int64_t>(i))}, {it->second}));
  }
  k.nests.push_back(std::move(nest));
  return k;
}

}  // namespace

Kernel lower_kernel(const UOp& lambda, const Target& target) {
  if (lambda->op != Op::LAMBDA || lambda->n_src == 0) refuse("a kernel is a LAMBDA with outputs");
  const Node* first = lambda->src(0);
  const bool is_scan = first->op == Op::GET;
  for (Node* o : lambda->src())
    if (!is_scan && !same_shape(o, first)) refuse("the outputs of a kernel must have one shape");

  Kernel kernel;
  kernel.is_scan = is_scan;
  kernel.params.resize(static_cast<std::size_t>(lambda->arg(0)), DType::kVoid);
  for (Node* n : toposort(std::span<Node* const>(lambda->src()))) {
    if (n->op == Op::PARAM) kernel.params[static_cast<std::size_t>(n->arg(0))] = n->dtype;
  }
  for (Node* o : lambda->src()) kernel.outputs.push_back(o->dtype);
  if (!is_scan && first->size() == 0) return kernel;  // nothing to store, nothing to run

  KernelGraph graph = is_scan ? pass_unroll_scan(lambda.get()) : pass_rangeify(lambda.get());
  graph.n_params = lambda->arg(0);
  graph.n_outputs = static_cast<std::int64_t>(lambda->n_src);
  if (is_scan) {
    pass_put_members_in_lanes(graph, target);
    kernel.has_members = !graph.nests[0].ranges.empty();
  } else {
    pass_split_rolled_loads(graph);
    pass_split_long_reductions(graph);
    pass_choose_lanes(graph, target);
    // Memory is as wide again where a line that is written is not read before. Not where somebody reads it soon.
    constexpr std::size_t kBeyondCaches = std::size_t{32} << 20;
    graph.nests.back().streams =
        static_cast<std::size_t>(first->size()) * item_size(first->dtype) >= kBeyondCaches;
  }
  pass_choose_parallel(graph, target);

  for (const LoopNest& nest : graph.nests) {
    if (env::verify()) {
      std::vector<Node*> roots;
      for (const UOp& s : nest.stores) roots.push_back(s.get());
      verify(roots, Stage::kKernel);
    }
    const Program program = linearize(nest, *graph.math);
    kernel.parts.push_back({lower_operations(program, target.render), nest.units, nest.cost_ns});
    for (const UOp& s : nest.stores)
      if (s->op == Op::STORE && s->arg(0) >= graph.n_outputs) {
        kernel.params.push_back(s->src(1)->dtype);
        kernel.outputs.push_back(s->src(1)->dtype);
      }
  }
  kernel.scratch = graph.scratch;
  return kernel;
}

bool fits_scan_kernel(const Node* scan, long& scalar_ops) {
  struct Level {
    const Node* scan;
    bool inner;
  };
  std::vector<Level> todo{{scan, false}};
  scalar_ops = 0;
  long carry = 0;
  for (std::size_t next = 0; next < todo.size(); ++next) {
    const Level at = todo[next];
    const ScanView view(at.scan);
    if (view.has_until && view.n_out > 0) return false;  // nobody would clear the rows that no step writes
    // An end that never comes asks for a loop of kernels (derive/fixed_point.cpp).
    if (view.has_until && is_const(view.body()->src().back())) return false;
    const Members members = at.inner ? Members() : members_of(at.scan);
    const auto size = [&](const Node* n) { return static_cast<long>(members.of(n)); };
    for (Node* c : view.body()->src().first(view.n_carry)) carry += size(c);
    for (Node* n : toposort(std::span<Node* const>(view.body()->src()))) {
      auto sources = [&] {
        long most = size(n);
        for (Node* s : n->src()) most = std::max(most, size(s));
        return most;
      };
      switch (n->op) {
        case Op::LAMBDA:
        case Op::PARAM:
        case Op::CONST:
        case Op::IOTA: continue;
        case Op::SCAN: todo.push_back({n, true}); continue;
        case Op::GET:
          if (n->src(0)->op != Op::SCAN || n->arg(0) >= n->src(0)->arg(0)) return false;
          continue;
        case Op::MATMUL: scalar_ops += 2 * size(n) * static_cast<long>(n->src(0)->shape().back()); break;
        case Op::CUMSUM:
          scalar_ops += size(n) * static_cast<long>(n->shape()[static_cast<std::size_t>(n->arg(0))]);
          break;
        case Op::GATHER: scalar_ops += size(n) * (is_const(n->src(1)) ? 1 : size(n->src(0))); break;
        case Op::REDUCE: scalar_ops += sources(); break;
        default:
          if (is_movement(n->op)) break;  // nothing at run time
          if (!is_elementwise(n->op)) return false;
          scalar_ops += size(n);
      }
      if (scalar_ops > kMaxScanOps) return false;
    }
    if (carry > kMaxScanCarry) return false;
    if (at.inner)
      for (Node* s : at.scan->src().subspan(2))  // read with an index that is known at run time only
        if (s->size() > kMaxScanCarry) return false;
  }
  return true;
}

}  // namespace tinyphys
