#include "uop/history.hpp"

#include <algorithm>
#include <deque>
#include <memory>
#include <queue>
#include <vector>

#include "uop/graph.hpp"

namespace tinyphys {

std::atomic<bool> history_pending{false};

namespace {

// A buffer in the past of more values than these stays: to find out whether it may go, all their pasts are walked.
constexpr std::size_t kMaxUsers = 32;
// Where the user drops a handle, pasts of at most this many nodes are walked; larger ones wait for the next realize.
constexpr std::size_t kQuick = 1 << 12;
// A value lets go only where at most this many nodes can reach it.
constexpr std::size_t kMaxAbove = 256;
// Values that could not let go because something uses them are tried again, so many at each realize, after 1, 2, 4, ...
// up to 2^kMaxPause realizes.
constexpr std::size_t kRetries = 8;
constexpr unsigned kMaxPause = 10;

std::mutex compute_mutex;
thread_local bool computing = false;

// What is dropped while the history is locked is destroyed after that: destroying reports to the history.
struct Dropped {
  std::vector<UOp> nodes;
  std::vector<StorageRef> storages;

  bool any() const { return !nodes.empty() || !storages.empty(); }
};

class History {
 public:
  void note_realized(Node* n) {
    if (n->op == Op::BUFFER || n->op == Op::CONST) return;
    const Node* below = n;  // one number at every place is best kept as that
    while (is_movement(below->op) && below->n_src == 1) below = below->src(0);
    std::lock_guard lock(mutex_);
    if (n->n_src == 0 || below->op == Op::CONST) {
      places_[place_of(n)].constant = true;
      return;
    }
    const std::uint32_t s = place_of(n);
    Place& p = places_[s];
    if (!p.keeper) p.age = ++clock_;
    p.keeper = p.kept = p.stale = true;
    p.sealed = false;
    note(s);
  }

  void note_realized(Node* n, std::span<const Accounted> above, std::vector<UOp>& sources) {
    note_realized(n);
    std::lock_guard lock(mutex_);
    if (!is_keeper(n)) return;
    const std::uint32_t s = n->history.load(std::memory_order_relaxed);
    if (places_[s].stale) find_edge(s);
    if (!find_kept(s) && become_leaf(n, above, sources)) forget(s);
  }

  bool knows(const Node* n) {
    if (n->history.load(std::memory_order_relaxed) == 0) return false;
    std::lock_guard lock(mutex_);
    return is_keeper(n);
  }

  void note(const Node* n, std::uint32_t s) {
    std::lock_guard lock(mutex_);
    if (s < places_.size() && places_[s].node == n) note(s);
  }

  void erase(Node* n) {
    std::lock_guard lock(mutex_);
    const std::uint32_t s = n->history.load(std::memory_order_relaxed);
    if (s) forget(s);
  }

  // `quick`: only what costs little; the rest waits for a call that is not.
  void let_go(bool quick) {
    for (bool first = true;; first = false) {
      Dropped dropped;  // destroyed after the lock is gone
      std::lock_guard lock(mutex_);
      if (first && !quick) {
        events_.insert(events_.end(), later_.begin(), later_.end());
        later_.clear();
        retry();
      }
      if (!events_.empty()) settle(quick, dropped);
      if (!events_.empty() || dropped.any()) continue;  // what is dropped may be the end of more
      history_pending.store(false, std::memory_order_relaxed);
      return;
    }
  }

 private:
  // A node of the history: a value that has a past (keeper), a node at the edge of a past, or both.
  struct Place {
    Node* node = nullptr;
    std::uint64_t age = 0;    // keepers: in the order in which they were realized
    std::uint32_t users = 0;  // first link from a keeper that has this node at its edge
    std::uint32_t edge = 0;   // first link to the edge of the keeper
    std::size_t walked = 0;   // nodes of the past
    bool constant = false;    // a realized constant of the program text
    bool keeper = false;
    bool kept = false;    // a handle holds something below
    bool stale = false;   // the edge must be looked for again
    bool sealed = false;  // buffers below are gone for good: the value cannot be computed again
    bool named = false;   // when its users last looked
    bool queued = false, waiting = false;
    unsigned tries = 0;
    std::uint64_t next_try = 0;
  };
  struct Link {
    std::uint32_t keeper = 0, edge = 0;
    std::uint32_t next_edge = 0;                     // of the keeper
    std::uint32_t previous_user = 0, next_user = 0;  // of the node at the edge
  };
  using Queued = std::pair<std::uint64_t, std::uint32_t>;  // age, place: what is below comes first

  void note(std::uint32_t s) {
    events_.push_back(s);
    history_pending.store(true, std::memory_order_relaxed);
  }

