// The one node type of every stage: immutable, hash-consed, reference counted.
//
// Equal (op, sources, args) is the same pointer. dtype and shape are derived (derive.cpp), never passed in.
// A node is one block: header, then sources, args and dims as trailing arrays.
// Threads may build and drop graphs at once; a node's contents never change after it is published.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/records.hpp"
#include "tinyphys/dtype.hpp"
#include "uop/ops.hpp"

namespace tinyphys {

using Dims = std::vector<std::int64_t>;

// The bytes of a realized value. A node points to at most one; every handle of the node sees it.
struct Storage {
  std::atomic<std::uint32_t> refs{1};
  std::size_t bytes = 0;
  void* data = nullptr;                  // host memory, 64-byte aligned
  std::shared_ptr<const Origin> origin;  // how it was made, for explain()

  explicit Storage(std::size_t n_bytes);  // throws tp::Error when memory is short
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
};

// Owning handle of a Storage.
class StorageRef {
 public:
  StorageRef() = default;
  static StorageRef allocate(std::size_t bytes) { return StorageRef(new Storage(bytes)); }
  static StorageRef share(Storage* s) {
    if (s) s->refs.fetch_add(1, std::memory_order_relaxed);
    return StorageRef(s);
  }
  StorageRef(const StorageRef& o) : s_(o.s_) {
    if (s_) s_->refs.fetch_add(1, std::memory_order_relaxed);
  }
  StorageRef(StorageRef&& o) noexcept : s_(std::exchange(o.s_, nullptr)) {}
  StorageRef& operator=(StorageRef o) noexcept {
    std::swap(s_, o.s_);
    return *this;
  }
  ~StorageRef() {
    if (s_ && s_->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete s_;
  }
  explicit operator bool() const { return s_ != nullptr; }
  Storage* get() const { return s_; }
  Storage* operator->() const { return s_; }
  Storage* detach() { return std::exchange(s_, nullptr); }
  template <class T> T* as() const { return static_cast<T*>(s_->data); }

 private:
  explicit StorageRef(Storage* s) : s_(s) {}
  Storage* s_ = nullptr;
};

struct Node {
  std::atomic<std::uint32_t> refs;
  Op op;
  DType dtype;
  std::uint8_t flags;
  std::uint8_t size_class;
  std::uint32_t n_src;
  std::uint32_t n_arg;
  std::uint32_t n_dim;
  std::atomic<std::uint32_t> location;  // id of the first call site, 0 = none
  std::uint64_t hash;
  std::atomic<Storage*> storage;

  // A symbol of an open trace is below.
  static constexpr std::uint8_t kHasSym = 1;
  // Data (a BUFFER) is below: the value is not a constant of the program text.
  static constexpr std::uint8_t kHasBuffer = 2;
  static constexpr std::uint8_t kHasParam = 4;

