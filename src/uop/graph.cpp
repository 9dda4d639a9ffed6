#include "uop/graph.hpp"

#include <array>
#include <cmath>

#include "support/small_vector.hpp"
#include "tinyphys/error.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {

namespace {
thread_local std::int64_t visited = 0;
}  // namespace

std::int64_t nodes_visited() { return visited; }
void count_visited(std::size_t nodes) { visited += static_cast<std::int64_t>(nodes); }

std::vector<Node*> toposort(std::span<Node* const> roots, const std::function<bool(const Node*)>& stop) {
  struct Frame {
    Node* node;
    std::uint32_t next;
  };
  std::vector<Node*> order;
  order.reserve(16);
  NodeMap<char> seen;
  SmallVector<Frame, 32> stack;
  for (Node* root : roots) {
    if (!seen.insert(root, 1)) continue;
    // A LAMBDA is entered only as a root.
    stack.push_back({root, stop && stop(root) ? root->n_src : 0});
    while (!stack.empty()) {
      Frame& f = stack.back();
      if (f.next < f.node->n_src) {
        Node* s = f.node->src(f.next++);
        if (seen.insert(s, 1)) {
          const bool leaf = (stop && stop(s)) || s->op == Op::LAMBDA;
          stack.push_back({s, leaf ? s->n_src : 0});
        }
      } else {
        order.push_back(f.node);
        stack.pop_back();
      }
    }
  }
  count_visited(order.size());
  return order;
}
std::vector<Node*> toposort(const UOp& root, const std::function<bool(const Node*)>& stop) {
  Node* r = root.get();
  return toposort(std::span<Node* const>(&r, 1), stop);
}

std::vector<UOp> rebuild(std::span<const UOp> roots, const Rebuild& how) {
  SmallVector<Node*, 8> starts;
  for (const UOp& r : roots) starts.push_back(r.get());
  NodeMap<UOp> done;
  NodeMap<char> lambdas;  // that are roots
  for (Node* n : starts)
    if (n->op == Op::LAMBDA) lambdas.insert(n, 1);
  // The stop predicate is asked once a node: the replacement is made there.
  const auto stop = [&](const Node* n) {
    UOp r = how.replace(const_cast<Node*>(n));
    if (!r) return false;
    done.insert(n, std::move(r));
    return true;
  };
  const auto order = how.replace ? toposort(starts, stop) : toposort(starts);
  SmallVector<Node*, 8> src;
  for (Node* n : order) {
    if (done.contains(n)) continue;
    if (n->op == Op::LAMBDA && !lambdas.contains(n)) {
      done.insert(n, UOp::share(n));
      continue;
    }
    LocationScope at(n->location.load(std::memory_order_relaxed));
    if (how.ready)
      if (UOp r = how.ready(n)) {
        done.insert(n, std::move(r));
        continue;
      }
    src.clear();
    bool changed = false;
    for (Node* s : n->src()) {
      src.push_back(done.at(s).get());
      changed |= src.back() != s;
    }
    UOp now = changed ? with_sources(n, src) : UOp::share(n);
    if (how.after)
      if (UOp r = how.after(n, now)) now = std::move(r);
    done.insert(n, std::move(now));
  }
  std::vector<UOp> out;
  out.reserve(roots.size());
  for (const UOp& r : roots) out.push_back(done.at(r.get()));
  return out;
}
UOp rebuild(const UOp& root, const Rebuild& how) {
  return rebuild(std::span<const UOp>(&root, 1), how).front();
}

std::vector<UOp> substitute(std::span<const UOp> roots, const std::function<UOp(Node*)>& replace) {
  return rebuild(roots, {.replace = replace});
}
UOp substitute(const UOp& root, const std::function<UOp(Node*)>& replace) {
  return substitute(std::span<const UOp>(&root, 1), replace).front();
}

std::vector<UOp> outputs_of(const Node* lambda) {
  std::vector<UOp> outputs;
  for (Node* s : lambda->src()) outputs.push_back(UOp::share(s));
  return outputs;
}
UOp with_outputs(const Node* lambda, std::span<const UOp> outputs) {
  return make(Op::LAMBDA, outputs, lambda->arg());
}

UOp lambda_of(std::span<const UOp> outputs, std::size_t n_params) {
  const auto n = static_cast<std::int64_t>(n_params);
  return make(Op::LAMBDA, outputs, std::span<const std::int64_t>(&n, 1));
}

