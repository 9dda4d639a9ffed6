#include "uop/print.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "support/devices.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

std::string number_text(const Node* n) {
  if (n->dtype == DType::kBool) return n->arg(1) ? "true" : "false";
  if (is_integer(n->dtype)) return std::to_string(n->arg(1));
  const double v = from_bits(n->arg(1));
  char text[40];
  for (int digits = 6; digits <= 17; ++digits) {  // the shortest that reads back the same
    std::snprintf(text, sizeof text, "%.*g", digits, v);
    if (std::strtod(text, nullptr) == v || std::isnan(v)) break;
  }
  return text;
}

// The args of a node that say more than its dtype and shape do.
std::string arg_text(const Node* n, std::int64_t buffer_number) {
  switch (n->op) {
    case Op::CONST: return " " + number_text(n);
    case Op::BUFFER:
    case Op::SYM: return " #" + std::to_string(buffer_number);
    case Op::PARAM: return " " + std::to_string(n->arg(0)) + (n->arg(2) ? " scalar" : "");
    case Op::COPY: return n->arg(0) ? " " + std::string(device_name(static_cast<int>(n->arg(0)))) : "";
    case Op::IOTA:
    case Op::CAST:
    case Op::RESHAPE:
    case Op::EXPAND: return "";
    case Op::PAD: {
      std::string s = " fill " + std::to_string(n->arg(0)) + " by";
      if (is_float(n->dtype)) s = " fill " + std::to_string(from_bits(n->arg(0))) + " by";
      for (std::size_t i = 1; i < n->n_arg; i += 2)
        s += " (" + std::to_string(n->arg(i)) + "," + std::to_string(n->arg(i + 1)) + ")";
      return s;
    }
    case Op::REDUCE:
      return " " + std::string(name(static_cast<Reduction>(n->arg(0)))) + " " +
             shape_text(n->arg().subspan(1));
    case Op::EVOLVE:
    case Op::EVOLVE_VJP:
      return " " + std::string(EvolveView(n).row().name) + EvolveView(n).record().tolerance_text();
    case Op::PROPAGATE:
    case Op::PROPAGATE_VJP: {
      const PropagateView view(n);
      return view.kind() == PropagateKind::kHamiltonian ? " " + std::string(name(view.integrator()))
                                                        : " affine";
    }
    default: return n->n_arg ? " " + shape_text(n->arg()) : "";
  }
}

void print_graph(std::span<Node* const> roots, const std::string& indent, std::string& out,
                 const NodeMap<std::int64_t>& bodies) {
  const auto order = toposort(roots);
  NodeMap<std::int64_t> number;
  std::int64_t next = 0, buffers = 0;
  for (Node* n : order) {
    if (n->op == Op::LAMBDA && bodies.contains(n) && std::find(roots.begin(), roots.end(), n) == roots.end())
      continue;
    const bool has_id = n->op == Op::BUFFER || n->op == Op::SYM;
    number.insert(n, next);
    out += indent + "%" + std::to_string(next++) + " = " + head_text(n, has_id ? buffers++ : 0);
    for (Node* s : n->src()) {
      if (const std::int64_t* body = s->op == Op::LAMBDA ? bodies.find(s) : nullptr)
        out += " body" + std::to_string(*body);
      else
        out += " %" + std::to_string(number.at(s));
    }
    if (const std::string at = location_text(n); !at.empty()) out += "   " + at;
    out += "\n";
  }
}

int precedence(Op op) {
  switch (op) {
    case Op::ADD:
    case Op::SUB: return 1;
    case Op::MUL:
    case Op::DIV: return 2;
    case Op::NEG: return 3;
    case Op::POWI: return 4;
    case Op::LT:
    case Op::LE:
    case Op::EQ:
    case Op::NE: return 0;
    default: return 5;
  }
}

// Movement that only fits shapes says nothing to the reader of a formula, nor does a widening cast.
const Node* see_through(const Node* n) {
  while (n->op == Op::EXPAND || n->op == Op::RESHAPE || n->op == Op::COPY ||
         (n->op == Op::CAST && is_float(n->dtype) == is_float(n->src(0)->dtype) &&
          item_size(n->dtype) >= item_size(n->src(0)->dtype)))
    n = n->src(0);
  return n;
}

