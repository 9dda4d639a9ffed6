#include "schedule/fusion.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "schedule/call.hpp"
#include "support/hash.hpp"

namespace tinyphys {
namespace {

constexpr int kMaxKernelOps = 256;  // beyond it, compile time grows faster than memory traffic saves
constexpr int kMaxKernelNodes =
    2048;                          // movement counted too, by what it adds to the indices and loads below it
constexpr int kMaxScalars = 8192;  // a node counted once for each way of movements by which it is read
constexpr std::size_t kMaxOutputs = 16;
constexpr std::int64_t kLongCumsum = 4096;     // beyond it the host is faster
constexpr std::int64_t kLongReduction = 4096;  // elements worth a kernel of their own
constexpr int kCheapOps = 8;                   // recomputing fewer costs less than a round trip to memory
constexpr std::int64_t kCatTests = 4096;       // of a CAT in a kernel, where each element asks for every part
constexpr std::int64_t kFewParts = 8;          // so few are worth it at any size
constexpr int kManySlices =
    64;  // of one value: beyond it they are copied, as a kernel knows where its slice begins

std::int64_t reduced_length(const Node* n) {
  return n->op != Op::REDUCE || n->size() == 0 ? 0 : n->src(0)->size() / n->size();
}
bool is_few(const Node* n) { return n->op == Op::REDUCE && reduced_length(n) <= kFewTerms; }

bool is_leaf(const Node* n) { return n->op == Op::PARAM || n->op == Op::CONST || n->op == Op::LAMBDA; }

bool is_whole(const Node* n, bool fuse) {
  switch (n->op) {
    case Op::SCAN:
    case Op::PROPAGATE:
    case Op::PROPAGATE_VJP:
    case Op::CHECK: return true;
    default: {
      const CallRow* call = call_of(n->op);
      return call && call->takes && call->takes(n, fuse);
    }
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
    case Op::PHILOX:
    case Op::MATMUL:
    case Op::REDUCE: return true;
    case Op::POWI: return n->arg(0) < 0 || n->arg(0) > 4;
    default: return traits(n->op).cls == OpClass::kUnary;
  }
}

bool computes(const Node* n) {
  return !is_leaf(n) && !is_movement(n->op) && n->op != Op::GET && n->op != Op::IOTA;
}

int burden(const Node* n) {
  switch (n->op) {
    case Op::CAT: return 8 * static_cast<int>(n->n_src);
    case Op::PAD:
    case Op::ROLL: return 8;
    default: return 1;
  }
}

// Positions in the topological order name the nodes here: every question about a node is a look-up in an array, and the
// whole is linear in the graph (the walk of count() is bounded by the size of a kernel).
class Fuser {
 public:
  Fuser(std::span<Node* const> roots, bool fuse) : fuse_(fuse), order_(toposort(roots)) {
    const std::size_t n = order_.size();
    NodeMap<int> position;
    for (std::size_t i = 0; i < n; ++i) position.insert(order_[i], static_cast<int>(i));
    first_source_.push_back(0);
    computes_before_.push_back(0);
    burden_before_.push_back(0);
    std::vector<int> count(n + 1, 0);
    for (std::size_t i = 0; i < n; ++i) {
      // A LAMBDA's body is a graph of its own, and nobody asks for its place.
      if (order_[i]->op != Op::LAMBDA)
        for (Node* s : order_[i]->src())
          if (s->op != Op::LAMBDA) {
            sources_.push_back(position.at(s));
            ++count[static_cast<std::size_t>(sources_.back()) + 1];
          }
      first_source_.push_back(sources_.size());
      computes_before_.push_back(computes_before_.back() + computes(order_[i]));
      burden_before_.push_back(burden_before_.back() + burden(order_[i]));
    }
    first_user_.assign(n + 1, 0);
    for (std::size_t i = 0; i < n; ++i)
      first_user_[i + 1] = first_user_[i] + static_cast<std::size_t>(count[i + 1]);
    users_.resize(sources_.size());
    std::vector<std::size_t> next(first_user_.begin(), first_user_.end() - 1);
    for (std::size_t i = 0; i < n; ++i)
      for (int s : sources(i)) users_[next[static_cast<std::size_t>(s)]++] = static_cast<int>(i);
    whole_.resize(n);
    for (std::size_t i = 0; i < n; ++i) whole_[i] = is_whole(order_[i], fuse_);
    cuts_.assign(n, 0);
    weights_.resize(n);
    seen_.assign(n, 0);
    for (std::size_t i = 0; i < n; ++i) copy_slices(static_cast<int>(i));
    std::vector<char> wanted(n, 0);
    for (Node* r : roots) wanted[static_cast<std::size_t>(position.at(r))] = 1;
    copy_parts(wanted);
    for (Node* r : roots) cut(position.at(r));
  }