  std::span<Node* const> src() const { return {reinterpret_cast<Node* const*>(this + 1), n_src}; }
  std::span<const std::int64_t> arg() const {
    return {reinterpret_cast<const std::int64_t*>(this + 1) + n_src, n_arg};
  }
  std::span<const std::int64_t> shape() const {
    return {reinterpret_cast<const std::int64_t*>(this + 1) + n_src + n_arg, n_dim};
  }
  Node* src(std::size_t i) const { return src()[i]; }
  std::int64_t arg(std::size_t i) const { return arg()[i]; }
  // Elements of the value; 1 for a scalar.
  std::int64_t size() const {
    std::int64_t n = 1;
    for (std::int64_t d : shape()) n *= d;
    return n;
  }
};
static_assert(sizeof(Node) == 40);

void destroy_node(Node* n);  // refs just fell to 0

// Owning handle: one pointer.
class UOp {
 public:
  UOp() = default;
  UOp(const UOp& o) : n_(o.n_) { retain(n_); }
  UOp(UOp&& o) noexcept : n_(std::exchange(o.n_, nullptr)) {}
  UOp& operator=(UOp o) noexcept {
    std::swap(n_, o.n_);
    return *this;
  }
  ~UOp() {
    if (n_ && n_->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy_node(n_);
  }
  // Another reference to a node that somebody holds.
  static UOp share(Node* n) {
    retain(n);
    return UOp(n);
  }
  static UOp adopt(Node* n) { return UOp(n); }
  Node* detach() { return std::exchange(n_, nullptr); }

  Node* get() const { return n_; }
  Node* operator->() const { return n_; }
  explicit operator bool() const { return n_ != nullptr; }
  friend bool operator==(const UOp& a, const UOp& b) { return a.n_ == b.n_; }
  UOp src(std::size_t i) const { return share(n_->src(i)); }

 private:
  explicit UOp(Node* n) : n_(n) {}
  static void retain(Node* n) {
    if (n) n->refs.fetch_add(1, std::memory_order_relaxed);
  }
  Node* n_ = nullptr;
};

// --- making nodes ------------------------------------------------------------------------------------

// The interned node. dtype and shape are derived; a malformed node throws tp::Error("uop", ...): the front end
// checks user input before, with better words.
UOp make(Op op, std::span<Node* const> src, std::span<const std::int64_t> arg = {});
UOp make(Op op, std::span<const UOp> src, std::span<const std::int64_t> arg = {});
UOp make(Op op, std::initializer_list<UOp> src, std::span<const std::int64_t> arg);
UOp make(Op op, std::initializer_list<UOp> src, std::initializer_list<std::int64_t> arg = {});
// The same node over other sources.
UOp with_sources(const Node* n, std::span<Node* const> src);

UOp constant(double v, DType d = DType::kFloat64);  // converted to d
UOp constant_int(std::int64_t v, DType d = DType::kInt64);
UOp constant_bool(bool v);
// A fresh leaf with its own id. The storage holds size * item_size bytes in row-major order.
UOp buffer(DType d, std::span<const std::int64_t> shape, StorageRef data);
UOp symbol(DType d, std::span<const std::int64_t> shape);
UOp param(std::int64_t index, DType d, std::span<const std::int64_t> shape, bool scalar_slot = false);
UOp get(const UOp& whole, std::int64_t i);

// Value of a CONST.
double const_double(const Node* n);
std::int64_t const_int(const Node* n);
inline bool is_const(const Node* n) { return n->op == Op::CONST; }
bool is_const(const Node* n, double v);  // a CONST of any dtype with this value (0 matches +0 only)
inline std::int64_t bits(double v) { return std::bit_cast<std::int64_t>(v); }
inline double from_bits(std::int64_t v) { return std::bit_cast<double>(v); }

inline bool same_shape(const Node* a, const Node* b) {
  return std::equal(a->shape().begin(), a->shape().end(), b->shape().begin(), b->shape().end());
}
Dims shape_of(const Node* n);
std::string shape_text(std::span<const std::int64_t> shape);  // "[3,4]"

// --- realized values ---------------------------------------------------------------------------------

// The first value set wins; later ones are dropped (they are equal).
void set_storage(Node* n, StorageRef s);
inline Storage* storage(const Node* n) { return n->storage.load(std::memory_order_acquire); }

// --- locations ---------------------------------------------------------------------------------------

// Where the nodes made in this scope (on this thread) come from. Nested scopes: the outermost wins, so that
// an op built from others carries the user's line.
class LocationScope {
 public:
  explicit LocationScope(const std::source_location& where);
  explicit LocationScope(std::uint32_t id);  // overrides: used by rewrites
  ~LocationScope();
  LocationScope(const LocationScope&) = delete;
  LocationScope& operator=(const LocationScope&) = delete;

 private:
  std::uint32_t before_;
};
struct Location {
  std::string file;  // base name
  unsigned line = 0;
};
std::vector<Location> locations(const Node* n);  // first call site first
std::string location_text(const Node* n);        // "main.cpp:41", "" when unknown

// What belongs to one use of a graph and enters no hash: it stays with the node that stands for the use (an EVOLVE)
// and goes with it.
struct Labels {
  // The body of this use is shared with others: a node of it whose first call site is `shared` was written at `own`.
  struct Place {
    Op op;
    std::uint32_t shared, own;  // location ids
  };
  std::vector<Place> places;
  std::vector<std::string> names;  // of the terms of an energy
};
void set_labels(Node* n, Labels labels);
Labels labels_of(const Node* n);
std::uint32_t first_location(const Node* n);  // id, 0 when unknown
// The text with every " at FILE:LINE" that names another use's line made this use's own; `op`: of the node meant.
std::string with_own_places(std::string text, const Labels& labels, Op op);

// Nodes alive now, in the whole process (tests, leak checks).
std::int64_t live_nodes();

}  // namespace tinyphys
