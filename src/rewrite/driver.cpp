#include "rewrite/driver.hpp"

#include <algorithm>

#include "support/debug.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

constexpr int kTraceLevel = 5;

std::string rule_at(const RuleTable& rules, const std::source_location& where) {
  std::string file = where.file_name();
  file.erase(0, file.find_last_of('/') + 1);
  const std::string place = "   " + file + ":" + std::to_string(where.line());
  if (rules.list)
    for (const pattern::RuleInfo& r : rules.list())
      if (r.where.line() == where.line() && std::string_view(r.where.file_name()) == where.file_name())
        return r.text + place;
  return place;
}

// Bodies are rewritten on their own (rewrite_bodies); a realized value needs no work.
bool stays(const Node* n) { return n->n_src == 0 || n->op == Op::LAMBDA || storage(n) != nullptr; }

class Driver {
 public:
  Driver(const RuleTable& rules, std::int64_t budget)
      : rules_(rules), budget_(budget), trace_(debug_enabled(kTraceLevel, "rewrite")) {}

  Node* run(Node* root) {
    // A LAMBDA is entered only as a root.
    if (stays(root) && root->op != Op::LAMBDA) return root;
    if (Node** known = done_.find(root)) return *known;
    stack_.push_back({root});
    while (!stack_.empty()) step();
    return done_.at(root);
  }

  std::int64_t fired() const { return fired_; }
  StopReason stop() const { return stop_; }

 private:
  struct Frame {
    Node* node;                 // to be rewritten
    Node* rebuilt = nullptr;    // node over its rewritten sources, once a rule has fired there ...
    Node* continues = nullptr;  // ... and what the rule made of it, whose own result is awaited
    std::uint32_t next = 0;     // source to be visited
  };

  void step() {
    Frame& f = stack_.back();
    Node* n = f.node;
    if (f.continues) {
      Node* result = result_of(f.continues);
      if (f.rebuilt != n) done_.insert(f.rebuilt, result);
      return finish(n, result);
    }
    while (f.next < n->n_src) {
      Node* s = n->src(f.next++);
      if (stays(s) || done_.contains(s)) continue;
      stack_.push_back({s});
      return;
    }
    LocationScope at(n->location.load(std::memory_order_relaxed));
    Node* rebuilt = over_rewritten_sources(n);
    if (rebuilt != n) {
      if (stays(rebuilt)) return finish(n, rebuilt);
      if (Node** known = done_.find(rebuilt)) return finish(n, *known);
    }
    Node* replaced = apply(rebuilt);
    if (!replaced) {
      if (rebuilt != n) done_.insert(rebuilt, rebuilt);
      return finish(n, rebuilt);
    }
    Node** known = stays(replaced) ? &replaced : done_.find(replaced);
    if (known) {
      Node* result = *known;
      if (rebuilt != n) done_.insert(rebuilt, result);
      return finish(n, result);
    }
    // The right side may hold new nodes, and other rules may hold for it.
    f.rebuilt = rebuilt;
    f.continues = replaced;
    stack_.push_back({replaced});
  }

  void finish(Node* n, Node* result) {
    count_visited(1);
    done_.insert(n, result);
    last_ = n;
    last_result_ = result;
    stack_.pop_back();
  }
  // A node is mostly asked for by the one that waited for it: the last result saves a look-up in a large map.
  Node* result_of(Node* n) const {
    if (stays(n)) return n;
    return n == last_ ? last_result_ : done_.at(n);
  }

  Node* over_rewritten_sources(Node* n) {
    sources_.clear();
    bool changed = false;
    for (Node* s : n->src()) {
      sources_.push_back(result_of(s));
      changed |= sources_.back() != s;
    }
    return changed ? keep(with_sources(n, sources_)) : n;
  }