  Fusion run() {
    for (std::size_t i = 0; i < order_.size(); ++i) cut_forward(static_cast<int>(i));
    Fusion out = group();
    // What kernels share is computed once where they are one. A cut may move a root to another level, and so apart from those
    // beside it: grouped again then.
    constexpr int kTries = 3;
    for (int k = 0; fuse_ && k < kTries && cut_shared(true); ++k) out = group();
    if (fuse_ && cut_shared(true)) {
      cut_shared(false);
      out = group();
    }
    return out;
  }

 private:
  Node* at(int i) const { return order_[static_cast<std::size_t>(i)]; }
  std::span<const int> sources(std::size_t i) const {
    return std::span(sources_).subspan(first_source_[i], first_source_[i + 1] - first_source_[i]);
  }
  std::span<const int> sources(int i) const { return sources(static_cast<std::size_t>(i)); }
  std::span<const int> users(int i) const {
    const auto k = static_cast<std::size_t>(i);
    return std::span(users_).subspan(first_user_[k], first_user_[k + 1] - first_user_[k]);
  }
  void copy_slices(int i) {
    const auto is_slice = [&](int user) { return at(user)->op == Op::SLICE; };
    if (at(i)->op == Op::CONST || std::count_if(users(i).begin(), users(i).end(), is_slice) <= kManySlices)
      return;
    for (int user : users(i))
      if (is_slice(user)) whole_[static_cast<std::size_t>(user)] = 1;
  }
  // A CAT of CATs is one CAT of all their parts; one of many parts is copied together from their buffers.
  void copy_parts(std::span<const char> wanted) {
    std::vector<std::int64_t> parts(order_.size(), 0);
    const auto inner = [&](int s, const Node* n) {
      const bool joins = at(s)->op == Op::CAT && at(s)->arg(0) == n->arg(0);
      return joins && users(s).size() == 1 && !wanted[static_cast<std::size_t>(s)];
    };
    for (int i = 0; i < static_cast<int>(order_.size()); ++i)
      if (at(i)->op == Op::CAT)
        for (int s : sources(i))
          parts[static_cast<std::size_t>(i)] += inner(s, at(i)) ? parts[static_cast<std::size_t>(s)] : 1;
    inside_copy_.assign(order_.size(), 0);
    for (int i = static_cast<int>(order_.size()); i-- > 0;) {
      if (at(i)->op != Op::CAT) continue;
      const std::int64_t count = parts[static_cast<std::size_t>(i)];
      if (!inside_copy_[static_cast<std::size_t>(i)]) {
        if (count <= kFewParts || at(i)->size() <= kCatTests / count) continue;
        whole_[static_cast<std::size_t>(i)] = 1;
      }
      for (int s : sources(i))
        if (inner(s, at(i))) inside_copy_[static_cast<std::size_t>(s)] = 1;
    }
  }
  bool inside_copy(int i) const { return inside_copy_[static_cast<std::size_t>(i)] != 0; }
  bool whole(int i) const { return whole_[static_cast<std::size_t>(i)] != 0; }
  bool is_cut(int i) const { return cuts_[static_cast<std::size_t>(i)] != 0; }
  bool has_slot(int i) const {
    const Node* n = at(i);
    return is_leaf(n) || n->op == Op::GET || is_cut(i) || whole(i);
  }
  void cut(int i) {
    const Node* n = at(i);
    if (!is_leaf(n) && n->op != Op::GET && !whole(i)) cuts_[static_cast<std::size_t>(i)] = 1;
  }