std::vector<UOp> apply(const Node* lambda, std::span<const UOp> args) {
  return substitute(outputs_of(lambda), [&](Node* n) {
    return n->op == Op::PARAM ? args[static_cast<std::size_t>(n->arg(0))] : UOp();
  });
}

bool is_structural_const(const Node* n) {
  if (n->op != Op::CONST) return false;
  if (n->dtype == DType::kBool) return true;
  const double v = const_double(n);
  if (v == 0) return !std::signbit(v);
  const double a = std::fabs(v);
  return a == 1 || a == 2 || v == 0.5;
}

UOp close_lambda(std::span<const UOp> outputs, std::span<const UOp> params, std::vector<UOp>& captured,
                 std::vector<Labels::Place>* places) {
  constexpr std::uint8_t kFree = Node::kHasBuffer | Node::kHasSym | Node::kHasParam;
  NodeMap<UOp> replaced;
  bool only_symbols = true;
  for (std::size_t i = 0; i < params.size(); ++i) {
    const Node* p = params[i].get();
    only_symbols &= p->op == Op::SYM;
    replaced.insert(p, param(static_cast<std::int64_t>(i), p->dtype, p->shape()));
  }
  std::vector<Node*> roots;
  for (const UOp& o : outputs) roots.push_back(o.get());

  // depends: below n there is a param. Data without a symbol cannot hold one when all params are symbols.
  NodeMap<char> depends, steps;
  const auto order = toposort(roots, [&](const Node* n) {
    return replaced.contains(n) || (only_symbols && (n->flags & kFree) && !(n->flags & Node::kHasSym));
  });
  for (Node* n : order) {
    char d = replaced.contains(n);
    if (n->op != Op::LAMBDA)
      for (Node* s : n->src())
        if (const char* below = depends.find(s)) d |= *below;
    depends.insert(n, d);
    // The number of steps of an inner loop stays a number: it is an extent of what the loop stacks, and of its tape.
    if (n->op == Op::SCAN || n->op == Op::SCAN_VJP) steps.insert(n->src(1), 1);
    if (n->op == Op::EVOLVE || n->op == Op::EVOLVE_VJP) steps.insert(n->src(2), 1);
  }

  std::size_t n_params = params.size();
  auto capture = [&](Node* n) {
    // An expanded value is captured before its expansion: fewer bytes, and its scalar stays a scalar.
    while (n->op == Op::EXPAND || (n->op == Op::RESHAPE && n->size() == 1)) n = n->src(0);
    if (replaced.contains(n)) return;
    replaced.insert(n, param(static_cast<std::int64_t>(n_params++), n->dtype, n->shape()));
    captured.push_back(UOp::share(n));
  };
  // Walked again from the outputs, so that captures are numbered by first use.
  const auto body = toposort(roots, [&](const Node* n) {
    if (replaced.contains(n)) return true;
    const char* d = depends.find(n);
    if (d && *d) return false;
    if (n->op == Op::CONST ? !is_structural_const(n) && !steps.contains(n) : (n->flags & kFree) != 0) {
      capture(const_cast<Node*>(n));
      return replaced.contains(n);
    }
    return false;
  });
  (void)body;
  Rebuild close{.replace = [&](Node* n) {
    const UOp* r = replaced.find(n);
    return r ? *r : UOp();
  }};
  if (places)
    close.after = [&](Node* n, const UOp& now) -> UOp {
      const std::uint32_t own = first_location(n), shared = first_location(now.get());
      if (own && shared && own != shared) places->push_back({n->op, shared, own});
      const Labels inner = labels_of(n);
      places->insert(places->end(), inner.places.begin(), inner.places.end());
      // What a loop of the front end's has to say, it says in a body, too.
      if (!inner.why_loop.empty() && now.get() != n && labels_of(now.get()).why_loop.empty())
        set_labels(now.get(), {.places = {},
                               .names = inner.names,
                               .folded = {},
                               .behind = {},
                               .why_loop = inner.why_loop,
                               .told = inner.told,
                               .found = inner.found});
      return {};
    };
  std::vector<UOp> closed = rebuild(outputs, close);
  return lambda_of(closed, n_params);
}

}  // namespace tinyphys
