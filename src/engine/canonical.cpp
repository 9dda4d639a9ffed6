#include "engine/canonical.hpp"

#include <algorithm>

#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
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

}  // namespace

Canonical canonicalize(std::span<const UOp> values) {
  Canonical out;
  std::vector<Node*> roots;
  for (const UOp& v : values) roots.push_back(v.get());
  const auto realized = [](const Node* n) { return storage(n) != nullptr; };
  const NodeMap<char> keep = structural_numbers(toposort(roots, realized));

  auto slot = [&](Node* n, Argument a, bool scalar) {
    const auto i = static_cast<std::int64_t>(out.arguments.size());
    out.arguments.push_back(std::move(a));
    return param(i, n->dtype, n->shape(), scalar);
  };
  const auto outputs = substitute(values, [&](Node* n) -> UOp {
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
  });
  const auto count = static_cast<std::int64_t>(out.arguments.size());
  out.program = make(Op::LAMBDA, std::span<const UOp>(outputs), std::span<const std::int64_t>(&count, 1));
  return out;
}

}  // namespace tinyphys