  // What a kernel that ends in a node holds: never less than there is, and exact where it comes near a limit.
  struct Weight {
    int ops = 0, nodes = 0;  // distinct ones; ops: those that compute
    int scalars = 0;         // nodes, each as often as it is read at another place
    int first = 0;           // lowest position
    bool costly = false;
    bool reduces = false;  // a reduction is among them
  };
  Weight& weight(int i) { return weights_[static_cast<std::size_t>(i)]; }
  const Weight& weight(int i) const { return weights_[static_cast<std::size_t>(i)]; }

  // Two upper bounds: the sum over the sources, which counts what they share again and again, and all that stands in
  // the order between the kernel's first node and this one, which counts strangers. Where both are high, a count.
  void weigh(int i) {
    const bool few = is_few(at(i));
    Weight w{computes(at(i)), burden(at(i)), 1, i, !few && is_costly(at(i)), at(i)->op == Op::REDUCE && !few};
    int last = -1;
    for (int s : sources(i)) {
      if (has_slot(s) || s == last) continue;
      const Weight& below = weight(s);
      w.ops += below.ops;
      w.nodes += below.nodes;
      w.scalars += below.scalars;
      w.first = std::min(w.first, below.first);
      w.costly |= below.costly;
      w.reduces |= below.reduces;
      last = s;
    }
    const auto between = [&](const auto& before) {
      return before[static_cast<std::size_t>(i) + 1] - before[static_cast<std::size_t>(w.first)];
    };
    w.ops = static_cast<int>(std::min<std::int64_t>(w.ops, between(computes_before_)));
    w.nodes = static_cast<int>(std::min<std::int64_t>(w.nodes, between(burden_before_)));
    if (w.ops > kMaxKernelOps || w.nodes > kMaxKernelNodes) count(i, w);
    if (w.scalars > kMaxScalars) w.scalars = count_scalars(i);
    weight(i) = w;
  }
  int count_scalars(int i) {
    using Read = std::pair<int, std::uint64_t>;  // a node, and the movements on the way to it
    std::vector<Read> stack{{i, 0}};
    std::set<Read> seen{stack[0]};
    while (!stack.empty() && seen.size() <= kMaxScalars) {
      const auto [x, way] = stack.back();
      stack.pop_back();
      const bool moves = is_movement(at(x)->op) || at(x)->op == Op::GATHER;
      std::uint64_t part = 0;  // those of a CAT have a place each
      for (int s : sources(x)) {
        ++part;
        const Read read{s, moves ? hash_mix(hash_mix(way, static_cast<std::uint64_t>(x)), part) : way};
        if (!has_slot(s) && seen.insert(read).second) stack.push_back(read);
      }
    }
    count_visited(seen.size());
    return static_cast<int>(seen.size());
  }
  void count(int i, Weight& w) {
    std::size_t looked_at = 0;
    w.ops = w.nodes = 0;
    w.first = i;
    ++visit_;
    stack_.assign(1, i);
    seen_[static_cast<std::size_t>(i)] = visit_;
    while (!stack_.empty() && w.ops <= kMaxKernelOps && w.nodes <= kMaxKernelNodes) {
      const int x = stack_.back();
      stack_.pop_back();
      w.ops += computes(at(x));
      w.nodes += burden(at(x));
      w.first = std::min(w.first, x);
      for (int s : sources(x)) {
        int& seen = seen_[static_cast<std::size_t>(s)];
        if (has_slot(s) || seen == visit_) continue;
        seen = visit_;
        stack_.push_back(s);
      }
      ++looked_at;
    }
    count_visited(looked_at);
  }

