// Walks over graphs: no recursion, each node once.
#pragma once

#include <array>
#include <functional>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// Map keyed by node address; faster than std::unordered_map where every pass needs one. A few nodes lie in the map itself,
// some more in one table by hash. Many are kept by pages of the nodes' own memory: nodes made one after the other lie side
// by side here as there, so that a walk along a long chain finds its entries in the cache, where an entry by hash alone
// would miss it each time.
template <class V> class NodeMap {
 public:
  V* find(const Node* k) {
    if (table_.empty()) {
      Slot& s = slot_of(k);
      return s.key ? &s.value : nullptr;
    }
    const Entry& e = table_[entry_of(page_number(k))];
    if (!e.page) return nullptr;
    Page& page = pages_[e.index];
    return page.used >> place(k) & 1 ? &page.values[place(k)] : nullptr;
  }
  const V* find(const Node* k) const { return const_cast<NodeMap*>(this)->find(k); }
  bool contains(const Node* k) const { return find(k) != nullptr; }
  // True when k was not there.
  bool insert(const Node* k, V v) {
    if (table_.empty()) {
      if (Slot& s = slot_of(k); s.key) {
        return false;
      } else if (2 * count_ < n_slots()) {
        s.key = k;
        s.value = std::move(v);
        ++count_;
        return true;
      }
      grow();
      return insert(k, std::move(v));
    }
    if (!insert_in_page(k, std::move(v))) return false;
    ++count_;
    return true;
  }
  V& operator[](const Node* k) {
    if (V* v = find(k)) return *v;
    insert(k, V{});
    return *find(k);
  }
  const V& at(const Node* k) const { return *find(k); }
  std::size_t size() const { return count_; }

 private:
  static constexpr std::size_t kFew = 16, kSome = 256, kPageNodes = 32;
  struct Slot {
    const Node* key = nullptr;
    V value{};
  };
  struct Page {
    std::uint32_t used = 0;  // a bit a node
    std::array<V, kPageNodes> values{};
  };
  struct Entry {
    std::uintptr_t page = 0;  // its number; 0: none
    std::uint32_t index = 0;  // in pages_
  };

  static std::size_t hash(std::uintptr_t x) { return x * 0x9E3779B97F4A7C15ull >> 32; }
  std::size_t n_slots() const { return some_.empty() ? kFew : some_.size(); }
  // Where the node is, or would go.
  Slot& slot_of(const Node* k) {
    Slot* slots = some_.empty() ? few_.data() : some_.data();
    const std::size_t mask = n_slots() - 1;
    std::size_t i = hash(reinterpret_cast<std::uintptr_t>(k) >> 4) & mask;
    while (slots[i].key && slots[i].key != k) i = (i + 1) & mask;
    return slots[i];
  }
  void grow() {
    std::vector<Slot> old = std::exchange(some_, {});
    if (old.empty()) old.assign(std::make_move_iterator(few_.begin()), std::make_move_iterator(few_.end()));
    const bool to_pages = old.size() >= kSome;
    if (to_pages)
      table_.resize(kSome);
    else
      some_.resize(4 * old.size());
    for (Slot& s : old)
      if (!s.key)
        continue;
      else if (to_pages)
        insert_in_page(s.key, std::move(s.value));
      else
        slot_of(s.key) = std::move(s);
  }
  // No two nodes begin in the same Node::kMinBytes.
  static std::size_t place(const Node* k) {
    return reinterpret_cast<std::uintptr_t>(k) / Node::kMinBytes % kPageNodes;
  }
  static std::uintptr_t page_number(const Node* k) {
    return reinterpret_cast<std::uintptr_t>(k) / (Node::kMinBytes * kPageNodes);
  }
  // Where the page is, or would go.
  std::size_t entry_of(std::uintptr_t page) const {
    const std::size_t mask = table_.size() - 1;
    std::size_t i = hash(page) & mask;
    while (table_[i].page && table_[i].page != page) i = (i + 1) & mask;
    return i;
  }
  bool insert_in_page(const Node* k, V v) {
    const std::uintptr_t number = page_number(k);
    std::size_t i = entry_of(number);
    if (!table_[i].page) {
      if (2 * (pages_.size() + 1) > table_.size()) {
        std::vector<Entry> old(2 * table_.size());
        old.swap(table_);
        for (const Entry& e : old)
          if (e.page) table_[entry_of(e.page)] = e;
        i = entry_of(number);
      }
      table_[i] = {number, static_cast<std::uint32_t>(pages_.size())};
      pages_.emplace_back();
    }
    Page& page = pages_[table_[i].index];
    const std::uint32_t bit = std::uint32_t{1} << place(k);
    if (page.used & bit) return false;
    page.used |= bit;
    page.values[place(k)] = std::move(v);
    return true;
  }

  std::size_t count_ = 0;
  std::array<Slot, kFew> few_{};
  std::vector<Slot> some_;    // a power of two, in place of the few
  std::vector<Entry> table_;  // a power of two, in place of both
  std::vector<Page> pages_;
};