std::string infix(const Node* n, int depth, std::span<const std::string> names) {
  n = see_through(n);
  if (n->op == Op::CONST) return number_text(n);
  if (n->op == Op::PARAM) {
    const auto i = static_cast<std::size_t>(n->arg(0));
    return i < names.size() ? names[i] : "x" + std::to_string(i);
  }
  if (n->n_src == 0) return n->op == Op::BUFFER ? "data" : n->op == Op::SYM ? "x" : "iota";
  if (depth == 0) return "...";
  auto sub = [&](std::size_t i, int strength) {
    const Node* s = see_through(n->src(i));
    std::string t = infix(s, depth - 1, names);
    return precedence(s->op) < strength ? "(" + t + ")" : t;
  };
  switch (n->op) {
    case Op::ADD: return sub(0, 1) + " + " + sub(1, 1);
    case Op::SUB: return sub(0, 1) + " - " + sub(1, 2);
    case Op::MUL: return sub(0, 2) + " * " + sub(1, 2);
    case Op::DIV: return sub(0, 2) + " / " + sub(1, 3);
    case Op::NEG: return "-" + sub(0, 3);
    case Op::LT: return sub(0, 1) + " < " + sub(1, 1);
    case Op::LE: return sub(0, 1) + " <= " + sub(1, 1);
    case Op::EQ: return sub(0, 1) + " == " + sub(1, 1);
    case Op::NE: return sub(0, 1) + " != " + sub(1, 1);
    case Op::CAST: return std::string(name(n->dtype)) + "(" + sub(0, 0) + ")";
    case Op::POWI: return sub(0, 5) + "^" + std::to_string(n->arg(0));
    default: break;
  }
  std::string f =
      n->op == Op::REDUCE ? std::string(name(static_cast<Reduction>(n->arg(0)))) : std::string(name(n->op));
  for (char& c : f) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  f += "(";
  constexpr std::size_t kShownSources = 4;
  for (std::size_t i = 0; i < std::min<std::size_t>(n->n_src, kShownSources); ++i)
    f += (i ? ", " : "") + infix(n->src(i), depth - 1, names);
  if (n->n_src > kShownSources) f += ", ...";
  return f + ")";
}

}  // namespace

std::string head_text(const Node* n, std::int64_t buffer_number) {
  std::string s(name(n->op));
  if (n->dtype != DType::kVoid) s += " " + std::string(name(n->dtype)) + shape_text(n->shape());
  return s + arg_text(n, buffer_number);
}

// An explicit worklist, not recursion.
std::vector<Node*> bodies_below(std::span<Node* const> roots) {
  std::vector<Node*> found, todo(roots.begin(), roots.end());
  NodeMap<char> seen;
  while (!todo.empty()) {
    Node* root = todo.back();
    todo.pop_back();
    for (Node* n : toposort(std::span<Node* const>(&root, 1)))
      if (n->op == Op::LAMBDA && n != root && seen.insert(n, 1)) {
        found.push_back(n);
        todo.push_back(n);
      }
  }
  return found;
}

std::string to_text(std::span<Node* const> roots) {
  const std::vector<Node*> found = bodies_below(roots);
  NodeMap<std::int64_t> bodies;
  for (std::size_t i = 0; i < found.size(); ++i) bodies.insert(found[i], static_cast<std::int64_t>(i));
  std::string out;
  for (std::size_t i = found.size(); i-- > 0;) {
    out += "body" + std::to_string(i) + ":\n";
    print_graph(std::span<Node* const>(&found[i], 1), "  ", out, bodies);
  }
  print_graph(roots, "", out, bodies);
  return out;
}
std::string to_text(const UOp& root) {
  Node* r = root.get();
  return to_text(std::span<Node* const>(&r, 1));
}

std::string to_infix(const Node* n, std::size_t max_chars, std::span<const std::string> names) {
  constexpr int kMaxDepth = 8;
  std::string s;
  for (int depth = kMaxDepth; depth > 0; --depth) {
    s = infix(n, depth, names);
    if (s.size() <= max_chars) return s;
  }
  return s.substr(0, max_chars) + "...";
}

}  // namespace tinyphys