  std::uint32_t place_of(Node* n) {
    std::uint32_t s = n->history.load(std::memory_order_relaxed);
    if (s) return s;
    if (free_places_.empty()) {
      s = static_cast<std::uint32_t>(places_.size());
      places_.emplace_back();
    } else {
      s = free_places_.back();
      free_places_.pop_back();
    }
    places_[s] = {};
    places_[s].node = n;
    n->history.store(s, std::memory_order_relaxed);
    return s;
  }

  void free_if_unused(std::uint32_t s) {
    Place& p = places_[s];
    if (p.keeper || p.constant || p.users) return;
    p.node->history.store(0, std::memory_order_release);
    p.node = nullptr;
    free_places_.push_back(s);
  }

  void forget(std::uint32_t s) {
    unlink(s);
    places_[s].keeper = places_[s].constant = false;
    free_if_unused(s);
  }

  void link(std::uint32_t keeper, Node* n) {
    std::uint32_t l = 0;
    if (free_links_.empty()) {
      l = static_cast<std::uint32_t>(links_.size());
      links_.emplace_back();
    } else {
      l = free_links_.back();
      free_links_.pop_back();
    }
    const std::uint32_t edge = place_of(n);
    links_[l] = {keeper, edge, places_[keeper].edge, 0, places_[edge].users};
    if (links_[l].next_user) links_[links_[l].next_user].previous_user = l;
    places_[keeper].edge = places_[edge].users = l;
  }

  void unlink(std::uint32_t keeper) {
    for (std::uint32_t l = std::exchange(places_[keeper].edge, 0); l;) {
      const Link link = links_[l];
      if (link.next_user) links_[link.next_user].previous_user = link.previous_user;
      if (link.previous_user)
        links_[link.previous_user].next_user = link.next_user;
      else
        places_[link.edge].users = link.next_user;
      free_if_unused(link.edge);
      free_links_.push_back(l);
      l = link.next_edge;
    }
  }

  bool is_keeper(const Node* n) const {
    const std::uint32_t s = n->history.load(std::memory_order_relaxed);
    return s && places_[s].keeper;
  }
  // A gradient may be asked for by n: held, and not a constant of the program text.
  static bool is_named(const Node* n) {
    return n->refs.handles() > 0 && (n->flags & (Node::kHasBuffer | Node::kHasSym));
  }
  static bool is_constant(const Node* n) {
    return !(n->flags & (Node::kHasBuffer | Node::kHasSym | Node::kHasParam));
  }
  bool is_edge(const Node* n) const { return storage(n) || is_keeper(n) || is_named(n); }

  void find_edge(std::uint32_t s) {
    unlink(s);
    places_[s].stale = false;
    std::vector<Node*>& stack = stack_;
    std::vector<Node*>& few = seen_;  // a map is worth it for larger pasts
    few.clear();
    stack.assign(places_[s].node->src().begin(), places_[s].node->src().end());
    std::unique_ptr<NodeMap<char>> many;
    std::size_t walked = 0;
    while (!stack.empty()) {
      Node* n = stack.back();
      stack.pop_back();
      if (many) {
        if (!many->insert(n, 1)) continue;
      } else {
        if (std::find(few.begin(), few.end(), n) != few.end()) continue;
        few.push_back(n);
        if (few.size() > 24) {
          many = std::make_unique<NodeMap<char>>();
          for (Node* x : few) many->insert(x, 1);
        }
      }
      ++walked;
      if (is_edge(n))
        link(s, n);
      else if (n->op != Op::LAMBDA)
        stack.insert(stack.end(), n->src().begin(), n->src().end());
    }
    places_[s].walked = walked;
  }

  // Whether a handle holds something below the keeper, whose edge is known.
  bool find_kept(std::uint32_t s) {
    for (std::uint32_t l = places_[s].edge; l; l = links_[l].next_edge) {
      Place& e = places_[links_[l].edge];
      if (is_named(e.node)) return e.named = true;
      if (e.keeper && e.kept) return true;
    }
    return false;
  }

  void queue(std::uint32_t s) {
    if (std::exchange(places_[s].queued, true)) return;
    queue_.push({places_[s].age, s});
  }
  void queue_users(std::uint32_t s, bool stale) {
    for (std::uint32_t l = places_[s].users; l; l = links_[l].next_user) {
      places_[links_[l].keeper].stale |= stale;
      queue(links_[l].keeper);
    }
  }