// Nodes below the roots, sources before users, each once. Bodies of LAMBDAs are closed graphs of their own: the
// walk reaches a LAMBDA used by a SCAN but goes into it only when it is a root itself.
// `stop(n)`: n is listed, its sources are not walked (unless reached otherwise).
std::vector<Node*> toposort(std::span<Node* const> roots, const std::function<bool(const Node*)>& stop = {});
std::vector<Node*> toposort(const UOp& root, const std::function<bool(const Node*)>& stop = {});

// Nodes looked at by walks on this thread since it began: what a test counts in place of time. A walk that looks at nodes
// without toposort() reports them itself.
std::int64_t nodes_visited();
void count_visited(std::size_t nodes);

// The one walk that builds a graph anew from its sources up, each node once. Bodies are not entered, but for a LAMBDA
// that is a root. Nodes whose sources did not change stay the same node. Every part may be empty.
struct Rebuild {
  // On the way down: a node to put in the place of n; what lies below n is then not visited.
  std::function<UOp(Node* n)> replace = {};
  // On the way up, when the sources of n are done: a node to put in its place without building it (the GETs of a node
  // that became something else).
  std::function<UOp(Node* n)> ready = {};
  // n as it is now, over its new sources: a node to put in its place, or null to keep it.
  std::function<UOp(Node* n, const UOp& now)> after = {};
};
std::vector<UOp> rebuild(std::span<const UOp> roots, const Rebuild& how);
UOp rebuild(const UOp& root, const Rebuild& how);

// The roots with each node n for which `replace(n)` gives a node put in its place.
std::vector<UOp> substitute(std::span<const UOp> roots, const std::function<UOp(Node*)>& replace);
UOp substitute(const UOp& root, const std::function<UOp(Node*)>& replace);

// The outputs of a LAMBDA, and a LAMBDA of the same params with other outputs.
std::vector<UOp> outputs_of(const Node* lambda);
UOp with_outputs(const Node* lambda, std::span<const UOp> outputs);

// A LAMBDA of n_params PARAMs.
UOp lambda_of(std::span<const UOp> outputs, std::size_t n_params);

// Outputs of a LAMBDA with its PARAMs replaced by args (arg i for PARAM i).
std::vector<UOp> apply(const Node* lambda, std::span<const UOp> args);

// A LAMBDA with these outputs, in which params[i] (any nodes, usually SYMs) become PARAM i. Everything else that
// holds data or open symbols, and every plain number that is not 0, +-1, +-2, 0.5, is captured: largest subgraphs
// that do not depend on the params, in order of first use, appended to `captured` and numbered on from
// params.size(). Equal bodies give equal lambdas, and a nested trace cannot capture another's params.
// `places`: gets the nodes of the body, and of bodies within it, that another use has written elsewhere before.
UOp close_lambda(std::span<const UOp> outputs, std::span<const UOp> params, std::vector<UOp>& captured,
                 std::vector<Labels::Place>* places = nullptr);

// A number that rules may look at; every other CONST is a kernel argument.
bool is_structural_const(const Node* n);

// One node a line, sources first: "%3 = MUL float64[3] %1 %2   chain.cpp:12". Bodies come first, indented.
// Addresses and ids of buffers do not appear: the text is the same from run to run.
std::string to_text(std::span<Node* const> roots);
std::string to_text(const UOp& root);
// A short infix form for messages: "0.5 * k * (q * q)". At most `max_chars`, then "...".
// names[i] is used for PARAM i where given.
std::string to_infix(const Node* n, std::size_t max_chars = 80, std::span<const std::string> names = {});

}  // namespace tinyphys
