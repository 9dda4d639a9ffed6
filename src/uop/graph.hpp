// Walks over graphs: no recursion, each node once.
#pragma once

#include <array>
#include <functional>
#include <span>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// Open-addressing map keyed by node address; faster than std::unordered_map where every pass needs one. A few nodes lie in
// the map itself.
template <class V> class NodeMap {
 public:
  NodeMap() = default;
  explicit NodeMap(std::size_t expected) {
    if (expected * 2 > kInline) reserve(expected);
  }
  V* find(const Node* k) {
    const Node* const* keys = this->keys();
    for (std::size_t i = slot(k);; i = (i + 1) & mask_) {
      if (keys[i] == k) return &values()[i];
      if (!keys[i]) return nullptr;
    }
  }
  const V* find(const Node* k) const { return const_cast<NodeMap*>(this)->find(k); }
  bool contains(const Node* k) const { return find(k) != nullptr; }
  // True when k was not there.
  bool insert(const Node* k, V v) {
    if (count_ * 2 > mask_) reserve(mask_ + 1);
    const Node** keys = this->keys();
    for (std::size_t i = slot(k);; i = (i + 1) & mask_) {
      if (keys[i] == k) return false;
      if (!keys[i]) {
        keys[i] = k;
        values()[i] = std::move(v);
        ++count_;
        return true;
      }
    }
  }
  V& operator[](const Node* k) {
    if (V* v = find(k)) return *v;
    insert(k, V{});
    return *find(k);
  }
  const V& at(const Node* k) const { return *find(k); }
  std::size_t size() const { return count_; }

 private:
  static constexpr std::size_t kInline = 16;

  const Node** keys() { return mask_ < kInline ? few_keys_.data() : many_keys_.data(); }
  V* values() { return mask_ < kInline ? few_values_.data() : many_values_.data(); }
  std::size_t slot(const Node* k) const {
    return (reinterpret_cast<std::uintptr_t>(k) * 0x9E3779B97F4A7C15ull >> 20) & mask_;
  }
  // Room for n nodes, more than there is.
  void reserve(std::size_t n) {
    std::size_t room = 2 * kInline;
    while (room < n * 2) room *= 2;
    std::vector<const Node*> keys(room, nullptr);
    std::vector<V> values(room);
    const std::size_t before = mask_ + 1;
    const Node** old_keys = this->keys();
    V* old_values = this->values();
    mask_ = room - 1;
    for (std::size_t i = 0; i < before; ++i) {
      if (!old_keys[i]) continue;
      std::size_t to = slot(old_keys[i]);
      while (keys[to]) to = (to + 1) & mask_;
      keys[to] = old_keys[i];
      values[to] = std::move(old_values[i]);
    }
    many_keys_.swap(keys);
    many_values_.swap(values);
  }
  std::size_t mask_ = kInline - 1, count_ = 0;
  std::array<const Node*, kInline> few_keys_{};
  std::array<V, kInline> few_values_{};
  std::vector<const Node*> many_keys_;
  std::vector<V> many_values_;
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
