#include "schedule/fusion.hpp"

#include <algorithm>
#include <map>

namespace tinyphys {
namespace {

constexpr int kMaxKernelOps = 256;  // beyond it, compile time grows faster than memory traffic saves
constexpr std::size_t kMaxOutputs = 16;
constexpr std::int64_t kSmallMatmul = 4096;    // multiply-adds that a kernel does itself
constexpr std::int64_t kLongReduction = 4096;  // elements worth a kernel of their own
constexpr int kCheapOps = 8;                   // recomputing fewer costs less than a round trip to memory

bool is_leaf(const Node* n) { return n->op == Op::PARAM || n->op == Op::CONST || n->op == Op::LAMBDA; }

bool is_whole(const Node* n, bool fuse) {
  switch (n->op) {
    case Op::SCAN:
    case Op::PROPAGATE:
    case Op::CHECK: return true;
    case Op::MATMUL:
      return n->dtype == DType::kFloat64 && (!fuse || n->size() * n->src(0)->shape().back() > kSmallMatmul);
    default: return false;
  }
}

bool is_costly(const Node* n) {
  switch (n->op) {
    case Op::NEG:
    case Op::ABS:
    case Op::NOT:
    case Op::CAST:
    case Op::SIGN:
    case Op::FLOOR:
    case Op::CEIL: return false;
    case Op::DIV:
    case Op::POW:
    case Op::MOD:
    case Op::ATAN2:
    case Op::MATMUL:
    case Op::REDUCE: return true;
    case Op::POWI: return n->arg(0) < 0 || n->arg(0) > 4;
    default: return traits(n->op).cls == OpClass::kUnary;
  }
}

bool computes(const Node* n) {
  return !is_leaf(n) && !is_movement(n->op) && n->op != Op::GET && n->op != Op::IOTA;
}

class Fuser {
 public:
  Fuser(std::span<Node* const> roots, bool fuse) : roots_(roots), fuse_(fuse), order_(toposort(roots)) {}

  Fusion run() {
    for (Node* n : order_) {
      if (n->op == Op::LAMBDA) continue;
      for (Node* s : n->src())
        if (s->op != Op::LAMBDA) users_[s].push_back(n);
    }
    for (Node* r : roots_) cut(r);
    for (Node* n : order_) cut_forward(n);
    if (fuse_) cut_shared();
    return group();
  }

 private:
  bool has_slot(const Node* n) const {
    return is_leaf(n) || n->op == Op::GET || is_whole(n, fuse_) || cuts_.contains(n);
  }
  void cut(Node* n) {
    if (!is_leaf(n) && n->op != Op::GET && !is_whole(n, fuse_)) cuts_.insert(n, 1);
  }

  // Distinct ops of n's kernel so far, and whether one of them is dear; counted again where the quick sum is high.
  struct Weight {
    int ops = 0;
    bool costly = false;
  };
  Weight weight(Node* n) const {
    Weight w{computes(n) ? 1 : 0, is_costly(n)};
    for (Node* s : n->src())
      if (!has_slot(s)) {
        w.ops += weights_.at(s).ops;
        w.costly |= weights_.at(s).costly;
      }
    if (w.ops <= kMaxKernelOps) return w;
    w.ops = 0;
    NodeMap<char> seen;
    std::vector<Node*> stack{n};
    seen.insert(n, 1);
    while (!stack.empty() && w.ops <= kMaxKernelOps) {
      Node* x = stack.back();
      stack.pop_back();
      w.ops += computes(x);
      for (Node* s : x->src())
        if (!has_slot(s) && seen.insert(s, 1)) stack.push_back(s);
    }
    return w;
  }

