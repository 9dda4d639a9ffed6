#include "passes/carry_over.hpp"

#include <algorithm>
#include <vector>

#include "rewrite/uniform.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys {
namespace {

// Operations: fewer are done again, as a register more costs as much.
constexpr int kWorthIt = 6;

bool computes(const Node* n) {
  return n->n_src > 0 && !is_movement(n->op) && n->op != Op::LAMBDA && n->op != Op::GET && n->op != Op::COPY;
}

// Dearer than a round trip to memory.
bool is_dear(const Node* n) {
  if (n->op == Op::REDUCE || n->op == Op::MATMUL) return n->src(0)->size() > n->size();
  switch (n->op) {
    case Op::DIV:
    case Op::POW:
    case Op::ATAN2:
    case Op::SCAN: return true;
    case Op::POWI: return n->arg(0) < 0;
    default:
      return traits(n->op).cls == OpClass::kUnary && computes(n) && n->op != Op::NEG && n->op != Op::ABS &&
             n->op != Op::CAST && n->op != Op::SIGN && n->op != Op::NOT;
  }
}

class Step {
 public:
  explicit Step(const Node* scan) : parts_(open_scan(scan)) {
    roots_ = parts_.next;
    roots_.insert(roots_.end(), parts_.outs.begin(), parts_.outs.end());
    if (parts_.until) roots_.push_back(parts_.until);
    std::vector<Node*> roots;
    for (const UOp& r : roots_) roots.push_back(r.get());
    order_ = toposort(roots);
    for (Node* n : order_) present_.insert(n, 1);
  }

  UOp with_more(bool in_registers) {
    find_following();
    const std::vector<UOp> found = choose(in_registers);
    if (found.empty()) return {};
    NodeMap<UOp> param_of;
    const auto replaced = [&](Node* n) {
      const UOp* p = param_of.find(n);
      return p ? *p : UOp();
    };
    NodeMap<UOp> first;
    const auto at_start = [&](Node* n) {
      const UOp* v = first.find(n);
      return v ? *v : UOp();
    };
    for (std::size_t i = 0; i < parts_.carry.size(); ++i)
      first.insert(parts_.carry_params[i].get(), parts_.carry[i]);
    for (std::size_t i = 0; i < parts_.captured.size(); ++i)
      first.insert(parts_.captured_params[i].get(), parts_.captured[i]);
    const std::vector<UOp> start = substitute(found, at_start);
    std::vector<UOp> all = roots_;
    for (const UOp& n : found) {
      all.push_back(*following_.find(n.get()));
      param_of.insert(n.get(), symbol_like(n.get()));
    }
    all = substitute(all, replaced);
    ScanParts s = parts_;
    const auto outs = all.begin() + static_cast<std::ptrdiff_t>(s.next.size());
    std::copy(all.begin(), outs, s.next.begin());
    std::copy_n(outs, s.outs.size(), s.outs.begin());
    if (s.until) s.until = all[s.next.size() + s.outs.size()];
    for (std::size_t i = 0; i < found.size(); ++i) {
      s.carry_params.push_back(*param_of.find(found[i].get()));
      s.carry.push_back(start[i]);
      s.next.push_back(all[roots_.size() + i]);
    }
    return make_scan(s);
  }

 private:
  // Of each value that the state decides: the value of the next step, where this step holds it.
  void find_following() {
    NodeMap<char> varies;  // with the step: its number, rows
    if (parts_.index) varies.insert(parts_.index.get(), 1);
    for (const UOp& row : parts_.row_params) varies.insert(row.get(), 1);
    for (std::size_t i = 0; i < parts_.next.size(); ++i)
      following_.insert(parts_.carry_params[i].get(), parts_.next[i]);
    for (Node* n : order_) {
      if (n->n_src == 0 || n->op == Op::LAMBDA || varies.contains(n)) continue;
      bool moves = false, known = n->op != Op::CHECK;
      std::vector<Node*> sources;
      for (Node* s : n->src()) {
        const UOp* f = following_.find(s);
        moves |= f != nullptr;
        const bool stays = !f && !lost_.contains(s);
        known = known && (f || stays) && !varies.contains(s);
        sources.push_back(f ? f->get() : s);
      }
      bool any = moves;
      for (Node* s : n->src()) any |= lost_.contains(s) || varies.contains(s);
      if (!any) continue;  // the same in each step
      UOp next = known ? with_sources(n, sources) : UOp();
      if (next && present_.contains(next.get()))
        following_.insert(n, std::move(next));
      else
        lost_.insert(n, 1);
    }
  }

  std::vector<UOp> choose(bool in_registers) {
    NodeMap<char> used_otherwise;  // by what has no following, or as an output
    for (const UOp& r : roots_) used_otherwise.insert(r.get(), 1);
    for (Node* n : order_)
      if (lost_.contains(n))
        for (Node* s : n->src()) used_otherwise.insert(s, 1);
    std::int64_t room = 0;
    bool has_integers = false;
    for (const UOp& c : parts_.carry_params) {
      room += c->size();
      has_integers |= !is_float(c->dtype);
    }
    std::vector<UOp> found;
    for (Node* n : order_) {
      if (!computes(n) || !following_.contains(n) || !used_otherwise.contains(n)) continue;
      int operations = 0;
      bool dear = false, same_bits = true;
      const auto state = [&](const Node* x) { return !following_.contains(x); };
      std::vector<Node*> root{n};
      for (Node* x : toposort(root, state)) {
        if (!following_.contains(x)) continue;
        operations += computes(x);
        dear |= is_dear(x);
        same_bits = same_bits && (rounds_the_same_everywhere(x->op) || !computes(x));
      }
      // The first value is made by another kernel, whose sine may have another last bit: a loop in fixed point, which must be
      // the same in each of its parts, does without.
      if (!same_bits && has_integers) continue;
      if (!(dear || (in_registers && operations >= kWorthIt)) || n->size() > room) continue;
      room -= n->size();
      found.push_back(UOp::share(n));
    }
    return found;
  }

  ScanParts parts_;
  std::vector<UOp> roots_;
  std::vector<Node*> order_;
  NodeMap<char> present_, lost_;
  NodeMap<UOp> following_;
};

}  // namespace

UOp carry_over(const Node* scan, bool in_registers) { return Step(scan).with_more(in_registers); }

}  // namespace tinyphys