  void cut_forward(int i) {
    const Node* n = at(i);
    if (is_leaf(n) || n->op == Op::GET) return;
    if (whole(i) || inside_copy(i) || is_host_only(n))
      for (int s : sources(i))
        if (!inside_copy(s)) cut(is_movement(n->op) ? storage_of(s) : s);
    if (whole(i) || inside_copy(i)) return;
    if (is_host_only(n)) cut(i);
    if (n->op == Op::MATMUL || n->op == Op::CUMSUM)  // each source element is read many times
      for (int s : sources(i))
        if (computes_below(s)) cut(s);
    weigh(i);
    if (weight(i).ops > kMaxKernelOps || weight(i).nodes > kMaxKernelNodes ||
        weight(i).scalars > kMaxScalars) {
      const auto n_sources = static_cast<int>(sources(i).size());
      const bool many_ops = weight(i).ops > kMaxKernelOps;
      const auto large = [&](const Weight& w) {
        return w.nodes >= kMaxKernelNodes / n_sources || w.scalars >= kMaxScalars / n_sources;
      };
      for (int s : sources(i))
        if ((many_ops && computes_below(s)) || (!has_slot(s) && large(weight(s)))) cut(s);
      weigh(i);
    }
    if (!fuse_) {
      if (computes(n)) cut(i);
      return;
    }
    const Weight& w = weight(i);
    if (users(i).empty()) return;
    bool moved = false, enlarged = false, resized = false, placed = false;
    for (int user : users(i)) {
      const Node* u = at(user);
      const bool enlarges =
          u->size() > n->size() && u->op != Op::PAD && u->op != Op::CAT && !is_summed_by_component(user);
      enlarged |= enlarges && u->op != Op::RESHAPE;
      moved |= (is_movement(u->op) && u->op != Op::RESHAPE) || u->op == Op::GATHER;
      resized |= u->size() != n->size();
      placed |= (u->op == Op::PAD || u->op == Op::CAT) && u->size() > n->size();
    }
    if (const std::int64_t length = reduced_length(n); n->op == Op::REDUCE && !is_few(n)) {
      // A reduction is walked again for each element that asks for it.
      if (length > 1 && (users(i).size() > 1 || resized || n->src(0)->size() >= kLongReduction)) cut(i);
      return;
    }
    if (enlarged && (w.costly || w.ops > 2)) cut(i);
    // Behind the test whether an element is one of a part it would be summed again for each place that asks, and a chain of
    // such updates doubles those at each.
    if (placed && w.reduces) cut(i);
    if (moved && users(i).size() > 1 && (w.costly || w.ops > kCheapOps)) cut(i);
  }

  // An EXPAND along one short axis, where all that is made of it is summed over long ones: the kernel of the sums writes the
  // short axis out, so that what is expanded is there once (lower.cpp).
  bool is_summed_by_component(int i) const {
    const Node* n = at(i);
    if (n->op != Op::EXPAND || n->size() == 0 || n->size() / n->src(0)->size() > kFewTerms) return false;
    std::size_t axis = n->n_dim;
    for (std::size_t a = 0; a < n->n_dim; ++a)
      if (n->shape()[a] != n->src(0)->shape()[a]) {
        if (axis != n->n_dim) return false;
        axis = a;
      }
    constexpr std::size_t kMostUsers = 64;
    std::vector<int> todo{i};
    for (std::size_t k = 0; k < todo.size(); ++k) {
      if (todo.size() > kMostUsers || users(todo[k]).empty() || is_cut(todo[k])) return false;
      for (int user : users(todo[k])) {
        const Node* u = at(user);
        if (u->op == Op::REDUCE && reduced_length(u) >= kWrittenOut &&
            std::ranges::find(u->arg().subspan(1), static_cast<std::int64_t>(axis)) == u->arg().end())
          continue;
        if (!is_elementwise(u->op)) return false;
        if (std::ranges::find(todo, user) == todo.end()) todo.push_back(user);
      }
    }
    return true;
  }

  bool computes_below(int s) const { return !has_slot(s) && weight(s).ops > 0; }

  // The node whose bytes are those of i.
  int storage_of(int i) const {
    while (at(i)->op == Op::RESHAPE && !is_cut(i)) i = sources(i)[0];
    return i;
  }

  // A value that several kernels would recompute gets a buffer when that is dearer than reading it. Roots that were put into one
  // group are one kernel, if `grouped`. Whether there was such a value.
  bool cut_shared(bool grouped) {
    constexpr int kNone = -1;
    bool any = false;
    std::vector<std::array<int, 2>> kernels(order_.size(), {kNone, kNone});  // two that ask for a node
    for (int i = static_cast<int>(order_.size()); i-- > 0;) {
      if (is_leaf(at(i)) || at(i)->op == Op::GET) continue;
      std::array<int, 2>& asking = kernels[static_cast<std::size_t>(i)];
      if (asking[1] != kNone && !has_slot(i)) {
        const Weight& w = weight(i);
        if (w.costly || w.ops > kCheapOps) {
          cut(i);
          any = true;
          group_of_[static_cast<std::size_t>(i)] = i;
        }
      }
      if (has_slot(i)) asking = {grouped ? group_of_[static_cast<std::size_t>(i)] : i, kNone};
      for (int s : sources(i)) {
        if (is_leaf(at(s))) continue;
        std::array<int, 2>& below = kernels[static_cast<std::size_t>(s)];
        for (int k : asking) {
          if (k == kNone || k == below[0] || k == below[1]) continue;
          if (below[0] == kNone)
            below[0] = k;
          else if (below[1] == kNone)
            below[1] = k;
        }
      }
    }
    return any;
  }

