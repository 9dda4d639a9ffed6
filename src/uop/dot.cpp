#include <algorithm>

#include "support/debug.hpp"
#include "uop/graph.hpp"
#include "uop/print.hpp"

namespace tinyphys {
namespace {

constexpr const char* kHead = "  rankdir=TB;\n  node [shape=box, fontname=monospace, fontsize=10];\n";

// Nodes and edges of the graph below the roots. `bodies`: the ids of their LAMBDAs, which are drawn once, as roots.
std::string draw(std::span<Node* const> roots, const std::string& prefix, const NodeMap<std::string>& bodies,
                 std::string& between) {
  std::string nodes, edges;
  NodeMap<std::string> own;
  std::int64_t buffers = 0;
  for (Node* n : toposort(roots)) {
    const std::string* as_body = bodies.find(n);
    if (as_body && std::find(roots.begin(), roots.end(), n) == roots.end()) continue;
    const std::string id = as_body ? *as_body : prefix + std::to_string(own.size());
    own.insert(n, id);
    const bool has_id = n->op == Op::BUFFER || n->op == Op::SYM;
    std::string label = head_text(n, has_id ? buffers++ : 0);
    if (const std::string at = location_text(n); !at.empty()) label += "\n" + at;
    nodes += "  " + id + " [label=" + dot_quoted(label) + "];\n";
    for (std::size_t i = 0; i < n->n_src; ++i) {
      const std::string* body = bodies.find(n->src(i));
      std::string line = "  " + (body ? *body : own.at(n->src(i))) + " -> " + id;
      if (body)
        line += " [style=dashed]";
      else if (n->n_src > 1)
        line += " [headlabel=" + std::to_string(i) + "]";
      (body ? between : edges) += line + ";\n";
    }
  }
  return nodes + edges;
}

}  // namespace

std::string dot_quoted(std::string_view text) {
  std::string s = "\"";
  for (const char c : text) {
    if (c == '\n') {
      s += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') s += '\\';
    s += c;
  }
  return s + "\"";
}

std::string to_dot(std::span<Node* const> roots, std::size_t max_nodes) {
  const std::vector<Node*> bodies = bodies_below(roots);
  std::size_t count = toposort(roots).size();
  for (Node* b : bodies) count += toposort(std::span<Node* const>(&b, 1)).size();
  std::string out = "digraph {\n" + std::string(kHead);
  if (count > max_nodes)
    return out + "  large [label=" + dot_quoted(std::to_string(count) + " nodes: see the text") + "];\n}\n";
  NodeMap<std::string> ids;
  for (std::size_t i = 0; i < bodies.size(); ++i) ids.insert(bodies[i], "body" + std::to_string(i));
  std::string between;  // from a body to its users: outside of all clusters, which would take their ends in
  for (std::size_t i = bodies.size(); i-- > 0;) {
    const std::string number = std::to_string(i);
    out += "  subgraph cluster_body" + number + " {\n  label=body" + number + ";\n" +
           draw(std::span<Node* const>(&bodies[i], 1), "b" + number + "_", ids, between) + "  }\n";
  }
  out += draw(roots, "n", ids, between);
  return out + between + "}\n";
}

void dump_graph(std::string_view stage, std::span<Node* const> roots, const std::string& rules) {
  if (env::dumping()) dump(stage, {{"txt", to_text(roots)}, {"dot", to_dot(roots)}, {"rules", rules}});
}
void dump_graph(std::string_view stage, const UOp& root, const std::string& rules) {
  Node* r = root.get();
  dump_graph(stage, std::span<Node* const>(&r, 1), rules);
}

}  // namespace tinyphys