  Node* apply(Node* n) {
    const RuleFunction function = rules_.by_op[static_cast<std::size_t>(n->op)];
    if (!function || stop_ == StopReason::kBudget) return nullptr;
    std::source_location where;
    UOp replaced = function(n, where);
    if (!replaced) return nullptr;
    if (fired_ == budget_) {
      stop_ = StopReason::kBudget;
      return nullptr;
    }
    ++fired_;
    if (const bool kept = FiredRules::count(); kept || trace_) {
      const std::string said =
          to_infix(n) + "  =>  " + to_infix(replaced.get()) + "   by   " + rule_at(rules_, where);
      if (trace_) debug_print(kTraceLevel, "rewrite", said);
      if (kept) FiredRules::keep(said);
    }
    return keep(std::move(replaced));
  }

  // Every node made here lives as long as the driver: done_ knows nodes by address.
  Node* keep(UOp u) {
    kept_.push_back(std::move(u));
    return kept_.back().get();
  }

  const RuleTable& rules_;
  const std::int64_t budget_;
  const bool trace_;
  std::int64_t fired_ = 0;
  StopReason stop_ = StopReason::kFixpoint;
  std::vector<Frame> stack_;
  std::vector<Node*> sources_;
  std::vector<UOp> kept_;
  NodeMap<Node*> done_;
  Node* last_ = nullptr;
  Node* last_result_ = nullptr;
};

std::vector<Node*> nodes_of(std::span<const UOp> roots) {
  std::vector<Node*> nodes;
  for (const UOp& r : roots) nodes.push_back(r.get());
  return nodes;
}

// The LAMBDAs used directly below these roots.
std::vector<Node*> bodies_below(std::span<Node* const> roots) {
  std::vector<Node*> bodies;
  for (Node* n : toposort(roots))
    if (n->op == Op::LAMBDA && std::find(roots.begin(), roots.end(), n) == roots.end()) bodies.push_back(n);
  return bodies;
}

// All LAMBDAs below the roots at any depth, those inside a body before the body.
std::vector<Node*> bodies_inside_out(std::span<Node* const> roots) {
  struct Frame {
    Node* body;
    std::vector<Node*> inner;
    std::size_t next = 0;
  };
  std::vector<Node*> order;
  NodeMap<char> seen;
  std::vector<Frame> stack{{nullptr, bodies_below(roots), 0}};
  while (!stack.empty()) {
    Frame& f = stack.back();
    if (f.next < f.inner.size()) {
      Node* body = f.inner[f.next++];
      if (seen.insert(body, 1)) stack.push_back({body, bodies_below(std::span<Node* const>(&body, 1)), 0});
      continue;
    }
    if (f.body) order.push_back(f.body);
    stack.pop_back();
  }
  return order;
}

}  // namespace

RewriteResult rewrite(std::span<const UOp> roots, const RuleTable& rules, std::int64_t budget) {
  Driver driver(rules, budget);
  RewriteResult result;
  for (const UOp& r : roots) result.roots.push_back(UOp::share(driver.run(r.get())));
  result.fired = driver.fired();
  result.stop = driver.stop();
  return result;
}

RewriteResult rewrite_bodies(std::span<const UOp> roots, const RuleTable& rules, std::int64_t budget) {
  RewriteResult result;
  NodeMap<UOp> rewritten;
  auto exchange = [&](std::span<const UOp> graph) {
    return substitute(graph, [&](Node* n) {
      if (storage(n)) return UOp::share(n);
      const UOp* body = n->op == Op::LAMBDA ? rewritten.find(n) : nullptr;
      return body ? *body : UOp();
    });
  };
  const std::vector<Node*> starts = nodes_of(roots);
  for (Node* body : bodies_inside_out(starts)) {
    std::vector<UOp> outputs;
    for (Node* s : body->src()) outputs.push_back(UOp::share(s));
    RewriteResult inside = rewrite(exchange(outputs), rules, budget - result.fired);
    result.fired += inside.fired;
    if (inside.stop == StopReason::kBudget) result.stop = StopReason::kBudget;
    rewritten.insert(body, make(Op::LAMBDA, inside.roots, body->arg()));
  }
  result.roots = exchange(roots);
  return result;
}

}  // namespace tinyphys