  void settle(bool quick, Dropped& dropped) {
    settled_.swap(events_);
    events_.clear();
    std::vector<std::uint32_t> unused;
    for (std::uint32_t s : settled_) {
      Node* n = places_[s].node;
      if (!n) continue;
      if (is_constant(n) && n->refs.handles() == 0) drop_constant(s, dropped);
      if (!places_[s].node) continue;
      if (places_[s].keeper) queue(s);
      // As long as it is held, nothing that it is in the past of may let go: a parameter of a long loop has many users. Nor is
      // anything new where nobody has seen it held, as with an expression that each pass writes anew: its buffer may go.
      const bool named = is_named(n), was = std::exchange(places_[s].named, named);
      if (named != was || !is_edge(n))
        queue_users(s, !is_edge(n));
      else if (!named)
        unused.push_back(s);
    }
    while (!queue_.empty()) {
      const std::uint32_t s = queue_.top().second;
      queue_.pop();
      if (!std::exchange(places_[s].queued, false) || !places_[s].keeper) continue;
      look_at(s, quick, unused, dropped);
    }
    std::sort(unused.begin(), unused.end());
    unused.erase(std::unique(unused.begin(), unused.end()), unused.end());
    drop_buffers(unused, quick, dropped);
  }

  // Plans and bodies of loops hold constants of the program text for long: their buffers do not wait for that.
  void drop_constant(std::uint32_t s, Dropped& dropped) {
    if (!places_[s].keeper && !places_[s].constant) return;
    StorageRef value = take_unheld_storage(places_[s].node);
    if (!value) return;
    dropped.storages.push_back(std::move(value));
    queue_users(s, true);
    forget(s);
  }

  // A keeper something happened below of.
  void look_at(std::uint32_t s, bool quick, std::vector<std::uint32_t>& unused, Dropped& dropped) {
    if (places_[s].stale) {
      if (quick && places_[s].walked > kQuick) return later_.push_back(s);
      find_edge(s);
    }
    const bool kept = find_kept(s);
    if (std::exchange(places_[s].kept, kept) != kept) queue_users(s, false);
    if (!kept && storage(places_[s].node)) {
      if (forget_past(s, dropped)) return;
      places_[s].next_try = round_ + (std::uint64_t{1} << std::min(places_[s].tries++, kMaxPause));
      if (!std::exchange(places_[s].waiting, true)) waiting_.push_back(s);
    }
    for (std::uint32_t l = places_[s].edge; l; l = links_[l].next_edge) {
      const std::uint32_t e = links_[l].edge;
      if (places_[e].node->refs.handles() == 0 && storage(places_[e].node)) unused.push_back(e);
    }
  }

  void retry() {
    ++round_;
    for (std::size_t i = std::min(kRetries, waiting_.size()); i > 0; --i) {
      const std::uint32_t s = waiting_.front();
      waiting_.pop_front();
      if (!places_[s].waiting) continue;
      if (places_[s].next_try > round_) {
        waiting_.push_back(s);
        continue;
      }
      places_[s].waiting = false;
      events_.push_back(s);
    }
  }

  bool forget_past(std::uint32_t s, Dropped& dropped) {
    Node* n = places_[s].node;
    if (!find_above(s) || !become_leaf(n, above_, dropped.nodes)) return false;
    forget(s);
    return true;
  }

  // Collects the nodes of pasts by which the keeper can be reached, with the references that come from such nodes.
  // False: they are too many, or one of them is referred to by others, too.
  bool find_above(std::uint32_t s) {
    Node* n = places_[s].node;
    above_.assign(1, {n, 0});
    if (!places_[s].users) return n->refs.load() > 0;
    // Values that have n in their past, and those above them.
    std::vector<std::uint32_t> keepers{s};
    std::vector<Node*> starts;
    NodeMap<char> known;
    known.insert(n, 1);
    std::size_t walk = 0;
    for (std::size_t i = 0; i < keepers.size(); ++i)
      for (std::uint32_t l = places_[keepers[i]].users; l; l = links_[l].next_user) {
        const std::uint32_t k = links_[l].keeper;
        if (!known.insert(places_[k].node, 1)) continue;
        keepers.push_back(k);
        starts.push_back(places_[k].node);
        walk += places_[k].walked + 1;
        if (places_[k].stale || walk > kMaxAbove) return false;
      }
    // A walk stops at n and below it; it goes through the other keepers.
    NodeMap<std::uint32_t> references;  // of the nodes that reach n
    references.insert(n, 0);
    const auto order = toposort(starts, [&](const Node* x) {
      return x == n || x->op == Op::LAMBDA || (is_edge(x) && !known.contains(x));
    });
    for (Node* x : order) {  // sources first
      if (x == n || x->op == Op::LAMBDA || (is_edge(x) && !known.contains(x))) continue;
      bool reaches = false;
      for (Node* y : x->src()) reaches |= references.contains(y);
      if (!reaches) continue;
      references.insert(x, 0);
      for (Node* y : x->src())
        if (std::uint32_t* r = references.find(y)) ++*r;
      above_.push_back({x, 0});
    }
    for (Accounted& a : above_) {
      a.references = references.at(a.node);
      if (a.node->refs.load() != a.node->refs.handles() + a.references) return false;
    }
    return n->refs.load() > 0;
  }

