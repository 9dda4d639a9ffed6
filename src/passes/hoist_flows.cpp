#include "passes/hoist_flows.hpp"

#include "derive/flow_map.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {

std::vector<UOp> hoist_flows(const Node* scan,
                             const std::function<std::vector<UOp>(const Node* evolve)>& lower) {
  bool any = false;
  for (const Node* n : toposort(UOp::share(scan->src(0)))) any |= n->op == Op::EVOLVE;
  if (!any) return {};
  ScanParts s = open_scan(scan);
  std::vector<UOp> roots = s.next;
  roots.insert(roots.end(), s.outs.begin(), s.outs.end());
  if (s.until) roots.push_back(s.until);

  NodeMap<std::vector<UOp>> lowered;
  bool found = false;
  roots = rebuild(roots, {.ready = [&](Node* n) -> UOp {
                            const auto* of = n->op == Op::GET ? lowered.find(n->src(0)) : nullptr;
                            return of ? (*of)[static_cast<std::size_t>(n->arg(0))] : UOp();
                          },
                          .after = [&](Node* n, const UOp& now) -> UOp {
                            if (n->op != Op::EVOLVE) return {};
                            if (std::vector<UOp> outputs = lower(now.get()); !outputs.empty()) {
                              lowered.insert(n, std::move(outputs));
                              found = true;
                            }
                            return {};
                          }});
  if (!found) return {};

  struct What {
    bool varies = false;  // from step to step
    bool costs = false;   // a loop or a jump
    bool checks = false;  // may be an error, which a loop without steps is not
  };
  NodeMap<What> known;
  const auto start = [&](const UOp& x) {
    if (x) known.insert(x.get(), What{.varies = true});
  };
  start(s.index);
  for (const auto* params : {&s.carry_params, &s.row_params})
    for (const UOp& x : *params) start(x);
  NodeMap<UOp> taken;  // symbols
  const auto take = [&](Node* n) {
    const What& w = known.at(n);
    if (w.varies || !w.costs || w.checks || n->op == Op::LAMBDA || is_loop(n->op) || taken.contains(n))
      return;
    NodeMap<UOp> actual;
    for (std::size_t i = 0; i < s.captured_params.size(); ++i)
      actual.insert(s.captured_params[i].get(), s.captured[i]);
    const UOp value = substitute(UOp::share(n), [&](Node* x) {
      const UOp* a = actual.find(x);
      return a ? *a : UOp();
    });
    taken.insert(n, captured_as_symbol(s, value));
  };
  std::vector<Node*> nodes;
  for (const UOp& r : roots) nodes.push_back(r.get());
  for (Node* n : toposort(nodes)) {
    if (known.contains(n)) continue;
    What w{.costs = is_loop(n->op), .checks = n->op == Op::CHECK};
    if (n->op != Op::LAMBDA)
      for (const Node* x : n->src()) {
        const What& of = known.at(x);
        w.varies |= of.varies;
        w.costs |= of.costs;
        w.checks |= of.checks;
      }
    known.insert(n, w);
    if (w.varies && n->op != Op::LAMBDA)
      for (Node* x : n->src()) take(x);
  }
  for (const UOp& r : roots) take(r.get());
  if (taken.size() == 0) return {};
  roots = substitute(roots, [&](Node* n) {
    const UOp* symbol = taken.find(n);
    return symbol ? *symbol : UOp();
  });
  const auto n_next = static_cast<std::ptrdiff_t>(s.next.size()),
             n_outs = static_cast<std::ptrdiff_t>(s.outs.size());
  s.next.assign(roots.begin(), roots.begin() + n_next);
  s.outs.assign(roots.begin() + n_next, roots.begin() + n_next + n_outs);
  if (s.until) s.until = roots.back();
  const UOp made = make_scan(s);
  std::vector<UOp> outputs;
  for (std::size_t i = 0; i < s.next.size() + s.outs.size(); ++i)
    outputs.push_back(get(made, static_cast<std::int64_t>(i)));
  return outputs;
}

}  // namespace tinyphys
