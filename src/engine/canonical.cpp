#include "engine/canonical.hpp"

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>

#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
#include "uop/pending.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

// Numbers that the plan may depend on: step counts that give a shape.
NodeMap<char> structural_numbers(std::span<Node* const> order) {
  NodeMap<char> keep;
  auto keep_all = [&](std::span<Node* const> nodes) {
    for (Node* c : nodes)
      if (is_const(c)) keep.insert(c, 1);
  };
  for (Node* n : order) {
    if (n->op == Op::EVOLVE_VJP) keep_all(n->src().subspan(2, 1));
    if (n->op == Op::SCAN_VJP || (n->op == Op::SCAN && ScanView(n).n_out > 0))
      keep_all(n->src().subspan(1, 1));
  }
  return keep;
}

// Calls `same` with each node of the values and what it is in the canonical form.
Canonical canonical_form(std::span<const UOp> values, bool has_loops,
                         const std::function<void(const Node*, const Node*)>& same) {
  Canonical out;
  const auto numbers = [&] {
    std::vector<Node*> roots;
    for (const UOp& v : values) roots.push_back(v.get());
    return structural_numbers(toposort(roots, [](const Node* n) { return storage(n) != nullptr; }));
  };
  const NodeMap<char> keep = has_loops ? numbers() : NodeMap<char>();

  auto slot = [&](Node* n, Argument a, bool scalar) {
    const auto i = static_cast<std::int64_t>(out.arguments.size());
    out.arguments.push_back(std::move(a));
    out.nodes.push_back(n);
    return param(i, n->dtype, n->shape(), scalar);
  };
  Rebuild how{.replace = [&](Node* n) -> UOp {
    if (Storage* s = storage(n)) return slot(n, {StorageRef::share(s), 0}, false);
    if (n->op == Op::SYM) {
      const std::string at = location_text(n);
      throw Error("realize",
                  "the value depends on a variable that is being traced: it has no number inside grad, "
                  "vmap, scan or System" +
                      (at.empty() ? "" : " (" + at + ")"),
                  "", 0);
    }
    if (n->op == Op::CONST && !is_structural_const(n) && !keep.contains(n))
      return slot(n, {{}, n->arg(1)}, true);
    return {};
  }};
  how.after = [&](Node* n, const UOp& now) -> UOp {
    if (same) same(n, now.get());
    if (is_copy(now.get())) return now.src(0);
    return {};
  };
  const auto outputs = rebuild(values, how);
  out.program = lambda_of(outputs, out.arguments.size());
  return out;
}

// The op that a call of the user records, where that stays one node until it runs.
std::optional<Op> op_of_call(std::string_view call) {
  if (call == "evolve") return Op::EVOLVE;
  if (call == "gather") return Op::GATHER;
  if (call == "scatter_add") return Op::SCATTER_ADD;
  return {};
}

// Appends the places (ids) at which the nodes of `op` in the bodies of this use were written; only of nodes whose place in
// the shared body is `meant`.
void places_in_bodies(const Node* use, Op op, const std::function<bool(std::uint32_t)>& meant,
                      std::vector<std::uint32_t>& out) {
  const Labels labels = labels_of(use);
  std::vector<const Node*> users{use};
  NodeMap<char> seen;
  while (!users.empty()) {
    const Node* user = users.back();
    users.pop_back();
    for (Node* body : user->src()) {
      if (body->op != Op::LAMBDA || !seen.insert(body, 1)) continue;
      for (Node* n : toposort(std::span<Node* const>(&body, 1))) {
        if (n != body) users.push_back(n);
        const std::uint32_t at = first_location(n);
        if (n->op != op || at == 0 || !meant(at)) continue;
        const std::size_t before = out.size();
        for (const Labels::Place& p : labels.places)
          if (p.op == op && p.shared == at) out.push_back(p.own);
        if (out.size() == before) out.push_back(at);
      }
    }
  }
}

}  // namespace

Canonical canonicalize(std::span<const UOp> values, bool has_loops) {
  return canonical_form(values, has_loops, {});
}

Error at_own_place(const Error& e, std::span<const UOp> values) {
  const std::optional<Op> op = op_of_call(e.call());
  if (!op) return e;
  // Nodes that the error may mean, by what the plan calls their place; where it calls none of them by the place that
  // the error names, all of them.
  std::vector<std::uint32_t> named, any;
  const std::function<bool(std::uint32_t)> all = [](std::uint32_t) { return true; };
  const std::function<bool(std::uint32_t)> is_named = [&](std::uint32_t id) {
    const Location at = location(id);
    return at.line == e.line() && at.file == e.file();
  };
  canonical_form(values, true, [&](const Node* n, const Node* planned) {
    if (n->op == *op && first_location(n) != 0) {
      any.push_back(first_location(n));
      if (is_named(first_location(planned))) named.push_back(first_location(n));
    }
    places_in_bodies(n, *op, all, any);
    places_in_bodies(n, *op, is_named, named);
  });
  std::vector<std::uint32_t>& found = named.empty() ? any : named;
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  if (found.empty()) return e;
  std::string message = e.message();
  for (std::size_t i = 1; i < found.size(); ++i) {
    const Location also = location(found[i]);
    message += (i == 1 ? "; here or at " : ", ") + also.file + ":" + std::to_string(also.line);
  }
  const Location own = location(found[0]);
  return Error(e.call(), message, own.file.c_str(), own.line);
}

}  // namespace tinyphys
