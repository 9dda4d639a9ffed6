#include "fuzz/shrink.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "fuzz/evaluators.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys::fuzz {
namespace {

std::vector<Node*> from_the_top(const std::vector<UOp>& roots) {
  std::vector<Node*> nodes;
  for (const UOp& r : roots) nodes.push_back(r.get());
  nodes = toposort(nodes);
  std::reverse(nodes.begin(), nodes.end());
  return nodes;
}

bool alike(const Node* a, const Node* b) { return a->dtype == b->dtype && same_shape(a, b); }
bool is_value(const Node* n) { return n->op != Op::LAMBDA && n->op != Op::SCAN && n->n_src > 0; }

std::vector<UOp> with(const std::vector<UOp>& roots, const Node* node, const UOp& instead) {
  return substitute(roots, [&](Node* n) { return n == node ? instead : UOp(); });
}

// Graphs with one thing less than this one, the smallest first.
std::vector<std::vector<UOp>> smaller(const std::vector<UOp>& roots) {
  std::vector<std::vector<UOp>> out;
  if (roots.size() > 1)
    for (const UOp& r : roots) out.push_back({r});
  for (Node* n : from_the_top(roots)) {
    if (!is_value(n)) continue;
    const UOp node = UOp::share(n);
    // What is below it, alone.
    for (Node* s : n->src())
      if (is_value(s) && (s->flags & Node::kHasBuffer)) out.push_back({UOp::share(s)});
    const bool root = std::find(roots.begin(), roots.end(), node) != roots.end();
    if (!root && !(n->flags & Node::kHasSym))
      out.push_back(with(roots, n, leaf_of(reference({node})[0], n->dtype)));
    for (Node* s : n->src())
      if (alike(s, n)) out.push_back(with(roots, n, UOp::share(s)));
    if (n->op != Op::GET || n->src(0)->op != Op::SCAN) continue;
    Node* scan = n->src(0);
    const ScanParts parts = open_scan(scan);
    const auto other = [&](const ScanParts& p) {
      const UOp whole = make_scan(p);
      out.push_back(substitute(roots, [&](Node* x) {
        return x->op == Op::GET && x->src(0) == scan ? get(whole, x->arg(0)) : UOp();
      }));
    };
    const std::int64_t steps = const_int(scan->src(1));
    if (parts.xs.empty() && parts.outs.empty() && steps > 1) {
      ScanParts p = parts;
      p.steps = constant_int(steps - 1);
      other(p);
    }
    if (parts.until) {
      ScanParts p = parts;
      p.until = {};
      other(p);
    }
    // Within the step: a node less.
    std::vector<UOp> inner = parts.next;
    inner.insert(inner.end(), parts.outs.begin(), parts.outs.end());
    for (Node* b : from_the_top(inner)) {
      if (!is_value(b)) continue;
      std::vector<UOp> simpler;
      for (Node* s : b->src())
        if (alike(s, b)) simpler.push_back(UOp::share(s));
      for (const UOp& c : parts.carry_params)
        if (alike(c.get(), b)) simpler.push_back(c);
      for (const UOp& s : simpler) {
        ScanParts p = parts;
        const std::vector<UOp> now = with(inner, b, s);
        std::copy_n(now.begin(), p.next.size(), p.next.begin());
        std::copy_n(now.begin() + static_cast<std::ptrdiff_t>(p.next.size()), p.outs.size(), p.outs.begin());
        other(p);
      }
    }
  }
  return out;
}

bool same_element(const Value<double>& v, std::size_t i, std::size_t j) {
  return is_float(v.dtype) ? bits(v.real[i]) == bits(v.real[j]) : v.integer[i] == v.integer[j];
}

std::int64_t weight(const std::vector<UOp>& roots) {
  std::int64_t n = 0;
  for (Node* x : from_the_top(roots)) {
    n += 1;
    if (x->op == Op::LAMBDA) n += static_cast<std::int64_t>(toposort(x->src()).size());
    if (x->op == Op::SCAN) n += const_int(x->src(1));
  }
  return n;
}

}  // namespace

std::vector<UOp> shrink(std::vector<UOp> roots, const Fails& fails) {
  int tries = 2000;
  const auto better = [&](const std::vector<UOp>& other) { return tries-- > 0 && fails(other); };
  for (bool again = true; again && tries > 0;) {
    again = false;
    std::vector<std::vector<UOp>> next = smaller(roots);
    const std::int64_t now = weight(roots);
    std::stable_sort(next.begin(), next.end(),
                     [](const auto& a, const auto& b) { return weight(a) < weight(b); });
    for (const std::vector<UOp>& other : next)
      if (weight(other) < now && better(other)) {
        roots = other;
        again = true;
        break;
      }
  }
  // Values: all of a leaf alike, else each element by itself.
  for (Node* n : from_the_top(roots)) {
    if (n->op != Op::BUFFER) continue;
    const UOp leaf = UOp::share(n);
    UOp current = leaf;
    Value<double> v = reference({leaf})[0];
    const auto put = [&](const Value<double>& values) {
      const UOp instead = leaf_of(values, leaf->dtype);
      const std::vector<UOp> other = with(roots, current.get(), instead);
      if (!better(other)) return false;
      roots = other;
      current = instead;
      v = values;
      return true;
    };
    const auto set = [](Value<double>& to, std::size_t i, int x) {
      if (is_float(to.dtype))
        to.real[i] = x;
      else
        to.integer[i] = x;
    };
    bool done = false;
    for (const int x : {0, 1}) {
      Value<double> plain = v;
      for (std::size_t i = 0; i < v.size(); ++i) set(plain, i, x);
      if ((done = put(plain))) break;
    }
    for (std::size_t i = 0; i < v.size() && !done; ++i)
      for (const int x : {0, 1}) {
        Value<double> plain = v;
        set(plain, i, x);
        if (put(plain)) break;
      }
  }
  return roots;
}

std::string to_readable(const std::vector<UOp>& roots) {
  std::vector<Node*> nodes;
  for (const UOp& r : roots) nodes.push_back(r.get());
  std::string out = to_text(std::span<Node* const>(nodes));
  int number = 0;
  for (Node* n : toposort(nodes)) {
    if (n->op != Op::BUFFER) continue;
    const Value<double> v = reference({UOp::share(n)})[0];
    out += fmt::format("{} of buffer {}:", v.size() == 1 ? "value" : "values", number++);
    for (std::size_t i = 0, end = 0; i < v.size(); i = end) {
      while (end < v.size() && same_element(v, i, end)) ++end;
      out += " " + element_text(v, i) + (end - i > 1 ? fmt::format(" ({} times)", end - i) : "");
    }
    out += "\n";
  }
  return out;
}

}  // namespace tinyphys::fuzz