  void cut_forward(Node* n) {
    if (is_leaf(n) || n->op == Op::GET) return;
    if (is_whole(n, fuse_) || is_host_only(n))
      for (Node* s : n->src()) cut(s);
    if (is_whole(n, fuse_)) return;
    if (is_host_only(n)) cut(n);
    if (n->op == Op::MATMUL || n->op == Op::CUMSUM)  // each source element is read many times
      for (Node* s : n->src())
        if (computes_below(s)) cut(s);
    weights_.insert(n, weight(n));
    const Weight& w = weights_.at(n);
    if (!fuse_) {
      if (computes(n)) cut(n);
      return;
    }
    if (w.ops > kMaxKernelOps) {
      for (Node* s : n->src())
        if (computes_below(s)) cut(s);
      weights_[n] = weight(n);
    }
    const auto* users = users_.find(n);
    if (!users) return;
    bool moved = false, enlarged = false, resized = false;
    for (Node* u : *users) {
      const bool enlarges = u->size() > n->size() && u->op != Op::PAD && u->op != Op::CAT;
      enlarged |= enlarges && u->op != Op::RESHAPE;
      moved |= (is_movement(u->op) && u->op != Op::RESHAPE) || u->op == Op::GATHER;
      resized |= u->size() != n->size();
    }
    if (n->op == Op::REDUCE) {
      // A reduction is walked again for each element that asks for it.
      const std::int64_t length = n->size() == 0 ? 0 : n->src(0)->size() / n->size();
      if (length > 1 && (users->size() > 1 || resized || n->src(0)->size() >= kLongReduction)) cut(n);
      return;
    }
    if (enlarged && (w.costly || w.ops > 2)) cut(n);
    if (moved && users->size() > 1 && (w.costly || w.ops > kCheapOps)) cut(n);
  }

  bool computes_below(Node* s) const {
    if (has_slot(s)) return false;
    return weights_.contains(s) && weights_.at(s).ops > 0;
  }

  // A value that several kernels would recompute gets a buffer when that is dearer than reading it.
  void cut_shared() {
    NodeMap<std::vector<const Node*>> kernels;  // which kernels ask for a node; at most two are kept
    for (std::size_t i = order_.size(); i-- > 0;) {
      Node* n = order_[i];
      if (is_leaf(n) || n->op == Op::GET) continue;
      if (const auto* k = kernels.find(n); k && k->size() > 1 && !has_slot(n)) {
        const Weight& w = weights_.at(n);
        if (w.costly || w.ops > kCheapOps) cut(n);
      }
      std::vector<const Node*> mine;
      if (has_slot(n))
        mine = {n};
      else if (const auto* k = kernels.find(n))
        mine = *k;
      for (Node* s : n->src()) {
        if (is_leaf(s)) continue;
        auto& list = kernels[s];
        for (const Node* k : mine)
          if (list.size() < 2 && std::find(list.begin(), list.end(), k) == list.end()) list.push_back(k);
      }
    }
  }

  Fusion group() {
    NodeMap<int> level;
    std::map<int, std::vector<FusionGroup>> levels;
    NodeMap<std::vector<Node*>> gets;
    for (Node* n : order_)
      if (n->op == Op::GET && (n->src(0)->op == Op::SCAN || n->src(0)->op == Op::PROPAGATE))
        gets[n->src(0)].push_back(n);
    for (Node* n : order_) {
      int l = 0;
      if (n->op != Op::LAMBDA)
        for (Node* s : n->src())
          if (const int* below = level.find(s)) l = std::max(l, *below);
      const bool whole = is_whole(n, fuse_);
      if (whole || cuts_.contains(n)) ++l;
      level.insert(n, l);
      if (whole) {
        const auto* g = gets.find(n);
        levels[l].push_back({n, g ? *g : std::vector<Node*>{}});
      } else if (cuts_.contains(n)) {
        join(levels[l], n);
      }
    }
    Fusion out;
    for (auto& [l, groups] : levels)
      for (FusionGroup& g : groups) out.groups.push_back(std::move(g));
    return out;
  }

  void join(std::vector<FusionGroup>& groups, Node* n) {
    if (fuse_ && !is_host_only(n))
      for (FusionGroup& g : groups) {
        if (g.whole || g.roots.size() >= kMaxOutputs || is_host_only(g.roots[0]) ||
            !same_shape(g.roots[0], n))
          continue;
        int ops = weights_.at(n).ops;
        for (Node* r : g.roots) ops += weights_.at(r).ops;
        if (ops > kMaxKernelOps) continue;
        g.roots.push_back(n);
        return;
      }
    groups.push_back({nullptr, {n}});
  }

  std::span<Node* const> roots_;
  bool fuse_;
  std::vector<Node*> order_;
  NodeMap<std::vector<Node*>> users_;
  NodeMap<char> cuts_;
  NodeMap<Weight> weights_;
};

}  // namespace

bool is_host_only(const Node* n) {
  return n->op == Op::SCATTER_ADD || (n->op == Op::CUMSUM && n->size() > kSmallMatmul);
}

Fusion fuse(std::span<Node* const> roots, bool fuse) { return Fuser(roots, fuse).run(); }

}  // namespace tinyphys