  // Groups of one level wait for no other of it.
  struct Level {
    std::vector<FusionGroup> groups;
    std::vector<std::pair<std::size_t, int>> open;  // groups that may take another output, and their ops
    std::vector<int> first;                         // root of each group
  };

  Fusion group() {
    std::vector<int> level(order_.size(), 0);
    std::vector<Level> levels(1);
    group_of_.resize(order_.size());
    NodeMap<std::vector<Node*>> gets;
    for (Node* n : order_)
      if (n->op == Op::GET &&
          (n->src(0)->op == Op::SCAN || n->src(0)->op == Op::PROPAGATE || n->src(0)->op == Op::PROPAGATE_VJP))
        gets[n->src(0)].push_back(n);
    for (int i = 0; i < static_cast<int>(order_.size()); ++i) {
      int l = 0;
      for (int s : sources(i)) l = std::max(l, level[static_cast<std::size_t>(s)]);
      if (whole(i) || is_cut(i)) ++l;
      level[static_cast<std::size_t>(i)] = l;
      if (static_cast<std::size_t>(l) >= levels.size()) levels.resize(static_cast<std::size_t>(l) + 1);
      Level& mine = levels[static_cast<std::size_t>(l)];
      if (whole(i)) {
        const auto* g = gets.find(at(i));
        mine.groups.push_back({at(i), g ? *g : std::vector<Node*>{}});
        mine.first.push_back(i);
        group_of_[static_cast<std::size_t>(i)] = i;
      } else if (is_cut(i)) {
        join(mine, i);
      }
    }
    Fusion out;
    for (Level& l : levels)
      for (FusionGroup& g : l.groups) out.groups.push_back(std::move(g));
    return out;
  }

  void join(Level& level, int i) {
    constexpr std::size_t kMaxOpen = 16;  // tried for each node: the latest
    Node* n = at(i);
    const int ops = weight(i).ops;
    group_of_[static_cast<std::size_t>(i)] = i;
    if (!fuse_ || is_host_only(n)) {
      level.groups.push_back({nullptr, {n}});
      level.first.push_back(i);
      return;
    }
    for (auto it = level.open.begin(); it != level.open.end(); ++it) {
      FusionGroup& g = level.groups[it->first];
      if (!same_shape(g.roots[0], n) || it->second + ops > kMaxKernelOps) continue;
      g.roots.push_back(n);
      group_of_[static_cast<std::size_t>(i)] = level.first[it->first];
      it->second += ops;
      if (g.roots.size() >= kMaxOutputs) level.open.erase(it);
      return;
    }
    level.groups.push_back({nullptr, {n}});
    level.first.push_back(i);
    level.open.emplace_back(level.groups.size() - 1, ops);
    if (level.open.size() > kMaxOpen) level.open.erase(level.open.begin());
  }

  bool fuse_;
  std::vector<Node*> order_;
  std::vector<int> sources_, users_;                           // of all nodes, one after the other ...
  std::vector<std::size_t> first_source_, first_user_;         // ... and where each node's begin
  std::vector<std::int64_t> computes_before_, burden_before_;  // sums over the order
  std::vector<char> whole_, inside_copy_, cuts_;
  std::vector<Weight> weights_;
  std::vector<int> group_of_;      // of a node with a slot: the first root of its group
  std::vector<int> seen_, stack_;  // of count()
  int visit_ = 0;
};

}  // namespace

bool is_host_only(const Node* n) {
  return n->op == Op::SCATTER_ADD || (n->op == Op::CUMSUM && n->size() > kLongCumsum);
}

Fusion fuse(std::span<Node* const> roots, bool fuse) { return Fuser(roots, fuse).run(); }

}  // namespace tinyphys