  // The value can be computed again, or need not be: all that was made of it is there.
  bool may_go(const Place& p) const {
    std::size_t count = 0;
    bool nobody_asks = true;
    for (std::uint32_t l = p.users; l; l = links_[l].next_user) {
      if (++count > kMaxUsers) return false;
      const Place& user = places_[links_[l].keeper];
      nobody_asks &= !user.kept && storage(user.node);
    }
    return (p.keeper && !p.sealed) || nobody_asks;
  }

  // Drops the buffers of those that nothing but the pasts of realized values refers to.
  void drop_buffers(std::span<const std::uint32_t> unused, bool quick, Dropped& dropped) {
    std::vector<std::uint32_t> candidates;
    std::vector<Node*> starts;
    NodeMap<std::uint32_t> uses;  // from such pasts, of the nodes in them
    std::vector<std::uint32_t> users;
    std::size_t walk = 0;
    for (std::uint32_t e : unused) {
      const Place& p = places_[e];
      if (!p.node) continue;
      if (!may_go(p)) continue;
      candidates.push_back(e);
      for (std::uint32_t l = p.users; l; l = links_[l].next_user) users.push_back(links_[l].keeper);
    }
    if (candidates.empty()) return;
    std::sort(users.begin(), users.end());
    users.erase(std::unique(users.begin(), users.end()), users.end());
    for (std::uint32_t s : users) walk += places_[s].walked;
    if (quick && walk > kQuick) {
      later_.insert(later_.end(), candidates.begin(), candidates.end());
      return;
    }
    for (std::uint32_t s : users)
      for (Node* n : places_[s].node->src()) {
        starts.push_back(n);
        ++uses[n];
      }
    const auto order = toposort(starts, [&](const Node* n) { return is_edge(n); });
    for (std::size_t i = order.size(); i-- > 0;) {  // users before what they use
      const Node* n = order[i];
      if (n->op == Op::LAMBDA || is_edge(n) || n->refs.load() != uses[n]) continue;
      for (Node* s : n->src()) ++uses[s];
    }
    // What is below first: then what is above may go as one that nobody asks for. The other way round it could not be computed
    // again from what is below, so each is asked anew.
    const auto height = [&](std::uint32_t e) { return places_[e].keeper ? places_[e].age : 0; };
    std::stable_sort(candidates.begin(), candidates.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return height(a) < height(b); });
    for (std::uint32_t e : candidates) {
      Place& p = places_[e];
      if (!may_go(p)) continue;
      const std::uint32_t* n = uses.find(p.node);
      if (!n || p.node->refs.load() != *n) continue;
      StorageRef value = take_storage(p.node, *n);
      if (!value) continue;
      dropped.storages.push_back(std::move(value));
      if (p.keeper && !p.sealed) continue;
      for (std::uint32_t l = p.users; l; l = links_[l].next_user) places_[links_[l].keeper].sealed = true;
    }
  }

  std::mutex mutex_;
  std::vector<Place> places_{1};
  std::vector<Link> links_{1};
  std::vector<std::uint32_t> free_places_, free_links_;
  std::vector<std::uint32_t> events_;  // places where something was given up
  std::vector<std::uint32_t> settled_;
  std::vector<std::uint32_t> later_;   // the same, too dear for a quick look
  std::deque<std::uint32_t> waiting_;  // could let go but for somebody who uses them
  std::priority_queue<Queued, std::vector<Queued>, std::greater<>> queue_;
  std::uint64_t clock_ = 0, round_ = 0;
  std::vector<Node*> stack_, seen_;
  std::vector<Accounted> above_;
};

// Lives until the process ends: static objects may hold tensors.
History& history() {
  static auto* h = new History;
  return *h;
}

}  // namespace

ComputeLock::ComputeLock() {
  compute_mutex.lock();
  owns_ = computing = true;
}
ComputeLock::ComputeLock(std::try_to_lock_t) {
  if (computing || !compute_mutex.try_lock()) return;
  owns_ = computing = true;
}
ComputeLock::~ComputeLock() {
  if (!owns_) return;
  computing = false;
  compute_mutex.unlock();
}
bool ComputeLock::held_here() { return computing; }

void note_realized(Node* n) { history().note_realized(n); }
void note_realized(Node* n, std::span<const Accounted> above, std::vector<UOp>& sources) {
  history().note_realized(n, above, sources);
}
bool has_history(const Node* n) { return history().knows(n); }
void let_go() { history().let_go(false); }
void let_go_now() noexcept {
  const ComputeLock lock(std::try_to_lock);
  if (lock.owns()) history().let_go(true);
}
void history_note(const Node* n, std::uint32_t place) noexcept { history().note(n, place); }
void history_erase(Node* n) noexcept { history().erase(n); }

}  // namespace tinyphys
